/* WebRTC ends of the relay's pure step. A handshake is what its doors say of it: keys are handed in. Rules: V-A2, S-M2, S-M6, RFC 7983. */
#include "relay_sim.h"

static size_t ignore;

static size_t count(const struct sim *s, enum relay_dtls_out_kind kind, uint64_t assoc)
{
    size_t n = 0;
    for (size_t i = 0; i < s->dtls_n; i++)
        n += s->dtls[i].kind == kind && s->dtls[i].assoc == assoc;
    return n;
}

/* A key frame that was there before the keys is the first that the viewer sees, whole; our ClientHello leaves right behind the answer to the check that nominates. */
static void v_a2_media_waits_for_keys(void **state)
{
    (void)state;
    for (int order = 0; order < 2; order++) {
        struct sim s;
        struct sim_peer hub, v;
        sim_session(&s, &hub, PL_SRTP_GCM);
        sim_webrtc_viewer(&s, &v, 2, true);
        assert_true(s.dtls[0].active);
        sim_dtls_in(&s, &v, RELAY_DTLS_SEND, false); /* the path is not there: it is held */
        assert_int_equal(s.queued, 0);
        sim_check(&s, &v, true);
        assert_int_equal(s.queued, 2);
        assert_int_equal(rtp_classify(s.queue[0].p, s.queue[0].n), RTP_CLASS_STUN);
        assert_int_equal(rtp_classify(s.queue[1].p, s.queue[1].n), RTP_CLASS_DTLS);
        s.queued = 0;
        sim_check(&s, &v, true);
        assert_true(s.queued == 1 && count(&s, RELAY_DTLS_PATH, v.assoc) == 1); /* once, and again when it moves */
        v.addr.port++;
        sim_check(&s, &v, true);
        assert_int_equal(count(&s, RELAY_DTLS_PATH, v.assoc), 2);
        s.queued = 0;
        sim_in(&s, &v.addr, sim_hello, sizeof sim_hello);
        assert_int_equal(count(&s, RELAY_DTLS_DATA, v.assoc), 1);
        sim_hub_frame(&s, &hub, true, false, 5, -1);
        sim_hub_frame(&s, &hub, false, false, 2, -1);
        assert_int_equal(s.queued, 0); /* not a byte of media without keys */
        sim_dtls_in(&s, &v, RELAY_DTLS_KEYS, order == 1);
        sim_hub_frame(&s, &hub, false, false, 2, -1);
        sim_deliver(&s, &v, &ignore);
        assert_true(v.frames == 3 && v.keys == 1 && v.incomplete == 0 && v.first_is_key);
        struct relay_event e;
        assert_true(sim_event(&s, RELAY_EV_VIEWER_CONNECTED, &e) && sim_event(&s, RELAY_EV_VIEWER_KEYFRAME, &e));
        sim_done(&s, &hub, &v, NULL);
    }
}

/* Keys first and path second is the same: passive, and a peer that nominates late. */
static void keys_before_the_path(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 5, -1);
    sim_webrtc_viewer(&s, &v, 2, false);
    sim_in(&s, &v.addr, sim_hello, sizeof sim_hello); /* of a stranger so far */
    assert_int_equal(count(&s, RELAY_DTLS_DATA, v.assoc), 0);
    sim_check(&s, &v, false); /* proved, not nominated: its ClientHello is taken, the answer waits */
    sim_in(&s, &v.addr, sim_hello, sizeof sim_hello);
    assert_int_equal(count(&s, RELAY_DTLS_DATA, v.assoc), 1);
    s.queued = 0;
    sim_dtls_in(&s, &v, RELAY_DTLS_SEND, false);
    sim_dtls_in(&s, &v, RELAY_DTLS_KEYS, true);
    assert_int_equal(s.queued, 0);
    sim_check(&s, &v, true);
    assert_int_equal(rtp_classify(s.queue[1].p, s.queue[1].n), RTP_CLASS_DTLS);
    memmove(&s.queue[1], &s.queue[2], (s.queued - 2) * sizeof *s.queue);
    s.queued--;
    sim_deliver(&s, &v, &ignore);
    assert_true(v.frames == 1 && v.keys == 1 && v.first_is_key);
    sim_done(&s, &hub, &v, NULL);
}

/* A browser with two networks checks both and decides late: its ClientHello counts from wherever it was proved, and nothing goes anywhere until it has decided. */
static void an_early_hello_from_any_proved_address(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_webrtc_viewer(&s, &v, 2, false);
    struct ice_addr a = v.addr, b = a, stranger = a;
    b.port++;
    stranger.port += 2;
    for (int i = 0; i < 2; i++) { /* both are kept warm */
        v.addr = a;
        sim_check(&s, &v, false);
        v.addr = b;
        sim_check(&s, &v, false);
    }
    s.queued = 0;
    sim_in(&s, &a, sim_hello, sizeof sim_hello);
    sim_in(&s, &b, sim_hello, sizeof sim_hello);
    assert_int_equal(count(&s, RELAY_DTLS_DATA, v.assoc), 2);
    sim_in(&s, &stranger, sim_hello, sizeof sim_hello);
    assert_int_equal(count(&s, RELAY_DTLS_DATA, v.assoc), 2);
    sim_dtls_in(&s, &v, RELAY_DTLS_SEND, false);
    assert_int_equal(s.queued, 0);
    sim_check(&s, &v, true);
    assert_int_equal(s.queued, 2);
    assert_true(rtp_classify(s.queue[1].p, s.queue[1].n) == RTP_CLASS_DTLS && ice_addr_eq(&s.queue[1].to, &b));
    sim_in(&s, &a, sim_hello, sizeof sim_hello); /* it has decided: the other one is nobody's now */
    assert_int_equal(count(&s, RELAY_DTLS_DATA, v.assoc), 2);
    s.queued = 0;
    sim_done(&s, &hub, &v, NULL);
}

/* S-M2: what the peer sends is believed after its Finished, not before; its first packet that verifies ends the association, a timer does so for one that is silent. */
static void believed_after_finished(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, quiet;
    struct relay_stats a, b;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_webrtc_viewer(&s, &v, 2, true);
    sim_check(&s, &v, true);
    sim_dtls_in(&s, &v, RELAY_DTLS_FINISHED, false); /* without keys it means nothing */
    sim_dtls_in(&s, &v, RELAY_DTLS_KEYS, false);
    relay_stats(s.relay, &a);
    sim_rtcp(&s, &v, true, false);
    relay_stats(s.relay, &b);
    assert_int_equal(b.unknown, a.unknown + 1);
    assert_int_equal(count(&s, RELAY_DTLS_END, v.assoc), 0);
    sim_dtls_in(&s, &v, RELAY_DTLS_FINISHED, false);
    sim_rtcp(&s, &v, true, false);
    assert_int_equal(count(&s, RELAY_DTLS_END, v.assoc), 1);
    relay_stats(s.relay, &a);
    assert_int_equal(a.unknown, b.unknown);
    sim_in(&s, &v.addr, sim_hello, sizeof sim_hello); /* nobody takes it any more */
    assert_int_equal(count(&s, RELAY_DTLS_DATA, v.assoc), 0);
    uint8_t talk[SIM_PACKET] = { 0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 9, 9 };
    size_t n = 60;
    assert_int_equal(pl_srtp_protect_rtp(v.back, talk, &n, sizeof talk), PL_OK);
    sim_in(&s, &v.addr, talk, n);
    relay_stats(s.relay, &a);
    assert_int_equal(a.talk_in, 1);
    sim_webrtc_viewer(&s, &quiet, 3, true);
    sim_check(&s, &quiet, true);
    sim_dtls_in(&s, &quiet, RELAY_DTLS_KEYS, true);
    sim_pass(&s, 6 * PL_SECOND, (struct sim_peer *[]){ &hub, &v, &quiet }, 3);
    assert_int_equal(count(&s, RELAY_DTLS_END, quiet.assoc), 1);
    sim_peer_free(&quiet);
    sim_done(&s, &hub, &v, NULL);
}

/* Ends come with a word to the other side; results for an association that is gone move nothing; ids are never the same. */
static void associations_end(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, again;
    struct relay_event e;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_webrtc_viewer(&s, &v, 2, true);
    sim_dtls_in(&s, &v, RELAY_DTLS_FAILED, false);
    assert_true(sim_event(&s, RELAY_EV_VIEWER_GONE, &e));
    assert_string_equal(e.code, "dtls_alert");
    assert_int_equal(count(&s, RELAY_DTLS_END, v.assoc), 1);
    sim_webrtc_viewer(&s, &again, 2, true); /* the same place */
    assert_true(again.assoc != v.assoc);
    sim_dtls_in(&s, &v, RELAY_DTLS_KEYS, true);
    sim_dtls_in(&s, &v, RELAY_DTLS_FAILED, false);
    assert_false(sim_event(&s, RELAY_EV_VIEWER_GONE, &e));
    struct relay_cmd remove = { .kind = RELAY_VIEWER_REMOVE, .ref = { s.live_id, 1 } };
    memcpy(remove.viewer_id, again.id, sizeof again.id);
    assert_int_equal(relay_apply(s.relay, s.now, &remove, &s.sink), PL_OK);
    assert_int_equal(count(&s, RELAY_DTLS_END, again.assoc), 1);
    s.dtls_full = true;
    assert_int_equal(sim_add(&s, &again, 1), PL_OVERLOADED);
    s.dtls_full = false;
    s.sink.dtls = NULL;
    assert_int_equal(sim_add(&s, &again, 1), PL_UNAVAILABLE);
    s.sink.dtls = sim_dtls_take;
    struct relay_stats st;
    relay_stats(s.relay, &st);
    assert_int_equal(st.viewers, 0);
    sim_peer_free(&again);
    sim_done(&s, &hub, &v, NULL);
}

/* S-M6: keys that a handshake brings are as new as any. */
static void s_m6_keys_of_a_handshake_are_new(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, a, b;
    struct relay_event e;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_webrtc_viewer(&s, &a, 2, true);
    sim_webrtc_viewer(&s, &b, 3, true);
    memcpy(b.leg.send_key, a.leg.send_key, PL_SRTP_KEY_MAX);
    sim_dtls_in(&s, &a, RELAY_DTLS_KEYS, true);
    sim_dtls_in(&s, &b, RELAY_DTLS_KEYS, true);
    assert_true(sim_event(&s, RELAY_EV_VIEWER_GONE, &e));
    assert_string_equal(e.viewer_id, b.id);
    assert_string_equal(e.code, "dtls_refused"); /* a name that the server knows */
    sim_peer_free(&b);
    sim_done(&s, &hub, &a, NULL);
}

/* A peer that nobody hears of again: its ICE and keys stay 30 s, its media stops after 5; a check in between brings the picture back without a word to the cloud. */
static void v_f4_a_browser_that_is_gone(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    struct relay_event e;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_webrtc_viewer(&s, &v, 2, true);
    sim_check(&s, &v, true);
    sim_dtls_in(&s, &v, RELAY_DTLS_KEYS, true);
    sim_hub_frame(&s, &hub, true, false, 3, -1);
    sim_pass(&s, 20 * PL_SECOND, (struct sim_peer *[]){ &hub }, 1);
    s.queued = 0;
    sim_hub_frame(&s, &hub, true, false, 3, -1);
    assert_int_equal(sim_deliver(&s, &v, &ignore), 0);
    sim_check(&s, &v, true);
    assert_true(sim_deliver(&s, &v, &ignore) > 3 && v.keys == 1);
    sim_pass(&s, 29 * PL_SECOND, (struct sim_peer *[]){ &hub }, 1);
    assert_false(sim_event(&s, RELAY_EV_VIEWER_GONE, &e));
    sim_pass(&s, 2 * PL_SECOND, (struct sim_peer *[]){ &hub }, 1);
    assert_true(sim_event(&s, RELAY_EV_VIEWER_GONE, &e));
    assert_string_equal(e.code, "viewer_lost");
    sim_done(&s, &hub, &v, NULL);
}

/* WHIP: the session's source is a WebRTC peer. */
static void a_source_by_webrtc(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    struct relay_event e;
    sim_new(&s, 4, 0);
    sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
    sim_as_webrtc(&hub, false);
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
    hub.assoc = sim_last_start(&s);
    sim_peer_new(&s, &v, 2, PL_SRTP_SHA1_80, false);
    assert_int_equal(sim_add(&s, &v, 1), PL_OK);
    sim_check(&s, &v, true);
    sim_check(&s, &hub, true);
    sim_hub_frame(&s, &hub, true, false, 3, -1); /* before there are keys here */
    assert_false(sim_event(&s, RELAY_EV_SOURCE_CONNECTED, &e));
    sim_dtls_in(&s, &hub, RELAY_DTLS_KEYS, false);
    sim_hub_frame(&s, &hub, true, false, 3, -1); /* before its Finished */
    assert_true(sim_event(&s, RELAY_EV_SOURCE_CONNECTED, &e));
    assert_false(sim_event(&s, RELAY_EV_SOURCE_MEDIA, &e));
    sim_deliver(&s, &v, &ignore);
    assert_int_equal(v.got[0], 0);
    sim_dtls_in(&s, &hub, RELAY_DTLS_FINISHED, false);
    assert_int_equal(count(&s, RELAY_DTLS_END, hub.assoc), 1);
    sim_deliver(&s, &v, &ignore);
    assert_true(v.frames == 1 && v.keys == 1 && v.first_is_key); /* V-A2: it was held */
    sim_hub_frame(&s, &hub, true, false, 3, -1);
    sim_deliver(&s, &v, &ignore);
    assert_true(v.frames == 2 && v.keys == 2);
    struct relay_stats st;
    relay_stats(s.relay, &st);
    assert_true(st.lost == 0 && st.unproved == 0 && st.replayed == 0);
    struct relay_cmd close = { .kind = RELAY_CLOSE, .ref = { s.live_id, 1 } };
    assert_int_equal(relay_apply(s.relay, s.now, &close, &s.sink), PL_OK);
    sim_done(&s, &hub, &v, NULL);
}

/* V-A2: what a publisher sends before its Finished was read here is held, so much and no more; what is not its own among that takes nobody in (S-M2). */
static void v_a2_a_publishers_first_words_are_held(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub;
    struct relay_stats st;
    uint8_t p[SIM_PACKET];
    sim_new(&s, 4, 0);
    sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
    sim_as_webrtc(&hub, true);
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
    hub.assoc = sim_last_start(&s);
    sim_check(&s, &hub, true);
    sim_dtls_in(&s, &hub, RELAY_DTLS_KEYS, false);
    size_t n = sim_hub_packet(&hub, 0, false, (const uint8_t[]){ 0x67, 1 }, 2, p);
    p[n - 1] ^= 1;
    sim_in(&s, &hub.addr, p, n); /* a stranger's */
    for (unsigned i = 0; i < 10; i++)
        sim_hub_frame(&s, &hub, i == 0, false, 10, -1);
    relay_stats(s.relay, &st);
    assert_true(st.packets_in == 0 && st.unproved == 0);
    sim_dtls_in(&s, &hub, RELAY_DTLS_FINISHED, false);
    relay_stats(s.relay, &st);
    assert_true(st.packets_in > 20 && st.packets_in < 40 && st.unproved == 1);
    sim_hub_frame(&s, &hub, false, false, 1, -1);
    relay_stats(s.relay, &st);
    assert_true(st.packets_in > 21 && st.lost > 60);
    sim_dtls_in(&s, &hub, RELAY_DTLS_FINISHED, false);
    sim_done(&s, &hub, NULL, NULL);
}

/* A handshake with the publisher that fails ends the session with its code; one that never comes does after 30 s. */
static void a_publisher_that_fails(void **state)
{
    (void)state;
    for (int silent = 0; silent < 2; silent++) {
        struct sim s;
        struct sim_peer hub;
        struct relay_event e;
        sim_new(&s, 1, 0);
        sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
        sim_as_webrtc(&hub, true);
        assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
        hub.assoc = sim_last_start(&s);
        if (silent) {
            sim_pass(&s, 29 * PL_SECOND, NULL, 0);
            assert_false(sim_event(&s, RELAY_EV_ENDED, &e));
            sim_pass(&s, 2 * PL_SECOND, NULL, 0);
        } else {
            sim_dtls_in(&s, &hub, RELAY_DTLS_FAILED, false);
        }
        assert_true(sim_event(&s, RELAY_EV_ENDED, &e));
        assert_string_equal(e.code, silent ? "hub_lost" : "dtls_alert");
        assert_int_equal(count(&s, RELAY_DTLS_END, hub.assoc), 1);
        sim_done(&s, &hub, NULL, NULL);
    }
}

/* ICE restart: new credentials count from the first check that proves them, the old ones until then; keys, numbers and picture stay. */
static void an_ice_restart_keeps_everything_else(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, old;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_webrtc_viewer(&s, &v, 2, true);
    sim_check(&s, &v, true);
    sim_dtls_in(&s, &v, RELAY_DTLS_KEYS, true);
    sim_hub_frame(&s, &hub, true, false, 3, -1);
    struct relay_cmd c = { .kind = RELAY_VIEWER_RESTART, .ref = { s.live_id, 1 }, .leg.ice = hub.leg.ice };
    memcpy(c.viewer_id, v.id, sizeof c.viewer_id);
    assert_int_equal(relay_apply(s.relay, s.now, &c, &s.sink), PL_INVALID_REQUEST); /* somebody else's name */
    assert_int_equal(ice_cred_set(&c.leg.ice, PL_STR("never"), PL_STR("0123456789abcdefghijKL"), PL_STR("used")), PL_OK);
    assert_int_equal(relay_apply(s.relay, s.now, &c, &s.sink), PL_OK);
    assert_int_equal(ice_cred_set(&c.leg.ice, PL_STR("next"), PL_STR("abcdefghijKL0123456789"), PL_STR("peer")), PL_OK);
    assert_int_equal(relay_apply(s.relay, s.now, &c, &s.sink), PL_OK);
    assert_int_equal(relay_apply(s.relay, s.now, &c, &s.sink), PL_OK);
    sim_deliver(&s, &v, &ignore);
    old = v;
    sim_check(&s, &v, true); /* the old ones still count */
    assert_int_equal(sim_deliver(&s, &v, &ignore), 1);
    v.leg.ice = c.leg.ice;
    v.addr.port = 9;
    sim_check(&s, &v, true);
    assert_int_equal(sim_deliver(&s, &v, &ignore), 1);
    sim_check(&s, &old, true); /* and now they do not */
    assert_int_equal(sim_deliver(&s, &old, &ignore), 0);
    sim_hub_frame(&s, &hub, false, false, 3, -1);
    sim_deliver(&s, &v, &ignore);
    assert_true(v.frames == 2 && v.incomplete == 0 && v.high[0] - v.first[0] + 1 == v.got[0]);
    c.ref.generation = 2;
    assert_int_equal(relay_apply(s.relay, s.now, &c, &s.sink), PL_FENCED);
    sim_done(&s, &hub, &v, NULL);
}

/* The same for a publisher: its session, keys and viewers stay. */
static void an_ice_restart_of_a_publisher(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    sim_new(&s, 4, 0);
    sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
    sim_as_webrtc(&hub, false);
    struct relay_cmd c = { .kind = RELAY_RESTART, .ref = { s.live_id, 1 } };
    assert_int_equal(ice_cred_set(&c.leg.ice, PL_STR("next"), PL_STR("abcdefghijKL0123456789"), PL_STR("peer")), PL_OK);
    assert_int_equal(relay_apply(s.relay, s.now, &c, &s.sink), PL_NOT_FOUND);
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
    hub.assoc = sim_last_start(&s);
    sim_peer_new(&s, &v, 2, PL_SRTP_GCM, false);
    assert_int_equal(sim_add(&s, &v, 1), PL_OK);
    sim_check(&s, &v, true);
    sim_check(&s, &hub, true);
    sim_dtls_in(&s, &hub, RELAY_DTLS_KEYS, false);
    sim_dtls_in(&s, &hub, RELAY_DTLS_FINISHED, false);
    sim_hub_frame(&s, &hub, true, false, 3, -1);
    assert_int_equal(relay_apply(s.relay, s.now, &c, &s.sink), PL_OK);
    sim_hub_frame(&s, &hub, false, false, 3, -1); /* the old way still counts */
    hub.leg.ice = c.leg.ice;
    hub.addr.port = 9;
    sim_check(&s, &hub, true);
    assert_int_equal(sim_deliver(&s, &hub, &ignore), 1); /* answered, at the new address */
    sim_hub_frame(&s, &hub, false, false, 3, -1);
    sim_deliver(&s, &v, &ignore);
    assert_true(v.frames == 3 && v.incomplete == 0 && v.keys == 1);
    c.ref.generation = 2;
    assert_int_equal(relay_apply(s.relay, s.now, &c, &s.sink), PL_FENCED);
    sim_done(&s, &hub, &v, NULL);
}

/* Viewers may be there before the publisher's offer is: the session waits for its source, and takes one. */
static void a_source_that_comes_later(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, other;
    struct relay_event e;
    sim_new(&s, 4, 0);
    sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
    struct relay_cmd pending = { .kind = RELAY_OPEN, .ref = { s.live_id, 1 }, .expires_in_us = PL_HOUR, .leg.pending = true };
    assert_int_equal(relay_apply(s.relay, s.now, &pending, &s.sink), PL_OK);
    assert_int_equal(relay_apply(s.relay, s.now, &pending, &s.sink), PL_OK);
    sim_webrtc_viewer(&s, &v, 2, true);
    sim_check(&s, &v, true);
    sim_dtls_in(&s, &v, RELAY_DTLS_KEYS, true);
    sim_pass(&s, 34 * PL_SECOND, (struct sim_peer *[]){ &v }, 1);
    assert_false(sim_event(&s, RELAY_EV_ENDED, &e));
    s.queued = 0;
    sim_as_webrtc(&hub, true);
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
    hub.assoc = sim_last_start(&s);
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK); /* a repetition */
    sim_peer_new(&s, &other, 3, PL_SRTP_GCM, true);
    assert_int_equal(sim_open(&s, &other, 1), PL_VERSION_CONFLICT);
    sim_check(&s, &hub, true);
    sim_dtls_in(&s, &hub, RELAY_DTLS_KEYS, true);
    sim_hub_frame(&s, &hub, true, false, 3, -1);
    sim_deliver(&s, &v, &ignore);
    assert_true(v.frames == 1 && v.keys == 1);
    sim_peer_free(&other);
    sim_done(&s, &hub, &v, NULL);
}

/* V-C7: a source that never comes, or whose offer is none, has half a minute; who watches then learns that it is over, and the place is another's. */
static void v_c7_a_source_that_never_comes(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    struct relay_event e;
    struct relay_stats st;
    sim_new(&s, 1, 0);
    struct pl_mono opened = s.now;
    struct relay_cmd pending = { .kind = RELAY_OPEN, .ref = { s.live_id, 1 }, .expires_in_us = PL_HOUR, .leg.pending = true };
    assert_int_equal(relay_apply(s.relay, s.now, &pending, &s.sink), PL_OK);
    sim_webrtc_viewer(&s, &v, 2, true);
    sim_check(&s, &v, true);
    sim_dtls_in(&s, &v, RELAY_DTLS_KEYS, true);
    struct sim_peer *alive[] = { &v };
    sim_pass(&s, 20 * PL_SECOND, alive, 1);
    sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
    hub.leg.video.ssrc = hub.leg.audio.ssrc;
    sim_as_webrtc(&hub, true);
    assert_int_equal(sim_open(&s, &hub, 1), PL_INVALID_REQUEST); /* gives it no more time */
    assert_int_equal(relay_apply(s.relay, s.now, &pending, &s.sink), PL_OK); /* nor does that */
    sim_pass(&s, 15 * PL_SECOND - 10 * PL_MS, alive, 1);
    assert_false(sim_event(&s, RELAY_EV_ENDED, &e));
    s.queued = 0;
    sim_pass(&s, 10 * PL_MS, alive, 1);
    assert_true(sim_event(&s, RELAY_EV_ENDED, &e));
    assert_string_equal(e.code, "hub_lost");
    assert_int_equal(e.at.us - opened.us, 35 * PL_SECOND);
    relay_stats(s.relay, &st);
    assert_true(st.sessions == 0 && st.viewers == 0);
    s.queued = 0;
    s.live_id.b[5] = 9;
    sim_peer_free(&hub);
    sim_peer_new(&s, &hub, 3, PL_SRTP_GCM, true);
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
    sim_done(&s, &hub, &v, NULL);
}

/* A publisher whose offer names no SSRC: the first of the agreed payload type that verifies. */
static void an_ssrc_that_nobody_said(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, teller;
    sim_new(&s, 4, 0);
    sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
    sim_as_webrtc(&hub, true);
    teller = hub;
    teller.leg.video = (struct relay_track_conf){ 0, hub.leg.video.payload_type, true };
    teller.leg.audio = (struct relay_track_conf){ 0, hub.leg.audio.payload_type, true };
    assert_int_equal(sim_open(&s, &teller, 1), PL_OK);
    hub.assoc = sim_last_start(&s);
    sim_webrtc_viewer(&s, &v, 2, true);
    sim_check(&s, &v, true);
    sim_dtls_in(&s, &v, RELAY_DTLS_KEYS, true);
    sim_check(&s, &hub, true);
    sim_dtls_in(&s, &hub, RELAY_DTLS_KEYS, true);
    sim_hub_frame(&s, &hub, true, false, 3, -1);
    sim_hub_audio(&s, &hub);
    sim_rtcp(&s, &hub, false, true);
    sim_deliver(&s, &v, &ignore);
    assert_true(v.frames == 1 && v.keys == 1 && v.got[1] == 1 && v.srs == 3); /* a report with the first packet of each, and the hub's own, which knows it by its new name */
    sim_peer_new(&s, &teller, 3, PL_SRTP_GCM, false);
    teller.leg.video = (struct relay_track_conf){ 0, 96, true };
    sim_as_webrtc(&teller, true);
    assert_int_equal(sim_add(&s, &teller, 1), PL_INVALID_REQUEST); /* a viewer's SSRCs are ours to draw */
    sim_peer_free(&teller);
    sim_done(&s, &hub, &v, NULL);
}

/* A camera that is copied as it is cannot make a key frame when asked: it is never asked, and its viewers start from what the ring holds. */
static void a_source_that_cannot_is_not_asked(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    struct relay_event e;
    sim_new(&s, 4, 0);
    sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
    hub.leg.no_key_frames = true;
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
    sim_check(&s, &hub, true);
    sim_hub_frame(&s, &hub, true, false, 3, -1);
    sim_hub_frame(&s, &hub, false, false, 3, -1);
    sim_webrtc_viewer(&s, &v, 2, true);
    sim_check(&s, &v, true);
    sim_dtls_in(&s, &v, RELAY_DTLS_KEYS, true);
    sim_rtcp(&s, &v, true, false);
    sim_pass(&s, 4 * PL_SECOND, (struct sim_peer *[]){ &hub, &v }, 2);
    sim_deliver(&s, &hub, &ignore);
    sim_deliver(&s, &v, &ignore);
    assert_true(hub.plis == 0 && v.frames == 2 && v.keys == 1);
    assert_false(sim_event(&s, RELAY_EV_KEYFRAME_WANTED, &e));
    sim_done(&s, &hub, &v, NULL);
}

/* An offer without H.264 (Firefox without its plugin): sound alone. */
static void a_viewer_that_only_listens(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_peer_new(&s, &v, 2, PL_SRTP_GCM, false);
    sim_as_webrtc(&v, true);
    v.leg.video = (struct relay_track_conf){ 0 };
    assert_int_equal(sim_add(&s, &v, 1), PL_OK);
    v.assoc = sim_last_start(&s);
    sim_check(&s, &v, true);
    sim_dtls_in(&s, &v, RELAY_DTLS_KEYS, true);
    sim_deliver(&s, &v, &ignore);
    for (unsigned i = 0; i < 10; i++) {
        sim_hub_frame(&s, &hub, i == 0, false, 3, -1);
        sim_hub_audio(&s, &hub);
    }
    assert_int_equal(sim_deliver(&s, &v, &ignore), 11);
    assert_true(v.got[1] == 10 && v.got[0] == 0 && v.srs == 1);
    sim_deliver(&s, &hub, &ignore);
    assert_int_equal(hub.plis, 0);
    v.leg.audio = v.leg.video;
    memcpy(v.id, "x", 2);
    assert_int_equal(sim_add(&s, &v, 1), PL_INVALID_REQUEST); /* nothing at all is no viewer */
    sim_done(&s, &hub, &v, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v_a2_media_waits_for_keys), cmocka_unit_test(keys_before_the_path), cmocka_unit_test(an_early_hello_from_any_proved_address), cmocka_unit_test(believed_after_finished),
        cmocka_unit_test(associations_end), cmocka_unit_test(s_m6_keys_of_a_handshake_are_new), cmocka_unit_test(v_f4_a_browser_that_is_gone),
        cmocka_unit_test(a_source_by_webrtc), cmocka_unit_test(v_a2_a_publishers_first_words_are_held), cmocka_unit_test(a_publisher_that_fails),
        cmocka_unit_test(an_ice_restart_keeps_everything_else),
        cmocka_unit_test(an_ice_restart_of_a_publisher), cmocka_unit_test(a_source_that_comes_later), cmocka_unit_test(an_ssrc_that_nobody_said),
        cmocka_unit_test(v_c7_a_source_that_never_comes),
        cmocka_unit_test(a_source_that_cannot_is_not_asked), cmocka_unit_test(a_viewer_that_only_listens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
