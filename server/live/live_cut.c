/* Who may no longer watch: cut from the relay, the others go on. In three steps, so that none is lost with whoever takes it: the viewer is marked in the transaction that
 * takes the right; the relay is asked after its commit; what the relay has let go is struck out. A mark that stays ends the whole session. */
#include "live_priv.h"

#define CUT_TIMEOUT (500 * PL_MS)
#define UNCUT (2 * PL_SECOND)

enum pl_err live_may(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid live_id, enum system_right right, struct system_row *ret_system,
                     struct live_sql_get_row *ret, struct pl_fail *reterr)
{
    struct live_sql_system_of_row of;
    enum pl_err e = live_sql_system_of(tx, live_id, &of, NULL);
    if (e != PL_OK || (e = system_may(tx, now, who, of.system_id, right, ret_system, reterr)) != PL_OK)
        return e;
    return live_sql_get(tx, ret_system->home_id, live_id, ret, NULL);
}

/* One that is marked now. `code`: why the session ends, if it does. */
static enum pl_err cut(struct db_tx *tx, struct pl_utc now, const struct live_sql_cut_client_row *r, const char *code, struct live_ending **endings, struct live_cut **cuts)
{
    struct live_sql_watched_row watched;
    enum pl_err e = live_sql_watched(tx, r->account_id, r->live_id, &watched, NULL);
    if (e != PL_OK)
        return e;
    if (!watched.any || pl_str_eqz(r->kind, "source"))
        return live_end(tx, now, r->live_id, code, endings);
    if (pl_str_eqz(r->kind, "opener"))
        return live_sql_viewer_gone(tx, r->live_id, r->viewer_id, NULL);
    struct live_cut *c = PL_NEW(db_arena(tx), struct live_cut);
    if (!c)
        return PL_NO_MEMORY;
    *c = (struct live_cut){ r->live_id, r->viewer_id, r->relay_id, *cuts };
    *cuts = c;
    return PL_OK;
}

enum pl_err live_client_revoked(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid client_id, struct live_ending **endings, struct live_cut **cuts)
{
    struct live_sql_cut_client_row *rows;
    size_t n;
    enum pl_err e = live_sql_cut_client(tx, account_id, client_id, now, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = cut(tx, now, &rows[i], "revoked", endings, cuts);
    return e;
}

/* What was lost is asked of the membership as it is now: it may have come back meanwhile. */
enum pl_err live_member_changed(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid system_id, struct live_ending **endings, struct live_cut **cuts)
{
    struct live_sql_cut_member_row *rows;
    struct system_row system;
    size_t n;
    enum pl_err e = system_may(tx, now, &(struct http_actor){ .account_id = account_id }, system_id, SYSTEM_SEE, &system, /* reterr= */ NULL);
    bool is = e == PL_OK;
    if (e != PL_OK && e != PL_NOT_FOUND)
        return e;
    bool viewers = !is || !system_role_may(system.role, SYSTEM_TALK), sources = !is || !system_role_may(system.role, SYSTEM_MANAGE);
    e = live_sql_cut_member(tx, account_id, system_id, now, viewers, sources, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = cut(tx, now, &(struct live_sql_cut_client_row){ rows[i].account_id, rows[i].live_id, rows[i].viewer_id, rows[i].kind, rows[i].relay_id, rows[i].generation }, "revoked", endings,
                cuts);
    return e;
}

enum pl_err live_leave(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid live_id, struct live_ending **endings, struct live_cut **cuts)
{
    struct live_sql_cut_here_row *rows;
    size_t n;
    struct pl_uuid client_id = who->scopes.p ? who->client_id : (struct pl_uuid){ { 0 } };
    enum pl_err e = live_sql_cut_here(tx, who->account_id, client_id, live_id, now, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = cut(tx, now, &(struct live_sql_cut_client_row){ rows[i].account_id, rows[i].live_id, rows[i].viewer_id, rows[i].kind, rows[i].relay_id, rows[i].generation }, "ended_by_user",
                endings, cuts);
    return e;
}

static enum pl_err ask(const struct live_ctx *ctx, struct pl_arena *a, const struct live_cut *c)
{
    struct pl_buf b = pl_buf_init(a, 1024);
    struct jw w = live_message(ctx, &b, "viewer.remove");
    struct pl_str ignored;
    jw_uuid(&w, "live_id", c->live_id);
    jw_uuid(&w, "viewer_id", c->viewer_id);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    return e == PL_OK ? live_ask_relay(ctx, a, c->relay_id, pl_buf_view(&b), CUT_TIMEOUT, &ignored, /* reterr= */ NULL) : e;
}

static enum pl_err strike(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    const struct live_cut *c = arg;
    (void)reterr;
    return live_sql_viewer_gone(tx, c->live_id, c->viewer_id, NULL);
}

void live_tell_cut(const struct live_ctx *ctx, struct db *db, struct pl_arena *a, const struct live_cut *cuts)
{
    for (const struct live_cut *c = cuts; c; c = c->next) {
        struct live_cut gone = *c;
        enum pl_err e = ask(ctx, a, c);
        if (e == PL_OK || e == PL_NOT_FOUND)
            e = db_run(db, a, strike, &gone, /* reterr= */ NULL);
        PL_LOG(ctx->log, PL_INFO, "live.viewer-cut", PL_F_UUID("live", c->live_id), PL_F_UUID("viewer", c->viewer_id), PL_F_ERR(e));
    }
}

enum pl_err live_move_home(struct db_tx *tx, struct pl_uuid home_id, struct pl_uuid system_id, struct pl_uuid to)
{
    static enum pl_err (*const whole[])(struct db_tx *, struct pl_uuid, struct pl_uuid, struct pl_uuid, int64_t *) = { live_sql_move, live_sql_move_stages,
        live_sql_move_viewers, live_sql_move_places };
    enum pl_err e = PL_OK;
    for (size_t i = 0; e == PL_OK && i < PL_COUNT(whole); i++)
        e = whole[i](tx, home_id, system_id, to, NULL);
    return e;
}

enum pl_err live_end_uncut(struct db_tx *tx, struct pl_utc now, struct live_ending **endings)
{
    struct live_sql_uncut_row *rows;
    size_t n;
    enum pl_err e = live_sql_uncut(tx, pl_utc_add(now, -UNCUT), &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = live_end(tx, now, rows[i].live_id, "revoked", endings);
    return e;
}
