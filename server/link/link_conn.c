#include "link_int.h"

struct link_conn *link_conn_new(struct link *l, const struct link_protocol *p, int fd, const struct link_address *a)
{
    struct link_conn *c = pl_heap(sizeof *c);
    if (!c)
        return NULL;
    c->end = pl_heap(sizeof *c->end);
    if (!c->end)
        return pl_heap_free(c);
    c->end->kind = LINK_JOB_CLOSED;
    c->refs = 1;
    c->phase = LINK_NEW;
    c->proto = p;
    c->fd = fd;
    c->address = *a;
    c->log = pl_log_child(l->conf.log, PL_F_Z("peer", c->peer));
    pthread_mutex_init(&c->lock, NULL);
    return c;
}

struct link_conn *link_ref(struct link_conn *c)
{
    __atomic_fetch_add(&c->refs, 1, __ATOMIC_RELAXED);
    return c;
}

struct link_conn *link_unref(struct link_conn *c)
{
    if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) != 0)
        return NULL;
    if (c->owner && c->owner_done)
        c->owner_done(c->owner);
    for (struct link_job *j = c->first, *next; j; j = next) {
        next = j->next;
        pl_heap_free(j);
    }
    pl_heap_free(c->partial);
    pl_heap_free(c->end);
    link_queue_clear(&c->out);
    pthread_mutex_destroy(&c->lock);
    return pl_heap_free(c);
}

void link_conn_poke(struct link_conn *c)
{
    struct link_thread *t = c->thread;
    PL_LOCK(&t->lock);
    if (c->dirty)
        return;
    c->dirty = true;
    c->next_dirty = t->dirty;
    bool first = !t->dirty;
    t->dirty = link_ref(c);
    if (first)
        link_loop_wake(&t->loop);
}

enum pl_err link_send(struct link_conn *c, struct pl_str json)
{
    PL_LOCK(&c->lock);
    if (c->closing || c->gone)
        return PL_UNAVAILABLE;
    enum pl_err e = link_queue_add(&c->out, json, c->proto->max_queued ? c->proto->max_queued : 256 * 1024);
    if (e == PL_TOO_SLOW) {
        /* What waits would never be read in time: the close must not stand behind it. */
        link_queue_clear(&c->out);
        c->closing = c->drop = true;
        c->code = 4000 + pl_err_table[e].status;
        c->reason = pl_err_code(e);
        link_metric(LINK_M_SLOW, 1);
    } else if (e == PL_OK)
        link_metric(LINK_M_OUT, 1);
    else
        return e;
    link_conn_poke(c);
    return e;
}

void link_conn_close(struct link_conn *c, int code, const char *reason, bool drop)
{
    PL_LOCK(&c->lock);
    if (c->closing || c->gone)
        return;
    c->closing = true;
    c->drop = drop;
    c->code = code;
    c->reason = reason;
    link_conn_poke(c);
}

void link_close(struct link_conn *c, enum pl_err why)
{
    link_conn_close(c, why == PL_OK ? LWS_CLOSE_STATUS_NORMAL : 4000 + pl_err_table[why].status, why == PL_OK ? "" : pl_err_code(why), true);
}

void link_conn_refuse(struct link_conn *c, enum pl_err why, enum link_metric m, const char *detail)
{
    link_metric(m, 1);
    PL_LOG(&c->log, PL_WARN, "link.refused", PL_F_ERR(why), PL_F_Z("why", detail));
    link_close(c, why);
}

void link_phase(struct link_conn *c, uint32_t phase) { __atomic_store_n(&c->phase, phase, __ATOMIC_RELEASE); }

void link_set_owner(struct link_conn *c, void *owner, void (*done)(void *owner))
{
    void *old = c->owner;
    void (*old_done)(void *) = c->owner_done;
    c->owner_done = done;
    __atomic_store_n(&c->owner, owner, __ATOMIC_RELEASE);
    if (old && old != owner && old_done)
        old_done(old);
}

void *link_owner(const struct link_conn *c) { return __atomic_load_n(&c->owner, __ATOMIC_ACQUIRE); }
struct pl_str link_peer(const struct link_conn *c) { return pl_str_of(c->peer); }

/* Written before the job that runs `closed` is queued under the same lock: who asks from there on needs none. */
const char *link_ended(const struct link_conn *c) { return c->ended ? c->ended : "lost"; }

void link_conn_job(struct link_conn *c, struct link_job *job)
{
    job->next = NULL;
    if (c->last)
        c->last->next = job;
    else
        c->first = job;
    c->last = job;
    c->waiting += job->kind == LINK_JOB_MESSAGE;
    c->posts += job->kind == LINK_JOB_POST;
    c->waiting_bytes += job->n;
    if (c->active)
        return;
    c->active = true;
    struct link *l = c->thread->engine;
    pthread_mutex_lock(&l->lock);
    l->busy++;
    pthread_mutex_unlock(&l->lock);
    link_submit(link_ref(c));
}

enum pl_err link_post(struct link_conn *c, enum pl_err (*fn)(struct link_call *call, void *arg, struct pl_fail *reterr), void *arg)
{
    struct link_job *job = pl_heap(sizeof *job);
    if (!job)
        return PL_NO_MEMORY;
    job->kind = LINK_JOB_POST;
    job->fn = fn;
    job->arg = arg;
    PL_LOCK(&c->lock);
    enum pl_err e = c->gone ? PL_UNAVAILABLE : c->posts >= LINK_WAITING_POSTS ? PL_OVERLOADED : PL_OK;
    if (e == PL_OK)
        link_conn_job(c, job);
    else
        pl_heap_free(job);
    return e;
}
