#include "ice_addr.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

struct ice_addr ice_addr_of(const struct sockaddr *sa)
{
    struct ice_addr a = { .family = 0 };
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof in);
        a.family = 4;
        a.port = ntohs(in.sin_port);
        memcpy(a.ip, &in.sin_addr, 4);
    } else if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof in6);
        const uint8_t *ip = in6.sin6_addr.s6_addr;
        bool v4 = memcmp(ip, mapped, sizeof mapped) == 0;
        a.family = v4 ? 4 : 6;
        a.port = ntohs(in6.sin6_port);
        memcpy(a.ip, v4 ? ip + 12 : ip, v4 ? 4 : 16);
    }
    return a;
}

socklen_t ice_addr_sockaddr(const struct ice_addr *a, int socket_family, struct sockaddr_storage *ret)
{
    memset(ret, 0, sizeof *ret);
    if (a->family == 4 && socket_family == AF_INET) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(a->port) };
        memcpy(&in.sin_addr, a->ip, 4);
        memcpy(ret, &in, sizeof in);
        return sizeof in;
    }
    if (socket_family != AF_INET6 || a->family == 0)
        return 0;
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(a->port) };
    if (a->family == 4) {
        memcpy(in6.sin6_addr.s6_addr, mapped, sizeof mapped);
        memcpy(in6.sin6_addr.s6_addr + 12, a->ip, 4);
    } else {
        memcpy(in6.sin6_addr.s6_addr, a->ip, 16);
    }
    memcpy(ret, &in6, sizeof in6);
    return sizeof in6;
}

void ice_addr_text(const struct ice_addr *a, char out[ICE_ADDR_TEXT])
{
    char ip[INET6_ADDRSTRLEN] = "none";
    (void)inet_ntop(a->family == 6 ? AF_INET6 : AF_INET, a->ip, ip, sizeof ip);
    (void)snprintf(out, ICE_ADDR_TEXT, a->family == 6 ? "[%s]:%u" : "%s:%u", ip, (unsigned)a->port);
}

enum pl_err ice_addr_parse(struct pl_str s, struct ice_addr *ret)
{
    char ip[INET6_ADDRSTRLEN];
    size_t colon = s.n;
    while (colon > 0 && s.p[colon - 1] != ':')
        colon--;
    if (colon < 2)
        return PL_INVALID_REQUEST;
    struct pl_str host = { s.p, colon - 1 };
    uint32_t port;
    if (pl_parse_u32((struct pl_str){ s.p + colon, s.n - colon }, 0, 65535, &port) != PL_OK)
        return PL_INVALID_REQUEST;
    bool v6 = host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    if (v6)
        host = (struct pl_str){ host.p + 1, host.n - 2 };
    if (host.n == 0 || host.n >= sizeof ip)
        return PL_INVALID_REQUEST;
    memcpy(ip, host.p, host.n);
    ip[host.n] = 0;
    struct ice_addr a = { .family = v6 ? 6 : 4, .port = (uint16_t)port };
    if (inet_pton(v6 ? AF_INET6 : AF_INET, ip, a.ip) != 1)
        return PL_INVALID_REQUEST;
    *ret = a;
    return PL_OK;
}
