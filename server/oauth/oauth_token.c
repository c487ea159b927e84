/* oauth_token.c - what a service's own server calls: codes for tokens, tokens renewed, a link given up. Refusals here are those of RFC 6749, 5.2, not problem+json. */
#include "oauth_int.h"

#define CODE "ploc"
#define REFRESH "plor"
#define SECRET "plos"
#define CODE_LIFE PL_MINUTE
#define REFRESH_LIFE (180 * PL_DAY)
#define REUSE_SEEN (7 * PL_DAY)
#define REUSE_GRACE (30 * PL_SECOND)
#define FORM_BYTES 8192

struct caller {
    struct oauth_sql_client_get_row client;
    bool proved; /* it has a secret, and this is it */
};

static struct pl_str hash_str(const uint8_t hash[32]) { return (struct pl_str){ (const char *)hash, 32 }; }

/* The transaction is committed: what a refusal did, such as taking back what a stolen code had made, stays. */
static enum pl_err refuse(struct http_call *c, int status, const char *error, const char *description)
{
    c->status = status;
    if (status == 401)
        http_reply_header(c, "WWW-Authenticate", PL_STR("Basic realm=\"porchlight\""));
    jw_z(&c->out, "error", error);
    jw_z(&c->out, "error_description", description);
    return PL_OK;
}

/* ---- who calls (RFC 6749, 2.3.1): Basic, or members of the form ---- */

static struct pl_str basic(struct http_call *c)
{
    struct pl_str rest, given = http_header(c, "Authorization");
    if (!given.p || !pl_str_eq_nocase(pl_str_split(given, ' ', &rest), PL_STR("Basic")))
        return PL_STR_NONE;
    struct pl_str text = pl_str_dup(c->arena, pl_str_trim(rest));
    uint8_t *bytes = pl_alloc(c->arena, text.n + 1);
    if (!text.p || !bytes)
        return PL_STR_NONE;
    char *p = (char *)(uintptr_t)text.p;
    while (text.n && p[text.n - 1] == '=')
        text.n--;
    for (size_t i = 0; i < text.n; i++)
        p[i] = (char)(p[i] == '+' ? '-' : p[i] == '/' ? '_' : p[i]);
    size_t n;
    return pl_unb64url_any(text, bytes, text.n, &n) == PL_OK ? (struct pl_str){ (const char *)bytes, n } : PL_STR_NONE;
}

static bool right_secret(const struct oauth_sql_client_get_row *client, struct pl_str secret)
{
    uint8_t hash[32];
    return client->secret_hash.p && secure_token_hash(secret, SECRET, hash) == PL_OK && secure_eq(hash, sizeof hash, client->secret_hash.p, client->secret_hash.n);
}

/* *ret_known false: refused, and the reply is written. */
static enum pl_err who(struct http_call *c, const struct oauth_form *f, struct caller *ret, bool *ret_known)
{
    struct pl_str id = oauth_form_get(f, "client_id"), secret = oauth_form_get(f, "client_secret"), header = basic(c);
    struct pl_uuid uuid;
    bool found = false;
    enum pl_err e = PL_OK;
    if (header.p && !secret.p) {
        id = http_unescape(c->arena, pl_str_split(header, ':', &secret), true);
        secret = http_unescape(c->arena, secret, true);
    }
    if (pl_uuid_parse(id, &uuid) == PL_OK)
        e = oauth_sql_client_get(c->tx, uuid, &ret->client, &found);
    if (e != PL_OK)
        return e;
    ret->proved = found && right_secret(&ret->client, secret);
    *ret_known = found && (ret->proved || (!ret->client.secret_hash.p && !secret.n));
    return *ret_known ? PL_OK : refuse(c, 401, "invalid_client", "No such service, or not its secret.");
}

/* ---- tokens ---- */

struct link {
    struct pl_uuid account_id, delegation_id;
    int32_t generation;
    struct pl_str scopes;
};

static enum pl_err tokens(struct http_call *c, const struct link *l)
{
    const struct oauth_ctx *ctx = c->self;
    char access[SECURE_TOKEN_TEXT], refresh[SECURE_TOKEN_TEXT];
    uint8_t hash[32];
    account_delegation_token_new(ACCOUNT_SERVICE, access);
    secure_token_new(REFRESH, refresh);
    enum pl_err e = secure_token_hash(pl_str_of(refresh), REFRESH, hash);
    if (e == PL_OK)
        e = account_delegation_token_add(c->tx, l->account_id, l->delegation_id, ACCOUNT_SERVICE, access, pl_utc_add(c->now, ctx->settings.access_life));
    if (e == PL_OK)
        e = oauth_sql_refresh_add(c->tx, hash_str(hash), l->account_id, l->delegation_id, l->generation, pl_utc_add(c->now, REFRESH_LIFE), NULL);
    if (e == PL_OK) {
        jw_z(&c->out, "access_token", access);
        jw_z(&c->out, "token_type", "Bearer");
        jw_int(&c->out, "expires_in", pl_seconds_up(ctx->settings.access_life));
        jw_z(&c->out, "refresh_token", refresh);
        jw_str(&c->out, "scope", l->scopes);
    }
    secure_wipe(access, sizeof access);
    secure_wipe(refresh, sizeof refresh);
    return e;
}

/* PKCE (RFC 7636, 4.6): the verifier is the one whose hash began the request. */
static bool verifies(struct pl_str verifier, struct pl_str challenge)
{
    uint8_t hash[32], begun[32];
    if (verifier.n < 43 || verifier.n > 128 || pl_unb64url(challenge, begun, sizeof begun) != PL_OK)
        return false;
    secure_sha256(verifier, hash);
    return secure_eq(hash, sizeof hash, begun, sizeof begun);
}

/* One link a service: the one before makes room. Of two codes that come at once the later one sees the earlier one's link. */
static enum pl_err unlink_older(struct http_call *c, const struct http_actor *actor)
{
    struct oauth_sql_service_of_row row;
    bool found;
    enum pl_err e = account_lock(c->tx, actor->account_id);
    if (e == PL_OK)
        e = oauth_sql_service_of(c->tx, actor->account_id, actor->client_id, &row, &found);
    return e == PL_OK && found ? oauth_unlink(c->self, c->tx, c->now, actor, row.delegation_id) : e;
}

static enum pl_err link_now(struct http_call *c, const struct caller *who, const struct oauth_sql_code_lock_row *code, struct link *ret)
{
    const struct oauth_ctx *ctx = c->self;
    const struct http_actor actor = { .account_id = code->account_id, .client_id = who->client.id };
    *ret = (struct link){ .account_id = code->account_id, .scopes = code->scopes };
    enum pl_err e = unlink_older(c, &actor);
    if (e == PL_OK)
        e = account_delegation_add(ctx->account, c->tx, c->now, &actor,
                                   &(struct account_delegation){ .kind = ACCOUNT_SERVICE, .name = who->client.name, .hint = PL_STR(""), .scopes = code->scopes, .systems = code->systems },
                                   &ret->delegation_id);
    return e == PL_OK ? oauth_sql_service_add(c->tx, code->account_id, ret->delegation_id, who->client.id, c->now, NULL) : e;
}

/* RFC 6749, 4.1.2: a code that comes again was stolen, now or then: what it made is taken back. */
static enum pl_err code_again(struct http_call *c, const struct caller *who, const struct oauth_sql_code_lock_row *code)
{
    const struct http_actor actor = { .account_id = code->account_id, .client_id = who->client.id };
    bool made = !pl_uuid_eq(code->delegation_id, (struct pl_uuid){ { 0 } });
    enum pl_err e = made ? oauth_unlink(c->self, c->tx, c->now, &actor, code->delegation_id) : PL_OK;
    if (made && e == PL_OK)
        e = account_delegation_nudge_after(c, ((const struct oauth_ctx *)c->self)->account, code->account_id);
    return e == PL_OK || e == PL_NOT_FOUND ? refuse(c, 400, "invalid_grant", "This code was used before.") : e;
}

static enum pl_err by_code(struct http_call *c, const struct oauth_form *f, const struct caller *who)
{
    struct oauth_sql_code_lock_row code;
    struct link l = { 0 };
    uint8_t hash[32];
    bool found;
    if (secure_token_hash(oauth_form_get(f, "code"), CODE, hash) != PL_OK)
        return refuse(c, 400, "invalid_grant", "This is no code.");
    enum pl_err e = oauth_sql_code_lock(c->tx, hash_str(hash), who->client.id, &code, &found);
    if (e != PL_OK)
        return e;
    if (!found)
        return refuse(c, 400, "invalid_grant", "There is no such code for this service.");
    if (code.spent_at.us)
        return code_again(c, who, &code);
    bool good = pl_utc_sub(c->now, code.created_at) < CODE_LIFE && pl_str_eq(code.redirect_uri, oauth_form_get(f, "redirect_uri")) &&
                verifies(oauth_form_get(f, "code_verifier"), code.code_challenge);
    if (good && (e = link_now(c, who, &code, &l)) == PL_UNAUTHENTICATED)
        good = false; /* the account was deleted meanwhile */
    else if (e != PL_OK)
        return e;
    if ((e = oauth_sql_code_spend(c->tx, hash_str(hash), c->now, l.delegation_id, NULL)) != PL_OK)
        return e;
    if (!good)
        return refuse(c, 400, "invalid_grant", "The code is too old, or redirect_uri or code_verifier are not those of its request.");
    if ((e = account_delegation_nudge_after(c, ((const struct oauth_ctx *)c->self)->account, l.account_id)) != PL_OK)
        return e;
    return tokens(c, &l);
}

/* RFC 9700, 4.14.2. */
static enum pl_err reused(struct http_call *c, const struct caller *who, const struct oauth_sql_refresh_find_row *t)
{
    const struct http_actor actor = { .account_id = t->account_id, .client_id = who->client.id };
    enum pl_err e = oauth_unlink(c->self, c->tx, c->now, &actor, t->delegation_id);
    if (e == PL_OK)
        e = account_delegation_nudge_after(c, ((const struct oauth_ctx *)c->self)->account, t->account_id);
    return e == PL_OK ? refuse(c, 400, "invalid_grant", "This refresh token was used before: the link has ended.") : e;
}

static enum pl_err by_refresh(struct http_call *c, const struct oauth_form *f, const struct caller *who)
{
    struct oauth_sql_refresh_find_row t;
    struct oauth_sql_service_lock_row s;
    struct link l;
    uint8_t hash[32];
    bool found = false;
    enum pl_err e = PL_OK;
    if (secure_token_hash(oauth_form_get(f, "refresh_token"), REFRESH, hash) == PL_OK)
        e = oauth_sql_refresh_find(c->tx, hash_str(hash), c->now, &t, &found);
    if (e == PL_OK && found)
        e = oauth_sql_service_lock(c->tx, t.account_id, t.delegation_id, who->client.id, &s, &found);
    if (e != PL_OK)
        return e;
    if (!found)
        return refuse(c, 400, "invalid_grant", "There is no such refresh token for this service.");
    bool newest = t.generation == s.generation;
    bool lost_reply = t.generation == s.generation - 1 && who->proved && pl_utc_sub(c->now, s.rotated_at) < REUSE_GRACE;
    if (!newest && !lost_reply)
        return reused(c, who, &t);
    l = (struct link){ .account_id = t.account_id, .delegation_id = t.delegation_id, .generation = s.generation + (newest ? 1 : 0) };
    if (newest && (e = oauth_sql_service_rotate(c->tx, t.account_id, t.delegation_id, c->now, NULL)) == PL_OK)
        e = oauth_sql_refresh_age(c->tx, t.account_id, t.delegation_id, t.generation, pl_utc_add(c->now, REUSE_SEEN), NULL);
    if (e == PL_OK)
        e = account_delegation_scopes(c->tx, c->now, t.account_id, t.delegation_id, &l.scopes);
    return e == PL_OK ? tokens(c, &l) : e;
}

static enum pl_err on_token(struct http_call *c, struct pl_fail *reterr)
{
    static const struct { const char *type; enum pl_err (*run)(struct http_call *c, const struct oauth_form *f, const struct caller *who); } grants[] = {
        { "authorization_code", by_code }, { "refresh_token", by_refresh } };
    struct oauth_form f;
    struct caller who_is;
    bool known = false;
    enum pl_err e = oauth_offered(c->self, reterr);
    if (e != PL_OK)
        return e;
    if (oauth_form_take(c->arena, *(const struct pl_str *)c->body, &f) != PL_OK)
        return refuse(c, 400, "invalid_request", "The form is malformed.");
    struct pl_str type = oauth_form_get(&f, "grant_type");
    for (size_t i = 0; i < PL_COUNT(grants); i++)
        if (pl_str_eqz(type, grants[i].type))
            return (e = who(c, &f, &who_is, &known)) != PL_OK || !known ? e : grants[i].run(c, &f, &who_is);
    return refuse(c, 400, type.n ? "unsupported_grant_type" : "invalid_request", "grant_type is authorization_code or refresh_token.");
}

/* RFC 7009: either token ends the link; one that is unknown is as good as ended. */
static enum pl_err on_revoke(struct http_call *c, struct pl_fail *reterr)
{
    const struct oauth_ctx *ctx = c->self;
    struct oauth_form f;
    struct caller who_is;
    struct oauth_sql_refresh_find_row t = { 0 };
    struct oauth_sql_service_lock_row s;
    struct http_actor actor = { 0 };
    uint8_t hash[32];
    bool known = false, found = false;
    enum pl_err e = oauth_offered(ctx, reterr);
    if (e != PL_OK)
        return e;
    if (oauth_form_take(c->arena, *(const struct pl_str *)c->body, &f) != PL_OK)
        return refuse(c, 400, "invalid_request", "The form is malformed.");
    if ((e = who(c, &f, &who_is, &known)) != PL_OK || !known)
        return e;
    struct pl_str token = oauth_form_get(&f, "token");
    c->status = 200;
    if (secure_token_hash(token, REFRESH, hash) == PL_OK)
        e = oauth_sql_refresh_find(c->tx, hash_str(hash), c->now, &t, &found);
    else if ((e = account_authenticate(ctx->account, c->tx, c->now, token, &actor, NULL)) == PL_OK && (found = actor.scopes.p != NULL))
        t = (struct oauth_sql_refresh_find_row){ .account_id = actor.account_id, .delegation_id = actor.client_id };
    if (e == PL_UNAUTHENTICATED)
        return PL_OK;
    if (e == PL_OK && found)
        e = oauth_sql_service_lock(c->tx, t.account_id, t.delegation_id, who_is.client.id, &s, &found);
    if (e != PL_OK || !found)
        return e;
    e = oauth_unlink(ctx, c->tx, c->now, &(struct http_actor){ .account_id = t.account_id, .client_id = who_is.client.id }, t.delegation_id);
    return e == PL_OK ? account_delegation_nudge_after(c, ctx->account, t.account_id) : e;
}

const struct http_route oauth_routes[] = {
    { HTTP_POST, "/oauth/token", HTTP_PUBLIC, on_token, "Change a code or a refresh token for tokens", HTTP_RAW_BODY("application/x-www-form-urlencoded", FORM_BYTES), .rate = HTTP_RATE_WRITE },
    { HTTP_POST, "/oauth/revoke", HTTP_PUBLIC, on_revoke, "Give a link up", HTTP_RAW_BODY("application/x-www-form-urlencoded", FORM_BYTES), .rate = HTTP_RATE_WRITE },
    HTTP_END
};
