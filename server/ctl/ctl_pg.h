/* ctl_pg.h - a private PostgreSQL cluster in a folder: made once, reached by a Unix socket only, run as a system user when porchctl is root.
 *
 * PostgreSQL refuses to run as root, so root's cluster belongs to the system user `porchlight` (made when absent; `postgres` if it cannot be made). That user
 * may be unable to walk to the folder (a home, a private temporary folder), so the server gets the opened folders as descriptors and names them by
 * /proc/self/fd. Who may log in is decided by the kernel's word for who asks (peer): root, porchctl's user, and the system user, nobody else.
 * No cluster of the system is touched.  Threads: one.
 *     e = pg_prepare(&sup, &paths, arena, &pg, reterr);  e = sup_start(&sup, &pg.proc, 60 * PL_SECOND, reterr);
 */
#pragma once
#include "ctl_file.h"
#include "ctl_proc.h"

struct pg {
    struct proc proc;        /**< ready to be started */
    const char *bin;         /**< folder of initdb and postgres */
    const char *user;        /**< system user that it runs as */
    const char *conninfo;    /**< for porchlightd */
    const char *pid_file;
    bool made;               /**< this call made the cluster */
};
/* Finds the programs: $PORCHLIGHT_PG_BIN, Debian's folder, PATH. PL_NOT_FOUND with what to install. */
PL_MUST enum pl_err pg_find(struct pl_arena *a, const char **ret_bin, struct pl_fail *reterr);
/* Makes the cluster if DIR has none, and fills the process row. */
PL_MUST enum pl_err pg_prepare(struct sup *s, const struct ctl_paths *paths, struct pl_arena *a, struct pg *ret, struct pl_fail *reterr);
