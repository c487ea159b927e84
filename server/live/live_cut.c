/* Who may no longer watch: cut from the relay, the others go on. A viewer has a row from when its relay holds it and before it gets its keys; the right is held while that is
 * written, so that whoever takes the right finds the row. Taking it only marks the rows, however many they are; what follows is for live_cut, which reads it from the marks:
 * relays are told and not waited for, and strike the rows out by their report that the viewer is gone (S-S5). A mark that stays ends the whole session. */
#include "account.h"
#include "live_priv.h"

#define ROWS_MOST 64 /* of a session: its relay serves ten, and of some it has not been heard yet that they are gone */
#define SLOW (5 * PL_SECOND) /* half of what the relay keeps one who does not come (relay.h, RELAY_GONE) */
#define UNCUT (1200 * PL_MS) /* with the job's period, and a wait for the others, within the 2 s of S-S5 */
#define CUT_ARENA (1 << 20)

enum pl_err live_may(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid live_id, enum system_right right, struct system_row *ret_system,
                     struct live_sql_get_row *ret, struct pl_fail *reterr)
{
    struct live_sql_system_of_row of;
    enum pl_err e = live_sql_system_of(tx, live_id, &of, NULL);
    if (e != PL_OK || (e = system_may(tx, now, who, of.system_id, right, ret_system, reterr)) != PL_OK)
        return e;
    return live_sql_get(tx, ret_system->home_id, live_id, ret, NULL);
}

enum pl_err live_join(struct db_tx *tx, const struct live_ctx *ctx, struct pl_utc now, const struct http_actor *who, const struct live_joins *j, struct pl_fail *reterr)
{
    struct live_sql_room_row room;
    bool found;
    int64_t added;
    enum pl_err e = account_hold_client(tx, now, who);
    if (e != PL_OK || (e = system_hold(tx, now, who, j->system_id, j->right, reterr)) != PL_OK || (e = live_sql_room(tx, j->live_id, &room, &found)) != PL_OK)
        return e;
    if (!found)
        return PL_LIVE_ENDED;
    if (room.viewers >= ROWS_MOST)
        return PL_VIEWERS_FULL;
    e = live_sql_viewer_add(tx, room.account_id, j->live_id, j->viewer_id, who->account_id, who->client_id, PL_STR("viewer"), &added);
    if (e == PL_OK && added == 0)
        return PL_LIVE_ENDED; /* for this one: it was told to leave while it opened the session */
    if (e == PL_OK && pl_mono_sub(pl_now_mono(ctx->clock), j->held) > SLOW)
        return PL_UNAVAILABLE; /* the relay's report that nobody came may be here before the row */
    return e;
}

enum pl_err live_add_viewer(const struct live_ctx *ctx, struct pl_arena *a, struct pl_uuid relay_id, struct live_joins *j, struct pl_str text, struct pl_fail *reterr)
{
    struct pl_str ignored;
    j->held = pl_now_mono(ctx->clock);
    enum pl_err e = live_ask_relay(ctx, a, relay_id, text, LIVE_ASK_TIMEOUT, &ignored, reterr);
    if (e == PL_RELAY_TIMEOUT) /* it may have it */
        live_let_go(ctx, a, relay_id, j->live_id, j->viewer_id);
    return e;
}

void live_let_go(const struct live_ctx *ctx, struct pl_arena *a, struct pl_uuid relay_id, struct pl_uuid live_id, struct pl_uuid viewer_id)
{
    struct pl_buf b = pl_buf_init(a, 1024);
    struct jw w = live_message(ctx, &b, "viewer.remove");
    struct pl_str ignored;
    jw_uuid(&w, "live_id", live_id);
    jw_uuid(&w, "viewer_id", viewer_id);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    if (e == PL_OK)
        e = live_ask_relay(ctx, a, relay_id, pl_buf_view(&b), /* timeout_us= */ 0, &ignored, /* reterr= */ NULL);
    PL_LOG(ctx->log, PL_INFO, "live.viewer-cut", PL_F_UUID("live", live_id), PL_F_UUID("viewer", viewer_id), PL_F_ERR(e == PL_RELAY_TIMEOUT ? PL_OK : e));
}

enum pl_err live_client_revoked(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid client_id)
{
    return live_sql_mark_client(tx, account_id, client_id, now, NULL);
}

/* What was lost is asked of the membership as it is now: it may have come back meanwhile. */
enum pl_err live_member_changed(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid system_id)
{
    struct system_row system;
    enum pl_err e = system_may(tx, now, &(struct http_actor){ .account_id = account_id }, system_id, SYSTEM_SEE, &system, /* reterr= */ NULL);
    bool is = e == PL_OK;
    if (e != PL_OK && e != PL_NOT_FOUND)
        return e;
    bool viewers = !is || !system_role_may(system.role, SYSTEM_TALK), sources = !is || !system_role_may(system.role, SYSTEM_MANAGE);
    return live_sql_mark_member(tx, account_id, system_id, now, viewers, sources, NULL);
}

enum pl_err live_leave(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid live_id, struct live_ending **endings)
{
    struct live_sql_hold_row held;
    struct live_sql_watched_row watched;
    struct pl_uuid client_id = who->scopes.p ? who->client_id : (struct pl_uuid){ { 0 } };
    int64_t marked = 0;
    bool found;
    enum pl_err e = live_sql_hold(tx, live_id, &held, &found);
    if (e == PL_OK && found)
        e = live_sql_mark_here(tx, who->account_id, client_id, live_id, now, &marked);
    if (e != PL_OK || marked == 0 || (e = live_sql_watched(tx, live_id, &watched, NULL)) != PL_OK)
        return e;
    return watched.any ? PL_OK : live_end(tx, now, live_id, "ended_by_user", endings);
}

/* ---- What follows on the marks. */

struct over {
    struct pl_utc now;
    struct live_ending *endings;
};
static enum pl_err end_some(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct over *o = arg;
    struct live_sql_over_row *rows;
    size_t n;
    (void)reterr;
    o->endings = NULL;
    enum pl_err e = live_sql_over(tx, pl_utc_add(o->now, -UNCUT), &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = live_end(tx, o->now, rows[i].id, "revoked", &o->endings);
    return e == PL_OK ? live_sql_openers_gone(tx, NULL) : e;
}

struct marked {
    struct pl_uuid after;
    struct live_sql_marked_row *rows;
    size_t n;
};
static enum pl_err read_some(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct marked *m = arg;
    (void)reterr;
    return live_sql_marked(tx, m->after, &m->rows, &m->n);
}

enum pl_err live_cut(const struct live_ctx *ctx, struct db *db)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(CUT_ARENA);
    struct over over = { .now = pl_now_utc(ctx->clock) };
    struct marked m = { .n = 1 };
    enum pl_err e = a ? PL_OK : PL_NO_MEMORY;
    for (bool more = a != NULL; more; pl_arena_reset(a)) {
        e = db_run(db, a, end_some, &over, /* reterr= */ NULL);
        more = e == PL_OK && over.endings;
        if (more)
            live_tell(ctx, a, over.endings);
    }
    while (e == PL_OK && m.n && (e = db_look(db, a, read_some, &m, /* reterr= */ NULL)) == PL_OK) {
        for (size_t i = 0; i < m.n; i++) {
            live_let_go(ctx, a, m.rows[i].relay_id, m.rows[i].live_id, m.rows[i].viewer_id);
            m.after = m.rows[i].viewer_id;
        }
        pl_arena_reset(a);
    }
    return e;
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
