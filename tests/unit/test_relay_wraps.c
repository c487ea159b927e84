/* 35 minutes of video and sound on a clock of their own, so that every number rolls over again and again: at the source, here, at each viewer, in what is sent again.
 * "Sequence wrap resets have silenced calls after 35 minutes." PL_PACKETS_A_SECOND says how fast (tests/run --long wraps: 1,000, 32 roll-overs of the picture; else 75).
 * Rules: S-M2 (roll-over and replay), S-M6, V-E1. */
#include "relay_sim.h"
#include <stdio.h>
#include <stdlib.h>

enum { FPS = 25, SECONDS = 35 * 60, PER_SECOND = 75, KEY_EVERY = 250, STEPS = 8, KEPT = 512, LOST = 32 };

static size_t ignore;

/* ---- A hub that somebody records. */

struct recorded {
    size_t n;
    uint8_t p[SIM_PACKET];
};
struct recorder { /* the first packet of each picture of late, and one of each round of the source's numbers */
    struct recorded late[KEPT], wrap[2];
    unsigned pictures, wraps;
    uint64_t sent, again;
};

static void picture(struct sim *s, struct sim_peer *hub, struct recorder *r, unsigned packets, bool key)
{
    static const uint8_t params[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c };
    uint8_t payload[1100] = { 0x7c }, out[SIM_PACKET];
    bool bare = key && r->pictures % (2 * KEY_EVERY) == KEY_EVERY; /* every other key frame comes without SPS and PPS: the relay puts them in, one number more */
    unsigned first = key && !bare ? 1 : 0;
    hub->ts += 3600;
    for (unsigned i = 0; i < packets + first; i++) {
        bool last = i == packets + first - 1;
        uint16_t seq = hub->seq[0];
        payload[1] = (uint8_t)((i == first ? 0x80 : 0) | (last ? 0x40 : 0) | (key ? 5 : 1));
        size_t n = first && i == 0 ? sim_hub_packet(hub, 0, false, params, sizeof params, out) : sim_hub_packet(hub, 0, last, payload, last ? 400 : 1100, out);
        struct recorded rec = { .n = n };
        memcpy(rec.p, out, n);
        if (i == 0)
            r->late[r->pictures % KEPT] = rec;
        if (seq == 4711) {
            r->wrap[r->wraps % 2] = rec;
            r->wraps++;
        }
        sim_in(s, &hub->addr, out, n);
        r->sent++;
    }
    r->pictures++;
}

/* What was said before is said again by a stranger: just now, outside of the window, and a whole round of the numbers ago, where only the roll-over count tells. */
static void replay(struct sim *s, const struct sim_peer *hub, struct recorder *r)
{
    const unsigned back[] = { 1, 2, KEPT / 2, KEPT - 1 };
    for (unsigned i = 0; i < PL_COUNT(back); i++) {
        const struct recorded *x = &r->late[(r->pictures - back[i]) % KEPT];
        if (r->pictures < KEPT)
            continue;
        sim_in(s, &hub->addr, x->p, x->n);
        r->again++;
    }
    for (unsigned i = 0; i < 2 && i < r->wraps; i++) {
        sim_in(s, &hub->addr, r->wrap[i].p, r->wrap[i].n);
        r->again++;
    }
}

/* ---- A viewer whose network loses packets, which it asks for again. */

struct loser {
    struct sim_peer v;
    bool started;
    uint16_t next;       /* the number that has not been sent yet */
    uint16_t lost[LOST];
    unsigned lost_n;
    uint64_t ever;
    unsigned across;     /* asked for after the numbers had rolled over since */
};

static void lose(struct sim *s, struct loser *l)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->queued; i++) {
        struct sim_datagram *d = &s->queue[i];
        bool media = ice_addr_eq(&d->to, &l->v.addr) && rtp_classify(d->p, d->n) == RTP_CLASS_RTP && (d->p[1] & 127) == l->v.leg.video.payload_type;
        uint16_t number = (uint16_t)(d->p[2] << 8 | d->p[3]);
        bool fresh = media && (!l->started || (uint16_t)(number - l->next) < 0x8000);
        bool edge = number > 65530 || number < 4; /* a third of those around the roll-over, 5 % of the others */
        bool drop = fresh && l->started && l->lost_n < LOST && pl_rand_below(&s->rand.base, edge ? 3 : 20) == 0;
        if (fresh) {
            l->next = (uint16_t)(number + 1);
            l->started = true;
        }
        if (drop) {
            l->lost[l->lost_n++] = number;
            l->ever++;
            continue;
        }
        if (kept != i)
            s->queue[kept] = *d;
        kept++;
    }
    s->queued = kept;
}

static void ask(struct sim *s, struct loser *l)
{
    if (l->lost_n == 0)
        return;
    l->across += l->lost[0] > 65000 && l->next < 500;
    sim_nack(s, &l->v, l->v.leg.video.ssrc, l->lost, l->lost_n);
    l->lost_n = 0;
}

static void numbers_roll_over_for_35_minutes(void **state)
{
    (void)state;
    enum { SUITES = 2, LOSERS = 2 };
    const char *want = getenv("PL_PACKETS_A_SECOND");
    uint32_t rate = PER_SECOND;
    assert_true(!want || pl_parse_u32(pl_str_of(want), FPS, 100000, &rate) == PL_OK);
    static struct sim s;
    static struct sim_peer hub, v[SUITES];
    static struct loser l[LOSERS];
    static struct recorder r;
    sim_new(&s, 2, 0);
    sim_peer_new(&s, &hub, 1, PL_SRTP_GCM, true);
    assert_int_equal(sim_open(&s, &hub, 1), PL_OK);
    struct relay_cmd longer = { .kind = RELAY_EXTEND, .ref = { s.live_id, 1 }, .expires_in_us = 2 * PL_HOUR };
    assert_int_equal(relay_apply(s.relay, s.now, &longer, &s.sink), PL_OK);
    sim_check(&s, &hub, true);
    for (unsigned i = 0; i < SUITES; i++)
        sim_viewer(&s, &v[i], 2 + i, (enum pl_srtp_suite)i);
    sim_viewer(&s, &l[0].v, 4, PL_SRTP_GCM);
    sim_connected_viewer(&s, &l[1].v, 5, PL_SRTP_GCM, /* rtx= */ true);
    struct sim_peer *alive[] = { &hub, &v[0], &v[1], &l[0].v, &l[1].v };
    for (unsigned no = 0; no < SECONDS * FPS; no++) {
        picture(&s, &hub, &r, no % KEY_EVERY ? rate / FPS : 12, no % KEY_EVERY == 0);
        for (unsigned k = 0; k < 2; k++)
            sim_hub_audio(&s, &hub);
        for (unsigned k = 0; k < STEPS; k++) {
            s.now.us += PL_SECOND / FPS / STEPS;
            relay_pace(s.relay, s.now, &s.sink);
        }
        for (unsigned i = 0; i < LOSERS; i++) {
            lose(&s, &l[i]);
            ask(&s, &l[i]);
        }
        if (no % 50 == 0)
            replay(&s, &hub, &r);
        if (no % FPS == 0) {
            for (unsigned i = 0; i < PL_COUNT(alive); i++)
                sim_check(&s, alive[i], true);
            relay_tick(s.relay, s.now, &s.sink);
        }
        for (unsigned i = 0; i < PL_COUNT(alive); i++)
            sim_deliver(&s, alive[i], &ignore); /* whatever does not verify, or comes twice, fails there */
    }
    sim_settle(&s);
    struct relay_stats st;
    relay_stats(s.relay, &st);
    assert_true(st.not_sent == 0 && st.lost == 0 && st.too_fast == 0 && st.packets_in == r.sent + SECONDS * FPS * 2);
    assert_true(r.again > 1000 && st.replayed + st.unproved == r.again && st.unproved > 0); /* none of it was believed */
    for (unsigned i = 0; i < SUITES; i++) {
        sim_deliver(&s, &v[i], &ignore);
        assert_true(v[i].incomplete == 0 && v[i].frames == SECONDS * FPS && v[i].keys == SECONDS * FPS / KEY_EVERY);
        for (unsigned t = 0; t < 2; t++)
            assert_true(v[i].got[t] > 65536 && v[i].high[t] - v[i].first[t] + 1 == v[i].got[t] && v[i].high[t] / 65536 > v[i].first[t] / 65536);
        sim_peer_free(&v[i]);
    }
    uint64_t asked = 0;
    for (unsigned i = 0; i < LOSERS; i++) { /* each number came once: as it was, or wrapped as RFC 4588 says, whose own numbers rolled over in a long run */
        sim_deliver(&s, &l[i].v, &ignore);
        assert_true(l[i].ever > 500 && l[i].across > 0 && l[i].v.got[0] + l[i].v.rtx == l[i].v.high[0] - l[i].v.first[0] + 1);
        assert_true(i == 1 ? l[i].v.rtx == l[i].ever && (rate < 1000 || l[i].v.rtx > 65536) : l[i].v.rtx == 0);
        asked += l[i].ever;
        sim_peer_free(&l[i].v);
    }
    assert_int_equal(st.resent, asked);
    printf("35 minutes of %u packets a second: %llu packets of video, %llu roll-overs of its numbers, %llu sent again, %llu replayed ones refused.\n", (unsigned)rate,
        (unsigned long long)r.sent, (unsigned long long)(r.sent / 65536), (unsigned long long)st.resent, (unsigned long long)r.again);
    sim_free(&s);
    sim_peer_free(&hub);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(numbers_roll_over_for_35_minutes) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
