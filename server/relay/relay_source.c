#include "relay_private.h"
#include "rtcp.h"

/* ---- The key-frame governor: one request per 2 s and source, however many viewers want one (V-A5). */

void relay_want_key(struct relay_session *s) { s->want_key = !s->no_key_frames; }

/* One request to the source: for the `n` numbers of a track, or (0) for a key frame. */
static void send_request(struct relay *r, struct relay_session *s, unsigned track, const uint16_t *seqs, unsigned seqs_n)
{
    uint8_t p[128 + RELAY_MISSING * 4];
    struct pl_buf b = pl_buf_fixed(p, sizeof p - PL_SRTP_RTCP_OVERHEAD);
    uint32_t own = s->talk_ssrc ? s->talk_ssrc : 1;
    rtcp_put_rr(&b, own, NULL, 0);
    rtcp_put_cname(&b, own, PL_STR("relay"));
    if (seqs_n)
        rtcp_put_nack(&b, own, s->tracks[track].conf.ssrc, seqs, seqs_n);
    else
        rtcp_put_pli(&b, own, s->tracks[track].conf.ssrc);
    size_t n = b.n;
    if (pl_buf_err(&b) == PL_OK && pl_srtp_protect_rtcp(s->source.out, p, &n, sizeof p) == PL_OK)
        relay_out_one(r, &s->source.addr, p, n);
}

void relay_governor(struct relay *r, struct relay_session *s, struct pl_mono now)
{
    /* Before its first packet there is nobody to ask, and a source starts with a key frame by itself. */
    if (!s->media_said)
        return;
    if (s->asked && !s->asked_control && pl_mono_sub(now, s->asked_at) >= RELAY_KEY_ANSWER) {
        s->asked_control = true;
        relay_event_add(r, now, RELAY_EV_KEYFRAME_WANTED, s, NULL, NULL);
    }
    if (!s->want_key || (s->ever_asked && pl_mono_sub(now, s->asked_at) < RELAY_KEY_EVERY))
        return;
    s->ever_asked = s->asked = true;
    s->asked_control = false;
    s->asked_at = now;
    send_request(r, s, RELAY_VIDEO, NULL, 0);
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
            send_request(r, s, t, seqs, n);
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

static struct relay_key key_of(const struct relay_session *s, const struct relay_au *a)
{
    struct relay_key k = { .valid = true, .params = !a->sps && params_known(s), .timestamp = a->timestamp, .from = a->low, .until = a->mark + 1,
        .first_at = a->first_at, .last_at = a->last_at };
    /* A packet before the first one seen may still be on its way: its number belongs to the key frame. */
    if (a->before && a->before + 1 < a->low && a->low - a->before - 1 <= RELAY_REORDER)
        k.from = a->before + 1;
    return k;
}

static void key_started(struct relay *r, struct relay_session *s, struct pl_mono now, const struct relay_au *a)
{
    struct relay_key k = key_of(s, a);
    if (!a->sps && !params_known(s)) /* nobody could decode from here */
        return;
    s->want_key = s->asked = false;
    for (unsigned i = 0; i < RELAY_VIEWERS; i++)
        if (s->viewers[i])
            relay_viewer_key(r, s->viewers[i], now, &k);
}

static void au_check(struct relay *r, struct relay_session *s, struct pl_mono now, const struct relay_au *a)
{
    bool whole = a->key && (a->sps || params_known(s)) && a->marked && a->count == a->mark - a->low + 1 && (a->before == 0 || a->low == a->before + 1);
    if (!whole || (s->key.valid && s->key.from >= a->low))
        return;
    s->key = key_of(s, a);
    if (!s->key_said) {
        s->key_said = true;
        relay_event_add(r, now, RELAY_EV_SOURCE_KEYFRAME, s, NULL, NULL);
    }
}

static void au_add(struct relay_au *a, uint64_t seq, uint64_t at, const struct h264_scan *scan, bool marker)
{
    a->low = seq < a->low ? seq : a->low;
    a->high = seq > a->high ? seq : a->high;
    a->first_at = at < a->first_at ? at : a->first_at;
    a->last_at = at > a->last_at ? at : a->last_at;
    a->count++;
    a->key |= scan->key;
    a->idr |= scan->idr;
    a->sps |= scan->sps;
    if (marker) {
        a->marked = true;
        a->mark = seq;
    }
}

static void video(struct relay *r, struct relay_session *s, struct pl_mono now, uint64_t seq, uint64_t at, const struct rtp_packet *pkt)
{
    struct h264_scan scan = h264_scan(pkt->payload, pkt->payload_n);
    struct relay_au *a = &s->au;
    uint32_t ts = pkt->h.timestamp;
    if (scan.sps || scan.pps)
        keep_params(s, pkt);
    if (!a->started || (int32_t)(ts - a->timestamp) > 0) {
        if (a->started && !a->marked && seq == a->high + 1) { /* a sender that sets no marker: the next timestamp ends it */
            a->marked = true;
            a->mark = a->high;
            au_check(r, s, now, a);
        }
        s->au_before = *a;
        *a = (struct relay_au){ .started = true, .timestamp = ts, .low = seq, .high = seq, .before = s->au_before.started ? s->au_before.high : 0, .first_at = at, .last_at = at };
    } else if (ts != a->timestamp) {
        if (!s->au_before.started || ts != s->au_before.timestamp)
            return;
        a->before = seq > a->before && seq < a->low ? seq : a->before;
        a = &s->au_before;
    }
    bool was_key = a->key;
    au_add(a, seq, at, &scan, pkt->h.marker);
    if (a->key && !was_key)
        key_started(r, s, now, a);
    au_check(r, s, now, &s->au_before);
    au_check(r, s, now, &s->au);
}

void relay_source_media(struct relay *r, struct relay_session *s, struct pl_mono now, unsigned track, const struct rtp_packet *pkt)
{
    struct relay_track *t = &s->tracks[track];
    uint64_t before = t->seq.highest;
    bool first = !t->seq.started;
    uint64_t seq = rtp_seq_extend(&t->seq, pkt->h.seq);
    if (!first && seq > before + 1) {
        r->stats.lost += seq - before - 1;
        passed_over(s, t, before, seq);
    } else if (!first && seq < before) { /* it was counted as lost, and came late */
        r->stats.lost -= r->stats.lost > 0;
        came_late(t, seq);
    }
    t->received++;
    if (!s->media_said) {
        s->media_said = true;
        s->media_at = now;
        relay_event_add(r, now, RELAY_EV_SOURCE_MEDIA, s, NULL, NULL);
    }
    struct relay_entry like = { .seq = seq, .timestamp = pkt->h.timestamp, .track = (uint8_t)track, .marker = pkt->h.marker };
    uint64_t at = relay_ring_put(&s->ring, &like, pkt->payload, pkt->payload_n);
    if (track == RELAY_VIDEO)
        video(r, s, now, seq, at, pkt);
}

void relay_source_rtcp(struct relay *r, struct relay_session *s, struct pl_mono now, const uint8_t *p, size_t n)
{
    struct pl_rd rd = pl_rd_of(p, n);
    struct rtcp_item it;
    (void)now;
    while (rtcp_next(&rd, &it) == PL_OK && it.type != RTCP_END) {
        if (it.type != RTCP_SR)
            continue;
        for (unsigned t = 0; t < RELAY_TRACKS; t++) {
            if (s->tracks[t].conf.ssrc != it.ssrc)
                continue;
            s->tracks[t].has_sr = true;
            s->tracks[t].sr_ntp = it.sr.ntp;
            s->tracks[t].sr_timestamp = it.sr.timestamp;
            for (unsigned i = 0; i < RELAY_VIEWERS; i++)
                if (s->viewers[i])
                    relay_viewer_sr(r, s->viewers[i], t);
        }
    }
}
