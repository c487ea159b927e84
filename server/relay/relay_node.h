/* relay_node.h - porchlight-relay put together: arguments, what is locked down before strangers are listened to, worker, control, the end.
 *
 * Order: the process that looks up names, clock, key, socket, the connection to the cloud, the lock (relay_lock.h), and only then the worker that reads what strangers
 * send; the ready line is printed once media can come in. SIGTERM and SIGINT end it cleanly.
 *     struct relay_args args;
 *     e = relay_args_read(argc, argv, &args, &fail);
 *     e = relay_node_run(&args, &fail);
 */
#pragma once
#include "log.h"

struct relay_args {
    const char *server;     /**< ws://H:P/relay/v1 or wss://… */
    const char *ca;         /**< for wss://; NULL: the system's */
    const char *id;         /**< UUID */
    const char *key;        /**< file with 64 hex characters */
    const char *media;      /**< H:P */
    const char *advertise;  /**< H:P as hubs and viewers are told; NULL: media's */
    const char *test_clock; /**< file; NULL: none */
    const char *max_sessions; /**< decimal; NULL: 256 */
};
extern const char relay_usage[];
/* PL_INVALID_REQUEST with a sentence. */
PL_MUST enum pl_err relay_args_read(int argc, char **argv, struct relay_args *ret, struct pl_fail *reterr);
/* Runs until a signal ends it. */
PL_MUST enum pl_err relay_node_run(const struct relay_args *args, struct pl_fail *reterr);
