/* ctl_nats.h - a private nats-server for several nodes on one machine: loopback, a free port, a token of this folder, nothing kept.
 *
 * Not here: what goes over it (bus/ seals it). Threads: one. Memory: the arena's.
 *     e = nats_prepare(&paths, arena, &nats, reterr);  e = sup_start(&sup, &nats.proc, 60 * PL_SECOND, reterr);
 */
#pragma once
#include "ctl_file.h"
#include "ctl_proc.h"

struct nats {
    struct proc proc;       /**< ready to be started */
    const char *url;        /**< for porchlightd: bus.nats_url */
    const char *token_file; /**< for porchlightd: bus.nats_token_file */
    unsigned port;
};
/* Writes its settings below keys/ and fills the process row. PL_NOT_FOUND with what to install. */
PL_MUST enum pl_err nats_prepare(const struct ctl_paths *paths, struct pl_arena *a, struct nats *ret, struct pl_fail *reterr);
