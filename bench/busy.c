/* bench-busy NODE open|door SESSIONS FPS SECONDS [first]: what a busy relay does to the packets that pass it (V-B1), and what it says to whom it has no time for (V-G4).
 * An open loop: each of SESSIONS cameras sends a frame of eight packets FPS times a second to one viewer, whatever has become of the one before. `open`: all are let in before
 * anything is measured. `door`: one is offered each 20 ms to a relay that decides as the product does, and sends from then on if it is let in; SECONDS are measured after the last
 * offer. The relay has one core, this tool the other; `first`: it goes before others in the scheduler. Prints one line of JSON. All keys here are public. */
#include "bench_node.h"
#include <netinet/udp.h>
#include <sys/epoll.h>
#include <time.h>

enum { PACKETS = 8, SAMPLES = 4 << 20, BUCKETS = 6, EVENTS = 64, DRAIN = 64, KEY_EVERY = 64, OFFER_US = 20000, STAMP = 24 };
enum step { NEW, OPENING, ADDING, CHECKING, RUNNING, REFUSED };
static struct {
    enum step step;
    struct pl_mono asked, next;
    struct pl_srtp *in;
    int fd;
    uint64_t frames, sent, got;
} legs[MAX_SESSIONS];
static int32_t latency[SAMPLES], refusal[MAX_SESSIONS];
static size_t latency_n, refusal_n;
static bool measuring;
static uint64_t first_figures[BUCKETS], last_figures[BUCKETS];
static unsigned figures_n;
static int ep;
static int64_t frame_us;

static int64_t wall_us(const struct timespec *t) { return t->tv_sec * PL_SECOND + t->tv_nsec / 1000; }

static void on_core(int which)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(which, &set);
    (void)sched_setaffinity(0, sizeof set, &set); /* a machine with one core measures on that */
}

/* ---- Cameras. */

static void send_frame(unsigned s)
{
    static uint8_t out[PACKETS * BENCH_PACKET];
    static const uint8_t key[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c, 0, 2, 0x65, 0x80,
        (BENCH_PAYLOAD - 18) >> 8, (BENCH_PAYLOAD - 18) & 255, 0x0c }; /* SPS, PPS, IDR and filler in a STAP-A */
    bool is_key = legs[s].frames++ % KEY_EVERY == 0;
    unsigned packets = is_key ? 1 : PACKETS;
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    int64_t now = wall_us(&t);
    sources[s].ts += 3000;
    for (unsigned i = 0; i < packets; i++) {
        struct rtp_header h = { .payload_type = BENCH_VIDEO_PT, .marker = i + 1 == packets, .seq = sources[s].seq++, .timestamp = sources[s].ts, .ssrc = sources[s].leg.ssrc };
        uint8_t *p = out + i * BENCH_PACKET, *payload = p + RTP_HEADER;
        size_t n = RTP_HEADER + BENCH_PAYLOAD;
        rtp_write(&h, p);
        memset(payload, 0x5a, BENCH_PAYLOAD);
        memcpy(payload, (const uint8_t[]){ 0x7c, (uint8_t)((i == 0 ? 0x80 : 0) | (h.marker ? 0x40 : 0) | 1) }, 2);
        if (is_key)
            memcpy(payload, key, sizeof key);
        memcpy(payload + STAMP, &now, sizeof now);
        if (pl_srtp_protect_rtp(sources[s].out, p, &n, BENCH_PACKET) != PL_OK)
            die("no packet");
    }
    if (send(sources[s].fd, out, packets * BENCH_PACKET, 0) > 0)
        legs[s].sent += packets;
}

static void send_due(struct pl_mono now)
{
    for (unsigned s = 0; s < sessions; s++)
        if (legs[s].step == RUNNING && pl_mono_cmp(now, legs[s].next) >= 0) {
            legs[s].next = pl_mono_add(legs[s].next, frame_us);
            send_frame(s);
        }
}

/* ---- Viewers: each frame's last packet says how long it was on its way, by the kernel's stamp here. */

static void sample(unsigned s, uint8_t *p, size_t n, const struct msghdr *m)
{
    const struct cmsghdr *c = CMSG_FIRSTHDR(m);
    struct rtp_packet k;
    struct timespec t;
    int64_t sent;
    if (!c || c->cmsg_type != SCM_TIMESTAMPNS || pl_srtp_unprotect_rtp(legs[s].in, p, &n) != PL_OK || rtp_parse(p, n, &k) != PL_OK || k.payload_n != BENCH_PAYLOAD)
        die("a wrong packet");
    memcpy(&t, CMSG_DATA(c), sizeof t);
    memcpy(&sent, k.payload + STAMP, sizeof sent);
    if (measuring && latency_n < SAMPLES)
        latency[latency_n++] = (int32_t)(wall_us(&t) - sent);
}

static void drain(unsigned s)
{
    static uint8_t bytes[DRAIN][BENCH_PACKET + 100];
    static struct iovec iov[DRAIN];
    static struct mmsghdr m[DRAIN];
    static union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof(struct timespec))];
    } controls[DRAIN];
    for (int got = DRAIN; got == DRAIN;) {
        for (int i = 0; i < DRAIN; i++) {
            iov[i] = (struct iovec){ bytes[i], sizeof bytes[i] };
            m[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1, .msg_control = &controls[i], .msg_controllen = sizeof controls[i].bytes };
        }
        got = recvmmsg(legs[s].fd, m, DRAIN, MSG_DONTWAIT, NULL);
        for (int i = 0; i < got; i++) {
            enum rtp_class class = rtp_classify(bytes[i], m[i].msg_len);
            if (class == RTP_CLASS_STUN && legs[s].step == CHECKING) {
                legs[s].step = RUNNING; /* its hub was checked before it; frames of all are spread over their time */
                legs[s].next = pl_mono_add(clock_now(), (int64_t)pl_rand_below(&pl_rand_system, (uint32_t)frame_us));
            }
            if (class != RTP_CLASS_RTP)
                continue;
            legs[s].got++;
            if (bytes[i][1] & 0x80)
                sample(s, bytes[i], m[i].msg_len, &m[i].msg_hdr);
        }
    }
}

/* ---- The node's answers. */

static void refused(unsigned s)
{
    if (legs[s].step == REFUSED)
        return;
    legs[s].step = REFUSED;
    refusal[refusal_n++] = (int32_t)pl_mono_sub(clock_now(), legs[s].asked);
}

static void answered(unsigned s, bool viewer, struct pl_str code)
{
    int on = 1;
    if (pl_str_eqz(code, pl_err_code(PL_NODE_FULL))) {
        refused(s);
        return;
    }
    if (!pl_str_eqz(code, pl_err_code(PL_OK)))
        die("the relay refused for another reason");
    legs[s].asked = clock_now();
    if (!viewer) {
        struct epoll_event ev = { .events = EPOLLIN, .data.u32 = s };
        legs[s].step = ADDING;
        legs[s].fd = add_viewer(s, &legs[s].in);
        int segment = BENCH_PACKET;
        if (setsockopt(legs[s].fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) != 0 || epoll_ctl(ep, EPOLL_CTL_ADD, legs[s].fd, &ev) != 0 ||
            setsockopt(sources[s].fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment) != 0)
            die("no stamps");
        return;
    }
    struct bench_leg l = bench_leg(s, 0);
    legs[s].step = CHECKING;
    check(sources[s].fd, &sources[s].leg.ice);
    check(legs[s].fd, &l.ice);
}

static void figures(struct pl_str rest)
{
    uint64_t *to = measuring && figures_n++ == 0 ? first_figures : last_figures;
    for (unsigned i = 0; measuring && i < BUCKETS; i++) {
        struct pl_str one = pl_str_split(rest, ' ', &rest);
        to[i] = strtoull(one.p, NULL, 10);
    }
}

static void hear(void)
{
    static char text[65536];
    static size_t n;
    ssize_t got = read(from_node, text + n, sizeof text - n);
    n += got > 0 ? (size_t)got : 0;
    struct pl_str rest = { text, n };
    for (size_t end; (end = pl_str_find(rest, '\n')) < rest.n; rest.p += end + 1, rest.n -= end + 1) {
        struct pl_str code, id = pl_str_split((struct pl_str){ rest.p, end }, ' ', &code);
        uint32_t s;
        if (pl_str_eqz(id, "figures"))
            figures(code);
        else if (pl_parse_u32((struct pl_str){ id.p + 1, id.n - 1 }, 0, sessions - 1, &s) == PL_OK)
            answered(s, id.p[0] == 'v', code);
    }
    memmove(text, rest.p, rest.n);
    n = rest.n;
}

static void check_all(struct pl_mono now)
{
    static struct pl_mono checked;
    if (pl_mono_sub(now, checked) < 2 * PL_SECOND)
        return;
    checked = now;
    for (unsigned s = 0; s < sessions; s++)
        if (legs[s].step == RUNNING || legs[s].step == CHECKING) {
            struct bench_leg l = bench_leg(s, 0);
            check(sources[s].fd, &sources[s].leg.ice);
            check(legs[s].fd, &l.ice);
        }
}

/* One turn of everything. */
static void turn(void)
{
    struct epoll_event ready[EVENTS];
    struct pl_mono now = clock_now();
    check_all(now);
    send_due(now);
    int n = epoll_wait(ep, ready, EVENTS, 0);
    for (int i = 0; i < n; i++) {
        if (ready[i].data.u32 == MAX_SESSIONS)
            hear();
        else
            drain(ready[i].data.u32);
    }
}

static void turns_until(struct pl_mono end)
{
    while (pl_mono_cmp(clock_now(), end) < 0)
        turn();
}

static void offer(unsigned s)
{
    legs[s].step = OPENING;
    legs[s].asked = clock_now();
    open_session(s);
}

static void offer_all(bool door)
{
    struct pl_mono next = clock_now();
    for (unsigned s = 0; s < sessions; s++) {
        next = pl_mono_add(next, door ? OFFER_US : 1000);
        offer(s);
        turns_until(next);
    }
    turns_until(pl_mono_add(clock_now(), 2 * PL_SECOND));
}

static int by_value(const void *a, const void *b)
{
    int32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static void write_times(const char *name, int32_t *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    printf("\"%s\":{\"n\":%zu,\"p50\":%d,\"p99\":%d,\"max\":%d},", name, n, n ? v[n / 2] : 0, n ? v[n * 99 / 100] : 0, n ? v[n - 1] : 0);
}

int main(int argc, char **argv)
{
    uint32_t fps, seconds;
    struct epoll_event ev = { .events = EPOLLIN, .data.u32 = MAX_SESSIONS };
    struct node_cpu before, after;
    if (argc < 6 || argc > 7 || (argc == 7 && strcmp(argv[6], "first") != 0) || pl_parse_u32(pl_str_of(argv[3]), 1, MAX_SESSIONS, &sessions) != PL_OK ||
        pl_parse_u32(pl_str_of(argv[4]), 1, 10000, &fps) != PL_OK || pl_parse_u32(pl_str_of(argv[5]), 1, 600, &seconds) != PL_OK || stun_mac_new(&mac) != PL_OK || pl_srtp_start() != PL_OK)
        return 64;
    frame_us = PL_SECOND / fps;
    node_mode = argv[2];
    node_first = argc == 7;
    on_core(1);
    start_node(argv[1]);
    on_core(0);
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, from_node, &ev) != 0)
        die("no epoll");
    offer_all(strcmp(argv[2], "door") == 0);
    measuring = true;
    struct pl_mono start = clock_now();
    node_cpu(&before);
    turns_until(pl_mono_add(start, (int64_t)seconds * PL_SECOND));
    node_cpu(&after);
    double share = (double)(after.used[1] - before.used[1]) / (double)pl_mono_sub(clock_now(), start);
    measuring = false;
    uint64_t sent = 0, got = 0;
    unsigned running = 0;
    for (unsigned s = 0; s < sessions; s++) {
        running += legs[s].step == RUNNING;
        sent += legs[s].sent;
        legs[s].next = pl_mono_add(legs[s].next, PL_HOUR);
    }
    turns_until(pl_mono_add(clock_now(), PL_SECOND));
    for (unsigned s = 0; s < sessions; s++)
        got += legs[s].got;
    printf("{\"offered\":%u,\"running\":%u,\"sent\":%llu,\"got\":%llu,\"share\":%.3f,\"waited_us\":%lld,", sessions, running, (unsigned long long)sent, (unsigned long long)got, share,
        (long long)(after.media_waited - before.media_waited));
    write_times("latency", latency, latency_n);
    write_times("refusal", refusal, refusal_n);
    printf("\"transit\":[");
    for (unsigned i = 0; i < BUCKETS; i++)
        printf("%s%llu", i ? "," : "", (unsigned long long)(figures_n > 1 ? last_figures[i] - first_figures[i] : 0));
    printf("]}\n");
    close(to_node);
    return 0;
}
