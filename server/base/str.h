/* str.h - strings are pointer and length; buffers have a ceiling; wire data is read by checked steps.
 *
 * `pl_str` views bytes that somebody else owns (arena, literal, packet). `pl_buf` grows to its ceiling and no further: a failure sticks and is asked once.
 * `pl_rd` reads big-endian wire data; reading past the end sets `short_` and yields zeros. None of them knows UTF-8 except pl_str_is_utf8/pl_str_codepoints.
 *     struct pl_buf b = pl_buf_init(arena, 4096);
 *     pl_buf_fmt(&b, "%s-%u", name, n);
 *     if (pl_buf_err(&b) != PL_OK) return PL_NO_MEMORY;
 */
#pragma once
#include "mem.h"
#include <string.h>

struct pl_str {
    const char *p; /**< not NUL-terminated unless said; NULL: absent (an empty string has p != NULL) */
    size_t n;      /**< bytes */
};
#define PL_STR(lit) ((struct pl_str){ (lit), sizeof(lit) - 1 })
#define PL_STR_INIT(lit) { (lit), sizeof(lit) - 1 }
#define PL_STR_NONE ((struct pl_str){ NULL, 0 })
/* For printf: "%.*s", PL_FMT(s) */
#define PL_FMT(s) (int)(s).n, (s).p ? (s).p : ""

static inline struct pl_str pl_str_of(const char *z) { return (struct pl_str){ z, z ? strlen(z) : 0 }; }
static inline bool pl_str_eq(struct pl_str a, struct pl_str b) { return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0); }
static inline bool pl_str_eqz(struct pl_str a, const char *z) { return pl_str_eq(a, pl_str_of(z)); }
bool pl_str_eq_nocase(struct pl_str a, struct pl_str b); /* ASCII only */
bool pl_str_starts(struct pl_str s, struct pl_str prefix);
/* Offset of the byte, or s.n when it is absent. */
size_t pl_str_find(struct pl_str s, char c);
/* The part before the first `c`; *rest becomes what follows it (empty when absent). */
struct pl_str pl_str_split(struct pl_str s, char c, struct pl_str *rest);
struct pl_str pl_str_trim(struct pl_str s); /* ASCII blanks */
bool pl_str_is_utf8(struct pl_str s);
/* Code points of valid UTF-8. */
size_t pl_str_codepoints(struct pl_str s);
/* Copies into the arena, NUL-terminated; .p NULL on failure. */
struct pl_str pl_str_dup(struct pl_arena *a, struct pl_str s);
/* The same as a C string; NULL on failure. */
char *pl_str_z(struct pl_arena *a, struct pl_str s);
struct pl_str pl_str_lower(struct pl_arena *a, struct pl_str s); /* ASCII */
struct pl_str pl_fmt(struct pl_arena *a, const char *fmt, ...) PL_PRINTF(2, 3);

/* Decimal only, no sign for unsigned, no blanks, whole string, within lo..hi; else PL_INVALID_REQUEST. */
PL_MUST enum pl_err pl_parse_u64(struct pl_str s, uint64_t lo, uint64_t hi, uint64_t *ret);
PL_MUST enum pl_err pl_parse_u32(struct pl_str s, uint32_t lo, uint32_t hi, uint32_t *ret);
PL_MUST enum pl_err pl_parse_i64(struct pl_str s, int64_t lo, int64_t hi, int64_t *ret);

struct pl_buf {
    char *p;            /**< bytes; NUL-terminated after every append that succeeded */
    size_t n;           /**< bytes used */
    size_t cap;         /**< bytes held */
    size_t ceiling;     /**< never more than this */
    struct pl_arena *a; /**< where it grows; NULL: fixed memory (pl_buf_fixed) */
    bool failed;        /**< sticks */
};
struct pl_buf pl_buf_init(struct pl_arena *a, size_t ceiling);
struct pl_buf pl_buf_fixed(void *mem, size_t cap);
void pl_buf_add(struct pl_buf *b, const void *p, size_t n);
static inline void pl_buf_str(struct pl_buf *b, struct pl_str s) { pl_buf_add(b, s.p, s.n); }
static inline void pl_buf_z(struct pl_buf *b, const char *z) { pl_buf_add(b, z, strlen(z)); }
void pl_buf_fmt(struct pl_buf *b, const char *fmt, ...) PL_PRINTF(2, 3);
void pl_buf_u8(struct pl_buf *b, uint8_t v);
void pl_buf_u16(struct pl_buf *b, uint16_t v); /* big-endian, as all of these */
void pl_buf_u32(struct pl_buf *b, uint32_t v);
void pl_buf_u64(struct pl_buf *b, uint64_t v);
/* A JSON string with quotes and escapes; bytes that are not UTF-8 become U+FFFD. */
void pl_buf_json(struct pl_buf *b, struct pl_str s);
PL_MUST enum pl_err pl_buf_err(const struct pl_buf *b);
static inline struct pl_str pl_buf_view(const struct pl_buf *b) { return (struct pl_str){ b->p ? b->p : "", b->n }; }

struct pl_rd {
    const uint8_t *p;   /**< next byte */
    const uint8_t *end; /**< one past the last */
    bool short_;        /**< something was asked that is not there; sticks */
};
static inline struct pl_rd pl_rd_of(const void *p, size_t n) { return (struct pl_rd){ (const uint8_t *)p, (const uint8_t *)p + n, false }; }
static inline size_t pl_rd_left(const struct pl_rd *r) { return (size_t)(r->end - r->p); }
uint8_t pl_rd_u8(struct pl_rd *r);
uint16_t pl_rd_u16(struct pl_rd *r);
uint32_t pl_rd_u24(struct pl_rd *r);
uint32_t pl_rd_u32(struct pl_rd *r);
uint64_t pl_rd_u64(struct pl_rd *r);
/* A view of n bytes, .p NULL when short. */
struct pl_str pl_rd_bytes(struct pl_rd *r, size_t n);

/* Hex (lower case out, both in) and base64url without padding. Decoders refuse what is not of the form, and sizes other than n. */
struct pl_str pl_hex(struct pl_arena *a, const void *p, size_t n);
PL_MUST enum pl_err pl_unhex(struct pl_str s, void *out, size_t n);
struct pl_str pl_b64url(struct pl_arena *a, const void *p, size_t n);
/* Decodes exactly n bytes. */
PL_MUST enum pl_err pl_unb64url(struct pl_str s, void *out, size_t n);
/* Decodes any length up to cap. */
PL_MUST enum pl_err pl_unb64url_any(struct pl_str s, void *out, size_t cap, size_t *ret_n);
