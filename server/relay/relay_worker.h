/* relay_worker.h - one thread with one UDP socket around one `struct relay`: the only place of the packet plane that does I/O.
 *
 * Receives in batches (relay_batch.h; SO_RCVBUF 4 MB, losses of that buffer counted), sends each viewer's run as one UDP_SEGMENT datagram and falls back to
 * sendmmsg where the kernel or the path does not take it. Commands come in and news goes out through bounded single-producer queues, looked at between
 * batches; nothing waits for control. DTLS handshakes run on a side thread (relay_dtls.h) that is made, started and stopped with the worker.
 * News that is not taken stays in order, and is never dropped.
 * Not here: JSON and the connection to the cloud (relay_control.h), what packets mean (relay.h).
 * Threads: relay_worker_post from one thread, relay_worker_peek and _next from one (may be another); the rest before start or after stop.
 * Memory: fixed when it is made; sessions take theirs when they open.
 *     e = relay_worker_new(&conf, &w, &fail);
 *     e = relay_worker_start(w, &fail);
 *     e = relay_worker_post(w, &cmd);
 */
#pragma once
#include "log.h"
#include "relay_dtls.h"

struct relay_worker;
struct relay_worker_conf {
    struct ice_addr media;   /**< where to listen; port 0: any */
    unsigned max_sessions;
    unsigned busy_full;      /**< relay.h */
    uint64_t source_bps;     /**< relay.h */
    bool no_gso;             /**< tests and bench: always sendmmsg */
    const struct pl_clock *clock;
    struct pl_rand *rand;
    const struct pl_log *log;
};

/* What the worker is asked besides the relay's own commands. */
enum relay_ask { RELAY_ASK_CMD, RELAY_ASK_RUNNING };
struct relay_post {
    enum relay_ask ask;
    uint32_t connection;  /**< comes back with the answer: whose it is */
    struct relay_cmd cmd; /**< `keep` is heap and becomes the worker's */
};
enum relay_news_kind { RELAY_NEWS_EVENT, RELAY_NEWS_ANSWER, RELAY_NEWS_RUNNING, RELAY_NEWS_STATS, RELAY_NEWS_SESSION };
enum { RELAY_TRANSITS = 6 };
enum relay_stage {
    RELAY_STAGE_RECEIVE, /**< in the kernel, from its stamp until the batch was read */
    RELAY_STAGE_VERIFY,  /**< until the whole batch was verified and kept */
    RELAY_STAGE_PROTECT, /**< until it was encrypted for each viewer, without */
    RELAY_STAGE_SEND,    /**< the system calls that sent it */
    RELAY_STAGES
};
extern const int64_t relay_transit_us[RELAY_TRANSITS - 1]; /* 50, 150, 500, 1000, 5000: upper ends of `transit`; the last one has none */
struct relay_io_stats {
    uint64_t socket_overflow; /**< messages of one or more datagrams that the kernel dropped because the receive buffer was full */
    uint64_t send_failed;     /**< datagrams that the socket did not take */
    uint64_t transit[RELAY_TRANSITS]; /**< V-B1: datagrams by the time from the kernel's stamp until they were through the step */
    uint64_t stage_us[RELAY_STAGES];  /**< where these datagrams spent their time, each one's added up */
    uint64_t gso_fallbacks;   /**< runs that had to be sent one by one */
    int64_t cpu_us;           /**< of the process */
};
struct relay_news {
    enum relay_news_kind kind;
    uint32_t connection;
    struct relay_event event;      /**< EVENT */
    uint64_t seq;                  /**< EVENT: its number, given by relay_control */
    char request[RELAY_ID_TEXT];   /**< ANSWER */
    enum pl_err result;            /**< ANSWER */
    struct relay_ref *running;     /**< RUNNING: heap, the taker's */
    size_t running_n;
    struct relay_session_stats *session; /**< SESSION: one that is watched, every 5 s; heap, the taker's */
    struct relay_stats stats;      /**< STATS, every 5 s */
    struct relay_io_stats io;      /**< STATS */
    struct relay_dtls_counts dtls; /**< STATS */
};

/* Binds the socket. PL_UNAVAILABLE with a sentence when the address is taken or not ours. */
PL_MUST enum pl_err relay_worker_new(const struct relay_worker_conf *conf, struct relay_worker **ret, struct pl_fail *reterr);
struct ice_addr relay_worker_addr(const struct relay_worker *w);
/* Of the certificate that WebRTC peers are shown, DTLS_FINGERPRINT bytes; good as long as the worker. */
const uint8_t *relay_worker_fingerprint(const struct relay_worker *w);
PL_MUST enum pl_err relay_worker_start(struct relay_worker *w, struct pl_fail *reterr);
/* Stops the thread, frees. Takes NULL; returns NULL. */
struct relay_worker *relay_worker_free(struct relay_worker *w);

/* PL_OVERLOADED when the queue is full: nothing was taken, `keep` stays the caller's. Wipe the post afterwards, it holds keys. */
PL_MUST enum pl_err relay_worker_post(struct relay_worker *w, const struct relay_post *post);
/* Looks at the oldest news without taking it; false when there is none. */
bool relay_worker_peek(struct relay_worker *w, const struct relay_news **ret);
void relay_worker_next(struct relay_worker *w);
/* Becomes readable when there is news. Read it (eight bytes) before looking. */
int relay_worker_news_fd(const struct relay_worker *w);
