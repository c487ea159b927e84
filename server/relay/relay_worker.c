#include "relay_worker.h"
#include "relay_batch.h"
#include "relay_queue.h"
#include "secure.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROUNDS = 8, POSTS = 256, NEWS = 1024, BUFFER = 4 << 20, IDLE_MS = 1000, SEGMENTS = 64,
    HALF_OPEN = 1024 /* DTLS associations at a time: 75 MiB at most */ };
#define STATS_EVERY (5 * PL_SECOND)

struct relay_worker {
    struct relay_sink sink; /* first: the sink's self is the worker */
    struct relay_worker_conf conf;
    struct relay *relay;
    struct relay_dtls_thread *dtls;
    int udp, epoll, wake, news_fd, family;
    struct ice_addr addr;
    bool gso, started;
    atomic_bool stop;
    pthread_t thread;
    struct relay_queue posts, news;
    struct relay_io_stats io;
    struct pl_mono verified_at, load_at;
    int64_t load_cpu; /* of this thread at load_at */
    int64_t sending_us; /* in system calls, ever */
    struct pl_mono pace_at, tick_at, stats_at, sessions_at;
    unsigned session_slot; /* whose figures are told next */
    struct relay_batch *batch;
    struct relay_in in[RELAY_STEP];
};

/* ---- Out. */

static void send_one_by_one(struct relay_worker *w, const struct relay_run *run, struct sockaddr_storage *to, socklen_t to_n)
{
    struct mmsghdr m[SEGMENTS];
    struct iovec v[SEGMENTS];
    unsigned n = 0;
    memset(m, 0, sizeof m);
    for (size_t at = 0; at < run->n && n < SEGMENTS; at += run->segment, n++) {
        v[n].iov_base = (void *)(uintptr_t)(run->p + at);
        v[n].iov_len = run->n - at < run->segment ? run->n - at : run->segment;
        m[n].msg_hdr = (struct msghdr){ .msg_name = to, .msg_namelen = to_n, .msg_iov = &v[n], .msg_iovlen = 1 };
    }
    for (unsigned done = 0; done < n;) {
        int sent = sendmmsg(w->udp, m + done, n - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            done += (unsigned)sent;
        } else if (errno != EINTR) { /* this one cannot go; the next may */
            w->io.send_failed++;
            done++;
        }
    }
}

static void send_to(struct relay_worker *w, const struct relay_run *run)
{
    struct sockaddr_storage to;
    socklen_t to_n = ice_addr_sockaddr(run->to, w->family, &to);
    if (to_n == 0) {
        w->io.send_failed++;
        return;
    }
    if (run->n > run->segment && !w->gso) {
        send_one_by_one(w, run, &to, to_n);
        return;
    }
    struct iovec v = { .iov_base = (void *)(uintptr_t)run->p, .iov_len = run->n };
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
    } control;
    struct msghdr m = { .msg_name = &to, .msg_namelen = to_n, .msg_iov = &v, .msg_iovlen = 1 };
    if (run->n > run->segment) {
        uint16_t segment = (uint16_t)run->segment;
        memset(&control, 0, sizeof control);
        m.msg_control = &control;
        m.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(c), &segment, sizeof segment);
    }
    if (sendmsg(w->udp, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return;
    if (run->n == run->segment || errno == EAGAIN || errno == ENOBUFS) {
        w->io.send_failed += (run->n + run->segment - 1) / run->segment;
        return;
    }
    /* The device or the path does not segment. EIO says so for good (the device computes no checksums). */
    w->gso = w->gso && errno != EIO && errno != EOPNOTSUPP && errno != ENOPROTOOPT;
    w->io.gso_fallbacks++;
    send_one_by_one(w, run, &to, to_n);
}

static void send_run(struct relay_sink *self, const struct relay_run *run)
{
    struct relay_worker *w = (struct relay_worker *)self;
    struct pl_mono before = pl_now_mono(w->conf.clock);
    send_to(w, run);
    w->sending_us += pl_mono_sub(pl_now_mono(w->conf.clock), before);
}

static void verified(struct relay_sink *self)
{
    struct relay_worker *w = (struct relay_worker *)self;
    w->verified_at = pl_now_mono(w->conf.clock);
}

static bool tell_dtls(struct relay_sink *self, const struct relay_dtls_out *out) { return relay_dtls_tell(((struct relay_worker *)self)->dtls, out); }

/* ---- News. */

static struct relay_news *news_room(struct relay_worker *w, enum relay_news_kind kind)
{
    struct relay_news *n = relay_queue_room(&w->news);
    if (n)
        *n = (struct relay_news){ .kind = kind };
    return n;
}

static void ring(int fd)
{
    uint64_t one = 1;
    ssize_t done = write(fd, &one, sizeof one);
    (void)done; /* full means that it is readable already */
}

static void tell_events(struct relay_worker *w)
{
    struct relay_news *n;
    bool any = false;
    while ((n = news_room(w, RELAY_NEWS_EVENT)) != NULL && relay_take_event(w->relay, &n->event)) {
        relay_queue_put(&w->news);
        any = true;
    }
    if (any)
        ring(w->news_fd);
}

static void tell_stats(struct relay_worker *w, struct pl_mono now)
{
    if (pl_mono_cmp(now, w->stats_at) < 0)
        return;
    w->stats_at = pl_mono_add(now, STATS_EVERY);
    /* Only into an empty queue: figures may be skipped, events may not. */
    struct relay_news *n = relay_queue_peek(&w->news) ? NULL : news_room(w, RELAY_NEWS_STATS);
    struct rusage use;
    if (!n || getrusage(RUSAGE_SELF, &use) != 0)
        return;
    w->io.cpu_us = (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * PL_SECOND + use.ru_utime.tv_usec + use.ru_stime.tv_usec;
    relay_stats(w->relay, &n->stats);
    n->io = w->io;
    relay_dtls_counts(w->dtls, &n->dtls);
    relay_queue_put(&w->news);
    ring(w->news_fd);
}

/* How much of a core this thread took: what it did, not how long it was kept waiting for one. */
static void tell_load(struct relay_worker *w, struct pl_mono now)
{
    struct rusage use;
    int64_t since = pl_mono_sub(now, w->load_at);
    if ((since >= 0 && since < PL_SECOND) || getrusage(RUSAGE_THREAD, &use) != 0)
        return;
    int64_t cpu = (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * PL_SECOND + use.ru_utime.tv_usec + use.ru_stime.tv_usec;
    if (since > 0 && w->load_at.us)
        relay_load(w->relay, (unsigned)((cpu - w->load_cpu) * 1000 / since));
    w->load_cpu = cpu;
    w->load_at = now;
}

/* The sessions that are watched, a few at a tick so that all have had their turn in 5 s. Figures may be skipped, events may not: half of the queue stays theirs. */
static void tell_sessions(struct relay_worker *w, struct pl_mono now)
{
    unsigned all = w->conf.max_sessions, some = all / (STATS_EVERY / RELAY_TICK_US) + 1;
    bool any = false;
    if (w->session_slot >= all) {
        if (pl_mono_cmp(now, w->sessions_at) < 0)
            return;
        w->session_slot = 0;
        w->sessions_at = pl_mono_add(now, STATS_EVERY);
    }
    for (unsigned end = w->session_slot + some; w->session_slot < end && w->session_slot < all; w->session_slot++) {
        struct relay_session_stats st;
        if (relay_queue_used(&w->news) > NEWS / 2 || !relay_session_stats(w->relay, now, w->session_slot, &st))
            continue;
        struct relay_news *n = news_room(w, RELAY_NEWS_SESSION);
        if (n && (n->session = pl_heap(sizeof st)) != NULL) {
            *n->session = st;
            relay_queue_put(&w->news);
            any = true;
        }
    }
    if (any)
        ring(w->news_fd);
}

/* ---- Commands: only as many as there is room for their answers. */

static void running(struct relay_worker *w, struct relay_news *n)
{
    struct relay_stats st;
    relay_stats(w->relay, &st);
    n->running = pl_heap((st.sessions + 1) * sizeof *n->running);
    n->running_n = n->running ? relay_running(w->relay, n->running, st.sessions) : 0;
}

static void obey(struct relay_worker *w, struct pl_mono now)
{
    struct relay_post *p;
    while ((p = relay_queue_peek(&w->posts)) != NULL) {
        bool quiet = p->ask == RELAY_ASK_CMD && !p->cmd.request[0];
        struct relay_news *n = quiet ? NULL : news_room(w, p->ask == RELAY_ASK_RUNNING ? RELAY_NEWS_RUNNING : RELAY_NEWS_ANSWER);
        if (!quiet && !n)
            return;
        enum pl_err e = PL_OK;
        if (p->ask == RELAY_ASK_RUNNING)
            running(w, n);
        else
            e = relay_apply(w->relay, now, &p->cmd, &w->sink);
        if (n) {
            n->connection = p->connection;
            n->result = e;
            memcpy(n->request, p->cmd.request, sizeof n->request);
            relay_queue_put(&w->news);
            ring(w->news_fd);
        }
        pl_heap_free(p->cmd.keep);
        secure_wipe(p, sizeof *p);
        relay_queue_took(&w->posts);
    }
}

/* ---- What became of handshakes. */

static void results(struct relay_worker *w, struct pl_mono now)
{
    const struct relay_dtls_in *in;
    while ((in = relay_dtls_peek(w->dtls)) != NULL) {
        relay_dtls(w->relay, now, in, &w->sink);
        relay_dtls_next(w->dtls);
    }
    relay_dtls_kick(w->dtls);
}

/* ---- In. */

const int64_t relay_transit_us[RELAY_TRANSITS - 1] = { 50, 150, 500, 1000, 5000 };

/* A step through which n datagrams went, from then until now. */
static void count_transit(struct relay_worker *w, struct pl_mono from, int64_t sending_us, const int64_t *stamps, size_t n)
{
    struct pl_mono end = pl_now_mono(w->conf.clock);
    int64_t step = pl_mono_sub(end, from), verify = pl_mono_sub(w->verified_at, from), sending = w->sending_us - sending_us;
    int64_t now = pl_now_utc(w->conf.clock).us; /* the kernel stamps by the same clock; one that a test has moved tells nothing */
    for (size_t i = 0; i < n; i++) {
        int64_t us = now - stamps[i];
        unsigned k = 0;
        while (k < RELAY_TRANSITS - 1 && us > relay_transit_us[k])
            k++;
        w->io.transit[k] += stamps[i] != 0;
        w->io.stage_us[RELAY_STAGE_RECEIVE] += stamps[i] && us > step ? (uint64_t)(us - step) : 0;
    }
    if (step < verify || verify < 0 || sending < 0) /* a test has moved the clock */
        return;
    w->io.stage_us[RELAY_STAGE_VERIFY] += (uint64_t)verify * n;
    w->io.stage_us[RELAY_STAGE_PROTECT] += (uint64_t)(step - verify > sending ? step - verify - sending : 0) * n;
    w->io.stage_us[RELAY_STAGE_SEND] += (uint64_t)sending * n;
}

static void step(struct relay_worker *w, const int64_t *stamps, size_t n)
{
    struct pl_mono from = pl_now_mono(w->conf.clock);
    int64_t sending_us = w->sending_us;
    relay_step(w->relay, from, w->in, n, &w->sink);
    count_transit(w, from, sending_us, stamps, n);
}

/* What the clock asks for: the pacer, and the tick with its figures. */
static void due(struct relay_worker *w)
{
    struct pl_mono now = pl_now_mono(w->conf.clock);
    if (pl_mono_cmp(now, w->pace_at) >= 0 || pl_mono_sub(w->pace_at, now) > RELAY_PACE_US) { /* a clock that was set back waits for nothing */
        relay_pace(w->relay, now, &w->sink);
        w->pace_at = pl_mono_add(now, RELAY_PACE_US);
    }
    if (pl_mono_cmp(now, w->tick_at) >= 0 || pl_mono_sub(w->tick_at, now) > RELAY_TICK_US) {
        relay_tick(w->relay, now, &w->sink);
        w->tick_at = pl_mono_add(now, RELAY_TICK_US);
        tell_load(w, now);
        tell_sessions(w, now);
    }
}

/* True when there is probably more. A read may hold 2,048 datagrams: neither commands nor the pacer wait for all of them. */
static bool receive(struct relay_worker *w)
{
    int64_t stamps[RELAY_STEP];
    bool more = relay_batch_read(w->batch, w->udp, &w->io.socket_overflow);
    for (size_t n; (n = relay_batch_take(w->batch, w->in, stamps)) > 0; due(w)) {
        step(w, stamps, n);
        obey(w, pl_now_mono(w->conf.clock));
        results(w, pl_now_mono(w->conf.clock));
    }
    return more;
}

static int wait_ms(const struct relay_worker *w, struct pl_mono now)
{
    int64_t due = relay_due(w->relay), left = pl_mono_sub(due == RELAY_PACE_US ? w->pace_at : w->tick_at, now);
    if (due < 0)
        return IDLE_MS;
    left = left < 0 ? 0 : left > due ? due : left;
    return (int)((left + 999) / 1000);
}

static void *run(void *arg)
{
    struct relay_worker *w = arg;
    (void)pthread_setname_np(pthread_self(), "media");
    while (!atomic_load_explicit(&w->stop, memory_order_acquire)) {
        struct pl_mono now = pl_now_mono(w->conf.clock);
        struct epoll_event ready[2];
        int n = epoll_wait(w->epoll, ready, 2, wait_ms(w, now));
        bool packets = false; /* a wake-up for the pacer alone asks the socket nothing */
        for (int i = 0; i < n; i++) {
            packets |= ready[i].data.fd == w->udp;
            if (ready[i].data.fd == w->wake) {
                uint64_t count;
                ssize_t done = read(w->wake, &count, sizeof count);
                (void)done;
            }
        }
        now = pl_now_mono(w->conf.clock);
        obey(w, now);
        results(w, now);
        for (int round = 0; packets && round < ROUNDS && receive(w);)
            round++;
        due(w);
        now = pl_now_mono(w->conf.clock);
        relay_dtls_kick(w->dtls);
        tell_events(w);
        tell_stats(w, now);
    }
    return NULL;
}

/* ---- Making and ending. */

static enum pl_err make_socket(struct relay_worker *w, struct pl_fail *reterr)
{
    struct sockaddr_storage ss;
    char text[ICE_ADDR_TEXT];
    int off = 0, size = BUFFER;
    ice_addr_text(&w->conf.media, text);
    w->family = w->conf.media.family == 6 ? AF_INET6 : AF_INET;
    w->udp = socket(w->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t n = ice_addr_sockaddr(&w->conf.media, w->family, &ss);
    if (w->udp < 0 || n == 0)
        return pl_fail(reterr, PL_UNAVAILABLE, "the media socket cannot be made: %m");
    if (w->family == AF_INET6)
        (void)setsockopt(w->udp, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(w->udp, (struct sockaddr *)&ss, n) != 0)
        return pl_fail(reterr, PL_UNAVAILABLE, "media %s: %m", text);
    /* FORCE goes past net.core.rmem_max and needs CAP_NET_ADMIN; without it as much as is allowed. */
    if (setsockopt(w->udp, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        (void)setsockopt(w->udp, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (setsockopt(w->udp, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
        (void)setsockopt(w->udp, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    relay_batch_prepare(w->udp);
    n = sizeof ss;
    if (getsockname(w->udp, (struct sockaddr *)&ss, &n) != 0)
        return pl_fail(reterr, PL_UNAVAILABLE, "media %s: %m", text);
    w->addr = ice_addr_of((struct sockaddr *)&ss);
    int no_segment = 0; /* asks whether the kernel knows the option at all */
    w->gso = !w->conf.no_gso && setsockopt(w->udp, SOL_UDP, UDP_SEGMENT, &no_segment, sizeof no_segment) == 0;
    return PL_OK;
}

static enum pl_err make_waiting(struct relay_worker *w, struct pl_fail *reterr)
{
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event a = { .events = EPOLLIN, .data.fd = w->udp }, b = { .events = EPOLLIN, .data.fd = w->wake };
    if (w->wake < 0 || w->news_fd < 0 || w->epoll < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->udp, &a) != 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &b) != 0)
        return pl_fail(reterr, PL_UNAVAILABLE, "the media worker cannot wait for packets: %m");
    if (!relay_queue_init(&w->posts, sizeof(struct relay_post), POSTS) || !relay_queue_init(&w->news, sizeof(struct relay_news), NEWS))
        return PL_NO_MEMORY;
    return PL_OK;
}

enum pl_err relay_worker_new(const struct relay_worker_conf *conf, struct relay_worker **ret, struct pl_fail *reterr)
{
    struct relay_worker *w = pl_heap(sizeof *w);
    if (!w)
        return PL_NO_MEMORY;
    w->conf = *conf;
    w->sink.send = send_run;
    w->sink.verified = verified;
    w->sink.dtls = tell_dtls;
    w->udp = w->epoll = w->wake = w->news_fd = -1;
    enum pl_err e = make_socket(w, reterr);
    if (e == PL_OK)
        e = make_waiting(w, reterr);
    if (e == PL_OK)
        e = relay_batch_new(&w->batch);
    unsigned most = conf->max_sessions < HALF_OPEN / (RELAY_VIEWERS + 1) ? conf->max_sessions * (RELAY_VIEWERS + 1) : HALF_OPEN;
    if (e == PL_OK)
        e = relay_dtls_new(&(struct relay_dtls_conf){ .max_open = most, .wake = w->wake, .clock = conf->clock }, &w->dtls, reterr);
    if (e == PL_OK)
        e = relay_new(&(struct relay_conf){ .max_sessions = conf->max_sessions, .busy_full = conf->busy_full, .source_bps = conf->source_bps, .rand = conf->rand }, &w->relay);
    if (e != PL_OK) {
        relay_worker_free(w);
        return e;
    }
    *ret = w;
    return PL_OK;
}

struct ice_addr relay_worker_addr(const struct relay_worker *w) { return w->addr; }
const uint8_t *relay_worker_fingerprint(const struct relay_worker *w) { return relay_dtls_fingerprint(w->dtls); }
int relay_worker_news_fd(const struct relay_worker *w) { return w->news_fd; }

enum pl_err relay_worker_start(struct relay_worker *w, struct pl_fail *reterr)
{
    enum pl_err e = relay_dtls_start(w->dtls, reterr);
    if (e != PL_OK)
        return e;
    sigset_t all, old; /* signals are the main thread's; but what the system-call filter has to say is said where it happens */
    sigfillset(&all);
    sigdelset(&all, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed)
        return pl_fail(reterr, PL_NO_MEMORY, "the media thread cannot be started.");
    w->started = true;
    return PL_OK;
}

struct relay_worker *relay_worker_free(struct relay_worker *w)
{
    if (!w)
        return NULL;
    if (w->started) {
        atomic_store_explicit(&w->stop, true, memory_order_release);
        ring(w->wake);
        pthread_join(w->thread, NULL);
    }
    w->relay = relay_free(w->relay);
    w->dtls = relay_dtls_free(w->dtls);
    const int fds[] = { w->udp, w->epoll, w->wake, w->news_fd };
    for (size_t i = 0; i < PL_COUNT(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    for (struct relay_post *p; w->posts.slots && (p = relay_queue_peek(&w->posts)) != NULL; relay_queue_took(&w->posts)) {
        pl_heap_free(p->cmd.keep);
        secure_wipe(p, sizeof *p);
    }
    for (struct relay_news *n; w->news.slots && (n = relay_queue_peek(&w->news)) != NULL; relay_queue_took(&w->news)) {
        pl_heap_free(n->running);
        pl_heap_free(n->session);
    }
    pl_heap_free(w->posts.slots);
    pl_heap_free(w->news.slots);
    w->batch = relay_batch_free(w->batch);
    return pl_heap_free(w);
}

enum pl_err relay_worker_post(struct relay_worker *w, const struct relay_post *post)
{
    struct relay_post *slot = relay_queue_room(&w->posts);
    if (!slot)
        return PL_OVERLOADED;
    *slot = *post;
    relay_queue_put(&w->posts);
    ring(w->wake);
    return PL_OK;
}

bool relay_worker_peek(struct relay_worker *w, const struct relay_news **ret)
{
    *ret = relay_queue_peek(&w->news);
    return *ret != NULL;
}

void relay_worker_next(struct relay_worker *w) { relay_queue_took(&w->news); }
