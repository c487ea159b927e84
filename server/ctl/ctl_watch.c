#include "ctl_demo.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACK_WAIT (20 * PL_SECOND)

static enum pl_err pause_watch(void *arg)
{
    (void)arg;
    return poll(NULL, 0, 100) == 0 ? PL_OK : PL_EXPIRED; /* a signal ends the wait */
}

/* Runs the viewer with the session on its stdin; it ends by itself or by Ctrl-C, which reaches it too. */
static enum pl_err view(struct ctl *c, struct pl_str srtp, struct pl_fail *reterr)
{
    const char *argv[10] = { 0 };
    int n = 0, fds[2], status = 0;
    enum pl_err e = ctl_program(c->arena, "porchlight-watch", &argv[n++], reterr);
    if (e != PL_OK)
        return e;
    if (c->out) {
        argv[n++] = "--out";
        argv[n++] = c->out;
    }
    if (c->seconds) {
        argv[n++] = "--seconds";
        argv[n++] = c->seconds;
    }
    if (pipe2(fds, O_CLOEXEC) != 0)
        return pl_fail(reterr, PL_IO, "No pipe: %s.", strerror(errno));
    bool sent = write(fds[1], srtp.p, srtp.n) == (ssize_t)srtp.n && write(fds[1], "\n", 1) == 1; /* far less than a pipe holds */
    close(fds[1]);
    signal(SIGINT, SIG_IGN); /* it is the viewer's to end; then the live session is ended here */
    pid_t pid = sent ? fork() : -1;
    if (pid == 0) {
        signal(SIGINT, SIG_DFL);
        dup2(fds[0], 0);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(fds[0]);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return pl_fail(reterr, PL_IO, "porchlight-watch cannot be started: %s.", strerror(errno));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return pl_fail(reterr, PL_UNAVAILABLE, "porchlight-watch ended with %s %d.", WIFEXITED(status) ? "exit code" : "signal",
                       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    return PL_OK;
}

/* What is started again after a fall, or is still starting, is back within seconds: worth a wait, since the person at the terminal would do the same by hand. */
static bool passes(enum pl_err e)
{
    return e == PL_UNAVAILABLE || e == PL_HUB_OFFLINE || e == PL_NO_RELAY || e == PL_RELAY_TIMEOUT;
}

static enum pl_err start_live(struct demo *d, struct rest *r, struct rest_answer *ret_live, struct pl_fail *reterr)
{
    struct pl_mono end = pl_mono_add(pl_now_mono(&pl_clock_system), BACK_WAIT);
    char path[160];
    bool said = false;
    snprintf(path, sizeof path, "/v1/devices/%.*s/live", PL_FMT(d->camera_id));
    for (;;) {
        struct pl_fail why = PL_FAIL_INIT;
        enum pl_err e = r->token ? PL_OK : demo_sign_in(d, r, &why);
        if (e == PL_OK)
            e = rest_call(r, "POST", path, ret_live, &why, "{\"transport\":\"srtp\"}");
        if (!passes(e) || pl_mono_cmp(pl_now_mono(&pl_clock_system), end) > 0 || r->pause(r->pause_arg) != PL_OK) {
            if (e != PL_OK && reterr)
                *reterr = why;
            return e;
        }
        if (!said)
            ctl_say("%s Waiting for it, 20 seconds at most.", why.detail[0] ? why.detail : pl_err_table[e].sentence);
        said = true;
    }
}

enum pl_err ctl_demo_watch(struct ctl *c, struct pl_fail *reterr)
{
    struct demo_there t;
    struct rest_answer live = { 0 }, ended = { 0 };
    char path[160];
    enum pl_err e = demo_find(c, &t, reterr);
    if (e != PL_OK)
        return e;
    t.rest.pause = pause_watch;
    e = start_live(&t.demo, &t.rest, &live, reterr);
    if (e == PL_OK && !live.srtp.n)
        e = pl_fail(reterr, PL_UNAVAILABLE, "The server gave no SRTP session.");
    if (e != PL_OK)
        return e;
    if (!c->out && !getenv("DISPLAY") && !getenv("WAYLAND_DISPLAY"))
        ctl_say("There is no display here, so nothing is shown; --out DIR writes pictures and sound there. Frames are counted until %s.", c->seconds ? "the time is over" : "Ctrl-C");
    e = view(c, live.srtp, reterr);
    snprintf(path, sizeof path, "/v1/live/%.*s", PL_FMT(live.live_id));
    (void)!rest_call(&t.rest, "DELETE", path, &ended, NULL, NULL); /* it ends by itself too, when nobody watches */
    return e;
}
