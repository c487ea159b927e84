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
    PL_METRIC_COUNTER("porchlight_relay_handshakes_failed_total", "DTLS handshakes that failed; the relay's stats say why."),
    PL_METRIC_COUNTER("porchlight_relay_handshakes_refused_total", "DTLS handshakes that were not begun because too many were open."),
};

static struct pl_metric reports[] = {
    PL_METRIC_COUNTER("porchlight_viewer_reports_total", "Viewers' figures that relays told this node, each viewer's every 5 s."),
    PL_METRIC_COUNTER("porchlight_viewer_reports_lossy_total", "Those that said that 2 % or more of the packets were lost on the way to the viewer."),
    PL_METRIC_COUNTER("porchlight_viewer_reports_slow_total", "Those that said that a packet and its echo took 300 ms or more."),
    PL_METRIC_COUNTER("porchlight_viewer_reports_silent_total", "Those of viewers that were not heard of for 5 s."),
};

enum pl_err live_count(struct db_tx *tx, struct live_counts *ret)
{
    struct live_sql_counts_row r;
    bool found;
    enum pl_err e = live_sql_counts(tx, &r, &found);
    if (e == PL_OK)
        *ret = (struct live_counts){ .relays = r.relays, .connected = r.connected, .viewers = r.viewers, .sessions = r.sessions };
    return e;
}

enum pl_err live_measure(struct db_tx *tx)
{
    struct live_counts c = { 0 };
    enum pl_err e = live_count(tx, &c);
    const int64_t values[] = { c.relays, c.connected, c.viewers, c.sessions };
    pl_metrics_register(gauges, PL_COUNT(gauges));
    pl_metrics_register(traffic, PL_COUNT(traffic));
    pl_metrics_register(reports, PL_COUNT(reports));
    for (size_t i = 0; e == PL_OK && i < PL_COUNT(values); i++)
        pl_gauge(&gauges[i], values[i]);
    return e;
}

void live_count_traffic(struct live_traffic *before, const struct live_traffic *now)
{
    if (!before->any)
        *before = *now;
    const int64_t more[] = { now->packets_in - before->packets_in, now->packets_out - before->packets_out, now->lost - before->lost,
        now->handshakes - before->handshakes, now->failed - before->failed, now->refused - before->refused };
    for (size_t i = 0; i < PL_COUNT(more); i++)
        if (more[i] > 0)
            pl_count(&traffic[i], more[i]);
    *before = *now;
}

void live_count_viewer(int64_t lost_percent, int64_t rtt_ms, bool paused)
{
    const bool so[] = { true, lost_percent >= 2, rtt_ms >= 300, paused };
    for (size_t i = 0; i < PL_COUNT(so); i++)
        if (so[i])
            pl_count(&reports[i], 1);
}
