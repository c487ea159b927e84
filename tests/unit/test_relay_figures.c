/* What the relay says of itself and of its streams: sender reports, figures of sessions. Rules: V-A4, V-B1, V-E1. */
#include "relay_sim.h"

static size_t ignore;

/* ---- Sender reports. */

enum { HUB_SECOND_NTP = 12345 };

/* A hub of which each packet is `jitter` late at most, sound 48 kHz and picture 90 kHz of one clock. */
struct camera {
    struct sim_peer hub;
    uint32_t video0, audio0; /* timestamps of its start */
    int64_t start, jitter;
};

static void camera_packet(struct sim *s, struct camera *c, unsigned track, int64_t made)
{
    uint8_t out[SIM_PACKET], payload[80] = { 5 };
    static const uint8_t key[] = { 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 3, 0x68, 0xce, 0x3c, 0, 3, 0x65, 0x88, 0x84 };
    int64_t since = made - c->start;
    s->now.us = made + (c->jitter ? (int64_t)pl_rand_below(&s->rand.base, (uint32_t)c->jitter) : 0);
    c->hub.ts = track ? c->audio0 + (uint32_t)(since * 48000 / PL_SECOND) : c->video0 + (uint32_t)(since * 90000 / PL_SECOND);
    size_t n = track ? sim_hub_packet(&c->hub, 1, false, payload, sizeof payload, out) : sim_hub_packet(&c->hub, 0, true, key, sizeof key, out);
    sim_in(s, &c->hub.addr, out, n);
}

static void camera_report(struct sim *s, struct camera *c, unsigned track)
{
    uint8_t out[256];
    struct pl_buf b = pl_buf_fixed(out, sizeof out - PL_SRTP_RTCP_OVERHEAD);
    int64_t since = s->now.us - c->start;
    uint32_t ssrc = track ? c->hub.leg.audio.ssrc : c->hub.leg.video.ssrc, rate = track ? 48000 : 90000;
    uint64_t ntp = (uint64_t)(HUB_SECOND_NTP + since / PL_SECOND) << 32 | ((uint64_t)(since % PL_SECOND) << 32) / PL_SECOND;
    rtcp_put_sr(&b, ssrc, ntp, (track ? c->audio0 : c->video0) + (uint32_t)(since * rate / PL_SECOND), 1, 2, NULL, 0);
    rtcp_put_cname(&b, ssrc, PL_STR("x"));
    size_t n = b.n;
    assert_int_equal(pl_srtp_protect_rtcp(c->hub.media, out, &n, sizeof out), PL_OK);
    sim_in(s, &c->hub.addr, out, n);
}

/* Microseconds of the sender's clock at which the viewer plays what was made at `made`, by its last report of this track. */
static int64_t played_at(const struct sim_peer *v, const struct camera *c, unsigned track, uint32_t offset, int64_t made)
{
    uint32_t rate = track ? 48000 : 90000, ts = (track ? c->audio0 : c->video0) + (uint32_t)((made - c->start) * rate / PL_SECOND) + offset;
    int64_t ntp_us = (int64_t)(v->sr_ntp[track] >> 32) * PL_SECOND + (int64_t)(((v->sr_ntp[track] & 0xffffffff) * PL_SECOND) >> 32);
    return ntp_us + (int64_t)(int32_t)(ts - v->sr_ts[track]) * PL_SECOND / rate;
}

/* Sound and picture fit within 40 ms from the first packet on, without a word of the source's, whatever jitter its way has; its own reports make that exact, in any
 * time of its own, and nothing jumps when they come, stay away or come from a clock that was set. */
static void v_a4_sender_reports_do_not_wait_for_the_source(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 8; seed++) {
        struct sim s;
        struct sim_peer v, *alive[2];
        struct camera c = { .video0 = 0xfffffff0 - seed, .audio0 = 77 + seed * 1000000, .jitter = 30 * PL_MS };
        sim_session(&s, &c.hub, PL_SRTP_GCM);
        c.start = s.now.us;
        uint32_t offset[2] = { 0, 0 };
        bool joined = false;
        int64_t at_before = 0;
        alive[0] = &c.hub;
        alive[1] = &v;
        for (unsigned no = 0; no < 30 * 40; no++) { /* 30 s in steps of 25 ms: a picture and a packet of sound */
            int64_t made = c.start + (int64_t)no * 25 * PL_MS;
            bool reporting = no > 600 && no < 900;
            camera_packet(&s, &c, 0, made);
            if (joined)
                sim_deliver(&s, &v, &ignore);
            offset[0] = v.got[0] && joined ? v.last_ts - c.hub.ts : 0;
            camera_packet(&s, &c, 1, made);
            if (no == 40 + seed) { /* in the middle of the stream */
                sim_viewer(&s, &v, 2, PL_SRTP_GCM);
                joined = true;
                continue;
            }
            if (reporting && no % 40 == 0)
                camera_report(&s, &c, (no / 40) % 2);
            if (no % 40 == 39)
                for (unsigned i = 0; joined && i < 2; i++)
                    sim_check(&s, alive[i], true);
            relay_tick(s.relay, s.now, &s.sink);
            relay_pace(s.relay, s.now, &s.sink);
            sim_deliver(&s, &c.hub, &ignore);
            if (!joined)
                continue;
            for (size_t k = 0; k < s.queued; k++) { /* the offset of sound: of a packet that was just made */
                const struct sim_datagram *d = &s.queue[k];
                if (rtp_classify(d->p, d->n) == RTP_CLASS_RTP && (d->p[1] & 127) == v.leg.audio.payload_type)
                    offset[1] = ((uint32_t)d->p[4] << 24 | (uint32_t)d->p[5] << 16 | (uint32_t)d->p[6] << 8 | d->p[7]) - c.hub.ts;
            }
            sim_deliver(&s, &v, &ignore);
            if (no < 50 + seed)
                continue;
            assert_true(v.sr_ntp[0] != 0 && v.sr_ntp[1] != 0); /* 200 ms after it came at the latest */
            int64_t at = played_at(&v, &c, 0, offset[0], made), skew = played_at(&v, &c, 1, offset[1], made) - at;
            if (skew > 40 * PL_MS || skew < -40 * PL_MS || (no > 700 && no < 900 && (skew > PL_MS || skew < -PL_MS)))
                fail_msg("seed %u, step %u: sound is %lld us off", seed, no, (long long)skew);
            int64_t jump = at - at_before - 25 * PL_MS;
            if (at_before && (jump > 40 * PL_MS || jump < -40 * PL_MS))
                fail_msg("seed %u, step %u: the picture jumps by %lld us", seed, no, (long long)jump);
            at_before = at;
        }
        sim_done(&s, &c.hub, &v, NULL);
    }
}

/* ---- Freezes. */

static struct relay_session_stats figures(struct sim *s)
{
    struct relay_session_stats st;
    assert_true(relay_session_stats(s->relay, s->now, 0, &st));
    return st;
}

/* Pictures 40 ms apart for so long, both sides alive. */
static void play(struct sim *s, struct sim_peer *hub, struct sim_peer *v, unsigned pictures)
{
    struct sim_peer *alive[] = { hub, v };
    for (unsigned i = 0; i < pictures; i++) {
        sim_hub_frame(s, hub, false, false, 3, -1);
        sim_pass(s, 40 * PL_MS, alive, 2);
        sim_deliver(s, v, &ignore);
        sim_deliver(s, hub, &ignore);
    }
}

/* WebRTC's definition: an interval of at least three times the mean, and of the mean and 150 ms. The source's and the viewer's are told apart. */
static void v_e1_freezes_are_counted_where_they_happen(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, *alive[] = { &hub, &v };
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 3, -1);
    sim_pass(&s, 40 * PL_MS, alive, 2);
    play(&s, &hub, &v, 50);
    sim_pass(&s, 140 * PL_MS, alive, 2); /* 180 ms from picture to picture: a hitch, no freeze */
    play(&s, &hub, &v, 25);
    struct relay_session_stats st = figures(&s);
    assert_true(st.freezes.count == 0 && st.viewers[0].freezes.count == 0 && st.freezes.us == 0);
    sim_pass(&s, 960 * PL_MS, alive, 2); /* the hub is silent: a second without a picture, at both */
    play(&s, &hub, &v, 25);
    st = figures(&s);
    assert_true(st.freezes.count == 1 && st.viewers[0].freezes.count == 1);
    assert_true(st.freezes.us == (uint64_t)PL_SECOND && st.viewers[0].freezes.us == (uint64_t)PL_SECOND);
    sim_rtcp(&s, &v, true, false); /* the viewer cannot go on without a key frame, which comes after 20 pictures */
    play(&s, &hub, &v, 20);
    sim_hub_frame(&s, &hub, true, false, 3, -1);
    sim_pass(&s, 40 * PL_MS, alive, 2);
    play(&s, &hub, &v, 25);
    st = figures(&s);
    assert_true(st.freezes.count == 1 && st.viewers[0].freezes.count == 2);
    assert_true(st.viewers[0].freezes.us == (uint64_t)PL_SECOND + 21 * 40 * PL_MS);
    for (unsigned i = 0; i < 10; i++) { /* pictures with a hole come from the source: those are none */
        sim_hub_frame(&s, &hub, false, false, 3, 1);
        sim_pass(&s, 40 * PL_MS, alive, 2);
    }
    sim_hub_frame(&s, &hub, false, false, 3, -1);
    assert_int_equal(figures(&s).freezes.count, 2);
    sim_settle(&s);
    struct relay_stats all;
    relay_stats(s.relay, &all);
    assert_true(all.freezes_in == 2 && all.freezes_out == figures(&s).viewers[0].freezes.count);
    sim_done(&s, &hub, &v, NULL);
}

/* What goes at once was held back by nobody; of a frame of 60 packets 24 go at once and the rest follows in steps of 5 ms. What is replayed does not count. */
static void v_b1_the_pacers_wait_is_a_histogram(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, late;
    struct relay_stats st;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 10, -1);
    relay_stats(s.relay, &st);
    assert_int_equal(st.paced[0], 11);
    sim_pass(&s, 40 * PL_MS, NULL, 0);
    sim_hub_frame(&s, &hub, false, false, 60, -1);
    sim_settle(&s);
    relay_stats(s.relay, &st);
    uint64_t all = 0;
    for (unsigned i = 0; i < RELAY_WAITS; i++)
        all += st.paced[i];
    assert_true(all == 71 && st.paced[0] >= 11 + 24 && st.paced[1] > 0 && st.paced[2] > 0);
    sim_pass(&s, 200 * PL_MS, NULL, 0);
    sim_viewer(&s, &late, 3, PL_SRTP_GCM);
    sim_settle(&s);
    sim_deliver(&s, &late, &ignore);
    assert_true(late.got[0] == 71);
    relay_stats(s.relay, &st);
    assert_int_equal(st.paced[RELAY_WAITS - 1], 0);
    sim_done(&s, &hub, &v, &late);
}

/* ---- Transport-wide feedback. */

enum { CC = 64 };
struct cc_viewer { /* what came to it, by transport-wide number */
    uint16_t first;
    unsigned n;
    bool came[CC];
    int64_t at[CC];
};

/* Takes what the relay has sent; each packet is `way` on its way, and those of `lost` never come. */
static void cc_deliver(struct sim *s, struct sim_peer *v, struct cc_viewer *c, int64_t way, uint64_t lost)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->queued; i++) {
        struct sim_datagram *d = &s->queue[i];
        bool media = ice_addr_eq(&d->to, &v->addr) && rtp_classify(d->p, d->n) == RTP_CLASS_RTP;
        if (!media) {
            s->queue[kept++] = *d;
            continue;
        }
        assert_true(c->n < CC && d->p[12] == 0xbe); /* the extension stands in clear, and in it the number */
        uint16_t number = (uint16_t)(d->p[17] << 8 | d->p[18]);
        c->first = c->n ? c->first : number;
        assert_int_equal(number, (uint16_t)(c->first + c->n));
        c->came[c->n] = !(lost >> c->n & 1);
        c->at[c->n++] = s->now.us + way;
    }
    s->queued = kept;
}

static void cc_feedback(struct sim *s, struct sim_peer *v, const struct cc_viewer *c)
{
    uint8_t out[600], body[400];
    struct pl_buf b = pl_buf_fixed(body, sizeof body);
    int64_t at = 64000 * (c->at[0] / 64000 - 1), reference = at / 64000; /* the phone's clock, minus what 24 bits do not hold */
    pl_buf_u16(&b, c->first);
    pl_buf_u16(&b, (uint16_t)c->n);
    pl_buf_u32(&b, (uint32_t)reference << 8 | 1);
    for (unsigned i = 0; i < c->n; i += 7) {
        uint16_t chunk = 0xc000;
        for (unsigned k = 0; k < 7 && i + k < c->n; k++)
            chunk |= (uint16_t)((c->came[i + k] ? 2 : 0) << (6 - k) * 2);
        pl_buf_u16(&b, chunk);
    }
    for (unsigned i = 0; i < c->n; i++)
        if (c->came[i]) {
            int64_t step = (c->at[i] - at) / 250;
            pl_buf_u16(&b, (uint16_t)step);
            at += step * 250;
        }
    while (b.n % 4)
        pl_buf_u8(&b, 0);
    assert_int_equal(pl_buf_err(&b), PL_OK);
    struct pl_buf p = pl_buf_fixed(out, sizeof out - PL_SRTP_RTCP_OVERHEAD);
    rtcp_put_rr(&p, 0xabc, NULL, 0);
    rtcp_put_cname(&p, 0xabc, PL_STR("x"));
    pl_buf_u8(&p, 0x80 | 15);
    pl_buf_u8(&p, 205);
    pl_buf_u16(&p, (uint16_t)(2 + b.n / 4));
    pl_buf_u32(&p, 0xabc);
    pl_buf_u32(&p, v->leg.video.ssrc);
    pl_buf_add(&p, body, b.n);
    size_t n = p.n;
    assert_true(pl_buf_err(&p) == PL_OK && pl_srtp_protect_rtcp(v->back, out, &n, sizeof out) == PL_OK);
    sim_in(s, &v->addr, out, n);
}

/* What did not come is counted once, and no more when it comes late; the queue is what is longer than the quickest way, whatever the phone's clock says; a feedback that
 * comes twice, or speaks of what never went out, changes nothing. */
static void v_e2_transport_wide_feedback_is_heard(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    struct cc_viewer c = { 0 };
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_connected_viewer(&s, &v, 2, PL_SRTP_GCM, true);
    sim_hub_frame(&s, &hub, true, false, 8, -1);
    cc_deliver(&s, &v, &c, 20 * PL_MS + 77 * PL_SECOND, 1 << 3 | 1 << 5);
    s.now.us += 100 * PL_MS;
    (void)figures(&s);
    cc_feedback(&s, &v, &c);
    s.now.us += PL_SECOND;
    struct relay_session_stats st = figures(&s);
    assert_true(st.viewers[0].cc_lost == 2 && st.viewers[0].queue_us == 0 && st.viewers[0].cc_bitrate > 7 * 8 * 700 && st.viewers[0].cc_bitrate < 7 * 8 * 1200);
    cc_feedback(&s, &v, &c);
    c.came[3] = true; /* late, and so not first */
    c.at[3] = c.at[8];
    cc_feedback(&s, &v, &c);
    assert_int_equal(figures(&s).viewers[0].cc_lost, 1);
    int64_t queue = 0;
    for (unsigned i = 0; i < 30; i++) { /* from now on 100 ms more on the way */
        c.n = 0;
        sim_hub_frame(&s, &hub, false, false, 3, -1);
        cc_deliver(&s, &v, &c, 120 * PL_MS + 77 * PL_SECOND, 0);
        s.now.us += 33 * PL_MS;
        cc_feedback(&s, &v, &c);
        int64_t now = figures(&s).viewers[0].queue_us;
        assert_true(now >= queue);
        queue = now;
    }
    assert_true(queue > 95 * PL_MS && queue <= 100 * PL_MS);
    c.first = (uint16_t)(c.first + 5000);
    memset(c.came, 0, sizeof c.came);
    c.came[0] = true;
    cc_feedback(&s, &v, &c);
    assert_true(figures(&s).viewers[0].cc_lost == 1 && figures(&s).viewers[0].queue_us == queue);
    sim_done(&s, &hub, &v, NULL);
}

static void sender_reports_carry_the_viewers_time(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 2, -1);
    sim_rtcp(&s, &hub, false, true);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_deliver(&s, &v, &ignore);
    assert_int_equal(v.srs, 1); /* at once: the last one of the source, in the viewer's numbers */
    assert_int_equal(v.sr_ts[0], v.last_ts);
    s.now.us += 200 * PL_MS;
    sim_hub_frame(&s, &hub, false, false, 2, -1);
    for (int i = 0; i < 50; i++) /* a source that floods has one of them heard */
        sim_rtcp(&s, &hub, false, true);
    sim_deliver(&s, &v, &ignore);
    assert_int_equal(v.srs, 2);
    assert_int_equal(v.sr_ts[0], v.last_ts);
    sim_done(&s, &hub, &v, NULL);
}

/* What a viewer's reports say, and what was sent to it, is kept for who asks: round trip from our SR, loss, jitter, requests, REMB. */
static void figures_of_a_viewer(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    struct relay_session_stats st;
    sim_session(&s, &hub, PL_SRTP_GCM);
    assert_false(relay_session_stats(s.relay, s.now, 0, &st)); /* nobody watches */
    sim_connected_viewer(&s, &v, 2, PL_SRTP_GCM, true);
    sim_hub_frame(&s, &hub, true, false, 6, 3);
    sim_rtcp(&s, &hub, false, true);
    sim_deliver(&s, &v, &ignore);
    assert_true(relay_session_stats(s.relay, s.now, 0, &st) && st.viewers_n == 1 && st.lost == 1 && st.packets == 6);
    assert_true(st.viewers[0].rtt_us == 0 && st.viewers[0].packets == 6);
    assert_string_equal(st.viewers[0].id, v.id);
    s.now.us += 150 * PL_MS;
    uint8_t out[400];
    struct pl_buf b = pl_buf_fixed(out, sizeof out - PL_SRTP_RTCP_OVERHEAD);
    struct rtcp_block block = { .ssrc = v.leg.video.ssrc, .fraction_lost = 26, .lost = 12, .jitter = 900, .last_sr = (uint32_t)(v.sr_ntp[0] >> 16), .delay_last_sr = 65536 / 10 };
    rtcp_put_rr(&b, 0xabc, &block, 1);
    rtcp_put_remb(&b, 0xabc, v.leg.video.ssrc, 2500000);
    rtcp_put_pli(&b, 0xabc, v.leg.video.ssrc);
    size_t n = b.n;
    assert_int_equal(pl_srtp_protect_rtcp(v.back, out, &n, sizeof out), PL_OK);
    sim_in(&s, &v.addr, out, n);
    sim_hub_frame(&s, &hub, false, false, 6, -1);
    sim_settle(&s);
    assert_true(relay_session_stats(s.relay, s.now, 0, &st));
    const struct relay_viewer_stats *w = &st.viewers[0];
    assert_true(w->lost == 12 && w->fraction_lost == 26 && w->jitter_us == 10000 && w->key_asked == 1 && w->packets == 12 && w->bitrate > 0 && !w->paused);
    assert_true(w->remb_bps > 2490000 && w->remb_bps <= 2500000);
    assert_true(w->rtt_us >= 49 * PL_MS && w->rtt_us <= 51 * PL_MS);
    sim_done(&s, &hub, &v, NULL);
}

/* A viewer's report names the last of our sender reports that had come to it, which on a slow way is one of several that are under way: the slowest are told as well. */
static void v_e1_the_round_trip_of_a_viewer_is_told_however_long_it_is(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, *alive[] = { &hub, &v };
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 6, -1);
    static const struct { int64_t us; uint32_t kept; int64_t want; } ways[] = { { 30 * PL_MS, 0, 30 * PL_MS }, { 300 * PL_MS, 0, 300 * PL_MS }, { 1200 * PL_MS, 0, 1200 * PL_MS },
        { 9 * PL_SECOND, 65536 / 2, 8500 * PL_MS }, { 100 * PL_MS, 65536, 8500 * PL_MS } }; /* what was kept longer than it has been under way says nothing */
    for (size_t i = 0; i < PL_COUNT(ways); i++) {
        sim_pass(&s, PL_SECOND, alive, 2);
        sim_rtcp(&s, &hub, false, i > 1); /* with reports of the source or without */
        sim_deliver(&s, &v, &ignore);
        struct rtcp_block block = { .ssrc = v.leg.video.ssrc, .last_sr = (uint32_t)(v.sr_ntp[0] >> 16), .delay_last_sr = ways[i].kept };
        uint64_t sent = v.sr_ntp[0];
        uint8_t out[200];
        struct pl_buf b = pl_buf_fixed(out, sizeof out - PL_SRTP_RTCP_OVERHEAD);
        sim_pass(&s, ways[i].us - (s.now.us - (int64_t)(sent >> 32) * PL_SECOND - (int64_t)((sent & UINT32_MAX) * 1000000 >> 32)), alive, 2);
        rtcp_put_rr(&b, 0xabc, &block, 1);
        size_t n = b.n;
        assert_int_equal(pl_srtp_protect_rtcp(v.back, out, &n, sizeof out), PL_OK);
        sim_in(&s, &v.addr, out, n);
        int64_t rtt = figures(&s).viewers[0].rtt_us;
        if (rtt < ways[i].want - 6 * PL_MS || rtt > ways[i].want + 6 * PL_MS)
            fail_msg("way %zu: %lld us", i, (long long)rtt);
    }
    sim_done(&s, &hub, &v, NULL);
}

/* The round trip to the source: our own time comes back, less what the source kept it; what names somebody else, or cannot be, says nothing. */
static void figures_of_a_source(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v, *alive[] = { &hub, &v };
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_viewer(&s, &v, 2, PL_SRTP_GCM);
    sim_hub_frame(&s, &hub, true, false, 6, -1);
    sim_pass(&s, 1500 * PL_MS, alive, 2);
    sim_deliver(&s, &hub, &ignore);
    assert_true(hub.told_ntp != 0 && hub.told_ssrc == hub.leg.talk.ssrc && figures(&s).rtt_us == 0);
    static const struct { uint32_t ssrc_off; int64_t us; uint32_t kept; int64_t least, most; } backs[] = { { 1, 150 * PL_MS, 6554, 0, 0 },
        { 0, 0, 6554, 49 * PL_MS, 51 * PL_MS }, { 0, 30 * PL_MS, 6554, 79 * PL_MS, 81 * PL_MS }, { 0, 0, 65536 * 9, 79 * PL_MS, 81 * PL_MS } };
    uint32_t told = (uint32_t)(hub.told_ntp >> 16);
    s.now.us = (int64_t)(hub.told_ntp >> 32) * PL_SECOND + (int64_t)((hub.told_ntp & UINT32_MAX) * 1000000 >> 32); /* when it was said */
    for (size_t i = 0; i < PL_COUNT(backs); i++) {
        uint8_t out[200];
        struct pl_buf b = pl_buf_fixed(out, sizeof out - PL_SRTP_RTCP_OVERHEAD);
        s.now.us += backs[i].us;
        rtcp_put_rr(&b, hub.leg.video.ssrc, NULL, 0);
        rtcp_put_xr_dlrr(&b, hub.leg.video.ssrc, &(struct rtcp_dlrr){ .ssrc = hub.told_ssrc + backs[i].ssrc_off, .last_rr = told, .delay_rr = backs[i].kept });
        size_t n = b.n;
        assert_int_equal(pl_srtp_protect_rtcp(hub.media, out, &n, sizeof out), PL_OK);
        sim_in(&s, &hub.addr, out, n);
        int64_t rtt = figures(&s).rtt_us;
        if (rtt < backs[i].least || rtt > backs[i].most)
            fail_msg("answer %zu: %lld us", i, (long long)rtt);
    }
    sim_done(&s, &hub, &v, NULL);
}

/* Whatever a viewer puts into its compounds, a bounded part of it is looked at: of NACKs 1,024 numbers in 100 ms, ... */
static void v_e1_what_a_viewer_may_ask_for_is_bounded(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    static uint16_t all[4000];
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_connected_viewer(&s, &v, 2, PL_SRTP_GCM, true);
    sim_hub_frame(&s, &hub, true, false, 6, -1);
    sim_deliver(&s, &v, &ignore);
    for (unsigned i = 0; i < PL_COUNT(all); i++)
        all[i] = (uint16_t)(v.high[0] + i - 2); /* the first ones are there, and get through */
    s.now.us += PL_SECOND;
    sim_nack(&s, &v, v.leg.video.ssrc, all, PL_COUNT(all)); /* one compound */
    assert_int_equal(figures(&s).viewers[0].asked, 1024);
    assert_int_equal(figures(&s).viewers[0].resent, 3);
    s.now.us += 99 * PL_MS;
    sim_nack(&s, &v, v.leg.video.ssrc, all, 3); /* another one, too soon */
    assert_int_equal(figures(&s).viewers[0].asked, 1024);
    s.now.us += PL_MS;
    sim_nack(&s, &v, v.leg.video.ssrc, all, 3);
    assert_int_equal(figures(&s).viewers[0].asked, 1027);
    assert_int_equal(figures(&s).viewers[0].resent, 6);
    for (unsigned i = 0; i < 1000; i++) { /* a second of nothing else */
        s.now.us += PL_MS;
        sim_nack(&s, &v, v.leg.video.ssrc, all, PL_COUNT(all));
        sim_deliver(&s, &v, &ignore);
    }
    assert_true(figures(&s).viewers[0].asked <= 1027 + 11 * 1024);
    sim_done(&s, &hub, &v, NULL);
}

/* A feedback that tells of `n` numbers from `first` on that none of them came. */
static void cc_nothing_came(struct sim *s, struct sim_peer *v, uint16_t first, uint16_t n)
{
    uint8_t out[100];
    struct pl_buf p = pl_buf_fixed(out, sizeof out - PL_SRTP_RTCP_OVERHEAD);
    rtcp_put_rr(&p, 0xabc, NULL, 0);
    pl_buf_u32(&p, (0x80u | 15) << 24 | 205u << 16 | 5);
    pl_buf_u32(&p, 0xabc);
    pl_buf_u32(&p, v->leg.video.ssrc);
    pl_buf_u16(&p, first);
    pl_buf_u16(&p, n);
    pl_buf_u32(&p, 1 << 8 | 1);
    pl_buf_u32(&p, (uint32_t)n << 16); /* a run of one symbol, and padding */
    size_t size = p.n;
    assert_true(pl_buf_err(&p) == PL_OK && pl_srtp_protect_rtcp(v->back, out, &size, sizeof out) == PL_OK);
    sim_in(s, &v->addr, out, size);
}

/* ... and of transport-wide feedback 1,024 numbers in 10 ms, at once or bit by bit. */
static void v_e2_what_a_viewer_may_tell_is_bounded(void **state)
{
    (void)state;
    struct sim s;
    struct sim_peer hub, v;
    struct cc_viewer c = { 0 };
    sim_session(&s, &hub, PL_SRTP_GCM);
    sim_connected_viewer(&s, &v, 2, PL_SRTP_GCM, true);
    sim_hub_frame(&s, &hub, true, false, 8, -1);
    cc_deliver(&s, &v, &c, 20 * PL_MS, 0);
    s.now.us += PL_SECOND;
    cc_nothing_came(&s, &v, c.first, 1025);
    assert_int_equal(figures(&s).viewers[0].cc_lost, 0);
    cc_nothing_came(&s, &v, (uint16_t)(c.first + 5000), 600);
    cc_nothing_came(&s, &v, (uint16_t)(c.first + 5000), 421);
    cc_nothing_came(&s, &v, c.first, 4); /* three are left */
    assert_int_equal(figures(&s).viewers[0].cc_lost, 0);
    cc_nothing_came(&s, &v, c.first, 3);
    assert_int_equal(figures(&s).viewers[0].cc_lost, 3);
    s.now.us += 9 * PL_MS;
    cc_nothing_came(&s, &v, c.first, 4);
    assert_int_equal(figures(&s).viewers[0].cc_lost, 3);
    s.now.us += PL_MS;
    cc_nothing_came(&s, &v, c.first, 4);
    assert_int_equal(figures(&s).viewers[0].cc_lost, 4);
    sim_done(&s, &hub, &v, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sender_reports_carry_the_viewers_time),
        cmocka_unit_test(figures_of_a_viewer),
        cmocka_unit_test(v_e1_the_round_trip_of_a_viewer_is_told_however_long_it_is),
        cmocka_unit_test(figures_of_a_source),
        cmocka_unit_test(v_a4_sender_reports_do_not_wait_for_the_source),
        cmocka_unit_test(v_e1_freezes_are_counted_where_they_happen),
        cmocka_unit_test(v_b1_the_pacers_wait_is_a_histogram),
        cmocka_unit_test(v_e2_transport_wide_feedback_is_heard),
        cmocka_unit_test(v_e1_what_a_viewer_may_ask_for_is_bounded),
        cmocka_unit_test(v_e2_what_a_viewer_may_tell_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
