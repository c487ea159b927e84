/* onboarding.h - the leg in the home (proto/onboarding.yaml) as rules: what an app may ask of a device that is being added, without a socket, a radio or a clock.
 *
 * A device listens only while it is being added: a window after its start (as long as it is free) or after its button, until it is bound and the app has left.
 * Everybody in radio range can reach it then. So: one app at a time, known by a token that it got for the device's whole serial number; the device signs with its
 * factory key that its box key and the app's belong together for this claim, so that the app knows whom it gives the password; name and password of the network
 * come in a box that only those two keys open, go to the driver and are forgotten; no answer and no log holds them. Requests, wrong serials and bytes are bounded. A web
 * page is refused: by its Origin, and, where a name was bent to this address, by its Host.
 * Not here: HTTP (onboarding_http.h), the radio (wifi.h), the proof itself (hub_claim).  Threads: one at a time.  Memory: answers live in the caller's arena.
 *     e = onboarding_new(&conf, now, &o);
 *     onboarding_ask(o, now, &look, &ask, arena, &answer);
 *     if (!onboarding_open(o, now)) stop listening;
 */
#pragma once
#include "hub.h"
#include "wifi.h"

enum { ONBOARDING_BODY = 2048, ONBOARDING_ARENA = 128 * 1024 };
#define ONBOARDING_WINDOW (15 * PL_MINUTE)
#define ONBOARDING_SESSION PL_MINUTE        /* without a request of its app, others may have the device */
#define ONBOARDING_LAST_WORDS (30 * PL_SECOND) /* listens on after it was bound, so that the app reads it */
#define ONBOARDING_INTERNET (30 * PL_SECOND)   /* to reach the cloud from a network that was joined */

struct onboarding;
struct onboarding_conf {
    struct pl_str serial;
    const char *role, *model, *firmware;
    bool wired;        /**< there is no radio: on its network from the start */
    bool on_network;   /**< joined already: wired, or what was kept */
    int64_t window_us;
    void *self;
    /* The deeds. A claim is proved by the hub when it reaches the cloud. */
    enum pl_err (*claim)(void *self, struct pl_str claim_id, struct pl_str challenge);
    enum pl_err (*vouch)(void *self, const struct hub_vouch *what, uint8_t ret_signature[64]);
    enum pl_err (*scan)(void *self);
    enum pl_err (*join)(void *self, struct pl_str ssid, struct pl_str password);
};
/* Begins the window, and a first scan. */
PL_MUST enum pl_err onboarding_new(const struct onboarding_conf *conf, struct pl_mono now, struct onboarding **ret);

/* One request, as it came. Absent headers are .p NULL. */
struct onboarding_request {
    struct pl_str method, path, host, origin, content_type, authorization, body;
    struct pl_str here; /**< what Host must say: the address that was asked */
};
struct onboarding_answer {
    int status;
    int32_t retry_after_s;  /**< 0: none */
    struct pl_str body;     /**< JSON; .n 0: none */
    bool problem;           /**< application/problem+json */
};
void onboarding_ask(struct onboarding *o, struct pl_mono now, const struct hub_look *look, const struct onboarding_request *q, struct pl_arena *a,
                    struct onboarding_answer *ret);
/* What the driver has done. */
void onboarding_wifi(struct onboarding *o, struct pl_mono now, const struct wifi_done *done);
/* Something about the hub's conversation has changed. */
void onboarding_cloud(struct onboarding *o, struct pl_mono now, const struct hub_look *look);
bool onboarding_open(const struct onboarding *o, struct pl_mono now);
/* When it closes if nothing happens. */
struct pl_mono onboarding_until(const struct onboarding *o);
/* Wipes. Takes NULL; returns NULL. */
struct onboarding *onboarding_free(struct onboarding *o);
