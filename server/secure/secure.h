/* secure.h - all of libsodium: password hashes, tokens, signatures, sealed boxes, keyed hashes, constant-time compare.
 *
 * No other room includes sodium.h. Secrets have a type (`struct pl_secret`), are wiped when their scope ends and can be printed by no format.
 * Not here: SRTP and DTLS (rtp/, dtls/), what a PIN or token means (pin/, account/).
 * Threads: any, once secure_init has returned.  Memory: outputs of known size are the caller's, others live in the arena given.
 *     struct pl_secret key PL_CLEANUP(pl_secret_wipe) = { 0 };
 *     e = secure_random_secret(&key);
 */
#pragma once
#include "rand.h"

/* Starts libsodium. Once, before anything else here. */
PL_MUST enum pl_err secure_init(void);

struct pl_secret { uint8_t b[32]; };
void pl_secret_wipe(struct pl_secret *s);
void secure_wipe(void *p, size_t n);
void secure_random_secret(struct pl_secret *ret);
/* Constant time in the contents. Different lengths are unequal. */
bool secure_eq(const void *a, size_t an, const void *b, size_t bn);

/* S-A3: argon2id, at least 19 MiB and t=2; the parameters stand in the string. Takes about 12 ms of CPU: only from rows of http that are heavy. */
#define SECURE_PASSWORD_TEXT 128
struct secure_password_policy {
    uint64_t memory_bytes; /**< 0: 19 MiB, which is also the least */
    uint64_t passes;       /**< 0: 2, which is also the least */
};
PL_MUST enum pl_err secure_password_hash(struct pl_str password, struct secure_password_policy p, char ret[SECURE_PASSWORD_TEXT]);
/* PL_INVALID_CREDENTIALS when it is another one. *ret_rehash: right, but stored under a weaker policy. */
PL_MUST enum pl_err secure_password_verify(struct pl_str stored, struct pl_str password, struct secure_password_policy p, bool *ret_rehash);

/* S-S1: opaque tokens of 256 bits: `<prefix>_<43 base64url characters>`. Prefixes: plat (access), plrt (refresh), plck (challenge key), plsg (step-up grant),
 * plpr (link of a password reset), plun (link that undoes a change), plwt (a hub's offer by WHIP), plst (a token for a script),
 * plot, plor (access and refresh token of a linked service), ploc (its code), plos (its secret), plin (link of an invitation), plad (an admin's
 * credential), plai (by which one becomes an admin), plls (state of an outside account's linking or log-in), pllk (key of such a log-in). */
#define SECURE_TOKEN_TEXT 56
void secure_token_new(const char *prefix, char ret[SECURE_TOKEN_TEXT]);
/* The SHA-256 that is stored instead of it; PL_UNAUTHENTICATED when it is not of the form with that prefix. */
PL_MUST enum pl_err secure_token_hash(struct pl_str token, const char *prefix, uint8_t ret[32]);

void secure_sha256(struct pl_str data, uint8_t ret[32]);
void secure_hmac_sha256(const struct pl_secret *key, struct pl_str data, uint8_t ret[32]);
/* A key for a purpose from a master key (BLAKE2b, domain-separated by `label`, at most 64 bytes). */
void secure_derive(const struct pl_secret *master, const char *label, struct pl_secret *ret);

/* Ed25519 (RFC 8032), detached. */
struct secure_keypair {
    uint8_t public_key[32];
    uint8_t secret_key[64];
};
void secure_keypair_new(struct secure_keypair *ret);
void secure_keypair_from_seed(const uint8_t seed[32], struct secure_keypair *ret);
void secure_keypair_wipe(struct secure_keypair *k);
void secure_sign(const struct secure_keypair *k, struct pl_str message, uint8_t ret_sig[64]);
/* PL_AUTH when it is not that key's signature. */
PL_MUST enum pl_err secure_verify(const uint8_t public_key[32], struct pl_str message, const uint8_t sig[64]);

/* Secret-key box (XChaCha20-Poly1305, random nonce in front): n + SECURE_SEAL_OVERHEAD bytes. `context` is bound as additional data. */
#define SECURE_SEAL_OVERHEAD 40
PL_MUST enum pl_err secure_seal(const struct pl_secret *key, struct pl_str context, struct pl_str plain, struct pl_arena *a, struct pl_str *ret);
/* PL_AUTH when key, context or bytes are not those that were sealed. */
PL_MUST enum pl_err secure_open(const struct pl_secret *key, struct pl_str context, struct pl_str sealed, struct pl_arena *a, struct pl_str *ret);

/* Public-key box, as libsodium's crypto_box (X25519, XSalsa20-Poly1305): 24 bytes of nonce, then tag and text. Only who holds one of the two secret keys can open
 * or make one. For what passes over a network of strangers in the home (hub/onboarding.h). */
#define SECURE_BOX_OVERHEAD 40
struct secure_box_keys { uint8_t public_key[32], secret_key[32]; };
void secure_box_keys_new(struct secure_box_keys *ret);
/* PL_AUTH when it was not made by the holder of `peer` for these keys, or a bit of it changed. */
PL_MUST enum pl_err secure_box_open(const struct secure_box_keys *own, const uint8_t peer[32], struct pl_str box, struct pl_arena *a, struct pl_str *ret);
PL_MUST enum pl_err secure_box_make(const struct secure_box_keys *own, const uint8_t peer[32], struct pl_str plain, struct pl_arena *a, struct pl_str *ret);

/* The master key of a node: reads 32 bytes of hex from the file; creates it (mode 0600) when `create` and absent. */
PL_MUST enum pl_err secure_key_file(const char *path, bool create, struct pl_secret *ret, struct pl_fail *reterr);

/* The strings that devices and relays sign (domain-separated; api.md, hub protocol). All NUL-free text, joined by '\n'. */
PL_MUST enum pl_err secure_hello_text(struct pl_arena *a, const char *role, struct pl_str serial, struct pl_str nonce, struct pl_str server_name, struct pl_str *ret);
PL_MUST enum pl_err secure_claim_text(struct pl_arena *a, struct pl_str serial, struct pl_str claim_challenge, struct pl_str *ret);
/* What a device signs for the app in the home: that these two box keys belong together, for this claim. Keys and challenge as the text that was sent. */
PL_MUST enum pl_err secure_onboarding_text(struct pl_arena *a, struct pl_str serial, struct pl_str claim_id, struct pl_str challenge, struct pl_str app_key,
                                           struct pl_str device_key, struct pl_str *ret);
