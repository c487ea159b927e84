/* account_challenge.c - what a right PIN unlocks: the next step of a sign-up, an account, a session, or a step-up grant. */
#include "account_int.h"

/* A forgotten header is told as such and counts nothing: it says nothing about challenge or PIN. A wrong key is a wrong try (S-P8). */
static enum pl_err challenge_key(const struct http_call *c, struct pl_str *ret, struct pl_fail *reterr)
{
    struct pl_str key = http_header(c, "Challenge-Key");
    if (!key.n)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "Challenge-Key", "The header Challenge-Key is missing: it is the `key` that came with the challenge.");
    *ret = key;
    return PL_OK;
}

void account_challenge_write(struct jw *w, struct pin_opened *o, struct pl_utc now)
{
    jw_open(w, "challenge");
    pin_write(w, &o->c, now, o->key);
    jw_close(w);
    secure_wipe(o->key, sizeof o->key);
}

enum pl_err account_challenge_of(struct http_call *c, struct pin_challenge *ret, struct pl_str *ret_key, struct pl_fail *reterr)
{
    struct pl_uuid id;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e == PL_OK)
        e = challenge_key(c, ret_key, reterr);
    return e == PL_OK ? pin_get(c->tx, c->now, id, *ret_key, ret) : e;
}

static enum pl_err challenge_get(struct http_call *c, struct pin_challenge *ret, struct pl_fail *reterr)
{
    struct pl_str key;
    return account_challenge_of(c, ret, &key, reterr);
}

enum pl_err account_on_challenge(struct http_call *c, struct pl_fail *reterr)
{
    struct pin_challenge ch;
    struct factor_set set;
    enum pl_err e = challenge_get(c, &ch, reterr);
    if (e != PL_OK)
        return e;
    pin_write(&c->out, &ch, c->now, NULL);
    if (pin_other_permitted(ch.purpose) && (e = factor_look(c->tx, ch.account_id, &set)) == PL_OK)
        account_methods_write(&c->out, &set);
    return e;
}

/* ---- verify ---- */

struct verify {
    struct account *ctx;
    struct http_call *c;
    struct pl_utc now;
    struct pl_arena *arena;
    struct pl_str key;
    struct pin_right right;
    struct factor_used used;
    struct pl_uuid account_id; /* zero: there is none yet */
    struct account_tokens tokens;
    struct pin_opened next;
    char grant[SECURE_TOKEN_TEXT];
};

static enum pl_err signup_get(struct db_tx *tx, const struct verify *v, struct account_sql_signup_get_row *ret)
{
    bool found;
    enum pl_err e = account_sql_signup_get(tx, v->right.c.subject_id, v->now, ret, &found);
    return e == PL_OK && !found ? PL_EXPIRED : e;
}

/* S-F2: only now may a message go to a phone. */
static enum pl_err email_proved(struct verify *v, struct db_tx *tx, struct pl_fail *reterr)
{
    struct account_sql_signup_get_row s;
    enum pl_err e = signup_get(tx, v, &s);
    if (e == PL_OK)
        e = account_sql_signup_email_verified(tx, s.id, v->now, NULL);
    if (e != PL_OK)
        return e;
    struct pin_question q = { .purpose = PIN_SIGN_UP_PHONE, .subject_id = s.id, .locale = s.locale, .destination = PL_STR_NONE, .context = PL_STR_NONE };
    return pin_open(&v->ctx->pin, tx, v->now, &q, &v->next, reterr);
}

static enum pl_err phone_proved(struct verify *v, struct db_tx *tx)
{
    struct account_sql_signup_get_row s;
    enum pl_err e = signup_get(tx, v, &s);
    if (e == PL_OK && !s.email_verified_at.us)
        return PL_INTERNAL;
    if (e == PL_OK)
        e = account_from_signup(v->ctx, tx, v->now, &s, v->right.c.destination, &v->tokens);
    if (e == PL_OK)
        v->account_id = v->tokens.account_id;
    return e;
}

enum pl_err account_client_added(struct db_tx *tx, struct pl_utc now, const struct account_tokens *tokens)
{
    struct pl_buf b = pl_buf_init(db_arena(tx), 256);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_uuid(&w, "client_id", tokens->client_id);
    jw_close(&w);
    return pl_buf_err(&b) == PL_OK ? journal_event(tx, now, tokens->account_id, (struct pl_uuid){ { 0 } }, "account.client_added", pl_buf_view(&b)) : PL_NO_MEMORY;
}

static enum pl_err logged_in(struct verify *v, struct db_tx *tx)
{
    struct account_client client;
    enum pl_err e = account_client_unpack(v->arena, v->right.c.context, &client);
    if (e == PL_OK)
        e = account_session_open(v->ctx, tx, v->now, v->right.c.account_id, &client, &v->tokens);
    v->account_id = v->right.c.account_id;
    return e == PL_OK ? account_client_added(tx, v->now, &v->tokens) : e;
}

static enum pl_err stepped_up(struct verify *v, struct db_tx *tx)
{
    const struct pin_challenge *ch = &v->right.c;
    enum pl_err e = account_grant_make(tx, v->now, ch->account_id, ch->client_id, ch->purpose, v->grant);
    if (e != PL_OK)
        return e;
    v->account_id = ch->account_id;
    return journal_audit(tx, v->now, &(struct journal_audit){ .account = ch->account_id, .actor = ch->client_id, .action = "step_up.granted", .detail = PL_STR("{}") });
}

static void verify_write(struct http_call *c, struct verify *v)
{
    switch (v->right.c.purpose) {
    case PIN_SIGN_UP_EMAIL:
        jw_open(&c->out, "next");
        account_challenge_write(&c->out, &v->next, c->now);
        jw_z(&c->out, "needs", "destination");
        jw_close(&c->out);
        break;
    case PIN_SIGN_UP_PHONE:
    case PIN_LOG_IN:
        c->status = 201;
        account_tokens_write(&c->out, &v->tokens);
        break;
    case PIN_VERIFY_EMAIL:
        jw_str(&c->out, "email", v->right.c.destination);
        break;
    case PIN_VERIFY_PHONE:
        jw_str(&c->out, "phone", v->right.c.destination);
        break;
    default:
        jw_z(&c->out, "grant", v->grant);
        jw_int(&c->out, "expires_in", ACCOUNT_GRANT_LIFE / PL_SECOND);
        break;
    }
}

/* S-P7: the challenge is spent in the transaction that acts on it, so that of many right answers one acts. */
static enum pl_err verify_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct verify *v = arg;
    enum pl_err e = pin_spend(tx, v->now, &v->right);
    if (e == PL_OK && v->right.other)
        e = account_factor_take(v->ctx, tx, v->now, &v->right.c, v->key, v->c->body, &v->used, reterr);
    if (e != PL_OK)
        return e;
    switch (v->right.c.purpose) {
    case PIN_SIGN_UP_EMAIL: e = email_proved(v, tx, reterr); break;
    case PIN_SIGN_UP_PHONE: e = phone_proved(v, tx); break;
    case PIN_LOG_IN: e = logged_in(v, tx); break;
    case PIN_RESET_PASSWORD: e = account_reset_proved(tx, v->now, v->right.c.context, v->grant); break;
    case PIN_VERIFY_EMAIL:
    case PIN_VERIFY_PHONE:
        v->account_id = v->right.c.account_id;
        e = account_contact_proved(v->ctx, tx, v->now, &v->right.c);
        break;
    default: e = stepped_up(v, tx); break;
    }
    if (e == PL_OK)
        verify_write(v->c, v);
    return e;
}

static enum pl_err forgive_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    (void)reterr;
    return pin_forgive(tx, arg);
}

/* S-P5: whatever the answer is, it is counted before it is looked at. */
static enum pl_err count_answer(struct verify *v, struct pl_fail *reterr)
{
    struct http_call *c = v->c;
    const struct account_verify_body *b = c->body;
    struct pl_uuid id;
    unsigned answers = (b->pin.p != NULL) + (b->totp.p != NULL) + (b->recovery_code.p != NULL) + (b->passkey.p != NULL);
    if (answers != 1)
        return pl_fail(reterr, PL_INVALID_REQUEST, "One answer is expected: pin, totp, recovery_code or passkey.");
    enum pl_err e = c->db ? http_param_uuid(c, "id", &id) : PL_UNAVAILABLE;
    if (e == PL_OK)
        e = challenge_key(c, &v->key, reterr);
    if (e != PL_OK)
        return e;
    return b->pin.p ? pin_try(&v->ctx->pin, c->db, c->arena, c->now, id, v->key, b->pin, &v->right, reterr)
                    : pin_try_other(&v->ctx->pin, c->db, c->arena, c->now, id, v->key, &v->right, reterr);
}

enum pl_err account_on_verify(struct http_call *c, struct pl_fail *reterr)
{
    struct account *ctx = c->self;
    struct verify v = { .ctx = ctx, .c = c, .now = c->now, .arena = c->arena };
    enum pl_err e = count_answer(&v, reterr);
    int32_t attempts_left = reterr->attempts_left;
    bool counted = e == PL_OK;
    if (counted)
        e = http_run(c, verify_tx, &v, reterr);
    if (e == PL_PIN_WRONG || e == PL_PASSKEY_REFUSED) {
        reterr->attempts_left = attempts_left;
        account_count(ACCOUNT_M_PINS_WRONG);
        account_factor_copied(c, &v.used);
        return e;
    }
    if (!counted)
        return e;
    if (e == PL_OK) {
        account_nudge(&(struct account_nudge){ ctx, v.account_id });
    } else if (db_run(c->db, c->arena, forgive_tx, &v.right, NULL) != PL_OK) {
        /* The try stays counted as a wrong one: the safe side, and it ages out. */
        PL_LOG(&c->log, PL_WARN, "account.try-not-taken-back", PL_F_ERR(e));
    }
    secure_wipe(&v.tokens, sizeof v.tokens);
    secure_wipe(v.grant, sizeof v.grant);
    return e;
}

/* ---- sending again ---- */

/* A destination that is being verified stays; log-in and step-up may change to another one that was verified before; of a reset the e-mail is proved already. */
static enum pl_err resend_to(struct http_call *c, const struct pin_challenge *ch, enum notify_channel channel, struct pl_str *ret)
{
    struct account_sql_by_id_row row;
    bool found, email = channel == NOTIFY_EMAIL;
    bool to_email = ch->purpose == PIN_SIGN_UP_EMAIL || ch->purpose == PIN_VERIFY_EMAIL;
    if (to_email || ch->purpose == PIN_SIGN_UP_PHONE || ch->purpose == PIN_VERIFY_PHONE) {
        if (email != to_email || !ch->destination.p)
            return PL_CHANNEL_REFUSED;
        *ret = ch->destination;
        return PL_OK;
    }
    if (ch->purpose == PIN_RESET_PASSWORD && email)
        return PL_CHANNEL_REFUSED;
    enum pl_err e = account_sql_by_id(c->tx, ch->account_id, &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_NOT_FOUND : e;
    *ret = email ? row.email : row.phone;
    return PL_OK;
}

static enum pl_err send_and_write(struct http_call *c, enum notify_channel channel, struct pl_str to, struct pin_challenge *ch, struct pl_fail *reterr)
{
    struct account *ctx = c->self;
    enum pl_err e = pin_send(&ctx->pin, c->tx, c->now, channel, to, http_peer_prefix(c), ch, reterr);
    if (e != PL_OK)
        return e;
    http_after(c, notify_wake, ctx->notify);
    c->status = 202;
    jw_open(&c->out, "challenge");
    pin_write(&c->out, ch, c->now, NULL);
    jw_close(&c->out);
    return PL_OK;
}

enum pl_err account_on_resend(struct http_call *c, struct pl_fail *reterr)
{
    const struct account_resend_body *b = c->body;
    struct pin_challenge ch;
    struct pl_str to;
    enum pl_err e = challenge_get(c, &ch, reterr);
    if (e != PL_OK)
        return e;
    enum notify_channel channel = b->has_channel ? (enum notify_channel)b->channel : notify_channel_of(ch.channel);
    if (channel == NOTIFY_CHANNELS)
        return pl_fail(reterr, PL_CHANNEL_REFUSED, "This challenge has no destination yet.");
    e = resend_to(c, &ch, channel, &to);
    return e == PL_OK ? send_and_write(c, channel, to, &ch, reterr) : e;
}

/* A mistyped number may be mended: that is a resend with its waits, and the old PIN ends. */
enum pl_err account_on_destination(struct http_call *c, struct pl_fail *reterr)
{
    const struct account_destination_body *b = c->body;
    struct pin_challenge ch;
    enum pl_err e = challenge_get(c, &ch, reterr);
    if (e != PL_OK)
        return e;
    if (ch.purpose != PIN_SIGN_UP_PHONE)
        return pl_fail(reterr, PL_CHANNEL_REFUSED, "This challenge has its destination already.");
    struct pl_str phone;
    e = account_phone_take(c->self, c->arena, b->phone, &phone, reterr);
    return e == PL_OK ? send_and_write(c, NOTIFY_SMS + (enum notify_channel)b->channel, phone, &ch, reterr) : e;
}

/* ---- step-up ---- */

enum pl_err account_on_step_up(struct http_call *c, struct pl_fail *reterr)
{
    const struct account_step_up_body *b = c->body;
    struct account *ctx = c->self;
    struct account_sql_by_id_row row;
    struct factor_set set;
    struct pin_opened o;
    bool found;
    enum notify_channel channel = (enum notify_channel)b->channel;
    enum pl_err e = account_sql_by_id(c->tx, c->actor.account_id, &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_UNAUTHENTICATED : e;
    struct pin_question q = { .from = http_peer_prefix(c), .purpose = PIN_FIRST_STEP_UP + (enum pin_purpose)b->purpose, .account_id = row.account_id, .subject_id = row.account_id,
        .client_id = c->actor.client_id, .channel = channel, .destination = channel == NOTIFY_EMAIL ? row.email : row.phone, .locale = row.locale, .context = PL_STR_NONE };
    if ((e = factor_look(c->tx, row.account_id, &set)) != PL_OK)
        return e;
    if (!b->has_channel && (set.totp || set.passkeys))
        q.destination = PL_STR_NONE;
    if ((e = pin_open(&ctx->pin, c->tx, c->now, &q, &o, reterr)) != PL_OK)
        return e;
    http_after(c, notify_wake, ctx->notify);
    c->status = 202;
    account_challenge_write(&c->out, &o, c->now);
    account_methods_write(&c->out, &set);
    return PL_OK;
}
