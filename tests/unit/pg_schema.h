/* pg_schema.h - for unit tests that need PostgreSQL: each test binary gets a schema of its own in the database that PL_TEST_DB names.
 *
 * tests/it/with_pg sets PL_TEST_DB. Without it the binary ends with status 77, which the test runner counts as skipped and names.
 *     struct db *db = pg_schema_open("t_device");     dropped, made anew and migrated
 *     struct db *more = pg_connect(pg_schema_conninfo("t_device"), 0);     another connection to the same
 */
#pragma once
#include "db.h"
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

static inline struct db *pg_connect(const char *conninfo, int64_t statement_timeout)
{
    struct db *db = NULL;
    struct db_conf conf = { .conninfo = conninfo, .statement_timeout = statement_timeout, .clock = &pl_clock_system };
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
    return db;
}
