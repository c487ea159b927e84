#include "ctl_rest.h"
#include "json.h"
#include <stdarg.h>
#include <stdio.h>

#define PIN_WAIT (20 * PL_SECOND)

static const struct json_field challenge_fields[] = { JSON_F(struct rest_challenge, id, J_STR, J_OPTIONAL), JSON_F(struct rest_challenge, key, J_STR, J_OPTIONAL), J_END };
static const struct json_field claim_fields[] = { JSON_F(struct rest_claim, id, J_STR, J_OPTIONAL), JSON_F(struct rest_claim, challenge, J_STR, J_OPTIONAL),
    JSON_F(struct rest_claim, state, J_STR, J_OPTIONAL), JSON_F(struct rest_claim, device_id, J_STR, J_OPTIONAL), J_END };
static const struct json_field next_fields[] = {
    { .name = "challenge", .type = J_OBJECT, .offset = offsetof(struct rest_answer, next.challenge) - offsetof(struct rest_answer, next), .fields = challenge_fields },
    { .name = "needs", .type = J_STR, .offset = offsetof(struct rest_answer, next.needs) - offsetof(struct rest_answer, next) }, J_END };
static const struct json_field answer_fields[] = {
    JSON_F(struct rest_answer, challenge, J_OBJECT, J_OPTIONAL, .fields = challenge_fields), JSON_F(struct rest_answer, next, J_OBJECT, J_OPTIONAL, .fields = next_fields),
    JSON_F(struct rest_answer, account_id, J_STR, J_OPTIONAL), JSON_F(struct rest_answer, client_id, J_STR, J_OPTIONAL),
    JSON_F(struct rest_answer, access_token, J_STR, J_OPTIONAL), JSON_F(struct rest_answer, refresh_token, J_STR, J_OPTIONAL),
    JSON_F(struct rest_answer, claim, J_OBJECT, J_OPTIONAL, .fields = claim_fields), JSON_F(struct rest_answer, id, J_STR, J_OPTIONAL),
    JSON_F(struct rest_answer, state, J_STR, J_OPTIONAL), JSON_F(struct rest_answer, device_id, J_STR, J_OPTIONAL), JSON_F(struct rest_answer, live_id, J_STR, J_OPTIONAL),
    JSON_F(struct rest_answer, code, J_STR, J_OPTIONAL), JSON_F(struct rest_answer, srtp, J_RAW, J_OPTIONAL), J_END };

struct message { struct pl_str id, to, pin; };
struct outbox { struct json_list messages; };
/* pin is null once a message was handed over: read raw, so that null is no error. */
static const struct json_field message_fields[] = { JSON_F(struct message, id, J_STR, J_REQUIRED), JSON_F(struct message, to, J_STR, J_OPTIONAL),
                                                    JSON_F(struct message, pin, J_RAW, J_OPTIONAL), J_END };
static const struct json_field outbox_fields[] = {
    JSON_F(struct outbox, messages, J_ARRAY, J_REQUIRED, .fields = message_fields, .size = sizeof(struct message), .hi = 100000), J_END };

enum pl_err rest_call(struct rest *r, const char *method, const char *path, struct rest_answer *ret, struct pl_fail *reterr, const char *fmt, ...)
{
    struct ctl_request q = { .host = r->host, .tls = r->tls, .ca_file = r->ca_file, .method = method, .path = path, .bearer = r->token, .challenge_key = r->challenge_key };
    struct pl_str text = PL_STR_NONE;
    struct pl_fail why = PL_FAIL_INIT;
    char body[2048];
    if (fmt) {
        va_list args;
        va_start(args, fmt);
        int n = vsnprintf(body, sizeof body, fmt, args);
        va_end(args);
        if (n < 0 || n >= (int)sizeof body)
            return PL_INVALID_REQUEST;
        q.body = (struct pl_str){ body, (size_t)n };
    }
    enum pl_err e = ctl_http(r->c->arena, &q, &text, &why);
    if (e != PL_OK)
        return pl_fail(reterr, e, "%s %s: %s", method, path, why.detail[0] ? why.detail : pl_err_table[e].sentence);
    *ret = (struct rest_answer){ 0 };
    if (!text.n)
        return PL_OK;
    /* A claim that is read back is the answer itself, and its `challenge` is a text. */
    bool claim = pl_str_starts(pl_str_of(path), PL_STR("/v1/claims/"));
    e = claim ? json_take(claim_fields, JSON_LENIENT, text, r->c->arena, &ret->claim, &why) : json_take(answer_fields, JSON_LENIENT, text, r->c->arena, ret, &why);
    return e == PL_OK ? e : pl_fail(reterr, PL_UNAVAILABLE, "%s %s: the answer is not of the documented form: %s", method, path, why.detail);
}

static int compare(struct pl_str a, struct pl_str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static enum pl_err read_outbox(struct rest *r, struct outbox *ret, struct pl_fail *reterr)
{
    struct pl_str text = PL_STR_NONE;
    enum pl_err e = ctl_admin(r->c, "GET", "/admin/v1/outbox", PL_STR_NONE, &text, reterr);
    return e == PL_OK ? json_take(outbox_fields, JSON_LENIENT, text, r->c->arena, ret, reterr) : e;
}

enum pl_err rest_newest_message(struct rest *r, struct pl_str *ret_id, struct pl_fail *reterr)
{
    struct outbox box = { 0 };
    struct pl_str newest = PL_STR("");
    enum pl_err e = read_outbox(r, &box, reterr);
    if (e != PL_OK)
        return e;
    const struct message *m = box.messages.items;
    for (size_t i = 0; i < box.messages.n; i++)
        if (compare(m[i].id, newest) > 0)
            newest = m[i].id;
    *ret_id = newest;
    return PL_OK;
}

static struct pl_str newest_pin(const struct outbox *box, const char *to, struct pl_str after)
{
    const struct message *m = box->messages.items, *best = NULL;
    for (size_t i = 0; i < box->messages.n; i++)
        if (pl_str_eqz(m[i].to, to) && compare(m[i].id, after) > 0 && (!best || compare(m[i].id, best->id) > 0) && m[i].pin.n == 8 && m[i].pin.p[0] == '"')
            best = &m[i];
    return best ? (struct pl_str){ best->pin.p + 1, 6 } : PL_STR_NONE;
}

enum pl_err rest_pin(struct rest *r, const char *to, struct pl_str after, struct pl_str *ret_pin, struct pl_fail *reterr)
{
    struct pl_mono end = pl_mono_add(pl_now_mono(&pl_clock_system), PIN_WAIT);
    enum pl_err e = PL_OK;
    while (e == PL_OK && pl_mono_cmp(pl_now_mono(&pl_clock_system), end) < 0) {
        struct outbox box = { 0 };
        e = read_outbox(r, &box, reterr);
        if (e == PL_OK) {
            struct pl_str pin = newest_pin(&box, to, after);
            if (pin.n) {
                *ret_pin = pin;
                return PL_OK;
            }
            e = r->pause(r->pause_arg);
        }
    }
    return e != PL_OK ? e : pl_fail(reterr, PL_NOT_FOUND, "No PIN for %s is in the outbox.", to);
}
