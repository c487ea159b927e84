/* rtcp.h - RTCP (RFC 3550, 3611, 4585, 5104; REMB, transport-wide feedback) as wire code: one item after another out of a compound packet, and writers for those that we send.
 *
 * Only what SRTCP has verified is read here. An item that is malformed ends the walk with an error: what came before it stands.
 * Not here: keys (srtp.h), when to send what (relay/, hub/).  Threads: any.  Memory: views into the packet; writers append to the caller's pl_buf.
 *     struct pl_rd r = pl_rd_of(p, n);
 *     while (rtcp_next(&r, &item) == PL_OK && item.type != RTCP_END)
 *         if (item.type == RTCP_PLI) …
 */
#pragma once
#include "rtp.h"
#include "str.h"

enum rtcp_type {
    RTCP_END, /**< the compound is over */
    RTCP_SR, RTCP_RR, RTCP_SDES, RTCP_BYE, RTCP_APP,
    RTCP_NACK, /**< generic NACK, RFC 4585 6.2.1 */
    RTCP_PLI, RTCP_FIR,
    RTCP_REMB,
    RTCP_TRANSPORT_CC, /**< transport-wide feedback: rtcp_arrivals_of */
    RTCP_XR, /**< extended reports, RFC 3611: of a receiver's time and what came of it */
    RTCP_OTHER /**< well-formed, not known here */
};

struct rtcp_block { /**< one report block, RFC 3550 6.4.1 */
    uint32_t ssrc;          /**< of the stream that is reported on */
    uint8_t fraction_lost;  /**< 256ths since the last report */
    int32_t lost;           /**< packets, 24 bits signed */
    uint32_t highest_seq;   /**< extended */
    uint32_t jitter;        /**< timestamp units */
    uint32_t last_sr;       /**< middle 32 bits of the NTP time of the last SR, 0: none */
    uint32_t delay_last_sr; /**< 1/65536 s */
};
enum { RTCP_BLOCKS = 31, RTCP_MAX = 1200 };

struct rtcp_item {
    enum rtcp_type type;
    uint32_t ssrc;       /**< sender of this item */
    uint32_t media_ssrc; /**< NACK, PLI, FIR (its first entry): the stream that is meant */
    struct {
        uint64_t ntp;       /**< 32.32 seconds since 1900 */
        uint32_t timestamp; /**< RTP */
        uint32_t packets, bytes;
    } sr;
    uint8_t count;        /**< SR, RR: blocks. NACK: entries. BYE: sources. XR: rtcp_dlrr_at */
    const uint8_t *list;  /**< SR, RR: blocks (rtcp_block_at). NACK: entries (rtcp_nack_at). XR: rtcp_dlrr_at. Transport-wide feedback: its body. FIR: entries of 8 bytes. APP: data */
    size_t list_n;        /**< bytes */
    uint8_t fir_seq;      /**< FIR: command number of its first entry */
    uint8_t app_subtype;
    char app_name[5];     /**< APP: four ASCII characters and NUL */
    uint64_t remb_bps;    /**< REMB: bits per second */
    struct pl_str cname;  /**< SDES: the first CNAME; .p NULL: none */
    uint64_t xr_ntp;      /**< XR: the receiver's own time (RFC 3611, 4.4), 32.32; 0: it does not say */
};
/* What a sender says of a receiver's time that it was told (RFC 3611, 4.5): from it the receiver knows the round trip. */
struct rtcp_dlrr {
    uint32_t ssrc;     /**< of the receiver */
    uint32_t last_rr;  /**< middle 32 bits of the time that it told */
    uint32_t delay_rr; /**< since that came, 1/65536 s */
};
/* The next item. RTCP_END when the packet is over; PL_SHORT or PL_PROTOCOL when it is malformed from here. */
PL_MUST enum pl_err rtcp_next(struct pl_rd *r, struct rtcp_item *ret);
/* Report block i of an SR or RR, i < count. */
struct rtcp_block rtcp_block_at(const struct rtcp_item *item, unsigned i);
/* NACK entry i: the packet id, and a mask of the 16 packets after it that are missing too. */
void rtcp_nack_at(const struct rtcp_item *item, unsigned i, uint16_t *ret_seq, uint16_t *ret_mask);

/* Entry i of an XR, i < count. */
struct rtcp_dlrr rtcp_dlrr_at(const struct rtcp_item *item, unsigned i);
/* The round trip in microseconds, from our own time, what was told of it, and how long the peer kept that, all in 1/65536 s; at least 1. 0: it cannot be (longer than a minute). */
int64_t rtcp_rtt_us(uint32_t now, uint32_t then, uint32_t delay);

/* Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1), number after number: which packets came, and when by the peer's clock. */
struct rtcp_arrivals {
    struct pl_rd chunks, deltas;
    uint16_t number;     /**< the next one */
    unsigned left;       /**< numbers */
    uint16_t chunk;
    unsigned chunk_left; /**< numbers in `chunk` */
    int64_t at_us;
};
/* False: the item is malformed. */
bool rtcp_arrivals_of(const struct rtcp_item *item, struct rtcp_arrivals *ret);
/* False: they are over, or malformed from here. *ret_at_us is set for what came. */
bool rtcp_arrivals_next(struct rtcp_arrivals *a, uint16_t *ret_number, bool *ret_came, int64_t *ret_at_us);

/* What is to be reported of a stream: everything but its SSRC and the last SR. False: nothing has come yet. A report closes the interval of fraction_lost. */
bool rtcp_block_of(const struct rtp_seq *seq, struct rtp_stats *stats, struct rtcp_block *ret);

/* Writers append one item. A compound starts with SR or RR and holds a CNAME (RFC 3550, 6.1). Failures stick in the buffer. */
void rtcp_put_sr(struct pl_buf *b, uint32_t ssrc, uint64_t ntp, uint32_t timestamp, uint32_t packets, uint32_t bytes, const struct rtcp_block *blocks, unsigned n);
void rtcp_put_rr(struct pl_buf *b, uint32_t ssrc, const struct rtcp_block *blocks, unsigned n);
void rtcp_put_cname(struct pl_buf *b, uint32_t ssrc, struct pl_str cname); /* at most 255 bytes */
void rtcp_put_xr_time(struct pl_buf *b, uint32_t ssrc, uint64_t ntp);
void rtcp_put_xr_dlrr(struct pl_buf *b, uint32_t ssrc, const struct rtcp_dlrr *of);
void rtcp_put_bye(struct pl_buf *b, uint32_t ssrc);
void rtcp_put_pli(struct pl_buf *b, uint32_t ssrc, uint32_t media_ssrc);
void rtcp_put_fir(struct pl_buf *b, uint32_t ssrc, uint32_t media_ssrc, uint8_t seq);
/* Sequence numbers in rising order (wrap allowed); packed into as few entries as they need. */
void rtcp_put_nack(struct pl_buf *b, uint32_t ssrc, uint32_t media_ssrc, const uint16_t *seqs, unsigned n);
void rtcp_put_remb(struct pl_buf *b, uint32_t ssrc, uint32_t media_ssrc, uint64_t bps);
/* `name` is four characters; data is padded to 32-bit words by the caller (n a multiple of 4). */
void rtcp_put_app(struct pl_buf *b, uint32_t ssrc, uint8_t subtype, const char name[4], const void *data, size_t n);

/* Wall time as NTP 32.32. */
uint64_t rtcp_ntp_of(int64_t utc_us);
