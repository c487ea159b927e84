#include "log.h"
#include <unistd.h>

static enum pl_level least = PL_INFO;
static int out_fd = 2;
static struct pl_metric *first_metric; /* LOCK: metrics_lock */
static pthread_mutex_t metrics_lock = PTHREAD_MUTEX_INITIALIZER;

void pl_log_level(enum pl_level l) { least = l; }
bool pl_log_on(enum pl_level l) { return l >= least; }
void pl_log_to(int fd) { out_fd = fd; }

static void put_masked(struct pl_buf *b, struct pl_str s)
{
    char shown[8] = { 0 };
    if (s.n >= 6) {
        shown[0] = s.p[0];
        memcpy(shown + 1, "***", 3);
        shown[4] = s.p[s.n - 1];
    } else
        memcpy(shown, "***", 3);
    pl_buf_json(b, pl_str_of(shown));
}

static void put_field(struct pl_buf *b, const struct pl_field *f)
{
    char text[PL_UUID_TEXT];
    pl_buf_u8(b, ',');
    pl_buf_json(b, pl_str_of(f->name));
    pl_buf_u8(b, ':');
    switch (f->kind) {
    case PL_FIELD_STR: pl_buf_json(b, f->s.n > 300 ? (struct pl_str){ f->s.p, 300 } : f->s); break;
    case PL_FIELD_INT: pl_buf_fmt(b, "%lld", (long long)f->i); break;
    case PL_FIELD_MASKED: put_masked(b, f->s); break;
    case PL_FIELD_UUID:
        pl_uuid_text(f->u, text);
        pl_buf_fmt(b, "\"%s\"", text);
        break;
    }
}

static void put_context(struct pl_buf *b, const struct pl_log *log)
{
    if (!log)
        return;
    put_context(b, log->parent);
    if (log->field.name)
        put_field(b, &log->field);
}

void pl_log_write(const struct pl_log *log, enum pl_level l, const char *event, const struct pl_field *fields)
{
    static const char *const names[] = { "debug", "info", "warn", "error" };
    char mem[4096], when[PL_UTC_TEXT];
    /* Two bytes stay free, so that a line that is too long still ends as JSON. */
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem - 2);
    pl_utc_text(pl_now_utc(&pl_clock_system), when);
    pl_buf_fmt(&b, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", when, names[l], event);
    size_t whole = b.n;
    put_context(&b, log);
    for (const struct pl_field *f = fields; f->name; f++)
        put_field(&b, f);
    if (b.failed) { /* too long: the event alone */
        b.n = whole;
        b.failed = false;
    }
    mem[b.n] = '}';
    mem[b.n + 1] = '\n';
    ssize_t done = write(out_fd, mem, b.n + 2);
    (void)done; /* nowhere to complain */
}

void pl_metrics_register(struct pl_metric *rows, size_t n)
{
    PL_LOCK(&metrics_lock);
    for (size_t i = 0; i < n; i++) {
        for (struct pl_metric *m = first_metric; m; m = m->next)
            if (m == &rows[i])
                return;
        rows[i].next = first_metric;
        first_metric = &rows[i];
    }
}

void pl_metrics_print(struct pl_buf *out)
{
    PL_LOCK(&metrics_lock);
    for (const struct pl_metric *m = first_metric; m; m = m->next)
        pl_buf_fmt(out, "# HELP %s %s\n# TYPE %s %s\n%s %lld\n", m->name, m->help, m->name, m->kind == PL_COUNTER ? "counter" : "gauge", m->name,
                   (long long)__atomic_load_n(&m->value, __ATOMIC_RELAXED));
}
