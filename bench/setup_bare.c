/* bench-setup-bare COUNT: DTLS 1.2 handshakes in memory, no socket, no thread: by OpenSSL alone over P-256 and over X25519 (the least that a set-up can cost), and by
 * dtls.h. Each side has a P-256 certificate and asks for the other's. Prints for each "us of CPU active side, us passive side" a handshake; object and keys included. */
#include "dtls.h"
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int64_t cpu_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* ---- OpenSSL, as its manual would have it. */

static int any_cert(X509_STORE_CTX *store, void *none)
{
    (void)store, (void)none;
    return 1;
}

static SSL_CTX *bare_context(const char *group)
{
    SSL_CTX *c = SSL_CTX_new(DTLS_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    if (!c || !key || !x)
        abort();
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 1000000);
    X509_set_pubkey(x, key);
    X509_sign(x, key, EVP_sha256());
    SSL_CTX_use_certificate(c, x);
    SSL_CTX_use_PrivateKey(c, key);
    X509_free(x);
    EVP_PKEY_free(key);
    SSL_CTX_set_max_proto_version(c, DTLS1_2_VERSION);
    SSL_CTX_set_cipher_list(c, "ECDHE-ECDSA-AES128-GCM-SHA256");
    SSL_CTX_set1_groups_list(c, group);
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(c, any_cert, NULL);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_QUERY_MTU);
    SSL_CTX_set_tlsext_use_srtp(c, "SRTP_AEAD_AES_128_GCM");
    return c;
}

static void bare(unsigned count, const char *group)
{
    SSL_CTX *c = bare_context(group);
    int64_t spent[2] = { 0, 0 };
    for (unsigned i = 0; i < count; i++) {
        BIO *wire[2] = { BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()) };
        SSL *ssl[2];
        for (unsigned k = 0; k < 2; k++) {
            int64_t from = cpu_ns();
            BIO_set_mem_eof_return(wire[k], -1);
            ssl[k] = SSL_new(c);
            BIO_up_ref(wire[k]);
            BIO_up_ref(wire[1 - k]);
            SSL_set_bio(ssl[k], wire[k], wire[1 - k]);
            SSL_set_mtu(ssl[k], 1200);
            if (k == 0)
                SSL_set_connect_state(ssl[k]);
            else
                SSL_set_accept_state(ssl[k]);
            spent[k] += cpu_ns() - from;
        }
        for (unsigned round = 0; round < 6; round++) {
            int64_t from = cpu_ns();
            int r = SSL_do_handshake(ssl[round % 2]);
            spent[round % 2] += cpu_ns() - from;
            if (round >= 4 && r != 1)
                abort();
        }
        for (unsigned k = 0; k < 2; k++) {
            uint8_t keys[56];
            int64_t from = cpu_ns();
            if (SSL_export_keying_material(ssl[k], keys, sizeof keys, "EXTRACTOR-dtls_srtp", 19, NULL, 0, 0) != 1)
                abort();
            SSL_free(ssl[k]);
            spent[k] += cpu_ns() - from;
            BIO_free(wire[k]);
        }
    }
    SSL_CTX_free(c);
    printf("%.1f %.1f\n", (double)spent[0] / count / 1000, (double)spent[1] / count / 1000);
}

/* ---- dtls.h. */

struct end {
    struct dtls_sink sink; /* first */
    struct dtls *d;
    unsigned n;
    size_t sizes[4];
    uint8_t bytes[4][DTLS_MTU];
};

static void keep(struct dtls_sink *self, const uint8_t *p, size_t n)
{
    struct end *e = (struct end *)self;
    if (e->n == 4)
        abort();
    memcpy(e->bytes[e->n], p, n);
    e->sizes[e->n++] = n;
}

static void ours(unsigned count)
{
    struct dtls_context *c = NULL;
    const struct pl_mono now = { 0 };
    int64_t spent[2] = { 0, 0 };
    if (dtls_context_new((struct pl_utc){ 0 }, &c) != PL_OK)
        abort();
    for (unsigned i = 0; i < count; i++) {
        static struct end ends[2];
        for (unsigned k = 0; k < 2; k++) {
            struct dtls_conf conf = { .context = c, .role = k ? DTLS_PASSIVE : DTLS_ACTIVE, .suites = { PL_SRTP_GCM, PL_SRTP_SHA1_80 }, .suites_n = 2 };
            memcpy(conf.fingerprints[0], dtls_fingerprint(c), sizeof conf.fingerprints[0]);
            ends[k] = (struct end){ .sink = { keep } };
            int64_t from = cpu_ns();
            if (dtls_new(&conf, &ends[k].d) != PL_OK)
                abort();
            dtls_start(ends[k].d, now, &ends[k].sink);
            spent[k] += cpu_ns() - from;
        }
        for (unsigned round = 0; round < 4; round++) {
            struct end *from = &ends[round % 2], *to = &ends[1 - round % 2];
            int64_t began = cpu_ns();
            for (unsigned m = 0; m < from->n; m++)
                dtls_input(to->d, now, from->bytes[m], from->sizes[m], &to->sink);
            from->n = 0;
            spent[1 - round % 2] += cpu_ns() - began;
        }
        for (unsigned k = 0; k < 2; k++) {
            struct dtls_keys keys;
            int64_t from = cpu_ns();
            if (dtls_keys(ends[k].d, &keys) != PL_OK)
                abort();
            dtls_free(ends[k].d);
            spent[k] += cpu_ns() - from;
        }
    }
    dtls_context_free(c);
    printf("%.1f %.1f\n", (double)spent[0] / count / 1000, (double)spent[1] / count / 1000);
}

int main(int argc, char **argv)
{
    uint32_t count;
    if (argc != 2 || pl_parse_u32(pl_str_of(argv[1]), 1, 1000000, &count) != PL_OK)
        return 64;
    bare(count, "P-256");
    bare(count, "X25519:P-256"); /* the certificates need P-256 on the list */
    ours(count);
    return 0;
}
