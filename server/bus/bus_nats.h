/* bus_nats.h - private to bus/: the far side on NATS. bus_nats.c keeps the connection and the subscriptions, bus_want.c what is to be heard,
 * bus_ask.c what is said.
 *
 * Nothing of libnats is seen outside bus/. Threads and locks: bus_nats.c.
 */
#pragma once
#include "bus_int.h"
#include <nats/nats.h>

#define NUDGES "porchlight.n."
#define ASKS "porchlight.a."
#define SERVES "porchlight.s."
#define REPLIES "porchlight.r."
#define LOOK "porchlight.look"
#define NAME_BYTES (BUS_SUBJECT + 32)

enum { BUS_M_UP, BUS_M_LOST, BUS_M_NUDGES, BUS_M_ASKS, BUS_M_REFUSED };
void bus_count(int metric);

/* One subject that somebody in this process watches or serves. */
struct interest {
    struct interest *next;   /* LOCK: far->lock */
    struct interest *queued; /* LOCK: far->lock; next in far->changed */
    bool is_queued;          /* LOCK: far->lock */
    int refs;                /* LOCK: far->lock; below 0 for a moment when an unwant overtakes its want */
    bool yielded;            /* LOCK: far->lock; a newer server on another node answers, not we */
    enum bus_want what;
    natsSubscription *sub;   /* the keeper's */
    char subject[BUS_SUBJECT + 1];
};

struct bus_far {
    struct bus *bus;
    struct bus_far *next;     /* LOCK: registry.lock */
    unsigned inside;          /* LOCK: registry.lock; callbacks of the library that are in here */
    uint64_t id;
    const struct pl_log *log;
    struct pl_secret key;
    char box[17];             /* this bus among all: 16 hex digits */
    natsOptions *options;
    natsConnection *nats;     /* the keeper's; others only while up */
    natsSubscription *fixed[3];
    pthread_mutex_t lock;
    pthread_cond_t settled;
    pthread_t keeper;
    bool keeping;
    int wake;                 /* eventfd */
    bool stopping;            /* LOCK: lock */
    bool up;                  /* LOCK: lock; connected, and what we want is known there */
    bool came, closed, look;  /* LOCK: lock; for the keeper */
    uint64_t turns;           /* LOCK: lock; how often the connection came or went */
    uint64_t asked, done;     /* LOCK: lock; tickets of changes to interests */
    struct interest *buckets[BUS_BUCKETS]; /* LOCK: lock */
    struct interest *changed; /* LOCK: lock */
    struct interest *ended;   /* the keeper's; unsubscribed, to be freed after the next flush */
    struct bus_ask *waiting;  /* LOCK: lock */
    unsigned sending;         /* LOCK: lock; who publishes just now */
    uint64_t tokens;          /* LOCK: lock */
    uint64_t stamp;           /* LOCK: lock */
};

/* bus_nats.c */
struct bus_far *bus_far_enter(uint64_t id); /* NULL: it has gone. Else until bus_far_leave it stays */
void bus_far_leave(struct bus_far *f);
/* False when NATS is away. `reply`: where answers go, or NULL. */
bool bus_far_publish(struct bus_far *f, const char *name, const char *reply, struct pl_str bytes);
void bus_far_name(char out[NAME_BYTES], const char *prefix, const char *subject);
/* "hub.X" of "porchlight.a.hub.X"; NULL when it is none of ours. */
const char *bus_far_subject(const char *name, const char *prefix);

void bus_far_wake(struct bus_far *f); /* the keeper */

/* bus_want.c, for the keeper */
/* The next change. What nobody wants any more leaves the table here: who wants it again makes a new one. While NATS is not `there`, only what has no subscription.
 * NULL: none is left. */
struct interest *bus_want_take(struct bus_far *f, bool there, int *ret_refs);
/* Everything may have changed. Under the lock. */
void bus_want_queue_all(struct bus_far *f);
/* A server here stepped back: until we are no longer asked, we leave the answer to the newer one. */
void bus_far_yield(struct bus_far *f, const char *subject);
/* Whether a question for which nobody is here is answered by another node, or came in the moment in which we unsubscribe. */
bool bus_far_is_not_ours(struct bus_far *f, const char *subject);

/* bus_ask.c: messages that have come. The caller frees them. */
void bus_far_take_ask(struct bus_far *f, natsMsg *msg);
void bus_far_take_answer(struct bus_far *f, natsMsg *msg);
void bus_far_take_serves(struct bus_far *f, natsMsg *msg);
/* NATS has gone: whoever waits for another node learns it. */
void bus_far_fail_all(struct bus_far *f);
