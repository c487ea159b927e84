/* relay_bench.h - what load tool, relay node and limit loop of one measurement agree on: credentials and keys by number, so that nothing needs to be told.
 *
 * Session s has a source and viewers 0..n-1. All keys here are public: never use them outside a benchmark.
 */
#pragma once
#include "ice_lite.h"
#include "srtp.h"
#include <stdio.h>

enum {
    BENCH_PACKET = 1200,                                   /**< bytes of an SRTP packet on the wire */
    BENCH_PAYLOAD = BENCH_PACKET - 12 - PL_SRTP_RTP_OVERHEAD,
    BENCH_BURST = 24,                                      /**< packets of a frame: what the relay lets go at once to a viewer (V-E4) */
    BENCH_VIDEO_PT = 96,
    BENCH_KEY = 28
};
struct bench_leg {
    struct ice_cred ice;
    uint32_t ssrc;
    uint8_t to_relay[PL_SRTP_KEY_MAX], from_relay[PL_SRTP_KEY_MAX];
};

/* viewer -1: the source. */
static inline struct bench_leg bench_leg(unsigned session, int viewer)
{
    struct bench_leg l;
    char ufrag[16], peer[16];
    unsigned no = session * 64 + (unsigned)(viewer + 1);
    memset(&l, 0, sizeof l);
    (void)snprintf(ufrag, sizeof ufrag, "b%06u", no);
    (void)snprintf(peer, sizeof peer, "p%06u", no);
    if (ice_cred_set(&l.ice, pl_str_of(ufrag), PL_STR("0123456789abcdefghijKL"), pl_str_of(peer)) != PL_OK)
        __builtin_trap();
    l.ssrc = 0x1000 + no;
    for (unsigned i = 0; i < PL_SRTP_KEY_MAX; i++) {
        l.to_relay[i] = (uint8_t)(no >> (8 * (i & 1)) ^ (i * 7));
        l.from_relay[i] = (uint8_t)(no >> (8 * (i & 1)) ^ (i * 11 + 128));
    }
    return l;
}

/* Both answer "mark\n" on stdin with "<cpu microseconds of this process>\n" and end at its end. Runs until then. */
void bench_marks(void);
