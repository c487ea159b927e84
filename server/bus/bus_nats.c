/* The bus among nodes, on NATS core. A watcher's subject is "porchlight.n.<subject>", a server's "porchlight.a.<subject>", answers come back to
 * "porchlight.r.<box>.<token>", and who serves what since when is told on "porchlight.s.<subject>", so that the newest server of all nodes is the one that is asked.
 *
 * Threads: libnats calls us on one thread for messages and one for the state of the connection; both find this object by a number, because a call may still be on its
 * way when it has gone. A thread of ours, the keeper, does what may wait for the network: subscriptions, and looking at everything after NATS was away. The
 * library's own lock is held while it connects, so nobody else touches the connection while it is not `up`.
 *
 * Subscriptions end in two steps. Before 3.6.1 the library's reading thread goes on with a subscription that it has found without holding on to it (nats.c issue 637),
 * so that one freed while messages for it come is memory used after it was freed. We unsubscribe, which takes it out of the library's table, and free it after
 * the next flush: its pong is handled by the reading thread, which has then let go of all that it found before. While NATS is away nothing is begun or ended:
 * what is wanted is looked at as a whole when it comes, so that nothing piles up meanwhile. */
#include "bus_nats.h"
#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FLUSH_MS 1000
#define CONNECT_MS 1000
#define PING_MS 1000 /* two without an answer: it is away */
#define AGAIN_MS 200
#define REOPEN_MS 1000

static struct pl_metric metrics[] = {
    PL_METRIC_GAUGE("porchlight_bus_up", "1 while NATS is connected."),
    PL_METRIC_COUNTER("porchlight_bus_lost_total", "Times that NATS went away."),
    PL_METRIC_COUNTER("porchlight_bus_nudges_sent_total", "Nudges to other nodes."),
    PL_METRIC_COUNTER("porchlight_bus_asks_sent_total", "Questions to other nodes."),
    PL_METRIC_COUNTER("porchlight_bus_refused_total", "Messages that were not sealed by this cluster, or too old."),
};
void bus_count(int metric) { pl_count(&metrics[metric], 1); }

/* ---- Those that live, by number ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t left;
    struct bus_far *first; /* LOCK: lock */
    uint64_t ids;          /* LOCK: lock */
} registry = { .lock = PTHREAD_MUTEX_INITIALIZER, .left = PTHREAD_COND_INITIALIZER };

static void far_register(struct bus_far *f)
{
    PL_LOCK(&registry.lock);
    f->id = ++registry.ids;
    f->next = registry.first;
    registry.first = f;
}

/* Returns when no callback is in it; none comes any more. */
static void far_unregister(struct bus_far *f)
{
    PL_LOCK(&registry.lock);
    struct bus_far **at = &registry.first;
    while (*at && *at != f)
        at = &(*at)->next;
    if (*at)
        *at = f->next;
    while (f->inside)
        pthread_cond_wait(&registry.left, &registry.lock);
}

struct bus_far *bus_far_enter(uint64_t id)
{
    PL_LOCK(&registry.lock);
    struct bus_far *f = registry.first;
    while (f && f->id != id)
        f = f->next;
    if (f)
        f->inside++;
    return f;
}

void bus_far_leave(struct bus_far *f)
{
    PL_LOCK(&registry.lock);
    if (--f->inside == 0)
        pthread_cond_broadcast(&registry.left);
}

static void *closure_of(const struct bus_far *f) { return (void *)(uintptr_t)f->id; }

/* ---- Small things ---- */

void bus_far_wake(struct bus_far *f)
{
    uint64_t one = 1;
    ssize_t done = write(f->wake, &one, sizeof one);
    (void)done; /* full means awake */
}

void bus_far_name(char out[NAME_BYTES], const char *prefix, const char *subject) { snprintf(out, NAME_BYTES, "%s%s", prefix, subject); }

/* "hub.X" of "porchlight.a.hub.X"; NULL when it is none of ours. */
const char *bus_far_subject(const char *name, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(name, prefix, n) == 0 && strlen(name + n) <= BUS_SUBJECT ? name + n : NULL;
}

bool bus_far_publish(struct bus_far *f, const char *name, const char *reply, struct pl_str bytes)
{
    {
        PL_LOCK(&f->lock);
        if (!f->up)
            return false;
        f->sending++;
    }
    natsStatus s = reply ? natsConnection_PublishRequest(f->nats, name, reply, bytes.p, (int)bytes.n) : natsConnection_Publish(f->nats, name, bytes.p, (int)bytes.n);
    PL_LOCK(&f->lock);
    if (--f->sending == 0)
        pthread_cond_broadcast(&f->settled);
    return s == NATS_OK;
}

/* ---- What the library calls ---- */

#define MESSAGE_HANDLER(name, call) \
    static void name(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure) \
    { \
        struct bus_far *f = bus_far_enter((uint64_t)(uintptr_t)closure); \
        (void)nc, (void)sub; \
        if (f) { \
            call; \
            bus_far_leave(f); \
        } \
        natsMsg_Destroy(msg); \
    }

static void take_nudge(struct bus_far *f, natsMsg *msg, unsigned which)
{
    const char *subject = bus_far_subject(natsMsg_GetSubject(msg), NUDGES);
    if (subject)
        bus_nudge_here(f->bus, subject, which);
}

static void look_at_all(struct bus_far *f)
{
    {
        PL_LOCK(&f->lock);
        f->look = true;
    }
    bus_far_wake(f);
}

MESSAGE_HANDLER(on_nudge_exact, take_nudge(f, msg, BUS_EXACT))
MESSAGE_HANDLER(on_nudge_below, take_nudge(f, msg, BUS_BELOW))
MESSAGE_HANDLER(on_ask, bus_far_take_ask(f, msg))
MESSAGE_HANDLER(on_answer, bus_far_take_answer(f, msg))
MESSAGE_HANDLER(on_serves, bus_far_take_serves(f, msg))
MESSAGE_HANDLER(on_look, look_at_all(f))

static void came(natsConnection *nc, void *closure)
{
    struct bus_far *f = bus_far_enter((uint64_t)(uintptr_t)closure);
    (void)nc;
    if (!f)
        return;
    {
        PL_LOCK(&f->lock);
        f->turns++;
        f->came = true;
    }
    bus_far_wake(f);
    bus_far_leave(f);
}

static void went(struct bus_far *f, bool closed)
{
    bool was;
    {
        PL_LOCK(&f->lock);
        was = f->up;
        f->turns++;
        f->up = f->came = false;
        f->closed = f->closed || closed;
        pthread_cond_broadcast(&f->settled);
    }
    pl_gauge(&metrics[BUS_M_UP], 0);
    if (was) {
        bus_count(BUS_M_LOST);
        PL_LOG(f->log, PL_WARN, "bus.lost");
    }
    bus_far_fail_all(f);
    bus_far_wake(f);
}

static void on_disconnected(natsConnection *nc, void *closure)
{
    struct bus_far *f = bus_far_enter((uint64_t)(uintptr_t)closure);
    (void)nc;
    if (!f)
        return;
    went(f, false);
    bus_far_leave(f);
}

static void on_closed(natsConnection *nc, void *closure)
{
    struct bus_far *f = bus_far_enter((uint64_t)(uintptr_t)closure);
    (void)nc;
    if (!f)
        return;
    went(f, true);
    bus_far_leave(f);
}

/* Messages were dropped because we were slow: nudges may be among them. */
static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus s, void *closure)
{
    struct bus_far *f = bus_far_enter((uint64_t)(uintptr_t)closure);
    (void)nc, (void)sub;
    if (!f)
        return;
    PL_LOG(f->log, PL_WARN, "bus.error", PL_F_Z("why", natsStatus_GetText(s)));
    if (s == NATS_SLOW_CONSUMER)
        look_at_all(f);
    bus_far_leave(f);
}

/* ---- The keeper ---- */

static void subscribe(struct bus_far *f, struct interest *i)
{
    char name[NAME_BYTES];
    size_t n = strlen(i->subject);
    bool below = i->subject[n - 1] == '*';
    bus_far_name(name, i->what == BUS_WANT_ASKS ? ASKS : NUDGES, i->subject);
    if (below)
        name[strlen(name) - 1] = '>'; /* ours means all below, theirs one word */
    natsStatus s = natsConnection_Subscribe(&i->sub, f->nats, name, i->what == BUS_WANT_ASKS ? on_ask : below ? on_nudge_below : on_nudge_exact, closure_of(f));
    if (s != NATS_OK) {
        i->sub = NULL;
        PL_LOG(f->log, PL_ERROR, "bus.not-subscribed", PL_F_Z("subject", i->subject), PL_F_Z("why", natsStatus_GetText(s)));
    }
}

static void interests_free(struct interest **list)
{
    for (struct interest *i; (i = *list) != NULL;) {
        *list = i->next;
        natsSubscription_Destroy(i->sub);
        pl_heap_free(i);
    }
}

/* All that we said is known there, and the reading thread is past all that came before. */
static bool flush(struct bus_far *f)
{
    if (natsConnection_FlushTimeout(f->nats, FLUSH_MS) != NATS_OK)
        return false;
    interests_free(&f->ended);
    return true;
}

/* Makes the subscriptions what is wanted. `there`: NATS is. */
static void settle(struct bus_far *f, bool there)
{
    uint64_t ticket;
    int refs;
    bool told = false, up;
    {
        PL_LOCK(&f->lock);
        ticket = f->asked;
    }
    for (struct interest *i; (i = bus_want_take(f, there, &refs)) != NULL;)
        if (refs == 0 && !i->sub) {
            pl_heap_free(i);
        } else if (refs == 0 && there) {
            (void)natsSubscription_Unsubscribe(i->sub); /* it fails only when the connection is closed, and then there is none to end */
            i->next = f->ended;
            f->ended = i;
            told = true;
        } else if (refs > 0 && !i->sub && there) {
            subscribe(f, i);
            told = true;
        }
    {
        PL_LOCK(&f->lock);
        up = f->up;
    }
    if (told && up)
        (void)flush(f); /* when it fails the connection goes, and comes again with all of them */
    PL_LOCK(&f->lock);
    f->done = ticket;
    pthread_cond_broadcast(&f->settled);
}

/* It is there: once our subscriptions are known, everybody looks at everything, here and on the other nodes: what either said meanwhile was lost. At the very
 * start there is nothing yet to look at. */
static void welcome(struct bus_far *f, bool at_start)
{
    uint64_t turn;
    {
        PL_LOCK(&f->lock);
        turn = f->turns;
    }
    if (!flush(f))
        return; /* gone again, or stuck: then its pings end it */
    {
        PL_LOCK(&f->lock);
        if (turn != f->turns)
            return;
        f->up = true;
        f->look = !at_start;
    }
    pl_gauge(&metrics[BUS_M_UP], 1);
    PL_LOG(f->log, PL_INFO, "bus.connected");
    if (!at_start)
        bus_far_publish(f, LOOK, NULL, PL_STR(""));
}

static natsStatus open_connection(struct bus_far *f, bool *ret_connected)
{
    static const struct { const char *name; natsMsgHandler on; } fixed[] = { { SERVES ">", on_serves }, { LOOK, on_look }, { REPLIES, on_answer } };
    static_assert(PL_COUNT(fixed) == PL_COUNT(f->fixed), "one for each");
    char name[NAME_BYTES];
    natsStatus s = natsConnection_Connect(&f->nats, f->options);
    *ret_connected = s == NATS_OK;
    if (s == NATS_NOT_YET_CONNECTED)
        s = NATS_OK;
    for (size_t i = 0; s == NATS_OK && i < PL_COUNT(fixed); i++) {
        snprintf(name, sizeof name, "%s%s%s", fixed[i].name, fixed[i].on == on_answer ? f->box : "", fixed[i].on == on_answer ? ".*" : "");
        s = natsConnection_Subscribe(&f->fixed[i], f->nats, name, fixed[i].on, closure_of(f));
    }
    return s;
}

/* Once it is not up nobody begins to send. The library's reading thread ends with the connection, before the subscriptions go. */
static void close_connection(struct bus_far *f)
{
    {
        PL_LOCK(&f->lock);
        f->up = false;
        while (f->sending)
            pthread_cond_wait(&f->settled, &f->lock);
    }
    natsConnection_Close(f->nats);
    for (size_t i = 0; i < PL_COUNT(f->fixed); i++) {
        natsSubscription_Destroy(f->fixed[i]);
        f->fixed[i] = NULL;
    }
    interests_free(&f->ended);
    natsConnection_Destroy(f->nats);
    f->nats = NULL;
    PL_LOCK(&f->lock);
    for (size_t b = 0; b < BUS_BUCKETS; b++)
        for (struct interest *i = f->buckets[b]; i; i = i->next) {
            natsSubscription_Destroy(i->sub);
            i->sub = NULL;
        }
}

/* The library has given up, as it does when its token is refused twice. We do not. */
static void reopen(struct bus_far *f)
{
    const char *why = "";
    (void)natsConnection_GetLastError(f->nats, &why);
    PL_LOG(f->log, PL_ERROR, "bus.closed", PL_F_Z("why", why));
    close_connection(f);
    bool connected = false;
    natsStatus s = open_connection(f, &connected);
    PL_LOCK(&f->lock);
    f->closed = s != NATS_OK;
    f->came = f->came || (s == NATS_OK && connected); /* the library only tells of one that it waited for */
}

static void *keep(void *arg)
{
    struct bus_far *f = arg;
    bool closed = false;
    for (;;) {
        struct pollfd p = { .fd = f->wake, .events = POLLIN };
        uint64_t count;
        bool is_came, there, look;
        int n = poll(&p, 1, closed ? REOPEN_MS : -1);
        if (n > 0 && read(f->wake, &count, sizeof count) < 0)
            continue;
        if (closed && n == 0)
            reopen(f);
        {
            PL_LOCK(&f->lock);
            if (f->stopping) { /* nobody settles anything any more, so nobody may wait for it */
                f->up = false;
                pthread_cond_broadcast(&f->settled);
                return NULL;
            }
            is_came = f->came;
            f->came = false;
            closed = f->closed;
            there = is_came || f->up;
            if (is_came)
                bus_want_queue_all(f);
        }
        settle(f, there);
        if (is_came)
            welcome(f, /* at_start= */ false);
        {
            PL_LOCK(&f->lock);
            look = f->look;
            f->look = false;
        }
        if (look)
            bus_nudge_all_here(f->bus);
    }
}

/* ---- Life ---- */

static natsStatus set_servers(natsOptions *o, const char *url)
{
    char mem[1024];
    const char *servers[16];
    int n = 0;
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    pl_buf_z(&b, url);
    if (pl_buf_err(&b) != PL_OK || !mem[0])
        return NATS_INVALID_ARG;
    for (char *at = mem; at && n < (int)PL_COUNT(servers);) {
        servers[n++] = at;
        at = strchr(at, ',');
        if (at)
            *at++ = '\0';
    }
    return natsOptions_SetServers(o, servers, n);
}

static natsStatus set_options(struct bus_far *f, const struct bus_nats_conf *conf)
{
    void *me = closure_of(f);
    natsStatus s = natsOptions_Create(&f->options);
    natsOptions *o = f->options;
    if (s != NATS_OK || (s = set_servers(o, conf->url)) != NATS_OK || (conf->token && (s = natsOptions_SetToken(o, conf->token)) != NATS_OK) ||
        (s = natsOptions_SetName(o, f->box)) != NATS_OK || (s = natsOptions_SetNoEcho(o, true)) != NATS_OK || (s = natsOptions_SetTimeout(o, CONNECT_MS)) != NATS_OK ||
        (s = natsOptions_SetPingInterval(o, PING_MS)) != NATS_OK || (s = natsOptions_SetMaxPingsOut(o, 2)) != NATS_OK || (s = natsOptions_SetMaxReconnect(o, -1)) != NATS_OK ||
        (s = natsOptions_SetReconnectWait(o, AGAIN_MS)) != NATS_OK || (s = natsOptions_SetReconnectJitter(o, AGAIN_MS, AGAIN_MS)) != NATS_OK ||
        (s = natsOptions_SetSendAsap(o, true)) != NATS_OK || (s = natsOptions_UseGlobalMessageDelivery(o, true)) != NATS_OK ||
        (s = natsOptions_SetRetryOnFailedConnect(o, true, came, me)) != NATS_OK || (s = natsOptions_SetReconnectedCB(o, came, me)) != NATS_OK ||
        (s = natsOptions_SetDisconnectedCB(o, on_disconnected, me)) != NATS_OK || (s = natsOptions_SetClosedCB(o, on_closed, me)) != NATS_OK)
        return s;
    return natsOptions_SetErrorHandler(o, on_error, me);
}

static enum pl_err far_new(struct bus *b, const struct bus_nats_conf *conf, struct bus_far **ret, struct pl_fail *reterr)
{
    struct bus_far *f = pl_heap(sizeof *f);
    bool connected = false;
    uint8_t raw[8];
    if (!f)
        return PL_NO_MEMORY;
    *ret = f; /* half-built: bus_far_free takes it */
    f->bus = b;
    f->log = conf->log;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->settled, NULL);
    secure_derive(conf->master, "bus", &f->key);
    pl_rand_fill(conf->rand, raw, sizeof raw);
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(f->box + 2 * i, 3, "%02x", raw[i]);
    pl_metrics_register(metrics, PL_COUNT(metrics));
    far_register(f);
    f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (f->wake < 0)
        return PL_NO_MEMORY;
    natsStatus s = set_options(f, conf);
    if (s == NATS_OK)
        s = open_connection(f, &connected);
    /* A token that is refused may be told at once, or after the library has begun to wait: the keeper tries again either way. */
    bool refused = s == NATS_CONNECTION_CLOSED || s == NATS_CONNECTION_AUTH_FAILED;
    if (s != NATS_OK && !refused)
        return pl_fail(reterr, PL_UNAVAILABLE, "NATS cannot be used as bus.nats_url says: %s.", natsStatus_GetText(s));
    if (connected)
        welcome(f, /* at_start= */ true);
    if (refused)
        went(f, /* closed= */ true);
    f->keeping = pthread_create(&f->keeper, NULL, keep, f) == 0;
    if (f->keeping)
        pthread_setname_np(f->keeper, "bus");
    return f->keeping ? PL_OK : PL_NO_MEMORY;
}

struct bus_far *bus_far_free(struct bus_far *f)
{
    if (!f)
        return NULL;
    if (f->keeping) {
        {
            PL_LOCK(&f->lock);
            f->stopping = true;
        }
        bus_far_wake(f);
        pthread_join(f->keeper, NULL);
    }
    far_unregister(f);
    close_connection(f);
    natsOptions_Destroy(f->options);
    for (size_t b = 0; b < BUS_BUCKETS; b++)
        interests_free(&f->buckets[b]);
    if (f->wake >= 0)
        close(f->wake);
    pthread_cond_destroy(&f->settled);
    pthread_mutex_destroy(&f->lock);
    pl_secret_wipe(&f->key);
    return pl_heap_free(f);
}

enum pl_err bus_nats_new(const struct bus_nats_conf *conf, struct bus **ret, struct pl_fail *reterr)
{
    struct bus *b;
    enum pl_err e = bus_new(conf->clock, &b);
    if (e != PL_OK)
        return e;
    e = far_new(b, conf, &b->far, reterr);
    if (e != PL_OK) {
        bus_free(b);
        return e;
    }
    *ret = b;
    return PL_OK;
}
