/* sdp.h - offers and answers of WebRTC as pure functions: text to facts, facts and what is ours to an agreement and its text (RFC 8866, 3264, 8829, 8843).
 *
 * We always answer. Served are the first video line, the first audio line, and talk: the audio line's other direction, or a further audio line. Every other line of the offer
 * is answered with port 0, in its place. The video is H.264 with packetization-mode 1: the source's own profile, else Main, else constrained baseline, else any; the level is
 * not looked at. On an audio line of both directions what the peer shall send comes first (a browser sends the first and receives all). We are ICE-lite, speak DTLS-SRTP on
 * one port for all lines, know SHA-256 fingerprints only, three of them at most (RFC 8122), and send no mid extension.
 * What cannot be served is refused with an error that names the reason in reterr->field:
 *     INVALID_REQUEST    too_long, too_many (lines, codecs, fingerprints), malformed
 *     OFFER_REFUSED      transport (not DTLS-SRTP), sdes, no_ice, ice_ufrag (not 4..32 ice-chars), ice_lite (nobody would send checks), no_fingerprint, fingerprint_hash,
 *                        setup, no_rtcp_mux, no_bundle, direction (a viewer must receive, a publisher send), no_media
 *     UNSUPPORTED_MEDIA  no_h264, no_packetization_mode_1, no_audio_codec (nothing but audio is offered, and none of ours)
 * Sound that is not common does not refuse the picture: agreed->audio_refused and talk_refused say why it is missing.
 * Not here: ICE and DTLS themselves, what a stream needs beyond its profile (B slices, interlace), resolving of host names. Candidates of the peer are not looked at: it checks us.
 * Threads: any. Memory: the arena; reading an offer takes at most 512 KiB of it. The parser behind this is libre's; what it makes is freed before the call returns.
 *     e = sdp_read_offer(a, body, &offer, &fail);
 *     if (e == PL_OK)
 *         e = sdp_answer(a, offer, &ours, &agreed, &text, &fail);
 */
#pragma once
#include "str.h"

enum { SDP_TEXT_MAX = 32768, SDP_LINES_MAX = 16, SDP_CODECS_MAX = 128 /**< of one line */, SDP_CANDIDATES_MAX = 4, SDP_FINGERPRINTS = 3 };

/* Directions as the peer sees them. */
enum { SDP_PEER_SENDS = 1, SDP_PEER_RECEIVES = 2 };
/* Codecs that can be served, in the order of our preference among audio. */
enum sdp_codec_name { SDP_OPUS, SDP_PCMU, SDP_PCMA, SDP_H264, SDP_RTX, SDP_OTHER_CODEC };
#define SDP_MASK(codec) (1u << (codec))
enum sdp_feedback { SDP_NACK = 1, SDP_PLI = 2, SDP_FIR = 4, SDP_REMB = 8, SDP_TRANSPORT_CC = 16 };
/* Header extensions that have a use here (RFC 8285). */
enum sdp_ext { SDP_EXT_TRANSPORT_CC, SDP_EXT_ABS_SEND_TIME, SDP_EXT_AUDIO_LEVEL, SDP_EXT_MID, SDP_EXTS };
enum sdp_kind { SDP_AUDIO, SDP_VIDEO, SDP_OTHER_KIND };
enum sdp_setup { SDP_ACTPASS, SDP_ACTIVE, SDP_PASSIVE, SDP_HOLDCONN };

struct sdp_codec {
    uint8_t payload_type;     /**< 0..127 */
    enum sdp_codec_name name;
    uint8_t channels;         /**< Opus: 2 */
    unsigned feedback;        /**< sdp_feedback */
    uint8_t apt;              /**< rtx: the payload type that it repeats */
    uint32_t profile;         /**< H.264: profile_idc, constraints and level, 24 bits; without the parameter 0x420010, as RFC 6184 says */
    bool profile_said;        /**< H.264: the parameter is there */
    bool mode_1;              /**< H.264: packetization-mode=1 */
    bool level_asymmetry;     /**< H.264 */
};

/* Where the peer is reached and how it proves itself: of a line, or of the session for all lines. */
struct sdp_transport {
    struct pl_str ufrag, pwd; /**< .p NULL: not said */
    bool fingerprint_there;   /**< of whatever hash */
    unsigned fingerprints_n;  /**< different ones of SHA-256; those that are more than fit are only counted */
    uint8_t fingerprints[SDP_FINGERPRINTS][32]; /**< of its certificates */
    bool setup_there;
    enum sdp_setup setup;
};

/* One m= line. */
struct sdp_line {
    enum sdp_kind kind;
    struct pl_str media, proto, format; /**< as written; the first format, to be echoed */
    struct pl_str mid;                  /**< .p NULL: none */
    bool usable;                        /**< port not 0, or bundle-only */
    bool dtls_rtp;                      /**< …/RTP/SAVPF or SAVP */
    bool rtcp_mux, rtcp_rsize, sdes;
    int bundle;                         /**< which BUNDLE group, from 1; 0: none */
    unsigned way;                       /**< SDP_PEER_… */
    uint8_t ext[SDP_EXTS];              /**< ids, 0: not offered. Only those that fit a one-byte header, 1..14 */
    uint32_t ssrc, rtx_ssrc;            /**< of its first stream, 0: not said */
    struct sdp_transport transport;
    size_t n_codecs;
    struct sdp_codec *codecs;           /**< in the order of preference */
};

struct sdp_offer {
    size_t n_lines;
    struct sdp_line *lines;
    struct sdp_transport session;
    struct pl_str bundle_tag;           /**< first mid of the first group; .p NULL: no group */
    bool ice_lite, trickle;
};
/* The facts of an offer, in its arena: the text need not stay. */
PL_MUST enum pl_err sdp_read_offer(struct pl_arena *a, struct pl_str text, struct sdp_offer **ret, struct pl_fail *reterr);

struct sdp_candidate {
    struct pl_str ip;    /**< an IPv4 or IPv6 address, no name */
    uint16_t port;       /**< UDP */
};
struct sdp_ours {
    bool publisher;            /**< the peer is a hub that sends (WHIP); else it is a viewer (WHEP) */
    bool prefer_active;        /**< where the peer leaves it to us */
    uint64_t session_id, version; /**< of the o= line: below 2^63; the version grows with each answer of a session */
    struct pl_str ufrag, pwd;
    uint8_t fingerprint[32];   /**< SHA-256 of our certificate */
    struct sdp_candidate candidates[SDP_CANDIDATES_MAX]; /**< best first, at least one */
    size_t n_candidates;
    struct pl_str cname, msid; /**< tokens; msid: of the media stream */
    uint32_t video_ssrc, rtx_ssrc, audio_ssrc; /**< what we send: to a viewer video and audio, to a publisher talk under audio_ssrc */
    uint32_t h264_profile;     /**< of the source, 24 bits; 0: not known yet */
    unsigned audio, talk;      /**< SDP_MASK of what the camera's microphone sends and what its speaker takes; 0: has none. To a publisher: what we take and give */
    bool rtx, transport_cc, remb; /**< what our side can do */
};

struct sdp_track {
    bool served;
    size_t line;               /**< index in the offer */
    struct pl_str mid;         /**< .p NULL: none */
    enum sdp_codec_name codec;
    uint8_t payload_type;
    uint32_t ssrc;             /**< of who sends: ours, or the peer's; 0: the peer did not say */
};
struct sdp_agreed {
    struct sdp_track video, audio, talk; /**< talk goes the other way than audio */
    bool rtx;
    uint8_t rtx_payload_type;
    uint32_t rtx_ssrc;         /**< of who sends; 0: the peer did not say */
    unsigned feedback;         /**< of the video */
    uint8_t ext[SDP_EXTS];     /**< ids, 0: not agreed */
    bool active;               /**< we send the ClientHello */
    struct pl_str peer_ufrag, peer_pwd;
    unsigned peer_fingerprints_n;
    uint8_t peer_fingerprints[SDP_FINGERPRINTS][32]; /**< any of them */
    const char *audio_refused, *talk_refused; /**< NULL: served. not_offered, not_there (the camera has none), no_audio_codec, transport */
};
/* PL_NO_MEMORY; PL_OFFER_REFUSED, PL_UNSUPPORTED_MEDIA with the reason in reterr->field. */
PL_MUST enum pl_err sdp_answer(struct pl_arena *a, const struct sdp_offer *offer, const struct sdp_ours *ours, struct sdp_agreed *ret_agreed, struct pl_str *ret_text,
                               struct pl_fail *reterr);

/* application/trickle-ice-sdpfrag (RFC 8840): candidates, which need not be looked at, or a restart: a ufrag that is not the one that the peer had. */
struct sdp_fragment {
    struct pl_str ufrag, pwd;  /**< .p NULL: not said */
    struct pl_str group, media, proto, format, mid; /**< to be echoed; .p NULL: not there */
};
/* As sdp_read_offer; OFFER_REFUSED with ice_ufrag. */
PL_MUST enum pl_err sdp_read_fragment(struct pl_arena *a, struct pl_str text, struct sdp_fragment *ret, struct pl_fail *reterr);
/* What answers a restart: of `ours`, ufrag, pwd and candidates. */
PL_MUST enum pl_err sdp_answer_fragment(struct pl_arena *a, const struct sdp_fragment *f, const struct sdp_ours *ours, struct pl_str *ret_text);
