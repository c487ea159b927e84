/* ctl_file.h - the data folder: where everything in it stands, and the few file operations that porchctl needs.
 *
 * DIR/up.lock (who runs here) · up.json (the ready line) · admin.sock · master.key · keys/ · pg/ (database cluster) · log/ · run/ (sockets; a short folder under /tmp when
 * DIR's name is too long for a socket address) · inventory.jsonl, demo.json (with --demo).  Everything is 0700/0600.
 *     struct ctl_paths p;  e = ctl_paths_of(c, &p, &fail);
 */
#pragma once
#include "ctl.h"

struct ctl_paths {
    const char *dir, *lock, *ready, *master_key, *keys, *pg, *log, *inventory, *demo;
    const char *run;       /**< sockets */
    const char *pg_socket; /**< folder of the database's socket; also `host` of a conninfo */
    const char *admin;     /**< socket of the admin API */
    const char *relay_key;
};
PL_MUST enum pl_err ctl_paths_of(struct ctl *c, struct ctl_paths *ret, struct pl_fail *reterr);

bool ctl_exists(const char *path);
/* mkdir -p; the last one gets `mode` if it is made. */
PL_MUST enum pl_err ctl_mkdirs(struct pl_arena *a, const char *path, unsigned mode, struct pl_fail *reterr);
/* The whole file, at most `most` bytes; PL_NOT_FOUND when there is none. */
PL_MUST enum pl_err ctl_read(struct pl_arena *a, const char *path, size_t most, struct pl_str *ret, struct pl_fail *reterr);
/* Writes a new file beside it and renames, mode 0600: a reader sees the old or the new one, whole, and nobody else holds it open. */
PL_MUST enum pl_err ctl_write(struct pl_arena *a, const char *path, struct pl_str text, struct pl_fail *reterr);

/* Says why nobody answers in the data folder: it is another user's, or nothing runs there (`how` starts it: "up"). Always PL_UNAVAILABLE. */
PL_MUST enum pl_err ctl_not_running(const struct ctl *c, const struct ctl_paths *p, const char *how, struct pl_fail *reterr);

/* A program of ours (porchlightd, porchlight-relay, porchlight-hub, porchlight-watch): beside porchctl, or in the build's folder for it. */
PL_MUST enum pl_err ctl_program(struct pl_arena *a, const char *name, const char **ret, struct pl_fail *reterr);
/* The folder with the migrations. */
PL_MUST enum pl_err ctl_migrations(struct ctl *c, const char **ret, struct pl_fail *reterr);

/* A new Ed25519 key: its seed and public half as 64 hex digits each, in the arena. */
PL_MUST enum pl_err ctl_key_new(struct pl_arena *a, struct pl_str *ret_seed_hex, struct pl_str *ret_public_hex);
/* The public half of a seed. */
PL_MUST enum pl_err ctl_key_public(struct pl_arena *a, struct pl_str seed_hex, struct pl_str *ret_public_hex);
