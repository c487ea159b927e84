#include "h264.h"
#include "str.h"

/* Offset of the next 00 00 01 from `at`, n when there is none. */
static size_t start_code(const uint8_t *p, size_t n, size_t at)
{
    while (at + 3 <= n) {
        const uint8_t *one = memchr(p + at + 2, 1, n - at - 2);
        if (!one)
            return n;
        size_t i = (size_t)(one - p);
        if (p[i - 1] == 0 && p[i - 2] == 0)
            return i - 2;
        at = i - 1;
    }
    return n;
}

bool h264_next_nal(const uint8_t *p, size_t n, size_t *at, const uint8_t **ret, size_t *ret_n)
{
    for (;;) {
        size_t begin = start_code(p, n, *at);
        if (begin >= n)
            return false;
        begin += 3;
        size_t end = start_code(p, n, begin);
        *at = end;
        while (end > begin && p[end - 1] == 0) /* the zero of a 4-byte start code, and trailing_zero_8bits */
            end--;
        if (end > begin) {
            *ret = p + begin;
            *ret_n = end - begin;
            return true;
        }
    }
}

static void advance(struct h264_pack *k)
{
    k->cut = 0;
    if (!h264_next_nal(k->p, k->n, &k->at, &k->nal, &k->nal_n))
        k->nal = NULL;
}

struct h264_pack h264_pack_start(const uint8_t *annexb, size_t n, size_t max_payload)
{
    struct h264_pack k = { .p = annexb, .n = n, .max_payload = max_payload < 64 ? 64 : max_payload };
    advance(&k);
    return k;
}

static size_t pack_fragment(struct h264_pack *k, uint8_t *out)
{
    uint8_t head = k->nal[0];
    size_t from = k->cut ? k->cut : 1, left = k->nal_n - from, room = k->max_payload - 2;
    size_t take = left < room ? left : room;
    out[0] = (uint8_t)((head & 0x60) | H264_FU_A);
    out[1] = (uint8_t)((k->cut == 0 ? 0x80 : 0) | (take == left ? 0x40 : 0) | (head & 0x1f));
    memcpy(out + 2, k->nal + from, take);
    k->cut = from + take;
    if (take == left)
        advance(k);
    return 2 + take;
}

static bool parameter(const uint8_t *nal)
{
    uint8_t t = nal[0] & 0x1f;
    return t == H264_SPS || t == H264_PPS || t == H264_SEI || t == H264_AUD;
}

/* How many NALs from here, and how many bytes, one STAP-A takes. Only parameter sets, SEI and delimiters share one: slices would gain nothing. */
static unsigned together(const struct h264_pack *k)
{
    struct h264_pack ahead = *k;
    size_t bytes = 1;
    unsigned count = 0;
    while (ahead.nal && parameter(ahead.nal) && ahead.nal_n <= 65535 && bytes + 2 + ahead.nal_n <= k->max_payload) {
        bytes += 2 + ahead.nal_n;
        count++;
        advance(&ahead);
    }
    return count;
}

static size_t pack_stap(struct h264_pack *k, unsigned count, uint8_t *out)
{
    size_t n = 1;
    uint8_t nri = 0, forbidden = 0;
    for (; count > 0; count--) {
        uint8_t head = k->nal[0];
        nri = (head & 0x60) > nri ? head & 0x60 : nri;
        forbidden |= head & 0x80;
        out[n] = (uint8_t)(k->nal_n >> 8);
        out[n + 1] = (uint8_t)k->nal_n;
        memcpy(out + n + 2, k->nal, k->nal_n);
        n += 2 + k->nal_n;
        advance(k);
    }
    out[0] = (uint8_t)(forbidden | nri | H264_STAP_A);
    return n;
}

size_t h264_pack_next(struct h264_pack *k, uint8_t *out, bool *ret_last)
{
    size_t n = 0;
    if (k->nal) {
        unsigned shared = k->cut ? 0 : together(k);
        if (shared >= 2)
            n = pack_stap(k, shared, out);
        else if (k->cut || k->nal_n > k->max_payload)
            n = pack_fragment(k, out);
        else {
            n = k->nal_n;
            memcpy(out, k->nal, n);
            advance(k);
        }
    }
    *ret_last = !k->nal;
    return n;
}

static void scan_nal(struct h264_scan *s, uint8_t head, bool whole)
{
    uint8_t t = head & 0x1f;
    s->key |= t == H264_IDR || t == H264_SPS;
    s->idr |= t == H264_IDR;
    s->sps |= whole && t == H264_SPS;
    s->pps |= whole && t == H264_PPS;
    s->reference |= (head & 0x60) != 0;
}

struct h264_scan h264_scan(const uint8_t *payload, size_t n)
{
    struct h264_scan s = { 0 }, bad = { 0 };
    struct pl_rd r = pl_rd_of(payload, n);
    uint8_t head = pl_rd_u8(&r), t = head & 0x1f;
    if (n == 0 || head & 0x80)
        return bad;
    if (t >= 1 && t <= 23) {
        scan_nal(&s, head, true);
    } else if (t == H264_FU_A) {
        uint8_t fu = pl_rd_u8(&r);
        if (n < 3 || (fu & 0x1f) < 1 || (fu & 0x1f) > 23)
            return bad;
        if (fu & 0x80)
            scan_nal(&s, (uint8_t)((head & 0x60) | (fu & 0x1f)), false);
        else
            s.idr = (fu & 0x1f) == H264_IDR;
        s.reference |= (head & 0x60) != 0;
    } else if (t == H264_STAP_A) {
        if (n < 4)
            return bad;
        while (pl_rd_left(&r) > 0) {
            struct pl_str nal = pl_rd_bytes(&r, pl_rd_u16(&r));
            if (r.short_ || nal.n == 0)
                return bad;
            scan_nal(&s, (uint8_t)nal.p[0], true);
        }
    } else {
        return bad;
    }
    s.valid = true;
    return s;
}

bool h264_find_nal(const uint8_t *payload, size_t n, uint8_t type, const uint8_t **ret, size_t *ret_n)
{
    if (n == 0)
        return false;
    uint8_t t = payload[0] & 0x1f;
    if (t == type && t <= 23) {
        *ret = payload;
        *ret_n = n;
        return true;
    }
    if (t != H264_STAP_A)
        return false;
    struct pl_rd r = pl_rd_of(payload + 1, n - 1);
    while (pl_rd_left(&r) > 0) {
        struct pl_str nal = pl_rd_bytes(&r, pl_rd_u16(&r));
        if (r.short_ || nal.n == 0)
            return false;
        if (((uint8_t)nal.p[0] & 0x1f) == type) {
            *ret = (const uint8_t *)nal.p;
            *ret_n = nal.n;
            return true;
        }
    }
    return false;
}
