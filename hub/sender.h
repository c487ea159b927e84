/* sender.h - the hub's half of one live session, without a socket, a thread or a clock: checks, RTP, SRTP, RTCP, and when to stop.
 *
 * The way is proved by an ICE check before the first media packet leaves. The session ends at its hard end, or when the relay has given no authenticated
 * answer or RTCP for five seconds; never because the cloud's own connection is away. Keys serve one generation: a sender is made once and never reused.
 * What the relay misses (NACK) is sent again byte for byte, for a second.
 * Not here: the socket and the threads (stream.h), encoding (camera.h). Threads: one at a time.  Memory: owned; keys are wiped in sender_free.
 *     e = sender_new(&conf, now, &sender);
 *     events = sender_tick(sender, now, utc);                        checks, reports, deadlines: call it again at sender_due
 *     events = sender_packet(sender, now, bytes, n);                 what the socket brought
 *     sender_frame(sender, now, utc, &frame);                        what the camera made
 */
#pragma once
#include "coder.h"
#include "ice_check.h"
#include "srtp.h"

struct sender_track {
    uint32_t ssrc;
    uint8_t payload_type;
};
struct sender_conf {
    enum pl_srtp_suite suite;
    struct pl_str send_key, receive_key; /**< master key || salt of hub to relay, and of relay to hub; copied */
    struct ice_cred ice;
    struct sender_track video, audio;
    size_t mtu;          /**< bytes of a UDP payload, at most SENDER_MTU_MAX */
    int64_t hard_end_us; /**< after the start; the session is over then, whatever happens */
    bool no_resend;      /**< what is asked for again is lost: an uplink test */
    struct pl_rand *rand;
    void *self;
    void (*send)(void *self, const uint8_t *p, size_t n); /**< one datagram to the relay; a failure is a lost packet */
};
enum { SENDER_MTU_MIN = 576, SENDER_MTU_MAX = 1400 };
#define SENDER_SILENCE (5 * PL_SECOND)

/* What the owner must do now; bits. */
enum {
    SENDER_CONNECTED = 1,  /**< the first check was answered: let the camera go. Said once */
    SENDER_KEY_WANTED = 2, /**< make a key frame */
    SENDER_ENDED = 4       /**< it is over: sender_why */
};

/* What the relay said of the pictures at one time. */
struct sender_heard {
    struct pl_mono at;    /**< .us 0: nothing yet */
    uint32_t highest_seq; /**< extended */
    int32_t lost;
};
struct sender_stats {
    uint64_t packets, bytes, frames, key_frames; /**< of video and audio sent */
    uint64_t resent;                             /**< packets that were asked for again, and sent */
    unsigned key_asked;                          /**< PLI and FIR that were heeded */
    int32_t lost;                                /**< video packets that the relay misses, by its last report */
    int64_t rtt_us;                              /**< of the last check; -1: not known */
    struct sender_heard first, last;             /**< reports */
};
/* Bits a second of UDP payload that arrived between the first report and the last, and the share that did not. A queue on the way delays both reports alike, so it does not count
 * as bandwidth. False: there were not two. */
bool sender_measure(const struct sender_stats *st, int64_t *ret_bps, int64_t *ret_lost_percent);

struct sender;
/* Makes and drops what a session needs of the crypto libraries, which take tens of milliseconds to load: at the start, not when somebody waits for a picture. */
void sender_warm(struct pl_rand *rand);
/* PL_INVALID_REQUEST: a key, an SSRC or the mtu cannot be. The first check is due at once. */
PL_MUST enum pl_err sender_new(const struct sender_conf *conf, struct pl_mono now, struct sender **ret);
unsigned sender_tick(struct sender *s, struct pl_mono now, struct pl_utc utc);
unsigned sender_packet(struct sender *s, struct pl_mono now, const uint8_t *p, size_t n);
/* Ignored while the way is not proved, and after the end. */
void sender_frame(struct sender *s, struct pl_mono now, struct pl_utc utc, const struct camera_frame *f);
struct pl_mono sender_due(const struct sender *s);
/* After SENDER_ENDED: PL_EXPIRED (hard end) or PL_TOO_SLOW (the relay is silent). */
enum pl_err sender_why(const struct sender *s);
struct sender_stats sender_stats(const struct sender *s);
/* Says BYE when the way was proved, wipes, frees. Takes NULL; returns NULL. */
struct sender *sender_free(struct sender *s);
