/* The engine of Intel's multi-buffer library. Of its manager only the table of functions is used: nothing is queued there, so threads may share it. */
#include "gcm.h"
#include <string.h>

#ifdef __x86_64__
#include <intel-ipsec-mb.h>

enum { ALIGN = 64 }; /* the library loads its keys in whole cache lines; its header says so to its own compiler only */
struct gcm_mb {
    struct gcm_key_data *key; /* in `room` */
    uint8_t room[sizeof(struct gcm_key_data) + 2 * ALIGN];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct IMB_MGR *table; /* NULL: not on this CPU. Lives as long as the process */

static void start(void)
{
    const uint64_t needed = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ;
    IMB_ARCH arch;
    struct IMB_MGR *m = alloc_mb_mgr(0);
    if (!m)
        return;
    init_mb_mgr_auto(m, &arch);
    if (imb_get_errno(m) == 0 && arch != IMB_ARCH_NONE && arch != IMB_ARCH_NOAESNI && (m->features & needed) == needed)
        table = m;
    else
        free_mb_mgr(m);
}

bool gcm_mb_here(void)
{
    pthread_once(&once, start);
    return table != NULL;
}

struct gcm_mb *gcm_mb_new(const uint8_t key[GCM_KEY])
{
    struct gcm_mb *m = pl_heap(sizeof *m);
    if (!m)
        return NULL;
    m->key = (struct gcm_key_data *)(void *)(m->room + (ALIGN - (uintptr_t)m->room % ALIGN) % ALIGN);
    IMB_AES128_GCM_PRE(table, key, m->key);
    return m;
}

struct gcm_mb *gcm_mb_free(struct gcm_mb *m)
{
    if (m)
        explicit_bzero(m->room, sizeof m->room);
    return pl_heap_free(m);
}

void gcm_mb_seal(struct gcm_mb *m, const uint8_t iv[GCM_IV], const uint8_t *aad, size_t aad_n, const uint8_t *plain, uint8_t *p, size_t n, uint8_t tag[GCM_TAG])
{
    struct gcm_context_data state;
    IMB_AES128_GCM_ENC(table, m->key, &state, p, plain, n, iv, aad, aad_n, tag, GCM_TAG);
}

void gcm_mb_open(struct gcm_mb *m, const uint8_t iv[GCM_IV], const uint8_t *aad, size_t aad_n, uint8_t *p, size_t n, uint8_t tag[GCM_TAG])
{
    struct gcm_context_data state;
    IMB_AES128_GCM_DEC(table, m->key, &state, p, p, n, iv, aad, aad_n, tag, GCM_TAG);
}
#else
bool gcm_mb_here(void) { return false; }
struct gcm_mb *gcm_mb_new(const uint8_t key[GCM_KEY]) { return (void)key, NULL; }
struct gcm_mb *gcm_mb_free(struct gcm_mb *m) { return m; }
void gcm_mb_seal(struct gcm_mb *m, const uint8_t iv[GCM_IV], const uint8_t *aad, size_t aad_n, const uint8_t *plain, uint8_t *p, size_t n, uint8_t tag[GCM_TAG])
{
    (void)m, (void)iv, (void)aad, (void)aad_n, (void)plain, (void)p, (void)n, (void)tag;
}
void gcm_mb_open(struct gcm_mb *m, const uint8_t iv[GCM_IV], const uint8_t *aad, size_t aad_n, uint8_t *p, size_t n, uint8_t tag[GCM_TAG])
{
    (void)m, (void)iv, (void)aad, (void)aad_n, (void)p, (void)n, (void)tag;
}
#endif
