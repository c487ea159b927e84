/* conf.h - settings are rows: name, type, place, range, default, sentence.
 *
 * A file has lines `name = value`, `#` starts a comment. Everything has a default that is safe: an empty file is a good file. Unknown names, values out
 * of range and doubled names are refused with file, line and what would be right. The sample file and --check are made from the same rows.
 *     static const struct conf_row rows[] = { CONF_NUM("http.workers", struct node_conf, workers, 1, 64, "8", "Threads that run handlers."), CONF_END };
 *     e = conf_load(rows, &conf, path, arena, &fail);
 */
#pragma once
#include "clock.h"

enum conf_type { CONF_T_END, CONF_T_STR, CONF_T_NUM, CONF_T_BOOL, CONF_T_DURATION };

struct conf_row {
    const char *name;
    enum conf_type type; /**< STR: struct pl_str · NUM: int64_t · BOOL: bool · DURATION: int64_t microseconds, written 90s, 5m, 40m, 24h, 15d, 250ms */
    size_t offset;       /**< in the settings struct */
    int64_t lo, hi;      /**< NUM: range · DURATION: range in microseconds · STR: length in bytes */
    const char *dflt;    /**< as it would stand in a file */
    const char *doc;     /**< one sentence */
    bool secret;         /**< never printed */
    /* STR only; an empty value passes `begins`. */
    const char *const *one_of; /**< the words that it may be, NULL at the end */
    const char *const *begins; /**< what it may begin with, NULL at the end */
    bool listens;              /**< HOST:PORT or unix:/PATH; nothing, where that is the default */
};
#define CONF_STR(n, st, f, max, d, doc_) { .name = (n), .type = CONF_T_STR, .offset = offsetof(st, f), .lo = 0, .hi = (max), .dflt = (d), .doc = (doc_) }
#define CONF_NUM(n, st, f, lo_, hi_, d, doc_) { .name = (n), .type = CONF_T_NUM, .offset = offsetof(st, f), .lo = (lo_), .hi = (hi_), .dflt = (d), .doc = (doc_) }
#define CONF_BOOL(n, st, f, d, doc_) { .name = (n), .type = CONF_T_BOOL, .offset = offsetof(st, f), .dflt = (d), .doc = (doc_) }
#define CONF_DUR(n, st, f, lo_, hi_, d, doc_) { .name = (n), .type = CONF_T_DURATION, .offset = offsetof(st, f), .lo = (lo_), .hi = (hi_), .dflt = (d), .doc = (doc_) }
#define CONF_WORD(n, st, f, words, d, doc_) { .name = (n), .type = CONF_T_STR, .offset = offsetof(st, f), .hi = 64, .dflt = (d), .doc = (doc_), .one_of = (words) }
#define CONF_URL(n, st, f, max, schemes, d, doc_) \
    { .name = (n), .type = CONF_T_STR, .offset = offsetof(st, f), .hi = (max), .dflt = (d), .doc = (doc_), .begins = (schemes) }
#define CONF_LISTEN(n, st, f, max, d, doc_) { .name = (n), .type = CONF_T_STR, .offset = offsetof(st, f), .hi = (max), .dflt = (d), .doc = (doc_), .listens = true }
#define CONF_END { .type = CONF_T_END }

/* Sets every row to its default. Strings live in the arena. */
PL_MUST enum pl_err conf_defaults(const struct conf_row *rows, void *settings, struct pl_arena *a, struct pl_fail *reterr);
/* Defaults, then the text. `where` names it in errors. */
PL_MUST enum pl_err conf_parse(const struct conf_row *rows, void *settings, struct pl_str text, const char *where, struct pl_arena *a, struct pl_fail *reterr);
/* Defaults, then the file; path NULL: defaults only. At most 256 KiB. */
PL_MUST enum pl_err conf_load(const struct conf_row *rows, void *settings, const char *path, struct pl_arena *a, struct pl_fail *reterr);
/* One setting, as `--set name=value` gives it. */
PL_MUST enum pl_err conf_set(const struct conf_row *rows, void *settings, struct pl_str name, struct pl_str value, struct pl_arena *a, struct pl_fail *reterr);
/* The sample file: every row commented out at its default. */
void conf_sample(const struct conf_row *rows, struct pl_buf *out);
/* "40m", "90s", "250ms", "15d" to microseconds. */
PL_MUST enum pl_err conf_duration(struct pl_str s, int64_t *ret_us);
