/* device.h - hubs and cameras: inventory, claims, binding, presence, commands.
 *
 * A device is added by serial number, which starts a claim (5 minutes, single use, 128-bit challenge). S-D2: only the device's own Ed25519 signature over that
 * challenge binds it (a camera behind a hub is vouched for by the hub's); a wrong one burns the claim. S-D4: a serial that is bound to another account is
 * refused with already_registered, however it was reset; nothing is said about the owner, who is told at most once a day. S-D6: a factory reset changes only
 * onboarding. The same owner adding a device again proves it anew and keeps name, settings and system. S-D8: one hub a system, ten devices beside it, one
 * binding a serial, by slot rows and keys; a claim holds its slot from the start. Only device_free frees a device.
 * Presence is a row (device_link) joined with its node's lease; each hello takes an epoch, an older epoch writes nothing, the newest connection fences the older.
 * Three state machines, never mixed: binding (free, bound), onboarding (ready, reset_detected), connectivity (online, offline, unreachable_via_hub).
 * Not here: live sessions (live.h), names of systems (system.h).
 * Threads: any, state is in PostgreSQL; a device_conn has its own lock.  Memory: outputs live in the transaction's arena.
 *     e = device_may_view(tx, now, &c->actor, device_id, SYSTEM_WATCH, &view, reterr);      whose camera, and which hub reaches it
 *     e = bus_ask(bus, "hub.<view.hub_serial>", message, PL_SECOND, arena, &answer, &fail);      puts a message into that hub's socket; PL_HUB_OFFLINE
 */
#pragma once
#include "account.h"
#include "link.h"
#include "system.h"

#define DEVICE_CLAIM_LIFE (5 * PL_MINUTE)
#define DEVICE_SLOTS 10 /* devices of a system beside its hub */

struct device_conn;
struct device_ctx {
    struct bus *bus;
    const struct pl_clock *clock;
    struct pl_rand *rand;
    const struct pl_log *log;
    struct pl_uuid node_id;  /**< presence hangs on this node's lease */
    const char *server_name; /**< devices sign for this name */
    struct account *account; /**< tells owners */
    struct system_ctx *system;
    /* What a capability above wants to do after a hub's welcome, in the hello's transaction; what it sends by link_after comes after the welcome. May be NULL. */
    enum pl_err (*welcomed)(void *self, struct link_call *c, const struct device_conn *hub);
    void *welcomed_self;
};
extern const struct http_route device_routes[];     /* self: struct device_ctx */
extern const struct link_message device_messages[]; /* self: struct device_ctx; protocol porchlight.hub.v1 */
/* opened/closed of porchlight.hub.v1; self: struct device_ctx. The connection's owner is a struct device_conn. */
void device_link_opened(void *self, struct link_conn *conn);
void device_link_closed(void *self, struct link_conn *conn, struct link_call *c);

/* The hub or hubless camera at the other end of a connection; from its hello on. */
struct pl_str device_conn_serial(const struct device_conn *d);
/* Bits: 1 = AEAD_AES_128_GCM, 2 = AES_CM_128_HMAC_SHA1_80, DEVICE_SUITE_WEBRTC: it publishes by WebRTC (WHIP). */
#define DEVICE_SUITE_WEBRTC 4u
unsigned device_conn_suites(const struct device_conn *d);

/* What live needs to know of a device that is to be watched. */
struct device_view {
    struct pl_uuid device_id, system_id, home_id; /**< home_id: the account under which its rows stand */
    struct pl_str camera_serial, hub_serial; /**< hub_serial: whom to ask; the camera itself when it stands without a hub; .p NULL: nobody */
    struct pl_str kind;
    struct pl_str video, audio, talk;        /**< codecs as its hello named them; .p NULL: not said */
    unsigned suites;                         /**< as device_conn_suites, of who sends */
    bool online;                             /**< who sends is connected, and says that the camera is there */
    bool battery;                            /**< runs on a battery */
    bool can_keyframe, can_bitrate;          /**< makes a key frame, changes its rate, when asked: else it is not asked */
    int64_t gop_ms;                          /**< between two key frames, as its last stream showed; 0: not known */
    bool may_talk;                           /**< who asked has the right to (device_may_view) */
};
/* PL_NOT_FOUND: not of this home. PL_WRONG_KIND: a hub shows no picture. */
PL_MUST enum pl_err device_find_for_view(struct db_tx *tx, struct pl_utc now, struct pl_uuid home_id, struct pl_uuid device_id, struct device_view *ret);
/* The same for an account that has that right in the device's system; also as system_may. */
PL_MUST enum pl_err device_may_view(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid device_id, enum system_right right, struct device_view *ret,
                                    struct pl_fail *reterr);

/* As device_may_view, and until the end of the transaction the device is not freed and its system's hub not changed: whoever frees takes the system first. */
PL_MUST enum pl_err device_hold_for_view(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid device_id, enum system_right right, struct device_view *ret,
                                         struct pl_fail *reterr);

/* Everything that the home screen shows: writes members as_of, systems, claims. Also part of the account's export. */
PL_MUST enum pl_err device_write_home(struct db_tx *tx, struct jw *w, struct pl_utc now, const struct http_actor *who);
/* The same for the account's export. */
PL_MUST enum pl_err device_write_export(struct db_tx *tx, struct jw *w, struct pl_utc now, struct pl_uuid account_id);

/* Whether a hub's `can` names it; a list that was not sent names all. */
bool device_can(const struct json_list *can, const char *what);
/* A stream of the device has shown how far apart its key frames are. */
PL_MUST enum pl_err device_set_gop(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid device_id, int32_t gop_ms);
/* Whether this gateway was told to make that uplink test, and it is not over: only then it gets a place to send to. */
PL_MUST enum pl_err device_uplink_wanted(struct db_tx *tx, struct pl_utc now, struct pl_str gateway_serial, struct pl_uuid command_id, bool *ret);
/* A reading of the gateway. `rtt_ms` -1: not known. */
PL_MUST enum pl_err device_set_uplink(struct db_tx *tx, struct pl_utc now, struct pl_str gateway_serial, int64_t bps, int32_t lost_percent, int32_t rtt_ms);
/* What the way of a gateway to the cloud carries, bits a second, as its last uplink test measured; 0: nobody knows. */
PL_MUST enum pl_err device_uplink(struct db_tx *tx, struct pl_str gateway_serial, int64_t *ret_bps);

/* What a maker has made. */
struct device_made {
    struct pl_str serial; /**< 8..32 of A-Z 0-9 */
    struct pl_str kind;   /**< hub, wireless, mini, doorbell */
    struct pl_str model;
    uint8_t public_key[32];
    struct pl_str setup_code_hash; /**< 32 bytes (device_setup_code_hash); .p NULL: it has none */
};
/* *ret_added false: known with the same key. PL_VERSION_CONFLICT: known with another key or as another kind. */
PL_MUST enum pl_err device_inventory_add(struct db_tx *tx, struct pl_utc now, const struct device_made *made, bool *ret_added, struct pl_fail *reterr);
/* SHA-256 of "porchlight-setup-code-v1\n<serial>\n<code>": what makers hand over instead of the code. */
PL_MUST enum pl_err device_setup_code_hash(struct pl_arena *a, struct pl_str serial, struct pl_str code, uint8_t ret[32]);

/* Job, once a second: ends claims and commands past their time, and the presence of what was connected to nodes that are no more. */
PL_MUST enum pl_err device_expire(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now);
/* Job, every few seconds: commands and claims of cameras that a hub of this node was not told of (the node that accepted them died before its nudge, the bus was away) are told again. */
PL_MUST enum pl_err device_sweep(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now);
/* Of JOURNAL_SYSTEM_LEFT: the rows of a system's devices stand under another account from now on (system_move_home). */
PL_MUST enum pl_err device_move_home(struct db_tx *tx, struct pl_uuid home_id, struct pl_uuid system_id, struct pl_uuid to);
/* Handler of the fact: ends the account's memberships; systems without another owner are deleted and their devices freed; *freed grows by
 * them. After the commit device_tell_freed tells who spoke for them. */
struct device_freed;
PL_MUST enum pl_err device_account_deleted(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct device_freed **freed);
void device_tell_freed(struct device_ctx *ctx, struct pl_arena *a, struct device_freed *freed);
/* For operators: appends member `hubs` (array) to an open object. */
PL_MUST enum pl_err device_list_hubs(struct db_tx *tx, struct pl_utc now, struct jw *out);
/* How many hubs and hubless cameras are connected to a node that lives. */
PL_MUST enum pl_err device_count_hubs(struct db_tx *tx, struct pl_uuid node_id, int64_t *ret);
