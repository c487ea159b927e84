/* srtp_gcm.h - AEAD_AES_128_GCM for RTP packets (RFC 7714) on gcm.h, private to srtp.c.
 *
 * Here because it is the packet path: Debian builds libsrtp on NSS, which takes five times as long a packet. RTCP, the other suite and all rules that a caller sees stay in
 * srtp.c. Index and replay window are RFC 3711's: state moves after the tag was right, and a number is encrypted once.
 * Not here: SRTCP, MKI, header encryption.  Threads: one at a time.  Memory: fixed when it is made.
 *     e = srtp_gcm_new(key, receive, &g);
 *     e = srtp_gcm_protect(g, p, head, payload, payload_n, false);
 */
#pragma once
#include "srtp.h"

struct srtp_gcm;
/* `key`: 16 bytes of master key, 12 of salt. `ssrcs_n` 0: any, as srtp.h says. */
PL_MUST enum pl_err srtp_gcm_new(const struct pl_srtp_conf *conf, struct srtp_gcm **ret);
struct srtp_gcm *srtp_gcm_free(struct srtp_gcm *g);
/* Bytes of the header, which is authenticated and not encrypted; 0 when the packet is none. */
size_t srtp_gcm_head(const uint8_t *p, size_t n);
/* The header stands at p; the payload, which may stand behind it already, goes there encrypted, and 16 bytes more. PL_SHORT: `head` is not what srtp_gcm_head says.
 * `again`: only a number that was protected before; the caller promises the same bytes. */
PL_MUST enum pl_err srtp_gcm_protect(struct srtp_gcm *g, uint8_t *p, size_t head, const uint8_t *payload, size_t n, bool again);
PL_MUST enum pl_err srtp_gcm_unprotect(struct srtp_gcm *g, uint8_t *p, size_t *n);
