/* What this node wants to hear of the others: subjects that somebody here watches or serves, counted. Changes are queued for the keeper, which makes the
 * subscriptions what is wanted (settle, bus_nats.c); who must know that they are there waits for the ticket of the change. */
#include "bus_nats.h"
#include <stdio.h>

/* Under the lock. */
static struct interest *interest_find(struct bus_far *f, enum bus_want what, const char *subject)
{
    struct interest *i = f->buckets[bus_hash(subject)];
    while (i && (i->what != what || strcmp(i->subject, subject) != 0))
        i = i->next;
    return i;
}

static struct interest *interest_of(struct bus_far *f, enum bus_want what, const char *subject)
{
    struct interest **list = &f->buckets[bus_hash(subject)], *i = interest_find(f, what, subject);
    if (i)
        return i;
    i = pl_heap(sizeof *i);
    if (!i)
        return NULL;
    i->what = what;
    snprintf(i->subject, sizeof i->subject, "%s", subject);
    i->next = *list;
    *list = i;
    return i;
}

static void queue(struct bus_far *f, struct interest *i)
{
    f->asked++;
    if (i->is_queued)
        return;
    i->is_queued = true;
    i->queued = f->changed;
    f->changed = i;
}

/* Returns the ticket at which the change is done; 0 when there was no memory. */
static uint64_t change(struct bus_far *f, enum bus_want what, const char *subject, int by)
{
    PL_LOCK(&f->lock);
    struct interest *i = interest_of(f, what, subject);
    if (!i)
        return 0;
    i->refs += by;
    i->yielded = i->yielded && by < 0;
    queue(f, i);
    return f->asked;
}

static void await(struct bus_far *f, uint64_t ticket)
{
    if (pthread_equal(pthread_self(), f->keeper)) /* a handler that the keeper calls: it would wait for itself */
        return;
    PL_LOCK(&f->lock);
    while (f->up && f->done < ticket)
        pthread_cond_wait(&f->settled, &f->lock);
}

enum pl_err bus_far_want(struct bus_far *f, enum bus_want what, const char *subject)
{
    uint64_t ticket = change(f, what, subject, 1);
    if (!ticket)
        return PL_NO_MEMORY;
    bus_far_wake(f);
    await(f, ticket);
    return PL_OK;
}

void bus_far_unwant(struct bus_far *f, enum bus_want what, const char *subject, bool wait)
{
    uint64_t ticket = change(f, what, subject, -1); /* without memory we stay subscribed, and answer that nobody is here */
    bus_far_wake(f);
    if (wait)
        await(f, ticket);
}

void bus_far_yield(struct bus_far *f, const char *subject)
{
    PL_LOCK(&f->lock);
    struct interest *i = interest_find(f, BUS_WANT_ASKS, subject);
    if (i)
        i->yielded = true;
}

bool bus_far_is_not_ours(struct bus_far *f, const char *subject)
{
    PL_LOCK(&f->lock);
    const struct interest *i = interest_find(f, BUS_WANT_ASKS, subject);
    return !i || i->yielded;
}

/* Under the lock. */
static void interest_take_out(struct bus_far *f, const struct interest *i)
{
    struct interest **at = &f->buckets[bus_hash(i->subject)];
    while (*at != i)
        at = &(*at)->next;
    *at = i->next;
}

struct interest *bus_want_take(struct bus_far *f, bool there, int *ret_refs)
{
    PL_LOCK(&f->lock);
    struct interest *i = f->changed;
    if (!i)
        return NULL;
    f->changed = i->queued;
    i->is_queued = false;
    *ret_refs = i->refs;
    if (i->refs == 0 && (there || !i->sub))
        interest_take_out(f, i);
    return i;
}

void bus_want_queue_all(struct bus_far *f)
{
    for (size_t b = 0; b < BUS_BUCKETS; b++)
        for (struct interest *i = f->buckets[b]; i; i = i->next)
            queue(f, i);
}
