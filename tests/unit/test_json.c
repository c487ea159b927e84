/* json: a table says what is expected; everything else is refused by name and costs nothing. */
#include "json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

struct inner {
    struct pl_str serial;
};
static const struct json_field inner_fields[] = { JSON_F(struct inner, serial, J_SERIAL, J_REQUIRED), J_END };
static const char *const colours[] = { "red", "green", NULL };
struct body {
    struct pl_str name, email, phone, pin, country, secret, extra;
    struct pl_uuid id;
    struct pl_utc at;
    int64_t n;
    bool on, has_on;
    double ratio;
    int colour;
    struct inner hub;
    struct json_list cameras, words;
};
static const struct json_field fields[] = {
    JSON_F(struct body, name, J_STR, J_REQUIRED, .lo = 1, .hi = 5),
    JSON_F(struct body, email, J_EMAIL, J_OPTIONAL),
    JSON_F(struct body, phone, J_PHONE, J_OPTIONAL),
    JSON_F(struct body, pin, J_PIN, J_OPTIONAL),
    JSON_F(struct body, country, J_COUNTRY, J_OPTIONAL),
    JSON_F(struct body, secret, J_B64, J_OPTIONAL, .lo = 2, .hi = 4),
    JSON_F(struct body, extra, J_RAW, J_OPTIONAL, .hi = 16),
    JSON_F(struct body, id, J_UUID, J_OPTIONAL),
    JSON_F(struct body, at, J_TIME, J_OPTIONAL),
    JSON_F(struct body, n, J_INT, J_OPTIONAL, .lo = -5, .hi = 5),
    JSON_OPT(struct body, on, J_BOOL),
    JSON_F(struct body, ratio, J_NUM, J_OPTIONAL),
    JSON_F(struct body, colour, J_ENUM, J_OPTIONAL, .words = colours),
    JSON_F(struct body, hub, J_OBJECT, J_OPTIONAL, .fields = inner_fields),
    JSON_F(struct body, cameras, J_ARRAY, J_OPTIONAL, .fields = inner_fields, .size = sizeof(struct inner), .hi = 2),
    JSON_F(struct body, words, J_STRS, J_OPTIONAL, .hi = 2),
    J_END,
};

static enum pl_err take(const char *text, enum json_mode mode, struct pl_arena *a, struct body *b, struct pl_fail *fail)
{
    *b = (struct body){ 0 };
    return json_take(fields, mode, pl_str_of(text), a, b, fail);
}

static void every_type_is_taken(void **state)
{
    (void)state;
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 20);
    struct pl_fail fail = PL_FAIL_INIT;
    struct body b;
    const char *text = "{\"name\":\"gr\xc3\xbc\xc3\x9f\",\"email\":\" Anna@Example.ORG \",\"phone\":\"+4366412345678\",\"pin\":\"004711\",\"country\":\"AT\",\"secret\":\"Zm9v\","
                       "\"extra\":{\"a\": [1, 2]},\"id\":\"0190b5a1-0000-7000-8000-00000000dead\",\"at\":\"2026-11-21T08:58:00Z\",\"n\":-5,\"on\":true,\"ratio\":0.5,"
                       "\"colour\":\"green\",\"hub\":{\"serial\":\"plh-1234 5678\"},\"cameras\":[{\"serial\":\"PLC00000001\"},{\"serial\":\"PLC00000002\"}],\"words\":[\"x\",\"y\"]}";
    assert_int_equal(take(text, JSON_STRICT, a, &b, &fail), PL_OK);
    assert_true(pl_str_eqz(b.email, "anna@example.org"));
    assert_true(pl_str_eqz(b.pin, "004711")); /* leading zeros stay */
    assert_true(pl_str_eqz(b.secret, "foo"));
    assert_true(pl_str_eqz(b.extra, "{\"a\":[1,2]}"));
    assert_true(pl_str_eqz(b.hub.serial, "PLH12345678"));
    assert_true(b.n == -5 && b.on && b.has_on && b.colour == 1 && b.cameras.n == 2 && b.words.n == 2);
    assert_true(pl_str_eqz(((struct inner *)b.cameras.items)[1].serial, "PLC00000002"));
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    static const struct { const char *text, *field; } rows[] = {
        { "{}", "name" }, { "{\"name\":\"\"}", "name" }, { "{\"name\":\"sixsix\"}", "name" }, { "{\"name\":7}", "name" }, { "{\"name\":\"a\",\"nam\":1}", "nam" },
        { "{\"name\":\"a\",\"email\":\"anna\"}", "email" }, { "{\"name\":\"a\",\"email\":\"a@b\"}", "email" }, { "{\"name\":\"a\",\"email\":\"a@b.c\\r\\nBcc: x@y.z\"}", "email" },
        { "{\"name\":\"a\",\"email\":\"a@b@c.d\"}", "email" }, { "{\"name\":\"a\",\"phone\":\"0664123456\"}", "phone" }, { "{\"name\":\"a\",\"phone\":\"+43 664 1234\"}", "phone" },
        { "{\"name\":\"a\",\"pin\":\"12345\"}", "pin" }, { "{\"name\":\"a\",\"pin\":\"12345\xd9\xa1\"}", "pin" }, { "{\"name\":\"a\",\"pin\":123456}", "pin" },
        { "{\"name\":\"a\",\"country\":\"at\"}", "country" }, { "{\"name\":\"a\",\"secret\":\"Zg\"}", "secret" }, { "{\"name\":\"a\",\"secret\":\"Zm9vYmFy\"}", "secret" },
        { "{\"name\":\"a\",\"extra\":\"longer than sixteen\"}", "extra" }, { "{\"name\":\"a\",\"id\":\"7\"}", "id" }, { "{\"name\":\"a\",\"at\":\"today\"}", "at" },
        { "{\"name\":\"a\",\"n\":6}", "n" }, { "{\"name\":\"a\",\"n\":1.0}", "n" }, { "{\"name\":\"a\",\"on\":1}", "on" }, { "{\"name\":\"a\",\"colour\":\"blue\"}", "colour" },
        { "{\"name\":\"a\",\"hub\":{}}", "hub.serial" }, { "{\"name\":\"a\",\"hub\":{\"serial\":\"PLH12345\",\"x\":1}}", "hub.x" },
        { "{\"name\":\"a\",\"cameras\":[{\"serial\":\"short\"}]}", "cameras.serial" }, { "{\"name\":\"a\",\"cameras\":[1]}", "cameras" },
        { "{\"name\":\"a\",\"words\":[\"a\",\"b\",\"c\"]}", "words" },
    };
    struct body b;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 20);
        struct pl_fail fail = PL_FAIL_INIT;
        assert_int_equal(take(rows[i].text, JSON_STRICT, a, &b, &fail), PL_INVALID_REQUEST);
        assert_string_equal(fail.field, rows[i].field);
        assert_true(fail.detail[0]);
    }
}

static void what_is_no_json_is_refused(void **state)
{
    (void)state;
    static const char *const rows[] = { "", "[]", "7", "{", "{\"name\":\"a\",\"name\":\"b\"}", "{\"name\":\"a\"} x", "{\"name\":\"\xff\"}", "{\"name\":\"a\\u0000b\"}", "{\"name\":\"\\ud800\"}",
                                        "{\"name\":\"a\",\"extra\":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}" };
    struct body b;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 20);
        struct pl_fail fail = PL_FAIL_INIT;
        assert_int_equal(take(rows[i], JSON_STRICT, a, &b, &fail), PL_INVALID_REQUEST);
    }
}

/* Hubs of tomorrow may say more than we know: lenient tables ignore it, null stands for absent. */
static void lenient_ignores_what_it_does_not_know(void **state)
{
    (void)state;
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 20);
    struct pl_fail fail = PL_FAIL_INIT;
    struct body b;
    assert_int_equal(take("{\"name\":\"a\",\"new\":[1],\"hub\":{\"serial\":\"PLH12345\",\"x\":1},\"on\":null}", JSON_LENIENT, a, &b, &fail), PL_OK);
    assert_false(b.has_on);
}

static void no_memory_is_said(void **state)
{
    (void)state;
    struct body b;
    for (size_t n = 64; n < 1024; n += 64) {
        struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(n);
        struct pl_fail fail = PL_FAIL_INIT;
        enum pl_err e = take("{\"name\":\"abc\",\"email\":\"anna@example.org\",\"words\":[\"one\",\"two\"],\"cameras\":[{\"serial\":\"PLC00000001\"}]}", JSON_STRICT, a, &b, &fail);
        assert_true(e == PL_OK || e == PL_NO_MEMORY);
    }
}

/* Whichever request of jansson's parser is refused: it is said, and nothing is written where nothing is. The long string makes its buffer grow again and again. */
static void a_parser_that_is_refused_memory_stops(void **state)
{
    static const char head[] = "{\"a\":{\"b\":[1,2.5,true,null,\"", tail[] = "\\u00e4\"],\"c\":\"\\ud83d\\ude00\"}}";
    char text[4096];
    unsigned n = 0, refused = 0;
    enum pl_err e = PL_NO_MEMORY;
    (void)state;
    memset(text, 'x', sizeof text);
    memcpy(text, head, sizeof head - 1);
    memcpy(text + sizeof text - (sizeof tail - 1), tail, sizeof tail - 1);
    while (e != PL_OK) {
        struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
        pl_heap_fail_at(++n);
        e = json_parse((struct pl_str){ text, sizeof text }, &d, NULL);
        pl_heap_fail_at(0);
        assert_true(e == PL_OK ? d != NULL : e == PL_NO_MEMORY && !d);
        refused += e != PL_OK;
    }
    assert_true(refused > 20);
}

static void writer_puts_the_commas(void **state)
{
    (void)state;
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 16);
    struct pl_buf b = pl_buf_init(a, 4096);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_str(&w, "s", PL_STR("a\"b"));
    jw_array(&w, "list");
    jw_open(&w, NULL);
    jw_close(&w);
    jw_int(&w, NULL, -1);
    jw_array(&w, NULL);
    jw_end_array(&w);
    jw_end_array(&w);
    jw_bool(&w, "t", true);
    jw_null(&w, "z");
    jw_b64(&w, "k", "foo", 3);
    jw_str(&w, "none", PL_STR_NONE);
    jw_uuid(&w, "no_id", (struct pl_uuid){ { 0 } });
    jw_close(&w);
    assert_string_equal(b.p, "{\"s\":\"a\\\"b\",\"list\":[{},-1,[]],\"t\":true,\"z\":null,\"k\":\"Zm9v\",\"none\":null,\"no_id\":null}");
    assert_int_equal(pl_buf_err(&b), PL_OK);
    jw_close(&w); /* one too many is a mistake that shows */
    assert_int_equal(pl_buf_err(&b), PL_NO_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_taken), cmocka_unit_test(what_is_wrong_is_named), cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(lenient_ignores_what_it_does_not_know), cmocka_unit_test(no_memory_is_said), cmocka_unit_test(a_parser_that_is_refused_memory_stops),
        cmocka_unit_test(writer_puts_the_commas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
