/* What runs, counted: from the tables for all nodes alike, and from what relays report to this node. */
#include "live_priv.h"
#include "live_sql.h"

static struct pl_metric gauges[] = {
    PL_METRIC_GAUGE("porchlight_relays", "Relays that were let in."),
    PL_METRIC_GAUGE("porchlight_relays_connected", "Relays that are connected to some node."),
    PL_METRIC_GAUGE("porchlight_live_viewers", "Viewers on the connected relays, as they said last."),
    PL_METRIC_GAUGE("porchlight_live_sessions", "Live sessions that have not ended."),
};

static struct pl_metric traffic[] = {
    PL_METRIC_COUNTER("porchlight_relay_packets_in_total", "Packets that the relays connected to this node took in."),
    PL_METRIC_COUNTER("porchlight_relay_packets_out_total", "Packets that the relays connected to this node sent."),
    PL_METRIC_COUNTER("porchlight_relay_packets_lost_total", "Packets from cameras that never reached the relays connected to this node."),
    PL_METRIC_COUNTER("porchlight_relay_handshakes_total", "DTLS handshakes with WebRTC peers that the relays connected to this node finished."),
    PL_METRIC_COUNTER("porchlight_relay_handshakes_refused_total", "DTLS handshakes that were not begun because too many were open."),
    PL_METRIC_COUNTER("porchlight_relay_refused_full_total", "Sessions and viewers that the relays connected to this node did not take: no room, or too busy."),
    PL_METRIC_COUNTER("porchlight_relay_too_fast_total", "Packets of cameras that were dropped because one sent more than 100 Mbit/s."),
    PL_METRIC_COUNTER("porchlight_relay_socket_overflow_total", "Times that a relay's kernel dropped datagrams, one or more, because its receive buffer was full."),
    PL_METRIC_COUNTER("porchlight_relay_not_sent_total", "Packets that a relay could not send: its socket did not take them, or their viewer was too far behind."),
    PL_METRIC_COUNTER("porchlight_relay_unproved_total", "Datagrams that failed their proof: not from whom they say."),
    PL_METRIC_COUNTER("porchlight_relay_events_dropped_total", "Reports of sessions that a relay had no room to keep. Always 0."),
    PL_METRIC_COUNTER("porchlight_relay_cpu_us_total", "Microseconds of processor time that the relays connected to this node used."),
    PL_METRIC_COUNTER("porchlight_relay_freezes_in_total", "Times that no whole picture came from a camera for three times as long as usual, and 150 ms longer than it."),
    PL_METRIC_COUNTER("porchlight_relay_freezes_out_total", "The same of pictures that went out whole to a viewer."),
    PL_METRIC_COUNTER("porchlight_relay_handshakes_failed_fingerprint_total", "DTLS handshakes that failed: another certificate than the peer's SDP names."),
    PL_METRIC_COUNTER("porchlight_relay_handshakes_failed_no_profile_total", "DTLS handshakes that failed: no SRTP suite in common."),
    PL_METRIC_COUNTER("porchlight_relay_handshakes_failed_alert_total", "DTLS handshakes that failed: the peer gave up and said so."),
    PL_METRIC_COUNTER("porchlight_relay_handshakes_failed_timeout_total", "DTLS handshakes that failed: the peer did not answer in time."),
    PL_METRIC_COUNTER("porchlight_relay_handshakes_failed_refused_total", "DTLS handshakes that failed: what came is none that the relay takes."),
    PL_METRIC_COUNTER("porchlight_relay_handshakes_failed_no_memory_total", "DTLS handshakes that failed: the relay had no memory."),
    PL_METRIC_COUNTER("porchlight_relay_transit_50us_total", "Datagrams that were through a relay within 50 us of the kernel's receive stamp."),
    PL_METRIC_COUNTER("porchlight_relay_transit_150us_total", "Those that took longer, up to 150 us."),
    PL_METRIC_COUNTER("porchlight_relay_transit_500us_total", "Those that took longer, up to 500 us."),
    PL_METRIC_COUNTER("porchlight_relay_transit_1ms_total", "Those that took longer, up to 1 ms."),
    PL_METRIC_COUNTER("porchlight_relay_transit_5ms_total", "Those that took longer, up to 5 ms."),
    PL_METRIC_COUNTER("porchlight_relay_transit_longer_total", "Those that took longer."),
    PL_METRIC_COUNTER("porchlight_relay_paced_100us_total", "Packets to viewers that their pacer held back for 100 us at most."),
    PL_METRIC_COUNTER("porchlight_relay_paced_5ms_total", "Those that it held back longer, up to 5 ms."),
    PL_METRIC_COUNTER("porchlight_relay_paced_10ms_total", "Those that it held back longer, up to 10 ms."),
    PL_METRIC_COUNTER("porchlight_relay_paced_20ms_total", "Those that it held back longer, up to 20 ms."),
    PL_METRIC_COUNTER("porchlight_relay_paced_50ms_total", "Those that it held back longer, up to 50 ms."),
    PL_METRIC_COUNTER("porchlight_relay_paced_longer_total", "Those that it held back longer."),
    PL_METRIC_COUNTER("porchlight_relay_stage_receive_us_total", "Microseconds that these datagrams waited in the kernel, each one's added up."),
    PL_METRIC_COUNTER("porchlight_relay_stage_verify_us_total", "Microseconds until their batch was verified."),
    PL_METRIC_COUNTER("porchlight_relay_stage_protect_us_total", "Microseconds until it was encrypted for each viewer."),
    PL_METRIC_COUNTER("porchlight_relay_stage_send_us_total", "Microseconds of sending it."),
};

/* ---- What a relay says of itself. */

#define F_COUNT(st, member) JSON_F(st, member, J_INT, J_OPTIONAL, .hi = INT64_MAX)
#define F_NAMED(st, key, member) { .name = (key), .type = J_INT, .offset = offsetof(st, member), .hi = INT64_MAX }
#define F_GROUP(key, member, of) { .name = (key), .type = J_OBJECT, .offset = offsetof(struct live_stats_msg, traffic.member), .fields = (of) }
static const struct json_field failures_fields[] = { F_NAMED(struct live_failures, "dtls_fingerprint", fingerprint), F_NAMED(struct live_failures, "dtls_no_profile", no_profile),
    F_NAMED(struct live_failures, "dtls_alert", alert), F_NAMED(struct live_failures, "dtls_timeout", timeout), F_NAMED(struct live_failures, "dtls_refused", refused),
    F_NAMED(struct live_failures, "dtls_no_memory", no_memory), J_END };
static const struct json_field transit_fields[] = { F_NAMED(struct live_transit, "50us", us50), F_NAMED(struct live_transit, "150us", us150),
    F_NAMED(struct live_transit, "500us", us500), F_NAMED(struct live_transit, "1ms", ms1), F_NAMED(struct live_transit, "5ms", ms5), F_COUNT(struct live_transit, longer), J_END };
static const struct json_field paced_fields[] = { F_NAMED(struct live_paced, "100us", us100), F_NAMED(struct live_paced, "5ms", ms5), F_NAMED(struct live_paced, "10ms", ms10),
    F_NAMED(struct live_paced, "20ms", ms20), F_NAMED(struct live_paced, "50ms", ms50), F_COUNT(struct live_paced, longer), J_END };
static const struct json_field stages_fields[] = { F_COUNT(struct live_stages, receive), F_COUNT(struct live_stages, verify), F_COUNT(struct live_stages, protect),
    F_COUNT(struct live_stages, send), J_END };
const struct json_field live_stats_fields[] = { JSON_F(struct live_stats_msg, sessions, J_INT, J_REQUIRED, .hi = 1000000),
    JSON_F(struct live_stats_msg, viewers, J_INT, J_REQUIRED, .hi = 10000000), F_NAMED(struct live_stats_msg, "packets_in", traffic.packets_in),
    F_NAMED(struct live_stats_msg, "packets_out", traffic.packets_out), F_NAMED(struct live_stats_msg, "lost", traffic.lost), F_NAMED(struct live_stats_msg, "handshakes", traffic.handshakes),
    F_NAMED(struct live_stats_msg, "handshakes_refused", traffic.refused), F_NAMED(struct live_stats_msg, "refused_full", traffic.refused_full),
    F_NAMED(struct live_stats_msg, "too_fast", traffic.too_fast), F_NAMED(struct live_stats_msg, "socket_overflow", traffic.socket_overflow),
    F_NAMED(struct live_stats_msg, "not_sent", traffic.not_sent), F_NAMED(struct live_stats_msg, "unproved", traffic.unproved),
    F_NAMED(struct live_stats_msg, "events_dropped", traffic.events_dropped), F_NAMED(struct live_stats_msg, "cpu_us", traffic.cpu_us),
    JSON_F(struct live_stats_msg, busy_percent, J_INT, J_OPTIONAL, .hi = 1000), F_NAMED(struct live_stats_msg, "freezes_in", traffic.freezes_in),
    F_NAMED(struct live_stats_msg, "freezes_out", traffic.freezes_out), F_GROUP("failures", failures, failures_fields), F_GROUP("transit", transit, transit_fields),
    F_GROUP("paced", paced, paced_fields), F_GROUP("stages_us", stages, stages_fields), J_END };

static struct pl_metric loads[] = {
    PL_METRIC_COUNTER("porchlight_relay_loads_total", "Loads that relays told this node, each one's every 5 s."),
    PL_METRIC_COUNTER("porchlight_relay_loads_high_total", "Those of 70 % of a core or more: such a relay takes no further session or viewer."),
};
static struct pl_metric sources[] = {
    PL_METRIC_COUNTER("porchlight_source_reports_total", "Figures of watched sources that relays told this node, each one's every 5 s."),
    PL_METRIC_COUNTER("porchlight_source_reports_slow_total", "Those in which a packet and its echo between relay and hub took 300 ms or more."),
};
static struct pl_metric reports[] = {
    PL_METRIC_COUNTER("porchlight_viewer_reports_total", "Viewers' figures that relays told this node, each viewer's every 5 s."),
    PL_METRIC_COUNTER("porchlight_viewer_reports_lossy_total", "Those that said that 2 % or more of the packets were lost on the way to the viewer."),
    PL_METRIC_COUNTER("porchlight_viewer_reports_slow_total", "Those that said that a packet and its echo took 300 ms or more."),
    PL_METRIC_COUNTER("porchlight_viewer_reports_silent_total", "Those of viewers that were not heard of for 5 s."),
};

enum pl_err live_count(struct db_tx *tx, struct pl_utc now, struct live_counts *ret)
{
    struct live_sql_counts_row r;
    bool found;
    enum pl_err e = live_sql_counts(tx, now, &r, &found);
    if (e == PL_OK)
        *ret = (struct live_counts){ .relays = r.relays, .connected = r.connected, .viewers = r.viewers, .sessions = r.sessions };
    return e;
}

enum pl_err live_measure(struct db_tx *tx, struct pl_utc now)
{
    struct live_counts c = { 0 };
    enum pl_err e = live_count(tx, now, &c);
    const int64_t values[] = { c.relays, c.connected, c.viewers, c.sessions };
    pl_metrics_register(gauges, PL_COUNT(gauges));
    pl_metrics_register(traffic, PL_COUNT(traffic));
    pl_metrics_register(loads, PL_COUNT(loads));
    pl_metrics_register(sources, PL_COUNT(sources));
    pl_metrics_register(reports, PL_COUNT(reports));
    for (size_t i = 0; e == PL_OK && i < PL_COUNT(values); i++)
        pl_gauge(&gauges[i], values[i]);
    return e;
}

/* In the order of the metrics. */
static void list(const struct live_traffic *t, int64_t ret[PL_COUNT(traffic)])
{
    const int64_t all[] = { t->packets_in, t->packets_out, t->lost, t->handshakes, t->refused, t->refused_full, t->too_fast, t->socket_overflow, t->not_sent,
        t->unproved, t->events_dropped, t->cpu_us, t->freezes_in, t->freezes_out,
        t->failures.fingerprint, t->failures.no_profile, t->failures.alert, t->failures.timeout, t->failures.refused, t->failures.no_memory, t->transit.us50, t->transit.us150,
        t->transit.us500, t->transit.ms1, t->transit.ms5, t->transit.longer, t->paced.us100, t->paced.ms5, t->paced.ms10, t->paced.ms20, t->paced.ms50, t->paced.longer,
        t->stages.receive, t->stages.verify, t->stages.protect, t->stages.send };
    _Static_assert(PL_COUNT(all) == PL_COUNT(traffic), "a metric each");
    memcpy(ret, all, sizeof all);
}

enum { SLOW_MS = 300 };

void live_count_traffic(struct live_traffic *before, const struct live_stats_msg *m)
{
    const struct live_traffic *now = &m->traffic;
    pl_count(&loads[0], 1);
    pl_count(&loads[1], m->busy_percent >= LIVE_RELAY_FULL);
    if (!before->any)
        *before = *now;
    int64_t was[PL_COUNT(traffic)], is[PL_COUNT(traffic)];
    list(before, was);
    list(now, is);
    for (size_t i = 0; i < PL_COUNT(is); i++)
        if (is[i] > was[i])
            pl_count(&traffic[i], is[i] - was[i]);
    *before = *now;
    before->any = true;
}

static void count_source(int64_t rtt_ms)
{
    pl_count(&sources[0], 1);
    pl_count(&sources[1], rtt_ms >= SLOW_MS);
}

static void count_viewer(int64_t lost_percent, int64_t rtt_ms, bool paused)
{
    const bool so[] = { true, !paused && lost_percent >= 2, !paused && rtt_ms >= SLOW_MS, paused }; /* of who is silent the figures are those of before */
    for (size_t i = 0; i < PL_COUNT(so); i++)
        if (so[i])
            pl_count(&reports[i], 1);
}

/* ---- one session's figures ---- */

struct viewer_stats_msg {
    int64_t lost_percent, rtt_ms;
    bool paused;
};
static const struct json_field viewer_stats_fields[] = { JSON_F(struct viewer_stats_msg, lost_percent, J_INT, J_OPTIONAL, .hi = 100),
                                                         JSON_F(struct viewer_stats_msg, rtt_ms, J_INT, J_OPTIONAL, .hi = INT64_MAX),
                                                         JSON_F(struct viewer_stats_msg, paused, J_BOOL, J_OPTIONAL), J_END };
static const struct json_field source_stats_fields[] = { JSON_F(struct live_source_stats, rtt_ms, J_INT, J_OPTIONAL, .hi = INT64_MAX), J_END };
const struct json_field live_session_stats_fields[] = {
    JSON_F(struct live_session_stats_msg, live_id, J_UUID, J_REQUIRED),
    JSON_F(struct live_session_stats_msg, generation, J_INT, J_REQUIRED, .lo = 1, .hi = INT32_MAX),
    JSON_F(struct live_session_stats_msg, viewers, J_ARRAY, J_REQUIRED, .fields = viewer_stats_fields, .size = sizeof(struct viewer_stats_msg), .hi = 10),
    JSON_F(struct live_session_stats_msg, source, J_OBJECT, J_REQUIRED, .fields = source_stats_fields),
    { .name = "source", .type = J_RAW, .required = J_REQUIRED, .offset = offsetof(struct live_session_stats_msg, source_text), .hi = 1024 },
    { .name = "viewers", .type = J_RAW, .required = J_REQUIRED, .offset = offsetof(struct live_session_stats_msg, viewers_text) },
    J_END,
};

enum pl_err live_count_session(struct link_call *c, struct pl_uuid relay_id, const struct live_session_stats_msg *m)
{
    const struct viewer_stats_msg *v = m->viewers.items;
    struct live_sql_place_row place;
    bool found;
    enum pl_err e = live_sql_place(c->tx, m->live_id, &place, &found);
    if (e != PL_OK || !found || !pl_uuid_eq(place.relay_id, relay_id) || place.generation != m->generation)
        return e;
    count_source(m->source.rtt_ms);
    for (size_t i = 0; i < m->viewers.n; i++)
        count_viewer(v[i].lost_percent, v[i].rtt_ms, v[i].paused);
    struct pl_buf b = pl_buf_init(c->arena, 32 * 1024);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_raw(&w, "source", m->source_text);
    jw_raw(&w, "viewers", m->viewers_text);
    jw_close(&w);
    e = pl_buf_err(&b);
    return e == PL_OK ? live_sql_figures(c->tx, m->live_id, pl_buf_view(&b), c->now, NULL) : e;
}
