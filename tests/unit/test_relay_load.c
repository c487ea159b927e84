/* A relay that has as much to do as it can (V-G4): whom it takes, whom it serves on. */
#include "relay_sim.h"

static size_t ignore;

/* From 70 % of a thread on nobody new is taken, who is there is served on and may be told again; below it the door is open again. */
static void v_g4_a_busy_relay_takes_nobody_new(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, other, v, w;
    struct relay_stats st;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_peer_new(&s, &w, 3, PL_SRTP_GCM, false);
    sim_peer_new(&s, &other, 4, PL_SRTP_GCM, true);
    struct relay_cmd open = { .kind = RELAY_OPEN, .ref = { { { 9 } }, 1 }, .expires_in_us = PL_HOUR, .leg = other.leg };
    relay_load(s.relay, RELAY_BUSY_FULL);
    assert_int_equal(sim_add(&s, &w, 1), PL_NODE_FULL);
    assert_int_equal(relay_apply(s.relay, s.now, &open, &s.sink), PL_NODE_FULL);
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK); /* it runs already */
    assert_int_equal(sim_add(&s, &v, 1), PL_OK);
    sim_hub_frame(&s, &hub, true, false, 5, -1);
    sim_settle(&s);
    sim_deliver(&s, &v, &ignore);
    assert_true(v.frames == 1 && v.keys == 1);
    relay_stats(s.relay, &st);
    assert_true(st.refused_full == 2 && st.busy == RELAY_BUSY_FULL && st.sessions == 1 && st.viewers == 1);
    relay_load(s.relay, 100);
    assert_int_equal(sim_add(&s, &w, 1), PL_OK);
    assert_int_equal(relay_apply(s.relay, s.now, &open, &s.sink), PL_OK);
    sim_settle(&s);
    sim_peer_free(&other);
    sim_done(&s, &hub, &v, &w);
}

/* Those who come between two measurements count with what one costs on average: five ends at 50 % are 10 % each, so two more are let in and no third. */
static void v_g4_a_herd_is_counted_before_it_is_measured(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v[8];
    sim_session(&s, &hub, PL_SRTP_GCM);
    for (unsigned i = 0; i < 4; i++)
        sim_viewer(&s, &v[i], 2 + i, PL_SRTP_GCM);
    for (unsigned i = 4; i < 8; i++)
        sim_peer_new(&s, &v[i], 2 + i, PL_SRTP_GCM, false);
    relay_load(s.relay, 500);
    assert_int_equal(sim_add(&s, &v[4], 1), PL_OK);
    assert_int_equal(sim_add(&s, &v[5], 1), PL_OK);
    assert_int_equal(sim_add(&s, &v[6], 1), PL_NODE_FULL);
    relay_load(s.relay, 520); /* they cost less than that */
    assert_int_equal(sim_add(&s, &v[6], 1), PL_OK);
    assert_int_equal(sim_add(&s, &v[7], 1), PL_OK);
    for (unsigned i = 0; i < 7; i++)
        sim_peer_free(&v[i]);
    sim_done(&s, &hub, &v[7], NULL);
}

/* A source that sends more than source_bps loses what is more, and only it; once it is said why. Slower again, it is seen again. */
static void v_g4_a_source_has_its_share(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, *alive[] = { &hub, &v };
    struct relay_stats st;
    struct relay_event e;
    sim_session(&s, &hub, PL_SRTP_GCM);
    s.relay = relay_free(s.relay);
    assert_int_equal(relay_new(&(struct relay_conf){ .max_sessions = 4, .source_bps = 4000000, .rand = &s.rand.base }, &s.relay), PL_OK);
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
    sim_check(&s, &hub, true);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_pass(&s, PL_SECOND, alive, 2);
    for (unsigned i = 0; i < 50; i++) { /* two seconds of 11 Mbit/s, where 4 are allowed and an eighth of a megabyte at once */
        sim_hub_frame(&s, &hub, i == 0, false, 50, -1);
        sim_pass(&s, 40 * PL_MS, alive, 2);
        sim_deliver(&s, &v, &ignore);
        sim_deliver(&s, &hub, &ignore);
    }
    relay_stats(s.relay, &st);
    uint64_t most = 2 * 4000000 / 8 + 4000000 / 8 / 4 + 1200, least = most - 20000;
    uint64_t passed = (uint64_t)(50 * 50 + 1 - st.too_fast) * 1086;
    if (passed > most * 11 / 10 || passed < least * 8 / 10)
        fail_msg("%llu bytes passed", (unsigned long long)passed);
    unsigned said = 0;
    while (sim_event(&s, RELAY_EV_WARNING, &e))
        said += strcmp(e.code, "too_fast") == 0;
    assert_int_equal(said, 1);
    uint64_t dropped = st.too_fast;
    sim_pass(&s, PL_SECOND, alive, 2);
    unsigned keys = v.keys;
    sim_hub_frame(&s, &hub, false, false, 2, -1); /* what was dropped before it may have been its beginning, as far as the viewer knows */
    sim_hub_frame(&s, &hub, true, false, 50, -1);
    sim_settle(&s);
    sim_deliver(&s, &v, &ignore);
    relay_stats(s.relay, &st);
    assert_true(st.too_fast == dropped && v.keys == keys + 1);
    sim_done(&s, &hub, &v, NULL);
}

/* One that changes its generation is in already: a relay that takes nobody new goes on with it. */
static void v_g4_a_busy_relay_changes_a_generation(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, again;
    struct relay_stats st;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_peer_new(&s, &again, 3, PL_SRTP_GCM, true);
    relay_load(s.relay, RELAY_BUSY_FULL);
    assert_int_equal(sim_open(&s, &again, 2), PL_OK);
    sim_check(&s, &again, true);
    sim_hub_frame(&s, &again, true, false, 5, -1);
    relay_stats(s.relay, &st);
    assert_true(st.sessions == 1 && st.refused_full == 0 && st.packets_in > 0);
    sim_peer_free(&again);
    sim_done(&s, &hub, NULL, NULL);
}

/* Reports of sessions that began in one moment, and so fall due together each second, are spread over the second; none is left out. */
static void v_b1_reports_do_not_come_all_at_once(void **state)
{
    (void)state;
    enum { MANY = 48 };
    struct sim s;
    static struct sim_peer hubs[MANY];
    sim_new(&s, MANY, 1 << 16);
    for (unsigned i = 0; i < MANY; i++) {
        sim_peer_new(&s, &hubs[i], 1 + i, PL_SRTP_GCM, true);
        s.live_id.b[1] = (uint8_t)i;
        assert_int_equal(sim_open(&s, &hubs[i], 1), PL_OK);
        sim_check(&s, &hubs[i], true);
        sim_hub_frame(&s, &hubs[i], true, false, 2, -1);
        sim_deliver(&s, &hubs[i], &ignore);
    }
    size_t all = 0;
    for (unsigned tick = 0; tick < 100; tick++) { /* five seconds */
        s.now.us += RELAY_TICK_US;
        relay_tick(s.relay, s.now, &s.sink);
        size_t now = 0;
        for (unsigned i = 0; i < MANY; i++)
            now += sim_deliver(&s, &hubs[i], &ignore);
        assert_true(now <= MANY / 12);
        all += now;
    }
    assert_true(all >= 4 * MANY && all <= 5 * MANY);
    for (unsigned i = 0; i < MANY; i++)
        sim_peer_free(&hubs[i]);
    sim_free(&s);
}

/* A viewer who is paused gets no report, and takes none of the others' turns: each hub still hears once a second. */
static void v_b1_paused_viewers_take_nobodys_turn(void **state)
{
    (void)state;
    enum { MANY = 40, PAUSED = 8 };
    struct sim s;
    static struct sim_peer hubs[MANY], viewers[MANY];
    unsigned told[MANY] = { 0 };
    sim_new(&s, MANY, 1 << 16);
    for (unsigned i = 0; i < MANY; i++) {
        sim_peer_new(&s, &hubs[i], 1 + i, PL_SRTP_GCM, true);
        sim_peer_new(&s, &viewers[i], 1 + MANY + i, PL_SRTP_GCM, false);
        s.live_id.b[1] = (uint8_t)i;
        assert_int_equal(sim_open(&s, &hubs[i], 1), PL_OK);
        sim_check(&s, &hubs[i], true);
        assert_int_equal(sim_add(&s, &viewers[i], 1), PL_OK);
        sim_check(&s, &viewers[i], true);
        sim_hub_frame(&s, &hubs[i], true, false, 2, -1);
        sim_hub_audio(&s, &hubs[i]);
        s.queued = 0;
    }
    for (unsigned tick = 0; tick < 180; tick++) { /* nine seconds: from the sixth on, eight viewers are paused */
        s.now.us += RELAY_TICK_US;
        for (unsigned i = 0; i < MANY && tick % 20 == 0; i++) {
            sim_hub_audio(&s, &hubs[i]);
            sim_check(&s, &hubs[i], true);
            if (i >= PAUSED)
                sim_check(&s, &viewers[i], true);
        }
        s.queued = 0;
        relay_tick(s.relay, s.now, &s.sink);
        for (size_t q = 0; tick >= 120 && q < s.queued; q++)
            for (unsigned i = 0; i < MANY; i++)
                told[i] += ice_addr_eq(&s.queue[q].to, &hubs[i].addr) && s.queue[q].p[1] == 201; /* a receiver report comes first */
    }
    for (unsigned i = 0; i < MANY; i++) {
        assert_in_range(told[i], 2, 4);
        sim_peer_free(&hubs[i]);
        sim_peer_free(&viewers[i]);
    }
    sim_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v_g4_a_busy_relay_takes_nobody_new),
        cmocka_unit_test(v_g4_a_herd_is_counted_before_it_is_measured),
        cmocka_unit_test(v_g4_a_source_has_its_share),
        cmocka_unit_test(v_g4_a_busy_relay_changes_a_generation),
        cmocka_unit_test(v_b1_reports_do_not_come_all_at_once),
        cmocka_unit_test(v_b1_paused_viewers_take_nobodys_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
