/* bench_node.h - a bench-setup-node under measurement: started, told in the relay's protocol, with hubs that stream to it, its CPU and memory. For the tools that play phones
 * and strangers to it. */
#pragma once
#include "dtls.h"
#include "rand.h"
#include "relay_bench.h"
#include "rtp.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_SESSIONS = 448 };
static struct { int fd; struct pl_srtp *out; uint16_t seq; uint32_t ts; struct bench_leg leg; } sources[MAX_SESSIONS];
static struct stun_mac *mac;
static uint32_t sessions;
static int to_node, from_node;
static const char *node_mode; /* second argument of bench-setup-node; NULL: none */
static bool node_first;       /* it goes before others in the scheduler, as its unit in deploy/ does */
static pid_t node;
static uint16_t port;
static uint8_t relay_fp[DTLS_FINGERPRINT];

static inline void die(const char *why)
{
    (void)fprintf(stderr, "bench-setups: %s\n", why);
    exit(1);
}
static inline struct pl_mono clock_now(void) { return pl_now_mono(&pl_clock_system); }

/* ---- The node. */

static inline void start_node(const char *program)
{
    int in[2], out[2];
    char count[16];
    if (pipe(in) != 0 || pipe(out) != 0)
        die("no pipe");
    (void)snprintf(count, sizeof count, "%u", sessions);
    node = fork();
    if (node == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[1]);
        close(out[0]);
        if (node_first && sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 10 }) != 0)
            _exit(126);
        execl(program, program, count, node_mode, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    to_node = in[1];
    from_node = out[0];
    char line[128] = "";
    for (size_t n = 0; n < sizeof line - 1 && !strchr(line, '\n'); n++)
        if (read(from_node, line + n, 1) != 1)
            die("the relay did not start");
    uint32_t p;
    struct pl_str rest, first = pl_str_split(pl_str_of(line), ' ', &rest);
    if (pl_parse_u32(first, 1, 65535, &p) != PL_OK || pl_unhex((struct pl_str){ rest.p, 64 }, relay_fp, sizeof relay_fp) != PL_OK)
        die("what did the relay say?");
    port = (uint16_t)p;
    (void)fcntl(from_node, F_SETFL, O_NONBLOCK);
}

static inline void tell(struct pl_buf *b)
{
    if (pl_buf_err(b) != PL_OK || write(to_node, b->p, b->n) != (ssize_t)b->n)
        die("the relay does not listen");
}

/* Microseconds of its threads by name: control (the main one), media, dtls; and how long the media thread could have run and had no core. */
struct node_cpu {
    int64_t used[3], media_waited;
};
static inline void node_cpu(struct node_cpu *ret)
{
    char path[300], text[128];
    *ret = (struct node_cpu){ .media_waited = 0 };
    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)node);
    DIR *dir = opendir(path);
    for (struct dirent *d; dir && (d = readdir(dir)) != NULL;) {
        for (unsigned k = 0; k < 2; k++) {
            (void)snprintf(path, sizeof path, "/proc/%d/task/%s/%s", (int)node, d->d_name, k ? "schedstat" : "comm");
            int fd = d->d_name[0] == '.' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
            ssize_t n = fd < 0 ? 0 : read(fd, text + k * 64, 63);
            text[k * 64 + (n > 0 ? n : 0)] = 0;
            if (fd >= 0)
                close(fd);
        }
        if (d->d_name[0] == '.')
            continue;
        char *rest;
        bool media = strncmp(text, "media", 5) == 0;
        ret->used[media ? 1 : strncmp(text, "dtls", 4) == 0 ? 2 : 0] += strtoll(text + 64, &rest, 10) / 1000;
        ret->media_waited += media ? strtoll(rest, NULL, 10) / 1000 : 0;
    }
    if (dir)
        closedir(dir);
}

static inline long node_kib(void)
{
    char path[64], text[128] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)node);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    char *rest = NULL;
    return n > 0 && strtol(text, &rest, 10) > 0 ? strtol(rest, NULL, 10) * (sysconf(_SC_PAGESIZE) / 1024) : 0;
}

static inline int udp(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port) };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
        die("no socket");
    return fd;
}

static inline void check(int fd, const struct ice_cred *c)
{
    char name[80];
    uint8_t out[STUN_MAX];
    size_t n;
    struct pl_buf b = pl_buf_fixed(name, sizeof name);
    pl_buf_fmt(&b, "%s:%s", c->ufrag, c->peer_ufrag);
    struct stun_request r = { .username = pl_buf_view(&b), .password = pl_str_of(c->pwd), .controlling = true, .use_candidate = true };
    pl_rand_fill(&pl_rand_system, r.tid, sizeof r.tid);
    if (stun_write_request(mac, &r, out, sizeof out, &n) != PL_OK || send(fd, out, n, 0) < 0)
        die("no check");
}

static inline void live_id(unsigned session, char out[PL_UUID_TEXT]) { (void)snprintf(out, PL_UUID_TEXT, "01890000-0000-7000-8000-%012x", session + 1); }

/* Its hub has a socket, and the key that it sends under. Answered as "sN". */
static inline void open_session(unsigned s)
{
    struct bench_leg l = sources[s].leg = bench_leg(s, -1);
    char text[2048], live[PL_UUID_TEXT];
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(8192);
    struct pl_buf b = pl_buf_fixed(text, sizeof text);
    live_id(s, live);
    pl_buf_fmt(&b, "{\"type\":\"session.open\",\"id\":\"s%u\",\"live_id\":\"%s\",\"generation\":1,\"expires_in_ms\":3600000,\"source\":{\"ice\":{\"ufrag\":\"%s\",\"pwd\":\"%s\","
        "\"peer_ufrag\":\"%s\"},\"suite\":\"AEAD_AES_128_GCM\",\"keys\":{\"receive\":\"%s\",\"send\":\"%s\"},\"video\":{\"ssrc\":%u,\"payload_type\":%d}}}\n", s, live, l.ice.ufrag,
        l.ice.pwd, l.ice.peer_ufrag, pl_b64url(a, l.to_relay, BENCH_KEY).p, pl_b64url(a, l.from_relay, BENCH_KEY).p, (unsigned)l.ssrc, BENCH_VIDEO_PT);
    tell(&b);
    struct pl_srtp_conf c = { .suite = PL_SRTP_GCM, .key = l.to_relay, .key_n = BENCH_KEY, .ssrcs = { l.ssrc }, .ssrcs_n = 1 };
    if (pl_srtp_new(&c, &sources[s].out) != PL_OK)
        die("no memory");
    sources[s].fd = udp();
}

static inline void open_sessions(void)
{
    for (unsigned s = 0; s < sessions; s++)
        open_session(s);
}

/* The native viewer of a session: a socket, and what its media is read with. Answered as "vN". */
static inline int add_viewer(unsigned s, struct pl_srtp **ret_in)
{
    struct bench_leg l = bench_leg(s, 0);
    char text[2048], live[PL_UUID_TEXT];
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(8192);
    struct pl_buf b = pl_buf_fixed(text, sizeof text);
    live_id(s, live);
    pl_buf_fmt(&b, "{\"type\":\"viewer.add\",\"id\":\"v%u\",\"live_id\":\"%s\",\"generation\":1,\"viewer_id\":\"v\",\"ice\":{\"ufrag\":\"%s\",\"pwd\":\"%s\",\"peer_ufrag\":\"%s\"},"
        "\"suite\":\"AEAD_AES_128_GCM\",\"keys\":{\"receive\":\"%s\",\"send\":\"%s\"},\"video\":{\"ssrc\":%u,\"payload_type\":%d}}\n", s, live, l.ice.ufrag, l.ice.pwd,
        l.ice.peer_ufrag, pl_b64url(a, l.to_relay, BENCH_KEY).p, pl_b64url(a, l.from_relay, BENCH_KEY).p, (unsigned)l.ssrc, BENCH_VIDEO_PT);
    tell(&b);
    struct pl_srtp_conf c = { .suite = PL_SRTP_GCM, .receive = true, .key = l.from_relay, .key_n = BENCH_KEY, .ssrcs = { l.ssrc }, .ssrcs_n = 1 };
    if (pl_srtp_new(&c, ret_in) != PL_OK)
        die("no memory");
    return udp();
}
