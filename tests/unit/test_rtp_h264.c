/* H.264 payloads (RFC 6184): round trips, loss, what a scan finds. */
#include "h264.h"
#include "rand.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

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
        assert_int_equal(s.idr, strstr(cases[i].what, "idr") != NULL);
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
        cmocka_unit_test(h264_round_trip), cmocka_unit_test(h264_loss_is_seen), cmocka_unit_test(h264_without_marker), cmocka_unit_test(h264_scans), cmocka_unit_test(annexb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
