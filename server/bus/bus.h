/* bus.h - how a node reaches a hub, relay or app that is connected to some node: nudge and ask, subject per identity.
 *
 * PostgreSQL is the truth: what must not be lost is a row first. A nudge says "look at your rows" and may be lost; an ask fails with a deadline and loses
 * nothing that was acknowledged. Subjects: "hub.<serial>" (a device has no other id before it is bound), "relay.<relay id>", "account.<account id>", "facts", "outbox".
 * One implementation today, in-process; every implementation passes tests/unit/test_bus.c.
 * Limits: subjects 1..160 bytes (PL_INVALID_REQUEST), questions and answers 64 KiB. Stop its users before bus_free.
 * Threads: all calls from any thread, but bus_unwatch and bus_unserve not from inside the handler that they end. Handlers run on the caller's thread (in-process)
 * or the bus's, must be quick and only hand work on.  Memory: answers live in the asker's arena.  Not here: sockets (link.h).
 *     bus_nudge(bus, "account.…");
 *     e = bus_ask(bus, "hub.<serial>", text, 2 * PL_SECOND, arena, &answer, &fail);
 */
#pragma once
#include "log.h"

struct bus;
struct bus_ask; /* a question under way: answered exactly once, or it times out */

PL_MUST enum pl_err bus_new(const struct pl_clock *clock, struct bus **ret);
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
