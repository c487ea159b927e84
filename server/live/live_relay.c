/* The relay protocol, cloud side: a relay proves its key, is told what it is wanted to run, answers asks and reports what happens. */
#include "live_priv.h"
#include "live_sql.h"
#include "secure.h"
#include <stdio.h>
#include <stdlib.h>

#define MAX_ASKS 256 /* questions to one relay under way */
#define SYNC_BYTES (2 << 20) /* 20,000 sessions */

/* The owner of a relay's connection. */
struct relay_conn {
    struct live_ctx *ctx;
    char nonce[64];
    struct pl_uuid relay_id; /* zero until hello */
    int64_t epoch;
    struct bus_server *server;
    struct bus_watch *watch;
    pthread_mutex_t lock;
    struct pending {
        struct pl_uuid id;
        struct bus_ask *ask; /* NULL: free */
    } pending[MAX_ASKS]; /* LOCK: lock */
    bool gone;           /* LOCK: lock; answers no more */
    struct live_traffic traffic; /* messages of one connection come one by one */
};

/* Nobody reaches the relay here any more; whoever waits for it learns so at once. */
static void relay_conn_end(struct relay_conn *r)
{
    r->server = bus_unserve(r->server);
    r->watch = bus_unwatch(r->watch);
    for (;;) {
        struct bus_ask *ask = NULL;
        {
            PL_LOCK(&r->lock);
            r->gone = true;
            for (size_t i = 0; i < MAX_ASKS && !ask; i++)
                ask = PL_STEAL(r->pending[i].ask);
        }
        if (!ask)
            break;
        bus_answer(ask, PL_UNAVAILABLE, PL_STR_NONE);
    }
}

static void relay_conn_done(void *owner)
{
    struct relay_conn *r = owner;
    relay_conn_end(r); /* a stop without a database drops `closed` */
    pthread_mutex_destroy(&r->lock);
    pl_heap_free(r);
}

void live_relay_opened(void *self, struct link_conn *conn)
{
    struct live_ctx *ctx = self;
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(4096);
    struct relay_conn *r = pl_heap(sizeof *r);
    uint8_t raw[32];
    if (!a || !r) {
        pl_heap_free(r);
        link_close(conn, PL_NO_MEMORY);
        return;
    }
    r->ctx = ctx;
    pthread_mutex_init(&r->lock, NULL);
    pl_rand_fill(ctx->rand, raw, sizeof raw);
    snprintf(r->nonce, sizeof r->nonce, "%s", pl_b64url(a, raw, sizeof raw).p);
    link_set_owner(conn, r, relay_conn_done);
    struct pl_buf b = pl_buf_init(a, 1024);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_z(&w, "type", "challenge");
    jw_z(&w, "nonce", r->nonce);
    jw_z(&w, "server_name", ctx->server_name);
    jw_close(&w);
    if (link_send(conn, pl_buf_view(&b)) != PL_OK)
        link_close(conn, PL_UNAVAILABLE);
}

/* A question from the bus: remembered under the id that its text carries, sent, answered by the relay's ok or error. */
static void on_ask(void *self, struct bus_ask *ask, struct pl_str text)
{
    struct link_conn *conn = self;
    struct relay_conn *r = link_owner(conn);
    struct json_doc *doc PL_CLEANUP(json_doc_freep) = NULL;
    struct pl_uuid id;
    enum pl_err e = json_parse(text, &doc, /* reterr= */ NULL);
    if (e == PL_OK)
        e = pl_uuid_parse(json_doc_str(doc, "id"), &id);
    if (e == PL_OK) {
        PL_LOCK(&r->lock);
        size_t i = 0;
        while (i < MAX_ASKS && r->pending[i].ask)
            i++;
        e = r->gone ? PL_UNAVAILABLE : i == MAX_ASKS ? PL_OVERLOADED : PL_OK;
        if (e == PL_OK)
            r->pending[i] = (struct pending){ id, ask };
    }
    if (e != PL_OK) {
        bus_answer(ask, e, PL_STR_NONE);
        return;
    }
    /* A send that fails closes the connection; `closed` then answers what is pending. */
    if (link_send(conn, text) != PL_OK)
        link_close(conn, PL_TOO_SLOW);
}

static struct bus_ask *pending_take(struct relay_conn *r, struct pl_uuid id)
{
    PL_LOCK(&r->lock);
    for (size_t i = 0; i < MAX_ASKS; i++)
        if (r->pending[i].ask && pl_uuid_eq(r->pending[i].id, id))
            return PL_STEAL(r->pending[i].ask);
    return NULL;
}

/* S-D12: is its key good still? Who is cut is told first to run nothing any more: whoever copied the key, this may be the relay that it was copied from. */
static enum pl_err look_again(struct link_call *c, void *arg, struct pl_fail *reterr)
{
    const struct relay_conn *r = link_owner(c->conn);
    struct live_sql_relay_key_row key;
    struct pl_buf b = pl_buf_init(c->arena, 1024);
    bool found;
    (void)arg;
    enum pl_err e = live_sql_relay_key(c->tx, r->relay_id, &key, &found);
    if (e != PL_OK || found)
        return e;
    struct jw w = live_message(r->ctx, &b, "live.sync");
    jw_array(&w, "sessions");
    jw_end_array(&w);
    jw_close(&w);
    if (pl_buf_err(&b) != PL_OK || link_send(c->conn, pl_buf_view(&b)) != PL_OK)
        return PL_UNAVAILABLE;
    return pl_fail(reterr, PL_UNAUTHENTICATED, "The key of this relay was revoked.");
}

static void on_nudge(void *self, const char *subject)
{
    (void)subject;
    if (link_post(self, look_again, /* arg= */ NULL) == PL_OVERLOADED)
        link_close(self, PL_OVERLOADED); /* it comes again, and its key is looked at then */
}

struct serve_args {
    struct link_conn *conn;
    struct pl_str welcome, sync;
};

/* After the hello's commit: the relay is told what it is wanted to run, and from here on this connection is the way to it. In this order, so that no session
 * which is opened over this connection is missing from a live.sync that comes after it. */
static void serve(void *arg)
{
    const struct serve_args *args = arg;
    struct relay_conn *r = link_owner(args->conn);
    char subject[64], id[PL_UUID_TEXT];
    pl_uuid_text(r->relay_id, id);
    snprintf(subject, sizeof subject, "relay.%s", id);
    if (link_send(args->conn, args->welcome) != PL_OK || link_send(args->conn, args->sync) != PL_OK ||
        bus_serve(r->ctx->bus, subject, on_ask, args->conn, &r->server) != PL_OK || bus_watch(r->ctx->bus, subject, on_nudge, args->conn, &r->watch) != PL_OK)
        link_close(args->conn, PL_UNAVAILABLE);
}

struct running_msg {
    struct pl_uuid live_id;
    int64_t generation;
};
static const struct json_field running_fields[] = { JSON_F(struct running_msg, live_id, J_UUID, J_REQUIRED),
                                                    JSON_F(struct running_msg, generation, J_INT, J_REQUIRED, .lo = 1, .hi = INT32_MAX), J_END };
struct media_msg {
    struct pl_str host, fingerprint;
    int64_t port;
};
static const struct json_field media_fields[] = { JSON_F(struct media_msg, host, J_STR, J_REQUIRED, .lo = 1, .hi = 255),
                                                  JSON_F(struct media_msg, port, J_INT, J_REQUIRED, .lo = 1, .hi = 65535),
                                                  JSON_F(struct media_msg, fingerprint, J_B64, J_OPTIONAL, .lo = 32, .hi = 32), J_END };
struct hello_msg {
    struct pl_uuid relay_id, boot_id;
    struct media_msg media;
    int64_t max_sessions;
    struct json_list running;
    struct pl_str signature;
};
static const struct json_field hello_fields[] = {
    JSON_F(struct hello_msg, relay_id, J_UUID, J_REQUIRED),
    JSON_F(struct hello_msg, boot_id, J_UUID, J_REQUIRED),
    JSON_F(struct hello_msg, media, J_OBJECT, J_REQUIRED, .fields = media_fields),
    JSON_F(struct hello_msg, max_sessions, J_INT, J_REQUIRED, .lo = 0, .hi = 1000000),
    JSON_F(struct hello_msg, running, J_ARRAY, J_OPTIONAL, .fields = running_fields, .size = sizeof(struct running_msg), .hi = 20000),
    JSON_F(struct hello_msg, signature, J_B64, J_REQUIRED, .lo = 64, .hi = 64),
    J_END,
};

/* *ret_restarted: it is another process than the one that said hello before. */
static enum pl_err prove(struct link_call *c, struct relay_conn *r, const struct hello_msg *m, bool *ret_restarted, struct pl_fail *reterr)
{
    struct live_sql_relay_key_row key;
    bool found;
    char id[PL_UUID_TEXT];
    struct pl_str text;
    pl_uuid_text(m->relay_id, id);
    enum pl_err e = live_sql_relay_key(c->tx, m->relay_id, &key, &found);
    if (e != PL_OK)
        return e;
    if (!found || key.public_key.n != 32)
        return pl_fail(reterr, PL_UNAUTHENTICATED, "No relay is registered under this id, or its key was revoked.");
    if ((e = secure_hello_text(c->arena, "relay", pl_str_of(id), pl_str_of(r->nonce), pl_str_of(r->ctx->server_name), &text)) != PL_OK)
        return e;
    if (secure_verify((const uint8_t *)key.public_key.p, text, (const uint8_t *)m->signature.p) != PL_OK)
        return pl_fail(reterr, PL_UNAUTHENTICATED, "The signature is not that of this relay.");
    *ret_restarted = !pl_uuid_eq(key.boot_id, m->boot_id);
    return PL_OK;
}

static int by_id(const void *a, const void *b)
{
    const struct running_msg *x = a, *y = b;
    int order = memcmp(x->live_id.b, y->live_id.b, sizeof x->live_id.b);
    return order ? order : (x->generation > y->generation) - (x->generation < y->generation);
}

static bool runs(const struct running_msg *sorted, size_t n, struct pl_uuid live_id, int32_t generation)
{
    struct running_msg key = { live_id, generation };
    return n && bsearch(&key, sorted, n, sizeof key, by_id);
}

/* Endings that this relay reported: everybody else is told. */
static enum pl_err tell_after(struct link_call *c, struct live_ctx *ctx, struct live_ending *endings)
{
    struct live_told *t = endings ? PL_NEW(c->arena, struct live_told) : NULL;
    if (!endings)
        return PL_OK;
    if (!t)
        return PL_NO_MEMORY;
    for (struct live_ending *end = endings; end; end = end->next)
        end->relay_knows = true;
    *t = (struct live_told){ .ctx = ctx, .arena = c->arena, .endings = endings };
    link_after(c, live_tell_later, t);
    return PL_OK;
}

/* What a restart lost is ended; what the relay is wanted to run is written as the members of live.sync. A session that the same process no longer runs has
 * ended while control was away: the relay's own report of why comes after the hello, and until then the row waits for it. */
static enum pl_err reconcile(struct link_call *c, const struct hello_msg *m, bool restarted, struct jw *sync, struct live_ending **endings)
{
    struct live_sql_places_of_relay_row *rows;
    struct running_msg *sorted = PL_NEW_ARRAY(c->arena, m->running.n + 1, struct running_msg);
    size_t n;
    if (!sorted)
        return PL_NO_MEMORY;
    if (m->running.n)
        memcpy(sorted, m->running.items, m->running.n * sizeof *sorted);
    qsort(sorted, m->running.n, sizeof *sorted, by_id);
    enum pl_err e = live_sql_places_of_relay(c->tx, m->relay_id, &rows, &n);
    jw_array(sync, "sessions");
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        bool running = runs(sorted, m->running.n, rows[i].live_id, rows[i].generation);
        if (!running && restarted) {
            e = live_end(c->tx, c->now, rows[i].live_id, "relay_restarted", endings);
            continue;
        }
        jw_open(sync, NULL);
        jw_uuid(sync, "live_id", rows[i].live_id);
        jw_int(sync, "generation", rows[i].generation);
        jw_close(sync);
    }
    jw_end_array(sync);
    return e;
}

static enum pl_err on_hello(struct link_call *c, struct pl_fail *reterr)
{
    const struct hello_msg *m = c->msg;
    struct relay_conn *r = link_owner(c->conn);
    struct live_sql_relay_hello_row row;
    struct serve_args *args = PL_NEW(c->arena, struct serve_args);
    struct live_ending *endings = NULL;
    bool found, restarted = false;
    enum pl_err e = args ? prove(c, r, m, &restarted, reterr) : PL_NO_MEMORY;
    if (e != PL_OK)
        return e;
    e = live_sql_relay_hello(c->tx, m->relay_id, r->ctx->node_id, m->boot_id, m->media.host, (int32_t)m->media.port, (int32_t)m->max_sessions, (int32_t)m->running.n, c->now,
                             m->media.fingerprint, &row, &found);
    if (e != PL_OK || !found)
        return e != PL_OK ? e : PL_UNAUTHENTICATED;
    r->relay_id = m->relay_id;
    r->epoch = row.epoch;

    struct pl_buf b = pl_buf_init(c->arena, 1024), s = pl_buf_init(c->arena, SYNC_BYTES);
    struct jw w = live_message(r->ctx, &b, "welcome");
    jw_uuid(&w, "session", pl_uuid7(c->rand, c->now));
    jw_utc(&w, "server_time", c->now);
    jw_open(&w, "reconnect");
    jw_num(&w, "min_s", 0.1);
    jw_num(&w, "max_s", 0.5);
    jw_close(&w);
    jw_close(&w);
    struct jw sync = live_message(r->ctx, &s, "live.sync");
    if ((e = reconcile(c, m, restarted, &sync, &endings)) != PL_OK)
        return e;
    jw_close(&sync);
    if (pl_buf_err(&b) != PL_OK || pl_buf_err(&s) != PL_OK)
        return PL_NO_MEMORY;
    link_phase(c->conn, LINK_READY);
    *args = (struct serve_args){ c->conn, pl_buf_view(&b), pl_buf_view(&s) };
    link_after(c, serve, args); /* first: what ended may be much to tell, and new sessions wait for the relay */
    PL_LOG(&c->log, PL_INFO, "relay.connected", PL_F_UUID("relay", m->relay_id), PL_F_STR("name", row.name), PL_F_INT("running", m->running.n));
    return tell_after(c, r->ctx, endings);
}

struct answer_msg {
    struct pl_uuid re;
    struct pl_str code;
};
static const struct json_field answer_fields[] = { JSON_F(struct answer_msg, re, J_UUID, J_REQUIRED), JSON_F(struct answer_msg, code, J_STR, J_OPTIONAL, .hi = 64), J_END };

static enum pl_err on_ok(struct link_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    const struct answer_msg *m = c->msg;
    struct bus_ask *ask = pending_take(link_owner(c->conn), m->re);
    if (ask)
        bus_answer(ask, PL_OK, PL_STR("{}"));
    return PL_OK;
}

static enum pl_err on_error(struct link_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    const struct answer_msg *m = c->msg;
    struct bus_ask *ask = pending_take(link_owner(c->conn), m->re);
    if (!ask)
        return PL_OK;
    enum pl_err e = PL_INTERNAL;
    for (int i = 1; i < PL_ERR_COUNT; i++)
        if (pl_str_eqz(m->code, pl_err_table[i].code))
            e = (enum pl_err)i;
    bus_answer(ask, e, PL_STR_NONE);
    return PL_OK;
}

struct event_msg {
    struct pl_uuid live_id, viewer_id;
    int64_t generation, seq;
    struct pl_str event, code;
    struct pl_utc time;
};
static const struct json_field event_fields[] = {
    JSON_F(struct event_msg, live_id, J_UUID, J_REQUIRED),
    JSON_F(struct event_msg, viewer_id, J_UUID, J_OPTIONAL),
    JSON_F(struct event_msg, generation, J_INT, J_REQUIRED, .lo = 1, .hi = INT32_MAX),
    JSON_F(struct event_msg, seq, J_INT, J_OPTIONAL, .lo = 1, .hi = INT64_MAX),
    JSON_F(struct event_msg, event, J_STR, J_REQUIRED, .hi = 32),
    JSON_F(struct event_msg, code, J_STR, J_OPTIONAL, .hi = 64),
    JSON_F(struct event_msg, time, J_TIME, J_REQUIRED),
    J_END,
};

/* What each report of the relay means for the live row. Stages keep the first time; states only go forward. */
static const struct report {
    const char *event;
    const char *state;       /* the state that it leads to */
    const char *from_states; /* from these */
    enum { WATCHES_AS_BEFORE, WATCHES, WATCHES_NO_MORE } viewer; /* the one that it names */
} reports[] = {
    { "source_connected", "connecting", "starting waking_hub", WATCHES_AS_BEFORE },
    { "source_media", NULL, NULL, WATCHES_AS_BEFORE },
    { "source_keyframe", "live", "starting waking_hub connecting", WATCHES_AS_BEFORE },
    { "viewer_connected", NULL, NULL, WATCHES },
    { "viewer_media", NULL, NULL, WATCHES_AS_BEFORE },
    { "viewer_keyframe", NULL, NULL, WATCHES_AS_BEFORE },
    { "viewer_gone", NULL, NULL, WATCHES_NO_MORE },
};

/* What is wrong with a session, or with a viewer that never came: a stage each under its own name, and an event for those who watch. */
static enum pl_err warn(struct link_call *c, const struct event_msg *m)
{
    static const char *const known[] = { "no_key_frame", "packet_too_large", "too_fast", "dtls_fingerprint", "dtls_no_profile", "dtls_alert", "dtls_timeout", "dtls_refused",
        "dtls_no_memory" };
    int64_t first;
    for (size_t i = 0; i < PL_COUNT(known); i++)
        if (pl_str_eqz(m->code, known[i])) {
            enum pl_err e = live_sql_stage(c->tx, m->live_id, m->code, m->time, &first);
            return e == PL_OK && first ? live_warning(c->tx, c->now, m->live_id, known[i]) : e;
        }
    return PL_OK;
}

/* The relay's end codes, as the app sees them: a source that never came is a start that failed, and a handshake that failed is its hub's. */
static const char *end_code(struct pl_str code, bool started)
{
    static const char *const known[] = { "hub_lost", "expired", "control_lost", "relay_restarted" };
    if (pl_str_eqz(code, "hub_lost") && !started)
        return "start_timeout";
    if (pl_str_starts(code, PL_STR("dtls_")) && !pl_str_eqz(code, "dtls_no_memory"))
        return "hub_failed";
    for (size_t i = 0; i < PL_COUNT(known); i++)
        if (pl_str_eqz(code, known[i]))
            return known[i];
    return "relay_lost";
}

static enum pl_err ended(struct link_call *c, struct live_ctx *ctx, const struct event_msg *m)
{
    struct live_sql_state_of_row row;
    struct live_ending *endings = NULL;
    bool found;
    enum pl_err e = live_sql_state_of(c->tx, m->live_id, &row, &found);
    if (e != PL_OK || !found)
        return e;
    bool started = pl_str_eqz(row.state, "live") || pl_str_eqz(row.state, "connecting");
    e = live_end(c->tx, c->now, m->live_id, end_code(m->code, started), &endings);
    return e == PL_OK ? tell_after(c, ctx, endings) : e;
}

static enum pl_err report(struct link_call *c, const struct event_msg *m, const struct report *r)
{
    struct live_sql_state_row moved;
    bool found = false;
    enum pl_err e = live_stage_add(c->tx, m->live_id, r->event, m->time);
    if (e == PL_OK)
        e = warn(c, m); /* why a viewer is gone */
    if (e == PL_OK && r->state)
        e = live_sql_state(c->tx, m->live_id, pl_str_of(r->state), pl_str_of(r->from_states), &moved, &found);
    if (e == PL_OK && r->viewer == WATCHES)
        e = live_sql_viewer_connected(c->tx, m->live_id, m->viewer_id, m->time, NULL);
    if (e == PL_OK && r->viewer == WATCHES_NO_MORE)
        e = live_sql_viewer_gone(c->tx, m->live_id, m->viewer_id, NULL);
    return e == PL_OK && found ? live_event(c->tx, c->now, m->live_id, r->state, NULL) : e;
}

struct heard_args {
    struct link_conn *conn;
    struct pl_str text;
};
static void say_heard(void *arg)
{
    const struct heard_args *h = arg;
    if (link_send(h->conn, h->text) != PL_OK)
        link_close(h->conn, PL_TOO_SLOW);
}

/* A report may have been written while its answer was lost: the relay says it again, and it counts once. */
static enum pl_err hear(struct link_call *c, const struct relay_conn *r, int64_t seq, bool *ret_new)
{
    struct heard_args *h = PL_NEW(c->arena, struct heard_args);
    struct pl_buf b = pl_buf_init(c->arena, 256);
    int64_t taken;
    enum pl_err e = h ? live_sql_relay_heard(c->tx, r->relay_id, r->epoch, seq, &taken) : PL_NO_MEMORY;
    if (e != PL_OK)
        return e;
    struct jw w = live_message(r->ctx, &b, "session.heard");
    jw_int(&w, "seq", seq);
    jw_close(&w);
    if ((e = pl_buf_err(&b)) != PL_OK)
        return e;
    *h = (struct heard_args){ c->conn, pl_buf_view(&b) };
    link_after(c, say_heard, h);
    *ret_new = taken > 0;
    return PL_OK;
}

static enum pl_err on_event(struct link_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    const struct event_msg *m = c->msg;
    struct relay_conn *r = link_owner(c->conn);
    struct live_sql_place_row place;
    bool found, new = true;
    enum pl_err e = m->seq ? hear(c, r, m->seq, &new) : PL_OK;
    if (e != PL_OK || !new)
        return e;
    e = live_sql_place(c->tx, m->live_id, &place, &found);
    /* A session that has ended, that is another relay's, or an older generation: the report is of the past. */
    if (e != PL_OK || !found || !pl_uuid_eq(place.relay_id, r->relay_id) || place.generation != m->generation)
        return e;
    if (pl_str_eqz(m->event, "ended"))
        return ended(c, r->ctx, m);
    if (pl_str_eqz(m->event, "warning"))
        return warn(c, m);
    for (size_t i = 0; i < PL_COUNT(reports); i++)
        if (pl_str_eqz(m->event, reports[i].event))
            return report(c, m, &reports[i]);
    return PL_OK;
}

struct keyframe_msg {
    struct pl_uuid live_id;
};
static const struct json_field keyframe_fields[] = { JSON_F(struct keyframe_msg, live_id, J_UUID, J_REQUIRED), J_END };

struct wanted {
    const struct live_ctx *ctx;
    struct pl_arena *arena;
    struct pl_str hub_serial, text;
};
static void ask_for_keyframe(void *arg)
{
    const struct wanted *w = arg;
    struct pl_fail why = PL_FAIL_INIT;
    enum pl_err e = live_ask_hub(w->ctx, w->arena, w->hub_serial, w->text, 500 * PL_MS, &why);
    if (e != PL_OK) /* a hub that is away cannot be asked; the relay's own governor goes on */
        PL_LOG(w->ctx->log, PL_DEBUG, "live.keyframe-not-asked", PL_F_STR("hub", w->hub_serial), PL_F_ERR(e));
}

/* V-A5: the relay's in-band requests were not answered; the hub is asked by its socket. */
static enum pl_err on_keyframe_wanted(struct link_call *c, struct pl_fail *reterr)
{
    const struct keyframe_msg *m = c->msg;
    struct relay_conn *r = link_owner(c->conn);
    struct live_sql_place_row place;
    struct wanted *wanted = PL_NEW(c->arena, struct wanted);
    bool found;
    (void)reterr;
    enum pl_err e = wanted ? live_sql_place(c->tx, m->live_id, &place, &found) : PL_NO_MEMORY;
    if (e != PL_OK || !found || !pl_uuid_eq(place.relay_id, r->relay_id))
        return e;
    struct pl_buf b = pl_buf_init(c->arena, 512);
    struct jw w = live_message(r->ctx, &b, "keyframe");
    jw_uuid(&w, "live_id", m->live_id);
    jw_close(&w);
    if ((e = pl_buf_err(&b)) != PL_OK)
        return e;
    *wanted = (struct wanted){ r->ctx, c->arena, place.hub_serial, pl_buf_view(&b) };
    link_after(c, ask_for_keyframe, wanted); /* no row is held while the hub is asked */
    return PL_OK;
}

static enum pl_err on_stats(struct link_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    const struct live_stats_msg *m = c->msg;
    struct relay_conn *r = link_owner(c->conn);
    live_count_traffic(&r->traffic, m);
    return live_sql_relay_stats(c->tx, r->relay_id, r->epoch, (int32_t)m->sessions, (int32_t)m->viewers, (int32_t)m->busy_percent, c->now, NULL);
}

static enum pl_err on_session_stats(struct link_call *c, struct pl_fail *reterr)
{
    const struct relay_conn *r = link_owner(c->conn);
    (void)reterr;
    return live_count_session(c, r->relay_id, c->msg);
}

void live_relay_closed(void *self, struct link_conn *conn, struct link_call *c)
{
    struct live_ctx *ctx = self;
    struct relay_conn *r = link_owner(conn);
    if (!r)
        return;
    relay_conn_end(r);
    if (pl_uuid_is_zero(r->relay_id))
        return;
    enum pl_err e = live_sql_relay_gone(c->tx, r->relay_id, r->epoch, c->now, NULL);
    PL_LOG(ctx->log, PL_WARN, "relay.disconnected", PL_F_UUID("relay", r->relay_id), PL_F_ERR(e));
}

const struct link_message live_relay_messages[] = {
    { "hello", LINK_NEW, hello_fields, sizeof(struct hello_msg), on_hello },
    { "ok", LINK_READY, answer_fields, sizeof(struct answer_msg), on_ok },
    { "error", LINK_READY, answer_fields, sizeof(struct answer_msg), on_error },
    { "session.event", LINK_READY, event_fields, sizeof(struct event_msg), on_event },
    { "keyframe.wanted", LINK_READY, keyframe_fields, sizeof(struct keyframe_msg), on_keyframe_wanted },
    { "session.stats", LINK_READY, live_session_stats_fields, sizeof(struct live_session_stats_msg), on_session_stats },
    { "stats", LINK_READY, live_stats_fields, sizeof(struct live_stats_msg), on_stats },
    LINK_END,
};
