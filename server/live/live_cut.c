/* Who may no longer watch: cut from the relay, the others go on. A viewer has a row from when its relay holds it and before it gets its keys; the right is held while that is
 * written, so that whoever takes the right finds the row. Taking it only marks the rows, however many they are; what follows is for live_cut, which reads it from the marks:
 * relays are told and not waited for, and strike the rows out by their report that the viewer is gone (S-S5). A mark that stays ends the whole session: 1.2 s after this node
 * told the relay, by this node's monotonic clock alone, for who marked may have another clock, or have waited since for a lock. Every node counts by itself from its own first
 * look, so that it does not matter which of them dies. */
#include "account.h"
#include "live_priv.h"

#define ROWS_MOST 64 /* of a session: its relay serves ten, and of some it has not been heard yet that they are gone */
#define SLOW (5 * PL_SECOND) /* half of what the relay keeps one who does not come (relay.h, RELAY_GONE) */
#define UNCUT (1200 * PL_MS) /* with the job's period, and a wait for the others, within the 2 s of S-S5 */
#define CUT_ARENA (1 << 20)
#define TOLD_KEPT (3 * PL_SECOND) /* a mark of so long ago is gone, or its session has ended */
enum { TOLD_MOST = 4096, TOLD_NEAR = 16 };

struct live_cuts {
    pthread_mutex_t lock;
    struct told {
        struct pl_uuid viewer_id; /* zero: free */
        struct pl_mono at;
    } told[TOLD_MOST]; /* LOCK: lock */
};

enum pl_err live_cuts_new(struct live_cuts **ret)
{
    struct live_cuts *c = *ret = pl_heap(sizeof *c);
    if (!c)
        return PL_NO_MEMORY;
    pthread_mutex_init(&c->lock, NULL);
    return PL_OK;
}

struct live_cuts *live_cuts_free(struct live_cuts *c)
{
    if (c)
        pthread_mutex_destroy(&c->lock);
    return pl_heap_free(c);
}

/* Whether the relay was told longer ago than it may take. `tell`: it is told now, if it was not before. Who finds no place among so many is taken to have been told with the
 * oldest of its neighbours: its session may end too early, but never too late. Viewers' ids end in random bits. */
static bool is_silent(struct live_cuts *c, struct pl_uuid viewer_id, struct pl_mono now, bool tell)
{
    size_t first = (size_t)(viewer_id.b[14] << 8 | viewer_id.b[15]);
    struct told *place = NULL, *oldest = NULL;
    PL_LOCK(&c->lock);
    for (size_t i = 0; i < TOLD_NEAR; i++) {
        struct told *t = &c->told[(first + i) % TOLD_MOST];
        if (pl_uuid_eq(t->viewer_id, viewer_id))
            return pl_mono_sub(now, t->at) > UNCUT;
        if (pl_uuid_is_zero(t->viewer_id) || pl_mono_sub(now, t->at) > TOLD_KEPT)
            place = place ? place : t;
        else if (!oldest || pl_mono_sub(t->at, oldest->at) < 0)
            oldest = t;
    }
    if (!place)
        return pl_mono_sub(now, oldest->at) > UNCUT;
    if (tell)
        *place = (struct told){ .viewer_id = viewer_id, .at = now };
    return false;
}

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
    enum pl_err e = live_sql_over(tx, &rows, &n);
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

/* Of one marked viewer, if it is still there: its session ends. */
struct silent {
    struct pl_utc now;
    const struct live_sql_marked_row *viewer;
    struct live_ending *endings;
};
static enum pl_err end_silent(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct silent *s = arg;
    struct live_sql_still_row row;
    bool found;
    (void)reterr;
    s->endings = NULL;
    enum pl_err e = live_sql_still(tx, s->viewer->live_id, s->viewer->viewer_id, &row, &found);
    return e == PL_OK && found ? live_end(tx, s->now, s->viewer->live_id, "revoked", &s->endings) : e;
}

/* Reads all who are marked, and has something done about each. */
typedef enum pl_err each_marked(const struct live_ctx *ctx, struct db *db, struct pl_arena *a, const struct live_sql_marked_row *viewer, bool *silent);
static enum pl_err for_marked(const struct live_ctx *ctx, struct db *db, struct pl_arena *a, each_marked *fn, bool *silent)
{
    struct marked m = { .n = 1 };
    enum pl_err e = PL_OK;
    for (; e == PL_OK && m.n; pl_arena_reset(a)) {
        e = db_look(db, a, read_some, &m, /* reterr= */ NULL);
        for (size_t i = 0; e == PL_OK && i < m.n; i++) {
            m.after = m.rows[i].viewer_id;
            e = fn(ctx, db, a, &m.rows[i], silent);
        }
    }
    return e;
}

static enum pl_err tell_one(const struct live_ctx *ctx, struct db *db, struct pl_arena *a, const struct live_sql_marked_row *viewer, bool *silent)
{
    (void)db;
    live_let_go(ctx, a, viewer->relay_id, viewer->live_id, viewer->viewer_id);
    if (is_silent(ctx->cuts, viewer->viewer_id, pl_now_mono(ctx->clock), /* tell= */ true))
        *silent = true;
    return PL_OK;
}

static enum pl_err end_one(const struct live_ctx *ctx, struct db *db, struct pl_arena *a, const struct live_sql_marked_row *viewer, bool *silent)
{
    (void)a, (void)silent;
    struct silent s = { .now = pl_now_utc(ctx->clock), .viewer = viewer };
    if (!is_silent(ctx->cuts, viewer->viewer_id, pl_now_mono(ctx->clock), /* tell= */ false))
        return PL_OK;
    struct pl_arena *own PL_CLEANUP(pl_arena_freep) = pl_arena_new(CUT_ARENA); /* `a` holds the others who are marked */
    enum pl_err e = own ? db_run(db, own, end_silent, &s, /* reterr= */ NULL) : PL_NO_MEMORY;
    if (e == PL_OK)
        live_tell(ctx, own, s.endings);
    return e;
}

enum pl_err live_cut(const struct live_ctx *ctx, struct db *db)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(CUT_ARENA);
    struct over over = { .now = pl_now_utc(ctx->clock) };
    bool silent = false;
    enum pl_err e = a ? PL_OK : PL_NO_MEMORY;
    for (bool more = a != NULL; more; pl_arena_reset(a)) {
        e = db_run(db, a, end_some, &over, /* reterr= */ NULL);
        more = e == PL_OK && over.endings;
        if (more)
            live_tell(ctx, a, over.endings);
    }
    if (e == PL_OK)
        e = for_marked(ctx, db, a, tell_one, &silent);
    return e == PL_OK && silent ? for_marked(ctx, db, a, end_one, &silent) : e; /* who is told for the first time is not looked at again before the next run */
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
