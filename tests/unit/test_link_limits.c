/* What bounds a peer of the engine: size and number of messages, their rate, silence, slowness, connections, and work that waits. */
#include "link_sim.h"

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

/* S-D13: frames that are no messages are floods too, whatever libwebsockets does with them by itself: fragments, pongs, pings with a body and without. */
static void floods_close(void **state)
{
    static const struct { int opcode; bool final; size_t n; int times; } rows[] = {
        { 1, false, 1, 60 }, { 10, true, 1, 60 }, { 10, true, 0, 3000 }, { 9, true, 0, 3000 }, { 9, true, 125, 300 },
    };
    static const char body[125] = "";
    struct link *l = server();
    (void)state;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct raw *r = raw_hello(l, "/few/v1", "few.v1", 0);
        for (int k = 0; k < rows[i].times; k++)
            raw_frame(r, rows[i].opcode == 1 && k ? 0 : rows[i].opcode, rows[i].final, body, rows[i].n);
        expect_close(r, 4429, "rate_limited");
        raw_free(r);
        WAIT(GET(closed) == (int)i + 1);
    }
    link_stop(l, PL_SECOND);
}

/* What a message weighs is no flood, nor is a ping now and then. */
static void large_messages_are_no_flood(void **state)
{
    static char text[60000];
    struct link *l = server();
    (void)state;
    struct raw *r = raw_hello(l, "/few/v1", "few.v1", 0);
    for (int i = 0; i < 15; i++) {
        snprintf(text, sizeof text, "{\"type\":\"echo\",\"n\":%d,\"pad\":\"%059900d\"}", i, i);
        raw_say(r, text);
        raw_frame(r, 9, true, "ping", 4);
        do
            raw_next(r);
        while (r->opcode == 10);
        assert_int_equal(r->opcode, 1);
    }
    raw_free(r);
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
    int fd = dial(port_of(l), 0);
    put_z(fd, "GET /test/v1?x=1 HT");
    put_z(fd, "TP/1.1\r\nHost: x\r\n" WS "Sec-WebSocket-Protocol: other, test.v1\r\n\r");
    put_z(fd, "\n");
    get_head(fd, head, sizeof head);
    assert_non_null(strstr(head, "101"));
    hang_up(fd);
    link_stop(l, PL_SECOND);
}

static void room_is_bounded(void **state)
{
    struct link *l = server_at("127.0.0.1:0", 3, 2);
    (void)state;
    const char *good = "GET /test/v1 HTTP/1.1\r\nHost: x\r\n" WS "Sec-WebSocket-Protocol: test.v1\r\n\r\n";
    struct raw *a = raw_hello(l, "/test/v1", "test.v1", 0), *b = raw_hello(l, "/test/v1", "test.v1", 0);
    no_room(l, good, "HTTP/1.1 429 ");
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
    no_room(l, good, "HTTP/1.1 503 ");
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

int main(int argc, char **argv)
{
    (void)argv;
    over_tls = argc > 1;
    const struct CMUnitTest all[] = {
        T(too_large_closes), T(too_many_closes), T(floods_close), T(large_messages_are_no_flood), T(late_authentication_closes), T(silence_is_death),
        T(slow_reader_closes), T(door_turns_away), T(room_is_bounded), T(idlers_cost_nothing), T(pool_behind_stops_reading),
    };
    pl_log_level(PL_ERROR);
    return cmocka_run_group_tests(all, tls_set_up, tls_tear_down);
}
