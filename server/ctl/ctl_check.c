#include "ctl_check.h"
#include "ctl_pg.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LEAST_FREE_MIB 256u

struct address {
    struct sockaddr_storage ss;
    socklen_t n;
    uint32_t port;
};

static bool parse_address(const char *text, struct address *ret)
{
    char host[64];
    struct address a = { 0 };
    struct sockaddr_in *v4 = (struct sockaddr_in *)&a.ss;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a.ss;
    const char *colon = text ? strrchr(text, ':') : NULL;
    size_t n = colon ? (size_t)(colon - text) : 0;
    if (!n || n >= sizeof host || pl_parse_u32(pl_str_of(colon + 1), 0, 65535, &a.port) != PL_OK)
        return false;
    bool bracket = text[0] == '[' && text[n - 1] == ']';
    struct pl_buf b = pl_buf_fixed(host, sizeof host);
    pl_buf_add(&b, text + bracket, n - 2 * (size_t)bracket);
    if (pl_buf_err(&b) != PL_OK)
        return false;
    if (!bracket && inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)a.port);
        a.n = sizeof *v4;
    } else if (bracket && inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)a.port);
        a.n = sizeof *v6;
    } else
        return false;
    *ret = a;
    return true;
}

enum pl_err check_address(const char *option, const char *text, struct pl_fail *reterr)
{
    struct address a;
    if (parse_address(text, &a))
        return PL_OK;
    return pl_fail(reterr, PL_INVALID_REQUEST, "%s wants HOST:PORT with a numeric host, such as 127.0.0.1:8080 or [::1]:8080; '%s' is none.", option, text);
}

enum pl_err check_loopback(const char *text, struct pl_fail *reterr)
{
    struct address a;
    bool good = parse_address(text, &a);
    if (good && a.ss.ss_family == AF_INET)
        good = ntohl(((const struct sockaddr_in *)&a.ss)->sin_addr.s_addr) >> 24 == 127;
    else if (good)
        good = IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&a.ss)->sin6_addr);
    return good ? PL_OK : pl_fail(reterr, PL_INVALID_REQUEST, "'%s' is neither HOST:PORT on loopback, such as 127.0.0.1:8090, nor unix:PATH, and secrets go nowhere else: "
                                                              "to a server on another machine come by ssh -L 8090:127.0.0.1:8090 HOST.", text);
}

const char *check_dial(struct pl_arena *a, const char *text)
{
    struct pl_str s = pl_str_of(text);
    if (pl_str_starts(s, PL_STR("0.0.0.0:")))
        return pl_fmt(a, "127.0.0.1%s", text + 7).p;
    if (pl_str_starts(s, PL_STR("[::]:")))
        return pl_fmt(a, "[::1]%s", text + 4).p;
    return text;
}

const char *check_dial_name(struct pl_arena *a, const char *text, const char *name)
{
    return name ? pl_fmt(a, "%s%s", name, strrchr(text, ':')).p : check_dial(a, text);
}

const char *check_own_host(struct pl_arena *a)
{
    /* Nobody has these (RFC 5737, RFC 3849). Nothing is sent there: the kernel says what it would be sent from. */
    static const char *const elsewhere[] = { "192.0.2.1:9", "[2001:db8::1]:9" };
    for (size_t i = 0; i < PL_COUNT(elsewhere); i++) {
        struct address to, own;
        char text[INET6_ADDRSTRLEN];
        own.n = sizeof own.ss;
        int fd = parse_address(elsewhere[i], &to) ? socket(to.ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
        bool told = fd >= 0 && connect(fd, (struct sockaddr *)&to.ss, to.n) == 0 && getsockname(fd, (struct sockaddr *)&own.ss, &own.n) == 0;
        if (fd >= 0)
            close(fd);
        bool v6 = told && own.ss.ss_family == AF_INET6;
        const void *at = v6 ? (const void *)&((const struct sockaddr_in6 *)&own.ss)->sin6_addr : (const void *)&((const struct sockaddr_in *)&own.ss)->sin_addr;
        if (told && inet_ntop(own.ss.ss_family, at, text, sizeof text))
            return pl_fmt(a, v6 ? "[%s]" : "%s", text).p;
    }
    return "127.0.0.1";
}

/* Takes the port for a moment, as the daemon will. */
static enum pl_err check_port(const char *option, const char *text, int type, int *ret_fd, struct pl_fail *reterr)
{
    struct address a;
    int one = 1;
    enum pl_err e = check_address(option, text, reterr);
    if (e != PL_OK || !parse_address(text, &a) || a.port == 0)
        return e;
    int fd = socket(a.ss.ss_family, type | SOCK_CLOEXEC, 0);
    if (type == SOCK_STREAM)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&a.ss, a.n) == 0 && (type != SOCK_STREAM || listen(fd, 1) == 0)) {
        *ret_fd = fd;
        return PL_OK;
    }
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (why == EADDRINUSE)
        return pl_fail(reterr, PL_UNAVAILABLE, "Port %u (%s %s) is in use by another program (another Porchlight?). Choose another one, or any free one: %s %.*s:0", a.port, option, text,
                       option, (int)(strrchr(text, ':') - text), text);
    if (why == EADDRNOTAVAIL)
        return pl_fail(reterr, PL_UNAVAILABLE, "%s %s: that address is not of this machine. Listen on one that is; --advertise names another one for media.", option, text);
    return pl_fail(reterr, PL_UNAVAILABLE, "%s %s cannot be listened on: %s.", option, text, strerror(why));
}

static enum pl_err check_ports(const struct ctl *c, struct pl_fail *reterr)
{
    const struct { const char *option, *text; int type; } ports[] = { { "--http", c->http, SOCK_STREAM }, { "--ws", c->ws, SOCK_STREAM }, { "--media", c->media, SOCK_DGRAM } };
    int fds[PL_COUNT(ports)];
    enum pl_err e = PL_OK;
    size_t i;
    for (i = 0; i < PL_COUNT(ports); i++)
        fds[i] = -1;
    for (i = 0; i < PL_COUNT(ports) && e == PL_OK; i++) /* all at once, so that two options with one port are seen */
        e = check_port(ports[i].option, ports[i].text, ports[i].type, &fds[i], reterr);
    for (i = 0; i < PL_COUNT(ports); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (e == PL_OK && !c->advertise && (strncmp(c->media, "0.0.0.0:", 8) == 0 || strncmp(c->media, "[::]:", 5) == 0))
        return pl_fail(reterr, PL_INVALID_REQUEST, "--media %s listens on all addresses: say by --advertise which one hubs and phones shall send to.", c->media);
    return e;
}

static enum pl_err check_disk(const struct ctl_paths *p, struct pl_fail *reterr)
{
    struct statvfs v;
    if (statvfs(p->dir, &v) != 0)
        return pl_fail(reterr, PL_IO, "The disk of %s cannot be asked: %s.", p->dir, strerror(errno));
    uint64_t free_mib = (uint64_t)v.f_bavail * v.f_frsize >> 20;
    if (free_mib < LEAST_FREE_MIB)
        return pl_fail(reterr, PL_IO, "The disk of %s is nearly full: %llu MiB are free, %u are needed.", p->dir, (unsigned long long)free_mib, LEAST_FREE_MIB);
    return PL_OK;
}

/* The descriptor stays open on purpose: the kernel lets go of the lock when this process ends, however it ends. */
static enum pl_err take_lock(const struct ctl_paths *p, struct pl_fail *reterr)
{
    char who[32] = "";
    int fd = open(p->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return pl_fail(reterr, PL_IO, "The folder %s cannot be written: %s.", p->dir, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t n = read(fd, who, sizeof who - 1);
        close(fd);
        return pl_fail(reterr, PL_UNAVAILABLE, "Porchlight runs in %s already (process %.*s).", p->dir, (int)(n > 0 ? n : 0), who);
    }
    if (ftruncate(fd, 0) != 0 || dprintf(fd, "%d", (int)getpid()) <= 0)
        return pl_fail(reterr, PL_IO, "%s cannot be written: %s.", p->lock, strerror(errno));
    return PL_OK;
}

static enum pl_err check_programs(struct ctl *c, struct pl_fail *reterr)
{
    static const char *const names[] = { "porchlightd", "porchlight-relay", "porchlight-hub" };
    const char *found;
    for (size_t i = 0; i < (c->demo ? PL_COUNT(names) : 2); i++) {
        enum pl_err e = ctl_program(c->arena, names[i], &found, reterr);
        if (e != PL_OK)
            return e;
    }
    enum pl_err e = ctl_migrations(c, &found, reterr);
    return e == PL_OK ? pg_find(c->arena, &found, reterr) : e;
}

static enum pl_err make_folders(struct ctl *c, const struct ctl_paths *p, struct pl_fail *reterr)
{
    const char *const folders[] = { p->dir, p->keys, p->log, p->run };
    struct stat st;
    if (strpbrk(p->dir, "'\\\n"))
        return pl_fail(reterr, PL_INVALID_REQUEST, "The name of the data folder may not hold quotes, backslashes or line breaks.");
    for (size_t i = 0; i < PL_COUNT(folders); i++) {
        enum pl_err e = ctl_mkdirs(c->arena, folders[i], 0700, reterr);
        if (e != PL_OK)
            return e;
    }
    if (access(p->dir, W_OK | X_OK) != 0)
        return pl_fail(reterr, PL_IO, "The folder %s cannot be written by this user; choose another one by --dir.", p->dir);
    /* Where the sockets stand must be ours: under /tmp somebody else could have made a folder of that name. */
    if (lstat(p->run, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || chmod(p->run, 0711) != 0)
        return pl_fail(reterr, PL_IO, "%s is not a folder of this user.", p->run);
    return PL_OK;
}

enum pl_err check_before_up(struct ctl *c, const struct ctl_paths *p, struct pl_fail *reterr)
{
    enum pl_err e = make_folders(c, p, reterr);
    if (e == PL_OK)
        e = take_lock(p, reterr);
    if (e == PL_OK)
        e = check_programs(c, reterr);
    if (e == PL_OK)
        e = check_disk(p, reterr);
    return e == PL_OK ? check_ports(c, reterr) : e;
}
