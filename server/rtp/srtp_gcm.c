#include "srtp_gcm.h"
#include "gcm.h"
#include "rtp.h"
#include "srtp_window.h"
#include <openssl/evp.h>

enum { SALT = GCM_IV };
#define INDEX_END (UINT64_C(1) << 48)

struct stream { /* one SSRC: RFC 3711's cryptographic context */
    uint32_t ssrc;
    struct srtp_window window;
};
struct srtp_gcm {
    struct gcm *gcm;
    bool any;
    uint8_t salt[SALT];
    unsigned streams_n;
    struct stream streams[PL_SRTP_ANY_MAX];
};

/* RFC 3711, 4.3.1 with 4.3.3: AES in counter mode under the master key, from the master salt (padded to 112 bits, RFC 7714 11) and a label. */
static bool derive(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, const uint8_t *master, uint8_t label, uint8_t *out, int n)
{
    static const uint8_t zeros[GCM_KEY];
    uint8_t iv[16] = { 0 };
    int len;
    memcpy(iv, master + GCM_KEY, SALT);
    iv[7] ^= label;
    return EVP_EncryptInit_ex(ctx, cipher, NULL, master, iv) == 1 && EVP_EncryptUpdate(ctx, out, &len, zeros, n) == 1;
}

static enum pl_err set_keys(struct srtp_gcm *g, const struct pl_srtp_conf *conf)
{
    enum { LABEL_KEY = 0, LABEL_SALT = 2 };
    uint8_t key[GCM_KEY];
    EVP_CIPHER_CTX *prf = EVP_CIPHER_CTX_new();
    EVP_CIPHER *ctr = EVP_CIPHER_fetch(NULL, "AES-128-CTR", NULL);
    bool ok = prf && ctr && derive(prf, ctr, conf->key, LABEL_KEY, key, GCM_KEY) && derive(prf, ctr, conf->key, LABEL_SALT, g->salt, SALT);
    enum pl_err e = ok ? gcm_new(gcm_best(), key, conf->receive ? GCM_OPEN : GCM_SEAL, &g->gcm) : PL_NO_MEMORY;
    explicit_bzero(key, sizeof key);
    EVP_CIPHER_CTX_free(prf);
    EVP_CIPHER_free(ctr);
    return e;
}

enum pl_err srtp_gcm_new(const struct pl_srtp_conf *conf, struct srtp_gcm **ret)
{
    struct srtp_gcm *g = pl_heap(sizeof *g);
    if (!g)
        return PL_NO_MEMORY;
    enum pl_err e = set_keys(g, conf);
    if (e != PL_OK) {
        srtp_gcm_free(g);
        return e;
    }
    g->any = conf->ssrcs_n == 0;
    for (unsigned i = 0; i < conf->ssrcs_n; i++)
        g->streams[g->streams_n++].ssrc = conf->ssrcs[i];
    *ret = g;
    return PL_OK;
}

struct srtp_gcm *srtp_gcm_free(struct srtp_gcm *g)
{
    if (g) {
        gcm_free(g->gcm);
        explicit_bzero(g->salt, sizeof g->salt);
    }
    return pl_heap_free(g);
}

/* The stream of this SSRC; one that may come to be is prepared behind the last, and counts only after the packet has proved itself. NULL: it may not. */
static struct stream *find(struct srtp_gcm *g, uint32_t ssrc)
{
    for (unsigned i = 0; i < g->streams_n; i++)
        if (g->streams[i].ssrc == ssrc)
            return &g->streams[i];
    if (!g->any || g->streams_n == PL_SRTP_ANY_MAX)
        return NULL;
    struct stream *s = &g->streams[g->streams_n];
    *s = (struct stream){ .ssrc = ssrc };
    return s;
}

static void take(struct srtp_gcm *g, struct stream *s, uint64_t index)
{
    if (s == &g->streams[g->streams_n])
        g->streams_n++;
    srtp_window_take(&s->window, index);
}

/* RFC 7714, 8.1: 00 00 || SSRC || ROC || SEQ, with the salt over it. */
static void iv_of(const struct srtp_gcm *g, uint32_t ssrc, uint64_t index, uint8_t iv[SALT])
{
    uint64_t low = index; /* ROC and SEQ: the 48 bits of the index */
    for (int i = 11; i >= 6; i--, low >>= 8)
        iv[i] = (uint8_t)low ^ g->salt[i];
    for (int i = 5; i >= 2; i--, ssrc >>= 8)
        iv[i] = (uint8_t)ssrc ^ g->salt[i];
    iv[1] = g->salt[1];
    iv[0] = g->salt[0];
}

size_t srtp_gcm_head(const uint8_t *p, size_t n)
{
    if (n < RTP_HEADER)
        return 0;
    size_t h = RTP_HEADER + (size_t)(p[0] & 15) * 4;
    if (p[0] & 0x10) {
        if (n < h + 4)
            return 0;
        h += 4 + ((size_t)p[h + 2] << 8 | p[h + 3]) * 4;
    }
    return h <= n ? h : 0;
}

enum pl_err srtp_gcm_protect(struct srtp_gcm *g, uint8_t *p, size_t head, const uint8_t *payload, size_t n, bool again)
{
    struct rtp_header h;
    uint8_t iv[SALT];
    if (rtp_peek(p, head, &h) != PL_OK || srtp_gcm_head(p, head) != head)
        return PL_SHORT;
    struct stream *s = find(g, h.ssrc);
    if (!s)
        return PL_AUTH;
    uint64_t index = srtp_window_index(&s->window, h.seq);
    if (again ? !srtp_window_seen(&s->window, index) : !srtp_window_fresh(&s->window, index))
        return PL_REPLAY;
    if (index >= INDEX_END)
        return PL_EXPIRED;
    if (!again)
        take(g, s, index); /* before it is encrypted: whatever happens now, this number is spent */
    iv_of(g, h.ssrc, index, iv);
    return gcm_seal(g->gcm, iv, p, head, payload, p + head, n) ? PL_OK : PL_INTERNAL;
}

enum pl_err srtp_gcm_unprotect(struct srtp_gcm *g, uint8_t *p, size_t *n)
{
    struct rtp_header h;
    uint8_t iv[SALT];
    size_t plain = *n < RTP_HEADER + GCM_TAG ? 0 : *n - GCM_TAG;
    size_t head = rtp_peek(p, plain, &h) == PL_OK ? srtp_gcm_head(p, plain) : 0;
    if (head == 0)
        return PL_SHORT;
    struct stream *s = find(g, h.ssrc);
    if (!s)
        return PL_AUTH;
    uint64_t index = srtp_window_index(&s->window, h.seq);
    if (!srtp_window_fresh(&s->window, index))
        return PL_REPLAY;
    iv_of(g, h.ssrc, index, iv);
    if (!gcm_open(g->gcm, iv, p, head, p + head, plain - head))
        return PL_AUTH;
    take(g, s, index);
    *n = plain;
    return PL_OK;
}
