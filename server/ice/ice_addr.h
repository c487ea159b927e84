/* ice_addr.h - an address of a peer: family, bytes, port. Small, comparable, without the padding of sockaddr.
 *
 * IPv4 in IPv6 (::ffff:a.b.c.d) becomes IPv4, so that one peer has one address whatever socket it came through.
 *     struct ice_addr from = ice_addr_of((struct sockaddr *)&ss);
 */
#pragma once
#include "str.h"
#include <sys/socket.h>

struct ice_addr {
    uint8_t ip[16];   /**< IPv4: the first four */
    uint16_t port;    /**< host order */
    uint16_t family;  /**< 4, 6, or 0: none */
};
/* Family 0 when it is neither IPv4 nor IPv6. */
struct ice_addr ice_addr_of(const struct sockaddr *sa);
/* Fills *ret for a socket of `socket_family` (AF_INET6 takes IPv4 as mapped); returns the size, 0 when it cannot be expressed. */
socklen_t ice_addr_sockaddr(const struct ice_addr *a, int socket_family, struct sockaddr_storage *ret);
static inline bool ice_addr_eq(const struct ice_addr *a, const struct ice_addr *b) { return memcmp(a, b, sizeof *a) == 0; }
/* "127.0.0.1:50000", "[::1]:50000". */
#define ICE_ADDR_TEXT 56
void ice_addr_text(const struct ice_addr *a, char out[ICE_ADDR_TEXT]);
/* "127.0.0.1:50000" or "[::1]:50000"; addresses only, no names. */
PL_MUST enum pl_err ice_addr_parse(struct pl_str s, struct ice_addr *ret);
