/* live.h - live sessions: who watches which camera, through which relay, until when.
 *
 * A device has at most one running session; the hub sends its stream once and further viewers join. PostgreSQL holds the intent (live row: device, relay,
 * generation, expiry); the relay owns what happens (viewers, counters) and its own expiry clock, so that nobody has to be alive to end a session. Keys are drawn here, go to
 * relay, hub and viewer in messages, and stand in no row: a generation's keys die with it (S-M6). A session ends in exactly one coded state, which the app
 * sees as event `live.state` and in the live resource: ended_by_user, hub_offline, hub_lost, hub_failed, relay_restarted, relay_lost, expired, device_freed,
 * revoked, control_lost, start_timeout.
 * A viewer is asked of the relay, which must hold it; then it is written down whose it is (live_viewer), while its right is held; then the 201 leaves: a revocation finds it, or
 * comes first and there is none. What was refused leaves no row.
 * A plain session is sent by whoever holds the source's key, by SSRC and without ICE (ffmpeg, GStreamer): for makers; no hub is asked, or told.
 * Not here: packets (relay/), whose device it is (device.h), the sockets (link.h).   Threads: any; connections' state has its own lock.
 * Memory: the transaction's arena.
 *     e = live_device_freed(tx, now, device, serial, &endings);      ends what runs, in the caller's transaction
 *     live_tell(ctx, arena, &endings);                                     after the commit: relay and hub stop
 */
#pragma once
#include "bus.h"
#include "device.h"
#include "http.h"
#include "link.h"
#include "secure.h"

struct live_ctx {
    struct bus *bus;
    const struct pl_clock *clock;
    struct pl_rand *rand;
    const struct pl_log *log;
    struct pl_uuid node_id;
    const char *server_name; /**< what relays sign */
    struct pl_str outside;   /**< where the API is from outside; empty: not known, and then */
    const struct http *rest; /**< hubs are sent to where this listens; NULL: to where they are connected to, for a proxy stands there */
    bool rest_tls;
    struct live_rooms *rooms; /**< live_rooms_new */
    struct live_cuts *cuts;   /**< live_cuts_new */
    int64_t reachable_us;     /**< live_reachable */
    struct pl_secret way_key; /**< makes the addresses of WebRTC viewers; the same on every node */
};

/* What this node knows of the relays' room beyond what they say. */
PL_MUST enum pl_err live_rooms_new(struct live_rooms **ret);
struct live_rooms *live_rooms_free(struct live_rooms *r);
/* When this node told relays which viewers are to be gone: live_cut. */
PL_MUST enum pl_err live_cuts_new(struct live_cuts **ret);
struct live_cuts *live_cuts_free(struct live_cuts *c);
/* From now on relays can come to this node: it has started, or is back from a time without database. Those that were away until now may be on their way. */
void live_reachable(struct live_ctx *ctx, struct pl_utc now);

extern const struct http_route live_routes[];        /* self: struct live_ctx */
extern const struct http_route live_whep_routes[];   /* self: struct live_ctx; viewers by WebRTC */
extern const struct link_message live_relay_messages[]; /* self: struct live_ctx; protocol porchlight.relay.v1 */
extern const struct link_message live_hub_messages[];   /* self: struct live_ctx; beside device's in porchlight.hub.v1 */

extern const struct http_route live_whip_routes[];   /* self: struct live_ctx; hubs by WebRTC */

/* opened/closed of the relay protocol; self: struct live_ctx. */
void live_relay_opened(void *self, struct link_conn *conn);
void live_relay_closed(void *self, struct link_conn *conn, struct link_call *c);
/* After a hub's welcome: sends live.sync, the whole set that this hub is wanted to run. */
PL_MUST enum pl_err live_hub_welcome(void *self, struct link_call *c, const struct device_conn *hub);

/* Sessions that a transaction ended and that relay and hub have not been told of. Lives in the transaction's arena. */
struct live_ending {
    struct pl_uuid live_id, relay_id;
    struct pl_str hub_serial;
    int32_t generation;
    const char *code;
    bool relay_knows; /**< it said so itself: it is not told */
    struct live_ending *next;
};
/* Ends a session, whoever asks: row, place, event. Adds to *endings; ended already is PL_OK and adds nothing. `code`: a literal of the list above. */
PL_MUST enum pl_err live_end(struct db_tx *tx, struct pl_utc now, struct pl_uuid live_id, const char *code, struct live_ending **endings);
/* Tells relay (session.close) and hub (live.stop), without waiting for answers. A message that is lost costs nothing: live.sync repeats it at the next hello. */
void live_tell(const struct live_ctx *ctx, struct pl_arena *a, const struct live_ending *endings);

/* For the account's export: writes member "sessions", every one that it opened itself, wherever, and that is kept (30 days), oldest first. */
PL_MUST enum pl_err live_write_export(struct db_tx *tx, struct jw *w, struct pl_utc now, struct pl_uuid account_id);

/* Does what marks of revoked viewers want, whoever made them: after the commit of who marks, and as a job every half second, for what was left undone. Relays stop to serve them,
 * and are not waited for; a session that nobody else has keys to ends, and so does one whose plain source was marked, or whose relay has not said that the
 * viewer is gone 1.2 s after this node told it: by this node's clock alone, at the first run after that. The nodes' clocks, and who marked when, do not matter. */
PL_MUST enum pl_err live_cut(const struct live_ctx *ctx, struct db *db);

/* Handlers of facts (node's table). Whoever is revoked is marked as to be gone from what it watches: live_cut is due after the commit.
 * `serial`: of the freed device; sessions that a freed hub sends end too (S-D7). .p NULL: not known. Neither the home nor the system is asked: both may have gone on. */
PL_MUST enum pl_err live_device_freed(struct db_tx *tx, struct pl_utc now, struct pl_uuid device_id, struct pl_str serial, struct live_ending **endings);
PL_MUST enum pl_err live_client_revoked(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid client_id);
/* A member of a system was removed, or has less rights than before: what it may not have any more is marked. */
PL_MUST enum pl_err live_member_changed(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid system_id);
/* Of JOURNAL_SYSTEM_LEFT: the rows of a system's sessions stand under another account from now on. */
PL_MUST enum pl_err live_move_home(struct db_tx *tx, struct pl_uuid home_id, struct pl_uuid system_id, struct pl_uuid to);
/* After device_account_deleted. Who opened what in systems that stay is forgotten, too. */
PL_MUST enum pl_err live_account_deleted(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct live_ending **endings);
/* Job, once a second: ends what is past its time or whose relay was revoked or has been away for ten minutes, warns of ends that are near, and has
 * the connections of relays that were revoked in the last minute looked at. */
PL_MUST enum pl_err live_expire(struct db_tx *tx, struct pl_utc now, struct live_ending **endings);

/* Job: forgets sessions that ended more than 30 days ago, 1,000 at a time. */
PL_MUST enum pl_err live_clean(struct db_tx *tx, struct pl_utc now);

/* Relays: a node's key is registered before it may dial in. The same name with the same key is the same relay (*ret_id its id); another key is VERSION_CONFLICT. */
PL_MUST enum pl_err live_relay_enroll(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_str name, const uint8_t public_key[32], struct pl_uuid *ret_id,
                                      struct pl_fail *reterr);
/* S-D12: from the commit on its key is refused, for good; whichever node it is connected to is told and cuts it, and every node looks by itself once a second.
 * live_expire ends its sessions with relay_lost. Again: the same answer. PL_NOT_FOUND: no relay has this id. */
PL_MUST enum pl_err live_relay_revoke(struct db_tx *tx, struct pl_utc now, struct pl_uuid id, struct pl_str *ret_name, struct pl_utc *ret_at);
struct live_counts {
    int64_t relays, connected, viewers, sessions; /**< relays let in · of these connected · viewers on those · sessions that have not ended */
};
PL_MUST enum pl_err live_count(struct db_tx *tx, struct pl_utc now, struct live_counts *ret);
/* The same into the gauges porchlight_relays…, porchlight_live_…. */
PL_MUST enum pl_err live_measure(struct db_tx *tx, struct pl_utc now);
/* For operators: appends members `relays` / `sessions` (arrays) to an open object; live_explain writes one session with its stages. */
PL_MUST enum pl_err live_list_relays(struct db_tx *tx, struct pl_utc now, struct jw *out);
PL_MUST enum pl_err live_list_sessions(struct db_tx *tx, struct jw *out);
PL_MUST enum pl_err live_explain(struct db_tx *tx, struct pl_uuid live_id, struct jw *out);
