#include "link_tls.h"
#include <unistd.h>

static struct pl_mono now(const struct link_thread *t) { return pl_now_mono(t->engine->conf.clock); }
static int64_t or_else(int64_t us, int64_t dflt) { return us ? us : dflt; }
static int64_t ping_us(const struct link_thread *t) { return or_else(t->proto->ping_us, 10 * PL_SECOND); }
static int64_t dead_us(const struct link_thread *t) { return or_else(t->proto->dead_us, 20 * PL_SECOND); }

/* Word from the peer: silence starts anew. */
static void heard(struct link_thread *t, struct link_conn *c)
{
    c->heard = now(t);
    if (c->state == LINK_OPEN)
        link_list_add(&t->quiet, &c->by_silence);
}

/* The close was asked for: what is queued goes out first, then the close frame, each with its time. */
static void begin_close(struct link_thread *t, struct link_conn *c)
{
    c->state = LINK_CLOSING;
    c->close_tick = t->ticks + LINK_CLOSE_TICKS;
    link_list_add(&t->leaving, &c->by_silence);
    link_list_remove(&c->by_age);
    lws_rx_flow_control(c->wsi, 1); /* to see it answer, or go */
    lws_callback_on_writable(c->wsi);
}

/* Nothing more comes from it or goes to it: the last job is the end. */
static void give_up(struct link_conn *c, int code, const char *reason)
{
    bool established = c->state != LINK_ADOPTED;
    if (established) {
        link_list_remove(&c->by_turn);
        c->thread->open--;
    }
    if (c->told && code < 4000) /* it went because it was sent: not by a fault of its own */
        reason = "cloud_restart";
    c->state = LINK_OVER;
    link_list_remove(&c->by_silence);
    link_list_remove(&c->by_age);
    c->partial = pl_heap_free(c->partial);
    pthread_mutex_lock(&c->lock);
    c->gone = true;
    c->ended = reason;
    link_queue_clear(&c->out);
    if (established)
        link_conn_job(c, PL_STEAL(c->end));
    pthread_mutex_unlock(&c->lock);
    if (!established)
        return;
    link_metric(LINK_M_CONNECTIONS, -1);
    PL_LOG(&c->log, PL_INFO, "link.closed", PL_F_Z("protocol", c->proto->name), PL_F_INT("close", code), PL_F_Z("reason", reason));
}

/* Something was asked from outside: sends, a close, room in the pool. */
static void look_at(struct link_thread *t, struct link_conn *c)
{
    if (!c->wsi || (c->state != LINK_OPEN && c->state != LINK_CLOSING))
        return;
    pthread_mutex_lock(&c->lock);
    bool closing = c->closing, waiting = c->out.first != NULL, resume = c->paused && c->waiting <= LINK_WAITING_NEW / 2;
    int code = c->code;
    const char *reason = c->reason;
    if (resume)
        c->paused = false;
    pthread_mutex_unlock(&c->lock);
    if (c->state == LINK_OPEN && resume) {
        lws_rx_flow_control(c->wsi, 1);
        heard(t, c);
    }
    if (closing && c->state == LINK_OPEN)
        begin_close(t, c);
    else if (c->flushed) {
        struct lws *wsi = c->wsi;
        give_up(c, code, reason);
        link_goodbye(wsi, (unsigned)code, pl_str_of(reason));
    } else if (waiting)
        lws_callback_on_writable(c->wsi);
}

static void free_slot(struct link_thread *t, const struct link_conn *c)
{
    if (!c->pumped)
        link_slot_free(t->engine, &c->address);
}

static void adopt(struct link_thread *t, struct link_conn *c)
{
    struct lws_vhost *vh = lws_get_vhost_by_name(t->loop.ctx, "default");
    lws_adopt_desc_t desc = { .vh = vh, .type = LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP, .fd = { .sockfd = c->fd }, .opaque = c };
    if (c->pump && link_pump_start(c->pump) != PL_OK) {
        c->state = LINK_OVER;
        close(c->fd);
        link_unref(c);
        return;
    }
    c->fd = -1;
    if (lws_adopt_descriptor_vhost_via_info(&desc))
        return;
    /* The library closed the socket, but may yet name the connection in a last callback: it is kept until then, or until the thread ends. */
    c->state = LINK_OVER;
    free_slot(t, c);
    c->next_dirty = t->orphans;
    t->orphans = c;
}

/* Each once, by turns, until enough were told for this tick. */
static void send_away(struct link_thread *t)
{
    unsigned told = 0;
    for (unsigned i = t->open; i > 0 && told < t->engine->drain_per_tick; i--) {
        struct link_conn *c = LINK_OF(t->all.next, by_turn);
        link_list_add(&t->all, &c->by_turn);
        if (c->told || c->state != LINK_OPEN)
            continue;
        c->told = true;
        told++;
        if (__atomic_load_n(&c->phase, __ATOMIC_ACQUIRE) == LINK_NEW || link_send(c, t->engine->drain) != PL_OK)
            link_conn_close(c, LWS_CLOSE_STATUS_GOINGAWAY, "cloud_restart", false);
    }
}

static bool draining(struct link_thread *t)
{
    PL_LOCK(&t->lock);
    return t->draining;
}

static void close_all(struct link_thread *t)
{
    struct link_node *lists[] = { &t->quiet, &t->pinged };
    for (size_t i = 0; i < PL_COUNT(lists); i++)
        for (struct link_node *n = lists[i]->next; n != lists[i]; n = n->next)
            link_conn_close(LINK_OF(n, by_silence), LWS_CLOSE_STATUS_GOINGAWAY, "cloud_restart", false);
}

static void woken(struct link_thread *t)
{
    pthread_mutex_lock(&t->lock);
    bool stopping = t->stopping && !t->said_stop, quitting = t->quitting;
    struct link_conn *arrived = t->arrived, *c;
    t->arrived = NULL;
    pthread_mutex_unlock(&t->lock);
    for (struct link_conn *next; arrived; arrived = next) {
        next = arrived->next_dirty;
        adopt(t, arrived);
    }
    if (stopping) {
        t->said_stop = true;
        close_all(t);
    }
    pthread_mutex_lock(&t->lock);
    c = t->dirty;
    t->dirty = NULL;
    pthread_mutex_unlock(&t->lock);
    for (struct link_conn *next; c; c = next) {
        pthread_mutex_lock(&t->lock);
        next = c->next_dirty;
        c->dirty = false;
        pthread_mutex_unlock(&t->lock);
        look_at(t, c);
        link_unref(c);
    }
    if (quitting) {
        link_pump_end_all(t);
        link_loop_quit(&t->loop);
    }
}

/* S (phases): whoever is not authenticated in time goes, unless it waits for us. */
static void watch_fresh(struct link_thread *t)
{
    for (struct link_node *n; (n = t->fresh.next) != &t->fresh;) {
        struct link_conn *c = LINK_OF(n, by_age);
        if (__atomic_load_n(&c->phase, __ATOMIC_ACQUIRE) != LINK_NEW) {
            link_list_remove(n);
            continue;
        }
        if (pl_mono_sub(now(t), c->since) < or_else(t->proto->auth_us, 5 * PL_SECOND))
            return;
        pthread_mutex_lock(&c->lock);
        bool ours = c->active;
        pthread_mutex_unlock(&c->lock);
        if (ours) {
            c->since = now(t);
            link_list_add(&t->fresh, n);
            continue;
        }
        link_list_remove(n);
        link_conn_refuse(c, PL_TOO_SLOW, LINK_M_LATE, "not authenticated in time");
    }
}

/* A ping after ping_us of silence; its answer has until dead_us. Counted from the ping, so that a clock that jumps costs a ping, not all connections. */
static void watch_silence(struct link_thread *t)
{
    for (struct link_node *n; (n = t->quiet.next) != &t->quiet;) {
        struct link_conn *c = LINK_OF(n, by_silence);
        if (pl_mono_sub(now(t), c->heard) < ping_us(t))
            break;
        pthread_mutex_lock(&c->lock);
        bool paused = c->paused;
        pthread_mutex_unlock(&c->lock);
        if (paused) { /* we do not listen: its silence is ours */
            heard(t, c);
            continue;
        }
        c->pinged = now(t);
        c->ping_due = true;
        link_list_add(&t->pinged, n);
        lws_callback_on_writable(c->wsi);
    }
    for (struct link_node *n; (n = t->pinged.next) != &t->pinged;) {
        struct link_conn *c = LINK_OF(n, by_silence);
        if (pl_mono_sub(now(t), c->pinged) < dead_us(t) - ping_us(t))
            break;
        link_metric(LINK_M_SILENT, 1);
        struct lws *wsi = c->wsi;
        give_up(c, 1006, "silent");
        link_cut(wsi);
    }
}

static void watch_leaving(struct link_thread *t)
{
    for (struct link_node *n; (n = t->leaving.next) != &t->leaving;) {
        struct link_conn *c = LINK_OF(n, by_silence);
        if ((int)(c->close_tick - t->ticks) > 0)
            return;
        struct lws *wsi = c->wsi;
        give_up(c, c->code, c->reason);
        link_cut(wsi);
    }
}

static void tick(void *self)
{
    struct link_thread *t = self;
    struct link *l = t->engine;
    t->ticks++;
    watch_fresh(t);
    watch_silence(t);
    watch_leaving(t);
    if (draining(t))
        send_away(t);
    link_rate_watch(t);
    link_pump_watch(t);
    link_unpark(t);
    if (t != &l->classes[0].threads[0])
        return;
    pthread_mutex_lock(&l->lock);
    if (l->grace_ticks > 0 && --l->grace_ticks == 0)
        pthread_cond_broadcast(&l->idle);
    pthread_mutex_unlock(&l->lock);
}

static void opened(struct link_thread *t, struct link_conn *c, struct lws *wsi)
{
    c->wsi = wsi;
    c->state = LINK_OPEN;
    c->since = now(t);
    heard(t, c);
    link_list_add(&t->fresh, &c->by_age);
    link_list_add(&t->all, &c->by_turn);
    t->open++;
    link_rate_begin(t, c);
    link_metric(LINK_M_CONNECTIONS, 1);
    link_metric(LINK_M_OPENED, 1);
    PL_LOG(&c->log, PL_DEBUG, "link.opened", PL_F_Z("protocol", c->proto->name));
    if (t->said_stop || draining(t))
        link_conn_close(c, LWS_CLOSE_STATUS_GOINGAWAY, "cloud_restart", false);
    else if (c->proto->opened)
        c->proto->opened(c->proto->self, c);
}

/* Room for n more bytes in the message that comes in, at most `most`; doubling, so that a message in crumbs costs no more than one. */
static enum pl_err make_room(struct link_conn *c, size_t n, size_t rest, size_t most)
{
    struct link_job *j = c->partial;
    size_t have = j ? j->n : 0;
    if (n > most || have > most - n)
        return PL_BODY_TOO_LARGE;
    if (j && j->cap - j->n >= n)
        return PL_OK;
    size_t want = have + n + (rest < most - have - n ? rest : most - have - n), twice = 2 * have < most ? 2 * have : most;
    size_t cap = want > twice ? want : twice;
    struct link_job *wider = pl_heap(sizeof *wider + cap);
    if (!wider)
        return PL_NO_MEMORY;
    wider->kind = LINK_JOB_MESSAGE;
    wider->cap = cap;
    wider->n = have;
    if (have)
        memcpy(wider->text, j->text, have);
    pl_heap_free(j);
    c->partial = wider;
    return PL_OK;
}

static void whole_message(struct link_conn *c)
{
    struct link_job *job = PL_STEAL(c->partial);
    link_metric(LINK_M_IN, 1);
    bool ready = __atomic_load_n(&c->phase, __ATOMIC_ACQUIRE) != LINK_NEW;
    pthread_mutex_lock(&c->lock);
    link_conn_job(c, job);
    bool pause = c->waiting >= (ready ? LINK_WAITING_READY : LINK_WAITING_NEW) || c->waiting_bytes >= LINK_WAITING_BYTES;
    c->paused = c->paused || pause;
    pthread_mutex_unlock(&c->lock);
    if (pause) {
        link_metric(LINK_M_PAUSED, 1);
        lws_rx_flow_control(c->wsi, 0);
    }
}

static void received(struct link_thread *t, struct link_conn *c, const char *p, size_t n)
{
    heard(t, c);
    pthread_mutex_lock(&c->lock);
    bool closing = c->closing;
    pthread_mutex_unlock(&c->lock);
    if (closing || c->state != LINK_OPEN)
        return;
    size_t rest = lws_remaining_packet_payload(c->wsi);
    bool last = rest == 0 && lws_is_final_fragment(c->wsi);
    if (rest)
        link_rate_part(c, n);
    else if (!link_rate_frame(c, n)) {
        link_conn_refuse(c, PL_RATE_LIMITED, LINK_M_RATE, "too many messages");
        return;
    }
    if (lws_frame_is_binary(c->wsi) || (n == 0 && !last)) {
        link_conn_refuse(c, PL_PROTOCOL, LINK_M_PROTOCOL, "not a text message");
        return;
    }
    enum pl_err e = make_room(c, n, rest, t->proto->max_message ? t->proto->max_message : 64 * 1024);
    if (e != PL_OK) {
        link_conn_refuse(c, e, LINK_M_LARGE, "the message is too large");
        return;
    }
    if (n)
        memcpy(c->partial->text + c->partial->n, p, n);
    c->partial->n += n;
    if (last)
        whole_message(c);
}

static int writable(struct link_conn *c, struct lws *wsi)
{
    if (c->ping_due) {
        c->ping_due = false;
        lws_callback_on_writable(wsi);
        return link_ping(wsi);
    }
    pthread_mutex_lock(&c->lock);
    struct link_frame *f = link_queue_take(&c->out);
    bool more = c->out.first != NULL;
    if (!f && c->state == LINK_CLOSING && !c->flushed) {
        c->flushed = true;
        link_conn_poke(c);
    }
    pthread_mutex_unlock(&c->lock);
    if (!f)
        return 0;
    if (more || c->state == LINK_CLOSING)
        lws_callback_on_writable(wsi);
    return link_frame_write(wsi, f);
}

/* The socket is gone, whatever happened on it before. */
static void destroyed(struct link_thread *t, struct link_conn *c)
{
    for (struct link_conn **at = &t->orphans; *at; at = &(*at)->next_dirty)
        if (*at == c) {
            *at = c->next_dirty;
            link_unref(c);
            return;
        }
    if (c->state != LINK_OVER)
        give_up(c, 1006, "lost");
    c->wsi = NULL;
    free_slot(t, c);
    link_unref(c);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n)
{
    struct link_thread *t = lws_context_user(lws_get_context(wsi));
    (void)user;
    if (reason == LWS_CALLBACK_EVENT_WAIT_CANCELLED) {
        woken(t);
        return 0;
    }
    struct link_conn *c = reason == LWS_CALLBACK_ESTABLISHED || reason == LWS_CALLBACK_RECEIVE || reason == LWS_CALLBACK_RECEIVE_PONG ||
                                  reason == LWS_CALLBACK_SERVER_WRITEABLE || reason == LWS_CALLBACK_WS_PEER_INITIATED_CLOSE ||
                                  reason == LWS_CALLBACK_CLOSED || reason == LWS_CALLBACK_WSI_DESTROY
                              ? lws_get_opaque_user_data(wsi) : NULL;
    if (!c)
        return reason == LWS_CALLBACK_HTTP ? -1 : 0; /* the door lets only upgrades through */
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED: opened(t, c, wsi); break;
    case LWS_CALLBACK_RECEIVE: received(t, c, in, n); break;
    case LWS_CALLBACK_RECEIVE_PONG:
        heard(t, c);
        if (!link_rate_frame(c, n) && c->state == LINK_OPEN)
            link_conn_refuse(c, PL_RATE_LIMITED, LINK_M_RATE, "too many pongs");
        break;
    case LWS_CALLBACK_SERVER_WRITEABLE: return c->state == LINK_OPEN || c->state == LINK_CLOSING ? writable(c, wsi) : 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE: c->peer_code = n >= 2 ? ((unsigned char *)in)[0] << 8 | ((unsigned char *)in)[1] : 1005; break;
    case LWS_CALLBACK_CLOSED:
        if (c->state != LINK_OVER)
            give_up(c, c->peer_code ? c->peer_code : 1006, c->peer_code ? "by_peer" : "lost");
        break;
    case LWS_CALLBACK_WSI_DESTROY: destroyed(t, c); break;
    default: break;
    }
    return 0;
}

enum pl_err link_thread_open(struct link_thread *t, struct link *l, const struct link_protocol *p, struct pl_fail *reterr)
{
    struct link_node *lists[] = { &t->fresh, &t->quiet, &t->pinged, &t->leaving, &t->all, &t->pumps, &t->ending };
    for (size_t i = 0; i < PL_COUNT(lists); i++)
        link_list_init(lists[i]);
    t->engine = l;
    t->proto = p;
    t->parked_end = &t->parked;
    pthread_mutex_init(&t->lock, NULL);
    /* The small receive buffer is most of what an idle connection costs. */
    t->protocols[0] = (struct lws_protocols){ .name = p->name, .callback = callback, .rx_buffer_size = 1024, .tx_packet_size = 64 * 1024 };
    struct lws_context_creation_info info = { .protocols = t->protocols, .vhost_name = "default", .timeout_secs = 5, .timeout_secs_ah_idle = 5 };
    enum pl_err e = link_loop_open(&t->loop, &info, tick, t, LINK_TICK_MS);
    return e == PL_OK ? e : pl_fail(reterr, e, "The WebSocket library could not start (is its plug-in for libuv installed?).");
}

void link_thread_give(struct link_thread *t, struct link_conn *c)
{
    c->thread = t;
    PL_LOCK(&t->lock);
    c->next_dirty = t->arrived;
    t->arrived = c;
    link_loop_wake(&t->loop);
}

void link_thread_drain(struct link_thread *t)
{
    PL_LOCK(&t->lock);
    t->draining = true; /* the next tick sees it */
}

void link_thread_stop(struct link_thread *t)
{
    PL_LOCK(&t->lock);
    t->stopping = true;
    link_loop_wake(&t->loop);
}

void link_thread_quit(struct link_thread *t)
{
    PL_LOCK(&t->lock);
    t->quitting = true;
    link_loop_wake(&t->loop);
}
