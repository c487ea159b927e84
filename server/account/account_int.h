/* account_int.h - what the files of account/ share. Not a door. */
#pragma once
#include "account.h"
#include "account_sql.h"
#include "factor.h"
#include "phone.h"

struct account_where;  /* account_where.c */
struct account_used;   /* account_delegation.c */
struct account_events; /* account_link.c */

struct account {
    struct account_settings settings;
    struct pin pin;
    struct factor factor;
    struct notify *notify;
    struct bus *bus;
    const struct pl_clock *clock;
    struct pl_rand *rand;
    struct pl_log log;
    char dummy_hash[SECURE_PASSWORD_TEXT]; /* verified when the e-mail is unknown: the same work (S-A5) */
    struct account_events *events;
    struct account_used *used;
    const struct account_part *parts;
    enum pl_err (*member)(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid system_id);
    enum pl_err (*unlink)(struct db_tx *tx, struct pl_uuid account_id);
    struct account_where *where; /* NULL: no database of addresses */
};

/* ---- account.c ---- */
enum account_metric { ACCOUNT_M_SIGN_UPS, ACCOUNT_M_SESSIONS, ACCOUNT_M_LOG_IN_FAILURES, ACCOUNT_M_PINS_WRONG, ACCOUNT_M_TOKENS_REUSED };
void account_count(enum account_metric m);

/* After a commit: account_work has something to do. `ctx` as void * so that it fits http_after. */
void account_work_wake(void *ctx);

/* ---- account_http.c ---- */
struct account_home_body { struct pl_str country, region, locale; };
/* The account's own members, into an open object. PL_NOT_FOUND. */
PL_MUST enum pl_err account_write(struct db_tx *tx, struct jw *w, struct pl_uuid account_id);

/* ---- account_password.c ---- */
/* S-A1: NFKC, once. PL_PASSWORD_REFUSED about field `password` when it is too short, too long or easy to guess; email .p NULL: the rules are not asked. */
PL_MUST enum pl_err account_password_take(struct pl_arena *a, struct pl_str given, struct pl_str email, struct pl_str *ret, struct pl_fail *reterr);
/* Both take a processor for some 12 ms and 19 MiB: only from rows that are `heavy`, which bounds them (S-A3). */
PL_MUST enum pl_err account_password_hash(struct pl_str password, char ret[SECURE_PASSWORD_TEXT]);
PL_MUST enum pl_err account_password_verify(struct pl_str stored, struct pl_str password, bool *ret_rehash);

/* ---- account_regions.c ---- */
struct account_region { const char *id, *name; };
struct account_country { const char *code, *name, *region; };
extern const struct account_region account_regions[];    /* .id NULL ends it */
extern const struct account_country account_countries[]; /* .code NULL ends it */
const struct account_country *account_country_find(struct pl_str code);
bool account_region_known(struct pl_str id);
/* The region that a form means: the one it names, or that of its country (region .p NULL). PL_INVALID_REQUEST with the field. */
PL_MUST enum pl_err account_region_take(struct pl_str country, struct pl_str region, struct pl_str *ret, struct pl_fail *reterr);
const struct account_country *account_country_guess(struct pl_str accept_language);
/* The language that a form means: the one it names, or the first of Accept-Language that is a tag, or English. PL_INVALID_REQUEST with the field. */
PL_MUST enum pl_err account_locale_take(struct pl_str given, struct pl_str accept_language, struct pl_str *ret, struct pl_fail *reterr);

/* ---- account_where.c: where a caller, where a phone number is ---- */
PL_MUST enum pl_err account_where_open(struct account *ctx, struct pl_fail *reterr);
void account_where_close(struct account *ctx);
/* The country to propose: by the address, else by the language. NULL: no idea. */
const struct account_country *account_propose(const struct account *ctx, struct pl_str peer, struct pl_str accept_language);
/* Normal form of a number that may get a PIN. PL_INVALID_REQUEST, PL_PHONE_REFUSED, PL_COUNTRY_REFUSED (S-F5). */
PL_MUST enum pl_err account_phone_take(const struct account *ctx, struct pl_arena *a, struct pl_str given, struct pl_str *ret, struct pl_fail *reterr);

/* ---- account_session.c ---- */
struct account_client {
    struct pl_str name, platform;
    struct pl_str key_hash; /* .p NULL: it keeps no key, so it is never known again */
};
struct account_tokens {
    struct pl_uuid account_id, client_id;
    char access[SECURE_TOKEN_TEXT], refresh[SECURE_TOKEN_TEXT];
    int32_t expires_in;
};
/* Puts the client and starts its session. */
PL_MUST enum pl_err account_session_open(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, const struct account_client *client, struct account_tokens *ret);
/* S-S2, S-S3. *ret_reused: the token was used twice; the session is ended and the owner told in this transaction, which is to be committed; of *ret only the ids are set. */
PL_MUST enum pl_err account_session_refresh(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_str refresh, struct pl_str client_key_hash, struct account_tokens *ret,
                                            bool *ret_reused);
/* Ends the session of a client with its tokens and grants, and writes the fact that cuts its sockets and media. */
PL_MUST enum pl_err account_session_end(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid client_id);
/* Revokes all clients but `keep` (zero: none stays). */
PL_MUST enum pl_err account_end_others(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid keep);
/* After a theft: no client stays, no challenge, no link to a new password, nothing that was given to a script or a service, nothing that signs in in the password's place. The account is
 * locked, or its row written, by this transaction. */
PL_MUST enum pl_err account_end_all(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id);
PL_MUST enum pl_err account_grant_make(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid client_id, enum pin_purpose purpose, char ret[SECURE_TOKEN_TEXT]);
#define ACCOUNT_GRANT_LIFE (5 * PL_MINUTE)
void account_tokens_write(struct jw *w, const struct account_tokens *t);
/* After a commit: tells the sockets of the account, the fact handlers and the sender. */
struct account_nudge {
    struct account *ctx;
    struct pl_uuid account_id;
};
void account_nudge(void *arg);
/* The same as http_after of this call. */
PL_MUST enum pl_err account_nudge_after(struct http_call *c, struct pl_uuid account_id);

/* ---- account_sign.c: sign-up, log-in; handlers of rows in account_http.c ---- */
struct account_sign_up_body {
    struct pl_str email, password, country, region, locale;
    struct account_client_body client;
};
struct account_log_in_body {
    struct pl_str email, password;
    struct account_client_body client;
    int channel;
    bool has_channel;
};
struct account_refresh_body {
    struct pl_str refresh_token, client_key;
};
PL_MUST enum pl_err account_on_sign_up(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_log_in(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_refresh(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_client_of(struct http_call *c, const struct account_client_body *b, struct account_client *ret);
struct account_new_row {
    struct pl_str email, phone, country, region, password_hash, locale; /* locale empty: English */
};
/* The account's rows. PL_EMAIL_TAKEN, PL_PHONE_TAKEN. */
PL_MUST enum pl_err account_insert(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_uuid id, const struct account_new_row *row);
/* What a verified sign-up becomes: the account and its first session. */
PL_MUST enum pl_err account_from_signup(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct account_sql_signup_get_row *s, struct pl_str phone, struct account_tokens *ret);
/* The client of a log-in challenge, kept in its context. */
PL_MUST enum pl_err account_client_pack(struct pl_arena *a, const struct account_client *client, struct pl_str *ret);
PL_MUST enum pl_err account_client_unpack(struct pl_arena *a, struct pl_str packed, struct account_client *ret);

/* ---- account_clients.c: the signed-in phones, browsers, scripts ---- */
struct account_name_body { struct pl_str name; };
PL_MUST enum pl_err account_on_clients(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_client_name(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_client_delete(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_others_delete(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_log_out(struct http_call *c, struct pl_fail *reterr);
/* Keeps an account's list of clients bounded: forgets those that can never be known again, and the longest unseen past the hundredth. */
PL_MUST enum pl_err account_clients_trim(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id);
/* Writes member "clients". */
void account_clients_write(struct jw *w, const struct account_sql_client_list_row *rows, size_t n, struct pl_uuid current);

/* ---- account_challenge.c: the challenge's routes and step-up ---- */
struct account_verify_body { struct pl_str pin, totp, recovery_code, passkey; };
struct account_resend_body { int channel; bool has_channel; };
struct account_destination_body { struct pl_str phone; int channel; };
struct account_step_up_body { int purpose, channel; bool has_channel; };
PL_MUST enum pl_err account_on_challenge(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_verify(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_resend(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_destination(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_step_up(struct http_call *c, struct pl_fail *reterr);
/* The challenge of this call's path, for who holds its key, which stands in a header. */
PL_MUST enum pl_err account_challenge_of(struct http_call *c, struct pin_challenge *ret, struct pl_str *ret_key, struct pl_fail *reterr);
/* Writes the event of a new session. */
PL_MUST enum pl_err account_client_added(struct db_tx *tx, struct pl_utc now, const struct account_tokens *tokens);
/* Writes {"challenge": …} of a challenge that was opened now, and wipes its key. */
void account_challenge_write(struct jw *w, struct pin_opened *o, struct pl_utc now);

/* ---- account_factor.c: authenticator app, recovery codes, passkeys ---- */
/* Member "methods": what a challenge of this account may be answered with. */
void account_methods_write(struct jw *w, const struct factor_set *set);
/* Takes the answer that is no PIN, in the transaction that acts on it. PL_PIN_WRONG, PL_PASSKEY_REFUSED; *ret_used: of a passkey. */
PL_MUST enum pl_err account_factor_take(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct pin_challenge *ch, struct pl_str key, const struct account_verify_body *b,
                                        struct factor_used *ret_used, struct pl_fail *reterr);
/* After a refusal: tells the owner when the passkey seems to be a copy. */
void account_factor_copied(struct http_call *c, const struct factor_used *used);

/* ---- account_reset.c: forgotten and changed passwords ---- */
struct account_reset_body { struct pl_str email; };
struct account_reset_open_body { int channel; };
struct account_password_body { struct pl_str password; };
PL_MUST enum pl_err account_on_reset(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_reset_open(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_reset_finish(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_password(struct http_call *c, struct pl_fail *reterr);
/* Works off one wish; *ret_again: there was one. */
PL_MUST enum pl_err account_resets_run(struct account *ctx, struct db_tx *tx, struct pl_utc now, bool *ret_again);
/* The PIN of a reset was right: the grant that sets the password. PL_EXPIRED: the reset is gone. */
PL_MUST enum pl_err account_reset_proved(struct db_tx *tx, struct pl_utc now, struct pl_str reset_id, char ret_grant[SECURE_TOKEN_TEXT]);

/* ---- account_change.c: another e-mail or phone ---- */
struct account_email_body { struct pl_str email; };
PL_MUST enum pl_err account_on_email(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_phone(struct http_call *c, struct pl_fail *reterr); /* struct account_destination_body */
PL_MUST enum pl_err account_on_undo(struct http_call *c, struct pl_fail *reterr);
/* The PIN to the new one was right. PL_EMAIL_TAKEN, PL_PHONE_TAKEN. */
PL_MUST enum pl_err account_contact_proved(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct pin_challenge *ch);
/* Gives an address free that the account neither has nor can have back. kind: "email", "phone". */
PL_MUST enum pl_err account_contact_release(struct db_tx *tx, struct pl_uuid account_id, struct pl_str kind, struct pl_str value);
PL_MUST enum pl_err account_changes_expire(struct db_tx *tx, struct pl_utc now);

/* ---- account_leave.c ---- */
PL_MUST enum pl_err account_on_delete(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err account_on_export(struct http_call *c, struct pl_fail *reterr);

/* ---- account_delegation.c, account_token.c ---- */
/* *ret_used: when it was used before; us 0: never. */
PL_MUST enum pl_err account_delegation_authenticate(struct db_tx *tx, struct pl_utc now, struct pl_str token, struct http_actor *ret, struct pl_utc *ret_until, struct pl_utc *ret_used);
PL_MUST enum pl_err account_delegation_hold(struct db_tx *tx, struct pl_utc now, const struct http_actor *actor);
/* Takes all back, and cuts what they watch. */
PL_MUST enum pl_err account_delegations_end(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id);
PL_MUST enum pl_err account_delegations_expire(struct account *ctx, struct db_tx *tx, struct pl_utc now);
struct pl_str account_delegation_kind_name(enum account_delegation_kind kind);
PL_MUST enum pl_err account_used_new(struct account_used **ret);
struct account_used *account_used_free(struct account_used *u);
/* Any thread: remembers that it was used, unless that is known from within the last minute. */
void account_used_note(struct account_used *u, const struct http_actor *actor, struct pl_utc now, struct pl_utc last);
PL_MUST enum pl_err account_used_write(struct account_used *u, struct db_tx *tx);

/* ---- account_link.c ---- */
PL_MUST enum pl_err account_events_new(struct account *ctx, struct account_events **ret);
struct account_events *account_events_free(struct account_events *ev);
