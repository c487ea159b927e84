#include "pool.h"
#include <stdio.h>
#include <sys/resource.h>

#define MAX_THREADS 64

struct slot {
    struct pl_job job;
    bool running; /* taken by a worker, not finished */
    struct slot *next;
};

struct pl_pool {
    struct pl_pool_conf conf;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct slot *slots;       /* LOCK: lock; fixed array of queue + threads */
    struct slot *unused;      /* LOCK: lock */
    struct slot *first, *last; /* LOCK: lock; waiting and running, oldest first */
    unsigned waiting, busy;   /* LOCK: lock */
    bool stopping;            /* LOCK: lock */
    pthread_t threads[MAX_THREADS];
    unsigned started;
};

struct worker {
    struct pl_pool *pool;
    unsigned number;
};

/* The oldest job whose lane is not held by an older one. Lanes are looked up along the list: it is short (jobs waiting), and lanes seldom collide. */
static struct slot *pick(struct pl_pool *p)
{
    for (struct slot *s = p->first; s; s = s->next) {
        if (s->running)
            continue;
        bool held = false;
        for (struct slot *older = p->first; s->job.lane && older != s && !held; older = older->next)
            held = older->job.lane == s->job.lane;
        if (!held)
            return s;
    }
    return NULL;
}

static void unlink_slot(struct pl_pool *p, struct slot *gone)
{
    struct slot **at = &p->first, *before = NULL;
    for (; *at != gone; at = &(*at)->next)
        before = *at;
    *at = gone->next;
    if (p->last == gone)
        p->last = before;
    gone->next = p->unused;
    p->unused = gone;
}

static void *work(void *arg)
{
    struct worker me = *(struct worker *)arg;
    pl_heap_free(arg);
    struct pl_pool *p = me.pool;
    if (p->conf.nice)
        (void)setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + p->conf.nice); /* of this thread alone (Linux); where it is not permitted the work is only less polite */
    void *state = p->conf.start ? p->conf.start(p->conf.self, me.number) : NULL;

    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct slot *s = pick(p);
        if (!s && p->stopping && p->waiting == 0)
            break;
        if (!s) {
            pthread_cond_wait(&p->more, &p->lock);
            continue;
        }
        s->running = true;
        p->waiting--;
        p->busy++;
        struct pl_job job = s->job;
        pthread_mutex_unlock(&p->lock);
        job.run(job.arg, state);
        pthread_mutex_lock(&p->lock);
        p->busy--;
        unlink_slot(p, s);
        /* A lane may have come free, or the last job ended while the pool stops. */
        if (job.lane || p->stopping)
            pthread_cond_broadcast(&p->more);
    }
    pthread_mutex_unlock(&p->lock);
    if (p->conf.stop)
        p->conf.stop(p->conf.self, state);
    return NULL;
}

static bool start_worker(struct pl_pool *p, unsigned number)
{
    char name[16];
    struct worker *w = pl_heap(sizeof *w);
    if (!w)
        return false;
    *w = (struct worker){ p, number };
    if (pthread_create(&p->threads[number], NULL, work, w) != 0) {
        pl_heap_free(w);
        return false;
    }
    snprintf(name, sizeof name, "%.10s-%u", p->conf.name ? p->conf.name : "pool", number % MAX_THREADS);
    pthread_setname_np(p->threads[number], name);
    p->started++;
    return true;
}

enum pl_err pl_pool_new(const struct pl_pool_conf *conf, struct pl_pool **ret)
{
    unsigned slots = conf->queue + conf->threads;
    struct pl_pool *p = conf->threads >= 1 && conf->threads <= MAX_THREADS ? pl_heap(sizeof *p) : NULL;
    if (!p)
        return PL_NO_MEMORY;
    p->conf = *conf;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    p->slots = pl_heap(slots * sizeof *p->slots);
    for (unsigned i = 0; p->slots && i < slots; i++) {
        p->slots[i].next = p->unused;
        p->unused = &p->slots[i];
    }
    bool all = p->slots != NULL;
    for (unsigned i = 0; all && i < conf->threads; i++)
        all = start_worker(p, i);
    if (!all) {
        pl_pool_free(p);
        return PL_NO_MEMORY;
    }
    *ret = p;
    return PL_OK;
}

enum pl_err pl_pool_submit(struct pl_pool *p, struct pl_job job)
{
    PL_LOCK(&p->lock);
    struct slot *s = p->unused;
    if (p->stopping || !s || p->waiting >= p->conf.queue + (p->conf.threads - (p->busy < p->conf.threads ? p->busy : p->conf.threads)))
        return PL_OVERLOADED;
    p->unused = s->next;
    *s = (struct slot){ .job = job };
    if (p->last)
        p->last->next = s;
    else
        p->first = s;
    p->last = s;
    p->waiting++;
    pthread_cond_signal(&p->more);
    return PL_OK;
}

unsigned pl_pool_load(struct pl_pool *p)
{
    PL_LOCK(&p->lock);
    return p->waiting + p->busy;
}

struct pl_pool *pl_pool_free(struct pl_pool *p)
{
    if (!p)
        return NULL;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->started; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
    pl_heap_free(p->slots);
    return pl_heap_free(p);
}
