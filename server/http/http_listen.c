/* Sockets: we accept ourselves and hand libmicrohttpd what we took, so that limits are ours: left to itself it lets connections past its limit hang unanswered. */
#include "http_private.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 511
#define ACCEPT_BATCH 64
#define PEM_BYTES (64 * 1024)

/* A socket file that a dead process left is removed; one that somebody answers is not. */
static void remove_stale(const struct sockaddr_un *at)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)at, sizeof *at) < 0 && errno == ECONNREFUSED)
        unlink(at->sun_path);
    close(fd);
}

static enum pl_err listen_unix(struct http *h, const char *path, struct pl_fail *reterr)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof at.sun_path)
        return pl_fail(reterr, PL_INVALID_REQUEST, "The path of the socket is longer than %zu bytes.", sizeof at.sun_path - 1);
    memcpy(at.sun_path, path, strlen(path));
    remove_stale(&at);
    h->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Nobody can connect before listen, so the mode stands before the first caller. */
    if (h->listen_fd < 0 || bind(h->listen_fd, (struct sockaddr *)&at, sizeof at) < 0)
        return pl_fail(reterr, PL_IO, "%s cannot be listened on: %m", h->listen);
    h->unix_socket = true;
    if (chmod(path, 0600) < 0 || listen(h->listen_fd, BACKLOG) < 0)
        return pl_fail(reterr, PL_IO, "%s cannot be listened on: %m", h->listen);
    snprintf(h->address, sizeof h->address, "%s", h->listen);
    return PL_OK;
}

static enum pl_err read_file(const char *path, char **ret, struct pl_fail *reterr)
{
    char *text = pl_heap(PEM_BYTES);
    FILE *f = text ? fopen(path, "re") : NULL;
    size_t n = f ? fread(text, 1, PEM_BYTES - 1, f) : 0;
    bool good = f && !ferror(f) && n > 0 && n < PEM_BYTES - 1;
    if (f)
        fclose(f);
    if (!good) {
        pl_heap_free(text);
        return pl_fail(reterr, PL_IO, "%s cannot be read, is empty, or is not a PEM file.", path);
    }
    *ret = text; /* pl_heap zeroes, so it ends */
    return PL_OK;
}

void http_key_free(char *key)
{
    if (key)
        secure_wipe(key, strlen(key));
    pl_heap_free(key);
}

enum pl_err http_tls_load(const struct http *h, char **ret_cert, char **ret_key, struct pl_fail *reterr)
{
    const char *cert = h->conf.tls_cert, *key = h->conf.tls_key;
    bool has_cert = cert && cert[0], has_key = key && key[0];
    if (has_cert != has_key)
        return pl_fail(reterr, PL_INVALID_REQUEST, "TLS needs both: a certificate (--tls-cert) and its key (--tls-key).");
    if (!has_cert)
        return PL_OK;
    enum pl_err e = read_file(cert, ret_cert, reterr);
    return e == PL_OK ? read_file(key, ret_key, reterr) : e;
}

bool http_address_parse(const char *text, struct address *ret)
{
    struct address a = { .family = strchr(text, ':') ? AF_INET6 : AF_INET };
    if (inet_pton(a.family, text, a.bytes) != 1)
        return false;
    *ret = a;
    return true;
}

bool http_from_proxy(const struct http *h, struct pl_str address)
{
    struct pl_str rest = pl_str_of(h->proxies);
    while (rest.n) {
        struct pl_str one = pl_str_split(rest, ' ', &rest);
        if (one.n && pl_str_eq(one, address))
            return true;
    }
    return false;
}

static bool is_loopback(const struct sockaddr *at)
{
    return at->sa_family == AF_INET ? ntohl(((const struct sockaddr_in *)at)->sin_addr.s_addr) >> 24 == 127
                                    : IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)at)->sin6_addr);
}

static enum pl_err listen_tcp(struct http *h, const struct addrinfo *at, struct pl_fail *reterr)
{
    struct sockaddr_storage got;
    socklen_t n = sizeof got;
    char host[INET6_ADDRSTRLEN], port[8];
    if (!h->tls && !h->conf.behind_proxy && !is_loopback(at->ai_addr))
        return pl_fail(reterr, PL_INVALID_REQUEST,
                       "%s is not loopback: give --tls-cert and --tls-key, or say --insecure-behind-proxy when a proxy with TLS stands in front.", h->listen);
    h->listen_fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (h->listen_fd >= 0)
        setsockopt(h->listen_fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
    if (h->listen_fd < 0 || bind(h->listen_fd, at->ai_addr, at->ai_addrlen) < 0 || listen(h->listen_fd, BACKLOG) < 0 ||
        getsockname(h->listen_fd, (struct sockaddr *)&got, &n) < 0 ||
        getnameinfo((struct sockaddr *)&got, n, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return pl_fail(reterr, PL_IO, "%s cannot be listened on: %m", h->listen);
    snprintf(h->address, sizeof h->address, got.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return PL_OK;
}

enum pl_err http_listen(struct http *h, struct pl_fail *reterr)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1024);
    if (strncmp(h->listen, "unix:", 5) == 0)
        return listen_unix(h, h->listen + 5, reterr);
    const char *colon = strrchr(h->listen, ':');
    if (!a)
        return PL_NO_MEMORY;
    if (!colon)
        return pl_fail(reterr, PL_INVALID_REQUEST, "An address like 127.0.0.1:8080 or unix:/path is expected.");
    struct pl_str host = { h->listen, (size_t)(colon - h->listen) };
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = (struct pl_str){ host.p + 1, host.n - 2 };
    const char *host_z = pl_str_z(a, host);
    if (!host_z)
        return PL_NO_MEMORY;
    struct addrinfo *at = NULL, want = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE };
    if (getaddrinfo(host_z[0] ? host_z : NULL, colon + 1, &want, &at) != 0)
        return pl_fail(reterr, PL_INVALID_REQUEST, "An address like 127.0.0.1:8080 or unix:/path is expected.");
    enum pl_err e = listen_tcp(h, at, reterr);
    freeaddrinfo(at);
    return e;
}

static void address_of(const struct sockaddr_storage *from, struct link *k)
{
    k->address.family = from->ss_family;
    if (from->ss_family == AF_INET)
        memcpy(k->address.bytes, &((const struct sockaddr_in *)from)->sin_addr, 4);
    else if (from->ss_family == AF_INET6)
        memcpy(k->address.bytes, &((const struct sockaddr_in6 *)from)->sin6_addr, 16);
    if (from->ss_family == AF_UNIX || !inet_ntop(from->ss_family, k->address.bytes, k->peer, sizeof k->peer))
        memcpy(k->peer, "unix", 5);
}

/* Whom the kernel names at the other end: root and this process's own user have the machine. */
static bool has_machine(int fd)
{
    struct ucred who;
    socklen_t n = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 && n == sizeof who && (who.uid == 0 || who.uid == geteuid());
}

/* PL_OK, or why this address may not have another connection. A walk over all of them: there are a thousand at most, and a walk is 1 µs. */
static enum pl_err room_for(const struct http *h, const struct address *from, bool proxy)
{
    unsigned same = 0;
    if (h->nlinks >= h->conf.max_connections)
        return PL_OVERLOADED;
    if (proxy)
        return PL_OK; /* it has its own limits, and speaks for many */
    for (const struct link *k = h->links; k && from->family != AF_UNIX; k = k->next)
        same += k->address.family == from->family && memcmp(k->address.bytes, from->bytes, sizeof from->bytes) == 0;
    return same >= h->conf.max_per_address ? PL_RATE_LIMITED : PL_OK;
}

/* Nothing of the request was read; what the socket's buffer takes is all that this caller costs. */
static void turn_away(struct http *h, int fd, enum pl_err e)
{
    char body[PROBLEM_BYTES], text[PROBLEM_BYTES + 256];
    struct pl_buf b = pl_buf_fixed(body, sizeof body), t = pl_buf_fixed(text, sizeof text);
    struct pl_uuid id = pl_uuid7(h->conf.rand, pl_now_utc(h->conf.clock));
    http_problem(&b, h, e, NULL, id);
    pl_buf_fmt(&t, "HTTP/1.1 %d Refused\r\nContent-Type: application/problem+json\r\nContent-Length: %zu\r\n", pl_err_table[e].status, b.n);
    pl_buf_fmt(&t, "Retry-After: 1\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n%s", body);
    /* With TLS there is nothing that this caller could read. */
    if (!h->tls && pl_buf_err(&t) == PL_OK && send(fd, t.p, t.n, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        shutdown(fd, SHUT_WR);
    close(fd);
    pl_count(&http_metrics[M_REFUSED], 1);
}

static void take_in(struct http *h, int fd, const struct sockaddr_storage *from, socklen_t n)
{
    struct link *k = pl_heap(sizeof *k);
    if (!k) {
        turn_away(h, fd, PL_NO_MEMORY);
        return;
    }
    address_of(from, k);
    enum pl_err e = room_for(h, &k->address, http_from_proxy(h, pl_str_of(k->peer)));
    if (e != PL_OK) {
        pl_heap_free(k);
        turn_away(h, fd, e);
        return;
    }
    k->h = h;
    k->fd = fd;
    k->under = h->now.mhd;
    k->machine = h->conf.machine && k->address.family == AF_UNIX && has_machine(fd);
    http_phase(k, PHASE_HEADERS, HEADERS_DEADLINE);
    /* libmicrohttpd calls back from inside, which takes the link over; it closes the socket if it fails. */
    h->adopting = k;
    if (MHD_add_connection(h->now.mhd, fd, (const struct sockaddr *)from, n) != MHD_YES && h->adopting)
        pl_heap_free(k);
    h->adopting = NULL;
}

void http_accept(struct http *h)
{
    for (unsigned i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage from = { 0 };
        socklen_t n = sizeof from;
        int fd = accept4(h->listen_fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            h->accept_from = pl_mono_add(pl_now_mono(h->conf.clock), SWEEP_EVERY);
            return;
        }
        if (fd < 0)
            return;
        take_in(h, fd, &from, n ? n : sizeof(sa_family_t));
    }
}
