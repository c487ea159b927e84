/* Claims: the app's intent, and the device's own proof (S-D2, S-D4, S-D5, S-D8). */
#include "device_priv.h"

/* For those who may add devices. */
static enum pl_err claim_event(struct db_tx *tx, struct pl_utc now, struct pl_uuid system_id, struct pl_uuid id, const char *state, struct pl_str code)
{
    struct pl_buf b = pl_buf_init(db_arena(tx), 1024);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_uuid(&w, "claim_id", id);
    jw_z(&w, "state", state);
    if (code.p)
        jw_str(&w, "code", code);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    return e == PL_OK ? system_event(tx, now, system_id, SYSTEM_MANAGE, "claim.state", pl_buf_view(&b)) : e;
}

enum pl_err device_claim_end(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid system_id, struct pl_uuid id, const char *state, const char *code)
{
    enum pl_err e = device_sql_claim_end(tx, id, pl_str_of(state), pl_str_of(code), (struct pl_uuid){ { 0 } }, now, NULL);
    if (e != PL_OK || (e = device_sql_slot_drop_claim(tx, account_id, system_id, id, NULL)) != PL_OK)
        return e;
    return claim_event(tx, now, system_id, id, state, pl_str_of(code));
}

enum pl_err device_claim_state(struct db_tx *tx, struct pl_utc now, struct pl_uuid system_id, struct pl_uuid id, const char *state, struct pl_str wifi_error)
{
    int64_t changed;
    enum pl_err e = device_sql_claim_progress(tx, id, pl_str_of(state), wifi_error, &changed);
    return e == PL_OK && changed ? claim_event(tx, now, system_id, id, state, wifi_error) : e;
}

void device_claim_members(struct jw *w, const struct device_sql_claim_find_row *r, struct pl_utc now)
{
    bool over = r->ended_at.us != 0, late = !over && pl_utc_cmp(now, r->expires_at) >= 0;
    jw_uuid(w, "id", r->id);
    jw_str(w, "state", late ? PL_STR("expired") : r->state);
    jw_str(w, "code", late ? PL_STR("claim_expired") : r->code);
    jw_str(w, "wifi_error", r->wifi_error);
    jw_int(w, "expires_in", over ? 0 : pl_seconds_up(pl_utc_sub(r->expires_at, now)));
    jw_str(w, "challenge", over || late ? PL_STR_NONE : r->challenge);
    jw_str(w, "serial", r->serial);
    jw_b64(w, "public_key", r->public_key.p, r->public_key.n);
    jw_str(w, "kind", r->kind);
    jw_uuid(w, "system_id", r->system_id);
    if (pl_uuid_is_zero(r->device_id))
        jw_null(w, "device_id");
    else
        jw_uuid(w, "device_id", r->device_id);
    jw_utc(w, "created_at", r->created_at);
}

enum pl_err device_claim_write(struct db_tx *tx, struct jw *w, struct pl_utc now, struct pl_uuid home_id, struct pl_uuid id)
{
    struct device_sql_claim_find_row r;
    enum pl_err e = device_sql_claim_find(tx, id, home_id, &r, NULL);
    if (e == PL_OK)
        device_claim_members(w, &r, now);
    return e;
}

/* ---- Starting ---- */

/* One POST under way. */
struct start {
    struct device_ctx *ctx;
    struct db_tx *tx;
    struct pl_utc now;
    const struct device_claim_ask *ask;
    struct device_sql_inventory_find_row made;
    struct device_sql_bound_row own; /* id zero: not bound where who asks may add devices */
    struct pl_uuid home_id, system_id; /* asked for, or where the device is already */
    struct pl_uuid hub_id;           /* of that system; zero: none */
    struct pl_str hub_serial;
    bool counted;
};

/* S-D5: counts a failure that a stranger could learn something from. */
static enum pl_err count(struct start *s, bool serial_too)
{
    enum pl_err e = device_sql_meter_failed(s->tx, s->ask->who->account_id, NULL);
    if (e == PL_OK && serial_too)
        e = device_sql_inventory_failed(s->tx, s->ask->serial, s->now, pl_utc_add(s->now, -PL_DAY), NULL);
    s->counted = e == PL_OK;
    return e;
}

static enum pl_err refuse(struct start *s, bool serial_too, enum pl_err why)
{
    enum pl_err e = count(s, serial_too);
    return e == PL_OK ? why : e;
}

static enum pl_err check_meter(struct start *s, struct pl_fail *reterr)
{
    struct device_sql_meter_take_row r;
    enum pl_err e = device_sql_meter_take(s->tx, s->ask->who->account_id, s->now, pl_utc_add(s->now, -PL_HOUR), &r, NULL);
    if (e != PL_OK || r.failures < DEVICE_FAILURES_HOUR)
        return e;
    if (reterr)
        reterr->retry_after_s = pl_seconds_up(pl_utc_sub(pl_utc_add(r.since, PL_HOUR), s->now));
    return PL_RATE_LIMITED;
}

/* S-D4: the owners hear of it, once a day at most; the caller learns only that it is taken. */
static enum pl_err tell_owner(struct start *s)
{
    struct device_sql_binding_tried_row owner;
    struct device_sql_name_of_row name;
    bool found;
    enum pl_err e = device_sql_binding_tried(s->tx, s->ask->serial, s->now, pl_utc_add(s->now, -PL_DAY), &owner, &found);
    if (e != PL_OK || !found || (e = device_sql_name_of(s->tx, owner.account_id, owner.device_id, &name, &found)) != PL_OK || !found)
        return e;
    return system_tell_owners(s->ctx->account, s->tx, s->now, name.system_id, NOTIFY_DEVICE_TRIED, name.name);
}

static enum pl_err check_setup_code(struct start *s, bool own, struct pl_fail *reterr)
{
    uint8_t given[32];
    if (s->ask->setup_code.p) {
        enum pl_err e = device_setup_code_hash(db_arena(s->tx), s->ask->serial, s->ask->setup_code, given);
        if (e != PL_OK)
            return e;
        return secure_eq(given, sizeof given, s->made.setup_code_hash.p, s->made.setup_code_hash.n) ? PL_OK : refuse(s, true, PL_SETUP_CODE_WRONG);
    }
    bool fresh = pl_utc_cmp(s->made.failures_since, pl_utc_add(s->now, -PL_DAY)) > 0;
    if (!own && fresh && s->made.failures >= DEVICE_FAILURES_DAY && s->made.setup_code_hash.p)
        return pl_fail_field(reterr, PL_SETUP_CODE_WRONG, "setup_code", "Too many tries to add this serial number today: its setup code is needed.");
    return PL_OK;
}

/* Is it bound in a system in which who asks may add devices? Everywhere else it is somebody else's, though it be the same home's. */
static enum pl_err find_own(struct start *s)
{
    struct system_row system;
    struct device_sql_bound_row b;
    bool found;
    enum pl_err e = device_sql_bound(s->tx, s->ask->serial, &b, &found);
    if (e != PL_OK || !found)
        return e;
    e = system_may(s->tx, s->now, s->ask->who, b.system_id, SYSTEM_MANAGE, &system, /* reterr= */ NULL);
    if (e == PL_NOT_FOUND || e == PL_FORBIDDEN)
        return PL_OK;
    s->own = b;
    return e;
}

/* Whose is it? */
static enum pl_err check_serial(struct start *s, struct pl_fail *reterr)
{
    struct device_sql_binding_find_row binding;
    bool found, bound;
    enum pl_err e = device_sql_inventory_find(s->tx, s->ask->serial, &s->made, &found);
    if (e != PL_OK)
        return e;
    if (!found)
        return refuse(s, false, PL_SERIAL_UNKNOWN);
    if ((e = device_sql_binding_find(s->tx, s->ask->serial, &binding, &bound)) != PL_OK || (bound && (e = find_own(s)) != PL_OK))
        return e;
    bool own = !pl_uuid_is_zero(s->own.id);
    if ((e = check_setup_code(s, own, reterr)) != PL_OK)
        return e;
    if (pl_str_eqz(s->made.kind, "hub") != s->ask->hub)
        return pl_fail_field(reterr, PL_WRONG_KIND, "serial", s->ask->hub ? "This serial number is a camera's." : "This serial number is a hub's.");
    if (bound && !own)
        return (e = tell_owner(s)) == PL_OK ? refuse(s, true, PL_ALREADY_REGISTERED) : e;
    if (own) {
        s->home_id = s->own.account_id;
        s->system_id = s->own.system_id;
    }
    return PL_OK;
}

/* Earlier tries to add this device end, here and the caller's own; what they held is free for this one. */
static enum pl_err replace_earlier(struct start *s)
{
    struct device_sql_claims_replace_row *rows;
    size_t n;
    enum pl_err e = device_sql_claims_replace(s->tx, s->home_id, s->ask->serial, s->now, s->system_id, s->ask->who->account_id, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        e = device_sql_slot_drop_claim(s->tx, s->home_id, rows[i].system_id, rows[i].id, NULL);
        if (e == PL_OK)
            e = claim_event(s->tx, s->now, rows[i].system_id, rows[i].id, "refused", PL_STR("replaced"));
    }
    return e;
}

/* S-D8: the slot is held from now on, so that a proof that comes has its place. */
static enum pl_err take_place(struct start *s, struct pl_uuid id, struct pl_utc until, struct pl_fail *reterr)
{
    struct device_sql_hub_of_row hub;
    int64_t taken;
    bool found;
    enum pl_err e = device_sql_slots_clear(s->tx, s->home_id, s->system_id, s->now, NULL);
    if (e != PL_OK || (e = device_sql_hub_of(s->tx, s->home_id, s->system_id, &hub, &found)) != PL_OK)
        return e;
    if (found && !s->ask->hub)
        s->hub_serial = hub.serial;
    if (!s->ask->hub && !found && pl_str_eqz(s->made.kind, "wireless"))
        return PL_HUB_REQUIRED;
    if (!pl_uuid_is_zero(s->own.id))
        return PL_OK; /* it has its place */
    if (s->ask->hub) {
        e = device_sql_slot_take_hub(s->tx, s->home_id, s->system_id, id, until, &taken);
        if (e == PL_OK && !taken)
            e = found ? PL_SYSTEM_HAS_HUB : pl_fail(reterr, PL_SYSTEM_HAS_HUB, "Another hub is being added to this system: wait for it, or delete that claim.");
        return e;
    }
    e = device_sql_slot_take(s->tx, s->home_id, s->system_id, id, until, &taken);
    return e == PL_OK && !taken ? PL_SYSTEM_FULL : e;
}

static enum pl_err start(struct start *s, struct pl_uuid id, struct pl_fail *reterr)
{
    const struct device_claim_ask *ask = s->ask;
    struct system_row system;
    uint8_t raw[16];
    struct pl_utc until = pl_utc_add(s->now, DEVICE_CLAIM_LIFE);
    enum pl_err e = system_take(s->tx, s->now, ask->who, ask->system_id, SYSTEM_MANAGE, &system, reterr);
    if (e != PL_OK)
        return e;
    s->home_id = system.home_id;
    s->system_id = system.id;
    if ((e = check_meter(s, reterr)) != PL_OK || (e = check_serial(s, reterr)) != PL_OK || (e = replace_earlier(s)) != PL_OK ||
        (e = take_place(s, id, until, reterr)) != PL_OK)
        return e;
    pl_rand_fill(s->ctx->rand, raw, sizeof raw);
    struct pl_str challenge = pl_b64url(db_arena(s->tx), raw, sizeof raw);
    if (!challenge.p)
        return PL_NO_MEMORY;
    if ((e = device_sql_claim_add(s->tx, id, s->home_id, ask->who->account_id, ask->who->client_id, s->system_id, ask->serial,
                                 s->made.kind, ask->name, challenge, s->own.id, s->now, until, NULL)) != PL_OK)
        return e;
    return claim_event(s->tx, s->now, s->system_id, id, "waiting_device", PL_STR_NONE);
}

enum pl_err device_claim_start(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now, const struct device_claim_ask *ask, struct device_claim_started *ret,
                               bool *ret_count_it, struct pl_fail *reterr)
{
    struct start s = { .ctx = ctx, .tx = tx, .now = now, .ask = ask };
    struct pl_uuid id = pl_uuid7(ctx->rand, now);
    enum pl_err e = start(&s, id, reterr);
    *ret_count_it = s.counted;
    if (e != PL_OK)
        return e;
    *ret = (struct device_claim_started){ id, s.home_id, s.hub_serial };
    return PL_OK;
}

/* ---- Proving ---- */

/* Refuses for good: the claim is burned, its slot is free, the failure counts for its account and serial. */
static enum pl_err burn(struct db_tx *tx, struct pl_utc now, const struct device_sql_claim_take_row *c, enum pl_err why, bool *ret_keep)
{
    struct device_sql_meter_take_row meter;
    enum pl_err e = device_claim_end(tx, now, c->account_id, c->system_id, c->id, "refused", pl_err_code(why));
    if (e != PL_OK || (e = device_sql_meter_take(tx, c->by_id, now, pl_utc_add(now, -PL_HOUR), &meter, NULL)) != PL_OK ||
        (e = device_sql_meter_failed(tx, c->by_id, NULL)) != PL_OK || (e = device_sql_inventory_failed(tx, c->serial, now, pl_utc_add(now, -PL_DAY), NULL)) != PL_OK)
        return e;
    *ret_keep = true;
    return why;
}

/* A hub may vouch for cameras of its own system only. */
static enum pl_err may_vouch(struct db_tx *tx, const struct device_proof *p, const struct device_sql_claim_take_row *c)
{
    struct device_sql_hub_of_row hub;
    bool found;
    if (pl_str_eq(p->by, p->serial))
        return PL_OK;
    enum pl_err e = device_sql_hub_of(tx, c->account_id, c->system_id, &hub, &found);
    if (e != PL_OK)
        return e;
    return found && pl_str_eq(hub.serial, p->by) && !pl_str_eqz(c->kind, "hub") ? PL_OK : PL_CLAIM_REFUSED;
}

static enum pl_err check_signature(struct db_tx *tx, const struct device_proof *p, const struct device_sql_claim_take_row *c)
{
    struct device_sql_inventory_find_row key;
    struct pl_str text;
    bool found;
    enum pl_err e = device_sql_inventory_find(tx, p->by, &key, &found);
    if (e != PL_OK || (e = secure_claim_text(db_arena(tx), p->serial, c->challenge, &text)) != PL_OK)
        return e;
    if (p->challenge.p && !secure_eq(p->challenge.p, p->challenge.n, c->challenge.p, c->challenge.n))
        return PL_CLAIM_REFUSED;
    return found && secure_verify((const uint8_t *)key.public_key.p, text, (const uint8_t *)p->signature.p) == PL_OK ? PL_OK : PL_CLAIM_REFUSED;
}

static enum pl_err make_device(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now, const struct device_proof *p, const struct device_sql_claim_take_row *c,
                               struct pl_uuid id)
{
    struct device_sql_inventory_find_row made;
    struct pl_str name;
    int64_t filled;
    enum pl_err e = device_sql_slot_fill(tx, c->account_id, c->system_id, c->id, id, &filled);
    if (e != PL_OK || (e = device_sql_inventory_find(tx, c->serial, &made, NULL)) != PL_OK)
        return e;
    if (!filled)
        return PL_CLAIM_REFUSED;
    name = c->name.p ? c->name : made.model;
    if ((e = device_sql_add(tx, c->account_id, id, c->system_id, c->serial, made.kind, made.model, name, !pl_str_eq(p->by, p->serial), now, NULL)) != PL_OK ||
        (e = device_sql_status_add(tx, c->account_id, id, now, NULL)) != PL_OK ||
        (e = journal_fact(tx, ctx->rand, now, JOURNAL_DEVICE_BOUND, c->account_id, id, PL_STR("{}"))) != PL_OK)
        return e;
    return device_event(tx, now, c->system_id, "device.bound", id, "serial", c->serial, "name", name);
}

/* The owner proved a device again that is bound to this account: nothing changes but that it is ready. */
static enum pl_err prove_again(struct db_tx *tx, struct pl_utc now, const struct device_proof *p, const struct device_sql_claim_take_row *c)
{
    int64_t still;
    enum pl_err e = device_sql_again(tx, c->account_id, c->device_id, !pl_str_eq(p->by, p->serial), &still);
    if (e == PL_OK && !still) /* freed meanwhile: nothing is bound */
        return PL_CLAIM_REFUSED;
    return e == PL_OK ? device_event(tx, now, c->system_id, "device.onboarding", c->device_id, "onboarding", PL_STR("ready"), NULL, PL_STR_NONE) : e;
}

static enum pl_err bind_it(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now, const struct device_proof *p, const struct device_sql_claim_take_row *c, struct pl_uuid id,
                           bool *ret_keep)
{
    int64_t bound;
    bool again = !pl_uuid_is_zero(c->device_id);
    enum pl_err e = again ? prove_again(tx, now, p, c) : device_sql_binding_add(tx, c->serial, c->account_id, id, &bound);
    if (e == PL_OK && !again)
        e = bound ? make_device(ctx, tx, now, p, c, id) : burn(tx, now, c, PL_ALREADY_REGISTERED, ret_keep);
    if (e != PL_OK || (e = device_sql_claim_end(tx, c->id, PL_STR("bound"), PL_STR_NONE, id, now, NULL)) != PL_OK ||
        (e = claim_event(tx, now, c->system_id, c->id, "bound", PL_STR_NONE)) != PL_OK)
        return e;
    return device_audit(tx, now, id, c->client_id, again ? "device.proved_again" : "device.bound", c->serial, /* why= */ NULL);
}

/* The device did not hear that it was bound and says it again. Only while that binding stands: a claim binds once (S-D2). */
static enum pl_err heard_before(struct db_tx *tx, const struct device_sql_claim_take_row *c, struct device_bound *ret)
{
    struct device_sql_bound_row b;
    bool found;
    if (!pl_str_eqz(c->state, "bound"))
        return pl_str_eqz(c->state, "expired") ? PL_CLAIM_EXPIRED : PL_CLAIM_REFUSED;
    enum pl_err e = device_sql_bound(tx, c->serial, &b, &found);
    if (e != PL_OK)
        return e;
    if (!found || !pl_uuid_eq(b.id, c->device_id))
        return PL_CLAIM_REFUSED;
    *ret = (struct device_bound){ c->account_id, b.id, b.system_id };
    return PL_OK;
}

enum pl_err device_claim_prove(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now, const struct device_proof *p, struct device_bound *ret, bool *ret_keep,
                               struct pl_fail *reterr)
{
    struct device_sql_claim_take_row c;
    bool found;
    (void)reterr;
    enum pl_err e = device_sql_claim_take(tx, p->claim_id, &c, &found);
    if (e != PL_OK)
        return e;
    /* A claim's id is no secret: only a connection of the device that it is for, or of its hub, may spend it. */
    if (!found || !pl_str_eq(c.serial, p->serial))
        return PL_CLAIM_REFUSED;
    if ((e = may_vouch(tx, p, &c)) != PL_OK)
        return e;
    if (!c.ended_at.us && pl_utc_cmp(now, c.expires_at) >= 0)
        return PL_CLAIM_EXPIRED;
    if ((e = check_signature(tx, p, &c)) != PL_OK)
        return e == PL_CLAIM_REFUSED && !c.ended_at.us ? burn(tx, now, &c, PL_CLAIM_REFUSED, ret_keep) : e;
    if (c.ended_at.us)
        return heard_before(tx, &c, ret);
    struct pl_uuid id = pl_uuid_is_zero(c.device_id) ? pl_uuid7(ctx->rand, now) : c.device_id;
    if ((e = bind_it(ctx, tx, now, p, &c, id, ret_keep)) != PL_OK)
        return e;
    *ret = (struct device_bound){ c.account_id, id, c.system_id };
    return PL_OK;
}
