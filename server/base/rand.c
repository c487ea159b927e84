#include "rand.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

static void system_fill(struct pl_rand *self, void *p, size_t n)
{
    (void)self;
    for (size_t done = 0; done < n;) {
        ssize_t got = getrandom((char *)p + done, n - done, 0);
        if (got < 0)
            abort(); /* a server without randomness must not go on */
        done += (size_t)got;
    }
}
struct pl_rand pl_rand_system = { system_fill };

static uint64_t rotl(uint64_t x, int k) { return x << k | x >> (64 - k); }

static uint64_t seeded_next(struct pl_rand_seeded *r)
{
    uint64_t out = rotl(r->s[1] * 5, 7) * 9, t = r->s[1] << 17;
    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = rotl(r->s[3], 45);
    return out;
}

static void seeded_fill(struct pl_rand *self, void *p, size_t n)
{
    struct pl_rand_seeded *r = (struct pl_rand_seeded *)self;
    for (size_t done = 0; done < n; done += 8) {
        uint64_t v = seeded_next(r);
        memcpy((char *)p + done, &v, n - done < 8 ? n - done : 8);
    }
}

void pl_rand_seed(struct pl_rand_seeded *r, uint64_t seed)
{
    r->base.fill = seeded_fill;
    for (int i = 0; i < 4; i++) { /* splitmix64 spreads the seed */
        uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        r->s[i] = z ^ z >> 31;
    }
}

uint32_t pl_rand_u32(struct pl_rand *r)
{
    uint32_t v;
    pl_rand_fill(r, &v, sizeof v);
    return v;
}

uint32_t pl_rand_below(struct pl_rand *r, uint32_t n)
{
    uint32_t least = -n % n; /* values below it would favour small results */
    uint32_t v;
    do
        v = pl_rand_u32(r);
    while (v < least);
    return v % n;
}

struct pl_uuid pl_uuid7(struct pl_rand *r, struct pl_utc now)
{
    struct pl_uuid u;
    pl_rand_fill(r, u.b + 6, 10);
    uint64_t ms = (uint64_t)(now.us / 1000);
    for (int i = 0; i < 6; i++)
        u.b[i] = (uint8_t)(ms >> (8 * (5 - i)));
    u.b[6] = (u.b[6] & 0x0f) | 0x70;
    u.b[8] = (u.b[8] & 0x3f) | 0x80;
    return u;
}

void pl_uuid_text(struct pl_uuid u, char out[PL_UUID_TEXT])
{
    static const char hex[] = "0123456789abcdef";
    char *p = out;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex[u.b[i] >> 4];
        *p++ = hex[u.b[i] & 15];
    }
    *p = '\0';
}

enum pl_err pl_uuid_parse(struct pl_str s, struct pl_uuid *ret)
{
    char hex[32];
    size_t k = 0;
    if (s.n != 36)
        return PL_INVALID_REQUEST;
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash != (s.p[i] == '-'))
            return PL_INVALID_REQUEST;
        if (!dash)
            hex[k++] = s.p[i];
    }
    struct pl_uuid u;
    enum pl_err e = pl_unhex((struct pl_str){ hex, 32 }, u.b, 16);
    if (e == PL_OK)
        *ret = u;
    return e;
}
