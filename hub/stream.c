#include "stream.h"
#include "camera.h"
#include "copier.h"
#include "secure.h"
#include "way.h"
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { SEND_BUFFER = 1 << 20, DATAGRAM = 2048 };

struct stream {
    struct stream_conf conf;
    struct pl_log log;
    char host[STREAM_HOST];
    pthread_t thread;
    struct way way;
    int wake; /**< eventfd: something below has changed */
    pthread_mutex_t lock;
    struct sender *sender;   /* LOCK: lock */
    struct camera *camera;   /**< the stream's thread's */
    bool told_sending;       /* LOCK: lock */
    struct sender_stats stats; /**< at the end; written before `over`, read after it */
    struct stream_end end;     /**< likewise */
    int64_t key_us;          /**< the camera thread's: place of the first key frame; -1: before it */
    char code[STREAM_CODE];  /**< why it was stopped from outside; written before `stop`, read after it */
    enum pl_err camera_died; /* LOCK: lock. PL_OK: it lives */
    atomic_bool stop, key_wanted, over;
    atomic_int bits_wanted;  /**< 0: none */
};

static void wake(struct stream *s) { (void)eventfd_write(s->wake, 1); }

static void tell(struct stream *s, const char *state, struct pl_str code) { s->conf.on_state(s->conf.self, &s->conf, state, code); }

static void send_datagram(void *self, const uint8_t *p, size_t n) { way_send(&((const struct stream *)self)->way, p, n); }

/* On the camera's thread. True once: with the second key frame of a copied source. */
static bool knows_gop(struct stream *s, const struct camera_frame *f)
{
    if (!f->key || s->conf.gop_ms || !copier_wanted(s->conf.source))
        return false;
    if (s->key_us >= 0 && f->pts_us > s->key_us)
        s->conf.gop_ms = (f->pts_us - s->key_us + PL_MS - 1) / PL_MS;
    s->key_us = f->pts_us;
    return s->conf.gop_ms > 0;
}

/* On the camera's thread. */
static void on_frame(void *self, const struct camera_frame *f)
{
    struct stream *s = self;
    bool first;
    {
        PL_LOCK(&s->lock);
        if (!s->sender)
            return;
        sender_frame(s->sender, pl_now_mono(s->conf.clock), pl_now_utc(s->conf.clock), f);
        first = !s->told_sending && f->media == CAMERA_VIDEO;
        s->told_sending |= first;
    }
    bool gop = knows_gop(s, f);
    if (first || gop)
        tell(s, "sending", PL_STR_NONE);
}

static void on_camera_end(void *self, enum pl_err why)
{
    struct stream *s = self;
    PL_LOCK(&s->lock);
    s->camera_died = why;
    wake(s);
}

static enum pl_err open_way(struct stream *s)
{
    struct pl_fail f = PL_FAIL_INIT;
    enum pl_err e = way_open(&s->way, s->host, s->conf.port, &f);
    if (e != PL_OK) {
        PL_LOG(&s->log, PL_WARN, "stream.no-way", PL_F_Z("why", f.detail));
        return e;
    }
    int room = SEND_BUFFER; /* a key frame leaves in one go */
    (void)setsockopt(s->way.fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    return PL_OK;
}

static unsigned drain_socket(struct stream *s)
{
    uint8_t in[DATAGRAM];
    unsigned events = 0;
    size_t n;
    while ((n = way_receive(&s->way, in, sizeof in)) > 0) {
        PL_LOCK(&s->lock);
        events |= sender_packet(s->sender, pl_now_mono(s->conf.clock), in, n);
    }
    return events;
}

static void wait_for_work(struct stream *s)
{
    struct pl_mono due;
    {
        PL_LOCK(&s->lock);
        due = sender_due(s->sender);
    }
    int64_t us = pl_mono_sub(due, pl_now_mono(s->conf.clock));
    if (us < 0)
        us = 0;
    struct timespec t = { us / PL_SECOND, us % PL_SECOND * 1000 };
    struct pollfd p[2] = { { .fd = s->way.fd, .events = POLLIN }, { .fd = s->wake, .events = POLLIN } };
    eventfd_t woken;
    if (ppoll(p, PL_COUNT(p), &t, NULL) > 0 && p[1].revents)
        (void)eventfd_read(s->wake, &woken);
}

/* Runs until the session is over. Returns the state that is then told, and its code. */
static const char *serve(struct stream *s, struct pl_str *ret_code)
{
    while (!atomic_load(&s->stop)) {
        unsigned events;
        enum pl_err died;
        {
            PL_LOCK(&s->lock);
            events = sender_tick(s->sender, pl_now_mono(s->conf.clock), pl_now_utc(s->conf.clock));
            died = s->camera_died;
        }
        events |= drain_socket(s);
        if (died != PL_OK) {
            *ret_code = pl_str_of(pl_err_code(died));
            return "failed";
        }
        if (events & SENDER_ENDED) {
            bool expired = sender_why(s->sender) == PL_EXPIRED;
            *ret_code = expired ? PL_STR("expired") : PL_STR("relay_lost");
            return "ended";
        }
        if (events & SENDER_CONNECTED) {
            PL_LOG(&s->log, PL_INFO, "stream.connected", PL_F_INT("rtt_us", sender_stats(s->sender).rtt_us));
            camera_go(s->camera);
        }
        bool by_server = atomic_exchange(&s->key_wanted, false);
        if (events & SENDER_KEY_WANTED || by_server) {
            PL_LOG(&s->log, PL_DEBUG, "stream.key_wanted", PL_F_Z("by", by_server ? "server" : "relay"));
            camera_keyframe(s->camera);
        }
        int bits = atomic_exchange(&s->bits_wanted, 0);
        if (bits)
            camera_bitrate(s->camera, bits);
        wait_for_work(s);
    }
    *ret_code = pl_str_of(s->code);
    return "ended";
}

/* Everything that holds keys or costs power goes before the owner is told. */
static void shut_down(struct stream *s)
{
    s->camera = camera_free(s->camera);
    PL_LOCK(&s->lock);
    struct sender_stats st = s->stats = sender_stats(s->sender);
    PL_LOG(&s->log, PL_INFO, "stream.done", PL_F_INT("frames", st.frames), PL_F_INT("key_frames", st.key_frames), PL_F_INT("packets", st.packets),
        PL_F_INT("bytes", st.bytes), PL_F_INT("resent", st.resent), PL_F_INT("key_asked", st.key_asked), PL_F_INT("lost", st.lost), PL_F_INT("rtt_us", st.rtt_us));
    s->sender = sender_free(s->sender);
    s->end.camera = s->camera_died;
}

static void *run(void *arg)
{
    struct stream *s = arg;
    s->end.state = "failed";
    const struct camera_conf camera = { .source = s->conf.source, .clock = s->conf.clock, .self = s, .on_frame = on_frame, .on_end = on_camera_end };
    /* The encoder opens while the first check is on its way. */
    enum pl_err e = camera_new(&camera, &s->camera);
    if (e == PL_OK)
        e = open_way(s);
    if (e == PL_OK)
        s->end.state = serve(s, &s->end.code);
    else
        s->end.code = pl_str_of(pl_err_code(e));
    shut_down(s);
    atomic_store(&s->over, true); /* before it is told: whoever has heard of the end finds none that runs */
    tell(s, s->end.state, s->end.code);
    return NULL;
}

/* What the threads do not share is taken down here. */
static struct stream *discard(struct stream *s)
{
    sender_free(s->sender);
    way_close(&s->way);
    if (s->wake >= 0)
        close(s->wake);
    pthread_mutex_destroy(&s->lock);
    return pl_heap_free(s);
}

enum pl_err stream_new(const struct stream_conf *conf, struct stream **ret)
{
    struct stream *s = pl_heap(sizeof *s);
    if (!s)
        return PL_NO_MEMORY;
    pthread_mutex_init(&s->lock, NULL);
    s->conf = *conf;
    s->way.fd = -1;
    s->key_us = -1;
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct pl_buf host = pl_buf_fixed(s->host, sizeof s->host);
    pl_buf_str(&host, conf->host);
    struct sender_conf sender = conf->sender;
    sender.self = s;
    sender.send = send_datagram;
    enum pl_err e = pl_buf_err(&host) == PL_OK ? sender_new(&sender, pl_now_mono(conf->clock), &s->sender) : PL_INVALID_REQUEST;
    /* The sender has its own copies; ours must not outlive them. */
    secure_wipe(&s->conf.sender, sizeof s->conf.sender);
    s->conf.host = pl_str_of(s->host);
    s->log = pl_log_child(conf->log, PL_F_UUID("live_id", conf->live_id));
    if (e == PL_OK && (s->wake < 0 || pthread_create(&s->thread, NULL, run, s) != 0))
        e = PL_NO_MEMORY;
    if (e != PL_OK) {
        discard(s);
        return e;
    }
    *ret = s;
    return PL_OK;
}

void stream_keyframe(struct stream *s)
{
    atomic_store(&s->key_wanted, true);
    wake(s);
}

void stream_bitrate(struct stream *s, int bits)
{
    atomic_store(&s->bits_wanted, bits);
    wake(s);
}

void stream_stop(struct stream *s, struct pl_str code)
{
    if (atomic_load(&s->stop))
        return;
    struct pl_buf b = pl_buf_fixed(s->code, sizeof s->code);
    pl_buf_str(&b, code);
    atomic_store(&s->stop, true); /* after the code, which the other thread reads once it sees this */
    wake(s);
}

bool stream_over(const struct stream *s) { return atomic_load(&s->over); }
struct sender_stats stream_stats(const struct stream *s) { return s->stats; }
struct stream_end stream_end(const struct stream *s) { return s->end; }
const struct stream_conf *stream_which(const struct stream *s) { return &s->conf; }

struct stream *stream_free(struct stream *s)
{
    if (!s)
        return NULL;
    stream_stop(s, PL_STR("closed"));
    pthread_join(s->thread, NULL);
    return discard(s);
}
