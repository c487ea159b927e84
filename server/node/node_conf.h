/* node_conf.h - the settings of porchlightd, one row each. An empty file is a good file. */
#pragma once
#include "conf.h"

struct node_conf {
    struct pl_str db, data_dir, migrations_dir;
    struct pl_str http_listen, ws_listen, admin_listen;
    struct pl_str server_name, log_level;
    struct pl_str smtp_url, smtp_from, sms_webhook;
    int64_t workers, queue, link_workers;
    int64_t max_connections, max_per_address;
    int64_t drain;
};
extern const struct conf_row node_conf_rows[];
