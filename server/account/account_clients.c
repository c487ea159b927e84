/* account_clients.c - the phones, browsers and scripts that signed in: listed, named, revoked (S-S5), and never so many that nobody reads the list. */
#include "account_int.h"

#define MOST_CLIENTS 100

void account_clients_write(struct jw *w, const struct account_sql_client_list_row *rows, size_t n, struct pl_uuid current)
{
    jw_array(w, "clients");
    for (size_t i = 0; i < n; i++) {
        jw_open(w, NULL);
        jw_uuid(w, "client_id", rows[i].id);
        jw_str(w, "name", rows[i].name);
        jw_str(w, "platform", rows[i].platform);
        jw_bool(w, "current", pl_uuid_eq(rows[i].id, current));
        jw_bool(w, "trusted", rows[i].trusted);
        jw_bool(w, "signed_in", rows[i].signed_in);
        jw_utc(w, "created_at", rows[i].created_at);
        jw_utc(w, "last_seen_at", rows[i].last_seen_at);
        jw_close(w);
    }
    jw_end_array(w);
}

enum pl_err account_on_clients(struct http_call *c, struct pl_fail *reterr)
{
    struct account_sql_client_list_row *rows;
    struct { struct pl_utc seen; struct pl_uuid id; } last = { pl_utc_add(c->now, PL_DAY), { { 0xff } } };
    struct http_page page;
    size_t n;
    enum pl_err e = http_page(c, &last, sizeof last, &page, reterr);
    if (e != PL_OK || (e = account_sql_client_list(c->tx, c->actor.account_id, c->now, last.seen, last.id, page.limit + 1, &rows, &n)) != PL_OK)
        return e;
    if (n > (size_t)page.limit) {
        n = (size_t)page.limit;
        last.seen = rows[n - 1].last_seen_at;
        last.id = rows[n - 1].id;
        http_page_next(c, &page, &last, sizeof last);
    }
    account_clients_write(&c->out, rows, n, c->actor.client_id);
    return PL_OK;
}

enum pl_err account_client_is_new(struct db_tx *tx, struct pl_utc now, const struct http_actor *actor, int64_t within_us, bool *ret)
{
    struct account_sql_client_age_row row;
    bool found;
    enum pl_err e = account_sql_client_age(tx, actor->account_id, actor->client_id, &row, &found);
    *ret = e == PL_OK && found && pl_utc_sub(now, row.created_at) < within_us;
    return e;
}

static enum pl_err revoked_event(struct http_call *c, struct pl_uuid client_id)
{
    struct pl_buf b = pl_buf_init(c->arena, 256);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_uuid(&w, "client_id", client_id);
    jw_close(&w);
    return pl_buf_err(&b) == PL_OK ? journal_event(c->tx, c->now, c->actor.account_id, (struct pl_uuid){ { 0 } }, "account.client_revoked", pl_buf_view(&b)) : PL_NO_MEMORY;
}

/* S-S5. A revoked client is not known any more: its next log-in asks for a PIN. */
enum pl_err account_on_client_delete(struct http_call *c, struct pl_fail *reterr)
{
    struct account *ctx = c->self;
    struct pl_uuid id;
    int64_t count = 0;
    (void)reterr;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e == PL_OK)
        e = account_sql_client_delete(c->tx, c->actor.account_id, id, &count);
    if (e == PL_OK && count != 1)
        return PL_NOT_FOUND;
    if (e == PL_OK)
        e = account_session_end(ctx, c->tx, c->now, c->actor.account_id, id);
    if (e == PL_OK)
        e = revoked_event(c, id);
    if (e == PL_OK)
        e = journal_audit(c->tx, c->now, &(struct journal_audit){ .account = c->actor.account_id, .actor = c->actor.client_id, .action = "client.revoked", .detail = PL_STR("{}") });
    return e == PL_OK ? account_nudge_after(c, c->actor.account_id) : e;
}

enum pl_err account_on_log_out(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    enum pl_err e = account_session_end(c->self, c->tx, c->now, c->actor.account_id, c->actor.client_id);
    return e == PL_OK ? account_nudge_after(c, c->actor.account_id) : e;
}

enum pl_err account_on_others_delete(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    enum pl_err e = account_end_others(c->self, c->tx, c->now, c->actor.account_id, c->actor.client_id);
    if (e == PL_OK)
        e = journal_audit(c->tx, c->now, &(struct journal_audit){ .account = c->actor.account_id, .actor = c->actor.client_id, .action = "client.others_revoked", .detail = PL_STR("{}") });
    return e == PL_OK ? account_nudge_after(c, c->actor.account_id) : e;
}

enum pl_err account_on_client_name(struct http_call *c, struct pl_fail *reterr)
{
    const struct account_name_body *b = c->body;
    struct pl_uuid id;
    int64_t count = 0;
    (void)reterr;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e == PL_OK)
        e = account_sql_client_name(c->tx, c->actor.account_id, id, b->name, &count);
    return e == PL_OK && count != 1 ? PL_NOT_FOUND : e;
}

/* A client without a key is never known again: once its session has ended its row is only in the way. Each of its log-ins makes another. */
enum pl_err account_clients_trim(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id)
{
    struct account_sql_client_surplus_row *rows;
    size_t n;
    enum pl_err e = account_sql_client_drop_past(tx, account_id, now, NULL);
    if (e == PL_OK)
        e = account_sql_client_surplus(tx, account_id, MOST_CLIENTS, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        if ((e = account_session_end(ctx, tx, now, account_id, rows[i].id)) == PL_OK)
            e = account_sql_client_delete(tx, account_id, rows[i].id, NULL);
    return e;
}
