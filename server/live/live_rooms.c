#include "live_rooms.h"

#define COST_LEAST 2 /* thousandths of a core that one more session is taken to cost at least: as the relay itself counts */
#define AWAY (15 * PL_SECOND) /* a relay comes back in a second or two, when there is somebody to come back to */
#define SETTLED (40 * PL_SECOND) /* while there was nobody it tried less and less often, at least every 30 s */

enum { ROOMS = 2048 }; /* twice as many as are looked at */

struct live_rooms {
    pthread_mutex_t lock;
    struct room {
        struct pl_uuid relay_id; /* zero: free */
        struct pl_utc said_at;   /* what follows is since then */
        int32_t placed;
        bool refused;
    } rooms[ROOMS]; /* LOCK: lock */
    size_t n;       /* LOCK: lock */
};

enum pl_err live_rooms_new(struct live_rooms **ret)
{
    struct live_rooms *r = *ret = pl_heap(sizeof *r);
    if (!r)
        return PL_NO_MEMORY;
    pthread_mutex_init(&r->lock, NULL);
    return PL_OK;
}

struct live_rooms *live_rooms_free(struct live_rooms *r)
{
    if (r)
        pthread_mutex_destroy(&r->lock);
    return pl_heap_free(r);
}

/* Its place in the table, or the free one where it would stand. Relays' ids end in random bits. */
static struct room *place_of(struct live_rooms *r, struct pl_uuid relay_id)
{
    size_t i = (size_t)(relay_id.b[14] << 8 | relay_id.b[15]) % ROOMS;
    while (!pl_uuid_is_zero(r->rooms[i].relay_id) && !pl_uuid_eq(r->rooms[i].relay_id, relay_id))
        i = (i + 1) % ROOMS;
    return &r->rooms[i];
}

/* What is known of it since it said something itself. */
static struct room *room_of(struct live_rooms *r, struct pl_uuid relay_id, struct pl_utc said_at)
{
    struct room *room = place_of(r, relay_id);
    bool is_new = pl_uuid_is_zero(room->relay_id);
    if (is_new && r->n == ROOMS / 2) { /* relays of years: who is still there is counted anew */
        memset(r->rooms, 0, sizeof r->rooms);
        r->n = 0;
        room = place_of(r, relay_id);
    }
    r->n += is_new;
    if (is_new || room->said_at.us != said_at.us)
        *room = (struct room){ .relay_id = relay_id, .said_at = said_at };
    return room;
}

/* How full it is, in thousandths, by what runs out first: places or its thread's time. */
static int64_t load_of(const struct live_sql_relay_rooms_row *row, const struct room *room)
{
    int64_t ends = row->sessions + row->viewers, each = ends ? row->busy * 10 / ends : 0;
    int64_t places = row->max_sessions > 0 ? (row->sessions + room->placed) * INT64_C(1000) / row->max_sessions : INT32_MAX;
    int64_t busy = (row->busy * 10 + room->placed * (each > COST_LEAST ? each : COST_LEAST)) * 100 / LIVE_RELAY_FULL;
    return places > busy ? places : busy;
}

enum pl_err live_rooms_look(struct db_tx *tx, struct pl_utc now, struct live_choice *ret)
{
    struct live_sql_relay_rooms_row *rows;
    size_t n;
    enum pl_err e = live_sql_relay_rooms(tx, now, &rows, &n);
    if (e != PL_OK)
        return e;
    *ret = (struct live_choice){ .rows = rows, .taken = PL_NEW_ARRAY(db_arena(tx), n + 1, bool), .n = n, .left = n };
    return ret->taken ? PL_OK : PL_NO_MEMORY;
}

const struct live_sql_relay_rooms_row *live_rooms_take(struct live_rooms *r, struct live_choice *c)
{
    const struct live_sql_relay_rooms_row *best = NULL;
    bool refused = false;
    int64_t least = 0;
    PL_LOCK(&r->lock);
    for (size_t i = 0; i < c->n; i++) {
        if (c->taken[i])
            continue;
        const struct room *room = room_of(r, c->rows[i].id, c->rows[i].seen_at);
        int64_t load = load_of(&c->rows[i], room);
        if (!best || room->refused < refused || (room->refused == refused && load < least)) {
            best = &c->rows[i];
            refused = room->refused;
            least = load;
        }
    }
    if (!best)
        return NULL;
    c->taken[best - c->rows] = true;
    c->left--;
    room_of(r, best->id, best->seen_at)->placed++;
    return best;
}

void live_rooms_refused(struct live_rooms *r, struct pl_uuid relay_id)
{
    PL_LOCK(&r->lock);
    struct room *room = place_of(r, relay_id);
    if (pl_uuid_is_zero(room->relay_id)) /* all was forgotten meanwhile */
        return;
    room->refused = true;
    room->placed -= room->placed > 0;
}

void live_reachable(struct live_ctx *ctx, struct pl_utc now) { __atomic_store_n(&ctx->reachable_us, now.us, __ATOMIC_RELEASE); }

enum pl_err live_relay_lost(const struct live_ctx *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid relay_id, bool *ret)
{
    struct live_sql_relay_away_row away;
    bool found;
    enum pl_err e = live_sql_relay_away(tx, relay_id, ctx->node_id, now, &away, &found);
    *ret = e == PL_OK && found && pl_utc_sub(now, away.since) >= AWAY && now.us - __atomic_load_n(&ctx->reachable_us, __ATOMIC_ACQUIRE) >= SETTLED;
    return e;
}
