/* RTCP compounds: the walk always ends, and what an item points to lies inside the packet (S-M4). */
#include "fuzz.h"
#include "rtcp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_rd r = pl_rd_of(data, size);
    struct rtcp_item it;
    size_t items = 0;
    while (rtcp_next(&r, &it) == PL_OK && it.type != RTCP_END) {
        FUZZ_MUST(++items <= size / 4);
        FUZZ_MUST(!it.list || (it.list >= data && it.list + it.list_n <= data + size));
        FUZZ_MUST(!it.cname.p || ((const uint8_t *)it.cname.p >= data && (const uint8_t *)it.cname.p + it.cname.n <= data + size));
        if (it.type == RTCP_SR || it.type == RTCP_RR)
            for (unsigned i = 0; i < it.count; i++)
                (void)rtcp_block_at(&it, i);
        if (it.type == RTCP_XR)
            for (unsigned i = 0; i < it.count; i++)
                (void)rtcp_dlrr_at(&it, i);
        if (it.type == RTCP_NACK)
            for (unsigned i = 0; i < it.count; i++) {
                uint16_t seq, mask;
                rtcp_nack_at(&it, i, &seq, &mask);
            }
        struct rtcp_arrivals a;
        if (it.type == RTCP_TRANSPORT_CC && rtcp_arrivals_of(&it, &a)) {
            uint16_t number;
            bool came;
            int64_t at;
            size_t told = 0;
            while (rtcp_arrivals_next(&a, &number, &came, &at))
                FUZZ_MUST(++told <= 65535);
        }
    }
    return 0;
}
