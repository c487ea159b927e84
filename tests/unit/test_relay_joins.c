/* V-G5: viewers come and go, and nothing grows: native ones, WebRTC ones with their whole handshake in either role, and some that never get that far. V-A2: whoever gets that far
 * sees a whole key frame first, wherever in his start it came, also the very first one of a source that was not there before him. PL_JOINS says how many
 * (tests/run --long joins: 1,000,000); the relay's step and its DTLS side run here without threads, on a clock of their own. */
#include "relay_dtls.h"
#include "relay_sim.h"
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

enum { JOINS = 1500, A_SESSION = 400, WARM = 800, SLACK = 256 * 1024 };
enum kind { NATIVE_GCM, NATIVE_SHA1_80, RELAY_ACTIVE, RELAY_PASSIVE, NEVER_CHECKED, HALF_OPEN, KINDS };
/* The steps of a start: a key frame begins at one of them and goes on by a packet a step; what is left of it comes at the end. */
enum step { AT_FIRST, ADDED, CHECKED, FLIGHTS, AT_LAST = FLIGHTS + 4, STEPS };
enum { KEY_PACKETS = 5, COLD = 3 /**< of so many starts in which the key frame comes later, in one it is the source's first word */ };

static struct sim s;
static struct sim_peer hub;
static int64_t generation;
static uint64_t starts;          /* of viewers who got as far as media */
static unsigned key_left;        /* packets of the key frame that is under way */
static bool hub_is_there;
static struct relay_dtls_thread *side;
static struct dtls_context *context; /* the phones' */

struct phone {
    struct dtls_sink sink; /* first */
    struct sim_peer v;
    struct dtls *d;
    bool keyed;
};

static bool to_side(struct relay_sink *self, const struct relay_dtls_out *out)
{
    (void)self;
    return relay_dtls_tell(side, out);
}

static void to_relay(struct dtls_sink *self, const uint8_t *p, size_t n) { sim_in(&s, &((struct phone *)self)->v.addr, p, n); }

/* The handshake's keys in place of those that sim_peer_new drew. */
static void take_keys(struct phone *p)
{
    struct dtls_keys k;
    assert_int_equal(dtls_keys(p->d, &k), PL_OK);
    assert_int_equal(k.suite, PL_SRTP_GCM);
    struct pl_srtp_conf media = { .suite = k.suite, .receive = true, .key = k.receive_key, .key_n = pl_srtp_key_bytes(k.suite) };
    struct pl_srtp_conf back = { .suite = k.suite, .key = k.send_key, .key_n = pl_srtp_key_bytes(k.suite) };
    p->v.media = pl_srtp_free(p->v.media);
    p->v.back = pl_srtp_free(p->v.back);
    assert_int_equal(pl_srtp_new(&media, &p->v.media), PL_OK);
    assert_int_equal(pl_srtp_new(&back, &p->v.back), PL_OK);
    p->keyed = true;
}

/* What the relay has for the phone: DTLS to its machine, the rest as to any viewer. */
static void phone_takes(struct phone *p)
{
    size_t answers = 0;
    for (size_t i = 0; i < s.queued; i++) {
        struct sim_datagram d = s.queue[i];
        if (!ice_addr_eq(&d.to, &p->v.addr) || rtp_classify(d.p, d.n) != RTP_CLASS_DTLS)
            continue;
        memmove(&s.queue[i], &s.queue[i + 1], (--s.queued - i) * sizeof *s.queue);
        i = SIZE_MAX; /* it may have answered, and so on: from the start */
        dtls_input(p->d, s.now, d.p, d.n, &p->sink);
        if (!p->keyed && dtls_state(p->d) >= DTLS_KEYED)
            take_keys(p);
    }
    if (p->keyed || !p->d)
        (void)sim_deliver(&s, &p->v, &answers);
}

static void work(void)
{
    const struct relay_dtls_in *in;
    (void)relay_dtls_work(side, s.now);
    for (; (in = relay_dtls_peek(side)) != NULL; relay_dtls_next(side))
        relay_dtls(s.relay, s.now, in, &s.sink);
}

static void hub_opens(void)
{
    sim_peer_free(&hub);
    sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
    assert_int_equal(sim_open(&s, &hub, ++generation), PL_OK);
    hub_is_there = false;
}

/* The next packets of the key frame. */
static void key_packets(unsigned n)
{
    static const uint8_t params[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c };
    uint8_t slice[900] = { 0x7c }, out[SIM_PACKET];
    if (!hub_is_there)
        sim_check(&s, &hub, true);
    hub_is_there = true;
    for (; n > 0 && key_left > 0; n--, key_left--) {
        bool first = key_left == KEY_PACKETS, last = key_left == 1;
        hub.ts += first ? 3000 : 0;
        slice[1] = (uint8_t)((key_left == KEY_PACKETS - 1 ? 0x80 : 0) | (last ? 0x40 : 0) | 5);
        size_t size = first ? sim_hub_packet(&hub, 0, false, params, sizeof params, out) : sim_hub_packet(&hub, 0, last, slice, sizeof slice, out);
        sim_in(&s, &hub.addr, out, size);
    }
}

static void add(struct phone *p, enum kind kind)
{
    sim_peer_new(&s, &p->v, 2, kind == NATIVE_SHA1_80 ? PL_SRTP_SHA1_80 : PL_SRTP_GCM, false);
    if (kind == RELAY_ACTIVE || kind == RELAY_PASSIVE || kind == HALF_OPEN) {
        p->v.leg.webrtc = (struct relay_webrtc){ .on = true, .active = kind != RELAY_PASSIVE, .suites = { PL_SRTP_GCM, PL_SRTP_SHA1_80 }, .suites_n = 2, .nack = true, .pli = true };
        memcpy(p->v.leg.webrtc.fingerprints[0], dtls_fingerprint(context), DTLS_FINGERPRINT);
        struct dtls_conf c = { .context = context, .role = kind == RELAY_PASSIVE ? DTLS_ACTIVE : DTLS_PASSIVE, .suites = { PL_SRTP_GCM }, .suites_n = 1 };
        memcpy(c.fingerprints[0], relay_dtls_fingerprint(side), sizeof c.fingerprints[0]);
        p->sink.send = to_relay;
        assert_int_equal(dtls_new(&c, &p->d), PL_OK);
    }
    assert_int_equal(sim_add(&s, &p->v, generation), PL_OK);
}

static void handshake(struct phone *p, enum step from)
{
    dtls_path(p->d, s.now);
    dtls_start(p->d, s.now, &p->sink);
    for (unsigned flight = 0; flight < AT_LAST - FLIGHTS; flight++) {
        if (from <= FLIGHTS + flight)
            key_packets(1);
        phone_takes(p);
        work();
    }
    assert_int_equal(dtls_state(p->d), DTLS_FINISHED);
}

static void join(uint64_t no)
{
    static struct phone p;
    enum kind kind = (enum kind)(no % KINDS);
    enum step from = (enum step)(no / KINDS % STEPS);
    bool cold = from != AT_FIRST && no / KINDS / STEPS % COLD == 0;
    if (cold || no % A_SESSION == 0) /* S-M6: a session has so many keys and no more; a new generation is a new one */
        hub_opens();
    key_left = KEY_PACKETS;
    if (!cold && !hub_is_there) { /* there is an older one */
        key_packets(KEY_PACKETS);
        key_left = KEY_PACKETS;
    }
    if (from == AT_FIRST)
        key_packets(KEY_PACKETS);
    p = (struct phone){ .keyed = false };
    add(&p, kind);
    work();
    if (from <= ADDED)
        key_packets(1);
    if (kind != NEVER_CHECKED)
        sim_check(&s, &p.v, true);
    if (from <= CHECKED)
        key_packets(1);
    if (kind == RELAY_ACTIVE || kind == RELAY_PASSIVE)
        handshake(&p, from);
    key_packets(KEY_PACKETS);
    sim_hub_frame(&s, &hub, false, false, 2, -1);
    sim_settle(&s);
    if (kind < NEVER_CHECKED) {
        phone_takes(&p);
        starts++;
        if (!p.v.first_is_key || p.v.keys == 0 || p.v.incomplete || (cold && p.v.keys != 1))
            fail_msg("join %llu of kind %d lost its key frame", (unsigned long long)no, (int)kind);
        sim_rtcp(&s, &p.v, false, false); /* the first that verifies: the handshake's memory goes */
        work();
    }
    struct relay_cmd gone = { .kind = RELAY_VIEWER_REMOVE, .ref = { s.live_id, generation } };
    memcpy(gone.viewer_id, p.v.id, sizeof gone.viewer_id);
    assert_int_equal(relay_apply(s.relay, s.now, &gone, &s.sink), PL_OK);
    work();
    s.queued = 0;
    p.d = dtls_free(p.d);
    sim_peer_free(&p.v);
    struct relay_event ev;
    while (relay_take_event(s.relay, &ev))
        continue;
}

static void nothing_grows(void **state)
{
    (void)state;
    uint64_t joins = JOINS;
    const char *text = getenv("PL_JOINS");
    if (text)
        assert_int_equal(pl_parse_u64(pl_str_of(text), 2 * WARM, 100000000, &joins), PL_OK);
    starts = 0;
    sim_new(&s, 2, 1 << 18);
    s.sink.dtls = to_side;
    assert_int_equal(dtls_context_new((struct pl_utc){ 0 }, &context), PL_OK);
    assert_int_equal(relay_dtls_new(&(struct relay_dtls_conf){ .max_open = 8, .wake = -1, .clock = &pl_clock_system }, &side, NULL), PL_OK);
    size_t before = 0;
    for (uint64_t i = 0; i < joins; i++) {
        join(i);
        if (i + 1 == WARM)
            before = mallinfo2().uordblks;
    }
    size_t after = mallinfo2().uordblks;
    struct relay_dtls_counts c;
    struct relay_stats st;
    relay_dtls_counts(side, &c);
    relay_stats(s.relay, &st);
    print_message("%llu joins: %zu KiB after %d of them, %zu at the end; %llu handshakes; 0 key frames lost in %llu starts\n", (unsigned long long)joins, before >> 10, WARM, after >> 10,
        (unsigned long long)c.finished, (unsigned long long)starts);
    assert_true(after <= before + SLACK);
    assert_true(c.open == 0 && c.refused == 0 && c.dropped == 0 && c.finished >= joins / KINDS * 2 && st.viewers == 0 && st.events_dropped == 0);
    relay_dtls_free(side);
    dtls_context_free(context);
    sim_peer_free(&hub);
    sim_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(nothing_grows) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
