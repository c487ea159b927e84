/* relay_sim.h - a hub, viewers and a fixed clock around one struct relay, for unit tests and fuzz targets: no socket, no thread, no real time. */
#pragma once
#include "h264.h"
#include "relay.h"
#include "relay_oracle.h"
#include "rtcp.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { SIM_QUEUE = 8192, SIM_PACKET = 1500, SIM_LARGE = 4096 };
struct sim_datagram {
    struct ice_addr to;
    size_t n;
    uint8_t p[SIM_PACKET];
};
struct sim_dtls { /* what the relay has told the other side of DTLS */
    enum relay_dtls_out_kind kind;
    uint64_t assoc;
    size_t n;
    uint8_t first; /* byte of the datagram */
    bool active;
};
enum { SIM_DTLS = 256 };
struct sim {
    struct relay_sink sink;
    struct relay *relay;
    struct pl_rand_seeded rand;
    struct pl_mono now;
    struct stun_mac *mac;
    struct pl_uuid live_id;
    size_t queued, largest_run;
    struct sim_datagram *queue; /* what the relay has sent and nobody has taken */
    struct oracle *oracle;
    uint8_t check_no;
    struct sim_dtls dtls[SIM_DTLS];
    size_t dtls_n;
    bool dtls_full; /* it takes no further association */
};
struct sim_peer {
    struct ice_addr addr;
    struct relay_leg leg;
    char id[RELAY_ID_TEXT];
    struct pl_srtp *media; /* hub: protects, viewer: unprotects */
    struct pl_srtp *back;  /* RTCP the other way */
    uint64_t assoc;        /* WebRTC */
    uint64_t rtx;          /* packets that were wrapped as RFC 4588 says */
    uint16_t rtx_next, transport_next;
    uint64_t transport_gap; /* transport-wide numbers that never came */
    uint8_t seen[65536 / 8]; /* video numbers that came, wrapped or not */
    /* hub */
    uint16_t seq[2];
    uint32_t ts;
    unsigned plis, firs, nacks;
    uint64_t told_ntp; /* the relay's own time, as it said last, and its SSRC here */
    uint32_t told_ssrc;
    uint16_t nacked[1024]; /* video numbers that the relay asked for since somebody looked */
    unsigned nacked_n;
    /* viewer */
    struct rtp_seq ext[2];
    uint64_t got[2], first[2], high[2];
    uint32_t last_ts;
    struct h264_unpack *unpack;
    unsigned frames, keys, incomplete, srs;
    uint32_t sr_ts[2];
    uint64_t sr_ntp[2];
    bool first_is_key;
    bool asked_key;
};

static void sim_take(struct relay_sink *self, const struct relay_run *run)
{
    struct sim *s = (struct sim *)self;
    size_t segments = 0;
    for (size_t at = 0; at < run->n; at += run->segment, segments++) {
        assert_true(s->queued < SIM_QUEUE);
        struct sim_datagram *d = &s->queue[s->queued++];
        d->to = *run->to;
        d->n = run->n - at < run->segment ? run->n - at : run->segment;
        assert_true(d->n <= SIM_PACKET);
        memcpy(d->p, run->p + at, d->n);
        oracle_sent(s->oracle, d->p, d->n);
    }
    assert_true(segments <= 64 && run->n <= 65507);
    s->largest_run = segments > s->largest_run ? segments : s->largest_run;
}

static bool sim_dtls_take(struct relay_sink *self, const struct relay_dtls_out *out)
{
    struct sim *s = (struct sim *)self;
    if (s->dtls_full && out->kind == RELAY_DTLS_START)
        return false;
    assert_true(s->dtls_n < SIM_DTLS && out->assoc != 0);
    s->dtls[s->dtls_n++] = (struct sim_dtls){ .kind = out->kind, .assoc = out->assoc, .n = out->n, .first = out->n ? out->p[0] : 0,
        .active = out->kind == RELAY_DTLS_START && out->webrtc->active };
    return true;
}

static inline void sim_new(struct sim *s, unsigned max_sessions, size_t ring)
{
    memset(s, 0, sizeof *s);
    s->sink.send = sim_take;
    s->sink.dtls = sim_dtls_take;
    s->now.us = 1000 * PL_SECOND;
    s->queue = pl_heap(SIM_QUEUE * sizeof *s->queue);
    s->oracle = pl_heap(sizeof *s->oracle);
    assert_true(s->queue && s->oracle);
    pl_rand_seed(&s->rand, 42);
    s->live_id.b[0] = 1;
    assert_int_equal(stun_mac_new(&s->mac), PL_OK);
    assert_int_equal(relay_new(&(struct relay_conf){ .max_sessions = max_sessions, .ring_bytes = ring, .rand = &s->rand.base }, &s->relay), PL_OK);
}

static inline void sim_free(struct sim *s)
{
    s->relay = relay_free(s->relay);
    s->mac = stun_mac_free(s->mac);
    s->queue = pl_heap_free(s->queue);
    s->oracle = oracle_free(s->oracle);
}

/* A peer number `no` (its address, keys, ufrags and SSRCs come from that). `hub`: the source. */
static inline void sim_peer_new(struct sim *s, struct sim_peer *p, unsigned no, enum pl_srtp_suite suite, bool hub)
{
    memset(p, 0, sizeof *p);
    p->addr = (struct ice_addr){ .ip = { 192, 0, 2, (uint8_t)no }, .port = (uint16_t)(4000 + no), .family = 4 };
    struct relay_leg *l = &p->leg;
    uint32_t base = 0x10000 * no + (hub ? 0x80000000 : 0);
    l->suite = suite;
    l->video = (struct relay_track_conf){ base + 1, hub ? 96 : 102 };
    l->audio = (struct relay_track_conf){ base + 2, hub ? 111 : 112 };
    if (hub)
        l->talk = (struct relay_track_conf){ base + 3, 113 };
    pl_rand_fill(&s->rand.base, l->receive_key, sizeof l->receive_key);
    pl_rand_fill(&s->rand.base, l->send_key, sizeof l->send_key);
    char ufrag[8] = "uf00", peer[8] = "pe00";
    ufrag[2] = peer[2] = (char)('0' + no / 10);
    ufrag[3] = peer[3] = (char)('0' + no % 10);
    assert_int_equal(ice_cred_set(&l->ice, pl_str_of(ufrag), PL_STR("0123456789abcdefghijKL"), pl_str_of(peer)), PL_OK);
    memcpy(p->id, ufrag, sizeof ufrag);
    struct pl_srtp_conf media = { .suite = suite, .receive = !hub, .key = hub ? l->receive_key : l->send_key, .key_n = pl_srtp_key_bytes(suite) };
    struct pl_srtp_conf back = { .suite = suite, .receive = hub, .key = hub ? l->send_key : l->receive_key, .key_n = pl_srtp_key_bytes(suite) };
    assert_int_equal(pl_srtp_new(&media, &p->media), PL_OK);
    assert_int_equal(pl_srtp_new(&back, &p->back), PL_OK);
    if (!hub)
        assert_int_equal(h264_unpack_new(1 << 20, &p->unpack), PL_OK);
    p->seq[0] = 65500; /* the source wraps early in every test */
    p->seq[1] = 7;
}

static inline void sim_peer_free(struct sim_peer *p)
{
    p->media = pl_srtp_free(p->media);
    p->back = pl_srtp_free(p->back);
    p->unpack = h264_unpack_free(p->unpack);
}

static inline enum pl_err sim_open(struct sim *s, const struct sim_peer *hub, int64_t generation)
{
    struct relay_cmd c = { .kind = RELAY_OPEN, .ref = { s->live_id, generation }, .expires_in_us = PL_HOUR, .leg = hub->leg };
    return relay_apply(s->relay, s->now, &c, &s->sink);
}

static inline enum pl_err sim_add(struct sim *s, const struct sim_peer *v, int64_t generation)
{
    struct relay_cmd c = { .kind = RELAY_VIEWER_ADD, .ref = { s->live_id, generation }, .leg = v->leg };
    memcpy(c.viewer_id, v->id, sizeof c.viewer_id);
    oracle_fresh(s->oracle, v->leg.video.ssrc);
    oracle_fresh(s->oracle, v->leg.audio.ssrc);
    oracle_fresh(s->oracle, v->leg.webrtc.rtx.ssrc);
    return relay_apply(s->relay, s->now, &c, &s->sink);
}

static inline void sim_in(struct sim *s, const struct ice_addr *from, const uint8_t *p, size_t n)
{
    uint8_t copy[SIM_LARGE];
    assert_true(n <= sizeof copy);
    memcpy(copy, p, n);
    struct relay_in in = { copy, n, *from };
    relay_step(s->relay, s->now, &in, 1, &s->sink);
}

/* A new check of this peer, as it leaves; `out` holds STUN_MAX. */
static inline size_t sim_check_write(struct sim *s, const struct sim_peer *p, bool nominate, uint8_t *out)
{
    char name[64];
    struct pl_buf b = pl_buf_fixed(name, sizeof name);
    pl_buf_fmt(&b, "%s:%s", p->leg.ice.ufrag, p->leg.ice.peer_ufrag);
    struct stun_request r = { .username = pl_buf_view(&b), .password = pl_str_of(p->leg.ice.pwd), .priority = 1, .tie_breaker = 2, .controlling = true, .use_candidate = nominate };
    size_t n;
    pl_rand_fill(&s->rand.base, r.tid, sizeof r.tid);
    assert_int_equal(stun_write_request(s->mac, &r, out, STUN_MAX, &n), PL_OK);
    return n;
}

static inline void sim_check(struct sim *s, struct sim_peer *p, bool nominate)
{
    uint8_t out[STUN_MAX];
    sim_in(s, &p->addr, out, sim_check_write(s, p, nominate, out));
}

/* Writes one protected packet of the hub; `out` has room for it. */
static inline size_t sim_hub_packet(struct sim_peer *h, unsigned track, bool marker, const uint8_t *payload, size_t payload_n, uint8_t *out)
{
    struct rtp_header head = { .payload_type = track ? h->leg.audio.payload_type : h->leg.video.payload_type, .marker = marker, .seq = h->seq[track]++, .timestamp = h->ts,
        .ssrc = track ? h->leg.audio.ssrc : h->leg.video.ssrc };
    size_t n = RTP_HEADER + payload_n;
    rtp_write(&head, out);
    memcpy(out + RTP_HEADER, payload, payload_n);
    assert_int_equal(pl_srtp_protect_rtp(h->media, out, &n, n + PL_SRTP_RTP_OVERHEAD), PL_OK);
    return n;
}

/* A frame of `packets` packets: key frames start with SPS and PPS (unless `bare`). `drop`: this packet of it is lost, -1: none. */
static inline void sim_hub_frame(struct sim *s, struct sim_peer *h, bool key, bool bare, unsigned packets, int drop)
{
    uint8_t payload[1200], out[SIM_PACKET];
    static const uint8_t params[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c };
    int no = 0;
    h->ts += 3000;
    if (key && !bare) {
        size_t n = sim_hub_packet(h, 0, false, params, sizeof params, out);
        if (no++ != drop)
            sim_in(s, &h->addr, out, n);
    }
    for (unsigned i = 0; i < packets; i++) {
        memset(payload, (int)(h->seq[0] | 1) & 0xff, sizeof payload);
        payload[0] = 0x7c;
        payload[1] = (uint8_t)((i == 0 ? 0x80 : 0) | (i == packets - 1 ? 0x40 : 0) | (key ? 5 : 1));
        size_t size = i == packets - 1 ? 400 : 1100;
        size_t n = sim_hub_packet(h, 0, i == packets - 1, payload, size, out);
        if (no++ != drop)
            sim_in(s, &h->addr, out, n);
    }
}

static inline void sim_hub_audio(struct sim *s, struct sim_peer *h)
{
    uint8_t out[SIM_PACKET], payload[80];
    memset(payload, 5, sizeof payload);
    size_t n = sim_hub_packet(h, 1, false, payload, sizeof payload, out);
    sim_in(s, &h->addr, out, n);
}

static inline void sim_rtcp(struct sim *s, struct sim_peer *p, bool pli, bool sr)
{
    p->asked_key |= pli;
    uint8_t out[256];
    struct pl_buf b = pl_buf_fixed(out, sizeof out - PL_SRTP_RTCP_OVERHEAD);
    uint32_t ssrc = p->unpack ? 0xabc : p->leg.video.ssrc; /* viewers have an SSRC of their own, hubs report under their media's */
    if (sr)
        rtcp_put_sr(&b, ssrc, (UINT64_C(77) << 32) + ((uint64_t)s->now.us << 32) / PL_SECOND, p->ts, 1, 2, NULL, 0);
    else
        rtcp_put_rr(&b, ssrc, NULL, 0);
    rtcp_put_cname(&b, ssrc, PL_STR("x"));
    if (pli)
        rtcp_put_pli(&b, ssrc, p->leg.video.ssrc);
    size_t n = b.n;
    assert_int_equal(pl_srtp_protect_rtcp(p->unpack ? p->back : p->media, out, &n, sizeof out), PL_OK);
    sim_in(s, &p->addr, out, n);
}

static inline void sim_nack_in(struct sim_peer *p, const struct rtcp_item *it)
{
    p->nacks++;
    for (unsigned i = 0; i < it->count; i++) {
        uint16_t seq, mask;
        rtcp_nack_at(it, i, &seq, &mask);
        for (unsigned bit = 0; bit <= 16; bit++)
            if (bit == 0 || mask >> (bit - 1) & 1) {
                assert_true(p->nacked_n < 1024);
                p->nacked[p->nacked_n++] = (uint16_t)(seq + bit);
            }
    }
}

static inline void sim_rtcp_in(struct sim_peer *p, uint8_t *q, size_t n)
{
    struct rtcp_item it;
    assert_int_equal(pl_srtp_unprotect_rtcp(p->unpack ? p->media : p->back, q, &n), PL_OK);
    struct pl_rd r = pl_rd_of(q, n);
    while (rtcp_next(&r, &it) == PL_OK && it.type != RTCP_END) {
        if (it.type == RTCP_PLI) {
            assert_int_equal(it.media_ssrc, p->leg.video.ssrc);
            p->plis++;
        }
        p->firs += it.type == RTCP_FIR;
        if (it.type == RTCP_NACK && it.media_ssrc == p->leg.video.ssrc)
            sim_nack_in(p, &it);
        if (it.type == RTCP_XR) {
            p->told_ntp = it.xr_ntp;
            p->told_ssrc = it.ssrc;
        }
        if (it.type == RTCP_SR) {
            p->srs++;
            p->sr_ts[it.ssrc == p->leg.audio.ssrc] = it.sr.timestamp;
            p->sr_ntp[it.ssrc == p->leg.audio.ssrc] = it.sr.ntp;
        }
    }
}

static inline void sim_rtp_in(struct sim_peer *p, uint8_t *q, size_t n)
{
    struct rtp_packet k;
    const uint8_t *ext;
    size_t ext_n;
    enum pl_err e = pl_srtp_unprotect_rtp(p->media, q, &n);
    if (e == PL_REPLAY && p->asked_key && !p->leg.webrtc.rtx.ssrc) /* the start comes again, byte for byte, to who may have lost some of it */
        return;
    assert_int_equal(e, PL_OK); /* S-M6: a number that came twice would be a replay here */
    assert_int_equal(rtp_parse(q, n, &k), PL_OK);
    const struct relay_webrtc *w = &p->leg.webrtc;
    bool wants_ext = w->on && w->rtx.ssrc && (w->ext_transport_cc || w->ext_abs_send_time);
    assert_int_equal(k.ext != NULL, wants_ext);
    if (wants_ext && w->ext_transport_cc) {
        assert_true(rtp_ext_find(&k, w->ext_transport_cc, &ext, &ext_n) && ext_n == 2);
        uint16_t number = (uint16_t)(ext[0] << 8 | ext[1]), step = (uint16_t)(number - p->transport_next);
        assert_true(step < 0x8000);
        p->transport_gap += step;
        p->transport_next = (uint16_t)(number + 1);
    } else if (wants_ext) {
        assert_true(rtp_ext_find(&k, w->ext_abs_send_time, &ext, &ext_n) && ext_n == 3);
    }
    if (w->on && w->rtx.ssrc && k.h.ssrc == w->rtx.ssrc) {
        assert_true(k.h.payload_type == w->rtx.payload_type && k.payload_n > 2 && (p->rtx == 0 || (uint16_t)(k.h.seq - p->rtx_next) < 0x8000));
        p->rtx_next = (uint16_t)(k.h.seq + 1);
        p->rtx++;
        uint16_t original = (uint16_t)(k.payload[0] << 8 | k.payload[1]);
        p->seen[original / 8] |= (uint8_t)(1 << original % 8);
        return;
    }
    if (k.h.ssrc == p->leg.video.ssrc)
        p->seen[k.h.seq / 8] |= (uint8_t)(1 << k.h.seq % 8);
    unsigned track = k.h.ssrc == p->leg.audio.ssrc;
    assert_int_equal(k.h.ssrc, track ? p->leg.audio.ssrc : p->leg.video.ssrc);
    assert_int_equal(k.h.payload_type, track ? p->leg.audio.payload_type : p->leg.video.payload_type);
    uint64_t seq = rtp_seq_extend(&p->ext[track], k.h.seq);
    if (p->got[track]++ == 0) {
        p->first[track] = seq;
        p->first_is_key = p->first_is_key || (!track && h264_scan(k.payload, k.payload_n).key);
    }
    p->high[track] = seq > p->high[track] ? seq : p->high[track];
    if (track)
        return;
    p->last_ts = k.h.timestamp;
    h264_unpack_push(p->unpack, &k);
    struct h264_au au;
    while (h264_unpack_take(p->unpack, &au)) {
        p->frames++;
        p->keys += au.key && au.complete;
        p->incomplete += !au.complete;
    }
}

/* Gives a peer what the relay has sent to its address; returns the datagrams. Answers to checks are counted in *answers. */
static inline size_t sim_deliver(struct sim *s, struct sim_peer *p, size_t *answers)
{
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < s->queued; i++) {
        struct sim_datagram *d = &s->queue[i];
        if (!ice_addr_eq(&d->to, &p->addr)) {
            if (kept != i)
                s->queue[kept] = *d;
            kept++;
            continue;
        }
        n++;
        switch (rtp_classify(d->p, d->n)) {
        case RTP_CLASS_STUN: *answers += 1; break;
        case RTP_CLASS_RTCP: sim_rtcp_in(p, d->p, d->n); break;
        case RTP_CLASS_RTP: sim_rtp_in(p, d->p, d->n); break;
        default: fail_msg("the relay sent something strange"); break;
        }
    }
    s->queued = kept;
    return n;
}

/* Time passes in steps of 50 ms; peers that are given keep checking every 2 s. */
static inline void sim_pass(struct sim *s, int64_t us, struct sim_peer **alive, size_t n)
{
    int64_t end = s->now.us + us;
    while (s->now.us < end) {
        s->now.us += 5 * PL_MS;
        if (s->now.us % (2 * PL_SECOND) == 0)
            for (size_t i = 0; i < n; i++)
                sim_check(s, alive[i], true);
        relay_pace(s->relay, s->now, &s->sink);
        relay_tick(s->relay, s->now, &s->sink);
    }
}

/* Until the pacer has nothing left. */
static inline void sim_settle(struct sim *s)
{
    for (unsigned i = 0; i < 1000 && relay_due(s->relay) == RELAY_PACE_US; i++)
        sim_pass(s, RELAY_PACE_US, NULL, 0);
    assert_int_not_equal(relay_due(s->relay), RELAY_PACE_US);
}

/* Takes events up to the first of that kind. False when there is none. */
static inline bool sim_event(struct sim *s, enum relay_event_kind kind, struct relay_event *ret)
{
    while (relay_take_event(s->relay, ret))
        if (ret->kind == kind)
            return true;
    return false;
}

/* ---- What most tests begin and end with. */

/* A relay with a session whose hub is connected. */
static inline void sim_session(struct sim *s, struct sim_peer *hub, enum pl_srtp_suite suite)
{
    size_t answers = 0;
    sim_new(s, 4, 0);
    sim_peer_new(s, hub, 1, suite, true);
    assert_int_equal(sim_open(s, hub, 1), PL_OK);
    sim_check(s, hub, true);
    assert_int_equal(sim_deliver(s, hub, &answers), 1);
    assert_int_equal(answers, 1);
}

/* A native viewer, connected. */
static inline void sim_viewer(struct sim *s, struct sim_peer *v, unsigned no, enum pl_srtp_suite suite)
{
    sim_peer_new(s, v, no, suite, false);
    assert_int_equal(sim_add(s, v, 1), PL_OK);
    sim_check(s, v, true);
}

/* Nothing was dropped or left out; frees all, b and c may be NULL. */
static inline void sim_done(struct sim *s, struct sim_peer *a, struct sim_peer *b, struct sim_peer *c)
{
    struct relay_stats st;
    relay_stats(s->relay, &st);
    assert_true(st.events_dropped == 0 && st.not_sent == 0);
    sim_free(s);
    sim_peer_free(a);
    if (b)
        sim_peer_free(b);
    if (c)
        sim_peer_free(c);
}

/* No number is missing in what came. */
static inline void sim_contiguous(const struct sim_peer *v)
{
    for (unsigned t = 0; t < 2; t++)
        if (v->got[t])
            assert_int_equal(v->high[t] - v->first[t] + 1, v->got[t]);
}

/* ---- WebRTC peers: a handshake is what its doors say of it, keys are handed in. */

static const uint8_t sim_hello[] = { 22, 254, 253, 0, 0 };

/* The peer's media contexts stay as sim_peer_new made them: its keys become the association's. */
static inline void sim_as_webrtc(struct sim_peer *p, bool active)
{
    p->leg.webrtc = (struct relay_webrtc){ .on = true, .active = active, .fingerprints = { { 7 } }, .suites = { p->leg.suite }, .suites_n = 1, .nack = true, .pli = true };
}

static inline uint64_t sim_last_start(const struct sim *s)
{
    assert_true(s->dtls_n > 0 && s->dtls[s->dtls_n - 1].kind == RELAY_DTLS_START);
    return s->dtls[s->dtls_n - 1].assoc;
}

static inline void sim_webrtc_viewer(struct sim *s, struct sim_peer *v, unsigned no, bool active)
{
    sim_peer_new(s, v, no, PL_SRTP_GCM, false);
    sim_as_webrtc(v, active);
    assert_int_equal(sim_add(s, v, 1), PL_OK);
    v->assoc = sim_last_start(s);
}

static inline void sim_dtls_in(struct sim *s, const struct sim_peer *p, enum relay_dtls_in_kind kind, bool peer_finished)
{
    struct relay_dtls_in in = { .kind = kind, .assoc = p->assoc, .suite = p->leg.suite, .peer_finished = peer_finished, .p = sim_hello, .n = sizeof sim_hello, .code = "dtls_alert" };
    memcpy(in.receive_key, p->leg.receive_key, sizeof in.receive_key);
    memcpy(in.send_key, p->leg.send_key, sizeof in.send_key);
    relay_dtls(s->relay, s->now, &in, &s->sink);
}

static inline void sim_connected_viewer(struct sim *s, struct sim_peer *v, unsigned no, enum pl_srtp_suite suite, bool rtx)
{
    sim_peer_new(s, v, no, suite, false);
    sim_as_webrtc(v, true);
    v->leg.webrtc.ext_transport_cc = 5;
    if (rtx)
        v->leg.webrtc.rtx = (struct relay_track_conf){ v->leg.video.ssrc + 7, 103, false };
    struct relay_stats before, after;
    assert_int_equal(sim_add(s, v, 1), PL_OK);
    relay_stats(s->relay, &before);
    v->assoc = sim_last_start(s);
    sim_check(s, v, true);
    sim_dtls_in(s, v, RELAY_DTLS_KEYS, true);
    relay_stats(s->relay, &after);
    assert_int_equal(after.viewers, before.viewers); /* its keys were taken */
}

/* A viewer asks for these again. */
static inline void sim_nack(struct sim *s, struct sim_peer *v, uint32_t ssrc, const uint16_t *seqs, unsigned n)
{
    uint8_t out[1200];
    struct pl_buf b = pl_buf_fixed(out, sizeof out - PL_SRTP_RTCP_OVERHEAD);
    rtcp_put_rr(&b, 0xabc, NULL, 0);
    rtcp_put_nack(&b, 0xabc, ssrc, seqs, n);
    size_t size = b.n;
    assert_int_equal(pl_srtp_protect_rtcp(v->back, out, &size, sizeof out), PL_OK);
    sim_in(s, &v->addr, out, size);
}
