/* The rules of http.h over real sockets. */
#include "test_http.h"

static void reply_has_body_headers_and_request_id(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    const char *got = once("GET /t/hello?q=a%2Fb%20c&x HTTP/1.1\r\nHost: x\r\nX-Thing:  7 \r\n\r\n");
    has(got, "HTTP/1.1 200 OK\r\n");
    has(got, "{\"hello\":\"world\",\"peer\":\"127.0.0.1\",\"q\":\"a/b c\",\"header\":\"7\"}");
    has(got, "Content-Type: application/json\r\n");
    has(got, "Cache-Control: no-store\r\n");
    has(got, "X-Content-Type-Options: nosniff\r\n");
    has(got, "Request-Id: ");
    got = once(GET("/t/things/018f0000-0000-7000-8000-000000000001"));
    has(got, "{\"id\":\"018f0000-0000-7000-8000-000000000001\"}");
    got = once("DELETE /t/things/1 HTTP/1.1\r\nHost: x\r\n\r\n");
    has(got, "HTTP/1.1 204 ");
    has_not(got, "\r\nContent-Type");
    got = once(GET("/t/raw"));
    has(got, "Content-Type: text/plain; version=0.0.4\r\n");
    has(got, "\r\n\r\nmetric 1\n");
}

static void path_and_method_are_matched(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    is_problem(once(GET("/t/nothing")), 404, "not_found");
    is_problem(once(GET("/t/hello/")), 404, "not_found");
    is_problem(once(GET("/t/things/")), 404, "not_found");
    is_problem(once(GET("//t/hello")), 404, "not_found");
    is_problem(once(GET("/t/things/no-uuid")), 404, "not_found");
    const char *got = once("DELETE /t/things HTTP/1.1\r\nHost: x\r\n\r\n");
    is_problem(got, 405, "method_not_allowed");
    has(got, "Allow: POST, GET, HEAD, OPTIONS\r\n");
    is_problem(once("BREW /t/things HTTP/1.1\r\nHost: x\r\n\r\n"), 405, "method_not_allowed");
    has(once(GET("/t/words/current")), "HTTP/1.1 204 "); /* the literal goes before the parameter */
    has(once(GET("/t/words/a%2Fb%20%c3%a4")), "{\"word\":\"a/b \xc3\xa4\"}");
    is_problem(once(GET("/t/words/a%0Ab")), 404, "not_found");
    is_problem(once(GET("/t/words/a%zz")), 404, "not_found");
    is_problem(once(GET("/t/words/a%4")), 404, "not_found");
    is_problem(once(GET("/t/words/%ff")), 404, "not_found");
    is_problem(once(GET("/t/hello?q=1&q=2")), 400, "invalid_request");
    is_problem(once(GET("/t/hello?q=%")), 400, "invalid_request");
}

static void head_and_options(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    int fd = dial();
    /* A reply to HEAD has the length, but no body: the next reply follows at once. */
    put(fd, "HEAD /t/raw HTTP/1.1\r\nHost: x\r\n\r\nOPTIONS /t/things/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const char *all = take_all(fd);
    close(fd);
    has(all, "HTTP/1.1 200 OK\r\n");
    has(all, "Content-Length: 9\r\n");
    has_not(all, "metric");
    has(all, "HTTP/1.1 204 ");
    has(all, "Allow: GET, DELETE, HEAD, OPTIONS\r\n");
    has(once("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 204 ");
    is_problem(once("OPTIONS /t/nothing HTTP/1.1\r\nHost: x\r\n\r\n"), 404, "not_found");
}

static void body_is_checked_by_its_table_and_refused_by_name(void **state)
{
    (void)state;
    static const struct { const char *body, *field; } cases[] = {
        { "{}", "name" },
        { "", "name" },
        { "{\"name\":7}", "name" },
        { "{\"name\":\"\"}", "name" },
        { "{\"name\":\"123456789012345678901\"}", "name" },
        { "{\"name\":\"a\",\"size\":10}", "size" },
        { "{\"name\":\"a\",\"colour\":\"red\"}", "colour" },
        /* A name of which every byte is escaped in the answer. */
        { "{\"\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001"
          "\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001"
          "\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\":1}",
          NULL },
        { "{\"name\":\"a\",", NULL },
        { "[]", NULL },
        { "{\"name\":\"a\",\"name\":\"b\"}", NULL },
        { "{\"name\":\"\\u0000\"}", NULL },
        { "\xff", NULL },
    };
    char field[64];
    start_with((struct http_conf){ 0 });
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        const char *got = post("/t/things", JSON_TYPE, cases[i].body);
        is_problem(got, 400, "invalid_request");
        snprintf(field, sizeof field, "\"field\":\"%s\"", cases[i].field ? cases[i].field : "");
        if (cases[i].field)
            has(got, field);
    }
    assert_string_equal(story, ""); /* no transaction was begun for any of them */
    const char *got = post("/t/things", "Content-Type: Application/JSON; charset=UTF-8\r\n", "{\"name\":\"a\",\"size\":9}");
    has(got, "HTTP/1.1 201 Created\r\n");
    has(got, "Location: /t/things/1\r\n");
    has(got, "{\"name\":\"a\",\"size\":9}");
}

static void content_type_and_unwanted_bodies_are_refused(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    is_problem(post("/t/things", "", "{\"name\":\"a\"}"), 415, "unsupported_type");
    is_problem(post("/t/things", "Content-Type: text/plain\r\n", "{\"name\":\"a\"}"), 415, "unsupported_type");
    is_problem(post("/t/things", "Content-Type: application/json; charset=latin1\r\n", "{\"name\":\"a\"}"), 415, "unsupported_type");
    is_problem(post("/t/wrong-pin", JSON_TYPE, "{}"), 400, "invalid_request");
    is_problem(once("GET /t/hello HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"), 400, "invalid_request");
}

/* A row whose body is no JSON gets the bytes as they came, of its own media type and up to its own limit, and OPTIONS says which. */
static void bodies_that_are_not_json_come_as_they_are(void **state)
{
    (void)state;
    start_with((struct http_conf){ .origins = "https://app.example" });
    const char *got = post("/t/song", "Content-Type: Text/Song; v=1\r\n", "la \r\n\x01 la");
    has(got, "HTTP/1.1 201 Created\r\n");
    has(got, "Content-Type: text/song\r\n");
    has(got, "\r\n\r\n9: la \r\n\x01 la");
    has(post("/t/song", "", ""), "\r\n\r\n0: ");
    has(post("/t/song", "Content-Type: text/song\r\n", "12345678901234567890"), "HTTP/1.1 201 ");
    is_problem(post("/t/song", "Content-Type: text/song\r\n", "123456789012345678901"), 413, "body_too_large");
    got = post("/t/song", JSON_TYPE, "{}");
    is_problem(got, 415, "unsupported_type");
    has(got, "The body must be text/song.");
    is_problem(post("/t/song", "", "la"), 415, "unsupported_type");
    got = once("OPTIONS /t/song HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example\r\n\r\n");
    has(got, "HTTP/1.1 204 ");
    has(got, "Accept-Post: text/song\r\n");
    has(got, "Accept-Patch: text/song-part\r\n");
    has(got, "Access-Control-Allow-Methods: POST, PATCH, OPTIONS\r\n");
    has_not(once("OPTIONS /t/things HTTP/1.1\r\nHost: x\r\n\r\n"), "Accept-");
}

static void large_bodies_and_headers_are_refused(void **state)
{
    (void)state;
    static char text[220 * 1024];
    start_with((struct http_conf){ .max_body = 1000 });
    /* A little too large: read to its end, so that the answer arrives and the connection lives. */
    int fd = dial();
    snprintf(text, sizeof text, "POST /t/things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1001\r\n\r\n%01001d", 0);
    put(fd, text);
    is_problem(take(fd), 413, "body_too_large");
    put(fd, GET("/t/hello"));
    has(take(fd), "HTTP/1.1 200 ");
    /* The same in chunks, whose size nobody said before. */
    snprintf(text, sizeof text, "POST /t/things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n3e9\r\n%01001d\r\n0\r\n\r\n", 0);
    put(fd, text);
    is_problem(take(fd), 413, "body_too_large");
    close(fd);
    /* Far too large, or a client that waits for our word: answered at once. */
    is_problem(once("POST /t/things HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"), 413, "body_too_large");
    is_problem(once("POST /t/things HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n"), 413, "body_too_large");
    has(once("POST /t/things HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\n"), "HTTP/1.1 100 Continue\r\n");
    snprintf(text, sizeof text, "GET /t/hello HTTP/1.1\r\nHost: x\r\nX-Long: %016500d\r\n\r\n", 0);
    is_problem(once(text), 431, "headers_too_large");
    snprintf(text, sizeof text, "GET /t/hello HTTP/1.1\r\nHost: x\r\nX-Long: %0200000d\r\n\r\n", 0);
    has(once(text), "HTTP/1.1 431 ");
    snprintf(text, sizeof text, "GET /t/hello HTTP/1.1\r\nHost: x\r\nX-Long: %015000d\r\n\r\n", 0);
    has(once(text), "HTTP/1.1 200 ");
}

/* Requests of which two servers could disagree where they end: 400, and nothing behind them is taken for a request. */
static void smuggling_is_refused(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nContent-Length: 40\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Content-Length: 2, 2\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: -2\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length:\r\n",
        "Content-Length : 2\r\n",
        "Content-Length\t: 2\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Bad Header: 1\r\n",
        "Host: y\r\n",
        "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
    };
    char text[512];
    start_with((struct http_conf){ 0 });
    for (size_t i = 0; i < PL_COUNT(heads); i++) {
        int fd = dial();
        snprintf(text, sizeof text, "POST /t/things HTTP/1.1\r\nHost: x\r\n%s\r\n0\r\n\r\nGET /t/raw HTTP/1.1\r\nHost: x\r\n\r\n", heads[i]);
        put(fd, text);
        const char *got = take_all(fd);
        if (strncmp(got, "HTTP/1.1 400 ", 13) != 0 || strstr(got, "metric 1"))
            fail_msg("%s gave %s", heads[i], got);
        close(fd);
    }
    is_problem(once("GET /t/hello HTTP/1.1\r\n\r\n"), 400, "invalid_request");
    is_problem(once("GET /t/hello /x HTTP/1.1\r\nHost: x\r\n\r\n"), 400, "invalid_request");
    is_problem(once("GET /t/hello HTTP/1.2\r\nHost: x\r\n\r\n"), 400, "invalid_request");
}

/* RFC 6750: a row's scope is all of its words; a row without one is for sessions alone; a row that is for scoped tokens and names none is not mounted. */
static void scopes(void **state)
{
    (void)state;
    static const struct http_route nameless[] = { { HTTP_GET, "/t/nameless", HTTP_USER, on_me, "Nameless" }, HTTP_END };
    static const struct http_route needless[] = { { HTTP_GET, "/t/needless", HTTP_SESSION, on_me, "Needless", .scope = "a:read" }, HTTP_END };
    start_with((struct http_conf){ 0 });
    has(once("GET /t/both HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer plst_good\r\n\r\n"), "HTTP/1.1 200 ");
    has(once("GET /t/writing HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer plat_good\r\n\r\n"), "HTTP/1.1 200 ");
    const char *got = once("GET /t/writing HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer plst_good\r\n\r\n");
    is_problem(got, 403, "scope_missing");
    has(got, "WWW-Authenticate: Bearer error=\"insufficient_scope\", scope=\"a:read b:write\"\r\n");
    got = once("GET /t/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer plst_good\r\n\r\n");
    is_problem(got, 403, "scope_missing");
    has(got, "WWW-Authenticate: Bearer error=\"insufficient_scope\"\r\n");
    engine = http_stop(engine, 0);
    struct pl_fail fail = PL_FAIL_INIT;
    struct http_conf conf = { .listen = "127.0.0.1:0", .workers = 1, .queue = 1, .clock = &pl_clock_system, .rand = &pl_rand_system, .type_base = "t:" };
    assert_int_equal(http_new(&conf, &engine, &fail), PL_OK);
    assert_int_equal(http_mount(engine, nameless, NULL), PL_INTERNAL);
    assert_int_equal(http_mount(engine, needless, NULL), PL_INTERNAL);
}

static void tokens_and_grants(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    const char *got = once(GET("/t/me"));
    is_problem(got, 401, "unauthenticated");
    has(got, "WWW-Authenticate: Bearer\r\n");
    is_problem(once("GET /t/me HTTP/1.1\r\nHost: x\r\nAuthorization: Basic plat_good\r\n\r\n"), 401, "unauthenticated");
    got = once("GET /t/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer plat_other\r\n\r\n");
    is_problem(got, 401, "unauthenticated");
    has(got, "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n");
    has(once("GET /t/me HTTP/1.1\r\nHost: x\r\nAuthorization: bearer plat_good\r\n\r\n"), "\"account\":\"11111111-1111-1111-1111-111111111111\",\"step_up\":false");
    /* The token is looked at before the body. */
    is_problem(once("PUT /t/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer no\r\nContent-Length: 1\r\n\r\n{"), 401, "unauthenticated");
    is_problem(post("/t/danger", GOOD_TOKEN, ""), 403, "step_up_required");
    is_problem(post("/t/danger", GOOD_TOKEN "Step-Up-Grant: plsg_other\r\n", ""), 403, "step_up_required");
    story[0] = 0;
    has(post("/t/danger", GOOD_TOKEN "Step-Up-Grant: plsg_good\r\n", ""), "\"step_up\":true");
    assert_string_equal(story, "begin grant commit "); /* the grant is spent in the call's own transaction */
    story[0] = 0;
    has(post("/t/danger-own", GOOD_TOKEN "Step-Up-Grant: plsg_good\r\n", ""), "\"step_up\":true");
    assert_string_equal(story, "grant "); /* and in the one that http_run begins (db_run here tells no story) */
    is_problem(post("/t/danger-own", GOOD_TOKEN, ""), 403, "step_up_required");
    is_problem(post("/t/danger-own", GOOD_TOKEN "Step-Up-Grant: plsg_other\r\n", ""), 403, "step_up_required");
    is_problem(post("/t/danger-forgotten", GOOD_TOKEN "Step-Up-Grant: plsg_good\r\n", ""), 500, "internal");
}

/* Status of GET /t/me at this address, asked by the user `nobody`. */
static int asked_by_nobody(const char *address)
{
    int code = 0;
    pid_t child = fork();
    if (child == 0) {
        char got[16] = "";
        int fd = setuid(65534) == 0 ? dial_to(address) : -1;
        if (fd < 0)
            _exit(1);
        put(fd, GET("/t/me"));
        _exit(recv(fd, got, 12, MSG_WAITALL) == 12 && strncmp(got, "HTTP/1.1 401", 12) == 0 ? 41 : 2);
    }
    assert_int_equal(waitpid(child, &code, 0), child);
    return WIFEXITED(code) ? WEXITSTATUS(code) : -1;
}

/* S-A9 */
static void the_machines_owner_needs_no_token_at_its_socket(void **state)
{
    (void)state;
    char folder[] = "/tmp/porchlight-http-XXXXXX", address[64];
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chmod(folder, 0755), 0);
    snprintf(address, sizeof address, "unix:%s/admin.sock", folder);
    start_with((struct http_conf){ .listen = address });
    is_problem(once(GET("/t/me")), 401, "unauthenticated"); /* other listeners know no owner */
    engine = http_stop(engine, PL_SECOND);
    start_with((struct http_conf){ .listen = address, .machine = true });
    has(once(GET("/t/me")), "\"account\":null");
    has(once("GET /t/me HTTP/1.1\r\nHost: x\r\n" GOOD_TOKEN "\r\n"), "\"account\":\"11111111"); /* who brings one is who it says */
    is_problem(once("GET /t/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer no\r\n\r\n"), 401, "unauthenticated");
    assert_int_equal(chmod(address + 5, 0666), 0); /* who may open it is not yet the owner */
    if (geteuid() == 0)
        assert_int_equal(asked_by_nobody(address), 41);
    engine = http_stop(engine, PL_SECOND);
    rmdir(folder);
    start_with((struct http_conf){ .machine = true });
    is_problem(once(GET("/t/me")), 401, "unauthenticated");
}

static void nudges_run_after_the_commit_in_order(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    has(post("/t/things", JSON_TYPE, "{\"name\":\"a\"}"), "HTTP/1.1 201 ");
    assert_string_equal(story, "begin handler commit first-nudge second-nudge ");
    story[0] = 0;
    commits[1] = PL_UNAVAILABLE;
    is_problem(post("/t/things", JSON_TYPE, "{\"name\":\"a\"}"), 503, "unavailable");
    assert_string_equal(story, "begin handler commit-failed ");
}

static void conflict_runs_the_handler_again_with_a_fresh_reply(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    const char *got = post("/t/retry", "", "");
    has(got, "HTTP/1.1 203 ");
    has(got, "X-Try: 3\r\n");
    has_not(got, "X-Try: 2");
    has(got, "\r\n\r\n{\"try\":3}");
    assert_string_equal(story, "begin rollback begin rollback begin commit nudge ");
    tries = 2; /* now the commit meets the conflict */
    story[0] = 0;
    commits[1] = PL_RETRY;
    has(post("/t/retry", "", ""), "\r\n\r\n{\"try\":4}");
    assert_string_equal(story, "begin commit-failed begin commit nudge ");
    tries = 0;
    got = post("/t/always-retry", "", "");
    is_problem(got, 503, "retry");
    has(got, "Retry-After: 1\r\n");
    assert_int_equal(tries, 5);
}

static void lists_go_on_where_their_link_says(void **state)
{
    (void)state;
    start_with((struct http_conf){ 0 });
    has_not(once(GET("/t/things")), "Link: ");
    const char *got = once(GET("/t/things?limit=3"));
    has(got, "{\"things\":[1,2,3]}");
    has(got, "Link: <?cursor=Aw&limit=3>; rel=\"next\"\r\n");
    has(once(GET("/t/things?cursor=Aw&limit=3")), "{\"things\":[4,5,6]}");
    got = once(GET("/t/things?cursor=Bg&limit=3"));
    has(got, "{\"things\":[7]}");
    has_not(got, "Link: ");
    is_problem(once(GET("/t/things?limit=0")), 400, "invalid_request");
    is_problem(once(GET("/t/things?limit=201")), 400, "invalid_request");
    is_problem(once(GET("/t/things?cursor=AAAA")), 400, "invalid_request");
    is_problem(once(GET("/t/things?cursor=%2B%2B")), 400, "invalid_request");
}

static void if_match_refuses_a_state_that_is_gone(void **state)
{
    (void)state;
    char tag[64], text[256];
    start_with((struct http_conf){ 0 });
    const char *got = once("PUT /t/paint HTTP/1.1\r\nHost: x\r\n\r\n"), *at = strstr(got, "ETag: \"");
    has(got, "HTTP/1.1 204 ");
    assert_non_null(at);
    snprintf(tag, sizeof tag, "%.18s", at + 6);
    const struct { const char *before, *after; int status; } cases[] = {
        { "", "", 204 }, { "\"other\", ", "", 204 }, { "", ",\"other\"", 204 }, { "W/", "", 412 }, { "\"other\" ", "", 400 }, { "", " x", 400 },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        snprintf(text, sizeof text, "PUT /t/paint HTTP/1.1\r\nHost: x\r\nIf-Match: %s%s%s\r\n\r\n", cases[i].before, tag, cases[i].after);
        got = once(text);
        snprintf(text, sizeof text, "HTTP/1.1 %d ", cases[i].status);
        has(got, text);
    }
    is_problem(once("PUT /t/paint HTTP/1.1\r\nHost: x\r\nIf-Match: \"other\"\r\n\r\n"), 412, "version_conflict");
    is_problem(once("PUT /t/paint HTTP/1.1\r\nHost: x\r\nIf-Match: \r\n\r\n"), 400, "invalid_request");
    has(once("PUT /t/paint HTTP/1.1\r\nHost: x\r\nIf-Match: *\r\n\r\n"), "HTTP/1.1 204 ");
}

/* S-F7 */
static void forwarded_callers_are_believed_of_named_proxies_only(void **state)
{
    (void)state;
#define ASK(headers) once("GET /t/hello HTTP/1.1\r\nHost: x\r\n" headers "\r\n")
    start_with((struct http_conf){ .proxies = "10.0.0.1", .max_per_address = 2 });
    has(ASK("X-Forwarded-For: 203.0.113.7\r\n"), "\"peer\":\"127.0.0.1\"");
    engine = http_stop(engine, PL_SECOND);
    start_with((struct http_conf){ .proxies = "10.0.0.1 127.0.0.1", .max_per_address = 2 });
    has(ASK("X-Forwarded-For: 203.0.113.7\r\n"), "\"peer\":\"203.0.113.7\"");
    has(ASK("X-Forwarded-For: 2001:db8::7\r\n"), "\"peer\":\"2001:db8::7\"");
    /* What the caller itself wrote stands in front of what the proxy wrote. */
    has(ASK("X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n"), "\"peer\":\"203.0.113.7\"");
    has(ASK("X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 203.0.113.7\r\n"), "\"peer\":\"203.0.113.7\"");
    has(ASK("X-Forwarded-For: nonsense\r\n"), "\"peer\":\"127.0.0.1\"");
    has(ASK(""), "\"peer\":\"127.0.0.1\"");
    /* It speaks for many, so the limit of one address is not its. */
    int fds[4];
    for (size_t i = 0; i < PL_COUNT(fds); i++) {
        fds[i] = dial();
        put(fds[i], GET("/t/hello"));
        has(take(fds[i]), "HTTP/1.1 200 ");
    }
    for (size_t i = 0; i < PL_COUNT(fds); i++)
        close(fds[i]);
}

static void without_tls_only_loopback_is_listened_on(void **state)
{
    (void)state;
    static const struct { const char *listen; bool proxy; enum pl_err e; } cases[] = {
        { "0.0.0.0:0", false, PL_INVALID_REQUEST }, { "[::]:0", false, PL_INVALID_REQUEST }, { ":0", false, PL_INVALID_REQUEST },
        { "127.0.0.2:0", false, PL_OK },            { "0.0.0.0:0", true, PL_OK },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct pl_fail fail = PL_FAIL_INIT;
        struct http_conf conf = { .listen = cases[i].listen, .behind_proxy = cases[i].proxy, .clock = &test_clock, .rand = &pl_rand_system, .workers = 1, .queue = 1,
                                  .type_base = "x" };
        assert_int_equal(http_new(&conf, &engine, &fail), PL_OK);
        assert_int_equal(http_start(engine, &fail), cases[i].e);
        assert_true(cases[i].e == PL_OK || strstr(fail.detail, "--tls-cert"));
        engine = http_stop(engine, 0);
    }
}

#define FROM(origin) "Origin: " origin "\r\n"
static void only_pages_of_allowed_origins_may_read_answers(void **state)
{
    (void)state;
    start_with((struct http_conf){ .origins = " https://app.example  http://127.0.0.1:3000" });
    const char *got = once("GET /t/hello HTTP/1.1\r\nHost: x\r\n" FROM("http://127.0.0.1:3000") "\r\n");
    has(got, "Access-Control-Allow-Origin: http://127.0.0.1:3000\r\n");
    has(got, "Vary: Origin\r\n");
    has(got, "Access-Control-Expose-Headers: Location, ETag, Link, Retry-After");
    has_not(got, "Access-Control-Allow-Credentials");
    /* Refusals too, or the page could not read why. */
    got = once("GET /t/me HTTP/1.1\r\nHost: x\r\n" FROM("https://app.example") "\r\n");
    is_problem(got, 401, "unauthenticated");
    has(got, "Access-Control-Allow-Origin: https://app.example\r\n");
    got = once("OPTIONS /t/things HTTP/1.1\r\nHost: x\r\n" FROM("https://app.example") "Access-Control-Request-Method: POST\r\n\r\n");
    has(got, "HTTP/1.1 204 ");
    has(got, "Access-Control-Allow-Methods: POST, GET, HEAD, OPTIONS\r\n");
    has(got, "Access-Control-Allow-Headers: Authorization, Content-Type, Challenge-Key, Idempotency-Key, If-Match, Step-Up-Grant\r\n");
    static const char *const strangers[] = { "https://app.example.evil.test", "https://app.exampl", "http://app.example", "null", "*", "" };
    for (size_t i = 0; i < PL_COUNT(strangers); i++) {
        char text[256];
        snprintf(text, sizeof text, "OPTIONS /t/things HTTP/1.1\r\nHost: x\r\nOrigin: %s\r\nAccess-Control-Request-Method: POST\r\n\r\n", strangers[i]);
        got = once(text);
        has(got, "Vary: Origin\r\n");
        has_not(got, "Access-Control");
    }
    has_not(once(GET("/t/hello")), "Access-Control");
}

static void without_allowed_origins_there_is_no_cors(void **state)
{
    (void)state;
    start_with((struct http_conf){ .origins = "" });
    const char *got = once("GET /t/hello HTTP/1.1\r\nHost: x\r\n" FROM("http://127.0.0.1:3000") "\r\n");
    has(got, "HTTP/1.1 200 ");
    has_not(got, "Access-Control");
    has_not(got, "Vary");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(reply_has_body_headers_and_request_id),
        CASE(path_and_method_are_matched),
        CASE(head_and_options),
        CASE(body_is_checked_by_its_table_and_refused_by_name),
        CASE(content_type_and_unwanted_bodies_are_refused),
        CASE(bodies_that_are_not_json_come_as_they_are),
        CASE(large_bodies_and_headers_are_refused),
        CASE(smuggling_is_refused),
        CASE(scopes),
        CASE(tokens_and_grants),
        CASE(the_machines_owner_needs_no_token_at_its_socket),
        CASE(nudges_run_after_the_commit_in_order),
        CASE(conflict_runs_the_handler_again_with_a_fresh_reply),
        CASE(lists_go_on_where_their_link_says),
        CASE(if_match_refuses_a_state_that_is_gone),
        CASE(only_pages_of_allowed_origins_may_read_answers),
        CASE(without_allowed_origins_there_is_no_cors),
        CASE(forwarded_callers_are_believed_of_named_proxies_only),
        CASE(without_tls_only_loopback_is_listened_on),
    };
    /* What the engine logs is thrown away: failures are made on purpose here. */
    pl_log_to(-1);
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
