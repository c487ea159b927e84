/* account_reset.c - a forgotten password: a link by e-mail, a PIN by phone, a new password (S-A8). And the change of a password that is known.
 *
 * POST /v1/password-resets only writes down what was asked; a job looks for the account. So the caller cannot tell by words or by time whether there is one (S-A5).
 * The link has proved the e-mail, so its PIN goes to the phone. Whoever sets the password is not signed in by it, and nobody else stays signed in. A reset is what one does after a
 * theft, too: it ends all that was given or linked. A change by who knows the password and has just answered a PIN leaves that, and says so. */
#include "account_int.h"

#define LINK "plpr"
#define GRANT "plsg"
/* Links for one account: none sooner than this after the one before, and so many a day, so that nobody floods the owner. */
#define LINK_EVERY (90 * PL_SECOND)
#define LINKS_A_DAY 10

static struct pl_str hash_str(const uint8_t hash[32]) { return (struct pl_str){ (const char *)hash, 32 }; }

/* ---- asking ---- */

enum pl_err account_on_reset(struct http_call *c, struct pl_fail *reterr)
{
    const struct account_reset_body *b = c->body;
    struct account *ctx = c->self;
    (void)reterr;
    http_after(c, account_work_wake, ctx);
    c->status = 202;
    return account_sql_reset_ask(c->tx, pl_uuid7(ctx->rand, c->now), b->email, c->now, NULL);
}

static enum pl_err too_many(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, bool *ret)
{
    struct account_sql_reset_recent_row recent, day;
    bool found;
    enum pl_err e = account_sql_reset_recent(tx, account_id, pl_utc_add(now, -LINK_EVERY), &recent, &found);
    if (e == PL_OK)
        e = account_sql_reset_recent(tx, account_id, pl_utc_add(now, -PL_DAY), &day, &found);
    if (e == PL_OK)
        *ret = recent.links > 0 || day.links >= LINKS_A_DAY;
    return e;
}

static enum pl_err mail_link(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct account_sql_by_email_row *row)
{
    char token[SECURE_TOKEN_TEXT];
    uint8_t hash[32];
    struct pl_str link;
    int64_t life = ctx->pin.life_us;
    secure_token_new(LINK, token);
    enum pl_err e = secure_token_hash(pl_str_of(token), LINK, hash);
    if (e == PL_OK)
        e = account_sql_reset_insert(tx, pl_uuid7(ctx->rand, now), row->account_id, hash_str(hash), now, pl_utc_add(now, life), NULL);
    if (e == PL_OK)
        e = account_link(ctx, db_arena(tx), "reset", token, &link);
    if (e == PL_OK)
        e = notify_queue(ctx->notify, tx, ctx->rand, now, &(struct notify_message){ .kind = NOTIFY_PASSWORD_LINK, .channel = NOTIFY_EMAIL, .to = row->email, .locale = row->locale, .about = link,
                             .life_us = life, .account_id = row->account_id });
    secure_wipe(token, sizeof token);
    return e;
}

enum pl_err account_resets_run(struct account *ctx, struct db_tx *tx, struct pl_utc now, bool *ret_again)
{
    struct account_sql_reset_take_row ask;
    struct account_sql_by_email_row row;
    bool found, many = true;
    enum pl_err e = account_sql_reset_take(tx, &ask, &found);
    *ret_again = e == PL_OK && found;
    if (e != PL_OK || !found)
        return e;
    if ((e = account_sql_by_email(tx, ask.email, &row, &found)) == PL_OK && found)
        e = too_many(tx, now, row.account_id, &many);
    return e == PL_OK && !many ? mail_link(ctx, tx, now, &row) : e;
}

/* ---- opening the link ---- */

static enum pl_err link_hash(const struct http_call *c, uint8_t ret[32])
{
    return secure_token_hash(http_param(c, "token"), LINK, ret) == PL_OK ? PL_OK : PL_NOT_FOUND;
}

enum pl_err account_on_reset_open(struct http_call *c, struct pl_fail *reterr)
{
    const struct account_reset_open_body *b = c->body;
    struct account *ctx = c->self;
    struct account_sql_reset_open_row r;
    struct account_sql_by_id_row row;
    struct pin_opened o;
    uint8_t hash[32];
    char id[PL_UUID_TEXT];
    bool found;
    enum pl_err e = link_hash(c, hash);
    if (e == PL_OK && (e = account_sql_reset_open(c->tx, hash_str(hash), c->now, &r, &found)) == PL_OK)
        e = found ? account_sql_by_id(c->tx, r.account_id, &row, &found) : PL_NOT_FOUND;
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_NOT_FOUND : e;
    pl_uuid_text(r.id, id);
    struct pin_question q = { .from = http_peer_prefix(c), .purpose = PIN_RESET_PASSWORD, .account_id = row.account_id, .subject_id = row.account_id,
        .channel = NOTIFY_SMS + (enum notify_channel)b->channel, .destination = row.phone, .locale = row.locale, .context = pl_str_of(id) };
    if ((e = pin_open(&ctx->pin, c->tx, c->now, &q, &o, reterr)) != PL_OK)
        return e;
    http_after(c, notify_wake, ctx->notify);
    c->status = 202;
    account_challenge_write(&c->out, &o, c->now);
    return PL_OK;
}

enum pl_err account_reset_proved(struct db_tx *tx, struct pl_utc now, struct pl_str reset_id, char ret_grant[SECURE_TOKEN_TEXT])
{
    uint8_t hash[32];
    struct pl_uuid id;
    int64_t count = 0;
    enum pl_err e = pl_uuid_parse(reset_id, &id) == PL_OK ? PL_OK : PL_INTERNAL;
    if (e != PL_OK)
        return e;
    secure_token_new(GRANT, ret_grant);
    e = secure_token_hash(pl_str_of(ret_grant), GRANT, hash);
    if (e == PL_OK)
        e = account_sql_reset_prove(tx, id, hash_str(hash), pl_utc_add(now, ACCOUNT_GRANT_LIFE), &count);
    return e == PL_OK && count != 1 ? PL_EXPIRED : e;
}

/* ---- the new password ---- */

struct new_password {
    struct account *ctx;
    struct http_call *c;
    uint8_t link[32], grant[32]; /* of a reset */
    struct pl_uuid account_id, keep; /* keep: the client that stays signed in; zero: none */
    struct pl_str email, hash;
    bool reset;
};

/* What a new password ends: every other session and client, every challenge and link to set another; and of a reset all that account_end_all says. */
static enum pl_err end_old(const struct new_password *p, struct db_tx *tx)
{
    struct account *ctx = p->ctx;
    if (p->reset)
        return account_end_all(ctx, tx, p->c->now, p->account_id);
    enum pl_err e = account_end_others(ctx, tx, p->c->now, p->account_id, p->keep);
    if (e == PL_OK)
        e = pin_end(tx, p->account_id);
    return e == PL_OK ? account_sql_reset_forget(tx, p->account_id, NULL) : e;
}

static enum pl_err password_set(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct new_password *p = arg;
    struct account *ctx = p->ctx;
    struct pl_utc now = p->c->now;
    int64_t count = 0;
    (void)reterr;
    enum pl_err e = account_sql_change_password(tx, p->account_id, p->hash, &count);
    if (e == PL_OK && count != 1)
        return PL_UNAUTHENTICATED;
    if (e == PL_OK)
        e = end_old(p, tx);
    if (e == PL_OK)
        e = journal_audit(tx, now, &(struct journal_audit){ .account = p->account_id, .actor = p->keep, .action = p->reset ? "password.reset" : "password.changed", .detail = PL_STR("{}") });
    if (e == PL_OK)
        e = account_tell(ctx, tx, now, p->account_id, NOTIFY_PASSWORD_CHANGED, p->reset ? PL_STR("reset") : PL_STR("changed"));
    p->c->status = 204;
    return e;
}

static enum pl_err take_and_hash(struct new_password *p, struct pl_str given, struct pl_fail *reterr)
{
    struct pl_str password;
    char *hash = pl_alloc(p->c->arena, SECURE_PASSWORD_TEXT);
    if (!hash)
        return PL_NO_MEMORY;
    enum pl_err e = account_password_take(p->c->arena, given, p->email, &password, reterr);
    if (e == PL_OK)
        e = account_password_hash(password, hash);
    if (e == PL_OK)
        p->hash = pl_str_of(hash);
    return e;
}

static enum pl_err set_and_tell(struct new_password *p, db_work *fn, struct pl_fail *reterr)
{
    enum pl_err e = http_run(p->c, fn, p, reterr);
    if (e == PL_OK && !p->c->replayed)
        account_nudge(&(struct account_nudge){ p->ctx, p->account_id });
    return e;
}

static enum pl_err look_reset(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct new_password *p = arg;
    struct account_sql_reset_look_row row;
    bool found;
    (void)reterr;
    enum pl_err e = account_sql_reset_look(tx, hash_str(p->link), hash_str(p->grant), p->c->now, &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_STEP_UP_REQUIRED : e;
    p->account_id = row.account_id;
    p->email = row.email;
    return PL_OK;
}

static enum pl_err finish_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct new_password *p = arg;
    int64_t count = 0;
    enum pl_err e = account_sql_reset_spend(tx, hash_str(p->link), hash_str(p->grant), p->c->now, &count);
    if (e == PL_OK && count != 1)
        return PL_STEP_UP_REQUIRED;
    return e == PL_OK ? password_set(tx, p, reterr) : e;
}

enum pl_err account_on_reset_finish(struct http_call *c, struct pl_fail *reterr)
{
    const struct account_password_body *b = c->body;
    struct new_password p = { .ctx = c->self, .c = c, .reset = true };
    enum pl_err e = c->db ? link_hash(c, p.link) : PL_UNAVAILABLE;
    if (e == PL_OK && secure_token_hash(http_header(c, "Step-Up-Grant"), GRANT, p.grant) != PL_OK)
        return PL_STEP_UP_REQUIRED;
    if (e == PL_OK)
        e = db_run(c->db, c->arena, look_reset, &p, reterr);
    if (e == PL_OK)
        e = take_and_hash(&p, b->password, reterr);
    return e == PL_OK ? set_and_tell(&p, finish_tx, reterr) : e;
}

static enum pl_err look_own(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct new_password *p = arg;
    struct account_sql_by_id_row row;
    bool found;
    (void)reterr;
    enum pl_err e = account_sql_by_id(tx, p->account_id, &row, &found);
    if (e == PL_OK && found)
        p->email = row.email;
    return e == PL_OK && !found ? PL_UNAUTHENTICATED : e;
}

enum pl_err account_on_password(struct http_call *c, struct pl_fail *reterr)
{
    const struct account_password_body *b = c->body;
    struct new_password p = { .ctx = c->self, .c = c, .account_id = c->actor.account_id, .keep = c->actor.client_id };
    enum pl_err e = c->db ? db_run(c->db, c->arena, look_own, &p, reterr) : PL_UNAVAILABLE;
    if (e == PL_OK)
        e = take_and_hash(&p, b->password, reterr);
    return e == PL_OK ? set_and_tell(&p, password_set, reterr) : e;
}
