/* bench-relay-load PORT|- SESSIONS VIEWERS SECONDS WINDOW [BURST]: hubs and viewers of a measurement, on one core. Closed loop: frames of 24 packets per source, 1,200 bytes each
 * under GCM, at most WINDOW packets under way, so that nothing is lost and the other side always has full batches. With BURST an open loop: each source sends a frame of so many
 * packets at once, ten times a second, whatever has become of the one before. The first packets of every viewer are decrypted and must be right. With "-" a script has wired the
 * far ends (relay_wire.h).
 * Speaks with the script over stdin and stdout: "ready" and the suites of a source and of a viewer, waits for a line, measures, prints "packets received, packets missing, seconds". */
#include "relay_wire.h"
#include "rtp.h"
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_SESSIONS = 256, MAX_VIEWERS = 10, PROVE = 64, DRAIN = 64, SEGMENTS = 50, HEAD = 2 };
struct viewer {
    struct wire wire;
    uint64_t got, proved;
};
struct source {
    struct wire wire;
    uint16_t seq;
    uint32_t ts;
    uint64_t sent;
    bool started;
};
static struct source sources[MAX_SESSIONS];
static struct viewer viewers[MAX_SESSIONS][MAX_VIEWERS];
static uint32_t sessions, per_session;
static uint64_t received, wrong;
static uint32_t window;

static void prove(struct viewer *v, uint8_t *p, size_t n)
{
    struct rtp_packet k;
    v->proved++;
    if (pl_srtp_unprotect_rtp(v->wire.srtp, p, &n) != PL_OK || rtp_parse(p, n, &k) != PL_OK || k.h.ssrc != v->wire.ssrc ||
        k.payload_n != BENCH_PAYLOAD || k.payload[9] != 0x5a)
        wrong++;
}

/* Takes what has come for a viewer; only its first packets are looked at. */
static void drain(struct viewer *v)
{
    static uint8_t bytes[DRAIN][BENCH_PACKET + 100];
    static struct iovec iov[DRAIN];
    static struct mmsghdr m[DRAIN];
    for (;;) {
        bool look = v->proved < PROVE;
        for (int i = 0; i < DRAIN; i++) {
            iov[i] = (struct iovec){ bytes[i], look ? sizeof bytes[i] : HEAD }; /* enough to count; the rest is not copied */
            m[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1 };
        }
        int got = recvmmsg(v->wire.fd, m, DRAIN, MSG_DONTWAIT, NULL);
        for (int i = 0; i < got; i++) {
            if (rtp_classify(bytes[i], HEAD) != RTP_CLASS_RTP) /* an answer to a check, a report */
                continue;
            v->got++;
            received++;
            if (look && v->proved < PROVE)
                prove(v, bytes[i], m[i].msg_len);
        }
        if (got < DRAIN)
            return;
    }
}

/* One send of equal segments. */
static void send_segments(const struct source *s, const uint8_t *p, size_t n)
{
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
    } control;
    struct iovec iov = { (void *)(uintptr_t)p, n };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes };
    uint16_t segment = (uint16_t)(RTP_HEADER + BENCH_PAYLOAD + pl_srtp_tag_bytes(s->wire.suite));
    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(c), &segment, sizeof segment);
    if (sendmsg(s->wire.fd, &m, 0) < 0)
        abort();
}

/* A frame of `packets`, all at once. */
static void burst(struct source *s, unsigned packets)
{
    static uint8_t out[SEGMENTS * (BENCH_PACKET + 64)];
    size_t at = 0;
    s->ts += 3000;
    for (unsigned i = 0; i < packets; i++) {
        struct rtp_header h = { .payload_type = BENCH_VIDEO_PT, .marker = i == packets - 1, .seq = s->seq++, .timestamp = s->ts, .ssrc = s->wire.ssrc };
        size_t n = RTP_HEADER + BENCH_PAYLOAD;
        uint8_t *p = out + at;
        rtp_write(&h, p);
        memset(p + RTP_HEADER, 0x5a, BENCH_PAYLOAD);
        if (i == 0 && !s->started) { /* SPS and PPS in a STAP-A that fills the packet: the one key frame */
            size_t pps = BENCH_PAYLOAD - 1 - 2 - 40 - 2;
            memcpy(p + RTP_HEADER, (const uint8_t[]){ 0x78, 0, 40, 0x67 }, 4);
            memcpy(p + RTP_HEADER + 43, (const uint8_t[]){ (uint8_t)(pps >> 8), (uint8_t)pps, 0x68 }, 3);
        } else {
            bool first = i == (s->started ? 0U : 1U), last = i == packets - 1;
            p[RTP_HEADER] = 0x7c;
            p[RTP_HEADER + 1] = (uint8_t)((first ? 0x80 : 0) | (last ? 0x40 : 0) | (s->started ? 1 : 5));
        }
        if (pl_srtp_protect_rtp(s->wire.srtp, p, &n, sizeof out - at) != PL_OK)
            abort();
        at += n;
        if (i == packets - 1 || (i + 1) % SEGMENTS == 0) {
            send_segments(s, out, at);
            at = 0;
        }
    }
    s->started = true;
    s->sent += packets;
}

static uint64_t missing;
static struct pl_mono checked;

static void check_all(struct pl_mono now)
{
    if (pl_mono_sub(now, checked) <= 2 * PL_SECOND)
        return;
    checked = now;
    for (unsigned s = 0; s < sessions; s++)
        for (unsigned v = 0; v < per_session; v++)
            wire_check(&viewers[s][v].wire);
}

/* Sends in turn to all sources, as the window allows, until `until`. */
static void run(struct pl_mono until)
{
    const struct pl_clock *clock = &pl_clock_system;
    struct pl_mono moved = pl_now_mono(clock);
    uint64_t last = received;
    unsigned turn = 0;
    static uint64_t given_up[MAX_SESSIONS];
    for (;;) {
        struct pl_mono now = pl_now_mono(clock);
        if (pl_mono_cmp(now, until) >= 0)
            return;
        check_all(now);
        unsigned busy = 0;
        for (unsigned i = 0; i < sessions && busy * BENCH_BURST < 4 * window; i++) {
            struct source *s = &sources[turn];
            uint64_t least = UINT64_MAX;
            for (unsigned v = 0; v < per_session; v++) {
                drain(&viewers[turn][v]);
                least = viewers[turn][v].got < least ? viewers[turn][v].got : least;
            }
            if (s->sent - least - given_up[turn] <= window - BENCH_BURST)
                burst(s, BENCH_BURST);
            else
                busy++;
            turn = (turn + 1) % sessions;
        }
        if (received != last) {
            last = received;
            moved = now;
        } else if (pl_mono_sub(now, moved) > 200 * PL_MS) { /* lost: go on, and say so */
            for (unsigned s = 0; s < sessions; s++) {
                uint64_t most = 0;
                for (unsigned v = 0; v < per_session; v++)
                    most = sources[s].sent - viewers[s][v].got > most ? sources[s].sent - viewers[s][v].got : most;
                missing += most - given_up[s];
                given_up[s] = most;
            }
            moved = now;
        }
    }
}

static void drain_all(void)
{
    for (unsigned s = 0; s < sessions; s++)
        for (unsigned v = 0; v < per_session; v++)
            drain(&viewers[s][v]);
}

/* Each source sends `packets` at once every 100 ms until `until`; then what is under way may still come. Counts what never came to each viewer. */
static void run_bursts(struct pl_mono until, unsigned packets)
{
    const struct pl_clock *clock = &pl_clock_system;
    uint64_t expected = 0;
    struct pl_mono next = pl_now_mono(clock);
    for (struct pl_mono now = next; pl_mono_cmp(now, pl_mono_add(until, PL_SECOND)) < 0; now = pl_now_mono(clock)) {
        check_all(now);
        if (pl_mono_cmp(now, next) >= 0 && pl_mono_cmp(now, until) < 0) {
            next = pl_mono_add(next, 100 * PL_MS);
            for (unsigned s = 0; s < sessions; s++)
                burst(&sources[s], packets);
        }
        drain_all();
    }
    for (unsigned s = 0; s < sessions; s++)
        expected += sources[s].sent * per_session;
    missing = expected - received; /* the closed loop before it lost nothing, or it would not have gone on */
}

static bool wire_native_all(uint16_t port)
{
    for (unsigned s = 0; s < sessions; s++)
        for (int v = -1; v < (int)per_session; v++)
            if (!wire_native(port, s, v, v < 0 ? &sources[s].wire : &viewers[s][v].wire))
                return false;
    return true;
}

static bool wire_told_all(void)
{
    static struct wire *wires[MAX_SESSIONS * (1 + MAX_VIEWERS)];
    static bool sends[MAX_SESSIONS * (1 + MAX_VIEWERS)];
    unsigned n = 0;
    for (unsigned s = 0; s < sessions; s++)
        for (int v = -1; v < (int)per_session; v++, n++) {
            wires[n] = v < 0 ? &sources[s].wire : &viewers[s][v].wire;
            sends[n] = v < 0;
        }
    return wire_told(wires, sends, n);
}

int main(int argc, char **argv)
{
    uint32_t port = 0, seconds, packets = 0;
    char line[64];
    bool told = argc > 1 && strcmp(argv[1], "-") == 0;
    if (argc < 6 || argc > 7 || (!told && pl_parse_u32(pl_str_of(argv[1]), 1, 65535, &port) != PL_OK) ||
        pl_parse_u32(pl_str_of(argv[2]), 1, MAX_SESSIONS, &sessions) != PL_OK || pl_parse_u32(pl_str_of(argv[3]), 1, MAX_VIEWERS, &per_session) != PL_OK ||
        pl_parse_u32(pl_str_of(argv[4]), 1, 600, &seconds) != PL_OK || pl_parse_u32(pl_str_of(argv[5]), BENCH_BURST, 1000, &window) != PL_OK ||
        (argc == 7 && pl_parse_u32(pl_str_of(argv[6]), 2, 1000, &packets) != PL_OK))
        return 64;
    if (!(told ? wire_told_all() : wire_native_all((uint16_t)port))) {
        (void)fprintf(stderr, "bench-relay-load: no answer to a check\n");
        return 69;
    }
    run(pl_mono_add(pl_now_mono(&pl_clock_system), 2 * PL_SECOND)); /* warm: the relay's pacer learns a source's rate in steps of a quarter of a second */
    printf("ready %s %s\n", pl_srtp_suite_name(sources[0].wire.suite), pl_srtp_suite_name(viewers[0][0].wire.suite));
    (void)fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        return 1;
    uint64_t before = received;
    struct pl_mono from = pl_now_mono(&pl_clock_system);
    struct pl_mono until = pl_mono_add(from, (int64_t)seconds * PL_SECOND);
    if (packets)
        run_bursts(until, packets);
    else
        run(until);
    printf("%llu %llu %.3f\n", (unsigned long long)(received - before), (unsigned long long)missing, (double)pl_mono_sub(pl_now_mono(&pl_clock_system), from) / (double)PL_SECOND);
    if (wrong) {
        (void)fprintf(stderr, "bench-relay-load: %llu packets were wrong\n", (unsigned long long)wrong);
        return 1;
    }
    return 0;
}
