/* pin against a real PostgreSQL, on a clock that the test moves: S-P1..S-P9. The PIN is read where a person reads it: in the message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "pg_schema.h"
#include "pin.h"

#define SCHEMA "t_pin"
#define PLENTY { 100000, 100000, 100000, 100000, 100000, 100000, 1, 1, 100000, 1000, 100000, 100000, 100000 } /* the limits have tests of their own */
#define T0 INT64_C(1790000000000000)

static struct pl_arena *arena;
static struct db *db;
static struct pl_rand_seeded rnd;
static struct notify *notify;
static struct pl_secret master = { { 7 } };
static struct pin pin;

static struct pl_utc at(int64_t s) { return (struct pl_utc){ T0 + s * PL_SECOND }; }
static struct pl_uuid new_id(void) { return pl_uuid7(&rnd.base, at(0)); }

static struct db_tx *begin(void)
{
    struct db_tx *tx = NULL;
    assert_int_equal(db_begin(db, arena, &tx), PL_OK);
    return tx;
}

/* Each test has the outbox and the challenges to itself. */
static int each_test(void **state)
{
    (void)state;
    pl_arena_reset(arena);
    assert_int_equal(pg_do(db, "DELETE FROM outbox"), PL_OK);
    assert_int_equal(pg_do(db, "DELETE FROM challenge"), PL_OK);
    return 0;
}

static struct pin_opened open_for(struct pl_uuid account, enum pin_purpose purpose, int64_t s)
{
    struct pin_opened o;
    struct pin_question q = { .purpose = purpose, .account_id = account, .subject_id = account, .channel = NOTIFY_EMAIL, .destination = PL_STR("eve@example.org"), .context = PL_STR("{}") };
    struct db_tx *tx = begin();
    assert_int_equal(pin_open(&pin, tx, at(s), &q, &o, NULL), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    return o;
}

static struct pin_opened open_log_in(int64_t s) { return open_for(new_id(), PIN_LOG_IN, s); }

/* The newest message that waits. .p NULL: none. */
static struct notify_listed newest(int64_t s)
{
    struct notify_listed *rows, none = { .pin = PL_STR_NONE };
    size_t n;
    struct db_tx *tx = begin();
    assert_int_equal(notify_list(notify, tx, at(s), &rows, &n), PL_OK);
    db_rollbackp(&tx);
    return n ? rows[0] : none;
}

static struct pl_str sent_pin(int64_t s) { return newest(s).pin; }

/* Another PIN than the given one, always the same other one. */
static struct pl_str wrong(struct pl_str right)
{
    char *p = pl_str_z(arena, right);
    p[0] = (char)('0' + (p[0] - '0' + 1) % 10);
    return (struct pl_str){ p, 6 };
}

static enum pl_err try_key(struct pl_uuid id, const char *key, struct pl_str given, int64_t s, struct pin_right *ret, struct pl_fail *fail)
{
    struct pl_fail f = PL_FAIL_INIT;
    enum pl_err e = pin_try(&pin, db, arena, at(s), id, pl_str_of(key), given, ret, &f);
    if (fail)
        *fail = f;
    return e;
}

static enum pl_err try(const struct pin_opened *o, struct pl_str given, int64_t s)
{
    struct pin_right r;
    return try_key(o->c.id, o->key, given, s, &r, NULL);
}

static enum pl_err resend(struct pin_opened *o, int64_t s, int32_t *ret_retry_after)
{
    struct pl_fail f = PL_FAIL_INIT;
    struct db_tx *tx = begin();
    enum pl_err e = pin_send(&pin, tx, at(s), NOTIFY_EMAIL, PL_STR("eve@example.org"), PL_STR_NONE, &o->c, &f);
    if (e == PL_OK)
        e = db_commit(&tx);
    db_rollbackp(&tx);
    if (ret_retry_after)
        *ret_retry_after = f.retry_after_s;
    return e;
}

/* ---- S-P1, S-P2 ---- */

static void s_p1_six_digits_over_the_whole_range(void **state)
{
    (void)state;
    unsigned leading[10] = { 0 };
    for (int i = 0; i < 200; i++) {
        open_log_in(0);
        struct pl_str p = sent_pin(0);
        assert_int_equal(p.n, 6);
        leading[p.p[0] - '0']++;
        assert_int_equal(pg_do(db, "DELETE FROM outbox"), PL_OK);
        pl_arena_reset(arena);
    }
    for (int d = 0; d < 10; d++)
        assert_in_range(leading[d], 5, 45); /* 20 each, far within six deviations; zeros lead as often as others */
}

static void s_p2_good_at_39_59_dead_at_40_00(void **state)
{
    (void)state;
    struct pin_opened a = open_log_in(0);
    assert_int_equal(try(&a, sent_pin(0), 39 * 60 + 59), PL_OK);
    each_test(NULL);
    struct pin_opened b = open_log_in(0);
    struct pl_str p = sent_pin(0);
    assert_int_equal(try(&b, p, 40 * 60), PL_PIN_EXPIRED);
}

static void s_p2_each_issue_has_its_own_40_minutes(void **state)
{
    (void)state;
    struct pin_opened o = open_log_in(0);
    assert_int_equal(resend(&o, 1800, NULL), PL_OK);
    struct pl_str p = sent_pin(1800);
    assert_int_equal(try(&o, p, 1800 + 2400), PL_PIN_EXPIRED);
    assert_int_equal(try(&o, p, 1800 + 2399), PL_OK);
}

/* ---- S-P3, S-P4 ---- */

static void s_p3_resend_waits_90_180_300_600(void **state)
{
    (void)state;
    static const int64_t waits[] = { 90, 180, 300, 600 };
    struct pin_opened o = open_log_in(0);
    int64_t now = 0;
    int32_t after;
    for (size_t i = 0; i < PL_COUNT(waits); i++) {
        assert_int_equal(resend(&o, now + waits[i] - 1, &after), PL_RESEND_TOO_SOON);
        assert_int_equal(after, 1);
        now += waits[i];
        assert_int_equal(resend(&o, now, NULL), PL_OK);
        assert_int_equal(o.c.sent_count, i + 2);
    }
    assert_int_equal(resend(&o, now + 100000, NULL), PL_NOT_FOUND);
    assert_int_equal(resend(&o, now + 1200, NULL), PL_RESEND_EXHAUSTED);
}

static void s_p4_a_new_pin_ends_the_old_and_tries_carry_over(void **state)
{
    (void)state;
    struct pin_right r;
    struct pl_fail f;
    struct pin_opened o = open_log_in(0);
    struct pl_str old = sent_pin(0);
    assert_int_equal(try(&o, wrong(old), 1), PL_PIN_WRONG);
    assert_int_equal(resend(&o, 90, NULL), PL_OK);
    struct pl_str new = sent_pin(90);
    assert_int_equal(o.c.tries, 1);
    /* Two draws are alike once in a million; then the number of the send still differs. */
    assert_int_equal(try_key(o.c.id, o.key, old, 91, &r, &f), PL_PIN_WRONG);
    assert_int_equal(f.attempts_left, 3);
    assert_int_equal(try(&o, new, 92), PL_OK);
}

static void s_p4_the_old_message_is_not_sent_any_more(void **state)
{
    (void)state;
    struct notify_listed *rows;
    size_t n;
    struct pin_opened o = open_log_in(0);
    assert_int_equal(resend(&o, 90, NULL), PL_OK);
    struct db_tx *tx = begin();
    assert_int_equal(notify_list(notify, tx, at(90), &rows, &n), PL_OK);
    assert_int_equal(n, 1);
    assert_non_null(strstr(pl_str_z(arena, rows[0].text), "your 2nd PIN"));
    db_rollbackp(&tx);
}

/* ---- S-P5, S-P6, S-P7 ---- */

static void s_p5_five_wrong_tries_end_the_challenge_over_resends(void **state)
{
    (void)state;
    struct pin_opened o = open_log_in(0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(try(&o, wrong(sent_pin(0)), 1), PL_PIN_WRONG);
    assert_int_equal(resend(&o, 90, NULL), PL_OK);
    struct pl_str right = sent_pin(90);
    for (int i = 0; i < 2; i++)
        assert_int_equal(try(&o, wrong(right), 91), PL_PIN_WRONG);
    assert_int_equal(try(&o, right, 92), PL_PIN_EXHAUSTED);
    assert_int_equal(resend(&o, 400, NULL), PL_PIN_EXHAUSTED);
}

/* What a guesser in parallel does: own connection, own arena. */
struct guesser {
    pthread_t thread;
    const struct pin_opened *o;
    struct pl_str given;
    unsigned calls, compared, right, spent;
};

static void *guess(void *arg)
{
    struct guesser *g = arg;
    struct db *own = pg_connect(pg_schema_conninfo(SCHEMA), 0);
    for (unsigned i = 0; i < g->calls; i++) {
        struct pl_arena *a = pl_arena_new(1 << 20);
        struct pin_right r;
        struct pl_fail f = PL_FAIL_INIT;
        enum pl_err e = pin_try(&pin, own, a, at(1), g->o->c.id, pl_str_of(g->o->key), g->given, &r, &f);
        g->compared += e == PL_OK || e == PL_PIN_WRONG;
        g->right += e == PL_OK;
        struct db_tx *tx = NULL;
        if (e == PL_OK && db_begin(own, a, &tx) == PL_OK && pin_spend(tx, at(1), &r) == PL_OK && db_commit(&tx) == PL_OK)
            g->spent++;
        db_rollbackp(&tx);
        pl_arena_free(a);
    }
    db_close(own);
    return NULL;
}

#define GUESSERS 8
static struct guesser guess_all(const struct pin_opened *o, struct pl_str given, unsigned calls)
{
    struct guesser g[GUESSERS], sum = { .calls = 0 };
    for (int i = 0; i < GUESSERS; i++) {
        g[i] = (struct guesser){ .o = o, .given = given, .calls = calls };
        assert_int_equal(pthread_create(&g[i].thread, NULL, guess, &g[i]), 0);
    }
    for (int i = 0; i < GUESSERS; i++) {
        pthread_join(g[i].thread, NULL);
        sum.compared += g[i].compared;
        sum.right += g[i].right;
        sum.spent += g[i].spent;
    }
    return sum;
}

static void s_p5_a_hundred_guesses_in_parallel_get_five_comparisons(void **state)
{
    (void)state;
    struct pin_opened o = open_log_in(0);
    struct guesser sum = guess_all(&o, wrong(sent_pin(0)), 13);
    assert_int_equal(sum.compared, 5);
    assert_int_equal(try(&o, sent_pin(0), 2), PL_PIN_EXHAUSTED);
}

static void s_p7_64_right_answers_in_parallel_unlock_once(void **state)
{
    (void)state;
    struct pin_opened o = open_log_in(0);
    struct guesser sum = guess_all(&o, sent_pin(0), 8);
    assert_int_equal(sum.spent, 1);
    assert_in_range(sum.right, 1, 5);
}

static enum pl_err open_again(struct pl_uuid account, enum pin_purpose purpose, int64_t s, struct pl_fail *f)
{
    struct pin_opened o;
    struct pin_question q = { .purpose = purpose, .account_id = account, .subject_id = account, .channel = NOTIFY_SMS, .destination = PL_STR("+436641234567"), .context = PL_STR_NONE };
    struct db_tx *tx = begin();
    enum pl_err e = pin_open(&pin, tx, at(s), &q, &o, f);
    db_rollbackp(&tx);
    return e;
}

static void s_p6_ten_wrong_in_24_hours_end_pins_of_that_purpose(void **state)
{
    (void)state;
    struct pl_uuid account = new_id();
    struct pl_fail f = PL_FAIL_INIT;
    for (int c = 0; c < 2; c++) {
        struct pin_opened o = open_for(account, PIN_LOG_IN, 10 + c * 3600);
        struct pl_str p = wrong(sent_pin(10 + c * 3600));
        for (int i = 0; i < 5; i++)
            assert_int_equal(try(&o, p, 10 + c * 3600), PL_PIN_WRONG);
    }
    assert_int_equal(open_again(account, PIN_LOG_IN, 4000, &f), PL_CHALLENGE_BUDGET);
    assert_int_equal(f.retry_after_s, 86400 + 10 - 4000);
    /* Another purpose and another account are not touched. */
    assert_int_equal(open_again(account, PIN_DELETE_HUB, 4000, NULL), PL_OK);
    assert_int_equal(open_again(new_id(), PIN_LOG_IN, 4000, NULL), PL_OK);
    assert_int_equal(open_again(account, PIN_LOG_IN, 10 + 86400, NULL), PL_OK);
}

/* Whatever challenges a sign-up has, for its e-mail and its phone: ten tries in all. */
static void s_p6_a_sign_up_has_ten_tries_over_all_its_challenges(void **state)
{
    (void)state;
    static const enum pin_purpose purposes[] = { PIN_SIGN_UP_EMAIL, PIN_SIGN_UP_PHONE, PIN_SIGN_UP_PHONE };
    static const int tries[] = { 4, 5, 1 };
    struct pl_uuid sign_up = new_id();
    struct pin_opened o;
    for (size_t k = 0; k < PL_COUNT(purposes); k++) {
        o = open_for(sign_up, purposes[k], (int64_t)k);
        struct pl_str p = wrong(sent_pin((int64_t)k));
        for (int i = 0; i < tries[k]; i++)
            assert_int_equal(try(&o, p, 10), PL_PIN_WRONG);
    }
    assert_int_equal(try(&o, sent_pin(2), 10), PL_CHALLENGE_BUDGET);
    assert_int_equal(open_again(sign_up, PIN_SIGN_UP_EMAIL, 11, NULL), PL_CHALLENGE_BUDGET);
    assert_int_equal(open_again(new_id(), PIN_SIGN_UP_PHONE, 11, NULL), PL_OK);
}

static void s_p6_the_tenth_wrong_try_closes_an_open_challenge_too(void **state)
{
    (void)state;
    struct pl_uuid account = new_id();
    struct pin_opened held = open_for(account, PIN_LOG_IN, 0);
    struct pl_str held_pin = sent_pin(0);
    for (int c = 0; c < 2; c++) {
        struct pin_opened o = open_for(account, PIN_LOG_IN, 1 + c);
        struct pl_str p = wrong(sent_pin(1 + c));
        for (int i = 0; i < 5; i++)
            assert_int_equal(try(&o, p, 5), PL_PIN_WRONG);
    }
    assert_int_equal(try(&held, held_pin, 6), PL_CHALLENGE_BUDGET);
    assert_int_equal(resend(&held, 100, NULL), PL_CHALLENGE_BUDGET);
}

static void a_right_try_is_taken_back(void **state)
{
    (void)state;
    struct pl_uuid account = new_id();
    for (int i = 0; i < 12; i++) {
        struct pin_right r;
        struct pin_opened o = open_for(account, PIN_LOG_IN, i);
        struct db_tx *tx;
        assert_int_equal(try_key(o.c.id, o.key, sent_pin(i), i, &r, NULL), PL_OK);
        tx = begin();
        assert_int_equal(pin_spend(tx, at(i), &r), PL_OK);
        assert_int_equal(db_commit(&tx), PL_OK);
        assert_int_equal(try(&o, PL_STR("000000"), i), PL_CHALLENGE_SPENT);
    }
}

/* ---- S-P8, S-P9 ---- */

static void s_p8_a_pin_or_key_of_another_challenge_is_a_wrong_try(void **state)
{
    (void)state;
    struct pin_right r;
    struct pl_fail f;
    struct pl_uuid account = new_id();
    struct pin_opened a = open_for(account, PIN_LOG_IN, 0);
    struct pl_str pin_a = sent_pin(0);
    struct pin_opened b = open_for(account, PIN_LOG_IN, 1);
    assert_int_equal(try_key(b.c.id, b.key, pin_a, 2, &r, &f), PL_PIN_WRONG); /* other challenge's PIN */
    assert_int_equal(f.attempts_left, 4);
    assert_int_equal(try_key(a.c.id, b.key, pin_a, 2, &r, &f), PL_PIN_WRONG); /* other challenge's key */
    assert_int_equal(f.attempts_left, 4);
    assert_int_equal(try_key(a.c.id, "plck_x", pin_a, 2, &r, &f), PL_PIN_WRONG);
    assert_int_equal(f.attempts_left, 3);
    assert_int_equal(try(&a, pin_a, 3), PL_OK);
}

/* Whoever can write the database still cannot move a PIN: each column that it is bound to is part of the hash. */
static void s_p8_a_changed_row_makes_the_pin_wrong(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "UPDATE challenge SET purpose = 'delete_account'",
        "UPDATE challenge SET account_id = '00000000-0000-7000-8000-000000000001'",
        "UPDATE challenge SET subject_id = '00000000-0000-7000-8000-000000000001'",
        "UPDATE challenge SET client_id = '00000000-0000-7000-8000-000000000001'",
        "UPDATE challenge SET channel = 'sms'",
        "UPDATE challenge SET destination = 'mallory@example.org'",
        "UPDATE challenge SET sent_count = 2",
    };
    for (size_t i = 0; i < PL_COUNT(changes); i++) {
        each_test(NULL);
        struct pin_opened o = open_log_in(0);
        struct pl_str p = sent_pin(0);
        assert_int_equal(pg_do(db, changes[i]), PL_OK);
        assert_int_equal(try(&o, p, 1), PL_PIN_WRONG);
    }
    each_test(NULL);
    struct pin_opened o = open_log_in(0);
    assert_int_equal(try(&o, sent_pin(0), 1), PL_OK);
}

static void s_p9_two_key_ids_live(void **state)
{
    (void)state;
    struct pin_opened o = open_log_in(0);
    struct pl_str p = sent_pin(0);
    struct pin was = pin;
    pin_init(&pin, &(struct pin_conf){ .limits = PLENTY, .life = 40 * PL_MINUTE, .key_id = 2 }, &master, notify, &rnd.base);
    assert_int_equal(try(&o, p, 1), PL_OK);
    pin_init(&pin, &(struct pin_conf){ .limits = PLENTY, .life = 40 * PL_MINUTE, .key_id = 3 }, &master, notify, &rnd.base);
    assert_int_equal(try(&o, p, 1), PL_PIN_WRONG);
    pin = was;
}

static void s_a5_a_decoy_looks_alike_and_never_verifies(void **state)
{
    (void)state;
    char real[512], fake[512];
    struct pin_opened o;
    struct pin_question q = { .purpose = PIN_SIGN_UP_EMAIL, .subject_id = new_id(), .channel = NOTIFY_EMAIL, .destination = PL_STR("eve@example.org"), .context = PL_STR_NONE, .decoy = true };
    struct db_tx *tx = begin();
    assert_int_equal(pin_open(&pin, tx, at(0), &q, &o, NULL), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    struct notify_listed m = newest(0);
    assert_null(m.pin.p);
    assert_true(pl_str_eqz(m.kind, "sign_up_taken"));
    assert_int_equal(try(&o, PL_STR("123456"), 1), PL_PIN_WRONG);
    /* What a caller sees is the same but for the id. */
    q.decoy = false;
    struct pin_opened p;
    tx = begin();
    assert_int_equal(pin_open(&pin, tx, at(0), &q, &p, NULL), PL_OK);
    db_rollbackp(&tx);
    struct pl_buf rb = pl_buf_fixed(real, sizeof real), fb = pl_buf_fixed(fake, sizeof fake);
    struct jw rw = jw_start(&rb), fw = jw_start(&fb);
    p.c.id = o.c.id;
    jw_open(&rw, NULL);
    pin_write(&rw, &p.c, at(0), NULL);
    jw_close(&rw);
    jw_open(&fw, NULL);
    pin_write(&fw, &o.c, at(0), NULL);
    jw_close(&fw);
    assert_string_equal(real, fake);
    assert_null(strstr(real, "eve@"));
}

static void only_its_key_shows_a_challenge(void **state)
{
    (void)state;
    struct pin_challenge c;
    struct pin_opened a = open_log_in(0), b = open_log_in(0);
    struct db_tx *tx = begin();
    assert_int_equal(pin_get(tx, at(1), a.c.id, pl_str_of(a.key), &c), PL_OK);
    assert_int_equal(pin_get(tx, at(1), a.c.id, pl_str_of(b.key), &c), PL_NOT_FOUND);
    assert_int_equal(pin_get(tx, at(1), a.c.id, PL_STR_NONE, &c), PL_NOT_FOUND);
    assert_int_equal(pin_get(tx, at(1), new_id(), pl_str_of(a.key), &c), PL_NOT_FOUND);
    db_rollbackp(&tx);
}

int main(void)
{
    struct pl_fail fail = PL_FAIL_INIT;
    struct pl_log log = { 0 };
    struct notify_conf nc = { 0 };
    if (secure_init() != PL_OK || !(arena = pl_arena_new(32 << 20)))
        return 1;
    db = pg_schema_open(SCHEMA);
    pl_rand_seed(&rnd, 4711);
    if (conf_defaults(notify_conf_rows, &nc, arena, &fail) != PL_OK || notify_new(&nc, &master, NULL, &log, &notify, &fail) != PL_OK)
        return 1;
    pin_init(&pin, &(struct pin_conf){ .limits = PLENTY, .life = 40 * PL_MINUTE, .key_id = 1 }, &master, notify, &pl_rand_system);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(s_p1_six_digits_over_the_whole_range, each_test),
        cmocka_unit_test_setup(s_p2_good_at_39_59_dead_at_40_00, each_test),
        cmocka_unit_test_setup(s_p2_each_issue_has_its_own_40_minutes, each_test),
        cmocka_unit_test_setup(s_p3_resend_waits_90_180_300_600, each_test),
        cmocka_unit_test_setup(s_p4_a_new_pin_ends_the_old_and_tries_carry_over, each_test),
        cmocka_unit_test_setup(s_p4_the_old_message_is_not_sent_any_more, each_test),
        cmocka_unit_test_setup(s_p5_five_wrong_tries_end_the_challenge_over_resends, each_test),
        cmocka_unit_test_setup(s_p5_a_hundred_guesses_in_parallel_get_five_comparisons, each_test),
        cmocka_unit_test_setup(s_p6_ten_wrong_in_24_hours_end_pins_of_that_purpose, each_test),
        cmocka_unit_test_setup(s_p6_a_sign_up_has_ten_tries_over_all_its_challenges, each_test),
        cmocka_unit_test_setup(s_p6_the_tenth_wrong_try_closes_an_open_challenge_too, each_test),
        cmocka_unit_test_setup(s_p7_64_right_answers_in_parallel_unlock_once, each_test),
        cmocka_unit_test_setup(a_right_try_is_taken_back, each_test),
        cmocka_unit_test_setup(s_p8_a_pin_or_key_of_another_challenge_is_a_wrong_try, each_test),
        cmocka_unit_test_setup(s_p8_a_changed_row_makes_the_pin_wrong, each_test),
        cmocka_unit_test_setup(s_p9_two_key_ids_live, each_test),
        cmocka_unit_test_setup(s_a5_a_decoy_looks_alike_and_never_verifies, each_test),
        cmocka_unit_test_setup(only_its_key_shows_a_challenge, each_test),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    notify_free(notify);
    db_close(db);
    pl_arena_free(arena);
    return failed;
}
