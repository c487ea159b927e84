/* pg_schema.h - for unit tests that need PostgreSQL: each test binary gets a schema of its own in the database that PL_TEST_DB names.
 *
 * tests/it/with_pg sets PL_TEST_DB. Without it the binary ends with status 77, which the test runner counts as skipped and names.
 *     struct db *db = pg_schema_open("t_device");     dropped, made anew and migrated
 *     struct db *more = pg_connect(pg_schema_conninfo("t_device"), 0);     another connection to the same
 */
#pragma once
#include "db.h"
#include "failing.h"
#include <stdio.h>
#include <stdlib.h>

/* The repository's folder `migrations`; tests/it/with_pg says where it is. */
static inline const char *pg_migrations(void)
{
    const char *path = getenv("PL_TEST_MIGRATIONS");
    return path ? path : "migrations";
}

/* Conninfo with the schema as search_path; ends the program when there is no database. The text stays until the thread calls again. */
static inline const char *pg_schema_conninfo(const char *schema)
{
    static _Thread_local char text[1024];
    const char *base = getenv("PL_TEST_DB");
    if (!base) {
        fprintf(stderr, "skipped: needs PostgreSQL; run it under tests/it/with_pg\n");
        exit(77);
    }
    struct pl_buf b = pl_buf_fixed(text, sizeof text);
    pl_buf_fmt(&b, "%s options='-c search_path=%s'", base, schema);
    return text;
}

/* What main has opened: made again in the processes of failing.h. */
static struct db *pg_opened; /* NULL: main has closed it */
static const char *pg_rewound; /* its schema */

/* The subjects of db_tell that commits have let out, each behind a blank. */
static char pg_told[4096];
static pthread_mutex_t pg_telling = PTHREAD_MUTEX_INITIALIZER;
static inline void pg_tell(void *self, const char *subject)
{
    (void)self;
    PL_LOCK(&pg_telling);
    size_t n = strlen(pg_told);
    snprintf(pg_told + n, sizeof pg_told - n, " %s", subject);
}

static inline struct db *pg_connect(const char *conninfo, int64_t statement_timeout)
{
    struct db *db = NULL;
    struct db_conf conf = { .conninfo = conninfo, .statement_timeout = statement_timeout, .clock = &pl_clock_system, .tell = pg_tell };
    if (db_open(&conf, &db) != PL_OK)
        abort();
    return db;
}

/* Runs one statement without parameters or rows in the transaction. Its object stays for ever: prepared statements are known by address. */
static inline enum pl_err pg_do_tx(struct db_tx *tx, const char *sql)
{
    static struct { struct db_stmt st; char name[16]; } made[2000];
    static unsigned count;
    unsigned i = __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
    void *rows;
    int64_t n;
    if (i >= PL_COUNT(made))
        abort();
    struct pl_buf b = pl_buf_fixed(made[i].name, sizeof made[i].name);
    pl_buf_fmt(&b, "test_%u", i);
    made[i].st = (struct db_stmt){ .name = made[i].name, .sql = sql };
    return db_stmt_run(tx, &made[i].st, NULL, 0, 0, &rows, &n);
}

/* Runs one statement in a transaction of its own. */
static inline enum pl_err pg_do(struct db *db, const char *sql)
{
    struct pl_arena *a = pl_arena_new(1 << 16);
    struct db_tx *tx = NULL;
    enum pl_err e = db_begin(db, a, &tx);
    if (e == PL_OK)
        e = pg_do_tx(tx, sql);
    if (e == PL_OK)
        e = db_commit(&tx);
    db_rollbackp(&tx);
    pl_arena_free(a);
    return e;
}

/* The inherited connection is broken: the first statement finds out. */
static inline void pg_reopen(void)
{
    if (pg_opened && pg_do(pg_opened, "SELECT 1") != PL_OK && pg_do(pg_opened, "SELECT 1") != PL_OK)
        abort();
}

/* The rows are again what they were when main had made its own, in each table that a case has written to. */
static inline void pg_rewind(void)
{
    static struct db *db;
    static struct db_stmt st;
    static char sql[1500];
    if (!db) {
        struct pl_buf b = pl_buf_fixed(sql, sizeof sql);
        pl_buf_fmt(&b, "DO $$ DECLARE t text; BEGIN DROP SCHEMA IF EXISTS %s_kept CASCADE; CREATE SCHEMA %s_kept; FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = '%s' "
                       "LOOP EXECUTE format('CREATE TABLE %s_kept.%%I AS TABLE %%I', t, t); END LOOP; END $$", pg_rewound, pg_rewound, pg_rewound, pg_rewound);
        static char conninfo[1024]; /* the superuser's: the audit log takes inserts only */
        struct pl_buf c = pl_buf_fixed(conninfo, sizeof conninfo);
        pl_buf_fmt(&c, "%s options='-c search_path=%s'", getenv("PL_TEST_DB_ADMIN"), pg_rewound);
        struct db_conf conf = { .conninfo = conninfo, .clock = &pl_clock_system };
        if (db_open(&conf, &db) != PL_OK || pg_do(db, sql) != PL_OK)
            abort();
        b = pl_buf_fixed(sql, sizeof sql);
        pl_buf_fmt(&b, "DO $$ DECLARE t text; some boolean; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = '%s_kept' LOOP "
                       "EXECUTE format('DELETE FROM %%I', t); EXECUTE format('INSERT INTO %%I SELECT * FROM %s_kept.%%I', t, t); END LOOP; END $$", pg_rewound, pg_rewound);
        st = (struct db_stmt){ .name = "test_rewind", .sql = sql };
    }
    struct pl_arena *a = pl_arena_new(1 << 16);
    struct db_tx *tx = NULL;
    void *rows;
    int64_t n;
    if (db_begin(db, a, &tx) != PL_OK || db_stmt_run(tx, &st, NULL, 0, 0, &rows, &n) != PL_OK || db_commit(&tx) != PL_OK)
        abort();
    pl_arena_free(a);
}

/* A connection to the schema, made anew and empty. */
static inline struct db *pg_schema_empty(const char *schema)
{
    char drop[128], make[128];
    struct pl_buf b = pl_buf_fixed(drop, sizeof drop), c = pl_buf_fixed(make, sizeof make);
    pl_buf_fmt(&b, "DROP SCHEMA IF EXISTS %s CASCADE", schema);
    pl_buf_fmt(&c, "CREATE SCHEMA %s", schema);
    struct db *db = pg_connect(pg_schema_conninfo(schema), 0);
    if (pg_do(db, drop) != PL_OK || pg_do(db, make) != PL_OK)
        abort();
    return db;
}

/* The same with all migrations applied. */
static inline struct db *pg_schema_open(const char *schema)
{
    struct db *db = pg_schema_empty(schema);
    struct pl_arena *a = pl_arena_new(16 << 20);
    struct pl_fail fail = PL_FAIL_INIT;
    unsigned n;
    if (db_migrate(db, pg_migrations(), a, &n, &fail) != PL_OK) {
        fprintf(stderr, "migrations: %s\n", fail.detail);
        abort();
    }
    pl_arena_free(a);
    pg_rewound = schema;
    pg_opened = db;
    failing_again(pg_reopen);
    failing_rewind(pg_rewind);
    return db;
}
