#include "ctl_proc.h"
#include "ctl.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_BACKOFF (100 * PL_MS)
#define MOST_BACKOFF (5 * PL_SECOND)
#define PROVEN (10 * PL_SECOND)
#define PROBE_EVERY (20 * PL_MS)
#define FIRST_HANDED_FD 10
#define MOST_LOG (16 << 20)
#define STOPPED "Stopped before it was ready."

enum pl_err sup_init(struct sup *s, const struct pl_clock *clock, struct pl_fail *reterr)
{
    sigset_t set;
    *s = (struct sup){ .clock = clock };
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0 || (s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return pl_fail(reterr, PL_IO, "Signals cannot be read: %s.", strerror(errno));
    return PL_OK;
}

void proc_arg(struct proc *p, const char *arg)
{
    if (p->n_args + 1 >= PROC_ARGS || !arg)
        abort();
    p->argv[p->n_args++] = arg;
    p->argv[p->n_args] = NULL;
}

/* One file a process; a large one is kept once as .1, so that a machine that runs for a year does not fill up. */
static int open_log(const char *path)
{
    struct stat st;
    char old[4096];
    if (stat(path, &st) == 0 && st.st_size > MOST_LOG && snprintf(old, sizeof old, "%s.1", path) < (int)sizeof old)
        (void)!rename(path, old);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void in_child(const struct proc *p, pid_t parent, int in, int out, int err)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0);
    if ((p->uid || p->gid) && geteuid() == 0 && (setgroups(0, NULL) != 0 || setgid(p->gid) != 0 || setuid(p->uid) != 0))
        _exit(126);
    /* After setuid, which clears it. The parent may have died before: then nobody would ever tell us. */
    prctl(PR_SET_PDEATHSIG, p->stop_signal ? p->stop_signal : SIGTERM);
    if (getppid() != parent)
        _exit(125);
    dup2(in, 0);
    dup2(out, 1);
    dup2(err, 2);
    for (int i = 0; i < 2; i++)
        if (p->fds[i] > 0)
            dup2(p->fds[i], FIRST_HANDED_FD + i);
    if (p->uid || p->gid) {
        setenv("HOME", "/", 1);
        if (chdir("/") != 0)
            _exit(126);
    }
    execv(p->argv[0], (char *const *)p->argv);
    dprintf(2, "%s cannot be run: %s\n", p->argv[0], strerror(errno));
    _exit(127);
}

static pid_t spawn(const struct proc *p, int in, int out, int err)
{
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        in_child(p, parent, in, out, err);
    return pid;
}

/* The last line of the log that is not empty: what a process said when it could not start. */
static void last_words(const char *path, char *out, size_t cap)
{
    char tail[2048];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t end = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    ssize_t n = fd >= 0 ? pread(fd, tail, sizeof tail, end > (off_t)sizeof tail ? end - (off_t)sizeof tail : 0) : 0;
    if (fd >= 0)
        close(fd);
    struct pl_str t = pl_str_trim((struct pl_str){ tail, n > 0 ? (size_t)n : 0 });
    const char *nl = t.n ? memrchr(t.p, '\n', t.n) : NULL;
    if (nl)
        t = (struct pl_str){ nl + 1, t.n - (size_t)(nl + 1 - t.p) };
    snprintf(out, cap, "%.*s", PL_FMT(t));
}

/* One that cannot come back (a full disk) dies again and again: from the second time on with its reason. */
static void say_death(const struct proc *p, int status)
{
    char words[120] = "";
    const char *how = WIFSIGNALED(status) ? "signal" : "exit";
    int number = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    if (p->deaths > 1)
        last_words(p->log, words, sizeof words);
    ctl_say("%s ended (%s %d); it is started again.%s%s%s%s", p->name, how, number, words[0] ? " It said: " : "", words, words[0] ? " … more in " : " Its log: ", p->log);
}

static void died(struct sup *s, struct proc *p, int status)
{
    struct pl_mono now = pl_now_mono(s->clock);
    if (p->out >= 0)
        close(p->out);
    if (p->ready && pl_mono_sub(now, p->since) > PROVEN)
        p->deaths = 0;
    int64_t wait = p->at_once && p->deaths == 0 ? 0 : FIRST_BACKOFF;
    for (int i = 1; i < p->deaths && wait < MOST_BACKOFF; i++)
        wait *= 2;
    p->again = pl_mono_add(now, wait < MOST_BACKOFF ? wait : MOST_BACKOFF);
    p->out = -1;
    p->pid = 0;
    p->ready = false;
    p->status = status;
    p->deaths++;
    if (!p->ready_line[0] && p->deaths > p->retries_at_start)
        p->given_up = true;
    else if (!s->stopping && p->ready_line[0])
        say_death(p, status);
}

static void launch(struct sup *s, struct proc *p)
{
    int pipe_fds[2] = { -1, -1 }, log = open_log(p->log), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    p->since = pl_now_mono(s->clock);
    p->line_n = 0;
    p->out = -1;
    if (log >= 0 && null >= 0 && pipe2(pipe_fds, O_CLOEXEC) == 0)
        p->pid = spawn(p, null, pipe_fds[1], log);
    if (p->pid > 0) {
        p->out = pipe_fds[0];
        fcntl(p->out, F_SETFL, O_NONBLOCK);
    } else {
        if (pipe_fds[0] >= 0)
            close(pipe_fds[0]);
        died(s, p, 126 << 8);
    }
    if (pipe_fds[1] >= 0)
        close(pipe_fds[1]);
    if (null >= 0)
        close(null);
    if (log >= 0)
        close(log);
}

static void is_ready(struct sup *s, struct proc *p, struct pl_str line)
{
    size_t n = line.n < sizeof p->ready_line ? line.n : sizeof p->ready_line - 1;
    memcpy(p->ready_line, line.p, n);
    p->ready_line[n] = '\0';
    p->ready = true;
    p->since = pl_now_mono(s->clock);
    if (p->on_ready)
        p->on_ready(p, p->on_ready_arg);
}

static void read_out(struct sup *s, struct proc *p)
{
    struct pl_str mark = pl_str_of(p->mark ? p->mark : "{\"ready\":true");
    ssize_t n = read(p->out, p->line + p->line_n, sizeof p->line - p->line_n);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) { /* its end; SIGCHLD tells the rest */
        close(p->out);
        p->out = -1;
    }
    if (n <= 0)
        return;
    p->line_n += (size_t)n;
    for (;;) {
        char *end = memchr(p->line, '\n', p->line_n);
        if (!end)
            break;
        struct pl_str line = { p->line, (size_t)(end - p->line) };
        if (!p->ready && !p->probe && pl_str_starts(line, mark))
            is_ready(s, p, line);
        p->line_n -= line.n + 1;
        memmove(p->line, end + 1, p->line_n);
    }
    if (p->line_n == sizeof p->line) /* no line is that long: forget it */
        p->line_n = 0;
}

static void reap(struct sup *s)
{
    for (int i = 0; i < s->n; i++) {
        struct proc *p = s->procs[i];
        int status;
        /* What it said last stands in the pipe still. */
        if (p->pid > 0 && waitpid(p->pid, &status, WNOHANG) == p->pid) {
            if (p->out >= 0)
                read_out(s, p);
            died(s, p, status);
        }
    }
}

static void read_signals(struct sup *s)
{
    struct signalfd_siginfo si;
    while (read(s->signals, &si, sizeof si) == (ssize_t)sizeof si)
        if (si.ssi_signo != SIGCHLD)
            s->stop_signals++;
    reap(s);
}

/* Starts what is due, asks the probes; returns how long nothing else is due. */
static int64_t due(struct sup *s, int64_t at_most)
{
    struct pl_mono now = pl_now_mono(s->clock);
    for (int i = 0; i < s->n; i++) {
        struct proc *p = s->procs[i];
        if (!p->pid && !p->given_up && !s->stopping) {
            int64_t wait = pl_mono_sub(p->again, now);
            if (wait <= 0)
                launch(s, p);
            else if (wait < at_most)
                at_most = wait;
        }
        if (p->pid && !p->ready && p->probe) {
            if (p->probe(p, p->probe_arg)) {
                is_ready(s, p, PL_STR("{\"ready\":true}"));
                at_most = 0; /* somebody waits for it */
            } else if (at_most > PROBE_EVERY)
                at_most = PROBE_EVERY;
        }
    }
    return at_most;
}

void sup_step(struct sup *s, int64_t at_most_us)
{
    struct pollfd fds[SUP_PROCS + 1] = { { .fd = s->signals, .events = POLLIN } };
    int64_t wait = due(s, at_most_us);
    for (int i = 0; i < s->n; i++)
        fds[i + 1] = (struct pollfd){ .fd = s->procs[i]->out, .events = POLLIN };
    int n = poll(fds, (nfds_t)s->n + 1, (int)((wait + PL_MS - 1) / PL_MS));
    if (n <= 0)
        return;
    for (int i = 0; i < s->n; i++)
        if (fds[i + 1].revents && s->procs[i]->out == fds[i + 1].fd)
            read_out(s, s->procs[i]);
    if (fds[0].revents)
        read_signals(s);
}

static enum pl_err did_not_start(const struct proc *p, const char *how, struct pl_fail *reterr)
{
    char words[120];
    last_words(p->log, words, sizeof words);
    return pl_fail(reterr, PL_UNAVAILABLE, "%s %s: %s", p->name, how, words[0] ? words : "it said nothing.");
}

enum pl_err sup_start(struct sup *s, struct proc *p, int64_t within_us, struct pl_fail *reterr)
{
    struct pl_mono end = pl_mono_add(pl_now_mono(s->clock), within_us);
    if (s->n == SUP_PROCS)
        return PL_NO_MEMORY;
    p->pid = 0;
    p->out = -1;
    p->ready = p->given_up = false;
    p->deaths = 0;
    p->ready_line[0] = '\0';
    p->again = pl_now_mono(s->clock);
    s->procs[s->n++] = p;
    while (!p->ready) {
        if (p->given_up)
            return did_not_start(p, "did not start", reterr);
        if (sup_stop_wanted(s))
            return pl_fail(reterr, PL_EXPIRED, STOPPED);
        int64_t left = pl_mono_sub(end, pl_now_mono(s->clock));
        if (left <= 0)
            return did_not_start(p, "was not ready in time", reterr);
        sup_step(s, left);
    }
    return PL_OK;
}

/* Waits for its end, at most so long; true: it has ended. */
static bool wait_end(struct sup *s, struct proc *p, int64_t at_most)
{
    struct pl_mono end = pl_mono_add(pl_now_mono(s->clock), at_most);
    int asked = s->stop_signals;
    while (p->pid) {
        int64_t left = pl_mono_sub(end, pl_now_mono(s->clock));
        if (left <= 0 || s->stop_signals > asked)
            return false;
        sup_step(s, left);
    }
    return true;
}

void sup_stop(struct sup *s, struct proc *p)
{
    bool was = s->stopping;
    s->stopping = true;
    if (p->pid) {
        kill(p->pid, p->stop_signal ? p->stop_signal : SIGTERM);
        if (!wait_end(s, p, p->stop_grace ? p->stop_grace : 5 * PL_SECOND) && p->pid) {
            ctl_say("%s does not end; it is killed.", p->name);
            kill(p->pid, SIGKILL);
            (void)wait_end(s, p, 5 * PL_SECOND);
        }
    }
    for (int i = 0; i < s->n; i++)
        if (s->procs[i] == p) {
            memmove(&s->procs[i], &s->procs[i + 1], (size_t)(s->n - i - 1) * sizeof s->procs[0]);
            s->n--;
        }
    s->stopping = was;
}

void sup_stop_all(struct sup *s)
{
    s->stopping = true;
    while (s->n)
        sup_stop(s, s->procs[s->n - 1]);
    close(s->signals);
}

static enum pl_err run_to_end(struct sup *s, struct proc *p, int in, int64_t within_us, struct pl_fail *reterr)
{
    int log = open_log(p->log);
    if (log < 0)
        return pl_fail(reterr, PL_IO, "%s cannot be written: %s.", p->log, strerror(errno));
    p->out = -1;
    p->probe = NULL;
    p->ready_line[0] = 'x'; /* it need not tell that it is ready */
    p->pid = spawn(p, in, log, log);
    close(log);
    if (p->pid <= 0)
        return pl_fail(reterr, PL_IO, "%s cannot be started: %s.", p->name, strerror(errno));
    s->procs[s->n++] = p;
    bool was = s->stopping;
    s->stopping = true;
    bool ended = wait_end(s, p, within_us);
    s->stopping = was;
    sup_stop(s, p);
    if (ended && WIFEXITED(p->status) && WEXITSTATUS(p->status) == 0)
        return PL_OK;
    if (!ended && sup_stop_wanted(s))
        return pl_fail(reterr, PL_EXPIRED, STOPPED);
    return did_not_start(p, ended ? "failed" : "took too long", reterr);
}

enum pl_err proc_run(struct sup *s, struct proc *p, struct pl_str input, int64_t within_us, struct pl_fail *reterr)
{
    int fds[2];
    if (s->n == SUP_PROCS)
        return PL_NO_MEMORY;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return pl_fail(reterr, PL_IO, "No pipe: %s.", strerror(errno));
    /* Inputs are smaller than a pipe's buffer, so this does not block. */
    bool sent = !input.n || write(fds[1], input.p, input.n) == (ssize_t)input.n;
    close(fds[1]);
    enum pl_err e = sent ? run_to_end(s, p, fds[0], within_us, reterr) : PL_IO;
    close(fds[0]);
    return e;
}
