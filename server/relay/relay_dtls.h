/* relay_dtls.h - the relay's side thread: DTLS handshakes, so that nothing slow stands on the packet path. The other end of relay.h's relay_dtls_out and _in.
 *
 * The worker copies datagrams into a bounded queue and takes results out of another; nobody waits for anybody. From its first datagram to its keys an association
 * belongs to this thread alone. S-M1: no more than `max_open` associations are there at a time (75 KiB each while it shakes hands); one more START is refused and
 * counted, a datagram that finds the queue full is lost as any may be. An association goes as soon as nobody needs it: the active side's at the peer's Finished,
 * the passive side's at END (the first SRTP that verifies) or RELAY_DTLS_LEFT later, one that nobody comes to after RELAY_DTLS_LEASH, whatever else gets lost.
 * Keys are wiped where they passed.
 * Not here: DTLS itself (dtls.h), what keys do (relay.h).
 * Threads: relay_dtls_tell, _kick, _peek and _next from the worker; relay_dtls_counts: any; relay_dtls_work is what the thread does, for tests and bench that
 * run without it.  Memory: two queues, 700 KiB, taken when it is made, and what the associations take.
 *     if (!relay_dtls_tell(t, out)) …;
 *     relay_dtls_kick(t);
 *     while ((in = relay_dtls_peek(t)) != NULL) { relay_dtls(relay, now, in, sink); relay_dtls_next(t); }
 */
#pragma once
#include "dtls.h"
#include "relay.h"

#define RELAY_DTLS_LEFT (6 * PL_SECOND)
#define RELAY_DTLS_LEASH PL_MINUTE

struct relay_dtls_thread;
struct relay_dtls_conf {
    unsigned max_open; /**< associations at a time */
    int wake;          /**< eventfd of the worker, rung when there are results; -1: none */
    const struct pl_clock *clock;
};
/* Makes the certificate. PL_NO_MEMORY, PL_UNAVAILABLE. */
PL_MUST enum pl_err relay_dtls_new(const struct relay_dtls_conf *conf, struct relay_dtls_thread **ret, struct pl_fail *reterr);
PL_MUST enum pl_err relay_dtls_start(struct relay_dtls_thread *t, struct pl_fail *reterr);
/* Stops the thread, ends all associations, wipes. Takes NULL; returns NULL. */
struct relay_dtls_thread *relay_dtls_free(struct relay_dtls_thread *t);
/* SHA-256 of the certificate, DTLS_FINGERPRINT bytes. */
const uint8_t *relay_dtls_fingerprint(const struct relay_dtls_thread *t);

/* As the relay's sink: false when there is no room. An END without room is dropped: RELAY_DTLS_LEFT and _LEASH do its work. */
bool relay_dtls_tell(struct relay_dtls_thread *t, const struct relay_dtls_out *out);
/* Wakes the thread when something was told since the last time. Once a batch. */
void relay_dtls_kick(struct relay_dtls_thread *t);
/* The oldest result, NULL when there is none; it stays until relay_dtls_next, which wipes it. */
const struct relay_dtls_in *relay_dtls_peek(struct relay_dtls_thread *t);
void relay_dtls_next(struct relay_dtls_thread *t);

/* What the thread does when it is woken: takes what was told, lets time pass. Returns the microseconds until it is wanted again, -1: when something is told. */
int64_t relay_dtls_work(struct relay_dtls_thread *t, struct pl_mono now);

struct relay_dtls_counts {
    uint64_t started, finished;
    uint64_t failed[DTLS_FAILURES]; /**< by enum dtls_failure */
    uint64_t refused;               /**< STARTs over the cap, or without room */
    uint64_t dropped;               /**< datagrams that found the queue full */
    unsigned open;                  /**< now */
};
void relay_dtls_counts(const struct relay_dtls_thread *t, struct relay_dtls_counts *ret);
