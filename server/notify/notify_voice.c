/* notify_voice.c - what the provider of calls tells: a key was pressed, or the call is over. It proves itself by the webhook's key, each question with a signature of its own, and the
 * digits are the answer (S-P12), which is signed too: over the signature that it answers, so that nobody on the way can put another's words into a call. */
#include "notify_int.h"
#include "json.h"
#include "notify_sql.h"

#define CLOCKS_APART (5 * PL_MINUTE)
/* From the key on, for a provider that asks again because our answer was lost. */
#define HEARD_LIFE (2 * PL_MINUTE)
#define BODY_MOST 1024
#define MAC 32
#define QUESTIONS_MOST 32 /* of a call; who has asked so often has lost it */

enum event { EVENT_KEY, EVENT_ENDED };
static const char *const event_names[] = { "key", "ended", NULL };

struct heard {
    struct pl_uuid id;
    int event;
    struct pl_str key, nonce; /* nonce: tells two questions of one second apart, nothing else */
};

/* "t=<unix seconds>,v1=<hex>", over "<t>.callback.<body>": what this server sends itself is signed over another text. */
static enum pl_err check_signature(const struct notify *n, const struct http_call *c, struct pl_str body, uint8_t given[MAC])
{
    struct pl_str v1, t = pl_str_split(http_header(c, "Porchlight-Signature"), ',', &v1);
    uint8_t mac[MAC];
    int64_t seconds;
    if (!pl_str_starts(t, PL_STR("t=")) || !pl_str_starts(v1, PL_STR("v1=")) || pl_unhex((struct pl_str){ v1.p + 3, v1.n - 3 }, given, MAC) != PL_OK ||
        pl_parse_i64((struct pl_str){ t.p + 2, t.n - 2 }, 0, INT64_MAX / PL_SECOND, &seconds) != PL_OK)
        return PL_UNAUTHENTICATED;
    struct pl_str text = pl_fmt(c->arena, "%lld.callback.%.*s", (long long)seconds, PL_FMT(body));
    if (!text.p)
        return PL_NO_MEMORY;
    secure_hmac_sha256(&n->webhook_key, text, mac);
    int64_t apart = pl_utc_sub(c->now, (struct pl_utc){ seconds * PL_SECOND });
    bool fresh = apart <= CLOCKS_APART && apart >= -CLOCKS_APART;
    return secure_eq(mac, sizeof mac, given, MAC) && fresh ? PL_OK : PL_UNAUTHENTICATED;
}

struct call {
    const struct notify *n;
    struct http_call *c;
    const struct heard *heard;
    uint8_t signature[MAC]; /* of the question */
};

/* "t=<unix seconds>,v1=<hex>" over "<t>.answer.<v1 of the question>.<body>". */
static enum pl_err sign_answer(const struct call *k, struct pl_str body)
{
    struct http_call *c = k->c;
    uint8_t mac[MAC];
    long long t = (long long)(c->now.us / PL_SECOND);
    struct pl_str of = pl_hex(c->arena, k->signature, sizeof k->signature), text = pl_fmt(c->arena, "%lld.answer.%.*s.%.*s", t, PL_FMT(of), PL_FMT(body));
    if (!of.p || !text.p)
        return PL_NO_MEMORY;
    secure_hmac_sha256(&k->n->webhook_key, text, mac);
    of = pl_hex(c->arena, mac, sizeof mac);
    http_reply_header(c, "Porchlight-Signature", pl_fmt(c->arena, "t=%lld,v1=%.*s", t, PL_FMT(of)));
    return pl_arena_err(c->arena);
}

static enum pl_err answer(const struct call *k, const struct notify_body *b, bool pressed)
{
    struct pl_buf text = pl_buf_init(k->c->arena, 8192);
    struct jw w = jw_start(&text);
    jw_open(&w, NULL);
    jw_str(&w, "locale", b->locale);
    jw_str(&w, "text", pressed ? b->text : b->ask);
    jw_bool(&w, "hang_up", pressed);
    jw_close(&w);
    if (pl_buf_err(&text) != PL_OK)
        return PL_NO_MEMORY;
    k->c->raw = true;
    k->c->content_type = "application/json";
    pl_buf_str(&k->c->buf, pl_buf_view(&text));
    return sign_answer(k, pl_buf_view(&text));
}

/* Whoever caught a question on its way does not get its answer by asking it again. */
static enum pl_err first_time(const struct call *k, struct pl_str heard)
{
    for (size_t i = 0; i + MAC <= heard.n; i += MAC)
        if (memcmp(heard.p + i, k->signature, MAC) == 0)
            return PL_UNAUTHENTICATED;
    return heard.n < (size_t)QUESTIONS_MOST * MAC ? PL_OK : PL_NOT_FOUND;
}

static enum pl_err say(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    const struct call *k = arg;
    struct notify_sql_call_lock_row row;
    struct notify_body b;
    bool found, pressed = pl_str_eqz(k->heard->key, NOTIFY_CALL_KEY);
    struct pl_utc now = k->c->now;
    (void)reterr;
    enum pl_err e;
    if (k->heard->event == EVENT_ENDED)
        return (e = notify_sql_call_end(tx, k->heard->id, NULL)) == PL_OK ? sign_answer(k, PL_STR("")) : e;
    if ((e = notify_sql_call_lock(tx, k->heard->id, now, &row, &found)) != PL_OK || (e = found ? first_time(k, row.heard) : PL_NOT_FOUND) != PL_OK)
        return e;
    e = notify_sql_call_heard(tx, k->heard->id, pl_utc_add(now, pressed ? HEARD_LIFE : PL_HOUR), (struct pl_str){ (const char *)k->signature, MAC }, NULL);
    if (e == PL_OK)
        e = notify_body_open(k->n, k->heard->id, row.body, k->c->arena, &b);
    return e == PL_OK ? answer(k, &b, pressed) : e;
}

static enum pl_err on_heard(struct http_call *c, struct pl_fail *reterr)
{
    static const struct json_field fields[] = { JSON_F(struct heard, id, J_UUID, J_REQUIRED), JSON_F(struct heard, event, J_ENUM, J_REQUIRED, .words = event_names),
        JSON_F(struct heard, key, J_STR, J_OPTIONAL, .hi = 16), JSON_F(struct heard, nonce, J_STR, J_OPTIONAL, .hi = 64), J_END };
    const struct notify *n = c->self;
    const struct pl_str *body = c->body;
    struct heard heard = { .key = PL_STR_NONE };
    struct call k = { .n = n, .c = c, .heard = &heard };
    enum pl_err e = check_signature(n, c, *body, k.signature);
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
