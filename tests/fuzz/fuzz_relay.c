/* The relay's step: datagrams of strangers, cut out of the input, from addresses that may be those of peers. None of them proves anything, so nothing is sent and
 * nothing moves (S-M1, S-M2, S-M4). */
#include "fuzz.h"
#include "relay.h"

struct counting {
    struct relay_sink base;
    uint64_t runs;
};
static void count(struct relay_sink *self, const struct relay_run *run)
{
    (void)run;
    ((struct counting *)self)->runs++;
}

static bool count_dtls(struct relay_sink *self, const struct relay_dtls_out *out)
{
    (void)out;
    ((struct counting *)self)->runs++;
    return true;
}

static struct relay *open_relay(struct relay_sink *sink)
{
    static struct pl_rand_seeded rand;
    struct relay *r = NULL;
    pl_rand_seed(&rand, 3);
    FUZZ_MUST(relay_new(&(struct relay_conf){ .max_sessions = 3, .ring_bytes = 65536, .rand = &rand.base }, &r) == PL_OK);
    for (unsigned i = 0; i < 3; i++) { /* one with ICE, one that is found by SSRC, one by WebRTC */
        struct relay_cmd c = { .kind = RELAY_OPEN, .ref = { { { (uint8_t)(i + 1) } }, 1 }, .expires_in_us = PL_DAY,
            .leg = { .suite = i ? PL_SRTP_SHA1_80 : PL_SRTP_GCM, .video = { 0x01010101, 96 }, .audio = { 0x02020202, 111 }, .talk = { 3, 113 }, .plain = i == 1 } };
        c.leg.receive_key[0] = (uint8_t)(10 + i);
        c.leg.send_key[0] = (uint8_t)(20 + i);
        if (i == 2)
            c.leg.webrtc = (struct relay_webrtc){ .on = true, .suites = { PL_SRTP_GCM }, .suites_n = 1 };
        if (i != 1)
            FUZZ_MUST(ice_cred_set(&c.leg.ice, i ? PL_STR("evtk") : PL_STR("evtj"), PL_STR("0123456789abcdefghijKL"), PL_STR("h6vY")) == PL_OK);
        FUZZ_MUST(relay_apply(r, (struct pl_mono){ 0 }, &c, sink) == PL_OK);
    }
    struct relay_cmd v = { .kind = RELAY_VIEWER_ADD, .ref = { { { 1 } }, 1 }, .viewer_id = "v",
        .leg = { .video = { 7, 96 }, .audio = { 8, 111 }, .webrtc = { .on = true, .active = true, .suites = { PL_SRTP_GCM }, .suites_n = 1 } } };
    FUZZ_MUST(ice_cred_set(&v.leg.ice, PL_STR("evtl"), PL_STR("0123456789abcdefghijKL"), PL_STR("h6vY")) == PL_OK);
    FUZZ_MUST(relay_apply(r, (struct pl_mono){ 0 }, &v, sink) == PL_OK);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct relay *r;
    static uint8_t bytes[16][2048];
    struct counting sink = { { .send = count, .dtls = count_dtls }, 0 };
    struct relay_in in[16];
    struct relay_stats st;
    struct relay_event ev;
    size_t n = 0;
    if (!r)
        r = open_relay(&sink.base);
    sink.runs = 0;
    struct pl_rd rd = pl_rd_of(data, size);
    while (n < 16 && pl_rd_left(&rd) > 2) {
        size_t want = pl_rd_u16(&rd) & 0x7ff, len = want < pl_rd_left(&rd) ? want : pl_rd_left(&rd);
        struct pl_str p = pl_rd_bytes(&rd, len);
        memcpy(bytes[n], p.p, len);
        in[n] = (struct relay_in){ bytes[n], len, { .ip = { 1 }, .port = (uint16_t)n, .family = 4 } };
        n++;
    }
    relay_step(r, (struct pl_mono){ PL_SECOND }, in, n, &sink.base);
    relay_tick(r, (struct pl_mono){ PL_SECOND }, &sink.base);
    relay_stats(r, &st);
    FUZZ_MUST(sink.runs == 0 && st.packets_in == 0 && st.checks == 0 && st.sessions == 3 && st.viewers == 1 && !relay_take_event(r, &ev));
    return 0;
}
