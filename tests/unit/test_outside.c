/* outside: ID tokens (OpenID Connect Core 3.1.3.7; RFC 7515, 7517, 7518), where a provider may be, and what an operator's files may say. Providers themselves: tests/it/test_links.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "failing.h"
#include "outside_int.h"
#include "outside_vectors.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define T0 INT64_C(1790000000000000)

static struct pl_arena *arena;

static int set_up(void **state)
{
    (void)state;
    arena = pl_arena_new(4 << 20);
    return arena && secure_init() == PL_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    arena = pl_arena_free(arena);
    return 0;
}

static struct outside_expected expected(void)
{
    return (struct outside_expected){ .issuer = PL_STR("https://accounts.example"), .client_id = PL_STR("porch"), .nonce = PL_STR("n-0S6_WzA2Mj"), .access_token = PL_STR_NONE,
                                      .began = { T0 }, .now = { T0 + 10 * PL_SECOND } };
}

static enum pl_err ask(const char *token, const char *set, struct outside_expected x, struct outside_identity *ret, struct pl_fail *f)
{
    *f = (struct pl_fail)PL_FAIL_INIT;
    return outside_id_token(arena, pl_str_of(token), pl_str_of(set), &x, ret, f);
}

/* ---- signatures ---- */

static void the_signatures_of_rfc_7515_are_right_and_with_a_bit_changed_they_are_not(void **state)
{
    (void)state;
    static const char *const tokens[] = { rfc_rs256, rfc_es256 };
    for (size_t i = 0; i < PL_COUNT(tokens); i++) {
        struct outside_expected x = expected();
        struct outside_identity who;
        struct pl_fail f;
        x.issuer = PL_STR("joe"); /* who signed them says not for whom: that is looked at after the signature */
        assert_int_equal(ask(tokens[i], rfc_keys, x, &who, &f), PL_LINK_REFUSED);
        assert_non_null(strstr(f.detail, "for whom"));
        char changed[1024];
        size_t n = strlen(tokens[i]);
        assert_true(n < sizeof changed);
        memcpy(changed, tokens[i], n + 1);
        const size_t places[] = { n / 2, n - 20, 30 };
        for (size_t k = 0; k < PL_COUNT(places); k++) {
            char was = changed[places[k]];
            changed[places[k]] = was == 'A' ? 'B' : 'A';
            assert_int_equal(ask(changed, rfc_keys, x, &who, &f), PL_LINK_REFUSED);
            assert_null(strstr(f.detail, "for whom"));
            changed[places[k]] = was;
        }
    }
}

static void a_good_id_token_says_who_it_is_about(void **state)
{
    (void)state;
    static const char *const tokens[] = { rs256, es256 };
    for (size_t i = 0; i < PL_COUNT(tokens); i++) {
        struct outside_identity who;
        struct pl_fail f;
        assert_int_equal(ask(tokens[i], keys, expected(), &who, &f), PL_OK);
        assert_true(pl_str_eqz(who.subject, "someone") && pl_str_eqz(who.label, "a@b.example"));
    }
}

/* A key is of one kind and for one algorithm; a token does not choose. */
static void a_key_of_another_kind_or_too_weak_is_no_key(void **state)
{
    (void)state;
    struct outside_identity who;
    struct pl_fail f;
    assert_int_equal(ask(small_rs256, small_keys, expected(), &who, &f), PL_LINK_REFUSED);
    assert_non_null(strstr(f.detail, "signature"));
    static const struct { const char *set; enum pl_err e; } cases[] = {
        { "{\"keys\":[]}", PL_NOT_FOUND },
        { "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"e1\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", PL_NOT_FOUND },
        { "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"e1\",\"k\":\"AQAB\"}]}", PL_NOT_FOUND },
        { "{\"keys\":[{\"kty\":\"EC\",\"kid\":\"e2\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}", PL_NOT_FOUND },
        { "{\"keys\":[{\"kty\":\"EC\",\"kid\":\"e1\",\"use\":\"enc\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}", PL_NOT_FOUND },
        { "{\"keys\":[{\"kty\":\"EC\",\"kid\":\"e1\",\"alg\":\"ES512\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}", PL_NOT_FOUND },
        { "{\"keys\":[{\"kty\":\"EC\",\"kid\":\"e1\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}", PL_LINK_REFUSED },
        { "{\"keys\":[{\"kty\":\"EC\",\"kid\":\"e1\",\"crv\":\"P-521\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}",
          PL_LINK_REFUSED },
        /* not on the curve */
        { "{\"keys\":[{\"kty\":\"EC\",\"kid\":\"e1\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\"y\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}]}",
          PL_LINK_REFUSED },
        { "{}", PL_PROVIDER_UNAVAILABLE }, { "[]", PL_PROVIDER_UNAVAILABLE }, { "<html>", PL_PROVIDER_UNAVAILABLE }, { "{\"keys\":[7]}", PL_PROVIDER_UNAVAILABLE },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++)
        assert_int_equal(ask(es256, cases[i].set, expected(), &who, &f), cases[i].e);
}

/* ---- claims ---- */

#define HEAD "{\"iss\":\"https://accounts.example\",\"sub\":\"someone\",\"nonce\":\"n-0S6_WzA2Mj\","
#define TIMES "\"exp\":1790000600,\"iat\":1790000000"
#define AUD "\"aud\":\"porch\","

static void claims_are_held_against_what_was_begun(void **state)
{
    (void)state;
    static const struct { const char *claims, *why; } cases[] = {
        { HEAD AUD TIMES "}", NULL },
        { HEAD "\"aud\":[\"porch\"]," TIMES "}", NULL },
        { HEAD "\"aud\":[\"x\",\"porch\"],\"azp\":\"porch\"," TIMES "}", NULL },
        { HEAD "\"aud\":[\"x\",\"porch\"]," TIMES "}", "azp" },
        { HEAD "\"aud\":[]," TIMES "}", "aud" },
        { HEAD "\"aud\":\"porc\"," TIMES "}", "aud" },
        { HEAD "\"aud\":{\"porch\":1}," TIMES "}", "for whom" },
        { HEAD AUD "\"exp\":1789999951,\"iat\":1790000000}", NULL }, /* a clock may be a minute off */
        { HEAD AUD "\"exp\":1789999950,\"iat\":1790000000}", "expired" },
        { HEAD AUD "\"exp\":1790000600,\"iat\":1789999940}", NULL },
        { HEAD AUD "\"exp\":1790000600,\"iat\":1789999939}", "begun" },
        { HEAD AUD "\"exp\":1790000600,\"iat\":1790000070}", NULL },
        { HEAD AUD "\"exp\":1790000600,\"iat\":1790000071}", "begun" },
        { HEAD AUD "\"exp\":1790000600.75,\"iat\":1790000000.25}", NULL },
        { HEAD AUD "\"exp\":-1,\"iat\":1790000000}", "no time" },
        { HEAD AUD "\"exp\":1e300,\"iat\":1790000000}", "no time" },
        { HEAD AUD "\"iat\":1790000000}", "no time" },
        { HEAD AUD TIMES ",\"at_hash\":\"77QmUPtjPfzWtF2AnpK9RQ\"}", NULL }, /* no access token came */
        { "[]", "no JSON" }, { "", "no JSON" }, { HEAD AUD TIMES ",\"sub\":\"twice\"}", "no JSON" },
    };
    struct outside_expected x = expected();
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct outside_identity who;
        struct pl_fail f = PL_FAIL_INIT;
        enum pl_err e = outside_claims(arena, pl_str_of(cases[i].claims), &x, &who, &f);
        assert_int_equal(e, cases[i].why ? PL_LINK_REFUSED : PL_OK);
        assert_true(!cases[i].why || strstr(f.detail, cases[i].why));
    }
}

/* OpenID Connect Core, A.3: the access token of the example and its at_hash. */
static void an_at_hash_is_that_of_the_access_token(void **state)
{
    (void)state;
    struct outside_expected x = expected();
    struct outside_identity who;
    struct pl_str claims = PL_STR(HEAD AUD TIMES ",\"at_hash\":\"77QmUPtjPfzWtF2AnpK9RQ\"}");
    x.access_token = PL_STR("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y");
    assert_int_equal(outside_claims(arena, claims, &x, &who, NULL), PL_OK);
    x.access_token = PL_STR("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Z");
    assert_int_equal(outside_claims(arena, claims, &x, &who, NULL), PL_LINK_REFUSED);
}

/* ---- where a provider may be ---- */

static void only_public_addresses_are_public(void **state)
{
    (void)state;
    static const struct { const char *address; bool is; } cases[] = { { "8.8.8.8", true }, { "193.99.144.85", true }, { "172.15.255.255", true }, { "172.32.0.1", true }, { "100.63.255.255", true },
        { "0.0.0.0", false }, { "10.1.2.3", false }, { "100.64.0.1", false }, { "127.0.0.1", false }, { "127.255.255.255", false }, { "169.254.169.254", false }, { "172.16.0.1", false },
        { "172.31.255.255", false }, { "192.168.1.1", false }, { "192.0.0.8", false }, { "198.18.0.1", false }, { "198.51.100.1", false }, { "224.0.0.1", false }, { "255.255.255.255", false },
        { "2a02:2e0:3fe:1001::1", true }, { "::", false }, { "::1", false }, { "::ffff:10.0.0.1", false }, { "::ffff:8.8.8.8", false }, { "fe80::1", false }, { "fd00::1", false },
        { "ff02::1", false }, { "64:ff9b::a00:1", false }, { "2002:a00:1::1", false }, { "2001:0:4136:e378::1", false }, { "2001:db8::1", false } };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct sockaddr_in a4 = { .sin_family = AF_INET };
        struct sockaddr_in6 a6 = { .sin6_family = AF_INET6 };
        bool six = strchr(cases[i].address, ':') != NULL;
        assert_int_equal(inet_pton(six ? AF_INET6 : AF_INET, cases[i].address, six ? (void *)&a6.sin6_addr : (void *)&a4.sin_addr), 1);
        assert_int_equal(outside_address_public(six ? (const struct sockaddr *)&a6 : (const struct sockaddr *)&a4), cases[i].is);
    }
}

static void a_provider_names_https_alone(void **state)
{
    (void)state;
    static const struct { const char *url; bool outside, local; } cases[] = { { "https://accounts.example/token", true, true }, { "http://accounts.example/token", false, false },
        { "http://127.0.0.1:80/token", false, true }, { "http://localhost:80/token", false, true }, { "http://127.0.0.1.evil.example/", false, false }, { "file:///etc/passwd", false, false },
        { "https://a.example/\r\nX: y", false, false }, { "https://a.example/#f", false, false }, { "https://a.example/ x", false, false }, { "", false, false } };
    const struct outside_provider outer = { .local = false }, local = { .local = true };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        assert_int_equal(outside_url_good(&outer, pl_str_of(cases[i].url)), cases[i].outside);
        assert_int_equal(outside_url_good(&local, pl_str_of(cases[i].url)), cases[i].local);
    }
}

/* ---- what an operator's files may say ---- */

static char folder[] = "/tmp/outside-XXXXXX";
static const char *const names[] = { "a.conf", "b.conf", "c.conf", "A.conf", "readme", "s" };

static const char *path_of(const char *name)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void clean(void)
{
    for (size_t i = 0; i < PL_COUNT(names); i++)
        unlink(path_of(names[i]));
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
}

static enum pl_err make(const char *from, struct outside **ret, struct pl_fail *f)
{
    static const struct pl_secret master = { { 7 } };
    *f = (struct pl_fail)PL_FAIL_INIT;
    return outside_new(&(struct outside_conf){ .settings = { .providers = pl_str_of(from), .workers = 4 }, .link_url = PL_STR("https://app.example"), .master = &master,
                           .clock = &pl_clock_system, .rand = &pl_rand_system }, ret, f);
}

static void providers_are_files_and_a_wrong_one_is_named(void **state)
{
    (void)state;
    struct outside *ctx = NULL;
    struct outside_flow one, two;
    struct pl_fail f;
    assert_int_equal(make(folder, &ctx, &f), PL_OK);
    assert_int_equal(outside_workers(ctx), 0);
    ctx = outside_free(ctx);

    static const char good[] = "title = T\nissuer = https://a.example\nclient_id = c\n";
    char with_secret[160];
    snprintf(with_secret, sizeof with_secret, "%sclient_secret_file = %s\n", good, path_of("s"));
    put("s", "  secret\n");
    put("b.conf", with_secret);
    put("a.conf", good);
    put("readme", "not looked at");
    assert_int_equal(make(folder, &ctx, &f), PL_OK);
    assert_int_equal(outside_workers(ctx), 4);
    assert_true(pl_str_eqz(ctx->providers[0].name, "a") && pl_str_eqz(ctx->providers[1].name, "b") && pl_str_eqz(ctx->providers[1].secret, "secret") && !ctx->providers[0].secret.n);
    assert_null(outside_provider_find(ctx, PL_STR("c")));

    /* One state makes one flow, and nobody makes it without the key. RFC 7636, 4.1 and 4.2: 43 characters; the challenge is the verifier's SHA-256. */
    assert_int_equal(outside_flow_of(ctx, &ctx->providers[0], arena, PL_STR("plls_x"), &one), PL_OK);
    assert_int_equal(outside_flow_of(ctx, &ctx->providers[1], arena, PL_STR("plls_x"), &two), PL_OK);
    assert_true(pl_str_eq(one.verifier, two.verifier) && one.verifier.n == 43 && one.nonce.n == 43 && !pl_str_eq(one.verifier, one.nonce) && !pl_str_eq(one.verifier, one.challenge));
    assert_true(pl_str_eqz(one.redirect_uri, "https://app.example/linked/a") && pl_str_eqz(two.redirect_uri, "https://app.example/linked/b"));
    assert_int_equal(outside_flow_of(ctx, &ctx->providers[0], arena, PL_STR("plls_y"), &two), PL_OK);
    assert_false(pl_str_eq(one.verifier, two.verifier) || pl_str_eq(one.nonce, two.nonce));
    ctx = outside_free(ctx);

    static const struct { const char *name, *text, *why; } wrong[] = { { "A.conf", "", "small letters" }, { "c.conf", "", "wants title" }, { "c.conf", "title = T\nissuer = ftp://x\n", "issuer" },
        { "c.conf", "title = T\nissuer = http://a.example\nclient_id = c\n", "issuer" }, { "c.conf", "title = T\nissuer = https://a.example\nclient_id = c\nscopes = email\n", "openid" },
        { "c.conf", "nonsense = 1\n", "nonsense" }, { "c.conf", "title = T\nissuer = https://a.example\nclient_id = c\nclient_secret_file = /nowhere\n", "/nowhere" } };
    for (size_t i = 0; i < PL_COUNT(wrong); i++) {
        put(wrong[i].name, wrong[i].text);
        assert_int_equal(make(folder, &ctx, &f), PL_INVALID_REQUEST);
        assert_non_null(strstr(f.detail, wrong[i].why));
        assert_int_equal(unlink(path_of(wrong[i].name)), 0);
    }
    assert_int_equal(make("/tmp/outside-nowhere", &ctx, &f), PL_INVALID_REQUEST);
    assert_non_null(strstr(f.detail, "cannot be opened"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_signatures_of_rfc_7515_are_right_and_with_a_bit_changed_they_are_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_good_id_token_says_who_it_is_about, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_key_of_another_kind_or_too_weak_is_no_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(claims_are_held_against_what_was_begun, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_at_hash_is_that_of_the_access_token, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_public_addresses_are_public, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_provider_names_https_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(providers_are_files_and_a_wrong_one_is_named, set_up, tear_down),
    };
    if (!mkdtemp(folder))
        return 1;
    failing_rewind(clean);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    clean();
    rmdir(folder);
    return failed;
}
