/* The packet plane against naive references, by seed: the ring beside an array that forgets nothing, the governor beside a list of
 * what was asked when. A failure names its seed. Rules: V-A5, S-M6. Roll-overs: test_relay_wraps.c. */
#include "relay_ring.h"
#include "relay_sim.h"

static size_t ignore;

/* ---- The ring. */

enum { RING = 64 * 1024, PUTS = 20000 };
struct put { /* what the reference knows of one packet */
    struct relay_entry like;
    uint16_t n;
    uint8_t fill;
};

/* The naive ring: a payload is there while what came after it has not taken its bytes, counted from the end; the unused tail of the memory counts as taken. */
static bool model_has(const uint64_t *starts, uint64_t end, uint64_t head, uint64_t index)
{
    return index < head && head - index <= RELAY_RING_ENTRIES && end - starts[index] <= RING;
}

static void ring_against_a_naive_one(void **state)
{
    (void)state;
    static struct put puts[PUTS];
    static uint64_t starts[PUTS];
    for (uint64_t seed = 1; seed <= 8; seed++) {
        static struct relay_ring g;
        struct pl_rand_seeded rand;
        uint8_t payload[2048];
        uint64_t end = 0, number[2] = { pl_rand_below((pl_rand_seed(&rand, seed), &rand.base), 1000), 70000 };
        g = (struct relay_ring){ .bytes = NULL };
        assert_int_equal(relay_ring_init(&g, RING), PL_OK);
        unsigned longest = seed % 2 ? 1300 : 12; /* out of bytes first · out of entries first */
        for (uint64_t i = 0; i < PUTS; i++) {
            struct put *p = &puts[i];
            unsigned track = pl_rand_below(&rand.base, 4) == 0;
            number[track] += 1 + (pl_rand_below(&rand.base, 50) == 0 ? pl_rand_below(&rand.base, 5) : 0);
            uint64_t late = pl_rand_below(&rand.base, 30) == 0 ? 1 + pl_rand_below(&rand.base, 3) : 0; /* reordering: numbers below the newest */
            *p = (struct put){ .like = { .seq = number[track] - late, .timestamp = (uint32_t)i, .track = (uint8_t)track, .marker = i % 3 == 0 },
                .n = (uint16_t)(1 + pl_rand_below(&rand.base, longest)), .fill = (uint8_t)pl_rand_below(&rand.base, 256) };
            memset(payload, p->fill, p->n);
            if (end % RING + p->n > RING)
                end += RING - end % RING;
            starts[i] = end;
            end += p->n;
            assert_int_equal(relay_ring_put(&g, &p->like, payload, p->n), i);
            for (unsigned look = 0; look < 4; look++) {
                uint64_t back = pl_rand_below(&rand.base, look < 2 ? 80 : 6000), at = back > i ? 0 : i - back;
                const struct relay_entry *e = relay_ring_at(&g, at);
                bool want = model_has(starts, end, i + 1, at);
                if ((e != NULL) != want || (e && (e->seq != puts[at].like.seq || e->n != puts[at].n || e->timestamp != (uint32_t)at)))
                    fail_msg("seed %llu, put %llu, index %llu", (unsigned long long)seed, (unsigned long long)i, (unsigned long long)at);
                for (unsigned b = 0; e && b < e->n; b++)
                    assert_int_equal(relay_ring_payload(&g, e)[b], puts[at].fill);
                /* By number: the newest packet of it, or nothing; never another packet. */
                const struct relay_entry *f = relay_ring_find(&g, puts[at].like.track, puts[at].like.seq);
                assert_true(!f || (f->seq == puts[at].like.seq && f->track == puts[at].like.track));
                bool newest = want;
                for (uint64_t k = at + 1; newest && k <= i; k++)
                    newest = puts[k].like.track != puts[at].like.track || puts[k].like.seq % RELAY_RING_ENTRIES != puts[at].like.seq % RELAY_RING_ENTRIES;
                if (newest && f != e)
                    fail_msg("seed %llu: number %llu is not found", (unsigned long long)seed, (unsigned long long)puts[at].like.seq);
            }
        }
        assert_null(relay_ring_at(&g, PUTS));
        relay_ring_done(&g);
    }
}

/* ---- The governor: whatever viewers ask for in whatever order, the source is asked once in 2 s at most, and always soon when somebody waits. */

static void v_a5_governor_against_a_list(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim s;
        struct sim_peer hub, v[3], *alive[4] = { &hub, &v[0], &v[1], &v[2] };
        sim_new(&s, 2, 256 * 1024);
        sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
        assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
        sim_check(&s, &hub, true);
        for (unsigned i = 0; i < 3; i++) {
            sim_peer_new(&s, &v[i], 2 + i, PL_SRTP_GCM, false);
            assert_int_equal(sim_add(&s, &v[i], 1), PL_OK);
            sim_check(&s, &v[i], true);
        }
        struct pl_rand_seeded rand;
        pl_rand_seed(&rand, seed);
        int64_t asked_at = INT64_MIN / 2, wanted_at = 0; /* the reference: when the last request came, since when somebody waits (0: nobody) */
        unsigned plis = 0;
        sim_hub_frame(&s, &hub, true, false, 2, -1);
        sim_deliver(&s, &hub, &ignore);
        asked_at = hub.plis ? s.now.us : asked_at;
        plis = hub.plis;
        for (unsigned step = 0; step < 2000; step++) {
            unsigned what = pl_rand_below(&rand.base, 20);
            if (what < 2) {
                sim_rtcp(&s, &v[what], true, false);
                wanted_at = wanted_at ? wanted_at : s.now.us;
            } else if (what < 4) {
                sim_hub_frame(&s, &hub, what == 3, false, 2, -1);
                wanted_at = what == 3 ? 0 : wanted_at;
            }
            sim_pass(&s, 5 * PL_MS * (1 + pl_rand_below(&rand.base, 40)), alive, 4);
            for (unsigned i = 0; i < 4; i++)
                sim_deliver(&s, alive[i], &ignore);
            bool asked = hub.plis > plis;
            if (hub.plis > plis + 1 || (asked && s.now.us - asked_at < 2 * PL_SECOND - 200 * PL_MS))
                fail_msg("seed %llu, step %u: asked too often", (unsigned long long)seed, step);
            plis = hub.plis;
            asked_at = asked ? s.now.us : asked_at;
            if (wanted_at && s.now.us - (wanted_at > asked_at ? wanted_at : asked_at) > 2 * PL_SECOND + 250 * PL_MS && s.now.us - asked_at > 2 * PL_SECOND + 250 * PL_MS)
                fail_msg("seed %llu, step %u: somebody waits and nobody asks", (unsigned long long)seed, step);
            wanted_at = asked ? 0 : wanted_at;
            struct relay_event e;
            while (relay_take_event(s.relay, &e))
                ;
        }
        for (unsigned i = 0; i < 3; i++)
            sim_peer_free(&v[i]);
        sim_free(&s);
        sim_peer_free(&hub);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(ring_against_a_naive_one), cmocka_unit_test(v_a5_governor_against_a_list) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
