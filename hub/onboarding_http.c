#include "onboarding_http.h"
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 8, CONNECTIONS_ONE = 4, HEAD_BYTES = 8192, BACKLOG = 8 };
#define CONNECTION_LIFE (10 * PL_SECOND)
#define IDLE_S 5u

struct onboarding_http {
    struct onboarding_http_conf conf;
    struct MHD_Daemon *mhd;
    int epoll_fd;
    char where[ONBOARDING_ADDRESS];
    struct { int fd; struct pl_mono until; bool cut; } connections[CONNECTIONS]; /**< fd -1: none */
};
/* A request under way. */
struct asked {
    size_t n;
    bool large;
    char body[ONBOARDING_BODY];
};

static struct pl_str header(struct MHD_Connection *c, const char *name) { return pl_str_of(MHD_lookup_connection_value(c, MHD_HEADER_KIND, name)); }

static enum MHD_Result reply(struct MHD_Connection *c, const struct onboarding_answer *a)
{
    char wait[16];
    struct MHD_Response *r = MHD_create_response_from_buffer(a->body.n, (void *)(uintptr_t)a->body.p, MHD_RESPMEM_MUST_COPY);
    if (!r)
        return MHD_NO;
    if (a->body.n)
        MHD_add_response_header(r, "Content-Type", a->problem ? "application/problem+json" : "application/json");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (a->retry_after_s) {
        snprintf(wait, sizeof wait, "%d", a->retry_after_s);
        MHD_add_response_header(r, "Retry-After", wait);
    }
    enum MHD_Result done = MHD_queue_response(c, (unsigned)a->status, r);
    MHD_destroy_response(r);
    return done;
}

static enum MHD_Result answer(struct onboarding_http *s, struct MHD_Connection *c, const char *url, const char *method, const struct asked *asked)
{
    PL_CLEANUP(pl_arena_freep) struct pl_arena *a = pl_arena_new(ONBOARDING_ARENA); /* wiped: it holds a password for a moment */
    if (!a)
        return MHD_NO;
    /* A body that was too long is told by its length; its bytes were not kept. */
    const struct onboarding_request q = { .method = pl_str_of(method), .path = pl_str_of(url), .host = header(c, "Host"), .origin = header(c, "Origin"),
        .content_type = header(c, "Content-Type"), .authorization = header(c, "Authorization"), .body = { asked->body, asked->large ? ONBOARDING_BODY + 1 : asked->n },
        .here = pl_str_of(s->where) };
    const struct hub_look look = hub_look(s->conf.hub);
    struct onboarding_answer out;
    onboarding_ask(s->conf.onboarding, pl_now_mono(s->conf.clock), &look, &q, a, &out);
    PL_LOG(s->conf.log, PL_DEBUG, "onboarding.asked", PL_F_Z("method", method), PL_F_INT("status", out.status));
    return reply(c, &out);
}

/* First with the head, then with each piece of the body, then with its end. */
static enum MHD_Result on_request(void *self, struct MHD_Connection *c, const char *url, const char *method, const char *version, const char *data, size_t *n, void **seen)
{
    struct asked *asked = *seen;
    (void)version;
    if (!asked) {
        *seen = pl_heap(sizeof *asked);
        return *seen ? MHD_YES : MHD_NO;
    }
    if (*n == 0)
        return answer(self, c, url, method, asked);
    asked->large |= *n > sizeof asked->body - asked->n;
    if (!asked->large) {
        memcpy(asked->body + asked->n, data, *n);
        asked->n += *n;
    }
    *n = 0;
    return MHD_YES;
}

static void on_completed(void *self, struct MHD_Connection *c, void **seen, enum MHD_RequestTerminationCode why)
{
    (void)self, (void)c, (void)why;
    if (*seen)
        secure_wipe(*seen, sizeof(struct asked));
    *seen = pl_heap_free(*seen);
}

static void on_connection(void *self, struct MHD_Connection *c, void **context, enum MHD_ConnectionNotificationCode what)
{
    struct onboarding_http *s = self;
    (void)context;
    int fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    int wanted = what == MHD_CONNECTION_NOTIFY_STARTED ? -1 : fd;
    for (size_t i = 0; i < CONNECTIONS; i++)
        if (s->connections[i].fd == wanted) {
            s->connections[i].fd = wanted == -1 ? fd : -1;
            s->connections[i].until = pl_mono_add(pl_now_mono(s->conf.clock), CONNECTION_LIFE);
            s->connections[i].cut = false;
            return;
        }
}

/* The address that Host must name: a port that HTTP implies is left out. */
static enum pl_err read_where(struct onboarding_http *s, int fd)
{
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    char host[46], port[8];
    if (getsockname(fd, (struct sockaddr *)&at, &n) != 0 ||
        getnameinfo((struct sockaddr *)&at, n, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return PL_IO;
    struct pl_buf b = pl_buf_fixed(s->where, sizeof s->where - 1);
    pl_buf_fmt(&b, at.ss_family == AF_INET6 ? "[%s]" : "%s", host);
    if (!pl_str_eqz(PL_STR("80"), port))
        pl_buf_fmt(&b, ":%s", port);
    return pl_buf_err(&b);
}

static bool is_any(const struct sockaddr *a)
{
    return a->sa_family == AF_INET6 ? memcmp(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, &in6addr_any, sizeof in6addr_any) == 0
                                    : ((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr == INADDR_ANY;
}

static enum pl_err listen_on(const char *address, int *ret_fd, struct pl_fail *reterr)
{
    char host[ONBOARDING_ADDRESS];
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0, from = address[0] == '[';
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV }, *found = NULL;
    if (n < 2 * from + 1 || n >= sizeof host || (from && address[n - 1] != ']'))
        return pl_fail(reterr, PL_INVALID_REQUEST, "--onboarding wants ADDRESS:PORT");
    memcpy(host, address + from, n - 2 * from);
    host[n - 2 * from] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0 || is_any(found->ai_addr)) {
        if (found)
            freeaddrinfo(found);
        return pl_fail(reterr, PL_INVALID_REQUEST, "--onboarding wants the one address of the temporary Wi-Fi");
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), yes = 1;
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 && bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
    freeaddrinfo(found);
    if (!ok) {
        enum pl_err e = pl_fail(reterr, PL_IO, "%s cannot be listened on: %s", address, strerror(errno));
        if (fd >= 0)
            close(fd);
        return e;
    }
    *ret_fd = fd;
    return PL_OK;
}

enum pl_err onboarding_http_open(const struct onboarding_http_conf *conf, struct onboarding_http **ret, struct pl_fail *reterr)
{
    struct onboarding_http *s = pl_heap(sizeof *s);
    int fd = -1;
    enum pl_err e = s ? listen_on(conf->address, &fd, reterr) : PL_NO_MEMORY;
    if (e != PL_OK) {
        pl_heap_free(s);
        return e;
    }
    s->conf = *conf;
    for (size_t i = 0; i < CONNECTIONS; i++)
        s->connections[i].fd = -1;
    e = read_where(s, fd);
    if (e == PL_OK)
        s->mhd = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
                                  MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)CONNECTIONS_ONE, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S,
                                  MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
                                  MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_END);
    const union MHD_DaemonInfo *info = s->mhd ? MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info) {
        if (s->mhd)
            MHD_stop_daemon(s->mhd); /* closes fd */
        else
            close(fd);
        pl_heap_free(s);
        return pl_fail(reterr, PL_IO, "libmicrohttpd cannot be started");
    }
    s->epoll_fd = info->epoll_fd;
    *ret = s;
    return PL_OK;
}

int onboarding_http_fd(const struct onboarding_http *s) { return s->epoll_fd; }
const char *onboarding_http_where(const struct onboarding_http *s) { return s->where; }

struct pl_mono onboarding_http_due(const struct onboarding_http *s, struct pl_mono now)
{
    struct pl_mono due = onboarding_until(s->conf.onboarding);
    MHD_UNSIGNED_LONG_LONG ms;
    if (MHD_get_timeout(s->mhd, &ms) == MHD_YES && ms < 60000 && pl_mono_cmp(pl_mono_add(now, (int64_t)ms * PL_MS), due) < 0)
        due = pl_mono_add(now, (int64_t)ms * PL_MS);
    for (size_t i = 0; i < CONNECTIONS; i++)
        if (s->connections[i].fd >= 0 && !s->connections[i].cut && pl_mono_cmp(s->connections[i].until, due) < 0)
            due = s->connections[i].until;
    return due;
}

void onboarding_http_run(struct onboarding_http *s, struct pl_mono now)
{
    for (size_t i = 0; i < CONNECTIONS; i++)
        if (s->connections[i].fd >= 0 && !s->connections[i].cut && pl_mono_cmp(now, s->connections[i].until) >= 0) {
            shutdown(s->connections[i].fd, SHUT_RDWR); /* libmicrohttpd sees the end of the stream, and closes */
            s->connections[i].cut = true;
        }
    MHD_run(s->mhd);
}

struct onboarding_http *onboarding_http_close(struct onboarding_http *s)
{
    if (!s)
        return NULL;
    MHD_stop_daemon(s->mhd);
    return pl_heap_free(s);
}
