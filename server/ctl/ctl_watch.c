#include "ctl_check.h"
#include "ctl_demo.h"
#include "json.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static enum pl_err pause_watch(void *arg)
{
    (void)arg;
    return poll(NULL, 0, 100) == 0 ? PL_OK : PL_EXPIRED; /* a signal ends the wait */
}

static enum pl_err find_server(struct ctl *c, const struct ctl_paths *p, const char **ret_http, struct pl_fail *reterr)
{
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    struct pl_str text;
    if (ctl_read(c->arena, p->ready, 65536, &text, NULL) != PL_OK || json_parse(text, &d, NULL) != PL_OK || !json_doc_str(d, "http").n)
        return pl_fail(reterr, PL_UNAVAILABLE, "Porchlight does not run in %s (start it: porchctl --dir %s up --demo).", c->dir, c->dir);
    *ret_http = check_dial(c->arena, pl_str_z(c->arena, json_doc_str(d, "http")));
    return PL_OK;
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

enum pl_err ctl_demo_watch(struct ctl *c, struct pl_fail *reterr)
{
    struct ctl_paths p;
    struct demo d;
    struct rest r = { .c = c, .pause = pause_watch };
    struct rest_answer live = { 0 }, ended = { 0 };
    char path[160];
    enum pl_err e = ctl_paths_of(c, &p, reterr);
    if (e == PL_OK)
        e = find_server(c, &p, &r.host, reterr);
    if (e == PL_OK && (demo_load(c, &p, &d, NULL) != PL_OK || !demo_complete(&d)))
        return pl_fail(reterr, PL_NOT_FOUND, "%s has no demo household (start it: porchctl --dir %s up --demo).", c->dir, c->dir);
    if (e == PL_OK)
        e = demo_sign_in(&d, &r, reterr);
    if (e != PL_OK)
        return e;
    snprintf(path, sizeof path, "/v1/devices/%.*s/live", PL_FMT(d.camera_id));
    e = rest_call(&r, "POST", path, &live, reterr, "{\"transport\":\"srtp\"}");
    if (e == PL_OK && !live.srtp.n)
        e = pl_fail(reterr, PL_UNAVAILABLE, "The server gave no SRTP session.");
    if (e != PL_OK)
        return e;
    e = view(c, live.srtp, reterr);
    snprintf(path, sizeof path, "/v1/live/%.*s", PL_FMT(live.live_id));
    (void)!rest_call(&r, "DELETE", path, &ended, NULL, NULL); /* it ends by itself too, when nobody watches */
    return e;
}
