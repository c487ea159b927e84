#include "ctl_file.h"
#include "ctl_paths.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* The longest name that stands below run/: the database's socket. */
#define LONGEST_SOCKET "/pg/.s.PGSQL.5432"
#define SEED 32

/* FNV-1a: names a short folder for a long one; what stands in it is protected by mode and owner, not by the name. */
static uint64_t short_name(const char *z)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (; *z; z++)
        h = (h ^ (uint8_t)*z) * UINT64_C(1099511628211);
    return h;
}

enum pl_err ctl_paths_of(struct ctl *c, struct ctl_paths *ret, struct pl_fail *reterr)
{
    struct pl_arena *a = c->arena;
    struct sockaddr_un limit;
    struct ctl_paths p = { .dir = c->dir };
    p.run = pl_fmt(a, "%s/run", c->dir).p;
    const char *admin_in = c->dir;
    if (p.run && strlen(p.run) + strlen(LONGEST_SOCKET) >= sizeof limit.sun_path)
        admin_in = p.run = pl_fmt(a, "/tmp/porchlight-%u-%016llx", (unsigned)geteuid(), (unsigned long long)short_name(c->dir)).p;
    p.lock = pl_fmt(a, "%s/up.lock", c->dir).p;
    p.ready = pl_fmt(a, "%s/up.json", c->dir).p;
    p.master_key = pl_fmt(a, "%s/master.key", c->dir).p;
    p.keys = pl_fmt(a, "%s/keys", c->dir).p;
    p.pg = pl_fmt(a, "%s/pg", c->dir).p;
    p.log = pl_fmt(a, "%s/log", c->dir).p;
    p.inventory = pl_fmt(a, "%s/inventory.jsonl", c->dir).p;
    p.demo = pl_fmt(a, "%s/demo.json", c->dir).p;
    p.relay_key = pl_fmt(a, "%s/keys/relay.key", c->dir).p;
    p.pg_socket = pl_fmt(a, "%s/pg", p.run ? p.run : "").p;
    p.admin = pl_fmt(a, "%s/admin.sock", admin_in ? admin_in : "").p;
    enum pl_err e = pl_arena_err(a);
    if (e != PL_OK)
        return pl_fail(reterr, e, "There is no memory.");
    *ret = p;
    return PL_OK;
}

enum pl_err ctl_not_running(const struct ctl *c, const struct ctl_paths *p, const char *how, struct pl_fail *reterr)
{
    if (access(c->dir, X_OK) != 0 && errno == EACCES)
        return pl_fail(reterr, PL_UNAVAILABLE, "%s belongs to another user: run porchctl as that one.", c->dir);
    if (ctl_exists(p->admin) && access(p->admin, W_OK) != 0)
        return pl_fail(reterr, PL_UNAVAILABLE, "%s belongs to another user: run porchctl as that one.", p->admin);
    return pl_fail(reterr, PL_UNAVAILABLE, "Porchlight does not run in %s: start it (porchctl %s), or name the folder that it runs in by --dir (of services /run/porchlight).", c->dir, how);
}

bool ctl_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* A folder of that name is fine; a file, or a folder that we may not make, is said with what to do. */
static enum pl_err make_folder(const char *at, unsigned mode, struct pl_fail *reterr)
{
    struct stat st;
    if (mkdir(at, mode) == 0)
        return PL_OK;
    int why = errno;
    if (why == EEXIST && stat(at, &st) == 0 && !S_ISDIR(st.st_mode))
        return pl_fail(reterr, PL_IO, "%s is a file, so there can be no data folder of that name; choose another one by --dir.", at);
    if (why == EEXIST)
        return PL_OK;
    return pl_fail(reterr, PL_IO, "The folder %s cannot be made: %s. Choose one that this user may write by --dir.", at, strerror(why));
}

enum pl_err ctl_mkdirs(struct pl_arena *a, const char *path, unsigned mode, struct pl_fail *reterr)
{
    char *at = pl_str_z(a, pl_str_of(path));
    if (!at)
        return PL_NO_MEMORY;
    for (char *slash = strchr(at + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        enum pl_err e = make_folder(at, 0755, reterr);
        if (e != PL_OK)
            return e;
        *slash = '/';
    }
    return make_folder(at, mode, reterr);
}

enum pl_err ctl_read(struct pl_arena *a, const char *path, size_t most, struct pl_str *ret, struct pl_fail *reterr)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return pl_fail(reterr, errno == ENOENT ? PL_NOT_FOUND : PL_IO, "%s cannot be read: %s.", path, strerror(errno));
    struct pl_buf b = pl_buf_init(a, most);
    char block[8192];
    ssize_t n;
    while ((n = read(fd, block, sizeof block)) > 0)
        pl_buf_add(&b, block, (size_t)n);
    close(fd);
    if (n < 0 || pl_buf_err(&b) != PL_OK)
        return pl_fail(reterr, PL_IO, "%s cannot be read, or is larger than %zu bytes.", path, most);
    *ret = pl_buf_view(&b);
    return PL_OK;
}

static bool write_all(int fd, struct pl_str text)
{
    while (text.n) {
        ssize_t n = write(fd, text.p, text.n);
        if (n <= 0)
            return false;
        text = (struct pl_str){ text.p + n, text.n - (size_t)n };
    }
    return true;
}

enum pl_err ctl_write(struct pl_arena *a, const char *path, struct pl_str text, struct pl_fail *reterr)
{
    const char *beside = pl_fmt(a, "%s.new", path).p;
    if (!beside)
        return PL_NO_MEMORY;
    unlink(beside); /* what a write that was cut short has left, or somebody who waits for a secret has put there: never written into */
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write_all(fd, text) && fsync(fd) == 0;
    if (fd >= 0 && close(fd) != 0)
        ok = false;
    if (!ok || rename(beside, path) != 0)
        return pl_fail(reterr, PL_IO, "%s cannot be written: %s.", path, strerror(errno));
    return PL_OK;
}

enum pl_err ctl_program(struct pl_arena *a, const char *name, const char **ret, struct pl_fail *reterr)
{
    /* Installed: one folder. In a build folder: server/, hub/ and viewer/ beside each other. */
    static const char *const beside[] = { "", "/../hub", "/../viewer", "/../server" };
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return pl_fail(reterr, PL_IO, "porchctl cannot find itself: %s.", strerror(errno));
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; i < PL_COUNT(beside); i++) {
        const char *path = pl_fmt(a, "%s%s/%s", self, beside[i], name).p;
        if (path && access(path, X_OK) == 0) {
            *ret = path;
            return PL_OK;
        }
    }
    return pl_fail(reterr, PL_NOT_FOUND, "The program %s is missing: it should stand in %s. Build it (ninja -C build) or install the package whole.", name, self);
}

enum pl_err ctl_migrations(struct ctl *c, const char **ret, struct pl_fail *reterr)
{
    const char *const tries[] = { c->migrations, CTL_SOURCE_MIGRATIONS, CTL_INSTALLED_MIGRATIONS };
    for (size_t i = 0; i < PL_COUNT(tries); i++) {
        char *whole = tries[i] ? realpath(tries[i], NULL) : NULL;
        const char *kept = whole ? pl_str_z(c->arena, pl_str_of(whole)) : NULL;
        free(whole);
        if (kept) {
            *ret = kept;
            return PL_OK;
        }
        if (i == 0 && tries[0])
            break;
    }
    return pl_fail(reterr, PL_NOT_FOUND, "The migrations are not found; name their folder by --migrations.");
}

/* Wipes the seed's bytes whatever happens. */
static enum pl_err key_from_seed(struct pl_arena *a, uint8_t seed[SEED], struct pl_str *ret_public_hex)
{
    uint8_t pub[SEED];
    size_t n = sizeof pub;
    EVP_PKEY *k = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, SEED);
    bool ok = k && EVP_PKEY_get_raw_public_key(k, pub, &n) == 1 && n == sizeof pub;
    EVP_PKEY_free(k);
    OPENSSL_cleanse(seed, SEED);
    struct pl_str hex = ok ? pl_hex(a, pub, sizeof pub) : PL_STR_NONE;
    if (!hex.p)
        return PL_NO_MEMORY;
    *ret_public_hex = hex;
    return PL_OK;
}

enum pl_err ctl_key_public(struct pl_arena *a, struct pl_str seed_hex, struct pl_str *ret_public_hex)
{
    uint8_t seed[SEED];
    enum pl_err e = pl_unhex(pl_str_trim(seed_hex), seed, sizeof seed);
    return e == PL_OK ? key_from_seed(a, seed, ret_public_hex) : e;
}

enum pl_err ctl_key_new(struct pl_arena *a, struct pl_str *ret_seed_hex, struct pl_str *ret_public_hex)
{
    uint8_t seed[SEED];
    pl_rand_fill(&pl_rand_system, seed, sizeof seed);
    struct pl_str hex = pl_hex(a, seed, sizeof seed);
    enum pl_err e = key_from_seed(a, seed, ret_public_hex);
    if (e == PL_OK && hex.p)
        *ret_seed_hex = hex;
    return hex.p ? e : PL_NO_MEMORY;
}
