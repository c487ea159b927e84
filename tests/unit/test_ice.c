/* STUN and both sides of ICE: RFC 5769 vectors, S-M1 (nothing unproved is answered, answers are never larger), S-M2 (paths move by proof only). */
#include "ice_check.h"
#include "ice_lite.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const char vector_pwd[] = "VOkJxbRl1RmTxUk/WvJxBt";
static const uint8_t vector_tid[STUN_TID] = { 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae };
static const uint8_t vector_request[] = {
    0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54,
    0x55, 0x4e, 0x20, 0x74, 0x65, 0x73, 0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff, 0x80, 0x29, 0x00, 0x08,
    0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08,
    0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04,
    0xe5, 0x7a, 0x3b, 0xcf };
static const uint8_t vector_v4[] = {
    0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65,
    0x73, 0x74, 0x20, 0x76, 0x65, 0x63, 0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43, 0x00, 0x08, 0x00, 0x14,
    0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3, 0x8c, 0x74, 0x89, 0xf9, 0x2a, 0xf9, 0xba, 0x53, 0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00, 0x04, 0xc0, 0x7d,
    0x4c, 0x96 };
static const uint8_t vector_v6[] = {
    0x01, 0x01, 0x00, 0x48, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65,
    0x73, 0x74, 0x20, 0x76, 0x65, 0x63, 0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79,
    0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9, 0x00, 0x08, 0x00, 0x14, 0xa3, 0x82, 0x95, 0x4e, 0x4b, 0xe6, 0x7b, 0xf1, 0x17, 0x84, 0xc9, 0x7c, 0x82, 0x92,
    0xc2, 0x75, 0xbf, 0xe3, 0xed, 0x41, 0x80, 0x28, 0x00, 0x04, 0xc8, 0xfb, 0x0b, 0x4c };

static struct stun_mac *mac;
static int make_mac(void **state)
{
    (void)state;
    return stun_mac_new(&mac) == PL_OK ? 0 : -1;
}
static int free_mac(void **state)
{
    (void)state;
    mac = stun_mac_free(mac);
    return 0;
}

static struct ice_addr addr(const char *text)
{
    struct ice_addr a;
    assert_int_equal(ice_addr_parse(pl_str_of(text), &a), PL_OK);
    return a;
}

static void rfc5769_request(void **state)
{
    (void)state;
    struct stun_msg m;
    assert_int_equal(stun_parse(vector_request, sizeof vector_request, &m), PL_OK);
    assert_int_equal(m.class_, STUN_REQUEST);
    assert_true(pl_str_eqz(m.username, "evtj:h6vY"));
    assert_true(m.fingerprint && m.controlled && !m.controlling && !m.use_candidate);
    assert_int_equal(m.priority, 0x6e0001ff);
    assert_true(m.tie_breaker == UINT64_C(0x932ff9b151263b36));
    assert_int_equal(stun_verify(mac, &m, pl_str_of(vector_pwd)), PL_OK);
    assert_int_equal(stun_verify(mac, &m, PL_STR("VOkJxbRl1RmTxUk/WvJxBs")), PL_AUTH);
    assert_int_equal(stun_verify(mac, &m, PL_STR("")), PL_AUTH);
}

static void rfc5769_responses(void **state)
{
    (void)state;
    struct stun_msg m;
    struct ice_addr v4 = addr("192.0.2.1:32853"), v6 = addr("[2001:db8:1234:5678:11:2233:4455:6677]:32853");
    assert_int_equal(stun_parse(vector_v4, sizeof vector_v4, &m), PL_OK);
    assert_int_equal(m.class_, STUN_SUCCESS);
    assert_true(ice_addr_eq(&m.mapped, &v4));
    assert_int_equal(stun_verify(mac, &m, pl_str_of(vector_pwd)), PL_OK);
    assert_int_equal(stun_parse(vector_v6, sizeof vector_v6, &m), PL_OK);
    assert_true(ice_addr_eq(&m.mapped, &v6));
    assert_int_equal(stun_verify(mac, &m, pl_str_of(vector_pwd)), PL_OK);
}

/* Any one changed byte of a proved message makes it refused by form, by fingerprint or by proof. */
static void s_m1_one_changed_byte_is_refused(void **state)
{
    (void)state;
    uint8_t p[sizeof vector_request];
    for (size_t i = 0; i < sizeof p; i++) {
        struct stun_msg m;
        memcpy(p, vector_request, sizeof p);
        p[i] ^= 0x01;
        bool refused = stun_parse(p, sizeof p, &m) != PL_OK || !m.fingerprint || stun_verify(mac, &m, pl_str_of(vector_pwd)) != PL_OK;
        if (!refused)
            fail_msg("byte %zu was changed and not noticed", i);
    }
    for (size_t n = 0; n < sizeof p; n++) {
        struct stun_msg m;
        if (stun_parse(vector_request, n, &m) == PL_OK)
            fail_msg("%zu of %zu bytes were taken for a message", n, sizeof p);
    }
}

static void odd_messages(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint8_t bytes[16];
        size_t n;
    } cases[] = {
        { "unknown comprehension-required attribute", { 0x00, 0x31, 0x00, 0x00 }, 4 },
        { "attribute past the end", { 0x00, 0x06, 0x00, 0x08, 'a', 'b', ':', 'c' }, 8 },
        { "priority of two bytes", { 0x00, 0x24, 0x00, 0x02, 1, 2, 0, 0 }, 8 },
        { "both roles", { 0x80, 0x29, 0x00, 0x00, 0x80, 0x2a, 0x00, 0x00 }, 8 },
        { "address of no family", { 0x00, 0x20, 0x00, 0x08, 0, 3, 0, 1, 1, 2, 3, 4 }, 12 },
        { "empty username", { 0x00, 0x06, 0x00, 0x00 }, 4 },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        uint8_t p[64] = { 0x00, 0x01, 0x00, (uint8_t)cases[i].n, 0x21, 0x12, 0xa4, 0x42 };
        struct stun_msg m;
        memcpy(p + STUN_HEADER, cases[i].bytes, cases[i].n);
        if (stun_parse(p, STUN_HEADER + cases[i].n, &m) == PL_OK)
            fail_msg("taken: %s", cases[i].what);
    }
    uint8_t optional[28] = { 0x00, 0x01, 0x00, 8, 0x21, 0x12, 0xa4, 0x42, [20] = 0xc0, 0x57, 0x00, 0x04, 0, 1, 0, 2 };
    struct stun_msg m;
    assert_int_equal(stun_parse(optional, sizeof optional, &m), PL_OK); /* network-cost: not ours, not required */
    optional[4] = 0x22;
    assert_int_equal(stun_parse(optional, sizeof optional, &m), PL_PROTOCOL);
}

struct lite { /* the answering side */
    struct ice_cred cred;
    struct ice_seen seen;
};
static struct lite lite(void)
{
    struct lite l = { .seen.next = 0 };
    assert_int_equal(ice_cred_set(&l.cred, PL_STR("relay1"), PL_STR("0123456789abcdefghijKL"), PL_STR("hub1")), PL_OK);
    return l;
}

static size_t request(uint8_t *out, const char *username, const char *pwd, uint8_t tid, bool nominate)
{
    struct stun_request r = { .username = pl_str_of(username), .password = pl_str_of(pwd), .priority = 1, .tie_breaker = 2, .controlling = true,
        .use_candidate = nominate };
    size_t n;
    memset(r.tid, tid, sizeof r.tid);
    assert_int_equal(stun_write_request(mac, &r, out, STUN_MAX, &n), PL_OK);
    return n;
}

static void lite_answers_and_nominates(void **state)
{
    (void)state;
    struct lite l = lite();
    uint8_t in[STUN_MAX], out[STUN_MAX];
    struct stun_msg m, a;
    struct ice_lite_result r;
    struct ice_addr from = addr("192.0.2.7:4000");
    struct pl_str ufrag;
    size_t n = request(in, "relay1:hub1", "0123456789abcdefghijKL", 1, true);
    assert_int_equal(stun_parse(in, n, &m), PL_OK);
    assert_true(ice_lite_ufrag(&m, &ufrag) && pl_str_eqz(ufrag, "relay1"));
    assert_int_equal(ice_lite_check(mac, &l.cred, &l.seen, &m, &from, out, sizeof out, &r), PL_OK);
    assert_true(r.nominated);
    assert_true(r.answer_n <= n); /* S-M1 */
    assert_int_equal(stun_parse(out, r.answer_n, &a), PL_OK);
    assert_int_equal(a.class_, STUN_SUCCESS);
    assert_memory_equal(a.tid, m.tid, STUN_TID);
    assert_true(ice_addr_eq(&a.mapped, &from));
    assert_int_equal(stun_verify(mac, &a, PL_STR("0123456789abcdefghijKL")), PL_OK);
    n = request(in, "relay1:hub1", "0123456789abcdefghijKL", 2, false);
    assert_int_equal(stun_parse(in, n, &m), PL_OK);
    assert_int_equal(ice_lite_check(mac, &l.cred, &l.seen, &m, &from, out, sizeof out, &r), PL_OK);
    assert_false(r.nominated);
}

static void s_m1_no_answer_without_proof(void **state)
{
    (void)state;
    static const struct {
        const char *username, *pwd;
        enum pl_err e;
    } cases[] = {
        { "relay1:hub1", "0123456789abcdefghijKX", PL_AUTH },
        { "relay1:hub2", "0123456789abcdefghijKL", PL_AUTH },
        { "relay2:hub1", "0123456789abcdefghijKL", PL_AUTH },
        { "relay1:", "0123456789abcdefghijKL", PL_AUTH },
    };
    struct ice_addr from = addr("192.0.2.7:4000");
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct lite l = lite();
        uint8_t in[STUN_MAX], out[STUN_MAX];
        struct stun_msg m;
        struct ice_lite_result r = { 0 };
        size_t n = request(in, cases[i].username, cases[i].pwd, 1, true);
        assert_int_equal(stun_parse(in, n, &m), PL_OK);
        assert_int_equal(ice_lite_check(mac, &l.cred, &l.seen, &m, &from, out, sizeof out, &r), cases[i].e);
        assert_int_equal(r.answer_n, 0);
        assert_int_equal(l.seen.next, 0);
    }
}

/* S-M2: a check that was copied on its way does not carry the path to the copier, and a fresh one from a new address does. */
static void s_m2_copied_check_moves_nothing(void **state)
{
    (void)state;
    struct lite l = lite();
    uint8_t in[STUN_MAX], out[STUN_MAX];
    struct stun_msg m;
    struct ice_lite_result r;
    struct ice_addr home = addr("192.0.2.7:4000"), elsewhere = addr("198.51.100.9:9");
    size_t n = request(in, "relay1:hub1", "0123456789abcdefghijKL", 1, true);
    assert_int_equal(stun_parse(in, n, &m), PL_OK);
    assert_int_equal(ice_lite_check(mac, &l.cred, &l.seen, &m, &home, out, sizeof out, &r), PL_OK);
    assert_int_equal(ice_lite_check(mac, &l.cred, &l.seen, &m, &elsewhere, out, sizeof out, &r), PL_REPLAY);
    assert_int_equal(ice_lite_check(mac, &l.cred, &l.seen, &m, &home, out, sizeof out, &r), PL_OK); /* sent again: answered again, and nothing else */
    assert_true(r.again && !r.nominated && r.answer_n > 0);
    n = request(in, "relay1:hub1", "0123456789abcdefghijKL", 2, true);
    assert_int_equal(stun_parse(in, n, &m), PL_OK);
    assert_int_equal(ice_lite_check(mac, &l.cred, &l.seen, &m, &elsewhere, out, sizeof out, &r), PL_OK);
}

/* S-M2: ... and not an hour later either. What is forgotten, and when, is a promise of the header. */
static void s_m2_checks_are_remembered(void **state)
{
    (void)state;
    static struct lite l;
    static uint8_t first[STUN_MAX], in[STUN_MAX], out[STUN_MAX];
    struct stun_msg m, copy;
    struct ice_lite_result r;
    struct ice_addr home = addr("192.0.2.7:4000"), elsewhere = addr("198.51.100.9:9");
    struct stun_request q = { .tid = "first", .username = PL_STR("relay1:hub1"), .password = PL_STR("0123456789abcdefghijKL"), .controlling = true, .use_candidate = true };
    size_t n;
    l = lite();
    assert_int_equal(stun_write_request(mac, &q, first, sizeof first, &n), PL_OK);
    assert_int_equal(stun_parse(first, n, &copy), PL_OK);
    assert_int_equal(ice_lite_check(mac, &l.cred, &l.seen, &copy, &home, out, sizeof out, &r), PL_OK);
    for (uint32_t i = 1; i < ICE_SEEN; i++) { /* numbers that count up: some peers' are no better */
        memcpy(q.tid + 8, &i, sizeof i);
        assert_int_equal(stun_write_request(mac, &q, in, sizeof in, &n), PL_OK);
        assert_int_equal(stun_parse(in, n, &m), PL_OK);
        if (ice_lite_check(mac, &l.cred, &l.seen, &m, &home, out, sizeof out, &r) != PL_OK || r.again)
            fail_msg("transaction %u was taken for an earlier one", i);
    }
    assert_int_equal(ice_lite_check(mac, &l.cred, &l.seen, &copy, &elsewhere, out, sizeof out, &r), PL_REPLAY);
    assert_int_equal(ice_lite_check(mac, &l.cred, &l.seen, &copy, &home, out, sizeof out, &r), PL_OK);
    assert_true(r.again && !r.nominated);
    assert_true(sizeof l.seen < 8300); /* V-G3 */
}

static void credentials_have_a_form(void **state)
{
    (void)state;
    struct ice_cred c;
    assert_int_equal(ice_cred_set(&c, PL_STR("abc"), PL_STR("0123456789abcdefghijKL"), PL_STR("hub1")), PL_INVALID_REQUEST);
    assert_int_equal(ice_cred_set(&c, PL_STR("abcd"), PL_STR("0123456789abcdefghijK"), PL_STR("hub1")), PL_INVALID_REQUEST);
    assert_int_equal(ice_cred_set(&c, PL_STR("abcd"), PL_STR("0123456789abcdefghijKL"), PL_STR("hu:1")), PL_INVALID_REQUEST);
}

struct pair { /* an asking side, and the relay that it asks */
    struct pl_rand_seeded rand;
    struct ice_check *check;
    struct lite lite;
    struct pl_mono now;
};

static void pair_new(struct pair *p)
{
    *p = (struct pair){ .now = { 1000000 } };
    p->lite = lite();
    pl_rand_seed(&p->rand, 7);
    assert_int_equal(ice_check_new(&p->lite.cred, &p->rand.base, p->now, &p->check), PL_OK);
}

/* One check that is due now, or 0. */
static size_t poll_check(struct pair *p, uint8_t *out)
{
    size_t n;
    assert_int_equal(ice_check_poll(p->check, p->now, out, STUN_MAX, &n), PL_OK);
    return n;
}

static size_t answer(struct pair *p, const uint8_t *in, size_t n, uint8_t *out)
{
    struct stun_msg m;
    struct ice_lite_result r;
    struct ice_addr from = addr("192.0.2.7:4000");
    assert_int_equal(stun_parse(in, n, &m), PL_OK);
    assert_int_equal(ice_lite_check(mac, &p->lite.cred, &p->lite.seen, &m, &from, out, STUN_MAX, &r), PL_OK);
    assert_true(r.nominated || r.again);
    return r.answer_n;
}

static void check_is_sent_again_until_answered(void **state)
{
    (void)state;
    static const int64_t waits[] = { 100, 200, 400, 800, 1000, 1000 };
    struct pair p;
    uint8_t first[STUN_MAX], again[STUN_MAX], out[STUN_MAX];
    pair_new(&p);
    size_t n = poll_check(&p, first);
    assert_true(n > 0);
    for (size_t i = 0; i < PL_COUNT(waits); i++) {
        p.now = pl_mono_add(p.now, waits[i] * PL_MS - 1);
        assert_int_equal(poll_check(&p, again), 0);
        p.now = pl_mono_add(p.now, 1);
        assert_int_equal(poll_check(&p, again), n);
    }
    size_t an = answer(&p, again, n, out);
    assert_false(ice_check_connected(p.check));
    assert_int_equal(ice_check_input(p.check, p.now, out, an), PL_OK);
    assert_true(ice_check_connected(p.check));
    struct ice_addr mapped = ice_check_mapped(p.check), want = addr("192.0.2.7:4000");
    assert_true(ice_addr_eq(&mapped, &want));
    assert_int_equal(ice_check_input(p.check, p.now, out, an), PL_REPLAY); /* an answer counts once */
    p.check = ice_check_free(p.check);
}

static void consent_every_two_seconds(void **state)
{
    (void)state;
    struct pair p;
    uint8_t in[STUN_MAX], out[STUN_MAX];
    pair_new(&p);
    for (int round = 0; round < 5; round++) {
        struct pl_mono asked = p.now;
        size_t n = poll_check(&p, in);
        assert_true(n > 0);
        p.now = pl_mono_add(p.now, 50 * PL_MS);
        assert_int_equal(ice_check_input(p.check, p.now, out, answer(&p, in, n, out)), PL_OK);
        assert_true(ice_check_rtt_us(p.check) == 50 * PL_MS);
        assert_true(ice_check_last_answer(p.check).us == p.now.us);
        assert_int_equal(poll_check(&p, in), 0);
        assert_true(ice_check_due(p.check).us == asked.us + 2 * PL_SECOND);
        p.now = ice_check_due(p.check);
    }
    /* Unanswered from here: again each half second, the time of the last answer stays. */
    struct pl_mono last = ice_check_last_answer(p.check);
    for (int i = 0; i < 10; i++) {
        assert_true(poll_check(&p, in) > 0);
        p.now = pl_mono_add(p.now, 500 * PL_MS);
    }
    assert_true(ice_check_last_answer(p.check).us == last.us);
    p.check = ice_check_free(p.check);
}

static void s_m2_strangers_answer_is_ignored(void **state)
{
    (void)state;
    struct pair p;
    uint8_t in[STUN_MAX], out[STUN_MAX];
    struct ice_addr from = addr("192.0.2.7:4000");
    struct stun_msg m;
    pair_new(&p);
    size_t n = poll_check(&p, in), an;
    assert_int_equal(stun_parse(in, n, &m), PL_OK);
    assert_int_equal(stun_write_success(mac, m.tid, &from, PL_STR("another-password-00000"), out, sizeof out, &an), PL_OK);
    assert_int_equal(ice_check_input(p.check, p.now, out, an), PL_AUTH);
    assert_int_equal(stun_write_success(mac, vector_tid, &from, pl_str_of(p.lite.cred.pwd), out, sizeof out, &an), PL_OK);
    assert_int_equal(ice_check_input(p.check, p.now, out, an), PL_REPLAY);
    assert_false(ice_check_connected(p.check));
    p.check = ice_check_free(p.check);
}

static void addresses_as_text(void **state)
{
    (void)state;
    static const char *const good[] = { "127.0.0.1:50000", "[::1]:1", "[2001:db8::7]:65535" };
    static const char *const bad[] = { "", ":1", "127.0.0.1", "127.0.0.1:65536", "localhost:1", "::1:1", "[127.0.0.1]:1", "1.2.3.4:", "1.2.3.4:1x" };
    for (size_t i = 0; i < PL_COUNT(good); i++) {
        char text[ICE_ADDR_TEXT];
        struct ice_addr a = addr(good[i]);
        ice_addr_text(&a, text);
        assert_string_equal(text, good[i]);
        struct sockaddr_storage ss;
        assert_true(ice_addr_sockaddr(&a, AF_INET6, &ss) > 0); /* an IPv6 socket reaches both, and gives the same address back */
        struct ice_addr back = ice_addr_of((struct sockaddr *)&ss);
        assert_true(ice_addr_eq(&a, &back));
    }
    for (size_t i = 0; i < PL_COUNT(bad); i++) {
        struct ice_addr a;
        if (ice_addr_parse(pl_str_of(bad[i]), &a) == PL_OK)
            fail_msg("taken: %s", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc5769_request), cmocka_unit_test(rfc5769_responses), cmocka_unit_test(s_m1_one_changed_byte_is_refused), cmocka_unit_test(odd_messages),
        cmocka_unit_test(lite_answers_and_nominates), cmocka_unit_test(s_m1_no_answer_without_proof), cmocka_unit_test(s_m2_copied_check_moves_nothing),
        cmocka_unit_test(s_m2_checks_are_remembered), cmocka_unit_test(credentials_have_a_form), cmocka_unit_test(check_is_sent_again_until_answered), cmocka_unit_test(consent_every_two_seconds),
        cmocka_unit_test(s_m2_strangers_answer_is_ignored), cmocka_unit_test(addresses_as_text),
    };
    return cmocka_run_group_tests(tests, make_mac, free_mac);
}
