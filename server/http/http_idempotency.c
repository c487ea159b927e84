/* S-S9: a call that came with an Idempotency-Key acts once. Its answer is stored in the transaction of its effect, sealed under a key that is made from the
 * Idempotency-Key, of which only a hash is stored: the database alone can neither read an answer nor be asked for one. The hash over the request is keyed in the
 * same way, since a body may hold a password. Only answers of success are kept: what was refused may be tried again under the same key. */
#include "http_private.h"
#include "http_sql.h"

#define KEPT PL_DAY
#define KEY_LEAST 16 /* a shorter one could be guessed */
#define KEY_MOST 128
#define ANSWER_BYTES (REPLY_BYTES + 8192)

static bool key_good(struct pl_str key)
{
    bool good = key.n >= KEY_LEAST && key.n <= KEY_MOST;
    for (size_t i = 0; good && i < key.n; i++)
        good = key.p[i] > ' ' && key.p[i] < 0x7f;
    return good;
}

static void add(struct pl_buf *b, struct pl_str s)
{
    pl_buf_u32(b, (uint32_t)s.n);
    pl_buf_str(b, s);
}

/* What makes two requests the same one: row, path, query, body, and who asks. */
static enum pl_err request_hash(const struct call *call, const struct pl_secret *key, uint8_t ret[32])
{
    struct pl_buf b = pl_buf_init(call->c.arena, call->h->conf.max_body + 4 * MAX_HEADERS_BYTES);
    pl_buf_u8(&b, (uint8_t)call->row->route->method);
    add(&b, pl_str_of(call->row->route->path));
    for (unsigned i = 0; i < MAX_PARAMS; i++)
        add(&b, call->params[i]);
    for (const struct pair *q = call->query; q; q = q->next) {
        add(&b, q->name);
        add(&b, q->value);
    }
    pl_buf_add(&b, call->c.actor.client_id.b, sizeof call->c.actor.client_id.b);
    add(&b, http_header(&call->c, "Challenge-Key"));
    add(&b, pl_buf_view(&call->body));
    secure_hmac_sha256(key, pl_buf_view(&b), ret);
    return pl_buf_err(&b);
}

enum pl_err http_idempotency_begin(struct call *call, struct pl_fail *reterr)
{
    struct idempotency *i = &call->idempotency;
    struct pl_str key = http_header(&call->c, "Idempotency-Key");
    struct pl_uuid owner = call->c.actor.account_id; /* zero for nobody signed in */
    struct pl_secret root PL_CLEANUP(pl_secret_wipe) = { 0 }, part PL_CLEANUP(pl_secret_wipe) = { 0 };
    if (!key.p || !call->row->route->idempotent)
        return PL_OK;
    if (!key_good(key))
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "Idempotency-Key", "Idempotency-Key: %d to %d visible characters are expected, chosen at random.", KEY_LEAST, KEY_MOST);
    struct pl_buf b = pl_buf_init(call->c.arena, KEY_MOST + sizeof owner.b);
    pl_buf_add(&b, owner.b, sizeof owner.b);
    pl_buf_str(&b, key);
    secure_sha256(pl_buf_view(&b), root.b);
    secure_derive(&root, "idempotency seal", &i->seal);
    secure_derive(&root, "idempotency key", &part);
    memcpy(i->key_hash, part.b, sizeof i->key_hash);
    if (call->row->route->auth == HTTP_PUBLIC) {
        secure_derive(&root, "idempotency owner", &part);
        memcpy(owner.b, part.b, sizeof owner.b);
    }
    i->owner = owner;
    secure_derive(&root, "idempotency request", &part);
    enum pl_err e = request_hash(call, &part, i->request_hash);
    i->on = e == PL_OK && pl_buf_err(&b) == PL_OK;
    return i->on ? PL_OK : PL_NO_MEMORY;
}

static struct pl_str bytes(const uint8_t *p) { return (struct pl_str){ (const char *)p, 32 }; }
static struct pl_str context(const struct idempotency *i) { return bytes(i->key_hash); }

/* The stored answer becomes this call's. */
static enum pl_err unpack(struct call *call, struct pl_str sealed)
{
    struct http_call *c = &call->c;
    struct pl_str plain;
    enum pl_err e = secure_open(&call->idempotency.seal, context(&call->idempotency), sealed, c->arena, &plain);
    if (e != PL_OK)
        return PL_INTERNAL;
    http_reset_reply(c);
    struct pl_rd r = pl_rd_of(plain.p, plain.n);
    c->status = pl_rd_u16(&r);
    pl_buf_str(&c->buf, pl_rd_bytes(&r, pl_rd_u32(&r)));
    c->raw = true;
    c->content_type = pl_str_z(c->arena, pl_rd_bytes(&r, pl_rd_u32(&r)));
    while (!r.short_ && pl_rd_left(&r)) {
        struct pl_str name = pl_rd_bytes(&r, pl_rd_u32(&r));
        struct pl_str value = pl_rd_bytes(&r, pl_rd_u32(&r));
        http_reply_header(c, pl_str_z(c->arena, name), value);
    }
    http_reply_header(c, "Idempotency-Replayed", PL_STR("true"));
    c->replayed = true;
    return r.short_ ? PL_INTERNAL : pl_arena_err(c->arena);
}

enum pl_err http_idempotency_find(struct call *call, struct db_tx *tx, bool *ret_found, struct pl_fail *reterr)
{
    const struct idempotency *i = &call->idempotency;
    struct http_sql_idempotency_find_row row;
    bool found;
    enum pl_err e = http_sql_idempotency_find(tx, i->owner, bytes(i->key_hash), pl_utc_add(call->c.now, -KEPT), &row, &found);
    if (e != PL_OK || !found) {
        *ret_found = false;
        return e;
    }
    if (!secure_eq(row.request_hash.p, row.request_hash.n, i->request_hash, sizeof i->request_hash))
        return pl_fail_field(reterr, PL_IDEMPOTENCY_CONFLICT, "Idempotency-Key", "%s", pl_err_table[PL_IDEMPOTENCY_CONFLICT].sentence);
    *ret_found = true;
    return unpack(call, row.answer);
}

enum pl_err http_idempotency_take(struct call *call, struct db_tx *tx, bool *ret_replayed, struct pl_fail *reterr)
{
    const struct idempotency *i = &call->idempotency;
    int64_t taken;
    enum pl_err e = http_sql_idempotency_take(tx, i->owner, bytes(i->key_hash), bytes(i->request_hash), call->c.now, pl_utc_add(call->c.now, -KEPT), &taken);
    if (e != PL_OK || taken) {
        *ret_replayed = false;
        return e;
    }
    e = http_idempotency_find(call, tx, ret_replayed, reterr);
    return e == PL_OK && !*ret_replayed ? PL_RETRY : e; /* it ran out in between */
}

enum pl_err http_idempotency_keep(struct call *call, struct db_tx *tx)
{
    const struct idempotency *i = &call->idempotency;
    struct pl_arena *a = call->c.arena;
    struct reply p;
    struct pl_str sealed;
    enum pl_err e = http_reply_build(call, &p);
    if (e != PL_OK)
        return e;
    struct pl_buf b = pl_buf_init(a, ANSWER_BYTES);
    pl_buf_u16(&b, (uint16_t)p.status);
    add(&b, p.body);
    add(&b, pl_str_of(p.content_type ? p.content_type : ""));
    for (const struct http_header *x = p.headers; x; x = x->next) {
        add(&b, pl_str_of(x->name));
        add(&b, pl_str_of(x->value));
    }
    if ((e = pl_buf_err(&b)) == PL_OK)
        e = secure_seal(&i->seal, context(i), pl_buf_view(&b), a, &sealed);
    secure_wipe(b.p, b.n);
    return e == PL_OK ? http_sql_idempotency_keep(tx, i->owner, bytes(i->key_hash), sealed, NULL) : e;
}

enum pl_err http_idempotency_drop(struct call *call, struct db_tx *tx)
{
    const struct idempotency *i = &call->idempotency;
    return http_sql_idempotency_drop(tx, i->owner, bytes(i->key_hash), NULL);
}

enum pl_err http_expire(struct db_tx *tx, struct pl_utc now)
{
    enum pl_err e = http_sql_idempotency_expire(tx, pl_utc_add(now, -KEPT), NULL);
    return e;
}
