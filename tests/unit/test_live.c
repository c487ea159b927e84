/* live against a real PostgreSQL, on a clock that the test moves: how sessions end, who is told, which relay is chosen, and what a leg's keys are. */
#include "live_rig.h"

/* A session ends once, in the code of whoever came first. */
static void a_session_ends_in_exactly_one_code(void **state)
{
    (void)state;
    struct session x = session(enroll("one-code", 1), 0);
    struct live_ending *endings = NULL;
    struct live_sql_place_row place;
    bool found;
    struct db_tx *tx = begin();
    assert_int_equal(live_end(tx, at(10), x.live, "ended_by_user", &endings), PL_OK);
    assert_int_equal(live_end(tx, at(10), x.live, "expired", &endings), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    assert_int_equal(count(endings), 1);
    assert_string_equal(end_code_of(&x), "ended_by_user");
    assert_int_equal(events_of(x.account, "live.state"), 1);
    tx = begin();
    assert_int_equal(live_sql_place(tx, x.live, &place, &found), PL_OK);
    assert_false(found);
    db_rollbackp(&tx);
}

/* Time ends a session after its last second, and the app is warned once, thirty seconds before. */
static void expiry_is_warned_of_once(void **state)
{
    (void)state;
    struct pl_uuid relay = enroll("expiry", 3);
    hello(relay, 0, 0);
    struct session x = session(relay, 0);
    assert_int_equal(expire(269), 0);
    assert_int_equal(events_of(x.account, "live.expiring"), 0);
    assert_int_equal(expire(271), 0);
    assert_int_equal(expire(272), 0);
    assert_int_equal(events_of(x.account, "live.expiring"), 1);
    expire(300);
    assert_string_equal(end_code_of(&x), "");
    expire(301);
    assert_string_equal(end_code_of(&x), "expired");
}

/* An extension moves the end, warns again, and never passes the hard end. */
static void extensions_stop_at_the_hard_end(void **state)
{
    (void)state;
    struct pl_uuid relay = enroll("extend", 4);
    struct live_sql_extend_row to;
    bool found;
    hello(relay, 0, 0);
    struct session x = session(relay, 0);
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_extend(tx, x.live, at(500), &to, &found), PL_OK);
    assert_true(found && to.expires_at.us == at(500).us);
    assert_int_equal(live_sql_extend(tx, x.live, at(5000), &to, &found), PL_OK);
    assert_true(found && to.expires_at.us == at(1800).us);
    assert_int_equal(db_commit(&tx), PL_OK);
    for (int64_t s = 1771; s < 1775; s++) { /* an app that asks again at each warning */
        expire(s);
        tx = begin();
        assert_int_equal(live_sql_extend(tx, x.live, at(s + 300), &to, &found), PL_OK);
        assert_int_equal(db_commit(&tx), PL_OK);
    }
    assert_int_equal(events_of(x.account, "live.expiring"), 1); /* the end has not moved: it is not warned of again */
    expire(1799);
    assert_string_equal(end_code_of(&x), "");
    expire(1801);
    assert_string_equal(end_code_of(&x), "expired");
}

/* A relay that has been away for ten minutes has ended its sessions by its own rule (S-M7); nine are not enough. */
static void a_relay_away_for_ten_minutes_is_lost(void **state)
{
    (void)state;
    struct pl_uuid relay = enroll("away", 5);
    int64_t epoch = hello(relay, 0, 0);
    struct session x = session(relay, 1500);
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_relay_gone(tx, relay, epoch, at(1000), NULL), PL_OK);
    assert_int_equal(live_sql_extend(tx, x.live, at(3000), &(struct live_sql_extend_row){ 0 }, &(bool){ false }), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    expire(1600);
    assert_string_equal(end_code_of(&x), "");
    expire(1601);
    assert_string_equal(end_code_of(&x), "relay_lost");
}

/* S-D12: the key of a revoked relay is no key, its sessions end at once, and no other one's do; a second revocation changes nothing. */
static void s_d12_a_revoked_relay_is_let_in_no_more(void **state)
{
    (void)state;
    struct pl_uuid relay = enroll("stolen", 61);
    hello(relay, 1, 0);
    struct session x = session(relay, 0), other = session(enroll("kept", 62), 0);
    struct live_sql_relay_key_row key;
    struct live_sql_relay_hello_row row;
    struct pl_str name;
    struct pl_utc when;
    bool found;
    struct db_tx *tx = begin();
    assert_int_equal(live_relay_revoke(tx, at(10), relay, &name, &when), PL_OK);
    assert_true(pl_str_eqz(name, "stolen") && when.us == at(10).us);
    assert_int_equal(live_relay_revoke(tx, at(11), relay, &name, &when), PL_OK);
    assert_true(when.us == at(10).us);
    assert_int_equal(live_relay_revoke(tx, at(11), new_id(), &name, &when), PL_NOT_FOUND);
    assert_int_equal(live_sql_relay_key(tx, relay, &key, &found), PL_OK);
    assert_false(found);
    assert_int_equal(live_sql_relay_hello(tx, relay, ctx.node_id, new_id(), PL_STR("127.0.0.1"), 50000, 100, 0, at(12), PL_STR_NONE, &row, &found), PL_OK);
    assert_false(found);
    assert_int_equal(db_commit(&tx), PL_OK);
    assert_int_equal(expire(12), 1);
    assert_string_equal(end_code_of(&x), "relay_lost");
    assert_string_equal(end_code_of(&other), "");
}

/* S-D12: its node is told, and each node looks for its connections itself, so that none is left because that was lost; after a minute there can be none any more. */
static void s_d12_every_node_looks_for_revoked_relays(void **state)
{
    (void)state;
    struct pl_uuid relay = enroll("looked for", 63);
    struct pl_str name;
    struct pl_utc when;
    char subject[64], id[PL_UUID_TEXT];
    pl_uuid_text(relay, id);
    snprintf(subject, sizeof subject, " relay.%s", id);
    expire(20);
    assert_null(strstr(pg_told, subject));
    struct db_tx *tx = begin();
    assert_int_equal(live_relay_revoke(tx, at(20), relay, &name, &when), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    for (int i = 0; i < 3; i++) {
        assert_non_null(strstr(pg_told, subject));
        pg_told[0] = 0;
        expire((int64_t[]){ 21, 79, 80 }[i]);
    }
    assert_null(strstr(pg_told, subject));
}

/* An older connection of a relay says nothing once a newer one is there. */
static void an_older_epoch_of_a_relay_writes_nothing(void **state)
{
    (void)state;
    struct pl_uuid relay = enroll("epochs", 6);
    int64_t old = hello(relay, 0, 0);
    struct live_sql_relay_media_row row;
    bool found;
    assert_true(hello(relay, 0, 1) > old);
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_relay_gone(tx, relay, old, at(2), NULL), PL_OK);
    assert_int_equal(live_sql_relay_media(tx, relay, &row, &found), PL_OK);
    assert_true(found && row.connected);
    db_rollbackp(&tx);
}

/* A hello whose commit failed has an epoch that nobody knows; its connection ends late, when the relay is there again by another. */
static void an_epoch_of_a_relay_that_was_rolled_back_is_nobody_elses(void **state)
{
    (void)state;
    struct pl_uuid relay = enroll("rolled-back", 60);
    struct live_sql_relay_hello_row lost;
    struct live_sql_relay_media_row row;
    bool found;
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_relay_hello(tx, relay, ctx.node_id, new_id(), PL_STR("127.0.0.1"), 50000, 100, 0, at(0), PL_STR_NONE, &lost, &found), PL_OK);
    db_rollbackp(&tx);
    assert_int_not_equal(hello(relay, 0, 1), lost.epoch);
    tx = begin();
    assert_int_equal(live_sql_relay_gone(tx, relay, lost.epoch, at(2), NULL), PL_OK);
    assert_int_equal(live_sql_relay_media(tx, relay, &row, &found), PL_OK);
    assert_true(found && row.connected);
    db_rollbackp(&tx);
}

/* The same name with the same key is the same relay; with another key it is refused. */
static void a_relays_name_keeps_its_key(void **state)
{
    (void)state;
    struct pl_uuid first = enroll("named", 7), again = enroll("named", 7), other;
    uint8_t key[32] = { 8 };
    struct pl_fail fail = PL_FAIL_INIT;
    assert_true(pl_uuid_eq(first, again));
    struct db_tx *tx = begin();
    assert_int_equal(live_relay_enroll(tx, &rnd.base, at(0), PL_STR("named"), key, &other, &fail), PL_VERSION_CONFLICT);
    assert_true(fail.detail[0]);
    db_rollbackp(&tx);
}

/* S-D7, S-D9: a freed camera is cut, and so is all that a freed hub carries; nothing else of the account is. */
static void a_freed_device_cuts_only_its_own(void **state)
{
    (void)state;
    struct session x = session(enroll("freed", 9), 0);
    struct live_ending *endings = NULL;
    struct db_tx *tx = begin();
    assert_int_equal(live_device_freed(tx, at(1), new_id(), PL_STR("OTHER0001"), &endings), PL_OK);
    assert_int_equal(count(endings), 0);
    assert_int_equal(live_device_freed(tx, at(1), new_id(), PL_STR("HUB00000001"), &endings), PL_OK);
    assert_int_equal(count(endings), 1);
    assert_int_equal(db_commit(&tx), PL_OK);
    assert_string_equal(end_code_of(&x), "device_freed");
}

/* S-M7: the connection of a relay whose node died with it is none. */
static void a_relay_of_a_dead_node_is_lost(void **state)
{
    (void)state;
    struct pl_uuid relay = enroll("dead node", 13);
    struct live_sql_extend_row to;
    bool found;
    hello(relay, 0, 9900);
    struct session x = session(relay, 9900);
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_extend(tx, x.live, at(11000), &to, &found), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    expire(10500); /* the node's lease ended at 10,000: the relay was heard ten minutes ago */
    assert_string_equal(end_code_of(&x), "");
    expire(10501);
    assert_string_equal(end_code_of(&x), "relay_lost");
}

static struct live_counts counts_at(int64_t s)
{
    struct live_counts c;
    struct db_tx *tx = begin();
    assert_int_equal(live_count(tx, at(s), &c), PL_OK);
    db_rollbackp(&tx);
    return c;
}

static bool listed_connected(const char *name, int64_t s)
{
    struct pl_buf b = pl_buf_init(arena, 64 * 1024);
    struct jw w = jw_start(&b);
    struct db_tx *tx = begin();
    jw_open(&w, NULL);
    assert_int_equal(live_list_relays(tx, at(s), &w), PL_OK);
    jw_close(&w);
    db_rollbackp(&tx);
    const char *row = strstr(pl_str_z(arena, pl_buf_view(&b)), pl_fmt(arena, "\"name\":\"%s\"", name).p);
    assert_non_null(row);
    const char *connected = strstr(row, "\"connected\":");
    assert_non_null(connected);
    return strncmp(connected, "\"connected\":true", 16) == 0;
}

/* A node that was killed wrote no end of its relays' connections: who counts them asks whether it lives, as who chooses one does. */
static void what_a_dead_node_had_connected_is_not_counted(void **state)
{
    (void)state;
    struct pl_uuid relay = enroll("counted", 21);
    struct live_counts before = counts_at(9000);
    int64_t epoch = hello(relay, 0, 9000);
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_relay_stats(tx, relay, epoch, 1, 3, 10, at(9000), NULL), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
    struct live_counts c = counts_at(9999);
    assert_true(c.connected == before.connected + 1 && c.viewers == before.viewers + 3 && listed_connected("counted", 9999));
    c = counts_at(10001); /* the node's lease is over */
    assert_true(c.relays == before.relays && c.connected == 0 && c.viewers == 0 && !listed_connected("counted", 10001));
}

static int64_t metric(const char *name)
{
    struct pl_buf b = pl_buf_init(arena, 1 << 20);
    pl_metrics_print(&b);
    const char *line = strstr(pl_str_z(arena, pl_buf_view(&b)), pl_fmt(arena, "\n%s ", name).p);
    assert_non_null(line);
    return strtoll(strchr(line + 1, ' '), NULL, 10);
}

static void take(const struct json_field *fields, const char *text, void *ret)
{
    struct pl_fail fail = PL_FAIL_INIT;
    if (json_take(fields, JSON_LENIENT, pl_str_of(text), arena, ret, &fail) != PL_OK)
        fail_msg("%s: %s", fail.field, fail.detail);
}

/* What a relay loses itself, and that it has too much to do, is counted as what the networks lose is. */
static void losses_of_a_relay_are_counted(void **state)
{
    (void)state;
    static const char *const names[] = { "porchlight_relay_socket_overflow_total", "porchlight_relay_not_sent_total", "porchlight_relay_unproved_total",
        "porchlight_relay_events_dropped_total", "porchlight_relay_cpu_us_total" };
    struct live_traffic before = { 0 };
    struct db_tx *tx = begin();
    assert_int_equal(live_measure(tx, at(0)), PL_OK);
    db_rollbackp(&tx);
    int64_t was[PL_COUNT(names)], loads = metric("porchlight_relay_loads_total"), high = metric("porchlight_relay_loads_high_total");
    for (size_t i = 0; i < PL_COUNT(names); i++)
        was[i] = metric(names[i]);
    for (int i = 0; i < 2; i++) {
        struct live_stats_msg m = { 0 };
        take(live_stats_fields, i ? "{\"sessions\":1,\"viewers\":2,\"socket_overflow\":11,\"not_sent\":22,\"unproved\":33,\"events_dropped\":44,\"cpu_us\":55,\"busy_percent\":70}"
                                  : "{\"sessions\":1,\"viewers\":2,\"socket_overflow\":10,\"not_sent\":20,\"unproved\":30,\"events_dropped\":40,\"cpu_us\":50,\"busy_percent\":69}", &m);
        live_count_traffic(&before, &m);
    }
    for (size_t i = 0; i < PL_COUNT(names); i++)
        assert_int_equal(metric(names[i]) - was[i], i + 1);
    assert_true(metric("porchlight_relay_loads_total") == loads + 2 && metric("porchlight_relay_loads_high_total") == high + 1);
}

/* What a viewer said last is not said again by its silence. */
static void a_silent_viewer_is_counted_as_silent_alone(void **state)
{
    (void)state;
    struct pl_uuid relay = enroll("silence", 22);
    hello(relay, 0, 0);
    struct session x = session(relay, 0);
    static const char *const texts[] = { "{\"lost_percent\":9,\"rtt_ms\":900,\"paused\":false}", "{\"lost_percent\":9,\"rtt_ms\":900,\"paused\":true}" };
    static const char *const names[] = { "porchlight_viewer_reports_total", "porchlight_viewer_reports_lossy_total", "porchlight_viewer_reports_slow_total",
        "porchlight_viewer_reports_silent_total" };
    static const int64_t more[][PL_COUNT(names)] = { { 1, 1, 1, 0 }, { 1, 0, 0, 1 } };
    char id[PL_UUID_TEXT];
    pl_uuid_text(x.live, id);
    for (size_t i = 0; i < PL_COUNT(texts); i++) {
        struct live_session_stats_msg m = { 0 };
        int64_t was[PL_COUNT(names)];
        take(live_session_stats_fields, pl_fmt(arena, "{\"live_id\":\"%s\",\"generation\":1,\"source\":{\"rtt_ms\":0},\"viewers\":[%s]}", id, texts[i]).p, &m);
        struct db_tx *tx = begin();
        assert_int_equal(live_measure(tx, at(1)), PL_OK);
        for (size_t k = 0; k < PL_COUNT(names); k++)
            was[k] = metric(names[k]);
        struct link_call c = { .tx = tx, .arena = arena, .now = at(1) };
        assert_int_equal(live_count_session(&c, relay, &m), PL_OK);
        db_rollbackp(&tx);
        for (size_t k = 0; k < PL_COUNT(names); k++)
            if (metric(names[k]) - was[k] != more[i][k])
                fail_msg("report %zu: %s", i, names[k]);
    }
}

/* Ended sessions are kept for thirty days, with their stages. */
static void ended_sessions_are_forgotten(void **state)
{
    (void)state;
    struct session x = session(enroll("old", 15), 0), running = session(x.relay, 0);
    struct live_ending *endings = NULL;
    struct live_sql_get_row row;
    struct live_sql_stages_row *stages;
    bool found;
    size_t n;
    struct db_tx *tx = begin();
    assert_int_equal(live_end(tx, at(10), x.live, "ended_by_user", &endings), PL_OK);
    assert_int_equal(live_clean(tx, at(10 + 30 * 86400)), PL_OK);
    assert_int_equal(live_sql_get(tx, x.account, x.live, &row, &found), PL_OK);
    assert_true(found);
    assert_int_equal(live_clean(tx, at(11 + 30 * 86400)), PL_OK);
    assert_int_equal(live_sql_get(tx, x.account, x.live, &row, &found), PL_OK);
    assert_false(found);
    assert_int_equal(live_sql_stages(tx, x.account, x.live, &stages, &n), PL_OK);
    assert_int_equal(n, 0);
    assert_int_equal(live_sql_get(tx, running.account, running.live, &row, &found), PL_OK);
    assert_true(found);
    db_rollbackp(&tx);
}

/* S-S6: nothing of a deleted account's sessions stays. */
static void a_deleted_account_leaves_no_session_S_S6(void **state)
{
    (void)state;
    struct session x = session(enroll("deleted", 11), 0);
    struct live_ending *endings = NULL;
    struct live_sql_get_row row;
    bool found;
    struct db_tx *tx = begin();
    assert_int_equal(live_account_deleted(tx, at(1), x.account, &endings), PL_OK);
    assert_int_equal(count(endings), 0); /* its system may live on, under another owner */
    assert_int_equal(system_delete(tx, &rnd.base, at(1), x.account, x.system), PL_OK);
    assert_int_equal(live_account_deleted(tx, at(1), x.account, &endings), PL_OK);
    assert_int_equal(count(endings), 1);
    assert_int_equal(live_sql_get(tx, x.account, x.live, &row, &found), PL_OK);
    assert_false(found);
    db_rollbackp(&tx);
}

/* S-D8's sister: a device has at most one running session, by constraint. The later start is PL_RETRY: it looks again and joins. */
static void a_device_has_one_running_session(void **state)
{
    (void)state;
    struct session x = session(enroll("single", 12), 0);
    struct db_tx *tx = begin();
    assert_int_equal(live_sql_add(tx, x.account, new_id(), x.device, x.system, PL_STR("CAMERA0001"), PL_STR("HUB00000001"), x.relay, x.account, x.client, 1, PL_STR("AEAD_AES_128_GCM"), at(0), at(300),
                                  at(1800), NULL), PL_RETRY);
    db_rollbackp(&tx);
}

/* S-M6: nothing of a leg is like anything of another one, and each side sees the keys from its own end. */
static void legs_are_fresh_and_mirrored_S_M6(void **state)
{
    (void)state;
    struct live_leg a, b;
    live_leg_new(&pl_rand_system, LIVE_GCM, &a);
    live_leg_new(&pl_rand_system, LIVE_GCM, &b);
    assert_memory_not_equal(a.to_relay, b.to_relay, 28);
    assert_memory_not_equal(a.to_relay, a.from_relay, 28);
    assert_string_not_equal(a.ufrag, b.ufrag);
    assert_int_equal(strlen(a.pwd), 32);
    assert_true(a.video_ssrc != a.audio_ssrc && a.video_ssrc != a.talk_ssrc && a.audio_ssrc != a.talk_ssrc && a.video_ssrc);
    for (enum live_suite s = LIVE_GCM; s < LIVE_SUITES; s++) {
        struct pl_buf x = pl_buf_init(arena, 4096), y = pl_buf_init(arena, 4096);
        struct jw w = jw_start(&x), v = jw_start(&y);
        struct json_doc *relay PL_CLEANUP(json_doc_freep) = NULL, *other PL_CLEANUP(json_doc_freep) = NULL;
        struct keys { struct pl_str send, receive; } k, m;
        static const struct json_field key_fields[] = { JSON_F(struct keys, send, J_B64, J_REQUIRED, .lo = 28, .hi = 30), JSON_F(struct keys, receive, J_B64, J_REQUIRED, .lo = 28, .hi = 30), J_END };
        live_leg_new(&pl_rand_system, s, &a);
        jw_open(&w, NULL);
        live_leg_write(&w, &a, LIVE_RELAY_SIDE, true);
        jw_close(&w);
        jw_open(&v, NULL);
        live_leg_write(&v, &a, LIVE_OTHER_SIDE, true);
        jw_close(&v);
        assert_int_equal(json_parse(pl_buf_view(&x), &relay, NULL), PL_OK);
        assert_int_equal(json_parse(pl_buf_view(&y), &other, NULL), PL_OK);
        assert_int_equal(json_take(key_fields, JSON_STRICT, json_doc_raw(relay, "keys", arena), arena, &k, NULL), PL_OK);
        assert_int_equal(json_take(key_fields, JSON_STRICT, json_doc_raw(other, "keys", arena), arena, &m, NULL), PL_OK);
        assert_true(pl_str_eq(k.send, m.receive) && pl_str_eq(k.receive, m.send) && !pl_str_eq(k.send, k.receive));
        assert_int_equal(k.send.n, s == LIVE_GCM ? 28 : 30); /* RFC 7714, 12; RFC 3711, 8.2 */
    }
}

/* The home's way is shared out, and some of it is left. */
static void an_uplink_is_shared_by_the_streams_of_a_hub(void **state)
{
    static const struct { int64_t uplink; size_t streams; int64_t bps; } rows[] = {
        { 2000000, 1, 1436000 },  /* the product's floor carries one stream well */
        { 2000000, 2, 686000 }, { 2000000, 3, 436000 },
        { 2000000, 10, 200000 },  /* less is no picture */
        { 600000, 1, 386000 }, { 0, 1, 200000 }, { 100000000, 1, 2000000 }, { 100000000, 10, 2000000 }, { 4000000, 0, 2000000 },
    };
    (void)state;
    for (size_t i = 0; i < PL_COUNT(rows); i++)
        assert_int_equal(live_share_bps(rows[i].uplink, rows[i].streams), rows[i].bps);
}

/* S-S10, S-M3: the address of a WebRTC viewer is good for its client, account and session, and for nothing that was changed. */
static void a_viewers_address_is_its_own(void **state)
{
    (void)state;
    struct pl_secret key = { { 7 } }, other_key = { { 8 } };
    struct live_whose mine = { new_id(), new_id(), new_id() };
    struct live_way way = { new_id(), new_id(), 3, { 1, 2, 3, 4, 5, 6, 7, 8 } }, got;
    struct pl_str text = live_way_text(arena, &key, &mine, &way);
    assert_int_equal(live_way_read(&key, &mine, text, &got), PL_OK);
    assert_memory_equal(&got.viewer_id, &way.viewer_id, sizeof got.viewer_id);
    assert_memory_equal(&got.relay_id, &way.relay_id, sizeof got.relay_id);
    assert_int_equal(got.generation, 3);
    assert_memory_equal(got.mark, way.mark, sizeof got.mark);
    struct live_whose others[3] = { mine, mine, mine };
    others[0].account_id = others[1].client_id = others[2].live_id = new_id();
    for (size_t i = 0; i < PL_COUNT(others); i++)
        assert_int_equal(live_way_read(&key, &others[i], text, &got), PL_NOT_FOUND);
    assert_int_equal(live_way_read(&other_key, &mine, text, &got), PL_NOT_FOUND);
    for (size_t i = 0; i < text.n; i++) {
        char *changed = pl_str_z(arena, text);
        changed[i] = changed[i] == 'A' ? 'B' : 'A';
        assert_int_equal(live_way_read(&key, &mine, pl_str_of(changed), &got), PL_NOT_FOUND);
        assert_int_equal(live_way_read(&key, &mine, (struct pl_str){ text.p, i }, &got), PL_NOT_FOUND);
    }
}

/* The tag of an ICE session is that of its viewer and its ufrag. */
static void an_ice_session_has_a_tag_of_its_own(void **state)
{
    (void)state;
    struct pl_secret key = { { 7 } };
    struct pl_uuid one = new_id(), two = new_id();
    uint8_t a[LIVE_ICE_MARK], b[LIVE_ICE_MARK];
    live_way_mark(&key, one, PL_STR("uFrg"), a);
    live_way_mark(&key, one, PL_STR("uFrg"), b);
    assert_memory_equal(a, b, sizeof a);
    live_way_mark(&key, one, PL_STR("uFrh"), b);
    assert_memory_not_equal(a, b, sizeof a);
    live_way_mark(&key, two, PL_STR("uFrg"), b);
    assert_memory_not_equal(a, b, sizeof a);
}

int main(void)
{
    if (!live_open("t_live"))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_uplink_is_shared_by_the_streams_of_a_hub),
        cmocka_unit_test_setup(a_session_ends_in_exactly_one_code, each_test),
        cmocka_unit_test_setup(expiry_is_warned_of_once, each_test),
        cmocka_unit_test_setup(extensions_stop_at_the_hard_end, each_test),
        cmocka_unit_test_setup(a_relay_away_for_ten_minutes_is_lost, each_test),
        cmocka_unit_test_setup(s_d12_a_revoked_relay_is_let_in_no_more, each_test),
        cmocka_unit_test_setup(s_d12_every_node_looks_for_revoked_relays, each_test),
        cmocka_unit_test_setup(an_older_epoch_of_a_relay_writes_nothing, each_test),
        cmocka_unit_test_setup(an_epoch_of_a_relay_that_was_rolled_back_is_nobody_elses, each_test),
        cmocka_unit_test_setup(a_relays_name_keeps_its_key, each_test),
        cmocka_unit_test_setup(a_freed_device_cuts_only_its_own, each_test),
        cmocka_unit_test_setup(a_relay_of_a_dead_node_is_lost, each_test),
        cmocka_unit_test_setup(what_a_dead_node_had_connected_is_not_counted, each_test),
        cmocka_unit_test_setup(losses_of_a_relay_are_counted, each_test),
        cmocka_unit_test_setup(a_silent_viewer_is_counted_as_silent_alone, each_test),
        cmocka_unit_test_setup(ended_sessions_are_forgotten, each_test),
        cmocka_unit_test_setup(a_deleted_account_leaves_no_session_S_S6, each_test),
        cmocka_unit_test_setup(a_device_has_one_running_session, each_test),
        cmocka_unit_test_setup(legs_are_fresh_and_mirrored_S_M6, each_test),
        cmocka_unit_test(a_viewers_address_is_its_own),
        cmocka_unit_test(an_ice_session_has_a_tag_of_its_own),
    };
    return live_close(cmocka_run_group_tests(tests, NULL, NULL));
}
