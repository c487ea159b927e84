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
        account_sql_erase_sessions, account_sql_erase_grants, account_sql_erase_clients, account_sql_erase_delegation_tokens, account_sql_erase_delegations, account_sql_erase_account };
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
        e = notify_queue(ctx->notify, c->tx, ctx->rand, c->now, &(struct notify_message){ .kind = NOTIFY_ACCOUNT_DELETED, .channel = NOTIFY_EMAIL, .to = row.email,
                             .locale = row.locale });
    return e == PL_OK ? account_nudge_after(c, id) : e;
}

/* ---- all that it has ---- */

static enum pl_err write_clients(struct db_tx *tx, struct jw *w, struct pl_utc now, const struct http_actor *actor)
{
    struct account_sql_client_list_row *rows;
    size_t n;
    enum pl_err e = account_sql_client_list(tx, actor->account_id, now, pl_utc_add(now, PL_DAY), (struct pl_uuid){ { 0xff } }, 201, &rows, &n);
    if (e == PL_OK)
        account_clients_write(w, rows, n, actor->client_id);
    return e;
}

/* Where an address was changed within the last 72 hours, and from what. */
static enum pl_err write_changes(struct db_tx *tx, struct jw *w, struct pl_uuid id)
{
    struct account_sql_change_list_row *rows;
    size_t n;
    enum pl_err e = account_sql_change_list(tx, id, (struct pl_uuid){ { 0 } }, &rows, &n);
    jw_array(w, "changes");
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        jw_open(w, NULL);
        jw_str(w, "kind", rows[i].kind);
        jw_str(w, "from", rows[i].old_value);
        jw_str(w, "to", rows[i].new_value);
        jw_close(w);
    }
    jw_end_array(w);
    return e;
}

static enum pl_err write_audit(struct db_tx *tx, struct jw *w, struct pl_uuid id)
{
    struct journal_audit_row *rows;
    size_t n = 1;
    int64_t after = 0;
    enum pl_err e = PL_OK;
    jw_array(w, "audit");
    while (n > 0 && (e = journal_audit_read(tx, id, after, &rows, &n)) == PL_OK)
        for (size_t i = 0; i < n; i++) {
            jw_open(w, NULL);
            jw_utc(w, "at", rows[i].at);
            jw_str(w, "action", rows[i].action);
            jw_close(w);
            after = rows[i].number;
        }
    jw_end_array(w);
    return e;
}

static enum pl_err write_events(struct db_tx *tx, struct jw *w, struct pl_uuid id)
{
    struct journal_event_row *rows;
    int64_t head = 0, from;
    size_t n;
    enum pl_err e = journal_events(tx, id, INT64_MAX, 1, &rows, &n, &head); /* only where the end is */
    from = head > 1000 ? head - 1000 : 0;
    if (e == PL_OK || e == PL_EXPIRED)
        e = journal_events(tx, id, from, 1000, &rows, &n, &head);
    jw_array(w, "events");
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        jw_open(w, NULL);
        jw_utc(w, "at", rows[i].at);
        jw_str(w, "event", rows[i].type);
        jw_raw(w, "data", rows[i].data);
        jw_close(w);
    }
    jw_end_array(w);
    return e == PL_EXPIRED ? PL_OK : e; /* the oldest are forgotten already */
}

enum pl_err account_on_export(struct http_call *c, struct pl_fail *reterr)
{
    struct account *ctx = c->self;
    struct pl_uuid id = c->actor.account_id;
    (void)reterr;
    jw_utc(&c->out, "made_at", c->now);
    jw_open(&c->out, "account");
    enum pl_err e = account_write(c->tx, &c->out, id);
    jw_close(&c->out);
    if (e == PL_OK)
        e = write_changes(c->tx, &c->out, id);
    if (e == PL_OK)
        e = write_clients(c->tx, &c->out, c->now, &c->actor);
    if (e == PL_OK)
        e = account_delegations_write(c->tx, &c->out, "tokens", ACCOUNT_TOKEN, id);
    if (e == PL_OK)
        e = account_delegations_write(c->tx, &c->out, "services", ACCOUNT_SERVICE, id);
    jw_open(&c->out, "factors");
    if (e == PL_OK)
        e = factor_write(c->tx, id, &c->out);
    jw_close(&c->out);
    for (const struct account_part *p = ctx->parts; e == PL_OK && p && p->name; p++) {
        jw_open(&c->out, p->name);
        e = p->write(c->tx, &c->out, c->now, id);
        jw_close(&c->out);
    }
    if (e == PL_OK)
        e = write_audit(c->tx, &c->out, id);
    if (e == PL_OK)
        e = write_events(c->tx, &c->out, id);
    return e == PL_OK ? journal_audit(c->tx, c->now, &(struct journal_audit){ .account = id, .actor = c->actor.client_id, .action = "account.exported", .detail = PL_STR("{}") }) : e;
}
