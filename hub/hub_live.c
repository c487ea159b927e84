/* hub_live.c - live sessions as the cloud asks for them: start, stop, key frames, bitrate, and the whole wanted set after a reconnection. */
#include "copier.h"
#include "hub_in.h"

static bool runs(const struct stream *s) { return s && !stream_over(s); }

/* The newest generation that runs: an older one may still be stopping beside it. */
static struct stream *find(struct hub *h, struct pl_uuid live_id)
{
    struct stream *newest = NULL;
    for (size_t i = 0; i < HUB_STREAMS; i++)
        if (runs(h->streams[i]) && pl_uuid_eq(stream_which(h->streams[i])->live_id, live_id) &&
            (!newest || stream_which(h->streams[i])->generation > stream_which(newest)->generation))
            newest = h->streams[i];
    return newest;
}

size_t hub_running(const struct hub *h, struct msg_live out[HUB_STREAMS])
{
    size_t n = 0;
    for (size_t i = 0; i < HUB_STREAMS; i++)
        if (runs(h->streams[i]))
            out[n++] = (struct msg_live){ stream_which(h->streams[i])->live_id, stream_which(h->streams[i])->generation };
    return n;
}

bool hub_camera_busy(const struct hub *h, size_t camera)
{
    for (size_t i = 0; i < HUB_STREAMS; i++)
        if (runs(h->streams[i]) && stream_which(h->streams[i])->source == h->conf.cameras[camera].source)
            return true;
    return false;
}

void hub_stop_streams(struct hub *h, int camera, struct pl_str code)
{
    for (size_t i = 0; i < HUB_STREAMS; i++)
        if (h->streams[i] && (camera < 0 || stream_which(h->streams[i])->source == h->conf.cameras[camera].source))
            stream_stop(h->streams[i], code);
}

/* What is kept of a session that was started here; NULL: nothing. */
static struct hub_started *started_before(struct hub *h, struct pl_uuid live_id)
{
    for (size_t i = 0; i < h->started_n && i < HUB_STARTED; i++)
        if (pl_uuid_eq(h->started[i].live_id, live_id))
            return &h->started[i];
    return NULL;
}

static void note_started(struct hub *h, const struct msg_live_start *m)
{
    struct hub_started *at = started_before(h, m->live_id);
    if (!at)
        at = &h->started[h->started_n++ % HUB_STARTED];
    *at = (struct hub_started){ .live_id = m->live_id, .generation = m->generation };
}

static void note_end(struct hub *h, const struct stream *s)
{
    struct hub_started *at = started_before(h, stream_which(s)->live_id);
    struct stream_end end = stream_end(s);
    if (end.camera == PL_IO)
        for (size_t i = 0; i < h->conf.cameras_n; i++)
            if (h->conf.cameras[i].source == stream_which(s)->source)
                reach_lost(h->reach, i);
    if (!at || at->generation != stream_which(s)->generation)
        return; /* a newer one has its place */
    at->end = end.state;
    hub_keep(at->code, sizeof at->code, end.code);
}

bool hub_reap(struct hub *h)
{
    bool any = false;
    for (size_t i = 0; i < HUB_STREAMS; i++)
        if (h->streams[i] && stream_over(h->streams[i])) {
            note_end(h, h->streams[i]);
            h->streams[i] = stream_free(h->streams[i]);
            any = true;
        }
    return any;
}

/* Any thread, no lock: a stream tells what became of it. link_client_send refuses while the cloud is away; hello's list says the truth later. */
static void tell_state(struct hub *h, struct msg_live_state m)
{
    char text[512], id[PL_UUID_TEXT];
    struct pl_buf b = pl_buf_fixed(text, sizeof text);
    m.id = hub_id(h, id);
    msg_live_state_put(&b, &m);
    PL_LOG(&h->log, PL_INFO, "live.state", PL_F_UUID("live_id", m.live_id), PL_F_INT("generation", m.generation), PL_F_Z("state", m.state), PL_F_STR("code", m.code));
    hub_send(h, &b);
}

static void tell(struct hub *h, struct pl_uuid live_id, int64_t generation, const char *state, struct pl_str code)
{
    tell_state(h, (struct msg_live_state){ .live_id = live_id, .generation = generation, .state = state, .code = code });
}

static void on_state(void *self, const struct stream_conf *which, const char *state, struct pl_str code)
{
    tell_state(self, (struct msg_live_state){ .live_id = which->live_id, .generation = which->generation, .state = state, .code = code,
        .copied = copier_wanted(which->source), .gop_ms = which->gop_ms });
}

enum pl_err hub_read_leg(struct hub *h, const struct msg_leg *m, struct stream_conf *c)
{
    c->host = m->relay.host;
    c->port = (uint16_t)m->relay.port;
    c->sender = (struct sender_conf){ .send_key = m->keys.send, .receive_key = m->keys.receive, .mtu = (size_t)m->mtu,
        .video = { (uint32_t)m->video.ssrc, (uint8_t)m->video.payload_type }, .audio = { (uint32_t)m->audio.ssrc, (uint8_t)m->audio.payload_type }, .rand = h->conf.rand };
    enum pl_err e = pl_srtp_suite_of(m->suite, &c->sender.suite);
    if (e != PL_OK || !h->conf.suites[c->sender.suite] || !pl_str_eqz(m->video.codec, "H264") || !pl_str_eqz(m->audio.codec, "opus"))
        return PL_UNSUPPORTED_MEDIA;
    return ice_cred_set(&c->sender.ice, m->ice.ufrag, m->ice.pwd, m->ice.peer_ufrag);
}

static enum pl_err read_conf(struct hub *h, const struct msg_live_start *m, struct stream_conf *ret)
{
    int camera = hub_camera_at(h, m->camera);
    if (camera < 0)
        return PL_NOT_FOUND;
    struct stream_conf c = { .live_id = m->live_id, .generation = m->generation, .source = h->conf.cameras[camera].source, .clock = h->conf.clock, .log = &h->log, .self = h,
        .on_state = on_state };
    enum pl_err e = hub_read_leg(h, &m->leg, &c);
    if (e != PL_OK)
        return e;
    c.sender.hard_end_us = m->hard_end_s * PL_SECOND;
    *ret = c;
    return PL_OK;
}

static struct stream **free_place(struct hub *h)
{
    for (size_t i = 0; i < HUB_STREAMS; i++)
        if (!h->streams[i])
            return &h->streams[i];
    return NULL;
}

/* Starts it, or says why not. An older generation of the session, or another session of the camera, makes way first: keys are never mixed. */
static enum pl_err start(struct hub *h, const struct msg_live_start *m)
{
    struct stream_conf c;
    enum pl_err e = h->leaving ? PL_UNAVAILABLE : read_conf(h, m, &c);
    if (e != PL_OK)
        return e;
    hub_uplink_give_way(h);
    hub_stop_streams(h, hub_camera_at(h, m->camera), PL_STR("superseded"));
    hub_reap(h);
    struct stream **place = free_place(h);
    if (!place)
        return PL_OVERLOADED;
    e = stream_new(&c, place);
    if (e == PL_OK)
        note_started(h, m);
    secure_wipe(&c.sender.ice, sizeof c.sender.ice);
    return e;
}

enum pl_err hub_on_live_start(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_live_start m = { 0 };
    enum pl_err e = json_doc_take(d, msg_live_start_fields, JSON_LENIENT, h->arena, &m, f);
    if (e != PL_OK)
        return e;
    struct pl_buf b = hub_buf(h);
    msg_ack_put(&b, m.id);
    hub_send(h, &b);
    const struct stream *same = find(h, m.live_id);
    if (same && stream_which(same)->generation >= m.generation)
        return PL_OK; /* said twice, or overtaken by a newer one */
    h->status_due = true;
    hub_reap(h);
    const struct hub_started *before = started_before(h, m.live_id);
    if (before && before->generation >= m.generation) { /* said twice, and what became of it was lost on the way: its keys are used up */
        if (before->end)
            tell(h, m.live_id, m.generation, before->end, pl_str_of(before->code));
        return PL_OK;
    }
    if ((e = start(h, &m)) != PL_OK)
        tell(h, m.live_id, m.generation, "failed", pl_str_of(pl_err_code(e)));
    return PL_OK;
}

enum pl_err hub_on_live_stop(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_live_stop m = { .code = PL_STR("closed") };
    enum pl_err e = json_doc_take(d, msg_live_stop_fields, JSON_LENIENT, h->arena, &m, f);
    if (e != PL_OK)
        return e;
    struct stream *s = find(h, m.live_id);
    if (!s)
        tell(h, m.live_id, m.generation, "ended", m.code); /* it has ended before: say it again */
    else if (stream_which(s)->generation <= m.generation)
        stream_stop(s, m.code);
    return PL_OK;
}

enum pl_err hub_on_live_sync(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_live_sync m = { 0 };
    enum pl_err e = json_doc_take(d, msg_live_sync_fields, JSON_LENIENT, h->arena, &m, f);
    if (e != PL_OK)
        return e;
    const struct msg_live *wanted = m.sessions.items;
    for (size_t i = 0; i < HUB_STREAMS; i++) {
        if (!runs(h->streams[i]))
            continue;
        const struct stream_conf *c = stream_which(h->streams[i]);
        bool keep = false;
        for (size_t k = 0; k < m.sessions.n; k++)
            keep |= pl_uuid_eq(wanted[k].live_id, c->live_id) && wanted[k].generation == c->generation;
        if (!keep)
            stream_stop(h->streams[i], PL_STR("not_wanted"));
    }
    return PL_OK;
}

enum pl_err hub_on_keyframe(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_keyframe m = { 0 };
    enum pl_err e = json_doc_take(d, msg_keyframe_fields, JSON_LENIENT, h->arena, &m, f);
    struct stream *s = e == PL_OK ? find(h, m.live_id) : NULL;
    if (s)
        stream_keyframe(s);
    return e;
}

enum pl_err hub_on_bitrate(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_bitrate m = { 0 };
    enum pl_err e = json_doc_take(d, msg_bitrate_fields, JSON_LENIENT, h->arena, &m, f);
    struct stream *s = e == PL_OK ? find(h, m.live_id) : NULL;
    if (s) {
        PL_LOG(&h->log, PL_INFO, "live.bitrate", PL_F_UUID("live_id", m.live_id), PL_F_INT("video_bps", m.video_bps));
        stream_bitrate(s, (int)m.video_bps);
    }
    return e;
}
