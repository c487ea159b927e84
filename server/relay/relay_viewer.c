#include "relay_private.h"

/* ---- From source numbers to out numbers. An out number is given to one packet and never again (S-M6). */

static struct relay_piece *newest(struct relay_out *o) { return &o->pieces[(o->pieces_n - 1) % RELAY_PIECES]; }

static void piece_close(struct relay_out *o)
{
    if (o->pieces_n && newest(o)->until > o->sent_high)
        newest(o)->until = o->sent_high; /* what was not sent by now never will be: its out numbers belong to the next piece */
    o->open = false;
}

/* Numbers from `from` on go out, contiguous with what went out before. */
static struct relay_piece *piece_open(struct relay_out *o, uint64_t from)
{
    piece_close(o);
    o->pieces_n++;
    *newest(o) = (struct relay_piece){ .from = from, .until = UINT64_MAX, .base = o->next };
    o->sent_high = from;
    o->open = true;
    return newest(o);
}

const struct relay_piece *relay_piece_of(const struct relay_out *o, uint64_t seq)
{
    unsigned kept = o->pieces_n < RELAY_PIECES ? o->pieces_n : RELAY_PIECES;
    for (unsigned i = 0; i < kept; i++) {
        const struct relay_piece *p = &o->pieces[(o->pieces_n - 1 - i) % RELAY_PIECES];
        if (seq >= p->from && seq < p->until)
            return p;
    }
    return NULL;
}

/* ---- Packets. */

static uint32_t time_of(const struct relay_piece *p, uint32_t timestamp)
{
    uint32_t before = p->squeeze_to - timestamp;
    if (p->squeeze_den == 0 || (int32_t)before <= 0)
        return timestamp;
    return p->squeeze_to - (uint32_t)((uint64_t)before * p->squeeze_num / p->squeeze_den);
}

/* On every packet of a viewer or on none, so that a run's packets stay of one size. */
static size_t put_ext(struct relay_viewer *v, struct pl_mono now, size_t payload_n, uint8_t *p)
{
    uint32_t time = (uint32_t)((((uint64_t)now.us << 18) / PL_SECOND) & 0xffffff); /* 6.18 seconds */
    uint8_t value[3] = { (uint8_t)(time >> 16), (uint8_t)(time >> 8), (uint8_t)time };
    if (!v->ext_time) {
        uint16_t seq = v->transport_seq++;
        relay_cc_sent(v->cc, now, seq, payload_n);
        value[0] = (uint8_t)(seq >> 8);
        value[1] = (uint8_t)seq;
    }
    return rtp_ext_write_one(p, v->ext, value, v->ext_time ? 3 : 2);
}

size_t relay_viewer_head(struct relay_viewer *v, struct pl_mono now, const struct relay_entry *e, const struct relay_piece *piece, bool rtx, uint8_t *p)
{
    const struct relay_out *o = &v->out[e->track];
    uint16_t number = (uint16_t)(piece->base + (e->seq - piece->from));
    struct rtp_header h = { .payload_type = o->conf.payload_type, .marker = e->marker, .seq = number, .timestamp = time_of(piece, e->timestamp) + o->ts_offset,
        .ssrc = o->conf.ssrc };
    size_t n = RTP_HEADER;
    if (rtx) {
        h.payload_type = v->resend.payload_type;
        h.ssrc = v->resend.ssrc;
        h.seq = (uint16_t)v->resend.next++;
    }
    rtp_write(&h, p);
    if (v->ext)
        n += put_ext(v, now, e->n, p);
    if (rtx) {
        p[n++] = (uint8_t)(number >> 8);
        p[n++] = (uint8_t)number;
    }
    return n;
}

enum { EXTRA = 12 + PL_SRTP_RTP_OVERHEAD }; /* extension, tag */

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
    if (!v->out[e->track].sr_sent)
        relay_viewer_sr(r, v, now, e->track);
}

static void count_wait(struct relay *r, int64_t us)
{
    unsigned k = 0;
    while (k < RELAY_WAITS - 1 && us > relay_wait_us[k])
        k++;
    r->stats.paced[k]++;
}

/* What comes next cannot follow what went out: start again, the picture at a key frame. */
static void start_over(struct relay_viewer *v, unsigned track)
{
    piece_close(&v->out[track]);
    if (track != RELAY_VIDEO)
        return;
    v->wait_key = true;
    v->catching = v->jump = false;
    relay_want_key(v->end.session);
}

static void send_entry(struct relay *r, struct relay_viewer *v, struct pl_mono now, const struct relay_entry *e)
{
    struct relay_out *o = &v->out[e->track];
    if (e->track == RELAY_AUDIO && !o->open && o->conf.ssrc)
        (void)piece_open(o, e->seq);
    const struct relay_piece *piece = relay_piece_of(o, e->seq);
    if (!piece)
        return;
    uint64_t number = piece->base + (e->seq - piece->from);
    if (number >= o->next) {
        if (number - o->next > RELAY_NUMBERS_MOST) {
            start_over(v, e->track);
            return;
        }
        v->gaps += e->track == RELAY_VIDEO ? number - o->next : 0;
        o->next = number + 1; /* before anything can fail: a number is given once */
    } else if (e->track == RELAY_VIDEO) {
        v->gaps -= v->gaps > 0;
    }
    if (e->seq >= o->sent_high)
        o->sent_high = e->seq + 1;
    if (e->track == RELAY_VIDEO)
        v->in_frame = !e->marker;
    if (!v->catching)
        count_wait(r, pl_mono_sub(now, (struct pl_mono){ e->at_us }));
    uint8_t *p = relay_out_room(r, &v->end.addr, RTP_HEADER + e->n + EXTRA);
    size_t n = relay_viewer_head(v, now, e, piece, /* rtx= */ false, p);
    if (pl_srtp_protect_rtp_from(v->end.out, p, &n, relay_ring_payload(&v->end.session->ring, e), e->n, n + e->n + PL_SRTP_RTP_OVERHEAD) != PL_OK) {
        r->stats.not_sent++;
        return;
    }
    relay_out_took(r, n);
    v->credit -= n > RELAY_COST ? (int64_t)n : RELAY_COST;
    o->packets++;
    o->bytes += e->n;
    r->stats.packets_out++;
    r->stats.bytes_out += n;
    if (e->track == RELAY_VIDEO && e->marker) {
        if (!v->broken && v->gaps == 0)
            r->stats.freezes_out += relay_flow_picture(&v->flow, now);
        v->gaps = 0;
    }
    if (!v->media_said || !v->key_said || !o->sr_sent)
        said(r, v, now, e);
}

/* ---- The pacer (V-E4): what may go out in 5 ms, at a multiple of the source's own rate, so that a burst does not drown in a queue on the way. */

/* Replayed motion comes at 1.5 times its own speed at most (V-A4); everything else as fast as a picture needs to be there soon. */
static uint64_t pace_of(const struct relay_viewer *v)
{
    const struct relay_session *s = v->end.session;
    uint64_t fast = s->rate * 5 / 2, replay = s->rate * 3 / 2;
    fast = fast > RELAY_PACE_LEAST ? fast : RELAY_PACE_LEAST;
    bool replaying = v->catching && v->out[RELAY_VIDEO].sent_high >= v->key_until && s->rate;
    return replaying ? replay : fast;
}

static void fill(struct relay_viewer *v, struct pl_mono now)
{
    uint64_t pace = pace_of(v);
    int64_t most = (int64_t)(pace * RELAY_PACE / PL_SECOND), since = pl_mono_sub(now, v->paced);
    if (!v->catching && most < RELAY_BURST)
        most = RELAY_BURST;
    int64_t more = since > PL_SECOND ? most : (int64_t)(pace * (uint64_t)since / PL_SECOND);
    v->paced = now;
    v->credit = v->credit + more > most ? (v->credit > most ? v->credit : most) : v->credit + more;
}

static void put_behind(struct relay *r, struct relay_viewer *v)
{
    if (v->behind)
        return;
    v->behind = true;
    v->next_behind = r->behind;
    r->behind = v;
}

/* The ring's bytes between the viewer and the head. */
static uint64_t distance(const struct relay_viewer *v)
{
    const struct relay_ring *g = &v->end.session->ring;
    const struct relay_entry *e = relay_ring_at(g, v->at[RELAY_VIDEO]);
    return e ? g->end - e->start : 0;
}

static void start_at(struct relay_viewer *v, struct pl_mono now, const struct relay_key *k)
{
    (void)piece_open(&v->out[RELAY_VIDEO], k->from);
    v->key_timestamp = k->timestamp;
    v->key_from = k->from;
    v->key_until = k->until;
    v->key_at = v->key_again_at = now;
    v->at[RELAY_VIDEO] = k->first_at;
    v->wait_key = v->in_frame = false;
    v->catching = distance(v) > RELAY_BURST;
}

/* Where it stood was overwritten: start again at a key frame. */
static void fell_out(struct relay *r, struct relay_viewer *v)
{
    r->stats.not_sent++;
    start_over(v, RELAY_VIDEO);
    v->at[RELAY_VIDEO] = v->end.session->ring.head;
}

/* V-E4: a jump leaves no half frame behind, and is no burst: the frame at which the viewer stood has gone out at its pace. One that has come so far by itself plays on. */
static void jump(struct relay_viewer *v, struct pl_mono now)
{
    const struct relay_key *k = &v->jump_to;
    v->jump = false;
    if ((v->wait_key || v->at[RELAY_VIDEO] < k->first_at) && relay_ring_at(&v->end.session->ring, k->first_at))
        start_at(v, now, k);
}

static void pump_track(struct relay *r, struct relay_viewer *v, struct pl_mono now, unsigned track)
{
    const struct relay_ring *g = &v->end.session->ring;
    while (v->at[track] < g->head && (track == RELAY_AUDIO || v->credit > 0)) {
        const struct relay_entry *e = relay_ring_at(g, v->at[track]++);
        if (e && e->track == track)
            send_entry(r, v, now, e);
        else if (!e && track == RELAY_VIDEO)
            fell_out(r, v);
    }
}

/* The rest of the frame before the jump. */
static void pump_jump(struct relay *r, struct relay_viewer *v, struct pl_mono now)
{
    const struct relay_ring *g = &v->end.session->ring;
    while (v->jump && v->at[RELAY_VIDEO] < g->head && v->credit > 0) {
        if (!v->in_frame || v->at[RELAY_VIDEO] >= v->jump_to.first_at) {
            jump(v, now);
            return;
        }
        const struct relay_entry *e = relay_ring_at(g, v->at[RELAY_VIDEO]++);
        if (!e)
            fell_out(r, v);
        else if (e->track == RELAY_VIDEO)
            send_entry(r, v, now, e);
    }
}

/* Live: one walk, in the order of arrival. */
static void pump_both(struct relay *r, struct relay_viewer *v, struct pl_mono now)
{
    const struct relay_ring *g = &v->end.session->ring;
    while (v->at[RELAY_VIDEO] < g->head && v->credit > 0) {
        const struct relay_entry *e = relay_ring_at(g, v->at[RELAY_VIDEO]++);
        if (e)
            send_entry(r, v, now, e);
        else
            fell_out(r, v);
    }
    v->at[RELAY_AUDIO] = v->at[RELAY_VIDEO];
}

void relay_viewer_pump(struct relay *r, struct relay_viewer *v, struct pl_mono now)
{
    const struct relay_ring *g = &v->end.session->ring;
    if (!v->end.connected || v->paused)
        return;
    bool wait = v->behind && pl_mono_sub(now, v->paced) < RELAY_PACE;
    if (!wait) {
        fill(v, now);
        if (v->at[RELAY_VIDEO] == v->at[RELAY_AUDIO])
            pump_both(r, v, now);
    }
    if (v->at[RELAY_AUDIO] < g->head)
        pump_track(r, v, now, RELAY_AUDIO); /* sound is never held back */
    if (!wait && v->jump)
        pump_jump(r, v, now);
    if (!wait && v->at[RELAY_VIDEO] < g->head)
        pump_track(r, v, now, RELAY_VIDEO);
    if (v->at[RELAY_VIDEO] < g->head)
        put_behind(r, v);
    else
        v->catching = false;
    relay_out_flush(r);
}

void relay_viewer_wake(struct relay *r, struct relay_viewer *v, struct pl_mono now)
{
    v->behind = false;
    if (pl_mono_sub(now, v->paced) < RELAY_PACE / 2) /* it was served between two wake-ups */
        put_behind(r, v);
    else
        relay_viewer_pump(r, v, now);
}

/* ---- Starting, and starting again. */

/* V-A4: `frames` frames from the key frame to the newest one get times 10 ms apart that end at the newest one's own: what is played next is live. */
static void squeeze(struct relay_piece *p, const struct relay_session *s, const struct relay_key *k)
{
    enum { STEP = 900 };
    uint32_t span = s->au.timestamp - k->timestamp;
    uint64_t frames = s->au.frame - k->frame;
    if (frames == 0 || frames * STEP >= span || span > INT32_MAX)
        return;
    p->squeeze_to = s->au.timestamp;
    p->squeeze_den = span;
    p->squeeze_num = (uint32_t)(frames * STEP);
}

/* The key frame that is just coming in counts as soon as it can be started at: it is not missed by who comes in its middle (V-A2). */
static const struct relay_key *key_for(const struct relay_session *s, struct relay_key *buf)
{
    return relay_source_key_now(s, buf) ? buf : &s->key;
}

void relay_viewer_join(struct relay_viewer *v, struct pl_mono now)
{
    struct relay_session *s = v->end.session;
    struct relay_out *o = &v->out[RELAY_VIDEO];
    struct relay_key buf;
    const struct relay_key *k = key_for(s, &buf);
    v->at[RELAY_VIDEO] = v->at[RELAY_AUDIO] = s->ring.head;
    v->wait_key = true;
    v->jump = false;
    v->credit = RELAY_BURST;
    v->paced = now;
    if (!o->conf.ssrc)
        return;
    if (k != &buf)
        relay_want_key(s);
    /* What it was sent already is not sent again: its time would run backwards. */
    if (!k->valid || !relay_ring_at(&s->ring, k->first_at) || (o->pieces_n && k->from < o->sent_high))
        return;
    start_at(v, now, k);
    struct relay_piece *p = newest(o);
    if (s->ring.head - k->first_at > RELAY_REPLAY_MOST && !s->no_key_frames) { /* the picture now; the motion from the fresh key frame on */
        p->until = k->until;
        p->squeeze_to = s->au.timestamp;
        p->squeeze_den = 1;
        o->open = false;
        v->wait_key = true;
    } else {
        squeeze(p, s, k);
    }
}

void relay_viewer_key(struct relay_viewer *v, struct pl_mono now, const struct relay_key *k)
{
    if (!v->end.connected || v->paused || !v->out[RELAY_VIDEO].conf.ssrc)
        return;
    v->broken = false;
    v->key_at.us = 0; /* what it started at is over */
    /* One that is still far behind meets the live picture here; one that is nearly there plays on. */
    bool far = v->catching && v->at[RELAY_VIDEO] < k->first_at && distance(v) > RELAY_NEAR;
    v->jump = far && v->in_frame;
    if (v->jump)
        v->jump_to = *k;
    else if (v->wait_key || far || k->from > v->out[RELAY_VIDEO].sent_high + RELAY_NUMBERS_MOST)
        start_at(v, now, k);
}

void relay_viewer_pause(struct relay_viewer *v)
{
    v->paused = true;
    v->catching = v->jump = false;
    for (unsigned t = 0; t < RELAY_TRACKS; t++)
        piece_close(&v->out[t]);
}
