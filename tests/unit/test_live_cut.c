/* live against a real PostgreSQL: whoever is revoked is cut from what it watches, however much it is, and whatever its relay does (S-S5). */
#include "live_rig.h"

static void cut(void) { assert_int_equal(live_cut(&ctx, db), PL_OK); }

/* A revoked client's sessions end; another client's go on. */
static void a_revoked_client_is_cut_S_S5(void **state)
{
    (void)state;
    struct session x = session(enroll("revoked", 10), 0);
    revoke(&x, new_id());
    cut();
    assert_string_equal(end_code_of(&x), "");
    revoke(&x, x.client);
    cut();
    assert_string_equal(end_code_of(&x), "revoked");
}

/* A client that joined has keys too, and is cut; the one that opened the session watches on. One that the relay does not let go ends the session for all. */
static void a_revoked_client_that_joined_is_cut_S_S5(void **state)
{
    (void)state;
    struct session x = session(enroll("joined", 14), 0), other = x;
    struct relay_asked relay;
    struct live_sql_room_row room;
    bool found;
    struct pl_uuid joined = new_id(), viewer = watches(&x, joined);
    relay_up(&relay, x.relay);
    other.account = new_id();
    revoke(&other, joined);
    cut();
    assert_int_equal(relay.asked, 0);
    for (int reported = 1; reported >= 0; reported--) {
        revoke(&x, joined);
        cut();
        assert_int_equal(relay.asked, 2 - reported);
        assert_string_equal(end_code_of(&x), "");
        if (reported) {
            gone(&x, viewer);
            viewer = watches(&x, joined);
        }
    }
    pl_clock_fixed_advance(&clk, 1200 * PL_MS);
    cut();
    assert_string_equal(end_code_of(&x), "");
    pl_clock_fixed_advance(&clk, 1);
    cut();
    assert_string_equal(end_code_of(&x), "revoked");
    relay_down(&relay);
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_room(tx, x.live, &room, &found), PL_OK);
    assert_false(found); /* nobody joins it any more */
    db_rollbackp(&tx);
}

/* Whoever marks may have another clock than who cuts, or have waited since for a lock: relays are given their time all the same, and no more than that. */
static void whose_clock_marked_does_not_matter_S_S5(void **state)
{
    (void)state;
    const int64_t apart[] = { -5, 5 };
    for (size_t i = 0; i < PL_COUNT(apart); i++) {
        struct session x = session(enroll(i ? "ahead" : "behind", (uint8_t)(36 + i)), 0), y = session(x.relay, 0);
        struct pl_uuid joined = new_id(), viewer = watches(&y, joined);
        struct relay_asked relay;
        watches(&x, joined);
        relay_up(&relay, x.relay);
        for (const struct session *of = &x; of; of = of == &x ? &y : NULL) {
            struct db_tx *tx = begin();
            assert_int_equal(live_client_revoked(tx, pl_utc_add(pl_now_utc(ctx.clock), apart[i] * PL_SECOND), of->account, joined), PL_OK);
            assert_int_equal(db_commit(&tx), PL_OK);
        }
        cut();
        assert_int_equal(relay.asked, 2);
        pl_clock_fixed_advance(&clk, 1200 * PL_MS);
        cut();
        assert_true(end_code_of(&x)[0] == 0 && end_code_of(&y)[0] == 0);
        gone(&y, viewer);
        pl_clock_fixed_advance(&clk, 1);
        cut();
        assert_string_equal(end_code_of(&x), "revoked");
        assert_string_equal(end_code_of(&y), "");
        relay_down(&relay);
    }
}

/* The node that told the relay dies: another one counts from its own first look. */
static void another_node_takes_a_revocation_over_S_S5(void **state)
{
    (void)state;
    struct session x = session(enroll("taken over", 38), 0);
    struct pl_uuid joined = new_id();
    struct relay_asked relay;
    watches(&x, joined);
    relay_up(&relay, x.relay);
    revoke(&x, joined);
    cut();
    live_cuts_free(ctx.cuts);
    assert_int_equal(live_cuts_new(&ctx.cuts), PL_OK);
    pl_clock_fixed_advance(&clk, 9 * PL_SECOND);
    cut();
    assert_int_equal(relay.asked, 2);
    assert_string_equal(end_code_of(&x), "");
    pl_clock_fixed_advance(&clk, 1201 * PL_MS);
    cut();
    assert_string_equal(end_code_of(&x), "revoked");
    relay_down(&relay);
}

/* More marks than a node keeps times for: the session of a silent relay ends all the same, and none of them at once. */
static void more_marks_than_have_a_place_S_S5(void **state)
{
    enum { SESSIONS = 128, EACH = 48 };
    (void)state;
    struct session crowd[SESSIONS], last = session(enroll("crowd", 39), 0);
    struct relay_asked relay;
    struct pl_uuid client = new_id();
    char sql[400], live[PL_UUID_TEXT], account[PL_UUID_TEXT], who[PL_UUID_TEXT];
    pl_uuid_text(client, who);
    pl_uuid_text(last.account, account);
    for (size_t i = 0; i < SESSIONS; i++) {
        crowd[i] = session(last.relay, 0);
        pl_uuid_text(crowd[i].live, live);
        snprintf(sql, sizeof sql, "INSERT INTO live_viewer (account_id, live_id, client_id, viewer_id, member_id) "
                 "SELECT '%s', '%s', '%s', gen_random_uuid(), '%s' FROM generate_series(1, %d)", account, live, who, account, EACH);
        assert_int_equal(pg_do(db, sql), PL_OK);
    }
    pl_clock_fixed_advance(&clk, 10 * PL_SECOND); /* what was told before is forgotten */
    relay_up(&relay, last.relay);
    revoke(&last, client);
    cut();
    assert_int_equal(relay.asked, SESSIONS * EACH);
    watches(&last, client); /* no place is free for this one */
    revoke(&last, client);
    cut();
    assert_string_equal(end_code_of(&last), "");
    pl_clock_fixed_advance(&clk, 1201 * PL_MS);
    cut();
    relay_down(&relay);
    assert_string_equal(end_code_of(&last), "revoked");
    for (size_t i = 0; i < SESSIONS; i++)
        assert_string_equal(end_code_of(&crowd[i]), "revoked");
}

/* Nobody keeps a revocation from being done by how much there is to cut. */
static void a_revocation_takes_any_number_S_S5(void **state)
{
    enum { MANY = 700, SESSIONS = 70 };
    (void)state;
    struct session watched = session(enroll("many", 30), 0), alone[SESSIONS];
    struct relay_asked relay;
    struct pl_uuid client = new_id();
    char sql[400], live[PL_UUID_TEXT], account[PL_UUID_TEXT], who[PL_UUID_TEXT];
    pl_uuid_text(watched.live, live);
    pl_uuid_text(watched.account, account);
    pl_uuid_text(client, who);
    snprintf(sql, sizeof sql, "INSERT INTO live_viewer (account_id, live_id, client_id, viewer_id, member_id) "
             "SELECT '%s', '%s', '%s', gen_random_uuid(), '%s' FROM generate_series(1, %d)", account, live, who, account, MANY);
    assert_int_equal(pg_do(db, sql), PL_OK);
    for (size_t i = 0; i < SESSIONS; i++) {
        alone[i] = session(watched.relay, 0);
        pl_uuid_text(alone[i].live, live);
        snprintf(sql, sizeof sql, "UPDATE live_viewer SET client_id = '%s', member_id = '%s' WHERE live_id = '%s'", who, account, live);
        assert_int_equal(pg_do(db, sql), PL_OK);
    }
    relay_up(&relay, watched.relay);
    revoke(&watched, client);
    cut();
    relay_down(&relay);
    assert_int_equal(relay.asked, MANY + SESSIONS); /* viewer.remove, session.close */
    assert_string_equal(end_code_of(&watched), "");
    for (size_t i = 0; i < SESSIONS; i++)
        assert_string_equal(end_code_of(&alone[i]), "revoked");
    revoke(&watched, watched.client);
    cut();
    assert_string_equal(end_code_of(&watched), "revoked");
}

/* A relay that stands still (SIGSTOP) is not waited for: the clock stands, too, and the other relay hears at once what it is to cut. */
static void a_frozen_relay_holds_up_nobody_S_S5(void **state)
{
    (void)state;
    struct session x = session(enroll("frozen", 31), 0), y = session(enroll("well", 32), 0);
    struct relay_asked frozen, well;
    struct pl_uuid client = new_id(), other = new_id(), viewer;
    relay_up(&frozen, x.relay);
    relay_up(&well, y.relay);
    frozen.frozen = true;
    for (int i = 0; i < 8; i++)
        watches(&x, client);
    viewer = watches(&y, other);
    revoke(&x, client);
    revoke(&y, other);
    cut();
    assert_true(frozen.asked == 8 && well.asked == 1);
    gone(&y, viewer);
    pl_clock_fixed_advance(&clk, 1201 * PL_MS);
    cut();
    assert_string_equal(end_code_of(&x), "revoked");
    assert_string_equal(end_code_of(&y), "");
    relay_down(&frozen);
    relay_down(&well);
}

/* Two who watch a session are revoked by two transactions at once, each of which sees the other one watch. */
static void who_are_revoked_together_leave_nobody_S_S5(void **state)
{
    (void)state;
    struct session x = session(enroll("together", 33), 0);
    struct pl_uuid joined = new_id();
    struct db_conf conf = { .conninfo = pg_schema_conninfo(schema), .clock = &pl_clock_system };
    struct db *second = NULL;
    struct db_tx *one, *two = NULL;
    watches(&x, joined);
    assert_int_equal(db_open(&conf, &second), PL_OK);
    one = begin();
    assert_int_equal(db_begin(second, arena, &two), PL_OK);
    assert_int_equal(live_client_revoked(one, at(1), x.account, joined), PL_OK);
    assert_int_equal(live_client_revoked(two, at(1), x.account, x.client), PL_OK);
    assert_int_equal(db_commit(&one), PL_OK);
    assert_int_equal(db_commit(&two), PL_OK);
    db_close(second);
    cut();
    assert_string_equal(end_code_of(&x), "revoked");
}

/* A client that is signed in, as log-in leaves it. */
static void sign_in(struct pl_uuid account, struct pl_uuid client)
{
    char sql[300], a[PL_UUID_TEXT], c[PL_UUID_TEXT];
    pl_uuid_text(account, a);
    pl_uuid_text(client, c);
    snprintf(sql, sizeof sql, "INSERT INTO session VALUES ('%s', '%s', gen_random_uuid(), 1, now(), 'infinity', '2200-01-01')", a, c);
    assert_int_equal(pg_do(db, sql), PL_OK);
}

static enum pl_err join(const struct session *x, struct pl_uuid client, struct pl_mono held)
{
    struct live_joins j = { .live_id = x->live, .viewer_id = new_id(), .system_id = x->system, .right = SYSTEM_WATCH, .held = held };
    struct http_actor who = { .account_id = x->account, .client_id = client };
    struct db_tx *tx = begin();
    enum pl_err e = live_join(tx, &ctx, at(1), &who, &j, NULL);
    if (e == PL_OK)
        return db_commit(&tx);
    db_rollbackp(&tx);
    return e;
}

/* What may be written of a session has a bound; nobody joins by what it lost, nor what has ended, nor so late that the relay may have let it go. */
static void a_join_is_written_or_refused_S_S5(void **state)
{
    (void)state;
    struct session x = session(enroll("joins", 34), 0);
    struct pl_mono now = pl_now_mono(ctx.clock);
    assert_int_equal(join(&x, x.client, now), PL_UNAUTHENTICATED);
    sign_in(x.account, x.client);
    assert_int_equal(join(&x, x.client, pl_mono_add(now, -5 * PL_SECOND)), PL_OK);
    assert_int_equal(join(&x, x.client, pl_mono_add(now, -5 * PL_SECOND - 1)), PL_UNAVAILABLE);
    for (int i = 2; i < 64; i++) /* it and its opener are there */
        assert_int_equal(join(&x, x.client, now), PL_OK);
    assert_int_equal(join(&x, x.client, now), PL_VIEWERS_FULL);
    revoke(&x, x.client);
    cut();
    assert_string_equal(end_code_of(&x), "revoked");
    assert_int_equal(join(&x, x.client, now), PL_LIVE_ENDED);
}

/* S-S6: however many sessions an account that is deleted has running, all of them end. */
static void a_deleted_account_ends_all_its_sessions_S_S6(void **state)
{
    enum { MANY = 300 };
    (void)state;
    struct session x = session(enroll("all of it", 35), 0);
    struct live_ending *endings = NULL;
    struct pl_arena *job = pl_arena_new(1 << 20); /* as node_jobs.c gives */
    char sql[600], account[PL_UUID_TEXT], system[PL_UUID_TEXT], relay[PL_UUID_TEXT];
    pl_uuid_text(x.account, account);
    pl_uuid_text(x.system, system);
    pl_uuid_text(x.relay, relay);
    snprintf(sql, sizeof sql, "INSERT INTO live (account_id, id, device_id, system_id, camera_serial, hub_serial, relay_id, generation, state, suite, created_at, expires_at, hard_end_at) "
             "SELECT '%s', gen_random_uuid(), gen_random_uuid(), '%s', 'CAMERA0001', 'HUB00000001', '%s', 1, 'live', 'x', now(), now(), now() "
             "FROM generate_series(2, %d)", account, system, relay, MANY);
    assert_int_equal(pg_do(db, sql), PL_OK);
    struct db_tx *tx;
    assert_int_equal(db_begin(db, job, &tx), PL_OK);
    assert_int_equal(system_delete(tx, &rnd.base, at(1), x.account, x.system), PL_OK);
    assert_int_equal(live_account_deleted(tx, at(1), x.account, &endings), PL_OK);
    assert_int_equal(count(endings), MANY);
    db_rollbackp(&tx);
    pl_arena_free(job);
}

int main(void)
{
    if (!live_open("t_live_cut"))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_revoked_client_is_cut_S_S5, each_test),
        cmocka_unit_test_setup(a_revoked_client_that_joined_is_cut_S_S5, each_test),
        cmocka_unit_test_setup(whose_clock_marked_does_not_matter_S_S5, each_test),
        cmocka_unit_test_setup(another_node_takes_a_revocation_over_S_S5, each_test),
        cmocka_unit_test_setup(a_revocation_takes_any_number_S_S5, each_test),
        cmocka_unit_test_setup(a_frozen_relay_holds_up_nobody_S_S5, each_test),
        cmocka_unit_test_setup(a_join_is_written_or_refused_S_S5, each_test),
        cmocka_unit_test_setup(a_deleted_account_ends_all_its_sessions_S_S6, each_test),
        cmocka_unit_test_setup(who_are_revoked_together_leave_nobody_S_S5, each_test),
        cmocka_unit_test_setup(more_marks_than_have_a_place_S_S5, each_test),
    };
    return live_close(cmocka_run_group_tests(tests, NULL, NULL));
}
