/* DTLS against OpenSSL as others use it: peers of every kind in this process, and its own programs s_server and s_client over UDP on loopback. */
#include "dtls_net.h"
#include <arpa/inet.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct dtls_context *ours;

static int make_context(void **state)
{
    (void)state;
    return dtls_context_new((struct pl_utc){ INT64_C(1795000000) * PL_SECOND }, &ours) == PL_OK ? 0 : -1;
}
static int free_context(void **state)
{
    (void)state;
    ours = dtls_context_free(ours);
    return 0;
}

/* ---- Certificates. */

enum kind { NO_CERT, P256, P384, RSA1024, RSA2048 };

static EVP_PKEY *make_key(enum kind kind)
{
    switch (kind) {
    case P256: return EVP_EC_gen("P-256");
    case P384: return EVP_EC_gen("P-384");
    case RSA1024: return EVP_RSA_gen(1024);
    default: return EVP_RSA_gen(2048);
    }
}

static X509 *make_cert(EVP_PKEY *key, uint8_t fp[DTLS_FINGERPRINT])
{
    X509 *x = X509_new();
    assert_non_null(x);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -20000000); /* long past its time: in WebRTC dates mean nothing */
    X509_gmtime_adj(X509_getm_notAfter(x), -10000000);
    X509_set_pubkey(x, key);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    assert_int_equal(X509_digest(x, EVP_sha256(), fp, NULL), 1);
    return x;
}

/* ---- A peer in this process. Its datagrams wait in memory and are handed over record by record. */

struct peer_conf {
    enum kind kind;
    const char *profiles; /* NULL: no use_srtp */
    const char *ciphers;
    int version;          /* highest; 0: 1.2 */
    unsigned mtu;
};
struct peer {
    SSL_CTX *ctx;
    SSL *ssl;
    uint8_t fp[DTLS_FINGERPRINT];
    struct net_end end; /* the sink of ours: what ours sends goes to the peer */
    struct dtls *d;
    struct pl_mono now;
};

static int any_cert(X509_STORE_CTX *store, void *none)
{
    (void)store, (void)none;
    return 1;
}

static void to_peer(struct dtls_sink *self, const uint8_t *p, size_t n)
{
    struct net_end *e = (struct net_end *)self;
    struct peer *peer = (struct peer *)((char *)e - offsetof(struct peer, end));
    assert_true(n <= DTLS_MTU);
    e->sent++;
    assert_int_equal(BIO_write(SSL_get_rbio(peer->ssl), p, (int)n), (int)n);
}

static void peer_open(struct peer *p, const struct peer_conf *c, enum dtls_role our_role)
{
    memset(p, 0, sizeof *p);
    p->now.us = PL_SECOND;
    p->end.sink.send = to_peer;
    p->ctx = SSL_CTX_new(DTLS_method());
    assert_non_null(p->ctx);
    SSL_CTX_set_security_level(p->ctx, 0);
    SSL_CTX_set_min_proto_version(p->ctx, DTLS1_VERSION);
    SSL_CTX_set_max_proto_version(p->ctx, c->version ? c->version : DTLS1_2_VERSION);
    SSL_CTX_set_verify(p->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(p->ctx, any_cert, NULL);
    SSL_CTX_set_options(p->ctx, SSL_OP_NO_QUERY_MTU);
    if (c->ciphers)
        assert_int_equal(SSL_CTX_set_cipher_list(p->ctx, c->ciphers), 1);
    if (c->kind != NO_CERT) {
        EVP_PKEY *key = make_key(c->kind);
        X509 *x = make_cert(key, p->fp);
        assert_true(SSL_CTX_use_certificate(p->ctx, x) == 1 && SSL_CTX_use_PrivateKey(p->ctx, key) == 1);
        X509_free(x);
        EVP_PKEY_free(key);
    }
    p->ssl = SSL_new(p->ctx);
    SSL_set_bio(p->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    BIO_set_mem_eof_return(SSL_get_rbio(p->ssl), -1);
    SSL_set_mtu(p->ssl, c->mtu ? c->mtu : 1200);
    if (c->profiles)
        assert_int_equal(SSL_set_tlsext_use_srtp(p->ssl, c->profiles), 0);
    if (our_role == DTLS_ACTIVE)
        SSL_set_accept_state(p->ssl);
    else
        SSL_set_connect_state(p->ssl);
    struct dtls_conf conf = { .context = ours, .role = our_role, .suites = { PL_SRTP_GCM, PL_SRTP_SHA1_80 }, .suites_n = 2 };
    memcpy(conf.fingerprints[0], p->fp, sizeof conf.fingerprints[0]);
    assert_int_equal(dtls_new(&conf, &p->d), PL_OK);
    dtls_path(p->d, p->now);
    dtls_start(p->d, p->now, &p->end.sink);
}

/* What the peer has written, to ours, one record a datagram. False: nothing. */
static bool from_peer(struct peer *p)
{
    uint8_t bytes[32768];
    int n = BIO_read(SSL_get_wbio(p->ssl), bytes, sizeof bytes);
    for (int at = 0; at + 13 <= n;) {
        int len = 13 + (bytes[at + 11] << 8 | bytes[at + 12]);
        dtls_input(p->d, p->now, bytes + at, (size_t)len, &p->end.sink);
        at += len;
    }
    return n > 0;
}

static void peer_run(struct peer *p)
{
    do {
        uint8_t none[16];
        ERR_clear_error();
        (void)(SSL_is_init_finished(p->ssl) ? SSL_read(p->ssl, none, sizeof none) : SSL_do_handshake(p->ssl));
    } while (from_peer(p));
}

static void peer_close(struct peer *p)
{
    p->d = dtls_free(p->d);
    SSL_free(p->ssl);
    SSL_CTX_free(p->ctx);
}

static void keys_match(struct peer *p, bool active, enum pl_srtp_suite suite)
{
    uint8_t block[60];
    struct dtls_keys k;
    size_t salt = pl_srtp_key_bytes(suite) - 16;
    assert_int_equal(dtls_keys(p->d, &k), PL_OK);
    assert_int_equal(k.suite, suite);
    assert_int_equal(SSL_export_keying_material(p->ssl, block, 2 * pl_srtp_key_bytes(suite), "EXTRACTOR-dtls_srtp", 19, NULL, 0, 0), 1);
    const uint8_t *client = active ? k.send_key : k.receive_key, *server = active ? k.receive_key : k.send_key;
    assert_memory_equal(client, block, 16);
    assert_memory_equal(server, block + 16, 16);
    assert_memory_equal(client + 16, block + 32, salt);
    assert_memory_equal(server + 16, block + 32 + salt, salt);
}

#define GCM "SRTP_AEAD_AES_128_GCM"
#define BOTH "SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_128_GCM"

static void peers_of_many_kinds(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        struct peer_conf peer;
        bool active_too, passive_too; /* our roles to try */
        enum dtls_failure want;       /* DTLS_ALERT stands for: it ended, whoever said so first */
    } cases[] = {
        { "P-256", { P256, BOTH }, true, true, DTLS_OK },
        { "P-384", { P384, BOTH }, true, true, DTLS_OK },
        { "RSA 2048", { RSA2048, BOTH }, true, true, DTLS_OK },
        { "RSA in pieces of 256 bytes", { RSA2048, BOTH, .mtu = 256 }, true, true, DTLS_OK },
        { "RSA 1024 means nothing", { RSA1024, BOTH }, true, true, DTLS_WRONG_FINGERPRINT },
        { "no certificate", { NO_CERT, BOTH }, false, true, DTLS_REFUSED },
        { "SHA1_32 alone (S-M6)", { P256, "SRTP_AES128_CM_SHA1_32" }, true, true, DTLS_NO_PROFILE },
        { "no use_srtp", { P256, NULL }, true, true, DTLS_NO_PROFILE },
        { "DTLS 1.0", { P256, BOTH, .version = DTLS1_VERSION }, true, true, DTLS_REFUSED },
        { "no AEAD", { P256, BOTH, .ciphers = "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA" }, true, true, DTLS_REFUSED },
        { "no forward secrecy", { RSA2048, BOTH, .ciphers = "AES128-GCM-SHA256" }, true, true, DTLS_REFUSED },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++)
        for (unsigned active = 0; active < 2; active++) {
            struct peer p;
            struct dtls_keys k;
            if (!(active ? cases[i].active_too : cases[i].passive_too))
                continue;
            peer_open(&p, &cases[i].peer, active ? DTLS_ACTIVE : DTLS_PASSIVE);
            peer_run(&p);
            enum dtls_failure f = dtls_failure(p.d);
            bool ended = cases[i].want == DTLS_REFUSED && f == DTLS_ALERT; /* the peer may see first that there is nothing in common */
            if (f != cases[i].want && !ended)
                fail_msg("%s, active %u: %s, want %s", cases[i].what, active, dtls_failure_code(f), dtls_failure_code(cases[i].want));
            if (f == DTLS_OK) {
                assert_int_equal(dtls_state(p.d), DTLS_FINISHED);
                keys_match(&p, active, active ? PL_SRTP_SHA1_80 : PL_SRTP_GCM); /* the passive side chooses */
                assert_non_null(strstr(SSL_get_cipher_name(p.ssl), "ECDHE"));
                assert_false(SSL_SESSION_has_ticket(SSL_get_session(p.ssl)));
            } else {
                assert_int_equal(dtls_keys(p.d, &k), PL_UNAVAILABLE);
            }
            peer_close(&p);
        }
}

static void renegotiation_is_refused(void **state)
{
    (void)state;
    for (unsigned active = 0; active < 2; active++) {
        struct peer p;
        struct dtls_keys before, after;
        peer_open(&p, &(struct peer_conf){ P256, GCM }, active ? DTLS_ACTIVE : DTLS_PASSIVE);
        peer_run(&p);
        assert_int_equal(dtls_keys(p.d, &before), PL_OK);
        assert_int_equal(SSL_renegotiate(p.ssl), 1);
        (void)SSL_do_handshake(p.ssl);
        while (from_peer(&p))
            (void)SSL_do_handshake(p.ssl);
        assert_true(dtls_state(p.d) >= DTLS_FINISHED);
        assert_int_equal(dtls_keys(p.d, &after), PL_OK);
        assert_memory_equal(before.send_key, after.send_key, pl_srtp_key_bytes(PL_SRTP_GCM));
        peer_close(&p);
    }
}

static void nothing_is_resumed(void **state)
{
    (void)state;
    struct peer p;
    peer_open(&p, &(struct peer_conf){ P256, GCM }, DTLS_PASSIVE);
    peer_run(&p);
    SSL_SESSION *session = SSL_get1_session(p.ssl);
    peer_close(&p);
    peer_open(&p, &(struct peer_conf){ P256, GCM }, DTLS_PASSIVE);
    SSL_set_session(p.ssl, session);
    peer_run(&p);
    assert_int_equal(dtls_state(p.d), DTLS_FINISHED);
    assert_false(SSL_session_reused(p.ssl));
    SSL_SESSION_free(session);
    peer_close(&p);
}

static void after_the_handshake(void **state)
{
    (void)state;
    struct peer p;
    peer_open(&p, &(struct peer_conf){ P256, GCM }, DTLS_PASSIVE);
    peer_run(&p);
    unsigned sent = p.end.sent;
    assert_int_equal(dtls_state(p.d), DTLS_FINISHED);
    assert_int_equal(SSL_write(p.ssl, "data of nobody", 14), 14);
    (void)from_peer(&p);
    assert_int_equal(dtls_state(p.d), DTLS_FINISHED);
    assert_int_equal(p.end.sent, sent); /* is thrown away */
    (void)SSL_shutdown(p.ssl);
    (void)from_peer(&p);
    assert_int_equal(dtls_state(p.d), DTLS_CLOSED);
    peer_close(&p);
}

/* ---- OpenSSL's programs, as other processes. */

static char folder[] = "/tmp/test-dtls-XXXXXX", key_file[64], cert_file[64];

static void write_files(uint8_t fp[DTLS_FINGERPRINT], enum kind kind)
{
    EVP_PKEY *key = make_key(kind);
    X509 *x = make_cert(key, fp);
    assert_non_null(mkdtemp(folder));
    (void)snprintf(key_file, sizeof key_file, "%s/key.pem", folder);
    (void)snprintf(cert_file, sizeof cert_file, "%s/cert.pem", folder);
    FILE *k = fopen(key_file, "w"), *c = fopen(cert_file, "w");
    assert_true(k && c && PEM_write_PrivateKey(k, key, NULL, NULL, 0, NULL, NULL) == 1 && PEM_write_X509(c, x) == 1);
    (void)fclose(k);
    (void)fclose(c);
    X509_free(x);
    EVP_PKEY_free(key);
}

static void remove_files(void)
{
    (void)unlink(key_file);
    (void)unlink(cert_file);
    (void)rmdir(folder);
    memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
}

struct program {
    pid_t pid;
    int in, out;
    char text[16384]; /* all that it has said */
    size_t n;
};

static void start(struct program *g, const char *const argv[])
{
    int in[2], out[2];
    *g = (struct program){ 0 };
    assert_true(pipe(in) == 0 && pipe(out) == 0);
    g->pid = fork();
    assert_true(g->pid >= 0);
    if (g->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(out[1], 2);
        close(in[1]);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    g->in = in[1];
    g->out = out[0];
}

static void stop(struct program *g)
{
    kill(g->pid, SIGKILL);
    waitpid(g->pid, NULL, 0);
    close(g->in);
    close(g->out);
}

/* What stands behind `word` once a whole line with it has come; NULL: not yet. */
static const char *said(struct program *g, const char *word)
{
    const char *at = strstr(g->text, word);
    return at && strchr(at, '\n') ? at + strlen(word) : NULL;
}

static void hear(struct program *g, int timeout_ms)
{
    struct pollfd f = { .fd = g->out, .events = POLLIN };
    if (poll(&f, 1, timeout_ms) == 1) {
        ssize_t n = read(g->out, g->text + g->n, sizeof g->text - 1 - g->n);
        if (n <= 0 || g->n + (size_t)n == sizeof g->text - 1)
            fail_msg("the program ended:\n%s", g->text);
        g->n += (size_t)n;
    }
}

struct wire {
    struct dtls_sink sink;
    int fd;
};
static void to_wire(struct dtls_sink *self, const uint8_t *p, size_t n) { (void)send(((struct wire *)self)->fd, p, n, 0); }

/* Until ours is done and the program has said its keys. The clock is the real one here: the other side's is, too. */
static void converse(struct dtls *d, struct wire *w, struct program *g)
{
    struct pl_mono end = pl_mono_add(pl_now_mono(&pl_clock_system), 10 * PL_SECOND);
    dtls_path(d, pl_now_mono(&pl_clock_system));
    dtls_start(d, pl_now_mono(&pl_clock_system), &w->sink);
    while (dtls_state(d) != DTLS_FINISHED || !said(g, "Keying material: ")) {
        struct pl_mono now = pl_now_mono(&pl_clock_system);
        struct pollfd f[2] = { { .fd = w->fd, .events = POLLIN }, { .fd = g->out, .events = POLLIN } };
        int64_t due = dtls_due(d, now);
        if (pl_mono_cmp(now, end) > 0 || dtls_state(d) == DTLS_FAILED)
            fail_msg("state %d, %s; the program said:\n%s", dtls_state(d), dtls_failure_code(dtls_failure(d)), g->text);
        (void)poll(f, 2, due < 0 || due > PL_SECOND ? 1000 : (int)(due / PL_MS) + 1);
        if (f[0].revents) {
            uint8_t p[4096];
            ssize_t n = recv(w->fd, p, sizeof p, MSG_DONTWAIT);
            if (n > 0)
                dtls_input(d, pl_now_mono(&pl_clock_system), p, (size_t)n, &w->sink);
        }
        if (f[1].revents)
            hear(g, 0);
        dtls_tick(d, pl_now_mono(&pl_clock_system), &w->sink);
    }
}

static void compare(struct dtls *d, bool active, struct program *g)
{
    struct dtls_keys k;
    uint8_t block[56];
    const char *hex = said(g, "Keying material: ");
    assert_int_equal(pl_unhex((struct pl_str){ hex, 2 * sizeof block }, block, sizeof block), PL_OK);
    assert_int_equal(dtls_keys(d, &k), PL_OK);
    assert_int_equal(k.suite, PL_SRTP_GCM);
    assert_memory_equal(active ? k.send_key : k.receive_key, block, 16);
    assert_memory_equal(active ? k.receive_key : k.send_key, block + 16, 16);
    assert_memory_equal((active ? k.send_key : k.receive_key) + 16, block + 32, 12);
    assert_memory_equal((active ? k.receive_key : k.send_key) + 16, block + 44, 12);
}

#define EXPORT "-cert", cert_file, "-key", key_file, "-use_srtp", GCM, "-keymatexport", "EXTRACTOR-dtls_srtp", "-keymatexportlen", "56"

static struct dtls *end_for(enum dtls_role role, const uint8_t fp[DTLS_FINGERPRINT])
{
    struct dtls_conf conf = { .context = ours, .role = role, .suites = { PL_SRTP_GCM, PL_SRTP_SHA1_80 }, .suites_n = 2 };
    struct dtls *d = NULL;
    memcpy(conf.fingerprints[0], fp, DTLS_FINGERPRINT);
    assert_int_equal(dtls_new(&conf, &d), PL_OK);
    return d;
}

static struct sockaddr_in loopback(unsigned port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
}

static void openssl_s_server(void **state)
{
    (void)state;
    static const enum kind kinds[] = { P256, RSA2048 };
    for (size_t i = 0; i < PL_COUNT(kinds); i++) {
        uint8_t fp[DTLS_FINGERPRINT];
        struct program g;
        uint32_t port;
        write_files(fp, kinds[i]);
        start(&g, (const char *const[]){ "openssl", "s_server", "-dtls1_2", "-accept", "127.0.0.1:0", "-Verify", "1", EXPORT, NULL });
        const char *at;
        while (!(at = said(&g, "ACCEPT 127.0.0.1:")))
            hear(&g, 5000);
        assert_int_equal(pl_parse_u32((struct pl_str){ at, strcspn(at, "\n") }, 1, 65535, &port), PL_OK);
        struct sockaddr_in to = loopback(port);
        struct wire w = { { to_wire }, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) };
        assert_int_equal(connect(w.fd, (struct sockaddr *)&to, sizeof to), 0);
        struct dtls *d = end_for(DTLS_ACTIVE, fp);
        converse(d, &w, &g);
        compare(d, true, &g);
        dtls_free(d);
        close(w.fd);
        stop(&g);
        remove_files();
    }
}

static void openssl_s_client(void **state)
{
    (void)state;
    static const enum kind kinds[] = { P256, RSA2048 };
    for (size_t i = 0; i < PL_COUNT(kinds); i++) {
        uint8_t fp[DTLS_FINGERPRINT], hello[2048];
        struct program g;
        char where[32];
        struct sockaddr_in me = loopback(0), from;
        socklen_t n = sizeof me;
        struct wire w = { { to_wire }, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) };
        write_files(fp, kinds[i]);
        assert_true(bind(w.fd, (struct sockaddr *)&me, n) == 0 && getsockname(w.fd, (struct sockaddr *)&me, &n) == 0);
        (void)snprintf(where, sizeof where, "127.0.0.1:%u", ntohs(me.sin_port));
        start(&g, (const char *const[]){ "openssl", "s_client", "-dtls1_2", "-connect", where, EXPORT, NULL });
        struct pollfd f = { .fd = w.fd, .events = POLLIN };
        assert_int_equal(poll(&f, 1, 5000), 1);
        n = sizeof from;
        assert_true(recvfrom(w.fd, hello, sizeof hello, MSG_PEEK, (struct sockaddr *)&from, &n) > 0);
        assert_int_equal(connect(w.fd, (struct sockaddr *)&from, n), 0); /* its hello is still there to be read */
        struct dtls *d = end_for(DTLS_PASSIVE, fp);
        converse(d, &w, &g);
        compare(d, false, &g);
        dtls_free(d);
        close(w.fd);
        stop(&g);
        remove_files();
    }
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers_of_many_kinds),
        cmocka_unit_test(renegotiation_is_refused),
        cmocka_unit_test(nothing_is_resumed),
        cmocka_unit_test(after_the_handshake),
        cmocka_unit_test(openssl_s_server),
        cmocka_unit_test(openssl_s_client),
    };
    return cmocka_run_group_tests(tests, make_context, free_context);
}
