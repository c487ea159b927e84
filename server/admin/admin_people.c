/* Operators as persons (S-A9): invitations, credentials, revocation, and the chain of what was done. */
#include "admin_int.h"
#include "journal.h"
#include "secure.h"

#define CREDENTIAL "plad"
#define INVITATION "plai"
#define INVITATION_LIFE PL_HOUR
#define MACHINE "machine"

const struct pl_uuid admin_chain = { .b = { 'p', 'o', 'r', 'c', 'h', 'l', 'i', 'g', 'h', 't', ' ', 'a', 'd', 'm', 'i', 'n' } };

static struct pl_str hash_str(const uint8_t hash[32]) { return (struct pl_str){ (const char *)hash, 32 }; }

/* ---- who calls ---- */

static enum pl_err authenticate(void *self, struct db_tx *tx, struct pl_utc now, struct pl_str token, struct http_actor *ret)
{
    struct admin_sql_access_row row;
    uint8_t hash[32];
    bool found;
    (void)self, (void)now;
    enum pl_err e = secure_token_hash(token, CREDENTIAL, hash);
    if (e == PL_OK)
        e = admin_sql_access(tx, hash_str(hash), &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_UNAUTHENTICATED : e;
    *ret = (struct http_actor){ .account_id = row.id, .client_id = row.id, .name = row.name };
    return PL_OK;
}

static enum pl_err begin(void *self, struct db_tx *tx, struct pl_utc now, const struct http_actor *actor)
{
    int64_t count = 1;
    (void)self;
    enum pl_err e = actor->name.p ? admin_sql_used(tx, actor->client_id, now, &count) : PL_OK;
    return e == PL_OK && count != 1 ? PL_UNAUTHENTICATED : e;
}

struct http_hooks admin_hooks(void) { return (struct http_hooks){ .authenticate = authenticate, .begin = begin }; }

bool admin_is_machine(const struct http_call *c) { return !c->actor.name.p; }

enum pl_err admin_begin(const struct http_call *c, struct db_tx *tx) { return begin(NULL, tx, c->now, &c->actor); }

static enum pl_err did(struct http_call *c, struct pl_uuid actor, struct pl_str by, const char *action, const char *member, struct pl_str value)
{
    struct pl_buf b = pl_buf_init(c->arena, 4096);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_str(&w, "by", by);
    jw_str(&w, member, value);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    return e == PL_OK ? journal_audit(c->tx, c->now, &(struct journal_audit){ .subject = admin_chain, .actor = actor, .action = action, .detail = pl_buf_view(&b) }) : e;
}

enum pl_err admin_did(struct http_call *c, const char *action, const char *member, struct pl_str value)
{
    return did(c, c->actor.client_id, admin_is_machine(c) ? PL_STR(MACHINE) : c->actor.name, action, member, value);
}

/* ---- how somebody becomes one ---- */

struct invite_body {
    struct pl_str name;
};
static const struct json_field invite_fields[] = { JSON_F(struct invite_body, name, J_STR, J_REQUIRED, .lo = 1, .hi = 32), J_END };

/* Small letters, so that no two look alike; it is shown on terminals and stands in paths. */
static bool name_good(struct pl_str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!((name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= '0' && name.p[i] <= '9') || (i && strchr("-_", name.p[i]))))
            return false;
    return !pl_str_eqz(name, MACHINE);
}

static enum pl_err on_invite(struct http_call *c, struct pl_fail *reterr)
{
    const struct invite_body *body = c->body;
    struct pl_utc until = pl_utc_add(c->now, INVITATION_LIFE);
    char token[SECURE_TOKEN_TEXT];
    uint8_t hash[32];
    int64_t count;
    if (!name_good(body->name))
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "name", "name: small letters, digits, '-' and '_' are expected, a letter or digit first, and not '%s'.", MACHINE);
    secure_token_new(INVITATION, token);
    enum pl_err e = secure_token_hash(pl_str_of(token), INVITATION, hash);
    if (e == PL_OK)
        e = admin_sql_invitations_expire(c->tx, c->now, NULL);
    if (e == PL_OK)
        e = admin_sql_invite(c->tx, body->name, hash_str(hash), c->actor.client_id, until, &count);
    if (e == PL_OK && count != 1)
        e = PL_ADMIN_NAME_TAKEN;
    if (e == PL_OK)
        e = admin_did(c, "admin.invited", "name", body->name);
    if (e == PL_OK) {
        c->status = 201;
        jw_str(&c->out, "name", body->name);
        jw_z(&c->out, "token", token);
        jw_utc(&c->out, "expires_at", until);
    }
    secure_wipe(token, sizeof token);
    return e;
}

struct accept_body {
    struct pl_str token;
};
static const struct json_field accept_fields[] = { JSON_F(struct accept_body, token, J_STR, J_REQUIRED, .hi = 256), J_END };

static enum pl_err make(struct http_call *c, struct pl_str name, struct pl_uuid invited_by)
{
    struct pl_uuid id = pl_uuid7(c->rand, c->now);
    char credential[SECURE_TOKEN_TEXT];
    uint8_t hash[32];
    secure_token_new(CREDENTIAL, credential);
    enum pl_err e = secure_token_hash(pl_str_of(credential), CREDENTIAL, hash);
    if (e == PL_OK)
        e = admin_sql_add(c->tx, id, name, hash_str(hash), invited_by, c->now, NULL);
    if (e == PL_OK)
        e = did(c, id, name, "admin.accepted", "name", name);
    if (e == PL_OK) {
        c->status = 201;
        jw_str(&c->out, "name", name);
        jw_z(&c->out, "credential", credential);
    }
    secure_wipe(credential, sizeof credential);
    return e;
}

/* A token that never was, is over or was spent are one answer. */
static enum pl_err on_accept(struct http_call *c, struct pl_fail *reterr)
{
    const struct accept_body *body = c->body;
    struct admin_sql_accept_row row;
    uint8_t hash[32];
    bool found;
    (void)reterr;
    enum pl_err e = secure_token_hash(body->token, INVITATION, hash);
    if (e == PL_OK)
        e = admin_sql_accept(c->tx, hash_str(hash), c->now, &row, &found);
    if (e == PL_OK && !found)
        e = PL_UNAUTHENTICATED;
    return e == PL_OK ? make(c, row.name, row.invited_by) : e;
}

/* ---- and ends ---- */

/* All are locked, so whoever was revoked a moment ago does not revoke any more. *ret_n: how many there are. */
static enum pl_err look(struct http_call *c, size_t *ret_n)
{
    struct admin_sql_hold_row *rows;
    bool caller = admin_is_machine(c);
    enum pl_err e = admin_sql_hold(c->tx, &rows, ret_n);
    for (size_t i = 0; e == PL_OK && i < *ret_n; i++)
        caller = caller || pl_uuid_eq(rows[i].id, c->actor.client_id);
    return e == PL_OK && !caller ? PL_UNAUTHENTICATED : e;
}

static enum pl_err revoke(struct http_call *c, struct pl_uuid id, struct pl_str name)
{
    enum pl_err e = admin_sql_revoke(c->tx, id, c->now, NULL);
    if (e == PL_OK) /* waits for who accepts one at this moment: he is found as brought in, then */
        e = admin_sql_uninvite(c->tx, name, id, NULL);
    jw_str(&c->out, NULL, name);
    return e == PL_OK ? admin_did(c, "admin.revoked", "name", name) : e;
}

/* Until nobody is left of them: one may have been brought in meanwhile. Who calls stays. */
static enum pl_err revoke_brought_in(struct http_call *c, struct pl_uuid id)
{
    struct admin_sql_brought_in_row *rows;
    size_t n, done = 1;
    enum pl_err e = PL_OK;
    while (e == PL_OK && done > 0) {
        e = admin_sql_brought_in(c->tx, id, &rows, &n);
        done = 0;
        for (size_t i = 0; e == PL_OK && i < n; i++)
            if (!pl_uuid_eq(rows[i].id, c->actor.client_id)) {
                e = revoke(c, rows[i].id, rows[i].name);
                done++;
            }
    }
    return e;
}

/* Those whom he brought in and who are admins still: whoever revokes him should know. */
static enum pl_err write_brought_in(struct http_call *c, struct pl_uuid id)
{
    struct admin_sql_brought_in_row *rows;
    size_t n = 0;
    enum pl_err e = admin_sql_brought_in(c->tx, id, &rows, &n);
    jw_array(&c->out, "brought_in");
    for (size_t i = 0; e == PL_OK && i < n; i++)
        jw_str(&c->out, NULL, rows[i].name);
    jw_end_array(&c->out);
    return e;
}

static enum pl_err uninvite(struct http_call *c, struct pl_str name)
{
    int64_t invited = 0;
    enum pl_err e = admin_sql_uninvite(c->tx, name, (struct pl_uuid){ 0 }, &invited);
    if (e == PL_OK && !invited)
        return PL_NOT_FOUND;
    jw_str(&c->out, NULL, name);
    return e == PL_OK ? admin_did(c, "admin.revoked", "name", name) : e;
}

static enum pl_err on_revoke(struct http_call *c, struct pl_fail *reterr)
{
    struct pl_str name = http_param(c, "name");
    struct admin_sql_find_row row = { 0 };
    bool found = false, with_invited = pl_str_eqz(http_query(c, "with_invited"), "true");
    size_t n;
    enum pl_err e = look(c, &n);
    if (e == PL_OK)
        e = admin_sql_find(c->tx, name, &row, &found);
    jw_array(&c->out, "revoked");
    if (e == PL_OK && found && !row.revoked_at.us)
        e = revoke(c, row.id, name);
    else if (e == PL_OK && !(found && with_invited)) /* of who was revoked before, those may go whom he brought in */
        e = uninvite(c, name);
    if (e == PL_OK && found && with_invited)
        e = revoke_brought_in(c, row.id);
    jw_end_array(&c->out);
    if (e == PL_OK)
        e = write_brought_in(c, row.id);
    if (e == PL_OK && !admin_is_machine(c) && (e = admin_sql_hold(c->tx, &(struct admin_sql_hold_row *){ NULL }, &n)) == PL_OK && n == 0)
        return pl_fail(reterr, PL_FORBIDDEN, "The last admin can be revoked only on the machine itself, over the Unix socket.");
    return e;
}

/* ---- what is there, and what was done ---- */

static enum pl_err on_list(struct http_call *c, struct pl_fail *reterr)
{
    struct admin_sql_list_row *rows;
    size_t n;
    (void)reterr;
    enum pl_err e = admin_sql_list(c->tx, &rows, &n);
    if (e != PL_OK)
        return e;
    jw_array(&c->out, "admins");
    for (size_t i = 0; i < n; i++) {
        const char *state = rows[i].invited ? "invited" : rows[i].revoked_at.us ? "revoked" : "active";
        jw_open(&c->out, NULL);
        jw_str(&c->out, "name", rows[i].name);
        jw_z(&c->out, "state", state);
        jw_str(&c->out, "invited_by", rows[i].invited_by.p ? rows[i].invited_by : PL_STR(MACHINE));
        jw_utc(&c->out, rows[i].invited ? "expires_at" : "created_at", rows[i].created_at);
        jw_utc(&c->out, "used_at", rows[i].used_at);
        jw_utc(&c->out, "revoked_at", rows[i].revoked_at);
        jw_close(&c->out);
    }
    jw_end_array(&c->out);
    return PL_OK;
}

static enum pl_err on_log(struct http_call *c, struct pl_fail *reterr)
{
    struct journal_audit_row *rows;
    size_t n;
    (void)reterr;
    enum pl_err e = journal_audit_newest(c->tx, admin_chain, &rows, &n);
    if (e != PL_OK)
        return e;
    jw_array(&c->out, "log");
    for (size_t i = 0; i < n; i++) {
        jw_open(&c->out, NULL);
        jw_int(&c->out, "number", rows[i].number);
        jw_utc(&c->out, "at", rows[i].at);
        jw_str(&c->out, "action", rows[i].action);
        jw_raw(&c->out, "detail", rows[i].detail);
        jw_close(&c->out);
    }
    jw_end_array(&c->out);
    return PL_OK;
}

const struct http_route admin_people_routes[] = {
    { HTTP_POST, "/admin/v1/admins", HTTP_SESSION, on_invite, "Make a one-time token by which somebody becomes an admin", HTTP_BODY(struct invite_body, invite_fields) },
    { HTTP_POST, "/admin/v1/admins/accept", HTTP_PUBLIC, on_accept, "Become an admin", HTTP_BODY(struct accept_body, accept_fields), .rate = HTTP_RATE_AUTH },
    { HTTP_GET, "/admin/v1/admins", HTTP_SESSION, on_list, "Admins, those that were and those that are invited" },
    { HTTP_DELETE, "/admin/v1/admins/{name}", HTTP_SESSION, on_revoke, "Revoke an admin, or an invitation" },
    { HTTP_GET, "/admin/v1/log", HTTP_SESSION, on_log, "What admins and the machine's owner did, newest first" },
    HTTP_END,
};
