/* Replies: JSON, or a problem (RFC 9457) made from the error's row. Failures of the server (5xx) never tell their detail: it is logged under the request's id. */
#include "http_private.h"
#include <inttypes.h>
#include <stdio.h>

struct pl_metric http_metrics[M_COUNT] = {
    [M_1XX] = PL_METRIC_COUNTER("porchlight_http_replies_1xx_total", "Replies with a status of 100 to 199."),
    [M_2XX] = PL_METRIC_COUNTER("porchlight_http_replies_2xx_total", "Replies with a status of 200 to 299."),
    [M_3XX] = PL_METRIC_COUNTER("porchlight_http_replies_3xx_total", "Replies with a status of 300 to 399."),
    [M_4XX] = PL_METRIC_COUNTER("porchlight_http_replies_4xx_total", "Replies with a status of 400 to 499."),
    [M_5XX] = PL_METRIC_COUNTER("porchlight_http_replies_5xx_total", "Replies with a status of 500 to 599."),
    [M_IN_FLIGHT] = PL_METRIC_GAUGE("porchlight_http_calls", "Calls that wait for a worker or are with one."),
    [M_CONNECTIONS] = PL_METRIC_GAUGE("porchlight_http_connections", "Open connections."),
    [M_REFUSED] = PL_METRIC_COUNTER("porchlight_http_connections_refused_total", "Connections turned away because there were too many."),
    [M_QUEUE_FULL] = PL_METRIC_COUNTER("porchlight_http_queue_full_total", "Calls answered 503 because the workers' queue was full."),
    [M_LATE] = PL_METRIC_COUNTER("porchlight_http_calls_late_total", "Calls answered 503 because their deadline passed."),
    [M_SLOW] = PL_METRIC_COUNTER("porchlight_http_connections_cut_total", "Connections cut because the client was too slow or idle."),
    [M_RATE_LIMITED] = PL_METRIC_COUNTER("porchlight_http_rate_limited_total", "Calls answered 429 because an account or address had made too many."),
    [M_RATE_UNKNOWN] = PL_METRIC_COUNTER("porchlight_http_rate_unknown_total", "Calls whose bucket could not be asked."),
    [M_RETRIES] = PL_METRIC_COUNTER("porchlight_http_retries_total", "Transactions run again after a conflict."),
};

int32_t http_retry_after(enum pl_err e, const struct pl_fail *fail)
{
    int status = pl_err_table[e].status;
    if (fail && fail->retry_after_s > 0)
        return fail->retry_after_s;
    return status == 429 || status == 503 ? 1 : 0;
}

void http_problem(struct pl_buf *out, const struct http *h, enum pl_err e, const struct pl_fail *fail, struct pl_uuid request_id)
{
    const struct pl_err_info *info = &pl_err_table[e];
    struct pl_fail none = PL_FAIL_INIT;
    char mem[256], id[PL_UUID_TEXT];
    struct pl_buf text = pl_buf_fixed(mem, sizeof mem);
    struct jw w = jw_start(out);
    if (!fail)
        fail = &none;
    jw_open(&w, NULL);
    pl_buf_fmt(&text, "%s%s", h->type_base, info->code);
    jw_str(&w, "type", pl_buf_view(&text));
    jw_z(&w, "title", info->sentence);
    jw_int(&w, "status", info->status);
    jw_z(&w, "detail", fail->detail[0] && info->status < 500 ? fail->detail : info->sentence);
    text.n = 0;
    pl_uuid_text(request_id, id);
    pl_buf_fmt(&text, "urn:uuid:%s", id);
    jw_str(&w, "instance", pl_buf_view(&text));
    jw_z(&w, "code", info->code);
    if (fail->field[0] && info->status < 500)
        jw_z(&w, "field", fail->field);
    if (http_retry_after(e, fail))
        jw_int(&w, "retry_after", http_retry_after(e, fail));
    if (fail->attempts_left >= 0)
        jw_int(&w, "attempts_left", fail->attempts_left);
    jw_close(&w);
}

void http_reply_header(struct http_call *c, const char *name, struct pl_str value)
{
    struct http_header *added = PL_NEW(c->arena, struct http_header), **end = &c->headers;
    const char *n = pl_str_z(c->arena, pl_str_of(name)), *v = pl_str_z(c->arena, value);
    if (!added || !n || !v)
        return; /* the arena remembers, and the call fails for it */
    *added = (struct http_header){ n, v, NULL };
    while (*end)
        end = &(*end)->next;
    *end = added;
}

/* RFC 6750 (3): what a bearer's token lacks. .p NULL: it is not the token's fault. */
static struct pl_str challenge(const struct call *call, enum pl_err e)
{
    const char *scope = call->row->route->scope;
    if (e == PL_SCOPE_MISSING)
        return scope ? pl_fmt(call->c.arena, "Bearer error=\"insufficient_scope\", scope=\"%s\"", scope) : PL_STR("Bearer error=\"insufficient_scope\"");
    if (e == PL_UNAUTHENTICATED && call->row->route->auth != HTTP_PUBLIC)
        return PL_STR("Bearer error=\"invalid_token\"");
    return pl_err_table[e].status == 401 ? PL_STR("Bearer") : PL_STR_NONE;
}

void http_reply_error(struct call *call, enum pl_err e, const struct pl_fail *fail)
{
    /* The arena may be what failed. */
    char *mem = pl_alloc(call->c.arena, PROBLEM_BYTES);
    struct pl_buf b = pl_buf_fixed(mem, mem ? PROBLEM_BYTES : 0);
    if (mem)
        http_problem(&b, call->h, e, fail, call->c.request_id);
    call->e = e;
    call->reply = (struct reply){ .status = pl_err_table[e].status, .body = { mem, mem ? b.n : 0 }, .content_type = "application/problem+json" };
    int32_t wait = http_retry_after(e, fail);
    call->c.headers = NULL;
    if (wait)
        http_reply_header(&call->c, "Retry-After", pl_fmt(call->c.arena, "%d", wait));
    struct pl_str ask = challenge(call, e);
    if (ask.p)
        http_reply_header(&call->c, "WWW-Authenticate", ask);
    call->reply.headers = call->c.headers;
}

/* The members that the handler wrote, as an object. */
static struct pl_str object(struct http_call *c)
{
    if (!c->buf.n)
        return PL_STR_NONE;
    char *p = pl_alloc(c->arena, c->buf.n + 2);
    if (!p)
        return PL_STR_NONE;
    p[0] = '{';
    memcpy(p + 1, c->buf.p, c->buf.n);
    p[c->buf.n + 1] = '}';
    return (struct pl_str){ p, c->buf.n + 2 };
}

enum pl_err http_reply_build(struct call *call, struct reply *ret)
{
    struct http_call *c = &call->c;
    struct pl_str body = c->raw ? pl_buf_view(&c->buf) : object(c);
    if (pl_arena_err(c->arena) != PL_OK)
        return pl_arena_err(c->arena);
    if (pl_buf_err(&c->buf) != PL_OK || (!c->raw && c->out.depth != 1)) {
        PL_LOG(&c->log, PL_ERROR, "http.reply-unfinished", PL_F_Z("route", call->row->route->path));
        return PL_INTERNAL;
    }
    const char *type = !body.n ? NULL : c->raw && c->content_type ? c->content_type : "application/json";
    *ret = (struct reply){ c->status ? c->status : body.n ? 200 : 204, body, type, c->headers };
    return PL_OK;
}

void http_reply_ok(struct call *call)
{
    struct pl_fail none = PL_FAIL_INIT;
    call->e = http_reply_build(call, &call->reply);
    if (call->e != PL_OK)
        http_reply_error(call, call->e, &none);
}

static void count_status(int status)
{
    if (status >= 100 && status < 600)
        pl_count(&http_metrics[M_1XX + status / 100 - 1], 1);
}

/* Sends and lets go of `r`; takes NULL. Headers that every reply carries are put on here. */
static enum MHD_Result send_it(struct link *k, struct MHD_Response *r, int status, bool close)
{
    char id[PL_UUID_TEXT];
    if (!r)
        return MHD_NO;
    pl_uuid_text(k->request_id, id);
    MHD_add_response_header(r, "Request-Id", id);
    MHD_add_response_header(r, "Cache-Control", "no-store");
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (k->h->origins)
        MHD_add_response_header(r, "Vary", "Origin");
    if (k->origin) {
        MHD_add_response_header(r, "Access-Control-Allow-Origin", k->origin);
        MHD_add_response_header(r, "Access-Control-Expose-Headers",
                                "Location, ETag, Link, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Idempotency-Replayed, Request-Id");
    }
    if (close || k->h->draining || k->under != k->h->now.mhd) /* under a certificate that is no longer shown: come again */
        MHD_add_response_header(r, "Connection", "close");
    http_phase(k, PHASE_REPLY, REPLY_DEADLINE);
    enum MHD_Result sent = MHD_queue_response(k->mhd, (unsigned)status, r);
    MHD_destroy_response(r);
    count_status(status);
    return sent;
}

static void log_access(const struct link *k, const char *route, int status, enum pl_err e)
{
    struct pl_log id = pl_log_child(k->h->conf.log, PL_F_UUID("request", k->request_id));
    /* The row's path, never the caller's: that one may hold a token. */
    PL_LOG(&id, PL_DEBUG, "http.request", PL_F_Z("route", route), PL_F_INT("status", status), PL_F_ERR(e), PL_F_Z("peer", k->peer),
           PL_F_INT("us", pl_mono_sub(pl_now_mono(k->h->conf.clock), k->began)));
}

enum MHD_Result http_send_refusal(struct link *k)
{
    const struct refusal *f = &k->refusal;
    int status = f->e == PL_OK ? 204 : pl_err_table[f->e].status;
    char mem[PROBLEM_BYTES], wait[16];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    if (f->e != PL_OK)
        http_problem(&b, k->h, f->e, &f->fail, k->request_id);
    struct MHD_Response *r = MHD_create_response_from_buffer(b.n, mem, MHD_RESPMEM_MUST_COPY);
    if (r && f->e != PL_OK)
        MHD_add_response_header(r, "Content-Type", "application/problem+json");
    if (r && (f->e == PL_OK || status == 405))
        MHD_add_response_header(r, "Allow", f->allow);
    if (r && f->e == PL_OK && f->accept_post)
        MHD_add_response_header(r, "Accept-Post", f->accept_post);
    if (r && f->e == PL_OK && f->accept_patch)
        MHD_add_response_header(r, "Accept-Patch", f->accept_patch);
    if (r && f->e == PL_OK && k->origin) { /* what a browser asks before it sends anything but the simplest */
        MHD_add_response_header(r, "Access-Control-Allow-Methods", f->allow);
        MHD_add_response_header(r, "Access-Control-Allow-Headers", "Authorization, Content-Type, Challenge-Key, Idempotency-Key, If-Match, Step-Up-Grant");
        MHD_add_response_header(r, "Access-Control-Max-Age", "600");
    }
    if (r && status == 401)
        MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
    int32_t seconds = http_retry_after(f->e, &f->fail);
    snprintf(wait, sizeof wait, "%d", seconds);
    if (r && seconds)
        MHD_add_response_header(r, "Retry-After", wait);
    log_access(k, k->call && k->call->row ? k->call->row->route->path : "", status, f->e);
    return send_it(k, r, status, f->close);
}

static void add_number(struct MHD_Response *r, const char *name, int64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, n);
    MHD_add_response_header(r, name, text);
}

enum MHD_Result http_send_reply(struct link *k)
{
    struct call *call = k->call;
    const struct reply *p = &call->reply;
    if (call->e != PL_OK && !p->body.n) { /* the call had no memory left to say it */
        k->refusal = (struct refusal){ .set = true, .e = call->e, .fail = PL_FAIL_INIT };
        return http_send_refusal(k);
    }
    /* The body lives in the call's arena, which lives until the exchange is over. */
    struct MHD_Response *r = MHD_create_response_from_buffer(p->body.n, p->body.n ? (void *)(uintptr_t)p->body.p : NULL, MHD_RESPMEM_PERSISTENT);
    if (r && p->body.n && p->content_type)
        MHD_add_response_header(r, "Content-Type", p->content_type);
    for (const struct http_header *x = p->headers; r && x; x = x->next)
        MHD_add_response_header(r, x->name, x->value);
    if (r && call->rate.limit) {
        add_number(r, "RateLimit-Limit", call->rate.limit);
        add_number(r, "RateLimit-Remaining", call->rate.remaining);
        add_number(r, "RateLimit-Reset", call->rate.reset_s);
    }
    log_access(k, call->row->route->path, p->status, call->e);
    return send_it(k, r, p->status, false);
}
