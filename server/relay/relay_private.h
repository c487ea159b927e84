/* relay_private.h - the structures behind relay.h; only relay*.c and relay_end.c, relay_source.c, relay_step.c, relay_viewer.c include it. */
#pragma once
#include "h264.h"
#include "relay.h"
#include "relay_ring.h"
#include "rtcp.h"

#define RELAY_PAUSE (5 * PL_SECOND)          /* V-F4: a silent viewer is sent nothing more */
#define RELAY_GONE (10 * PL_SECOND)          /* and freed; a silent source ends its session */
#define RELAY_PENDING (35 * PL_SECOND)       /* until a source that is to come is there: the cloud lets its hub make its offer within 30 s */
#define RELAY_PLAIN_START PL_MINUTE          /* until a plain source is there: a person types its command */
#define RELAY_CONTROL_LOST (10 * PL_MINUTE)  /* S-M7 */
#define RELAY_KEY_EVERY (2 * PL_SECOND)      /* V-A5 */
#define RELAY_KEY_ANSWER (500 * PL_MS)
#define RELAY_NO_KEY (10 * PL_SECOND)
#define RELAY_ICE_GONE (30 * PL_SECOND)      /* a WebRTC peer's ICE and keys go */
#define RELAY_ASSOC_LEFT (5 * PL_SECOND)     /* after FINISHED an association lives on for a peer that asks for our last flight again */
#define RELAY_EARLY (100 * PL_MS)            /* V-F4: viewers are looked at tick by tick, and the server is still to hear of it: begun so much before, it is over in time */
#define RELAY_AWAY PL_SECOND                 /* between two ticks: this process stood still, and heard nobody meanwhile; */
#define RELAY_GRACE (2500 * PL_MS)           /* so long it listens before it calls anybody silent */
#define RELAY_PACE ((int64_t)RELAY_PACE_US)
#define RELAY_RATE_EVERY (250 * PL_MS)       /* how often the source's rate is measured */
#define RELAY_RESEND_AGAIN (20 * PL_MS)      /* the same packet is not sent again sooner */
#define RELAY_START_LOST (100 * PL_MS)       /* a viewer that has no picture so long after its key frame began may have lost its first packets */
#define RELAY_REPORT_EVERY PL_SECOND         /* receiver reports to the source; sender reports to viewers at least */
#define RELAY_MAP_EVERY (5 * PL_SECOND)      /* a clock that runs 200 ppm wrong is a millisecond off by then */
#define RELAY_CC_LEAST (10 * PL_SECOND)
#define RELAY_ASKS_EVERY (100 * PL_MS)
#define RELAY_MAP_LOST PL_SECOND             /* timestamps or reports that are so far from what came before begin anew */
enum {
    RELAY_PACE_LEAST = 1000000, /* V-E4: bytes a second that a viewer is sent at least, */
    RELAY_BURST = 24 * 1200,   /* and what may go at once after a pause: less than the shortest queue on the way holds (32 packets) */
    RELAY_COST = 1000,         /* queues count packets: a small one counts as so many bytes */
    RELAY_NEAR = 16 * 1200,    /* a viewer that is so few bytes behind plays on instead of jumping */
    RELAY_SHIFTS = 8,
    RELAY_REPORT_TICKS = 16,   /* reports that fall due together are spread over so many ticks, which are less than a second */
    RELAY_CC_SENT = 1024,      /* packets that are remembered for transport-wide feedback, which comes every 100 ms or so */
    RELAY_COST_LEAST = 2,      /* thousandths of a thread that one more source or viewer is taken to cost at least */
    RELAY_RESENT = 64,         /* resends that are remembered */
    RELAY_RESEND_BURST = 64 * 1200,
    RELAY_ASKS = 1024,         /* V-E1: numbers of a viewer's NACKs that are looked for in RELAY_ASKS_EVERY, all its compounds together: a browser's list holds 1,000 */
    RELAY_REPLAY_MOST = 1024,  /* more than this behind the cached key frame: the picture alone, then the fresh one */
    RELAY_KEYS = 1024,         /* legs that one session may ever have */
    RELAY_ENDED = 1024,        /* ended generations that are remembered */
    RELAY_PIECES = 8,
    RELAY_REORDER = 8,
    RELAY_NUMBERS_MOST = 0x7000, /* numbers that a peer may be passed over at once: of more it cannot tell by 16 bits which way they went */
    RELAY_PARAM_MAX = 256,
    RELAY_BUCKETS = 4096,
    RELAY_FLIGHT = 3,          /* datagrams of a DTLS flight */
    RELAY_HELD = 24,           /* datagrams of a publisher between its Finished and the moment at which that is read */
    RELAY_EARLIES = 4,         /* addresses from which an end without a path may speak DTLS: the latest that were proved */
    RELAY_ENDS = 1 + RELAY_VIEWERS,
    RELAY_OUT_BYTES = 65000,   /* one UDP_SEGMENT send: less than 64 KiB and at most 64 segments */
    RELAY_OUT_SEGMENTS = 64
};
enum { RELAY_VIDEO, RELAY_AUDIO, RELAY_TRACKS };
#define RELAY_NACK_AGAIN (100 * PL_MS)       /* V-E1: a packet that was asked for and has not come is asked for again */
enum { RELAY_MISSING = 64, /* a track's packets that are asked for at a time; a longer gap waits for a key frame */ RELAY_NACK_TRIES = 5 };

struct relay_session;
struct relay_viewer;

struct relay_early { /* where a WebRTC peer was proved that has not decided for a path: its DTLS may come from there, nothing goes there */
    struct relay_early *next;
    struct relay_assoc *assoc;
    struct ice_addr addr;        /**< family 0: not in the table */
};
struct relay_flight { /* datagrams that wait for a path */
    uint16_t n[RELAY_FLIGHT];    /**< 0: none */
    uint8_t p[RELAY_FLIGHT][RELAY_PACKET_MAX];
};
struct relay_assoc { /* of a WebRTC peer */
    uint64_t id;                 /**< 0: it has ended */
    struct relay_webrtc conf;
    bool finished;
    struct pl_mono finished_at;
    struct relay_flight *held;   /**< until it has a path (V-G3) */
    struct relay_early early[RELAY_EARLIES];
    unsigned early_next;
    struct relay_held *media;    /**< of a source, until its Finished; NULL: there is none to hold */
};
struct relay_held { /* V-A2: a publisher's media that came before its Finished was read */
    unsigned n;
    uint16_t bytes[RELAY_HELD];
    uint8_t p[RELAY_HELD][RELAY_PACKET_MAX];
};
struct relay_name { /* under which a peer's checks come */
    struct relay_name *next;
    struct relay_end *end;
    struct ice_cred cred;        /**< no ufrag: it is not in the table */
};
struct relay_end { /* a peer: a session's source or one of its viewers */
    struct relay_end *next_addr;
    struct relay_session *session;
    struct relay_viewer *viewer; /**< NULL: the source */
    struct relay_assoc *assoc;   /**< NULL: its keys came with the command */
    struct relay_name names[2];  /**< ICE: the one that counts, and after a restart the next one, until a check proves it */
    unsigned name;               /**< which one counts */
    struct ice_seen seen;        /**< under either */
    struct ice_addr addr;        /**< its path; family 0: it has none yet */
    struct pl_srtp *in, *out;    /**< NULL: no keys yet */
    struct pl_mono life;         /**< last proved packet; of a pending source: since when it is waited for */
    bool nominated;              /**< it has a path */
    bool connected;              /**< a path and keys */
};

struct relay_missing { /* a number that was passed over */
    uint64_t seq;
    struct pl_mono asked_at;
    unsigned tries; /**< requests so far */
};
struct relay_flow { /* of whole pictures */
    struct pl_mono at;         /**< the last one */
    int64_t usual_us;          /**< between two, about; 0: not known yet */
    struct relay_freezes freezes;
};
struct relay_arrival { /* when a timestamp came */
    uint32_t timestamp;
    struct pl_mono at;
};
struct relay_track { /* of the source */
    struct relay_track_conf conf;
    struct rtp_seq seq;
    bool has_sr;
    uint64_t sr_ntp;
    uint32_t sr_timestamp;
    struct pl_mono sr_at;      /**< when it came */
    bool arrived;
    struct relay_arrival soonest, soonest_before; /**< the packet that was the least on its way, of this RELAY_MAP_EVERY and of the one before */
    struct pl_mono map_at;     /**< when this one began */
    struct rtp_stats stats;
    struct relay_missing missing[RELAY_MISSING]; /**< in rising order */
    unsigned missing_n;
};

struct relay_au { /* an access unit of the source's video, as it comes in */
    bool started, key, told;   /**< told: those who wait for a key frame have started at it */
    uint32_t timestamp;
    struct pl_mono began_at;
    uint64_t frame;            /**< how many came before it */
    uint64_t low, high, count; /**< sequence numbers: least, greatest; packets */
    uint64_t before;           /**< greatest number before it, 0: not known */
    uint64_t sps, idr;         /**< least number with an SPS, with a part of an IDR slice; UINT64_MAX: none */
    bool marked, counted;      /**< its end has come; it was whole */
    uint64_t mark;             /**< number of the packet with the marker */
    uint64_t first_at, last_at; /**< ring indices */
};

struct relay_key { /* where a viewer may start */
    bool valid;
    uint32_t timestamp;
    uint64_t frame;
    uint64_t from, until;      /**< numbers [from, until) are the key frame */
    uint64_t first_at, last_at;
};

struct relay_shift { /* numbers of the source from `from` on are `by` greater here: so many packets of our own are in between */
    uint64_t from, by;
};
struct relay_piece { /* numbers [from, until) go out as base + (number - from) */
    uint64_t from, until, base;
    /* V-A4: what is older than `squeeze_to` is replayed: its time before that counts num/den only, so that its frames are 10 ms apart and it ends at the live time.
     * A function of the timestamp alone: a packet that is sent again is the same. den 0: nothing is. */
    uint32_t squeeze_to, squeeze_num, squeeze_den;
};
struct relay_heard { /* what a peer's reports say of a stream */
    uint8_t fraction_lost;      /**< 256ths */
    int32_t lost;
    uint32_t jitter;            /**< timestamp units */
    int64_t rtt_us;             /**< 0: not known yet */
};
struct relay_resend {
    uint32_t ssrc;              /**< RFC 4588; 0: the packet itself again, byte for byte */
    uint8_t payload_type;
    uint64_t next;              /**< number of the next RTX packet */
    int64_t credit;             /**< bytes */
    struct pl_mono filled;
    struct {
        uint64_t number;
        struct pl_mono at;
    } last[RELAY_RESENT];       /**< the latest resends */
    unsigned last_n;
    struct pl_mono asks_at;     /**< when this RELAY_ASKS_EVERY began */
    unsigned asks;              /**< numbers that were looked for in it */
    uint64_t asked, sent, refused; /**< packets */
};
struct relay_out {
    struct relay_track_conf conf;
    struct relay_piece pieces[RELAY_PIECES];
    unsigned pieces_n;          /**< ever made; the newest is at (pieces_n - 1) % RELAY_PIECES */
    bool open;                  /**< the newest piece takes new numbers */
    uint64_t next;              /**< out number that was never used */
    uint64_t sent_high;         /**< greatest source number that went out in the newest piece + 1 */
    uint32_t ts_offset;         /**< one for the viewer's whole life */
    uint64_t packets, bytes;
    bool sr_sent;
    struct pl_mono sr_at;
    struct relay_heard heard;
};

struct relay_cc_sent { /* a packet under its transport-wide number */
    uint32_t at;                /**< microseconds, lower bits */
    uint16_t number;
    uint16_t n : 15;            /**< bytes; 0: it was told of */
    uint16_t missing : 1;       /**< it was told lost */
};
_Static_assert(sizeof(struct relay_cc_sent) == 8 && RELAY_PACKET_MAX < 1 << 15, "V-G3: each viewer has RELAY_CC_SENT of them");
struct relay_cc {
    struct relay_cc_sent sent[RELAY_CC_SENT];
    bool any;
    int64_t least, least_before; /**< microseconds from our clock to the peer's, on the quickest way */
    struct pl_mono least_at;
    int64_t queue_us;           /**< longer than that, smoothed */
    uint64_t came, lost, bytes; /**< by its own words */
    struct pl_mono since;       /**< of these ten milliseconds */
    unsigned left;              /**< numbers that are looked at yet in them */
};

struct relay_viewer {
    struct relay_end end;
    struct relay_viewer *next_behind;
    uint64_t at[RELAY_TRACKS];  /**< ring index to look at next */
    int64_t credit;             /**< bytes that may go out now; below 0: sound and resends went beyond it */
    struct pl_mono paced;       /**< when it was filled up last */
    bool paused, media_said, key_said;
    bool behind;                /**< in the list of those that have more to send than credit */
    bool wait_key;              /**< video starts at the next key frame */
    bool catching;              /**< behind, on its way from the cached key frame to the ring's head */
    bool in_frame;              /**< a frame went out in part: its marker is still to come */
    bool jump;                  /**< when that is out, it goes on at `jump_to` */
    struct relay_key jump_to;
    bool broken;                /**< it has asked for a key frame since the last one began: it shows nothing new */
    struct relay_flow flow;
    uint64_t gaps;              /**< numbers that were passed over since the last marker: its picture is not whole */
    uint8_t ext;                /**< id of the header extension on each of its packets, 0: none */
    bool ext_time;              /**< it is abs-send-time, else the transport-wide number */
    uint16_t transport_seq;
    struct relay_cc *cc;        /**< NULL: no transport-wide numbers */
    uint32_t key_timestamp;     /**< source timestamp of the key frame that it started at */
    uint64_t key_from, key_until; /**< its numbers */
    struct pl_mono key_at, key_again_at; /**< when it was started at, us 0: a newer one has begun; when it came again last */
    struct relay_out out[RELAY_TRACKS];
    struct relay_resend resend;
    uint64_t key_asked, remb_bps;
    uint64_t told_bytes, told_came; /**< when its figures were asked for last, */
    struct pl_mono told_at;
    unsigned slot;
    char id[RELAY_ID_TEXT];
};

struct relay_session {
    struct relay_session *next_id, *next_dirty, *next_plain;
    unsigned slot;
    struct relay_ref ref;
    struct pl_mono expires_at, media_at;
    struct relay_end source;
    int64_t key_patience;       /**< from the first media on: then no_key_frame is said */
    bool plain, pending, kept, no_key_frames, dirty, media_said, key_said, no_key_said, large_said, fast_said;
    int64_t room;               /**< bytes that the source may still send now (source_bps) */
    struct pl_mono room_at;
    struct relay_track tracks[RELAY_TRACKS];
    uint32_t talk_ssrc;
    bool ntp_known;
    uint64_t ntp_shift;         /**< from the source's NTP time to ours */
    struct relay_flow flow;
    struct relay_ring ring;
    struct relay_au au, au_before;
    struct relay_key key;       /**< the last whole key frame */
    uint64_t frames;            /**< access units of the video so far */
    struct relay_shift shifts[RELAY_SHIFTS];
    unsigned shifts_n;          /**< ever made */
    uint64_t high;              /**< greatest number that a packet of the video has got; 0: none */
    uint32_t step, step_before; /**< are added to the video's timestamps: from the source's number `step_from` on, and before it */
    uint64_t step_from;
    uint64_t rate;              /**< bytes a second of the source */
    uint64_t rate_bytes;        /**< since rate_at */
    struct pl_mono rate_at, reported_at;
    int64_t rtt_us;             /**< to the source and back; 0: not known */
    uint8_t params[RELAY_TRACKS][RELAY_PARAM_MAX]; /**< SPS, PPS */
    size_t params_n[RELAY_TRACKS];
    bool want_key, asked;       /**< asked: no key frame has begun since */
    unsigned ways;              /**< in which it was asked for (V-A5), the last one at `way_at` */
    struct pl_mono way_at;
    uint8_t fir_seq;
    struct pl_mono asked_at;
    bool ever_asked;
    struct relay_viewer *viewers[RELAY_VIEWERS];
    uint64_t keys[RELAY_KEYS * 2]; /**< digests of the keys that this session has ever had: two a leg */
    unsigned keys_n;
};

struct relay {
    struct relay_conf conf;
    struct stun_mac *mac;
    uint64_t hash_seed;
    struct relay_name *by_ufrag[RELAY_BUCKETS];
    struct relay_end *by_addr[RELAY_BUCKETS];
    struct relay_early *by_early[RELAY_BUCKETS];
    struct relay_session *by_id[RELAY_BUCKETS];
    struct relay_session *plain; /**< the few that are found by SSRC */
    struct relay_session **sessions; /**< conf.max_sessions slots */
    struct relay_session *dirty;
    struct relay_viewer *behind; /**< these want a wake-up in 5 ms */
    struct pl_mono ticked, judge_at; /* silence is judged from then on */
    bool control_down;
    struct pl_mono control_since;
    unsigned let_in;             /* sources and viewers since the load was measured */
    struct relay_ref ended[RELAY_ENDED];
    unsigned ended_n;
    struct relay_event *events;  /**< ring of events_cap */
    size_t events_cap, events_first, events_n;
    uint64_t assocs;             /**< ever made */
    struct relay_stats stats;
    struct relay_sink *sink;     /**< during a step or tick */
    size_t out_n, out_segment, out_segments;
    const struct ice_addr *out_to;
    uint8_t out[RELAY_OUT_BYTES + RELAY_PACKET_MAX + 64];
};

/* relay.c */
void relay_event_add(struct relay *r, struct pl_mono now, enum relay_event_kind kind, const struct relay_session *s, const struct relay_viewer *v, const char *code);
struct relay_name *relay_find_ufrag(const struct relay *r, struct pl_str ufrag);
void relay_name_add(struct relay *r, struct relay_end *end, unsigned which, const struct ice_cred *cred);
void relay_name_drop(struct relay *r, struct relay_name *name); /* wipes; one that is not there is none */
void relay_unbind(struct relay *r, struct relay_end *end);
struct relay_end *relay_first_at(const struct relay *r, const struct ice_addr *addr); /* then ->next_addr; others share the bucket */
void relay_bind(struct relay *r, struct relay_end *end, const struct ice_addr *addr);
void relay_early_add(struct relay *r, struct relay_end *end, const struct ice_addr *addr); /* of an end with an association */
void relay_early_done(struct relay *r, struct relay_assoc *a);
const struct relay_early *relay_early_at(const struct relay *r, const struct ice_addr *addr); /* then ->next; others share the bucket */
struct relay_session *relay_find_plain(const struct relay *r, uint32_t ssrc);

void relay_viewer_free(struct relay *r, struct relay_viewer *v);
void relay_session_end(struct relay *r, struct relay_session *s, struct pl_mono now, const char *code);

/* relay_end.c */
enum pl_err relay_end_init(struct relay *r, struct relay_end *end, const struct relay_leg *leg, struct pl_mono now); /* session, viewer and SSRCs are set */
void relay_end_done(struct relay *r, struct relay_end *end);
enum pl_err relay_end_restart(struct relay *r, struct relay_end *end, const struct ice_cred *cred);
void relay_end_proved(struct relay *r, struct relay_name *name);          /* a check under this name was right */
void relay_end_nominated(struct relay *r, struct relay_end *end, const struct ice_addr *addr); /* its path is this one */
void relay_end_heard(struct relay *r, struct relay_end *end);            /* SRTP of it has verified */
void relay_end_tick(struct relay *r, struct relay_end *end, struct pl_mono now);
bool relay_end_dtls(struct relay *r, const struct relay_in *in);          /* false: of nobody */

/* relay_source.c: after the tag was checked */
void relay_source_unused(struct relay *r, struct relay_session *s, struct pl_mono now, unsigned track, const struct rtp_header *h); /* it came, and is not passed on: its number counts */
void relay_source_media(struct relay *r, struct relay_session *s, struct pl_mono now, unsigned track, struct rtp_packet *pkt);
void relay_source_rtcp(struct relay *r, struct relay_session *s, struct pl_mono now, const uint8_t *p, size_t n);
bool relay_source_key_now(const struct relay_session *s, struct relay_key *ret); /* a key frame is coming in at this moment */
void relay_want_key(struct relay_session *s);
void relay_ask_again(struct relay *r, struct relay_session *s, struct pl_mono now); /* NACKs what is missing and due */
unsigned relay_report(struct relay *r, struct relay_session *s, struct pl_mono now); /* receiver report to the source, if it is due; returns how many left */
void relay_governor(struct relay *r, struct relay_session *s, struct pl_mono now);

/* relay_viewer.c */
void relay_viewer_join(struct relay_viewer *v, struct pl_mono now);
void relay_viewer_key(struct relay_viewer *v, struct pl_mono now, const struct relay_key *k); /* a key frame has begun */
void relay_viewer_wake(struct relay *r, struct relay_viewer *v, struct pl_mono now); /* 5 ms are over; it is in no list */
void relay_viewer_pump(struct relay *r, struct relay_viewer *v, struct pl_mono now);
const struct relay_piece *relay_piece_of(const struct relay_out *o, uint64_t seq); /* NULL: it never went out and never will */
/* What stands before the payload of the packet as it goes to the viewer; returns its bytes. `rtx`: wrapped as RFC 4588 says. */
size_t relay_viewer_head(struct relay_viewer *v, struct pl_mono now, const struct relay_entry *e, const struct relay_piece *piece, bool rtx, uint8_t *p);

/* relay_feedback.c */
uint64_t relay_ntp(struct pl_mono t); /* our own time as reports say it, 32.32 seconds */
uint32_t relay_clock_of(const struct relay_session *s, unsigned track); /* timestamp units a second */
bool relay_flow_picture(struct relay_flow *f, struct pl_mono now); /* one is whole. True: that ends a freeze */
/* What a source's timestamps mean in our own time, for those who are told by sender reports (V-A4). */
void relay_map_arrived(struct relay_track *t, struct pl_mono now, uint32_t timestamp, uint32_t clock);
void relay_map_reported(struct relay_session *s, struct pl_mono now, unsigned track, uint64_t ntp, uint32_t timestamp);
void relay_viewer_rtcp(struct relay *r, struct relay_viewer *v, struct pl_mono now, const uint8_t *p, size_t n);
void relay_viewer_sr(struct relay *r, struct relay_viewer *v, struct pl_mono now, unsigned track);
unsigned relay_viewer_report(struct relay *r, struct relay_viewer *v, struct pl_mono now); /* sender reports that are due; returns how many left */
void relay_viewer_pause(struct relay_viewer *v);

/* relay_cc.c */
void relay_cc_sent(struct relay_cc *c, struct pl_mono now, uint16_t number, size_t n);
void relay_cc_heard(struct relay_cc *c, struct pl_mono now, const struct rtcp_item *it);

/* relay_step.c */
void relay_step_held(struct relay *r, struct relay_assoc *a, const struct ice_addr *from, struct pl_mono now); /* what was held is looked at now, if there is any */
void relay_connected(struct relay *r, struct relay_end *end, struct pl_mono now); /* once there are a path and keys; more often does nothing */
void relay_out_one(struct relay *r, const struct ice_addr *to, const uint8_t *p, size_t n); /* a datagram alone */
uint8_t *relay_out_room(struct relay *r, const struct ice_addr *to, size_t most);           /* where the next packet of the run to `to` goes */
void relay_out_took(struct relay *r, size_t n);
void relay_out_flush(struct relay *r);
