#include "way.h"
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Whether there is a route: connecting sends nothing. Disconnected again, the socket is bound to no address. */
static bool leads_to(int fd, const struct addrinfo *a)
{
    const struct sockaddr nobody = { .sa_family = AF_UNSPEC };
    return connect(fd, a->ai_addr, a->ai_addrlen) == 0 && connect(fd, &nobody, sizeof nobody) == 0;
}

enum pl_err way_open(struct way *w, const char *host, uint16_t port, struct pl_fail *reterr)
{
    struct addrinfo hints = { .ai_socktype = SOCK_DGRAM, .ai_flags = AI_ADDRCONFIG }, *list = NULL;
    char text[8];
    *w = (struct way){ .fd = -1 };
    snprintf(text, sizeof text, "%u", port);
    if (getaddrinfo(host, text, &hints, &list) != 0)
        return pl_fail(reterr, PL_IO, "the relay's address is not known: %s", host);
    for (const struct addrinfo *a = list; a && w->fd < 0; a = a->ai_next) {
        w->fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (w->fd >= 0 && leads_to(w->fd, a)) {
            memcpy(&w->relay, a->ai_addr, a->ai_addrlen);
            w->relay_n = a->ai_addrlen;
        } else
            way_close(w);
    }
    freeaddrinfo(list);
    return w->fd < 0 ? pl_fail(reterr, PL_IO, "the relay cannot be reached: %s", strerror(errno)) : PL_OK;
}

void way_send(const struct way *w, const uint8_t *p, size_t n)
{
    (void)sendto(w->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)(const void *)&w->relay, w->relay_n);
}

static bool is_relay(const struct way *w, const struct sockaddr_storage *from)
{
    if (from->ss_family != w->relay.ss_family)
        return false;
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *a = (const void *)from, *b = (const void *)&w->relay;
        return a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
    }
    const struct sockaddr_in6 *a = (const void *)from, *b = (const void *)&w->relay;
    return a->sin6_port == b->sin6_port && memcmp(&a->sin6_addr, &b->sin6_addr, sizeof a->sin6_addr) == 0;
}

size_t way_receive(const struct way *w, uint8_t *out, size_t cap)
{
    for (;;) {
        struct sockaddr_storage from = { 0 };
        socklen_t from_n = sizeof from;
        ssize_t n = recvfrom(w->fd, out, cap, MSG_DONTWAIT, (struct sockaddr *)(void *)&from, &from_n);
        if (n < 0)
            return 0;
        if (n > 0 && is_relay(w, &from))
            return (size_t)n;
    }
}

void way_close(struct way *w)
{
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
}
