/* The table of facts: how an effect travels upward. Each row is written by the capability that it happened in, in the same transaction; here stands who must know. */
#include "journal.h"
#include "node_priv.h"

struct fact_call {
    struct node *node;
    struct db_tx *tx;
    struct pl_utc now;
    const struct journal_fact_row *fact;
    struct live_ending *endings; /* these three are told after the commit */
    bool cut;
    struct device_freed *freed;
};

static enum pl_err device_freed(struct fact_call *f)
{
    struct json_doc *detail PL_CLEANUP(json_doc_freep) = NULL;
    enum pl_err e = json_parse(f->fact->detail, &detail, /* reterr= */ NULL);
    return e == PL_OK ? live_device_freed(f->tx, f->now, f->fact->subject, json_doc_str(detail, "serial"), &f->endings) : e;
}

static enum pl_err session_revoked(struct fact_call *f)
{
    f->cut = true;
    return live_client_revoked(f->tx, f->now, f->fact->account_id, f->fact->subject);
}

static enum pl_err member_changed(struct fact_call *f)
{
    f->cut = true;
    return live_member_changed(f->tx, f->now, f->fact->account_id, f->fact->subject);
}

/* Whose rows they were may be gone by tomorrow (S-S6): they stand under one who stays. */
static enum pl_err system_left(struct fact_call *f)
{
    struct pl_uuid from = f->fact->account_id, system = f->fact->subject, to;
    enum pl_err e = system_move_home(f->tx, f->now, from, system, &to);
    if (e != PL_OK || pl_uuid_is_zero(to))
        return e;
    e = device_move_home(f->tx, from, system, to);
    return e == PL_OK ? live_move_home(f->tx, from, system, to) : e;
}

/* The devices of a deleted account are free again (product.md, Already registered), its live sessions end. Comes twice: see account_leave.c. */
static enum pl_err account_deleted(struct fact_call *f)
{
    enum pl_err e = device_account_deleted(&f->node->device, f->tx, f->now, f->fact->account_id, &f->freed);
    if (e == PL_OK)
        e = live_account_deleted(f->tx, f->now, f->fact->account_id, &f->endings);
    if (e == PL_OK)
        e = oauth_erase(f->tx, f->fact->account_id);
    if (e == PL_OK)
        e = outside_erase(f->tx, f->fact->account_id);
    if (e == PL_OK)
        e = account_erase(f->tx, f->fact->account_id);
    return e == PL_OK ? journal_forget(f->tx, f->fact->account_id) : e;
}

static const struct {
    enum journal_fact_kind kind;
    enum pl_err (*run)(struct fact_call *f);
} handlers[] = {
    { JOURNAL_DEVICE_FREED, device_freed },
    { JOURNAL_SESSION_REVOKED, session_revoked },
    { JOURNAL_MEMBER_CHANGED, member_changed },
    { JOURNAL_SYSTEM_LEFT, system_left },
    { JOURNAL_ACCOUNT_DELETED, account_deleted },
};

/* Leases the oldest fact, for good: a handler that fails must not hold back those behind it. */
static enum pl_err take(struct node *n, struct db *db, struct pl_arena *a, struct journal_fact_row *ret, bool *ret_found)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    enum pl_err e = db_begin(db, a, &tx);
    if (e == PL_OK)
        e = journal_fact_take(tx, pl_now_utc(n->clock), ret, ret_found);
    return e == PL_OK ? db_commit(&tx) : e;
}

/* The handler's effects and the fact's end are one transaction. Run again at once after a deadlock: its lease is longer than a revocation may take (S-S5). */
static enum pl_err handle(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct fact_call *f = arg;
    enum pl_err e = PL_OK;
    (void)reterr;
    f->tx = tx;
    f->endings = NULL;
    f->cut = false;
    f->freed = NULL;
    for (size_t i = 0; e == PL_OK && i < PL_COUNT(handlers); i++)
        if (handlers[i].kind == f->fact->kind)
            e = handlers[i].run(f);
    return e == PL_OK ? journal_fact_done(tx, f->fact->id) : e;
}

enum pl_err node_handle_fact(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    struct journal_fact_row fact;
    bool found;
    enum pl_err e = take(n, db, a, &fact, &found);
    if (e != PL_OK || !found)
        return e;
    struct fact_call f = { .node = n, .now = pl_now_utc(n->clock), .fact = &fact };
    if ((e = db_run(db, a, handle, &f, /* reterr= */ NULL)) == PL_OK) {
        live_tell(&n->live, a, f.endings);
        if (f.cut && (e = live_cut(&n->live, db)) != PL_OK) /* its job comes soon */
            PL_LOG(&n->log, PL_WARN, "fact.not-cut", PL_F_UUID("fact", fact.id), PL_F_ERR(e));
        if (f.freed)
            device_tell_freed(&n->device, a, f.freed);
    } else /* it comes again when its lease has run out */
        PL_LOG(&n->log, PL_ERROR, "fact.failed", PL_F_UUID("fact", fact.id), PL_F_INT("attempts", fact.attempts), PL_F_ERR(e));
    *ret_again = true;
    return PL_OK;
}
