/* DTLS between two ends of ours: what a network does to flights (table), who is believed (S-M2), what is refused (S-M6), and what memory it may take (S-M1). */
#include "dtls_net.h"
#include <openssl/crypto.h>
#include <stdlib.h>

static struct dtls_context *a, *b;

/* ---- OpenSSL's memory, counted, and one allocation that fails. Set before OpenSSL takes any. */

static size_t held, most;
static unsigned long taken, fail_at;

static void *count_alloc(size_t n, const char *file, int line)
{
    (void)file, (void)line;
    if (++taken == fail_at)
        return NULL;
    size_t *p = malloc(n + 16);
    if (!p)
        return NULL;
    *p = n;
    held += n;
    most = held > most ? held : most;
    return p + 2;
}
static void count_free(void *q, const char *file, int line)
{
    (void)file, (void)line;
    size_t *p = q;
    if (!q)
        return;
    held -= p[-2];
    free(p - 2);
}
static void *count_realloc(void *q, size_t n, const char *file, int line)
{
    if (!q)
        return count_alloc(n, file, line);
    void *to = count_alloc(n, file, line);
    if (!to)
        return NULL;
    size_t old = ((size_t *)q)[-2];
    memcpy(to, q, old < n ? old : n);
    count_free(q, file, line);
    return to;
}

static int make_contexts(void **state)
{
    (void)state;
    const struct pl_utc now = { INT64_C(1795000000) * PL_SECOND };
    return dtls_context_new(now, &a) == PL_OK && dtls_context_new(now, &b) == PL_OK ? 0 : -1;
}
static int free_contexts(void **state)
{
    (void)state;
    a = dtls_context_free(a);
    b = dtls_context_free(b);
    return 0;
}

static void same_keys(struct net *net, enum pl_srtp_suite suite)
{
    struct dtls_keys k[2];
    for (unsigned i = 0; i < 2; i++) {
        memset(&k[i], 0, sizeof k[i]);
        assert_int_equal(dtls_keys(net->ends[i].d, &k[i]), PL_OK);
        assert_int_equal(k[i].suite, suite);
    }
    assert_memory_equal(k[0].send_key, k[1].receive_key, pl_srtp_key_bytes(suite));
    assert_memory_equal(k[1].send_key, k[0].receive_key, pl_srtp_key_bytes(suite));
    assert_memory_not_equal(k[0].send_key, k[0].receive_key, pl_srtp_key_bytes(suite));
}

/* ---- Handshakes that go well. */

static void keys_come_a_trip_earlier(void **state)
{
    (void)state;
    struct net net;
    struct dtls_keys early, late;
    net_init(&net);
    struct dtls_conf ca = net_conf(a, b, 0), cb = net_conf(b, a, 1);
    net_begin(&net, &ca, &cb);
    assert_int_equal(dtls_keys(net.ends[0].d, &early), PL_UNAVAILABLE);
    assert_true(net_step(&net) && net_step(&net)); /* ClientHello there, the other's flight here */
    assert_int_equal(dtls_state(net.ends[0].d), DTLS_KEYED);
    assert_int_equal(dtls_state(net.ends[1].d), DTLS_HANDSHAKE);
    assert_int_equal(dtls_keys(net.ends[0].d, &early), PL_OK);
    assert_true(net_step(&net)); /* our last flight there: keys and Finished at once */
    assert_int_equal(dtls_state(net.ends[1].d), DTLS_FINISHED);
    assert_int_equal(dtls_state(net.ends[0].d), DTLS_KEYED);
    net_run(&net);
    assert_int_equal(dtls_state(net.ends[0].d), DTLS_FINISHED);
    assert_int_equal(dtls_keys(net.ends[0].d, &late), PL_OK);
    assert_memory_equal(early.send_key, late.send_key, pl_srtp_key_bytes(late.suite));
    assert_memory_equal(early.receive_key, late.receive_key, pl_srtp_key_bytes(late.suite));
    same_keys(&net, PL_SRTP_GCM);
    assert_true(net.ends[0].sent == 2 && net.ends[1].sent == 2); /* each flight is one datagram */
    net_done(&net);
}

static void suites_are_agreed_on(void **state)
{
    (void)state;
    const enum pl_srtp_suite G = PL_SRTP_GCM, S = PL_SRTP_SHA1_80;
    const struct {
        enum pl_srtp_suite active[2], passive[2];
        unsigned active_n, passive_n;
        int want; /* -1: none */
    } cases[] = { { { G, S }, { G, S }, 2, 2, (int)G }, { { S, G }, { G, S }, 2, 2, G }, { { G, S }, { S, G }, 2, 2, S }, { { G }, { G, S }, 1, 2, G }, { { S }, { G, S }, 1, 2, S },
        { { G, S }, { S }, 2, 1, S }, { { S }, { S }, 1, 1, S }, { { G }, { S }, 1, 1, -1 }, { { S }, { G }, 1, 1, -1 } };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct net net;
        struct dtls_keys k;
        net_init(&net);
        struct dtls_conf ca = net_conf(a, b, 0), cb = net_conf(b, a, 1);
        memcpy(ca.suites, cases[i].active, sizeof ca.suites);
        memcpy(cb.suites, cases[i].passive, sizeof cb.suites);
        ca.suites_n = cases[i].active_n;
        cb.suites_n = cases[i].passive_n;
        net_begin(&net, &ca, &cb);
        net_run(&net);
        if (cases[i].want >= 0) {
            same_keys(&net, (enum pl_srtp_suite)cases[i].want);
        } else { /* S-M6: no suite, no keys; who notices first says so to the other */
            assert_int_equal(dtls_state(net.ends[0].d), DTLS_FAILED);
            assert_int_equal(dtls_failure(net.ends[0].d), DTLS_NO_PROFILE);
            assert_int_equal(dtls_failure(net.ends[1].d), DTLS_ALERT);
            assert_int_equal(dtls_keys(net.ends[0].d, &k), PL_UNAVAILABLE);
        }
        net_done(&net);
    }
}

/* ---- The network. */

static void run_with(uint32_t fates[2][3], int64_t most_ms)
{
    struct net net;
    net_init(&net);
    struct dtls_conf ca = net_conf(a, b, 0), cb = net_conf(b, a, 1);
    for (unsigned i = 0; i < 2; i++) {
        net.ends[i].drop = fates[i][0];
        net.ends[i].twice = fates[i][1];
        net.ends[i].late = fates[i][2];
    }
    struct pl_mono start = net.now;
    net_begin(&net, &ca, &cb);
    net_run(&net);
    int64_t took = pl_mono_sub(net.now, start) / PL_MS;
    if (dtls_state(net.ends[0].d) != DTLS_FINISHED || dtls_state(net.ends[1].d) != DTLS_FINISHED || took > most_ms)
        fail_msg("drop %x %x twice %x %x late %x %x: states %d %d after %d ms", fates[0][0], fates[1][0], fates[0][1], fates[1][1], fates[0][2], fates[1][2],
            dtls_state(net.ends[0].d), dtls_state(net.ends[1].d), (int)took);
    same_keys(&net, PL_SRTP_GCM);
    net_done(&net);
}

static void flights_survive_the_network(void **state)
{
    (void)state;
    run_with((uint32_t[2][3]){ { 0 }, { 0 } }, 4 * NET_TRIP_MS);
    for (unsigned kind = 0; kind < 3; kind++)
        for (unsigned i = 0; i < 8; i++) /* one datagram of one side or of both is lost, doubled, late */
            for (unsigned k = 0; k < 8; k++) {
                uint32_t f[2][3] = { { 0 }, { 0 } };
                f[0][kind] = UINT32_C(1) << i >> 1;
                f[1][kind] = UINT32_C(1) << k >> 1;
                run_with(f, 1700);
            }
    for (uint32_t drop = 0; drop < 16; drop++) /* the first ones in a row, on both sides; everything twice, or everything late but one */
        for (unsigned more = 0; more < 3; more++)
            run_with((uint32_t[2][3]){ { drop, more == 1 ? UINT32_MAX : 0, more == 2 ? 0x55555555 : 0 }, { drop >> 1, more == 1 ? UINT32_MAX : 0, more == 2 ? 0xaaaaaaaa : 0 } }, 8000);
}

static void a_third_may_be_lost(void **state)
{
    (void)state;
    unsigned good = 0;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct net net;
        struct pl_rand_seeded r;
        net_init(&net);
        pl_rand_seed(&r, seed);
        net.rand = &r.base;
        net.loss_percent = 33;
        struct dtls_conf ca = net_conf(a, b, 0), cb = net_conf(b, a, 1);
        struct pl_mono start = net.now;
        net_begin(&net, &ca, &cb);
        net_run(&net);
        assert_true(pl_mono_sub(net.now, start) <= DTLS_DEADLINE + PL_SECOND); /* it ends, one way or the other */
        for (unsigned i = 0; i < 2; i++)
            if (dtls_state(net.ends[i].d) == DTLS_FAILED)
                assert_int_equal(dtls_failure(net.ends[i].d), DTLS_TIMEOUT);
        if (dtls_state(net.ends[0].d) == DTLS_FINISHED && dtls_state(net.ends[1].d) == DTLS_FINISHED) {
            same_keys(&net, PL_SRTP_GCM);
            good++;
        }
        net_done(&net);
    }
    assert_true(good >= 140);
}

/* The clock is the one that is passed in: no real time goes by here. */
static void unanswered_flights_go_out_again(void **state)
{
    (void)state;
    static const int64_t want[] = { 0, 200, 600, 1400, 3000, 6000, 9000, 12000 };
    struct net net;
    net_init(&net);
    struct dtls_conf ca = net_conf(a, b, 0);
    assert_int_equal(dtls_new(&ca, &net.ends[0].d), PL_OK);
    int64_t start = net.now.us / PL_MS;
    dtls_start(net.ends[0].d, net.now, &net.ends[0].sink);
    assert_int_equal(net.ends[0].sent, 1);
    assert_int_equal(dtls_due(net.ends[0].d, net.now), -1); /* S-M1: before the path is there, nothing more is made */
    dtls_tick(net.ends[0].d, pl_mono_add(net.now, PL_HOUR), &net.ends[0].sink);
    assert_int_equal(net.ends[0].sent, 1);
    dtls_path(net.ends[0].d, net.now);
    net_run(&net);
    assert_int_equal(net.ends[0].sent, PL_COUNT(want));
    for (size_t i = 0; i < PL_COUNT(want); i++)
        assert_int_equal(net.ends[0].sent_at[i] - start, want[i]);
    assert_int_equal(net.now.us / PL_MS - start, DTLS_DEADLINE / PL_MS);
    assert_int_equal(dtls_failure(net.ends[0].d), DTLS_TIMEOUT);
    assert_string_equal(dtls_failure_code(DTLS_TIMEOUT), "dtls_timeout");
    net_done(&net);
}

static void a_path_that_moves_is_tried_soon(void **state)
{
    (void)state;
    struct net net;
    net_init(&net);
    struct dtls_conf ca = net_conf(a, b, 0);
    net_begin(&net, &ca, NULL);
    while (net.ends[0].sent < 5)
        assert_true(net_step(&net));
    net.now = pl_mono_add(net.now, 10 * PL_MS);
    assert_true(dtls_due(net.ends[0].d, net.now) > 2 * PL_SECOND);
    dtls_path(net.ends[0].d, net.now);
    assert_int_equal(dtls_due(net.ends[0].d, net.now), 200 * PL_MS);
    net.now = pl_mono_add(net.now, 100 * PL_MS);
    dtls_path(net.ends[0].d, net.now); /* moving again and again puts nothing off */
    assert_int_equal(dtls_due(net.ends[0].d, net.now), 100 * PL_MS);
    net_done(&net);
}

static void an_early_hello_is_kept(void **state)
{
    (void)state;
    struct net net;
    net_init(&net);
    struct dtls_conf ca = net_conf(a, b, 0), cb = net_conf(b, a, 1);
    net_begin(&net, &ca, NULL);
    assert_int_equal(dtls_new(&cb, &net.ends[1].d), PL_OK);
    assert_true(net_step(&net));
    assert_int_equal(net.ends[1].sent, 1); /* made; it leaves when the caller has a path */
    assert_int_equal(dtls_due(net.ends[1].d, net.now), -1);
    dtls_path(net.ends[1].d, net.now);
    assert_int_equal(dtls_due(net.ends[1].d, net.now), 200 * PL_MS);
    net_run(&net);
    same_keys(&net, PL_SRTP_GCM);
    net_done(&net);
}

/* ---- Who is believed. */

static void another_fingerprint_ends_it(void **state)
{
    (void)state;
    for (unsigned wrong = 0; wrong < 2; wrong++) {
        struct net net;
        struct dtls_keys k;
        net_init(&net);
        struct dtls_conf c[2] = { net_conf(a, b, 0), net_conf(b, a, 1) };
        c[wrong].fingerprints[0][31] ^= 1;
        net_begin(&net, &c[0], &c[1]);
        net_run(&net);
        assert_int_equal(dtls_state(net.ends[wrong].d), DTLS_FAILED);
        assert_int_equal(dtls_failure(net.ends[wrong].d), DTLS_WRONG_FINGERPRINT);
        assert_int_equal(dtls_failure(net.ends[1 - wrong].d), DTLS_ALERT);
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(dtls_keys(net.ends[i].d, &k), PL_UNAVAILABLE);
        net_done(&net);
    }
}

/* RFC 8122: a peer may name several certificates and show any of them; one that it has not named is nobody's. */
static void any_of_its_fingerprints(void **state)
{
    (void)state;
    for (unsigned at = 0; at < DTLS_FINGERPRINTS; at++) {
        struct net net;
        net_init(&net);
        struct dtls_conf c[2] = { net_conf(a, b, 0), net_conf(b, a, 1) };
        for (unsigned i = 0; i < 2; i++) {
            uint8_t right[DTLS_FINGERPRINT];
            memcpy(right, c[i].fingerprints[0], sizeof right);
            memset(c[i].fingerprints, 9, sizeof c[i].fingerprints);
            memcpy(c[i].fingerprints[at], right, sizeof right);
        }
        net_begin(&net, &c[0], &c[1]);
        net_run(&net);
        same_keys(&net, PL_SRTP_GCM);
        net_done(&net);
    }
}

/* S-M2: the active side sends early, but what it is told before the peer's Finished verifies must not be believed: a changed Finished never becomes FINISHED. */
static void a_changed_finished_is_nothing(void **state)
{
    (void)state;
    struct net net;
    net_init(&net);
    struct dtls_conf ca = net_conf(a, b, 0), cb = net_conf(b, a, 1);
    net_begin(&net, &ca, &cb);
    assert_true(net_step(&net) && net_step(&net) && net_step(&net));
    struct net_packet *q = net_first(&net);
    assert_true(q && q->to == 0);
    q->p[q->n - 1] ^= 1;
    assert_true(net_step(&net));
    assert_int_equal(dtls_state(net.ends[0].d), DTLS_KEYED);
    net_run(&net); /* our flight again, theirs again, unchanged this time */
    assert_int_equal(dtls_state(net.ends[0].d), DTLS_FINISHED);
    net_done(&net);
}

/* ---- S-M1: junk. */

static void junk_is_not_answered(void **state)
{
    (void)state;
    struct net net;
    struct pl_rand_seeded r;
    pl_rand_seed(&r, 7);
    net_init(&net);
    struct dtls_conf cb = net_conf(b, a, 1);
    net_begin(&net, NULL, &cb);
    struct net_end *e = &net.ends[1];
    size_t before = held;
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t p[600];
        size_t n = 1 + pl_rand_below(&r.base, sizeof p);
        pl_rand_fill(&r.base, p, n);
        p[0] = (uint8_t)(20 + i % 44);
        if (n > 13 && i % 2) { /* a record as it should be, with anything in it; mostly of a later epoch, which is kept for a while */
            const uint8_t head[] = { (uint8_t)(20 + i % 4), 0xfe, 0xfd, 0, (uint8_t)(i % 3), 0, 0, 0, 0, (uint8_t)(i >> 8), (uint8_t)i, (uint8_t)((n - 13) >> 8), (uint8_t)(n - 13) };
            if (head[0] != 21 && head[0] != 22) /* a fatal alert or a handshake message that lies about itself ends it, rightly */
                memcpy(p, head, sizeof head);
        }
        dtls_input(e->d, net.now, p, n, &e->sink);
    }
    assert_int_equal(e->sent, 0);
    assert_int_equal(dtls_state(e->d), DTLS_HANDSHAKE);
    assert_true(held - before < 256 * 1024);
    net_done(&net);
}

/* Fragments of messages that never become whole: kept, but only so many. */
static void fragments_are_bounded(void **state)
{
    (void)state;
    struct net net;
    net_init(&net);
    struct dtls_conf cb = net_conf(b, a, 1);
    net_begin(&net, NULL, &cb);
    struct net_end *e = &net.ends[1];
    size_t before = held;
    for (unsigned i = 0; i < 5000; i++) {
        uint8_t p[13 + 12 + 100] = { 22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, (uint8_t)(i >> 8), (uint8_t)i, 0, 112, 11, 0, 0x3f, 0xff, (uint8_t)((i + 1) >> 8), (uint8_t)(i + 1), 0, 0, 1, 0, 0, 100 };
        dtls_input(e->d, net.now, p, sizeof p, &e->sink);
    }
    assert_int_equal(e->sent, 0);
    assert_true(most - before < 256 * 1024 + 32768);
    assert_true(held - before < 256 * 1024);
    net_done(&net);
}

static void memory_is_given_back(void **state)
{
    (void)state;
    struct net net;
    size_t before = held;
    net_init(&net);
    most = held;
    struct dtls_conf ca = net_conf(a, b, 0), cb = net_conf(b, a, 1);
    net_begin(&net, &ca, &cb);
    net_run(&net);
    print_message("an association: %zu bytes, at most %zu\n", (held - before) / 2, (most - before) / 2);
    assert_true((held - before) / 2 < 60 * 1024);
    net_done(&net);
    assert_true(held <= before + 2048); /* what OpenSSL caches once */
}

/* Each allocation in turn is refused, OpenSSL's and ours: it fails in order or gets by, and loses nothing. */
static void memory_may_run_out(void **state)
{
    (void)state;
    unsigned long all;
    struct net net;
    struct dtls_conf ca = net_conf(a, b, 0), cb = net_conf(b, a, 1);
    net_init(&net);
    taken = 0;
    net_begin(&net, &ca, &cb);
    net_run(&net);
    net_done(&net);
    all = taken;
    size_t before = held;
    for (unsigned long i = 1; i <= all + 10; i += i < 400 ? 1 : 7) {
        net_init(&net);
        taken = 0;
        fail_at = i;
        bool there = dtls_new(&ca, &net.ends[0].d) == PL_OK && dtls_new(&cb, &net.ends[1].d) == PL_OK;
        for (unsigned k = 2; there && k-- > 0;) {
            dtls_path(net.ends[k].d, net.now);
            dtls_start(net.ends[k].d, net.now, &net.ends[k].sink);
        }
        if (there)
            net_run(&net);
        fail_at = 0;
        if (there && dtls_state(net.ends[0].d) == DTLS_FINISHED && dtls_state(net.ends[1].d) == DTLS_FINISHED)
            same_keys(&net, PL_SRTP_GCM);
        net_done(&net);
        assert_true(held <= before + 4096);
    }
    struct dtls *d = NULL;
    pl_heap_fail_at(1);
    assert_int_equal(dtls_new(&ca, &d), PL_NO_MEMORY);
    pl_heap_fail_at(0);
    assert_null(d);
}

int main(void)
{
    if (CRYPTO_set_mem_functions(count_alloc, count_realloc, count_free) != 1)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_come_a_trip_earlier),
        cmocka_unit_test(suites_are_agreed_on),
        cmocka_unit_test(flights_survive_the_network),
        cmocka_unit_test(a_third_may_be_lost),
        cmocka_unit_test(unanswered_flights_go_out_again),
        cmocka_unit_test(a_path_that_moves_is_tried_soon),
        cmocka_unit_test(an_early_hello_is_kept),
        cmocka_unit_test(another_fingerprint_ends_it), cmocka_unit_test(any_of_its_fingerprints),
        cmocka_unit_test(a_changed_finished_is_nothing),
        cmocka_unit_test(junk_is_not_answered),
        cmocka_unit_test(fragments_are_bounded),
        cmocka_unit_test(memory_is_given_back),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, make_contexts, free_contexts);
}
