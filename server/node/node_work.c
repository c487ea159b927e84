/* The jobs of porchlightd, in rows. What each does is its capability's; here stands when. */
#include "journal.h"
#include "node_priv.h"
#include "node_sql.h"

/* A job's one transaction: begin, the call, commit. */
#define IN_TX(n, db, a, call) \
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL; \
    struct pl_utc now = pl_now_utc((n)->clock); \
    enum pl_err e = db_begin((db), (a), &tx); \
    if (e == PL_OK) \
        e = (call); \
    if (e == PL_OK) \
        e = db_commit(&tx)

static enum pl_err renew_lease(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    (void)ret_again;
    struct pl_utc since = __atomic_load_n(&n->status.draining, __ATOMIC_ACQUIRE) ? n->status.draining_since : (struct pl_utc){ 0 };
    struct pl_utc began = pl_now_utc(n->clock);
    if (pl_utc_sub(began, n->leased_at) > NODE_LEASE) /* no database for so long, or this process stood still: nobody could come to it */
        live_reachable(&n->live, began);
    IN_TX(n, db, a, node_sql_renew(tx, n->id, pl_utc_add(now, NODE_LEASE), since, NULL));
    if (e == PL_OK)
        n->leased_at = now;
    return e;
}

static enum pl_err end_live(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    struct live_ending *endings = NULL;
    (void)ret_again;
    IN_TX(n, db, a, live_expire(tx, now, &endings));
    if (e == PL_OK)
        live_tell(&n->live, a, endings);
    return e;
}

static enum pl_err cut_live(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    (void)a, (void)ret_again;
    return live_cut(&n->live, db);
}

static enum pl_err end_members(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    bool any = false;
    (void)ret_again;
    IN_TX(n, db, a, system_expire(&n->system, tx, now, &any));
    if (e == PL_OK && any)
        system_told(&n->system);
    return e;
}

static enum pl_err end_claims(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    (void)ret_again;
    IN_TX(n, db, a, device_expire(&n->device, tx, now));
    return e;
}

static enum pl_err sweep_commands(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    (void)ret_again;
    IN_TX(n, db, a, device_sweep(&n->device, tx, now));
    return e;
}

static enum pl_err work_account(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    IN_TX(n, db, a, account_work(n->account, tx, now, ret_again));
    if (e == PL_OK && *ret_again)
        notify_wake(n->notify);
    return e;
}

static enum pl_err clean_account(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    (void)ret_again;
    IN_TX(n, db, a, (e = account_expire(n->account, tx, now)) == PL_OK && (e = oauth_expire(tx, now)) == PL_OK ? outside_expire(tx, now) : e);
    return e;
}

static enum pl_err clean_journal(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    (void)ret_again;
    IN_TX(n, db, a, journal_expire(tx, now));
    return e;
}

static enum pl_err clean_http(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    (void)ret_again;
    IN_TX(n, db, a, (e = limit_expire(&n->conf->pin.limits, tx, now)) == PL_OK ? http_expire(tx, now) : e);
    return e;
}

static enum pl_err clean_nodes(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    (void)ret_again;
    IN_TX(n, db, a, node_sql_forget(tx, pl_utc_add(now, -7 * PL_DAY), NULL));
    return e;
}

static enum pl_err sweep_events(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    (void)db, (void)a, (void)ret_again;
    account_events_sweep(n->account);
    return PL_OK;
}

static enum pl_err measure(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    (void)ret_again;
    IN_TX(n, db, a, (e = notify_measure(tx)) == PL_OK ? live_measure(tx, now) : e);
    return e;
}

static enum pl_err send_outbox(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    unsigned tried;
    enum pl_err e = notify_run_once(n->notify, db, a, n->rand, n->clock, 16, &tried);
    *ret_again = e == PL_OK && tried == 16;
    return e;
}

static enum pl_err clean_live(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again)
{
    (void)ret_again;
    IN_TX(n, db, a, live_clean(tx, now));
    return e;
}

/* On a thread of its own: whatever keeps the other jobs, this node is not taken for dead while it lives. */
const struct node_job node_lease_jobs[] = {
    { "lease", NODE_LEASE / 3, true, renew_lease },
    { NULL, 0, false, NULL },
};

const struct node_job node_jobs[] = {
    { "facts", PL_SECOND, true, node_handle_fact },
    { "account-work", PL_SECOND, true, work_account },
    { "live-end", PL_SECOND, false, end_live },
    { "live-cut", PL_SECOND / 2, false, cut_live },
    { "member-end", PL_SECOND, false, end_members },
    { "claim-end", PL_SECOND, false, end_claims },
    { "command-sweep", 5 * PL_SECOND, false, sweep_commands },
    { "measure", 5 * PL_SECOND, false, measure },
    { "events-sweep", PL_SECOND, false, sweep_events },
    { "account-clean", PL_MINUTE, false, clean_account },
    { "http-clean", PL_MINUTE, false, clean_http },
    { "journal-clean", 10 * PL_MINUTE, false, clean_journal },
    { "live-clean", 10 * PL_MINUTE, false, clean_live },
    { "node-clean", PL_HOUR, false, clean_nodes },
    { NULL, 0, false, NULL },
};

const struct node_job node_outbox_jobs[] = {
    { "outbox", PL_SECOND, true, send_outbox },
    { NULL, 0, false, NULL },
};
