/* The way from a home to the cloud: what it carries is shared out among the hub's streams. */
#include "live_priv.h"
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
