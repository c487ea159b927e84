/* phone: normal forms, kinds (S-F5), and what is no number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "phone.h"

static void a_number_has_one_normal_form(void **state)
{
    (void)state;
    static const struct { const char *given, *country, *e164, *where; } cases[] = {
        { "+436641234567", NULL, "+436641234567", "AT" }, { "+4306641234567", NULL, "+436641234567", "AT" }, { "+43 (0) 664 / 123 45 67", NULL, "+436641234567", "AT" },
        { "0664 1234567", "AT", "+436641234567", "AT" }, { "(202) 555-0123", "US", "+12025550123", "US" }, { "tel:+1-202-555-0123", NULL, "+12025550123", "US" },
        { "+16135550123", NULL, "+16135550123", "CA" }, { "+390612345678", NULL, "+390612345678", "IT" }, { "00436641234567", "DE", "+436641234567", "AT" },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct phone_number n;
        assert_int_equal(phone_parse(pl_str_of(cases[i].given), cases[i].country, &n), PL_OK);
        assert_string_equal(n.e164, cases[i].e164);
        assert_string_equal(n.country, cases[i].where);
    }
}

static void what_is_no_number_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = { "", "+", "+0", "+1", "0664 1234567", "+12020100000", "+99912345678", "+4366412345678901234567890", "+12025550123 ext. 5", "nobody" };
    struct phone_number n;
    for (size_t i = 0; i < PL_COUNT(cases); i++)
        assert_int_equal(phone_parse(pl_str_of(cases[i]), NULL, &n), PL_INVALID_REQUEST);
    char raw[65];
    memset(raw, '9', sizeof raw);
    assert_int_equal(phone_parse((struct pl_str){ raw, sizeof raw }, NULL, &n), PL_INVALID_REQUEST);
}

static void s_f5_kinds_that_cost_or_are_nobodys_get_no_pin(void **state)
{
    (void)state;
    static const struct { const char *given; enum phone_kind kind; bool may; } cases[] = {
        { "+436641234567", PHONE_MOBILE, true }, { "+4312345678", PHONE_FIXED, true }, { "+12025550123", PHONE_FIXED_OR_MOBILE, true }, { "+43720123456", PHONE_VOIP, true },
        { "+18002530000", PHONE_TOLL_FREE, true }, { "+19002530000", PHONE_PREMIUM, false }, { "+43900123456", PHONE_PREMIUM, false }, { "+449091234567", PHONE_PREMIUM, false },
        { "+491801234567", PHONE_SHARED_COST, false }, { "+447640123456", PHONE_OTHER, false },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct phone_number n;
        assert_int_equal(phone_parse(pl_str_of(cases[i].given), NULL, &n), PL_OK);
        assert_string_equal(phone_kind_names[n.kind], phone_kind_names[cases[i].kind]);
        assert_int_equal(phone_may_get_pin(n.kind), cases[i].may);
    }
}

int main(void)
{
    phone_warm();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_has_one_normal_form),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(s_f5_kinds_that_cost_or_are_nobodys_get_no_pin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
