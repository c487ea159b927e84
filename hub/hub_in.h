/* hub_in.h - what the files of the hub's conversation share: hub.c (connection, hello, claims, status) and hub_live.c (sessions). Nobody else looks in here. */
#pragma once
#include "hub.h"
#include "link_client.h"
#include "messages.h"
#include "reach.h"
#include "state.h"
#include "stream.h"

enum { HUB_STREAMS = 2 * HUB_CAMERAS, /**< a camera's next session may start while its last one still ends */ HUB_COMMANDS = 16, HUB_STARTED = 64, HUB_ARENA = 1 << 20 };
enum hub_phase { HUB_AWAY = 1, HUB_DIALLED = 2, HUB_PROVED = 4, HUB_READY = 8 };

struct hub_claim {
    char id[HUB_ID], challenge[HUB_CHALLENGE];
    char message[PL_UUID_TEXT]; /**< id of the message that proved it last */
    enum hub_claim_end end;
    char code[HUB_ID]; /**< of a refusal */
};
struct hub_done_command {
    char id[HUB_ID];
    enum pl_err how;
    bool running; /**< its result comes later */
};
/* A session that was started here, and its newest generation. The keys of that are used up: when it is over, it is never started again (S-M6). */
struct hub_started {
    struct pl_uuid live_id;
    int64_t generation;
    const char *end;   /**< failed or ended, when it is over, */
    char code[HUB_ID]; /**< and why */
};
/* An uplink test; command_id "": none. */
struct hub_uplink {
    char command_id[HUB_ID], message[PL_UUID_TEXT], source[32];
    struct stream *stream;        /**< NULL: waits for a place to send to */
    struct pl_mono until, ended;
};
struct hub {
    struct hub_conf conf;
    struct secure_keypair key;
    struct pl_log log;
    struct link_client *link;
    pthread_mutex_t lock;    /* guards all below; link_client's thread holds it while it handles a message */
    struct pl_arena *arena;  /**< of the message at hand */
    enum hub_phase phase;
    struct hub_state state;
    struct pl_uuid boot_id;
    const char *boot_reason;
    int64_t clock_off;       /**< server's wall clock minus ours, microseconds, at the last welcome */
    struct hub_claim claim;
    char pairing[HUB_CAMERAS][HUB_ID]; /**< claim under which a camera is being paired; "": none */
    struct hub_done_command done[HUB_COMMANDS];
    size_t done_next;
    struct stream *streams[HUB_STREAMS];
    struct hub_started started[HUB_STARTED]; /**< the last ones */
    size_t started_n; /**< ever */
    struct hub_uplink uplink;
    struct reach *reach;
    struct pl_mono status_at;
    bool status_due, leaving;
};

/* A buffer for one message out, in the arena of the message at hand. */
static inline struct pl_buf hub_buf(struct hub *h) { return pl_buf_init(h->arena, MSG_MAX); }
/* Sends what was built. A connection that is away loses it: whatever matters is told again at the next hello. */
void hub_send(struct hub *h, const struct pl_buf *b);
/* A fresh message id. */
struct pl_str hub_id(struct hub *h, char out[PL_UUID_TEXT]);
/* Index of a camera within reach, or -1. */
int hub_camera_at(const struct hub *h, struct pl_str serial);

/* A copy that ends with a NUL; what does not fit is cut. */
void hub_keep(char *place, size_t cap, struct pl_str s);
/* The result of a command that ran on. */
void hub_command_done(struct hub *h, struct pl_str command_id, enum pl_err how);

/* hub_uplink.c. LOCK: h->lock. */
PL_MUST enum pl_err hub_uplink_begin(struct hub *h, struct pl_str command_id);
PL_MUST enum pl_err hub_on_uplink_test(struct hub *h, const struct json_doc *d, struct pl_fail *f);
/* The cloud refused message `re`. */
void hub_uplink_refused(struct hub *h, struct pl_str re);
/* A session wants the way. */
void hub_uplink_give_way(struct hub *h);
void hub_uplink_tick(struct hub *h);
bool hub_uplink_runs(const struct hub *h);

/* hub_live.c. LOCK: h->lock. */
/* Where to send, with which keys: into c. */
PL_MUST enum pl_err hub_read_leg(struct hub *h, const struct msg_leg *m, struct stream_conf *c);
PL_MUST enum pl_err hub_on_live_start(struct hub *h, const struct json_doc *d, struct pl_fail *f);
PL_MUST enum pl_err hub_on_live_stop(struct hub *h, const struct json_doc *d, struct pl_fail *f);
PL_MUST enum pl_err hub_on_live_sync(struct hub *h, const struct json_doc *d, struct pl_fail *f);
PL_MUST enum pl_err hub_on_keyframe(struct hub *h, const struct json_doc *d, struct pl_fail *f);
PL_MUST enum pl_err hub_on_bitrate(struct hub *h, const struct json_doc *d, struct pl_fail *f);
/* The sessions that run; at most HUB_STREAMS. */
size_t hub_running(const struct hub *h, struct msg_live out[HUB_STREAMS]);
bool hub_camera_busy(const struct hub *h, size_t camera);
/* Stops the sessions of one camera (-1: of all). */
void hub_stop_streams(struct hub *h, int camera, struct pl_str code);
/* Frees those that are over; true when there were any. */
bool hub_reap(struct hub *h);
