/* test_stream.c - the two ends of a live session: the viewer's parts, and a real stream of the hub (threads, sockets, encoder) watched
 * by the viewer's receiver and decoder, with a few lines of relay in between. */
#include "decoder.h"
#include "measure.h"
#include "pattern.h"
#include "receiver.h"
#include "reorder.h"
#include "stream.h"
#include "stream_ends.h"
#include "strip.h"
#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <unistd.h>

/* --- the viewer's parts ----------------------------------------------------------------------------------------------------------------- */

static bool offer(struct reorder *r, struct pl_mono now, uint64_t index) { return reorder_push(r, now, index, (const uint8_t *)&index, sizeof index); }
static void push(struct reorder *r, struct pl_mono now, uint64_t index) { assert_true(offer(r, now, index)); }
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
    static struct reorder_slot slots[128];
    struct reorder r = { .slots = slots, .slots_n = PL_COUNT(slots) };
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

/* V-E1: where the window is full only the gap is given up; what waited behind it is handed out, and nothing else is lost. */
static void a_full_window_costs_only_the_oldest_gap(void **state)
{
    (void)state;
    static struct reorder_slot slots[128];
    struct reorder r = { .slots = slots, .slots_n = PL_COUNT(slots) };
    struct pl_mono t = { 1000 };
    push(&r, t, 10);
    assert_int_equal(take(&r, t), 10);
    for (uint64_t i = 12; i < 11 + 128; i++)
        if (i != 50)
            push(&r, t, i);
    assert_int_equal(take(&r, t), 0);
    assert_false(offer(&r, t, 11 + 128));
    for (uint64_t i = 12; i < 50; i++)
        assert_int_equal(take(&r, t), i);
    assert_int_equal(take(&r, t), 0); /* 50 may still come */
    push(&r, t, 11 + 128);
    push(&r, t, 50);
    for (uint64_t i = 50; i <= 11 + 128; i++)
        assert_int_equal(take(&r, t), i);
    assert_true(r.lost == 1 && r.late == 0);
    /* Further than the window reaches, and nothing waits: what lies between is lost, and it goes on from there. Something waits: it goes out first. */
    push(&r, t, 1000);
    assert_int_equal(take(&r, t), 1000);
    assert_int_equal(r.lost, 1 + 1000 - 140);
    push(&r, t, 1002);
    assert_false(offer(&r, t, 2000));
    assert_int_equal(take(&r, t), 1002);
    push(&r, t, 2000);
    assert_int_equal(take(&r, t), 2000);
    assert_int_equal(r.lost, 1 + 860 + 1 + 997);
}

/* Three gaps at once are waited for at once, not one after another; each from the moment in which the first packet behind it came. */
static void each_gap_has_its_own_time(void **state)
{
    (void)state;
    static struct reorder_slot slots[128];
    struct reorder r = { .slots = slots, .slots_n = PL_COUNT(slots), .wait = 400 * PL_MS, .again = 100 * PL_MS };
    struct pl_mono t = { 1000 };
    uint64_t asked[8];
    push(&r, t, 1);
    assert_int_equal(take(&r, t), 1);
    push(&r, t, 3);
    push(&r, t, 5);
    push(&r, pl_mono_add(t, 50 * PL_MS), 7);
    assert_int_equal(reorder_ask(&r, pl_mono_add(t, 10 * PL_MS), asked, 8), 2);
    assert_true(asked[0] == 2 && asked[1] == 4);
    assert_int_equal(reorder_ask(&r, pl_mono_add(t, 60 * PL_MS), asked, 8), 1);
    assert_int_equal(asked[0], 6);
    assert_int_equal(take(&r, pl_mono_add(t, 399 * PL_MS)), 0);
    assert_int_equal(take(&r, pl_mono_add(t, 400 * PL_MS)), 3);
    assert_int_equal(take(&r, pl_mono_add(t, 400 * PL_MS)), 5);
    assert_int_equal(take(&r, pl_mono_add(t, 449 * PL_MS)), 0);
    assert_true(reorder_due(&r, pl_mono_add(t, 449 * PL_MS)).us <= pl_mono_add(t, 450 * PL_MS).us);
    assert_int_equal(take(&r, pl_mono_add(t, 450 * PL_MS)), 7);
    assert_int_equal(r.lost, 3);
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
    struct ice_cred hub_ice, viewer_ice;
    struct ice_seen hub_seen, viewer_seen;
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

static size_t answer_check(struct world *w, const struct ice_cred *ice, struct ice_seen *seen, const uint8_t *p, size_t n, uint8_t *out, size_t cap)
{
    struct stun_msg msg;
    struct ice_lite_result r = { 0 };
    const struct ice_addr from = { .ip = { 127, 0, 0, 1 }, .port = 4000, .family = 4 };
    assert_int_equal(stun_parse(p, n, &msg), PL_OK);
    assert_int_equal(ice_lite_check(w->mac, ice, seen, &msg, &from, out, cap, &r), PL_OK);
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
        size_t answer_n = answer_check(w, &w->viewer_ice, &w->viewer_seen, p, n, buf, sizeof buf);
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
        n = answer_check(w, &w->hub_ice, &w->hub_seen, p, n, buf, sizeof buf);
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
    w->hub_ice = cred_of("relayhub");
    w->viewer_ice = cred_of("relayview");
    w->from_hub = srtp(suite, true, key_up);
    w->to_hub = srtp(suite, false, key_down);
    w->from_viewer = srtp(suite, true, key_say);
    w->to_viewer = srtp(suite, false, key_view);
    w->now = pl_now_mono(&pl_clock_system);
    struct session s = { .suite = suite, .ice = w->viewer_ice, .video = { VIDEO, VIDEO_PT, 90000, 0 }, .audio = { AUDIO, AUDIO_PT, 48000, 2 } };
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
        .sender = { .suite = w->suite, .send_key = key_str(key_up, w->suite), .receive_key = key_str(key_down, w->suite), .ice = w->hub_ice,
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
        .sender = { .send_key = key_str(key_up, PL_SRTP_GCM), .receive_key = key_str(key_down, PL_SRTP_GCM), .ice = w.hub_ice, .video = { VIDEO, VIDEO_PT },
            .audio = { AUDIO, AUDIO_PT }, .mtu = 1200, .hard_end_us = PL_HOUR, .rand = &pl_rand_system } };
    assert_int_equal(stream_new(&conf, &s), PL_OK);
    assert_true(carry(&w, over));
    assert_string_equal(w.code, "io_error");
    assert_int_equal(atomic_load(&w.sending), 0);
    assert_null(stream_free(s));
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packets_come_out_in_order_and_loss_is_given_up),
        cmocka_unit_test(a_full_window_costs_only_the_oldest_gap), cmocka_unit_test(each_gap_has_its_own_time),
        cmocka_unit_test(the_tone_is_told_from_other_sounds),
        cmocka_unit_test(numbers_that_are_missing_are_counted),
        cmocka_unit_test(the_session_is_read_from_the_answer_or_its_object),
        cmocka_unit_test(picture_and_tone_arrive_as_sent_under_gcm),
        cmocka_unit_test(picture_and_tone_arrive_as_sent_under_sha1_80),
        cmocka_unit_test(a_source_that_fails_fails_the_session),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
