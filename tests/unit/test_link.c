/* The serving engine and the dialling side against each other on loopback, and against a hand-made client that does what a good one never would.
 * The database is a stand-in with switches; nothing here waits for a time to pass, only for an event with a deadline. */
#include "link.h"
#include "link_client.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a database with switches ---- */
struct db { int unused; };
struct db_tx { int unused; };
static bool db_is_away;                    /* atomic */
static int db_retries, db_commits, db_rollbacks; /* atomic */
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
    c->keep_on_error = true;
    return pl_fail(reterr, PL_FLOOR_BUSY, "Somebody talks.");
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
    PROTOCOL("late.v1", "/late/v1", .auth_us = 200 * PL_MS),
    PROTOCOL("ping.v1", "/ping/v1", .ping_us = 100 * PL_MS, .dead_us = 400 * PL_MS, .auth_us = 60 * PL_SECOND),
    PROTOCOL("slow.v1", "/slow/v1", .max_queued = 64 * 1024, .max_message = 1000),
    { .name = NULL },
};
static struct link *server_at(const char *address, unsigned most, unsigned most_per_address)
{
    struct link *l = NULL;
    struct pl_fail fail = PL_FAIL_INIT;
    struct link_conf conf = { .listen = address, .workers = 3, .queue = 64, .max_connections = most, .max_per_address = most_per_address,
                              .db = { .conninfo = "" }, .clock = &pl_clock_system, .rand = &pl_rand_system, .protocols = protocols };
    if (link_new(&conf, &l, &fail) != PL_OK || link_start(l, &fail) != PL_OK)
        fail_msg("%s", fail.detail);
    return l;
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
static void put(int fd, const void *p, size_t n) { assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), n); }
static void put_z(int fd, const char *z) { put(fd, z, strlen(z)); }
/* False at the end of the connection. A reset is an end; a deadline is a failure. */
static bool get(int fd, void *p, size_t n)
{
    ssize_t got = recv(fd, p, n, MSG_WAITALL);
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
    r->fd = tcp(port_of(l), receive_buffer);
    upgrade(r->fd, path, name);
    get_head(r->fd, head, sizeof head);
    assert_non_null(strstr(head, "101"));
    return r;
}
static struct raw *raw_free(struct raw *r)
{
    close(r->fd);
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
    (void)reason;
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
    snprintf(url, sizeof url, "ws://127.0.0.1:%d%s", port, path);
    struct link_client_conf conf = { .url = url, .protocol = name, .self = u, .on_open = user_open, .on_message = user_message, .on_close = user_close,
                                     .on_tick = user_tick, .dead_us = dead_us, .clock = &pl_clock_system, .rand = &pl_rand_system };
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
    int *all[] = { &opened, &closed, &owners_freed, &said, &out_of_order, &said_at_close, &afters, &tries, &posts, &db_retries, &db_commits, &db_rollbacks };
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

/* ---- tests ---- */
static void hello_and_echo_in_order(void **state)
{
    struct link *l = server();
    struct user u = { 0 };
    (void)state;
    user_start(&u, port_of(l), "/test/v1", "test.v1", 0);
    WAIT(GET(u.welcomes) == 1);
    for (int i = 0; i < 500; i++) {
        char mem[64];
        snprintf(mem, sizeof mem, "{\"type\":\"echo\",\"n\":%d}", i);
        assert_int_equal(link_client_send(u.client, pl_str_of(mem)), PL_OK);
    }
    WAIT(GET(u.messages) == 502);
    assert_int_equal(GET(u.wrong), 0);
    assert_int_equal(GET(out_of_order), 0);
    WAIT(GET(u.ticks) >= 1);
    u.client = link_client_free(u.client);
    assert_int_equal(GET(u.closes), 1);
    WAIT(GET(closed) == 1);
    assert_int_equal(GET(said_at_close), 500);
    link_stop(l, PL_SECOND);
    assert_int_equal(GET(owners_freed), 0); /* the test's own reference is the last one */
    struct link_conn *c = take_last();
    reset(NULL);
    assert_int_equal(GET(owners_freed), 0);
    link_unref(c);
    assert_int_equal(GET(owners_freed), 1);
}

static void phases_are_data(void **state)
{
    struct link *l = server();
    (void)state;
    struct raw *r = raw_open(l, "/test/v1", "test.v1", 0);
    expect_text(r, "challenge");
    raw_say(r, "{\"type\":\"echo\",\"id\":\"7\",\"n\":0}");
    expect_text(r, "\"re\":\"7\",\"code\":\"protocol_error\"");
    expect_close(r, 4400, "protocol_error");
    raw_free(r);
    r = raw_hello(l, "/test/v1", "test.v1", 0);
    raw_say(r, "{\"type\":\"hello\",\"name\":\"again\"}");
    expect_close(r, 4400, "protocol_error");
    raw_free(r);
    assert_int_equal(GET(said), 0);
    WAIT(GET(closed) == 2);
    link_stop(l, PL_SECOND);
}

static void malformed_closes(void **state)
{
    static const char *const bad[] = {
        "", "{", "[]", "\"hello\"", "{\"type\":\"hello\",\"type\":\"hello\"}", "{\"type\":7}", "{}", "{\"type\":\"hello\"}", "{\"type\":\"hello\",\"name\":9}",
        "{\"type\":\"hello\",\"name\":\"\xff\xfe\"}", "{\"type\":\"hello\",\"name\":\"a\\u0000b\"}", "{\"type\":\"hello\",\"x\":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}" };
    struct link *l = server();
    (void)state;
    for (size_t i = 0; i < PL_COUNT(bad); i++) {
        struct raw *r = raw_open(l, "/test/v1", "test.v1", 0);
        expect_text(r, "challenge");
        raw_say(r, bad[i]);
        expect_close(r, 4400, "protocol_error");
        raw_free(r);
    }
    struct raw *r = raw_open(l, "/test/v1", "test.v1", 0);
    raw_frame(r, 2, true, "{\"type\":\"hello\",\"name\":\"x\"}", 27);
    expect_close(r, 4400, "protocol_error");
    raw_free(r);
    assert_int_equal(GET(tries), 0);
    assert_int_equal(GET(db_rollbacks), 0);
    link_stop(l, PL_SECOND);
}

static void unknown_is_ignored(void **state)
{
    struct link *l = server();
    (void)state;
    struct raw *r = raw_open(l, "/test/v1", "test.v1", 0);
    expect_text(r, "challenge");
    raw_say(r, "{\"type\":\"from-the-future\",\"x\":{\"y\":1}}");
    raw_say(r, "{\"type\":\"hello\",\"name\":\"raw\",\"colour\":\"red\"}");
    expect_text(r, "welcome");
    raw_say(r, "{\"type\":\"from-the-future\"}");
    say_n(r, "echo", 0);
    expect_text(r, "\"n\":0");
    raw_free(r);
    link_stop(l, PL_SECOND);
}

/* S-D13: 64 KiB messages, here 1,000 bytes; whole, announced or in pieces. */
static void too_large_closes(void **state)
{
    static char big[70000];
    struct link *l = server();
    (void)state;
    memset(big, ' ', sizeof big);
    struct raw *r = raw_open(l, "/slow/v1", "slow.v1", 0);
    expect_text(r, "challenge");
    raw_frame(r, 1, true, big, 1001);
    expect_close(r, 4413, "body_too_large");
    raw_free(r);
    r = raw_open(l, "/slow/v1", "slow.v1", 0);
    raw_frame(r, 1, false, big, 600);
    raw_frame(r, 0, false, big, 401);
    expect_close(r, 4413, "body_too_large");
    raw_free(r);
    r = raw_open(l, "/test/v1", "test.v1", 0);
    raw_frame(r, 1, true, big, 65537);
    expect_close(r, 4413, "body_too_large");
    raw_free(r);
    /* A message in crumbs is one message; crumbs of nothing are refused. */
    r = raw_open(l, "/test/v1", "test.v1", 0);
    expect_text(r, "challenge");
    const char *hello = "{\"type\":\"hello\",\"name\":\"crumbs\"}";
    for (size_t i = 0; i < strlen(hello); i++)
        raw_frame(r, i ? 0 : 1, i + 1 == strlen(hello), hello + i, 1);
    expect_text(r, "welcome");
    raw_frame(r, 1, false, "", 0);
    expect_close(r, 4400, "protocol_error");
    raw_free(r);
    link_stop(l, PL_SECOND);
}

/* S-D13: rate limits per hub. */
static void too_many_closes(void **state)
{
    struct link *l = server();
    (void)state;
    struct raw *r = raw_hello(l, "/few/v1", "few.v1", 0);
    for (int i = 0; i < 60; i++)
        say_n(r, "quiet", i);
    expect_close(r, 4429, "rate_limited");
    raw_free(r);
    WAIT(GET(closed) == 1);
    assert_true(GET(said) <= 21);
    link_stop(l, PL_SECOND);
}

static void late_authentication_closes(void **state)
{
    struct link *l = server();
    (void)state;
    struct raw *r = raw_open(l, "/late/v1", "late.v1", 0), *good = raw_hello(l, "/late/v1", "late.v1", 0);
    expect_text(r, "challenge");
    expect_close(r, 4408, "too_slow");
    raw_free(r);
    say_n(good, "echo", 0);
    expect_text(good, "\"n\":0");
    raw_free(good);
    link_stop(l, PL_SECOND);
}

/* Silent death is seen: a peer that does not answer pings is cut, one that does stays. */
static void silence_is_death(void **state)
{
    struct link *l = server();
    struct user u = { 0 };
    (void)state;
    user_start(&u, port_of(l), "/ping/v1", "ping.v1", 0);
    WAIT(GET(u.welcomes) == 1);
    struct raw *r = raw_open(l, "/ping/v1", "ping.v1", 0);
    expect_text(r, "challenge");
    raw_next(r);
    assert_int_equal(r->opcode, 9);
    raw_frame(r, 10, true, r->text, r->n);
    raw_next(r);
    assert_int_equal(r->opcode, 9);
    raw_next(r);
    assert_int_equal(r->opcode, 0);
    raw_free(r);
    WAIT(GET(closed) == 1);
    assert_string_equal(GET(ended), "silent");
    assert_int_equal(GET(u.closes), 0);
    u.client = link_client_free(u.client);
    link_stop(l, PL_SECOND);
}

static void slow_reader_closes(void **state)
{
    static char text[1000];
    struct link *l = server();
    (void)state;
    memset(text, '"', sizeof text);
    struct raw *r = raw_hello(l, "/slow/v1", "slow.v1", 4096);
    struct link_conn *c = take_last();
    enum pl_err e = PL_OK;
    int sent = 0;
    while ((e = link_send(c, (struct pl_str){ text, sizeof text })) == PL_OK)
        assert_true(++sent < 1000000);
    assert_int_equal(e, PL_TOO_SLOW);
    assert_int_equal(link_send(c, (struct pl_str){ text, sizeof text }), PL_UNAVAILABLE);
    expect_close(r, 4408, "too_slow");
    raw_free(r);
    WAIT(GET(closed) == 1);
    assert_string_equal(GET(ended), "too_slow");
    link_unref(c);
    link_stop(l, PL_SECOND);
}

static void closed_comes_once_and_last(void **state)
{
    struct link *l = server();
    (void)state;
    for (int round = 1; round <= 20; round++) {
        struct raw *r = raw_hello(l, "/test/v1", "test.v1", 0);
        for (int i = 0; i < 40; i++)
            say_n(r, "quiet", i);
        raw_free(r);
        WAIT(GET(closed) == round);
        assert_int_equal(GET(said_at_close), 40);
    }
    assert_int_equal(GET(out_of_order), 0);
    link_stop(l, PL_SECOND);
    assert_int_equal(GET(closed), 20);
    reset(NULL);
}

static enum pl_err a_post(struct link_call *call, void *arg, struct pl_fail *reterr)
{
    struct peer *p = link_owner(call->conn);
    assert_non_null(call->tx);
    (void)reterr;
    *(int *)arg = p->said;
    ADD(posts, 1);
    tell();
    return PL_OK;
}
static void posts_run_in_order(void **state)
{
    struct link *l = server();
    int seen = -1;
    (void)state;
    struct raw *r = raw_hello(l, "/test/v1", "test.v1", 0);
    struct link_conn *c = take_last();
    pthread_mutex_lock(&lock);
    hold = true;
    pthread_mutex_unlock(&lock);
    raw_say(r, "{\"type\":\"wait\"}");
    WAIT(GET(tries) == 2);
    assert_int_equal(link_post(c, a_post, &seen), PL_OK);
    assert_int_equal(GET(posts), 0);
    pthread_mutex_lock(&lock);
    hold = false;
    pthread_mutex_unlock(&lock);
    tell();
    WAIT(GET(posts) == 1);
    assert_int_equal(seen, 0);
    raw_free(r);
    WAIT(GET(closed) == 1);
    assert_int_equal(link_post(c, a_post, &seen), PL_UNAVAILABLE);
    link_unref(c);
    link_stop(l, PL_SECOND);
}

static void *send_hundred(void *arg)
{
    char mem[80];
    for (int i = 0; i < 100; i++) {
        snprintf(mem, sizeof mem, "{\"from\":%d,\"n\":%d}", *(int *)arg, i);
        assert_int_equal(link_send(last_conn, pl_str_of(mem)), PL_OK);
    }
    return NULL;
}
static void eight_threads_send(void **state)
{
    struct link *l = server();
    pthread_t threads[8];
    int names[8], next[8] = { 0 };
    (void)state;
    struct raw *r = raw_hello(l, "/test/v1", "test.v1", 0);
    for (int i = 0; i < 8; i++) {
        names[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, send_hundred, &names[i]), 0);
    }
    for (int i = 0; i < 800; i++) {
        int from = -1, n = -1;
        raw_next(r);
        assert_int_equal(r->opcode, 1);
        assert_int_equal(sscanf(r->text, "{\"from\":%d,\"n\":%d}", &from, &n), 2);
        assert_in_range(from, 0, 7);
        assert_int_equal(n, next[from]++);
    }
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    raw_free(r);
    link_stop(l, PL_SECOND);
}

static void client_returns_after_restart(void **state)
{
    struct link *l = server();
    struct user u = { 0 };
    char address[64];
    (void)state;
    user_start(&u, port_of(l), "/test/v1", "test.v1", 0);
    WAIT(GET(u.welcomes) == 1);
    snprintf(address, sizeof address, "%s", link_address(l));
    link_stop(l, 5 * PL_SECOND);
    assert_int_equal(GET(closed), 1);
    WAIT(GET(u.closes) >= 1);
    assert_int_equal(link_client_send(u.client, PL_STR("{}")), PL_UNAVAILABLE);
    l = server_at(address, 0, 0);
    WAIT(GET(u.welcomes) == 2);
    link_client_reconnect(u.client);
    WAIT(GET(u.welcomes) == 3);
    u.client = link_client_free(u.client);
    link_stop(l, PL_SECOND);
}

static void *stop_it(void *arg)
{
    link_stop(arg, 10 * PL_SECOND);
    return NULL;
}
static void stop_flushes_and_says_so(void **state)
{
    struct link *l = server();
    pthread_t stopper;
    char mem[64];
    (void)state;
    struct raw *r = raw_hello(l, "/test/v1", "test.v1", 0);
    for (int i = 0; i < 100; i++) {
        snprintf(mem, sizeof mem, "{\"n\":%d}", i);
        assert_int_equal(link_send(last_conn, pl_str_of(mem)), PL_OK);
    }
    assert_int_equal(pthread_create(&stopper, NULL, stop_it, l), 0);
    for (int i = 0; i < 100; i++) {
        snprintf(mem, sizeof mem, "{\"n\":%d}", i);
        expect_text(r, mem);
    }
    expect_close(r, 1001, "cloud_restart");
    pthread_join(stopper, NULL);
    assert_int_equal(GET(closed), 1);
    raw_free(r);
}

/* A peer that neither reads nor answers does not hold the stop, nor does a database that is away. */
static void stop_has_an_end(void **state)
{
    struct link *l = server();
    (void)state;
    struct raw *r = raw_hello(l, "/test/v1", "test.v1", 0);
    SET(db_is_away, true);
    link_stop(l, 200 * PL_MS);
    assert_int_equal(GET(closed), 0);
    raw_free(r);
    SET(db_is_away, false);
}

static void turned_away(struct link *l, const char *request, const char *status)
{
    char head[1024];
    int fd = tcp(port_of(l), 0);
    put_z(fd, request);
    get_head(fd, head, sizeof head);
    if (!strstr(head, status))
        fail_msg("`%s` instead of %s", head, status);
    while (get(fd, head, 1)) {
    }
    close(fd);
}
#define WS "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
static void door_turns_away(void **state)
{
    static char long_head[6000];
    struct link *l = server();
    (void)state;
    turned_away(l, "GET /nowhere HTTP/1.1\r\nHost: x\r\n" WS "Sec-WebSocket-Protocol: test.v1\r\n\r\n", "HTTP/1.1 404 ");
    turned_away(l, "GET /test/v1/ HTTP/1.1\r\nHost: x\r\n" WS "Sec-WebSocket-Protocol: test.v1\r\n\r\n", "HTTP/1.1 404 ");
    turned_away(l, "POST /test/v1 HTTP/1.1\r\nHost: x\r\n" WS "Sec-WebSocket-Protocol: test.v1\r\n\r\n", "HTTP/1.1 405 ");
    turned_away(l, "GET /test/v1 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 426 ");
    turned_away(l, "GET /test/v1 HTTP/1.1\r\nHost: x\r\n" WS "\r\n", "HTTP/1.1 426 ");
    turned_away(l, "GET /test/v1 HTTP/1.1\r\nHost: x\r\n" WS "Sec-WebSocket-Protocol: few.v1, test.v11\r\n\r\n", "HTTP/1.1 426 ");
    turned_away(l, "nonsense\r\n\r\n", "HTTP/1.1 426 ");
    snprintf(long_head, sizeof long_head, "GET /test/v1 HTTP/1.1\r\nX: %04000d\r\n", 0);
    memset(long_head + strlen(long_head), 'a', 200);
    turned_away(l, long_head, "HTTP/1.1 431 ");
    /* In pieces and with a query it is let in. */
    char head[512];
    int fd = tcp(port_of(l), 0);
    put_z(fd, "GET /test/v1?x=1 HT");
    put_z(fd, "TP/1.1\r\nHost: x\r\n" WS "Sec-WebSocket-Protocol: other, test.v1\r\n\r");
    put_z(fd, "\n");
    get_head(fd, head, sizeof head);
    assert_non_null(strstr(head, "101"));
    close(fd);
    link_stop(l, PL_SECOND);
}

static void room_is_bounded(void **state)
{
    struct link *l = server_at("127.0.0.1:0", 3, 2);
    (void)state;
    const char *good = "GET /test/v1 HTTP/1.1\r\nHost: x\r\n" WS "Sec-WebSocket-Protocol: test.v1\r\n\r\n";
    struct raw *a = raw_hello(l, "/test/v1", "test.v1", 0), *b = raw_hello(l, "/test/v1", "test.v1", 0);
    turned_away(l, good, "HTTP/1.1 429 ");
    raw_free(a);
    WAIT(GET(closed) == 1);
    raw_free(b);
    WAIT(GET(closed) == 2);
    link_stop(l, PL_SECOND);
    l = server_at("[::1]:0", 1, 0);
    assert_non_null(strstr(link_address(l), "[::1]:"));
    link_stop(l, PL_SECOND);
    l = server_at("127.0.0.1:0", 1, 0);
    a = raw_hello(l, "/test/v1", "test.v1", 0);
    turned_away(l, good, "HTTP/1.1 503 ");
    raw_free(a);
    link_stop(l, PL_SECOND);
}

/* Who connects and says nothing, or drips, or floods, costs nobody else anything (S-D13). */
static void idlers_cost_nothing(void **state)
{
    struct link *l = server();
    int idle[200];
    (void)state;
    for (int i = 0; i < 200; i++) {
        idle[i] = tcp(port_of(l), 0);
        if (i % 2)
            put_z(idle[i], "GET /test/v1 HTTP/1.1\r\nX: ");
    }
    struct raw *r = raw_hello(l, "/test/v1", "test.v1", 0);
    say_n(r, "echo", 0);
    expect_text(r, "\"n\":0");
    raw_free(r);
    for (int i = 0; i < 200; i++)
        close(idle[i]);
    link_stop(l, PL_SECOND);
}

/* More than 64 messages of one connection do not wait: its socket is not read until the pool has caught up; others go on. */
static void pool_behind_stops_reading(void **state)
{
    struct link *l = server();
    (void)state;
    struct raw *r = raw_hello(l, "/test/v1", "test.v1", 0);
    pthread_mutex_lock(&lock);
    hold = true;
    pthread_mutex_unlock(&lock);
    raw_say(r, "{\"type\":\"wait\"}");
    WAIT(GET(tries) == 2);
    for (int i = 0; i < 500; i++)
        say_n(r, "quiet", i);
    struct raw *other = raw_hello(l, "/test/v1", "test.v1", 0);
    say_n(other, "echo", 0);
    expect_text(other, "\"n\":0");
    assert_int_equal(GET(said), 1);
    pthread_mutex_lock(&lock);
    hold = false;
    pthread_mutex_unlock(&lock);
    tell();
    WAIT(GET(said) == 501);
    assert_int_equal(GET(out_of_order), 0);
    raw_free(r);
    raw_free(other);
    link_stop(l, PL_SECOND);
}

static void transactions(void **state)
{
    struct link *l = server();
    (void)state;
    struct raw *r = raw_open(l, "/test/v1", "test.v1", 0);
    expect_text(r, "challenge");
    SET(db_retries, 2);
    raw_say(r, "{\"type\":\"hello\",\"name\":\"thrice\"}");
    expect_text(r, "welcome");
    assert_int_equal(GET(tries), 3); /* ran again on PL_RETRY */
    assert_int_equal(GET(afters), 1); /* what follows a commit came once */
    assert_int_equal(GET(db_commits), 1);
    raw_say(r, "{\"type\":\"soft\",\"id\":\"s\"}");
    expect_text(r, "{\"type\":\"error\",\"re\":\"s\",\"code\":\"floor_busy\",\"detail\":\"Somebody talks.\"}");
    assert_int_equal(GET(db_commits), 2); /* keep_on_error */
    assert_int_equal(GET(db_rollbacks), 0);
    raw_say(r, "{\"type\":\"hard\"}");
    expect_close(r, 4409, "fenced");
    assert_int_equal(GET(db_rollbacks), 1);
    raw_free(r);
    r = raw_open(l, "/test/v1", "test.v1", 0);
    raw_say(r, "{\"type\":\"hello\",\"name\":\"stranger\"}");
    expect_close(r, 4401, "unauthenticated");
    raw_free(r);
    WAIT(GET(closed) == 2);
    link_stop(l, PL_SECOND);
}

/* Nothing is lost in silence: with the database away a message closes the connection, and `closed` waits for it to come back. */
static void database_away(void **state)
{
    struct link *l = server();
    (void)state;
    struct raw *r = raw_hello(l, "/test/v1", "test.v1", 0);
    struct raw *s = raw_hello(l, "/test/v1", "test.v1", 0);
    SET(db_is_away, true);
    say_n(r, "echo", 0);
    expect_close(r, 4503, "unavailable");
    raw_free(r);
    raw_free(s);
    assert_int_equal(GET(said), 0);
    assert_int_equal(GET(closed), 0);
    SET(db_is_away, false);
    WAIT(GET(closed) == 2);
    link_stop(l, PL_SECOND);
    assert_int_equal(GET(closed), 2);
}

static void close_from_outside(void **state)
{
    struct link *l = server();
    (void)state;
    struct raw *r = raw_hello(l, "/test/v1", "test.v1", 0);
    struct link_conn *c = take_last();
    assert_int_equal(link_send(c, PL_STR("{\"last\":1}")), PL_OK);
    link_close(c, PL_FENCED);
    link_close(c, PL_TOO_SLOW);
    assert_int_equal(link_send(c, PL_STR("{}")), PL_UNAVAILABLE);
    expect_text(r, "{\"last\":1}");
    expect_close(r, 4409, "fenced");
    raw_free(r);
    WAIT(GET(closed) == 1);
    assert_string_equal(GET(ended), "fenced");
    assert_true(pl_str_eqz(link_peer(c), "127.0.0.1"));
    link_stop(l, PL_SECOND);
    assert_int_equal(link_send(c, PL_STR("{}")), PL_UNAVAILABLE); /* outlives the engine */
    link_unref(c);
    reset(NULL);
}

/* A server that holds the connection but says nothing any more is left, and found again when it speaks. */
static void client_sees_silence(void **state)
{
    struct link *l = server();
    struct user u = { 0 };
    (void)state;
    user_start(&u, port_of(l), "/few/v1", "few.v1", 300 * PL_MS);
    WAIT(GET(u.welcomes) == 1);
    assert_int_equal(GET(u.closes), 0);
    pthread_mutex_lock(&lock);
    hold_link = true;
    pthread_mutex_unlock(&lock);
    int fd = tcp(port_of(l), 0);
    upgrade(fd, "/few/v1", "few.v1"); /* its greeting stops the one thread of this class */
    WAIT(GET(u.closes) == 1);
    assert_int_equal(GET(u.code), 1006);
    pthread_mutex_lock(&lock);
    hold_link = false;
    pthread_mutex_unlock(&lock);
    tell();
    WAIT(GET(u.welcomes) == 2);
    u.client = link_client_free(u.client);
    close(fd);
    link_stop(l, PL_SECOND);
}

static void client_ends_at_any_time(void **state)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t size = sizeof sa;
    struct pl_fail fail = PL_FAIL_INIT;
    struct link_client *none = NULL;
    (void)state;
    /* One that accepts and never answers, and one where nobody listens. */
    int mute = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(mute, (struct sockaddr *)&sa, sizeof sa), 0);
    struct user early = { 0 }, refused = { 0 }, waiting = { 0 };
    getsockname(mute, (struct sockaddr *)&sa, &size);
    user_start(&refused, ntohs(sa.sin_port), "/test/v1", "test.v1", 0);
    WAIT(GET(refused.closes) >= 2);
    assert_int_equal(GET(refused.code), 0);
    refused.client = link_client_free(refused.client);
    assert_int_equal(listen(mute, 5), 0);
    user_start(&early, ntohs(sa.sin_port), "/test/v1", "test.v1", 0);
    early.client = link_client_free(early.client);
    user_start(&waiting, ntohs(sa.sin_port), "/test/v1", "test.v1", 0);
    int fd = accept(mute, NULL, NULL);
    assert_true(fd >= 0);
    waiting.client = link_client_free(waiting.client);
    close(fd);
    close(mute);
    static const char *const bad[] = { "http://x/", "ws://", "ws://:80/", "ws://h:0/", "ws://h:99999/", "h:80", "" };
    for (size_t i = 0; i < PL_COUNT(bad); i++) {
        struct link_client_conf conf = { .url = bad[i], .protocol = "p", .clock = &pl_clock_system, .rand = &pl_rand_system };
        assert_int_equal(link_client_new(&conf, &none, &fail), PL_INVALID_REQUEST);
        assert_null(none);
    }
    assert_null(link_client_free(NULL));
}

static void engine_that_cannot_start(void **state)
{
    struct link *l = NULL, *taken = server();
    struct pl_fail fail = PL_FAIL_INIT;
    struct link_conf conf = { .listen = "nowhere", .clock = &pl_clock_system, .rand = &pl_rand_system, .protocols = protocols };
    (void)state;
    assert_int_equal(link_new(&conf, &l, &fail), PL_INVALID_REQUEST);
    conf.listen = link_address(taken);
    assert_int_equal(link_new(&conf, &l, &fail), PL_IO);
    conf.listen = "127.0.0.1:0";
    assert_int_equal(link_new(&conf, &l, &fail), PL_OK);
    assert_null(link_stop(l, PL_SECOND)); /* never started */
    assert_null(link_stop(NULL, 0));
    link_stop(taken, PL_SECOND);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, reset, reset)
    const struct CMUnitTest all[] = {
        T(hello_and_echo_in_order), T(phases_are_data), T(malformed_closes), T(unknown_is_ignored), T(too_large_closes), T(too_many_closes),
        T(late_authentication_closes), T(silence_is_death), T(slow_reader_closes), T(closed_comes_once_and_last), T(posts_run_in_order),
        T(eight_threads_send), T(client_returns_after_restart), T(stop_flushes_and_says_so), T(stop_has_an_end), T(door_turns_away), T(room_is_bounded),
        T(idlers_cost_nothing), T(pool_behind_stops_reading), T(transactions), T(database_away), T(close_from_outside), T(client_sees_silence),
        T(client_ends_at_any_time), T(engine_that_cannot_start),
    };
    pl_log_level(PL_ERROR);
    return cmocka_run_group_tests(all, NULL, NULL);
}
