/* bench-relay-node SESSIONS VIEWERS [no-gso]: the relay's worker as the product runs it, with sessions that are there from the start. Prints its port. */
#include "relay_bench.h"
#include "relay_worker.h"

static void leg_of(const struct bench_leg *b, struct relay_leg *ret)
{
    *ret = (struct relay_leg){ .ice = b->ice, .suite = PL_SRTP_GCM, .video = { b->ssrc, BENCH_VIDEO_PT } };
    memcpy(ret->receive_key, b->to_relay, sizeof ret->receive_key);
    memcpy(ret->send_key, b->from_relay, sizeof ret->send_key);
}

static bool obeyed(struct relay_worker *w, const struct relay_post *post)
{
    const struct relay_news *n;
    while (relay_worker_post(w, post) == PL_OVERLOADED)
        ;
    for (;;) {
        if (!relay_worker_peek(w, &n))
            continue;
        bool answer = n->kind == RELAY_NEWS_ANSWER, ok = n->result == PL_OK;
        pl_heap_free(n->session);
        relay_worker_next(w);
        if (answer)
            return ok;
    }
}

int main(int argc, char **argv)
{
    uint32_t sessions, viewers;
    struct relay_worker *w = NULL;
    struct pl_fail fail = PL_FAIL_INIT;
    if (argc < 3 || pl_parse_u32(pl_str_of(argv[1]), 1, 1000, &sessions) != PL_OK || pl_parse_u32(pl_str_of(argv[2]), 1, RELAY_VIEWERS, &viewers) != PL_OK)
        return 64;
    struct relay_worker_conf c = { .max_sessions = sessions, .busy_full = UINT32_MAX, .source_bps = UINT64_C(1000000000000), .no_gso = argc > 3, .clock = &pl_clock_system, .rand = &pl_rand_system };
    if (ice_addr_parse(PL_STR("127.0.0.1:0"), &c.media) != PL_OK || relay_worker_new(&c, &w, &fail) != PL_OK || relay_worker_start(w, &fail) != PL_OK) {
        (void)fprintf(stderr, "bench-relay-node: %s\n", fail.detail);
        return 69;
    }
    for (unsigned s = 0; s < sessions; s++) {
        struct bench_leg source = bench_leg(s, -1);
        struct relay_post p = { .ask = RELAY_ASK_CMD, .cmd = { .kind = RELAY_OPEN, .request = "x", .ref = { { { (uint8_t)s, (uint8_t)(s >> 8) } }, 1 }, .expires_in_us = PL_DAY } };
        leg_of(&source, &p.cmd.leg);
        bool ok = obeyed(w, &p);
        for (unsigned v = 0; ok && v < viewers; v++) {
            struct bench_leg leg = bench_leg(s, (int)v);
            p.cmd.kind = RELAY_VIEWER_ADD;
            p.cmd.viewer_id[0] = (char)('a' + v);
            leg_of(&leg, &p.cmd.leg);
            ok = obeyed(w, &p);
        }
        if (!ok)
            return 70;
    }
    printf("%u\n", (unsigned)relay_worker_addr(w).port);
    (void)fflush(stdout);
    bench_marks();
    relay_worker_free(w);
    return 0;
}
