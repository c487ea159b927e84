/* node.h - porchlightd: the mains' one door. Parses, assembles the capabilities, runs until told to stop.
 *
 * Everything that knows all capabilities lives in this folder: the list of routes and message tables (node.c), the table of fact handlers (node_facts.c), the
 * jobs (node_jobs.c), the routes about the process itself (node_http.c). Not here: rules, which live in the capabilities.
 * Threads: node_run belongs to the main thread and starts all others.  Memory: the settings' arena outlives the run.
 *     enum pl_err e = node_run(&conf, &(struct node_io){ .clock = &pl_clock_system, .rand = &pl_rand_system }, &fail);
 */
#pragma once
#include "node_conf.h"
#include "rand.h"

#define NODE_VERSION "0.1.0"

/* Starts all, prints the ready line on stdout, runs until SIGTERM or SIGINT, stops in order. */
PL_MUST enum pl_err node_run(const struct node_conf *conf, struct pl_arena *a, struct pl_fail *reterr);
/* Applies the migrations and prints how many were new. */
PL_MUST enum pl_err node_migrate(const struct node_conf *conf, struct pl_arena *a, struct pl_fail *reterr);
