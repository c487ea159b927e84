#include "relay_batch.h"
#include "secure.h"
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

enum { MESSAGES = 32, ROOM = 65535, SLOT = 65536 + 1280 /* not a power of two: else the heads of all slots share one set of the cache */ };

struct relay_batch {
    struct mmsghdr messages[MESSAGES];
    struct iovec vectors[MESSAGES];
    struct sockaddr_storage names[MESSAGES];
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof(uint32_t)) + CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(int))];
    } controls[MESSAGES];
    struct said {
        int64_t stamp;
        size_t segment; /* bytes of a datagram; the last may be shorter */
    } said[MESSAGES];
    int got, next; /* messages that were read, and the one that is taken from */
    size_t at;     /* in it */
    uint8_t bytes[MESSAGES][SLOT];
};

enum pl_err relay_batch_new(struct relay_batch **ret)
{
    struct relay_batch *b = pl_heap(sizeof *b);
    if (!b)
        return PL_NO_MEMORY;
    for (int i = 0; i < MESSAGES; i++) {
        b->vectors[i] = (struct iovec){ b->bytes[i], ROOM };
        b->messages[i].msg_hdr = (struct msghdr){ .msg_name = &b->names[i], .msg_iov = &b->vectors[i], .msg_iovlen = 1, .msg_control = &b->controls[i] };
    }
    *ret = b;
    return PL_OK;
}

struct relay_batch *relay_batch_free(struct relay_batch *b)
{
    if (b)
        secure_wipe(b->bytes, sizeof b->bytes);
    return pl_heap_free(b);
}

void relay_batch_prepare(int fd)
{
    int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    (void)setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);
}

/* What the kernel says of a message: losses of the buffer so far, when it came, and how long the datagrams are that it is made of. */
static struct said look_at(struct msghdr *m, size_t n, uint64_t *overflow)
{
    struct said s = { .segment = n };
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
            uint32_t dropped; /* since the socket was made, 32 bits */
            memcpy(&dropped, CMSG_DATA(c), sizeof dropped);
            *overflow += (uint32_t)(dropped - (uint32_t)*overflow);
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            s.stamp = t.tv_sec * PL_SECOND + t.tv_nsec / 1000;
        } else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int segment;
            memcpy(&segment, CMSG_DATA(c), sizeof segment);
            s.segment = segment > 0 ? (size_t)segment : n;
        }
    }
    return s;
}

bool relay_batch_read(struct relay_batch *b, int fd, uint64_t *overflow)
{
    for (int i = 0; i < (b->got ? b->got : MESSAGES); i++) {
        struct msghdr *m = &b->messages[i].msg_hdr;
        m->msg_namelen = sizeof b->names[i];
        m->msg_controllen = sizeof b->controls[i].bytes;
        m->msg_flags = 0;
    }
    int got = recvmmsg(fd, b->messages, MESSAGES, MSG_DONTWAIT, NULL);
    b->got = got > 0 ? got : 0;
    b->next = 0;
    b->at = 0;
    for (int i = 0; i < b->got; i++)
        b->said[i] = look_at(&b->messages[i].msg_hdr, b->messages[i].msg_len, overflow);
    return got == MESSAGES;
}

size_t relay_batch_take(struct relay_batch *b, struct relay_in in[RELAY_STEP], int64_t stamps[RELAY_STEP])
{
    size_t n = 0;
    while (n < RELAY_STEP && b->next < b->got) {
        const struct said *s = &b->said[b->next];
        size_t left = b->messages[b->next].msg_len - b->at, size = left < s->segment ? left : s->segment;
        stamps[n] = s->stamp;
        in[n++] = (struct relay_in){ b->bytes[b->next] + b->at, size, ice_addr_of((struct sockaddr *)&b->names[b->next]) };
        b->at += size;
        if (size == left) {
            b->next++;
            b->at = 0;
        }
    }
    return n;
}
