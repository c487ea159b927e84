/* messages.h - the messages of porchlight.hub.v1 as tables: what the cloud sends, read; what the hub sends, written. proto/hub.asyncapi.yaml says the same in YAML.
 *
 * Unknown members are ignored, so that the protocol can grow; known ones that are malformed make the message PL_INVALID_REQUEST.
 * Not here: what they mean (hub.c). Threads: any.  Memory: read into the caller's arena; written into the caller's buffer.
 *     struct msg_keyframe m = { 0 };
 *     e = json_doc_take(doc, msg_keyframe_fields, JSON_LENIENT, arena, &m, &fail);
 */
#pragma once
#include "json.h"

enum { MSG_MAX = 64 * 1024 };

struct msg_challenge { struct pl_str nonce, server_name; };
struct msg_reconnect { int64_t min_s, max_s; };
struct msg_welcome {
    struct pl_str session;
    struct pl_utc server_time;
    int64_t heartbeat_s;
    struct msg_reconnect reconnect;
    int binding; /**< enum msg_binding */
};
enum msg_binding { MSG_FREE, MSG_BOUND };
struct msg_bound { struct pl_str re, claim_id, device_id, system_id; };
struct msg_error { struct pl_str re, code; };
struct msg_pair { struct pl_str id, claim_id, serial, challenge; };
struct msg_unbound { struct pl_str serial; };
struct msg_command {
    struct pl_str command_id, name, args;
    struct pl_utc deadline;
};
struct msg_track { int64_t ssrc, payload_type; struct pl_str codec; };
struct msg_leg { /**< of hub to relay */
    struct { struct pl_str host; int64_t port; } relay;
    struct { struct pl_str ufrag, pwd, peer_ufrag; } ice;
    int64_t mtu;
    struct pl_str suite;
    struct { struct pl_str send, receive; } keys; /**< decoded */
    struct msg_track video, audio;
};
struct msg_live_start {
    struct pl_str id;
    struct pl_uuid live_id;
    int64_t generation;
    struct pl_str camera;
    struct msg_leg leg;
    int64_t hard_end_s;
};
struct msg_uplink_test {
    struct pl_str command_id;
    struct msg_leg leg;
    int64_t max_bps, duration_ms;
};
struct msg_live_stop {
    struct pl_str id;
    struct pl_uuid live_id;
    int64_t generation;
    struct pl_str code;
};
struct msg_keyframe { struct pl_uuid live_id; };
struct msg_bitrate { struct pl_uuid live_id; int64_t video_bps; };
struct msg_live { struct pl_uuid live_id; int64_t generation; };
struct msg_live_sync { struct json_list sessions; /**< of struct msg_live */ };

extern const struct json_field msg_challenge_fields[], msg_welcome_fields[], msg_bound_fields[], msg_error_fields[], msg_pair_fields[], msg_unbound_fields[], msg_command_fields[],
    msg_live_start_fields[], msg_live_stop_fields[], msg_keyframe_fields[], msg_bitrate_fields[], msg_uplink_test_fields[], msg_live_sync_fields[], msg_reconnect_fields[];

struct msg_hello_camera {
    struct pl_str serial;
    bool copied; /**< heeds nobody: neither makes key frames nor changes its rate when asked */
};
struct msg_hello {
    struct pl_str id, role, serial, key_id, firmware, model;
    struct pl_uuid boot_id;
    struct pl_str boot_reason; /**< power, reboot, update, crash, factory_reset */
    int64_t reset_count;
    const struct pl_str *suites;
    const struct msg_hello_camera *cameras;
    size_t suites_n, cameras_n;
    const struct msg_live *running;
    size_t running_n;
    const uint8_t *signature;  /**< 64 bytes */
};
void msg_hello_put(struct pl_buf *b, const struct msg_hello *m);
struct msg_proof {
    struct pl_str id, claim_id, challenge;
    struct pl_str camera;     /**< absent: `type` is claim, of the hub itself; else paired */
    bool copied;              /**< its pictures heed nobody */
    const uint8_t *signature; /**< 64 bytes */
};
void msg_proof_put(struct pl_buf *b, const struct msg_proof *m);
void msg_ack_put(struct pl_buf *b, struct pl_str re);
void msg_result_put(struct pl_buf *b, struct pl_str id, struct pl_str command_id, bool ok, struct pl_str code);
void msg_uplink_wanted_put(struct pl_buf *b, struct pl_str id, struct pl_str command_id);
struct msg_uplink {
    struct pl_str id, command_id;
    int64_t bps, lost_percent, rtt_ms; /**< rtt_ms -1: not known */
};
void msg_uplink_put(struct pl_buf *b, const struct msg_uplink *m);
struct msg_live_state {
    struct pl_str id;
    struct pl_uuid live_id;
    int64_t generation;
    const char *state;
    struct pl_str code; /**< .p NULL: none */
    bool copied;        /**< says `can: []` */
    int64_t gop_ms;     /**< 0: not known */
};
void msg_live_state_put(struct pl_buf *b, const struct msg_live_state *m);

struct msg_camera_status {
    struct pl_str serial, firmware;
    bool online, busy;
    int64_t battery;
};
void msg_status_put(struct pl_buf *b, struct pl_str id, const struct msg_camera_status *cameras, size_t n);
