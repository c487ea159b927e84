#include "notify_int.h"
#include "json.h"
#include "notify_sql.h"

#define PLAIN_LIFE (3 * PL_DAY) /* of a message without a PIN */
#define KEPT (7 * PL_DAY)       /* rows that ended, for the conservation query and for support */
#define SETTLED PL_HOUR
#define MAX_ATTEMPTS 8
#define BACKOFF (5 * PL_SECOND)
#define BACKOFF_MOST (5 * PL_MINUTE)
#define MAX_BODY 8192
#define CALL_LIFE (10 * PL_MINUTE) /* of a call's digits, from when it was handed over */

const char *const notify_channel_names[NOTIFY_CHANNELS + 1] = { "email", "sms", "voice", NULL };

static const char *const tls_words[] = { "offered", "required", NULL };
static const char *const smtp_schemes[] = { "smtp://", "smtps://", NULL }, *const http_schemes[] = { "http://", "https://", NULL };

const struct conf_row notify_conf_rows[] = {
    CONF_URL("notify.smtp_url", struct notify_conf, smtp_url, 512, smtp_schemes, "", "Where e-mail goes: smtp://host:port or smtps://host:port. Empty: e-mail waits for porchctl outbox."),
    CONF_STR("notify.smtp_user", struct notify_conf, smtp_user, 256, "", "User name at the SMTP server. Set: the connection must be encrypted."),
    { .name = "notify.smtp_password", .type = CONF_T_STR, .offset = offsetof(struct notify_conf, smtp_password), .hi = 256, .dflt = "",
      .doc = "Password at the SMTP server.", .secret = true },
    CONF_WORD("notify.smtp_tls", struct notify_conf, smtp_tls, tls_words, "offered",
              "For smtp://: required refuses a server without STARTTLS; offered uses it where there is. A certificate that is wrong is refused always, and smtps:// is TLS always."),
    CONF_STR("notify.ca_file", struct notify_conf, ca_file, 512, "", "Authorities that may vouch for the SMTP server and the webhook, a PEM file. Empty: the system's."),
    CONF_STR("notify.from", struct notify_conf, from, 254, "Porchlight <porchlight@localhost>", "Sender of the e-mails: address, or name <address>."),
    CONF_URL("notify.sms_webhook", struct notify_conf, sms_webhook, 1024, http_schemes, "", "Where SMS and voice calls are POSTed. Empty: they wait for porchctl outbox."),
    { .name = "notify.webhook_key", .type = CONF_T_STR, .offset = offsetof(struct notify_conf, webhook_key), .hi = 64, .dflt = "",
      .doc = "Key that signs the POSTs, 64 hex digits. Empty: one derived from the master key.", .secret = true },
    CONF_STR("notify.messages", struct notify_conf, messages, 512, "", "A folder of texts, <locale>/<message>.txt, that are taken before those that are built in. See docs/operators.md."),
    CONF_STR("notify.otp_domain", struct notify_conf, otp_domain, 100, "", "The domain of your app or site: texts with a PIN then end in a line by which phones fill it in. Empty: no such line."),
    CONF_DUR("notify.timeout", struct notify_conf, timeout, PL_SECOND, PL_MINUTE, "10s", "How long one hand-over may take."),
    CONF_END
};

static struct pl_metric metrics[] = {
    PL_METRIC_COUNTER("porchlight_notify_sent_total", "Messages that a provider took."),
    PL_METRIC_COUNTER("porchlight_notify_retries_total", "Hand-overs that failed and are tried again."),
    PL_METRIC_COUNTER("porchlight_notify_dead_total", "Messages given up."),
    PL_METRIC_COUNTER("porchlight_notify_expired_total", "Messages that were not sent in time."),
};
enum { M_SENT, M_RETRIES, M_DEAD, M_EXPIRED };

/* The outbox as it stands, the same on every node. */
static struct pl_metric gauges[] = {
    PL_METRIC_GAUGE("porchlight_outbox_queued", "Messages that wait for a provider."),
    PL_METRIC_GAUGE("porchlight_outbox_leased", "Messages that are being handed over."),
    PL_METRIC_GAUGE("porchlight_outbox_sent", "Messages that a provider took a short while ago."),
    PL_METRIC_GAUGE("porchlight_outbox_done", "Messages that a provider took and that nothing more was heard of."),
    PL_METRIC_GAUGE("porchlight_outbox_expired", "Messages that were not sent in time, or that a newer one replaced."),
    PL_METRIC_GAUGE("porchlight_outbox_dead", "Messages given up."),
    PL_METRIC_GAUGE("porchlight_outbox_messages", "All messages: the sum of the six states, or something was lost."),
};

enum notify_channel notify_channel_of(struct pl_str name)
{
    for (int i = 0; i < NOTIFY_CHANNELS; i++)
        if (pl_str_eqz(name, notify_channel_names[i]))
            return (enum notify_channel)i;
    return NOTIFY_CHANNELS;
}

/* ---- making ---- */

/* *ret stays NULL for an empty setting. */
static enum pl_err keep(struct pl_str s, char **ret)
{
    if (!s.n)
        return PL_OK;
    char *z = pl_heap(s.n + 1);
    if (!z)
        return PL_NO_MEMORY;
    memcpy(z, s.p, s.n);
    *ret = z;
    return PL_OK;
}

static void heap_freep(char **p) { *p = pl_heap_free(*p); }

static enum pl_err conf_check(const struct notify_conf *c, struct notify *n, struct pl_fail *reterr)
{
    if (pl_str_find(c->from, '@') == c->from.n || pl_str_find(c->from, '\r') < c->from.n || pl_str_find(c->from, '\n') < c->from.n)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "notify.from", "notify.from wants an e-mail address");
    if (c->webhook_key.n && pl_unhex(c->webhook_key, n->webhook_key.b, sizeof n->webhook_key.b) != PL_OK)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "notify.webhook_key", "notify.webhook_key wants 64 hex digits");
    for (size_t i = 0; i < c->otp_domain.n; i++)
        if (c->otp_domain.p[i] <= ' ' || c->otp_domain.p[i] >= 0x7f || strchr("@#/:", c->otp_domain.p[i]))
            return pl_fail_field(reterr, PL_INVALID_REQUEST, "notify.otp_domain", "notify.otp_domain wants a domain, such as example.org");
    return PL_OK;
}

enum pl_err notify_new(const struct notify_conf *conf, const struct pl_secret *master, struct bus *bus, const struct pl_log *log, struct notify **ret, struct pl_fail *reterr)
{
    struct notify *n = pl_heap(sizeof *n);
    if (!n)
        return PL_NO_MEMORY;
    secure_derive(master, "porchlight outbox seal v1", &n->seal_key);
    secure_derive(master, "porchlight webhook signature v1", &n->webhook_key);
    n->bus = bus;
    n->log = pl_log_child(log, PL_F_Z("part", "notify"));
    n->smtp_tls = pl_str_eqz(conf->smtp_tls, "required");
    n->timeout_ms = (long)(conf->timeout / PL_MS);
    enum pl_err e = conf_check(conf, n, reterr);
    char *messages PL_CLEANUP(heap_freep) = NULL;
    const struct { struct pl_str from; char **to; } kept[] = { { conf->smtp_url, &n->smtp_url }, { conf->smtp_user, &n->smtp_user },
        { conf->smtp_password, &n->smtp_password }, { conf->from, &n->from }, { conf->sms_webhook, &n->sms_webhook }, { conf->otp_domain, &n->otp_domain },
        { conf->ca_file, &n->ca_file }, { conf->messages, &messages } };
    for (size_t i = 0; e == PL_OK && i < PL_COUNT(kept); i++)
        e = keep(kept[i].from, kept[i].to);
    if (e == PL_OK)
        e = notify_texts_load(messages, &n->texts, reterr);
    if (e == PL_OK && (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(n->curl = curl_easy_init())))
        e = PL_NO_MEMORY;
    if (e != PL_OK) {
        notify_free(n);
        return e;
    }
    pl_metrics_register(metrics, PL_COUNT(metrics));
    pl_metrics_register(gauges, PL_COUNT(gauges));
    *ret = n;
    return PL_OK;
}

struct notify *notify_free(struct notify *n)
{
    if (!n)
        return NULL;
    curl_easy_cleanup(n->curl);
    if (n->smtp_password)
        secure_wipe(n->smtp_password, strlen(n->smtp_password));
    n->texts = notify_texts_free(n->texts);
    char *kept[] = { n->smtp_url, n->smtp_user, n->smtp_password, n->from, n->sms_webhook, n->otp_domain, n->ca_file };
    for (size_t i = 0; i < PL_COUNT(kept); i++)
        pl_heap_free(kept[i]);
    pl_secret_wipe(&n->seal_key);
    pl_secret_wipe(&n->webhook_key);
    return pl_heap_free(n);
}

void notify_webhook_key(const struct notify *n, char ret[65])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof n->webhook_key.b; i++) {
        ret[2 * i] = digits[n->webhook_key.b[i] >> 4];
        ret[2 * i + 1] = digits[n->webhook_key.b[i] & 15];
    }
    ret[64] = '\0';
}

/* ---- the sealed body: JSON, bound to the row's id so that two rows cannot change bodies ---- */

static struct pl_str seal_context(struct pl_uuid id, char text[PL_UUID_TEXT])
{
    pl_uuid_text(id, text);
    return pl_str_of(text);
}

static enum pl_err body_seal(const struct notify *n, struct pl_uuid id, const struct notify_body *b, struct pl_arena *a, struct pl_str *ret)
{
    char text[PL_UUID_TEXT];
    struct pl_buf buf = pl_buf_init(a, MAX_BODY);
    struct jw w = jw_start(&buf);
    jw_open(&w, NULL);
    jw_str(&w, "to", b->to);
    jw_str(&w, "subject", b->subject);
    jw_str(&w, "text", b->text);
    jw_str(&w, "locale", b->locale);
    if (b->pin.p)
        jw_str(&w, "pin", b->pin);
    if (b->ask.p)
        jw_str(&w, "ask", b->ask);
    jw_close(&w);
    if (pl_buf_err(&buf) != PL_OK)
        return PL_NO_MEMORY;
    enum pl_err e = secure_seal(&n->seal_key, seal_context(id, text), pl_buf_view(&buf), a, ret);
    secure_wipe(buf.p, buf.n);
    return e;
}

enum pl_err notify_body_open(const struct notify *n, struct pl_uuid id, struct pl_str sealed, struct pl_arena *a, struct notify_body *ret)
{
    static const struct json_field fields[] = { JSON_F(struct notify_body, to, J_STR, J_REQUIRED), JSON_F(struct notify_body, subject, J_STR, J_REQUIRED),
        JSON_F(struct notify_body, text, J_STR, J_REQUIRED, .hi = MAX_BODY), JSON_F(struct notify_body, pin, J_PIN, J_OPTIONAL),
        JSON_F(struct notify_body, locale, J_STR, J_OPTIONAL), JSON_F(struct notify_body, ask, J_STR, J_OPTIONAL, .hi = MAX_BODY), J_END };
    char text[PL_UUID_TEXT];
    struct pl_str plain;
    struct notify_body b = { .pin = PL_STR_NONE, .ask = PL_STR_NONE, .locale = PL_STR(NOTIFY_LOCALE_DEFAULT) };
    enum pl_err e = secure_open(&n->seal_key, seal_context(id, text), sealed, a, &plain);
    if (e == PL_OK && (e = json_take(fields, JSON_STRICT, plain, a, &b, NULL)) == PL_OK)
        *ret = b;
    return e;
}

/* ---- rows ---- */

enum pl_err notify_queue(const struct notify *n, struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, const struct notify_message *m)
{
    struct notify_body body;
    struct pl_str sealed;
    struct pl_uuid id = pl_uuid7(rand, now);
    struct pl_utc send_by = pl_utc_add(now, m->life_us ? m->life_us / 2 : PLAIN_LIFE);
    struct pl_utc wipe_at = pl_utc_add(now, m->life_us ? m->life_us : PLAIN_LIFE);
    enum pl_err e = notify_render(n, m, db_arena(tx), &body);
    if (e == PL_OK)
        e = body_seal(n, id, &body, db_arena(tx), &sealed);
    if (e != PL_OK)
        return e;
    return notify_sql_queue(tx, id, m->account_id, m->ref, pl_str_of(notify_kind_name(m->kind)), pl_str_of(notify_channel_names[m->channel]), sealed, now, send_by,
                            wipe_at, NULL);
}

enum pl_err notify_cancel(struct db_tx *tx, struct pl_utc now, struct pl_uuid ref)
{
    enum pl_err e = notify_sql_cancel(tx, ref, now, NULL);
    return e == PL_OK ? notify_sql_call_cancel(tx, ref, NULL) : e;
}

enum pl_err notify_forget(struct db_tx *tx, struct pl_uuid account_id)
{
    enum pl_err e = notify_sql_forget(tx, account_id, NULL);
    return e == PL_OK ? notify_sql_call_forget(tx, account_id, NULL) : e;
}

void notify_wake(void *n)
{
    const struct notify *self = n;
    if (self->bus)
        bus_nudge(self->bus, "outbox");
}

enum pl_err notify_list(const struct notify *n, struct db_tx *tx, struct pl_utc now, struct notify_listed **ret, size_t *ret_n)
{
    struct notify_sql_list_row *rows;
    size_t count;
    enum pl_err e = notify_sql_list(tx, now, &rows, &count);
    if (e != PL_OK)
        return e;
    struct notify_listed *out = PL_NEW_ARRAY(db_arena(tx), count ? count : 1, struct notify_listed);
    if (!out)
        return PL_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        struct notify_body b;
        if ((e = notify_body_open(n, rows[i].id, rows[i].body, db_arena(tx), &b)) != PL_OK)
            return e;
        out[i] = (struct notify_listed){ .id = rows[i].id, .kind = rows[i].kind, .channel = rows[i].channel, .to = b.to, .subject = b.subject, .text = b.text,
            .pin = b.pin, .created_at = rows[i].created_at, .wipe_at = rows[i].wipe_at, .attempts = rows[i].attempts };
        /* S-A10: an operator reads PINs and links only where nobody else could deliver them. */
        if (pl_str_eqz(rows[i].channel, notify_channel_names[NOTIFY_EMAIL]) ? n->smtp_url != NULL : n->sms_webhook != NULL)
            out[i].text = out[i].pin = PL_STR_NONE;
    }
    *ret = out;
    *ret_n = count;
    return PL_OK;
}

/* ---- the sender job: lease (own transaction), hand over (none), say what became of it (own transaction) ---- */

struct job {
    struct notify *n;
    struct pl_rand *rand;
    const struct pl_clock *clock;
    struct notify_sql_lease_row row;
    struct pl_uuid lease;
    bool found;
    enum notify_outcome outcome;
    const char *why;
};

static bool is_call(const struct job *j) { return notify_channel_of(j->row.channel) == NOTIFY_VOICE; }

static enum pl_err take(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct job *j = arg;
    (void)reterr;
    struct pl_utc now = pl_now_utc(j->clock);
    j->lease = pl_uuid7(j->rand, now);
    /* Two connects and a hand-over fit in; a node that dies meanwhile loses the lease, and another one sends with the same id. */
    enum pl_err e = notify_sql_lease(tx, now, pl_utc_add(now, 3 * j->n->timeout_ms * PL_MS), j->lease, j->n->smtp_url != NULL, j->n->sms_webhook != NULL, &j->row, &j->found);
    /* Before the hand-over: a key may be pressed before the provider has answered. */
    return e == PL_OK && j->found && is_call(j) ? notify_sql_call_open(tx, j->row.id, pl_utc_add(now, CALL_LIFE), NULL) : e;
}

static enum pl_err age(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct job *j = arg;
    (void)reterr;
    struct pl_utc now = pl_now_utc(j->clock);
    int64_t count;
    enum pl_err e = notify_sql_expire(tx, now, j->n->smtp_url != NULL, j->n->sms_webhook != NULL, &count);
    if (e == PL_OK && count)
        pl_count(&metrics[M_EXPIRED], count);
    if (e == PL_OK)
        e = notify_sql_call_expire(tx, now, NULL);
    if (e == PL_OK)
        e = notify_sql_settle(tx, now, pl_utc_add(now, -SETTLED), NULL);
    return e == PL_OK ? notify_sql_purge(tx, pl_utc_add(now, -KEPT), NULL) : e;
}

static int64_t backoff(int16_t attempts)
{
    int64_t wait = BACKOFF << (attempts < 1 ? 0 : attempts - 1);
    return wait < BACKOFF_MOST ? wait : BACKOFF_MOST;
}

static enum pl_err settle(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct job *j = arg;
    (void)reterr;
    struct pl_utc now = pl_now_utc(j->clock);
    if (j->outcome == NOTIFY_TAKEN)
        return notify_sql_sent(tx, j->row.id, j->lease, now, NULL);
    if (j->outcome == NOTIFY_NEVER) {
        enum pl_err e = is_call(j) ? notify_sql_call_end(tx, j->row.id, NULL) : PL_OK;
        return e == PL_OK ? notify_sql_dead(tx, j->row.id, j->lease, now, pl_str_of(j->why), NULL) : e;
    }
    return notify_sql_retry(tx, j->row.id, j->lease, pl_utc_add(now, backoff(j->row.attempts)), pl_str_of(j->why), NULL);
}

static void hand_over(struct job *j, struct pl_arena *a)
{
    struct notify_body b;
    struct pl_utc now = pl_now_utc(j->clock);
    j->why = "";
    if (notify_body_open(j->n, j->row.id, j->row.body, a, &b) != PL_OK) {
        j->outcome = NOTIFY_NEVER;
        j->why = "unreadable";
    } else if (notify_channel_of(j->row.channel) == NOTIFY_EMAIL) {
        j->outcome = notify_send_email(j->n, j->row.id, now, &b, a, &j->why);
    } else {
        j->outcome = notify_send_webhook(j->n, j->row.id, now, j->row.channel, &b, a, &j->why);
    }
    if (j->outcome == NOTIFY_AGAIN && j->row.attempts >= MAX_ATTEMPTS)
        j->outcome = NOTIFY_NEVER;
}

static void report(const struct job *j)
{
    static const int metric[] = { [NOTIFY_TAKEN] = M_SENT, [NOTIFY_AGAIN] = M_RETRIES, [NOTIFY_NEVER] = M_DEAD };
    pl_count(&metrics[metric[j->outcome]], 1);
    if (j->outcome == NOTIFY_TAKEN)
        PL_LOG(&j->n->log, PL_INFO, "notify.sent", PL_F_UUID("message", j->row.id), PL_F_STR("channel", j->row.channel), PL_F_STR("kind", j->row.kind));
    else
        PL_LOG(&j->n->log, PL_WARN, j->outcome == NOTIFY_AGAIN ? "notify.retry" : "notify.dead", PL_F_UUID("message", j->row.id),
               PL_F_STR("channel", j->row.channel), PL_F_Z("why", j->why), PL_F_INT("attempts", j->row.attempts));
}

enum pl_err notify_run_once(struct notify *n, struct db *db, struct pl_arena *a, struct pl_rand *rand, const struct pl_clock *clock, unsigned max, unsigned *ret_n)
{
    unsigned done = 0;
    struct job first = { .n = n, .clock = clock };
    enum pl_err e = db_run(db, a, age, &first, NULL);
    while (e == PL_OK && done < max && (n->smtp_url || n->sms_webhook)) {
        struct job j = { .n = n, .rand = rand, .clock = clock };
        if ((e = db_run(db, a, take, &j, NULL)) != PL_OK || !j.found)
            break;
        hand_over(&j, a);
        report(&j);
        e = db_run(db, a, settle, &j, NULL);
        done++;
    }
    if (e == PL_OK)
        *ret_n = done;
    return e;
}

enum pl_err notify_count(struct db_tx *tx, struct notify_states *ret)
{
    struct notify_sql_states_row r;
    bool found;
    enum pl_err e = notify_sql_states(tx, &r, &found);
    if (e == PL_OK)
        *ret = (struct notify_states){ .queued = r.queued, .leased = r.leased, .sent = r.sent, .done = r.done, .expired = r.expired, .dead = r.dead, .total = r.total };
    return e;
}

enum pl_err notify_measure(struct db_tx *tx)
{
    struct notify_states s = { 0 };
    enum pl_err e = notify_count(tx, &s);
    const int64_t values[] = { s.queued, s.leased, s.sent, s.done, s.expired, s.dead, s.total };
    for (size_t i = 0; e == PL_OK && i < PL_COUNT(values); i++)
        pl_gauge(&gauges[i], values[i]);
    return e;
}
