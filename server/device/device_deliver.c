/* What is told to a device over its connection: messages that leave after the commit, and all that waits for it when it comes or is nudged. */
#include "device_priv.h"

#define COMMANDS_AT_ONCE 50 /* as commands_due hands them out */

/* ---- Sending after the commit ---- */

struct out {
    struct link_conn *conn;
    struct pl_buf b;
};
static void send_out(void *arg)
{
    struct out *o = arg;
    enum pl_err e = pl_buf_err(&o->b);
    if (e == PL_OK)
        e = link_send(o->conn, pl_buf_view(&o->b));
    if (e != PL_OK)
        link_close(o->conn, e); /* what it missed waits for its next hello */
}

bool device_say(struct link_call *c, const char *type, struct jw *ret_w)
{
    struct out *o = PL_NEW(c->arena, struct out);
    if (!o)
        return false;
    *o = (struct out){ c->conn, pl_buf_init(c->arena, 16 * 1024) };
    *ret_w = jw_start(&o->b);
    jw_open(ret_w, NULL);
    jw_z(ret_w, "type", type);
    link_after(c, send_out, o);
    return true;
}

enum pl_err device_fence(struct link_call *c)
{
    struct device_conn *d = link_owner(c->conn);
    struct device_sql_link_fence_row r;
    bool found;
    enum pl_err e = device_sql_link_fence(c->tx, device_conn_serial(d), d->epoch, &r, &found);
    if (e != PL_OK || found)
        return e;
    link_close(c->conn, PL_FENCED);
    return PL_FENCED;
}

enum pl_err device_connected(struct link_call *c, const struct device_sql_bound_row *b, const char *state, struct pl_str cause)
{
    return device_event(c->tx, c->now, b->system_id, "device.connectivity", b->id, "connectivity", pl_str_of(state), cause.p ? "cause" : NULL, cause);
}

/* ---- What waits for the device ---- */

struct told {
    struct device_conn *d;
    struct pl_uuid device_id;
};
static void told(void *arg)
{
    const struct told *t = arg;
    t->d->device_id = t->device_id;
}
enum pl_err device_told(struct link_call *c, struct device_conn *d, struct pl_uuid device_id)
{
    struct told *t = PL_NEW(c->arena, struct told);
    if (!t)
        return PL_NO_MEMORY;
    *t = (struct told){ d, device_id };
    link_after(c, told, t);
    return PL_OK;
}

/* The device's own binding changed behind its back. */
static enum pl_err tell_binding(struct link_call *c, struct device_conn *d, bool bound, const struct device_sql_bound_row *b)
{
    struct jw w;
    struct pl_uuid id = bound ? b->id : (struct pl_uuid){ { 0 } };
    if (pl_uuid_eq(id, d->device_id))
        return PL_OK;
    if (!pl_uuid_is_zero(d->device_id)) {
        if (!device_say(c, "unbound", &w))
            return PL_NO_MEMORY;
        jw_str(&w, "serial", device_conn_serial(d));
        jw_close(&w);
    }
    return device_told(c, d, id);
}

static enum pl_err tell_pairs(struct link_call *c, const struct device_sql_bound_row *b)
{
    struct device_sql_claims_to_pair_row *rows;
    size_t n;
    struct jw w;
    enum pl_err e = device_sql_claims_to_pair(c->tx, b->account_id, b->system_id, c->now, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        if (!device_say(c, "pair", &w))
            return PL_NO_MEMORY;
        jw_uuid(&w, "id", rows[i].id); /* the ack names it */
        jw_uuid(&w, "claim_id", rows[i].id);
        jw_str(&w, "serial", rows[i].serial);
        jw_str(&w, "challenge", rows[i].challenge);
        jw_close(&w);
    }
    return e;
}

static void deliver_more(void *arg) { device_conn_deliver(arg); }

static enum pl_err tell_commands(struct link_call *c, const struct device_conn *d)
{
    struct device_sql_commands_due_row *rows;
    size_t n;
    struct jw w;
    enum pl_err e = device_sql_commands_due(c->tx, device_conn_serial(d), c->now, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        if (!device_say(c, "command", &w))
            return PL_NO_MEMORY;
        jw_uuid(&w, "id", rows[i].id);
        jw_uuid(&w, "command_id", rows[i].id);
        jw_str(&w, "name", rows[i].name);
        jw_open(&w, "args");
        if (rows[i].camera_serial.p)
            jw_str(&w, "camera", rows[i].camera_serial);
        jw_close(&w);
        jw_utc(&w, "deadline", rows[i].deadline);
        jw_close(&w);
        e = device_command_event(c->tx, c->now, rows[i].device_id, rows[i].id, "sent", PL_STR_NONE);
    }
    if (n == COMMANDS_AT_ONCE)
        link_after(c, deliver_more, c->conn);
    return e;
}

/* Another node may have taken this connection for dead while this one was late with its lease. */
static enum pl_err still_here(struct link_call *c, struct device_conn *d, bool bound, const struct device_sql_bound_row *b)
{
    int64_t mistaken;
    enum pl_err e = device_sql_link_here(c->tx, device_conn_serial(d), d->epoch, c->now, &mistaken);
    return e == PL_OK && mistaken && bound ? device_connected(c, b, "online", PL_STR_NONE) : e;
}

enum pl_err device_deliver(struct link_call *c, void *arg, struct pl_fail *reterr)
{
    struct device_conn *d = link_owner(c->conn);
    struct device_sql_bound_row b;
    bool bound;
    (void)arg, (void)reterr;
    {
        PL_LOCK(&d->lock);
        d->posted = false; /* what is written from now on makes a delivery of its own */
    }
    enum pl_err e = device_fence(c);
    if (e != PL_OK || (e = device_sql_bound(c->tx, device_conn_serial(d), &b, &bound)) != PL_OK || (e = still_here(c, d, bound, &b)) != PL_OK ||
        (e = tell_binding(c, d, bound, &b)) != PL_OK)
        return e;
    if (bound && d->is_hub && (e = tell_pairs(c, &b)) != PL_OK)
        return e;
    return tell_commands(c, d);
}
