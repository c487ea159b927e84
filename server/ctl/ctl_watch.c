#include "ctl_check.h"
#include "ctl_demo.h"
#include "json.h"
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

struct told_tls { struct pl_str ca, name; };
struct told { struct pl_str http; struct told_tls tls; };
static const struct json_field told_tls_fields[] = { JSON_F(struct told_tls, ca, J_STR, J_OPTIONAL), JSON_F(struct told_tls, name, J_STR, J_OPTIONAL), J_END };
static const struct json_field told_fields[] = { JSON_F(struct told, http, J_STR, J_REQUIRED), JSON_F(struct told, tls, J_OBJECT, J_OPTIONAL, .fields = told_tls_fields), J_END };

static enum pl_err find_server(struct ctl *c, const struct ctl_paths *p, struct rest *r, struct pl_fail *reterr)
{
    struct told t = { .http = PL_STR_NONE };
    struct pl_str text;
    if (ctl_read(c->arena, p->ready, 65536, &text, NULL) != PL_OK || json_take(told_fields, JSON_LENIENT, text, c->arena, &t, NULL) != PL_OK)
        return ctl_not_running(c, p, "up --demo", reterr);
    r->tls = t.tls.ca.p != NULL;
    r->ca_file = t.tls.ca.n ? pl_str_z(c->arena, t.tls.ca) : NULL;
    r->host = check_dial_name(c->arena, pl_str_z(c->arena, t.http), t.tls.name.n ? pl_str_z(c->arena, t.tls.name) : NULL);
    return r->host ? PL_OK : PL_NO_MEMORY;
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
    struct ctl_paths p;
    struct demo d;
    struct rest r = { .c = c, .pause = pause_watch };
    struct rest_answer live = { 0 }, ended = { 0 };
    char path[160];
    enum pl_err e = ctl_paths_of(c, &p, reterr);
    if (e == PL_OK)
        e = find_server(c, &p, &r, reterr);
    if (e == PL_OK && (demo_load(c, &p, &d, NULL) != PL_OK || !demo_complete(&d)))
        return pl_fail(reterr, PL_NOT_FOUND, "%s has no demo household: start it with one (porchctl up --demo).", c->dir);
    if (e == PL_OK)
        e = start_live(&d, &r, &live, reterr);
    if (e == PL_OK && !live.srtp.n)
        e = pl_fail(reterr, PL_UNAVAILABLE, "The server gave no SRTP session.");
    if (e != PL_OK)
        return e;
    if (!c->out && !getenv("DISPLAY") && !getenv("WAYLAND_DISPLAY"))
        ctl_say("There is no display here, so nothing is shown; --out DIR writes pictures and sound there. Frames are counted until %s.", c->seconds ? "the time is over" : "Ctrl-C");
    e = view(c, live.srtp, reterr);
    snprintf(path, sizeof path, "/v1/live/%.*s", PL_FMT(live.live_id));
    (void)!rest_call(&r, "DELETE", path, &ended, NULL, NULL); /* it ends by itself too, when nobody watches */
    return e;
}
