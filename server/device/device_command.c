/* Commands: rows that wait for the gateway, with visible stages: accepted, sent, acknowledged, done or failed. */
#include "device_priv.h"

static const char *const names[] = { "reboot", "refresh", "uplink_test", NULL };
enum { REBOOT, REFRESH, UPLINK_TEST };
const struct json_field device_command_fields[] = {
    JSON_F(struct device_command_body, name, J_ENUM, J_REQUIRED, .words = names),
    JSON_F(struct device_command_body, idempotency_key, J_STR, J_OPTIONAL, .lo = 1, .hi = 128),
    JSON_F(struct device_command_body, deadline_s, J_INT, J_OPTIONAL, .lo = 5, .hi = 86400),
    J_END,
};
#define DEADLINE_S 60

enum pl_err device_command_event(struct db_tx *tx, struct pl_utc now, struct pl_uuid device_id, struct pl_uuid id, const char *stage, struct pl_str code)
{
    struct pl_buf b = pl_buf_init(db_arena(tx), 1024);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_uuid(&w, "device_id", device_id);
    jw_uuid(&w, "command_id", id);
    jw_z(&w, "stage", stage);
    if (code.p)
        jw_str(&w, "code", code);
    jw_close(&w);
    struct device_sql_system_of_row of;
    bool found;
    enum pl_err e = pl_buf_err(&b);
    if (e != PL_OK || (e = device_sql_system_of(tx, device_id, &of, &found)) != PL_OK || !found)
        return e;
    return system_event(tx, now, of.system_id, SYSTEM_SEE, "command.stage", pl_buf_view(&b));
}

static void write_stage(struct jw *w, const char *name, struct pl_utc at)
{
    if (!at.us)
        return;
    jw_open(w, NULL);
    jw_z(w, "name", name);
    jw_utc(w, "at", at);
    jw_close(w);
}

static void write_command(struct jw *w, const struct device_sql_command_find_row *r, struct pl_utc now)
{
    bool late = !r->ended_at.us && pl_utc_cmp(now, r->deadline) >= 0;
    bool done = pl_str_eqz(r->stage, "done");
    jw_uuid(w, "id", r->id);
    jw_str(w, "name", r->name);
    jw_str(w, "stage", late ? PL_STR("failed") : r->stage);
    jw_str(w, "code", late ? PL_STR("command_expired") : r->code);
    jw_utc(w, "deadline", r->deadline);
    jw_array(w, "stages");
    write_stage(w, "accepted", r->accepted_at);
    write_stage(w, "sent", r->sent_at);
    write_stage(w, "acknowledged", r->acknowledged_at);
    write_stage(w, done ? "done" : "failed", late ? r->deadline : r->ended_at);
    jw_end_array(w);
}

/* Who carries it out: the hub, or the device itself. A camera behind a hub can only be refreshed: its way to the cloud is the hub's. */
static enum pl_err target(const struct device_sql_views_row *d, int name, struct pl_str *ret_gateway, struct pl_str *ret_camera, struct pl_fail *reterr)
{
    *ret_camera = d->via_hub ? d->serial : PL_STR_NONE;
    *ret_gateway = d->via_hub ? d->gateway_serial : d->serial;
    if (d->via_hub && name == REBOOT)
        return pl_fail(reterr, PL_COMMAND_REFUSED, "A camera behind a hub is rebooted with its hub.");
    if (d->via_hub && name == UPLINK_TEST)
        return pl_fail(reterr, PL_COMMAND_REFUSED, "A camera behind a hub has its hub's way to the cloud: test that one's.");
    if (!ret_gateway->p)
        return pl_fail(reterr, PL_HUB_REQUIRED, "The system of this camera has no hub, or one that was never connected.");
    return PL_OK;
}

enum pl_err device_on_command_post(struct http_call *c, struct pl_fail *reterr)
{
    const struct device_command_body *b = c->body;
    struct device_ctx *ctx = c->self;
    struct device_sql_command_find_row row;
    struct device_sql_views_row *d;
    struct system_row system;
    struct pl_uuid device_id, id = pl_uuid7(c->rand, c->now);
    struct pl_str gateway, camera, key = b->idempotency_key;
    char own_key[PL_UUID_TEXT];
    int64_t added;
    int64_t deadline_s = b->deadline_s ? b->deadline_s : DEADLINE_S;
    enum pl_err e = http_param_uuid(c, "id", &device_id);
    /* Asked again behind the membership, which is held: a home that moves went before, or moves this command too. */
    if (e != PL_OK || (e = device_may(c->tx, c->now, &c->actor, device_id, SYSTEM_MANAGE, &system, &d, reterr)) != PL_OK ||
        (e = system_hold(c->tx, c->now, &c->actor, system.id, SYSTEM_MANAGE, reterr)) != PL_OK ||
        (e = device_may(c->tx, c->now, &c->actor, device_id, SYSTEM_MANAGE, &system, &d, reterr)) != PL_OK ||
        (e = target(d, b->name, &gateway, &camera, reterr)) != PL_OK)
        return e;
    if (!key.p)
        key = http_header(c, "Idempotency-Key");
    if (!key.p || key.n == 0 || key.n > 256) {
        pl_uuid_text(id, own_key);
        key = pl_str_of(own_key);
    }
    e = device_sql_command_add(c->tx, system.home_id, id, device_id, gateway, camera, pl_str_of(names[b->name]), key, c->now, pl_utc_add(c->now, deadline_s * PL_SECOND), &added);
    if (e != PL_OK || (e = device_sql_command_find(c->tx, system.home_id, device_id, (struct pl_uuid){ { 0 } }, key, &row, NULL)) != PL_OK)
        return e;
    if (!added && !pl_str_eqz(row.name, names[b->name]))
        return PL_IDEMPOTENCY_CONFLICT;
    if (added) {
        struct device_tell *t = PL_NEW(c->arena, struct device_tell);
        if (!t)
            return PL_NO_MEMORY;
        if ((e = device_command_event(c->tx, c->now, device_id, id, "accepted", PL_STR_NONE)) != PL_OK)
            return e;
        *t = (struct device_tell){ .ctx = ctx, .arena = c->arena, .nudge = gateway };
        http_after(c, device_tell, t);
    }
    c->status = 202;
    jw_open(&c->out, "command");
    write_command(&c->out, &row, c->now);
    jw_close(&c->out);
    return PL_OK;
}

enum pl_err device_on_command_read(struct http_call *c, struct pl_fail *reterr)
{
    struct device_sql_command_find_row row;
    struct device_sql_views_row *d;
    struct system_row system;
    struct pl_uuid device_id, id;
    enum pl_err e = http_param_uuid(c, "id", &device_id);
    if (e != PL_OK || (e = http_param_uuid(c, "command", &id)) != PL_OK ||
        (e = device_may(c->tx, c->now, &c->actor, device_id, SYSTEM_SEE, &system, &d, reterr)) != PL_OK ||
        (e = device_sql_command_find(c->tx, system.home_id, device_id, id, PL_STR_NONE, &row, NULL)) != PL_OK)
        return e;
    write_command(&c->out, &row, c->now);
    return PL_OK;
}
