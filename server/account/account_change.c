/* account_change.c - another e-mail or phone (S-P11): a step-up, a PIN to the new one, a notice to the old one with a link that undoes it for 72 hours.
 *
 * Whoever stole a session and an unlocked phone could change both and keep the owner out; the old address, which they do not have, is what brings the account back.
 * So an undo takes back this change and all after it, ends whatever signs in or acts for the account, and the password works no more until it is reset. */
#include "account_int.h"

#define UNDO "plun"
#define UNDO_LIFE (72 * PL_HOUR)
/* That can be undone at once: more in 72 hours is nobody's need. */
#define MOST_CHANGES 10

enum contact { CONTACT_EMAIL, CONTACT_PHONE };
static const char *const kinds[] = { "email", "phone" };

static struct pl_str hash_str(const uint8_t hash[32]) { return (struct pl_str){ (const char *)hash, 32 }; }

/* ---- asking ---- */

static enum pl_err verify_new(struct http_call *c, enum pin_purpose purpose, enum notify_channel channel, struct pl_str to, struct pl_fail *reterr)
{
    struct account *ctx = c->self;
    struct account_sql_by_id_row row;
    struct account_sql_change_count_row open;
    struct pin_opened o;
    bool found, email = purpose == PIN_VERIFY_EMAIL;
    enum pl_err e = account_sql_by_id(c->tx, c->actor.account_id, &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_UNAUTHENTICATED : e;
    if (pl_str_eq(to, email ? row.email : row.phone))
        return pl_fail_field(reterr, PL_INVALID_REQUEST, kinds[!email], "%s: it is this already", kinds[!email]);
    if ((e = account_sql_change_count(c->tx, row.account_id, &open, &found)) == PL_OK && open.changes >= MOST_CHANGES)
        e = PL_RATE_LIMITED;
    struct pin_question q = { .from = http_peer_prefix(c), .purpose = purpose, .account_id = row.account_id, .subject_id = row.account_id, .client_id = c->actor.client_id, .channel = channel,
        .destination = to, .locale = row.locale, .context = PL_STR_NONE };
    if (e == PL_OK)
        e = pin_open(&ctx->pin, c->tx, c->now, &q, &o, reterr);
    if (e != PL_OK)
        return e;
    http_after(c, notify_wake, ctx->notify);
    c->status = 202;
    account_challenge_write(&c->out, &o, c->now);
    return PL_OK;
}

enum pl_err account_on_email(struct http_call *c, struct pl_fail *reterr)
{
    const struct account_email_body *b = c->body;
    return verify_new(c, PIN_VERIFY_EMAIL, NOTIFY_EMAIL, b->email, reterr);
}

enum pl_err account_on_phone(struct http_call *c, struct pl_fail *reterr)
{
    const struct account_destination_body *b = c->body;
    struct pl_str phone;
    enum pl_err e = account_phone_take(c->self, c->arena, b->phone, &phone, reterr);
    return e == PL_OK ? verify_new(c, PIN_VERIFY_PHONE, NOTIFY_SMS + (enum notify_channel)b->channel, phone, reterr) : e;
}

/* ---- the new one is proved ---- */

struct change {
    struct account *ctx;
    struct db_tx *tx;
    struct pl_utc now;
    struct pl_uuid account_id;
    enum contact what;
    struct account_sql_lock_row old;
};

/* Only who holds the new address hears that it is another account's. */
static enum pl_err take_new(const struct change *k, struct pl_str to)
{
    int64_t count = 0;
    enum pl_err e = k->what == CONTACT_EMAIL ? account_sql_reserve_email(k->tx, to, k->account_id, &count) : account_sql_reserve_phone(k->tx, to, k->account_id, &count);
    if (e == PL_OK && count != 1)
        return k->what == CONTACT_EMAIL ? PL_EMAIL_TAKEN : PL_PHONE_TAKEN;
    return e == PL_OK ? account_sql_set_contact(k->tx, k->account_id, k->what == CONTACT_EMAIL ? to : k->old.email, k->what == CONTACT_PHONE ? to : k->old.phone, NULL) : e;
}

static enum pl_err notice(const struct change *k, enum notify_channel channel, struct pl_str to, struct pl_str link)
{
    return notify_queue(k->ctx->notify, k->tx, k->ctx->rand, k->now, &(struct notify_message){ .kind = k->what == CONTACT_EMAIL ? NOTIFY_EMAIL_CHANGED : NOTIFY_PHONE_CHANGED,
                            .channel = channel, .to = to, .locale = k->old.locale, .about = link, .life_us = UNDO_LIFE, .account_id = k->account_id });
}

/* The old e-mail hears of both kinds of change; the old phone of its own. */
static enum pl_err keep_undo(const struct change *k, struct pl_str to)
{
    char token[SECURE_TOKEN_TEXT];
    uint8_t hash[32];
    struct pl_str link;
    secure_token_new(UNDO, token);
    enum pl_err e = secure_token_hash(pl_str_of(token), UNDO, hash);
    if (e == PL_OK)
        e = account_sql_change_add(k->tx, k->account_id, pl_uuid7(k->ctx->rand, k->now), pl_str_of(kinds[k->what]), k->what == CONTACT_EMAIL ? k->old.email : k->old.phone, to,
                                   hash_str(hash), k->now, pl_utc_add(k->now, UNDO_LIFE), NULL);
    if (e == PL_OK)
        e = account_link(k->ctx, db_arena(k->tx), "undo", token, &link);
    if (e == PL_OK)
        e = notice(k, NOTIFY_EMAIL, k->old.email, link);
    if (e == PL_OK && k->what == CONTACT_PHONE)
        e = notice(k, NOTIFY_SMS, k->old.phone, link);
    secure_wipe(token, sizeof token);
    return e;
}

enum pl_err account_contact_proved(struct account *ctx, struct db_tx *tx, struct pl_utc now, const struct pin_challenge *ch)
{
    struct change k = { .ctx = ctx, .tx = tx, .now = now, .account_id = ch->account_id, .what = ch->purpose == PIN_VERIFY_EMAIL ? CONTACT_EMAIL : CONTACT_PHONE };
    bool found;
    enum pl_err e = account_sql_lock(tx, ch->account_id, &k.old, &found);
    if (e == PL_OK && !found)
        return PL_NOT_FOUND;
    if (e == PL_OK)
        e = keep_undo(&k, ch->destination);
    if (e == PL_OK)
        e = take_new(&k, ch->destination);
    if (e == PL_OK) /* what is under way to the old address */
        e = pin_end(tx, ch->account_id);
    if (e == PL_OK)
        e = account_sql_reset_forget(tx, ch->account_id, NULL);
    return e == PL_OK ? journal_audit(tx, now, &(struct journal_audit){ .account = ch->account_id, .actor = ch->client_id,
                            .action = k.what == CONTACT_EMAIL ? "account.email_changed" : "account.phone_changed", .detail = PL_STR("{}") }) : e;
}

/* ---- undoing ---- */

/* The earliest old value of each kind is what was so before this change. */
static enum pl_err put_back(const struct change *k, const struct account_sql_change_list_row *rows, size_t n)
{
    struct pl_str back[2] = { PL_STR_NONE, PL_STR_NONE };
    enum pl_err e = PL_OK;
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        enum contact what = pl_str_eqz(rows[i].kind, kinds[CONTACT_EMAIL]) ? CONTACT_EMAIL : CONTACT_PHONE;
        if (!back[what].p)
            back[what] = rows[i].old_value;
        e = account_sql_change_drop(k->tx, k->account_id, rows[i].id, NULL);
    }
    if (e == PL_OK)
        e = account_sql_set_contact(k->tx, k->account_id, back[CONTACT_EMAIL].p ? back[CONTACT_EMAIL] : k->old.email,
                                    back[CONTACT_PHONE].p ? back[CONTACT_PHONE] : k->old.phone, NULL);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = account_contact_release(k->tx, k->account_id, rows[i].kind, rows[i].new_value);
    return e;
}

enum pl_err account_contact_release(struct db_tx *tx, struct pl_uuid account_id, struct pl_str kind, struct pl_str value)
{
    return pl_str_eqz(kind, kinds[CONTACT_EMAIL]) ? account_sql_release_email(tx, value, account_id, NULL) : account_sql_release_phone(tx, value, account_id, NULL);
}

/* Nobody stays signed in, no password fits, and a link to set a new one is on its way. Passkeys, authenticators, tokens and links go too: whoever changed the address may have
 * made one, and would be back by it or never leave. */
static enum pl_err shut(const struct change *k)
{
    struct account_sql_lock_row now_is;
    bool found;
    enum pl_err e = account_sql_change_password(k->tx, k->account_id, PL_STR(""), NULL);
    if (e == PL_OK)
        e = account_end_all(k->ctx, k->tx, k->now, k->account_id);
    if (e == PL_OK)
        e = factor_forget(k->tx, k->account_id);
    if (e == PL_OK)
        e = account_tell(k->ctx, k->tx, k->now, k->account_id, NOTIFY_CHANGE_UNDONE, PL_STR_NONE);
    if (e == PL_OK)
        e = account_sql_lock(k->tx, k->account_id, &now_is, &found);
    if (e == PL_OK)
        e = account_sql_reset_ask(k->tx, pl_uuid7(k->ctx->rand, k->now), now_is.email, k->now, NULL);
    return e == PL_OK ? journal_audit(k->tx, k->now, &(struct journal_audit){ .account = k->account_id, .action = "account.change_undone", .detail = PL_STR("{}") }) : e;
}

enum pl_err account_on_undo(struct http_call *c, struct pl_fail *reterr)
{
    struct change k = { .ctx = c->self, .tx = c->tx, .now = c->now };
    struct account_sql_change_find_row found_row;
    struct account_sql_change_list_row *rows;
    uint8_t hash[32];
    size_t n;
    bool found;
    (void)reterr;
    if (secure_token_hash(http_param(c, "token"), UNDO, hash) != PL_OK)
        return PL_NOT_FOUND;
    enum pl_err e = account_sql_change_find(c->tx, hash_str(hash), c->now, &found_row, &found);
    if (e == PL_OK && found)
        e = account_sql_lock(c->tx, found_row.account_id, &k.old, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_NOT_FOUND : e;
    k.account_id = found_row.account_id;
    /* Of two undos at once the second one waited for the lock, and finds its change gone. */
    if ((e = account_sql_change_list(c->tx, k.account_id, found_row.id, &rows, &n)) == PL_OK && (n == 0 || !pl_uuid_eq(rows[0].id, found_row.id)))
        return PL_NOT_FOUND;
    if (e == PL_OK)
        e = put_back(&k, rows, n);
    if (e == PL_OK)
        e = shut(&k);
    http_after(c, account_work_wake, k.ctx);
    return e == PL_OK ? account_nudge_after(c, k.account_id) : e;
}

/* ---- too late to undo ---- */

enum pl_err account_changes_expire(struct db_tx *tx, struct pl_utc now)
{
    struct account_sql_change_expired_row *rows;
    struct account_sql_lock_row row;
    bool found;
    size_t n;
    enum pl_err e = account_sql_change_expired(tx, now, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        e = account_sql_lock(tx, rows[i].account_id, &row, &found);
        if (e == PL_OK)
            e = account_sql_change_drop(tx, rows[i].account_id, rows[i].id, NULL);
        if (e == PL_OK)
            e = account_contact_release(tx, rows[i].account_id, rows[i].kind, rows[i].old_value);
    }
    return e;
}
