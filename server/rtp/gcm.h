/* gcm.h - AES-128-GCM (NIST SP 800-38D) with 12 bytes of IV and 16 of tag, one key and one direction an object; private to srtp_gcm.c.
 *
 * Two engines that give the same bytes, which a test compares: Intel's multi-buffer library on x86 with AES and carry-less multiplication, OpenSSL's EVP everywhere
 * else. The first takes a quarter of the second's time for a packet, because a packet is one call there and ten look-ups of parameters by name here.
 * Not here: which IV (srtp_gcm.c). One that is used twice under a key gives both packets away.
 * Threads: an object belongs to one at a time.  Memory: fixed when it is made, wiped when it is freed.
 *     e = gcm_new(gcm_best(), key, GCM_SEAL, &g);
 *     ok = gcm_seal(g, iv, p, head, payload, p + head, n);
 */
#pragma once
#include "err.h"
#include "mem.h"

enum { GCM_KEY = 16, GCM_IV = 12, GCM_TAG = 16 };
enum gcm_engine { GCM_EVP, GCM_MB };
enum gcm_way { GCM_SEAL, GCM_OPEN };

/* The fastest that this CPU has. */
enum gcm_engine gcm_best(void);
struct gcm;
/* PL_NO_MEMORY; PL_UNAVAILABLE: this CPU or build has no such engine. */
PL_MUST enum pl_err gcm_new(enum gcm_engine engine, const uint8_t key[GCM_KEY], enum gcm_way way, struct gcm **ret);
/* Takes NULL; returns NULL. */
struct gcm *gcm_free(struct gcm *g);
/* Encrypts the n bytes at `plain`, which may be p itself, to p and writes the tag behind them. */
PL_MUST bool gcm_seal(struct gcm *g, const uint8_t iv[GCM_IV], const uint8_t *aad, size_t aad_n, const uint8_t *plain, uint8_t *p, size_t n);
/* Decrypts n bytes in place; the tag stands behind them. False: it is not theirs, and what stands there now is worthless. */
PL_MUST bool gcm_open(struct gcm *g, const uint8_t iv[GCM_IV], const uint8_t *aad, size_t aad_n, uint8_t *p, size_t n);

/* gcm_mb.c; elsewhere than on x86 NULL and never called. */
struct gcm_mb;
bool gcm_mb_here(void);
struct gcm_mb *gcm_mb_new(const uint8_t key[GCM_KEY]);
struct gcm_mb *gcm_mb_free(struct gcm_mb *m);
void gcm_mb_seal(struct gcm_mb *m, const uint8_t iv[GCM_IV], const uint8_t *aad, size_t aad_n, const uint8_t *plain, uint8_t *p, size_t n, uint8_t tag[GCM_TAG]);
void gcm_mb_open(struct gcm_mb *m, const uint8_t iv[GCM_IV], const uint8_t *aad, size_t aad_n, uint8_t *p, size_t n, uint8_t tag[GCM_TAG]);
