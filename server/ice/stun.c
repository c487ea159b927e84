#include "stun.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>

enum {
    BINDING = 0x0001, COOKIE = 0x2112a442,
    A_USERNAME = 0x0006, A_INTEGRITY = 0x0008, A_ERROR_CODE = 0x0009, A_XOR_MAPPED = 0x0020, A_PRIORITY = 0x0024, A_USE_CANDIDATE = 0x0025,
    A_SOFTWARE = 0x8022, A_FINGERPRINT = 0x8028, A_CONTROLLED = 0x8029, A_CONTROLLING = 0x802a,
    SHA1 = 20, SHA1_BLOCK = 64, FINGERPRINT_XOR = 0x5354554e
};

/* CRC-32 of ITU V.42, four bits at a time: a table that fits a cache line pair. */
static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    static const uint32_t t[16] = { 0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c };
    uint32_t c = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        c = c >> 4 ^ t[(c ^ p[i]) & 15];
        c = c >> 4 ^ t[(c ^ (uint32_t)(p[i] >> 4)) & 15];
    }
    return ~c;
}

struct stun_mac {
    EVP_MD *sha1;
    EVP_MD_CTX *ctx;
};

enum pl_err stun_mac_new(struct stun_mac **ret)
{
    struct stun_mac *m = pl_heap(sizeof *m);
    if (!m)
        return PL_NO_MEMORY;
    m->sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
    m->ctx = EVP_MD_CTX_new();
    if (!m->sha1 || !m->ctx) {
        stun_mac_free(m);
        return PL_NO_MEMORY;
    }
    *ret = m;
    return PL_OK;
}

struct stun_mac *stun_mac_free(struct stun_mac *m)
{
    if (m) {
        EVP_MD_CTX_free(m->ctx);
        EVP_MD_free(m->sha1);
    }
    return pl_heap_free(m);
}

static bool half(struct stun_mac *m, const uint8_t pad[SHA1_BLOCK], const void *a, size_t an, const void *b, size_t bn, uint8_t out[SHA1])
{
    return EVP_DigestInit_ex(m->ctx, m->sha1, NULL) == 1 && EVP_DigestUpdate(m->ctx, pad, SHA1_BLOCK) == 1 && EVP_DigestUpdate(m->ctx, a, an) == 1 &&
        EVP_DigestUpdate(m->ctx, b, bn) == 1 && EVP_DigestFinal_ex(m->ctx, out, NULL) == 1;
}

/* HMAC-SHA1 (RFC 2104) of head || body. OpenSSL's own HMAC takes memory for every key; a digest that is started again takes none. */
static enum pl_err hmac(struct stun_mac *m, struct pl_str key, const void *head, size_t head_n, const void *body, size_t body_n, uint8_t out[SHA1])
{
    uint8_t inner[SHA1_BLOCK], outer[SHA1_BLOCK], sum[SHA1];
    if (key.n > SHA1_BLOCK) /* ICE passwords are at most 256, ours are 24: not hashed down, refused */
        return PL_INVALID_REQUEST;
    for (size_t i = 0; i < SHA1_BLOCK; i++) {
        uint8_t k = i < key.n ? (uint8_t)key.p[i] : 0;
        inner[i] = k ^ 0x36;
        outer[i] = k ^ 0x5c;
    }
    bool ok = half(m, inner, head, head_n, body, body_n, sum) && half(m, outer, sum, sizeof sum, "", 0, out);
    OPENSSL_cleanse(inner, sizeof inner);
    OPENSSL_cleanse(outer, sizeof outer);
    return ok ? PL_OK : PL_INTERNAL;
}

/* The HMAC runs over the message up to MESSAGE-INTEGRITY, with a length field that ends behind it. */
static enum pl_err integrity_of(struct stun_mac *m, const uint8_t *p, size_t at, struct pl_str password, uint8_t out[SHA1])
{
    size_t length = at + 4 + SHA1 - STUN_HEADER;
    uint8_t head[4] = { p[0], p[1], (uint8_t)(length >> 8), (uint8_t)length };
    return hmac(m, password, head, sizeof head, p + 4, at - 4, out);
}

enum pl_err stun_verify(struct stun_mac *m, const struct stun_msg *msg, struct pl_str password)
{
    uint8_t want[SHA1];
    if (msg->integrity_at == 0 || password.n == 0)
        return PL_AUTH;
    enum pl_err e = integrity_of(m, msg->p, msg->integrity_at, password, want);
    if (e != PL_OK)
        return e;
    return CRYPTO_memcmp(want, msg->p + msg->integrity_at + 4, SHA1) == 0 ? PL_OK : PL_AUTH;
}

static enum pl_err read_mapped(struct pl_rd v, const uint8_t *tid, struct ice_addr *ret)
{
    (void)pl_rd_u8(&v);
    uint8_t family = pl_rd_u8(&v);
    size_t n = family == 1 ? 4 : family == 2 ? 16 : 0;
    struct ice_addr a = { .family = family == 1 ? 4 : 6, .port = (uint16_t)(pl_rd_u16(&v) ^ (COOKIE >> 16)) };
    struct pl_str ip = pl_rd_bytes(&v, n);
    if (v.short_ || n == 0 || pl_rd_left(&v) != 0)
        return PL_PROTOCOL;
    for (size_t i = 0; i < n; i++)
        a.ip[i] = (uint8_t)ip.p[i] ^ (i < 4 ? (uint8_t)((uint32_t)COOKIE >> (24 - 8 * i)) : tid[i - 4]);
    *ret = a;
    return PL_OK;
}

static enum pl_err read_error(struct pl_rd v, uint16_t *ret)
{
    (void)pl_rd_u16(&v);
    uint8_t hundreds = pl_rd_u8(&v) & 7, rest = pl_rd_u8(&v);
    *ret = (uint16_t)(hundreds * 100 + rest);
    return v.short_ || rest > 99 ? PL_PROTOCOL : PL_OK;
}

/* Which attributes were there: each is taken once. */
enum { SAW_USERNAME = 1, SAW_PRIORITY = 2, SAW_ROLE = 4, SAW_MAPPED = 8, SAW_ERROR = 16 };

static enum pl_err read_attribute(struct stun_msg *m, uint16_t type, struct pl_str value, unsigned *saw)
{
    struct pl_rd v = pl_rd_of(value.p, value.n);
    unsigned bit = 0;
    enum pl_err e = PL_OK;
    switch (type) {
    case A_USERNAME:
        bit = SAW_USERNAME;
        m->username = value;
        e = value.n == 0 || value.n > STUN_USERNAME_MAX ? PL_PROTOCOL : PL_OK;
        break;
    case A_PRIORITY:
        bit = SAW_PRIORITY;
        m->priority = pl_rd_u32(&v);
        break;
    case A_CONTROLLED:
    case A_CONTROLLING:
        bit = SAW_ROLE;
        m->tie_breaker = pl_rd_u64(&v);
        m->controlling = type == A_CONTROLLING;
        m->controlled = type == A_CONTROLLED;
        break;
    case A_USE_CANDIDATE: m->use_candidate = true; break;
    case A_XOR_MAPPED: bit = SAW_MAPPED, e = read_mapped(v, m->tid, &m->mapped); break;
    case A_ERROR_CODE: bit = SAW_ERROR, e = read_error(v, &m->error_code); break;
    default: e = type < 0x8000 ? PL_PROTOCOL : PL_OK; break;
    }
    if (v.short_ || (*saw & bit))
        return PL_PROTOCOL;
    *saw |= bit;
    return e;
}

static enum pl_err read_fingerprint(struct stun_msg *m, struct pl_str value, size_t at, size_t left)
{
    struct pl_rd v = pl_rd_of(value.p, value.n);
    uint32_t sum = pl_rd_u32(&v);
    if (v.short_ || value.n != 4 || left != 0)
        return PL_PROTOCOL;
    if ((crc32_of(m->p, at) ^ FINGERPRINT_XOR) != sum)
        return PL_AUTH;
    m->fingerprint = true;
    return PL_OK;
}

static enum pl_err read_attributes(struct stun_msg *m, struct pl_rd *r)
{
    unsigned saw = 0;
    while (pl_rd_left(r) > 0) {
        size_t at = (size_t)(r->p - m->p);
        uint16_t type = pl_rd_u16(r), len = pl_rd_u16(r);
        struct pl_str value = pl_rd_bytes(r, len);
        (void)pl_rd_bytes(r, (4 - len % 4) % 4);
        if (r->short_)
            return PL_SHORT;
        enum pl_err e = PL_OK;
        if (type == A_FINGERPRINT)
            e = read_fingerprint(m, value, at, pl_rd_left(r));
        else if (m->integrity_at) /* not covered by the proof: not read */
            continue;
        else if (type == A_INTEGRITY && len == SHA1)
            m->integrity_at = at;
        else
            e = read_attribute(m, type, value, &saw);
        if (e != PL_OK)
            return e;
    }
    return PL_OK;
}

enum pl_err stun_parse(const uint8_t *p, size_t n, struct stun_msg *ret)
{
    struct pl_rd r = pl_rd_of(p, n);
    uint16_t type = pl_rd_u16(&r), length = pl_rd_u16(&r);
    uint32_t cookie = pl_rd_u32(&r);
    struct pl_str tid = pl_rd_bytes(&r, STUN_TID);
    if (r.short_)
        return PL_SHORT;
    if (n > STUN_MAX || length % 4 != 0 || length != n - STUN_HEADER || cookie != COOKIE || (type & ~0x0110) != BINDING)
        return PL_PROTOCOL;
    struct stun_msg m = { .p = p, .n = n, .tid = (const uint8_t *)tid.p, .class_ = (enum stun_class)((type >> 7 & 2) | (type >> 4 & 1)) };
    enum pl_err e = read_attributes(&m, &r);
    if (e == PL_OK)
        *ret = m;
    return e;
}

static void put_head(struct pl_buf *b, enum stun_class class_, const uint8_t tid[STUN_TID])
{
    pl_buf_u16(b, (uint16_t)(BINDING | (class_ & 2) << 7 | (class_ & 1) << 4));
    pl_buf_u16(b, 0); /* length: when it is known */
    pl_buf_u32(b, COOKIE);
    pl_buf_add(b, tid, STUN_TID);
}

static void put_attribute(struct pl_buf *b, uint16_t type, struct pl_str value)
{
    pl_buf_u16(b, type);
    pl_buf_u16(b, (uint16_t)value.n);
    pl_buf_str(b, value);
    for (size_t i = value.n; i % 4 != 0; i++)
        pl_buf_u8(b, 0);
}

static void set_length(struct pl_buf *b, size_t total)
{
    b->p[2] = (char)(uint8_t)((total - STUN_HEADER) >> 8);
    b->p[3] = (char)(uint8_t)(total - STUN_HEADER);
}

static enum pl_err finish(struct stun_mac *m, struct pl_buf *b, struct pl_str password, size_t *ret_n)
{
    uint8_t sum[SHA1];
    enum pl_err e = pl_buf_err(b);
    if (e != PL_OK)
        return PL_SHORT;
    e = integrity_of(m, (const uint8_t *)b->p, b->n, password, sum);
    if (e != PL_OK)
        return e;
    put_attribute(b, A_INTEGRITY, (struct pl_str){ (const char *)sum, sizeof sum });
    if (pl_buf_err(b) != PL_OK)
        return PL_SHORT;
    set_length(b, b->n + 8);
    uint32_t crc = crc32_of((const uint8_t *)b->p, b->n) ^ FINGERPRINT_XOR;
    pl_buf_u16(b, A_FINGERPRINT);
    pl_buf_u16(b, 4);
    pl_buf_u32(b, crc);
    if (pl_buf_err(b) != PL_OK)
        return PL_SHORT;
    *ret_n = b->n;
    return PL_OK;
}

enum pl_err stun_write_request(struct stun_mac *m, const struct stun_request *r, uint8_t *out, size_t cap, size_t *ret_n)
{
    struct pl_buf b = pl_buf_fixed(out, cap);
    if (r->username.n > STUN_USERNAME_MAX)
        return PL_INVALID_REQUEST;
    put_head(&b, STUN_REQUEST, r->tid);
    if (r->software.p)
        put_attribute(&b, A_SOFTWARE, r->software);
    put_attribute(&b, A_USERNAME, r->username);
    pl_buf_u16(&b, A_PRIORITY);
    pl_buf_u16(&b, 4);
    pl_buf_u32(&b, r->priority);
    pl_buf_u16(&b, r->controlling ? A_CONTROLLING : A_CONTROLLED);
    pl_buf_u16(&b, 8);
    pl_buf_u64(&b, r->tie_breaker);
    if (r->use_candidate)
        put_attribute(&b, A_USE_CANDIDATE, PL_STR(""));
    return finish(m, &b, r->password, ret_n);
}

enum pl_err stun_write_success(struct stun_mac *m, const uint8_t tid[STUN_TID], const struct ice_addr *from, struct pl_str password, uint8_t *out, size_t cap,
    size_t *ret_n)
{
    struct pl_buf b = pl_buf_fixed(out, cap);
    size_t n = from->family == 4 ? 4 : 16;
    if (from->family == 0)
        return PL_INVALID_REQUEST;
    put_head(&b, STUN_SUCCESS, tid);
    pl_buf_u16(&b, A_XOR_MAPPED);
    pl_buf_u16(&b, (uint16_t)(4 + n));
    pl_buf_u8(&b, 0);
    pl_buf_u8(&b, from->family == 4 ? 1 : 2);
    pl_buf_u16(&b, from->port ^ (COOKIE >> 16));
    for (size_t i = 0; i < n; i++)
        pl_buf_u8(&b, from->ip[i] ^ (i < 4 ? (uint8_t)((uint32_t)COOKIE >> (24 - 8 * i)) : tid[i - 4]));
    return finish(m, &b, password, ret_n);
}
