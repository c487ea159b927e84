/* node_conf.h - the settings of porchlightd: its own rows and those of the capabilities, in one table. An empty file is a good file.
 *     struct node_conf conf;
 *     e = node_conf_rows(arena, &rows);   e = conf_load(rows, &conf, path, arena, &fail);
 */
#pragma once
#include "account.h"
#include "oauth.h"
#include "http.h"
#include "notify.h"
#include "outside.h"
#include "pin.h"

struct node_conf {
    struct pl_str db, data_dir, migrations_dir;
    struct pl_str http_listen, ws_listen, admin_listen, admin_tcp;
    struct pl_str server_name, log_level;
    struct pl_str nats_url, nats_token_file;
    int64_t workers, queue, link_workers;
    int64_t max_connections, max_per_address, ws_max_per_address;
    int64_t drain, drain_clients, drain_per_second;
    struct pl_str origins, tls_cert, tls_key, proxies;
    bool behind_proxy;
    struct http_rates rates;
    struct notify_conf notify;
    struct pin_conf pin;
    struct factor_conf factor;
    struct account_settings account;
    struct oauth_settings oauth;
    struct outside_settings outside;
};
extern const char *const node_log_levels[]; /* by enum pl_level, NULL at the end */
/* The whole table, CONF_END at its end; lives in the arena. */
PL_MUST enum pl_err node_conf_rows(struct pl_arena *a, const struct conf_row **ret);
/* What --check looks at beyond the rows, and the start too: notify_long_texts with a link as these settings make it. */
PL_MUST enum pl_err node_long_texts(const struct node_conf *c, struct pl_arena *a, notify_say_long *say, void *arg, struct pl_fail *reterr);
