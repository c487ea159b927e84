/* What is TLS's own: versions, trust, time, and who is let in without it. That conversations are the same over it, test_link says when it is called with `tls`. */
#include "link_sim.h"

/* A clock that the test puts forward while threads look at it. */
struct leaping {
    struct pl_clock base;
    int64_t by; /* atomic */
};
static struct pl_mono leap_mono(const struct pl_clock *self) { return pl_mono_add(pl_now_mono(&pl_clock_system), GET(((const struct leaping *)(const void *)self)->by)); }
static struct pl_utc leap_utc(const struct pl_clock *self) { return pl_utc_add(pl_now_utc(&pl_clock_system), GET(((const struct leaping *)(const void *)self)->by)); }

/* Ended by the other side; what it said before that does not count. */
static void ends(int fd)
{
    char byte;
    ssize_t n;
    while ((n = recv(fd, &byte, 1, 0)) == 1) {
    }
    if (n < 0 && errno == EAGAIN)
        fail_msg("it was not ended");
}

static void versions(void **state)
{
    struct link *l = server();
    const struct { int most; bool good; } rows[] = { { TLS1_1_VERSION, false }, { TLS1_2_VERSION, true }, { 0, true } };
    (void)state;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        int fd = tcp(port_of(l), 0);
        SSL *ssl = SSL_new(tls_client);
        SSL_set_security_level(ssl, 0);
        SSL_set_min_proto_version(ssl, TLS1_VERSION);
        SSL_set_max_proto_version(ssl, rows[i].most);
        SSL_set_fd(ssl, fd);
        assert_int_equal(SSL_connect(ssl) == 1, rows[i].good);
        assert_true(!rows[i].good || SSL_version(ssl) == (rows[i].most ? rows[i].most : TLS1_3_VERSION));
        SSL_free(ssl);
        close(fd);
    }
    link_stop(l, PL_SECOND);
}

/* A client talks to nobody whom its authority does not vouch for, today, under the name that it dialled; and says why. */
static void trust(void **state)
{
    const struct { const struct cert_files *server; const char *ca, *why; } rows[] = {
        { &certs.good, certs.other_ca, "certificate signature failure" },
        { &certs.expired, certs.ca, "certificate has expired" },
        { &certs.other_name, certs.ca, "IP address mismatch" },
    };
    (void)state;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct link *l = server_of((struct link_conf){ .tls_cert = rows[i].server->cert, .tls_key = rows[i].server->key });
        struct user u = { .ca_file = rows[i].ca };
        user_start(&u, port_of(l), "/test/v1", "test.v1", 0);
        WAIT(GET(u.closes) >= 1);
        u.client = link_client_free(u.client);
        assert_string_equal(u.reason, rows[i].why);
        assert_int_equal(u.opens, 0);
        assert_int_equal(u.code, 0);
        link_stop(l, PL_SECOND);
        assert_int_equal(GET(opened), 0);
    }
    struct pl_fail fail = PL_FAIL_INIT;
    struct link_client *none = NULL;
    struct link_client_conf conf = { .url = "wss://127.0.0.1:1/x", .protocol = "p", .ca_file = "/nowhere.pem", .clock = &pl_clock_system, .rand = &pl_rand_system };
    assert_int_equal(link_client_new(&conf, &none, &fail), PL_INVALID_REQUEST);
    assert_non_null(strstr(fail.detail, "/nowhere.pem"));
}

static void an_ipv6_address_is_a_name_too(void **state)
{
    struct link *l = server_of((struct link_conf){ .listen = "[::1]:0" });
    struct user u = { 0 };
    char url[80];
    struct pl_fail fail = PL_FAIL_INIT;
    (void)state;
    snprintf(url, sizeof url, "wss://%s/test/v1", link_address(l));
    struct link_client_conf conf = { .url = url, .protocol = "test.v1", .ca_file = certs.ca, .self = &u, .on_open = user_open, .on_message = user_message,
                                     .on_close = user_close, .clock = &pl_clock_system, .rand = &pl_rand_system };
    assert_int_equal(link_client_new(&conf, &u.client, &fail), PL_OK);
    WAIT(GET(u.welcomes) == 1);
    u.client = link_client_free(u.client);
    link_stop(l, PL_SECOND);
}

/* Handshake and request together have 10 s: whoever is silent, stops half-way or drips is cut then, and nobody else notices. */
static void half_open_and_dripping_are_cut(void **state)
{
    struct leaping clock = { .base = { leap_mono, leap_utc } };
    struct link *l = server_of((struct link_conf){ .clock = &clock.base });
    (void)state;
    int silent = tcp(port_of(l), 0), half = tcp(port_of(l), 0), mute = dial(port_of(l), 0), drips = dial(port_of(l), 0);
    const unsigned char begun[] = { 22, 3, 1, 2, 0, 1, 0, 1, 0xfc };
    assert_int_equal(send(half, begun, sizeof begun, 0), sizeof begun);
    put_z(drips, "GET /test/v1 HTTP/1.1\r\nX");
    struct raw *r = raw_hello(l, "/test/v1", "test.v1", 0);
    ADD(clock.by, 9900 * PL_MS);
    put_z(drips, ": y");
    ADD(clock.by, 150 * PL_MS);
    ends(silent);
    ends(half);
    ends(mute);
    ends(drips);
    say_n(r, "echo", 0);
    expect_text(r, "\"n\":0");
    raw_free(r);
    close(silent);
    close(half);
    hang_up(mute);
    hang_up(drips);
    link_stop(l, PL_SECOND);
}

static void what_is_no_tls_ends(void **state)
{
    struct link *l = server();
    (void)state;
    int fd = tcp(port_of(l), 0);
    const char *plain = "GET /test/v1 HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_int_equal(send(fd, plain, strlen(plain), 0), strlen(plain));
    ends(fd);
    close(fd);
    link_stop(l, PL_SECOND);
}

/* Larger than a record, a buffer of the pump's and what the kernel takes at once; both ways at the same time. */
static void large_messages_arrive_whole(void **state)
{
    static char text[60000], back[70000];
    struct link *l = server();
    (void)state;
    struct raw *r = raw_hello(l, "/test/v1", "test.v1", 0);
    for (int round = 0; round < 30; round++) {
        for (int i = 0; i < 3; i++) {
            snprintf(text, sizeof text, "{\"type\":\"echo\",\"n\":%d,\"pad\":\"%059900d\"}", 3 * round + i, round);
            raw_say(r, text);
        }
        for (int i = 0; i < 3; i++) {
            snprintf(back, sizeof back, "{\"type\":\"echo\",\"n\":%d,\"pad\":\"%059900d\"}", 3 * round + i, round);
            expect_text(r, back);
        }
    }
    raw_free(r);
    link_stop(l, PL_SECOND);
}

/* A peer that is gone without a word, in the middle of what it is sent. */
static void a_torn_cable_is_noticed(void **state)
{
    struct link *l = server();
    struct linger now = { .l_onoff = 1 };
    (void)state;
    struct raw *r = raw_hello(l, "/test/v1", "test.v1", 0);
    assert_int_equal(link_send(last_conn, PL_STR("{\"n\":1}")), PL_OK);
    setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    raw_free(r);
    WAIT(GET(closed) == 1);
    assert_string_equal(GET(ended), "lost");
    link_stop(l, 10 * PL_SECOND); /* counts sockets: none is left */
}

static void without_tls_only_loopback(void **state)
{
    struct pl_fail fail = PL_FAIL_INIT;
    struct link *l = NULL;
    struct link_conf conf = { .listen = "0.0.0.0:0", .db.conninfo = "", .clock = &pl_clock_system, .rand = &pl_rand_system, .protocols = protocols };
    (void)state;
    assert_int_equal(link_new(&conf, &l, &fail), PL_INVALID_REQUEST);
    assert_non_null(strstr(fail.detail, "0.0.0.0:0 is not loopback"));
    conf.listen = "[::]:0";
    assert_int_equal(link_new(&conf, &l, &fail), PL_INVALID_REQUEST);
    conf.behind_proxy = true;
    assert_int_equal(link_new(&conf, &l, &fail), PL_OK);
    link_stop(l, PL_SECOND);
    conf.behind_proxy = false;
    const struct { const char *cert, *key, *says; } bad[] = {
        { certs.good.cert, NULL, "needs both" },           { "", certs.good.key, "needs both" },
        { "/nowhere", certs.good.key, "/nowhere is no" },  { certs.good.cert, certs.expired.key, "is not the key" },
        { certs.good.key, certs.good.key, "is no certificate" },
    };
    for (size_t i = 0; i < PL_COUNT(bad); i++) {
        conf.tls_cert = bad[i].cert;
        conf.tls_key = bad[i].key;
        assert_int_equal(link_new(&conf, &l, &fail), PL_INVALID_REQUEST);
        assert_non_null(strstr(fail.detail, bad[i].says));
    }
    conf.tls_cert = certs.good.cert;
    conf.tls_key = certs.good.key;
    assert_int_equal(link_new(&conf, &l, &fail), PL_OK);
    link_stop(l, PL_SECOND);
}

/* A proxy that is named speaks for many; who is not named has his share. */
static void a_named_proxy_has_no_share(void **state)
{
    struct link *l = server_of((struct link_conf){ .max_per_address = 1, .proxies = "10.0.0.1 127.0.0.1" });
    (void)state;
    struct raw *a = raw_hello(l, "/test/v1", "test.v1", 0), *b = raw_hello(l, "/test/v1", "test.v1", 0);
    raw_free(a);
    raw_free(b);
    link_stop(l, PL_SECOND);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        T(versions), T(trust), T(an_ipv6_address_is_a_name_too), T(half_open_and_dripping_are_cut), T(what_is_no_tls_ends), T(large_messages_arrive_whole),
        T(a_torn_cable_is_noticed), T(without_tls_only_loopback), T(a_named_proxy_has_no_share),
    };
    over_tls = true;
    pl_log_level(PL_ERROR + 1);
    return cmocka_run_group_tests(all, tls_set_up, tls_tear_down);
}
