/* RTP headers and extensions, and SRTP with bytes that no key made (S-M4). */
#include "fuzz.h"
#include "rtp.h"
#include "srtp.h"

static struct pl_srtp *receiver(enum pl_srtp_suite suite)
{
    static const uint8_t key[PL_SRTP_KEY_MAX] = { 1 };
    struct pl_srtp *s = NULL;
    struct pl_srtp_conf c = { .suite = suite, .receive = true, .key = key, .key_n = pl_srtp_key_bytes(suite) };
    FUZZ_MUST(pl_srtp_new(&c, &s) == PL_OK);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pl_srtp *in[2];
    struct rtp_packet k;
    struct rtp_header h;
    (void)rtp_classify(data, size);
    if (rtp_parse(data, size, &k) == PL_OK) {
        FUZZ_MUST(rtp_peek(data, size, &h) == PL_OK && h.seq == k.h.seq);
        FUZZ_MUST(k.payload >= data + RTP_HEADER && k.payload + k.payload_n <= data + size && k.header_n <= size);
        for (unsigned id = 0; id < 256; id++) {
            const uint8_t *v;
            size_t n;
            if (rtp_ext_find(&k, (uint8_t)id, &v, &n))
                FUZZ_MUST(v >= k.ext && v + n <= k.ext + k.ext_n);
        }
    }
    for (int suite = 0; suite < 2; suite++) {
        uint8_t copy[2048];
        size_t n = size < sizeof copy ? size : sizeof copy;
        if (!in[suite])
            in[suite] = receiver((enum pl_srtp_suite)suite);
        memcpy(copy, data, n);
        FUZZ_MUST(pl_srtp_unprotect_rtp(in[suite], copy, &n) != PL_OK); /* a forgery */
        n = size < sizeof copy ? size : sizeof copy;
        memcpy(copy, data, n);
        FUZZ_MUST(pl_srtp_unprotect_rtcp(in[suite], copy, &n) != PL_OK);
    }
    return 0;
}
