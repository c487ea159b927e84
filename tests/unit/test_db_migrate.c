/* db's migrations against a real PostgreSQL: files that are changed, missing or late, and many who migrate at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "pg_schema.h"
#include <fcntl.h>
#include <unistd.h>

static struct pl_arena *arena;

static char folder[64];

static void put(const char *name, const char *text)
{
    char path[128];
    struct pl_buf b = pl_buf_fixed(path, sizeof path);
    pl_buf_fmt(&b, "%s/%s", folder, name);
    if (!text) {
        unlink(path);
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static char first[16384]; /* the real 0001 */

static void make_folder(void)
{
    char path[600];
    struct pl_buf b = pl_buf_fixed(path, sizeof path);
    pl_buf_fmt(&b, "%s/0001_foundation.sql", pg_migrations());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t n = read(fd, first, sizeof first - 1);
    close(fd);
    assert_true(n > 0 && n < (ssize_t)sizeof first - 1);
    memcpy(folder, "/tmp/plmig.XXXXXX", sizeof "/tmp/plmig.XXXXXX");
    assert_non_null(mkdtemp(folder));
    put("0001_foundation.sql", first);
    put("0002_two.sql", "CREATE TABLE two (a integer NOT NULL); INSERT INTO two (a) VALUES (1);");
    put("README", "not a migration");
}

static void remove_folder(void)
{
    static const char *const names[] = { "0001_foundation.sql", "0002_two.sql", "0002_zwei.sql", "0003_three.sql", "README", "bad-name.sql" };
    for (size_t i = 0; i < PL_COUNT(names); i++)
        put(names[i], NULL);
    rmdir(folder);
}

struct change {
    const char *what;         /* the case */
    const char *name, *text;  /* file that is written (text NULL: removed) */
    const char *name2, *text2;
    enum pl_err migrate, check;
    const char *said;         /* part of the refusal */
};

static enum pl_err schema_check(struct db *db, struct pl_fail *f)
{
    const struct db_schema *schema;
    enum pl_err e = db_schema_read(folder, arena, &schema, f);
    return e == PL_OK ? db_schema_check(db, schema, arena, f) : e;
}

static void a_changed_or_missing_migration_is_refused(void **state)
{
    (void)state;
    static const struct change cases[] = {
        { "the same", NULL, NULL, NULL, NULL, PL_OK, PL_OK, "" },
        { "changed", "0002_two.sql", "CREATE TABLE two (b integer);", NULL, NULL, PL_UNAVAILABLE, PL_UNAVAILABLE, "0002_two.sql was changed" },
        { "renamed", "0002_two.sql", NULL, "0002_zwei.sql", "SELECT 1;", PL_UNAVAILABLE, PL_UNAVAILABLE, "missing" },
        { "missing, and the program older", "0002_two.sql", NULL, NULL, NULL, PL_UNAVAILABLE, PL_UNAVAILABLE, "newer release" },
        { "missing, with a later one", "0002_two.sql", NULL, "0003_three.sql", "SELECT 1;", PL_UNAVAILABLE, PL_UNAVAILABLE, "0002_two.sql was applied" },
        { "same number twice", "0002_zwei.sql", "SELECT 1;", NULL, NULL, PL_INVALID_REQUEST, PL_INVALID_REQUEST, "same number" },
        { "bad name", "bad-name.sql", "SELECT 1;", NULL, NULL, PL_INVALID_REQUEST, PL_INVALID_REQUEST, "NNNN_name.sql" },
        { "one more", "0003_three.sql", "CREATE TABLE three (a integer);", NULL, NULL, PL_OK, PL_UNAVAILABLE, "lacks 1 of 3" },
        { "an error in it", "0003_three.sql", "CREATE TABLE four (a integer); CREATE TABLE five (a nonsense);", NULL, NULL, PL_INTERNAL, PL_UNAVAILABLE,
          "nonsense" },
        { "ends the transaction", "0003_three.sql", "COMMIT; SELECT 1;", NULL, NULL, PL_INTERNAL, PL_UNAVAILABLE, "ends the transaction" },
    };
    for (size_t c = 0; c < PL_COUNT(cases); c++) {
        const struct change *t = &cases[c];
        struct pl_fail f = PL_FAIL_INIT, g = PL_FAIL_INIT;
        unsigned n = 99;
        make_folder();
        struct db *db = pg_schema_empty("t_migrate");
        assert_int_equal(db_migrate(db, folder, arena, &n, &f), PL_OK);
        assert_int_equal(n, 2);
        assert_int_equal(db_migrate(db, folder, arena, &n, &f), PL_OK);
        assert_int_equal(n, 0);
        if (t->name)
            put(t->name, t->text);
        if (t->name2)
            put(t->name2, t->text2);
        enum pl_err check = schema_check(db, &g), migrate = db_migrate(db, folder, arena, &n, &f);
        if (check != t->check || migrate != t->migrate || (!strstr(f.detail, t->said) && !strstr(g.detail, t->said)))
            fail_msg("%s: check %s (%s), migrate %s (%s)", t->what, pl_err_code(check), g.detail, pl_err_code(migrate), f.detail);
        if (migrate == PL_OK)
            assert_int_equal(schema_check(db, &f), PL_OK);
        /* Half of a migration is never there. */
        assert_int_equal(pg_do(db, "CREATE TABLE four (a integer)"), PL_OK);
        db_close(db);
        remove_folder();
        pl_arena_reset(arena);
    }
}

static void a_later_file_with_a_lower_number_is_refused(void **state)
{
    (void)state;
    struct pl_fail f = PL_FAIL_INIT;
    unsigned n;
    make_folder();
    put("0002_two.sql", NULL);
    put("0003_three.sql", "CREATE TABLE three (a integer);");
    struct db *db = pg_schema_empty("t_migrate");
    assert_int_equal(db_migrate(db, folder, arena, &n, &f), PL_OK);
    put("0002_two.sql", "CREATE TABLE two (a integer);");
    assert_int_equal(db_migrate(db, folder, arena, &n, &f), PL_UNAVAILABLE);
    assert_non_null(strstr(f.detail, "0002_two.sql comes before 0003_three.sql"));
    db_close(db);
    remove_folder();
}

struct migrator {
    pthread_t thread;
    pthread_barrier_t *start;
    char conninfo[1024];
    unsigned applied;
    enum pl_err e;
};

static void *migrate_in_thread(void *arg)
{
    struct migrator *m = arg;
    struct pl_arena *a = pl_arena_new(16 << 20);
    struct db *db = pg_connect(m->conninfo, 0);
    pthread_barrier_wait(m->start);
    m->e = db_migrate(db, folder, a, &m->applied, NULL);
    db_close(db);
    pl_arena_free(a);
    return NULL;
}

static void parallel_migrators_apply_each_migration_once(void **state)
{
    (void)state;
    make_folder();
    put("0003_three.sql", "CREATE TABLE three (a integer NOT NULL);");
    for (int round = 0; round < 8; round++) {
        static struct migrator m[8];
        pthread_barrier_t start;
        unsigned total = 0;
        struct db *db = pg_schema_empty("t_migrate");
        pthread_barrier_init(&start, NULL, PL_COUNT(m));
        for (size_t i = 0; i < PL_COUNT(m); i++) {
            m[i] = (struct migrator){ .start = &start };
            struct pl_buf b = pl_buf_fixed(m[i].conninfo, sizeof m[i].conninfo);
            pl_buf_z(&b, pg_schema_conninfo("t_migrate"));
            assert_int_equal(pthread_create(&m[i].thread, NULL, migrate_in_thread, &m[i]), 0);
        }
        for (size_t i = 0; i < PL_COUNT(m); i++) {
            pthread_join(m[i].thread, NULL);
            assert_int_equal(m[i].e, PL_OK);
            total += m[i].applied;
        }
        assert_int_equal(total, 3);
        pthread_barrier_destroy(&start);
        db_close(db);
    }
    remove_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_changed_or_missing_migration_is_refused),
        cmocka_unit_test(a_later_file_with_a_lower_number_is_refused),
        cmocka_unit_test(parallel_migrators_apply_each_migration_once),
    };
    (void)pg_schema_conninfo("t_migrate"); /* ends here when there is no database */
    arena = pl_arena_new(64 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pl_arena_free(arena);
    return failed;
}
