/* link_client.h - libwebsockets, dialling side: how a hub or a relay holds its one connection to the cloud.
 *
 * Connects, reconnects with the window that the server gave (full jitter between min and max), pings, notices silence, queues sends with a ceiling. One thread of its
 * own; all callbacks run there, must not block, and may call link_client_send. Not here: hello and its signature (relay/, hub/).
 *     struct link_client *c;
 *     e = link_client_new(&(struct link_client_conf){ .url = "ws://127.0.0.1:8081/hub/v1", .protocol = "porchlight.hub.v1", .on_message = got, .self = hub }, &c, &fail);
 */
#pragma once
#include "clock.h"
#include "log.h"

enum { LINK_ADDRESS = 64 }; /* an IPv6 address with its zone and NUL */

/* A server's address in its parts. */
struct link_url {
    char host[256], path[256], authority[280]; /**< host without brackets; the last as written: host:port */
    int port;
    bool tls;
};
/* ws://host:port/path, ws://[::1]:port/path, wss://host/path. PL_INVALID_REQUEST with a sentence. */
PL_MUST enum pl_err link_url_read(struct pl_str url, struct link_url *ret, struct pl_fail *reterr);

struct link_client;
struct link_client_conf {
    const char *url;      /**< ws://host:port/path or wss://… (system CAs, or ca_file) */
    const char *protocol;
    const char *ca_file;  /**< wss://: who may vouch for the server, which must bear the URL's host in its certificate; NULL: the system's */
    void *self;
    void (*on_open)(void *self);
    void (*on_message)(void *self, struct pl_str text); /**< whole messages, at most max_message */
    void (*on_close)(void *self, int code, struct pl_str reason); /**< also when a try to connect failed (code 0; a certificate that is refused: why) */
    void (*on_tick)(void *self); /**< every 250 ms while running, connected or not; may be NULL */
    /* Before each try: where the URL's host is now, as an address in digits; may take a few seconds. false: not known. NULL: looked up by the C library. */
    bool (*lookup)(void *self, char ret_address[LINK_ADDRESS]);
    int64_t dead_us;      /**< closed after this silence; 0: 25 s */
    size_t max_message;   /**< the largest that is taken; more closes the connection; 0: 64 KiB */
    size_t max_queued;    /**< bytes that may wait to be sent; 0: 256 KiB */
    const struct pl_clock *clock;
    struct pl_rand *rand;
    const struct pl_log *log;
};
/* Starts at once; *ret is set before the first callback. Reads what it needs of the file system here, not later (names are looked up when dialling).
 * PL_INVALID_REQUEST: the URL; or the file of certificates. */
PL_MUST enum pl_err link_client_new(const struct link_client_conf *conf, struct link_client **ret, struct pl_fail *reterr);
/* Any thread. PL_UNAVAILABLE when not connected; PL_TOO_SLOW when it does not fit into max_queued. What waits when the connection is lost is lost with it. */
PL_MUST enum pl_err link_client_send(struct link_client *c, struct pl_str json);
/* The reconnect window; default 0.2 s .. 2 s, doubling to 30 s while the server cannot be reached. */
void link_client_window(struct link_client *c, int64_t min_us, int64_t max_us);
/* Closes this connection and dials again by the window. */
void link_client_reconnect(struct link_client *c);
/* Says goodbye (1000), joins the thread, frees. Takes NULL; returns NULL. */
struct link_client *link_client_free(struct link_client *c);
