/* account_where.c - where a caller is, as a proposal for the sign-up form, and where a phone number is, as a rule (S-F5). */
#include "account_int.h"
#include <maxminddb.h>

struct account_where {
    MMDB_s db; /* mapped, read by any thread */
};

enum pl_err account_where_open(struct account *ctx, struct pl_fail *reterr)
{
    struct pl_str path = ctx->settings.geo_database;
    char name[520];
    struct pl_buf b = pl_buf_fixed(name, sizeof name);
    if (!path.n)
        return PL_OK;
    pl_buf_fmt(&b, "%.*s", PL_FMT(path));
    struct account_where *w = pl_heap(sizeof *w);
    if (!w)
        return PL_NO_MEMORY;
    int status = pl_buf_err(&b) == PL_OK ? MMDB_open(name, MMDB_MODE_MMAP, &w->db) : MMDB_FILE_OPEN_ERROR;
    if (status != MMDB_SUCCESS) {
        pl_heap_free(w);
        return pl_fail(reterr, PL_INVALID_REQUEST, "account.geo_database: %s", MMDB_strerror(status));
    }
    ctx->where = w;
    return PL_OK;
}

void account_where_close(struct account *ctx)
{
    if (ctx->where)
        MMDB_close(&ctx->where->db);
    ctx->where = pl_heap_free(ctx->where);
}

static const struct account_country *by_address(const struct account_where *w, struct pl_str peer)
{
    char text[64];
    struct pl_buf b = pl_buf_fixed(text, sizeof text);
    int bad_address = 0, status = 0;
    MMDB_entry_data_s found;
    pl_buf_fmt(&b, "%.*s", PL_FMT(peer));
    if (!w || pl_buf_err(&b) != PL_OK)
        return NULL;
    MMDB_lookup_result_s r = MMDB_lookup_string(&w->db, text, &bad_address, &status);
    if (bad_address || status != MMDB_SUCCESS || !r.found_entry || MMDB_get_value(&r.entry, &found, "country", "iso_code", NULL) != MMDB_SUCCESS || !found.has_data ||
        found.type != MMDB_DATA_TYPE_UTF8_STRING)
        return NULL;
    return account_country_find((struct pl_str){ found.utf8_string, found.data_size });
}

const struct account_country *account_propose(const struct account *ctx, struct pl_str peer, struct pl_str accept_language)
{
    const struct account_country *c = by_address(ctx->where, peer);
    return c ? c : account_country_guess(accept_language);
}

static bool is_served(struct pl_str countries, const char *country)
{
    struct pl_str rest = countries;
    if (!pl_str_trim(countries).n)
        return true;
    while (rest.n)
        if (pl_str_eqz(pl_str_split(rest, ' ', &rest), country))
            return true;
    return false;
}

enum pl_err account_phone_take(const struct account *ctx, struct pl_arena *a, struct pl_str given, struct pl_str *ret, struct pl_fail *reterr)
{
    struct phone_number n;
    enum pl_err e = phone_parse(given, NULL, &n);
    if (e == PL_INVALID_REQUEST)
        return pl_fail_field(reterr, e, "phone", "phone: there is no such number");
    if (e == PL_OK && !phone_may_get_pin(n.kind))
        e = PL_PHONE_REFUSED;
    if (e == PL_OK && !is_served(ctx->settings.phone_countries, n.country))
        e = PL_COUNTRY_REFUSED;
    if (e != PL_OK)
        return e;
    *ret = pl_str_dup(a, pl_str_of(n.e164));
    return ret->p ? PL_OK : PL_NO_MEMORY;
}
