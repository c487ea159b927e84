/* node_priv.h - private to node/: the running porchlightd. */
#pragma once
#include "account.h"
#include "admin.h"
#include "device.h"
#include "live.h"
#include "node.h"
#include "node_http.h"
#include "node_jobs.h"
#include "notify.h"
#include "oauth.h"
#include "outside.h"
#include "pin.h"
#include "system.h"

struct node {
    const struct node_conf *conf;
    struct pl_arena *arena;
    const struct pl_clock *clock;
    struct pl_rand *rand;
    struct pl_log log;
    struct db_conf db_conf;
    struct pl_uuid id;
    struct pl_secret master;
    struct bus *bus;
    struct notify *notify;
    struct account *account;
    struct oauth_ctx oauth;
    struct outside *outside;
    struct system_ctx system;
    struct device_ctx device;
    struct live_ctx live;
    struct admin_ctx admin;
    struct node_status status;
    struct http *http, *admin_http, *admin_tcp; /* admin_tcp NULL: none */
    struct link *link;
    struct node_runner *lease, *jobs, *outbox;
    struct pl_utc leased_at; /* when the lease was renewed last; its job's thread, once that runs */
};

/* How long this process counts as alive after its last sign. Renewed by a job every third of it. */
#define NODE_LEASE (15 * PL_SECOND)

extern const struct node_job node_lease_jobs[];
extern const struct node_job node_jobs[];
extern const struct node_job node_outbox_jobs[];
/* The bus that the settings ask for; n->master is there. */
PL_MUST enum pl_err node_bus_new(struct node *n, struct pl_fail *reterr);
/* Handles one fact by the table in node_facts.c, in a transaction. *ret_again: there was one. */
PL_MUST enum pl_err node_handle_fact(struct node *n, struct db *db, struct pl_arena *a, bool *ret_again);
