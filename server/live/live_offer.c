#include "live_offer.h"
#include "live_sql.h"

enum pl_err live_offer_relay(struct db_tx *tx, struct live_offer *o, struct pl_uuid relay_id)
{
    struct live_sql_relay_media_row media;
    bool found;
    enum pl_err e = live_sql_relay_media(tx, relay_id, &media, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_NO_RELAY : e;
    o->host = media.media_host;
    o->port = media.media_port;
    o->fingerprint = media.fingerprint;
    return PL_OK;
}

static void reply(struct http_call *c, int status, const char *type, struct pl_str text, const uint8_t mark[LIVE_ICE_MARK])
{
    http_etag(c, pl_b64url(c->arena, mark, LIVE_ICE_MARK));
    c->status = status;
    c->raw = true;
    c->content_type = type;
    pl_buf_str(&c->buf, text);
}

static enum pl_err found(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct live_offer *o = arg;
    return o->find(tx, o, reterr);
}

enum pl_err live_offer_answer(struct live_offer *o, struct pl_fail *reterr)
{
    struct http_call *c = o->c;
    struct live_web *web = PL_NEW(c->arena, struct live_web);
    struct sdp_offer *offer = NULL;
    struct sdp_agreed agreed;
    struct pl_str text;
    struct pl_fail malformed = PL_FAIL_INIT;
    char id[PL_UUID_TEXT];
    enum pl_err read = sdp_read_offer(c->arena, *(const struct pl_str *)c->body, &offer, &malformed);
    o->whole = read == PL_OK;
    enum pl_err e = !web ? PL_NO_MEMORY : !c->db ? PL_UNAVAILABLE : db_run(c->db, c->arena, found, o, reterr);
    if (e != PL_OK)
        return e;
    if (read != PL_OK) {
        *reterr = malformed;
        return read;
    }
    if (o->fingerprint.n != sizeof agreed.peer_fingerprints[0])
        return pl_fail(reterr, PL_UNSUPPORTED_MEDIA, "The relay of this session does not speak WebRTC.");
    live_web_new(c->rand, web);
    pl_uuid_text(o->whose.live_id, id);
    struct sdp_ours ours = live_web_ours(c->rand, &(struct live_web_facts){ .web = web, .host = o->host, .port = o->port, .fingerprint = o->fingerprint, .name = pl_str_of(id),
        .video = o->video, .audio = o->audio.p ? o->audio : PL_STR("opus"), .talk = o->talk, .publisher = o->publisher });
    if ((e = sdp_answer(c->arena, offer, &ours, &agreed, &text, reterr)) != PL_OK || (e = o->open(o, web, &agreed, reterr)) != PL_OK)
        return e;
    live_way_mark(&o->ctx->way_key, o->way.viewer_id, agreed.peer_ufrag, o->way.mark);
    http_reply_header(c, "Location", pl_fmt(c->arena, "/v1/live/%s/%s/%.*s", id, o->publisher ? "whip" : "whep",
        PL_FMT(live_way_text(c->arena, &o->ctx->way_key, &o->whose, &o->way))));
    reply(c, 201, "application/sdp", text, o->way.mark);
    return PL_OK;
}

/* ---- What follows on the address of the answer. */

/* Which ICE session does the fragment speak of? The one that If-Match names, or, by `*`, another one that shall take its place. */
static enum pl_err match(const struct live_offer *o, const uint8_t mark[LIVE_ICE_MARK], bool *ret_restart, struct pl_fail *reterr)
{
    struct pl_str tag = http_header(o->c, "If-Match");
    *ret_restart = false;
    if (!tag.p)
        return PL_PRECONDITION_REQUIRED;
    if (!pl_str_eqz(tag, "*"))
        return http_if_match(o->c, pl_b64url(o->c->arena, mark, LIVE_ICE_MARK), reterr);
    *ret_restart = memcmp(mark, o->way.mark, LIVE_ICE_MARK) != 0;
    return PL_OK;
}

static enum pl_err media_of(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct live_offer *o = arg;
    (void)reterr;
    return live_offer_relay(tx, o, o->way.relay_id);
}

static enum pl_err restart(struct live_offer *o, const struct live_web *web, struct pl_str peer_ufrag, struct pl_fail *reterr)
{
    struct http_call *c = o->c;
    struct pl_buf b = pl_buf_init(c->arena, 2048);
    struct jw w = live_message(o->ctx, &b, o->publisher ? "session.restart" : "viewer.restart");
    struct pl_str ignored;
    jw_uuid(&w, "live_id", o->whose.live_id);
    jw_int(&w, "generation", o->way.generation);
    if (!o->publisher)
        jw_uuid(&w, "viewer_id", o->way.viewer_id);
    live_web_write_ice(&w, web, peer_ufrag);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    return e == PL_OK ? live_ask_relay(o->ctx, c->arena, o->way.relay_id, pl_buf_view(&b), LIVE_ASK_TIMEOUT, &ignored, reterr) : e;
}

enum pl_err live_offer_fragment(struct live_offer *o, struct pl_fail *reterr)
{
    struct http_call *c = o->c;
    struct sdp_fragment fragment;
    struct live_web *web = PL_NEW(c->arena, struct live_web);
    struct pl_str text;
    uint8_t mark[LIVE_ICE_MARK];
    bool wanted;
    enum pl_err e = web ? sdp_read_fragment(c->arena, *(const struct pl_str *)c->body, &fragment, reterr) : PL_NO_MEMORY;
    if (e != PL_OK)
        return e;
    if (!fragment.ufrag.p)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "ice-ufrag", "ice-ufrag: says which ICE session is meant, and is missing.");
    live_way_mark(&o->ctx->way_key, o->way.viewer_id, fragment.ufrag, mark);
    if ((e = match(o, mark, &wanted, reterr)) != PL_OK)
        return e;
    c->status = 204;
    if (!wanted)
        return PL_OK;
    live_web_new(c->rand, web);
    if ((e = c->db ? db_look(c->db, c->arena, media_of, o, reterr) : PL_UNAVAILABLE) != PL_OK || (e = restart(o, web, fragment.ufrag, reterr)) != PL_OK)
        return e;
    struct sdp_ours ours = { .ufrag = pl_str_of(web->ufrag), .pwd = pl_str_of(web->pwd), .candidates = { { o->host, (uint16_t)o->port } }, .n_candidates = 1 };
    if ((e = sdp_answer_fragment(c->arena, &fragment, &ours, &text)) != PL_OK)
        return e;
    reply(c, 200, LIVE_FRAGMENT_TYPE, text, mark);
    return PL_OK;
}
