#include "relay_private.h"
#include "rtcp.h"

/* ---- The key-frame governor: one request per 2 s and source, however many viewers want one (V-A5). */

void relay_want_key(struct relay_session *s) { s->want_key = !s->no_key_frames; }

enum ask { ASK_PLI, ASK_FIR, ASK_CONTROL, ASK_AGAIN, ASK_NOTHING };

/* The SSRC that the relay itself has at a source. */
static uint32_t own_ssrc(const struct relay_session *s) { return s->talk_ssrc ? s->talk_ssrc : 1; }

/* One RTCP packet to the source: reports, our time, which it gives back (RFC 3611), and what is asked for: a key frame, or the `seqs` of a track. */
static void send_rtcp(struct relay *r, struct relay_session *s, struct pl_mono now, const struct rtcp_block *blocks, unsigned blocks_n, enum ask ask, unsigned track,
    const uint16_t *seqs, unsigned seqs_n)
{
    uint8_t p[256 + RELAY_MISSING * 4];
    struct pl_buf b = pl_buf_fixed(p, sizeof p - PL_SRTP_RTCP_OVERHEAD);
    uint32_t own = own_ssrc(s);
    rtcp_put_rr(&b, own, blocks, blocks_n);
    rtcp_put_cname(&b, own, PL_STR("relay"));
    if (blocks_n)
        rtcp_put_xr_time(&b, own, relay_ntp(now));
    if (ask == ASK_AGAIN)
        rtcp_put_nack(&b, own, s->tracks[track].conf.ssrc, seqs, seqs_n);
    else if (ask == ASK_PLI)
        rtcp_put_pli(&b, own, s->tracks[RELAY_VIDEO].conf.ssrc);
    else if (ask == ASK_FIR)
        rtcp_put_fir(&b, own, s->tracks[RELAY_VIDEO].conf.ssrc, s->fir_seq++);
    size_t n = b.n;
    if (pl_buf_err(&b) == PL_OK && pl_srtp_protect_rtcp(s->source.out, p, &n, sizeof p) == PL_OK)
        relay_out_one(r, &s->source.addr, p, n);
}

/* A publisher is asked as it has agreed to be; a hub knows PLI, and its control. */
static bool asked_so(const struct relay_session *s, unsigned way)
{
    const struct relay_webrtc *w = s->source.assoc ? &s->source.assoc->conf : NULL;
    return way == ASK_PLI ? !w || w->pli || !w->fir : w && w->fir;
}

/* The next way to ask of this one request. */
static void ask_for_key(struct relay *r, struct relay_session *s, struct pl_mono now)
{
    while (s->ways < ASK_CONTROL && !asked_so(s, s->ways))
        s->ways++;
    if (s->ways < ASK_CONTROL)
        send_rtcp(r, s, now, NULL, 0, (enum ask)s->ways, RELAY_VIDEO, NULL, 0);
    else
        relay_event_add(r, now, RELAY_EV_KEYFRAME_WANTED, s, NULL, NULL);
    s->ways++;
    s->way_at = now;
}

void relay_governor(struct relay *r, struct relay_session *s, struct pl_mono now)
{
    /* Before its first packet there is nobody to ask, and a source starts with a key frame by itself. */
    if (!s->media_said)
        return;
    if (s->asked && s->ways <= ASK_CONTROL && pl_mono_sub(now, s->way_at) >= RELAY_KEY_ANSWER)
        ask_for_key(r, s, now);
    if (!s->want_key || (s->ever_asked && pl_mono_sub(now, s->asked_at) < RELAY_KEY_EVERY))
        return;
    s->ever_asked = s->asked = true;
    s->ways = 0;
    s->asked_at = now;
    ask_for_key(r, s, now);
}

/* ---- V-E1: what the source's own network lost is asked for, a few times, and then given up. */

void relay_ask_again(struct relay *r, struct relay_session *s, struct pl_mono now)
{
    for (unsigned t = 0; t < RELAY_TRACKS; t++) {
        struct relay_track *k = &s->tracks[t];
        uint16_t seqs[RELAY_MISSING];
        unsigned n = 0, kept = 0;
        for (unsigned i = 0; i < k->missing_n; i++) {
            struct relay_missing m = k->missing[i];
            bool due = m.tries == 0 || pl_mono_sub(now, m.asked_at) >= RELAY_NACK_AGAIN;
            if (due && m.tries == RELAY_NACK_TRIES)
                continue;
            if (due) {
                seqs[n++] = (uint16_t)m.seq;
                m.asked_at = now;
                m.tries++;
            }
            k->missing[kept++] = m;
        }
        k->missing_n = kept;
        if (n)
            send_rtcp(r, s, now, NULL, 0, ASK_AGAIN, t, seqs, n);
    }
}

/* Numbers in between `before` and `seq` were passed over. A plain source keeps nothing that it could send again. */
static void passed_over(struct relay_session *s, struct relay_track *t, uint64_t before, uint64_t seq)
{
    if (s->plain || seq - before - 1 > RELAY_MISSING - t->missing_n)
        return;
    for (uint64_t n = before + 1; n < seq; n++)
        t->missing[t->missing_n++] = (struct relay_missing){ .seq = n };
}

static void came_late(struct relay_track *t, uint64_t seq)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < t->missing_n; i++)
        if (t->missing[i].seq != seq)
            t->missing[kept++] = t->missing[i];
    t->missing_n = kept;
}

/* ---- Numbers: the source's own, and behind each packet of ours one more. A shift begins above every number that was given, or one would be given twice (S-M6). */

/* False: so late that nobody knows which it is. */
static bool number_of(const struct relay_session *s, uint64_t seq, uint64_t *ret)
{
    unsigned kept = s->shifts_n < RELAY_SHIFTS ? s->shifts_n : RELAY_SHIFTS;
    for (unsigned i = 0; i < kept; i++) {
        const struct relay_shift *h = &s->shifts[(s->shifts_n - 1 - i) % RELAY_SHIFTS];
        if (seq >= h->from) {
            *ret = seq + h->by;
            return true;
        }
    }
    *ret = seq;
    return s->shifts_n <= RELAY_SHIFTS;
}

static void shift_from(struct relay_session *s, uint64_t from)
{
    s->shifts[s->shifts_n % RELAY_SHIFTS] = (struct relay_shift){ .from = from, .by = s->shifts_n + 1 };
    s->shifts_n++;
}

/* V-A2: when the source's timestamps step back while its numbers run on (or forward by so much that nobody can tell), they begin anew: its encoder restarted, or its clock was set.
 * They are moved so that time goes on for all that comes after this. B-frames step back, too, but never so far. */
static uint32_t timestamp_of(struct relay_session *s, struct pl_mono now, uint64_t seq, bool newest, uint32_t timestamp)
{
    enum { FAR = 90000, LEAST = 900 };
    const struct relay_au *a = &s->au;
    int32_t ahead = (int32_t)(timestamp + s->step - a->timestamp);
    if (seq < s->step_from && (ahead <= -FAR || ahead >= FAR)) /* late, and of the time before */
        return timestamp + s->step_before;
    if (newest && ahead <= -FAR && a->started) {
        int64_t since = pl_mono_sub(now, a->began_at) * 9 / (PL_SECOND / 10000);
        s->step_before = s->step;
        s->step = a->timestamp + (uint32_t)(since > LEAST ? since : LEAST) - timestamp;
        s->step_from = seq;
    }
    return timestamp + s->step;
}

/* ---- Where key frames start and when they are whole. */

static bool params_known(const struct relay_session *s) { return s->params_n[0] && s->params_n[1]; }

static void keep_params(struct relay_session *s, const struct rtp_packet *pkt)
{
    static const uint8_t types[2] = { H264_SPS, H264_PPS };
    for (int i = 0; i < 2; i++) {
        const uint8_t *nal;
        size_t n;
        if (h264_find_nal(pkt->payload, pkt->payload_n, types[i], &nal, &n) && n <= RELAY_PARAM_MAX) {
            memcpy(s->params[i], nal, n);
            s->params_n[i] = n;
        }
    }
}

static struct relay_key key_of(const struct relay_au *a)
{
    struct relay_key k = { .valid = true, .timestamp = a->timestamp, .frame = a->frame, .from = a->low, .until = a->marked ? a->mark + 1 : UINT64_MAX,
        .first_at = a->first_at, .last_at = a->last_at };
    /* A packet before the first one seen may still be on its way: its number belongs to the key frame. */
    if (a->before && a->before + 1 < a->low && a->low - a->before - 1 <= RELAY_REORDER)
        k.from = a->before + 1;
    return k;
}

/* Parameter sets behind what needs them are none: nobody could decode from here. */
static bool startable(const struct relay_au *a) { return a->key && a->sps != UINT64_MAX && a->sps <= a->idr; }

bool relay_source_key_now(const struct relay_session *s, struct relay_key *ret)
{
    const struct relay_au *a = &s->au;
    if (!a->started || !startable(a) || (s->key.valid && s->key.from >= a->low))
        return false;
    *ret = key_of(a);
    return true;
}

static void key_started(struct relay_session *s, struct pl_mono now, struct relay_au *a)
{
    struct relay_key k = key_of(a);
    a->told = true;
    s->want_key = s->asked = false;
    for (unsigned i = 0; i < RELAY_VIEWERS; i++)
        if (s->viewers[i])
            relay_viewer_key(s->viewers[i], now, &k);
}

static void au_check(struct relay *r, struct relay_session *s, struct pl_mono now, const struct relay_au *a)
{
    bool whole = a->marked && startable(a) && a->count == a->mark - a->low + 1 && (a->before == 0 || a->low == a->before + 1);
    if (!whole || (s->key.valid && s->key.from >= a->low))
        return;
    s->key = key_of(a);
    if (!s->key_said) {
        s->key_said = true;
        relay_event_add(r, now, RELAY_EV_SOURCE_KEYFRAME, s, NULL, NULL);
    }
}

static void au_add(struct relay_au *a, uint64_t number, uint64_t at, const struct h264_scan *scan, bool marker)
{
    a->low = number < a->low ? number : a->low;
    a->high = number > a->high ? number : a->high;
    a->first_at = at < a->first_at ? at : a->first_at;
    a->last_at = at > a->last_at ? at : a->last_at;
    a->count++;
    a->key |= scan->key;
    a->sps = scan->sps && number < a->sps ? number : a->sps;
    a->idr = scan->idr && number < a->idr ? number : a->idr;
    if (marker) {
        a->marked = true;
        a->mark = number;
    }
}

/* The access unit that a packet belongs to; NULL: one that is long over. */
static struct relay_au *au_of(struct relay *r, struct relay_session *s, struct pl_mono now, uint64_t number, uint32_t timestamp)
{
    struct relay_au *a = &s->au, *b = &s->au_before;
    if (a->started && timestamp == a->timestamp)
        return a;
    if (a->started && (int32_t)(timestamp - a->timestamp) < 0) {
        a->before = number > a->before && number < a->low ? number : a->before;
        return b->started && timestamp == b->timestamp ? b : NULL;
    }
    if (a->started && !a->marked && number == a->high + 1) { /* a sender that sets no marker: the next timestamp ends it */
        a->marked = true;
        a->mark = a->high;
        au_check(r, s, now, a);
    }
    *b = *a;
    *a = (struct relay_au){ .started = true, .timestamp = timestamp, .began_at = now, .frame = s->frames++, .low = UINT64_MAX, .first_at = UINT64_MAX, .before = s->high,
        .sps = UINT64_MAX, .idr = UINT64_MAX };
    return a;
}

/* Into the ring, with its number and place in its access unit. */
static void put(struct relay *r, struct relay_session *s, struct pl_mono now, struct relay_au *a, const struct rtp_packet *pkt, uint64_t number, const struct h264_scan *scan)
{
    struct relay_entry like = { .seq = number, .at_us = now.us, .timestamp = pkt->h.timestamp, .track = RELAY_VIDEO, .marker = pkt->h.marker };
    uint64_t at;
    if (!relay_ring_put(&s->ring, &like, pkt->payload, pkt->payload_n, &at)) {
        r->stats.replayed++;
        return;
    }
    s->high = number > s->high ? number : s->high;
    if (a)
        au_add(a, number, at, scan, pkt->h.marker);
}

/* A key frame that comes without SPS and PPS gets those that the source sent earlier, once and for every viewer, before its first slice; the source's own numbers from there on
 * move by one. Returns by how much the packet's own has. */
static unsigned put_params(struct relay *r, struct relay_session *s, struct pl_mono now, struct relay_au *a, uint64_t seq, uint64_t number, const struct h264_scan *scan)
{
    static const struct h264_scan both = { .sps = true, .pps = true };
    uint8_t p[1 + 2 * (2 + RELAY_PARAM_MAX)];
    uint64_t gap = number - s->high - 1, back = scan->key ? 0 : 1;
    if (number <= s->high || (gap == 0 && !scan->key))
        return 0;
    /* Before what is still on its way, too, if that can only be of this key frame: it may be the slice's start, or SPS and PPS that are others now. */
    if (gap <= RELAY_REORDER && (a->count || (s->au_before.marked && s->au_before.mark == s->high)))
        back = gap;
    struct rtp_packet own = { .h.timestamp = a->timestamp, .payload = p, .payload_n = 1 };
    p[0] = 0x60 | H264_STAP_A;
    for (int i = 0; i < 2; i++) {
        uint8_t *q = p + own.payload_n;
        q[0] = (uint8_t)(s->params_n[i] >> 8);
        q[1] = (uint8_t)s->params_n[i];
        memcpy(q + 2, s->params[i], s->params_n[i]);
        own.payload_n += 2 + s->params_n[i];
    }
    put(r, s, now, a, &own, number - back, &both);
    shift_from(s, seq - back);
    return 1;
}

static void video(struct relay *r, struct relay_session *s, struct pl_mono now, uint64_t seq, const struct rtp_packet *pkt)
{
    struct h264_scan scan = h264_scan(pkt->payload, pkt->payload_n);
    uint64_t number;
    if (!number_of(s, seq, &number))
        return;
    struct relay_au *a = au_of(r, s, now, number, pkt->h.timestamp);
    if (scan.sps || scan.pps)
        keep_params(s, pkt);
    if (scan.idr && a == &s->au && a->idr == UINT64_MAX && a->sps == UINT64_MAX && !scan.sps && params_known(s))
        number += put_params(r, s, now, a, seq, number, &scan);
    put(r, s, now, a, pkt, number, &scan);
    if (a && a->marked && !a->counted && a->count == a->mark - a->low + 1) {
        a->counted = true;
        r->stats.freezes_in += relay_flow_picture(&s->flow, now);
    }
    if (a && !a->told && startable(a))
        key_started(s, now, a);
    if (a)
        au_check(r, s, now, a);
    if (a != &s->au) /* what was missing before it may have come */
        au_check(r, s, now, &s->au);
}

static void measure(struct relay_session *s, struct pl_mono now, size_t n)
{
    int64_t since = pl_mono_sub(now, s->rate_at);
    s->rate_bytes += n > RELAY_COST ? n : RELAY_COST;
    if (since < RELAY_RATE_EVERY)
        return;
    /* Up at once, down slowly: a key frame is a second's worth of its own. */
    uint64_t rate = since > 4 * RELAY_RATE_EVERY ? 0 : s->rate_bytes * PL_SECOND / (uint64_t)since, slow = s->rate - s->rate / 8;
    s->rate = rate > slow ? rate : slow;
    s->rate_bytes = 0;
    s->rate_at = now;
}

/* One session's share: a source that sends more than any camera does takes nobody else's time, only its own pictures suffer. */
static bool too_fast(struct relay *r, struct relay_session *s, struct pl_mono now, size_t n)
{
    int64_t most = (int64_t)(r->conf.source_bps / 8 / 4), since = pl_mono_sub(now, s->room_at);
    int64_t more = since >= PL_SECOND / 4 ? most : (int64_t)(r->conf.source_bps / 8 * (uint64_t)since / PL_SECOND);
    s->room = s->room + more > most ? most : s->room + more;
    s->room_at = now;
    if (s->room > 0) {
        s->room -= (int64_t)n;
        return false;
    }
    r->stats.too_fast++;
    if (!s->fast_said) {
        s->fast_said = true;
        relay_event_add(r, now, RELAY_EV_WARNING, s, NULL, "too_fast");
    }
    return true;
}

/* Of each packet, once. */
static inline uint64_t take_number(struct relay *r, struct relay_session *s, struct pl_mono now, unsigned track, const struct rtp_header *h)
{
    struct relay_track *t = &s->tracks[track];
    uint64_t before = t->seq.highest;
    bool first = !t->seq.started;
    uint64_t seq = rtp_seq_extend(&t->seq, h->seq);
    if (!first && seq > before + 1) {
        r->stats.lost += seq - before - 1;
        passed_over(s, t, before, seq);
    } else if (!first && seq < before) { /* it was counted as lost, and came late */
        r->stats.lost -= r->stats.lost > 0;
        came_late(t, seq);
    }
    rtp_stats_add(&t->stats, seq, h->timestamp, (uint32_t)((uint64_t)now.us / 1000 * (relay_clock_of(s, track) / 1000)));
    return seq;
}

void relay_source_unused(struct relay *r, struct relay_session *s, struct pl_mono now, unsigned track, const struct rtp_header *h) { (void)take_number(r, s, now, track, h); }

void relay_source_media(struct relay *r, struct relay_session *s, struct pl_mono now, unsigned track, struct rtp_packet *pkt)
{
    struct relay_track *t = &s->tracks[track];
    uint64_t seq = take_number(r, s, now, track, &pkt->h);
    if (track == RELAY_VIDEO)
        pkt->h.timestamp = timestamp_of(s, now, seq, seq == t->seq.highest, pkt->h.timestamp);
    relay_map_arrived(t, now, pkt->h.timestamp, relay_clock_of(s, track));
    measure(s, now, pkt->payload_n);
    if (!s->media_said) {
        s->media_said = true;
        s->media_at = now;
        relay_event_add(r, now, RELAY_EV_SOURCE_MEDIA, s, NULL, NULL);
    }
    if (too_fast(r, s, now, pkt->payload_n))
        return;
    if (track == RELAY_VIDEO) {
        video(r, s, now, seq, pkt);
        return;
    }
    struct relay_entry like = { .seq = seq, .at_us = now.us, .timestamp = pkt->h.timestamp, .track = RELAY_AUDIO, .marker = pkt->h.marker };
    uint64_t at;
    if (!relay_ring_put(&s->ring, &like, pkt->payload, pkt->payload_n, &at))
        r->stats.replayed++;
}

/* ---- Reports. */

/* What came, of what the source sent: each second, under the SSRC that the relay itself has there. */
unsigned relay_report(struct relay *r, struct relay_session *s, struct pl_mono now)
{
    struct rtcp_block blocks[RELAY_TRACKS];
    unsigned n = 0;
    if (!s->source.out || !s->media_said || pl_mono_sub(now, s->reported_at) < RELAY_REPORT_EVERY)
        return 0;
    s->reported_at = now;
    for (unsigned i = 0; i < RELAY_TRACKS; i++) {
        struct relay_track *t = &s->tracks[i];
        if (!rtcp_block_of(&t->seq, &t->stats, &blocks[n]))
            continue;
        blocks[n].ssrc = t->conf.ssrc;
        blocks[n].last_sr = t->has_sr ? (uint32_t)(t->sr_ntp >> 16) : 0;
        blocks[n++].delay_last_sr = t->has_sr ? (uint32_t)(pl_mono_sub(now, t->sr_at) * 65536 / PL_SECOND) : 0;
    }
    send_rtcp(r, s, now, blocks, n, ASK_NOTHING, 0, NULL, 0);
    return 1;
}

/* Each report of a source costs one to each viewer: no source needs five a second, and one that floods takes nobody else's time. */
#define SR_APART (200 * PL_MS)

static void time_came_back(struct relay_session *s, struct pl_mono now, const struct rtcp_item *it)
{
    for (unsigned i = 0; i < it->count; i++) {
        struct rtcp_dlrr d = rtcp_dlrr_at(it, i);
        int64_t rtt = d.ssrc == own_ssrc(s) && d.last_rr ? rtcp_rtt_us((uint32_t)(relay_ntp(now) >> 16), d.last_rr, d.delay_rr) : 0;
        s->rtt_us = rtt ? rtt : s->rtt_us;
    }
}

void relay_source_rtcp(struct relay *r, struct relay_session *s, struct pl_mono now, const uint8_t *p, size_t n)
{
    struct pl_rd rd = pl_rd_of(p, n);
    struct rtcp_item it;
    while (rtcp_next(&rd, &it) == PL_OK && it.type != RTCP_END) {
        if (it.type == RTCP_XR)
            time_came_back(s, now, &it);
        if (it.type != RTCP_SR)
            continue;
        for (unsigned t = 0; t < RELAY_TRACKS; t++) {
            if (s->tracks[t].conf.ssrc != it.ssrc)
                continue;
            if (s->tracks[t].has_sr && pl_mono_sub(now, s->tracks[t].sr_at) < SR_APART)
                continue;
            it.sr.timestamp += t == RELAY_VIDEO ? s->step : 0;
            relay_map_reported(s, now, t, it.sr.ntp, it.sr.timestamp);
            s->tracks[t].has_sr = true;
            s->tracks[t].sr_at = now;
            s->tracks[t].sr_ntp = it.sr.ntp;
            s->tracks[t].sr_timestamp = it.sr.timestamp;
            for (unsigned i = 0; i < RELAY_VIEWERS; i++)
                if (s->viewers[i])
                    relay_viewer_sr(r, s->viewers[i], now, t);
        }
    }
}
