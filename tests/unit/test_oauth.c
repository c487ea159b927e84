/* oauth: its pure parts - where a service may be answered, forms, what is written into pages and addresses. Codes and tokens: tests/it/test_oauth.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "oauth_int.h"

static struct pl_arena *arena;

static int set_up(void **state)
{
    (void)state;
    arena = pl_arena_new(1 << 20);
    return arena ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    arena = pl_arena_free(arena);
    return 0;
}

static void a_service_is_answered_over_tls_or_on_this_machine(void **state)
{
    (void)state;
    static const struct { const char *uri; bool good; } cases[] = { { "https://a.example/back", true }, { "https://a.example", true }, { "https://a.example/?x=1", true },
        { "http://127.0.0.1/", false }, { "http://127.0.0.1/x", true }, { "http://127.0.0.1:8000/x", true }, { "http://localhost:1", true }, { "", false }, { "https://", false },
        { "HTTPS://a.example/", false }, { "http://a.example/", false }, { "http://127.0.0.1.a.example/", false }, { "http://localhost.a.example/", false }, { "javascript:x", false },
        { "http://localhost:x@a.example/", false }, { "https://a.example/#f", false }, { "https://a.example/ x", false }, { "https://a.example/\"x", false }, { "https://a.example/\xc3\xa4", false },
        { "app:/back", false } };
    for (size_t i = 0; i < PL_COUNT(cases); i++)
        assert_int_equal(oauth_redirect_good(pl_str_of(cases[i].uri)), cases[i].good);
}

/* RFC 6749, 3.1: no parameter twice; what is malformed is refused whole. */
static void a_form_is_pairs_of_different_names(void **state)
{
    (void)state;
    struct oauth_form f;
    assert_int_equal(oauth_form_take(arena, PL_STR("code=a%2Fb+c&state=&x=%C3%A4"), &f), PL_OK);
    assert_int_equal(f.n, 3);
    assert_true(pl_str_eqz(oauth_form_get(&f, "code"), "a/b c") && pl_str_eqz(oauth_form_get(&f, "x"), "\xc3\xa4"));
    assert_true(oauth_form_get(&f, "state").p && !oauth_form_get(&f, "state").n && !oauth_form_get(&f, "none").p);
    assert_int_equal(oauth_form_take(arena, PL_STR(""), &f), PL_OK);
    assert_int_equal(f.n, 0);
    static const char *const bad[] = { "a=1&a=2", "a=%", "a=%2", "a=%zz", "a=%00", "a=%0a", "a=%ff", "=1", "a=1&&b=2", "a=1&%61=2" };
    for (size_t i = 0; i < PL_COUNT(bad); i++)
        assert_int_equal(oauth_form_take(arena, pl_str_of(bad[i]), &f), PL_INVALID_REQUEST);
    struct pl_buf many = pl_buf_init(arena, 4096);
    for (int i = 0; i < 25; i++)
        pl_buf_fmt(&many, "%sn%d=x", i ? "&" : "", i);
    assert_int_equal(pl_buf_err(&many), PL_OK);
    assert_int_equal(oauth_form_take(arena, pl_buf_view(&many), &f), PL_INVALID_REQUEST);
}

static void what_a_service_says_is_text_in_a_page_and_one_value_in_an_address(void **state)
{
    (void)state;
    struct pl_buf b = pl_buf_init(arena, 1024);
    oauth_html(&b, PL_STR("<b title=\"x\">'&'</b>"));
    assert_int_equal(pl_buf_err(&b), PL_OK);
    assert_true(pl_str_eqz(pl_buf_view(&b), "&lt;b title=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/b&gt;"));

    const struct oauth_ctx ctx = { .settings = { .issuer = PL_STR("https://cloud.example") } };
    struct oauth_request r = { .redirect_uri = PL_STR("https://a.example/back"), .state = PL_STR("a&b=c #\xc3\xa4") };
    struct pl_str to;
    assert_int_equal(oauth_answer(&ctx, arena, &r, "code", "ploc_x", &to), PL_OK);
    assert_true(pl_str_eqz(to, "https://a.example/back?code=ploc_x&state=a%26b%3Dc%20%23%C3%A4&iss=https%3A%2F%2Fcloud.example"));
    r.redirect_uri = PL_STR("https://a.example/back?kind=a");
    r.state = PL_STR_NONE;
    assert_int_equal(oauth_answer(&ctx, arena, &r, "error", "access_denied", &to), PL_OK);
    assert_true(pl_str_eqz(to, "https://a.example/back?kind=a&error=access_denied&iss=https%3A%2F%2Fcloud.example"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_service_is_answered_over_tls_or_on_this_machine, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_form_is_pairs_of_different_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_service_says_is_text_in_a_page_and_one_value_in_an_address, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
