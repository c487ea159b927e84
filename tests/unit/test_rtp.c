/* RTP and RTCP as wire code. */
#include "rtcp.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

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
    rtcp_put_xr_time(&b, 2, UINT64_C(0x0102030405060708));
    rtcp_put_xr_dlrr(&b, 2, &(struct rtcp_dlrr){ .ssrc = 9, .last_rr = 8, .delay_rr = 7 });
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
    assert_true(it.type == RTCP_XR && it.ssrc == 2 && it.xr_ntp == UINT64_C(0x0102030405060708) && it.count == 0);
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_true(it.type == RTCP_XR && it.xr_ntp == 0 && it.count == 1);
    struct rtcp_dlrr d = rtcp_dlrr_at(&it, 0);
    assert_true(d.ssrc == 9 && d.last_rr == 8 && d.delay_rr == 7);
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_int_equal(it.type, RTCP_BYE);
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_int_equal(it.type, RTCP_END);
    for (size_t n = 1; n < b.n; n++) { /* cut anywhere: never past the end, and never one item more */
        struct pl_rd cut = pl_rd_of(b.p, n);
        unsigned items = 0;
        while (rtcp_next(&cut, &it) == PL_OK && it.type != RTCP_END)
            items++;
        assert_true(items <= 10);
    }
}

/* Extended reports (RFC 3611): blocks of other types are passed over, one that says it is longer than it is ends the walk; and what a round trip can be. */
static void extended_reports(void **state)
{
    (void)state;
    static const uint8_t mixed[] = { 0x80, 207, 0, 9, 0, 0, 0, 7, 42, 0, 0, 1, 1, 2, 3, 4, 4, 0, 0, 2, 0, 0, 0, 1, 0x80, 0, 0, 0, 5, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 3 };
    static const uint8_t longer[] = { 0x80, 207, 0, 2, 0, 0, 0, 7, 5, 0, 0, 3 };
    uint8_t whole[44] = { 0 };
    memcpy(whole, mixed, sizeof mixed);
    whole[3] = 10;
    struct rtcp_item it;
    struct pl_rd r = pl_rd_of(whole, sizeof whole);
    assert_int_equal(rtcp_next(&r, &it), PL_OK);
    assert_true(it.type == RTCP_XR && it.ssrc == 7 && it.xr_ntp == (UINT64_C(1) << 32 | 0x80000000) && it.count == 1 && rtcp_dlrr_at(&it, 0).last_rr == 3);
    r = pl_rd_of(longer, sizeof longer);
    assert_int_equal(rtcp_next(&r, &it), PL_SHORT);
    assert_int_equal(rtcp_rtt_us(65536 + 6554, 0, 65536), 100006);
    assert_int_equal(rtcp_rtt_us(100, 0xffffff00, 356), 1);      /* over the roll-over, nothing left: not 0, which is nothing known */
    assert_int_equal(rtcp_rtt_us(100, 500, 0), 0);               /* it had not been told yet */
    assert_int_equal(rtcp_rtt_us(70U * 65536, 65536 / 2, 0), 0); /* longer than anybody waits */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes), cmocka_unit_test(headers), cmocka_unit_test(sequence_wrap), cmocka_unit_test(rtcp_round_trip), cmocka_unit_test(extended_reports),
        cmocka_unit_test(transport_wide_feedback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
