/* account_leave.c - the account is deleted (S-S6), and before that: all that it has, as one document.
 *
 * A deletion acts at once: tokens, addresses and password go in its own transaction, the rest as soon as the fact is handled. A call that was under way meanwhile may still
 * write a row with the account's id; so the fact comes again an hour later, when no such call lives any more, and erases once more. */
#include "account_int.h"

#define SECOND_LOOK PL_HOUR

/* ---- deleting ---- */

static enum pl_err addresses_drop(struct db_tx *tx, struct pl_uuid id, struct pl_str email, struct pl_str phone)
{
    enum pl_err e = account_sql_erase_email(tx, email, id, NULL);
    return e == PL_OK ? account_sql_erase_phone(tx, phone, id, NULL) : e;
}

/* The addresses of the account and those that it could have had back. */
static enum pl_err addresses_erase(struct db_tx *tx, struct pl_uuid id)
{
    struct account_sql_change_list_row *rows;
    struct account_sql_lock_row row;
    bool found;
    size_t n;
    enum pl_err e = account_sql_lock(tx, id, &row, &found);
    if (e == PL_OK && found)
        e = addresses_drop(tx, id, row.email, row.phone);
    if (e == PL_OK)
        e = account_sql_change_list(tx, id, (struct pl_uuid){ { 0 } }, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        if ((e = addresses_drop(tx, id, rows[i].old_value, rows[i].old_value)) == PL_OK)
            e = addresses_drop(tx, id, rows[i].new_value, rows[i].new_value);
    return e;
}

enum pl_err account_erase(struct db_tx *tx, struct pl_uuid account_id)
{
    static enum pl_err (*const whole[])(struct db_tx *, struct pl_uuid, int64_t *) = { account_sql_erase_changes, account_sql_reset_forget, account_sql_erase_tokens,
        account_sql_erase_sessions, account_sql_erase_grants, account_sql_erase_clients, account_sql_erase_account };
    enum pl_err e = addresses_erase(tx, account_id);
    for (size_t i = 0; e == PL_OK && i < PL_COUNT(whole); i++)
        e = whole[i](tx, account_id, NULL);
    if (e == PL_OK)
        e = notify_forget(tx, account_id);
    if (e == PL_OK)
        e = factor_forget(tx, account_id);
    return e == PL_OK ? pin_forget(tx, account_id) : e;
}

enum pl_err account_on_delete(struct http_call *c, struct pl_fail *reterr)
{
    struct account *ctx = c->self;
    struct account_sql_lock_row row;
    struct pl_uuid id = c->actor.account_id;
    bool found;
    (void)reterr;
    enum pl_err e = account_sql_lock(c->tx, id, &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_NOT_FOUND : e;
    e = journal_audit(c->tx, c->now, &(struct journal_audit){ .account = id, .actor = c->actor.client_id, .action = "account.deleted", .detail = PL_STR("{}") });
    if (e == PL_OK)
        e = account_erase(c->tx, id);
    if (e == PL_OK)
        e = journal_fact(c->tx, ctx->rand, c->now, JOURNAL_ACCOUNT_DELETED, id, id, PL_STR("{}"));
    if (e == PL_OK)
        e = journal_fact_later(c->tx, ctx->rand, c->now, pl_utc_add(c->now, SECOND_LOOK), JOURNAL_ACCOUNT_DELETED, id, id, PL_STR("{}"));
    /* The farewell bears no account id: no row does any more. */
    if (e == PL_OK)
        e = notify_queue(ctx->notify, c->tx, ctx->rand, c->now, &(struct notify_message){ .kind = NOTIFY_ACCOUNT_DELETED, .channel = NOTIFY_EMAIL, .to = row.email });
    return e == PL_OK ? account_nudge_after(c, id) : e;
}
