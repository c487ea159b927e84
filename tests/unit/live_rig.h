/* live_rig.h - live on a real PostgreSQL and a clock that stands, for unit tests: relays, a hub's sessions, and what became of them.
 *
 *     if (!live_open("t_live")) return 1;      main; at its end return live_close(failed)
 *     struct session x = session(enroll("relay", 1), 0);      a session of five minutes that began at second 0
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "live_leg.h"
#include "live_rooms.h"
#include "live_sql.h"
#include "live_web.h"
#include "journal.h"
#include "pg_schema.h"

#define T0 INT64_C(1790000000000000)

static const char *schema;
static struct pl_arena *arena;
static struct db *db;
static struct pl_rand_seeded rnd;
static struct pl_clock_fixed clk;
static struct pl_log log_root;
static struct live_ctx ctx;

static inline struct pl_utc at(int64_t s) { return (struct pl_utc){ T0 + s * PL_SECOND }; }
static inline struct pl_uuid new_id(void) { return pl_uuid7(&rnd.base, at(0)); }

static inline struct db_tx *begin(void)
{
    struct db_tx *tx = NULL;
    assert_int_equal(db_begin(db, arena, &tx), PL_OK);
    return tx;
}

static inline struct pl_uuid enroll(const char *name, uint8_t key)
{
    uint8_t public_key[32] = { key };
    struct pl_uuid id;
    struct db_tx *tx = begin();
    assert_int_equal(live_relay_enroll(tx, &rnd.base, at(0), pl_str_of(name), public_key, &id, NULL), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    return id;
}

/* A relay that is connected, as its hello leaves it. */
static inline int64_t hello(struct pl_uuid relay, int32_t sessions, int64_t s)
{
    struct live_sql_relay_hello_row row;
    bool found;
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_relay_hello(tx, relay, ctx.node_id, new_id(), PL_STR("127.0.0.1"), 50000, 100, sessions, at(s), PL_STR_NONE, &row, &found), PL_OK);
    assert_true(found);
    assert_int_equal(db_commit(&tx), PL_OK);
    return row.epoch;
}

struct session {
    struct pl_uuid account, device, client, live, relay, system; /* account: who opened it, and its home until it moves */
};

/* A session of five minutes, thirty at most, that began at second `s`. */
static inline struct session session(struct pl_uuid relay, int64_t s)
{
    struct session x = { new_id(), new_id(), new_id(), new_id(), relay };
    struct system_row system;
    struct db_tx *tx = begin();
    assert_int_equal(system_add(tx, &rnd.base, at(s), x.account, PL_STR("Home"), &system, NULL), PL_OK);
    x.system = system.id;
    assert_int_equal(live_sql_add(tx, x.account, x.live, x.device, x.system, PL_STR("CAMERA0001"), PL_STR("HUB00000001"), relay, x.account, x.client, 1, PL_STR("AEAD_AES_128_GCM"), at(s), at(s + 300),
                                  at(s + 1800), NULL), PL_OK);
    assert_int_equal(live_sql_place_add(tx, x.live, x.account, relay, PL_STR("HUB00000001"), 1, NULL), PL_OK);
    assert_int_equal(live_sql_viewer_add(tx, x.account, x.live, new_id(), x.account, x.client, PL_STR("viewer"), NULL), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    return x;
}

/* One more viewer, by a client of whoever opened the session. Returns its id. */
static inline struct pl_uuid watches(const struct session *x, struct pl_uuid client)
{
    struct pl_uuid viewer = new_id();
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_viewer_add(tx, x->account, x->live, viewer, x->account, client, PL_STR("viewer"), NULL), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    return viewer;
}

/* What a revocation's transaction does, now. */
static inline void revoke(const struct session *x, struct pl_uuid client)
{
    struct db_tx *tx = begin();
    assert_int_equal(live_client_revoked(tx, pl_now_utc(ctx.clock), x->account, client), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
}

/* The relay reports that a viewer is gone. */
static inline void gone(const struct session *x, struct pl_uuid viewer)
{
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_viewer_gone(tx, x->live, viewer, NULL), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
}

/* A relay that counts what it is asked; one that is `frozen` answers nothing until it goes down. */
struct relay_asked {
    bool frozen;
    size_t asked, kept_n;
    struct bus_ask *kept[16];
    struct bus_server *server;
};
static inline void on_relay_asked(void *self, struct bus_ask *ask, struct pl_str bytes)
{
    struct relay_asked *r = self;
    (void)bytes;
    r->asked++;
    if (r->frozen && r->kept_n < PL_COUNT(r->kept))
        r->kept[r->kept_n++] = ask;
    else
        bus_answer(ask, PL_OK, PL_STR("{}"));
}
static inline void relay_up(struct relay_asked *r, struct pl_uuid relay)
{
    char subject[64], id[PL_UUID_TEXT];
    *r = (struct relay_asked){ .asked = 0 };
    pl_uuid_text(relay, id);
    snprintf(subject, sizeof subject, "relay.%s", id);
    assert_int_equal(bus_serve(ctx.bus, subject, on_relay_asked, r, &r->server), PL_OK);
}
static inline void relay_down(struct relay_asked *r)
{
    bus_unserve(r->server);
    while (r->kept_n)
        bus_answer(r->kept[--r->kept_n], PL_UNAVAILABLE, PL_STR_NONE);
}

static inline const char *end_code_of(const struct session *x)
{
    struct live_sql_get_row row;
    bool found;
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_get(tx, x->account, x->live, &row, &found), PL_OK);
    assert_true(found);
    db_rollbackp(&tx);
    const char *code = row.end_code.p ? pl_str_z(arena, row.end_code) : "";
    assert_non_null(code);
    return code;
}

static inline size_t count(const struct live_ending *e)
{
    size_t n = 0;
    for (; e; e = e->next)
        n++;
    return n;
}

static inline size_t events_of(struct pl_uuid account, const char *type)
{
    struct journal_event_row *rows;
    size_t n, hits = 0;
    int64_t head;
    struct db_tx *tx = begin();
    assert_int_equal(journal_events(tx, account, 0, 100, &rows, &n, &head), PL_OK);
    for (size_t i = 0; i < n; i++)
        hits += pl_str_eqz(rows[i].type, type);
    db_rollbackp(&tx);
    return hits;
}

static inline size_t expire(int64_t s)
{
    struct live_ending *endings = NULL;
    struct db_tx *tx = begin();
    assert_int_equal(live_expire(tx, at(s), &endings), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    return count(endings);
}

static inline int each_test(void **state)
{
    (void)state;
    pl_arena_reset(arena);
    return pg_do(db, "DELETE FROM live_place") == PL_OK ? 0 : -1; /* all sessions are the same hub's */
}

/* The node that the relays are connected to, alive until second 10,000. */
static inline void node_lives(void)
{
    struct db *other = pg_connect(pg_schema_conninfo(schema), 0);
    char id[PL_UUID_TEXT], sql[300], until[PL_UTC_TEXT];
    pl_uuid_text(ctx.node_id, id);
    pl_utc_text(at(10000), until);
    snprintf(sql, sizeof sql, "INSERT INTO node VALUES ('%s', 'test', '0', '%s', '%s')", id, until, until);
    struct db_stmt st = { .name = "test_node", .sql = sql };
    struct db_tx *tx = NULL;
    void *rows;
    int64_t n;
    if (db_begin(other, arena, &tx) != PL_OK || db_stmt_run(tx, &st, NULL, 0, 1, &rows, &n) != PL_OK || db_commit(&tx) != PL_OK)
        abort();
    db_close(other);
}

static inline bool live_open(const char *name)
{
    schema = name;
    if (secure_init() != PL_OK || !(arena = pl_arena_new(32 << 20)))
        return false;
    db = pg_schema_open(schema);
    pl_rand_seed(&rnd, 17);
    pl_clock_fixed_init(&clk, T0);
    ctx = (struct live_ctx){ .clock = &clk.base, .rand = &rnd.base, .log = &log_root, .node_id = new_id(), .server_name = "test" };
    if (bus_new(&clk.base, &ctx.bus) != PL_OK || live_rooms_new(&ctx.rooms) != PL_OK || live_cuts_new(&ctx.cuts) != PL_OK)
        return false;
    live_reachable(&ctx, at(0));
    node_lives();
    return true;
}

static inline int live_close(int failed)
{
    bus_free(ctx.bus);
    live_rooms_free(ctx.rooms);
    live_cuts_free(ctx.cuts);
    db_close(db);
    pl_arena_free(arena);
    return failed;
}
