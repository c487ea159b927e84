/* db_int.h - what the files of db/ share: the connection object and libpq's calls with deadlines. Nobody else includes this.
 *
 * libpq is used in its non-blocking form only: each step waits in poll(2) for the socket or for a timerfd, whichever comes first, so a database that hangs
 * costs a worker at most one deadline. The timer is the kernel's own and not `struct pl_clock`: a test that moves the injected clock by 40 minutes must not
 * make a query look hung.
 */
#pragma once
#include "db.h"
#include <libpq-fe.h>

#define DB_CONNECT_US (2 * PL_SECOND)
#define DB_GRACE_US PL_SECOND /**< how much longer than the server's own statement timeout we wait */
#define DB_FRESH_US PL_SECOND /**< a connection that answered within this time is taken to be alive */
#define DB_MAX_PARAMS 48

struct db_tx {
    struct db *db;
    struct pl_arena *arena;
    enum pl_err failed; /**< first error of a statement; PostgreSQL runs nothing more in this transaction, so it sticks */
    bool open;
    bool look;              /**< one statement, without BEGIN and COMMIT (db_look) */
    bool looked;            /**< that one statement was sent */
    bool begin_due;         /**< BEGIN goes out with the first statement */
    bool wrote;             /**< a statement that is no SELECT was sent */
    const struct db_told *told; /**< whom a commit is told */
};

struct db_told { /* of db_tell */
    const struct db_told *next;
    char subject[]; /**< with its NUL */
};

struct db {
    char *conninfo;
    char *options;  /**< the session's settings, as libpq's `options` */
    int64_t wait_us; /**< how long one statement may take, seen from here */
    int64_t statement_timeout;
    const struct pl_clock *clock;
    void (*tell)(void *self, const char *subject);
    void *self;
    PGconn *conn; /**< NULL: not connected */
    bool told;    /**< that it cannot connect was logged; silent until it can */
    bool lost;    /**< the connection must not be used for anything more */
    bool settling; /**< the COMMIT of a transaction that only read is on its way; its answer was not waited for */
    struct pl_mono used_at; /**< when the connection answered last */
    int timer;    /**< timerfd */
    const struct db_stmt **prepared; /**< open addressing; of this connection */
    size_t prepared_n, prepared_cap;
    char said[200]; /**< the server's last complaint, for migrations; may be cut */
    struct db_tx tx;
};

/* Connects within DB_CONNECT_US; PL_UNAVAILABLE. */
PL_MUST enum pl_err db_connect(struct db *db);
/* Closes and forgets the prepared statements. */
void db_disconnect(struct db *db);
/* Runs text by the simple protocol (several statements if need be). `tag`: what the last command must call itself, NULL: anything. */
PL_MUST enum pl_err db_exec(struct db *db, const char *sql, const char *tag, int64_t wait_us);
/* Sends the BEGIN that is due, on a new connection if the old one has died. */
PL_MUST enum pl_err db_begin_now(struct db_tx *tx);
/* Waits for the result of what was sent. *ret is to be cleared by the caller; server errors are mapped and noted under `name`. */
PL_MUST enum pl_err db_result(struct db *db, const char *name, int64_t wait_us, PGresult **ret);
/* Waits for the answer to PQpipelineSync and leaves pipeline mode. */
PL_MUST enum pl_err db_synced(struct db *db, int64_t wait_us);
/* A PGresult cleanup. */
void db_clearp(PGresult **r);
/* The connection is of no use any more: PL_UNAVAILABLE. */
enum pl_err db_lose(struct db *db);
/* SQLSTATE and, in class 23, constraint name to the house's error. *ret_lost: the connection is gone or must go. */
enum pl_err db_error_of(const char *sqlstate, const char *constraint, bool *ret_lost);
