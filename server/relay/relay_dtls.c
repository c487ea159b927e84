#include "relay_dtls.h"
#include "relay_queue.h"
#include "secure.h"
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { JOBS = 256, RESULTS = 256, IDLE_MS = 1000, OWED_US = 2000, KEPT_FROM_DATA = 64, KEPT_FROM_STARTS = 32 };

struct job { /* one relay_dtls_out, copied */
    enum relay_dtls_out_kind kind;
    uint64_t assoc;
    bool active;
    uint8_t fingerprints[DTLS_FINGERPRINTS][DTLS_FINGERPRINT];
    enum pl_srtp_suite suites[DTLS_SUITES];
    unsigned suites_n;
    size_t n;
    uint8_t p[RELAY_PACKET_MAX];
};
struct result {
    struct relay_dtls_in in;
    uint8_t p[DTLS_MTU];
};

struct assoc {
    uint64_t id;
    struct dtls *d;
    struct assoc *next;    /* of the same bucket, or of the free ones */
    struct pl_mono due;    /* when it is looked at next */
    struct pl_mono leash;  /* it goes then at the latest */
    bool active, told_keys, told_finished;
};
struct relay_dtls_thread {
    struct dtls_sink sink; /* first: the sink's self is the thread */
    struct relay_dtls_conf conf;
    struct dtls_context *context;
    struct relay_queue jobs, results;
    int wake;
    pthread_t thread;
    bool started, told; /* told: the worker's, since its last kick */
    atomic_bool stop;
    /* the thread's own */
    struct assoc *all, *free;
    struct assoc **buckets;
    size_t buckets_n;        /* a power of two */
    struct assoc *now_of;    /* whose datagrams the sink takes */
    struct pl_mono next_due; /* of all associations, or earlier */
    bool due_any, put_any;
    struct {
        atomic_uint_least64_t started, finished, failed[DTLS_FAILURES], refused, dropped;
        atomic_uint open;
    } counts;
};

static void ring(int fd)
{
    uint64_t one = 1;
    ssize_t done = fd < 0 ? 0 : write(fd, &one, sizeof one);
    (void)done; /* full means that it is readable already */
}

static void count(atomic_uint_least64_t *c) { atomic_fetch_add_explicit(c, 1, memory_order_relaxed); }

/* ---- The worker's side. */

static bool start_job(struct job *j, const struct relay_webrtc *w)
{
    j->active = w->active;
    _Static_assert(sizeof j->fingerprints == sizeof w->fingerprints, "as many as a leg has");
    memcpy(j->fingerprints, w->fingerprints, sizeof j->fingerprints);
    j->suites_n = w->suites_n;
    for (unsigned i = 0; i < w->suites_n && i < DTLS_SUITES; i++)
        j->suites[i] = w->suites[i];
    return w->suites_n > 0 && w->suites_n <= DTLS_SUITES;
}

/* Datagrams may be lost, associations refused, but a PATH is said once: the last slots are for it. */
static struct job *job_room(struct relay_dtls_thread *t, enum relay_dtls_out_kind kind)
{
    size_t kept = kind == RELAY_DTLS_DATA ? KEPT_FROM_DATA : kind == RELAY_DTLS_START ? KEPT_FROM_STARTS : 0;
    if (kind == RELAY_DTLS_START && atomic_load_explicit(&t->counts.open, memory_order_relaxed) >= t->conf.max_open)
        return NULL;
    return relay_queue_free(&t->jobs) > kept ? relay_queue_room(&t->jobs) : NULL;
}

bool relay_dtls_tell(struct relay_dtls_thread *t, const struct relay_dtls_out *out)
{
    bool starts = out->kind == RELAY_DTLS_START;
    struct job *j = job_room(t, out->kind);
    bool taken = j && (!starts || start_job(j, out->webrtc)) && (out->kind != RELAY_DTLS_DATA || out->n <= sizeof j->p);
    if (!taken) {
        if (starts)
            count(&t->counts.refused);
        else
            count(&t->counts.dropped);
        return out->kind == RELAY_DTLS_END;
    }
    j->kind = out->kind;
    j->assoc = out->assoc;
    j->n = out->kind == RELAY_DTLS_DATA ? out->n : 0;
    if (j->n)
        memcpy(j->p, out->p, j->n);
    if (starts) { /* here and not when it is made: what waits in the queue counts, too */
        atomic_fetch_add_explicit(&t->counts.open, 1, memory_order_relaxed);
        count(&t->counts.started);
    }
    relay_queue_put(&t->jobs);
    t->told = true;
    return true;
}

void relay_dtls_kick(struct relay_dtls_thread *t)
{
    if (t->told)
        ring(t->wake);
    t->told = false;
}

const struct relay_dtls_in *relay_dtls_peek(struct relay_dtls_thread *t)
{
    struct result *r = relay_queue_peek(&t->results);
    return r ? &r->in : NULL;
}

void relay_dtls_next(struct relay_dtls_thread *t)
{
    struct result *r = relay_queue_peek(&t->results);
    if (!r)
        return;
    secure_wipe(&r->in, sizeof r->in);
    relay_queue_took(&t->results);
}

/* ---- The thread's side: results. */

static struct result *result_room(struct relay_dtls_thread *t, const struct assoc *a, enum relay_dtls_in_kind kind)
{
    struct result *r = relay_queue_room(&t->results);
    if (r)
        r->in = (struct relay_dtls_in){ .kind = kind, .assoc = a->id };
    return r;
}

static void result_put(struct relay_dtls_thread *t)
{
    relay_queue_put(&t->results);
    t->put_any = true;
}

/* A datagram without room is lost as on any network; keys and ends are owed until there is. */
static void send_datagram(struct dtls_sink *self, const uint8_t *p, size_t n)
{
    struct relay_dtls_thread *t = (struct relay_dtls_thread *)self;
    struct result *r = result_room(t, t->now_of, RELAY_DTLS_SEND);
    if (!r)
        return;
    memcpy(r->p, p, n);
    r->in.p = r->p;
    r->in.n = n;
    result_put(t);
}

static bool put_keys(struct relay_dtls_thread *t, const struct assoc *a)
{
    struct dtls_keys k;
    struct result *r = result_room(t, a, RELAY_DTLS_KEYS);
    if (!r)
        return false;
    if (dtls_keys(a->d, &k) == PL_OK) {
        r->in.suite = k.suite;
        r->in.peer_finished = dtls_state(a->d) >= DTLS_FINISHED;
        memcpy(r->in.receive_key, k.receive_key, sizeof k.receive_key);
        memcpy(r->in.send_key, k.send_key, sizeof k.send_key);
        secure_wipe(&k, sizeof k);
    } else { /* memory, at the last moment */
        r->in.kind = RELAY_DTLS_FAILED;
        r->in.code = dtls_failure_code(DTLS_NO_MEMORY);
    }
    result_put(t);
    return true;
}

static bool put_plain(struct relay_dtls_thread *t, const struct assoc *a, enum relay_dtls_in_kind kind, const char *code)
{
    struct result *r = result_room(t, a, kind);
    if (!r)
        return false;
    r->in.code = code;
    result_put(t);
    return true;
}

/* ---- Associations. */

static struct assoc **bucket_of(struct relay_dtls_thread *t, uint64_t id)
{
    return &t->buckets[(id * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & (t->buckets_n - 1)];
}

static struct assoc *find(struct relay_dtls_thread *t, uint64_t id)
{
    struct assoc *a = *bucket_of(t, id);
    while (a && a->id != id)
        a = a->next;
    return a;
}

static void gone(struct relay_dtls_thread *t) { atomic_fetch_sub_explicit(&t->counts.open, 1, memory_order_relaxed); }

static void drop(struct relay_dtls_thread *t, struct assoc *a)
{
    struct assoc **at = bucket_of(t, a->id);
    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    dtls_free(a->d);
    *a = (struct assoc){ .next = t->free };
    t->free = a;
    gone(t);
}

static void look_again(struct relay_dtls_thread *t, struct assoc *a, struct pl_mono at)
{
    a->due = at;
    if (!t->due_any || pl_mono_cmp(at, t->next_due) < 0)
        t->next_due = at;
    t->due_any = true;
}

/* False: something is owed, there was no room to say it. */
static bool say(struct relay_dtls_thread *t, struct assoc *a, bool over)
{
    if (!a->told_keys) {
        a->told_keys = put_keys(t, a);
        a->told_finished = a->told_keys && over;
        return a->told_keys;
    }
    if (over && !a->told_finished)
        a->told_finished = put_plain(t, a, RELAY_DTLS_FINISHED, NULL);
    return a->told_finished || !over;
}

static bool fail(struct relay_dtls_thread *t, struct assoc *a, enum dtls_failure why)
{
    if (!put_plain(t, a, RELAY_DTLS_FAILED, dtls_failure_code(why)))
        return false;
    count(&t->counts.failed[why]);
    drop(t, a);
    return true;
}

static void finish(struct relay_dtls_thread *t, struct assoc *a)
{
    count(&t->counts.finished);
    drop(t, a);
}

/* Says what has become of it, and keeps it, or not. */
static void settle(struct relay_dtls_thread *t, struct assoc *a, struct pl_mono now)
{
    enum dtls_state s = dtls_state(a->d);
    bool over = s >= DTLS_FINISHED, room = s == DTLS_FAILED ? false : s < DTLS_KEYED || say(t, a, over);
    if (s == DTLS_FAILED && fail(t, a, dtls_failure(a->d)))
        return;
    if (over && room && (a->active || s == DTLS_CLOSED)) { /* nobody will ask for our last flight */
        finish(t, a);
        return;
    }
    int64_t us = dtls_due(a->d, now);
    struct pl_mono due = us < 0 ? a->leash : pl_mono_add(now, us);
    look_again(t, a, !room ? pl_mono_add(now, OWED_US) : pl_mono_cmp(a->leash, due) < 0 ? a->leash : due);
}

static void open_assoc(struct relay_dtls_thread *t, struct pl_mono now, const struct job *j)
{
    struct dtls_conf conf = { .context = t->context, .role = j->active ? DTLS_ACTIVE : DTLS_PASSIVE, .suites_n = j->suites_n };
    struct assoc *a = t->free;
    memcpy(conf.fingerprints, j->fingerprints, sizeof conf.fingerprints);
    memcpy(conf.suites, j->suites, sizeof conf.suites);
    struct dtls *d = NULL;
    if (dtls_new(&conf, &d) != PL_OK) {
        const struct assoc nobody = { .id = j->assoc };
        (void)put_plain(t, &nobody, RELAY_DTLS_FAILED, dtls_failure_code(DTLS_NO_MEMORY));
        count(&t->counts.failed[DTLS_NO_MEMORY]);
        gone(t);
        return;
    }
    t->free = a->next; /* there are as many as the cap lets in */
    struct assoc **bucket = bucket_of(t, j->assoc);
    *a = (struct assoc){ .id = j->assoc, .d = d, .next = *bucket, .active = j->active, .leash = pl_mono_add(now, RELAY_DTLS_LEASH) };
    *bucket = a;
    t->now_of = a;
    dtls_start(d, now, &t->sink);
    settle(t, a, now);
}

static void take(struct relay_dtls_thread *t, struct pl_mono now, const struct job *j)
{
    if (j->kind == RELAY_DTLS_START) {
        open_assoc(t, now, j);
        return;
    }
    struct assoc *a = find(t, j->assoc);
    if (!a)
        return;
    if (j->kind == RELAY_DTLS_END) {
        if (dtls_state(a->d) >= DTLS_FINISHED)
            finish(t, a);
        else
            drop(t, a);
        return;
    }
    bool before = dtls_state(a->d) >= DTLS_FINISHED;
    t->now_of = a;
    if (j->kind == RELAY_DTLS_PATH)
        dtls_path(a->d, now);
    else
        dtls_input(a->d, now, j->p, j->n, &t->sink);
    if (!before && dtls_state(a->d) >= DTLS_FINISHED)
        a->leash = pl_mono_add(now, RELAY_DTLS_LEFT);
    settle(t, a, now);
}

/* ---- Time. */

static void tick(struct relay_dtls_thread *t, struct pl_mono now, struct assoc *a)
{
    if (pl_mono_cmp(now, a->leash) >= 0) {
        if (a->told_finished)
            finish(t, a);
        else if (!fail(t, a, DTLS_TIMEOUT))
            look_again(t, a, pl_mono_add(now, OWED_US));
        return;
    }
    t->now_of = a;
    dtls_tick(a->d, now, &t->sink);
    settle(t, a, now);
}

static void time_passes(struct relay_dtls_thread *t, struct pl_mono now)
{
    if (!t->due_any || pl_mono_cmp(now, t->next_due) < 0)
        return;
    t->due_any = false;
    for (unsigned i = 0; i < t->conf.max_open; i++) {
        struct assoc *a = &t->all[i];
        if (!a->d)
            continue;
        if (pl_mono_cmp(now, a->due) >= 0)
            tick(t, now, a);
        else
            look_again(t, a, a->due);
    }
}

int64_t relay_dtls_work(struct relay_dtls_thread *t, struct pl_mono now)
{
    struct job *j;
    while ((j = relay_queue_peek(&t->jobs)) != NULL) {
        take(t, now, j);
        relay_queue_took(&t->jobs);
        if (t->put_any) /* the first flight of many must not wait for the last */
            ring(t->conf.wake);
        t->put_any = false;
    }
    time_passes(t, now);
    if (t->put_any)
        ring(t->conf.wake);
    t->put_any = false;
    if (!t->due_any)
        return -1;
    int64_t left = pl_mono_sub(t->next_due, now);
    return left > 0 ? left : 0;
}

static void *run(void *arg)
{
    struct relay_dtls_thread *t = arg;
    (void)pthread_setname_np(pthread_self(), "dtls"); /* by itself: another's name is a file, and files are refused under the lock */
    (void)pthread_setschedparam(pthread_self(), SCHED_OTHER, &(struct sched_param){ 0 }); /* where the relay goes before others (its unit), its packets go before handshakes */
    while (!atomic_load_explicit(&t->stop, memory_order_acquire)) {
        int64_t us = relay_dtls_work(t, pl_now_mono(t->conf.clock));
        struct pollfd f = { .fd = t->wake, .events = POLLIN };
        uint64_t rung;
        if (poll(&f, 1, us < 0 || us > IDLE_MS * PL_MS ? IDLE_MS : (int)((us + PL_MS - 1) / PL_MS)) == 1) {
            ssize_t done = read(t->wake, &rung, sizeof rung);
            (void)done;
        }
    }
    return NULL;
}

/* ---- Making and ending. */

static bool make_tables(struct relay_dtls_thread *t)
{
    for (t->buckets_n = 1; t->buckets_n < t->conf.max_open; t->buckets_n *= 2)
        continue;
    t->all = pl_heap(t->conf.max_open * sizeof *t->all);
    t->buckets = pl_heap(t->buckets_n * sizeof *t->buckets);
    if (!t->all || !t->buckets || !relay_queue_init(&t->jobs, sizeof(struct job), JOBS) || !relay_queue_init(&t->results, sizeof(struct result), RESULTS))
        return false;
    for (unsigned i = t->conf.max_open; i-- > 0; t->free = &t->all[i])
        t->all[i].next = t->free;
    return true;
}

enum pl_err relay_dtls_new(const struct relay_dtls_conf *conf, struct relay_dtls_thread **ret, struct pl_fail *reterr)
{
    struct relay_dtls_thread *t = pl_heap(sizeof *t);
    if (!t)
        return PL_NO_MEMORY;
    t->conf = *conf;
    t->sink.send = send_datagram;
    t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum pl_err e = t->wake < 0 ? pl_fail(reterr, PL_UNAVAILABLE, "the DTLS thread cannot wait: %m") : make_tables(t) ? PL_OK : PL_NO_MEMORY;
    if (e == PL_OK && (e = dtls_context_new(pl_now_utc(conf->clock), &t->context)) == PL_UNAVAILABLE)
        (void)pl_fail(reterr, e, "DTLS 1.2 does not work on this machine.");
    if (e != PL_OK) {
        relay_dtls_free(t);
        return e;
    }
    *ret = t;
    return PL_OK;
}

const uint8_t *relay_dtls_fingerprint(const struct relay_dtls_thread *t) { return dtls_fingerprint(t->context); }

enum pl_err relay_dtls_start(struct relay_dtls_thread *t, struct pl_fail *reterr)
{
    sigset_t all, old; /* as the media thread: signals are the main thread's, SIGSYS apart */
    sigfillset(&all);
    sigdelset(&all, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&t->thread, NULL, run, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed)
        return pl_fail(reterr, PL_NO_MEMORY, "the DTLS thread cannot be started.");
    t->started = true;
    return PL_OK;
}

struct relay_dtls_thread *relay_dtls_free(struct relay_dtls_thread *t)
{
    if (!t)
        return NULL;
    if (t->started) {
        atomic_store_explicit(&t->stop, true, memory_order_release);
        ring(t->wake);
        pthread_join(t->thread, NULL);
    }
    for (unsigned i = 0; t->all && i < t->conf.max_open; i++)
        dtls_free(t->all[i].d);
    dtls_context_free(t->context);
    while (t->results.slots && relay_queue_peek(&t->results))
        relay_dtls_next(t);
    pl_heap_free(t->jobs.slots);
    pl_heap_free(t->results.slots);
    pl_heap_free(t->buckets);
    pl_heap_free(t->all);
    if (t->wake >= 0)
        close(t->wake);
    return pl_heap_free(t);
}

void relay_dtls_counts(const struct relay_dtls_thread *t, struct relay_dtls_counts *ret)
{
    struct relay_dtls_counts c = { .open = atomic_load_explicit(&t->counts.open, memory_order_relaxed) };
    const struct { const atomic_uint_least64_t *from; uint64_t *to; } plain[] = { { &t->counts.started, &c.started }, { &t->counts.finished, &c.finished },
        { &t->counts.refused, &c.refused }, { &t->counts.dropped, &c.dropped } };
    for (size_t i = 0; i < PL_COUNT(plain); i++)
        *plain[i].to = atomic_load_explicit(plain[i].from, memory_order_relaxed);
    for (unsigned i = 0; i < DTLS_FAILURES; i++)
        c.failed[i] = atomic_load_explicit(&t->counts.failed[i], memory_order_relaxed);
    *ret = c;
}
