/* relay_oracle.h - S-M6, watched in the sink of every test of the relay: what is sealed twice under one key, SSRC and packet index is the same, byte for byte.
 *
 * Both suites are deterministic, so header and payload are the same if and only if the datagrams are. The index is found as the sealing side finds it: nearest to the greatest.
 * Keys are not seen here: who hands out fresh ones for an SSRC says so by oracle_fresh.
 */
#pragma once
#include "rtp.h"
#include "str.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { ORACLE_STREAMS = 1024, ORACLE_KEPT = 4096 /* more than any window: what is older is sealed no more */ };
struct oracle_stream {
    uint32_t ssrc;
    bool started;
    uint64_t high;
    struct {
        uint64_t index1, digest; /* index + 1; 0: nothing */
    } was[ORACLE_KEPT];
};
struct oracle {
    struct oracle_stream *streams[ORACLE_STREAMS]; /* at ssrc % ORACLE_STREAMS, or behind */
};

static inline struct oracle *oracle_free(struct oracle *o)
{
    for (unsigned i = 0; o && i < ORACLE_STREAMS; i++)
        pl_heap_free(o->streams[i]);
    return pl_heap_free(o);
}

static inline uint64_t oracle_digest(const uint8_t *p, size_t n)
{
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ n, word = 0;
    for (size_t i = 0; i < n; i += sizeof word) {
        size_t m = n - i < sizeof word ? n - i : sizeof word;
        memcpy(&word, p + i, m);
        h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    return h;
}

static inline struct oracle_stream **oracle_at(struct oracle *o, uint32_t ssrc)
{
    unsigned i = ssrc % ORACLE_STREAMS, tries = 0;
    while (o->streams[i] && o->streams[i]->ssrc != ssrc && tries++ < ORACLE_STREAMS)
        i = (i + 1) % ORACLE_STREAMS;
    assert_true(tries < ORACLE_STREAMS);
    return &o->streams[i];
}

/* Another key, or another peer's stream: its indices begin anew. */
static inline void oracle_fresh(struct oracle *o, uint32_t ssrc)
{
    struct oracle_stream *s = *oracle_at(o, ssrc);
    if (s) {
        memset(s, 0, sizeof *s);
        s->ssrc = ssrc;
    }
}

static inline void oracle_sent(struct oracle *o, const uint8_t *p, size_t n)
{
    struct rtp_header h;
    if (rtp_classify(p, n) != RTP_CLASS_RTP || rtp_peek(p, n, &h) != PL_OK)
        return;
    struct oracle_stream **at = oracle_at(o, h.ssrc), *s = *at ? *at : (*at = pl_heap(sizeof *s));
    if (!s) /* tests with failing allocations: it looks away */
        return;
    s->ssrc = h.ssrc;
    int64_t near = s->started ? (int64_t)s->high + (int16_t)(uint16_t)(h.seq - (uint16_t)s->high) : h.seq;
    uint64_t index = near < 0 ? h.seq : (uint64_t)near, digest = oracle_digest(p, n);
    if (s->was[index % ORACLE_KEPT].index1 == index + 1 && s->was[index % ORACLE_KEPT].digest != digest)
        fail_msg("S-M6: SSRC %x, index %llu: two packets under one nonce", (unsigned)h.ssrc, (unsigned long long)index);
    s->was[index % ORACLE_KEPT].index1 = index + 1;
    s->was[index % ORACLE_KEPT].digest = digest;
    s->high = !s->started || index > s->high ? index : s->high;
    s->started = true;
}
