#include "node_http.h"
#include "node.h"

static enum pl_err raw(struct http_call *c, const char *content_type)
{
    c->raw = true;
    c->content_type = content_type;
    return pl_buf_err(&c->buf);
}

/* The process runs and its workers answer; says nothing of what it needs. */
static enum pl_err on_healthz(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    jw_z(&c->out, "status", "ok");
    return PL_OK;
}

/* May this node be sent calls? Not without its database at the schema that it was built for, nor when it is about to end. */
static enum pl_err on_readyz(struct http_call *c, struct pl_fail *reterr)
{
    const struct node_status *status = c->self;
    if (__atomic_load_n(&status->draining, __ATOMIC_RELAXED))
        return PL_UNAVAILABLE;
    enum pl_err e = db_ping(c->db);
    if (e == PL_OK)
        e = db_schema_check(c->db, status->schema, c->arena, reterr);
    if (e != PL_OK)
        return PL_UNAVAILABLE;
    jw_z(&c->out, "status", "ok");
    return PL_OK;
}

static enum pl_err on_metrics(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    pl_metrics_print(&c->buf);
    return raw(c, "text/plain; version=0.0.4");
}

static enum pl_err on_openapi(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    pl_buf_str(&c->buf, node_openapi);
    return raw(c, "application/json");
}

static enum pl_err on_status(struct http_call *c, struct pl_fail *reterr)
{
    const struct node_status *status = c->self;
    (void)reterr;
    jw_z(&c->out, "version", NODE_VERSION);
    jw_utc(&c->out, "time", c->now);
    jw_utc(&c->out, "started_at", status->started_at);
    return PL_OK;
}

const struct http_route node_routes[] = {
    { HTTP_GET, "/healthz", HTTP_PUBLIC, on_healthz, "Is the process alive", .tx = HTTP_OWN_TX, .rate = HTTP_RATE_NONE },
    { HTTP_GET, "/readyz", HTTP_PUBLIC, on_readyz, "May this node be sent calls", .tx = HTTP_OWN_TX, .rate = HTTP_RATE_NONE },
    { HTTP_GET, "/metrics", HTTP_PUBLIC, on_metrics, "Counters in Prometheus text format", .tx = HTTP_OWN_TX, .rate = HTTP_RATE_NONE },
    { HTTP_GET, "/openapi.json", HTTP_PUBLIC, on_openapi, "This document", .tx = HTTP_OWN_TX },
    { HTTP_GET, "/v1/status", HTTP_PUBLIC, on_status, "Version and time of the service", .tx = HTTP_OWN_TX },
    HTTP_END,
};
