#include "link_tls.h"
#include <stdio.h>
#include <unistd.h>

#define M(id, n, h) [LINK_M_##id] = PL_METRIC_COUNTER("porchlight_link_" n "_total", h)
static struct pl_metric metrics[] = {
    [LINK_M_CONNECTIONS] = PL_METRIC_GAUGE("porchlight_link_connections", "WebSockets that are open."),
    M(OPENED, "opened", "WebSockets opened."),
    M(IN, "messages_in", "Messages received."),
    M(OUT, "messages_out", "Messages queued to be sent."),
    M(UNKNOWN, "unknown", "Messages of a type that is not known, ignored."),
    M(PROTOCOL, "refused_protocol", "Connections closed for a message that was malformed or not permitted then."),
    M(LARGE, "refused_too_large", "Connections closed for a message that was too large."),
    M(RATE, "refused_rate", "Connections closed for too many messages."),
    M(SLOW, "refused_too_slow", "Connections closed because the peer did not read."),
    M(LATE, "refused_late", "Connections closed because they did not authenticate in time."),
    M(SILENT, "silent", "Connections cut after silence."),
    M(HANDLER, "failed", "Messages that their handler refused."),
    M(UNAVAILABLE, "unavailable", "Connections closed because the database was away."),
    M(DOOR, "turned_away", "Requests that were not for a WebSocket here."),
    M(FULL, "full", "Requests turned away for want of room."),
    M(TLS, "tls_failed", "Connections whose TLS handshake failed or came too late."),
    M(PAUSED, "paused", "Times that a socket was not read until the pool had caught up."),
};

void link_metric(enum link_metric m, int64_t by) { pl_count(&metrics[m], by); }

size_t link_largest(const struct link *l)
{
    size_t most = 0;
    for (const struct link_protocol *p = l->conf.protocols; p->name; p++)
        most = p->max_message > most ? p->max_message : most;
    return most;
}

static struct link_count **count_of(struct link *l, const struct link_address *a)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < sizeof a->b; i++)
        h = (h ^ a->b[i]) * 1099511628211u;
    struct link_count **at = &l->counts[h % l->ncounts];
    while (*at && memcmp((*at)->address.b, a->b, sizeof a->b) != 0)
        at = &(*at)->next;
    return at;
}

/* Proxies speak for many. */
static bool counted(const struct link *l, const struct link_address *a)
{
    static const struct link_address nobody;
    return l->conf.max_per_address && memcmp(a, &nobody, sizeof nobody) != 0;
}

enum pl_err link_slot_take(struct link *l, const struct link_address *a)
{
    PL_LOCK(&l->lock);
    if (l->stopping || l->sockets >= l->conf.max_connections)
        return PL_OVERLOADED;
    if (counted(l, a)) {
        struct link_count **at = count_of(l, a);
        if (!*at && !(*at = pl_heap(sizeof **at)))
            return PL_OVERLOADED;
        (*at)->address = *a;
        if ((*at)->n >= l->conf.max_per_address)
            return PL_RATE_LIMITED;
        (*at)->n++;
    }
    l->sockets++;
    return PL_OK;
}

void link_slot_free(struct link *l, const struct link_address *a)
{
    PL_LOCK(&l->lock);
    struct link_count **at = counted(l, a) ? count_of(l, a) : NULL, *c;
    if (at && (c = *at) && --c->n == 0) {
        *at = c->next;
        pl_heap_free(c);
    }
    l->sockets--;
    pthread_cond_broadcast(&l->idle);
}

static struct link *destroy(struct link *l)
{
    for (unsigned i = 0; l->classes && i < l->nclasses; i++)
        for (unsigned j = 0; j < LINK_MAX_THREADS; j++)
            if (l->classes[i].threads[j].engine) {
                link_loop_close(&l->classes[i].threads[j].loop);
                pthread_mutex_destroy(&l->classes[i].threads[j].lock);
            }
    link_door_close(l->door);
    SSL_CTX_free(l->tls);
    pl_pool_free(l->pool);
    pl_heap_free(l->classes);
    for (size_t i = 0; l->counts && i < l->ncounts; i++)
        for (struct link_count *c = l->counts[i], *next; c; c = next) {
            next = c->next;
            pl_heap_free(c);
        }
    pl_heap_free(l->counts);
    pthread_cond_destroy(&l->idle);
    pthread_mutex_destroy(&l->lock);
    return pl_heap_free(l);
}

static enum pl_err set_up(struct link *l, struct pl_fail *reterr)
{
    enum pl_err e = link_door_tls(l, reterr);
    if (e != PL_OK)
        return e;
    while (l->conf.protocols[l->nclasses].name)
        l->nclasses++;
    l->ncounts = 4096;
    l->counts = pl_heap(l->ncounts * sizeof(struct link_count *));
    l->classes = pl_heap(l->nclasses * sizeof *l->classes);
    if (!l->counts || !l->classes)
        return PL_NO_MEMORY;
    for (unsigned i = 0; i < l->nclasses; i++) {
        struct link_class *class = &l->classes[i];
        class->proto = &l->conf.protocols[i];
        unsigned want = class->proto->threads;
        for (class->n = 0; class->n < (want < 1 ? 1 : want > LINK_MAX_THREADS ? LINK_MAX_THREADS : want); class->n++) {
            e = link_thread_open(&class->threads[class->n], l, class->proto, reterr);
            if (e != PL_OK)
                return e;
        }
    }
    return link_door_open(l, &l->door, reterr);
}

enum pl_err link_new(const struct link_conf *conf, struct link **ret, struct pl_fail *reterr)
{
    struct link *l = conf->protocols && conf->protocols[0].name ? pl_heap(sizeof *l) : NULL;
    if (!l)
        return PL_NO_MEMORY;
    pl_metrics_register(metrics, PL_COUNT(metrics));
    l->conf = *conf;
    if (l->conf.max_connections == 0)
        l->conf.max_connections = 18000;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->idle, NULL);
    enum pl_err e = set_up(l, reterr);
    if (e != PL_OK) {
        destroy(l);
        return e;
    }
    *ret = l;
    return PL_OK;
}

enum pl_err link_start(struct link *l, struct pl_fail *reterr)
{
    char name[16];
    enum pl_err e = pl_pool_new(&(struct pl_pool_conf){ .threads = l->conf.workers ? l->conf.workers : 4, .queue = l->conf.queue ? l->conf.queue : 1024,
                                                        .start = link_worker_start, .stop = link_worker_stop, .self = l, .name = "link-work" }, &l->pool);
    for (unsigned i = 0; e == PL_OK && i < l->nclasses; i++)
        for (unsigned j = 0; e == PL_OK && j < l->classes[i].n; j++) {
            snprintf(name, sizeof name, "link-%u-%u", i % 100, j % 100);
            e = link_loop_start(&l->classes[i].threads[j].loop, name);
        }
    if (e == PL_OK)
        e = link_door_start(l->door);
    if (e != PL_OK)
        return pl_fail(reterr, e, "The threads for WebSockets could not start.");
    PL_LOG(l->conf.log, PL_INFO, "link.listening", PL_F_Z("address", l->address));
    return PL_OK;
}

const char *link_address(const struct link *l) { return l->address; }

enum pl_err link_reload(struct link *l, struct pl_fail *reterr)
{
    SSL_CTX *made = NULL;
    enum pl_err e = l->over_tls ? link_tls_serve(l->conf.tls_cert, l->conf.tls_key, &made, reterr) : PL_OK;
    if (!made)
        return e;
    pthread_mutex_lock(&l->lock);
    SSL_CTX *old = l->tls;
    l->tls = made;
    pthread_mutex_unlock(&l->lock);
    SSL_CTX_free(old); /* whoever shook hands with it holds it */
    return PL_OK;
}

static void each_thread(struct link *l, void (*fn)(struct link_thread *t))
{
    for (unsigned i = 0; i < l->nclasses; i++)
        for (unsigned j = 0; j < l->classes[i].n; j++)
            if (l->classes[i].threads[j].loop.started)
                fn(&l->classes[i].threads[j]);
}

void link_drain(struct link *l, struct pl_str say, unsigned per_s)
{
    struct pl_buf b = pl_buf_fixed(l->drain_text, sizeof l->drain_text);
    l->door = link_door_close(l->door);
    pl_buf_str(&b, say);
    l->drain = pl_buf_view(&b);
    l->drain_per_tick = per_s * LINK_TICK_MS / 1000 + 1;
    each_thread(l, link_thread_drain);
}

unsigned link_connections(struct link *l)
{
    PL_LOCK(&l->lock);
    return l->sockets;
}

/* What still lies on a thread's lists when it has ended. */
static void clear_lists(struct link_thread *t)
{
    for (struct link_conn *c = t->arrived, *next; c; c = next) {
        next = c->next_dirty;
        close(c->fd);
        if (c->pump)
            link_pump_end(c->pump);
        else
            link_slot_free(t->engine, &c->address);
        link_unref(c);
    }
    for (struct link_conn *c = t->dirty, *next; c; c = next) {
        next = c->next_dirty;
        link_unref(c);
    }
    for (struct link_conn *c = t->orphans, *next; c; c = next) {
        next = c->next_dirty;
        link_unref(c);
    }
    t->arrived = t->dirty = t->orphans = NULL;
}

static void join_thread(struct link_thread *t)
{
    link_loop_close(&t->loop);
    clear_lists(t);
}

static void unpark_all(struct link_thread *t)
{
    __atomic_store_n(&t->db_away, false, __ATOMIC_RELAXED);
    link_unpark(t);
}

struct link *link_stop(struct link *l, int64_t grace_us)
{
    if (!l)
        return NULL;
    l->door = link_door_close(l->door);
    if (!l->pool)
        return destroy(l);
    each_thread(l, link_thread_stop);
    /* The time is counted in ticks of a thread: whatever clock was given, this ends. */
    pthread_mutex_lock(&l->lock);
    l->grace_ticks = (unsigned)(grace_us / (LINK_TICK_MS * PL_MS)) + 1;
    while ((l->sockets > 0 || l->busy > 0) && l->grace_ticks > 0 && l->classes[0].threads[0].loop.started)
        pthread_cond_wait(&l->idle, &l->lock);
    l->stopping = true;
    pthread_mutex_unlock(&l->lock);
    /* Now the hard way: sockets are cut, what waits for the database is dropped, handlers that run come to their end. */
    each_thread(l, link_thread_quit);
    each_thread(l, join_thread);
    pthread_mutex_lock(&l->lock);
    while (l->busy > 0) {
        unsigned seen = l->turns;
        pthread_mutex_unlock(&l->lock);
        for (unsigned i = 0; i < l->nclasses; i++)
            for (unsigned j = 0; j < l->classes[i].n; j++)
                unpark_all(&l->classes[i].threads[j]);
        pthread_mutex_lock(&l->lock);
        while (l->busy > 0 && l->turns == seen)
            pthread_cond_wait(&l->idle, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return destroy(l);
}
