/* The way from a home to the cloud: what it carries is measured, and shared out among the hub's streams. */
#include "live_leg.h"
#include "live_rooms.h"
#include "live_sql.h"

#define SHARED_OF_4 3                 /* quarters of what was measured: the rest is for checks, resends, and the household's own use */
#define SOUND_BPS 64000               /* of each stream beside its pictures, with headers */
#define LEAST_BPS 200000
#define MOST_BPS 2000000

int64_t live_share_bps(int64_t uplink_bps, size_t streams)
{
    int64_t share = uplink_bps / 4 * SHARED_OF_4 / (int64_t)(streams ? streams : 1) - SOUND_BPS;
    return share < LEAST_BPS ? LEAST_BPS : share > MOST_BPS ? MOST_BPS : share;
}

struct said {
    struct link_conn *conn;
    struct pl_str text;
};
static void send_said(void *arg)
{
    const struct said *s = arg;
    if (link_send(s->conn, s->text) != PL_OK)
        link_close(s->conn, PL_TOO_SLOW); /* what it missed it is told at its next hello, or by the next of its kind */
}

enum pl_err live_say(struct link_call *c, const struct pl_buf *b)
{
    struct said *s = PL_NEW(c->arena, struct said);
    enum pl_err e = s ? pl_buf_err(b) : PL_NO_MEMORY;
    if (e != PL_OK)
        return e;
    *s = (struct said){ c->conn, pl_buf_view(b) };
    link_after(c, send_said, s);
    return PL_OK;
}

static enum pl_err say_bitrate(struct link_call *c, struct pl_uuid live_id, int64_t bps)
{
    struct pl_buf b = pl_buf_init(c->arena, 512);
    struct jw w = live_message(c->self, &b, "bitrate");
    jw_uuid(&w, "live_id", live_id);
    jw_int(&w, "video_bps", bps);
    jw_close(&w);
    return live_say(c, &b);
}

/* Whether the camera of a session changes its rate when asked. One that was freed meanwhile is not asked. */
static enum pl_err heeds(struct link_call *c, struct pl_uuid account_id, struct pl_uuid live_id, bool *ret)
{
    struct live_sql_get_row live;
    struct device_view view;
    bool found;
    enum pl_err e = live_sql_get(c->tx, account_id, live_id, &live, &found);
    if (e == PL_OK)
        e = found ? device_find_for_view(c->tx, c->now, account_id, live.device_id, &view) : PL_NOT_FOUND;
    *ret = e == PL_OK && view.can_bitrate;
    return e == PL_NOT_FOUND ? PL_OK : e;
}

enum pl_err live_hub_bitrates(struct link_call *c, const struct device_conn *hub)
{
    struct live_sql_places_of_hub_row *rows;
    int64_t uplink;
    size_t n;
    enum pl_err e = device_uplink(c->tx, device_conn_serial(hub), &uplink);
    if (e != PL_OK || uplink == 0 || (e = live_sql_places_of_hub(c->tx, device_conn_serial(hub), &rows, &n)) != PL_OK)
        return e;
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        bool ask;
        e = heeds(c, rows[i].account_id, rows[i].live_id, &ask);
        if (e == PL_OK && ask)
            e = say_bitrate(c, rows[i].live_id, live_share_bps(uplink, n));
    }
    return e;
}

/* --- The test: a session at a relay that nobody watches, for a few seconds. ------------------------------------------------------------------- */

#define TEST_BPS 4000000  /* twice the product's floor, and what a share is at its most */
#define TEST_MS 4500      /* from the hub's first check on: four of the relay's reports */
#define TEST_EXPIRES_MS 10000
#define RELAY_WAIT PL_SECOND

const struct json_field live_uplink_wanted_fields[] = { JSON_F(struct live_uplink_msg, command_id, J_UUID, J_REQUIRED), J_END };
const struct json_field live_uplink_fields[] = {
    JSON_F(struct live_uplink_msg, command_id, J_UUID, J_REQUIRED),
    JSON_F(struct live_uplink_msg, bps, J_INT, J_REQUIRED, .lo = 0, .hi = INT64_C(100000000000)),
    JSON_F(struct live_uplink_msg, lost_percent, J_INT, J_REQUIRED, .lo = 0, .hi = 100),
    JSON_OPT(struct live_uplink_msg, rtt_ms, J_INT, .lo = 0, .hi = 60000),
    J_END,
};

struct test {
    const struct live_ctx *ctx;
    struct pl_arena *arena;
    struct link_conn *conn;
    struct pl_uuid relay_id;
    struct pl_str open, begin; /* to the relay, to the hub */
};

/* The relay first. One that is late with its answer has the session all the same: the hub's checks are sent again until they are answered. */
static void begin_test(void *arg)
{
    const struct test *t = arg;
    struct pl_str ignored;
    struct pl_fail why = PL_FAIL_INIT;
    enum pl_err e = live_ask_relay(t->ctx, t->arena, t->relay_id, t->open, RELAY_WAIT, &ignored, &why);
    if (e != PL_OK) {
        live_rooms_refused(t->ctx->rooms, t->relay_id);
        PL_LOG(t->ctx->log, PL_WARN, "uplink.no-relay", PL_F_UUID("relay", t->relay_id), PL_F_ERR(e));
    }
    if (link_send(t->conn, t->begin) != PL_OK)
        link_close(t->conn, PL_TOO_SLOW);
}

static struct pl_str open_text(struct link_call *c, struct pl_uuid id, const struct live_leg *leg)
{
    struct pl_buf b = pl_buf_init(c->arena, 8192);
    struct jw w = live_message(c->self, &b, "session.open");
    jw_uuid(&w, "live_id", id);
    jw_int(&w, "generation", 1);
    jw_int(&w, "expires_in_ms", TEST_EXPIRES_MS);
    jw_open(&w, "source");
    live_leg_write(&w, leg, LIVE_RELAY_SIDE, false);
    jw_bool(&w, "keyframe", false);
    jw_close(&w);
    jw_close(&w);
    return pl_buf_err(&b) == PL_OK ? pl_buf_view(&b) : PL_STR_NONE;
}

static struct pl_str test_text(struct link_call *c, struct pl_uuid command_id, const struct live_sql_relay_rooms_row *relay, const struct live_leg *leg)
{
    struct pl_buf b = pl_buf_init(c->arena, 8192);
    struct jw w = live_message(c->self, &b, "uplink_test");
    jw_uuid(&w, "command_id", command_id);
    jw_open(&w, "relay");
    jw_str(&w, "host", relay->media_host);
    jw_int(&w, "port", relay->media_port);
    jw_close(&w);
    jw_int(&w, "mtu", 1200);
    live_leg_write(&w, leg, LIVE_OTHER_SIDE, false);
    jw_int(&w, "max_bps", TEST_BPS);
    jw_int(&w, "duration_ms", TEST_MS);
    jw_close(&w);
    return pl_buf_err(&b) == PL_OK ? pl_buf_view(&b) : PL_STR_NONE;
}

enum pl_err live_on_uplink_wanted(struct link_call *c, struct pl_fail *reterr)
{
    const struct live_uplink_msg *m = c->msg;
    const struct device_conn *hub = link_owner(c->conn);
    struct live_ctx *ctx = c->self;
    const struct live_sql_relay_rooms_row *relay;
    struct live_choice choice;
    struct live_leg *leg = PL_NEW(c->arena, struct live_leg); /* wiped with the arena */
    struct test *t = PL_NEW(c->arena, struct test);
    unsigned suites = device_conn_suites(hub);
    bool found;
    enum pl_err e = leg && t ? device_uplink_wanted(c->tx, c->now, device_conn_serial(hub), m->command_id, &found) : PL_NO_MEMORY;
    if (e != PL_OK)
        return e;
    if (!found)
        return pl_fail(reterr, PL_NOT_FOUND, "No uplink test was asked of this hub.");
    if (!(suites & ((1u << LIVE_SUITES) - 1)))
        return PL_UNSUPPORTED_MEDIA;
    if ((e = live_rooms_look(c->tx, c->now, &choice)) != PL_OK)
        return e;
    if ((relay = live_rooms_take(ctx->rooms, &choice)) == NULL)
        return PL_NO_RELAY;
    live_leg_new(ctx->rand, suites & (1u << LIVE_GCM) ? LIVE_GCM : LIVE_SHA1_80, leg);
    *t = (struct test){ ctx, c->arena, c->conn, relay->id, open_text(c, pl_uuid7(ctx->rand, c->now), leg), test_text(c, m->command_id, relay, leg) };
    if (!t->open.p || !t->begin.p)
        return PL_NO_MEMORY;
    link_after(c, begin_test, t);
    return PL_OK;
}

enum pl_err live_on_uplink(struct link_call *c, struct pl_fail *reterr)
{
    const struct live_uplink_msg *m = c->msg;
    const struct device_conn *hub = link_owner(c->conn);
    bool found;
    (void)reterr;
    enum pl_err e = device_uplink_wanted(c->tx, c->now, device_conn_serial(hub), m->command_id, &found);
    if (e != PL_OK || !found) /* said again after its result: it is written */
        return e;
    if ((e = device_set_uplink(c->tx, c->now, device_conn_serial(hub), m->bps, (int32_t)m->lost_percent, m->has_rtt_ms ? (int32_t)m->rtt_ms : -1)) != PL_OK)
        return e;
    return live_hub_bitrates(c, hub); /* somebody may watch by now */
}
