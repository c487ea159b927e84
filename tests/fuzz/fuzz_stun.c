/* STUN: any bytes; what is taken for a message has its parts inside it, and what we write is read back alike (S-M1, S-M4). */
#include "fuzz.h"
#include "ice_check.h"
#include "ice_lite.h"

static bool inside(const struct stun_msg *m, struct pl_str s)
{
    const uint8_t *p = (const uint8_t *)s.p;
    return !p || (p >= m->p && p + s.n <= m->p + m->n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct stun_mac *mac;
    static struct ice_cred cred;
    static struct ice_seen seen;
    static struct pl_rand_seeded rand;
    static struct ice_check *check;
    struct stun_msg m;
    struct pl_str ufrag;
    uint8_t out[STUN_MAX];
    if (!mac) {
        pl_rand_seed(&rand, 1);
        FUZZ_MUST(stun_mac_new(&mac) == PL_OK);
        FUZZ_MUST(ice_cred_set(&cred, PL_STR("evtj"), PL_STR("VOkJxbRl1RmTxUk/WvJxBt"), PL_STR("h6vY")) == PL_OK);
        FUZZ_MUST(ice_check_new(&cred, &rand.base, (struct pl_mono){ 0 }, &check) == PL_OK);
    }
    FUZZ_MUST(ice_check_input(check, (struct pl_mono){ 1 }, data, size) != PL_OK); /* no transaction was ever sent */
    if (stun_parse(data, size, &m) != PL_OK)
        return 0;
    FUZZ_MUST(m.p == data && m.n == size && inside(&m, m.username) && (m.integrity_at == 0 || m.integrity_at + 24 <= size));
    bool proved = stun_verify(mac, &m, pl_str_of(cred.pwd)) == PL_OK;
    if (ice_lite_ufrag(&m, &ufrag)) {
        struct ice_lite_result r;
        struct ice_addr from = { .ip = { 1, 2, 3, 4 }, .port = 5, .family = 4 };
        FUZZ_MUST(inside(&m, ufrag));
        if (ice_lite_check(mac, &cred, &seen, &m, &from, out, sizeof out, &r) == PL_OK) {
            struct stun_msg answer;
            FUZZ_MUST(proved && r.answer_n <= size);
            FUZZ_MUST(stun_parse(out, r.answer_n, &answer) == PL_OK && ice_addr_eq(&answer.mapped, &from));
        }
    }
    return 0;
}
