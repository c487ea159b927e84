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

static void resend(struct relay *r, struct relay_viewer *v, struct pl_mono now, unsigned track, uint16_t number16)
{
    struct relay_out *o = &v->out[track];
    struct relay_resend *d = &v->resend;
    uint64_t number, seq;
    bool rtx = d->ssrc && track == RELAY_VIDEO;
    d->asked++;
    const struct relay_piece *piece = number_of(o, number16, &number) ? piece_by_number(o, number, &seq) : NULL;
    const struct relay_entry *e = piece ? relay_ring_find(&v->end.session->ring, track, seq) : NULL;
    if (!e || (!rtx && v->ext) || !may_resend(v, now, number)) {
        d->refused++;
        return;
    }
    uint8_t *p = relay_out_room(r, &v->end.addr, RELAY_PACKET_MAX + PL_SRTP_RTP_OVERHEAD);
    size_t n = relay_viewer_packet(v, now, e, piece, rtx, p), cap = n + PL_SRTP_RTP_OVERHEAD;
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

static int track_of(const struct relay_viewer *v, uint32_t ssrc)
{
    for (int t = 0; t < RELAY_TRACKS; t++)
        if (v->out[t].conf.ssrc && v->out[t].conf.ssrc == ssrc)
            return t;
    return -1;
}

static void on_nack(struct relay *r, struct relay_viewer *v, struct pl_mono now, const struct rtcp_item *it)
{
    int track = track_of(v, it->media_ssrc);
    if (track < 0 || !v->end.connected || v->paused)
        return;
    for (unsigned i = 0; i < it->count; i++) {
        uint16_t seq, mask;
        rtcp_nack_at(it, i, &seq, &mask);
        for (unsigned bit = 0; bit <= 16; bit++)
            if (bit == 0 || mask >> (bit - 1) & 1)
                resend(r, v, now, (unsigned)track, (uint16_t)(seq + bit));
    }
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
        if (o->sr_sent && b.last_sr && b.last_sr == o->sr_mid) {
            int64_t rtt = pl_mono_sub(now, o->sr_at) - (int64_t)b.delay_last_sr * PL_SECOND / 65536;
            o->heard.rtt_us = rtt > 0 ? rtt : 1;
        }
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
                relay_want_key(v->end.session);
            }
            break;
        case RTCP_NACK: on_nack(r, v, now, &it); break;
        case RTCP_SR:
        case RTCP_RR: on_report(v, now, &it); break;
        case RTCP_REMB: v->remb_bps = it.remb_bps; break;
        case RTCP_END:
        case RTCP_SDES:
        case RTCP_BYE:
        case RTCP_APP:
        case RTCP_OTHER: break;
        }
    }
}

void relay_viewer_sr(struct relay *r, struct relay_viewer *v, struct pl_mono now, unsigned track)
{
    const struct relay_track *t = &v->end.session->tracks[track];
    struct relay_out *o = &v->out[track];
    if (!v->end.connected || v->paused || o->packets == 0)
        return;
    uint8_t p[128];
    struct pl_buf b = pl_buf_fixed(p, sizeof p - PL_SRTP_RTCP_OVERHEAD);
    rtcp_put_sr(&b, o->conf.ssrc, t->sr_ntp, t->sr_timestamp + o->ts_offset, (uint32_t)o->packets, (uint32_t)o->bytes, NULL, 0);
    rtcp_put_cname(&b, o->conf.ssrc, PL_STR("camera")); /* one name for sound and picture: they belong together */
    size_t n = b.n;
    if (pl_buf_err(&b) != PL_OK || pl_srtp_protect_rtcp(v->end.out, p, &n, sizeof p) != PL_OK)
        return;
    o->sr_sent = true;
    o->sr_mid = (uint32_t)(t->sr_ntp >> 16);
    o->sr_at = now;
    relay_out_one(r, &v->end.addr, p, n);
}

/* ---- Figures. */

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
        .jitter_us = (int64_t)h->jitter * PL_SECOND / relay_clock_of(v->end.session, track), .rtt_us = h->rtt_us, .paused = v->paused };
    memcpy(ret->id, v->id, sizeof ret->id);
    if (v->told_at.us && since > 0)
        ret->bitrate = (ret->bytes - v->told_bytes) * 8 * PL_SECOND / (uint64_t)since;
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
        .bitrate = s->rate * 8, .jitter_us = (int64_t)(t->stats.jitter_x16 / 16) * PL_SECOND / relay_clock_of(s, RELAY_VIDEO) };
    for (unsigned i = 0; i < RELAY_VIEWERS; i++)
        if (s->viewers[i])
            viewer_stats(s->viewers[i], now, &ret->viewers[ret->viewers_n++]);
    return ret->viewers_n > 0;
}
