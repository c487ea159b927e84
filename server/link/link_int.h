/* link_int.h - the serving engine's insides. Private to link/.
 *
 * Three kinds of threads meet at a connection. The door (link_door.c) accepts, shakes hands where TLS is spoken (link_tls.h), reads the request without taking it, and
 * hands the socket to a thread of the class that the path names. That thread (link_thread.c) owns the socket: it alone calls libwebsockets. The pool (link_run.c,
 * link_message.c) runs the connection's jobs, one after the other.
 * link_conn.c is what they share: each field says whose it is. Locks, outer first: connection, thread, engine; none is held while foreign code runs.
 * Life of a connection: it has a reference while its socket lives, one while it has jobs, one while it waits on a thread's list, and those that link_ref gave out.
 */
#pragma once
#include "link.h"
#include "link_loop.h"

enum {
    LINK_WAITING_READY = 64,          /* messages of one connection that may wait for the pool; beyond, its socket is not read */
    LINK_WAITING_NEW = 4,             /* the same while nobody knows who it is */
    LINK_WAITING_BYTES = 128 * 1024,
    LINK_WAITING_POSTS = 4096,
    LINK_ARENA = 256 * 1024,
    LINK_TICK_MS = 100,
    LINK_CLOSE_TICKS = 50,            /* what is queued before a close may take 5 s to flush */
    LINK_MAX_THREADS = 4,
    LINK_DRAIN_BYTES = 200
};

struct link_node { struct link_node *prev, *next; };
static inline void link_list_init(struct link_node *head) { head->prev = head->next = head; }
static inline bool link_list_empty(const struct link_node *head) { return head->next == head; }
static inline void link_list_remove(struct link_node *n)
{
    if (n->next) {
        n->prev->next = n->next;
        n->next->prev = n->prev;
        n->prev = n->next = NULL;
    }
}
static inline void link_list_add(struct link_node *head, struct link_node *n)
{
    link_list_remove(n);
    n->prev = head->prev;
    n->next = head;
    n->prev->next = n;
    head->prev = n;
}
#define LINK_OF(node, member) ((struct link_conn *)(void *)((char *)(node) - offsetof(struct link_conn, member)))

struct link_job {
    struct link_job *next;
    enum { LINK_JOB_MESSAGE, LINK_JOB_POST, LINK_JOB_CLOSED } kind;
    enum pl_err (*fn)(struct link_call *call, void *arg, struct pl_fail *reterr); /**< POST */
    void *arg;
    size_t n, cap;
    char text[]; /**< MESSAGE */
};

struct link_address { unsigned char b[16]; }; /**< IPv4 as ::ffff:a.b.c.d */

struct link_conn {
    unsigned refs;   /**< atomic */
    uint32_t phase;  /**< atomic */
    void *owner;     /**< atomic */
    void (*owner_done)(void *owner);
    struct link_thread *thread; /**< valid until `gone` and no jobs */
    const struct link_protocol *proto;
    struct link_address address;
    char peer[48];
    struct pl_log log;

    pthread_mutex_t lock;
    struct link_queue out;             /* LOCK: lock */
    struct link_job *first, *last;     /* LOCK: lock */
    struct link_job *end;              /* LOCK: lock; the last job, made beforehand so that it cannot fail */
    unsigned waiting, posts;           /* LOCK: lock; messages, posts among the jobs */
    size_t waiting_bytes;              /* LOCK: lock */
    bool paused;                       /* LOCK: lock; its socket is not read until the pool has caught up */
    bool active;                       /* LOCK: lock; has jobs: is in the pool or parked */
    bool closing;                      /* LOCK: lock; no more sends */
    bool drop;                         /* LOCK: lock; refused: messages that wait are not handled any more */
    bool gone;                         /* LOCK: lock; the socket is given up: nothing can be added */
    int code;                          /* LOCK: lock; closing: what it is closed with */
    const char *reason;                /* LOCK: lock; static text */
    const char *ended;                 /* LOCK: lock; gone: why. Static text */

    bool dirty;                        /* LOCK: thread->lock */
    struct link_conn *next_dirty, *next_parked; /* LOCK: thread->lock */

    /* its thread's own */
    enum { LINK_ADOPTED, LINK_OPEN, LINK_CLOSING, LINK_OVER } state;
    struct lws *wsi;
    int fd;                            /**< until adopted */
    struct link_pump *pump;            /**< TLS: carries its bytes; NULL when that has ended */
    bool pumped;                       /**< TLS: the pump gives the slot back */
    struct link_node by_silence;       /**< in thread->quiet, pinged or leaving */
    struct link_node by_age;           /**< in thread->fresh until authenticated */
    struct link_node by_turn;          /**< in thread->all while it is open; whoever was looked at goes to the end */
    bool told;                         /**< link_drain: it was sent away */
    struct pl_mono since, heard, pinged;
    int64_t rate_us;                   /**< link_rate.c: when the bucket of frames is empty again */
    uint64_t known;                    /**< bytes of what callbacks told of */
    int64_t beside, flood;             /**< bytes of what they did not: at the last look; in its bucket */
    unsigned looked;                   /**< tick of the last look */
    unsigned close_tick;
    bool ping_due, flushed;
    struct link_job *partial;          /**< the message that is coming in */
    int peer_code;                     /**< what the peer closed with */
};

struct link_thread {
    struct link *engine;
    const struct link_protocol *proto;
    struct link_loop loop;
    struct lws_protocols protocols[2];
    pthread_mutex_t lock;
    struct link_conn *dirty;           /* LOCK: lock; something was asked of them */
    struct link_conn *arrived;         /* LOCK: lock; by next_dirty: sockets to adopt */
    struct link_conn *parked, **parked_end; /* LOCK: lock; jobs that found the pool full or the database away */
    bool stopping, quitting;           /* LOCK: lock */
    bool draining;                     /* LOCK: lock */
    bool db_away;                      /* atomic */

    /* the thread's own */
    struct link_node fresh, quiet, pinged, leaving; /**< by time: opened, heard, pinged, close began */
    struct link_node all;
    unsigned open;                     /**< how many are in `all` */
    struct link_conn *orphans;         /**< by next_dirty: adoption failed */
    struct link_node pumps, ending;    /**< link_pump.c */
    unsigned ticks;
    bool said_stop;
};

struct link_class {
    const struct link_protocol *proto;
    struct link_thread threads[LINK_MAX_THREADS];
    unsigned n, turn; /**< turn: the door's */
};

struct link_door;
struct link {
    struct link_conf conf;
    bool over_tls;
    struct ssl_ctx_st *tls;            /* LOCK: lock; NULL: none */
    struct link_class *classes;
    unsigned nclasses;
    struct link_door *door;
    struct pl_pool *pool;
    char address[64];
    pthread_mutex_t lock;
    pthread_cond_t idle;
    unsigned sockets;                  /* LOCK: lock; accepted and not yet closed */
    unsigned busy;                     /* LOCK: lock; connections with jobs */
    unsigned turns;                    /* LOCK: lock; times that one had none left, or was parked */
    unsigned grace_ticks;              /* LOCK: lock */
    bool stopping;                     /* LOCK: lock */
    struct pl_str drain;               /**< what link_drain says; written before any thread->draining */
    char drain_text[LINK_DRAIN_BYTES];
    unsigned drain_per_tick;
    struct link_count { struct link_address address; unsigned n; struct link_count *next; } **counts; /* LOCK: lock */
    size_t ncounts;
};

/* link.c: counters, one row each. */
enum link_metric {
    LINK_M_CONNECTIONS, LINK_M_OPENED, LINK_M_IN, LINK_M_OUT, LINK_M_UNKNOWN, LINK_M_PROTOCOL, LINK_M_LARGE, LINK_M_RATE, LINK_M_SLOW, LINK_M_LATE,
    LINK_M_SILENT, LINK_M_HANDLER, LINK_M_UNAVAILABLE, LINK_M_DOOR, LINK_M_FULL, LINK_M_TLS, LINK_M_PAUSED
};
void link_metric(enum link_metric m, int64_t by);
/* The largest message that any protocol takes. */
size_t link_largest(const struct link *l);
/* A slot for a connection of this address (all zeros: one whose share is not counted). PL_OVERLOADED: all are taken; PL_RATE_LIMITED: the address has its share. */
PL_MUST enum pl_err link_slot_take(struct link *l, const struct link_address *a);
void link_slot_free(struct link *l, const struct link_address *a);

/* link_door.c */
/* The context of l->tls, where the settings name a certificate. */
PL_MUST enum pl_err link_door_tls(struct link *l, struct pl_fail *reterr);
PL_MUST enum pl_err link_door_open(struct link *l, struct link_door **ret, struct pl_fail *reterr);
PL_MUST enum pl_err link_door_start(struct link_door *d);
struct link_door *link_door_close(struct link_door *d);
/* What a peeked request is. PL_SHORT: the head is not whole yet. PL_NOT_FOUND, PL_PROTOCOL: answer and close. */
PL_MUST enum pl_err link_door_route(const struct link_protocol *protocols, struct pl_str head, const struct link_protocol **ret);

/* link_thread.c */
PL_MUST enum pl_err link_thread_open(struct link_thread *t, struct link *l, const struct link_protocol *p, struct pl_fail *reterr);
/* Any thread: a connection with its fd, its slot and, where TLS is spoken, its pump. The thread owns them from here. */
void link_thread_give(struct link_thread *t, struct link_conn *c);
void link_thread_drain(struct link_thread *t);
void link_thread_stop(struct link_thread *t);
void link_thread_quit(struct link_thread *t);

/* link_rate.c: S-D13. Every frame that is told of counts as a message: whole ones, fragments, pongs. Pings and empty pongs are libwebsockets' own business; but bytes
 * that came in and belong to nothing told are known too, and for them there is a bucket as well. */
void link_rate_begin(struct link_thread *t, struct link_conn *c);
/* The end of a frame with the last n bytes of it; c->heard is now. false: too many. */
bool link_rate_frame(struct link_conn *c, size_t n);
/* n bytes of a frame that goes on. */
void link_rate_part(struct link_conn *c, size_t n);
/* Each tick: refuses who floods. */
void link_rate_watch(struct link_thread *t);

/* link_conn.c */
struct link_conn *link_conn_new(struct link *l, const struct link_protocol *p, int fd, const struct link_address *a);
/* As link_close, with any code. drop: messages that wait are not handled. */
void link_conn_close(struct link_conn *c, int code, const char *reason, bool drop);
/* Asks its thread to look at it. Needs c->lock held, and not gone. */
void link_conn_poke(struct link_conn *c);
/* Adds a job (the callee's from here) and sees that the pool runs it. Needs c->lock held. */
void link_conn_job(struct link_conn *c, struct link_job *job);
void link_conn_refuse(struct link_conn *c, enum pl_err why, enum link_metric m, const char *detail);

/* link_message.c: what is in a message, without effects. */
enum { LINK_ID_BYTES = 128, LINK_ERROR_BYTES = 4096 }; /* each byte of an id or a detail may become six */
struct link_parsed {
    struct json_doc *doc;
    const struct link_message *row; /**< NULL: the type is not known */
    void *self;                     /**< of its table */
    const void *msg;                /**< in the arena */
    struct pl_str id;               /**< lives as long as doc */
};
/* Fills a zeroed *m. JSON, type, phase and fields in that order; PL_PROTOCOL when one of them is wrong, with m->id as far as it came. */
PL_MUST enum pl_err link_message_parse(const struct link_protocol *p, uint32_t phase, struct pl_str text, struct pl_arena *a, struct link_parsed *m,
                                       struct pl_fail *reterr);
void link_parsed_done(struct link_parsed *m);
/* {"type":"error","re":id,"code":…,"detail":…} into at least LINK_ERROR_BYTES. */
void link_message_error(struct pl_buf *b, struct pl_str id, enum pl_err e, const struct pl_fail *fail);

/* link_run.c: the pool's side. */
void *link_worker_start(void *self, unsigned worker);
void link_worker_stop(void *self, void *state);
/* Gives a connection that has jobs to the pool, or parks it for the next tick when the pool is full. */
void link_submit(struct link_conn *c);
/* Parked ones again; only one while the database is away. */
void link_unpark(struct link_thread *t);
