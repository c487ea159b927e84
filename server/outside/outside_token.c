/* outside_token.c - is an ID token good (OpenID Connect Core 1.0, 3.1.3.7; RFC 7515, 7517, 7518)? The token and the keys are bytes of strangers; nothing here asks the machine.
 * Two algorithms, RS256 and ES256: which one it is says the list here, and the key must be of that kind, so that no token chooses how it is verified. */
#include "outside_int.h"
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#define TOKEN_MOST 16384
#define KEYS_MOST 64
#define TRIED_MOST 8 /* keys that a token without `kid` is held against */
#define LEEWAY PL_MINUTE
#define SUBJECT_MOST 255
#define LABEL_MOST 100
#define RSA_LEAST 256 /* bytes of the modulus: 2048 bits */
#define RSA_MOST 1024
#define YEAR_9999 253402300799.0 /* seconds; what is later is no time */

static enum pl_err refuse(struct pl_fail *reterr, const char *why) { return pl_fail(reterr, PL_LINK_REFUSED, "The ID token was refused: %s.", why); }

/* ---- keys ---- */

struct jwk {
    struct pl_str kty, kid, use, alg, n, e, crv, x, y;
};
struct jwk_set {
    struct json_list keys; /* of struct jwk */
};
#define JWK struct jwk
static const struct json_field jwk_fields[] = { JSON_F(JWK, kty, J_STR, J_REQUIRED), JSON_F(JWK, kid, J_STR, J_OPTIONAL, .hi = 512), JSON_F(JWK, use, J_STR, J_OPTIONAL),
    JSON_F(JWK, alg, J_STR, J_OPTIONAL), JSON_F(JWK, n, J_STR, J_OPTIONAL, .hi = 2048), JSON_F(JWK, e, J_STR, J_OPTIONAL), JSON_F(JWK, crv, J_STR, J_OPTIONAL),
    JSON_F(JWK, x, J_STR, J_OPTIONAL, .hi = 2048), JSON_F(JWK, y, J_STR, J_OPTIONAL), J_END };
static const struct json_field set_fields[] = { JSON_F(struct jwk_set, keys, J_ARRAY, J_REQUIRED, .hi = KEYS_MOST, .fields = jwk_fields, .size = sizeof(JWK)), J_END };

static void pkey_freep(EVP_PKEY **k) { EVP_PKEY_free(*k); }
static void pkey_ctx_freep(EVP_PKEY_CTX **c) { EVP_PKEY_CTX_free(*c); }
static void md_ctx_freep(EVP_MD_CTX **c) { EVP_MD_CTX_free(*c); }
static void bn_freep(BIGNUM **n) { BN_free(*n); }
static void build_freep(OSSL_PARAM_BLD **b) { OSSL_PARAM_BLD_free(*b); }
static void params_freep(OSSL_PARAM **p) { OSSL_PARAM_free(*p); }
static void sig_freep(ECDSA_SIG **s) { ECDSA_SIG_free(*s); }

static EVP_PKEY *key_of(const char *kind, OSSL_PARAM *params)
{
    EVP_PKEY_CTX *ctx PL_CLEANUP(pkey_ctx_freep) = EVP_PKEY_CTX_new_from_name(NULL, kind, NULL);
    EVP_PKEY *key = NULL;
    return ctx && EVP_PKEY_fromdata_init(ctx) == 1 && EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) == 1 ? key : NULL;
}

/* NULL: it is none of 2048 to 8192 bits with a small odd exponent. */
static EVP_PKEY *rsa_key(const struct jwk *k)
{
    uint8_t n[RSA_MOST], e[8];
    size_t nn, en;
    if (pl_unb64url_any(k->n, n, sizeof n, &nn) != PL_OK || pl_unb64url_any(k->e, e, sizeof e, &en) != PL_OK || nn < RSA_LEAST || !n[0] || !(n[nn - 1] & 1) || !en || !(e[en - 1] & 1) ||
        (en == 1 && e[0] < 3))
        return NULL;
    BIGNUM *bn PL_CLEANUP(bn_freep) = BN_bin2bn(n, (int)nn, NULL), *be PL_CLEANUP(bn_freep) = BN_bin2bn(e, (int)en, NULL);
    OSSL_PARAM_BLD *build PL_CLEANUP(build_freep) = OSSL_PARAM_BLD_new();
    if (!bn || !be || !build || !OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, bn) || !OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, be))
        return NULL;
    OSSL_PARAM *params PL_CLEANUP(params_freep) = OSSL_PARAM_BLD_to_param(build);
    return params ? key_of("RSA", params) : NULL;
}

/* NULL: it is no point of P-256. */
static EVP_PKEY *ec_key(const struct jwk *k)
{
    uint8_t point[65] = { 4 };
    char group[] = "prime256v1";
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0), OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point),
                            OSSL_PARAM_construct_end() };
    if (!pl_str_eqz(k->crv, "P-256") || pl_unb64url(k->x, point + 1, 32) != PL_OK || pl_unb64url(k->y, point + 33, 32) != PL_OK)
        return NULL;
    return key_of("EC", params);
}

/* R and S as JOSE has them (RFC 7518, 3.4), into what OpenSSL reads. 0: no. */
static size_t ec_signature(struct pl_str raw, uint8_t der[80])
{
    const uint8_t *p = (const uint8_t *)raw.p;
    ECDSA_SIG *sig PL_CLEANUP(sig_freep) = raw.n == 64 ? ECDSA_SIG_new() : NULL;
    BIGNUM *r = sig ? BN_bin2bn(p, 32, NULL) : NULL, *s = sig ? BN_bin2bn(p + 32, 32, NULL) : NULL;
    if (!r || !s || ECDSA_SIG_set0(sig, r, s) != 1) {
        BN_free(r);
        BN_free(s);
        return 0;
    }
    int n = i2d_ECDSA_SIG(sig, NULL);
    return n > 0 && n <= 80 && i2d_ECDSA_SIG(sig, &der) == n ? (size_t)n : 0;
}

static bool verify_rs256(const struct jwk *k, struct pl_str signed_part, struct pl_str sig)
{
    EVP_PKEY *key PL_CLEANUP(pkey_freep) = rsa_key(k);
    EVP_MD_CTX *md PL_CLEANUP(md_ctx_freep) = EVP_MD_CTX_new();
    return key && md && EVP_DigestVerifyInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
           EVP_DigestVerify(md, (const uint8_t *)sig.p, sig.n, (const uint8_t *)signed_part.p, signed_part.n) == 1;
}

static bool verify_es256(const struct jwk *k, struct pl_str signed_part, struct pl_str sig)
{
    uint8_t der[80];
    size_t n = ec_signature(sig, der);
    EVP_PKEY *key PL_CLEANUP(pkey_freep) = n ? ec_key(k) : NULL;
    EVP_MD_CTX *md PL_CLEANUP(md_ctx_freep) = EVP_MD_CTX_new();
    return key && md && EVP_DigestVerifyInit(md, NULL, EVP_sha256(), NULL, key) == 1 && EVP_DigestVerify(md, der, n, (const uint8_t *)signed_part.p, signed_part.n) == 1;
}

static const struct algorithm {
    const char *name, *kty;
    bool (*verify)(const struct jwk *k, struct pl_str signed_part, struct pl_str sig);
} algorithms[] = { { "RS256", "RSA", verify_rs256 }, { "ES256", "EC", verify_es256 } };

/* ---- the three parts ---- */

struct parts {
    struct pl_str header, claims, signature, signed_part;
};

static struct pl_str decode(struct pl_arena *a, struct pl_str s)
{
    size_t n, cap = s.n / 4 * 3 + 3;
    char *p = pl_alloc(a, cap);
    return p && pl_unb64url_any(s, p, cap, &n) == PL_OK ? (struct pl_str){ p, n } : PL_STR_NONE;
}

static enum pl_err split(struct pl_arena *a, struct pl_str token, struct parts *ret)
{
    struct pl_str rest, header = pl_str_split(token, '.', &rest), claims = pl_str_split(rest, '.', &rest);
    if (token.n > TOKEN_MOST || !rest.n || pl_str_find(rest, '.') < rest.n)
        return PL_LINK_REFUSED;
    *ret = (struct parts){ decode(a, header), decode(a, claims), decode(a, rest), { token.p, header.n + 1 + claims.n } };
    if (pl_arena_err(a) != PL_OK)
        return PL_NO_MEMORY;
    return ret->header.p && ret->claims.p && ret->signature.p ? PL_OK : PL_LINK_REFUSED;
}

static bool fits(const struct jwk *k, const struct algorithm *alg, struct pl_str kid)
{
    return pl_str_eqz(k->kty, alg->kty) && (!k->use.p || pl_str_eqz(k->use, "sig")) && (!k->alg.p || pl_str_eqz(k->alg, alg->name)) && (!kid.p || pl_str_eq(k->kid, kid));
}

static enum pl_err check_signature(const struct parts *t, const struct algorithm *alg, struct pl_str kid, const struct jwk_set *set, struct pl_fail *reterr)
{
    const struct jwk *keys = set->keys.items;
    size_t tried = 0;
    for (size_t i = 0; i < set->keys.n && tried < TRIED_MOST; i++) {
        if (!fits(&keys[i], alg, kid))
            continue;
        bool good = alg->verify(&keys[i], t->signed_part, t->signature);
        ERR_clear_error(); /* of this thread's queue, which is not ours alone */
        if (good)
            return PL_OK;
        tried++;
    }
    if (!tried)
        return PL_NOT_FOUND;
    return refuse(reterr, "its signature is not the provider's");
}

static enum pl_err check_header(const struct parts *t, struct pl_arena *a, struct pl_str keys, struct pl_fail *reterr)
{
    struct json_doc *header PL_CLEANUP(json_doc_freep) = NULL;
    struct jwk_set set = { { NULL, 0 } };
    const struct algorithm *alg = NULL;
    enum pl_err e = json_parse(t->header, &header, NULL);
    if (e != PL_OK)
        return e == PL_INVALID_REQUEST ? refuse(reterr, "its header is no JSON") : e;
    for (size_t i = 0; i < PL_COUNT(algorithms); i++)
        if (pl_str_eqz(json_doc_str(header, "alg"), algorithms[i].name))
            alg = &algorithms[i];
    if (!alg)
        return refuse(reterr, "its algorithm is neither RS256 nor ES256");
    if (json_doc_raw(header, "crit", a).p)
        return refuse(reterr, "its header wants what is not known here");
    e = json_take(set_fields, JSON_LENIENT, keys, a, &set, NULL);
    if (e != PL_OK)
        return e == PL_INVALID_REQUEST ? pl_fail(reterr, PL_PROVIDER_UNAVAILABLE, "The provider's keys are no JWK Set.") : e;
    return check_signature(t, alg, json_doc_str(header, "kid"), &set, reterr);
}

/* ---- claims ---- */

struct times {
    double exp, iat;
};
static const struct json_field time_fields[] = { JSON_F(struct times, exp, J_NUM, J_REQUIRED), JSON_F(struct times, iat, J_NUM, J_REQUIRED), J_END };
struct audience {
    struct json_list aud; /* of struct pl_str */
};
static const struct json_field audience_fields[] = { JSON_F(struct audience, aud, J_STRS, J_REQUIRED, .hi = 16), J_END };

static enum pl_err check_times(const struct json_doc *d, struct pl_arena *a, const struct outside_expected *x, struct pl_fail *reterr)
{
    struct times t = { 0, 0 };
    enum pl_err e = json_doc_take(d, time_fields, JSON_LENIENT, a, &t, NULL);
    if (e == PL_INVALID_REQUEST || (e == PL_OK && !(t.exp > 0 && t.exp < YEAR_9999 && t.iat > 0 && t.iat < YEAR_9999)))
        return refuse(reterr, "exp or iat is no time");
    if (e != PL_OK)
        return e;
    struct pl_utc exp = { (int64_t)(t.exp * 1e6) }, iat = { (int64_t)(t.iat * 1e6) };
    if (pl_utc_cmp(pl_utc_add(exp, LEEWAY), x->now) <= 0)
        return refuse(reterr, "it has expired");
    if (pl_utc_cmp(iat, pl_utc_add(x->now, LEEWAY)) > 0 || pl_utc_cmp(iat, pl_utc_add(x->began, -LEEWAY)) < 0)
        return refuse(reterr, "it was not issued since this was begun");
    return PL_OK;
}

/* One audience, or several with us as the one it was issued to (azp). */
static enum pl_err check_audience(const struct json_doc *d, struct pl_arena *a, const struct outside_expected *x, struct pl_fail *reterr)
{
    struct pl_str one = json_doc_str(d, "aud"), azp = json_doc_str(d, "azp");
    struct audience many = { { &one, 1 } };
    bool ours = false;
    enum pl_err e = one.p ? PL_OK : json_doc_take(d, audience_fields, JSON_LENIENT, a, &many, NULL);
    if (e != PL_OK)
        return e == PL_INVALID_REQUEST ? refuse(reterr, "it says not for whom it is") : e;
    const struct pl_str *aud = many.aud.items;
    for (size_t i = 0; i < many.aud.n; i++)
        ours = ours || pl_str_eq(aud[i], x->client_id);
    if (!ours)
        return refuse(reterr, "it is for somebody else (aud)");
    if (many.aud.n > 1 ? !pl_str_eq(azp, x->client_id) : azp.p && !pl_str_eq(azp, x->client_id))
        return refuse(reterr, "it was issued to somebody else (azp)");
    return PL_OK;
}

/* The access token is not used; but where the two are said to belong together they must (3.1.3.8). */
static bool at_hash_good(const struct json_doc *d, struct pl_arena *a, struct pl_str access_token)
{
    uint8_t hash[32];
    struct pl_str said = json_doc_str(d, "at_hash"), is;
    if (!said.p || !access_token.p)
        return true;
    secure_sha256(access_token, hash);
    is = pl_b64url(a, hash, 16);
    return secure_eq(said.p, said.n, is.p, is.n);
}

static struct pl_str label_of(const struct json_doc *d)
{
    static const char *const names[] = { "preferred_username", "email", "name" };
    for (size_t i = 0; i < PL_COUNT(names); i++) {
        struct pl_str s = json_doc_str(d, names[i]);
        if (s.n && pl_str_codepoints(s) <= LABEL_MOST)
            return s;
    }
    return PL_STR_NONE;
}

static enum pl_err check_claims(const struct json_doc *d, struct pl_arena *a, const struct outside_expected *x, struct outside_identity *ret, struct pl_fail *reterr)
{
    struct pl_str nonce = json_doc_str(d, "nonce"), subject = json_doc_str(d, "sub"), label = label_of(d);
    if (!pl_str_eq(json_doc_str(d, "iss"), x->issuer))
        return refuse(reterr, "it is another issuer's (iss)");
    enum pl_err e = check_audience(d, a, x, reterr);
    if (e == PL_OK)
        e = check_times(d, a, x, reterr);
    if (e != PL_OK)
        return e;
    if (!secure_eq(nonce.p ? nonce.p : "", nonce.n, x->nonce.p, x->nonce.n))
        return refuse(reterr, "it belongs to something else that was begun (nonce)");
    if (!at_hash_good(d, a, x->access_token))
        return refuse(reterr, "it does not belong to the access token (at_hash)");
    if (!subject.n || subject.n > SUBJECT_MOST)
        return refuse(reterr, "it says not who it is about (sub)");
    *ret = (struct outside_identity){ pl_str_dup(a, subject), label.p ? pl_str_dup(a, label) : PL_STR_NONE };
    return pl_arena_err(a);
}

enum pl_err outside_claims(struct pl_arena *a, struct pl_str claims, const struct outside_expected *x, struct outside_identity *ret, struct pl_fail *reterr)
{
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    enum pl_err e = json_parse(claims, &d, NULL);
    if (e != PL_OK)
        return e == PL_INVALID_REQUEST ? refuse(reterr, "its claims are no JSON") : e;
    return check_claims(d, a, x, ret, reterr);
}

enum pl_err outside_id_token(struct pl_arena *a, struct pl_str token, struct pl_str keys, const struct outside_expected *x, struct outside_identity *ret, struct pl_fail *reterr)
{
    struct parts t;
    enum pl_err e = split(a, token, &t);
    if (e != PL_OK)
        return e == PL_LINK_REFUSED ? refuse(reterr, "it is no signed token") : e;
    e = check_header(&t, a, keys, reterr);
    return e == PL_OK ? outside_claims(a, t.claims, x, ret, reterr) : e;
}
