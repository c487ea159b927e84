/* account_sign.c - signing up, logging in, refreshing: the calls of people who are not signed in. Each does its hashing first, outside of any transaction. */
#include "account_int.h"

#define SIGNUP_LIFE PL_DAY

/* ---- the client that asks ---- */

/* A client without a name is called after what it says of itself. */
enum pl_err account_client_of(struct http_call *c, const struct account_client_body *b, struct account_client *ret)
{
    struct account_client k = { .name = b->name, .platform = b->platform.p ? b->platform : PL_STR(""), .key_hash = PL_STR_NONE };
    if (!k.name.p) {
        struct pl_str rest;
        k.name = pl_str_split(c->user_agent, ' ', &rest);
        k.name.n = k.name.n > 64 ? 64 : k.name.n;
        if (!k.name.n || !pl_str_is_utf8(k.name))
            k.name = PL_STR("client");
    }
    if (b->key.p) {
        uint8_t *hash = pl_alloc(c->arena, 32);
        if (!hash)
            return PL_NO_MEMORY;
        secure_sha256(b->key, hash);
        k.key_hash = (struct pl_str){ (const char *)hash, 32 };
    }
    *ret = k;
    return PL_OK;
}

enum pl_err account_client_pack(struct pl_arena *a, const struct account_client *client, struct pl_str *ret)
{
    struct pl_buf b = pl_buf_init(a, 2048);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_str(&w, "name", client->name);
    jw_str(&w, "platform", client->platform);
    if (client->key_hash.p)
        jw_b64(&w, "key_hash", client->key_hash.p, client->key_hash.n);
    jw_close(&w);
    *ret = pl_buf_view(&b);
    return pl_buf_err(&b);
}

enum pl_err account_client_unpack(struct pl_arena *a, struct pl_str packed, struct account_client *ret)
{
    static const struct json_field fields[] = { JSON_F(struct account_client, name, J_STR, J_REQUIRED), JSON_F(struct account_client, platform, J_STR, J_REQUIRED),
        JSON_F(struct account_client, key_hash, J_B64, J_OPTIONAL, .lo = 32, .hi = 32), J_END };
    struct account_client k = { .key_hash = PL_STR_NONE };
    enum pl_err e = json_take(fields, JSON_STRICT, packed, a, &k, NULL);
    if (e == PL_OK)
        *ret = k;
    return e == PL_INVALID_REQUEST ? PL_INTERNAL : e;
}

/* ---- sign-up ---- */

struct sign_up {
    struct account *ctx;
    struct http_call *c;
    struct pl_utc now;
    const struct account_sign_up_body *body;
    struct account_client client;
    struct pl_str region, locale, hash;
    struct pin_opened opened;
};

/* S-A5: the same rows for a taken and a free e-mail; only what the message says is another. */
static enum pl_err sign_up_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct sign_up *s = arg;
    struct account_sql_email_taken_row row;
    bool found;
    struct pl_uuid id = pl_uuid7(s->ctx->rand, s->now);
    enum pl_err e = account_sql_email_taken(tx, s->body->email, &row, &found);
    if (e == PL_OK)
        e = account_sql_signup_insert(tx, id, s->body->email, s->hash, s->body->country, s->region, s->client.name, s->client.platform, s->client.key_hash, row.taken, s->now,
                                      pl_utc_add(s->now, SIGNUP_LIFE), s->locale, NULL);
    if (e != PL_OK)
        return e;
    struct pin_question q = { .from = http_peer_prefix(s->c), .purpose = PIN_SIGN_UP_EMAIL, .subject_id = id, .channel = NOTIFY_EMAIL, .destination = s->body->email, .locale = s->locale,
        .context = PL_STR_NONE, .decoy = row.taken };
    e = pin_open(&s->ctx->pin, tx, s->now, &q, &s->opened, reterr);
    s->c->status = 202;
    if (e == PL_OK)
        account_challenge_write(&s->c->out, &s->opened, s->now);
    return e;
}

enum pl_err account_on_sign_up(struct http_call *c, struct pl_fail *reterr)
{
    struct account *ctx = c->self;
    const struct account_sign_up_body *b = c->body;
    char hash[SECURE_PASSWORD_TEXT];
    struct pl_str password;
    struct sign_up s = { .ctx = ctx, .c = c, .now = c->now, .body = b };
    enum pl_err e = c->db ? account_region_take(b->country, b->region, &s.region, reterr) : PL_UNAVAILABLE;
    if (e == PL_OK)
        e = account_locale_take(b->locale, http_header(c, "Accept-Language"), &s.locale, reterr);
    if (e == PL_OK)
        e = account_client_of(c, &b->client, &s.client);
    if (e == PL_OK)
        e = account_password_take(c->arena, b->password, b->email, &password, reterr);
    if (e == PL_OK)
        e = account_password_hash(password, hash);
    if (e != PL_OK)
        return e;
    s.hash = pl_str_of(hash);
    if ((e = http_run(c, sign_up_tx, &s, reterr)) != PL_OK || c->replayed)
        return e;
    account_count(ACCOUNT_M_SIGN_UPS);
    notify_wake(ctx->notify);
    return PL_OK;
}

enum pl_err account_insert(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_uuid id, const struct account_new_row *row)
{
    int64_t count;
    enum pl_err e = account_sql_reserve_email(tx, row->email, id, &count);
    if (e == PL_OK && count != 1)
        return PL_EMAIL_TAKEN;
    if (e == PL_OK)
        e = account_sql_reserve_phone(tx, row->phone, id, &count);
    if (e == PL_OK && count != 1)
        return PL_PHONE_TAKEN;
    if (e == PL_OK)
        e = account_sql_insert(tx, id, row->email, row->phone, row->country, row->region, row->password_hash, now, row->locale.n ? row->locale : PL_STR(NOTIFY_LOCALE_DEFAULT), NULL);
    if (e == PL_OK)
        e = journal_audit_begin(tx, rand, now, id);
    return e == PL_OK ? journal_audit(tx, now, &(struct journal_audit){ .account = id, .action = "account.created", .detail = PL_STR("{}") }) : e;
}

enum pl_err account_from_signup(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct account_sql_signup_get_row *s, struct pl_str phone, struct account_tokens *ret)
{
    struct account_new_row row = { .email = s->email, .phone = phone, .country = s->country, .region = s->region, .password_hash = s->password_hash, .locale = s->locale };
    struct account_client client = { .name = s->client_name, .platform = s->client_platform, .key_hash = s->client_key_hash };
    struct pl_uuid id = pl_uuid7(ctx->rand, now);
    enum pl_err e = account_insert(tx, ctx->rand, now, id, &row);
    if (e == PL_OK)
        e = account_sql_signup_delete(tx, s->id, NULL);
    return e == PL_OK ? account_session_open(ctx, tx, now, id, &client, ret) : e;
}

/* ---- log-in ---- */

struct log_in {
    struct account *ctx;
    struct http_call *c;
    struct pl_utc now;
    const struct account_log_in_body *body;
    struct account_client client;
    struct account_sql_by_email_row row;
    bool found;
    struct limit_failure failure; /* counted before the password is compared */
    bool counted;
    struct pl_str new_hash; /* .p NULL: the stored one is strong enough */
};

/* S-A6: the try is counted as a wrong one, committed, before it is looked at; for an e-mail that nobody has, too. */
static enum pl_err find_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct log_in *l = arg;
    enum pl_err e = limit_failure_count(&l->ctx->pin.limits, tx, l->now, l->body->email, http_peer_prefix(l->c), &l->failure, reterr);
    return e == PL_OK ? account_sql_by_email(tx, l->body->email, &l->row, &l->found) : e;
}

static enum pl_err right_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct log_in *l = arg;
    (void)reterr;
    return limit_failure_right(tx, &l->failure);
}

static enum pl_err wrong_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct log_in *l = arg;
    (void)reterr;
    return limit_failure_wrong(&l->ctx->pin.limits, tx, l->now, &l->failure);
}

static enum pl_err undo_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct log_in *l = arg;
    (void)reterr;
    return limit_failure_undo(tx, &l->failure);
}

/* ---- behind the first factor ---- */

/* Whose first factor was right, and who asks. */
struct entry {
    struct account *ctx;
    struct http_call *c;
    struct pl_uuid account_id;
    struct pl_str email, phone, locale;
    struct account_client client;
    int channel; /* -1: it was not said */
};

static enum pl_err enter_known(const struct entry *n, struct db_tx *tx)
{
    struct account_tokens tokens;
    enum pl_err e = account_session_open(n->ctx, tx, n->c->now, n->account_id, &n->client, &tokens);
    if (e != PL_OK)
        return e;
    n->c->status = 201;
    account_tokens_write(&n->c->out, &tokens);
    secure_wipe(&tokens, sizeof tokens);
    return PL_OK;
}

static enum pl_err enter_challenged(const struct entry *n, struct db_tx *tx, struct pl_fail *reterr)
{
    enum notify_channel channel = n->channel < 0 ? NOTIFY_EMAIL : (enum notify_channel)n->channel;
    struct pin_question q = { .from = http_peer_prefix(n->c), .purpose = PIN_LOG_IN, .account_id = n->account_id, .subject_id = n->account_id, .channel = channel,
        .destination = channel == NOTIFY_EMAIL ? n->email : n->phone, .locale = n->locale };
    struct factor_set set;
    struct pin_opened opened;
    enum pl_err e = account_client_pack(db_arena(tx), &n->client, &q.context);
    if (e == PL_OK)
        e = factor_look(tx, n->account_id, &set);
    if (e != PL_OK)
        return e;
    /* Who has something better at hand is not sent a PIN unasked; a resend sends the first one. */
    if (n->channel < 0 && (set.totp || set.passkeys))
        q.destination = PL_STR_NONE;
    if ((e = pin_open(&n->ctx->pin, tx, n->c->now, &q, &opened, reterr)) != PL_OK)
        return e;
    n->c->status = 202;
    account_challenge_write(&n->c->out, &opened, n->c->now);
    account_methods_write(&n->c->out, &set);
    return PL_OK;
}

/* Tokens for a client that is known again, else a challenge. */
static enum pl_err enter(const struct entry *n, struct db_tx *tx, struct pl_fail *reterr)
{
    struct account_sql_client_by_key_row client;
    bool known = false;
    enum pl_err e = n->client.key_hash.p ? account_sql_client_by_key(tx, n->account_id, n->client.key_hash, &client, &known) : PL_OK;
    if (e != PL_OK)
        return e;
    return known ? enter_known(n, tx) : enter_challenged(n, tx, reterr);
}

enum pl_err account_log_in_as(struct account *ctx, struct http_call *c, struct db_tx *tx, struct pl_uuid account_id, const struct account_client_body *client, int channel,
                              struct pl_fail *reterr)
{
    struct entry n = { .ctx = ctx, .c = c, .account_id = account_id, .channel = channel };
    struct account_sql_hold_row held;
    struct account_sql_by_id_row row;
    bool found;
    enum pl_err e = account_sql_hold(tx, account_id, &held, &found);
    if (e == PL_OK && found)
        e = account_sql_by_id(tx, account_id, &row, &found);
    if (e == PL_OK && !found)
        return PL_UNAUTHENTICATED;
    if (e == PL_OK)
        e = account_client_of(c, client, &n.client);
    if (e != PL_OK)
        return e;
    n.email = row.email;
    n.phone = row.phone;
    n.locale = row.locale;
    return enter(&n, tx, reterr);
}

/* ---- the password ---- */

/* The password was right: and it still is the account's, until this transaction ends. */
static enum pl_err hold(struct log_in *l, struct db_tx *tx)
{
    struct account_sql_hold_row row;
    int64_t count = 0;
    bool found;
    enum pl_err e = PL_OK;
    if (l->new_hash.p)
        e = account_sql_set_password_hash(tx, l->row.account_id, l->row.password_hash, l->new_hash, &count);
    if (e != PL_OK || count == 1)
        return e;
    e = account_sql_hold(tx, l->row.account_id, &row, &found);
    return e == PL_OK && !(found && pl_str_eq(row.password_hash, l->row.password_hash)) ? PL_INVALID_CREDENTIALS : e;
}

static enum pl_err log_in_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct log_in *l = arg;
    struct entry n = { .ctx = l->ctx, .c = l->c, .account_id = l->row.account_id, .email = l->row.email, .phone = l->row.phone, .locale = l->row.locale, .client = l->client,
        .channel = l->body->has_channel ? l->body->channel : -1 };
    enum pl_err e = hold(l, tx);
    if (e == PL_OK)
        e = limit_failure_right(tx, &l->failure);
    return e == PL_OK ? enter(&n, tx, reterr) : e;
}

/* S-A5: an unknown e-mail and a wrong password cost one look-up and one verification each, and answer the same. */
static enum pl_err password_check(struct http_call *c, struct log_in *l, struct pl_fail *reterr)
{
    struct account *ctx = c->self;
    struct pl_str password;
    bool rehash = false;
    enum pl_err e = account_password_take(c->arena, l->body->password, PL_STR_NONE, &password, reterr);
    if (e == PL_OK)
        e = db_run(c->db, c->arena, find_tx, l, reterr);
    l->counted = e == PL_OK;
    if (e == PL_OK)
        e = account_password_verify(l->found && l->row.password_hash.n ? l->row.password_hash : pl_str_of(ctx->dummy_hash), password, &rehash);
    if (e == PL_OK && !(l->found && l->row.password_hash.n))
        e = PL_INVALID_CREDENTIALS;
    if (e == PL_INVALID_CREDENTIALS)
        account_count(ACCOUNT_M_LOG_IN_FAILURES);
    if (e != PL_OK || !rehash)
        return e;
    char *hash = pl_alloc(c->arena, SECURE_PASSWORD_TEXT);
    if (!hash)
        return PL_NO_MEMORY;
    if ((e = account_password_hash(password, hash)) == PL_OK)
        l->new_hash = pl_str_of(hash);
    return e;
}

/* What log_in_tx did not write. A try that was never compared (hashing was overloaded) is no wrong password. */
static void settle_try(struct log_in *l, db_work *as)
{
    enum pl_err e = db_run(l->c->db, l->c->arena, as, l, NULL);
    if (e != PL_OK)
        PL_LOG(&l->c->log, PL_WARN, "account.try-not-settled", PL_F_ERR(e)); /* it stands as wrong for its pair, and ages out */
}

enum pl_err account_on_log_in(struct http_call *c, struct pl_fail *reterr)
{
    struct account *ctx = c->self;
    struct log_in l = { .ctx = ctx, .c = c, .now = c->now, .body = c->body };
    enum pl_err e = c->db ? account_client_of(c, &l.body->client, &l.client) : PL_UNAVAILABLE;
    if (e == PL_OK)
        e = password_check(c, &l, reterr);
    bool right = e == PL_OK;
    if (right)
        e = http_run(c, log_in_tx, &l, reterr);
    if (l.counted && (e != PL_OK || c->replayed))
        settle_try(&l, right ? right_tx : e == PL_INVALID_CREDENTIALS ? wrong_tx : undo_tx);
    if (e == PL_OK)
        account_nudge(&(struct account_nudge){ ctx, l.row.account_id });
    return e;
}

/* ---- refresh ---- */

struct refresh {
    struct account *ctx;
    struct pl_utc now;
    struct pl_str token, key_hash;
    struct account_tokens tokens;
    bool reused;
};

static enum pl_err refresh_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct refresh *r = arg;
    (void)reterr;
    return account_session_refresh(r->ctx, tx, r->now, r->token, r->key_hash, &r->tokens, &r->reused);
}

enum pl_err account_on_refresh(struct http_call *c, struct pl_fail *reterr)
{
    const struct account_refresh_body *b = c->body;
    uint8_t key_hash[32];
    struct refresh r = { .ctx = c->self, .now = c->now, .token = b->refresh_token, .key_hash = PL_STR_NONE };
    if (b->client_key.p) {
        secure_sha256(b->client_key, key_hash);
        r.key_hash = (struct pl_str){ (const char *)key_hash, sizeof key_hash };
    }
    enum pl_err e = c->db ? db_run(c->db, c->arena, refresh_tx, &r, reterr) : PL_UNAVAILABLE;
    if (e != PL_OK)
        return e;
    if (r.reused) {
        account_count(ACCOUNT_M_TOKENS_REUSED);
        account_nudge(&(struct account_nudge){ r.ctx, r.tokens.account_id });
        return PL_TOKEN_REUSED;
    }
    account_tokens_write(&c->out, &r.tokens);
    secure_wipe(&r.tokens, sizeof r.tokens);
    return PL_OK;
}
