/* The relay protocol's messages as rows of fields, and what becomes of them. */
#include "json.h"
#include "relay_control.h"

struct ice_msg { struct pl_str ufrag, pwd, peer_ufrag; };
struct keys_msg { struct pl_str receive, send; };
struct track_msg { int64_t ssrc, payload_type; };
struct ext_msg { int64_t transport_cc, abs_send_time, audio_level, mid; };
struct talk_msg { int64_t ssrc, payload_type; struct pl_str mid; };
struct webrtc_msg {
    struct pl_str fingerprint;
    int setup;
    struct json_list suites, more_fingerprints;
    struct ext_msg ext;
    struct track_msg rtx;
    bool nack, pli, fir, remb, has_talk;
    struct talk_msg talk;
};
struct leg_msg {
    struct ice_msg ice;
    bool has_webrtc, has_keys, has_video, has_audio, keyframe;
    struct webrtc_msg webrtc;
    struct pl_str suite;
    struct keys_msg keys;
    struct track_msg video, audio, talk;
    bool plain, pending;
    int64_t gop_ms;
};
struct session_msg { /* every command's members, in one */
    struct pl_str id, viewer_id;
    struct pl_uuid live_id;
    int64_t generation, expires_in_ms;
    struct leg_msg source;
    struct json_list sessions;
};

static const struct json_field ice_fields[] = { JSON_F(struct ice_msg, ufrag, J_STR, J_REQUIRED, .hi = ICE_UFRAG_MAX),
    JSON_F(struct ice_msg, pwd, J_STR, J_REQUIRED, .hi = ICE_PWD_MAX), JSON_F(struct ice_msg, peer_ufrag, J_STR, J_REQUIRED, .hi = ICE_UFRAG_MAX), J_END };
static const struct json_field keys_fields[] = { JSON_F(struct keys_msg, receive, J_B64, J_REQUIRED, .lo = 28, .hi = PL_SRTP_KEY_MAX),
    JSON_F(struct keys_msg, send, J_B64, J_REQUIRED, .lo = 28, .hi = PL_SRTP_KEY_MAX), J_END };
/* A publisher by WebRTC may not have said its SSRCs: 0. */
static const struct json_field track_fields[] = { JSON_F(struct track_msg, ssrc, J_INT, J_REQUIRED, .lo = 0, .hi = UINT32_MAX),
    JSON_F(struct track_msg, payload_type, J_INT, J_REQUIRED, .lo = 0, .hi = 127), J_END };
#define F_EXT(member) JSON_F(struct ext_msg, member, J_INT, J_OPTIONAL, .lo = 1, .hi = 14)
static const struct json_field ext_fields[] = { F_EXT(transport_cc), F_EXT(abs_send_time), F_EXT(audio_level), F_EXT(mid), J_END };
static const struct json_field talk_fields[] = { JSON_F(struct talk_msg, ssrc, J_INT, J_REQUIRED, .lo = 0, .hi = UINT32_MAX),
    JSON_F(struct talk_msg, payload_type, J_INT, J_REQUIRED, .lo = 0, .hi = 127), JSON_F(struct talk_msg, mid, J_STR, J_OPTIONAL, .hi = RELAY_MID_TEXT - 1), J_END };
static const char *const setup_words[] = { "active", "passive", NULL };
static const struct json_field webrtc_fields[] = {
    JSON_F(struct webrtc_msg, fingerprint, J_B64, J_REQUIRED, .lo = RELAY_FINGERPRINT, .hi = RELAY_FINGERPRINT),
    JSON_F(struct webrtc_msg, more_fingerprints, J_STRS, J_OPTIONAL, .hi = RELAY_FINGERPRINTS - 1),
    JSON_F(struct webrtc_msg, setup, J_ENUM, J_REQUIRED, .words = setup_words), JSON_F(struct webrtc_msg, suites, J_STRS, J_REQUIRED, .hi = 8),
    JSON_F(struct webrtc_msg, ext, J_OBJECT, J_OPTIONAL, .fields = ext_fields), JSON_F(struct webrtc_msg, rtx, J_OBJECT, J_OPTIONAL, .fields = track_fields),
    JSON_F(struct webrtc_msg, nack, J_BOOL, J_OPTIONAL), JSON_F(struct webrtc_msg, pli, J_BOOL, J_OPTIONAL), JSON_F(struct webrtc_msg, fir, J_BOOL, J_OPTIONAL),
    JSON_F(struct webrtc_msg, remb, J_BOOL, J_OPTIONAL), JSON_OPT(struct webrtc_msg, talk, J_OBJECT, .fields = talk_fields), J_END };
#define LEG_FIELDS(st, at) \
    { .name = "ice", .type = J_OBJECT, .offset = offsetof(st, at ice), .fields = ice_fields }, \
    { .name = "suite", .type = J_STR, .offset = offsetof(st, at suite), .hi = 40 }, \
    { .name = "keys", .type = J_OBJECT, .offset = offsetof(st, at keys), .has = offsetof(st, at has_keys) + 1, .fields = keys_fields }, \
    { .name = "webrtc", .type = J_OBJECT, .offset = offsetof(st, at webrtc), .has = offsetof(st, at has_webrtc) + 1, .fields = webrtc_fields }, \
    { .name = "video", .type = J_OBJECT, .offset = offsetof(st, at video), .has = offsetof(st, at has_video) + 1, .fields = track_fields }, \
    { .name = "audio", .type = J_OBJECT, .offset = offsetof(st, at audio), .has = offsetof(st, at has_audio) + 1, .fields = track_fields }, \
    { .name = "pending", .type = J_BOOL, .offset = offsetof(st, at pending) }, \
    { .name = "keyframe", .type = J_BOOL, .offset = offsetof(st, at keyframe) }, \
    { .name = "gop_ms", .type = J_INT, .offset = offsetof(st, at gop_ms), .lo = 1, .hi = 3600000 }, \
    { .name = "talk", .type = J_OBJECT, .offset = offsetof(st, at talk), .fields = track_fields }, \
    { .name = "plain", .type = J_BOOL, .offset = offsetof(st, at plain) }
static const struct json_field leg_fields[] = { LEG_FIELDS(struct leg_msg, ), J_END };
static const struct json_field ref_fields[] = { JSON_F(struct relay_ref, live_id, J_UUID, J_REQUIRED),
    JSON_F(struct relay_ref, generation, J_INT, J_REQUIRED, .lo = 0, .hi = INT64_MAX), J_END };

#define F_ID JSON_F(struct session_msg, id, J_STR, J_REQUIRED, .lo = 1, .hi = RELAY_ID_TEXT - 1)
#define F_LIVE JSON_F(struct session_msg, live_id, J_UUID, J_REQUIRED)
#define F_GENERATION JSON_F(struct session_msg, generation, J_INT, J_REQUIRED, .lo = 0, .hi = INT64_MAX)
#define F_EXPIRES JSON_F(struct session_msg, expires_in_ms, J_INT, J_REQUIRED, .lo = 1, .hi = INT64_C(7) * 24 * 3600 * 1000)
#define F_VIEWER JSON_F(struct session_msg, viewer_id, J_STR, J_REQUIRED, .lo = 1, .hi = RELAY_ID_TEXT - 1)
static const struct json_field open_fields[] = { F_ID, F_LIVE, F_GENERATION, F_EXPIRES, JSON_F(struct session_msg, source, J_OBJECT, J_REQUIRED, .fields = leg_fields), J_END };
static const struct json_field add_fields[] = { F_ID, F_LIVE, F_GENERATION, F_VIEWER, LEG_FIELDS(struct session_msg, source.), J_END };
#define F_ICE { .name = "ice", .type = J_OBJECT, .required = J_REQUIRED, .offset = offsetof(struct session_msg, source.ice), .fields = ice_fields }
static const struct json_field viewer_restart_fields[] = { F_ID, F_LIVE, F_GENERATION, F_VIEWER, F_ICE, J_END };
static const struct json_field restart_fields[] = { F_ID, F_LIVE, F_GENERATION, F_ICE, J_END };
static const struct json_field remove_fields[] = { F_ID, F_LIVE, F_VIEWER, J_END };
static const struct json_field extend_fields[] = { F_ID, F_LIVE, F_GENERATION, F_EXPIRES, J_END };
static const struct json_field close_fields[] = { F_ID, F_LIVE, F_GENERATION, J_END };
static const struct json_field sync_fields[] = {
    JSON_F(struct session_msg, sessions, J_ARRAY, J_REQUIRED, .fields = ref_fields, .size = sizeof(struct relay_ref), .hi = 20000), J_END };

static const struct command {
    const char *type;
    enum relay_cmd_kind kind;
    const struct json_field *fields;
    bool leg;
} commands[] = {
    { "session.open", RELAY_OPEN, open_fields, true },
    { "viewer.add", RELAY_VIEWER_ADD, add_fields, true },
    { "viewer.restart", RELAY_VIEWER_RESTART, viewer_restart_fields, false },
    { "viewer.remove", RELAY_VIEWER_REMOVE, remove_fields, false },
    { "session.restart", RELAY_RESTART, restart_fields, false },
    { "session.extend", RELAY_EXTEND, extend_fields, false },
    { "session.close", RELAY_CLOSE, close_fields, false },
    { "live.sync", RELAY_SYNC, sync_fields, false },
};

static struct relay_track_conf track(const struct track_msg *m) { return (struct relay_track_conf){ (uint32_t)m->ssrc, (uint8_t)m->payload_type }; }

/* Suites that are not spoken here are passed over: they are the other side's order of choice, not an order. */
static enum pl_err read_suites(const struct json_list *list, struct relay_webrtc *w, struct pl_fail *reterr)
{
    const struct pl_str *names = list->items;
    for (size_t i = 0; i < list->n && w->suites_n < PL_COUNT(w->suites); i++)
        if (pl_srtp_suite_of(names[i], &w->suites[w->suites_n]) == PL_OK && (w->suites_n == 0 || w->suites[0] != w->suites[1]))
            w->suites_n++;
    return w->suites_n ? PL_OK : pl_fail_field(reterr, PL_UNSUPPORTED_MEDIA, "suites", "None of these suites is spoken here.");
}

static enum pl_err read_fingerprints(const struct webrtc_msg *m, struct relay_webrtc *w, struct pl_fail *reterr)
{
    const struct pl_str *more = m->more_fingerprints.items;
    memcpy(w->fingerprints[0], m->fingerprint.p, RELAY_FINGERPRINT);
    for (size_t i = 0; i < m->more_fingerprints.n; i++)
        if (pl_unb64url(more[i], w->fingerprints[1 + i], RELAY_FINGERPRINT) != PL_OK)
            return pl_fail_field(reterr, PL_INVALID_REQUEST, "more_fingerprints", "A fingerprint has %d bytes.", RELAY_FINGERPRINT);
    return PL_OK;
}

static enum pl_err read_webrtc(const struct webrtc_msg *m, struct relay_leg *l, struct pl_fail *reterr)
{
    struct relay_webrtc *w = &l->webrtc;
    *w = (struct relay_webrtc){ .on = true, .active = m->setup == 0, .rtx = track(&m->rtx), .nack = m->nack, .pli = m->pli, .fir = m->fir, .remb = m->remb,
        .ext_transport_cc = (uint8_t)m->ext.transport_cc, .ext_abs_send_time = (uint8_t)m->ext.abs_send_time, .ext_audio_level = (uint8_t)m->ext.audio_level,
        .ext_mid = (uint8_t)m->ext.mid, .has_talk = m->has_talk, .talk = { (uint32_t)m->talk.ssrc, (uint8_t)m->talk.payload_type } };
    if (m->talk.mid.n >= RELAY_MID_TEXT)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "mid", "A mid has at most %d bytes.", RELAY_MID_TEXT - 1);
    if (m->talk.mid.n)
        memcpy(w->talk_mid, m->talk.mid.p, m->talk.mid.n);
    enum pl_err e = read_fingerprints(m, w, reterr);
    return e == PL_OK ? read_suites(&m->suites, w, reterr) : e;
}

static enum pl_err read_keys(const struct leg_msg *m, struct relay_leg *l, struct pl_fail *reterr)
{
    enum pl_err e = pl_srtp_suite_of(m->suite, &l->suite);
    if (e != PL_OK)
        return pl_fail_field(reterr, e, "suite", "This suite is not spoken here.");
    size_t n = pl_srtp_key_bytes(l->suite);
    if (m->keys.receive.n != n || m->keys.send.n != n)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "keys", "Keys of this suite have %zu bytes.", n);
    memcpy(l->receive_key, m->keys.receive.p, n);
    memcpy(l->send_key, m->keys.send.p, n);
    return PL_OK;
}

static enum pl_err read_ice(const struct ice_msg *m, struct ice_cred *ret, struct pl_fail *reterr)
{
    if (ice_cred_set(ret, m->ufrag, m->pwd, m->peer_ufrag) == PL_OK)
        return PL_OK;
    return pl_fail_field(reterr, PL_INVALID_REQUEST, "ice", "ufrag and peer_ufrag have 4 to 32 characters, pwd 22 to 64.");
}

static enum pl_err read_leg(const struct leg_msg *m, struct relay_leg *ret, struct pl_fail *reterr)
{
    struct relay_leg l = { .plain = m->plain, .video = track(&m->video), .audio = track(&m->audio), .talk = track(&m->talk), .pending = m->pending,
        .no_key_frames = !m->keyframe, .gop_us = m->gop_ms * PL_MS };
    l.video.latch = m->has_video && l.video.ssrc == 0;
    l.audio.latch = m->has_audio && l.audio.ssrc == 0;
    if (m->pending) {
        *ret = l;
        return PL_OK;
    }
    enum pl_err e = !m->has_video && !(m->has_webrtc && m->has_audio) ? pl_fail_field(reterr, PL_INVALID_REQUEST, "video", "A leg has a video track.")
        : (l.video.latch || l.audio.latch) && !m->has_webrtc ? pl_fail_field(reterr, PL_INVALID_REQUEST, "ssrc", "Only a publisher by WebRTC may leave it open (0).")
        : m->has_webrtc == m->has_keys ? pl_fail_field(reterr, PL_INVALID_REQUEST, "keys", "A leg has either keys or webrtc.")
        : m->has_webrtc ? read_webrtc(&m->webrtc, &l, reterr) : read_keys(m, &l, reterr);
    if (e == PL_OK && !l.plain)
        e = read_ice(&m->ice, &l.ice, reterr);
    if (e == PL_OK)
        *ret = l;
    secure_wipe(&l, sizeof l);
    return e;
}

static enum pl_err read_keep(const struct json_list *list, struct relay_cmd *c)
{
    c->keep = pl_heap((list->n + 1) * sizeof *c->keep);
    if (!c->keep)
        return PL_NO_MEMORY;
    if (list->n)
        memcpy(c->keep, list->items, list->n * sizeof *c->keep);
    c->keep_n = list->n;
    return PL_OK;
}

static enum pl_err read_command(const struct command *row, const struct json_doc *doc, struct pl_arena *a, struct relay_cmd *c, struct pl_fail *reterr)
{
    struct session_msg m = { .source.keyframe = true };
    enum pl_err e = json_doc_take(doc, row->fields, JSON_LENIENT, a, &m, reterr);
    if (e != PL_OK)
        return e;
    if (m.id.n >= RELAY_ID_TEXT || m.viewer_id.n >= RELAY_ID_TEXT)
        return pl_fail(reterr, PL_INVALID_REQUEST, "Ids have at most %d bytes.", RELAY_ID_TEXT - 1);
    c->kind = row->kind;
    c->ref = (struct relay_ref){ m.live_id, m.generation };
    c->expires_in_us = m.expires_in_ms * PL_MS;
    if (m.id.n)
        memcpy(c->request, m.id.p, m.id.n);
    if (m.viewer_id.n)
        memcpy(c->viewer_id, m.viewer_id.p, m.viewer_id.n);
    e = row->leg ? read_leg(&m.source, &c->leg, reterr) : PL_OK;
    if (row->kind == RELAY_VIEWER_RESTART || row->kind == RELAY_RESTART)
        e = read_ice(&m.source.ice, &c->leg.ice, reterr);
    if (e == PL_OK && row->kind == RELAY_SYNC)
        e = read_keep(&m.sessions, c);
    secure_wipe(&m, sizeof m);
    return e;
}

enum pl_err relay_control_read(struct pl_str text, struct pl_arena *a, struct relay_post *ret, bool *ret_known, struct pl_fail *reterr)
{
    struct json_doc *doc PL_CLEANUP(json_doc_freep) = NULL;
    enum pl_err e = json_parse(text, &doc, reterr);
    if (e != PL_OK)
        return e;
    struct pl_str type = json_doc_str(doc, "type");
    for (size_t i = 0; i < PL_COUNT(commands); i++) {
        if (!pl_str_eqz(type, commands[i].type))
            continue;
        struct relay_post p = { .ask = RELAY_ASK_CMD };
        e = read_command(&commands[i], doc, a, &p.cmd, reterr);
        if (e == PL_OK) {
            *ret = p;
            *ret_known = true;
        }
        secure_wipe(&p, sizeof p);
        return e;
    }
    *ret_known = false;
    return PL_OK;
}

static void write_event(const struct relay_event *ev, uint64_t seq, struct pl_utc utc, struct pl_mono mono, struct pl_buf *out)
{
    struct jw w = jw_start(out);
    jw_open(&w, NULL);
    if (ev->kind == RELAY_EV_KEYFRAME_WANTED) {
        jw_z(&w, "type", "keyframe.wanted");
        jw_uuid(&w, "live_id", ev->ref.live_id);
    } else {
        jw_z(&w, "type", "session.event");
        jw_uuid(&w, "live_id", ev->ref.live_id);
        jw_int(&w, "generation", ev->ref.generation);
        if (seq)
            jw_int(&w, "seq", (int64_t)seq);
        jw_z(&w, "event", relay_event_name(ev->kind));
        if (ev->viewer_id[0])
            jw_z(&w, "viewer_id", ev->viewer_id);
        if (ev->code)
            jw_z(&w, "code", ev->code);
        jw_utc(&w, "time", pl_utc_add(utc, pl_mono_sub(ev->at, mono)));
    }
    jw_close(&w);
}

static void write_handshakes(struct jw *w, const struct relay_dtls_counts *c)
{
    uint64_t failed = 0;
    for (unsigned i = 0; i < DTLS_FAILURES; i++)
        failed += c->failed[i];
    jw_int(w, "handshakes_open", c->open);
    jw_int(w, "handshakes", (int64_t)c->finished);
    jw_int(w, "handshakes_failed", (int64_t)failed);
    jw_int(w, "handshakes_refused", (int64_t)c->refused);
    jw_open(w, "failures");
    for (unsigned i = DTLS_OK + 1; i < DTLS_FAILURES; i++)
        jw_int(w, dtls_failure_code((enum dtls_failure)i), (int64_t)c->failed[i]);
    jw_close(w);
}

static const char *const transit_names[RELAY_TRANSITS] = { "50us", "150us", "500us", "1ms", "5ms", "longer" };
static const char *const wait_names[RELAY_WAITS] = { "100us", "5ms", "10ms", "20ms", "50ms", "longer" };
static const char *const stage_names[RELAY_STAGES] = { "receive", "verify", "protect", "send" };

static void write_counts(struct jw *w, const char *name, const char *const *names, const uint64_t *counts, unsigned n)
{
    jw_open(w, name);
    for (unsigned i = 0; i < n; i++)
        jw_int(w, names[i], (int64_t)counts[i]);
    jw_close(w);
}

static void write_stats(const struct relay_news *n, struct pl_buf *out)
{
    struct jw w = jw_start(out);
    jw_open(&w, NULL);
    jw_z(&w, "type", "stats");
    jw_int(&w, "sessions", n->stats.sessions);
    jw_int(&w, "viewers", n->stats.viewers);
    jw_int(&w, "packets_in", (int64_t)n->stats.packets_in);
    jw_int(&w, "packets_out", (int64_t)n->stats.packets_out);
    jw_int(&w, "lost", (int64_t)n->stats.lost);
    jw_int(&w, "unproved", (int64_t)n->stats.unproved);
    jw_int(&w, "not_sent", (int64_t)(n->stats.not_sent + n->io.send_failed));
    jw_int(&w, "socket_overflow", (int64_t)n->io.socket_overflow);
    jw_int(&w, "events_dropped", (int64_t)n->stats.events_dropped);
    jw_int(&w, "cpu_us", n->io.cpu_us);
    jw_int(&w, "busy_percent", (n->stats.busy + 5) / 10);
    jw_int(&w, "refused_full", (int64_t)n->stats.refused_full);
    jw_int(&w, "too_fast", (int64_t)n->stats.too_fast);
    jw_int(&w, "freezes_in", (int64_t)n->stats.freezes_in);
    jw_int(&w, "freezes_out", (int64_t)n->stats.freezes_out);
    write_counts(&w, "transit", transit_names, n->io.transit, RELAY_TRANSITS);
    write_counts(&w, "paced", wait_names, n->stats.paced, RELAY_WAITS);
    write_counts(&w, "stages_us", stage_names, n->io.stage_us, RELAY_STAGES);
    write_handshakes(&w, &n->dtls);
    jw_close(&w);
}

static void write_freezes(struct jw *w, const struct relay_freezes *f)
{
    jw_int(w, "freezes", (int64_t)f->count);
    jw_int(w, "frozen_ms", (int64_t)(f->us / PL_MS));
}

/* Rounded up: 0 is not known. */
static int64_t rtt_ms(int64_t us) { return us / PL_MS + (us % PL_MS != 0); }

static void write_viewer(struct jw *w, const struct relay_viewer_stats *v)
{
    jw_open(w, NULL);
    jw_z(w, "viewer_id", v->id);
    jw_int(w, "packets", (int64_t)v->packets);
    jw_int(w, "bytes", (int64_t)v->bytes);
    jw_int(w, "bitrate", (int64_t)v->bitrate);
    jw_int(w, "lost", v->lost);
    jw_int(w, "lost_percent", (v->fraction_lost * 100 + 128) / 256);
    jw_int(w, "jitter_ms", v->jitter_us / PL_MS);
    jw_int(w, "rtt_ms", rtt_ms(v->rtt_us));
    jw_int(w, "asked", (int64_t)v->asked);
    jw_int(w, "resent", (int64_t)v->resent);
    jw_int(w, "keyframes_asked", (int64_t)v->key_asked);
    jw_int(w, "remb", (int64_t)v->remb_bps);
    jw_int(w, "arrived_bitrate", (int64_t)v->cc_bitrate);
    jw_int(w, "arrived_lost", (int64_t)v->cc_lost);
    jw_int(w, "queue_ms", v->queue_us / PL_MS);
    write_freezes(w, &v->freezes);
    jw_bool(w, "paused", v->paused);
    jw_close(w);
}

static void write_session(const struct relay_session_stats *s, struct pl_buf *out)
{
    struct jw w = jw_start(out);
    jw_open(&w, NULL);
    jw_z(&w, "type", "session.stats");
    jw_uuid(&w, "live_id", s->ref.live_id);
    jw_int(&w, "generation", s->ref.generation);
    jw_open(&w, "source");
    jw_int(&w, "packets", (int64_t)s->packets);
    jw_int(&w, "lost", (int64_t)s->lost);
    jw_int(&w, "jitter_ms", s->jitter_us / PL_MS);
    jw_int(&w, "rtt_ms", rtt_ms(s->rtt_us));
    jw_int(&w, "bitrate", (int64_t)s->bitrate);
    write_freezes(&w, &s->freezes);
    jw_close(&w);
    jw_array(&w, "viewers");
    for (unsigned i = 0; i < s->viewers_n; i++)
        write_viewer(&w, &s->viewers[i]);
    jw_end_array(&w);
    jw_close(&w);
}

void relay_control_write(const struct relay_news *news, struct pl_utc utc, struct pl_mono mono, struct pl_buf *out)
{
    struct jw w = jw_start(out);
    switch (news->kind) {
    case RELAY_NEWS_EVENT: write_event(&news->event, news->seq, utc, mono, out); break;
    case RELAY_NEWS_STATS: write_stats(news, out); break;
    case RELAY_NEWS_SESSION: write_session(news->session, out); break;
    case RELAY_NEWS_RUNNING: break; /* hello says it */
    case RELAY_NEWS_ANSWER:
        jw_open(&w, NULL);
        jw_z(&w, "type", news->result == PL_OK ? "ok" : "error");
        jw_z(&w, "re", news->request);
        if (news->result != PL_OK)
            jw_z(&w, "code", pl_err_code(news->result));
        jw_close(&w);
        break;
    }
}
