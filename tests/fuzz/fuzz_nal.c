/* H.264: payload scan, unpacking of packets cut out of the input, packing of the input as Annex B and back (S-M4). */
#include "fuzz.h"
#include "h264.h"
#include "str.h"

static void unpack(const uint8_t *data, size_t size)
{
    static struct h264_unpack *u;
    static uint16_t seq;
    struct pl_rd r = pl_rd_of(data, size);
    if (!u)
        FUZZ_MUST(h264_unpack_new(8192, &u) == PL_OK);
    while (pl_rd_left(&r) > 2) { /* one byte of marks, one of length, the payload */
        uint8_t marks = pl_rd_u8(&r);
        size_t n = pl_rd_u8(&r);
        struct pl_str p = pl_rd_bytes(&r, n < pl_rd_left(&r) ? n : pl_rd_left(&r));
        struct rtp_packet pkt = { .h = { .seq = seq, .timestamp = marks >> 4, .marker = marks & 1 }, .payload = (const uint8_t *)p.p, .payload_n = p.n };
        struct h264_au au;
        unsigned taken = 0;
        seq = (uint16_t)(seq + 1 + (marks & 2 ? 3 : 0));
        h264_unpack_push(u, &pkt);
        while (h264_unpack_take(u, &au))
            FUZZ_MUST(++taken <= 2 && au.n <= 8192);
    }
}

static void pack(const uint8_t *data, size_t size)
{
    struct h264_pack k = h264_pack_start(data, size, 64);
    uint8_t payload[64];
    size_t n, total = 0;
    bool last = false;
    while ((n = h264_pack_next(&k, payload, &last)) > 0) {
        FUZZ_MUST(n <= sizeof payload);
        total += n;
        FUZZ_MUST(total <= size * 4 + 64); /* it ends */
    }
    FUZZ_MUST(last);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nal;
    size_t n;
    struct h264_scan s = h264_scan(data, size);
    for (unsigned type = 0; type < 32; type++)
        if (h264_find_nal(data, size, (uint8_t)type, &nal, &n))
            FUZZ_MUST(n > 0 && nal >= data && nal + n <= data + size);
    FUZZ_MUST(!s.sps || h264_find_nal(data, size, H264_SPS, &nal, &n));
    unpack(data, size);
    pack(data, size);
    return 0;
}
