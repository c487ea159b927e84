/* The table of facts: how an effect travels upward. Each row is written by the capability that it happened in, in the same transaction; here stands who must know. */
#include "journal.h"
#include "node_priv.h"

struct fact_call {
    struct node *node;
    struct db_tx *tx;
    struct pl_utc now;
    const struct journal_fact_row *fact;
    struct live_ending *endings; /* told after the commit */
};

static enum pl_err device_freed(struct fact_call *f)
{
    return live_device_freed(f->tx, f->now, f->fact->account_id, f->fact->subject, &f->endings);
}

static enum pl_err session_revoked(struct fact_call *f)
{
    return live_client_revoked(f->tx, f->now, f->fact->account_id, f->fact->subject, &f->endings);
}

/* The devices of a deleted account are free again (product.md, Already registered), its live sessions end. */
static enum pl_err account_deleted(struct fact_call *f)
{
    enum pl_err e = live_account_deleted(f->tx, f->now, f->fact->account_id, &f->endings);
    return e == PL_OK ? device_account_deleted(&f->node->device, f->tx, f->now, f->fact->account_id) : e;
}

static const struct {
    enum journal_fact_kind kind;
    enum pl_err (*run)(struct fact_call *f);
} handlers[] = {
    { JOURNAL_DEVICE_FREED, device_freed },
    { JOURNAL_SESSION_REVOKED, session_revoked },
    { JOURNAL_ACCOUNT_DELETED, account_deleted },
};

enum pl_err node_handle_fact(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    struct journal_fact_row fact;
    bool found;
    struct fact_call f = { .node = n, .now = pl_now_utc(n->clock), .fact = &fact };
    enum pl_err e = db_begin(db, a, &tx);
    if (e != PL_OK || (e = journal_fact_take(tx, f.now, &fact, &found)) != PL_OK || !found)
        return e;
    f.tx = tx;
    for (size_t i = 0; e == PL_OK && i < PL_COUNT(handlers); i++)
        if (handlers[i].kind == fact.kind)
            e = handlers[i].run(&f);
    if (e != PL_OK || (e = journal_fact_done(tx, fact.id)) != PL_OK || (e = db_commit(&tx)) != PL_OK)
        return e;
    live_tell(&n->live, a, f.endings);
    *ret_again = true;
    return PL_OK;
}
