#include "node_conf.h"

#define ROW(kind, name, member, ...) CONF_##kind(name, struct node_conf, member, __VA_ARGS__)

const char *const node_log_levels[] = { [PL_DEBUG] = "debug", [PL_INFO] = "info", [PL_WARN] = "warn", [PL_ERROR] = "error", NULL };

static const char *const socket_schemes[] = { "unix:/", NULL };
static const char *const nats_schemes[] = { "nats://", NULL };

static const struct conf_row own_rows[] = {
    ROW(STR, "db", db, 1024, "", "PostgreSQL, as libpq takes it: host=/run/postgresql dbname=porchlight."),
    ROW(STR, "data_dir", data_dir, 512, "/var/lib/porchlight", "Where master.key lives (made at the first start, mode 0600). Back it up apart from the database."),
    ROW(STR, "migrations_dir", migrations_dir, 512, "/usr/share/porchlight/migrations", "The folder of migrations."),
    ROW(LISTEN, "http.listen", http_listen, 128, "127.0.0.1:8080", "Address of the REST listener; port 0 takes a free one."),
    ROW(STR, "http.tls_cert", tls_cert, 512, "", "Certificate chain (PEM) of both listeners, REST and WebSocket; without it only loopback is listened on."),
    ROW(STR, "http.tls_key", tls_key, 512, "", "The certificate's key (PEM)."),
    ROW(BOOL, "http.insecure_behind_proxy", behind_proxy, "false", "Both listeners go without TLS on any address: a proxy with TLS stands in front."),
    ROW(STR, "http.trusted_proxies", proxies, 1024, "", "Addresses of proxies, parted by blanks, whose X-Forwarded-For says who calls, and for which ws.max_per_address does not count."),
    ROW(STR, "http.allowed_origins", origins, 4096, "", "Web pages that may use the REST API (CORS): origins like https://app.example, parted by blanks."),
    ROW(LISTEN, "ws.listen", ws_listen, 128, "127.0.0.1:8081", "Address of the WebSocket listener for hubs, apps and relays."),
    ROW(NUM, "ws.max_per_address", ws_max_per_address, 1, 18000, "1000", "WebSockets at once from one address, those whose handshake is not done included."),
    ROW(URL, "admin.listen", admin_listen, 112, socket_schemes, "unix:/run/porchlight/admin.sock", "The admin listener of whoever owns the machine: a Unix socket of mode 0600."),
    ROW(LISTEN, "admin.tcp", admin_tcp, 128, "", "One more admin listener, for admins with a credential (porchctl admin): HOST:PORT on loopback. Empty: none."),
    ROW(STR, "server_name", server_name, 253, "porchlight", "The name that devices and relays sign when they say hello to this server."),
    ROW(URL, "bus.nats_url", nats_url, 1000, nats_schemes, "", "NATS, when several porchlightd serve one database: nats://host:4222, more with commas. Empty: this is the only one."),
    ROW(STR, "bus.nats_token_file", nats_token_file, 512, "", "A file with the token that NATS wants, when it wants one."),
    ROW(WORD, "log.level", log_level, node_log_levels, "info", "The least level that is logged: debug, info, warn or error."),
    ROW(NUM, "http.workers", workers, 1, 64, "6", "Threads that run REST handlers, each with a database connection."),
    ROW(NUM, "http.queue", queue, 1, 100000, "512", "REST calls that may wait; past it they get 503 overloaded."),
    ROW(NUM, "link.workers", link_workers, 1, 64, "4", "Threads that run WebSocket handlers, each with a database connection."),
    ROW(NUM, "http.max_connections", max_connections, 16, 19000, "1000", "REST connections at once."),
    ROW(NUM, "http.max_per_address", max_per_address, 1, 19000, "256", "REST connections at once from one address."),
    ROW(DUR, "drain", drain, 0, PL_MINUTE, "5s", "How long a stop waits for calls under way."),
    ROW(DUR, "drain_clients", drain_clients, 0, PL_HOUR, "30s", "How long a stop waits before that for hubs, apps and relays to go to other nodes; 0: they are cut."),
    ROW(NUM, "drain_per_second", drain_per_second, 1, 100000, "1000", "How many of them a stop sends away a second."),
    CONF_END,
};

static size_t count(const struct conf_row *rows)
{
    size_t n = 0;
    while (rows[n].type != CONF_T_END)
        n++;
    return n;
}

/* The capabilities' rows are about their own structs: moved by where these stand in ours. */
enum pl_err node_conf_rows(struct pl_arena *a, const struct conf_row **ret)
{
    const struct { const struct conf_row *rows; size_t at; } parts[] = {
        { own_rows, 0 },
        { http_rate_conf_rows, offsetof(struct node_conf, rates) },
        { notify_conf_rows, offsetof(struct node_conf, notify) },
        { limit_conf_rows, offsetof(struct node_conf, pin) + offsetof(struct pin_conf, limits) },
        { pin_conf_rows, offsetof(struct node_conf, pin) },
        { factor_conf_rows, offsetof(struct node_conf, factor) },
        { account_conf_rows, offsetof(struct node_conf, account) },
        { oauth_conf_rows, offsetof(struct node_conf, oauth) },
        { outside_conf_rows, offsetof(struct node_conf, outside) },
    };
    size_t total = 1, k = 0;
    for (size_t i = 0; i < PL_COUNT(parts); i++)
        total += count(parts[i].rows);
    struct conf_row *all = PL_NEW_ARRAY(a, total, struct conf_row); /* zeroed: the last is CONF_END */
    if (!all)
        return PL_NO_MEMORY;
    for (size_t i = 0; i < PL_COUNT(parts); i++)
        for (size_t r = 0; parts[i].rows[r].type != CONF_T_END; r++) {
            all[k] = parts[i].rows[r];
            all[k++].offset += parts[i].at;
        }
    *ret = all;
    return PL_OK;
}

enum pl_err node_long_texts(const struct node_conf *c, struct pl_arena *a, notify_say_long *say, void *arg, struct pl_fail *reterr)
{
    struct pl_str link = pl_fmt(a, "%.*s/undo#plun_%043d", PL_FMT(c->account.link_url), 0);
    return link.p ? notify_long_texts(&c->notify, link, a, say, arg, reterr) : PL_NO_MEMORY;
}
