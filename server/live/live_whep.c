/* Viewers by WebRTC: WHEP (draft-ietf-wish-whep) over the rules of WHIP (RFC 9725). What follows on an answer is between browser and relay. */
#include "account.h"
#include "live_offer.h"
#include "live_sql.h"

struct whep {
    struct live_offer o; /* first */
    struct live_joins joins;
};

/* Whose session is it, does it run, what does its camera send. */
static enum pl_err find(struct db_tx *tx, struct live_offer *o, struct pl_fail *reterr)
{
    struct whep *s = (struct whep *)o;
    const struct http_call *c = o->c;
    struct live_sql_get_row row;
    struct device_view view;
    struct system_row system;
    enum pl_err e;
    if ((e = live_may(tx, c->now, &c->actor, o->whose.live_id, SYSTEM_WATCH, &system, &row, reterr)) != PL_OK)
        return e;
    if (row.ended_at.us)
        return PL_LIVE_ENDED;
    if ((e = device_may_view(tx, c->now, &c->actor, row.device_id, SYSTEM_WATCH, &view, reterr)) != PL_OK || (e = live_offer_relay(tx, o, row.relay_id)) != PL_OK)
        return e;
    bool plain = pl_str_eq(row.hub_serial, row.camera_serial) && !pl_str_eq(view.hub_serial, view.camera_serial);
    o->way.relay_id = row.relay_id;
    o->way.generation = row.generation;
    o->video = view.video;
    o->audio = view.audio;
    o->talk = plain || !view.may_talk ? PL_STR_NONE : view.talk; /* S-M3: without the right there is no line to talk on */
    s->joins = (struct live_joins){ .live_id = o->whose.live_id, .viewer_id = o->way.viewer_id, .system_id = system.id, .right = o->talk.p ? SYSTEM_TALK : SYSTEM_WATCH };
    return PL_OK;
}

static enum pl_err join(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    const struct whep *s = arg;
    return live_join(tx, s->o.ctx, s->o.c->now, &s->o.c->actor, &s->joins, reterr);
}

static enum pl_err add_viewer(struct live_offer *o, const struct live_web *web, const struct sdp_agreed *agreed, struct pl_fail *reterr)
{
    struct whep *s = (struct whep *)o;
    struct http_call *c = o->c;
    struct pl_buf b = pl_buf_init(c->arena, 8192);
    struct jw w = live_message(o->ctx, &b, "viewer.add");
    jw_uuid(&w, "live_id", o->whose.live_id);
    jw_int(&w, "generation", o->way.generation);
    jw_uuid(&w, "viewer_id", o->way.viewer_id);
    live_web_write(&w, web, agreed, false);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    if (e == PL_OK)
        e = live_add_viewer(o->ctx, c->arena, o->way.relay_id, &s->joins, pl_buf_view(&b), reterr);
    if (e == PL_NOT_FOUND) {
        live_give_up(o->ctx, c, o->whose.live_id, "relay_lost"); /* the relay no longer runs what the row says */
        return PL_LIVE_ENDED;
    }
    if (e == PL_OK && (e = db_run(c->db, c->arena, join, s, reterr)) != PL_OK)
        live_let_go(o->ctx, c->arena, o->way.relay_id, o->whose.live_id, o->way.viewer_id);
    return e;
}

static enum pl_err begin(struct http_call *c, struct live_offer *ret)
{
    *ret = (struct live_offer){ .c = c, .ctx = c->self, .find = find, .open = add_viewer, .whose = { .account_id = c->actor.account_id, .client_id = c->actor.client_id } };
    return http_param_uuid(c, "id", &ret->whose.live_id);
}

static enum pl_err on_offer(struct http_call *c, struct pl_fail *reterr)
{
    struct whep s = { 0 };
    enum pl_err e = begin(c, &s.o);
    s.o.way.viewer_id = pl_uuid7(c->rand, c->now);
    return e == PL_OK ? live_offer_answer(&s.o, reterr) : e;
}

/* ---- What follows on a viewer's own address. */

static enum pl_err find_way(struct http_call *c, struct live_offer *ret)
{
    enum pl_err e = begin(c, ret);
    return e == PL_OK ? live_way_read(&ret->ctx->way_key, &ret->whose, http_param(c, "viewer"), &ret->way) : e;
}

static enum pl_err on_fragment(struct http_call *c, struct pl_fail *reterr)
{
    struct live_offer o;
    enum pl_err e = find_way(c, &o);
    return e == PL_OK ? live_offer_fragment(&o, reterr) : e;
}

static enum pl_err on_leave(struct http_call *c, struct pl_fail *reterr)
{
    struct live_offer o;
    struct pl_str ignored;
    enum pl_err e = find_way(c, &o);
    if (e != PL_OK)
        return e;
    struct pl_buf b = pl_buf_init(c->arena, 1024);
    struct jw w = live_message(o.ctx, &b, "viewer.remove");
    jw_uuid(&w, "live_id", o.whose.live_id);
    jw_uuid(&w, "viewer_id", o.way.viewer_id);
    jw_close(&w);
    e = pl_buf_err(&b);
    c->status = 200; /* as RFC 9725 says it */
    return e == PL_OK ? live_ask_relay(o.ctx, c->arena, o.way.relay_id, pl_buf_view(&b), LIVE_ASK_TIMEOUT, &ignored, reterr) : e;
}

const struct http_route live_whep_routes[] = {
    { HTTP_POST, "/v1/live/{id}/whep", HTTP_USER, on_offer, "Watch by WebRTC (WHEP)", .scope = "live:view", LIVE_OFFER_BODY, .tx = HTTP_OWN_TX, .rate = HTTP_RATE_LIVE },
    { HTTP_PATCH, "/v1/live/{id}/whep/{viewer}", HTTP_USER, on_fragment, "Candidates, or an ICE restart", .scope = "live:view", LIVE_FRAGMENT_BODY, .tx = HTTP_OWN_TX, .rate = HTTP_RATE_LIVE },
    { HTTP_DELETE, "/v1/live/{id}/whep/{viewer}", HTTP_USER, on_leave, "Stop watching", .scope = "live:view", .tx = HTTP_OWN_TX, .rate = HTTP_RATE_LIVE },
    HTTP_END,
};
