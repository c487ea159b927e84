/* account_factor.c - authenticator app, recovery codes and passkeys as an app meets them: setting them up, and answering with them in place of a PIN. */
#include "account_int.h"

/* The owner is told of every change of how one signs in; a thief who adds a way of his own is then not alone in knowing. */
static enum pl_err tell(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid client_id, const char *action, const char *said,
                        int32_t left)
{
    enum pl_err e = account_tell_with(ctx, tx, now, account_id, &(struct notify_message){ .kind = NOTIFY_FACTORS_CHANGED, .about = pl_str_of(said), .ordinal = left });
    return e == PL_OK ? journal_audit(tx, now, &(struct journal_audit){ .account = account_id, .actor = client_id, .action = action, .detail = PL_STR("{}") }) : e;
}

static enum pl_err tell_of_call(struct http_call *c, const char *action, const char *said)
{
    struct account *ctx = c->self;
    enum pl_err e = tell(ctx, c->tx, c->now, c->actor.account_id, c->actor.client_id, action, said, 0);
    if (e == PL_OK)
        http_after(c, notify_wake, ctx->notify);
    return e;
}

/* ---- answering a challenge ---- */

void account_methods_write(struct jw *w, const struct factor_set *set)
{
    jw_array(w, "methods");
    for (int i = 0; i < NOTIFY_CHANNELS; i++)
        jw_z(w, NULL, notify_channel_names[i]);
    if (set->totp)
        jw_z(w, NULL, "totp");
    if (set->recovery_codes)
        jw_z(w, NULL, "recovery_code");
    if (set->passkeys)
        jw_z(w, NULL, "passkey");
    jw_end_array(w);
}

static enum pl_err take_recovery_code(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct pin_challenge *ch, struct pl_str code)
{
    struct factor_set set;
    enum pl_err e = factor_recovery_take(&ctx->factor, tx, ch->account_id, code);
    if (e == PL_OK)
        e = factor_look(tx, ch->account_id, &set);
    return e == PL_OK ? tell(ctx, tx, now, ch->account_id, ch->client_id, "recovery_code.used", "recovery_code_used", (int32_t)set.recovery_codes) : e;
}

static enum pl_err take_passkey(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct pin_challenge *ch, struct pl_str key, struct pl_str credential, struct factor_used *ret,
                                struct pl_fail *reterr)
{
    struct pl_str question = factor_passkey_question(&ctx->factor, db_arena(tx), ch->id, key);
    if (!question.p)
        return PL_NO_MEMORY;
    enum pl_err e = factor_passkey_take(&ctx->factor, tx, now, question, credential, ret, reterr);
    return e == PL_OK && !pl_uuid_eq(ret->account_id, ch->account_id) ? pl_fail(reterr, PL_PASSKEY_REFUSED, "This passkey is not known here.") : e;
}

enum pl_err account_factor_take(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct pin_challenge *ch, struct pl_str key, const struct account_verify_body *b,
                                struct factor_used *ret_used, struct pl_fail *reterr)
{
    if (b->totp.p)
        return factor_totp_take(&ctx->factor, tx, now, ch->account_id, b->totp);
    if (b->recovery_code.p)
        return take_recovery_code(ctx, tx, now, ch, b->recovery_code);
    return take_passkey(ctx, tx, now, ch, key, b->passkey, ret_used, reterr);
}

struct copied {
    struct account *ctx;
    struct pl_utc now;
    struct factor_used used;
};
static enum pl_err copied_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    const struct copied *k = arg;
    (void)reterr;
    return tell(k->ctx, tx, k->now, k->used.account_id, k->used.passkey_id, "passkey.copied", "passkey_copied", 0);
}

void account_factor_copied(struct http_call *c, const struct factor_used *used)
{
    struct copied k = { c->self, c->now, *used };
    if (!used->copied)
        return;
    enum pl_err e = db_run(c->db, c->arena, copied_tx, &k, NULL);
    if (e != PL_OK)
        PL_LOG(&c->log, PL_WARN, "account.copied-passkey-not-told", PL_F_ERR(e));
    notify_wake(k.ctx->notify);
}

/* The question is the challenge's own, so that nothing is kept for it. */
static enum pl_err on_challenge_passkey(struct http_call *c, struct pl_fail *reterr)
{
    struct account *ctx = c->self;
    struct pin_challenge ch;
    struct pl_str key;
    enum pl_err e = account_challenge_of(c, &ch, &key, reterr);
    if (e == PL_OK)
        e = factor_passkey_offered(&ctx->factor, reterr);
    if (e == PL_OK && !pin_other_permitted(ch.purpose))
        e = PL_CHANNEL_REFUSED;
    if (e != PL_OK)
        return e;
    struct pl_str question = factor_passkey_question(&ctx->factor, c->arena, ch.id, key);
    return question.p ? factor_passkey_ask(&ctx->factor, c->tx, c->now, FACTOR_SIGN_IN, ch.account_id, PL_STR_NONE, question, &c->out) : PL_NO_MEMORY;
}

/* ---- signing in with a passkey alone ---- */

static enum pl_err on_sign_in_options(struct http_call *c, struct pl_fail *reterr)
{
    struct account *ctx = c->self;
    enum pl_err e = factor_passkey_offered(&ctx->factor, reterr);
    return e == PL_OK ? factor_passkey_ask(&ctx->factor, c->tx, c->now, FACTOR_SIGN_IN, (struct pl_uuid){ { 0 } }, PL_STR_NONE, PL_STR_NONE, &c->out) : e;
}

struct passkey_sign_in_body {
    struct pl_str credential;
    struct account_client_body client;
};
struct sign_in {
    struct http_call *c;
    struct account_client client;
    struct factor_used used;
    struct account_tokens tokens;
};

static enum pl_err sign_in_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct sign_in *s = arg;
    struct account *ctx = s->c->self;
    const struct passkey_sign_in_body *b = s->c->body;
    enum pl_err e = factor_passkey_take(&ctx->factor, tx, s->c->now, PL_STR_NONE, b->credential, &s->used, reterr);
    if (e == PL_OK)
        e = account_session_open(ctx, tx, s->c->now, s->used.account_id, &s->client, &s->tokens);
    if (e == PL_OK)
        e = account_client_added(tx, s->c->now, &s->tokens);
    if (e != PL_OK)
        return e;
    s->c->status = 201;
    account_tokens_write(&s->c->out, &s->tokens);
    return PL_OK;
}

/* The device has verified its owner: two factors in one, so that no PIN is asked for. */
static enum pl_err on_sign_in(struct http_call *c, struct pl_fail *reterr)
{
    const struct passkey_sign_in_body *b = c->body;
    struct sign_in s = { .c = c };
    enum pl_err e = c->db ? account_client_of(c, &b->client, &s.client) : PL_UNAVAILABLE;
    if (e == PL_OK)
        e = http_run(c, sign_in_tx, &s, reterr);
    if (e == PL_OK && !c->replayed)
        account_nudge(&(struct account_nudge){ c->self, s.used.account_id });
    else if (e == PL_PASSKEY_REFUSED)
        account_factor_copied(c, &s.used);
    secure_wipe(&s.tokens, sizeof s.tokens);
    return e;
}

/* ---- setting up ---- */

static enum pl_err on_factors(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    return factor_write(c->tx, c->actor.account_id, &c->out);
}

static enum pl_err on_totp(struct http_call *c, struct pl_fail *reterr)
{
    struct account *ctx = c->self;
    struct account_sql_by_id_row row;
    char secret[FACTOR_SECRET_TEXT];
    struct pl_str uri;
    bool found;
    enum pl_err e = account_sql_by_id(c->tx, c->actor.account_id, &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_UNAUTHENTICATED : e;
    if ((e = factor_totp_begin(&ctx->factor, c->tx, c->now, c->actor.account_id, secret)) == PL_FACTOR_EXISTS)
        return pl_fail(reterr, e, "This account has an authenticator app. Remove it first.");
    if (e == PL_OK)
        e = factor_totp_uri(&ctx->factor, c->arena, secret, row.email, &uri);
    if (e == PL_OK) {
        c->status = 201;
        jw_z(&c->out, "secret", secret);
        jw_str(&c->out, "uri", uri);
    }
    secure_wipe(secret, sizeof secret);
    return e;
}

static enum pl_err write_new_codes(struct http_call *c)
{
    struct account *ctx = c->self;
    char codes[FACTOR_CODES][FACTOR_CODE_TEXT];
    enum pl_err e = factor_recovery_make(&ctx->factor, c->tx, c->now, c->actor.account_id, codes);
    if (e != PL_OK)
        return e;
    jw_array(&c->out, "recovery_codes");
    for (size_t i = 0; i < FACTOR_CODES; i++)
        jw_z(&c->out, NULL, codes[i]);
    jw_end_array(&c->out);
    secure_wipe(codes, sizeof codes);
    return PL_OK;
}

struct code_body { struct pl_str code; };

/* Whoever has an authenticator app may lose the phone that it is on: with the first one come recovery codes. */
static enum pl_err on_totp_confirm(struct http_call *c, struct pl_fail *reterr)
{
    const struct code_body *b = c->body;
    struct account *ctx = c->self;
    struct factor_set set;
    (void)reterr;
    enum pl_err e = factor_totp_confirm(&ctx->factor, c->tx, c->now, c->actor.account_id, b->code);
    if (e == PL_OK)
        e = factor_look(c->tx, c->actor.account_id, &set);
    if (e == PL_OK && set.recovery_codes == 0)
        e = write_new_codes(c);
    if (e == PL_OK)
        e = factor_write(c->tx, c->actor.account_id, &c->out);
    return e == PL_OK ? tell_of_call(c, "totp.added", "totp_added") : e;
}

static enum pl_err on_totp_delete(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    enum pl_err e = factor_totp_remove(c->tx, c->actor.account_id);
    return e == PL_OK ? tell_of_call(c, "totp.removed", "totp_removed") : e;
}

static enum pl_err on_recovery_codes(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    c->status = 201;
    enum pl_err e = write_new_codes(c);
    return e == PL_OK ? tell_of_call(c, "recovery_codes.made", "recovery_codes_made") : e;
}

static enum pl_err on_passkey_options(struct http_call *c, struct pl_fail *reterr)
{
    struct account *ctx = c->self;
    struct account_sql_by_id_row row;
    bool found;
    enum pl_err e = factor_passkey_offered(&ctx->factor, reterr);
    if (e == PL_OK)
        e = account_sql_by_id(c->tx, c->actor.account_id, &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_UNAUTHENTICATED : e;
    return factor_passkey_ask(&ctx->factor, c->tx, c->now, FACTOR_REGISTER, c->actor.account_id, row.email, PL_STR_NONE, &c->out);
}

struct passkey_body { struct pl_str name, credential; };

static enum pl_err on_passkey_add(struct http_call *c, struct pl_fail *reterr)
{
    const struct passkey_body *b = c->body;
    struct account *ctx = c->self;
    struct pl_uuid id;
    enum pl_err e = factor_passkey_add(&ctx->factor, c->tx, c->now, c->actor.account_id, b->name, b->credential, &id, reterr);
    if (e != PL_OK)
        return e;
    c->status = 201;
    jw_uuid(&c->out, "id", id);
    jw_str(&c->out, "name", b->name);
    return tell_of_call(c, "passkey.added", "passkey_added");
}

struct passkey_name_body { struct pl_str name; };

static enum pl_err on_passkey_rename(struct http_call *c, struct pl_fail *reterr)
{
    const struct passkey_name_body *b = c->body;
    struct pl_uuid id;
    (void)reterr;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e == PL_OK)
        e = factor_passkey_rename(c->tx, c->actor.account_id, id, b->name);
    if (e != PL_OK)
        return e;
    jw_uuid(&c->out, "id", id);
    jw_str(&c->out, "name", b->name);
    return PL_OK;
}

static enum pl_err on_passkey_delete(struct http_call *c, struct pl_fail *reterr)
{
    struct pl_uuid id;
    (void)reterr;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e == PL_OK)
        e = factor_passkey_remove(c->tx, c->actor.account_id, id);
    return e == PL_OK ? tell_of_call(c, "passkey.removed", "passkey_removed") : e;
}

/* ---- the table ---- */

#define SIGN_IN struct passkey_sign_in_body
static const struct json_field sign_in_fields[] = { JSON_F(SIGN_IN, credential, J_RAW, J_REQUIRED, .hi = 32768),
    JSON_F(SIGN_IN, client, J_OBJECT, J_OPTIONAL, .fields = account_client_fields), J_END };
#define CODE struct code_body
static const struct json_field code_fields[] = { JSON_F(CODE, code, J_PIN, J_REQUIRED), J_END };
#define PASSKEY struct passkey_body
static const struct json_field passkey_fields[] = { JSON_F(PASSKEY, name, J_STR, J_REQUIRED, .lo = 1, .hi = 64), JSON_F(PASSKEY, credential, J_RAW, J_REQUIRED, .hi = 32768), J_END };
#define PASSKEY_NAME struct passkey_name_body
static const struct json_field passkey_name_fields[] = { JSON_F(PASSKEY_NAME, name, J_STR, J_REQUIRED, .lo = 1, .hi = 64), J_END };

const struct http_route account_factor_routes[] = {
    { HTTP_GET, "/v1/account/factors", HTTP_SESSION, on_factors, "What this account can answer with beside PINs" },
    { HTTP_POST, "/v1/account/factors/totp", HTTP_SESSION, on_totp, "A secret for an authenticator app", .step_up = "change_factors" },
    { HTTP_POST, "/v1/account/factors/totp/confirm", HTTP_SESSION, on_totp_confirm, "The app's first code", HTTP_BODY(CODE, code_fields), .rate = HTTP_RATE_AUTH },
    { HTTP_DELETE, "/v1/account/factors/totp", HTTP_SESSION, on_totp_delete, "Remove the authenticator app", .step_up = "change_factors" },
    { HTTP_POST, "/v1/account/factors/recovery-codes", HTTP_SESSION, on_recovery_codes, "Ten new recovery codes", .step_up = "change_factors" },
    { HTTP_POST, "/v1/account/factors/passkeys/options", HTTP_SESSION, on_passkey_options, "What a device needs to make a passkey" },
    { HTTP_POST, "/v1/account/factors/passkeys", HTTP_SESSION, on_passkey_add, "Add a passkey", HTTP_BODY(PASSKEY, passkey_fields), .step_up = "change_factors" },
    { HTTP_PATCH, "/v1/account/factors/passkeys/{id}", HTTP_SESSION, on_passkey_rename, "Rename a passkey", HTTP_BODY(PASSKEY_NAME, passkey_name_fields) },
    { HTTP_DELETE, "/v1/account/factors/passkeys/{id}", HTTP_SESSION, on_passkey_delete, "Remove a passkey", .step_up = "change_factors" },
    { HTTP_POST, "/v1/challenges/{id}/passkey-options", HTTP_PUBLIC, on_challenge_passkey, "What a device needs to answer a challenge with a passkey" },
    { HTTP_POST, "/v1/sessions/passkey-options", HTTP_PUBLIC, on_sign_in_options, "What a device needs to sign in with a passkey", .rate = HTTP_RATE_AUTH },
    { HTTP_POST, "/v1/sessions/passkey", HTTP_PUBLIC, on_sign_in, "Sign in with a passkey", HTTP_BODY(SIGN_IN, sign_in_fields), .tx = HTTP_OWN_TX, .idempotent = true, .rate = HTTP_RATE_AUTH },
    HTTP_END
};
