#include "db_int.h"
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define TRIES 5
#define IDLE_US (10 * PL_SECOND) /* a transaction that does nothing for so long beyond a statement's time is ended by the server: its locks hurt others */

static char *heap_copy(const char *z)
{
    size_t n = strlen(z) + 1;
    char *p = pl_heap(n);
    if (p)
        memcpy(p, z, n);
    return p;
}

/* What the caller's conninfo says in `options`, then ours: UTC, READ COMMITTED and the two timeouts hold whatever the server's defaults are. */
static enum pl_err make_options(struct db *db)
{
    char mem[2048], *complaint = NULL;
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    PQconninfoOption *all = PQconninfoParse(db->conninfo, &complaint);
    if (!all) {
        PQfreemem(complaint); /* it may quote the password */
        return PL_INVALID_REQUEST;
    }
    for (PQconninfoOption *o = all; o->keyword; o++)
        if (o->val && strcmp(o->keyword, "options") == 0)
            pl_buf_fmt(&b, "%s ", o->val);
    PQconninfoFree(all);
    pl_buf_fmt(&b, "-c statement_timeout=%lld -c idle_in_transaction_session_timeout=%lld -c TimeZone=UTC -c default_transaction_isolation=read\\ committed",
               (long long)(db->statement_timeout / PL_MS), (long long)((db->statement_timeout + IDLE_US) / PL_MS));
    if (pl_buf_err(&b) != PL_OK)
        return PL_INVALID_REQUEST;
    db->options = heap_copy(mem);
    return db->options ? PL_OK : PL_NO_MEMORY;
}

enum pl_err db_open(const struct db_conf *conf, struct db **ret)
{
    struct db *db = pl_heap(sizeof *db);
    if (!db)
        return PL_NO_MEMORY;
    db->clock = conf->clock;
    db->tell = conf->tell;
    db->self = conf->self;
    db->statement_timeout = conf->statement_timeout ? conf->statement_timeout : 5 * PL_SECOND;
    db->wait_us = db->statement_timeout + DB_GRACE_US;
    db->tx.db = db;
    db->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    db->conninfo = heap_copy(conf->conninfo);
    enum pl_err e = db->timer < 0 || !db->conninfo ? PL_NO_MEMORY : make_options(db);
    if (e != PL_OK) {
        db = db_close(db);
        return e;
    }
    *ret = db;
    return PL_OK;
}

struct db *db_close(struct db *db)
{
    if (!db)
        return NULL;
    db_disconnect(db);
    if (db->timer >= 0)
        close(db->timer);
    if (db->conninfo)
        explicit_bzero(db->conninfo, strlen(db->conninfo)); /* it may hold a password */
    pl_heap_free(db->conninfo);
    pl_heap_free(db->options);
    return pl_heap_free(db);
}

/* Reads the answer to the last COMMIT that was not waited for. A connection on which it went wrong is closed; nobody's work hangs on it. */
static void settle(struct db *db)
{
    PGresult *r PL_CLEANUP(db_clearp) = NULL;
    if (!db->settling)
        return;
    db->settling = false;
    if (db_result(db, "COMMIT", DB_CONNECT_US, &r) != PL_OK || PQtransactionStatus(db->conn) != PQTRANS_IDLE)
        db_disconnect(db);
}

/* The old connection may have died since it was used last (restart of the server, fail-over): nothing was done on it yet, so a new one is made silently. */
enum pl_err db_begin_now(struct db_tx *tx)
{
    struct db *db = tx->db;
    for (;;) {
        bool fresh = !db->conn;
        enum pl_err e = fresh ? db_connect(db) : PL_OK;
        if (e != PL_OK)
            return e;
        e = db_exec(db, "BEGIN", "BEGIN", DB_CONNECT_US);
        if (e == PL_OK) {
            tx->begin_due = false;
            return PL_OK;
        }
        db_disconnect(db);
        if (fresh)
            return PL_UNAVAILABLE;
    }
}

enum pl_err db_begin(struct db *db, struct pl_arena *a, struct db_tx **ret)
{
    if (db->tx.open)
        return PL_INTERNAL;
    settle(db);
    db->tx = (struct db_tx){ .db = db, .arena = a, .open = true, .begin_due = true };
    bool alive = db->conn && pl_mono_sub(pl_now_mono(db->clock), db->used_at) < DB_FRESH_US;
    enum pl_err e = alive ? PL_OK : db_begin_now(&db->tx);
    if (e != PL_OK) {
        db->tx = (struct db_tx){ .db = db };
        return e;
    }
    *ret = &db->tx;
    return PL_OK;
}

static void end(struct db_tx **tx)
{
    struct db *db = (*tx)->db;
    db->tx = (struct db_tx){ .db = db };
    *tx = NULL;
    if (db->lost || (!db->settling && PQtransactionStatus(db->conn) != PQTRANS_IDLE))
        db_disconnect(db);
}

enum pl_err db_tell(struct db_tx *tx, const char *subject)
{
    size_t n = strlen(subject) + 1;
    for (const struct db_told *t = tx->told; t; t = t->next)
        if (strcmp(t->subject, subject) == 0)
            return PL_OK;
    struct db_told *t = pl_alloc(tx->arena, sizeof *t + n);
    if (!t)
        return PL_NO_MEMORY;
    t->next = tx->told;
    memcpy(t->subject, subject, n);
    tx->told = t;
    return PL_OK;
}

enum pl_err db_commit(struct db_tx **tx)
{
    enum pl_err e = (*tx)->failed;
    if (e != PL_OK) {
        db_rollbackp(tx);
        return e;
    }
    struct db *db = (*tx)->db;
    const struct db_told *told = (*tx)->told;
    if ((*tx)->begin_due)
        e = PL_OK; /* nothing was asked */
    else if (db->lost)
        e = PL_UNAVAILABLE;
    else if ((*tx)->wrote)
        e = db_exec(db, "COMMIT", "COMMIT", db->wait_us);
    else { /* what was read was answered: the end of it changes nothing for the caller */
        db->settling = PQsendQuery(db->conn, "COMMIT") && PQflush(db->conn) == 0;
        if (!db->settling)
            (void)db_lose(db);
    }
    end(tx);
    for (const struct db_told *t = told; t && db->tell && (e == PL_OK || e == PL_UNAVAILABLE); t = t->next)
        db->tell(db->self, t->subject);
    return e;
}

void db_rollbackp(struct db_tx **tx)
{
    if (!*tx)
        return;
    struct db *db = (*tx)->db;
    if (!db->lost && !(*tx)->begin_due && db_exec(db, "ROLLBACK", "ROLLBACK", db->wait_us) != PL_OK)
        db_lose(db);
    end(tx);
}

struct pl_arena *db_arena(struct db_tx *tx) { return tx->arena; }

enum pl_err db_run(struct db *db, struct pl_arena *a, db_work *fn, void *arg, struct pl_fail *reterr)
{
    enum pl_err e = PL_RETRY;
    struct pl_fail fail = PL_FAIL_INIT;
    for (int i = 0; i < TRIES && e == PL_RETRY; i++) {
        struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
        fail = (struct pl_fail)PL_FAIL_INIT;
        if ((e = db_begin(db, a, &tx)) != PL_OK || (e = fn(tx, arg, &fail)) != PL_OK)
            continue;
        e = db_commit(&tx);
    }
    if (e != PL_OK && reterr)
        *reterr = fail;
    return e;
}

enum pl_err db_look(struct db *db, struct pl_arena *a, db_work *fn, void *arg, struct pl_fail *reterr)
{
    if (db->tx.open)
        return PL_INTERNAL;
    settle(db);
    for (;;) {
        struct pl_fail fail = PL_FAIL_INIT;
        struct db_tx *tx = &db->tx;
        bool fresh = !db->conn;
        enum pl_err e = fresh ? db_connect(db) : PL_OK;
        if (e != PL_OK)
            return e;
        *tx = (struct db_tx){ .db = db, .arena = a, .open = true, .look = true };
        e = fn(tx, arg, &fail);
        bool again = e != PL_OK && db->lost && !fresh; /* it read, so that it may read again */
        end(&tx);
        if (again)
            continue;
        if (e != PL_OK && reterr)
            *reterr = fail;
        return e;
    }
}

enum pl_err db_ping(struct db *db)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    enum pl_err e = db_begin(db, NULL, &tx);
    return e == PL_OK && tx->begin_due ? db_begin_now(tx) : e;
}
