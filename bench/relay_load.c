/* bench-relay-load PORT SESSIONS VIEWERS SECONDS [BURST]: hubs and viewers of a measurement, on one core. Closed loop: frames of 24 packets of 1,200 bytes per source,
 * at most WINDOW packets under way, so that nothing is lost and the other side always has full batches. With BURST an open loop: each source sends a frame of so many packets at
 * once, ten times a second, whatever has become of the one before. The first packets of every viewer are decrypted and must be right.
 * Speaks with the script over stdin and stdout: "ready", waits for a line, measures, prints "packets received, packets missing, seconds". */
#include "relay_bench.h"
#include "rtp.h"
#include "clock.h"
#include "rand.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_SESSIONS = 256, MAX_VIEWERS = 10, WINDOW = 128, PROVE = 64, DRAIN = 64, SEGMENTS = 50 };
struct viewer {
    int fd;
    struct pl_srtp *in;
    struct bench_leg leg;
    uint64_t got, proved;
};
struct source {
    int fd;
    struct pl_srtp *out;
    struct bench_leg leg;
    uint16_t seq;
    uint32_t ts;
    uint64_t sent;
    bool started;
};
static struct source sources[MAX_SESSIONS];
static struct viewer viewers[MAX_SESSIONS][MAX_VIEWERS];
static unsigned sessions, per_session;
static uint64_t received, wrong;
static struct stun_mac *mac;

static int udp_to(uint16_t port, int rcvbuf)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port) };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
        abort();
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf, sizeof rcvbuf) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf);
    return fd;
}

static void check(int fd, const struct bench_leg *leg)
{
    char name[64];
    uint8_t out[STUN_MAX];
    size_t n;
    struct pl_buf b = pl_buf_fixed(name, sizeof name);
    pl_buf_fmt(&b, "%s:%s", leg->ice.ufrag, leg->ice.peer_ufrag);
    struct stun_request r = { .username = pl_buf_view(&b), .password = pl_str_of(leg->ice.pwd), .controlling = true, .use_candidate = true };
    pl_rand_fill(&pl_rand_system, r.tid, sizeof r.tid);
    if (stun_write_request(mac, &r, out, sizeof out, &n) != PL_OK || send(fd, out, n, 0) < 0)
        abort();
}

static void prove(struct viewer *v, uint8_t *p, size_t n)
{
    struct rtp_packet k;
    v->proved++;
    if (n != BENCH_PACKET || pl_srtp_unprotect_rtp(v->in, p, &n) != PL_OK ||
        rtp_parse(p, n, &k) != PL_OK || k.h.ssrc != v->leg.ssrc || k.payload_n != BENCH_PAYLOAD || k.payload[9] != 0x5a)
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
            iov[i] = (struct iovec){ bytes[i], look ? sizeof bytes[i] : 1 }; /* one byte is enough to count; the rest is not copied */
            m[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1 };
        }
        int got = recvmmsg(v->fd, m, DRAIN, MSG_DONTWAIT, NULL);
        for (int i = 0; i < got; i++) {
            if (bytes[i][0] < 128) /* an answer to a check */
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
    uint16_t segment = BENCH_PACKET;
    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(c), &segment, sizeof segment);
    if (sendmsg(s->fd, &m, 0) < 0)
        abort();
}

/* A frame of `packets`, all at once. */
static void burst(struct source *s, unsigned packets)
{
    static uint8_t out[SEGMENTS * (BENCH_PACKET + 64)];
    size_t at = 0;
    s->ts += 3000;
    for (unsigned i = 0; i < packets; i++) {
        struct rtp_header h = { .payload_type = BENCH_VIDEO_PT, .marker = i == packets - 1, .seq = s->seq++, .timestamp = s->ts, .ssrc = s->leg.ssrc };
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
        if (pl_srtp_protect_rtp(s->out, p, &n, sizeof out - at) != PL_OK)
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
            check(viewers[s][v].fd, &viewers[s][v].leg);
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
        for (unsigned i = 0; i < sessions && busy * BENCH_BURST < 4 * WINDOW; i++) {
            struct source *s = &sources[turn];
            uint64_t least = UINT64_MAX;
            for (unsigned v = 0; v < per_session; v++) {
                drain(&viewers[turn][v]);
                least = viewers[turn][v].got < least ? viewers[turn][v].got : least;
            }
            if (s->sent - least - given_up[turn] <= WINDOW - BENCH_BURST)
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

int main(int argc, char **argv)
{
    uint32_t port, seconds, packets = 0;
    char line[64];
    if (argc < 5 || argc > 6 || pl_parse_u32(pl_str_of(argv[1]), 1, 65535, &port) != PL_OK || pl_parse_u32(pl_str_of(argv[2]), 1, MAX_SESSIONS, &sessions) != PL_OK ||
        pl_parse_u32(pl_str_of(argv[3]), 1, MAX_VIEWERS, &per_session) != PL_OK || pl_parse_u32(pl_str_of(argv[4]), 1, 600, &seconds) != PL_OK ||
        (argc == 6 && pl_parse_u32(pl_str_of(argv[5]), 2, 1000, &packets) != PL_OK) || stun_mac_new(&mac) != PL_OK)
        return 64;
    for (unsigned s = 0; s < sessions; s++) {
        struct source *src = &sources[s];
        src->leg = bench_leg(s, -1);
        src->fd = udp_to((uint16_t)port, 65536);
        struct pl_srtp_conf c = { .suite = PL_SRTP_GCM, .key = src->leg.to_relay, .key_n = BENCH_KEY, .ssrcs = { src->leg.ssrc }, .ssrcs_n = 1 };
        if (pl_srtp_new(&c, &src->out) != PL_OK)
            return 70;
        check(src->fd, &src->leg);
        for (unsigned v = 0; v < per_session; v++) {
            struct viewer *w = &viewers[s][v];
            w->leg = bench_leg(s, (int)v);
            w->fd = udp_to((uint16_t)port, 2 << 20);
            struct pl_srtp_conf d = { .suite = PL_SRTP_GCM, .receive = true, .key = w->leg.from_relay, .key_n = BENCH_KEY, .ssrcs = { w->leg.ssrc }, .ssrcs_n = 1 };
            if (pl_srtp_new(&d, &w->in) != PL_OK)
                return 70;
            check(w->fd, &w->leg);
            struct pollfd f = { w->fd, POLLIN, 0 };
            if (poll(&f, 1, 5000) != 1) {
                (void)fprintf(stderr, "bench-relay-load: no answer to a check\n");
                return 69;
            }
        }
    }
    run(pl_mono_add(pl_now_mono(&pl_clock_system), 500 * PL_MS)); /* warm */
    printf("ready\n");
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
