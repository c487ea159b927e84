/* bench-step SESSIONS VIEWERS PACKETS: what the relay's own step costs, without sockets: PACKETS thousand packets of sources, in frames of 24 from one source after another, 64 datagrams
 * a step. Prints nanoseconds of CPU for each packet that went out. For comparing changes, and for profilers that count instructions. */
#include "relay.h"
#include "relay_bench.h"
#include "rtp.h"
#include <stdlib.h>
#include <time.h>

enum { STEP = 64, MAX_SESSIONS = 250 };
static struct {
    struct ice_addr at;
    struct pl_srtp *out;
    uint32_t ssrc, ts;
    uint16_t seq;
    unsigned in_frame;
    bool started;
} sources[MAX_SESSIONS];
static struct relay *relay;
static struct stun_mac *mac;
static uint64_t out_packets;
static struct pl_mono now = { PL_HOUR };

static void take(struct relay_sink *self, const struct relay_run *run)
{
    (void)self;
    out_packets += (run->n + run->segment - 1) / run->segment;
}
static struct relay_sink sink = { .send = take };

static struct ice_addr address(unsigned session, int viewer)
{
    return (struct ice_addr){ .ip = { 10, (uint8_t)session, (uint8_t)(session >> 8), (uint8_t)(viewer + 1) }, .port = 5000, .family = 4 };
}

/* Opened, and its path proved. */
static void leg_up(unsigned session, int viewer)
{
    struct bench_leg b = bench_leg(session, viewer);
    struct relay_cmd c = { .kind = viewer < 0 ? RELAY_OPEN : RELAY_VIEWER_ADD, .ref = { { { (uint8_t)session, 1 } }, 1 }, .expires_in_us = PL_DAY,
        .leg = { .ice = b.ice, .suite = PL_SRTP_GCM, .video = { .ssrc = b.ssrc, .payload_type = BENCH_VIDEO_PT } } };
    char name[80];
    uint8_t check[STUN_MAX];
    memcpy(c.leg.receive_key, b.to_relay, sizeof c.leg.receive_key);
    memcpy(c.leg.send_key, b.from_relay, sizeof c.leg.send_key);
    c.viewer_id[0] = (char)('a' + viewer);
    struct pl_buf n = pl_buf_fixed(name, sizeof name);
    pl_buf_fmt(&n, "%s:%s", b.ice.ufrag, b.ice.peer_ufrag);
    struct stun_request r = { .username = pl_buf_view(&n), .password = pl_str_of(b.ice.pwd), .controlling = true, .use_candidate = true };
    struct relay_in in = { .p = check, .from = address(session, viewer) };
    if (relay_apply(relay, now, &c, &sink) != PL_OK || stun_write_request(mac, &r, check, sizeof check, &in.n) != PL_OK)
        abort();
    relay_step(relay, now, &in, 1, &sink);
}

static void source_up(unsigned session)
{
    struct bench_leg b = bench_leg(session, -1);
    struct pl_srtp_conf c = { .suite = PL_SRTP_GCM, .key = b.to_relay, .key_n = BENCH_KEY, .ssrcs = { b.ssrc }, .ssrcs_n = 1 };
    leg_up(session, -1);
    if (pl_srtp_new(&c, &sources[session].out) != PL_OK)
        abort();
    sources[session].at = address(session, -1);
    sources[session].ssrc = b.ssrc;
}

static size_t packet(unsigned session, uint8_t *p)
{
    bool first = sources[session].in_frame == 0, last = ++sources[session].in_frame == BENCH_BURST;
    struct rtp_header h = { .payload_type = BENCH_VIDEO_PT, .marker = last, .seq = sources[session].seq++, .timestamp = sources[session].ts, .ssrc = sources[session].ssrc };
    size_t n = RTP_HEADER + BENCH_PAYLOAD;
    rtp_write(&h, p);
    memset(p + RTP_HEADER, 0x5a, BENCH_PAYLOAD);
    memcpy(p + RTP_HEADER, (const uint8_t[]){ 0x7c, (uint8_t)((first ? 0x80 : 0) | (last ? 0x40 : 0) | 1) }, 2);
    if (!sources[session].started) { /* SPS, PPS and IDR in a STAP-A: a key frame alone */
        static const uint8_t key[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c, 0, 2, 0x65, 0x80 };
        memcpy(p + RTP_HEADER, key, sizeof key);
        p[1] |= 0x80;
        n = RTP_HEADER + sizeof key;
        last = true;
    }
    if (pl_srtp_protect_rtp(sources[session].out, p, &n, BENCH_PACKET) != PL_OK)
        abort();
    if (last) {
        sources[session].in_frame = 0;
        sources[session].ts += 3000;
    }
    sources[session].started = true;
    return n;
}

static int64_t cpu_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv)
{
    static uint8_t bytes[STEP][BENCH_PACKET];
    uint32_t sessions, viewers, thousands;
    uint64_t before = 0;
    int64_t ns = 0;
    if (argc != 4 || pl_parse_u32(pl_str_of(argv[1]), 1, MAX_SESSIONS, &sessions) != PL_OK || pl_parse_u32(pl_str_of(argv[2]), 1, RELAY_VIEWERS, &viewers) != PL_OK ||
        pl_parse_u32(pl_str_of(argv[3]), 1, 1000000, &thousands) != PL_OK)
        return 64;
    const struct relay_conf conf = { .max_sessions = sessions, .busy_full = UINT32_MAX, .source_bps = UINT64_C(1000000000000), .rand = &pl_rand_system };
    if (stun_mac_new(&mac) != PL_OK || relay_new(&conf, &relay) != PL_OK)
        return 70;
    for (unsigned s = 0; s < sessions; s++) {
        source_up(s);
        for (unsigned v = 0; v < viewers; v++)
            leg_up(s, (int)v);
    }
    unsigned session = 0;
    for (uint64_t left = (uint64_t)thousands * 1000 / STEP, warm = left / 4; left > 0; left--) {
        struct relay_in in[STEP];
        for (unsigned i = 0; i < STEP; i++) {
            in[i] = (struct relay_in){ bytes[i], packet(session, bytes[i]), sources[session].at };
            session = sources[session].in_frame ? session : (session + 1) % sessions;
        }
        if (warm && --warm == 0) {
            before = out_packets;
            ns = 0;
        }
        int64_t from = cpu_ns();
        relay_step(relay, now, in, STEP, &sink);
        relay_pace(relay, now, &sink);
        ns += cpu_ns() - from;
        now.us += RELAY_PACE_US / sessions; /* 13,000 packets a second of each source, whose rate the pacer learns before it falls out of the ring */
    }
    printf("%.1f\n", (double)ns / (double)(out_packets - before));
    return 0;
}
