#include "device_priv.h"
#include <stdio.h>

#define TELL_TIMEOUT (500 * PL_MS)
#define UNTOLD (2 * PL_SECOND) /* a nudge takes milliseconds: what waits longer was not told */

void device_subject(struct pl_str serial, char ret[DEVICE_SUBJECT]) { snprintf(ret, DEVICE_SUBJECT, "hub.%.*s", PL_FMT(serial)); }

void device_nudge_hub(struct bus *bus, struct pl_str serial)
{
    char subject[DEVICE_SUBJECT];
    device_subject(serial, subject);
    bus_nudge(bus, subject);
}

/* ---- Inventory ---- */

enum pl_err device_setup_code_hash(struct pl_arena *a, struct pl_str serial, struct pl_str code, uint8_t ret[32])
{
    struct pl_str text = pl_fmt(a, "porchlight-setup-code-v1\n%.*s\n%.*s", PL_FMT(serial), PL_FMT(code));
    if (!text.p)
        return PL_NO_MEMORY;
    secure_sha256(text, ret);
    return PL_OK;
}

enum pl_err device_inventory_add(struct db_tx *tx, struct pl_utc now, const struct device_made *m, bool *ret_added, struct pl_fail *reterr)
{
    struct device_sql_inventory_add_row r;
    bool found;
    if (m->setup_code_hash.p && m->setup_code_hash.n != 32)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "setup_code_hash", "The setup code hash of %.*s is not 32 bytes.", PL_FMT(m->serial));
    enum pl_err e = device_sql_inventory_add(tx, m->serial, m->kind, m->model, (struct pl_str){ (const char *)m->public_key, 32 }, m->setup_code_hash, now, &r, &found);
    if (e != PL_OK)
        return e;
    if (!found)
        return pl_fail(reterr, PL_VERSION_CONFLICT, "The serial %.*s is known with another key or as another kind.", PL_FMT(m->serial));
    *ret_added = r.added;
    return PL_OK;
}

/* ---- What happened ---- */

enum pl_err device_event(struct db_tx *tx, struct pl_utc now, struct pl_uuid system_id, const char *type, struct pl_uuid device_id, const char *name1, struct pl_str value1,
                         const char *name2, struct pl_str value2)
{
    struct pl_buf b = pl_buf_init(db_arena(tx), 4096);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_uuid(&w, "device_id", device_id);
    if (name1)
        jw_str(&w, name1, value1);
    if (name2)
        jw_str(&w, name2, value2);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    return e == PL_OK ? system_event(tx, now, system_id, SYSTEM_SEE, type, pl_buf_view(&b)) : e;
}

enum pl_err device_audit(struct db_tx *tx, struct pl_utc now, struct pl_uuid device_id, struct pl_uuid actor, const char *action, struct pl_str serial, const char *why)
{
    struct pl_buf b = pl_buf_init(db_arena(tx), 1024);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_str(&w, "serial", serial);
    if (why)
        jw_z(&w, "why", why);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    return e == PL_OK ? journal_audit(tx, now, &(struct journal_audit){ .subject = device_id, .actor = actor, .action = action, .detail = pl_buf_view(&b) }) : e;
}

/* ---- Freeing ---- */

static enum pl_err drop_rows(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, const struct device_sql_views_row *d)
{
    enum pl_err e = device_sql_binding_drop(tx, d->serial, account_id, NULL);
    if (e != PL_OK || (e = device_sql_slot_drop_device(tx, account_id, d->id, NULL)) != PL_OK || (e = device_sql_claims_end_device(tx, account_id, d->id, now, NULL)) != PL_OK ||
        (e = device_sql_commands_drop(tx, account_id, d->id, NULL)) != PL_OK || (e = device_sql_commands_end_gateway(tx, account_id, d->serial, now, NULL)) != PL_OK ||
        (e = device_sql_status_drop(tx, account_id, d->id, NULL)) != PL_OK)
        return e;
    return device_sql_drop(tx, account_id, d->id, NULL);
}

enum pl_err device_free(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid actor, const struct device_sql_views_row *d,
                        const char *why, struct device_freed **freed)
{
    struct pl_buf b = pl_buf_init(db_arena(tx), 1024);
    struct jw w = jw_start(&b);
    struct device_freed *f = PL_NEW(db_arena(tx), struct device_freed);
    jw_open(&w, NULL);
    jw_str(&w, "serial", d->serial);
    jw_z(&w, "why", why);
    jw_close(&w);
    enum pl_err e = f ? pl_buf_err(&b) : PL_NO_MEMORY;
    if (e != PL_OK || (e = drop_rows(tx, now, account_id, d)) != PL_OK ||
        (e = journal_fact(tx, ctx->rand, now, JOURNAL_DEVICE_FREED, account_id, d->id, pl_buf_view(&b))) != PL_OK ||
        (e = device_event(tx, now, d->system_id, "device.freed", d->id, "serial", d->serial, "why", pl_str_of(why))) != PL_OK)
        return e;
    *f = (struct device_freed){ d->serial, d->via_hub ? d->gateway_serial : PL_STR_NONE, *freed };
    *freed = f;
    return device_audit(tx, now, d->id, actor, "device.freed", d->serial, why);
}

enum pl_err device_free_system(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid actor, struct pl_uuid system_id,
                               const char *why, struct device_freed **freed)
{
    struct device_sql_views_row *rows;
    size_t n;
    /* Claims first: a proof under way is waited for, and what it has bound is seen below; one that comes later finds its claim ended. */
    enum pl_err e = device_sql_claims_end_system(tx, account_id, system_id, now, NULL);
    if (e == PL_OK)
        e = device_sql_views(tx, account_id, system_id, (struct pl_uuid){ { 0 } }, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = device_free(ctx, tx, now, account_id, actor, &rows[i], why, freed);
    if (e != PL_OK || (e = device_sql_slots_drop_system(tx, account_id, system_id, NULL)) != PL_OK)
        return e;
    return system_delete(tx, ctx->rand, now, account_id, system_id);
}

enum pl_err device_move_home(struct db_tx *tx, struct pl_uuid home_id, struct pl_uuid system_id, struct pl_uuid to)
{
    /* Claims first: a proof under way is waited for, and what it has bound is moved with the rest. */
    static enum pl_err (*const whole[])(struct db_tx *, struct pl_uuid, struct pl_uuid, struct pl_uuid, int64_t *) = { device_sql_move_claims, device_sql_move_bindings,
        device_sql_move_status, device_sql_move_commands, device_sql_move_slots, device_sql_move_devices };
    enum pl_err e = PL_OK;
    for (size_t i = 0; e == PL_OK && i < PL_COUNT(whole); i++)
        e = whole[i](tx, home_id, system_id, to, NULL);
    return e;
}

enum pl_err device_account_deleted(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct device_freed **freed)
{
    struct system_row *systems;
    size_t n;
    enum pl_err e = system_account_deleted(ctx->system, tx, now, account_id, &systems, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        if ((e = system_tell_deleted(ctx->account, tx, now, &systems[i], account_id)) == PL_OK)
            e = device_free_system(ctx, tx, now, systems[i].home_id, (struct pl_uuid){ { 0 } }, systems[i].id, "account_deleted", freed);
    if (e != PL_OK || (e = device_sql_claims_drop(tx, account_id, NULL)) != PL_OK)
        return e;
    return device_sql_meter_drop(tx, account_id, NULL);
}

/* The hub that spoke for a freed camera forgets it. A hub that is away learns it at its next hello. */
static void tell_unbound(struct device_tell *t, const struct device_freed *f)
{
    struct pl_buf b = pl_buf_init(t->arena, 512);
    struct jw w = jw_start(&b);
    char subject[DEVICE_SUBJECT];
    struct pl_str ignored;
    if (!f->gateway.p) {
        device_nudge_hub(t->ctx->bus, f->serial);
        return;
    }
    jw_open(&w, NULL);
    jw_z(&w, "type", "unbound");
    jw_str(&w, "serial", f->serial);
    jw_close(&w);
    device_subject(f->gateway, subject);
    enum pl_err e = pl_buf_err(&b);
    if (e == PL_OK)
        e = bus_ask(t->ctx->bus, subject, pl_buf_view(&b), TELL_TIMEOUT, t->arena, &ignored, /* reterr= */ NULL);
    PL_LOG(t->ctx->log, PL_INFO, "device.unbound", PL_F_STR("serial", f->serial), PL_F_Z("hub", pl_err_code(e)));
}

void device_tell(void *tell)
{
    struct device_tell *t = tell;
    for (const struct device_freed *f = t->freed; f; f = f->next)
        tell_unbound(t, f);
    if (t->freed)
        bus_nudge(t->ctx->bus, "facts");
    if (t->nudge.p)
        device_nudge_hub(t->ctx->bus, t->nudge);
    if (t->mail)
        notify_wake(account_notify(t->ctx->account));
}

void device_tell_freed(struct device_ctx *ctx, struct pl_arena *a, struct device_freed *freed)
{
    device_tell(&(struct device_tell){ .ctx = ctx, .arena = a, .freed = freed });
}

/* ---- Jobs ---- */

static enum pl_err expire_links(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now)
{
    struct device_sql_links_dead_row *rows;
    struct device_sql_bound_row bound;
    size_t n;
    bool found;
    enum pl_err e = device_sql_links_dead(tx, now, ctx->node_id, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        e = device_sql_bound(tx, rows[i].serial, &bound, &found);
        if (e == PL_OK && found)
            e = device_event(tx, now, bound.system_id, "device.connectivity", bound.id, "connectivity", PL_STR("offline"), "cause", PL_STR("cloud_restart"));
    }
    return e;
}

static enum pl_err expire_claims(struct db_tx *tx, struct pl_utc now)
{
    struct device_sql_claims_expire_row *rows;
    size_t n;
    enum pl_err e = device_sql_claims_expire(tx, now, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = device_claim_end(tx, now, rows[i].account_id, rows[i].system_id, rows[i].id, "expired", "claim_expired");
    return e == PL_OK ? device_sql_claims_forget(tx, pl_utc_add(now, -PL_DAY), NULL) : e;
}

enum pl_err device_expire(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now)
{
    struct device_sql_commands_expire_row *rows;
    size_t n;
    enum pl_err e = expire_claims(tx, now);
    if (e != PL_OK || (e = device_sql_commands_expire(tx, now, &rows, &n)) != PL_OK)
        return e;
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = device_command_event(tx, now, rows[i].device_id, rows[i].id, "failed", PL_STR("command_expired"));
    if (e != PL_OK || (e = device_sql_commands_forget(tx, pl_utc_add(now, -7 * PL_DAY), NULL)) != PL_OK)
        return e;
    return expire_links(ctx, tx, now);
}

enum pl_err device_sweep(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now)
{
    struct device_sql_commands_untold_row *rows;
    size_t n;
    enum pl_err e = device_sql_commands_untold(tx, ctx->node_id, pl_utc_add(now, -UNTOLD), now, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        device_nudge_hub(ctx->bus, rows[i].gateway_serial);
    struct device_sql_claims_untold_row *claims;
    if (e != PL_OK || (e = device_sql_claims_untold(tx, ctx->node_id, pl_utc_add(now, -UNTOLD), now, &claims, &n)) != PL_OK)
        return e;
    for (size_t i = 0; i < n; i++)
        device_nudge_hub(ctx->bus, claims[i].serial);
    struct device_sql_links_mistaken_row *links;
    if ((e = device_sql_links_mistaken(tx, ctx->node_id, &links, &n)) != PL_OK)
        return e;
    for (size_t i = 0; i < n; i++) /* its connection looks, and says that it is there */
        device_nudge_hub(ctx->bus, links[i].serial);
    return e;
}
