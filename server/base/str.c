#include "str.h"
#include <stdarg.h>
#include <stdio.h>

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

bool pl_str_eq_nocase(struct pl_str a, struct pl_str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

bool pl_str_starts(struct pl_str s, struct pl_str prefix) { return s.n >= prefix.n && memcmp(s.p, prefix.p, prefix.n) == 0; }

size_t pl_str_find(struct pl_str s, char c)
{
    const char *hit = s.n ? memchr(s.p, c, s.n) : NULL;
    return hit ? (size_t)(hit - s.p) : s.n;
}

struct pl_str pl_str_split(struct pl_str s, char c, struct pl_str *rest)
{
    size_t at = pl_str_find(s, c);
    *rest = at < s.n ? (struct pl_str){ s.p + at + 1, s.n - at - 1 } : (struct pl_str){ s.p ? s.p + s.n : "", 0 };
    return (struct pl_str){ s.p, at };
}

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

struct pl_str pl_str_trim(struct pl_str s)
{
    while (s.n && blank(s.p[0]))
        s.p++, s.n--;
    while (s.n && blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* Length of the valid UTF-8 sequence at p (RFC 3629: no surrogates, no overlong forms), 0 when there is none. */
static size_t utf8_step(const unsigned char *p, size_t left)
{
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

bool pl_str_is_utf8(struct pl_str s)
{
    for (size_t i = 0, step; i < s.n; i += step)
        if ((step = utf8_step((const unsigned char *)s.p + i, s.n - i)) == 0)
            return false;
    return true;
}

size_t pl_str_codepoints(struct pl_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

struct pl_str pl_str_dup(struct pl_arena *a, struct pl_str s)
{
    char *p = pl_alloc(a, s.n + 1);
    if (!p)
        return PL_STR_NONE;
    if (s.n)
        memcpy(p, s.p, s.n);
    return (struct pl_str){ p, s.n };
}

char *pl_str_z(struct pl_arena *a, struct pl_str s)
{
    char *p = pl_alloc(a, s.n + 1);
    if (p && s.n)
        memcpy(p, s.p, s.n);
    return p;
}

struct pl_str pl_str_lower(struct pl_arena *a, struct pl_str s)
{
    char *p = pl_str_z(a, s);
    if (!p)
        return PL_STR_NONE;
    for (size_t i = 0; i < s.n; i++)
        p[i] = lower(p[i]);
    return (struct pl_str){ p, s.n };
}

struct pl_str pl_fmt(struct pl_arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : pl_alloc(a, (size_t)n + 1);
    if (p)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p ? (struct pl_str){ p, (size_t)n } : PL_STR_NONE;
}

enum pl_err pl_parse_u64(struct pl_str s, uint64_t lo, uint64_t hi, uint64_t *ret)
{
    uint64_t v = 0;
    if (s.n == 0)
        return PL_INVALID_REQUEST;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9' || __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
            return PL_INVALID_REQUEST;
    }
    if (v < lo || v > hi)
        return PL_INVALID_REQUEST;
    *ret = v;
    return PL_OK;
}

enum pl_err pl_parse_u32(struct pl_str s, uint32_t lo, uint32_t hi, uint32_t *ret)
{
    uint64_t v;
    enum pl_err e = pl_parse_u64(s, lo, hi, &v);
    if (e == PL_OK)
        *ret = (uint32_t)v;
    return e;
}

enum pl_err pl_parse_i64(struct pl_str s, int64_t lo, int64_t hi, int64_t *ret)
{
    bool minus = s.n && s.p[0] == '-';
    if (minus)
        s.p++, s.n--;
    uint64_t v;
    enum pl_err e = pl_parse_u64(s, 0, (uint64_t)INT64_MAX, &v);
    if (e != PL_OK)
        return e;
    int64_t i = minus ? -(int64_t)v : (int64_t)v;
    if (i < lo || i > hi)
        return PL_INVALID_REQUEST;
    *ret = i;
    return PL_OK;
}

struct pl_buf pl_buf_init(struct pl_arena *a, size_t ceiling) { return (struct pl_buf){ .a = a, .ceiling = ceiling }; }
struct pl_buf pl_buf_fixed(void *mem, size_t cap) { return (struct pl_buf){ .p = mem, .cap = cap, .ceiling = cap ? cap - 1 : 0, .failed = cap == 0 }; }

/* Makes room for n more bytes and the NUL. */
static bool buf_room(struct pl_buf *b, size_t n)
{
    if (b->failed || n > b->ceiling - b->n) {
        b->failed = true;
        return false;
    }
    size_t want = b->n + n + 1;
    if (want <= b->cap)
        return true;
    size_t cap = b->cap * 2 > want ? b->cap * 2 : want;
    if (cap < 256)
        cap = 256;
    char *p = b->a ? pl_alloc(b->a, cap) : NULL;
    if (!p) {
        b->failed = true;
        return false;
    }
    if (b->n)
        memcpy(p, b->p, b->n);
    b->p = p;
    b->cap = cap;
    return true;
}

void pl_buf_add(struct pl_buf *b, const void *p, size_t n)
{
    if (!buf_room(b, n))
        return;
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void pl_buf_fmt(struct pl_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        b->failed = true;
    else if (buf_room(b, (size_t)n)) {
        vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

void pl_buf_u8(struct pl_buf *b, uint8_t v) { pl_buf_add(b, &v, 1); }

static void put_be(struct pl_buf *b, uint64_t v, size_t n)
{
    uint8_t out[8];
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    pl_buf_add(b, out, n);
}
void pl_buf_u16(struct pl_buf *b, uint16_t v) { put_be(b, v, 2); }
void pl_buf_u32(struct pl_buf *b, uint32_t v) { put_be(b, v, 4); }
void pl_buf_u64(struct pl_buf *b, uint64_t v) { put_be(b, v, 8); }

void pl_buf_json(struct pl_buf *b, struct pl_str s)
{
    pl_buf_u8(b, '"');
    size_t plain = 0; /* start of the run not yet written */
    for (size_t i = 0; i < s.n;) {
        unsigned char c = (unsigned char)s.p[i];
        size_t step = utf8_step((const unsigned char *)s.p + i, s.n - i);
        if (step && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i += step;
            continue;
        }
        pl_buf_add(b, s.p + plain, i - plain);
        if (step == 0)
            pl_buf_z(b, "\xef\xbf\xbd");
        else if (c == '"' || c == '\\')
            pl_buf_fmt(b, "\\%c", c);
        else if (c == '\n')
            pl_buf_z(b, "\\n");
        else
            pl_buf_fmt(b, "\\u%04x", c);
        plain = ++i;
    }
    if (s.n)
        pl_buf_add(b, s.p + plain, s.n - plain);
    pl_buf_u8(b, '"');
}

enum pl_err pl_buf_err(const struct pl_buf *b) { return b->failed ? PL_NO_MEMORY : PL_OK; }

static uint64_t get_be(struct pl_rd *r, size_t n)
{
    if (pl_rd_left(r) < n) {
        r->short_ = true;
        r->p = r->end;
        return 0;
    }
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | *r->p++;
    return v;
}
uint8_t pl_rd_u8(struct pl_rd *r) { return (uint8_t)get_be(r, 1); }
uint16_t pl_rd_u16(struct pl_rd *r) { return (uint16_t)get_be(r, 2); }
uint32_t pl_rd_u24(struct pl_rd *r) { return (uint32_t)get_be(r, 3); }
uint32_t pl_rd_u32(struct pl_rd *r) { return (uint32_t)get_be(r, 4); }
uint64_t pl_rd_u64(struct pl_rd *r) { return get_be(r, 8); }

struct pl_str pl_rd_bytes(struct pl_rd *r, size_t n)
{
    if (pl_rd_left(r) < n) {
        r->short_ = true;
        r->p = r->end;
        return PL_STR_NONE;
    }
    struct pl_str s = { (const char *)r->p, n };
    r->p += n;
    return s;
}

struct pl_str pl_hex(struct pl_arena *a, const void *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    char *out = pl_alloc(a, n * 2 + 1);
    if (!out)
        return PL_STR_NONE;
    for (size_t i = 0; i < n; i++) {
        uint8_t v = ((const uint8_t *)p)[i];
        out[2 * i] = digits[v >> 4];
        out[2 * i + 1] = digits[v & 15];
    }
    return (struct pl_str){ out, n * 2 };
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum pl_err pl_unhex(struct pl_str s, void *out, size_t n)
{
    if (s.n != n * 2)
        return PL_INVALID_REQUEST;
    for (size_t i = 0; i < n; i++) {
        int hi = hex_value(s.p[2 * i]), lo = hex_value(s.p[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return PL_INVALID_REQUEST;
        ((uint8_t *)out)[i] = (uint8_t)(hi << 4 | lo);
    }
    return PL_OK;
}

static const char b64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

struct pl_str pl_b64url(struct pl_arena *a, const void *p, size_t n)
{
    const uint8_t *in = p;
    size_t out_n = n / 3 * 4 + (n % 3 ? n % 3 + 1 : 0);
    char *out = pl_alloc(a, out_n + 1);
    if (!out)
        return PL_STR_NONE;
    uint32_t acc = 0;
    unsigned bits = 0;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        acc = acc << 8 | in[i];
        for (bits += 8; bits >= 6; bits -= 6)
            out[k++] = b64_digits[acc >> (bits - 6) & 63];
    }
    if (bits)
        out[k++] = b64_digits[acc << (6 - bits) & 63];
    return (struct pl_str){ out, k };
}

static int b64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

enum pl_err pl_unb64url_any(struct pl_str s, void *out, size_t cap, size_t *ret_n)
{
    if (s.n % 4 == 1 || s.n / 4 * 3 + (s.n % 4 ? s.n % 4 - 1 : 0) > cap)
        return PL_INVALID_REQUEST;
    uint32_t acc = 0;
    unsigned bits = 0;
    size_t k = 0;
    for (size_t i = 0; i < s.n; i++) {
        int v = b64_value(s.p[i]);
        if (v < 0)
            return PL_INVALID_REQUEST;
        acc = acc << 6 | (uint32_t)v;
        if ((bits += 6) >= 8)
            ((uint8_t *)out)[k++] = (uint8_t)(acc >> (bits -= 8));
    }
    /* One text for one value: left-over bits must be zero. */
    if (acc & ((1u << bits) - 1))
        return PL_INVALID_REQUEST;
    *ret_n = k;
    return PL_OK;
}

enum pl_err pl_unb64url(struct pl_str s, void *out, size_t n)
{
    size_t got;
    if (s.n != n / 3 * 4 + (n % 3 ? n % 3 + 1 : 0))
        return PL_INVALID_REQUEST;
    return pl_unb64url_any(s, out, n, &got);
}
