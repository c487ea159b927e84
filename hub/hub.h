/* hub.h - the hub's conversation with the cloud: proving itself, being claimed, pairing cameras, live sessions on demand, commands.
 *
 * One WebSocket to /hub/v1 (docs/hub-makers.md tells the protocol). Messages come at least once, so everything here may be repeated without harm. The connection
 * may go at any time: sessions run on, claims are proved again at the next welcome. A hub signs only for a server's challenge and for its own name.
 * Not here: media (stream.h), what is kept over a power cut (state.h), the leg in the home (onboarding.h).
 * Threads: the conversation runs on link_client's thread; what is called here is called from the main one.  Memory: owned until hub_free.
 *     e = hub_new(&conf, &hub, &fail);
 *     e = hub_dial(hub, &fail);
 *     e = hub_claim(hub, claim_id, challenge);
 *     hub = hub_free(hub);
 */
#pragma once
#include "log.h"
#include "secure.h"
#include "srtp.h"

enum { HUB_CAMERAS = 10, HUB_ID = 64, HUB_CHALLENGE = 256 };

struct hub_camera {
    struct pl_str serial;
    const char *source; /**< "test", a file, rtsp://…; with `copy:` before it coded frames are handed on as they are */
};
struct hub_conf {
    const char *server;        /**< ws://host:port/hub/v1 */
    const char *server_name;   /**< signs for this server only; NULL: for whichever was dialled */
    const char *ca_file;       /**< for wss; NULL: the system's */
    struct pl_str serial;
    uint8_t seed[32];          /**< of the factory key; wiped in the copy that hub_new is given */
    const char *role;          /**< "hub", or "camera": one that stands without a hub and is its own */
    const char *model, *firmware;
    struct hub_camera cameras[HUB_CAMERAS]; /**< within reach */
    size_t cameras_n;
    bool suites[2];            /**< by enum pl_srtp_suite: which this hub speaks */
    const char *state;         /**< file; NULL: none */
    bool reset;                /**< this start is a factory reset */
    const struct pl_clock *clock;
    struct pl_rand *rand;
    const struct pl_log *log;
    void *self;
    void (*on_connected)(void *self); /**< at each welcome, on link_client's thread; may be NULL */
    void (*on_change)(void *self);    /**< what hub_look tells has changed; on link_client's thread; may be NULL */
};

/* How it stands with the cloud. */
enum hub_claim_end { HUB_CLAIM_NONE, HUB_CLAIM_WAITS, HUB_CLAIM_BOUND, HUB_CLAIM_REFUSED };
struct hub_look {
    bool connected, bound;    /**< bound: to an account, as far as is known here */
    enum hub_claim_end claim; /**< the last one that hub_claim was given */
    char code[HUB_ID];        /**< why it was refused */
};
/* What the device says to the app in the home: that these two box keys belong together, for this claim. All as the text that was sent. */
struct hub_vouch { struct pl_str claim_id, challenge, app_key, device_key; };

struct hub;
/* PL_IO: the state file. */
PL_MUST enum pl_err hub_new(struct hub_conf *conf, struct hub **ret, struct pl_fail *reterr);
/* Starts to dial: when there is a network. Twice is once. PL_INVALID_REQUEST: the server's address. */
PL_MUST enum pl_err hub_dial(struct hub *h, struct pl_fail *reterr);
struct hub_look hub_look(struct hub *h);
PL_MUST enum pl_err hub_vouch(struct hub *h, const struct hub_vouch *what, uint8_t ret_signature[64]);
/* The app's challenge, as it came by the leg in the home: proved now if the cloud is there, else at the next welcome. Replaces one that still waits. */
PL_MUST enum pl_err hub_claim(struct hub *h, struct pl_str claim_id, struct pl_str challenge);
/* Ends all sessions, notes a clean end, says goodbye. Takes NULL; returns NULL. */
struct hub *hub_free(struct hub *h);
