#include "srtp_gcm.h"
#include "rtp.h"
#include "srtp_window.h"
#include <srtp2/srtp.h>

enum { RTCP_LEAST = 8 };

struct pl_srtp {
    srtp_t ctx;                       /**< RTCP, and RTP of SHA1_80 */
    struct srtp_gcm *gcm;             /**< RTP of GCM */
    struct {
        uint32_t ssrc;
        struct srtp_window window;
    } sent[PL_SRTP_ANY_MAX];          /**< RTP of SHA1_80 that was protected here */
    unsigned sent_n;
    bool receive, any;
    unsigned proved_n;                /**< `any`: SSRCs that have sent a packet that verified */
    uint32_t proved[PL_SRTP_ANY_MAX];
};

static const struct {
    const char *name;
    size_t key, tag;
} suites[] = {
    [PL_SRTP_GCM] = { "AEAD_AES_128_GCM", 28, 16 },
    [PL_SRTP_SHA1_80] = { "AES_CM_128_HMAC_SHA1_80", 30, 10 },
};

size_t pl_srtp_key_bytes(enum pl_srtp_suite suite) { return suites[suite].key; }
size_t pl_srtp_tag_bytes(enum pl_srtp_suite suite) { return suites[suite].tag; }
const char *pl_srtp_suite_name(enum pl_srtp_suite suite) { return suites[suite].name; }

enum pl_err pl_srtp_suite_of(struct pl_str name, enum pl_srtp_suite *ret)
{
    for (size_t i = 0; i < PL_COUNT(suites); i++)
        if (pl_str_eqz(name, suites[i].name)) {
            *ret = (enum pl_srtp_suite)i;
            return PL_OK;
        }
    return PL_UNSUPPORTED_MEDIA;
}

static enum pl_err err_of(srtp_err_status_t s)
{
    switch (s) {
    case srtp_err_status_ok: return PL_OK;
    case srtp_err_status_replay_fail:
    case srtp_err_status_replay_old:
    case srtp_err_status_pkt_idx_old: return PL_REPLAY;
    case srtp_err_status_alloc_fail: return PL_NO_MEMORY;
    case srtp_err_status_parse_err:
    case srtp_err_status_bad_param: return PL_SHORT;
    case srtp_err_status_key_expired: return PL_EXPIRED;
    default: return PL_AUTH;
    }
}

static enum pl_err make(const struct pl_srtp_conf *conf, struct pl_srtp **ret)
{
    if (conf->key_n != pl_srtp_key_bytes(conf->suite) || conf->ssrcs_n > PL_SRTP_SSRCS)
        return PL_INVALID_REQUEST;
    struct pl_srtp *s = pl_heap(sizeof *s);
    if (!s)
        return PL_NO_MEMORY;
    s->receive = conf->receive;
    s->any = conf->ssrcs_n == 0;
    uint8_t key[PL_SRTP_KEY_MAX];
    memcpy(key, conf->key, conf->key_n);
    srtp_policy_t policies[PL_SRTP_SSRCS];
    memset(policies, 0, sizeof policies);
    unsigned n = s->any ? 1 : conf->ssrcs_n;
    for (unsigned i = 0; i < n; i++) {
        srtp_policy_t *p = &policies[i];
        if (conf->suite == PL_SRTP_GCM) {
            srtp_crypto_policy_set_aes_gcm_128_16_auth(&p->rtp);
            srtp_crypto_policy_set_aes_gcm_128_16_auth(&p->rtcp);
        } else {
            srtp_crypto_policy_set_rtp_default(&p->rtp);
            srtp_crypto_policy_set_rtcp_default(&p->rtcp);
        }
        p->ssrc.type = !s->any ? ssrc_specific : s->receive ? ssrc_any_inbound : ssrc_any_outbound;
        p->ssrc.value = s->any ? 0 : conf->ssrcs[i];
        p->key = key;
        p->window_size = SRTP_WINDOW;
        p->allow_repeat_tx = 1; /* what may be sent again is decided here (`sent`) */
        p->next = i + 1 < n ? &policies[i + 1] : NULL;
    }
    srtp_err_status_t st = srtp_create(&s->ctx, policies);
    explicit_bzero(key, sizeof key);
    if (st != srtp_err_status_ok) {
        pl_heap_free(s);
        return st == srtp_err_status_bad_param ? PL_INVALID_REQUEST : PL_NO_MEMORY;
    }
    enum pl_err e = conf->suite == PL_SRTP_GCM ? srtp_gcm_new(conf, &s->gcm) : PL_OK;
    if (e != PL_OK) {
        pl_srtp_free(s);
        return e;
    }
    *ret = s;
    return PL_OK;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool ready;

/* Debian's libsrtp stands on NSS, which it starts with its first context and ends with its last: 60 ms for the first of a process, 1 ms for the first after none, 15 us with others
 * about. So one of each suite stays. */
static void start(void)
{
    static const uint8_t key[PL_SRTP_KEY_MAX];
    static struct pl_srtp *stay[PL_COUNT(suites)];
    ready = srtp_init() == srtp_err_status_ok;
    for (size_t i = 0; ready && i < PL_COUNT(suites); i++) {
        struct pl_srtp_conf c = { .suite = (enum pl_srtp_suite)i, .key = key, .key_n = suites[i].key, .ssrcs = { 1 }, .ssrcs_n = 1 };
        if (make(&c, &stay[i]) != PL_OK)
            stay[i] = NULL; /* it only saves time */
    }
}

enum pl_err pl_srtp_start(void)
{
    pthread_once(&once, start);
    return ready ? PL_OK : PL_UNAVAILABLE;
}

enum pl_err pl_srtp_new(const struct pl_srtp_conf *conf, struct pl_srtp **ret)
{
    enum pl_err e = pl_srtp_start();
    return e == PL_OK ? make(conf, ret) : e;
}

struct pl_srtp *pl_srtp_free(struct pl_srtp *s)
{
    if (s) {
        srtp_gcm_free(s->gcm);
        if (s->ctx)
            srtp_dealloc(s->ctx); /* libsrtp wipes its keys */
    }
    return pl_heap_free(s);
}

/* A context that takes any SSRC gives each new one memory, after it has proved itself; this is the ceiling. */
static bool may_speak(const struct pl_srtp *s, uint32_t ssrc, bool *ret_new)
{
    *ret_new = false;
    if (!s->any)
        return true;
    for (unsigned i = 0; i < s->proved_n; i++)
        if (s->proved[i] == ssrc)
            return true;
    *ret_new = true;
    return s->proved_n < PL_SRTP_ANY_MAX;
}

static uint32_t ssrc_at(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

enum { ODD_MOST = 2048 }; /* larger ones are no packets of media */
typedef srtp_err_status_t (*step)(srtp_t ctx, void *p, int *n);

static enum pl_err run(struct pl_srtp *s, step f, bool receive, uint32_t ssrc, uint8_t *p, size_t *n)
{
    bool fresh;
    if (s->receive != receive || !may_speak(s, ssrc, &fresh))
        return PL_AUTH;
    int len = (int)*n;
    bool odd = (uintptr_t)p % sizeof(uint32_t) != 0; /* libsrtp expects words; of what was received in a row a datagram begins anywhere */
    _Alignas(uint32_t) uint8_t words[ODD_MOST + PL_SRTP_RTCP_OVERHEAD];
    if (odd && *n > ODD_MOST)
        return PL_AUTH;
    if (odd)
        memcpy(words, p, *n);
    enum pl_err e = err_of(f(s->ctx, odd ? words : p, &len));
    if (e != PL_OK)
        return e;
    if (odd)
        memcpy(p, words, (size_t)len);
    if (fresh)
        s->proved[s->proved_n++] = ssrc;
    *n = (size_t)len;
    return PL_OK;
}

enum { RTP_LEAST = 12, LONGEST = 65535 };

/* One window an SSRC; NULL: there is no room for one more. */
static struct srtp_window *sent_window(struct pl_srtp *s, uint32_t ssrc)
{
    for (unsigned i = 0; i < s->sent_n; i++)
        if (s->sent[i].ssrc == ssrc)
            return &s->sent[i].window;
    if (s->sent_n == PL_SRTP_ANY_MAX)
        return NULL;
    s->sent[s->sent_n].ssrc = ssrc;
    return &s->sent[s->sent_n++].window;
}

static enum pl_err room(const struct pl_srtp *s, size_t n, size_t cap)
{
    if (n < RTP_LEAST || n > LONGEST || cap < n + PL_SRTP_RTP_OVERHEAD)
        return PL_SHORT;
    return s->receive ? PL_AUTH : PL_OK;
}

static enum pl_err seal(struct pl_srtp *s, uint8_t *p, size_t *n, const uint8_t *payload, size_t payload_n, bool again)
{
    enum pl_err e = srtp_gcm_protect(s->gcm, p, *n, payload, payload_n, again);
    if (e == PL_OK)
        *n += payload_n + pl_srtp_tag_bytes(PL_SRTP_GCM);
    return e;
}

static enum pl_err protect(struct pl_srtp *s, uint8_t *p, size_t *n, size_t cap, bool again)
{
    struct rtp_header h;
    enum pl_err possible = room(s, *n, cap);
    if (possible != PL_OK)
        return possible;
    if (s->gcm) {
        size_t head = srtp_gcm_head(p, *n), whole = head;
        enum pl_err e = seal(s, p, &whole, p + head, *n - head, again);
        *n = e == PL_OK ? whole : *n;
        return e;
    }
    if (rtp_peek(p, *n, &h) != PL_OK)
        return PL_SHORT;
    struct srtp_window *w = sent_window(s, h.ssrc);
    if (!w)
        return PL_AUTH;
    uint64_t index = srtp_window_index(w, h.seq);
    if (again ? !srtp_window_seen(w, index) : !srtp_window_fresh(w, index))
        return PL_REPLAY;
    enum pl_err e = run(s, srtp_protect, false, h.ssrc, p, n);
    if (e == PL_OK && !again)
        srtp_window_take(w, index);
    return e;
}

enum pl_err pl_srtp_protect_rtp(struct pl_srtp *s, uint8_t *p, size_t *n, size_t cap) { return protect(s, p, n, cap, /* again= */ false); }
enum pl_err pl_srtp_protect_rtp_from(struct pl_srtp *s, uint8_t *p, size_t *n, const uint8_t *payload, size_t payload_n, size_t cap)
{
    size_t whole = *n + payload_n;
    enum pl_err e = payload_n > LONGEST ? PL_SHORT : room(s, whole, cap);
    if (e != PL_OK || s->gcm)
        return e == PL_OK ? seal(s, p, n, payload, payload_n, /* again= */ false) : e;
    memcpy(p + *n, payload, payload_n);
    e = protect(s, p, &whole, cap, /* again= */ false);
    *n = e == PL_OK ? whole : *n;
    return e;
}

enum pl_err pl_srtp_protect_rtp_again(struct pl_srtp *s, uint8_t *p, size_t *n, size_t cap) { return protect(s, p, n, cap, /* again= */ true); }

enum pl_err pl_srtp_protect_rtcp(struct pl_srtp *s, uint8_t *p, size_t *n, size_t cap)
{
    if (*n < RTCP_LEAST || *n > LONGEST || cap < *n + PL_SRTP_RTCP_OVERHEAD)
        return PL_SHORT;
    return run(s, srtp_protect_rtcp, false, ssrc_at(p + 4), p, n);
}

enum pl_err pl_srtp_unprotect_rtp(struct pl_srtp *s, uint8_t *p, size_t *n)
{
    if (*n < RTP_LEAST || *n > LONGEST)
        return PL_SHORT;
    if (s->gcm)
        return s->receive ? srtp_gcm_unprotect(s->gcm, p, n) : PL_AUTH;
    return run(s, srtp_unprotect, true, ssrc_at(p + 8), p, n);
}

enum pl_err pl_srtp_unprotect_rtcp(struct pl_srtp *s, uint8_t *p, size_t *n)
{
    if (*n < RTCP_LEAST || *n > LONGEST)
        return PL_SHORT;
    return run(s, srtp_unprotect_rtcp, true, ssrc_at(p + 4), p, n);
}
