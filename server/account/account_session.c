/* account_session.c - tokens, sessions, grants: rows in which only hashes stand. */
#include "account_int.h"

#define ACCESS "plat"
#define REFRESH "plrt"
#define GRANT "plsg"
#define REUSE_GRACE (30 * PL_SECOND)

static struct pl_str hash_str(const uint8_t hash[32]) { return (struct pl_str){ (const char *)hash, 32 }; }

/* ---- after a commit ---- */

void account_nudge(void *arg)
{
    const struct account_nudge *n = arg;
    char id[PL_UUID_TEXT], subject[PL_UUID_TEXT + 8];
    struct pl_buf b = pl_buf_fixed(subject, sizeof subject);
    pl_uuid_text(n->account_id, id);
    pl_buf_fmt(&b, "account.%s", id);
    if (n->ctx->bus && pl_buf_err(&b) == PL_OK) {
        bus_nudge(n->ctx->bus, subject);
        bus_nudge(n->ctx->bus, "facts");
    }
    notify_wake(n->ctx->notify);
}

enum pl_err account_delegation_nudge_after(struct http_call *c, struct account *ctx, struct pl_uuid account_id)
{
    struct account_nudge *n = PL_NEW(c->arena, struct account_nudge);
    if (!n)
        return PL_NO_MEMORY;
    *n = (struct account_nudge){ ctx, account_id };
    http_after(c, account_nudge, n);
    return PL_OK;
}

enum pl_err account_nudge_after(struct http_call *c, struct pl_uuid account_id) { return account_delegation_nudge_after(c, c->self, account_id); }

/* ---- making ---- */

struct family {
    struct pl_uuid account_id, client_id, id;
    int32_t generation;
    struct pl_utc idle_ends_at;
};

static enum pl_err tokens_put(const struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct family *f, struct account_tokens *ret)
{
    struct pl_utc access_ends = pl_utc_add(now, ctx->settings.access_life);
    struct account_tokens t = { .account_id = f->account_id, .client_id = f->client_id, .expires_in = pl_seconds_up(ctx->settings.access_life) };
    uint8_t access[32], refresh[32];
    if (pl_utc_cmp(f->idle_ends_at, access_ends) < 0)
        access_ends = f->idle_ends_at;
    secure_token_new(ACCESS, t.access);
    secure_token_new(REFRESH, t.refresh);
    enum pl_err e = secure_token_hash(pl_str_of(t.access), ACCESS, access);
    if (e == PL_OK)
        e = secure_token_hash(pl_str_of(t.refresh), REFRESH, refresh);
    if (e == PL_OK)
        e = account_sql_tokens_insert(tx, hash_str(access), hash_str(refresh), f->account_id, f->client_id, f->id, f->generation, access_ends, f->idle_ends_at, NULL);
    if (e == PL_OK)
        *ret = t;
    secure_wipe(&t, sizeof t);
    return e;
}

/* Idle and absolute end, the earlier of both. */
static struct pl_utc idle_end(const struct account *ctx, struct pl_utc now, struct pl_utc ends_at)
{
    struct pl_utc idle = pl_utc_add(now, ctx->settings.refresh_idle);
    return pl_utc_cmp(idle, ends_at) < 0 ? idle : ends_at;
}

enum pl_err account_session_open(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, const struct account_client *client, struct account_tokens *ret)
{
    struct account_sql_client_put_row put;
    bool found;
    struct pl_utc ends_at = pl_utc_add(now, ctx->settings.refresh_life);
    struct family f = { .account_id = account_id, .id = pl_uuid7(ctx->rand, now), .idle_ends_at = idle_end(ctx, now, ends_at) };
    struct account_sql_hold_row held;
    enum pl_err e = account_sql_hold(tx, account_id, &held, &found);
    if (e == PL_OK && !found)
        return PL_UNAUTHENTICATED;
    if (e == PL_OK)
        e = account_sql_client_put(tx, account_id, pl_uuid7(ctx->rand, now), client->name, client->platform, client->key_hash, now, &put, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_INTERNAL : e;
    f.client_id = put.id;
    if ((e = account_clients_trim(ctx, tx, now, account_id)) != PL_OK)
        return e;
    if ((e = account_sql_tokens_delete(tx, account_id, f.client_id, NULL)) == PL_OK)
        e = account_sql_session_start(tx, account_id, f.client_id, f.id, now, f.idle_ends_at, ends_at, NULL);
    if (e == PL_OK)
        e = journal_audit(tx, now, &(struct journal_audit){ .account = account_id, .actor = f.client_id, .action = "session.opened", .detail = PL_STR("{}") });
    if (e == PL_OK)
        account_count(ACCOUNT_M_SESSIONS);
    return e == PL_OK ? tokens_put(ctx, tx, now, &f, ret) : e;
}

void account_tokens_write(struct jw *w, const struct account_tokens *t)
{
    jw_uuid(w, "account_id", t->account_id);
    jw_uuid(w, "client_id", t->client_id);
    jw_z(w, "access_token", t->access);
    jw_int(w, "expires_in", t->expires_in);
    jw_z(w, "refresh_token", t->refresh);
}

/* ---- refreshing ---- */

/* S-S3: lost replies happen. The reply to the last rotation may have been lost when it was a moment ago, its tokens were not used, and the same client asks. */
static bool in_grace(const struct account_sql_session_lock_row *s, const struct account_sql_token_refresh_row *t, const struct account_sql_client_get_row *client,
                     struct pl_str key_hash, struct pl_utc now)
{
    return t->generation == s->generation - 1 && pl_utc_sub(now, s->rotated_at) < REUSE_GRACE && client->key_hash.p && key_hash.p &&
           secure_eq(client->key_hash.p, client->key_hash.n, key_hash.p, key_hash.n);
}

static enum pl_err reused(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct account_sql_token_refresh_row *t, struct pl_str client_name)
{
    enum pl_err e = account_session_end(ctx, tx, now, t->account_id, t->client_id);
    if (e == PL_OK)
        e = journal_audit(tx, now, &(struct journal_audit){ .account = t->account_id, .actor = t->client_id, .action = "session.token_reused", .detail = PL_STR("{}") });
    return e == PL_OK ? account_tell(ctx, tx, now, t->account_id, NOTIFY_TOKEN_REUSED, client_name) : e;
}

/* It is not the newest: one whose successor got lost on its way back, or one that two have. The session is locked, so that they come one after the other. */
static enum pl_err refresh_again(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct account_sql_token_refresh_row *t, struct pl_str client_key_hash, struct family *f,
                                 bool *ret_reused)
{
    struct account_sql_session_lock_row s;
    struct account_sql_client_get_row client;
    bool found;
    enum pl_err e = account_sql_session_lock(tx, t->account_id, t->client_id, t->family, now, &s, &found);
    if (e == PL_OK && found)
        e = account_sql_client_get(tx, t->account_id, t->client_id, &client, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_UNAUTHENTICATED : e;
    f->generation = s.generation;
    f->idle_ends_at = idle_end(ctx, now, s.ends_at);
    *ret_reused = !in_grace(&s, t, &client, client_key_hash, now);
    return *ret_reused ? reused(ctx, tx, now, t, client.name) : PL_OK;
}

enum pl_err account_session_refresh(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_str refresh, struct pl_str client_key_hash, struct account_tokens *ret,
                                    bool *ret_reused)
{
    struct account_sql_token_refresh_row t;
    struct account_sql_session_rotate_row next;
    uint8_t hash[32];
    int64_t seen = 0;
    bool found = false, newest;
    *ret_reused = false;
    enum pl_err e = secure_token_hash(refresh, REFRESH, hash);
    if (e == PL_OK)
        e = account_sql_token_refresh(tx, hash_str(hash), now, &t, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_UNAUTHENTICATED : e;
    struct family f = { .account_id = t.account_id, .client_id = t.client_id, .id = t.family };
    e = account_sql_session_rotate(tx, t.account_id, t.client_id, t.family, t.generation, now, pl_utc_add(now, ctx->settings.refresh_idle), &next, &newest);
    if (e == PL_OK && newest) {
        f.generation = next.generation;
        f.idle_ends_at = next.idle_ends_at;
    } else if (e == PL_OK)
        e = refresh_again(ctx, tx, now, &t, client_key_hash, &f, ret_reused);
    if (e == PL_OK && *ret_reused) {
        *ret = (struct account_tokens){ .account_id = t.account_id, .client_id = t.client_id };
        return PL_OK;
    }
    if (e == PL_OK && (e = account_sql_client_seen(tx, t.account_id, t.client_id, now, &seen)) == PL_OK && seen != 1)
        e = PL_UNAUTHENTICATED;
    return e == PL_OK ? tokens_put(ctx, tx, now, &f, ret) : e;
}

/* ---- ending ---- */

enum pl_err account_session_end(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid client_id)
{
    enum pl_err e = account_sql_session_end(tx, account_id, client_id, NULL);
    if (e == PL_OK)
        e = account_sql_tokens_delete(tx, account_id, client_id, NULL);
    if (e == PL_OK)
        e = account_sql_grants_delete(tx, account_id, client_id, NULL);
    return e == PL_OK ? journal_fact(tx, ctx->rand, now, JOURNAL_SESSION_REVOKED, account_id, client_id, PL_STR("{}")) : e;
}

enum pl_err account_end_others(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid keep)
{
    struct account_sql_session_drop_others_row *rows;
    size_t n;
    enum pl_err e = account_sql_session_drop_others(tx, account_id, keep, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = account_session_end(ctx, tx, now, account_id, rows[i].client_id);
    return e == PL_OK ? account_sql_client_drop_others(tx, account_id, keep, NULL) : e;
}

/* Sessions first: what a client links holds its session, so that it is done before this or refused. Then what opens challenges (log-ins by a link), then the challenges. */
enum pl_err account_end_all(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id)
{
    enum pl_err e = account_end_others(ctx, tx, now, account_id, (struct pl_uuid){ { 0 } });
    if (e == PL_OK && ctx->unlink)
        e = ctx->unlink(tx, account_id);
    if (e == PL_OK)
        e = account_delegations_end(ctx, tx, now, account_id);
    if (e == PL_OK)
        e = pin_end(tx, account_id);
    return e == PL_OK ? account_sql_reset_forget(tx, account_id, NULL) : e;
}

enum pl_err account_grant_make(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid client_id, enum pin_purpose purpose, char ret[SECURE_TOKEN_TEXT])
{
    uint8_t hash[32];
    secure_token_new(GRANT, ret);
    enum pl_err e = secure_token_hash(pl_str_of(ret), GRANT, hash);
    if (e == PL_OK)
        e = account_sql_grant_insert(tx, account_id, hash_str(hash), client_id, pl_str_of(pin_purpose_names[purpose]), pl_utc_add(now, ACCOUNT_GRANT_LIFE), NULL);
    return e;
}

/* ---- the hooks of http's engine ---- */

static enum pl_err scoped(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_str token, struct http_actor *ret, struct pl_utc *ret_until)
{
    struct pl_utc until, used;
    enum pl_err e = account_delegation_authenticate(tx, now, token, ret, &until, &used);
    if (e != PL_OK)
        return e;
    account_used_note(ctx->used, ret, now, used);
    if (ret_until)
        *ret_until = until;
    return PL_OK;
}

enum pl_err account_authenticate(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_str token, struct http_actor *ret, struct pl_utc *ret_until)
{
    struct account_sql_token_access_row row;
    uint8_t hash[32];
    bool found;
    enum pl_err e = secure_token_hash(token, ACCESS, hash);
    if (e == PL_UNAUTHENTICATED)
        return scoped(ctx, tx, now, token, ret, ret_until);
    if (e == PL_OK)
        e = account_sql_token_access(tx, hash_str(hash), now, &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_UNAUTHENTICATED : e;
    *ret = (struct http_actor){ .account_id = row.account_id, .client_id = row.client_id };
    if (ret_until)
        *ret_until = row.expires_at;
    return PL_OK;
}

enum pl_err account_hold_client(struct db_tx *tx, struct pl_utc now, const struct http_actor *actor)
{
    struct account_sql_session_hold_row row;
    bool found;
    if (actor->scopes.p)
        return account_delegation_hold(tx, now, actor);
    enum pl_err e = account_sql_session_hold(tx, actor->account_id, actor->client_id, now, &row, &found);
    return e == PL_OK && !found ? PL_UNAUTHENTICATED : e;
}

static enum pl_err hook_authenticate(void *self, struct db_tx *tx, struct pl_utc now, struct pl_str token, struct http_actor *ret)
{
    return account_authenticate(self, tx, now, token, ret, NULL);
}

static enum pl_err hook_spend_grant(void *self, struct db_tx *tx, struct pl_utc now, const struct http_actor *actor, const char *purpose, struct pl_str grant)
{
    uint8_t hash[32];
    int64_t count;
    (void)self;
    if (secure_token_hash(grant, GRANT, hash) != PL_OK)
        return PL_STEP_UP_REQUIRED;
    enum pl_err e = account_sql_grant_spend(tx, actor->account_id, hash_str(hash), actor->client_id, pl_str_of(purpose), now, &count);
    return e == PL_OK && count != 1 ? PL_STEP_UP_REQUIRED : e;
}

struct http_hooks account_hooks(struct account *ctx)
{
    return (struct http_hooks){ .self = ctx, .authenticate = hook_authenticate, .spend_grant = hook_spend_grant };
}
