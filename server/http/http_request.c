/* libmicrohttpd's callbacks, all on the engine's thread: a request is looked at when its headers are there, its body is gathered, then it goes to a worker and the
 * connection is suspended. libmicrohttpd lets dubious framing pass, so that is checked here. */
#include "http_private.h"
#include <sys/socket.h>

/* Headers that mean something only once; a second one is how requests are smuggled or checks are led astray. */
static const char *const singles[] = { "Host",          "Content-Length", "Transfer-Encoding", "Content-Type", "Authorization",
                                       "Step-Up-Grant", "Challenge-Key",  "Idempotency-Key",   "Expect",       "If-Match",
                                       "Origin" };

#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

void http_phase(struct link *k, enum phase p, int64_t us)
{
    k->phase = p;
    k->until = pl_mono_add(pl_now_mono(k->h->conf.clock), us);
}

static struct pl_str header(const struct call *call, const char *name) { return http_header(&call->c, name); }

static bool is_token(struct pl_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return s.n > 0;
}

static bool is_value(struct pl_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (((unsigned char)s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] == 0x7f)
            return false;
    return true;
}

/* Keeps a copy of every header and query value: the worker may outlive the exchange. */
struct gather {
    struct call *call;
    struct pair **end;
    bool query, bad;
};
static enum MHD_Result on_value(void *self, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct gather *g = self;
    struct pl_arena *a = g->call->c.arena;
    struct pair *p = PL_NEW(a, struct pair);
    (void)kind;
    if (!p)
        return MHD_NO;
    struct pl_str name = pl_str_of(key), v = pl_str_of(value ? value : "");
    p->name = g->query ? http_unescape(a, name, false) : pl_str_dup(a, name);
    p->value = g->query ? http_unescape(a, v, false) : pl_str_dup(a, pl_str_trim(v));
    g->bad = g->bad || !p->name.p || !p->value.p || (!g->query && (!is_token(p->name) || !is_value(p->value)));
    for (struct pair *o = g->query ? g->call->query : NULL; o; o = o->next)
        g->bad = g->bad || pl_str_eq(o->name, p->name);
    if (g->bad)
        return MHD_NO;
    *g->end = p;
    g->end = &p->next;
    return MHD_YES;
}

static enum pl_err gather(struct link *k, struct pl_fail *reterr)
{
    struct call *call = k->call;
    struct gather h = { call, &call->headers, false, false }, q = { call, &call->query, true, false };
    MHD_get_connection_values(k->mhd, MHD_HEADER_KIND, on_value, &h);
    if (h.bad) {
        k->refusal.close = true;
        return pl_fail(reterr, PL_INVALID_REQUEST, "A header is malformed.");
    }
    MHD_get_connection_values(k->mhd, MHD_GET_ARGUMENT_KIND, on_value, &q);
    if (q.bad)
        return pl_fail(reterr, PL_INVALID_REQUEST, "The query is malformed, or a name in it stands twice.");
    return pl_arena_err(call->c.arena);
}

static bool doubled(const struct call *call, const char *name)
{
    unsigned n = 0;
    for (const struct pair *p = call->headers; p; p = p->next)
        n += pl_str_eq_nocase(p->name, pl_str_of(name));
    return n > 1;
}

/* Refuses every request of which two servers could disagree where it ends. */
static enum pl_err check_framing(const struct call *call, const char *url, const char *version, struct pl_fail *reterr)
{
    struct pl_str length = header(call, "Content-Length"), coding = header(call, "Transfer-Encoding");
    bool http11 = strcmp(version, "HTTP/1.1") == 0;
    for (size_t i = 0; i < PL_COUNT(singles); i++)
        if (doubled(call, singles[i]))
            return pl_fail(reterr, PL_INVALID_REQUEST, "The header %s stands twice.", singles[i]);
    if (!http11 && strcmp(version, "HTTP/1.0") != 0)
        return pl_fail(reterr, PL_INVALID_REQUEST, "HTTP/1.1 is expected.");
    if (strchr(url, ' ') || !is_value(pl_str_of(url)))
        return pl_fail(reterr, PL_INVALID_REQUEST, "The address is malformed.");
    if (http11 && !header(call, "Host").n)
        return pl_fail(reterr, PL_INVALID_REQUEST, "The header Host is missing.");
    if (length.p && coding.p)
        return pl_fail(reterr, PL_INVALID_REQUEST, "Content-Length and Transfer-Encoding exclude each other.");
    if (coding.p && (!http11 || !pl_str_eq_nocase(coding, PL_STR("chunked"))))
        return pl_fail(reterr, PL_INVALID_REQUEST, "Only the transfer coding \"chunked\" is known here.");
    uint64_t n;
    if (length.p && pl_parse_u64(length, 0, INT64_MAX, &n) != PL_OK)
        return pl_fail(reterr, PL_INVALID_REQUEST, "Content-Length is not a number.");
    return PL_OK;
}

static uint64_t content_length(const struct call *call)
{
    uint64_t n = 0;
    return pl_parse_u64(header(call, "Content-Length"), 0, INT64_MAX, &n) == PL_OK ? n : 0;
}

/* The checks that need only the headers, in the door's order: limits, route, method, presence of a token. */
static enum pl_err check_headers(struct link *k, const char *url, const char *method, const char *version, struct pl_fail *reterr)
{
    struct call *call = k->call;
    const union MHD_ConnectionInfo *size = MHD_get_connection_info(k->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    k->refusal.close = true;
    if (size && size->header_size > MAX_HEADERS_BYTES)
        return PL_HEADERS_TOO_LARGE;
    enum pl_err e = gather(k, reterr);
    if (e == PL_OK)
        e = check_framing(call, url, version, reterr);
    if (e != PL_OK)
        return e;
    k->refusal.close = k->h->draining;
    if (k->h->draining)
        return PL_UNAVAILABLE;
    if (content_length(call) > k->h->conf.max_body)
        return PL_BODY_TOO_LARGE;
    if ((e = http_match(call, method, url, &k->refusal, reterr)) != PL_OK || !call->row)
        return e;
    call->bearer = http_bearer(call);
    if (!call->bearer.p && !call->machine && call->row->route->auth != HTTP_PUBLIC)
        return PL_UNAUTHENTICATED;
    return PL_OK;
}

/* The page that asks is one that may read the answer. */
static const char *origin_of(const struct link *k)
{
    struct pl_str from = header(k->call, "Origin");
    for (const char *o = k->h->origins; o && *o && from.n; o += strlen(o) + 1)
        if (pl_str_eqz(from, o))
            return o;
    return NULL;
}

/* S-F7: behind a proxy that is named the caller is the last address of the last X-Forwarded-For: what the proxy itself wrote. Of anybody else it is not looked at. */
static void find_caller(struct link *k)
{
    struct call *call = k->call;
    struct pl_str list = PL_STR_NONE;
    if (!http_from_proxy(k->h, call->c.peer))
        return;
    for (const struct pair *p = call->headers; p; p = p->next)
        if (pl_str_eq_nocase(p->name, PL_STR("X-Forwarded-For")))
            list = p->value;
    for (size_t at; (at = pl_str_find(list, ',')) < list.n;)
        list = (struct pl_str){ list.p + at + 1, list.n - at - 1 };
    const char *last = pl_str_z(call->c.arena, pl_str_trim(list));
    struct address from;
    if (last && http_address_parse(last, &from)) {
        call->from = from;
        call->c.peer = pl_str_of(last);
    }
}

static enum MHD_Result begin(struct link *k, const char *url, const char *method, const char *version)
{
    struct http *h = k->h;
    k->request_id = pl_uuid7(h->conf.rand, pl_now_utc(h->conf.clock));
    k->began = pl_now_mono(h->conf.clock);
    k->body_bytes = 0;
    k->origin = NULL;
    k->refusal = (struct refusal){ .fail = PL_FAIL_INIT };
    http_phase(k, PHASE_BODY, BODY_DEADLINE);
    k->call = http_call_new(h, k);
    struct refusal *r = &k->refusal;
    if (!k->call) {
        *r = (struct refusal){ .set = true, .e = PL_NO_MEMORY, .fail = PL_FAIL_INIT, .close = true };
        return http_send_refusal(k);
    }
    r->e = check_headers(k, url, method, version, &r->fail);
    k->origin = origin_of(k);
    find_caller(k);
    r->set = r->e != PL_OK || !k->call->row;
    /* Not worth reading on, or the client itself waits for our word (100-continue). Else the body is read first, so that the answer reaches the client
     * and the connection lives on. */
    if (r->set && (r->close || content_length(k->call) > SWALLOW_BYTES || header(k->call, "Expect").p)) {
        r->close = true;
        return http_send_refusal(k);
    }
    return MHD_YES;
}

static enum MHD_Result body(struct link *k, const char *data, size_t n)
{
    struct refusal *r = &k->refusal;
    k->body_bytes += n;
    if (k->body_bytes > SWALLOW_BYTES)
        return MHD_NO; /* closes the connection */
    if (!r->set && k->body_bytes > k->h->conf.max_body) {
        r->set = true;
        r->e = PL_BODY_TOO_LARGE;
    }
    if (!r->set)
        pl_buf_add(&k->call->body, data, n);
    return MHD_YES;
}

/* The whole request is there: to a worker with it. */
static enum MHD_Result dispatch(struct link *k)
{
    struct http *h = k->h;
    struct call *call = k->call;
    if (pl_buf_err(&call->body) != PL_OK) {
        k->refusal.set = true;
        k->refusal.e = PL_NO_MEMORY;
        return http_send_refusal(k);
    }
    call->c.now = pl_now_utc(h->conf.clock);
    http_phase(k, PHASE_CALL, h->conf.call_deadline);
    const struct http_route *row = call->row->route;
    struct pl_pool *pool = h->heavy && row->heavy ? h->heavy : h->outside && row->outside ? h->outside : h->pool;
    if (pl_pool_submit(pool, (struct pl_job){ http_call_run, call, 0 }) != PL_OK) {
        pl_count(&http_metrics[M_QUEUE_FULL], 1);
        k->refusal.set = true;
        k->refusal.e = PL_OVERLOADED;
        return http_send_refusal(k);
    }
    /* The worker may be done already; but only this thread resumes, and later. */
    MHD_suspend_connection(k->mhd);
    pl_count(&http_metrics[M_IN_FLIGHT], 1);
    return MHD_YES;
}

void http_resume(struct link *k)
{
    pl_count(&http_metrics[M_IN_FLIGHT], -1);
    http_phase(k, PHASE_REPLY, REPLY_DEADLINE);
    MHD_resume_connection(k->mhd);
}

void http_abandon(struct link *k)
{
    struct http *h = k->h;
    struct call *call = k->call;
    pthread_mutex_lock(&h->lock);
    bool done = false;
    for (struct call *d = h->done; d; d = d->next_done)
        done = done || d == call;
    bool started = call->started;
    if (!done) {
        call->abandoned = true;
        call->link = NULL;
    }
    pthread_mutex_unlock(&h->lock);
    if (done)
        return; /* it has come after all, and is on its way out */
    pl_count(&http_metrics[M_LATE], 1);
    k->call = NULL;
    k->refusal = (struct refusal){ .set = true, .e = started ? PL_UNAVAILABLE : PL_OVERLOADED, .fail = PL_FAIL_INIT, .close = h->draining };
    http_resume(k);
}

static struct link *link_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return i ? i->socket_context : NULL;
}

/* First with the headers, then with each piece of the body, then with its end; and again with the end after a resume. */
static enum MHD_Result on_request(void *self, struct MHD_Connection *mhd, const char *url, const char *method, const char *version, const char *data,
                                  size_t *n, void **seen)
{
    struct link *k = link_of(mhd);
    (void)self;
    if (!k)
        return MHD_NO;
    if (!*seen) {
        *seen = k;
        return begin(k, url, method, version);
    }
    if (*n) {
        size_t got = *n;
        *n = 0;
        return body(k, data, got);
    }
    if (k->refusal.set)
        return http_send_refusal(k);
    return k->phase == PHASE_BODY ? dispatch(k) : http_send_reply(k);
}

static void on_completed(void *self, struct MHD_Connection *mhd, void **seen, enum MHD_RequestTerminationCode why)
{
    struct link *k = link_of(mhd);
    (void)self, (void)why;
    *seen = NULL;
    if (!k)
        return;
    k->call = http_call_free(k->call);
    if (k->phase != PHASE_CUT)
        http_phase(k, PHASE_HEADERS, IDLE_DEADLINE);
    if (k->h->draining)
        shutdown(k->fd, SHUT_RD);
}

static void on_connection(void *self, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode what)
{
    struct http *h = self;
    struct link *k = *context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        k = h->adopting;
        h->adopting = NULL;
        *context = k;
        k->mhd = mhd;
        k->next = h->links;
        if (k->next)
            k->next->prev = k;
        h->links = k;
        h->nlinks++;
    } else if (k) {
        *(k->prev ? &k->prev->next : &h->links) = k->next;
        if (k->next)
            k->next->prev = k->prev;
        h->nlinks--;
        http_call_free(k->call);
        *context = pl_heap_free(k);
    }
    pl_gauge(&http_metrics[M_CONNECTIONS], h->nlinks);
}

/* Paths and queries are unescaped by us, strictly, after they are split. */
static size_t keep_escaped(void *self, struct MHD_Connection *mhd, char *s)
{
    (void)self, (void)mhd;
    return strlen(s);
}

enum pl_err http_daemon(struct http *h, struct daemon *ret, struct pl_fail *reterr)
{
    char *cert = NULL, *key = NULL;
    enum pl_err e = http_tls_load(h, &cert, &key, reterr);
    if (e == PL_OK) {
        struct MHD_OptionItem tls[] = { { MHD_OPTION_HTTPS_MEM_CERT, 0, cert }, { MHD_OPTION_HTTPS_MEM_KEY, 0, key },
                                        { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)TLS_PRIORITIES }, { MHD_OPTION_END, 0, NULL } };
        struct MHD_Daemon *mhd =
            MHD_start_daemon((cert ? MHD_USE_TLS : 0) | MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, h,
                             MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_CONNECTION_LIMIT, h->conf.max_connections + 1,
                             MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
                             MHD_OPTION_UNESCAPE_CALLBACK, keep_escaped, h, MHD_OPTION_ARRAY, cert ? tls : tls + PL_COUNT(tls) - 1, MHD_OPTION_END);
        const union MHD_DaemonInfo *info = mhd ? MHD_get_daemon_info(mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
        if (info)
            *ret = (struct daemon){ mhd, info->epoll_fd };
        else
            e = pl_fail(reterr, PL_INTERNAL, cert ? "libmicrohttpd cannot be started: is the key that of the certificate?" : "libmicrohttpd cannot be started.");
    }
    pl_heap_free(cert);
    http_key_free(key);
    return e;
}
