#include "db_int.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

static struct pl_metric metrics[] = {
    PL_METRIC_COUNTER("porchlight_db_connects_total", "Connections made to PostgreSQL."),
    PL_METRIC_COUNTER("porchlight_db_lost_total", "Connections to PostgreSQL that broke or were given up."),
    PL_METRIC_COUNTER("porchlight_db_errors_total", "Statements that PostgreSQL refused in a way the code does not foresee."),
};
enum { M_CONNECTS, M_LOST, M_ERRORS };
static pthread_once_t metrics_once = PTHREAD_ONCE_INIT;
static void register_metrics(void) { pl_metrics_register(metrics, PL_COUNT(metrics)); }

void db_clearp(PGresult **r)
{
    PQclear(*r);
    *r = NULL;
}

enum pl_err db_lose(struct db *db)
{
    if (!db->lost)
        pl_count(&metrics[M_LOST], 1);
    db->lost = true;
    return PL_UNAVAILABLE;
}

static enum pl_err arm(struct db *db, int64_t us)
{
    struct itimerspec t = { .it_value = { .tv_sec = us / PL_SECOND, .tv_nsec = us % PL_SECOND * 1000 } };
    return timerfd_settime(db->timer, 0, &t, NULL) == 0 ? PL_OK : PL_INTERNAL;
}

/* Until the socket is ready for `events` or the armed time is over. */
static enum pl_err wait_for(struct db *db, short events)
{
    for (;;) {
        struct pollfd fds[2] = { { .fd = PQsocket(db->conn), .events = events }, { .fd = db->timer, .events = POLLIN } };
        if (fds[0].fd < 0)
            return db_lose(db);
        int n = poll(fds, 2, -1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return db_lose(db);
        if (fds[0].revents)
            return PL_OK;
        if (fds[1].revents)
            return db_lose(db);
    }
}

static void no_notice(void *self, const char *text)
{
    (void)self;
    (void)text;
}

static enum pl_err connect_poll(struct db *db)
{
    PostgresPollingStatusType now = PGRES_POLLING_WRITING;
    while (now != PGRES_POLLING_OK) {
        if (now == PGRES_POLLING_FAILED)
            return PL_UNAVAILABLE;
        enum pl_err e = wait_for(db, now == PGRES_POLLING_READING ? POLLIN : POLLOUT);
        if (e != PL_OK)
            return e;
        now = PQconnectPoll(db->conn);
    }
    return PL_OK;
}

enum pl_err db_connect(struct db *db)
{
    pthread_once(&metrics_once, register_metrics);
    const char *const names[] = { "dbname", "fallback_application_name", "client_encoding", "options", NULL };
    const char *const values[] = { db->conninfo, "porchlightd", "UTF8", db->options, NULL };
    enum pl_err e = arm(db, DB_CONNECT_US);
    if (e != PL_OK)
        return e;
    db->lost = false;
    /* A host name is resolved in here without a deadline: libpq knows no other way. `hostaddr` in the conninfo avoids it. */
    db->conn = PQconnectStartParams(names, values, /* expand_dbname= */ 1);
    if (!db->conn)
        return PL_NO_MEMORY;
    PQsetNoticeProcessor(db->conn, no_notice, NULL);
    e = PQstatus(db->conn) == CONNECTION_BAD ? PL_UNAVAILABLE : connect_poll(db);
    if (e == PL_OK && PQsetnonblocking(db->conn, 1) != 0)
        e = PL_UNAVAILABLE;
    if (e != PL_OK) {
        /* The server's reason ("the database system is starting up") is an operator's; it names hosts and roles, no password. Once a time away. */
        if (!db->told)
            PL_LOG(NULL, PL_WARN, "db.connect-failed", PL_F_Z("why", PQerrorMessage(db->conn)));
        db->told = true;
        db_disconnect(db);
        return e;
    }
    db->told = false;
    pl_count(&metrics[M_CONNECTS], 1);
    return PL_OK;
}

void db_disconnect(struct db *db)
{
    PQfinish(db->conn);
    db->conn = NULL;
    db->lost = db->settling = false;
    db->prepared = pl_heap_free(db->prepared);
    db->prepared_n = db->prepared_cap = 0;
}

static enum pl_err flush(struct db *db)
{
    int left;
    while ((left = PQflush(db->conn)) == 1) {
        /* The server may be blocked on sending to us: read as well, or both wait. */
        enum pl_err e = wait_for(db, POLLIN | POLLOUT);
        if (e != PL_OK)
            return e;
        if (!PQconsumeInput(db->conn))
            return db_lose(db);
    }
    return left == 0 ? PL_OK : db_lose(db);
}

/* The one place where PostgreSQL's complaint becomes an error of the house. What nobody foresees is logged here and not at a door, because only here the
 * server's words are known; its primary message names tables and constraints, never values (those stand in DETAIL, which is left out). */
static enum pl_err refused(struct db *db, const char *name, const PGresult *r)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE), *said = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    const char *constraint = PQresultErrorField(r, PG_DIAG_CONSTRAINT_NAME);
    struct pl_buf b = pl_buf_fixed(db->said, sizeof db->said);
    pl_buf_z(&b, said ? said : "the connection broke");
    if (!state)
        return db_lose(db); /* libpq itself: the connection broke */
    bool lost;
    enum pl_err e = db_error_of(state, constraint, &lost);
    if (lost)
        db_lose(db);
    if (e == PL_INTERNAL) {
        pl_count(&metrics[M_ERRORS], 1);
        PL_LOG(NULL, PL_ERROR, "db.refused", PL_F_Z("statement", name), PL_F_Z("sqlstate", state), PL_F_Z("constraint", constraint ? constraint : ""),
               PL_F_Z("said", said ? said : ""));
    }
    return e;
}

enum pl_err db_result(struct db *db, const char *name, int64_t wait_us, PGresult **ret)
{
    PGresult *last PL_CLEANUP(db_clearp) = NULL;
    enum pl_err e = arm(db, wait_us), first = PL_OK;
    if (e == PL_OK)
        e = flush(db);
    while (e == PL_OK) {
        if (PQisBusy(db->conn)) {
            e = wait_for(db, POLLIN);
            if (e == PL_OK && !PQconsumeInput(db->conn))
                e = db_lose(db);
            continue;
        }
        PGresult *r = PQgetResult(db->conn);
        if (!r)
            break;
        PQclear(last);
        last = r;
        ExecStatusType s = PQresultStatus(r);
        if (s == PGRES_COPY_IN || s == PGRES_COPY_OUT || s == PGRES_COPY_BOTH)
            e = db_lose(db); /* not spoken here, and the protocol would hang in it */
        else if (first == PL_OK && s != PGRES_COMMAND_OK && s != PGRES_TUPLES_OK)
            first = refused(db, name, r);
    }
    if (e == PL_OK)
        e = first;
    if (PQstatus(db->conn) == CONNECTION_BAD)
        db_lose(db);
    if (e != PL_OK)
        return e;
    if (!last)
        return db_lose(db);
    db->used_at = pl_now_mono(db->clock);
    *ret = PL_STEAL(last);
    return PL_OK;
}

enum pl_err db_synced(struct db *db, int64_t wait_us)
{
    enum pl_err e = arm(db, wait_us);
    while (e == PL_OK) {
        if (PQisBusy(db->conn)) {
            e = wait_for(db, POLLIN);
            if (e == PL_OK && !PQconsumeInput(db->conn))
                e = db_lose(db);
            continue;
        }
        PGresult *r PL_CLEANUP(db_clearp) = PQgetResult(db->conn);
        if (!r || PQresultStatus(r) != PGRES_PIPELINE_SYNC)
            return db_lose(db);
        return PQexitPipelineMode(db->conn) ? PL_OK : db_lose(db);
    }
    return e;
}

enum pl_err db_exec(struct db *db, const char *sql, const char *tag, int64_t wait_us)
{
    PGresult *r PL_CLEANUP(db_clearp) = NULL;
    if (!PQsendQuery(db->conn, sql))
        return db_lose(db);
    enum pl_err e = db_result(db, tag ? tag : "text", wait_us, &r);
    if (e != PL_OK)
        return e;
    /* COMMIT of a transaction that failed answers ROLLBACK, and that is no error to libpq. */
    return !tag || strcmp(PQcmdStatus(r), tag) == 0 ? PL_OK : PL_INTERNAL;
}
