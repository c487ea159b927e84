/* system against a real PostgreSQL: names unique in an account, whose they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "journal.h"
#include "pg_schema.h"
#include "system.h"

#define T0 INT64_C(1790000000000000)

static struct pl_arena *arena;
static struct db *db;
static struct pl_rand_seeded rnd;
static const struct pl_utc now = { T0 };

static struct pl_uuid new_id(void) { return pl_uuid7(&rnd.base, now); }

static struct db_tx *begin(void)
{
    struct db_tx *tx = NULL;
    assert_int_equal(db_begin(db, arena, &tx), PL_OK);
    return tx;
}

static enum pl_err add(struct pl_uuid account, const char *name, struct system_row *ret)
{
    struct pl_fail fail = PL_FAIL_INIT;
    struct db_tx *tx = begin();
    enum pl_err e = system_add(tx, &rnd.base, now, account, pl_str_of(name), ret, &fail);
    if (e == PL_OK)
        e = db_commit(&tx);
    db_rollbackp(&tx);
    return e;
}

/* Somebody who asks for the account itself. */
static const struct http_actor *of(struct pl_uuid account)
{
    static struct http_actor who;
    who = (struct http_actor){ .account_id = account };
    return &who;
}

static enum pl_err rename_it(struct pl_uuid account, struct pl_uuid id, const char *name)
{
    struct pl_fail fail = PL_FAIL_INIT;
    struct system_row row;
    struct db_tx *tx = begin();
    enum pl_err e = system_take(tx, now, of(account), id, SYSTEM_MANAGE, &row, &fail);
    if (e == PL_OK)
        e = system_rename(tx, now, &row, pl_str_of(name), &fail);
    if (e == PL_OK)
        e = db_commit(&tx);
    db_rollbackp(&tx);
    return e;
}

static void s_d8_names_are_unique_in_an_account(void **state)
{
    (void)state;
    struct pl_uuid mine = new_id(), theirs = new_id();
    struct system_row home, cabin;
    assert_int_equal(add(mine, "Home", &home), PL_OK);
    assert_int_equal(add(mine, "Home", &cabin), PL_SYSTEM_NAME_TAKEN);
    assert_int_equal(add(mine, " HOME ", &cabin), PL_SYSTEM_NAME_TAKEN);
    assert_int_equal(add(theirs, "Home", &cabin), PL_OK);
    assert_int_equal(add(mine, "Cabin", &cabin), PL_OK);
    assert_int_equal(rename_it(mine, cabin.id, "hOmE"), PL_SYSTEM_NAME_TAKEN);
    assert_int_equal(rename_it(mine, home.id, "HOME"), PL_OK);
    assert_int_equal(rename_it(mine, home.id, "House"), PL_OK);
    assert_int_equal(rename_it(mine, cabin.id, "Home"), PL_OK);
}

static void a_name_has_letters_and_no_control_characters(void **state)
{
    (void)state;
    struct system_row row;
    static const char *const bad[] = { "", "  ", "a\nb", "\x7f" };
    for (size_t i = 0; i < PL_COUNT(bad); i++)
        assert_int_equal(add(new_id(), bad[i], &row), PL_INVALID_REQUEST);
    assert_int_equal(add(new_id(), "  K\xc3\xbc" "che ", &row), PL_OK);
    assert_true(pl_str_eqz(row.name, "K\xc3\xbc" "che"));
}

static void s_s10_somebody_elses_system_is_not_found(void **state)
{
    (void)state;
    struct pl_uuid mine = new_id(), theirs = new_id();
    struct system_row home, row;
    assert_int_equal(add(mine, "Home", &home), PL_OK);
    struct db_tx *tx = begin();
    for (int right = 0; right < SYSTEM_RIGHTS; right++) {
        assert_int_equal(system_may(tx, now, of(mine), home.id, (enum system_right)right, &row, NULL), PL_OK);
        assert_int_equal(system_may(tx, now, of(theirs), home.id, (enum system_right)right, &row, NULL), PL_NOT_FOUND);
        assert_int_equal(system_take(tx, now, of(theirs), home.id, (enum system_right)right, &row, NULL), PL_NOT_FOUND);
        assert_int_equal(system_hold(tx, now, of(theirs), home.id, (enum system_right)right, NULL), PL_NOT_FOUND);
    }
    assert_int_equal(system_delete(tx, &rnd.base, now, theirs, home.id), PL_NOT_FOUND);
    db_rollbackp(&tx);
    assert_int_equal(rename_it(theirs, home.id, "Mine"), PL_NOT_FOUND);
}

/* Who is given some systems sees no others, though they be the same account's, and none that comes later. */
static void s_s10_what_was_not_given_is_not_there(void **state)
{
    (void)state;
    struct pl_uuid mine = new_id();
    struct system_row home, cabin, row, *rows;
    size_t n;
    assert_int_equal(add(mine, "Home", &home), PL_OK);
    const struct http_actor given = { .account_id = mine, .systems = { (const char *)home.id.b, sizeof home.id.b } }, nothing = { .account_id = mine, .systems = { "", 0 } };
    assert_int_equal(add(mine, "Cabin", &cabin), PL_OK);
    struct db_tx *tx = begin();
    for (int right = 0; right < SYSTEM_RIGHTS; right++) {
        assert_int_equal(system_may(tx, now, &given, home.id, (enum system_right)right, &row, NULL), PL_OK);
        assert_int_equal(system_hold(tx, now, &given, home.id, (enum system_right)right, NULL), PL_OK);
        assert_int_equal(system_may(tx, now, &given, cabin.id, (enum system_right)right, &row, NULL), PL_NOT_FOUND);
        assert_int_equal(system_take(tx, now, &given, cabin.id, (enum system_right)right, &row, NULL), PL_NOT_FOUND);
        assert_int_equal(system_hold(tx, now, &given, cabin.id, (enum system_right)right, NULL), PL_NOT_FOUND);
        assert_int_equal(system_may(tx, now, &nothing, home.id, (enum system_right)right, &row, NULL), PL_NOT_FOUND);
    }
    assert_int_equal(system_list(tx, now, &given, &rows, &n), PL_OK);
    assert_true(n == 1 && pl_uuid_eq(rows[0].id, home.id));
    /* Page by page, though each page of the account's own has another. */
    assert_int_equal(system_page(tx, now, &given, (struct pl_uuid){ { 0 } }, 1, &rows, &n), PL_OK);
    assert_true(n == 1 && pl_uuid_eq(rows[0].id, home.id));
    assert_int_equal(system_page(tx, now, &given, home.id, 1, &rows, &n), PL_OK);
    assert_int_equal(n, 0);
    db_rollbackp(&tx);
}

static void a_deletion_leaves_a_fact_and_an_event(void **state)
{
    (void)state;
    struct pl_uuid mine = new_id();
    struct system_row home, *rows;
    struct journal_event_row *events;
    struct journal_fact_row fact;
    int64_t head;
    size_t n;
    bool found;
    assert_int_equal(add(mine, "Home", &home), PL_OK);
    struct db_tx *tx = begin();
    assert_int_equal(system_delete(tx, &rnd.base, now, mine, home.id), PL_OK);
    assert_int_equal(system_list(tx, now, of(mine), &rows, &n), PL_OK);
    assert_int_equal(n, 0);
    assert_int_equal(journal_events(tx, mine, 0, 10, &events, &n, &head), PL_OK);
    assert_int_equal(n, 2);
    assert_true(pl_str_eqz(events[0].type, "system.created"));
    assert_true(pl_str_eqz(events[1].type, "system.deleted"));
    assert_int_equal(journal_fact_take(tx, now, &fact, &found), PL_OK);
    assert_true(found && fact.kind == JOURNAL_SYSTEM_DELETED && pl_uuid_eq(fact.subject, home.id));
    db_rollbackp(&tx);
}

static void an_account_has_a_ceiling_of_systems(void **state)
{
    (void)state;
    struct pl_uuid mine = new_id();
    struct system_row row;
    char name[16];
    for (int i = 0; i < SYSTEM_MOST; i++) {
        snprintf(name, sizeof name, "S%d", i);
        assert_int_equal(add(mine, name, &row), PL_OK);
        pl_arena_reset(arena);
    }
    assert_int_equal(add(mine, "One more", &row), PL_RATE_LIMITED);
}

int main(void)
{
    if (!(arena = pl_arena_new(32 << 20)))
        return 1;
    db = pg_schema_open("t_system");
    pl_rand_seed(&rnd, 7);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s_d8_names_are_unique_in_an_account),
        cmocka_unit_test(a_name_has_letters_and_no_control_characters),
        cmocka_unit_test(s_s10_somebody_elses_system_is_not_found),
        cmocka_unit_test(s_s10_what_was_not_given_is_not_there),
        cmocka_unit_test(a_deletion_leaves_a_fact_and_an_event),
        cmocka_unit_test(an_account_has_a_ceiling_of_systems),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    db_close(db);
    pl_arena_free(arena);
    return failed;
}
