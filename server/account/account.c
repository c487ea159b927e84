#include "account_int.h"

static const char *const link_schemes[] = { "https://", "porchlight://", NULL };

const struct conf_row account_conf_rows[] = {
    CONF_NUM("account.hash_threads", struct account_settings, hash_threads, 1, 64, "2", "Password hashes computed at once; each takes 19 MiB. Not more than processors."),
    CONF_NUM("account.hash_queue", struct account_settings, hash_queue, 0, 4096, "128", "Calls that wait to hash a password; past it a log-in gets 503 overloaded. Other calls do not wait for them."),
    CONF_DUR("account.access_life", struct account_settings, access_life, PL_MINUTE, PL_HOUR, "15m", "How long an access token is good."),
    CONF_DUR("account.refresh_idle", struct account_settings, refresh_idle, PL_HOUR, 30 * PL_DAY, "30d", "A session that is not refreshed for so long ends."),
    CONF_DUR("account.refresh_life", struct account_settings, refresh_life, PL_HOUR, 180 * PL_DAY, "180d", "A session ends after so long in any case."),
    CONF_STR("account.phone_countries", struct account_settings, phone_countries, 1024, "", "Countries whose phones get PINs: codes like AT US, parted by blanks. Empty: all."),
    CONF_STR("account.geo_database", struct account_settings, geo_database, 512, "", "A MaxMind database (.mmdb) with countries of addresses, for the sign-up form's proposal."),
    CONF_URL("account.link_url", struct account_settings, link_url, 120, link_schemes, "porchlight://account",
             "Your app's page that links in messages open: /reset#TOKEN and /undo#TOKEN are put behind it."),
    CONF_END
};

static struct pl_metric metrics[] = {
    [ACCOUNT_M_SIGN_UPS] = PL_METRIC_COUNTER("porchlight_account_sign_ups_total", "Sign-ups begun, for taken e-mails too."),
    [ACCOUNT_M_SESSIONS] = PL_METRIC_COUNTER("porchlight_account_sessions_total", "Sessions opened."),
    [ACCOUNT_M_LOG_IN_FAILURES] = PL_METRIC_COUNTER("porchlight_account_log_in_failures_total", "Log-ins with a wrong password or an unknown e-mail."),
    [ACCOUNT_M_PINS_WRONG] = PL_METRIC_COUNTER("porchlight_account_pins_wrong_total", "Wrong PINs."),
    [ACCOUNT_M_TOKENS_REUSED] = PL_METRIC_COUNTER("porchlight_account_tokens_reused_total", "Refresh tokens that were used twice."),
};
void account_count(enum account_metric m) { pl_count(&metrics[m], 1); }

/* Nobody has this password; verifying against it costs what a real one costs. */
static enum pl_err dummy_make(char ret[SECURE_PASSWORD_TEXT])
{
    struct pl_secret secret PL_CLEANUP(pl_secret_wipe) = { { 0 } };
    secure_random_secret(&secret);
    return secure_password_hash((struct pl_str){ (const char *)secret.b, sizeof secret.b }, (struct secure_password_policy){ 0 }, ret);
}

enum pl_err account_new(const struct account_conf *conf, struct account **ret, struct pl_fail *reterr)
{
    struct account *ctx = pl_heap(sizeof *ctx);
    if (!ctx)
        return PL_NO_MEMORY;
    *ctx = (struct account){ .settings = conf->settings, .notify = conf->notify, .bus = conf->bus, .parts = conf->parts, .member = conf->member, .unlink = conf->unlink,
                             .clock = conf->clock, .rand = conf->rand,
        .log = pl_log_child(conf->log, PL_F_Z("part", "account")) };
    pin_init(&ctx->pin, &conf->pin, conf->master, conf->notify, conf->rand);
    factor_init(&ctx->factor, &conf->factor, conf->master, conf->rand);
    phone_warm();
    enum pl_err e = account_where_open(ctx, reterr);
    if (e == PL_OK)
        e = dummy_make(ctx->dummy_hash);
    if (e == PL_OK)
        e = account_events_new(ctx, &ctx->events);
    if (e == PL_OK)
        e = account_used_new(&ctx->used);
    if (e != PL_OK) {
        account_free(ctx);
        return e;
    }
    pl_metrics_register(metrics, PL_COUNT(metrics));
    *ret = ctx;
    return PL_OK;
}

struct account *account_free(struct account *ctx)
{
    if (!ctx)
        return NULL;
    account_events_free(ctx->events);
    account_used_free(ctx->used);
    account_where_close(ctx);
    factor_done(&ctx->factor);
    pin_done(&ctx->pin);
    return pl_heap_free(ctx);
}

struct notify *account_notify(struct account *ctx) { return ctx->notify; }

enum pl_err account_tell_with(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, const struct notify_message *said)
{
    struct account_sql_by_id_row row;
    struct notify_message m = *said;
    bool found;
    enum pl_err e = account_sql_by_id(tx, account_id, &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_NOT_FOUND : e;
    m.channel = NOTIFY_EMAIL;
    m.to = row.email;
    m.locale = row.locale;
    m.account_id = account_id;
    return notify_queue(ctx->notify, tx, ctx->rand, now, &m);
}

enum pl_err account_tell(struct account *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, enum notify_kind kind, struct pl_str about)
{
    return account_tell_with(ctx, tx, now, account_id, &(struct notify_message){ .kind = kind, .about = about });
}

enum pl_err account_email(struct db_tx *tx, struct pl_uuid account_id, struct pl_str *ret)
{
    struct account_sql_by_id_row row;
    enum pl_err e = account_sql_by_id(tx, account_id, &row, NULL);
    if (e == PL_OK)
        *ret = row.email;
    return e;
}

enum pl_err account_link(const struct account *ctx, struct pl_arena *a, const char *page, const char *token, struct pl_str *ret)
{
    *ret = pl_fmt(a, "%.*s/%s#%s", PL_FMT(ctx->settings.link_url), page, token);
    return ret->p ? PL_OK : PL_NO_MEMORY;
}

void account_work_wake(void *ctx)
{
    struct account *a = ctx;
    if (a->bus)
        bus_nudge(a->bus, "facts");
}

enum pl_err account_work(struct account *ctx, struct db_tx *tx, struct pl_utc now, bool *ret_again)
{
    enum pl_err e = account_used_write(ctx->used, tx);
    return e == PL_OK ? account_resets_run(ctx, tx, now, ret_again) : e;
}

static void write_masked(struct jw *w, const char *name, struct pl_str s)
{
    char mem[300];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    pin_mask(&b, s);
    jw_str(w, name, pl_buf_err(&b) == PL_OK ? pl_buf_view(&b) : PL_STR_NONE);
}

enum pl_err account_list(struct db_tx *tx, struct jw *w)
{
    struct account_sql_list_row *rows;
    size_t n;
    enum pl_err e = account_sql_list(tx, &rows, &n);
    if (e != PL_OK)
        return e;
    jw_array(w, "accounts");
    for (size_t i = 0; i < n; i++) {
        jw_open(w, NULL);
        jw_uuid(w, "account_id", rows[i].account_id);
        write_masked(w, "email", rows[i].email);
        write_masked(w, "phone", rows[i].phone);
        jw_str(w, "country", rows[i].country);
        jw_str(w, "region", rows[i].region);
        jw_utc(w, "created_at", rows[i].created_at);
        jw_close(w);
    }
    jw_end_array(w);
    return PL_OK;
}

enum pl_err account_expire(struct account *ctx, struct db_tx *tx, struct pl_utc now)
{
    enum pl_err e = account_sql_signup_expire(tx, now, NULL);
    if (e == PL_OK)
        e = account_sql_reset_expire(tx, now, NULL);
    if (e == PL_OK)
        e = account_changes_expire(tx, now);
    if (e == PL_OK)
        e = account_sql_expire_tokens(tx, now, NULL);
    if (e == PL_OK)
        e = account_delegations_expire(ctx, tx, now);
    if (e == PL_OK)
        e = account_sql_expire_grants(tx, now, NULL);
    if (e == PL_OK)
        e = account_sql_expire_sessions(tx, now, NULL);
    if (e == PL_OK)
        e = factor_expire(tx, now);
    return e == PL_OK ? pin_expire(tx, now) : e;
}
