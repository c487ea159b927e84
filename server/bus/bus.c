/* The in-process bus: a hash table of watchers and servers by subject. An entry that is being called is pinned (`running`), so that the lock is never held
 * while somebody else's code runs, and taking an entry out waits for its pins. */
#include "bus.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BUCKETS 4096
#define MAX_SUBJECT 160
#define MAX_BYTES (64 * 1024)
#define MAX_WAIT (10 * PL_SECOND)
/* How long an asker waits before it looks at the clock again: the clock may be one that a test moves. */
#define LOOK_AGAIN (50 * PL_MS)

enum kind { WATCH, SERVER };
struct entry {
    struct entry *next;
    struct bus *bus;
    enum kind kind;
    unsigned running; /* LOCK: bus->lock; calls under way */
    bool gone;        /* LOCK: bus->lock; not to be called again */
    void *self;
    size_t n; /* bytes of the subject, without the star */
    char subject[MAX_SUBJECT + 1];
};
struct bus_watch {
    struct entry e; /* first: the table holds entries */
    void (*on)(void *self, const char *subject);
};
struct bus_server {
    struct entry e;
    void (*on)(void *self, struct bus_ask *ask, struct pl_str bytes);
};

struct bus {
    const struct pl_clock *clock;
    pthread_mutex_t lock;
    pthread_cond_t unpinned;
    struct entry *buckets[BUCKETS]; /* LOCK: lock; newest first */
    struct entry *below;            /* LOCK: lock; watchers of "x.*" */
};

/* Two hold it: the asker and whoever will answer. */
struct bus_ask {
    pthread_mutex_t lock;
    unsigned holders;  /* LOCK: lock */
    bool answered;     /* LOCK: lock */
    enum pl_err e;     /* LOCK: lock */
    char *bytes;       /* LOCK: lock; heap */
    size_t n;          /* LOCK: lock */
    int wake;          /* eventfd */
};

enum pl_err bus_new(const struct pl_clock *clock, struct bus **ret)
{
    struct bus *b = pl_heap(sizeof *b);
    if (!b)
        return PL_NO_MEMORY;
    b->clock = clock;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->unpinned, NULL);
    *ret = b;
    return PL_OK;
}

struct bus *bus_free(struct bus *b)
{
    if (!b)
        return NULL;
    pthread_cond_destroy(&b->unpinned);
    pthread_mutex_destroy(&b->lock);
    return pl_heap_free(b);
}

/* FNV-1a: subjects are made by us, from serials that were checked, so nobody chooses collisions. */
static struct entry **bucket(struct bus *b, const char *subject)
{
    uint32_t h = 2166136261u;
    for (const char *c = subject; *c; c++)
        h = (h ^ (uint8_t)*c) * 16777619u;
    return &b->buckets[h % BUCKETS];
}

static struct entry **list_of(struct bus *b, const struct entry *e)
{
    return e->subject[e->n] ? &b->below : bucket(b, e->subject);
}

static enum pl_err entry_init(struct entry *e, struct bus *b, enum kind kind, const char *subject, void *self)
{
    size_t n = strlen(subject);
    bool star = n >= 2 && subject[n - 1] == '*' && subject[n - 2] == '.';
    if (n == 0 || n > MAX_SUBJECT || (star && kind == SERVER))
        return PL_INVALID_REQUEST;
    *e = (struct entry){ .bus = b, .kind = kind, .self = self, .n = star ? n - 1 : n };
    memcpy(e->subject, subject, n);
    return PL_OK;
}

static void put_in(struct entry *e)
{
    PL_LOCK(&e->bus->lock);
    struct entry **list = list_of(e->bus, e);
    e->next = *list;
    *list = e;
}

/* Returns when nobody runs in it any more. Must not be called from inside the entry's own handler: that would wait for itself. */
static void take_out(struct entry *e)
{
    PL_LOCK(&e->bus->lock);
    e->gone = true;
    while (e->running)
        pthread_cond_wait(&e->bus->unpinned, &e->bus->lock);
    struct entry **at = list_of(e->bus, e);
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
}

static void unpin(struct entry *e)
{
    if (--e->running == 0 && e->gone)
        pthread_cond_broadcast(&e->bus->unpinned);
}

static bool watches(const struct entry *e, const char *subject)
{
    if (e->kind != WATCH || e->gone)
        return false;
    /* Below, the rest must not be empty; else it is the whole. */
    return e->subject[e->n] ? strncmp(e->subject, subject, e->n) == 0 && subject[e->n] : strcmp(e->subject, subject) == 0;
}

/* A pinned entry stays in its list, so its `next` may be followed after the call; those put in meanwhile stand before it and are not called. */
static void nudge_list(struct bus *b, struct entry *first, const char *subject)
{
    for (struct entry *e = first; e; e = e->next) {
        if (!watches(e, subject))
            continue;
        struct entry *called = e;
        called->running++;
        pthread_mutex_unlock(&b->lock);
        ((struct bus_watch *)called)->on(called->self, subject);
        pthread_mutex_lock(&b->lock);
        unpin(called);
    }
}

void bus_nudge(struct bus *b, const char *subject)
{
    PL_LOCK(&b->lock);
    nudge_list(b, *bucket(b, subject), subject);
    nudge_list(b, b->below, subject);
}

enum pl_err bus_watch(struct bus *b, const char *subject, void (*on)(void *self, const char *subject), void *self, struct bus_watch **ret)
{
    struct bus_watch *w = pl_heap(sizeof *w);
    if (!w)
        return PL_NO_MEMORY;
    enum pl_err e = entry_init(&w->e, b, WATCH, subject, self);
    if (e != PL_OK) {
        pl_heap_free(w);
        return e;
    }
    w->on = on;
    put_in(&w->e);
    *ret = w;
    return PL_OK;
}

struct bus_watch *bus_unwatch(struct bus_watch *w)
{
    if (w)
        take_out(&w->e);
    return pl_heap_free(w);
}

enum pl_err bus_serve(struct bus *b, const char *subject, void (*on)(void *self, struct bus_ask *ask, struct pl_str bytes), void *self, struct bus_server **ret)
{
    struct bus_server *s = pl_heap(sizeof *s);
    if (!s)
        return PL_NO_MEMORY;
    enum pl_err e = entry_init(&s->e, b, SERVER, subject, self);
    if (e != PL_OK) {
        pl_heap_free(s);
        return e;
    }
    s->on = on;
    put_in(&s->e);
    *ret = s;
    return PL_OK;
}

struct bus_server *bus_unserve(struct bus_server *s)
{
    if (s)
        take_out(&s->e);
    return pl_heap_free(s);
}

static struct bus_ask *ask_new(void)
{
    struct bus_ask *q = pl_heap(sizeof *q);
    if (!q)
        return NULL;
    pthread_mutex_init(&q->lock, NULL);
    q->holders = 2;
    q->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->wake < 0) {
        pthread_mutex_destroy(&q->lock);
        return pl_heap_free(q);
    }
    return q;
}

/* The caller lets go of the question and does not hold its lock. */
static void ask_let_go(struct bus_ask *q)
{
    pthread_mutex_lock(&q->lock);
    bool last = --q->holders == 0;
    pthread_mutex_unlock(&q->lock);
    if (!last)
        return;
    close(q->wake);
    pthread_mutex_destroy(&q->lock);
    if (q->bytes)
        explicit_bzero(q->bytes, q->n);
    pl_heap_free(q->bytes);
    pl_heap_free(q);
}

void bus_answer(struct bus_ask *q, enum pl_err e, struct pl_str bytes)
{
    char *copy = NULL;
    if (e == PL_OK && bytes.n > MAX_BYTES)
        e = PL_INTERNAL;
    if (e == PL_OK && bytes.n && !(copy = pl_heap(bytes.n)))
        e = PL_NO_MEMORY;
    if (copy)
        memcpy(copy, bytes.p, bytes.n);
    pthread_mutex_lock(&q->lock);
    q->answered = true;
    q->e = e;
    q->bytes = copy;
    q->n = copy ? bytes.n : 0;
    uint64_t one = 1;
    ssize_t done = write(q->wake, &one, sizeof one);
    (void)done; /* an eventfd that is written once has room */
    pthread_mutex_unlock(&q->lock);
    ask_let_go(q);
}

/* Hands the question to the newest server of the subject. False when there is none. */
static bool ask_server(struct bus *b, const char *subject, struct bus_ask *q, struct pl_str bytes)
{
    PL_LOCK(&b->lock);
    struct entry *e = *bucket(b, subject);
    while (e && (e->kind != SERVER || e->gone || strcmp(e->subject, subject) != 0))
        e = e->next;
    if (!e)
        return false;
    e->running++;
    pthread_mutex_unlock(&b->lock);
    ((struct bus_server *)e)->on(e->self, q, bytes);
    pthread_mutex_lock(&b->lock);
    unpin(e);
    return true;
}

static enum pl_err ask_wait(struct bus *b, struct bus_ask *q, struct pl_mono deadline, struct pl_arena *a, struct pl_str *ret, struct pl_fail *reterr)
{
    for (;;) {
        int64_t left = pl_mono_sub(deadline, pl_now_mono(b->clock));
        PL_LOCK(&q->lock);
        if (q->answered && q->e != PL_OK)
            return q->e;
        if (q->answered) {
            struct pl_str copy = pl_str_dup(a, (struct pl_str){ q->bytes ? q->bytes : "", q->n });
            if (!copy.p)
                return PL_NO_MEMORY;
            *ret = copy;
            return PL_OK;
        }
        if (left <= 0)
            return pl_fail(reterr, PL_TOO_SLOW, "There was no answer in time.");
        pthread_mutex_unlock(&q->lock);
        poll(&(struct pollfd){ .fd = q->wake, .events = POLLIN }, 1, (int)((left < LOOK_AGAIN ? left + PL_MS - 1 : LOOK_AGAIN) / PL_MS));
        pthread_mutex_lock(&q->lock);
    }
}

enum pl_err bus_ask(struct bus *b, const char *subject, struct pl_str bytes, int64_t timeout_us, struct pl_arena *a, struct pl_str *ret, struct pl_fail *reterr)
{
    if (bytes.n > MAX_BYTES || timeout_us > MAX_WAIT)
        return pl_fail(reterr, PL_INTERNAL, "The question is too long.");
    struct pl_mono deadline = pl_mono_add(pl_now_mono(b->clock), timeout_us);
    struct bus_ask *q = ask_new();
    if (!q)
        return PL_NO_MEMORY;
    enum pl_err e;
    if (ask_server(b, subject, q, bytes))
        e = ask_wait(b, q, deadline, a, ret, reterr);
    else {
        e = pl_fail(reterr, PL_UNAVAILABLE, "It is not connected.");
        ask_let_go(q); /* for the server that there is not */
    }
    ask_let_go(q);
    return e;
}
