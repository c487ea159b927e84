/* outside_ask.c - what a provider is asked: its metadata and keys, which are kept for an hour, and whose a code is. */
#include "outside_int.h"

#define KEPT PL_HOUR
#define KEYS_AGAIN PL_MINUTE /* a key that is not known is looked for at most so often */

struct metadata {
    struct pl_str issuer, authorization_endpoint, token_endpoint, jwks_uri;
    struct json_list token_endpoint_auth_methods_supported; /* of struct pl_str; .items NULL: it says nothing */
    bool authorization_response_iss_parameter_supported;
};
#define META struct metadata
static const struct json_field metadata_fields[] = { JSON_F(META, issuer, J_STR, J_REQUIRED, .hi = 512), JSON_F(META, authorization_endpoint, J_STR, J_REQUIRED, .hi = 1024),
    JSON_F(META, token_endpoint, J_STR, J_REQUIRED, .hi = 1024), JSON_F(META, jwks_uri, J_STR, J_REQUIRED, .hi = 1024),
    JSON_F(META, token_endpoint_auth_methods_supported, J_STRS, J_OPTIONAL, .hi = 32), JSON_F(META, authorization_response_iss_parameter_supported, J_BOOL, J_OPTIONAL), J_END };

static enum pl_err odd(struct pl_fail *reterr, const char *what) { return pl_fail(reterr, PL_PROVIDER_UNAVAILABLE, "The provider does not answer as it should: %s.", what); }

/* ---- documents ---- */

static struct pl_str kept(const struct outside *ctx, struct outside_provider *p, struct outside_document *d, int64_t at_most, struct pl_arena *a)
{
    PL_LOCK(&p->lock);
    if (!d->text || pl_mono_sub(pl_now_mono(ctx->clock), d->at) >= at_most)
        return PL_STR_NONE;
    return pl_str_dup(a, (struct pl_str){ d->text, d->n });
}

/* Once it has turned out to be what it should be: a provider's page of regrets is not what is gone by for an hour. */
static void keep(const struct outside *ctx, struct outside_provider *p, struct outside_document *d, struct pl_str text)
{
    char *copy = pl_heap(text.n + 1);
    if (!copy)
        return; /* it is read again the next time */
    memcpy(copy, text.p, text.n);
    PL_LOCK(&p->lock);
    pl_heap_free(d->text);
    *d = (struct outside_document){ copy, text.n, pl_now_mono(ctx->clock) };
}

/* `d` if it is not older than that, else what stands at the URL now: *ret_new. */
static enum pl_err document(const struct outside *ctx, struct outside_provider *p, struct outside_document *d, int64_t at_most, struct pl_str url, struct pl_mono until, struct pl_arena *a,
                            struct pl_str *ret, bool *ret_new, struct pl_fail *reterr)
{
    struct outside_answer answer = { 0, PL_STR_NONE };
    *ret = kept(ctx, p, d, at_most, a);
    *ret_new = !ret->p;
    if (ret->p || pl_arena_err(a) != PL_OK)
        return pl_arena_err(a);
    enum pl_err e = outside_fetch(ctx, p, &(struct outside_request){ .url = url, .until = until }, a, &answer, reterr);
    if (e != PL_OK)
        return e;
    if (answer.status != 200)
        return odd(reterr, "its metadata or keys are not where they should be");
    *ret = answer.body;
    return PL_OK;
}

static enum pl_err metadata(const struct outside *ctx, struct outside_provider *p, struct pl_mono until, struct pl_arena *a, struct metadata *ret, struct pl_fail *reterr)
{
    struct metadata m = { .authorization_response_iss_parameter_supported = false };
    bool is_new = false, slash = p->issuer.p[p->issuer.n - 1] == '/';
    struct pl_str text, url = pl_fmt(a, "%.*s%s.well-known/openid-configuration", PL_FMT(p->issuer), slash ? "" : "/");
    if (!url.p)
        return PL_NO_MEMORY;
    enum pl_err e = document(ctx, p, &p->metadata, KEPT, url, until, a, &text, &is_new, reterr);
    if (e == PL_OK && (e = json_take(metadata_fields, JSON_LENIENT, text, a, &m, NULL)) == PL_INVALID_REQUEST)
        return odd(reterr, "its metadata are incomplete");
    if (e != PL_OK)
        return e;
    if (!pl_str_eq(m.issuer, p->issuer))
        return odd(reterr, "its metadata name another issuer");
    if (!outside_url_good(p, m.authorization_endpoint) || !outside_url_good(p, m.token_endpoint) || !outside_url_good(p, m.jwks_uri))
        return odd(reterr, "its metadata name an address that is not https");
    if (is_new)
        keep(ctx, p, &p->metadata, text);
    *ret = m;
    return PL_OK;
}

static struct pl_mono deadline(const struct outside *ctx) { return pl_mono_add(pl_now_mono(ctx->clock), ctx->settings.timeout); }

enum pl_err outside_authorization_endpoint(const struct outside *ctx, struct outside_provider *p, struct pl_arena *a, struct pl_str *ret, struct pl_fail *reterr)
{
    struct metadata m = { .authorization_response_iss_parameter_supported = false };
    enum pl_err e = metadata(ctx, p, deadline(ctx), a, &m, reterr);
    if (e == PL_OK)
        *ret = m.authorization_endpoint;
    return e;
}

/* ---- a code ---- */

static bool in_list(const struct json_list *l, const char *word)
{
    const struct pl_str *words = l->items;
    for (size_t i = 0; i < l->n; i++)
        if (pl_str_eqz(words[i], word))
            return true;
    return false;
}

static void field(struct pl_buf *b, const char *name, struct pl_str value)
{
    pl_buf_fmt(b, "%s%s=", b->n ? "&" : "", name);
    http_escape(b, value);
}

static struct pl_str escaped(struct pl_arena *a, struct pl_str s)
{
    struct pl_buf b = pl_buf_init(a, 16384);
    http_escape(&b, s);
    return pl_buf_err(&b) == PL_OK ? pl_buf_view(&b) : PL_STR_NONE;
}

/* The secret goes as the provider takes it; by Basic where it does not say (OpenID Connect Discovery, 3). */
static enum pl_err exchange(const struct outside *ctx, struct outside_provider *p, const struct metadata *m, const struct outside_flow *flow, struct pl_str code, struct pl_mono until,
                            struct pl_arena *a, struct outside_answer *ret, struct pl_fail *reterr)
{
    struct pl_buf b = pl_buf_init(a, 32768);
    const struct json_list *methods = &m->token_endpoint_auth_methods_supported;
    bool basic = p->secret.n && (!methods->items || in_list(methods, "client_secret_basic"));
    struct outside_request r = { .url = m->token_endpoint, .user = PL_STR_NONE, .password = PL_STR_NONE, .until = until };
    field(&b, "grant_type", PL_STR("authorization_code"));
    field(&b, "code", code);
    field(&b, "redirect_uri", flow->redirect_uri);
    field(&b, "code_verifier", flow->verifier);
    if (basic) {
        r.user = escaped(a, p->client_id);
        r.password = escaped(a, p->secret);
    } else {
        field(&b, "client_id", p->client_id);
        if (p->secret.n)
            field(&b, "client_secret", p->secret);
    }
    r.form = pl_buf_view(&b);
    if (pl_buf_err(&b) != PL_OK || pl_arena_err(a) != PL_OK)
        return PL_NO_MEMORY;
    return outside_fetch(ctx, p, &r, a, ret, reterr);
}

/* A code that it does not take is its bearer's trouble; all else that is no token is ours or the provider's. */
static enum pl_err take_tokens(const struct outside_answer *answer, struct pl_arena *a, struct pl_str *ret_id_token, struct pl_str *ret_access_token, struct pl_fail *reterr)
{
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    enum pl_err e = json_parse(answer->body, &d, NULL);
    if (e != PL_OK)
        return e == PL_INVALID_REQUEST ? odd(reterr, "its token endpoint speaks no JSON") : e;
    if (answer->status != 200)
        return answer->status == 400 && pl_str_eqz(json_doc_str(d, "error"), "invalid_grant") ? pl_fail(reterr, PL_LINK_REFUSED, "The provider does not take this code.")
                                                                                               : odd(reterr, "its token endpoint refuses us");
    struct pl_str id_token = json_doc_str(d, "id_token"), access_token = json_doc_str(d, "access_token");
    if (!id_token.p)
        return odd(reterr, "it gave no ID token");
    *ret_id_token = pl_str_dup(a, id_token);
    *ret_access_token = access_token.p ? pl_str_dup(a, access_token) : PL_STR_NONE;
    return pl_arena_err(a);
}

static enum pl_err check(const struct outside *ctx, struct outside_provider *p, const struct metadata *m, struct pl_str id_token, const struct outside_expected *x, struct pl_mono until,
                         struct pl_arena *a, struct outside_identity *ret, struct pl_fail *reterr)
{
    struct pl_str keys;
    bool is_new = false;
    enum pl_err e = PL_NOT_FOUND;
    for (int64_t at_most = KEPT; e == PL_NOT_FOUND && at_most >= KEYS_AGAIN; at_most -= KEPT - KEYS_AGAIN) {
        e = document(ctx, p, &p->keys, at_most, m->jwks_uri, until, a, &keys, &is_new, reterr);
        if (e != PL_OK)
            return e;
        e = outside_id_token(a, id_token, keys, x, ret, reterr);
        if (is_new && e != PL_PROVIDER_UNAVAILABLE)
            keep(ctx, p, &p->keys, keys);
    }
    return e == PL_NOT_FOUND ? pl_fail(reterr, PL_LINK_REFUSED, "The ID token was refused: it is signed by a key that the provider does not show.") : e;
}

enum pl_err outside_who(const struct outside *ctx, struct outside_provider *p, struct pl_arena *a, const struct outside_return *back, struct outside_identity *ret, struct pl_fail *reterr)
{
    struct pl_mono until = deadline(ctx);
    struct outside_expected x = { .issuer = p->issuer, .client_id = p->client_id, .began = back->began, .now = back->now };
    struct outside_answer answer = { 0, PL_STR_NONE };
    struct outside_flow flow;
    struct metadata m = { .authorization_response_iss_parameter_supported = false };
    struct pl_str id_token;
    enum pl_err e = outside_flow_of(ctx, p, a, back->state, &flow);
    if (e == PL_OK)
        e = metadata(ctx, p, until, a, &m, reterr);
    if (e != PL_OK)
        return e;
    /* RFC 9207: an answer that names somebody else was not this provider's. */
    if (back->iss.p ? !pl_str_eq(back->iss, p->issuer) : m.authorization_response_iss_parameter_supported)
        return pl_fail(reterr, PL_LINK_REFUSED, "%s", back->iss.p ? "The answer came from another provider (iss)." : "The answer does not say whose it is (iss).");
    if ((e = exchange(ctx, p, &m, &flow, back->code, until, a, &answer, reterr)) == PL_OK)
        e = take_tokens(&answer, a, &id_token, &x.access_token, reterr);
    x.nonce = flow.nonce;
    return e == PL_OK ? check(ctx, p, &m, id_token, &x, until, a, ret, reterr) : e;
}
