/* srtp.h - SRTP and SRTCP (RFC 3711, RFC 7714): one context a direction and key, protect or unprotect in place. libsrtp
 * stays behind this door; AES-GCM of RTP packets runs on gcm.h instead (srtp_gcm.h says why).
 *
 * Verify, then change state (S-M2): a packet whose tag is wrong, or that was seen before, moves nothing. A packet index is encrypted at most once under a key
 * (S-M6): protecting the same number again is PL_REPLAY, except through
 * pl_srtp_protect_rtp_again, whose caller says that the bytes are the same. Keys belong to one `live.start` generation; whoever restarts gets fresh ones.
 * A context is bound to the SSRCs that it is told; told none, it takes any, but no more than PL_SRTP_ANY_MAX that have proved themselves: a peer cannot make it grow.
 * Not here: where keys come from (live/), AES_CM_128_HMAC_SHA1_32 (refused).  Threads: a context belongs to one thread at a time; pl_srtp_new and _free: any.
 *     struct pl_srtp_conf c = { .suite = PL_SRTP_GCM, .receive = true, .key = key, .key_n = pl_srtp_key_bytes(PL_SRTP_GCM), .ssrcs = { 7 }, .ssrcs_n = 1 };
 *     e = pl_srtp_new(&c, &in);
 *     e = pl_srtp_unprotect_rtp(in, packet, &n);
 */
#pragma once
#include "str.h"

enum pl_srtp_suite {
    PL_SRTP_GCM,    /**< AEAD_AES_128_GCM: key 16 + salt 12, 16 bytes of tag; first choice */
    PL_SRTP_SHA1_80 /**< AES_CM_128_HMAC_SHA1_80: key 16 + salt 14, 10 bytes of tag */
};
enum {
    PL_SRTP_KEY_MAX = 30,     /**< bytes of master key and salt, either suite */
    PL_SRTP_RTP_OVERHEAD = 16, /**< protecting makes an RTP packet at most this much longer */
    PL_SRTP_RTCP_OVERHEAD = 20,
    PL_SRTP_ANY_MAX = 8,
    PL_SRTP_SSRCS = 4
};

/* Bytes of master key || salt. */
size_t pl_srtp_key_bytes(enum pl_srtp_suite suite);
/* Bytes by which an RTP packet grows. */
size_t pl_srtp_tag_bytes(enum pl_srtp_suite suite);
/* "AEAD_AES_128_GCM" or "AES_CM_128_HMAC_SHA1_80". */
const char *pl_srtp_suite_name(enum pl_srtp_suite suite);
/* PL_UNSUPPORTED_MEDIA for every other name. */
PL_MUST enum pl_err pl_srtp_suite_of(struct pl_str name, enum pl_srtp_suite *ret);

/* Starts the libraries behind this door, which test themselves first: a tenth of a second, and more on a busy machine. Without it the first context of the process pays
 * for it, on the thread that carries everybody's packets: programs call it before they answer anybody. Any number of times. PL_UNAVAILABLE. */
PL_MUST enum pl_err pl_srtp_start(void);

struct pl_srtp;
struct pl_srtp_conf {
    enum pl_srtp_suite suite;
    bool receive;                   /**< unprotects; else protects */
    const uint8_t *key;             /**< master key || salt; copied, the caller wipes its own */
    size_t key_n;                   /**< must be pl_srtp_key_bytes(suite), else PL_INVALID_REQUEST */
    uint32_t ssrcs[PL_SRTP_SSRCS];  /**< the SSRCs of this context */
    unsigned ssrcs_n;               /**< 0: any, up to PL_SRTP_ANY_MAX */
};
/* All memory that known SSRCs need is taken here. PL_NO_MEMORY, PL_INVALID_REQUEST. */
PL_MUST enum pl_err pl_srtp_new(const struct pl_srtp_conf *conf, struct pl_srtp **ret);
/* Wipes and frees; takes NULL; returns NULL. */
struct pl_srtp *pl_srtp_free(struct pl_srtp *s);

/* Encrypts in place; *n grows. `cap` is the room at p: at least *n + PL_SRTP_RTP_OVERHEAD (RTCP: PL_SRTP_RTCP_OVERHEAD), else PL_SHORT, nothing done.
 * PL_REPLAY: this number was protected before, or is too old. PL_AUTH: not a packet of this context. */
PL_MUST enum pl_err pl_srtp_protect_rtp(struct pl_srtp *s, uint8_t *p, size_t *n, size_t cap);
/* The same of a packet whose header, *n bytes, stands at p and whose payload stands elsewhere: one copy less. *n becomes the whole packet. `cap`: room for all of it, as above. */
PL_MUST enum pl_err pl_srtp_protect_rtp_from(struct pl_srtp *s, uint8_t *p, size_t *n, const uint8_t *payload, size_t payload_n, size_t cap);
/* A packet that is sent a second time, byte for byte as it was before it was encrypted: the result is the same too. PL_REPLAY: this number was not protected
 * before, or is older than the window of 1,024 packets. Other bytes under a number of before would give the key away: only for a caller who keeps what it sent. */
PL_MUST enum pl_err pl_srtp_protect_rtp_again(struct pl_srtp *s, uint8_t *p, size_t *n, size_t cap);
PL_MUST enum pl_err pl_srtp_protect_rtcp(struct pl_srtp *s, uint8_t *p, size_t *n, size_t cap);
/* Decrypts in place; *n shrinks to the plain packet. PL_AUTH: the tag is wrong or the SSRC is none of this context's. PL_REPLAY: seen before or older than the
 * window of 1,024 packets. PL_SHORT: too short to be one. After a failure the bytes at p are worthless. */
PL_MUST enum pl_err pl_srtp_unprotect_rtp(struct pl_srtp *s, uint8_t *p, size_t *n);
PL_MUST enum pl_err pl_srtp_unprotect_rtcp(struct pl_srtp *s, uint8_t *p, size_t *n);
