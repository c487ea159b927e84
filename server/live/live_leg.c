#include "live_leg.h"
#include <stdio.h>

const char *const live_suite_names[] = { "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80", NULL };
static const size_t key_sizes[LIVE_SUITES] = { 28, 30 };

/* ICE characters (RFC 8839: letters, digits, + and /) without modulo bias: 6 bits each. */
void live_leg_ice_text(struct pl_rand *rand, char *out, size_t n)
{
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t raw[32];
    pl_rand_fill(rand, raw, n);
    for (size_t i = 0; i < n; i++)
        out[i] = set[raw[i] & 63];
    out[n] = '\0';
}

uint32_t live_leg_ssrc(struct pl_rand *rand, uint32_t other, uint32_t another)
{
    uint32_t v;
    do
        v = pl_rand_u32(rand);
    while (v == 0 || v == other || v == another);
    return v;
}

void live_leg_new(struct pl_rand *rand, enum live_suite suite, struct live_leg *ret)
{
    *ret = (struct live_leg){ .suite = suite };
    live_leg_ice_text(rand, ret->ufrag, 8);
    live_leg_ice_text(rand, ret->pwd, 32);
    live_leg_ice_text(rand, ret->peer_ufrag, 8);
    pl_rand_fill(rand, ret->to_relay, sizeof ret->to_relay);
    pl_rand_fill(rand, ret->from_relay, sizeof ret->from_relay);
    ret->video_ssrc = live_leg_ssrc(rand, 0, 0);
    ret->audio_ssrc = live_leg_ssrc(rand, ret->video_ssrc, 0);
    ret->talk_ssrc = live_leg_ssrc(rand, ret->video_ssrc, ret->audio_ssrc);
}

void live_leg_new_plain(struct pl_rand *rand, enum live_suite suite, struct live_leg *ret)
{
    do
        live_leg_new(rand, suite, ret);
    while (ret->video_ssrc > INT32_MAX || ret->audio_ssrc > INT32_MAX);
}

static void stream(struct jw *w, const char *name, uint32_t ssrc, int pt, const char *codec, int clock_rate, int channels)
{
    jw_open(w, name);
    jw_int(w, "ssrc", ssrc);
    jw_int(w, "payload_type", pt);
    jw_z(w, "codec", codec);
    jw_int(w, "clock_rate", clock_rate);
    if (channels)
        jw_int(w, "channels", channels);
    jw_close(w);
}

void live_leg_write(struct jw *w, const struct live_leg *leg, enum live_side side, bool talk)
{
    bool relay = side == LIVE_RELAY_SIDE;
    size_t n = key_sizes[leg->suite];
    jw_open(w, "ice");
    jw_z(w, "ufrag", leg->ufrag);
    jw_z(w, "pwd", leg->pwd);
    jw_z(w, "peer_ufrag", leg->peer_ufrag);
    jw_close(w);
    jw_z(w, "suite", live_suite_names[leg->suite]);
    jw_open(w, "keys");
    jw_b64(w, "send", relay ? leg->from_relay : leg->to_relay, n);
    jw_b64(w, "receive", relay ? leg->to_relay : leg->from_relay, n);
    jw_close(w);
    stream(w, "video", leg->video_ssrc, LIVE_VIDEO_PT, "H264", 90000, 0);
    stream(w, "audio", leg->audio_ssrc, LIVE_AUDIO_PT, "opus", 48000, 2);
    if (talk)
        stream(w, "talk", leg->talk_ssrc, LIVE_TALK_PT, "opus", 48000, 2);
}

void live_leg_write_keyframes(struct jw *w, bool can_make_them, int64_t gop_ms)
{
    jw_bool(w, "keyframe", can_make_them);
    if (gop_ms)
        jw_int(w, "gop_ms", gop_ms);
}

/* RFC 4648's first alphabet, padded, out of the second: what the option parsers of media tools read. */
static struct pl_str base64(struct pl_arena *a, const uint8_t *p, size_t n)
{
    struct pl_str url = pl_b64url(a, p, n);
    struct pl_buf b = pl_buf_init(a, 64);
    for (size_t i = 0; i < url.n; i++)
        pl_buf_u8(&b, (uint8_t)(url.p[i] == '-' ? '+' : url.p[i] == '_' ? '/' : url.p[i]));
    pl_buf_str(&b, (struct pl_str){ "==", (4 - url.n % 4) % 4 });
    return pl_buf_view(&b);
}

void live_leg_write_plain(struct jw *w, struct pl_arena *a, const struct live_leg *leg)
{
    jw_z(w, "suite", live_suite_names[leg->suite]);
    jw_str(w, "key", base64(a, leg->to_relay, key_sizes[leg->suite]));
    stream(w, "video", leg->video_ssrc, LIVE_VIDEO_PT, "H264", 90000, 0);
    stream(w, "audio", leg->audio_ssrc, LIVE_AUDIO_PT, "opus", 48000, 2);
}
