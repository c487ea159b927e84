/* notify.h - messages to people: an outbox row in the caller's transaction, sent later by the jobs thread by e-mail, SMS or voice.
 *
 * A row goes queued -> leased -> sent -> done | expired | dead. Its body (destination, text, PIN) is sealed under a key derived from the master key, bound to
 * the row's id, and wiped when it is handed over, expires or dies. S-P10: a message with a PIN is not sent when older than half of the PIN's life. A channel
 * that is not configured sends nothing: its messages stay readable by notify_list (porchctl outbox) until the PIN's life ends, and never stand in a log.
 * E-mail goes by SMTP; SMS as POST of `{id, to, channel, locale, text, pin, segments}` with `Porchlight-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.body">`;
 * a retry has the same id (and the same Message-ID), so that a provider can drop a second copy. S-P12: of a call the provider gets only what is said first; the digits are
 * the answer to its POST /v1/voice-calls, signed the same way over "t.callback.body", that the key was pressed; each such question is answered once, and the
 * answer is signed as well. Until then, ten minutes at most, they stay sealed.
 * The texts are files by locale and message (deploy/messages), compiled in, and the operator's own over them; which one is found by RFC 4647 lookup.
 * Not here: what a PIN is (pin.h), who is told what (account.h, device.h).
 * Threads: notify_queue, notify_cancel, notify_list, routes from any; notify_run_once from one thread at a time a `struct notify`.  Memory: the given arena.
 *     e = notify_queue(n, tx, rand, now, &(struct notify_message){ .kind = NOTIFY_HUB_DELETED, .channel = NOTIFY_EMAIL, .to = email, .about = name });
 */
#pragma once
#include "bus.h"
#include "conf.h"
#include "db.h"
#include "http.h"
#include "secure.h"

enum notify_channel { NOTIFY_EMAIL, NOTIFY_SMS, NOTIFY_VOICE, NOTIFY_CHANNELS };
extern const char *const notify_channel_names[NOTIFY_CHANNELS + 1]; /* "email", "sms", "voice", NULL: serves as J_ENUM words */
/* NOTIFY_CHANNELS when it is none. */
enum notify_channel notify_channel_of(struct pl_str name);

/* The texts stand in deploy/messages, under the names that these have there. `about` and `ordinal` are what their sentences ask for. */
enum notify_kind {
    NOTIFY_PIN,             /**< about: what the PIN is for, a word ("log_in", notify_text.c); pin, ordinal and life are told */
    NOTIFY_SIGN_UP_TAKEN,   /**< to the owner of an e-mail with which somebody wanted to sign up */
    NOTIFY_TOKEN_REUSED,    /**< a refresh token was used twice; about: the client's name */
    NOTIFY_ACCOUNT_DELETED,
    NOTIFY_PASSWORD_LINK,    /**< about: the link; life is told */
    NOTIFY_PASSWORD_CHANGED, /**< about: how, a word: "changed" by who was signed in, or "reset" */
    NOTIFY_EMAIL_CHANGED,    /**< to the old address; about: the link that undoes it */
    NOTIFY_PHONE_CHANGED,    /**< to the old number and the e-mail; about: the link that undoes it */
    NOTIFY_CHANGE_UNDONE,
    NOTIFY_HUB_DELETED,     /**< about: the system's name */
    NOTIFY_HUB_REPLACED,    /**< about: the system's name */
    NOTIFY_DEVICE_TRIED,    /**< somebody tried to add a device of this account; about: the device's name */
    NOTIFY_FACTORS_CHANGED, /**< about: what happened to the ways of signing in, a word ("passkey_added"); ordinal: how many are left */
    NOTIFY_ACCESS_CHANGED,  /**< about: what happened to whose access, a word ("token_given"); name: of the token or service */
    NOTIFY_INVITATION,      /**< to an address; about: the link; name: who invites */
    NOTIFY_SHARING,         /**< about: what happened to who may see a system, a word ("joined"); name: who, and the system */
    NOTIFY_KINDS
};

struct notify_message {
    enum notify_kind kind;
    enum notify_channel channel;
    struct pl_str to;         /**< e-mail address or E.164 phone number */
    struct pl_str locale;     /**< of the receiver, a language tag; empty or one that there are no texts for: English */
    struct pl_str about;      /**< see the kind; at most 200 bytes are told */
    struct pl_str name;       /**< what a person typed, beside a word in `about` */
    struct pl_str pin;        /**< six digits; .p NULL for other kinds */
    int32_t ordinal;          /**< of the send: 2 = "your 2nd PIN" */
    int64_t life_us;          /**< of the PIN: not sent after half of it, unreadable after it; 0: 3 days */
    struct pl_uuid account_id;/**< whose row it is; zero: nobody's yet */
    struct pl_uuid ref;       /**< for notify_cancel; zero: none */
};

struct notify_conf {
    struct pl_str smtp_url, smtp_user, smtp_password, smtp_tls, from, sms_webhook, webhook_key, messages, otp_domain, ca_file;
    int64_t timeout;
};
extern const struct conf_row notify_conf_rows[];

/* Whether it is a language tag (RFC 5646) by its form. */
#define NOTIFY_LOCALE_MOST 35
#define NOTIFY_LOCALE_DEFAULT "en"
bool notify_locale_ok(struct pl_str tag);

struct notify;
/* `bus` is nudged at "outbox" by notify_wake. Copies what it needs of conf. PL_INVALID_REQUEST with a sentence for a URL or key that cannot be used. */
PL_MUST enum pl_err notify_new(const struct notify_conf *conf, const struct pl_secret *master, struct bus *bus, const struct pl_log *log, struct notify **ret, struct pl_fail *reterr);
struct notify *notify_free(struct notify *n);
typedef void notify_say_long(void *arg, const char *locale, const char *message, unsigned segments);
/* Loads the texts and names those of text messages that make more than one, at their longest (`link`: one as they are sent): each costs as many times, and parts may come late.
 * For --check and the start. PL_INVALID_REQUEST as notify_new. */
PL_MUST enum pl_err notify_long_texts(const struct notify_conf *conf, struct pl_str link, struct pl_arena *a, notify_say_long *say, void *arg, struct pl_fail *reterr);

extern const struct http_route notify_routes[]; /* self: struct notify */

/* Puts a message into the outbox of this transaction. */
PL_MUST enum pl_err notify_queue(const struct notify *n, struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, const struct notify_message *m);
/* Ends the messages of `ref` that are not being sent this moment: a new PIN takes the old one's place. */
PL_MUST enum pl_err notify_cancel(struct db_tx *tx, struct pl_utc now, struct pl_uuid ref);
/* Removes the messages of an account that is being deleted. */
PL_MUST enum pl_err notify_forget(struct db_tx *tx, struct pl_uuid account_id);
/* After the commit: tells the jobs thread that there is something to send. `n` as void * so that it fits http_after. */
void notify_wake(void *n);

/* Sends what is due, at most `max` messages, and ages the outbox. *ret_n: how many were tried; fewer than `max` means that nothing more is due.
 * Takes up to conf.timeout a message. PL_UNAVAILABLE when the database is away; a provider's failure is no error here: the row is tried again
 * after 5 s, doubling up to 5 min, and is dead after 8 tries or when the provider refuses it for good. */
PL_MUST enum pl_err notify_run_once(struct notify *n, struct db *db, struct pl_arena *a, struct pl_rand *rand, const struct pl_clock *clock, unsigned max, unsigned *ret_n);

/* How many messages of the outbox stand in each state; `total` is counted by itself and is the sum of the others. */
struct notify_states {
    int64_t queued, leased, sent, done, expired, dead, total;
};
PL_MUST enum pl_err notify_count(struct db_tx *tx, struct notify_states *ret);
/* The same into the gauges porchlight_outbox_*. */
PL_MUST enum pl_err notify_measure(struct db_tx *tx);

struct notify_listed {
    struct pl_uuid id;
    struct pl_str kind, channel, to, subject, text, pin; /**< pin .p NULL when it has none, or it is not to be shown */
    struct pl_utc created_at, wipe_at;
    int16_t attempts;
};
/* Messages not handed over yet, newest first, at most 200, opened. Of a channel that is configured without text and PIN (.p NULL): they are for their receiver alone
 * (S-A10). For the admin listener only. */
PL_MUST enum pl_err notify_list(const struct notify *n, struct db_tx *tx, struct pl_utc now, struct notify_listed **ret, size_t *ret_n);

/* The key that a receiver of the webhook checks signatures with, as 64 hex digits: notify.webhook_key, or one derived from the master key. For the admin listener. */
void notify_webhook_key(const struct notify *n, char ret[65]);
