/* oauth_page.c - what a person sees: the page on which he says yes, and the list of what he said yes to. Also the document by which services find all this (RFC 8414). */
#include "oauth_int.h"

#define CODE "ploc"
#define FRESH (10 * PL_MINUTE)
/* Nothing from elsewhere, nothing inline, in nobody's frame. */
#define CSP "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

/* ---- for services ---- */

static void endpoint(struct http_call *c, const char *name, const char *path)
{
    const struct oauth_ctx *ctx = c->self;
    jw_str(&c->out, name, pl_fmt(c->arena, "%.*s%s", PL_FMT(ctx->settings.issuer), path));
}

static void words(struct jw *w, const char *name, const char *const *list)
{
    jw_array(w, name);
    for (; *list; list++)
        jw_z(w, NULL, *list);
    jw_end_array(w);
}

static enum pl_err on_metadata(struct http_call *c, struct pl_fail *reterr)
{
    static const char *const code[] = { "code", NULL }, *const grants[] = { "authorization_code", "refresh_token", NULL }, *const s256[] = { "S256", NULL },
                      *const methods[] = { "client_secret_basic", "client_secret_post", "none", NULL };
    enum pl_err e = oauth_offered(c->self, reterr);
    if (e != PL_OK)
        return e;
    endpoint(c, "issuer", "");
    endpoint(c, "authorization_endpoint", "/oauth/authorize");
    endpoint(c, "token_endpoint", "/oauth/token");
    endpoint(c, "revocation_endpoint", "/oauth/revoke");
    jw_array(&c->out, "scopes_supported");
    for (const struct account_scope *s = account_scopes; s->name; s++)
        jw_z(&c->out, NULL, s->name);
    jw_end_array(&c->out);
    words(&c->out, "response_types_supported", code);
    words(&c->out, "grant_types_supported", grants);
    words(&c->out, "code_challenge_methods_supported", s256);
    words(&c->out, "token_endpoint_auth_methods_supported", methods);
    words(&c->out, "revocation_endpoint_auth_methods_supported", methods);
    jw_bool(&c->out, "authorization_response_iss_parameter_supported", true);
    return PL_OK;
}

/* ---- the page ---- */

static void page_headers(struct http_call *c, const char *type)
{
    c->raw = true;
    c->content_type = type;
    http_reply_header(c, "Content-Security-Policy", PL_STR(CSP));
    http_reply_header(c, "X-Frame-Options", PL_STR("DENY"));
    http_reply_header(c, "Referrer-Policy", PL_STR("no-referrer"));
}

static void write_scopes(struct pl_buf *b, struct pl_str scopes)
{
    while (scopes.n) {
        struct pl_str word = pl_str_split(scopes, ' ', &scopes);
        for (const struct account_scope *s = account_scopes; s->name; s++)
            if (pl_str_eqz(word, s->name))
                pl_buf_fmt(b, "<li>%s</li>", s->may);
    }
}

/* The page's text, {{client}}, {{scopes}} and {{deny}} filled in. */
static void write_page(struct pl_buf *b, struct pl_str client, struct pl_str scopes, struct pl_str deny)
{
    struct pl_str rest = oauth_page_html;
    while (rest.n) {
        size_t at = 0;
        while (at + 2 < rest.n && !(rest.p[at] == '{' && rest.p[at + 1] == '{'))
            at++;
        if (at + 2 >= rest.n) {
            pl_buf_str(b, rest);
            return;
        }
        struct pl_str name, after;
        pl_buf_str(b, (struct pl_str){ rest.p, at });
        name = pl_str_split((struct pl_str){ rest.p + at + 2, rest.n - at - 2 }, '}', &after);
        if (pl_str_eqz(name, "client"))
            oauth_html(b, client);
        else if (pl_str_eqz(name, "scopes"))
            write_scopes(b, scopes);
        else
            oauth_html(b, deny);
        rest = (struct pl_str){ after.p + 1, after.n - 1 }; /* behind the second brace */
    }
}

static enum pl_err on_authorize(struct http_call *c, struct pl_fail *reterr)
{
    const struct oauth_ctx *ctx = c->self;
    const struct oauth_request r = { .client_id = http_query(c, "client_id"), .redirect_uri = http_query(c, "redirect_uri"), .response_type = http_query(c, "response_type"),
                                     .scope = http_query(c, "scope"), .state = http_query(c, "state"), .code_challenge = http_query(c, "code_challenge"),
                                     .code_challenge_method = http_query(c, "code_challenge_method") };
    struct oauth_sql_client_get_row client;
    struct pl_str scopes, deny;
    const char *error;
    enum pl_err e = oauth_request_check(ctx, c->tx, &r, &client, &scopes, &error, reterr);
    if (e == PL_OK)
        e = oauth_answer(ctx, c->arena, &r, "error", error ? error : "access_denied", &deny);
    if (e != PL_OK)
        return e;
    if (error) {
        c->status = 303;
        http_reply_header(c, "Location", deny);
        return PL_OK;
    }
    page_headers(c, "text/html; charset=utf-8");
    write_page(&c->buf, client.name, scopes, deny);
    return PL_OK;
}

static enum pl_err on_script(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    page_headers(c, "text/javascript; charset=utf-8");
    pl_buf_str(&c->buf, oauth_page_js);
    return PL_OK;
}

static enum pl_err on_style(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    page_headers(c, "text/css; charset=utf-8");
    pl_buf_str(&c->buf, oauth_page_css);
    return PL_OK;
}

/* ---- yes ---- */

/* A client that signed in a moment ago has just answered a PIN or shown a passkey; any other brings a grant. */
static enum pl_err proved(struct http_call *c)
{
    const struct oauth_ctx *ctx = c->self;
    const struct http_hooks hooks = account_hooks(ctx->account);
    bool fresh;
    enum pl_err e = account_client_is_new(c->tx, c->now, &c->actor, FRESH, &fresh);
    return e == PL_OK && !fresh ? hooks.spend_grant(hooks.self, c->tx, c->now, &c->actor, "link_service", http_header(c, "Step-Up-Grant")) : e;
}

static enum pl_err on_consent(struct http_call *c, struct pl_fail *reterr)
{
    const struct oauth_ctx *ctx = c->self;
    const struct oauth_request *r = c->body;
    struct oauth_sql_client_get_row client;
    struct pl_str scopes, systems, next;
    char code[SECURE_TOKEN_TEXT];
    uint8_t hash[32];
    const char *error;
    enum pl_err e = oauth_request_check(ctx, c->tx, r, &client, &scopes, &error, reterr);
    if (e == PL_OK && error)
        return pl_fail(reterr, PL_INVALID_REQUEST, "%s", error);
    if (e == PL_OK)
        e = account_systems_take(ctx->account, c->tx, c->now, c->actor.account_id, r->has_systems ? &r->systems : NULL, &systems, reterr);
    if (e == PL_OK)
        e = proved(c);
    if (e != PL_OK)
        return e;
    secure_token_new(CODE, code);
    e = secure_token_hash(pl_str_of(code), CODE, hash);
    if (e == PL_OK)
        e = account_hold_client(c->tx, c->now, &c->actor); /* so that whoever ends all sessions ends this code, too */
    if (e == PL_OK)
        e = oauth_sql_code_add(c->tx, (struct pl_str){ (const char *)hash, 32 }, c->actor.account_id, client.id, r->redirect_uri, scopes, systems, r->code_challenge, c->now, NULL);
    if (e == PL_OK)
        e = oauth_answer(ctx, c->arena, r, "code", code, &next);
    if (e == PL_OK) {
        c->status = 201;
        jw_str(&c->out, "redirect_to", next);
    }
    secure_wipe(code, sizeof code);
    return e;
}

/* ---- what was linked ---- */

static enum pl_err on_services(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    return account_delegations_write(c->tx, &c->out, "services", ACCOUNT_SERVICE, c->actor.account_id);
}

static enum pl_err on_unlink(struct http_call *c, struct pl_fail *reterr)
{
    const struct oauth_ctx *ctx = c->self;
    struct pl_uuid id;
    (void)reterr;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e == PL_OK)
        e = oauth_unlink(ctx, c->tx, c->now, &c->actor, id);
    return e == PL_OK ? account_delegation_nudge_after(c, ctx->account, c->actor.account_id) : e;
}

#define REQUEST struct oauth_request
static const struct json_field request_fields[] = { JSON_F(REQUEST, client_id, J_STR, J_REQUIRED), JSON_F(REQUEST, redirect_uri, J_STR, J_REQUIRED, .hi = 2048),
    JSON_F(REQUEST, response_type, J_STR, J_REQUIRED), JSON_F(REQUEST, scope, J_STR, J_REQUIRED, .hi = 1024), JSON_F(REQUEST, state, J_STR, J_OPTIONAL, .hi = 2048),
    JSON_F(REQUEST, code_challenge, J_STR, J_REQUIRED), JSON_F(REQUEST, code_challenge_method, J_STR, J_REQUIRED),
    JSON_OPT(REQUEST, systems, J_STRS, .hi = 200), J_END };

const struct http_route oauth_page_routes[] = {
    { HTTP_GET, "/.well-known/oauth-authorization-server", HTTP_PUBLIC, on_metadata, "Where services find what they need to be linked" },
    { HTTP_GET, "/oauth/authorize", HTTP_PUBLIC, on_authorize, "The page on which a person lets a service in" },
    { HTTP_GET, "/oauth/authorize.js", HTTP_PUBLIC, on_script, "Its script" },
    { HTTP_GET, "/oauth/authorize.css", HTTP_PUBLIC, on_style, "Its style" },
    { HTTP_GET, "/v1/account/services", HTTP_SESSION, on_services, "The services that are linked" },
    { HTTP_POST, "/v1/account/services", HTTP_SESSION, on_consent, "Let a service in", HTTP_BODY(REQUEST, request_fields) },
    { HTTP_DELETE, "/v1/account/services/{id}", HTTP_SESSION, on_unlink, "Unlink a service" },
    HTTP_END
};
