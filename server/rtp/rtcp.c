#include "rtcp.h"

enum { PT_SR = 200, PT_RR, PT_SDES, PT_BYE, PT_APP, PT_RTPFB, PT_PSFB, PT_XR };
enum { XR_TIME = 4, XR_DLRR = 5, DLRR = 12 };
enum { FB_NACK = 1, FB_TRANSPORT_CC = 15, FB_PLI = 1, FB_FIR = 4, FB_AFB = 15, BLOCK = 24 };

static enum pl_err read_reports(struct pl_rd *b, struct rtcp_item *it)
{
    if (it->type == RTCP_SR) {
        it->sr.ntp = pl_rd_u64(b);
        it->sr.timestamp = pl_rd_u32(b);
        it->sr.packets = pl_rd_u32(b);
        it->sr.bytes = pl_rd_u32(b);
    }
    struct pl_str blocks = pl_rd_bytes(b, (size_t)it->count * BLOCK);
    it->list = (const uint8_t *)blocks.p;
    it->list_n = blocks.n;
    return b->short_ ? PL_SHORT : PL_OK;
}

/* SDES holds chunks of items; only the first chunk's CNAME is of use. `it->ssrc` is its source. */
static enum pl_err read_sdes(struct pl_rd *b, struct rtcp_item *it)
{
    while (pl_rd_left(b) > 0) {
        uint8_t kind = pl_rd_u8(b);
        if (kind == 0)
            return PL_OK;
        struct pl_str text = pl_rd_bytes(b, pl_rd_u8(b));
        if (b->short_)
            return PL_SHORT;
        if (kind == 1 && !it->cname.p)
            it->cname = text;
    }
    return PL_OK;
}

static enum pl_err read_remb(struct pl_rd *b, struct rtcp_item *it)
{
    if (pl_rd_left(b) < 8 || memcmp(b->p, "REMB", 4) != 0) {
        it->type = RTCP_OTHER;
        return PL_OK;
    }
    (void)pl_rd_u32(b);
    (void)pl_rd_u8(b);
    uint32_t packed = pl_rd_u24(b);
    unsigned exp = packed >> 18;
    uint64_t mantissa = packed & 0x3ffff;
    it->type = RTCP_REMB;
    it->remb_bps = exp > 46 ? UINT64_MAX : mantissa << exp;
    return PL_OK;
}

static enum pl_err read_feedback(struct pl_rd *b, struct rtcp_item *it, uint8_t pt)
{
    uint8_t fmt = it->count;
    it->media_ssrc = pl_rd_u32(b);
    if (b->short_)
        return PL_SHORT;
    it->type = RTCP_OTHER;
    it->list = b->p;
    it->list_n = pl_rd_left(b);
    if (pt == PT_RTPFB && fmt == FB_NACK) {
        it->type = RTCP_NACK;
        it->count = (uint8_t)(it->list_n / 4 > 255 ? 255 : it->list_n / 4);
    } else if (pt == PT_RTPFB && fmt == FB_TRANSPORT_CC) {
        it->type = RTCP_TRANSPORT_CC;
    } else if (pt == PT_PSFB && fmt == FB_PLI) {
        it->type = RTCP_PLI;
    } else if (pt == PT_PSFB && fmt == FB_FIR) {
        it->type = RTCP_FIR;
        it->media_ssrc = pl_rd_u32(b);
        it->fir_seq = pl_rd_u8(b);
    } else if (pt == PT_PSFB && fmt == FB_AFB) {
        return read_remb(b, it);
    }
    return b->short_ ? PL_SHORT : PL_OK;
}

static enum pl_err read_app(struct pl_rd *b, struct rtcp_item *it)
{
    struct pl_str name = pl_rd_bytes(b, 4);
    if (!name.p)
        return PL_SHORT;
    it->app_subtype = it->count;
    memcpy(it->app_name, name.p, 4);
    it->list = b->p;
    it->list_n = pl_rd_left(b);
    return PL_OK;
}

/* Blocks of types that are not known are passed over; of DLRR blocks the first counts. */
static enum pl_err read_xr(struct pl_rd *b, struct rtcp_item *it)
{
    it->count = 0;
    while (pl_rd_left(b) > 0) {
        uint8_t kind = pl_rd_u8(b);
        (void)pl_rd_u8(b);
        size_t n = (size_t)pl_rd_u16(b) * 4;
        struct pl_str body = pl_rd_bytes(b, n);
        if (b->short_)
            return PL_SHORT;
        struct pl_rd r = pl_rd_of(body.p, body.n);
        if (kind == XR_TIME && n == 8)
            it->xr_ntp = pl_rd_u64(&r);
        if (kind == XR_DLRR && !it->count) {
            it->count = (uint8_t)(n / DLRR > 255 ? 255 : n / DLRR);
            it->list = r.p;
            it->list_n = n;
        }
    }
    return PL_OK;
}

enum pl_err rtcp_next(struct pl_rd *r, struct rtcp_item *ret)
{
    if (pl_rd_left(r) == 0) {
        *ret = (struct rtcp_item){ .type = RTCP_END };
        return PL_OK;
    }
    uint8_t first = pl_rd_u8(r), pt = pl_rd_u8(r);
    size_t words = pl_rd_u16(r);
    struct pl_str body = pl_rd_bytes(r, words * 4);
    if (r->short_)
        return PL_SHORT;
    if (first >> 6 != 2)
        return PL_PROTOCOL;
    if (first & 0x20) { /* padding: counted in the last byte, whole words */
        size_t padding = body.n ? (uint8_t)body.p[body.n - 1] : 0;
        if (padding == 0 || padding % 4 != 0 || padding > body.n)
            return PL_PROTOCOL;
        body.n -= padding;
    }
    struct rtcp_item it = { .type = RTCP_OTHER, .count = first & 31 };
    struct pl_rd b = pl_rd_of(body.p, body.n);
    enum pl_err e = PL_OK;
    if (body.n < 4) { /* an SDES or BYE of no source is legal and says nothing */
        *ret = it;
        return pt >= PT_SR && pt <= PT_PSFB && it.count && pt != PT_APP ? PL_SHORT : PL_OK;
    }
    it.ssrc = pl_rd_u32(&b);
    switch (pt) {
    case PT_SR: it.type = RTCP_SR, e = read_reports(&b, &it); break;
    case PT_RR: it.type = RTCP_RR, e = read_reports(&b, &it); break;
    case PT_SDES: it.type = RTCP_SDES, e = read_sdes(&b, &it); break;
    case PT_BYE: it.type = RTCP_BYE; break;
    case PT_APP: it.type = RTCP_APP, e = read_app(&b, &it); break;
    case PT_RTPFB:
    case PT_PSFB: e = read_feedback(&b, &it, pt); break;
    case PT_XR: it.type = RTCP_XR, e = read_xr(&b, &it); break;
    default: break;
    }
    if (e == PL_OK)
        *ret = it;
    return e;
}

struct rtcp_block rtcp_block_at(const struct rtcp_item *item, unsigned i)
{
    struct pl_rd r = pl_rd_of(item->list + (size_t)i * BLOCK, BLOCK);
    struct rtcp_block k = { .ssrc = pl_rd_u32(&r) };
    k.fraction_lost = pl_rd_u8(&r);
    uint32_t lost = pl_rd_u24(&r);
    k.lost = lost & 0x800000 ? (int32_t)lost - 0x1000000 : (int32_t)lost;
    k.highest_seq = pl_rd_u32(&r);
    k.jitter = pl_rd_u32(&r);
    k.last_sr = pl_rd_u32(&r);
    k.delay_last_sr = pl_rd_u32(&r);
    return k;
}

struct rtcp_dlrr rtcp_dlrr_at(const struct rtcp_item *item, unsigned i)
{
    struct pl_rd r = pl_rd_of(item->list + (size_t)i * DLRR, DLRR);
    struct rtcp_dlrr d = { .ssrc = pl_rd_u32(&r) };
    d.last_rr = pl_rd_u32(&r);
    d.delay_rr = pl_rd_u32(&r);
    return d;
}

int64_t rtcp_rtt_us(uint32_t now, uint32_t then, uint32_t delay)
{
    int64_t us = (int64_t)(int32_t)(now - then - delay) * 1000000 / 65536;
    return us > 60 * INT64_C(1000000) || us < -1000 ? 0 : us > 0 ? us : 1; /* clocks of 1/65536 s end between two of its steps */
}

/* RFC 3550, 6.4.1 and A.3. */
bool rtcp_block_of(const struct rtp_seq *seq, struct rtp_stats *stats, struct rtcp_block *ret)
{
    if (!stats->started)
        return false;
    uint64_t expected = seq->highest - stats->first + 1, expected_now = expected - stats->prior_expected;
    int64_t lost = (int64_t)(expected - stats->received), lost_now = (int64_t)expected_now - (int64_t)(stats->received - stats->prior_received);
    stats->prior_expected = expected;
    stats->prior_received = stats->received;
    *ret = (struct rtcp_block){ .fraction_lost = expected_now && lost_now > 0 ? (uint8_t)(lost_now * 255 / (int64_t)expected_now) : 0, .lost = (int32_t)lost,
        .highest_seq = (uint32_t)seq->highest, .jitter = stats->jitter_x16 / 16 };
    return true;
}

void rtcp_nack_at(const struct rtcp_item *item, unsigned i, uint16_t *ret_seq, uint16_t *ret_mask)
{
    struct pl_rd r = pl_rd_of(item->list + (size_t)i * 4, 4);
    *ret_seq = pl_rd_u16(&r);
    *ret_mask = pl_rd_u16(&r);
}

/* A chunk: a run of one symbol, 14 symbols of one bit or 7 of two. */
static unsigned chunk_numbers(uint16_t chunk) { return !(chunk & 0x8000) ? chunk & 0x1fff : chunk & 0x4000 ? 7 : 14; }

bool rtcp_arrivals_of(const struct rtcp_item *item, struct rtcp_arrivals *ret)
{
    struct pl_rd r = pl_rd_of(item->list, item->list_n);
    struct rtcp_arrivals a = { .number = pl_rd_u16(&r) };
    a.left = pl_rd_u16(&r);
    a.at_us = (int64_t)((int32_t)(pl_rd_u24(&r) << 8) / 256) * 64000;
    (void)pl_rd_u8(&r); /* counts the feedback packets */
    a.chunks = a.deltas = r;
    for (unsigned n = 0; n < a.left && !a.deltas.short_;)
        n += chunk_numbers(pl_rd_u16(&a.deltas));
    *ret = a;
    return !a.deltas.short_;
}

bool rtcp_arrivals_next(struct rtcp_arrivals *a, uint16_t *ret_number, bool *ret_came, int64_t *ret_at_us)
{
    enum { GONE, SMALL, LARGE, TICK_US = 250 };
    if (a->left == 0)
        return false;
    while (a->chunk_left == 0) {
        a->chunk = pl_rd_u16(&a->chunks);
        a->chunk_left = chunk_numbers(a->chunk);
        if (a->chunks.short_)
            return false;
    }
    a->chunk_left--;
    a->left--;
    unsigned symbol = !(a->chunk & 0x8000) ? a->chunk >> 13 & 3 : a->chunk & 0x4000 ? a->chunk >> a->chunk_left * 2 & 3 : a->chunk >> a->chunk_left & 1;
    if (symbol == SMALL)
        a->at_us += pl_rd_u8(&a->deltas) * TICK_US;
    else if (symbol == LARGE)
        a->at_us += (int16_t)pl_rd_u16(&a->deltas) * TICK_US;
    if (symbol > LARGE || a->deltas.short_)
        return false;
    *ret_number = a->number++;
    *ret_came = symbol != GONE;
    *ret_at_us = a->at_us;
    return true;
}

static void put_head(struct pl_buf *b, unsigned count, uint8_t pt, size_t body_bytes)
{
    pl_buf_u8(b, (uint8_t)(0x80 | (count & 31)));
    pl_buf_u8(b, pt);
    pl_buf_u16(b, (uint16_t)(body_bytes / 4));
}

static void put_blocks(struct pl_buf *b, const struct rtcp_block *blocks, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const struct rtcp_block *k = &blocks[i];
        int32_t lost = k->lost > 0x7fffff ? 0x7fffff : k->lost < -0x800000 ? -0x800000 : k->lost;
        pl_buf_u32(b, k->ssrc);
        pl_buf_u32(b, (uint32_t)k->fraction_lost << 24 | ((uint32_t)lost & 0xffffff));
        pl_buf_u32(b, k->highest_seq);
        pl_buf_u32(b, k->jitter);
        pl_buf_u32(b, k->last_sr);
        pl_buf_u32(b, k->delay_last_sr);
    }
}

void rtcp_put_sr(struct pl_buf *b, uint32_t ssrc, uint64_t ntp, uint32_t timestamp, uint32_t packets, uint32_t bytes, const struct rtcp_block *blocks, unsigned n)
{
    n = n > RTCP_BLOCKS ? RTCP_BLOCKS : n;
    put_head(b, n, PT_SR, 24 + (size_t)n * BLOCK);
    pl_buf_u32(b, ssrc);
    pl_buf_u64(b, ntp);
    pl_buf_u32(b, timestamp);
    pl_buf_u32(b, packets);
    pl_buf_u32(b, bytes);
    put_blocks(b, blocks, n);
}

void rtcp_put_rr(struct pl_buf *b, uint32_t ssrc, const struct rtcp_block *blocks, unsigned n)
{
    n = n > RTCP_BLOCKS ? RTCP_BLOCKS : n;
    put_head(b, n, PT_RR, 4 + (size_t)n * BLOCK);
    pl_buf_u32(b, ssrc);
    put_blocks(b, blocks, n);
}

void rtcp_put_cname(struct pl_buf *b, uint32_t ssrc, struct pl_str cname)
{
    size_t n = cname.n > 255 ? 255 : cname.n;
    size_t pad = 4 - (2 + n) % 4; /* 1..4: the list ends with at least one zero */
    put_head(b, 1, PT_SDES, 4 + 2 + n + pad);
    pl_buf_u32(b, ssrc);
    pl_buf_u8(b, 1);
    pl_buf_u8(b, (uint8_t)n);
    pl_buf_add(b, cname.p, n);
    for (size_t i = 0; i < pad; i++)
        pl_buf_u8(b, 0);
}

void rtcp_put_xr_time(struct pl_buf *b, uint32_t ssrc, uint64_t ntp)
{
    put_head(b, 0, PT_XR, 16);
    pl_buf_u32(b, ssrc);
    pl_buf_u32(b, XR_TIME << 24 | 2);
    pl_buf_u64(b, ntp);
}

void rtcp_put_xr_dlrr(struct pl_buf *b, uint32_t ssrc, const struct rtcp_dlrr *of)
{
    put_head(b, 0, PT_XR, 20);
    pl_buf_u32(b, ssrc);
    pl_buf_u32(b, XR_DLRR << 24 | 3);
    pl_buf_u32(b, of->ssrc);
    pl_buf_u32(b, of->last_rr);
    pl_buf_u32(b, of->delay_rr);
}

void rtcp_put_bye(struct pl_buf *b, uint32_t ssrc)
{
    put_head(b, 1, PT_BYE, 4);
    pl_buf_u32(b, ssrc);
}

void rtcp_put_pli(struct pl_buf *b, uint32_t ssrc, uint32_t media_ssrc)
{
    put_head(b, FB_PLI, PT_PSFB, 8);
    pl_buf_u32(b, ssrc);
    pl_buf_u32(b, media_ssrc);
}

void rtcp_put_fir(struct pl_buf *b, uint32_t ssrc, uint32_t media_ssrc, uint8_t seq)
{
    put_head(b, FB_FIR, PT_PSFB, 16);
    pl_buf_u32(b, ssrc);
    pl_buf_u32(b, 0);
    pl_buf_u32(b, media_ssrc);
    pl_buf_u32(b, (uint32_t)seq << 24);
}

void rtcp_put_nack(struct pl_buf *b, uint32_t ssrc, uint32_t media_ssrc, const uint16_t *seqs, unsigned n)
{
    unsigned entries = 0;
    for (unsigned i = 0; i < n; entries++) { /* counted first: the length stands in front */
        unsigned base = i++;
        while (i < n && (uint16_t)(seqs[i] - seqs[base]) <= 16)
            i++;
    }
    put_head(b, FB_NACK, PT_RTPFB, 8 + (size_t)entries * 4);
    pl_buf_u32(b, ssrc);
    pl_buf_u32(b, media_ssrc);
    for (unsigned i = 0; i < n;) {
        unsigned base = i++;
        uint16_t mask = 0;
        for (; i < n && (uint16_t)(seqs[i] - seqs[base]) <= 16; i++)
            if (seqs[i] != seqs[base])
                mask |= (uint16_t)(1U << ((uint16_t)(seqs[i] - seqs[base]) - 1));
        pl_buf_u16(b, seqs[base]);
        pl_buf_u16(b, mask);
    }
}

void rtcp_put_remb(struct pl_buf *b, uint32_t ssrc, uint32_t media_ssrc, uint64_t bps)
{
    unsigned exp = 0;
    while (bps >> exp > 0x3ffff)
        exp++;
    put_head(b, FB_AFB, PT_PSFB, 20);
    pl_buf_u32(b, ssrc);
    pl_buf_u32(b, 0);
    pl_buf_add(b, "REMB", 4);
    pl_buf_u32(b, 1U << 24 | exp << 18 | (uint32_t)(bps >> exp));
    pl_buf_u32(b, media_ssrc);
}

void rtcp_put_app(struct pl_buf *b, uint32_t ssrc, uint8_t subtype, const char name[4], const void *data, size_t n)
{
    put_head(b, subtype, PT_APP, 8 + n);
    pl_buf_u32(b, ssrc);
    pl_buf_add(b, name, 4);
    pl_buf_add(b, data, n);
}

uint64_t rtcp_ntp_of(int64_t utc_us)
{
    uint64_t seconds = (uint64_t)(utc_us / 1000000) + UINT64_C(2208988800);
    uint64_t us = (uint64_t)(utc_us % 1000000);
    return seconds << 32 | ((us << 32) / 1000000);
}
