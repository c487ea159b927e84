/* oauth_int.h - what the files of oauth/ share. Not a door. */
#pragma once
#include "oauth.h"
#include "oauth_sql.h"

/* A form (application/x-www-form-urlencoded) or the query of a call: a value by name; .p NULL: absent. */
struct oauth_pair { struct pl_str name, value; };
struct oauth_form {
    struct oauth_pair pairs[24];
    size_t n;
};
/* PL_INVALID_REQUEST: malformed, too many, or a name twice (RFC 6749, 3.1). */
PL_MUST enum pl_err oauth_form_take(struct pl_arena *a, struct pl_str body, struct oauth_form *ret);
struct pl_str oauth_form_get(const struct oauth_form *f, const char *name);
/* `s` as text of HTML, also inside an attribute. */
void oauth_html(struct pl_buf *b, struct pl_str s);

/* An authorization request (RFC 6749, 4.1.1; RFC 7636, 4.3). */
struct oauth_request {
    struct pl_str client_id, redirect_uri, response_type, scope, state, code_challenge, code_challenge_method;
    struct json_list systems; /**< which the person chose, when he says yes */
    bool has_systems;         /**< false: all, also those to come */
};
/* PL_NOT_OFFERED; PL_INVALID_REQUEST: who asks is unknown or may not be answered there, so nothing is sent there. *ret_error: what else is wrong with the request, a word of
 * RFC 6749 4.1.2.1; NULL: nothing, and *ret_scopes is filled. */
PL_MUST enum pl_err oauth_request_check(const struct oauth_ctx *ctx, struct db_tx *tx, const struct oauth_request *r, struct oauth_sql_client_get_row *ret_client, struct pl_str *ret_scopes,
                                        const char **ret_error, struct pl_fail *reterr);
/* Where the browser goes next: redirect_uri with `name=value`, state and iss (RFC 9207). */
PL_MUST enum pl_err oauth_answer(const struct oauth_ctx *ctx, struct pl_arena *a, const struct oauth_request *r, const char *name, const char *value, struct pl_str *ret);
/* PL_NOT_OFFERED with a sentence, when the operator has set no issuer. */
PL_MUST enum pl_err oauth_offered(const struct oauth_ctx *ctx, struct pl_fail *reterr);
bool oauth_redirect_good(struct pl_str uri);

/* Unlinks: the delegation and what is oauth's of it. PL_NOT_FOUND. */
PL_MUST enum pl_err oauth_unlink(const struct oauth_ctx *ctx, struct db_tx *tx, struct pl_utc now, const struct http_actor *actor, struct pl_uuid delegation_id);

/* Files that the page consists of, embedded. */
extern const struct pl_str oauth_page_html, oauth_page_js, oauth_page_css;
