#include "node_jobs.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAX_JOBS 16
#define TICK_MS 200
#define JOB_ARENA (1 << 20)

static struct pl_metric metrics[] = {
    PL_METRIC_COUNTER("porchlight_job_runs_total", "Jobs that ran."),
    PL_METRIC_COUNTER("porchlight_job_failures_total", "Jobs that failed; they come again."),
};
enum { M_RUNS, M_FAILURES };

struct node_runner {
    struct node *node;
    const struct node_job *jobs;
    const struct pl_log *log;
    const struct pl_clock *clock;
    struct db *db;
    struct pl_arena *arena;
    struct bus_watch *watch;
    int wake;      /* eventfd: a nudge, or the end */
    bool stopping; /* atomic */
    pthread_t thread;
    bool started;
    struct pl_mono next[MAX_JOBS];
};

static void on_nudge(void *self, const char *subject)
{
    struct node_runner *r = self;
    uint64_t one = 1;
    (void)subject;
    ssize_t done = write(r->wake, &one, sizeof one);
    (void)done; /* full means awake */
}

void node_runner_wake(struct node_runner *r) { on_nudge(r, ""); }

/* Runs a job until it has no more to do. */
static void run_job(struct node_runner *r, const struct node_job *job)
{
    bool again = true;
    while (again && !__atomic_load_n(&r->stopping, __ATOMIC_ACQUIRE)) {
        again = false;
        enum pl_err e = job->run(r->node, r->db, r->arena, &again);
        pl_arena_reset(r->arena);
        pl_count(&metrics[M_RUNS], 1);
        if (e == PL_OK)
            continue;
        pl_count(&metrics[M_FAILURES], 1);
        PL_LOG(r->log, e == PL_UNAVAILABLE ? PL_WARN : PL_ERROR, "job.failed", PL_F_Z("job", job->name), PL_F_ERR(e));
        return;
    }
}

static void *loop(void *arg)
{
    struct node_runner *r = arg;
    while (!__atomic_load_n(&r->stopping, __ATOMIC_ACQUIRE)) {
        struct pollfd p = { .fd = r->wake, .events = POLLIN };
        uint64_t count;
        bool nudged = poll(&p, 1, TICK_MS) > 0 && read(r->wake, &count, sizeof count) > 0;
        for (size_t i = 0; r->jobs[i].name; i++) {
            struct pl_mono now = pl_now_mono(r->clock);
            if (!(nudged && r->jobs[i].nudged) && pl_mono_cmp(now, r->next[i]) < 0)
                continue;
            run_job(r, &r->jobs[i]);
            r->next[i] = pl_mono_add(now, r->jobs[i].every_us);
        }
    }
    return NULL;
}

struct node_runner *node_runner_stop(struct node_runner *r)
{
    if (!r)
        return NULL;
    __atomic_store_n(&r->stopping, true, __ATOMIC_RELEASE);
    r->watch = bus_unwatch(r->watch);
    if (r->started) {
        node_runner_wake(r);
        pthread_join(r->thread, NULL);
    }
    r->db = db_close(r->db);
    r->arena = pl_arena_free(r->arena);
    if (r->wake >= 0)
        close(r->wake);
    return pl_heap_free(r);
}

enum pl_err node_runner_start(struct node *node, const struct node_job *jobs, struct bus *bus, const char *subject, const struct db_conf *db, const struct pl_log *log,
                              struct node_runner **ret)
{
    struct node_runner *r = pl_heap(sizeof *r);
    if (!r)
        return PL_NO_MEMORY;
    pl_metrics_register(metrics, PL_COUNT(metrics));
    *r = (struct node_runner){ .node = node, .jobs = jobs, .log = log, .clock = db->clock, .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .arena = pl_arena_new(JOB_ARENA) };
    enum pl_err e = r->wake >= 0 && r->arena ? db_open(db, &r->db) : PL_NO_MEMORY;
    if (e == PL_OK && subject)
        e = bus_watch(bus, subject, on_nudge, r, &r->watch);
    if (e == PL_OK) {
        r->started = pthread_create(&r->thread, NULL, loop, r) == 0;
        e = r->started ? PL_OK : PL_NO_MEMORY;
    }
    if (e != PL_OK) {
        node_runner_stop(r);
        return e;
    }
    pthread_setname_np(r->thread, "jobs");
    *ret = r;
    return PL_OK;
}
