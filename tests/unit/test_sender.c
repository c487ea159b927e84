/* test_sender.c - the hub's sender on a clock that the test moves: nothing leaves before the relay has answered, what is sent again is the same, and it ends in time. */
#include "sender.h"
#include "stream_ends.h"

struct bench {
    struct pl_clock_fixed clock;
    struct pl_rand_seeded rand;
    struct sender *sender;
    struct pl_srtp *in, *out; /* the relay's side */
    struct stun_mac *mac;
    struct ice_cred ice;
    struct ice_seen checks;
    unsigned stun, media, reports, byes, too_long;
    unsigned again;              /* packets that came a second time, the same to the byte */
    uint8_t seen[64][1500];      /* by number */
    size_t seen_n[64];
    uint16_t last_seq;
    struct { uint64_t ntp; uint32_t timestamp; } told[2]; /* by the last report of video, and of audio */
    uint32_t media_ts[2];        /* of their last packets */
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
    b->media_ts[(p[8] << 24 | p[9] << 16 | p[10] << 8 | p[11]) == AUDIO] = (uint32_t)p[4] << 24 | (uint32_t)p[5] << 16 | (uint32_t)p[6] << 8 | p[7];
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
        assert_int_equal(ice_lite_check(b->mac, &b->ice, &b->checks, &msg, &from, b->answer, sizeof b->answer, &r), PL_OK);
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
            if (item.type == RTCP_SR) {
                b->told[item.ssrc == AUDIO].ntp = item.sr.ntp;
                b->told[item.ssrc == AUDIO].timestamp = item.sr.timestamp;
            }
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
    b->ice = cred_of("relayfrag");
    assert_int_equal(stun_mac_new(&b->mac), PL_OK);
    const struct pl_srtp_conf in = { .suite = PL_SRTP_GCM, .receive = true, .key = key_up, .key_n = 28 }, out = { .suite = PL_SRTP_GCM, .key = key_down, .key_n = 28 };
    assert_int_equal(pl_srtp_new(&in, &b->in), PL_OK);
    assert_int_equal(pl_srtp_new(&out, &b->out), PL_OK);
    const struct sender_conf conf = { .suite = PL_SRTP_GCM, .send_key = key_str(key_up, PL_SRTP_GCM), .receive_key = key_str(key_down, PL_SRTP_GCM), .ice = b->ice,
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

/* V-F3: the relay reports every second; when that stays out, the path is tried before the next check is due: where the hub has another address, that moves the session there. */
static void v_f3_silence_tries_the_path(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 60 * PL_SECOND);
    assert_int_equal(tick_after(&b, 0), 0);
    assert_int_equal(answer(&b), SENDER_CONNECTED);
    assert_int_equal(tick_after(&b, PL_SECOND), 0);
    assert_int_equal(rtcp_in(&b, b.out, NULL, 0), 0);
    assert_int_equal(tick_after(&b, PL_SECOND), 0); /* the check of every two seconds */
    assert_int_equal(b.stun, 2);
    (void)answer(&b);
    assert_int_equal(tick_after(&b, 1499 * PL_MS), 0);
    assert_int_equal(b.stun, 2);
    assert_int_equal(pl_mono_sub(sender_due(b.sender), pl_now_mono(&b.clock.base)), PL_MS);
    assert_int_equal(tick_after(&b, PL_MS), 0);
    assert_int_equal(b.stun, 3);
    assert_int_equal(tick_after(&b, 100 * PL_MS), 0);
    assert_true(pl_mono_cmp(sender_due(b.sender), pl_now_mono(&b.clock.base)) > 0); /* not a check a moment */
    assert_in_range(b.stun, 3, 4);
    (void)answer(&b);
    unsigned before = b.stun;
    assert_int_equal(tick_after(&b, 1400 * PL_MS), 0);
    assert_in_range(b.stun - before, 0, 1);
    bench_close(&b);
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

/* The moment of a track's last packet on the line of its last report, microseconds. */
static int64_t moment(const struct bench *b, bool audio)
{
    int64_t reported = (int64_t)(b->told[audio].ntp >> 32) * PL_SECOND + (int64_t)((b->told[audio].ntp & UINT32_MAX) * PL_SECOND >> 32);
    return reported + (int64_t)(int32_t)(b->media_ts[audio] - b->told[audio].timestamp) * PL_SECOND / (audio ? 48000 : 90000);
}

/* V-A4: picture and sound of one moment are reported as of one moment, though the picture comes 70 ms later out of its encoder. A camera whose clock is slow is followed. */
static void v_a4_reports_keep_the_cameras_own_time(void **state)
{
    (void)state;
    static const uint8_t opus[40];
    struct bench b;
    bench_open(&b, 60 * PL_SECOND);
    assert_int_equal(tick_after(&b, 0), 0);
    assert_int_equal(answer(&b), SENDER_CONNECTED);
    for (int64_t pts = 0; pts < 5 * PL_SECOND; pts += 100 * PL_MS) {
        const struct camera_frame sound = { .media = CAMERA_AUDIO, .data = { (const char *)opus, sizeof opus }, .pts_us = pts };
        sender_frame(b.sender, pl_now_mono(&b.clock.base), pl_now_utc(&b.clock.base), &sound);
        (void)tick_after(&b, 70 * PL_MS);
        frame(&b, 500, pts);
        (void)tick_after(&b, 30 * PL_MS);
        (void)answer(&b);
        if (pts < PL_SECOND)
            continue; /* the first report was of the sound alone */
        int64_t apart = moment(&b, false) - moment(&b, true);
        assert_in_range(apart + 2 * PL_MS, 0, 4 * PL_MS);
        int64_t late = pl_now_utc(&b.clock.base).us + INT64_C(2208988800) * PL_SECOND - 100 * PL_MS - moment(&b, true);
        assert_in_range(late + 2 * PL_MS, 0, 4 * PL_MS); /* and it is the quickest of both that tells when */
    }
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_media_leaves_before_the_relay_has_answered_a_check),
        cmocka_unit_test(five_seconds_without_proof_from_the_relay_end_it),
        cmocka_unit_test(v_f3_silence_tries_the_path), cmocka_unit_test(the_hard_end_is_kept_whatever_the_relay_says),
        cmocka_unit_test(pli_and_fir_ask_for_a_key_frame),
        cmocka_unit_test(reports_leave_every_second),
        cmocka_unit_test(the_relays_time_comes_back),
        cmocka_unit_test(what_is_asked_for_again_is_the_same_packet),
        cmocka_unit_test(v_a4_reports_keep_the_cameras_own_time),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
