#include "rtp.h"
#include "str.h"

static uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static uint32_t get32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }
static void put16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)(v >> 8), p[1] = (uint8_t)v; }
static void put32(uint8_t *p, uint32_t v) { put16(p, (uint16_t)(v >> 16)), put16(p + 2, (uint16_t)v); }

enum rtp_class rtp_classify(const uint8_t *p, size_t n)
{
    if (n < 2)
        return RTP_CLASS_OTHER;
    if (p[0] <= 3)
        return RTP_CLASS_STUN;
    if (p[0] >= 20 && p[0] <= 63)
        return RTP_CLASS_DTLS;
    if (p[0] >= 128 && p[0] <= 191)
        return p[1] >= 192 && p[1] <= 223 ? RTP_CLASS_RTCP : RTP_CLASS_RTP;
    return RTP_CLASS_OTHER;
}

enum pl_err rtp_peek(const uint8_t *p, size_t n, struct rtp_header *ret)
{
    if (n < RTP_HEADER)
        return PL_SHORT;
    if (p[0] >> 6 != 2)
        return PL_PROTOCOL;
    *ret = (struct rtp_header){ .payload_type = p[1] & 0x7f, .marker = p[1] >> 7, .seq = get16(p + 2), .timestamp = get32(p + 4), .ssrc = get32(p + 8) };
    return PL_OK;
}

enum pl_err rtp_parse(const uint8_t *p, size_t n, struct rtp_packet *ret)
{
    struct rtp_packet k = { 0 };
    enum pl_err e = rtp_peek(p, n, &k.h);
    if (e != PL_OK)
        return e;
    k.header_n = RTP_HEADER + (size_t)(p[0] & 15) * 4;
    if (p[0] & 0x10) {
        if (n < k.header_n + 4)
            return PL_SHORT;
        k.ext_profile = get16(p + k.header_n);
        k.ext_n = (size_t)get16(p + k.header_n + 2) * 4;
        k.header_n += 4;
        if (n < k.header_n + k.ext_n)
            return PL_SHORT;
        k.ext = p + k.header_n;
        k.header_n += k.ext_n;
    }
    if (n < k.header_n)
        return PL_SHORT;
    size_t padding = 0;
    if (p[0] & 0x20) {
        padding = n > k.header_n ? p[n - 1] : 0;
        if (padding == 0 || padding > n - k.header_n)
            return PL_PROTOCOL;
    }
    k.payload = p + k.header_n;
    k.payload_n = n - k.header_n - padding;
    *ret = k;
    return PL_OK;
}

void rtp_write(const struct rtp_header *h, uint8_t out[RTP_HEADER])
{
    out[0] = 0x80;
    out[1] = (uint8_t)((h->marker ? 0x80 : 0) | (h->payload_type & 0x7f));
    put16(out + 2, h->seq);
    put32(out + 4, h->timestamp);
    put32(out + 8, h->ssrc);
}

bool rtp_ext_find(const struct rtp_packet *pkt, uint8_t id, const uint8_t **ret, size_t *ret_n)
{
    bool one = pkt->ext_profile == 0xbede, two = (pkt->ext_profile & 0xfff0) == 0x1000;
    if (!pkt->ext || (!one && !two) || id == 0)
        return false;
    for (size_t i = 0; i < pkt->ext_n;) {
        if (pkt->ext[i] == 0) { /* padding between elements */
            i++;
            continue;
        }
        uint8_t here = one ? pkt->ext[i] >> 4 : pkt->ext[i];
        if (one && here == 15) /* reserved: the rest is not ours to read */
            return false;
        if (two && i + 1 >= pkt->ext_n)
            return false;
        size_t len = one ? (size_t)(pkt->ext[i] & 15) + 1 : pkt->ext[i + 1];
        size_t at = i + (one ? 1 : 2);
        if (at + len > pkt->ext_n)
            return false;
        if (here == id) {
            *ret = pkt->ext + at;
            *ret_n = len;
            return true;
        }
        i = at + len;
    }
    return false;
}

size_t rtp_ext_write_one(uint8_t *out, uint8_t id, const uint8_t *value, size_t n)
{
    size_t words = (1 + n + 3) / 4;
    uint8_t *p = out + RTP_HEADER;
    out[0] |= 0x10;
    put16(p, 0xbede);
    put16(p + 2, (uint16_t)words);
    memset(p + 4, 0, words * 4);
    p[4] = (uint8_t)(id << 4 | (n - 1));
    memcpy(p + 5, value, n);
    return 4 + words * 4;
}

uint64_t rtp_seq_extend(struct rtp_seq *s, uint16_t seq)
{
    if (!s->started) {
        s->started = true;
        s->highest = 65536 + (uint64_t)seq;
        return s->highest;
    }
    int16_t step = (int16_t)(uint16_t)(seq - (uint16_t)s->highest);
    if (step < 0 && s->highest < (uint64_t)-(int64_t)step) /* cannot be, since we start one round in; kept for a caller that sets `highest` */
        return seq;
    uint64_t ext = s->highest + (uint64_t)(int64_t)step;
    if (step > 0)
        s->highest = ext;
    return ext;
}

void rtp_stats_add(struct rtp_stats *s, uint64_t extended_seq, uint32_t timestamp, uint32_t arrival)
{
    uint32_t transit = arrival - timestamp;
    if (!s->started) {
        s->started = true;
        s->first = extended_seq;
    } else {
        int32_t d = (int32_t)(transit - s->transit);
        uint32_t abs = d < 0 ? (uint32_t)-(int64_t)d : (uint32_t)d;
        s->jitter_x16 += abs - ((s->jitter_x16 + 8) >> 4);
    }
    s->transit = transit;
    s->received++;
}
