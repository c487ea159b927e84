/* Viewers by WebRTC: WHEP (draft-ietf-wish-whep) over the rules of WHIP (RFC 9725). An offer comes, the relay is asked once, the answer goes back; what follows is
 * between browser and relay. Candidates that come by and by are taken and not needed, because it is the browser that checks us. */
#include "account.h"
#include "live_priv.h"
#include "live_sql.h"
#include "live_web.h"

#define OFFER "application/sdp"
#define FRAGMENT "application/trickle-ice-sdpfrag"

/* One offer under way. */
struct whep {
    struct http_call *c;
    const struct live_ctx *ctx;
    struct pl_uuid live_id;
    struct pl_str host, fingerprint;
    int32_t port;
    struct pl_uuid relay_id;
    int32_t generation;
    struct pl_str video, audio, talk; /* codecs of the camera */
};

/* Whose session is it, does it run, what does its camera send. The client gets keys, so it is written down first: its revocation finds it (S-S5). */
static enum pl_err find(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct whep *s = arg;
    const struct http_call *c = s->c;
    struct live_sql_get_row row;
    struct live_sql_relay_media_row media;
    struct device_view view;
    bool found;
    (void)reterr;
    enum pl_err e = account_hold_client(tx, c->now, &c->actor);
    if (e != PL_OK || (e = live_sql_get(tx, c->actor.account_id, s->live_id, &row, &found)) != PL_OK)
        return e;
    if (!found)
        return PL_NOT_FOUND;
    if (row.ended_at.us)
        return PL_LIVE_ENDED;
    if ((e = device_find_for_view(tx, c->now, c->actor.account_id, row.device_id, &view)) != PL_OK ||
        (e = live_sql_relay_media(tx, row.relay_id, &media, &found)) != PL_OK)
        return e;
    if (!found)
        return PL_NO_RELAY;
    bool plain = pl_str_eq(row.hub_serial, row.camera_serial) && !pl_str_eq(view.hub_serial, view.camera_serial);
    s->host = media.media_host;
    s->port = media.media_port;
    s->fingerprint = media.fingerprint;
    s->relay_id = row.relay_id;
    s->generation = row.generation;
    s->video = view.video;
    s->audio = view.audio.p ? view.audio : PL_STR("opus");
    s->talk = plain ? PL_STR_NONE : view.talk;
    return live_sql_viewer_add(tx, c->actor.account_id, s->live_id, c->actor.client_id, NULL);
}

static enum pl_err add_viewer(struct whep *s, const struct live_web *web, const struct sdp_agreed *agreed, struct pl_uuid viewer_id, struct pl_fail *reterr)
{
    struct http_call *c = s->c;
    struct pl_buf b = pl_buf_init(c->arena, 8192);
    struct jw w = live_message(s->ctx, &b, "viewer.add");
    struct pl_str ignored;
    jw_uuid(&w, "live_id", s->live_id);
    jw_int(&w, "generation", s->generation);
    jw_uuid(&w, "viewer_id", viewer_id);
    live_web_write(&w, web, agreed, false);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    if (e == PL_OK)
        e = live_ask_relay(s->ctx, c->arena, s->relay_id, pl_buf_view(&b), LIVE_ASK_TIMEOUT, &ignored, reterr);
    if (e != PL_NOT_FOUND)
        return e;
    live_give_up(s->ctx, c, s->live_id, "relay_lost"); /* the relay no longer runs what the row says */
    return PL_LIVE_ENDED;
}

static enum pl_err answer(struct whep *s, struct pl_str text, struct pl_str peer_ufrag, struct pl_uuid viewer_id)
{
    struct http_call *c = s->c;
    struct live_way way = { viewer_id, s->relay_id, s->generation, { 0 } };
    const struct live_whose whose = { c->actor.account_id, c->actor.client_id, s->live_id };
    char id[PL_UUID_TEXT];
    pl_uuid_text(s->live_id, id);
    live_way_mark(&s->ctx->way_key, viewer_id, peer_ufrag, way.mark);
    http_reply_header(c, "Location", pl_fmt(c->arena, "/v1/live/%s/whep/%.*s", id, PL_FMT(live_way_text(c->arena, &s->ctx->way_key, &whose, &way))));
    http_etag(c, pl_b64url(c->arena, way.mark, sizeof way.mark));
    c->status = 201;
    c->raw = true;
    c->content_type = OFFER;
    pl_buf_str(&c->buf, text);
    return PL_OK;
}

static enum pl_err on_offer(struct http_call *c, struct pl_fail *reterr)
{
    struct whep s = { .c = c, .ctx = c->self };
    struct live_web *web = PL_NEW(c->arena, struct live_web);
    struct sdp_offer *offer = NULL;
    struct sdp_agreed agreed;
    struct pl_str text;
    struct pl_fail malformed = PL_FAIL_INIT;
    struct pl_uuid viewer_id = pl_uuid7(c->rand, c->now);
    char id[PL_UUID_TEXT];
    enum pl_err e = web ? http_param_uuid(c, "id", &s.live_id) : PL_NO_MEMORY;
    if (e != PL_OK)
        return e;
    /* Somebody else's session is not there, whatever is offered to it (S-S10). */
    enum pl_err read = sdp_read_offer(c->arena, *(const struct pl_str *)c->body, &offer, &malformed);
    if ((e = c->db ? db_run(c->db, c->arena, find, &s, reterr) : PL_UNAVAILABLE) != PL_OK)
        return e;
    if (read != PL_OK) {
        *reterr = malformed;
        return read;
    }
    if (s.fingerprint.n != sizeof agreed.peer_fingerprint)
        return pl_fail(reterr, PL_UNSUPPORTED_MEDIA, "The relay of this session does not speak WebRTC.");
    live_web_new(c->rand, web);
    pl_uuid_text(s.live_id, id);
    struct sdp_ours ours = live_web_ours(c->rand, &(struct live_web_facts){ .web = web, .host = s.host, .port = s.port, .fingerprint = s.fingerprint, .name = pl_str_of(id),
                                                                             .video = s.video, .audio = s.audio, .talk = s.talk });
    if ((e = sdp_answer(c->arena, offer, &ours, &agreed, &text, reterr)) != PL_OK || (e = add_viewer(&s, web, &agreed, viewer_id, reterr)) != PL_OK)
        return e;
    return answer(&s, text, agreed.peer_ufrag, viewer_id);
}

/* ---- What follows on a viewer's own address. */

static enum pl_err find_way(struct http_call *c, struct live_whose *ret_whose, struct live_way *ret)
{
    const struct live_ctx *ctx = c->self;
    *ret_whose = (struct live_whose){ c->actor.account_id, c->actor.client_id, { { 0 } } };
    enum pl_err e = http_param_uuid(c, "id", &ret_whose->live_id);
    return e == PL_OK ? live_way_read(&ctx->way_key, ret_whose, http_param(c, "viewer"), ret) : e;
}

/* Which ICE session does the fragment speak of? The one that If-Match names, or, by `*`, another one that shall take its place. */
static enum pl_err match(const struct http_call *c, const struct live_way *way, struct pl_str ufrag, bool *ret_restart, struct pl_fail *reterr)
{
    const struct live_ctx *ctx = c->self;
    struct pl_str tag = http_header(c, "If-Match");
    uint8_t mark[LIVE_ICE_MARK];
    *ret_restart = false;
    if (!tag.p)
        return PL_PRECONDITION_REQUIRED;
    live_way_mark(&ctx->way_key, way->viewer_id, ufrag, mark);
    if (!pl_str_eqz(tag, "*"))
        return http_if_match(c, pl_b64url(c->arena, mark, sizeof mark), reterr);
    *ret_restart = memcmp(mark, way->mark, sizeof mark) != 0;
    return PL_OK;
}

static enum pl_err restart(struct http_call *c, const struct live_whose *whose, const struct live_way *way, const struct live_web *web, struct pl_str peer_ufrag, struct pl_fail *reterr)
{
    const struct live_ctx *ctx = c->self;
    struct pl_buf b = pl_buf_init(c->arena, 2048);
    struct jw w = live_message(ctx, &b, "viewer.restart");
    struct pl_str ignored;
    jw_uuid(&w, "live_id", whose->live_id);
    jw_int(&w, "generation", way->generation);
    jw_uuid(&w, "viewer_id", way->viewer_id);
    live_web_write_ice(&w, web, peer_ufrag);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    return e == PL_OK ? live_ask_relay(ctx, c->arena, way->relay_id, pl_buf_view(&b), LIVE_ASK_TIMEOUT, &ignored, reterr) : e;
}

static enum pl_err media_of(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct whep *s = arg;
    struct live_sql_relay_media_row media;
    bool found;
    (void)reterr;
    enum pl_err e = live_sql_relay_media(tx, s->relay_id, &media, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_NO_RELAY : e;
    s->host = media.media_host;
    s->port = media.media_port;
    return PL_OK;
}

static enum pl_err on_fragment(struct http_call *c, struct pl_fail *reterr)
{
    struct live_whose whose;
    struct live_way way;
    struct sdp_fragment fragment;
    struct live_web *web = PL_NEW(c->arena, struct live_web);
    bool wanted;
    enum pl_err e = web ? find_way(c, &whose, &way) : PL_NO_MEMORY;
    if (e != PL_OK || (e = sdp_read_fragment(c->arena, *(const struct pl_str *)c->body, &fragment, reterr)) != PL_OK)
        return e;
    if (!fragment.ufrag.p)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "ice-ufrag", "ice-ufrag: says which ICE session is meant, and is missing.");
    if ((e = match(c, &way, fragment.ufrag, &wanted, reterr)) != PL_OK)
        return e;
    c->status = 204;
    if (!wanted)
        return PL_OK;
    struct whep s = { .c = c, .ctx = c->self, .relay_id = way.relay_id };
    struct pl_str text;
    uint8_t mark[LIVE_ICE_MARK];
    live_web_new(c->rand, web);
    if ((e = c->db ? db_look(c->db, c->arena, media_of, &s, reterr) : PL_UNAVAILABLE) != PL_OK || (e = restart(c, &whose, &way, web, fragment.ufrag, reterr)) != PL_OK)
        return e;
    struct sdp_ours ours = { .ufrag = pl_str_of(web->ufrag), .pwd = pl_str_of(web->pwd), .candidates = { { s.host, (uint16_t)s.port } }, .n_candidates = 1 };
    if ((e = sdp_answer_fragment(c->arena, &fragment, &ours, &text)) != PL_OK)
        return e;
    live_way_mark(&s.ctx->way_key, way.viewer_id, fragment.ufrag, mark);
    http_etag(c, pl_b64url(c->arena, mark, sizeof mark));
    c->status = 200;
    c->raw = true;
    c->content_type = FRAGMENT;
    pl_buf_str(&c->buf, text);
    return PL_OK;
}

static enum pl_err on_leave(struct http_call *c, struct pl_fail *reterr)
{
    const struct live_ctx *ctx = c->self;
    struct live_whose whose;
    struct live_way way;
    struct pl_str ignored;
    enum pl_err e = find_way(c, &whose, &way);
    if (e != PL_OK)
        return e;
    struct pl_buf b = pl_buf_init(c->arena, 1024);
    struct jw w = live_message(ctx, &b, "viewer.remove");
    jw_uuid(&w, "live_id", whose.live_id);
    jw_uuid(&w, "viewer_id", way.viewer_id);
    jw_close(&w);
    e = pl_buf_err(&b);
    c->status = 200; /* as RFC 9725 says it */
    return e == PL_OK ? live_ask_relay(ctx, c->arena, way.relay_id, pl_buf_view(&b), LIVE_ASK_TIMEOUT, &ignored, reterr) : e;
}

const struct http_route live_whep_routes[] = {
    { HTTP_POST, "/v1/live/{id}/whep", HTTP_USER, on_offer, "Watch by WebRTC (WHEP)", HTTP_RAW_BODY(OFFER, SDP_TEXT_MAX), .tx = HTTP_OWN_TX, .rate = HTTP_RATE_LIVE },
    { HTTP_PATCH, "/v1/live/{id}/whep/{viewer}", HTTP_USER, on_fragment, "Candidates, or an ICE restart", HTTP_RAW_BODY(FRAGMENT, SDP_TEXT_MAX), .tx = HTTP_OWN_TX,
      .rate = HTTP_RATE_LIVE },
    { HTTP_DELETE, "/v1/live/{id}/whep/{viewer}", HTTP_USER, on_leave, "Stop watching", .tx = HTTP_OWN_TX, .rate = HTTP_RATE_LIVE },
    HTTP_END,
};
