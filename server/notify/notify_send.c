/* notify_send.c - the two ways out, both by libcurl on the jobs thread: SMTP, and a POST of signed JSON. */
#include "notify_int.h"
#include "json.h"

#define MAX_MAIL 16384

/* Where curl reads the mail from. */
struct reader {
    struct pl_str left;
};

static size_t read_mail(char *to, size_t size, size_t n, void *arg)
{
    struct reader *r = arg;
    size_t most = size * n < r->left.n ? size * n : r->left.n;
    memcpy(to, r->left.p, most);
    r->left = (struct pl_str){ r->left.p + most, r->left.n - most };
    return most;
}

static size_t drop_answer(char *p, size_t size, size_t n, void *arg)
{
    (void)p;
    (void)arg;
    return size * n;
}

/* The handle keeps its connections over the reset. */
static void fresh(struct notify *n, const char *url, const char *protocols)
{
    curl_easy_reset(n->curl);
    curl_easy_setopt(n->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(n->curl, CURLOPT_URL, url);
    curl_easy_setopt(n->curl, CURLOPT_PROTOCOLS_STR, protocols);
    if (n->ca_file) {
        curl_easy_setopt(n->curl, CURLOPT_CAINFO, n->ca_file);
        curl_easy_setopt(n->curl, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(n->curl, CURLOPT_PROXY, ""); /* where PINs go is said by the settings, not by http_proxy in somebody's shell */
    curl_easy_setopt(n->curl, CURLOPT_TIMEOUT_MS, n->timeout_ms);
    curl_easy_setopt(n->curl, CURLOPT_WRITEFUNCTION, drop_answer);
}

enum notify_outcome notify_send_email(struct notify *n, struct pl_uuid id, struct pl_utc now, const struct notify_body *b, struct pl_arena *a, const char **ret_why)
{
    struct pl_str mail;
    struct curl_slist *to = NULL;
    const char *rcpt = pl_fmt(a, "<%.*s>", PL_FMT(b->to)).p, *sender = pl_fmt(a, "<%.*s>", PL_FMT(notify_address_of(pl_str_of(n->from)))).p;
    *ret_why = "no_memory";
    enum pl_err e = notify_mime(n->from, id, now, b, a, &mail);
    if (e == PL_INVALID_REQUEST) {
        *ret_why = "address";
        return NOTIFY_NEVER;
    }
    if (!rcpt || !sender || e != PL_OK || !(to = curl_slist_append(NULL, rcpt)))
        return NOTIFY_AGAIN;
    struct reader reader = { mail };
    fresh(n, n->smtp_url, "smtp,smtps");
    curl_easy_setopt(n->curl, CURLOPT_MAIL_FROM, sender);
    curl_easy_setopt(n->curl, CURLOPT_MAIL_RCPT, to);
    curl_easy_setopt(n->curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(n->curl, CURLOPT_READFUNCTION, read_mail);
    curl_easy_setopt(n->curl, CURLOPT_READDATA, &reader);
    /* A password never goes out in clear; without one, encryption is taken where the server has it. */
    curl_easy_setopt(n->curl, CURLOPT_USE_SSL, n->smtp_user || n->smtp_tls ? (long)CURLUSESSL_ALL : (long)CURLUSESSL_TRY);
    if (n->smtp_user)
        curl_easy_setopt(n->curl, CURLOPT_USERNAME, n->smtp_user);
    if (n->smtp_password)
        curl_easy_setopt(n->curl, CURLOPT_PASSWORD, n->smtp_password);
    CURLcode rc = curl_easy_perform(n->curl);
    long answer = 0;
    curl_easy_getinfo(n->curl, CURLINFO_RESPONSE_CODE, &answer);
    curl_slist_free_all(to);
    if (rc == CURLE_OK)
        return NOTIFY_TAKEN;
    /* 5xx to RCPT or DATA is for good; wrong log-in data (535) is ours to mend, so the message waits. */
    bool never = answer >= 550 && answer <= 559;
    *ret_why = never ? "smtp_refused" : rc == CURLE_COULDNT_CONNECT || rc == CURLE_COULDNT_RESOLVE_HOST ? "smtp_unreachable" : "smtp_failed";
    return never ? NOTIFY_NEVER : NOTIFY_AGAIN;
}

struct pl_str notify_signature(const struct pl_secret *key, struct pl_utc now, struct pl_str body, struct pl_arena *a)
{
    uint8_t mac[32];
    struct pl_str text = pl_fmt(a, "%lld.%.*s", (long long)(now.us / PL_SECOND), PL_FMT(body));
    if (!text.p)
        return PL_STR_NONE;
    secure_hmac_sha256(key, text, mac);
    struct pl_str hex = pl_hex(a, mac, sizeof mac);
    return hex.p ? pl_fmt(a, "t=%lld,v1=%.*s", (long long)(now.us / PL_SECOND), PL_FMT(hex)) : PL_STR_NONE;
}

static struct pl_str webhook_body(struct pl_uuid id, struct pl_str channel, const struct notify_body *b, struct pl_arena *a)
{
    struct pl_buf buf = pl_buf_init(a, MAX_MAIL);
    struct jw w = jw_start(&buf);
    jw_open(&w, NULL);
    jw_uuid(&w, "id", id);
    jw_str(&w, "to", b->to);
    jw_str(&w, "channel", channel);
    jw_str(&w, "locale", b->locale);
    if (b->ask.p) { /* S-P12: an answering machine hears no digits */
        jw_str(&w, "text", b->ask);
        jw_z(&w, "key", NOTIFY_CALL_KEY);
    } else {
        jw_str(&w, "text", b->text);
        jw_str(&w, "pin", b->pin);
        jw_int(&w, "segments", notify_segments(b->text));
    }
    jw_close(&w);
    return pl_buf_err(&buf) == PL_OK ? pl_buf_view(&buf) : PL_STR_NONE;
}

/* A list with one more header; frees the list and answers NULL when there is no memory. */
static struct curl_slist *with_header(struct curl_slist *list, const char *header)
{
    struct curl_slist *more = header ? curl_slist_append(list, header) : NULL;
    if (!more)
        curl_slist_free_all(list);
    return more;
}

enum notify_outcome notify_send_webhook(struct notify *n, struct pl_uuid id, struct pl_utc now, struct pl_str channel, const struct notify_body *b, struct pl_arena *a,
                                        const char **ret_why)
{
    struct pl_str body = webhook_body(id, channel, b, a), sig = body.p ? notify_signature(&n->webhook_key, now, body, a) : PL_STR_NONE;
    struct curl_slist *headers = NULL;
    *ret_why = "no_memory";
    char name[PL_UUID_TEXT];
    pl_uuid_text(id, name);
    if (!sig.p || !(headers = with_header(NULL, "Content-Type: application/json")) || !(headers = with_header(headers, pl_fmt(a, "Idempotency-Key: %s", name).p)) ||
        !(headers = with_header(headers, pl_fmt(a, "Porchlight-Signature: %.*s", PL_FMT(sig)).p)) || !(headers = with_header(headers, "Expect:")))
        return NOTIFY_AGAIN;
    fresh(n, n->sms_webhook, "http,https");
    /* A connection each: on a kept one, a late second answer to the message before would be taken for the answer to this one, which nobody has. */
    curl_easy_setopt(n->curl, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(n->curl, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(n->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(n->curl, CURLOPT_POSTFIELDSIZE, (long)body.n);
    curl_easy_setopt(n->curl, CURLOPT_POSTFIELDS, body.p);
    curl_easy_setopt(n->curl, CURLOPT_USERAGENT, "porchlight");
    CURLcode rc = curl_easy_perform(n->curl);
    long status = 0;
    curl_easy_getinfo(n->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    if (rc == CURLE_OK && status >= 200 && status < 300)
        return NOTIFY_TAKEN;
    bool never = rc == CURLE_OK && status >= 400 && status < 500 && status != 408 && status != 429 && status != 401 && status != 403;
    *ret_why = rc != CURLE_OK ? "webhook_unreachable" : never ? "webhook_refused" : "webhook_failed";
    return never ? NOTIFY_NEVER : NOTIFY_AGAIN;
}
