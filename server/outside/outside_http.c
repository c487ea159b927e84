/* outside_http.c - linking an account elsewhere, looking at what is linked, undoing it, and logging in by it. */
#include "outside_int.h"

#define STATE "plls"
#define KEY "pllk"

static struct pl_metric metrics[] = {
    PL_METRIC_COUNTER("porchlight_outside_links_total", "Outside accounts that were linked."),
    PL_METRIC_COUNTER("porchlight_outside_log_ins_total", "Log-ins of which an outside account was the first factor."),
    PL_METRIC_COUNTER("porchlight_outside_refused_total", "People who came back from a provider with what proves nothing."),
    PL_METRIC_COUNTER("porchlight_outside_failures_total", "Calls for which a provider did not answer as it should."),
};
enum { M_LINKS, M_LOG_INS, M_REFUSED, M_FAILURES };

void outside_metrics(void) { pl_metrics_register(metrics, PL_COUNT(metrics)); }

static enum pl_err counted(struct http_call *c, const struct outside_provider *p, enum pl_err e, const struct pl_fail *why)
{
    if (e == PL_LINK_REFUSED || e == PL_PROVIDER_UNAVAILABLE) {
        pl_count(&metrics[e == PL_LINK_REFUSED ? M_REFUSED : M_FAILURES], 1);
        PL_LOG(&c->log, PL_WARN, "outside.refused", PL_F_STR("provider", p->name), PL_F_ERR(e), PL_F_Z("why", why->detail));
    }
    return e;
}

static struct pl_str hash_str(const uint8_t hash[32]) { return (struct pl_str){ (const char *)hash, 32 }; }

static enum pl_err provider_of(struct http_call *c, struct outside_provider **ret)
{
    *ret = outside_provider_find(c->self, http_param(c, "provider"));
    return !*ret ? PL_NOT_FOUND : c->db ? PL_OK : PL_UNAVAILABLE;
}

/* ---- what there is ---- */

static void write_providers(struct http_call *c)
{
    const struct outside *ctx = c->self;
    jw_array(&c->out, "providers");
    for (size_t i = 0; i < ctx->n; i++) {
        jw_open(&c->out, NULL);
        jw_str(&c->out, "provider", ctx->providers[i].name);
        jw_str(&c->out, "title", ctx->providers[i].title);
        jw_close(&c->out);
    }
    jw_end_array(&c->out);
}

static enum pl_err on_providers(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    write_providers(c);
    return PL_OK;
}

enum pl_err outside_write_export(struct db_tx *tx, struct jw *w, struct pl_utc now, struct pl_uuid account_id)
{
    struct outside_sql_link_list_row *rows;
    size_t n = 0;
    (void)now;
    enum pl_err e = outside_sql_link_list(tx, account_id, &rows, &n);
    if (e != PL_OK)
        return e;
    jw_array(w, "links");
    for (size_t i = 0; i < n; i++) {
        jw_open(w, NULL);
        jw_str(w, "provider", rows[i].provider);
        jw_str(w, "issuer", rows[i].issuer);
        jw_str(w, "subject", rows[i].subject);
        jw_str(w, "label", rows[i].label);
        jw_utc(w, "linked_at", rows[i].linked_at);
        jw_utc(w, "used_at", rows[i].used_at);
        jw_close(w);
    }
    jw_end_array(w);
    return PL_OK;
}

static enum pl_err on_links(struct http_call *c, struct pl_fail *reterr)
{
    (void)reterr;
    enum pl_err e = outside_write_export(c->tx, &c->out, c->now, c->actor.account_id);
    write_providers(c);
    return e;
}

/* ---- the way out ---- */

struct begin {
    struct http_call *c;
    const struct outside_provider *p;
    struct pl_str endpoint;
    bool log_in;
    struct pl_str key_hash; /* of a log-in */
};

static void parameter(struct pl_buf *b, const char *name, struct pl_str value)
{
    pl_buf_fmt(b, "&%s=", name);
    http_escape(b, value);
}

static enum pl_err write_url(const struct begin *g, struct pl_str state)
{
    struct http_call *c = g->c;
    struct pl_buf b = pl_buf_init(c->arena, 16384);
    struct outside_flow flow;
    enum pl_err e = outside_flow_of(c->self, g->p, c->arena, state, &flow);
    if (e != PL_OK)
        return e;
    pl_buf_fmt(&b, "%.*s%cresponse_type=code", PL_FMT(g->endpoint), pl_str_find(g->endpoint, '?') < g->endpoint.n ? '&' : '?');
    parameter(&b, "client_id", g->p->client_id);
    parameter(&b, "redirect_uri", flow.redirect_uri);
    parameter(&b, "scope", g->p->scopes);
    parameter(&b, "state", state);
    parameter(&b, "nonce", flow.nonce);
    parameter(&b, "code_challenge", flow.challenge);
    parameter(&b, "code_challenge_method", PL_STR("S256"));
    jw_str(&c->out, "authorization_url", pl_buf_view(&b));
    jw_str(&c->out, "redirect_uri", flow.redirect_uri);
    jw_int(&c->out, "expires_in", OUTSIDE_FLOW_LIFE / PL_SECOND);
    return pl_buf_err(&b);
}

static enum pl_err flow_add(const struct begin *g, struct db_tx *tx)
{
    struct http_call *c = g->c;
    struct pl_uuid none = { { 0 } };
    char state[SECURE_TOKEN_TEXT];
    uint8_t hash[32];
    secure_token_new(STATE, state);
    enum pl_err e = secure_token_hash(pl_str_of(state), STATE, hash);
    if (e == PL_OK)
        e = outside_sql_flow_add(tx, hash_str(hash), g->p->name, g->log_in ? none : c->actor.account_id, g->log_in ? none : c->actor.client_id, g->key_hash, c->now, NULL);
    if (e == PL_OK)
        e = write_url(g, pl_str_of(state));
    c->status = 201;
    secure_wipe(state, sizeof state);
    return e;
}

static enum pl_err begin_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    const struct begin *g = arg;
    const struct http_actor *actor = &g->c->actor;
    struct outside_sql_link_has_row row;
    bool found;
    enum pl_err e = outside_sql_link_has(tx, actor->account_id, g->p->name, &row, &found);
    if (e == PL_OK && found)
        return pl_fail(reterr, PL_FACTOR_EXISTS, "An account of this provider is linked already. Remove that link first.");
    if (e == PL_OK)
        e = outside_sql_flow_drop_own(tx, actor->account_id, actor->client_id, g->p->name, NULL);
    return e == PL_OK ? flow_add(g, tx) : e;
}

static enum pl_err on_begin(struct http_call *c, struct pl_fail *reterr)
{
    struct begin g = { .c = c, .key_hash = PL_STR_NONE };
    struct outside_provider *p;
    enum pl_err e = provider_of(c, &p);
    if (e == PL_OK)
        e = counted(c, p, outside_authorization_endpoint(c->self, p, c->arena, &g.endpoint, reterr), reterr);
    g.p = p;
    return e == PL_OK ? http_run(c, begin_tx, &g, reterr) : e;
}

/* The key is what binds the way back to this app: who brings another's code and state has another key. */
static enum pl_err log_in_begin_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct begin *g = arg;
    char key[SECURE_TOKEN_TEXT];
    uint8_t hash[32];
    (void)reterr;
    secure_token_new(KEY, key);
    enum pl_err e = secure_token_hash(pl_str_of(key), KEY, hash);
    g->key_hash = hash_str(hash);
    if (e == PL_OK)
        e = flow_add(g, tx);
    jw_z(&g->c->out, "key", key);
    g->key_hash = PL_STR_NONE;
    secure_wipe(key, sizeof key);
    return e;
}

static enum pl_err on_log_in_begin(struct http_call *c, struct pl_fail *reterr)
{
    struct begin g = { .c = c, .log_in = true, .key_hash = PL_STR_NONE };
    struct outside_provider *p;
    enum pl_err e = provider_of(c, &p);
    if (e == PL_OK)
        e = counted(c, p, outside_authorization_endpoint(c->self, p, c->arena, &g.endpoint, reterr), reterr);
    g.p = p;
    return e == PL_OK ? http_run(c, log_in_begin_tx, &g, reterr) : e;
}

/* ---- the way back ---- */

struct return_body {
    struct pl_str code, state, iss;
};
struct log_in_body {
    struct pl_str code, state, iss, key;
    struct account_client_body client;
    int channel;
    bool has_channel;
};

struct finish {
    struct http_call *c;
    struct outside_provider *p;
    struct pl_str code, state, iss, key_hash; /* key_hash .p NULL: it links */
    struct pl_utc began;
    struct outside_identity who;
};

/* Whatever comes of it: a flow is finished once. */
static enum pl_err spend_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct finish *f = arg;
    const struct http_actor *actor = &f->c->actor;
    struct pl_utc after = pl_utc_add(f->c->now, -OUTSIDE_FLOW_LIFE);
    struct outside_sql_flow_spend_row own;
    struct outside_sql_flow_spend_by_key_row keyed;
    uint8_t hash[32];
    bool found = false;
    enum pl_err e = secure_token_hash(f->state, STATE, hash);
    if (e == PL_OK)
        e = f->key_hash.p ? outside_sql_flow_spend_by_key(tx, hash_str(hash), f->p->name, f->key_hash, after, &keyed, &found)
                          : outside_sql_flow_spend(tx, hash_str(hash), f->p->name, actor->account_id, actor->client_id, after, &own, &found);
    if (e == PL_UNAUTHENTICATED || (e == PL_OK && !found))
        return pl_fail(reterr, PL_EXPIRED, "This was begun elsewhere, is over, or was finished already. Begin again.");
    if (e == PL_OK)
        f->began = f->key_hash.p ? keyed.created_at : own.created_at;
    return e;
}

/* No transaction is open while the provider is asked. */
static enum pl_err find_out(struct finish *f, struct pl_fail *reterr)
{
    struct http_call *c = f->c;
    enum pl_err e = provider_of(c, &f->p);
    if (e == PL_OK)
        e = db_run(c->db, c->arena, spend_tx, f, reterr);
    if (e != PL_OK)
        return e;
    struct outside_return back = { .code = f->code, .state = f->state, .iss = f->iss, .began = f->began, .now = c->now };
    return counted(c, f->p, outside_who(c->self, f->p, c->arena, &back, &f->who, reterr), reterr);
}

/* The owner hears of it by e-mail, his apps by an event. */
static enum pl_err tell(struct http_call *c, struct db_tx *tx, struct pl_str provider, struct pl_str title, bool linked)
{
    const struct outside *ctx = c->self;
    struct pl_buf b = pl_buf_init(c->arena, 256);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_str(&w, "provider", provider);
    jw_z(&w, "change", linked ? "linked" : "unlinked");
    jw_close(&w);
    struct notify_message said = { .kind = NOTIFY_FACTORS_CHANGED, .about = pl_str_of(linked ? "link_added" : "link_removed"), .name = title };
    enum pl_err e = pl_buf_err(&b) == PL_OK ? account_tell_with(ctx->account, tx, c->now, c->actor.account_id, &said) : PL_NO_MEMORY;
    if (e == PL_OK)
        e = journal_audit(tx, c->now, &(struct journal_audit){ .account = c->actor.account_id, .actor = c->actor.client_id, .action = linked ? "link.added" : "link.removed",
                                                                .detail = pl_buf_view(&b) });
    if (e == PL_OK)
        e = journal_event(tx, c->now, c->actor.account_id, (struct pl_uuid){ { 0 } }, "account.links_changed", pl_buf_view(&b));
    return e == PL_OK ? account_delegation_nudge_after(c, ctx->account, c->actor.account_id) : e;
}

static enum pl_err link_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct finish *f = arg;
    struct http_call *c = f->c;
    struct pl_uuid id = c->actor.account_id;
    int64_t subjects = 0, links = 0;
    enum pl_err e = account_hold_client(tx, c->now, &c->actor);
    if (e == PL_OK)
        e = outside_sql_link_add(tx, id, f->p->name, f->p->issuer, f->who.subject, f->who.label, c->now, &links);
    if (e == PL_OK && links != 1)
        return pl_fail(reterr, PL_FACTOR_EXISTS, "An account of this provider is linked already. Remove that link first.");
    if (e == PL_OK)
        e = outside_sql_subject_add(tx, f->p->issuer, f->who.subject, id, &subjects);
    if (e == PL_OK && subjects != 1)
        return PL_LINK_TAKEN; /* and the transaction is undone */
    if (e == PL_OK)
        e = tell(c, tx, f->p->name, f->p->title, true);
    if (e != PL_OK)
        return e;
    c->status = 201;
    jw_str(&c->out, "provider", f->p->name);
    jw_str(&c->out, "label", f->who.label);
    jw_utc(&c->out, "linked_at", c->now);
    return PL_OK;
}

static enum pl_err on_complete(struct http_call *c, struct pl_fail *reterr)
{
    const struct return_body *b = c->body;
    struct finish f = { .c = c, .code = b->code, .state = b->state, .iss = b->iss, .key_hash = PL_STR_NONE };
    enum pl_err e = find_out(&f, reterr);
    if (e == PL_OK && (e = http_run(c, link_tx, &f, reterr)) == PL_OK)
        pl_count(&metrics[M_LINKS], 1);
    return e;
}

static enum pl_err log_in_tx(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct finish *f = arg;
    struct http_call *c = f->c;
    const struct outside *ctx = c->self;
    const struct log_in_body *b = c->body;
    struct outside_sql_subject_find_row row;
    int64_t count = 0;
    bool found;
    enum pl_err e = outside_sql_subject_find(tx, f->p->issuer, f->who.subject, &row, &found);
    if (e == PL_OK && found)
        e = outside_sql_link_used(tx, row.account_id, f->p->issuer, f->who.subject, c->now, &count);
    if (e == PL_OK && count != 1)
        return PL_LINK_UNKNOWN;
    if (e == PL_OK)
        e = account_log_in_as(ctx->account, c, tx, row.account_id, &b->client, b->has_channel ? b->channel : -1, reterr);
    return e == PL_OK ? account_delegation_nudge_after(c, ctx->account, row.account_id) : e;
}

static enum pl_err on_log_in(struct http_call *c, struct pl_fail *reterr)
{
    const struct log_in_body *b = c->body;
    uint8_t hash[32];
    struct finish f = { .c = c, .code = b->code, .state = b->state, .iss = b->iss, .key_hash = hash_str(hash) };
    if (secure_token_hash(b->key, KEY, hash) != PL_OK)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "key", "key: that which came with the address is expected.");
    enum pl_err e = find_out(&f, reterr);
    if (e == PL_OK && (e = http_run(c, log_in_tx, &f, reterr)) == PL_OK)
        pl_count(&metrics[M_LOG_INS], 1);
    return e;
}

/* ---- undoing ---- */

/* Also of a provider that the operator has taken away since. */
static enum pl_err on_unlink(struct http_call *c, struct pl_fail *reterr)
{
    struct pl_str name = http_param(c, "provider");
    const struct outside_provider *p = outside_provider_find(c->self, name);
    struct outside_sql_link_drop_row row;
    bool found;
    (void)reterr;
    enum pl_err e = outside_sql_link_drop(c->tx, c->actor.account_id, name, &row, &found);
    if (e == PL_OK && !found)
        return PL_NOT_FOUND;
    if (e == PL_OK)
        e = outside_sql_subject_drop(c->tx, row.issuer, row.subject, c->actor.account_id, NULL);
    if (e == PL_OK)
        e = outside_sql_flow_drop(c->tx, c->actor.account_id, name, NULL);
    return e == PL_OK ? tell(c, c->tx, name, p ? p->title : name, false) : e;
}

/* ---- the table ---- */

#define RETURN struct return_body
static const struct json_field return_fields[] = { JSON_F(RETURN, code, J_STR, J_REQUIRED, .lo = 1, .hi = 2048), JSON_F(RETURN, state, J_STR, J_REQUIRED, .lo = 1, .hi = 100),
    JSON_F(RETURN, iss, J_STR, J_OPTIONAL, .hi = 512), J_END };
#define LOG_IN struct log_in_body
static const struct json_field log_in_fields[] = { JSON_F(LOG_IN, code, J_STR, J_REQUIRED, .lo = 1, .hi = 2048), JSON_F(LOG_IN, state, J_STR, J_REQUIRED, .lo = 1, .hi = 100),
    JSON_F(LOG_IN, iss, J_STR, J_OPTIONAL, .hi = 512), JSON_F(LOG_IN, key, J_STR, J_REQUIRED, .lo = 1, .hi = 100),
    JSON_F(LOG_IN, client, J_OBJECT, J_OPTIONAL, .fields = account_client_fields), JSON_OPT(LOG_IN, channel, J_ENUM, .words = notify_channel_names), J_END };

const struct http_route outside_routes[] = {
    { HTTP_GET, "/v1/account/links", HTTP_SESSION, on_links, "The outside accounts that are linked, and what else may be" },
    { HTTP_POST, "/v1/account/links/{provider}", HTTP_SESSION, on_begin, "Begin to link an outside account", .tx = HTTP_OWN_TX, .step_up = "change_factors", .idempotent = true,
      .rate = HTTP_RATE_AUTH, .outside = true },
    { HTTP_POST, "/v1/account/links/{provider}/complete", HTTP_SESSION, on_complete, "Link the outside account that came back", HTTP_BODY(RETURN, return_fields), .tx = HTTP_OWN_TX,
      .rate = HTTP_RATE_AUTH, .outside = true },
    { HTTP_DELETE, "/v1/account/links/{provider}", HTTP_SESSION, on_unlink, "Unlink an outside account", .step_up = "change_factors" },
    { HTTP_GET, "/v1/sessions/links", HTTP_PUBLIC, on_providers, "Whose accounts one may log in by" },
    { HTTP_POST, "/v1/sessions/links/{provider}", HTTP_PUBLIC, on_log_in_begin, "Begin to log in by an outside account", .tx = HTTP_OWN_TX, .idempotent = true, .rate = HTTP_RATE_AUTH,
      .outside = true },
    { HTTP_POST, "/v1/sessions/links/{provider}/complete", HTTP_PUBLIC, on_log_in, "Log in by the outside account that came back", HTTP_BODY(LOG_IN, log_in_fields), .tx = HTTP_OWN_TX,
      .rate = HTTP_RATE_AUTH, .outside = true },
    HTTP_END
};
