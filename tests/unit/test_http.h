/* What test_http.c stands on: the engine on a port of its own, a client that sends bytes, and what http_db.h has. Waits are on events, with a deadline of ten seconds. */
#pragma once
#include "http_db.h"
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a gate that handlers wait at ---- */
static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_moved = PTHREAD_COND_INITIALIZER;
static unsigned entered; /* LOCK: gate_lock */
static bool gate_open;   /* LOCK: gate_lock */
static void open_gate(void)
{
    PL_LOCK(&gate_lock);
    gate_open = true;
    pthread_cond_broadcast(&gate_moved);
}
static inline void wait_entered(unsigned n)
{
    PL_LOCK(&gate_lock);
    while (entered < n)
        pthread_cond_wait(&gate_moved, &gate_lock);
}

/* ---- routes ---- */
static char nudge[] = "nudge", first_nudge[] = "first-nudge", second_nudge[] = "second-nudge";
static void tell_after(void *arg) { tell(arg); }
static enum pl_err on_hello(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    jw_z(&c->out, "hello", c->self);
    jw_str(&c->out, "peer", c->peer);
    jw_str(&c->out, "q", http_query(c, "q"));
    jw_str(&c->out, "header", http_header(c, "x-thing"));
    return PL_OK;
}
struct thing {
    struct pl_str name;
    int64_t size;
    bool has_size;
};
static const struct json_field thing_fields[] = { JSON_F(struct thing, name, J_STR, J_REQUIRED, .lo = 1, .hi = 20), JSON_OPT(struct thing, size, J_INT, .lo = 1, .hi = 9), J_END };
static enum pl_err on_create(struct http_call *c, struct pl_fail *reterr)
{
    const struct thing *t = c->body;
    (void)reterr;
    c->status = 201;
    http_reply_header(c, "Location", PL_STR("/t/things/1"));
    jw_str(&c->out, "name", t->name);
    jw_int(&c->out, "size", t->has_size ? t->size : -1);
    http_after(c, tell_after, first_nudge);
    http_after(c, tell_after, second_nudge);
    tell(c->tx ? "handler" : "handler-without-tx");
    return PL_OK;
}
static enum pl_err on_thing(struct http_call *c, struct pl_fail *reterr)
{
    struct pl_uuid id;
    enum pl_err e = http_param_uuid(c, "id", &id);
    (void)reterr;
    if (e != PL_OK)
        return e;
    jw_uuid(&c->out, "id", id);
    return PL_OK;
}
/* A list of seven things, 1 to 7, and a setting in the state "blue". */
static enum pl_err on_things(struct http_call *c, struct pl_fail *reterr)
{
    uint8_t after = 0;
    struct http_page page;
    enum pl_err e = http_page(c, &after, 1, &page, reterr);
    if (e != PL_OK)
        return e;
    jw_array(&c->out, "things");
    for (int32_t i = 0; i < page.limit && after < 7; i++)
        jw_int(&c->out, NULL, ++after);
    jw_end_array(&c->out);
    if (after < 7)
        http_page_next(c, &page, &after, 1);
    return PL_OK;
}
static enum pl_err on_paint(struct http_call *c, struct pl_fail *reterr)
{
    struct pl_str tag = http_tag(c->arena, PL_STR("blue"));
    enum pl_err e = http_if_match(c, tag, reterr);
    http_etag(c, tag);
    return e;
}
static enum pl_err on_word(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    jw_str(&c->out, "word", http_param(c, "word"));
    return PL_OK;
}
static enum pl_err on_nothing(struct http_call *c, struct pl_fail *reterr)
{
    (void)c, (void)reterr;
    return PL_OK;
}
static enum pl_err on_me(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    jw_uuid(&c->out, "account", c->actor.account_id);
    jw_bool(&c->out, "step_up", c->actor.step_up);
    return PL_OK;
}
static enum pl_err own_me_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    (void)tx;
    return on_me(arg, reterr);
}
static enum pl_err on_own_me(struct http_call *c, struct pl_fail *reterr) { return http_run(c, own_me_tx, c, reterr); }
/* Makes a thing in a transaction of its own; a thing called "done" is refused, as by the first call's effect. */
static bool own_made;
static enum pl_err make_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct http_call *c = arg;
    const struct thing *t = c->body;
    (void)tx, (void)reterr;
    tell("made");
    c->status = 202;
    jw_str(&c->out, "name", t->name);
    return PL_OK;
}
static enum pl_err on_create_own(struct http_call *c, struct pl_fail *reterr)
{
    const struct thing *t = c->body;
    if (own_made && pl_str_eqz(t->name, "once"))
        return PL_CHALLENGE_SPENT;
    own_made = true;
    return http_run(c, make_tx, c, reterr);
}
static unsigned tries;
static enum pl_err on_retry(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    tries++;
    http_reply_header(c, "X-Try", pl_fmt(c->arena, "%u", tries));
    http_after(c, tell_after, nudge);
    jw_int(&c->out, "try", tries);
    c->status = 200 + (int)(tries % 4);
    return tries < 3 ? PL_RETRY : PL_OK;
}
static enum pl_err on_always_retry(struct http_call *c, struct pl_fail *reterr)
{
    (void)c, (void)reterr;
    tries++;
    return PL_RETRY;
}
static enum pl_err on_secret_failure(struct http_call *c, struct pl_fail *reterr)
{
    jw_z(&c->out, "half", "written");
    http_after(c, tell_after, nudge);
    return pl_fail_field(reterr, PL_INTERNAL, "password_hash", "relation \"account\" does not exist");
}
static enum pl_err on_wrong_pin(struct http_call *c, struct pl_fail *reterr)
{
    c->keep_on_error = true;
    http_after(c, tell_after, nudge);
    if (reterr)
        reterr->attempts_left = 3;
    return PL_PIN_WRONG;
}
static enum pl_err on_too_soon(struct http_call *c, struct pl_fail *reterr)
{
    (void)c;
    if (reterr)
        reterr->retry_after_s = 42;
    return pl_fail(reterr, PL_RESEND_TOO_SOON, "Wait a little.");
}
static enum pl_err on_gate(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    PL_LOCK(&gate_lock);
    entered++;
    pthread_cond_broadcast(&gate_moved);
    while (!gate_open)
        pthread_cond_wait(&gate_moved, &gate_lock);
    jw_bool(&c->out, "through", true);
    return PL_OK;
}
static enum pl_err on_raw(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    c->raw = true;
    c->content_type = "text/plain; version=0.0.4";
    pl_buf_z(&c->buf, "metric 1\n");
    return PL_OK;
}
static enum pl_err on_song(struct http_call *c, struct pl_fail *reterr)
{
    const struct pl_str *words = c->body;
    (void)reterr;
    c->raw = true;
    c->content_type = "text/song";
    c->status = 201;
    pl_buf_fmt(&c->buf, "%zu: %.*s", words->n, PL_FMT(*words));
    return PL_OK;
}
static enum pl_err on_huge(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    for (unsigned i = 0; i < 100000; i++)
        jw_z(&c->out, "abcdefgh", "abcdefgh");
    return PL_OK;
}
static enum pl_err on_hungry(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    return pl_alloc(c->arena, 64 << 20) ? PL_OK : PL_NO_MEMORY;
}
static const struct http_route routes[] = {
    { HTTP_GET, "/t/hello", HTTP_PUBLIC, on_hello, "Hello", .tx = HTTP_OWN_TX },
    { HTTP_POST, "/t/things", HTTP_PUBLIC, on_create, "Make a thing", HTTP_BODY(struct thing, thing_fields), .idempotent = true },
    { HTTP_GET, "/t/things", HTTP_PUBLIC, on_things, "Things" },
    { HTTP_PUT, "/t/paint", HTTP_PUBLIC, on_paint, "Paint it" },
    { HTTP_POST, "/t/others", HTTP_PUBLIC, on_create, "Make another", HTTP_BODY(struct thing, thing_fields), .idempotent = true, .rate = HTTP_RATE_SEND },
    { HTTP_POST, "/t/mine", HTTP_SESSION, on_create, "Make mine", HTTP_BODY(struct thing, thing_fields), .idempotent = true },
    { HTTP_POST, "/t/own-things", HTTP_PUBLIC, on_create_own, "Make a thing", HTTP_BODY(struct thing, thing_fields), .tx = HTTP_OWN_TX, .idempotent = true },
    { HTTP_GET, "/t/things/{id}", HTTP_PUBLIC, on_thing, "A thing" },
    { HTTP_DELETE, "/t/things/{id}", HTTP_PUBLIC, on_nothing, "Forget it" },
    { HTTP_GET, "/t/words/{word}", HTTP_PUBLIC, on_word, "A word" },
    { HTTP_GET, "/t/words/current", HTTP_PUBLIC, on_nothing, "No word" },
    { HTTP_GET, "/t/me", HTTP_SESSION, on_me, "Me" },
    { HTTP_GET, "/t/both", HTTP_USER, on_me, "Me, for a and b", .scope = "a:read b:read" },
    { HTTP_GET, "/t/writing", HTTP_USER, on_me, "Me, for a and writers", .scope = "a:read b:write" },
    { HTTP_PUT, "/t/me", HTTP_SESSION, on_create, "Replace me", HTTP_BODY(struct thing, thing_fields) },
    { HTTP_POST, "/t/danger", HTTP_SESSION, on_me, "Danger", .step_up = "danger" },
    { HTTP_POST, "/t/danger-own", HTTP_SESSION, on_own_me, "Danger", .step_up = "danger", .tx = HTTP_OWN_TX },
    { HTTP_POST, "/t/danger-forgotten", HTTP_SESSION, on_me, "Danger", .step_up = "danger", .tx = HTTP_OWN_TX },
    { HTTP_POST, "/t/retry", HTTP_PUBLIC, on_retry, "Again" },
    { HTTP_POST, "/t/always-retry", HTTP_PUBLIC, on_always_retry, "Again and again" },
    { HTTP_POST, "/t/secret-failure", HTTP_PUBLIC, on_secret_failure, "Fail" },
    { HTTP_POST, "/t/wrong-pin", HTTP_PUBLIC, on_wrong_pin, "Wrong", .idempotent = true },
    { HTTP_POST, "/t/too-soon", HTTP_PUBLIC, on_too_soon, "Soon" },
    { HTTP_GET, "/t/gate", HTTP_PUBLIC, on_gate, "Wait", .tx = HTTP_OWN_TX },
    { HTTP_GET, "/t/heavy", HTTP_PUBLIC, on_gate, "Toil", .tx = HTTP_OWN_TX, .heavy = true },
    { HTTP_GET, "/t/raw", HTTP_PUBLIC, on_raw, "Raw", .tx = HTTP_OWN_TX, .rate = HTTP_RATE_NONE },
    { HTTP_POST, "/t/song", HTTP_PUBLIC, on_song, "Sing", HTTP_RAW_BODY("text/song", 20), .tx = HTTP_OWN_TX },
    { HTTP_PATCH, "/t/song", HTTP_PUBLIC, on_song, "Sing on", HTTP_RAW_BODY("text/song-part", 20), .tx = HTTP_OWN_TX },
    { HTTP_GET, "/t/huge", HTTP_PUBLIC, on_huge, "Too much", .tx = HTTP_OWN_TX },
    { HTTP_GET, "/t/hungry", HTTP_PUBLIC, on_hungry, "Too much memory", .tx = HTTP_OWN_TX },
    HTTP_END,
};

static enum pl_err authenticate(void *self, struct db_tx *tx, struct pl_utc now, struct pl_str token, struct http_actor *ret)
{
    (void)self, (void)now;
    assert_non_null(tx);
    if (pl_str_eqz(token, "plst_good"))
        ret->scopes = PL_STR("a:read b:read");
    else if (!pl_str_eqz(token, "plat_good"))
        return PL_UNAUTHENTICATED;
    memset(ret->account_id.b, 0x11, 16);
    return PL_OK;
}
static enum pl_err spend_grant(void *self, struct db_tx *tx, struct pl_utc now, const struct http_actor *actor, const char *purpose, struct pl_str grant)
{
    (void)self, (void)now, (void)actor;
    assert_non_null(tx);
    tell("grant");
    return strcmp(purpose, "danger") == 0 && pl_str_eqz(grant, "plsg_good") ? PL_OK : PL_STEP_UP_REQUIRED;
}

/* ---- fixture ---- */
static struct http *engine;
static char world[] = "world"; /* `self` of the routes */
static void start_with(struct http_conf conf)
{
    struct pl_fail fail = PL_FAIL_INIT;
    conf.clock = &test_clock;
    conf.rand = &pl_rand_system;
    conf.type_base = "https://porchlight.test/errors/";
    conf.db.conninfo = "a script";
    conf.hooks = (struct http_hooks){ NULL, authenticate, spend_grant };
    conf.listen = conf.listen ? conf.listen : "127.0.0.1:0";
    conf.workers = conf.workers ? conf.workers : 2;
    conf.queue = conf.queue ? conf.queue : 16;
    assert_int_equal(http_new(&conf, &engine, &fail), PL_OK);
    assert_int_equal(http_mount(engine, routes, world), PL_OK);
    assert_int_equal(http_start(engine, &fail), PL_OK);
}
static int setup(void **state)
{
    (void)state;
    story[0] = 0;
    nkept = nbuckets = bucket_queries = 0;
    rates_away = false;
    standing.us = 0;
    memset(buckets, 0, sizeof buckets);
    kept_waits = own_made = false;
    ncommits = tries = entered = 0;
    gate_open = false;
    memset(commits, 0, sizeof commits);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    open_gate();
    engine = http_stop(engine, 5 * PL_SECOND);
    return 0;
}

static int dial_to(const char *address)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (is_unix)
        memcpy(un.sun_path, address + 5, strlen(address + 5));
    else
        in.sin_port = htons((uint16_t)strtoul(strrchr(address, ':') + 1, NULL, 10));
    if (connect(fd, is_unix ? (struct sockaddr *)&un : (struct sockaddr *)&in, is_unix ? sizeof un : sizeof in) == 0)
        return fd;
    close(fd);
    return -1;
}
static int dial(void)
{
    int fd = dial_to(http_address(engine));
    assert_true(fd >= 0);
    return fd;
}
static void put(int fd, const char *text)
{
    for (size_t n = strlen(text); n;) {
        ssize_t done = send(fd, text, n, MSG_NOSIGNAL);
        if (done <= 0)
            return; /* the answer says why */
        text += done;
        n -= (size_t)done;
    }
}
/* One reply, or what came before the stream ended. Empty: it ended at once. */
static const char *take(int fd)
{
    static char got[8192];
    size_t n = 0, want = sizeof got - 1;
    got[0] = 0;
    while (n < want) {
        assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10000), 1);
        ssize_t r = recv(fd, got + n, 1, 0);
        if (r <= 0)
            break;
        got[++n] = 0;
        char *end = want == sizeof got - 1 ? strstr(got, "\r\n\r\n") : NULL, *length = end ? strcasestr(got, "content-length:") : NULL;
        if (end)
            want = n + (length ? strtoul(length + 15, NULL, 10) : 0);
    }
    return got;
}
/* Everything until the server ends the stream, which it must. */
static inline const char *take_all(int fd)
{
    static char got[8192];
    size_t n = 0;
    for (ssize_t r = 1; r > 0 && n < sizeof got - 1; n += r > 0 ? (size_t)r : 0) {
        assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10000), 1);
        r = recv(fd, got + n, sizeof got - 1 - n, 0);
    }
    got[n] = 0;
    return got;
}
/* Is the stream ended by the server? */
static inline bool ended(int fd)
{
    char c;
    if (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10000) != 1)
        return false;
    return recv(fd, &c, 1, 0) <= 0;
}
static const char *once(const char *request)
{
    int fd = dial();
    put(fd, request);
    const char *got = take(fd);
    close(fd);
    return got;
}
static void has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in:\n%s", part, text);
}
static void has_not(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("\"%s\" is in:\n%s", part, text);
}
static void is_problem(const char *got, int status, const char *code)
{
    char line[64];
    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    has(got, line);
    has(got, "Content-Type: application/problem+json\r\n");
    snprintf(line, sizeof line, "\"code\":\"%s\"", code);
    has(got, line);
    snprintf(line, sizeof line, "\"type\":\"https://porchlight.test/errors/%s\"", code);
    has(got, line);
    snprintf(line, sizeof line, "\"status\":%d", status);
    has(got, line);
    has(got, "\"title\":\"");
    has(got, "\"detail\":\"");
    has(got, "\"instance\":\"urn:uuid:");
}
/* The engine's own count of something, from /metrics' text. */
static long metric(const char *name)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 20);
    struct pl_buf b = pl_buf_init(a, 1 << 18);
    char line[96];
    pl_metrics_print(&b);
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = strstr(b.p, line);
    assert_non_null(at);
    return strtol(at + strlen(line), NULL, 10);
}
static inline void wait_metric(const char *name, long value)
{
    struct pl_mono until = pl_mono_add(pl_now_mono(&pl_clock_system), 10 * PL_SECOND);
    while (metric(name) != value) {
        assert_true(pl_mono_cmp(pl_now_mono(&pl_clock_system), until) < 0);
        sched_yield();
    }
}
#define CALLS "porchlight_http_calls"
#define CONNECTIONS "porchlight_http_connections"
#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static const char *post(const char *path, const char *headers, const char *body)
{
    static char text[4096];
    snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n%s", path, headers, strlen(body), body);
    return once(text);
}
#define JSON_TYPE "Content-Type: application/json\r\n"
#define GOOD_TOKEN "Authorization: Bearer plat_good\r\n"
