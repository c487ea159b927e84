/* The rules of http.h that bound what a call may do and cost: idempotency (S-S9), rates (S-F6, S-F8), full queues (S-A3), deadlines, connections, the drain, what the log
 * keeps to itself (S-P10). */
#include "test_http.h"

#define IDEM(key) "Idempotency-Key: " key "\r\n"
#define KEY_A IDEM("a-key-of-32-characters-at-random")

static unsigned times(const char *what)
{
    unsigned n = 0;
    PL_LOCK(&story_lock);
    for (const char *at = story; (at = strstr(at, what)); at++)
        n++;
    return n;
}

/* S-S9 */
static void idempotency_key_makes_one_effect_and_one_answer(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    has(post("/t/things", JSON_TYPE KEY_A, "{\"name\":\"lamp\"}"), "HTTP/1.1 201 ");
    assert_int_equal(times("handler "), 1);
    for (int i = 0; i < 2; i++) {
        const char *got = post("/t/things", JSON_TYPE KEY_A, "{\"name\":\"lamp\"}");
        has(got, "HTTP/1.1 201 ");
        has(got, "Location: /t/things/1\r\n");
        has(got, "Content-Type: application/json\r\n");
        has(got, "Idempotency-Replayed: true\r\n");
        has(got, "{\"name\":\"lamp\",\"size\":-1}");
    }
    assert_int_equal(times("handler "), 1);
    assert_int_equal(times("second-nudge "), 1);
    /* Neither key, request nor answer can be read in what is stored. */
    for (size_t i = 0; i + 4 < sizeof kept[0]; i++) {
        assert_memory_not_equal((char *)&kept[0] + i, "lamp", 4);
        assert_memory_not_equal((char *)&kept[0] + i, "a-ke", 4);
    }
    has_not(post("/t/things", JSON_TYPE IDEM("another-key-of-the-same-caller"), "{\"name\":\"lamp\"}"), "Replayed");
    assert_int_equal(times("handler "), 2);
}

static void idempotency_key_of_another_request_is_refused(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    has(post("/t/things", JSON_TYPE KEY_A, "{\"name\":\"lamp\"}"), "HTTP/1.1 201 ");
    is_problem(post("/t/things", JSON_TYPE KEY_A, "{\"name\":\"lump\"}"), 409, "idempotency_conflict");
    is_problem(post("/t/others", JSON_TYPE KEY_A, "{\"name\":\"lamp\"}"), 409, "idempotency_conflict");
    is_problem(post("/t/things?x=1", JSON_TYPE KEY_A, "{\"name\":\"lamp\"}"), 409, "idempotency_conflict");
    is_problem(post("/t/things", JSON_TYPE "Challenge-Key: x\r\n" KEY_A, "{\"name\":\"lamp\"}"), 409, "idempotency_conflict");
    /* An account's keys are its own. */
    has(post("/t/mine", JSON_TYPE GOOD_TOKEN KEY_A, "{\"name\":\"lamp\"}"), "HTTP/1.1 201 ");
    assert_int_equal(times("handler "), 2);
    is_problem(post("/t/things", JSON_TYPE IDEM("fifteen-letters"), "{\"name\":\"lamp\"}"), 400, "invalid_request");
    is_problem(post("/t/things", JSON_TYPE IDEM("with a blank in the key"), "{\"name\":\"lamp\"}"), 400, "invalid_request");
    is_problem(post("/t/things", JSON_TYPE KEY_A KEY_A, "{\"name\":\"lamp\"}"), 400, "invalid_request");
}

static void refused_calls_and_lost_commits_give_the_idempotency_key_back(void **state)
{
    (void)state;
    commits[0] = PL_UNAVAILABLE;
    start_with((struct http_conf){ 0 });
    is_problem(post("/t/things", JSON_TYPE KEY_A, "{\"name\":\"lamp\"}"), 503, "unavailable");
    assert_int_equal(nkept, 0);
    has_not(post("/t/things", JSON_TYPE KEY_A, "{\"name\":\"lamp\"}"), "Replayed");
    /* A refusal whose counters stay is asked again each time. */
    is_problem(post("/t/wrong-pin", IDEM("a-key-for-the-wrong-pin-0001"), ""), 422, "pin_wrong");
    is_problem(post("/t/wrong-pin", IDEM("a-key-for-the-wrong-pin-0001"), ""), 422, "pin_wrong");
    assert_int_equal(nkept, 1);
    /* A row that takes no key does not look at it. */
    has(once("GET /t/raw HTTP/1.1\r\nHost: x\r\nIdempotency-Key: x\r\n\r\n"), "HTTP/1.1 200 ");
}

static void own_transactions_keep_their_answer_too(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    has(post("/t/own-things", JSON_TYPE KEY_A, "{\"name\":\"once\"}"), "HTTP/1.1 202 ");
    const char *got = post("/t/own-things", JSON_TYPE KEY_A, "{\"name\":\"once\"}");
    has(got, "HTTP/1.1 202 ");
    has(got, "Idempotency-Replayed: true\r\n");
    has(got, "{\"name\":\"once\"}");
    assert_int_equal(times("made "), 1);
    is_problem(post("/t/own-things", JSON_TYPE IDEM("another-key-of-the-same-caller"), "{\"name\":\"once\"}"), 410, "challenge_spent");
    is_problem(post("/t/own-things", JSON_TYPE KEY_A, "{\"name\":\"two\"}"), 409, "idempotency_conflict");
    has_not(post("/t/own-things", JSON_TYPE, "{\"name\":\"two\"}"), "Replayed");
    assert_int_equal(times("made "), 2);
}

static struct http_rates rates_of(int64_t n)
{
    struct http_rates r;
    for (size_t i = 0; i < HTTP_RATES; i++)
        r.of[i].account = r.of[i].address = n;
    return r;
}
#define MAKE(headers) post("/t/others", JSON_TYPE headers, "{\"name\":\"lamp\"}")

/* S-F6 */
static void calls_past_the_rate_are_429_until_there_is_room(void **state)
{
    (void)state;
    struct http_rates rates = rates_of(6);
    standing = pl_now_utc(&pl_clock_system);
    start_with((struct http_conf){ .rates = &rates });
    for (int i = 5; i >= 0; i--) {
        char line[40];
        const char *got = MAKE("");
        snprintf(line, sizeof line, "RateLimit-Remaining: %d\r\n", i);
        has(got, "HTTP/1.1 201 ");
        has(got, "RateLimit-Limit: 6\r\n");
        has(got, line);
    }
    const char *got = MAKE("");
    is_problem(got, 429, "rate_limited");
    has(got, "Retry-After: 10\r\n");
    has(got, "\"retry_after\":10");
    has(got, "RateLimit-Remaining: 0\r\n");
    has(got, "RateLimit-Reset: 60\r\n");
    /* Knocking on costs no query and puts nothing off. */
    unsigned queries = bucket_queries;
    for (int i = 0; i < 5; i++)
        is_problem(MAKE(""), 429, "rate_limited");
    assert_int_equal(bucket_queries, queries);
    /* Other classes, and what watches over the service, have their own room or need none. */
    has(once(GET("/t/hello")), "HTTP/1.1 200 ");
    has_not(once(GET("/t/raw")), "RateLimit");
    advance(10 * PL_SECOND);
    has(MAKE(""), "HTTP/1.1 201 ");
    is_problem(MAKE(""), 429, "rate_limited");
}

static void reads_are_taken_from_the_bucket_in_batches(void **state)
{
    (void)state;
    struct http_rates rates = rates_of(500);
    standing = pl_now_utc(&pl_clock_system);
    start_with((struct http_conf){ .rates = &rates });
    for (int i = 0; i < 100; i++)
        has(once(GET("/t/hello")), "HTTP/1.1 200 ");
    assert_int_equal(bucket_queries, 10);
    /* What was taken is lost after ten seconds, never given twice. */
    has(once(GET("/t/hello")), "RateLimit-Remaining: 399\r\n");
    advance(11 * PL_SECOND);
    unsigned queries = bucket_queries;
    has(once(GET("/t/hello")), "HTTP/1.1 200 ");
    assert_int_equal(bucket_queries, queries + 1);
}

/* S-A6: whoever is signed in has an account's room, whatever strangers at the same address do. */
static void refused_tokens_count_against_the_address_and_not_the_account(void **state)
{
    (void)state;
    struct http_rates rates = rates_of(6);
    standing = pl_now_utc(&pl_clock_system);
    start_with((struct http_conf){ .rates = &rates });
    for (int i = 0; i < 6; i++)
        is_problem(once("GET /t/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer plat_bad\r\n\r\n"), 401, "unauthenticated");
    is_problem(once("GET /t/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer plat_bad\r\n\r\n"), 429, "rate_limited");
    for (int i = 0; i < 6; i++)
        has(once("GET /t/me HTTP/1.1\r\nHost: x\r\n" GOOD_TOKEN "\r\n"), "HTTP/1.1 200 ");
    is_problem(once("GET /t/me HTTP/1.1\r\nHost: x\r\n" GOOD_TOKEN "\r\n"), 429, "rate_limited");
}

/* S-F8 */
static void a_limiter_that_cannot_answer_refuses_only_what_sends(void **state)
{
    (void)state;
    struct http_rates rates = rates_of(6);
    standing = pl_now_utc(&pl_clock_system);
    rates_away = true;
    start_with((struct http_conf){ .rates = &rates });
    is_problem(MAKE(""), 503, "unavailable");
    assert_int_equal(times("handler "), 0);
    has(once(GET("/t/hello")), "HTTP/1.1 200 ");
    has(post("/t/things", JSON_TYPE, "{\"name\":\"lamp\"}"), "HTTP/1.1 201 ");
}

static void failures_of_ours_tell_nothing_inside(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    const char *got = post("/t/secret-failure", "", "");
    is_problem(got, 500, "internal");
    has_not(got, "account");
    has_not(got, "password_hash");
    has_not(got, "half");
    assert_string_equal(story, "begin rollback ");
    is_problem(once(GET("/t/huge")), 500, "internal");
    is_problem(once(GET("/t/hungry")), 503, "no_memory");
}

static void problems_carry_what_helps(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    const char *got = post("/t/wrong-pin", "", "");
    is_problem(got, 422, "pin_wrong");
    has(got, "\"attempts_left\":3");
    assert_string_equal(story, "begin commit nudge "); /* S-P5: the count of tries is kept though the call failed */
    got = post("/t/too-soon", "", "");
    is_problem(got, 429, "resend_too_soon");
    has(got, "Retry-After: 42\r\n");
    has(got, "\"retry_after\":42");
    has(got, "\"detail\":\"Wait a little.\"");
}

static void full_queue_is_503_and_the_rest_goes_on(void **state)
{
    (void)state;
    start_with((struct http_conf){ .workers = 1, .queue = 1 });
    int first = dial(), second = dial();
    put(first, GET("/t/gate"));
    wait_entered(1);
    put(second, GET("/t/hello"));
    wait_metric(CALLS, 2);
    const char *got = once(GET("/t/hello"));
    is_problem(got, 503, "overloaded");
    has(got, "Retry-After: 1\r\n");
    open_gate();
    has(take(first), "{\"through\":true}");
    has(take(second), "{\"hello\":\"world\"");
    close(first);
    close(second);
}

static void s_a3_a_rush_of_heavy_calls_is_bounded_and_holds_up_no_other(void **state)
{
    (void)state;
    enum { WORKERS = 2, QUEUE = 3, RUSH = 12 };
    int fds[RUSH];
    unsigned through = 0, refused = 0;
    start_with((struct http_conf){ .workers = 1, .queue = 4, .heavy_workers = WORKERS, .heavy_queue = QUEUE });
    for (int i = 0; i < RUSH; i++) {
        fds[i] = dial();
        put(fds[i], GET("/t/heavy"));
        if (i < WORKERS)
            wait_entered(i + 1); /* these hold the workers, the next ones the queue */
        else if (i < WORKERS + QUEUE)
            wait_metric(CALLS, i + 1);
        else
            is_problem(take(fds[i]), 503, "overloaded"), refused++;
    }
    has(once(GET("/t/hello")), "{\"hello\":\"world\"");
    open_gate();
    for (int i = 0; i < RUSH; i++) {
        if (i < WORKERS + QUEUE)
            has(take(fds[i]), "{\"through\":true}"), through++;
        close(fds[i]);
    }
    assert_int_equal(through, WORKERS + QUEUE);
    assert_int_equal(refused, RUSH - WORKERS - QUEUE);
}

static void call_deadline_is_503_and_the_late_worker_is_no_harm(void **state)
{
    (void)state;
    start_with((struct http_conf){ .workers = 1, .call_deadline = 5 * PL_SECOND });
    int running = dial(), waiting = dial();
    put(running, GET("/t/gate"));
    wait_entered(1);
    put(waiting, GET("/t/hello"));
    wait_metric(CALLS, 2);
    advance(6 * PL_SECOND);
    is_problem(take(running), 503, "unavailable");
    is_problem(take(waiting), 503, "overloaded");
    open_gate();
    put(running, GET("/t/hello")); /* the connection is good for more */
    has(take(running), "{\"hello\":\"world\"");
    close(running);
    close(waiting);
}

/* Never idle for as much as a second, and yet the stream must end. */
static void drip_until_ended(int fd, const char *drop)
{
    struct pl_mono until = pl_mono_add(pl_now_mono(&pl_clock_system), 10 * PL_SECOND);
    while (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 20) == 0) {
        assert_true(pl_mono_cmp(pl_now_mono(&pl_clock_system), until) < 0);
        put(fd, drop);
        advance(900 * PL_MS);
    }
    assert_true(ended(fd));
}

static void dripped_headers_and_bodies_are_cut(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    int headers = dial(), bodies = dial();
    put(headers, "GET /t/hello HTTP/1.1\r\nHost: x\r\nX-Drip: ");
    put(bodies, "POST /t/things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n");
    wait_metric(CONNECTIONS, 2);
    drip_until_ended(headers, "a");
    drip_until_ended(bodies, " ");
    wait_metric(CONNECTIONS, 0);
    close(headers);
    close(bodies);
}

static void idle_connections_end(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    int fd = dial();
    put(fd, GET("/t/hello"));
    has(take(fd), "HTTP/1.1 200 ");
    advance(20 * PL_SECOND); /* well within, also if the engine has not noticed yet that we took the reply */
    put(fd, GET("/t/hello"));
    has(take(fd), "HTTP/1.1 200 ");
    advance(61 * PL_SECOND);
    assert_true(ended(fd));
    close(fd);
}

static void connections_are_limited_per_address_and_over_all(void **state)
{
    (void)state;
    start_with((struct http_conf){ .max_per_address = 2 });
    int a = dial(), b = dial();
    wait_metric(CONNECTIONS, 2);
    int c = dial();
    is_problem(take(c), 429, "rate_limited");
    assert_true(ended(c));
    close(c);
    close(a);
    wait_metric(CONNECTIONS, 1);
    has(once(GET("/t/hello")), "HTTP/1.1 200 ");
    close(b);
    engine = http_stop(engine, PL_SECOND);
    start_with((struct http_conf){ .max_connections = 1 });
    a = dial();
    wait_metric(CONNECTIONS, 1);
    c = dial();
    is_problem(take(c), 503, "overloaded");
    put(a, GET("/t/hello"));
    has(take(a), "HTTP/1.1 200 ");
    close(a);
    close(c);
}

static void *stop_now(void *grace)
{
    return http_stop(engine, *(int64_t *)grace);
}
static void wait_refused(const char *address)
{
    struct pl_mono until = pl_mono_add(pl_now_mono(&pl_clock_system), 10 * PL_SECOND);
    for (int fd; (fd = dial_to(address)) >= 0; close(fd), sched_yield())
        assert_true(pl_mono_cmp(pl_now_mono(&pl_clock_system), until) < 0);
}

static void drain_finishes_what_is_under_way_and_takes_nothing_new(void **state)
{
    (void)state;
    pthread_t t;
    int64_t grace = 100 * PL_SECOND;
    char address[64];
    start_with((struct http_conf){ 0 });
    snprintf(address, sizeof address, "%s", http_address(engine));
    int under_way = dial(), idle = dial(), next = dial();
    put(under_way, GET("/t/gate"));
    put(next, "GET /t/hello HTTP/1.1\r\n");
    wait_entered(1);
    wait_metric(CONNECTIONS, 3);
    assert_int_equal(pthread_create(&t, NULL, stop_now, &grace), 0);
    wait_refused(address);
    assert_true(ended(idle));
    open_gate();
    const char *got = take(under_way);
    has(got, "{\"through\":true}");
    has(got, "Connection: close\r\n");
    pthread_join(t, NULL);
    engine = NULL;
    close(under_way);
    close(idle);
    close(next);
}

static void end_of_grace_answers_every_suspended_call(void **state)
{
    (void)state;
    pthread_t t;
    int64_t grace = 0;
    int fds[6];
    start_with((struct http_conf){ .workers = 1 });
    for (size_t i = 0; i < PL_COUNT(fds); i++) {
        fds[i] = dial();
        put(fds[i], GET("/t/gate"));
    }
    wait_metric(CALLS, PL_COUNT(fds));
    wait_entered(1);
    assert_int_equal(pthread_create(&t, NULL, stop_now, &grace), 0);
    for (size_t i = 0; i < PL_COUNT(fds); i++) {
        has(take(fds[i]), "HTTP/1.1 503 ");
        close(fds[i]);
    }
    open_gate();
    pthread_join(t, NULL);
    engine = NULL;
    assert_int_equal(metric(CALLS), 0);
    assert_int_equal(entered, 1); /* those that only waited never ran */
}

static void unix_socket_is_for_its_owner_only(void **state)
{
    (void)state;
    char folder[] = "/tmp/porchlight-http-XXXXXX", address[64];
    struct stat st;
    assert_non_null(mkdtemp(folder));
    snprintf(address, sizeof address, "unix:%s/admin.sock", folder);
    start_with((struct http_conf){ .listen = address });
    assert_string_equal(http_address(engine), address);
    assert_int_equal(stat(address + 5, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    has(once(GET("/t/hello")), "\"peer\":\"unix\"");
    /* Another server does not take a living one's address. */
    struct http *other = NULL;
    struct pl_fail fail = PL_FAIL_INIT;
    assert_int_equal(http_new(&(struct http_conf){ .listen = address, .workers = 1, .clock = &test_clock, .rand = &pl_rand_system }, &other, &fail), PL_OK);
    assert_int_equal(http_start(other, &fail), PL_IO);
    http_stop(other, 0);
    has(once(GET("/t/hello")), "HTTP/1.1 200 ");
    engine = http_stop(engine, PL_SECOND);
    assert_int_equal(stat(address + 5, &st), -1);
    /* A file that a dead server left is no obstacle. */
    int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    memcpy(at.sun_path, address + 5, strlen(address + 5));
    assert_int_equal(bind(dead, (struct sockaddr *)&at, sizeof at), 0);
    close(dead);
    start_with((struct http_conf){ .listen = address });
    has(once(GET("/t/hello")), "HTTP/1.1 200 ");
    engine = http_stop(engine, PL_SECOND);
    rmdir(folder);
}

static void bad_rows_and_addresses_are_refused(void **state)
{
    (void)state;
    struct pl_fail fail = PL_FAIL_INIT;
    struct http *h = NULL;
    static const struct http_route doubled[] = { { HTTP_GET, "/a", HTTP_PUBLIC, on_nothing, "A" }, { HTTP_GET, "/a", HTTP_PUBLIC, on_nothing, "A" }, HTTP_END };
    static const struct http_route grant_of_nobody[] = { { HTTP_GET, "/b", HTTP_PUBLIC, on_nothing, "B", .step_up = "x" }, HTTP_END };
    static const char *const bad[] = { "127.0.0.1", "nowhere.invalid:80", "127.0.0.1:http", "192.0.2.1:0" };
    assert_int_equal(http_new(&(struct http_conf){ .workers = 1 }, &h, &fail), PL_INVALID_REQUEST);
    for (size_t i = 0; i < PL_COUNT(bad); i++) {
        assert_int_equal(http_new(&(struct http_conf){ .listen = bad[i], .workers = 1, .clock = &test_clock, .rand = &pl_rand_system }, &h, &fail), PL_OK);
        assert_int_equal(http_mount(h, i % 2 ? grant_of_nobody : doubled, NULL), PL_INTERNAL);
        assert_int_not_equal(http_start(h, &fail), PL_OK);
        h = http_stop(h, 0);
    }
    assert_null(http_stop(NULL, 0));
}

/* S-P10: neither the path that was called (it may hold a token) nor a header nor a body stands in the log. */
static void access_log_tells_the_row_and_no_secret(void **state)
{
    (void)state;
    int ends[2];
    static char text[16384];
    assert_int_equal(pipe(ends), 0);
    pl_log_to(ends[1]);
    pl_log_level(PL_DEBUG);
    start_with((struct http_conf){ 0 });
    has(once("GET /t/words/s3cret?token=s3cret HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\n\r\n"), "HTTP/1.1 200 ");
    is_problem(once(GET("/nowhere/s3cret")), 404, "not_found");
    is_problem(post("/t/things", JSON_TYPE, "{\"name\":\"s3cret\",\"x\":1}"), 400, "invalid_request");
    is_problem(post("/t/secret-failure", "", ""), 500, "internal");
    engine = http_stop(engine, PL_SECOND);
    pl_log_level(PL_INFO);
    pl_log_to(-1);
    close(ends[1]);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    assert_true(n > 0);
    text[n] = 0;
    has(text, "\"event\":\"http.request\",\"request\":\"");
    has(text, "\"route\":\"/t/words/{word}\",\"status\":200");
    has(text, "\"status\":404");
    has(text, "\"level\":\"error\",\"event\":\"http.failed\"");
    has(text, "relation"); /* here the operator reads what the caller was not told */
    has_not(text, "s3cret");
}

static void no_memory_is_503_or_a_closed_connection_and_passes(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    for (unsigned i = 1; i <= 12; i++) {
        pl_heap_fail_at(i);
        const char *got = post("/t/things", JSON_TYPE, "{\"name\":\"a\"}");
        pl_heap_fail_at(0);
        if (got[0] && !strstr(got, "HTTP/1.1 503 "))
            has(got, "HTTP/1.1 201 ");
        has(once(GET("/t/hello")), "HTTP/1.1 200 ");
    }
    engine = http_stop(engine, PL_SECOND);
    struct http_conf conf = { .listen = "127.0.0.1:0", .workers = 2, .clock = &test_clock, .rand = &pl_rand_system, .proxies = "x" };
    struct pl_fail fail = PL_FAIL_INIT;
    enum pl_err e = PL_NO_MEMORY;
    for (unsigned i = 1; e != PL_OK && i < 40; i++) {
        struct http *h = NULL;
        pl_heap_fail_at(i);
        e = http_new(&conf, &h, &fail);
        if (e == PL_OK)
            e = http_start(h, &fail);
        pl_heap_fail_at(0);
        assert_true(e == PL_OK || e == PL_NO_MEMORY);
        http_stop(h, 0);
    }
    assert_int_equal(e, PL_OK);
}

static void many_clients_at_once_get_their_own_answers(void **state)
{
    (void)state;
    start_with((struct http_conf){ .workers = 4, .queue = 64 });
    enum { N = 40 };
    int fds[N];
    char text[128];
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < N; i++) {
            fds[i] = dial();
            snprintf(text, sizeof text, "GET /t/words/w%d HTTP/1.1\r\nHost: x\r\n\r\n", i);
            put(fds[i], text);
        }
        for (int i = 0; i < N; i++) {
            snprintf(text, sizeof text, "{\"word\":\"w%d\"}", i);
            has(take(fds[i]), text);
            close(fds[i]);
        }
    }
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(idempotency_key_makes_one_effect_and_one_answer),
        CASE(idempotency_key_of_another_request_is_refused),
        CASE(refused_calls_and_lost_commits_give_the_idempotency_key_back),
        CASE(own_transactions_keep_their_answer_too),
        CASE(calls_past_the_rate_are_429_until_there_is_room),
        CASE(reads_are_taken_from_the_bucket_in_batches),
        CASE(refused_tokens_count_against_the_address_and_not_the_account),
        CASE(a_limiter_that_cannot_answer_refuses_only_what_sends),
        CASE(failures_of_ours_tell_nothing_inside),
        CASE(problems_carry_what_helps),
        CASE(full_queue_is_503_and_the_rest_goes_on),
        CASE(s_a3_a_rush_of_heavy_calls_is_bounded_and_holds_up_no_other),
        CASE(call_deadline_is_503_and_the_late_worker_is_no_harm),
        CASE(dripped_headers_and_bodies_are_cut),
        CASE(idle_connections_end),
        CASE(connections_are_limited_per_address_and_over_all),
        CASE(drain_finishes_what_is_under_way_and_takes_nothing_new),
        CASE(end_of_grace_answers_every_suspended_call),
        CASE(unix_socket_is_for_its_owner_only),
        CASE(bad_rows_and_addresses_are_refused),
        CASE(access_log_tells_the_row_and_no_secret),
        CASE(no_memory_is_503_or_a_closed_connection_and_passes),
        CASE(many_clients_at_once_get_their_own_answers),
    };
    /* What the engine logs is thrown away: failures are made on purpose here. */
    pl_log_to(-1);
    return cmocka_run_group_tests_name("http-limits", tests, NULL, NULL);
}
