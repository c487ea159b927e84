/* wifi_sim.c - the air of a home, from a file: for tests, and for a bench without a radio. */
#include "json.h"
#include "secure.h"
#include "wifi.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { FILE_MAX = 16 * 1024, ARENA = 256 * 1024 };

struct sim {
    struct wifi_driver base;
    const char *file;
    char joined[512]; /**< name of the file that keeps the network's name */
};

static const char *const faults[] = { "none", "no_dhcp", "no_internet", NULL };
enum { FAULT_NONE, FAULT_NO_DHCP, FAULT_NO_INTERNET };
struct air_network {
    struct pl_str ssid, password;
    int64_t rssi;
    int security, fault;
    struct json_list bands;
};
static const struct json_field network_fields[] = {
    JSON_F(struct air_network, ssid, J_STR, J_REQUIRED, .lo = 1, .hi = WIFI_SSID), JSON_F(struct air_network, password, J_STR, J_OPTIONAL, .hi = WIFI_PASSWORD),
    JSON_F(struct air_network, rssi, J_INT, J_REQUIRED, .lo = -127, .hi = 0), JSON_F(struct air_network, security, J_ENUM, J_REQUIRED, .words = wifi_security_words),
    JSON_F(struct air_network, bands, J_STRS, J_REQUIRED, .hi = 2), JSON_F(struct air_network, fault, J_ENUM, J_OPTIONAL, .words = faults), J_END
};
struct air { struct json_list networks; };
static const struct json_field air_fields[] = {
    JSON_F(struct air, networks, J_ARRAY, J_REQUIRED, .fields = network_fields, .size = sizeof(struct air_network), .hi = WIFI_NETWORKS), J_END
};

static enum pl_err read_air(const char *file, struct pl_arena *a, struct air *ret, struct pl_fail *reterr)
{
    char *text = pl_alloc(a, FILE_MAX);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 && text ? read(fd, text, FILE_MAX) : -1;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return pl_fail(reterr, PL_IO, "the simulated Wi-Fi's file cannot be read: %s", strerror(errno));
    return json_take(air_fields, JSON_STRICT, (struct pl_str){ text, (size_t)n }, a, ret, reterr);
}

static bool has_band(const struct air_network *n, const char *band)
{
    for (size_t i = 0; i < n->bands.n; i++)
        if (pl_str_eqz(((const struct pl_str *)n->bands.items)[i], band))
            return true;
    return false;
}

static enum pl_err scan(struct wifi_driver *base, struct wifi_list *ret)
{
    PL_CLEANUP(pl_arena_freep) struct pl_arena *a = pl_arena_new(ARENA);
    struct air air = { 0 };
    struct wifi_list list = { .n = 0 };
    enum pl_err e = a ? read_air(((struct sim *)base)->file, a, &air, NULL) : PL_NO_MEMORY;
    if (e != PL_OK)
        return e;
    const struct air_network *from = air.networks.items;
    for (size_t i = 0; i < air.networks.n; i++) {
        struct wifi_network n = { .rssi = (int)from[i].rssi, .security = (enum wifi_security)from[i].security, .ghz2 = has_band(&from[i], "2.4"), .ghz5 = has_band(&from[i], "5") };
        if (from[i].ssid.n > WIFI_SSID) /* so many bytes, not so many letters */
            continue;
        memcpy(n.ssid, from[i].ssid.p, from[i].ssid.n);
        size_t at = list.n++;
        for (; at > 0 && list.networks[at - 1].rssi < n.rssi; at--)
            list.networks[at] = list.networks[at - 1];
        list.networks[at] = n;
    }
    *ret = list;
    return PL_OK;
}

static void keep(const struct sim *s, struct pl_str ssid)
{
    int fd = open(s->joined, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    (void)!write(fd, ssid.p, ssid.n);
    close(fd);
}

static enum wifi_end join(struct wifi_driver *base, struct pl_str ssid, struct pl_str password)
{
    PL_CLEANUP(pl_arena_freep) struct pl_arena *a = pl_arena_new(ARENA);
    struct air air = { 0 };
    if (!a || read_air(((struct sim *)base)->file, a, &air, NULL) != PL_OK)
        return WIFI_NOT_FOUND;
    const struct air_network *n = NULL, *all = air.networks.items;
    for (size_t i = 0; i < air.networks.n && !n; i++)
        if (pl_str_eq(all[i].ssid, ssid))
            n = &all[i];
    if (!n)
        return WIFI_NOT_FOUND;
    if (!has_band(n, "2.4"))
        return WIFI_NOT_2_4GHZ;
    if (n->security != WIFI_OPEN && !secure_eq(n->password.p, n->password.n, password.p, password.n))
        return WIFI_WRONG_PASSWORD;
    if (n->fault == FAULT_NO_DHCP)
        return WIFI_NO_DHCP;
    if (n->fault == FAULT_NO_INTERNET)
        return WIFI_NO_INTERNET;
    keep((struct sim *)base, ssid);
    return WIFI_JOINED;
}

static bool resume(struct wifi_driver *base) { return access(((struct sim *)base)->joined, F_OK) == 0; }
static struct wifi_driver *finish(struct wifi_driver *base) { return pl_heap_free(base); }

enum pl_err wifi_sim_open(const char *file, struct wifi_driver **ret, struct pl_fail *reterr)
{
    PL_CLEANUP(pl_arena_freep) struct pl_arena *a = pl_arena_new(ARENA);
    struct air air = { 0 };
    enum pl_err e = a ? read_air(file, a, &air, reterr) : PL_NO_MEMORY;
    struct sim *s = e == PL_OK ? pl_heap(sizeof *s) : NULL;
    if (!s)
        return e == PL_OK ? PL_NO_MEMORY : e;
    s->base = (struct wifi_driver){ .scan = scan, .join = join, .resume = resume, .close = finish };
    s->file = file;
    struct pl_buf name = pl_buf_fixed(s->joined, sizeof s->joined - 1);
    pl_buf_fmt(&name, "%s.joined", file);
    if (pl_buf_err(&name) != PL_OK) {
        pl_heap_free(s);
        return pl_fail(reterr, PL_INVALID_REQUEST, "the simulated Wi-Fi's file has too long a name");
    }
    *ret = &s->base;
    return PL_OK;
}
