/* test_viewer.c - the viewer's receiver on a clock that the test moves: what it asks for, when, and what it does in silence (V-E1, V-F3); how far apart sound and
 * picture are, as it measures that (V-A4); and large key frames over a network that loses some of each (V-E1). */
#include "rand.h"
#include "receiver.h"
#include "reorder.h"
#include "rtcp.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { VIDEO = 1111, AUDIO = 2222, VIDEO_PT = 96, AUDIO_PT = 111, MAX_ASKED = 64 };
static const uint8_t to_viewer[28] = "relay to viewer, 28 bytes..", from_viewer[28] = "viewer to relay, 28 bytes..";

/* The relay's end, and what came out of the receiver. */
static struct end {
    struct pl_rand_seeded rand;
    struct receiver *receiver;
    struct pl_srtp *out, *in;
    struct stun_mac *mac;
    struct ice_cred ice;
    struct ice_seen seen;
    struct pl_mono now;
    unsigned checks, units, plis;
    uint16_t asked[MAX_ASKED];
    unsigned n_asked;
    bool deaf; /* checks are not answered */
    struct net *net; /* what lies between; NULL: packets and answers arrive at once */
} *end;
static bool answer_over_the_net(const uint8_t *p, size_t n);
static void seen_over_the_net(const struct h264_au *au);

static void take_rtcp(uint8_t *p, size_t n)
{
    struct rtcp_item item;
    uint16_t seq, mask;
    assert_int_equal(pl_srtp_unprotect_rtcp(end->in, p, &n), PL_OK);
    struct pl_rd rd = pl_rd_of(p, n);
    while (rtcp_next(&rd, &item) == PL_OK && item.type != RTCP_END) {
        end->plis += item.type == RTCP_PLI;
        for (unsigned i = 0; item.type == RTCP_NACK && i < item.count; i++) {
            assert_true(item.media_ssrc == VIDEO || item.media_ssrc == AUDIO);
            rtcp_nack_at(&item, i, &seq, &mask);
            for (unsigned bit = 0; bit <= 16; bit++)
                if ((bit == 0 || mask >> (bit - 1) & 1) && end->n_asked < MAX_ASKED)
                    end->asked[end->n_asked++] = (uint16_t)(seq + bit);
        }
    }
}

static void sent(void *self, const uint8_t *p, size_t n)
{
    uint8_t copy[2048], answer[STUN_MAX];
    struct stun_msg m;
    struct ice_lite_result r;
    const struct ice_addr from = { .ip = { 192, 0, 2, 1 }, .port = 5000, .family = 4 };
    (void)self;
    memcpy(copy, p, n);
    if (rtp_classify(p, n) == RTP_CLASS_RTCP) {
        take_rtcp(copy, n);
        return;
    }
    assert_int_equal(rtp_classify(p, n), RTP_CLASS_STUN);
    end->checks++;
    assert_int_equal(stun_parse(copy, n, &m), PL_OK);
    assert_int_equal(ice_lite_check(end->mac, &end->ice, &end->seen, &m, &from, answer, sizeof answer, &r), PL_OK);
    assert_true(r.nominated || r.again);
    if (end->net ? answer_over_the_net(answer, r.answer_n) : !end->deaf)
        receiver_packet(end->receiver, end->now, answer, r.answer_n);
}
static void on_video(void *self, const struct h264_au *au)
{
    (void)self;
    end->units += au->complete;
    if (end->net)
        seen_over_the_net(au);
}
static void on_audio(void *self, struct pl_str packet, uint32_t timestamp) { (void)self, (void)packet, (void)timestamp; }

static int begin(void **state)
{
    static struct end e;
    struct session s = { .suite = PL_SRTP_GCM, .video = { VIDEO, VIDEO_PT, 90000, 0 }, .audio = { AUDIO, AUDIO_PT, 48000, 2 } };
    (void)state;
    e = (struct end){ .now = { PL_SECOND } };
    end = &e;
    pl_rand_seed(&e.rand, 1);
    memcpy(s.receive_key, to_viewer, sizeof to_viewer);
    memcpy(s.send_key, from_viewer, sizeof from_viewer);
    struct pl_srtp_conf out = { .suite = PL_SRTP_GCM, .key = to_viewer, .key_n = 28 }, in = { .suite = PL_SRTP_GCM, .receive = true, .key = from_viewer, .key_n = 28 };
    struct receiver_conf conf = { .session = &s, .rand = &e.rand.base, .send = sent, .on_video = on_video, .on_audio = on_audio };
    if (ice_cred_set(&s.ice, PL_STR("relayufrag"), PL_STR("ApasswordOfSomeLength123"), PL_STR("peerpeer")) != PL_OK || stun_mac_new(&e.mac) != PL_OK ||
        pl_srtp_new(&out, &e.out) != PL_OK || pl_srtp_new(&in, &e.in) != PL_OK)
        return -1;
    e.ice = s.ice;
    return receiver_new(&conf, e.now, &e.receiver) == PL_OK ? 0 : -1;
}
static int finish(void **state)
{
    (void)state;
    receiver_free(end->receiver);
    pl_srtp_free(end->out);
    pl_srtp_free(end->in);
    stun_mac_free(end->mac);
    return 0;
}

/* One key frame a packet: a single NAL unit of type 5, 40 ms apart. The packet as it is on the wire. */
struct wire {
    uint8_t p[128];
    size_t n;
};
static struct wire picture(uint16_t seq)
{
    struct wire w = { .n = RTP_HEADER + 20 };
    rtp_write(&(struct rtp_header){ VIDEO_PT, true, seq, seq * 3600u, VIDEO }, w.p);
    memset(w.p + RTP_HEADER, 0x65, 20);
    assert_int_equal(pl_srtp_protect_rtp(end->out, w.p, &w.n, sizeof w.p), PL_OK);
    return w;
}
static struct wire sound(uint16_t seq, uint32_t timestamp)
{
    struct wire w = { .n = RTP_HEADER + 20 };
    rtp_write(&(struct rtp_header){ AUDIO_PT, true, seq, timestamp, AUDIO }, w.p);
    assert_int_equal(pl_srtp_protect_rtp(end->out, w.p, &w.n, sizeof w.p), PL_OK);
    return w;
}
static struct wire report(uint32_t ssrc, uint64_t ntp, uint32_t timestamp)
{
    struct wire w = { .n = 0 };
    struct pl_buf b = pl_buf_fixed(w.p, sizeof w.p - PL_SRTP_RTCP_OVERHEAD);
    rtcp_put_sr(&b, ssrc, ntp, timestamp, 1, 1, NULL, 0);
    rtcp_put_cname(&b, ssrc, PL_STR("camera"));
    assert_int_equal(pl_buf_err(&b), PL_OK);
    w.n = b.n;
    assert_int_equal(pl_srtp_protect_rtcp(end->out, w.p, &w.n, sizeof w.p), PL_OK);
    return w;
}
static void give(const struct wire *w) { receiver_packet(end->receiver, end->now, w->p, w->n); }

/* Time passes as in main.c: the receiver is asked when it wants to be ticked next. */
static void pass(int64_t us)
{
    struct pl_mono until = pl_mono_add(end->now, us);
    for (;;) {
        receiver_tick(end->receiver, end->now);
        struct pl_mono due = receiver_due(end->receiver);
        if (pl_mono_cmp(due, until) > 0)
            break;
        end->now = pl_mono_cmp(due, end->now) > 0 ? due : pl_mono_add(end->now, 1);
    }
    end->now = until;
}

static void run_pictures(uint16_t from, unsigned n)
{
    for (uint16_t i = 0; i < n; i++) {
        struct wire w = picture((uint16_t)(from + i));
        give(&w);
        pass(40 * PL_MS);
    }
}

/* V-E1: asked for 10 ms after the next one came, again after a round trip and a little; what comes then is shown, with what waited for it. */
static void a_missing_packet_is_asked_for(void **state)
{
    (void)state;
    pass(PL_MS);
    run_pictures(100, 3);
    struct wire late = picture(103), next = picture(104);
    unsigned before = end->units;
    give(&next);
    pass(9 * PL_MS);
    assert_int_equal(end->n_asked, 0);
    pass(2 * PL_MS);
    assert_int_equal(end->n_asked, 1);
    assert_int_equal(end->asked[0], 103);
    pass(15 * PL_MS);
    assert_int_equal(end->n_asked, 1);
    pass(10 * PL_MS); /* the checks were answered at once: a round trip of nothing and the margin */
    assert_int_equal(end->n_asked, 2);
    assert_int_equal(end->units, before);
    give(&late);
    assert_true(end->units >= before + 1);
    pass(PL_SECOND / 10);
    assert_int_equal(end->n_asked, 2);
    assert_int_equal(receiver_stats(end->receiver)->video_lost, 0);
    assert_int_equal(receiver_stats(end->receiver)->damaged, 0);
}

static void what_is_only_late_is_not_asked_for(void **state)
{
    (void)state;
    pass(PL_MS);
    run_pictures(65534, 1);
    struct wire late = picture(65535), next = picture(0); /* over the wrap */
    give(&next);
    pass(5 * PL_MS);
    give(&late);
    pass(100 * PL_MS);
    assert_int_equal(end->n_asked, 0);
}

/* What never comes is asked for six times at most, given up, and a key frame is asked for if what follows needs one. */
static void what_never_comes_is_given_up(void **state)
{
    (void)state;
    pass(PL_MS);
    run_pictures(200, 2);
    (void)picture(202);
    unsigned before = end->units;
    run_pictures(203, 30);
    assert_int_equal(receiver_stats(end->receiver)->video_lost, 1);
    assert_int_equal(end->n_asked, 6);
    assert_true(end->units >= before + 28);
}

/* V-F3: a quarter of a second without anything, and the path is tried; once a second from then on, not more. */
static void silence_tries_the_path(void **state)
{
    (void)state;
    pass(PL_MS);
    run_pictures(300, 100);
    unsigned before = end->checks;
    end->deaf = true;
    pass(200 * PL_MS);
    unsigned quiet = end->checks;
    pass(100 * PL_MS);
    assert_true(end->checks > quiet && quiet - before <= 1);
    assert_true(pl_mono_cmp(receiver_due(end->receiver), end->now) > 0);
    before = end->checks;
    pass(5 * PL_SECOND);
    assert_in_range(end->checks - before, 5, 25);
}

/* V-A4: both are 40 ms after the moment that their reports name; the picture comes 65 ms after it, the sound 50, and a later packet of either quicker than that. */
static void v_a4_how_far_sound_and_picture_are_apart(void **state)
{
    (void)state;
    const struct receiver_stats *s = receiver_stats(end->receiver);
    struct pl_mono began = end->now;
    struct wire of_video = report(VIDEO, UINT64_C(77) << 32, 400 * 3600), of_audio = report(AUDIO, UINT64_C(77) << 32, 5000);
    struct wire picture_1 = picture(401), picture_2 = picture(402), sound_1 = sound(1, 5000 + 1920), sound_2 = sound(2, 5000 + 2880);
    give(&of_video);
    pass(PL_MS);
    give(&of_audio);
    assert_true(s->video_report_at.us == began.us && s->audio_report_at.us == began.us + PL_MS && !s->in_step_known);
    pass(49 * PL_MS);
    give(&sound_1);
    assert_false(s->in_step_known);
    pass(15 * PL_MS);
    give(&picture_1);
    assert_true(s->in_step_known);
    assert_int_equal(s->video_after_audio_us, 15 * PL_MS);
    pass(10 * PL_MS);
    give(&sound_2); /* 60 ms after the moment, 75 have passed: slower than the first one */
    assert_int_equal(s->video_after_audio_us, 15 * PL_MS);
    pass(17 * PL_MS);
    give(&picture_2); /* 80 ms after the moment, 92 have passed */
    assert_int_equal(s->video_after_audio_us, 2 * PL_MS);
}

/* --- V-E1: key frames of many packets over 50 ms each way, which loses two packets in a hundred, both ways -------------------------------------------------- */

enum { PARTS = 250, PART = 1000, ROUNDS = 40, SMALL = 24 /* pictures of one packet behind each */, STORE = 512, ON_THE_WAY = 4096, LOSS_PERCENT = 2, ONE_WAY_MS = 50 };
struct on_the_way {
    struct pl_mono at; /* when it arrives; FIFO, since all take the same time */
    bool up;           /* to the relay: a check, whose answer is `p`, or a NACK for `seq` (n 0); else `p`, to the viewer */
    uint16_t seq;
    size_t n;
    uint8_t p[PART + 100];
};
static struct net {
    struct on_the_way ways[ON_THE_WAY];
    size_t first, next;
    struct { size_t n; uint8_t p[PART + 100]; } sent[STORE]; /* what is asked for again goes out byte for byte */
    unsigned lost, keys;
    bool whole;        /* loses nothing now */
} net_of_all;

static void seen_over_the_net(const struct h264_au *au) { end->net->keys += au->key; }

static struct on_the_way *put(struct net *n, bool up, const uint8_t *p, size_t size)
{
    if (!n->whole && pl_rand_below(&end->rand.base, 100) < LOSS_PERCENT) {
        n->lost++;
        return NULL;
    }
    assert_true(n->next - n->first < ON_THE_WAY);
    struct on_the_way *w = &n->ways[n->next++ % ON_THE_WAY];
    w->at = pl_mono_add(end->now, ONE_WAY_MS * PL_MS);
    w->up = up;
    w->n = size;
    if (size)
        memcpy(w->p, p, size);
    return w;
}
/* The check has still to get there. False: nothing arrives at once. */
static bool answer_over_the_net(const uint8_t *p, size_t n)
{
    (void)put(end->net, true, p, n);
    return false;
}
/* What the viewer asked for travels to the relay. */
static void send_asked(struct net *n)
{
    for (unsigned i = 0; i < end->n_asked; i++) {
        struct on_the_way *w = put(n, true, NULL, 0);
        if (w)
            w->seq = end->asked[i];
    }
    end->n_asked = 0;
}
static void arrive(struct net *n, struct on_the_way *w)
{
    if (!w->up)
        receiver_packet(end->receiver, end->now, w->p, w->n);
    else if (w->n)
        (void)put(n, false, w->p, w->n);
    else
        (void)put(n, false, n->sent[w->seq % STORE].p, n->sent[w->seq % STORE].n);
}
/* As pass(), with a network. */
static void pass_net(struct net *n, int64_t us)
{
    struct pl_mono until = pl_mono_add(end->now, us);
    for (;;) {
        receiver_tick(end->receiver, end->now);
        send_asked(n);
        struct pl_mono due = receiver_due(end->receiver);
        bool comes = n->first < n->next && pl_mono_cmp(n->ways[n->first % ON_THE_WAY].at, due) <= 0;
        if (comes)
            due = n->ways[n->first % ON_THE_WAY].at;
        if (pl_mono_cmp(due, until) > 0)
            break;
        end->now = pl_mono_cmp(due, end->now) > 0 ? due : comes ? end->now : pl_mono_add(end->now, 1);
        if (comes)
            arrive(n, &n->ways[n->first++ % ON_THE_WAY]);
    }
    end->now = until;
}
/* One packet of a picture; a key frame's FU-A part, or a small picture whole. */
static void send_part(struct net *n, uint16_t seq, uint32_t timestamp, bool key, unsigned part, unsigned parts)
{
    uint8_t p[PART + 100];
    size_t size = RTP_HEADER + PART;
    rtp_write(&(struct rtp_header){ VIDEO_PT, part + 1 == parts, seq, timestamp, VIDEO }, p);
    memset(p + RTP_HEADER, 0x5a, PART);
    p[RTP_HEADER] = key ? 0x60 | H264_FU_A : 0x61;
    if (key)
        p[RTP_HEADER + 1] = (uint8_t)((part == 0 ? 0x80 : 0) | (part + 1 == parts ? 0x40 : 0) | H264_IDR);
    assert_int_equal(pl_srtp_protect_rtp(end->out, p, &size, sizeof p), PL_OK);
    memcpy(n->sent[seq % STORE].p, p, size);
    n->sent[seq % STORE].n = size;
    (void)put(n, false, p, size);
}
static void large_key_frames_are_shown_V_E1(void **state)
{
    (void)state;
    struct net *n = end->net = &net_of_all;
    uint16_t seq = 65000; /* it wraps soon */
    uint32_t timestamp = 0;
    *n = (struct net){ 0 };
    pass_net(n, PL_SECOND / 2);
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned i = 0; i <= SMALL; i++, timestamp += 3600) {
            unsigned parts = i ? 1 : PARTS;
            for (unsigned part = 0; part < parts; part++) {
                send_part(n, seq++, timestamp, i == 0, part, parts);
                pass_net(n, 40 * PL_MS / parts); /* a key frame is spread over a frame's time */
            }
        }
    n->whole = true; /* nothing comes behind the last one, and tells that it is missing */
    send_part(n, seq, timestamp, false, 0, 1);
    pass_net(n, PL_SECOND);
    const struct receiver_stats *s = receiver_stats(end->receiver);
    print_message("%u lost on the way, %u asked for, %u of %u key frames and %u of %u pictures shown\n", n->lost, (unsigned)s->asked, n->keys, ROUNDS, end->units, ROUNDS * (SMALL + 1) + 1);
    assert_true(n->lost > ROUNDS * 4);
    assert_int_equal(n->keys, ROUNDS);
    assert_int_equal(end->units, ROUNDS * (SMALL + 1) + 1);
    assert_true(s->video_lost == 0 && s->damaged == 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, finish)
int main(void)
{
    const struct CMUnitTest tests[] = { TEST(a_missing_packet_is_asked_for), TEST(what_is_only_late_is_not_asked_for), TEST(what_never_comes_is_given_up), TEST(silence_tries_the_path),
                                        TEST(v_a4_how_far_sound_and_picture_are_apart), TEST(large_key_frames_are_shown_V_E1) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
