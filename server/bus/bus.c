/* The bus in this process: a hash table of watchers and servers by subject. An entry that is being called is pinned (`running`), so that the lock is never held
 * while somebody else's code runs, and taking an entry out waits for its pins. */
#include "bus_int.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAX_WAIT (10 * PL_SECOND)
/* How long an asker waits before it looks at the clock again: the clock may be one that a test moves. */
#define LOOK_AGAIN (50 * PL_MS)

struct bus_watch {
    struct bus_entry e; /* first: the table holds entries */
    void (*on)(void *self, const char *subject);
};
struct bus_server {
    struct bus_entry e;
    void (*on)(void *self, struct bus_ask *ask, struct pl_str bytes);
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
    b->far = bus_far_free(b->far);
    pthread_cond_destroy(&b->unpinned);
    pthread_mutex_destroy(&b->lock);
    return pl_heap_free(b);
}

/* FNV-1a: subjects are made by us, from serials that were checked, so nobody chooses collisions. */
uint32_t bus_hash(const char *subject)
{
    uint32_t h = 2166136261u;
    for (const char *c = subject; *c; c++)
        h = (h ^ (uint8_t)*c) * 16777619u;
    return h % BUS_BUCKETS;
}

static struct bus_entry **bucket(struct bus *b, const char *subject) { return &b->buckets[bus_hash(subject)]; }

static struct bus_entry **list_of(struct bus *b, const struct bus_entry *e)
{
    return e->subject[e->n] ? &b->below : bucket(b, e->subject);
}

/* Printable ASCII without blanks, in words between dots: what every implementation can carry. */
static bool subject_fits(const char *subject, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (subject[i] <= ' ' || subject[i] > '~' || subject[i] == '*' || subject[i] == '>' || (subject[i] == '.' && (i == 0 || i + 1 == n || subject[i + 1] == '.')))
            return false;
    return n > 0 && n <= BUS_SUBJECT;
}

static enum pl_err entry_init(struct bus_entry *e, struct bus *b, enum bus_kind kind, const char *subject, void *self)
{
    size_t n = strlen(subject);
    bool star = n >= 2 && subject[n - 1] == '*' && subject[n - 2] == '.';
    if (n > BUS_SUBJECT || !subject_fits(subject, star ? n - 2 : n) || (star && kind == BUS_SERVER))
        return PL_INVALID_REQUEST;
    *e = (struct bus_entry){ .bus = b, .kind = kind, .self = self, .n = star ? n - 1 : n };
    memcpy(e->subject, subject, n);
    return PL_OK;
}

static void put_in(struct bus_entry *e)
{
    PL_LOCK(&e->bus->lock);
    struct bus_entry **list = list_of(e->bus, e);
    e->next = *list;
    *list = e;
}

/* Returns when nobody runs in it any more. Must not be called from inside the entry's own handler: that would wait for itself. */
static void take_out(struct bus_entry *e)
{
    PL_LOCK(&e->bus->lock);
    e->gone = true;
    while (e->running)
        pthread_cond_wait(&e->bus->unpinned, &e->bus->lock);
    struct bus_entry **at = list_of(e->bus, e);
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
}

static void unpin(struct bus_entry *e)
{
    if (--e->running == 0 && e->gone)
        pthread_cond_broadcast(&e->bus->unpinned);
}

static bool watches(const struct bus_entry *e, const char *subject)
{
    if (e->kind != BUS_WATCH || e->gone)
        return false;
    /* Below, the rest must not be empty; else it is the whole. */
    return e->subject[e->n] ? strncmp(e->subject, subject, e->n) == 0 && subject[e->n] : strcmp(e->subject, subject) == 0;
}

/* A pinned entry stays in its list, so its `next` may be followed after the call; those put in meanwhile stand before it and are not called. */
static void nudge_list(struct bus *b, struct bus_entry *first, const char *subject)
{
    for (struct bus_entry *e = first; e; e = e->next) {
        if (!watches(e, subject))
            continue;
        struct bus_entry *called = e;
        called->running++;
        pthread_mutex_unlock(&b->lock);
        ((struct bus_watch *)called)->on(called->self, subject);
        pthread_mutex_lock(&b->lock);
        unpin(called);
    }
}

void bus_nudge_here(struct bus *b, const char *subject, unsigned which)
{
    PL_LOCK(&b->lock);
    if (which & BUS_EXACT)
        nudge_list(b, *bucket(b, subject), subject);
    if (which & BUS_BELOW)
        nudge_list(b, b->below, subject);
}

static void nudge_each(struct bus *b, struct bus_entry *first)
{
    for (struct bus_entry *e = first; e; e = e->next) {
        if (e->kind != BUS_WATCH || e->gone)
            continue;
        struct bus_entry *called = e;
        called->running++;
        pthread_mutex_unlock(&b->lock);
        ((struct bus_watch *)called)->on(called->self, called->subject);
        pthread_mutex_lock(&b->lock);
        unpin(called);
    }
}

void bus_nudge_all_here(struct bus *b)
{
    PL_LOCK(&b->lock);
    nudge_each(b, b->below);
    for (size_t i = 0; i < BUS_BUCKETS; i++)
        nudge_each(b, b->buckets[i]);
}

void bus_nudge(struct bus *b, const char *subject)
{
    bus_nudge_here(b, subject, BUS_EXACT | BUS_BELOW);
    if (b->far && subject_fits(subject, strlen(subject)))
        bus_far_nudge(b->far, subject);
}

enum pl_err bus_watch(struct bus *b, const char *subject, void (*on)(void *self, const char *subject), void *self, struct bus_watch **ret)
{
    struct bus_watch *w = pl_heap(sizeof *w);
    if (!w)
        return PL_NO_MEMORY;
    enum pl_err e = entry_init(&w->e, b, BUS_WATCH, subject, self);
    if (e != PL_OK) {
        pl_heap_free(w);
        return e;
    }
    w->on = on;
    put_in(&w->e);
    if (b->far && (e = bus_far_want(b->far, BUS_WANT_NUDGES, w->e.subject)) != PL_OK) {
        take_out(&w->e);
        pl_heap_free(w);
        return e;
    }
    *ret = w;
    return PL_OK;
}

struct bus_watch *bus_unwatch(struct bus_watch *w)
{
    if (w)
        take_out(&w->e);
    if (w && w->e.bus->far)
        bus_far_unwant(w->e.bus->far, BUS_WANT_NUDGES, w->e.subject, /* wait= */ false);
    return pl_heap_free(w);
}

enum pl_err bus_serve(struct bus *b, const char *subject, void (*on)(void *self, struct bus_ask *ask, struct pl_str bytes), void *self, struct bus_server **ret)
{
    struct bus_server *s = pl_heap(sizeof *s);
    if (!s)
        return PL_NO_MEMORY;
    enum pl_err e = entry_init(&s->e, b, BUS_SERVER, subject, self);
    if (e != PL_OK) {
        pl_heap_free(s);
        return e;
    }
    s->on = on;
    if (b->far)
        s->e.stamp = bus_far_stamp(b->far);
    uint64_t stamp = s->e.stamp;
    put_in(&s->e);
    if (b->far && (e = bus_far_want(b->far, BUS_WANT_ASKS, subject)) != PL_OK) {
        take_out(&s->e);
        pl_heap_free(s);
        return e;
    }
    if (b->far) /* after the others can reach it: between the two, two serve, and the first answer counts */
        bus_far_serves(b->far, subject, stamp);
    *ret = s;
    return PL_OK;
}

struct bus_server *bus_unserve(struct bus_server *s)
{
    if (s)
        take_out(&s->e); /* from here on nobody else touches it */
    if (s && s->e.bus->far && !s->e.yielded) {
        bus_far_unwant(s->e.bus->far, BUS_WANT_ASKS, s->e.subject, /* wait= */ true);
        bus_far_serves(s->e.bus->far, s->e.subject, 0);
    }
    return pl_heap_free(s);
}

/* Asked here: there is something to wait at. */
static struct bus_ask *ask_new(bool here)
{
    struct bus_ask *q = pl_heap(sizeof *q);
    if (!q)
        return NULL;
    pthread_mutex_init(&q->lock, NULL);
    q->holders = here ? 2 : 1;
    q->wake = here ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (here && q->wake < 0) {
        pthread_mutex_destroy(&q->lock);
        return pl_heap_free(q);
    }
    return q;
}

struct bus_ask *bus_ask_from_far(uint64_t far_id, const char *reply)
{
    struct bus_ask *q = ask_new(false);
    if (!q)
        return NULL;
    struct pl_buf b = pl_buf_fixed(q->reply, sizeof q->reply);
    pl_buf_z(&b, reply); /* our own nodes' are short; a longer one cannot be answered */
    q->far_id = far_id;
    return q;
}

/* The caller lets go of the question and does not hold its lock. */
void bus_ask_let_go(struct bus_ask *q)
{
    pthread_mutex_lock(&q->lock);
    bool last = --q->holders == 0;
    pthread_mutex_unlock(&q->lock);
    if (!last)
        return;
    if (q->wake >= 0)
        close(q->wake);
    pthread_mutex_destroy(&q->lock);
    if (q->bytes)
        explicit_bzero(q->bytes, q->n);
    pl_heap_free(q->bytes);
    pl_heap_free(q);
}

void bus_ask_end(struct bus_ask *q, enum pl_err e, struct pl_str bytes)
{
    char *copy = NULL;
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
    bus_ask_let_go(q);
}

void bus_answer(struct bus_ask *q, enum pl_err e, struct pl_str bytes)
{
    if (e == PL_OK && bytes.n > BUS_BYTES)
        e = PL_INTERNAL;
    if (!q->far_id) {
        bus_ask_end(q, e, bytes);
        return;
    }
    bus_far_answer(q, e, bytes);
    bus_ask_let_go(q);
}

static struct bus_entry *newest_server(struct bus *b, const char *subject)
{
    struct bus_entry *e = *bucket(b, subject);
    while (e && (e->kind != BUS_SERVER || e->gone || e->yielded || strcmp(e->subject, subject) != 0))
        e = e->next;
    return e;
}

bool bus_ask_here(struct bus *b, const char *subject, struct bus_ask *q, struct pl_str bytes)
{
    PL_LOCK(&b->lock);
    struct bus_entry *e = newest_server(b, subject);
    if (!e)
        return false;
    e->running++;
    pthread_mutex_unlock(&b->lock);
    ((struct bus_server *)e)->on(e->self, q, bytes);
    pthread_mutex_lock(&b->lock);
    unpin(e);
    return true;
}

unsigned bus_yield_here(struct bus *b, const char *subject, uint64_t stamp)
{
    unsigned n = 0;
    PL_LOCK(&b->lock);
    for (struct bus_entry *e = *bucket(b, subject); e; e = e->next)
        if (e->kind == BUS_SERVER && !e->gone && !e->yielded && e->stamp < stamp && strcmp(e->subject, subject) == 0) {
            e->yielded = true;
            n++;
        }
    return n;
}

unsigned bus_return_here(struct bus *b, const char *subject, uint64_t stamp)
{
    unsigned n = 0;
    PL_LOCK(&b->lock);
    for (struct bus_entry *e = *bucket(b, subject); e; e = e->next)
        if (e->kind == BUS_SERVER && !e->gone && e->yielded && strcmp(e->subject, subject) == 0) {
            e->yielded = false;
            e->stamp = stamp;
            n++;
        }
    return n;
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
    if (bytes.n > BUS_BYTES || timeout_us > MAX_WAIT)
        return pl_fail(reterr, PL_INTERNAL, "The question is too long.");
    struct pl_mono deadline = pl_mono_add(pl_now_mono(b->clock), timeout_us);
    struct bus_ask *q = ask_new(true);
    if (!q)
        return PL_NO_MEMORY;
    enum pl_err e;
    if (bus_ask_here(b, subject, q, bytes))
        e = ask_wait(b, q, deadline, a, ret, reterr);
    else if (b->far && subject_fits(subject, strlen(subject)) && bus_far_ask(b->far, subject, q, bytes, timeout_us)) {
        e = ask_wait(b, q, deadline, a, ret, reterr);
        bus_far_forget(b->far, q);
    } else {
        e = PL_UNAVAILABLE;
        bus_ask_let_go(q); /* for the server that there is not */
    }
    bus_ask_let_go(q);
    return e == PL_UNAVAILABLE ? pl_fail(reterr, e, "It is not connected.") : e;
}
