/* What the engine of test_http.h runs on: a clock that the test moves, and a database that is a script (this file defines the functions of db.h that the engine calls, so the
 * real ones are not linked). */
#pragma once
#include "http.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>

/* ---- the clock ---- */
static int64_t moved;            /* atomic; us that the test added to the engine's clock */
static struct pl_utc standing; /* not 0: wall time stands there, and only the test moves it */
static struct pl_mono test_mono(const struct pl_clock *c)
{
    (void)c;
    return pl_mono_add(pl_now_mono(&pl_clock_system), __atomic_load_n(&moved, __ATOMIC_SEQ_CST));
}
static struct pl_utc test_utc(const struct pl_clock *c)
{
    (void)c;
    return pl_utc_add(standing.us ? standing : pl_now_utc(&pl_clock_system), __atomic_load_n(&moved, __ATOMIC_SEQ_CST));
}
static const struct pl_clock test_clock = { test_mono, test_utc };
static inline void advance(int64_t us) { __atomic_add_fetch(&moved, us, __ATOMIC_SEQ_CST); }

/* ---- the database: says what happened, in order ---- */
struct db { int unused; };
struct db_tx { int unused; };
static struct db the_db;
static struct db_tx the_tx;
static pthread_mutex_t story_lock = PTHREAD_MUTEX_INITIALIZER;
static char story[512];      /* LOCK: story_lock */
static enum pl_err commits[8]; /* LOCK: story_lock; what the next commits answer */
static unsigned ncommits;     /* LOCK: story_lock */
static void tell(const char *what)
{
    PL_LOCK(&story_lock);
    struct pl_buf b = pl_buf_fixed(story, sizeof story);
    b.n = strlen(story);
    pl_buf_fmt(&b, "%s ", what);
}
enum pl_err db_open(const struct db_conf *conf, struct db **ret)
{
    (void)conf;
    *ret = &the_db;
    return PL_OK;
}
struct db *db_close(struct db *db)
{
    (void)db;
    return NULL;
}
enum pl_err db_begin(struct db *db, struct pl_arena *a, struct db_tx **ret)
{
    (void)db, (void)a;
    tell("begin");
    *ret = &the_tx;
    return PL_OK;
}

/* ---- the one table that the engine keeps: stored answers, of which the last may wait for its commit ---- */
struct kept {
    char key[32], request[32], answer[4096];
    size_t n;
};
static struct kept kept[8]; /* LOCK: story_lock */
static unsigned nkept;      /* LOCK: story_lock */
static bool kept_waits;     /* LOCK: story_lock; the last one is not committed */
static void settle(bool good)
{
    PL_LOCK(&story_lock);
    nkept -= kept_waits && !good;
    kept_waits = false;
}
static struct kept *kept_find(struct pl_str key)
{
    for (unsigned i = 0; i < nkept; i++)
        if (memcmp(kept[i].key, key.p, 32) == 0)
            return &kept[i];
    return NULL;
}
/* ---- and its buckets: the rule of the SQL, said again in C; rates_away: the table cannot be asked ---- */
static struct { char id[32]; int64_t busy; } buckets[8]; /* LOCK: story_lock */
static unsigned nbuckets, bucket_queries;                /* LOCK: story_lock */
static bool rates_away;                                  /* LOCK: story_lock */
static enum pl_err bucket_take(const struct db_param *p, void **ret_rows, int64_t *ret_n)
{
    static _Thread_local int64_t row[2];
    unsigned i = 0;
    int64_t now = p[1].v.i, granted = 0;
    bucket_queries++;
    if (rates_away)
        return PL_INTERNAL;
    while (i < nbuckets && memcmp(buckets[i].id, p[0].v.s.p, 32) != 0)
        i++;
    if (i == nbuckets)
        memcpy(buckets[nbuckets++].id, p[0].v.s.p, 32);
    int64_t busy = buckets[i].busy > now ? buckets[i].busy : now;
    while (granted < p[2].v.i && busy + p[3].v.i <= now + p[4].v.i) {
        busy += p[3].v.i;
        granted++;
    }
    buckets[i].busy = busy;
    row[0] = granted;
    row[1] = busy;
    *ret_rows = row;
    *ret_n = 1;
    return PL_OK;
}

enum pl_err db_stmt_run(struct db_tx *tx, const struct db_stmt *st, const struct db_param *params, unsigned nparams, size_t max_rows, void **ret_rows, int64_t *ret_n)
{
    (void)tx, (void)nparams, (void)max_rows;
    PL_LOCK(&story_lock);
    if (strcmp(st->name, "limit_take") == 0)
        return bucket_take(params, ret_rows, ret_n);
    struct kept *k = kept_find(params[1].v.s);
    *ret_n = 0;
    if (strcmp(st->name, "http_idempotency_take") == 0 && !k) {
        k = &kept[nkept++ % PL_COUNT(kept)];
        memcpy(k->key, params[1].v.s.p, 32);
        memcpy(k->request, params[2].v.s.p, 32);
        kept_waits = true;
        *ret_n = 1;
    } else if (strcmp(st->name, "http_idempotency_keep") == 0) {
        assert_true(params[2].v.s.n <= sizeof k->answer);
        k->n = params[2].v.s.n;
        memcpy(k->answer, params[2].v.s.p, k->n);
        *ret_n = 1;
    } else if (strcmp(st->name, "http_idempotency_drop") == 0) {
        nkept--;
        kept_waits = false;
    } else if (strcmp(st->name, "http_idempotency_find") == 0 && k) {
        static _Thread_local struct pl_str row[2];
        row[0] = (struct pl_str){ k->request, 32 };
        row[1] = (struct pl_str){ k->answer, k->n };
        *ret_rows = row;
        *ret_n = 1;
    }
    return PL_OK;
}

enum pl_err db_commit(struct db_tx **tx)
{
    pthread_mutex_lock(&story_lock);
    enum pl_err e = commits[ncommits++ % PL_COUNT(commits)];
    pthread_mutex_unlock(&story_lock);
    settle(e == PL_OK);
    *tx = NULL;
    tell(e == PL_OK ? "commit" : "commit-failed");
    return e;
}
void db_rollbackp(struct db_tx **tx)
{
    if (*tx) {
        settle(false);
        tell("rollback");
    }
    *tx = NULL;
}
enum pl_err db_run(struct db *db, struct pl_arena *a, enum pl_err (*fn)(struct db_tx *tx, void *arg, struct pl_fail *reterr), void *arg, struct pl_fail *reterr)
{
    (void)db, (void)a;
    enum pl_err e = fn(&the_tx, arg, reterr);
    settle(e == PL_OK);
    return e;
}

enum pl_err db_look(struct db *db, struct pl_arena *a, enum pl_err (*fn)(struct db_tx *tx, void *arg, struct pl_fail *reterr), void *arg, struct pl_fail *reterr)
{
    (void)db, (void)a;
    return fn(&the_tx, arg, reterr);
}
