/* The relay's DTLS thread: its tables on a clock of ours, S-M1 (cap, bounded queues, deadlines), then as a thread, and a WebRTC viewer over real sockets. */
#include "relay_sim.h"
#include "relay_worker.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- The other ends: peers with machines of their own, one for each association. */

enum { PEERS = 400 };
struct peer {
    struct dtls_sink sink; /* first */
    struct relay_dtls_thread *t;
    uint64_t id;
    struct dtls *d;
    bool keys, finished, lazy; /* lazy: it is given nothing */
    struct relay_dtls_in got;  /* KEYS */
    const char *failed;
    unsigned sends;
};
static struct peer peers[PEERS];
static struct dtls_context *context;
static struct pl_mono now;

static void to_thread(struct dtls_sink *self, const uint8_t *p, size_t n)
{
    struct peer *peer = (struct peer *)self;
    (void)relay_dtls_tell(peer->t, &(struct relay_dtls_out){ .kind = RELAY_DTLS_DATA, .assoc = peer->id, .p = p, .n = n });
}

static struct relay_webrtc webrtc(bool active)
{
    struct relay_webrtc w = { .on = true, .active = active, .suites = { PL_SRTP_GCM, PL_SRTP_SHA1_80 }, .suites_n = 2 };
    memcpy(w.fingerprints[0], dtls_fingerprint(context), sizeof w.fingerprints[0]);
    return w;
}

static bool tell(struct relay_dtls_thread *t, enum relay_dtls_out_kind kind, uint64_t id)
{
    struct relay_webrtc w = webrtc(id % 2);
    return relay_dtls_tell(t, &(struct relay_dtls_out){ .kind = kind, .assoc = id, .webrtc = &w });
}

/* Odd ids: the thread is active. */
static struct peer *peer_open(struct relay_dtls_thread *t, uint64_t id)
{
    struct peer *p = &peers[id % PEERS];
    struct dtls_conf c = { .context = context, .role = id % 2 ? DTLS_PASSIVE : DTLS_ACTIVE, .suites = { PL_SRTP_GCM }, .suites_n = 1 };
    memcpy(c.fingerprints[0], relay_dtls_fingerprint(t), sizeof c.fingerprints[0]);
    *p = (struct peer){ .sink = { to_thread }, .t = t, .id = id };
    assert_int_equal(dtls_new(&c, &p->d), PL_OK);
    dtls_path(p->d, now);
    return p;
}

/* Takes what the thread has to say, as the worker does. */
static unsigned results(struct relay_dtls_thread *t)
{
    const struct relay_dtls_in *in;
    unsigned n = 0;
    for (; (in = relay_dtls_peek(t)) != NULL; relay_dtls_next(t), n++) {
        struct peer *p = &peers[in->assoc % PEERS];
        if (p->id != in->assoc || !p->d)
            continue;
        switch (in->kind) {
        case RELAY_DTLS_SEND:
            p->sends++;
            if (!p->lazy)
                dtls_input(p->d, now, in->p, in->n, &p->sink);
            break;
        case RELAY_DTLS_KEYS:
            assert_false(p->keys);
            p->keys = true;
            p->finished = in->peer_finished;
            p->got = *in;
            break;
        case RELAY_DTLS_FINISHED:
            assert_true(p->keys && !p->finished);
            p->finished = true;
            break;
        case RELAY_DTLS_FAILED: p->failed = in->code; break;
        }
    }
    return n;
}

static void same_keys(const struct peer *p)
{
    struct dtls_keys k;
    assert_int_equal(dtls_keys(p->d, &k), PL_OK);
    assert_int_equal(p->got.suite, PL_SRTP_GCM);
    assert_memory_equal(k.send_key, p->got.receive_key, pl_srtp_key_bytes(PL_SRTP_GCM));
    assert_memory_equal(k.receive_key, p->got.send_key, pl_srtp_key_bytes(PL_SRTP_GCM));
}

static struct relay_dtls_thread *make(unsigned max_open)
{
    struct relay_dtls_thread *t = NULL;
    now.us = 1000 * PL_SECOND;
    assert_int_equal(relay_dtls_new(&(struct relay_dtls_conf){ .max_open = max_open, .wake = -1, .clock = &pl_clock_system }, &t, NULL), PL_OK);
    return t;
}

static void done(struct relay_dtls_thread *t)
{
    relay_dtls_free(t);
    for (unsigned i = 0; i < PEERS; i++)
        peers[i].d = dtls_free(peers[i].d);
}

static struct relay_dtls_counts counts(const struct relay_dtls_thread *t)
{
    struct relay_dtls_counts c;
    relay_dtls_counts(t, &c);
    return c;
}

static void shake(struct relay_dtls_thread *t)
{
    do {
        (void)relay_dtls_work(t, now);
    } while (results(t));
}

static int make_context(void **state)
{
    (void)state;
    return dtls_context_new((struct pl_utc){ INT64_C(1795000000) * PL_SECOND }, &context) == PL_OK ? 0 : -1;
}
static int free_context(void **state)
{
    (void)state;
    context = dtls_context_free(context);
    return 0;
}

static void both_roles(void **state)
{
    (void)state;
    struct relay_dtls_thread *t = make(4);
    for (uint64_t id = 1; id <= 2; id++) {
        struct peer *p = peer_open(t, id);
        assert_true(tell(t, RELAY_DTLS_START, id) && tell(t, RELAY_DTLS_PATH, id));
        (void)relay_dtls_work(t, now);
        if (id % 2)
            assert_int_equal(relay_dtls_peek(t)->kind, RELAY_DTLS_SEND); /* the ClientHello, at once */
        else
            dtls_start(p->d, now, &p->sink);
        shake(t);
        assert_true(p->keys && p->finished && !p->failed);
        assert_int_equal(dtls_state(p->d), DTLS_FINISHED);
        same_keys(p);
        assert_int_equal(counts(t).open, id % 2 ? 0 : 1); /* nobody asks the active side for its last flight again */
    }
    assert_true(tell(t, RELAY_DTLS_END, 2) && tell(t, RELAY_DTLS_END, 2));
    shake(t);
    struct relay_dtls_counts c = counts(t);
    assert_true(c.open == 0 && c.started == 2 && c.finished == 2 && c.refused == 0 && c.dropped == 0);
    done(t);
}

/* S-M1: half-open associations are capped, by what was asked for and not by what was made already. */
static void half_open_ones_are_capped(void **state)
{
    (void)state;
    struct relay_dtls_thread *t = make(5);
    for (uint64_t id = 1; id <= 5; id++)
        assert_true(tell(t, RELAY_DTLS_START, id));
    assert_false(tell(t, RELAY_DTLS_START, 6));
    (void)relay_dtls_work(t, now);
    assert_false(tell(t, RELAY_DTLS_START, 7));
    assert_true(tell(t, RELAY_DTLS_END, 3));
    assert_false(tell(t, RELAY_DTLS_START, 8)); /* still there */
    (void)relay_dtls_work(t, now);
    assert_true(tell(t, RELAY_DTLS_START, 9));
    (void)relay_dtls_work(t, now);
    struct relay_dtls_counts c = counts(t);
    assert_true(c.open == 5 && c.refused == 3 && c.started == 6);
    for (unsigned round = 0; round < 1000; round++) { /* no place is lost on the way */
        uint64_t id = 100 + round;
        assert_true(tell(t, RELAY_DTLS_END, round ? id - 1 : 9));
        (void)relay_dtls_work(t, now);
        assert_true(tell(t, RELAY_DTLS_START, id));
        (void)relay_dtls_work(t, now);
        (void)results(t);
    }
    assert_int_equal(counts(t).open, 5);
    done(t);
}

/* S-M1: whatever is lost on the way, time frees all of it. */
static void time_ends_all(void **state)
{
    (void)state;
    static const struct {
        bool path, shaken;
        int64_t there_us, gone_us; /* after START */
        const char *code;
    } cases[] = {
        { true, false, DTLS_DEADLINE - PL_SECOND, DTLS_DEADLINE, "dtls_timeout" },
        { false, false, RELAY_DTLS_LEASH - PL_SECOND, RELAY_DTLS_LEASH, "dtls_timeout" },
        { true, true, RELAY_DTLS_LEFT - PL_SECOND, RELAY_DTLS_LEFT, NULL }, /* passive and finished; END never came */
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct relay_dtls_thread *t = make(2);
        struct peer *p = peer_open(t, 2);
        struct pl_mono start = now;
        p->lazy = !cases[i].shaken;
        assert_true(tell(t, RELAY_DTLS_START, 2));
        if (cases[i].path)
            assert_true(tell(t, RELAY_DTLS_PATH, 2));
        dtls_start(p->d, now, &p->sink);
        shake(t);
        for (int64_t due = 0; due >= 0; shake(t)) { /* the clock goes from one deadline to the next */
            due = relay_dtls_work(t, now);
            if (due < 0)
                break;
            int64_t at = pl_mono_sub(now, start);
            if (at <= cases[i].there_us)
                assert_int_equal(counts(t).open, 1);
            assert_true(due > 0);
            now = pl_mono_add(now, due);
        }
        assert_int_equal(pl_mono_sub(now, start), cases[i].gone_us);
        assert_int_equal(counts(t).open, 0);
        assert_int_equal(counts(t).failed[DTLS_TIMEOUT], cases[i].code ? 1 : 0);
        if (cases[i].code)
            assert_string_equal(p->failed, cases[i].code);
        else
            assert_true(p->finished && counts(t).finished == 1);
        done(t);
    }
}

static void failures_have_their_code(void **state)
{
    (void)state;
    struct relay_dtls_thread *t = make(2);
    struct peer *p = peer_open(t, 1);
    struct relay_webrtc w = webrtc(true);
    w.fingerprints[0][0] ^= 1;
    assert_true(relay_dtls_tell(t, &(struct relay_dtls_out){ .kind = RELAY_DTLS_START, .assoc = 1, .webrtc = &w }));
    shake(t);
    assert_string_equal(p->failed, "dtls_fingerprint");
    assert_int_equal(dtls_failure(p->d), DTLS_ALERT); /* it is told before it ends */
    assert_true(!p->keys && counts(t).open == 0 && counts(t).failed[DTLS_WRONG_FINGERPRINT] == 1);
    w.suites_n = 0;
    assert_false(relay_dtls_tell(t, &(struct relay_dtls_out){ .kind = RELAY_DTLS_START, .assoc = 3, .webrtc = &w }));
    assert_int_equal(counts(t).open, 0);
    done(t);
}

/* Queues are bounded: datagrams are lost, keys and ends are not. */
static void full_queues(void **state)
{
    (void)state;
    struct relay_dtls_thread *t = make(PEERS);
    const uint8_t junk[64] = { 22, 0xfe, 0xfd };
    unsigned taken = 0;
    while (relay_dtls_tell(t, &(struct relay_dtls_out){ .kind = RELAY_DTLS_DATA, .assoc = 77, .p = junk, .n = sizeof junk }))
        taken++;
    assert_true(taken > 100 && taken < 5000 && counts(t).dropped == 1);
    for (uint64_t id = 301; tell(t, RELAY_DTLS_START, id); id++) /* what must not be lost has more room, and still more what is said once */
        taken++;
    assert_true(counts(t).refused == 1 && counts(t).dropped == 1);
    while (counts(t).dropped == 1) {
        (void)tell(t, RELAY_DTLS_PATH, 301);
        taken++;
    }
    assert_true(taken >= 200 && taken < 5000);
    assert_true(tell(t, RELAY_DTLS_END, 77)); /* taken, though there is no room: nothing depends on it */
    (void)relay_dtls_work(t, now);
    (void)results(t);
    for (uint64_t id = 2; id <= 200; id += 2) { /* the peers' hellos are answered, nobody takes the answers */
        struct peer *p = peer_open(t, id);
        assert_true(tell(t, RELAY_DTLS_START, id) && tell(t, RELAY_DTLS_PATH, id));
        (void)relay_dtls_work(t, now);
        dtls_start(p->d, now, &p->sink);
        (void)relay_dtls_work(t, now);
    }
    unsigned fill = 0; /* the rest of the results' queue: what unanswered flights are worth */
    for (; fill < 6; fill++) {
        now = pl_mono_add(now, 250 * PL_MS);
        (void)relay_dtls_work(t, now);
    }
    for (unsigned turn = 0; turn < 400; turn++) { /* one result at a time, as of a worker that has much else to do */
        now = pl_mono_add(now, 10 * PL_MS);
        (void)results(t);
        for (unsigned i = 0; i < PEERS; i++)
            if (peers[i].d && peers[i].id && !peers[i].finished)
                dtls_tick(peers[i].d, now, &peers[i].sink);
        (void)relay_dtls_work(t, now);
    }
    for (uint64_t id = 2; id <= 200; id += 2) {
        assert_true(peers[id].keys && peers[id].finished);
        same_keys(&peers[id]);
    }
    done(t);
}

/* Keys that find no room are owed, and said as soon as there is some. */
static void keys_are_owed(void **state)
{
    (void)state;
    struct relay_dtls_thread *t = make(PEERS);
    struct peer *p = peer_open(t, 1);
    assert_true(tell(t, RELAY_DTLS_START, 1) && tell(t, RELAY_DTLS_PATH, 1));
    (void)relay_dtls_work(t, now);
    for (uint64_t id = 3; id < 2 * PEERS - 1; id += 2) { /* ClientHellos of others until there is no room for more */
        assert_true(tell(t, RELAY_DTLS_START, id));
        (void)relay_dtls_work(t, now);
    }
    const struct relay_dtls_in *in = relay_dtls_peek(t); /* one is taken: its place is for our last flight, and none is left for the keys */
    assert_true(in->kind == RELAY_DTLS_SEND && in->assoc == 1);
    dtls_input(p->d, now, in->p, in->n, &p->sink);
    relay_dtls_next(t);
    int64_t due = relay_dtls_work(t, now);
    assert_true(due > 0 && due <= 2 * PL_MS);
    (void)results(t);
    assert_true(!p->keys && !p->failed);
    assert_int_equal(dtls_state(p->d), DTLS_FINISHED); /* the peer has had our flight */
    now = pl_mono_add(now, due);
    shake(t);
    assert_true(p->keys && p->finished);
    same_keys(p);
    done(t);
}

static void memory_may_run_out(void **state)
{
    (void)state;
    struct relay_dtls_thread *t = NULL;
    const struct relay_dtls_conf c = { .max_open = 4, .wake = -1, .clock = &pl_clock_system };
    unsigned failed = 0;
    for (enum pl_err e = PL_NO_MEMORY; e != PL_OK; failed++) {
        pl_heap_fail_at(failed + 1);
        e = relay_dtls_new(&c, &t, NULL);
        pl_heap_fail_at(0);
        assert_true(e == PL_OK || (e == PL_NO_MEMORY && !t));
    }
    assert_true(failed > 4);
    now.us = 1000 * PL_SECOND;
    struct peer *p = peer_open(t, 1);
    pl_heap_fail_at(1);
    assert_true(tell(t, RELAY_DTLS_START, 1));
    (void)relay_dtls_work(t, now);
    pl_heap_fail_at(0);
    (void)results(t);
    assert_string_equal(p->failed, "dtls_no_memory");
    assert_true(counts(t).open == 0 && counts(t).failed[DTLS_NO_MEMORY] == 1);
    done(t);
}

/* ---- As a thread. */

static void many_at_once_in_a_thread(void **state)
{
    (void)state;
    struct relay_dtls_thread *t = NULL;
    int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(relay_dtls_new(&(struct relay_dtls_conf){ .max_open = PEERS, .wake = wake, .clock = &pl_clock_system }, &t, NULL), PL_OK);
    assert_int_equal(relay_dtls_start(t, NULL), PL_OK);
    unsigned finished = 0, opened = 0;
    struct pl_mono end = pl_mono_add(pl_now_mono(&pl_clock_system), 60 * PL_SECOND);
    while (finished < PEERS - 1) {
        now = pl_now_mono(&pl_clock_system);
        assert_true(pl_mono_cmp(now, end) < 0);
        for (unsigned i = 0; i < 16 && opened < PEERS - 1 && tell(t, RELAY_DTLS_START, opened + 1); i++) { /* a full queue is tried again */
            uint64_t id = ++opened;
            struct peer *p = peer_open(t, id);
            assert_true(tell(t, RELAY_DTLS_PATH, id));
            dtls_start(p->d, now, &p->sink);
        }
        relay_dtls_kick(t);
        struct pollfd f = { .fd = wake, .events = POLLIN };
        uint64_t rung;
        if (poll(&f, 1, 50) == 1)
            (void)!read(wake, &rung, sizeof rung);
        (void)results(t);
        finished = 0;
        for (unsigned i = 1; i <= opened; i++) {
            struct peer *p = &peers[i];
            dtls_tick(p->d, now, &p->sink);
            assert_null(p->failed);
            finished += p->finished && dtls_state(p->d) == DTLS_FINISHED;
        }
        relay_dtls_kick(t);
    }
    for (unsigned i = 1; i < PEERS; i++)
        same_keys(&peers[i]);
    done(t);
    close(wake);
}

/* ---- A WebRTC viewer of a running worker: check, handshake, key frame, over loopback. */

struct viewer {
    struct dtls_sink sink; /* first */
    int fd;
    struct dtls *d;
    struct pl_srtp *in;
    unsigned packets, early; /* that were there before the peer's Finished */
};

static void to_socket(struct dtls_sink *self, const uint8_t *p, size_t n) { assert_int_equal(send(((struct viewer *)self)->fd, p, n, 0), n); }

static int udp_to(const struct ice_addr *to)
{
    struct sockaddr_storage ss;
    socklen_t n = ice_addr_sockaddr(to, AF_INET, &ss);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&ss, n), 0);
    return fd;
}

static void post(struct relay_worker *w, enum relay_cmd_kind kind, const struct sim_peer *p)
{
    struct relay_post post = { .ask = RELAY_ASK_CMD, .cmd = { .kind = kind, .request = "r", .ref = { { { 1 } }, 1 }, .expires_in_us = PL_HOUR, .leg = p->leg } };
    memcpy(post.cmd.viewer_id, p->id, sizeof post.cmd.viewer_id);
    assert_int_equal(relay_worker_post(w, &post), PL_OK);
    for (bool answered = false; !answered; relay_worker_next(w)) {
        const struct relay_news *n;
        while (!relay_worker_peek(w, &n)) {
            struct pollfd f = { .fd = relay_worker_news_fd(w), .events = POLLIN };
            uint64_t count;
            assert_int_equal(poll(&f, 1, 5000), 1);
            assert_int_equal(read(relay_worker_news_fd(w), &count, sizeof count), sizeof count);
        }
        answered = n->kind == RELAY_NEWS_ANSWER;
        pl_heap_free(n->session);
        if (answered)
            assert_int_equal(n->result, PL_OK);
    }
}

static void check(struct sim *s, int fd, const struct sim_peer *p)
{
    char name[64];
    uint8_t out[STUN_MAX];
    size_t n;
    struct pl_buf b = pl_buf_fixed(name, sizeof name);
    pl_buf_fmt(&b, "%s:%s", p->leg.ice.ufrag, p->leg.ice.peer_ufrag);
    struct stun_request r = { .username = pl_buf_view(&b), .password = pl_str_of(p->leg.ice.pwd), .controlling = true, .use_candidate = true };
    pl_rand_fill(&s->rand.base, r.tid, sizeof r.tid);
    assert_int_equal(stun_write_request(s->mac, &r, out, sizeof out, &n), PL_OK);
    assert_int_equal(send(fd, out, n, 0), n);
}

static void viewer_input(struct viewer *v, uint8_t *p, size_t n)
{
    struct dtls_keys k;
    switch (rtp_classify(p, n)) {
    case RTP_CLASS_DTLS:
        dtls_input(v->d, pl_now_mono(&pl_clock_system), p, n, &v->sink);
        if (!v->in && dtls_state(v->d) >= DTLS_KEYED) {
            assert_int_equal(dtls_keys(v->d, &k), PL_OK);
            struct pl_srtp_conf c = { .suite = k.suite, .receive = true, .key = k.receive_key, .key_n = pl_srtp_key_bytes(k.suite) };
            assert_int_equal(pl_srtp_new(&c, &v->in), PL_OK);
        }
        break;
    case RTP_CLASS_RTP:
        assert_non_null(v->in); /* V-A2: never before the keys can be known */
        assert_int_equal(pl_srtp_unprotect_rtp(v->in, p, &n), PL_OK);
        v->packets++;
        break;
    default: break;
    }
}

static void send_key_frame(int hub_fd, struct sim_peer *hub)
{
    static const uint8_t params[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c };
    uint8_t payload[900] = { 0x7c }, out[SIM_PACKET];
    hub->ts += 3000;
    assert_true(send(hub_fd, out, sim_hub_packet(hub, 0, false, params, sizeof params, out), 0) > 0);
    for (unsigned i = 0; i < 4; i++) {
        payload[1] = (uint8_t)((i == 0 ? 0x80 : 0) | (i == 3 ? 0x40 : 0) | 5);
        assert_true(send(hub_fd, out, sim_hub_packet(hub, 0, i == 3, payload, sizeof payload, out), 0) > 0);
    }
}

static void webrtc_over_real_sockets(void **state)
{
    (void)state;
    for (unsigned active = 0; active < 2; active++) {
        static struct sim s;
        static struct sim_peer hub, peer;
        struct relay_worker *w = NULL;
        struct relay_worker_conf conf = { .max_sessions = 1, .clock = &pl_clock_system, .rand = &pl_rand_system };
        struct viewer v = { .sink = { to_socket } };
        assert_int_equal(ice_addr_parse(PL_STR("127.0.0.1:0"), &conf.media), PL_OK);
        sim_new(&s, 1, 0);
        sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
        sim_peer_new(&s, &peer, 2, PL_SRTP_GCM, false);
        peer.leg.webrtc = webrtc(active);
        assert_int_equal(relay_worker_new(&conf, &w, NULL), PL_OK);
        assert_int_equal(relay_worker_start(w, NULL), PL_OK);
        struct ice_addr at = relay_worker_addr(w);
        int hub_fd = udp_to(&at);
        v.fd = udp_to(&at);
        struct dtls_conf c = { .context = context, .role = active ? DTLS_PASSIVE : DTLS_ACTIVE, .suites = { PL_SRTP_GCM }, .suites_n = 1 };
        memcpy(c.fingerprints[0], relay_worker_fingerprint(w), sizeof c.fingerprints[0]);
        assert_int_equal(dtls_new(&c, &v.d), PL_OK);
        post(w, RELAY_OPEN, &hub);
        check(&s, hub_fd, &hub);
        post(w, RELAY_VIEWER_ADD, &peer);
        send_key_frame(hub_fd, &hub); /* V-A2: before there is a path or a key */
        check(&s, v.fd, &peer);
        dtls_path(v.d, pl_now_mono(&pl_clock_system));
        dtls_start(v.d, pl_now_mono(&pl_clock_system), &v.sink);
        while (v.packets < 5 || dtls_state(v.d) != DTLS_FINISHED) {
            uint8_t p[2048];
            struct pollfd f = { .fd = v.fd, .events = POLLIN };
            if (poll(&f, 1, 5000) != 1)
                fail_msg("nothing came in 5 s: %u packets, state %d, %s", v.packets, dtls_state(v.d), dtls_failure_code(dtls_failure(v.d)));
            ssize_t n = recv(v.fd, p, sizeof p, 0);
            assert_true(n > 0);
            viewer_input(&v, p, (size_t)n);
        }
        dtls_free(v.d);
        pl_srtp_free(v.in);
        close(hub_fd);
        close(v.fd);
        relay_worker_free(w);
        sim_peer_free(&hub);
        sim_peer_free(&peer);
        sim_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_roles),
        cmocka_unit_test(half_open_ones_are_capped),
        cmocka_unit_test(time_ends_all),
        cmocka_unit_test(failures_have_their_code),
        cmocka_unit_test(full_queues),
        cmocka_unit_test(keys_are_owed),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(many_at_once_in_a_thread),
        cmocka_unit_test(webrtc_over_real_sockets),
    };
    return cmocka_run_group_tests(tests, make_context, free_context);
}
