/* netsim - a bad network in user space, for kernels without netem: everything that passes is delayed, spread, lost, reordered, queued and paced by a profile and a seed.
 *
 *     bench-netsim --profile FILE [--seed N] --listen HOST:PORT --to HOST:PORT     between UDP ports: each peer that sends to HOST:PORT gets a socket of its own to the target,
 *                                                                                 as behind a NAT; prints `port N` (PORT 0: any)
 *     bench-netsim --profile FILE [--seed N] --bridge IF IF                        between two Ethernet interfaces of this namespace (veth pairs): whole frames; prints `ready`
 * Reads commands from stdin, one a line, and ends with it: `cut up|down|both`, `heal`, `move` (ports only: all peers come from new addresses, answers to the old ones are
 * lost), `profile FILE`, `stats` (answers one line of JSON), each answered by one line. Up is towards the target, or from the first interface to the second. */
#include "link.h"
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PACKET_MAX = 2048, WAITING_MAX = 1 << 16, PEERS_MAX = 256, SOCKET_BUFFER = 8 << 20, BATCH = 64 };
enum { UP, DOWN, WAYS };

struct packet {
    struct pl_mono due;
    uint64_t order; /* of two that are due at once, the first that came goes first */
    int way;
    unsigned peer;
    size_t n;
    uint8_t p[];
};

struct netsim {
    struct link links[WAYS];
    struct packet **heap; /* earliest due first */
    size_t waiting;
    uint64_t order, refused; /* refused: the other side did not take it */
    bool bridge;
    int listen, interfaces[WAYS];
    struct sockaddr_storage target;
    socklen_t target_n;
    struct peer {
        struct sockaddr_storage from;
        socklen_t from_n;
        int fd;            /* towards the target */
        struct pl_mono at; /* when it sent last */
    } peers[PEERS_MAX];
    unsigned n_peers;
};

_Noreturn static void die(const char *what, const char *which)
{
    (void)fprintf(stderr, "bench-netsim: %s%s%s: %s\n", what, which ? " " : "", which ? which : "", strerror(errno));
    exit(69);
}

/* ---- what is under way */

static bool before(const struct packet *a, const struct packet *b)
{
    int c = pl_mono_cmp(a->due, b->due);
    return c < 0 || (c == 0 && a->order < b->order);
}

static void heap_push(struct netsim *s, struct packet *p)
{
    size_t i = s->waiting++;
    while (i > 0 && before(p, s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = p;
}

static struct packet *heap_pop(struct netsim *s)
{
    struct packet *top = s->heap[0], *last = s->heap[--s->waiting];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < s->waiting; i = child) {
        if (child + 1 < s->waiting && before(s->heap[child + 1], s->heap[child]))
            child++;
        if (!before(s->heap[child], last))
            break;
        s->heap[i] = s->heap[child];
    }
    s->heap[i] = last;
    return top;
}

static void take(struct netsim *s, int way, unsigned peer, const uint8_t *bytes, size_t n)
{
    struct pl_mono now = pl_now_mono(&pl_clock_system), due = now;
    bool address = s->bridge && n >= sizeof(struct virtio_net_hdr) + 14 && bytes[sizeof(struct virtio_net_hdr) + 12] == 0x08 && bytes[sizeof(struct virtio_net_hdr) + 13] == 0x06;
    size_t size = s->bridge ? n - sizeof(struct virtio_net_hdr) : n + 28; /* what the rate counts: the frame, or the packet with its IPv4 and UDP headers */
    if (s->waiting >= WAITING_MAX || (!address && link_take(&s->links[way], now, size, &due) != LINK_PASSES))
        return; /* ARP belongs to no link: it is neither lost nor delayed */
    struct packet *p = malloc(sizeof *p + n);
    if (!p)
        die("no memory", NULL);
    p->due = due;
    p->order = s->order++;
    p->way = way;
    p->peer = peer;
    p->n = n;
    memcpy(p->p, bytes, n);
    heap_push(s, p);
}

static void deliver(struct netsim *s)
{
    struct pl_mono now = pl_now_mono(&pl_clock_system);
    while (s->waiting > 0 && pl_mono_cmp(s->heap[0]->due, now) <= 0) {
        struct packet *p = heap_pop(s);
        const struct peer *peer = &s->peers[p->peer];
        ssize_t sent;
        if (s->bridge)
            sent = send(s->interfaces[p->way == UP ? DOWN : UP], p->p, p->n, MSG_DONTWAIT);
        else if (p->way == UP)
            sent = send(peer->fd, p->p, p->n, MSG_DONTWAIT);
        else
            sent = sendto(s->listen, p->p, p->n, MSG_DONTWAIT, (const struct sockaddr *)&peer->from, peer->from_n);
        s->refused += sent < 0;
        free(p);
    }
}

/* ---- between ports */

static int udp_socket(const struct sockaddr_storage *a, socklen_t n, bool connected)
{
    int room = SOCKET_BUFFER, fd = socket(a->ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || (connected ? connect(fd, (const struct sockaddr *)a, n) : bind(fd, (const struct sockaddr *)a, n)) != 0)
        die("cannot open a UDP socket", NULL);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    return fd;
}

static void resolve(char *text, struct sockaddr_storage *ret, socklen_t *ret_n)
{
    struct addrinfo hints = { .ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV }, *list;
    char *colon = strrchr(text, ':');
    if (!colon)
        die("not HOST:PORT", text);
    *colon = '\0';
    char *host = *text == '[' ? text + 1 : text;
    host[strcspn(host, "]")] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &list) != 0)
        die("not an address", host);
    memcpy(ret, list->ai_addr, list->ai_addrlen);
    *ret_n = list->ai_addrlen;
    freeaddrinfo(list);
}

/* When all places are taken, who has been silent for longest gives his. */
static unsigned place_for_one(struct netsim *s)
{
    unsigned silent = 0;
    if (s->n_peers < PEERS_MAX)
        return s->n_peers++;
    for (unsigned i = 1; i < PEERS_MAX; i++)
        if (pl_mono_cmp(s->peers[i].at, s->peers[silent].at) < 0)
            silent = i;
    close(s->peers[silent].fd);
    return silent;
}

static unsigned peer_of(struct netsim *s, const struct sockaddr_storage *from, socklen_t n)
{
    unsigned i = 0;
    while (i < s->n_peers && !(s->peers[i].from_n == n && memcmp(&s->peers[i].from, from, n) == 0))
        i++;
    if (i == s->n_peers) {
        i = place_for_one(s);
        s->peers[i] = (struct peer){ .from = *from, .from_n = n, .fd = udp_socket(&s->target, s->target_n, true) };
    }
    s->peers[i].at = pl_now_mono(&pl_clock_system);
    return i;
}

static void from_peers(struct netsim *s)
{
    uint8_t in[PACKET_MAX];
    for (int i = 0; i < BATCH; i++) {
        struct sockaddr_storage from = { 0 };
        socklen_t from_n = sizeof from;
        ssize_t n = recvfrom(s->listen, in, sizeof in, MSG_DONTWAIT, (struct sockaddr *)&from, &from_n);
        if (n < 0)
            return;
        take(s, UP, peer_of(s, &from, from_n), in, (size_t)n);
    }
}

static void from_target(struct netsim *s, unsigned peer)
{
    uint8_t in[PACKET_MAX];
    ssize_t n;
    for (int i = 0; i < BATCH && (n = recv(s->peers[peer].fd, in, sizeof in, MSG_DONTWAIT)) >= 0; i++)
        take(s, DOWN, peer, in, (size_t)n);
}

/* ---- between interfaces */

static int open_interface(const char *name)
{
    int on = 1, room = SOCKET_BUFFER, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(name) };
    if (fd < 0 || at.sll_ifindex == 0 || strlen(name) >= IFNAMSIZ || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0 || bind(fd, (const struct sockaddr *)&at, sizeof at) != 0)
        die("cannot open interface", name);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    return fd;
}

static void from_interface(struct netsim *s, int way)
{
    uint8_t in[PACKET_MAX];
    ssize_t n;
    for (int i = 0; i < BATCH && (n = recv(s->interfaces[way], in, sizeof in, MSG_DONTWAIT | MSG_TRUNC)) >= 0; i++)
        if ((size_t)n > sizeof in)
            s->refused++; /* a bundle of segments: its sender's device must have gso_max_segs 1, a link loses packets */
        else if ((size_t)n > sizeof(struct virtio_net_hdr))
            take(s, way, 0, in, (size_t)n);
}

/* ---- commands */

static void load(struct netsim *s, const char *path, bool start, uint64_t seed)
{
    struct link_profile p;
    struct pl_fail fail = PL_FAIL_INIT;
    struct pl_arena *a = pl_arena_new(1 << 20);
    if (!a || conf_load(link_profile_rows, &p, path, a, &fail) != PL_OK) {
        (void)fprintf(stderr, "bench-netsim: %s: %s\n", path, fail.detail);
        exit(64);
    }
    for (int way = UP; way < WAYS; way++)
        if (start)
            link_init(&s->links[way], &p, seed * WAYS + (uint64_t)way);
        else
            link_change(&s->links[way], &p);
    pl_arena_free(a);
}

static void tell_stats(const struct netsim *s)
{
    static const char *const names[] = { "up", "down" };
    printf("{");
    for (int way = UP; way < WAYS; way++) {
        const struct link *l = &s->links[way];
        printf("\"%s\":{\"passed\":%llu,\"lost\":%llu,\"queue_full\":%llu,\"cut\":%llu,\"reordered\":%llu,\"bytes\":%llu},", names[way],
            (unsigned long long)l->fates[LINK_PASSES], (unsigned long long)l->fates[LINK_LOST], (unsigned long long)l->fates[LINK_QUEUE_FULL],
            (unsigned long long)l->fates[LINK_CUT], (unsigned long long)l->reordered, (unsigned long long)l->bytes);
    }
    printf("\"waiting\":%zu,\"refused\":%llu,\"peers\":%u}\n", s->waiting, (unsigned long long)s->refused, s->n_peers);
}

static void move(struct netsim *s)
{
    for (unsigned i = 0; i < s->n_peers; i++) {
        int fresh = udp_socket(&s->target, s->target_n, true); /* before the old one closes, so that it cannot get its port */
        close(s->peers[i].fd);
        s->peers[i].fd = fresh;
    }
}

static void command(struct netsim *s, char *line)
{
    char *rest = line + strcspn(line, " ");
    if (*rest)
        *rest++ = '\0';
    bool all = strcmp(rest, "both") == 0;
    if (strcmp(line, "cut") == 0) {
        s->links[UP].cut = s->links[UP].cut || all || strcmp(rest, "up") == 0;
        s->links[DOWN].cut = s->links[DOWN].cut || all || strcmp(rest, "down") == 0;
    } else if (strcmp(line, "heal") == 0)
        s->links[UP].cut = s->links[DOWN].cut = false;
    else if (strcmp(line, "move") == 0)
        move(s);
    else if (strcmp(line, "profile") == 0)
        load(s, rest, false, 0);
    else if (strcmp(line, "stats") == 0) {
        tell_stats(s);
        return;
    } else {
        printf("unknown\n");
        return;
    }
    printf("ok\n");
}

/* False at the end of stdin. */
static bool from_stdin(struct netsim *s)
{
    static char text[1024];
    static size_t have;
    ssize_t n = read(0, text + have, sizeof text - 1 - have);
    if (n <= 0)
        return false;
    have += (size_t)n;
    text[have] = '\0';
    for (char *end; (end = strchr(text, '\n')) != NULL;) {
        *end = '\0';
        command(s, text);
        have -= (size_t)(end + 1 - text);
        memmove(text, end + 1, have + 1);
    }
    return have < sizeof text - 1;
}

static void run(struct netsim *s)
{
    static struct pollfd p[2 + PEERS_MAX];
    for (;;) {
        nfds_t n = 0;
        p[n++] = (struct pollfd){ .fd = 0, .events = POLLIN };
        if (s->bridge)
            for (int way = UP; way < WAYS; way++)
                p[n++] = (struct pollfd){ .fd = s->interfaces[way], .events = POLLIN };
        else {
            p[n++] = (struct pollfd){ .fd = s->listen, .events = POLLIN };
            for (unsigned i = 0; i < s->n_peers; i++)
                p[n++] = (struct pollfd){ .fd = s->peers[i].fd, .events = POLLIN };
        }
        int64_t us = s->waiting ? pl_mono_sub(s->heap[0]->due, pl_now_mono(&pl_clock_system)) : PL_SECOND;
        us = us < 0 ? 0 : us;
        struct timespec t = { us / PL_SECOND, us % PL_SECOND * 1000 };
        (void)ppoll(p, n, &t, NULL);
        for (nfds_t i = 1; i < n; i++)
            if (!p[i].revents)
                continue;
            else if (s->bridge)
                from_interface(s, (int)i - 1);
            else if (i == 1)
                from_peers(s);
            else
                from_target(s, (unsigned)i - 2);
        deliver(s);
        if (p[0].revents && !from_stdin(s))
            return;
    }
}

static void open_ports(struct netsim *s, char *listen_at, char *to)
{
    struct sockaddr_storage at = { 0 };
    char port[8];
    socklen_t n = 0;
    resolve(to, &s->target, &s->target_n);
    resolve(listen_at, &at, &n);
    s->listen = udp_socket(&at, n, false);
    n = sizeof at;
    if (getsockname(s->listen, (struct sockaddr *)&at, &n) != 0 || getnameinfo((struct sockaddr *)&at, n, NULL, 0, port, sizeof port, NI_NUMERICSERV) != 0)
        die("no port", NULL);
    printf("port %s\n", port);
}

int main(int argc, char **argv)
{
    static struct netsim s;
    static const struct option rows[] = { { "profile", required_argument, NULL, 'p' }, { "seed", required_argument, NULL, 's' }, { "listen", required_argument, NULL, 'l' },
                                          { "to", required_argument, NULL, 't' }, { "bridge", no_argument, NULL, 'b' }, { 0 } };
    const char *profile = NULL;
    char *listen_at = NULL, *to = NULL;
    uint64_t seed = 1;
    for (int o; (o = getopt_long(argc, argv, "", rows, NULL)) != -1;)
        switch (o) {
        case 'p': profile = optarg; break;
        case 's': seed = strtoull(optarg, NULL, 10); break;
        case 'l': listen_at = optarg; break;
        case 't': to = optarg; break;
        case 'b': s.bridge = true; break;
        default: return 64;
        }
    if (!profile || (s.bridge ? argc - optind != 2 : !listen_at || !to)) {
        (void)fprintf(stderr, "usage: bench-netsim --profile FILE [--seed N] (--listen HOST:PORT --to HOST:PORT | --bridge IF IF)\n");
        return 64;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    load(&s, profile, true, seed);
    if (!(s.heap = calloc(WAITING_MAX, sizeof *s.heap)))
        die("no memory", NULL);
    if (s.bridge) {
        for (int way = UP; way < WAYS; way++)
            s.interfaces[way] = open_interface(argv[optind + way]);
        printf("ready\n");
    } else
        open_ports(&s, listen_at, to);
    run(&s);
    return 0;
}
