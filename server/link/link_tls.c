#include "link_tls.h"
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

/* OpenSSL's own words for what went wrong last; empties its queue. */
static const char *why(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return text ? text : "it cannot be read";
}

enum pl_err link_tls_serve(const char *cert, const char *key, SSL_CTX **ret, struct pl_fail *reterr)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx)
        return PL_NO_MEMORY;
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* who comes back brings a ticket */
    SSL_CTX_set_num_tickets(ctx, 1);
    enum pl_err e = PL_OK;
    if (SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1)
        e = PL_NO_MEMORY;
    else if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
        e = pl_fail(reterr, PL_INVALID_REQUEST, "%s is no certificate in PEM: %s.", cert, why());
    else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)
        e = pl_fail(reterr, PL_INVALID_REQUEST, "%s is not the key of the certificate, in PEM: %s.", key, why());
    if (e != PL_OK)
        SSL_CTX_free(ctx);
    else
        *ret = ctx;
    return e;
}

/* Whole files only: a folder of certificates would be read when a server is verified, which a process that has locked itself in cannot do. */
static const char *system_bundle(void)
{
    static const char *const known[] = { "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem" };
    const char *named = secure_getenv(X509_get_default_cert_file_env());
    struct stat st;
    for (size_t i = 0; !named && i < PL_COUNT(known); i++)
        if (stat(known[i], &st) == 0)
            named = known[i];
    return named;
}

static bool expect_name(X509_VERIFY_PARAM *param, const char *host)
{
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1 || X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
}

enum pl_err link_tls_dial(const char *ca_file, const char *host, SSL_CTX **ret, struct pl_fail *reterr)
{
    const char *bundle = ca_file ? ca_file : system_bundle();
    if (!bundle)
        return pl_fail(reterr, PL_INVALID_REQUEST, "This machine has no bundle of certificates (on Debian: package ca-certificates); name a file by --ca.");
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx)
        return PL_NO_MEMORY;
    enum pl_err e = PL_OK;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 || !expect_name(SSL_CTX_get0_param(ctx), host))
        e = PL_NO_MEMORY;
    else if (SSL_CTX_load_verify_file(ctx, bundle) != 1)
        e = pl_fail(reterr, PL_INVALID_REQUEST, "%s has no certificates in PEM: %s.", bundle, why());
    if (e != PL_OK)
        SSL_CTX_free(ctx);
    else
        *ret = ctx;
    return e;
}

SSL *link_tls_new(SSL_CTX *ctx, int fd)
{
    SSL *ssl = SSL_new(ctx);
    if (ssl && SSL_set_fd(ssl, fd) == 1)
        return ssl;
    SSL_free(ssl);
    return NULL;
}

enum pl_err link_tls_shake(SSL *ssl)
{
    ERR_clear_error();
    int n = SSL_accept(ssl), got = n == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl, n);
    return n == 1 ? PL_OK : got == SSL_ERROR_WANT_READ || got == SSL_ERROR_WANT_WRITE ? PL_SHORT : PL_IO;
}

enum pl_err link_tls_read(SSL *ssl, char *mem, size_t cap, size_t *ret_n)
{
    ERR_clear_error();
    int n = SSL_read_ex(ssl, mem, cap, ret_n), got = n == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl, n);
    return n == 1 ? PL_OK : got == SSL_ERROR_WANT_READ || got == SSL_ERROR_WANT_WRITE ? PL_SHORT : PL_IO;
}

void link_tls_say(SSL *ssl, struct pl_str text)
{
    size_t n;
    ERR_clear_error();
    if (SSL_write_ex(ssl, text.p, text.n, &n) == 1)
        SSL_shutdown(ssl);
}
