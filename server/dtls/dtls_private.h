/* dtls_private.h - what the files of dtls/ share; no one else includes it. */
#pragma once
#include "dtls.h"
#include <openssl/ssl.h>
#include <sys/time.h>

struct dtls_context {
    SSL_CTX *ssl;
    BIO_METHOD *datagram;
    uint8_t fingerprint[DTLS_FINGERPRINT];
};

/* Between OpenSSL and the caller: one datagram in, datagrams out, and OpenSSL's timer on the caller's clock (dtls_datagram.c). */
struct dtls_datagram {
    const uint8_t *in; /**< the datagram that is read next; NULL: none */
    size_t in_n;
    struct dtls_sink *sink; /**< during a call from outside only */
    struct timeval *timer;  /**< OpenSSL's; NULL: not running, nothing waits for an answer */
    int64_t wait_us;        /**< until the flight that is out is sent again */
    struct pl_mono now, due;
};
struct dtls {
    SSL *ssl;
    struct dtls_context *context;
    struct dtls_datagram io;
    enum dtls_state state;
    enum dtls_failure failure;
    uint8_t peer[DTLS_FINGERPRINTS][DTLS_FINGERPRINT];
    bool active, path;
    struct pl_mono deadline;
    unsigned early; /**< datagrams of the next epoch that came before it began */
    unsigned after; /**< that came once the handshake was over */
};

/* NULL: no memory. */
BIO_METHOD *dtls_datagram_method(void);
/* Makes the timer that runs look expired, so that DTLSv1_handle_timeout sends the flight again; what it waits then is doubled. */
void dtls_datagram_expire(struct dtls_datagram *io);
enum { DTLS_WAIT_FIRST_MS = 200, DTLS_WAIT_MOST_MS = 3000 };
