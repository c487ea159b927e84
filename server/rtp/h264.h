/* h264.h - H.264 over RTP (RFC 6184, packetization-mode 1): access units into payloads, payloads into access units, and where a key frame starts.
 *
 * Packing: small NAL units that stand together (SPS, PPS, SEI) share a STAP-A, what fits goes alone, the rest is cut into FU-A. Order is never changed.
 * Unpacking: an access unit is `complete` only when no sequence number is missing from its start to its end; what is damaged is handed out as such, never
 * repaired. A key frame starts where NAL 5 or 7 is found, also inside STAP-A and at FU-A starts; the marker says nothing about it.
 * Not here: decoding, RTP headers (rtp.h).  Threads: any, one at a time per object.  Memory: packing takes none; unpacking holds two buffers with a ceiling.
 *     struct h264_pack k = h264_pack_start(au, n, 1188);
 *     while ((size = h264_pack_next(&k, payload, &last)) > 0) send(payload, size, last);
 */
#pragma once
#include "rtp.h"

enum { H264_SLICE = 1, H264_IDR = 5, H264_SEI = 6, H264_SPS = 7, H264_PPS = 8, H264_AUD = 9, H264_STAP_A = 24, H264_FU_A = 28 };

/* The next NAL unit of an Annex B stream, from *at on; moves *at. False when there is none left. Start codes and trailing zeros are not part of it. */
bool h264_next_nal(const uint8_t *p, size_t n, size_t *at, const uint8_t **ret, size_t *ret_n);

struct h264_pack {
    const uint8_t *p;   /**< the access unit, Annex B; must stay while packing */
    size_t n, at;       /**< bytes; place of the search */
    size_t max_payload; /**< bytes per RTP payload */
    const uint8_t *nal; /**< not packed yet; NULL: the end */
    size_t nal_n;
    size_t cut;         /**< bytes of `nal` that went out in FU-A already, 0: none */
};
/* `max_payload` is at least 64: the packet size wanted minus RTP header, extensions and SRTP tag. */
struct h264_pack h264_pack_start(const uint8_t *annexb, size_t n, size_t max_payload);
/* Writes one payload of at most max_payload bytes and returns its size, 0 when the access unit is over. *ret_last: nothing follows (the RTP marker). */
size_t h264_pack_next(struct h264_pack *k, uint8_t *out, bool *ret_last);

/* What one RTP payload holds. */
struct h264_scan {
    bool key;       /**< NAL 5 or 7 starts here: a key frame's access unit */
    bool idr;       /**< NAL 5 starts here or goes on */
    bool sps, pps;  /**< stands here whole */
    bool reference; /**< nal_ref_idc is not 0 */
    bool valid;     /**< well-formed mode 1 payload */
};
struct h264_scan h264_scan(const uint8_t *payload, size_t n);
/* A NAL of `type` that stands whole in the payload (single or in a STAP-A). False when there is none. */
bool h264_find_nal(const uint8_t *payload, size_t n, uint8_t type, const uint8_t **ret, size_t *ret_n);

struct h264_au {
    const uint8_t *p;   /**< Annex B, 4-byte start codes; good until the next push */
    size_t n;
    uint32_t timestamp;
    bool key;           /**< holds an IDR slice or an SPS */
    bool complete;      /**< nothing is missing */
};
struct h264_unpack;
/* An access unit larger than `ceiling` bytes is cut and handed out as not complete. PL_NO_MEMORY. */
PL_MUST enum pl_err h264_unpack_new(size_t ceiling, struct h264_unpack **ret);
/* Takes NULL; returns NULL. */
struct h264_unpack *h264_unpack_free(struct h264_unpack *u);
/* Takes a packet in sequence order (the caller reorders; a gap is loss, an old or doubled one is ignored). Then ask h264_unpack_take until it says false. */
void h264_unpack_push(struct h264_unpack *u, const struct rtp_packet *pkt);
bool h264_unpack_take(struct h264_unpack *u, struct h264_au *ret);
