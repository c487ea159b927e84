/* account_token.c - tokens that a person makes for a script of his own: shown once, listed, taken back. */
#include "account_int.h"

struct token_body {
    struct pl_str name;
    struct json_list scopes, systems;
    struct pl_utc expires_at;
    bool has_expires_at, has_systems;
};

/* "plst_…" and its last four: by these its owner knows it again in a list, and a program in a file. */
static struct pl_str hint_of(struct pl_arena *a, const char *token) { return pl_fmt(a, "%.5s…%s", token, token + strlen(token) - 4); }

static void write_one(struct jw *w, const struct account_sql_delegation_list_row *r)
{
    jw_uuid(w, "id", r->id);
    jw_str(w, "name", r->name);
    jw_str(w, "hint", r->hint);
    account_scopes_write(w, r->scopes);
    account_systems_write(w, r->systems);
    jw_utc(w, "created_at", r->created_at);
    jw_utc(w, "expires_at", r->ends_at);
    jw_utc(w, "last_used_at", r->last_used_at);
}

enum pl_err account_delegations_write(struct db_tx *tx, struct jw *w, const char *member, enum account_delegation_kind kind, struct pl_uuid account_id)
{
    struct account_sql_delegation_list_row *rows;
    size_t n;
    enum pl_err e = account_sql_delegation_list(tx, account_id, account_delegation_kind_name(kind), &rows, &n);
    if (e != PL_OK)
        return e;
    jw_array(w, member);
    for (size_t i = 0; i < n; i++) {
        jw_open(w, NULL);
        write_one(w, &rows[i]);
        jw_close(w);
    }
    jw_end_array(w);
    return PL_OK;
}

static enum pl_err on_tokens(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    return account_delegations_write(c->tx, &c->out, "tokens", ACCOUNT_TOKEN, c->actor.account_id);
}

static enum pl_err make(struct http_call *c, struct account_sql_delegation_list_row *row, const char *token)
{
    const struct account_delegation d = { .kind = ACCOUNT_TOKEN, .name = row->name, .hint = row->hint, .scopes = row->scopes, .systems = row->systems, .ends_at = row->ends_at };
    enum pl_err e = account_delegation_add(c->self, c->tx, c->now, &c->actor, &d, &row->id);
    if (e == PL_OK) /* an undo or a reset may have come before the account was ours */
        e = account_hold_client(c->tx, c->now, &c->actor);
    if (e == PL_OK)
        e = account_delegation_token_add(c->tx, c->actor.account_id, row->id, ACCOUNT_TOKEN, token, row->ends_at);
    return e == PL_OK ? account_nudge_after(c, c->actor.account_id) : e;
}

static enum pl_err on_make(struct http_call *c, struct pl_fail *reterr)
{
    const struct token_body *b = c->body;
    struct account_sql_delegation_list_row row = { .name = b->name, .created_at = c->now, .ends_at = b->expires_at };
    char token[SECURE_TOKEN_TEXT];
    if (b->has_expires_at && pl_utc_cmp(b->expires_at, c->now) <= 0)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "expires_at", "expires_at: a time to come is expected.");
    account_delegation_token_new(ACCOUNT_TOKEN, token);
    row.hint = hint_of(c->arena, token);
    enum pl_err e = account_scopes_take(c->arena, &b->scopes, &row.scopes, reterr);
    if (e == PL_OK)
        e = account_systems_take(c->self, c->tx, c->now, c->actor.account_id, b->has_systems ? &b->systems : NULL, &row.systems, reterr);
    if (e == PL_OK)
        e = make(c, &row, token);
    if (e == PL_OK) {
        c->status = 201;
        jw_z(&c->out, "token", token);
        write_one(&c->out, &row);
    }
    secure_wipe(token, sizeof token);
    return e;
}

static enum pl_err on_end(struct http_call *c, struct pl_fail *reterr)
{
    struct pl_uuid id;
    (void)reterr;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e == PL_OK)
        e = account_delegation_end(c->self, c->tx, c->now, &c->actor, ACCOUNT_TOKEN, id);
    return e == PL_OK ? account_nudge_after(c, c->actor.account_id) : e;
}

#define TOKEN struct token_body
static const struct json_field token_fields[] = { JSON_F(TOKEN, name, J_STR, J_REQUIRED, .lo = 1, .hi = 64), JSON_F(TOKEN, scopes, J_STRS, J_REQUIRED, .hi = 32),
    JSON_OPT(TOKEN, systems, J_STRS, .hi = 200), JSON_OPT(TOKEN, expires_at, J_TIME), J_END };

const struct http_route account_token_routes[] = {
    { HTTP_GET, "/v1/account/tokens", HTTP_SESSION, on_tokens, "The tokens that were made for scripts" },
    { HTTP_POST, "/v1/account/tokens", HTTP_SESSION, on_make, "Make a token for a script", HTTP_BODY(TOKEN, token_fields), .step_up = "make_token", .idempotent = true },
    { HTTP_DELETE, "/v1/account/tokens/{id}", HTTP_SESSION, on_end, "Take a token back" },
    HTTP_END
};
