/* The leg in the home by its clock: sessions that give way, the window, the last words, no_internet; and no answer to hostile bodies but a refusal. */
#include "onboarding.h"
#include "json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define HERE PL_STR("192.168.75.1")
#define KEY "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
#define OPEN_BODY "{\"serial\":\"hub0-0001\",\"claim_id\":\"c1\",\"challenge\":\"BOr3kFWdmqDzgLHsBWtfZQ\",\"app_key\":\"" KEY "\"}"

struct home {
    struct onboarding *o;
    struct pl_arena *a;
    struct pl_mono now;
    struct hub_look look;
    struct onboarding_answer answer;
    struct pl_str token;
    int claims, scans, joins;
};

static enum pl_err claim(void *self, struct pl_str id, struct pl_str challenge)
{
    struct home *h = self;
    assert_true(pl_str_eqz(id, "c1") && challenge.n == 22);
    h->claims++;
    h->look.claim = HUB_CLAIM_WAITS;
    return PL_OK;
}
static enum pl_err vouch(void *self, const struct hub_vouch *what, uint8_t ret[64])
{
    (void)self;
    assert_true(pl_str_eqz(what->app_key, KEY) && what->device_key.n == 43);
    memset(ret, 1, 64);
    return PL_OK;
}
static enum pl_err scan(void *self) { return ((struct home *)self)->scans++, PL_OK; }
static enum pl_err join(void *self, struct pl_str ssid, struct pl_str password)
{
    (void)ssid, (void)password;
    return ((struct home *)self)->joins++, PL_OK;
}

static void begin(struct home *h, bool wired)
{
    *h = (struct home){ .now = { PL_HOUR }, .a = pl_arena_new(1 << 20) };
    const struct onboarding_conf c = { .serial = PL_STR("HUB00001"), .role = "hub", .model = "M", .firmware = "1", .wired = wired, .window_us = ONBOARDING_WINDOW, .self = h,
        .claim = claim, .vouch = vouch, .scan = scan, .join = join };
    assert_int_equal(onboarding_new(&c, h->now, &h->o), PL_OK);
}

static void end(struct home *h)
{
    h->o = onboarding_free(h->o);
    h->a = pl_arena_free(h->a);
}

static int ask(struct home *h, const char *method, const char *path, const char *body)
{
    char head[80] = "";
    struct pl_buf b = pl_buf_fixed(head, sizeof head);
    pl_buf_fmt(&b, "Bearer %.*s", PL_FMT(h->token));
    const struct onboarding_request q = { .method = pl_str_of(method), .path = pl_fmt(h->a, "/onboarding/v1/%s", path), .host = HERE, .here = HERE,
        .content_type = PL_STR("application/json"), .authorization = h->token.p ? pl_buf_view(&b) : PL_STR_NONE, .body = pl_str_of(body) };
    onboarding_ask(h->o, h->now, &h->look, &q, h->a, &h->answer);
    return h->answer.status;
}

/* A string member of the last answer. */
static struct pl_str told(struct home *h, const char *name)
{
    PL_CLEANUP(json_doc_freep) struct json_doc *d = NULL;
    assert_int_equal(json_parse(h->answer.body, &d, NULL), PL_OK);
    return pl_str_dup(h->a, json_doc_str(d, name));
}

static void open_session(struct home *h)
{
    h->token = PL_STR_NONE;
    assert_int_equal(ask(h, "POST", "session", OPEN_BODY), 201);
    h->token = told(h, "token");
}

static void a_session_gives_way_after_a_minute_without_its_app(void **state)
{
    struct home h;
    (void)state;
    begin(&h, true);
    open_session(&h);
    struct pl_str first = h.token;
    h.now = pl_mono_add(h.now, 59 * PL_SECOND);
    assert_int_equal(ask(&h, "GET", "session", ""), 200); /* and has a minute again */
    h.now = pl_mono_add(h.now, 59 * PL_SECOND);
    assert_int_equal(ask(&h, "POST", "session", OPEN_BODY), 409);
    assert_int_equal(h.answer.retry_after_s, 1);
    h.now = pl_mono_add(h.now, PL_SECOND);
    open_session(&h);
    assert_int_equal(h.claims, 2);
    h.token = first;
    assert_int_equal(ask(&h, "GET", "session", ""), 401);
    end(&h);
}

static void the_window_ends_and_a_bound_device_says_its_last_words(void **state)
{
    struct home h;
    (void)state;
    begin(&h, true);
    assert_true(onboarding_open(h.o, pl_mono_add(h.now, ONBOARDING_WINDOW - 1)));
    assert_false(onboarding_open(h.o, pl_mono_add(h.now, ONBOARDING_WINDOW)));
    open_session(&h);
    h.look.claim = HUB_CLAIM_BOUND;
    onboarding_cloud(h.o, h.now, &h.look);
    onboarding_cloud(h.o, pl_mono_add(h.now, PL_SECOND), &h.look); /* told twice: no longer for that */
    assert_int_equal(ask(&h, "GET", "session", ""), 200);
    assert_true(pl_str_eqz(told(&h, "state"), "bound"));
    assert_true(onboarding_open(h.o, pl_mono_add(h.now, ONBOARDING_LAST_WORDS - 1)));
    assert_false(onboarding_open(h.o, pl_mono_add(h.now, ONBOARDING_LAST_WORDS)));
    assert_int_equal(ask(&h, "DELETE", "session", ""), 204);
    assert_false(onboarding_open(h.o, h.now));
    end(&h);
}

static void a_cloud_that_is_not_reached_in_half_a_minute_is_no_internet(void **state)
{
    struct home h;
    (void)state;
    begin(&h, false);
    assert_int_equal(h.scans, 1);
    onboarding_wifi(h.o, h.now, &(struct wifi_done){ .e = PL_OK });
    open_session(&h);
    h.now = pl_mono_add(h.now, 20 * PL_SECOND);
    onboarding_wifi(h.o, h.now, &(struct wifi_done){ .tried = true, .end = WIFI_JOINED });
    h.now = pl_mono_add(h.now, ONBOARDING_INTERNET - 1);
    assert_int_equal(ask(&h, "GET", "session", ""), 200);
    assert_true(pl_str_eqz(told(&h, "state"), "connecting"));
    h.now = pl_mono_add(h.now, 1);
    assert_int_equal(ask(&h, "GET", "session", ""), 200);
    assert_true(pl_str_eqz(told(&h, "state"), "wifi_failed") && pl_str_eqz(told(&h, "wifi_error"), "no_internet"));
    h.look.connected = true; /* it went on trying */
    assert_int_equal(ask(&h, "GET", "session", ""), 200);
    assert_true(pl_str_eqz(told(&h, "state"), "connected") && told(&h, "wifi_error").n == 0);
    end(&h);
}

static void five_wrong_serials_cost_a_minute_and_it_is_over_then(void **state)
{
    struct home h;
    (void)state;
    begin(&h, true);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ask(&h, "POST", "session", "{\"serial\":\"HUB00002\",\"claim_id\":\"c1\",\"challenge\":\"BOr3kFWdmqDzgLHsBWtfZQ\",\"app_key\":\"" KEY "\"}"), 422);
    assert_int_equal(ask(&h, "POST", "session", OPEN_BODY), 429);
    assert_int_equal(h.answer.retry_after_s, 60);
    h.now = pl_mono_add(h.now, PL_MINUTE);
    open_session(&h);
    end(&h);
}

/* Whatever is sent, the answer is a refusal and nothing is done. */
static void hostile_bodies_do_nothing(void **state)
{
    static const char *const bodies[] = { "", "{", "[]", "null", "{\"serial\":1}", "{\"serial\":\"HUB00001\",\"serial\":\"HUB00001\"}", "{\"box\":\"\"}", "{\"box\":\"!!\"}",
        "{\"box\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}", "{\"box\":{}}", "\xff\xfe" };
    struct pl_rand_seeded r;
    struct home h;
    char token[SECURE_TOKEN_TEXT] = "";
    (void)state;
    pl_rand_seed(&r, 7);
    begin(&h, false);
    onboarding_wifi(h.o, h.now, &(struct wifi_done){ .e = PL_OK });
    open_session(&h);
    memcpy(token, h.token.p, h.token.n);
    for (size_t i = 0; i < 2000; i++) {
        char body[128] = "";
        h.now = pl_mono_add(h.now, PL_SECOND);
        const char *text = bodies[i % PL_COUNT(bodies)];
        if (i >= PL_COUNT(bodies)) {
            memcpy(body, text, strlen(text));
            for (int k = 0; k < 3; k++)
                body[pl_rand_below(&r.base, sizeof body - 1)] = (char)pl_rand_below(&r.base, 256);
            text = body;
        }
        assert_in_range(ask(&h, "POST", i % 2 ? "join" : "session", text), 400, 499);
        assert_int_equal(ask(&h, "GET", "session", ""), 200);
        pl_arena_reset(h.a);
        h.token = pl_str_of(token);
    }
    assert_int_equal(h.joins, 0);
    end(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_gives_way_after_a_minute_without_its_app), cmocka_unit_test(the_window_ends_and_a_bound_device_says_its_last_words),
        cmocka_unit_test(a_cloud_that_is_not_reached_in_half_a_minute_is_no_internet), cmocka_unit_test(five_wrong_serials_cost_a_minute_and_it_is_over_then),
        cmocka_unit_test(hostile_bodies_do_nothing),
    };
    assert_int_equal(secure_init(), PL_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
