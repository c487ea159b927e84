/* way.h - a UDP socket to one relay, from whichever address this machine has at the moment.
 *
 * The socket is not connected: a connected one keeps for ever the address from which it first went out, and is dead once the machine has another (Wi-Fi to LTE, a new
 * DHCP lease). So each datagram goes by the routes of its moment, and the next check moves the session there (V-F3). What others than the relay send is dropped here.
 * Not here: what is sent (sender.h, the viewer's receiver.h).  Threads: one that receives, any that send.  Memory: a plain struct and a descriptor, until way_close.
 *     e = way_open(&way, "relay.example", 50000, &fail);
 *     way_send(&way, packet, n);
 *     while ((n = way_receive(&way, in, sizeof in)) > 0) use(in, n);
 */
#pragma once
#include "err.h"
#include <sys/socket.h>

struct way {
    int fd; /**< to poll for input, and for socket options; -1: closed */
    struct sockaddr_storage relay;
    socklen_t relay_n;
};
/* `host`: an address or a name; the first of its addresses to which there is a route. PL_IO with a sentence. */
PL_MUST enum pl_err way_open(struct way *w, const char *host, uint16_t port, struct pl_fail *reterr);
/* A datagram that cannot leave now is a lost packet: the other side asks for it, or a check is sent again. */
void way_send(const struct way *w, const uint8_t *p, size_t n);
/* Bytes of the next datagram of the relay's; 0: none has come. Does not wait. */
size_t way_receive(const struct way *w, uint8_t *out, size_t cap);
void way_close(struct way *w);
