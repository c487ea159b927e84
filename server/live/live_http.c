#include "account.h"
#include "live_leg.h"
#include "live_rooms.h"
#include "power_gen.h"

#define TRIES 3 /* a session that ends while somebody joins it is looked up again */
#define OTHERS_TIMEOUT (500 * PL_MS) /* how long a relay has to answer while there is another one to ask */

struct live_body {
    int transport, source;
    struct json_list suites;
};
static const char *const transports[] = { "srtp", "webrtc", NULL };
enum { TRANSPORT_SRTP, TRANSPORT_WEBRTC };
static const char *const sources[] = { "hub", "plain", NULL };
enum { SOURCE_HUB, SOURCE_PLAIN };
static const struct json_field live_fields[] = { JSON_F(struct live_body, transport, J_ENUM, J_OPTIONAL, .words = transports),
                                                 JSON_F(struct live_body, source, J_ENUM, J_OPTIONAL, .words = sources),
                                                 JSON_F(struct live_body, suites, J_STRS, J_OPTIONAL, .hi = 8), J_END };

/* One POST live under way. */
struct start {
    struct http_call *c;
    struct live_ctx *ctx;
    struct device_view view;
    struct live_choice choice;   /* relays that may take it */
    struct live_sql_of_device_row lost; /* a session whose relay stays away; id zero: none */
    struct live_ending *endings;        /* of that, once another relay has taken its place */
    struct pl_uuid live_id, relay_id;
    int32_t generation;
    struct pl_str host; /* where the relay's media port is */
    int32_t port;
    enum live_suite source_suite, asked_suite;
    struct live_leg source;
    struct pl_utc asked_relay, asked_hub;
    bool web;    /* its viewers come to whep_url */
    bool plain;  /* no hub sends: whoever holds the source's key does */
    bool whip;   /* the hub publishes by WebRTC: the source comes with its offer */
    char token[SECURE_TOKEN_TEXT]; /* for that offer */
    struct pl_uuid viewer_id;
    struct live_joins joins;
    bool opened; /* a new session was opened at the relay */
};

/* The caller's choice (the viewer's, or the plain source's): its first suite that we have; without a list, GCM. */
static enum pl_err asked_suite(const struct live_body *b, enum live_suite *ret, struct pl_fail *reterr)
{
    const struct pl_str *asked = b->suites.items;
    if (b->suites.n == 0) {
        *ret = LIVE_GCM;
        return PL_OK;
    }
    for (size_t i = 0; i < b->suites.n; i++)
        for (int s = 0; s < LIVE_SUITES; s++)
            if (pl_str_eqz(asked[i], live_suite_names[s])) {
                *ret = (enum live_suite)s;
                return PL_OK;
            }
    return pl_fail_field(reterr, PL_UNSUPPORTED_MEDIA, "suites", "None of these SRTP suites is served. AEAD_AES_128_GCM and AES_CM_128_HMAC_SHA1_80 are.");
}

static enum pl_err hub_suite(const struct device_view *v, enum live_suite *ret, struct pl_fail *reterr)
{
    for (int s = 0; s < LIVE_SUITES; s++)
        if (v->suites & 1u << s) {
            *ret = (enum live_suite)s;
            return PL_OK;
        }
    return pl_fail(reterr, PL_UNSUPPORTED_MEDIA, "The hub offers no SRTP suite that is served.");
}

/* A plain source sends as the camera: that is for who may set it up. */
static enum system_right right_of(const struct start *s) { return s->plain ? SYSTEM_MANAGE : SYSTEM_WATCH; }

/* A session whose relay is gone for good is no reason to wait for its end: the next one begins at another relay, under an id and keys of its own (S-M6), and takes its
 * place. Until that is so it goes on: its media may flow though its relay's connection is away. Should that relay come back after all, live.sync takes the old one from it. */
static enum pl_err take_place(struct start *s, struct db_tx *tx)
{
    bool lost = false;
    if (pl_uuid_is_zero(s->lost.id))
        return PL_OK;
    enum pl_err e = live_relay_lost(s->ctx, tx, s->c->now, s->lost.relay_id, &lost);
    if (e == PL_OK && !lost)
        return PL_RETRY; /* it has come back: that one is joined */
    return e == PL_OK ? live_end(tx, s->c->now, s->lost.id, "relay_lost", &s->endings) : e;
}

/* First transaction: whose camera, is its hub there, is a session running, else which relays there are. *ret_running: join s->live_id. */
static enum pl_err look(struct start *s, struct pl_uuid device_id, bool *ret_running, struct pl_fail *reterr)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    struct http_call *c = s->c;
    struct live_sql_of_device_row row;
    struct live_sql_relay_media_row media;
    bool found, lost = false;
    s->endings = NULL;
    s->lost.id = (struct pl_uuid){ { 0 } };
    enum pl_err e = db_begin(c->db, c->arena, &tx);
    if (e != PL_OK || (e = device_may_view(tx, c->now, &c->actor, device_id, right_of(s), &s->view, reterr)) != PL_OK ||
        (e = live_sql_of_device(tx, s->view.home_id, device_id, &row, ret_running)) != PL_OK ||
        (*ret_running && (e = live_relay_lost(s->ctx, tx, c->now, row.relay_id, &lost)) != PL_OK))
        return e;
    if (lost) {
        s->lost = row;
        *ret_running = false;
    }
    if (*ret_running) {
        s->live_id = row.id;
        s->relay_id = row.relay_id;
        s->generation = row.generation;
        if ((e = live_sql_relay_media(tx, row.relay_id, &media, &found)) != PL_OK)
            return e;
        s->host = media.media_host;
        s->port = media.media_port;
        return db_commit(&tx);
    }
    if (!s->plain && !s->view.online)
        return pl_fail(reterr, PL_HUB_OFFLINE, "The hub of this camera is not connected to the cloud.");
    s->source_suite = s->asked_suite;
    s->whip = !s->plain && s->view.suites & DEVICE_SUITE_WEBRTC;
    if ((!s->plain && !s->whip && (e = hub_suite(&s->view, &s->source_suite, reterr)) != PL_OK) || (e = live_rooms_look(tx, c->now, &s->choice)) != PL_OK)
        return e;
    return db_commit(&tx);
}

static const struct live_power *power_of(const struct device_view *v) { return &live_powers[v->battery ? LIVE_BATTERY : LIVE_MAINS]; }

static enum pl_err open_at_relay(struct start *s, int64_t timeout_us, struct pl_fail *reterr)
{
    struct pl_buf b = pl_buf_init(s->c->arena, 8192);
    struct jw w = live_message(s->ctx, &b, "session.open");
    struct pl_str ignored;
    if (s->plain)
        live_leg_new_plain(s->c->rand, s->source_suite, &s->source);
    else
        live_leg_new(s->c->rand, s->source_suite, &s->source);
    jw_uuid(&w, "live_id", s->live_id);
    jw_int(&w, "generation", s->generation);
    jw_int(&w, "expires_in_ms", (int64_t)power_of(&s->view)->step_s * 1000);
    jw_open(&w, "source");
    if (s->whip) { /* the rest comes with the hub's offer */
        jw_bool(&w, "pending", true);
    } else {
        live_leg_write(&w, &s->source, LIVE_RELAY_SIDE, /* talk= */ !s->plain);
        jw_bool(&w, "plain", s->plain);
        live_leg_write_keyframes(&w, s->plain || s->view.can_keyframe, s->view.gop_ms);
    }
    jw_close(&w);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    if (e == PL_OK)
        e = live_ask_relay(s->ctx, s->c->arena, s->relay_id, pl_buf_view(&b), timeout_us, &ignored, reterr);
    s->asked_relay = pl_now_utc(s->ctx->clock);
    s->opened = e == PL_OK;
    return e;
}

/* How much an answer says when several relays gave different ones: that all are full is true only if all said so. 0: what another relay would say, too. */
static int weight(enum pl_err e) { return e == PL_RELAY_TIMEOUT ? 4 : e == PL_OVERLOADED ? 3 : e == PL_NODE_FULL || e == PL_NO_MEMORY ? 2 : e == PL_NO_RELAY ? 1 : 0; }

/* Opens the session at the relay with the most room, and where that has none after all, or does not answer, at the next one (V-G4): as many as fit into the time of one
 * answer. Each has an id and keys of its own: one that answers too late holds a session that is nobody's. */
static enum pl_err open_somewhere(struct start *s, struct pl_fail *reterr)
{
    struct http_call *c = s->c;
    struct pl_mono until = pl_mono_add(pl_now_mono(s->ctx->clock), LIVE_ASK_TIMEOUT);
    int64_t left = LIVE_ASK_TIMEOUT;
    enum pl_err said = PL_NO_RELAY;
    const struct live_sql_relay_rooms_row *room;
    while (left > 0 && (room = live_rooms_take(s->ctx->rooms, &s->choice)) != NULL) {
        struct pl_fail why = PL_FAIL_INIT;
        s->live_id = pl_uuid7(c->rand, c->now);
        s->relay_id = room->id;
        s->generation = 1;
        s->host = room->media_host;
        s->port = room->media_port;
        enum pl_err e = open_at_relay(s, s->choice.left && left > OTHERS_TIMEOUT ? OTHERS_TIMEOUT : left, &why);
        if (e == PL_OK)
            return e;
        if (e == PL_RELAY_TIMEOUT)
            live_close_spare(s->ctx, c->arena, s->relay_id, s->live_id, s->generation);
        if (weight(e) == 0 || weight(e) >= weight(said)) {
            said = e;
            *reterr = why;
        }
        if (weight(e) == 0)
            return e;
        live_rooms_refused(s->ctx->rooms, room->id);
        left = pl_mono_sub(until, pl_now_mono(s->ctx->clock));
    }
    return said;
}

/* Whom the row names as the one that sends, and that is told of the end. A plain session is no business of the hub. */
static struct pl_str sender_of(const struct start *s) { return s->plain ? s->view.camera_serial : s->view.hub_serial; }

/* Second transaction: the row. Somebody else's row that came first is PL_RETRY (constraint live_one_per_device): the caller joins it. What was true in the first
 * one is asked again, and held: a client that was revoked, or a device that was freed, while the relay was asked, would get a session that nobody ends. */
static enum pl_err write_row(struct start *s, struct pl_fail *reterr)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    struct http_call *c = s->c;
    const struct live_power *p = power_of(&s->view);
    struct pl_uuid account = s->view.home_id;
    struct device_view now;
    enum pl_err e = db_begin(c->db, c->arena, &tx);
    if (e != PL_OK || (e = account_hold_client(tx, c->now, &c->actor)) != PL_OK ||
        (e = device_hold_for_view(tx, c->now, &c->actor, s->view.device_id, right_of(s), &now, reterr)) != PL_OK)
        return e;
    if ((!s->plain && !pl_str_eq(now.hub_serial, s->view.hub_serial)) || !pl_uuid_eq(now.home_id, account))
        return PL_RETRY;
    struct pl_str suite = s->whip ? PL_STR("DTLS-SRTP") : pl_str_of(live_suite_names[s->source_suite]);
    struct pl_utc expires = pl_utc_add(c->now, p->step_s * PL_SECOND), hard_end = pl_utc_add(c->now, p->hard_s * PL_SECOND);
    s->endings = NULL;
    if ((e = take_place(s, tx)) != PL_OK ||
        (e = live_sql_add(tx, account, s->live_id, s->view.device_id, now.system_id, s->view.camera_serial, sender_of(s), s->relay_id, c->actor.account_id, c->actor.client_id,
                          s->generation, suite, c->now, expires, hard_end, NULL)) != PL_OK ||
        (e = live_sql_place_add(tx, s->live_id, account, s->relay_id, sender_of(s), s->generation, NULL)) != PL_OK ||
        (s->whip && (e = live_whip_grant(tx, c->now, s->live_id, s->token)) != PL_OK) ||
        (e = live_sql_viewer_add(tx, account, s->live_id, s->viewer_id, c->actor.account_id, c->actor.client_id,
                                 pl_str_of(s->plain ? "source" : "opener"), NULL)) != PL_OK ||
        (e = live_stage_add(tx, s->live_id, "requested", c->now)) != PL_OK ||
        (e = live_stage_add(tx, s->live_id, "relay_ready", s->asked_relay)) != PL_OK ||
        (e = live_event(tx, c->now, s->live_id, "waking_hub", NULL)) != PL_OK)
        return e;
    if ((e = db_commit(&tx)) == PL_OK)
        live_tell(s->ctx, c->arena, s->endings);
    return e;
}

static enum pl_err start_hub(struct start *s, struct pl_fail *reterr)
{
    struct pl_buf b = pl_buf_init(s->c->arena, 8192);
    struct jw w = live_start_message(s->ctx, &b, &(struct live_start_facts){ s->live_id, s->generation, s->port, s->view.camera_serial, s->host });
    if (s->whip)
        live_whip_write(s->ctx, s->c->arena, &w, s->live_id, s->token);
    else
        live_leg_write(&w, &s->source, LIVE_OTHER_SIDE, true);
    jw_int(&w, "hard_end_s", power_of(&s->view)->hard_s);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    if (e == PL_OK)
        e = live_ask_hub(s->ctx, s->c->arena, s->view.hub_serial, pl_buf_view(&b), LIVE_ASK_TIMEOUT, reterr);
    s->asked_hub = pl_now_utc(s->ctx->clock);
    return e;
}

void live_give_up(const struct live_ctx *ctx, struct http_call *c, struct pl_uuid live_id, const char *code)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    struct live_ending *endings = NULL;
    if (db_begin(c->db, c->arena, &tx) == PL_OK && live_end(tx, c->now, live_id, code, &endings) == PL_OK && db_commit(&tx) == PL_OK)
        live_tell(ctx, c->arena, endings);
    /* If the database went away the row ends by its expiry, the relay by ten seconds without a source. */
}

static void give_up(struct start *s, const char *code) { live_give_up(s->ctx, s->c, s->live_id, code); }

/* Who opened a session gets no keys to it: it goes on for those who have some by now; without them the hub would send to nobody. */
static void give_up_alone(struct start *s, const char *code)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    struct live_ending *endings = NULL;
    struct live_sql_hold_row held;
    struct live_sql_watched_row watched;
    bool found;
    if (db_begin(s->c->db, s->c->arena, &tx) == PL_OK && live_sql_hold(tx, s->live_id, &held, &found) == PL_OK && live_sql_viewer_gone(tx, s->live_id, s->viewer_id, NULL) == PL_OK &&
        live_sql_watched(tx, s->live_id, &watched, NULL) == PL_OK && (watched.any || live_end(tx, s->c->now, s->live_id, code, &endings) == PL_OK) && db_commit(&tx) == PL_OK)
        live_tell(s->ctx, s->c->arena, endings);
}

/* Brings a session up, or finds the one that runs. */
static enum pl_err begin(struct start *s, struct pl_uuid device_id, struct pl_fail *reterr)
{
    bool running;
    s->opened = false;
    enum pl_err e = look(s, device_id, &running, reterr);
    if (e != PL_OK || running)
        return e;
    if ((e = open_somewhere(s, reterr)) != PL_OK)
        return e;
    if ((e = write_row(s, reterr)) != PL_OK) {
        live_close_spare(s->ctx, s->c->arena, s->relay_id, s->live_id, s->generation);
        s->opened = false;
        return e;
    }
    if ((e = start_hub(s, reterr)) != PL_OK)
        give_up(s, "hub_offline");
    return e;
}

static enum pl_err join(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    const struct start *s = arg;
    return live_join(tx, s->ctx, s->c->now, &s->c->actor, &s->joins, reterr);
}

/* PL_RETRY: the session is gone. */
static enum pl_err add_viewer(struct start *s, struct live_leg *leg, struct pl_fail *reterr)
{
    struct pl_buf b = pl_buf_init(s->c->arena, 8192);
    struct jw w = live_message(s->ctx, &b, "viewer.add");
    s->joins = (struct live_joins){ .live_id = s->live_id, .viewer_id = s->viewer_id, .system_id = s->view.system_id, .right = SYSTEM_WATCH };
    live_leg_new(s->c->rand, s->asked_suite, leg);
    jw_uuid(&w, "live_id", s->live_id);
    jw_int(&w, "generation", s->generation);
    jw_uuid(&w, "viewer_id", s->viewer_id);
    live_leg_write(&w, leg, LIVE_RELAY_SIDE, false);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    if (e == PL_OK)
        e = live_add_viewer(s->ctx, s->c->arena, s->relay_id, &s->joins, pl_buf_view(&b), reterr);
    if (e == PL_NOT_FOUND) { /* the relay no longer runs what the row says: the caller begins again */
        give_up(s, "relay_lost");
        return PL_RETRY;
    }
    if (e == PL_OK && (e = db_run(s->c->db, s->c->arena, join, s, reterr)) != PL_OK)
        live_let_go(s->ctx, s->c->arena, s->relay_id, s->live_id, s->viewer_id);
    return e == PL_LIVE_ENDED ? PL_RETRY : e;
}

static enum pl_err created(struct start *s)
{
    char id[PL_UUID_TEXT];
    pl_uuid_text(s->live_id, id);
    http_reply_header(s->c, "Location", pl_fmt(s->c->arena, "/v1/live/%s", id));
    s->c->status = 201;
    return PL_OK;
}

/* This viewer's keys, shown once. */
static void write_srtp(struct start *s, const struct live_leg *leg)
{
    struct jw *w = &s->c->out;
    jw_uuid(w, "viewer_id", s->viewer_id);
    jw_open(w, "srtp");
    jw_str(w, "host", s->host);
    jw_int(w, "port", s->port);
    jw_int(w, "mtu", 1200);
    live_leg_write(w, leg, LIVE_OTHER_SIDE, false);
    jw_close(w);
}

/* Where WebRTC viewers post their offers. The relay's own candidate stands in the answer, so no ICE servers are needed. */
static void write_whep(struct start *s)
{
    char id[PL_UUID_TEXT];
    pl_uuid_text(s->live_id, id);
    jw_str(&s->c->out, "whep_url", pl_fmt(s->c->arena, "/v1/live/%s/whep", id));
    jw_array(&s->c->out, "ice");
    jw_end_array(&s->c->out);
}

/* The answer: the live resource and the ways in. `leg` NULL: by WebRTC alone. */
static enum pl_err answer(struct start *s, const struct live_leg *leg)
{
    static const char *const talk_modes[] = { "hold_to_talk", "tap_to_mute" };
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    struct http_call *c = s->c;
    struct jw *w = &c->out;
    enum pl_err e = db_begin(c->db, c->arena, &tx);
    if (e == PL_OK && s->opened)
        e = live_stage_add(tx, s->live_id, "hub_asked", s->asked_hub);
    if (e != PL_OK || (e = live_write(tx, w, s->view.home_id, s->live_id)) != PL_OK || (e = db_commit(&tx)) != PL_OK)
        return e;
    if (leg)
        write_srtp(s, leg);
    write_whep(s);
    jw_array(w, "talk_modes");
    for (size_t i = 0; s->view.may_talk && i < PL_COUNT(talk_modes); i++)
        jw_z(w, NULL, talk_modes[i]);
    jw_end_array(w);
    return created(s);
}

/* The answer to who will send by itself: the live resource and, this once, the source's key. */
static enum pl_err answer_source(struct start *s)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    struct http_call *c = s->c;
    struct jw *w = &c->out;
    enum pl_err e = db_begin(c->db, c->arena, &tx);
    if (e != PL_OK || (e = live_write(tx, w, s->view.home_id, s->live_id)) != PL_OK || (e = db_commit(&tx)) != PL_OK)
        return e;
    jw_open(w, "source");
    jw_str(w, "host", s->host);
    jw_int(w, "port", s->port);
    jw_int(w, "mtu", 1200);
    live_leg_write_plain(w, c->arena, &s->source);
    jw_close(w);
    return created(s);
}

/* A session whose source is any SRTP sender that holds the key. Nobody is asked but the relay. */
static enum pl_err start_plain(struct start *s, struct pl_uuid device_id, struct pl_fail *reterr)
{
    bool running;
    enum pl_err e = look(s, device_id, &running, reterr);
    if (e == PL_OK && running)
        e = pl_fail(reterr, PL_VERSION_CONFLICT, "A live session of this device runs already. End it first.");
    if (e == PL_OK)
        e = open_somewhere(s, reterr);
    if (e != PL_OK)
        return e;
    if ((e = write_row(s, reterr)) != PL_OK) {
        live_close_spare(s->ctx, s->c->arena, s->relay_id, s->live_id, s->generation);
        return e;
    }
    return answer_source(s);
}

static enum pl_err on_start(struct http_call *c, struct pl_fail *reterr)
{
    struct start *s = PL_NEW(c->arena, struct start);
    struct live_leg *leg = PL_NEW(c->arena, struct live_leg); /* wiped with the arena */
    struct pl_uuid device_id;
    if (!s || !leg)
        return PL_NO_MEMORY;
    *s = (struct start){ .c = c, .ctx = c->self, .viewer_id = pl_uuid7(c->rand, c->now), .plain = ((const struct live_body *)c->body)->source == SOURCE_PLAIN };
    s->web = ((const struct live_body *)c->body)->transport == TRANSPORT_WEBRTC;
    enum pl_err e = http_param_uuid(c, "id", &device_id);
    if (e == PL_OK)
        e = asked_suite(c->body, &s->asked_suite, reterr);
    if (e == PL_OK && s->plain) /* it gets the camera's key: to watch is not enough */
        return http_may(&c->actor, "devices:write") ? start_plain(s, device_id, reterr) : PL_SCOPE_MISSING;
    for (int i = 0; e == PL_OK && i < TRIES; i++) {
        s->viewer_id = pl_uuid7(c->rand, c->now);
        e = begin(s, device_id, reterr);
        if (e == PL_OK && s->web)
            return answer(s, NULL);
        if (e == PL_OK && (e = add_viewer(s, leg, reterr)) == PL_OK)
            return answer(s, leg);
        if (i + 1 < TRIES && e == PL_RETRY)
            e = PL_OK;
    }
    if (s->opened && e != PL_HUB_OFFLINE)
        give_up_alone(s, "relay_lost");
    return e;
}

static enum pl_err on_get(struct http_call *c, struct pl_fail *reterr)
{
    struct live_sql_get_row row;
    struct system_row system;
    struct pl_uuid id;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e != PL_OK || (e = live_may(c->tx, c->now, &c->actor, id, SYSTEM_SEE, &system, &row, reterr)) != PL_OK)
        return e;
    return live_write(c->tx, &c->out, system.home_id, id);
}

struct patch_body {
    bool extend;
};
static const struct json_field patch_fields[] = { JSON_F(struct patch_body, extend, J_BOOL, J_REQUIRED), J_END };

/* An extension under way: between its transactions the relay is asked. No row is held then: the relay's reports come in order, and one that waited for
 * the row would keep its answer from being heard. */
struct extension {
    struct http_call *c;
    struct pl_uuid id, home_id;
    struct live_sql_get_row row;
    struct pl_utc until;
};

static enum pl_err extend_find(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct extension *x = arg;
    const struct http_call *c = x->c;
    const struct patch_body *body = c->body;
    struct device_view view;
    struct system_row system;
    enum pl_err e = live_may(tx, c->now, &c->actor, x->id, SYSTEM_WATCH, &system, &x->row, reterr);
    if (e != PL_OK)
        return e;
    x->home_id = system.home_id;
    if (x->row.ended_at.us)
        return PL_LIVE_ENDED;
    if (!body->extend)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "extend", "extend: only true can be asked.");
    if ((e = device_find_for_view(tx, c->now, x->home_id, x->row.device_id, &view)) != PL_OK)
        return e;
    x->until = pl_utc_add(c->now, power_of(&view)->step_s * PL_SECOND);
    if (pl_utc_cmp(x->row.hard_end_at, x->until) < 0)
        x->until = x->row.hard_end_at;
    return PL_OK;
}

static enum pl_err extend_write(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct extension *x = arg;
    struct live_sql_extend_row row;
    bool found;
    (void)reterr;
    enum pl_err e = live_sql_extend(tx, x->id, x->until, &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_LIVE_ENDED : e;
    x->home_id = row.account_id; /* it may have moved while the relay was asked */
    return PL_OK;
}

static enum pl_err extend_answer(struct http_call *c, const struct extension *x)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    enum pl_err e = db_begin(c->db, c->arena, &tx);
    return e == PL_OK ? live_write(tx, &c->out, x->home_id, x->id) : e;
}

/* The relay's clock ends a session, so it is asked before the row is written: an extension that was answered holds. */
static enum pl_err on_extend(struct http_call *c, struct pl_fail *reterr)
{
    const struct live_ctx *ctx = c->self;
    struct extension x = { .c = c };
    struct pl_str ignored;
    enum pl_err e = c->db ? http_param_uuid(c, "id", &x.id) : PL_UNAVAILABLE;
    if (e != PL_OK || (e = db_run(c->db, c->arena, extend_find, &x, reterr)) != PL_OK)
        return e;
    struct pl_buf b = pl_buf_init(c->arena, 1024);
    struct jw w = live_message(ctx, &b, "session.extend");
    jw_uuid(&w, "live_id", x.id);
    jw_int(&w, "generation", x.row.generation);
    jw_int(&w, "expires_in_ms", pl_utc_sub(x.until, c->now) / PL_MS);
    jw_close(&w);
    if ((e = live_ask_relay(ctx, c->arena, x.row.relay_id, pl_buf_view(&b), LIVE_ASK_TIMEOUT, &ignored, reterr)) != PL_OK)
        return e == PL_NOT_FOUND ? PL_LIVE_ENDED : e;
    e = db_run(c->db, c->arena, extend_write, &x, reterr);
    return e == PL_OK ? extend_answer(c, &x) : e;
}

/* Who may set the camera up ends the session for all; another one only for itself, and for good when nobody else has keys to it. A token's self is what it watches, not its account. */
static enum pl_err on_end(struct http_call *c, struct pl_fail *reterr)
{
    struct live_sql_get_row row;
    struct system_row system;
    struct pl_uuid id;
    struct live_told *t = PL_NEW(c->arena, struct live_told);
    enum pl_err e = t ? http_param_uuid(c, "id", &id) : PL_NO_MEMORY;
    if (e != PL_OK || (e = live_may(c->tx, c->now, &c->actor, id, SYSTEM_SEE, &system, &row, reterr)) != PL_OK)
        return e;
    *t = (struct live_told){ .ctx = c->self, .db = c->db, .arena = c->arena };
    if (system_role_may(system.role, SYSTEM_MANAGE) && http_may(&c->actor, "devices:write"))
        e = live_end(c->tx, c->now, id, "ended_by_user", &t->endings);
    else
        e = live_leave(c->tx, c->now, &c->actor, id, &t->endings);
    if (e == PL_OK)
        http_after(c, live_tell_later, t);
    return e;
}

const struct http_route live_routes[] = {
    { HTTP_POST, "/v1/devices/{id}/live", HTTP_USER, on_start, "Start or join a live session", .scope = "live:view", HTTP_BODY(struct live_body, live_fields),
      .tx = HTTP_OWN_TX, .rate = HTTP_RATE_LIVE },
    { HTTP_GET, "/v1/live/{id}", HTTP_USER, on_get, "State and stages of a live session", .scope = "live:view", .rate = HTTP_RATE_LIVE },
    { HTTP_PATCH, "/v1/live/{id}", HTTP_USER, on_extend, "Extend a live session", .scope = "live:view", HTTP_BODY(struct patch_body, patch_fields), .tx = HTTP_OWN_TX, .rate = HTTP_RATE_LIVE },
    { HTTP_DELETE, "/v1/live/{id}", HTTP_USER, on_end, "End a live session", .scope = "live:view", .rate = HTTP_RATE_LIVE },
    HTTP_END,
};
