/* limit.h - how much anybody may have of something: calls, messages that cost money, wrong passwords. All of it stands in the database, the same over all nodes (S-F6).
 *
 * S-F3: a message to a phone takes from six buckets: of its number, its account, the address prefix (/24, /64) that asked, its block of numbers (all but the last four
 * digits), its country, and the day's money; an e-mail from those of address, account and prefix. Whatever is empty refuses all of it. A number or address that is
 * proved (its account asks, to log in or step up) has buckets of its own for itself, its block and its country: who names somebody's number in a sign-up spends nothing
 * of theirs, and of the day's money only a part. S-F4: of a block of numbers at least ten messages of which, between five minutes and one hour ago, under 20 % were
 * answered is sent nothing for an hour, then two, four, … but for proved numbers with a good record of their own: not five or more in two days of which under 20 % were
 * answered. S-F8: a limiter that cannot answer fails the transaction in which it is asked, so that nothing is sent.
 * S-A6: wrong passwords cost a growing wait: of a pair of e-mail and address prefix from the fifth on (1 s, doubling to 15 min), of a prefix alone from the hundredth on. A try
 * is counted for its pair before the password is compared, and taken back when it was right; for the prefix, which many people may share, only when it was wrong. Who is
 * signed in, or has a passkey, never comes by here. What is remembered of wrong passwords is bounded: past limit.failures_kept those longest ago are forgotten.
 * Not here: rates of calls (http.h, which takes from the same buckets), tries of PINs (pin.h), which country a number is of (phone.h; the caller says it).
 * Threads: any, state is in PostgreSQL.  Memory: none.
 *     e = limit_send(&settings, tx, rand, now, &(struct limit_send){ .channel = LIMIT_SMS, .destination = phone, .country = "AT", .challenge_id = id, .from = prefix }, reterr);
 */
#pragma once
#include "conf.h"
#include "db.h"
#include "secure.h"

/* Takes up to `want` of a token bucket that holds `most` and fills in `window_us`. *ret_granted 0: none is left. *ret_busy_until: us since 1970 when it is full again. `id` is a
 * hash over what and who. */
PL_MUST enum pl_err limit_take(struct db_tx *tx, struct pl_utc now, const uint8_t id[32], int64_t want, int64_t most, int64_t window_us, int64_t *ret_granted, int64_t *ret_busy_until);

struct limit_settings {
    int64_t number_day, account_day, address_hour, block_hour, country_hour, email_day; /* messages */
    int64_t sms_cost, voice_cost, money_day; /* cents, or what they count as */
    int64_t wrong_of_pair, wrong_of_prefix;  /* passwords that cost no wait */
    int64_t new_money_day;                   /* of money_day, for numbers that nobody has proved */
    int64_t failures_kept;                   /* rows */
    int64_t invites_account_day, invites_address_day;
};
extern const struct conf_row limit_conf_rows[];

enum limit_channel { LIMIT_EMAIL, LIMIT_SMS, LIMIT_VOICE };
struct limit_send {
    enum limit_channel channel;
    struct pl_str destination;
    struct pl_str country;       /**< of a phone number, ISO 3166; empty for e-mail */
    bool proved;                 /**< the destination is the account's own, which asks for itself */
    struct pl_uuid account_id;   /**< zero: nobody's yet */
    struct pl_uuid challenge_id; /**< for limit_answered */
    struct pl_str from;          /**< address prefix of who asks, bytes; .p NULL: the server itself */
};
/* PL_RATE_LIMITED with retry_after; then the caller's transaction must not commit, or what was taken is gone. */
PL_MUST enum pl_err limit_send(const struct limit_settings *s, struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, const struct limit_send *m, struct pl_fail *reterr);
/* An invitation by this account to that address, whether somebody has it or not. As limit_send. */
PL_MUST enum pl_err limit_invite(const struct limit_settings *s, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_str email, struct pl_fail *reterr);
/* The PIN of this challenge came back. */
PL_MUST enum pl_err limit_answered(struct db_tx *tx, struct pl_uuid challenge_id);
/* The account is being deleted. */
PL_MUST enum pl_err limit_forget(struct db_tx *tx, struct pl_uuid account_id);

/* A try with a password. */
struct limit_failure {
    uint8_t pair[32], prefix[32];
    struct pl_utc set_until, old_until; /**< of the pair */
};
/* Counts a try of the pair as failed; the caller commits this before it compares. PL_RATE_LIMITED with retry_after: nothing is counted, nothing may be compared. */
PL_MUST enum pl_err limit_failure_count(const struct limit_settings *s, struct db_tx *tx, struct pl_utc now, struct pl_str email, struct pl_str from, struct limit_failure *ret,
                                        struct pl_fail *reterr);
/* It was wrong: the prefix counts it too. */
PL_MUST enum pl_err limit_failure_wrong(const struct limit_settings *s, struct db_tx *tx, struct pl_utc now, const struct limit_failure *f);
/* It was right: the pair starts afresh. */
PL_MUST enum pl_err limit_failure_right(struct db_tx *tx, const struct limit_failure *f);
/* Nothing was compared after all. */
PL_MUST enum pl_err limit_failure_undo(struct db_tx *tx, const struct limit_failure *f);

/* Job, every minute. */
PL_MUST enum pl_err limit_expire(const struct limit_settings *s, struct db_tx *tx, struct pl_utc now);
