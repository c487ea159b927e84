/* clock.h - time is passed in. The only room that asks the machine for it.
 *
 * Monotonic time (pl_mono: deadlines, intervals) and wall time (pl_utc: what people and rows see) are different types, so they cannot be mixed.
 * Everything that depends on time takes a `const struct pl_clock *`; tests own one. With the meson option `test_clock`, `--test-clock FILE` maps a page
 * (struct pl_test_clock) shared by the daemons: an offset added to both clocks, so that 40 minutes pass at once in the real processes.
 *     struct pl_utc now = pl_now_utc(clock);
 *     if (pl_utc_cmp(now, row.expires_at) >= 0) return PL_PIN_EXPIRED;
 */
#pragma once
#include "str.h"

struct pl_mono { int64_t us; }; /**< microseconds since some start of this machine */
struct pl_utc { int64_t us; };  /**< microseconds since 1970-01-01T00:00:00Z */

#define PL_SECOND INT64_C(1000000)
#define PL_MS INT64_C(1000)
#define PL_MINUTE (60 * PL_SECOND)
#define PL_HOUR (60 * PL_MINUTE)
#define PL_DAY (24 * PL_HOUR)

struct pl_clock {
    struct pl_mono (*mono)(const struct pl_clock *self);
    struct pl_utc (*utc)(const struct pl_clock *self);
};
/* The machine's clock (CLOCK_MONOTONIC, CLOCK_REALTIME), plus the test page's offset where one is mapped. */
extern const struct pl_clock pl_clock_system;

/* A clock that a unit test moves by hand. */
struct pl_clock_fixed {
    struct pl_clock base;
    struct pl_mono mono;
    struct pl_utc utc;
};
void pl_clock_fixed_init(struct pl_clock_fixed *c, int64_t utc_us);
void pl_clock_fixed_advance(struct pl_clock_fixed *c, int64_t us);

/* The page behind --test-clock: eight bytes, native order, microseconds to add to both clocks. Only in builds with test_clock; else PL_INVALID_REQUEST. */
PL_MUST enum pl_err pl_test_clock_map(const char *path, struct pl_fail *reterr);

static inline struct pl_mono pl_now_mono(const struct pl_clock *c) { return c->mono(c); }
static inline struct pl_utc pl_now_utc(const struct pl_clock *c) { return c->utc(c); }
static inline struct pl_mono pl_mono_add(struct pl_mono t, int64_t us) { return (struct pl_mono){ t.us + us }; }
static inline int64_t pl_mono_sub(struct pl_mono a, struct pl_mono b) { return a.us - b.us; }
static inline struct pl_utc pl_utc_add(struct pl_utc t, int64_t us) { return (struct pl_utc){ t.us + us }; }
static inline int64_t pl_utc_sub(struct pl_utc a, struct pl_utc b) { return a.us - b.us; }
static inline int pl_utc_cmp(struct pl_utc a, struct pl_utc b) { return (a.us > b.us) - (a.us < b.us); }
static inline int pl_mono_cmp(struct pl_mono a, struct pl_mono b) { return (a.us > b.us) - (a.us < b.us); }
/* Whole seconds, rounded up, never negative: for Retry-After and expires_in. */
static inline int32_t pl_seconds_up(int64_t us) { return us <= 0 ? 0 : (int32_t)((us + PL_SECOND - 1) / PL_SECOND); }

/* RFC 3339 UTC with milliseconds: 2026-11-21T08:58:00.123Z (24 bytes and NUL). */
#define PL_UTC_TEXT 25
void pl_utc_text(struct pl_utc t, char out[PL_UTC_TEXT]);
PL_MUST enum pl_err pl_utc_parse(struct pl_str s, struct pl_utc *ret);
