/* test_stream.c - the two ends of a live session: the hub's sender on a clock that the test moves, the viewer's parts, and a real stream of the hub (threads,
 * sockets, encoder) watched by the viewer's receiver and decoder, with a few lines of relay in between. */
#include "decoder.h"
#include "ice_lite.h"
#include "measure.h"
#include "pattern.h"
#include "receiver.h"
#include "reorder.h"
#include "rtcp.h"
#include "secure.h"
#include "stream.h"
#include "strip.h"
#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <unistd.h>
#include <cmocka.h>

static const uint8_t key_up[30] = "hub to relay, thirty bytes....", key_down[30] = "relay to hub, thirty bytes....";
static const uint8_t key_view[30] = "relay to viewer, thirty bytes.", key_say[30] = "viewer to relay, thirty bytes.";
enum { VIDEO = 1111, AUDIO = 2222, VIDEO_PT = 96, AUDIO_PT = 111, RELAY = 3333 };

static struct ice_cred cred_of(const char *ufrag)
{
    struct ice_cred c;
    assert_int_equal(ice_cred_set(&c, pl_str_of(ufrag), PL_STR("a password of some length"), PL_STR("peerpeer")), PL_INVALID_REQUEST); /* blanks are no ice-chars */
    assert_int_equal(ice_cred_set(&c, pl_str_of(ufrag), PL_STR("ApasswordOfSomeLength123"), PL_STR("peerpeer")), PL_OK);
    return c;
}
static struct pl_str key_str(const uint8_t key[30], enum pl_srtp_suite suite) { return (struct pl_str){ (const char *)key, pl_srtp_key_bytes(suite) }; }

/* --- the sender, on a fixed clock ------------------------------------------------------------------------------------------------------- */

struct bench {
    struct pl_clock_fixed clock;
    struct pl_rand_seeded rand;
    struct sender *sender;
    struct pl_srtp *in, *out; /* the relay's side */
    struct stun_mac *mac;
    struct ice_lite ice;
    unsigned stun, media, reports, byes, too_long;
    unsigned again;              /* packets that came a second time, the same to the byte */
    uint8_t seen[64][1500];      /* by number */
    size_t seen_n[64];
    uint16_t last_seq;
    struct rtcp_dlrr back;       /* what came back of the relay's time last */
    unsigned backs;
    uint8_t answer[STUN_MAX];
    size_t answer_n;
};

/* S-M6: a number that comes twice is the very same packet. */
static void media_in(struct bench *b, const uint8_t *p, uint8_t *copy, size_t n)
{
    uint16_t seq = (uint16_t)(p[2] << 8 | p[3]);
    size_t *seen_n = &b->seen_n[seq % 64], whole = n;
    enum pl_err e = pl_srtp_unprotect_rtp(b->in, copy, &n);
    if (e == PL_REPLAY) {
        assert_true(*seen_n == whole && memcmp(b->seen[seq % 64], p, whole) == 0);
        b->again++;
        return;
    }
    assert_int_equal(e, PL_OK);
    memcpy(b->seen[seq % 64], p, whole);
    *seen_n = whole;
    b->last_seq = seq;
    b->media++;
}

static void relay_sees(void *self, const uint8_t *p, size_t n)
{
    struct bench *b = self;
    uint8_t copy[2048];
    struct stun_msg msg;
    struct ice_lite_result r;
    struct rtcp_item item;
    const struct ice_addr from = { .ip = { 127, 0, 0, 1 }, .port = 4000, .family = 4 };
    memcpy(copy, p, n);
    b->too_long += n > 1200;
    switch (rtp_classify(p, n)) {
    case RTP_CLASS_STUN:
        b->stun++;
        assert_int_equal(stun_parse(p, n, &msg), PL_OK);
        assert_true(msg.controlling && msg.use_candidate);
        assert_int_equal(ice_lite_check(b->mac, &b->ice, &msg, &from, b->answer, sizeof b->answer, &r), PL_OK);
        b->answer_n = r.answer_n;
        break;
    case RTP_CLASS_RTP:
        media_in(b, p, copy, n);
        break;
    case RTP_CLASS_RTCP:
        assert_int_equal(pl_srtp_unprotect_rtcp(b->in, copy, &n), PL_OK);
        for (struct pl_rd rd = pl_rd_of(copy, n); rtcp_next(&rd, &item) == PL_OK && item.type != RTCP_END;) {
            b->reports += item.type == RTCP_SR;
            b->byes += item.type == RTCP_BYE;
            if (item.type == RTCP_XR && item.count == 1) {
                b->back = rtcp_dlrr_at(&item, 0);
                b->backs++;
            }
        }
        break;
    default: fail_msg("a packet that is none of ours");
    }
}

static void bench_open(struct bench *b, int64_t hard_end_us)
{
    *b = (struct bench){ 0 };
    pl_clock_fixed_init(&b->clock, INT64_C(1790000000000000));
    pl_rand_seed(&b->rand, 7);
    b->ice.cred = cred_of("relayfrag");
    assert_int_equal(stun_mac_new(&b->mac), PL_OK);
    const struct pl_srtp_conf in = { .suite = PL_SRTP_GCM, .receive = true, .key = key_up, .key_n = 28 }, out = { .suite = PL_SRTP_GCM, .key = key_down, .key_n = 28 };
    assert_int_equal(pl_srtp_new(&in, &b->in), PL_OK);
    assert_int_equal(pl_srtp_new(&out, &b->out), PL_OK);
    const struct sender_conf conf = { .suite = PL_SRTP_GCM, .send_key = key_str(key_up, PL_SRTP_GCM), .receive_key = key_str(key_down, PL_SRTP_GCM), .ice = b->ice.cred,
        .video = { VIDEO, VIDEO_PT }, .audio = { AUDIO, AUDIO_PT }, .mtu = 1200, .hard_end_us = hard_end_us, .rand = &b->rand.base, .self = b, .send = relay_sees };
    assert_int_equal(sender_new(&conf, pl_now_mono(&b->clock.base), &b->sender), PL_OK);
}

static void bench_close(struct bench *b)
{
    b->sender = sender_free(b->sender);
    pl_srtp_free(b->in);
    pl_srtp_free(b->out);
    stun_mac_free(b->mac);
}

static unsigned tick_after(struct bench *b, int64_t us)
{
    pl_clock_fixed_advance(&b->clock, us);
    return sender_tick(b->sender, pl_now_mono(&b->clock.base), pl_now_utc(&b->clock.base));
}

static unsigned answer(struct bench *b)
{
    size_t n = b->answer_n;
    b->answer_n = 0;
    return n ? sender_packet(b->sender, pl_now_mono(&b->clock.base), b->answer, n) : 0;
}

static void frame(struct bench *b, size_t n, int64_t pts_us)
{
    static uint8_t au[40000] = { 0, 0, 0, 1, 0x65 };
    memset(au + 5, 0x5a, sizeof au - 5);
    const struct camera_frame f = { .media = CAMERA_VIDEO, .data = { (const char *)au, n }, .pts_us = pts_us, .key = true };
    sender_frame(b->sender, pl_now_mono(&b->clock.base), pl_now_utc(&b->clock.base), &f);
}

static unsigned rtcp_in(struct bench *b, struct pl_srtp *with, void (*put)(struct pl_buf *buf, uint8_t number), uint8_t number)
{
    uint8_t packet[400];
    struct pl_buf buf = pl_buf_fixed(packet, 300);
    rtcp_put_rr(&buf, RELAY, NULL, 0);
    if (put)
        put(&buf, number);
    size_t n = buf.n;
    assert_int_equal(pl_srtp_protect_rtcp(with, packet, &n, sizeof packet), PL_OK);
    return sender_packet(b->sender, pl_now_mono(&b->clock.base), packet, n);
}
static void put_pli(struct pl_buf *b, uint8_t media) { rtcp_put_pli(b, RELAY, media ? VIDEO : AUDIO); }
static void put_fir(struct pl_buf *b, uint8_t number) { rtcp_put_fir(b, RELAY, VIDEO, number); }

static void no_media_leaves_before_the_relay_has_answered_a_check(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 60 * PL_SECOND);
    assert_int_equal(tick_after(&b, 0), 0);
    assert_int_equal(b.stun, 1);
    frame(&b, 5000, 0);
    assert_int_equal(b.media, 0);
    /* An answer that is not proved opens nothing. */
    b.answer[b.answer_n - 12] ^= 1;
    assert_int_equal(answer(&b), 0);
    assert_int_equal(tick_after(&b, 100 * PL_MS), 0);
    assert_int_equal(b.stun, 2);
    assert_int_equal(answer(&b), SENDER_CONNECTED);
    frame(&b, 5000, 40000);
    assert_int_equal(b.media, 5);
    assert_int_equal(b.reports, 1);
    frame(&b, 39999, 80000);
    assert_int_equal(b.too_long, 0);
    bench_close(&b);
    assert_int_equal(b.byes, 2);
}

static unsigned nack(struct bench *b, uint32_t ssrc, uint16_t first, unsigned n)
{
    uint8_t packet[1000];
    uint16_t seqs[200];
    unsigned before = b->again;
    struct pl_buf buf = pl_buf_fixed(packet, 900);
    for (unsigned i = 0; i < n; i++)
        seqs[i] = (uint16_t)(first + i);
    rtcp_put_rr(&buf, RELAY, NULL, 0);
    rtcp_put_nack(&buf, RELAY, ssrc, seqs, n);
    size_t size = buf.n;
    assert_int_equal(pl_srtp_protect_rtcp(b->out, packet, &size, sizeof packet), PL_OK);
    assert_int_equal(sender_packet(b->sender, pl_now_mono(&b->clock.base), packet, size), 0);
    return b->again - before;
}

/* V-E1, S-M6: what the relay misses comes again byte for byte, for a second; what was never sent, or is of nobody, does not come at all. */
static void what_is_asked_for_again_is_the_same_packet(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 60 * PL_SECOND);
    assert_int_equal(tick_after(&b, 0), 0);
    assert_int_equal(answer(&b), SENDER_CONNECTED);
    frame(&b, 39999, 40000);
    assert_true(b.media >= 34);
    uint16_t last = b.last_seq;
    assert_int_equal(nack(&b, VIDEO, last, 1), 1);
    assert_int_equal(nack(&b, VIDEO, (uint16_t)(last - 19), 20), 20);
    assert_int_equal(nack(&b, VIDEO, (uint16_t)(last - 1), 5), 2);
    assert_int_equal(nack(&b, AUDIO, last, 1), 0);
    assert_int_equal(nack(&b, RELAY, last, 1), 0);
    assert_int_equal(sender_stats(b.sender).resent, 23);
    assert_int_equal(tick_after(&b, PL_SECOND), 0);
    assert_int_equal(nack(&b, VIDEO, last, 1), 1);
    (void)tick_after(&b, PL_MS);
    assert_int_equal(nack(&b, VIDEO, last, 1), 0);
    bench_close(&b);
}

static void five_seconds_without_proof_from_the_relay_end_it(void **state)
{
    (void)state;
    struct bench b;
    struct pl_srtp *stranger;
    const struct pl_srtp_conf forged = { .suite = PL_SRTP_GCM, .key = key_say, .key_n = 28 };
    assert_int_equal(pl_srtp_new(&forged, &stranger), PL_OK);
    bench_open(&b, 60 * PL_SECOND);
    assert_int_equal(tick_after(&b, 0), 0);
    assert_int_equal(answer(&b), SENDER_CONNECTED);
    assert_int_equal(tick_after(&b, 4 * PL_SECOND), 0);
    assert_int_equal(rtcp_in(&b, b.out, NULL, 0), 0); /* the relay's report: life */
    assert_int_equal(tick_after(&b, 4 * PL_SECOND), 0);
    assert_int_equal(rtcp_in(&b, stranger, put_pli, 1), 0); /* under another key: nothing at all */
    assert_int_equal(tick_after(&b, 999 * PL_MS), 0);
    assert_int_equal(tick_after(&b, PL_MS), SENDER_ENDED);
    assert_int_equal(sender_why(b.sender), PL_TOO_SLOW);
    unsigned media = b.media;
    frame(&b, 500, 0);
    assert_int_equal(b.media, media);
    assert_int_equal(tick_after(&b, PL_SECOND), 0); /* said once */
    bench_close(&b);
    pl_srtp_free(stranger);
}

static void the_hard_end_is_kept_whatever_the_relay_says(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 7 * PL_SECOND);
    for (int s = 0; s < 7; s++) {
        assert_int_equal(tick_after(&b, s ? PL_SECOND : 0), 0);
        (void)answer(&b);
    }
    assert_int_equal(pl_mono_sub(sender_due(b.sender), pl_now_mono(&b.clock.base)) <= PL_SECOND, true);
    assert_int_equal(tick_after(&b, PL_SECOND), SENDER_ENDED);
    assert_int_equal(sender_why(b.sender), PL_EXPIRED);
    bench_close(&b);
}

static void pli_and_fir_ask_for_a_key_frame(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 60 * PL_SECOND);
    assert_int_equal(tick_after(&b, 0), 0);
    assert_int_equal(answer(&b), SENDER_CONNECTED);
    assert_int_equal(rtcp_in(&b, b.out, put_pli, 1), SENDER_KEY_WANTED);
    assert_int_equal(rtcp_in(&b, b.out, put_pli, 0), 0); /* of the sound: there is no such thing */
    assert_int_equal(rtcp_in(&b, b.out, put_fir, 9), SENDER_KEY_WANTED);
    assert_int_equal(rtcp_in(&b, b.out, put_fir, 9), 0); /* the same command, sent again */
    assert_int_equal(rtcp_in(&b, b.out, put_fir, 10), SENDER_KEY_WANTED);
    assert_int_equal(sender_stats(b.sender).key_asked, 3);
    bench_close(&b);
}

static void reports_leave_every_second(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 60 * PL_SECOND);
    assert_int_equal(tick_after(&b, 0), 0);
    assert_int_equal(answer(&b), SENDER_CONNECTED);
    frame(&b, 500, 0);
    assert_int_equal(b.reports, 1);
    for (int i = 0; i < 30; i++) { /* three seconds */
        assert_int_equal(tick_after(&b, 100 * PL_MS), 0);
        (void)answer(&b);
    }
    assert_int_equal(b.reports, 4);
    bench_close(&b);
}

static void put_time(struct pl_buf *b, uint8_t number) { rtcp_put_xr_time(b, RELAY, (uint64_t)number << 16); }

/* The relay's time comes back with the next report, and how long it was kept: so the relay knows the round trip (RFC 3611). */
static void the_relays_time_comes_back(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 60 * PL_SECOND);
    assert_int_equal(tick_after(&b, 0), 0);
    assert_int_equal(answer(&b), SENDER_CONNECTED);
    frame(&b, 500, 0);
    (void)tick_after(&b, PL_SECOND);
    assert_int_equal(b.backs, 0); /* it was told none */
    assert_int_equal(rtcp_in(&b, b.out, put_time, 9), 0);
    (void)tick_after(&b, PL_SECOND / 2);
    assert_int_equal(b.backs, 0);
    (void)tick_after(&b, PL_SECOND / 2);
    assert_true(b.backs == 1 && b.back.ssrc == RELAY && b.back.last_rr == 9 && b.back.delay_rr == 65536);
    assert_int_equal(rtcp_in(&b, b.out, put_time, 10), 0);
    (void)tick_after(&b, PL_SECOND);
    assert_true(b.backs == 2 && b.back.last_rr == 10 && b.back.delay_rr == 65536);
    bench_close(&b);
}

/* --- the viewer's parts ----------------------------------------------------------------------------------------------------------------- */

static void push(struct reorder *r, struct pl_mono now, uint64_t index) { reorder_push(r, now, index, (const uint8_t *)&index, sizeof index); }
static uint64_t take(struct reorder *r, struct pl_mono now)
{
    const uint8_t *p;
    size_t n;
    uint64_t v = 0;
    if (reorder_take(r, now, &p, &n))
        memcpy(&v, p, sizeof v);
    return v;
}

static void packets_come_out_in_order_and_loss_is_given_up(void **state)
{
    (void)state;
    static struct reorder r;
    struct pl_mono t = { 1000 };
    push(&r, t, 100);
    assert_int_equal(take(&r, t), 100);
    push(&r, t, 102);
    push(&r, t, 103);
    push(&r, t, 103);
    assert_int_equal(take(&r, t), 0);
    push(&r, t, 101);
    assert_int_equal(take(&r, t), 101);
    assert_int_equal(take(&r, t), 102);
    assert_int_equal(take(&r, t), 103);
    assert_int_equal(take(&r, t), 0);
    push(&r, t, 106);
    assert_int_equal(take(&r, pl_mono_add(t, REORDER_WAIT - 1)), 0);
    assert_int_equal(take(&r, pl_mono_add(t, REORDER_WAIT)), 106);
    assert_int_equal(r.lost, 2);
    push(&r, t, 104);
    assert_int_equal(take(&r, t), 0);
    assert_int_equal(r.late, 1);
    push(&r, t, 100000);
    assert_int_equal(take(&r, t), 100000);
    assert_int_equal(r.lost, 2 + 100000 - 107);
}

static void the_tone_is_told_from_other_sounds(void **state)
{
    (void)state;
    static float tone[48000], other[48000], noise[48000];
    struct measure m = { 0 };
    uint32_t x = 1;
    for (size_t i = 0; i < 48000; i++) {
        tone[i] = 0.25f * (float)sin(2.0 * M_PI * 440.0 * (double)i / 48000.0 + 1.0);
        other[i] = 0.25f * (float)sin(2.0 * M_PI * 500.0 * (double)i / 48000.0);
        x = x * 1664525 + 1013904223;
        noise[i] = (float)(int32_t)x / 2147483648.0f;
    }
    measure_sound(&m, tone, 48000);
    assert_true(measure_tone(&m) > 0.999 && measure_tone(&m) < 1.001);
    assert_true(fabs(measure_level(&m) - 0.1768) < 0.001);
    m = (struct measure){ 0 };
    measure_sound(&m, other, 48000);
    assert_true(measure_tone(&m) < 0.01);
    m = (struct measure){ 0 };
    measure_sound(&m, noise, 48000);
    assert_true(measure_tone(&m) < 0.05);
    m = (struct measure){ 0 };
    assert_true(measure_tone(&m) == 0.0);
}

static void numbers_that_are_missing_are_counted(void **state)
{
    (void)state;
    struct measure m = { 0 };
    static const uint32_t seen[] = { 5, 6, 9, 9, 10 };
    for (size_t i = 0; i < PL_COUNT(seen); i++)
        measure_number(&m, seen[i]);
    assert_int_equal(m.first, 5);
    assert_int_equal(m.last, 10);
    assert_int_equal(m.missing, 2);
    assert_int_equal(m.backwards, 1);
}

static const char answer_text[] =
    "{\"live_id\":\"01a1fd7f-1c6e-7e78-8928-4c8df0f2ffdc\",\"state\":\"waking_hub\",\"srtp\":{\"host\":\"127.0.0.1\",\"port\":50000,\"suite\":\"AEAD_AES_128_GCM\","
    "\"ice\":{\"ufrag\":\"relayfrag\",\"pwd\":\"ApasswordOfSomeLength123\",\"peer_ufrag\":\"peerpeer\"},"
    "\"keys\":{\"send\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"receive\":\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ\"},"
    "\"video\":{\"ssrc\":7,\"payload_type\":96,\"codec\":\"H264\",\"clock_rate\":90000},"
    "\"audio\":{\"ssrc\":4294967295,\"payload_type\":111,\"codec\":\"opus\",\"clock_rate\":48000,\"channels\":2}}}";

static void the_session_is_read_from_the_answer_or_its_object(void **state)
{
    (void)state;
    struct session s = { 0 };
    struct pl_fail f = PL_FAIL_INIT;
    assert_int_equal(session_parse(pl_str_of(answer_text), &s, &f), PL_OK);
    assert_string_equal(s.host, "127.0.0.1");
    assert_int_equal(s.port, 50000);
    assert_int_equal(s.audio.ssrc, 0xffffffff);
    const char *inner = strchr(answer_text + 1, '{');
    assert_int_equal(session_parse((struct pl_str){ inner, strlen(inner) - 1 }, &s, &f), PL_OK);
    assert_int_equal(session_parse(PL_STR("{\"host\":\"x\"}"), &s, &f), PL_INVALID_REQUEST);
    assert_string_equal(f.field, "port");
}

/* --- both ends together ----------------------------------------------------------------------------------------------------------------- */

enum { ENOUGH = 60, PATIENCE_MS = 30000 };

struct world {
    enum pl_srtp_suite suite;
    int fd;                 /* the relay's socket, for the hub */
    struct sockaddr_in hub; /* where the hub's last check came from */
    struct stun_mac *mac;
    struct ice_lite hub_ice, viewer_ice;
    struct pl_srtp *from_hub, *to_hub, *from_viewer, *to_viewer;
    struct receiver *receiver;
    struct decoder *decoder;
    struct measure measure;
    struct pl_mono now;
    unsigned frames, keys, plis, reports;
    uint64_t forwarded;
    bool drop_next_video;
    atomic_uint sending, ended;
    struct stream *stream;
    bool over_when_told;
    char code[STREAM_CODE];
};

static struct pl_srtp *srtp(enum pl_srtp_suite suite, bool receive, const uint8_t key[30])
{
    struct pl_srtp *s;
    const struct pl_srtp_conf c = { .suite = suite, .receive = receive, .key = key, .key_n = pl_srtp_key_bytes(suite) };
    assert_int_equal(pl_srtp_new(&c, &s), PL_OK);
    return s;
}

static size_t answer_check(struct world *w, struct ice_lite *ice, const uint8_t *p, size_t n, uint8_t *out, size_t cap)
{
    struct stun_msg msg;
    struct ice_lite_result r = { 0 };
    const struct ice_addr from = { .ip = { 127, 0, 0, 1 }, .port = 4000, .family = 4 };
    assert_int_equal(stun_parse(p, n, &msg), PL_OK);
    assert_int_equal(ice_lite_check(w->mac, ice, &msg, &from, out, cap, &r), PL_OK);
    return r.answer_n;
}

static void to_hub(struct world *w, const uint8_t *p, size_t n) { (void)sendto(w->fd, p, n, 0, (const struct sockaddr *)(const void *)&w->hub, sizeof w->hub); }

static void pass_pli(struct world *w)
{
    uint8_t packet[200];
    struct pl_buf b = pl_buf_fixed(packet, 150);
    rtcp_put_rr(&b, RELAY, NULL, 0);
    rtcp_put_pli(&b, RELAY, VIDEO);
    size_t n = b.n;
    assert_int_equal(pl_srtp_protect_rtcp(w->to_hub, packet, &n, sizeof packet), PL_OK);
    to_hub(w, packet, n);
    w->plis++;
}

/* What the viewer sends: the relay's answer comes straight back. */
static void viewer_sends(void *self, const uint8_t *p, size_t n)
{
    struct world *w = self;
    uint8_t buf[2048];
    struct rtcp_item item;
    if (rtp_classify(p, n) == RTP_CLASS_STUN) {
        size_t answer_n = answer_check(w, &w->viewer_ice, p, n, buf, sizeof buf);
        receiver_packet(w->receiver, w->now, buf, answer_n);
        return;
    }
    memcpy(buf, p, n);
    assert_int_equal(pl_srtp_unprotect_rtcp(w->from_viewer, buf, &n), PL_OK);
    for (struct pl_rd rd = pl_rd_of(buf, n); rtcp_next(&rd, &item) == PL_OK && item.type != RTCP_END;) {
        w->reports += item.type == RTCP_RR;
        if (item.type == RTCP_PLI)
            pass_pli(w);
    }
}

/* What the hub sends: proved, encrypted anew, handed to the viewer. */
static void from_hub(struct world *w, uint8_t *p, size_t n, size_t cap)
{
    uint8_t buf[STUN_MAX];
    struct rtp_header h;
    switch (rtp_classify(p, n)) {
    case RTP_CLASS_STUN:
        n = answer_check(w, &w->hub_ice, p, n, buf, sizeof buf);
        to_hub(w, buf, n);
        return;
    case RTP_CLASS_RTP:
        assert_int_equal(pl_srtp_unprotect_rtp(w->from_hub, p, &n), PL_OK);
        assert_int_equal(rtp_peek(p, n, &h), PL_OK);
        assert_int_equal(pl_srtp_protect_rtp(w->to_viewer, p, &n, cap), PL_OK);
        if (h.ssrc == VIDEO && w->drop_next_video) {
            w->drop_next_video = false;
            return;
        }
        break;
    case RTP_CLASS_RTCP:
        assert_int_equal(pl_srtp_unprotect_rtcp(w->from_hub, p, &n), PL_OK);
        assert_int_equal(pl_srtp_protect_rtcp(w->to_viewer, p, &n, cap), PL_OK);
        break;
    default: fail_msg("a packet that is none of ours");
    }
    w->forwarded++;
    receiver_packet(w->receiver, w->now, p, n);
}

static void on_video(void *self, const struct h264_au *au)
{
    struct world *w = self;
    w->keys += au->key;
    assert_true(decoder_video(w->decoder, (struct pl_str){ (const char *)au->p, au->n }));
}
static void on_audio(void *self, struct pl_str packet, uint32_t timestamp)
{
    (void)timestamp;
    decoder_audio(((struct world *)self)->decoder, packet);
}
static void on_picture(void *self, const AVFrame *f)
{
    struct world *w = self;
    uint32_t number;
    w->frames++;
    assert_int_equal(strip_read(f->data[0], (size_t)f->linesize[0], (unsigned)f->width, (unsigned)f->height, &number), PL_OK);
    measure_number(&w->measure, number);
}
static void on_sound(void *self, const float *samples, size_t n) { measure_sound(&((struct world *)self)->measure, samples, n); }

static void on_state(void *self, const struct stream_conf *which, const char *said, struct pl_str code)
{
    struct world *w = self;
    (void)which;
    if (strcmp(said, "sending") == 0)
        atomic_fetch_add(&w->sending, 1);
    else {
        struct pl_buf b = pl_buf_fixed(w->code, sizeof w->code);
        pl_buf_str(&b, code);
        w->over_when_told = w->stream && stream_over(w->stream);
        atomic_fetch_add(&w->ended, 1);
    }
}

static uint16_t world_open(struct world *w, enum pl_srtp_suite suite)
{
    *w = (struct world){ .suite = suite };
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t n = sizeof a;
    w->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(w->fd, (const struct sockaddr *)(const void *)&a, n), 0);
    assert_int_equal(getsockname(w->fd, (struct sockaddr *)(void *)&a, &n), 0);
    assert_int_equal(stun_mac_new(&w->mac), PL_OK);
    w->hub_ice.cred = cred_of("relayhub");
    w->viewer_ice.cred = cred_of("relayview");
    w->from_hub = srtp(suite, true, key_up);
    w->to_hub = srtp(suite, false, key_down);
    w->from_viewer = srtp(suite, true, key_say);
    w->to_viewer = srtp(suite, false, key_view);
    w->now = pl_now_mono(&pl_clock_system);
    struct session s = { .suite = suite, .ice = w->viewer_ice.cred, .video = { VIDEO, VIDEO_PT, 90000, 0 }, .audio = { AUDIO, AUDIO_PT, 48000, 2 } };
    memcpy(s.send_key, key_say, sizeof key_say);
    memcpy(s.receive_key, key_view, sizeof key_view);
    assert_int_equal(decoder_new(&(struct decoder_conf){ .self = w, .on_picture = on_picture, .on_sound = on_sound }, &w->decoder), PL_OK);
    assert_int_equal(receiver_new(&(struct receiver_conf){ .session = &s, .rand = &pl_rand_system, .self = w, .send = viewer_sends, .on_video = on_video, .on_audio = on_audio },
        w->now, &w->receiver), PL_OK);
    return ntohs(a.sin_port);
}

static void world_close(struct world *w)
{
    receiver_free(w->receiver);
    decoder_free(w->decoder);
    pl_srtp_free(w->from_hub);
    pl_srtp_free(w->to_hub);
    pl_srtp_free(w->from_viewer);
    pl_srtp_free(w->to_viewer);
    stun_mac_free(w->mac);
    close(w->fd);
}

static struct stream *stream_open(struct world *w, uint16_t port)
{
    static const struct pl_log log = { 0 };
    struct stream *s;
    const struct stream_conf conf = { .generation = 1, .source = "test", .host = PL_STR("127.0.0.1"), .port = port, .clock = &pl_clock_system, .log = &log, .self = w,
        .on_state = on_state,
        .sender = { .suite = w->suite, .send_key = key_str(key_up, w->suite), .receive_key = key_str(key_down, w->suite), .ice = w->hub_ice.cred,
            .video = { VIDEO, VIDEO_PT }, .audio = { AUDIO, AUDIO_PT }, .mtu = 1200, .hard_end_us = PL_HOUR, .rand = &pl_rand_system } };
    assert_int_equal(stream_new(&conf, &s), PL_OK);
    return s;
}

/* Carries packets until `done` holds or patience is over. */
static bool carry(struct world *w, bool (*done)(const struct world *w))
{
    uint8_t in[2048];
    struct pl_mono until = pl_mono_add(pl_now_mono(&pl_clock_system), PATIENCE_MS * PL_MS);
    while (!done(w) && pl_mono_cmp(w->now = pl_now_mono(&pl_clock_system), until) < 0) {
        struct pollfd p = { .fd = w->fd, .events = POLLIN };
        socklen_t from_n = sizeof w->hub;
        ssize_t n;
        receiver_tick(w->receiver, w->now);
        (void)poll(&p, 1, 20);
        while ((n = recvfrom(w->fd, in, sizeof in, 0, (struct sockaddr *)(void *)&w->hub, &from_n)) > 0)
            from_hub(w, in, (size_t)n, sizeof in);
    }
    return done(w);
}
static bool enough(const struct world *w) { return w->frames >= ENOUGH; }
static bool twice(const struct world *w) { return w->frames >= 2 * ENOUGH; }
static bool recovered(const struct world *w) { return !w->drop_next_video && receiver_stats(w->receiver)->damaged && w->measure.missing; }
static bool over(const struct world *w) { return atomic_load(&w->ended) > 0; }

/* Picture and sound at the viewer are what the camera made; a lost packet costs a few pictures, none of them damaged, and a new key frame mends it at once. */
static void picture_and_tone_arrive_as_sent(enum pl_srtp_suite suite)
{
    static struct world w;
    uint16_t port = world_open(&w, suite);
    struct stream *s = w.stream = stream_open(&w, port);
    assert_true(carry(&w, enough));
    assert_int_equal(w.measure.read, w.frames);
    assert_int_equal(w.measure.first, 0);
    assert_int_equal(w.measure.missing + w.measure.backwards, 0);
    assert_int_equal(decoder_errors(w.decoder), 0);
    assert_true(measure_tone(&w.measure) > 0.97);
    assert_true(measure_level(&w.measure) > 0.1);
    assert_int_equal(atomic_load(&w.sending), 1);
    unsigned keys = w.keys;
    w.drop_next_video = true;
    assert_true(carry(&w, recovered));
    assert_true(carry(&w, twice));
    assert_true(w.plis >= 1);
    assert_true(w.keys > keys);
    assert_in_range(w.measure.missing, 1, 24); /* less than a second */
    assert_int_equal(decoder_errors(w.decoder), 0);
    assert_true(w.reports >= 1);
    stream_stop(s, PL_STR("ended_by_user"));
    assert_true(carry(&w, over));
    assert_string_equal(w.code, "ended_by_user");
    assert_true(w.over_when_told); /* a stop that comes right after finds none that runs, and is answered */
    assert_null(stream_free(s));
    assert_int_equal(atomic_load(&w.ended), 1);
    world_close(&w);
}
static void picture_and_tone_arrive_as_sent_under_gcm(void **state)
{
    (void)state;
    picture_and_tone_arrive_as_sent(PL_SRTP_GCM);
}
static void picture_and_tone_arrive_as_sent_under_sha1_80(void **state)
{
    (void)state;
    picture_and_tone_arrive_as_sent(PL_SRTP_SHA1_80);
}

static void a_source_that_fails_fails_the_session(void **state)
{
    (void)state;
    static struct world w;
    static const struct pl_log log = { 0 };
    struct stream *s;
    uint16_t port = world_open(&w, PL_SRTP_GCM);
    const struct stream_conf conf = { .generation = 1, .source = "/nonexistent/film.mp4", .host = PL_STR("127.0.0.1"), .port = port, .clock = &pl_clock_system, .log = &log,
        .self = &w, .on_state = on_state,
        .sender = { .send_key = key_str(key_up, PL_SRTP_GCM), .receive_key = key_str(key_down, PL_SRTP_GCM), .ice = w.hub_ice.cred, .video = { VIDEO, VIDEO_PT },
            .audio = { AUDIO, AUDIO_PT }, .mtu = 1200, .hard_end_us = PL_HOUR, .rand = &pl_rand_system } };
    assert_int_equal(stream_new(&conf, &s), PL_OK);
    assert_true(carry(&w, over));
    assert_string_equal(w.code, "io_error");
    assert_int_equal(atomic_load(&w.sending), 0);
    assert_null(stream_free(s));
    world_close(&w);
}

static int set_up(void **state)
{
    (void)state;
    pl_log_level(PL_ERROR);
    return secure_init() == PL_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_media_leaves_before_the_relay_has_answered_a_check),
        cmocka_unit_test(five_seconds_without_proof_from_the_relay_end_it),
        cmocka_unit_test(the_hard_end_is_kept_whatever_the_relay_says),
        cmocka_unit_test(pli_and_fir_ask_for_a_key_frame),
        cmocka_unit_test(reports_leave_every_second),
        cmocka_unit_test(the_relays_time_comes_back),
        cmocka_unit_test(packets_come_out_in_order_and_loss_is_given_up),
        cmocka_unit_test(the_tone_is_told_from_other_sounds),
        cmocka_unit_test(numbers_that_are_missing_are_counted),
        cmocka_unit_test(the_session_is_read_from_the_answer_or_its_object),
        cmocka_unit_test(picture_and_tone_arrive_as_sent_under_gcm),
        cmocka_unit_test(picture_and_tone_arrive_as_sent_under_sha1_80),
        cmocka_unit_test(what_is_asked_for_again_is_the_same_packet),
        cmocka_unit_test(a_source_that_fails_fails_the_session),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
