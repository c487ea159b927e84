/* journal against a real PostgreSQL: facts, gapless event numbers, the audit chain (S-S11). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "journal.h"
#include "pg_schema.h"

#define SCHEMA "t_journal"
#define T0 INT64_C(1790000000000000)

static struct pl_arena *arena;
static struct db *db;
static struct pl_rand_seeded rnd;

static struct db_tx *begin(void)
{
    struct db_tx *tx = NULL;
    assert_int_equal(db_begin(db, arena, &tx), PL_OK);
    return tx;
}

static void commit(struct db_tx *tx) { assert_int_equal(db_commit(&tx), PL_OK); }
static struct pl_utc at(int64_t s) { return (struct pl_utc){ T0 + s * PL_SECOND }; }
static struct pl_uuid new_id(void) { return pl_uuid7(&rnd.base, at(0)); }

static int each_test(void **state)
{
    (void)state;
    pl_arena_reset(arena);
    return 0;
}

/* ---- facts ---- */

static void add_fact(enum journal_fact_kind kind, int64_t s, struct pl_uuid account, struct pl_uuid subject)
{
    struct db_tx *tx = begin();
    assert_int_equal(journal_fact(tx, &rnd.base, at(s), kind, account, subject, PL_STR("{\"n\": 1}")), PL_OK);
    commit(tx);
}

static bool take(int64_t s, struct journal_fact_row *ret)
{
    bool found = false;
    struct db_tx *tx = begin();
    assert_int_equal(journal_fact_take(tx, at(s), ret, &found), PL_OK);
    commit(tx);
    return found;
}

static enum pl_err done(struct pl_uuid id)
{
    struct db_tx *tx = begin();
    enum pl_err e = journal_fact_done(tx, id);
    if (e == PL_OK)
        return db_commit(&tx);
    db_rollbackp(&tx);
    return e;
}

static void facts_are_taken_oldest_first_and_once(void **state)
{
    (void)state;
    struct pl_uuid account = new_id(), a = new_id(), b = new_id();
    struct journal_fact_row f, g, none;
    assert_false(take(0, &none));
    add_fact(JOURNAL_DEVICE_FREED, 1, account, a);
    add_fact(JOURNAL_SYSTEM_DELETED, 2, account, b);
    assert_true(take(3, &f));
    assert_int_equal(f.kind, JOURNAL_DEVICE_FREED);
    assert_true(pl_uuid_eq(f.account_id, account) && pl_uuid_eq(f.subject, a));
    assert_true(pl_str_eqz(f.detail, "{\"n\": 1}"));
    assert_true(take(3, &g));
    assert_int_equal(g.kind, JOURNAL_SYSTEM_DELETED);
    assert_true(pl_uuid_eq(g.subject, b));
    assert_false(take(3, &none));
    assert_int_equal(done(f.id), PL_OK);
    assert_int_equal(done(f.id), PL_FENCED);
    /* The other's worker died: after 30 s it is taken again, and only it. */
    assert_false(take(32, &none));
    assert_true(take(33, &f));
    assert_true(pl_uuid_eq(f.id, g.id));
    assert_int_equal(f.attempts, 2);
    assert_int_equal(done(f.id), PL_OK);
    assert_false(take(1000, &none));
}

static void a_fact_of_a_newer_release_stands_in_nobodys_way(void **state)
{
    (void)state;
    struct journal_fact_row f;
    assert_int_equal(pg_do(db, "INSERT INTO fact (fact_id, kind, account_id, subject_id, detail, lease_until)"
                               " VALUES ('00000000-0000-0000-0000-000000000001', 'of_tomorrow', '00000000-0000-0000-0000-000000000002',"
                               " '00000000-0000-0000-0000-000000000003', '{}', '2020-01-01')"), PL_OK);
    add_fact(JOURNAL_ACCOUNT_DELETED, 1, new_id(), new_id());
    assert_true(take(2, &f));
    assert_int_equal(f.kind, JOURNAL_ACCOUNT_DELETED);
    assert_int_equal(done(f.id), PL_OK);
    assert_int_equal(pg_do(db, "DELETE FROM fact WHERE kind = 'of_tomorrow'"), PL_OK);
}

static void a_fact_of_a_transaction_that_was_undone_never_was(void **state)
{
    (void)state;
    struct journal_fact_row f;
    struct db_tx *tx = begin();
    assert_int_equal(journal_fact(tx, &rnd.base, at(1), JOURNAL_DEVICE_BOUND, new_id(), new_id(), PL_STR("{}")), PL_OK);
    db_rollbackp(&tx);
    assert_false(take(1000, &f));
}

/* ---- events ---- */

static enum pl_err events(struct pl_uuid account, int64_t cursor, int32_t limit, struct journal_event_row **rows, size_t *n, int64_t *head)
{
    struct db_tx *tx = begin();
    enum pl_err e = journal_events(tx, account, cursor, limit, rows, n, head);
    db_rollbackp(&tx);
    return e;
}

static void add_event(struct pl_uuid account, int64_t s, const char *type)
{
    struct db_tx *tx = begin();
    assert_int_equal(journal_event(tx, at(s), account, (struct pl_uuid){ { 0 } }, type, PL_STR("{}")), PL_OK);
    commit(tx);
}

static void events_are_resumed_by_cursor(void **state)
{
    (void)state;
    struct pl_uuid account = new_id(), other = new_id();
    struct journal_event_row *rows = NULL;
    size_t n = 99;
    int64_t head = 99;
    assert_int_equal(events(account, 0, 100, &rows, &n, &head), PL_OK); /* an account that had none */
    assert_true(n == 0 && head == 0);
    add_event(account, 1, "first");
    add_event(other, 1, "another's");
    add_event(account, 2, "second");
    add_event(account, 2 + 24 * 3600, "third");
    static const struct { int64_t cursor; int32_t limit; size_t n; const char *first; } cases[] = {
        { 0, 100, 3, "first" }, { 0, 2, 2, "first" }, { 1, 100, 2, "second" }, { 2, 1, 1, "third" }, { 3, 100, 0, NULL },
    };
    for (size_t c = 0; c < PL_COUNT(cases); c++) {
        assert_int_equal(events(account, cases[c].cursor, cases[c].limit, &rows, &n, &head), PL_OK);
        assert_int_equal(n, cases[c].n);
        assert_int_equal(head, 3);
        if (n > 0) {
            assert_true(pl_str_eqz(rows[0].type, cases[c].first));
            assert_int_equal(rows[0].cursor, cases[c].cursor + 1);
        }
    }
    /* Not given yet, not a number of ours, no limit. */
    assert_int_equal(events(account, 4, 100, &rows, &n, &head), PL_EXPIRED);
    assert_int_equal(events(account, -1, 100, &rows, &n, &head), PL_EXPIRED);
    assert_int_equal(events(account, 0, 0, &rows, &n, &head), PL_INVALID_REQUEST);

    /* Kept 24 hours: the first goes, the second stays until its own time. */
    struct db_tx *tx = begin();
    assert_int_equal(journal_expire(tx, at(2 + 24 * 3600)), PL_OK);
    commit(tx);
    head = 0;
    assert_int_equal(events(account, 0, 100, &rows, &n, &head), PL_EXPIRED);
    assert_int_equal(head, 3);
    assert_int_equal(events(account, 1, 100, &rows, &n, &head), PL_OK);
    assert_int_equal(n, 2);
    /* All gone: the head is still known, and numbers go on. */
    tx = begin();
    assert_int_equal(journal_expire(tx, at(5 * 24 * 3600)), PL_OK);
    commit(tx);
    assert_int_equal(events(account, 2, 100, &rows, &n, &head), PL_EXPIRED);
    assert_int_equal(events(account, 3, 100, &rows, &n, &head), PL_OK);
    assert_true(n == 0 && head == 3);
    add_event(account, 6 * 24 * 3600, "fourth");
    assert_int_equal(events(account, 3, 100, &rows, &n, &head), PL_OK);
    assert_true(n == 1 && head == 4 && rows[0].cursor == 4);
}

/* Whoever listens is told when the event can be read and not before: one who looks too early finds nothing, and looks again seconds later (V-F5). */
static void v_f5_an_event_is_told_after_its_commit(void **state)
{
    (void)state;
    struct pl_uuid ids[2] = { new_id(), new_id() };
    char want[2][PL_UUID_TEXT + 16];
    for (int i = 0; i < 2; i++) {
        char id[PL_UUID_TEXT];
        pl_uuid_text(ids[i], id);
        snprintf(want[i], sizeof want[i], " account.%s", id);
    }
    for (int committed = 0; committed < 2; committed++) {
        struct db_tx *tx = begin();
        pg_told[0] = 0;
        for (int i = 0; i < 4; i++) /* two each: one look finds both */
            assert_int_equal(journal_event(tx, at(i), ids[i / 2], (struct pl_uuid){ { 0 } }, "test.event", PL_STR("{}")), PL_OK);
        assert_string_equal(pg_told, "");
        if (committed)
            commit(tx);
        else
            db_rollbackp(&tx);
        assert_int_equal(strlen(pg_told), committed ? strlen(want[0]) * 2 : 0);
        for (int i = 0; i < 2; i++)
            assert_int_equal(strstr(pg_told, want[i]) != NULL, committed);
    }
}

static void an_event_that_is_not_json_is_refused(void **state)
{
    (void)state;
    struct db_tx *tx = begin();
    assert_int_equal(journal_event(tx, at(1), new_id(), (struct pl_uuid){ { 0 } }, "x", PL_STR("{")), PL_INTERNAL);
    db_rollbackp(&tx);
}

#define WRITERS 40
struct writer {
    pthread_t thread;
    pthread_barrier_t *start;
    struct pl_uuid account;
    bool undo;
    enum pl_err e;
};

static enum pl_err write_event(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    (void)reterr;
    struct writer *w = arg;
    enum pl_err e = journal_event(tx, at(1), w->account, (struct pl_uuid){ { 0 } }, "tick", PL_STR("{}"));
    return e == PL_OK && w->undo ? PL_FORBIDDEN : e;
}

static void *write_in_thread(void *arg)
{
    struct writer *w = arg;
    struct pl_arena *a = pl_arena_new(1 << 20);
    struct db *own = pg_connect(pg_schema_conninfo(SCHEMA), 0);
    enum pl_err warm = db_ping(own);
    pthread_barrier_wait(w->start);
    w->e = warm == PL_OK ? db_run(own, a, write_event, w, NULL) : warm;
    db_close(own);
    pl_arena_free(a);
    return NULL;
}

/* Forty at once, and eight that are undone, on an account that has no counter yet: 1..40, each once. */
static void forty_parallel_events_are_numbered_without_a_gap(void **state)
{
    (void)state;
    static struct writer w[WRITERS + 8];
    struct pl_uuid account = new_id();
    pthread_barrier_t start;
    struct journal_event_row *rows = NULL;
    size_t n = 0;
    int64_t head = 0;
    pthread_barrier_init(&start, NULL, PL_COUNT(w));
    for (size_t i = 0; i < PL_COUNT(w); i++) {
        w[i] = (struct writer){ .start = &start, .account = account, .undo = i % 6 == 5 };
        assert_int_equal(pthread_create(&w[i].thread, NULL, write_in_thread, &w[i]), 0);
    }
    for (size_t i = 0; i < PL_COUNT(w); i++) {
        pthread_join(w[i].thread, NULL);
        assert_int_equal(w[i].e, w[i].undo ? PL_FORBIDDEN : PL_OK);
    }
    pthread_barrier_destroy(&start);
    assert_int_equal(events(account, 0, 1000, &rows, &n, &head), PL_OK);
    assert_int_equal(n, WRITERS);
    assert_int_equal(head, WRITERS);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(rows[i].cursor, i + 1);
}

/* ---- audit, S-S11 ---- */

#define CHAIN "'11111111-1111-7111-8111-111111111111'"

static struct pl_uuid chain_id(void)
{
    struct pl_uuid id;
    assert_int_equal(pl_uuid_parse(PL_STR("11111111-1111-7111-8111-111111111111"), &id), PL_OK);
    return id;
}

static void add_account_audit(struct pl_uuid account)
{
    struct db_tx *tx = begin();
    assert_int_equal(journal_audit(tx, at(1), &(struct journal_audit){ .account = account, .action = "session.opened", .detail = PL_STR("{}") }), PL_OK);
    commit(tx);
}

static void add_audit(struct pl_uuid subject, int n)
{
    for (int i = 0; i < n; i++) {
        struct db_tx *tx = begin();
        struct journal_audit row = { .subject = subject, .actor = i % 2 ? new_id() : (struct pl_uuid){ { 0 } }, .action = "device.bound",
                                     .detail = pl_fmt(arena, "{\"n\":%d}", i) };
        assert_int_equal(journal_audit(tx, at(i), &row), PL_OK);
        commit(tx);
    }
}

static void verify(struct pl_uuid subject, int64_t rows, int64_t bad, const char *what)
{
    struct db_tx *tx = begin();
    int64_t r = -1, b = -1;
    assert_int_equal(journal_audit_verify(tx, subject, &r, &b), PL_OK);
    db_rollbackp(&tx);
    if (r != rows || b != bad)
        fail_msg("%s: %lld rows, bad %lld", what, (long long)r, (long long)b);
}

static void s_s11_audit_verify_names_the_changed_row(void **state)
{
    (void)state;
    static const struct { const char *sql; int64_t rows, bad; } cases[] = {
        { "SELECT 1", 7, 0 },
        { "UPDATE audit SET detail = '{\"n\":99}' WHERE number = 3 AND subject_id = " CHAIN, 7, 3 },
        { "UPDATE audit SET action = 'device.freed' WHERE number = 1 AND subject_id = " CHAIN, 7, 1 },
        { "UPDATE audit SET at = at + interval '1 microsecond' WHERE number = 7 AND subject_id = " CHAIN, 7, 7 },
        { "UPDATE audit SET actor_id = NULL WHERE number = 4 AND subject_id = " CHAIN, 7, 4 },
        { "UPDATE audit SET hash = decode(repeat('00', 32), 'hex') WHERE number = 5 AND subject_id = " CHAIN, 7, 5 },
        { "DELETE FROM audit WHERE number = 2 AND subject_id = " CHAIN, 6, 2 },
        { "DELETE FROM audit WHERE number = 1 AND subject_id = " CHAIN, 6, 1 },
        { "DELETE FROM audit WHERE number > 5 AND subject_id = " CHAIN, 5, 6 },
        { "UPDATE audit SET number = 20 WHERE number = 6 AND subject_id = " CHAIN, 7, 6 },
        { "UPDATE audit_head SET hash = '' WHERE subject_id = " CHAIN, 7, 7 },
        { "INSERT INTO audit SELECT subject_id, 8, at, actor_id, action, detail, hash FROM audit WHERE number = 7 AND subject_id = " CHAIN, 8, 8 },
    };
    char admin[1024];
    struct pl_buf b = pl_buf_fixed(admin, sizeof admin);
    pl_buf_fmt(&b, "%s options='-c search_path=" SCHEMA "'", getenv("PL_TEST_DB_ADMIN"));
    struct db *root = pg_connect(admin, 0);
    struct pl_uuid other = new_id();
    add_audit(other, 3);
    for (size_t c = 0; c < PL_COUNT(cases); c++) {
        assert_int_equal(pg_do(root, "DELETE FROM audit WHERE subject_id = " CHAIN), PL_OK);
        assert_int_equal(pg_do(root, "DELETE FROM audit_head WHERE subject_id = " CHAIN), PL_OK);
        add_audit(chain_id(), 7);
        assert_int_equal(pg_do(root, cases[c].sql), PL_OK);
        verify(chain_id(), cases[c].rows, cases[c].bad, cases[c].sql);
        verify(other, 3, 0, "the other chain");
    }
    db_close(root);
    verify(new_id(), 0, 0, "a chain that nothing is in");
}

static void s_s11_a_long_chain_is_followed_over_its_pages(void **state)
{
    (void)state;
    struct pl_uuid subject = new_id();
    struct db_tx *tx = begin();
    for (int i = 0; i < 1203; i++)
        assert_int_equal(journal_audit(tx, at(i), &(struct journal_audit){ .subject = subject, .action = "x", .detail = PL_STR("{}") }), PL_OK);
    commit(tx);
    verify(subject, 1203, 0, "three pages");
}

static void s_s11_an_accounts_chain_stands_under_a_pseudonym_that_dies_with_it(void **state)
{
    (void)state;
    struct pl_uuid account = chain_id();
    assert_int_equal(pg_do(db, "CREATE TEMP TABLE before AS SELECT count(*) AS n FROM audit"), PL_OK);
    assert_int_equal(pg_do(db, "CREATE TEMP TABLE of_the_id AS SELECT count(*) AS n FROM audit WHERE subject_id = " CHAIN), PL_OK);
    struct db_tx *tx = begin();
    assert_int_equal(journal_audit_begin(tx, &rnd.base, at(0), account), PL_OK);
    commit(tx);
    add_account_audit(account);
    add_account_audit(account);
    verify(account, 2, 0, "found by the account's id");
    assert_int_equal(pg_do(db, "DO $$ BEGIN IF (SELECT count(*) FROM audit WHERE subject_id = " CHAIN ") <> (SELECT n FROM of_the_id) THEN RAISE EXCEPTION 'x'; END IF; END $$"), PL_OK);
    tx = begin();
    assert_int_equal(journal_forget(tx, account), PL_OK);
    commit(tx);
    add_account_audit(account); /* a call that was under way: nothing is written */
    assert_int_equal(pg_do(db, "DO $$ BEGIN IF (SELECT count(*) FROM audit) <> (SELECT n + 2 FROM before) THEN RAISE EXCEPTION 'x'; END IF; END $$"), PL_OK);
}

static void s_s11_the_audit_log_is_insert_only(void **state)
{
    (void)state;
    add_audit(new_id(), 1);
    static const char *const forbidden[] = { "UPDATE audit SET action = 'x'", "DELETE FROM audit", "TRUNCATE audit" };
    for (size_t i = 0; i < PL_COUNT(forbidden); i++)
        assert_int_equal(pg_do(db, forbidden[i]), PL_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(facts_are_taken_oldest_first_and_once, each_test),
        cmocka_unit_test_setup(a_fact_of_a_newer_release_stands_in_nobodys_way, each_test),
        cmocka_unit_test_setup(a_fact_of_a_transaction_that_was_undone_never_was, each_test),
        cmocka_unit_test_setup(events_are_resumed_by_cursor, each_test),
        cmocka_unit_test_setup(v_f5_an_event_is_told_after_its_commit, each_test),
        cmocka_unit_test_setup(an_event_that_is_not_json_is_refused, each_test),
        cmocka_unit_test_setup(forty_parallel_events_are_numbered_without_a_gap, each_test),
        cmocka_unit_test_setup(s_s11_audit_verify_names_the_changed_row, each_test),
        cmocka_unit_test_setup(s_s11_a_long_chain_is_followed_over_its_pages, each_test),
        cmocka_unit_test_setup(s_s11_an_accounts_chain_stands_under_a_pseudonym_that_dies_with_it, each_test),
        cmocka_unit_test_setup(s_s11_the_audit_log_is_insert_only, each_test),
    };
    pl_rand_seed(&rnd, 1);
    db = pg_schema_open(SCHEMA);
    arena = pl_arena_new(64 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pl_arena_free(arena);
    db_close(db);
    return failed;
}
