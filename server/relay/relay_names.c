#include "relay_names.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MS 3000
#define ANSWER (1 + RELAY_NAMES_MOST * LINK_ADDRESS) /* how many, then addresses of LINK_ADDRESS bytes each */

static bool is_address(const char *host)
{
    struct in6_addr any;
    return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

/* ---- The process that looks up. */

static size_t look_up(const char *host, uint8_t *out)
{
    struct addrinfo want = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *found = NULL;
    size_t n = 0;
    if (getaddrinfo(host, NULL, &want, &found) != 0)
        return 0;
    for (const struct addrinfo *f = found; f && n < RELAY_NAMES_MOST; f = f->ai_next) {
        char text[LINK_ADDRESS] = "";
        if (getnameinfo(f->ai_addr, f->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
            memcpy(out + n++ * LINK_ADDRESS, text, sizeof text);
    }
    freeaddrinfo(found);
    return n;
}

_Noreturn static void serve(int fd, const char *host, pid_t relay)
{
    const struct rlimit none = { 0, 0 };
    uint8_t question, answer[ANSWER];
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    /* The relay's stdout is not ours to hold open. Of the rest: as good as it gets, nothing secret is in here. */
    bool alone = nowhere >= 0 && dup2(nowhere, STDIN_FILENO) >= 0 && dup2(nowhere, STDOUT_FILENO) >= 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
                 prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && prctl(PR_SET_NAME, "relay-names") == 0 &&
                 setrlimit(RLIMIT_CORE, &none) == 0 && getppid() == relay;
    while (alone && recv(fd, &question, 1, 0) == 1) { /* 0: the relay is gone */
        size_t n = look_up(host, answer + 1);
        answer[0] = (uint8_t)n;
        if (send(fd, answer, 1 + n * LINK_ADDRESS, MSG_NOSIGNAL) < 0)
            break;
    }
    _exit(0);
}

enum pl_err relay_names_start(const char *url, struct relay_names *ret, struct pl_fail *reterr)
{
    struct link_url at;
    int pair[2];
    enum pl_err e = link_url_read(pl_str_of(url), &at, reterr);
    if (e != PL_OK)
        return e;
    *ret = (struct relay_names){ .fd = -1 };
    if (is_address(at.host)) {
        memcpy(ret->addresses[0], at.host, strlen(at.host) + 1);
        ret->n = 1;
        return PL_OK;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return pl_fail(reterr, PL_UNAVAILABLE, "the process that looks up names cannot be started: %m");
    pid_t relay = getpid();
    (void)signal(SIGCHLD, SIG_IGN); /* the kernel buries it */
    pid_t child = fork();
    if (child == 0) {
        close(pair[0]);
        serve(pair[1], at.host, relay);
    }
    close(pair[1]);
    if (child < 0) {
        close(pair[0]);
        return pl_fail(reterr, PL_UNAVAILABLE, "the process that looks up names cannot be started: %m");
    }
    ret->fd = pair[0];
    return PL_OK;
}

/* ---- The relay's side. */

/* Nothing found: what was known stays. */
static void take(struct relay_names *s, int wait_ms)
{
    uint8_t answer[ANSWER];
    struct pollfd p = { .fd = s->fd, .events = POLLIN };
    if (poll(&p, 1, wait_ms) <= 0)
        return;
    ssize_t n = recv(s->fd, answer, sizeof answer, MSG_DONTWAIT);
    if (n < 1)
        return;
    s->asked = false;
    if (n >= 1 + LINK_ADDRESS) {
        s->n = (unsigned)(n - 1) / LINK_ADDRESS;
        memcpy(s->addresses, answer + 1, (size_t)s->n * LINK_ADDRESS);
    }
}

/* One question at a time: a name server that is slower than the tries come would never be done with them. An answer that came since is taken, and asked for anew. */
static void ask(struct relay_names *s)
{
    static const uint8_t question = 0;
    if (s->asked)
        take(s, 0);
    if (!s->asked)
        s->asked = send(s->fd, &question, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
    if (s->asked)
        take(s, ANSWER_MS);
}

bool relay_names_next(struct relay_names *s, char ret_address[LINK_ADDRESS])
{
    if (s->fd >= 0)
        ask(s);
    if (s->n == 0)
        return false;
    const char *address = s->addresses[s->turn++ % s->n];
    memcpy(ret_address, address, LINK_ADDRESS);
    ret_address[LINK_ADDRESS - 1] = 0;
    return true;
}

void relay_names_stop(struct relay_names *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}
