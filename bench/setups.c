/* bench-setups NODE active|passive SECONDS SESSIONS KEEP WINDOW: WebRTC phones that come and go, against bench-setup-node (started as NODE). One set-up is all of: viewer.add, its
 * answer, a check that nominates, the DTLS handshake, the first SRTP packet decrypted, the first SRTCP of the phone (after which the relay frees its SSL object), viewer.remove.
 * WINDOW of them, 24 at most, are under way. Prints "set-ups, CPU us of the relay's threads (control media dtls), us from viewer.add and from the check to the first media: p50 p95 of
 * each"; with SECONDS 0 nobody leaves until KEEP are there: "KiB of the relay when half of them were there, and at the end; phones in between".
 * All keys here are public. */
#include "bench_node.h"
#include "rtcp.h"
#include <poll.h>
#include <unistd.h>

enum { PER_SESSION = 10, MAX_PHONES = MAX_SESSIONS * PER_SESSION, MAX_WINDOW = 24, SAMPLES = 200000, AGAIN_MS = 50 };
enum step { IDLE, ADDING, CHECKING, SHAKING, WATCHING, LEAVING };
struct phone {
    struct dtls_sink sink; /* first */
    enum step step;
    unsigned session;
    uint64_t generation; /* of the place: ufrags and ids are fresh each time */
    int fd;
    struct ice_cred ice;
    uint32_t ssrc;
    struct dtls *d;
    struct pl_srtp *in, *out;
    struct pl_mono asked, checked, again;
};
static struct phone phones[MAX_PHONES];
static struct dtls_context *context;
static bool we_active;
static uint32_t window;
static unsigned done_n;
static char our_fp[64];
static int64_t *add_us, *check_us;



/* ---- Hubs: a key frame at first, then a frame of two packets each 100 ms. */

static void frame(unsigned s, bool key)
{
    uint8_t out[2][BENCH_PACKET];
    static const uint8_t params[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c };
    sources[s].ts += 9000;
    for (unsigned i = 0; i < 2; i++) {
        struct rtp_header h = { .payload_type = BENCH_VIDEO_PT, .marker = i == 1, .seq = sources[s].seq++, .timestamp = sources[s].ts, .ssrc = sources[s].leg.ssrc };
        size_t n = RTP_HEADER + 800;
        memset(out[i], 0x5a, sizeof out[i]);
        rtp_write(&h, out[i]);
        if (key && i == 0) {
            memcpy(out[i] + RTP_HEADER, params, sizeof params);
            n = RTP_HEADER + sizeof params;
        } else {
            out[i][RTP_HEADER] = key ? 0x65 : 0x41;
        }
        if (pl_srtp_protect_rtp(sources[s].out, out[i], &n, sizeof out[i]) != PL_OK || send(sources[s].fd, out[i], n, 0) < 0)
            die("a hub cannot send");
    }
}

/* ---- Phones. */

static void to_relay(struct dtls_sink *self, const uint8_t *p, size_t n) { (void)!send(((struct phone *)self)->fd, p, n, 0); }

static void add(struct phone *p)
{
    unsigned no = (unsigned)(p - phones);
    char text[2048], live[PL_UUID_TEXT], ufrag[32], peer[32];
    struct pl_buf b = pl_buf_fixed(text, sizeof text);
    p->generation++;
    p->ssrc = 0x100000 + no;
    live_id(p->session, live);
    (void)snprintf(ufrag, sizeof ufrag, "v%05ux%llx", no, (unsigned long long)p->generation);
    (void)snprintf(peer, sizeof peer, "p%05u", no);
    struct dtls_conf c = { .context = context, .role = we_active ? DTLS_ACTIVE : DTLS_PASSIVE, .suites = { PL_SRTP_GCM }, .suites_n = 1 };
    memcpy(c.fingerprints[0], relay_fp, sizeof c.fingerprints[0]);
    if (ice_cred_set(&p->ice, pl_str_of(ufrag), PL_STR("0123456789abcdefghijKL"), pl_str_of(peer)) != PL_OK || dtls_new(&c, &p->d) != PL_OK)
        die("a phone cannot be made");
    p->sink.send = to_relay;
    p->fd = udp();
    pl_buf_fmt(&b, "{\"type\":\"viewer.add\",\"id\":\"%u\",\"live_id\":\"%s\",\"generation\":1,\"viewer_id\":\"%s\",\"ice\":{\"ufrag\":\"%s\",\"pwd\":\"%s\",\"peer_ufrag\":\"%s\"},"
        "\"webrtc\":{\"fingerprint\":\"%s\",\"setup\":\"%s\",\"suites\":[\"AEAD_AES_128_GCM\",\"AES_CM_128_HMAC_SHA1_80\"],\"nack\":true,\"pli\":true},"
        "\"video\":{\"ssrc\":%u,\"payload_type\":%d}}\n", no, live, ufrag, ufrag, p->ice.pwd, peer, our_fp, we_active ? "passive" : "active", (unsigned)p->ssrc, BENCH_VIDEO_PT);
    p->step = ADDING;
    p->asked = clock_now();
    tell(&b);
}

static void leave(struct phone *p)
{
    char text[512], live[PL_UUID_TEXT];
    struct pl_buf b = pl_buf_fixed(text, sizeof text);
    live_id(p->session, live);
    pl_buf_fmt(&b, "{\"type\":\"viewer.remove\",\"id\":\"%u\",\"live_id\":\"%s\",\"viewer_id\":\"%s\"}\n", (unsigned)(p - phones), live, p->ice.ufrag);
    p->step = LEAVING;
    tell(&b);
}

static void phone_done(struct phone *p)
{
    p->d = dtls_free(p->d);
    p->in = pl_srtp_free(p->in);
    p->out = pl_srtp_free(p->out);
    close(p->fd);
    p->fd = -1;
    p->step = IDLE;
}

static void answered(struct phone *p)
{
    if (p->step == LEAVING) {
        phone_done(p);
        return;
    }
    p->step = SHAKING;
    p->checked = clock_now();
    p->again = pl_mono_add(p->checked, AGAIN_MS * PL_MS);
    check(p->fd, &p->ice);
    dtls_path(p->d, p->checked);
    dtls_start(p->d, p->checked, &p->sink);
}

static void keyed(struct phone *p)
{
    struct dtls_keys k;
    if (dtls_keys(p->d, &k) != PL_OK)
        die("no keys");
    struct pl_srtp_conf in = { .suite = k.suite, .receive = true, .key = k.receive_key, .key_n = pl_srtp_key_bytes(k.suite) };
    struct pl_srtp_conf out = { .suite = k.suite, .key = k.send_key, .key_n = pl_srtp_key_bytes(k.suite) };
    if (pl_srtp_new(&in, &p->in) != PL_OK || pl_srtp_new(&out, &p->out) != PL_OK)
        die("no memory");
}

static void report(struct phone *p)
{
    uint8_t out[128];
    struct pl_buf b = pl_buf_fixed(out, sizeof out - PL_SRTP_RTCP_OVERHEAD);
    rtcp_put_rr(&b, p->ssrc ^ 0x40000000, NULL, 0);
    rtcp_put_cname(&b, p->ssrc ^ 0x40000000, PL_STR("x"));
    size_t n = b.n;
    if (pl_srtp_protect_rtcp(p->out, out, &n, sizeof out) != PL_OK)
        die("a phone cannot report");
    (void)!send(p->fd, out, n, 0);
}

/* The first media: what a set-up is for. */
static void media(struct phone *p, uint8_t *q, size_t n)
{
    if (p->step != SHAKING || !p->in || dtls_state(p->d) != DTLS_FINISHED)
        return;
    if (pl_srtp_unprotect_rtp(p->in, q, &n) != PL_OK)
        die("media that cannot be decrypted");
    struct pl_mono now = clock_now();
    if (done_n < SAMPLES) {
        add_us[done_n] = pl_mono_sub(now, p->asked);
        check_us[done_n] = pl_mono_sub(now, p->checked);
    }
    done_n++;
    p->step = WATCHING;
    report(p);
    p->d = dtls_free(p->d);
}

static void phone_read(struct phone *p)
{
    static uint8_t in[2048];
    for (ssize_t n; p->fd >= 0 && (n = recv(p->fd, in, sizeof in, 0)) > 0;)
        switch (rtp_classify(in, (size_t)n)) {
        case RTP_CLASS_DTLS:
            if (!p->d)
                break;
            dtls_input(p->d, clock_now(), in, (size_t)n, &p->sink);
            if (dtls_state(p->d) == DTLS_FAILED)
                die(dtls_failure_code(dtls_failure(p->d)));
            if (!p->in && dtls_state(p->d) >= DTLS_KEYED)
                keyed(p);
            break;
        case RTP_CLASS_RTP: media(p, in, (size_t)n); break;
        default: break;
        }
}

/* Answers of the node: "ID CODE". */
static void answers(void)
{
    static char text[8192];
    static size_t n;
    ssize_t got = read(from_node, text + n, sizeof text - n);
    n += got > 0 ? (size_t)got : 0;
    struct pl_str rest = { text, n };
    for (size_t end; (end = pl_str_find(rest, '\n')) < rest.n; rest.p += end + 1, rest.n -= end + 1) {
        struct pl_str code, id = pl_str_split((struct pl_str){ rest.p, end }, ' ', &code);
        uint32_t no;
        if (!pl_str_eqz(code, "ok") && !pl_str_eqz(code, pl_err_code(PL_OK)))
            die("the relay refused");
        if (pl_parse_u32(id, 0, MAX_PHONES - 1, &no) == PL_OK)
            answered(&phones[no]);
    }
    memmove(text, rest.p, rest.n);
    n = rest.n;
}

/* One turn: frames, answers, datagrams, what must be said again. */
static void turn(struct phone *from, unsigned n)
{
    static struct pl_mono framed, hubs_checked;
    static struct pollfd f[1 + MAX_WINDOW + 1];
    static unsigned which[MAX_WINDOW + 1];
    struct pl_mono now = clock_now();
    if (pl_mono_sub(now, hubs_checked) > PL_SECOND) {
        hubs_checked = now;
        for (unsigned s = 0; s < sessions; s++)
            check(sources[s].fd, &sources[s].leg.ice);
    }
    if (pl_mono_sub(now, framed) > 100 * PL_MS) {
        framed = now;
        for (unsigned s = 0; s < sessions; s++)
            frame(s, sources[s].seq % 64 == 0);
    }
    unsigned k = 0;
    f[k++] = (struct pollfd){ .fd = from_node, .events = POLLIN };
    for (unsigned i = 0; i < n && k <= MAX_WINDOW; i++)
        if (from[i].step == SHAKING) {
            which[k] = i;
            f[k++] = (struct pollfd){ .fd = from[i].fd, .events = POLLIN };
        }
    (void)poll(f, k, 20);
    if (f[0].revents)
        answers();
    for (unsigned i = 1; i < k; i++) {
        struct phone *p = &from[which[i]];
        if (f[i].revents)
            phone_read(p);
        if (p->step == SHAKING && pl_mono_cmp(now, p->again) > 0) {
            p->again = pl_mono_add(now, AGAIN_MS * PL_MS);
            check(p->fd, &p->ice);
            dtls_tick(p->d, now, &p->sink);
        }
    }
}

static int by_value(const void *a, const void *b)
{
    int64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static void come_and_go(uint32_t seconds)
{
    struct node_cpu before, after;
    struct pl_mono warm = pl_mono_add(clock_now(), PL_SECOND), end = pl_mono_add(warm, (int64_t)seconds * PL_SECOND);
    unsigned warm_n = 0;
    node_cpu(&before);
    for (struct pl_mono now; pl_mono_cmp(now = clock_now(), end) < 0;) {
        if (warm_n == 0 && pl_mono_cmp(now, warm) > 0) {
            node_cpu(&before);
            warm_n = done_n ? done_n : 1;
        }
        for (unsigned i = 0; i < window; i++) {
            if (phones[i].step == IDLE)
                add(&phones[i]);
            if (phones[i].step == WATCHING)
                leave(&phones[i]);
        }
        turn(phones, window);
    }
    node_cpu(&after);
    unsigned n = done_n < SAMPLES ? done_n - warm_n : SAMPLES - warm_n;
    qsort(add_us + warm_n, n, sizeof *add_us, by_value);
    qsort(check_us + warm_n, n, sizeof *check_us, by_value);
    printf("%u %lld %lld %lld %lld %lld %lld %lld\n", done_n - warm_n, (long long)(after.used[0] - before.used[0]), (long long)(after.used[1] - before.used[1]),
        (long long)(after.used[2] - before.used[2]), (long long)add_us[warm_n + n / 2], (long long)add_us[warm_n + n * 95 / 100], (long long)check_us[warm_n + n / 2],
        (long long)check_us[warm_n + n * 95 / 100]);
}

/* The first half of the phones makes the relay warm (its queues, its heap), the second half is what is counted. */
static void stay(unsigned keep)
{
    long before = 0;
    for (unsigned first = 0; first < keep; first += window) {
        unsigned n = keep - first < window ? keep - first : window;
        if (first >= keep / 2 && !before)
            before = node_kib(), done_n = 0;
        for (unsigned i = 0; i < n; i++)
            add(&phones[first + i]);
        for (bool all = false; !all;) {
            turn(phones + first, n);
            all = true;
            for (unsigned i = 0; i < n; i++)
                all = all && phones[first + i].step == WATCHING;
        }
    }
    for (struct pl_mono end = pl_mono_add(clock_now(), 500 * PL_MS); pl_mono_cmp(clock_now(), end) < 0;)
        turn(phones, 0);
    printf("%ld %ld %u\n", before, node_kib(), done_n);
}

int main(int argc, char **argv)
{
    uint32_t seconds, keep;
    if (argc != 7 || pl_parse_u32(pl_str_of(argv[3]), 0, 3600, &seconds) != PL_OK || pl_parse_u32(pl_str_of(argv[4]), 3, MAX_SESSIONS, &sessions) != PL_OK ||
        pl_parse_u32(pl_str_of(argv[5]), 0, sessions * PER_SESSION, &keep) != PL_OK || pl_parse_u32(pl_str_of(argv[6]), 1, MAX_WINDOW, &window) != PL_OK || stun_mac_new(&mac) != PL_OK ||
        dtls_context_new(pl_now_utc(&pl_clock_system), &context) != PL_OK)
        return 64;
    we_active = strcmp(argv[2], "passive") == 0; /* the argument is the relay's side */
    add_us = calloc(SAMPLES, sizeof *add_us);
    check_us = calloc(SAMPLES, sizeof *check_us);
    struct pl_arena *a = pl_arena_new(4096);
    (void)snprintf(our_fp, sizeof our_fp, "%s", pl_b64url(a, dtls_fingerprint(context), DTLS_FINGERPRINT).p);
    pl_arena_free(a);
    start_node(argv[1]);
    open_sessions();
    for (unsigned i = 0; i < MAX_PHONES; i++)
        phones[i] = (struct phone){ .session = i % sessions, .fd = -1 };
    for (struct pl_mono end = pl_mono_add(clock_now(), 300 * PL_MS); pl_mono_cmp(clock_now(), end) < 0;) { /* paths of the hubs, their first key frames */
        turn(phones, 0);
        for (unsigned s = 0; s < sessions && sources[s].seq < 2; s++)
            frame(s, true);
    }
    if (seconds)
        come_and_go(seconds);
    else
        stay(keep);
    close(to_node);
    return 0;
}
