/* A peer's keys: with its command (native), or from a DTLS handshake that happens elsewhere (WebRTC). */
#include "relay_private.h"
#include "secure.h"

/* ---- S-M6: a key is used by one leg in one direction, once. What came before is known by a digest, so that nothing secret is kept for it. */

static enum pl_err key_is_new(struct relay_session *s, const uint8_t *key, size_t n)
{
    uint8_t sum[32];
    uint64_t digest;
    secure_sha256((struct pl_str){ (const char *)key, n }, sum);
    memcpy(&digest, sum, sizeof digest);
    secure_wipe(sum, sizeof sum);
    if (s->keys_n == PL_COUNT(s->keys))
        return PL_NODE_FULL;
    for (unsigned i = 0; i < s->keys_n; i++)
        if (s->keys[i] == digest)
            return PL_INVALID_REQUEST;
    s->keys[s->keys_n++] = digest;
    return PL_OK;
}

static void add_ssrc(struct pl_srtp_conf *c, uint32_t ssrc)
{
    if (ssrc)
        c->ssrcs[c->ssrcs_n++] = ssrc;
}

/* Media comes from the source under its SSRCs and goes to viewers under theirs; the other way there is only RTCP (and talk). */
static enum pl_err set_keys(struct relay_end *end, enum pl_srtp_suite suite, const uint8_t *receive_key, const uint8_t *send_key)
{
    struct relay_session *s = end->session;
    size_t n = pl_srtp_key_bytes(suite);
    enum pl_err e = key_is_new(s, receive_key, n);
    if (e == PL_OK)
        e = key_is_new(s, send_key, n);
    if (e != PL_OK)
        return e;
    struct pl_srtp_conf in = { .suite = suite, .receive = true, .key = receive_key, .key_n = n }, out = { .suite = suite, .key = send_key, .key_n = n };
    if (end->viewer) {
        for (unsigned t = 0; t < RELAY_TRACKS; t++)
            add_ssrc(&out, end->viewer->out[t].conf.ssrc);
        if (end->assoc)
            add_ssrc(&out, end->assoc->conf.rtx.ssrc);
    } else {
        bool latch = s->tracks[RELAY_VIDEO].conf.latch || s->tracks[RELAY_AUDIO].conf.latch; /* then any may come */
        for (unsigned t = 0; t < RELAY_TRACKS && !latch; t++)
            add_ssrc(&in, s->tracks[t].conf.ssrc);
        add_ssrc(&out, s->talk_ssrc);
    }
    e = pl_srtp_new(&in, &end->in);
    return e == PL_OK ? pl_srtp_new(&out, &end->out) : e;
}

/* ---- Associations. The id's lower bits say whose it is, the upper ones that it is this one. */

#define WHOSE_BITS 20

static bool start(struct relay *r, struct relay_end *end)
{
    unsigned whose = end->session->slot * RELAY_ENDS + (end->viewer ? 1 + end->viewer->slot : 0);
    end->assoc->id = ++r->assocs << WHOSE_BITS | whose;
    struct relay_dtls_out out = { .kind = RELAY_DTLS_START, .assoc = end->assoc->id, .webrtc = &end->assoc->conf };
    if (r->sink->dtls(r->sink, &out))
        return true;
    end->assoc->id = 0;
    return false;
}

static void stop(struct relay *r, struct relay_end *end)
{
    struct relay_dtls_out out = { .kind = RELAY_DTLS_END, .assoc = end->assoc->id };
    end->assoc->id = 0;
    if (out.assoc && r->sink) /* relay_free has no sink: then everything ends */
        (void)r->sink->dtls(r->sink, &out);
}

static struct relay_end *end_of(const struct relay *r, uint64_t assoc)
{
    unsigned whose = (unsigned)(assoc & ((1U << WHOSE_BITS) - 1)), slot = whose / RELAY_ENDS, which = whose % RELAY_ENDS;
    struct relay_session *s = slot < r->conf.max_sessions ? r->sessions[slot] : NULL;
    if (!s || assoc == 0 || (which && !s->viewers[which - 1]))
        return NULL;
    struct relay_end *end = which ? &s->viewers[which - 1]->end : &s->source;
    return end->assoc && end->assoc->id == assoc ? end : NULL;
}

static bool same(uint32_t a, uint32_t b) { return a && a == b; }

static bool ssrcs_distinct(const struct relay_leg *l)
{
    uint32_t video = l->video.ssrc, audio = l->audio.ssrc, talk = l->talk.ssrc, rtx = l->webrtc.on ? l->webrtc.rtx.ssrc : 0;
    return !same(video, audio) && !same(talk, video) && !same(talk, audio) && !same(rtx, video) && !same(rtx, audio) && !same(rtx, talk);
}

enum pl_err relay_end_init(struct relay *r, struct relay_end *end, const struct relay_leg *leg, struct pl_mono now)
{
    end->life = now;
    /* A publisher may leave out its SSRCs; a viewer may have no video, but then it listens. */
    bool named = leg->video.ssrc || (end->viewer ? leg->audio.ssrc != 0 && !leg->audio.latch && !leg->video.latch : leg->webrtc.on && leg->video.latch);
    if (!named || (leg->plain && leg->webrtc.on) || !ssrcs_distinct(leg))
        return PL_INVALID_REQUEST;
    if (!leg->plain && relay_find_ufrag(r, pl_str_of(leg->ice.ufrag)))
        return PL_INVALID_REQUEST;
    if (!leg->webrtc.on) {
        enum pl_err e = set_keys(end, leg->suite, leg->receive_key, leg->send_key);
        if (e == PL_OK && !leg->plain)
            relay_name_add(r, end, 0, &leg->ice);
        return e;
    }
    if (!r->sink->dtls)
        return PL_UNAVAILABLE;
    end->assoc = pl_heap(sizeof *end->assoc);
    if (!end->assoc)
        return PL_NO_MEMORY;
    end->assoc->conf = leg->webrtc;
    end->assoc->held = pl_heap(sizeof *end->assoc->held);
    end->assoc->media = end->viewer ? NULL : pl_heap(sizeof *end->assoc->media);
    if (!end->assoc->held || (!end->viewer && !end->assoc->media))
        return PL_NO_MEMORY;
    if (!start(r, end))
        return PL_OVERLOADED;
    relay_name_add(r, end, 0, &leg->ice);
    return PL_OK;
}

void relay_end_done(struct relay *r, struct relay_end *end)
{
    if (end->assoc) {
        stop(r, end);
        relay_early_done(r, end->assoc);
        pl_heap_free(end->assoc->held);
        pl_heap_free(end->assoc->media);
    }
    relay_unbind(r, end);
    for (unsigned i = 0; i < PL_COUNT(end->names); i++)
        relay_name_drop(r, &end->names[i]);
    end->assoc = pl_heap_free(end->assoc);
    end->in = pl_srtp_free(end->in);
    end->out = pl_srtp_free(end->out);
}

enum pl_err relay_end_restart(struct relay *r, struct relay_end *end, const struct ice_cred *cred)
{
    const struct relay_name *had = relay_find_ufrag(r, pl_str_of(cred->ufrag));
    if (had)
        return had->end == end ? PL_OK : PL_INVALID_REQUEST;
    unsigned next = !end->name;
    relay_name_drop(r, &end->names[next]); /* a restart that nobody followed */
    relay_name_add(r, end, next, cred);
    return PL_OK;
}

void relay_end_proved(struct relay *r, struct relay_name *name)
{
    struct relay_end *end = name->end;
    if (name == &end->names[end->name])
        return;
    relay_name_drop(r, &end->names[end->name]);
    end->name = !end->name;
}

void relay_end_nominated(struct relay *r, struct relay_end *end, const struct ice_addr *addr)
{
    struct relay_assoc *a = end->assoc;
    bool news = !end->nominated || !ice_addr_eq(&end->addr, addr);
    relay_bind(r, end, addr);
    if (a && !end->nominated)
        relay_early_done(r, a);
    end->nominated = true;
    if (a && a->id && news && !end->out) {
        struct relay_dtls_out out = { .kind = RELAY_DTLS_PATH, .assoc = a->id };
        (void)r->sink->dtls(r->sink, &out);
    }
    for (unsigned i = 0; a && a->held && i < RELAY_FLIGHT && a->held->n[i]; i++) {
        relay_out_one(r, &end->addr, a->held->p[i], a->held->n[i]);
        a->held->n[i] = 0;
    }
}

/* Its handshake is over on both sides: nobody will ask for our last flight again. */
void relay_end_heard(struct relay *r, struct relay_end *end)
{
    if (end->assoc && end->assoc->id)
        stop(r, end);
}

void relay_end_tick(struct relay *r, struct relay_end *end, struct pl_mono now)
{
    if (end->assoc && end->nominated) /* nothing waits any more */
        end->assoc->held = pl_heap_free(end->assoc->held);
    if (end->assoc && end->assoc->id && end->assoc->finished && pl_mono_sub(now, end->assoc->finished_at) >= RELAY_ASSOC_LEFT)
        stop(r, end);
}

/* One that still shakes hands comes first: several peers may stand behind one address. */
bool relay_end_dtls(struct relay *r, const struct relay_in *in)
{
    const struct relay_assoc *whose = NULL;
    for (const struct relay_end *e = relay_first_at(r, &in->from); e; e = e->next_addr)
        if (e->assoc && e->assoc->id && ice_addr_eq(&e->addr, &in->from) && (!whose || whose->finished))
            whose = e->assoc;
    for (const struct relay_early *e = relay_early_at(r, &in->from); e && !(whose && !whose->finished); e = e->next)
        if (e->assoc->id && ice_addr_eq(&e->addr, &in->from))
            whose = e->assoc;
    if (!whose || in->n > RELAY_PACKET_MAX)
        return false;
    struct relay_dtls_out out = { .kind = RELAY_DTLS_DATA, .assoc = whose->id, .p = in->p, .n = in->n };
    (void)r->sink->dtls(r->sink, &out);
    return true;
}

/* ---- What comes back. */

static void send_or_hold(struct relay *r, struct relay_end *end, const struct relay_dtls_in *in)
{
    struct relay_assoc *a = end->assoc;
    unsigned i = 0;
    if (end->nominated) {
        relay_out_one(r, &end->addr, in->p, in->n);
        return;
    }
    while (i < RELAY_FLIGHT && a->held->n[i])
        i++;
    if (i == RELAY_FLIGHT || in->n > RELAY_PACKET_MAX) /* the first flight is held; what comes again says the same */
        return;
    memcpy(a->held->p[i], in->p, in->n);
    a->held->n[i] = (uint16_t)in->n;
}

static void failed(struct relay *r, struct relay_end *end, struct pl_mono now, const char *code)
{
    if (!end->viewer) {
        relay_session_end(r, end->session, now, code);
        return;
    }
    relay_event_add(r, now, RELAY_EV_VIEWER_GONE, end->session, end->viewer, code);
    relay_viewer_free(r, end->viewer);
}

static void finished(struct relay *r, struct relay_end *end, struct pl_mono now)
{
    end->assoc->finished = true;
    end->assoc->finished_at = now;
    relay_step_held(r, end->assoc, &end->addr, now);
}

static void on_keys(struct relay *r, struct relay_end *end, struct pl_mono now, const struct relay_dtls_in *in)
{
    if (end->out)
        return;
    enum pl_err e = set_keys(end, in->suite, in->receive_key, in->send_key);
    if (e != PL_OK) {
        failed(r, end, now, e == PL_INVALID_REQUEST ? "dtls_refused" : "dtls_no_memory");
        return;
    }
    if (in->peer_finished)
        finished(r, end, now);
    relay_connected(r, end, now);
}

void relay_dtls(struct relay *r, struct pl_mono now, const struct relay_dtls_in *in, struct relay_sink *sink)
{
    struct relay_end *end = end_of(r, in->assoc);
    if (!end)
        return;
    r->sink = sink;
    switch (in->kind) {
    case RELAY_DTLS_SEND: send_or_hold(r, end, in); break;
    case RELAY_DTLS_KEYS: on_keys(r, end, now, in); break;
    case RELAY_DTLS_FINISHED:
        if (end->out && !end->assoc->finished)
            finished(r, end, now);
        break;
    case RELAY_DTLS_FAILED: failed(r, end, now, in->code); break;
    }
    relay_out_flush(r);
    r->sink = NULL;
}
