/* live while a home moves to another owner: what is cut, freed and reported meanwhile finds its session (S-S5, S-S6, S-D7). */
#include "live_rig.h"
#include <pthread.h>

/* The rows of its system stand under another account from now on. */
static struct pl_uuid move(struct session *x, struct db_tx *tx)
{
    struct pl_uuid from = x->account;
    x->account = new_id();
    assert_int_equal(live_move_home(tx, from, x->system, x->account), PL_OK);
    return x->account;
}

/* S-D7: the fact names the home that the device had; the session is found wherever it is by now. */
static void a_freed_device_is_cut_though_its_home_moved_S_D7(void **state)
{
    (void)state;
    for (int by_serial = 0; by_serial < 2; by_serial++) {
        struct session x = session(enroll("freed and moved", 19), 0), other = session(x.relay, 0);
        struct live_ending *endings = NULL;
        struct db_tx *tx = begin();
        move(&x, tx);
        assert_int_equal(live_sql_place_drop(tx, other.live, NULL), PL_OK); /* another hub's */
        assert_int_equal(live_device_freed(tx, at(1), by_serial ? new_id() : x.device, by_serial ? PL_STR("HUB00000001") : PL_STR_NONE, &endings), PL_OK);
        assert_int_equal(count(endings), 1);
        assert_true(pl_uuid_eq(endings->live_id, x.live));
        assert_int_equal(db_commit(&tx), PL_OK);
        assert_string_equal(end_code_of(&x), "device_freed");
        assert_string_equal(end_code_of(&other), "");
    }
}

/* S-S5: between the mark, the question to the relay and its report the home moves; who is cut is gone, and those who may stay watch on. */
static void a_cut_viewer_is_gone_though_the_home_moved_S_S5(void **state)
{
    (void)state;
    struct session x = session(enroll("cut and moved", 20), 0);
    struct pl_uuid joined = new_id(), viewer = watches(&x, joined);
    struct relay_asked relay;
    revoke(&x, joined);
    struct db_tx *tx = begin();
    move(&x, tx);
    assert_int_equal(db_commit(&tx), PL_OK);
    relay_up(&relay, x.relay);
    assert_int_equal(live_cut(&ctx, db), PL_OK);
    relay_down(&relay);
    assert_int_equal(relay.asked, 1);
    gone(&x, viewer);
    pl_clock_fixed_advance(&clk, 9 * PL_SECOND);
    assert_int_equal(live_cut(&ctx, db), PL_OK);
    assert_string_equal(end_code_of(&x), "");
}

/* Done on another connection while the home is on its way: it has to wait for that. */
struct meanwhile {
    enum pl_err (*what)(struct db_tx *tx, const struct session *x, bool *ret_done);
    const struct session *x;
    struct db *db;
    struct pl_arena *arena;
    bool done;
};
static void *do_meanwhile(void *arg)
{
    struct meanwhile *m = arg;
    struct db_tx *tx = NULL;
    enum pl_err e = db_begin(m->db, m->arena, &tx);
    if (e == PL_OK)
        e = m->what(tx, m->x, &m->done);
    m->done = e == PL_OK && db_commit(&tx) == PL_OK && m->done;
    db_rollbackp(&tx);
    return NULL;
}
static bool while_the_home_moves(struct session *x, enum pl_err (*what)(struct db_tx *tx, const struct session *x, bool *ret_done))
{
    const struct session before = *x;
    struct meanwhile m = { .what = what, .x = &before, .arena = pl_arena_new(1 << 20) };
    struct db_conf conf = { .conninfo = pg_schema_conninfo(schema), .clock = &pl_clock_system };
    pthread_t t;
    assert_non_null(m.arena);
    assert_int_equal(db_open(&conf, &m.db), PL_OK);
    struct db_tx *tx = begin();
    move(x, tx);
    assert_int_equal(pthread_create(&t, NULL, do_meanwhile, &m), 0);
    assert_int_equal(pg_do_tx(tx, "DO $$ BEGIN FOR i IN 1..10000 LOOP PERFORM pg_stat_clear_snapshot(); IF EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                                  "AND query LIKE '%live%') THEN RETURN; END IF; PERFORM pg_sleep(0.001); END LOOP; RAISE EXCEPTION 'nobody waits'; END $$"), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    assert_int_equal(pthread_join(t, NULL), 0);
    pl_arena_free(m.arena);
    db_close(m.db);
    return m.done;
}

static struct pl_uuid joiner;
static enum pl_err revoke_joiner(struct db_tx *tx, const struct session *x, bool *ret_done)
{
    int64_t marked = 0;
    enum pl_err e = live_sql_mark_client(tx, x->account, joiner, at(1), &marked);
    *ret_done = marked == 1;
    return e;
}

/* S-S5: a revocation that meets a home on its way waits for it, and finds what it cuts. */
static void a_viewer_is_cut_while_the_home_moves_S_S5(void **state)
{
    (void)state;
    struct session x = session(enroll("cut while moving", 21), 0);
    joiner = new_id();
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_viewer_add(tx, x.account, x.live, new_id(), x.account, joiner, PL_STR("viewer"), NULL), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    assert_true(while_the_home_moves(&x, revoke_joiner));
}

static enum pl_err report_live(struct db_tx *tx, const struct session *x, bool *ret_done)
{
    struct live_sql_state_row moved;
    return live_sql_state(tx, x->live, PL_STR("live"), PL_STR("waking_hub connecting"), &moved, ret_done);
}
static enum pl_err report_stage(struct db_tx *tx, const struct session *x, bool *ret_done)
{
    *ret_done = true;
    return live_sql_stage(tx, x->live, PL_STR("waking_hub"), at(1), NULL);
}
static enum pl_err report_end(struct db_tx *tx, const struct session *x, bool *ret_done)
{
    struct live_ending *endings = NULL;
    enum pl_err e = live_end(tx, at(1), x->live, "hub_lost", &endings);
    *ret_done = count(endings) == 1;
    return e;
}

/* What a relay reports is said once: it counts, whatever home the session has by then. */
static void a_report_counts_while_the_home_moves(void **state)
{
    (void)state;
    struct session x = session(enroll("report while moving", 23), 0);
    struct live_sql_get_row row;
    struct live_sql_stages_row *stages;
    size_t n;
    bool found;
    assert_true(while_the_home_moves(&x, report_stage));
    assert_true(while_the_home_moves(&x, report_live));
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_get(tx, x.account, x.live, &row, &found), PL_OK);
    assert_true(found && pl_str_eqz(row.state, "live"));
    assert_int_equal(live_sql_stages(tx, x.account, x.live, &stages, &n), PL_OK);
    assert_int_equal(n, 1);
    db_rollbackp(&tx);
    assert_true(while_the_home_moves(&x, report_end));
    assert_string_equal(end_code_of(&x), "hub_lost");
}

/* S-S6: who opened a session in somebody else's system is in no row of it once that account is gone; the session stays its home's. */
static void a_deleted_account_has_opened_nothing_S_S6(void **state)
{
    (void)state;
    struct session x = session(enroll("opened", 22), 0);
    struct pl_uuid opener = x.account, none = { { 0 } };
    struct live_ending *endings = NULL;
    struct live_sql_past_row *rows;
    size_t n;
    struct db_tx *tx = begin();
    move(&x, tx);
    assert_int_equal(live_sql_past(tx, x.account, none, &rows, &n), PL_OK);
    assert_int_equal(n, 0); /* its home, but not its doing */
    assert_int_equal(live_sql_past(tx, opener, none, &rows, &n), PL_OK);
    assert_true(n == 1 && pl_uuid_eq(rows[0].id, x.live) && pl_uuid_eq(rows[0].client_id, x.client));
    assert_int_equal(live_account_deleted(tx, at(1), opener, &endings), PL_OK);
    assert_null(endings);
    assert_int_equal(live_sql_past(tx, opener, none, &rows, &n), PL_OK);
    assert_int_equal(n, 0);
    assert_int_equal(db_commit(&tx), PL_OK);
    assert_string_equal(end_code_of(&x), "");
    char sql[200], id[PL_UUID_TEXT];
    pl_uuid_text(x.client, id);
    snprintf(sql, sizeof sql, "SELECT 1 / (1 - count(*)) FROM live WHERE client_id = '%s'", id);
    assert_int_equal(pg_do(db, sql), PL_OK);
}

int main(void)
{
    if (!live_open("t_live_moves"))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_freed_device_is_cut_though_its_home_moved_S_D7, each_test),
        cmocka_unit_test_setup(a_cut_viewer_is_gone_though_the_home_moved_S_S5, each_test),
        cmocka_unit_test_setup(a_viewer_is_cut_while_the_home_moves_S_S5, each_test),
        cmocka_unit_test_setup(a_report_counts_while_the_home_moves, each_test),
        cmocka_unit_test_setup(a_deleted_account_has_opened_nothing_S_S6, each_test),
    };
    return live_close(cmocka_run_group_tests(tests, NULL, NULL));
}
