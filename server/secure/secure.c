#include "secure.h"
#include "secure_pages.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

#define LEAST_MEMORY (UINT64_C(19) << 20)
#define LEAST_PASSES 2

enum pl_err secure_init(void) { return sodium_init() < 0 ? PL_INTERNAL : PL_OK; }

void pl_secret_wipe(struct pl_secret *s) { sodium_memzero(s, sizeof *s); }
void secure_wipe(void *p, size_t n) { sodium_memzero(p, n); }
void secure_random_secret(struct pl_secret *ret) { randombytes_buf(ret->b, sizeof ret->b); }
bool secure_eq(const void *a, size_t an, const void *b, size_t bn) { return an == bn && sodium_memcmp(a, b, an) == 0; }

static const unsigned char *bytes(struct pl_str s) { return (const unsigned char *)(s.p ? s.p : ""); }
static uint64_t at_least(uint64_t v, uint64_t least) { return v > least ? v : least; }

enum pl_err secure_password_hash(struct pl_str password, struct secure_password_policy p, char ret[SECURE_PASSWORD_TEXT])
{
    static_assert(SECURE_PASSWORD_TEXT == crypto_pwhash_STRBYTES, "the text has libsodium's size");
    secure_pages_begin();
    int bad = crypto_pwhash_str(ret, password.p, password.n, at_least(p.passes, LEAST_PASSES), at_least(p.memory_bytes, LEAST_MEMORY));
    secure_pages_end();
    return bad ? PL_NO_MEMORY : PL_OK;
}

enum pl_err secure_password_verify(struct pl_str stored, struct pl_str password, struct secure_password_policy p, bool *ret_rehash)
{
    char text[SECURE_PASSWORD_TEXT] = { 0 };
    if (stored.n >= sizeof text)
        return PL_INTERNAL;
    memcpy(text, stored.p, stored.n);
    errno = 0;
    secure_pages_begin();
    int bad = crypto_pwhash_str_verify(text, password.p, password.n);
    secure_pages_end();
    if (bad)
        return errno == ENOMEM ? PL_NO_MEMORY : PL_INVALID_CREDENTIALS;
    *ret_rehash = crypto_pwhash_str_needs_rehash(text, at_least(p.passes, LEAST_PASSES), at_least(p.memory_bytes, LEAST_MEMORY)) != 0;
    return PL_OK;
}

void secure_token_new(const char *prefix, char ret[SECURE_TOKEN_TEXT])
{
    uint8_t raw[32];
    char text[sodium_base64_ENCODED_LEN(32, sodium_base64_VARIANT_URLSAFE_NO_PADDING)];
    randombytes_buf(raw, sizeof raw);
    sodium_bin2base64(text, sizeof text, raw, sizeof raw, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    snprintf(ret, SECURE_TOKEN_TEXT, "%s_%s", prefix, text);
    sodium_memzero(raw, sizeof raw);
    sodium_memzero(text, sizeof text);
}

enum pl_err secure_token_hash(struct pl_str token, const char *prefix, uint8_t ret[32])
{
    uint8_t raw[32];
    struct pl_str want = pl_str_of(prefix);
    if (token.n != want.n + 44 || !pl_str_starts(token, want) || token.p[want.n] != '_' ||
        pl_unb64url((struct pl_str){ token.p + want.n + 1, 43 }, raw, sizeof raw) != PL_OK)
        return PL_UNAUTHENTICATED;
    crypto_hash_sha256(ret, raw, sizeof raw);
    sodium_memzero(raw, sizeof raw);
    return PL_OK;
}

void secure_sha256(struct pl_str data, uint8_t ret[32]) { crypto_hash_sha256(ret, bytes(data), data.n); }

void secure_hmac_sha256(const struct pl_secret *key, struct pl_str data, uint8_t ret[32])
{
    crypto_auth_hmacsha256(ret, bytes(data), data.n, key->b);
}

void secure_derive(const struct pl_secret *master, const char *label, struct pl_secret *ret)
{
    crypto_generichash(ret->b, sizeof ret->b, (const unsigned char *)label, strlen(label), master->b, sizeof master->b);
}

void secure_keypair_new(struct secure_keypair *ret) { crypto_sign_keypair(ret->public_key, ret->secret_key); }
void secure_keypair_from_seed(const uint8_t seed[32], struct secure_keypair *ret) { crypto_sign_seed_keypair(ret->public_key, ret->secret_key, seed); }
void secure_keypair_wipe(struct secure_keypair *k) { sodium_memzero(k, sizeof *k); }

void secure_sign(const struct secure_keypair *k, struct pl_str message, uint8_t ret_sig[64])
{
    crypto_sign_detached(ret_sig, NULL, bytes(message), message.n, k->secret_key);
}

enum pl_err secure_verify(const uint8_t public_key[32], struct pl_str message, const uint8_t sig[64])
{
    return crypto_sign_verify_detached(sig, bytes(message), message.n, public_key) == 0 ? PL_OK : PL_AUTH;
}

enum pl_err secure_seal(const struct pl_secret *key, struct pl_str context, struct pl_str plain, struct pl_arena *a, struct pl_str *ret)
{
    static_assert(SECURE_SEAL_OVERHEAD == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES + crypto_aead_xchacha20poly1305_ietf_ABYTES, "nonce and tag");
    const size_t nonce = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
    unsigned char *out = pl_alloc(a, plain.n + SECURE_SEAL_OVERHEAD);
    if (!out)
        return PL_NO_MEMORY;
    randombytes_buf(out, nonce);
    crypto_aead_xchacha20poly1305_ietf_encrypt(out + nonce, NULL, bytes(plain), plain.n, bytes(context), context.n, NULL, out, key->b);
    *ret = (struct pl_str){ (const char *)out, plain.n + SECURE_SEAL_OVERHEAD };
    return PL_OK;
}

enum pl_err secure_open(const struct pl_secret *key, struct pl_str context, struct pl_str sealed, struct pl_arena *a, struct pl_str *ret)
{
    const size_t nonce = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
    if (sealed.n < SECURE_SEAL_OVERHEAD)
        return PL_AUTH;
    unsigned char *out = pl_alloc(a, sealed.n - SECURE_SEAL_OVERHEAD + 1);
    if (!out)
        return PL_NO_MEMORY;
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(out, NULL, NULL, bytes(sealed) + nonce, sealed.n - nonce, bytes(context), context.n, bytes(sealed), key->b) != 0)
        return PL_AUTH;
    *ret = (struct pl_str){ (const char *)out, sealed.n - SECURE_SEAL_OVERHEAD };
    return PL_OK;
}

void secure_box_keys_new(struct secure_box_keys *ret) { crypto_box_keypair(ret->public_key, ret->secret_key); }

enum pl_err secure_box_open(const struct secure_box_keys *own, const uint8_t peer[32], struct pl_str box, struct pl_arena *a, struct pl_str *ret)
{
    static_assert(SECURE_BOX_OVERHEAD == crypto_box_NONCEBYTES + crypto_box_MACBYTES, "nonce and tag");
    const size_t nonce = crypto_box_NONCEBYTES;
    if (box.n < SECURE_BOX_OVERHEAD)
        return PL_AUTH;
    unsigned char *out = pl_alloc(a, box.n - SECURE_BOX_OVERHEAD + 1);
    if (!out)
        return PL_NO_MEMORY;
    if (crypto_box_open_easy(out, bytes(box) + nonce, box.n - nonce, bytes(box), peer, own->secret_key) != 0)
        return PL_AUTH;
    *ret = (struct pl_str){ (const char *)out, box.n - SECURE_BOX_OVERHEAD };
    return PL_OK;
}

enum pl_err secure_box_make(const struct secure_box_keys *own, const uint8_t peer[32], struct pl_str plain, struct pl_arena *a, struct pl_str *ret)
{
    unsigned char *out = pl_alloc(a, plain.n + SECURE_BOX_OVERHEAD);
    if (!out)
        return PL_NO_MEMORY;
    randombytes_buf(out, crypto_box_NONCEBYTES);
    if (crypto_box_easy(out + crypto_box_NONCEBYTES, bytes(plain), plain.n, out, peer, own->secret_key) != 0)
        return PL_AUTH;
    *ret = (struct pl_str){ (const char *)out, plain.n + SECURE_BOX_OVERHEAD };
    return PL_OK;
}

static enum pl_err key_create(const char *path, struct pl_fail *reterr)
{
    struct pl_secret key PL_CLEANUP(pl_secret_wipe) = { { 0 } };
    char hex[65];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EEXIST ? PL_OK : pl_fail(reterr, PL_IO, "the key file %s cannot be created: %m", path);
    secure_random_secret(&key);
    sodium_bin2hex(hex, sizeof hex, key.b, sizeof key.b);
    bool whole = write(fd, hex, 64) == 64 && fsync(fd) == 0;
    close(fd);
    sodium_memzero(hex, sizeof hex);
    if (whole)
        return PL_OK;
    unlink(path);
    return pl_fail(reterr, PL_IO, "the key file %s cannot be written", path);
}

enum pl_err secure_key_file(const char *path, bool create, struct pl_secret *ret, struct pl_fail *reterr)
{
    char hex[64];
    enum pl_err e;
    if (create && access(path, F_OK) != 0 && (e = key_create(path, reterr)) != PL_OK)
        return e;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return pl_fail(reterr, PL_IO, "the key file %s cannot be opened: %m", path);
    ssize_t n = read(fd, hex, sizeof hex);
    close(fd);
    e = n == 64 ? pl_unhex((struct pl_str){ hex, 64 }, ret->b, sizeof ret->b) : PL_INVALID_REQUEST;
    sodium_memzero(hex, sizeof hex);
    return e == PL_OK ? PL_OK : pl_fail(reterr, e, "the key file %s does not hold 64 hex digits", path);
}

enum pl_err secure_hello_text(struct pl_arena *a, const char *role, struct pl_str serial, struct pl_str nonce, struct pl_str server_name, struct pl_str *ret)
{
    *ret = pl_fmt(a, "porchlight-hello-v1\n%s\n%.*s\n%.*s\n%.*s", role, PL_FMT(serial), PL_FMT(nonce), PL_FMT(server_name));
    return ret->p ? PL_OK : PL_NO_MEMORY;
}

enum pl_err secure_claim_text(struct pl_arena *a, struct pl_str serial, struct pl_str claim_challenge, struct pl_str *ret)
{
    *ret = pl_fmt(a, "porchlight-claim-v1\n%.*s\n%.*s", PL_FMT(serial), PL_FMT(claim_challenge));
    return ret->p ? PL_OK : PL_NO_MEMORY;
}

enum pl_err secure_onboarding_text(struct pl_arena *a, struct pl_str serial, struct pl_str claim_id, struct pl_str challenge, struct pl_str app_key,
                                   struct pl_str device_key, struct pl_str *ret)
{
    *ret = pl_fmt(a, "porchlight-onboarding-v1\n%.*s\n%.*s\n%.*s\n%.*s\n%.*s", PL_FMT(serial), PL_FMT(claim_id), PL_FMT(challenge), PL_FMT(app_key), PL_FMT(device_key));
    return ret->p ? PL_OK : PL_NO_MEMORY;
}
