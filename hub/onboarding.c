#include "onboarding.h"
#include "json.h"

#define SCAN_EVERY (5 * PL_SECOND)
#define WRONG_SERIALS 5 /* then nobody may try for a minute */
#define WRONG_WAIT PL_MINUTE
#define ASK_EVERY (100 * PL_MS) /* ten requests a second, forty at once */
#define ASK_AT_ONCE 40
enum { KEY_TEXT = 44, JOINS = 20 /* of one session */ };
#define BASE "/onboarding/v1/"

struct session {
    bool open;
    char token[SECURE_TOKEN_TEXT];
    uint8_t app_key[32];
    struct secure_box_keys keys; /**< of this session only */
    struct pl_mono began, until;
    unsigned joins;
};
struct onboarding {
    struct onboarding_conf conf;
    struct session session;
    struct pl_mono until;             /**< the window's end */
    struct pl_mono calm;              /**< when the bucket of requests is full again */
    unsigned wrong;                   /**< serials in a row */
    struct pl_mono wrong_until;
    bool scanning, scanned, joining, on_network, tried;
    enum wifi_end end;                /**< of the last try */
    struct pl_mono scan_at, joined_at;
    struct wifi_list list;
};

enum pl_err onboarding_new(const struct onboarding_conf *conf, struct pl_mono now, struct onboarding **ret)
{
    struct onboarding *o = pl_heap(sizeof *o);
    if (!o)
        return PL_NO_MEMORY;
    o->conf = *conf;
    o->until = pl_mono_add(now, conf->window_us);
    o->calm = o->wrong_until = o->joined_at = now;
    o->on_network = conf->wired || conf->on_network;
    /* Before the temporary Wi-Fi is up: many radios cannot do both at once. */
    o->scanning = !conf->wired && conf->scan(conf->self) == PL_OK;
    o->scan_at = now;
    *ret = o;
    return PL_OK;
}

static void end_session(struct onboarding *o) { secure_wipe(&o->session, sizeof o->session); }

static bool session_there(const struct onboarding *o, struct pl_mono now) { return o->session.open && pl_mono_cmp(now, o->session.until) < 0; }

/* ---- What stands ---- */

static const char *state_of(const struct onboarding *o, struct pl_mono now, const struct hub_look *look, struct pl_str *ret_wifi_error, struct pl_str *ret_code)
{
    *ret_wifi_error = *ret_code = PL_STR_NONE;
    if (look->claim == HUB_CLAIM_BOUND)
        return "bound";
    if (look->claim == HUB_CLAIM_REFUSED) {
        *ret_code = pl_str_of(look->code);
        return "refused";
    }
    if (o->joining)
        return "joining";
    if (o->tried && o->end != WIFI_JOINED) {
        *ret_wifi_error = pl_str_of(wifi_end_words[o->end]);
        return "wifi_failed";
    }
    if (!o->on_network)
        return "waiting";
    if (look->connected)
        return "connected";
    struct pl_mono since = pl_mono_cmp(o->joined_at, o->session.began) > 0 ? o->joined_at : o->session.began;
    if (pl_mono_sub(now, since) < ONBOARDING_INTERNET)
        return "connecting";
    *ret_wifi_error = PL_STR("no_internet");
    return "wifi_failed";
}

static void write_progress(const struct onboarding *o, struct pl_mono now, const struct hub_look *look, struct jw *w)
{
    struct pl_str wifi_error, code;
    jw_z(w, "state", state_of(o, now, look, &wifi_error, &code));
    jw_str(w, "wifi_error", wifi_error);
    jw_str(w, "code", code);
    jw_int(w, "expires_in", pl_seconds_up(pl_mono_sub(o->session.until, now)));
}

static void write_networks(const struct onboarding *o, struct pl_mono now, struct jw *w)
{
    jw_bool(w, "scanning", o->scanning);
    if (o->scanned)
        jw_int(w, "age_s", pl_mono_sub(now, o->scan_at) / PL_SECOND);
    else
        jw_null(w, "age_s");
    jw_array(w, "networks");
    for (size_t i = 0; i < o->list.n; i++) {
        const struct wifi_network *n = &o->list.networks[i];
        jw_open(w, NULL);
        jw_z(w, "ssid", n->ssid);
        jw_int(w, "rssi", n->rssi);
        jw_z(w, "security", wifi_security_words[n->security]);
        jw_array(w, "bands");
        if (n->ghz2)
            jw_z(w, NULL, "2.4");
        if (n->ghz5)
            jw_z(w, NULL, "5");
        jw_end_array(w);
        jw_close(w);
    }
    jw_end_array(w);
}

/* ---- Requests. Each gets what was asked and an open object to write its members into; its status stands in its row. ---- */

struct call {
    struct onboarding *o;
    struct pl_mono now;
    const struct hub_look *look;
    const struct onboarding_request *q;
    struct pl_arena *a;
    struct jw *w;
    struct pl_fail fail;
};

static enum pl_err on_device(struct call *c)
{
    const struct onboarding_conf *f = &c->o->conf;
    struct pl_str four = f->serial.n > 4 ? (struct pl_str){ f->serial.p + f->serial.n - 4, 4 } : f->serial;
    jw_str(c->w, "name", pl_fmt(c->a, "PORCH-%.*s", PL_FMT(four)));
    jw_z(c->w, "role", f->role);
    jw_z(c->w, "model", f->model);
    jw_z(c->w, "firmware", f->firmware);
    jw_z(c->w, "network", f->wired ? "wired" : "wifi");
    jw_bool(c->w, "busy", session_there(c->o, c->now));
    jw_int(c->w, "closes_in", pl_seconds_up(pl_mono_sub(c->o->until, c->now)));
    return PL_OK;
}

struct open_body { struct pl_str serial, claim_id, challenge, app_key; };
static const struct json_field open_fields[] = {
    JSON_F(struct open_body, serial, J_SERIAL, J_REQUIRED), JSON_F(struct open_body, claim_id, J_STR, J_REQUIRED, .lo = 1, .hi = HUB_ID - 1),
    JSON_F(struct open_body, challenge, J_STR, J_REQUIRED, .lo = 16, .hi = HUB_CHALLENGE - 1), JSON_F(struct open_body, app_key, J_STR, J_REQUIRED, .lo = 43, .hi = 43), J_END
};

/* A name that only who holds the device, or its box, knows in whole. */
static enum pl_err check_serial(struct call *c, struct pl_str serial)
{
    struct onboarding *o = c->o;
    if (pl_mono_cmp(c->now, o->wrong_until) < 0) {
        c->fail.retry_after_s = pl_seconds_up(pl_mono_sub(o->wrong_until, c->now));
        return PL_RATE_LIMITED;
    }
    if (secure_eq(serial.p, serial.n, o->conf.serial.p, o->conf.serial.n)) {
        o->wrong = 0;
        return PL_OK;
    }
    if (++o->wrong >= WRONG_SERIALS) {
        o->wrong = 0;
        o->wrong_until = pl_mono_add(c->now, WRONG_WAIT);
    }
    return PL_SERIAL_MISMATCH;
}

static enum pl_err on_open(struct call *c)
{
    struct onboarding *o = c->o;
    struct open_body b = { 0 };
    struct session s = { .open = true, .began = c->now, .until = pl_mono_add(c->now, ONBOARDING_SESSION) };
    uint8_t signature[64];
    enum pl_err e = json_take(open_fields, JSON_STRICT, c->q->body, c->a, &b, &c->fail);
    if (e == PL_OK && pl_unb64url(b.app_key, s.app_key, sizeof s.app_key) != PL_OK)
        e = pl_fail_field(&c->fail, PL_INVALID_REQUEST, "app_key", "32 bytes of base64url are expected.");
    if (e != PL_OK || (e = check_serial(c, b.serial)) != PL_OK)
        return e;
    if (session_there(o, c->now)) {
        c->fail.retry_after_s = pl_seconds_up(pl_mono_sub(o->session.until, c->now));
        return PL_ONBOARDING_BUSY;
    }
    secure_box_keys_new(&s.keys);
    secure_token_new("plob", s.token);
    struct pl_str device_key = pl_b64url(c->a, s.keys.public_key, sizeof s.keys.public_key);
    if ((e = o->conf.vouch(o->conf.self, &(struct hub_vouch){ b.claim_id, b.challenge, b.app_key, device_key }, signature)) == PL_OK)
        e = o->conf.claim(o->conf.self, b.claim_id, b.challenge);
    if (e == PL_OK) {
        end_session(o);
        o->session = s;
        o->tried = false;
        jw_z(c->w, "token", s.token);
        jw_str(c->w, "device_key", device_key);
        jw_b64(c->w, "signature", signature, sizeof signature);
        jw_int(c->w, "expires_in", ONBOARDING_SESSION / PL_SECOND);
    }
    secure_wipe(&s, sizeof s);
    return e;
}

static enum pl_err on_progress(struct call *c)
{
    write_progress(c->o, c->now, c->look, c->w);
    return PL_OK;
}

static enum pl_err on_leave(struct call *c)
{
    end_session(c->o);
    if (c->look->claim == HUB_CLAIM_BOUND)
        c->o->until = c->now;
    return PL_OK;
}

static enum pl_err on_networks(struct call *c)
{
    write_networks(c->o, c->now, c->w);
    return PL_OK;
}

static enum pl_err on_scan(struct call *c)
{
    struct onboarding *o = c->o;
    int64_t wait = SCAN_EVERY - pl_mono_sub(c->now, o->scan_at);
    if (o->conf.wired)
        return pl_fail(&c->fail, PL_COMMAND_REFUSED, "This device is on a cable.");
    if (wait > 0 || o->scanning || o->joining) {
        c->fail.retry_after_s = wait > 0 ? pl_seconds_up(wait) : 1;
        return PL_RATE_LIMITED;
    }
    enum pl_err e = o->conf.scan(o->conf.self);
    if (e != PL_OK)
        return e;
    o->scanning = true;
    write_networks(o, c->now, c->w);
    return PL_OK;
}

struct join_body { struct pl_str box; };
static const struct json_field join_fields[] = { JSON_F(struct join_body, box, J_B64, J_REQUIRED, .lo = SECURE_BOX_OVERHEAD + 2, .hi = 600), J_END };
struct network_body { struct pl_str ssid, password; };
static const struct json_field boxed_fields[] = {
    JSON_F(struct network_body, ssid, J_STR, J_REQUIRED, .lo = 1, .hi = WIFI_SSID), JSON_F(struct network_body, password, J_STR, J_OPTIONAL, .hi = WIFI_PASSWORD), J_END
};

static enum pl_err on_join(struct call *c)
{
    struct onboarding *o = c->o;
    struct join_body b = { 0 };
    struct network_body n = { 0 };
    struct pl_str plain;
    if (o->conf.wired)
        return pl_fail(&c->fail, PL_COMMAND_REFUSED, "This device is on a cable.");
    if (o->joining || o->scanning || o->session.joins >= JOINS) {
        c->fail.retry_after_s = o->session.joins >= JOINS ? pl_seconds_up(ONBOARDING_SESSION) : 1;
        return PL_RATE_LIMITED;
    }
    enum pl_err e = json_take(join_fields, JSON_STRICT, c->q->body, c->a, &b, &c->fail);
    if (e != PL_OK || (e = secure_box_open(&o->session.keys, o->session.app_key, b.box, c->a, &plain)) != PL_OK ||
        (e = json_take(boxed_fields, JSON_STRICT, plain, c->a, &n, &c->fail)) != PL_OK)
        return e;
    if ((e = o->conf.join(o->conf.self, n.ssid, n.password)) != PL_OK)
        return e == PL_INVALID_REQUEST ? pl_fail_field(&c->fail, e, "box", "A network's name has 1 to 32 bytes, a password 8 to 63.") : e;
    o->session.joins++;
    o->joining = true;
    write_progress(o, c->now, c->look, c->w);
    return PL_OK;
}

static const struct row {
    const char *method, *path;
    bool token;  /**< only the app whose session it is */
    int status;
    enum pl_err (*run)(struct call *c);
} rows[] = {
    { "GET", BASE "device", false, 200, on_device },
    { "POST", BASE "session", false, 201, on_open },
    { "GET", BASE "session", true, 200, on_progress },
    { "DELETE", BASE "session", true, 204, on_leave },
    { "GET", BASE "networks", true, 200, on_networks },
    { "POST", BASE "networks/scan", true, 202, on_scan },
    { "POST", BASE "join", true, 202, on_join },
};

/* A bucket that is as long as the time until it is full. */
static enum pl_err check_rate(struct call *c)
{
    struct onboarding *o = c->o;
    struct pl_mono full = pl_mono_cmp(o->calm, c->now) > 0 ? o->calm : c->now;
    if (pl_mono_sub(full, c->now) > (ASK_AT_ONCE - 1) * ASK_EVERY) {
        c->fail.retry_after_s = 1;
        return PL_RATE_LIMITED;
    }
    o->calm = pl_mono_add(full, ASK_EVERY);
    return PL_OK;
}

/* A page of the web has no business here, wherever its name leads. */
static enum pl_err check_caller(struct call *c)
{
    if (c->q->origin.p)
        return pl_fail(&c->fail, PL_FORBIDDEN, "Not for web pages.");
    if (!pl_str_eq_nocase(c->q->host, c->q->here))
        return pl_fail(&c->fail, PL_FORBIDDEN, "Host must be the address of this device.");
    return PL_OK;
}

static enum pl_err check_token(struct call *c)
{
    struct session *s = &c->o->session;
    struct pl_str t, scheme = pl_str_split(c->q->authorization, ' ', &t);
    if (!session_there(c->o, c->now) || !pl_str_eq_nocase(scheme, PL_STR("Bearer")) || !secure_eq(t.p, t.n, s->token, strlen(s->token)))
        return pl_fail(&c->fail, PL_UNAUTHENTICATED, "This is not the token of the session that is open.");
    s->until = pl_mono_add(c->now, ONBOARDING_SESSION);
    return PL_OK;
}

static enum pl_err check_body(struct call *c)
{
    struct pl_str rest, type = pl_str_trim(pl_str_split(c->q->content_type, ';', &rest));
    if (c->q->body.n > ONBOARDING_BODY)
        return PL_BODY_TOO_LARGE;
    return c->q->body.n && !pl_str_eq_nocase(type, PL_STR("application/json")) ? PL_UNSUPPORTED_TYPE : PL_OK;
}

static enum pl_err find_row(struct call *c, const struct row **ret)
{
    bool path = false;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        path |= pl_str_eqz(c->q->path, rows[i].path);
        if (pl_str_eqz(c->q->path, rows[i].path) && pl_str_eqz(c->q->method, rows[i].method)) {
            *ret = &rows[i];
            return PL_OK;
        }
    }
    return path ? PL_METHOD_NOT_ALLOWED : PL_NOT_FOUND;
}

static void refuse(const struct call *c, enum pl_err e, struct pl_buf *b, struct onboarding_answer *ret)
{
    const struct pl_err_info *info = &pl_err_table[e];
    struct jw w = jw_start(b);
    jw_open(&w, NULL);
    jw_str(&w, "type", pl_fmt(c->a, "urn:porchlight:error:%s", info->code));
    jw_z(&w, "title", info->sentence);
    jw_int(&w, "status", info->status);
    jw_z(&w, "detail", c->fail.detail[0] ? c->fail.detail : info->sentence);
    jw_z(&w, "code", info->code);
    if (c->fail.field[0])
        jw_z(&w, "field", c->fail.field);
    if (c->fail.retry_after_s)
        jw_int(&w, "retry_after", c->fail.retry_after_s);
    jw_close(&w);
    *ret = (struct onboarding_answer){ .status = info->status, .retry_after_s = c->fail.retry_after_s, .body = pl_buf_view(b), .problem = true };
}

void onboarding_ask(struct onboarding *o, struct pl_mono now, const struct hub_look *look, const struct onboarding_request *q, struct pl_arena *a,
                    struct onboarding_answer *ret)
{
    struct pl_buf b = pl_buf_init(a, 32 * 1024), problem = pl_buf_init(a, 4096);
    struct jw w = jw_start(&b);
    struct call c = { o, now, look, q, a, &w, PL_FAIL_INIT };
    const struct row *row = NULL;
    enum pl_err e = check_rate(&c);
    if (e == PL_OK)
        e = check_caller(&c);
    if (e == PL_OK)
        e = find_row(&c, &row);
    if (e == PL_OK && row->token)
        e = check_token(&c);
    if (e == PL_OK)
        e = check_body(&c);
    jw_open(&w, NULL);
    if (e == PL_OK)
        e = row->run(&c);
    jw_close(&w);
    if (e == PL_OK)
        e = pl_buf_err(&b);
    if (e != PL_OK)
        refuse(&c, e, &problem, ret);
    else
        *ret = (struct onboarding_answer){ .status = row->status, .body = row->status == 204 ? PL_STR_NONE : pl_buf_view(&b) };
}

/* ---- What others have done ---- */

void onboarding_wifi(struct onboarding *o, struct pl_mono now, const struct wifi_done *done)
{
    if (!done->tried) {
        o->scanning = false;
        o->scan_at = now;
        if (done->e == PL_OK) {
            o->list = done->list;
            o->scanned = true;
        }
        return;
    }
    o->joining = false;
    o->tried = true;
    o->end = done->end;
    if (done->end == WIFI_JOINED) {
        o->on_network = true;
        o->joined_at = now;
    }
}

void onboarding_cloud(struct onboarding *o, struct pl_mono now, const struct hub_look *look)
{
    struct pl_mono last = pl_mono_add(now, ONBOARDING_LAST_WORDS);
    if (look->claim == HUB_CLAIM_BOUND && pl_mono_cmp(last, o->until) < 0)
        o->until = last;
}

bool onboarding_open(const struct onboarding *o, struct pl_mono now) { return pl_mono_cmp(now, o->until) < 0; }
struct pl_mono onboarding_until(const struct onboarding *o) { return o->until; }

struct onboarding *onboarding_free(struct onboarding *o)
{
    if (!o)
        return NULL;
    secure_wipe(o, sizeof *o);
    return pl_heap_free(o);
}
