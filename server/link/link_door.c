#include "link_tls.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_HEAD 4096
#define MAX_PENDING 4096             /* sockets whose request is not whole yet; one more drops the oldest */
#define HEAD_US (5 * PL_SECOND)
#define SHAKE_US (10 * PL_SECOND)    /* with TLS: some of it may be our own backlog, when a herd comes back at once */
#define LOOK_MS 100                  /* how often deadlines are looked at while somebody waits */
#define SEND_BUFFER (64 * 1024)      /* what the kernel may hold for a peer that does not read; the kernel doubles it */

/* A socket whose request is awaited. Without TLS its bytes are only peeked at, so that libwebsockets finds them all; with it the pump hands them over. */
struct pending {
    struct pending *prev, *next; /* oldest first */
    int fd;
    struct pl_mono since;
    struct link_address address;
    enum pl_err slot;            /* PL_OK: it has one */
    SSL *ssl;                    /* from the first byte on, so that who is silent costs little */
    char *head;                  /* MAX_HEAD bytes from the end of the handshake on */
    size_t n;
    char peer[48];
};

struct link_door {
    struct link *engine;
    int listener, poll, leave;
    bool resting;                /* out of descriptors: not accepting until the next look */
    struct pending *first, *last;
    unsigned npending;
    pthread_t thread;
    bool started;
};

static struct pl_str header(struct pl_str head, const char *name)
{
    struct pl_str rest = head, value;
    while (rest.n > 0) {
        struct pl_str line = pl_str_split(rest, '\n', &rest);
        struct pl_str key = pl_str_split(line, ':', &value);
        if (key.n < line.n && pl_str_eq_nocase(key, pl_str_of(name)))
            return pl_str_trim(value);
    }
    return PL_STR_NONE;
}

/* Is the word in a comma-separated list? Names of subprotocols are compared exactly, tokens of HTTP are not. */
static bool lists(struct pl_str list, const char *word, bool exactly)
{
    struct pl_str rest = list;
    while (rest.n > 0) {
        struct pl_str one = pl_str_trim(pl_str_split(rest, ',', &rest));
        if (exactly ? pl_str_eqz(one, word) : pl_str_eq_nocase(one, pl_str_of(word)))
            return true;
    }
    return false;
}

enum pl_err link_door_route(const struct link_protocol *protocols, struct pl_str head, const struct link_protocol **ret)
{
    const char *end = memmem(head.p, head.n, "\r\n\r\n", 4);
    if (!end)
        return head.n < MAX_HEAD ? PL_SHORT : PL_HEADERS_TOO_LARGE;
    struct pl_str lines, ignored;
    struct pl_str line = pl_str_split((struct pl_str){ head.p, (size_t)(end - head.p) + 2 }, '\n', &lines);
    struct pl_str method = pl_str_split(line, ' ', &line), target = pl_str_split(line, ' ', &line);
    if (!pl_str_starts(line, PL_STR("HTTP/1.1")))
        return PL_PROTOCOL;
    if (!pl_str_eqz(method, "GET"))
        return PL_METHOD_NOT_ALLOWED;
    const struct link_protocol *p = protocols;
    struct pl_str path = pl_str_split(target, '?', &ignored);
    while (p->name && !pl_str_eqz(path, p->path))
        p++;
    if (!p->name)
        return PL_NOT_FOUND;
    struct pl_str offered = header(lines, "sec-websocket-protocol");
    if (!lists(header(lines, "upgrade"), "websocket", false) || !lists(offered, p->name, true))
        return PL_PROTOCOL;
    *ret = p;
    return PL_OK;
}

static void drop(struct link_door *d, struct pending *w, bool with_socket)
{
    if (w->prev)
        w->prev->next = w->next;
    else
        d->first = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        d->last = w->prev;
    d->npending--;
    epoll_ctl(d->poll, EPOLL_CTL_DEL, w->fd, NULL);
    if (with_socket) {
        SSL_free(w->ssl);
        close(w->fd);
        if (w->slot == PL_OK)
            link_slot_free(d->engine, &w->address);
    }
    pl_heap_free(w->head);
    pl_heap_free(w);
}

/* A short answer, then the end. What was peeked at is read first: a close with unread bytes would destroy the answer on its way. */
static void answer(struct link_door *d, struct pending *w, enum pl_err why, size_t unread)
{
    char eaten[MAX_HEAD], mem[512];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    const char *extra = why == PL_PROTOCOL ? "Upgrade: websocket\r\n" : "";
    int status = why == PL_PROTOCOL ? 426 : pl_err_table[why].status;
    char body[128];
    struct pl_buf text = pl_buf_fixed(body, sizeof body);
    pl_buf_fmt(&text, "{\"status\":%d,\"code\":\"%s\"}\n", status, pl_err_code(why));
    pl_buf_fmt(&b, "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nContent-Length: %zu\r\n%sConnection: close\r\n\r\n%s", status, pl_err_code(why),
               text.n, extra, text.p);
    if (pl_buf_err(&b) == PL_OK && w->ssl)
        link_tls_say(w->ssl, pl_buf_view(&b));
    else if (pl_buf_err(&b) == PL_OK && recv(w->fd, eaten, unread < sizeof eaten ? unread : sizeof eaten, MSG_DONTWAIT) >= 0)
        (void)!send(w->fd, b.p, b.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(w->fd, SHUT_WR);
    link_metric(why == PL_OVERLOADED || why == PL_RATE_LIMITED ? LINK_M_FULL : LINK_M_DOOR, 1);
    PL_LOG(d->engine->conf.log, PL_DEBUG, "link.turned-away", PL_F_Z("peer", w->peer), PL_F_ERR(why));
    drop(d, w, true);
}

static void hand_over(struct link_door *d, struct pending *w, const struct link_protocol *p, size_t unread)
{
    struct link *l = d->engine;
    struct link_class *class = l->classes;
    while (class->proto != p)
        class++;
    struct link_conn *c = w->slot == PL_OK ? link_conn_new(l, p, w->fd, &w->address) : NULL;
    if (!c || (w->ssl && link_pump_new(c, w->ssl, (struct pl_str){ w->head, w->n }, &c->pump) != PL_OK)) {
        answer(d, w, w->slot == PL_OK ? PL_NO_MEMORY : w->slot, unread);
        link_unref(c);
        return;
    }
    memcpy(c->peer, w->peer, sizeof c->peer);
    drop(d, w, false);
    link_thread_give(&class->threads[class->turn++ % class->n], c);
}

static void route(struct link_door *d, struct pending *w, enum pl_err e, const struct link_protocol *p, size_t unread)
{
    if (e != PL_OK)
        answer(d, w, e, unread);
    else
        hand_over(d, w, p, unread);
}

/* With the certificate of now. */
static SSL *begin_tls(struct link *l, int fd)
{
    PL_LOCK(&l->lock);
    return link_tls_new(l->tls, fd);
}

/* The handshake, then the request, as far as they have come. */
static void look_inside(struct link_door *d, struct pending *w)
{
    const struct link_protocol *p = NULL;
    size_t n;
    enum pl_err e = w->ssl || (w->ssl = begin_tls(d->engine, w->fd)) ? PL_OK : PL_NO_MEMORY;
    if (e == PL_OK && !w->head)
        e = link_tls_shake(w->ssl);
    if (e == PL_OK && !w->head && !(w->head = pl_heap(MAX_HEAD)))
        e = PL_NO_MEMORY;
    if (e != PL_OK && e != PL_SHORT)
        link_metric(LINK_M_TLS, 1);
    while (e == PL_OK && (e = link_tls_read(w->ssl, w->head + w->n, MAX_HEAD - w->n, &n)) == PL_OK) {
        w->n += n;
        e = link_door_route(d->engine->conf.protocols, (struct pl_str){ w->head, w->n }, &p);
        if (e != PL_SHORT) {
            route(d, w, e, p, 0);
            return;
        }
        e = PL_OK;
    }
    if (e != PL_SHORT)
        drop(d, w, true);
}

static void look(struct link_door *d, struct pending *w)
{
    char head[MAX_HEAD];
    const struct link_protocol *p = NULL;
    if (d->engine->over_tls) {
        look_inside(d, w);
        return;
    }
    ssize_t n = recv(w->fd, head, sizeof head, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(d, w, true);
        return;
    }
    enum pl_err e = link_door_route(d->engine->conf.protocols, (struct pl_str){ head, (size_t)n }, &p);
    if (e != PL_SHORT)
        route(d, w, e, p, (size_t)n);
}

static void name_peer(struct pending *w, const struct sockaddr_storage *sa)
{
    memset(&w->address, 0, sizeof w->address);
    if (sa->ss_family == AF_INET) {
        const struct in_addr *a = &((const struct sockaddr_in *)(const void *)sa)->sin_addr;
        w->address.b[10] = w->address.b[11] = 0xff;
        memcpy(w->address.b + 12, a, 4);
        inet_ntop(AF_INET, a, w->peer, sizeof w->peer);
    } else {
        const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
        memcpy(w->address.b, a, 16);
        inet_ntop(AF_INET6, a, w->peer, sizeof w->peer);
    }
}

/* A proxy speaks for many: its share is not counted. */
static void forgive_proxy(const struct link *l, struct pending *w)
{
    struct pl_str rest = pl_str_of(l->conf.proxies ? l->conf.proxies : "");
    while (rest.n) {
        struct pl_str one = pl_str_split(rest, ' ', &rest);
        if (one.n && pl_str_eqz(one, w->peer))
            memset(&w->address, 0, sizeof w->address);
    }
}

static void set_up(int fd)
{
    int one = 1, unsent = 16 * 1024, buffer = SEND_BUFFER;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
}

static void rest(struct link_door *d, bool on)
{
    struct epoll_event ev = { .events = on ? 0 : EPOLLIN, .data.ptr = d };
    d->resting = on;
    epoll_ctl(d->poll, EPOLL_CTL_MOD, d->listener, &ev);
}

/* One that came in: its slot, its place among those who wait. With TLS, who may not stay is not worth a handshake: false. */
static bool welcome(struct link_door *d, struct pending *w, int fd, const struct sockaddr_storage *sa)
{
    struct link *l = d->engine;
    struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET | (l->over_tls ? EPOLLOUT : 0), .data.ptr = w };
    name_peer(w, sa);
    forgive_proxy(l, w);
    w->fd = fd;
    w->since = pl_now_mono(l->conf.clock);
    w->slot = link_slot_take(l, &w->address);
    if (l->over_tls && w->slot != PL_OK)
        link_metric(LINK_M_FULL, 1);
    if ((l->over_tls && w->slot != PL_OK) || epoll_ctl(d->poll, EPOLL_CTL_ADD, fd, &ev) != 0) {
        if (w->slot == PL_OK)
            link_slot_free(l, &w->address);
        return false;
    }
    if (d->npending >= MAX_PENDING)
        drop(d, d->first, true);
    set_up(fd);
    w->prev = d->last;
    if (d->last)
        d->last->next = w;
    else
        d->first = w;
    d->last = w;
    d->npending++;
    return true;
}

/* Accepts what waits, some at a time so that pending ones have their turn. */
static void let_in(struct link_door *d, int most)
{
    for (int i = 0; i < most; i++) {
        struct sockaddr_storage sa;
        socklen_t size = sizeof sa;
        int fd = accept4(d->listener, (struct sockaddr *)&sa, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                PL_LOG(d->engine->conf.log, PL_ERROR, "link.out-of-descriptors");
                rest(d, true);
            }
            return;
        }
        struct pending *w = pl_heap(sizeof *w);
        if (!w || !welcome(d, w, fd, &sa)) {
            close(fd);
            pl_heap_free(w);
        }
    }
}

static void *run(void *arg)
{
    struct link_door *d = arg;
    for (;;) {
        struct epoll_event ev[64];
        int n = epoll_wait(d->poll, ev, 64, d->first || d->resting ? LOOK_MS : -1);
        bool knock = false;
        for (int i = 0; i < n; i++) {
            if (ev[i].data.ptr == &d->leave)
                return NULL;
            if (ev[i].data.ptr == d)
                knock = true; /* last: letting in may drop one that has an event here */
            else if (ev[i].events != EPOLLOUT || ((struct pending *)ev[i].data.ptr)->ssl)
                look(d, ev[i].data.ptr);
        }
        while (d->first && pl_mono_sub(pl_now_mono(d->engine->conf.clock), d->first->since) >= (d->engine->over_tls ? SHAKE_US : HEAD_US)) {
            if (d->engine->over_tls && !d->first->head)
                link_metric(LINK_M_TLS, 1);
            drop(d, d->first, true);
        }
        if (d->resting)
            rest(d, false);
        else if (knock)
            let_in(d, n < 64 ? 64 : 8); /* who has begun comes first */
    }
}

/* "127.0.0.1:8081" or "[::1]:0": numbers only, so that nothing is looked up. */
static enum pl_err bind_to(struct link_door *d, struct pl_fail *reterr)
{
    struct sockaddr_in6 sa6 = { .sin6_family = AF_INET6 };
    struct sockaddr_in sa4 = { .sin_family = AF_INET };
    struct pl_str at = pl_str_of(d->engine->conf.listen);
    char host[48];
    size_t colon = at.n;
    uint32_t port = 0;
    int one = 1;
    while (colon > 0 && at.p[colon - 1] != ':')
        colon--;
    struct pl_str name = { at.p, colon ? colon - 1 : 0 };
    if (name.n > 2 && name.p[0] == '[' && name.p[name.n - 1] == ']')
        name = (struct pl_str){ name.p + 1, name.n - 2 };
    bool good = colon > 0 && name.n < sizeof host && pl_parse_u32((struct pl_str){ at.p + colon, at.n - colon }, 0, 65535, &port) == PL_OK;
    snprintf(host, sizeof host, "%.*s", good ? (int)name.n : 0, name.p);
    bool v4 = good && inet_pton(AF_INET, host, &sa4.sin_addr) == 1, v6 = good && !v4 && inet_pton(AF_INET6, host, &sa6.sin6_addr) == 1;
    if (!v4 && !v6)
        return pl_fail(reterr, PL_INVALID_REQUEST, "The address to listen on must look like 127.0.0.1:8081 or [::1]:8081.");
    if (!d->engine->over_tls && !d->engine->conf.behind_proxy && !(v4 ? ntohl(sa4.sin_addr.s_addr) >> 24 == 127 : IN6_IS_ADDR_LOOPBACK(&sa6.sin6_addr)))
        return pl_fail(reterr, PL_INVALID_REQUEST, "%s is not loopback: give --tls-cert and --tls-key, or say --insecure-behind-proxy when a proxy with TLS stands in front.",
                       d->engine->conf.listen);
    sa4.sin_port = sa6.sin6_port = htons((uint16_t)port);
    d->listener = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(d->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (d->listener < 0 || bind(d->listener, v4 ? (struct sockaddr *)&sa4 : (struct sockaddr *)&sa6, v4 ? sizeof sa4 : sizeof sa6) != 0 ||
        listen(d->listener, 4096) != 0)
        return pl_fail(reterr, PL_IO, "Cannot listen on %s: %s.", d->engine->conf.listen, strerrordesc_np(errno));
    socklen_t size = v4 ? sizeof sa4 : sizeof sa6;
    getsockname(d->listener, v4 ? (struct sockaddr *)&sa4 : (struct sockaddr *)&sa6, &size);
    snprintf(d->engine->address, sizeof d->engine->address, v4 ? "%s:%u" : "[%s]:%u", host, ntohs(v4 ? sa4.sin_port : sa6.sin6_port));
    return PL_OK;
}

enum pl_err link_door_tls(struct link *l, struct pl_fail *reterr)
{
    const char *cert = l->conf.tls_cert, *key = l->conf.tls_key;
    bool has_cert = cert && cert[0], has_key = key && key[0];
    if (has_cert != has_key)
        return pl_fail(reterr, PL_INVALID_REQUEST, "TLS needs both: a certificate (--tls-cert) and its key (--tls-key).");
    l->over_tls = has_cert;
    return has_cert ? link_tls_serve(cert, key, &l->tls, reterr) : PL_OK;
}

enum pl_err link_door_open(struct link *l, struct link_door **ret, struct pl_fail *reterr)
{
    struct link_door *d = pl_heap(sizeof *d);
    if (!d)
        return PL_NO_MEMORY;
    d->engine = l;
    d->listener = -1;
    d->poll = epoll_create1(EPOLL_CLOEXEC);
    d->leave = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event out = { .events = EPOLLIN, .data.ptr = &d->leave }, in = { .events = EPOLLIN, .data.ptr = d };
    enum pl_err e = bind_to(d, reterr);
    if (e == PL_OK && (epoll_ctl(d->poll, EPOLL_CTL_ADD, d->leave, &out) != 0 || epoll_ctl(d->poll, EPOLL_CTL_ADD, d->listener, &in) != 0))
        e = pl_fail(reterr, PL_IO, "Cannot watch the listening socket.");
    if (e != PL_OK) {
        link_door_close(d);
        return e;
    }
    *ret = d;
    return PL_OK;
}

enum pl_err link_door_start(struct link_door *d)
{
    if (pthread_create(&d->thread, NULL, run, d) != 0)
        return PL_NO_MEMORY;
    d->started = true;
    pthread_setname_np(d->thread, "link-door");
    return PL_OK;
}

struct link_door *link_door_close(struct link_door *d)
{
    if (!d)
        return NULL;
    if (d->started && eventfd_write(d->leave, 1) == 0)
        pthread_join(d->thread, NULL);
    while (d->first)
        drop(d, d->first, true);
    if (d->listener >= 0)
        close(d->listener);
    if (d->poll >= 0)
        close(d->poll);
    if (d->leave >= 0)
        close(d->leave);
    return pl_heap_free(d);
}
