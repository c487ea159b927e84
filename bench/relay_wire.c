#include "relay_wire.h"
#include "dtls.h"
#include "rand.h"
#include "rtp.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROOM_OUT = 64 << 10, ROOM_IN = 2 << 20, ANSWER_MS = 5000, AGAIN_MS = 50 };

static struct stun_mac *mac(void)
{
    static struct stun_mac *m;
    if (!m && stun_mac_new(&m) != PL_OK)
        abort();
    return m;
}

static int udp(int rcvbuf)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in any = { .sin_family = AF_INET };
    if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any) != 0)
        abort();
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf, sizeof rcvbuf) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf);
    return fd;
}

static bool connected(int fd, const char *host, uint32_t port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    return inet_pton(AF_INET, host, &at.sin_addr) == 1 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0;
}

static bool readable(int fd, int ms)
{
    struct pollfd f = { fd, POLLIN, 0 };
    return poll(&f, 1, ms) == 1;
}

void wire_check(const struct wire *w)
{
    char name[80];
    uint8_t out[STUN_MAX];
    size_t n;
    struct pl_buf b = pl_buf_fixed(name, sizeof name);
    if (!w->ice.ufrag[0])
        return;
    pl_buf_fmt(&b, "%s:%s", w->ice.ufrag, w->ice.peer_ufrag);
    struct stun_request r = { .username = pl_buf_view(&b), .password = pl_str_of(w->ice.pwd), .controlling = true, .use_candidate = true };
    pl_rand_fill(&pl_rand_system, r.tid, sizeof r.tid);
    if (stun_write_request(mac(), &r, out, sizeof out, &n) != PL_OK || send(w->fd, out, n, 0) < 0)
        abort();
}

static bool keyed(struct wire *w, bool sends, const uint8_t *key)
{
    struct pl_srtp_conf c = { .suite = w->suite, .receive = !sends, .key = key, .key_n = pl_srtp_key_bytes(w->suite), .ssrcs = { w->ssrc }, .ssrcs_n = 1 };
    return pl_srtp_new(&c, &w->srtp) == PL_OK;
}

bool wire_native(uint16_t port, unsigned session, int viewer, struct wire *ret)
{
    struct bench_leg leg = bench_leg(session, viewer);
    *ret = (struct wire){ .fd = udp(viewer < 0 ? ROOM_OUT : ROOM_IN), .ssrc = leg.ssrc, .ice = leg.ice, .suite = PL_SRTP_GCM };
    if (!connected(ret->fd, "127.0.0.1", port) || !keyed(ret, viewer < 0, viewer < 0 ? leg.to_relay : leg.from_relay))
        abort();
    wire_check(ret);
    return viewer < 0 || readable(ret->fd, ANSWER_MS);
}

/* ---- A peer's legs. */

struct shaking {
    struct dtls_sink sink; /* first */
    int fd;
};
static void to_peer(struct dtls_sink *self, const uint8_t *p, size_t n) { (void)!send(((struct shaking *)self)->fd, p, n, 0); }

/* libnice checks back even when it is told to be lite. */
static void answer_check(const struct wire *w, const uint8_t *p, size_t n)
{
    struct stun_msg m;
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    uint8_t out[STUN_MAX];
    if (stun_parse(p, n, &m) != PL_OK || stun_verify(mac(), &m, PL_STR(WIRE_PWD)) != PL_OK || getpeername(w->fd, (struct sockaddr *)&from, &size) != 0)
        return;
    struct ice_addr a = ice_addr_of((const struct sockaddr *)&from);
    if (stun_write_success(mac(), m.tid, &a, PL_STR(WIRE_PWD), out, sizeof out, &n) == PL_OK)
        (void)!send(w->fd, out, n, 0);
}

/* Check, handshake, keys. */
static bool shake(struct wire *w, struct dtls_context *context, const uint8_t fingerprint[DTLS_FINGERPRINT])
{
    struct shaking s = { { to_peer }, w->fd };
    struct dtls_conf c = { .context = context, .role = DTLS_ACTIVE, .suites = { PL_SRTP_GCM }, .suites_n = 1 };
    struct dtls *d;
    struct dtls_keys keys;
    uint8_t in[2048];
    const struct pl_clock *clock = &pl_clock_system;
    struct pl_mono end = pl_mono_add(pl_now_mono(clock), ANSWER_MS * PL_MS);
    memcpy(c.fingerprints[0], fingerprint, sizeof c.fingerprints[0]);
    wire_check(w);
    if ((w->ice.ufrag[0] && !readable(w->fd, ANSWER_MS)) || dtls_new(&c, &d) != PL_OK)
        return false;
    dtls_path(d, pl_now_mono(clock));
    dtls_start(d, pl_now_mono(clock), &s.sink);
    while (dtls_state(d) == DTLS_HANDSHAKE || dtls_state(d) == DTLS_KEYED) {
        struct pl_mono now = pl_now_mono(clock);
        ssize_t n = readable(w->fd, AGAIN_MS) ? recv(w->fd, in, sizeof in, 0) : 0;
        if (n == 0)
            wire_check(w); /* one that comes before a peer is ready for it may be forgotten */
        if (n > 0 && rtp_classify(in, (size_t)n) == RTP_CLASS_DTLS)
            dtls_input(d, now, in, (size_t)n, &s.sink);
        if (n > 0 && rtp_classify(in, (size_t)n) == RTP_CLASS_STUN)
            answer_check(w, in, (size_t)n);
        dtls_tick(d, now, &s.sink);
        if (pl_mono_cmp(now, end) > 0)
            return false;
    }
    if (dtls_state(d) != DTLS_FINISHED || dtls_keys(d, &keys) != PL_OK)
        return false;
    w->suite = keys.suite;
    d = dtls_free(d);
    return keyed(w, false, keys.receive_key);
}

static bool webrtc(struct wire *w, struct dtls_context *context, const char *line)
{
    char host[64], ufrag[64], pwd[80], hex[80];
    uint8_t fingerprint[DTLS_FINGERPRINT];
    unsigned port;
    return sscanf(line, "webrtc %63s %u %63s %79s %79s %u", host, &port, ufrag, pwd, hex, &w->ssrc) == 6 && connected(w->fd, host, port) &&
           (strcmp(ufrag, "-") == 0 || ice_cred_set(&w->ice, pl_str_of(ufrag), pl_str_of(pwd), PL_STR(WIRE_UFRAG)) == PL_OK) && pl_unhex(pl_str_of(hex), fingerprint, sizeof fingerprint) == PL_OK &&
           shake(w, context, fingerprint);
}

static bool srtp(struct wire *w, bool sends, const char *line)
{
    char host[64], suite[64], hex[80];
    uint8_t key[PL_SRTP_KEY_MAX];
    unsigned port;
    return sscanf(line, "srtp %63s %u %63s %79s %u", host, &port, suite, hex, &w->ssrc) == 5 && connected(w->fd, host, port) &&
           pl_srtp_suite_of(pl_str_of(suite), &w->suite) == PL_OK && pl_unhex(pl_str_of(hex), key, pl_srtp_key_bytes(w->suite)) == PL_OK && keyed(w, sends, key);
}

bool wire_told(struct wire *const *wires, const bool *sends, unsigned n)
{
    struct dtls_context *context;
    char line[512];
    if (dtls_context_new(pl_now_utc(&pl_clock_system), &context) != PL_OK)
        return false;
    for (unsigned i = 0; i < DTLS_FINGERPRINT; i++)
        printf("%02x", dtls_fingerprint(context)[i]);
    printf("\n");
    for (unsigned i = 0; i < n; i++) {
        struct sockaddr_in at;
        socklen_t size = sizeof at;
        *wires[i] = (struct wire){ .fd = udp(sends[i] ? ROOM_OUT : ROOM_IN) };
        if (getsockname(wires[i]->fd, (struct sockaddr *)&at, &size) != 0)
            return false;
        printf("%u\n", (unsigned)ntohs(at.sin_port));
    }
    (void)fflush(stdout);
    for (unsigned i = 0; i < n; i++)
        if (!fgets(line, sizeof line, stdin) || !(line[0] == 'w' ? webrtc(wires[i], context, line) : srtp(wires[i], sends[i], line))) {
            (void)fprintf(stderr, "bench-relay-load: leg %u did not come up\n", i);
            return false;
        }
    return true;
}
