/* stun.h - STUN binding messages (RFC 8489) with ICE's attributes (RFC 8445), as wire code without a socket or a clock.
 *
 * S-M1: reading a message takes no memory, and nothing is worth an answer before stun_verify has said PL_OK. (Hence our own wire code: the library that the
 * rest of the tree could have used makes an object for every message before integrity is looked at.) A message with a comprehension-required attribute that is
 * not known here, an attribute that repeats, or a FINGERPRINT that is wrong is refused whole.
 * Not here: who may check and what moves then (ice_lite.h), sending checks (ice_check.h).  Threads: any; a stun_mac belongs to one thread at a time.
 *     if (stun_parse(p, n, &msg) == PL_OK && stun_verify(mac, &msg, password) == PL_OK) …
 */
#pragma once
#include "ice_addr.h"

enum { STUN_HEADER = 20, STUN_TID = 12, STUN_USERNAME_MAX = 128, STUN_MAX = 548 /**< longer ones are refused */ };
enum stun_class { STUN_REQUEST = 0, STUN_INDICATION = 1, STUN_SUCCESS = 2, STUN_ERROR = 3 };

struct stun_msg {
    enum stun_class class_;
    const uint8_t *p;         /**< the message */
    size_t n;
    const uint8_t *tid;       /**< STUN_TID bytes */
    struct pl_str username;   /**< .p NULL: none */
    bool use_candidate;
    bool controlling, controlled;
    bool fingerprint;         /**< there, and right */
    uint64_t tie_breaker;
    uint32_t priority;
    struct ice_addr mapped;   /**< XOR-MAPPED-ADDRESS; family 0: none */
    uint16_t error_code;      /**< of an error response */
    size_t integrity_at;      /**< offset of MESSAGE-INTEGRITY, 0: none. What stands behind it is not read, FINGERPRINT apart */
};
/* PL_SHORT, PL_PROTOCOL (not a binding message of ours, see above), PL_AUTH (FINGERPRINT wrong). */
PL_MUST enum pl_err stun_parse(const uint8_t *p, size_t n, struct stun_msg *ret);

/* HMAC-SHA1 by OpenSSL, made once, so that checking a stranger's message takes no memory. */
struct stun_mac;
PL_MUST enum pl_err stun_mac_new(struct stun_mac **ret);
struct stun_mac *stun_mac_free(struct stun_mac *m);
/* Constant time. PL_AUTH when MESSAGE-INTEGRITY is absent or not made with this password. */
PL_MUST enum pl_err stun_verify(struct stun_mac *m, const struct stun_msg *msg, struct pl_str password);

struct stun_request {
    uint8_t tid[STUN_TID];
    struct pl_str username;  /**< "<their ufrag>:<our ufrag>" */
    struct pl_str password;  /**< theirs */
    struct pl_str software;  /**< .p NULL: not said */
    uint32_t priority;
    uint64_t tie_breaker;
    bool controlling, use_candidate;
};
/* A Binding request with USERNAME, PRIORITY, role, MESSAGE-INTEGRITY and FINGERPRINT. PL_SHORT when cap is too small. */
PL_MUST enum pl_err stun_write_request(struct stun_mac *m, const struct stun_request *r, uint8_t *out, size_t cap, size_t *ret_n);
/* A Binding success response with XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY and FINGERPRINT. */
PL_MUST enum pl_err stun_write_success(struct stun_mac *m, const uint8_t tid[STUN_TID], const struct ice_addr *from, struct pl_str password, uint8_t *out, size_t cap,
    size_t *ret_n);
