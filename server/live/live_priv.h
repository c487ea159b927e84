/* live_priv.h - private to live/: what its files share. */
#pragma once
#include "live.h"
#include "live_sql.h"

/* Starts `{"type":…,"id":<new>,` in b; the caller writes members and closes. */
struct jw live_message(const struct live_ctx *ctx, struct pl_buf *b, const char *type);
/* Sends a message with an id to a relay, wherever it is connected, and waits for its ok. PL_NO_RELAY: not connected; PL_RELAY_TIMEOUT; or the relay's own code. */
PL_MUST enum pl_err live_ask_relay(const struct live_ctx *ctx, struct pl_arena *a, struct pl_uuid relay_id, struct pl_str text, int64_t timeout_us, struct pl_str *ret,
                                   struct pl_fail *reterr);
/* Puts a message into a hub's socket, wherever it is connected. PL_HUB_OFFLINE: it is not. */
PL_MUST enum pl_err live_ask_hub(const struct live_ctx *ctx, struct pl_arena *a, struct pl_str hub_serial, struct pl_str text, int64_t timeout_us, struct pl_fail *reterr);
/* A token for the one offer of a session's hub; its hash is written beside the session's place. */
PL_MUST enum pl_err live_whip_grant(struct db_tx *tx, struct pl_utc now, struct pl_uuid live_id, char ret_token[SECURE_TOKEN_TEXT]);
/* `whip` of live.start: where the hub makes it. */
void live_whip_write(const struct live_ctx *ctx, struct pl_arena *a, struct jw *w, struct pl_uuid live_id, const char *token);
/* Begins a live.start; the caller writes keys or `whip`, and hard_end_s, and closes. */
struct live_start_facts {
    struct pl_uuid live_id;
    int32_t generation, port;
    struct pl_str camera, host; /**< host, port: of the relay */
};
struct jw live_start_message(const struct live_ctx *ctx, struct pl_buf *b, const struct live_start_facts *f);
/* Of a hub's hello: the sessions that wait for its offer are told it again, with fresh tokens. */
PL_MUST enum pl_err live_whip_again(const struct live_ctx *ctx, struct link_call *c, struct pl_str hub_serial);
/* Percent of a core from which on a relay answers node_full (RELAY_BUSY_FULL). */
enum { LIVE_RELAY_FULL = 70 };
/* How long an answer that a phone waits for may take at relay or hub. */
#define LIVE_ASK_TIMEOUT (2 * PL_SECOND)
/* In a transaction of its own: ends what a call could not bring up, or found gone, and tells both ends. */
void live_give_up(const struct live_ctx *ctx, struct http_call *c, struct pl_uuid live_id, const char *code);
/* The relay forgets a session that has no row: whoever opened it gave it up. */
void live_close_spare(const struct live_ctx *ctx, struct pl_arena *a, struct pl_uuid relay_id, struct pl_uuid live_id, int32_t generation);
/* live_tell as the argument of http_after and link_after: endings of the transaction that is now committed. */
struct live_told {
    const struct live_ctx *ctx;
    struct db *db; /**< for live_cut; NULL where nobody is marked */
    struct pl_arena *arena;
    struct live_ending *endings;
};
void live_tell_later(void *told);

/* A session by its own id, for a member who has that right in its system (system_may). */
PL_MUST enum pl_err live_may(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid live_id, enum system_right right, struct system_row *ret_system,
                             struct live_sql_get_row *ret, struct pl_fail *reterr);
/* An account leaves a session, or a token of it (who->scopes): its viewers are marked for live_cut, and a session to which nobody else has keys ends. */
PL_MUST enum pl_err live_leave(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid live_id, struct live_ending **endings);

/* One who joins, in two steps: the relay holds the viewer, then it is written whose it is, then the keys go out. A viewer whose second step fails is let go. */
struct live_joins {
    struct pl_uuid live_id, viewer_id, system_id;
    enum system_right right; /**< what it was given by */
    struct pl_mono held;     /**< the relay was asked then: live_add_viewer */
};
/* Asks the relay by `text`, a viewer.add. One that did not answer in time is told to let go. As live_ask_relay; PL_NOT_FOUND: it does not run the session. */
PL_MUST enum pl_err live_add_viewer(const struct live_ctx *ctx, struct pl_arena *a, struct pl_uuid relay_id, struct live_joins *j, struct pl_str text, struct pl_fail *reterr);
/* Writes the viewer down; until the end of the transaction neither its client nor its right is taken. PL_LIVE_ENDED; PL_VIEWERS_FULL; as account_hold_client and system_hold. */
PL_MUST enum pl_err live_join(struct db_tx *tx, const struct live_ctx *ctx, struct pl_utc now, const struct http_actor *who, const struct live_joins *j, struct pl_fail *reterr);
/* Tells a relay, without waiting, to serve a viewer no more. */
void live_let_go(const struct live_ctx *ctx, struct pl_arena *a, struct pl_uuid relay_id, struct pl_uuid live_id, struct pl_uuid viewer_id);

PL_MUST enum pl_err live_stage_add(struct db_tx *tx, struct pl_uuid live_id, const char *stage, struct pl_utc at);
/* Event `live.state` for the members of its system. */
PL_MUST enum pl_err live_event(struct db_tx *tx, struct pl_utc now, struct pl_uuid live_id, const char *state, const char *code);
/* Event `live.warning`, once for each code of a session. */
PL_MUST enum pl_err live_warning(struct db_tx *tx, struct pl_utc now, struct pl_uuid live_id, const char *code);
/* Members of the live resource, into the open object. PL_NOT_FOUND: not of this home. */
PL_MUST enum pl_err live_write(struct db_tx *tx, struct jw *out, struct pl_uuid account_id, struct pl_uuid live_id);
PL_MUST enum pl_err live_write_stages(struct db_tx *tx, struct jw *out, struct pl_uuid account_id, struct pl_uuid live_id);

/* Sends a message over the call's connection after its commit. */
PL_MUST enum pl_err live_say(struct link_call *c, const struct pl_buf *b);
/* live_uplink.c. What of a way of `uplink_bps` the pictures of one of `streams` may take: three quarters are shared out evenly; never under 200 kbit/s nor over 2 Mbit/s. */
int64_t live_share_bps(int64_t uplink_bps, size_t streams);
/* Tells a hub the bitrate of each session that it runs and whose camera heeds it. Nothing where nothing was measured: the camera's own rate stands. */
PL_MUST enum pl_err live_hub_bitrates(struct link_call *c, const struct device_conn *hub);

/* An uplink test: a hub that was told to make one is given a relay and keys for it, and says what arrived. */
struct live_uplink_msg {
    struct pl_uuid command_id;
    int64_t bps, lost_percent, rtt_ms;
    bool has_rtt_ms;
};
extern const struct json_field live_uplink_wanted_fields[], live_uplink_fields[];
enum pl_err live_on_uplink_wanted(struct link_call *c, struct pl_fail *reterr);
enum pl_err live_on_uplink(struct link_call *c, struct pl_fail *reterr);

/* What a relay has counted since it started. The first report of a connection is where counting begins: what went before was another connection's. */
struct live_traffic {
    bool any;
    int64_t packets_in, packets_out, lost;
    int64_t handshakes, refused, refused_full, too_fast, socket_overflow, not_sent, unproved, events_dropped, cpu_us, freezes_in, freezes_out;
    struct live_failures { int64_t fingerprint, no_profile, alert, timeout, refused, no_memory; } failures;
    struct live_transit { int64_t us50, us150, us500, ms1, ms5, longer; } transit;
    struct live_paced { int64_t us100, ms5, ms10, ms20, ms50, longer; } paced;
    struct live_stages { int64_t receive, verify, protect, send; } stages;
};
struct live_stats_msg { /* a relay's `stats` */
    int64_t sessions, viewers, busy_percent;
    struct live_traffic traffic;
};
extern const struct json_field live_stats_fields[];
void live_count_traffic(struct live_traffic *before, const struct live_stats_msg *m);
/* How the pictures arrive: counted for operators, and stored as it comes for the people who watch; nothing decides by it. */
struct live_session_stats_msg { /* a relay's `session.stats`: 5 s of a session that is watched */
    struct pl_uuid live_id;
    int64_t generation;
    struct live_source_stats { int64_t rtt_ms; } source;
    struct json_list viewers;
    struct pl_str source_text, viewers_text; /* the same once more, as they stand there */
};
extern const struct json_field live_session_stats_fields[];
PL_MUST enum pl_err live_count_session(struct link_call *c, struct pl_uuid relay_id, const struct live_session_stats_msg *m);
