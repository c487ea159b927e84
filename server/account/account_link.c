/* account_link.c - /v1/events: one WebSocket an app, on which it hears all that changes, in order, from a cursor on.
 *
 * The journal holds the events; a nudge on "account.<id>" only says that there is something to read. Each delivery first asks whether the session still
 * stands, so that a revocation, which nudges too, closes the socket with 4401 (S-S5). */
#include "account_int.h"

#define BATCH 100
#define SWEEP_LOOKS (5 * PL_SECOND)

/* What a signed-in event socket belongs to. Runs on the connection's lane except where a lock is named. */
struct watcher {
    struct account_events *ev;
    struct link_conn *conn; /* not counted: we go with it */
    struct pl_uuid account_id, client_id;
    struct pl_str token; /* kept as long as it is good, to ask whether it still is */
    char token_text[SECURE_TOKEN_TEXT];
    int64_t cursor;
    struct bus_watch *watch;
    struct pl_utc until;          /* LOCK: ev->lock */
    struct watcher *next, **back; /* LOCK: ev->lock; back NULL: not in the list */
};

struct account_events {
    struct account *ctx;
    pthread_mutex_t lock;
    struct watcher *list;    /* LOCK: lock */
    struct pl_mono looked_at; /* sweep's own */
    struct link_message messages[2];
    struct link_table tables[2];
};

struct auth_message {
    struct pl_str token;
    int64_t cursor;
    bool has_cursor;
};

/* ---- what is sent ---- */

static enum pl_err send_cursor(struct link_call *c, const char *type, int64_t cursor, bool reset)
{
    struct pl_buf b = pl_buf_init(c->arena, 256);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_z(&w, "type", type);
    jw_int(&w, "cursor", cursor);
    if (reset)
        jw_bool(&w, "reset", true);
    jw_close(&w);
    return pl_buf_err(&b) == PL_OK ? link_send(c->conn, pl_buf_view(&b)) : PL_NO_MEMORY;
}

static enum pl_err send_event(struct link_call *c, const struct journal_event_row *ev)
{
    struct pl_buf b = pl_buf_init(c->arena, 64 * 1024);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_z(&w, "type", "event");
    jw_int(&w, "cursor", ev->cursor);
    jw_str(&w, "event", ev->type);
    jw_utc(&w, "at", ev->at);
    jw_raw(&w, "data", ev->data);
    jw_close(&w);
    return pl_buf_err(&b) == PL_OK ? link_send(c->conn, pl_buf_view(&b)) : PL_NO_MEMORY;
}

/* The app fell behind what is kept: it reads /v1/home and goes on from the head. */
static enum pl_err start_over(struct link_call *c, struct watcher *w, int64_t head)
{
    w->cursor = head;
    return send_cursor(c, "reset", head, true);
}

/* Who is given some systems only hears of those: what it does not hear has a number all the same. */
static bool hears(const struct http_actor *who, const struct journal_event_row *ev) { return !who->systems.p || account_sees(who, ev->system_id); }

static enum pl_err deliver(struct link_call *c, struct watcher *w, const struct http_actor *who)
{
    struct journal_event_row *rows;
    size_t n = BATCH;
    int64_t head = 0;
    while (n == BATCH) {
        enum pl_err e = journal_events(c->tx, w->account_id, w->cursor, BATCH, &rows, &n, &head);
        if (e == PL_EXPIRED)
            return start_over(c, w, head);
        for (size_t i = 0; e == PL_OK && i < n; i++)
            if (!hears(who, &rows[i]))
                w->cursor = rows[i].cursor;
            else if ((e = send_event(c, &rows[i])) == PL_OK)
                w->cursor = rows[i].cursor;
        if (e != PL_OK)
            return e;
    }
    return PL_OK;
}

static void on_nudge(void *self, const char *subject);

static enum pl_err watch(struct watcher *w, struct pl_uuid account_id, struct bus_watch **ret)
{
    char id[PL_UUID_TEXT], subject[PL_UUID_TEXT + 8];
    struct pl_buf b = pl_buf_fixed(subject, sizeof subject);
    pl_uuid_text(account_id, id);
    pl_buf_fmt(&b, "account.%s", id);
    return bus_watch(w->ev->ctx->bus, subject, on_nudge, w, ret);
}

/* On the connection's lane, after a nudge or by itself. */
static enum pl_err look(struct link_call *c, void *arg, struct pl_fail *reterr)
{
    struct watcher *w = link_owner(c->conn);
    struct http_actor actor;
    (void)arg, (void)reterr;
    if (!w)
        return PL_OK;
    enum pl_err e = account_authenticate(w->ev->ctx, c->tx, c->now, w->token, &actor, NULL);
    if (e == PL_UNAUTHENTICATED) {
        link_close(c->conn, e);
        return PL_OK;
    }
    return e == PL_OK ? deliver(c, w, &actor) : e;
}

/* On the nudger's thread: only hands the work on. A full pool loses nothing, the sweep looks again. */
static void on_nudge(void *self, const char *subject)
{
    struct watcher *w = self;
    (void)subject;
    if (link_post(w->conn, look, NULL) != PL_OK)
        PL_LOG(&w->ev->ctx->log, PL_DEBUG, "account.events-late", PL_F_UUID("account", w->account_id));
}

/* ---- coming ---- */

static void list_add(struct watcher *w)
{
    PL_LOCK(&w->ev->lock);
    w->next = w->ev->list;
    w->back = &w->ev->list;
    if (w->next)
        w->next->back = &w->next;
    w->ev->list = w;
}

static void list_drop(struct watcher *w)
{
    PL_LOCK(&w->ev->lock);
    if (!w->back)
        return;
    *w->back = w->next;
    if (w->next)
        w->next->back = w->back;
    w->back = NULL;
}

/* With the last reference. A stop without a database drops `closed`, so what that should have ended ends here. */
static void watcher_done(void *owner)
{
    struct watcher *w = owner;
    list_drop(w);
    w->watch = bus_unwatch(w->watch);
    secure_wipe(w->token_text, sizeof w->token_text);
    pl_heap_free(w);
}

static void token_keep(struct watcher *w, struct pl_str token, struct pl_utc until)
{
    memcpy(w->token_text, token.p, token.n); /* authenticated, so it has a token's length */
    w->token = (struct pl_str){ w->token_text, token.n };
    PL_LOCK(&w->ev->lock);
    w->until = until;
}

static enum pl_err watcher_new(struct account_events *ev, struct link_conn *conn, const struct http_actor *actor, struct watcher **ret)
{
    struct watcher *w = pl_heap(sizeof *w);
    if (!w)
        return PL_NO_MEMORY;
    *w = (struct watcher){ .ev = ev, .conn = conn, .account_id = actor->account_id, .client_id = actor->client_id };
    enum pl_err e = watch(w, actor->account_id, &w->watch);
    if (e != PL_OK) {
        watcher_done(w);
        return e;
    }
    link_set_owner(conn, w, watcher_done);
    *ret = w;
    return PL_OK;
}

/* `ready` says from where on events come. Without a cursor: from now on. */
static enum pl_err start(struct link_call *c, struct watcher *w, const struct http_actor *who, const struct auth_message *m)
{
    struct journal_event_row *rows;
    size_t n;
    int64_t head = 0;
    enum pl_err e = journal_events(c->tx, w->account_id, m->has_cursor ? m->cursor : INT64_MAX, 1, &rows, &n, &head);
    if (e != PL_OK && e != PL_EXPIRED)
        return e;
    w->cursor = e == PL_OK ? m->cursor : head;
    e = send_cursor(c, "ready", w->cursor, e == PL_EXPIRED && m->has_cursor);
    return e == PL_OK ? deliver(c, w, who) : e;
}

static enum pl_err on_auth(struct link_call *c, struct pl_fail *reterr)
{
    struct account_events *ev = c->self;
    const struct auth_message *m = c->msg;
    struct watcher *w = link_owner(c->conn);
    struct http_actor actor;
    struct pl_utc until;
    bool again = w != NULL;
    (void)reterr;
    enum pl_err e = account_authenticate(ev->ctx, c->tx, c->now, m->token, &actor, &until);
    if (e != PL_OK || (e = http_may(&actor, "events:read") ? PL_OK : PL_SCOPE_MISSING) != PL_OK)
        return e;
    if (w && (!pl_uuid_eq(w->account_id, actor.account_id) || !pl_uuid_eq(w->client_id, actor.client_id)))
        return PL_UNAUTHENTICATED;
    if (!w && (e = watcher_new(ev, c->conn, &actor, &w)) != PL_OK)
        return e;
    token_keep(w, m->token, until);
    if (again)
        return send_cursor(c, "ready", w->cursor, false);
    list_add(w);
    link_phase(c->conn, LINK_READY);
    return start(c, w, &actor, m);
}

/* ---- going ---- */

static void on_closed(void *self, struct link_conn *conn, struct link_call *c)
{
    struct watcher *w = link_owner(conn);
    (void)self;
    (void)c;
    if (!w)
        return;
    list_drop(w);
    w->watch = bus_unwatch(w->watch);
}

void account_events_sweep(struct account *ctx)
{
    struct account_events *ev = ctx->events;
    struct pl_utc now = pl_now_utc(ctx->clock);
    struct pl_mono mono = pl_now_mono(ctx->clock);
    bool look_now = pl_mono_sub(mono, ev->looked_at) >= SWEEP_LOOKS;
    if (look_now)
        ev->looked_at = mono;
    PL_LOCK(&ev->lock);
    for (struct watcher *w = ev->list; w; w = w->next) {
        if (pl_utc_cmp(now, w->until) >= 0)
            link_close(w->conn, PL_UNAUTHENTICATED);
        else if (look_now && link_post(w->conn, look, NULL) != PL_OK)
            PL_LOG(&ctx->log, PL_DEBUG, "account.events-late", PL_F_UUID("account", w->account_id));
    }
}

/* ---- the protocol ---- */

enum pl_err account_events_new(struct account *ctx, struct account_events **ret)
{
    static const struct json_field auth_fields[] = { JSON_F(struct auth_message, token, J_STR, J_REQUIRED, .hi = 100), JSON_OPT(struct auth_message, cursor, J_INT), J_END };
    struct account_events *ev = pl_heap(sizeof *ev);
    if (!ev)
        return PL_NO_MEMORY;
    ev->ctx = ctx;
    pthread_mutex_init(&ev->lock, NULL);
    ev->messages[0] = (struct link_message){ .type = "auth", .phases = LINK_NEW | LINK_READY, .fields = auth_fields, .size = sizeof(struct auth_message), .run = on_auth };
    ev->messages[1] = (struct link_message)LINK_END;
    ev->tables[0] = (struct link_table){ .messages = ev->messages, .self = ev };
    ev->tables[1] = (struct link_table){ .messages = NULL };
    *ret = ev;
    return PL_OK;
}

struct account_events *account_events_free(struct account_events *ev)
{
    if (!ev)
        return NULL;
    pthread_mutex_destroy(&ev->lock);
    return pl_heap_free(ev);
}

struct link_protocol account_events_protocol(struct account *ctx)
{
    return (struct link_protocol){ .name = "porchlight.events.v1", .path = "/v1/events", .threads = 1, .tables = ctx->events->tables, .self = ctx->events,
        .closed = on_closed, .messages_per_s = 5, .max_message = 4096 };
}
