/* Devices as apps see them: three state machines side by side, readings with their age. */
#include "device_priv.h"

static bool gateway_there(const struct device_sql_views_row *r, struct pl_utc now) { return r->has_connected && r->connected && pl_utc_cmp(r->lease_until, now) > 0; }

/* Why its gateway is away, and since when. A node that died takes its connections with it at the end of its lease. */
static struct device_connectivity away(const struct device_sql_views_row *r, const char *state)
{
    struct device_connectivity c = { .state = state };
    if (!r->has_connected) {
        c.cause = PL_STR("never_connected");
        c.as_of = r->created_at;
    } else if (r->connected) {
        c.cause = PL_STR("cloud_restart");
        c.as_of = r->lease_until.us ? r->lease_until : r->link_changed_at;
    } else {
        c.cause = r->link_cause;
        c.as_of = r->link_changed_at;
    }
    return c;
}

struct device_connectivity device_connectivity(const struct device_sql_views_row *r, struct pl_utc now)
{
    if (!r->via_hub)
        return gateway_there(r, now) ? (struct device_connectivity){ "online", PL_STR_NONE, r->link_changed_at } : away(r, "offline");
    if (gateway_there(r, now))
        return r->online ? (struct device_connectivity){ "online", PL_STR_NONE, r->as_of } : (struct device_connectivity){ "offline", PL_STR("camera_silent"), r->changed_at };
    struct device_connectivity c = away(r, "unreachable_via_hub");
    if (!r->gateway_serial.p && !r->has_connected)
        c.cause = PL_STR("no_hub");
    return c;
}

enum pl_err device_view_one(struct db_tx *tx, struct pl_uuid home_id, struct pl_uuid id, struct device_sql_views_row **ret)
{
    struct device_sql_views_row *rows;
    size_t n;
    if (pl_uuid_is_zero(id))
        return PL_NOT_FOUND;
    enum pl_err e = device_sql_views(tx, home_id, (struct pl_uuid){ { 0 } }, id, &rows, &n);
    if (e != PL_OK)
        return e;
    if (n == 0)
        return PL_NOT_FOUND;
    *ret = rows;
    return PL_OK;
}

enum pl_err device_may(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid id, enum system_right right, struct system_row *ret_system,
                       struct device_sql_views_row **ret, struct pl_fail *reterr)
{
    struct device_sql_system_of_row of;
    enum pl_err e = device_sql_system_of(tx, id, &of, NULL);
    if (e != PL_OK || (e = system_may(tx, now, who, of.system_id, right, ret_system, reterr)) != PL_OK)
        return e;
    return device_view_one(tx, ret_system->home_id, id, ret);
}

static void write_number(struct jw *w, const char *name, bool has, int64_t v)
{
    if (has)
        jw_int(w, name, v);
    else
        jw_null(w, name);
}

/* What its pictures heed, where it makes some; and what its own way to the cloud carries, where it has one. */
static void write_media(struct jw *w, const struct device_sql_views_row *r)
{
    if (pl_str_eqz(r->kind, "hub"))
        jw_null(w, "video");
    else {
        jw_open(w, "video");
        jw_array(w, "can");
        if (r->can_keyframe)
            jw_z(w, NULL, "keyframe");
        if (r->can_bitrate)
            jw_z(w, NULL, "bitrate");
        jw_end_array(w);
        write_number(w, "gop_ms", r->has_gop_ms, r->gop_ms);
        jw_close(w);
    }
    if (!r->has_uplink_bps) {
        jw_null(w, "uplink");
        return;
    }
    jw_open(w, "uplink");
    jw_int(w, "bps", r->uplink_bps);
    jw_int(w, "lost_percent", r->uplink_lost_percent);
    write_number(w, "rtt_ms", r->has_uplink_rtt_ms, r->uplink_rtt_ms);
    jw_utc(w, "as_of", r->uplink_at);
    jw_close(w);
}

void device_write(struct jw *w, const struct device_sql_views_row *r, struct pl_utc now)
{
    struct device_connectivity c = device_connectivity(r, now);
    jw_uuid(w, "id", r->id);
    jw_uuid(w, "system_id", r->system_id);
    jw_str(w, "serial", r->serial);
    jw_str(w, "kind", r->kind);
    jw_str(w, "model", r->model);
    jw_str(w, "name", r->name);
    jw_utc(w, "created_at", r->created_at);
    jw_z(w, "binding", "bound");
    jw_str(w, "onboarding", r->onboarding);
    jw_z(w, "connectivity", c.state);
    jw_str(w, "cause", c.cause);
    jw_utc(w, "as_of", c.as_of);
    jw_open(w, "status");
    write_number(w, "battery", r->has_battery, r->battery);
    write_number(w, "wifi_rssi", r->has_wifi_rssi, r->wifi_rssi);
    jw_str(w, "firmware", r->firmware.p ? r->firmware : r->via_hub ? PL_STR_NONE : r->link_firmware);
    jw_bool(w, "busy", r->busy);
    jw_utc(w, "as_of", r->as_of);
    jw_close(w);
    write_media(w, r);
}

static void write_system(struct jw *w, const struct system_row *s, const struct device_sql_views_row *rows, size_t n, struct pl_utc now)
{
    const struct device_sql_views_row *hub = NULL;
    jw_open(w, NULL);
    system_write(w, s);
    for (size_t i = 0; i < n; i++)
        if (pl_uuid_eq(rows[i].system_id, s->id) && pl_str_eqz(rows[i].kind, "hub"))
            hub = &rows[i];
    if (hub) {
        jw_open(w, "hub");
        device_write(w, hub, now);
        jw_close(w);
    } else
        jw_null(w, "hub");
    jw_array(w, "devices");
    for (size_t i = 0; i < n; i++)
        if (&rows[i] != hub && pl_uuid_eq(rows[i].system_id, s->id)) {
            jw_open(w, NULL);
            device_write(w, &rows[i], now);
            jw_close(w);
        }
    jw_end_array(w);
    jw_close(w);
}

/* The claims that wait, of the systems in which the account may add devices. */
static enum pl_err write_claims(struct db_tx *tx, struct jw *w, struct pl_utc now, const struct system_row *systems, size_t n_systems, struct pl_uuid home_id)
{
    struct device_sql_claims_open_row *rows;
    size_t n;
    enum pl_err e = device_sql_claims_open(tx, home_id, now, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        const struct device_sql_claims_open_row *r = &rows[i];
        bool may = false;
        for (size_t s = 0; s < n_systems && !may; s++)
            may = pl_uuid_eq(systems[s].id, r->system_id) && system_role_may(systems[s].role, SYSTEM_MANAGE);
        if (!may)
            continue;
        jw_open(w, NULL);
        device_claim_members(w, &(struct device_sql_claim_find_row){ .id = r->id, .system_id = r->system_id, .serial = r->serial, .kind = r->kind, .name = r->name,
                                                                     .challenge = r->challenge, .state = r->state, .code = r->code, .wifi_error = r->wifi_error,
                                                                     .device_id = r->device_id, .created_at = r->created_at, .expires_at = r->expires_at,
                                                                     .public_key = r->public_key }, now);
        jw_close(w);
    }
    return e;
}

/* Is this the first system of its home in the list? */
static bool first_of_home(const struct system_row *systems, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (pl_uuid_eq(systems[k].home_id, systems[i].home_id))
            return false;
    return true;
}

/* A home is asked for once: most people have one. */
static enum pl_err write_systems(struct db_tx *tx, struct jw *w, struct pl_utc now, const struct system_row *systems, size_t n_systems)
{
    static const struct pl_uuid all = { { 0 } };
    struct device_sql_views_row *rows;
    size_t n;
    enum pl_err e = PL_OK;
    for (size_t i = 0; e == PL_OK && i < n_systems; i++) {
        if (!first_of_home(systems, i))
            continue;
        if ((e = device_sql_views(tx, systems[i].home_id, all, all, &rows, &n)) != PL_OK)
            return e;
        for (size_t k = i; k < n_systems; k++)
            if (pl_uuid_eq(systems[k].home_id, systems[i].home_id))
                write_system(w, &systems[k], rows, n, now);
    }
    return e;
}

enum pl_err device_write_home(struct db_tx *tx, struct jw *w, struct pl_utc now, const struct http_actor *who)
{
    struct system_row *systems;
    size_t n;
    enum pl_err e = system_list(tx, now, who, &systems, &n);
    if (e != PL_OK)
        return e;
    jw_utc(w, "as_of", now);
    jw_array(w, "systems");
    e = write_systems(tx, w, now, systems, n);
    jw_end_array(w);
    jw_array(w, "claims");
    /* To add a device is for signed-in clients alone: a claim holds the challenge that is brought to it. */
    for (size_t i = 0; !who->scopes.p && e == PL_OK && i < n; i++)
        if (first_of_home(systems, i))
            e = write_claims(tx, w, now, systems, n, systems[i].home_id);
    jw_end_array(w);
    return e;
}

enum pl_err device_write_export(struct db_tx *tx, struct jw *w, struct pl_utc now, struct pl_uuid account_id)
{
    return device_write_home(tx, w, now, &(struct http_actor){ .account_id = account_id });
}

static enum pl_err view_of(const struct device_sql_views_row *r, struct pl_utc now, struct pl_uuid home_id, struct device_view *ret)
{
    if (pl_str_eqz(r->kind, "hub"))
        return PL_WRONG_KIND;
    *ret = (struct device_view){ .device_id = r->id, .system_id = r->system_id, .home_id = home_id, .camera_serial = r->serial, .hub_serial = r->gateway_serial, .kind = r->kind,
                                 .video = r->video, .audio = r->audio, .talk = r->talk, .suites = (unsigned)r->suites, .battery = pl_str_eqz(r->kind, "wireless"),
                                 .can_keyframe = r->can_keyframe, .can_bitrate = r->can_bitrate, .gop_ms = r->has_gop_ms ? r->gop_ms : 0 };
    ret->online = strcmp(device_connectivity(r, now).state, "online") == 0;
    return PL_OK;
}

enum pl_err device_find_for_view(struct db_tx *tx, struct pl_utc now, struct pl_uuid home_id, struct pl_uuid device_id, struct device_view *ret)
{
    struct device_sql_views_row *r;
    enum pl_err e = device_view_one(tx, home_id, device_id, &r);
    return e == PL_OK ? view_of(r, now, home_id, ret) : e;
}

enum pl_err device_may_view(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid device_id, enum system_right right, struct device_view *ret,
                            struct pl_fail *reterr)
{
    struct device_sql_views_row *r;
    struct system_row system;
    enum pl_err e = device_may(tx, now, who, device_id, right, &system, &r, reterr);
    if (e != PL_OK || (e = view_of(r, now, system.home_id, ret)) != PL_OK)
        return e;
    ret->may_talk = system_role_may(system.role, SYSTEM_TALK) && http_may(who, "live:talk");
    return PL_OK;
}

enum pl_err device_set_gop(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid device_id, int32_t gop_ms)
{
    return device_sql_gop(tx, account_id, device_id, gop_ms, NULL);
}

enum pl_err device_uplink_wanted(struct db_tx *tx, struct pl_utc now, struct pl_str gateway_serial, struct pl_uuid command_id, bool *ret)
{
    struct device_sql_uplink_wanted_row r;
    return device_sql_uplink_wanted(tx, gateway_serial, command_id, now, &r, ret);
}

enum pl_err device_set_uplink(struct db_tx *tx, struct pl_utc now, struct pl_str gateway_serial, int64_t bps, int32_t lost_percent, int32_t rtt_ms)
{
    return device_sql_uplink_set(tx, gateway_serial, bps, lost_percent, rtt_ms, now, NULL);
}

enum pl_err device_uplink(struct db_tx *tx, struct pl_str gateway_serial, int64_t *ret_bps)
{
    struct device_sql_uplink_of_row r;
    bool found;
    enum pl_err e = device_sql_uplink_of(tx, gateway_serial, &r, &found);
    if (e == PL_OK)
        *ret_bps = found && r.has_uplink_bps ? r.uplink_bps : 0;
    return e;
}

enum pl_err device_hold_for_view(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid device_id, enum system_right right, struct device_view *ret,
                                 struct pl_fail *reterr)
{
    struct device_view before;
    struct system_row system;
    enum pl_err e = device_may_view(tx, now, who, device_id, right, &before, reterr);
    if (e != PL_OK || (e = system_take(tx, now, who, before.system_id, right, &system, reterr)) != PL_OK ||
        (e = device_may_view(tx, now, who, device_id, right, ret, reterr)) != PL_OK)
        return e;
    return pl_uuid_eq(ret->system_id, before.system_id) ? PL_OK : PL_RETRY; /* it was moved meanwhile: another system is to be held */
}

enum pl_err device_list_hubs(struct db_tx *tx, struct pl_utc now, struct jw *out)
{
    struct device_sql_links_row *rows;
    size_t n;
    enum pl_err e = device_sql_links(tx, now, &rows, &n);
    if (e != PL_OK)
        return e;
    jw_array(out, "hubs");
    for (size_t i = 0; i < n; i++) {
        const struct device_sql_links_row *r = &rows[i];
        jw_open(out, NULL);
        jw_str(out, "serial", r->serial);
        jw_str(out, "role", r->role);
        jw_bool(out, "connected", r->has_there && r->there);
        jw_str(out, "cause", r->cause);
        jw_utc(out, "changed_at", r->changed_at);
        jw_int(out, "epoch", r->epoch);
        jw_str(out, "firmware", r->firmware);
        jw_str(out, "boot_reason", r->boot_reason);
        jw_int(out, "reset_count", r->reset_count);
        jw_uuid(out, "node_id", r->node_id);
        if (!pl_uuid_is_zero(r->account_id)) {
            jw_uuid(out, "account_id", r->account_id);
            jw_uuid(out, "device_id", r->device_id);
        }
        jw_close(out);
    }
    jw_end_array(out);
    return PL_OK;
}

enum pl_err device_count_hubs(struct db_tx *tx, struct pl_uuid node_id, int64_t *ret)
{
    struct device_sql_links_of_row row;
    bool found;
    enum pl_err e = device_sql_links_of(tx, node_id, &row, &found);
    if (e == PL_OK)
        *ret = row.hubs;
    return e;
}
