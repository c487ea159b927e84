/* device_priv.h - private to device/: what its files share. */
#pragma once
#include "device.h"
#include "device_sql.h"
#include "journal.h"

#define DEVICE_FAILURES_HOUR 10 /* failed claims of an account */
#define DEVICE_FAILURES_DAY 20  /* failed claims of a serial; from then on its setup code is asked for */

/* ---- device_view.c: devices as apps see them ---- */
struct device_connectivity {
    const char *state; /**< online, offline, unreachable_via_hub */
    struct pl_str cause;
    struct pl_utc as_of;
};
struct device_connectivity device_connectivity(const struct device_sql_views_row *r, struct pl_utc now);
PL_MUST enum pl_err device_view_one(struct db_tx *tx, struct pl_uuid home_id, struct pl_uuid id, struct device_sql_views_row **ret);
/* The same, as a member of its system sees it (system_may). */
PL_MUST enum pl_err device_may(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid id, enum system_right right, struct system_row *ret_system,
                               struct device_sql_views_row **ret, struct pl_fail *reterr);
void device_write(struct jw *w, const struct device_sql_views_row *r, struct pl_utc now);

/* ---- device.c: freeing, events ---- */
/* An event about a device for all members of its system: {device_id} and up to two more words. */
PL_MUST enum pl_err device_event(struct db_tx *tx, struct pl_utc now, struct pl_uuid system_id, const char *type, struct pl_uuid device_id, const char *name1, struct pl_str value1,
                                 const char *name2, struct pl_str value2);
PL_MUST enum pl_err device_audit(struct db_tx *tx, struct pl_utc now, struct pl_uuid device_id, struct pl_uuid actor, const char *action, struct pl_str serial, const char *why);
/* After the commit whoever speaks for a freed device is told. */
struct device_freed {
    struct pl_str serial, gateway; /**< gateway: the hub that spoke for it; .p NULL: it speaks for itself */
    struct device_freed *next;
};
/* Frees one device: `why` is deleted, system_deleted, account_deleted. The only way out of a binding. */
PL_MUST enum pl_err device_free(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid actor, const struct device_sql_views_row *d,
                                const char *why, struct device_freed **freed);
/* Frees the devices of a system and deletes it. The caller holds the system. */
PL_MUST enum pl_err device_free_system(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid actor, struct pl_uuid system_id,
                                       const char *why, struct device_freed **freed);
/* Tells gateways: for http_after. */
struct device_tell {
    struct device_ctx *ctx;
    struct pl_arena *arena;
    struct device_freed *freed;
    struct pl_str nudge; /**< a hub to nudge; .p NULL: none */
    bool mail;           /**< the outbox has something */
};
void device_tell(void *tell);
void device_nudge_hub(struct bus *bus, struct pl_str serial);
/* "hub.<serial>" */
#define DEVICE_SUBJECT 48
void device_subject(struct pl_str serial, char ret[DEVICE_SUBJECT]);

/* ---- device_claim.c ---- */
struct device_claim_ask {
    const struct http_actor *who;
    struct pl_uuid system_id;
    struct pl_str serial, setup_code, name;
    bool hub;
};
struct device_claim_started {
    struct pl_uuid id, home_id;
    struct pl_str hub; /**< to nudge; .p NULL: none */
};
/* Starts a claim. *ret_count_it: the failure was counted, so that the transaction must be committed though it failed. */
PL_MUST enum pl_err device_claim_start(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now, const struct device_claim_ask *ask, struct device_claim_started *ret,
                                       bool *ret_count_it, struct pl_fail *reterr);
/* Ends a claim that is open: state, slot, event. */
PL_MUST enum pl_err device_claim_end(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid system_id, struct pl_uuid id, const char *state, const char *code);
/* Its state is another one now, if it is open. */
PL_MUST enum pl_err device_claim_state(struct db_tx *tx, struct pl_utc now, struct pl_uuid system_id, struct pl_uuid id, const char *state, struct pl_str wifi_error);
/* Members of the claim resource, into the open object. PL_NOT_FOUND: not of this home. */
PL_MUST enum pl_err device_claim_write(struct db_tx *tx, struct jw *w, struct pl_utc now, struct pl_uuid home_id, struct pl_uuid id);
void device_claim_members(struct jw *w, const struct device_sql_claim_find_row *r, struct pl_utc now);

struct device_proof {
    struct pl_uuid claim_id;
    struct pl_str by;        /**< serial of the connection that brings it */
    struct pl_str serial;    /**< of the device that is proved: the same, or a camera that it vouches for */
    struct pl_str challenge; /**< as the device knows it; .p NULL: the claim's own was signed */
    struct pl_str signature; /**< 64 bytes */
};
struct device_bound {
    struct pl_uuid account_id, device_id, system_id;
};
/* S-D2. PL_CLAIM_REFUSED, PL_CLAIM_EXPIRED, PL_ALREADY_REGISTERED; *ret_keep: what was written must be committed all the same. */
PL_MUST enum pl_err device_claim_prove(struct device_ctx *ctx, struct db_tx *tx, struct pl_utc now, const struct device_proof *p, struct device_bound *ret, bool *ret_keep,
                                       struct pl_fail *reterr);

/* ---- device_command.c ---- */
PL_MUST enum pl_err device_command_event(struct db_tx *tx, struct pl_utc now, struct pl_uuid device_id, struct pl_uuid id, const char *stage, struct pl_str code);
enum pl_err device_on_command_post(struct http_call *c, struct pl_fail *reterr);
enum pl_err device_on_command_read(struct http_call *c, struct pl_fail *reterr);
struct device_command_body {
    struct pl_str idempotency_key;
    int name;
    int64_t deadline_s;
};
extern const struct json_field device_command_fields[];

/* ---- device_conn.c: the object behind a connection ---- */
struct device_conn {
    struct device_ctx *ctx;
    pthread_mutex_t lock;
    char nonce[48];
    /* Written once by the hello, before anything else reads them. */
    char serial[33];
    int64_t epoch;
    unsigned suites;
    bool is_hub;
    struct bus_server *server;
    struct bus_watch *watch;
    struct pl_uuid device_id; /* of the binding that the device was last told of; zero: free. Only on the connection's lane */
    bool posted;              /* LOCK: lock; a delivery is queued and has not begun */
};
struct device_conn *device_conn_new(struct device_ctx *ctx);
void device_conn_done(void *owner);
/* Serves and watches "hub.<serial>". From now on others reach the device by the bus. */
PL_MUST enum pl_err device_conn_serve(struct link_conn *conn);
/* Ends that. */
void device_conn_unserve(struct device_conn *d);
/* Queues the delivery of what waits for this device (device_deliver), unless one is queued. */
void device_conn_deliver(struct link_conn *conn);

/* ---- device_deliver.c ---- */
/* A message that is sent after this call's commit: `{"type":…` is open, the caller writes members and calls jw_close. False: there is no memory. */
PL_MUST bool device_say(struct link_call *c, const char *type, struct jw *ret_w);
/* Is this connection still the device's newest? Every handler asks first; an older one is closed and writes nothing. */
PL_MUST enum pl_err device_fence(struct link_call *c);
/* After the commit the device knows this binding of its own (zero: none): a transaction that is run again must find what it found before. */
PL_MUST enum pl_err device_told(struct link_call *c, struct device_conn *d, struct pl_uuid device_id);
/* The event that a bound device came or went; `state`: online, offline. */
PL_MUST enum pl_err device_connected(struct link_call *c, const struct device_sql_bound_row *b, const char *state, struct pl_str cause);
/* Posted to a connection: tells it what waits for the device. */
enum pl_err device_deliver(struct link_call *c, void *arg, struct pl_fail *reterr);
