/* wifi.h - the device's way into the home's network: what a maker replaces, and the thread that calls it.
 *
 * A driver is a table of four calls that may take their time (struct wifi_driver); they are made one at a time, on a thread of their own, and their results are
 * taken by whoever polls wifi_fd. A password goes to the driver and nowhere else: here it is wiped when the call has returned, and nothing logs it. What a
 * driver keeps in order to join again after a power cut is the driver's own, sealed as its platform can.
 * This tree has one driver, a network that is simulated from a file (wifi_sim.c); a device on a cable has none. A product puts its own in wifi_sim_open's place.
 * Not here: who may ask for it (onboarding.h).  Threads: wifi_* from one; the driver on its own.  Memory: owned until wifi_free.
 *     e = wifi_sim_open("home.json", &driver, &fail);
 *     e = wifi_new(driver, &wifi);
 *     e = wifi_scan(wifi);
 *     if (readable(wifi_fd(wifi))) while (wifi_take(wifi, &done)) …
 */
#pragma once
#include "str.h"

enum { WIFI_SSID = 32, WIFI_PASSWORD = 63, WIFI_NETWORKS = 32 };
enum wifi_security { WIFI_OPEN, WIFI_WPA2, WIFI_WPA3 };
extern const char *const wifi_security_words[]; /* by enum wifi_security */
struct wifi_network {
    char ssid[WIFI_SSID + 1];
    int rssi; /**< dBm */
    enum wifi_security security;
    bool ghz2, ghz5;
};
struct wifi_list {
    struct wifi_network networks[WIFI_NETWORKS];
    size_t n;
};
/* How a try to join ended; the words of product.md. */
enum wifi_end { WIFI_JOINED, WIFI_WRONG_PASSWORD, WIFI_NOT_FOUND, WIFI_NOT_2_4GHZ, WIFI_NO_DHCP, WIFI_NO_INTERNET };
extern const char *const wifi_end_words[]; /* by enum wifi_end */

struct wifi_driver {
    /* What is in the air, strongest first; names that are not UTF-8 are left out. At most 10 s. */
    enum pl_err (*scan)(struct wifi_driver *d, struct wifi_list *ret);
    /* Joins, gets an address, and keeps what is needed to join again. `password` .n 0: open. At most a minute. */
    enum wifi_end (*join)(struct wifi_driver *d, struct pl_str ssid, struct pl_str password);
    /* Joins what was kept. false: nothing was. */
    bool (*resume)(struct wifi_driver *d);
    struct wifi_driver *(*close)(struct wifi_driver *d);
};
/* A simulated network: {"networks":[{"ssid":"Home","password":"…","rssi":-48,"security":"wpa2","bands":["2.4"],"fault":"no_dhcp"}]}; the file is read at each call, so that
 * a test may change what is in the air. The name that was joined is kept beside it, in FILE.joined. PL_IO, PL_INVALID_REQUEST. */
PL_MUST enum pl_err wifi_sim_open(const char *file, struct wifi_driver **ret, struct pl_fail *reterr);

struct wifi_done {
    bool tried; /**< a try to join: `end`; else a scan: `e`, `list` */
    enum wifi_end end;
    enum pl_err e;
    struct wifi_list list;
};
struct wifi;
/* Takes the driver over, also when it fails. PL_NO_MEMORY. */
PL_MUST enum pl_err wifi_new(struct wifi_driver *driver, struct wifi **ret);
int wifi_fd(const struct wifi *w);
/* PL_RETRY: the driver is at work. */
PL_MUST enum pl_err wifi_scan(struct wifi *w);
/* PL_RETRY as above; PL_INVALID_REQUEST: a name or password that no network can have. */
PL_MUST enum pl_err wifi_join(struct wifi *w, struct pl_str ssid, struct pl_str password);
/* false: nothing is done yet. */
bool wifi_take(struct wifi *w, struct wifi_done *ret);
/* Waits for a call that is under way. Takes NULL; returns NULL. */
struct wifi *wifi_free(struct wifi *w);
