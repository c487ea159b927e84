/* pin.h - one-time PINs: a challenge is one question with its PIN, its resends and its tries.
 *
 * S-P2: a PIN is good for 40 minutes after its own issue (pin.life). S-P3: a resend is refused before 90, 180, 300, 600 s after the send before it; after the
 * first send plus four it is PL_RESEND_EXHAUSTED. S-P4: a new PIN ends the old one, the tries carry over. S-P5: five wrong tries end the challenge; a try is
 * counted in a transaction of its own before anything is compared. S-P6: ten wrong tries in 24 h of one subject (account) and purpose end PINs for that purpose
 * (PL_CHALLENGE_BUDGET); a sign-up has ten over its e-mail and phone together.
 * S-P8, S-P9: what is stored is only a keyed hash over challenge, account, subject, client, purpose, channel, destination, challenge
 * key, number of the send and PIN; any swap is a wrong try. A decoy challenge answers like any other and never verifies (S-A5).
 * Not here: sending (notify.h), what a right PIN unlocks (account.h).  Threads: any, state is in PostgreSQL.  Memory: the transaction's or given arena.
 *     e = pin_open(p, tx, now, &(struct pin_question){ .purpose = PIN_LOG_IN, .account_id = a, .subject_id = a, .channel = NOTIFY_SMS, .destination = phone }, &opened, reterr);
 *     e = pin_try(p, db, arena, now, id, challenge_key, given, &right, reterr);      counts, compares
 *     e = pin_spend(tx, now, &right);                                                 in the transaction that acts on it: exactly one wins (S-P7)
 */
#pragma once
#include "json.h"
#include "limit.h"
#include "notify.h"

enum pin_purpose {
    PIN_SIGN_UP_EMAIL, PIN_SIGN_UP_PHONE, PIN_LOG_IN, PIN_RESET_PASSWORD, PIN_VERIFY_EMAIL, PIN_VERIFY_PHONE,
    /* step-up: the names that a route's `step_up` gives */
    PIN_CHANGE_PASSWORD, PIN_CHANGE_EMAIL, PIN_CHANGE_PHONE, PIN_DELETE_HUB, PIN_REPLACE_HUB, PIN_RELEASE_DEVICE, PIN_TRANSFER_DEVICE, PIN_REVOKE_CLIENTS,
    PIN_DELETE_ACCOUNT, PIN_CHANGE_FACTORS, PIN_EXPORT_ACCOUNT, PIN_MAKE_TOKEN, PIN_LINK_SERVICE, PIN_CHANGE_OWNERS, PIN_PURPOSES
};
#define PIN_FIRST_STEP_UP PIN_CHANGE_PASSWORD
/* "sign_up_email", "sign_up_phone", "log_in", "change_password", ... in the order of the enum. PIN_PURPOSES when it is none. */
extern const char *const pin_purpose_names[PIN_PURPOSES + 1];
enum pin_purpose pin_purpose_of(struct pl_str name);

#define PIN_TRIES 5
#define PIN_SENDS 5

struct pin_conf {
    int64_t life;   /**< us a PIN is good for */
    struct limit_settings limits;
    int64_t key_id; /**< which key hashes new PINs; the one before it is still accepted */
};
extern const struct conf_row pin_conf_rows[];

/* Filled by pin_init; read-only afterwards, any thread. */
struct pin {
    const struct notify *notify;
    struct pl_rand *rand;
    struct limit_settings limits; /**< of messages (S-F3) */
    int64_t life_us;
    int16_t key_id;
    struct pl_secret keys[2]; /**< of key_id and key_id - 1 */
};
void pin_init(struct pin *p, const struct pin_conf *conf, const struct pl_secret *master, const struct notify *notify, struct pl_rand *rand);
void pin_done(struct pin *p);

struct pin_question {
    enum pin_purpose purpose;
    struct pl_uuid account_id;   /**< zero: nobody's yet (sign-up) */
    struct pl_uuid subject_id;   /**< whose wrong tries count together: the account or the sign-up */
    struct pl_uuid client_id;    /**< who asks, zero: not known yet */
    enum notify_channel channel;
    struct pl_str destination;   /**< e-mail or phone; .p NULL: not known yet, nothing is sent (pin_send comes later) */
    struct pl_str locale;        /**< in which the messages are written (notify.h) */
    struct pl_str from;          /**< address prefix of who asks (http_peer_prefix) */
    struct pl_str context;       /**< the caller's own note, given back by pin_try; .p NULL: none */
    bool decoy;                  /**< never verifies; sends NOTIFY_SIGN_UP_TAKEN instead of a PIN */
};

struct pin_challenge {
    struct pl_uuid id, account_id, subject_id, client_id;
    enum pin_purpose purpose;
    struct pl_str channel, destination; /**< .p NULL: not known yet */
    struct pl_str locale;
    struct pl_str context;
    int16_t sent_count, tries;
    bool decoy;
    struct pl_utc expires_at, resend_at, verified_at;
};
struct pin_opened {
    struct pin_challenge c;
    char key[SECURE_TOKEN_TEXT]; /**< plck_…, shown once; wipe it when it is written */
};
/* Opens a challenge and, with a destination, issues and queues its first PIN. PL_CHALLENGE_BUDGET, PL_RATE_LIMITED with retry_after. */
PL_MUST enum pl_err pin_open(const struct pin *p, struct db_tx *tx, struct pl_utc now, const struct pin_question *q, struct pin_opened *ret, struct pl_fail *reterr);

/* The challenge, for its holder. PL_NOT_FOUND when there is none, when it ended long ago, and when the key is not its own. */
PL_MUST enum pl_err pin_get(struct db_tx *tx, struct pl_utc now, struct pl_uuid id, struct pl_str challenge_key, struct pin_challenge *ret);

/* Issues a new PIN to that channel and destination, which the caller has judged to be permitted. PL_RESEND_TOO_SOON with retry_after, PL_RESEND_EXHAUSTED,
 * PL_PIN_EXHAUSTED, PL_CHALLENGE_SPENT, PL_RATE_LIMITED with retry_after (limit.h), PL_NOT_FOUND as pin_get. *io is what pin_get gave; it becomes what is so now. */
PL_MUST enum pl_err pin_send(const struct pin *p, struct db_tx *tx, struct pl_utc now, enum notify_channel channel, struct pl_str destination, struct pl_str from,
                             struct pin_challenge *io, struct pl_fail *reterr);

struct pin_right {
    struct pin_challenge c;
    bool other;       /**< something else than a PIN is the answer */
    uint8_t hash[32]; /**< of the PIN */
    struct pl_uuid try_id;
};
/* Counts a try (committed), then compares in constant time. PL_PIN_WRONG with attempts_left, PL_PIN_EXPIRED, PL_PIN_EXHAUSTED, PL_CHALLENGE_SPENT,
 * PL_CHALLENGE_BUDGET with retry_after, PL_NOT_FOUND. Call it outside of any transaction. */
PL_MUST enum pl_err pin_try(const struct pin *p, struct db *db, struct pl_arena *a, struct pl_utc now, struct pl_uuid id, struct pl_str challenge_key, struct pl_str pin,
                            struct pin_right *ret, struct pl_fail *reterr);
/* Whether something else than a PIN may answer (factor.h): not where an address is to be proved. */
bool pin_other_permitted(enum pin_purpose purpose);
/* For an answer that is no PIN, to a challenge for which that is permitted: counts a try (committed) exactly as pin_try does; the caller then compares in the transaction
 * in which it calls pin_spend. The same errors but PL_PIN_WRONG and PL_PIN_EXPIRED; PL_CHANNEL_REFUSED: this challenge proves an address, which only a PIN does. A wrong
 * challenge key is PL_PIN_WRONG. */
PL_MUST enum pl_err pin_try_other(const struct pin *p, struct db *db, struct pl_arena *a, struct pl_utc now, struct pl_uuid id, struct pl_str challenge_key, struct pin_right *ret,
                                  struct pl_fail *reterr);
/* Spends the challenge and takes the try back. PL_CHALLENGE_SPENT: somebody was first, or a newer PIN was issued meanwhile; then call pin_forgive. */
PL_MUST enum pl_err pin_spend(struct db_tx *tx, struct pl_utc now, const struct pin_right *right);
/* Takes a right try back that unlocked nothing: it was not a wrong one. */
PL_MUST enum pl_err pin_forgive(struct db_tx *tx, const struct pin_right *right);

/* Writes the members of a challenge (api.md) into an open object: id, key (NULL: not again), purpose, channel, sent_to (masked), expires_in, resend_in
 * (null when no more can be sent), attempts_left, sent_count. */
void pin_write(struct jw *w, const struct pin_challenge *c, struct pl_utc now, const char *key);

/* "a***@example.org", "+43*******78": enough for its owner to know it again. */
void pin_mask(struct pl_buf *b, struct pl_str destination);

/* Ends the challenges of an account that can still be answered: what they were opened with (a password, an address) is good no more. Wrong tries stay counted. */
PL_MUST enum pl_err pin_end(struct db_tx *tx, struct pl_uuid account_id);
/* Removes the challenges and tries of an account that is being deleted. */
PL_MUST enum pl_err pin_forget(struct db_tx *tx, struct pl_uuid account_id);
/* Deletes what ended: for the jobs thread, every minute or so. */
PL_MUST enum pl_err pin_expire(struct db_tx *tx, struct pl_utc now);
