/* What is said between nodes: questions and their answers, sealed to the cluster, and who serves which subject since when. */
#include "bus_nats.h"
#include <stdio.h>

/* Clocks of nodes may differ by so much; a question that is older than its asker waits plus this is an echo of the past, or somebody's replay. */
#define SKEW (10 * PL_SECOND)
#define SEALED_ARENA (4 * BUS_BYTES)

/* ---- Sealing ---- */

/* What a message is bound to: what kind it is, for whom, and where its answer goes. */
static struct pl_str context_of(char mem[3 * NAME_BYTES], const char *kind, const char *name, const char *reply)
{
    struct pl_buf b = pl_buf_fixed(mem, 3 * NAME_BYTES);
    pl_buf_fmt(&b, "%s\n%s\n%s", kind, name, reply ? reply : "");
    return pl_buf_view(&b);
}

static enum pl_err seal(struct bus_far *f, struct pl_arena *a, const char *kind, const char *name, const char *reply, struct pl_str plain, struct pl_str *ret)
{
    char mem[3 * NAME_BYTES];
    return secure_seal(&f->key, context_of(mem, kind, name, reply), plain, a, ret);
}

static enum pl_err unseal(struct bus_far *f, struct pl_arena *a, const char *kind, const char *reply, natsMsg *msg, struct pl_str *ret)
{
    char mem[3 * NAME_BYTES];
    struct pl_str sealed = { natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg) };
    enum pl_err e = secure_open(&f->key, context_of(mem, kind, natsMsg_GetSubject(msg), reply), sealed, a, ret);
    if (e == PL_AUTH) {
        bus_count(BUS_M_REFUSED);
        PL_LOG(f->log, PL_WARN, "bus.not-sealed", PL_F_Z("subject", natsMsg_GetSubject(msg)));
    }
    return e;
}

/* ---- Questions that wait for another node ---- */

static struct bus_ask *waiting_take(struct bus_far *f, uint64_t token, const struct bus_ask *only)
{
    PL_LOCK(&f->lock);
    for (struct bus_ask **at = &f->waiting; *at; at = &(*at)->next)
        if (only ? *at == only : !token || (*at)->token == token) {
            struct bus_ask *q = *at;
            *at = q->next;
            return q;
        }
    return NULL;
}

void bus_far_forget(struct bus_far *f, struct bus_ask *q)
{
    if (waiting_take(f, 0, q))
        bus_ask_let_go(q);
}

void bus_far_fail_all(struct bus_far *f)
{
    for (struct bus_ask *q; (q = waiting_take(f, 0, NULL)) != NULL;)
        bus_ask_end(q, PL_UNAVAILABLE, PL_STR_NONE);
}

/* The sealed text of a question: until when its asker waits (8 bytes, wall clock), then what it says. */
static enum pl_err ask_seal(struct bus_far *f, struct pl_arena *a, const char *name, const char *reply, struct pl_str bytes, int64_t timeout_us, struct pl_str *ret)
{
    struct pl_buf b = pl_buf_init(a, BUS_BYTES + 8);
    pl_buf_u64(&b, (uint64_t)pl_utc_add(pl_now_utc(f->bus->clock), timeout_us).us);
    pl_buf_str(&b, bytes);
    enum pl_err e = pl_buf_err(&b);
    return e == PL_OK ? seal(f, a, "ask", name, reply, pl_buf_view(&b), ret) : e;
}

bool bus_far_ask(struct bus_far *f, const char *subject, struct bus_ask *q, struct pl_str bytes, int64_t timeout_us)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(SEALED_ARENA);
    char name[NAME_BYTES], reply[BUS_REPLY];
    struct pl_str sealed;
    bus_far_name(name, ASKS, subject);
    {
        PL_LOCK(&f->lock);
        if (!f->up || !a)
            return false;
        q->token = ++f->tokens;
        q->next = f->waiting;
        f->waiting = q;
    }
    snprintf(reply, sizeof reply, REPLIES "%s.%016llx", f->box, (unsigned long long)q->token);
    bus_count(BUS_M_ASKS);
    if (ask_seal(f, a, name, reply, bytes, timeout_us, &sealed) == PL_OK && bus_far_publish(f, name, reply, sealed))
        return true;
    /* When it was ended meanwhile, that stands for the answer. */
    return waiting_take(f, 0, q) == NULL;
}

/* The sealed text of an answer: wire code, line feed, bytes. What cannot be sealed goes out empty: unavailable. */
void bus_far_answer(const struct bus_ask *q, enum pl_err e, struct pl_str bytes)
{
    struct bus_far *f = bus_far_enter(q->far_id);
    if (!f)
        return;
    struct pl_arena *a = pl_arena_new(SEALED_ARENA);
    struct pl_str sealed = PL_STR("");
    if (a) {
        struct pl_buf b = pl_buf_init(a, BUS_BYTES + 80);
        pl_buf_fmt(&b, "%s\n", e == PL_OK ? "" : pl_err_code(e));
        if (e == PL_OK)
            pl_buf_str(&b, bytes);
        if (pl_buf_err(&b) != PL_OK || seal(f, a, "answer", q->reply, NULL, pl_buf_view(&b), &sealed) != PL_OK)
            sealed = PL_STR("");
    }
    bus_far_publish(f, q->reply, NULL, sealed); /* one that does not go out lets the asker run into its deadline */
    pl_arena_free(a);
    bus_far_leave(f);
}

static enum pl_err err_of(struct pl_str code)
{
    for (int i = 1; i < PL_ERR_COUNT; i++)
        if (pl_str_eqz(code, pl_err_table[i].code))
            return (enum pl_err)i;
    return code.n ? PL_INTERNAL : PL_OK;
}

void bus_far_take_answer(struct bus_far *f, natsMsg *msg)
{
    const char *name = natsMsg_GetSubject(msg), *dot = strrchr(name, '.');
    unsigned long long token = 0;
    if (!dot || sscanf(dot + 1, "%16llx", &token) != 1 || !token)
        return;
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(SEALED_ARENA);
    struct pl_str plain, bytes = PL_STR_NONE;
    enum pl_err e = a ? PL_OK : PL_NO_MEMORY;
    if (natsMsg_IsNoResponders(msg) || natsMsg_GetDataLength(msg) == 0)
        e = PL_UNAVAILABLE;
    else if (e == PL_OK && (e = unseal(f, a, "answer", NULL, msg, &plain)) == PL_OK)
        e = err_of(pl_str_split(plain, '\n', &bytes));
    if (e == PL_AUTH)
        return; /* not from this cluster: the real answer may still come */
    struct bus_ask *q = waiting_take(f, token, NULL);
    if (q)
        bus_ask_end(q, e, bytes);
}

void bus_far_take_ask(struct bus_far *f, natsMsg *msg)
{
    const char *subject = bus_far_subject(natsMsg_GetSubject(msg), ASKS), *reply = natsMsg_GetReply(msg);
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(SEALED_ARENA);
    struct pl_str plain;
    if (!subject || !reply || strlen(reply) >= BUS_REPLY)
        return;
    struct bus_ask *q = bus_ask_from_far(f->id, reply);
    if (!q || !a || unseal(f, a, "ask", reply, msg, &plain) != PL_OK) {
        if (q)
            bus_answer(q, PL_UNAVAILABLE, PL_STR_NONE);
        else
            bus_far_publish(f, reply, NULL, PL_STR("")); /* its asker need not wait for what we have no memory for */
        return;
    }
    struct pl_rd r = pl_rd_of(plain.p, plain.n);
    struct pl_utc until = { (int64_t)pl_rd_u64(&r) };
    if (r.short_ || pl_utc_cmp(pl_now_utc(f->bus->clock), pl_utc_add(until, SKEW)) > 0) {
        bus_count(BUS_M_REFUSED);
        PL_LOG(f->log, PL_WARN, "bus.too-old", PL_F_Z("subject", subject));
        bus_answer(q, PL_TOO_SLOW, PL_STR_NONE);
        return;
    }
    if (bus_ask_here(f->bus, subject, q, (struct pl_str){ plain.p + 8, plain.n - 8 }))
        return;
    if (bus_far_is_not_ours(f, subject)) /* the first answer counts, and ours would be that nobody is there */
        bus_ask_let_go(q);
    else
        bus_answer(q, PL_UNAVAILABLE, PL_STR_NONE);
}

/* ---- Who serves what, since when ---- */

uint64_t bus_far_stamp(struct bus_far *f)
{
    int64_t now = pl_now_utc(f->bus->clock).us;
    PL_LOCK(&f->lock);
    f->stamp = f->stamp >= (uint64_t)now ? f->stamp + 1 : (uint64_t)now;
    return f->stamp;
}

void bus_far_serves(struct bus_far *f, const char *subject, uint64_t stamp)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(4096);
    char name[NAME_BYTES], mem[16];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    struct pl_str sealed;
    pl_buf_u64(&b, stamp);
    bus_far_name(name, SERVES, subject);
    if (a && seal(f, a, "serves", name, NULL, pl_buf_view(&b), &sealed) == PL_OK)
        bus_far_publish(f, name, NULL, sealed); /* lost: the older connection finds itself fenced by its row */
}

void bus_far_take_serves(struct bus_far *f, natsMsg *msg)
{
    const char *subject = bus_far_subject(natsMsg_GetSubject(msg), SERVES);
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(4096);
    struct pl_str plain;
    if (!subject || !a || unseal(f, a, "serves", NULL, msg, &plain) != PL_OK)
        return;
    struct pl_rd r = pl_rd_of(plain.p, plain.n);
    uint64_t stamp = pl_rd_u64(&r);
    if (r.short_)
        return;
    if (stamp) {
        {
            PL_LOCK(&f->lock);
            f->stamp = stamp > f->stamp ? stamp : f->stamp;
        }
        unsigned n = bus_yield_here(f->bus, subject, stamp);
        if (n)
            bus_far_yield(f, subject);
        for (; n; n--)
            bus_far_unwant(f, BUS_WANT_ASKS, subject, /* wait= */ false);
        return;
    }
    stamp = bus_far_stamp(f);
    unsigned n = bus_return_here(f->bus, subject, stamp);
    for (unsigned i = 0; i < n; i++)
        if (bus_far_want(f, BUS_WANT_ASKS, subject) != PL_OK)
            PL_LOG(f->log, PL_ERROR, "bus.not-served", PL_F_Z("subject", subject), PL_F_ERR(PL_NO_MEMORY));
    if (n)
        bus_far_serves(f, subject, stamp);
}

/* ---- Nudges ---- */

void bus_far_nudge(struct bus_far *f, const char *subject)
{
    char name[NAME_BYTES];
    bus_far_name(name, NUDGES, subject);
    if (bus_far_publish(f, name, NULL, PL_STR("")))
        bus_count(BUS_M_NUDGES);
}
