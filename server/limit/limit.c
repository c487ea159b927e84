#include "limit.h"
#include "limit_sql.h"

const struct conf_row limit_conf_rows[] = {
    CONF_NUM("limit.number_day", struct limit_settings, number_day, 1, 100000, "10", "Messages to one phone number a day; its owner's own, and apart from them what others ask for."),
    CONF_NUM("limit.account_day", struct limit_settings, account_day, 1, 100000, "30", "PINs for one account a day."),
    CONF_NUM("limit.email_day", struct limit_settings, email_day, 1, 100000, "20", "PINs to one e-mail address a day, counted in the same two parts."),
    CONF_NUM("limit.address_hour", struct limit_settings, address_hour, 1, 10000000, "60", "PINs that one address prefix (/24, /64) may ask for in an hour."),
    CONF_NUM("limit.block_hour", struct limit_settings, block_hour, 1, 10000000, "100",
             "Messages an hour to phone numbers that are alike but for their last four digits, counted in the same two parts."),
    CONF_NUM("limit.country_hour", struct limit_settings, country_hour, 1, 10000000, "2000", "Messages an hour to phone numbers of one country, counted in the same two parts."),
    CONF_NUM("limit.sms_cost", struct limit_settings, sms_cost, 1, 10000, "8", "What a text message counts as, in cents."),
    CONF_NUM("limit.voice_cost", struct limit_settings, voice_cost, 1, 10000, "15", "What a call counts as, in cents."),
    CONF_NUM("limit.money_day", struct limit_settings, money_day, 1, 1000000000, "10000", "What messages to phones may cost a day, in cents."),
    CONF_NUM("limit.new_money_day", struct limit_settings, new_money_day, 1, 1000000000, "7500", "Of that, what may go to numbers that are no account's yet."),
    CONF_NUM("limit.invites_account_day", struct limit_settings, invites_account_day, 1, 100000, "20", "Invitations that one account may send a day."),
    CONF_NUM("limit.invites_address_day", struct limit_settings, invites_address_day, 1, 100000, "5", "Invitations to one e-mail address a day, whoever sends them."),
    CONF_NUM("limit.wrong_of_pair", struct limit_settings, wrong_of_pair, 0, 10000000, "4", "Wrong passwords of an e-mail from one address prefix that cost no wait; then 1 s, doubling to 15m."),
    CONF_NUM("limit.wrong_of_prefix", struct limit_settings, wrong_of_prefix, 0, 10000000, "99", "The same of one address prefix over all e-mails."),
    CONF_NUM("limit.failures_kept", struct limit_settings, failures_kept, 1000, 100000000, "500000",
             "Pairs and prefixes of which wrong passwords are remembered, for a day at most; past it those longest ago are forgotten."),
    CONF_END,
};

enum pl_err limit_take(struct db_tx *tx, struct pl_utc now, const uint8_t id[32], int64_t want, int64_t most, int64_t window_us, int64_t *ret_granted, int64_t *ret_busy_until)
{
    struct limit_sql_take_row row;
    bool found;
    int64_t share = window_us / most;
    enum pl_err e = limit_sql_take(tx, (struct pl_str){ (const char *)id, 32 }, now.us, want, share, share * most, &row, &found);
    if (e != PL_OK)
        return e;
    *ret_granted = row.granted;
    *ret_busy_until = row.busy_until;
    return PL_OK;
}

enum pl_err limit_expire(const struct limit_settings *s, struct db_tx *tx, struct pl_utc now)
{
    struct pl_utc yesterday = pl_utc_add(now, -PL_DAY);
    enum pl_err e = limit_sql_expire_buckets(tx, now.us, NULL);
    if (e == PL_OK)
        e = limit_sql_sent_expire(tx, pl_utc_add(yesterday, -PL_DAY), NULL);
    if (e == PL_OK)
        e = limit_sql_stop_expire(tx, yesterday, NULL);
    if (e == PL_OK)
        e = limit_sql_failure_expire(tx, yesterday, NULL);
    return e == PL_OK ? limit_sql_failure_trim(tx, s->failures_kept, NULL) : e;
}
