#include "system.h"
#include "journal.h"
#include "system_sql.h"
#include <stdio.h>

static struct system_row row_of(struct pl_uuid id, struct pl_str name, struct pl_utc created_at) { return (struct system_row){ id, name, created_at }; }

enum pl_err system_find(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid id, struct system_row *ret)
{
    struct system_sql_find_row r;
    enum pl_err e = system_sql_find(tx, account_id, id, &r, NULL);
    if (e == PL_OK)
        *ret = row_of(r.id, r.name, r.created_at);
    return e;
}

enum pl_err system_lock(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid id, struct system_row *ret)
{
    struct system_sql_lock_row r;
    enum pl_err e = system_sql_lock(tx, account_id, id, &r, NULL);
    if (e == PL_OK)
        *ret = row_of(r.id, r.name, r.created_at);
    return e;
}

enum pl_err system_list(struct db_tx *tx, struct pl_uuid account_id, struct system_row **ret, size_t *ret_n)
{
    struct system_sql_list_row *rows;
    size_t n;
    enum pl_err e = system_sql_list(tx, account_id, &rows, &n);
    if (e != PL_OK)
        return e;
    struct system_row *out = PL_NEW_ARRAY(db_arena(tx), n + 1, struct system_row);
    if (!out)
        return PL_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        out[i] = row_of(rows[i].id, rows[i].name, rows[i].created_at);
    *ret = out;
    *ret_n = n;
    return PL_OK;
}

enum pl_err system_page(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid after, int32_t most, struct system_row **ret, size_t *ret_n)
{
    struct system_sql_page_row *rows;
    size_t n;
    enum pl_err e = system_sql_page(tx, account_id, after, most, &rows, &n);
    if (e != PL_OK)
        return e;
    struct system_row *out = PL_NEW_ARRAY(db_arena(tx), n + 1, struct system_row);
    if (!out)
        return PL_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        out[i] = row_of(rows[i].id, rows[i].name, rows[i].created_at);
    *ret = out;
    *ret_n = n;
    return PL_OK;
}

struct pl_str system_tag(struct pl_arena *a, const struct system_row *s) { return http_tag(a, s->name); }

/* Events of systems: {system_id, name?}. */
static enum pl_err event(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, const char *type, struct pl_uuid id, struct pl_str name)
{
    struct pl_buf b = pl_buf_init(db_arena(tx), 2048);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_uuid(&w, "system_id", id);
    if (name.p)
        jw_str(&w, "name", name);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    return e == PL_OK ? journal_event(tx, now, account_id, type, pl_buf_view(&b)) : e;
}

static enum pl_err check_name(struct pl_str *name, struct pl_fail *reterr)
{
    *name = pl_str_trim(*name);
    bool good = name->n > 0;
    for (size_t i = 0; i < name->n; i++)
        good = good && (unsigned char)name->p[i] >= ' ' && name->p[i] != 0x7f;
    return good ? PL_OK : pl_fail_field(reterr, PL_INVALID_REQUEST, "name", "name: some letters are expected, and no control characters");
}

enum pl_err system_add(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_uuid account_id, struct pl_str name, struct system_row *ret, struct pl_fail *reterr)
{
    struct system_sql_add_row r;
    struct pl_uuid id = pl_uuid7(rand, now);
    bool found;
    enum pl_err e = check_name(&name, reterr);
    if (e != PL_OK || (e = system_sql_add(tx, account_id, id, name, now, SYSTEM_MOST, &r, &found)) != PL_OK)
        return e;
    if (!found)
        return pl_fail(reterr, PL_RATE_LIMITED, "An account has at most %d systems.", SYSTEM_MOST);
    if ((e = event(tx, now, account_id, "system.created", id, name)) != PL_OK)
        return e;
    *ret = row_of(id, name, now);
    return PL_OK;
}

enum pl_err system_rename(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid id, struct pl_str name, struct system_row *ret, struct pl_fail *reterr)
{
    struct system_sql_rename_row r;
    enum pl_err e = check_name(&name, reterr);
    if (e != PL_OK || (e = system_sql_rename(tx, account_id, id, name, &r, NULL)) != PL_OK || (e = event(tx, now, account_id, "system.renamed", id, name)) != PL_OK)
        return e;
    *ret = row_of(r.id, r.name, r.created_at);
    return PL_OK;
}

enum pl_err system_delete(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid id)
{
    int64_t n;
    enum pl_err e = system_sql_drop(tx, account_id, id, &n);
    if (e != PL_OK || (e = n == 1 ? PL_OK : PL_NOT_FOUND) != PL_OK || (e = event(tx, now, account_id, "system.deleted", id, PL_STR_NONE)) != PL_OK)
        return e;
    return journal_fact(tx, rand, now, JOURNAL_SYSTEM_DELETED, account_id, id, PL_STR("{}"));
}

void system_write(struct jw *w, const struct system_row *s)
{
    jw_uuid(w, "id", s->id);
    jw_str(w, "name", s->name);
    jw_utc(w, "created_at", s->created_at);
}

void system_nudge_account(struct bus *bus, struct pl_uuid account_id)
{
    char subject[64], id[PL_UUID_TEXT];
    pl_uuid_text(account_id, id);
    snprintf(subject, sizeof subject, "account.%s", id);
    bus_nudge(bus, subject);
}

struct nudge {
    struct bus *bus;
    struct pl_uuid account_id;
};
static void nudge(void *arg)
{
    const struct nudge *n = arg;
    system_nudge_account(n->bus, n->account_id);
}

enum pl_err system_nudge_after(struct http_call *c, struct bus *bus)
{
    struct nudge *n = PL_NEW(c->arena, struct nudge);
    if (!n)
        return PL_NO_MEMORY;
    *n = (struct nudge){ bus, c->actor.account_id };
    http_after(c, nudge, n);
    return PL_OK;
}
