/* db.h - all of libpq: connections, transactions, prepared statements with typed rows.
 *
 * A worker owns one `struct db`. Work happens in a transaction (`struct db_tx`); statements come only from the `.sql` files, through functions made by
 * schema/sqlgen.py, which call db_stmt_run below. Every transaction may be run again on PL_RETRY (SQLSTATE 40001, 40P01): its effects are rows only.
 * A constraint that refuses a row becomes an error by one table (db_constraints.c): { "system_name_key", PL_SYSTEM_NAME_TAKEN }.
 * A lost connection is PL_UNAVAILABLE for the running transaction; the next db_begin connects again. SERIALIZABLE is never needed: READ COMMITTED with
 * row locks by UPDATE … RETURNING.
 * Not here: the capabilities' SQL (their .sql files).   Threads: a `struct db` belongs to one thread.   Memory: rows live in the transaction's arena.
 *     struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
 *     if ((e = db_begin(db, arena, &tx)) != PL_OK) return e;
 *     if ((e = system_sql_rename(tx, account, id, name, NULL)) != PL_OK) return e;
 *     return db_commit(&tx);
 */
#pragma once
#include "clock.h"
#include "log.h"
#include "rand.h"

struct db;
struct db_tx;

struct db_conf {
    const char *conninfo;      /**< libpq's; never logged */
    int64_t statement_timeout; /**< us, 0: 5 s */
    const struct pl_clock *clock;
    void (*tell)(void *self, const char *subject); /**< db_tell's, on the thread that has committed; quick. NULL: nobody is told */
    void *self;
};
/* Makes the object; connects on first use. */
PL_MUST enum pl_err db_open(const struct db_conf *conf, struct db **ret);
struct db *db_close(struct db *db);

/* Starts a transaction. On a connection that answered within the last second BEGIN goes out with the first statement, in one round trip; else at once. A connection that
 * died since it was used last is made again, here or by the first statement. Waits at most 2 s for the old connection (with a first statement: as long as for that) and 2 s
 * for a new one. Rows of its statements live in `a`. PL_UNAVAILABLE when the database is away; PL_INTERNAL when this `db` has a transaction under way. */
PL_MUST enum pl_err db_begin(struct db *db, struct pl_arena *a, struct db_tx **ret);
/* The first error of a statement stands: PostgreSQL runs nothing more in that transaction, every later statement and the commit answer the same error. What
 * may be refused without ending the transaction is written with ON CONFLICT.
 * Ends it for good: *tx becomes NULL whatever comes. PL_RETRY: run it again; PL_UNAVAILABLE: the outcome is unknown if the connection died in the commit. The end of a
 * transaction that ran nothing but SELECTs is sent and not waited for. */
PL_MUST enum pl_err db_commit(struct db_tx **tx);
/* Undoes it; takes NULL. */
void db_rollbackp(struct db_tx **tx);
struct pl_arena *db_arena(struct db_tx *tx);
/* After this transaction's commit db_conf's `tell` hears the subject, once however often it is named here: then what was written can be read. Never if the transaction
 * is undone; also where it is not known whether it was. Subjects are those of bus.h; copied. */
PL_MUST enum pl_err db_tell(struct db_tx *tx, const char *subject);
/* Runs fn in a transaction, again on PL_RETRY (at most 5 times, arena not reset). *reterr of the last try stands. An error of fn undoes
 * what it did; a refusal whose effects must stay (a wrong PIN counts) is handed out through arg. */
typedef enum pl_err db_work(struct db_tx *tx, void *arg, struct pl_fail *reterr);
PL_MUST enum pl_err db_run(struct db *db, struct pl_arena *a, db_work *fn, void *arg, struct pl_fail *reterr);
/* Runs fn, which runs one statement that only reads: without BEGIN and COMMIT around it, because the look-up of every call is worth two round trips. A second
 * statement is PL_INTERNAL. Waits as db_begin does; a connection that died since it was used last is made again, and fn is run again then. */
PL_MUST enum pl_err db_look(struct db *db, struct pl_arena *a, db_work *fn, void *arg, struct pl_fail *reterr);
/* Is the database there? For /readyz. */
PL_MUST enum pl_err db_ping(struct db *db);

/* Migrations: files NNNN_name.sql of a folder, applied in order, one transaction each, with name and SHA-256 in table `migration`. A changed or missing old
 * file is refused, and one with a lower number than the last. One process at a time, by a lease row, on which others wait at most ten minutes.
 * *ret_applied counts the new ones. */
PL_MUST enum pl_err db_migrate(struct db *db, const char *folder, struct pl_arena *a, unsigned *ret_applied, struct pl_fail *reterr);
/* What the files of a folder say now, in the arena: a process reads them once, at its start, for a newer release may be installed under it while it runs. */
struct db_schema;
PL_MUST enum pl_err db_schema_read(const char *folder, struct pl_arena *a, const struct db_schema **ret, struct pl_fail *reterr);
/* PL_UNAVAILABLE with a sentence when the database's schema is older or newer than that. */
PL_MUST enum pl_err db_schema_check(struct db *db, const struct db_schema *schema, struct pl_arena *a, struct pl_fail *reterr);
/* S (Nothing lost): refuses a PostgreSQL whose fsync, full_page_writes or synchronous_commit is off. */
PL_MUST enum pl_err db_durability_check(struct db *db, struct pl_arena *a, struct pl_fail *reterr);

/* ---- What generated code uses; nobody else calls this. ---- */
enum db_type { DB_BOOL, DB_INT2, DB_INT4, DB_INT8, DB_TEXT, DB_BYTEA, DB_UUID, DB_TIME, DB_JSON, DB_FLOAT8 };
struct db_col {
    const char *name;
    enum db_type type;
    size_t offset;     /**< in the row struct: bool, int16_t, int32_t, int64_t, pl_str, pl_str, pl_uuid, pl_utc, pl_str, double */
    size_t has_offset; /**< offset + 1 of `bool has_x` for nullable numbers; 0: NULL reads as .p NULL, zero uuid, us 0 */
    bool nullable;     /**< NULL in a column that is not nullable is PL_INTERNAL */
};
struct db_param {
    enum db_type type;
    bool nullable; /**< pl_str with .p NULL, zero uuid, us 0 are sent as NULL */
    union {
        bool b;
        int64_t i;
        double d;
        struct pl_str s;
        struct pl_uuid u;
        struct pl_utc t;
    } v;
};
struct db_stmt {
    const char *name; /**< module_name */
    const char *sql;
    const struct db_col *cols;
    unsigned ncols;
    size_t row_size;
};
/* Prepares once a connection, runs, reads binary rows. *ret_rows is an array in the transaction's arena (NULL without columns); at most `max_rows`,
 * more is PL_INTERNAL. *ret_n: rows, or rows affected when there are no columns. */
PL_MUST enum pl_err db_stmt_run(struct db_tx *tx, const struct db_stmt *st, const struct db_param *params, unsigned nparams, size_t max_rows, void **ret_rows,
                                int64_t *ret_n);
