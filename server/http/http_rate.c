/* S-F6: how many calls an account or an address prefix may make, the same over all nodes: token buckets in the database. A node takes calls of the frequent classes
 * in batches and spends them from memory, so that reads do not write each time; what it took and did not spend is lost, so that all nodes together give never more.
 * A bucket that is empty is remembered too: who goes on knocking costs no query until it has room again. */
#include "http_private.h"
#include "limit.h"
#include <arpa/inet.h>

#define WINDOW PL_MINUTE
#define LEASE (10 * PL_SECOND) /* what was taken is spent within that time or lost */
#define BATCH 20
#define SLOTS 4096
#define PROBES 4

/* What the node has in hand of a bucket. */
struct slot {
    uint8_t id[32];
    int64_t left;          /* calls */
    int64_t lease_until;   /* us since 1970, as all times here */
    int64_t refused_until; /* no room before */
    int64_t busy_until;    /* the bucket's, when it was asked last */
};
struct http_rate_table {
    pthread_mutex_t lock;
    struct slot slots[SLOTS]; /* LOCK: lock; a bucket may stand in PROBES places; the one that was used up first makes room */
};

/* S-F8: when the database cannot say, what sends messages or guesses secrets is refused, all else goes on. */
static const struct class {
    bool batched, closed;
} classes[HTTP_RATES] = {
    [HTTP_RATE_READ] = { .batched = true },
    [HTTP_RATE_WRITE] = { .batched = true },
    [HTTP_RATE_LIVE] = { .batched = true },
    [HTTP_RATE_AUTH] = { .closed = true },
    [HTTP_RATE_SEND] = { .closed = true },
    [HTTP_RATE_CLAIM] = { .closed = true },
};

#define ROWS(class, id, account_d, address_d, what) \
    CONF_NUM("http.rate." class ".account", struct http_rates, of[id].account, 1, 10000000, account_d, what " a minute of one account."), \
    CONF_NUM("http.rate." class ".address", struct http_rates, of[id].address, 1, 10000000, address_d, what " a minute of one address prefix (/24, /64), of callers who are not signed in.")
const struct conf_row http_rate_conf_rows[] = {
    ROWS("read", HTTP_RATE_READ, "1200", "3000", "Reading calls"),
    ROWS("write", HTTP_RATE_WRITE, "300", "1200", "Changing calls"),
    ROWS("live", HTTP_RATE_LIVE, "300", "300", "Calls about live sessions"),
    ROWS("auth", HTTP_RATE_AUTH, "120", "600", "Log-ins, PINs, refreshed and refused tokens"),
    ROWS("send", HTTP_RATE_SEND, "30", "300", "Calls that send a message"),
    ROWS("claim", HTTP_RATE_CLAIM, "60", "60", "Calls that add a device"),
    CONF_END,
};

struct http_rate_table *http_rate_new(void)
{
    struct http_rate_table *t = pl_heap(sizeof *t);
    if (t)
        pthread_mutex_init(&t->lock, NULL);
    return t;
}

struct http_rate_table *http_rate_free(struct http_rate_table *t)
{
    if (t)
        pthread_mutex_destroy(&t->lock);
    return pl_heap_free(t);
}

/* The bucket's slot; NULL when it has none. */
static struct slot *find(struct http_rate_table *t, const uint8_t id[32])
{
    size_t at = (size_t)(id[0] << 8 | id[1]);
    for (size_t i = 0; i < PROBES; i++)
        if (memcmp(t->slots[(at + i) % SLOTS].id, id, 32) == 0)
            return &t->slots[(at + i) % SLOTS];
    return NULL;
}

static struct slot *make(struct http_rate_table *t, const uint8_t id[32])
{
    size_t at = (size_t)(id[0] << 8 | id[1]);
    struct slot *s = find(t, id), *oldest = &t->slots[at % SLOTS];
    for (size_t i = 1; i < PROBES && !s; i++)
        if (t->slots[(at + i) % SLOTS].busy_until < oldest->busy_until)
            oldest = &t->slots[(at + i) % SLOTS];
    if (s)
        return s;
    *oldest = (struct slot){ 0 };
    memcpy(oldest->id, id, 32);
    return oldest;
}

/* ---- one bucket ---- */

struct bucket {
    struct call *call;
    uint8_t id[32];
    int64_t limit, share; /* calls in the window; us that each takes of it */
    int64_t now;
    int64_t want, granted, busy_until;
};

static void tell(const struct bucket *b, int64_t left, int64_t busy_until)
{
    int64_t busy = busy_until > b->now ? busy_until - b->now : 0;
    int64_t room = WINDOW > busy ? (WINDOW - busy) / b->share : 0;
    b->call->rate = (struct rate_state){ .limit = b->limit, .remaining = room + left, .reset_s = (busy + PL_SECOND - 1) / PL_SECOND };
}

static enum pl_err refuse(const struct bucket *b, int64_t until, struct pl_fail *reterr)
{
    int64_t wait = (until - b->now + PL_SECOND - 1) / PL_SECOND;
    pl_count(&http_metrics[M_RATE_LIMITED], 1);
    if (reterr)
        reterr->retry_after_s = (int32_t)(wait < 1 ? 1 : wait);
    return pl_fail(reterr, PL_RATE_LIMITED, "%s", pl_err_table[PL_RATE_LIMITED].sentence);
}

/* From memory. True: *ret says it. */
static bool spend_here(struct bucket *b, enum pl_err *ret, struct pl_fail *reterr)
{
    struct http_rate_table *t = b->call->h->rates;
    PL_LOCK(&t->lock);
    struct slot *s = find(t, b->id);
    if (!s)
        return false;
    if (s->refused_until > b->now) {
        tell(b, 0, s->busy_until);
        *ret = refuse(b, s->refused_until, reterr);
        return true;
    }
    if (s->left <= 0 || s->lease_until <= b->now)
        return false;
    tell(b, --s->left, s->busy_until);
    *ret = PL_OK;
    return true;
}

static enum pl_err take(struct db_tx *tx, void *arg, struct pl_fail *reterr)
{
    struct bucket *b = arg;
    (void)reterr;
    return limit_take(tx, (struct pl_utc){ b->now }, b->id, b->want, b->limit, WINDOW, &b->granted, &b->busy_until);
}

/* What the database answered. */
static enum pl_err settle(struct bucket *b, struct pl_fail *reterr)
{
    struct http_rate_table *t = b->call->h->rates;
    PL_LOCK(&t->lock);
    struct slot *s = make(t, b->id);
    int64_t kept = s->lease_until > b->now ? s->left : 0;
    s->busy_until = b->busy_until;
    s->left = kept + (b->granted > 0 ? b->granted - 1 : 0);
    s->lease_until = b->now + LEASE;
    s->refused_until = b->granted > 0 ? 0 : b->busy_until + b->share - b->share * b->limit;
    tell(b, s->left, s->busy_until);
    return b->granted > 0 ? PL_OK : refuse(b, s->refused_until, reterr);
}

static enum pl_err spend(struct call *call, enum http_rate class, bool account, const void *who, size_t n, struct pl_fail *reterr)
{
    struct bucket b = { .call = call, .limit = account ? call->h->limits.of[class].account : call->h->limits.of[class].address, .now = call->c.now.us };
    uint8_t text[2 + 16] = { (uint8_t)class, account };
    memcpy(text + 2, who, n);
    secure_sha256((struct pl_str){ (const char *)text, 2 + n }, b.id);
    b.share = WINDOW / b.limit;
    b.want = classes[class].batched && b.limit / 50 > 1 ? (b.limit / 50 < BATCH ? b.limit / 50 : BATCH) : 1;
    enum pl_err e;
    if (spend_here(&b, &e, reterr))
        return e;
    e = call->c.db ? db_run(call->c.db, call->c.arena, take, &b, NULL) : PL_UNAVAILABLE;
    if (e == PL_OK)
        return settle(&b, reterr);
    pl_count(&http_metrics[M_RATE_UNKNOWN], 1);
    return classes[class].closed ? PL_UNAVAILABLE : PL_OK;
}

/* ---- the call's ---- */

enum http_rate http_rate_class(const struct http_route *r)
{
    return r->rate != HTTP_RATE_BY_METHOD ? r->rate : r->method == HTTP_GET ? HTTP_RATE_READ : HTTP_RATE_WRITE;
}

struct pl_str http_peer_prefix(const struct http_call *c)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    const struct address *a = &((const struct call *)c->engine)->from;
    if (a->family == AF_INET)
        return (struct pl_str){ (const char *)a->bytes, 3 };
    if (a->family == AF_INET6 && memcmp(a->bytes, mapped, sizeof mapped) == 0)
        return (struct pl_str){ (const char *)a->bytes + 12, 3 };
    return a->family == AF_INET6 ? (struct pl_str){ (const char *)a->bytes, 8 } : PL_STR_NONE;
}

static enum pl_err spend_address(struct call *call, enum http_rate class, struct pl_fail *reterr)
{
    struct pl_str prefix = http_peer_prefix(&call->c);
    return prefix.p ? spend(call, class, false, prefix.p, prefix.n, reterr) : PL_OK;
}

enum pl_err http_rate_address(struct call *call, struct pl_fail *reterr)
{
    enum http_rate class = http_rate_class(call->row->route);
    if (!call->h->rates || class == HTTP_RATE_NONE || call->row->route->auth != HTTP_PUBLIC)
        return PL_OK;
    return spend_address(call, class, reterr);
}

enum pl_err http_rate_account(struct call *call, struct pl_fail *reterr)
{
    enum http_rate class = http_rate_class(call->row->route);
    if (!call->h->rates || class == HTTP_RATE_NONE || call->row->route->auth == HTTP_PUBLIC)
        return PL_OK;
    return spend(call, class, true, call->c.actor.account_id.b, sizeof call->c.actor.account_id.b, reterr);
}

enum pl_err http_rate_bad_token(struct call *call, struct pl_fail *reterr)
{
    enum pl_err e = call->h->rates ? spend_address(call, HTTP_RATE_AUTH, reterr) : PL_OK;
    return e == PL_RATE_LIMITED ? e : PL_UNAUTHENTICATED;
}
