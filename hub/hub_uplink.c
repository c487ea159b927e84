/* hub_uplink.c - how much the home's way to the cloud carries: a few seconds of filler to a relay, measured by what the relay reports of it.
 *
 * The cloud asks by the command `uplink_test`; the hub asks back for a place to send to (`uplink.wanted`), and gets one relay with keys of its own for this test. From there on it is a
 * live session without a camera: nothing leaves before a check was answered under those keys (S-M1), and it ends by itself. Somebody who wants to watch goes first.
 */
#include "filler.h"
#include "hub_in.h"

#define PLACE_WAIT (10 * PL_SECOND)  /* for the cloud's answer */
#define AGAIN (10 * PL_SECOND)       /* between two tests */
#define LONGEST (5 * PL_SECOND)      /* of one, whatever is asked */

bool hub_uplink_runs(const struct hub *h) { return h->uplink.command_id[0] != '\0'; }

/* The stream's own thread; what came of it is looked at on ours (hub_uplink_tick). */
static void on_state(void *self, const struct stream_conf *which, const char *state, struct pl_str code) { (void)self, (void)which, (void)state, (void)code; }

enum pl_err hub_uplink_begin(struct hub *h, struct pl_str command_id)
{
    struct pl_mono now = pl_now_mono(h->conf.clock);
    struct msg_live running[HUB_STREAMS];
    if (hub_uplink_runs(h) || hub_running(h, running) || (h->uplink.ended.us && pl_mono_sub(now, h->uplink.ended) < AGAIN))
        return PL_COMMAND_REFUSED;
    hub_keep(h->uplink.command_id, sizeof h->uplink.command_id, command_id);
    h->uplink.until = pl_mono_add(now, PLACE_WAIT);
    struct pl_buf b = hub_buf(h);
    msg_uplink_wanted_put(&b, hub_id(h, h->uplink.message), command_id);
    hub_send(h, &b);
    return PL_OK;
}

static void end(struct hub *h, enum pl_err how)
{
    h->uplink.stream = stream_free(h->uplink.stream);
    h->uplink.ended = pl_now_mono(h->conf.clock);
    char id[HUB_ID];
    memcpy(id, h->uplink.command_id, sizeof id);
    memset(h->uplink.command_id, 0, sizeof h->uplink.command_id);
    hub_command_done(h, pl_str_of(id), how);
}

void hub_uplink_refused(struct hub *h, struct pl_str re)
{
    if (hub_uplink_runs(h) && !h->uplink.stream && pl_str_eqz(re, h->uplink.message))
        end(h, PL_UNAVAILABLE);
}

void hub_uplink_give_way(struct hub *h)
{
    if (h->uplink.stream)
        stream_stop(h->uplink.stream, PL_STR("superseded"));
    else if (hub_uplink_runs(h)) /* it still waits for its place: when that comes, nobody wants it any more */
        end(h, PL_COMMAND_REFUSED);
}

void hub_uplink_tick(struct hub *h)
{
    if (!hub_uplink_runs(h))
        return;
    if (!h->uplink.stream) {
        if (pl_mono_cmp(pl_now_mono(h->conf.clock), h->uplink.until) >= 0)
            end(h, PL_TOO_SLOW);
        return;
    }
    if (!stream_over(h->uplink.stream))
        return;
    const struct sender_stats st = stream_stats(h->uplink.stream);
    struct msg_uplink m = { .command_id = pl_str_of(h->uplink.command_id) };
    if (!sender_measure(&st, &m.bps, &m.lost_percent)) {
        end(h, PL_RELAY_TIMEOUT);
        return;
    }
    char id[PL_UUID_TEXT];
    m.id = hub_id(h, id);
    m.rtt_ms = st.rtt_us < 0 ? -1 : st.rtt_us / PL_MS;
    PL_LOG(&h->log, PL_INFO, "hub.uplink", PL_F_INT("bps", m.bps), PL_F_INT("lost_percent", m.lost_percent), PL_F_INT("rtt_ms", m.rtt_ms));
    struct pl_buf b = hub_buf(h);
    msg_uplink_put(&b, &m);
    hub_send(h, &b);
    end(h, PL_OK);
}

enum pl_err hub_on_uplink_test(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_uplink_test m = { 0 };
    struct stream_conf c = { .clock = h->conf.clock, .log = &h->log, .self = h, .on_state = on_state, .source = h->uplink.source };
    enum pl_err e = json_doc_take(d, msg_uplink_test_fields, JSON_LENIENT, h->arena, &m, f);
    if (e != PL_OK)
        return e;
    if (!hub_uplink_runs(h) || h->uplink.stream || !pl_str_eqz(m.command_id, h->uplink.command_id))
        return pl_fail(f, PL_PROTOCOL, "no such test was wanted");
    struct pl_buf source = pl_buf_fixed(h->uplink.source, sizeof h->uplink.source - 1);
    memset(h->uplink.source, 0, sizeof h->uplink.source);
    pl_buf_fmt(&source, FILLER_PREFIX "%d", (int)(m.max_bps < FILLER_MOST ? m.max_bps : FILLER_MOST));
    e = hub_read_leg(h, &m.leg, &c);
    if (e == PL_OK) {
        c.sender.hard_end_us = m.duration_ms * PL_MS < LONGEST ? m.duration_ms * PL_MS : LONGEST;
        c.sender.no_resend = true; /* what was lost is what is measured */
        e = stream_new(&c, &h->uplink.stream);
    }
    secure_wipe(&c.sender.ice, sizeof c.sender.ice);
    if (e != PL_OK)
        end(h, e);
    return PL_OK;
}
