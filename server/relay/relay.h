/* relay.h - the packet plane as a pure step: packets and commands in, packets and events out. No socket, no clock, no thread in here.
 *
 * One `struct relay` is what one worker owns: sessions with their source (hub) and all their viewers. A packet is verified once, kept as plaintext in the source's
 * ring, and for each viewer gets a new header and is encrypted into that viewer's run. A viewer starts at a key frame, with numbers that are contiguous from
 * there on: the cached key frame at once when it is whole, else the next one, which the governor asks for (one request per 2 s and source at most).
 * Verify, then change state: addresses, numbers and life move only after a tag or a MESSAGE-INTEGRITY was right (S-M1, S-M2). Keys are used in one generation
 * of one session, each by one context; a key that comes twice is refused (S-M6). On the packet path nothing is allocated, locked or logged.
 * Not here: sockets and threads (relay_worker.h), JSON (relay_control.h), who may watch (live/).  Threads: one at a time.  Memory: fixed when a session or viewer opens.
 *     e = relay_apply(relay, now, &cmd);
 *     relay_step(relay, now, packets, n, &sink);
 *     while (relay_take_event(relay, &event)) tell(&event);
 */
#pragma once
#include "clock.h"
#include "ice_addr.h"
#include "ice_lite.h"
#include "rand.h"
#include "srtp.h"

enum {
    RELAY_PACKET_MAX = 1300,  /**< bytes of a media packet; larger ones are dropped and said once */
    RELAY_VIEWERS = 10,       /**< a session */
    RELAY_ID_TEXT = 96,       /**< viewer and request ids, with NUL */
    RELAY_RING_BYTES = 4 << 20
};

struct relay;
struct relay_conf {
    unsigned max_sessions;
    size_t ring_bytes; /**< a source; 0: RELAY_RING_BYTES */
    struct pl_rand *rand; /**< stays the caller's; sequence and timestamp offsets come from it */
};
PL_MUST enum pl_err relay_new(const struct relay_conf *conf, struct relay **ret);
/* Ends every session without a word, wipes, frees. Takes NULL; returns NULL. */
struct relay *relay_free(struct relay *r);

/* ---- Commands: what control asks for. Run between batches. */
struct relay_track_conf {
    uint32_t ssrc; /**< 0: this track is not there */
    uint8_t payload_type;
};
struct relay_leg { /* one peer, as the relay sees it */
    struct ice_cred ice;                  /**< ufrag and pwd are the relay's */
    enum pl_srtp_suite suite;
    uint8_t receive_key[PL_SRTP_KEY_MAX]; /**< peer to relay: master key || salt */
    uint8_t send_key[PL_SRTP_KEY_MAX];    /**< relay to peer */
    struct relay_track_conf video, audio;
    struct relay_track_conf talk;         /**< source only: the SSRC that the relay itself speaks with */
    bool plain;                           /**< source only: no ICE; found by SSRC, accepted by its tag, view-only */
};
struct relay_ref {
    struct pl_uuid live_id;
    int64_t generation;
};
enum relay_cmd_kind { RELAY_OPEN, RELAY_VIEWER_ADD, RELAY_VIEWER_REMOVE, RELAY_EXTEND, RELAY_CLOSE, RELAY_SYNC, RELAY_CONTROL_UP, RELAY_CONTROL_DOWN };
struct relay_cmd {
    enum relay_cmd_kind kind;
    char request[RELAY_ID_TEXT];   /**< comes back in the answer; empty: none is wanted */
    struct relay_ref ref;          /**< the session; VIEWER_REMOVE does not look at the generation */
    int64_t expires_in_us;         /**< OPEN, EXTEND: from now */
    char viewer_id[RELAY_ID_TEXT]; /**< VIEWER_ADD, VIEWER_REMOVE */
    struct relay_leg leg;          /**< OPEN, VIEWER_ADD */
    const char *code;              /**< CLOSE: end code, a literal; NULL: "closed" */
    struct relay_ref *keep;        /**< SYNC: what stays; the caller's */
    size_t keep_n;
};
/* Carries one command out. OPEN: PL_NODE_FULL, PL_FENCED (a newer generation runs), PL_LIVE_ENDED (this generation has ended here), PL_INVALID_REQUEST (a key or ufrag that
 * was used before, SSRCs that are not distinct), PL_NO_MEMORY. VIEWER_ADD: PL_NOT_FOUND, PL_FENCED, PL_NODE_FULL. Repeating a command that took effect is PL_OK. */
PL_MUST enum pl_err relay_apply(struct relay *r, struct pl_mono now, const struct relay_cmd *cmd);

/* ---- Packets. */
struct relay_in {
    uint8_t *p; /**< changed in place */
    size_t n;
    struct ice_addr from;
};
/* A run of datagrams to one address, `segment` bytes each, the last may be shorter: what UDP_SEGMENT takes. Good only during the call. */
struct relay_run {
    const struct ice_addr *to;
    const uint8_t *p;
    size_t n;
    size_t segment;
};
struct relay_sink {
    void (*send)(struct relay_sink *self, const struct relay_run *run);
};
/* Takes a batch of datagrams; hands runs to the sink before it returns. */
void relay_step(struct relay *r, struct pl_mono now, struct relay_in *in, size_t n, struct relay_sink *sink);
/* Time alone: expiry, silence, key-frame requests, viewers that catch up. Call at relay_due, or later. */
void relay_tick(struct relay *r, struct pl_mono now, struct relay_sink *sink);
/* Microseconds from `now` until relay_tick is wanted; -1: nothing waits. */
int64_t relay_due(const struct relay *r, struct pl_mono now);

/* ---- Events: what control is told, in order. None is dropped: when they are not taken, relay_step goes on and the oldest stay. */
enum relay_event_kind {
    RELAY_EV_SOURCE_CONNECTED, RELAY_EV_SOURCE_MEDIA, RELAY_EV_SOURCE_KEYFRAME, RELAY_EV_VIEWER_CONNECTED, RELAY_EV_VIEWER_MEDIA, RELAY_EV_VIEWER_KEYFRAME,
    RELAY_EV_VIEWER_GONE, RELAY_EV_ENDED, RELAY_EV_WARNING, RELAY_EV_KEYFRAME_WANTED
};
/* "source_connected", …, as the relay protocol names them. */
const char *relay_event_name(enum relay_event_kind kind);
struct relay_event {
    enum relay_event_kind kind;
    struct relay_ref ref;
    char viewer_id[RELAY_ID_TEXT]; /**< empty: the event is the session's */
    const char *code;              /**< literal; NULL: none */
    struct pl_mono at;
};
bool relay_take_event(struct relay *r, struct relay_event *ret);

/* ---- Counters, since relay_new. */
struct relay_stats {
    uint64_t packets_in, packets_out; /**< media packets: verified, encrypted */
    uint64_t bytes_in, bytes_out;
    uint64_t checks;                  /**< proved and answered */
    uint64_t unproved;                /**< STUN, SRTP or SRTCP that failed its proof */
    uint64_t replayed;
    uint64_t unknown;                 /**< of nobody, or of no kind that is known here */
    uint64_t too_large;
    uint64_t lost;                    /**< source packets that never came, as far as numbers tell */
    uint64_t not_sent;                /**< encrypting failed, or the viewer fell out of the ring */
    uint64_t events_dropped;          /**< must stay 0 */
    unsigned sessions, viewers;
};
void relay_stats(const struct relay *r, struct relay_stats *ret);
/* The sessions that run, at most cap. */
size_t relay_running(const struct relay *r, struct relay_ref *ret, size_t cap);
