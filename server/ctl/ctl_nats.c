#include "ctl_nats.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static enum pl_err find(struct pl_arena *a, const char **ret, struct pl_fail *reterr)
{
    const char *path = getenv("PATH");
    struct pl_str rest = pl_str_of(path ? path : "");
    struct pl_str dir = PL_STR("/usr/sbin");
    for (;;) {
        const char *program = pl_fmt(a, "%.*s/nats-server", PL_FMT(dir)).p;
        if (program && access(program, X_OK) == 0) {
            *ret = program;
            return PL_OK;
        }
        if (!rest.n)
            break;
        dir = pl_str_split(rest, ':', &rest);
    }
    return pl_fail(reterr, PL_NOT_FOUND, "nats-server is missing, and several nodes need it: install the package nats-server (deploy/install-packages test does it).");
}

static struct sockaddr_in loopback(unsigned port) { return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) } }; }

/* One that is free now. Somebody else may take it before nats-server does; then that says so and `up` ends. */
static enum pl_err free_port(unsigned *ret, struct pl_fail *reterr)
{
    struct sockaddr_in at = loopback(0);
    socklen_t n = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && getsockname(fd, (struct sockaddr *)&at, &n) == 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (!ok)
        return pl_fail(reterr, PL_IO, "There is no free port for nats-server: %s.", strerrordesc_np(why));
    *ret = ntohs(at.sin_port);
    return PL_OK;
}

static bool listens(const struct proc *p, void *arg)
{
    const struct nats *n = arg;
    struct sockaddr_in at = loopback(n->port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)p;
    bool yes = fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0;
    if (fd >= 0)
        close(fd);
    return yes;
}

/* `ret` stays where it is: the row's probe looks at it. */
enum pl_err nats_prepare(const struct ctl_paths *paths, struct pl_arena *a, struct nats *ret, struct pl_fail *reterr)
{
    uint8_t raw[32];
    const char *program = NULL;
    *ret = (struct nats){ .proc = { .name = "nats-server", .log = pl_fmt(a, "%s/nats-server.log", paths->log).p, .stop_signal = SIGTERM, .at_once = true } };
    enum pl_err e = find(a, &program, reterr);
    if (e == PL_OK)
        e = free_port(&ret->port, reterr);
    if (e != PL_OK)
        return e;
    pl_rand_fill(&pl_rand_system, raw, sizeof raw);
    struct pl_str token = pl_hex(a, raw, sizeof raw), conf = pl_fmt(a, "listen: 127.0.0.1:%u\nauthorization { token: \"%.*s\" }\n", ret->port, PL_FMT(token));
    const char *conf_file = pl_fmt(a, "%s/nats.conf", paths->keys).p;
    ret->token_file = pl_fmt(a, "%s/nats.token", paths->keys).p;
    ret->url = pl_fmt(a, "nats://127.0.0.1:%u", ret->port).p;
    if (pl_arena_err(a) != PL_OK)
        return PL_NO_MEMORY;
    e = ctl_write(a, ret->token_file, token, reterr);
    if (e == PL_OK)
        e = ctl_write(a, conf_file, conf, reterr);
    if (e != PL_OK)
        return e;
    proc_arg(&ret->proc, program);
    proc_arg(&ret->proc, "-c");
    proc_arg(&ret->proc, conf_file);
    ret->proc.probe = listens;
    ret->proc.probe_arg = ret;
    return PL_OK;
}
