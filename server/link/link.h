/* link.h - all of libwebsockets, serving side: long-lived WebSockets of hubs, apps and relays; messages as rows of data.
 *
 * A protocol ("porchlight.hub.v1" at /hub/v1) has tables of messages: type, the phases in which it is permitted, its fields, its handler. The engine accepts,
 * answers pings, measures silence, checks size, rate, JSON, phase and fields in that order, and runs handlers on the worker pool in order per connection, in a
 * transaction (again on PL_RETRY). One libwebsockets context, thread and libuv loop per class; sends from any thread go through a queue with a ceiling: a
 * connection that does not read is closed with too_slow. TLS 1.2 and 1.3 where a certificate is given; handshake and request together have 10 s, a connection counts
 * against its address's share from its first packet on. Closing carries 4000 + HTTP status and the wire code as reason. A lenient table ignores unknown
 * members, and unknown types are ignored and counted (that is how it can grow); what is malformed or out of phase gets an `error` message that says what is
 * wrong, then closes with protocol_error. At most 64 messages of a connection wait for the pool: beyond, its socket is not read. With the database away a
 * message closes its connection with unavailable, so that the peer comes again and nothing is lost in silence.
 * Not here: what messages mean (device/, live/, node/), dialling out (link_client.h).  Memory: a message lives in its call's arena (256 KiB, more where max_message is).
 *     const struct link_message device_messages[] = { { "status", LINK_READY, status_fields, sizeof(struct status), on_status }, LINK_END };
 */
#pragma once
#include "db.h"
#include "json.h"
#include "pool.h"

struct link;      /* the engine */
struct link_conn; /* one connection; reference-counted, any thread */

enum { /* phases: bits */
    LINK_NEW = 1,   /**< connected; only the first message of the protocol is permitted */
    LINK_READY = 2  /**< authenticated */
};

struct link_call {
    struct link_conn *conn;
    struct pl_arena *arena;
    const struct pl_clock *clock;
    struct pl_rand *rand;
    struct pl_log log;
    struct pl_utc now;
    struct db *db;
    struct db_tx *tx;      /**< open; committed when the handler answers PL_OK */
    void *self;            /**< of the message table */
    const void *msg;       /**< the row's struct, filled */
    struct pl_str id;      /**< the message's `id`, .p NULL when absent */
    struct pl_str text;    /**< the whole message */
    bool keep_on_error;    /**< commit though the handler failed */
    struct link_after *after;
};
/* An error closes the connection with its code, unless the row says `soft`: then `{"type":"error","re":id,"code":…}` is sent and it stays. What is no fault of the
 * peer's (PL_RETRY to the end, PL_INTERNAL, PL_NO_MEMORY, PL_UNAVAILABLE) closes in any case: an answer is final, and a peer that comes again says again what it said. */
typedef enum pl_err (*link_handler)(struct link_call *c, struct pl_fail *reterr);
struct link_message {
    const char *type; /* NULL ends a table */
    uint32_t phases;
    const struct json_field *fields; /**< lenient; NULL: no members looked at */
    size_t size;
    link_handler run;
    bool soft;
};
#define LINK_END { .type = NULL }
struct link_table {
    const struct link_message *messages; /**< NULL ends the list */
    void *self;
};

struct link_protocol {
    const char *name;                 /**< WebSocket subprotocol */
    const char *path;                 /**< "/hub/v1" */
    unsigned threads;                 /**< contexts of this class, 1..4 */
    const struct link_table *tables;
    void *self;
    void (*opened)(void *self, struct link_conn *conn);                /**< link thread; may link_send (the challenge) and link_set_owner */
    /** On the pool, once after the last message and post of each connection that was opened, in a transaction: like a handler it is run again on PL_RETRY, so
     * effects other than rows belong into link_after. Waits while the database is away; only link_stop drops it then. */
    void (*closed)(void *self, struct link_conn *conn, struct link_call *c);
    int64_t auth_us;                  /**< LINK_NEW must be left within, else too_slow; not counted while its messages wait for us; 0: 5 s */
    int64_t ping_us;                  /**< WebSocket ping after this silence; 0: 10 s */
    int64_t dead_us;                  /**< cut after this silence, counted from the ping on, so that a jump of the clock costs a ping only; 0: 20 s */
    size_t max_message;               /**< 0: 64 KiB; more closes with body_too_large */
    size_t max_queued;                /**< bytes waiting to be read by the peer; 0: 256 KiB */
    unsigned messages_per_s;          /**< sustained, burst 4x; 0: 50; more closes with rate_limited. Each fragment and pong counts as one; pings by their bytes */
};
struct link_conf {
    const char *listen; /**< "127.0.0.1:8081"; one port for all protocols, routed by path */
    const char *tls_cert, *tls_key; /**< PEM files; NULL or empty: no TLS, and then only loopback is listened on, unless */
    bool behind_proxy;              /**< a proxy with TLS stands in front */
    const char *proxies;            /**< addresses, parted by blanks, for which max_per_address does not count; NULL: none */
    unsigned workers, queue;
    unsigned max_connections; /**< 0: 18000 */
    unsigned max_per_address; /**< 0: unlimited */
    struct db_conf db;
    const struct pl_clock *clock;
    struct pl_rand *rand;
    const struct pl_log *log;
    const struct link_protocol *protocols; /**< array that outlives the engine; .name NULL ends it */
};
/* Binds the address (see link_address) and makes the contexts; nobody is let in before link_start. PL_IO: the address is taken. PL_INVALID_REQUEST: it is no
 * address, or not loopback and without TLS, or the certificate or key is none. */
PL_MUST enum pl_err link_new(const struct link_conf *conf, struct link **ret, struct pl_fail *reterr);
PL_MUST enum pl_err link_start(struct link *l, struct pl_fail *reterr);
const char *link_address(const struct link *l);
/* Reads certificate and key again: handshakes from now on get them. Any thread. On an error all goes on as before. */
PL_MUST enum pl_err link_reload(struct link *l, struct pl_fail *reterr);
/* Closes the door and empties the house: `say` (at most 200 bytes) goes to everybody who is past LINK_NEW, per_s a second in each thread, so that they do not
 * come to the other nodes at once; who is not is closed as by link_stop, and so is whoever is let in late. A connection that was told and then goes ended with
 * "cloud_restart". Does not wait: link_connections says who is left, link_stop ends it. */
void link_drain(struct link *l, struct pl_str say, unsigned per_s);
unsigned link_connections(struct link *l);
/* Closes the door, closes every connection with 1001 and reason "cloud_restart" after flushing what is queued and handling what has come, joins, frees. What is
 * not done after grace_us is cut. Takes one that was never started, or whose start failed; takes NULL; returns NULL. Connections that link_ref holds live on, closed. */
struct link *link_stop(struct link *l, int64_t grace_us);

struct link_conn *link_ref(struct link_conn *c);
struct link_conn *link_unref(struct link_conn *c);
/* Queues a text message; any thread. PL_TOO_SLOW: the queue is full (the connection is being closed). PL_UNAVAILABLE: it is closed. */
PL_MUST enum pl_err link_send(struct link_conn *c, struct pl_str json);
/* Closes after what is queued: code 4000 + status, reason = wire code. Any thread; the first one counts. Messages that wait are not handled any more. */
void link_close(struct link_conn *c, enum pl_err why);
/* Moves to a phase. From a handler. */
void link_phase(struct link_conn *c, uint32_t phase);
/* What the connection belongs to: set by `opened` or by the handler that authenticates (one that was set before is `done`); freed with the last reference. */
void link_set_owner(struct link_conn *c, void *owner, void (*done)(void *owner));
void *link_owner(const struct link_conn *c);
struct pl_str link_peer(const struct link_conn *c); /* address as text */
/* From `closed` on: why it ended. A wire code that this side closed with, "cloud_restart", or: "by_peer" (with a close frame), "silent" (no answer to pings), "lost". */
const char *link_ended(const struct link_conn *c);
/* Any thread: fn on the pool, in order with the connection's messages, in a transaction like a handler (an error closes). It runs even when the connection is
 * closed meanwhile, before `closed`, and waits while the database is away. PL_UNAVAILABLE: closed already. PL_OVERLOADED: 4,096 wait. */
PL_MUST enum pl_err link_post(struct link_conn *c, enum pl_err (*fn)(struct link_call *call, void *arg, struct pl_fail *reterr), void *arg);
/* fn(arg) on the pool after this call's commit, in the order asked for; not when it fails. arg may live in the call's arena. */
void link_after(struct link_call *c, void (*fn)(void *arg), void *arg);
