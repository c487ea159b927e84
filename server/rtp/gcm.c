#include "gcm.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>

struct gcm {
    struct gcm_mb *mb;   /**< NULL: EVP */
    EVP_CIPHER_CTX *evp; /**< keyed once; a packet sets only the IV */
};

enum gcm_engine gcm_best(void) { return gcm_mb_here() ? GCM_MB : GCM_EVP; }

static bool evp_init(struct gcm *g, const uint8_t key[GCM_KEY], enum gcm_way way)
{
    EVP_CIPHER *gcm = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    g->evp = EVP_CIPHER_CTX_new();
    bool ok = gcm && g->evp && EVP_CipherInit_ex(g->evp, gcm, NULL, key, NULL, way == GCM_SEAL) == 1;
    EVP_CIPHER_free(gcm); /* the context holds its own reference */
    return ok;
}

enum pl_err gcm_new(enum gcm_engine engine, const uint8_t key[GCM_KEY], enum gcm_way way, struct gcm **ret)
{
    if (engine == GCM_MB && !gcm_mb_here())
        return PL_UNAVAILABLE;
    struct gcm *g = pl_heap(sizeof *g);
    if (!g)
        return PL_NO_MEMORY;
    bool ok = engine == GCM_MB ? (g->mb = gcm_mb_new(key)) != NULL : evp_init(g, key, way);
    if (!ok) {
        gcm_free(g);
        return PL_NO_MEMORY;
    }
    *ret = g;
    return PL_OK;
}

struct gcm *gcm_free(struct gcm *g)
{
    if (g) {
        gcm_mb_free(g->mb);
        EVP_CIPHER_CTX_free(g->evp); /* OpenSSL wipes its keys */
    }
    return pl_heap_free(g);
}

bool gcm_seal(struct gcm *g, const uint8_t iv[GCM_IV], const uint8_t *aad, size_t aad_n, const uint8_t *plain, uint8_t *p, size_t n)
{
    int len;
    if (g->mb) {
        gcm_mb_seal(g->mb, iv, aad, aad_n, plain, p, n, p + n);
        return true;
    }
    return EVP_EncryptInit_ex(g->evp, NULL, NULL, NULL, iv) == 1 && EVP_EncryptUpdate(g->evp, NULL, &len, aad, (int)aad_n) == 1 &&
        (n == 0 || EVP_EncryptUpdate(g->evp, p, &len, plain, (int)n) == 1) && EVP_EncryptFinal_ex(g->evp, p + n, &len) == 1 &&
        EVP_CIPHER_CTX_ctrl(g->evp, EVP_CTRL_GCM_GET_TAG, GCM_TAG, p + n) == 1;
}

bool gcm_open(struct gcm *g, const uint8_t iv[GCM_IV], const uint8_t *aad, size_t aad_n, uint8_t *p, size_t n)
{
    int len;
    if (g->mb) {
        uint8_t tag[GCM_TAG];
        gcm_mb_open(g->mb, iv, aad, aad_n, p, n, tag);
        return CRYPTO_memcmp(tag, p + n, GCM_TAG) == 0;
    }
    return EVP_DecryptInit_ex(g->evp, NULL, NULL, NULL, iv) == 1 && EVP_DecryptUpdate(g->evp, NULL, &len, aad, (int)aad_n) == 1 &&
        (n == 0 || EVP_DecryptUpdate(g->evp, p, &len, p, (int)n) == 1) && EVP_CIPHER_CTX_ctrl(g->evp, EVP_CTRL_GCM_SET_TAG, GCM_TAG, p + n) == 1 &&
        EVP_DecryptFinal_ex(g->evp, p + n, &len) == 1;
}
