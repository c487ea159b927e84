#include "journal.h"
#include "journal_sql.h"
#include <stdio.h>

#define FACT_LEASE (30 * PL_SECOND)
#define FACT_KEPT (12 * PL_HOUR)
#define EVENT_KEPT PL_DAY
#define EVENTS_MOST 1000

/* As the rows say it: names stay, numbers of an enum do not. */
static const char *const fact_kinds[] = {
    [JOURNAL_ACCOUNT_DELETED] = "account_deleted", [JOURNAL_SESSION_REVOKED] = "session_revoked", [JOURNAL_SYSTEM_DELETED] = "system_deleted",
    [JOURNAL_DEVICE_FREED] = "device_freed",       [JOURNAL_DEVICE_BOUND] = "device_bound",   [JOURNAL_MEMBER_CHANGED] = "member_changed",
    [JOURNAL_SYSTEM_LEFT] = "system_left",
};
_Static_assert(PL_COUNT(fact_kinds) == JOURNAL_FACT_KINDS, "each kind of fact has a name");

enum pl_err journal_fact(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, enum journal_fact_kind kind, struct pl_uuid account_id,
                         struct pl_uuid subject, struct pl_str detail)
{
    return journal_fact_later(tx, rand, now, now, kind, account_id, subject, detail);
}

enum pl_err journal_fact_later(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_utc due, enum journal_fact_kind kind, struct pl_uuid account_id,
                               struct pl_uuid subject, struct pl_str detail)
{
    return journal_sql_fact_add(tx, pl_uuid7(rand, now), pl_str_of(fact_kinds[kind]), account_id, subject, detail, due, NULL);
}

static bool kind_of(struct pl_str name, enum journal_fact_kind *ret)
{
    for (int k = 0; k < JOURNAL_FACT_KINDS; k++)
        if (pl_str_eqz(name, fact_kinds[k])) {
            *ret = (enum journal_fact_kind)k;
            return true;
        }
    return false;
}

enum pl_err journal_fact_take(struct db_tx *tx, struct pl_utc now, struct journal_fact_row *ret, bool *ret_found)
{
    for (;;) {
        struct journal_sql_fact_take_row row;
        enum journal_fact_kind kind;
        bool found;
        enum pl_err e = journal_sql_fact_take(tx, now, pl_utc_add(now, FACT_LEASE), &row, &found);
        if (e != PL_OK)
            return e;
        if (!found) {
            *ret_found = false;
            return PL_OK;
        }
        /* A kind that only a newer release knows is left to its nodes: leased, so that it does not stand in the way of the others. */
        if (!kind_of(row.kind, &kind))
            continue;
        *ret = (struct journal_fact_row){
            .id = row.fact_id, .kind = kind, .account_id = row.account_id, .subject = row.subject_id, .detail = row.detail, .attempts = row.attempts,
        };
        *ret_found = true;
        return PL_OK;
    }
}

enum pl_err journal_fact_done(struct db_tx *tx, struct pl_uuid id)
{
    int64_t n = 0;
    enum pl_err e = journal_sql_fact_done(tx, id, &n);
    return e == PL_OK && n != 1 ? PL_FENCED : e;
}

enum pl_err journal_event(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid system_id, const char *type, struct pl_str data)
{
    struct journal_sql_event_number_row next;
    char id[PL_UUID_TEXT], subject[PL_UUID_TEXT + 8];
    pl_uuid_text(account_id, id);
    snprintf(subject, sizeof subject, "account.%s", id);
    enum pl_err e = journal_sql_event_number(tx, account_id, &next, NULL);
    if (e == PL_OK)
        e = journal_sql_event_add(tx, account_id, next.head, now, system_id, pl_str_of(type), data, NULL);
    return e == PL_OK ? db_tell(tx, subject) : e;
}

enum pl_err journal_events(struct db_tx *tx, struct pl_uuid account_id, int64_t cursor, int32_t limit, struct journal_event_row **ret, size_t *ret_n,
                           int64_t *ret_head)
{
    struct journal_sql_event_head_row head = { 0 };
    struct journal_sql_events_after_row *rows;
    bool found;
    size_t n;
    if (limit < 1 || limit > EVENTS_MOST)
        return PL_INVALID_REQUEST;
    enum pl_err e = journal_sql_event_head(tx, account_id, &head, &found);
    if (e == PL_OK)
        e = journal_sql_events_after(tx, account_id, cursor, limit, &rows, &n);
    if (e != PL_OK)
        return e;
    /* An event that was added between the two statements: the head is not behind what is handed out. */
    if (n > 0 && rows[n - 1].number > head.head)
        head.head = rows[n - 1].number;
    *ret_head = head.head;
    /* Numbers have no gaps, so the next one is there unless it has been forgotten. A cursor of the future is of another database. */
    bool whole = cursor == head.head || (cursor < head.head && n > 0 && rows[0].number == cursor + 1);
    if (cursor < 0 || !whole)
        return PL_EXPIRED;
    struct journal_event_row *out = PL_NEW_ARRAY(db_arena(tx), n ? n : 1, struct journal_event_row);
    if (!out)
        return PL_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        out[i] = (struct journal_event_row){ .cursor = rows[i].number, .at = rows[i].at, .system_id = rows[i].system_id, .type = rows[i].type, .data = rows[i].data };
    *ret = out;
    *ret_n = n;
    return PL_OK;
}

enum pl_err journal_forget(struct db_tx *tx, struct pl_uuid account_id)
{
    enum pl_err e = journal_sql_forget_events(tx, account_id, NULL);
    if (e == PL_OK)
        e = journal_sql_forget_counter(tx, account_id, NULL);
    return e == PL_OK ? journal_sql_pseudonym_drop(tx, account_id, NULL) : e;
}

enum pl_err journal_expire(struct db_tx *tx, struct pl_utc now)
{
    enum pl_err e = journal_sql_event_expire(tx, pl_utc_add(now, -EVENT_KEPT), NULL);
    return e == PL_OK ? journal_sql_fact_expire(tx, pl_utc_add(now, -FACT_KEPT), NULL) : e;
}
