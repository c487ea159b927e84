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

static bool seen_elsewhere(const struct ice_lite *ice, const struct stun_msg *msg, const struct ice_addr *from, bool *ret_known)
{
    *ret_known = false;
    for (unsigned i = 0; i < ICE_SEEN; i++)
        if (ice->seen[i].from.family && memcmp(ice->seen[i].tid, msg->tid, STUN_TID) == 0) {
            *ret_known = true;
            return !ice_addr_eq(&ice->seen[i].from, from);
        }
    return false;
}

enum pl_err ice_lite_check(struct stun_mac *mac, struct ice_lite *ice, const struct stun_msg *msg, const struct ice_addr *from, uint8_t *out, size_t cap,
    struct ice_lite_result *ret)
{
    struct pl_str theirs, pwd = pl_str_of(ice->cred.pwd);
    struct pl_str ours = pl_str_split(msg->username, ':', &theirs);
    if (!pl_str_eqz(ours, ice->cred.ufrag) || !pl_str_eqz(theirs, ice->cred.peer_ufrag))
        return PL_AUTH;
    enum pl_err e = stun_verify(mac, msg, pwd);
    if (e != PL_OK)
        return e;
    bool known;
    if (seen_elsewhere(ice, msg, from, &known))
        return PL_REPLAY;
    if (!msg->controlling)
        return PL_PROTOCOL;
    struct ice_lite_result r = { .nominated = msg->use_candidate };
    e = stun_write_success(mac, msg->tid, from, pwd, out, cap, &r.answer_n);
    if (e != PL_OK)
        return e;
    if (r.answer_n > msg->n)
        return PL_PROTOCOL;
    if (!known) {
        memcpy(ice->seen[ice->seen_next].tid, msg->tid, STUN_TID);
        ice->seen[ice->seen_next].from = *from;
        ice->seen_next = (ice->seen_next + 1) % ICE_SEEN;
    }
    *ret = r;
    return PL_OK;
}
