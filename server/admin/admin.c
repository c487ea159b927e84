#include "admin_int.h"
#include "account.h"
#include "device.h"
#include "journal.h"

struct figures {
    struct admin_sql_status_row node;
    struct live_counts live;
    struct notify_states outbox;
};

static enum pl_err take_figures(struct http_call *c, struct figures *ret)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    bool found;
    enum pl_err e = db_begin(c->db, c->arena, &tx);
    if (e != PL_OK || (e = admin_begin(c, tx)) != PL_OK || (e = admin_sql_status(tx, c->now, &ret->node, &found)) != PL_OK || (e = live_count(tx, c->now, &ret->live)) != PL_OK ||
        (e = notify_count(tx, &ret->outbox)) != PL_OK)
        return e;
    return db_commit(&tx);
}

static void write_figures(struct jw *w, const struct figures *f)
{
    jw_int(w, "schema_version", f->node.schema_version);
    jw_int(w, "nodes", f->node.nodes);
    jw_int(w, "nodes_draining", f->node.nodes_draining);
    jw_int(w, "relays", f->live.relays);
    jw_int(w, "relays_connected", f->live.connected);
    jw_int(w, "live_sessions", f->live.sessions);
    jw_int(w, "viewers", f->live.viewers);
    jw_open(w, "outbox");
    jw_int(w, "queued", f->outbox.queued);
    jw_int(w, "leased", f->outbox.leased);
    jw_int(w, "sent", f->outbox.sent);
    jw_int(w, "done", f->outbox.done);
    jw_int(w, "expired", f->outbox.expired);
    jw_int(w, "dead", f->outbox.dead);
    jw_int(w, "total", f->outbox.total);
    jw_close(w);
}

/* Answers without its database too: that it is away is what an operator looks for. */
static enum pl_err on_status(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    const struct admin_ctx *ctx = c->self;
    struct figures f;
    enum pl_err e = take_figures(c, &f);
    if (e == PL_UNAUTHENTICATED)
        return e;
    jw_z(&c->out, "database", e == PL_OK ? "ok" : pl_err_code(e));
    jw_z(&c->out, "version", ctx->version);
    jw_utc(&c->out, "started_at", ctx->started_at);
    jw_utc(&c->out, "time", c->now);
    if (e == PL_OK)
        write_figures(&c->out, &f);
    return PL_OK;
}

/* `draining`: it sends whom it serves elsewhere before it ends; `hubs` says how many are still with it. */
static enum pl_err on_nodes(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    struct admin_sql_nodes_row *rows;
    size_t n;
    enum pl_err e = admin_sql_nodes(c->tx, c->now, &rows, &n);
    if (e != PL_OK)
        return e;
    jw_array(&c->out, "nodes");
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        int64_t hubs = 0;
        if (rows[i].alive)
            e = device_count_hubs(c->tx, rows[i].node_id, &hubs);
        jw_open(&c->out, NULL);
        jw_uuid(&c->out, "node_id", rows[i].node_id);
        jw_str(&c->out, "name", rows[i].name);
        jw_str(&c->out, "version", rows[i].version);
        jw_z(&c->out, "state", !rows[i].alive ? "ended" : rows[i].draining_since.us ? "draining" : "up");
        jw_int(&c->out, "hubs", hubs);
        jw_utc(&c->out, "started_at", rows[i].started_at);
        jw_utc(&c->out, "draining_since", rows[i].draining_since);
        jw_utc(&c->out, "lease_until", rows[i].lease_until);
        jw_close(&c->out);
    }
    jw_end_array(&c->out);
    return e;
}

struct device_row {
    struct pl_str serial, model, public_key, setup_code_hash;
    int kind;
};
static const char *const kinds[] = { "hub", "wireless", "mini", "doorbell", NULL };
static const struct json_field device_fields[] = {
    JSON_F(struct device_row, serial, J_SERIAL, J_REQUIRED),
    JSON_F(struct device_row, kind, J_ENUM, J_REQUIRED, .words = kinds),
    JSON_F(struct device_row, model, J_STR, J_REQUIRED, .lo = 1, .hi = 64),
    JSON_F(struct device_row, public_key, J_STR, J_REQUIRED, .lo = 43, .hi = 64),
    JSON_F(struct device_row, setup_code_hash, J_STR, J_OPTIONAL, .lo = 43, .hi = 64),
    J_END,
};
struct inventory_body {
    struct json_list devices;
};
static const struct json_field inventory_fields[] = {
    JSON_F(struct inventory_body, devices, J_ARRAY, J_REQUIRED, .fields = device_fields, .size = sizeof(struct device_row), .hi = 500), J_END };

/* Makers write 32 bytes as 64 hex digits or as base64url. */
static enum pl_err bytes32(struct pl_str text, uint8_t ret[32]) { return text.n == 64 ? pl_unhex(text, ret, 32) : pl_unb64url(text, ret, 32); }

static enum pl_err device_add(struct http_call *c, const struct device_row *row, bool *ret_added, struct pl_fail *reterr)
{
    struct device_made made = { .serial = row->serial, .kind = pl_str_of(kinds[row->kind]), .model = row->model };
    uint8_t hash[32];
    if (bytes32(row->public_key, made.public_key) != PL_OK)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "devices.public_key", "devices.public_key: 32 bytes as hex or base64url are expected for %.*s.", PL_FMT(row->serial));
    if (row->setup_code_hash.p) {
        if (bytes32(row->setup_code_hash, hash) != PL_OK)
            return pl_fail_field(reterr, PL_INVALID_REQUEST, "devices.setup_code_hash", "devices.setup_code_hash: 32 bytes as hex or base64url are expected for %.*s.", PL_FMT(row->serial));
        made.setup_code_hash = (struct pl_str){ (const char *)hash, sizeof hash };
    }
    return device_inventory_add(c->tx, c->now, &made, ret_added, reterr);
}

/* What a maker has made. A serial that is known with the same key is left as it is; with another key the whole call is refused. */
static enum pl_err on_inventory(struct http_call *c, struct pl_fail *reterr)
{
    const struct inventory_body *body = c->body;
    const struct device_row *rows = body->devices.items;
    int64_t imported = 0, known = 0;
    for (size_t i = 0; i < body->devices.n; i++) {
        bool added;
        enum pl_err e = device_add(c, &rows[i], &added, reterr);
        if (e != PL_OK)
            return e;
        imported += added;
        known += !added;
    }
    jw_int(&c->out, "imported", imported);
    jw_int(&c->out, "known", known);
    return admin_did(c, "inventory.imported", "devices", pl_fmt(c->arena, "%lld", (long long)imported));
}

/* S-A10: what is in the messages is shown to the machine's owner alone, and of channels alone that nothing is configured for (notify_list). */
static enum pl_err on_outbox(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    const struct admin_ctx *ctx = c->self;
    struct notify_listed *rows;
    size_t n;
    enum pl_err e = notify_list(ctx->notify, c->tx, c->now, &rows, &n);
    if (e != PL_OK)
        return e;
    jw_array(&c->out, "messages");
    for (size_t i = 0; i < n; i++) {
        jw_open(&c->out, NULL);
        jw_uuid(&c->out, "id", rows[i].id);
        jw_str(&c->out, "kind", rows[i].kind);
        jw_str(&c->out, "channel", rows[i].channel);
        jw_str(&c->out, "to", rows[i].to);
        jw_str(&c->out, "subject", rows[i].subject);
        jw_str(&c->out, "text", admin_is_machine(c) ? rows[i].text : PL_STR_NONE);
        jw_str(&c->out, "pin", admin_is_machine(c) ? rows[i].pin : PL_STR_NONE);
        jw_int(&c->out, "attempts", rows[i].attempts);
        jw_utc(&c->out, "created_at", rows[i].created_at);
        jw_close(&c->out);
    }
    jw_end_array(&c->out);
    return PL_OK;
}

struct relay_body {
    struct pl_str name, public_key;
};
static const struct json_field relay_fields[] = { JSON_F(struct relay_body, name, J_STR, J_REQUIRED, .lo = 1, .hi = 64),
                                                  JSON_F(struct relay_body, public_key, J_STR, J_REQUIRED, .lo = 64, .hi = 64), J_END };

static enum pl_err on_relay(struct http_call *c, struct pl_fail *reterr)
{
    const struct relay_body *body = c->body;
    uint8_t key[32];
    struct pl_uuid id;
    if (pl_unhex(body->public_key, key, sizeof key) != PL_OK)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "public_key", "public_key: 64 hex digits are expected.");
    enum pl_err e = live_relay_enroll(c->tx, c->rand, c->now, body->name, key, &id, reterr);
    if (e != PL_OK)
        return e;
    jw_uuid(&c->out, "id", id);
    return admin_did(c, "relay.enrolled", "relay", body->name);
}

static enum pl_err on_relay_revoke(struct http_call *c, struct pl_fail *reterr)
{
    struct pl_uuid id;
    struct pl_utc at;
    struct pl_str name;
    (void)reterr;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e != PL_OK || (e = live_relay_revoke(c->tx, c->now, id, &name, &at)) != PL_OK)
        return e;
    jw_str(&c->out, "name", name);
    jw_utc(&c->out, "revoked_at", at);
    return admin_did(c, "relay.revoked", "relay", name);
}

static enum pl_err on_relays(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    return live_list_relays(c->tx, c->now, &c->out);
}

static enum pl_err on_sessions(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    return live_list_sessions(c->tx, &c->out);
}

static enum pl_err on_explain(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    struct pl_uuid id;
    enum pl_err e = http_param_uuid(c, "id", &id);
    return e == PL_OK ? live_explain(c->tx, id, &c->out) : e;
}

static enum pl_err on_hubs(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    return device_list_hubs(c->tx, c->now, &c->out);
}

static enum pl_err on_accounts(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    return account_list(c->tx, &c->out);
}

static enum pl_err on_audit(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    struct pl_uuid subject;
    int64_t rows, bad;
    enum pl_err e = http_param_uuid(c, "id", &subject);
    if (pl_str_eqz(http_param(c, "id"), "admins")) {
        subject = admin_chain;
        e = PL_OK;
    }
    if (e != PL_OK || (e = journal_audit_verify(c->tx, subject, &rows, &bad)) != PL_OK)
        return e;
    jw_uuid(&c->out, "subject", subject);
    jw_int(&c->out, "rows", rows);
    jw_bool(&c->out, "whole", bad == 0);
    if (bad)
        jw_int(&c->out, "first_bad", bad);
    return PL_OK;
}

static const struct json_field oauth_client_fields[] = {
    JSON_F(struct oauth_client_new, name, J_STR, J_REQUIRED, .lo = 1, .hi = 64), JSON_F(struct oauth_client_new, redirect_uris, J_STRS, J_REQUIRED, .hi = 12),
    JSON_F(struct oauth_client_new, public, J_BOOL, J_OPTIONAL), J_END };

static enum pl_err on_oauth_client(struct http_call *c, struct pl_fail *reterr)
{
    const struct admin_ctx *ctx = c->self;
    char secret[SECURE_TOKEN_TEXT];
    struct pl_uuid id;
    enum pl_err e = oauth_client_add(ctx->oauth, c->tx, c->rand, c->now, c->body, &id, secret, reterr);
    if (e == PL_OK) {
        jw_uuid(&c->out, "client_id", id);
        jw_str(&c->out, "client_secret", secret[0] ? pl_str_of(secret) : PL_STR_NONE);
    }
    secure_wipe(secret, sizeof secret);
    return e == PL_OK ? admin_did(c, "service.registered", "name", ((const struct oauth_client_new *)c->body)->name) : e;
}

static enum pl_err on_oauth_clients(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    return oauth_client_list(c->tx, &c->out);
}

static enum pl_err on_oauth_client_remove(struct http_call *c, struct pl_fail *reterr)
{
    const struct admin_ctx *ctx = c->self;
    struct pl_uuid id;
    bool more = false;
    (void)reterr;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e == PL_OK)
        e = oauth_client_remove(ctx->oauth, c->tx, c->now, id, &more);
    if (e == PL_OK) {
        jw_bool(&c->out, "more", more);
        http_after(c, notify_wake, (void *)(uintptr_t)ctx->notify);
        e = admin_did(c, "service.removed", "client_id", http_param(c, "id"));
    }
    return e;
}

const struct http_route admin_routes[] = {
    { HTTP_GET, "/admin/v1/status", HTTP_SESSION, on_status, "This node, and what is connected, runs and waits", .tx = HTTP_OWN_TX },
    { HTTP_GET, "/admin/v1/nodes", HTTP_SESSION, on_nodes, "The nodes, and which of them drain" },
    { HTTP_POST, "/admin/v1/inventory", HTTP_SESSION, on_inventory, "Import devices that a maker has made", HTTP_BODY(struct inventory_body, inventory_fields) },
    { HTTP_GET, "/admin/v1/outbox", HTTP_SESSION, on_outbox, "Messages that were not handed to a provider" },
    { HTTP_POST, "/admin/v1/relays", HTTP_SESSION, on_relay, "Register a relay's key", HTTP_BODY(struct relay_body, relay_fields) },
    { HTTP_GET, "/admin/v1/relays", HTTP_SESSION, on_relays, "All relays" },
    { HTTP_DELETE, "/admin/v1/relays/{id}", HTTP_SESSION, on_relay_revoke, "Revoke a relay's key: it is cut, and its sessions end" },
    { HTTP_GET, "/admin/v1/sessions", HTTP_SESSION, on_sessions, "Live sessions, running ones first" },
    { HTTP_GET, "/admin/v1/live/{id}", HTTP_SESSION, on_explain, "One live session with its stages" },
    { HTTP_GET, "/admin/v1/hubs", HTTP_SESSION, on_hubs, "Hubs and hubless cameras with their connections" },
    { HTTP_GET, "/admin/v1/accounts", HTTP_SESSION, on_accounts, "Accounts, masked" },
    { HTTP_POST, "/admin/v1/oauth-clients", HTTP_SESSION, on_oauth_client, "Register a service that may be linked to accounts", HTTP_BODY(struct oauth_client_new, oauth_client_fields) },
    { HTTP_GET, "/admin/v1/oauth-clients", HTTP_SESSION, on_oauth_clients, "Services that may be linked" },
    { HTTP_DELETE, "/admin/v1/oauth-clients/{id}", HTTP_SESSION, on_oauth_client_remove, "Remove a service and unlink it everywhere" },
    { HTTP_GET, "/admin/v1/audit/{id}", HTTP_SESSION, on_audit, "Verify the audit chain of an account, a device or the admins" },
    HTTP_END,
};
