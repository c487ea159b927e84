/* factor.h - what an account can answer with beside PINs: an authenticator app (TOTP), recovery codes, passkeys.
 *
 * S-P13: TOTP (RFC 6238: SHA-1, six digits, 30 s; the step before and after the present one are taken too). A step is accepted once. The secret stands in the database
 * sealed. S-P14: ten recovery codes of 80 bits, shown once, kept as keyed hashes, each good once.
 * Passkeys (W3C WebAuthn Level 3): ES256, EdDSA, RS256; the person is verified by the device (UV), so that a passkey alone is two factors. No attestation is
 * asked for: who makes a household's phone is not ours to judge. A question is answered once. A counter that does not rise is a copied key: refused. Without
 * `passkey.rp_id` passkeys are not offered.
 * Not here: counting of tries (pin.h: an answer to a challenge counts there like a PIN), routes and sessions (account.h).
 * Threads: any; state is in PostgreSQL, struct factor is read-only after factor_init.  Memory: outputs live in the transaction's or given arena.
 *     e = factor_totp_take(f, tx, now, account_id, code);             PL_PIN_WRONG: it is not right, or was used
 *     e = factor_passkey_take(f, tx, now, question, credential, &used, reterr);   proved, and its use written down
 */
#pragma once
#include "conf.h"
#include "db.h"
#include "json.h"
#include "secure.h"

struct factor_conf {
    struct pl_str rp_id, origins, issuer;
};
extern const struct conf_row factor_conf_rows[];

/* Filled by factor_init; any thread. */
struct factor {
    struct factor_conf conf; /**< its strings are the caller's and outlive it */
    struct pl_rand *rand;
    struct pl_secret totp_key, code_key, question_key;
};
void factor_init(struct factor *f, const struct factor_conf *conf, const struct pl_secret *master, struct pl_rand *rand);
void factor_done(struct factor *f);

struct factor_set {
    bool totp; /**< confirmed */
    int64_t recovery_codes, passkeys;
};
PL_MUST enum pl_err factor_look(struct db_tx *tx, struct pl_uuid account_id, struct factor_set *ret);
/* Writes members totp, recovery_codes_left and passkeys into an open object. */
PL_MUST enum pl_err factor_write(struct db_tx *tx, struct pl_uuid account_id, struct jw *w);
/* Everything of an account that is being deleted. */
PL_MUST enum pl_err factor_forget(struct db_tx *tx, struct pl_uuid account_id);
/* Job, every minute. */
PL_MUST enum pl_err factor_expire(struct db_tx *tx, struct pl_utc now);

/* ---- authenticator app ---- */
#define FACTOR_SECRET_TEXT 33 /* base32 of 160 bits (RFC 4226, 4), with NUL */
/* A new secret, to be confirmed by its first code. PL_FACTOR_EXISTS: a confirmed one is there. Wipe *ret. */
PL_MUST enum pl_err factor_totp_begin(const struct factor *f, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, char ret[FACTOR_SECRET_TEXT]);
/* otpauth:// of a secret, for a QR code. Wipe it. */
PL_MUST enum pl_err factor_totp_uri(const struct factor *f, struct pl_arena *a, const char *secret, struct pl_str label, struct pl_str *ret);
/* PL_NOT_FOUND: nothing waits to be confirmed. PL_PIN_WRONG. */
PL_MUST enum pl_err factor_totp_confirm(const struct factor *f, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_str code);
/* Takes a code: its step is spent. PL_PIN_WRONG: it is not right, its step was used, or there is no confirmed app. */
PL_MUST enum pl_err factor_totp_take(const struct factor *f, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_str code);
/* PL_NOT_FOUND. */
PL_MUST enum pl_err factor_totp_remove(struct db_tx *tx, struct pl_uuid account_id);
/* The six digits of a step (RFC 6238: seconds / 30) under a key of n bytes; for the tests. */
PL_MUST enum pl_err factor_totp_code(const uint8_t *key, size_t n, uint64_t step, char ret[7]);

/* ---- recovery codes ---- */
#define FACTOR_CODES 10
#define FACTOR_CODE_TEXT 20 /* "ABCD-EFGH-JKMN-PQRS" with NUL: 80 bits in Crockford's base32 */
/* Ten new ones; the old ones are void. Wipe them. */
PL_MUST enum pl_err factor_recovery_make(const struct factor *f, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, char ret[FACTOR_CODES][FACTOR_CODE_TEXT]);
/* Takes a code, however it is written (case, blanks, dashes, O for 0, I and L for 1). PL_PIN_WRONG: it is none of this account's, or was used. */
PL_MUST enum pl_err factor_recovery_take(const struct factor *f, struct db_tx *tx, struct pl_uuid account_id, struct pl_str code);

/* ---- passkeys ---- */
#define FACTOR_PASSKEYS 20
enum factor_ask { FACTOR_REGISTER, FACTOR_SIGN_IN };
/* PL_NOT_OFFERED: passkey.rp_id is empty. */
PL_MUST enum pl_err factor_passkey_offered(const struct factor *f, struct pl_fail *reterr);
/* Writes member "public_key" (PublicKeyCredentialCreationOptionsJSON or …RequestOptionsJSON, whose names are W3C's) into an open object. A fresh question of the
 * server's own, good for five minutes: 8 bytes of time, 8 of chance, 16 of MAC. account_id: who registers (excludes what is there), or who is asked (lists what is there);
 * zero: anybody's passkey (sign-in). question .p NULL: a fresh one; else this (a challenge's own). */
PL_MUST enum pl_err factor_passkey_ask(const struct factor *f, struct db_tx *tx, struct pl_utc now, enum factor_ask what, struct pl_uuid account_id, struct pl_str email,
                                       struct pl_str question, struct jw *w);
/* The question of a challenge: nobody who lacks its key can know it. .p NULL: no memory. */
struct pl_str factor_passkey_question(const struct factor *f, struct pl_arena *a, struct pl_uuid challenge_id, struct pl_str challenge_key);

/* `credential` is what a browser's or phone's credential.toJSON() writes (RegistrationResponseJSON, AuthenticationResponseJSON): members that are not needed are not looked at.
 * Adds a passkey whose question this server asked. PL_PASSKEY_REFUSED with a sentence; PL_FACTOR_EXISTS: it is registered already, or the account has twenty. */
PL_MUST enum pl_err factor_passkey_add(const struct factor *f, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_str name, struct pl_str credential,
                                       struct pl_uuid *ret_id, struct pl_fail *reterr);
struct factor_used {
    struct pl_uuid account_id, passkey_id;
    struct pl_str name;
    bool copied; /**< the counter did not rise: refused, and the owner is to be told */
};
/* Takes an answer to `question` (.p NULL: one of this server's own, taken once). PL_PASSKEY_REFUSED; then *ret is set when `copied`. */
PL_MUST enum pl_err factor_passkey_take(const struct factor *f, struct db_tx *tx, struct pl_utc now, struct pl_str question, struct pl_str credential, struct factor_used *ret,
                                        struct pl_fail *reterr);
/* PL_NOT_FOUND. */
PL_MUST enum pl_err factor_passkey_rename(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid id, struct pl_str name);
PL_MUST enum pl_err factor_passkey_remove(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid id);
