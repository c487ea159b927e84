#include "device_priv.h"

static struct device_tell *tell_new(struct http_call *c)
{
    struct device_tell *t = PL_NEW(c->arena, struct device_tell);
    if (t)
        *t = (struct device_tell){ .ctx = c->self, .arena = c->arena };
    return t;
}

static enum pl_err on_home(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    return device_write_home(c->tx, &c->out, c->now, &c->actor);
}

/* ---- Adding ---- */

struct add_body {
    struct pl_str serial, setup_code, name;
};
static const struct json_field add_fields[] = {
    JSON_F(struct add_body, serial, J_SERIAL, J_REQUIRED),
    JSON_F(struct add_body, setup_code, J_STR, J_OPTIONAL, .lo = 1, .hi = 64),
    JSON_F(struct add_body, name, J_STR, J_OPTIONAL, .lo = 1, .hi = 64),
    J_END,
};

static enum pl_err add(struct http_call *c, bool hub, struct pl_fail *reterr)
{
    const struct add_body *b = c->body;
    struct device_claim_ask ask = { .who = &c->actor, .serial = b->serial, .setup_code = b->setup_code, .name = b->name, .hub = hub };
    struct device_tell *t = tell_new(c);
    struct device_claim_started started = { 0 };
    bool count_it = false;
    char text[PL_UUID_TEXT];
    enum pl_err e = t ? http_param_uuid(c, "id", &ask.system_id) : PL_NO_MEMORY;
    if (e != PL_OK)
        return e;
    t->mail = true;
    http_after(c, device_tell, t);
    e = device_claim_start(c->self, c->tx, c->now, &ask, &started, &count_it, reterr);
    c->keep_on_error = count_it; /* S-D5: a failure that counts is committed */
    if (e != PL_OK)
        return e;
    t->nudge = started.hub;
    pl_uuid_text(started.id, text);
    http_reply_header(c, "Location", pl_fmt(c->arena, "/v1/claims/%s", text));
    c->status = 202;
    jw_open(&c->out, "claim");
    e = device_claim_write(c->tx, &c->out, c->now, started.home_id, started.id);
    jw_close(&c->out);
    return e;
}

static enum pl_err on_add_hub(struct http_call *c, struct pl_fail *reterr) { return add(c, true, reterr); }
static enum pl_err on_add_camera(struct http_call *c, struct pl_fail *reterr) { return add(c, false, reterr); }

static enum pl_err on_cameras(struct http_call *c, struct pl_fail *reterr)
{
    struct device_sql_views_row *rows;
    struct system_row system;
    struct pl_uuid id;
    size_t n;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e != PL_OK || (e = system_may(c->tx, c->now, &c->actor, id, SYSTEM_SEE, &system, reterr)) != PL_OK ||
        (e = device_sql_views(c->tx, system.home_id, id, (struct pl_uuid){ { 0 } }, &rows, &n)) != PL_OK)
        return e;
    jw_array(&c->out, "cameras");
    for (size_t i = 0; i < n; i++)
        if (!pl_str_eqz(rows[i].kind, "hub")) {
            jw_open(&c->out, NULL);
            device_write(&c->out, &rows[i], c->now);
            jw_close(&c->out);
        }
    jw_end_array(&c->out);
    return PL_OK;
}

/* ---- Claims ---- */

/* The claim of the path, for who may add devices to its system. */
static enum pl_err find_claim(struct http_call *c, struct pl_uuid *ret_home, struct device_sql_claim_find_row *ret, struct pl_fail *reterr)
{
    struct device_sql_claim_of_row of;
    struct system_row system;
    struct pl_uuid id;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e != PL_OK || (e = device_sql_claim_of(c->tx, id, &of, NULL)) != PL_OK ||
        (e = system_may(c->tx, c->now, &c->actor, of.system_id, SYSTEM_MANAGE, &system, reterr)) != PL_OK)
        return e;
    *ret_home = system.home_id;
    return device_sql_claim_find(c->tx, id, system.home_id, ret, NULL);
}

static enum pl_err on_claim(struct http_call *c, struct pl_fail *reterr)
{
    struct device_sql_claim_find_row r;
    struct pl_uuid home_id;
    enum pl_err e = find_claim(c, &home_id, &r, reterr);
    if (e == PL_OK)
        device_claim_members(&c->out, &r, c->now);
    return e;
}

static enum pl_err on_claim_cancel(struct http_call *c, struct pl_fail *reterr)
{
    struct device_sql_claim_find_row r;
    struct pl_uuid home_id;
    enum pl_err e = find_claim(c, &home_id, &r, reterr);
    if (e != PL_OK || r.ended_at.us)
        return e; /* ended already: nothing to give up */
    return device_claim_end(c->tx, c->now, home_id, r.system_id, r.id, "refused", "cancelled");
}

static const char *const steps[] = { "pairing", "wifi_joined", "wifi_failed", NULL };
static const char *const step_states[] = { "pairing", "pairing", "wifi_failed" };
static const char *const wifi_errors[] = { "wrong_password", "not_found", "not_2_4ghz", "no_dhcp", "no_internet", NULL };
enum { WIFI_FAILED = 2 };
struct progress_body {
    int step, wifi_error;
    bool has_wifi_error;
};
static const struct json_field progress_fields[] = {
    JSON_F(struct progress_body, step, J_ENUM, J_REQUIRED, .words = steps),
    JSON_OPT(struct progress_body, wifi_error, J_ENUM, .words = wifi_errors),
    J_END,
};

/* A device with the wrong Wi-Fi password cannot reach the cloud, so the app says where it stands. */
static enum pl_err on_progress(struct http_call *c, struct pl_fail *reterr)
{
    const struct progress_body *b = c->body;
    struct device_sql_claim_find_row r;
    struct pl_uuid home_id;
    enum pl_err e = find_claim(c, &home_id, &r, reterr);
    if (e != PL_OK)
        return e;
    if ((b->step == WIFI_FAILED) != b->has_wifi_error)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "wifi_error", "wifi_error belongs to the step wifi_failed, and only to it.");
    if (r.ended_at.us)
        return pl_str_eqz(r.state, "expired") ? PL_CLAIM_EXPIRED : PL_CLAIM_REFUSED;
    if (pl_utc_cmp(c->now, r.expires_at) >= 0)
        return PL_CLAIM_EXPIRED;
    struct pl_str why = b->has_wifi_error ? pl_str_of(wifi_errors[b->wifi_error]) : PL_STR_NONE;
    if ((e = device_claim_state(c->tx, c->now, r.system_id, r.id, step_states[b->step], why)) != PL_OK)
        return e;
    return device_claim_write(c->tx, &c->out, c->now, home_id, r.id);
}

/* ---- Devices ---- */

static enum pl_err find(struct http_call *c, enum system_right right, struct system_row *ret_system, struct device_sql_views_row **ret, struct pl_fail *reterr)
{
    struct pl_uuid id;
    enum pl_err e = http_param_uuid(c, "id", &id);
    return e == PL_OK ? device_may(c->tx, c->now, &c->actor, id, right, ret_system, ret, reterr) : e;
}

static enum pl_err on_device(struct http_call *c, struct pl_fail *reterr)
{
    struct device_sql_views_row *d;
    struct system_row system;
    enum pl_err e = find(c, SYSTEM_SEE, &system, &d, reterr);
    if (e != PL_OK)
        return e;
    http_etag(c, http_tag(c->arena, d->name));
    device_write(&c->out, d, c->now);
    return PL_OK;
}

struct name_body {
    struct pl_str name;
};
static const struct json_field name_fields[] = { JSON_F(struct name_body, name, J_STR, J_REQUIRED, .lo = 1, .hi = 64), J_END };

static enum pl_err on_rename(struct http_call *c, struct pl_fail *reterr)
{
    const struct name_body *b = c->body;
    struct pl_str name = pl_str_trim(b->name);
    struct device_sql_views_row *d;
    if (name.n == 0)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "name", "name: some letters are expected");
    struct system_row system;
    enum pl_err e = find(c, SYSTEM_MANAGE, &system, &d, reterr);
    /* Read again behind the lock: another who renames it came first or waits. */
    if (e != PL_OK || (e = system_lock(c->tx, system.home_id, d->system_id, &system)) != PL_OK || (e = find(c, SYSTEM_MANAGE, &system, &d, reterr)) != PL_OK ||
        (e = http_if_match(c, http_tag(c->arena, d->name), reterr)) != PL_OK || (e = device_sql_rename(c->tx, system.home_id, d->id, name, NULL)) != PL_OK ||
        (e = device_event(c->tx, c->now, d->system_id, "device.renamed", d->id, "name", name, NULL, PL_STR_NONE)) != PL_OK)
        return e;
    d->name = name;
    http_etag(c, http_tag(c->arena, name));
    device_write(&c->out, d, c->now);
    return PL_OK;
}

/* ---- Deleting ---- */

static enum pl_err on_delete(struct http_call *c, struct pl_fail *reterr)
{
    struct device_tell *t = tell_new(c);
    struct device_sql_views_row *d;
    struct system_row system;
    enum pl_err e = t ? find(c, SYSTEM_OWN, &system, &d, reterr) : PL_NO_MEMORY;
    if (e != PL_OK)
        return e;
    if (pl_str_eqz(d->kind, "hub"))
        return pl_fail(reterr, PL_WRONG_KIND, "A hub is deleted by POST /v1/systems/{id}/hub/delete, with its serial number and a step-up.");
    if ((e = system_take(c->tx, c->now, &c->actor, d->system_id, SYSTEM_OWN, &system, reterr)) != PL_OK ||
        (e = device_free(c->self, c->tx, c->now, system.home_id, c->actor.client_id, d, "deleted", &t->freed)) != PL_OK)
        return e;
    http_after(c, device_tell, t);
    return PL_OK;
}

struct serial_body {
    struct pl_str serial;
};
static const struct json_field serial_fields[] = { JSON_F(struct serial_body, serial, J_SERIAL, J_REQUIRED), J_END };

/* S-D7: the serial again, compared in constant time, and a step-up (the engine spent its grant). The system and its cameras stay. */
static enum pl_err on_delete_hub(struct http_call *c, struct pl_fail *reterr)
{
    const struct serial_body *b = c->body;
    struct device_ctx *ctx = c->self;
    struct device_tell *t = tell_new(c);
    struct device_sql_hub_of_row hub;
    struct device_sql_views_row *d;
    struct system_row system;
    struct pl_uuid id;
    enum pl_err e = t ? http_param_uuid(c, "id", &id) : PL_NO_MEMORY;
    if (e != PL_OK || (e = system_take(c->tx, c->now, &c->actor, id, SYSTEM_OWN, &system, reterr)) != PL_OK ||
        (e = device_sql_hub_of(c->tx, system.home_id, id, &hub, NULL)) != PL_OK)
        return e;
    if (!secure_eq(b->serial.p, b->serial.n, hub.serial.p, hub.serial.n))
        return PL_SERIAL_MISMATCH;
    if ((e = device_view_one(c->tx, system.home_id, hub.id, &d)) != PL_OK ||
        (e = device_free(ctx, c->tx, c->now, system.home_id, c->actor.client_id, d, "deleted", &t->freed)) != PL_OK ||
        (e = system_tell_owners(ctx->account, c->tx, c->now, id, NOTIFY_HUB_DELETED, system.name)) != PL_OK)
        return e;
    t->mail = true;
    http_after(c, device_tell, t);
    return PL_OK;
}

/* Deleting a system deletes its devices, so it asks first: ?confirm=<its name>. With a hub in it, it is a hub's deletion too and needs that step-up. */
static enum pl_err on_delete_system(struct http_call *c, struct pl_fail *reterr)
{
    struct device_ctx *ctx = c->self;
    struct device_tell *t = tell_new(c);
    struct device_sql_hub_of_row hub;
    struct system_row system;
    struct pl_uuid id;
    bool has_hub;
    enum pl_err e = t ? http_param_uuid(c, "id", &id) : PL_NO_MEMORY;
    if (e != PL_OK || (e = system_take(c->tx, c->now, &c->actor, id, SYSTEM_OWN, &system, reterr)) != PL_OK)
        return e;
    if (!pl_str_eq(http_query(c, "confirm"), system.name))
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "confirm", "This deletes the system and frees its devices: say so with ?confirm= and its name.");
    if ((e = device_sql_hub_of(c->tx, system.home_id, id, &hub, &has_hub)) != PL_OK)
        return e;
    struct http_hooks hooks = account_hooks(ctx->account);
    if (has_hub && ((e = hooks.spend_grant(hooks.self, c->tx, c->now, &c->actor, "delete_hub", http_header(c, "Step-Up-Grant"))) != PL_OK ||
                    (e = system_tell_owners(ctx->account, c->tx, c->now, id, NOTIFY_HUB_DELETED, system.name)) != PL_OK))
        return e;
    t->mail = true;
    if ((e = system_tell_deleted(ctx->account, c->tx, c->now, &system, c->actor.account_id)) != PL_OK ||
        (e = device_free_system(ctx, c->tx, c->now, system.home_id, c->actor.client_id, id, "system_deleted", &t->freed)) != PL_OK)
        return e;
    http_after(c, device_tell, t);
    return PL_OK;
}

const struct http_route device_routes[] = {
    { HTTP_GET, "/v1/home", HTTP_USER, on_home, "Everything that the home screen shows", .scope = "systems:read devices:read" },
    { HTTP_DELETE, "/v1/systems/{id}", HTTP_SESSION, on_delete_system, "Delete a system and free its devices" },
    { HTTP_POST, "/v1/systems/{id}/hub", HTTP_SESSION, on_add_hub, "Add a hub to a system", HTTP_BODY(struct add_body, add_fields), .idempotent = true, .rate = HTTP_RATE_CLAIM },
    { HTTP_POST, "/v1/systems/{id}/hub/delete", HTTP_SESSION, on_delete_hub, "Delete the hub of a system", HTTP_BODY(struct serial_body, serial_fields), .step_up = "delete_hub", .idempotent = true },
    { HTTP_GET, "/v1/systems/{id}/cameras", HTTP_USER, on_cameras, "List the cameras of a system", .scope = "devices:read" },
    { HTTP_POST, "/v1/systems/{id}/cameras", HTTP_SESSION, on_add_camera, "Add a camera to a system", HTTP_BODY(struct add_body, add_fields), .idempotent = true, .rate = HTTP_RATE_CLAIM },
    { HTTP_GET, "/v1/claims/{id}", HTTP_SESSION, on_claim, "How far adding a device has come" },
    { HTTP_DELETE, "/v1/claims/{id}", HTTP_SESSION, on_claim_cancel, "Give up adding a device" },
    { HTTP_POST, "/v1/claims/{id}/progress", HTTP_SESSION, on_progress, "Report a step that only the app sees", HTTP_BODY(struct progress_body, progress_fields) },
    { HTTP_GET, "/v1/devices/{id}", HTTP_USER, on_device, "Read a device and its status", .scope = "devices:read" },
    { HTTP_PATCH, "/v1/devices/{id}", HTTP_USER, on_rename, "Rename a device", .scope = "devices:write", HTTP_BODY(struct name_body, name_fields) },
    { HTTP_DELETE, "/v1/devices/{id}", HTTP_SESSION, on_delete, "Delete a camera: it is free again" },
    { HTTP_POST, "/v1/devices/{id}/commands", HTTP_USER, device_on_command_post, "Queue a command to a device", .scope = "devices:write",
      HTTP_BODY(struct device_command_body, device_command_fields), .idempotent = true },
    { HTTP_GET, "/v1/devices/{id}/commands/{command}", HTTP_USER, device_on_command_read, "How far a command has come", .scope = "devices:read" },
    HTTP_END,
};
