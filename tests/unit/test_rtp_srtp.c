/* SRTP and its engines: published vectors, libsrtp beside ours, S-M2 (verify, then change state), S-M6 (no number is encrypted twice). */
#include "gcm.h"
#include "rand.h"
#include "rtcp.h"
#include "srtp.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <srtp2/srtp.h>

/* RFC 3711's cipher and key derivation, as the reference implementation's published packet shows them; and the same for AES-GCM (RFC 7714). */
static void srtp_vectors(void **state)
{
    (void)state;
    static const uint8_t sha1_key[30] = { 0xe1, 0xf9, 0x7a, 0x0d, 0x3e, 0x01, 0x8b, 0xe0, 0xd6, 0x4f, 0xa3, 0x2c, 0x06, 0xde, 0x41, 0x39, 0x0e, 0xc6, 0x75, 0xad, 0x49,
        0x8a, 0xfe, 0xeb, 0xb6, 0x96, 0x0b, 0x3a, 0xab, 0xe6 };
    static const uint8_t gcm_key[28] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab };
    static const uint8_t head[12] = { 0x80, 0x0f, 0x12, 0x34, 0xde, 0xca, 0xfb, 0xad, 0xca, 0xfe, 0xba, 0xbe };
    static const uint8_t sha1_out[] = { 0x4e, 0x55, 0xdc, 0x4c, 0xe7, 0x99, 0x78, 0xd8, 0x8c, 0xa4, 0xd2, 0x15, 0x94, 0x9d, 0x24, 0x02, 0xb7, 0x8d, 0x6a, 0xcc, 0x99,
        0xea, 0x17, 0x9b, 0x8d, 0xbb };
    static const uint8_t gcm_out[] = { 0xc5, 0x00, 0x2e, 0xde, 0x04, 0xcf, 0xdd, 0x2e, 0xb9, 0x11, 0x59, 0xe0, 0x88, 0x0a, 0xa0, 0x6e, 0xd2, 0x97, 0x68, 0x26, 0xf7, 0x96,
        0xb2, 0x01, 0xdf, 0x31, 0x31, 0xa1, 0x27, 0xe8, 0xa3, 0x92 };
    static const struct {
        enum pl_srtp_suite suite;
        const uint8_t *key, *out;
        size_t out_n;
    } cases[] = { { PL_SRTP_SHA1_80, sha1_key, sha1_out, sizeof sha1_out }, { PL_SRTP_GCM, gcm_key, gcm_out, sizeof gcm_out } };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct pl_srtp_conf c = { .suite = cases[i].suite, .key = cases[i].key, .key_n = pl_srtp_key_bytes(cases[i].suite), .ssrcs = { 0xcafebabe }, .ssrcs_n = 1 };
        struct pl_srtp *out = NULL, *in = NULL;
        uint8_t p[64];
        size_t n = 28;
        memcpy(p, head, 12);
        memset(p + 12, 0xab, 16);
        assert_int_equal(pl_srtp_new(&c, &out), PL_OK);
        c.receive = true;
        assert_int_equal(pl_srtp_new(&c, &in), PL_OK);
        assert_int_equal(pl_srtp_protect_rtp(out, p, &n, sizeof p), PL_OK);
        assert_int_equal(n, 12 + cases[i].out_n);
        assert_memory_equal(p, head, 12);
        assert_memory_equal(p + 12, cases[i].out, cases[i].out_n);
        assert_int_equal(pl_srtp_unprotect_rtp(in, p, &n), PL_OK);
        assert_int_equal(n, 28);
        assert_int_equal(p[27], 0xab);
        pl_srtp_free(out);
        pl_srtp_free(in);
    }
}

/* RTP under AES-GCM is our own code: libsrtp must read what it writes, and it what libsrtp writes, whatever the sizes, extensions and wraps. */
static void gcm_agrees_with_libsrtp(void **state)
{
    (void)state;
    struct pl_rand_seeded rand;
    uint8_t key[PL_SRTP_KEY_MAX];
    srtp_policy_t policy[2];
    srtp_t theirs[2];
    struct pl_srtp *ours[2];
    pl_rand_seed(&rand, 5);
    pl_rand_fill(&rand.base, key, sizeof key);
    memset(policy, 0, sizeof policy);
    for (int receive = 0; receive < 2; receive++) {
        struct pl_srtp_conf c = { .suite = PL_SRTP_GCM, .receive = receive, .key = key, .key_n = 28 };
        srtp_policy_t *p = &policy[receive];
        assert_int_equal(pl_srtp_new(&c, &ours[receive]), PL_OK); /* also starts libsrtp */
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&p->rtp);
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&p->rtcp);
        p->ssrc.type = receive ? ssrc_any_inbound : ssrc_any_outbound;
        p->key = key;
        p->window_size = 1024;
        assert_int_equal(srtp_create(&theirs[receive], p), srtp_err_status_ok);
    }
    uint32_t at = 65000;
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t a[1500], b[1500], plain[1500];
        size_t n = 12 + pl_rand_below(&rand.base, 1300);
        struct rtp_header h = { .payload_type = 96, .marker = i & 1, .seq = (uint16_t)at, .timestamp = i, .ssrc = 1 + (i / 7000) };
        pl_rand_fill(&rand.base, plain, n);
        rtp_write(&h, plain);
        if (i % 5 == 0)
            n = RTP_HEADER + rtp_ext_write_one(plain, 3, (const uint8_t *)"level", 5) + i % 100;
        memcpy(a, plain, n);
        memcpy(b, plain, n);
        size_t an = n;
        int bn = (int)n;
        assert_int_equal(pl_srtp_protect_rtp(ours[0], a, &an, sizeof a), PL_OK);
        assert_int_equal(srtp_protect(theirs[0], b, &bn), srtp_err_status_ok);
        assert_int_equal(an, bn);
        assert_memory_equal(a, b, an);
        assert_int_equal(pl_srtp_unprotect_rtp(ours[1], b, &an), PL_OK);
        assert_int_equal(srtp_unprotect(theirs[1], a, &bn), srtp_err_status_ok);
        assert_true(an == n && bn == (int)n && memcmp(a, plain, n) == 0 && memcmp(b, plain, n) == 0);
        at += i % 50 == 0 ? 300 : 1; /* gaps, and three wraps */
    }
    for (int i = 0; i < 2; i++) {
        pl_srtp_free(ours[i]);
        srtp_dealloc(theirs[i]);
    }
}

/* Both engines of AES-GCM: the fourth case of the GCM specification, then each byte that one makes beside the other's, whatever the sizes; and neither takes a
 * packet of which one bit was changed. On a machine without the faster one there is nothing to compare. */
static void gcm_engines_agree(void **state)
{
    (void)state;
    static const uint8_t key[GCM_KEY] = { 0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08 };
    static const uint8_t iv[GCM_IV] = { 0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88 };
    static const uint8_t aad[20] = { 0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xab, 0xad, 0xda, 0xd2 };
    static const uint8_t plain[60] = { 0xd9, 0x31, 0x32, 0x25, 0xf8, 0x84, 0x06, 0xe5, 0xa5, 0x59, 0x09, 0xc5, 0xaf, 0xf5, 0x26, 0x9a, 0x86, 0xa7, 0xa9, 0x53, 0x15, 0x34, 0xf7, 0xda,
        0x2e, 0x4c, 0x30, 0x3d, 0x8a, 0x31, 0x8a, 0x72, 0x1c, 0x3c, 0x0c, 0x95, 0x95, 0x68, 0x09, 0x53, 0x2f, 0xcf, 0x0e, 0x24, 0x49, 0xa6, 0xb5, 0x25, 0xb1, 0x6a, 0xed, 0xf5,
        0xaa, 0x0d, 0xe6, 0x57, 0xba, 0x63, 0x7b, 0x39 };
    static const uint8_t sealed[76] = { 0x42, 0x83, 0x1e, 0xc2, 0x21, 0x77, 0x74, 0x24, 0x4b, 0x72, 0x21, 0xb7, 0x84, 0xd0, 0xd4, 0x9c, 0xe3, 0xaa, 0x21, 0x2f, 0x2c, 0x02, 0xa4, 0xe0,
        0x35, 0xc1, 0x7e, 0x23, 0x29, 0xac, 0xa1, 0x2e, 0x21, 0xd5, 0x14, 0xb2, 0x54, 0x66, 0x93, 0x1c, 0x7d, 0x8f, 0x6a, 0x5a, 0xac, 0x84, 0xaa, 0x05, 0x1b, 0xa3, 0x0b, 0x39,
        0x6a, 0x0a, 0xac, 0x97, 0x3d, 0x58, 0xe0, 0x91, 0x5b, 0xc9, 0x4f, 0xbc, 0x32, 0x21, 0xa5, 0xdb, 0x94, 0xfa, 0xe9, 0x5a, 0xe7, 0x12, 0x1a, 0x47 };
    struct gcm *seal[2] = { NULL }, *opener[2] = { NULL };
    unsigned engines = gcm_best() == GCM_MB ? 2 : 1;
    for (unsigned e = 0; e < engines; e++) {
        uint8_t p[sizeof sealed];
        assert_int_equal(gcm_new((enum gcm_engine)e, key, GCM_SEAL, &seal[e]), PL_OK);
        assert_int_equal(gcm_new((enum gcm_engine)e, key, GCM_OPEN, &opener[e]), PL_OK);
        assert_true(gcm_seal(seal[e], iv, aad, sizeof aad, plain, p, sizeof plain));
        assert_memory_equal(p, sealed, sizeof sealed);
        assert_true(gcm_open(opener[e], iv, aad, sizeof aad, p, sizeof plain));
        assert_memory_equal(p, plain, sizeof plain);
    }
    struct pl_rand_seeded rand;
    pl_rand_seed(&rand, 11);
    for (unsigned n = 0; n < 1400; n++) {
        uint8_t text[1400], head[100], number[GCM_IV], p[2][1400 + GCM_TAG];
        size_t head_n = 12 + pl_rand_below(&rand.base, 80), bit = pl_rand_below(&rand.base, (uint32_t)(n + GCM_TAG) * 8);
        pl_rand_fill(&rand.base, text, sizeof text);
        pl_rand_fill(&rand.base, head, sizeof head);
        pl_rand_fill(&rand.base, number, sizeof number);
        for (unsigned e = 0; e < engines; e++) {
            memcpy(p[e], text, n);
            assert_true(gcm_seal(seal[e], number, head, head_n, p[e], p[e], n));
        }
        for (unsigned e = 0; e < engines; e++) {
            uint8_t *other = p[engines - 1 - e], changed[1400 + GCM_TAG];
            assert_memory_equal(p[0], p[engines - 1], e ? 0 : n + GCM_TAG);
            memcpy(changed, other, n + GCM_TAG);
            changed[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_false(gcm_open(opener[e], number, head, head_n, changed, n));
            head[3] ^= 1;
            memcpy(changed, other, n + GCM_TAG);
            assert_false(gcm_open(opener[e], number, head, head_n, changed, n));
            head[3] ^= 1;
            assert_true(gcm_open(opener[e], number, head, head_n, other, n));
            assert_memory_equal(other, text, n);
        }
    }
    for (unsigned e = 0; e < engines; e++) {
        gcm_free(seal[e]);
        gcm_free(opener[e]);
    }
}

/* The replay window, against a plain list of what was received: late packets pass once, within 1,024, in any order. */
static void replay_window_model(void **state)
{
    (void)state;
    enum { RANGE = 70000 };
    static uint8_t packets[RANGE][44], seen[RANGE];
    struct pl_rand_seeded rand;
    uint8_t key[PL_SRTP_KEY_MAX] = { 9 };
    struct pl_srtp *out = NULL, *in = NULL;
    struct pl_srtp_conf c = { .suite = PL_SRTP_GCM, .key = key, .key_n = 28, .ssrcs = { 7 }, .ssrcs_n = 1 };
    pl_rand_seed(&rand, 6);
    assert_int_equal(pl_srtp_new(&c, &out), PL_OK);
    c.receive = true;
    assert_int_equal(pl_srtp_new(&c, &in), PL_OK);
    for (unsigned i = 0; i < RANGE; i++) {
        struct rtp_header h = { .payload_type = 96, .seq = (uint16_t)i, .ssrc = 7 };
        size_t n = 28;
        rtp_write(&h, packets[i]);
        assert_int_equal(pl_srtp_protect_rtp(out, packets[i], &n, sizeof packets[i]), PL_OK);
    }
    int64_t high = -1;
    memset(seen, 0, sizeof seen);
    for (unsigned step = 0; step < 300000; step++) {
        int64_t i = high + 1 + (int64_t)pl_rand_below(&rand.base, 1200) - 1195; /* mostly late, now and then ahead */
        if (i < 0 || i >= RANGE)
            continue;
        uint8_t p[44];
        size_t n = sizeof p;
        memcpy(p, packets[i], n);
        bool want = !seen[i] && (i > high || high - i < 1024);
        enum pl_err e = pl_srtp_unprotect_rtp(in, p, &n);
        if (e != (want ? PL_OK : PL_REPLAY))
            fail_msg("packet %lld at %lld: %s", (long long)i, (long long)high, pl_err_code(e));
        seen[i] |= want;
        high = want && i > high ? i : high;
    }
    assert_true(high > 3000);
    pl_srtp_free(out);
    pl_srtp_free(in);
}

struct leg {
    struct pl_srtp *out, *in;
    enum pl_srtp_suite suite;
};

static struct leg leg_new(enum pl_srtp_suite suite, unsigned ssrcs_n, uint8_t key_byte)
{
    struct leg l = { .suite = suite };
    uint8_t key[PL_SRTP_KEY_MAX];
    memset(key, key_byte, sizeof key);
    struct pl_srtp_conf c = { .suite = suite, .key = key, .key_n = pl_srtp_key_bytes(suite), .ssrcs = { 7, 8 }, .ssrcs_n = ssrcs_n };
    assert_int_equal(pl_srtp_new(&c, &l.out), PL_OK);
    c.receive = true;
    assert_int_equal(pl_srtp_new(&c, &l.in), PL_OK);
    return l;
}

static void leg_free(struct leg *l)
{
    l->out = pl_srtp_free(l->out);
    l->in = pl_srtp_free(l->in);
}

static size_t protected_packet(struct leg *l, uint32_t ssrc, uint16_t seq, uint8_t *p, size_t cap)
{
    struct rtp_header h = { .payload_type = 96, .seq = seq, .timestamp = seq * 3000U, .ssrc = ssrc };
    size_t n = 200;
    rtp_write(&h, p);
    for (size_t i = 12; i < n; i++)
        p[i] = (uint8_t)(i ^ seq);
    assert_int_equal(pl_srtp_protect_rtp(l->out, p, &n, cap), PL_OK);
    return n;
}

/* S-M2: a wrong tag and a replay are refused by name, move nothing, and the right packet still passes afterwards. */
static void s_m2_tag_and_replay(void **state)
{
    (void)state;
    for (int suite = 0; suite < 2; suite++) {
        struct leg l = leg_new((enum pl_srtp_suite)suite, 1, 3);
        uint8_t p[256], q[256], far[256];
        size_t n = protected_packet(&l, 7, 100, p, sizeof p), m = n;
        memcpy(q, p, n);
        assert_int_equal(pl_srtp_unprotect_rtp(l.in, q, &m), PL_OK);
        memcpy(q, p, n);
        m = n;
        assert_int_equal(pl_srtp_unprotect_rtp(l.in, q, &m), PL_REPLAY);
        /* A forged packet far ahead, which would move the roll-over count if it were believed. */
        memcpy(far, p, n);
        far[2] = 0x90;
        m = n;
        assert_int_equal(pl_srtp_unprotect_rtp(l.in, far, &m), PL_AUTH);
        for (uint16_t s = 101; s < 110; s++) {
            m = protected_packet(&l, 7, s, p, sizeof p);
            memcpy(q, p, m);
            q[m - 1] ^= 1;
            size_t bad = m;
            assert_int_equal(pl_srtp_unprotect_rtp(l.in, q, &bad), PL_AUTH);
            assert_int_equal(bad, m);
            assert_int_equal(pl_srtp_unprotect_rtp(l.in, p, &m), PL_OK);
        }
        leg_free(&l);
    }
}

static void roll_over(void **state)
{
    (void)state;
    for (int suite = 0; suite < 2; suite++) {
        struct leg l = leg_new((enum pl_srtp_suite)suite, 1, 4);
        uint8_t p[256], held[256];
        size_t held_n = 0;
        for (unsigned i = 0; i < 140000; i += i % 65536 > 65000 || i % 65536 < 600 ? 1 : 97) { /* steps across the wrap, strides between */
            size_t n = protected_packet(&l, 7, (uint16_t)i, p, sizeof p);
            if (i == 65530) { /* arrives after the wrap */
                memcpy(held, p, n);
                held_n = n;
                continue;
            }
            assert_int_equal(pl_srtp_unprotect_rtp(l.in, p, &n), PL_OK);
            assert_int_equal(p[12], (uint8_t)(12 ^ (uint16_t)i));
            if (i == 65540)
                assert_int_equal(pl_srtp_unprotect_rtp(l.in, held, &held_n), PL_OK);
        }
        leg_free(&l);
    }
}

/* S-M6: one number, one encryption. */
static void s_m6_number_is_encrypted_once(void **state)
{
    (void)state;
    for (int suite = 0; suite < 2; suite++) {
        struct leg l = leg_new((enum pl_srtp_suite)suite, 2, 5);
        uint8_t p[256] = { 0 };
        (void)protected_packet(&l, 7, 9, p, sizeof p);
        (void)protected_packet(&l, 8, 9, p, sizeof p); /* another SSRC: another number */
        struct rtp_header h = { .payload_type = 96, .seq = 9, .ssrc = 7 };
        size_t n = 50;
        rtp_write(&h, p);
        assert_int_equal(pl_srtp_protect_rtp(l.out, p, &n, sizeof p), PL_REPLAY);
        leg_free(&l);
    }
}

/* A retransmission to a peer without RTX: the same bytes in, the same bytes out; a number that never went out cannot be sent again. */
static void s_m6_a_resend_is_the_same_packet(void **state)
{
    (void)state;
    for (int suite = 0; suite < 2; suite++) {
        struct leg l = leg_new((enum pl_srtp_suite)suite, 1, 5);
        uint8_t p[256], first[256], plain[256], again[256];
        size_t m = 0;
        for (unsigned i = 0; i <= 1030; i++) { /* over a roll-over of the numbers */
            size_t n = protected_packet(&l, 7, (uint16_t)(65000 + i), p, sizeof p);
            memcpy(i == 1000 ? first : again, p, n);
            assert_int_equal(pl_srtp_unprotect_rtp(l.in, p, &n), PL_OK);
            if (i == 1000) {
                memcpy(plain, p, n);
                m = n;
            }
        }
        memcpy(again, plain, m);
        assert_int_equal(pl_srtp_protect_rtp_again(l.out, again, &m, sizeof again), PL_OK);
        assert_memory_equal(again, first, m);
        static const uint16_t not[] = { 495 /* never sent */, 65000 /* out of the window */ };
        for (size_t i = 0; i < PL_COUNT(not); i++) {
            struct rtp_header h = { .payload_type = 96, .seq = not[i], .ssrc = 7 };
            m = 50;
            rtp_write(&h, p);
            assert_int_equal(pl_srtp_protect_rtp_again(l.out, p, &m, sizeof p), PL_REPLAY);
        }
        leg_free(&l);
    }
}

/* A payload that stands elsewhere gives the same packet as one in place; what is refused changes nothing. */
static void payload_from_elsewhere(void **state)
{
    (void)state;
    for (unsigned suite = 0; suite < 2; suite++) {
        struct leg a = leg_new((enum pl_srtp_suite)suite, 1, 7), b = leg_new((enum pl_srtp_suite)suite, 1, 7);
        for (uint16_t seq = 1; seq < 200; seq++) {
            uint8_t there[512], here[512], payload[200];
            struct rtp_header h = { .payload_type = 96, .seq = seq, .timestamp = seq * 3000U, .ssrc = 7 };
            size_t payload_n = seq, n = RTP_HEADER, m;
            rtp_write(&h, there);
            if (seq % 3 == 0)
                n += rtp_ext_write_one(there, 1, (const uint8_t[]){ 1, 2, 3 }, 3);
            memset(payload, seq, sizeof payload);
            memcpy(here, there, n);
            memcpy(here + n, payload, payload_n);
            m = n + payload_n;
            assert_int_equal(pl_srtp_protect_rtp(a.out, here, &m, sizeof here), PL_OK);
            size_t short_n = n;
            assert_int_equal(pl_srtp_protect_rtp_from(b.out, there, &short_n, payload, payload_n, n + payload_n + PL_SRTP_RTP_OVERHEAD - 1), PL_SHORT);
            assert_int_equal(short_n, n);
            assert_int_equal(pl_srtp_protect_rtp_from(b.out, there, &n, payload, payload_n, sizeof there), PL_OK);
            assert_int_equal(n, m);
            assert_memory_equal(here, there, n);
            size_t again = RTP_HEADER;
            rtp_write(&h, there);
            assert_int_equal(pl_srtp_protect_rtp_from(b.out, there, &again, payload, payload_n, sizeof there), PL_REPLAY); /* S-M6 */
            assert_int_equal(again, RTP_HEADER);
        }
        leg_free(&a);
        leg_free(&b);
    }
}

static void srtp_refusals(void **state)
{
    (void)state;
    struct leg l = leg_new(PL_SRTP_GCM, 1, 6), any = leg_new(PL_SRTP_GCM, 0, 6);
    uint8_t p[256] = { 0 }, key[PL_SRTP_KEY_MAX] = { 0 };
    struct pl_srtp *x = NULL;
    enum pl_srtp_suite suite;
    struct pl_srtp_conf c = { .suite = PL_SRTP_GCM, .key = key, .key_n = 30 };
    assert_int_equal(pl_srtp_new(&c, &x), PL_INVALID_REQUEST);
    assert_int_equal(pl_srtp_suite_of(PL_STR("AES_CM_128_HMAC_SHA1_32"), &suite), PL_UNSUPPORTED_MEDIA);
    assert_int_equal(pl_srtp_suite_of(PL_STR("AES_CM_128_HMAC_SHA1_80"), &suite), PL_OK);
    assert_int_equal(suite, PL_SRTP_SHA1_80);
    struct rtp_header h = { .payload_type = 96, .seq = 9, .ssrc = 99 };
    size_t n = 50;
    rtp_write(&h, p);
    assert_int_equal(pl_srtp_protect_rtp(l.out, p, &n, sizeof p), PL_AUTH); /* not an SSRC of this context */
    assert_int_equal(pl_srtp_protect_rtp(l.in, p, &n, sizeof p), PL_AUTH);  /* not its direction */
    assert_int_equal(pl_srtp_protect_rtp(any.out, p, &n, 65), PL_SHORT);
    assert_int_equal(n, 50);
    for (size_t i = 0; i < 12; i++) {
        n = i;
        assert_int_equal(pl_srtp_unprotect_rtp(any.in, p, &n), PL_SHORT);
    }
    /* A peer that proves ever new SSRCs gets no more than the ceiling. */
    for (uint32_t ssrc = 1; ssrc <= PL_SRTP_ANY_MAX + 1; ssrc++) {
        struct leg one = leg_new(PL_SRTP_GCM, 0, 6);
        n = protected_packet(&one, ssrc, 1, p, sizeof p);
        assert_int_equal(pl_srtp_unprotect_rtp(any.in, p, &n), ssrc <= PL_SRTP_ANY_MAX ? PL_OK : PL_AUTH);
        leg_free(&one);
    }
    leg_free(&l);
    leg_free(&any);
}

static void srtcp(void **state)
{
    (void)state;
    for (int suite = 0; suite < 2; suite++) {
        struct leg l = leg_new((enum pl_srtp_suite)suite, 1, 8);
        uint8_t p[256], q[256];
        struct pl_buf b = pl_buf_fixed(p, sizeof p);
        rtcp_put_rr(&b, 7, NULL, 0);
        rtcp_put_pli(&b, 7, 1);
        size_t plain = b.n, n = b.n;
        assert_int_equal(pl_srtp_protect_rtcp(l.out, p, &n, sizeof p), PL_OK);
        assert_true(n > plain && n <= plain + PL_SRTP_RTCP_OVERHEAD);
        memcpy(q, p, n);
        size_t m = n;
        q[9] ^= 1;
        assert_int_equal(pl_srtp_unprotect_rtcp(l.in, q, &m), PL_AUTH);
        m = n;
        memcpy(q, p, n);
        assert_int_equal(pl_srtp_unprotect_rtcp(l.in, q, &m), PL_OK);
        assert_int_equal(m, plain);
        m = n;
        assert_int_equal(pl_srtp_unprotect_rtcp(l.in, p, &m), PL_REPLAY);
        leg_free(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(srtp_vectors), cmocka_unit_test(gcm_agrees_with_libsrtp), cmocka_unit_test(gcm_engines_agree), cmocka_unit_test(replay_window_model),
        cmocka_unit_test(s_m2_tag_and_replay), cmocka_unit_test(roll_over), cmocka_unit_test(s_m6_number_is_encrypted_once), cmocka_unit_test(s_m6_a_resend_is_the_same_packet),
        cmocka_unit_test(payload_from_elsewhere), cmocka_unit_test(srtp_refusals), cmocka_unit_test(srtcp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
