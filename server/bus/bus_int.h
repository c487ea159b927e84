/* bus_int.h - private to bus/: the table of watchers and servers in this process (bus.c), and the way to other nodes (bus_nats.c), which may be absent.
 *
 * Here: a nudge or an ask is served from the table by its caller's thread. Far: the same subjects on NATS, below a prefix. Locks: bus->lock is held over
 * neither a handler nor a call of the far side; far's own lock may not be held over either.
 */
#pragma once
#include "bus.h"

#define BUS_BUCKETS 4096
#define BUS_SUBJECT 160
#define BUS_BYTES (64 * 1024)

struct bus_far;

enum bus_kind { BUS_WATCH, BUS_SERVER };
struct bus_entry {
    struct bus_entry *next;
    struct bus *bus;
    enum bus_kind kind;
    unsigned running; /* LOCK: bus->lock; calls under way */
    bool gone;        /* LOCK: bus->lock; not to be called again */
    bool yielded;     /* LOCK: bus->lock; a server: a newer one of the same subject is on another node */
    uint64_t stamp;   /* LOCK: bus->lock; a server: larger is newer, over all nodes */
    void *self;
    size_t n; /* bytes of the subject, without the star */
    char subject[BUS_SUBJECT + 1];
};

struct bus {
    const struct pl_clock *clock;
    struct bus_far *far; /* NULL: in-process */
    pthread_mutex_t lock;
    pthread_cond_t unpinned;
    struct bus_entry *buckets[BUS_BUCKETS]; /* LOCK: lock; newest first */
    struct bus_entry *below;                /* LOCK: lock; watchers of "x.*" */
};

#define BUS_REPLY 64
/* Two hold it: the asker and whoever will answer. One that came from another node has no asker here, but a place where its answer goes. */
struct bus_ask {
    pthread_mutex_t lock;
    unsigned holders;     /* LOCK: lock */
    bool answered;        /* LOCK: lock */
    enum pl_err e;        /* LOCK: lock */
    char *bytes;          /* LOCK: lock; heap */
    size_t n;             /* LOCK: lock */
    int wake;             /* eventfd; -1: nobody waits here */
    uint64_t far_id;      /* which far side it came by; 0: asked here */
    char reply[BUS_REPLY];
    struct bus_ask *next; /* LOCK: far's; questions that wait for another node */
    uint64_t token;
};

/* ---- bus.c, for the far side ---- */

uint32_t bus_hash(const char *subject);
enum { BUS_EXACT = 1, BUS_BELOW = 2 };
/* Calls the watchers in this process: those of the subject, those of all below something, or both. */
void bus_nudge_here(struct bus *b, const char *subject, unsigned which);
/* Calls every watcher once, a starred one with its own subject. */
void bus_nudge_all_here(struct bus *b);
/* A question that has come from another node. NULL when there is no memory. */
struct bus_ask *bus_ask_from_far(uint64_t far_id, const char *reply);
/* Hands it to the newest server here. False when there is none. */
bool bus_ask_here(struct bus *b, const char *subject, struct bus_ask *q, struct pl_str bytes);
/* Ends a question: the bytes are copied. The holder that calls it lets go. */
void bus_ask_end(struct bus_ask *q, enum pl_err e, struct pl_str bytes);
void bus_ask_let_go(struct bus_ask *q);
/* Another node serves the subject since `stamp`: older servers here step back. Returns how many did. */
unsigned bus_yield_here(struct bus *b, const char *subject, uint64_t stamp);
/* It serves no more: those who stepped back come again, as new ones. Returns how many. */
unsigned bus_return_here(struct bus *b, const char *subject, uint64_t stamp);

/* ---- bus_nats.c ---- */

struct bus_far *bus_far_free(struct bus_far *f);
enum bus_want { BUS_WANT_NUDGES, BUS_WANT_ASKS };
/* This node wants what is said about the subject (counted). When NATS is there, every node knows it on return. */
PL_MUST enum pl_err bus_far_want(struct bus_far *f, enum bus_want what, const char *subject);
/* It does not any more. `wait`: every node knows it on return; a question that meets the change runs into its deadline. */
void bus_far_unwant(struct bus_far *f, enum bus_want what, const char *subject, bool wait);
/* Larger than every stamp that this node has seen. */
uint64_t bus_far_stamp(struct bus_far *f);
/* Tells the other nodes that a server of the subject is here since `stamp`; stamp 0: that it has gone. */
void bus_far_serves(struct bus_far *f, const char *subject, uint64_t stamp);
void bus_far_nudge(struct bus_far *f, const char *subject);
/* Sends the question; its end comes by bus_ask_end. False: not sent, NATS is away; then q has one holder less to come. */
bool bus_far_ask(struct bus_far *f, const char *subject, struct bus_ask *q, struct pl_str bytes, int64_t timeout_us);
/* The asker waits no more. */
void bus_far_forget(struct bus_far *f, struct bus_ask *q);
void bus_far_answer(const struct bus_ask *q, enum pl_err e, struct pl_str bytes);
