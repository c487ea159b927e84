/* The worker's side of a call: token, content type, body, transaction with grant and handler, reply. */
#include "http_private.h"
#include "secure.h"

#define USER_AGENT_BYTES 200

struct worker {
    struct db *db; /* NULL: it could not be made; then every transaction is PL_UNAVAILABLE */
};

void *http_worker_start(void *self, unsigned number)
{
    struct http *h = self;
    struct worker *w = pl_heap(sizeof *w);
    (void)number;
    if (w && h->conf.db.conninfo && db_open(&h->conf.db, &w->db) != PL_OK)
        w->db = NULL;
    return w;
}

void http_worker_stop(void *self, void *state)
{
    struct worker *w = state;
    (void)self;
    if (w)
        db_close(w->db);
    pl_heap_free(w);
}

struct call *http_call_new(struct http *h, struct link *k)
{
    /* A body grows by doubling, so it may take twice its size, and is copied once more into the handler's struct. */
    struct pl_arena *a = pl_arena_new(CALL_BYTES + 3 * h->conf.max_body);
    struct call *call = a ? PL_NEW(a, struct call) : NULL;
    if (!call) {
        pl_arena_free(a);
        return NULL;
    }
    call->h = h;
    call->link = k;
    call->from = k->address;
    call->machine = k->machine;
    call->body = pl_buf_init(a, h->conf.max_body + 1);
    call->c = (struct http_call){ .arena = a, .clock = h->conf.clock, .rand = h->conf.rand, .request_id = k->request_id,
                                  .log = pl_log_child(h->conf.log, PL_F_UUID("request", k->request_id)), .peer = pl_str_dup(a, pl_str_of(k->peer)), .engine = call };
    return call;
}

struct call *http_call_free(struct call *call)
{
    if (call) {
        pl_secret_wipe(&call->idempotency.seal);
        pl_arena_free(call->c.arena); /* the call itself lives in it */
    }
    return NULL;
}

struct pl_str http_bearer(const struct call *call)
{
    struct pl_str given = http_header(&call->c, "Authorization"), token;
    struct pl_str scheme = pl_str_split(given, ' ', &token);
    token = pl_str_trim(token);
    return given.p && pl_str_eq_nocase(scheme, PL_STR("Bearer")) && token.n ? token : PL_STR_NONE;
}

static enum pl_err authenticate(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct call *call = arg;
    const struct http_hooks *hooks = &call->h->conf.hooks;
    (void)reterr;
    return hooks->authenticate(hooks->self, tx, call->c.now, call->bearer, &call->c.actor);
}

static enum pl_err check_token(struct call *call, struct pl_fail *reterr)
{
    if (call->row->route->auth == HTTP_PUBLIC || (call->machine && !call->bearer.p))
        return PL_OK;
    if (!call->h->conf.hooks.authenticate)
        return PL_UNAUTHENTICATED;
    if (!call->c.db)
        return PL_UNAVAILABLE;
    return db_look(call->c.db, call->c.arena, authenticate, call, reterr);
}

static bool has_word(struct pl_str words, struct pl_str word)
{
    while (words.n)
        if (pl_str_eq(pl_str_split(words, ' ', &words), word))
            return true;
    return false;
}

bool http_may(const struct http_actor *actor, const char *scopes)
{
    struct pl_str rest = pl_str_of(scopes);
    while (actor->scopes.p && rest.n)
        if (!has_word(actor->scopes, pl_str_split(rest, ' ', &rest)))
            return false;
    return true;
}

/* What a scoped token may is data: the row says it, and a row that says nothing is not for such a token. */
static enum pl_err check_scope(const struct call *call, struct pl_fail *reterr)
{
    const struct http_route *r = call->row->route;
    if (r->auth == HTTP_PUBLIC || !call->c.actor.scopes.p)
        return PL_OK;
    if (!r->scope)
        return pl_fail(reterr, PL_SCOPE_MISSING, "Only a signed-in client may do this.");
    return http_may(&call->c.actor, r->scope) ? PL_OK : pl_fail(reterr, PL_SCOPE_MISSING, "This wants the scope %s.", r->scope);
}

static bool is_json(struct pl_str type)
{
    struct pl_str params, charset;
    struct pl_str main_type = pl_str_trim(pl_str_split(type, ';', &params));
    if (!pl_str_eq_nocase(main_type, PL_STR("application/json")))
        return false;
    params = pl_str_trim(params);
    if (!params.n)
        return true;
    struct pl_str name = pl_str_split(params, '=', &charset);
    return pl_str_eq_nocase(pl_str_trim(name), PL_STR("charset")) &&
           (pl_str_eq_nocase(charset, PL_STR("utf-8")) || pl_str_eq_nocase(charset, PL_STR("\"utf-8\"")));
}

/* A body that is not JSON: its bytes, for the handler's own parser. */
static enum pl_err take_raw(struct call *call, struct pl_str text, struct pl_fail *reterr)
{
    const struct http_route *r = call->row->route;
    struct pl_str params, *body = PL_NEW(call->c.arena, struct pl_str);
    if (!body)
        return PL_NO_MEMORY;
    if (text.n > r->most)
        return pl_fail(reterr, PL_BODY_TOO_LARGE, "This address takes %zu bytes.", r->most);
    if (text.n && !pl_str_eq_nocase(pl_str_trim(pl_str_split(http_header(&call->c, "Content-Type"), ';', &params)), pl_str_of(r->type)))
        return pl_fail(reterr, PL_UNSUPPORTED_TYPE, "The body must be %s.", r->type);
    *body = text;
    call->c.body = body;
    return PL_OK;
}

/* A body that is absent counts as {}: the answer then names the first member that is missing. */
static enum pl_err take_body(struct call *call, struct pl_fail *reterr)
{
    const struct http_route *r = call->row->route;
    struct pl_str text = pl_buf_view(&call->body);
    if (r->type)
        return take_raw(call, text, reterr);
    if (text.n && !r->fields)
        return pl_fail(reterr, PL_INVALID_REQUEST, "This request takes no body.");
    if (!r->fields)
        return PL_OK;
    if (text.n && !is_json(http_header(&call->c, "Content-Type")))
        return pl_fail(reterr, PL_UNSUPPORTED_TYPE, "The body must be application/json.");
    void *body = pl_alloc(call->c.arena, r->body_size);
    if (!body)
        return PL_NO_MEMORY;
    enum pl_err e = json_take(r->fields, JSON_STRICT, text.n ? text : PL_STR("{}"), call->c.arena, body, reterr);
    if (e == PL_OK)
        call->c.body = body;
    return e;
}

/* A handler may run again: it finds the reply as it was the first time. */
void http_reset_reply(struct http_call *c)
{
    c->status = 0;
    c->buf = pl_buf_init(c->arena, REPLY_BYTES);
    c->out = jw_start(&c->buf);
    c->out.depth = 1; /* inside the object, whose brackets the engine writes */
    c->raw = false;
    c->content_type = NULL;
    c->keep_on_error = false;
    c->after = NULL;
    c->headers = NULL;
    c->replayed = false;
}

void http_after(struct http_call *c, void (*fn)(void *arg), void *arg)
{
    struct http_after *added = PL_NEW(c->arena, struct http_after), **end = &c->after;
    if (!added)
        return; /* the arena remembers, and the call fails before its commit */
    *added = (struct http_after){ fn, arg, NULL };
    while (*end)
        end = &(*end)->next;
    *end = added;
}

static void run_after(const struct http_call *c)
{
    for (const struct http_after *a = c->after; a; a = a->next)
        a->fn(a->arg);
}

static enum pl_err spend_grant(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct call *call = arg;
    const struct http_hooks *hooks = &call->h->conf.hooks;
    struct pl_str grant = http_header(&call->c, "Step-Up-Grant");
    (void)reterr;
    if (!call->row->route->step_up)
        return PL_OK;
    if (!grant.n || !hooks->spend_grant)
        return PL_STEP_UP_REQUIRED;
    enum pl_err e = hooks->spend_grant(hooks->self, tx, call->c.now, &call->c.actor, call->row->route->step_up, grant);
    call->c.actor.step_up = e == PL_OK;
    return e;
}

static enum pl_err begin_actor(struct db_tx *tx, const struct call *call)
{
    const struct http_hooks *hooks = &call->h->conf.hooks;
    return hooks->begin && call->row->route->auth != HTTP_PUBLIC ? hooks->begin(hooks->self, tx, call->c.now, &call->c.actor) : PL_OK;
}

static enum pl_err run_handler(struct call *call, struct pl_fail *reterr)
{
    enum pl_err e = call->row->route->run(&call->c, reterr);
    return e == PL_OK ? pl_arena_err(call->c.arena) : e;
}

/* One try: the actor's begin, idempotency key, grant, handler, stored answer, commit. */
static enum pl_err try_in_tx(struct call *call, struct pl_fail *reterr)
{
    struct http_call *c = &call->c;
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    bool replayed = false;
    http_reset_reply(c);
    enum pl_err e = db_begin(c->db, c->arena, &tx);
    if (e == PL_OK)
        e = begin_actor(tx, call);
    if (e == PL_OK && call->idempotency.on)
        e = http_idempotency_take(call, tx, &replayed, reterr);
    if (e != PL_OK || replayed)
        return e;
    c->actor.step_up = false;
    if ((e = spend_grant(tx, call, reterr)) != PL_OK)
        return e;
    c->tx = tx;
    e = run_handler(call, reterr);
    c->tx = NULL;
    if (e != PL_OK && (e == PL_RETRY || !c->keep_on_error))
        return e;
    enum pl_err committed = PL_OK;
    if (call->idempotency.on)
        committed = e == PL_OK ? http_idempotency_keep(call, tx) : http_idempotency_drop(call, tx);
    if (committed == PL_OK)
        committed = db_commit(&tx);
    if (committed != PL_OK)
        return committed;
    run_after(c);
    return e;
}

static enum pl_err run_in_tx(struct call *call, struct pl_fail *reterr)
{
    if (!call->c.db)
        return PL_UNAVAILABLE;
    for (unsigned i = 1;; i++) {
        struct pl_fail why = PL_FAIL_INIT;
        enum pl_err e = try_in_tx(call, &why);
        if (e == PL_RETRY && i < MAX_TRIES) {
            pl_count(&http_metrics[M_RETRIES], 1);
            continue;
        }
        if (e != PL_OK)
            *reterr = why;
        return e;
    }
}

struct run {
    struct call *call;
    db_work *fn;
    void *arg;
};

static enum pl_err run_in(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    const struct run *r = arg;
    bool replayed = false;
    enum pl_err e = PL_OK;
    http_reset_reply(&r->call->c);
    r->call->c.actor.step_up = false;
    if (r->call->idempotency.on)
        e = http_idempotency_take(r->call, tx, &replayed, reterr);
    if (e == PL_OK && !replayed)
        e = spend_grant(tx, r->call, reterr);
    if (e != PL_OK || replayed || (e = r->fn(tx, r->arg, reterr)) != PL_OK)
        return e;
    return r->call->idempotency.on ? http_idempotency_keep(r->call, tx) : PL_OK;
}

enum pl_err http_run(struct http_call *c, db_work *fn, void *arg, struct pl_fail *reterr)
{
    struct run r = { (struct call *)(uintptr_t)c->engine, fn, arg };
    return c->db ? db_run(c->db, c->arena, run_in, &r, reterr) : PL_UNAVAILABLE;
}

static enum pl_err look_up(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    bool found;
    return http_idempotency_find(arg, tx, &found, reterr);
}

static enum pl_err run_own_tx(struct call *call, struct pl_fail *reterr)
{
    struct http_call *c = &call->c;
    enum pl_err e = PL_OK;
    http_reset_reply(c);
    if (call->idempotency.on && (!c->db || (e = db_run(c->db, c->arena, look_up, call, reterr)) != PL_OK || c->replayed))
        return c->db ? e : PL_UNAVAILABLE;
    c->actor.step_up = false;
    if (call->row->route->step_up && !http_header(c, "Step-Up-Grant").n)
        return PL_STEP_UP_REQUIRED;
    e = run_handler(call, reterr);
    if (e == PL_OK && call->row->route->step_up && !c->actor.step_up && !c->replayed)
        e = pl_fail(reterr, PL_INTERNAL, "A row with step_up did not use http_run.");
    if (e == PL_OK || c->keep_on_error)
        run_after(c);
    /* A call with the same key may have done it meanwhile, and be why this one was refused. */
    if (e != PL_OK && call->idempotency.on && pl_err_table[e].status < 500 && db_run(c->db, c->arena, look_up, call, NULL) == PL_OK && c->replayed)
        return PL_OK;
    return e;
}

/* The door's order: rate and token, content type, body, idempotency key, grant, handler. */
static enum pl_err run_checks(struct call *call, struct pl_fail *reterr)
{
    struct http_call *c = &call->c;
    struct pl_str agent = http_header(c, "User-Agent");
    c->self = call->row->self;
    c->user_agent = agent.n > USER_AGENT_BYTES ? (struct pl_str){ agent.p, USER_AGENT_BYTES } : agent;
    enum pl_err e = http_rate_address(call, reterr);
    if (e == PL_OK && (e = check_token(call, reterr)) == PL_UNAUTHENTICATED)
        e = http_rate_bad_token(call, reterr);
    if (e == PL_OK)
        e = http_rate_account(call, reterr);
    if (e == PL_OK)
        e = check_scope(call, reterr);
    if (e == PL_OK)
        e = take_body(call, reterr);
    if (e == PL_OK)
        e = http_idempotency_begin(call, reterr);
    if (e != PL_OK)
        return e;
    return call->row->route->tx == HTTP_TX ? run_in_tx(call, reterr) : run_own_tx(call, reterr);
}

static void answer(struct call *call)
{
    struct pl_fail fail = PL_FAIL_INIT;
    enum pl_err e = run_checks(call, &fail);
    if (e == PL_OK) {
        http_reply_ok(call);
        return;
    }
    if (pl_err_table[e].status >= 500)
        PL_LOG(&call->c.log, PL_ERROR, "http.failed", PL_F_Z("route", call->row->route->path), PL_F_ERR(e), PL_F_Z("detail", fail.detail));
    http_reply_error(call, e, &fail);
}

void http_call_run(void *arg, void *state)
{
    struct call *call = arg;
    struct http *h = call->h;
    struct worker *w = state;
    pthread_mutex_lock(&h->lock);
    bool abandoned = call->abandoned;
    call->started = true;
    pthread_mutex_unlock(&h->lock);
    if (!abandoned) {
        call->c.db = w ? w->db : NULL;
        answer(call);
        pthread_mutex_lock(&h->lock);
        abandoned = call->abandoned;
        if (!abandoned) {
            call->next_done = h->done;
            h->done = call;
        }
        pthread_mutex_unlock(&h->lock);
    }
    if (abandoned)
        http_call_free(call);
    else
        http_wake(h);
}
