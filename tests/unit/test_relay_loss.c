/* What networks lose, at the hub's side, at the viewers' and in queues between. Rules: V-A4, V-A5, V-E1, V-E4, S-M6. */
#include "relay_sim.h"

static size_t ignore;

enum { STORE = 512 };
struct lossy { /* the hub's leg: 5 % of the packets are lost each way, what arrives takes 20 ms */
    struct sim *s;
    struct sim_peer *hub;
    struct { uint8_t p[SIM_PACKET]; size_t n; uint16_t seq; } store[STORE];
    uint64_t sent, resent;
};

static bool lost(struct lossy *l) { return pl_rand_below(&l->s->rand.base, 100) < 5; }

static void lossy_picture(struct lossy *l, unsigned no)
{
    static const uint8_t params[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c };
    uint8_t payload[1000] = { 0 };
    bool key = no % 50 == 0;
    l->hub->ts += 3600;
    for (unsigned i = 0; i < (key ? 20u : 4u); i++) {
        uint16_t seq = l->hub->seq[0];
        bool last = i == (key ? 19u : 3u), first = i == 0;
        payload[0] = 0x7c;
        payload[1] = (uint8_t)((i == key ? 0x80 : 0) | (last ? 0x40 : 0) | (key ? 5 : 1));
        l->store[seq % STORE].seq = seq;
        l->store[seq % STORE].n = key && first ? sim_hub_packet(l->hub, 0, false, params, sizeof params, l->store[seq % STORE].p)
                                               : sim_hub_packet(l->hub, 0, last, payload, sizeof payload, l->store[seq % STORE].p);
        l->sent++;
        if (!lost(l))
            sim_in(l->s, &l->hub->addr, l->store[seq % STORE].p, l->store[seq % STORE].n);
    }
}

static void lossy_resend(struct lossy *l)
{
    for (unsigned i = 0; i < l->hub->nacked_n; i++) {
        uint16_t seq = l->hub->nacked[i];
        if (l->store[seq % STORE].n && l->store[seq % STORE].seq == seq && !lost(l)) {
            l->resent++;
            sim_in(l->s, &l->hub->addr, l->store[seq % STORE].p, l->store[seq % STORE].n);
        }
    }
    l->hub->nacked_n = 0;
}

/* 5 % loss on the hub's leg in both directions: the viewer misses one packet in a thousand at most, the requests are bounded. */
static void v_e1_what_the_hubs_network_loses_is_asked_for(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, *alive[2] = { &hub, &v };
    struct relay_stats st;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    struct lossy *l = pl_heap(sizeof *l);
    assert_non_null(l);
    l->s = &s;
    l->hub = &hub;
    for (unsigned no = 0; no < 3000; no++) { /* two minutes at 25 pictures a second */
        lossy_picture(l, no);
        sim_pass(&s, 20 * PL_MS, alive, 2);
        sim_deliver(&s, &v, &ignore);
        if (lost(l))
            s.queued = 0; /* what the relay asked for does not arrive */
        sim_deliver(&s, &hub, &ignore);
        lossy_resend(l);
        sim_pass(&s, 20 * PL_MS, alive, 2);
        sim_deliver(&s, &v, &ignore);
    }
    relay_stats(s.relay, &st);
    assert_true(l->sent > 12000 && l->resent > l->sent / 50);
    assert_true(st.lost * 1000 <= l->sent);
    assert_true(hub.nacks < l->sent / 5);
    uint64_t span = v.high[0] - v.first[0] + 1;
    assert_true(span > 12000 && (span - v.got[0]) * 1000 <= span);
    pl_heap_free(l);
    sim_done(&s, &hub, &v, NULL);
}

/* V-E1, S-M6: packets that are not passed on, too large or of another payload type, are numbered all the same: nothing was lost, nothing is asked for again, and when there were more of
 * them than 16 bits can count, what follows is new to the relay and to its viewers. */
static void v_e1_what_is_not_passed_on_is_numbered(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    struct relay_stats st;
    uint8_t p[SIM_PACKET], payload[1400] = { 0x41 };
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    for (unsigned i = 0; i < 3; i++)
        sim_in(&s, &hub.addr, p, sim_hub_packet(&hub, 0, false, payload, sizeof payload, p));
    for (unsigned round = 0; round < 2; round++) {
        hub.leg.video.payload_type++;
        for (unsigned i = 0; i < (round ? 33000 : 3); i++)
            sim_in(&s, &hub.addr, p, sim_hub_packet(&hub, 0, false, payload, 100, p));
        hub.leg.video.payload_type--;
        sim_hub_frame(&s, &hub, round, false, 2, -1);
        sim_pass(&s, 200 * PL_MS, (struct sim_peer *[]){ &hub, &v }, 2);
    }
    sim_hub_frame(&s, &hub, false, false, 2, -1);
    sim_deliver(&s, &hub, &ignore);
    sim_deliver(&s, &v, &ignore);
    relay_stats(s.relay, &st);
    assert_true(st.lost == 0 && st.replayed == 0 && hub.nacks == 0 && v.keys == 2);
    assert_int_equal(v.got[0], 3 + 2 + 3 + 2);
    sim_done(&s, &hub, &v, NULL);
}

/* V-A5: the first key frame was lost and nobody watches: the source is asked all the same, before anybody says that it makes none. */
static void v_a5_a_lost_first_key_frame_is_asked_for(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub;
    struct relay_event e;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 3, 0);
    sim_pass(&s, 400 * PL_MS, (struct sim_peer *[]){ &hub }, 1);
    sim_deliver(&s, &hub, &ignore);
    assert_int_equal(hub.plis, 0);
    sim_pass(&s, 200 * PL_MS, (struct sim_peer *[]){ &hub }, 1);
    sim_deliver(&s, &hub, &ignore);
    assert_int_equal(hub.plis, 1);
    sim_hub_frame(&s, &hub, true, false, 3, -1);
    assert_true(sim_event(&s, RELAY_EV_SOURCE_KEYFRAME, &e));
    sim_pass(&s, 11 * PL_SECOND, (struct sim_peer *[]){ &hub }, 1);
    sim_deliver(&s, &hub, &ignore);
    assert_true(hub.plis == 1 && !sim_event(&s, RELAY_EV_WARNING, &e));
    sim_done(&s, &hub, NULL, NULL);
}

/* V-A5: a publisher is asked by PLI, then by FIR, then through control, half a second each, as far as it has agreed to them; all that is one request. */
static void v_a5_a_publisher_is_asked_as_it_agreed(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 4; k++) {
        bool pli = k & 1, fir = k & 2;
        struct sim s;
        struct sim_peer hub;
        struct relay_event e;
        sim_new(&s, 4, 0);
        sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
        sim_as_webrtc(&hub, true);
        hub.leg.webrtc.pli = pli;
        hub.leg.webrtc.fir = fir;
        assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
        hub.assoc = sim_last_start(&s);
        sim_check(&s, &hub, true);
        sim_dtls_in(&s, &hub, RELAY_DTLS_KEYS, true);
        sim_hub_frame(&s, &hub, false, false, 2, -1); /* and after half a second it is asked */
        unsigned plis[] = { pli || !fir, pli || !fir, pli || !fir, 2 * (pli || !fir) }, firs[] = { fir && !pli, fir, fir, fir + (fir && !pli) };
        bool wanted = false;
        for (unsigned i = 0; i < 4; i++) {
            sim_pass(&s, i == 0 ? 600 * PL_MS : i == 3 ? 950 * PL_MS : 500 * PL_MS, (struct sim_peer *[]){ &hub }, 1);
            sim_deliver(&s, &hub, &ignore);
            assert_int_equal(hub.plis, plis[i]);
            assert_int_equal(hub.firs, firs[i]);
            wanted |= sim_event(&s, RELAY_EV_KEYFRAME_WANTED, &e);
            assert_true(wanted == (i > (pli && fir)));
        }
        sim_done(&s, &hub, NULL, NULL);
    }
}

/* A viewer's freeze is of pictures that went out whole: while each lacks a packet that the hub's network lost, it sees nothing new. */
static void pictures_with_holes_are_a_viewers_freeze(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, *alive[] = { &hub, &v };
    struct relay_session_stats st;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    for (unsigned i = 0; i < 100; i++) {
        sim_hub_frame(&s, &hub, i == 0, false, 3, i >= 50 && i < 75 ? 1 : -1);
        sim_pass(&s, 40 * PL_MS, alive, 2);
    }
    assert_true(relay_session_stats(s.relay, s.now, 0, &st));
    assert_int_equal(st.viewers[0].freezes.count, 1);
    assert_true(st.viewers[0].freezes.us > 900 * PL_MS && st.viewers[0].freezes.us < 1200 * PL_MS);
    sim_done(&s, &hub, &v, NULL);
}

/* RFC 4588 where it was agreed, else the very same bytes (S-M6); neither twice within 20 ms, nothing that never went out, nothing of long ago. */
static void v_e1_what_a_viewer_lost_is_sent_again(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        bool rtx = k & 1;
        struct sim s;
        struct sim_peer hub, v;
        struct sim_datagram was[8];
        sim_session(&s, &hub, PL_SRTP_GCM);
        sim_connected_viewer(&s, &v, 2, k & 2 ? PL_SRTP_SHA1_80 : PL_SRTP_GCM, rtx);
        sim_deliver(&s, &v, &ignore);
        sim_hub_frame(&s, &hub, true, false, 6, -1);
        size_t n = 0;
        for (size_t i = 0; i < s.queued; i++) /* all but RTCP */
            if (rtp_classify(s.queue[i].p, s.queue[i].n) == RTP_CLASS_RTP && ice_addr_eq(&s.queue[i].to, &v.addr))
                was[n++] = s.queue[i];
        assert_int_equal(n, 7);
        uint16_t first = (uint16_t)(was[0].p[2] << 8 | was[0].p[3]), want[3] = { (uint16_t)(first + 1), (uint16_t)(first + 3), (uint16_t)(first + 7) };
        sim_deliver(&s, &v, &ignore);
        s.now.us += PL_SECOND;
        sim_nack(&s, &v, v.leg.video.ssrc, want, 3);
        sim_nack(&s, &v, v.leg.video.ssrc, want, 3);
        sim_nack(&s, &v, v.leg.video.ssrc + 99, want, 3);
        if (rtx) {
            assert_int_equal(sim_deliver(&s, &v, &ignore), 2);
            assert_int_equal(v.rtx, 2);
        } else {
            assert_int_equal(s.queued, 2);
            for (size_t i = 0; i < 2; i++) {
                assert_int_equal(s.queue[i].n, was[1 + 2 * i].n);
                assert_memory_equal(s.queue[i].p, was[1 + 2 * i].p, s.queue[i].n);
            }
            s.queued = 0;
        }
        s.now.us += 25 * PL_MS;
        sim_nack(&s, &v, v.leg.video.ssrc, want, 1);
        assert_int_equal(s.queued, 1);
        s.queued = 0;
        for (unsigned i = 0; i < 100; i++) { /* V-E1: bounded, however often it is asked for everything */
            uint16_t all[7];
            for (unsigned j = 0; j < 7; j++)
                all[j] = (uint16_t)(first + j);
            s.now.us += 21 * PL_MS;
            sim_nack(&s, &v, v.leg.video.ssrc, all, 7);
        }
        assert_true(s.queued > 64 && s.queued < 620);
        struct relay_stats st;
        relay_stats(s.relay, &st);
        assert_int_equal(st.resent, s.queued + 3);
        sim_done(&s, &hub, &v, NULL);
    }
}

static bool has(const struct sim_peer *v, uint16_t number) { return v->seen[number / 8] >> number % 8 & 1; }

/* The first packets of a start are lost: the viewer cannot know, and its source was asked for a key frame a moment ago. It gets them again when it asks for a key frame. */
static void v_a1_a_start_whose_first_packets_are_lost_comes_again(void **state)
{
    (void)state;
    for (int rtx = 0; rtx < 2; rtx++) {
        struct sim s;
        struct sim_peer hub, v;
        sim_session(&s, &hub, PL_SRTP_GCM);
        sim_hub_frame(&s, &hub, true, false, 9, -1);
        sim_pass(&s, 40 * PL_MS, (struct sim_peer *[]){ &hub }, 1);
        sim_connected_viewer(&s, &v, 2, PL_SRTP_GCM, rtx);
        sim_pass(&s, 20 * PL_MS, (struct sim_peer *[]){ &hub, &v }, 2);
        sim_deliver(&s, &hub, &ignore);
        assert_int_equal(hub.plis, 1);
        uint16_t first = 0;
        size_t kept = 0, dropped = 0;
        for (size_t i = 0; i < s.queued; i++) {
            bool media = rtp_classify(s.queue[i].p, s.queue[i].n) == RTP_CLASS_RTP && ice_addr_eq(&s.queue[i].to, &v.addr);
            first = media && dropped == 0 ? (uint16_t)(s.queue[i].p[2] << 8 | s.queue[i].p[3]) : first;
            if (media && dropped < (rtx ? 3 : 10)) /* what comes again and is not wrapped is refused where it was not lost */
                dropped++;
            else
                s.queue[kept++] = s.queue[i];
        }
        s.queued = kept;
        sim_deliver(&s, &v, &ignore);
        sim_rtcp(&s, &v, true, false);
        sim_deliver(&s, &v, &ignore);
        assert_false(has(&v, first)); /* so soon it is not told apart from a frame that is on its way */
        sim_pass(&s, 200 * PL_MS, (struct sim_peer *[]){ &hub, &v }, 2);
        sim_rtcp(&s, &v, true, false);
        uint64_t frames = s.queued;
        sim_deliver(&s, &v, &ignore);
        for (unsigned i = 0; i < 10; i++)
            assert_true(has(&v, (uint16_t)(first + i)));
        assert_true(frames >= 10 && (!rtx || v.rtx == 10));
        sim_rtcp(&s, &v, true, false);
        assert_int_equal(s.queued, 0);
        sim_pass(&s, 100 * PL_MS, (struct sim_peer *[]){ &hub, &v }, 2);
        s.queued = 0;
        sim_rtcp(&s, &v, true, false);
        assert_int_equal(s.queued, 10); /* what came again may be lost, too */
        sim_pass(&s, 1500 * PL_MS, (struct sim_peer *[]){ &hub, &v }, 2);
        assert_int_equal(hub.plis, 1); /* V-A5 */
        sim_pass(&s, 500 * PL_MS, (struct sim_peer *[]){ &hub, &v }, 2);
        sim_deliver(&s, &hub, &ignore);
        assert_int_equal(hub.plis, 2); /* a fresh one is on its way: */
        s.queued = 0;
        sim_rtcp(&s, &v, true, false);
        assert_int_equal(s.queued, 0);
        sim_done(&s, &hub, &v, NULL);
    }
}

/* A start that is still on its way does not come twice, one that comes again is no burst, and once there is a newer key frame it is over. */
static void v_e4_a_start_that_comes_again_is_no_burst(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, *both[] = { &hub, &v };
    struct relay_stats st;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 400, -1);
    sim_pass(&s, 40 * PL_MS, both, 1);
    sim_connected_viewer(&s, &v, 2, PL_SRTP_GCM, true);
    sim_pass(&s, 150 * PL_MS, both, 2);
    sim_deliver(&s, &v, &ignore);
    assert_true(v.got[0] > 24 && v.got[0] < 400);
    sim_rtcp(&s, &v, true, false);
    relay_stats(s.relay, &st);
    assert_int_equal(st.resent, 0);
    sim_pass(&s, 600 * PL_MS, both, 2);
    sim_deliver(&s, &v, &ignore);
    assert_true(v.got[0] > 400);
    sim_rtcp(&s, &v, true, false);
    relay_stats(s.relay, &st);
    assert_true(st.resent >= 20 && st.resent <= 32);
    uint64_t resent = st.resent;
    sim_hub_frame(&s, &hub, true, false, 9, -1);
    sim_pass(&s, 120 * PL_MS, both, 2);
    sim_rtcp(&s, &v, true, false);
    relay_stats(s.relay, &st);
    assert_int_equal(st.resent, resent);
    sim_done(&s, &hub, &v, NULL);
}

/* 5 % of what goes to the viewer is lost, and of what it asks, 100 ms away: one packet in a thousand is missing at most. */
static void v_e1_a_lossy_viewer(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    uint64_t lost = 0, high = 0;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_connected_viewer(&s, &v, 2, PL_SRTP_GCM, true);
    sim_deliver(&s, &v, &ignore);
    static uint16_t missing[4096];
    for (unsigned no = 0; no < 3000; no++) {
        sim_hub_frame(&s, &hub, no % 50 == 0, false, no % 50 ? 4 : 20, -1);
        sim_pass(&s, 40 * PL_MS, (struct sim_peer *[]){ &hub, &v }, 2);
        size_t kept = 0;
        for (size_t i = 0; i < s.queued; i++) {
            bool media = rtp_classify(s.queue[i].p, s.queue[i].n) == RTP_CLASS_RTP;
            if (media && pl_rand_below(&s.rand.base, 100) < 5) {
                lost++;
                continue;
            }
            s.queue[kept++] = s.queue[i];
        }
        s.queued = kept;
        sim_deliver(&s, &v, &ignore);
        sim_deliver(&s, &hub, &ignore);
        high = v.high[0];
        unsigned n = 0;
        uint64_t from = high > v.first[0] + 400 ? high - 400 : v.first[0];
        for (uint64_t q = from; q < high && n < 200; q++)
            if (!(v.seen[(uint16_t)q / 8] >> (uint16_t)q % 8 & 1))
                missing[n++] = (uint16_t)q;
        if (n && pl_rand_below(&s.rand.base, 100) >= 5)
            sim_nack(&s, &v, v.leg.video.ssrc, missing, n);
    }
    uint64_t gone = 0, span = high - v.first[0] - 400;
    for (uint64_t q = v.first[0]; q < v.first[0] + span; q++)
        gone += !(v.seen[(uint16_t)q / 8] >> (uint16_t)q % 8 & 1);
    assert_true(span > 12000 && lost > span / 30 && v.rtx > span / 30 && gone * 1000 <= span);
    assert_true(v.transport_gap <= lost && v.transport_gap + 8 > lost); /* each packet had its own number */
    sim_done(&s, &hub, &v, NULL);
}

/* ---- The shortest queue on the way. */

enum { QUEUE = 32 /* packets */, WATCHERS = 9 };
struct queue { /* what it holds leaves at its rate; what finds it full is lost */
    int64_t leaves[QUEUE], free_at;
    unsigned first, n;
    uint64_t came, lost;
};

static void enqueue(struct queue *q, int64_t now, size_t bytes, int64_t bps)
{
    while (q->n && q->leaves[q->first] <= now) {
        q->first = (q->first + 1) % QUEUE;
        q->n--;
    }
    q->came++;
    if (q->n == QUEUE) {
        q->lost++;
        return;
    }
    q->free_at = (q->free_at > now ? q->free_at : now) + (int64_t)bytes * 8 * PL_SECOND / bps;
    q->leaves[(q->first + q->n++) % QUEUE] = q->free_at;
}

static void through_queues(struct sim *s, struct sim_peer *v, struct queue *q, int64_t bps)
{
    for (size_t i = 0; i < s->queued; i++)
        for (unsigned k = 0; k < WATCHERS; k++)
            if (ice_addr_eq(&s->queue[i].to, &v[k].addr))
                enqueue(&q[k], s->now.us, s->queue[i].n + 28, bps);
    s->queued = 0;
}

/* Viewers that come at any place between two key frames of 60 packets, each with a queue of 32 packets before it that is drained at 2.5 times the camera's rate, lose one packet in five
 * thousand at most; the same packets, sent as they come in, lose one in fifty. */
static void v_e4_nothing_drowns_in_a_short_queue(void **state)
{
    (void)state;
    static const struct { unsigned packets; int64_t bps; } ways[] = { { 8, 10000000 }, { 16, 20000000 } };
    for (size_t w = 0; w < PL_COUNT(ways); w++) {
        struct sim s;
        struct sim_peer hub, v[WATCHERS], *alive[1 + WATCHERS] = { &hub };
        struct queue q[WATCHERS] = { { .came = 0 } }, bare = { .came = 0 };
        unsigned joined = 0;
        sim_session(&s, &hub, PL_SRTP_GCM);
        for (unsigned k = 0; k < WATCHERS; k++) {
            sim_peer_new(&s, &v[k], 2 + k, PL_SRTP_GCM, false);
            alive[1 + k] = &v[k];
        }
        for (unsigned ms = 0; ms < 16000; ms += 5) {
            if (ms % 40 == 0) {
                bool key = ms % 2000 == 0;
                unsigned packets = key ? 60 : ways[w].packets;
                sim_hub_frame(&s, &hub, key, false, packets, -1);
                for (unsigned i = 0; i < packets + key; i++)
                    enqueue(&bare, s.now.us, 1156, ways[w].bps);
            }
            if (ms % 20 == 0)
                sim_hub_audio(&s, &hub);
            if (joined < WATCHERS && ms == 500 + joined * 835) {
                assert_int_equal(sim_add(&s, &v[joined], 1), PL_OK);
                sim_check(&s, &v[joined++], true);
            }
            through_queues(&s, v, q, ways[w].bps);
            sim_pass(&s, 5 * PL_MS, alive, 1 + joined);
            through_queues(&s, v, q, ways[w].bps);
        }
        uint64_t came = 0, lost = 0;
        for (unsigned k = 0; k < WATCHERS; k++) {
            came += q[k].came;
            lost += q[k].lost;
            sim_peer_free(&v[k]);
        }
        if (came < 25000 || lost * 5000 > came || bare.lost * 50 < bare.came)
            fail_msg("%zu: %llu of %llu lost, unpaced %llu of %llu", w, (unsigned long long)lost, (unsigned long long)came, (unsigned long long)bare.lost,
                (unsigned long long)bare.came);
        sim_done(&s, &hub, NULL, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v_e1_what_is_not_passed_on_is_numbered), cmocka_unit_test(v_a5_a_lost_first_key_frame_is_asked_for),
        cmocka_unit_test(v_a5_a_publisher_is_asked_as_it_agreed),
        cmocka_unit_test(pictures_with_holes_are_a_viewers_freeze),
        cmocka_unit_test(v_e1_what_the_hubs_network_loses_is_asked_for), cmocka_unit_test(v_e1_what_a_viewer_lost_is_sent_again),
        cmocka_unit_test(v_a1_a_start_whose_first_packets_are_lost_comes_again), cmocka_unit_test(v_e4_a_start_that_comes_again_is_no_burst),
        cmocka_unit_test(v_e1_a_lossy_viewer), cmocka_unit_test(v_e4_nothing_drowns_in_a_short_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
