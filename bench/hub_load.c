/* bench-hub-load: thousands of hubs in one process, as far as the cloud can tell: real hello signatures, WebSockets from several addresses of 127/8 (so that ports
 * suffice), pongs, and coming back as the welcome said. Keys follow from the hub's number: all of them are public, never use them outside a benchmark.
 *
 *     bench-hub-load inventory N               the N hubs as lines for `porchctl inventory import`
 *     bench-hub-load serve|serve-tls HOST PORT N     obeys lines on stdin, answers each with one line on stdout; times are microseconds of the monotonic clock
 *         open N              hubs 0..N-1 dial, IN_FLIGHT at once       "opened COUNT SINCE AT"  when all are welcomed; those that come back later are not held
 *         claim I ID TEXT     hub I proves a claim                      "bound I"
 *         status N RATE S     hubs 0..N-1 send RATE status a second together, for S seconds     "sent COUNT"
 *         count               "count READY LOST REFUSED"                lost: connections that ended since the start; refused: tries that failed
 *         await N             when N are welcomed (again)               "back N AT"
 */
#include "clock.h"
#include "rand.h"
#include "secure.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 19000, INPUT = 2048, IN_FLIGHT = 200, ADDRESSES = 8, LOOK_MS = 10, EVENTS = 256, TEXT = 2048 };

enum state { OUT, WAITING, DIALLING, SHAKING, UPGRADING, GREETING, PROVING, READY };
struct hub {
    int fd;
    enum state state;
    unsigned failures;
    struct pl_mono at; /* WAITING: dials then */
    size_t n;
    char serial[16];
    char *in;          /* INPUT bytes while connected */
    SSL *ssl;
};

static struct hub hubs[MOST];
static struct secure_keypair keys[MOST];
static unsigned total, wanted, flying, ready, lost, refused, dial_next;
static int epoll_fd;
static SSL_CTX *tls; /* NULL: plain. The server's certificate is not looked at: the other side is what is measured */
static struct sockaddr_in server;
static struct pl_arena *arena;
static struct { unsigned until; bool on; struct pl_mono since; const char *word; } waits; /* what the last command waits for */
static struct { unsigned hubs, at; uint64_t sent; double gap_us; struct pl_mono next, end; bool on; } stream;

static struct pl_mono now(void) { return pl_now_mono(&pl_clock_system); }

static void identify(unsigned no)
{
    static const char letters[] = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    uint8_t seed[32] = { 'b', 'e', 'n', 'c', 'h', (uint8_t)no, (uint8_t)(no >> 8) };
    char *p = hubs[no].serial;
    memcpy(p, "PLHBENCHAAAAA", 14);
    for (int i = 12; i >= 8; i--, no /= 32)
        p[i] = letters[no % 32];
    secure_keypair_from_seed(seed, &keys[(seed[6] << 8) | seed[5]]);
}

static int inventory(void)
{
    for (unsigned i = 0; i < total; i++) {
        pl_arena_reset(arena);
        struct pl_str key = pl_hex(arena, keys[i].public_key, 32);
        printf("{\"serial\":\"%s\",\"kind\":\"hub\",\"model\":\"bench\",\"public_key\":\"%.*s\"}\n", hubs[i].serial, PL_FMT(key));
    }
    return 0;
}

/* ---- one connection ---- */

static void dial(struct hub *h);

/* It is over: comes again as a hub does, within the welcome's 1 to 5 s, the upper end doubling with each try that fails, to 30 s. */
static void over(struct hub *h)
{
    unsigned top = 5;
    if (h->state == READY) {
        ready--;
        lost++;
        h->failures = 0;
    } else {
        flying--;
        refused++;
        h->failures++;
    }
    for (unsigned i = 0; i < h->failures && top < 30; i++)
        top = top * 2 < 30 ? top * 2 : 30;
    SSL_free(PL_STEAL(h->ssl));
    close(h->fd);
    h->fd = -1;
    free(PL_STEAL(h->in));
    h->n = 0;
    h->state = WAITING;
    h->at = pl_mono_add(now(), PL_SECOND + (int64_t)pl_rand_below(&pl_rand_system, (top - 1) * 1000) * PL_MS);
}

static void transmit(struct hub *h, const void *p, size_t n)
{
    ssize_t sent = h->ssl ? SSL_write(h->ssl, p, (int)n) : send(h->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent != (ssize_t)n) /* a few hundred bytes into an empty buffer */
        shutdown(h->fd, SHUT_RDWR);
}

static void frame(struct hub *h, unsigned opcode, const char *text, size_t n)
{
    uint8_t out[TEXT + 8], mask[4];
    size_t head = n < 126 ? 2 : 4;
    if (n > TEXT)
        return;
    pl_rand_fill(&pl_rand_system, mask, sizeof mask);
    out[0] = (uint8_t)(0x80 | opcode);
    out[1] = (uint8_t)(0x80 | (n < 126 ? n : 126));
    if (head == 4) {
        out[2] = (uint8_t)(n >> 8);
        out[3] = (uint8_t)n;
    }
    memcpy(out + head, mask, 4);
    for (size_t i = 0; i < n; i++)
        out[head + 4 + i] = (uint8_t)text[i] ^ mask[i & 3];
    transmit(h, out, head + 4 + n);
}

/* The text of a member in a message of the server, which writes no blanks and no escapes in what is looked for here. */
static struct pl_str member(struct pl_str json, const char *name)
{
    const char *at = memmem(json.p, json.n, name, strlen(name));
    if (!at)
        return PL_STR_NONE;
    at += strlen(name);
    struct pl_str rest, value = { at, json.n - (size_t)(at - json.p) };
    return pl_str_split(value, '"', &rest);
}

static void sign(const struct hub *h, struct pl_str text, struct pl_str *ret)
{
    uint8_t sig[64];
    secure_sign(&keys[h - hubs], text, sig);
    *ret = pl_b64url(arena, sig, sizeof sig);
}

static void hello(struct hub *h, struct pl_str challenge)
{
    struct pl_str text, sig;
    if (secure_hello_text(arena, "hub", pl_str_of(h->serial), member(challenge, "\"nonce\":\""), member(challenge, "\"server_name\":\""), &text) != PL_OK)
        return;
    sign(h, text, &sig);
    text = pl_fmt(arena, "{\"type\":\"hello\",\"id\":\"1\",\"role\":\"hub\",\"serial\":\"%s\",\"firmware\":\"1.0.0\",\"model\":\"bench\",\"boot\":{\"id\":\"01939d5c-0000-7000-8000-"
                         "%012u\",\"reason\":\"power\",\"reset_count\":0},\"suites\":[\"AEAD_AES_128_GCM\"],\"signature\":\"%.*s\"}", h->serial, (unsigned)(h - hubs), PL_FMT(sig));
    frame(h, 1, text.p, text.n);
    h->state = PROVING;
}

static void say(const char *fmt, ...) PL_PRINTF(1, 2);
static void say(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    (void)fflush(stdout);
}

static void message(struct hub *h, struct pl_str text)
{
    pl_arena_reset(arena);
    struct pl_str type = member(text, "\"type\":\"");
    if (h->state == GREETING && pl_str_eqz(type, "challenge"))
        hello(h, text);
    else if (h->state == PROVING && pl_str_eqz(type, "welcome")) {
        h->state = READY;
        h->failures = 0;
        flying--;
        ready++;
        if (waits.on && ready >= waits.until) {
            waits.on = false;
            int64_t at = now().us;
            say("%s %u %lld %lld\n", waits.word, ready, (long long)waits.since.us, (long long)at);
        }
    } else if (pl_str_eqz(type, "bound"))
        say("bound %u\n", (unsigned)(h - hubs));
}

/* One whole frame from the front of the input, or 0. The server's frames are not masked and, here, below 64 KiB and whole. */
static size_t take_frame(struct hub *h)
{
    const uint8_t *p = (const uint8_t *)h->in;
    size_t head = h->n >= 2 && (p[1] & 127) == 126 ? 4 : 2;
    if (h->n < head)
        return 0;
    size_t n = head == 4 ? (size_t)p[2] << 8 | p[3] : p[1] & 127u;
    if (h->n < head + n)
        return 0;
    struct pl_str body = { h->in + head, n };
    unsigned opcode = p[0] & 15;
    if (opcode == 1)
        message(h, body);
    else if (opcode == 9)
        frame(h, 10, body.p, body.n);
    else if (opcode == 8)
        shutdown(h->fd, SHUT_RDWR);
    return head + n;
}

/* As recv: -1 with EAGAIN when nothing is there, 0 at the end. */
static ssize_t receive(struct hub *h)
{
    if (!h->ssl)
        return recv(h->fd, h->in + h->n, INPUT - h->n, MSG_DONTWAIT);
    int got = SSL_read(h->ssl, h->in + h->n, (int)(INPUT - h->n));
    if (got <= 0)
        errno = EAGAIN;
    return got > 0 ? got : SSL_get_error(h->ssl, got) == SSL_ERROR_WANT_READ ? -1 : 0;
}

static void ask(struct hub *h)
{
    static const char text[] = "GET /hub/v1 HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: YmVuY2hiZW5jaGJlbmNoYg==\r\n"
                               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: porchlight.hub.v1\r\n\r\n";
    h->state = UPGRADING;
    transmit(h, text, sizeof text - 1);
}

static void shake(struct hub *h)
{
    int done = SSL_connect(h->ssl);
    if (done == 1)
        ask(h);
    else if (SSL_get_error(h->ssl, done) != SSL_ERROR_WANT_READ)
        over(h);
}

static void readable(struct hub *h)
{
    if (h->state == SHAKING) {
        shake(h);
        return;
    }
    ssize_t got = receive(h);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        over(h);
        return;
    }
    h->n += (size_t)got;
    size_t used = 0;
    if (h->state == UPGRADING) {
        const char *end = memmem(h->in, h->n, "\r\n\r\n", 4);
        if (!end)
            return;
        if (strncmp(h->in, "HTTP/1.1 101", 12) != 0) {
            over(h);
            return;
        }
        h->state = GREETING;
        used = (size_t)(end - h->in) + 4;
        h->n -= used;
        memmove(h->in, h->in + used, h->n);
    }
    while ((used = take_frame(h)) > 0) {
        h->n -= used;
        memmove(h->in, h->in + used, h->n);
    }
    if (h->ssl && SSL_pending(h->ssl) > 0)
        readable(h);
}

static void connected(struct hub *h)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = h };
    int wrong = 0;
    socklen_t size = sizeof wrong;
    if (getsockopt(h->fd, SOL_SOCKET, SO_ERROR, &wrong, &size) != 0 || wrong != 0) {
        over(h);
        return;
    }
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, h->fd, &ev);
    if (!tls) {
        ask(h);
        return;
    }
    h->state = SHAKING;
    h->ssl = SSL_new(tls);
    if (!h->ssl || SSL_set_fd(h->ssl, h->fd) != 1)
        exit(71);
    shake(h);
}

static void dial(struct hub *h)
{
    struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002u + (unsigned)(h - hubs) % ADDRESSES) };
    struct epoll_event ev = { .events = EPOLLOUT, .data.ptr = h };
    int one = 1;
    flying++;
    h->state = DIALLING;
    h->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    h->in = malloc(INPUT);
    setsockopt(h->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(h->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (h->fd < 0 || !h->in || bind(h->fd, (struct sockaddr *)&from, sizeof from) != 0) {
        (void)fprintf(stderr, "bench-hub-load: %s\n", strerrordesc_np(errno));
        exit(71);
    }
    if (connect(h->fd, (struct sockaddr *)&server, sizeof server) != 0 && errno != EINPROGRESS) {
        over(h);
        return;
    }
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, h->fd, &ev);
}

/* ---- what is asked for ---- */

static void send_status(void)
{
    struct pl_mono t = now();
    if (!stream.on)
        return;
    while (pl_mono_cmp(stream.next, t) <= 0 && pl_mono_cmp(stream.next, stream.end) < 0) {
        char text[160];
        struct hub *h = &hubs[stream.at++ % stream.hubs];
        int n = snprintf(text, sizeof text, "{\"type\":\"status\",\"id\":\"s%llu\",\"wifi_rssi\":%d,\"cameras\":[]}", (unsigned long long)stream.sent, -40 - (int)(stream.sent / stream.hubs % 40));
        if (h->state == READY)
            frame(h, 1, text, (size_t)n);
        stream.sent++;
        stream.next.us += (int64_t)stream.gap_us;
    }
    if (pl_mono_cmp(t, stream.end) >= 0) {
        stream.on = false;
        say("sent %llu\n", (unsigned long long)stream.sent);
    }
}

static void prove_claim(unsigned no, const char *id, const char *challenge)
{
    struct pl_str text, sig;
    pl_arena_reset(arena);
    if (no >= total || secure_claim_text(arena, pl_str_of(hubs[no].serial), pl_str_of(challenge), &text) != PL_OK)
        exit(70);
    sign(&hubs[no], text, &sig);
    text = pl_fmt(arena, "{\"type\":\"claim\",\"id\":\"c\",\"claim_id\":\"%s\",\"challenge\":\"%s\",\"signature\":\"%.*s\"}", id, challenge, PL_FMT(sig));
    frame(&hubs[no], 1, text.p, text.n);
}

static void command(char *line)
{
    unsigned a, b, c;
    char id[64], text[256];
    if (sscanf(line, "open %u", &a) == 1 && a <= total) {
        wanted = a;
        waits.on = true;
        waits.until = a;
        waits.since = now();
        waits.word = "opened";
    } else if (sscanf(line, "claim %u %63s %255s", &a, id, text) == 3)
        prove_claim(a, id, text);
    else if (sscanf(line, "status %u %u %u", &a, &b, &c) == 3 && a && b) {
        stream.hubs = a;
        stream.gap_us = 1e6 / b;
        stream.sent = 0;
        stream.next = now();
        stream.end = pl_mono_add(stream.next, c * PL_SECOND);
        stream.on = true;
    } else if (sscanf(line, "await %u", &a) == 1) {
        waits.on = ready < a;
        waits.until = a;
        waits.since = now();
        waits.word = "back";
        if (!waits.on)
            say("back %u %lld %lld\n", ready, (long long)waits.since.us, (long long)waits.since.us);
    } else if (strncmp(line, "count", 5) == 0)
        say("count %u %u %u\n", ready, lost, refused);
    else
        exit(64);
}

/* Lines from stdin; false at its end. */
static bool obey(void)
{
    static char in[4096];
    static size_t n;
    ssize_t got = read(0, in + n, sizeof in - 1 - n);
    if (got == 0 || (got < 0 && errno != EAGAIN))
        return false;
    n += got > 0 ? (size_t)got : 0;
    for (char *end; (end = memchr(in, '\n', n));) {
        *end = '\0';
        command(in);
        n -= (size_t)(end + 1 - in);
        memmove(in, end + 1, n);
    }
    return true;
}

/* Whoever is due dials: new ones as long as few enough are on their way, those that come back at once, as hubs in the world would. */
static void dial_due(void)
{
    struct pl_mono t = now();
    for (unsigned i = 0; i < wanted; i++) {
        struct hub *h = &hubs[dial_next++ % wanted];
        if ((h->state == OUT && flying < IN_FLIGHT) || (h->state == WAITING && pl_mono_cmp(h->at, t) <= 0))
            dial(h);
    }
}

static int serve(void)
{
    struct epoll_event ev[EVENTS], in = { .events = EPOLLIN, .data.ptr = NULL };
    struct pl_mono looked = { 0 };
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &in);
    say("ready\n");
    for (;;) {
        int n = epoll_wait(epoll_fd, ev, EVENTS, stream.on ? 1 : LOOK_MS);
        for (int i = 0; i < n; i++) {
            struct hub *h = ev[i].data.ptr;
            if (!h && !obey())
                return 0;
            if (h && h->fd >= 0)
                h->state == DIALLING ? connected(h) : readable(h);
        }
        send_status();
        if (pl_mono_sub(now(), looked) >= LOOK_MS * PL_MS) {
            looked = now();
            dial_due();
        }
    }
}

int main(int argc, char **argv)
{
    uint32_t port = 0, n = 0;
    bool over_tls = argc == 5 && strcmp(argv[1], "serve-tls") == 0, serving = over_tls || (argc == 5 && strcmp(argv[1], "serve") == 0);
    const char *count = serving ? argv[4] : argc == 3 ? argv[2] : "";
    if (pl_parse_u32(pl_str_of(count), 1, MOST, &n) != PL_OK || secure_init() != PL_OK || !(arena = pl_arena_new(64 * 1024)))
        return 64;
    total = n;
    for (unsigned i = 0; i < total; i++)
        identify(i);
    if (!serving)
        return inventory();
    server.sin_family = AF_INET;
    if (pl_parse_u32(pl_str_of(argv[3]), 1, 65535, &port) != PL_OK || inet_pton(AF_INET, argv[2], &server.sin_addr) != 1)
        return 64;
    server.sin_port = htons((uint16_t)port);
    signal(SIGPIPE, SIG_IGN);
    if (over_tls) {
        if (!(tls = SSL_CTX_new(TLS_client_method())))
            return 71;
        SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
    }
    return serve();
}
