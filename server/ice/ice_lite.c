#include "ice_lite.h"

static bool ice_chars(struct pl_str s, size_t least, size_t most)
{
    if (s.n < least || s.n > most)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '+' || c == '/'))
            return false;
    }
    return true;
}

enum pl_err ice_cred_set(struct ice_cred *ret, struct pl_str ufrag, struct pl_str pwd, struct pl_str peer_ufrag)
{
    if (!ice_chars(ufrag, 4, ICE_UFRAG_MAX) || !ice_chars(pwd, 22, ICE_PWD_MAX) || !ice_chars(peer_ufrag, 4, ICE_UFRAG_MAX))
        return PL_INVALID_REQUEST;
    struct ice_cred c = { { 0 }, { 0 }, { 0 } };
    memcpy(c.ufrag, ufrag.p, ufrag.n);
    memcpy(c.pwd, pwd.p, pwd.n);
    memcpy(c.peer_ufrag, peer_ufrag.p, peer_ufrag.n);
    *ret = c;
    explicit_bzero(&c, sizeof c);
    return PL_OK;
}

bool ice_lite_ufrag(const struct stun_msg *msg, struct pl_str *ret)
{
    if (msg->class_ != STUN_REQUEST || !msg->username.p || !msg->fingerprint || msg->integrity_at == 0)
        return false;
    struct pl_str rest;
    struct pl_str ours = pl_str_split(msg->username, ':', &rest);
    if (ours.n == msg->username.n)
        return false;
    *ret = ours;
    return true;
}

enum { FROM_BITS = 8 };

static uint32_t mix(const void *p, size_t n)
{
    const uint8_t *b = p;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)(h >> 32 ^ h);
}

/* No secret is mixed in: only proved transactions come here, and who has proved one chooses among its own. */
static uint32_t tag_of(const struct stun_msg *msg, const struct ice_addr *from)
{
    uint32_t tid = mix(msg->tid, STUN_TID) >> FROM_BITS;
    return (tid ? tid : 1) << FROM_BITS | mix(from, sizeof *from) >> (32 - FROM_BITS);
}

/* Under which tag this transaction was seen before; 0: it is new. */
static uint32_t find(const struct ice_seen *seen, uint32_t tag)
{
    for (unsigned i = 0; i < ICE_SEEN; i++)
        if ((seen->tags[i] ^ tag) >> FROM_BITS == 0)
            return seen->tags[i];
    return 0;
}

enum pl_err ice_lite_check(struct stun_mac *mac, const struct ice_cred *cred, struct ice_seen *seen, const struct stun_msg *msg, const struct ice_addr *from,
    uint8_t *out, size_t cap, struct ice_lite_result *ret)
{
    struct pl_str theirs, pwd = pl_str_of(cred->pwd);
    struct pl_str ours = pl_str_split(msg->username, ':', &theirs);
    if (!pl_str_eqz(ours, cred->ufrag) || !pl_str_eqz(theirs, cred->peer_ufrag))
        return PL_AUTH;
    enum pl_err e = stun_verify(mac, msg, pwd);
    if (e != PL_OK)
        return e;
    uint32_t tag = tag_of(msg, from), before = find(seen, tag);
    if (before && before != tag)
        return PL_REPLAY;
    if (!msg->controlling)
        return PL_PROTOCOL;
    struct ice_lite_result r = { .again = before, .nominated = msg->use_candidate && !before };
    e = stun_write_success(mac, msg->tid, from, pwd, out, cap, &r.answer_n);
    if (e != PL_OK)
        return e;
    if (r.answer_n > msg->n)
        return PL_PROTOCOL;
    if (!before)
        seen->tags[seen->next++ % ICE_SEEN] = tag;
    *ret = r;
    return PL_OK;
}
