/* RTCP between the relay and its viewers: what they ask for, what they say, and the reports that they get. */
#include "relay_private.h"
#include "rtcp.h"

/* ---- Sent again (V-E1): what the viewer's own network lost, out of the ring, through the piece that it went out by. */

/* The out number that `seq` stands for, below the next one. False: so far back that nothing is kept. */
static bool number_of(const struct relay_out *o, uint16_t seq, uint64_t *ret)
{
    uint64_t back = (uint16_t)((uint16_t)o->next - seq);
    if (back == 0 || back > o->next || back > RELAY_RING_ENTRIES)
        return false;
    *ret = o->next - back;
    return true;
}

static const struct relay_piece *piece_by_number(const struct relay_out *o, uint64_t number, uint64_t *ret_seq)
{
    unsigned kept = o->pieces_n < RELAY_PIECES ? o->pieces_n : RELAY_PIECES;
    for (unsigned i = 0; i < kept; i++) {
        const struct relay_piece *p = &o->pieces[(o->pieces_n - 1 - i) % RELAY_PIECES];
        uint64_t end = p->until == UINT64_MAX ? o->sent_high : p->until;
        if (number < p->base || number - p->base >= end - p->from)
            continue;
        *ret_seq = p->from + (number - p->base);
        return p;
    }
    return NULL;
}

/* Once per 20 ms and packet, and all together no more than the viewer's rate has room for. */
static bool may_resend(struct relay_viewer *v, struct pl_mono now, uint64_t number)
{
    struct relay_resend *d = &v->resend;
    uint64_t rate = v->end.session->rate / 2 > RELAY_PACE_LEAST / 4 ? v->end.session->rate / 2 : RELAY_PACE_LEAST / 4;
    int64_t since = pl_mono_sub(now, d->filled), more = since > PL_SECOND ? RELAY_RESEND_BURST : (int64_t)(rate * (uint64_t)since / PL_SECOND);
    d->filled = now;
    d->credit = d->credit + more > RELAY_RESEND_BURST ? RELAY_RESEND_BURST : d->credit + more;
    unsigned kept = d->last_n < RELAY_RESENT ? d->last_n : RELAY_RESENT;
    for (unsigned i = 0; i < kept; i++)
        if (d->last[i].number == number && pl_mono_sub(now, d->last[i].at) < RELAY_RESEND_AGAIN)
            return false;
    return d->credit > 0;
}

/* The packet of this source number again, if it is there yet and the viewer's share has room. */
static void resend(struct relay *r, struct relay_viewer *v, struct pl_mono now, unsigned track, const struct relay_piece *piece, uint64_t seq)
{
    struct relay_resend *d = &v->resend;
    bool rtx = d->ssrc && track == RELAY_VIDEO;
    const struct relay_entry *e = piece ? relay_ring_find(&v->end.session->ring, track, seq) : NULL;
    uint64_t number = piece ? piece->base + (seq - piece->from) : 0;
    bool near = v->out[track].next - number <= RELAY_RING_ENTRIES; /* else its 16 bits could mean another packet, here and there (S-M6) */
    if (!e || !near || (!rtx && v->ext) || !may_resend(v, now, number)) {
        d->refused++;
        return;
    }
    uint8_t *p = relay_out_room(r, &v->end.addr, RELAY_PACKET_MAX + PL_SRTP_RTP_OVERHEAD);
    size_t n = relay_viewer_head(v, now, e, piece, rtx, p), cap = n + e->n + PL_SRTP_RTP_OVERHEAD;
    memcpy(p + n, relay_ring_payload(&v->end.session->ring, e), e->n);
    n += e->n;
    enum pl_err err = rtx ? pl_srtp_protect_rtp(v->end.out, p, &n, cap) : pl_srtp_protect_rtp_again(v->end.out, p, &n, cap);
    if (err != PL_OK) {
        d->refused++;
        return;
    }
    relay_out_took(r, n);
    d->last[d->last_n % RELAY_RESENT].number = number;
    d->last[d->last_n++ % RELAY_RESENT].at = now;
    int64_t cost = n > RELAY_COST ? (int64_t)n : RELAY_COST;
    d->credit -= cost;
    v->credit -= cost;
    d->sent++;
    r->stats.resent++;
    r->stats.bytes_out += n;
}

static void on_asked(struct relay *r, struct relay_viewer *v, struct pl_mono now, unsigned track, uint16_t number16)
{
    uint64_t number, seq = 0;
    const struct relay_piece *piece = number_of(&v->out[track], number16, &number) ? piece_by_number(&v->out[track], number, &seq) : NULL;
    v->resend.asked++;
    resend(r, v, now, track, piece, seq);
}

static int track_of(const struct relay_viewer *v, uint32_t ssrc)
{
    for (int t = 0; t < RELAY_TRACKS; t++)
        if (v->out[t].conf.ssrc && v->out[t].conf.ssrc == ssrc)
            return t;
    return -1;
}

/* A datagram has room for 6,000 numbers, each of which costs a search: what is beyond the viewer's share is not even counted. */
static bool may_ask(struct relay_resend *d, struct pl_mono now)
{
    if (pl_mono_sub(now, d->asks_at) >= RELAY_ASKS_EVERY) {
        d->asks_at = now;
        d->asks = 0;
    }
    return d->asks++ < RELAY_ASKS;
}

static void on_nack(struct relay *r, struct relay_viewer *v, struct pl_mono now, const struct rtcp_item *it)
{
    int track = track_of(v, it->media_ssrc);
    bool may = track >= 0 && v->end.connected && !v->paused;
    for (unsigned i = 0; may && i < it->count; i++) {
        uint16_t seq, mask;
        rtcp_nack_at(it, i, &seq, &mask);
        for (unsigned bit = 0; may && bit <= 16; bit++)
            if (bit == 0 || mask >> (bit - 1) & 1)
                if ((may = may_ask(&v->resend, now)))
                    on_asked(r, v, now, (unsigned)track, (uint16_t)(seq + bit));
    }
    relay_out_flush(r);
}

/* Where the key frame ends that the viewer started at; 0: it is not out yet. */
static uint64_t start_ends(const struct relay_viewer *v)
{
    for (uint64_t seq = v->key_from; seq < v->out[RELAY_VIDEO].sent_high; seq++) {
        const struct relay_entry *e = relay_ring_find(&v->end.session->ring, RELAY_VIDEO, seq);
        if (e && e->timestamp != v->key_timestamp)
            return seq;
        if (e && e->marker)
            return seq + 1;
    }
    return 0;
}

/* V-A1: who lost the first packets of all, or could not read them yet because the end of the handshake was lost, does not know that there were any. It cannot name them and asks for a key
 * frame, and V-A5 lets nobody ask the source so soon: the beginning of the one that it started at comes again, as much as the shortest queue holds (V-E4). What is missing behind that it can
 * name. Nothing comes again while it is on its way, nor once a newer key frame has begun. */
static void start_again(struct relay *r, struct relay_viewer *v, struct pl_mono now)
{
    if (!v->end.connected || v->paused || pl_mono_sub(now, v->key_again_at) < RELAY_START_LOST || pl_mono_sub(now, v->key_at) > RELAY_KEY_EVERY)
        return;
    const struct relay_piece *piece = relay_piece_of(&v->out[RELAY_VIDEO], v->key_from);
    uint64_t end = start_ends(v);
    int64_t before = v->credit;
    v->key_again_at = now;
    for (uint64_t seq = v->key_from; piece && seq < end && before - v->credit < RELAY_BURST; seq++)
        resend(r, v, now, RELAY_VIDEO, piece, seq);
    relay_out_flush(r);
}

/* ---- What its reports say. */

static void on_report(struct relay_viewer *v, struct pl_mono now, const struct rtcp_item *it)
{
    for (unsigned i = 0; i < it->count; i++) {
        struct rtcp_block b = rtcp_block_at(it, i);
        int track = track_of(v, b.ssrc);
        if (track < 0)
            continue;
        struct relay_out *o = &v->out[track];
        o->heard.fraction_lost = b.fraction_lost;
        o->heard.lost = b.lost;
        o->heard.jitter = b.jitter;
        int64_t rtt = o->sr_sent && b.last_sr ? rtcp_rtt_us((uint32_t)(relay_ntp(now) >> 16), b.last_sr, b.delay_last_sr) : 0;
        o->heard.rtt_us = rtt ? rtt : o->heard.rtt_us;
    }
}

void relay_viewer_rtcp(struct relay *r, struct relay_viewer *v, struct pl_mono now, const uint8_t *p, size_t n)
{
    struct pl_rd rd = pl_rd_of(p, n);
    struct rtcp_item it;
    while (rtcp_next(&rd, &it) == PL_OK && it.type != RTCP_END) {
        switch (it.type) {
        case RTCP_PLI:
        case RTCP_FIR:
            if (it.media_ssrc == v->out[RELAY_VIDEO].conf.ssrc) {
                v->key_asked++;
                v->broken = true;
                relay_want_key(v->end.session);
                start_again(r, v, now);
            }
            break;
        case RTCP_NACK: on_nack(r, v, now, &it); break;
        case RTCP_SR:
        case RTCP_RR: on_report(v, now, &it); break;
        case RTCP_REMB: v->remb_bps = it.remb_bps; break;
        case RTCP_TRANSPORT_CC:
            if (v->cc)
                relay_cc_heard(v->cc, now, &it);
            break;
        case RTCP_END:
        case RTCP_SDES:
        case RTCP_BYE:
        case RTCP_APP:
        case RTCP_XR:
        case RTCP_OTHER: break;
        }
    }
}

/* ---- Sender reports (V-A4). Viewers are told everything in the relay's own time: what the source reports is moved there, and until it has reported, a
 * timestamp's time is when it came, by the packet that was the least on its way. So sound and picture fit before the first report and do not jump with it. */

uint64_t relay_ntp(struct pl_mono t) { return (uint64_t)(t.us / PL_SECOND) << 32 | ((uint64_t)(t.us % PL_SECOND) << 32) / PL_SECOND; }

/* How much later than `a` a packet came, in proportion to its timestamp. */
static int64_t later(const struct relay_arrival *a, const struct relay_arrival *b, uint32_t clock)
{
    return pl_mono_sub(b->at, a->at) - (int64_t)(int32_t)(b->timestamp - a->timestamp) * PL_SECOND / clock;
}

static struct pl_mono time_of(const struct relay_track *t, uint32_t timestamp, uint32_t clock)
{
    const struct relay_arrival *a = later(&t->soonest_before, &t->soonest, clock) < 0 ? &t->soonest : &t->soonest_before;
    return pl_mono_add(a->at, (int64_t)(int32_t)(timestamp - a->timestamp) * PL_SECOND / clock);
}

void relay_map_arrived(struct relay_track *t, struct pl_mono now, uint32_t timestamp, uint32_t clock)
{
    const struct relay_arrival a = { timestamp, now };
    int64_t late = t->arrived ? later(&t->soonest, &a, clock) : 0;
    if (!t->arrived || late > RELAY_MAP_LOST || late < -RELAY_MAP_LOST) {
        t->arrived = true;
        t->soonest_before = a;
        t->map_at = now;
    } else if (pl_mono_sub(now, t->map_at) >= RELAY_MAP_EVERY) {
        t->soonest_before = t->soonest;
        t->map_at = now;
    } else if (late > 0) {
        return;
    }
    t->soonest = a;
}

void relay_map_reported(struct relay_session *s, struct pl_mono now, unsigned track, uint64_t ntp, uint32_t timestamp)
{
    const struct relay_track *t = &s->tracks[track];
    uint64_t ours = relay_ntp(t->arrived ? time_of(t, timestamp, relay_clock_of(s, track)) : now);
    int64_t off = (int64_t)(ntp + s->ntp_shift - ours) / ((int64_t)1 << 16); /* 65536ths of a second */
    if (s->ntp_known && off < RELAY_MAP_LOST * 65536 / PL_SECOND && off > -RELAY_MAP_LOST * 65536 / PL_SECOND)
        return;
    if (s->ntp_known) /* its clock was set: what the other track reported before belongs to the time before */
        s->tracks[1 - track].has_sr = false;
    s->ntp_known = true;
    s->ntp_shift = ours - ntp;
}

/* What timestamp is now: the source's last report carried on, else the arrivals. An SR says the time at which it goes out, so that the time comes back in a
 * viewer's report and tells the round trip, however long that is and whichever of our reports it names (RFC 3550, 6.4.1). */
static uint32_t timestamp_at(const struct relay_session *s, struct pl_mono now, unsigned track)
{
    const struct relay_track *t = &s->tracks[track];
    uint32_t clock = relay_clock_of(s, track);
    if (!t->has_sr)
        return t->soonest.timestamp + (uint32_t)(pl_mono_sub(now, time_of(t, t->soonest.timestamp, clock)) * (int64_t)clock / PL_SECOND);
    int64_t since = (int64_t)(relay_ntp(now) - t->sr_ntp - s->ntp_shift) / 256; /* 2^-24 s; a source may say what it likes, so that the product wraps */
    return t->sr_timestamp + (uint32_t)(((uint64_t)since * clock + (1 << 23)) >> 24);
}

void relay_viewer_sr(struct relay *r, struct relay_viewer *v, struct pl_mono now, unsigned track)
{
    struct relay_out *o = &v->out[track];
    if (!v->end.connected || v->paused || o->packets == 0)
        return;
    uint8_t p[128];
    struct pl_buf b = pl_buf_fixed(p, sizeof p - PL_SRTP_RTCP_OVERHEAD);
    rtcp_put_sr(&b, o->conf.ssrc, relay_ntp(now), timestamp_at(v->end.session, now, track) + o->ts_offset, (uint32_t)o->packets, (uint32_t)o->bytes, NULL, 0);
    rtcp_put_cname(&b, o->conf.ssrc, PL_STR("camera")); /* one name for sound and picture: they belong together */
    size_t n = b.n;
    if (pl_buf_err(&b) != PL_OK || pl_srtp_protect_rtcp(v->end.out, p, &n, sizeof p) != PL_OK)
        return;
    o->sr_sent = true;
    o->sr_at = now;
    relay_out_one(r, &v->end.addr, p, n);
}

unsigned relay_viewer_report(struct relay *r, struct relay_viewer *v, struct pl_mono now)
{
    unsigned n = 0;
    for (unsigned t = 0; t < RELAY_TRACKS; t++)
        if (v->end.connected && !v->paused && v->out[t].sr_sent && pl_mono_sub(now, v->out[t].sr_at) >= RELAY_REPORT_EVERY) {
            relay_viewer_sr(r, v, now, t);
            n++;
        }
    return n;
}

/* ---- Figures. */

const int64_t relay_wait_us[RELAY_WAITS - 1] = { 100, 5000, 10000, 20000, 50000 };

bool relay_flow_picture(struct relay_flow *f, struct pl_mono now)
{
    int64_t since = pl_mono_sub(now, f->at), limit = f->usual_us * 3 > f->usual_us + 150 * PL_MS ? f->usual_us * 3 : f->usual_us + 150 * PL_MS;
    bool first = f->at.us == 0;
    f->at = now;
    if (first)
        return false;
    if (f->usual_us == 0 || since < limit) {
        f->usual_us = f->usual_us ? f->usual_us + (since - f->usual_us) / 16 : since;
        return false;
    }
    f->freezes.count++;
    f->freezes.us += (uint64_t)since;
    return true;
}

uint32_t relay_clock_of(const struct relay_session *s, unsigned track)
{
    return track == RELAY_VIDEO ? 90000 : s->tracks[track].conf.payload_type < 96 ? 8000 : 48000; /* PCMU and PCMA have numbers of their own, Opus a free one */
}

static void viewer_stats(struct relay_viewer *v, struct pl_mono now, struct relay_viewer_stats *ret)
{
    unsigned track = v->out[RELAY_VIDEO].conf.ssrc ? RELAY_VIDEO : RELAY_AUDIO;
    const struct relay_heard *h = &v->out[track].heard;
    int64_t since = pl_mono_sub(now, v->told_at);
    *ret = (struct relay_viewer_stats){ .packets = v->out[0].packets + v->out[1].packets, .bytes = v->out[0].bytes + v->out[1].bytes, .asked = v->resend.asked,
        .resent = v->resend.sent, .key_asked = v->key_asked, .remb_bps = v->remb_bps, .lost = h->lost, .fraction_lost = h->fraction_lost,
        .jitter_us = (int64_t)h->jitter * PL_SECOND / relay_clock_of(v->end.session, track), .rtt_us = h->rtt_us, .freezes = v->flow.freezes, .paused = v->paused };
    memcpy(ret->id, v->id, sizeof ret->id);
    if (v->told_at.us && since > 0)
        ret->bitrate = (ret->bytes - v->told_bytes) * 8 * PL_SECOND / (uint64_t)since;
    if (v->cc) {
        ret->cc_lost = v->cc->lost;
        ret->queue_us = v->cc->queue_us;
        if (v->told_at.us && since > 0)
            ret->cc_bitrate = (v->cc->bytes - v->told_came) * 8 * PL_SECOND / (uint64_t)since;
        v->told_came = v->cc->bytes;
    }
    v->told_bytes = ret->bytes;
    v->told_at = now;
}

bool relay_session_stats(struct relay *r, struct pl_mono now, unsigned slot, struct relay_session_stats *ret)
{
    struct relay_session *s = slot < r->conf.max_sessions ? r->sessions[slot] : NULL;
    if (!s)
        return false;
    const struct relay_track *t = &s->tracks[RELAY_VIDEO];
    uint64_t expected = t->stats.started ? t->seq.highest - t->stats.first + 1 : 0;
    *ret = (struct relay_session_stats){ .ref = s->ref, .packets = t->stats.received, .lost = expected > t->stats.received ? expected - t->stats.received : 0,
        .bitrate = s->rate * 8, .rtt_us = s->rtt_us, .freezes = s->flow.freezes, .jitter_us = (int64_t)(t->stats.jitter_x16 / 16) * PL_SECOND / relay_clock_of(s, RELAY_VIDEO) };
    for (unsigned i = 0; i < RELAY_VIEWERS; i++)
        if (s->viewers[i])
            viewer_stats(s->viewers[i], now, &ret->viewers[ret->viewers_n++]);
    return ret->viewers_n > 0;
}
