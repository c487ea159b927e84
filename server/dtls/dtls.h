/* dtls.h - one DTLS 1.2 association (RFC 6347) that makes SRTP keys (RFC 5764), as a machine without socket and clock. OpenSSL stays behind this door.
 *
 * A peer is who its certificate's SHA-256 fingerprint says (RFC 5763), one of a few if it named several (RFC 8122): compared in constant time before anything of ours is
 * signed for it; dates and names of a
 * certificate mean nothing here, its kind may be any whose signatures are sound (P-256, RSA of 2,048 bits). Keys are there as soon as the peer's flight has
 * verified and ours is out (DTLS_KEYED: media may be sent, a round trip earlier for the active side); what the peer sends is believed from its Finished on
 * (DTLS_FINISHED). AEAD_AES_128_GCM is wanted first, AES_CM_128_HMAC_SHA1_80 is taken, nothing else is (S-M6). No renegotiation, no tickets, no resumption,
 * no cipher without forward secrecy and AEAD.
 * S-M1: nothing here asks for a cookie, because ICE proves the path first: what dtls_start and dtls_input hand to the sink leaves only on a proved path, and that
 * is the caller's rule to keep; until dtls_path is called no time runs and nothing is sent again. A hostile peer cannot make an association grow past 256 KiB.
 * Time is passed in: a flight that is not answered goes out again after 200, 400, 800, … ms, 3 s at most; DTLS_DEADLINE after dtls_path the handshake has failed.
 * Randomness is OpenSSL's own.
 * Not here: which packets are DTLS (rtp.h), SRTP itself (srtp.h), threads and caps (relay_dtls.h).
 * Threads: a context and its associations belong to one thread at a time; dtls_fingerprint: any.  Memory: about 50 KiB an association until dtls_free.
 *     e = dtls_new(&conf, &d);
 *     dtls_start(d, now, &sink);
 *     dtls_input(d, now, packet, n, &sink);
 *     if (dtls_state(d) >= DTLS_KEYED) e = dtls_keys(d, &keys);
 */
#pragma once
#include "clock.h"
#include "srtp.h"

enum { DTLS_FINGERPRINT = 32, DTLS_FINGERPRINTS = 3, DTLS_MTU = 1200 /**< bytes of a datagram of ours at most */, DTLS_SUITES = 2 };
#define DTLS_DEADLINE (15 * PL_SECOND)

/* A P-256 key with its self-signed certificate, and what all associations have in common. Made ahead: takes milliseconds. */
struct dtls_context;
/* `now` dates the certificate. PL_UNAVAILABLE: OpenSSL lacks what is needed. PL_NO_MEMORY. */
PL_MUST enum pl_err dtls_context_new(struct pl_utc now, struct dtls_context **ret);
/* After its associations. Takes NULL; returns NULL. */
struct dtls_context *dtls_context_free(struct dtls_context *c);
/* SHA-256 of our certificate, DTLS_FINGERPRINT bytes: for the SDP. */
const uint8_t *dtls_fingerprint(const struct dtls_context *c);

enum dtls_role {
    DTLS_ACTIVE, /**< a=setup:active: the ClientHello is ours */
    DTLS_PASSIVE
};
enum dtls_state { DTLS_FAILED, DTLS_HANDSHAKE, DTLS_KEYED, DTLS_FINISHED, DTLS_CLOSED /**< finished, and the peer has said goodbye since */ };
enum dtls_failure {
    DTLS_OK,
    DTLS_WRONG_FINGERPRINT, /**< "dtls_fingerprint": the peer's certificate is none of its SDP, or too weak to mean anything */
    DTLS_NO_PROFILE,        /**< "dtls_no_profile": no SRTP suite in common */
    DTLS_ALERT,             /**< "dtls_alert": the peer gave up and said so */
    DTLS_TIMEOUT,           /**< "dtls_timeout": no answer until DTLS_DEADLINE */
    DTLS_REFUSED,           /**< "dtls_refused": what came is no handshake that we take (version, cipher, a proof that is wrong) */
    DTLS_NO_MEMORY,         /**< "dtls_no_memory" */
    DTLS_FAILURES
};
/* The names above; for DTLS_OK "". */
const char *dtls_failure_code(enum dtls_failure f);

/* Where datagrams for the peer go, at most DTLS_MTU bytes each. Good only during the call. */
struct dtls_sink {
    void (*send)(struct dtls_sink *self, const uint8_t *p, size_t n);
};
struct dtls_conf {
    struct dtls_context *context; /**< stays the caller's */
    enum dtls_role role;
    uint8_t fingerprints[DTLS_FINGERPRINTS][DTLS_FINGERPRINT]; /**< of the peer's certificate, one of these; all zero: none, no certificate has it */
    enum pl_srtp_suite suites[DTLS_SUITES]; /**< that we take, first choice first */
    unsigned suites_n;
};
struct dtls;
/* PL_INVALID_REQUEST: no suite. PL_NO_MEMORY. */
PL_MUST enum pl_err dtls_new(const struct dtls_conf *conf, struct dtls **ret);
/* Wipes and frees; takes NULL; returns NULL. */
struct dtls *dtls_free(struct dtls *d);

/* Once, before all others: the active side writes its ClientHello. */
void dtls_start(struct dtls *d, struct pl_mono now, struct dtls_sink *sink);
/* The path to the peer is there; what was handed out leaves now. Repeating it changes nothing. */
void dtls_path(struct dtls *d, struct pl_mono now);
/* A datagram of the peer. Whatever it is: what cannot be used is dropped, what ends the handshake is dtls_state's business. */
void dtls_input(struct dtls *d, struct pl_mono now, const uint8_t *p, size_t n, struct dtls_sink *sink);
/* Time alone; at dtls_due or later. */
void dtls_tick(struct dtls *d, struct pl_mono now, struct dtls_sink *sink);
/* Microseconds from `now` until dtls_tick is wanted, 0: now; -1: nothing waits. */
int64_t dtls_due(const struct dtls *d, struct pl_mono now);

enum dtls_state dtls_state(const struct dtls *d);
enum dtls_failure dtls_failure(const struct dtls *d);

struct dtls_keys {
    enum pl_srtp_suite suite;
    uint8_t receive_key[PL_SRTP_KEY_MAX]; /**< peer to us: master key || salt */
    uint8_t send_key[PL_SRTP_KEY_MAX];
};
/* From DTLS_KEYED on; the caller wipes. PL_UNAVAILABLE: not yet, or failed. */
PL_MUST enum pl_err dtls_keys(struct dtls *d, struct dtls_keys *ret);
