/* factor against a real PostgreSQL, on a clock that the test moves: S-P13, S-P14. Passkeys are shown by tests/it/test_factors.py, with keys of other makers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "factor.h"
#include "pg_schema.h"

#define SCHEMA "t_factor"
#define T0 INT64_C(1790000010000000) /* the beginning of a step */

static struct pl_arena *arena;
static struct db *db;
static struct pl_secret master = { { 9 } };
static struct factor factor;

static struct pl_utc at(int64_t s) { return (struct pl_utc){ T0 + s * PL_SECOND }; }
static struct pl_uuid new_id(void) { return pl_uuid7(&pl_rand_system, at(0)); }

static struct db_tx *begin(void)
{
    struct db_tx *tx = NULL;
    assert_int_equal(db_begin(db, arena, &tx), PL_OK);
    return tx;
}

/* ---- TOTP ---- */

static void s_p13_the_codes_are_those_of_rfc_6238(void **state)
{
    (void)state;
    /* Appendix B, SHA-1; the last six of its eight digits. */
    static const struct { uint64_t seconds; const char *code; } cases[] = { { 59, "287082" }, { 1111111109, "081804" }, { 1111111111, "050471" },
        { 1234567890, "005924" }, { 2000000000, "279037" }, { 20000000000, "353130" } };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        char code[7];
        assert_int_equal(factor_totp_code((const uint8_t *)"12345678901234567890", 20, cases[i].seconds / 30, code), PL_OK);
        assert_string_equal(code, cases[i].code);
    }
}

/* RFC 4648 base32, as an authenticator app reads the secret. */
static void unbase32(const char *text, uint8_t key[20])
{
    uint64_t bits = 0;
    unsigned have = 0, n = 0;
    assert_int_equal(strlen(text), 32);
    for (; *text; text++) {
        unsigned v = *text >= 'A' && *text <= 'Z' ? (unsigned)(*text - 'A') : (unsigned)(*text - '2' + 26);
        assert_true(v < 32);
        bits = bits << 5 | v;
        have += 5;
        if (have >= 8) {
            have -= 8;
            key[n++] = (uint8_t)(bits >> have);
        }
    }
    assert_int_equal(n, 20);
}

struct app { /* somebody's authenticator */
    struct pl_uuid account;
    uint8_t key[20];
};

static struct pl_str shown(const struct app *app, int64_t s)
{
    static _Thread_local char code[7];
    assert_int_equal(factor_totp_code(app->key, sizeof app->key, (uint64_t)((T0 / PL_SECOND + s) / 30), code), PL_OK);
    return (struct pl_str){ code, 6 };
}

static struct app app_set_up(void)
{
    struct app app = { .account = new_id() };
    char secret[FACTOR_SECRET_TEXT];
    struct db_tx *tx = begin();
    assert_int_equal(factor_totp_begin(&factor, tx, at(0), app.account, secret), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    unbase32(secret, app.key);
    return app;
}

static enum pl_err confirm(const struct app *app, struct pl_str code, int64_t s)
{
    struct db_tx *tx = begin();
    enum pl_err e = factor_totp_confirm(&factor, tx, at(s), app->account, code);
    if (e == PL_OK)
        return db_commit(&tx);
    db_rollbackp(&tx);
    return e;
}

static enum pl_err take_with(struct db *with, struct pl_arena *a, const struct app *app, struct pl_str code, int64_t s)
{
    struct db_tx *tx = NULL;
    enum pl_err e = db_begin(with, a, &tx);
    if (e == PL_OK && (e = factor_totp_take(&factor, tx, at(s), app->account, code)) == PL_OK)
        return db_commit(&tx);
    db_rollbackp(&tx);
    return e;
}
static enum pl_err take(const struct app *app, struct pl_str code, int64_t s) { return take_with(db, arena, app, code, s); }

static void s_p13_a_step_is_accepted_once(void **state)
{
    (void)state;
    struct app app = app_set_up();
    assert_int_equal(take(&app, shown(&app, 0), 0), PL_PIN_WRONG); /* not confirmed yet */
    assert_int_equal(confirm(&app, PL_STR("000000"), 0), PL_PIN_WRONG);
    assert_int_equal(confirm(&app, shown(&app, 0), 0), PL_OK);
    assert_int_equal(confirm(&app, shown(&app, 30), 30), PL_NOT_FOUND); /* nothing waits any more */
    assert_int_equal(take(&app, shown(&app, 0), 1), PL_PIN_WRONG);      /* the confirmation took this step */
    assert_int_equal(take(&app, shown(&app, 30), 29), PL_OK);           /* a clock that is ahead */
    assert_int_equal(take(&app, shown(&app, 30), 31), PL_PIN_WRONG);
    assert_int_equal(take(&app, shown(&app, 90), 90), PL_OK);
    assert_int_equal(take(&app, shown(&app, 60), 91), PL_PIN_WRONG); /* before one that was taken */
    assert_int_equal(take(&app, shown(&app, 120), 180), PL_PIN_WRONG); /* two steps ago */
    assert_int_equal(take(&app, shown(&app, 150), 209), PL_OK);
    assert_int_equal(take(&app, shown(&app, 300), 209), PL_PIN_WRONG); /* far ahead */
}

struct racer {
    pthread_t thread;
    const struct app *app;
    struct pl_str code;
    enum pl_err e;
};
static void *race(void *arg)
{
    struct racer *r = arg;
    struct db *own = pg_connect(pg_schema_conninfo(SCHEMA), 0);
    struct pl_arena *a = pl_arena_new(1 << 16);
    do
        r->e = take_with(own, a, r->app, r->code, 0);
    while (r->e == PL_RETRY);
    pl_arena_free(a);
    db_close(own);
    return NULL;
}

static void s_p13_of_many_at_once_one_takes_the_step(void **state)
{
    (void)state;
    struct app app = app_set_up();
    struct racer racers[16];
    unsigned won = 0;
    assert_int_equal(confirm(&app, shown(&app, -30), -30), PL_OK);
    for (size_t i = 0; i < PL_COUNT(racers); i++) {
        racers[i] = (struct racer){ .app = &app, .code = pl_str_dup(arena, shown(&app, 0)) };
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (size_t i = 0; i < PL_COUNT(racers); i++) {
        pthread_join(racers[i].thread, NULL);
        won += racers[i].e == PL_OK;
        assert_true(racers[i].e == PL_OK || racers[i].e == PL_PIN_WRONG);
    }
    assert_int_equal(won, 1);
}

static void a_confirmed_app_is_not_replaced_by_a_new_secret(void **state)
{
    (void)state;
    struct app app = app_set_up();
    char secret[FACTOR_SECRET_TEXT];
    struct db_tx *tx = begin();
    assert_int_equal(factor_totp_begin(&factor, tx, at(1), app.account, secret), PL_OK); /* not confirmed: the newer one counts */
    assert_int_equal(db_commit(&tx), PL_OK);
    assert_int_equal(confirm(&app, shown(&app, 0), 0), PL_PIN_WRONG);
    unbase32(secret, app.key);
    assert_int_equal(confirm(&app, shown(&app, 0), 0), PL_OK);
    tx = begin();
    assert_int_equal(factor_totp_begin(&factor, tx, at(2), app.account, secret), PL_FACTOR_EXISTS);
    assert_int_equal(factor_totp_remove(tx, app.account), PL_OK);
    assert_int_equal(factor_totp_remove(tx, app.account), PL_NOT_FOUND);
    assert_int_equal(db_commit(&tx), PL_OK);
    assert_int_equal(take(&app, shown(&app, 60), 60), PL_PIN_WRONG);
}

static void the_secret_stands_sealed_for_its_account(void **state)
{
    (void)state;
    struct app app = app_set_up(), other = { .account = new_id() };
    assert_int_equal(confirm(&app, shown(&app, 0), 0), PL_OK);
    char from[PL_UUID_TEXT], to[PL_UUID_TEXT];
    pl_uuid_text(app.account, from);
    pl_uuid_text(other.account, to);
    struct pl_str copy = pl_fmt(arena, "INSERT INTO factor_totp (account_id, secret_sealed, created_at, confirmed_at, last_step) SELECT '%s', secret_sealed, created_at, confirmed_at, 0 "
                                       "FROM factor_totp WHERE account_id = '%s' AND position('\\x%s'::bytea in secret_sealed) = 0", to, from, pl_hex(arena, app.key, 20).p);
    assert_int_equal(pg_do(db, copy.p), PL_OK); /* the row holds no plain secret */
    memcpy(other.key, app.key, sizeof other.key);
    assert_int_equal(take(&other, shown(&other, 60), 60), PL_INTERNAL);
}

static void the_uri_says_what_an_app_needs(void **state)
{
    (void)state;
    struct pl_str uri;
    assert_int_equal(factor_totp_uri(&factor, arena, "ABCDEFGHABCDEFGHABCDEFGHABCDEFGH", PL_STR("eve+a@example.org"), &uri), PL_OK);
    assert_true(pl_str_eqz(uri, "otpauth://totp/My%20Cams:eve%2Ba%40example.org?secret=ABCDEFGHABCDEFGHABCDEFGHABCDEFGH&issuer=My%20Cams"));
}

/* ---- recovery codes ---- */

static void new_codes(struct pl_uuid account, char codes[FACTOR_CODES][FACTOR_CODE_TEXT])
{
    struct db_tx *tx = begin();
    assert_int_equal(factor_recovery_make(&factor, tx, at(0), account, codes), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
}

static enum pl_err use(struct pl_uuid account, const char *code)
{
    struct db_tx *tx = begin();
    enum pl_err e = factor_recovery_take(&factor, tx, account, pl_str_of(code));
    if (e == PL_OK)
        return db_commit(&tx);
    db_rollbackp(&tx);
    return e;
}

static int64_t left(struct pl_uuid account)
{
    struct factor_set set;
    struct db_tx *tx = begin();
    assert_int_equal(factor_look(tx, account, &set), PL_OK);
    db_rollbackp(&tx);
    return set.recovery_codes;
}

static void s_p14_ten_codes_each_good_once(void **state)
{
    (void)state;
    struct pl_uuid account = new_id(), stranger = new_id();
    char codes[FACTOR_CODES][FACTOR_CODE_TEXT], newer[FACTOR_CODES][FACTOR_CODE_TEXT];
    new_codes(account, codes);
    assert_int_equal(left(account), 10);
    for (size_t i = 0; i < FACTOR_CODES; i++) {
        assert_int_equal(strlen(codes[i]), 19); /* 16 digits of 5 bits: 80 bits */
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(codes[i], codes[j]);
    }
    assert_int_equal(use(stranger, codes[0]), PL_PIN_WRONG);
    assert_int_equal(use(account, codes[0]), PL_OK);
    assert_int_equal(use(account, codes[0]), PL_PIN_WRONG);
    assert_int_equal(left(account), 9);
    new_codes(account, newer);
    assert_int_equal(use(account, codes[1]), PL_PIN_WRONG); /* void with the new ones */
    assert_int_equal(use(account, newer[9]), PL_OK);
}

static void s_p14_a_code_may_be_written_as_people_write(void **state)
{
    (void)state;
    struct pl_uuid account = new_id();
    char codes[FACTOR_CODES][FACTOR_CODE_TEXT], sloppy[64];
    new_codes(account, codes);
    struct pl_buf b = pl_buf_fixed(sloppy, sizeof sloppy);
    for (const char *p = codes[0]; *p; p++) {
        char c = *p == '0' ? 'o' : *p == '1' ? 'l' : *p == '-' ? ' ' : *p >= 'A' ? (char)(*p - 'A' + 'a') : *p;
        pl_buf_add(&b, &c, 1);
    }
    pl_buf_add(&b, "", 1);
    assert_int_equal(use(account, sloppy), PL_OK);
    static const char *const none[] = { "", "0", "0000-0000-0000-000", "0000-0000-0000-00000", "UUUU-UUUU-UUUU-UUUU", "0000-0000-0000-000\x01", "----------------", NULL };
    for (size_t i = 0; none[i]; i++)
        assert_int_equal(use(account, none[i]), PL_PIN_WRONG);
}

static void what_an_account_had_is_forgotten(void **state)
{
    (void)state;
    struct app app = app_set_up();
    char codes[FACTOR_CODES][FACTOR_CODE_TEXT];
    struct factor_set set;
    assert_int_equal(confirm(&app, shown(&app, 0), 0), PL_OK);
    new_codes(app.account, codes);
    struct db_tx *tx = begin();
    assert_int_equal(factor_forget(tx, app.account), PL_OK);
    assert_int_equal(factor_look(tx, app.account, &set), PL_OK);
    assert_true(!set.totp && !set.recovery_codes && !set.passkeys);
    assert_int_equal(db_commit(&tx), PL_OK);
}

int main(void)
{
    if (secure_init() != PL_OK || !(arena = pl_arena_new(32 << 20)))
        return 1;
    db = pg_schema_open(SCHEMA);
    factor_init(&factor, &(struct factor_conf){ .rp_id = PL_STR(""), .origins = PL_STR(""), .issuer = PL_STR("My Cams") }, &master, &pl_rand_system);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s_p13_the_codes_are_those_of_rfc_6238),
        cmocka_unit_test(s_p13_a_step_is_accepted_once),
        cmocka_unit_test(s_p13_of_many_at_once_one_takes_the_step),
        cmocka_unit_test(a_confirmed_app_is_not_replaced_by_a_new_secret),
        cmocka_unit_test(the_secret_stands_sealed_for_its_account),
        cmocka_unit_test(the_uri_says_what_an_app_needs),
        cmocka_unit_test(s_p14_ten_codes_each_good_once),
        cmocka_unit_test(s_p14_a_code_may_be_written_as_people_write),
        cmocka_unit_test(what_an_account_had_is_forgotten),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    factor_done(&factor);
    db_close(db);
    pl_arena_free(arena);
    return failed;
}
