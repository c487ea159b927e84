#include "ctl_pg.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUPERUSER "postgres" /* the cluster's; the daemons are not it */
#define ROLE "porchlight"
#define DATA_FD "/proc/self/fd/10"
#define SOCKET_FD "/proc/self/fd/11"
#define LEAST_OWN_FD 20 /* above the numbers that children get them as */

enum pl_err pg_find(struct pl_arena *a, const char **ret_bin, struct pl_fail *reterr)
{
    const char *own = getenv("PORCHLIGHT_PG_BIN"), *path = getenv("PATH");
    struct pl_str rest = pl_str_of(path ? path : "");
    const char *dir = own ? own : "/usr/lib/postgresql/15/bin";
    for (;;) {
        struct pl_str initdb = pl_fmt(a, "%s/initdb", dir), server = pl_fmt(a, "%s/postgres", dir);
        if (initdb.p && server.p && access(initdb.p, X_OK) == 0 && access(server.p, X_OK) == 0) {
            *ret_bin = dir;
            return PL_OK;
        }
        if (own || !rest.n)
            break;
        struct pl_str one = pl_str_split(rest, ':', &rest);
        dir = pl_str_z(a, one);
        if (!dir)
            return PL_NO_MEMORY;
    }
    return pl_fail(reterr, PL_NOT_FOUND, "PostgreSQL is missing: install the package postgresql-15 (deploy/install-packages does it).");
}

static enum pl_err find_user(struct sup *s, struct pl_arena *a, const struct ctl_paths *paths, struct pg *pg, struct pl_fail *reterr)
{
    static const char *const useradd = "/usr/sbin/useradd";
    struct passwd *u = geteuid() != 0 ? getpwuid(geteuid()) : getpwnam("porchlight");
    if (!u && geteuid() == 0 && access(useradd, X_OK) == 0) {
        struct proc p = { .name = "useradd", .log = pg->proc.log };
        const char *const args[] = { useradd, "--system", "--no-create-home", "--home-dir", paths->dir, "--shell", "/usr/sbin/nologin", "porchlight" };
        for (size_t i = 0; i < PL_COUNT(args); i++)
            proc_arg(&p, args[i]);
        if (proc_run(s, &p, PL_STR_NONE, 20 * PL_SECOND, NULL) == PL_OK)
            u = getpwnam("porchlight");
    }
    if (!u && geteuid() == 0)
        u = getpwnam("postgres");
    if (!u)
        return pl_fail(reterr, PL_NOT_FOUND, "PostgreSQL does not run as root, and there is no system user porchlight or postgres to run it as.");
    if (geteuid() == 0) {
        pg->proc.uid = u->pw_uid;
        pg->proc.gid = u->pw_gid;
    }
    pg->user = pl_str_z(a, pl_str_of(u->pw_name));
    return pg->user ? PL_OK : PL_NO_MEMORY;
}

/* A folder of the database's user, and a descriptor of it for the child. */
static enum pl_err own_folder(struct pl_arena *a, const struct pg *pg, const char *path, int *ret_fd, struct pl_fail *reterr)
{
    enum pl_err e = ctl_mkdirs(a, path, 0700, reterr);
    if (e != PL_OK)
        return e;
    int low = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), fd = low >= 0 ? fcntl(low, F_DUPFD_CLOEXEC, LEAST_OWN_FD) : -1;
    if (low >= 0)
        close(low);
    if (fd < 0)
        return pl_fail(reterr, PL_IO, "%s cannot be opened: %s.", path, strerror(errno));
    if ((geteuid() == 0 && fchown(fd, pg->proc.uid, pg->proc.gid) != 0) || fchmod(fd, 0700) != 0) {
        close(fd);
        return pl_fail(reterr, PL_IO, "%s cannot be given to the user %s: %s.", path, pg->user, strerror(errno));
    }
    *ret_fd = fd;
    return PL_OK;
}

/* Written at each start: who porchctl runs as may have changed. */
static enum pl_err write_access(struct pl_arena *a, const struct ctl_paths *paths, const struct pg *pg, int fd, struct pl_fail *reterr)
{
    struct passwd *me = getpwuid(geteuid());
    struct { const char *name; struct pl_str text; } files[] = {
        { "pg_hba.conf", pl_fmt(a, "# Made by porchctl up.\nlocal all all peer map=porchlight\n") },
        { "pg_ident.conf", pl_fmt(a, "# Made by porchctl up.\nporchlight root " ROLE "\nporchlight root " SUPERUSER "\nporchlight %s " ROLE "\nporchlight %s " SUPERUSER "\nporchlight %s " ROLE "\n",
                                  pg->user, pg->user, me ? me->pw_name : "root") },
    };
    for (size_t i = 0; i < PL_COUNT(files); i++) {
        int f = openat(fd, files[i].name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        bool ok = f >= 0 && files[i].text.p && write(f, files[i].text.p, files[i].text.n) == (ssize_t)files[i].text.n;
        if (ok && geteuid() == 0)
            ok = fchown(f, pg->proc.uid, pg->proc.gid) == 0;
        if (f >= 0)
            close(f);
        if (!ok)
            return pl_fail(reterr, PL_IO, "%s/%s cannot be written: %s.", paths->pg, files[i].name, strerror(errno));
    }
    return PL_OK;
}

static void row(struct proc *p, const struct pg *pg, const char *name, const char *program, struct pl_arena *a)
{
    *p = (struct proc){ .name = name, .log = pg->proc.log, .uid = pg->proc.uid, .gid = pg->proc.gid };
    memcpy(p->fds, pg->proc.fds, sizeof p->fds);
    proc_arg(p, pl_fmt(a, "%s/%s", pg->bin, program).p);
}

/* In pg.new, renamed when it is whole: a try that was broken off leaves nothing that looks like a cluster. */
static enum pl_err make_cluster(struct sup *s, struct pl_arena *a, const struct ctl_paths *paths, struct pg *pg, struct pl_fail *reterr)
{
    static const char *const initdb[] = { "-D", DATA_FD, "-U", SUPERUSER, "-A", "peer", "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions" };
    static const char *const single[] = { "--single", "-D", DATA_FD, "-c", "log_min_messages=fatal", "template1" };
    const char *half = pl_fmt(a, "%s.new", paths->pg).p;
    struct proc p;
    if (!half)
        return PL_NO_MEMORY;
    if (ctl_exists(half)) {
        struct proc rm = { .name = "rm", .log = pg->proc.log };
        proc_arg(&rm, "/bin/rm");
        proc_arg(&rm, "-rf");
        proc_arg(&rm, half);
        enum pl_err e = proc_run(s, &rm, PL_STR_NONE, 60 * PL_SECOND, reterr);
        if (e != PL_OK)
            return e;
    }
    enum pl_err e = own_folder(a, pg, half, &pg->proc.fds[0], reterr);
    if (e != PL_OK)
        return e;
    row(&p, pg, "initdb", "initdb", a);
    for (size_t i = 0; i < PL_COUNT(initdb); i++)
        proc_arg(&p, initdb[i]);
    e = proc_run(s, &p, PL_STR_NONE, 120 * PL_SECOND, reterr);
    if (e == PL_OK) {
        row(&p, pg, "postgres --single", "postgres", a);
        for (size_t i = 0; i < PL_COUNT(single); i++)
            proc_arg(&p, single[i]);
        e = proc_run(s, &p, PL_STR("CREATE ROLE " ROLE " LOGIN\nCREATE DATABASE " ROLE " OWNER " ROLE "\n"), 60 * PL_SECOND, reterr);
    }
    close(pg->proc.fds[0]);
    pg->proc.fds[0] = 0;
    if (e == PL_OK && rename(half, paths->pg) != 0)
        e = pl_fail(reterr, PL_IO, "%s cannot be renamed: %s.", half, strerror(errno));
    pg->made = e == PL_OK;
    return e;
}

/* postmaster.pid is PostgreSQL's own word to pg_ctl: first line its pid, eighth line "ready". */
static bool is_up(const struct proc *p, void *arg)
{
    const struct pg *pg = arg;
    char text[1024];
    int fd = open(pg->pid_file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text) : 0;
    if (fd >= 0)
        close(fd);
    struct pl_str rest = { text, n > 0 ? (size_t)n : 0 }, line = PL_STR_NONE;
    uint32_t pid;
    for (int i = 1; i <= 8; i++) {
        line = pl_str_split(rest, '\n', &rest);
        if (i == 1 && (pl_parse_u32(line, 1, INT32_MAX, &pid) != PL_OK || (pid_t)pid != p->pid))
            return false;
    }
    return pl_str_eqz(pl_str_trim(line), "ready");
}

static void fill_row(struct pl_arena *a, struct pg *pg)
{
    static const char *const settings[] = { "listen_addresses=", ("unix_socket_directories=" SOCKET_FD), "unix_socket_permissions=0700", "port=5432", "max_connections=100",
        "logging_collector=off", "log_destination=stderr", "log_statement=none", "log_min_error_statement=panic", "log_parameter_max_length=0",
        "log_parameter_max_length_on_error=0", "fsync=on", "full_page_writes=on", "synchronous_commit=on" };
    struct proc *p = &pg->proc;
    proc_arg(p, pl_fmt(a, "%s/postgres", pg->bin).p);
    proc_arg(p, "-D");
    proc_arg(p, DATA_FD);
    for (size_t i = 0; i < PL_COUNT(settings); i++) {
        proc_arg(p, "-c");
        proc_arg(p, settings[i]);
    }
    p->stop_signal = SIGINT; /* fast shutdown: ends connections, loses nothing */
    p->stop_grace = 30 * PL_SECOND;
    p->retries_at_start = 8; /* a server that was cut off may still hold the folder for a moment */
    p->probe = is_up;
    p->probe_arg = pg;
}

enum pl_err pg_prepare(struct sup *s, const struct ctl_paths *paths, struct pl_arena *a, struct pg *ret, struct pl_fail *reterr)
{
    *ret = (struct pg){ .proc = { .name = "PostgreSQL", .log = pl_fmt(a, "%s/postgresql.log", paths->log).p } };
    enum pl_err e = pl_arena_err(a);
    if (e == PL_OK)
        e = pg_find(a, &ret->bin, reterr);
    if (e == PL_OK)
        e = find_user(s, a, paths, ret, reterr);
    if (e == PL_OK && !ctl_exists(pl_fmt(a, "%s/PG_VERSION", paths->pg).p))
        e = make_cluster(s, a, paths, ret, reterr);
    if (e == PL_OK)
        e = own_folder(a, ret, paths->pg, &ret->proc.fds[0], reterr);
    if (e == PL_OK)
        e = own_folder(a, ret, paths->pg_socket, &ret->proc.fds[1], reterr);
    if (e == PL_OK)
        e = write_access(a, paths, ret, ret->proc.fds[0], reterr);
    if (e != PL_OK)
        return e;
    ret->pid_file = pl_fmt(a, "%s/postmaster.pid", paths->pg).p;
    ret->conninfo = pl_fmt(a, "host='%s' port=5432 user=" ROLE " dbname=" ROLE, paths->pg_socket).p;
    fill_row(a, ret);
    return pl_arena_err(a);
}
