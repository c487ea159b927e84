/* db against a real PostgreSQL: what happens when statements, transactions, connections and migrations fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "pg_schema.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SCHEMA "t_db"

static struct pl_arena *arena;

static struct db *connect_again(void) { return pg_connect(pg_schema_conninfo(SCHEMA), 0); }

/* ---- all types ---- */

struct typed_row {
    bool b, has_b;
    int16_t i2;
    bool has_i2;
    int32_t i4;
    bool has_i4;
    int64_t i8;
    bool has_i8;
    double f;
    bool has_f;
    struct pl_str t, y, j;
    struct pl_uuid u;
    struct pl_utc at;
};
#define NUM(n, ty) { .name = #n, .type = ty, .offset = offsetof(struct typed_row, n), .has_offset = offsetof(struct typed_row, has_##n) + 1, .nullable = true }
#define VAL(n, ty) { .name = #n, .type = ty, .offset = offsetof(struct typed_row, n), .nullable = true }
static const struct db_col typed_cols[] = {
    NUM(b, DB_BOOL), NUM(i2, DB_INT2), NUM(i4, DB_INT4), NUM(i8, DB_INT8), NUM(f, DB_FLOAT8),
    VAL(t, DB_TEXT), VAL(y, DB_BYTEA), VAL(j, DB_JSON), VAL(u, DB_UUID), VAL(at, DB_TIME),
};
static const struct db_stmt echo = {
    .name = "echo", .sql = "SELECT $1 AS b, $2 AS i2, $3 AS i4, $4 AS i8, $5 AS f, $6 AS t, $7 AS y, $8 AS j, $9 AS u, $10 AS at",
    .cols = typed_cols, .ncols = PL_COUNT(typed_cols), .row_size = sizeof(struct typed_row),
};
static const struct db_stmt nulls = {
    .name = "nulls",
    .sql = "SELECT NULL::boolean AS b, NULL::smallint AS i2, NULL::integer AS i4, NULL::bigint AS i8, NULL::double precision AS f,"
           " $1 AS t, $2 AS y, $3 AS j, $4 AS u, $5 AS at",
    .cols = typed_cols, .ncols = PL_COUNT(typed_cols), .row_size = sizeof(struct typed_row),
};

static struct db_tx *begin(struct db *db)
{
    struct db_tx *tx = NULL;
    assert_int_equal(db_begin(db, arena, &tx), PL_OK);
    return tx;
}

static void every_type_comes_back_as_it_went(void **state)
{
    (void)state;
    struct db *db = connect_again();
    static const struct { int64_t i; double f; const char *t; size_t n; int64_t us; } cases[] = {
        { 0, 0.0, "", 0, 1 },
        { -32768, -1.5, "h\xc3\xa9llo", 6, INT64_C(1790000000123456) },
        { 32767, 1e300, "x", 1, INT64_C(946684800000000) },
        { -1, 0.1, "\\x00'", 5, INT64_C(-62135596800000000) },
    };
    for (size_t c = 0; c < PL_COUNT(cases); c++) {
        struct db_tx *tx = begin(db);
        struct pl_uuid id = { { 1, 2, 3, 250, 5 } };
        struct pl_str text = { cases[c].t, cases[c].n };
        char raw[3] = { 0, 1, (char)255 };
        const struct db_param p[] = {
            { .type = DB_BOOL, .v.b = c & 1 }, { .type = DB_INT2, .v.i = cases[c].i }, { .type = DB_INT4, .v.i = cases[c].i * 65536 },
            { .type = DB_INT8, .v.i = cases[c].i * INT64_C(281474976710656) }, { .type = DB_FLOAT8, .v.d = cases[c].f }, { .type = DB_TEXT, .v.s = text },
            { .type = DB_BYTEA, .v.s = { raw, 3 } }, { .type = DB_JSON, .v.s = PL_STR("{\"a\": 1}") }, { .type = DB_UUID, .v.u = id },
            { .type = DB_TIME, .v.t = { cases[c].us } },
        };
        void *rows;
        int64_t n;
        assert_int_equal(db_stmt_run(tx, &echo, p, PL_COUNT(p), 1, &rows, &n), PL_OK);
        assert_int_equal(n, 1);
        struct typed_row *r = rows;
        assert_true(r->has_b && r->b == (bool)(c & 1));
        assert_true(r->has_i2 && r->i2 == cases[c].i);
        assert_true(r->has_i4 && r->i4 == cases[c].i * 65536);
        assert_true(r->has_i8 && r->i8 == cases[c].i * INT64_C(281474976710656));
        assert_true(r->has_f && memcmp(&r->f, &cases[c].f, sizeof r->f) == 0);
        assert_true(r->t.p && pl_str_eq(r->t, text));
        assert_true(pl_str_eq(r->y, (struct pl_str){ raw, 3 }));
        assert_true(pl_str_eqz(r->j, "{\"a\": 1}"));
        assert_true(pl_uuid_eq(r->u, id));
        assert_true(r->at.us == cases[c].us);
        db_rollbackp(&tx);
        assert_null(tx);
    }
    db_close(db);
}

static void null_goes_and_comes_as_null(void **state)
{
    (void)state;
    struct db *db = connect_again();
    struct db_tx *tx = begin(db);
    const struct db_param p[] = {
        { .type = DB_TEXT, .nullable = true }, { .type = DB_BYTEA, .nullable = true }, { .type = DB_JSON, .nullable = true },
        { .type = DB_UUID, .nullable = true }, { .type = DB_TIME, .nullable = true },
    };
    void *rows;
    int64_t n;
    assert_int_equal(db_stmt_run(tx, &nulls, p, PL_COUNT(p), 1, &rows, &n), PL_OK);
    struct typed_row *r = rows;
    assert_false(r->has_b || r->has_i2 || r->has_i4 || r->has_i8 || r->has_f);
    assert_null(r->t.p);
    assert_null(r->y.p);
    assert_null(r->j.p);
    assert_true(pl_uuid_is_zero(r->u) && r->at.us == 0);
    db_rollbackp(&tx);

    /* Absent where it must not be: refused before it reaches the server. */
    tx = begin(db);
    const struct db_param absent[] = { { .type = DB_TEXT }, p[1], p[2], p[3], p[4] };
    assert_int_equal(db_stmt_run(tx, &nulls, absent, PL_COUNT(absent), 1, &rows, &n), PL_INTERNAL);
    db_rollbackp(&tx);

    /* NULL in a column that the catalog calls NOT NULL. */
    static const struct db_col strict_col[] = { { .name = "x", .type = DB_TEXT } };
    static const struct db_stmt strict = {
        .name = "strict", .sql = "SELECT NULL::text AS x", .cols = strict_col, .ncols = 1, .row_size = sizeof(struct pl_str),
    };
    tx = begin(db);
    assert_int_equal(db_stmt_run(tx, &strict, NULL, 0, 1, &rows, &n), PL_INTERNAL);
    db_rollbackp(&tx);
    db_close(db);
}

static void more_rows_than_said_is_an_error(void **state)
{
    (void)state;
    static const struct db_col col[] = { { .name = "n", .type = DB_INT4 } };
    static const struct db_stmt three = {
        .name = "three", .sql = "SELECT n FROM generate_series(1, 3) AS n ORDER BY n", .cols = col, .ncols = 1, .row_size = sizeof(int32_t),
    };
    static const struct { size_t most; enum pl_err e; } cases[] = { { 3, PL_OK }, { 4, PL_OK }, { 2, PL_INTERNAL }, { 1, PL_INTERNAL } };
    struct db *db = connect_again();
    for (size_t c = 0; c < PL_COUNT(cases); c++) {
        struct db_tx *tx = begin(db);
        void *rows;
        int64_t n = -1;
        assert_int_equal(db_stmt_run(tx, &three, NULL, 0, cases[c].most, &rows, &n), cases[c].e);
        if (cases[c].e == PL_OK) {
            assert_int_equal(n, 3);
            assert_int_equal(((int32_t *)rows)[2], 3);
        } else
            assert_int_equal(n, -1);
        db_rollbackp(&tx);
    }
    db_close(db);
}

/* ---- errors ---- */

static void statements_fail_with_the_houses_errors(void **state)
{
    (void)state;
    static const struct { const char *sql; enum pl_err e; } cases[] = {
        { "INSERT INTO named (a) VALUES (1)", PL_RETRY },                     /* a name of the table */
        { "INSERT INTO migration_lease (lease_id) VALUES (2)", PL_INTERNAL }, /* a constraint that is not in it */
        { "SELECT nothing FROM nowhere", PL_INTERNAL },
        { "INSERT INTO event_counter (account_id) VALUES ('00000000-0000-0000-0000-000000000001')", PL_INTERNAL }, /* head is NOT NULL */
        { "SELECT 1 / 0", PL_INTERNAL },
        { "SELECT '\"\\u0000\"'::jsonb", PL_INVALID_REQUEST }, /* a person's text that PostgreSQL cannot hold */
        { "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$", PL_RETRY },
        { "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$", PL_RETRY },
        { "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '25006'; END $$", PL_UNAVAILABLE },
        { "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '53100'; END $$", PL_UNAVAILABLE },
        { "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '22021'; END $$", PL_INVALID_REQUEST },
    };
    struct db *db = connect_again();
    assert_int_equal(pg_do(db, "CREATE TABLE named (a integer CONSTRAINT pg_class_relname_nsp_index UNIQUE)"), PL_OK);
    assert_int_equal(pg_do(db, "INSERT INTO named (a) VALUES (1)"), PL_OK);
    for (size_t c = 0; c < PL_COUNT(cases); c++) {
        struct db_tx *tx = begin(db);
        enum pl_err e = pg_do_tx(tx, cases[c].sql);
        if (e != cases[c].e)
            fail_msg("%s: %s", cases[c].sql, pl_err_code(e));
        /* The first error stands: nothing runs after it, and the commit says so too. */
        assert_int_equal(pg_do_tx(tx, "SELECT 1"), e);
        assert_int_equal(db_commit(&tx), e);
        assert_null(tx);
    }
    db_close(db);
}

static void a_statement_that_takes_too_long_ends_as_unavailable(void **state)
{
    (void)state;
    struct db *db = pg_connect(pg_schema_conninfo(SCHEMA), 50 * PL_MS);
    assert_int_equal(pg_do(db, "SELECT pg_sleep(30)"), PL_UNAVAILABLE);
    assert_int_equal(pg_do(db, "SELECT 1"), PL_OK); /* the server ended it, so that the connection is good */
    db_close(db);
}

static void one_transaction_at_a_time(void **state)
{
    (void)state;
    struct db *db = connect_again();
    struct db_tx *tx = begin(db), *second = NULL;
    assert_int_equal(db_begin(db, arena, &second), PL_INTERNAL);
    assert_null(second);
    assert_int_equal(db_commit(&tx), PL_OK);
    db_close(db);
}

/* ---- db_run ---- */

struct attempts {
    int calls, fail_first;
    enum pl_err with;
    bool raise; /* by the server instead of by us */
};

static enum pl_err attempt(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct attempts *t = arg;
    enum pl_err e = pg_do_tx(tx, "INSERT INTO counted (a) VALUES (1)");
    if (e != PL_OK || t->calls++ >= t->fail_first)
        return e;
    if (t->raise)
        return pg_do_tx(tx, "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$");
    return pl_fail(reterr, t->with, "try %d", t->calls);
}

static void run_tries_again_on_40001_and_leaves_nothing_behind(void **state)
{
    (void)state;
    static const struct { struct attempts how; int calls; enum pl_err e; const char *said; } cases[] = {
        { { .fail_first = 0 }, 1, PL_OK, "" },
        { { .fail_first = 3, .raise = true }, 4, PL_OK, "" },
        { { .fail_first = 4, .with = PL_RETRY }, 5, PL_OK, "" },
        { { .fail_first = 5, .with = PL_RETRY }, 5, PL_RETRY, "try 5" },
        { { .fail_first = 99, .raise = true }, 5, PL_RETRY, "" },
        { { .fail_first = 99, .with = PL_FORBIDDEN }, 1, PL_FORBIDDEN, "try 1" },
    };
    struct db *db = connect_again();
    assert_int_equal(pg_do(db, "CREATE TABLE counted (a integer CONSTRAINT pg_type_typname_nsp_index UNIQUE)"), PL_OK);
    for (size_t c = 0; c < PL_COUNT(cases); c++) {
        struct attempts t = cases[c].how;
        struct pl_fail f = PL_FAIL_INIT;
        assert_int_equal(db_run(db, arena, attempt, &t, &f), cases[c].e);
        assert_int_equal(t.calls, cases[c].calls);
        assert_string_equal(f.detail, cases[c].said);
        /* The row is there once or not at all: inserting it again is refused exactly when it was committed. */
        assert_int_equal(pg_do(db, "INSERT INTO counted (a) VALUES (1)"), cases[c].e == PL_OK ? PL_RETRY : PL_OK);
        assert_int_equal(pg_do(db, "DELETE FROM counted"), PL_OK);
    }
    db_close(db);
}

/* ---- connections ---- */

static const struct db_col pid_col[] = { { .name = "pid", .type = DB_INT4 } };
static const struct db_stmt backend = { .name = "backend", .sql = "SELECT pg_backend_pid() AS pid", .cols = pid_col, .ncols = 1, .row_size = sizeof(int32_t) };

static int32_t backend_pid(struct db_tx *tx)
{
    void *rows;
    int64_t n;
    assert_int_equal(db_stmt_run(tx, &backend, NULL, 0, 1, &rows, &n), PL_OK);
    return *(int32_t *)rows;
}

/* Returns when the backend is gone. */
static void terminate(struct db *other, int32_t pid)
{
    char sql[128];
    struct pl_buf b = pl_buf_fixed(sql, sizeof sql);
    pl_buf_fmt(&b, "SELECT pg_terminate_backend(%d, 20000)", pid);
    static const struct db_col col[] = { { .name = "done", .type = DB_BOOL } };
    static struct db_stmt st[8];
    static char names[8][16];
    static unsigned i;
    struct pl_buf nb = pl_buf_fixed(names[i], sizeof names[i]);
    pl_buf_fmt(&nb, "terminate_%u", i);
    st[i] = (struct db_stmt){ .name = names[i], .sql = sql, .cols = col, .ncols = 1, .row_size = sizeof(bool) };
    struct db_tx *tx = begin(other);
    void *rows;
    int64_t n;
    assert_int_equal(db_stmt_run(tx, &st[i++], NULL, 0, 1, &rows, &n), PL_OK);
    assert_true(*(bool *)rows);
    assert_int_equal(db_commit(&tx), PL_OK);
}

static void a_connection_lost_between_transactions_is_made_again_unseen(void **state)
{
    (void)state;
    struct db *db = connect_again(), *other = connect_again();
    struct db_tx *tx = begin(db);
    int32_t pid = backend_pid(tx);
    assert_int_equal(db_commit(&tx), PL_OK);
    terminate(other, pid);
    tx = begin(db);
    assert_int_not_equal(backend_pid(tx), pid); /* and the statement was prepared anew */
    assert_int_equal(db_commit(&tx), PL_OK);
    db_close(db);
    db_close(other);
}

/* BEGIN goes out with a first statement that this connection has prepared; what either of the two may meet is met as when they went one by one. */
static void begin_travels_with_the_first_statement(void **state)
{
    (void)state;
    static const struct db_stmt put_one = { .name = "put_one", .sql = "INSERT INTO counted (a) VALUES (1)" };
    struct db *db = connect_again(), *other = connect_again();
    void *rows;
    int64_t n;
    for (int time = 0; time < 2; time++) { /* prepared alone; then with BEGIN before it */
        struct db_tx *tx = begin(db);
        assert_int_equal(db_stmt_run(tx, &put_one, NULL, 0, 0, &rows, &n), PL_OK);
        db_rollbackp(&tx);
        assert_int_equal(pg_do(other, "DELETE FROM counted"), PL_OK); /* waits for nobody: the transaction has ended */
    }
    struct db_tx *tx = begin(db);
    assert_int_equal(db_stmt_run(tx, &put_one, NULL, 0, 0, &rows, &n), PL_OK);
    int32_t pid = backend_pid(tx);
    assert_int_equal(db_commit(&tx), PL_OK);
    tx = begin(db);
    assert_int_equal(db_stmt_run(tx, &put_one, NULL, 0, 0, &rows, &n), PL_RETRY); /* refused by the constraint */
    assert_int_equal(pg_do_tx(tx, "SELECT 1"), PL_RETRY);
    assert_int_equal(db_commit(&tx), PL_RETRY);
    tx = begin(db);
    assert_int_equal(db_commit(&tx), PL_OK); /* nothing was asked, nothing was sent */
    for (int time = 0; time < 3; time++) { /* only read: its end is not waited for, and nothing of it is left */
        tx = begin(db);
        assert_int_equal(backend_pid(tx), pid);
        assert_int_equal(db_commit(&tx), PL_OK);
    }
    assert_int_equal(pg_do(other, "DELETE FROM counted"), PL_OK);
    terminate(other, pid); /* with the answer to that end still unread */
    tx = begin(db);
    assert_int_not_equal(backend_pid(tx), pid);
    assert_int_equal(db_commit(&tx), PL_OK);
    db_close(db);
    db_close(other);
}

/* ---- db_look ---- */

struct seen {
    unsigned calls, statements;
    int32_t pid;
    enum pl_err second;
};
static enum pl_err see(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct seen *s = arg;
    void *rows;
    int64_t n;
    s->calls++;
    enum pl_err e = db_stmt_run(tx, &backend, NULL, 0, 1, &rows, &n);
    if (e != PL_OK)
        return e;
    s->pid = *(int32_t *)rows;
    if (s->statements > 1)
        s->second = db_stmt_run(tx, &backend, NULL, 0, 1, &rows, &n);
    return s->statements > 0 ? PL_OK : pl_fail(reterr, PL_UNAUTHENTICATED, "not this one");
}

static void a_look_is_one_statement_and_finds_a_dead_connection_by_itself(void **state)
{
    (void)state;
    struct db *db = connect_again(), *other = connect_again();
    struct seen s = { .statements = 1 };
    assert_int_equal(db_look(db, arena, see, &s, NULL), PL_OK);
    terminate(other, s.pid);
    int32_t old = s.pid;
    s.calls = 0;
    assert_int_equal(db_look(db, arena, see, &s, NULL), PL_OK);
    assert_int_not_equal(s.pid, old);
    assert_int_equal(s.calls, 2); /* on the dead connection, on the new one */
    s.statements = 2;
    assert_int_equal(db_look(db, arena, see, &s, NULL), PL_OK);
    assert_int_equal(s.second, PL_INTERNAL);
    struct pl_fail fail = PL_FAIL_INIT;
    s = (struct seen){ 0 };
    assert_int_equal(db_look(db, arena, see, &s, &fail), PL_UNAUTHENTICATED);
    assert_string_equal(fail.detail, "not this one");
    assert_int_equal(s.calls, 1); /* a refusal is an answer: not asked again */
    struct db_tx *tx = begin(db);
    assert_int_equal(db_look(db, arena, see, &s, NULL), PL_INTERNAL);
    assert_int_equal(s.calls, 1);
    assert_int_equal(db_commit(&tx), PL_OK);
    db_close(db);
    db_close(other);
}

static void a_connection_lost_in_a_transaction_ends_it_as_unavailable(void **state)
{
    (void)state;
    struct db *db = connect_again(), *other = connect_again();
    for (int in_commit = 0; in_commit < 2; in_commit++) {
        struct db_tx *tx = begin(db);
        int32_t pid = backend_pid(tx);
        assert_int_equal(pg_do_tx(tx, "INSERT INTO event_counter (account_id, head) VALUES ('00000000-0000-0000-0000-0000000000cc', 1)"), PL_OK);
        terminate(other, pid);
        if (!in_commit) {
            assert_int_equal(pg_do_tx(tx, "SELECT 1"), PL_UNAVAILABLE);
            assert_int_equal(pg_do_tx(tx, "SELECT 1"), PL_UNAVAILABLE);
        }
        assert_int_equal(db_commit(&tx), PL_UNAVAILABLE);
        assert_null(tx);
        assert_int_equal(db_ping(db), PL_OK);
    }
    /* Neither of the two left its row. */
    assert_int_equal(pg_do(db, "INSERT INTO event_counter (account_id, head) VALUES ('00000000-0000-0000-0000-0000000000cc', 1)"), PL_OK);
    assert_int_equal(pg_do(db, "DELETE FROM event_counter"), PL_OK);
    db_close(db);
    db_close(other);
}

static void a_server_that_says_nothing_costs_one_deadline(void **state)
{
    (void)state;
    char folder[] = "/tmp/pldb.XXXXXX", conninfo[64];
    assert_non_null(mkdtemp(folder));
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    struct pl_buf path = pl_buf_fixed(at.sun_path, sizeof at.sun_path), ci = pl_buf_fixed(conninfo, sizeof conninfo);
    pl_buf_fmt(&path, "%s/.s.PGSQL.5432", folder);
    pl_buf_fmt(&ci, "host=%s port=5432 dbname=x user=x", folder);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 4), 0);
    struct db *db = pg_connect(conninfo, 0);
    assert_int_equal(db_ping(db), PL_UNAVAILABLE); /* takes the connection, never answers */
    close(fd);
    assert_int_equal(db_ping(db), PL_UNAVAILABLE); /* refuses it */
    assert_int_equal(db_look(db, arena, see, &(struct seen){ 0 }, NULL), PL_UNAVAILABLE);
    unlink(at.sun_path);
    assert_int_equal(db_ping(db), PL_UNAVAILABLE); /* is not there */
    rmdir(folder);
    db_close(db);
}

static void a_backend_that_hangs_is_given_up(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("the backend is another user's process only for root; not run\n");
        skip();
    }
    struct db *db = pg_connect(pg_schema_conninfo(SCHEMA), 100 * PL_MS);
    struct db_tx *tx = begin(db);
    int32_t pid = backend_pid(tx);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(pg_do_tx(tx, "SELECT 1"), PL_UNAVAILABLE);
    db_rollbackp(&tx);
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(db_ping(db), PL_OK);
    db_close(db);
}

static void open_refuses_a_bad_conninfo(void **state)
{
    (void)state;
    struct db *db = NULL;
    assert_int_equal(db_open(&(struct db_conf){ .conninfo = "no such=thing", .clock = &pl_clock_system }, &db), PL_INVALID_REQUEST);
    assert_null(db);
    assert_null(db_close(NULL));
}

/* Every heap allocation of a connection's life fails once: an error comes back, nothing is lost or used after, and the next try works. */
static void each_allocation_may_fail(void **state)
{
    (void)state;
    struct db_conf conf = { .conninfo = pg_schema_conninfo(SCHEMA), .clock = &pl_clock_system };
    enum pl_err e = PL_NO_MEMORY;
    unsigned at;
    for (at = 1; e != PL_OK && at < 100; at++) {
        struct db *db = NULL;
        struct db_tx *tx = NULL;
        struct pl_arena *a;
        void *rows;
        int64_t n;
        pl_heap_fail_at(at);
        a = pl_arena_new(1 << 16);
        e = a ? db_open(&conf, &db) : PL_NO_MEMORY;
        if (e == PL_OK)
            e = db_begin(db, a, &tx);
        if (e == PL_OK)
            e = db_stmt_run(tx, &backend, NULL, 0, 1, &rows, &n);
        if (e == PL_OK)
            e = db_commit(&tx);
        if (e == PL_OK) /* now with BEGIN in one round trip */
            e = db_begin(db, a, &tx);
        if (e == PL_OK)
            e = db_stmt_run(tx, &backend, NULL, 0, 1, &rows, &n);
        if (e == PL_OK)
            e = db_commit(&tx);
        pl_heap_fail_at(0);
        db_rollbackp(&tx);
        if (e != PL_OK)
            assert_int_equal(e, PL_NO_MEMORY);
        if (db)
            assert_int_equal(db_ping(db), PL_OK);
        db_close(db);
        pl_arena_free(a);
    }
    assert_int_equal(e, PL_OK);
    assert_true(at > 5);
}

static void durable_settings_are_demanded(void **state)
{
    (void)state;
    struct pl_fail f = PL_FAIL_INIT;
    struct db *db = connect_again();
    assert_int_equal(db_durability_check(db, arena, &f), PL_OK); /* with_pg's cluster is durable */
    db_close(db);
    char conninfo[1024];
    struct pl_buf b = pl_buf_fixed(conninfo, sizeof conninfo);
    pl_buf_fmt(&b, "%s options='-c synchronous_commit=off'", getenv("PL_TEST_DB"));
    db = pg_connect(conninfo, 0);
    assert_int_equal(db_durability_check(db, arena, &f), PL_UNAVAILABLE);
    assert_non_null(strstr(f.detail, "synchronous_commit"));
    db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_comes_back_as_it_went),
        cmocka_unit_test(null_goes_and_comes_as_null),
        cmocka_unit_test(more_rows_than_said_is_an_error),
        cmocka_unit_test(statements_fail_with_the_houses_errors),
        cmocka_unit_test(a_statement_that_takes_too_long_ends_as_unavailable),
        cmocka_unit_test(one_transaction_at_a_time),
        cmocka_unit_test(run_tries_again_on_40001_and_leaves_nothing_behind),
        cmocka_unit_test(a_connection_lost_between_transactions_is_made_again_unseen),
        cmocka_unit_test(begin_travels_with_the_first_statement),
        cmocka_unit_test(a_look_is_one_statement_and_finds_a_dead_connection_by_itself),
        cmocka_unit_test(a_connection_lost_in_a_transaction_ends_it_as_unavailable),
        cmocka_unit_test(a_server_that_says_nothing_costs_one_deadline),
        cmocka_unit_test(a_backend_that_hangs_is_given_up),
        cmocka_unit_test(each_allocation_may_fail),
        cmocka_unit_test(open_refuses_a_bad_conninfo),
        cmocka_unit_test(durable_settings_are_demanded),
    };
    struct db *db = pg_schema_open(SCHEMA);
    pg_opened = db_close(db);
    arena = pl_arena_new(64 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pl_arena_free(arena);
    return failed;
}
