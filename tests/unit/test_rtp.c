/* RTP, RTCP, SRTP and H.264 payloads: published vectors, round trips, S-M2 (verify, then change state), S-M6 (no number is encrypted twice). */
#include "gcm.h"
#include "h264.h"
#include "rand.h"
#include "rtcp.h"
#include "srtp.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <srtp2/srtp.h>

static void classes(void **state)
{
    (void)state;
    static const struct {
        uint8_t first, second;
        enum rtp_class want;
    } cases[] = {
        { 0, 1, RTP_CLASS_STUN }, { 3, 0, RTP_CLASS_STUN }, { 4, 0, RTP_CLASS_OTHER }, { 19, 0, RTP_CLASS_OTHER }, { 20, 0, RTP_CLASS_DTLS }, { 63, 0, RTP_CLASS_DTLS },
        { 64, 0, RTP_CLASS_OTHER }, { 127, 0, RTP_CLASS_OTHER }, { 128, 96, RTP_CLASS_RTP }, { 128, 191, RTP_CLASS_RTP }, { 128, 192, RTP_CLASS_RTCP },
        { 129, 201, RTP_CLASS_RTCP }, { 191, 223, RTP_CLASS_RTCP }, { 128, 224, RTP_CLASS_RTP }, { 192, 96, RTP_CLASS_OTHER }, { 255, 255, RTP_CLASS_OTHER },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        uint8_t p[2] = { cases[i].first, cases[i].second };
        assert_int_equal(rtp_classify(p, 2), cases[i].want);
        assert_int_equal(rtp_classify(p, 1), RTP_CLASS_OTHER);
    }
}

static void headers(void **state)
{
    (void)state;
    uint8_t p[64] = { 0 };
    struct rtp_header h = { .payload_type = 96, .marker = true, .seq = 0xfffe, .timestamp = 0x80000001, .ssrc = 0xdeadbeef };
    struct rtp_packet k;
    const uint8_t *v;
    size_t n;
    rtp_write(&h, p);
    memset(p + 12, 7, 5);
    assert_int_equal(rtp_parse(p, 17, &k), PL_OK);
    assert_memory_equal(&k.h.timestamp, &h.timestamp, 4);
    assert_true(k.h.marker && k.h.payload_type == 96 && k.h.seq == 0xfffe && k.h.ssrc == 0xdeadbeef && k.payload_n == 5 && k.payload == p + 12);
    size_t ext = rtp_ext_write_one(p, 3, (const uint8_t *)"abc", 3);
    assert_int_equal(ext, 8);
    assert_int_equal(rtp_parse(p, 12 + ext + 1, &k), PL_OK);
    assert_true(k.payload_n == 1 && rtp_ext_find(&k, 3, &v, &n) && n == 3 && memcmp(v, "abc", 3) == 0);
    assert_false(rtp_ext_find(&k, 4, &v, &n));
    assert_int_equal(rtp_parse(p, 12 + 7, &k), PL_SHORT); /* the extension points past the end */
    static const uint8_t two_byte[] = { 0x90, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0x10, 0x00, 0, 2, 0, 5, 0, 6, 2, 'x', 'y', 0 };
    assert_int_equal(rtp_parse(two_byte, sizeof two_byte, &k), PL_OK);
    assert_true(rtp_ext_find(&k, 5, &v, &n) && n == 0);
    assert_true(rtp_ext_find(&k, 6, &v, &n) && n == 2 && v[0] == 'x');
    uint8_t csrc[16] = { 0x82, 96 };
    assert_int_equal(rtp_parse(csrc, 16, &k), PL_SHORT);
    uint8_t padded[16] = { 0xa0, 96, [15] = 4 };
    assert_int_equal(rtp_parse(padded, 16, &k), PL_OK);
    assert_int_equal(k.payload_n, 0);
    padded[15] = 5;
    assert_int_equal(rtp_parse(padded, 16, &k), PL_PROTOCOL);
    padded[15] = 0;
    assert_int_equal(rtp_parse(padded, 16, &k), PL_PROTOCOL);
}

/* 35 minutes at 30 packets a second wrap once: the number goes on, also when packets arrive out of order around the wrap. */
static void sequence_wrap(void **state)
{
    (void)state;
    struct rtp_seq s = { .started = false };
    uint64_t want = 65536 + 65000;
    assert_true(rtp_seq_extend(&s, 65000) == want);
    for (unsigned i = 1; i < 200000; i++) {
        uint64_t got = rtp_seq_extend(&s, (uint16_t)(65000 + i));
        assert_true(got == want + i);
        assert_true(i < 10 || rtp_seq_extend(&s, (uint16_t)(65000 + i - 10)) == want + i - 10);
    }
    assert_true(s.highest == want + 199999);
}

static void rtcp_round_trip(void **state)
{
    (void)state;
    uint8_t mem[RTCP_MAX];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    struct rtcp_block block = { .ssrc = 5, .fraction_lost = 9, .lost = -3, .highest_seq = 0x1fffe, .jitter = 77, .last_sr = 8, .delay_last_sr = 65536 };
    static const uint16_t lost[] = { 65534, 65535, 0, 14, 15, 40 };
    rtcp_put_sr(&b, 1, UINT64_C(0x0102030405060708), 90000, 11, 22, &block, 1);
    rtcp_put_cname(&b, 1, PL_STR("relay"));
    rtcp_put_rr(&b, 2, NULL, 0);
    rtcp_put_pli(&b, 2, 3);
    rtcp_put_fir(&b, 2, 4, 200);
    rtcp_put_nack(&b, 2, 3, lost, PL_COUNT(lost));
    rtcp_put_remb(&b, 2, 3, 3000000);
    rtcp_put_app(&b, 2, 1, "PLTK", "\0\0\0\1", 4);
    rtcp_put_bye(&b, 2);
    assert_int_equal(pl_buf_err(&b), PL_OK);
    struct pl_rd r = pl_rd_of(b.p, b.n);
    struct rtcp_item it;
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_true(it.type == RTCP_SR && it.ssrc == 1 && it.sr.ntp == UINT64_C(0x0102030405060708));
    assert_true(it.sr.timestamp == 90000 && it.sr.packets == 11 && it.sr.bytes == 22 && it.count == 1);
    struct rtcp_block got = rtcp_block_at(&it, 0);
    assert_true(got.ssrc == 5 && got.fraction_lost == 9 && got.lost == -3 && got.highest_seq == 0x1fffe && got.jitter == 77 && got.last_sr == 8 && got.delay_last_sr == 65536);
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_true(it.type == RTCP_SDES && pl_str_eqz(it.cname, "relay"));
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_true(it.type == RTCP_RR && it.ssrc == 2 && it.count == 0);
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_true(it.type == RTCP_PLI && it.media_ssrc == 3);
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_true(it.type == RTCP_FIR && it.media_ssrc == 4 && it.fir_seq == 200);
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_true(it.type == RTCP_NACK && it.count == 3);
    uint16_t seq, mask;
    rtcp_nack_at(&it, 0, &seq, &mask);
    assert_true(seq == 65534 && mask == (1 | 2 | 1 << 15)); /* +1, +2 and +16 */
    rtcp_nack_at(&it, 1, &seq, &mask);
    assert_true(seq == 15 && mask == 0);
    rtcp_nack_at(&it, 2, &seq, &mask);
    assert_true(seq == 40 && mask == 0);
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_true(it.type == RTCP_REMB && it.remb_bps <= 3000000 && it.remb_bps > 2990000);
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_true(it.type == RTCP_APP && it.app_subtype == 1 && strcmp(it.app_name, "PLTK") == 0 && it.list_n == 4);
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_int_equal(it.type, RTCP_BYE);
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_int_equal(it.type, RTCP_END);
    for (size_t n = 1; n < b.n; n++) { /* cut anywhere: never past the end, and never one item more */
        struct pl_rd cut = pl_rd_of(b.p, n);
        unsigned items = 0;
        while (rtcp_next(&cut, &it) == PL_OK && it.type != RTCP_END)
            items++;
        assert_true(items <= 8);
    }
}

/* Transport-wide feedback: a run, symbols of one bit and of two, a delta that goes back, numbers over a roll-over; what is cut or has a symbol of no meaning ends. */
static void transport_wide_feedback(void **state)
{
    (void)state;
    static const uint8_t body[] = { 0xff, 0xfe, 0, 15, 0xff, 0xff, 0xff, 9, /* from 65534 on, 15 numbers, 64 ms before the clock's zero, the ninth of its kind */
        0x00, 0x02,                                                       /* two are gone */
        0xa4, 0x01,                                                       /* of 14 the first and the fourth came; the last bit is past the fifteen */
        4, 0, 255 };
    static const struct { bool came; int64_t us; } want[15] = { [2] = { true, -63000 }, [5] = { true, -63000 }, [0] = { false, 0 } };
    struct rtcp_item it = { .type = RTCP_TRANSPORT_CC, .list = body, .list_n = sizeof body };
    struct rtcp_arrivals a;
    uint16_t number;
    bool came;
    int64_t at = 0;
    assert_true(rtcp_arrivals_of(&it, &a));
    for (unsigned i = 0; i < 15; i++) {
        assert_true(rtcp_arrivals_next(&a, &number, &came, &at));
        assert_true(number == (uint16_t)(65534 + i) && came == want[i].came && (!came || at == want[i].us));
    }
    assert_false(rtcp_arrivals_next(&a, &number, &came, &at));
    static const uint8_t two[] = { 0, 7, 0, 7, 0, 0, 1, 0, 0xe4, 0x40, 0xff, 0xfc, 8, 0 }; /* two bits each: a millisecond back, two on, gone, none on, gone, gone, gone */
    it.list = two;
    it.list_n = sizeof two;
    assert_true(rtcp_arrivals_of(&it, &a));
    bool all[7];
    int64_t times[7] = { 0 };
    for (unsigned i = 0; i < 7; i++) {
        assert_true(rtcp_arrivals_next(&a, &number, &all[i], &times[i]));
        assert_int_equal(number, 7 + i);
    }
    assert_true(all[0] && all[1] && !all[2] && all[3] && !all[4] && !all[5] && !all[6]);
    assert_true(times[0] == 63000 && times[1] == 65000 && times[3] == 65000);
    for (size_t n = 0; n < sizeof two; n++) { /* cut anywhere: fewer, never more, and never past the end */
        it.list_n = n;
        unsigned told = 0;
        if (rtcp_arrivals_of(&it, &a))
            while (rtcp_arrivals_next(&a, &number, &came, &at))
                told++;
        assert_true(told <= 7 && (n >= 10 || told == 0));
    }
    static const uint8_t strange[] = { 0, 7, 0, 3, 0, 0, 1, 0, 0x60, 0x03, 1, 1, 1 }; /* a run of the symbol that means nothing */
    it.list = strange;
    it.list_n = sizeof strange;
    assert_true(rtcp_arrivals_of(&it, &a));
    assert_false(rtcp_arrivals_next(&a, &number, &came, &at));
}

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
        memcpy(p, plain, sizeof plain);
        assert_int_equal(gcm_new((enum gcm_engine)e, key, GCM_SEAL, &seal[e]), PL_OK);
        assert_int_equal(gcm_new((enum gcm_engine)e, key, GCM_OPEN, &opener[e]), PL_OK);
        assert_true(gcm_seal(seal[e], iv, aad, sizeof aad, p, sizeof plain));
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
            assert_true(gcm_seal(seal[e], number, head, head_n, p[e], n));
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

/* A random access unit in Annex B: parameter sets, SEI and slices of random sizes, with both kinds of start code. */
static size_t make_au(struct pl_rand *r, uint8_t *p, bool key, size_t *ret_nals)
{
    uint8_t types[8];
    size_t count = 0, n = 0;
    if (key)
        types[count++] = H264_SPS, types[count++] = H264_PPS;
    if (pl_rand_below(r, 2))
        types[count++] = H264_SEI;
    for (unsigned i = 1 + pl_rand_below(r, 3); i > 0; i--)
        types[count++] = key ? H264_IDR : H264_SLICE;
    for (size_t i = 0; i < count; i++) {
        size_t size = 2 + pl_rand_below(r, types[i] == H264_IDR || types[i] == H264_SLICE ? 5000 : 40);
        memcpy(p + n, "\0\0\0\1", 4);
        n += 4;
        p[n] = (uint8_t)(0x60 | types[i]);
        for (size_t k = 1; k < size; k++)
            p[n + k] = (uint8_t)(1 + pl_rand_below(r, 255)); /* no zeros: no start code inside, as emulation prevention has it */
        n += size;
    }
    *ret_nals = count;
    return n;
}

static void h264_round_trip(void **state)
{
    (void)state;
    struct pl_rand_seeded rand;
    struct h264_unpack *u = NULL;
    static uint8_t au[65536];
    uint16_t seq = 65000;
    pl_rand_seed(&rand, 11);
    assert_int_equal(h264_unpack_new(sizeof au, &u), PL_OK);
    for (unsigned round = 0; round < 2000; round++) {
        bool key = pl_rand_below(&rand.base, 4) == 0, last = false, first = true, got = false;
        size_t nals, n = make_au(&rand.base, au, key, &nals), max = 64 + pl_rand_below(&rand.base, 1200);
        struct h264_pack k = h264_pack_start(au, n, max);
        uint8_t payload[1400];
        size_t size;
        while ((size = h264_pack_next(&k, payload, &last)) > 0) {
            assert_true(size <= max);
            struct h264_scan s = h264_scan(payload, size);
            assert_true(s.valid && s.reference);
            if (first)
                assert_int_equal(s.key, key);
            first = false;
            struct rtp_packet pkt = { .h = { .seq = seq++, .timestamp = round * 3000, .marker = last }, .payload = payload, .payload_n = size };
            h264_unpack_push(u, &pkt);
            struct h264_au out;
            while (h264_unpack_take(u, &out)) {
                assert_true(last && !got);
                got = true;
                assert_true(out.complete && out.key == key && out.timestamp == round * 3000 && out.n == n);
                assert_memory_equal(out.p, au, n);
            }
        }
        assert_true(last && got);
    }
    h264_unpack_free(u);
}

/* Any one lost packet is noticed: its access unit is never called complete, nor is one that holds other bytes than were sent. */
static void h264_loss_is_seen(void **state)
{
    (void)state;
    struct pl_rand_seeded rand;
    static uint8_t au[3][65536];
    size_t n[3], nals;
    pl_rand_seed(&rand, 12);
    for (unsigned drop = 0; drop < 30; drop++) {
        struct h264_unpack *u = NULL;
        uint16_t seq = 0;
        unsigned complete = 0, total = 0;
        bool dropped = false;
        assert_int_equal(h264_unpack_new(sizeof au[0], &u), PL_OK);
        for (unsigned i = 0; i < 3; i++) {
            n[i] = make_au(&rand.base, au[i], i == 0, &nals);
            struct h264_pack k = h264_pack_start(au[i], n[i], 500);
            uint8_t payload[600];
            bool last;
            size_t size;
            while ((size = h264_pack_next(&k, payload, &last)) > 0) {
                struct rtp_packet pkt = { .h = { .seq = seq, .timestamp = i, .marker = last }, .payload = payload, .payload_n = size };
                if (seq++ == drop) {
                    dropped = true;
                    continue;
                }
                h264_unpack_push(u, &pkt);
                struct h264_au out;
                while (h264_unpack_take(u, &out)) {
                    total++;
                    complete += out.complete;
                    if (out.complete && (drop > 0 || out.timestamp > 0)) { /* the very first packet is not missed by its number */
                        assert_int_equal(out.n, n[out.timestamp]);
                        assert_memory_equal(out.p, au[out.timestamp], out.n);
                    }
                }
            }
        }
        if (dropped && drop > 0)
            assert_true(complete < 3);
        if (!dropped)
            assert_true(complete == 3 && total == 3);
        h264_unpack_free(u);
    }
}

static void h264_without_marker(void **state)
{
    (void)state;
    struct h264_unpack *u = NULL;
    struct h264_au out;
    static const uint8_t nal[] = { 0x65, 1, 2, 3 };
    assert_int_equal(h264_unpack_new(1000, &u), PL_OK);
    struct rtp_packet pkt = { .h = { .seq = 1, .timestamp = 10 }, .payload = nal, .payload_n = sizeof nal };
    h264_unpack_push(u, &pkt);
    assert_false(h264_unpack_take(u, &out));
    pkt.h.seq = 2, pkt.h.timestamp = 20, pkt.h.marker = true;
    h264_unpack_push(u, &pkt);
    assert_true(h264_unpack_take(u, &out));
    assert_true(out.timestamp == 10 && out.complete && out.n == 8);
    assert_true(h264_unpack_take(u, &out));
    assert_true(out.timestamp == 20 && out.complete && out.n == 8);
    assert_false(h264_unpack_take(u, &out));
    h264_unpack_push(u, &pkt); /* doubled */
    pkt.h.seq = 3, pkt.h.timestamp = 30;
    h264_unpack_push(u, &pkt);
    assert_true(h264_unpack_take(u, &out) && out.timestamp == 30);
    h264_unpack_free(u);
}

static void h264_scans(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint8_t p[16];
        size_t n;
        bool valid, key, sps, reference;
    } cases[] = {
        { "idr", { 0x65, 1 }, 2, true, true, false, true },
        { "sps", { 0x67, 1 }, 2, true, true, true, true },
        { "pps", { 0x68, 1 }, 2, true, false, false, true },
        { "slice", { 0x41, 1 }, 2, true, false, false, true },
        { "slice that nobody needs", { 0x01, 1 }, 2, true, false, false, false },
        { "fu-a start of idr", { 0x7c, 0x85, 1 }, 3, true, true, false, true },
        { "fu-a middle of idr", { 0x7c, 0x05, 1 }, 3, true, false, false, true },
        { "fu-a start of sps", { 0x7c, 0x87, 1 }, 3, true, true, false, true },
        { "fu-a start of slice", { 0x5c, 0x81, 1 }, 3, true, false, false, true },
        { "stap-a aud, sps", { 0x78, 0, 2, 0x09, 0xf0, 0, 2, 0x67, 1 }, 9, true, true, true, true },
        { "stap-a sei, pps", { 0x78, 0, 2, 0x06, 1, 0, 2, 0x68, 1 }, 9, true, false, false, true },
        { "stap-a past the end", { 0x78, 0, 9, 0x67, 1 }, 5, false, false, false, false },
        { "stap-a of nothing", { 0x78, 0, 0, 1 }, 4, false, false, false, false },
        { "stap-b", { 0x79, 0, 0, 0, 1, 0x67 }, 6, false, false, false, false },
        { "fu-a of fu-a", { 0x7c, 0x9c, 1 }, 3, false, false, false, false },
        { "fu-a without bytes", { 0x7c, 0x85 }, 2, false, false, false, false },
        { "forbidden bit", { 0xe5, 1 }, 2, false, false, false, false },
        { "nothing", { 0 }, 0, false, false, false, false },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct h264_scan s = h264_scan(cases[i].p, cases[i].n);
        if (s.valid != cases[i].valid || s.key != cases[i].key || s.sps != cases[i].sps || s.reference != cases[i].reference)
            fail_msg("%s: valid %d key %d sps %d reference %d", cases[i].what, s.valid, s.key, s.sps, s.reference);
    }
    const uint8_t *nal;
    size_t n;
    assert_true(h264_find_nal(cases[9].p, 9, H264_SPS, &nal, &n) && n == 2 && nal[0] == 0x67);
    assert_false(h264_find_nal(cases[9].p, 9, H264_PPS, &nal, &n));
}

static void annexb(void **state)
{
    (void)state;
    static const uint8_t p[] = { 0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 0, 1, 0x65, 0, 0, 3, 1, 0, 0, 0 };
    static const size_t sizes[] = { 3, 2, 5 };
    size_t at = 0, n, i = 0;
    const uint8_t *nal;
    while (h264_next_nal(p, sizeof p, &at, &nal, &n))
        assert_int_equal(n, sizes[i++]);
    assert_int_equal(i, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes), cmocka_unit_test(headers), cmocka_unit_test(sequence_wrap), cmocka_unit_test(rtcp_round_trip), cmocka_unit_test(transport_wide_feedback),
        cmocka_unit_test(srtp_vectors), cmocka_unit_test(gcm_agrees_with_libsrtp), cmocka_unit_test(gcm_engines_agree), cmocka_unit_test(replay_window_model), cmocka_unit_test(s_m2_tag_and_replay),
        cmocka_unit_test(roll_over), cmocka_unit_test(s_m6_number_is_encrypted_once), cmocka_unit_test(s_m6_a_resend_is_the_same_packet), cmocka_unit_test(srtp_refusals), cmocka_unit_test(srtcp),
        cmocka_unit_test(h264_round_trip), cmocka_unit_test(h264_loss_is_seen), cmocka_unit_test(h264_without_marker), cmocka_unit_test(h264_scans),
        cmocka_unit_test(annexb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
