/* log.h - one JSON line an event, with the fields of its context and of the contexts around it; and counters as rows.
 *
 * A context (`pl_log`) lives on the stack or in the object that it speaks of, and points to its parent: node -> hub connection -> message. Only doors log.
 * PIN, token, key and password have no field maker here, so they cannot be logged; e-mail and phone are logged by PL_F_MASKED, which keeps first and last
 * character. Lines go to stderr with one write(2) each. Threads: any.
 *     struct pl_log log = pl_log_child(&server_log, PL_F_UUID("hub", id));
 *     PL_LOG(&log, PL_WARN, "hub.auth-refused", PL_F_ERR(e), PL_F_STR("why", why));
 */
#pragma once
#include "rand.h"

enum pl_level { PL_DEBUG, PL_INFO, PL_WARN, PL_ERROR };

struct pl_field {
    const char *name; /**< NULL ends a list */
    enum { PL_FIELD_STR, PL_FIELD_INT, PL_FIELD_UUID, PL_FIELD_MASKED } kind;
    struct pl_str s;
    int64_t i;
    struct pl_uuid u;
};
#define PL_F_STR(n, v) ((struct pl_field){ .name = (n), .kind = PL_FIELD_STR, .s = (v) })
#define PL_F_Z(n, v) ((struct pl_field){ .name = (n), .kind = PL_FIELD_STR, .s = pl_str_of(v) })
#define PL_F_INT(n, v) ((struct pl_field){ .name = (n), .kind = PL_FIELD_INT, .i = (int64_t)(v) })
#define PL_F_UUID(n, v) ((struct pl_field){ .name = (n), .kind = PL_FIELD_UUID, .u = (v) })
#define PL_F_MASKED(n, v) ((struct pl_field){ .name = (n), .kind = PL_FIELD_MASKED, .s = (v) })
#define PL_F_ERR(e) PL_F_Z("code", pl_err_code(e))

struct pl_log {
    const struct pl_log *parent;
    struct pl_field field; /**< this context's own; .name NULL: none */
};
static inline struct pl_log pl_log_child(const struct pl_log *parent, struct pl_field f) { return (struct pl_log){ parent, f }; }

/* Lines below this level are not made. Default PL_INFO. Set once at start. */
void pl_log_level(enum pl_level least);
bool pl_log_on(enum pl_level l);
/* Sends lines to this descriptor instead of 2 (tests). */
void pl_log_to(int fd);
void pl_log_write(const struct pl_log *log, enum pl_level l, const char *event, const struct pl_field *fields);
#define PL_LOG(log, level, event, ...) \
    do { \
        if (pl_log_on(level)) \
            pl_log_write((log), (level), (event), (const struct pl_field[]){ __VA_ARGS__ __VA_OPT__(,) { .name = NULL } }); \
    } while (0)

/* Metrics: a module keeps a table of rows and registers it once; the door of /metrics prints all. Counting is one relaxed atomic add. */
struct pl_metric {
    const char *name; /**< Prometheus name: porchlight_..., counters end in _total */
    const char *help; /**< one sentence */
    enum { PL_COUNTER, PL_GAUGE } kind;
    int64_t value; /**< atomic */
    struct pl_metric *next; /**< the registry's */
};
#define PL_METRIC_COUNTER(n, h) { .name = (n), .help = (h), .kind = PL_COUNTER }
#define PL_METRIC_GAUGE(n, h) { .name = (n), .help = (h), .kind = PL_GAUGE }
static inline void pl_count(struct pl_metric *m, int64_t by) { __atomic_fetch_add(&m->value, by, __ATOMIC_RELAXED); }
static inline void pl_gauge(struct pl_metric *m, int64_t v) { __atomic_store_n(&m->value, v, __ATOMIC_RELAXED); }
void pl_metrics_register(struct pl_metric *rows, size_t n);
/* Prometheus text format 0.0.4 of all registered rows. */
void pl_metrics_print(struct pl_buf *out);
