/* Key frames: where viewers start and go on, what the source is asked for, how bursts go out. Rules: V-A1 to V-A5, V-E4. */
#include "relay_sim.h"

static size_t ignore;

/* V-A1: what a viewer sees first waits for nothing but its own path and keys: the cached key frame is out in that step, however long ago it came. */
static void v_a1_the_first_picture_waits_for_nobody(void **state)
{
    (void)state;
    static const unsigned lengths[] = { 1, 30, 400 };
    for (unsigned k = 0; k < 2 * PL_COUNT(lengths); k++) {
        struct sim s;
        struct sim_peer hub, v;
        struct relay_event e;
        sim_session(&s, &hub, PL_SRTP_GCM);
        for (unsigned i = 0; i <= lengths[k / 2]; i++) {
            sim_hub_frame(&s, &hub, i == 0, false, i ? 1 : 20, -1);
            sim_pass(&s, 40 * PL_MS, (struct sim_peer *[]){ &hub }, 1);
        }
        sim_pass(&s, PL_SECOND, (struct sim_peer *[]){ &hub }, 1); /* and the source says nothing more */
        if (k % 2)
            sim_viewer(&s, &v, 2, PL_SRTP_GCM);
        else
            sim_connected_viewer(&s, &v, 2, PL_SRTP_GCM, true);
        sim_deliver(&s, &v, &ignore);
        assert_true(v.first_is_key && v.keys == 1 && v.frames >= 1 && v.incomplete == 0);
        assert_true(sim_event(&s, RELAY_EV_VIEWER_KEYFRAME, &e) && e.at.us == s.now.us);
        sim_done(&s, &hub, &v, NULL);
    }
}

/* V-A3: a viewer whose path and keys are there before its hub wakes gets the hub's first key frame in the steps in which it comes; each stage is said, in its order. */
static void v_a3_the_first_key_frame_goes_right_through(void **state)
{
    (void)state;
    static const enum relay_event_kind stages[] = { RELAY_EV_VIEWER_CONNECTED, RELAY_EV_SOURCE_CONNECTED, RELAY_EV_SOURCE_MEDIA, RELAY_EV_VIEWER_MEDIA, RELAY_EV_SOURCE_KEYFRAME,
        RELAY_EV_VIEWER_KEYFRAME };
    for (unsigned k = 0; k < 2; k++) {
        struct sim s;
        struct sim_peer hub, v;
        struct relay_event e;
        sim_new(&s, 4, 0);
        sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
        assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
        if (k)
            sim_viewer(&s, &v, 2, PL_SRTP_GCM);
        else
            sim_connected_viewer(&s, &v, 2, PL_SRTP_GCM, true);
        sim_pass(&s, 8 * PL_SECOND, (struct sim_peer *[]){ &v }, 1); /* a hub on battery takes its time */
        sim_check(&s, &hub, true);
        sim_hub_frame(&s, &hub, true, false, 20, -1);
        sim_deliver(&s, &v, &ignore);
        assert_true(v.first_is_key && v.keys == 1 && v.frames == 1 && v.incomplete == 0);
        for (unsigned i = 0; i < PL_COUNT(stages); i++) {
            assert_true(relay_take_event(s.relay, &e));
            assert_int_equal(e.kind, stages[i]);
        }
        sim_done(&s, &hub, &v, NULL);
    }
}

/* V-A4: the second viewer starts with the cached key frame at once and plays on from there, whatever the length of the group of pictures. */
static void v_a4_join_at_cached_key_frame(void **state)
{
    (void)state;
    static const unsigned lengths[] = { 3, 40, 400 }; /* frames since the key frame: at once · replayed until the fresh one · the picture alone, then the fresh one */
    for (size_t k = 0; k < PL_COUNT(lengths); k++) {
        struct sim s;
        struct sim_peer hub, v;
        sim_session(&s, &hub, PL_SRTP_GCM);
        for (unsigned i = 0; i <= lengths[k]; i++) {
            sim_pass(&s, 33 * PL_MS, (struct sim_peer *[]){ &hub }, 1);
            sim_hub_frame(&s, &hub, i == 0, false, 3, -1);
        }
        sim_viewer(&s, &v, 2, PL_SRTP_GCM);
        sim_deliver(&s, &v, &ignore);
        assert_true(v.got[0] > 0 && v.first_is_key && v.keys == 1);
        assert_true(v.got[0] <= 32); /* V-E4: a key frame does not come as one burst with all that follows it */
        struct sim_peer *alive[] = { &hub, &v };
        sim_deliver(&s, &hub, &ignore);
        assert_int_equal(hub.plis, 1); /* a fresh one is asked for as well */
        uint32_t before = v.last_ts;
        for (unsigned i = 0; i < 60; i++) {
            sim_pass(&s, 33 * PL_MS, alive, 2);
            sim_hub_frame(&s, &hub, i == 4, false, 3, -1);
            sim_deliver(&s, &v, &ignore);
            assert_true((int32_t)(v.last_ts - before) >= 0); /* time never runs backwards */
            before = v.last_ts;
        }
        sim_pass(&s, 100 * PL_MS, alive, 2);
        sim_deliver(&s, &v, &ignore);
        assert_int_equal(v.incomplete, 0);
        assert_int_equal(v.keys, 2);
        sim_contiguous(&v);
        assert_true(lengths[k] == 3 ? v.frames == 4 + 60 : lengths[k] == 40 ? v.frames > 56 + 8 && v.frames < 56 + 41 : v.frames == 1 + 56);
        sim_done(&s, &hub, &v, NULL);
    }
}

/* V-A4: a viewer that is being paced towards the picture meets the fresh key frame: the frame at which it stood comes whole before it jumps. */
static void v_a4_jump_leaves_no_half_frame(void **state)
{
    (void)state;
    for (unsigned packets = 2; packets <= 9; packets++) {
        struct sim s;
        struct sim_peer hub, v;
        sim_session(&s, &hub, PL_SRTP_GCM);
        for (unsigned i = 0; i < 60; i++)
            sim_hub_frame(&s, &hub, i == 0, false, packets, -1);
        sim_viewer(&s, &v, 2, PL_SRTP_GCM);
        struct sim_peer *alive[] = { &hub, &v };
        sim_pass(&s, 15 * PL_MS, alive, 2);
        sim_hub_frame(&s, &hub, true, false, packets, -1);
        for (unsigned i = 0; i < 30; i++) {
            sim_pass(&s, 33 * PL_MS, alive, 2);
            sim_hub_frame(&s, &hub, false, false, packets, -1);
        }
        sim_pass(&s, 100 * PL_MS, alive, 2);
        sim_deliver(&s, &v, &ignore);
        assert_int_equal(v.incomplete, 0);
        sim_contiguous(&v);
        sim_done(&s, &hub, &v, NULL);
    }
}

/* V-A4, V-E4: the rest of a large key frame that is being paced is paced on when the fresh one begins, and comes whole before the jump. */
static void v_e4_a_jump_is_no_burst(void **state)
{
    (void)state;
    for (unsigned ms = 5; ms <= 60; ms += 5) {
        struct sim s;
        struct sim_peer hub, v, *alive[] = { &hub, &v };
        sim_session(&s, &hub, PL_SRTP_GCM);
        sim_hub_frame(&s, &hub, true, false, 250, -1);
        for (unsigned i = 0; i < 25; i++)
            sim_hub_frame(&s, &hub, false, false, 8, -1);
        sim_viewer(&s, &v, 2, PL_SRTP_GCM);
        sim_pass(&s, ms * PL_MS, alive, 2);
        sim_deliver(&s, &v, &ignore);
        for (unsigned i = 0; i < 200; i++) {
            uint64_t before = v.got[0];
            if (i % 8 == 0)
                sim_hub_frame(&s, &hub, i == 0, false, i ? 4 : 60, -1);
            sim_pass(&s, 5 * PL_MS, alive, 2);
            sim_deliver(&s, &v, &ignore);
            assert_true(v.got[0] - before <= 32);
        }
        assert_true(v.incomplete == 0 && v.keys == 2);
        sim_contiguous(&v);
        sim_done(&s, &hub, &v, NULL);
    }
}

static void incomplete_key_frame_is_not_replayed(void **state)
{
    (void)state;
    for (int drop = 0; drop < 4; drop++) {
        struct sim s;
        struct sim_peer hub, v;
        sim_session(&s, &hub, PL_SRTP_GCM);
        sim_hub_frame(&s, &hub, false, false, 1, -1);
        sim_hub_frame(&s, &hub, true, false, 3, drop);
        sim_hub_frame(&s, &hub, false, false, 1, -1);
        sim_viewer(&s, &v, 2, PL_SRTP_GCM);
        sim_deliver(&s, &v, &ignore);
        assert_int_equal(v.got[0], 0);
        sim_hub_frame(&s, &hub, true, false, 3, -1);
        sim_deliver(&s, &v, &ignore);
        assert_true(v.keys == 1 && v.incomplete == 0);
        sim_done(&s, &hub, &v, NULL);
    }
}

/* A key frame of two slices whose first slice was lost: what came looks whole by itself, and is not. */
static void lost_first_slice_is_noticed(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    uint8_t p[SIM_PACKET], slice[200] = { 0x65, 1 };
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 3, -1); /* parameter sets are known */
    for (int i = 0; i < 400; i++)                /* and its replay is out of reach */
        sim_hub_frame(&s, &hub, false, false, 3, -1);
    hub.ts += 3000;
    (void)sim_hub_packet(&hub, 0, false, slice, sizeof slice, p);
    sim_in(&s, &hub.addr, p, sim_hub_packet(&hub, 0, true, slice, sizeof slice, p));
    sim_hub_frame(&s, &hub, false, false, 1, -1);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_deliver(&s, &v, &ignore);
    assert_int_equal(v.got[0], 4); /* the older, whole one: alone, because it is far behind */
    sim_done(&s, &hub, &v, NULL);
}

/* A camera that sends SPS and PPS once only: the relay puts them before the key frame that a viewer starts at, and numbers stay contiguous. */
static void parameter_sets_are_put_before(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    sim_hub_frame(&s, &hub, true, true, 2, -1); /* bare */
    sim_hub_frame(&s, &hub, false, false, 2, -1);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, false, false, 2, -1);
    sim_deliver(&s, &v, &ignore);
    assert_true(v.got[0] == 1 + 6 && v.frames == 3 && v.keys == 1 && v.incomplete == 0);
    sim_contiguous(&v);
    sim_done(&s, &hub, &v, NULL);
}

/* Packets that overtake each other, also at the start of the key frame that a viewer starts at. */
static void reordered_packets(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    uint8_t a[SIM_PACKET], b[SIM_PACKET], idr[100] = { 0x65, 1 };
    static const uint8_t sps[] = { 0x67, 1, 2 };
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_deliver(&s, &v, &ignore);
    hub.ts += 3000;
    size_t an = sim_hub_packet(&hub, 0, false, sps, sizeof sps, a), bn = sim_hub_packet(&hub, 0, true, idr, sizeof idr, b);
    struct sim_peer late;
    sim_viewer(&s, &late, 3, PL_SRTP_GCM);
    sim_deliver(&s, &late, &ignore);
    sim_in(&s, &hub.addr, b, bn);
    sim_in(&s, &hub.addr, a, an);
    sim_deliver(&s, &v, &ignore);
    sim_deliver(&s, &late, &ignore);
    sim_contiguous(&v);
    sim_contiguous(&late);
    struct relay_stats st;
    relay_stats(s.relay, &st);
    assert_int_equal(st.lost, 0);
    sim_done(&s, &hub, &v, &late);
}

/* S-M6, V-A2: SPS and PPS and the start of the slice come behind its middle. The relay's own SPS and PPS go before all of them, each number is one packet's (sim's oracle), and the
 * frame is whole for who watches and for who comes later; with the start lost for good it is replayed to nobody. */
static void s_m6_a_key_frame_comes_middle_first(void **state)
{
    (void)state;
    static const uint8_t params[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c };
    for (unsigned lost = 0; lost < 3; lost++) {
        struct sim s;
        struct sim_peer hub, v, late;
        uint8_t p[6][SIM_PACKET], payload[600] = { 0x7c };
        size_t n[6];
        uint16_t all[16];
        sim_session(&s, &hub, PL_SRTP_GCM);
        sim_hub_frame(&s, &hub, true, false, 2, -1);
        sim_viewer(&s, &v, 2, PL_SRTP_GCM);
        hub.ts += 3000;
        for (unsigned i = 0; i < 6; i++) {
            payload[1] = (uint8_t)((i == 1 ? 0x80 : 0) | (i == 5 ? 0x40 : 0) | 5);
            payload[2] = (uint8_t)i;
            n[i] = i ? sim_hub_packet(&hub, 0, i == 5, payload, sizeof payload, p[i]) : sim_hub_packet(&hub, 0, false, params, sizeof params, p[i]);
        }
        static const unsigned order[] = { 2, 1, 0, 3, 4, 5 };
        for (unsigned i = 0; i < 6; i++)
            if (lost == 0 || order[i] >= lost)
                sim_in(&s, &hub.addr, p[order[i]], n[order[i]]);
        sim_deliver(&s, &v, &ignore);
        assert_int_equal(v.high[0] - v.first[0] + 1, v.got[0] + lost); /* no hole but for what was lost */
        for (unsigned i = 0; i < 16; i++)
            all[i] = (uint16_t)(v.first[0] + i);
        s.now.us += 25 * PL_MS;
        sim_nack(&s, &v, v.leg.video.ssrc, all, 16);
        s.queued = 0;
        sim_hub_frame(&s, &hub, false, false, 1, -1);
        sim_viewer(&s, &late, 3, PL_SRTP_GCM);
        sim_deliver(&s, &late, &ignore);
        assert_true(late.first_is_key);
        assert_int_equal(late.got[0], lost ? 3 + 1 + 6 - lost + 1 : 1 + 6 + 1); /* else from the older one on */
        assert_int_equal(late.high[0] - late.first[0] + 1, late.got[0] + lost);
        sim_done(&s, &hub, &v, &late);
    }
}

/* V-A2: the very first key frame, whose SPS comes behind the start of its slice: who waits for it gets it. */
static void v_a2_parameter_sets_come_late(void **state)
{
    (void)state;
    static const uint8_t params[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c };
    struct sim s;
    struct sim_peer hub, v;
    uint8_t p[2][SIM_PACKET], last[SIM_PACKET], payload[600] = { 0x7c, 0x85 };
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    hub.ts += 3000;
    size_t n0 = sim_hub_packet(&hub, 0, false, params, sizeof params, p[0]), n1 = sim_hub_packet(&hub, 0, false, payload, sizeof payload, p[1]);
    sim_in(&s, &hub.addr, p[1], n1);
    sim_in(&s, &hub.addr, p[0], n0);
    payload[1] = 0x45;
    sim_in(&s, &hub.addr, last, sim_hub_packet(&hub, 0, true, payload, sizeof payload, last));
    sim_deliver(&s, &v, &ignore);
    assert_int_equal(v.got[0], 3);
    sim_hub_frame(&s, &hub, false, false, 2, -1);
    sim_deliver(&s, &v, &ignore);
    assert_int_equal(v.got[0], 5);
    sim_done(&s, &hub, &v, NULL);
}

/* V-A2: a source whose timestamps begin anew while its numbers run on (its encoder restarted, its clock was set). Who watches sees time go on, who comes gets the picture. */
static void v_a2_timestamps_begin_anew(void **state)
{
    (void)state;
    static const uint32_t steps[] = { (uint32_t)-100000, (uint32_t)-1000000000, 0x80000000 + 5000 };
    for (unsigned k = 0; k < PL_COUNT(steps); k++) {
        struct sim s;
        struct sim_peer hub, v, late, *alive[] = { &hub, &v };
        sim_session(&s, &hub, PL_SRTP_GCM);
        sim_viewer(&s, &v, 2, PL_SRTP_GCM);
        uint32_t before = 0;
        for (unsigned i = 0; i < 40; i++) {
            hub.ts += i == 20 ? steps[k] : 0;
            sim_hub_frame(&s, &hub, i == 0 || i == 30, false, 3, -1);
            sim_deliver(&s, &v, &ignore);
            assert_true(i == 0 || (v.last_ts - before > 0 && v.last_ts - before < 9000));
            before = v.last_ts;
            if (i % 10 == 5)
                sim_rtcp(&s, &hub, false, true);
            sim_pass(&s, 35 * PL_MS, alive, 2);
        }
        sim_deliver(&s, &v, &ignore);
        assert_true(v.keys == 2 && v.frames == 40 && v.incomplete == 0);
        assert_true(v.sr_ts[0] - before + 45000 < 90000); /* reports are of the same time */
        sim_viewer(&s, &late, 3, PL_SRTP_GCM);
        sim_settle(&s);
        sim_deliver(&s, &late, &ignore);
        assert_true(late.first_is_key && late.keys == 1 && late.frames == 10 && late.incomplete == 0);
        sim_done(&s, &hub, &v, &late);
    }
}

/* V-A5: however many viewers want a key frame, the hub is asked once in 2 s; unanswered for 500 ms, control is asked to ask. */
static void v_a5_governor(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, a, b;
    struct relay_event e;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    sim_viewer(&s, &a, 2, PL_SRTP_GCM);
    sim_viewer(&s, &b, 3, PL_SRTP_GCM);
    for (int i = 0; i < 20; i++) {
        sim_rtcp(&s, &a, true, false);
        sim_rtcp(&s, &b, true, false);
    }
    sim_deliver(&s, &hub, &ignore);
    assert_int_equal(hub.plis, 1);
    assert_false(sim_event(&s, RELAY_EV_KEYFRAME_WANTED, &e));
    struct sim_peer *alive[] = { &hub, &a, &b };
    sim_pass(&s, 490 * PL_MS, alive, 3);
    assert_false(sim_event(&s, RELAY_EV_KEYFRAME_WANTED, &e));
    sim_pass(&s, 20 * PL_MS, alive, 3);
    assert_true(sim_event(&s, RELAY_EV_KEYFRAME_WANTED, &e));
    sim_pass(&s, 1400 * PL_MS, alive, 3);
    sim_deliver(&s, &hub, &ignore);
    assert_int_equal(hub.plis, 1);
    assert_false(sim_event(&s, RELAY_EV_KEYFRAME_WANTED, &e));
    sim_pass(&s, 200 * PL_MS, alive, 3); /* still none: asked again */
    sim_deliver(&s, &hub, &ignore);
    assert_int_equal(hub.plis, 2);
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    sim_pass(&s, 10 * PL_SECOND - 5 * PL_MS, alive, 3);
    sim_deliver(&s, &hub, &ignore);
    assert_int_equal(hub.plis, 2); /* answered: nobody wants one any more */
    assert_false(sim_event(&s, RELAY_EV_KEYFRAME_WANTED, &e));
    sim_done(&s, &hub, &a, &b);
}

static void too_large_is_said_once(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub;
    struct relay_event e;
    struct relay_stats st;
    uint8_t p[SIM_LARGE], payload[3000] = { 0x65 };
    static const size_t sizes[] = { 3000, 1400, 1400 };
    sim_session(&s, &hub, PL_SRTP_GCM);
    for (size_t i = 0; i < PL_COUNT(sizes); i++)
        sim_in(&s, &hub.addr, p, sim_hub_packet(&hub, 0, true, payload, sizes[i], p));
    assert_true(sim_event(&s, RELAY_EV_WARNING, &e));
    assert_string_equal(e.code, "packet_too_large");
    assert_false(sim_event(&s, RELAY_EV_WARNING, &e));
    relay_stats(s.relay, &st);
    assert_int_equal(st.too_large, 3);
    sim_in(&s, &hub.addr, p, 0); /* what is empty is counted, too */
    relay_stats(s.relay, &st);
    assert_int_equal(st.unknown, 1);
    sim_hub_frame(&s, &hub, false, false, 1, -1);
    struct sim_peer *alive[] = { &hub };
    sim_pass(&s, 11 * PL_SECOND, alive, 1);
    assert_true(sim_event(&s, RELAY_EV_WARNING, &e));
    assert_string_equal(e.code, "no_key_frame");
    sim_done(&s, &hub, NULL, NULL);
}

/* A copied stream with a key frame every 15 s is no failure after 10 s; twice its length without one is. */
static void a_long_gop_is_waited_for(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, *alive[] = { &hub };
    struct relay_event e;
    sim_new(&s, 4, 0);
    sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
    hub.leg.no_key_frames = true;
    hub.leg.gop_us = 15 * PL_SECOND;
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
    sim_check(&s, &hub, true);
    sim_hub_frame(&s, &hub, false, false, 1, -1);
    sim_pass(&s, 29 * PL_SECOND, alive, 1);
    assert_false(sim_event(&s, RELAY_EV_WARNING, &e));
    sim_pass(&s, 2 * PL_SECOND, alive, 1);
    assert_true(sim_event(&s, RELAY_EV_WARNING, &e));
    assert_string_equal(e.code, "no_key_frame");
    sim_done(&s, &hub, NULL, NULL);
}

/* A ring that is too small for what a viewer still had to get: it starts again at a key frame, and says so in the counters. */
static void falling_out_of_the_ring(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    sim_new(&s, 1, 64 * 1024);
    sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
    sim_check(&s, &hub, true);
    sim_hub_frame(&s, &hub, true, false, 40, -1);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM); /* catching up: 16 packets at first */
    for (int i = 0; i < 10; i++)
        sim_hub_frame(&s, &hub, false, false, 40, -1);
    struct sim_peer *alive[] = { &hub, &v };
    sim_pass(&s, 50 * PL_MS, alive, 2);
    sim_hub_frame(&s, &hub, true, false, 4, -1);
    sim_hub_frame(&s, &hub, false, false, 4, -1);
    sim_pass(&s, 50 * PL_MS, alive, 2);
    sim_deliver(&s, &v, &ignore);
    assert_true(v.keys >= 1);
    sim_contiguous(&v);
    struct relay_stats st;
    relay_stats(s.relay, &st);
    assert_true(st.not_sent > 0);
    sim_free(&s);
    sim_peer_free(&hub);
    sim_peer_free(&v);
}

/* V-E4: a queue of 32 packets on the way, drained at 20 Mbit/s: key frames of 150 packets, joins in the middle of a long group of pictures, and nothing is lost in it.
 * At most 32 packets leave in 5 ms. */
static void v_e4_bursts_fit_into_a_short_queue(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v[8], *alive[9] = { &hub };
    double queue[8] = { 0 };
    unsigned joined = 0;
    uint64_t sent = 0, over = 0, late = 0;
    sim_session(&s, &hub, PL_SRTP_GCM);
    for (unsigned ms = 0; ms < 20000; ms += 5) {
        if (ms % 40 == 0) {
            sim_hub_frame(&s, &hub, ms % 4000 == 0, false, ms % 4000 ? 8 : 150, -1);
            sim_hub_audio(&s, &hub);
        }
        if (ms % 1900 == 1000 && joined < 8) {
            sim_connected_viewer(&s, &v[joined], 2 + joined, PL_SRTP_GCM, true);
            alive[joined + 1] = &v[joined];
            joined++;
        }
        for (unsigned i = 0; i < joined; i++) {
            size_t runs = 0;
            queue[i] -= 0.005 * 20e6 / 8 / 1200;
            queue[i] = queue[i] < 0 ? 0 : queue[i];
            for (size_t k = 0; k < s.queued; k++)
                if (ice_addr_eq(&s.queue[k].to, &v[i].addr)) {
                    runs += rtp_classify(s.queue[k].p, s.queue[k].n) == RTP_CLASS_RTP;
                    sent++;
                    queue[i] += 1;
                    over += queue[i] > 32;
                }
            late = runs > late ? runs : late;
            sim_deliver(&s, &v[i], &ignore);
        }
        sim_deliver(&s, &hub, &ignore);
        sim_pass(&s, 5 * PL_MS, alive, 1 + joined);
    }
    assert_true(joined == 8 && sent > 8000 && over * 5000 <= sent);
    assert_true(late <= 32);
    for (unsigned i = 0; i < joined; i++) {
        assert_true(v[i].incomplete == 0 && v[i].keys > 0 && v[i].transport_gap == 0);
        assert_int_equal(v[i].high[0] - v[i].first[0] + 1, v[i].got[0]);
        if (i)
            sim_peer_free(&v[i]);
    }
    sim_done(&s, &hub, &v[0], NULL);
}

/* V-A4: from the cached key frame to the live picture the frames are 10 ms apart and end at the live time; what is live has one constant offset, and so has the SR. */
static void v_a4_replayed_time_ends_at_live(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    sim_session(&s, &hub, PL_SRTP_GCM);
    for (unsigned i = 0; i < 8; i++) {
        sim_hub_frame(&s, &hub, i == 0, false, 1, -1);
        sim_pass(&s, 33 * PL_MS, (struct sim_peer *[]){ &hub }, 1);
    }
    sim_connected_viewer(&s, &v, 2, PL_SRTP_GCM, true);
    uint32_t times[64], offset = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < 6; i++) {
        for (size_t k = 0; k < s.queued; k++) {
            struct sim_datagram *d = &s.queue[k];
            uint32_t ts = (uint32_t)d->p[4] << 24 | (uint32_t)d->p[5] << 16 | (uint32_t)d->p[6] << 8 | d->p[7];
            if (rtp_classify(d->p, d->n) == RTP_CLASS_RTP && ice_addr_eq(&d->to, &v.addr) && (n == 0 || times[n - 1] != ts))
                times[n++] = ts;
        }
        sim_deliver(&s, &v, &ignore);
        sim_deliver(&s, &hub, &ignore);
        offset = v.last_ts - hub.ts;
        sim_hub_frame(&s, &hub, false, false, 1, -1);
        sim_pass(&s, 33 * PL_MS, (struct sim_peer *[]){ &hub, &v }, 2);
    }
    assert_int_equal(n, 13);
    for (unsigned i = 1; i < n; i++)
        assert_int_equal(times[i] - times[i - 1], i < 8 ? 900 : 3000);
    assert_int_equal(times[7] + 5 * 3000, v.last_ts); /* the newest one of the join is live already */
    sim_rtcp(&s, &hub, false, true);
    sim_deliver(&s, &v, &ignore);
    uint32_t later = v.sr_ts[0] - (hub.ts + offset); /* a moment later than that picture: the time of the report */
    assert_true(later < 90 * 70);
    sim_done(&s, &hub, &v, NULL);
}

/* V-A2: who comes in the middle of a key frame gets all of it. */
static void v_a2_in_the_middle_of_a_key_frame(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 5; k++) {
        struct sim s;
        struct sim_peer hub, v;
        static uint8_t bytes[8][SIM_PACKET];
        uint8_t payload[900] = { 0x7c };
        static const uint8_t params[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c };
        sim_session(&s, &hub, PL_SRTP_GCM);
        hub.ts += 3000;
        for (unsigned i = 0; i < 6; i++) {
            payload[1] = (uint8_t)((i == 1 ? 0x80 : 0) | (i == 5 ? 0x40 : 0) | 5);
            size_t n = i ? sim_hub_packet(&hub, 0, i == 5, payload, sizeof payload, bytes[i]) : sim_hub_packet(&hub, 0, false, params, sizeof params, bytes[i]);
            sim_in(&s, &hub.addr, bytes[i], n);
            if (i == k)
                sim_connected_viewer(&s, &v, 2, PL_SRTP_GCM, true);
        }
        sim_deliver(&s, &v, &ignore);
        sim_deliver(&s, &hub, &ignore);
        assert_true(v.frames == 1 && v.keys == 1 && hub.plis == 0);
        sim_done(&s, &hub, &v, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v_a1_the_first_picture_waits_for_nobody), cmocka_unit_test(v_a3_the_first_key_frame_goes_right_through),
        cmocka_unit_test(v_a4_join_at_cached_key_frame), cmocka_unit_test(v_a4_jump_leaves_no_half_frame),
        cmocka_unit_test(v_e4_a_jump_is_no_burst),
        cmocka_unit_test(incomplete_key_frame_is_not_replayed), cmocka_unit_test(lost_first_slice_is_noticed),
        cmocka_unit_test(parameter_sets_are_put_before), cmocka_unit_test(reordered_packets), cmocka_unit_test(s_m6_a_key_frame_comes_middle_first), cmocka_unit_test(v_a5_governor),
        cmocka_unit_test(v_a2_parameter_sets_come_late), cmocka_unit_test(v_a2_timestamps_begin_anew),
        cmocka_unit_test(too_large_is_said_once), cmocka_unit_test(a_long_gop_is_waited_for), cmocka_unit_test(falling_out_of_the_ring),
        cmocka_unit_test(v_e4_bursts_fit_into_a_short_queue), cmocka_unit_test(v_a4_replayed_time_ends_at_live),
        cmocka_unit_test(v_a2_in_the_middle_of_a_key_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
