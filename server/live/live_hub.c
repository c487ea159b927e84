/* What hubs say of live sessions, beside device's messages in porchlight.hub.v1. */
#include "live_priv.h"
#include "live_sql.h"

static const char *const states[] = { "sending", "failed", "ended", NULL };
enum { HUB_SENDING, HUB_FAILED, HUB_ENDED };
struct state_msg {
    struct pl_uuid live_id;
    int64_t generation;
    int state;
    struct pl_str code;
    int64_t gop_ms;
};
static const struct json_field state_fields[] = {
    JSON_F(struct state_msg, live_id, J_UUID, J_REQUIRED),
    JSON_F(struct state_msg, generation, J_INT, J_REQUIRED, .lo = 1, .hi = INT32_MAX),
    JSON_F(struct state_msg, state, J_ENUM, J_REQUIRED, .words = states),
    JSON_F(struct state_msg, code, J_STR, J_OPTIONAL, .hi = 64),
    JSON_F(struct state_msg, gop_ms, J_INT, J_OPTIONAL, .lo = 1, .hi = 3600000),
    J_END,
};

/* The first frame is on its way: who shares the hub's way to the cloud is told its part. Said again with the GOP length by a source that cannot be asked for key frames. */
static enum pl_err sending(struct link_call *c, const struct state_msg *m, struct pl_uuid account_id)
{
    struct live_sql_get_row live;
    bool found;
    enum pl_err e = live_stage_add(c->tx, m->live_id, "hub_sending", c->now);
    if (e != PL_OK || m->gop_ms == 0)
        return e == PL_OK ? live_hub_bitrates(c, link_owner(c->conn)) : e;
    e = live_sql_get(c->tx, account_id, m->live_id, &live, &found);
    return e == PL_OK && found ? device_set_gop(c->tx, account_id, live.device_id, (int32_t)m->gop_ms) : e;
}

static enum pl_err on_state(struct link_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    const struct state_msg *m = c->msg;
    const struct device_conn *hub = link_owner(c->conn);
    struct live_sql_place_row place;
    struct live_told *t = PL_NEW(c->arena, struct live_told);
    bool found;
    enum pl_err e = t ? live_sql_place(c->tx, m->live_id, &place, &found) : PL_NO_MEMORY;
    /* A session that has ended, another hub's, or an older generation: a report of the past. */
    if (e != PL_OK || !found || !pl_str_eq(place.hub_serial, device_conn_serial(hub)) || place.generation != m->generation)
        return e;
    if (m->state == HUB_SENDING)
        return sending(c, m, place.account_id);
    if (m->state == HUB_ENDED) /* why it ended is said by who ended it, or by the relay when nothing comes any more */
        return live_stage_add(c->tx, m->live_id, "hub_ended", c->now);
    *t = (struct live_told){ .ctx = c->self, .arena = c->arena };
    e = live_end(c->tx, c->now, m->live_id, "hub_failed", &t->endings);
    if (e == PL_OK)
        link_after(c, live_tell_later, t);
    return e;
}

enum pl_err live_hub_welcome(void *self, struct link_call *c, const struct device_conn *hub)
{
    struct live_ctx *ctx = self;
    struct live_sql_places_of_hub_row *rows;
    size_t n;
    enum pl_err e = live_sql_places_of_hub(c->tx, device_conn_serial(hub), &rows, &n);
    if (e != PL_OK)
        return e;
    struct pl_buf b = pl_buf_init(c->arena, 16 * 1024);
    struct jw w = live_message(ctx, &b, "live.sync");
    jw_array(&w, "sessions");
    for (size_t i = 0; i < n; i++) {
        jw_open(&w, NULL);
        jw_uuid(&w, "live_id", rows[i].live_id);
        jw_int(&w, "generation", rows[i].generation);
        jw_close(&w);
    }
    jw_end_array(&w);
    jw_close(&w);
    e = live_say(c, &b);
    return e == PL_OK ? live_whip_again(ctx, c, device_conn_serial(hub)) : e;
}

const struct link_message live_hub_messages[] = {
    { "live.state", LINK_READY, state_fields, sizeof(struct state_msg), on_state },
    { "uplink.wanted", LINK_READY, live_uplink_wanted_fields, sizeof(struct live_uplink_msg), live_on_uplink_wanted, .soft = true },
    { "uplink", LINK_READY, live_uplink_fields, sizeof(struct live_uplink_msg), live_on_uplink },
    LINK_END,
};
