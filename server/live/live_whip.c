/* A hub that publishes by WebRTC (WHIP, RFC 9725): the session waits at the relay without a source; live.start hands the hub a token that is good for one offer within half a
 * minute (S-M3); the offer becomes the session's source. What follows on the address of the answer wants the same token. */
#include "live_priv.h"
#include "live_sql.h"
#include "live_web.h"

#define OFFER "application/sdp"
#define FRAGMENT "application/trickle-ice-sdpfrag"
#define TOKEN "plwt"
#define TOKEN_LIFE (30 * PL_SECOND)

enum pl_err live_whip_grant(struct db_tx *tx, struct pl_utc now, struct pl_uuid live_id, char ret_token[SECURE_TOKEN_TEXT])
{
    uint8_t hash[32];
    secure_token_new(TOKEN, ret_token);
    enum pl_err e = secure_token_hash(pl_str_of(ret_token), TOKEN, hash);
    return e == PL_OK ? live_sql_whip_grant(tx, live_id, (struct pl_str){ (const char *)hash, sizeof hash }, pl_utc_add(now, TOKEN_LIFE), NULL) : e;
}

struct whip {
    struct http_call *c;
    const struct live_ctx *ctx;
    struct live_whose whose; /* client_id: of the token, so that the address is of no use without it */
    uint8_t hash[32];        /* of the token */
    bool whole;              /* the offer can be read: else the token is not spent */
    struct live_sql_whip_spend_row place;
    struct live_sql_get_row row;
    struct pl_str host, fingerprint;
    int32_t port;
    struct device_view view;
    struct live_ending *endings;
};

static enum pl_err begin(struct http_call *c, struct whip *ret)
{
    struct pl_str token, given = http_header(c, "Authorization");
    struct pl_str scheme = pl_str_split(given, ' ', &token);
    *ret = (struct whip){ .c = c, .ctx = c->self };
    if (!given.p || !pl_str_eq_nocase(scheme, PL_STR("Bearer")) || secure_token_hash(pl_str_trim(token), TOKEN, ret->hash) != PL_OK)
        return PL_UNAUTHENTICATED;
    memcpy(ret->whose.client_id.b, ret->hash, sizeof ret->whose.client_id.b);
    return c->db ? http_param_uuid(c, "id", &ret->whose.live_id) : PL_UNAVAILABLE;
}

/* Spends the token. Whoever holds none is told no more than that, whatever the session is. */
static enum pl_err spend(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct whip *s = arg;
    const struct http_call *c = s->c;
    struct live_sql_relay_media_row media;
    bool found;
    (void)reterr;
    enum pl_err e = live_sql_whip_spend(tx, s->whose.live_id, (struct pl_str){ (const char *)s->hash, sizeof s->hash }, c->now, s->whole, &s->place, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_UNAUTHENTICATED : e;
    s->whose.account_id = s->place.account_id;
    if ((e = live_sql_get(tx, s->place.account_id, s->whose.live_id, &s->row, &found)) != PL_OK || !found)
        return e == PL_OK ? PL_LIVE_ENDED : e;
    if ((e = device_find_for_view(tx, c->now, s->place.account_id, s->row.device_id, &s->view)) != PL_OK ||
        (e = live_sql_relay_media(tx, s->place.relay_id, &media, &found)) != PL_OK || !found)
        return e == PL_OK ? PL_NO_RELAY : e;
    s->host = media.media_host;
    s->port = media.media_port;
    s->fingerprint = media.fingerprint;
    return PL_OK;
}

static enum pl_err open_source(struct whip *s, const struct live_web *web, const struct sdp_agreed *agreed, struct pl_fail *reterr)
{
    struct http_call *c = s->c;
    struct pl_buf b = pl_buf_init(c->arena, 8192);
    struct jw w = live_message(s->ctx, &b, "session.open");
    struct pl_str ignored;
    int64_t left = pl_utc_sub(s->row.expires_at, c->now) / PL_MS;
    jw_uuid(&w, "live_id", s->whose.live_id);
    jw_int(&w, "generation", s->place.generation);
    jw_int(&w, "expires_in_ms", left > 1 ? left : 1);
    jw_open(&w, "source");
    live_web_write(&w, web, agreed, true);
    jw_bool(&w, "keyframe", s->view.can_keyframe);
    jw_close(&w);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    return e == PL_OK ? live_ask_relay(s->ctx, c->arena, s->place.relay_id, pl_buf_view(&b), LIVE_ASK_TIMEOUT, &ignored, reterr) : e;
}

static enum pl_err answer(struct whip *s, struct pl_str text, struct pl_str peer_ufrag)
{
    struct http_call *c = s->c;
    struct live_way way = { s->whose.live_id, s->place.relay_id, s->place.generation, { 0 } };
    char id[PL_UUID_TEXT];
    pl_uuid_text(s->whose.live_id, id);
    live_way_mark(&s->ctx->way_key, way.viewer_id, peer_ufrag, way.mark);
    http_reply_header(c, "Location", pl_fmt(c->arena, "/v1/live/%s/whip/%.*s", id, PL_FMT(live_way_text(c->arena, &s->ctx->way_key, &s->whose, &way))));
    http_etag(c, pl_b64url(c->arena, way.mark, sizeof way.mark));
    c->status = 201;
    c->raw = true;
    c->content_type = OFFER;
    pl_buf_str(&c->buf, text);
    return PL_OK;
}

static enum pl_err on_publish(struct http_call *c, struct pl_fail *reterr)
{
    struct whip *s = PL_NEW(c->arena, struct whip);
    struct live_web *web = PL_NEW(c->arena, struct live_web);
    struct sdp_offer *offer = NULL;
    struct sdp_agreed agreed;
    struct pl_str text;
    struct pl_fail malformed = PL_FAIL_INIT;
    char id[PL_UUID_TEXT];
    enum pl_err e = s && web ? begin(c, s) : PL_NO_MEMORY;
    if (e != PL_OK)
        return e;
    enum pl_err read = sdp_read_offer(c->arena, *(const struct pl_str *)c->body, &offer, &malformed);
    s->whole = read == PL_OK;
    if ((e = db_run(c->db, c->arena, spend, s, reterr)) != PL_OK)
        return e;
    if (read != PL_OK) {
        *reterr = malformed;
        return read;
    }
    if (s->fingerprint.n != sizeof agreed.peer_fingerprint)
        return pl_fail(reterr, PL_UNSUPPORTED_MEDIA, "The relay of this session does not speak WebRTC.");
    live_web_new(c->rand, web);
    pl_uuid_text(s->whose.live_id, id);
    struct sdp_ours ours = live_web_ours(c->rand, &(struct live_web_facts){ .web = web, .host = s->host, .port = s->port, .fingerprint = s->fingerprint, .name = pl_str_of(id),
                                                                             .video = s->view.video, .audio = s->view.audio.p ? s->view.audio : PL_STR("opus"),
                                                                             .talk = s->view.talk, .publisher = true });
    if ((e = sdp_answer(c->arena, offer, &ours, &agreed, &text, reterr)) != PL_OK || (e = open_source(s, web, &agreed, reterr)) != PL_OK)
        return e == PL_NOT_FOUND ? PL_LIVE_ENDED : e;
    return answer(s, text, agreed.peer_ufrag);
}

/* ---- What follows on the address of the answer. */

static enum pl_err find_place(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct whip *s = arg;
    struct live_sql_place_row place;
    bool found;
    (void)reterr;
    enum pl_err e = live_sql_place(tx, s->whose.live_id, &place, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_NOT_FOUND : e;
    s->whose.account_id = place.account_id;
    return PL_OK;
}

static enum pl_err find_way(struct whip *s, struct live_way *ret, struct pl_fail *reterr)
{
    enum pl_err e = db_look(s->c->db, s->c->arena, find_place, s, reterr);
    return e == PL_OK ? live_way_read(&s->ctx->way_key, &s->whose, http_param(s->c, "session"), ret) : e;
}

static enum pl_err on_fragment(struct http_call *c, struct pl_fail *reterr)
{
    struct whip *s = PL_NEW(c->arena, struct whip);
    struct live_way way;
    struct sdp_fragment fragment;
    uint8_t mark[LIVE_ICE_MARK];
    enum pl_err e = s ? begin(c, s) : PL_NO_MEMORY;
    if (e != PL_OK || (e = find_way(s, &way, reterr)) != PL_OK || (e = sdp_read_fragment(c->arena, *(const struct pl_str *)c->body, &fragment, reterr)) != PL_OK)
        return e;
    if (!http_header(c, "If-Match").p)
        return PL_PRECONDITION_REQUIRED;
    live_way_mark(&s->ctx->way_key, way.viewer_id, fragment.ufrag, mark);
    if ((e = http_if_match(c, pl_b64url(c->arena, mark, sizeof mark), reterr)) != PL_OK)
        return e;
    if (memcmp(mark, way.mark, sizeof mark) != 0)
        return pl_fail_field(reterr, PL_OFFER_REFUSED, "restart", "A source's ICE session is not restarted; a live.start anew is.");
    c->status = 204;
    return PL_OK;
}

static enum pl_err end_it(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct whip *s = arg;
    (void)reterr;
    s->endings = NULL;
    enum pl_err e = live_stage_add(tx, s->whose.account_id, s->whose.live_id, "hub_ended", s->c->now);
    return e == PL_OK ? live_end(tx, s->c->now, s->whose.account_id, s->whose.live_id, "hub_lost", &s->endings) : e;
}

/* The hub sends no more. */
static enum pl_err on_unpublish(struct http_call *c, struct pl_fail *reterr)
{
    struct whip *s = PL_NEW(c->arena, struct whip);
    struct live_way way;
    enum pl_err e = s ? begin(c, s) : PL_NO_MEMORY;
    if (e != PL_OK || (e = find_way(s, &way, reterr)) != PL_OK || (e = db_run(c->db, c->arena, end_it, s, reterr)) != PL_OK)
        return e;
    live_tell(s->ctx, c->arena, s->endings);
    c->status = 200; /* as RFC 9725 says it */
    return PL_OK;
}

const struct http_route live_whip_routes[] = {
    { HTTP_POST, "/v1/live/{id}/whip", HTTP_PUBLIC, on_publish, "Publish by WebRTC (WHIP)", HTTP_RAW_BODY(OFFER, SDP_TEXT_MAX), .tx = HTTP_OWN_TX, .rate = HTTP_RATE_AUTH },
    { HTTP_PATCH, "/v1/live/{id}/whip/{session}", HTTP_PUBLIC, on_fragment, "Candidates of a publisher", HTTP_RAW_BODY(FRAGMENT, SDP_TEXT_MAX), .tx = HTTP_OWN_TX,
      .rate = HTTP_RATE_LIVE },
    { HTTP_DELETE, "/v1/live/{id}/whip/{session}", HTTP_PUBLIC, on_unpublish, "Stop publishing", .tx = HTTP_OWN_TX, .rate = HTTP_RATE_LIVE },
    HTTP_END,
};
