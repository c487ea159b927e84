/* sdp_text.h - private to sdp/: an SDP text as lines, codecs and attributes, without any meaning yet. The only part that knows the parser (libre).
 *
 * Hostile text costs bounded memory: size, lines and length of m= lines are counted before the parser sees it.
 */
#pragma once
#include "sdp.h"

struct sdp_attr {
    struct pl_str name, value; /**< value: empty when there is none */
};
struct sdp_attrs {
    size_t n;
    struct sdp_attr *v;
};
struct sdp_text_codec {
    struct pl_str id, name, params; /**< name, params: .p NULL when not said */
    uint32_t clock_rate;
    uint8_t channels;
};
struct sdp_text_line {
    struct pl_str media, proto;
    bool port_zero;
    unsigned way;
    size_t n_codecs;
    struct sdp_text_codec *codecs;
    struct sdp_attrs attrs; /**< without rtpmap, fmtp, rtcp and directions */
};
struct sdp_text {
    struct sdp_attrs attrs;
    size_t n_lines;
    struct sdp_text_line *lines;
};
/* INVALID_REQUEST with too_long, too_many, malformed. */
PL_MUST enum pl_err sdp_text_read(struct pl_arena *a, struct pl_str text, struct sdp_text *ret, struct pl_fail *reterr);
/* The first value of this name; .p NULL: not there. */
struct pl_str sdp_attr_find(const struct sdp_attrs *l, const char *name);

/* Why something is refused: a row of the table in sdp.h. */
enum sdp_reason {
    SDP_TOO_LONG, SDP_TOO_MANY, SDP_MALFORMED, SDP_TRANSPORT, SDP_SDES, SDP_NO_ICE, SDP_ICE_UFRAG, SDP_ICE_LITE, SDP_NO_FINGERPRINT, SDP_FINGERPRINT_HASH, SDP_SETUP,
    SDP_NO_RTCP_MUX, SDP_NO_BUNDLE, SDP_DIRECTION, SDP_NO_MEDIA, SDP_NO_H264, SDP_NO_MODE_1, SDP_NO_AUDIO_CODEC
};
enum pl_err sdp_refuse(struct pl_fail *reterr, enum sdp_reason why);
/* Letters, digits, + and / (RFC 8839), lo..hi of them. */
bool sdp_ice_chars(struct pl_str s, size_t lo, size_t hi);
const char *sdp_ext_uri(enum sdp_ext e);
