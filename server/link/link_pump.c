#include "link_tls.h"
#include <errno.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECORD (16 * 1024) /* the largest of TLS: nothing that is decrypted waits inside OpenSSL after a read of this size */
#define ROUNDS 4           /* then the others */
#define PAIR_BUFFER (32 * 1024)

/* What one side did not take. */
struct bytes {
    size_t at, n;
    unsigned char b[];
};

struct link_pump {
    struct link_node node;       /* in thread->pumps, or thread->ending: libwebsockets has closed, the rest goes out */
    struct link_conn *conn;
    SSL *ssl;
    int net, inner;
    uv_poll_t net_poll, inner_poll;
    int net_mask, inner_mask;    /* what is polled for */
    struct bytes *to_net, *to_inner;
    uint64_t taken;
    unsigned due;                /* ending: the tick that cuts it */
    unsigned handles;            /* of libuv, not yet closed */
    bool stuck;                  /* OpenSSL wants to write before it can read */
    bool net_over, net_broken;   /* nothing more comes; nor can anything be said */
    bool inner_over, inner_shut; /* libwebsockets has closed; it was told that the peer has */
};
#define PUMP_OF(n) ((struct link_pump *)(void *)((char *)(n) - offsetof(struct link_pump, node)))

static bool keep(struct bytes **to, const unsigned char *p, size_t n)
{
    struct bytes *b = pl_heap(sizeof *b + n);
    if (!b)
        return false;
    b->n = n;
    memcpy(b->b, p, n);
    *to = b;
    return true;
}

static void broken(struct link_pump *p) { p->net_over = p->net_broken = true; }

/* How much of it goes out now; what cannot go out for ever counts as gone. */
static size_t to_net_now(struct link_pump *p, const unsigned char *b, size_t n)
{
    size_t done = 0, some;
    while (done < n && !p->net_broken) {
        ERR_clear_error();
        int ok = SSL_write_ex(p->ssl, b + done, n - done, &some);
        int got = ok == 1 ? SSL_ERROR_NONE : SSL_get_error(p->ssl, ok);
        if (got == SSL_ERROR_WANT_WRITE || got == SSL_ERROR_WANT_READ)
            return done;
        if (got != SSL_ERROR_NONE)
            broken(p);
        else
            done += some;
    }
    return n;
}

static size_t to_inner_now(struct link_pump *p, const unsigned char *b, size_t n)
{
    ssize_t k = p->inner_over ? (ssize_t)n : send(p->inner, b, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    return k >= 0 ? (size_t)k : errno == EAGAIN || errno == EINTR ? 0 : n;
}

/* Sends what waits, or p..n when nothing does. false: it waits (again). */
static bool pass(struct link_pump *p, struct bytes **waits, size_t (*now)(struct link_pump *, const unsigned char *, size_t), const unsigned char *b, size_t n)
{
    struct bytes *w = *waits;
    if (w) {
        w->at += now(p, w->b + w->at, w->n - w->at);
        if (w->at < w->n)
            return false;
        *waits = pl_heap_free(w);
        return true;
    }
    size_t done = now(p, b, n);
    if (done == n)
        return true;
    if (!keep(waits, b + done, n - done))
        broken(p); /* bytes are lost: the rest would make no sense */
    return false;
}

/* From the peer to libwebsockets. */
static void carry_in(struct link_pump *p)
{
    unsigned char mem[RECORD];
    p->stuck = false;
    for (int i = 0; i < ROUNDS && !p->net_over; i++) {
        size_t n;
        if (p->to_inner && !pass(p, &p->to_inner, to_inner_now, NULL, 0))
            return;
        ERR_clear_error();
        int ok = SSL_read_ex(p->ssl, mem, sizeof mem, &n), got = ok == 1 ? SSL_ERROR_NONE : SSL_get_error(p->ssl, ok);
        if (got == SSL_ERROR_NONE) {
            p->taken += n;
            if (!pass(p, &p->to_inner, to_inner_now, mem, n))
                return;
        } else if (got == SSL_ERROR_WANT_READ || got == SSL_ERROR_WANT_WRITE) {
            p->stuck = got == SSL_ERROR_WANT_WRITE;
            return;
        } else if (got == SSL_ERROR_ZERO_RETURN)
            p->net_over = true;
        else
            broken(p);
    }
    if (p->to_inner)
        pass(p, &p->to_inner, to_inner_now, NULL, 0);
}

/* From libwebsockets to the peer. */
static void carry_out(struct link_pump *p)
{
    unsigned char mem[RECORD];
    for (int i = 0; i < ROUNDS && !p->inner_over; i++) {
        if (p->to_net && !pass(p, &p->to_net, to_net_now, NULL, 0))
            return;
        ssize_t n = recv(p->inner, mem, sizeof mem, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0)
            p->inner_over = true;
        else if (!pass(p, &p->to_net, to_net_now, mem, (size_t)n))
            return;
    }
    if (p->to_net)
        pass(p, &p->to_net, to_net_now, NULL, 0);
}

static void freed(uv_handle_t *h)
{
    struct link_pump *p = h->data;
    if (--p->handles == 0)
        pl_heap_free(p);
}

static void on_ready(uv_poll_t *h, int status, int events);

static void poll_for(uv_poll_t *h, int *mask, int want)
{
    if (*mask == want)
        return;
    *mask = want;
    if (want)
        uv_poll_start(h, want, on_ready);
    else
        uv_poll_stop(h);
}

static void begin_end(struct link_pump *p)
{
    if (p->due)
        return;
    p->due = (p->conn->thread->ticks + LINK_CLOSE_TICKS) | 1;
    link_list_add(&p->conn->thread->ending, &p->node);
}

/* After anything has moved: what to wait for next, or the end. */
static void settle(struct link_pump *p)
{
    if (p->net_over && !p->to_inner && !p->inner_shut) {
        p->inner_shut = true;
        shutdown(p->inner, SHUT_WR);
    }
    if (p->inner_over && (!p->to_net || p->net_broken)) {
        link_pump_end(p);
        return;
    }
    if (p->inner_over)
        begin_end(p);
    poll_for(&p->net_poll, &p->net_mask, (!p->net_over && !p->to_inner ? UV_READABLE : 0) | (p->to_net || p->stuck ? UV_WRITABLE : 0));
    poll_for(&p->inner_poll, &p->inner_mask, p->inner_over ? 0 : (p->due ? 0 : UV_DISCONNECT) | (p->to_net ? 0 : UV_READABLE) | (p->to_inner ? UV_WRITABLE : 0));
}

static void on_ready(uv_poll_t *h, int status, int events)
{
    struct link_pump *p = h->data;
    if (status < 0) /* libuv has stopped it */
        *(h == &p->net_poll ? &p->net_mask : &p->inner_mask) = 0;
    if (h == &p->net_poll) {
        if (status < 0 || events & UV_READABLE || p->stuck)
            carry_in(p);
        if (events & UV_WRITABLE && p->to_net)
            carry_out(p);
    } else {
        if (status < 0 || events & UV_READABLE)
            carry_out(p);
        if (events & UV_WRITABLE && p->to_inner)
            carry_in(p);
        /* It has closed, and what it said last stands behind what the peer does not take: that peer has its time, not more. */
        if (events & UV_DISCONNECT && p->to_net)
            begin_end(p);
    }
    settle(p);
}

enum pl_err link_pump_new(struct link_conn *conn, SSL *ssl, struct pl_str head, struct link_pump **ret)
{
    int pair[2], buffer = PAIR_BUFFER;
    struct link_pump *p = pl_heap(sizeof *p);
    if (!p || !keep(&p->to_inner, (const unsigned char *)head.p, head.n) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
        if (p)
            pl_heap_free(p->to_inner);
        pl_heap_free(p);
        return PL_NO_MEMORY;
    }
    for (int i = 0; i < 2; i++)
        setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    p->conn = link_ref(conn);
    p->ssl = ssl;
    p->net = SSL_get_fd(ssl);
    p->taken = head.n;
    p->inner = pair[0];
    conn->fd = pair[1];
    conn->pumped = true;
    *ret = p;
    return PL_OK;
}

enum pl_err link_pump_start(struct link_pump *p)
{
    struct link_thread *t = p->conn->thread;
    link_list_add(&t->pumps, &p->node);
    p->net_poll.data = p->inner_poll.data = p;
    bool good = uv_poll_init(&t->loop.uv, &p->net_poll, p->net) == 0;
    p->handles += good;
    if (good) {
        good = uv_poll_init(&t->loop.uv, &p->inner_poll, p->inner) == 0;
        p->handles += good;
    }
    if (!good) {
        link_pump_end(p);
        return PL_NO_MEMORY;
    }
    carry_in(p);
    settle(p);
    return PL_OK;
}

void link_pump_end(struct link_pump *p)
{
    struct link_conn *c = p->conn;
    if (!p->net_broken) {
        ERR_clear_error();
        SSL_shutdown(p->ssl);
    }
    link_list_remove(&p->node);
    unsigned handles = p->handles;
    if (handles > 1)
        uv_close((uv_handle_t *)&p->inner_poll, freed);
    if (handles > 0)
        uv_close((uv_handle_t *)&p->net_poll, freed);
    SSL_free(p->ssl);
    close(p->net);
    close(p->inner);
    pl_heap_free(p->to_net);
    pl_heap_free(p->to_inner);
    c->pump = NULL;
    link_slot_free(c->thread->engine, &c->address);
    link_unref(c);
    if (handles == 0)
        pl_heap_free(p);
}

uint64_t link_pump_taken(const struct link_pump *p) { return p->taken - (p->to_inner ? p->to_inner->n - p->to_inner->at : 0); }

void link_pump_watch(struct link_thread *t)
{
    for (struct link_node *n; (n = t->ending.next) != &t->ending && (int)(PUMP_OF(n)->due - t->ticks) <= 0;) {
        broken(PUMP_OF(n));
        link_pump_end(PUMP_OF(n));
    }
}

void link_pump_end_all(struct link_thread *t)
{
    struct link_node *lists[] = { &t->ending, &t->pumps };
    for (size_t i = 0; i < PL_COUNT(lists); i++)
        while (!link_list_empty(lists[i]))
            link_pump_end(PUMP_OF(lists[i]->next));
}
