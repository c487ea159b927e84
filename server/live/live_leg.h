/* live_leg.h - private to live/: what one leg (hub to relay, relay to viewer) needs: ICE credentials, SRTP keys, SSRCs; and how they are written.
 *
 * Drawn fresh for each generation and each viewer from the system's randomness, written into messages, wiped with the request's arena; never into a row.
 */
#pragma once
#include "json.h"

enum live_suite { LIVE_GCM, LIVE_SHA1_80, LIVE_SUITES };
extern const char *const live_suite_names[]; /* NULL-terminated, in the order of preference */

struct live_leg {
    enum live_suite suite;
    char ufrag[9], pwd[33], peer_ufrag[9];
    uint8_t to_relay[30], from_relay[30]; /**< SRTP master key and salt: 28 bytes for GCM (RFC 7714), 30 for SHA1_80 (RFC 3711) */
    uint32_t video_ssrc, audio_ssrc, talk_ssrc;
};
void live_leg_new(struct pl_rand *rand, enum live_suite suite, struct live_leg *ret);
/* What the legs of WebRTC draw too: n ICE characters (RFC 8839) and a zero; an SSRC that is neither 0 nor one of these. */
void live_leg_ice_text(struct pl_rand *rand, char *out, size_t n);
uint32_t live_leg_ssrc(struct pl_rand *rand, uint32_t other, uint32_t another);
/* For a plain source: SSRCs that also fit where ffmpeg's -ssrc takes them, a signed number. */
void live_leg_new_plain(struct pl_rand *rand, enum live_suite suite, struct live_leg *ret);

/* Members `ice`, `suite`, `keys`, `video`, `audio` and (talk) `talk` of the open object, as the relay sees them or as the other end does. */
enum live_side { LIVE_RELAY_SIDE, LIVE_OTHER_SIDE };
void live_leg_write(struct jw *w, const struct live_leg *leg, enum live_side side, bool talk);
/* Members `keyframe` and (known, not 0) `gop_ms` of a source. */
void live_leg_write_keyframes(struct jw *w, bool can_make_them, int64_t gop_ms);
/* Members `suite`, `key` (base64 as ffmpeg's -srtp_out_params takes it), `video` and `audio` for who sends by SSRC and has no ICE. */
void live_leg_write_plain(struct jw *w, struct pl_arena *a, const struct live_leg *leg);

enum { LIVE_VIDEO_PT = 96, LIVE_AUDIO_PT = 111, LIVE_TALK_PT = 112 };
