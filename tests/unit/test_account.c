/* account below its routes, against a real PostgreSQL: passwords (S-A1, S-A2), hashes (S-A3), sessions and tokens (S-S1..S-S3), grants, uniqueness. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "account_int.h"
#include "pg_schema.h"

#define SCHEMA "t_account"
#define PLENTY { 100000, 100000, 100000, 100000, 100000, 100000, 1, 1, 100000, 1000, 100000 } /* the limits have tests of their own */
#define T0 INT64_C(1790000000000000)
#define ACCESS (15 * PL_MINUTE)

static struct pl_arena *arena;
static struct db *db;
static struct pl_rand_seeded rnd;
static struct pl_clock_fixed clk;
static struct pl_secret master = { { 5 } };
static struct pl_log log_root;
static struct notify *notify;
static struct account *ctx;
static int number;

static struct pl_utc at(int64_t us) { return (struct pl_utc){ T0 + us }; }

static struct db_tx *begin(void)
{
    struct db_tx *tx = NULL;
    assert_int_equal(db_begin(db, arena, &tx), PL_OK);
    return tx;
}

static int each_test(void **state)
{
    (void)state;
    pl_arena_reset(arena);
    return 0;
}

/* ---- passwords ---- */

static enum pl_err take(const char *password, struct pl_fail *fail)
{
    struct pl_str out;
    return account_password_take(arena, pl_str_of(password), PL_STR("eve.smith@example.org"), &out, fail);
}

static void s_a1_8_to_128_code_points_of_any_kind(void **state)
{
    (void)state;
    char long_[600] = "";
    struct pl_buf b = pl_buf_fixed(long_, sizeof long_);
    for (int i = 0; i < 64; i++)
        pl_buf_z(&b, "\xc3\xa4o"); /* 128 code points, 192 bytes */
    assert_int_equal(take(long_, NULL), PL_OK);
    pl_buf_z(&b, "x");
    assert_int_equal(take(long_, NULL), PL_PASSWORD_REFUSED);
    assert_int_equal(take("r7 k.p q", NULL), PL_OK);
    assert_int_equal(take("r7 k.pq", NULL), PL_PASSWORD_REFUSED);
    assert_int_equal(take("\xf0\x9f\x90\xb8\xf0\x9f\x90\x9d\xf0\x9f\x90\xb8\xf0\x9f\xa6\x8a\xf0\x9f\x90\xbb\xf0\x9f\x90\xbc\xf0\x9f\x90\xa8\xf0\x9f\x90\xaf", NULL), PL_OK);
    assert_int_equal(take("", NULL), PL_PASSWORD_REFUSED);
}

static void s_a1_is_normalised_once_and_keeps_blanks(void **state)
{
    (void)state;
    struct pl_str composed, decomposed, spaced;
    struct pl_str email = PL_STR("x@example.org");
    assert_int_equal(account_password_take(arena, PL_STR("Gr\xc3\xbc\xc3\x9f Gott 7"), email, &composed, NULL), PL_OK);
    assert_int_equal(account_password_take(arena, PL_STR("Gru\xcc\x88\xc3\x9f Gott 7"), email, &decomposed, NULL), PL_OK);
    assert_true(pl_str_eq(composed, decomposed));
    assert_int_equal(account_password_take(arena, PL_STR("  two blanks  "), email, &spaced, NULL), PL_OK);
    assert_true(pl_str_eqz(spaced, "  two blanks  "));
}

static void s_a2_what_is_guessed_first_is_refused_with_the_reason(void **state)
{
    (void)state;
    static const struct { const char *password, *says; } cases[] = {
        { "password", "Many people" }, { "Password123!", "Many people" }, { "QWERTY2024", "Many people" }, { "12345678", "Many people" }, { "aaaaaaaaaa", "Many people" },
        { "abcdefghij", "Many people" }, { "20011231", "Many people" }, { "Summer2026!", "Many people" }, { "Porchlight1", "product" }, { "porchlight", "product" },
        { "eve.smith", "e-mail" }, { "Eve.Smith99", "e-mail" }, { "EVE.SMITH@example.org", "e-mail" },
    };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct pl_fail f = PL_FAIL_INIT;
        assert_int_equal(take(cases[i].password, &f), PL_PASSWORD_REFUSED);
        assert_non_null(strstr(f.detail, cases[i].says));
        assert_string_equal(f.field, "password");
    }
    assert_int_equal(take("light on the porch", NULL), PL_OK);
    assert_int_equal(take("correct horse battery staple", NULL), PL_OK);
}

static void s_a3_a_hash_of_a_weaker_policy_is_known_and_wants_to_be_made_anew(void **state)
{
    (void)state;
    char hash[SECURE_PASSWORD_TEXT];
    bool rehash = true;
    assert_int_equal(account_password_hash(PL_STR("some password"), hash), PL_OK);
    assert_non_null(strstr(hash, "$argon2id$v=19$m=19456,t=2,p=1$"));
    assert_int_equal(account_password_verify(pl_str_of(hash), PL_STR("some password"), &rehash), PL_OK);
    assert_false(rehash);
    assert_int_equal(account_password_verify(pl_str_of(hash), PL_STR("some passwore"), &rehash), PL_INVALID_CREDENTIALS);
    /* The same hash under a policy that has risen since. */
    assert_int_equal(secure_password_verify(pl_str_of(hash), PL_STR("some password"), (struct secure_password_policy){ .passes = 3 }, &rehash), PL_OK);
    assert_true(rehash);
}

/* ---- accounts ---- */

static enum pl_err make(const char *email, const char *phone, struct pl_uuid *ret)
{
    struct account_new_row row = { .email = pl_str_of(email), .phone = pl_str_of(phone), .password_hash = PL_STR("$argon2id$"), .country = PL_STR("AT"), .region = PL_STR("eu") };
    struct db_tx *tx = begin();
    *ret = pl_uuid7(&rnd.base, at(0));
    enum pl_err e = account_insert(tx, &rnd.base, at(0), *ret, &row);
    if (e == PL_OK)
        e = db_commit(&tx);
    db_rollbackp(&tx);
    return e;
}

static struct pl_uuid fresh(void)
{
    struct pl_uuid id;
    number++;
    assert_int_equal(make(pl_fmt(arena, "p%d@example.org", number).p, pl_fmt(arena, "+4366400%05d", number).p, &id), PL_OK);
    return id;
}

static void one_account_has_one_email_and_one_phone(void **state)
{
    (void)state;
    struct pl_uuid id;
    assert_int_equal(make("one@example.org", "+43660111111", &id), PL_OK);
    assert_int_equal(make("one@example.org", "+43660222222", &id), PL_EMAIL_TAKEN);
    assert_int_equal(make("two@example.org", "+43660111111", &id), PL_PHONE_TAKEN);
    assert_int_equal(make("two@example.org", "+43660222222", &id), PL_OK);
}

/* ---- sessions ---- */

static struct pl_str key_hash(char c)
{
    char *p = pl_alloc(arena, 32);
    assert_non_null(p);
    memset(p, c, 32);
    return (struct pl_str){ p, 32 };
}

static struct account_tokens session_at(struct pl_uuid account, struct pl_str key, int64_t us)
{
    struct account_tokens t;
    struct account_client client = { .name = PL_STR("Phone"), .platform = PL_STR("android"), .key_hash = key };
    struct db_tx *tx = begin();
    assert_int_equal(account_session_open(ctx, tx, at(us), account, &client, &t), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    return t;
}

static enum pl_err auth(const char *token, int64_t us)
{
    struct http_actor actor;
    struct db_tx *tx = begin();
    enum pl_err e = account_authenticate(ctx, tx, at(us), pl_str_of(token), &actor, NULL);
    db_rollbackp(&tx);
    return e;
}

static enum pl_err refresh(const char *token, struct pl_str key, int64_t us, struct account_tokens *ret)
{
    bool reused = false;
    struct account_tokens t = { 0 };
    struct db_tx *tx = begin();
    enum pl_err e = account_session_refresh(ctx, tx, at(us), pl_str_of(token), key, &t, &reused);
    if (e == PL_OK)
        e = db_commit(&tx);
    db_rollbackp(&tx);
    if (ret)
        *ret = t;
    return e == PL_OK && reused ? PL_TOKEN_REUSED : e;
}

static void s_s2_access_lasts_15_minutes_refresh_rotates(void **state)
{
    (void)state;
    struct account_tokens t = session_at(fresh(), PL_STR_NONE, 0), u;
    assert_int_equal(t.expires_in, 900);
    assert_int_equal(auth(t.access, ACCESS - 1), PL_OK);
    assert_int_equal(auth(t.access, ACCESS), PL_UNAUTHENTICATED);
    assert_int_equal(auth(t.refresh, 0), PL_UNAUTHENTICATED);
    assert_int_equal(refresh(t.access, PL_STR_NONE, 0, NULL), PL_UNAUTHENTICATED);
    assert_int_equal(refresh(t.refresh, PL_STR_NONE, ACCESS, &u), PL_OK);
    assert_true(pl_uuid_eq(t.client_id, u.client_id));
    assert_string_not_equal(t.refresh, u.refresh);
    assert_int_equal(auth(u.access, ACCESS), PL_OK);
}

static void s_s2_idle_30_days_absolute_180(void **state)
{
    (void)state;
    struct account_tokens idle = session_at(fresh(), PL_STR_NONE, 0), t = session_at(fresh(), PL_STR_NONE, 0);
    assert_int_equal(refresh(idle.refresh, PL_STR_NONE, 30 * PL_DAY, NULL), PL_UNAUTHENTICATED);
    for (int64_t day = 29; day < 180; day += 29)
        assert_int_equal(refresh(t.refresh, PL_STR_NONE, day * PL_DAY, &t), PL_OK);
    assert_int_equal(auth(t.access, 174 * PL_DAY), PL_OK);
    assert_int_equal(refresh(t.refresh, PL_STR_NONE, 180 * PL_DAY, NULL), PL_UNAUTHENTICATED);
}

static void s_s3_a_second_use_ends_the_session_and_tells_the_owner(void **state)
{
    (void)state;
    struct notify_listed *rows;
    size_t n;
    struct account_tokens t = session_at(fresh(), PL_STR_NONE, 0), u;
    assert_int_equal(refresh(t.refresh, PL_STR_NONE, PL_MINUTE, &u), PL_OK);
    assert_int_equal(refresh(t.refresh, PL_STR_NONE, PL_MINUTE + 1, NULL), PL_TOKEN_REUSED);
    assert_int_equal(auth(u.access, 2 * PL_MINUTE), PL_UNAUTHENTICATED);
    assert_int_equal(auth(t.access, 2 * PL_MINUTE), PL_UNAUTHENTICATED);
    assert_int_equal(refresh(u.refresh, PL_STR_NONE, 2 * PL_MINUTE, NULL), PL_UNAUTHENTICATED);
    struct db_tx *tx = begin();
    assert_int_equal(notify_list(notify, tx, at(2 * PL_MINUTE), &rows, &n), PL_OK);
    assert_true(n > 0 && pl_str_eqz(rows[0].kind, "token_reused"));
    db_rollbackp(&tx);
}

static void s_s3_a_lost_reply_is_forgiven_to_the_same_client_key_for_30_s(void **state)
{
    (void)state;
    struct account_tokens t = session_at(fresh(), key_hash('k'), 0), u, v, w;
    assert_int_equal(refresh(t.refresh, key_hash('k'), PL_MINUTE, &u), PL_OK);
    assert_int_equal(refresh(t.refresh, key_hash('k'), PL_MINUTE + 30 * PL_SECOND - 1, &v), PL_OK);
    /* Whichever of the two replies came may be used, once. */
    assert_int_equal(refresh(v.refresh, key_hash('k'), 2 * PL_MINUTE, &w), PL_OK);
    assert_int_equal(refresh(u.refresh, key_hash('x'), 2 * PL_MINUTE, NULL), PL_TOKEN_REUSED);
    assert_int_equal(auth(w.access, 2 * PL_MINUTE), PL_UNAUTHENTICATED);
}

static void s_s3_no_grace_after_30_s_nor_without_the_key_nor_after_use(void **state)
{
    (void)state;
    struct account_tokens t = session_at(fresh(), key_hash('a'), 0), u;
    assert_int_equal(refresh(t.refresh, key_hash('a'), PL_MINUTE, NULL), PL_OK);
    assert_int_equal(refresh(t.refresh, key_hash('a'), PL_MINUTE + 30 * PL_SECOND, NULL), PL_TOKEN_REUSED);
    t = session_at(fresh(), key_hash('b'), 0);
    assert_int_equal(refresh(t.refresh, key_hash('b'), PL_MINUTE, NULL), PL_OK);
    assert_int_equal(refresh(t.refresh, PL_STR_NONE, PL_MINUTE + 1, NULL), PL_TOKEN_REUSED);
    t = session_at(fresh(), key_hash('c'), 0);
    assert_int_equal(refresh(t.refresh, key_hash('c'), PL_MINUTE, &u), PL_OK);
    assert_int_equal(refresh(u.refresh, key_hash('c'), PL_MINUTE + 1, NULL), PL_OK);
    assert_int_equal(refresh(t.refresh, key_hash('c'), PL_MINUTE + 2, NULL), PL_TOKEN_REUSED);
}

static void a_known_client_keeps_its_id_and_its_old_session_ends(void **state)
{
    (void)state;
    struct pl_uuid account = fresh();
    struct account_tokens a = session_at(account, key_hash('q'), 0), b = session_at(account, key_hash('q'), PL_MINUTE), c = session_at(account, key_hash('r'), PL_MINUTE);
    assert_true(pl_uuid_eq(a.client_id, b.client_id));
    assert_false(pl_uuid_eq(a.client_id, c.client_id));
    assert_int_equal(auth(a.access, PL_MINUTE), PL_UNAUTHENTICATED);
    assert_int_equal(auth(b.access, PL_MINUTE), PL_OK);
    assert_int_equal(auth(c.access, PL_MINUTE), PL_OK);
    /* Somebody else's client with the same key is somebody else's. */
    struct account_tokens other = session_at(fresh(), key_hash('q'), PL_MINUTE);
    assert_false(pl_uuid_eq(a.client_id, other.client_id));
    assert_int_equal(auth(b.access, PL_MINUTE), PL_OK);
}

static void s_s5_an_ended_session_leaves_a_fact(void **state)
{
    (void)state;
    struct journal_fact_row f;
    bool found;
    struct account_tokens t = session_at(fresh(), PL_STR_NONE, 0);
    assert_int_equal(pg_do(db, "DELETE FROM fact"), PL_OK);
    struct db_tx *tx = begin();
    assert_int_equal(account_session_end(ctx, tx, at(1), t.account_id, t.client_id), PL_OK);
    assert_int_equal(journal_fact_take(tx, at(2), &f, &found), PL_OK);
    assert_true(found && f.kind == JOURNAL_SESSION_REVOKED && pl_uuid_eq(f.account_id, t.account_id) && pl_uuid_eq(f.subject, t.client_id));
    assert_int_equal(db_commit(&tx), PL_OK);
    assert_int_equal(auth(t.access, 2), PL_UNAUTHENTICATED);
}

/* ---- grants ---- */

static enum pl_err spend(const struct account_tokens *t, const char *purpose, const char *grant, int64_t us)
{
    struct http_hooks h = account_hooks(ctx);
    struct http_actor actor = { .account_id = t->account_id, .client_id = t->client_id };
    struct db_tx *tx = begin();
    enum pl_err e = h.spend_grant(h.self, tx, at(us), &actor, purpose, pl_str_of(grant));
    if (e == PL_OK)
        e = db_commit(&tx);
    db_rollbackp(&tx);
    return e;
}

static void a_grant_is_for_one_purpose_of_one_client_once_and_for_5_minutes(void **state)
{
    (void)state;
    struct pl_uuid account = fresh();
    struct account_tokens t = session_at(account, PL_STR_NONE, 0), other = session_at(account, PL_STR_NONE, 0);
    char grant[SECURE_TOKEN_TEXT], late[SECURE_TOKEN_TEXT];
    struct db_tx *tx = begin();
    assert_int_equal(account_grant_make(tx, at(0), t.account_id, t.client_id, PIN_DELETE_HUB, grant), PL_OK);
    assert_int_equal(account_grant_make(tx, at(0), t.account_id, t.client_id, PIN_DELETE_HUB, late), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    assert_int_equal(spend(&t, "delete_account", grant, 1), PL_STEP_UP_REQUIRED);
    assert_int_equal(spend(&other, "delete_hub", grant, 1), PL_STEP_UP_REQUIRED);
    assert_int_equal(spend(&t, "delete_hub", "plsg_x", 1), PL_STEP_UP_REQUIRED);
    assert_int_equal(spend(&t, "delete_hub", grant, 5 * PL_MINUTE - 1), PL_OK);
    assert_int_equal(spend(&t, "delete_hub", grant, 5 * PL_MINUTE - 1), PL_STEP_UP_REQUIRED);
    assert_int_equal(spend(&t, "delete_hub", late, 5 * PL_MINUTE), PL_STEP_UP_REQUIRED);
}

static void s_s1_no_row_holds_a_token(void **state)
{
    (void)state;
    struct account_tokens t = session_at(fresh(), PL_STR_NONE, 0);
    char sql[512];
    struct pl_buf b = pl_buf_fixed(sql, sizeof sql);
    pl_buf_fmt(&b, "DO $$ BEGIN IF EXISTS (SELECT 1 FROM session_token t WHERE t::text LIKE '%%%s%%' OR position('%s'::bytea IN token_hash) > 0) THEN RAISE EXCEPTION 'x'; END IF; END $$",
               t.access + 5, t.access + 5);
    assert_int_equal(pg_do(db, sql), PL_OK);
}

static void a_country_is_guessed_from_the_language(void **state)
{
    (void)state;
    assert_string_equal(account_country_guess(PL_STR("de-AT,de;q=0.9"))->code, "AT");
    assert_string_equal(account_country_guess(PL_STR("en,pt-BR;q=0.5"))->region, "us");
    assert_null(account_country_guess(PL_STR("zh-Hant")));
    assert_null(account_country_guess(PL_STR("")));
    assert_null(account_country_guess(PL_STR_NONE));
    for (const struct account_country *c = account_countries; c->code; c++)
        assert_true(account_region_known(pl_str_of(c->region)));
}

static enum pl_err start(void)
{
    struct pl_fail fail = PL_FAIL_INIT;
    struct notify_conf nc = { 0 };
    struct account_conf ac = { .pin = { .limits = PLENTY, .life = 40 * PL_MINUTE, .key_id = 1 }, .master = &master, .clock = &clk.base, .rand = &pl_rand_system, .log = &log_root };
    enum pl_err e = conf_defaults(notify_conf_rows, &nc, arena, &fail);
    if (e == PL_OK)
        e = conf_defaults(account_conf_rows, &ac.settings, arena, &fail);
    if (e == PL_OK)
        e = notify_new(&nc, &master, NULL, &log_root, &notify, &fail);
    ac.notify = notify;
    return e == PL_OK ? account_new(&ac, &ctx, &fail) : e;
}

int main(void)
{
    if (secure_init() != PL_OK || !(arena = pl_arena_new(32 << 20)))
        return 1;
    db = pg_schema_open(SCHEMA);
    pl_rand_seed(&rnd, 1);
    pl_clock_fixed_init(&clk, T0);
    if (start() != PL_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(s_a1_8_to_128_code_points_of_any_kind, each_test),
        cmocka_unit_test_setup(s_a1_is_normalised_once_and_keeps_blanks, each_test),
        cmocka_unit_test_setup(s_a2_what_is_guessed_first_is_refused_with_the_reason, each_test),
        cmocka_unit_test_setup(s_a3_a_hash_of_a_weaker_policy_is_known_and_wants_to_be_made_anew, each_test),
        cmocka_unit_test_setup(one_account_has_one_email_and_one_phone, each_test),
        cmocka_unit_test_setup(s_s1_no_row_holds_a_token, each_test),
        cmocka_unit_test_setup(s_s2_access_lasts_15_minutes_refresh_rotates, each_test),
        cmocka_unit_test_setup(s_s2_idle_30_days_absolute_180, each_test),
        cmocka_unit_test_setup(s_s3_a_second_use_ends_the_session_and_tells_the_owner, each_test),
        cmocka_unit_test_setup(s_s3_a_lost_reply_is_forgiven_to_the_same_client_key_for_30_s, each_test),
        cmocka_unit_test_setup(s_s3_no_grace_after_30_s_nor_without_the_key_nor_after_use, each_test),
        cmocka_unit_test_setup(a_known_client_keeps_its_id_and_its_old_session_ends, each_test),
        cmocka_unit_test_setup(s_s5_an_ended_session_leaves_a_fact, each_test),
        cmocka_unit_test_setup(a_grant_is_for_one_purpose_of_one_client_once_and_for_5_minutes, each_test),
        cmocka_unit_test_setup(a_country_is_guessed_from_the_language, each_test),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    account_free(ctx);
    notify_free(notify);
    db_close(db);
    pl_arena_free(arena);
    return failed;
}
