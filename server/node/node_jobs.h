/* node_jobs.h - private to node/: work that nobody waits for, in rows: name, interval, function. A runner is one thread with one database connection that runs
 * its rows when their time has come, or at once after a nudge. A job that fails is logged and comes again at its next time; none may block without a deadline.
 */
#pragma once
#include "bus.h"
#include "db.h"

struct node;
struct node_job {
    const char *name;  /**< NULL ends a table */
    int64_t every_us;  /**< at the latest so long after its last run */
    bool nudged;       /**< a nudge of the runner's subject, or node_runner_wake, runs it at once */
    /* A transaction is not open: the job opens its own. *ret_again: there is more to do now. */
    enum pl_err (*run)(struct node *node, struct db *db, struct pl_arena *a, bool *ret_again);
};
struct node_runner;
/* `subject` may be NULL. */
PL_MUST enum pl_err node_runner_start(struct node *node, const struct node_job *jobs, struct bus *bus, const char *subject, const struct db_conf *db, const struct pl_log *log,
                                      struct node_runner **ret);
/* Runs the rows that may be nudged at once, as the nudge of a subject would. Any thread. */
void node_runner_wake(struct node_runner *r);
/* Ends after the job that runs. Takes NULL; returns NULL. */
struct node_runner *node_runner_stop(struct node_runner *r);
