/* A private nats-server on a free loopback port, for tests of the bus. It dies with the test. A machine without the program fails the test: see deploy/install-packages. */
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NATS_TOKEN "of-the-test"

struct nats_server {
    pid_t pid;
    unsigned port;
    char url[64];
};

static inline int nats_socket(unsigned port, struct sockaddr_in *ret)
{
    *ret = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static inline unsigned nats_free_port(void)
{
    struct sockaddr_in sa;
    socklen_t n = sizeof sa;
    int fd = nats_socket(0, &sa);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0 || getsockname(fd, (struct sockaddr *)&sa, &n) != 0)
        abort();
    close(fd);
    return ntohs(sa.sin_port);
}

static inline bool nats_listens(unsigned port)
{
    struct sockaddr_in sa;
    int fd = nats_socket(port, &sa);
    bool yes = fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0;
    close(fd);
    return yes;
}

/* Starts it; the second time on the same port. Returns when it listens. */
static inline void nats_start_with(struct nats_server *s, const char *token)
{
    char port[8];
    if (!s->port)
        s->port = nats_free_port();
    snprintf(port, sizeof port, "%u", s->port);
    snprintf(s->url, sizeof s->url, "nats://127.0.0.1:%u", s->port);
    s->pid = fork();
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(126);
        execlp("nats-server", "nats-server", "-a", "127.0.0.1", "-p", port, "--auth", token, (char *)NULL);
        _exit(127);
    }
    for (int tries = 0; !nats_listens(s->port); tries++) {
        if (tries == 2000 || waitpid(s->pid, NULL, WNOHANG) == s->pid) {
            fprintf(stderr, "nats-server did not start\n");
            abort();
        }
        poll(NULL, 0, 10);
    }
}

static inline void nats_start(struct nats_server *s) { nats_start_with(s, NATS_TOKEN); }

static inline void nats_kill(struct nats_server *s)
{
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
}
