/* rtp.h - RTP packets (RFC 3550) as wire code: what kind of datagram this is, its header, its extensions, sequence numbers that never wrap.
 *
 * Nothing here believes a packet: before SRTP has checked the tag only rtp_peek may be used, and only to find out whose packet it claims to be.
 * Not here: RTCP (rtcp.h), keys (srtp.h), H.264 payloads (h264.h).  Threads: any, no state of its own.  Memory: views into the caller's packet.
 *     if (rtp_classify(p, n) == RTP_CLASS_RTP && rtp_parse(p, n, &pkt) == PL_OK)
 *         index = rtp_seq_extend(&stream->seq, pkt.seq);
 */
#pragma once
#include "err.h"
#include <stdbool.h>
#include <stddef.h>

enum { RTP_HEADER = 12 /**< bytes without CSRCs and extensions */ };

/* What a datagram on a media port is, by its first byte (RFC 7983) and, for RTP against RTCP, its second (RFC 5761). */
enum rtp_class { RTP_CLASS_OTHER, RTP_CLASS_STUN, RTP_CLASS_DTLS, RTP_CLASS_RTP, RTP_CLASS_RTCP };
enum rtp_class rtp_classify(const uint8_t *p, size_t n);

struct rtp_header {
    uint8_t payload_type; /**< 0..127 */
    bool marker;
    uint16_t seq;
    uint32_t timestamp; /**< in units of the codec's clock */
    uint32_t ssrc;
};
struct rtp_packet {
    struct rtp_header h;
    size_t header_n;        /**< bytes before the payload */
    const uint8_t *ext;     /**< extension data; NULL: none */
    size_t ext_n;           /**< bytes */
    uint16_t ext_profile;   /**< 0xbede: one-byte elements, 0x100x: two-byte elements (RFC 8285) */
    const uint8_t *payload; /**< without padding */
    size_t payload_n;
};

/* Reads the fixed header only: who a packet claims to be, before anything is proved. PL_SHORT, PL_PROTOCOL (not version 2). */
PL_MUST enum pl_err rtp_peek(const uint8_t *p, size_t n, struct rtp_header *ret);
/* Reads a plain (unprotected) packet whole. PL_SHORT when a length points past the end, PL_PROTOCOL when version or padding are impossible. */
PL_MUST enum pl_err rtp_parse(const uint8_t *p, size_t n, struct rtp_packet *ret);
/* Writes the 12 bytes of a header without CSRCs and extensions. */
void rtp_write(const struct rtp_header *h, uint8_t out[RTP_HEADER]);
/* The extension element `id` (1..14 one-byte, 1..255 two-byte form). False when it is not there. */
bool rtp_ext_find(const struct rtp_packet *pkt, uint8_t id, const uint8_t **ret, size_t *ret_n);
/* Writes a one-byte-form extension block with one element (id 1..14, 1..16 bytes) behind a header that rtp_write made, and sets its X bit. Returns the bytes of
 * the block (a multiple of 4). `out` is the header's start with room for RTP_HEADER + 24 bytes. */
size_t rtp_ext_write_one(uint8_t *out, uint8_t id, const uint8_t *value, size_t n);

/* 16-bit sequence numbers as one number that only grows: the peer's wrap is ours to count. Feed it after the tag was checked, never before. */
struct rtp_seq {
    uint64_t highest; /**< extended number of the newest packet; meaningless until `started` */
    bool started;
};
/* The extended number of `seq`, nearest to the newest one; moves `highest` forward. The first packet starts at 65536 + seq, so that an older one still fits. */
uint64_t rtp_seq_extend(struct rtp_seq *s, uint16_t seq);

/* Reception statistics of one source (RFC 3550, 6.4.1 and A.8), as a report block wants them. */
struct rtp_stats {
    uint64_t first;         /**< extended number of the first packet */
    uint64_t received;      /**< packets */
    uint64_t prior_expected, prior_received; /**< at the last report */
    uint32_t transit;       /**< of the last packet, in timestamp units */
    uint32_t jitter_x16;    /**< interarrival jitter in timestamp units, times 16 */
    bool started;
};
/* `arrival` is the moment of arrival in the stream's own clock (now_us * rate / 1,000,000), cut to 32 bits. */
void rtp_stats_add(struct rtp_stats *s, uint64_t extended_seq, uint32_t timestamp, uint32_t arrival);
