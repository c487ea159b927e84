/* The packet plane against naive references, by seed: the ring beside an array that forgets nothing, the governor beside a list of
 * what was asked when, and what viewers get beside what the source sent, over a network that loses, delays, doubles and repeats. A failure names its seed;
 * PL_SEEDS says how many of the last. Rules: V-A5, V-E1, S-M6. Roll-overs: test_relay_wraps.c. */
#include "relay_ring.h"
#include "relay_sim.h"
#include <stdio.h>
#include <stdlib.h>

static size_t ignore;

/* ---- The ring. */

enum { RING = 64 * 1024, PUTS = 20000 };
struct put { /* what the reference knows of one packet */
    struct relay_entry like;
    uint16_t n;
    uint8_t fill;
};

/* The naive ring: a payload is there while what came after it has not taken its bytes, counted from the end; the unused tail of the memory counts as taken. */
static bool model_has(const uint64_t *starts, uint64_t end, uint64_t head, uint64_t index)
{
    return index < head && head - index <= RELAY_RING_ENTRIES && end - starts[index] <= RING;
}

static void ring_against_a_naive_one(void **state)
{
    (void)state;
    static struct put puts[PUTS];
    static uint64_t starts[PUTS];
    static bool given[2][1 << 18];
    for (uint64_t seed = 1; seed <= 8; seed++) {
        static struct relay_ring g;
        struct pl_rand_seeded rand;
        uint8_t payload[2048];
        uint64_t end = 0, number[2] = { 5 + pl_rand_below((pl_rand_seed(&rand, seed), &rand.base), 1000), 70000 };
        memset(given, 0, sizeof given);
        g = (struct relay_ring){ .bytes = NULL };
        assert_int_equal(relay_ring_init(&g, RING), PL_OK);
        unsigned longest = seed % 2 ? 1300 : 12; /* out of bytes first · out of entries first */
        for (uint64_t i = 0; i < PUTS; i++) {
            struct put *p = &puts[i];
            unsigned track = pl_rand_below(&rand.base, 4) == 0;
            number[track] += 1 + (pl_rand_below(&rand.base, 50) == 0 ? pl_rand_below(&rand.base, 5) : 0);
            uint64_t late = pl_rand_below(&rand.base, 30) == 0 ? 1 + pl_rand_below(&rand.base, 3) : 0; /* reordering: numbers below the newest */
            *p = (struct put){ .like = { .seq = number[track] - late, .timestamp = (uint32_t)i, .track = (uint8_t)track, .marker = i % 3 == 0 },
                .n = (uint16_t)(1 + pl_rand_below(&rand.base, longest)), .fill = (uint8_t)pl_rand_below(&rand.base, 256) };
            memset(payload, p->fill, p->n);
            uint64_t index;
            bool *had = &given[track][p->like.seq];
            if (*had) { /* S-M6 */
                assert_false(relay_ring_put(&g, &p->like, payload, p->n, &index));
                i--;
                continue;
            }
            *had = true;
            if (end % RING + p->n > RING)
                end += RING - end % RING;
            starts[i] = end;
            end += p->n;
            assert_true(relay_ring_put(&g, &p->like, payload, p->n, &index) && index == i);
            for (unsigned look = 0; look < 4; look++) {
                uint64_t back = pl_rand_below(&rand.base, look < 2 ? 80 : 6000), at = back > i ? 0 : i - back;
                const struct relay_entry *e = relay_ring_at(&g, at);
                bool want = model_has(starts, end, i + 1, at);
                if ((e != NULL) != want || (e && (e->seq != puts[at].like.seq || e->n != puts[at].n || e->timestamp != (uint32_t)at)))
                    fail_msg("seed %llu, put %llu, index %llu", (unsigned long long)seed, (unsigned long long)i, (unsigned long long)at);
                for (unsigned b = 0; e && b < e->n; b++)
                    assert_int_equal(relay_ring_payload(&g, e)[b], puts[at].fill);
                /* By number: the newest packet of it, or nothing; never another packet. */
                const struct relay_entry *f = relay_ring_find(&g, puts[at].like.track, puts[at].like.seq);
                assert_true(!f || (f->seq == puts[at].like.seq && f->track == puts[at].like.track));
                bool newest = want;
                for (uint64_t k = at + 1; newest && k <= i; k++)
                    newest = puts[k].like.track != puts[at].like.track || puts[k].like.seq % RELAY_RING_ENTRIES != puts[at].like.seq % RELAY_RING_ENTRIES;
                if (newest && f != e)
                    fail_msg("seed %llu: number %llu is not found", (unsigned long long)seed, (unsigned long long)puts[at].like.seq);
            }
        }
        assert_null(relay_ring_at(&g, PUTS));
        relay_ring_done(&g);
    }
}

/* ---- The governor: whatever viewers ask for in whatever order, the source is asked once in 2 s at most, and always soon when somebody waits. */

static void v_a5_governor_against_a_list(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim s;
        struct sim_peer hub, v[3], *alive[4] = { &hub, &v[0], &v[1], &v[2] };
        sim_new(&s, 2, 256 * 1024);
        sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
        assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
        sim_check(&s, &hub, true);
        for (unsigned i = 0; i < 3; i++) {
            sim_peer_new(&s, &v[i], 2 + i, PL_SRTP_GCM, false);
            assert_int_equal(sim_add(&s, &v[i], 1), PL_OK);
            sim_check(&s, &v[i], true);
        }
        struct pl_rand_seeded rand;
        pl_rand_seed(&rand, seed);
        int64_t asked_at = INT64_MIN / 2, wanted_at = 0; /* the reference: when the last request came, since when somebody waits (0: nobody) */
        unsigned plis = 0;
        sim_hub_frame(&s, &hub, true, false, 2, -1);
        sim_deliver(&s, &hub, &ignore);
        asked_at = hub.plis ? s.now.us : asked_at;
        plis = hub.plis;
        for (unsigned step = 0; step < 2000; step++) {
            unsigned what = pl_rand_below(&rand.base, 20);
            if (what < 2) {
                sim_rtcp(&s, &v[what], true, false);
                wanted_at = wanted_at ? wanted_at : s.now.us;
            } else if (what < 4) {
                sim_hub_frame(&s, &hub, what == 3, false, 2, -1);
                wanted_at = what == 3 ? 0 : wanted_at;
            }
            sim_pass(&s, 5 * PL_MS * (1 + pl_rand_below(&rand.base, 40)), alive, 4);
            for (unsigned i = 0; i < 4; i++)
                sim_deliver(&s, alive[i], &ignore);
            bool asked = hub.plis > plis;
            if (hub.plis > plis + 1 || (asked && s.now.us - asked_at < 2 * PL_SECOND - 200 * PL_MS))
                fail_msg("seed %llu, step %u: asked too often", (unsigned long long)seed, step);
            plis = hub.plis;
            asked_at = asked ? s.now.us : asked_at;
            if (wanted_at && s.now.us - (wanted_at > asked_at ? wanted_at : asked_at) > 2 * PL_SECOND + 250 * PL_MS && s.now.us - asked_at > 2 * PL_SECOND + 250 * PL_MS)
                fail_msg("seed %llu, step %u: somebody waits and nobody asks", (unsigned long long)seed, step);
            wanted_at = asked ? 0 : wanted_at;
            struct relay_event e;
            while (relay_take_event(s.relay, &e))
                ;
        }
        for (unsigned i = 0; i < 3; i++)
            sim_peer_free(&v[i]);
        sim_free(&s);
        sim_peer_free(&hub);
    }
}

/* ---- Numbers: any source over any network, and viewers that come, go and ask again. The sink's oracle looks at every nonce (relay_oracle.h); here is looked at that numbers keep
 * the source's order, that the relay makes no hole of its own, and that a cached key frame is the source's own, whole and in order. */

enum { WIRE = 512, FRAMES = 300, GUESTS = 4, TAKEN = 8192, LATE = 12 };
struct wire_packet { /* on its way from the source */
    uint8_t p[SIM_PACKET];
    size_t n;
    uint32_t frame;
    uint64_t due; /* tick at which it comes; 0: it was lost, or has come */
};
struct taken { /* what a viewer got, by its extended number */
    uint64_t number, digest;
    uint32_t count, frame; /* the source's packet; of the relay's own the count is 0 */
    uint8_t at, of;        /* place in its frame, packets of it */
    bool slice, sps;
};
struct guest {
    struct sim_peer peer;
    bool there;
    struct rtp_seq ext;
    unsigned n;
    struct taken taken[TAKEN];
};
struct plane {
    struct sim s;
    struct sim_peer hub;
    uint64_t seed, tick;
    struct wire_packet wire[WIRE];
    uint32_t count, frame; /* packets and frames so far */
    bool markers, b_frames, key[FRAMES + 2];
    uint64_t jumped[FRAMES + 2]; /* numbers that the source has left out, up to each frame */
    uint32_t newest;       /* frame of which something has come */
    unsigned guests, whole_checked;
    struct guest guest[GUESTS];
};

static bool one_in(struct plane *p, unsigned n) { return pl_rand_below(&p->s.rand.base, n) == 0; }
static void put32(uint8_t *p, uint32_t v) { memcpy(p, (uint8_t[]){ (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v }, 4); }
static uint32_t get32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

/* One packet of the source: `head` begins its payload, then come who it is and filling. */
static void source_packet(struct plane *p, const uint8_t *head, size_t head_n, unsigned at, unsigned of)
{
    uint8_t payload[1200], *q = payload + head_n;
    uint32_t count = ++p->count;
    memset(payload, (int)(count % 251), sizeof payload);
    memcpy(payload, head, head_n);
    put32(q, count);
    put32(q + 4, p->frame);
    q[8] = (uint8_t)at;
    q[9] = (uint8_t)of;
    size_t n = head_n + 10 + count * 37 % 900;
    if (head[0] == 0x67 || head[0] == 0x68)
        n = head_n + 10;
    if (head[0] == 0x38) { /* SPS and PPS in a STAP-A whose SPS says who it is, and perhaps a slice */
        n = head_n + 10;
        memcpy(payload + n, (const uint8_t[]){ 0, 3, 0x68, 0xce, 0x3c }, 5);
        n += 5;
    }
    if (head[0] == 0x38 && of == 1) {
        memcpy(payload + n, (const uint8_t[]){ 0, 2, 0x65, 0x80 }, 4);
        n += 4;
    }
    struct wire_packet *w = &p->wire[count % WIRE];
    w->n = sim_hub_packet(&p->hub, 0, p->markers && at + 1 == of, payload, n, w->p);
    w->frame = p->frame;
    unsigned fate = p->frame > 1 ? pl_rand_below(&p->s.rand.base, 20) : 19;
    w->due = fate == 0 ? 0 : p->tick + 1 + at + (fate == 1 || fate == 2 ? pl_rand_below(&p->s.rand.base, LATE) : 0);
}

/* What the source's network does in the time of one packet. */
static void tick(struct plane *p)
{
    p->tick++;
    for (uint32_t c = p->count > WIRE / 2 ? p->count - WIRE / 2 : 1; c <= p->count; c++) {
        struct wire_packet *w = &p->wire[c % WIRE];
        if (w->due == 0 && one_in(p, 400)) /* sent again, late; also what has come (S-M2: refused) */
            w->due = p->tick;
        if (w->due != p->tick)
            continue;
        sim_in(&p->s, &p->hub.addr, w->p, w->n);
        w->due = one_in(p, 30) ? p->tick + 1 + pl_rand_below(&p->s.rand.base, LATE) : 0;
        p->newest = w->frame > p->newest ? w->frame : p->newest;
    }
}

static void source_frame(struct plane *p, bool key)
{
    enum { STAP, SINGLES, BARE, SEI_BARE, ALL_IN_ONE, STYLES };
    unsigned style = p->frame < 2 ? STAP : pl_rand_below(&p->s.rand.base, STYLES), slices = key && one_in(p, 3) ? 2 : 1, cut = 1 + pl_rand_below(&p->s.rand.base, key ? 12 : 4);
    unsigned first = !key ? 0 : style == STAP ? 1 : style == SINGLES ? 2 : style == SEI_BARE ? 1 : 0, of = key && style == ALL_IN_ONE ? 1 : first + slices * cut;
    static const uint8_t stap[] = { 0x38, 0, 11, 0x67 }, sps[] = { 0x67 }, pps[] = { 0x68 }, sei[] = { 0x06 };
    p->key[++p->frame] = key;
    if (key && (style == STAP || style == ALL_IN_ONE))
        source_packet(p, stap, sizeof stap, 0, of);
    if (key && style == SINGLES) {
        source_packet(p, sps, 1, 0, of);
        source_packet(p, pps, 1, 1, of);
    }
    if (key && style == SEI_BARE)
        source_packet(p, sei, 1, 0, of);
    for (unsigned i = first; i < of && !(key && style == ALL_IN_ONE); i++) {
        unsigned part = (i - first) % cut;
        uint8_t head[2] = { key ? 0x65 : 0x41, 0 };
        if (cut > 1) {
            head[1] = (uint8_t)((part == 0 ? 0x80 : 0) | (part + 1 == cut ? 0x40 : 0) | (key ? 5 : 1));
            head[0] = key ? 0x7c : 0x5c;
        }
        source_packet(p, head, cut > 1 ? 2 : 1, i, of);
    }
}

/* ---- What viewers make of it. */

static struct taken taken_of(const struct rtp_packet *k, uint64_t number)
{
    const uint8_t *q = k->payload;
    struct taken t = { .number = number, .digest = oracle_digest(q, k->payload_n) };
    uint8_t type = q[0] & 31;
    t.sps = type == H264_SPS || type == H264_STAP_A;
    if (q[0] == (0x60 | H264_STAP_A)) /* the relay's own: nri of the source's is another */
        return t;
    const uint8_t *id = q + (type == H264_STAP_A ? 4 : type == H264_FU_A ? 2 : 1);
    t.count = get32(id);
    t.frame = get32(id + 4);
    t.at = id[8];
    t.of = id[9];
    t.slice = type == H264_FU_A || type == H264_IDR || type == H264_SLICE || (t.sps && t.of == 1);
    return t;
}

static int by_number(const void *a, const void *b)
{
    const struct taken *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* As it went out, or wrapped as RFC 4588 says (that may be sooner, when the pacer holds the packet back): under one number the same. */
static void guest_got(struct plane *p, struct guest *g, const struct taken *t)
{
    for (unsigned i = g->n; i > 0; i--)
        if (g->taken[i - 1].number == t->number && g->taken[i - 1].digest != t->digest)
            fail_msg("seed %llu, number %llu: another packet was sent again than went out", (unsigned long long)p->seed, (unsigned long long)t->number);
        else if (g->taken[i - 1].number == t->number)
            return;
    assert_true(g->n < TAKEN);
    g->taken[g->n++] = *t;
}

static void guest_rtp(struct plane *p, struct guest *g, uint8_t *q, size_t n)
{
    struct rtp_packet k;
    enum pl_err e = pl_srtp_unprotect_rtp(g->peer.media, q, &n);
    if (e == PL_REPLAY) /* asked for again, and byte for byte what it was: the oracle has looked */
        return;
    assert_true(e == PL_OK && rtp_parse(q, n, &k) == PL_OK);
    const struct relay_track_conf *rtx = &g->peer.leg.webrtc.rtx;
    bool wrapped = rtx->ssrc && k.h.ssrc == rtx->ssrc;
    uint16_t number = wrapped ? (uint16_t)(k.payload[0] << 8 | k.payload[1]) : k.h.seq;
    assert_true(wrapped || k.h.ssrc == g->peer.leg.video.ssrc);
    k.payload += wrapped ? 2 : 0;
    k.payload_n -= wrapped ? 2 : 0;
    struct taken t = taken_of(&k, rtp_seq_extend(&g->ext, number));
    guest_got(p, g, &t);
}

static void guest_takes(struct plane *p, struct guest *g)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->s.queued; i++) {
        struct sim_datagram *d = &p->s.queue[i];
        if (ice_addr_eq(&d->to, &g->peer.addr)) {
            if (rtp_classify(d->p, d->n) == RTP_CLASS_RTP)
                guest_rtp(p, g, d->p, d->n);
            continue;
        }
        if (kept != i)
            p->s.queue[kept] = *d;
        kept++;
    }
    p->s.queued = kept;
}

/* In the order of the numbers: the source's order, and no hole but for packets that the source's network lost. */
static void check_order(const struct plane *p, struct guest *g)
{
    const struct taken *before = NULL;
    uint64_t own = 0;
    qsort(g->taken, g->n, sizeof *g->taken, by_number);
    for (unsigned i = 0; i < g->n; i++) {
        const struct taken *t = &g->taken[i];
        own += t->count == 0;
        if (t->count == 0)
            continue;
        if (before && t->count <= before->count)
            fail_msg("seed %llu, number %llu: packet %u behind %u", (unsigned long long)p->seed, (unsigned long long)t->number, t->count, before->count);
        if (before && t->number - before->number > t->count - before->count + p->jumped[t->frame] - p->jumped[before->frame] + own)
            fail_msg("seed %llu, number %llu: a hole that nobody can fill", (unsigned long long)p->seed, (unsigned long long)t->number);
        before = t;
        own = 0;
    }
}

/* What it got at once, out of the cache: the source's key frame, whole and in order, the parameter sets before all that needs them. */
static void check_cached(struct plane *p, struct guest *g)
{
    bool sps = false;
    unsigned next = 0, of = 1;
    qsort(g->taken, g->n, sizeof *g->taken, by_number);
    for (unsigned i = 0; i < g->n && next < of; i++) {
        const struct taken *t = &g->taken[i];
        sps |= t->sps;
        if (t->count == 0)
            continue;
        of = t->of;
        if (!p->key[t->frame] || t->at != next++ || (t->slice && !sps))
            fail_msg("seed %llu: the cached key frame is broken (frame %u, packet %u of %u)", (unsigned long long)p->seed, t->frame, t->at, t->of);
    }
    if (g->n && next != of)
        fail_msg("seed %llu: the cached key frame is not whole", (unsigned long long)p->seed);
    p->whole_checked += g->n > 0;
}

static void guest_leaves(struct plane *p, struct guest *g)
{
    struct relay_cmd gone = { .kind = RELAY_VIEWER_REMOVE, .ref = { p->s.live_id, 1 } };
    memcpy(gone.viewer_id, g->peer.id, sizeof gone.viewer_id);
    guest_takes(p, g);
    check_order(p, g);
    assert_int_equal(relay_apply(p->s.relay, p->s.now, &gone, &p->s.sink), PL_OK);
    sim_peer_free(&g->peer);
    g->there = false;
}

static void guest_comes(struct plane *p, struct guest *g)
{
    unsigned no = 2 + p->guests++ % 90, kind = pl_rand_below(&p->s.rand.base, 5);
    *g = (struct guest){ .there = true };
    if (kind < 2)
        sim_viewer(&p->s, &g->peer, no, kind ? PL_SRTP_SHA1_80 : PL_SRTP_GCM);
    else
        sim_connected_viewer(&p->s, &g->peer, no, PL_SRTP_GCM, /* rtx= */ kind == 2);
    sim_settle(&p->s);
    guest_takes(p, g);
    if (!p->key[p->newest]) /* one that is coming in may lack what is still on its way */
        check_cached(p, g);
}

/* Of the latest numbers some, lost or not. */
static void guest_asks(struct plane *p, struct guest *g)
{
    uint16_t want[24];
    unsigned n = 0;
    while (g->n && n < 24) {
        unsigned back = pl_rand_below(&p->s.rand.base, g->n < 80 ? g->n : 80);
        want[n++] = (uint16_t)(g->taken[g->n - 1 - back].number + pl_rand_below(&p->s.rand.base, 3) - 1);
    }
    if (n)
        sim_nack(&p->s, &g->peer, g->peer.leg.video.ssrc, want, n);
}

static void guests_do(struct plane *p)
{
    for (unsigned i = 0; i < GUESTS; i++) {
        struct guest *g = &p->guest[i];
        if (!g->there && one_in(p, 8))
            guest_comes(p, g);
        if (!g->there)
            continue;
        guest_takes(p, g);
        if (one_in(p, 3))
            guest_asks(p, g);
        if (one_in(p, 40))
            sim_rtcp(&p->s, &g->peer, /* pli= */ true, false);
        if (g->n > TAKEN / 2 || one_in(p, 60))
            guest_leaves(p, g);
    }
}

static void plane_run(struct plane *p)
{
    struct sim_peer *alive[1 + GUESTS] = { &p->hub };
    size_t answers = 0;
    for (unsigned no = 0; no < FRAMES; no++) {
        bool key = no == 0 || one_in(p, 12), back = p->b_frames && !key && !p->key[p->frame] && no % 3 == 2;
        bool seq_jump = one_in(p, 150), time_jump = one_in(p, 100);
        p->hub.ts += back ? (uint32_t)-3000 : p->b_frames ? 6000 : 3000;
        p->hub.ts += time_jump ? pl_rand_u32(&p->s.rand.base) : 0;
        uint16_t jump = (uint16_t)(seq_jump ? pl_rand_below(&p->s.rand.base, 30000) : 0);
        p->hub.seq[0] = (uint16_t)(p->hub.seq[0] + jump);
        p->jumped[p->frame + 1] = p->jumped[p->frame] + jump;
        source_frame(p, key);
        for (unsigned t = pl_rand_below(&p->s.rand.base, 30); t > 0; t--)
            tick(p);
        guests_do(p);
        unsigned n = 1;
        for (unsigned i = 0; i < GUESTS; i++)
            if (p->guest[i].there)
                alive[n++] = &p->guest[i].peer;
        sim_pass(&p->s, 5 * PL_MS * (1 + pl_rand_below(&p->s.rand.base, 10)), alive, n);
        sim_deliver(&p->s, &p->hub, &answers);
        p->hub.nacked_n = 0;
        struct relay_event e;
        while (relay_take_event(p->s.relay, &e))
            ;
    }
}

static void s_m6_numbers_against_the_source(void **state)
{
    (void)state;
    uint64_t seeds = 60, whole = 0;
    const char *want = getenv("PL_SEEDS");
    assert_true(!want || pl_parse_u64(pl_str_of(want), 1, 1000000000, &seeds) == PL_OK);
    static struct plane p;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct relay_stats st;
        p = (struct plane){ .seed = seed, .markers = seed % 8 != 0, .b_frames = seed % 5 == 0 };
        sim_new(&p.s, 2, 0);
        pl_rand_seed(&p.s.rand, seed);
        sim_peer_new(&p.s, &p.hub, 1, PL_SRTP_GCM, true);
        assert_int_equal(sim_open(&p.s, &p.hub, 1), PL_OK);
        sim_check(&p.s, &p.hub, true);
        plane_run(&p);
        for (unsigned i = 0; i < GUESTS; i++)
            if (p.guest[i].there)
                guest_leaves(&p, &p.guest[i]);
        relay_stats(p.s.relay, &st);
        if (st.not_sent || st.events_dropped)
            fail_msg("seed %llu: %llu packets were not sent", (unsigned long long)seed, (unsigned long long)st.not_sent);
        whole += p.whole_checked;
        sim_free(&p.s);
        sim_peer_free(&p.hub);
    }
    printf("%llu schedules, %llu cached key frames.\n", (unsigned long long)seeds, (unsigned long long)whole);
    assert_true(whole > seeds);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(ring_against_a_naive_one), cmocka_unit_test(v_a5_governor_against_a_list),
        cmocka_unit_test(s_m6_numbers_against_the_source) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
