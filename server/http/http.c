/* The engine's life and its loop: one thread that accepts, runs libmicrohttpd and watches every deadline. */
#include "http_private.h"
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* After the grace the answers still have to be written: this long at most. */
#define LAST_WORDS PL_SECOND
/* On a machine with fewer processors than heavy workers want, the others' calls come first (S-A3); a tenth of a processor stays for log-ins. */
#define HEAVY_NICE 10

static char *copy(const char *z)
{
    size_t n = z ? strlen(z) : 0;
    char *p = pl_heap(n + 1);
    if (p && z)
        memcpy(p, z, n);
    return p;
}

static void daemon_stop(struct daemon *d)
{
    if (d->mhd)
        MHD_stop_daemon(d->mhd);
    *d = (struct daemon){ NULL, -1 };
}

static struct http *http_free(struct http *h)
{
    if (!h)
        return NULL;
    daemon_stop(&h->now);
    daemon_stop(&h->before);
    daemon_stop(&h->next);
    /* The workers' last calls look at the engine's lock, so they end before it does. */
    pl_pool_free(h->pool);
    pl_pool_free(h->heavy);
    pl_pool_free(h->outside);
    if (h->listen_fd >= 0)
        close(h->listen_fd);
    if (h->unix_socket)
        unlink(h->listen + 5);
    if (h->wake_fd >= 0)
        close(h->wake_fd);
    http_rate_free(h->rates);
    pthread_mutex_destroy(&h->lock);
    pl_heap_free(h->type_base);
    pl_heap_free(h->listen);
    pl_heap_free(h->origins);
    pl_heap_free(h->proxies);
    return pl_heap_free(h);
}

enum pl_err http_new(const struct http_conf *conf, struct http **ret, struct pl_fail *reterr)
{
    if (!conf->listen || !conf->clock || !conf->rand || conf->workers < 1 || conf->workers > 64)
        return pl_fail(reterr, PL_INVALID_REQUEST, "The HTTP engine needs an address, a clock, randomness and 1 to 64 workers.");
    struct http *h = pl_heap(sizeof *h);
    if (!h)
        return PL_NO_MEMORY;
    h->conf = *conf;
    h->listen_fd = h->wake_fd = h->now.epoll_fd = h->before.epoll_fd = h->next.epoll_fd = -1;
    pthread_mutex_init(&h->lock, NULL);
    h->listen = copy(conf->listen);
    h->type_base = copy(conf->type_base);
    h->proxies = copy(conf->proxies);
    if (conf->origins && conf->origins[0] && (h->origins = pl_heap(strlen(conf->origins) + 2))) {
        char *to = h->origins;
        for (const char *p = conf->origins; *p; p++)
            if (*p != ' ')
                *to++ = *p;
            else if (to > h->origins && to[-1])
                *to++ = 0;
    }
    if (conf->rates) {
        h->limits = *conf->rates;
        h->rates = http_rate_new();
    }
    if (!h->listen || !h->type_base || !h->proxies || (conf->rates && !h->rates) || (conf->origins && conf->origins[0] && !h->origins)) {
        http_free(h);
        return PL_NO_MEMORY;
    }
    if (!h->conf.max_connections)
        h->conf.max_connections = 1000;
    if (!h->conf.max_per_address)
        h->conf.max_per_address = 64;
    if (!h->conf.max_body)
        h->conf.max_body = 64 * 1024;
    if (!h->conf.call_deadline)
        h->conf.call_deadline = 15 * PL_SECOND;
    pl_metrics_register(http_metrics, M_COUNT);
    *ret = h;
    return PL_OK;
}

const char *http_address(const struct http *h) { return h->address; }

void http_wake(struct http *h)
{
    uint64_t one = 1;
    ssize_t done = write(h->wake_fd, &one, sizeof one);
    (void)done; /* full means that it wakes anyway */
}

static void take_done(struct http *h)
{
    pthread_mutex_lock(&h->lock);
    struct call *list = h->done;
    h->done = NULL;
    pthread_mutex_unlock(&h->lock);
    while (list) {
        struct call *call = list;
        list = call->next_done;
        http_resume(call->link);
    }
}

/* Every link whose time is up: a call is answered without its worker, anything else is cut. */
static void sweep(struct http *h, struct pl_mono now)
{
    if (pl_mono_cmp(now, h->next_sweep) < 0)
        return;
    h->next_sweep = pl_mono_add(now, SWEEP_EVERY);
    for (struct link *k = h->links; k; k = k->next) {
        bool up = pl_mono_cmp(now, k->until) >= 0;
        if (k->phase == PHASE_CALL && (up || h->cut_calls))
            http_abandon(k);
        else if (up && k->phase != PHASE_CUT && k->phase != PHASE_CALL) {
            /* libmicrohttpd sees the end of the stream and closes. */
            shutdown(k->fd, SHUT_RDWR);
            k->phase = PHASE_CUT;
            pl_count(&http_metrics[M_SLOW], 1);
        }
    }
}

/* Begins and advances the drain. True when the thread may end. */
static bool drain(struct http *h, struct pl_mono now)
{
    pthread_mutex_lock(&h->lock);
    bool stop = h->stop;
    int64_t grace = h->grace;
    pthread_mutex_unlock(&h->lock);
    if (!stop)
        return false;
    if (!h->draining) {
        h->draining = true;
        h->grace_until = pl_mono_add(now, grace);
        close(h->listen_fd);
        h->listen_fd = -1;
        /* What has arrived already is still read, and answered 503; then the stream ends. */
        for (struct link *k = h->links; k; k = k->next)
            if (k->phase == PHASE_HEADERS)
                shutdown(k->fd, SHUT_RD);
    }
    if (!h->cut_calls && pl_mono_cmp(now, h->grace_until) >= 0) {
        h->cut_calls = true;
        h->next_sweep = now;
    }
    return !h->links || pl_mono_cmp(now, pl_mono_add(h->grace_until, LAST_WORDS)) >= 0;
}

/* Who came under the last certificate is answered once more and let go (http_reply.c); who comes from now on gets the new one. */
static void change_daemons(struct http *h)
{
    const union MHD_DaemonInfo *info = h->before.mhd ? MHD_get_daemon_info(h->before.mhd, MHD_DAEMON_INFO_CURRENT_CONNECTIONS) : NULL;
    if (info && info->num_connections == 0)
        daemon_stop(&h->before);
    PL_LOCK(&h->lock);
    if (!h->next.mhd || h->before.mhd)
        return;
    h->before = h->now;
    h->now = h->next;
    h->next = (struct daemon){ NULL, -1 };
}

static void run_daemons(struct http *h)
{
    MHD_run(h->now.mhd);
    if (h->before.mhd)
        MHD_run(h->before.mhd);
}

/* libmicrohttpd's own wish, where it is sooner. Milliseconds, -1: no end. */
static int sooner(const struct daemon *d, int timeout)
{
    MHD_UNSIGNED_LONG_LONG ms = 0;
    bool wants = d->mhd && MHD_get_timeout(d->mhd, &ms) == MHD_YES;
    return wants && (timeout < 0 || ms < (MHD_UNSIGNED_LONG_LONG)timeout) ? (int)ms : timeout;
}

static void wait_for_work(struct http *h, struct pl_mono now)
{
    bool accepting = h->listen_fd >= 0 && pl_mono_cmp(now, h->accept_from) >= 0;
    struct pollfd fds[4] = { { .fd = h->now.epoll_fd, .events = POLLIN },
                             { .fd = h->wake_fd, .events = POLLIN },
                             { .fd = accepting ? h->listen_fd : -1, .events = POLLIN },
                             { .fd = h->before.epoll_fd, .events = POLLIN } };
    /* With links there are deadlines, on a clock that a test may move: look again soon. */
    int timeout = h->links || h->before.mhd || !accepting ? (int)(SWEEP_EVERY / PL_MS) : -1;
    if (h->draining && !h->links)
        return;
    timeout = sooner(&h->before, sooner(&h->now, timeout));
    if (poll(fds, PL_COUNT(fds), timeout) <= 0)
        return;
    if (fds[1].revents) {
        uint64_t n;
        ssize_t done = read(h->wake_fd, &n, sizeof n);
        (void)done;
    }
    if (fds[2].revents)
        http_accept(h);
}

/* None may be suspended when libmicrohttpd stops. A call whose worker finishes meanwhile cannot be abandoned, but is among the done in the next round. */
static void resume_all(struct http *h)
{
    for (bool again = true; again;) {
        again = false;
        take_done(h);
        for (struct link *k = h->links; k; k = k->next) {
            if (k->phase == PHASE_CALL)
                http_abandon(k);
            again = again || k->phase == PHASE_CALL;
        }
    }
}

static void *engine(void *arg)
{
    struct http *h = arg;
    for (;;) {
        take_done(h);
        struct pl_mono now = pl_now_mono(h->conf.clock);
        bool over = drain(h, now);
        sweep(h, now);
        if (over)
            break;
        /* After the above: libmicrohttpd's own timeout does not tell that connections were resumed. */
        run_daemons(h);
        change_daemons(h);
        wait_for_work(h, now);
    }
    resume_all(h);
    run_daemons(h);
    return NULL;
}

enum pl_err http_start(struct http *h, struct pl_fail *reterr)
{
    h->tls = h->conf.tls_cert && h->conf.tls_cert[0];
    enum pl_err e = http_daemon(h, &h->now, reterr);
    if (e != PL_OK)
        return e;
    h->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->wake_fd < 0)
        return PL_NO_MEMORY;
    struct pl_pool_conf pool = {
        .threads = h->conf.workers, .queue = h->conf.queue, .start = http_worker_start, .stop = http_worker_stop, .self = h, .name = "http" };
    e = pl_pool_new(&pool, &h->pool);
    pool.threads = h->conf.outside_workers;
    pool.queue = h->conf.outside_queue;
    pool.name = "http-out";
    if (e == PL_OK && pool.threads)
        e = pl_pool_new(&pool, &h->outside);
    pool.threads = h->conf.heavy_workers;
    pool.queue = h->conf.heavy_queue;
    pool.name = "http-heavy";
    pool.nice = HEAVY_NICE;
    if (e == PL_OK && pool.threads)
        e = pl_pool_new(&pool, &h->heavy);
    if (e == PL_OK)
        e = http_listen(h, reterr);
    if (e != PL_OK)
        return e;
    if (pthread_create(&h->thread, NULL, engine, h) != 0)
        return PL_NO_MEMORY;
    pthread_setname_np(h->thread, "http");
    h->running = true;
    return PL_OK;
}

enum pl_err http_reload(struct http *h, struct pl_fail *reterr)
{
    struct daemon made = { NULL, -1 };
    enum pl_err e = h->tls ? http_daemon(h, &made, reterr) : PL_OK;
    if (!made.mhd)
        return e;
    pthread_mutex_lock(&h->lock);
    struct daemon late = h->next; /* nobody came to it yet */
    h->next = made;
    pthread_mutex_unlock(&h->lock);
    daemon_stop(&late);
    http_wake(h);
    return PL_OK;
}

struct http *http_stop(struct http *h, int64_t grace_us)
{
    if (h && h->running) {
        pthread_mutex_lock(&h->lock);
        h->stop = true;
        h->grace = grace_us;
        pthread_mutex_unlock(&h->lock);
        http_wake(h);
        pthread_join(h->thread, NULL);
    }
    return http_free(h);
}
