#include "node_conf.h"

#define ROW(kind, name, member, ...) CONF_##kind(name, struct node_conf, member, __VA_ARGS__)

const struct conf_row node_conf_rows[] = {
    ROW(STR, "db", db, 1024, "", "PostgreSQL, as libpq takes it: host=/run/postgresql dbname=porchlight."),
    ROW(STR, "data_dir", data_dir, 512, "/var/lib/porchlight", "Where master.key lives (made at the first start, mode 0600). Back it up apart from the database."),
    ROW(STR, "migrations_dir", migrations_dir, 512, "/usr/share/porchlight/migrations", "The folder of migrations."),
    ROW(STR, "http.listen", http_listen, 128, "127.0.0.1:8080", "Address of the REST listener; port 0 takes a free one."),
    ROW(STR, "ws.listen", ws_listen, 128, "127.0.0.1:8081", "Address of the WebSocket listener for hubs, apps and relays."),
    ROW(STR, "admin.listen", admin_listen, 108, "unix:/run/porchlight/admin.sock", "The admin listener: a Unix socket of mode 0600."),
    ROW(STR, "server_name", server_name, 253, "porchlight", "The name that devices and relays sign when they say hello to this server."),
    ROW(STR, "log.level", log_level, 8, "info", "The least level that is logged: debug, info, warn or error."),
    ROW(STR, "smtp.url", smtp_url, 512, "", "Where e-mail goes: smtp://host:port or smtps://host:port. Empty: messages wait in the outbox for porchctl outbox."),
    ROW(STR, "smtp.from", smtp_from, 254, "porchlight@localhost", "Sender of e-mail."),
    ROW(STR, "sms.webhook", sms_webhook, 512, "", "Where SMS and voice messages are POSTed. Empty: they wait in the outbox."),
    ROW(NUM, "http.workers", workers, 1, 64, "6", "Threads that run REST handlers, each with a database connection."),
    ROW(NUM, "http.queue", queue, 1, 100000, "512", "REST calls that may wait; past it they get 503 overloaded."),
    ROW(NUM, "link.workers", link_workers, 1, 64, "4", "Threads that run WebSocket handlers, each with a database connection."),
    ROW(NUM, "http.max_connections", max_connections, 16, 19000, "1000", "REST connections at once."),
    ROW(NUM, "http.max_per_address", max_per_address, 1, 19000, "256", "REST connections at once from one address."),
    ROW(DUR, "drain", drain, 0, PL_MINUTE, "5s", "How long a stop waits for calls under way."),
    CONF_END,
};
