#include "reach.h"
#include "source.h"
#include <time.h>

#define LOOK_EVERY_S 10

struct reach {
    const struct hub_conf *conf;
    struct pl_log log;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool away[HUB_CAMERAS]; /* LOCK: lock */
    bool changed;           /* LOCK: lock */
    atomic_bool stop;       /**< set under the lock, read by whoever waits for a camera */
};

static void set(struct reach *r, size_t camera, bool away)
{
    PL_LOCK(&r->lock);
    if (r->away[camera] == away)
        return;
    r->away[camera] = away;
    r->changed = true;
    pthread_cond_signal(&r->woken);
    PL_LOG(&r->log, PL_INFO, "hub.camera", PL_F_STR("camera", r->conf->cameras[camera].serial), PL_F_Z("is", away ? "away" : "there"));
}

static bool any_away(const struct reach *r)
{
    for (size_t i = 0; i < r->conf->cameras_n; i++)
        if (r->away[i])
            return true;
    return false;
}

/* Until a camera has been away for LOOK_EVERY_S since the last look, or the end. */
static void wait_to_look(struct reach *r)
{
    PL_LOCK(&r->lock);
    while (!any_away(r) && !atomic_load(&r->stop))
        pthread_cond_wait(&r->woken, &r->lock);
    struct pl_mono due = pl_mono_add(pl_now_mono(&pl_clock_system), LOOK_EVERY_S * PL_SECOND);
    const struct timespec until = { due.us / PL_SECOND, due.us % PL_SECOND * 1000 };
    while (!atomic_load(&r->stop) && pthread_cond_timedwait(&r->woken, &r->lock, &until) == 0)
        ;
}

static void *run(void *arg)
{
    struct reach *r = arg;
    for (wait_to_look(r); !atomic_load(&r->stop); wait_to_look(r))
        for (size_t i = 0; i < r->conf->cameras_n && !atomic_load(&r->stop); i++) {
            struct source *source = NULL;
            if (reach_online(r, i))
                continue;
            enum pl_err e = source_open(r->conf->cameras[i].source, &r->stop, &source, /* reterr= */ NULL);
            source_close(source);
            if (e == PL_OK || e == PL_UNSUPPORTED_MEDIA)
                set(r, i, false);
        }
    return NULL;
}

static struct reach *discard(struct reach *r)
{
    pthread_cond_destroy(&r->woken);
    pthread_mutex_destroy(&r->lock);
    return pl_heap_free(r);
}

enum pl_err reach_new(const struct hub_conf *conf, struct reach **ret)
{
    struct reach *r = pl_heap(sizeof *r);
    if (!r)
        return PL_NO_MEMORY;
    r->conf = conf;
    r->log = pl_log_child(conf->log, PL_F_STR("hub", conf->serial));
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&r->woken, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&r->lock, NULL);
    if (pthread_create(&r->thread, NULL, run, r) != 0) {
        discard(r);
        return PL_NO_MEMORY;
    }
    *ret = r;
    return PL_OK;
}

void reach_lost(struct reach *r, size_t camera) { set(r, camera, true); }

bool reach_online(struct reach *r, size_t camera)
{
    PL_LOCK(&r->lock);
    return !r->away[camera];
}

bool reach_changed(struct reach *r)
{
    PL_LOCK(&r->lock);
    bool changed = r->changed;
    r->changed = false;
    return changed;
}

struct reach *reach_free(struct reach *r)
{
    if (!r)
        return NULL;
    {
        PL_LOCK(&r->lock);
        atomic_store(&r->stop, true);
        pthread_cond_signal(&r->woken);
    }
    pthread_join(r->thread, NULL);
    return discard(r);
}
