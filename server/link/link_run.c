#include "link_int.h"

#define TRIES 5

struct link_worker {
    struct link *engine;
    struct db *db;           /* NULL: there was no memory for it; everything is unavailable then */
    struct pl_arena *arena;
};
struct link_after {
    struct link_after *next;
    void (*fn)(void *arg);
    void *arg;
};

/* One piece of work in a transaction: a message's handler, a post, the end. */
struct work {
    struct link_conn *c;
    const struct link_job *job;
    const struct link_message *row; /* MESSAGE */
    const void *msg;
    struct pl_str id;
    void *self;
};

void *link_worker_start(void *self, unsigned worker)
{
    struct link *l = self;
    (void)worker;
    struct link_worker *w = pl_heap(sizeof *w);
    if (!w)
        return NULL;
    w->engine = l;
    /* A message, what is read of it, what the database says about it, and an answer of the same size that grew by doubling. */
    w->arena = pl_arena_new(LINK_ARENA + 6 * link_largest(l));
    if (!w->arena || db_open(&l->conf.db, &w->db) != PL_OK)
        w->db = NULL;
    return w;
}

void link_worker_stop(void *self, void *state)
{
    struct link_worker *w = state;
    (void)self;
    if (!w)
        return;
    if (w->db)
        db_close(w->db);
    pl_arena_free(w->arena);
    pl_heap_free(w);
}

void link_after(struct link_call *c, void (*fn)(void *arg), void *arg)
{
    struct link_after *a = PL_NEW(c->arena, struct link_after), **end = &c->after;
    if (!a)
        return; /* the arena remembers: the call fails before its commit */
    *a = (struct link_after){ .fn = fn, .arg = arg };
    while (*end)
        end = &(*end)->next;
    *end = a;
}

static enum pl_err run_once(struct link_call *call, struct work *w, struct pl_fail *fail)
{
    switch (w->job->kind) {
    case LINK_JOB_MESSAGE: return w->row->run(call, fail);
    case LINK_JOB_POST: return w->job->fn(call, w->job->arg, fail);
    case LINK_JOB_CLOSED: w->c->proto->closed(w->self, w->c, call); break;
    }
    return PL_OK;
}

static void db_is(struct link_conn *c, bool there) { __atomic_store_n(&c->thread->db_away, !there, __ATOMIC_RELAXED); }

/* Runs the work in a transaction, again on PL_RETRY; then what was asked for after the commit. *ret_lost: the database was away, so that the work's rows are
 * not there, or nobody knows; otherwise the answer is the work's own, or what the commit had against it. */
static enum pl_err transact(struct link_worker *lw, struct work *w, struct pl_fail *fail, bool *ret_lost)
{
    struct link *l = lw->engine;
    struct link_call call;
    enum pl_err e = PL_RETRY, done = PL_OK;
    for (int i = 0; i < TRIES && (e == PL_RETRY || done == PL_RETRY); i++) {
        call = (struct link_call){ .conn = w->c, .arena = lw->arena, .clock = l->conf.clock, .rand = l->conf.rand, .now = pl_now_utc(l->conf.clock),
                                   .log = { .parent = &w->c->log }, .db = lw->db, .self = w->self, .msg = w->msg, .id = w->id,
                                   .text = { w->job->text, w->job->n } };
        if (w->row)
            call.log.field = PL_F_Z("message", w->row->type);
        *fail = (struct pl_fail)PL_FAIL_INIT;
        enum pl_err begun = lw->db ? db_begin(lw->db, lw->arena, &call.tx) : PL_UNAVAILABLE;
        db_is(w->c, begun == PL_OK);
        *ret_lost = begun != PL_OK;
        if (begun != PL_OK)
            return begun;
        e = run_once(&call, w, fail);
        if (e == PL_OK)
            e = pl_arena_err(lw->arena);
        done = PL_OK;
        if (e == PL_OK || (call.keep_on_error && e != PL_RETRY))
            done = db_commit(&call.tx);
        else
            db_rollbackp(&call.tx);
    }
    if (e == PL_UNAVAILABLE)
        done = e; /* it went while the work was under way */
    *ret_lost = done == PL_RETRY || done == PL_UNAVAILABLE;
    if (done == PL_OK && (e == PL_OK || call.keep_on_error))
        for (struct link_after *a = call.after; a; a = a->next)
            a->fn(a->arg);
    return e != PL_OK && !*ret_lost ? e : done;
}

/* Nobody's fault at the other end: said again, it may go well. A peer that only heard of it would have to know that. */
static bool ours(enum pl_err e) { return e == PL_RETRY || e == PL_INTERNAL || e == PL_NO_MEMORY; }

static void say_error(struct link_conn *c, struct pl_str id, enum pl_err e, const struct pl_fail *fail)
{
    char mem[LINK_ERROR_BYTES];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    link_message_error(&b, id, e, fail);
    enum pl_err sent = pl_buf_err(&b) == PL_OK ? link_send(c, pl_buf_view(&b)) : PL_NO_MEMORY;
    (void)sent; /* gone or too slow: it is being closed */
}

/* What is malformed is told in words first, for who builds a device, then closed. */
static void bad_message(struct link_conn *c, struct pl_str id, const struct pl_fail *fail)
{
    say_error(c, id, PL_PROTOCOL, fail);
    link_conn_refuse(c, PL_PROTOCOL, LINK_M_PROTOCOL, fail->detail);
}

static void run_message(struct link_worker *lw, struct link_conn *c, const struct link_job *job)
{
    struct link_parsed m PL_CLEANUP(link_parsed_done) = { 0 };
    struct pl_fail fail = PL_FAIL_INIT;
    bool lost = true;
    enum pl_err e = link_message_parse(c->proto, __atomic_load_n(&c->phase, __ATOMIC_ACQUIRE), (struct pl_str){ job->text, job->n }, lw->arena, &m, &fail);
    if (e == PL_PROTOCOL) {
        bad_message(c, m.id, &fail);
        return;
    }
    if (e == PL_OK && !m.row) {
        link_metric(LINK_M_UNKNOWN, 1);
        return;
    }
    struct work w = { .c = c, .job = job, .row = m.row, .msg = m.msg, .id = m.id, .self = m.self };
    if (e == PL_OK)
        e = transact(lw, &w, &fail, &lost);
    if (e == PL_OK)
        return;
    PL_LOG(&c->log, PL_WARN, "link.message-failed", PL_F_Z("message", m.row ? m.row->type : ""), PL_F_ERR(e), PL_F_Z("detail", fail.detail));
    link_metric(lost ? LINK_M_UNAVAILABLE : LINK_M_HANDLER, 1);
    if (lost)
        link_close(c, PL_UNAVAILABLE); /* the peer comes again, and nothing was lost in silence */
    else if (m.row && m.row->soft && !ours(e))
        say_error(c, m.id, e, &fail);
    else
        link_close(c, e);
}

/* Posts and the end wait for the database: false when it is away. */
static bool run_waiting(struct link_worker *lw, struct link_conn *c, const struct link_job *job)
{
    struct work w = { .c = c, .job = job, .self = c->proto->self };
    struct pl_fail fail = PL_FAIL_INIT;
    bool lost;
    if (job->kind == LINK_JOB_CLOSED && !c->proto->closed)
        return true;
    enum pl_err e = transact(lw, &w, &fail, &lost);
    if (e == PL_OK)
        return true;
    if (lost) {
        link_close(c, PL_UNAVAILABLE);
        return false;
    }
    PL_LOG(&c->log, PL_WARN, "link.post-failed", PL_F_ERR(e), PL_F_Z("detail", fail.detail));
    link_metric(LINK_M_HANDLER, 1);
    link_close(c, e);
    return true;
}

static bool run_job(struct link_worker *lw, struct link_conn *c, const struct link_job *job)
{
    pthread_mutex_lock(&c->lock);
    bool drop = c->drop;
    pthread_mutex_unlock(&c->lock);
    pl_arena_reset(lw->arena);
    if (job->kind != LINK_JOB_MESSAGE)
        return run_waiting(lw, c, job);
    if (!drop)
        run_message(lw, c, job);
    return true;
}

static bool stopping(struct link *l)
{
    PL_LOCK(&l->lock);
    return l->stopping;
}

/* Takes the finished job off; true: more wait. When none do, the connection is out of the pool's hands. */
static bool finished(struct link_conn *c, struct link_job *job)
{
    struct link_thread *t = c->thread;
    PL_LOCK(&c->lock);
    c->first = job->next;
    if (!c->first)
        c->last = NULL;
    c->waiting -= job->kind == LINK_JOB_MESSAGE;
    c->posts -= job->kind == LINK_JOB_POST;
    c->waiting_bytes -= job->n;
    if (c->paused && c->waiting <= LINK_WAITING_NEW / 2 && !c->gone)
        link_conn_poke(c); /* its socket may be read again */
    pl_heap_free(job);
    if (c->first)
        return true;
    c->active = false;
    PL_LOCK(&t->engine->lock);
    t->engine->busy--;
    t->engine->turns++;
    pthread_cond_broadcast(&t->engine->idle);
    return false;
}

static void park(struct link_conn *c)
{
    struct link_thread *t = c->thread;
    struct link *l = t->engine;
    pthread_mutex_lock(&t->lock);
    c->next_parked = NULL;
    *t->parked_end = c;
    t->parked_end = &c->next_parked;
    pthread_mutex_unlock(&t->lock);
    PL_LOCK(&l->lock);
    l->turns++;
    pthread_cond_broadcast(&l->idle);
}

/* On the pool, with the reference that link_submit took over. */
static void run_conn(void *arg, void *state)
{
    struct link_conn *c = arg;
    struct link_worker *lw = state;
    struct link *l = c->thread->engine;
    for (;;) {
        pthread_mutex_lock(&c->lock);
        struct link_job *job = c->first;
        pthread_mutex_unlock(&c->lock);
        /* Without memory for a worker, or with the database away while all ends, work is dropped; else it waits for a better time. */
        if ((!lw || !run_job(lw, c, job)) && !stopping(l)) {
            park(c);
            return;
        }
        if (!finished(c, job)) {
            link_unref(c);
            return;
        }
        /* Others first: a connection that floods takes its turn behind them. */
        if (pl_pool_submit(l->pool, (struct pl_job){ .run = run_conn, .arg = c }) == PL_OK)
            return;
    }
}

void link_submit(struct link_conn *c)
{
    if (pl_pool_submit(c->thread->engine->pool, (struct pl_job){ .run = run_conn, .arg = c }) != PL_OK)
        park(c);
}

void link_unpark(struct link_thread *t)
{
    pthread_mutex_lock(&t->lock);
    struct link_conn *c = t->parked, *next;
    bool one = __atomic_load_n(&t->db_away, __ATOMIC_RELAXED);
    if (c && one) {
        t->parked = c->next_parked;
        c->next_parked = NULL;
        if (!t->parked)
            t->parked_end = &t->parked;
    } else {
        t->parked = NULL;
        t->parked_end = &t->parked;
    }
    pthread_mutex_unlock(&t->lock);
    for (; c; c = next) {
        next = c->next_parked;
        link_submit(c);
    }
}
