/* relay.h - the packet plane as a pure step: packets and commands in, packets and events out. No socket, no clock, no thread in here.
 *
 * One `struct relay` is what one worker owns: sessions with their source (hub) and all their viewers. A packet is verified once, kept as plaintext in the source's
 * ring, and for each viewer gets a new header and is encrypted into that viewer's run. A viewer starts at a key frame, with numbers that are contiguous from
 * there on: the cached key frame at once when it is whole, else the next one, which the governor asks for (one request per 2 s and source at most).
 * Verify, then change state: addresses, numbers and life move only after a tag or a MESSAGE-INTEGRITY was right (S-M1, S-M2). Keys are used in one generation
 * of one session, each by one context; a key that comes twice is refused (S-M6). A WebRTC peer's keys come from a handshake elsewhere: until then its media
 * is held. On the packet path nothing is allocated, locked or logged.
 * Not here: sockets and threads (relay_worker.h), JSON (relay_control.h), who may watch (live/).  Threads: one at a time.  Memory: fixed when a session or viewer opens.
 *     e = relay_apply(relay, now, &cmd, &sink);
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
    RELAY_FINGERPRINT = 32,   /**< SHA-256 of a certificate */
    RELAY_FINGERPRINTS = 3,   /**< that a peer may name */
    RELAY_MID_TEXT = 33,      /**< with NUL; as long as an offer may have it */
    RELAY_RING_BYTES = 4 << 20
};

/* V-G4: how busy the thread that owns the relay may be, in thousandths, before it takes nobody new: at so much the added delay is still that of an idle one (V-B1). */
enum { RELAY_BUSY_FULL = 700 };
#define RELAY_SOURCE_BPS UINT64_C(100000000)

struct relay;
struct relay_conf {
    unsigned max_sessions;
    unsigned busy_full;  /**< thousandths; 0: RELAY_BUSY_FULL */
    uint64_t source_bps; /**< bits a second of one source, over a quarter of a second; what is more is dropped and said once. 0: RELAY_SOURCE_BPS */
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
    bool latch;    /**< a WebRTC source whose SSRC nobody was told: the first of this payload type that proves itself */
};
struct relay_webrtc { /* what an offer and its answer agreed on; keys come from a DTLS handshake */
    bool on;                              /**< false: suite and keys are in the leg, and nothing of this counts */
    bool active;                          /**< the ClientHello is ours */
    uint8_t fingerprints[RELAY_FINGERPRINTS][RELAY_FINGERPRINT]; /**< of the peer's certificate, one of these; all zero: none */
    enum pl_srtp_suite suites[2];         /**< what we take, first choice first */
    unsigned suites_n;
    uint8_t ext_transport_cc, ext_abs_send_time, ext_audio_level, ext_mid; /**< RFC 8285 ids, 1..14; 0: not agreed */
    struct relay_track_conf rtx;          /**< of the video, RFC 4588 */
    bool nack, pli, fir, remb;            /**< feedback that was agreed */
    bool has_talk;                        /**< the peer may speak */
    struct relay_track_conf talk;         /**< has_talk; SSRC 0: the first that proves itself */
    char talk_mid[RELAY_MID_TEXT];
};
struct relay_leg { /* one peer, as the relay sees it */
    struct ice_cred ice;                  /**< ufrag and pwd are the relay's */
    struct relay_webrtc webrtc;
    enum pl_srtp_suite suite;
    uint8_t receive_key[PL_SRTP_KEY_MAX]; /**< peer to relay: master key || salt */
    uint8_t send_key[PL_SRTP_KEY_MAX];    /**< relay to peer */
    struct relay_track_conf video, audio;
    struct relay_track_conf talk;         /**< source only: the SSRC that the relay itself speaks with */
    bool plain;                           /**< source only: no ICE; found by SSRC, accepted by its tag, view-only */
    bool pending;                         /**< source only: not known yet, a second OPEN of this generation brings it within 35 s; nothing else of the leg counts */
    bool no_key_frames;                   /**< source only: it cannot make one when asked, so it is not asked */
    int64_t gop_us;                       /**< source only: between two of them; 0: not known */
};
struct relay_ref {
    struct pl_uuid live_id;
    int64_t generation;
};
enum relay_cmd_kind { RELAY_OPEN, RELAY_VIEWER_ADD, RELAY_VIEWER_REMOVE, RELAY_VIEWER_RESTART, RELAY_RESTART, RELAY_EXTEND, RELAY_CLOSE, RELAY_SYNC, RELAY_CONTROL_UP, RELAY_CONTROL_DOWN };
struct relay_cmd {
    enum relay_cmd_kind kind;
    char request[RELAY_ID_TEXT];   /**< comes back in the answer; empty: none is wanted */
    struct relay_ref ref;          /**< the session; VIEWER_REMOVE does not look at the generation */
    int64_t expires_in_us;         /**< OPEN, EXTEND: from now */
    char viewer_id[RELAY_ID_TEXT]; /**< VIEWER_ADD, VIEWER_REMOVE, VIEWER_RESTART */
    struct relay_leg leg;          /**< OPEN, VIEWER_ADD; RESTART (of the source) and VIEWER_RESTART: `ice` of it, which takes the old one's place when a check proves it; all else stays */
    const char *code;              /**< CLOSE: end code, a literal; NULL: "closed" */
    struct relay_ref *keep;        /**< SYNC: what stays; the caller's */
    size_t keep_n;
};
struct relay_sink;
/* Carries one command out; the sink hears of DTLS associations only. Repeating a command that took effect is PL_OK.
 * OPEN, VIEWER_ADD: PL_NODE_FULL when there are as many as may be, or when this thread is as busy as it may be (relay_load): who is there stays and is served on.
 * OPEN: PL_FENCED (a newer generation runs), PL_LIVE_ENDED (this generation has ended here), PL_VERSION_CONFLICT (it has another source),
 * PL_INVALID_REQUEST (a key or ufrag that was used before, SSRCs that are not distinct), PL_NO_MEMORY, PL_OVERLOADED (the sink takes no further association).
 * VIEWER_ADD: PL_NOT_FOUND, PL_FENCED, PL_VIEWERS_FULL and these. VIEWER_RESTART, RESTART: PL_NOT_FOUND, PL_FENCED, PL_INVALID_REQUEST. */
PL_MUST enum pl_err relay_apply(struct relay *r, struct pl_mono now, const struct relay_cmd *cmd, struct relay_sink *sink);

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
/* The other side of DTLS: handshakes happen elsewhere (another thread, with queues in between), here is only what goes there and what comes back.
 * An association is one handshake of one peer; its id is never 0 and never used again. */
enum relay_dtls_out_kind {
    RELAY_DTLS_START, /**< make what it needs; a ClientHello of ours may come back at once: it waits here for the path */
    RELAY_DTLS_PATH,  /**< what is sent leaves from now on: time for answers starts here (again, when the path moves before KEYS) */
    RELAY_DTLS_DATA,  /**< a datagram of the peer; may come before PATH */
    RELAY_DTLS_END    /**< forget it: the peer is gone, or its first SRTP has verified, or 5 s after FINISHED */
};
struct relay_dtls_out {
    enum relay_dtls_out_kind kind;
    uint64_t assoc;
    const struct relay_webrtc *webrtc; /**< START: role, fingerprints, suites. Good only during the call */
    const uint8_t *p;                  /**< DATA; good only during the call */
    size_t n;
};
struct relay_sink {
    void (*send)(struct relay_sink *self, const struct relay_run *run);
    /* Within a step: what came has been verified, now it goes to viewers. NULL: nobody measures that. */
    void (*verified)(struct relay_sink *self);
    /* False: no room. A START that is not taken refuses its command; DATA that is not taken is lost as any datagram may be; an END is always taken. NULL: WebRTC peers are
     * refused with PL_UNAVAILABLE. */
    bool (*dtls)(struct relay_sink *self, const struct relay_dtls_out *out);
};
enum relay_dtls_in_kind {
    RELAY_DTLS_SEND,     /**< a datagram for the peer: leaves at once, or with the answer to the check that nominates its path */
    RELAY_DTLS_KEYS,     /**< the peer's flight has verified, its fingerprint is the right one, ours is on its way: media may be sent */
    RELAY_DTLS_FINISHED, /**< the peer's Finished has verified: SRTP from it is believed from now on. After KEYS */
    RELAY_DTLS_FAILED    /**< the peer's viewer or session ends with `code` */
};
struct relay_dtls_in {
    enum relay_dtls_in_kind kind;
    uint64_t assoc;
    const uint8_t *p; /**< SEND */
    size_t n;
    enum pl_srtp_suite suite;                                              /**< KEYS */
    uint8_t receive_key[PL_SRTP_KEY_MAX], send_key[PL_SRTP_KEY_MAX];       /**< KEYS: master key || salt, peer to relay and relay to peer; the caller wipes */
    bool peer_finished;                                                    /**< KEYS: FINISHED at the same time */
    const char *code;                                                      /**< FAILED: a literal */
};
/* What became of an association. One that is gone is ignored. */
void relay_dtls(struct relay *r, struct pl_mono now, const struct relay_dtls_in *in, struct relay_sink *sink);
/* Takes a batch of datagrams; hands runs to the sink before it returns. */
void relay_step(struct relay *r, struct pl_mono now, struct relay_in *in, size_t n, struct relay_sink *sink);
enum { RELAY_PACE_US = 5000, RELAY_TICK_US = 50000 };
/* The pacer's wake-up: viewers that had more to send than they may in 5 ms. */
void relay_pace(struct relay *r, struct pl_mono now, struct relay_sink *sink);
/* Time alone: expiry, silence, key-frame requests, reports. */
void relay_tick(struct relay *r, struct pl_mono now, struct relay_sink *sink);
/* How busy this thread was since the last call, in thousandths, measured by its owner about once a second. Those that were let in since then count with what one
 * costs on average, so that a herd finds the door closed before it is measured. */
void relay_load(struct relay *r, unsigned busy);
/* What is wanted next, and how often: RELAY_PACE_US relay_pace, RELAY_TICK_US only relay_tick; -1: nothing waits. */
int64_t relay_due(const struct relay *r);

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
enum { RELAY_WAITS = 6 };
extern const int64_t relay_wait_us[RELAY_WAITS - 1]; /* 100, 5000, 10000, 20000, 50000: upper ends of `paced`; the last one has none */
struct relay_stats {
    uint64_t packets_in, packets_out; /**< media packets: verified, encrypted */
    uint64_t bytes_in, bytes_out;
    uint64_t checks;                  /**< proved and answered */
    uint64_t unproved;                /**< STUN, SRTP or SRTCP that failed its proof */
    uint64_t replayed;
    uint64_t resent;                  /**< media packets that went out again because a viewer asked */
    uint64_t talk_in;                 /**< proved sound of viewers; not passed on */
    uint64_t unknown;                 /**< of nobody, or of no kind that is known here */
    uint64_t too_large;
    uint64_t too_fast;                /**< source packets over source_bps */
    uint64_t refused_full;            /**< commands that found the node full */
    unsigned busy;                    /**< thousandths, as relay_load said last */
    uint64_t lost;                    /**< source packets that never came, as far as numbers tell */
    uint64_t not_sent;                /**< encrypting failed, or the viewer fell out of the ring */
    uint64_t paced[RELAY_WAITS];      /**< V-B1: media packets by how long a viewer's pacer held them back, without what was replayed */
    uint64_t freezes_in, freezes_out; /**< of sources; of viewers (relay_freezes) */
    uint64_t events_dropped;          /**< must stay 0 */
    unsigned sessions, viewers;
};
void relay_stats(const struct relay *r, struct relay_stats *ret);
/* One session's figures, as a person asks for them when the picture stutters.
 * A freeze is WebRTC's, seen from here: between two whole pictures more than three times the usual time has passed, and 150 ms more than it. Those that came are the
 * source's; for a viewer they are those that went out whole, and while it waits for a key frame that it has asked for there are none. */
struct relay_freezes {
    uint64_t count;
    uint64_t us;              /**< altogether */
};
struct relay_viewer_stats {
    char id[RELAY_ID_TEXT];
    uint64_t packets, bytes;  /**< media that went out, without what was sent again */
    uint64_t bitrate;         /**< bits a second since the last call */
    uint64_t asked, resent;   /**< packets that it asked for again (of its NACKs 1,024 numbers in 100 ms are looked at), and those that it got */
    uint64_t key_asked;       /**< key frames that it asked for */
    uint64_t remb_bps;        /**< what it believes its way carries; 0: it does not say */
    uint64_t cc_bitrate;      /**< transport-wide feedback: bits a second that came since the last call, */
    uint64_t cc_lost;         /**< packets that did not, resends among them, */
    int64_t queue_us;         /**< and how long what came stood in queues on its way, lately; all 0: it sends none */
    int64_t lost;             /**< video (sound, if that is all), by its own reports: packets, */
    uint8_t fraction_lost;    /**< 256ths of the last interval, */
    int64_t jitter_us, rtt_us; /**< 0: not known */
    struct relay_freezes freezes;
    bool paused;              /**< not heard of for 5 s */
};
struct relay_session_stats {
    struct relay_ref ref;
    uint64_t packets, lost, bitrate; /**< of the source's video: came; never came; bits a second, all tracks */
    int64_t jitter_us, rtt_us; /**< 0: not known */
    struct relay_freezes freezes;
    unsigned viewers_n;
    struct relay_viewer_stats viewers[RELAY_VIEWERS];
};
/* Of the session in this slot, below max_sessions. False: there is none, or nobody watches it. */
bool relay_session_stats(struct relay *r, struct pl_mono now, unsigned slot, struct relay_session_stats *ret);
/* The sessions that run, at most cap. */
size_t relay_running(const struct relay *r, struct relay_ref *ret, size_t cap);
