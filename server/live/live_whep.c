/* Viewers by WebRTC: WHEP (draft-ietf-wish-whep) over the rules of WHIP (RFC 9725). What follows on an answer is between browser and relay. */
#include "account.h"
#include "live_offer.h"
#include "live_sql.h"

/* Whose session is it, does it run, what does its camera send. The client gets keys, so it is written down first: its revocation finds it (S-S5). */
static enum pl_err find(struct db_tx *tx, struct live_offer *o, struct pl_fail *reterr)
{
    const struct http_call *c = o->c;
    struct live_sql_get_row row;
    struct device_view view;
    struct system_row system;
    enum pl_err e = account_hold_client(tx, c->now, &c->actor);
    if (e != PL_OK || (e = live_may(tx, c->now, &c->actor, o->whose.live_id, SYSTEM_WATCH, &system, &row, reterr)) != PL_OK)
        return e;
    if (row.ended_at.us)
        return PL_LIVE_ENDED;
    /* Held before it is read: the role decides about talk, too. */
    if ((e = system_hold(tx, c->now, &c->actor, system.id, SYSTEM_WATCH, reterr)) != PL_OK ||
        (e = device_may_view(tx, c->now, &c->actor, row.device_id, SYSTEM_WATCH, &view, reterr)) != PL_OK || (e = live_offer_relay(tx, o, row.relay_id)) != PL_OK)
        return e;
    bool plain = pl_str_eq(row.hub_serial, row.camera_serial) && !pl_str_eq(view.hub_serial, view.camera_serial);
    o->way.relay_id = row.relay_id;
    o->way.generation = row.generation;
    o->video = view.video;
    o->audio = view.audio;
    o->talk = plain || !view.may_talk ? PL_STR_NONE : view.talk; /* S-M3: without the right there is no line to talk on */
    int64_t added = 0;
    e = live_sql_viewer_add(tx, system.home_id, o->whose.live_id, o->way.viewer_id, c->actor.account_id, c->actor.client_id, PL_STR("viewer"), &added);
    return e == PL_OK && added == 0 ? PL_RETRY : e; /* it ended, or moved to another home, while we waited */
}

static enum pl_err add_viewer(struct live_offer *o, const struct live_web *web, const struct sdp_agreed *agreed, struct pl_fail *reterr)
{
    struct http_call *c = o->c;
    struct pl_buf b = pl_buf_init(c->arena, 8192);
    struct jw w = live_message(o->ctx, &b, "viewer.add");
    struct pl_str ignored;
    jw_uuid(&w, "live_id", o->whose.live_id);
    jw_int(&w, "generation", o->way.generation);
    jw_uuid(&w, "viewer_id", o->way.viewer_id);
    live_web_write(&w, web, agreed, false);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    if (e == PL_OK)
        e = live_ask_relay(o->ctx, c->arena, o->way.relay_id, pl_buf_view(&b), LIVE_ASK_TIMEOUT, &ignored, reterr);
    if (e != PL_NOT_FOUND)
        return e;
    live_give_up(o->ctx, c, o->whose.live_id, "relay_lost"); /* the relay no longer runs what the row says */
    return PL_LIVE_ENDED;
}

static enum pl_err begin(struct http_call *c, struct live_offer *ret)
{
    *ret = (struct live_offer){ .c = c, .ctx = c->self, .find = find, .open = add_viewer, .whose = { .account_id = c->actor.account_id, .client_id = c->actor.client_id } };
    return http_param_uuid(c, "id", &ret->whose.live_id);
}

static enum pl_err on_offer(struct http_call *c, struct pl_fail *reterr)
{
    struct live_offer o;
    enum pl_err e = begin(c, &o);
    o.way.viewer_id = pl_uuid7(c->rand, c->now);
    return e == PL_OK ? live_offer_answer(&o, reterr) : e;
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
