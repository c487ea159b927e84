#include "outside_int.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MOST 4096 /* of a secret */
#define SETTING "links.providers"

static const char *const issuer_schemes[] = { "https://", "http://127.0.0.1:", "http://localhost:", NULL };

const struct conf_row outside_conf_rows[] = {
    CONF_STR("links.providers", struct outside_settings, providers, 512, "",
             "A folder with a file NAME.conf for each OpenID provider whose accounts people may link and log in by (docs/outside-accounts.md). Empty: none."),
    CONF_DUR("links.timeout", struct outside_settings, timeout, PL_SECOND, 10 * PL_SECOND, "5s", "How long a provider may take for all that one call asks of it."),
    CONF_NUM("links.workers", struct outside_settings, workers, 1, 16, "4", "Threads that wait for providers, each with a database connection; no other call waits for them."),
    CONF_STR("links.ca_file", struct outside_settings, ca_file, 512, "", "Authorities that may vouch for providers, a PEM file. Empty: the system's."),
    CONF_BOOL("links.private_addresses", struct outside_settings, private_addresses, "false", "Providers may be in a private network."),
    CONF_END
};

/* ---- the providers' files ---- */

struct file {
    struct pl_str title, issuer, client_id, client_secret_file, scopes;
};
static const struct conf_row file_rows[] = {
    CONF_STR("title", struct file, title, 60, "", "What people know it by."),
    CONF_URL("issuer", struct file, issuer, 200, issuer_schemes, "", "Its issuer, as its metadata say it."),
    CONF_STR("client_id", struct file, client_id, 250, "", "What it calls us."),
    CONF_STR("client_secret_file", struct file, client_secret_file, 512, "", "A file with the secret that it gave us; empty: it gave none."),
    CONF_STR("scopes", struct file, scopes, 250, "openid", "What we ask for; openid is among them."),
    CONF_END
};

static void close_dirp(DIR **d)
{
    if (*d)
        closedir(*d);
}

static void close_filep(FILE **f)
{
    if (*f)
        fclose(*f);
}

static enum pl_err read_secret(struct pl_arena *a, const char *path, struct pl_str *ret, struct pl_fail *reterr)
{
    FILE *f PL_CLEANUP(close_filep) = path ? fopen(path, "re") : NULL;
    char *mem = pl_alloc(a, FILE_MOST + 1);
    size_t n = f && mem ? fread(mem, 1, FILE_MOST + 1, f) : 0;
    if (!mem || !path)
        return PL_NO_MEMORY;
    *ret = pl_str_trim((struct pl_str){ mem, n });
    if (!f || ferror(f) || n > FILE_MOST || !ret->n)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, SETTING, "%s cannot be read, is empty, or has more than %d bytes", path, FILE_MOST);
    return PL_OK;
}

static bool has_word(struct pl_str words, const char *word)
{
    while (words.n)
        if (pl_str_eqz(pl_str_split(words, ' ', &words), word))
            return true;
    return false;
}

static bool name_good(struct pl_str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!((name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= '0' && name.p[i] <= '9') || name.p[i] == '-'))
            return false;
    return name.n >= 1 && name.n <= 32;
}

static enum pl_err add(struct outside *ctx, const char *path, struct pl_str name, struct pl_fail *reterr)
{
    struct outside_provider *p = &ctx->providers[ctx->n];
    struct pl_arena *scratch PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 20), *a = ctx->arena;
    struct file f = { .title = PL_STR_NONE };
    if (!scratch)
        return PL_NO_MEMORY;
    if (!name_good(name))
        return pl_fail_field(reterr, PL_INVALID_REQUEST, SETTING, "%s: a provider's name has small letters, digits and dashes, 32 at most", path);
    if (ctx->n == OUTSIDE_PROVIDERS_MOST)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, SETTING, "%s: there are %d providers already", path, OUTSIDE_PROVIDERS_MOST);
    enum pl_err e = conf_load(file_rows, &f, path, scratch, reterr);
    if (e != PL_OK)
        return e;
    if (!f.title.n || !f.issuer.n || !f.client_id.n || !has_word(f.scopes, "openid"))
        return pl_fail_field(reterr, PL_INVALID_REQUEST, SETTING, "%s wants title, issuer, client_id, and openid among its scopes", path);
    *p = (struct outside_provider){ .name = pl_str_dup(a, name), .title = pl_str_dup(a, f.title), .issuer = pl_str_dup(a, f.issuer), .client_id = pl_str_dup(a, f.client_id),
                                    .scopes = pl_str_dup(a, f.scopes), .secret = PL_STR(""), .local = pl_str_starts(f.issuer, PL_STR("http://")) };
    if (f.client_secret_file.n)
        e = read_secret(a, pl_str_z(a, f.client_secret_file), &p->secret, reterr);
    if (e == PL_OK && (e = pl_arena_err(a)) == PL_OK) {
        pthread_mutex_init(&p->lock, NULL);
        ctx->n++;
    }
    return e;
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* In the order of their names: the same on every node. */
static enum pl_err load(struct outside *ctx, struct pl_fail *reterr)
{
    static const struct pl_str end = PL_STR_INIT(".conf");
    const char *folder = pl_str_z(ctx->arena, ctx->settings.providers), *names[64];
    DIR *d PL_CLEANUP(close_dirp) = folder ? opendir(folder) : NULL;
    size_t n = 0;
    enum pl_err e = PL_OK;
    if (!d)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, SETTING, "the folder %s cannot be opened", folder ? folder : "");
    for (struct dirent *entry; n < PL_COUNT(names) && (entry = readdir(d));) {
        struct pl_str name = pl_str_of(entry->d_name);
        if (name.n > end.n && entry->d_name[0] != '.' && pl_str_eq((struct pl_str){ name.p + name.n - end.n, end.n }, end) && !(names[n++] = pl_str_z(ctx->arena, name)))
            return PL_NO_MEMORY;
    }
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        struct pl_str path = pl_fmt(ctx->arena, "%s/%s", folder, names[i]);
        e = path.p ? add(ctx, path.p, (struct pl_str){ names[i], strlen(names[i]) - end.n }, reterr) : PL_NO_MEMORY;
    }
    return e;
}

enum pl_err outside_new(const struct outside_conf *conf, struct outside **ret, struct pl_fail *reterr)
{
    struct outside *ctx = pl_heap(sizeof *ctx);
    if (!ctx)
        return PL_NO_MEMORY;
    *ctx = (struct outside){ .settings = conf->settings, .arena = pl_arena_new(1 << 20), .account = conf->account, .clock = conf->clock, .rand = conf->rand };
    secure_derive(conf->master, "porchlight outside flow v1", &ctx->key);
    enum pl_err e = ctx->arena && (ctx->link_url = pl_str_dup(ctx->arena, conf->link_url)).p ? PL_OK : PL_NO_MEMORY;
    if (e == PL_OK && conf->settings.ca_file.n && !(ctx->ca_file = pl_str_z(ctx->arena, conf->settings.ca_file)))
        e = PL_NO_MEMORY;
    if (e == PL_OK)
        e = outside_fetch_init();
    if (e == PL_OK && conf->settings.providers.n)
        e = load(ctx, reterr);
    if (e != PL_OK) {
        outside_free(ctx);
        return e;
    }
    outside_metrics();
    *ret = ctx;
    return PL_OK;
}

struct outside *outside_free(struct outside *ctx)
{
    if (!ctx)
        return NULL;
    for (size_t i = 0; i < ctx->n; i++) {
        pl_heap_free(ctx->providers[i].metadata.text);
        pl_heap_free(ctx->providers[i].keys.text);
        pthread_mutex_destroy(&ctx->providers[i].lock);
    }
    pl_secret_wipe(&ctx->key);
    pl_arena_free(ctx->arena);
    return pl_heap_free(ctx);
}

unsigned outside_workers(const struct outside *ctx) { return ctx->n ? (unsigned)ctx->settings.workers : 0; }

struct outside_provider *outside_provider_find(struct outside *ctx, struct pl_str name)
{
    for (size_t i = 0; i < ctx->n; i++)
        if (pl_str_eq(ctx->providers[i].name, name))
            return &ctx->providers[i];
    return NULL;
}

/* ---- flows ---- */

static struct pl_str derive(const struct outside *ctx, struct pl_arena *a, const char *what, struct pl_str state)
{
    uint8_t mac[32];
    struct pl_str text = pl_fmt(a, "%s %.*s", what, PL_FMT(state));
    if (!text.p)
        return PL_STR_NONE;
    secure_hmac_sha256(&ctx->key, text, mac);
    struct pl_str out = pl_b64url(a, mac, sizeof mac);
    secure_wipe(mac, sizeof mac);
    return out;
}

enum pl_err outside_flow_of(const struct outside *ctx, const struct outside_provider *p, struct pl_arena *a, struct pl_str state, struct outside_flow *ret)
{
    uint8_t hash[32];
    struct outside_flow f = { .verifier = derive(ctx, a, "verifier", state), .nonce = derive(ctx, a, "nonce", state),
                              .redirect_uri = pl_fmt(a, "%.*s/linked/%.*s", PL_FMT(ctx->link_url), PL_FMT(p->name)) };
    secure_sha256(f.verifier, hash);
    f.challenge = pl_b64url(a, hash, sizeof hash);
    if (!f.verifier.p || !f.nonce.p || !f.redirect_uri.p || !f.challenge.p)
        return PL_NO_MEMORY;
    *ret = f;
    return PL_OK;
}

/* ---- ends ---- */

enum pl_err outside_erase(struct db_tx *tx, struct pl_uuid account_id)
{
    struct outside_sql_link_list_row *rows;
    size_t n = 0;
    enum pl_err e = outside_sql_link_list(tx, account_id, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = outside_sql_subject_drop(tx, rows[i].issuer, rows[i].subject, account_id, NULL);
    if (e == PL_OK)
        e = outside_sql_erase_links(tx, account_id, NULL);
    return e == PL_OK ? outside_sql_erase_flows(tx, account_id, NULL) : e;
}

enum pl_err outside_expire(struct db_tx *tx, struct pl_utc now) { return outside_sql_flow_expire(tx, pl_utc_add(now, -OUTSIDE_FLOW_LIFE), NULL); }
