/* link_sim.h - what the tests of link/ have in common: a database with switches, a server whose handlers count, a hand-made client that does what a good one never
 * would, and the real one. With `over_tls` set (certs must be made) all of it speaks TLS.
 *     struct raw *r = raw_hello(l, "/test/v1", "test.v1", 0);     raw_say(r, "{…}");     expect_text(r, "…");     raw_free(r); */
#pragma once
#include "link.h"
#include "link_client.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "link_certs.h"

#pragma GCC diagnostic ignored "-Wunused-function" /* each test uses its part */

/* ---- a database with switches ---- */
struct db { int unused; };
struct db_tx { int unused; };
static bool db_is_away;                    /* atomic */
static int db_retries, db_commits, db_rollbacks; /* atomic */
static int soft_ends_with;                 /* atomic; an error of the house for the next `soft`, 0: the peer's own fault */
static struct db the_db;
static __thread struct db_tx the_tx;
#define GET(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define SET(x, v) __atomic_store_n(&(x), (v), __ATOMIC_SEQ_CST)
#define ADD(x, v) __atomic_add_fetch(&(x), (v), __ATOMIC_SEQ_CST)

enum pl_err db_open(const struct db_conf *conf, struct db **ret)
{
    (void)conf;
    *ret = &the_db;
    return PL_OK;
}
struct db *db_close(struct db *db)
{
    (void)db;
    return NULL;
}
enum pl_err db_begin(struct db *db, struct pl_arena *a, struct db_tx **ret)
{
    (void)db;
    (void)a;
    if (GET(db_is_away))
        return PL_UNAVAILABLE;
    *ret = &the_tx;
    return PL_OK;
}
enum pl_err db_commit(struct db_tx **tx)
{
    *tx = NULL;
    if (GET(db_retries) > 0) {
        ADD(db_retries, -1);
        return PL_RETRY;
    }
    ADD(db_commits, 1);
    return PL_OK;
}
void db_rollbackp(struct db_tx **tx)
{
    if (*tx)
        ADD(db_rollbacks, 1);
    *tx = NULL;
}

/* ---- waiting for events ---- */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void tell(void)
{
    PL_LOCK(&lock);
    pthread_cond_broadcast(&changed);
}
/* Until `cond` holds; it is looked at after each tell(). */
#define WAIT(cond) \
    do { \
        int64_t wait_until_ = pl_now_utc(&pl_clock_system).us + 20 * PL_SECOND; \
        struct timespec wait_ts_ = { .tv_sec = wait_until_ / PL_SECOND, .tv_nsec = wait_until_ % PL_SECOND * 1000 }; \
        int wait_late_ = 0; \
        pthread_mutex_lock(&lock); \
        while (!(cond) && wait_late_ == 0) \
            wait_late_ = pthread_cond_timedwait(&changed, &lock, &wait_ts_); \
        bool wait_ok_ = (cond); \
        pthread_mutex_unlock(&lock); \
        if (!wait_ok_) \
            fail_msg("waited too long for %s", #cond); \
    } while (0)

/* ---- the server's side of the test ---- */
struct peer {
    struct link_conn *conn;
    int said;       /* echo messages handled */
    int64_t last_n; /* n of the last */
};
static struct link_conn *last_conn;                    /* LOCK: lock; with a reference */
static int opened, closed, owners_freed, said, out_of_order, said_at_close, afters, tries, posts; /* atomic */
static const char *ended;                              /* atomic; what the last one ended of */
static bool hold;                                      /* LOCK: lock; handlers of `wait` stay in */
static bool hold_link;                                 /* LOCK: lock; `opened` stays in */

static void free_peer(void *owner)
{
    free(owner);
    ADD(owners_freed, 1);
    tell();
}
static void on_opened(void *self, struct link_conn *conn)
{
    (void)self;
    pthread_mutex_lock(&lock);
    struct link_conn *before = last_conn;
    last_conn = link_ref(conn);
    ADD(opened, 1);
    while (hold_link)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    link_unref(before);
    tell();
    assert_int_equal(link_send(conn, PL_STR("{\"type\":\"challenge\"}")), PL_OK);
}
static void on_closed(void *self, struct link_conn *conn, struct link_call *c)
{
    struct peer *p = link_owner(conn);
    (void)self;
    assert_non_null(c->tx);
    SET(said_at_close, p ? p->said : -1);
    __atomic_store_n(&ended, link_ended(conn), __ATOMIC_SEQ_CST);
    ADD(closed, 1);
    tell();
}
static void say_welcome(void *arg)
{
    struct link_conn *conn = arg;
    ADD(afters, 1);
    enum pl_err e = link_send(conn, PL_STR("{\"type\":\"welcome\"}"));
    (void)e;
    tell();
}

struct hello { struct pl_str name; };
static const struct json_field hello_fields[] = { JSON_F(struct hello, name, J_STR, J_REQUIRED), J_END };
static enum pl_err on_hello(struct link_call *c, struct pl_fail *reterr)
{
    const struct hello *h = c->msg;
    ADD(tries, 1);
    if (pl_str_eqz(h->name, "stranger"))
        return pl_fail(reterr, PL_UNAUTHENTICATED, "Who are you?");
    struct peer *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->conn = c->conn;
    p->last_n = -1;
    link_set_owner(c->conn, p, free_peer);
    link_phase(c->conn, LINK_READY);
    link_after(c, say_welcome, c->conn);
    return PL_OK;
}

struct echo { int64_t n; };
static const struct json_field echo_fields[] = { JSON_F(struct echo, n, J_INT, J_REQUIRED), J_END };
static enum pl_err on_echo(struct link_call *c, struct pl_fail *reterr)
{
    const struct echo *m = c->msg;
    struct peer *p = link_owner(c->conn);
    (void)reterr;
    if (m->n != p->last_n + 1)
        ADD(out_of_order, 1);
    p->last_n = m->n;
    p->said++;
    ADD(said, 1);
    enum pl_err e = link_send(c->conn, c->text);
    (void)e; /* the peer may have left */
    tell();
    return PL_OK;
}
static enum pl_err on_quiet(struct link_call *c, struct pl_fail *reterr)
{
    const struct echo *m = c->msg;
    struct peer *p = link_owner(c->conn);
    (void)reterr;
    if (m->n != p->last_n + 1)
        ADD(out_of_order, 1);
    p->last_n = m->n;
    p->said++;
    ADD(said, 1);
    tell();
    return PL_OK;
}
static enum pl_err on_wait(struct link_call *c, struct pl_fail *reterr)
{
    (void)c;
    (void)reterr;
    ADD(tries, 1);
    tell();
    PL_LOCK(&lock);
    while (hold)
        pthread_cond_wait(&changed, &lock);
    return PL_OK;
}
static enum pl_err on_hard(struct link_call *c, struct pl_fail *reterr)
{
    (void)c;
    return pl_fail(reterr, PL_FENCED, "No.");
}
static enum pl_err on_soft(struct link_call *c, struct pl_fail *reterr)
{
    enum pl_err ours = (enum pl_err)GET(soft_ends_with);
    if (ours != PL_OK)
        return ours;
    c->keep_on_error = true;
    return pl_fail(reterr, PL_HUB_OFFLINE, "It is away.");
}
static const struct link_message messages[] = {
    { "hello", LINK_NEW, hello_fields, sizeof(struct hello), on_hello, false },
    { "echo", LINK_READY, echo_fields, sizeof(struct echo), on_echo, false },
    { "quiet", LINK_READY, echo_fields, sizeof(struct echo), on_quiet, false },
    { "wait", LINK_READY, NULL, 0, on_wait, false },
    { "hard", LINK_READY, NULL, 0, on_hard, false },
    { "soft", LINK_READY, NULL, 0, on_soft, true },
    LINK_END,
};
static const struct link_table tables[] = { { messages, NULL }, { NULL, NULL } };
#define PROTOCOL(n, p, ...) { .name = n, .path = p, .tables = tables, .opened = on_opened, .closed = on_closed, __VA_ARGS__ }
static const struct link_protocol protocols[] = {
    PROTOCOL("test.v1", "/test/v1", .messages_per_s = 100000, .threads = 2),
    PROTOCOL("few.v1", "/few/v1", .messages_per_s = 5),
    /* Times that a peer must keep are long beside what a loaded machine lets a thread wait. */
    PROTOCOL("new.v1", "/new/v1", .auth_us = 60 * PL_SECOND),
    PROTOCOL("late.v1", "/late/v1", .auth_us = PL_SECOND),
    PROTOCOL("ping.v1", "/ping/v1", .ping_us = 100 * PL_MS, .dead_us = 2 * PL_SECOND, .auth_us = 60 * PL_SECOND),
    PROTOCOL("slow.v1", "/slow/v1", .max_queued = 64 * 1024, .max_message = 1000),
    { .name = NULL },
};
/* ---- TLS: sockets by descriptor ---- */
static bool over_tls;
static struct certs certs;
static SSL_CTX *tls_client;
static SSL *tls_of[1024];

/* What is not named is as usual. */
static struct link *server_of(struct link_conf conf)
{
    struct link *l = NULL;
    struct pl_fail fail = PL_FAIL_INIT;
    conf.listen = conf.listen ? conf.listen : "127.0.0.1:0";
    conf.clock = conf.clock ? conf.clock : &pl_clock_system;
    conf.workers = 3;
    conf.queue = 64;
    conf.db.conninfo = "";
    conf.rand = &pl_rand_system;
    conf.protocols = protocols;
    if (over_tls && !conf.tls_cert) {
        conf.tls_cert = certs.good.cert;
        conf.tls_key = certs.good.key;
    }
    if (link_new(&conf, &l, &fail) != PL_OK || link_start(l, &fail) != PL_OK)
        fail_msg("%s", fail.detail);
    return l;
}
static struct link *server_at(const char *address, unsigned most, unsigned most_per_address)
{
    return server_of((struct link_conf){ .listen = address, .max_connections = most, .max_per_address = most_per_address });
}
static struct link *server(void) { return server_at("127.0.0.1:0", 0, 0); }
static int port_of(struct link *l)
{
    uint32_t port;
    assert_int_equal(pl_parse_u32(pl_str_of(strrchr(link_address(l), ':') + 1), 1, 65535, &port), PL_OK);
    return (int)port;
}

/* ---- a hand-made client: blocking, with a deadline on each read ---- */
struct raw {
    int fd;
    size_t n;
    char text[70000]; /* of the last frame, NUL-terminated */
    int opcode;       /* 0 after the end of the connection */
    int code;         /* of the last close frame */
};
static int tcp(int port, int receive_buffer)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct timeval deadline = { .tv_sec = 20 };
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    assert_true(fd >= 0);
    if (receive_buffer)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    return fd;
}
static SSL *tls_begin(int fd)
{
    SSL *ssl = SSL_new(tls_client);
    assert_true(ssl && fd < (int)PL_COUNT(tls_of));
    assert_int_equal(SSL_set_fd(ssl, fd), 1);
    assert_int_equal(SSL_connect(ssl), 1);
    return tls_of[fd] = ssl;
}
static int dial(int port, int receive_buffer)
{
    int fd = tcp(port, receive_buffer);
    if (over_tls)
        tls_begin(fd);
    return fd;
}
static void hang_up(int fd)
{
    if (fd < (int)PL_COUNT(tls_of)) {
        SSL_free(tls_of[fd]);
        tls_of[fd] = NULL;
    }
    close(fd);
}
static SSL *tls_at(int fd) { return fd < (int)PL_COUNT(tls_of) ? tls_of[fd] : NULL; }
static void put(int fd, const void *p, size_t n)
{
    if (n)
        assert_int_equal(tls_at(fd) ? SSL_write(tls_at(fd), p, (int)n) : send(fd, p, n, MSG_NOSIGNAL), n);
}
static ssize_t receive_all(int fd, char *p, size_t n)
{
    size_t k = 0;
    if (!tls_at(fd))
        return recv(fd, p, n, MSG_WAITALL);
    for (int got; k < n; k += (size_t)got) {
        errno = 0;
        if ((got = SSL_read(tls_at(fd), p + k, (int)(n - k))) <= 0)
            return -1;
    }
    return (ssize_t)n;
}
static void put_z(int fd, const char *z) { put(fd, z, strlen(z)); }
/* False at the end of the connection. A reset is an end; a deadline is a failure. */
static bool get(int fd, void *p, size_t n)
{
    ssize_t got = receive_all(fd, p, n);
    if (got < 0 && errno == EAGAIN)
        fail_msg("nothing came within the deadline");
    return got == (ssize_t)n;
}
static void get_head(int fd, char *mem, size_t cap)
{
    size_t n = 0;
    while (n + 1 < cap && get(fd, mem + n, 1)) {
        mem[++n] = 0;
        if (n >= 4 && memcmp(mem + n - 4, "\r\n\r\n", 4) == 0)
            return;
    }
    mem[n] = 0;
}
static void upgrade(int fd, const char *path, const char *name)
{
    char mem[512];
    snprintf(mem, sizeof mem,
             "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: %s\r\n\r\n", path, name);
    put_z(fd, mem);
}
static struct raw *raw_open(struct link *l, const char *path, const char *name, int receive_buffer)
{
    char head[1024];
    struct raw *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->fd = dial(port_of(l), receive_buffer);
    upgrade(r->fd, path, name);
    get_head(r->fd, head, sizeof head);
    assert_non_null(strstr(head, "101"));
    return r;
}
static struct raw *raw_free(struct raw *r)
{
    hang_up(r->fd);
    free(r);
    return NULL;
}
/* Masked with zeros: the text stays as it is. */
static void raw_frame(struct raw *r, int opcode, bool final, const void *p, size_t n)
{
    unsigned char head[14] = { (unsigned char)((final ? 0x80 : 0) | opcode), (unsigned char)(0x80 | (n < 126 ? n : n < 65536 ? 126 : 127)) };
    size_t k = 2;
    if (n >= 65536)
        for (int shift = 56; shift >= 0; shift -= 8)
            head[k++] = (unsigned char)((uint64_t)n >> shift);
    else if (n >= 126) {
        head[k++] = (unsigned char)(n >> 8);
        head[k++] = (unsigned char)n;
    }
    put(r->fd, head, k + 4);
    put(r->fd, p, n);
}
static void raw_say(struct raw *r, const char *json) { raw_frame(r, 1, true, json, strlen(json)); }
/* The next frame; opcode 0 when the connection has ended. */
static void raw_next(struct raw *r)
{
    unsigned char head[2], more[8];
    r->opcode = 0;
    r->n = 0;
    r->text[0] = 0;
    if (!get(r->fd, head, 2))
        return;
    r->n = head[1] & 0x7f;
    if (r->n == 126) {
        assert_true(get(r->fd, more, 2));
        r->n = (size_t)more[0] << 8 | more[1];
    }
    assert_true(r->n < sizeof r->text);
    if (r->n && !get(r->fd, r->text, r->n))
        return;
    r->text[r->n] = 0;
    r->opcode = head[0] & 0xf;
    if (r->opcode == 8) {
        r->code = r->n >= 2 ? (unsigned char)r->text[0] << 8 | (unsigned char)r->text[1] : 1005;
        memmove(r->text, r->text + 2, r->n >= 2 ? r->n - 1 : 1);
    }
}
static void expect_text(struct raw *r, const char *part)
{
    do
        raw_next(r);
    while (r->opcode == 9);
    if (r->opcode != 1 || !strstr(r->text, part))
        fail_msg("frame %d `%s` instead of `%s`", r->opcode, r->text, part);
}
/* The close frame, over whatever stands before it. */
static void expect_close(struct raw *r, int code, const char *reason)
{
    do
        raw_next(r);
    while (r->opcode != 8 && r->opcode != 0);
    if (r->opcode != 8 || r->code != code || strcmp(r->text, reason) != 0)
        fail_msg("frame %d, closed with %d `%s` instead of %d `%s`", r->opcode, r->code, r->text, code, reason);
    unsigned char echo[2] = { (unsigned char)(code >> 8), (unsigned char)code };
    raw_frame(r, 8, true, echo, 2);
    raw_next(r);
    assert_int_equal(r->opcode, 0);
}
static struct raw *raw_hello(struct link *l, const char *path, const char *name, int receive_buffer)
{
    struct raw *r = raw_open(l, path, name, receive_buffer);
    expect_text(r, "challenge");
    raw_say(r, "{\"type\":\"hello\",\"id\":\"1\",\"name\":\"raw\"}");
    expect_text(r, "welcome");
    return r;
}

/* ---- the real client ---- */
struct user {
    struct link_client *client;
    int opens, closes, code, ticks, messages, welcomes; /* atomic */
    int64_t next_n;
    int wrong; /* atomic */
    char reason[128]; /* of the last close; read it when `closes` has risen */
    const char *ca_file; /* NULL: the one that vouches for the server */
};
static void user_open(void *self)
{
    struct user *u = self;
    ADD(u->opens, 1);
    tell();
}
static void user_message(void *self, struct pl_str text)
{
    struct user *u = self;
    struct echo m = { 0 };
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(4096);
    ADD(u->messages, 1);
    if (memmem(text.p, text.n, "challenge", 9)) {
        assert_int_equal(link_client_send(u->client, PL_STR("{\"type\":\"hello\",\"name\":\"user\"}")), PL_OK);
    } else if (memmem(text.p, text.n, "welcome", 7))
        ADD(u->welcomes, 1);
    else if (json_take(echo_fields, JSON_LENIENT, text, a, &m, NULL) != PL_OK || m.n != u->next_n++)
        ADD(u->wrong, 1);
    tell();
}
static void user_close(void *self, int code, struct pl_str reason)
{
    struct user *u = self;
    snprintf(u->reason, sizeof u->reason, "%.*s", PL_FMT(reason));
    SET(u->code, code);
    ADD(u->closes, 1);
    tell();
}
static void user_tick(void *self)
{
    struct user *u = self;
    ADD(u->ticks, 1);
    tell();
}
static void user_start(struct user *u, int port, const char *path, const char *name, int64_t dead_us)
{
    char url[80];
    struct pl_fail fail = PL_FAIL_INIT;
    snprintf(url, sizeof url, "%s://127.0.0.1:%d%s", over_tls ? "wss" : "ws", port, path);
    struct link_client_conf conf = { .url = url, .protocol = name, .ca_file = u->ca_file ? u->ca_file : over_tls ? certs.ca : NULL, .self = u, .on_open = user_open,
                                     .on_message = user_message, .on_close = user_close, .on_tick = user_tick, .dead_us = dead_us, .clock = &pl_clock_system, .rand = &pl_rand_system };
    if (link_client_new(&conf, &u->client, &fail) != PL_OK)
        fail_msg("%s", fail.detail);
    link_client_window(u->client, 10 * PL_MS, 50 * PL_MS);
}

static int reset(void **state)
{
    (void)state;
    pthread_mutex_lock(&lock);
    struct link_conn *c = last_conn;
    last_conn = NULL;
    hold = hold_link = false;
    pthread_mutex_unlock(&lock);
    link_unref(c);
    int *all[] = { &opened, &closed, &owners_freed, &said, &out_of_order, &said_at_close, &afters, &tries, &posts, &db_retries, &db_commits, &db_rollbacks,
                   &soft_ends_with };
    for (size_t i = 0; i < PL_COUNT(all); i++)
        SET(*all[i], 0);
    SET(db_is_away, false);
    return 0;
}
static struct link_conn *take_last(void)
{
    PL_LOCK(&lock);
    return last_conn ? link_ref(last_conn) : NULL;
}
static void say_n(struct raw *r, const char *type, int n)
{
    char mem[80];
    snprintf(mem, sizeof mem, "{\"type\":\"%s\",\"n\":%d}", type, n);
    raw_say(r, mem);
}

static void turned_away(struct link *l, const char *request, const char *status)
{
    char head[1024];
    int fd = dial(port_of(l), 0);
    put_z(fd, request);
    get_head(fd, head, sizeof head);
    if (!strstr(head, status))
        fail_msg("`%s` instead of %s", head, status);
    while (get(fd, head, 1)) {
    }
    hang_up(fd);
}
#define WS "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

/* For want of room: told why, or, where TLS is spoken, not worth a handshake. */
static void no_room(struct link *l, const char *request, const char *status)
{
    char byte;
    if (!over_tls) {
        turned_away(l, request, status);
        return;
    }
    int fd = tcp(port_of(l), 0);
    assert_false(get(fd, &byte, 1));
    close(fd);
}

/* Before all tests, and after. */
static int tls_set_up(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    certs_make(&certs);
    tls_client = SSL_CTX_new(TLS_client_method());
    assert_true(tls_client && SSL_CTX_load_verify_file(tls_client, certs.ca) == 1);
    SSL_CTX_set_verify(tls_client, SSL_VERIFY_PEER, NULL);
    return 0;
}
static int tls_tear_down(void **state)
{
    (void)state;
    SSL_CTX_free(tls_client);
    certs_remove(&certs);
    return 0;
}
#define T(f) cmocka_unit_test_setup_teardown(f, reset, reset)
