/* ctl_rest.h - REST as an app would call it, for the demo household: requests of one line, answers by field tables.
 *
 *     e = rest_call(&r, "POST", "/v1/systems", &answer, reterr, "{\"name\":\"%s\"}", name);
 */
#pragma once
#include "ctl_http.h"

struct rest {
    struct ctl *c;
    const char *host;  /**< "127.0.0.1:8080" */
    bool tls;          /**< ctl_http.h */
    const char *ca_file;
    const char *token; /**< access token; NULL: not signed in */
    const char *challenge_key;
    /* Waits a moment between two questions to the server, and may do other things meanwhile; PL_EXPIRED: the person wants to end. */
    enum pl_err (*pause)(void *arg);
    void *pause_arg;
};

struct rest_challenge { struct pl_str id, key; };
struct rest_claim { struct pl_str id, challenge, state, device_id; };
/* Everything that the demo reads from any answer; what an answer does not have stays .p NULL. */
struct rest_answer {
    struct rest_challenge challenge;
    struct { struct rest_challenge challenge; struct pl_str needs; } next;
    struct pl_str account_id, client_id, access_token, refresh_token;
    struct rest_claim claim;
    struct pl_str id, state, device_id, live_id, code;
    struct pl_str srtp; /**< raw JSON */
};
/* `fmt` NULL: no body. PL_UNAVAILABLE also when the answer is not of the documented form. */
PL_MUST enum pl_err rest_call(struct rest *r, const char *method, const char *path, struct rest_answer *ret, struct pl_fail *reterr, const char *fmt, ...) PL_PRINTF(6, 7);

/* The PIN of the newest message to that address (e-mail or phone) whose id is after `after` (.n 0: any), as the operator sees it in the outbox; waits 20 s for it.
 * PL_NOT_FOUND: messages go to a real provider, so that only their reader knows the PIN. */
PL_MUST enum pl_err rest_pin(struct rest *r, const char *to, struct pl_str after, struct pl_str *ret_pin, struct pl_fail *reterr);
/* The id of the newest message, .n 0 when there is none. Ids are UUIDv7: later ones sort after earlier ones. */
PL_MUST enum pl_err rest_newest_message(struct rest *r, struct pl_str *ret_id, struct pl_fail *reterr);
