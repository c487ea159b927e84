/* account_http.c - the table of account routes, and the calls that only look or end something. */
#include "account_int.h"

/* ---- before sign-up ---- */

static enum pl_err on_regions(struct http_call *c, struct pl_fail *reterr)
{
    const struct account_country *guess = account_propose(c->self, c->peer, http_header(c, "Accept-Language"));
    (void)reterr;
    jw_open(&c->out, "proposed");
    jw_str(&c->out, "country", pl_str_of(guess ? guess->code : NULL));
    jw_str(&c->out, "region", pl_str_of(guess ? guess->region : NULL));
    jw_close(&c->out);
    jw_array(&c->out, "regions");
    for (const struct account_region *r = account_regions; r->id; r++) {
        jw_open(&c->out, NULL);
        jw_z(&c->out, "id", r->id);
        jw_z(&c->out, "name", r->name);
        jw_close(&c->out);
    }
    jw_end_array(&c->out);
    jw_array(&c->out, "countries");
    for (const struct account_country *k = account_countries; k->code; k++) {
        jw_open(&c->out, NULL);
        jw_z(&c->out, "code", k->code);
        jw_z(&c->out, "name", k->name);
        jw_z(&c->out, "region", k->region);
        jw_close(&c->out);
    }
    jw_end_array(&c->out);
    return PL_OK;
}

static enum pl_err on_password_rules(struct http_call *c, struct pl_fail *reterr)
{
    static const char *const refused[] = { "common", "product_name", "email" };
    (void)reterr;
    jw_int(&c->out, "min_length", 8);
    jw_int(&c->out, "max_length", 128);
    jw_z(&c->out, "counted_in", "code_points");
    jw_array(&c->out, "refused");
    for (size_t i = 0; i < PL_COUNT(refused); i++)
        jw_z(&c->out, NULL, refused[i]);
    jw_end_array(&c->out);
    jw_z(&c->out, "sentence", "8 to 128 characters of any kind, blanks too; not one that many people use, not the product's name, not your e-mail address.");
    return PL_OK;
}

/* ---- one's own account ---- */

enum pl_err account_write(struct db_tx *tx, struct jw *w, struct pl_uuid account_id)
{
    struct account_sql_by_id_row row;
    bool found;
    enum pl_err e = account_sql_by_id(tx, account_id, &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_NOT_FOUND : e;
    jw_uuid(w, "account_id", row.account_id);
    jw_str(w, "email", row.email);
    jw_str(w, "phone", row.phone);
    jw_str(w, "country", row.country);
    jw_str(w, "region", row.region);
    jw_str(w, "locale", row.locale);
    jw_utc(w, "created_at", row.created_at);
    return PL_OK;
}

static enum pl_err on_account(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    return account_write(c->tx, &c->out, c->actor.account_id);
}

/* Somebody moved house, or wants to be written to in another language. */
static enum pl_err on_account_change(struct http_call *c, struct pl_fail *reterr)
{
    const struct account_home_body *b = c->body;
    struct pl_str region, locale;
    enum pl_err e = account_locale_take(b->locale, PL_STR_NONE, &locale, reterr);
    if (e == PL_OK && b->region.p && !b->country.p)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "country", "country: a region is one of a country");
    if (e == PL_OK && b->country.p && (e = account_region_take(b->country, b->region, &region, reterr)) == PL_OK)
        e = account_sql_set_region(c->tx, c->actor.account_id, b->country, region, NULL);
    if (e == PL_OK && b->locale.p)
        e = account_sql_set_locale(c->tx, c->actor.account_id, locale, NULL);
    return e == PL_OK ? account_write(c->tx, &c->out, c->actor.account_id) : e;
}

/* ---- the tables ---- */

#define CLIENT struct account_client_body
const struct json_field account_client_fields[] = {
    JSON_F(CLIENT, name, J_STR, J_OPTIONAL, .lo = 1, .hi = 64), JSON_F(CLIENT, platform, J_STR, J_OPTIONAL, .hi = 64),
    JSON_F(CLIENT, key, J_B64, J_OPTIONAL, .lo = 32, .hi = 32), J_END };

#define SIGN_UP struct account_sign_up_body
static const struct json_field sign_up_fields[] = {
    JSON_F(SIGN_UP, email, J_EMAIL, J_REQUIRED), JSON_F(SIGN_UP, password, J_STR, J_REQUIRED, .hi = 1024), JSON_F(SIGN_UP, country, J_COUNTRY, J_REQUIRED),
    JSON_F(SIGN_UP, region, J_STR, J_OPTIONAL, .hi = 32), JSON_F(SIGN_UP, locale, J_STR, J_OPTIONAL, .hi = NOTIFY_LOCALE_MOST),
    JSON_F(SIGN_UP, client, J_OBJECT, J_OPTIONAL, .fields = account_client_fields), J_END };

#define LOG_IN struct account_log_in_body
static const struct json_field log_in_fields[] = {
    JSON_F(LOG_IN, email, J_EMAIL, J_REQUIRED), JSON_F(LOG_IN, password, J_STR, J_REQUIRED, .lo = 1, .hi = 1024),
    JSON_F(LOG_IN, client, J_OBJECT, J_OPTIONAL, .fields = account_client_fields), JSON_OPT(LOG_IN, channel, J_ENUM, .words = notify_channel_names), J_END };

#define REFRESH struct account_refresh_body
static const struct json_field refresh_fields[] = {
    JSON_F(REFRESH, refresh_token, J_STR, J_REQUIRED, .hi = 100), JSON_F(REFRESH, client_key, J_B64, J_OPTIONAL, .lo = 32, .hi = 32), J_END };

#define VERIFY struct account_verify_body
static const struct json_field verify_fields[] = { JSON_F(VERIFY, pin, J_PIN, J_OPTIONAL), JSON_F(VERIFY, totp, J_PIN, J_OPTIONAL),
    JSON_F(VERIFY, recovery_code, J_STR, J_OPTIONAL, .lo = 1, .hi = 64), JSON_F(VERIFY, passkey, J_RAW, J_OPTIONAL, .hi = 32768), J_END };

#define RESEND struct account_resend_body
static const struct json_field resend_fields[] = { JSON_OPT(RESEND, channel, J_ENUM, .words = notify_channel_names), J_END };

static const char *const phone_channels[] = { "sms", "voice", NULL };
#define DESTINATION struct account_destination_body
static const struct json_field destination_fields[] = {
    JSON_F(DESTINATION, phone, J_PHONE, J_REQUIRED), JSON_F(DESTINATION, channel, J_ENUM, J_OPTIONAL, .words = phone_channels), J_END };

#define HOME struct account_home_body
static const struct json_field home_fields[] = { JSON_F(HOME, country, J_COUNTRY, J_OPTIONAL), JSON_F(HOME, region, J_STR, J_OPTIONAL, .hi = 32),
    JSON_F(HOME, locale, J_STR, J_OPTIONAL, .hi = NOTIFY_LOCALE_MOST), J_END };

#define NAME struct account_name_body
static const struct json_field name_fields[] = { JSON_F(NAME, name, J_STR, J_REQUIRED, .lo = 1, .hi = 64), J_END };

#define RESET struct account_reset_body
static const struct json_field reset_fields[] = { JSON_F(RESET, email, J_EMAIL, J_REQUIRED), J_END };

#define RESET_OPEN struct account_reset_open_body
static const struct json_field reset_open_fields[] = { JSON_F(RESET_OPEN, channel, J_ENUM, J_OPTIONAL, .words = phone_channels), J_END };

#define NEW_PASSWORD struct account_password_body
static const struct json_field password_fields[] = { JSON_F(NEW_PASSWORD, password, J_STR, J_REQUIRED, .hi = 1024), J_END };

#define NEW_EMAIL struct account_email_body
static const struct json_field email_fields[] = { JSON_F(NEW_EMAIL, email, J_EMAIL, J_REQUIRED), J_END };

#define STEP_UP struct account_step_up_body
static const struct json_field step_up_fields[] = {
    JSON_F(STEP_UP, purpose, J_ENUM, J_REQUIRED, .words = pin_purpose_names + PIN_FIRST_STEP_UP),
    JSON_OPT(STEP_UP, channel, J_ENUM, .words = notify_channel_names), J_END };

const struct http_route account_routes[] = {
    { HTTP_GET, "/v1/regions", HTTP_PUBLIC, on_regions, "Countries and regions for the sign-up form" },
    { HTTP_GET, "/v1/password-rules", HTTP_PUBLIC, on_password_rules, "What a password must be" },
    { HTTP_POST, "/v1/accounts", HTTP_PUBLIC, account_on_sign_up, "Sign up", HTTP_BODY(SIGN_UP, sign_up_fields), .tx = HTTP_OWN_TX, .idempotent = true, .rate = HTTP_RATE_SEND, .heavy = true },
    { HTTP_POST, "/v1/sessions", HTTP_PUBLIC, account_on_log_in, "Log in", HTTP_BODY(LOG_IN, log_in_fields), .tx = HTTP_OWN_TX, .idempotent = true, .rate = HTTP_RATE_AUTH, .heavy = true },
    { HTTP_POST, "/v1/sessions/refresh", HTTP_PUBLIC, account_on_refresh, "Change a refresh token for new tokens", HTTP_BODY(REFRESH, refresh_fields), .tx = HTTP_OWN_TX, .rate = HTTP_RATE_AUTH },
    { HTTP_DELETE, "/v1/sessions/current", HTTP_SESSION, account_on_log_out, "Log out" },
    { HTTP_GET, "/v1/challenges/{id}", HTTP_PUBLIC, account_on_challenge, "Look at a challenge" },
    { HTTP_POST, "/v1/challenges/{id}/verify", HTTP_PUBLIC, account_on_verify, "Answer a challenge: with its PIN, or what stands in its place", HTTP_BODY(VERIFY, verify_fields),
      .tx = HTTP_OWN_TX, .idempotent = true, .rate = HTTP_RATE_AUTH },
    { HTTP_POST, "/v1/challenges/{id}/resend", HTTP_PUBLIC, account_on_resend, "Ask for a new PIN", HTTP_BODY(RESEND, resend_fields), .idempotent = true, .rate = HTTP_RATE_SEND },
    { HTTP_POST, "/v1/challenges/{id}/destination", HTTP_PUBLIC, account_on_destination, "Say which phone the PIN goes to", HTTP_BODY(DESTINATION, destination_fields),
      .idempotent = true, .rate = HTTP_RATE_SEND },
    { HTTP_GET, "/v1/account", HTTP_USER, on_account, "One's own account", .scope = "account:read" },
    { HTTP_PATCH, "/v1/account", HTTP_SESSION, on_account_change, "Change one's country, region and language", HTTP_BODY(HOME, home_fields) },
    { HTTP_DELETE, "/v1/account", HTTP_SESSION, account_on_delete, "Delete one's own account", .step_up = "delete_account" },
    { HTTP_POST, "/v1/password-resets", HTTP_PUBLIC, account_on_reset, "Ask for a link that resets the password", HTTP_BODY(RESET, reset_fields), .idempotent = true, .rate = HTTP_RATE_SEND },
    { HTTP_POST, "/v1/password-resets/{token}/open", HTTP_PUBLIC, account_on_reset_open, "Open the link of a reset: a PIN goes to the phone", HTTP_BODY(RESET_OPEN, reset_open_fields),
      .idempotent = true, .rate = HTTP_RATE_SEND },
    { HTTP_POST, "/v1/password-resets/{token}/finish", HTTP_PUBLIC, account_on_reset_finish, "Set the new password of a reset", HTTP_BODY(NEW_PASSWORD, password_fields),
      .tx = HTTP_OWN_TX, .idempotent = true, .rate = HTTP_RATE_AUTH, .heavy = true },
    { HTTP_POST, "/v1/account/password", HTTP_SESSION, account_on_password, "Change the password", HTTP_BODY(NEW_PASSWORD, password_fields),
      .tx = HTTP_OWN_TX, .step_up = "change_password", .idempotent = true, .rate = HTTP_RATE_AUTH, .heavy = true },
    { HTTP_POST, "/v1/account/email", HTTP_SESSION, account_on_email, "Ask for another e-mail address: a PIN goes to it", HTTP_BODY(NEW_EMAIL, email_fields),
      .step_up = "change_email", .idempotent = true, .rate = HTTP_RATE_SEND },
    { HTTP_POST, "/v1/account/phone", HTTP_SESSION, account_on_phone, "Ask for another phone number: a PIN goes to it", HTTP_BODY(DESTINATION, destination_fields),
      .step_up = "change_phone", .idempotent = true, .rate = HTTP_RATE_SEND },
    { HTTP_POST, "/v1/account/changes/{token}/undo", HTTP_PUBLIC, account_on_undo, "Undo a change of e-mail or phone by the link that went to the old one", .rate = HTTP_RATE_AUTH },
    { HTTP_POST, "/v1/account/export", HTTP_SESSION, account_on_export, "All that the account has, as one document", .step_up = "export_account" },
    { HTTP_GET, "/v1/account/clients", HTTP_SESSION, account_on_clients, "The clients that signed in" },
    { HTTP_DELETE, "/v1/account/clients", HTTP_SESSION, account_on_others_delete, "Revoke all other clients", .step_up = "revoke_clients" },
    { HTTP_PATCH, "/v1/account/clients/{id}", HTTP_SESSION, account_on_client_name, "Name a client", HTTP_BODY(NAME, name_fields) },
    { HTTP_DELETE, "/v1/account/clients/{id}", HTTP_SESSION, account_on_client_delete, "Revoke a client", .step_up = "revoke_clients" },
    { HTTP_POST, "/v1/step-up", HTTP_SESSION, account_on_step_up, "Ask for a step-up challenge", HTTP_BODY(STEP_UP, step_up_fields), .idempotent = true, .rate = HTTP_RATE_SEND },
    HTTP_END
};
