/* Rows and paths: which row answers a method and a path. */
#include "http_private.h"

static const char *const method_names[] = { [HTTP_GET] = "GET", [HTTP_POST] = "POST", [HTTP_PUT] = "PUT", [HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE" };

static unsigned count_params(const char *path)
{
    unsigned n = 0;
    for (; *path; path++)
        n += *path == '{';
    return n;
}

static bool row_good(const struct http_route *r)
{
    return r->path[0] == '/' && r->run && r->summary && count_params(r->path) <= MAX_PARAMS && (r->fields == NULL) == (r->body_size == 0) &&
           (r->type == NULL) == (r->most == 0) && !(r->type && r->fields) && (!r->step_up || r->auth == HTTP_SESSION) && (r->auth == HTTP_USER) == (r->scope != NULL) &&
           (!r->idempotent || r->method == HTTP_POST);
}

enum pl_err http_mount(struct http *h, const struct http_route *routes, void *self)
{
    for (const struct http_route *r = routes; r->path; r++) {
        if (h->running || h->nroutes == MAX_ROUTES || !row_good(r))
            return PL_INTERNAL;
        for (size_t i = 0; i < h->nroutes; i++)
            if (h->routes[i].route->method == r->method && strcmp(h->routes[i].route->path, r->path) == 0)
                return PL_INTERNAL;
        h->routes[h->nroutes++] = (struct mounted){ r, self };
    }
    return PL_OK;
}

void http_each_route(const struct http *h, void (*fn)(void *arg, const struct http_route *r), void *arg)
{
    for (size_t i = 0; i < h->nroutes; i++)
        fn(arg, h->routes[i].route);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct pl_str http_unescape(struct pl_arena *a, struct pl_str s, bool form)
{
    char *p = pl_alloc(a, s.n + 1);
    size_t n = 0;
    if (!p)
        return PL_STR_NONE;
    for (size_t i = 0; i < s.n; i++) {
        char c = form && s.p[i] == '+' ? ' ' : s.p[i];
        if (c == '%') {
            int hi = i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1, lo = i + 2 < s.n ? hex_digit(s.p[i + 2]) : -1;
            if (hi < 0 || lo < 0)
                return PL_STR_NONE;
            c = (char)(hi << 4 | lo);
            i += 2;
        }
        if ((unsigned char)c < 0x20 || c == 0x7f)
            return PL_STR_NONE;
        p[n++] = c;
    }
    struct pl_str out = { p, n };
    return pl_str_is_utf8(out) ? out : PL_STR_NONE;
}

void http_escape(struct pl_buf *b, struct pl_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c && strchr("-._~", c)))
            pl_buf_u8(b, c);
        else
            pl_buf_fmt(b, "%%%02X", c);
    }
}

/* Does the path fit the row's? Fills the params; *ret_literal_last: its last segment is not a parameter. */
static bool fits(struct call *call, const char *pattern, struct pl_str path, bool *ret_literal_last)
{
    struct pl_str want = pl_str_of(pattern);
    unsigned n = 0;
    memset(call->params, 0, sizeof call->params);
    while (want.n || path.n) {
        if (!want.n || !path.n || want.p[0] != '/' || path.p[0] != '/')
            return false;
        struct pl_str want_rest = { want.p + 1, want.n - 1 }, path_rest = { path.p + 1, path.n - 1 };
        size_t wn = pl_str_find(want_rest, '/'), pn = pl_str_find(path_rest, '/');
        struct pl_str w = { want_rest.p, wn }, s = { path_rest.p, pn };
        if (w.n > 2 && w.p[0] == '{') {
            struct pl_str v = s.n ? http_unescape(call->c.arena, s, false) : PL_STR_NONE;
            if (!v.p)
                return false;
            call->param_names[n] = (struct pl_str){ w.p + 1, w.n - 2 };
            call->params[n++] = v;
            *ret_literal_last = false;
        } else if (!pl_str_eq(w, s))
            return false;
        else
            *ret_literal_last = true;
        want = (struct pl_str){ want_rest.p + wn, want_rest.n - wn };
        path = (struct pl_str){ path_rest.p + pn, path_rest.n - pn };
    }
    return true;
}

static void add_allowed(char allow[64], const char *name)
{
    struct pl_buf b = pl_buf_fixed(allow, 64);
    b.n = strlen(allow);
    pl_buf_fmt(&b, "%s%s", b.n ? ", " : "", name);
}

enum pl_err http_match(struct call *call, const char *method, const char *path, struct refusal *taken, struct pl_fail *reterr)
{
    const struct http *h = call->h;
    const struct mounted *best = NULL;
    char *allow = taken->allow;
    bool head = strcmp(method, "HEAD") == 0, any = strcmp(method, "OPTIONS") == 0 && strcmp(path, "*") == 0, best_literal = false;
    allow[0] = 0;
    for (size_t i = 0; i < h->nroutes; i++) {
        const struct http_route *r = h->routes[i].route;
        bool literal = false;
        if (!fits(call, r->path, pl_str_of(path), &literal))
            continue;
        any = true;
        const char *name = method_names[r->method];
        if (!strstr(allow, name))
            add_allowed(allow, name);
        if (r->method == HTTP_POST)
            taken->accept_post = r->type;
        if (r->method == HTTP_PATCH)
            taken->accept_patch = r->type;
        /* "/sessions/current" goes before "/sessions/{id}". */
        if (strcmp(head ? "GET" : method, name) == 0 && (!best || (literal && !best_literal))) {
            best = &h->routes[i];
            best_literal = literal;
        }
    }
    if (strstr(allow, "GET"))
        add_allowed(allow, "HEAD");
    add_allowed(allow, "OPTIONS");
    if (!any)
        return PL_NOT_FOUND;
    if (strcmp(method, "OPTIONS") == 0)
        return PL_OK;
    if (!best)
        return pl_fail(reterr, PL_METHOD_NOT_ALLOWED, "This address takes %s.", allow);
    call->row = best;
    return fits(call, best->route->path, pl_str_of(path), &best_literal) ? PL_OK : PL_NOT_FOUND;
}

static struct pl_str find(const struct pair *list, const char *name, bool nocase)
{
    for (const struct pair *p = list; p; p = p->next)
        if (nocase ? pl_str_eq_nocase(p->name, pl_str_of(name)) : pl_str_eqz(p->name, name))
            return p->value;
    return PL_STR_NONE;
}

struct pl_str http_param(const struct http_call *c, const char *name)
{
    const struct call *call = c->engine;
    for (unsigned i = 0; i < MAX_PARAMS; i++)
        if (call->params[i].p && pl_str_eqz(call->param_names[i], name))
            return call->params[i];
    return PL_STR_NONE;
}

enum pl_err http_param_uuid(const struct http_call *c, const char *name, struct pl_uuid *ret)
{
    return pl_uuid_parse(http_param(c, name), ret) == PL_OK ? PL_OK : PL_NOT_FOUND;
}

struct pl_str http_query(const struct http_call *c, const char *name) { return find(((const struct call *)c->engine)->query, name, false); }
struct pl_str http_header(const struct http_call *c, const char *name) { return find(((const struct call *)c->engine)->headers, name, true); }
