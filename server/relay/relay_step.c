#include "relay_private.h"
#include "rtcp.h"

/* ---- Out: datagrams to one address in a row become one run. */

void relay_out_flush(struct relay *r)
{
    if (r->out_n == 0)
        return;
    struct relay_run run = { r->out_to, r->out, r->out_n, r->out_segment };
    r->sink->send(r->sink, &run);
    r->out_n = r->out_segment = r->out_segments = 0;
}

uint8_t *relay_out_room(struct relay *r, const struct ice_addr *to, size_t most)
{
    if (r->out_n && (r->out_to != to || r->out_n + most > RELAY_OUT_BYTES || r->out_segments == RELAY_OUT_SEGMENTS))
        relay_out_flush(r);
    r->out_to = to;
    return r->out + r->out_n;
}

void relay_out_took(struct relay *r, size_t n)
{
    if (r->out_n == 0) {
        r->out_segment = n;
    } else if (n > r->out_segment) { /* a larger one cannot stand in this run: it starts the next */
        size_t at = r->out_n;
        relay_out_flush(r);
        memmove(r->out, r->out + at, n);
        r->out_segment = n;
    }
    r->out_n += n;
    r->out_segments++;
    if (n < r->out_segment) /* a shorter one is always the last */
        relay_out_flush(r);
}

void relay_out_one(struct relay *r, const struct ice_addr *to, const uint8_t *p, size_t n)
{
    relay_out_flush(r);
    struct relay_run run = { to, p, n, n };
    r->sink->send(r->sink, &run);
}

/* ---- In: by first byte, then by whom it claims to be from, then by proof. */

static void proved(struct relay *r, struct relay_end *end, struct pl_mono now)
{
    end->life = now;
    if (end->viewer && end->viewer->paused) {
        end->viewer->paused = false;
        relay_viewer_join(end->viewer, now);
        relay_viewer_pump(r, end->viewer, now);
        relay_governor(r, end->session, now);
    }
}

/* SRTP of this peer may be looked at: its keys are there, and it has proved that they are its own. */
static bool believed(const struct relay_end *end) { return end->in && (!end->assoc || end->assoc->finished); }

void relay_connected(struct relay *r, struct relay_end *end, struct pl_mono now)
{
    if (end->connected || !end->out || !(end->nominated || end->session->plain))
        return;
    end->connected = true;
    relay_event_add(r, now, end->viewer ? RELAY_EV_VIEWER_CONNECTED : RELAY_EV_SOURCE_CONNECTED, end->session, end->viewer, NULL);
    if (end->viewer) {
        relay_viewer_join(end->viewer, now);
        relay_viewer_pump(r, end->viewer, now);
        relay_governor(r, end->session, now);
    }
}

static void on_stun(struct relay *r, struct pl_mono now, const struct relay_in *in)
{
    struct stun_msg msg;
    struct pl_str ufrag;
    if (stun_parse(in->p, in->n, &msg) != PL_OK || !ice_lite_ufrag(&msg, &ufrag)) {
        r->stats.unknown++;
        return;
    }
    struct relay_name *name = relay_find_ufrag(r, ufrag);
    struct relay_end *end = name ? name->end : NULL;
    if (!end) {
        r->stats.unknown++;
        return;
    }
    uint8_t answer[STUN_MAX];
    struct ice_lite_result res;
    enum pl_err e = ice_lite_check(r->mac, &name->cred, &end->seen, &msg, &in->from, answer, sizeof answer, &res);
    if (e != PL_OK) {
        if (e == PL_REPLAY)
            r->stats.replayed++;
        else
            r->stats.unproved++;
        return;
    }
    r->stats.checks++;
    relay_out_one(r, &in->from, answer, res.answer_n);
    if (res.again)
        return;
    relay_end_proved(r, name);
    if (res.nominated)
        relay_end_nominated(r, end, &in->from);
    else if (end->assoc && !end->nominated)
        relay_early_add(r, end, &in->from);
    proved(r, end, now);
    relay_connected(r, end, now);
}

static void refused(struct relay *r, enum pl_err e)
{
    if (e == PL_REPLAY)
        r->stats.replayed++;
    else
        r->stats.unproved++;
}

static int track_of(const struct relay_session *s, uint32_t ssrc)
{
    for (int i = 0; i < RELAY_TRACKS; i++)
        if (s->tracks[i].conf.ssrc && s->tracks[i].conf.ssrc == ssrc)
            return i;
    return -1;
}

/* The source that sends this SSRC from this address. One hub may have several sources on one socket. */
static struct relay_session *source_of(const struct relay *r, const struct ice_addr *from, uint32_t ssrc)
{
    for (struct relay_end *e = relay_first_at(r, from); e; e = e->next_addr)
        if (!e->viewer && ice_addr_eq(&e->addr, from) && track_of(e->session, ssrc) >= 0)
            return e->session;
    return relay_find_plain(r, ssrc);
}

/* The track of a publisher that did not say which SSRC it will have; -1: none. */
static int latch_of(const struct relay_session *s, uint8_t payload_type)
{
    for (int i = 0; i < RELAY_TRACKS; i++)
        if (s->tracks[i].conf.latch && !s->tracks[i].conf.ssrc && s->tracks[i].conf.payload_type == payload_type)
            return i;
    return -1;
}

static struct relay_session *latching_source(const struct relay *r, const struct ice_addr *from, uint8_t payload_type)
{
    for (struct relay_end *e = relay_first_at(r, from); e; e = e->next_addr)
        if (!e->viewer && ice_addr_eq(&e->addr, from) && latch_of(e->session, payload_type) >= 0)
            return e->session;
    return NULL;
}

static void too_large(struct relay *r, struct relay_session *s, struct pl_mono now)
{
    r->stats.too_large++;
    if (!s->large_said) {
        s->large_said = true;
        relay_event_add(r, now, RELAY_EV_WARNING, s, NULL, "packet_too_large");
    }
}

typedef enum pl_err (*unprotect)(struct pl_srtp *s, uint8_t *p, size_t *n);

/* A viewer is known by its address and proves itself by its key. Several on one address (an app that watches two cameras through one socket) are told apart by trying,
 * each on a copy, because a failed try leaves worthless bytes. NULL: it is nobody's; *last says what the last one failed by. */
static struct relay_end *prove_viewer(struct relay *r, struct pl_mono now, const struct relay_in *in, unprotect f, uint8_t copy[RELAY_PACKET_MAX], size_t *n, enum pl_err *last)
{
    for (struct relay_end *e = relay_first_at(r, &in->from); e; e = e->next_addr) {
        if (!e->viewer || !believed(e) || !ice_addr_eq(&e->addr, &in->from))
            continue;
        memcpy(copy, in->p, in->n);
        *n = in->n;
        *last = f(e->in, copy, n);
        if (*last == PL_OK) {
            proved(r, e, now);
            relay_end_heard(r, e);
            return e;
        }
    }
    return NULL;
}

static void count_failed(struct relay *r, enum pl_err e)
{
    if (e == PL_NOT_FOUND)
        r->stats.unknown++;
    else
        refused(r, e);
}

/* What a viewer says into its microphone: proved, and that is life. Nobody listens to it yet. */
static void on_talk(struct relay *r, struct pl_mono now, const struct relay_in *in)
{
    uint8_t copy[RELAY_PACKET_MAX];
    size_t n;
    enum pl_err e = PL_NOT_FOUND;
    if (in->n <= RELAY_PACKET_MAX && prove_viewer(r, now, in, pl_srtp_unprotect_rtp, copy, &n, &e))
        r->stats.talk_in++;
    else
        count_failed(r, e);
}

/* Its keys are there and its Finished is on its way through the queues: what is full, or too large, is lost as any datagram may be. */
static bool hold(const struct relay_end *end, const struct relay_in *in)
{
    struct relay_held *h = end->in && end->assoc ? end->assoc->media : NULL;
    if (!h || h->n == RELAY_HELD || in->n > RELAY_PACKET_MAX)
        return false;
    memcpy(h->p[h->n], in->p, in->n);
    h->bytes[h->n++] = (uint16_t)in->n;
    return true;
}

static void on_rtp(struct relay *r, struct pl_mono now, struct relay_in *in)
{
    struct rtp_header h;
    if (rtp_peek(in->p, in->n, &h) != PL_OK) {
        r->stats.unknown++;
        return;
    }
    struct relay_session *s = source_of(r, &in->from, h.ssrc);
    if (!s)
        s = latching_source(r, &in->from, h.payload_type);
    if (!s || !believed(&s->source)) {
        if (!s || !hold(&s->source, in))
            on_talk(r, now, in);
        return;
    }
    size_t n = in->n;
    enum pl_err e = pl_srtp_unprotect_rtp(s->source.in, in->p, &n);
    if (e != PL_OK) {
        refused(r, e);
        return;
    }
    if (s->plain && !ice_addr_eq(&s->source.addr, &in->from))
        relay_bind(r, &s->source, &in->from);
    proved(r, &s->source, now);
    relay_end_heard(r, &s->source);
    relay_connected(r, &s->source, now);
    int track = track_of(s, h.ssrc);
    if (track < 0) { /* it proved itself: from now on it is this SSRC */
        track = latch_of(s, h.payload_type);
        s->tracks[track].conf.ssrc = h.ssrc;
    }
    struct rtp_packet pkt;
    if (in->n > RELAY_PACKET_MAX) {
        relay_source_unused(r, s, now, (unsigned)track, &h);
        too_large(r, s, now);
        return;
    }
    if (rtp_parse(in->p, n, &pkt) != PL_OK || pkt.h.payload_type != s->tracks[track].conf.payload_type) {
        relay_source_unused(r, s, now, (unsigned)track, &h);
        r->stats.unknown++;
        return;
    }
    r->stats.packets_in++;
    r->stats.bytes_in += n;
    relay_source_media(r, s, now, (unsigned)track, &pkt);
    if (!s->dirty) {
        s->dirty = true;
        s->next_dirty = r->dirty;
        r->dirty = s;
    }
}

static void on_rtcp(struct relay *r, struct pl_mono now, struct relay_in *in)
{
    uint8_t copy[RELAY_PACKET_MAX];
    enum pl_err e = PL_NOT_FOUND;
    size_t n = in->n;
    if (in->n < 8 || in->n > RELAY_PACKET_MAX) {
        r->stats.unknown++;
        return;
    }
    uint32_t ssrc = (uint32_t)in->p[4] << 24 | (uint32_t)in->p[5] << 16 | (uint32_t)in->p[6] << 8 | in->p[7];
    struct relay_session *s = source_of(r, &in->from, ssrc);
    if (s && believed(&s->source) && ice_addr_eq(&s->source.addr, &in->from)) {
        e = pl_srtp_unprotect_rtcp(s->source.in, in->p, &n);
        if (e == PL_OK) {
            proved(r, &s->source, now);
            relay_end_heard(r, &s->source);
            relay_source_rtcp(r, s, now, in->p, n);
            return;
        }
    } else {
        struct relay_end *end = prove_viewer(r, now, in, pl_srtp_unprotect_rtcp, copy, &n, &e);
        if (end) {
            relay_viewer_rtcp(r, end->viewer, now, copy, n);
            relay_governor(r, end->session, now);
            return;
        }
    }
    count_failed(r, e);
}

/* What the sources sent: viewer by viewer, so that what goes to one address is one run. */
static void pass_on(struct relay *r, struct pl_mono now)
{
    while (r->dirty) {
        struct relay_session *s = r->dirty;
        r->dirty = s->next_dirty;
        s->dirty = false;
        for (unsigned i = 0; i < RELAY_VIEWERS; i++)
            if (s->viewers[i])
                relay_viewer_pump(r, s->viewers[i], now);
        relay_governor(r, s, now);
        relay_ask_again(r, s, now);
    }
}

static void take_in(struct relay *r, struct pl_mono now, struct relay_in *in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        switch (rtp_classify(in[i].p, in[i].n)) {
        case RTP_CLASS_STUN: on_stun(r, now, &in[i]); break;
        case RTP_CLASS_RTP: on_rtp(r, now, &in[i]); break;
        case RTP_CLASS_RTCP: on_rtcp(r, now, &in[i]); break;
        case RTP_CLASS_DTLS:
            if (!relay_end_dtls(r, &in[i]))
                r->stats.unknown++;
            break;
        case RTP_CLASS_OTHER: r->stats.unknown++; break;
        }
    }
}

void relay_step_held(struct relay *r, struct relay_assoc *a, const struct ice_addr *from, struct pl_mono now)
{
    struct relay_held *h = a->media;
    a->media = NULL;
    if (!h)
        return;
    struct relay_in in[RELAY_HELD];
    for (unsigned i = 0; i < h->n; i++)
        in[i] = (struct relay_in){ h->p[i], h->bytes[i], *from };
    take_in(r, now, in, h->n);
    pass_on(r, now);
    explicit_bzero(h, sizeof *h); /* pictures by now */
    pl_heap_free(h);
}

void relay_step(struct relay *r, struct pl_mono now, struct relay_in *in, size_t n, struct relay_sink *sink)
{
    r->sink = sink;
    take_in(r, now, in, n);
    if (sink->verified)
        sink->verified(sink);
    pass_on(r, now);
    relay_out_flush(r);
    r->sink = NULL;
}
