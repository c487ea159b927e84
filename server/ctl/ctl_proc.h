/* ctl_proc.h - keeps processes running: starts them, waits for their ready line, starts them again when they die, stops them in order.
 *
 * A process is a row: program, arguments, how it tells that it is ready, which signal ends it. It dies with porchctl (PR_SET_PDEATHSIG) and is in a process
 * group of its own, so that Ctrl-C reaches porchctl alone. One that dies is started again after 0.1 s, doubling to 5 s (`at_once`: first without waiting);
 * having been ready for 10 s clears that. Its stderr goes to its log file, its stdout is read here.
 * Not here: what the processes are (ctl_up.c).  Threads: one.  Memory: rows belong to the caller and stay.
 *     e = sup_start(&s, &row, 60 * PL_SECOND, reterr);      starts it and waits until it is ready
 *     while (!sup_stop_wanted(&s)) sup_step(&s, PL_SECOND);
 *     sup_stop_all(&s);
 */
#pragma once
#include "log.h"
#include <sys/types.h>

#define PROC_ARGS 192

struct proc {
    const char *name;             /**< for people: "porchlightd" */
    const char *argv[PROC_ARGS];  /**< NULL-terminated; argv[0] is the program's path */
    int n_args;
    const char *log;              /**< file that its stderr is appended to */
    uid_t uid;                    /**< run as; 0 with gid 0: as porchctl itself */
    gid_t gid;
    int fds[2];                   /**< handed on as descriptors 10 and 11 (20 or higher here); 0: none */
    int stop_signal;              /**< asks it to end */
    int64_t stop_grace;           /**< us from stop_signal to SIGKILL */
    bool at_once;                 /**< after a death the first start does not wait */
    int retries_at_start;         /**< how often it may die before it was ever ready */
    const char *mark;             /**< how the line on stdout begins that tells that it is ready; NULL: {"ready":true */
    /* Asked while it starts, when readiness is not told on stdout. NULL: the line. */
    bool (*probe)(const struct proc *p, void *arg);
    void *probe_arg;
    /* Called each time it is ready. */
    void (*on_ready)(struct proc *p, void *arg);
    void *on_ready_arg;

    /* run state: only ctl_proc.c writes it */
    pid_t pid;                    /**< 0: not running */
    int out;                      /**< its stdout, -1 */
    char line[4096];              /**< what stdout has told of the current line */
    size_t line_n;
    char ready_line[1024];        /**< the last ready line, NUL-terminated */
    bool ready;
    bool given_up;                /**< died while it first started, too often */
    int deaths;                   /**< in a row */
    struct pl_mono since;         /**< started, then: ready */
    struct pl_mono again;         /**< when it is started next */
    int status;                   /**< of the last death, as waitpid tells */
};

#define SUP_PROCS 24
struct sup {
    struct proc *procs[SUP_PROCS]; /**< in the order of their start */
    int n;
    int signals;                   /**< signalfd of SIGCHLD, SIGINT, SIGTERM, SIGHUP */
    int stop_signals;              /**< how many times somebody asked us to end */
    bool stopping;
    const struct pl_clock *clock;
};

PL_MUST enum pl_err sup_init(struct sup *s, const struct pl_clock *clock, struct pl_fail *reterr);
void proc_arg(struct proc *p, const char *arg); /* appends; arguments past PROC_ARGS abort: the rows are ours */

/* Starts it and waits. PL_UNAVAILABLE with the last line of its log when it dies or is not ready in time; PL_EXPIRED when a signal asked us to end meanwhile. */
PL_MUST enum pl_err sup_start(struct sup *s, struct proc *p, int64_t within_us, struct pl_fail *reterr);
/* Waits at most so long for something to happen, and handles it. */
void sup_step(struct sup *s, int64_t at_most_us);
static inline bool sup_stop_wanted(const struct sup *s) { return s->stop_signals > 0; }
/* Ends one process, in its time, and forgets it. */
void sup_stop(struct sup *s, struct proc *p);
/* Ends all, last started first. Returns when none is left. A second signal from the user cuts the waits short. */
void sup_stop_all(struct sup *s);

/* Runs a program to its end, stdout and stderr to the log; `input` to its stdin. PL_UNAVAILABLE with the log's last line when it fails or takes longer. */
PL_MUST enum pl_err proc_run(struct sup *s, struct proc *p, struct pl_str input, int64_t within_us, struct pl_fail *reterr);
