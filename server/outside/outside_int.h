/* outside_int.h - what the files of outside/ share. Not a door. */
#pragma once
#include "outside.h"
#include "outside_sql.h"
#include <sys/socket.h>

#define OUTSIDE_PROVIDERS_MOST 16
#define OUTSIDE_FLOW_LIFE (10 * PL_MINUTE)

/* A document of a provider, as it came. */
struct outside_document {
    char *text; /* heap; NULL: never read */
    size_t n;
    struct pl_mono at;
};

struct outside_provider {
    struct pl_str name, title, issuer, client_id, scopes, secret; /* secret empty: a public client */
    bool local;             /* its issuer is http:// on loopback: then all of it may be, and nothing else */
    pthread_mutex_t lock;
    struct outside_document metadata, keys; /* LOCK: lock */
    int64_t under_way;         /* LOCK: lock; calls that wait for it */
    struct pl_mono heard_at;   /* LOCK: lock; its last answer, or when the first of those began to wait */
    struct pl_mono away_until; /* LOCK: lock */
};

struct outside {
    struct outside_settings settings;
    struct pl_arena *arena; /* what the providers' files said */
    struct outside_provider providers[OUTSIDE_PROVIDERS_MOST];
    size_t n;
    struct pl_str link_url;
    const char *ca_file; /* NULL: the system's */
    struct pl_secret key;
    struct account *account;
    const struct pl_clock *clock;
    struct pl_rand *rand;
};

/* ---- outside.c: providers, flows ---- */
struct outside_provider *outside_provider_find(struct outside *ctx, struct pl_str name);
/* What is made from a flow's state and kept nowhere: the verifier of its challenge and its nonce, 43 characters each. */
struct outside_flow {
    struct pl_str verifier, challenge, nonce, redirect_uri;
};
PL_MUST enum pl_err outside_flow_of(const struct outside *ctx, const struct outside_provider *p, struct pl_arena *a, struct pl_str state, struct outside_flow *ret);

/* ---- outside_http.c ---- */
void outside_metrics(void);

/* ---- outside_fetch.c: all of libcurl ---- */
/* libcurl's own start; as often as one likes, on one thread. */
PL_MUST enum pl_err outside_fetch_init(void);
/* Is it an address of the public network? */
bool outside_address_public(const struct sockaddr *sa);
/* Is it a URL that this provider may name: https, or http on loopback where its issuer is that? */
bool outside_url_good(const struct outside_provider *p, struct pl_str url);
struct outside_request {
    struct pl_str url;
    struct pl_str form;           /**< .p NULL: GET */
    struct pl_str user, password; /**< .p NULL: none */
    struct pl_mono until;
};
struct outside_answer {
    long status;
    struct pl_str body;
};
/* PL_PROVIDER_UNAVAILABLE with why: no answer in time, or one that is too large; at once where all workers but one wait for a provider that is silent for a second, and for a
 * GET (documents) within ten seconds after it did not answer. Any status is an answer. */
PL_MUST enum pl_err outside_fetch(const struct outside *ctx, struct outside_provider *p, const struct outside_request *r, struct pl_arena *a, struct outside_answer *ret,
                                  struct pl_fail *reterr);

/* ---- outside_token.c: is an ID token good? Pure: no clock, no socket ---- */
struct outside_expected {
    struct pl_str issuer, client_id, nonce;
    struct pl_str access_token; /**< that came with it; .p NULL: none */
    struct pl_utc began, now;   /**< it was issued between them */
};
struct outside_identity {
    struct pl_str subject;
    struct pl_str label; /**< by what its owner knows it: user name, e-mail or name; .p NULL: it says none */
};
/* Its claims, once the signature was right. PL_LINK_REFUSED. */
PL_MUST enum pl_err outside_claims(struct pl_arena *a, struct pl_str claims, const struct outside_expected *x, struct outside_identity *ret, struct pl_fail *reterr);
/* PL_LINK_REFUSED with what is wrong; PL_NOT_FOUND: no key of this name is among `keys` (a JWK Set). */
PL_MUST enum pl_err outside_id_token(struct pl_arena *a, struct pl_str token, struct pl_str keys, const struct outside_expected *x, struct outside_identity *ret, struct pl_fail *reterr);

/* ---- outside_ask.c: what a provider is asked ---- */
/* Where a person is sent. PL_PROVIDER_UNAVAILABLE. */
PL_MUST enum pl_err outside_authorization_endpoint(const struct outside *ctx, struct outside_provider *p, struct pl_arena *a, struct pl_str *ret, struct pl_fail *reterr);
/* Who came back: `code` is exchanged and the ID token held against the flow. iss .p NULL: it did not come. PL_LINK_REFUSED, PL_PROVIDER_UNAVAILABLE. */
struct outside_return {
    struct pl_str code, state, iss;
    struct pl_utc began, now;
};
PL_MUST enum pl_err outside_who(const struct outside *ctx, struct outside_provider *p, struct pl_arena *a, const struct outside_return *back, struct outside_identity *ret,
                                struct pl_fail *reterr);
