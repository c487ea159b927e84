#include "messages.h"

#define SSRC_MAX INT64_C(0xffffffff)

const struct json_field msg_challenge_fields[] = {
    JSON_F(struct msg_challenge, nonce, J_STR, J_REQUIRED, .lo = 16, .hi = 128), JSON_F(struct msg_challenge, server_name, J_STR, J_REQUIRED, .lo = 1, .hi = 253), J_END
};
const struct json_field msg_reconnect_fields[] = {
    JSON_F(struct msg_reconnect, min_s, J_INT, J_REQUIRED, .lo = 0, .hi = 3600), JSON_F(struct msg_reconnect, max_s, J_INT, J_REQUIRED, .lo = 0, .hi = 3600), J_END
};
static const char *const bindings[] = { "free", "bound", NULL };
const struct json_field msg_welcome_fields[] = {
    JSON_F(struct msg_welcome, session, J_STR, J_OPTIONAL, .hi = 128), JSON_F(struct msg_welcome, server_time, J_TIME, J_REQUIRED),
    JSON_F(struct msg_welcome, heartbeat_s, J_INT, J_OPTIONAL, .lo = 0, .hi = 3600), JSON_F(struct msg_welcome, reconnect, J_OBJECT, J_OPTIONAL, .fields = msg_reconnect_fields),
    JSON_F(struct msg_welcome, binding, J_ENUM, J_REQUIRED, .words = bindings), J_END
};
const struct json_field msg_bound_fields[] = {
    JSON_F(struct msg_bound, re, J_STR, J_OPTIONAL), JSON_F(struct msg_bound, claim_id, J_STR, J_REQUIRED), JSON_F(struct msg_bound, device_id, J_STR, J_OPTIONAL),
    JSON_F(struct msg_bound, system_id, J_STR, J_OPTIONAL), J_END
};
const struct json_field msg_error_fields[] = { JSON_F(struct msg_error, re, J_STR, J_OPTIONAL), JSON_F(struct msg_error, code, J_STR, J_REQUIRED), J_END };
const struct json_field msg_pair_fields[] = {
    JSON_F(struct msg_pair, id, J_STR, J_REQUIRED), JSON_F(struct msg_pair, claim_id, J_STR, J_REQUIRED, .lo = 1, .hi = 63), JSON_F(struct msg_pair, serial, J_SERIAL, J_REQUIRED),
    JSON_F(struct msg_pair, challenge, J_STR, J_REQUIRED, .lo = 16, .hi = 255), J_END
};
const struct json_field msg_unbound_fields[] = { JSON_F(struct msg_unbound, serial, J_SERIAL, J_REQUIRED), J_END };
const struct json_field msg_command_fields[] = {
    JSON_F(struct msg_command, command_id, J_STR, J_REQUIRED, .lo = 1, .hi = 63), JSON_F(struct msg_command, name, J_STR, J_REQUIRED), JSON_F(struct msg_command, args, J_RAW, J_OPTIONAL),
    JSON_F(struct msg_command, deadline, J_TIME, J_OPTIONAL), J_END
};
static const struct json_field track_fields[] = {
    JSON_F(struct msg_track, ssrc, J_INT, J_REQUIRED, .lo = 1, .hi = SSRC_MAX), JSON_F(struct msg_track, payload_type, J_INT, J_REQUIRED, .lo = 0, .hi = 127),
    JSON_F(struct msg_track, codec, J_STR, J_REQUIRED, .lo = 1, .hi = 32), J_END
};
#define AT(member) offsetof(struct msg_leg, member)
static const struct json_field relay_fields[] = {
    { .name = "host", .type = J_STR, .required = J_REQUIRED, .offset = 0, .lo = 1, .hi = 253 },
    { .name = "port", .type = J_INT, .required = J_REQUIRED, .offset = AT(relay.port) - AT(relay), .lo = 1, .hi = 65535 }, J_END
};
static const struct json_field ice_fields[] = {
    { .name = "ufrag", .type = J_STR, .required = J_REQUIRED, .offset = 0, .lo = 4, .hi = 32 },
    { .name = "pwd", .type = J_STR, .required = J_REQUIRED, .offset = AT(ice.pwd) - AT(ice), .lo = 22, .hi = 64 },
    { .name = "peer_ufrag", .type = J_STR, .required = J_REQUIRED, .offset = AT(ice.peer_ufrag) - AT(ice), .lo = 4, .hi = 32 }, J_END
};
static const struct json_field key_fields[] = {
    { .name = "send", .type = J_B64, .required = J_REQUIRED, .offset = 0, .lo = 28, .hi = 30 },
    { .name = "receive", .type = J_B64, .required = J_REQUIRED, .offset = AT(keys.receive) - AT(keys), .lo = 28, .hi = 30 }, J_END
};
#define LEG_FIELDS(st) \
    { .name = "relay", .type = J_OBJECT, .required = J_REQUIRED, .offset = offsetof(st, leg.relay), .fields = relay_fields }, \
    { .name = "ice", .type = J_OBJECT, .required = J_REQUIRED, .offset = offsetof(st, leg.ice), .fields = ice_fields }, \
    { .name = "mtu", .type = J_INT, .required = J_REQUIRED, .offset = offsetof(st, leg.mtu), .lo = 576, .hi = 1400 }, \
    { .name = "suite", .type = J_STR, .required = J_REQUIRED, .offset = offsetof(st, leg.suite) }, \
    { .name = "keys", .type = J_OBJECT, .required = J_REQUIRED, .offset = offsetof(st, leg.keys), .fields = key_fields }, \
    { .name = "video", .type = J_OBJECT, .required = J_REQUIRED, .offset = offsetof(st, leg.video), .fields = track_fields }, \
    { .name = "audio", .type = J_OBJECT, .required = J_REQUIRED, .offset = offsetof(st, leg.audio), .fields = track_fields }
const struct json_field msg_live_start_fields[] = {
    JSON_F(struct msg_live_start, id, J_STR, J_REQUIRED), JSON_F(struct msg_live_start, live_id, J_UUID, J_REQUIRED),
    JSON_F(struct msg_live_start, generation, J_INT, J_REQUIRED, .lo = 0), JSON_F(struct msg_live_start, camera, J_SERIAL, J_REQUIRED),
    LEG_FIELDS(struct msg_live_start), JSON_F(struct msg_live_start, hard_end_s, J_INT, J_REQUIRED, .lo = 1, .hi = 86400), J_END
};
const struct json_field msg_uplink_test_fields[] = {
    JSON_F(struct msg_uplink_test, command_id, J_STR, J_REQUIRED), LEG_FIELDS(struct msg_uplink_test),
    JSON_F(struct msg_uplink_test, max_bps, J_INT, J_REQUIRED, .lo = 100000, .hi = INT32_MAX),
    JSON_F(struct msg_uplink_test, duration_ms, J_INT, J_REQUIRED, .lo = 1000, .hi = 60000), J_END
};
const struct json_field msg_live_stop_fields[] = {
    JSON_F(struct msg_live_stop, id, J_STR, J_OPTIONAL), JSON_F(struct msg_live_stop, live_id, J_UUID, J_REQUIRED), JSON_F(struct msg_live_stop, generation, J_INT, J_REQUIRED, .lo = 0),
    JSON_F(struct msg_live_stop, code, J_STR, J_OPTIONAL, .hi = 63), J_END
};
const struct json_field msg_keyframe_fields[] = { JSON_F(struct msg_keyframe, live_id, J_UUID, J_REQUIRED), J_END };
const struct json_field msg_bitrate_fields[] = {
    JSON_F(struct msg_bitrate, live_id, J_UUID, J_REQUIRED), JSON_F(struct msg_bitrate, video_bps, J_INT, J_REQUIRED, .lo = 1, .hi = INT32_MAX), J_END
};
static const struct json_field live_fields[] = {
    JSON_F(struct msg_live, live_id, J_UUID, J_REQUIRED), JSON_F(struct msg_live, generation, J_INT, J_REQUIRED, .lo = 0), J_END
};
const struct json_field msg_live_sync_fields[] = {
    JSON_F(struct msg_live_sync, sessions, J_ARRAY, J_REQUIRED, .hi = 64, .fields = live_fields, .size = sizeof(struct msg_live)), J_END
};

static struct jw start(struct pl_buf *b, const char *type)
{
    struct jw w = jw_start(b);
    jw_open(&w, NULL);
    jw_z(&w, "type", type);
    return w;
}

static void put_boot(struct jw *w, const struct msg_hello *m)
{
    jw_open(w, "boot");
    jw_uuid(w, "id", m->boot_id);
    jw_str(w, "reason", m->boot_reason);
    jw_int(w, "reset_count", m->reset_count);
    jw_close(w);
}

static void put_can(struct jw *w, bool copied)
{
    jw_array(w, "can");
    if (!copied) {
        jw_z(w, NULL, "keyframe");
        jw_z(w, NULL, "bitrate");
    }
    jw_end_array(w);
}

static void put_cameras(struct jw *w, const struct msg_hello *m)
{
    jw_array(w, "cameras");
    for (size_t i = 0; i < m->cameras_n; i++) {
        jw_open(w, NULL);
        jw_str(w, "serial", m->cameras[i].serial);
        jw_str(w, "model", m->model);
        jw_str(w, "firmware", m->firmware);
        jw_z(w, "video", "H264");
        jw_z(w, "audio", "opus");
        jw_z(w, "talk", "opus");
        put_can(w, m->cameras[i].copied);
        jw_close(w);
    }
    jw_end_array(w);
}

void msg_hello_put(struct pl_buf *b, const struct msg_hello *m)
{
    struct jw w = start(b, "hello");
    jw_str(&w, "id", m->id);
    jw_str(&w, "role", m->role);
    jw_str(&w, "serial", m->serial);
    jw_str(&w, "key_id", m->key_id);
    jw_str(&w, "firmware", m->firmware);
    jw_str(&w, "model", m->model);
    put_boot(&w, m);
    jw_array(&w, "suites");
    for (size_t i = 0; i < m->suites_n; i++)
        jw_str(&w, NULL, m->suites[i]);
    jw_end_array(&w);
    put_cameras(&w, m);
    jw_array(&w, "running_sessions");
    for (size_t i = 0; i < m->running_n; i++) {
        jw_open(&w, NULL);
        jw_uuid(&w, "live_id", m->running[i].live_id);
        jw_int(&w, "generation", m->running[i].generation);
        jw_close(&w);
    }
    jw_end_array(&w);
    jw_b64(&w, "signature", m->signature, 64);
    jw_close(&w);
}

void msg_proof_put(struct pl_buf *b, const struct msg_proof *m)
{
    struct jw w = start(b, m->camera.p ? "paired" : "claim");
    jw_str(&w, "id", m->id);
    jw_str(&w, "claim_id", m->claim_id);
    if (m->camera.p)
        jw_str(&w, "camera", m->camera);
    else
        jw_str(&w, "challenge", m->challenge);
    put_can(&w, m->copied);
    jw_b64(&w, "signature", m->signature, 64);
    jw_close(&w);
}

void msg_ack_put(struct pl_buf *b, struct pl_str re)
{
    struct jw w = start(b, "ack");
    jw_str(&w, "re", re);
    jw_close(&w);
}

void msg_result_put(struct pl_buf *b, struct pl_str id, struct pl_str command_id, bool ok, struct pl_str code)
{
    struct jw w = start(b, "result");
    jw_str(&w, "id", id);
    jw_str(&w, "command_id", command_id);
    jw_bool(&w, "ok", ok);
    if (code.p)
        jw_str(&w, "code", code);
    jw_close(&w);
}

void msg_uplink_wanted_put(struct pl_buf *b, struct pl_str id, struct pl_str command_id)
{
    struct jw w = start(b, "uplink.wanted");
    jw_str(&w, "id", id);
    jw_str(&w, "command_id", command_id);
    jw_close(&w);
}

void msg_uplink_put(struct pl_buf *b, const struct msg_uplink *m)
{
    struct jw w = start(b, "uplink");
    jw_str(&w, "id", m->id);
    jw_str(&w, "command_id", m->command_id);
    jw_int(&w, "bps", m->bps);
    jw_int(&w, "lost_percent", m->lost_percent);
    if (m->rtt_ms >= 0)
        jw_int(&w, "rtt_ms", m->rtt_ms);
    jw_close(&w);
}

void msg_live_state_put(struct pl_buf *b, const struct msg_live_state *m)
{
    struct jw w = start(b, "live.state");
    jw_str(&w, "id", m->id);
    jw_uuid(&w, "live_id", m->live_id);
    jw_int(&w, "generation", m->generation);
    jw_z(&w, "state", m->state);
    if (m->code.p)
        jw_str(&w, "code", m->code);
    if (m->copied)
        put_can(&w, true);
    if (m->gop_ms)
        jw_int(&w, "gop_ms", m->gop_ms);
    jw_close(&w);
}

void msg_status_put(struct pl_buf *b, struct pl_str id, const struct msg_camera_status *cameras, size_t n)
{
    struct jw w = start(b, "status");
    jw_str(&w, "id", id);
    jw_array(&w, "cameras");
    for (size_t i = 0; i < n; i++) {
        jw_open(&w, NULL);
        jw_str(&w, "serial", cameras[i].serial);
        jw_bool(&w, "online", cameras[i].online);
        jw_int(&w, "battery", cameras[i].battery);
        jw_str(&w, "firmware", cameras[i].firmware);
        jw_bool(&w, "busy", cameras[i].busy);
        jw_close(&w);
    }
    jw_end_array(&w);
    jw_close(&w);
}
