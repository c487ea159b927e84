/* err.h - the one error type of the house.
 *
 * Every function that can fail returns `enum pl_err` (made from proto/errors.tsv: name, HTTP status, wire code, sentence) and is PL_MUST. Its outputs are
 * named `ret_x`, come last, and are written on PL_OK only; `reterr`, if there is one, is written on failure only and may be NULL.
 * Rules return errors; only doors (HTTP, link, jobs, relay control) log them. Errno values never travel as pl_err.
 *     enum pl_err e = device_find(tx, id, &d);
 *     if (e != PL_OK)
 *         return e;
 */
#pragma once
#include "err_gen.h"
#include <stdint.h>

#define PL_MUST __attribute__((warn_unused_result))
#define PL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define PL_CLEANUP(f) __attribute__((cleanup(f)))
#define PL_COUNT(a) (sizeof(a) / sizeof((a)[0]))
/* Hands a cleanup-guarded pointer on: the guard then sees NULL. */
#define PL_STEAL(p) __extension__({ __auto_type pl_steal_ = (p); (p) = NULL; pl_steal_; })

struct pl_err_info {
    int status;           /**< HTTP status, 200 for PL_OK */
    const char *code;     /**< stable wire code */
    const char *sentence; /**< what it means, for a person */
};
extern const struct pl_err_info pl_err_table[PL_ERR_COUNT];

static inline const char *pl_err_code(enum pl_err e) { return pl_err_table[e].code; }

/* What a failure tells beyond its code. Never holds a secret or an internal: it is sent to the caller as it is. */
struct pl_fail {
    char detail[200];      /**< sentence; empty: the table's own sentence says enough */
    char field[64];        /**< the request's field that is meant, or empty */
    int32_t retry_after_s; /**< seconds until a retry makes sense, 0: not said */
    int32_t attempts_left; /**< tries left, -1: not said (see PL_FAIL_INIT) */
};
#define PL_FAIL_INIT { .attempts_left = -1 }

/* Writes the detail (cut at 199 bytes) and returns `e`, so that a refusal is one line. `f` may be NULL. */
enum pl_err pl_fail(struct pl_fail *f, enum pl_err e, const char *fmt, ...) PL_PRINTF(3, 4);
/* The same, about one field of the request. */
enum pl_err pl_fail_field(struct pl_fail *f, enum pl_err e, const char *field, const char *fmt, ...) PL_PRINTF(4, 5);
