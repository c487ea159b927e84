#include "dtls_private.h"
#include <openssl/err.h>
#include <openssl/srtp.h>

enum {
    KEY = 16,           /* bytes of a master key, either suite */
    RECORD_HEADER = 13, /* RFC 6347, 4.1 */
    EARLY = 4,          /* datagrams of the next epoch that are kept for later: OpenSSL would keep a hundred */
    AFTER = 64          /* datagrams that are looked at once it is over: each could make us repeat our last flight */
};
static const char label[] = "EXTRACTOR-dtls_srtp"; /* RFC 5764, 4.2 */

const char *dtls_failure_code(enum dtls_failure f)
{
    static const char *const codes[DTLS_FAILURES] = { [DTLS_OK] = "", [DTLS_WRONG_FINGERPRINT] = "dtls_fingerprint", [DTLS_NO_PROFILE] = "dtls_no_profile",
        [DTLS_ALERT] = "dtls_alert", [DTLS_TIMEOUT] = "dtls_timeout", [DTLS_REFUSED] = "dtls_refused", [DTLS_NO_MEMORY] = "dtls_no_memory" };
    return codes[f];
}

/* ---- Making. */

static bool offer_suites(SSL *ssl, const struct dtls_conf *conf)
{
    static const char *const names[] = { [PL_SRTP_GCM] = "SRTP_AEAD_AES_128_GCM", [PL_SRTP_SHA1_80] = "SRTP_AES128_CM_SHA1_80" };
    char text[64];
    struct pl_buf b = pl_buf_fixed(text, sizeof text);
    for (unsigned i = 0; i < conf->suites_n; i++)
        pl_buf_fmt(&b, "%s%s", i ? ":" : "", names[conf->suites[i]]);
    return pl_buf_err(&b) == PL_OK && SSL_set_tlsext_use_srtp(ssl, text) == 0; /* 0 is success here */
}

static bool make_ssl(struct dtls *d, const struct dtls_conf *conf)
{
    d->ssl = SSL_new(conf->context->ssl);
    BIO *bio = d->ssl ? BIO_new(conf->context->datagram) : NULL;
    if (!bio)
        return false;
    BIO_set_data(bio, &d->io);
    BIO_set_init(bio, 1);
    SSL_set_bio(d->ssl, bio, bio); /* one reference for both directions, OpenSSL's from now on */
    if (d->active)
        SSL_set_connect_state(d->ssl);
    else
        SSL_set_accept_state(d->ssl);
    return SSL_set_app_data(d->ssl, d) == 1 && SSL_set_mtu(d->ssl, DTLS_MTU) == DTLS_MTU && offer_suites(d->ssl, conf);
}

enum pl_err dtls_new(const struct dtls_conf *conf, struct dtls **ret)
{
    if (conf->suites_n == 0 || conf->suites_n > DTLS_SUITES)
        return PL_INVALID_REQUEST;
    struct dtls *d = pl_heap(sizeof *d);
    if (!d)
        return PL_NO_MEMORY;
    d->context = conf->context;
    d->state = DTLS_HANDSHAKE;
    d->active = conf->role == DTLS_ACTIVE;
    d->io.wait_us = DTLS_WAIT_FIRST_MS * PL_MS;
    memcpy(d->peer, conf->fingerprints, sizeof d->peer);
    if (!make_ssl(d, conf)) {
        ERR_clear_error();
        dtls_free(d);
        return PL_NO_MEMORY;
    }
    *ret = d;
    return PL_OK;
}

struct dtls *dtls_free(struct dtls *d)
{
    if (d)
        SSL_free(d->ssl); /* wipes its secrets */
    return pl_heap_free(d);
}

/* ---- Running. */

static void fail(struct dtls *d, enum dtls_failure why)
{
    if (d->failure == DTLS_OK) /* what judge() found says more than the error that OpenSSL makes of it */
        d->failure = why;
    d->state = DTLS_FAILED;
}

/* What the first error of the queue means. An alert of the peer is a reason above SSL_AD_REASON_OFFSET. */
static enum dtls_failure why(void)
{
    unsigned long first = ERR_peek_error();
    int reason = ERR_GET_REASON(first);
    if (reason == ERR_R_MALLOC_FAILURE)
        return DTLS_NO_MEMORY;
    if (ERR_GET_LIB(first) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256)
        return DTLS_ALERT;
    return ERR_GET_LIB(first) == ERR_LIB_SSL && reason == SSL_R_READ_TIMEOUT_EXPIRED ? DTLS_TIMEOUT : DTLS_REFUSED;
}

/* The active side has sent its Finished and waits for the peer's: the peer's key exchange is signed by the key of its certificate, so keys are nobody else's. */
static bool waits_for_finished(const SSL *ssl)
{
    switch (SSL_get_state(ssl)) {
    case TLS_ST_CW_FINISHED:
    case TLS_ST_CR_SESSION_TICKET:
    case TLS_ST_CR_CHANGE: return true;
    default: return false;
    }
}

static void shake(struct dtls *d)
{
    int r = SSL_do_handshake(d->ssl);
    if (r == 1)
        d->state = DTLS_FINISHED;
    else if (SSL_get_error(d->ssl, r) != SSL_ERROR_WANT_READ)
        fail(d, why());
    else if (d->active && waits_for_finished(d->ssl))
        d->state = DTLS_KEYED;
}

/* The handshake is over. What may still come: the peer's last flight again (OpenSSL repeats ours), its goodbye. Data is nobody's and thrown away. */
static void listen(struct dtls *d)
{
    uint8_t scratch[256];
    int r;
    while ((r = SSL_read(d->ssl, scratch, sizeof scratch)) > 0)
        continue;
    int e = SSL_get_error(d->ssl, r);
    if (e == SSL_ERROR_ZERO_RETURN || (e == SSL_ERROR_SSL && why() == DTLS_ALERT))
        d->state = DTLS_CLOSED;
}

static void enter(struct dtls *d, struct pl_mono now, struct dtls_sink *sink)
{
    d->io.now = now;
    d->io.sink = sink;
    ERR_clear_error(); /* the queue is the thread's: what others left in it is not ours */
}

static void leave(struct dtls *d)
{
    d->io.sink = NULL;
    d->io.in = NULL;
    ERR_clear_error();
}

void dtls_start(struct dtls *d, struct pl_mono now, struct dtls_sink *sink)
{
    if (!d->active || d->state != DTLS_HANDSHAKE)
        return;
    enter(d, now, sink);
    shake(d);
    leave(d);
}

void dtls_path(struct dtls *d, struct pl_mono now)
{
    struct pl_mono soon = pl_mono_add(now, DTLS_WAIT_FIRST_MS * PL_MS);
    if (!d->path)
        d->deadline = pl_mono_add(now, DTLS_DEADLINE);
    /* The first time what waits leaves only now; later the path has moved, and what went the old way may be lost. */
    if (!d->path || pl_mono_cmp(soon, d->io.due) < 0)
        d->io.due = soon;
    d->path = true;
}

/* Records of the next epoch that overtake the rest are kept by OpenSSL until they can be read. A few are what a network does, more are an attempt on our memory. */
static bool runs_ahead(const uint8_t *p, size_t n)
{
    struct pl_rd rd = pl_rd_of(p, n);
    while (pl_rd_left(&rd) >= RECORD_HEADER) {
        (void)pl_rd_u24(&rd); /* type, version */
        if (pl_rd_u16(&rd) != 0)
            return true;
        (void)pl_rd_bytes(&rd, 6); /* sequence number */
        (void)pl_rd_bytes(&rd, pl_rd_u16(&rd));
    }
    return false;
}

static bool worth_reading(struct dtls *d, const uint8_t *p, size_t n)
{
    enum { CHANGE_CIPHER_SPEC = 20, HANDSHAKE = 22, APPLICATION_DATA = 23 };
    if (n < RECORD_HEADER || p[0] < CHANGE_CIPHER_SPEC || p[0] > APPLICATION_DATA)
        return false;
    /* Nothing but a handshake is to be had before there are keys; OpenSSL would end the association over what RFC 6347 (4.1.2.7) wants dropped. */
    if (p[0] > HANDSHAKE && p[3] == 0 && p[4] == 0)
        return false;
    if (d->state == DTLS_FINISHED)
        return d->after++ < AFTER;
    return !runs_ahead(p, n) || d->early++ < EARLY;
}

void dtls_input(struct dtls *d, struct pl_mono now, const uint8_t *p, size_t n, struct dtls_sink *sink)
{
    if (d->state == DTLS_FAILED || d->state == DTLS_CLOSED || !worth_reading(d, p, n))
        return;
    enter(d, now, sink);
    d->io.in = p;
    d->io.in_n = n;
    if (d->state < DTLS_FINISHED)
        shake(d);
    if (d->state == DTLS_FINISHED)
        listen(d);
    leave(d);
}

/* ---- Time. */

static bool waits(const struct dtls *d) { return d->path && (d->state == DTLS_HANDSHAKE || d->state == DTLS_KEYED); }

void dtls_tick(struct dtls *d, struct pl_mono now, struct dtls_sink *sink)
{
    if (!waits(d))
        return;
    if (pl_mono_cmp(now, d->deadline) >= 0) {
        fail(d, DTLS_TIMEOUT);
        return;
    }
    if (!d->io.timer || pl_mono_cmp(now, d->io.due) < 0)
        return;
    enter(d, now, sink);
    dtls_datagram_expire(&d->io);
    if (DTLSv1_handle_timeout(d->ssl) < 0)
        fail(d, why());
    leave(d);
}

int64_t dtls_due(const struct dtls *d, struct pl_mono now)
{
    if (!waits(d))
        return -1;
    int64_t left = pl_mono_sub(d->deadline, now), flight = d->io.timer ? pl_mono_sub(d->io.due, now) : left;
    left = flight < left ? flight : left;
    return left > 0 ? left : 0;
}

enum dtls_state dtls_state(const struct dtls *d) { return d->state; }
enum dtls_failure dtls_failure(const struct dtls *d) { return d->failure; }

/* ---- Keys: client key, server key, client salt, server salt (RFC 5764, 4.2). */

static enum pl_err split(const struct dtls *d, enum pl_srtp_suite suite, const uint8_t *block, struct dtls_keys *ret)
{
    size_t salt = pl_srtp_key_bytes(suite) - KEY;
    uint8_t *client = d->active ? ret->send_key : ret->receive_key, *server = d->active ? ret->receive_key : ret->send_key;
    ret->suite = suite;
    memcpy(client, block, KEY);
    memcpy(server, block + KEY, KEY);
    memcpy(client + KEY, block + (size_t)2 * KEY, salt);
    memcpy(server + KEY, block + (size_t)2 * KEY + salt, salt);
    return PL_OK;
}

enum pl_err dtls_keys(struct dtls *d, struct dtls_keys *ret)
{
    uint8_t block[2 * PL_SRTP_KEY_MAX];
    if (d->state < DTLS_KEYED)
        return PL_UNAVAILABLE;
    const SRTP_PROTECTION_PROFILE *profile = SSL_get_selected_srtp_profile(d->ssl);
    enum pl_srtp_suite suite = profile && profile->id == SRTP_AEAD_AES_128_GCM ? PL_SRTP_GCM : PL_SRTP_SHA1_80;
    size_t n = 2 * pl_srtp_key_bytes(suite);
    enum pl_err e = PL_UNAVAILABLE;
    if (profile && SSL_export_keying_material(d->ssl, block, n, label, sizeof label - 1, NULL, 0, 0) == 1)
        e = split(d, suite, block, ret);
    explicit_bzero(block, sizeof block);
    ERR_clear_error();
    return e;
}
