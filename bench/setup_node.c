/* bench-setup-node SESSIONS [open|door]: the relay's worker with its DTLS thread, told what to do as the cloud tells it: a message of the relay protocol a line on stdin, so that reading
 * them is part of what is measured. Prints "PORT FINGERPRINT(hex)", then for each answer "ID CODE". With a second argument every 5 s "figures" and the buckets of its transit
 * histogram, too; with "door" it refuses whom it has no time for, as the product does. Ends at the end of stdin. */
#include "relay_bench.h"
#include "relay_control.h"
#include <poll.h>
#include <unistd.h>

enum { LINE = 4096 };
static bool figures;

static bool obey(struct relay_worker *w, struct pl_str line)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 20);
    struct relay_post post = { .ask = RELAY_ASK_CMD };
    bool known = false;
    if (!a || relay_control_read(line, a, &post, &known, NULL) != PL_OK || !known)
        return false;
    return relay_worker_post(w, &post) == PL_OK;
}

static void answer(struct relay_worker *w)
{
    const struct relay_news *n;
    uint64_t rung;
    char out[16384];
    struct pl_buf b = pl_buf_fixed(out, sizeof out);
    if (read(relay_worker_news_fd(w), &rung, sizeof rung) < 0)
        return;
    for (; b.n < sizeof out - 256 && relay_worker_peek(w, &n); relay_worker_next(w)) {
        pl_heap_free(n->session);
        if (n->kind == RELAY_NEWS_ANSWER)
            pl_buf_fmt(&b, "%s %s\n", n->request, pl_err_code(n->result));
        if (n->kind == RELAY_NEWS_STATS && figures) {
            pl_buf_fmt(&b, "figures");
            for (unsigned i = 0; i < RELAY_TRANSITS; i++)
                pl_buf_fmt(&b, " %llu", (unsigned long long)n->io.transit[i]);
            pl_buf_fmt(&b, "\n");
        }
    }
    for (size_t at = 0; at < b.n;) {
        ssize_t done = write(1, out + at, b.n - at);
        if (done <= 0)
            return;
        at += (size_t)done;
    }
}

/* True when there may be more. */
static bool lines(struct relay_worker *w)
{
    static char text[16 * LINE];
    static size_t n;
    ssize_t got = read(0, text + n, sizeof text - n);
    if (got <= 0)
        return false;
    n += (size_t)got;
    struct pl_str rest = { text, n };
    for (size_t end; (end = pl_str_find(rest, '\n')) < rest.n; rest.p += end + 1, rest.n -= end + 1)
        if (!obey(w, (struct pl_str){ rest.p, end }))
            (void)fprintf(stderr, "bench-setup-node: refused: %.*s\n", (int)end, rest.p);
    memmove(text, rest.p, rest.n);
    n = rest.n;
    return true;
}

int main(int argc, char **argv)
{
    uint32_t sessions;
    struct relay_worker *w = NULL;
    struct pl_fail fail = PL_FAIL_INIT;
    if (argc < 2 || argc > 3 || pl_parse_u32(pl_str_of(argv[1]), 1, 1000, &sessions) != PL_OK)
        return 64;
    bool door = argc == 3 && strcmp(argv[2], "door") == 0;
    struct relay_worker_conf c = { .max_sessions = sessions, .busy_full = door ? 0 : UINT32_MAX, .source_bps = UINT64_C(1000000000000), .clock = &pl_clock_system,
        .rand = &pl_rand_system };
    if (secure_init() != PL_OK || ice_addr_parse(PL_STR("127.0.0.1:0"), &c.media) != PL_OK || relay_worker_new(&c, &w, &fail) != PL_OK || relay_worker_start(w, &fail) != PL_OK) {
        (void)fprintf(stderr, "bench-setup-node: %s\n", fail.detail);
        return 69;
    }
    figures = argc == 3;
    printf("%u ", (unsigned)relay_worker_addr(w).port);
    for (unsigned i = 0; i < DTLS_FINGERPRINT; i++)
        printf("%02x", relay_worker_fingerprint(w)[i]);
    printf("\n");
    (void)fflush(stdout);
    for (bool more = true; more;) {
        struct pollfd f[2] = { { .fd = 0, .events = POLLIN }, { .fd = relay_worker_news_fd(w), .events = POLLIN } };
        if (poll(f, 2, 1000) <= 0)
            continue;
        if (f[1].revents)
            answer(w);
        if (f[0].revents)
            more = lines(w);
    }
    relay_worker_free(w);
    return 0;
}
