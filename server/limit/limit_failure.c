/* limit_failure.c - what wrong passwords cost (S-A6). */
#include "limit.h"
#include "limit_sql.h"

#define WAIT_MOST (15 * PL_MINUTE)

static struct pl_str bytes(const uint8_t id[32]) { return (struct pl_str){ (const char *)id, 32 }; }

static enum pl_err id_of(const char *what, struct pl_str email, struct pl_str from, uint8_t ret[32])
{
    char mem[400];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    pl_buf_fmt(&b, "%s %zu\n", what, from.n);
    pl_buf_str(&b, from);
    pl_buf_str(&b, email);
    enum pl_err e = pl_buf_err(&b);
    if (e == PL_OK)
        secure_sha256(pl_buf_view(&b), ret);
    return e;
}

/* After the n-th failure. */
static int64_t wait_after(int32_t failures, int64_t free)
{
    int64_t over = failures - free;
    if (over <= 0)
        return 0;
    return over > 10 || PL_SECOND << (over - 1) > WAIT_MOST ? WAIT_MOST : PL_SECOND << (over - 1);
}

static enum pl_err wait_over(struct pl_utc now, struct pl_utc until, struct pl_fail *reterr)
{
    if (pl_utc_cmp(now, until) >= 0)
        return PL_OK;
    enum pl_err e = pl_fail(reterr, PL_RATE_LIMITED, "Too many wrong passwords. Wait before trying again.");
    if (reterr)
        reterr->retry_after_s = pl_seconds_up(pl_utc_sub(until, now));
    return e;
}

/* One more failure of a count that is locked. A failure that costs nothing leaves `until` as it was: calls under way have different ideas of now. */
static enum pl_err add(struct db_tx *tx, struct pl_utc now, const uint8_t id[32], const struct limit_sql_failure_lock_row *row, int64_t free, struct pl_utc *ret_until)
{
    int32_t failures = pl_utc_sub(now, row->at) < PL_DAY ? row->failures + 1 : 1;
    int64_t wait = wait_after(failures, free);
    *ret_until = wait ? pl_utc_add(now, wait) : row->until;
    return limit_sql_failure_set(tx, bytes(id), failures, *ret_until, now, NULL);
}

enum pl_err limit_failure_count(const struct limit_settings *s, struct db_tx *tx, struct pl_utc now, struct pl_str email, struct pl_str from, struct limit_failure *ret,
                                struct pl_fail *reterr)
{
    struct limit_failure f;
    struct limit_sql_failure_get_row prefix;
    struct limit_sql_failure_lock_row pair;
    bool found;
    enum pl_err e = id_of("prefix", PL_STR(""), from, f.prefix);
    if (e == PL_OK)
        e = id_of("pair", email, from, f.pair);
    if (e == PL_OK && (e = limit_sql_failure_get(tx, bytes(f.prefix), &prefix, &found)) == PL_OK && found)
        e = wait_over(now, prefix.until, reterr);
    if (e != PL_OK || (e = limit_sql_failure_lock(tx, bytes(f.pair), now, &pair, &found)) != PL_OK || (e = wait_over(now, pair.until, reterr)) != PL_OK)
        return e;
    f.old_until = pair.until;
    if ((e = add(tx, now, f.pair, &pair, s->wrong_of_pair, &f.set_until)) == PL_OK)
        *ret = f;
    return e;
}

enum pl_err limit_failure_wrong(const struct limit_settings *s, struct db_tx *tx, struct pl_utc now, const struct limit_failure *f)
{
    struct limit_sql_failure_lock_row row;
    struct pl_utc until;
    bool found;
    enum pl_err e = limit_sql_failure_lock(tx, bytes(f->prefix), now, &row, &found);
    return e == PL_OK ? add(tx, now, f->prefix, &row, s->wrong_of_prefix, &until) : e;
}

enum pl_err limit_failure_right(struct db_tx *tx, const struct limit_failure *f) { return limit_sql_failure_clear(tx, bytes(f->pair), NULL); }

enum pl_err limit_failure_undo(struct db_tx *tx, const struct limit_failure *f)
{
    enum pl_err e = limit_sql_failure_undo(tx, bytes(f->pair), f->set_until, f->old_until, NULL);
    return e == PL_OK ? limit_sql_failure_drop_empty(tx, bytes(f->pair), NULL) : e;
}
