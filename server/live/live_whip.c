/* A hub that publishes by WebRTC (WHIP, RFC 9725): the session waits at the relay without a source; live.start hands the hub a token that is good for one offer within half a
 * minute (S-M3); the offer becomes the session's source. What follows on the address of the answer wants the same token. */
#include "live_leg.h"
#include "live_offer.h"
#include "live_sql.h"

#define TOKEN "plwt"
#define TOKEN_LIFE (30 * PL_SECOND)

enum pl_err live_whip_grant(struct db_tx *tx, struct pl_utc now, struct pl_uuid live_id, char ret_token[SECURE_TOKEN_TEXT])
{
    uint8_t hash[32];
    secure_token_new(TOKEN, ret_token);
    enum pl_err e = secure_token_hash(pl_str_of(ret_token), TOKEN, hash);
    return e == PL_OK ? live_sql_whip_grant(tx, live_id, (struct pl_str){ (const char *)hash, sizeof hash }, pl_utc_add(now, TOKEN_LIFE), NULL) : e;
}

/* Whole, or relative to where the hub is connected. */
static struct pl_str whip_url(const struct live_ctx *ctx, struct pl_arena *a, struct pl_uuid live_id)
{
    char id[PL_UUID_TEXT];
    pl_uuid_text(live_id, id);
    if (ctx->rest && !ctx->outside.n)
        return pl_fmt(a, "%s://%s/v1/live/%s/whip", ctx->rest_tls ? "https" : "http", http_address(ctx->rest), id);
    return pl_fmt(a, "%.*s/v1/live/%s/whip", PL_FMT(ctx->outside), id);
}

struct jw live_start_message(const struct live_ctx *ctx, struct pl_buf *b, const struct live_start_facts *f)
{
    struct jw w = live_message(ctx, b, "live.start");
    jw_uuid(&w, "live_id", f->live_id);
    jw_int(&w, "generation", f->generation);
    jw_str(&w, "camera", f->camera);
    jw_open(&w, "relay");
    jw_str(&w, "host", f->host);
    jw_int(&w, "port", f->port);
    jw_close(&w);
    jw_int(&w, "mtu", 1200);
    return w;
}

void live_whip_write(const struct live_ctx *ctx, struct pl_arena *a, struct jw *w, struct pl_uuid live_id, const char *token)
{
    jw_open(w, "whip");
    jw_str(w, "url", whip_url(ctx, a, live_id));
    jw_z(w, "token", token);
    jw_close(w);
}

static enum pl_err start_again(const struct live_ctx *ctx, struct link_call *c, const struct live_sql_whip_waiting_row *row)
{
    struct live_sql_relay_media_row media;
    struct pl_buf b = pl_buf_init(c->arena, 4096);
    char token[SECURE_TOKEN_TEXT];
    bool found;
    enum pl_err e = live_sql_relay_media(c->tx, row->relay_id, &media, &found);
    if (e != PL_OK || !found || (e = live_whip_grant(c->tx, c->now, row->live_id, token)) != PL_OK)
        return e;
    struct jw w = live_start_message(ctx, &b, &(struct live_start_facts){ row->live_id, row->generation, media.media_port, row->camera_serial, media.media_host });
    live_whip_write(ctx, c->arena, &w, row->live_id, token);
    int64_t left = pl_utc_sub(row->hard_end_at, c->now) / PL_SECOND;
    jw_int(&w, "hard_end_s", left > 1 ? left : 1);
    jw_close(&w);
    return live_say(c, &b);
}

/* One that has restarted, or whose connection broke under the live.start, has no token any more. Not those of the last moment: their first live.start may be on its way. */
enum pl_err live_whip_again(const struct live_ctx *ctx, struct link_call *c, struct pl_str hub_serial)
{
    struct live_sql_whip_waiting_row *rows;
    size_t n;
    enum pl_err e = live_sql_whip_waiting(c->tx, hub_serial, pl_utc_add(c->now, -LIVE_ASK_TIMEOUT), &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = start_again(ctx, c, &rows[i]);
    return e;
}

struct whip {
    struct live_offer o; /* first. whose.client_id: of the token, so that the address is of no use without it; no account: the home may move, the address stays */
    uint8_t hash[32];    /* of the token */
    struct pl_utc expires_at;
    bool can_keyframe, spent;
    int64_t gop_ms;
    struct live_ending *endings;
};

/* Spends the token. Whoever holds none is told no more than that, whatever the session is; an offer that cannot be read spends nothing. */
static enum pl_err spend(struct db_tx *tx, struct live_offer *o, struct pl_fail *reterr)
{
    struct whip *s = (struct whip *)o;
    struct live_sql_whip_spend_row place;
    struct live_sql_get_row row;
    struct device_view view;
    bool found;
    (void)reterr;
    s->spent = false;
    enum pl_err e = live_sql_whip_spend(tx, o->whose.live_id, (struct pl_str){ (const char *)s->hash, sizeof s->hash }, o->c->now, o->whole, &place, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_UNAUTHENTICATED : e;
    if ((e = live_sql_get(tx, place.account_id, o->whose.live_id, &row, &found)) != PL_OK || !found)
        return e == PL_OK ? PL_LIVE_ENDED : e;
    if ((e = device_find_for_view(tx, o->c->now, place.account_id, row.device_id, &view)) != PL_OK || (e = live_offer_relay(tx, o, place.relay_id)) != PL_OK)
        return e;
    o->way = (struct live_way){ o->whose.live_id, place.relay_id, place.generation, { 0 } };
    o->video = view.video;
    o->audio = view.audio;
    o->talk = view.talk;
    s->expires_at = row.expires_at;
    s->can_keyframe = view.can_keyframe;
    s->gop_ms = view.gop_ms;
    s->spent = o->whole;
    return PL_OK;
}

static enum pl_err open_source(struct live_offer *o, const struct live_web *web, const struct sdp_agreed *agreed, struct pl_fail *reterr)
{
    const struct whip *s = (const struct whip *)o;
    struct pl_buf b = pl_buf_init(o->c->arena, 8192);
    struct jw w = live_message(o->ctx, &b, "session.open");
    struct pl_str ignored;
    int64_t left = pl_utc_sub(s->expires_at, o->c->now) / PL_MS;
    jw_uuid(&w, "live_id", o->whose.live_id);
    jw_int(&w, "generation", o->way.generation);
    jw_int(&w, "expires_in_ms", left > 1 ? left : 1);
    jw_open(&w, "source");
    live_web_write(&w, web, agreed, true);
    live_leg_write_keyframes(&w, s->can_keyframe, s->gop_ms);
    jw_close(&w);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    if (e == PL_OK)
        e = live_ask_relay(o->ctx, o->c->arena, o->way.relay_id, pl_buf_view(&b), LIVE_ASK_TIMEOUT, &ignored, reterr);
    return e == PL_NOT_FOUND ? PL_LIVE_ENDED : e;
}

static enum pl_err begin(struct http_call *c, struct whip **ret)
{
    struct pl_str token, given = http_header(c, "Authorization");
    struct pl_str scheme = pl_str_split(given, ' ', &token);
    struct whip *s = *ret = PL_NEW(c->arena, struct whip);
    if (!s)
        return PL_NO_MEMORY;
    s->o = (struct live_offer){ .c = c, .ctx = c->self, .publisher = true, .find = spend, .open = open_source };
    if (!given.p || !pl_str_eq_nocase(scheme, PL_STR("Bearer")) || secure_token_hash(pl_str_trim(token), TOKEN, s->hash) != PL_OK)
        return PL_UNAUTHENTICATED;
    memcpy(s->o.whose.client_id.b, s->hash, sizeof s->o.whose.client_id.b);
    return c->db ? http_param_uuid(c, "id", &s->o.whose.live_id) : PL_UNAVAILABLE;
}

static enum pl_err on_publish(struct http_call *c, struct pl_fail *reterr)
{
    struct whip *s;
    enum pl_err e = begin(c, &s);
    if (e != PL_OK || (e = live_offer_answer(&s->o, reterr)) == PL_OK || !s->spent)
        return e;
    /* It was the only one, and is refused: nobody need wait for a picture (V-C7). */
    bool hubs = e == PL_UNSUPPORTED_MEDIA || e == PL_OFFER_REFUSED || e == PL_INVALID_REQUEST;
    live_give_up(s->o.ctx, c, s->o.whose.live_id, hubs ? "hub_failed" : "relay_lost");
    return e;
}

/* ---- What follows on the address of the answer. */

static enum pl_err find_place(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    const struct whip *s = arg;
    struct live_sql_place_row place;
    (void)reterr;
    return live_sql_place(tx, s->o.whose.live_id, &place, /* ret_found= */ NULL);
}

static enum pl_err find_way(struct http_call *c, struct whip **ret, struct pl_fail *reterr)
{
    enum pl_err e = begin(c, ret);
    struct whip *s = *ret;
    if (e == PL_OK)
        e = db_look(c->db, c->arena, find_place, s, reterr);
    return e == PL_OK ? live_way_read(&s->o.ctx->way_key, &s->o.whose, http_param(c, "session"), &s->o.way) : e;
}

static enum pl_err on_fragment(struct http_call *c, struct pl_fail *reterr)
{
    struct whip *s;
    enum pl_err e = find_way(c, &s, reterr);
    return e == PL_OK ? live_offer_fragment(&s->o, reterr) : e;
}

static enum pl_err end_it(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct whip *s = arg;
    (void)reterr;
    s->endings = NULL;
    enum pl_err e = live_stage_add(tx, s->o.whose.live_id, "hub_ended", s->o.c->now);
    return e == PL_OK ? live_end(tx, s->o.c->now, s->o.whose.live_id, "hub_lost", &s->endings) : e;
}

/* The hub sends no more. */
static enum pl_err on_unpublish(struct http_call *c, struct pl_fail *reterr)
{
    struct whip *s;
    enum pl_err e = find_way(c, &s, reterr);
    if (e != PL_OK || (e = db_run(c->db, c->arena, end_it, s, reterr)) != PL_OK)
        return e;
    live_tell(s->o.ctx, c->arena, s->endings);
    c->status = 200; /* as RFC 9725 says it */
    return PL_OK;
}

const struct http_route live_whip_routes[] = {
    { HTTP_POST, "/v1/live/{id}/whip", HTTP_PUBLIC, on_publish, "Publish by WebRTC (WHIP)", LIVE_OFFER_BODY, .tx = HTTP_OWN_TX, .rate = HTTP_RATE_AUTH },
    { HTTP_PATCH, "/v1/live/{id}/whip/{session}", HTTP_PUBLIC, on_fragment, "Candidates of a publisher, or an ICE restart", LIVE_FRAGMENT_BODY, .tx = HTTP_OWN_TX,
      .rate = HTTP_RATE_LIVE },
    { HTTP_DELETE, "/v1/live/{id}/whip/{session}", HTTP_PUBLIC, on_unpublish, "Stop publishing", .tx = HTTP_OWN_TX, .rate = HTTP_RATE_LIVE },
    HTTP_END,
};
