#include "relay_private.h"
#include "secure.h"

/* ---- Tables: buckets that are there from the start, chains through the objects themselves. */

static uint32_t hash_of(const struct relay *r, const void *p, size_t n)
{
    const uint8_t *b = p;
    uint64_t h = r->hash_seed;
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)(h >> 32 ^ h) % RELAY_BUCKETS;
}

struct relay_name *relay_find_ufrag(const struct relay *r, struct pl_str ufrag)
{
    struct relay_name *n = r->by_ufrag[hash_of(r, ufrag.p, ufrag.n)];
    while (n && !pl_str_eqz(ufrag, n->cred.ufrag))
        n = n->next;
    return n;
}

void relay_name_add(struct relay *r, struct relay_end *end, unsigned which, const struct ice_cred *cred)
{
    struct relay_name *n = &end->names[which], **at = &r->by_ufrag[hash_of(r, cred->ufrag, strlen(cred->ufrag))];
    *n = (struct relay_name){ .next = *at, .end = end, .cred = *cred };
    *at = n;
}

void relay_name_drop(struct relay *r, struct relay_name *n)
{
    if (!n->cred.ufrag[0])
        return;
    struct relay_name **at = &r->by_ufrag[hash_of(r, n->cred.ufrag, strlen(n->cred.ufrag))];
    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    secure_wipe(n, sizeof *n);
}

struct relay_end *relay_first_at(const struct relay *r, const struct ice_addr *addr) { return r->by_addr[hash_of(r, addr, sizeof *addr)]; }

struct relay_session *relay_find_plain(const struct relay *r, uint32_t ssrc)
{
    for (struct relay_session *s = r->plain; s; s = s->next_plain)
        for (unsigned t = 0; t < RELAY_TRACKS; t++)
            if (s->tracks[t].conf.ssrc && s->tracks[t].conf.ssrc == ssrc)
                return s;
    return NULL;
}

static struct relay_session *find_session(const struct relay *r, struct pl_uuid id)
{
    struct relay_session *s = r->by_id[hash_of(r, &id, sizeof id)];
    while (s && !pl_uuid_eq(s->ref.live_id, id))
        s = s->next_id;
    return s;
}

void relay_unbind(struct relay *r, struct relay_end *end)
{
    if (end->addr.family == 0)
        return;
    struct relay_end **at = &r->by_addr[hash_of(r, &end->addr, sizeof end->addr)];
    while (*at && *at != end)
        at = &(*at)->next_addr;
    if (*at)
        *at = end->next_addr;
    end->next_addr = NULL;
    end->addr = (struct ice_addr){ .family = 0 };
}

void relay_bind(struct relay *r, struct relay_end *end, const struct ice_addr *addr)
{
    if (ice_addr_eq(&end->addr, addr))
        return;
    relay_unbind(r, end);
    end->addr = *addr;
    struct relay_end **at = &r->by_addr[hash_of(r, addr, sizeof *addr)];
    end->next_addr = *at;
    *at = end;
}

/* ---- Where ends were proved that have no path yet. */

static void early_drop(struct relay *r, struct relay_early *e)
{
    if (e->addr.family == 0)
        return;
    struct relay_early **at = &r->by_early[hash_of(r, &e->addr, sizeof e->addr)];
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    *e = (struct relay_early){ .addr.family = 0 };
}

void relay_early_add(struct relay *r, struct relay_end *end, const struct ice_addr *addr)
{
    struct relay_assoc *a = end->assoc;
    for (unsigned i = 0; i < RELAY_EARLIES; i++)
        if (ice_addr_eq(&a->early[i].addr, addr))
            return;
    struct relay_early *e = &a->early[a->early_next++ % RELAY_EARLIES], **at = &r->by_early[hash_of(r, addr, sizeof *addr)];
    early_drop(r, e);
    *e = (struct relay_early){ .next = *at, .assoc = a, .addr = *addr };
    *at = e;
}

void relay_early_done(struct relay *r, struct relay_assoc *a)
{
    for (unsigned i = 0; i < RELAY_EARLIES; i++)
        early_drop(r, &a->early[i]);
}

const struct relay_early *relay_early_at(const struct relay *r, const struct ice_addr *addr) { return r->by_early[hash_of(r, addr, sizeof *addr)]; }

/* ---- Events. */

const char *relay_event_name(enum relay_event_kind kind)
{
    static const char *const names[] = {
        [RELAY_EV_SOURCE_CONNECTED] = "source_connected", [RELAY_EV_SOURCE_MEDIA] = "source_media", [RELAY_EV_SOURCE_KEYFRAME] = "source_keyframe",
        [RELAY_EV_VIEWER_CONNECTED] = "viewer_connected", [RELAY_EV_VIEWER_MEDIA] = "viewer_media", [RELAY_EV_VIEWER_KEYFRAME] = "viewer_keyframe",
        [RELAY_EV_VIEWER_GONE] = "viewer_gone", [RELAY_EV_ENDED] = "ended", [RELAY_EV_WARNING] = "warning", [RELAY_EV_KEYFRAME_WANTED] = "keyframe_wanted" };
    return names[kind];
}

void relay_event_add(struct relay *r, struct pl_mono now, enum relay_event_kind kind, const struct relay_session *s, const struct relay_viewer *v, const char *code)
{
    if (r->events_n == r->events_cap) {
        r->stats.events_dropped++;
        return;
    }
    struct relay_event *e = &r->events[(r->events_first + r->events_n++) % r->events_cap];
    *e = (struct relay_event){ .kind = kind, .ref = s->ref, .code = code, .at = now };
    if (v)
        memcpy(e->viewer_id, v->id, sizeof e->viewer_id);
}

bool relay_take_event(struct relay *r, struct relay_event *ret)
{
    if (r->events_n == 0)
        return false;
    *ret = r->events[r->events_first];
    r->events_first = (r->events_first + 1) % r->events_cap;
    r->events_n--;
    return true;
}

/* ---- Life of sessions and viewers. */

enum pl_err relay_new(const struct relay_conf *conf, struct relay **ret)
{
    struct relay *r = pl_heap(sizeof *r);
    if (!r)
        return PL_NO_MEMORY;
    r->conf = *conf;
    r->conf.ring_bytes = conf->ring_bytes ? conf->ring_bytes : RELAY_RING_BYTES;
    r->conf.busy_full = conf->busy_full ? conf->busy_full : RELAY_BUSY_FULL;
    r->conf.source_bps = conf->source_bps ? conf->source_bps : RELAY_SOURCE_BPS;
    r->events_cap = 256 + (size_t)conf->max_sessions * (4 + 4 * RELAY_VIEWERS);
    r->sessions = pl_heap(conf->max_sessions * sizeof *r->sessions);
    r->events = pl_heap(r->events_cap * sizeof *r->events);
    enum pl_err e = r->sessions && r->events ? stun_mac_new(&r->mac) : PL_NO_MEMORY;
    if (e != PL_OK) {
        relay_free(r);
        return e;
    }
    pl_rand_fill(conf->rand, &r->hash_seed, sizeof r->hash_seed);
    *ret = r;
    return PL_OK;
}

void relay_viewer_free(struct relay *r, struct relay_viewer *v)
{
    struct relay_session *s = v->end.session;
    for (struct relay_viewer **at = &r->behind; v->behind && *at; at = &(*at)->next_behind)
        if (*at == v) {
            *at = v->next_behind;
            break;
        }
    relay_end_done(r, &v->end);
    if (s->viewers[v->slot] == v) {
        s->viewers[v->slot] = NULL;
        r->stats.viewers--;
    }
    pl_heap_free(v->cc);
    pl_heap_free(v);
}

static void session_free(struct relay *r, struct relay_session *s)
{
    for (unsigned i = 0; i < RELAY_VIEWERS; i++)
        if (s->viewers[i])
            relay_viewer_free(r, s->viewers[i]);
    relay_end_done(r, &s->source);
    struct relay_session **at = &r->by_id[hash_of(r, &s->ref.live_id, sizeof s->ref.live_id)];
    while (*at && *at != s)
        at = &(*at)->next_id;
    if (*at)
        *at = s->next_id;
    for (at = &r->plain; *at && *at != s; at = &(*at)->next_plain)
        ;
    if (*at)
        *at = s->next_plain;
    if (r->sessions[s->slot] == s) {
        r->sessions[s->slot] = NULL;
        r->stats.sessions--;
    }
    relay_ring_done(&s->ring);
    pl_heap_free(s);
}

void relay_session_end(struct relay *r, struct relay_session *s, struct pl_mono now, const char *code)
{
    relay_event_add(r, now, RELAY_EV_ENDED, s, NULL, code);
    r->ended[r->ended_n++ % RELAY_ENDED] = s->ref;
    session_free(r, s);
}

struct relay *relay_free(struct relay *r)
{
    if (r) {
        for (unsigned i = 0; r->sessions && i < r->conf.max_sessions; i++)
            if (r->sessions[i])
                session_free(r, r->sessions[i]);
        stun_mac_free(r->mac);
        pl_heap_free(r->sessions);
        pl_heap_free(r->events);
        secure_wipe(r->out, sizeof r->out);
    }
    return pl_heap_free(r);
}

/* V-G4. Each end that is here costs as much as another, as far as anybody can tell before it streams. */
static bool busy(const struct relay *r)
{
    unsigned ends = r->stats.sessions + r->stats.viewers, new = r->let_in < ends ? r->let_in : ends;
    unsigned each = ends > new ? r->stats.busy / (ends - new) : 0;
    return r->stats.busy + new * (each > RELAY_COST_LEAST ? each : RELAY_COST_LEAST) >= r->conf.busy_full;
}

void relay_load(struct relay *r, unsigned thousandths)
{
    r->stats.busy = thousandths;
    r->let_in = 0;
}

/* Who sends: known when the session opens, or brought by a second OPEN of the same generation. */
static enum pl_err set_source(struct relay *r, struct relay_session *s, const struct relay_leg *leg, struct pl_mono now)
{
    s->tracks[RELAY_VIDEO].conf = leg->video;
    s->tracks[RELAY_AUDIO].conf = leg->audio;
    s->talk_ssrc = leg->talk.ssrc;
    s->plain = leg->plain;
    s->no_key_frames = leg->no_key_frames;
    s->key_patience = RELAY_NO_KEY > 2 * leg->gop_us ? RELAY_NO_KEY : 2 * leg->gop_us;
    struct pl_mono since = s->source.life;
    s->source.session = s;
    enum pl_err e = relay_end_init(r, &s->source, leg, now);
    if (e != PL_OK) { /* another one may come, within the time of the first */
        relay_end_done(r, &s->source);
        s->source = (struct relay_end){ .session = s, .life = since };
        return e;
    }
    s->pending = false;
    if (s->plain) {
        s->next_plain = r->plain;
        r->plain = s;
    }
    return PL_OK;
}

static enum pl_err open_again(struct relay *r, struct relay_session *s, const struct relay_leg *leg, struct pl_mono now)
{
    if (leg->pending)
        return PL_OK;
    if (s->pending)
        return set_source(r, s, leg, now);
    const struct ice_cred *had = &s->source.names[s->source.name].cred;
    bool same = leg->plain ? s->plain && leg->video.ssrc == s->tracks[RELAY_VIDEO].conf.ssrc : strcmp(had->ufrag, leg->ice.ufrag) == 0;
    return same ? PL_OK : PL_VERSION_CONFLICT;
}

static enum pl_err cmd_open(struct relay *r, struct pl_mono now, const struct relay_cmd *c)
{
    for (unsigned i = 0; i < RELAY_ENDED && i < r->ended_n; i++)
        if (pl_uuid_eq(r->ended[i].live_id, c->ref.live_id) && r->ended[i].generation >= c->ref.generation)
            return PL_LIVE_ENDED;
    struct relay_session *old = find_session(r, c->ref.live_id);
    if (old && old->ref.generation >= c->ref.generation)
        return old->ref.generation == c->ref.generation ? open_again(r, old, &c->leg, now) : PL_FENCED;
    if (!old && busy(r)) /* one that only changes its generation is in already */
        return PL_NODE_FULL;
    if (old)
        relay_session_end(r, old, now, "closed");
    unsigned slot = 0;
    while (slot < r->conf.max_sessions && r->sessions[slot])
        slot++;
    if (slot == r->conf.max_sessions)
        return PL_NODE_FULL;
    struct relay_session *s = pl_heap(sizeof *s);
    if (!s)
        return PL_NO_MEMORY;
    s->slot = slot;
    s->ref = c->ref;
    s->expires_at = pl_mono_add(now, c->expires_in_us);
    s->pending = true;
    s->source.life = now;
    enum pl_err e = relay_ring_init(&s->ring, r->conf.ring_bytes);
    if (e == PL_OK && !c->leg.pending)
        e = set_source(r, s, &c->leg, now);
    if (e != PL_OK) {
        session_free(r, s);
        return e;
    }
    struct relay_session **at = &r->by_id[hash_of(r, &s->ref.live_id, sizeof s->ref.live_id)];
    s->next_id = *at;
    *at = s;
    r->sessions[slot] = s;
    r->stats.sessions++;
    r->let_in++;
    return PL_OK;
}

static int find_viewer(const struct relay_session *s, const char *id)
{
    for (unsigned i = 0; i < RELAY_VIEWERS; i++)
        if (s->viewers[i] && strcmp(s->viewers[i]->id, id) == 0)
            return (int)i;
    return -1;
}

static void out_init(struct relay *r, struct relay_out *o, struct relay_track_conf conf)
{
    o->conf = conf;
    /* The lower half: so the receiver's roll-over count starts at 0 even if the first packets are lost or swapped (RFC 3711, 3.3.1). */
    o->next = pl_rand_below(r->conf.rand, 0x8000);
    o->ts_offset = pl_rand_u32(r->conf.rand);
}

/* What the offer and its answer agreed on beyond keys. A peer without RTX gets packets again as they were: then nothing may be on them that changes (S-M6). */
static bool agree(struct relay *r, struct relay_viewer *v, const struct relay_webrtc *w)
{
    if (!w->on || !w->rtx.ssrc)
        return true;
    v->resend.ssrc = w->rtx.ssrc;
    v->resend.payload_type = w->rtx.payload_type;
    v->resend.next = pl_rand_below(r->conf.rand, 0x8000);
    v->ext = w->ext_transport_cc ? w->ext_transport_cc : w->ext_abs_send_time;
    v->ext_time = !w->ext_transport_cc;
    v->cc = w->ext_transport_cc ? pl_heap(sizeof *v->cc) : NULL;
    return !w->ext_transport_cc || v->cc;
}

static enum pl_err cmd_viewer_add(struct relay *r, struct pl_mono now, const struct relay_cmd *c)
{
    struct relay_session *s = find_session(r, c->ref.live_id);
    unsigned slot = 0;
    if (!s)
        return PL_NOT_FOUND;
    if (s->ref.generation != c->ref.generation)
        return PL_FENCED;
    if (c->leg.plain || c->leg.pending || !c->viewer_id[0])
        return PL_INVALID_REQUEST;
    if (find_viewer(s, c->viewer_id) >= 0)
        return PL_OK;
    while (slot < RELAY_VIEWERS && s->viewers[slot])
        slot++;
    if (slot == RELAY_VIEWERS)
        return PL_VIEWERS_FULL;
    if (busy(r))
        return PL_NODE_FULL;
    struct relay_viewer *v = pl_heap(sizeof *v);
    if (!v)
        return PL_NO_MEMORY;
    v->end.session = s;
    v->end.viewer = v;
    v->slot = slot;
    memcpy(v->id, c->viewer_id, sizeof v->id);
    out_init(r, &v->out[RELAY_VIDEO], c->leg.video);
    out_init(r, &v->out[RELAY_AUDIO], c->leg.audio);
    v->wait_key = true;
    enum pl_err e = !agree(r, v, &c->leg.webrtc) ? PL_NO_MEMORY : relay_end_init(r, &v->end, &c->leg, now);
    if (e != PL_OK) {
        relay_viewer_free(r, v);
        return e;
    }
    s->viewers[slot] = v;
    r->stats.viewers++;
    r->let_in++;
    return PL_OK;
}

static enum pl_err cmd_viewer_remove(struct relay *r, struct pl_mono now, const struct relay_cmd *c)
{
    struct relay_session *s = find_session(r, c->ref.live_id);
    int i = s ? find_viewer(s, c->viewer_id) : -1;
    if (i < 0)
        return PL_NOT_FOUND;
    relay_event_add(r, now, RELAY_EV_VIEWER_GONE, s, s->viewers[i], "removed");
    relay_viewer_free(r, s->viewers[i]);
    return PL_OK;
}

static enum pl_err cmd_viewer_restart(struct relay *r, const struct relay_cmd *c)
{
    struct relay_session *s = find_session(r, c->ref.live_id);
    int i = s ? find_viewer(s, c->viewer_id) : -1;
    if (i < 0)
        return PL_NOT_FOUND;
    return s->ref.generation == c->ref.generation ? relay_end_restart(r, &s->viewers[i]->end, &c->leg.ice) : PL_FENCED;
}

/* A source that has not come yet, or that does no ICE, has none to restart. */
static enum pl_err cmd_restart(struct relay *r, const struct relay_cmd *c)
{
    struct relay_session *s = find_session(r, c->ref.live_id);
    if (!s || s->pending || s->plain)
        return PL_NOT_FOUND;
    return s->ref.generation == c->ref.generation ? relay_end_restart(r, &s->source, &c->leg.ice) : PL_FENCED;
}

static enum pl_err cmd_session(struct relay *r, struct pl_mono now, const struct relay_cmd *c)
{
    struct relay_session *s = find_session(r, c->ref.live_id);
    if (!s)
        return PL_NOT_FOUND;
    if (s->ref.generation != c->ref.generation)
        return PL_FENCED;
    if (c->kind == RELAY_EXTEND)
        s->expires_at = pl_mono_add(now, c->expires_in_us);
    else
        relay_session_end(r, s, now, c->code ? c->code : "closed");
    return PL_OK;
}

/* On the thread of all packets, so each is looked up: compared with each other, 20,000 and 20,000 would hold up the pictures for a second. */
static void cmd_sync(struct relay *r, struct pl_mono now, const struct relay_cmd *c)
{
    for (size_t k = 0; k < c->keep_n; k++) {
        struct relay_session *s = find_session(r, c->keep[k].live_id);
        if (s && s->ref.generation == c->keep[k].generation)
            s->kept = true;
    }
    for (unsigned i = 0; i < r->conf.max_sessions; i++) {
        struct relay_session *s = r->sessions[i];
        if (s && !s->kept)
            relay_session_end(r, s, now, "closed");
        else if (s)
            s->kept = false;
    }
}

static enum pl_err apply(struct relay *r, struct pl_mono now, const struct relay_cmd *cmd)
{
    switch (cmd->kind) {
    case RELAY_OPEN: return cmd_open(r, now, cmd);
    case RELAY_VIEWER_ADD: return cmd_viewer_add(r, now, cmd);
    case RELAY_VIEWER_REMOVE: return cmd_viewer_remove(r, now, cmd);
    case RELAY_VIEWER_RESTART: return cmd_viewer_restart(r, cmd);
    case RELAY_RESTART: return cmd_restart(r, cmd);
    case RELAY_EXTEND:
    case RELAY_CLOSE: return cmd_session(r, now, cmd);
    case RELAY_SYNC: cmd_sync(r, now, cmd); return PL_OK;
    case RELAY_CONTROL_UP: r->control_down = false; return PL_OK;
    case RELAY_CONTROL_DOWN:
        if (!r->control_down)
            r->control_since = now;
        r->control_down = true;
        return PL_OK;
    }
    return PL_INVALID_REQUEST;
}

enum pl_err relay_apply(struct relay *r, struct pl_mono now, const struct relay_cmd *cmd, struct relay_sink *sink)
{
    r->sink = sink;
    enum pl_err e = apply(r, now, cmd);
    r->stats.refused_full += e == PL_NODE_FULL;
    r->sink = NULL;
    return e;
}

/* ---- Time. */

static void tick_viewers(struct relay *r, struct relay_session *s, struct pl_mono now)
{
    for (unsigned i = 0; i < RELAY_VIEWERS; i++) {
        struct relay_viewer *v = s->viewers[i];
        if (!v)
            continue;
        int64_t silent = pl_mono_cmp(now, r->judge_at) < 0 ? 0 : pl_mono_sub(now, v->end.life) + RELAY_EARLY;
        if (silent >= (v->end.assoc ? RELAY_ICE_GONE : RELAY_GONE)) {
            relay_event_add(r, now, RELAY_EV_VIEWER_GONE, s, v, "viewer_lost");
            relay_viewer_free(r, v);
            continue;
        }
        if (silent >= RELAY_PAUSE && v->end.connected && !v->paused)
            relay_viewer_pause(v);
        relay_end_tick(r, &v->end, now);
    }
}

/* Each costs as much as fifty packets: what falls due at once, as after a stall, would hold up everybody's pictures. It is spread, and stays so. */
static unsigned report(struct relay *r, struct relay_session *s, struct pl_mono now)
{
    unsigned n = relay_report(r, s, now);
    for (unsigned i = 0; i < RELAY_VIEWERS; i++)
        if (s->viewers[i])
            n += relay_viewer_report(r, s->viewers[i], now);
    return n;
}

static const char *session_over(const struct relay *r, const struct relay_session *s, struct pl_mono now)
{
    if (pl_mono_cmp(now, s->expires_at) >= 0)
        return "expired";
    int64_t patience = s->pending ? RELAY_PENDING : s->source.connected ? RELAY_GONE : s->plain ? RELAY_PLAIN_START : s->source.assoc ? RELAY_ICE_GONE : RELAY_GONE;
    if (pl_mono_cmp(now, r->judge_at) >= 0 && pl_mono_sub(now, s->source.life) >= patience)
        return "hub_lost";
    if (r->control_down && pl_mono_sub(now, r->control_since) >= RELAY_CONTROL_LOST)
        return "control_lost";
    return NULL;
}

void relay_tick(struct relay *r, struct pl_mono now, struct relay_sink *sink)
{
    r->sink = sink;
    if (r->ticked.us && pl_mono_sub(now, r->ticked) > RELAY_AWAY && r->stats.sessions)
        r->judge_at = pl_mono_add(now, RELAY_GRACE);
    r->ticked = now;
    unsigned reports = 0, reports_most = (r->stats.sessions + RELAY_TRACKS * r->stats.viewers) / RELAY_REPORT_TICKS + 1;
    for (unsigned i = 0; i < r->conf.max_sessions; i++) {
        struct relay_session *s = r->sessions[i];
        const char *over = s ? session_over(r, s, now) : NULL;
        if (!s)
            continue;
        if (over) {
            relay_session_end(r, s, now, over);
            continue;
        }
        relay_end_tick(r, &s->source, now);
        tick_viewers(r, s, now);
        relay_ask_again(r, s, now);
        if (reports < reports_most)
            reports += report(r, s, now);
        if (s->media_said && !s->key_said && !s->no_key_said && pl_mono_sub(now, s->media_at) >= RELAY_KEY_ANSWER)
            relay_want_key(s); /* its first one was lost, and nobody watches who would ask; not for ever: one whose key frames are never whole here has been told of */
        relay_governor(r, s, now);
        if (s->media_said && !s->key_said && !s->no_key_said && pl_mono_sub(now, s->media_at) >= s->key_patience) {
            s->no_key_said = true;
            relay_event_add(r, now, RELAY_EV_WARNING, s, NULL, "no_key_frame");
        }
    }
    relay_out_flush(r);
    r->sink = NULL;
}

void relay_pace(struct relay *r, struct pl_mono now, struct relay_sink *sink)
{
    struct relay_viewer *v = r->behind;
    r->sink = sink;
    r->behind = NULL;
    while (v) {
        struct relay_viewer *next = v->next_behind;
        relay_viewer_wake(r, v, now); /* puts itself back when there is more */
        v = next;
    }
    relay_out_flush(r);
    r->sink = NULL;
}

int64_t relay_due(const struct relay *r) { return r->behind ? RELAY_PACE_US : r->stats.sessions ? RELAY_TICK_US : -1; }

void relay_stats(const struct relay *r, struct relay_stats *ret) { *ret = r->stats; }

size_t relay_running(const struct relay *r, struct relay_ref *ret, size_t cap)
{
    size_t n = 0;
    for (unsigned i = 0; i < r->conf.max_sessions && n < cap; i++)
        if (r->sessions[i])
            ret[n++] = r->sessions[i]->ref;
    return n;
}
