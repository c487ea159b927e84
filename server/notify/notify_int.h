/* notify_int.h - what the files of notify/ share: the sealed body, the texts, the ways out, the calls. Not a door. */
#pragma once
#include "notify.h"
#include <curl/curl.h>

/* ---- texts ---- */

/* Sections of a text's file. ask: what a call says first; voice: what it says when the key was pressed. */
enum notify_part { NOTIFY_P_SUBJECT, NOTIFY_P_EMAIL, NOTIFY_P_SMS, NOTIFY_P_ASK, NOTIFY_P_VOICE, NOTIFY_P_ORDINALS, NOTIFY_PARTS };
#define NOTIFY_HAS(part) (1u << (part))
#define NOTIFY_WORDS_MOST 20

/* What a message's file must hold, and may. */
struct notify_rule {
    const char *name;
    unsigned parts;            /**< NOTIFY_HAS, all of them */
    const char *const *places; /**< placeholders of its bodies; NULL: none */
    const char *needs;         /**< the one that a body is nothing without; NULL: none */
    const char *const *words;  /**< what `about` is one of, each a section "[word …]"; NULL: `about` is what a person typed, or a link */
};
extern const struct notify_rule notify_rules[NOTIFY_KINDS];

struct notify_text {
    enum notify_kind kind;
    struct pl_str locale, parts[NOTIFY_PARTS], words[NOTIFY_WORDS_MOST];
};
struct notify_texts;
#define NOTIFY_CALL_KEY "1" /* what the texts tell people to press */
struct notify_embedded {
    const char *locale, *name;
    struct pl_str text;
};
extern const struct notify_embedded notify_embedded[];
extern const size_t notify_embedded_n;

/* folder NULL: what is compiled in. PL_INVALID_REQUEST with file and line. */
PL_MUST enum pl_err notify_texts_load(const char *folder, struct notify_texts **ret, struct pl_fail *reterr);
struct notify_texts *notify_texts_free(struct notify_texts *t);
/* All of them in turn, the operator's before those that they stand in place of; after NULL the first. NULL: that was the last. */
const struct notify_text *notify_text_next(const struct notify_texts *t, const struct notify_text *after);
/* RFC 4647 lookup; always finds one. */
const struct notify_text *notify_text_find(const struct notify_texts *t, enum notify_kind kind, struct pl_str locale);

/* ---- the context ---- */

struct notify {
    struct pl_secret seal_key;
    struct pl_secret webhook_key;
    char *smtp_url, *smtp_user, *smtp_password, *from, *sms_webhook, *otp_domain, *ca_file; /* NULL: not set */
    bool smtp_tls;
    struct notify_texts *texts;
    long timeout_ms;
    CURL *curl; /* the jobs thread's; keeps connections open between messages */
    struct bus *bus;
    struct pl_log log;
};

struct notify_body {
    struct pl_str to, subject, text, pin, locale, ask;
};
PL_MUST enum pl_err notify_body_open(const struct notify *n, struct pl_uuid id, struct pl_str sealed, struct pl_arena *a, struct notify_body *ret);

/* What became of one hand-over. */
enum notify_outcome { NOTIFY_TAKEN, NOTIFY_AGAIN, NOTIFY_NEVER };

/* Subject and text in the message's locale, in the arena. PL_CHANNEL_REFUSED: there is no text of it for this channel. */
PL_MUST enum pl_err notify_render(const struct notify *n, const struct notify_message *m, struct pl_arena *a, struct notify_body *ret);
const char *notify_kind_name(enum notify_kind k);
/* How many text messages a text is: 160 characters of the GSM alphabet (153 of each when it is several), or 70 (67) of UCS-2. */
unsigned notify_segments(struct pl_str text);

/* *ret_why: a word without personal data for the row, a literal. */
enum notify_outcome notify_send_email(struct notify *n, struct pl_uuid id, struct pl_utc now, const struct notify_body *b, struct pl_arena *a, const char **ret_why);
enum notify_outcome notify_send_webhook(struct notify *n, struct pl_uuid id, struct pl_utc now, struct pl_str channel, const struct notify_body *b, struct pl_arena *a, const char **ret_why);
/* For tests: the message as it goes over SMTP, and the signature's header value. */
PL_MUST enum pl_err notify_mime(const char *from, struct pl_uuid id, struct pl_utc now, const struct notify_body *b, struct pl_arena *a, struct pl_str *ret);
/* The bare address of `name <address>`. */
struct pl_str notify_address_of(struct pl_str from);
struct pl_str notify_signature(const struct pl_secret *key, struct pl_utc now, struct pl_str body, struct pl_arena *a);
