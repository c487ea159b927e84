#include "relay_control.h"
#include "json.h"
#include "link_client.h"
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The whole set of sessions, 20,000 at most, goes both ways in one message: our hello names what runs, live.sync what is wanted to. */
enum { ARENA = 4 << 20, LINE = 8192, HELLO = 3 << 20, WHOLE_SET = 2 << 20, POLL_MS = 250, BACKLOG = 4096 };

struct relay_control {
    struct relay_control_conf conf;
    struct link_client *link;
    struct pl_uuid boot_id;
    int wake;
    pthread_t thread;
    bool started;
    atomic_bool stop;
    atomic_bool ready;            /* welcomed: news may be sent */
    atomic_uint_least32_t connection; /* counts connections; 0: none yet */
    atomic_uint_least64_t heard;  /* the last event that the cloud has written */
    /* the writing thread only: what the cloud has not said to have written, oldest first. Of it, the first `said` were sent over connection `said_on`. */
    struct relay_event *backlog;
    size_t backlog_first, backlog_n, said;
    uint32_t said_on;
    uint64_t next_seq; /* of the event after the last one in backlog */
    /* link's thread only */
    bool told_up, told_any;       /* what the worker knows about control */
    /* LOCK: lock */
    pthread_mutex_t lock;
    char nonce[128], server_name[256];
};

static void ring(struct relay_control *c)
{
    uint64_t one = 1;
    ssize_t done = write(c->wake, &one, sizeof one);
    (void)done; /* full means that it is readable already */
}

/* ---- Out: a thread that waits for news and for the connection. */

static void send_line(struct relay_control *c, struct pl_buf *b, bool *ret_sent)
{
    *ret_sent = pl_buf_err(b) == PL_OK && link_client_send(c->link, pl_buf_view(b)) == PL_OK;
}

/* The proof of who we are, with what runs here now. */
static void send_hello(struct relay_control *c, const struct relay_news *news)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(ARENA);
    char id[PL_UUID_TEXT];
    uint8_t signature[64];
    struct pl_str text;
    bool sent = false;
    if (!a)
        return;
    pl_uuid_text(c->conf.relay_id, id);
    PL_LOCK(&c->lock);
    if (secure_hello_text(a, "relay", pl_str_of(id), pl_str_of(c->nonce), pl_str_of(c->server_name), &text) != PL_OK)
        return;
    secure_sign(&c->conf.key, text, signature);
    struct pl_buf b = pl_buf_init(a, HELLO);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_z(&w, "type", "hello");
    jw_uuid(&w, "id", pl_uuid7(c->conf.rand, pl_now_utc(c->conf.clock)));
    jw_uuid(&w, "relay_id", c->conf.relay_id);
    jw_uuid(&w, "boot_id", c->boot_id);
    jw_open(&w, "media");
    jw_z(&w, "host", c->conf.media_host);
    jw_int(&w, "port", c->conf.media_port);
    jw_b64(&w, "fingerprint", c->conf.fingerprint, DTLS_FINGERPRINT);
    jw_close(&w);
    jw_int(&w, "max_sessions", c->conf.max_sessions);
    jw_array(&w, "running");
    for (size_t i = 0; i < news->running_n; i++) {
        jw_open(&w, NULL);
        jw_uuid(&w, "live_id", news->running[i].live_id);
        jw_int(&w, "generation", news->running[i].generation);
        jw_close(&w);
    }
    jw_end_array(&w);
    jw_b64(&w, "signature", signature, sizeof signature);
    jw_close(&w);
    send_line(c, &b, &sent);
    if (!sent)
        PL_LOG(c->conf.log, PL_WARN, "relay.hello-not-sent", PL_F_INT("running", news->running_n));
}

static void log_event(struct relay_control *c, const struct relay_event *ev)
{
    struct pl_log log = pl_log_child(c->conf.log, PL_F_UUID("live", ev->ref.live_id));
    PL_LOG(&log, ev->kind == RELAY_EV_WARNING ? PL_WARN : PL_INFO, "relay.session", PL_F_Z("what", relay_event_name(ev->kind)), PL_F_Z("viewer", ev->viewer_id),
        PL_F_Z("why", ev->code ? ev->code : ""));
}

static void forget_oldest(struct relay_control *c)
{
    c->backlog_first = (c->backlog_first + 1) % BACKLOG;
    c->backlog_n--;
    c->said -= c->said > 0;
}

/* Kept until the cloud has it; the oldest gives way, because hello tells what runs in any case. */
static void keep(struct relay_control *c, const struct relay_event *ev)
{
    if (c->backlog_n == BACKLOG)
        forget_oldest(c);
    c->backlog[(c->backlog_first + c->backlog_n++) % BACKLOG] = *ev;
    c->next_seq++;
}

static bool say(struct relay_control *c, const struct relay_news *n)
{
    char mem[LINE];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    bool sent;
    relay_control_write(n, pl_now_utc(c->conf.clock), pl_now_mono(c->conf.clock), &b);
    send_line(c, &b, &sent);
    return sent;
}

static void say_backlog(struct relay_control *c)
{
    while (c->backlog_n && c->next_seq - c->backlog_n <= atomic_load(&c->heard))
        forget_oldest(c);
    while (c->backlog_n) {
        PL_LOCK(&c->lock); /* no connection takes another's place between the look and the sending: later events never overtake earlier ones */
        if (c->said_on != atomic_load(&c->connection)) { /* what the old one did not confirm may never have arrived */
            c->said_on = atomic_load(&c->connection);
            c->said = 0;
        }
        if (c->said == c->backlog_n || !atomic_load(&c->ready))
            return;
        struct relay_news n = { .kind = RELAY_NEWS_EVENT, .event = c->backlog[(c->backlog_first + c->said) % BACKLOG], .seq = c->next_seq - c->backlog_n + c->said };
        if (!say(c, &n))
            return;
        c->said++;
    }
}

static void tell(struct relay_control *c, const struct relay_news *n)
{
    bool ready = atomic_load(&c->ready), stale = n->connection != atomic_load(&c->connection);
    say_backlog(c);
    switch (n->kind) {
    case RELAY_NEWS_RUNNING:
        if (!stale)
            send_hello(c, n);
        pl_heap_free(n->running);
        break;
    case RELAY_NEWS_ANSWER: /* when whoever asked is gone, nobody waits for it */
        if (!stale && ready)
            (void)say(c, n);
        break;
    case RELAY_NEWS_SESSION:
        if (ready)
            (void)say(c, n);
        pl_heap_free(n->session);
        break;
    case RELAY_NEWS_STATS:
        if (ready)
            (void)say(c, n);
        break;
    case RELAY_NEWS_EVENT:
        if (n->event.kind == RELAY_EV_KEYFRAME_WANTED) { /* of this moment only */
            if (ready)
                (void)say(c, n);
            break;
        }
        log_event(c, &n->event);
        keep(c, &n->event);
        say_backlog(c);
        break;
    }
}

static void *run(void *arg)
{
    struct relay_control *c = arg;
    struct relay_worker *w = c->conf.worker;
    while (!atomic_load(&c->stop)) {
        struct pollfd fds[2] = { { .fd = relay_worker_news_fd(w), .events = POLLIN }, { .fd = c->wake, .events = POLLIN } };
        if (poll(fds, 2, POLL_MS) > 0)
            for (int i = 0; i < 2; i++) {
                uint64_t count;
                ssize_t done = fds[i].revents ? read(fds[i].fd, &count, sizeof count) : 0;
                (void)done;
            }
        const struct relay_news *n;
        while (!atomic_load(&c->stop) && relay_worker_peek(w, &n)) {
            tell(c, n);
            relay_worker_next(w);
        }
        say_backlog(c);
    }
    return NULL;
}

/* ---- In: on link_client's thread. */

static bool tell_worker(struct relay_control *c, bool up)
{
    struct relay_post p = { .ask = RELAY_ASK_CMD, .cmd.kind = up ? RELAY_CONTROL_UP : RELAY_CONTROL_DOWN };
    bool done = relay_worker_post(c->conf.worker, &p) == PL_OK;
    if (done) {
        c->told_up = up;
        c->told_any = true;
    }
    return done;
}

struct challenge_msg { struct pl_str nonce, server_name; };
static const struct json_field challenge_fields[] = { JSON_F(struct challenge_msg, nonce, J_STR, J_REQUIRED, .lo = 8, .hi = 100),
    JSON_F(struct challenge_msg, server_name, J_STR, J_REQUIRED, .lo = 1, .hi = 250), J_END };

static enum pl_err on_challenge(struct relay_control *c, struct pl_str text, struct pl_arena *a, struct pl_fail *reterr)
{
    struct challenge_msg m;
    enum pl_err e = json_take(challenge_fields, JSON_LENIENT, text, a, &m, reterr);
    if (e != PL_OK)
        return e;
    if (m.nonce.n >= sizeof c->nonce || m.server_name.n >= sizeof c->server_name)
        return pl_fail(reterr, PL_INVALID_REQUEST, "nonce or server_name is too long.");
    {
        PL_LOCK(&c->lock);
        memcpy(c->nonce, m.nonce.p, m.nonce.n + 1); /* strings of json.h end with NUL */
        memcpy(c->server_name, m.server_name.p, m.server_name.n + 1);
    }
    struct relay_post p = { .ask = RELAY_ASK_RUNNING, .connection = atomic_load(&c->connection) };
    return relay_worker_post(c->conf.worker, &p);
}

struct window_msg { double min_s, max_s; };
struct welcome_msg { struct window_msg reconnect; };
static const struct json_field window_fields[] = { JSON_F(struct window_msg, min_s, J_NUM, J_REQUIRED), JSON_F(struct window_msg, max_s, J_NUM, J_REQUIRED), J_END };
static const struct json_field welcome_fields[] = { JSON_F(struct welcome_msg, reconnect, J_OBJECT, J_OPTIONAL, .fields = window_fields), J_END };

static void set_window(struct relay_control *c, const struct window_msg *m)
{
    if (m->min_s >= 0 && m->max_s > 0 && m->max_s >= m->min_s && m->max_s <= 3600)
        link_client_window(c->link, (int64_t)(m->min_s * (double)PL_SECOND), (int64_t)(m->max_s * (double)PL_SECOND));
}

static enum pl_err on_welcome(struct relay_control *c, struct pl_str text, struct pl_arena *a, struct pl_fail *reterr)
{
    struct welcome_msg m = { .reconnect.max_s = 0 };
    enum pl_err e = json_take(welcome_fields, JSON_LENIENT, text, a, &m, reterr);
    if (e != PL_OK)
        return e;
    set_window(c, &m.reconnect);
    (void)tell_worker(c, true); /* a full queue: on_tick tries again */
    atomic_store(&c->ready, true);
    ring(c);
    PL_LOG(c->conf.log, PL_INFO, "relay.connected");
    return PL_OK;
}

static enum pl_err on_reconnect(struct relay_control *c, struct pl_str text, struct pl_arena *a, struct pl_fail *reterr)
{
    struct window_msg m = { .max_s = 0 };
    enum pl_err e = json_take(window_fields, JSON_LENIENT, text, a, &m, reterr);
    if (e != PL_OK)
        return e;
    set_window(c, &m);
    link_client_reconnect(c->link);
    return PL_OK;
}

struct heard_msg { int64_t seq; };
static const struct json_field heard_fields[] = { JSON_F(struct heard_msg, seq, J_INT, J_REQUIRED, .lo = 1, .hi = INT64_MAX), J_END };

static enum pl_err on_heard(struct relay_control *c, struct pl_str text, struct pl_arena *a, struct pl_fail *reterr)
{
    struct heard_msg m;
    enum pl_err e = json_take(heard_fields, JSON_LENIENT, text, a, &m, reterr);
    if (e == PL_OK)
        atomic_store(&c->heard, (uint64_t)m.seq);
    return e;
}

/* What is no command: the conversation itself, and in which order it goes. */
static const struct talk {
    const char *type;
    bool before_welcome;
    enum pl_err (*run)(struct relay_control *c, struct pl_str text, struct pl_arena *a, struct pl_fail *reterr);
} talks[] = { { "challenge", true, on_challenge }, { "welcome", true, on_welcome }, { "reconnect", false, on_reconnect }, { "session.heard", false, on_heard } };

static void answer(struct relay_control *c, struct pl_str id, enum pl_err e)
{
    char mem[LINE];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    struct jw w = jw_start(&b);
    bool sent;
    if (!id.p || !atomic_load(&c->ready)) /* before the welcome nothing is answered */
        return;
    jw_open(&w, NULL);
    jw_z(&w, "type", "error");
    jw_str(&w, "re", id);
    jw_z(&w, "code", pl_err_code(e));
    jw_close(&w);
    send_line(c, &b, &sent);
}

static enum pl_err converse(struct relay_control *c, struct pl_str text, struct pl_arena *a, struct pl_fail *reterr)
{
    struct json_doc *doc PL_CLEANUP(json_doc_freep) = NULL;
    enum pl_err e = json_parse(text, &doc, reterr);
    struct pl_str type = e == PL_OK ? json_doc_str(doc, "type") : PL_STR_NONE;
    for (size_t i = 0; i < PL_COUNT(talks); i++)
        if (type.p && pl_str_eqz(type, talks[i].type) && talks[i].before_welcome == !atomic_load(&c->ready))
            return talks[i].run(c, text, a, reterr);
    return e; /* a type that is not known is ignored: that is how the protocol grows */
}

static void on_message(void *self, struct pl_str text)
{
    struct relay_control *c = self;
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(ARENA);
    struct pl_fail fail = PL_FAIL_INIT;
    struct relay_post post = { .ask = RELAY_ASK_CMD };
    bool known = false;
    enum pl_err e = a ? relay_control_read(text, a, &post, &known, &fail) : PL_NO_MEMORY;
    if (e == PL_OK && known && !atomic_load(&c->ready))
        e = PL_PROTOCOL;
    if (e == PL_OK && known) {
        post.connection = atomic_load(&c->connection);
        e = relay_worker_post(c->conf.worker, &post);
        if (e == PL_OK)
            post.cmd.keep = NULL;
    } else if (e == PL_OK) {
        e = converse(c, text, a, &fail);
    }
    if (e != PL_OK) {
        struct json_doc *doc PL_CLEANUP(json_doc_freep) = NULL;
        PL_LOG(c->conf.log, PL_WARN, "relay.message-refused", PL_F_ERR(e), PL_F_Z("field", fail.field));
        if (json_parse(text, &doc, NULL) == PL_OK)
            answer(c, json_doc_str(doc, "id"), e);
    }
    pl_heap_free(post.cmd.keep);
    secure_wipe(&post, sizeof post);
}

static void on_open(void *self)
{
    struct relay_control *c = self;
    PL_LOCK(&c->lock);
    atomic_fetch_add(&c->connection, 1);
}

static void on_close(void *self, int code, struct pl_str reason)
{
    struct relay_control *c = self;
    bool was;
    {
        PL_LOCK(&c->lock);
        was = atomic_exchange(&c->ready, false);
        atomic_fetch_add(&c->connection, 1);
    }
    (void)tell_worker(c, false);
    if (was || code)
        PL_LOG(c->conf.log, PL_WARN, "relay.disconnected", PL_F_INT("close", code), PL_F_STR("why", reason));
}

static void on_tick(void *self)
{
    struct relay_control *c = self;
    bool up = atomic_load(&c->ready);
    if (!c->told_any || c->told_up != up)
        (void)tell_worker(c, up);
}

static bool look_up(void *self, char ret_address[LINK_ADDRESS])
{
    struct relay_control *c = self;
    return relay_names_next(c->conf.names, ret_address);
}

enum pl_err relay_control_new(const struct relay_control_conf *conf, struct relay_control **ret, struct pl_fail *reterr)
{
    struct relay_control *c = pl_heap(sizeof *c);
    if (!c)
        return PL_NO_MEMORY;
    c->conf = *conf;
    c->boot_id = pl_uuid7(conf->rand, pl_now_utc(conf->clock));
    pthread_mutex_init(&c->lock, NULL);
    c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->backlog = pl_heap(BACKLOG * sizeof *c->backlog);
    c->next_seq = 1;
    enum pl_err e = !c->backlog ? PL_NO_MEMORY : c->wake < 0 ? pl_fail(reterr, PL_UNAVAILABLE, "the control thread cannot wait: %m") : PL_OK;
    struct link_client_conf lc = { .url = conf->url, .protocol = "porchlight.relay.v1", .self = c, .on_open = on_open, .on_message = on_message, .on_close = on_close,
        .on_tick = on_tick, .max_message = WHOLE_SET, .max_queued = HELLO + WHOLE_SET,
        .ca_file = conf->ca_file, .lookup = conf->names ? look_up : NULL, .clock = conf->clock, .rand = conf->rand, .log = conf->log };
    /* Its callbacks use c->link only after the welcome, which answers a hello that the thread below sends: by then it is set. */
    if (e == PL_OK)
        e = link_client_new(&lc, &c->link, reterr);
    if (e == PL_OK && pthread_create(&c->thread, NULL, run, c) != 0)
        e = pl_fail(reterr, PL_NO_MEMORY, "the control thread cannot be started.");
    c->started = e == PL_OK;
    if (e != PL_OK) {
        relay_control_free(c);
        return e;
    }
    *ret = c;
    return PL_OK;
}

struct relay_control *relay_control_free(struct relay_control *c)
{
    if (!c)
        return NULL;
    if (c->started) { /* first the thread that sends by it, then the connection */
        atomic_store(&c->stop, true);
        ring(c);
        pthread_join(c->thread, NULL);
    }
    link_client_free(c->link);
    if (c->wake >= 0)
        close(c->wake);
    pthread_mutex_destroy(&c->lock);
    pl_heap_free(c->backlog);
    secure_keypair_wipe(&c->conf.key);
    return pl_heap_free(c);
}
