#include "ice_check.h"

enum { OPEN = 4 };
#define FIRST_RETRY (100 * PL_MS)
#define SLOWEST_RETRY PL_SECOND
#define CONSENT (2 * PL_SECOND)
#define CONSENT_RETRY (500 * PL_MS)

struct ice_check {
    struct ice_cred cred;
    struct pl_rand *rand;
    struct stun_mac *mac;
    uint64_t tie_breaker;
    bool connected;
    bool waiting;            /**< the newest transaction has no answer yet */
    unsigned sent;           /**< times the newest transaction went out */
    int64_t retry_us;
    struct pl_mono due, last_answer;
    struct {
        uint8_t tid[STUN_TID];
        struct pl_mono at;   /**< first sending */
        bool resent, used;
    } open[OPEN];            /**< late answers count too: these transactions are ours */
    unsigned newest;
    int64_t rtt_us;
    struct ice_addr mapped;
};

enum pl_err ice_check_new(const struct ice_cred *cred, struct pl_rand *rand, struct pl_mono now, struct ice_check **ret)
{
    struct ice_check *c = pl_heap(sizeof *c);
    if (!c)
        return PL_NO_MEMORY;
    enum pl_err e = stun_mac_new(&c->mac);
    if (e != PL_OK) {
        pl_heap_free(c);
        return e;
    }
    c->cred = *cred;
    c->rand = rand;
    pl_rand_fill(rand, &c->tie_breaker, sizeof c->tie_breaker);
    c->rtt_us = -1;
    c->last_answer = now;
    ice_check_restart(c, now);
    *ret = c;
    return PL_OK;
}

struct ice_check *ice_check_free(struct ice_check *c)
{
    if (c) {
        stun_mac_free(c->mac);
        explicit_bzero(&c->cred, sizeof c->cred);
    }
    return pl_heap_free(c);
}

void ice_check_restart(struct ice_check *c, struct pl_mono now)
{
    c->waiting = false;
    c->due = now;
    c->retry_us = FIRST_RETRY;
}

static void new_transaction(struct ice_check *c, struct pl_mono now)
{
    c->newest = (c->newest + 1) % OPEN;
    pl_rand_fill(c->rand, c->open[c->newest].tid, STUN_TID);
    c->open[c->newest].at = now;
    c->open[c->newest].resent = false;
    c->open[c->newest].used = true;
    c->waiting = true;
    c->sent = 0;
}

enum pl_err ice_check_poll(struct ice_check *c, struct pl_mono now, uint8_t *out, size_t cap, size_t *ret_n)
{
    if (pl_mono_cmp(now, c->due) < 0) {
        *ret_n = 0;
        return PL_OK;
    }
    /* A connected side starts a fresh transaction for every consent round; while waiting it repeats the same one, so that the peer sees one check. */
    if (!c->waiting || pl_mono_sub(now, c->open[c->newest].at) >= CONSENT)
        new_transaction(c, now);
    else
        c->open[c->newest].resent = true;
    char name[2 * ICE_UFRAG_MAX + 2];
    struct pl_buf b = pl_buf_fixed(name, sizeof name);
    pl_buf_z(&b, c->cred.ufrag);
    pl_buf_u8(&b, ':');
    pl_buf_z(&b, c->cred.peer_ufrag);
    struct stun_request r = {
        .username = pl_buf_view(&b), .password = pl_str_of(c->cred.pwd), .priority = 0x6e7f1eff, /* RFC 8445 5.1.2: prflx, local preference 32542, component 1 */
        .tie_breaker = c->tie_breaker, .controlling = true, .use_candidate = true };
    memcpy(r.tid, c->open[c->newest].tid, STUN_TID);
    enum pl_err e = stun_write_request(c->mac, &r, out, cap, ret_n);
    if (e != PL_OK)
        return e;
    c->sent++;
    c->due = pl_mono_add(now, c->retry_us);
    c->retry_us = c->connected ? CONSENT_RETRY : c->retry_us * 2 > SLOWEST_RETRY ? SLOWEST_RETRY : c->retry_us * 2;
    return PL_OK;
}

struct pl_mono ice_check_due(const struct ice_check *c) { return c->due; }

enum pl_err ice_check_input(struct ice_check *c, struct pl_mono now, const uint8_t *p, size_t n)
{
    struct stun_msg m;
    enum pl_err e = stun_parse(p, n, &m);
    if (e != PL_OK)
        return e;
    if (m.class_ != STUN_SUCCESS)
        return PL_PROTOCOL;
    unsigned i = 0;
    while (i < OPEN && !(c->open[i].used && memcmp(c->open[i].tid, m.tid, STUN_TID) == 0))
        i++;
    if (i == OPEN)
        return PL_REPLAY;
    e = stun_verify(c->mac, &m, pl_str_of(c->cred.pwd));
    if (e != PL_OK)
        return e;
    c->open[i].used = false;
    c->last_answer = now;
    c->connected = true;
    c->mapped = m.mapped;
    if (!c->open[i].resent)
        c->rtt_us = pl_mono_sub(now, c->open[i].at);
    if (i == c->newest) {
        c->waiting = false;
        c->due = pl_mono_add(c->open[i].at, CONSENT);
        c->retry_us = CONSENT_RETRY;
    }
    return PL_OK;
}

bool ice_check_connected(const struct ice_check *c) { return c->connected; }
struct pl_mono ice_check_last_answer(const struct ice_check *c) { return c->last_answer; }
int64_t ice_check_rtt_us(const struct ice_check *c) { return c->rtt_us; }
struct ice_addr ice_check_mapped(const struct ice_check *c) { return c->mapped; }
