#include "pin.h"
#include "phone.h"
#include "pin_sql.h"
#include <stdio.h>

#define BUDGET 10
#define BUDGET_SPAN PL_DAY
/* From its opening a challenge can be asked about and resent for this long; the ladder and the life of its last PIN fit in. */
#define CHALLENGE_LIFE (4 * PL_HOUR)
#define KEY_PREFIX "plck"

const struct conf_row pin_conf_rows[] = {
    CONF_DUR("pin.life", struct pin_conf, life, 10 * PL_MINUTE, 40 * PL_MINUTE, "40m", "How long a PIN is good. The strict profile has 10m."),
    CONF_NUM("pin.key_id", struct pin_conf, key_id, 1, 30000, "1", "Number of the key that hashes new PINs; raise it by one to change the key. PINs under the one before still work."),
    CONF_END
};

const char *const pin_purpose_names[PIN_PURPOSES + 1] = {
    [PIN_SIGN_UP_EMAIL] = "sign_up_email", [PIN_SIGN_UP_PHONE] = "sign_up_phone", [PIN_LOG_IN] = "log_in", [PIN_RESET_PASSWORD] = "reset_password",
    [PIN_VERIFY_EMAIL] = "verify_email", [PIN_VERIFY_PHONE] = "verify_phone", [PIN_CHANGE_PASSWORD] = "change_password",
    [PIN_CHANGE_EMAIL] = "change_email", [PIN_CHANGE_PHONE] = "change_phone", [PIN_DELETE_HUB] = "delete_hub", [PIN_REPLACE_HUB] = "replace_hub",
    [PIN_RELEASE_DEVICE] = "release_device", [PIN_TRANSFER_DEVICE] = "transfer_device", [PIN_REVOKE_CLIENTS] = "revoke_clients", [PIN_DELETE_ACCOUNT] = "delete_account",
    [PIN_CHANGE_FACTORS] = "change_factors", [PIN_EXPORT_ACCOUNT] = "export_account",
    [PIN_MAKE_TOKEN] = "make_token", [PIN_LINK_SERVICE] = "link_service", [PIN_CHANGE_OWNERS] = "change_owners", [PIN_PURPOSES] = NULL };

/* S-P3: the wait after the n-th send. After the last there is no other. */
static const int64_t ladder[PIN_SENDS] = { 90 * PL_SECOND, 180 * PL_SECOND, 300 * PL_SECOND, 600 * PL_SECOND, 600 * PL_SECOND };

enum pin_purpose pin_purpose_of(struct pl_str name)
{
    for (int i = 0; i < PIN_PURPOSES; i++)
        if (pl_str_eqz(name, pin_purpose_names[i]))
            return (enum pin_purpose)i;
    return PIN_PURPOSES;
}

bool pin_other_permitted(enum pin_purpose purpose)
{
    return purpose != PIN_SIGN_UP_EMAIL && purpose != PIN_SIGN_UP_PHONE && purpose != PIN_VERIFY_EMAIL && purpose != PIN_VERIFY_PHONE && purpose != PIN_PURPOSES;
}

static struct pl_str purpose_name(enum pin_purpose p) { return pl_str_of(pin_purpose_names[p]); }

/* What wrong tries are counted under, and what the message says that the PIN is for: the steps of a sign-up are one purpose. */
static struct pl_str purpose_word(struct pl_str purpose)
{
    enum pin_purpose p = pin_purpose_of(purpose);
    return p == PIN_SIGN_UP_EMAIL || p == PIN_SIGN_UP_PHONE ? PL_STR("sign_up") : purpose;
}

void pin_init(struct pin *p, const struct pin_conf *conf, const struct pl_secret *master, const struct notify *notify, struct pl_rand *rand)
{
    *p = (struct pin){ .notify = notify, .rand = rand, .life_us = conf->life, .limits = conf->limits, .key_id = (int16_t)conf->key_id };
    for (int i = 0; i < 2; i++) {
        char label[48];
        snprintf(label, sizeof label, "porchlight pin hash v1 key %d", p->key_id - i);
        secure_derive(master, label, &p->keys[i]);
    }
}

void pin_done(struct pin *p)
{
    pl_secret_wipe(&p->keys[0]);
    pl_secret_wipe(&p->keys[1]);
}

static struct pin_challenge view(const struct pin_sql_get_row *r)
{
    return (struct pin_challenge){ .id = r->id, .account_id = r->account_id, .subject_id = r->subject_id, .client_id = r->client_id, .purpose = pin_purpose_of(r->purpose),
        .channel = r->channel, .destination = r->destination, .context = r->context, .sent_count = r->sent_count, .tries = r->tries, .decoy = r->decoy,
        .expires_at = r->expires_at, .resend_at = r->resend_at, .verified_at = r->verified_at, .locale = r->locale };
}

/* The row, locked. The two statements return the same columns; one struct serves the code that reads them. */
static enum pl_err lock_row(struct db_tx *tx, struct pl_uuid id, struct pl_utc now, struct pin_sql_get_row *ret)
{
    struct pin_sql_lock_row r;
    bool found;
    enum pl_err e = pin_sql_lock(tx, id, now, &r, &found);
    if (e != PL_OK)
        return e;
    if (!found)
        return PL_NOT_FOUND;
    *ret = (struct pin_sql_get_row){ .id = r.id, .account_id = r.account_id, .subject_id = r.subject_id, .client_id = r.client_id, .purpose = r.purpose,
        .key_hash = r.key_hash, .channel = r.channel, .destination = r.destination, .context = r.context, .decoy = r.decoy, .pin_hash = r.pin_hash, .pin_key = r.pin_key,
        .sent_count = r.sent_count, .tries = r.tries, .expires_at = r.expires_at, .resend_at = r.resend_at, .verified_at = r.verified_at, .locale = r.locale };
    return PL_OK;
}

/* S-P6. The caller holds the budget's lock, or only wants to refuse early. */
static enum pl_err budget_check(struct db_tx *tx, struct pl_utc now, struct pl_uuid subject, struct pl_str purpose, struct pl_fail *reterr)
{
    struct pin_sql_budget_row b;
    bool found;
    enum pl_err e = pin_sql_budget(tx, subject, purpose_word(purpose), pl_utc_add(now, -BUDGET_SPAN), &b, &found);
    if (e != PL_OK || !found || b.wrong < BUDGET)
        return e;
    if (reterr)
        reterr->retry_after_s = pl_seconds_up(pl_utc_sub(pl_utc_add(b.oldest, BUDGET_SPAN), now));
    return PL_CHALLENGE_BUDGET;
}

/* ---- the hash ---- */

/* Everything that the PIN is bound to, so that a swap of any of it is a wrong PIN (S-P8). key_hash: of the challenge key that was presented. */
struct bound {
    const struct pin_challenge *c;
    struct pl_str channel, destination;
    int16_t send;
    const uint8_t *key_hash;
};

static enum pl_err pin_mac(const struct pl_secret *key, const struct bound *b, struct pl_str pin, uint8_t ret[32])
{
    char mem[768], id[PL_UUID_TEXT];
    struct pl_buf text = pl_buf_fixed(mem, sizeof mem);
    const struct pl_uuid ids[] = { b->c->id, b->c->account_id, b->c->subject_id, b->c->client_id };
    pl_buf_z(&text, "porchlight-pin-v1");
    for (size_t i = 0; i < PL_COUNT(ids); i++) {
        pl_uuid_text(ids[i], id);
        pl_buf_fmt(&text, "\n%s", id);
    }
    pl_buf_fmt(&text, "\n%s\n%.*s\n%.*s\n%d\n", pin_purpose_names[b->c->purpose], PL_FMT(b->channel), PL_FMT(b->destination), b->send);
    pl_buf_add(&text, b->key_hash, 32);
    pl_buf_str(&text, pin);
    enum pl_err e = pl_buf_err(&text);
    if (e == PL_OK)
        secure_hmac_sha256(key, pl_buf_view(&text), ret);
    secure_wipe(mem, sizeof mem);
    return e;
}

/* ---- sending ---- */

/* S-P1: uniform over 000000..999999. */
static void pin_new(struct pl_rand *rand, char ret[7]) { snprintf(ret, 7, "%06u", pl_rand_below(rand, 1000000)); }

static enum pl_err pin_queue(const struct pin *p, struct db_tx *tx, struct pl_utc now, enum notify_channel channel, const struct pin_challenge *c, struct pl_str pin)
{
    struct notify_message m = { .kind = NOTIFY_PIN, .channel = channel, .to = c->destination, .locale = c->locale, .about = purpose_word(purpose_name(c->purpose)), .pin = pin,
        .ordinal = c->sent_count, .life_us = p->life_us, .account_id = c->account_id, .ref = c->id };
    if (c->decoy) {
        m.kind = NOTIFY_SIGN_UP_TAKEN;
        m.pin = PL_STR_NONE;
    }
    return notify_queue(p->notify, tx, p->rand, now, &m);
}

/* S-F3: before there is a PIN, it is asked whether a message may go. */
static enum pl_err may_cost(const struct pin *p, struct db_tx *tx, struct pl_utc now, enum notify_channel channel, struct pl_str from, const struct pin_challenge *c, struct pl_fail *reterr)
{
    static const enum limit_channel costs[NOTIFY_CHANNELS] = { [NOTIFY_EMAIL] = LIMIT_EMAIL, [NOTIFY_SMS] = LIMIT_SMS, [NOTIFY_VOICE] = LIMIT_VOICE };
    struct limit_send m = { .channel = costs[channel], .destination = c->destination, .account_id = c->account_id, .challenge_id = c->id, .from = from,
        .proved = !pl_uuid_is_zero(c->account_id) && pin_other_permitted(c->purpose) };
    struct phone_number n = { .country = "ZZ" }; /* stays so when today's tables do not know a number that those of its sign-up knew */
    enum pl_err e = channel == NOTIFY_EMAIL ? PL_OK : phone_parse(c->destination, NULL, &n);
    if (e != PL_OK && e != PL_INVALID_REQUEST)
        return e;
    m.country = pl_str_of(n.country);
    return limit_send(&p->limits, tx, p->rand, now, &m, reterr);
}

static enum pl_err issue(const struct pin *p, struct db_tx *tx, struct pl_utc now, enum notify_channel channel, const uint8_t key_hash[32], struct pin_challenge *io)
{
    char pin[7];
    uint8_t mac[32];
    io->sent_count++;
    io->channel = pl_str_of(notify_channel_names[channel]);
    io->expires_at = pl_utc_add(now, p->life_us);
    io->resend_at = pl_utc_add(now, ladder[io->sent_count - 1]);
    pin_new(p->rand, pin);
    struct pl_str given = pl_str_of(pin);
    enum pl_err e = pin_mac(&p->keys[0], &(struct bound){ io, io->channel, io->destination, io->sent_count, key_hash }, given, mac);
    if (io->decoy) /* the same work, and a hash that no PIN has */
        pl_rand_fill(p->rand, mac, sizeof mac);
    if (e == PL_OK)
        e = notify_cancel(tx, now, io->id);
    if (e == PL_OK)
        e = pin_sql_send(tx, io->id, io->channel, io->destination, (struct pl_str){ (char *)mac, sizeof mac }, p->key_id, now, io->expires_at, io->resend_at, NULL);
    if (e == PL_OK)
        e = pin_queue(p, tx, now, channel, io, given);
    secure_wipe(pin, sizeof pin);
    return e;
}

enum pl_err pin_open(const struct pin *p, struct db_tx *tx, struct pl_utc now, const struct pin_question *q, struct pin_opened *ret, struct pl_fail *reterr)
{
    uint8_t key_hash[32];
    struct pin_opened o = { .c = { .id = pl_uuid7(p->rand, now), .account_id = q->account_id, .subject_id = q->subject_id, .client_id = q->client_id,
        .purpose = q->purpose, .channel = PL_STR_NONE, .destination = q->destination, .context = q->context, .decoy = q->decoy, .expires_at = now, .resend_at = now,
        .locale = q->locale.n ? q->locale : PL_STR(NOTIFY_LOCALE_DEFAULT) } };
    enum pl_err e = budget_check(tx, now, q->subject_id, purpose_name(q->purpose), reterr);
    if (e != PL_OK)
        return e;
    secure_token_new(KEY_PREFIX, o.key);
    e = secure_token_hash(pl_str_of(o.key), KEY_PREFIX, key_hash);
    if (e == PL_OK)
        e = pin_sql_open(tx, o.c.id, o.c.account_id, o.c.subject_id, o.c.client_id, purpose_name(q->purpose), (struct pl_str){ (char *)key_hash, sizeof key_hash }, q->context,
                         q->decoy, now, pl_utc_add(now, CHALLENGE_LIFE), o.c.locale, NULL);
    if (e == PL_OK && q->destination.p)
        e = may_cost(p, tx, now, q->channel, q->from, &o.c, reterr);
    if (e == PL_OK && q->destination.p)
        e = issue(p, tx, now, q->channel, key_hash, &o.c);
    if (e == PL_OK)
        *ret = o;
    secure_wipe(&o, sizeof o);
    return e;
}

enum pl_err pin_get(struct db_tx *tx, struct pl_utc now, struct pl_uuid id, struct pl_str challenge_key, struct pin_challenge *ret)
{
    struct pin_sql_get_row row;
    uint8_t key_hash[32];
    bool found;
    enum pl_err e = pin_sql_get(tx, id, now, &row, &found);
    if (e != PL_OK)
        return e;
    if (!found || secure_token_hash(challenge_key, KEY_PREFIX, key_hash) != PL_OK || !secure_eq(key_hash, sizeof key_hash, row.key_hash.p, row.key_hash.n))
        return PL_NOT_FOUND;
    *ret = view(&row);
    return PL_OK;
}

static enum pl_err may_send(const struct pin_sql_get_row *row, struct pl_utc now, struct pl_fail *reterr)
{
    if (row->verified_at.us)
        return PL_CHALLENGE_SPENT;
    if (row->tries >= PIN_TRIES)
        return PL_PIN_EXHAUSTED;
    if (row->sent_count >= PIN_SENDS)
        return PL_RESEND_EXHAUSTED;
    if (row->sent_count && pl_utc_cmp(now, row->resend_at) < 0) {
        if (reterr)
            reterr->retry_after_s = pl_seconds_up(pl_utc_sub(row->resend_at, now));
        return PL_RESEND_TOO_SOON;
    }
    return PL_OK;
}

enum pl_err pin_send(const struct pin *p, struct db_tx *tx, struct pl_utc now, enum notify_channel channel, struct pl_str destination, struct pl_str from,
                     struct pin_challenge *io, struct pl_fail *reterr)
{
    struct pin_sql_get_row row;
    enum pl_err e = lock_row(tx, io->id, now, &row);
    if (e == PL_OK)
        e = may_send(&row, now, reterr);
    if (e == PL_OK)
        e = budget_check(tx, now, row.subject_id, row.purpose, reterr);
    if (e != PL_OK)
        return e;
    struct pin_challenge c = view(&row);
    c.destination = destination;
    if ((e = may_cost(p, tx, now, channel, from, &c, reterr)) != PL_OK)
        return e;
    if ((e = issue(p, tx, now, channel, (const uint8_t *)row.key_hash.p, &c)) == PL_OK)
        *io = c;
    return e;
}

/* ---- trying ---- */

struct attempt {
    const struct pin *p;
    struct pl_utc now;
    struct pl_uuid id, try_id;
    bool other;
    struct pin_sql_get_row row; /* as it was when the try was counted, tries included */
};

/* S-P5, S-P6: everything that limits guessing happens here and is committed before anything is compared. */
static enum pl_err count_try(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct attempt *t = arg;
    enum pl_err e = lock_row(tx, t->id, t->now, &t->row);
    if (e != PL_OK)
        return e;
    if (t->row.verified_at.us)
        return PL_CHALLENGE_SPENT;
    if (t->row.tries >= PIN_TRIES)
        return PL_PIN_EXHAUSTED;
    if (t->other && !pin_other_permitted(pin_purpose_of(t->row.purpose)))
        return PL_CHANNEL_REFUSED;
    if (!t->other && (!t->row.pin_hash.p || pl_utc_cmp(t->now, t->row.expires_at) >= 0))
        return PL_PIN_EXPIRED;
    e = pin_sql_budget_lock(tx, t->row.subject_id, purpose_word(t->row.purpose), t->now, NULL);
    if (e == PL_OK)
        e = budget_check(tx, t->now, t->row.subject_id, t->row.purpose, reterr);
    if (e != PL_OK)
        return e;
    t->try_id = pl_uuid7(t->p->rand, t->now);
    e = pin_sql_try_add(tx, t->row.subject_id, purpose_word(t->row.purpose), t->try_id, t->now, NULL);
    if (e == PL_OK)
        e = pin_sql_count_try(tx, t->id, NULL);
    if (e == PL_OK)
        t->row.tries++;
    return e;
}

static bool right_pin(const struct attempt *t, struct pl_str challenge_key, struct pl_str pin, const struct pin_challenge *c)
{
    uint8_t key_hash[32] = { 0 }, mac[32];
    int age = t->p->key_id - t->row.pin_key;
    bool good_key = secure_token_hash(challenge_key, KEY_PREFIX, key_hash) == PL_OK;
    if (age < 0 || age > 1 || pin_mac(&t->p->keys[age], &(struct bound){ c, c->channel, c->destination, c->sent_count, key_hash }, pin, mac) != PL_OK)
        return false;
    return secure_eq(mac, sizeof mac, t->row.pin_hash.p, t->row.pin_hash.n) && good_key;
}

enum pl_err pin_try(const struct pin *p, struct db *db, struct pl_arena *a, struct pl_utc now, struct pl_uuid id, struct pl_str challenge_key, struct pl_str pin,
                    struct pin_right *ret, struct pl_fail *reterr)
{
    struct attempt t = { .p = p, .now = now, .id = id };
    enum pl_err e = db_run(db, a, count_try, &t, reterr);
    if (e != PL_OK)
        return e;
    struct pin_challenge c = view(&t.row);
    if (!right_pin(&t, challenge_key, pin, &c)) {
        if (reterr)
            reterr->attempts_left = PIN_TRIES - t.row.tries;
        return PL_PIN_WRONG;
    }
    *ret = (struct pin_right){ .c = c, .try_id = t.try_id };
    memcpy(ret->hash, t.row.pin_hash.p, sizeof ret->hash);
    return PL_OK;
}

enum pl_err pin_try_other(const struct pin *p, struct db *db, struct pl_arena *a, struct pl_utc now, struct pl_uuid id, struct pl_str challenge_key, struct pin_right *ret,
                          struct pl_fail *reterr)
{
    struct attempt t = { .p = p, .now = now, .id = id, .other = true };
    uint8_t key_hash[32] = { 0 };
    enum pl_err e = db_run(db, a, count_try, &t, reterr);
    if (e != PL_OK)
        return e;
    if (reterr)
        reterr->attempts_left = PIN_TRIES - t.row.tries;
    if (secure_token_hash(challenge_key, KEY_PREFIX, key_hash) != PL_OK || !secure_eq(key_hash, sizeof key_hash, t.row.key_hash.p, t.row.key_hash.n))
        return PL_PIN_WRONG;
    *ret = (struct pin_right){ .c = view(&t.row), .other = true, .try_id = t.try_id };
    return PL_OK;
}

enum pl_err pin_spend(struct db_tx *tx, struct pl_utc now, const struct pin_right *right)
{
    int64_t count;
    enum pl_err e = right->other ? pin_sql_spend_other(tx, right->c.id, now, &count)
                                 : pin_sql_spend(tx, right->c.id, (struct pl_str){ (const char *)right->hash, sizeof right->hash }, now, &count);
    if (e == PL_OK && count != 1)
        return PL_CHALLENGE_SPENT;
    if (e == PL_OK && !right->other)
        e = limit_answered(tx, right->c.id);
    return e == PL_OK ? pin_forgive(tx, right) : e;
}

enum pl_err pin_forgive(struct db_tx *tx, const struct pin_right *right)
{
    return pin_sql_try_drop(tx, right->c.subject_id, purpose_word(purpose_name(right->c.purpose)), right->try_id, NULL);
}

/* ---- ending ---- */

enum pl_err pin_end(struct db_tx *tx, struct pl_uuid account_id) { return pin_sql_forget_challenges(tx, account_id, NULL); }

enum pl_err pin_forget(struct db_tx *tx, struct pl_uuid account_id)
{
    enum pl_err e = pin_sql_forget_challenges(tx, account_id, NULL);
    if (e == PL_OK)
        e = pin_sql_forget_tries(tx, account_id, NULL);
    if (e == PL_OK)
        e = limit_forget(tx, account_id);
    return e == PL_OK ? pin_sql_forget_budget(tx, account_id, NULL) : e;
}

enum pl_err pin_expire(struct db_tx *tx, struct pl_utc now)
{
    enum pl_err e = pin_sql_expire_challenges(tx, now, NULL);
    if (e == PL_OK)
        e = pin_sql_expire_tries(tx, pl_utc_add(now, -BUDGET_SPAN), NULL);
    return e == PL_OK ? pin_sql_expire_budgets(tx, pl_utc_add(now, -BUDGET_SPAN), NULL) : e;
}
