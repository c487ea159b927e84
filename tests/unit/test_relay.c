/* The relay's pure step on a fixed clock: who is answered, what ends when. Rules: S-M1, S-M2, S-M6, S-M7, V-F4. */
#include "relay_sim.h"

static size_t ignore;

/* One hub, two viewers with the other cipher each, sequence numbers that wrap: everything arrives whole, in order, under the viewer's own names. */
static void fan_out_with_mixed_suites(void **state)
{
    (void)state;
    for (int suite = 0; suite < 2; suite++) {
        struct sim s;
        struct sim_peer hub, a, b;
        sim_session(&s, &hub, (enum pl_srtp_suite)suite);
        sim_viewer(&s, &a, 2, PL_SRTP_GCM);
        sim_viewer(&s, &b, 3, PL_SRTP_SHA1_80);
        sim_hub_audio(&s, &hub);
        for (unsigned i = 0; i < 60; i++) {
            sim_hub_frame(&s, &hub, i % 30 == 0, false, 1 + i % 7, -1);
            sim_hub_audio(&s, &hub);
        }
        sim_settle(&s);
        sim_deliver(&s, &a, &ignore);
        sim_deliver(&s, &b, &ignore);
        sim_contiguous(&a);
        sim_contiguous(&b);
        assert_true(a.frames == 60 && a.keys == 2 && a.incomplete == 0 && a.got[1] == 61 && a.first_is_key);
        assert_true(b.frames == 60 && b.keys == 2 && b.incomplete == 0 && b.got[1] == 61 && b.first_is_key);
        struct relay_event e;
        assert_true(sim_event(&s, RELAY_EV_SOURCE_CONNECTED, &e) && sim_event(&s, RELAY_EV_VIEWER_CONNECTED, &e) && sim_event(&s, RELAY_EV_SOURCE_MEDIA, &e));
        assert_true(sim_event(&s, RELAY_EV_VIEWER_MEDIA, &e) && sim_event(&s, RELAY_EV_SOURCE_KEYFRAME, &e) && sim_event(&s, RELAY_EV_VIEWER_KEYFRAME, &e));
        sim_done(&s, &hub, &a, &b);
    }
}

/* A batch goes out as runs, viewer by viewer. */
static void a_batch_is_one_run_a_viewer(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    static uint8_t bytes[32][SIM_PACKET];
    struct relay_in in[32];
    uint8_t payload[1000] = { 0x7c, 0x85 };
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    hub.ts += 3000;
    sim_pass(&s, 50 * PL_MS, NULL, 0); /* V-E4: the budget is full again */
    for (unsigned i = 0; i < 24; i++) {
        payload[1] = (uint8_t)((i == 0 ? 0x80 : 0) | (i == 23 ? 0x40 : 0) | 1);
        in[i] = (struct relay_in){ bytes[i], sim_hub_packet(&hub, 0, i == 23, payload, sizeof payload, bytes[i]), hub.addr };
    }
    relay_step(s.relay, s.now, in, 24, &s.sink);
    assert_int_equal(s.largest_run, 24);
    sim_deliver(&s, &v, &ignore);
    assert_true(v.frames == 2 && v.incomplete == 0);
    sim_contiguous(&v);
    sim_done(&s, &hub, &v, NULL);
}

/* S-M1: what is not proved gets no byte back and leaves no trace. */
static void s_m1_strangers_get_nothing(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, fake;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_peer_new(&s, &fake, 9, PL_SRTP_GCM, true);
    fake.leg.ice = hub.leg.ice;
    fake.leg.ice.pwd[3] ^= 1;
    sim_check(&s, &fake, true); /* the right ufrag, a wrong password */
    fake.leg.ice = hub.leg.ice;
    fake.leg.ice.ufrag[2] = 'z';
    sim_check(&s, &fake, true); /* an ufrag of nobody */
    fake.leg.video.ssrc = hub.leg.video.ssrc;
    sim_hub_frame(&s, &fake, true, false, 3, -1); /* SRTP from nowhere */
    fake.addr = hub.addr;
    sim_hub_frame(&s, &fake, true, false, 3, -1); /* and under the hub's address, by another key */
    for (unsigned first = 0; first < 256; first++) {
        uint8_t junk[64];
        pl_rand_fill(&s.rand.base, junk, sizeof junk);
        junk[0] = (uint8_t)first;
        sim_in(&s, &fake.addr, junk, 1 + first % 64);
    }
    assert_int_equal(s.queued, 0);
    struct relay_event e;
    struct relay_stats st;
    relay_stats(s.relay, &st);
    assert_true(sim_event(&s, RELAY_EV_SOURCE_CONNECTED, &e));
    assert_false(sim_event(&s, RELAY_EV_SOURCE_MEDIA, &e));
    assert_true(st.packets_in == 0 && st.unproved >= 2 && st.unknown >= 2);
    sim_done(&s, &hub, &fake, NULL);
}

/* S-M2: a viewer's stream follows a proved check with USE-CANDIDATE, and nothing else. */
static void s_m2_path_moves_by_proof(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    assert_true(sim_deliver(&s, &v, &ignore) > 2);
    struct ice_addr home = v.addr;
    v.addr.port = 5555; /* the phone's other network, kept warm by checks that do not nominate */
    sim_check(&s, &v, false);
    assert_int_equal(sim_deliver(&s, &v, &ignore), 1);
    sim_hub_frame(&s, &hub, false, false, 2, -1);
    assert_int_equal(sim_deliver(&s, &v, &ignore), 0);
    v.addr = home;
    assert_int_equal(sim_deliver(&s, &v, &ignore), 2);
    v.addr.port = 5555;
    sim_check(&s, &v, true);
    sim_hub_frame(&s, &hub, false, false, 2, -1);
    assert_int_equal(sim_deliver(&s, &v, &ignore), 3);
    assert_true(v.frames == 3 && v.incomplete == 0);
    sim_contiguous(&v);
    /* RTCP from an address that is not its own is nobody's. */
    struct relay_stats before, after;
    relay_stats(s.relay, &before);
    v.addr.port = 6666;
    sim_rtcp(&s, &v, true, false);
    relay_stats(s.relay, &after);
    assert_int_equal(after.unknown, before.unknown + 1);
    sim_done(&s, &hub, &v, NULL);
}

/* S-M2: who has overheard a check an hour ago carries the path nowhere with it, not even to where the viewer was then. */
static void s_m2_an_old_copy_of_a_check_moves_nothing(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, thief;
    struct relay_stats before, after;
    uint8_t copy[STUN_MAX];
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    thief = v;
    size_t n = sim_check_write(&s, &v, true, copy);
    sim_in(&s, &v.addr, copy, n);
    v.addr.port = 5555;
    for (unsigned i = 0; i < 1800; i++) { /* every two seconds */
        sim_check(&s, &v, true);
        s.queued = 0;
    }
    relay_stats(s.relay, &before);
    thief.addr.ip[3] = 66;
    sim_in(&s, &thief.addr, copy, n);
    relay_stats(s.relay, &after);
    assert_int_equal(after.replayed, before.replayed + 1);
    assert_int_equal(s.queued, 0);
    thief.addr = (struct ice_addr){ .ip = { 192, 0, 2, 2 }, .port = 4002, .family = 4 }; /* its own, once */
    sim_in(&s, &thief.addr, copy, n);
    s.queued = 0;
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    assert_true(sim_deliver(&s, &v, &ignore) > 2 && s.queued == 0);
    sim_done(&s, &hub, &v, NULL);
}

/* S-M2, V-F4: a check that comes again is answered again, since the answer may have been lost, but is no life: copies of it keep no media flowing to a viewer that is gone. */
static void s_m2_copies_of_a_check_are_no_life(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    struct relay_event e;
    uint8_t copy[STUN_MAX];
    size_t answers = 0;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    size_t n = sim_check_write(&s, &v, true, copy);
    for (int i = 0; i < 7; i++) {
        sim_in(&s, &v.addr, copy, n);
        sim_deliver(&s, &v, &answers);
        sim_pass(&s, PL_SECOND, (struct sim_peer *[]){ &hub }, 1);
    }
    assert_int_equal(answers, 8);
    s.queued = 0;
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    assert_int_equal(sim_deliver(&s, &v, &answers), 0); /* paused */
    for (int i = 0; i < 4; i++) {
        sim_in(&s, &v.addr, copy, n);
        sim_pass(&s, PL_SECOND, (struct sim_peer *[]){ &hub }, 1);
    }
    assert_true(sim_event(&s, RELAY_EV_VIEWER_GONE, &e));
    assert_string_equal(e.code, "viewer_lost");
    sim_done(&s, &hub, &v, NULL);
}

static void replayed_packets_are_refused(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    uint8_t p[SIM_PACKET], payload[50] = { 0x65, 1 };
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 1, -1);
    size_t n = sim_hub_packet(&hub, 0, true, payload, sizeof payload, p);
    sim_in(&s, &hub.addr, p, n);
    size_t got = sim_deliver(&s, &v, &ignore);
    sim_in(&s, &hub.addr, p, n);
    assert_int_equal(sim_deliver(&s, &v, &ignore), 0);
    struct relay_stats st;
    relay_stats(s.relay, &st);
    assert_true(got > 0 && st.replayed == 1);
    sim_done(&s, &hub, &v, NULL);
}

static void expiry_by_the_relays_own_clock(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub;
    struct relay_event e;
    sim_session(&s, &hub, PL_SRTP_GCM);
    struct sim_peer *alive[] = { &hub };
    struct relay_cmd extend = { .kind = RELAY_EXTEND, .ref = { s.live_id, 1 }, .expires_in_us = 30 * PL_SECOND };
    assert_int_equal(relay_apply(s.relay, s.now, &extend, &s.sink), PL_OK);
    sim_pass(&s, 30 * PL_SECOND - 5 * PL_MS, alive, 1);
    assert_false(sim_event(&s, RELAY_EV_ENDED, &e));
    sim_pass(&s, 5 * PL_MS, alive, 1);
    assert_true(sim_event(&s, RELAY_EV_ENDED, &e));
    assert_string_equal(e.code, "expired");
    assert_int_equal(relay_running(s.relay, &extend.ref, 1), 0);
    assert_int_equal(sim_open(&s, &hub, 1), PL_LIVE_ENDED); /* S-M6: this generation's keys are spent */
    sim_done(&s, &hub, NULL, NULL);
}

static void hub_lost_after_ten_seconds(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub;
    struct relay_event e;
    sim_session(&s, &hub, PL_SRTP_GCM);
    struct sim_peer *alive[] = { &hub };
    sim_pass(&s, 60 * PL_SECOND, alive, 1); /* checks alone are life */
    assert_false(sim_event(&s, RELAY_EV_ENDED, &e));
    sim_check(&s, &hub, true);
    struct pl_mono last = s.now;
    sim_pass(&s, 10 * PL_SECOND - 5 * PL_MS, NULL, 0);
    assert_false(sim_event(&s, RELAY_EV_ENDED, &e));
    sim_pass(&s, 10 * PL_MS, NULL, 0);
    assert_true(sim_event(&s, RELAY_EV_ENDED, &e));
    assert_string_equal(e.code, "hub_lost");
    assert_true(e.at.us - last.us == 10 * PL_SECOND);
    struct sim_peer next;
    s.live_id.b[5] = 9;
    sim_peer_new(&s, &next, 5, PL_SRTP_GCM, true);
    assert_int_equal(sim_open(&s, &next, 1), PL_OK);
    sim_check(&s, &next, true);
    for (int i = 0; i < 30; i++) { /* so is media without checks */
        sim_pass(&s, PL_SECOND, NULL, 0);
        sim_hub_audio(&s, &next);
    }
    assert_false(sim_event(&s, RELAY_EV_ENDED, &e));
    sim_peer_free(&next);
    sim_done(&s, &hub, NULL, NULL);
}

/* V-F4: a silent viewer is sent nothing after 5 s and freed after 10 s; a check in between resumes it, at a key frame, with numbers that go on. */
static void v_f4_viewer_pause_and_loss(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    struct relay_event e;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    struct sim_peer *hub_only[] = { &hub };
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    sim_pass(&s, 4800 * PL_MS, hub_only, 1);
    sim_hub_frame(&s, &hub, false, false, 2, -1);
    assert_true(sim_deliver(&s, &v, &ignore) > 2);
    sim_pass(&s, 150 * PL_MS, hub_only, 1); /* a tick before its five seconds are over */
    sim_hub_frame(&s, &hub, false, false, 2, -1);
    assert_int_equal(sim_deliver(&s, &v, &ignore), 0);
    sim_check(&s, &v, true);
    sim_hub_frame(&s, &hub, false, false, 2, -1); /* not from the middle of a group of pictures */
    assert_int_equal(sim_deliver(&s, &v, &ignore), 1);
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    assert_int_equal(sim_deliver(&s, &v, &ignore), 3);
    assert_true(v.incomplete == 0 && v.keys == 2 && v.frames == 3);
    sim_contiguous(&v);
    sim_pass(&s, 9800 * PL_MS, hub_only, 1);
    assert_false(sim_event(&s, RELAY_EV_VIEWER_GONE, &e));
    sim_pass(&s, 150 * PL_MS, hub_only, 1); /* and before its ten: the server is still to hear of it */
    assert_true(sim_event(&s, RELAY_EV_VIEWER_GONE, &e));
    assert_string_equal(e.code, "viewer_lost");
    assert_string_equal(e.viewer_id, v.id);
    assert_int_equal(sim_add(&s, &v, 1), PL_INVALID_REQUEST); /* S-M6: its keys were used */
    sim_done(&s, &hub, &v, NULL);
}

/* S-M7: without control sessions go on for ten minutes. */
static void s_m7_control_lost(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub;
    struct relay_event e;
    sim_session(&s, &hub, PL_SRTP_GCM);
    struct sim_peer *alive[] = { &hub };
    struct relay_cmd down = { .kind = RELAY_CONTROL_DOWN }, up = { .kind = RELAY_CONTROL_UP };
    assert_int_equal(relay_apply(s.relay, s.now, &down, &s.sink), PL_OK);
    sim_pass(&s, 9 * PL_MINUTE, alive, 1);
    assert_int_equal(relay_apply(s.relay, s.now, &down, &s.sink), PL_OK); /* another failed try does not start the count again */
    sim_pass(&s, 59 * PL_SECOND, alive, 1);
    assert_false(sim_event(&s, RELAY_EV_ENDED, &e));
    assert_int_equal(relay_apply(s.relay, s.now, &up, &s.sink), PL_OK);
    assert_int_equal(relay_apply(s.relay, s.now, &down, &s.sink), PL_OK);
    sim_pass(&s, 2 * PL_MINUTE, alive, 1);
    assert_false(sim_event(&s, RELAY_EV_ENDED, &e));
    assert_int_equal(relay_apply(s.relay, s.now, &down, &s.sink), PL_OK);
    sim_pass(&s, 8 * PL_MINUTE, alive, 1);
    assert_true(sim_event(&s, RELAY_EV_ENDED, &e));
    assert_string_equal(e.code, "control_lost");
    sim_done(&s, &hub, NULL, NULL);
}

static void commands_are_fenced_and_repeatable(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, next, v, other;
    struct relay_event e;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
    assert_int_equal(sim_add(&s, &v, 1), PL_OK);
    assert_int_equal(sim_add(&s, &v, 2), PL_FENCED);
    sim_peer_new(&s, &other, 3, PL_SRTP_GCM, false);
    memcpy(other.leg.send_key, v.leg.send_key, PL_SRTP_KEY_MAX);
    assert_int_equal(sim_add(&s, &other, 1), PL_INVALID_REQUEST); /* S-M6: one key, one leg */
    sim_peer_new(&s, &next, 4, PL_SRTP_GCM, true);
    assert_int_equal(sim_open(&s, &next, 2), PL_OK); /* a newer generation takes over, with keys of its own */
    assert_true(sim_event(&s, RELAY_EV_ENDED, &e));
    assert_int_equal(e.ref.generation, 1);
    assert_int_equal(sim_open(&s, &hub, 1), PL_LIVE_ENDED);
    struct relay_ref keep = { s.live_id, 1 };
    struct relay_cmd sync = { .kind = RELAY_SYNC, .keep = &keep, .keep_n = 1 };
    assert_int_equal(relay_apply(s.relay, s.now, &sync, &s.sink), PL_OK); /* generation 2 is not wanted */
    assert_true(sim_event(&s, RELAY_EV_ENDED, &e));
    assert_int_equal(e.ref.generation, 2);
    struct relay_stats st;
    relay_stats(s.relay, &st);
    assert_true(st.sessions == 0 && st.viewers == 0);
    sim_peer_free(&next);
    sim_done(&s, &hub, &v, &other);
}

/* Of many sessions those go on that are named with their generation; the rest ends, whatever the order, and what is named and not there is nothing. */
static void what_is_wanted_is_picked_out_of_many(void **state)
{
    (void)state;
    enum { MANY = 300 };
    struct sim s;
    struct relay_ref keep[MANY], left[MANY];
    struct relay_event e;
    size_t n = 0;
    sim_new(&s, MANY, 4096);
    for (unsigned i = 0; i < MANY; i++) {
        struct relay_cmd open = { .kind = RELAY_OPEN, .ref = { { { 7, (uint8_t)(i >> 8), (uint8_t)i } }, 2 }, .expires_in_us = PL_HOUR, .leg.pending = true };
        assert_int_equal(relay_apply(s.relay, s.now, &open, &s.sink), PL_OK);
        keep[MANY - 1 - i] = (struct relay_ref){ open.ref.live_id, i % 3 }; /* 0 and 1: of generations that do not run here */
    }
    keep[MANY - 1].live_id.b[0] = 8; /* is not here */
    keep[MANY - 2] = keep[MANY - 3]; /* said twice */
    for (int again = 0; again < 2; again++) {
        struct relay_cmd sync = { .kind = RELAY_SYNC, .keep = keep, .keep_n = MANY };
        assert_int_equal(relay_apply(s.relay, s.now, &sync, &s.sink), PL_OK);
        n = relay_running(s.relay, left, MANY);
        assert_int_equal(n, MANY / 3);
    }
    for (size_t i = 0; i < n; i++)
        assert_true(left[i].live_id.b[0] == 7 && (left[i].live_id.b[1] * 256 + left[i].live_id.b[2]) % 3 == 2);
    for (n = 0; sim_event(&s, RELAY_EV_ENDED, &e); n++)
        assert_string_equal(e.code, "closed");
    assert_int_equal(n, MANY - MANY / 3);
    struct relay_cmd none = { .kind = RELAY_SYNC };
    assert_int_equal(relay_apply(s.relay, s.now, &none, &s.sink), PL_OK);
    assert_int_equal(relay_running(s.relay, left, MANY), 0);
    sim_free(&s);
}

static void full_is_said(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v[RELAY_VIEWERS + 1];
    sim_session(&s, &hub, PL_SRTP_GCM);
    for (unsigned i = 0; i <= RELAY_VIEWERS; i++) {
        sim_peer_new(&s, &v[i], 10 + i, PL_SRTP_GCM, false);
        assert_int_equal(sim_add(&s, &v[i], 1), i < RELAY_VIEWERS ? PL_OK : PL_VIEWERS_FULL);
        sim_peer_free(&v[i]);
    }
    for (unsigned i = 1; i <= 4; i++) {
        struct sim_peer h;
        s.live_id.b[1] = (uint8_t)i;
        sim_peer_new(&s, &h, 30 + i, PL_SRTP_GCM, true);
        assert_int_equal(sim_open(&s, &h, 1), i < 4 ? PL_OK : PL_NODE_FULL);
        sim_peer_free(&h);
    }
    sim_done(&s, &hub, NULL, NULL);
}

/* A source without ICE (ffmpeg) is found by its SSRC and believed by its tag. */
/* A relay that stood still itself (stopped, or its machine asleep) heard nobody: it listens again before it says that somebody is gone. */
static void who_was_away_blames_nobody(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    struct relay_event e;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_pass(&s, PL_SECOND, NULL, 0);
    s.now.us += 5 * PL_MINUTE;
    relay_tick(s.relay, s.now, &s.sink);
    sim_pass(&s, 2 * PL_SECOND, NULL, 0);
    assert_false(sim_event(&s, RELAY_EV_ENDED, &e));
    sim_check(&s, &hub, true);
    sim_pass(&s, PL_SECOND, NULL, 0);
    assert_true(sim_event(&s, RELAY_EV_VIEWER_GONE, &e)); /* the hub was heard, the viewer was not */
    assert_false(sim_event(&s, RELAY_EV_ENDED, &e));
    sim_done(&s, &hub, &v, NULL);
}

static void plain_source(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, fake;
    sim_new(&s, 4, 0);
    sim_peer_new(&s, &hub, 1, PL_SRTP_SHA1_80, true);
    hub.leg.plain = true;
    memset(&hub.leg.ice, 0, sizeof hub.leg.ice);
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_peer_new(&s, &fake, 5, PL_SRTP_SHA1_80, true);
    fake.leg.video.ssrc = hub.leg.video.ssrc;
    sim_hub_frame(&s, &fake, true, false, 2, -1);
    sim_deliver(&s, &v, &ignore);
    assert_int_equal(v.got[0], 0);
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    hub.addr.port++; /* its NAT gave it another port: the tag speaks for it */
    sim_hub_frame(&s, &hub, false, false, 2, -1);
    sim_deliver(&s, &v, &ignore);
    assert_true(v.frames == 2 && v.incomplete == 0);
    sim_rtcp(&s, &v, true, false);
    sim_pass(&s, 2100 * PL_MS, NULL, 0);
    sim_deliver(&s, &hub, &ignore);
    assert_true(hub.plis >= 1);
    sim_done(&s, &hub, &v, &fake);
}

/* Whoever types the command that starts a plain source has a minute; once it has sent, its silence is like any other's. */
static void a_plain_source_has_a_minute_to_come(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub;
    struct relay_event ev;
    sim_new(&s, 4, 0);
    sim_peer_new(&s, &hub, 1, PL_SRTP_SHA1_80, true);
    hub.leg.plain = true;
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
    sim_pass(&s, 59 * PL_SECOND, NULL, 0);
    assert_false(sim_event(&s, RELAY_EV_ENDED, &ev));
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    sim_pass(&s, 9 * PL_SECOND, NULL, 0);
    assert_false(sim_event(&s, RELAY_EV_ENDED, &ev));
    sim_pass(&s, 2 * PL_SECOND, NULL, 0);
    assert_true(sim_event(&s, RELAY_EV_ENDED, &ev) && strcmp(ev.code, "hub_lost") == 0);
    sim_done(&s, &hub, NULL, NULL);
}

/* Two cameras of one hub share its socket: told apart by SSRC. */
static void two_sources_on_one_address(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer a, b, v;
    sim_session(&s, &a, PL_SRTP_GCM);
    sim_peer_new(&s, &b, 5, PL_SRTP_GCM, true);
    b.addr = a.addr;
    struct pl_uuid first = s.live_id;
    s.live_id.b[0] = 2;
    assert_int_equal(sim_open(&s, &b, 1), PL_OK);
    sim_check(&s, &b, true);
    s.live_id = first;
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    for (int i = 0; i < 5; i++) {
        sim_hub_frame(&s, &b, i == 0, false, 2, -1);
        sim_hub_frame(&s, &a, i == 0, false, 2, -1);
    }
    sim_deliver(&s, &v, &ignore);
    assert_true(v.frames == 5 && v.incomplete == 0);
    struct relay_stats st;
    relay_stats(s.relay, &st);
    assert_true(st.unproved == 0 && st.packets_in == 22);
    sim_done(&s, &a, &b, &v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fan_out_with_mixed_suites), cmocka_unit_test(a_batch_is_one_run_a_viewer), cmocka_unit_test(s_m1_strangers_get_nothing),
        cmocka_unit_test(s_m2_path_moves_by_proof), cmocka_unit_test(s_m2_an_old_copy_of_a_check_moves_nothing), cmocka_unit_test(s_m2_copies_of_a_check_are_no_life),
        cmocka_unit_test(replayed_packets_are_refused), cmocka_unit_test(expiry_by_the_relays_own_clock),
        cmocka_unit_test(hub_lost_after_ten_seconds), cmocka_unit_test(v_f4_viewer_pause_and_loss), cmocka_unit_test(s_m7_control_lost),
        cmocka_unit_test(commands_are_fenced_and_repeatable), cmocka_unit_test(full_is_said), cmocka_unit_test(what_is_wanted_is_picked_out_of_many), cmocka_unit_test(who_was_away_blames_nobody),
        cmocka_unit_test(plain_source), cmocka_unit_test(a_plain_source_has_a_minute_to_come), cmocka_unit_test(two_sources_on_one_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
