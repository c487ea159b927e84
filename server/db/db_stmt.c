/* Prepared statements: parameters out and rows in, both in PostgreSQL's binary form (big-endian; times are microseconds since 2000-01-01). */
#include "db_int.h"
#include <stdlib.h>

#define EPOCH_2000_US (INT64_C(946684800) * PL_SECOND)

static const Oid oids[] = {
    [DB_BOOL] = 16,  [DB_INT2] = 21,   [DB_INT4] = 23,   [DB_INT8] = 20,   [DB_TEXT] = 25,
    [DB_BYTEA] = 17, [DB_UUID] = 2950, [DB_TIME] = 1184, [DB_JSON] = 3802, [DB_FLOAT8] = 701,
};

/* ---- which statements this connection has prepared ---- */

static size_t slot_of(const struct db *db, const struct db_stmt *st)
{
    size_t i = ((uintptr_t)st >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 32 & (db->prepared_cap - 1);
    while (db->prepared[i] && db->prepared[i] != st)
        i = (i + 1) & (db->prepared_cap - 1);
    return i;
}

static bool is_prepared(const struct db *db, const struct db_stmt *st) { return db->prepared_cap != 0 && db->prepared[slot_of(db, st)] == st; }

static enum pl_err remember(struct db *db, const struct db_stmt *st)
{
    if (db->prepared_n * 2 >= db->prepared_cap) {
        const struct db_stmt **old = db->prepared;
        size_t old_cap = db->prepared_cap, cap = old_cap ? old_cap * 2 : 256;
        const struct db_stmt **bigger = pl_heap(cap * sizeof *bigger);
        if (!bigger)
            return PL_NO_MEMORY;
        db->prepared = bigger;
        db->prepared_cap = cap;
        for (size_t i = 0; i < old_cap; i++)
            if (old[i])
                db->prepared[slot_of(db, old[i])] = old[i];
        pl_heap_free(old);
    }
    db->prepared[slot_of(db, st)] = st;
    db->prepared_n++;
    return PL_OK;
}

/* A look has no BEGIN before it that would find a dead connection in that time. */
static int64_t wait_us(const struct db *db) { return db->tx.look ? DB_CONNECT_US : db->wait_us; }

static enum pl_err prepare(struct db *db, const struct db_stmt *st, const struct db_param *params, unsigned nparams)
{
    Oid types[DB_MAX_PARAMS];
    PGresult *r PL_CLEANUP(db_clearp) = NULL;
    for (unsigned i = 0; i < nparams; i++)
        types[i] = oids[params[i].type];
    if (!PQsendPrepare(db->conn, st->name, st->sql, (int)nparams, types))
        return db_lose(db);
    enum pl_err e = db_result(db, st->name, wait_us(db), &r);
    if (e != PL_OK)
        return e;
    e = remember(db, st);
    /* Forgotten here but known there, it would be prepared twice: start over with a new connection. */
    if (e != PL_OK)
        db_lose(db);
    return e;
}

/* ---- parameters ---- */

struct sent {
    const char *values[DB_MAX_PARAMS];
    int lengths[DB_MAX_PARAMS], formats[DB_MAX_PARAMS];
    uint8_t numbers[DB_MAX_PARAMS][8];
};

static int put_be(uint8_t *out, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        out[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    return n;
}

static bool is_null(const struct db_param *p)
{
    switch (p->type) {
    case DB_TEXT:
    case DB_BYTEA:
    case DB_JSON: return !p->v.s.p;
    case DB_UUID: return p->nullable && pl_uuid_is_zero(p->v.u);
    case DB_TIME: return p->nullable && p->v.t.us == 0;
    default: return false;
    }
}

static int put_number(uint8_t *out, const struct db_param *p)
{
    uint64_t bits;
    switch (p->type) {
    case DB_BOOL: return put_be(out, p->v.b, 1);
    case DB_INT2: return put_be(out, (uint64_t)p->v.i, 2);
    case DB_INT4: return put_be(out, (uint64_t)p->v.i, 4);
    case DB_TIME: return put_be(out, (uint64_t)(p->v.t.us - EPOCH_2000_US), 8);
    case DB_FLOAT8: memcpy(&bits, &p->v.d, 8); return put_be(out, bits, 8);
    default: return put_be(out, (uint64_t)p->v.i, 8);
    }
}

static enum pl_err put_param(struct sent *s, unsigned i, const struct db_param *p, struct pl_arena *a)
{
    s->formats[i] = 1;
    if (is_null(p)) {
        s->values[i] = NULL;
        return p->nullable ? PL_OK : PL_INTERNAL;
    }
    switch (p->type) {
    case DB_TEXT:
    case DB_BYTEA:
        s->values[i] = p->v.s.p;
        s->lengths[i] = (int)p->v.s.n;
        return p->v.s.n <= INT32_MAX ? PL_OK : PL_INVALID_REQUEST;
    case DB_JSON: {
        /* jsonb's binary form: a version byte, then the text. */
        char *json = p->v.s.n < INT32_MAX ? pl_alloc(a, p->v.s.n + 1) : NULL;
        if (!json)
            return PL_NO_MEMORY;
        json[0] = 1;
        memcpy(json + 1, p->v.s.p, p->v.s.n);
        s->values[i] = json;
        s->lengths[i] = (int)p->v.s.n + 1;
        return PL_OK;
    }
    case DB_UUID:
        s->values[i] = (const char *)p->v.u.b;
        s->lengths[i] = 16;
        return PL_OK;
    default:
        s->values[i] = (const char *)s->numbers[i];
        s->lengths[i] = put_number(s->numbers[i], p);
        return PL_OK;
    }
}

/* ---- rows ---- */

static enum pl_err get_bytes(struct pl_arena *a, struct pl_str v, struct pl_str *out)
{
    *out = pl_str_dup(a, v);
    return out->p ? PL_OK : PL_NO_MEMORY;
}

static enum pl_err get_value(const struct db_col *col, struct pl_str v, struct pl_arena *a, void *out)
{
    struct pl_rd r = pl_rd_of(v.p, v.n);
    uint64_t bits;
    switch (col->type) {
    case DB_BOOL: *(bool *)out = pl_rd_u8(&r) != 0; break;
    case DB_INT2: *(int16_t *)out = (int16_t)pl_rd_u16(&r); break;
    case DB_INT4: *(int32_t *)out = (int32_t)pl_rd_u32(&r); break;
    case DB_INT8: *(int64_t *)out = (int64_t)pl_rd_u64(&r); break;
    case DB_FLOAT8:
        bits = pl_rd_u64(&r);
        memcpy(out, &bits, 8);
        break;
    case DB_TIME: {
        int64_t us = (int64_t)pl_rd_u64(&r);
        /* -infinity and infinity are no times that a row of ours may hold. */
        if (us == INT64_MIN || us > INT64_MAX - EPOCH_2000_US)
            return PL_INTERNAL;
        ((struct pl_utc *)out)->us = us + EPOCH_2000_US;
        break;
    }
    case DB_UUID: {
        struct pl_str b = pl_rd_bytes(&r, 16);
        if (b.p)
            memcpy(out, b.p, 16);
        break;
    }
    case DB_JSON:
        if (pl_rd_u8(&r) != 1)
            return PL_INTERNAL;
        return get_bytes(a, (struct pl_str){ v.p + 1, v.n - 1 }, out);
    case DB_TEXT:
    case DB_BYTEA: return get_bytes(a, v, out);
    }
    return r.short_ || pl_rd_left(&r) != 0 ? PL_INTERNAL : PL_OK;
}

static enum pl_err get_row(const struct db_stmt *st, const PGresult *r, int row, struct pl_arena *a, char *out)
{
    for (unsigned c = 0; c < st->ncols; c++) {
        const struct db_col *col = &st->cols[c];
        if (PQgetisnull(r, row, (int)c)) {
            if (!col->nullable)
                return PL_INTERNAL;
            continue; /* the arena's zeros are what NULL reads as */
        }
        struct pl_str v = { PQgetvalue(r, row, (int)c), (size_t)PQgetlength(r, row, (int)c) };
        enum pl_err e = get_value(col, v, a, out + col->offset);
        if (e != PL_OK)
            return e;
        if (col->has_offset != 0)
            *(bool *)(out + col->has_offset - 1) = true;
    }
    return PL_OK;
}

static bool shape_fits(const struct db_stmt *st, const PGresult *r)
{
    if (PQnfields(r) != (int)st->ncols)
        return false;
    for (unsigned c = 0; c < st->ncols; c++)
        if (PQftype(r, (int)c) != oids[st->cols[c].type])
            return false;
    return true;
}

static enum pl_err get_rows(struct db_tx *tx, const struct db_stmt *st, const PGresult *r, size_t max_rows, void **ret_rows, int64_t *ret_n)
{
    size_t n = (size_t)PQntuples(r);
    if (st->ncols == 0) {
        uint64_t count = 0;
        struct pl_str tuples = pl_str_of(PQcmdTuples((PGresult *)(uintptr_t)r));
        if (tuples.n > 0 && pl_parse_u64(tuples, 0, INT64_MAX, &count) != PL_OK)
            return PL_INTERNAL;
        *ret_rows = NULL;
        *ret_n = (int64_t)count;
        return PL_OK;
    }
    if (n > max_rows || !shape_fits(st, r)) {
        PL_LOG(NULL, PL_ERROR, "db.unexpected-rows", PL_F_Z("statement", st->name), PL_F_INT("rows", n), PL_F_INT("most", max_rows));
        return PL_INTERNAL;
    }
    char *rows = pl_alloc_array(tx->arena, n ? n : 1, st->row_size);
    if (!rows)
        return PL_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        enum pl_err e = get_row(st, r, (int)i, tx->arena, rows + i * st->row_size);
        if (e == PL_INTERNAL)
            PL_LOG(NULL, PL_ERROR, "db.unexpected-value", PL_F_Z("statement", st->name));
        if (e != PL_OK)
            return e;
    }
    *ret_rows = rows;
    *ret_n = (int64_t)n;
    return PL_OK;
}

static enum pl_err run_alone(struct db *db, const struct db_stmt *st, const struct db_param *params, unsigned nparams, const struct sent *sent, PGresult **ret)
{
    enum pl_err e = is_prepared(db, st) ? PL_OK : prepare(db, st, params, nparams);
    if (e != PL_OK)
        return e;
    if (!PQsendQueryPrepared(db->conn, st->name, (int)nparams, sent->values, sent->lengths, sent->formats, /* resultFormat= */ 1))
        return db_lose(db);
    return db_result(db, st->name, wait_us(db), ret);
}

/* BEGIN and the first statement in one round trip (libpq's pipeline mode). */
static enum pl_err run_with_begin(struct db_tx *tx, const struct db_stmt *st, unsigned nparams, const struct sent *sent, PGresult **ret)
{
    struct db *db = tx->db;
    PGresult *begun PL_CLEANUP(db_clearp) = NULL;
    if (!PQenterPipelineMode(db->conn) || !PQsendQueryParams(db->conn, "BEGIN", 0, NULL, NULL, NULL, NULL, 0) ||
        !PQsendQueryPrepared(db->conn, st->name, (int)nparams, sent->values, sent->lengths, sent->formats, /* resultFormat= */ 1) || !PQpipelineSync(db->conn))
        return db_lose(db);
    enum pl_err e = db_result(db, "BEGIN", db->wait_us, &begun);
    if (e != PL_OK)
        return db_lose(db);
    tx->begin_due = false;
    e = db_result(db, st->name, db->wait_us, ret);
    enum pl_err synced = db->lost ? PL_UNAVAILABLE : db_synced(db, db->wait_us);
    return e == PL_OK ? synced : e;
}

static enum pl_err run(struct db_tx *tx, const struct db_stmt *st, const struct db_param *params, unsigned nparams, PGresult **ret)
{
    struct db *db = tx->db;
    struct sent sent;
    enum pl_err e = nparams <= DB_MAX_PARAMS ? PL_OK : PL_INTERNAL;
    for (unsigned i = 0; i < nparams && e == PL_OK; i++)
        e = put_param(&sent, i, &params[i], tx->arena);
    if (e == PL_INTERNAL)
        PL_LOG(NULL, PL_ERROR, "db.bad-parameter", PL_F_Z("statement", st->name));
    if (e != PL_OK)
        return e;
    tx->wrote |= strncmp(st->sql, "SELECT", 6) != 0;
    if (tx->begin_due && is_prepared(db, st)) {
        e = run_with_begin(tx, st, nparams, &sent, ret);
        if (e == PL_OK || !db->lost || PQstatus(db->conn) != CONNECTION_BAD)
            return e;
        /* It had died since it was used last; a transaction that never ended has done nothing, so that all of it may be said again. */
        db_disconnect(db);
        db_clearp(ret);
        tx->begin_due = true;
    }
    if (tx->begin_due && (e = db_begin_now(tx)) != PL_OK)
        return e;
    return run_alone(db, st, params, nparams, &sent, ret);
}

enum pl_err db_stmt_run(struct db_tx *tx, const struct db_stmt *st, const struct db_param *params, unsigned nparams, size_t max_rows, void **ret_rows,
                        int64_t *ret_n)
{
    PGresult *r PL_CLEANUP(db_clearp) = NULL;
    if (tx->failed != PL_OK)
        return tx->failed;
    if (tx->db->lost)
        return tx->failed = PL_UNAVAILABLE;
    if (tx->looked)
        return tx->failed = PL_INTERNAL;
    tx->looked = tx->look;
    enum pl_err e = run(tx, st, params, nparams, &r);
    if (e == PL_OK)
        e = get_rows(tx, st, r, max_rows, ret_rows, ret_n);
    return tx->failed = e;
}
