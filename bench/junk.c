/* bench-junk NODE SECONDS KPPS: S-M5: a hub streams to a viewer through bench-setup-node (started as NODE), one packet each 5 ms, SECONDS without and SECONDS with strangers who
 * send KPPS thousand datagrams a second of everything that a media port might take for its own. Prints for the quiet and the flooded span "packets sent, lost, us of transit p50
 * p99, us of the relay's CPU", then "junk sent, answers to it". All keys here are public. */
#include "bench_node.h"
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

enum { EVERY_US = 5000, SAMPLES = 200000, BATCH = 50, KINDS = 6, SIZE = 1000, STRANGERS = 16 };

static uint32_t kpps;
static atomic_bool stop;
static uint64_t junk_sent, junk_answered;
static int64_t transit[SAMPLES];
static struct pl_srtp *in;
static int viewer_fd;

/* ---- Strangers. */

static size_t junk(unsigned kind, uint8_t *p)
{
    struct ice_cred wrong = sources[0].leg.ice;
    size_t n = SIZE;
    char name[80];
    struct pl_buf b = pl_buf_fixed(name, sizeof name);
    pl_rand_fill(&pl_rand_system, p, SIZE);
    switch (kind) {
    case 0: /* a check for nobody; a check for a hub that is there, with a wrong password */
    case 1: {
        if (kind == 0)
            wrong.ufrag[0] = 'x';
        pl_buf_fmt(&b, "%s:%s", wrong.ufrag, wrong.peer_ufrag);
        struct stun_request r = { .username = pl_buf_view(&b), .password = PL_STR("a-password-that-is-not-it"), .controlling = true, .use_candidate = true };
        memcpy(r.tid, p, sizeof r.tid);
        if (stun_write_request(mac, &r, p, SIZE, &n) != PL_OK)
            die("no junk");
        break;
    }
    case 2: /* the hub's media, as one would forge it */
    case 3: rtp_write(&(struct rtp_header){ .payload_type = kind == 3 ? 200 & 127 : BENCH_VIDEO_PT, .marker = kind == 3, .ssrc = sources[0].leg.ssrc }, p); break;
    case 4: /* a ClientHello's head */
        memcpy(p, (const uint8_t[]){ 22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 130, 1, 0, 0, 118, 0, 0, 0, 0, 0, 0, 0, 118 }, 25);
        n = 143;
        break;
    default: break;
    }
    return n;
}

static uint8_t bytes[KINDS][SIZE];
static size_t sizes[KINDS]; /* both made before the thread is: what checks are made with belongs to the main one */

static void *flood(void *none)
{
    struct mmsghdr m[BATCH];
    struct iovec v[KINDS];
    int fds[STRANGERS];
    (void)none;
    for (unsigned k = 0; k < KINDS; k++)
        v[k] = (struct iovec){ bytes[k], sizes[k] };
    for (unsigned i = 0; i < BATCH; i++)
        m[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &v[i % KINDS], .msg_iovlen = 1 } };
    for (unsigned i = 0; i < STRANGERS; i++)
        fds[i] = udp();
    struct pl_mono start = clock_now();
    for (unsigned turn = 0; !atomic_load(&stop); turn++) {
        int64_t due = (int64_t)(junk_sent * 1000 / kpps) - pl_mono_sub(clock_now(), start);
        if (due > 1000)
            (void)poll(NULL, 0, (int)(due / 1000));
        int done = sendmmsg(fds[turn % STRANGERS], m, BATCH, 0);
        junk_sent += done > 0 ? (uint64_t)done : 0;
        while (recv(fds[turn % STRANGERS], bytes[KINDS - 1], SIZE, 0) > 0)
            junk_answered++;
    }
    for (unsigned i = 0; i < STRANGERS; i++)
        close(fds[i]);
    return NULL;
}

/* ---- The hub and its viewer. */

static void send_one(bool key)
{
    static const uint8_t params[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c };
    uint8_t out[BENCH_PACKET];
    struct pl_mono now = clock_now();
    struct rtp_header h = { .payload_type = BENCH_VIDEO_PT, .marker = true, .seq = sources[0].seq++, .timestamp = sources[0].ts += 450, .ssrc = sources[0].leg.ssrc };
    size_t n = RTP_HEADER + 800;
    memset(out, 0x5a, sizeof out);
    rtp_write(&h, out);
    out[RTP_HEADER] = 0x41;
    if (key) {
        memcpy(out + RTP_HEADER, params, sizeof params);
        n = RTP_HEADER + sizeof params;
    }
    memcpy(out + RTP_HEADER + 16, &now.us, sizeof now.us);
    if (pl_srtp_protect_rtp(sources[0].out, out, &n, sizeof out) != PL_OK || send(sources[0].fd, out, n, 0) < 0)
        die("the hub cannot send");
}

static void take(unsigned *got)
{
    uint8_t p[2048];
    struct rtp_packet k;
    for (ssize_t r; (r = recv(viewer_fd, p, sizeof p, 0)) > 0;) {
        size_t n = (size_t)r;
        struct pl_mono sent;
        if (rtp_classify(p, n) != RTP_CLASS_RTP || pl_srtp_unprotect_rtp(in, p, &n) != PL_OK || rtp_parse(p, n, &k) != PL_OK || k.payload_n < 100)
            continue;
        memcpy(&sent.us, k.payload + 16, sizeof sent.us);
        if (*got < SAMPLES)
            transit[(*got)++] = pl_mono_sub(clock_now(), sent);
    }
}

static int by_value(const void *a, const void *b)
{
    int64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static struct bench_leg viewer_leg(void) { return bench_leg(0, 0); }

static void span(uint32_t seconds)
{
    struct bench_leg leg = viewer_leg();
    struct node_cpu before, after;
    unsigned sent = 0, got = 0;
    struct pl_mono next = clock_now(), end = pl_mono_add(next, (int64_t)seconds * PL_SECOND), checked = { 0 };
    node_cpu(&before);
    for (struct pl_mono now; pl_mono_cmp(now = clock_now(), pl_mono_add(end, 200 * PL_MS)) < 0;) {
        if (pl_mono_sub(now, checked) > PL_SECOND) {
            checked = now;
            check(sources[0].fd, &sources[0].leg.ice);
            check(viewer_fd, &leg.ice);
        }
        if (pl_mono_cmp(now, next) >= 0 && pl_mono_cmp(now, end) < 0) {
            next = pl_mono_add(next, EVERY_US);
            send_one(false);
            sent++;
        }
        struct pollfd f = { .fd = viewer_fd, .events = POLLIN };
        (void)poll(&f, 1, 1);
        take(&got);
    }
    node_cpu(&after);
    qsort(transit, got, sizeof *transit, by_value);
    printf("%u %d %lld %lld %lld\n", sent, (int)sent - (int)got, got ? (long long)transit[got / 2] : -1, got ? (long long)transit[(size_t)got * 99 / 100] : -1,
        (long long)(after.used[0] + after.used[1] + after.used[2] - before.used[0] - before.used[1] - before.used[2]));
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    uint32_t seconds;
    pthread_t strangers;
    sessions = 1;
    if (argc != 4 || pl_parse_u32(pl_str_of(argv[2]), 1, 600, &seconds) != PL_OK || pl_parse_u32(pl_str_of(argv[3]), 1, 2000, &kpps) != PL_OK || stun_mac_new(&mac) != PL_OK)
        return 64;
    start_node(argv[1]);
    open_sessions();
    viewer_fd = add_viewer(0, &in);
    for (struct pl_mono end = pl_mono_add(clock_now(), 500 * PL_MS); pl_mono_cmp(clock_now(), end) < 0; (void)poll(NULL, 0, 50)) { /* until path and key frame are there */
        struct bench_leg leg = viewer_leg();
        unsigned none = 0;
        check(sources[0].fd, &sources[0].leg.ice);
        check(viewer_fd, &leg.ice);
        send_one(true);
        take(&none);
    }
    span(seconds);
    for (unsigned k = 0; k < KINDS; k++)
        sizes[k] = junk(k, bytes[k]);
    if (pthread_create(&strangers, NULL, flood, NULL) != 0)
        die("no thread");
    span(seconds);
    atomic_store(&stop, true);
    pthread_join(strangers, NULL);
    printf("%llu %llu\n", (unsigned long long)junk_sent, (unsigned long long)junk_answered);
    close(to_node);
    return 0;
}
