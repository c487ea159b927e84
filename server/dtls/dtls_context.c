#include "dtls_private.h"
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

/* Forward secrecy and AEAD only, which sending media before the peer's Finished rests on (RFC 7918). The peer's certificate may be of either kind. */
#define CIPHERS "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:" \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
/* X25519 first: a P-256 point of the peer costs a multiplication more, to see that it is one (measured: a handshake is a tenth to a quarter dearer). */
#define GROUPS "X25519:P-256:P-384"
#define SIGNATURES "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA384:RSA-PSS+SHA384:RSA+SHA384:RSA+SHA512"
/* Sound for as long as the address of a picture may matter (NIST SP 800-57: 112 bits): P-224, RSA of 2,048 bits and better. */
#define SECURITY_BITS 112
#define VALID_BEFORE (24 * 3600)
#define VALID_YEARS 5

/* ---- Our certificate. */

static bool sign_certificate(X509 *x, EVP_PKEY *key, struct pl_utc now)
{
    uint64_t serial = 0;
    time_t at = (time_t)(now.us / PL_SECOND);
    X509_NAME *name = X509_get_subject_name(x);
    return RAND_bytes((unsigned char *)&serial, sizeof serial) == 1 && X509_set_version(x, X509_VERSION_3) == 1 &&
        ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial >> 1) == 1 &&
        X509_time_adj_ex(X509_getm_notBefore(x), 0, -VALID_BEFORE, &at) && X509_time_adj_ex(X509_getm_notAfter(x), 365 * VALID_YEARS, 0, &at) &&
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"porchlight", -1, -1, 0) == 1 && X509_set_issuer_name(x, name) == 1 &&
        X509_set_pubkey(x, key) == 1 && X509_sign(x, key, EVP_sha256()) > 0;
}

static bool make_certificate(struct dtls_context *c, struct pl_utc now)
{
    unsigned n = 0;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    bool ok = key && x && sign_certificate(x, key, now) && X509_digest(x, EVP_sha256(), c->fingerprint, &n) == 1 && n == DTLS_FINGERPRINT &&
        SSL_CTX_use_certificate(c->ssl, x) == 1 && SSL_CTX_use_PrivateKey(c->ssl, key) == 1; /* the context takes references of its own */
    X509_free(x);
    EVP_PKEY_free(key);
    return ok;
}

/* ---- The peer's. Called when it has come, before anything is signed or computed for it; its possession of the key is proved by what follows. */

static bool sound(X509 *x)
{
    EVP_PKEY *key = X509_get0_pubkey(x);
    return key && EVP_PKEY_get_security_bits(key) >= SECURITY_BITS;
}

/* Each is compared, whichever is right. */
static bool is_peer(const struct dtls *d, const uint8_t digest[DTLS_FINGERPRINT])
{
    bool any = false;
    for (unsigned i = 0; i < DTLS_FINGERPRINTS; i++)
        any |= CRYPTO_memcmp(digest, d->peer[i], DTLS_FINGERPRINT) == 0;
    return any;
}

static int judge(X509_STORE_CTX *store, void *none)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    X509 *x = X509_STORE_CTX_get0_cert(store);
    struct dtls *d = SSL_get_app_data(ssl);
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    (void)none;
    if (!x || X509_digest(x, EVP_sha256(), digest, &n) != 1 || n != DTLS_FINGERPRINT || !is_peer(d, digest) || !sound(x)) {
        d->failure = DTLS_WRONG_FINGERPRINT;
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED); /* alert: bad_certificate */
        return 0;
    }
    if (!SSL_get_selected_srtp_profile(ssl)) { /* agreed on before certificates are shown, or not at all */
        d->failure = DTLS_NO_PROFILE;
        X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION); /* alert: handshake_failure */
        return 0;
    }
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

/* ---- What all associations have in common. */

static bool configure(SSL_CTX *s)
{
    SSL_CTX_set_options(s, SSL_OP_NO_QUERY_MTU | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(s, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(s, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(s, judge, NULL);
    /* No record of ours is longer than a datagram: without saying so each association would hold 16 KiB to write into. */
    return SSL_CTX_set_max_send_fragment(s, DTLS_MTU) == 1 && SSL_CTX_set_min_proto_version(s, DTLS1_2_VERSION) == 1 &&
        SSL_CTX_set_max_proto_version(s, DTLS1_2_VERSION) == 1 && SSL_CTX_set_cipher_list(s, CIPHERS) == 1 && SSL_CTX_set1_groups_list(s, GROUPS) == 1 &&
        SSL_CTX_set1_sigalgs_list(s, SIGNATURES) == 1;
}

enum pl_err dtls_context_new(struct pl_utc now, struct dtls_context **ret)
{
    struct dtls_context *c = pl_heap(sizeof *c);
    if (!c)
        return PL_NO_MEMORY;
    c->ssl = SSL_CTX_new(DTLS_method());
    c->datagram = dtls_datagram_method();
    if (!c->ssl || !c->datagram || !configure(c->ssl) || !make_certificate(c, now)) {
        enum pl_err e = ERR_GET_REASON(ERR_peek_error()) == ERR_R_MALLOC_FAILURE || !c->ssl || !c->datagram ? PL_NO_MEMORY : PL_UNAVAILABLE;
        ERR_clear_error();
        dtls_context_free(c);
        return e;
    }
    *ret = c;
    return PL_OK;
}

struct dtls_context *dtls_context_free(struct dtls_context *c)
{
    if (c) {
        SSL_CTX_free(c->ssl);
        BIO_meth_free(c->datagram);
    }
    return pl_heap_free(c);
}

const uint8_t *dtls_fingerprint(const struct dtls_context *c) { return c->fingerprint; }
