#include "ctl_check.h"
#include "ctl_demo.h"
#include "json.h"
#include <stdio.h>

#define MOST_FILE (256u << 10)
#define CLAIM_WAIT (60 * PL_SECOND)
#define CLIENT "{\"name\":\"porchctl\",\"platform\":\"linux\"}"

#define KEEP(member) JSON_F(struct demo, member, J_STR, J_OPTIONAL, .hi = 300)
static const struct json_field kept[] = { KEEP(email), KEEP(password), KEEP(phone), KEEP(hub_serial), KEEP(camera_serial), KEEP(account_id), KEEP(client_id),
                                          KEEP(refresh_token), KEEP(system_id), KEEP(hub_id), KEEP(camera_id), J_END };

/* What the maker of the demo has made: one hub and camera that the household gets, and some to try adding by hand. */
static const struct { const char *kind, *model, *prefix; int n; } made[] = {
    { "hub", "Porch Hub 1", "DEMOHUB", 3 }, { "wireless", "Porch Cam 1", "DEMOCAM", 12 }, { "mini", "Porch Mini 1", "DEMOMINI", 3 }, { "doorbell", "Porch Bell 1", "DEMOBELL", 2 } };

enum pl_err demo_load(struct ctl *c, const struct ctl_paths *p, struct demo *ret, struct pl_fail *reterr)
{
    struct pl_str text = PL_STR_NONE;
    struct demo d = { .c = c, .paths = p };
    enum pl_err e = ctl_read(c->arena, p->demo, MOST_FILE, &text, reterr);
    if (e == PL_OK)
        e = json_take(kept, JSON_LENIENT, text, c->arena, &d, reterr);
    if (e == PL_OK)
        *ret = d;
    return e;
}

enum pl_err demo_save(const struct demo *d, struct pl_fail *reterr)
{
    struct pl_buf b = pl_buf_init(d->c->arena, MOST_FILE);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    for (const struct json_field *f = kept; f->name; f++) {
        struct pl_str v = *(const struct pl_str *)((const char *)d + f->offset);
        if (v.n)
            jw_str(&w, f->name, v);
    }
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    return e == PL_OK ? ctl_write(d->c->arena, d->paths->demo, pl_buf_view(&b), reterr) : e;
}

const char *demo_key_file(const struct demo *d, struct pl_str serial)
{
    return pl_fmt(d->c->arena, "%s/%.*s.key", d->paths->keys, PL_FMT(serial)).p;
}

static enum pl_err make_device(struct demo *d, size_t k, int i, struct pl_buf *lines, struct pl_fail *reterr)
{
    static const char digits[] = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ";
    struct pl_arena *a = d->c->arena;
    char sparse[7] = { 0 };
    struct pl_str seed, pub, serial;
    for (size_t j = 0; j < sizeof sparse - 1; j++)
        sparse[j] = digits[pl_rand_below(&pl_rand_system, sizeof digits - 1)];
    serial = pl_fmt(a, "%s%s", made[k].prefix, sparse);
    const char *file = serial.p ? demo_key_file(d, serial) : NULL;
    if (!file)
        return PL_NO_MEMORY;
    enum pl_err e = ctl_key_new(a, &seed, &pub);
    if (e == PL_OK)
        e = ctl_write(a, file, seed, reterr);
    pl_buf_fmt(lines, "{\"serial\":\"%s\",\"kind\":\"%s\",\"model\":\"%s\",\"public_key\":\"%.*s\"}\n", serial.p, made[k].kind, made[k].model, PL_FMT(pub));
    if (i == 0 && k == 0)
        d->hub_serial = serial;
    if (i == 0 && k == 1)
        d->camera_serial = serial;
    return e;
}

static enum pl_err make_household(struct demo *d, struct pl_fail *reterr)
{
    struct pl_arena *a = d->c->arena;
    struct pl_buf lines = pl_buf_init(a, MOST_FILE);
    uint8_t secret[15];
    enum pl_err e = PL_OK;
    for (size_t k = 0; k < PL_COUNT(made); k++)
        for (int i = 0; i < made[k].n && e == PL_OK; i++)
            e = make_device(d, k, i, &lines, reterr);
    if (e == PL_OK)
        e = pl_buf_err(&lines);
    if (e == PL_OK)
        e = ctl_write(a, d->paths->inventory, pl_buf_view(&lines), reterr);
    if (e != PL_OK)
        return e;
    pl_rand_fill(&pl_rand_system, secret, sizeof secret);
    d->password = pl_b64url(a, secret, sizeof secret);
    d->email = pl_fmt(a, "demo@porchlight.example");
    d->phone = pl_fmt(a, "+1202555%04u", 100 + pl_rand_below(&pl_rand_system, 100)); /* 555-01xx: numbers that are nobody's */
    return pl_arena_err(a) == PL_OK ? demo_save(d, reterr) : PL_NO_MEMORY;
}

enum pl_err demo_open(struct ctl *c, const struct ctl_paths *p, struct demo *ret, struct pl_fail *reterr)
{
    struct pl_fail why = PL_FAIL_INIT;
    enum pl_err e = demo_load(c, p, ret, &why);
    if (e != PL_NOT_FOUND) {
        if (e != PL_OK && reterr)
            *reterr = why;
        return e;
    }
    struct demo d = { .c = c, .paths = p };
    e = make_household(&d, reterr);
    if (e == PL_OK)
        *ret = d;
    return e;
}

enum pl_err demo_import(struct demo *d, struct pl_fail *reterr)
{
    const char *file[] = { d->paths->inventory };
    struct ctl quiet = *d->c;
    quiet.args = file;
    quiet.n_args = 1;
    return ctl_inventory_import(&quiet, reterr);
}

static enum pl_err keep_tokens(struct demo *d, struct rest *r, const struct rest_answer *a, struct pl_fail *reterr)
{
    if (!a->refresh_token.n || !a->access_token.n)
        return pl_fail(reterr, PL_UNAVAILABLE, "The server gave no tokens after the right PIN.");
    d->refresh_token = a->refresh_token;
    d->account_id = a->account_id.n ? a->account_id : d->account_id;
    d->client_id = a->client_id.n ? a->client_id : d->client_id;
    r->token = a->access_token.p;
    return demo_save(d, reterr);
}

/* Reads the PIN that was sent to `to` after message `after`, and answers the challenge with it. */
static enum pl_err answer_pin(struct rest *r, struct rest_challenge ch, struct pl_str to, struct pl_str after, struct rest_answer *ret, struct pl_fail *reterr)
{
    struct pl_str pin;
    char path[160];
    enum pl_err e = rest_pin(r, to.p, after, &pin, reterr);
    if (e != PL_OK)
        return e;
    snprintf(path, sizeof path, "/v1/challenges/%.*s/verify", PL_FMT(ch.id));
    r->challenge_key = ch.key.p;
    e = rest_call(r, "POST", path, ret, reterr, "{\"pin\":\"%.*s\"}", PL_FMT(pin));
    r->challenge_key = NULL;
    return e;
}

static enum pl_err log_in(struct demo *d, struct rest *r, struct pl_fail *reterr)
{
    struct rest_answer a = { 0 };
    struct pl_str before;
    enum pl_err e = rest_newest_message(r, &before, reterr);
    if (e == PL_OK)
        e = rest_call(r, "POST", "/v1/sessions", &a, reterr, "{\"email\":\"%s\",\"password\":\"%s\",\"client\":" CLIENT "}", d->email.p, d->password.p);
    if (e == PL_OK && !a.access_token.n)
        e = answer_pin(r, a.challenge, d->email, before, &a, reterr);
    return e == PL_OK ? keep_tokens(d, r, &a, reterr) : e;
}

enum pl_err demo_sign_up(struct demo *d, struct rest *r, struct pl_fail *reterr)
{
    struct rest_answer a = { 0 };
    struct pl_str before;
    char path[160];
    if (demo_signed_up(d) || log_in(d, r, NULL) == PL_OK) /* a run that was broken off after the account was made */
        return PL_OK;
    enum pl_err e = rest_newest_message(r, &before, reterr);
    if (e == PL_OK)
        e = rest_call(r, "POST", "/v1/accounts", &a, reterr, "{\"email\":\"%s\",\"password\":\"%s\",\"country\":\"US\",\"client\":" CLIENT "}", d->email.p,
                      d->password.p);
    if (e == PL_OK)
        e = answer_pin(r, a.challenge, d->email, before, &a, reterr);
    if (e != PL_OK)
        return e;
    struct rest_challenge phone = a.next.challenge;
    e = rest_newest_message(r, &before, reterr);
    snprintf(path, sizeof path, "/v1/challenges/%.*s/destination", PL_FMT(phone.id));
    r->challenge_key = phone.key.p;
    if (e == PL_OK)
        e = rest_call(r, "POST", path, &a, reterr, "{\"phone\":\"%s\",\"channel\":\"sms\"}", d->phone.p);
    if (e == PL_OK)
        e = answer_pin(r, phone, d->phone, before, &a, reterr);
    r->challenge_key = NULL;
    return e == PL_OK ? keep_tokens(d, r, &a, reterr) : e;
}

enum pl_err demo_sign_in(struct demo *d, struct rest *r, struct pl_fail *reterr)
{
    struct rest_answer a = { 0 };
    if (demo_signed_up(d) && rest_call(r, "POST", "/v1/sessions/refresh", &a, NULL, "{\"refresh_token\":\"%s\"}", d->refresh_token.p) == PL_OK)
        return keep_tokens(d, r, &a, reterr);
    return log_in(d, r, reterr);
}

/* The leg between app and device in the home (proto/onboarding.yaml). The demo's hub is on a cable: no password is handed over, and so the app's box key opens nothing. */
static enum pl_err tell_hub(struct demo *d, struct rest_claim claim, struct pl_fail *reterr)
{
    struct pl_arena *a = d->c->arena;
    uint8_t key[32];
    struct pl_str ignored;
    if (!d->hub_onboarding)
        return pl_fail(reterr, PL_UNAVAILABLE, "The demo hub does not listen for its claim: it thinks that it is bound.");
    pl_rand_fill(&pl_rand_system, key, sizeof key);
    const struct ctl_request q = { .host = d->hub_onboarding, .method = "POST", .path = "/onboarding/v1/session",
        .body = pl_fmt(a, "{\"serial\":\"%.*s\",\"claim_id\":\"%.*s\",\"challenge\":\"%.*s\",\"app_key\":\"%s\"}", PL_FMT(d->hub_serial), PL_FMT(claim.id), PL_FMT(claim.challenge),
                       pl_b64url(a, key, sizeof key).p) };
    return q.body.p ? ctl_http(a, &q, &ignored, reterr) : PL_NO_MEMORY;
}

static enum pl_err await_bound(struct rest *r, struct rest_claim claim, struct pl_str *ret_device, struct pl_fail *reterr)
{
    struct pl_mono end = pl_mono_add(pl_now_mono(&pl_clock_system), CLAIM_WAIT);
    struct rest_answer a = { 0 };
    char path[160];
    enum pl_err e;
    snprintf(path, sizeof path, "/v1/claims/%.*s", PL_FMT(claim.id));
    for (;;) {
        e = rest_call(r, "GET", path, &a, reterr, NULL);
        if (e != PL_OK)
            return e;
        struct pl_str state = a.claim.state.n ? a.claim.state : a.state, device = a.claim.device_id.n ? a.claim.device_id : a.device_id;
        if (pl_str_eqz(state, "bound") && device.n) {
            *ret_device = device;
            return PL_OK;
        }
        if (pl_str_eqz(state, "refused") || pl_str_eqz(state, "expired") || pl_mono_cmp(pl_now_mono(&pl_clock_system), end) > 0)
            return pl_fail(reterr, PL_CLAIM_REFUSED, "A device of the demo was not bound: its claim is %.*s.", PL_FMT(state));
        e = r->pause(r->pause_arg);
        if (e != PL_OK)
            return e;
    }
}

static enum pl_err claim_device(struct demo *d, struct rest *r, bool hub, struct pl_str *ret_id, struct pl_fail *reterr)
{
    struct rest_answer a = { 0 };
    char path[160];
    snprintf(path, sizeof path, "/v1/systems/%.*s/%s", PL_FMT(d->system_id), hub ? "hub" : "cameras");
    enum pl_err e = hub ? rest_call(r, "POST", path, &a, reterr, "{\"serial\":\"%s\"}", d->hub_serial.p)
                        : rest_call(r, "POST", path, &a, reterr, "{\"serial\":\"%s\",\"name\":\"Porch\"}", d->camera_serial.p);
    if (e == PL_OK && hub)
        e = tell_hub(d, a.claim, reterr);
    if (e == PL_OK)
        e = await_bound(r, a.claim, ret_id, reterr);
    return e == PL_OK ? demo_save(d, reterr) : e;
}

enum pl_err demo_claim(struct demo *d, struct rest *r, struct pl_fail *reterr)
{
    struct rest_answer a = { 0 };
    enum pl_err e = PL_OK;
    if (!d->system_id.n) {
        e = rest_call(r, "POST", "/v1/systems", &a, reterr, "{\"name\":\"Home\"}");
        d->system_id = a.id;
        if (e == PL_OK)
            e = demo_save(d, reterr);
    }
    if (e == PL_OK && !d->hub_id.n)
        e = claim_device(d, r, true, &d->hub_id, reterr);
    if (e == PL_OK && !d->camera_id.n)
        e = claim_device(d, r, false, &d->camera_id, reterr);
    return e;
}

struct told_tls { struct pl_str ca, name; };
struct told_demo { struct pl_str page; };
struct told { struct pl_str http, media; struct told_tls tls; struct told_demo demo; };
static const struct json_field told_tls_fields[] = { JSON_F(struct told_tls, ca, J_STR, J_OPTIONAL), JSON_F(struct told_tls, name, J_STR, J_OPTIONAL), J_END };
static const struct json_field told_demo_fields[] = { JSON_F(struct told_demo, page, J_STR, J_OPTIONAL), J_END };
static const struct json_field told_fields[] = { JSON_F(struct told, http, J_STR, J_REQUIRED), JSON_F(struct told, media, J_STR, J_REQUIRED),
    JSON_F(struct told, tls, J_OBJECT, J_OPTIONAL, .fields = told_tls_fields), JSON_F(struct told, demo, J_OBJECT, J_OPTIONAL, .fields = told_demo_fields), J_END };

enum pl_err demo_find(struct ctl *c, struct demo_there *ret, struct pl_fail *reterr)
{
    struct told t = { .http = PL_STR_NONE };
    struct pl_str text;
    *ret = (struct demo_there){ .rest = { .c = c } };
    enum pl_err e = ctl_paths_of(c, &ret->paths, reterr);
    if (e != PL_OK)
        return e;
    if (ctl_read(c->arena, ret->paths.ready, 65536, &text, NULL) != PL_OK || json_take(told_fields, JSON_LENIENT, text, c->arena, &t, NULL) != PL_OK)
        return ctl_not_running(c, &ret->paths, "up --demo", reterr);
    if (!t.demo.page.n || demo_load(c, &ret->paths, &ret->demo, NULL) != PL_OK || !demo_complete(&ret->demo))
        return pl_fail(reterr, PL_NOT_FOUND, "%s has no demo household: start it with one (porchctl up --demo).", c->dir);
    ret->rest.tls = t.tls.ca.p != NULL;
    ret->rest.ca_file = t.tls.ca.n ? pl_str_z(c->arena, t.tls.ca) : NULL;
    ret->rest.host = check_dial_name(c->arena, pl_str_z(c->arena, t.http), t.tls.name.n ? pl_str_z(c->arena, t.tls.name) : NULL);
    ret->media = t.media;
    ret->page_port = t.demo.page;
    return ret->rest.host ? PL_OK : PL_NO_MEMORY;
}
