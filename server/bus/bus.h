/* bus.h - how a node reaches a hub, relay or app that is connected to some node: nudge and ask, subject per identity.
 *
 * PostgreSQL is the truth: what must not be lost is a row first. A nudge says "look at your rows" and may be lost; an ask fails with a deadline and loses
 * nothing that was acknowledged. Subjects: "hub.<serial>" (a device has no other id before it is bound), "relay.<relay id>", "account.<account id>", "facts", "outbox".
 * Two implementations, in-process (one node) and on NATS core (several); both pass tests/unit/test_bus.c. On NATS a subject of this process is served in this
 * process; else it goes to the node that serves it. NATS away: nudges to other nodes are lost, asks of other nodes are PL_UNAVAILABLE, what is in this process goes
 * on; it connects again by itself, and then every watcher of every node is nudged once, so that nothing stays unseen. Questions and answers carry keys: they are
 * sealed to the cluster (a key derived from the master key, the same on all nodes; bound to subject and reply). Nudges say only a subject and are plain.
 * Limits: subjects 1..160 bytes of printable ASCII, words between dots, no `*` or `>` but a watch's last (PL_INVALID_REQUEST); questions and answers 64 KiB. A nudge
 * may come twice. Stop its users before bus_free.
 * Threads: all calls from any thread, but bus_unwatch and bus_unserve not from inside the handler that they end. Handlers run on the caller's thread (in-process)
 * or the bus's, must be quick and only hand work on; a question's bytes are theirs until they return.  Memory: answers live in the asker's arena.
 * Not here: sockets of hubs and relays (link.h).
 *     bus_nudge(bus, "account.…");
 *     e = bus_ask(bus, "hub.<serial>", text, 2 * PL_SECOND, arena, &answer, &fail);
 */
#pragma once
#include "log.h"
#include "secure.h"

struct bus;
struct bus_ask; /* a question under way: answered exactly once, or it times out */

PL_MUST enum pl_err bus_new(const struct pl_clock *clock, struct bus **ret);

struct bus_nats_conf {
    const char *url;                /**< nats://[user:password@]host:port, several with commas; without TLS */
    const char *token;              /**< what the server wants of its clients; NULL: nothing, or what the URL says */
    const struct pl_secret *master; /**< the cluster's; only used in the call */
    const struct pl_clock *clock;
    struct pl_rand *rand;
    const struct pl_log *log;       /**< outlives the bus */
};
/* The bus among several nodes. A NATS that does not answer yet is waited for in the background; A token that is refused is logged (bus.closed) and tried again.
 * PL_UNAVAILABLE: the URL is none. */
PL_MUST enum pl_err bus_nats_new(const struct bus_nats_conf *conf, struct bus **ret, struct pl_fail *reterr);
struct bus *bus_free(struct bus *b);

/* Tells every watcher of the subject. */
void bus_nudge(struct bus *b, const char *subject);
struct bus_watch;
/* on(self, subject) at each nudge, until bus_unwatch; after that returns, `on` is not running and never runs again. A subject that ends in ".*" watches all below it. */
PL_MUST enum pl_err bus_watch(struct bus *b, const char *subject, void (*on)(void *self, const char *subject), void *self, struct bus_watch **ret);
struct bus_watch *bus_unwatch(struct bus_watch *w);

struct bus_server;
/* Answers asks for the subject: `on` calls bus_answer now or later, from any thread. A later server of the same subject takes over (newest wins). After
 * bus_unserve `on` is not running and never runs again; questions that it took must still be answered. */
PL_MUST enum pl_err bus_serve(struct bus *b, const char *subject, void (*on)(void *self, struct bus_ask *ask, struct pl_str bytes), void *self, struct bus_server **ret);
struct bus_server *bus_unserve(struct bus_server *s);
/* Ends the question; `ask` is gone afterwards. With e != PL_OK the asker gets that error. */
void bus_answer(struct bus_ask *ask, enum pl_err e, struct pl_str bytes);
/* Waits for the answer at most timeout_us (<= 10 s). Nobody serves the subject: PL_UNAVAILABLE at once. Deadline: PL_TOO_SLOW. */
PL_MUST enum pl_err bus_ask(struct bus *b, const char *subject, struct pl_str bytes, int64_t timeout_us, struct pl_arena *a, struct pl_str *ret, struct pl_fail *reterr);
