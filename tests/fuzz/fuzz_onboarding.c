/* S-M4: what strangers in the air write to a device that is being added. First line "METHOD path", the rest is the body; path `box`: the rest, in a box as the app of the session makes it,
 * goes to `join`. Besides not crashing: an answer is JSON, a refusal has a code, no answer holds what came in the box, and the radio is only asked for what a network can have. */
#include "fuzz.h"
#include "json.h"
#include "onboarding.h"

#define HERE PL_STR("192.168.75.1")

static struct secure_box_keys app;
static struct pl_str joined; /* what the radio was asked for */

static enum pl_err claim(void *self, struct pl_str id, struct pl_str challenge)
{
    (void)self;
    FUZZ_MUST(id.n > 0 && id.n < HUB_ID && challenge.n < HUB_CHALLENGE);
    return PL_OK;
}
static enum pl_err vouch(void *self, const struct hub_vouch *what, uint8_t ret[64])
{
    (void)self;
    FUZZ_MUST(what->app_key.n == 43 && what->device_key.n == 43);
    memset(ret, 1, 64);
    return PL_OK;
}
static enum pl_err scan(void *self) { return (void)self, PL_OK; }
static enum pl_err join(void *self, struct pl_str ssid, struct pl_str password)
{
    (void)self;
    if (ssid.n > WIFI_SSID || password.n > WIFI_PASSWORD)
        return PL_INVALID_REQUEST;
    FUZZ_MUST(ssid.n > 0 && pl_str_is_utf8(ssid));
    joined = password;
    return PL_OK;
}

struct device {
    struct onboarding *o;
    struct pl_arena *a;
    struct pl_str token;
};

static struct onboarding_answer ask(struct device *d, struct pl_str method, struct pl_str path, struct pl_str body)
{
    const struct hub_look look = { .claim = HUB_CLAIM_WAITS };
    const struct onboarding_request q = { .method = method, .path = pl_fmt(d->a, "/onboarding/v1/%.*s", PL_FMT(path)), .host = HERE, .here = HERE, .body = body,
        .content_type = PL_STR("application/json"), .authorization = d->token.p ? pl_fmt(d->a, "Bearer %.*s", PL_FMT(d->token)) : PL_STR_NONE };
    struct onboarding_answer answer;
    onboarding_ask(d->o, (struct pl_mono){ PL_HOUR + PL_SECOND }, &look, &q, d->a, &answer);
    return answer;
}

static struct pl_str member(struct device *d, const struct onboarding_answer *answer, const char *name)
{
    struct json_doc *doc PL_CLEANUP(json_doc_freep) = NULL;
    FUZZ_MUST(json_parse(answer->body, &doc, NULL) == PL_OK);
    struct pl_str s = json_doc_str(doc, name);
    return s.n ? pl_str_dup(d->a, s) : PL_STR_NONE;
}

/* A session as the app of this file opens it; the device's box key. */
static void open_session(struct device *d, uint8_t device_key[32])
{
    struct pl_str key = pl_b64url(d->a, app.public_key, sizeof app.public_key);
    struct onboarding_answer answer = ask(d, PL_STR("POST"), PL_STR("session"),
        pl_fmt(d->a, "{\"serial\":\"HUB00001\",\"claim_id\":\"c1\",\"challenge\":\"BOr3kFWdmqDzgLHsBWtfZQ\",\"app_key\":\"%.*s\"}", PL_FMT(key)));
    FUZZ_MUST(answer.status == 201);
    d->token = member(d, &answer, "token");
    FUZZ_MUST(pl_unb64url(member(d, &answer, "device_key"), device_key, 32) == PL_OK);
}

static bool holds(struct pl_str text, struct pl_str part)
{
    for (size_t i = 0; part.n >= 8 && i + part.n <= text.n; i++)
        if (memcmp(text.p + i, part.p, part.n) == 0)
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool started;
    if (!started) {
        FUZZ_MUST(secure_init() == PL_OK);
        secure_box_keys_new(&app);
        started = true;
    }
    struct pl_str body, path, line = pl_str_split((struct pl_str){ (const char *)data, size }, '\n', &body), method = pl_str_split(line, ' ', &path), box;
    struct device d = { .a = pl_arena_new(1 << 20) };
    uint8_t device_key[32];
    const struct onboarding_conf conf = { .serial = PL_STR("HUB00001"), .role = "hub", .model = "M", .firmware = "1", .window_us = ONBOARDING_WINDOW, .claim = claim,
        .vouch = vouch, .scan = scan, .join = join };
    if (!d.a || onboarding_new(&conf, (struct pl_mono){ PL_HOUR }, &d.o) != PL_OK)
        __builtin_trap();
    onboarding_wifi(d.o, (struct pl_mono){ PL_HOUR }, &(struct wifi_done){ .list = { .n = 1, .networks = { { .ssid = "Home", .rssi = -40 } } } });
    open_session(&d, device_key);
    joined = PL_STR_NONE;
    if (pl_str_eqz(path, "box") && body.n < 4096 && secure_box_make(&app, device_key, body, d.a, &box) == PL_OK) {
        path = PL_STR("join");
        body = pl_fmt(d.a, "{\"box\":\"%.*s\"}", PL_FMT(pl_b64url(d.a, box.p, box.n)));
    }
    const struct onboarding_answer answer = ask(&d, method, path, body);
    FUZZ_MUST(answer.status >= 200 && answer.status < 500 && answer.problem == (answer.status >= 400));
    FUZZ_MUST(answer.status == 204 || answer.body.n > 0);
    if (answer.problem)
        FUZZ_MUST(member(&d, &answer, "code").n > 0);
    else if (answer.body.n)
        (void)member(&d, &answer, "state");
    FUZZ_MUST(!holds(answer.body, joined));
    d.o = onboarding_free(d.o);
    d.a = pl_arena_free(d.a);
    return 0;
}
