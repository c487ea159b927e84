/* journal.h - what happened, written in the transaction in which it happened: facts for upper modules, events for apps, audit for people.
 *
 * A fact is how an effect travels upward against the arrows ("account deleted", "device freed"): a typed row; its handlers stand in one table in node/.
 * An event is what an app sees on /v1/events: per account, numbered 1, 2, 3… without gaps (UPDATE … RETURNING), kept 24 hours, resumed by cursor.
 * An audit row is insert-only and hash-chained per subject (S-S11): h(n) = SHA-256(h(n-1) || row); `journal_audit_verify` names the first row that was changed.
 * The chain of an account stands under a pseudonym, made with the account and forgotten with it: what is left then says of nobody what was done.
 * Not here: sending (notify.h), the event socket (account_link.c).  Threads: any.  Memory: the transaction's arena.
 *     e = journal_event(tx, now, account, system, "device.connectivity", json);
 *     e = journal_fact(tx, rand, now, JOURNAL_DEVICE_FREED, account, device_id, PL_STR("{}"));
 *     e = journal_audit(tx, now, &(struct journal_audit){ .subject = device_id, .actor = client_id, .action = "device.bound", .detail = json });
 */
#pragma once
#include "db.h"

enum journal_fact_kind {
    JOURNAL_ACCOUNT_DELETED,
    JOURNAL_SESSION_REVOKED,
    JOURNAL_SYSTEM_DELETED,
    JOURNAL_DEVICE_FREED,
    JOURNAL_DEVICE_BOUND,
    JOURNAL_MEMBER_CHANGED, /**< a member of a system (subject) was removed, or has less rights */
    JOURNAL_SYSTEM_LEFT, /**< who left a system (subject), or owns it no more, was its home: an owner becomes that */
    JOURNAL_FACT_KINDS
};

struct journal_fact_row {
    struct pl_uuid id;
    enum journal_fact_kind kind;
    struct pl_uuid account_id, subject; /**< whose, and what about */
    struct pl_str detail;               /**< JSON object */
    int32_t attempts;                   /**< how often it was taken, this time included */
};
PL_MUST enum pl_err journal_fact(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, enum journal_fact_kind kind, struct pl_uuid account_id,
                                 struct pl_uuid subject, struct pl_str detail);
/* The same, handled not before `due`. */
PL_MUST enum pl_err journal_fact_later(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_utc due, enum journal_fact_kind kind, struct pl_uuid account_id,
                                       struct pl_uuid subject, struct pl_str detail);
/* Takes the oldest fact not yet handled (leased for 30 s); *ret_found false: none. The lease is committed before the handler begins; the handler's
 * effects and journal_fact_done go into one transaction. */
PL_MUST enum pl_err journal_fact_take(struct db_tx *tx, struct pl_utc now, struct journal_fact_row *ret, bool *ret_found);
/* PL_FENCED: another handled it meanwhile (the lease ran out); this transaction must be undone. */
PL_MUST enum pl_err journal_fact_done(struct db_tx *tx, struct pl_uuid id);

struct journal_event_row {
    int64_t cursor;
    struct pl_utc at;
    struct pl_uuid system_id; /**< in which it happened; zero: about the account itself */
    struct pl_str type, data; /**< data: JSON object */
};
/* After the commit "account.<id>" is nudged (db_tell). The account's counter is locked until then: call it late in the transaction. */
PL_MUST enum pl_err journal_event(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid system_id, const char *type, struct pl_str data);
/* Events after `cursor` (0: from the first), oldest first, at most `limit` (1..1000). PL_EXPIRED: the cursor is older than what is kept, or was never given;
 * then *ret_head is written all the same: the app reads /v1/home and starts from it. */
PL_MUST enum pl_err journal_events(struct db_tx *tx, struct pl_uuid account_id, int64_t cursor, int32_t limit, struct journal_event_row **ret,
                                   size_t *ret_n, int64_t *ret_head);

/* S-S6: removes the events of a deleted account, the counter of their numbers, and who its audit was about. */
PL_MUST enum pl_err journal_forget(struct db_tx *tx, struct pl_uuid account_id);

struct journal_audit {
    struct pl_uuid account; /**< the chain is this account's; zero: that of */
    struct pl_uuid subject; /**< a device */
    struct pl_uuid actor;   /**< client, relay or admin; zero: the server itself, or the machine's owner */
    const char *action;
    struct pl_str detail;   /**< JSON object without personal data or secrets, at most 200 KiB; kept byte by byte */
};
/* Begins the chain of an account that is being made. */
PL_MUST enum pl_err journal_audit_begin(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_uuid account_id);
/* Of an account whose pseudonym was forgotten nothing is written: it is gone. */
PL_MUST enum pl_err journal_audit(struct db_tx *tx, struct pl_utc now, const struct journal_audit *row);
struct journal_audit_row {
    int64_t number;
    struct pl_utc at;
    struct pl_str action, detail;
};
/* The next rows of the chain (account or device) after that number, at most 500; *ret_n 0: no more. For the person whom it is about. */
PL_MUST enum pl_err journal_audit_read(struct db_tx *tx, struct pl_uuid subject, int64_t after, struct journal_audit_row **ret, size_t *ret_n);
/* The newest rows of a chain that is no account's, newest first, at most 200. */
PL_MUST enum pl_err journal_audit_newest(struct db_tx *tx, struct pl_uuid subject, struct journal_audit_row **ret, size_t *ret_n);
/* *ret_bad: number of the first changed or missing row of the chain, 0: whole. (Of a row that was changed together with its hash it is the next row's number,
 * or its own if it is the last: which of two that do not fit was changed cannot be told.)
 * The chain is locked until the transaction ends, and tx's arena holds all of it. `subject`: account or device. */
PL_MUST enum pl_err journal_audit_verify(struct db_tx *tx, struct pl_uuid subject, int64_t *ret_rows, int64_t *ret_bad);
/* Deletes events older than 24 h and handled facts older than 12 h (they bear account ids: S-S6), at most 10,000 of each; a job calls it every minute. Audit stays. */
PL_MUST enum pl_err journal_expire(struct db_tx *tx, struct pl_utc now);
