/* porchlight.hub.v1: what hubs and hubless cameras say of themselves. */
#include "device_priv.h"
#include <stdio.h>

#define HEARTBEAT_S 10
#define RECONNECT_MIN_S 1
#define RECONNECT_MAX_S 5

/* ---- Opening ---- */

void device_link_opened(void *self, struct link_conn *conn)
{
    struct device_ctx *ctx = self;
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(8192);
    struct device_conn *d = device_conn_new(ctx);
    uint8_t raw[32];
    if (!a || !d) {
        pl_heap_free(d);
        link_close(conn, PL_NO_MEMORY);
        return;
    }
    link_set_owner(conn, d, device_conn_done);
    pl_rand_fill(ctx->rand, raw, sizeof raw);
    snprintf(d->nonce, sizeof d->nonce, "%.*s", PL_FMT(pl_b64url(a, raw, sizeof raw)));
    struct pl_buf b = pl_buf_init(a, 2048);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_z(&w, "type", "challenge");
    jw_z(&w, "nonce", d->nonce);
    jw_z(&w, "server_name", ctx->server_name);
    jw_close(&w);
    if (pl_buf_err(&b) != PL_OK || link_send(conn, pl_buf_view(&b)) != PL_OK)
        link_close(conn, PL_UNAVAILABLE);
}

/* ---- hello ---- */

static const char *const roles[] = { "hub", "camera", NULL };
static const char *const reasons[] = { "power", "reboot", "update", "crash", "factory_reset", NULL };
struct boot_msg {
    struct pl_uuid id;
    int reason;
    int64_t reset_count;
};
static const struct json_field boot_fields[] = {
    JSON_F(struct boot_msg, id, J_UUID, J_REQUIRED),
    JSON_F(struct boot_msg, reason, J_ENUM, J_REQUIRED, .words = reasons),
    JSON_F(struct boot_msg, reset_count, J_INT, J_REQUIRED, .lo = 0, .hi = INT32_MAX),
    J_END,
};
struct camera_msg {
    struct pl_str serial, firmware, video, audio, talk;
    struct json_list can; /* .items NULL: not said, so all */
    bool online, busy;
    int64_t battery, wifi_rssi;
    bool has_battery, has_wifi_rssi;
};
static const struct json_field hello_camera_fields[] = {
    JSON_F(struct camera_msg, serial, J_SERIAL, J_REQUIRED),
    JSON_F(struct camera_msg, firmware, J_STR, J_OPTIONAL, .hi = 64),
    JSON_F(struct camera_msg, video, J_STR, J_OPTIONAL, .hi = 32),
    JSON_F(struct camera_msg, audio, J_STR, J_OPTIONAL, .hi = 32),
    JSON_F(struct camera_msg, talk, J_STR, J_OPTIONAL, .hi = 32),
    JSON_F(struct camera_msg, can, J_STRS, J_OPTIONAL, .hi = 16),
    J_END,
};
struct hello_msg {
    int role;
    struct pl_str serial, firmware, model, signature;
    struct boot_msg boot;
    struct json_list suites, cameras;
};
static const struct json_field hello_fields[] = {
    JSON_F(struct hello_msg, role, J_ENUM, J_REQUIRED, .words = roles),
    JSON_F(struct hello_msg, serial, J_SERIAL, J_REQUIRED),
    JSON_F(struct hello_msg, firmware, J_STR, J_REQUIRED, .lo = 1, .hi = 64),
    JSON_F(struct hello_msg, model, J_STR, J_OPTIONAL, .hi = 64),
    JSON_F(struct hello_msg, boot, J_OBJECT, J_REQUIRED, .fields = boot_fields),
    JSON_F(struct hello_msg, suites, J_STRS, J_OPTIONAL, .hi = 16),
    JSON_F(struct hello_msg, cameras, J_ARRAY, J_OPTIONAL, .fields = hello_camera_fields, .size = sizeof(struct camera_msg), .hi = 32),
    JSON_F(struct hello_msg, signature, J_B64, J_REQUIRED, .lo = 64, .hi = 64),
    J_END,
};

/* S-D11: the factory key's signature over this connection's nonce, for this server. Why it fails is not told: an unknown serial is like a wrong key. */
static enum pl_err prove(struct link_call *c, const struct device_conn *d, const struct hello_msg *m)
{
    struct device_sql_inventory_find_row made;
    struct pl_str text;
    bool found;
    enum pl_err e = device_sql_inventory_find(c->tx, m->serial, &made, &found);
    if (e != PL_OK || (e = secure_hello_text(c->arena, roles[m->role], m->serial, pl_str_of(d->nonce), pl_str_of(d->ctx->server_name), &text)) != PL_OK)
        return e;
    if (!found || made.public_key.n != 32 || secure_verify((const uint8_t *)made.public_key.p, text, (const uint8_t *)m->signature.p) != PL_OK)
        return PL_UNAUTHENTICATED;
    /* A hub is a hub; minis and doorbells may stand alone; a wireless camera has no way here. */
    bool right = m->role == 0 ? pl_str_eqz(made.kind, "hub") : pl_str_eqz(made.kind, "mini") || pl_str_eqz(made.kind, "doorbell");
    return right ? PL_OK : PL_WRONG_KIND;
}

static unsigned suites_of(const struct json_list *list)
{
    static const char *const names[] = { "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80", "DTLS-SRTP" };
    const struct pl_str *items = list->items;
    unsigned bits = 0;
    for (size_t i = 0; i < list->n; i++)
        for (unsigned s = 0; s < PL_COUNT(names); s++)
            if (pl_str_eqz(items[i], names[s]))
                bits |= 1u << s;
    return bits;
}

/* S-D6: a reset count that has risen is a factory reset; a power cycle or soft reset is not. It moves onboarding and nothing else. */
static enum pl_err note_reset(struct link_call *c, const struct hello_msg *m, const struct device_sql_bound_row *b, const struct device_sql_link_before_row *before, bool known)
{
    enum pl_err e;
    if (!known || m->boot.reset_count <= before->reset_count || pl_str_eqz(b->onboarding, "reset_detected"))
        return PL_OK;
    if ((e = device_sql_set_reset(c->tx, b->account_id, b->id, NULL)) != PL_OK ||
        (e = device_event(c->tx, c->now, b->system_id, "device.onboarding", b->id, "onboarding", PL_STR("reset_detected"), NULL, PL_STR_NONE)) != PL_OK)
        return e;
    return device_audit(c->tx, c->now, b->id, (struct pl_uuid){ { 0 } }, "device.reset_detected", m->serial, /* why= */ NULL);
}

bool device_can(const struct json_list *can, const char *what)
{
    const struct pl_str *items = can->items;
    for (size_t i = 0; i < can->n; i++)
        if (pl_str_eqz(items[i], what))
            return true;
    return !items;
}

static struct pl_str cameras_json(struct link_call *c, const struct json_list *list, bool status)
{
    struct pl_buf b = pl_buf_init(c->arena, 32 * 1024);
    struct jw w = jw_start(&b);
    const struct camera_msg *m = list->items;
    jw_array(&w, NULL);
    for (size_t i = 0; i < list->n; i++) {
        jw_open(&w, NULL);
        jw_str(&w, "serial", m[i].serial);
        jw_str(&w, "firmware", m[i].firmware);
        if (status) {
            jw_bool(&w, "online", m[i].online);
            jw_bool(&w, "busy", m[i].busy);
            if (m[i].has_battery)
                jw_int(&w, "battery", m[i].battery);
            if (m[i].has_wifi_rssi)
                jw_int(&w, "wifi_rssi", m[i].wifi_rssi);
        } else {
            jw_str(&w, "video", m[i].video);
            jw_str(&w, "audio", m[i].audio);
            jw_str(&w, "talk", m[i].talk);
            jw_bool(&w, "can_keyframe", device_can(&m[i].can, "keyframe"));
            jw_bool(&w, "can_bitrate", device_can(&m[i].can, "bitrate"));
        }
        jw_close(&w);
    }
    jw_end_array(&w);
    return pl_buf_err(&b) == PL_OK ? pl_buf_view(&b) : PL_STR_NONE;
}

/* Cameras that a hub names and that are not its system's: it should forget them. */
static enum pl_err unbind_strangers(struct link_call *c, const struct device_sql_bound_row *b, struct pl_str cameras)
{
    struct device_sql_strangers_row *rows;
    size_t n;
    struct jw w;
    enum pl_err e = device_sql_strangers(c->tx, b->account_id, b->system_id, cameras, c->now, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        if (!device_say(c, "unbound", &w))
            return PL_NO_MEMORY;
        jw_str(&w, "serial", rows[i].serial);
        jw_close(&w);
    }
    return e;
}

/* What a hello means for a device that is bound. */
static enum pl_err greet_bound(struct link_call *c, const struct hello_msg *m, const struct device_sql_bound_row *b, const struct device_sql_link_before_row *before, bool known)
{
    enum pl_err e = note_reset(c, m, b, before, known);
    if (e != PL_OK || (e = device_connected(c, b, "online", PL_STR_NONE)) != PL_OK)
        return e;
    if (m->role == 1 && b->via_hub)
        e = device_sql_set_direct(c->tx, b->account_id, b->id, NULL);
    if (e != PL_OK || m->cameras.n == 0)
        return e;
    struct pl_str cameras = cameras_json(c, &m->cameras, false);
    if (!cameras.p)
        return PL_NO_MEMORY;
    return device_sql_codecs(c->tx, b->account_id, b->system_id, cameras, NULL);
}

/* The app sees that the device which it adds has reached the cloud. */
static enum pl_err tell_claims(struct link_call *c, struct pl_str serial)
{
    struct device_sql_claims_of_serial_row *rows;
    size_t n;
    enum pl_err e = device_sql_claims_of_serial(c->tx, serial, c->now, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = device_claim_state(c->tx, c->now, rows[i].system_id, rows[i].id, "connected", PL_STR_NONE);
    return e;
}

/* After the hello's commit, before the welcome: older connections look, see that they are fenced, and close. */
static void fence_older(void *arg)
{
    struct device_conn *d = link_owner(arg);
    device_nudge_hub(d->ctx->bus, device_conn_serial(d));
}
/* After the welcome and what belongs to it: the bus leads here now, and what waits is handed over. */
static void serve(void *arg)
{
    if (device_conn_serve(arg) != PL_OK)
        link_close(arg, PL_UNAVAILABLE);
    else
        device_conn_deliver(arg);
}

static enum pl_err welcome(struct link_call *c, const struct device_conn *d, bool bound)
{
    struct jw w;
    link_after(c, fence_older, c->conn);
    if (!device_say(c, "welcome", &w))
        return PL_NO_MEMORY;
    jw_str(&w, "session", pl_fmt(c->arena, "%s/%lld", d->serial, (long long)d->epoch));
    jw_utc(&w, "server_time", c->now);
    jw_int(&w, "heartbeat_s", HEARTBEAT_S);
    jw_open(&w, "reconnect");
    jw_int(&w, "min_s", RECONNECT_MIN_S);
    jw_int(&w, "max_s", RECONNECT_MAX_S);
    jw_close(&w);
    jw_z(&w, "binding", bound ? "bound" : "free");
    jw_int(&w, "desired_settings_version", 0);
    jw_close(&w);
    return PL_OK;
}

static enum pl_err on_hello(struct link_call *c, struct pl_fail *reterr)
{
    const struct hello_msg *m = c->msg;
    struct device_ctx *ctx = c->self;
    struct device_conn *d = link_owner(c->conn);
    struct device_sql_link_before_row before;
    struct device_sql_link_hello_row taken;
    struct device_sql_bound_row b;
    bool known, bound;
    (void)reterr;
    enum pl_err e = prove(c, d, m);
    if (e != PL_OK || (e = device_sql_link_before(c->tx, m->serial, c->now, &before, &known)) != PL_OK)
        return e;
    unsigned suites = suites_of(&m->suites);
    e = device_sql_link_hello(c->tx, m->serial, ctx->node_id, pl_str_of(roles[m->role]), m->firmware, m->boot.id, pl_str_of(reasons[m->boot.reason]), m->boot.reset_count,
                              (int32_t)suites, c->now, &taken, NULL);
    if (e != PL_OK || (e = device_sql_commands_again(c->tx, m->serial, NULL)) != PL_OK || (e = device_sql_bound(c->tx, m->serial, &b, &bound)) != PL_OK)
        return e;
    snprintf(d->serial, sizeof d->serial, "%.*s", PL_FMT(m->serial));
    d->epoch = taken.epoch;
    d->suites = suites;
    d->is_hub = m->role == 0;
    d->device_id = bound ? b.id : (struct pl_uuid){ { 0 } };
    if (bound && (e = greet_bound(c, m, &b, &before, known)) != PL_OK)
        return e;
    if ((e = tell_claims(c, m->serial)) != PL_OK || (e = welcome(c, d, bound)) != PL_OK)
        return e;
    if (bound && d->is_hub && m->cameras.n && (e = unbind_strangers(c, &b, cameras_json(c, &m->cameras, false))) != PL_OK)
        return e;
    link_phase(c->conn, LINK_READY);
    if (ctx->welcomed && (e = ctx->welcomed(ctx->welcomed_self, c, d)) != PL_OK)
        return e;
    link_after(c, serve, c->conn); /* last: nothing that others send may overtake what is said of the state before it */
    return PL_OK;
}

/* ---- Claims ---- */

struct claim_msg {
    struct pl_uuid claim_id;
    struct pl_str challenge, camera, signature;
    struct json_list can;
};
static const struct json_field claim_fields[] = {
    JSON_F(struct claim_msg, claim_id, J_UUID, J_REQUIRED),
    JSON_F(struct claim_msg, challenge, J_STR, J_REQUIRED, .lo = 1, .hi = 128),
    JSON_F(struct claim_msg, signature, J_B64, J_REQUIRED, .lo = 64, .hi = 64),
    JSON_F(struct claim_msg, can, J_STRS, J_OPTIONAL, .hi = 16),
    J_END,
};
static const struct json_field paired_fields[] = {
    JSON_F(struct claim_msg, claim_id, J_UUID, J_REQUIRED),
    JSON_F(struct claim_msg, camera, J_SERIAL, J_REQUIRED),
    JSON_F(struct claim_msg, signature, J_B64, J_REQUIRED, .lo = 64, .hi = 64),
    JSON_F(struct claim_msg, can, J_STRS, J_OPTIONAL, .hi = 16),
    J_END,
};

static enum pl_err prove_claim(struct link_call *c, struct pl_fail *reterr)
{
    const struct claim_msg *m = c->msg;
    struct device_conn *d = link_owner(c->conn);
    struct device_proof p = { .claim_id = m->claim_id, .by = device_conn_serial(d), .serial = m->camera.p ? m->camera : device_conn_serial(d), .challenge = m->challenge,
                              .signature = m->signature };
    struct device_bound bound;
    struct jw w;
    enum pl_err e = device_fence(c);
    if (e != PL_OK || (e = device_claim_prove(d->ctx, c->tx, c->now, &p, &bound, &c->keep_on_error, reterr)) != PL_OK)
        return e;
    /* In the transaction that binds it: whoever watches it now must know what it heeds. Later hellos say it again. */
    if ((e = device_sql_can(c->tx, bound.account_id, bound.device_id, device_can(&m->can, "keyframe"), device_can(&m->can, "bitrate"), NULL)) != PL_OK)
        return e;
    if (!m->camera.p && (e = device_told(c, d, bound.device_id)) != PL_OK)
        return e;
    if (!device_say(c, "bound", &w))
        return PL_NO_MEMORY;
    jw_str(&w, "re", c->id);
    jw_uuid(&w, "claim_id", m->claim_id);
    jw_uuid(&w, "device_id", bound.device_id);
    jw_uuid(&w, "system_id", bound.system_id);
    if (m->camera.p)
        jw_str(&w, "serial", m->camera);
    jw_close(&w);
    return PL_OK;
}

/* ---- status ---- */

static const struct json_field status_camera_fields[] = {
    JSON_F(struct camera_msg, serial, J_SERIAL, J_REQUIRED),
    JSON_F(struct camera_msg, online, J_BOOL, J_REQUIRED),
    JSON_F(struct camera_msg, busy, J_BOOL, J_OPTIONAL),
    JSON_OPT(struct camera_msg, battery, J_INT, .lo = 0, .hi = 100),
    JSON_OPT(struct camera_msg, wifi_rssi, J_INT, .lo = -128, .hi = 0),
    JSON_F(struct camera_msg, firmware, J_STR, J_OPTIONAL, .hi = 64),
    J_END,
};
struct status_msg {
    int64_t wifi_rssi, battery;
    bool has_battery;
    struct json_list cameras;
};
static const struct json_field status_fields[] = {
    JSON_F(struct status_msg, wifi_rssi, J_INT, J_OPTIONAL, .lo = -128, .hi = 0),
    JSON_OPT(struct status_msg, battery, J_INT, .lo = 0, .hi = 100),
    JSON_F(struct status_msg, cameras, J_ARRAY, J_OPTIONAL, .fields = status_camera_fields, .size = sizeof(struct camera_msg), .hi = 32),
    J_END,
};

static enum pl_err camera_status(struct link_call *c, const struct device_sql_bound_row *b, const struct json_list *list)
{
    struct device_sql_status_changes_row *changed;
    struct pl_str cameras = cameras_json(c, list, true);
    size_t n;
    if (!cameras.p)
        return PL_NO_MEMORY;
    enum pl_err e = device_sql_status_changes(c->tx, b->account_id, b->system_id, cameras, &changed, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = device_connected(c, &(struct device_sql_bound_row){ .account_id = b->account_id, .system_id = b->system_id, .id = changed[i].id }, changed[i].online ? "online" : "offline",
                         changed[i].online ? PL_STR_NONE : PL_STR("camera_silent"));
    return e == PL_OK ? device_sql_status_cameras(c->tx, b->account_id, b->system_id, cameras, c->now, NULL) : e;
}

static enum pl_err on_status(struct link_call *c, struct pl_fail *reterr)
{
    const struct status_msg *m = c->msg;
    struct device_conn *d = link_owner(c->conn);
    struct device_sql_bound_row b;
    bool bound;
    (void)reterr;
    enum pl_err e = device_fence(c);
    if (e != PL_OK || (e = device_sql_bound(c->tx, device_conn_serial(d), &b, &bound)) != PL_OK || !bound)
        return e; /* nobody's device: nobody's status */
    if ((e = device_sql_status_own(c->tx, b.account_id, b.id, (int32_t)m->wifi_rssi, m->has_battery ? (int32_t)m->battery : -1, PL_STR_NONE, c->now, NULL)) != PL_OK)
        return e;
    return d->is_hub && m->cameras.n ? camera_status(c, &b, &m->cameras) : PL_OK;
}

/* ---- ack, result ---- */

struct ack_msg {
    struct pl_str re;
};
static const struct json_field ack_fields[] = { JSON_F(struct ack_msg, re, J_STR, J_REQUIRED, .hi = 128), J_END };

/* Of a command, of a pair, or of another part's message: that has no row here and is nobody's concern. */
static enum pl_err on_ack(struct link_call *c, struct pl_fail *reterr)
{
    const struct ack_msg *m = c->msg;
    struct device_conn *d = link_owner(c->conn);
    struct device_sql_command_acknowledged_row r;
    struct device_sql_claim_take_row claim;
    struct device_sql_bound_row b;
    struct pl_uuid id;
    bool found, bound;
    (void)reterr;
    enum pl_err e = device_fence(c);
    if (e != PL_OK || pl_uuid_parse(m->re, &id) != PL_OK)
        return e;
    if ((e = device_sql_command_acknowledged(c->tx, device_conn_serial(d), id, c->now, &r, &found)) != PL_OK)
        return e;
    if (found)
        return device_command_event(c->tx, c->now, r.device_id, id, "acknowledged", PL_STR_NONE);
    if ((e = device_sql_bound(c->tx, device_conn_serial(d), &b, &bound)) != PL_OK || !bound || (e = device_sql_claim_take(c->tx, id, &claim, &found)) != PL_OK || !found)
        return e;
    if (!pl_uuid_eq(claim.account_id, b.account_id) || !pl_uuid_eq(claim.system_id, b.system_id) || claim.ended_at.us)
        return PL_OK;
    return device_claim_state(c->tx, c->now, b.system_id, id, "pairing", PL_STR_NONE);
}

struct result_msg {
    struct pl_uuid command_id;
    bool ok;
    struct pl_str code;
};
static const struct json_field result_fields[] = {
    JSON_F(struct result_msg, command_id, J_UUID, J_REQUIRED),
    JSON_F(struct result_msg, ok, J_BOOL, J_REQUIRED),
    JSON_F(struct result_msg, code, J_STR, J_OPTIONAL, .hi = 64),
    J_END,
};

static enum pl_err on_result(struct link_call *c, struct pl_fail *reterr)
{
    const struct result_msg *m = c->msg;
    struct device_conn *d = link_owner(c->conn);
    struct device_sql_command_ended_row r;
    const char *stage = m->ok ? "done" : "failed";
    struct pl_str code = m->ok ? PL_STR_NONE : m->code.p ? m->code : PL_STR("command_refused");
    bool found;
    (void)reterr;
    enum pl_err e = device_fence(c);
    if (e != PL_OK || (e = device_sql_command_ended(c->tx, device_conn_serial(d), m->command_id, pl_str_of(stage), code, c->now, &r, &found)) != PL_OK || !found)
        return e;
    return device_command_event(c->tx, c->now, r.device_id, m->command_id, stage, code);
}

/* ---- Closing ---- */

/* What an app is told. A restart of the cloud is no fault of the home's, and no alert. */
static const char *close_cause(const struct link_conn *conn)
{
    const char *why = link_ended(conn);
    return strcmp(why, "by_peer") == 0 ? "closed_by_device" : strcmp(why, "lost") == 0 ? "connection_lost" : why[0] ? why : "closed_by_cloud";
}

void device_link_closed(void *self, struct link_conn *conn, struct link_call *c)
{
    struct device_ctx *ctx = self;
    struct device_conn *d = link_owner(conn);
    struct device_sql_bound_row b;
    int64_t gone;
    bool bound;
    if (!d)
        return;
    device_conn_unserve(d);
    if (d->epoch == 0)
        return; /* it never proved itself */
    const char *cause = close_cause(conn);
    if (strcmp(cause, "cloud_restart") == 0)
        return; /* this node ends, and its lease with it: that says so for whoever has not come to another node by then, and raises no alarm over who has */
    enum pl_err e = device_sql_link_gone(c->tx, device_conn_serial(d), d->epoch, pl_str_of(cause), c->now, &gone);
    if (e == PL_OK && gone && (e = device_sql_bound(c->tx, device_conn_serial(d), &b, &bound)) == PL_OK && bound)
        e = device_connected(c, &b, "offline", pl_str_of(cause));
    if (e != PL_OK)
        PL_LOG(ctx->log, PL_WARN, "device.close-unwritten", PL_F_STR("serial", device_conn_serial(d)), PL_F_ERR(e)); /* the node's lease or the next hello puts it right */
}

const struct link_message device_messages[] = {
    { "hello", LINK_NEW, hello_fields, sizeof(struct hello_msg), on_hello },
    { "claim", LINK_READY, claim_fields, sizeof(struct claim_msg), prove_claim, .soft = true },
    { "paired", LINK_READY, paired_fields, sizeof(struct claim_msg), prove_claim, .soft = true },
    { "status", LINK_READY, status_fields, sizeof(struct status_msg), on_status },
    { "ack", LINK_READY, ack_fields, sizeof(struct ack_msg), on_ack },
    { "result", LINK_READY, result_fields, sizeof(struct result_msg), on_result },
    LINK_END,
};
