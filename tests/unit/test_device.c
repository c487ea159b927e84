/* device against a real PostgreSQL, on a clock that the test moves: S-D2, S-D4, S-D5, S-D6, S-D8, presence. What needs sockets is in tests/it/test_devices.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "device_priv.h"
#include "pg_schema.h"

#define T0 INT64_C(1790000000000000)

#define PLENTY { 100000, 100000, 100000, 100000, 100000, 100000, 1, 1, 100000, 1000, 100000 } /* the limits have tests of their own */

static struct pl_arena *arena;
static struct db *db;
static struct pl_rand_seeded rnd;
static struct pl_clock_fixed clk;
static struct notify *notify;
static struct pl_secret master = { { 3 } };
static struct pl_log log_root;
static struct device_ctx ctx;

static struct pl_utc at(int64_t s) { return (struct pl_utc){ T0 + s * PL_SECOND }; }
static struct pl_uuid new_id(void) { return pl_uuid7(&rnd.base, at(0)); }

static struct db_tx *begin(void)
{
    struct db_tx *tx = NULL;
    assert_int_equal(db_begin(db, arena, &tx), PL_OK);
    return tx;
}

/* A device as its maker made it. */
struct thing {
    struct pl_str serial;
    struct secure_keypair key;
};
static struct thing make(const char *kind, struct pl_str setup_code_hash)
{
    static unsigned n;
    struct thing t = { .serial = pl_fmt(arena, "TEST%08u", ++n) };
    struct device_made made = { .serial = t.serial, .kind = pl_str_of(kind), .model = PL_STR("m1"), .setup_code_hash = setup_code_hash };
    bool added;
    secure_keypair_new(&t.key);
    memcpy(made.public_key, t.key.public_key, 32);
    struct db_tx *tx = begin();
    assert_int_equal(device_inventory_add(tx, at(0), &made, &added, NULL), PL_OK);
    assert_true(added);
    assert_int_equal(db_commit(&tx), PL_OK);
    return t;
}

struct household {
    struct pl_uuid account, system;
};
static struct household household(void)
{
    struct household h = { .account = new_id() };
    struct system_row row;
    struct db_tx *tx = begin();
    assert_int_equal(system_add(tx, &rnd.base, at(0), h.account, PL_STR("Home"), &row, NULL), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    h.system = row.id;
    return h;
}

/* As the route does: what counts is committed though it failed. */
static enum pl_err claim(struct household h, struct pl_str serial, const char *code, bool hub, int64_t s, struct pl_uuid *ret)
{
    struct device_claim_ask ask = { &(struct http_actor){ .account_id = h.account, .client_id = h.account }, h.system, serial, pl_str_of(code), PL_STR_NONE, hub };
    struct pl_fail fail = PL_FAIL_INIT;
    struct device_claim_started started = { 0 };
    bool count_it = false;
    struct db_tx *tx = begin();
    enum pl_err e = device_claim_start(&ctx, tx, at(s), &ask, &started, &count_it, &fail);
    *ret = started.id;
    if (e == PL_OK || count_it)
        assert_int_equal(db_commit(&tx), PL_OK);
    db_rollbackp(&tx);
    return e;
}

static struct device_sql_claim_find_row look(struct household h, struct pl_uuid id)
{
    struct device_sql_claim_find_row r;
    struct db_tx *tx = begin();
    assert_int_equal(device_sql_claim_find(tx, id, h.account, &r, NULL), PL_OK);
    db_rollbackp(&tx);
    return r;
}

static enum pl_err prove(struct household h, const struct thing *by, struct pl_str serial, struct pl_uuid id, int64_t s, struct device_bound *ret)
{
    struct pl_str text;
    uint8_t signature[64];
    bool keep = false;
    assert_int_equal(secure_claim_text(arena, serial, look(h, id).challenge, &text), PL_OK);
    secure_sign(&by->key, text, signature);
    struct device_proof p = { .claim_id = id, .by = by->serial, .serial = serial, .signature = { (const char *)signature, 64 } };
    struct db_tx *tx = begin();
    enum pl_err e = device_claim_prove(&ctx, tx, at(s), &p, ret, &keep, NULL);
    if (e == PL_OK || keep)
        assert_int_equal(db_commit(&tx), PL_OK);
    db_rollbackp(&tx);
    return e;
}

static struct device_bound bind_hub(struct household h, const struct thing *hub)
{
    struct device_bound b;
    struct pl_uuid id;
    assert_int_equal(claim(h, hub->serial, NULL, true, 0, &id), PL_OK);
    assert_int_equal(prove(h, hub, hub->serial, id, 1, &b), PL_OK);
    return b;
}

/* ---- Inventory ---- */

static void s_d1_a_known_serial_keeps_its_key(void **state)
{
    (void)state;
    struct thing t = make("hub", PL_STR_NONE);
    struct device_made made = { .serial = t.serial, .kind = PL_STR("hub"), .model = PL_STR("m2"), .public_key = { 9 } };
    bool added = true;
    struct db_tx *tx = begin();
    assert_int_equal(device_inventory_add(tx, at(1), &made, &added, NULL), PL_VERSION_CONFLICT);
    memcpy(made.public_key, t.key.public_key, 32);
    made.kind = PL_STR("mini");
    assert_int_equal(device_inventory_add(tx, at(1), &made, &added, NULL), PL_VERSION_CONFLICT);
    made.kind = PL_STR("hub");
    assert_int_equal(device_inventory_add(tx, at(1), &made, &added, NULL), PL_OK);
    assert_false(added);
    db_rollbackp(&tx);
}

/* ---- Claims ---- */

static void s_d2_good_at_4_59_dead_at_5_00(void **state)
{
    (void)state;
    struct household h = household();
    struct thing hub = make("hub", PL_STR_NONE), late = make("hub", PL_STR_NONE);
    struct device_bound b;
    struct pl_uuid id;
    assert_int_equal(claim(h, hub.serial, NULL, true, 0, &id), PL_OK);
    assert_int_equal(look(h, id).challenge.n, 22); /* 128 bits */
    assert_int_equal(prove(h, &hub, hub.serial, id, 299, &b), PL_OK);
    struct household other = household();
    assert_int_equal(claim(other, late.serial, NULL, true, 0, &id), PL_OK);
    assert_int_equal(prove(other, &late, late.serial, id, 300, &b), PL_CLAIM_EXPIRED);
}

static void s_d2_an_expired_claim_gives_its_slot_back(void **state)
{
    (void)state;
    struct household h = household();
    struct thing one = make("hub", PL_STR_NONE), two = make("hub", PL_STR_NONE);
    struct journal_event_row *events;
    struct pl_uuid first, id;
    int64_t head;
    size_t n;
    assert_int_equal(claim(h, one.serial, NULL, true, 0, &first), PL_OK);
    assert_int_equal(claim(h, two.serial, NULL, true, 299, &id), PL_SYSTEM_HAS_HUB);
    struct db_tx *tx = begin();
    assert_int_equal(device_expire(&ctx, tx, at(300)), PL_OK);
    assert_int_equal(journal_events(tx, h.account, 0, 50, &events, &n, &head), PL_OK);
    assert_true(pl_str_eqz(events[n - 1].type, "claim.state"));
    assert_int_equal(db_commit(&tx), PL_OK);
    assert_true(pl_str_eqz(look(h, first).state, "expired"));
    assert_int_equal(claim(h, two.serial, NULL, true, 300, &id), PL_OK);
}

static void s_d2_only_the_hub_of_that_system_vouches(void **state)
{
    (void)state;
    struct household h = household(), other = household();
    struct thing hub = make("hub", PL_STR_NONE), stranger = make("hub", PL_STR_NONE), camera = make("wireless", PL_STR_NONE);
    struct device_bound b;
    struct device_view view;
    struct pl_uuid id;
    bind_hub(h, &hub);
    bind_hub(other, &stranger);
    assert_int_equal(claim(h, camera.serial, NULL, false, 2, &id), PL_OK);
    assert_int_equal(prove(h, &stranger, camera.serial, id, 3, &b), PL_CLAIM_REFUSED);
    assert_true(pl_str_eqz(look(h, id).state, "waiting_device")); /* and cannot burn it */
    assert_int_equal(prove(h, &hub, camera.serial, id, 4, &b), PL_OK);
    struct db_tx *tx = begin();
    assert_int_equal(device_find_for_view(tx, at(5), h.account, b.device_id, &view), PL_OK);
    assert_int_equal(device_find_for_view(tx, at(5), other.account, b.device_id, &view), PL_NOT_FOUND);
    assert_false(view.online); /* its hub was never connected */
    assert_true(view.battery);
    db_rollbackp(&tx);
}

static void s_d4_bound_elsewhere_is_refused(void **state)
{
    (void)state;
    struct household h = household(), other = household();
    struct thing hub = make("hub", PL_STR_NONE);
    struct pl_uuid id;
    struct device_bound first = bind_hub(h, &hub), again;
    assert_int_equal(claim(other, hub.serial, NULL, true, 10, &id), PL_ALREADY_REGISTERED);
    assert_int_equal(claim(h, hub.serial, NULL, true, 10, &id), PL_OK); /* the owner again: proved anew, nothing else changes */
    assert_int_equal(prove(h, &hub, hub.serial, id, 11, &again), PL_OK);
    assert_true(pl_uuid_eq(first.device_id, again.device_id));
}

static void s_d5_ten_failures_an_hour_for_an_account(void **state)
{
    (void)state;
    struct household h = household();
    struct thing hub = make("hub", PL_STR_NONE);
    struct pl_uuid id;
    for (int i = 0; i < 10; i++)
        assert_int_equal(claim(h, PL_STR("NOBODYS00001"), NULL, true, i, &id), PL_SERIAL_UNKNOWN);
    assert_int_equal(claim(h, hub.serial, NULL, true, 3599, &id), PL_RATE_LIMITED);
    assert_int_equal(claim(h, hub.serial, NULL, true, 3600, &id), PL_OK);
}

static void s_d5_twenty_failures_a_day_on_a_serial_ask_for_its_setup_code(void **state)
{
    (void)state;
    uint8_t hash[32];
    struct household owner = household();
    struct pl_uuid id;
    /* Its serial is known before it is made, as makers do. */
    struct thing probe = make("hub", PL_STR_NONE);
    uint32_t number;
    assert_int_equal(pl_parse_u32((struct pl_str){ probe.serial.p + 4, 8 }, 0, UINT32_MAX, &number), PL_OK);
    assert_int_equal(device_setup_code_hash(arena, pl_fmt(arena, "TEST%08u", number + 1), PL_STR("4711"), hash), PL_OK);
    struct thing hub = make("hub", (struct pl_str){ (const char *)hash, 32 });
    for (int i = 0; i < 20; i++)
        assert_int_equal(claim(household(), hub.serial, "0000", true, i, &id), PL_SETUP_CODE_WRONG);
    assert_int_equal(claim(household(), hub.serial, NULL, true, 30, &id), PL_SETUP_CODE_WRONG);
    assert_int_equal(claim(owner, hub.serial, "4711", true, 31, &id), PL_OK); /* the right code is never refused by it */
    assert_int_equal(claim(household(), hub.serial, NULL, true, 86400 + 30, &id), PL_OK);
}

static void s_d8_ten_devices_beside_the_hub(void **state)
{
    (void)state;
    struct household h = household();
    struct thing hub = make("hub", PL_STR_NONE), last = make("mini", PL_STR_NONE), another_hub = make("hub", PL_STR_NONE), again = { .serial = PL_STR_NONE };
    struct device_bound b;
    struct pl_uuid id;
    bind_hub(h, &hub);
    for (int i = 0; i < DEVICE_SLOTS; i++) {
        struct thing mini = make("mini", PL_STR_NONE);
        assert_int_equal(claim(h, mini.serial, NULL, false, i, &id), PL_OK);
        if (i % 2) /* half are bound, half wait: both hold their place */
            assert_int_equal(prove(h, &mini, mini.serial, id, i, &b), PL_OK);
        else
            again = mini;
    }
    assert_int_equal(claim(h, last.serial, NULL, false, 20, &id), PL_SYSTEM_FULL);
    assert_int_equal(claim(h, another_hub.serial, NULL, true, 20, &id), PL_SYSTEM_HAS_HUB);
    assert_int_equal(claim(h, again.serial, NULL, false, 21, &id), PL_OK); /* adding anew takes no second place */
    assert_int_equal(claim(h, last.serial, NULL, false, 22, &id), PL_SYSTEM_FULL);
}

static void wireless_needs_a_hub_and_a_mini_does_not(void **state)
{
    (void)state;
    struct household h = household();
    struct thing wireless = make("wireless", PL_STR_NONE), mini = make("doorbell", PL_STR_NONE);
    struct pl_uuid id;
    assert_int_equal(claim(h, wireless.serial, NULL, false, 0, &id), PL_HUB_REQUIRED);
    assert_int_equal(claim(h, mini.serial, NULL, false, 0, &id), PL_OK);
    assert_int_equal(claim(h, mini.serial, NULL, true, 0, &id), PL_WRONG_KIND);
    assert_int_equal(claim((struct household){ new_id(), h.system }, mini.serial, NULL, false, 0, &id), PL_NOT_FOUND);
}

/* ---- Presence ---- */

static int64_t hello(const struct thing *t, struct pl_uuid node, int64_t s)
{
    struct device_sql_link_hello_row r;
    struct db_tx *tx = begin();
    assert_int_equal(device_sql_link_hello(tx, t->serial, node, PL_STR("hub"), PL_STR("1.0"), new_id(), PL_STR("power"), 0, 3, at(s), &r, NULL), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    return r.epoch;
}

static struct device_connectivity connectivity(struct pl_uuid account, struct pl_uuid id, int64_t s)
{
    struct device_sql_views_row *r;
    struct db_tx *tx = begin();
    assert_int_equal(device_view_one(tx, account, id, &r), PL_OK);
    db_rollbackp(&tx);
    return device_connectivity(r, at(s));
}

static void an_older_epoch_writes_nothing(void **state)
{
    (void)state;
    struct thing hub = make("hub", PL_STR_NONE);
    struct device_sql_link_fence_row r;
    struct pl_uuid node = new_id();
    int64_t gone;
    bool found;
    int64_t old = hello(&hub, node, 0), newer = hello(&hub, node, 1);
    struct db_tx *tx = begin();
    assert_true(newer > old);
    assert_int_equal(device_sql_link_fence(tx, hub.serial, old, &r, &found), PL_OK);
    assert_false(found);
    assert_int_equal(device_sql_link_gone(tx, hub.serial, old, PL_STR("lost"), at(2), &gone), PL_OK);
    assert_int_equal(gone, 0);
    assert_int_equal(device_sql_link_gone(tx, hub.serial, newer, PL_STR("lost"), at(2), &gone), PL_OK);
    assert_int_equal(gone, 1);
    db_rollbackp(&tx);
}

/* A hello whose commit failed has an epoch that nobody knows; its connection ends late, when the hub is there again by another. */
static void an_epoch_that_was_rolled_back_is_nobody_elses(void **state)
{
    (void)state;
    struct thing hub = make("hub", PL_STR_NONE);
    struct device_sql_link_hello_row lost;
    struct pl_uuid node = new_id();
    int64_t gone;
    for (int64_t s = 0; s < 20; s += 10) { /* its first, and one that it had before */
        struct db_tx *tx = begin();
        assert_int_equal(device_sql_link_hello(tx, hub.serial, node, PL_STR("hub"), PL_STR("1.0"), new_id(), PL_STR("power"), 0, 3, at(s), &lost, NULL), PL_OK);
        db_rollbackp(&tx);
        assert_int_not_equal(hello(&hub, node, s + 1), lost.epoch);
        tx = begin();
        assert_int_equal(device_sql_link_gone(tx, hub.serial, lost.epoch, PL_STR("unavailable"), at(s + 2), &gone), PL_OK);
        assert_int_equal(gone, 0);
        db_rollbackp(&tx);
    }
}

static void a_dead_node_takes_its_hubs_along(void **state)
{
    (void)state;
    struct household h = household();
    struct thing hub = make("hub", PL_STR_NONE);
    struct pl_uuid node = new_id();
    struct device_bound b = bind_hub(h, &hub);
    char id[PL_UUID_TEXT];
    pl_uuid_text(node, id);
    struct pl_str sql = pl_fmt(arena, "INSERT INTO node VALUES ('%s', 'n', '0', to_timestamp(%lld), to_timestamp(%lld))", id, (long long)(T0 / PL_SECOND), (long long)(T0 / PL_SECOND + 30));
    assert_string_equal(connectivity(h.account, b.device_id, 1).state, "offline");
    assert_true(pl_str_eqz(connectivity(h.account, b.device_id, 1).cause, "never_connected"));
    assert_int_equal(pg_do(db, sql.p), PL_OK);
    hello(&hub, node, 2);
    assert_string_equal(connectivity(h.account, b.device_id, 29).state, "online");
    struct device_connectivity c = connectivity(h.account, b.device_id, 31);
    assert_string_equal(c.state, "offline");
    assert_true(pl_str_eqz(c.cause, "cloud_restart"));
    assert_int_equal(c.as_of.us, at(30).us);
    struct db_tx *tx = begin();
    assert_int_equal(device_expire(&ctx, tx, at(40)), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    c = connectivity(h.account, b.device_id, 41);
    assert_true(pl_str_eqz(c.cause, "cloud_restart"));
    assert_int_equal(c.as_of.us, at(30).us);
}

/* What waited for a hub that is freed is not handed to whom it belongs to next. */
static void a_freed_hub_takes_no_commands_along(void **state)
{
    (void)state;
    struct household h = household();
    struct thing hub = make("hub", PL_STR_NONE), camera = make("wireless", PL_STR_NONE);
    struct device_bound bound = bind_hub(h, &hub), seen;
    struct device_sql_views_row *d;
    struct device_sql_commands_due_row *due;
    struct device_freed *freed = NULL;
    struct pl_uuid id;
    size_t n;
    assert_int_equal(claim(h, camera.serial, NULL, false, 2, &id), PL_OK);
    assert_int_equal(prove(h, &hub, camera.serial, id, 3, &seen), PL_OK);
    struct db_tx *tx = begin();
    assert_int_equal(device_sql_command_add(tx, h.account, new_id(), seen.device_id, hub.serial, camera.serial, PL_STR("refresh"), PL_STR("k"), at(4), at(3600), NULL), PL_OK);
    assert_int_equal(device_view_one(tx, h.account, bound.device_id, &d), PL_OK);
    assert_int_equal(device_free(&ctx, tx, at(5), h.account, h.account, d, "deleted", &freed), PL_OK);
    assert_int_equal(device_sql_commands_due(tx, hub.serial, at(6), &due, &n), PL_OK);
    assert_int_equal(n, 0);
    db_rollbackp(&tx);
}

/* S-D2: a device that was freed while its owner added it again is not bound by the proof that comes then. */
static void a_freed_device_is_not_proved_again(void **state)
{
    (void)state;
    struct household h = household();
    struct thing hub = make("hub", PL_STR_NONE);
    struct device_bound bound = bind_hub(h, &hub), again;
    struct pl_uuid id;
    assert_int_equal(claim(h, hub.serial, NULL, true, 2, &id), PL_OK);
    struct db_tx *tx = begin();
    assert_int_equal(device_sql_drop(tx, h.account, bound.device_id, NULL), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    assert_int_equal(prove(h, &hub, hub.serial, id, 3, &again), PL_CLAIM_REFUSED);
}

static void a_deleted_account_frees_its_devices(void **state)
{
    (void)state;
    struct household h = household(), other = household();
    struct thing hub = make("hub", PL_STR_NONE), mini = make("mini", PL_STR_NONE);
    struct device_freed *freed = NULL;
    struct pl_uuid id;
    bind_hub(h, &hub);
    assert_int_equal(claim(h, mini.serial, NULL, false, 2, &id), PL_OK);
    struct db_tx *tx = begin();
    assert_int_equal(device_account_deleted(&ctx, tx, at(3), h.account, &freed), PL_OK);
    assert_non_null(freed);
    assert_int_equal(db_commit(&tx), PL_OK);
    static const char *const tables[] = { "system", "device", "device_status", "device_binding", "device_slot", "device_claim", "device_claim_meter", "device_command" };
    char account[PL_UUID_TEXT];
    pl_uuid_text(h.account, account);
    for (size_t i = 0; i < PL_COUNT(tables); i++) { /* S-S6: a row that is left divides by zero */
        struct pl_str sql = pl_fmt(arena, "UPDATE %s SET account_id = account_id WHERE account_id = '%s' AND 1 / (account_id <> account_id)::integer = 0", tables[i], account);
        assert_int_equal(pg_do(db, sql.p), PL_OK);
    }
    bind_hub(other, &hub);
}

static int each_test(void **state)
{
    (void)state;
    pl_arena_reset(arena);
    return 0;
}

static enum pl_err start(void)
{
    struct pl_fail fail = PL_FAIL_INIT;
    struct notify_conf nc = { 0 };
    struct account_conf ac = { .pin = { .limits = PLENTY, .life = 40 * PL_MINUTE, .key_id = 1 }, .master = &master, .clock = &clk.base, .rand = &pl_rand_system, .log = &log_root };
    enum pl_err e = conf_defaults(notify_conf_rows, &nc, arena, &fail);
    if (e == PL_OK)
        e = conf_defaults(account_conf_rows, &ac.settings, arena, &fail);
    if (e == PL_OK)
        e = notify_new(&nc, &master, NULL, &log_root, &notify, &fail);
    ac.notify = notify;
    ctx = (struct device_ctx){ .clock = &clk.base, .rand = &rnd.base, .log = &log_root, .server_name = "test" };
    return e == PL_OK ? account_new(&ac, &ctx.account, &fail) : e;
}

int main(void)
{
    if (secure_init() != PL_OK || !(arena = pl_arena_new(32 << 20)))
        return 1;
    db = pg_schema_open("t_device");
    pl_rand_seed(&rnd, 11);
    pl_clock_fixed_init(&clk, T0);
    if (start() != PL_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(s_d1_a_known_serial_keeps_its_key, each_test),
        cmocka_unit_test_setup(s_d2_good_at_4_59_dead_at_5_00, each_test),
        cmocka_unit_test_setup(s_d2_an_expired_claim_gives_its_slot_back, each_test),
        cmocka_unit_test_setup(s_d2_only_the_hub_of_that_system_vouches, each_test),
        cmocka_unit_test_setup(s_d4_bound_elsewhere_is_refused, each_test),
        cmocka_unit_test_setup(s_d5_ten_failures_an_hour_for_an_account, each_test),
        cmocka_unit_test_setup(s_d5_twenty_failures_a_day_on_a_serial_ask_for_its_setup_code, each_test),
        cmocka_unit_test_setup(s_d8_ten_devices_beside_the_hub, each_test),
        cmocka_unit_test_setup(wireless_needs_a_hub_and_a_mini_does_not, each_test),
        cmocka_unit_test_setup(an_older_epoch_writes_nothing, each_test),
        cmocka_unit_test_setup(an_epoch_that_was_rolled_back_is_nobody_elses, each_test),
        cmocka_unit_test_setup(a_dead_node_takes_its_hubs_along, each_test),
        cmocka_unit_test_setup(a_freed_hub_takes_no_commands_along, each_test),
        cmocka_unit_test_setup(a_freed_device_is_not_proved_again, each_test),
        cmocka_unit_test_setup(a_deleted_account_frees_its_devices, each_test),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    account_free(ctx.account);
    notify_free(notify);
    db_close(db);
    pl_arena_free(arena);
    return failed;
}
