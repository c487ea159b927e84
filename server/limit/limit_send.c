/* limit_send.c - what a message may cost, and whether it is worth it. */
#include "limit.h"
#include "limit_sql.h"

#define HOUR (60 * PL_MINUTE)
#define JUDGED_FROM HOUR           /* S-F4: messages of this time ... */
#define JUDGED_UNTIL (5 * PL_MINUTE) /* ... that people have had time to answer */
#define JUDGED_LEAST 10
#define STOPS_MOST 12 /* doublings: half a year */
#define RECORD (2 * PL_DAY) /* of a proved number */
#define RECORD_LEAST 5
enum { BLOCK_LAST = 4 };

static struct pl_str block_of(struct pl_str number) { return (struct pl_str){ number.p, number.n > BLOCK_LAST ? number.n - BLOCK_LAST : number.n }; }

static enum pl_err refuse(struct pl_utc now, int64_t until_us, const char *why, struct pl_fail *reterr)
{
    enum pl_err e = pl_fail(reterr, PL_RATE_LIMITED, "%s", why);
    int64_t wait = (until_us - now.us + PL_SECOND - 1) / PL_SECOND;
    if (reterr)
        reterr->retry_after_s = (int32_t)(wait < 1 ? 1 : wait);
    return e;
}

struct bucket {
    const char *name;
    struct pl_str who;
    int64_t want, most, window;
    const char *refused;
};

/* All of what is wanted or a refusal: the caller's transaction then takes back what was taken. */
static enum pl_err take(struct db_tx *tx, struct pl_utc now, const struct bucket *b, struct pl_fail *reterr)
{
    char mem[400];
    uint8_t id[32];
    int64_t granted, busy_until;
    struct pl_buf text = pl_buf_fixed(mem, sizeof mem);
    pl_buf_fmt(&text, "%s\n", b->name);
    pl_buf_str(&text, b->who);
    enum pl_err e = pl_buf_err(&text);
    if (e != PL_OK)
        return e;
    secure_sha256(pl_buf_view(&text), id);
    e = limit_take(tx, now, id, b->want, b->most, b->window, &granted, &busy_until);
    if (e != PL_OK || granted == b->want)
        return e;
    int64_t share = b->window / b->most;
    return refuse(now, busy_until + share * (b->want - granted) - b->window, b->refused, reterr);
}

/* ---- S-F4 ---- */

/* *ret_worthless: too few came back, and nobody has said so yet. */
static enum pl_err stopped(struct db_tx *tx, struct pl_utc now, struct pl_str block, bool *ret_worthless, struct pl_fail *reterr)
{
    struct limit_sql_stop_get_row stop;
    struct limit_sql_sent_count_row count;
    bool was_stopped, found;
    static const char why[] = "Too few of the PINs that went to numbers like this one came back. Try again later, or use another number.";
    enum pl_err e = limit_sql_stop_get(tx, block, &stop, &was_stopped);
    if (e != PL_OK)
        return e;
    if (was_stopped && pl_utc_cmp(now, stop.until) < 0)
        return refuse(now, stop.until.us, why, reterr);
    /* What was sent before the last stop has been judged. */
    struct pl_utc since = pl_utc_add(now, -JUDGED_FROM);
    if (was_stopped && pl_utc_cmp(since, stop.until) < 0)
        since = stop.until;
    if ((e = limit_sql_sent_count(tx, block, since, pl_utc_add(now, -JUDGED_UNTIL), &count, &found)) != PL_OK)
        return e;
    *ret_worthless = count.sent >= JUDGED_LEAST && count.answered * 5 < count.sent;
    return PL_OK;
}

/* Whether the block's stop is none of this number's business. */
static enum pl_err exempt(struct db_tx *tx, struct pl_utc now, const struct limit_send *m, bool *ret)
{
    struct limit_sql_owner_count_row count;
    bool found;
    if (!m->proved)
        return PL_OK;
    enum pl_err e = limit_sql_owner_count(tx, m->account_id, pl_utc_add(now, -RECORD), pl_utc_add(now, -JUDGED_UNTIL), &count, &found);
    if (e == PL_OK)
        *ret = count.sent < RECORD_LEAST || count.answered * 5 >= count.sent;
    return e;
}

/* For the next message: this one still goes out, since a refusal would undo the stop that it brings about. */
static enum pl_err stop(struct db_tx *tx, struct pl_utc now, struct pl_str block)
{
    struct limit_sql_stop_get_row row;
    bool found;
    enum pl_err e = limit_sql_stop_get(tx, block, &row, &found);
    int32_t stops = e != PL_OK || !found ? 0 : row.stops < STOPS_MOST ? row.stops : STOPS_MOST;
    return e == PL_OK ? limit_sql_stop_put(tx, block, stops + 1, pl_utc_add(now, HOUR << stops), NULL) : e;
}

static enum pl_err phone_buckets(const struct limit_settings *s, struct db_tx *tx, struct pl_utc now, const struct limit_send *m, struct pl_fail *reterr)
{
    static const char no_money[] = "This service has sent as many messages to phones as it may for now.";
    int64_t cost = m->channel == LIMIT_SMS ? s->sms_cost : s->voice_cost;
    const struct bucket buckets[] = {
        { m->proved ? "limit own number" : "limit number", m->destination, 1, s->number_day, PL_DAY, "This number was sent as many messages as it may be for now." },
        { m->proved ? "limit own block" : "limit block", block_of(m->destination), 1, s->block_hour, HOUR, "Numbers like this one were sent as many messages as they may be for now." },
        { m->proved ? "limit own country" : "limit country", m->country, 1, s->country_hour, HOUR, "This country was sent as many messages as it may be for now." },
        { "limit money", PL_STR(""), cost, s->money_day, PL_DAY, no_money },
        { "limit new money", PL_STR(""), cost, s->new_money_day, PL_DAY, no_money },
    };
    enum pl_err e = PL_OK;
    for (size_t i = 0; e == PL_OK && i < PL_COUNT(buckets) - m->proved; i++)
        e = take(tx, now, &buckets[i], reterr);
    return e;
}

enum pl_err limit_send(const struct limit_settings *s, struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, const struct limit_send *m, struct pl_fail *reterr)
{
    const struct bucket address = { "limit address", m->from, 1, s->address_hour, HOUR, "Too many PINs were asked for from this network. Wait before trying again." };
    const struct bucket account = { "limit account", { (const char *)m->account_id.b, sizeof m->account_id.b }, 1, s->account_day, PL_DAY,
        "Too many PINs were asked for this account. Wait before trying again." };
    const struct bucket email = { m->proved ? "limit own email" : "limit email", m->destination, 1, s->email_day, PL_DAY, "This address was sent as many messages as it may be for now." };
    enum pl_err e = m->from.p ? take(tx, now, &address, reterr) : PL_OK;
    if (e == PL_OK && !pl_uuid_is_zero(m->account_id))
        e = take(tx, now, &account, reterr);
    if (e != PL_OK || m->channel == LIMIT_EMAIL)
        return e == PL_OK ? take(tx, now, &email, reterr) : e;
    bool free = false, worthless = false;
    e = exempt(tx, now, m, &free);
    if (e == PL_OK && !free)
        e = stopped(tx, now, block_of(m->destination), &worthless, reterr);
    if (e == PL_OK && worthless)
        e = stop(tx, now, block_of(m->destination));
    if (e == PL_OK)
        e = phone_buckets(s, tx, now, m, reterr);
    return e == PL_OK ? limit_sql_sent_add(tx, block_of(m->destination), pl_uuid7(rand, now), m->challenge_id, now, m->proved ? m->account_id : (struct pl_uuid){ 0 }, NULL) : e;
}

enum pl_err limit_invite(const struct limit_settings *s, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_str email, struct pl_fail *reterr)
{
    const struct bucket buckets[] = {
        { "invite account", { (const char *)account_id.b, sizeof account_id.b }, 1, s->invites_account_day, PL_DAY, "You have sent as many invitations as you may for now." },
        { "invite address", email, 1, s->invites_address_day, PL_DAY, "This address was sent as many invitations as it may be for now." },
    };
    enum pl_err e = PL_OK;
    for (size_t i = 0; e == PL_OK && i < PL_COUNT(buckets); i++)
        e = take(tx, now, &buckets[i], reterr);
    return e;
}

enum pl_err limit_answered(struct db_tx *tx, struct pl_uuid challenge_id) { return limit_sql_sent_answered(tx, challenge_id, NULL); }
enum pl_err limit_forget(struct db_tx *tx, struct pl_uuid account_id) { return limit_sql_owner_forget(tx, account_id, NULL); }
