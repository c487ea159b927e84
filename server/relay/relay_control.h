/* relay_control.h - the relay's one conversation with the cloud ("porchlight.relay.v1"): commands in, answers, events and figures out.
 *
 * Dials in, proves the node's Ed25519 key, says which sessions run, obeys `live.sync`. Each command is one row: its fields, and how they become a relay_cmd.
 * While the cloud is away sessions go on (relay.h ends them by expiry or after ten minutes). What happens is numbered and kept in order until the cloud has said
 * that it wrote it (`session.heard`), and said again on each new connection until then; answers to a connection that is gone are thrown away.
 * This is the relay's door that logs; keys are never in a log line or an error.
 * Not here: sockets of media (relay_worker.h).  Threads: messages are read on link_client's thread, news is written by a thread of its own.
 *     e = relay_control_new(&conf, &c, &fail);
 *     c = relay_control_free(c);
 */
#pragma once
#include "relay_names.h"
#include "relay_worker.h"
#include "secure.h"

struct relay_control;
struct relay_control_conf {
    const char *url;             /**< ws://host:port/relay/v1 or wss://… */
    const char *ca_file;         /**< link_client.h */
    struct pl_uuid relay_id;
    struct secure_keypair key;
    const char *media_host;      /**< as hubs and viewers are told */
    uint16_t media_port;
    const uint8_t *fingerprint;  /**< as WebRTC peers see our certificate, DTLS_FINGERPRINT bytes; must outlive this */
    unsigned max_sessions;
    struct relay_names *names;   /**< where the URL's host is; NULL: the C library is asked. Stays the caller's and must outlive this */
    struct relay_worker *worker; /**< posts wait until it is started; stays the caller's and must outlive this */
    const struct pl_clock *clock;
    struct pl_rand *rand;
    const struct pl_log *log;
};
PL_MUST enum pl_err relay_control_new(const struct relay_control_conf *conf, struct relay_control **ret, struct pl_fail *reterr);
/* Says goodbye, joins, frees. Takes NULL; returns NULL. */
struct relay_control *relay_control_free(struct relay_control *c);

/* The two translations, without a connection; for the tests. */
/* A message of the cloud. *ret_known false: a type that is not a command (the caller's business, or to be ignored). PL_INVALID_REQUEST with the member's name. The
 * post's `keep` is heap and the caller's; it holds keys: wipe it. */
PL_MUST enum pl_err relay_control_read(struct pl_str text, struct pl_arena *a, struct relay_post *ret, bool *ret_known, struct pl_fail *reterr);
/* What the cloud is told; empty for news that is not said. `utc` and `mono` are the same moment. */
void relay_control_write(const struct relay_news *news, struct pl_utc utc, struct pl_mono mono, struct pl_buf *out);
