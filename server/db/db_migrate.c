/* Migrations, and whether a server's schema and settings are those that this program was made for. */
#include "db_int.h"
#include "db_sql.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_BYTES (1 << 20)
#define LONG_US (10 * PL_MINUTE) /* what long_statements lifts the server's timeout to */
#define LOST_RACES 100

struct file {
    int32_t version;
    struct pl_str name; /* NUL-terminated */
    uint8_t sha256[32];
};
struct db_schema {
    const char *path;
    struct file *files;
    size_t n;
};

/* ---- the files ---- */

/* The file's bytes in the arena, NUL-terminated; a text has no other NUL. */
static enum pl_err read_open(int fd, struct pl_arena *a, struct pl_str *ret)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return PL_IO;
    if (st.st_size > MOST_BYTES)
        return PL_BODY_TOO_LARGE;
    size_t size = (size_t)st.st_size, have = 0;
    char *p = pl_alloc(a, size + 1);
    if (!p)
        return PL_NO_MEMORY;
    while (have < size) {
        ssize_t n = read(fd, p + have, size - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return PL_IO;
        have += (size_t)n;
    }
    *ret = (struct pl_str){ p, have };
    return pl_str_find(*ret, 0) == have ? PL_OK : PL_INVALID_REQUEST;
}

static enum pl_err read_text(const char *folder, struct pl_str name, struct pl_arena *a, struct pl_str *ret, struct pl_fail *reterr)
{
    struct pl_str path = pl_fmt(a, "%s/%s", folder, name.p);
    if (!path.p)
        return PL_NO_MEMORY;
    int fd = open(path.p, O_RDONLY | O_CLOEXEC);
    enum pl_err e = fd < 0 ? PL_IO : read_open(fd, a, ret);
    if (fd >= 0)
        close(fd);
    return e == PL_OK || e == PL_NO_MEMORY ? e : pl_fail(reterr, e, "%s cannot be read as a text of at most 1 MiB.", path.p);
}

/* Only the hash is kept: /readyz compares all files, and the arena of a request is small. */
static enum pl_err hash_file(const char *folder, struct file *f, struct pl_fail *reterr)
{
    struct pl_arena *own PL_CLEANUP(pl_arena_freep) = pl_arena_new(MOST_BYTES + 4096);
    struct pl_str text;
    enum pl_err e = own ? read_text(folder, f->name, own, &text, reterr) : PL_NO_MEMORY;
    if (e != PL_OK)
        return e;
    return EVP_Digest(text.p, text.n, f->sha256, NULL, EVP_sha256(), NULL) ? PL_OK : PL_NO_MEMORY;
}

/* NNNN_name.sql, letters, digits and underscores. */
static bool parse_name(struct pl_str name, int32_t *ret_version)
{
    uint32_t v;
    if (name.n < 10 || name.p[4] != '_' || pl_parse_u32((struct pl_str){ name.p, 4 }, 1, 9999, &v) != PL_OK)
        return false;
    for (size_t i = 5; i < name.n - 4; i++)
        if (!((name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= '0' && name.p[i] <= '9') || name.p[i] == '_'))
            return false;
    *ret_version = (int32_t)v;
    return true;
}

static int by_version(const void *a, const void *b)
{
    int32_t x = ((const struct file *)a)->version, y = ((const struct file *)b)->version;
    return (x > y) - (x < y);
}

static void close_dirp(DIR **d)
{
    if (*d)
        closedir(*d);
}

static bool is_sql(const struct dirent *entry, struct pl_str *ret_name)
{
    struct pl_str name = pl_str_of(entry->d_name);
    *ret_name = name;
    return name.n >= 4 && memcmp(name.p + name.n - 4, ".sql", 4) == 0;
}

static enum pl_err list_folder(struct db_schema *f, struct pl_arena *a, struct pl_fail *reterr)
{
    DIR *d PL_CLEANUP(close_dirp) = opendir(f->path);
    struct pl_str name;
    size_t most = 0;
    if (!d)
        return pl_fail(reterr, PL_IO, "The folder of migrations %s cannot be opened.", f->path);
    for (struct dirent *entry; (entry = readdir(d));)
        most += is_sql(entry, &name);
    rewinddir(d);
    f->files = PL_NEW_ARRAY(a, most + 1, struct file);
    if (!f->files)
        return PL_NO_MEMORY;
    for (struct dirent *entry; f->n < most && (entry = readdir(d));) {
        if (!is_sql(entry, &name))
            continue;
        struct file *file = &f->files[f->n++];
        if (!parse_name(name, &file->version))
            return pl_fail(reterr, PL_INVALID_REQUEST, "%s is not called NNNN_name.sql.", entry->d_name);
        file->name = pl_str_dup(a, name);
        if (!file->name.p)
            return PL_NO_MEMORY;
    }
    qsort(f->files, f->n, sizeof *f->files, by_version);
    return PL_OK;
}

static enum pl_err read_folder(const char *path, struct pl_arena *a, struct db_schema *ret, struct pl_fail *reterr)
{
    struct db_schema f = { .path = path };
    enum pl_err e = list_folder(&f, a, reterr);
    for (size_t i = 0; i < f.n && e == PL_OK; i++) {
        if (i > 0 && f.files[i].version == f.files[i - 1].version)
            return pl_fail(reterr, PL_INVALID_REQUEST, "%s and %s have the same number.", f.files[i - 1].name.p, f.files[i].name.p);
        e = hash_file(path, &f.files[i], reterr);
    }
    if (e == PL_OK && f.n == 0)
        return pl_fail(reterr, PL_INVALID_REQUEST, "The folder %s holds no migration.", path);
    if (e == PL_OK)
        *ret = f;
    return e;
}

/* ---- what was applied ---- */

/* The applied ones must be the first files, unchanged. A database that is ahead of the files is left to the caller: *ret_n > f->n. */
static enum pl_err applied(struct db_tx *tx, const struct db_schema *f, size_t *ret_n, struct pl_fail *reterr)
{
    struct db_sql_has_migrations_row has = { 0 };
    struct db_sql_migrations_row *rows = NULL;
    size_t n = 0;
    enum pl_err e = db_sql_has_migrations(tx, &has, NULL);
    if (e == PL_OK && has.there)
        e = db_sql_migrations(tx, &rows, &n);
    if (e != PL_OK)
        return e;
    for (size_t i = 0; i < n && i < f->n; i++) {
        if (f->files[i].version < rows[i].version)
            return pl_fail(reterr, PL_UNAVAILABLE, "%s comes before %s, which is applied already: give it a higher number.", f->files[i].name.p,
                           rows[i].name.p);
        if (f->files[i].version > rows[i].version || !pl_str_eq(f->files[i].name, rows[i].name))
            return pl_fail(reterr, PL_UNAVAILABLE, "%s was applied to this database, and the file is missing in %s.", rows[i].name.p, f->path);
        if (!pl_str_eq((struct pl_str){ (const char *)f->files[i].sha256, sizeof f->files[i].sha256 }, rows[i].sha256))
            return pl_fail(reterr, PL_UNAVAILABLE, "%s was changed after it was applied to this database.", rows[i].name.p);
    }
    *ret_n = n;
    return PL_OK;
}

static enum pl_err newer(const struct db_schema *f, size_t n, struct pl_fail *reterr)
{
    return pl_fail(reterr, PL_UNAVAILABLE, "The database has %zu migrations and this program knows %zu: it belongs to a newer release.", n, f->n);
}

/* ---- one step ---- */

static enum pl_err apply(struct db_tx *tx, const char *folder, const struct file *f, struct pl_fail *reterr)
{
    struct db *db = tx->db;
    struct pl_arena *own PL_CLEANUP(pl_arena_freep) = pl_arena_new(MOST_BYTES + 4096);
    struct pl_str text;
    uint8_t sha[32]; /* of what is applied, should the file have changed since it was listed */
    enum pl_err e = own ? read_text(folder, f->name, own, &text, reterr) : PL_NO_MEMORY;
    if (e == PL_OK && !EVP_Digest(text.p, text.n, sha, NULL, EVP_sha256(), NULL))
        e = PL_NO_MEMORY;
    if (e != PL_OK)
        return e;
    db->said[0] = 0;
    if (tx->begin_due && (e = db_begin_now(tx)) != PL_OK)
        return e;
    e = db_exec(db, text.p, NULL, LONG_US + DB_GRACE_US);
    if (e != PL_OK)
        return pl_fail(reterr, e, "%s: %s", f->name.p, db->said[0] ? db->said : "the connection to the database was lost");
    if (PQtransactionStatus(db->conn) != PQTRANS_INTRANS)
        return pl_fail(reterr, PL_INTERNAL, "%s ends the transaction that it is applied in.", f->name.p);
    return db_sql_migration_done(tx, f->version, f->name, (struct pl_str){ (const char *)sha, sizeof sha }, pl_now_utc(db->clock), NULL);
}

/* Applies the next one, if any. The lease row is locked first and held to the commit, so that others wait, and then find this one applied. */
static enum pl_err step(struct db *db, const struct db_schema *f, struct pl_arena *a, bool *ret_applied, struct pl_fail *reterr)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    struct db_sql_long_statements_row set;
    struct db_sql_has_migrations_row has = { 0 };
    size_t n = 0;
    int64_t locked = 0;
    struct pl_utc now = pl_now_utc(db->clock);
    enum pl_err e = db_begin(db, a, &tx);
    if (e != PL_OK)
        return pl_fail(reterr, e, "The database does not answer.");
    if ((e = db_sql_long_statements(tx, &set, NULL)) != PL_OK || (e = db_sql_has_migrations(tx, &has, NULL)) != PL_OK)
        return e;
    if (has.there && (e = db_sql_migration_lock(tx, pl_uuid7(&pl_rand_system, now), now, &locked)) != PL_OK)
        return e;
    if (has.there && locked != 1)
        return pl_fail(reterr, PL_INTERNAL, "The row of migration_lease is missing.");
    if ((e = applied(tx, f, &n, reterr)) != PL_OK)
        return e;
    if (n > f->n)
        return newer(f, n, reterr);
    bool more = n < f->n;
    if (more && (e = apply(tx, f->path, &f->files[n], reterr)) != PL_OK)
        return e;
    if ((e = db_commit(&tx)) == PL_OK)
        *ret_applied = more;
    return e;
}

enum pl_err db_migrate(struct db *db, const char *folder, struct pl_arena *a, unsigned *ret_applied, struct pl_fail *reterr)
{
    struct db_schema f;
    unsigned count = 0;
    int lost_races = 0;
    enum pl_err e = read_folder(folder, a, &f, reterr);
    if (e != PL_OK)
        return e;
    /* A statement that waits for the lease row waits as long as the longest migration. */
    int64_t usual = db->wait_us;
    db->wait_us = LONG_US + DB_GRACE_US;
    for (bool more = true; more && e == PL_OK;) {
        e = step(db, &f, a, &more, reterr);
        if (e == PL_OK)
            count += more;
        else if (e == PL_RETRY && ++lost_races < LOST_RACES)
            e = PL_OK;
    }
    db->wait_us = usual;
    if (e == PL_OK)
        *ret_applied = count;
    return e;
}

enum pl_err db_schema_read(const char *folder, struct pl_arena *a, const struct db_schema **ret, struct pl_fail *reterr)
{
    struct db_schema *f = PL_NEW(a, struct db_schema);
    const char *path = pl_str_z(a, pl_str_of(folder));
    enum pl_err e = f && path ? read_folder(path, a, f, reterr) : PL_NO_MEMORY;
    if (e == PL_OK)
        *ret = f;
    return e;
}

enum pl_err db_schema_check(struct db *db, const struct db_schema *f, struct pl_arena *a, struct pl_fail *reterr)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    size_t n = 0;
    enum pl_err e = db_begin(db, a, &tx);
    if (e != PL_OK)
        return pl_fail(reterr, e, "The database does not answer.");
    if ((e = applied(tx, f, &n, reterr)) != PL_OK)
        return e;
    if (n > f->n)
        return newer(f, n, reterr);
    if (n < f->n)
        return pl_fail(reterr, PL_UNAVAILABLE, "The database lacks %zu of %zu migrations: run `porchctl migrate`.", f->n - n, f->n);
    return PL_OK;
}

enum pl_err db_durability_check(struct db *db, struct pl_arena *a, struct pl_fail *reterr)
{
    struct db_tx *tx PL_CLEANUP(db_rollbackp) = NULL;
    struct db_sql_durability_row now;
    enum pl_err e = db_begin(db, a, &tx);
    if (e != PL_OK)
        return pl_fail(reterr, e, "The database does not answer.");
    if ((e = db_sql_durability(tx, &now, NULL)) != PL_OK)
        return e;
    const struct { const char *name; struct pl_str is; } settings[] = {
        { "fsync", now.fsync }, { "full_page_writes", now.full_page_writes }, { "synchronous_commit", now.synchronous_commit },
    };
    for (size_t i = 0; i < PL_COUNT(settings); i++)
        if (pl_str_eqz(settings[i].is, "off"))
            return pl_fail(reterr, PL_UNAVAILABLE, "PostgreSQL's setting %s is off, so that it may forget what it has confirmed: switch it on.",
                           settings[i].name);
    return PL_OK;
}
