#include "node.h"
#include "journal.h"
#include "node_priv.h"
#include "node_sql.h"
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define TYPE_BASE "https://porchlight.example/errors/"
#define OUTSIDE_QUEUE 4             /* calls that may wait for providers, for each worker */
#define START_WAIT (30 * PL_SECOND) /* for a database that is starting too */

/* Opens a connection once the database answers; each try waits at most db_begin's two seconds. */
static enum pl_err database_wait(struct node *n, struct db **ret, struct pl_fail *reterr)
{
    struct pl_mono until = pl_mono_add(pl_now_mono(n->clock), START_WAIT);
    enum pl_err e = db_open(&n->db_conf, ret);
    if (e != PL_OK)
        return e;
    while ((e = db_ping(*ret)) == PL_UNAVAILABLE && pl_mono_cmp(pl_now_mono(n->clock), until) < 0)
        poll(NULL, 0, 200); /* a refused connection answers at once */
    return e == PL_OK ? e : pl_fail(reterr, e, "the database does not answer");
}

/* What a transaction has written is to be looked at. Before the bus is there, and after it, nobody listens. */
static void told(void *self, const char *subject)
{
    const struct node *n = self;
    if (n->bus)
        bus_nudge(n->bus, subject);
}

static enum pl_err lease_start(struct node *n, struct db *db)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    struct pl_utc now = pl_now_utc(n->clock);
    char name[128] = "";
    if (gethostname(name, sizeof name - 1) != 0)
        name[0] = '\0';
    enum pl_err e = db_begin(db, n->arena, &tx);
    if (e == PL_OK)
        e = node_sql_start(tx, n->id, pl_str_of(name), PL_STR(NODE_VERSION), now, pl_utc_add(now, NODE_LEASE), NULL);
    n->leased_at = now;
    return e == PL_OK ? db_commit(&tx) : e;
}

static enum pl_err check_database(struct node *n, struct pl_fail *reterr)
{
    struct db *db = NULL;
    enum pl_err e = database_wait(n, &db, reterr);
    if (e == PL_OK)
        e = db_schema_read(pl_str_z(n->arena, n->conf->migrations_dir), n->arena, &n->status.schema, reterr);
    if (e == PL_OK)
        e = db_schema_check(db, n->status.schema, n->arena, reterr);
    if (e == PL_OK)
        e = db_durability_check(db, n->arena, reterr);
    if (e == PL_OK)
        e = lease_start(n, db);
    db_close(db);
    return e;
}

/* ---- Assembly: the only place that knows all capabilities. ---- */

static void log_long_text(void *arg, const char *locale, const char *message, unsigned segments)
{
    PL_LOG(arg, PL_WARN, "notify.text-long", PL_F_Z("locale", locale), PL_F_Z("message", message), PL_F_INT("segments", segments));
}

static enum pl_err unlink_all(struct db_tx *tx, struct pl_uuid account_id)
{
    enum pl_err e = oauth_erase(tx, account_id);
    return e == PL_OK ? outside_erase(tx, account_id) : e;
}

static enum pl_err make_capabilities(struct node *n, struct pl_fail *reterr)
{
    const struct node_conf *c = n->conf;
    struct pl_str path = pl_fmt(n->arena, "%.*s/master.key", PL_FMT(c->data_dir));
    enum pl_err e = path.p ? secure_key_file(path.p, true, &n->master, reterr) : PL_NO_MEMORY;
    if (e != PL_OK || (e = node_bus_new(n, reterr)) != PL_OK || (e = notify_new(&c->notify, &n->master, n->bus, &n->log, &n->notify, reterr)) != PL_OK ||
        (e = node_long_texts(c, n->arena, log_long_text, &n->log, reterr)) != PL_OK)
        return e;
    static const struct account_part parts[] = { { "home", device_write_export }, { "sharing", system_write_export }, { "live", live_write_export }, { "outside", outside_write_export },
        { NULL, NULL } };
    e = account_new(&(struct account_conf){ .parts = parts, .member = system_is_member, .unlink = unlink_all, .settings = c->account, .pin = c->pin,
                                              .factor = c->factor, .master = &n->master, .notify = n->notify, .bus = n->bus,
                                              .clock = n->clock, .rand = n->rand, .log = &n->log },
                    &n->account, reterr);
    const char *server_name = pl_str_z(n->arena, c->server_name);
    if (e != PL_OK || !server_name)
        return e != PL_OK ? e : PL_NO_MEMORY;
    n->device = (struct device_ctx){ .bus = n->bus, .clock = n->clock, .rand = n->rand, .log = &n->log, .node_id = n->id, .server_name = server_name, .account = n->account, .system = &n->system,
                                       .welcomed = live_hub_welcome, .welcomed_self = &n->live };
    e = outside_new(&(struct outside_conf){ .settings = c->outside, .link_url = c->account.link_url, .master = &n->master, .account = n->account, .clock = n->clock, .rand = n->rand },
                    &n->outside, reterr);
    if (e != PL_OK)
        return e;
    n->oauth = (struct oauth_ctx){ .settings = c->oauth, .account = n->account };
    n->system = (struct system_ctx){ .bus = n->bus, .rand = n->rand, .account = n->account, .limits = &c->pin.limits };
    n->live = (struct live_ctx){ .bus = n->bus, .clock = n->clock, .rand = n->rand, .log = &n->log, .node_id = n->id, .server_name = server_name,
                                   .outside = c->oauth.issuer };
    if ((e = live_rooms_new(&n->live.rooms)) != PL_OK || (e = live_cuts_new(&n->live.cuts)) != PL_OK)
        return e;
    live_reachable(&n->live, pl_now_utc(n->clock));
    secure_derive(&n->master, "live-way", &n->live.way_key);
    n->admin = (struct admin_ctx){ .notify = n->notify, .oauth = &n->oauth, .live = &n->live, .started_at = n->status.started_at, .version = NODE_VERSION };
    return PL_OK;
}

/* Do hubs find REST at the address that it listens on? Behind a proxy they find it where they are connected to, and "all addresses" is none to go to. */
static bool hubs_find_listener(const struct node_conf *c)
{
    return !c->behind_proxy && !c->proxies.n && !pl_str_starts(c->http_listen, PL_STR("0.0.0.0:")) && !pl_str_starts(c->http_listen, PL_STR("[::]:"));
}

static enum pl_err listen_http(struct node *n, struct pl_fail *reterr)
{
    const struct node_conf *c = n->conf;
    const struct { const struct http_route *routes; void *self; } mounts[] = {
        { node_routes, &n->status }, { account_routes, n->account }, { account_factor_routes, n->account }, { account_token_routes, n->account }, { system_routes, &n->system },
        { oauth_routes, &n->oauth }, { oauth_page_routes, &n->oauth }, { outside_routes, n->outside },
        { device_routes, &n->device }, { live_routes, &n->live },
        { live_whep_routes, &n->live }, { live_whip_routes, &n->live }, { notify_routes, n->notify },
    };
    struct http_conf hc = { .listen = pl_str_z(n->arena, c->http_listen), .type_base = TYPE_BASE, .workers = (unsigned)c->workers, .queue = (unsigned)c->queue,
                            .heavy_workers = (unsigned)c->account.hash_threads, .heavy_queue = (unsigned)c->account.hash_queue,
                            .outside_workers = outside_workers(n->outside), .outside_queue = OUTSIDE_QUEUE * outside_workers(n->outside),
                            .max_connections = (unsigned)c->max_connections, .max_per_address = (unsigned)c->max_per_address,
                            .tls_cert = pl_str_z(n->arena, c->tls_cert), .tls_key = pl_str_z(n->arena, c->tls_key), .behind_proxy = c->behind_proxy,
                            .proxies = pl_str_z(n->arena, c->proxies), .origins = pl_str_z(n->arena, c->origins), .rates = &c->rates, .db = n->db_conf, .clock = n->clock, .rand = n->rand,
                            .log = &n->log, .hooks = account_hooks(n->account) };
    enum pl_err e = http_new(&hc, &n->http, reterr);
    for (size_t i = 0; e == PL_OK && i < PL_COUNT(mounts); i++)
        e = http_mount(n->http, mounts[i].routes, mounts[i].self);
    n->live.rest = hubs_find_listener(c) ? n->http : NULL;
    n->live.rest_tls = c->tls_cert.n > 0;
    return e;
}

/* The machine's owner comes by the Unix socket; over TCP, which is loopback only and where it is wanted, admins come by their credentials, and wrong ones are counted. */
static enum pl_err listen_admin(struct node *n, struct pl_str listen, bool machine, struct http **ret, struct pl_fail *reterr)
{
    struct http_conf hc = { .listen = pl_str_z(n->arena, listen), .machine = machine, .type_base = TYPE_BASE, .workers = 1, .queue = (unsigned)n->conf->queue, .max_body = 1 << 20,
                            .rates = machine ? NULL : &n->conf->rates, .db = n->db_conf, .clock = n->clock, .rand = n->rand, .log = &n->log, .hooks = admin_hooks() };
    enum pl_err e = http_new(&hc, ret, reterr);
    if (e == PL_OK)
        e = http_mount(*ret, admin_routes, &n->admin);
    if (e == PL_OK)
        e = http_mount(*ret, admin_people_routes, &n->admin);
    return e == PL_OK ? http_start(*ret, reterr) : e;
}

static enum pl_err listen_link(struct node *n, struct pl_fail *reterr)
{
    const struct node_conf *c = n->conf;
    const struct link_table hub[] = { { device_messages, &n->device }, { live_hub_messages, &n->live }, { NULL, NULL } };
    const struct link_table relay[] = { { live_relay_messages, &n->live }, { NULL, NULL } };
    struct link_table *hub_tables = PL_NEW_ARRAY(n->arena, 3, struct link_table), *relay_tables = PL_NEW_ARRAY(n->arena, 2, struct link_table);
    struct link_protocol *protocols = PL_NEW_ARRAY(n->arena, 4, struct link_protocol);
    if (!hub_tables || !relay_tables || !protocols)
        return PL_NO_MEMORY;
    memcpy(hub_tables, hub, sizeof hub);
    memcpy(relay_tables, relay, sizeof relay);
    protocols[0] = (struct link_protocol){ .name = "porchlight.relay.v1", .path = "/relay/v1", .threads = 1, .tables = relay_tables, .self = &n->live, .opened = live_relay_opened,
                                           .closed = live_relay_closed, .max_message = 2 << 20, .max_queued = 4 << 20, .messages_per_s = 20000 };
    protocols[1] = account_events_protocol(n->account);
    protocols[2] = (struct link_protocol){ .name = "porchlight.hub.v1", .path = "/hub/v1", .threads = 1, .tables = hub_tables, .self = &n->device, .opened = device_link_opened,
                                           .closed = device_link_closed };
    return link_new(&(struct link_conf){ .listen = pl_str_z(n->arena, c->ws_listen), .workers = (unsigned)c->link_workers, .queue = 4096, .max_per_address = (unsigned)c->ws_max_per_address,
                                         .proxies = pl_str_z(n->arena, c->proxies), .tls_cert = pl_str_z(n->arena, c->tls_cert), .tls_key = pl_str_z(n->arena, c->tls_key),
                                         .behind_proxy = c->behind_proxy, .db = n->db_conf, .clock = n->clock, .rand = n->rand, .log = &n->log, .protocols = protocols },
                    &n->link, reterr);
}

static enum pl_err start(struct node *n, struct pl_fail *reterr)
{
    enum pl_err e = check_database(n, reterr);
    if (e != PL_OK || (e = make_capabilities(n, reterr)) != PL_OK || (e = listen_http(n, reterr)) != PL_OK || (e = listen_link(n, reterr)) != PL_OK ||
        (e = node_runner_start(n, node_lease_jobs, n->bus, /* subject= */ NULL, &n->db_conf, &n->log, &n->lease)) != PL_OK ||
        (e = node_runner_start(n, node_jobs, n->bus, "facts", &n->db_conf, &n->log, &n->jobs)) != PL_OK ||
        (e = node_runner_start(n, node_outbox_jobs, n->bus, "outbox", &n->db_conf, &n->log, &n->outbox)) != PL_OK || (e = http_start(n->http, reterr)) != PL_OK ||
        (e = listen_admin(n, n->conf->admin_listen, true, &n->admin_http, reterr)) != PL_OK ||
        (n->conf->admin_tcp.n && (e = listen_admin(n, n->conf->admin_tcp, false, &n->admin_tcp, reterr)) != PL_OK))
        return e;
    return link_start(n->link, reterr);
}

/* Doors first, so that nothing new comes in; then jobs; then what they all use. */
static void stop(struct node *n, int64_t grace_us)
{
    n->http = http_stop(n->http, grace_us);
    n->link = link_stop(n->link, grace_us);
    n->admin_http = http_stop(n->admin_http, grace_us);
    n->admin_tcp = http_stop(n->admin_tcp, grace_us);
    n->jobs = node_runner_stop(n->jobs);
    n->outbox = node_runner_stop(n->outbox);
    n->lease = node_runner_stop(n->lease);
    n->outside = outside_free(n->outside);
    n->account = account_free(n->account);
    n->notify = notify_free(n->notify);
    n->bus = bus_free(n->bus);
    n->live.rooms = live_rooms_free(n->live.rooms);
    n->live.cuts = live_cuts_free(n->live.cuts);
    pl_secret_wipe(&n->master);
    pl_secret_wipe(&n->live.way_key);
}

#define DRAIN_LOOK_NS 100000000 /* how often the end of a drain is looked for */

/* Before the end: no longer ready, no new WebSockets, and those that are here go elsewhere, by and by. REST answers on, for whoever has not seen yet that this
 * node is not ready. Until all have gone, the time is over or another signal comes: true. */
static bool drain(struct node *n, const sigset_t *signals)
{
    struct pl_mono end = pl_mono_add(pl_now_mono(n->clock), n->conf->drain_clients);
    const struct timespec look = { .tv_nsec = DRAIN_LOOK_NS };
    if (n->conf->drain_clients == 0)
        return false;
    n->status.draining_since = pl_now_utc(n->clock);
    __atomic_store_n(&n->status.draining, true, __ATOMIC_RELEASE);
    node_runner_wake(n->lease); /* operators see it */
    PL_LOG(&n->log, PL_INFO, "node.draining", PL_F_INT("connections", link_connections(n->link)));
    link_drain(n->link, PL_STR("{\"type\":\"reconnect\",\"min_s\":0,\"max_s\":1}"), (unsigned)n->conf->drain_per_second);
    while (link_connections(n->link) > 0 && pl_mono_cmp(pl_now_mono(n->clock), end) < 0)
        if (sigtimedwait(signals, NULL, &look) > 0)
            return true;
    return false;
}

/* SIGHUP: a renewed certificate is taken by both listeners, and nobody who is connected notices. */
static void reload(struct node *n)
{
    struct pl_fail f = PL_FAIL_INIT;
    enum pl_err e = http_reload(n->http, &f);
    if (e == PL_OK)
        e = link_reload(n->link, &f);
    if (e == PL_OK)
        PL_LOG(&n->log, PL_INFO, "node.certificate-read");
    else
        PL_LOG(&n->log, PL_ERROR, "node.certificate-refused", PL_F_ERR(e), PL_F_Z("why", f.detail));
}

static void say_ready(const struct node *n)
{
    char mem[1024];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_bool(&w, "ready", true);
    jw_z(&w, "http", http_address(n->http));
    jw_z(&w, "ws", link_address(n->link));
    jw_z(&w, "admin", http_address(n->admin_http));
    jw_z(&w, "admin_tcp", n->admin_tcp ? http_address(n->admin_tcp) : NULL);
    jw_close(&w);
    printf("%s\n", b.p);
    fflush(stdout);
}

/* Ends the lease, so that presence does not wait for it to run out. */
static void lease_stop(struct node *n)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    struct db *db = NULL;
    enum pl_err e = db_open(&n->db_conf, &db);
    if (e == PL_OK && (e = db_begin(db, n->arena, &tx)) == PL_OK && (e = node_sql_stop(tx, n->id, pl_now_utc(n->clock), NULL)) == PL_OK)
        e = db_commit(&tx);
    if (e != PL_OK)
        PL_LOG(&n->log, PL_WARN, "node.lease-left", PL_F_ERR(e)); /* it runs out by itself */
    db_rollbackp(&tx);
    tx = NULL;
    db_close(db);
}

enum pl_err node_run(const struct node_conf *conf, struct pl_arena *a, struct pl_fail *reterr)
{
    struct node *n = PL_NEW(a, struct node);
    sigset_t signals, ends;
    int got = 0;
    bool at_once = false;
    if (!n)
        return PL_NO_MEMORY;
    *n = (struct node){ .conf = conf, .arena = a, .clock = &pl_clock_system, .rand = &pl_rand_system };
    n->id = pl_uuid7(n->rand, pl_now_utc(n->clock));
    n->log = pl_log_child(NULL, PL_F_UUID("node", n->id));
    n->db_conf = (struct db_conf){ .conninfo = pl_str_z(a, conf->db), .clock = n->clock, .tell = told, .self = n };
    n->status = (struct node_status){ .started_at = pl_now_utc(n->clock) };

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    ends = signals;
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* inherited by every thread: only sigwait sees them */
    signal(SIGPIPE, SIG_IGN);

    enum pl_err e = start(n, reterr);
    if (e == PL_OK) {
        say_ready(n);
        PL_LOG(&n->log, PL_INFO, "node.ready", PL_F_Z("http", http_address(n->http)), PL_F_Z("ws", link_address(n->link)));
        while (sigwait(&signals, &got) == 0 && got == SIGHUP)
            reload(n);
        at_once = drain(n, &ends);
        PL_LOG(&n->log, PL_INFO, "node.stopping", PL_F_INT("signal", got), PL_F_INT("connections", link_connections(n->link)));
    }
    bool leased = n->bus != NULL;
    stop(n, at_once ? 0 : conf->drain);
    if (leased)
        lease_stop(n);
    return e;
}

enum pl_err node_migrate(const struct node_conf *conf, struct pl_arena *a, struct pl_fail *reterr)
{
    struct node n = { .conf = conf, .arena = a, .clock = &pl_clock_system, .db_conf = { .conninfo = pl_str_z(a, conf->db), .clock = &pl_clock_system } };
    struct db *db = NULL;
    unsigned applied = 0;
    enum pl_err e = database_wait(&n, &db, reterr);
    if (e == PL_OK)
        e = db_migrate(db, pl_str_z(a, conf->migrations_dir), a, &applied, reterr);
    if (e == PL_OK)
        printf("{\"migrations_applied\":%u}\n", applied);
    db_close(db);
    return e;
}
