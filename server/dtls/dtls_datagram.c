#include "dtls_private.h"
#include <openssl/bio.h>

/* OpenSSL sets its retransmission timer by gettimeofday and tells the datagram BIO each time, by a pointer to the timer itself. That is where time is taken
 * over: a timer that runs is moved to where it never expires by itself, when it is due by our clock dtls_datagram_expire moves it into the past. From 3.2 on the
 * BIO is shown a copy, so that flights would be sent again by the machine's clock or not at all: better no build than that. */
#if OPENSSL_VERSION_NUMBER >= 0x30200000L
#error "OpenSSL 3.2 and later hide the DTLS timer: dtls_datagram.c needs another way to it"
#endif
#define NEVER ((time_t)1 << 40)

static int put(BIO *b, const char *p, int n)
{
    struct dtls_datagram *io = BIO_get_data(b);
    if (io->sink)
        io->sink->send(io->sink, (const uint8_t *)p, (size_t)n);
    return n;
}

/* The whole datagram, or what of it there is room for: so a socket does it. */
static int get(BIO *b, char *p, int cap)
{
    struct dtls_datagram *io = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (!io->in) {
        BIO_set_retry_read(b);
        return -1;
    }
    int n = io->in_n < (size_t)cap ? (int)io->in_n : cap;
    memcpy(p, io->in, (size_t)n);
    io->in = NULL;
    return n;
}

static void timer(struct dtls_datagram *io, struct timeval *t)
{
    if (t->tv_sec == 0 && t->tv_usec == 0) { /* answered: the next flight begins anew */
        io->timer = NULL;
        io->wait_us = DTLS_WAIT_FIRST_MS * PL_MS;
        return;
    }
    io->timer = t;
    io->due = pl_mono_add(io->now, io->wait_us);
    *t = (struct timeval){ .tv_sec = NEVER };
}

static long control(BIO *b, int cmd, long n, void *p)
{
    (void)n;
    switch (cmd) {
    case BIO_CTRL_DGRAM_SET_NEXT_TIMEOUT: timer(BIO_get_data(b), p); return 1;
    case BIO_CTRL_DGRAM_GET_MTU_OVERHEAD: return 28; /* IPv4 and UDP; only to find the smallest MTU, ours is set */
    case BIO_CTRL_FLUSH: return 1;
    default: return 0; /* nothing is ever pending here: what is written has gone */
    }
}

BIO_METHOD *dtls_datagram_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "datagram");
    if (m && BIO_meth_set_write(m, put) == 1 && BIO_meth_set_read(m, get) == 1 && BIO_meth_set_ctrl(m, control) == 1)
        return m;
    BIO_meth_free(m);
    return NULL;
}

void dtls_datagram_expire(struct dtls_datagram *io)
{
    *io->timer = (struct timeval){ .tv_usec = 1 }; /* not 0: that would say that none runs */
    io->wait_us = io->wait_us * 2 < DTLS_WAIT_MOST_MS * PL_MS ? io->wait_us * 2 : DTLS_WAIT_MOST_MS * PL_MS;
}
