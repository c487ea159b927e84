#include "link_client.h"
#include "link_tls.h"

#define MAX_MESSAGE (64 * 1024)
#define MAX_QUEUED (256 * 1024)
#define TICK_MS 50
#define TICKS_A_CALLBACK 5          /* on_tick comes every 250 ms */
#define CLOSE_TICKS 20              /* a close is cut short after a second: the other side may be gone */
#define DIAL_US (10 * PL_SECOND)    /* connect, TLS and upgrade together */
#define SETTLED_US PL_SECOND        /* a connection that lived shorter counts as a failed try, so that a refusal does not make a storm */
#define LONGEST_WAIT_US (30 * PL_SECOND)

enum state { DOWN, DIALLING, UP, CLOSING };

struct link_client {
    struct link_client_conf conf;
    char *protocol; /* a copy */
    SSL_CTX *tls;   /* wss:// only */
    struct link_url url;
    struct lws_protocols protocols[2];
    struct link_loop loop;
    pthread_mutex_t lock;
    struct link_queue out;    /* LOCK: lock */
    bool up;                  /* LOCK: lock; sends are taken */
    bool redial, leaving;     /* LOCK: lock; asked for from outside */
    int64_t min_us, max_us;   /* LOCK: lock */

    /* the loop's thread only */
    enum state state;
    struct lws *wsi;
    struct pl_mono since;     /* dialling began, or the connection came up */
    struct pl_mono heard, pinged, dial_at;
    bool ping_out, ping_due;  /* without answer; to be written */
    bool flushed;             /* CLOSING: nothing is left to write */
    int goodbye;              /* CLOSING: the code */
    unsigned failures, ticks, close_ticks;
    size_t got;               /* bytes of the message that is coming in */
    int code;                 /* what the server closed with, 0: it did not */
    const char *distrust;     /* why its certificate is refused, NULL: it is not */
    size_t reason_n;
    char reason[124];
    char *message;            /* conf.max_message bytes */
};

/* Full jitter: anywhere between the window's ends, the upper one doubling with each failure (to 30 s at least its own size). */
static int64_t wait_us(struct link_client *c)
{
    PL_LOCK(&c->lock);
    int64_t top = c->max_us;
    for (unsigned i = 0; i < c->failures && top < LONGEST_WAIT_US; i++)
        top = top * 2 < LONGEST_WAIT_US ? top * 2 : LONGEST_WAIT_US;
    int64_t span_ms = (top - c->min_us) / PL_MS;
    return c->min_us + (span_ms > 0 ? (int64_t)pl_rand_below(c->conf.rand, (uint32_t)span_ms + 1) * PL_MS : 0);
}

static struct pl_mono now(struct link_client *c) { return pl_now_mono(c->conf.clock); }

/* The connection, or the try to make one, is over: tells, forgets, sets the time of the next try. */
static void over(struct link_client *c, int code, struct pl_str reason)
{
    bool was_up = c->state == UP || c->state == CLOSING;
    pthread_mutex_lock(&c->lock);
    c->up = false;
    link_queue_clear(&c->out);
    pthread_mutex_unlock(&c->lock);
    c->failures = was_up && pl_mono_sub(now(c), c->since) >= SETTLED_US ? 0 : c->failures + 1;
    c->wsi = NULL;
    c->state = DOWN;
    c->dial_at = pl_mono_add(now(c), wait_us(c));
    PL_LOG(c->conf.log, was_up ? PL_INFO : PL_DEBUG, "link.disconnected", PL_F_INT("close", code), PL_F_STR("reason", reason));
    if (c->conf.on_close)
        c->conf.on_close(c->conf.self, code, reason);
}

static void dial(struct link_client *c)
{
    struct lws *wsi = NULL;
    c->state = DIALLING;
    c->since = now(c);
    c->got = 0;
    c->code = 0;
    c->distrust = NULL;
    c->reason_n = 0;
    c->ping_out = c->ping_due = c->flushed = false;
    char found[LINK_ADDRESS];
    if (c->conf.lookup && !c->conf.lookup(c->conf.self, found)) {
        over(c, 0, PL_STR("no address is known"));
        return;
    }
    struct lws_client_connect_info info = {
        .context = c->loop.ctx, .address = c->conf.lookup ? found : c->url.host, .port = c->url.port, .path = c->url.path, .host = c->url.authority,
        .protocol = c->protocol, .local_protocol_name = c->protocol, .ietf_version_or_minus_one = -1,
        .ssl_connection = c->url.tls ? LCCSCF_USE_SSL | LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK : 0, /* link_tls_dial has it: the library's cuts IPv6 addresses */
        .alpn = "http/1.1",
        .retry_and_idle_policy = &link_no_pings, .pwsi = &wsi,
    };
    struct lws *made = lws_client_connect_via_info(&info);
    /* A try that failed at once may or may not have called back. */
    if (!made && c->state == DIALLING)
        over(c, 0, PL_STR("cannot connect"));
    else if (made && c->state == DIALLING)
        c->wsi = made;
}

/* Closes when what is queued has gone out. */
static void hang_up(struct link_client *c, int code)
{
    pthread_mutex_lock(&c->lock);
    c->up = false;
    pthread_mutex_unlock(&c->lock);
    c->goodbye = code;
    c->state = CLOSING;
    c->close_ticks = CLOSE_TICKS;
    lws_callback_on_writable(c->wsi);
}

static void kill_now(struct link_client *c, const char *why)
{
    if (c->code == 0) {
        c->reason_n = strlen(why);
        memcpy(c->reason, why, c->reason_n);
    }
    link_cut(c->wsi);
}

/* Outside asked for something: sends, a new dial, the end. */
static void woken(struct link_client *c)
{
    pthread_mutex_lock(&c->lock);
    bool leaving = c->leaving, redial = c->redial, waiting = c->out.first != NULL;
    c->redial = false;
    pthread_mutex_unlock(&c->lock);
    if (c->state == UP && (leaving || redial))
        hang_up(c, LWS_CLOSE_STATUS_NORMAL);
    else if (c->state == CLOSING && c->flushed) {
        c->flushed = false;
        link_goodbye(c->wsi, (unsigned)c->goodbye, PL_STR(""));
    } else if (c->state == UP && waiting)
        lws_callback_on_writable(c->wsi);
    else if (leaving && (c->state == DOWN || c->state == DIALLING))
        link_loop_quit(&c->loop);
}

/* A ping goes out after half of dead_us without a word; its answer has the other half. So a clock that jumps costs a ping, not the connection. */
static void watch_silence(struct link_client *c)
{
    int64_t half = c->conf.dead_us / 2;
    if (c->ping_out && pl_mono_sub(now(c), c->pinged) >= half)
        kill_now(c, "silent");
    else if (!c->ping_out && pl_mono_sub(now(c), c->heard) >= half) {
        c->ping_out = c->ping_due = true;
        c->pinged = now(c);
        lws_callback_on_writable(c->wsi);
    }
}

static void tick(void *self)
{
    struct link_client *c = self;
    pthread_mutex_lock(&c->lock);
    bool leaving = c->leaving;
    pthread_mutex_unlock(&c->lock);
    if (c->state == DOWN && leaving)
        link_loop_quit(&c->loop);
    else if (c->state == DOWN && pl_mono_cmp(now(c), c->dial_at) >= 0)
        dial(c);
    else if (c->state == DIALLING && c->wsi && pl_mono_sub(now(c), c->since) >= DIAL_US)
        kill_now(c, "no answer");
    else if (c->state == UP)
        watch_silence(c);
    else if (c->state == CLOSING && c->close_ticks > 0 && --c->close_ticks == 0)
        kill_now(c, "close without answer");
    if (++c->ticks % TICKS_A_CALLBACK == 0 && c->conf.on_tick && !leaving)
        c->conf.on_tick(c->conf.self);
}

static void opened(struct link_client *c, struct lws *wsi)
{
    c->wsi = wsi;
    c->state = UP;
    c->since = c->heard = now(c);
    pthread_mutex_lock(&c->lock);
    c->up = true;
    pthread_mutex_unlock(&c->lock);
    PL_LOG(c->conf.log, PL_INFO, "link.connected");
    if (c->conf.on_open)
        c->conf.on_open(c->conf.self);
    woken(c);
}

static void received(struct link_client *c, struct lws *wsi, const char *p, size_t n)
{
    c->heard = now(c);
    c->ping_out = false;
    if (c->state != UP)
        return;
    if (lws_frame_is_binary(wsi) || n > c->conf.max_message - c->got) {
        hang_up(c, lws_frame_is_binary(wsi) ? LWS_CLOSE_STATUS_UNACCEPTABLE_OPCODE : LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE);
        return;
    }
    memcpy(c->message + c->got, p, n);
    c->got += n;
    if (lws_remaining_packet_payload(wsi) != 0 || !lws_is_final_fragment(wsi))
        return;
    n = c->got;
    c->got = 0;
    if (c->conf.on_message)
        c->conf.on_message(c->conf.self, (struct pl_str){ c->message, n });
}

static int writable(struct link_client *c, struct lws *wsi)
{
    if (c->ping_due) {
        c->ping_due = false;
        lws_callback_on_writable(wsi);
        return link_ping(wsi);
    }
    pthread_mutex_lock(&c->lock);
    struct link_frame *f = link_queue_take(&c->out);
    bool more = c->out.first != NULL;
    pthread_mutex_unlock(&c->lock);
    if (f) {
        if (more || c->state == CLOSING)
            lws_callback_on_writable(wsi);
        return link_frame_write(wsi, f);
    }
    if (c->state == CLOSING) {
        c->flushed = true;
        link_loop_wake(&c->loop);
    }
    return 0;
}

static void peer_closes(struct link_client *c, const unsigned char *p, size_t n)
{
    c->code = n >= 2 ? p[0] << 8 | p[1] : 1005;
    c->reason_n = n > 2 ? n - 2 : 0;
    if (c->reason_n > sizeof c->reason)
        c->reason_n = sizeof c->reason;
    if (c->reason_n)
        memcpy(c->reason, p + 2, c->reason_n);
}

/* Said once a try, whoever runs this machine can do something about it. */
static void distrust(struct link_client *c, int error)
{
    c->distrust = X509_verify_cert_error_string(error);
    PL_LOG(c->conf.log, PL_WARN, "link.server-not-trusted", PL_F_Z("why", c->distrust));
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n)
{
    struct link_client *c = lws_context_user(lws_get_context(wsi));
    if (reason == LWS_CALLBACK_EVENT_WAIT_CANCELLED) {
        woken(c);
        return 0;
    }
    /* One that was given up may still speak while it dies. */
    if (c->wsi && wsi != c->wsi)
        return 0;
    switch (reason) {
    case LWS_CALLBACK_CLIENT_ESTABLISHED: opened(c, wsi); break;
    case LWS_CALLBACK_CLIENT_RECEIVE: received(c, wsi, in, n); break;
    case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
        c->heard = now(c);
        c->ping_out = false;
        break;
    case LWS_CALLBACK_CLIENT_WRITEABLE: return writable(c, wsi);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE: peer_closes(c, in, n); break;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        if (c->state == DIALLING)
            over(c, 0, c->distrust ? pl_str_of(c->distrust) : in ? pl_str_of(in) : PL_STR("cannot connect"));
        break;
    case LWS_CALLBACK_OPENSSL_PERFORM_SERVER_CERT_VERIFICATION: /* each certificate of the chain; `n`: is it good? What is not is refused behind this */
        if (n == 0)
            distrust(c, X509_STORE_CTX_get_error(user));
        break;
    case LWS_CALLBACK_CLIENT_CLOSED:
        if (c->state == UP || c->state == CLOSING)
            over(c, c->code ? c->code : c->state == CLOSING ? c->goodbye : 1006, (struct pl_str){ c->reason, c->reason_n });
        break;
    case LWS_CALLBACK_WSI_DESTROY: /* a try that the server hung up on may end so, with no other word */
        if (wsi == c->wsi)
            over(c, 0, PL_STR("cannot connect"));
        break;
    default: break;
    }
    return 0;
}

enum pl_err link_url_read(struct pl_str url, struct link_url *ret, struct pl_fail *reterr)
{
    struct link_url u;
    struct pl_buf host = pl_buf_fixed(u.host, sizeof u.host), path = pl_buf_fixed(u.path, sizeof u.path), header = pl_buf_fixed(u.authority, sizeof u.authority);
    uint32_t port;
    u.tls = pl_str_starts(url, PL_STR("wss://"));
    size_t scheme = u.tls ? 6 : 5, slash = scheme;
    bool good = u.tls || pl_str_starts(url, PL_STR("ws://"));
    while (good && slash < url.n && url.p[slash] != '/')
        slash++;
    struct pl_str name = good ? (struct pl_str){ url.p + scheme, slash - scheme } : PL_STR(""), digits = PL_STR_NONE;
    size_t colon = name.n;
    while (colon > 0 && name.p[colon - 1] != ':' && name.p[colon - 1] != ']')
        colon--;
    if (colon > 0 && name.p[colon - 1] == ':') {
        digits = (struct pl_str){ name.p + colon, name.n - colon };
        name.n = colon - 1;
    }
    pl_buf_str(&header, (struct pl_str){ url.p + scheme, good ? slash - scheme : 0 });
    if (name.n > 2 && name.p[0] == '[' && name.p[name.n - 1] == ']')
        name = (struct pl_str){ name.p + 1, name.n - 2 };
    pl_buf_str(&host, name);
    pl_buf_str(&path, good && slash < url.n ? (struct pl_str){ url.p + slash, url.n - slash } : PL_STR("/"));
    if (!digits.p)
        port = u.tls ? 443 : 80;
    else
        good = good && pl_parse_u32(digits, 1, 65535, &port) == PL_OK;
    if (!good || name.n == 0 || pl_buf_err(&host) != PL_OK || pl_buf_err(&path) != PL_OK || pl_buf_err(&header) != PL_OK)
        return pl_fail(reterr, PL_INVALID_REQUEST, "The server's address must look like ws://host:port/path or wss://host/path.");
    u.port = (int)port;
    *ret = u;
    return PL_OK;
}

static char *copy_z(const char *z)
{
    size_t n = z ? strlen(z) + 1 : 0;
    char *p = z ? pl_heap(n) : NULL;
    if (p)
        memcpy(p, z, n);
    return p;
}

static struct link_client *destroy(struct link_client *c)
{
    link_loop_close(&c->loop);
    link_queue_clear(&c->out);
    pthread_mutex_destroy(&c->lock);
    pl_heap_free(c->protocol);
    SSL_CTX_free(c->tls);
    pl_heap_free(c->message);
    return pl_heap_free(c);
}

static enum pl_err prepare(struct link_client *c, struct pl_fail *reterr)
{
    if (!c->protocol || !c->message)
        return PL_NO_MEMORY;
    enum pl_err e = link_url_read(pl_str_of(c->conf.url), &c->url, reterr);
    if (e == PL_OK && c->url.tls)
        e = link_tls_dial(c->conf.ca_file, c->url.host, &c->tls, reterr);
    if (e != PL_OK)
        return e;
    c->protocols[0] = (struct lws_protocols){ .name = c->protocol, .callback = callback, .rx_buffer_size = 4096, .tx_packet_size = 256 * 1024 };
    struct lws_context_creation_info info = { .protocols = c->protocols, .provided_client_ssl_ctx = c->tls, .fd_limit_per_thread = 8,
                                              .options = c->url.tls ? LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT : 0 };
    if ((e = link_loop_open(&c->loop, &info, tick, c, TICK_MS)) != PL_OK)
        return pl_fail(reterr, e, "The WebSocket library could not start (is its plug-in for libuv installed?).");
    return PL_OK;
}

enum pl_err link_client_new(const struct link_client_conf *conf, struct link_client **ret, struct pl_fail *reterr)
{
    struct link_client *c = pl_heap(sizeof *c);
    if (!c)
        return PL_NO_MEMORY;
    c->conf = *conf;
    if (c->conf.dead_us == 0)
        c->conf.dead_us = 25 * PL_SECOND;
    if (c->conf.max_message == 0)
        c->conf.max_message = MAX_MESSAGE;
    if (c->conf.max_queued == 0)
        c->conf.max_queued = MAX_QUEUED;
    c->message = pl_heap(c->conf.max_message);
    c->min_us = PL_SECOND / 5;
    c->max_us = 2 * PL_SECOND;
    c->dial_at = now(c);
    c->protocol = copy_z(conf->protocol);
    pthread_mutex_init(&c->lock, NULL);
    enum pl_err e = prepare(c, reterr);
    struct link_client *before = *ret;
    if (e == PL_OK) {
        *ret = c; /* the thread's callbacks use it at once */
        e = link_loop_start(&c->loop, "link-client");
    }
    if (e != PL_OK) {
        *ret = before;
        destroy(c);
    }
    return e;
}

enum pl_err link_client_send(struct link_client *c, struct pl_str json)
{
    PL_LOCK(&c->lock);
    if (!c->up)
        return PL_UNAVAILABLE;
    enum pl_err e = link_queue_add(&c->out, json, c->conf.max_queued);
    if (e == PL_OK)
        link_loop_wake(&c->loop);
    return e;
}

void link_client_window(struct link_client *c, int64_t min_us, int64_t max_us)
{
    PL_LOCK(&c->lock);
    c->min_us = min_us > 0 ? min_us : 0;
    c->max_us = max_us > c->min_us ? max_us : c->min_us;
}

void link_client_reconnect(struct link_client *c)
{
    PL_LOCK(&c->lock);
    c->redial = true;
    link_loop_wake(&c->loop);
}

struct link_client *link_client_free(struct link_client *c)
{
    if (!c)
        return NULL;
    pthread_mutex_lock(&c->lock);
    c->leaving = true;
    link_loop_wake(&c->loop);
    pthread_mutex_unlock(&c->lock);
    return destroy(c);
}
