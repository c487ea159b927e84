/* Which relay the next session begins at, and when one counts as gone. Rules: V-G4, V-F6. */
#include "live_rig.h"

/* Relays on a node that lives, with what they said last; none when their node is dead. */
static void relays_of_living_nodes_have_room(void **state)
{
    (void)state;
    struct live_choice choice;
    const struct live_sql_relay_rooms_row *row;
    struct pl_uuid relay = enroll("roomy", 70);
    int64_t epoch = hello(relay, 7, 0);
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_relay_stats(tx, relay, epoch, 8, 9, 35, at(5), NULL), PL_OK);
    assert_int_equal(live_rooms_look(tx, at(0), &choice), PL_OK);
    while ((row = live_rooms_take(ctx.rooms, &choice)) != NULL && !pl_uuid_eq(row->id, relay))
        ;
    assert_true(row && row->max_sessions == 100 && row->sessions == 8 && row->viewers == 9 && row->busy == 35 && row->seen_at.us == at(5).us);
    assert_int_equal(live_rooms_look(tx, at(100000), &choice), PL_OK); /* the node's lease is over */
    assert_null(live_rooms_take(ctx.rooms, &choice));
    db_rollbackp(&tx);
}

enum { MOST = 4 };
static struct live_choice choice_of(const struct live_sql_relay_rooms_row *rows, size_t n)
{
    static bool taken[MOST];
    memset(taken, 0, sizeof taken);
    return (struct live_choice){ .rows = rows, .taken = taken, .n = n, .left = n };
}

/* Which of the rows takes the next session, if that is all there is. */
static int next_of(const struct live_sql_relay_rooms_row *rows, size_t n)
{
    struct live_choice c = choice_of(rows, n);
    const struct live_sql_relay_rooms_row *row = live_rooms_take(ctx.rooms, &c);
    return row ? (int)(row - rows) : -1;
}

/* V-G4: the relay with the most room is the one of which the least is in use, of places or of its thread's time, not the one with the fewest sessions. */
static void v_g4_room_is_a_share(void **state)
{
    (void)state;
    struct live_sql_relay_rooms_row full[] = { { .id = new_id(), .max_sessions = 10, .sessions = 10 }, { .id = new_id(), .max_sessions = 256, .sessions = 11 } };
    struct live_sql_relay_rooms_row busy[] = { { .id = new_id(), .max_sessions = 256, .sessions = 5, .busy = 70 }, { .id = new_id(), .max_sessions = 256, .sessions = 50, .busy = 20 } };
    struct live_sql_relay_rooms_row none[] = { { .id = new_id(), .max_sessions = 0 }, { .id = new_id(), .max_sessions = 1, .sessions = 1, .busy = 99 } };
    struct live_choice c = choice_of(full, 2);
    assert_int_equal(next_of(full, 2), 1);
    assert_int_equal(next_of(busy, 2), 1);
    assert_int_equal(next_of(none, 2), 1);
    c = choice_of(full, 2);
    assert_ptr_equal(live_rooms_take(ctx.rooms, &c), &full[1]);
    assert_ptr_equal(live_rooms_take(ctx.rooms, &c), &full[0]); /* asked all the same, when the other one will not: somebody may have left */
    assert_true(c.left == 0 && !live_rooms_take(ctx.rooms, &c));
}

/* V-G4: what was placed counts at once, not when the relay says its next word. */
static void v_g4_a_rush_is_spread(void **state)
{
    (void)state;
    struct live_sql_relay_rooms_row rows[] = { { .id = new_id(), .max_sessions = 200, .seen_at = at(0) }, { .id = new_id(), .max_sessions = 100, .seen_at = at(0) },
                                               { .id = new_id(), .max_sessions = 100, .sessions = 10, .viewers = 10, .busy = 60, .seen_at = at(0) } };
    int placed[3] = { 0 };
    for (int i = 0; i < 210; i++)
        placed[next_of(rows, 3)]++;
    assert_true(placed[0] == 140 && placed[1] == 70 && placed[2] == 0); /* the third: one of its ends costs 3 % of a thread */
    for (int i = 0; i < 100; i++)
        placed[next_of(rows, 3)]++;
    assert_int_equal(placed[2], 4);
    rows[0].sessions = 0; /* it says so itself: all have gone */
    rows[0].seen_at = at(5);
    for (int i = 0; i < 50; i++)
        assert_int_equal(next_of(rows, 3), 0);
}

/* A relay that refused, or did not answer, is the last to be asked until it says something. */
static void who_refused_is_asked_last(void **state)
{
    (void)state;
    struct live_sql_relay_rooms_row rows[] = { { .id = new_id(), .max_sessions = 100, .seen_at = at(0) }, { .id = new_id(), .max_sessions = 100, .sessions = 90, .seen_at = at(0) } };
    assert_int_equal(next_of(rows, 2), 0);
    live_rooms_refused(ctx.rooms, rows[0].id);
    live_rooms_refused(ctx.rooms, new_id()); /* of which nothing is known */
    assert_int_equal(next_of(rows, 2), 1);
    struct live_choice c = choice_of(rows, 2);
    assert_ptr_equal(live_rooms_take(ctx.rooms, &c), &rows[1]);
    assert_ptr_equal(live_rooms_take(ctx.rooms, &c), &rows[0]);
    rows[0].seen_at = at(5);
    assert_int_equal(next_of(rows, 2), 0);
}

static bool lost(struct pl_uuid relay, int64_t s)
{
    bool is;
    struct db_tx *tx = begin();
    assert_int_equal(live_relay_lost(&ctx, tx, at(s), relay, &is), PL_OK);
    db_rollbackp(&tx);
    return is;
}

/* The sessions of a relay that has gone are lost after 15 s; not those of one that could not come, because the cloud was not there (V-F6). */
static void v_f6_a_relay_is_lost_when_it_could_have_come(void **state)
{
    (void)state;
    struct pl_uuid relay = enroll("gone", 71), node = ctx.node_id;
    live_reachable(&ctx, at(0));
    int64_t epoch = hello(relay, 0, 90);
    assert_false(lost(relay, 500)); /* it is connected, however long it is silent */
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_relay_gone(tx, relay, epoch, at(100), NULL), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    assert_false(lost(relay, 114));
    assert_true(lost(relay, 115));
    live_reachable(&ctx, at(110)); /* the cloud was away */
    assert_false(lost(relay, 149));
    assert_true(lost(relay, 150));
    hello(relay, 0, 151);
    assert_false(lost(relay, 300));
    ctx.node_id = new_id(); /* a node without a lease cannot tell */
    assert_false(lost(relay, 20000));
    ctx.node_id = node;
    assert_false(lost(relay, 20000));
    live_reachable(&ctx, at(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(relays_of_living_nodes_have_room, each_test),
        cmocka_unit_test_setup(v_g4_room_is_a_share, each_test),
        cmocka_unit_test_setup(v_g4_a_rush_is_spread, each_test),
        cmocka_unit_test_setup(who_refused_is_asked_last, each_test),
        cmocka_unit_test_setup(v_f6_a_relay_is_lost_when_it_could_have_come, each_test),
    };
    if (!live_open("t_live_rooms"))
        return 1;
    return live_close(cmocka_run_group_tests(tests, NULL, NULL));
}
