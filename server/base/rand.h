/* rand.h - randomness is passed in; ids are UUIDv7.
 *
 * `pl_rand_system` is libsodium's (set by secure_init; base itself has only getrandom). A seeded one serves tests and simulators; never use it for keys.
 * A UUIDv7 (RFC 9562) tells its time and is never a secret.
 *     struct pl_uuid id = pl_uuid7(rand, pl_now_utc(clock));
 */
#pragma once
#include "clock.h"

struct pl_rand {
    void (*fill)(struct pl_rand *self, void *p, size_t n);
};
/* getrandom(2); aborts if the kernel has none. Any thread. */
extern struct pl_rand pl_rand_system;

/* xoshiro256**: repeatable, for tests and simulation only. One thread. */
struct pl_rand_seeded {
    struct pl_rand base;
    uint64_t s[4];
};
void pl_rand_seed(struct pl_rand_seeded *r, uint64_t seed);

static inline void pl_rand_fill(struct pl_rand *r, void *p, size_t n) { r->fill(r, p, n); }
uint32_t pl_rand_u32(struct pl_rand *r);
/* Uniform in 0..n-1 without bias; n > 0. */
uint32_t pl_rand_below(struct pl_rand *r, uint32_t n);

struct pl_uuid { uint8_t b[16]; };
#define PL_UUID_TEXT 37
struct pl_uuid pl_uuid7(struct pl_rand *r, struct pl_utc now);
void pl_uuid_text(struct pl_uuid u, char out[PL_UUID_TEXT]);
/* Lower or upper case, with dashes; else PL_INVALID_REQUEST. */
PL_MUST enum pl_err pl_uuid_parse(struct pl_str s, struct pl_uuid *ret);
static inline bool pl_uuid_eq(struct pl_uuid a, struct pl_uuid b) { return memcmp(a.b, b.b, 16) == 0; }
static inline bool pl_uuid_is_zero(struct pl_uuid a) { static const struct pl_uuid z = { { 0 } }; return pl_uuid_eq(a, z); }
