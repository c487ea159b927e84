/* What is written to people: the texts that are built in, the operator's over them, and what they make of a message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "notify_int.h"
#include "pg_schema.h"
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCHEMA "t_notify_texts"
#define LIFE (40 * PL_MINUTE)

static struct pl_arena *arena;
static struct db *db;
static struct pl_rand_seeded rnd;
static struct pl_clock_fixed clk;
static struct pl_secret master = { { 9 } };
static struct pl_log log_root;

/* As C's own functions want it. */
static char *z(struct pl_str s)
{
    char *text = pl_str_z(arena, s);
    assert_non_null(text);
    return text;
}

static struct notify *with_settings(struct pl_str otp_domain)
{
    struct notify_conf c = { 0 };
    struct notify *n = NULL;
    struct pl_fail fail = PL_FAIL_INIT;
    assert_int_equal(conf_defaults(notify_conf_rows, &c, arena, &fail), PL_OK);
    c.otp_domain = otp_domain;
    assert_int_equal(notify_new(&c, &master, NULL, &log_root, &n, &fail), PL_OK);
    return n;
}

static struct notify *with_texts(const char *locale, const char *file, const char *text, struct pl_fail *fail)
{
    static char folder[] = "/tmp/porch-texts-XXXXXX";
    static bool made;
    struct notify_conf c = { 0 };
    struct notify *n = NULL;
    if (!made && !(made = mkdtemp(folder) != NULL))
        fail_msg("no folder");
    const char *sub = pl_fmt(arena, "%s/%s", folder, locale).p, *path = pl_fmt(arena, "%s/%s", sub, file).p;
    assert_true(path && (mkdir(sub, 0700) == 0 || errno == EEXIST));
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
    assert_int_equal(conf_defaults(notify_conf_rows, &c, arena, fail), PL_OK);
    c.messages = pl_str_of(folder);
    enum pl_err e = notify_new(&c, &master, NULL, &log_root, &n, fail);
    assert_int_equal(e == PL_OK, n != NULL);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(sub), 0);
    return n;
}

static struct pl_str text_in(const struct notify *n, enum notify_kind kind, const char *locale)
{
    struct notify_body b;
    struct notify_message m = { .kind = kind, .channel = NOTIFY_EMAIL, .to = PL_STR("eve@example.org"), .locale = pl_str_of(locale) };
    assert_int_equal(notify_render(n, &m, arena, &b), PL_OK);
    return b.text;
}

static void a_text_is_found_by_the_lookup_of_rfc_4647(void **state)
{
    (void)state;
    struct pl_fail fail = PL_FAIL_INIT;
    struct notify *n = with_texts("de-AT", "account_deleted.txt", "[subject]\nServus\n[email]\nBaba.\n", &fail);
    assert_non_null(n);
    assert_true(pl_str_eqz(text_in(n, NOTIFY_ACCOUNT_DELETED, "de-AT"), "Baba.\n"));
    assert_true(pl_str_eqz(text_in(n, NOTIFY_ACCOUNT_DELETED, "DE-at-1996-x-wien"), "Baba.\n"));
    static const struct { const char *asked, *found; } cases[] = { { "de-CH", "de" }, { "pt-BR", "pt" }, { "zh-Hant-TW", "en" }, { "", "en" }, { "fr", "fr" } };
    for (size_t i = 0; i < PL_COUNT(cases); i++)
        assert_true(pl_str_eq(text_in(n, NOTIFY_ACCOUNT_DELETED, cases[i].asked), text_in(n, NOTIFY_ACCOUNT_DELETED, cases[i].found)));
    /* What the folder lacks is still found. */
    assert_true(pl_str_eq(text_in(n, NOTIFY_CHANGE_UNDONE, "de-AT"), text_in(n, NOTIFY_CHANGE_UNDONE, "de")));
    assert_false(pl_str_eq(text_in(n, NOTIFY_CHANGE_UNDONE, "de"), text_in(n, NOTIFY_CHANGE_UNDONE, "en")));
    notify_free(n);
}

static void a_text_that_cannot_be_used_is_refused_with_its_line(void **state)
{
    (void)state;
    static const struct { const char *locale, *file, *text, *said; } cases[] = {
        { "de", "account_deleted.txt", "[subject]\nA\n[email]\nB\n{pin}\n", "account_deleted.txt:5: there is no such placeholder here: pin" },
        { "de", "hub_deleted.txt", "# ours\n[subject]\nAbout {about}\n[email]\nB\n", "hub_deleted.txt:3: there is no such placeholder here: about" },
        { "de", "hub_deleted.txt", "[subject]\nA\n[email]\n{about\n", "hub_deleted.txt:4: a { without its }" },
        { "de", "hub_deleted.txt", "[subject]\nA\nB\n[email]\n{about}\n", "hub_deleted.txt:2: this stands on one line: subject" },
        { "de", "hub_deleted.txt", "[subject]\nA\n", "hub_deleted.txt:2: a section is missing: email" },
        { "de", "hub_deleted.txt", "[subject]\nA\n[email]\nB\n[sms]\nC\n", "hub_deleted.txt:5: this message has no such section: sms" },
        { "de", "hub_deleted.txt", "Hello\n", "hub_deleted.txt:1: a section is expected first" },
        { "de", "hub_deleted.txt", "[subject]\nA\x07\n[email]\nB\n", "hub_deleted.txt:1: plain UTF-8" },
        { "de", "password_link.txt", "[subject]\nA\n[email]\nNo link\n", "password_link.txt:4: a placeholder is missing: about" },
        { "de", "pin.txt", "[voice]\nOnce: {pin}\n", "pin.txt:2: a placeholder is missing: pin" },
        { "de", "pin.txt", "[ask]\nPress 1, it is {pin}\n", "pin.txt:2: there is no such placeholder here: pin" },
        { "de", "pin.txt", "[word sleeping]\nZ\n", "pin.txt:1: this message has no such word: sleeping" },
        { "de", "greeting.txt", "[subject]\nA\n", "greeting.txt:1: there is no message of this name: greeting" },
        { "d", "pin.txt", "", "is no name of a locale" },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct pl_fail fail = PL_FAIL_INIT;
        assert_null(with_texts(cases[i].locale, cases[i].file, cases[i].text, &fail));
        assert_string_equal(fail.field, "notify.messages");
        if (!strstr(fail.detail, cases[i].said))
            fail_msg("%s is not in: %s", cases[i].said, fail.detail);
    }
}

/* What is longer would not fit into a message with its values: it stops the start, not the message. The longest that is taken can be sent, whatever people have typed. */
static void a_text_is_as_long_as_a_message_can_be(void **state)
{
    static const char head[] = "[subject]\nA\n[email]\n", tail[] = "{name}{about}\n";
    static char text[4096], typed[2000];
    (void)state;
    for (int more = 0; more < 2; more++) {
        struct pl_fail fail = PL_FAIL_INIT;
        struct pl_buf b = pl_buf_fixed(text, sizeof text - 1);
        pl_buf_z(&b, head);
        for (size_t i = sizeof tail - 2; i < 3000 + (size_t)more; i++)
            pl_buf_u8(&b, 'x');
        pl_buf_z(&b, tail);
        text[b.n] = '\0';
        struct notify *n = with_texts("de", "invitation.txt", text, &fail);
        assert_int_equal(n == NULL, more);
        if (more)
            assert_non_null(strstr(fail.detail, "invitation.txt:4: this is too long: email"));
        else {
            memset(typed, 'y', sizeof typed);
            struct pl_str link = { typed, 600 }, by = { typed, 320 };
            struct notify_message m = { .kind = NOTIFY_INVITATION, .channel = NOTIFY_EMAIL, .to = PL_STR("a@b.example"), .about = link, .name = by, .locale = PL_STR("de"), .life_us = PL_DAY };
            struct db_tx *tx = NULL;
            assert_int_equal(db_begin(db, arena, &tx), PL_OK);
            assert_int_equal(notify_queue(n, tx, &rnd.base, clk.utc, &m), PL_OK);
            db_rollbackp(&tx);
        }
        notify_free(n);
    }
}

static const char *const locales[] = { "en", "de", "fr", "es", "pt", "it", "nl" };

/* Every built-in text of a PIN: one text message, with the line that phones read; a call says the digits twice, one by one. */
static void s_p12_every_pin_fits_one_text_message_and_is_said_twice(void **state)
{
    (void)state;
    struct notify *n = with_settings(PL_STR("porchlight.example.com"));
    for (size_t l = 0; l < PL_COUNT(locales); l++)
        for (int w = 0; notify_rules[NOTIFY_PIN].words[w]; w++) {
            struct notify_body b;
            struct notify_message m = { .kind = NOTIFY_PIN, .channel = NOTIFY_SMS, .locale = pl_str_of(locales[l]), .about = pl_str_of(notify_rules[NOTIFY_PIN].words[w]),
                .pin = PL_STR("012345"), .ordinal = 1 + w % 5, .life_us = LIFE };
            assert_int_equal(notify_render(n, &m, arena, &b), PL_OK);
            const char *text = z(b.text), *last = strrchr(text, '\n');
            assert_true(pl_str_eqz(b.locale, locales[l]));
            assert_int_equal(notify_segments(b.text), 1);
            assert_non_null(last);
            assert_string_equal(last, "\n@porchlight.example.com #012345");
            assert_true(strstr(text, "012345") < last && strchr(text, '0' + m.ordinal) != NULL && !strchr(text, '{'));
            m.channel = NOTIFY_VOICE;
            assert_int_equal(notify_render(n, &m, arena, &b), PL_OK);
            char *first = strstr(z(b.text), "0, 1, 2, 3, 4, 5");
            assert_non_null(first);
            assert_non_null(strstr(first + 1, "0, 1, 2, 3, 4, 5"));
            assert_non_null(strchr(z(b.ask), NOTIFY_CALL_KEY[0]));
        }
    notify_free(n);
}

static void every_message_is_there_in_every_language(void **state)
{
    (void)state;
    struct notify *n = with_settings(PL_STR_NONE);
    for (size_t l = 0; l < PL_COUNT(locales); l++)
        for (int k = 0; k < NOTIFY_KINDS; k++) {
            const struct notify_text *t = notify_text_find(n->texts, (enum notify_kind)k, pl_str_of(locales[l]));
            assert_true(pl_str_eqz(t->locale, locales[l]));
            for (size_t o = 0; o < l; o++) /* and is no copy of another language's */
                assert_false(pl_str_eq(t->parts[NOTIFY_P_EMAIL], notify_text_find(n->texts, (enum notify_kind)k, pl_str_of(locales[o]))->parts[NOTIFY_P_EMAIL]) &&
                             t->parts[NOTIFY_P_EMAIL].n > sizeof "{about}");
        }
    notify_free(n);
}

/* 3GPP TS 23.038: 160 septets, 153 of each part; an escaped character is two; one letter outside makes all of it UCS-2, 70 and 67. */
static void text_messages_are_counted(void **state)
{
    (void)state;
    char many[400];
    static const struct { size_t n; const char *more; unsigned segments; } cases[] = { { 160, "", 1 }, { 161, "", 2 }, { 306, "", 2 }, { 307, "", 3 }, { 158, "\u20ac", 1 }, { 159, "\u20ac", 2 },
        { 69, "\u00ea", 1 }, { 70, "\u00ea", 2 }, { 159, "\u00e0", 1 }, { 68, "\U0001f600", 1 }, { 69, "\U0001f600", 2 }, { 133, "\u0142", 2 }, { 134, "\u0142", 3 } };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        memset(many, 'a', cases[i].n);
        assert_int_equal(notify_segments(pl_fmt(arena, "%.*s%s", (int)cases[i].n, many, cases[i].more)), cases[i].segments);
    }
    /* A character of two is not cut: these have room in two parts only by their sum. */
    assert_int_equal(notify_segments(pl_fmt(arena, "%0152d\u20ac%0152d", 0, 0)), 3);
    assert_int_equal(notify_segments(pl_fmt(arena, "\u0142%065d\U0001f600%066d", 0, 0)), 3);
}

static void ordinals_are_said_as_people_say_them(void **state)
{
    (void)state;
    struct notify *n = with_settings(PL_STR_NONE);
    static const struct { const char *locale; int32_t n; const char *said; } cases[] = { { "en", 1, "your 1st " }, { "en", 2, "your 2nd " }, { "en", 3, "your 3rd " }, { "en", 5, "your 5th " },
        { "de", 2, "Ihre 2. " }, { "fr", 1, "votre 1er " }, { "fr", 2, "votre 2e " }, { "nl", 3, "uw 3e " }, { "es", 4, "PIN 4 " } };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct notify_body b;
        struct notify_message m = { .kind = NOTIFY_PIN, .channel = NOTIFY_SMS, .locale = pl_str_of(cases[i].locale), .pin = PL_STR("123456"), .ordinal = cases[i].n, .about = PL_STR("log_in"),
            .life_us = LIFE };
        assert_int_equal(notify_render(n, &m, arena, &b), PL_OK);
        assert_non_null(strstr(z(b.text), cases[i].said));
        m.about = PL_STR("sleeping");
        assert_int_equal(notify_render(n, &m, arena, &b), PL_INTERNAL);
    }
    notify_free(n);
}

static int each_test(void **state)
{
    (void)state;
    pl_arena_reset(arena);
    return 0;
}

int main(void)
{
    if (secure_init() != PL_OK || !(arena = pl_arena_new(32 << 20)))
        return 1;
    db = pg_schema_open(SCHEMA);
    pl_rand_seed(&rnd, 42);
    pl_clock_fixed_init(&clk, INT64_C(1790000000000000));
    pl_log_level(PL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_text_is_found_by_the_lookup_of_rfc_4647, each_test),
        cmocka_unit_test_setup(a_text_that_cannot_be_used_is_refused_with_its_line, each_test),
        cmocka_unit_test_setup(a_text_is_as_long_as_a_message_can_be, each_test),
        cmocka_unit_test_setup(s_p12_every_pin_fits_one_text_message_and_is_said_twice, each_test),
        cmocka_unit_test_setup(every_message_is_there_in_every_language, each_test),
        cmocka_unit_test_setup(text_messages_are_counted, each_test),
        cmocka_unit_test_setup(ordinals_are_said_as_people_say_them, each_test),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    db_close(db);
    pl_arena_free(arena);
    return failed;
}
