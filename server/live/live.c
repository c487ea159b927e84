#include "live.h"
#include "journal.h"
#include "live_priv.h"
#include "live_sql.h"
#include "power_gen.h"
#include <stdio.h>

#define TELL_TIMEOUT PL_MS /* until a hub's own node has it: whoever tells holds a lane or the jobs' thread. A relay's answer is its own, and not waited for. */
#define LOOK_FOR_REVOKED PL_MINUTE /* after a revocation, for connections that it has not cut; new ones are refused by their key */
#define LIVE_KEPT (30 * PL_DAY) /* ended sessions, for support */

enum pl_err live_stage_add(struct db_tx *tx, struct pl_uuid live_id, const char *stage, struct pl_utc at)
{
    return live_sql_stage(tx, live_id, pl_str_of(stage), at, NULL);
}

static enum pl_err tell_members(struct db_tx *tx, struct pl_utc now, struct pl_uuid live_id, const char *event, const struct pl_buf *b)
{
    struct live_sql_system_of_row of;
    bool found;
    enum pl_err e = pl_buf_err(b);
    if (e != PL_OK || (e = live_sql_system_of(tx, live_id, &of, &found)) != PL_OK || !found)
        return e;
    return system_event(tx, now, of.system_id, SYSTEM_SEE, event, pl_buf_view(b));
}

enum pl_err live_event(struct db_tx *tx, struct pl_utc now, struct pl_uuid live_id, const char *state, const char *code)
{
    struct pl_buf b = pl_buf_init(db_arena(tx), 1024);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_uuid(&w, "live_id", live_id);
    jw_z(&w, "state", state);
    if (code)
        jw_z(&w, "end_code", code);
    jw_close(&w);
    return tell_members(tx, now, live_id, "live.state", &b);
}

enum pl_err live_warning(struct db_tx *tx, struct pl_utc now, struct pl_uuid live_id, const char *code)
{
    struct pl_buf b = pl_buf_init(db_arena(tx), 1024);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_uuid(&w, "live_id", live_id);
    jw_z(&w, "code", code);
    jw_close(&w);
    return tell_members(tx, now, live_id, "live.warning", &b);
}

enum pl_err live_end(struct db_tx *tx, struct pl_utc now, struct pl_uuid live_id, const char *code, struct live_ending **endings)
{
    struct live_sql_end_row row;
    bool found;
    enum pl_err e = live_sql_end(tx, live_id, pl_str_of(code), now, &row, &found);
    if (e != PL_OK || !found)
        return e;
    if ((e = live_sql_place_drop(tx, live_id, NULL)) != PL_OK || (e = live_sql_viewers_drop(tx, row.account_id, live_id, NULL)) != PL_OK ||
        (e = live_stage_add(tx, live_id, "ended", now)) != PL_OK ||
        (e = live_event(tx, now, live_id, "ended", code)) != PL_OK)
        return e;
    struct live_ending *ending = PL_NEW(db_arena(tx), struct live_ending);
    if (!ending)
        return PL_NO_MEMORY;
    *ending = (struct live_ending){ live_id, row.relay_id, row.hub_serial, row.generation, code, /* relay_knows= */ false, *endings };
    *endings = ending;
    return PL_OK;
}

/* `{type, id, live_id, generation, code}`: both ends understand it under their own name for it. */
static struct pl_str stop_text(const struct live_ctx *ctx, struct pl_arena *a, const char *type, const struct live_ending *end)
{
    struct pl_buf b = pl_buf_init(a, 1024);
    struct jw w = live_message(ctx, &b, type);
    jw_uuid(&w, "live_id", end->live_id);
    jw_int(&w, "generation", end->generation);
    jw_z(&w, "code", end->code);
    jw_close(&w);
    return pl_buf_view(&b);
}

void live_tell(const struct live_ctx *ctx, struct pl_arena *a, const struct live_ending *endings)
{
    for (const struct live_ending *end = endings; end; end = end->next) {
        struct pl_str ignored;
        struct pl_fail why = PL_FAIL_INIT;
        /* Who cannot be reached learns it from live.sync at its next hello, and stops by its own clock before that. */
        enum pl_err relay = PL_OK;
        if (!end->relay_knows)
            relay = live_ask_relay(ctx, a, end->relay_id, stop_text(ctx, a, "session.close", end), /* timeout_us= */ 0, &ignored, &why);
        enum pl_err hub = live_ask_hub(ctx, a, end->hub_serial, stop_text(ctx, a, "live.stop", end), TELL_TIMEOUT, &why);
        PL_LOG(ctx->log, PL_INFO, "live.ended", PL_F_UUID("live", end->live_id), PL_F_Z("end_code", end->code), PL_F_Z("relay", pl_err_code(relay == PL_RELAY_TIMEOUT ? PL_OK : relay)),
               PL_F_Z("hub", pl_err_code(hub)));
    }
}

void live_close_spare(const struct live_ctx *ctx, struct pl_arena *a, struct pl_uuid relay_id, struct pl_uuid live_id, int32_t generation)
{
    const struct live_ending spare = { .live_id = live_id, .relay_id = relay_id, .generation = generation, .code = "closed" };
    struct pl_str ignored;
    /* If that is lost, too: it ends without a source, by the relay's own clock. */
    enum pl_err e = live_ask_relay(ctx, a, relay_id, stop_text(ctx, a, "session.close", &spare), TELL_TIMEOUT, &ignored, /* reterr= */ NULL);
    PL_LOG(ctx->log, PL_INFO, "live.spare-closed", PL_F_UUID("live", live_id), PL_F_UUID("relay", relay_id), PL_F_ERR(e == PL_RELAY_TIMEOUT ? PL_OK : e));
}

void live_tell_later(void *told)
{
    const struct live_told *t = told;
    live_tell(t->ctx, t->arena, t->endings);
    enum pl_err e = t->db ? live_cut(t->ctx, t->db) : PL_OK;
    if (e != PL_OK) /* the job does it */
        PL_LOG(t->ctx->log, PL_WARN, "live.not-cut", PL_F_ERR(e));
}

enum pl_err live_device_freed(struct db_tx *tx, struct pl_utc now, struct pl_uuid device_id, struct pl_str serial, struct live_ending **endings)
{
    struct live_sql_of_freed_row *rows;
    size_t n;
    enum pl_err e = live_sql_of_freed(tx, device_id, serial, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = live_end(tx, now, rows[i].id, "device_freed", endings);
    return e;
}

enum pl_err live_account_deleted(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct live_ending **endings)
{
    struct live_sql_of_nobody_row *rows;
    size_t n;
    enum pl_err e = PL_OK;
    do {
        n = 0;
        if (e == PL_OK)
            e = live_sql_of_nobody(tx, account_id, &rows, &n);
        for (size_t i = 0; e == PL_OK && i < n; i++)
            e = live_end(tx, now, rows[i].id, "revoked", endings);
    } while (n);
    if (e == PL_OK)
        e = live_sql_forget_opener(tx, account_id, NULL);
    if (e == PL_OK)
        e = live_sql_forget_stages(tx, account_id, NULL);
    return e == PL_OK ? live_sql_forget(tx, account_id, NULL) : e;
}

static enum pl_err warn(struct db_tx *tx, struct pl_utc now)
{
    struct live_sql_warn_row *rows;
    size_t n;
    enum pl_err e = live_sql_warn(tx, pl_utc_add(now, live_powers[LIVE_BATTERY].warn_s * PL_SECOND), &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        struct pl_buf b = pl_buf_init(db_arena(tx), 1024);
        struct jw w = jw_start(&b);
        jw_open(&w, NULL);
        jw_uuid(&w, "live_id", rows[i].id);
        jw_utc(&w, "expires_at", rows[i].expires_at);
        jw_close(&w);
        e = tell_members(tx, now, rows[i].id, "live.expiring", &b);
    }
    return e;
}

/* The node that a relay is connected to looks whether its key is good still. */
static enum pl_err look_at_relay(struct db_tx *tx, struct pl_uuid id)
{
    char subject[64], text[PL_UUID_TEXT];
    pl_uuid_text(id, text);
    snprintf(subject, sizeof subject, "relay.%s", text);
    return db_tell(tx, subject);
}

/* Every node looks for the connections of revoked relays by itself: what it is told by others may be lost. */
static enum pl_err cut_revoked_relays(struct db_tx *tx, struct pl_utc now)
{
    struct live_sql_relays_revoked_row *rows;
    size_t n;
    enum pl_err e = live_sql_relays_revoked(tx, pl_utc_add(now, -LOOK_FOR_REVOKED), &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = look_at_relay(tx, rows[i].id);
    return e;
}

enum pl_err live_expire(struct db_tx *tx, struct pl_utc now, struct live_ending **endings)
{
    struct live_sql_overdue_row *rows;
    size_t n;
    enum pl_err e = live_sql_overdue(tx, now, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = live_end(tx, now, rows[i].id, pl_utc_cmp(rows[i].expires_at, now) < 0 ? "expired" : "relay_lost", endings);
    if (e == PL_OK)
        e = cut_revoked_relays(tx, now);
    return e == PL_OK ? warn(tx, now) : e;
}

enum pl_err live_clean(struct db_tx *tx, struct pl_utc now)
{
    struct pl_utc before = pl_utc_add(now, -LIVE_KEPT);
    enum pl_err e = live_sql_clean_stages(tx, before, NULL);
    return e == PL_OK ? live_sql_clean(tx, before, NULL) : e;
}

enum pl_err live_relay_enroll(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_str name, const uint8_t public_key[32], struct pl_uuid *ret_id,
                              struct pl_fail *reterr)
{
    struct live_sql_relay_add_row added;
    struct live_sql_relay_by_name_row old;
    bool found;
    struct pl_str key = { (const char *)public_key, 32 };
    enum pl_err e = live_sql_relay_add(tx, pl_uuid7(rand, now), name, key, now, &added, &found);
    if (e == PL_OK && found)
        *ret_id = added.id;
    if (e != PL_OK || found)
        return e;
    if ((e = live_sql_relay_by_name(tx, name, &old, &found)) != PL_OK)
        return e;
    if (!found || !pl_str_eq(old.public_key, key) || old.revoked_at.us)
        return pl_fail(reterr, PL_VERSION_CONFLICT, "A relay of this name is registered with another key, or was revoked. Take another name.");
    *ret_id = old.id;
    return PL_OK;
}

enum pl_err live_relay_revoke(struct db_tx *tx, struct pl_utc now, struct pl_uuid id, struct pl_str *ret_name, struct pl_utc *ret_at)
{
    struct live_sql_relay_revoke_row row;
    bool found;
    enum pl_err e = live_sql_relay_revoke(tx, id, now, &row, &found);
    if (e != PL_OK || !found)
        return e == PL_OK ? PL_NOT_FOUND : e;
    *ret_name = row.name;
    *ret_at = row.revoked_at;
    return look_at_relay(tx, id);
}

enum pl_err live_list_relays(struct db_tx *tx, struct pl_utc now, struct jw *out)
{
    struct live_sql_relay_list_row *rows;
    size_t n;
    enum pl_err e = live_sql_relay_list(tx, now, &rows, &n);
    if (e != PL_OK)
        return e;
    jw_array(out, "relays");
    for (size_t i = 0; i < n; i++) {
        jw_open(out, NULL);
        jw_uuid(out, "id", rows[i].id);
        jw_str(out, "name", rows[i].name);
        jw_bool(out, "connected", rows[i].connected);
        jw_uuid(out, "boot_id", rows[i].boot_id);
        jw_str(out, "media_host", rows[i].media_host);
        if (rows[i].has_media_port)
            jw_int(out, "media_port", rows[i].media_port);
        jw_int(out, "max_sessions", rows[i].max_sessions);
        jw_int(out, "sessions", rows[i].sessions);
        jw_int(out, "viewers", rows[i].viewers);
        jw_int(out, "busy_percent", rows[i].busy);
        jw_utc(out, "seen_at", rows[i].seen_at);
        jw_utc(out, "revoked_at", rows[i].revoked_at);
        jw_close(out);
    }
    jw_end_array(out);
    return PL_OK;
}

enum pl_err live_list_sessions(struct db_tx *tx, struct jw *out)
{
    struct live_sql_running_row *rows;
    size_t n;
    enum pl_err e = live_sql_running(tx, &rows, &n);
    if (e != PL_OK)
        return e;
    jw_array(out, "sessions");
    for (size_t i = 0; i < n; i++) {
        jw_open(out, NULL);
        jw_uuid(out, "live_id", rows[i].id);
        jw_uuid(out, "account_id", rows[i].account_id);
        jw_uuid(out, "device_id", rows[i].device_id);
        jw_str(out, "camera_serial", rows[i].camera_serial);
        jw_str(out, "hub_serial", rows[i].hub_serial);
        jw_uuid(out, "relay_id", rows[i].relay_id);
        jw_int(out, "generation", rows[i].generation);
        jw_str(out, "state", rows[i].state);
        jw_str(out, "end_code", rows[i].end_code);
        jw_int(out, "viewers", rows[i].viewers);
        jw_utc(out, "created_at", rows[i].created_at);
        jw_utc(out, "expires_at", rows[i].expires_at);
        jw_utc(out, "ended_at", rows[i].ended_at);
        jw_close(out);
    }
    jw_end_array(out);
    return PL_OK;
}

enum pl_err live_write_stages(struct db_tx *tx, struct jw *out, struct pl_uuid account_id, struct pl_uuid live_id)
{
    struct live_sql_stages_row *rows;
    size_t n;
    enum pl_err e = live_sql_stages(tx, account_id, live_id, &rows, &n);
    if (e != PL_OK)
        return e;
    jw_array(out, "stages");
    for (size_t i = 0; i < n; i++) {
        jw_open(out, NULL);
        jw_str(out, "name", rows[i].name);
        jw_utc(out, "at", rows[i].at);
        jw_close(out);
    }
    jw_end_array(out);
    return PL_OK;
}

enum pl_err live_write(struct db_tx *tx, struct jw *out, struct pl_uuid account_id, struct pl_uuid live_id)
{
    struct live_sql_get_row row;
    bool found;
    enum pl_err e = live_sql_get(tx, account_id, live_id, &row, &found);
    if (e != PL_OK)
        return e;
    if (!found)
        return PL_NOT_FOUND;
    jw_uuid(out, "live_id", row.id);
    jw_uuid(out, "device_id", row.device_id);
    jw_str(out, "state", row.state);
    if (row.end_code.p)
        jw_str(out, "end_code", row.end_code);
    jw_int(out, "generation", row.generation);
    jw_int(out, "viewers", row.viewers);
    jw_utc(out, "created_at", row.created_at);
    jw_utc(out, "expires_at", row.expires_at);
    if (row.ended_at.us)
        jw_utc(out, "ended_at", row.ended_at);
    if (row.figures_at.us) {
        jw_open(out, "statistics");
        jw_utc(out, "as_of", row.figures_at);
        jw_raw(out, "source", row.source_figures);
        jw_raw(out, "viewers", row.viewer_figures);
        jw_close(out);
    }
    return live_write_stages(tx, out, account_id, live_id);
}

enum pl_err live_explain(struct db_tx *tx, struct pl_uuid live_id, struct jw *out)
{
    struct live_sql_find_any_row whose;
    bool found;
    enum pl_err e = live_sql_find_any(tx, live_id, &whose, &found);
    if (e != PL_OK)
        return e;
    return found ? live_write(tx, out, whose.account_id, live_id) : PL_NOT_FOUND;
}
