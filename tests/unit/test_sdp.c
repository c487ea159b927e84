/* Offers of real clients (tests/unit/sdp: captured, see the README there) and what is answered to them; media.md, Offers and answers; V-C7: what cannot be served is refused by name. */
#include "sdp.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct pl_arena *arena;
static int make_arena(void **state)
{
    (void)state;
    return (arena = pl_arena_new(4 << 20)) ? 0 : -1;
}
static int free_arena(void **state)
{
    (void)state;
    arena = pl_arena_free(arena);
    return 0;
}

/* A file of tests/unit/sdp, with CRLF at the ends of its lines, as it is on the wire. */
static struct pl_str file(const char *name)
{
    struct pl_buf b = pl_buf_init(arena, 1 << 17);
    char path[512], line[4096];
    (void)snprintf(path, sizeof path, "%s/%s.sdp", PL_TEST_FILES, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        pl_buf_str(&b, pl_str_trim(pl_str_of(line)));
        pl_buf_z(&b, "\r\n");
    }
    (void)fclose(f);
    assert_int_equal(pl_buf_err(&b), PL_OK);
    return pl_buf_view(&b);
}

/* The text with the first (or each) `from` changed. */
static struct pl_str change(struct pl_str s, const char *from, const char *to, bool each)
{
    struct pl_buf b = pl_buf_init(arena, 1 << 17);
    size_t n = strlen(from), done = 0;
    for (size_t i = 0; i < s.n;)
        if (s.n - i >= n && memcmp(s.p + i, from, n) == 0 && (each || done == 0)) {
            pl_buf_z(&b, to);
            i += n;
            done++;
        } else
            pl_buf_add(&b, s.p + i++, 1);
    assert_true(done > 0);
    assert_int_equal(pl_buf_err(&b), PL_OK);
    return pl_buf_view(&b);
}
static struct pl_str without(struct pl_str s, const char *line) { return change(s, line, "a=x-gone\r\n", true); }

static bool has(struct pl_str s, const char *what)
{
    const char *p = pl_str_z(arena, s);
    return strstr(p, what) != NULL;
}

static struct sdp_ours ours(void)
{
    struct sdp_ours o = { .prefer_active = true, .session_id = 4711, .version = 1, .ufrag = PL_STR_INIT("OurUfrag"), .pwd = PL_STR_INIT("OurPasswordOf32CharactersInLength"),
                          .candidates = { { PL_STR_INIT("203.0.113.7"), 50000 }, { PL_STR_INIT("2001:db8::7"), 50001 } }, .n_candidates = 2, .cname = PL_STR_INIT("porchlight"),
                          .msid = PL_STR_INIT("camera"), .video_ssrc = 1001, .rtx_ssrc = 1002, .audio_ssrc = 1003, .h264_profile = 0x640028,
                          .audio = SDP_MASK(SDP_OPUS), .talk = SDP_MASK(SDP_OPUS), .rtx = true, .transport_cc = true, .remb = true };
    for (size_t i = 0; i < sizeof o.fingerprint; i++)
        o.fingerprint[i] = (uint8_t)(0xa0 + i);
    return o;
}
static struct sdp_ours to_publisher(void)
{
    struct sdp_ours o = ours();
    o.publisher = true;
    o.audio = o.talk = SDP_MASK(SDP_OPUS) | SDP_MASK(SDP_PCMU) | SDP_MASK(SDP_PCMA);
    o.rtx = false;
    return o;
}

struct outcome {
    enum pl_err error;
    const struct sdp_offer *offer;
    struct sdp_agreed agreed;
    struct pl_str text;
    struct pl_fail fail;
};

/* RFC 3264, 6: an answer has the offer's lines, in its order, with its media and mids; and is an SDP text. */
static void check_answer(const struct sdp_offer *o, struct pl_str text)
{
    struct sdp_offer *a;
    struct pl_fail fail = PL_FAIL_INIT;
    assert_int_equal(sdp_read_offer(arena, text, &a, &fail), PL_OK);
    assert_int_equal(a->n_lines, o->n_lines);
    assert_true(a->ice_lite);
    for (size_t i = 0; i < o->n_lines; i++) {
        assert_true(pl_str_eq(a->lines[i].media, o->lines[i].media) && pl_str_eq(a->lines[i].proto, o->lines[i].proto));
        assert_true(pl_str_eq(a->lines[i].mid, o->lines[i].mid));
        assert_true((a->lines[i].way & SDP_PEER_SENDS ? o->lines[i].way & SDP_PEER_RECEIVES : true) && (a->lines[i].way & SDP_PEER_RECEIVES ? o->lines[i].way & SDP_PEER_SENDS : true));
        for (size_t k = 0; k < a->lines[i].n_codecs && a->lines[i].usable; k++) {
            bool offered = false;
            for (size_t n = 0; n < o->lines[i].n_codecs; n++)
                offered = offered || (o->lines[i].codecs[n].payload_type == a->lines[i].codecs[k].payload_type && o->lines[i].codecs[n].name == a->lines[i].codecs[k].name);
            assert_true(offered);
        }
        for (size_t e = 0; e < SDP_EXTS; e++)
            assert_true(a->lines[i].ext[e] == 0 || a->lines[i].ext[e] == o->lines[i].ext[e]);
    }
}

static struct outcome answer(struct pl_str text, const struct sdp_ours *with)
{
    struct outcome r = { .fail = PL_FAIL_INIT };
    struct sdp_offer *o = NULL;
    r.error = sdp_read_offer(arena, text, &o, &r.fail);
    if (r.error == PL_OK)
        r.error = sdp_answer(arena, o, with, &r.agreed, &r.text, &r.fail);
    if (r.error == PL_OK)
        check_answer(o, r.text);
    r.offer = o;
    return r;
}
static struct outcome served(struct pl_str text, const struct sdp_ours *with)
{
    struct outcome r = answer(text, with);
    if (r.error != PL_OK)
        fail_msg("refused: %s %s", pl_err_code(r.error), r.fail.field);
    return r;
}
static void refused(struct pl_str text, const struct sdp_ours *with, enum pl_err error, const char *why)
{
    struct outcome r = answer(text, with);
    assert_int_equal(r.error, error);
    assert_string_equal(r.fail.field, why);
    assert_true(r.fail.detail[0] != '\0');
}

static void real_clients(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool publisher;
        int video, rtx, audio, talk; /* payload types, -1: not served */
        unsigned feedback;
        uint8_t ext[SDP_EXTS];
    } rows[] = {
        { "chromium-view", false, 116, 117, 111, 111, SDP_NACK | SDP_PLI | SDP_FIR | SDP_TRANSPORT_CC, { 4, 0, 14, 9 } },
        { "chromium-view-extra", false, 116, 117, 111, 111, SDP_NACK | SDP_PLI | SDP_FIR | SDP_TRANSPORT_CC, { 3, 0, 1, 4 } },
        { "chromium-publish", true, 102, -1, 111, 111, SDP_NACK | SDP_PLI | SDP_FIR | SDP_TRANSPORT_CC, { 4, 0, 14, 9 } },
        { "aiortc-view", false, 101, 102, 96, 96, SDP_NACK | SDP_PLI | SDP_REMB, { 0, 2, 0, 1 } },
        { "firefox-h264-view", false, 126, 127, 109, 109, SDP_NACK | SDP_PLI | SDP_FIR | SDP_REMB, { 0, 4, 1, 3 } },
        { "libwebrtc-ios-view", false, 98, 99, 111, 111, SDP_NACK | SDP_PLI | SDP_FIR | SDP_TRANSPORT_CC, { 3, 0, 1, 4 } },
        { "libwebrtc-android-view", false, 98, 99, 111, 111, SDP_NACK | SDP_PLI | SDP_FIR | SDP_TRANSPORT_CC, { 3, 0, 1, 4 } },
        { "pion-publish", true, 102, -1, 111, 111, SDP_NACK | SDP_PLI | SDP_FIR | SDP_REMB, { 0 } },
        { "gstreamer-view", false, 96, -1, 97, -1, SDP_PLI | SDP_FIR, { 0 } },
        { "gstreamer-publish", true, 96, -1, 97, 97, SDP_PLI | SDP_FIR, { 0 } },
    };
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct sdp_ours o = rows[i].publisher ? to_publisher() : ours();
        struct outcome r = served(file(rows[i].name), &o);
        const struct sdp_agreed *g = &r.agreed;
        print_message("%s\n", rows[i].name);
        assert_int_equal(g->video.served ? g->video.payload_type : -1, rows[i].video);
        assert_int_equal(g->rtx ? g->rtx_payload_type : -1, rows[i].rtx);
        assert_int_equal(g->audio.served ? g->audio.payload_type : -1, rows[i].audio);
        assert_int_equal(g->talk.served ? g->talk.payload_type : -1, rows[i].talk);
        assert_int_equal(g->feedback, rows[i].feedback);
        assert_memory_equal(g->ext, rows[i].ext, sizeof g->ext);
        assert_true(g->active && g->peer_ufrag.n >= 4 && g->peer_pwd.n >= 22);
    }
}

/* The captured offer is what the answer's values come from. */
static void values_of_an_offer(void **state)
{
    (void)state;
    static const uint8_t print[] = { 0x23, 0x5c, 0x85, 0x10, 0xa1, 0x61, 0x29, 0x6e, 0x6a, 0x83, 0x02, 0x30, 0x2d, 0x64, 0xbf, 0xec,
                                     0x9d, 0x43, 0x9f, 0x0f, 0xba, 0x72, 0x49, 0x28, 0xce, 0x71, 0x6d, 0x95, 0x07, 0x67, 0x1b, 0x87 };
    struct sdp_ours o = ours();
    struct outcome r = served(file("aiortc-view"), &o);
    assert_true(pl_str_eqz(r.agreed.peer_ufrag, "a3Zb") && pl_str_eqz(r.agreed.peer_pwd, "pOPdzZZAq321u7S7miLTuQ"));
    assert_memory_equal(r.agreed.peer_fingerprints[0], print, sizeof print);
    assert_int_equal(r.agreed.peer_fingerprints_n, 1);
    assert_int_equal(r.agreed.video.ssrc, 1001);
    assert_int_equal(r.agreed.rtx_ssrc, 1002);
    assert_int_equal(r.agreed.audio.ssrc, 1003);
    assert_int_equal(r.agreed.talk.ssrc, 3236802374);
    assert_true(pl_str_eqz(r.agreed.talk.mid, "1") && r.agreed.talk.line == 1);
    struct sdp_ours p = to_publisher();
    r = served(file("gstreamer-publish"), &p);
    assert_int_equal(r.agreed.video.ssrc, 1679180575);
    assert_int_equal(r.agreed.audio.ssrc, 351564225);
    assert_int_equal(r.agreed.talk.ssrc, 1003);
}

#define BYTES(b) b ":" b ":" b ":" b ":" b ":" b ":" b ":" b
#define PRINT(b) "a=fingerprint:sha-256 " BYTES(b) ":" BYTES(b) ":" BYTES(b) ":" BYTES(b) "\r\n"

/* RFC 8122, 5: whoever has several certificates names all of them, and may show any; more than can be kept are refused by name, and none is passed over. */
static void several_fingerprints(void **state)
{
    (void)state;
    struct sdp_ours o = ours();
    struct pl_str offer = file("aiortc-view");
    struct outcome r = served(change(offer, "a=fingerprint:", PRINT("0A") PRINT("0B") PRINT("0A") "a=fingerprint:sha-512 00\r\na=fingerprint:", true), &o);
    assert_int_equal(r.agreed.peer_fingerprints_n, 3);
    assert_true(r.agreed.peer_fingerprints[0][31] == 0x0a && r.agreed.peer_fingerprints[1][0] == 0x0b && r.agreed.peer_fingerprints[2][0] == 0x23);
    refused(change(offer, "a=fingerprint:", PRINT("0A") PRINT("0B") PRINT("0C") "a=fingerprint:", true), &o, PL_INVALID_REQUEST, "too_many");
}

static void what_an_answer_says(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "a=group:BUNDLE 0 1\r\n", "a=ice-lite\r\n", "a=ice-options:trickle\r\n", "m=video 50000 UDP/TLS/RTP/SAVPF 116 117\r\nc=IN IP4 203.0.113.7\r\na=mid:0\r\n",
        "a=ice-ufrag:OurUfrag\r\na=ice-pwd:OurPasswordOf32CharactersInLength\r\n", "a=fingerprint:sha-256 A0:A1:A2:", ":BE:BF\r\na=setup:active\r\na=sendonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n",
        "a=fmtp:116 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f\r\n", "a=rtpmap:117 rtx/90000\r\na=fmtp:117 apt=116\r\n",
        "a=rtcp-fb:116 nack\r\na=rtcp-fb:116 nack pli\r\na=rtcp-fb:116 ccm fir\r\na=rtcp-fb:116 transport-cc\r\n",
        "a=ssrc-group:FID 1001 1002\r\na=ssrc:1001 cname:porchlight\r\na=ssrc:1001 msid:camera video\r\n", "a=ssrc:1002 cname:porchlight\r\n", "a=ssrc:1003 cname:porchlight\r\n",
        "a=candidate:1 1 udp 2130706431 203.0.113.7 50000 typ host\r\na=candidate:2 1 udp 2130706175 2001:db8::7 50001 typ host\r\na=end-of-candidates\r\n", "a=sendrecv\r\n",
    };
    struct sdp_ours o = ours();
    struct outcome r = served(file("chromium-view"), &o);
    for (size_t i = 0; i < PL_COUNT(lines); i++)
        if (!has(r.text, lines[i]))
            fail_msg("no %s in\n%.*s", lines[i], PL_FMT(r.text));
    assert_false(has(r.text, "goog-remb")); /* one mechanism */
    r = served(file("chromium-view-extra"), &o);
    assert_true(has(r.text, "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\na=mid:3\r\n"));
    assert_true(has(r.text, "a=group:BUNDLE 0 1 2\r\n"));
    assert_int_equal(r.agreed.talk.line, 2);
    assert_int_equal(r.agreed.audio.line, 0);
}

/* Same profile, else Main, else constrained baseline, else any; the level is not looked at. */
static void profiles(void **state)
{
    (void)state;
    static const struct {
        uint32_t source;
        int payload_type;
    } rows[] = { { 0x640028, 116 }, { 0x4d0033, 116 }, { 0x42e00a, 108 }, { 0x42c01f, 108 }, { 0x4d801f, 108 }, { 0x42001e, 102 }, { 0xf40028, 41 }, { 0, 116 } };
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct sdp_ours o = ours();
        o.h264_profile = rows[i].source;
        struct outcome r = served(file("chromium-view"), &o);
        assert_int_equal(r.agreed.video.payload_type, rows[i].payload_type);
        r = served(change(file("chromium-view"), "profile-level-id=4d001f", "profile-level-id=64001f", true), &o);
        assert_int_equal(r.agreed.video.payload_type, rows[i].source == 0x640028 ? 116 : rows[i].source == 0x4d0033 || rows[i].source == 0 ? 108 : rows[i].payload_type);
    }
    /* A parameter that is not there is baseline (RFC 6184), and is not said in the answer. */
    struct sdp_ours o = ours();
    struct outcome r = served(change(file("gstreamer-view"), ";profile-level-id=42e01f", "", false), &o);
    assert_true(has(r.text, "a=fmtp:96 packetization-mode=1\r\n"));
}

/* What the browser shall send comes first: PCMU up and Opus down share a line. */
static void two_codecs_on_a_line(void **state)
{
    (void)state;
    struct sdp_ours o = ours();
    o.talk = SDP_MASK(SDP_PCMU);
    struct outcome r = served(file("chromium-view"), &o);
    assert_int_equal(r.agreed.talk.payload_type, 0);
    assert_int_equal(r.agreed.talk.codec, SDP_PCMU);
    assert_int_equal(r.agreed.audio.payload_type, 111);
    assert_true(has(r.text, "UDP/TLS/RTP/SAVPF 0 111\r\n"));
    o.audio = SDP_MASK(SDP_PCMA);
    r = served(file("chromium-view"), &o);
    assert_true(has(r.text, "UDP/TLS/RTP/SAVPF 0 8\r\n") && r.agreed.audio.codec == SDP_PCMA);
    struct sdp_ours p = to_publisher();
    p.talk = SDP_MASK(SDP_PCMU);
    r = served(file("chromium-publish"), &p);
    assert_true(has(r.text, "UDP/TLS/RTP/SAVPF 111 0\r\n"));
}

static void sound_that_is_missing(void **state)
{
    (void)state;
    struct sdp_ours o = ours();
    struct outcome r = served(change(file("chromium-view"), "a=sendrecv", "a=recvonly", true), &o);
    assert_true(r.agreed.audio.served && !r.agreed.talk.served);
    assert_string_equal(r.agreed.talk_refused, "not_offered");
    assert_false(has(r.text, "ssrc-audio-level"));
    o.talk = 0;
    r = served(file("chromium-view"), &o);
    assert_string_equal(r.agreed.talk_refused, "not_there");
    assert_true(has(r.text, "a=sendonly\r\n") && !has(r.text, "a=sendrecv\r\n"));
    o = ours();
    o.audio = 0;
    r = served(file("chromium-view"), &o);
    assert_string_equal(r.agreed.audio_refused, "not_there");
    assert_true(r.agreed.talk.served && has(r.text, "a=recvonly\r\n"));
    o = ours();
    r = served(change(file("chromium-view"), "opus/48000/2", "speex/8000", true), &o);
    assert_string_equal(r.agreed.audio_refused, "no_audio_codec");
    assert_string_equal(r.agreed.talk_refused, "no_audio_codec");
    assert_true(has(r.text, "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\n") && has(r.text, "a=group:BUNDLE 0\r\n"));
}

static void setup_rules(void **state)
{
    (void)state;
    static const struct {
        const char *offer;
        bool prefer, active;
    } rows[] = { { "a=setup:actpass\r\n", true, true }, { "a=setup:actpass\r\n", false, false }, { "a=setup:active\r\n", true, false }, { "a=setup:passive\r\n", false, true },
                 { "a=x-none\r\n", true, false } };
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct sdp_ours o = ours();
        o.prefer_active = rows[i].prefer;
        struct outcome r = served(change(file("chromium-view"), "a=setup:actpass\r\n", rows[i].offer, true), &o);
        assert_int_equal(r.agreed.active, rows[i].active);
        assert_true(has(r.text, rows[i].active ? "a=setup:active\r\n" : "a=setup:passive\r\n"));
    }
}

static void refusals(void **state)
{
    (void)state;
    struct sdp_ours o = ours(), p = to_publisher();
    struct pl_str good = file("chromium-view");
    refused(file("firefox-view"), &o, PL_UNSUPPORTED_MEDIA, "no_h264");
    refused(change(good, "packetization-mode=1", "packetization-mode=0", true), &o, PL_UNSUPPORTED_MEDIA, "no_packetization_mode_1");
    refused(change(change(good, "m=video 9", "m=video 0", false), "opus/48000/2", "speex/8000", false), &o, PL_UNSUPPORTED_MEDIA, "no_audio_codec");
    refused(change(change(good, "m=video 9", "m=video 0", false), "m=audio 9", "m=audio 0", false), &o, PL_OFFER_REFUSED, "no_media");
    refused(good, &p, PL_OFFER_REFUSED, "direction");
    refused(file("chromium-publish"), &o, PL_OFFER_REFUSED, "direction");
    refused(without(good, "a=rtcp-mux\r\n"), &o, PL_OFFER_REFUSED, "no_rtcp_mux");
    refused(change(good, "a=group:BUNDLE 0 1", "a=x-group", false), &o, PL_OFFER_REFUSED, "no_bundle");
    refused(change(good, "a=group:BUNDLE 0 1", "a=group:BUNDLE 0\r\na=group:BUNDLE 1", false), &o, PL_OFFER_REFUSED, "no_bundle");
    refused(change(good, "UDP/TLS/RTP/SAVPF", "RTP/AVP", true), &o, PL_OFFER_REFUSED, "transport");
    refused(change(good, "a=mid:0\r\n", "a=mid:0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n", false), &o, PL_OFFER_REFUSED, "sdes");
    refused(change(good, "a=ice-ufrag:", "a=x-ufrag:", true), &o, PL_OFFER_REFUSED, "no_ice");
    refused(change(good, "a=ice-ufrag:", "a=ice-ufrag:_", true), &o, PL_OFFER_REFUSED, "ice_ufrag");
    refused(change(good, "a=msid-semantic: WMS", "a=ice-lite", false), &o, PL_OFFER_REFUSED, "ice_lite");
    refused(change(good, "a=fingerprint:sha-256 ", "a=fingerprint:sha-512 ", true), &o, PL_OFFER_REFUSED, "fingerprint_hash");
    refused(change(good, "a=fingerprint:", "a=x-print:", true), &o, PL_OFFER_REFUSED, "no_fingerprint");
    refused(change(good, "a=setup:actpass", "a=setup:holdconn", true), &o, PL_OFFER_REFUSED, "setup");
    refused(change(good, "a=setup:actpass", "a=setup:perhaps", true), &o, PL_INVALID_REQUEST, "malformed");
    refused(PL_STR(""), &o, PL_INVALID_REQUEST, "malformed");
    refused(PL_STR("{\"sdp\":\"v=0\"}"), &o, PL_INVALID_REQUEST, "malformed");
    refused(change(good, "a=mid:1\r\n", "a=mid:0\r\n", false), &o, PL_INVALID_REQUEST, "malformed");
    refused(change(good, "a=mid:1\r\n", "a=mid:a b\r\n", false), &o, PL_INVALID_REQUEST, "malformed");
    refused(PL_STR("v=0\r\n"), &o, PL_OFFER_REFUSED, "no_media");
}

static void ceilings(void **state)
{
    (void)state;
    struct sdp_ours o = ours();
    struct pl_buf b = pl_buf_init(arena, 1 << 16);
    pl_buf_z(&b, "v=0\r\n");
    while (b.n <= SDP_TEXT_MAX)
        pl_buf_z(&b, "a=candidate:1 1 udp 1 203.0.113.1 9 typ host\r\n");
    refused(pl_buf_view(&b), &o, PL_INVALID_REQUEST, "too_long");
    b = pl_buf_init(arena, 1 << 16);
    pl_buf_z(&b, "v=0\r\n");
    for (int i = 0; i <= SDP_LINES_MAX; i++)
        pl_buf_z(&b, "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n");
    refused(pl_buf_view(&b), &o, PL_INVALID_REQUEST, "too_many");
    b = pl_buf_init(arena, 1 << 16);
    pl_buf_z(&b, "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF");
    for (int i = 0; i <= SDP_CODECS_MAX; i++)
        pl_buf_z(&b, " 0");
    pl_buf_z(&b, "\r\n");
    refused(pl_buf_view(&b), &o, PL_INVALID_REQUEST, "too_many");
    b = pl_buf_init(arena, 1 << 16);
    pl_buf_z(&b, "v=0\r\n");
    for (int i = 0; i < 2048; i++)
        pl_buf_z(&b, "a=x\r\n");
    refused(pl_buf_view(&b), &o, PL_INVALID_REQUEST, "too_many");
    char nul[] = "v=0\r\na=x\0y\r\n";
    refused((struct pl_str){ nul, sizeof nul - 1 }, &o, PL_INVALID_REQUEST, "malformed");
    refused(PL_STR("v=0\ra=x\rm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"), &o, PL_INVALID_REQUEST, "malformed");
}

/* Reading and answering the most that is taken costs no more than the arena that sdp.h names, and short memory is an error like others. */
static void memory_is_bounded(void **state)
{
    (void)state;
    struct pl_buf b = pl_buf_init(arena, 1 << 16);
    struct sdp_offer *o;
    struct pl_fail fail = PL_FAIL_INIT;
    pl_buf_z(&b, "v=0\r\n");
    for (int i = 0; i < SDP_LINES_MAX; i++) {
        pl_buf_z(&b, "m=audio 9 UDP/TLS/RTP/SAVPF");
        for (int k = 0; k < SDP_CODECS_MAX; k++)
            pl_buf_fmt(&b, " %d", k);
        pl_buf_z(&b, "\r\n");
    }
    for (int i = 0; i < 1900 && b.n + 16 < SDP_TEXT_MAX; i++)
        pl_buf_z(&b, "a=abc:abcdef\r\n");
    assert_int_equal(pl_buf_err(&b), PL_OK);
    struct pl_arena *small = pl_arena_new(512 << 10);
    assert_int_equal(sdp_read_offer(small, pl_buf_view(&b), &o, &fail), PL_OK);
    small = pl_arena_free(small);
    for (size_t ceiling = 64; ceiling < 128 << 10; ceiling += 96) {
        struct sdp_ours us = ours();
        struct sdp_agreed agreed;
        struct pl_str text;
        small = pl_arena_new(ceiling);
        enum pl_err e = sdp_read_offer(small, file("gstreamer-view"), &o, &fail);
        if (e == PL_OK)
            e = sdp_answer(small, o, &us, &agreed, &text, &fail);
        assert_true(e == PL_OK || e == PL_NO_MEMORY);
        small = pl_arena_free(small);
        if (e == PL_OK)
            return;
    }
    fail_msg("never enough");
}

static void restart(void **state)
{
    (void)state;
    struct sdp_fragment f;
    struct pl_fail fail = PL_FAIL_INIT;
    struct pl_str text;
    struct sdp_ours o = ours();
    /* RFC 9725, 4.3.3 */
    assert_int_equal(sdp_read_fragment(arena, PL_STR("a=ice-options:trickle ice2\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:ysXw\r\n"
                                                     "a=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\na=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host\r\n"), &f, &fail), PL_OK);
    assert_true(pl_str_eqz(f.ufrag, "ysXw") && pl_str_eqz(f.pwd, "vw5LmwG4y/e6dPP/zAP9Gp5k") && pl_str_eqz(f.mid, "0"));
    assert_int_equal(sdp_answer_fragment(arena, &f, &o, &text), PL_OK);
    assert_true(has(text, "a=ice-lite\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:OurUfrag\r\na=ice-pwd:OurPasswordOf32CharactersInLength\r\n"
                          "a=candidate:1 1 udp 2130706431 203.0.113.7 50000 typ host\r\n"));
    assert_int_equal(sdp_read_fragment(arena, PL_STR("m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 61764 typ host\r\na=end-of-candidates\r\n"), &f, &fail), PL_OK);
    assert_null(f.ufrag.p);
    assert_int_equal(sdp_read_fragment(arena, PL_STR("a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1"), &f, &fail), PL_OK); /* no end of line, no m= line */
    assert_int_equal(sdp_answer_fragment(arena, &f, &o, &text), PL_OK);
    assert_true(has(text, "m=audio 9 RTP/AVP 0\r\na=ice-ufrag:OurUfrag\r\n"));
    assert_int_equal(sdp_read_fragment(arena, PL_STR("a=ice-ufrag:EsAw\r\n"), &f, &fail), PL_OFFER_REFUSED);
    assert_string_equal(fail.field, "ice_ufrag");
    assert_int_equal(sdp_read_fragment(arena, PL_STR("candidate:1"), &f, &fail), PL_INVALID_REQUEST);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_arena, free_arena)
int main(void)
{
    const struct CMUnitTest tests[] = { TEST(real_clients), TEST(values_of_an_offer), TEST(several_fingerprints),
        TEST(what_an_answer_says), TEST(profiles), TEST(two_codecs_on_a_line), TEST(sound_that_is_missing),
                                        TEST(setup_rules), TEST(refusals), TEST(ceilings), TEST(memory_is_bounded),
                                        TEST(restart) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
