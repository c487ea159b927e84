/* http_private.h - what the files of http/ share. Two kinds of thread: the engine's one (accepts, runs libmicrohttpd, owns every connection) and the pool's workers (run handlers).
 *
 * A connection (struct link) goes through phases, each with a deadline of ours: libmicrohttpd's own timeout only measures idleness. A request becomes a
 * struct call; while a worker has it the connection is suspended. Whoever lets go last frees the call: the worker, when the engine has answered without it
 * (`abandoned`), else the engine at the end of the exchange.
 * Files: http.c life and loop · http_listen.c sockets · http_request.c libmicrohttpd's callbacks · http_route.c rows and paths · http_call.c worker side ·
 * http_idempotency.c stored answers · http_rate.c buckets · http_value.c ETags and cursors · http_reply.c replies and problems. */
#pragma once
#include "http.h"
#include "pool.h"
#include "secure.h"
#include <microhttpd.h>
#include <netinet/in.h>

#define MAX_HEADERS_BYTES (16 * 1024)
/* libmicrohttpd's memory a connection. More than the limit above, so that it is we who refuse headers a little too large, with our own answer. */
#define CONNECTION_BYTES (48 * 1024)
/* A ceiling, not what is taken: the rows behind the longest list, and its text while it grows. */
#define CALL_BYTES (8 * 1024 * 1024)
#define REPLY_BYTES (2 * 1024 * 1024)
/* What is read and thrown away of a body that is refused, so that the client gets to read why; a larger one is cut. */
#define SWALLOW_BYTES (1024 * 1024)
#define MAX_PARAMS 4
#define MAX_ROUTES 512
#define MAX_TRIES 5
/* Room for a detail and a field of which every byte is escaped. */
#define PROBLEM_BYTES 2560

#define HEADERS_DEADLINE (10 * PL_SECOND) /* from accept to the last header */
#define IDLE_DEADLINE (60 * PL_SECOND)    /* from one reply to the last header of the next request */
#define BODY_DEADLINE (15 * PL_SECOND)    /* from the last header to the last byte of the body */
#define REPLY_DEADLINE (30 * PL_SECOND)   /* until the reply is taken */
#define SWEEP_EVERY (100 * PL_MS)

struct mounted {
    const struct http_route *route;
    void *self;
};

struct pair {
    struct pl_str name, value;
    struct pair *next;
};

struct http_header {
    const char *name, *value;
    struct http_header *next;
};

struct http_after {
    void (*fn)(void *arg);
    void *arg;
    struct http_after *next;
};

struct reply {
    int status;
    struct pl_str body; /* .n 0: none */
    const char *content_type;
    struct http_header *headers;
};

struct address {
    sa_family_t family;
    uint8_t bytes[16];
};

/* Of a call that brought an Idempotency-Key to a row that takes one. */
struct idempotency {
    bool on;
    struct pl_uuid owner;
    uint8_t key_hash[32], request_hash[32];
    struct pl_secret seal; /* wiped with the call */
};

struct rate_state {
    int64_t limit, remaining, reset_s; /* limit 0: not counted */
};

struct call {
    struct http_call c;
    struct http *h;
    const struct mounted *row;
    struct pl_mono began;
    struct pair *headers, *query;
    struct pl_str param_names[MAX_PARAMS], params[MAX_PARAMS];
    struct pl_str bearer; /* .p NULL: none */
    bool machine;         /* the machine's owner: may come without one */
    struct pl_buf body;
    struct idempotency idempotency;
    struct address from;
    struct rate_state rate;
    struct reply reply;     /* the worker's, until the call is done */
    enum pl_err e;          /* what the reply says, for the log */
    bool started;           /* LOCK: h->lock; a worker has it */
    bool abandoned;         /* LOCK: h->lock; the engine answered without it: the worker frees it */
    struct link *link;      /* LOCK: h->lock; whom to wake; NULL when abandoned */
    struct call *next_done; /* LOCK: h->lock */
};

enum phase { PHASE_HEADERS, PHASE_BODY, PHASE_CALL, PHASE_REPLY, PHASE_CUT };
/* What the engine itself answers, without a worker. */
struct refusal {
    bool set;
    enum pl_err e; /* PL_OK: 204, the answer to OPTIONS */
    struct pl_fail fail;
    char allow[64];
    const char *accept_post, *accept_patch; /* of OPTIONS: media types; NULL: JSON, or nothing */
    bool close; /* the connection is not to be used further: its framing is in doubt, or we drain */
};

/* libmicrohttpd with one certificate. */
struct daemon {
    struct MHD_Daemon *mhd; /* NULL: none */
    int epoll_fd;
};

/* A connection. All of it belongs to the engine's thread. */
struct link {
    struct link *prev, *next;
    struct http *h;
    struct MHD_Connection *mhd;
    const struct MHD_Daemon *under; /* whose certificate it was shown; not followed */
    int fd;
    struct address address;
    char peer[INET6_ADDRSTRLEN];
    bool machine; /* http_conf.machine is so, and it is that one */
    enum phase phase;
    struct pl_mono until;
    struct pl_uuid request_id;
    struct pl_mono began;
    struct refusal refusal;
    const char *origin; /* of http.allowed_origins, that this request comes from; NULL: none */
    struct call *call;
    uint64_t body_bytes; /* that came so far, kept or not */
};

struct http {
    struct http_conf conf;
    struct http_rates limits;
    struct http_rate_table *rates; /* NULL: calls are not counted */
    char *type_base, *listen;          /* copies */
    bool tls;
    char *proxies;                     /* copy */
    char *origins;                     /* copy: each origin ends with a zero byte, an empty one ends the list; NULL: none */
    struct mounted routes[MAX_ROUTES];
    size_t nroutes;
    struct pl_pool *pool, *heavy, *outside; /* the last two NULL: one for all */
    struct daemon now, before;    /* engine; before: what came under the last certificate, until it has gone */
    struct daemon next;           /* LOCK: lock; under a new certificate, waits for `before` */
    int listen_fd, wake_fd;
    bool unix_socket;
    char address[160];
    pthread_t thread;
    bool running;               /* the thread was started */
    struct link *links;         /* engine */
    unsigned nlinks;            /* engine */
    struct link *adopting;      /* engine: between accept and libmicrohttpd's first callback */
    struct pl_mono next_sweep;  /* engine */
    struct pl_mono accept_from; /* engine: not before; after the system ran out of descriptors */
    bool draining, cut_calls;   /* engine */
    pthread_mutex_t lock;
    struct call *done;          /* LOCK: lock */
    bool stop;                  /* LOCK: lock */
    int64_t grace;              /* LOCK: lock; us, from the moment the engine sees `stop` */
    struct pl_mono grace_until; /* engine */
};

/* metrics, in http_reply.c */
extern struct pl_metric http_metrics[];
enum { M_1XX, M_2XX, M_3XX, M_4XX, M_5XX, M_IN_FLIGHT, M_CONNECTIONS, M_REFUSED, M_QUEUE_FULL, M_LATE, M_SLOW, M_RETRIES, M_RATE_LIMITED, M_RATE_UNKNOWN, M_COUNT };

/* http_listen.c */
PL_MUST enum pl_err http_listen(struct http *h, struct pl_fail *reterr);
/* Reads certificate and key, if TLS is wanted; NULL: it is not. The caller frees both, the key with http_key_free. */
PL_MUST enum pl_err http_tls_load(const struct http *h, char **ret_cert, char **ret_key, struct pl_fail *reterr);
void http_key_free(char *key);
/* Is it the address of a proxy that is believed? */
bool http_from_proxy(const struct http *h, struct pl_str address);
/* Address from text, for the caller that a proxy names. */
bool http_address_parse(const char *text, struct address *ret);
/* Takes in what waits. */
void http_accept(struct http *h);

/* http_request.c */
/* With the certificate that the files hold now. */
PL_MUST enum pl_err http_daemon(struct http *h, struct daemon *ret, struct pl_fail *reterr);
void http_phase(struct link *k, enum phase p, int64_t us);
/* Answers a suspended call without its worker. */
void http_abandon(struct link *k);
/* Called by the engine for a call that a worker has finished. */
void http_resume(struct link *k);

/* http_route.c */
/* Finds the row and fills row and params. PL_NOT_FOUND; PL_METHOD_NOT_ALLOWED and OPTIONS (PL_OK, row NULL) write what is taken here. */
PL_MUST enum pl_err http_match(struct call *call, const char *method, const char *path, struct refusal *taken, struct pl_fail *reterr);

/* http_call.c */
struct call *http_call_new(struct http *h, struct link *k);
struct call *http_call_free(struct call *call);
void *http_worker_start(void *self, unsigned worker);
void http_worker_stop(void *self, void *state);
void http_call_run(void *arg, void *state);
/* The token after "Bearer "; .p NULL when there is none. */
struct pl_str http_bearer(const struct call *call);

/* Makes the reply as it was before the handler: no status, body, headers or nudges. */
void http_reset_reply(struct http_call *c);

/* http_idempotency.c */
/* Reads the key, if there is one and the row takes one. */
PL_MUST enum pl_err http_idempotency_begin(struct call *call, struct pl_fail *reterr);
/* The key becomes this call's, or the stored answer does. PL_IDEMPOTENCY_CONFLICT: the key was used for another request. */
PL_MUST enum pl_err http_idempotency_take(struct call *call, struct db_tx *tx, bool *ret_replayed, struct pl_fail *reterr);
/* Is there an answer? It becomes this call's. */
PL_MUST enum pl_err http_idempotency_find(struct call *call, struct db_tx *tx, bool *ret_found, struct pl_fail *reterr);
/* Stores the reply that the handler has written. */
PL_MUST enum pl_err http_idempotency_keep(struct call *call, struct db_tx *tx);
/* Gives the key back. */
PL_MUST enum pl_err http_idempotency_drop(struct call *call, struct db_tx *tx);

/* http_rate.c */
struct http_rate_table *http_rate_new(void);
struct http_rate_table *http_rate_free(struct http_rate_table *t);
/* Counts a call of a public row by its address; of a signed-in caller by the account; of one whose token was refused by its address. PL_RATE_LIMITED with the wait. */
PL_MUST enum pl_err http_rate_address(struct call *call, struct pl_fail *reterr);
PL_MUST enum pl_err http_rate_account(struct call *call, struct pl_fail *reterr);
PL_MUST enum pl_err http_rate_bad_token(struct call *call, struct pl_fail *reterr);
enum http_rate http_rate_class(const struct http_route *r);

/* http_reply.c */
/* The reply that the handler has written; PL_INTERNAL when it is unfinished or too large, PL_NO_MEMORY. */
PL_MUST enum pl_err http_reply_build(struct call *call, struct reply *ret);
void http_problem(struct pl_buf *out, const struct http *h, enum pl_err e, const struct pl_fail *fail, struct pl_uuid request_id);
int32_t http_retry_after(enum pl_err e, const struct pl_fail *fail);
void http_reply_ok(struct call *call);
void http_reply_error(struct call *call, enum pl_err e, const struct pl_fail *fail);
PL_MUST enum MHD_Result http_send_refusal(struct link *k);
PL_MUST enum MHD_Result http_send_reply(struct link *k);

/* http.c */
void http_wake(struct http *h);
