#include "link_tls.h"
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#define BURST_S 4
#define HEADER 14          /* a frame's, at most */
#define BESIDE 16          /* bytes that may come beside, for each message that may: a ping with a few */
#define SLACK (8 * 1024)   /* what may lie half read in libwebsockets */
#define LOOK_TICKS 20      /* everybody is looked at every two seconds */

/* What the kernel tells (linux/tcp.h) beyond the part that the C library's header knows; the two headers do not go together. */
struct tcp_told {
    struct tcp_info info;
    uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
};
_Static_assert(offsetof(struct tcp_told, bytes_received) == 128, "as in linux/tcp.h");

static unsigned per_second(const struct link_conn *c) { return c->proto->messages_per_s ? c->proto->messages_per_s : 50; }

/* A bucket kept as the time when it will be empty. */
bool link_rate_frame(struct link_conn *c, size_t n)
{
    int64_t at = c->heard.us;
    c->known += n + HEADER;
    c->rate_us = (c->rate_us > at ? c->rate_us : at) + PL_SECOND / per_second(c);
    return c->rate_us - at <= BURST_S * PL_SECOND;
}

void link_rate_part(struct link_conn *c, size_t n) { c->known += n; }

/* Bytes that libwebsockets has taken and that no callback has told of. Above zero or below: headers are counted with their largest size. */
static int64_t beside(const struct link_conn *c)
{
    struct tcp_told told = { .bytes_received = 0 };
    socklen_t size = sizeof told;
    int fd = lws_get_socket_fd(c->wsi), unread = 0;
    uint64_t taken = c->pump ? link_pump_taken(c->pump) : 0;
    if (!c->pumped && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &told, &size) == 0)
        taken = told.bytes_received;
    if (ioctl(fd, FIONREAD, &unread) != 0)
        unread = 0;
    return (int64_t)taken - unread - (int64_t)c->known;
}

void link_rate_begin(struct link_thread *t, struct link_conn *c)
{
    c->beside = beside(c);
    c->looked = t->ticks;
}

static bool floods(struct link_thread *t, struct link_conn *c)
{
    int64_t now = beside(c), more = now - c->beside, per_s = (int64_t)per_second(c) * BESIDE;
    int64_t drained = per_s * (t->ticks - c->looked) * LINK_TICK_MS / 1000;
    c->beside = now;
    c->looked = t->ticks;
    c->flood = (c->flood > drained ? c->flood - drained : 0) + (more > 0 ? more : 0);
    return c->flood > BURST_S * per_s + SLACK;
}

void link_rate_watch(struct link_thread *t)
{
    for (unsigned i = t->open / LOOK_TICKS + (t->open > 0); i > 0; i--) {
        struct link_conn *c = LINK_OF(t->all.next, by_turn);
        link_list_add(&t->all, &c->by_turn);
        if (c->state == LINK_OPEN && floods(t, c))
            link_conn_refuse(c, PL_RATE_LIMITED, LINK_M_RATE, "too many pings or pongs");
    }
}
