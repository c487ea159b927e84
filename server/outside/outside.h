/* outside.h - accounts elsewhere by which somebody may log in: this server as a client of OpenID Connect (Core 1.0; RFC 6749 with RFC 9700, PKCE of RFC 7636, RFC 9207).
 *
 * "Linking to an outside account (OAuth 2.0 authorization code + PKCE) is optional, can be skipped and done later, and undone."
 * The operator names providers, a file each. A person who is signed in links his account there to his account here, after a step-up; from then on it stands in the password's
 * place at a log-in, and never in the PIN's: a client that the account does not know answers a challenge as before. One link a provider and account; an outside account belongs to
 * one account at most, and who links it second is not told whose it is. E-mail addresses that a provider tells are shown to the link's owner and decide nothing.
 * Who goes to a provider is sent with a state, a nonce and a challenge (S256) made from a random state and a key of this server: a flow is good for ten minutes, once, at the
 * provider where it was begun (each has a redirect URI of its own), for the client that began it: a signed-in one by its token, a log-in by a key that its app keeps.
 * So nobody finishes what another began. The redirect URI is account.link_url with /linked/<provider>: a page or claimed link of the app, which hands code and state back by the API.
 * Of the provider's tokens nothing is kept: the ID token says who it is (RS256 and ES256 alone), and there is no other use for them, so that an undo has nothing to take back.
 * What is asked of a provider is bounded in time and size, follows no redirect, goes to no private address unless the operator says so, and has workers of its own (http's
 * outside rows), of which one that is silent for a second does not get the last: it costs only
 * its own users anything (with links.workers = 1 those of all providers).
 * Not here: services that are linked to us (oauth.h), log-in itself (account.h).
 * Threads: any; a provider's documents are kept under its lock.  Memory: the call's arena.
 *     e = outside_new(&(struct outside_conf){ ... }, &ctx, &fail);
 *     http_mount(http, outside_routes, ctx);
 */
#pragma once
#include "account.h"

struct outside_settings {
    struct pl_str providers; /**< folder; empty: there are none */
    struct pl_str ca_file;
    int64_t timeout, workers;
    bool private_addresses;
};
extern const struct conf_row outside_conf_rows[];

struct outside;
struct outside_conf {
    struct outside_settings settings;
    struct pl_str link_url; /**< account.link_url */
    const struct pl_secret *master;
    struct account *account; /**< outlives the context, as clock and rand do */
    const struct pl_clock *clock;
    struct pl_rand *rand;
};
/* Reads the providers' files. PL_INVALID_REQUEST with the file and what is wrong. */
PL_MUST enum pl_err outside_new(const struct outside_conf *conf, struct outside **ret, struct pl_fail *reterr);
struct outside *outside_free(struct outside *ctx);
/* How many workers its rows want: 0 without providers. */
unsigned outside_workers(const struct outside *ctx);

extern const struct http_route outside_routes[]; /* self: struct outside */

/* An account_part: writes member "links". */
PL_MUST enum pl_err outside_write_export(struct db_tx *tx, struct jw *w, struct pl_utc now, struct pl_uuid account_id);
/* Handler of JOURNAL_ACCOUNT_DELETED; part of account_conf.unlink: links, and those that were begun. */
PL_MUST enum pl_err outside_erase(struct db_tx *tx, struct pl_uuid account_id);
/* Job, every minute. */
PL_MUST enum pl_err outside_expire(struct db_tx *tx, struct pl_utc now);
