/* account_delegation.c - what a person has given to a script or a linked service: scopes, tokens, an end. To everything behind the token check it is one more client. */
#include "account_int.h"

#define MOST 50
#define SYSTEMS_MOST 200
#define USED_EVERY PL_MINUTE
#define USED_MOST 256

/* A scope that opens nothing is not offered. live:talk adds to live:view; alone it opens nothing. */
const struct account_scope account_scopes[] = {
    { "account:read", "see your e-mail address and phone number" },
    { "systems:read", "see your systems" },
    { "systems:write", "make and rename systems" },
    { "devices:read", "see your cameras and hubs, and how they are" },
    { "devices:write", "rename your cameras and hubs, and send them commands" },
    { "live:view", "watch your cameras live" },
    { "live:talk", "talk through your cameras' speakers while it watches" },
    { "events:read", "be told at once of all that changes" },
    { NULL, NULL } };

static const struct {
    const char *name, *prefix, *given, *ended; /* of the row, of its tokens; words of what its owner is told */
} kinds[] = {
    [ACCOUNT_TOKEN] = { "token", "plst", "token_given", "token_ended" },
    [ACCOUNT_SERVICE] = { "service", "plot", "service_given", "service_ended" },
};

static struct pl_str hash_str(const uint8_t hash[32]) { return (struct pl_str){ (const char *)hash, 32 }; }

/* ---- scopes ---- */

static bool in_list(const struct json_list *given, const char *name)
{
    const struct pl_str *words = given->items;
    for (size_t i = 0; i < given->n; i++)
        if (pl_str_eqz(words[i], name))
            return true;
    return false;
}

static const struct account_scope *scope_find(struct pl_str name)
{
    for (const struct account_scope *s = account_scopes; s->name; s++)
        if (pl_str_eqz(name, s->name))
            return s;
    return NULL;
}

enum pl_err account_scopes_take(struct pl_arena *a, const struct json_list *given, struct pl_str *ret, struct pl_fail *reterr)
{
    const struct pl_str *words = given->items;
    struct pl_buf b = pl_buf_init(a, 512);
    for (size_t i = 0; i < given->n; i++)
        if (!scope_find(words[i]))
            return pl_fail_field(reterr, PL_INVALID_REQUEST, "scopes", "scopes: there is no scope \"%.*s\".", PL_FMT(words[i]));
    for (const struct account_scope *s = account_scopes; s->name; s++)
        if (in_list(given, s->name))
            pl_buf_fmt(&b, "%s%s", b.n ? " " : "", s->name);
    if (!b.n)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "scopes", "scopes: at least one is expected.");
    *ret = pl_buf_view(&b);
    return pl_buf_err(&b);
}

void account_scopes_write(struct jw *w, struct pl_str scopes)
{
    jw_array(w, "scopes");
    while (scopes.n)
        jw_str(w, NULL, pl_str_split(scopes, ' ', &scopes));
    jw_end_array(w);
}

/* ---- systems: 16 bytes each ---- */

bool account_sees(const struct http_actor *who, struct pl_uuid system_id)
{
    bool sees = !who->systems.p;
    for (size_t i = 0; !sees && i + sizeof system_id.b <= who->systems.n; i += sizeof system_id.b)
        sees = memcmp(who->systems.p + i, system_id.b, sizeof system_id.b) == 0;
    return sees;
}

enum pl_err account_systems_take(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, const struct json_list *given, struct pl_str *ret,
                                 struct pl_fail *reterr)
{
    struct pl_buf b = pl_buf_init(db_arena(tx), SYSTEMS_MOST * sizeof(struct pl_uuid) + 1);
    *ret = PL_STR_NONE;
    if (!given)
        return PL_OK;
    const struct pl_str *ids = given->items;
    for (size_t i = 0; i < given->n; i++) {
        struct http_actor had = { .systems = { (const char *)b.p, b.n } };
        struct pl_uuid id;
        if (pl_uuid_parse(ids[i], &id) != PL_OK)
            return pl_fail_field(reterr, PL_INVALID_REQUEST, "systems", "systems: ids of systems are expected.");
        enum pl_err e = ctx->member ? ctx->member(tx, now, account_id, id) : PL_NOT_FOUND;
        if (e != PL_OK)
            return e == PL_NOT_FOUND ? pl_fail_field(reterr, e, "systems", "systems: there is no system %.*s.", PL_FMT(ids[i])) : e;
        if (!had.systems.p || !account_sees(&had, id))
            pl_buf_add(&b, id.b, sizeof id.b);
    }
    if (!b.n)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "systems", "systems: at least one is expected; without the list all are meant.");
    *ret = pl_buf_view(&b);
    return pl_buf_err(&b);
}

void account_systems_write(struct jw *w, struct pl_str systems)
{
    struct pl_uuid id;
    if (!systems.p) {
        jw_null(w, "systems");
        return;
    }
    jw_array(w, "systems");
    for (size_t i = 0; i + sizeof id.b <= systems.n; i += sizeof id.b) {
        memcpy(id.b, systems.p + i, sizeof id.b);
        jw_uuid(w, NULL, id);
    }
    jw_end_array(w);
}

/* ---- making and ending ---- */

/* The owner hears of everybody who gets access, and of who loses it: apps by an event, the person by e-mail. */
static enum pl_err tell(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct http_actor *actor, struct pl_uuid id, enum account_delegation_kind kind, bool given,
                        struct pl_str name)
{
    struct pl_arena *a = db_arena(tx);
    struct pl_buf b = pl_buf_init(a, 256);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_uuid(&w, "id", id);
    jw_z(&w, "kind", kinds[kind].name);
    jw_z(&w, "change", given ? "given" : "ended");
    jw_close(&w);
    if (pl_buf_err(&b) != PL_OK)
        return PL_NO_MEMORY;
    enum pl_err e = account_tell_with(ctx, tx, now, actor->account_id,
                                      &(struct notify_message){ .kind = NOTIFY_ACCESS_CHANGED, .about = pl_str_of(given ? kinds[kind].given : kinds[kind].ended), .name = name });
    if (e == PL_OK)
        e = journal_audit(tx, now, &(struct journal_audit){ .account = actor->account_id, .actor = actor->client_id, .action = given ? "access.given" : "access.ended", .detail = pl_buf_view(&b) });
    return e == PL_OK ? journal_event(tx, now, actor->account_id, (struct pl_uuid){ { 0 } }, "account.access_changed", pl_buf_view(&b)) : e;
}

enum pl_err account_lock(struct db_tx *tx, struct pl_uuid account_id)
{
    struct account_sql_lock_row held;
    bool found;
    enum pl_err e = account_sql_lock(tx, account_id, &held, &found);
    return e == PL_OK && !found ? PL_UNAUTHENTICATED : e;
}

enum pl_err account_delegation_add(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct http_actor *actor, const struct account_delegation *d, struct pl_uuid *ret_id)
{
    struct pl_uuid id = pl_uuid7(ctx->rand, now), account_id = actor->account_id;
    int64_t count = 0;
    enum pl_err e = account_lock(tx, account_id);
    if (e == PL_OK)
        e = account_sql_delegation_add(tx, account_id, id, pl_str_of(kinds[d->kind].name), d->name, d->hint, d->scopes, d->systems, now, d->ends_at, MOST, &count);
    if (e == PL_OK && count != 1)
        return PL_TOO_MANY;
    *ret_id = id;
    return e == PL_OK ? tell(ctx, tx, now, actor, id, d->kind, true, d->name) : e;
}

void account_delegation_token_new(enum account_delegation_kind kind, char ret[SECURE_TOKEN_TEXT]) { secure_token_new(kinds[kind].prefix, ret); }

enum pl_err account_delegation_token_add(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid id, enum account_delegation_kind kind, const char *token, struct pl_utc expires_at)
{
    uint8_t hash[32];
    enum pl_err e = secure_token_hash(pl_str_of(token), kinds[kind].prefix, hash);
    return e == PL_OK ? account_sql_delegation_token_add(tx, hash_str(hash), account_id, id, expires_at, NULL) : e;
}

struct pl_str account_delegation_kind_name(enum account_delegation_kind kind) { return pl_str_of(kinds[kind].name); }

enum pl_err account_delegation_scopes(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid id, struct pl_str *ret)
{
    struct account_sql_delegation_lock_row row;
    bool found;
    enum pl_err e = account_sql_delegation_lock(tx, account_id, id, now, &row, &found);
    if (e == PL_OK && found)
        *ret = row.scopes;
    return e == PL_OK && !found ? PL_NOT_FOUND : e;
}

static enum pl_err drop(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid id, struct account_sql_delegation_drop_row *ret)
{
    bool found;
    enum pl_err e = account_sql_delegation_drop(tx, account_id, id, ret, &found);
    if (e == PL_OK && !found)
        return PL_NOT_FOUND;
    if (e == PL_OK)
        e = account_sql_delegation_tokens_drop(tx, account_id, id, NULL);
    return e == PL_OK ? journal_fact(tx, ctx->rand, now, JOURNAL_SESSION_REVOKED, account_id, id, PL_STR("{}")) : e;
}

enum pl_err account_delegation_end(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct http_actor *actor, enum account_delegation_kind kind, struct pl_uuid id)
{
    struct account_sql_delegation_drop_row row;
    enum pl_err e = drop(ctx, tx, now, actor->account_id, id, &row);
    if (e == PL_OK && !pl_str_eqz(row.kind, kinds[kind].name))
        return PL_NOT_FOUND; /* and the transaction is undone */
    return e == PL_OK ? tell(ctx, tx, now, actor, id, kind, false, row.name) : e;
}

enum pl_err account_delegations_end(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id)
{
    struct account_sql_delegation_drop_all_row *rows;
    size_t n;
    enum pl_err e = account_sql_delegation_drop_all(tx, account_id, &rows, &n);
    if (e == PL_OK)
        e = account_sql_erase_delegation_tokens(tx, account_id, NULL);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = journal_fact(tx, ctx->rand, now, JOURNAL_SESSION_REVOKED, account_id, rows[i].id, PL_STR("{}"));
    return e;
}

/* What has run into its end is taken back as if by hand: running media is cut, too. */
enum pl_err account_delegations_expire(struct account *ctx, struct db_tx *tx, struct pl_utc now)
{
    struct account_sql_delegation_ended_row *rows;
    struct account_sql_delegation_drop_row dropped;
    size_t n;
    enum pl_err e = account_sql_delegation_ended(tx, now, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = drop(ctx, tx, now, rows[i].account_id, rows[i].id, &dropped);
    return e == PL_OK ? account_sql_delegation_tokens_expire(tx, now, NULL) : e;
}

/* ---- the check of every call ---- */

enum pl_err account_delegation_authenticate(struct db_tx *tx, struct pl_utc now, struct pl_str token, struct http_actor *ret, struct pl_utc *ret_until, struct pl_utc *ret_used)
{
    struct account_sql_delegation_access_row row;
    uint8_t hash[32];
    bool found;
    enum pl_err e = PL_UNAUTHENTICATED;
    for (size_t i = 0; e != PL_OK && i < PL_COUNT(kinds); i++)
        e = secure_token_hash(token, kinds[i].prefix, hash);
    if (e == PL_OK)
        e = account_sql_delegation_access(tx, hash_str(hash), now, &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_UNAUTHENTICATED : e;
    *ret = (struct http_actor){ .account_id = row.account_id, .client_id = row.delegation_id, .scopes = row.scopes, .systems = row.systems };
    *ret_until = row.expires_at.us ? row.expires_at : (struct pl_utc){ INT64_MAX };
    *ret_used = row.last_used_at;
    return PL_OK;
}

enum pl_err account_delegation_hold(struct db_tx *tx, struct pl_utc now, const struct http_actor *actor)
{
    struct account_sql_delegation_hold_row row;
    bool found;
    enum pl_err e = account_sql_delegation_hold(tx, actor->account_id, actor->client_id, now, &row, &found);
    return e == PL_OK && !found ? PL_UNAUTHENTICATED : e;
}

/* ---- when it was used last: noted in memory by the check, which only reads, and written by the job. What is lost of it is a minute. ---- */

struct used {
    struct pl_uuid account_id, id;
    struct pl_utc at;
};

struct account_used {
    pthread_mutex_t lock;
    struct used of[USED_MOST]; /* LOCK: lock */
    size_t n;                  /* LOCK: lock */
};

enum pl_err account_used_new(struct account_used **ret)
{
    struct account_used *u = pl_heap(sizeof *u);
    if (!u)
        return PL_NO_MEMORY;
    pthread_mutex_init(&u->lock, NULL);
    *ret = u;
    return PL_OK;
}

struct account_used *account_used_free(struct account_used *u)
{
    if (u)
        pthread_mutex_destroy(&u->lock);
    return pl_heap_free(u);
}

void account_used_note(struct account_used *u, const struct http_actor *actor, struct pl_utc now, struct pl_utc last)
{
    if (last.us && pl_utc_sub(now, last) < USED_EVERY)
        return;
    PL_LOCK(&u->lock);
    for (size_t i = 0; i < u->n; i++)
        if (pl_uuid_eq(u->of[i].id, actor->client_id))
            return;
    if (u->n < USED_MOST)
        u->of[u->n++] = (struct used){ actor->account_id, actor->client_id, now };
}

static size_t take_used(struct account_used *u, struct used ret[USED_MOST])
{
    PL_LOCK(&u->lock);
    size_t n = u->n;
    memcpy(ret, u->of, n * sizeof *ret);
    u->n = 0;
    return n;
}

enum pl_err account_used_write(struct account_used *u, struct db_tx *tx)
{
    struct used *list = pl_alloc(db_arena(tx), USED_MOST * sizeof *list);
    enum pl_err e = list ? PL_OK : PL_NO_MEMORY;
    size_t n = list ? take_used(u, list) : 0;
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = account_sql_delegation_used(tx, list[i].account_id, list[i].id, list[i].at, NULL);
    return e;
}
