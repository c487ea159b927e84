/* The relay's edges: protocol messages as text, and the worker on real sockets (loopback). Waits have deadlines; nothing sleeps. */
#include "relay_batch.h"
#include "relay_control.h"
#include "relay_sim.h"
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <unistd.h>

/* ---- Messages. */

#define KEY28 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw"
#define LEG(suite, key) "\"ice\":{\"ufrag\":\"ufr1\",\"pwd\":\"0123456789abcdefghijKL\",\"peer_ufrag\":\"pee1\"},\"suite\":\"" suite "\",\"keys\":{\"receive\":\"" key \
    "\",\"send\":\"" key "\"},\"video\":{\"ssrc\":4294967295,\"payload_type\":96,\"codec\":\"H264\"},\"audio\":{\"ssrc\":2,\"payload_type\":111}"
#define WEBRTC_LEG(setup, suites, fp) "\"ice\":{\"ufrag\":\"ufr1\",\"pwd\":\"0123456789abcdefghijKL\",\"peer_ufrag\":\"pee1\"},\"webrtc\":{\"fingerprint\":\"" fp \
    "\",\"setup\":\"" setup "\",\"suites\":[" suites "],\"ext\":{\"transport_cc\":3,\"mid\":14},\"rtx\":{\"ssrc\":9,\"payload_type\":97},\"nack\":true,\"remb\":false," \
    "\"talk\":{\"ssrc\":0,\"payload_type\":111,\"mid\":\"0\"}},\"video\":{\"ssrc\":1,\"payload_type\":96}"
#define FINGERPRINT "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
#define BOTH "\"AES_CM_128_HMAC_SHA1_32\",\"AEAD_AES_128_GCM\",\"AEAD_AES_128_GCM\",\"AES_CM_128_HMAC_SHA1_80\""
#define LIVE "\"live_id\":\"01890000-0000-7000-8000-000000000001\""

static void commands_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum pl_err e;
        bool known;
        enum relay_cmd_kind kind;
    } cases[] = {
        { "{\"type\":\"session.open\",\"id\":\"a\"," LIVE ",\"generation\":3,\"expires_in_ms\":1500,\"source\":{" LEG("AEAD_AES_128_GCM", KEY28)
          ",\"talk\":{\"ssrc\":3,\"payload_type\":1},\"plain\":false}}",
            PL_OK, true, RELAY_OPEN },
        { "{\"type\":\"viewer.add\",\"id\":\"a\"," LIVE ",\"generation\":3,\"viewer_id\":\"v\"," LEG("AEAD_AES_128_GCM", KEY28) ",\"new_member\":1}",
            PL_OK, true, RELAY_VIEWER_ADD },
        { "{\"type\":\"viewer.add\",\"id\":\"a\"," LIVE ",\"generation\":3,\"viewer_id\":\"v\"," LEG("AES_CM_128_HMAC_SHA1_80", KEY28) "}", PL_INVALID_REQUEST, false, 0 },
        { "{\"type\":\"viewer.add\",\"id\":\"a\"," LIVE ",\"generation\":3,\"viewer_id\":\"v\"," LEG("AES_CM_128_HMAC_SHA1_32", KEY28) "}", PL_UNSUPPORTED_MEDIA, false, 0 },
        { "{\"type\":\"viewer.add\",\"id\":\"a\"," LIVE ",\"viewer_id\":\"v\"," LEG("AEAD_AES_128_GCM", KEY28) "}", PL_INVALID_REQUEST, false, 0 },
        { "{\"type\":\"viewer.remove\",\"id\":\"a\"," LIVE ",\"viewer_id\":\"v\"}", PL_OK, true, RELAY_VIEWER_REMOVE },
        { "{\"type\":\"session.extend\",\"id\":\"a\"," LIVE ",\"generation\":3,\"expires_in_ms\":0}", PL_INVALID_REQUEST, false, 0 },
        { "{\"type\":\"session.close\",\"id\":\"a\"," LIVE ",\"generation\":3,\"code\":\"revoked\"}", PL_OK, true, RELAY_CLOSE },
        { "{\"type\":\"live.sync\",\"id\":\"a\",\"sessions\":[{" LIVE ",\"generation\":3},"
          "{\"live_id\":\"01890000-0000-7000-8000-000000000002\",\"generation\":4}]}", PL_OK, true, RELAY_SYNC },
        { "{\"type\":\"viewer.restart\",\"id\":\"a\"," LIVE ",\"generation\":3,\"viewer_id\":\"v\",\"ice\":{\"ufrag\":\"ufr1\",\"pwd\":\"0123456789abcdefghijKL\","
          "\"peer_ufrag\":\"pee1\"}}", PL_OK, true, RELAY_VIEWER_RESTART },
        { "{\"type\":\"viewer.restart\",\"id\":\"a\"," LIVE ",\"generation\":3,\"viewer_id\":\"v\"}", PL_INVALID_REQUEST, false, 0 },
        { "{\"type\":\"session.restart\",\"id\":\"a\"," LIVE ",\"generation\":3,\"ice\":{\"ufrag\":\"ufr1\",\"pwd\":\"0123456789abcdefghijKL\","
          "\"peer_ufrag\":\"pee1\"}}", PL_OK, true, RELAY_RESTART },
        { "{\"type\":\"session.restart\",\"id\":\"a\"," LIVE ",\"generation\":3,\"ice\":{\"ufrag\":\"ufr1\",\"pwd\":\"short\",\"peer_ufrag\":\"pee1\"}}", PL_INVALID_REQUEST, false, 0 },
        { "{\"type\":\"viewer.add\",\"id\":\"a\"," LIVE ",\"generation\":3,\"viewer_id\":\"v\",\"ice\":{\"ufrag\":\"ufr1\",\"pwd\":\"0123456789abcdefghijKL\","
          "\"peer_ufrag\":\"pee1\"},\"suite\":\"AEAD_AES_128_GCM\",\"keys\":{\"receive\":\"" KEY28 "\",\"send\":\"" KEY28 "\"},\"video\":{\"ssrc\":0,\"payload_type\":96}}",
            PL_INVALID_REQUEST, false, 0 },
        { "{\"type\":\"live.sync\",\"sessions\":[]}", PL_OK, true, RELAY_SYNC },
        { "{\"type\":\"something.new\"}", PL_OK, false, 0 },
        { "{\"type\":7}", PL_OK, false, 0 },
        { "[]", PL_INVALID_REQUEST, false, 0 },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct pl_arena *a = pl_arena_new(1 << 20);
        struct relay_post p = { .ask = RELAY_ASK_CMD };
        bool known = false;
        enum pl_err e = relay_control_read(pl_str_of(cases[i].text), a, &p, &known, NULL);
        if (e != cases[i].e || known != cases[i].known || (known && p.cmd.kind != cases[i].kind))
            fail_msg("case %zu: %s, known %d, kind %d", i, pl_err_code(e), known, (int)p.cmd.kind);
        if (cases[i].known && p.cmd.kind != RELAY_SYNC)
            assert_true(p.cmd.ref.live_id.b[15] == 1 && strcmp(p.cmd.request, "a") == 0);
        if (known && (p.cmd.kind == RELAY_OPEN || p.cmd.kind == RELAY_VIEWER_ADD))
            assert_true(p.cmd.leg.receive_key[27] == 27 && p.cmd.leg.video.ssrc == UINT32_MAX && p.cmd.leg.audio.payload_type == 111 && p.cmd.ref.generation == 3);
        if (i == 0)
            assert_true(p.cmd.expires_in_us == 1500 * PL_MS && p.cmd.leg.talk.ssrc == 3 && strcmp(p.cmd.leg.ice.peer_ufrag, "pee1") == 0);
        if (i == 8) /* live.sync: what stays */
            assert_true(p.cmd.keep_n == 2 && p.cmd.keep[1].live_id.b[15] == 2 && p.cmd.keep[1].generation == 4);
        pl_heap_free(p.cmd.keep);
        pl_arena_free(a);
    }
}

/* In the place of keys: what an offer and its answer agreed on. */
static void webrtc_legs_are_read(void **state)
{
    (void)state;
#define ADD(rest) "{\"type\":\"viewer.add\",\"id\":\"a\"," LIVE ",\"generation\":3,\"viewer_id\":\"v\"," rest "}"
    static const struct {
        const char *text;
        enum pl_err e;
        const char *field;
    } cases[] = {
        { ADD(WEBRTC_LEG("active", BOTH, FINGERPRINT)), PL_OK, "" },
        { ADD(WEBRTC_LEG("passive", BOTH, FINGERPRINT)), PL_OK, "" },
        { ADD(WEBRTC_LEG("actpass", BOTH, FINGERPRINT)), PL_INVALID_REQUEST, "webrtc.setup" },
        { ADD(WEBRTC_LEG("active", "\"AES_CM_128_HMAC_SHA1_32\"", FINGERPRINT)), PL_UNSUPPORTED_MEDIA, "suites" },
        { ADD(WEBRTC_LEG("active", "", FINGERPRINT)), PL_UNSUPPORTED_MEDIA, "suites" },
        { ADD(WEBRTC_LEG("active", BOTH, "AAEC")), PL_INVALID_REQUEST, "webrtc.fingerprint" },
        { ADD(WEBRTC_LEG("active", BOTH, FINGERPRINT) ",\"suite\":\"AEAD_AES_128_GCM\",\"keys\":{\"receive\":\"" KEY28 "\",\"send\":\"" KEY28 "\"}"), PL_INVALID_REQUEST, "keys" },
        { ADD("\"ice\":{\"ufrag\":\"ufr1\",\"pwd\":\"0123456789abcdefghijKL\",\"peer_ufrag\":\"pee1\"},\"video\":{\"ssrc\":1,\"payload_type\":96}"), PL_INVALID_REQUEST, "keys" },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct pl_arena *a = pl_arena_new(1 << 20);
        struct relay_post p = { .ask = RELAY_ASK_CMD };
        struct pl_fail fail = PL_FAIL_INIT;
        bool known = false;
        enum pl_err e = relay_control_read(pl_str_of(cases[i].text), a, &p, &known, &fail);
        const struct relay_webrtc *w = &p.cmd.leg.webrtc;
        if (e != cases[i].e || strcmp(fail.field, cases[i].field) != 0)
            fail_msg("case %zu: %s, field %s", i, pl_err_code(e), fail.field);
        if (e == PL_OK)
            assert_true(w->on && w->active == (i == 0) && w->fingerprints[0][31] == 31 && w->suites_n == 2 && w->suites[0] == PL_SRTP_GCM && w->suites[1] == PL_SRTP_SHA1_80 &&
                w->ext_transport_cc == 3 && w->ext_abs_send_time == 0 && w->ext_mid == 14 && w->rtx.ssrc == 9 && w->rtx.payload_type == 97 && w->nack && !w->pli && !w->remb &&
                w->has_talk && w->talk.ssrc == 0 && w->talk.payload_type == 111 && strcmp(w->talk_mid, "0") == 0);
        pl_arena_free(a);
    }
}

/* What an offer may hold a leg may hold: mids of 32 characters, three fingerprints (sdp.h). */
static void legs_hold_what_offers_do(void **state)
{
    (void)state;
#define MANY(more, mid) ADD("\"ice\":{\"ufrag\":\"ufr1\",\"pwd\":\"0123456789abcdefghijKL\",\"peer_ufrag\":\"pee1\"},\"webrtc\":{\"fingerprint\":\"" FINGERPRINT \
    "\",\"more_fingerprints\":[" more "],\"setup\":\"active\",\"suites\":[" BOTH "],\"talk\":{\"ssrc\":0,\"payload_type\":111,\"mid\":\"" mid "\"}}," \
    "\"video\":{\"ssrc\":7,\"payload_type\":96}")
#define SIXTEEN "0123456789abcdef"
    static const struct {
        const char *text;
        enum pl_err e;
        const char *field;
    } cases[] = {
        { MANY("\"" FINGERPRINT "\",\"" FINGERPRINT "\"", SIXTEEN SIXTEEN), PL_OK, "" },
        { MANY("", SIXTEEN SIXTEEN "x"), PL_INVALID_REQUEST, "webrtc.talk.mid" },
        { MANY("\"AAEC\"", "0"), PL_INVALID_REQUEST, "more_fingerprints" },
        { MANY("\"" FINGERPRINT "\",\"" FINGERPRINT "\",\"" FINGERPRINT "\"", "0"), PL_INVALID_REQUEST, "webrtc.more_fingerprints" },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct pl_arena *a = pl_arena_new(1 << 20);
        struct relay_post p = { .ask = RELAY_ASK_CMD };
        struct pl_fail fail = PL_FAIL_INIT;
        bool known = false;
        enum pl_err e = relay_control_read(pl_str_of(cases[i].text), a, &p, &known, &fail);
        const struct relay_webrtc *w = &p.cmd.leg.webrtc;
        if (e != cases[i].e || strcmp(fail.field, cases[i].field) != 0)
            fail_msg("case %zu: %s, field %s", i, pl_err_code(e), fail.field);
        if (e == PL_OK)
            assert_true(w->fingerprints[1][31] == 31 && w->fingerprints[2][31] == 31 && strcmp(w->talk_mid, SIXTEEN SIXTEEN) == 0);
        pl_arena_free(a);
    }
}

static void sources_of_all_kinds_are_read(void **state)
{
    (void)state;
#define OPEN(source) "{\"type\":\"session.open\",\"id\":\"a\"," LIVE ",\"generation\":3,\"expires_in_ms\":1500,\"source\":{" source "}}"
    static const char *const texts[] = { OPEN("\"pending\":true"), OPEN(WEBRTC_LEG("active", BOTH, FINGERPRINT) ",\"audio\":{\"ssrc\":0,\"payload_type\":111}"),
        OPEN(LEG("AEAD_AES_128_GCM", KEY28) ",\"keyframe\":false,\"gop_ms\":4000") };
    for (size_t i = 0; i < PL_COUNT(texts); i++) {
        struct pl_arena *a = pl_arena_new(1 << 20);
        struct relay_post p = { .ask = RELAY_ASK_CMD };
        bool known = false;
        assert_int_equal(relay_control_read(pl_str_of(texts[i]), a, &p, &known, NULL), PL_OK);
        const struct relay_leg *l = &p.cmd.leg;
        assert_true(known && l->pending == (i == 0) && l->webrtc.on == (i == 1) && l->audio.latch == (i == 1) && l->no_key_frames == (i == 2) && !l->video.latch);
        assert_int_equal(l->gop_us, i == 2 ? 4 * PL_SECOND : 0);
        pl_arena_free(a);
    }
}

static void news_is_written(void **state)
{
    (void)state;
    struct relay_news ok = { .kind = RELAY_NEWS_ANSWER, .request = "r1" }, no = { .kind = RELAY_NEWS_ANSWER, .request = "r2", .result = PL_NODE_FULL };
    struct relay_news gone = { .kind = RELAY_NEWS_EVENT,
        .event = { .kind = RELAY_EV_VIEWER_GONE, .ref = { { { 1 } }, 5 }, .viewer_id = "v", .code = "viewer_lost", .at = { 9 * PL_SECOND } } };
    struct relay_news stats = { .kind = RELAY_NEWS_STATS, .stats = { .viewers = 2 },
        .dtls = { .open = 1, .finished = 5, .refused = 4, .failed = { [DTLS_WRONG_FINGERPRINT] = 3, [DTLS_TIMEOUT] = 2 } } };
    struct relay_news key = { .kind = RELAY_NEWS_EVENT, .event = { .kind = RELAY_EV_KEYFRAME_WANTED, .ref = { { { 1 } }, 5 } } };
    struct {
        const struct relay_news *n;
        const char *want;
    } cases[] = {
        { &ok, "{\"type\":\"ok\",\"re\":\"r1\"}" },
        { &no, "{\"type\":\"error\",\"re\":\"r2\",\"code\":\"node_full\"}" },
        { &gone, "{\"type\":\"session.event\",\"live_id\":\"01000000-0000-0000-0000-000000000000\","
                 "\"generation\":5,\"event\":\"viewer_gone\",\"viewer_id\":\"v\",\"code\":\"viewer_lost\","
                 "\"time\":\"1970-01-01T00:01:39.000Z\"}" },
        { &stats, "{\"type\":\"stats\",\"sessions\":0,\"viewers\":2,\"packets_in\":0,\"packets_out\":0,\"lost\":0,\"unproved\":0,\"not_sent\":0,"
                  "\"socket_overflow\":0,\"events_dropped\":0,\"cpu_us\":0,\"busy_percent\":71,\"refused_full\":6,\"too_fast\":0,\"freezes_in\":0,\"freezes_out\":2,"
                  "\"transit\":{\"50us\":0,\"150us\":0,\"500us\":0,\"1ms\":0,\"5ms\":0,\"longer\":7},"
                  "\"paced\":{\"100us\":9,\"5ms\":0,\"10ms\":0,\"20ms\":0,\"50ms\":0,\"longer\":0},\"stages_us\":{\"receive\":0,\"verify\":0,\"protect\":3,\"send\":0},"
                  "\"handshakes_open\":1,\"handshakes\":5,\"handshakes_failed\":5,\"handshakes_refused\":4,"
                  "\"failures\":{\"dtls_fingerprint\":3,\"dtls_no_profile\":0,\"dtls_alert\":0,\"dtls_timeout\":2,\"dtls_refused\":0,\"dtls_no_memory\":0}}" },
        { &key, "{\"type\":\"keyframe.wanted\",\"live_id\":\"01000000-0000-0000-0000-000000000000\"}" },
    };
    stats.io.transit[RELAY_TRANSITS - 1] = 7;
    stats.stats.paced[0] = 9;
    stats.stats.busy = 707;
    stats.stats.refused_full = 6;
    stats.stats.freezes_out = 2;
    stats.io.stage_us[RELAY_STAGE_PROTECT] = 3;
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        char mem[1024];
        struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
        relay_control_write(cases[i].n, (struct pl_utc){ 100 * PL_SECOND }, (struct pl_mono){ 10 * PL_SECOND }, &b); /* it happened a second ago */
        assert_string_equal(b.p, cases[i].want);
    }
}

/* A session's figures fit into one message, however many watch. */
static void figures_are_written(void **state)
{
    (void)state;
    struct relay_session_stats st = { .ref = { { { 1 } }, 5 }, .packets = 9, .lost = 1, .bitrate = 8000, .jitter_us = 2500, .rtt_us = 48900, .freezes = { 2, 1500999 }, .viewers_n = 1,
        .viewers = { { .id = "v", .packets = 8, .bytes = 800, .bitrate = 640, .asked = 3, .resent = 2, .key_asked = 1, .remb_bps = 5, .lost = 4, .fraction_lost = 64,
            .jitter_us = 7000, .rtt_us = 51000, .cc_bitrate = 7000, .cc_lost = 8,
            .queue_us = 31900, .freezes = { 1, 200000 }, .paused = true } } };
    struct relay_news n = { .kind = RELAY_NEWS_SESSION, .session = &st };
    char mem[8192];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    relay_control_write(&n, (struct pl_utc){ 0 }, (struct pl_mono){ 0 }, &b);
    assert_string_equal(b.p, "{\"type\":\"session.stats\",\"live_id\":\"01000000-0000-0000-0000-000000000000\",\"generation\":5,"
                             "\"source\":{\"packets\":9,\"lost\":1,\"jitter_ms\":2,\"rtt_ms\":49,\"bitrate\":8000,\"freezes\":2,\"frozen_ms\":1500},"
                             "\"viewers\":[{\"viewer_id\":\"v\",\"packets\":8,\"bytes\":800,"
                             "\"bitrate\":640,\"lost\":4,\"lost_percent\":25,\"jitter_ms\":7,\"rtt_ms\":51,\"asked\":3,\"resent\":2,\"keyframes_asked\":1,"
                             "\"remb\":5,\"arrived_bitrate\":7000,\"arrived_lost\":8,\"queue_ms\":31,"
                             "\"freezes\":1,\"frozen_ms\":200,\"paused\":true}]}");
    st.viewers_n = RELAY_VIEWERS;
    for (unsigned i = 0; i < RELAY_VIEWERS; i++) {
        memset(&st.viewers[i], 0x7f, sizeof st.viewers[i]); /* the largest figures and the longest id */
        memset(st.viewers[i].id, 'x', RELAY_ID_TEXT - 1);
        st.viewers[i].id[RELAY_ID_TEXT - 1] = 0;
        st.viewers[i].paused = false;
    }
    b = pl_buf_fixed(mem, sizeof mem);
    relay_control_write(&n, (struct pl_utc){ 0 }, (struct pl_mono){ 0 }, &b);
    assert_int_equal(pl_buf_err(&b), PL_OK);
}

/* ---- The worker. */


static int udp_to(const struct ice_addr *to)
{
    struct sockaddr_storage ss;
    socklen_t n = ice_addr_sockaddr(to, AF_INET, &ss);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&ss, n), 0);
    return fd;
}

static size_t wait_datagram(int fd, uint8_t *p, size_t cap)
{
    struct pollfd f = { .fd = fd, .events = POLLIN };
    if (poll(&f, 1, 5000) != 1)
        fail_msg("nothing came in 5 s");
    ssize_t n = recv(fd, p, cap, 0);
    assert_true(n > 0);
    return (size_t)n;
}

static const struct relay_news *wait_news(struct relay_worker *w)
{
    const struct relay_news *n;
    while (!relay_worker_peek(w, &n)) {
        struct pollfd f = { .fd = relay_worker_news_fd(w), .events = POLLIN };
        uint64_t count;
        if (poll(&f, 1, 5000) != 1)
            fail_msg("no news in 5 s");
        assert_int_equal(read(relay_worker_news_fd(w), &count, sizeof count), sizeof count);
    }
    return n;
}

static void wait_answer(struct relay_worker *w, const char *request)
{
    for (;;) {
        const struct relay_news *n = wait_news(w);
        bool mine = n->kind == RELAY_NEWS_ANSWER && strcmp(n->request, request) == 0;
        pl_heap_free(n->session);
        if (mine)
            assert_int_equal(n->result, PL_OK);
        relay_worker_next(w);
        if (mine)
            return;
    }
}

static void post(struct relay_worker *w, enum relay_cmd_kind kind, const struct sim_peer *p, const char *request)
{
    struct relay_post post = { .ask = RELAY_ASK_CMD, .cmd = { .kind = kind, .ref = { { { 1 } }, 1 }, .expires_in_us = PL_HOUR, .leg = p->leg } };
    memcpy(post.cmd.viewer_id, p->id, sizeof post.cmd.viewer_id);
    memcpy(post.cmd.request, request, strlen(request));
    assert_int_equal(relay_worker_post(w, &post), PL_OK);
    wait_answer(w, request);
}

static void check(struct sim *s, int fd, const struct sim_peer *p)
{
    char name[64];
    uint8_t out[STUN_MAX];
    size_t n;
    struct pl_buf b = pl_buf_fixed(name, sizeof name);
    pl_buf_fmt(&b, "%s:%s", p->leg.ice.ufrag, p->leg.ice.peer_ufrag);
    struct stun_request r = { .username = pl_buf_view(&b), .password = pl_str_of(p->leg.ice.pwd), .controlling = true, .use_candidate = true };
    pl_rand_fill(&s->rand.base, r.tid, sizeof r.tid);
    assert_int_equal(stun_write_request(s->mac, &r, out, sizeof out, &n), PL_OK);
    assert_int_equal(send(fd, out, n, 0), n);
    n = wait_datagram(fd, out, sizeof out);
    assert_int_equal(rtp_classify(out, n), RTP_CLASS_STUN);
}

static void media_through_real_sockets(void **state)
{
    (void)state;
    for (int no_gso = 0; no_gso < 2; no_gso++) {
        static struct sim s;
        static struct sim_peer hub, v;
        struct relay_worker *w = NULL;
        struct ice_addr any;
        assert_int_equal(ice_addr_parse(PL_STR("127.0.0.1:0"), &any), PL_OK);
        sim_new(&s, 1, 0);
        sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
        sim_peer_new(&s, &v, 2, PL_SRTP_SHA1_80, false);
        struct relay_worker_conf conf = { .media = any, .max_sessions = 2, .no_gso = no_gso, .clock = &pl_clock_system, .rand = &pl_rand_system };
        assert_int_equal(relay_worker_new(&conf, &w, NULL), PL_OK);
        assert_int_equal(relay_worker_start(w, NULL), PL_OK);
        struct ice_addr at = relay_worker_addr(w);
        int hub_fd = udp_to(&at), viewer_fd = udp_to(&at);
        post(w, RELAY_OPEN, &hub, "open");
        post(w, RELAY_VIEWER_ADD, &v, "add");
        check(&s, hub_fd, &hub);
        check(&s, viewer_fd, &v);
        unsigned sent = 0;
        for (unsigned frame = 0; frame < 20; frame++) {
            uint8_t payload[1000] = { 0x7c }, out[SIM_PACKET];
            hub.ts += 3000;
            for (unsigned i = 0; i < 5; i++, sent++) {
                payload[1] = (uint8_t)((i == 0 ? 0x80 : 0) | (i == 4 ? 0x40 : 0) | (frame == 0 ? 7 : 1)); /* a key frame: its first NAL is an SPS */
                if (frame == 0 && i == 0) {
                    static const uint8_t params[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c };
                    assert_true(send(hub_fd, out, sim_hub_packet(&hub, 0, false, params, sizeof params, out), 0) > 0);
                    sent++;
                }
                assert_true(send(hub_fd, out, sim_hub_packet(&hub, 0, i == 4, payload, i == 4 ? 300 : 1000, out), 0) > 0);
            }
        }
        while (v.got[0] < sent) {
            uint8_t in[SIM_PACKET];
            size_t n = wait_datagram(viewer_fd, in, sizeof in);
            if (rtp_classify(in, n) == RTP_CLASS_RTP)
                sim_rtp_in(&v, in, n);
        }
        assert_int_equal(v.frames, 20);
        assert_int_equal(v.incomplete, 0);
        struct relay_post ask = { .ask = RELAY_ASK_RUNNING, .connection = 7 };
        assert_int_equal(relay_worker_post(w, &ask), PL_OK);
        for (bool found = false; !found; relay_worker_next(w)) {
            const struct relay_news *n = wait_news(w);
            found = n->kind == RELAY_NEWS_RUNNING;
            if (found)
                assert_true(n->connection == 7 && n->running_n == 1 && n->running[0].generation == 1);
            pl_heap_free(n->running);
            pl_heap_free(n->session);
        }
        close(hub_fd);
        close(viewer_fd);
        relay_worker_free(w);
        sim_peer_free(&hub);
        sim_peer_free(&v);
        sim_free(&s);
    }
}

/* What was sent in a row comes as it was sent, datagram by datagram, whether the kernel hands it over as one message or not; more than a step takes comes in several, what is empty or
 * larger than any packet of ours, too: it is the relay that counts it. */
static void datagrams_come_as_they_were_sent(void **state)
{
    (void)state;
    static uint8_t out[60000], huge[3000];
    struct relay_batch *b = NULL;
    struct relay_in in[RELAY_STEP];
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, sender;
    socklen_t n = sizeof here;
    int64_t stamps[RELAY_STEP];
    uint64_t overflow = 0;
    uint16_t segment = 1000;
    unsigned came = 0, odd = 0;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&here, n) == 0 && getsockname(fd, (struct sockaddr *)&here, &n) == 0);
    relay_batch_prepare(fd);
    assert_int_equal(relay_batch_new(&b), PL_OK);
    struct ice_addr at = ice_addr_of((struct sockaddr *)&here);
    int from = udp_to(&at);
    assert_int_equal(getsockname(from, (struct sockaddr *)&sender, &n), 0);
    struct ice_addr whose = ice_addr_of((struct sockaddr *)&sender);
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (uint8_t)(i / segment);
    assert_int_equal(send(from, out, 0, 0), 0);
    assert_int_equal(send(from, out, 40, 0), 40);                   /* number 0, short */
    assert_int_equal(send(from, huge, sizeof huge, 0), sizeof huge);
    assert_int_equal(setsockopt(from, SOL_UDP, UDP_SEGMENT, &(int){ segment }, sizeof(int)), 0);
    assert_int_equal(send(from, out + segment, 39 * segment + 300, 0), 39 * segment + 300); /* 1 to 39, and 300 bytes of 40 */
    assert_int_equal(send(from, out + 41 * segment, 19 * segment, 0), 19 * segment);        /* 41 to 59 */
    assert_int_equal(send(from, out, 59 * segment, 0), 59 * segment);                       /* and once more from the start */
    while (came < 1 + 40 + 19 + 59) {
        struct pollfd f = { .fd = fd, .events = POLLIN };
        assert_int_equal(poll(&f, 1, 5000), 1);
        (void)relay_batch_read(b, fd, &overflow);
        for (size_t k; (k = relay_batch_take(b, in, stamps)) > 0;)
            for (size_t i = 0; i < k; i++) {
                if (in[i].n == 0 || in[i].n == sizeof huge) {
                    odd++;
                    continue;
                }
                unsigned number = came < 60 ? came : came - 60;
                assert_true(in[i].p[0] == number && in[i].p[in[i].n - 1] == number && ice_addr_eq(&in[i].from, &whose) && stamps[i] > INT64_C(1700000000) * PL_SECOND);
                assert_int_equal(in[i].n, came == 0 ? 40 : came == 40 ? 300 : segment);
                came++;
            }
    }
    assert_int_equal(odd, 2);
    assert_false(relay_batch_read(b, fd, &overflow));
    assert_int_equal(relay_batch_take(b, in, stamps), 0);
    assert_int_equal(overflow, 0);
    relay_batch_free(b);
    close(fd);
    close(from);
}

static void a_port_in_use_is_said(void **state)
{
    (void)state;
    struct relay_worker *a = NULL, *b = NULL;
    struct relay_worker_conf c = { .max_sessions = 1, .clock = &pl_clock_system, .rand = &pl_rand_system };
    struct pl_fail fail = PL_FAIL_INIT;
    assert_int_equal(ice_addr_parse(PL_STR("127.0.0.1:0"), &c.media), PL_OK);
    assert_int_equal(relay_worker_new(&c, &a, &fail), PL_OK);
    c.media = relay_worker_addr(a);
    assert_int_equal(relay_worker_new(&c, &b, &fail), PL_UNAVAILABLE);
    assert_non_null(strstr(fail.detail, "127.0.0.1"));
    relay_worker_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(commands_are_read), cmocka_unit_test(webrtc_legs_are_read), cmocka_unit_test(legs_hold_what_offers_do),
        cmocka_unit_test(sources_of_all_kinds_are_read),
        cmocka_unit_test(news_is_written), cmocka_unit_test(figures_are_written), cmocka_unit_test(media_through_real_sockets), cmocka_unit_test(datagrams_come_as_they_were_sent),
        cmocka_unit_test(a_port_in_use_is_said) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
