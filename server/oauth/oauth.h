/* oauth.h - accounts are linked to by outside services, such as voice assistants: an authorization server (RFC 6749 with RFC 9700, PKCE of RFC 7636, RFC 8414, RFC 7009, RFC 9207).
 *
 * The operator registers a service: name, where it may be answered (compared as it is), a secret that is told once. A person who comes from it signs in on a page of this
 * server, sees who asks and for what (scopes, account.h), and says yes: a code goes back, good for 60 s, once, with the verifier of its challenge (S256, always). A code that
 * comes twice takes back what it had made. The service gets an access token (oauth.access_life) and a refresh token that is replaced with each use; one that was replaced and
 * comes again unlinks the service and tells the owner, except within 30 s from a service that proved its secret: lost replies happen.
 * One link a service and account; a new one takes the old one's place. The owner sees and ends links, is told by e-mail, and what a service watches is cut with it (S-S5).
 * The page is static and acts by the REST API with a session of its own, so that there is no cookie and nothing to forge; it cannot be framed. Where something is wrong
 * with who asks, nothing is redirected.
 * Not here: what a scoped token may (account.h, http.h), signing in (account.h).  Threads: any, state is in PostgreSQL.  Memory: the call's arena.
 *     oauth_init(&n->oauth, &conf->oauth, n->account);
 *     http_mount(http, oauth_routes, &n->oauth);
 */
#pragma once
#include "account.h"

struct oauth_settings {
    struct pl_str issuer; /**< where this server is from outside; empty: services cannot be linked */
    int64_t access_life;
};
extern const struct conf_row oauth_conf_rows[];

struct oauth_ctx {
    struct oauth_settings settings;
    struct account *account;
};
extern const struct http_route oauth_routes[], oauth_page_routes[]; /* self: struct oauth_ctx */

/* For the admin listener. */
struct oauth_client_new {
    struct pl_str name;
    struct json_list redirect_uris; /**< of struct pl_str */
    bool public;                    /**< it can keep no secret */
};
/* *ret_secret empty for a public one; the caller tells it once and wipes it. PL_INVALID_REQUEST: a URI that is not https (http on loopback), or has a fragment; a name that is taken. */
PL_MUST enum pl_err oauth_client_add(struct oauth_ctx *ctx, struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, const struct oauth_client_new *client, struct pl_uuid *ret_id,
                                     char ret_secret[SECURE_TOKEN_TEXT], struct pl_fail *reterr);
/* Writes member "clients". */
PL_MUST enum pl_err oauth_client_list(struct db_tx *tx, struct jw *w);
/* Removes a service and unlinks it everywhere, a thousand accounts a call; *ret_more: call again. PL_NOT_FOUND. */
PL_MUST enum pl_err oauth_client_remove(struct oauth_ctx *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid id, bool *ret_more);

/* Handler of JOURNAL_ACCOUNT_DELETED; part of account_conf.unlink: codes, links and refresh tokens. */
PL_MUST enum pl_err oauth_erase(struct db_tx *tx, struct pl_uuid account_id);
/* Job, every minute. */
PL_MUST enum pl_err oauth_expire(struct db_tx *tx, struct pl_utc now);
