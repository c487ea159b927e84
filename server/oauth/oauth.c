#include "oauth_int.h"

#define CODE_KEPT PL_DAY
#define SECRET "plos"

static const char *const issuer_schemes[] = { "https://", "http://127.0.0.1", "http://localhost", NULL };

const struct conf_row oauth_conf_rows[] = {
    CONF_URL("oauth.issuer", struct oauth_settings, issuer, 200, issuer_schemes, "",
             "Where this server is from outside, without a slash at the end: services such as voice assistants can then be linked (docs/linking.md), and hubs that publish by WebRTC are "
             "sent there. Empty: services cannot, and hubs are sent to http.listen, or with a proxy (http.trusted_proxies) to where they are connected to."),
    CONF_DUR("oauth.access_life", struct oauth_settings, access_life, 5 * PL_MINUTE, PL_DAY, "1h", "How long a linked service's access token is good; it renews it by itself."),
    CONF_END
};

/* ---- forms and what is written into URLs and pages ---- */

enum pl_err oauth_form_take(struct pl_arena *a, struct pl_str body, struct oauth_form *ret)
{
    ret->n = 0;
    while (body.n) {
        struct pl_str value, name = pl_str_split(pl_str_split(body, '&', &body), '=', &value);
        struct oauth_pair p = { http_unescape(a, name, true), http_unescape(a, value, true) };
        if (!p.name.n || !p.value.p || ret->n == PL_COUNT(ret->pairs))
            return PL_INVALID_REQUEST;
        for (size_t i = 0; i < ret->n; i++)
            if (pl_str_eq(ret->pairs[i].name, p.name))
                return PL_INVALID_REQUEST;
        ret->pairs[ret->n++] = p;
    }
    return PL_OK;
}

struct pl_str oauth_form_get(const struct oauth_form *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (pl_str_eqz(f->pairs[i].name, name))
            return f->pairs[i].value;
    return PL_STR_NONE;
}

void oauth_html(struct pl_buf *b, struct pl_str s)
{
    for (size_t i = 0; i < s.n; i++)
        switch (s.p[i]) {
        case '&': pl_buf_z(b, "&amp;"); break;
        case '<': pl_buf_z(b, "&lt;"); break;
        case '>': pl_buf_z(b, "&gt;"); break;
        case '"': pl_buf_z(b, "&quot;"); break;
        case '\'': pl_buf_z(b, "&#39;"); break;
        default: pl_buf_u8(b, (uint8_t)s.p[i]);
        }
}

/* ---- the request ---- */

enum pl_err oauth_offered(const struct oauth_ctx *ctx, struct pl_fail *reterr)
{
    return ctx->settings.issuer.n ? PL_OK : pl_fail(reterr, PL_NOT_OFFERED, "This service cannot be linked to: its operator has set no oauth.issuer.");
}

/* Another line of the list, exactly (RFC 9700, 2.1). */
static bool registered(struct pl_str lines, struct pl_str uri)
{
    while (lines.n)
        if (pl_str_eq(pl_str_split(lines, '\n', &lines), uri))
            return uri.n > 0;
    return false;
}

/* Words of account_scopes, in its order. */
static enum pl_err take_scope(struct pl_arena *a, struct pl_str scope, struct pl_str *ret)
{
    struct pl_str words[32];
    struct json_list list = { words, 0 };
    while (scope.n && list.n < PL_COUNT(words)) {
        struct pl_str word = pl_str_split(scope, ' ', &scope);
        if (word.n)
            words[list.n++] = word;
    }
    return scope.n ? PL_INVALID_REQUEST : account_scopes_take(a, &list, ret, /* reterr= */ NULL);
}

enum pl_err oauth_request_check(const struct oauth_ctx *ctx, struct db_tx *tx, const struct oauth_request *r, struct oauth_sql_client_get_row *ret_client, struct pl_str *ret_scopes,
                                const char **ret_error, struct pl_fail *reterr)
{
    struct pl_uuid id;
    bool found = false;
    enum pl_err e = oauth_offered(ctx, reterr);
    if (e == PL_OK && pl_uuid_parse(r->client_id, &id) == PL_OK)
        e = oauth_sql_client_get(tx, id, ret_client, &found);
    if (e != PL_OK)
        return e;
    if (!found)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "client_id", "client_id: no such service is registered here.");
    if (!registered(ret_client->redirect_uris, r->redirect_uri))
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "redirect_uri", "redirect_uri: it is none of those that this service is registered with.");
    *ret_error = NULL;
    if (!pl_str_eqz(r->response_type, "code"))
        *ret_error = r->response_type.n ? "unsupported_response_type" : "invalid_request";
    else if (!pl_str_eqz(r->code_challenge_method, "S256") || r->code_challenge.n != 43)
        *ret_error = "invalid_request";
    else if ((e = take_scope(db_arena(tx), r->scope, ret_scopes)) == PL_INVALID_REQUEST)
        *ret_error = "invalid_scope";
    return e == PL_INVALID_REQUEST ? PL_OK : e;
}

enum pl_err oauth_answer(const struct oauth_ctx *ctx, struct pl_arena *a, const struct oauth_request *r, const char *name, const char *value, struct pl_str *ret)
{
    struct pl_buf b = pl_buf_init(a, 16384);
    pl_buf_fmt(&b, "%.*s%c%s=", PL_FMT(r->redirect_uri), pl_str_find(r->redirect_uri, '?') < r->redirect_uri.n ? '&' : '?', name);
    http_escape(&b, pl_str_of(value));
    if (r->state.p) {
        pl_buf_z(&b, "&state=");
        http_escape(&b, r->state);
    }
    pl_buf_z(&b, "&iss=");
    http_escape(&b, ctx->settings.issuer);
    *ret = pl_buf_view(&b);
    return pl_buf_err(&b);
}

/* ---- what the operator registers ---- */

bool oauth_redirect_good(struct pl_str uri)
{
    static const char *const schemes[] = { "https://", "http://127.0.0.1/", "http://127.0.0.1:", "http://localhost/", "http://localhost:" };
    bool begins = false;
    for (size_t i = 0; i < PL_COUNT(schemes); i++)
        begins = begins || (pl_str_starts(uri, pl_str_of(schemes[i])) && uri.n > strlen(schemes[i]));
    for (size_t i = 0; i < uri.n; i++)
        if ((unsigned char)uri.p[i] <= ' ' || (unsigned char)uri.p[i] >= 0x7f || strchr("#<>@\"\\^`{|}", uri.p[i]))
            return false;
    return begins;
}

enum pl_err oauth_client_add(struct oauth_ctx *ctx, struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, const struct oauth_client_new *client, struct pl_uuid *ret_id,
                             char ret_secret[SECURE_TOKEN_TEXT], struct pl_fail *reterr)
{
    const struct pl_str *uris = client->redirect_uris.items;
    struct pl_buf b = pl_buf_init(db_arena(tx), 32768);
    struct pl_uuid id = pl_uuid7(rand, now);
    uint8_t hash[32];
    int64_t count = 0;
    enum pl_err e = oauth_offered(ctx, reterr);
    if (e != PL_OK)
        return e;
    for (size_t i = 0; i < client->redirect_uris.n; i++) {
        if (!oauth_redirect_good(uris[i]))
            return pl_fail_field(reterr, PL_INVALID_REQUEST, "redirect_uris", "redirect_uris: %.*s is not https:// (or http:// on loopback), or has a fragment.", PL_FMT(uris[i]));
        pl_buf_fmt(&b, "%s%.*s", i ? "\n" : "", PL_FMT(uris[i]));
    }
    if (!b.n)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "redirect_uris", "redirect_uris: at least one is expected.");
    ret_secret[0] = '\0';
    if (!client->public) {
        secure_token_new(SECRET, ret_secret);
        e = secure_token_hash(pl_str_of(ret_secret), SECRET, hash);
    }
    if (e == PL_OK && (e = pl_buf_err(&b)) == PL_OK)
        e = oauth_sql_client_add(tx, id, client->name, pl_buf_view(&b), client->public ? PL_STR_NONE : (struct pl_str){ (const char *)hash, 32 }, now, &count);
    if (e == PL_OK && count != 1)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "name", "name: another service is called so.");
    *ret_id = id;
    return e;
}

enum pl_err oauth_client_list(struct db_tx *tx, struct jw *w)
{
    struct oauth_sql_client_list_row *rows;
    size_t n;
    enum pl_err e = oauth_sql_client_list(tx, &rows, &n);
    if (e != PL_OK)
        return e;
    jw_array(w, "clients");
    for (size_t i = 0; i < n; i++) {
        jw_open(w, NULL);
        jw_uuid(w, "client_id", rows[i].id);
        jw_str(w, "name", rows[i].name);
        jw_bool(w, "public", rows[i].public);
        jw_array(w, "redirect_uris");
        for (struct pl_str rest = rows[i].redirect_uris; rest.n;)
            jw_str(w, NULL, pl_str_split(rest, '\n', &rest));
        jw_end_array(w);
        jw_utc(w, "created_at", rows[i].created_at);
        jw_close(w);
    }
    jw_end_array(w);
    return PL_OK;
}

enum pl_err oauth_client_remove(struct oauth_ctx *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid id, bool *ret_more)
{
    struct oauth_sql_services_of_client_row *rows;
    size_t n = 0;
    int64_t count = 0;
    enum pl_err e = oauth_sql_services_of_client(tx, id, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = oauth_unlink(ctx, tx, now, &(struct http_actor){ .account_id = rows[i].account_id, .client_id = id }, rows[i].delegation_id);
    *ret_more = n == 1000;
    if (e != PL_OK || *ret_more)
        return e;
    if ((e = oauth_sql_code_drop_client(tx, id, NULL)) == PL_OK)
        e = oauth_sql_client_drop(tx, id, &count);
    return e == PL_OK && count != 1 ? PL_NOT_FOUND : e;
}

/* ---- ends ---- */

enum pl_err oauth_unlink(const struct oauth_ctx *ctx, struct db_tx *tx, struct pl_utc now, const struct http_actor *actor, struct pl_uuid delegation_id)
{
    enum pl_err e = account_delegation_end(ctx->account, tx, now, actor, ACCOUNT_SERVICE, delegation_id);
    if (e == PL_OK)
        e = oauth_sql_service_drop(tx, actor->account_id, delegation_id, NULL);
    return e == PL_OK ? oauth_sql_refresh_drop(tx, actor->account_id, delegation_id, NULL) : e;
}

enum pl_err oauth_erase(struct db_tx *tx, struct pl_uuid account_id)
{
    enum pl_err e = oauth_sql_erase_codes(tx, account_id, NULL);
    if (e == PL_OK)
        e = oauth_sql_erase_services(tx, account_id, NULL);
    return e == PL_OK ? oauth_sql_erase_refresh(tx, account_id, NULL) : e;
}

enum pl_err oauth_expire(struct db_tx *tx, struct pl_utc now)
{
    enum pl_err e = oauth_sql_code_expire(tx, pl_utc_add(now, -CODE_KEPT), NULL);
    return e == PL_OK ? oauth_sql_refresh_expire(tx, now, NULL) : e;
}
