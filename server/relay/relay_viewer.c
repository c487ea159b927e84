#include "relay_private.h"
#include "rtcp.h"

/* ---- From source numbers to out numbers. An out number is given to one packet and never again (S-M6). */

static struct relay_piece *newest(struct relay_out *o) { return &o->pieces[(o->pieces_n - 1) % RELAY_PIECES]; }

static void piece_close(struct relay_out *o)
{
    if (o->pieces_n && newest(o)->until > o->sent_high)
        newest(o)->until = o->sent_high; /* what was not sent by now never will be: its out numbers belong to the next piece */
    o->open = false;
}

/* Numbers from `from` on go out, contiguous with what went out before; `skip` out numbers are left for packets of our own in between. */
static void piece_open(struct relay_out *o, uint64_t from, unsigned skip)
{
    piece_close(o);
    o->pieces_n++;
    *newest(o) = (struct relay_piece){ .from = from, .until = UINT64_MAX, .base = o->next + skip };
    o->next += skip;
    o->sent_high = from;
    o->open = true;
}

static bool map_number(struct relay_out *o, uint64_t seq, uint64_t *ret)
{
    unsigned kept = o->pieces_n < RELAY_PIECES ? o->pieces_n : RELAY_PIECES;
    for (unsigned i = 0; i < kept; i++) {
        const struct relay_piece *p = &o->pieces[(o->pieces_n - 1 - i) % RELAY_PIECES];
        if (seq >= p->from && seq < p->until) {
            *ret = p->base + (seq - p->from);
            return true;
        }
    }
    return false;
}

/* ---- Sending. */

static bool send_packet(struct relay *r, struct relay_viewer *v, unsigned track, uint64_t number, uint32_t timestamp, bool marker, const uint8_t *payload, size_t payload_n)
{
    struct relay_out *o = &v->out[track];
    size_t n = RTP_HEADER + payload_n;
    uint8_t *p = relay_out_room(r, &v->end.addr, n + PL_SRTP_RTP_OVERHEAD);
    struct rtp_header h = { .payload_type = o->conf.payload_type, .marker = marker, .seq = (uint16_t)number, .timestamp = timestamp + o->ts_offset, .ssrc = o->conf.ssrc };
    rtp_write(&h, p);
    memcpy(p + RTP_HEADER, payload, payload_n);
    if (pl_srtp_protect_rtp(v->end.out, p, &n, n + PL_SRTP_RTP_OVERHEAD) != PL_OK) {
        r->stats.not_sent++;
        return false;
    }
    relay_out_took(r, n);
    o->packets++;
    o->bytes += payload_n;
    r->stats.packets_out++;
    r->stats.bytes_out += n;
    return true;
}

/* SPS and PPS that the source sent earlier, before a key frame that comes without. */
static void send_params(struct relay *r, struct relay_viewer *v)
{
    const struct relay_session *s = v->end.session;
    struct relay_out *o = &v->out[RELAY_VIDEO];
    uint8_t p[1 + 2 * (2 + RELAY_PARAM_MAX)];
    size_t n = 1;
    v->params_due = false;
    p[0] = 0x60 | H264_STAP_A;
    for (int i = 0; i < 2; i++) {
        p[n] = (uint8_t)(s->params_n[i] >> 8);
        p[n + 1] = (uint8_t)s->params_n[i];
        memcpy(p + n + 2, s->params[i], s->params_n[i]);
        n += 2 + s->params_n[i];
    }
    (void)send_packet(r, v, RELAY_VIDEO, newest(o)->base - 1, v->key_timestamp, false, p, n);
}

static void said(struct relay *r, struct relay_viewer *v, struct pl_mono now, const struct relay_entry *e)
{
    if (!v->media_said) {
        v->media_said = true;
        relay_event_add(r, now, RELAY_EV_VIEWER_MEDIA, v->end.session, v, NULL);
    }
    if (!v->key_said && e->track == RELAY_VIDEO && e->marker && e->timestamp == v->key_timestamp) {
        v->key_said = true;
        relay_event_add(r, now, RELAY_EV_VIEWER_KEYFRAME, v->end.session, v, NULL);
    }
    if (!v->out[e->track].sr_sent && v->end.session->tracks[e->track].has_sr)
        relay_viewer_sr(r, v, e->track);
}

/* True when a packet went out. */
static bool send_entry(struct relay *r, struct relay_viewer *v, struct pl_mono now, const struct relay_entry *e)
{
    struct relay_out *o = &v->out[e->track];
    uint64_t number;
    if (e->track == RELAY_AUDIO && !o->open && o->conf.ssrc)
        piece_open(o, e->seq, 0);
    if (!map_number(o, e->seq, &number))
        return false;
    if (e->track == RELAY_VIDEO && v->params_due)
        send_params(r, v);
    const struct relay_ring *g = &v->end.session->ring;
    if (number >= o->next)
        o->next = number + 1; /* before anything can fail: a number is given once */
    if (e->seq >= o->sent_high)
        o->sent_high = e->seq + 1;
    if (e->track == RELAY_VIDEO)
        v->in_frame = !e->marker;
    if (!send_packet(r, v, e->track, number, e->timestamp, e->marker, relay_ring_payload(g, e), e->n))
        return false;
    if (!v->media_said || !v->key_said || !o->sr_sent)
        said(r, v, now, e);
    return true;
}

/* Where it stood was overwritten: start again at a key frame. */
static void fell_out(struct relay *r, struct relay_viewer *v)
{
    r->stats.not_sent++;
    piece_close(&v->out[RELAY_VIDEO]);
    v->wait_key = true;
    v->params_due = v->catching = false;
    relay_want_key(v->end.session);
}

static void pump_track(struct relay *r, struct relay_viewer *v, struct pl_mono now, unsigned track, unsigned budget)
{
    const struct relay_ring *g = &v->end.session->ring;
    while (v->at[track] < g->head && budget > 0) {
        const struct relay_entry *e = relay_ring_at(g, v->at[track]);
        v->at[track]++;
        if (e && e->track == track) {
            budget -= send_entry(r, v, now, e);
        } else if (!e && track == RELAY_VIDEO) {
            fell_out(r, v);
            v->at[track] = g->head;
        }
    }
}

static unsigned pace(struct relay_viewer *v, struct pl_mono now)
{
    if (!v->catching)
        return UINT32_MAX;
    int64_t since = pl_mono_sub(now, v->paced);
    if (since < RELAY_PACE)
        return 0;
    v->paced = now;
    return since < 2 * RELAY_PACE ? RELAY_PACE_PACKETS : 2 * RELAY_PACE_PACKETS;
}

void relay_viewer_pump(struct relay *r, struct relay_viewer *v, struct pl_mono now)
{
    const struct relay_ring *g = &v->end.session->ring;
    if (!v->end.connected || v->paused)
        return;
    if (!v->catching && v->at[RELAY_VIDEO] == v->at[RELAY_AUDIO]) { /* live: one walk, in the order of arrival */
        while (v->at[RELAY_VIDEO] < g->head) {
            const struct relay_entry *e = relay_ring_at(g, v->at[RELAY_VIDEO]++);
            if (e) {
                (void)send_entry(r, v, now, e);
            } else {
                fell_out(r, v);
                v->at[RELAY_VIDEO] = g->head;
            }
        }
        v->at[RELAY_AUDIO] = v->at[RELAY_VIDEO];
        relay_out_flush(r);
        return;
    }
    pump_track(r, v, now, RELAY_AUDIO, UINT32_MAX); /* sound is never held back */
    pump_track(r, v, now, RELAY_VIDEO, pace(v, now));
    v->catching = v->catching && v->at[RELAY_VIDEO] < g->head;
    r->catching |= v->catching;
    relay_out_flush(r);
}

/* ---- Starting, and starting again. */

static void start_at(struct relay_viewer *v, const struct relay_key *k)
{
    const struct relay_ring *g = &v->end.session->ring;
    piece_open(&v->out[RELAY_VIDEO], k->from, k->params ? 1 : 0);
    v->params_due = k->params;
    v->key_timestamp = k->timestamp;
    v->at[RELAY_VIDEO] = k->first_at;
    v->wait_key = v->in_frame = false;
    v->catching = g->head - k->first_at > 2 * RELAY_PACE_PACKETS;
}

void relay_viewer_join(struct relay *r, struct relay_viewer *v)
{
    struct relay_session *s = v->end.session;
    struct relay_out *o = &v->out[RELAY_VIDEO];
    const struct relay_key *k = &s->key;
    v->at[RELAY_VIDEO] = v->at[RELAY_AUDIO] = s->ring.head;
    v->wait_key = true;
    v->paced = (struct pl_mono){ INT64_MIN / 2 };
    relay_want_key(s);
    /* What it was sent already is not sent again: its time would run backwards. */
    if (!k->valid || !relay_ring_at(&s->ring, k->first_at) || (o->pieces_n && k->from < o->sent_high))
        return;
    bool far = s->ring.head - k->first_at > RELAY_REPLAY_MOST;
    start_at(v, k);
    if (far) { /* the picture now; the motion from the fresh key frame on */
        newest(o)->until = k->until;
        o->open = false;
        v->wait_key = true;
    }
    r->catching |= v->catching;
}

/* A jump leaves no half frame behind: what is left of the one that was being paced goes out at once. */
static void finish_frame(struct relay *r, struct relay_viewer *v, struct pl_mono now, uint64_t before)
{
    const struct relay_ring *g = &v->end.session->ring;
    while (v->in_frame && v->at[RELAY_VIDEO] < before) {
        const struct relay_entry *e = relay_ring_at(g, v->at[RELAY_VIDEO]++);
        if (!e)
            return;
        if (e->track == RELAY_VIDEO)
            (void)send_entry(r, v, now, e);
    }
}

void relay_viewer_key(struct relay *r, struct relay_viewer *v, struct pl_mono now, const struct relay_key *k)
{
    if (!v->end.connected || v->paused)
        return;
    /* One that is still far behind meets the live picture here; one that is nearly there plays on. */
    bool jump = v->catching && v->end.session->ring.head - v->at[RELAY_VIDEO] > 2 * RELAY_PACE_PACKETS && v->at[RELAY_VIDEO] < k->first_at;
    if (jump)
        finish_frame(r, v, now, k->first_at);
    if (v->wait_key || jump)
        start_at(v, k);
}

void relay_viewer_pause(struct relay_viewer *v)
{
    v->paused = true;
    v->catching = v->params_due = false;
    for (unsigned t = 0; t < RELAY_TRACKS; t++)
        piece_close(&v->out[t]);
}

/* ---- RTCP. */

void relay_viewer_sr(struct relay *r, struct relay_viewer *v, unsigned track)
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
    relay_out_one(r, &v->end.addr, p, n);
}

void relay_viewer_rtcp(struct relay *r, struct relay_viewer *v, const uint8_t *p, size_t n)
{
    struct pl_rd rd = pl_rd_of(p, n);
    struct rtcp_item it;
    (void)r;
    while (rtcp_next(&rd, &it) == PL_OK && it.type != RTCP_END)
        if ((it.type == RTCP_PLI || it.type == RTCP_FIR) && it.media_ssrc == v->out[RELAY_VIDEO].conf.ssrc)
            relay_want_key(v->end.session);
}
