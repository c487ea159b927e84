/* The audit chain (S-S11). h(n) = SHA-256(h(n-1) || text(n)), h(0) is empty. The text holds every column of the row, a line each, detail last because only
 * it may hold line ends: two different rows have different texts. */
#include "journal.h"
#include "journal_sql.h"
#include <openssl/evp.h>

#define HASH 32
#define TEXT_MOST (256 * 1024)

struct entry {
    struct pl_uuid subject, actor;
    int64_t number;
    struct pl_utc at;
    struct pl_str action, detail;
};

static enum pl_err hash_entry(struct pl_arena *a, struct pl_str before, const struct entry *r, uint8_t ret[HASH])
{
    char subject[PL_UUID_TEXT], actor[PL_UUID_TEXT];
    struct pl_buf b = pl_buf_init(a, TEXT_MOST);
    pl_uuid_text(r->subject, subject);
    pl_uuid_text(r->actor, actor);
    pl_buf_str(&b, before);
    pl_buf_fmt(&b, "porchlight-audit-v1\n%s\n%lld\n%lld\n%s\n%.*s\n", subject, (long long)r->number, (long long)r->at.us, actor, PL_FMT(r->action));
    pl_buf_str(&b, r->detail);
    enum pl_err e = pl_buf_err(&b);
    if (e != PL_OK)
        return e;
    return EVP_Digest(b.p, b.n, ret, NULL, EVP_sha256(), NULL) ? PL_OK : PL_NO_MEMORY;
}

enum pl_err journal_audit_begin(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_uuid account_id)
{
    return journal_sql_pseudonym_add(tx, account_id, pl_uuid7(rand, now), NULL);
}

/* *ret_found false: it is no account's id, or was forgotten. */
static enum pl_err pseudonym_of(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid *ret, bool *ret_found)
{
    struct journal_sql_pseudonym_row row;
    enum pl_err e = journal_sql_pseudonym(tx, account_id, &row, ret_found);
    if (e == PL_OK && *ret_found)
        *ret = row.pseudonym;
    return e;
}

enum pl_err journal_audit(struct db_tx *tx, struct pl_utc now, const struct journal_audit *row)
{
    struct journal_sql_audit_next_row next;
    struct entry r = { .subject = row->subject, .actor = row->actor, .at = now, .action = pl_str_of(row->action), .detail = row->detail };
    uint8_t hash[HASH];
    if (pl_str_find(r.action, '\n') != r.action.n)
        return PL_INTERNAL;
    if (!pl_uuid_is_zero(row->account)) {
        bool found;
        enum pl_err looked = pseudonym_of(tx, row->account, &r.subject, &found);
        if (looked != PL_OK || !found)
            return looked;
    }
    enum pl_err e = journal_sql_audit_next(tx, r.subject, &next, NULL);
    if (e != PL_OK)
        return e;
    r.number = next.number;
    if ((e = hash_entry(db_arena(tx), next.hash, &r, hash)) != PL_OK)
        return e;
    struct pl_str h = { (const char *)hash, HASH };
    e = journal_sql_audit_add(tx, r.subject, r.number, r.at, r.actor, r.action, r.detail, h, NULL);
    return e == PL_OK ? journal_sql_audit_set_head(tx, r.subject, h, NULL) : e;
}

/* How far a chain was followed. */
struct walk {
    int64_t rows;     /**< seen */
    int64_t bad;      /**< first number that is wrong, 0: none */
    struct pl_str hash; /**< of the last good row */
};

static enum pl_err check_page(struct db_tx *tx, struct pl_uuid subject, struct walk *w, const struct journal_sql_audit_page_row *page, size_t n)
{
    for (size_t i = 0; i < n; i++, w->rows++) {
        const struct journal_sql_audit_page_row *p = &page[i];
        struct entry r = { .subject = subject, .actor = p->actor_id, .number = p->number, .at = p->at, .action = p->action, .detail = p->detail };
        uint8_t hash[HASH];
        enum pl_err e = hash_entry(db_arena(tx), w->hash, &r, hash);
        if (e != PL_OK)
            return e;
        if (w->bad == 0 && (p->number != w->rows + 1 || !pl_str_eq(p->hash, (struct pl_str){ (const char *)hash, HASH })))
            w->bad = w->rows + 1;
        w->hash = p->hash;
    }
    return PL_OK;
}

enum pl_err journal_audit_read(struct db_tx *tx, struct pl_uuid subject, int64_t after, struct journal_audit_row **ret, size_t *ret_n)
{
    struct journal_sql_audit_page_row *page;
    bool found;
    size_t n;
    enum pl_err e = pseudonym_of(tx, subject, &subject, &found);
    if (e == PL_OK)
        e = journal_sql_audit_page(tx, subject, after, &page, &n);
    if (e != PL_OK)
        return e;
    struct journal_audit_row *out = PL_NEW_ARRAY(db_arena(tx), n ? n : 1, struct journal_audit_row);
    if (!out)
        return PL_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        out[i] = (struct journal_audit_row){ .number = page[i].number, .at = page[i].at, .action = page[i].action, .detail = page[i].detail };
    *ret = out;
    *ret_n = n;
    return PL_OK;
}

enum pl_err journal_audit_newest(struct db_tx *tx, struct pl_uuid subject, struct journal_audit_row **ret, size_t *ret_n)
{
    struct journal_sql_audit_newest_row *rows;
    size_t n;
    enum pl_err e = journal_sql_audit_newest(tx, subject, &rows, &n);
    struct journal_audit_row *out = e == PL_OK ? PL_NEW_ARRAY(db_arena(tx), n ? n : 1, struct journal_audit_row) : NULL;
    if (!out)
        return e == PL_OK ? PL_NO_MEMORY : e;
    for (size_t i = 0; i < n; i++)
        out[i] = (struct journal_audit_row){ .number = rows[i].number, .at = rows[i].at, .action = rows[i].action, .detail = rows[i].detail };
    *ret = out;
    *ret_n = n;
    return PL_OK;
}

enum pl_err journal_audit_verify(struct db_tx *tx, struct pl_uuid subject, int64_t *ret_rows, int64_t *ret_bad)
{
    struct journal_sql_audit_head_row head = { .hash = PL_STR("") };
    struct journal_sql_audit_page_row *page;
    struct walk w = { .hash = PL_STR("") };
    bool found;
    size_t n = 0;
    int64_t last = 0;
    enum pl_err e = pseudonym_of(tx, subject, &subject, &found);
    if (e == PL_OK)
        e = journal_sql_audit_head(tx, subject, &head, &found);
    do {
        if (e == PL_OK)
            e = journal_sql_audit_page(tx, subject, last, &page, &n);
        if (e == PL_OK)
            e = check_page(tx, subject, &w, page, n);
        if (e != PL_OK)
            return e;
        last = n > 0 ? page[n - 1].number : last;
    } while (n > 0);
    /* Rows cut off at the end, or a last row that was changed together with its hash: the head knows better. */
    if (w.bad == 0 && w.rows != head.number)
        w.bad = (w.rows < head.number ? w.rows : head.number) + 1;
    else if (w.bad == 0 && !pl_str_eq(w.hash, head.hash))
        w.bad = w.rows;
    *ret_rows = w.rows;
    *ret_bad = w.bad;
    return PL_OK;
}
