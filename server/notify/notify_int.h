/* notify_int.h - what the files of notify/ share: the sealed body, the texts, the two ways out. Not a door. */
#pragma once
#include "notify.h"
#include <curl/curl.h>

struct notify {
    struct pl_secret seal_key;
    struct pl_secret webhook_key;
    char *smtp_url, *smtp_user, *smtp_password, *from, *sms_webhook; /* NULL: not set */
    long timeout_ms;
    CURL *curl; /* the jobs thread's; keeps connections open between messages */
    struct bus *bus;
    struct pl_log log;
};

struct notify_body {
    struct pl_str to, subject, text, pin;
};

/* What became of one hand-over. */
enum notify_outcome { NOTIFY_TAKEN, NOTIFY_AGAIN, NOTIFY_NEVER };

/* Subject and text by the table, in the arena. */
PL_MUST enum pl_err notify_render(const struct notify_message *m, struct pl_arena *a, struct notify_body *ret);
const char *notify_kind_name(enum notify_kind k);

/* *ret_why: a word without personal data for the row, a literal. */
enum notify_outcome notify_send_email(struct notify *n, struct pl_uuid id, struct pl_utc now, const struct notify_body *b, struct pl_arena *a, const char **ret_why);
enum notify_outcome notify_send_webhook(struct notify *n, struct pl_uuid id, struct pl_utc now, struct pl_str channel, const struct notify_body *b, struct pl_arena *a, const char **ret_why);
/* For tests: the message as it goes over SMTP, and the signature's header value. */
PL_MUST enum pl_err notify_mime(const char *from, struct pl_uuid id, struct pl_utc now, const struct notify_body *b, struct pl_arena *a, struct pl_str *ret);
struct pl_str notify_signature(const struct pl_secret *key, struct pl_utc now, struct pl_str body, struct pl_arena *a);
