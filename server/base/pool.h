/* pool.h - a bounded pool of worker threads, on which HTTP and link handlers run as straight-line code.
 *
 * Each worker owns one `state` (a database connection), made by `start` on its own thread. The queue has a ceiling: pool_submit refuses with
 * PL_OVERLOADED instead of waiting. Jobs given the same `lane` (not 0) run in the order given and never at the same time.
 *     e = pl_pool_new(&(struct pl_pool_conf){ .threads = 8, .queue = 1024, .start = open_db, .stop = close_db, .self = node }, &pool);
 *     e = pl_pool_submit(pool, (struct pl_job){ run_request, request, 0 });
 */
#pragma once
#include "mem.h"

struct pl_pool;
struct pl_job {
    void (*run)(void *arg, void *state); /**< must not block without a deadline */
    void *arg;
    uint64_t lane; /**< 0: none */
};
struct pl_pool_conf {
    unsigned threads; /**< 1..64 */
    unsigned queue;   /**< jobs that may wait */
    void *(*start)(void *self, unsigned worker); /**< on the worker's thread; may be NULL; its result is `state` */
    void (*stop)(void *self, void *state);       /**< on the worker's thread, at the end */
    void *self;
    int nice;         /**< 0..19: how far its threads stand back when processors are short; work that costs much, and for which nobody must wait */
    const char *name; /**< at most 10 bytes; the threads are called so */
};
PL_MUST enum pl_err pl_pool_new(const struct pl_pool_conf *conf, struct pl_pool **ret);
/* Any thread. PL_OVERLOADED when the queue is full or the pool is stopping. */
PL_MUST enum pl_err pl_pool_submit(struct pl_pool *p, struct pl_job job);
/* Jobs waiting and running. */
unsigned pl_pool_load(struct pl_pool *p);
/* Refuses new jobs, finishes what is queued, joins the threads, frees. Takes NULL; returns NULL. */
struct pl_pool *pl_pool_free(struct pl_pool *p);
