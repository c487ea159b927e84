/* account.h - accounts, clients, sessions, step-up: who somebody is and what they may do at once.
 *
 * Sign-up: e-mail PIN, then phone number, then phone PIN; only the last step makes the account (one transaction). Log-in: password, and from a client that the
 * account does not know a PIN. Neither tells whether an e-mail has an account (S-A5): same answer, same work; the owner gets a message instead. A phone number
 * that is taken is told only to who proved to hold it. Passwords: 8 to 128 code points, normalised once (NFKC), argon2id on workers of its own (http's heavy rows, S-A3).
 * A phone number is brought to its normal form; premium numbers and countries that are not served are refused (S-F5). The proposed country comes from the caller's
 * address where the operator gives a database of them, else from the language; the person confirms it.
 * S-A6: wrong passwords cost a growing wait (limit.h), a try being counted before it is compared.
 * A client is known again by the key that its app made and keeps (`client.key`, 256 bits); without one each log-in asks for a PIN.
 * A forgotten password is reset by an e-mailed link and then a PIN to the phone; that signs nobody in and everybody out (S-A8). Another e-mail or phone wants a step-up
 * and a PIN to the new one; the old one gets a link that undoes it for 72 h (S-P11). Both are what one does after a theft: they end every session, client, scoped token,
 * linked service, unspent code and link to an account elsewhere in one transaction, and an undo the factors, too. A password that is changed by who knows it ends the
 * other clients only. Links begin with account.link_url, never with anything of the request.
 * S-S1: tokens are 256 bits and stored as hashes. S-S2: access 15 min, refresh rotates, idle 30 d, absolute 180 d. S-S3: a refresh token used twice ends the
 * client's session and tells the owner, except within 30 s by the same client key before its successor was used. A step-up grant is single use, 5 min, for one purpose.
 * Beside clients there are scoped tokens: a person makes one for a script (plst) or links a service (plot). Each may only what its scopes say, row by row (http.h), and where
 * the person chose systems only there: all others are not there for it (S-S10), neither in lists nor in events. What is about log-in, factors, tokens, members or deletion is open to none of them.
 * Not here: PINs (pin.h), sending (notify.h), what an account owns (system.h, device.h).
 * Threads: any; state is in PostgreSQL, the list of event sockets has its own lock.  Memory: the call's arena.
 *     e = account_new(&(struct account_conf){ ... }, &ctx, &fail);
 *     http_mount(http, account_routes, ctx);   conf.hooks = account_hooks(ctx);   protocols[n] = account_events_protocol(ctx);
 */
#pragma once
#include "factor.h"
#include "http.h"
#include "journal.h"
#include "link.h"
#include "pin.h"

struct account; /* the context: node makes one, routes and tables get it as `self` */

struct account_settings {
    int64_t hash_threads; /**< password hashes at once, 19 MiB each */
    int64_t hash_queue;   /**< that may wait; past it PL_OVERLOADED: both for http's heavy rows */
    int64_t access_life, refresh_idle, refresh_life;
    struct pl_str phone_countries; /**< codes parted by blanks; empty: all */
    struct pl_str geo_database;    /**< path; empty: none */
    struct pl_str link_url; /**< in front of links in messages; lives as long as the context */
};
extern const struct conf_row account_conf_rows[];

/* What an upper module puts into the account's export: members of an open object. */
struct account_part {
    const char *name; /* NULL ends the list */
    enum pl_err (*write)(struct db_tx *tx, struct jw *w, struct pl_utc now, struct pl_uuid account_id);
};

struct account_conf {
    /* Is the account a member of that system (system_is_member)? PL_NOT_FOUND. May be NULL: then nothing can be given for some systems only. */
    enum pl_err (*member)(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid system_id);
    /* Ends what upper modules keep that acts or signs in for the account: links of services and of accounts elsewhere (oauth_erase, outside_erase), in the transaction that ends
     * every session (S-P11, S-A8). May be NULL: there is nothing of the kind. */
    enum pl_err (*unlink)(struct db_tx *tx, struct pl_uuid account_id);
    const struct account_part *parts; /**< outlives the context; NULL: none */
    struct account_settings settings;
    struct pin_conf pin;
    struct factor_conf factor; /**< its strings outlive the context */
    const struct pl_secret *master;
    struct notify *notify; /**< outlives the context */
    struct bus *bus;
    const struct pl_clock *clock;
    struct pl_rand *rand;
    const struct pl_log *log;
};
PL_MUST enum pl_err account_new(const struct account_conf *conf, struct account **ret, struct pl_fail *reterr);
struct account *account_free(struct account *ctx);

/* Member `client` of a log-in's body: who asks. */
struct account_client_body {
    struct pl_str name, platform, key; /* key: 32 bytes */
};
extern const struct json_field account_client_fields[];
/* Somebody has shown another first factor than the password, whose rows are an upper module's: the log-in goes on as after a password, in the transaction that acts on it.
 * Writes what POST /v1/sessions answers: tokens (201) to a client that is known again by its key, else a challenge (202). channel: an enum notify_channel, or -1.
 * After the commit account_delegation_nudge_after. PL_UNAUTHENTICATED: there is no such account any more. */
PL_MUST enum pl_err account_log_in_as(struct account *ctx, struct http_call *c, struct db_tx *tx, struct pl_uuid account_id, const struct account_client_body *client, int channel,
                                      struct pl_fail *reterr);

extern const struct http_route account_routes[], account_factor_routes[], account_token_routes[]; /* self: struct account */
/* authenticate and spend_grant for http's engine. */
struct http_hooks account_hooks(struct account *ctx);
/* /v1/events, porchlight.events.v1. The tables live in ctx. */
struct link_protocol account_events_protocol(struct account *ctx);
/* Job, once a second: closes event sockets whose session is past its time, and every 5 s looks for what a lost nudge did not tell (S-S5). */
void account_events_sweep(struct account *ctx);

/* Looks an access token up, a client's or a scoped one: one query. PL_UNAUTHENTICATED when it is none, expired or revoked. *ret_until (may be NULL): when it expires. */
PL_MUST enum pl_err account_authenticate(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_str token, struct http_actor *ret, struct pl_utc *ret_until);

/* For what is granted to a client and outlives its call: until the end of the transaction the client is not revoked, and whoever revokes it afterwards sees what
 * was written. PL_UNAUTHENTICATED: it has been. */
PL_MUST enum pl_err account_hold_client(struct db_tx *tx, struct pl_utc now, const struct http_actor *actor);
/* Until the end of the transaction nobody else who asks for this has it: for what looks at an account's rows and then replaces them. PL_UNAUTHENTICATED: the account is gone. */
PL_MUST enum pl_err account_lock(struct db_tx *tx, struct pl_uuid account_id);

/* ---- what a person has given to a script (a token made by hand) or to a linked service: it acts as one more client, whose id is the delegation's ---- */

struct account_scope {
    const char *name; /**< NULL ends the table */
    const char *may;  /**< what who has it may do, for the person who is asked: "watch your cameras live" */
};
extern const struct account_scope account_scopes[];
/* Words in the table's order, parted by blanks, from a list of pl_str. PL_INVALID_REQUEST about `scopes` for one that there is not, or none. */
PL_MUST enum pl_err account_scopes_take(struct pl_arena *a, const struct json_list *given, struct pl_str *ret, struct pl_fail *reterr);
/* Writes member "scopes". */
void account_scopes_write(struct jw *w, struct pl_str scopes);

/* ---- and in which systems: all that the account is a member of, also those to come, or those that stood when the person said which ---- */

/* Is the system none that is kept from who asks? Of who asks for the account itself no. Whether the account may anything there is system_may's to say, which asks this first. */
bool account_sees(const struct http_actor *who, struct pl_uuid system_id);
/* For account_delegation.systems, from a list of pl_str; `given` NULL: all. PL_INVALID_REQUEST about `systems` for an empty list or what is no id, PL_NOT_FOUND for one that is not the account's. */
PL_MUST enum pl_err account_systems_take(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, const struct json_list *given, struct pl_str *ret,
                                         struct pl_fail *reterr);
/* Writes member "systems": null for all. */
void account_systems_write(struct jw *w, struct pl_str systems);

enum account_delegation_kind { ACCOUNT_TOKEN, ACCOUNT_SERVICE };
struct account_delegation {
    enum account_delegation_kind kind;
    struct pl_str name;
    struct pl_str hint;    /**< by what its owner knows it again */
    struct pl_str scopes;  /**< of account_scopes_take */
    struct pl_str systems; /**< of account_systems_take */
    struct pl_utc ends_at; /**< us 0: until it is taken back */
};
/* Both tell the owner by e-mail and event; account_nudge or notify_wake comes after the commit. PL_TOO_MANY: fifty of a kind. */
PL_MUST enum pl_err account_delegation_add(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct http_actor *actor, const struct account_delegation *d, struct pl_uuid *ret_id);
/* Takes it back with its tokens, and cuts its sockets and running media (S-S5). PL_NOT_FOUND. */
PL_MUST enum pl_err account_delegation_end(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct http_actor *actor, enum account_delegation_kind kind, struct pl_uuid id);
/* What it may. PL_NOT_FOUND: it has ended. */
PL_MUST enum pl_err account_delegation_scopes(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid id, struct pl_str *ret);
/* Writes member `member`: those of a kind, newest first. */
PL_MUST enum pl_err account_delegations_write(struct db_tx *tx, struct jw *w, const char *member, enum account_delegation_kind kind, struct pl_uuid account_id);
/* After the commit of any of these: the account's sockets, the fact handlers and the sender look. */
PL_MUST enum pl_err account_delegation_nudge_after(struct http_call *c, struct account *ctx, struct pl_uuid account_id);
/* Did the caller's client sign in within that time, by a PIN or a passkey? One that is known again by its key did not. */
PL_MUST enum pl_err account_client_is_new(struct db_tx *tx, struct pl_utc now, const struct http_actor *actor, int64_t within_us, bool *ret);
/* S-S1: an access token of it; the caller tells it once and wipes it. */
void account_delegation_token_new(enum account_delegation_kind kind, char ret[SECURE_TOKEN_TEXT]);
/* Makes the token good until then (us 0: as long as the delegation). */
PL_MUST enum pl_err account_delegation_token_add(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid id, enum account_delegation_kind kind, const char *token, struct pl_utc expires_at);

/* Handler of JOURNAL_ACCOUNT_DELETED: removes what bears the account's id here, in notify, pin and factor; also when the account itself is gone already (S-S6). */
PL_MUST enum pl_err account_erase(struct db_tx *tx, struct pl_uuid account_id);

/* Puts an e-mail to the owner into the outbox of this transaction; after the commit call notify_wake(account_notify(ctx)). PL_NOT_FOUND: no such account. */
PL_MUST enum pl_err account_tell(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, enum notify_kind kind, struct pl_str about);
/* The same with more to say: of `said` the kind, about, name and ordinal. */
PL_MUST enum pl_err account_tell_with(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, const struct notify_message *said);
struct notify *account_notify(struct account *ctx);
/* The address that the account has proved. PL_NOT_FOUND: no such account. */
PL_MUST enum pl_err account_email(struct db_tx *tx, struct pl_uuid account_id, struct pl_str *ret);
/* "<account.link_url>/reset#<token>": what stands behind # is not sent to the server of the page. */
PL_MUST enum pl_err account_link(const struct account *ctx, struct pl_arena *a, const char *page, const char *token, struct pl_str *ret);

/* For the admin listener: writes member "accounts", the newest 1000, e-mail and phone masked. */
PL_MUST enum pl_err account_list(struct db_tx *tx, struct jw *w);

/* Job, once a second and when nudged: one wish to reset a password is looked at; after the commit notify_wake. *ret_again: there was one. */
PL_MUST enum pl_err account_work(struct account *ctx, struct db_tx *tx, struct pl_utc now, bool *ret_again);

/* Job, every minute: deletes sign-ups, resets, undos, tokens, delegations, grants and sessions that ended; also pin_expire. */
PL_MUST enum pl_err account_expire(struct account *ctx, struct db_tx *tx, struct pl_utc now);
