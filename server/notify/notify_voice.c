/* notify_voice.c - what the provider of calls tells: a key was pressed, or the call is over. It proves itself by the webhook's key; the digits are the answer (S-P12). */
#include "notify_int.h"
#include "json.h"
#include "notify_sql.h"

#define CLOCKS_APART (5 * PL_MINUTE)
/* From the key on, for a provider that asks again because our answer was lost. */
#define HEARD_LIFE (2 * PL_MINUTE)
#define BODY_MOST 1024

enum event { EVENT_KEY, EVENT_ENDED };
static const char *const event_names[] = { "key", "ended", NULL };

struct heard {
    struct pl_uuid id;
    int event;
    struct pl_str key;
};

/* "t=<unix seconds>,v1=<hex>", over "<t>.callback.<body>": what this server sends itself is signed over another text. */
static enum pl_err check_signature(const struct notify *n, const struct http_call *c, struct pl_str body)
{
    struct pl_str v1, t = pl_str_split(http_header(c, "Porchlight-Signature"), ',', &v1);
    uint8_t given[32], mac[32];
    int64_t seconds;
    if (!pl_str_starts(t, PL_STR("t=")) || !pl_str_starts(v1, PL_STR("v1=")) || pl_unhex((struct pl_str){ v1.p + 3, v1.n - 3 }, given, sizeof given) != PL_OK ||
        pl_parse_i64((struct pl_str){ t.p + 2, t.n - 2 }, 0, INT64_MAX / PL_SECOND, &seconds) != PL_OK)
        return PL_UNAUTHENTICATED;
    struct pl_str text = pl_fmt(c->arena, "%lld.callback.%.*s", (long long)seconds, PL_FMT(body));
    if (!text.p)
        return PL_NO_MEMORY;
    secure_hmac_sha256(&n->webhook_key, text, mac);
    int64_t apart = pl_utc_sub(c->now, (struct pl_utc){ seconds * PL_SECOND });
    bool fresh = apart <= CLOCKS_APART && apart >= -CLOCKS_APART;
    return secure_eq(mac, sizeof mac, given, sizeof given) && fresh ? PL_OK : PL_UNAUTHENTICATED;
}

struct call {
    const struct notify *n;
    struct http_call *c;
    const struct heard *heard;
};

static enum pl_err say(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    const struct call *k = arg;
    struct notify_sql_call_look_row row;
    struct notify_body b;
    bool found, pressed = pl_str_eqz(k->heard->key, NOTIFY_CALL_KEY);
    struct pl_utc now = k->c->now;
    (void)reterr;
    if (k->heard->event == EVENT_ENDED)
        return notify_sql_call_end(tx, k->heard->id, NULL);
    enum pl_err e = notify_sql_call_look(tx, k->heard->id, now, pl_utc_add(now, pressed ? HEARD_LIFE : PL_HOUR), &row, &found);
    if (e == PL_OK)
        e = found ? notify_body_open(k->n, k->heard->id, row.body, k->c->arena, &b) : PL_NOT_FOUND;
    if (e != PL_OK)
        return e;
    jw_str(&k->c->out, "locale", b.locale);
    jw_str(&k->c->out, "text", pressed ? b.text : b.ask);
    jw_bool(&k->c->out, "hang_up", pressed);
    return PL_OK;
}

static enum pl_err on_heard(struct http_call *c, struct pl_fail *reterr)
{
    static const struct json_field fields[] = { JSON_F(struct heard, id, J_UUID, J_REQUIRED), JSON_F(struct heard, event, J_ENUM, J_REQUIRED, .words = event_names),
        JSON_F(struct heard, key, J_STR, J_OPTIONAL, .hi = 16), J_END };
    const struct notify *n = c->self;
    const struct pl_str *body = c->body;
    struct heard heard = { .key = PL_STR_NONE };
    struct call k = { n, c, &heard };
    enum pl_err e = check_signature(n, c, *body);
    if (e == PL_OK)
        e = json_take(fields, JSON_STRICT, *body, c->arena, &heard, reterr);
    if (e == PL_OK)
        e = c->db ? http_run(c, say, &k, reterr) : PL_UNAVAILABLE;
    return e;
}

const struct http_route notify_routes[] = {
    { HTTP_POST, "/v1/voice-calls", HTTP_PUBLIC, on_heard, "What the provider of voice calls heard", HTTP_RAW_BODY("application/json", BODY_MOST), .tx = HTTP_OWN_TX, .rate = HTTP_RATE_NONE },
    HTTP_END
};
