/* dtls_net.h - two ends of DTLS and a network between them that loses, doubles and delays as it is told, on a clock of its own. For test_dtls*.c. */
#pragma once
#include "dtls.h"
#include "rand.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { NET_QUEUE = 512, NET_TRIP_MS = 20, NET_LATE_MS = 70, NET_DATAGRAM = 4096 };

struct net;
struct net_end {
    struct dtls_sink sink; /* first */
    struct net *net;
    struct dtls *d;
    unsigned other;         /**< index of the other end */
    unsigned sent;          /**< datagrams so far */
    size_t bytes;
    uint32_t drop, twice, late; /**< bit n: what happens to the n-th datagram of this end */
    int64_t sent_at[64];    /**< ms */
};
struct net {
    struct pl_mono now;
    struct net_end ends[2]; /**< 0: active, 1: passive */
    struct pl_rand *rand;   /**< not NULL: loses `loss_percent` of all */
    unsigned loss_percent;
    struct net_packet {
        bool used;
        unsigned to;
        struct pl_mono at;
        unsigned order;
        size_t n;
        uint8_t p[NET_DATAGRAM];
    } queue[NET_QUEUE];
    unsigned order;
};

static inline void net_put(struct net *net, unsigned to, int64_t ms, const uint8_t *p, size_t n)
{
    for (unsigned i = 0; i < NET_QUEUE; i++)
        if (!net->queue[i].used) {
            struct net_packet *q = &net->queue[i];
            assert_true(n <= sizeof q->p);
            *q = (struct net_packet){ .used = true, .to = to, .at = pl_mono_add(net->now, ms * PL_MS), .order = net->order++, .n = n };
            memcpy(q->p, p, n);
            return;
        }
    fail_msg("the network is full");
}

static inline void net_send(struct dtls_sink *self, const uint8_t *p, size_t n)
{
    struct net_end *e = (struct net_end *)self;
    struct net *net = e->net;
    uint32_t bit = e->sent < 32 ? UINT32_C(1) << e->sent : 0;
    assert_true(n > 0 && n <= DTLS_MTU);
    if (e->sent < PL_COUNT(e->sent_at))
        e->sent_at[e->sent] = net->now.us / PL_MS;
    e->sent++;
    e->bytes += n;
    if (e->drop & bit || (net->rand && pl_rand_below(net->rand, 100) < net->loss_percent))
        return;
    net_put(net, e->other, e->late & bit ? NET_LATE_MS : NET_TRIP_MS, p, n);
    if (e->twice & bit)
        net_put(net, e->other, NET_TRIP_MS + 1, p, n);
}

static inline struct net_packet *net_first(struct net *net)
{
    struct net_packet *first = NULL;
    for (unsigned i = 0; i < NET_QUEUE; i++) {
        struct net_packet *q = &net->queue[i];
        int c = q->used && first ? pl_mono_cmp(q->at, first->at) : -1;
        if (q->used && (!first || c < 0 || (c == 0 && q->order < first->order)))
            first = q;
    }
    return first;
}

/* One event: the next packet or the next timer. False: nothing is left to happen. */
static inline bool net_step(struct net *net)
{
    struct net_packet *q = net_first(net);
    int64_t wait = q ? pl_mono_sub(q->at, net->now) : INT64_MAX;
    for (unsigned i = 0; i < 2; i++) {
        int64_t due = net->ends[i].d ? dtls_due(net->ends[i].d, net->now) : -1;
        if (due >= 0 && due < wait) {
            wait = due;
            q = NULL;
        }
    }
    if (wait == INT64_MAX)
        return false;
    net->now = pl_mono_add(net->now, wait);
    if (q) {
        struct net_end *e = &net->ends[q->to];
        q->used = false;
        if (e->d)
            dtls_input(e->d, net->now, q->p, q->n, &e->sink);
        return true;
    }
    for (unsigned i = 0; i < 2; i++)
        if (net->ends[i].d)
            dtls_tick(net->ends[i].d, net->now, &net->ends[i].sink);
    return true;
}

static inline void net_run(struct net *net)
{
    for (unsigned steps = 0; net_step(net); steps++)
        if (steps > 5000)
            fail_msg("the handshake does not end");
}

static inline void net_init(struct net *net)
{
    memset(net, 0, sizeof *net);
    net->now.us = 1000 * PL_SECOND;
    for (unsigned i = 0; i < 2; i++)
        net->ends[i] = (struct net_end){ .sink = { net_send }, .net = net, .other = 1 - i };
}

/* Both ends of ours, each with the other's fingerprint, the path there at once. */
static inline struct dtls_conf net_conf(struct dtls_context *own, struct dtls_context *peer, unsigned end)
{
    struct dtls_conf c = { .context = own, .role = end ? DTLS_PASSIVE : DTLS_ACTIVE, .suites = { PL_SRTP_GCM, PL_SRTP_SHA1_80 }, .suites_n = 2 };
    memcpy(c.fingerprints[0], dtls_fingerprint(peer), sizeof c.fingerprints[0]);
    return c;
}

static inline void net_begin(struct net *net, const struct dtls_conf *active, const struct dtls_conf *passive)
{
    const struct dtls_conf *confs[] = { active, passive };
    for (unsigned i = 0; i < 2; i++)
        if (confs[i])
            assert_int_equal(dtls_new(confs[i], &net->ends[i].d), PL_OK);
    for (unsigned i = 2; i-- > 0;)
        if (confs[i]) {
            dtls_path(net->ends[i].d, net->now);
            dtls_start(net->ends[i].d, net->now, &net->ends[i].sink);
        }
}

static inline void net_done(struct net *net)
{
    for (unsigned i = 0; i < 2; i++)
        net->ends[i].d = dtls_free(net->ends[i].d);
}
