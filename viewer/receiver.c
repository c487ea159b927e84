#include "receiver.h"
#include "ice_check.h"
#include "reorder.h"
#include "rtcp.h"
#include "secure.h"

#define REPORT_EVERY (2 * PL_SECOND)
#define ASK_AGAIN (500 * PL_MS) /* a key frame that was asked for and does not come */
#define CNAME PL_STR("viewer")
#define SILENT (250 * PL_MS)    /* nothing from the relay: the path is tried */
#define SILENT_AGAIN PL_SECOND
#define NACK_MARGIN (20 * PL_MS)
#define WAIT_LEAST (400 * PL_MS) /* what the hub's way lost comes after the relay has asked for it, however near the relay is */
#define WAIT_MOST (600 * PL_MS)
enum { ACCESS_UNIT_MAX = 1 << 20, PACKET_MAX = 2048, ASKED_MAX = 64 /* in one packet */ };

struct stream {
    uint32_t ssrc;
    uint8_t payload_type;
    uint32_t clock;
    struct rtp_seq seq;
    struct rtp_stats stats;
    struct reorder order;
    uint32_t last_sr;        /**< middle of the last sender report's time, 0: none */
    struct pl_mono sr_at;
    int64_t sr_us;           /**< its time, */
    uint32_t sr_timestamp;   /**< and what timestamp that is */
    bool timed;
    int64_t late_us;         /**< from the reports' time to ours, on the quickest way */
};
struct receiver {
    struct receiver_conf conf;
    struct ice_check *check;
    struct pl_srtp *in, *out;
    struct h264_unpack *unpack;
    uint32_t ssrc; /**< ours, in reports */
    bool wants_key;
    struct pl_mono asked_at, report_at, tried_at; /**< tried_at: the path, in silence */
    struct stream video, audio;
    struct receiver_stats stats;
    struct reorder_slot video_slots[REORDER_VIDEO], audio_slots[REORDER_AUDIO];
};

static void open_stream(struct stream *s, const struct session_track *t, struct reorder_slot *slots, unsigned slots_n)
{
    s->order.slots = slots;
    s->order.slots_n = slots_n;
    s->ssrc = (uint32_t)t->ssrc;
    s->payload_type = (uint8_t)t->payload_type;
    s->clock = (uint32_t)t->clock_rate;
}

static enum pl_err open_crypto(struct receiver *r, const struct session *s)
{
    size_t n = pl_srtp_key_bytes(s->suite);
    const struct pl_srtp_conf in = { .suite = s->suite, .receive = true, .key = s->receive_key, .key_n = n };
    const struct pl_srtp_conf out = { .suite = s->suite, .key = s->send_key, .key_n = n, .ssrcs = { r->ssrc }, .ssrcs_n = 1 };
    enum pl_err e = pl_srtp_new(&in, &r->in);
    return e == PL_OK ? pl_srtp_new(&out, &r->out) : e;
}

enum pl_err receiver_new(const struct receiver_conf *conf, struct pl_mono now, struct receiver **ret)
{
    struct receiver *r = pl_heap(sizeof *r);
    if (!r)
        return PL_NO_MEMORY;
    r->conf = *conf;
    r->conf.session = NULL;
    r->ssrc = pl_rand_u32(conf->rand) | 1;
    r->wants_key = true;
    r->stats.alive = r->asked_at = r->report_at = now;
    open_stream(&r->video, &conf->session->video, r->video_slots, REORDER_VIDEO);
    open_stream(&r->audio, &conf->session->audio, r->audio_slots, REORDER_AUDIO);
    enum pl_err e = open_crypto(r, conf->session);
    if (e == PL_OK)
        e = ice_check_new(&conf->session->ice, conf->rand, now, &r->check);
    if (e == PL_OK)
        e = h264_unpack_new(ACCESS_UNIT_MAX, &r->unpack);
    if (e != PL_OK) {
        receiver_free(r);
        return e;
    }
    *ret = r;
    return PL_OK;
}

static void send_rtcp(struct receiver *r, struct pl_buf *b, uint8_t *packet, size_t cap)
{
    size_t n = b->n;
    if (pl_buf_err(b) == PL_OK && pl_srtp_protect_rtcp(r->out, packet, &n, cap) == PL_OK)
        r->conf.send(r->conf.self, packet, n);
}

static unsigned put_block(struct stream *s, struct pl_mono now, struct rtcp_block *out)
{
    if (!rtcp_block_of(&s->seq, &s->stats, out))
        return 0;
    out->ssrc = s->ssrc;
    out->last_sr = s->last_sr;
    out->delay_last_sr = s->last_sr ? (uint32_t)(pl_mono_sub(now, s->sr_at) * 65536 / PL_SECOND) : 0;
    return 1;
}

/* A receiver report, with a key-frame request when one is due. */
static void report(struct receiver *r, struct pl_mono now, bool ask)
{
    uint8_t packet[RTCP_MAX];
    struct pl_buf b = pl_buf_fixed(packet, sizeof packet - PL_SRTP_RTCP_OVERHEAD);
    struct rtcp_block blocks[2];
    unsigned n = put_block(&r->video, now, &blocks[0]);
    n += put_block(&r->audio, now, &blocks[n]);
    rtcp_put_rr(&b, r->ssrc, blocks, n);
    rtcp_put_cname(&b, r->ssrc, CNAME);
    if (ask) {
        rtcp_put_pli(&b, r->ssrc, r->video.ssrc);
        r->stats.key_asked++;
        r->asked_at = now;
    }
    send_rtcp(r, &b, packet, sizeof packet);
    r->report_at = pl_mono_add(now, REPORT_EVERY);
}

/* The round trip as the checks see it; before the first answer, a guess. */
static int64_t round_trip(const struct receiver *r)
{
    int64_t us = ice_check_rtt_us(r->check);
    return us < 0 ? 100 * PL_MS : us;
}

/* A packet is waited for as long as it takes to ask three times. */
static void set_waits(struct receiver *r, struct stream *s)
{
    int64_t again = round_trip(r) + NACK_MARGIN, wait = 3 * again + REORDER_ASK_AFTER + NACK_MARGIN;
    s->order.again = again;
    s->order.wait = wait < WAIT_LEAST ? WAIT_LEAST : wait > WAIT_MOST ? WAIT_MOST : wait;
}

/* NACKs what is due. */
static void ask_again(struct receiver *r, struct stream *s, struct pl_mono now)
{
    uint8_t packet[RTCP_MAX];
    uint64_t missing[ASKED_MAX];
    uint16_t seqs[ASKED_MAX];
    size_t n;
    while ((n = reorder_ask(&s->order, now, missing, ASKED_MAX)) > 0) {
        struct pl_buf b = pl_buf_fixed(packet, sizeof packet - PL_SRTP_RTCP_OVERHEAD);
        for (size_t i = 0; i < n; i++)
            seqs[i] = (uint16_t)missing[i];
        rtcp_put_rr(&b, r->ssrc, NULL, 0);
        rtcp_put_nack(&b, r->ssrc, s->ssrc, seqs, (unsigned)n);
        send_rtcp(r, &b, packet, sizeof packet);
        r->stats.asked += n;
    }
}

void receiver_broken(struct receiver *r) { r->wants_key = true; }

static void take_unit(struct receiver *r, struct pl_mono now, const struct h264_au *au)
{
    if (!au->complete) {
        r->stats.damaged++;
        r->wants_key = true;
        return;
    }
    if (r->wants_key && !au->key)
        return;
    r->wants_key = false;
    if (!r->stats.keyed) {
        r->stats.keyed = true;
        r->stats.first_key_at = now;
    }
    r->conf.on_video(r->conf.self, au);
}

static void take_video(struct receiver *r, struct pl_mono now, const struct rtp_packet *pkt)
{
    struct h264_au au;
    h264_unpack_push(r->unpack, pkt);
    while (h264_unpack_take(r->unpack, &au))
        take_unit(r, now, &au);
}

static void drain(struct receiver *r, struct stream *s, struct pl_mono now)
{
    const uint8_t *p;
    size_t n;
    struct rtp_packet pkt;
    while (reorder_take(&s->order, now, &p, &n)) {
        if (rtp_parse(p, n, &pkt) != PL_OK || pkt.h.payload_type != s->payload_type)
            continue;
        if (r->conf.on_plain)
            r->conf.on_plain(r->conf.self, s == &r->video, p, n);
        if (s == &r->video)
            take_video(r, now, &pkt);
        else
            r->conf.on_audio(r->conf.self, (struct pl_str){ (const char *)pkt.payload, pkt.payload_n }, pkt.h.timestamp);
    }
    r->stats.video_lost = r->video.order.lost;
    r->stats.audio_lost = r->audio.order.lost;
    r->stats.late = r->video.order.late + r->audio.order.late;
}

/* Sound and picture of one moment have one time by their reports, and left together: what lies between the quickest packets of either is how far apart they are. */
static void note_way(struct receiver *r, struct stream *s, struct pl_mono now, uint32_t timestamp)
{
    if (!s->sr_at.us)
        return;
    int64_t late = now.us - s->sr_us - (int64_t)(int32_t)(timestamp - s->sr_timestamp) * PL_SECOND / s->clock;
    s->late_us = s->timed && s->late_us < late ? s->late_us : late;
    s->timed = true;
    r->stats.in_step_known = r->video.timed && r->audio.timed;
    r->stats.video_after_audio_us = r->video.late_us - r->audio.late_us;
}

static bool take_rtp(struct receiver *r, struct pl_mono now, uint8_t *p, size_t n)
{
    struct rtp_header h;
    if (rtp_peek(p, n, &h) != PL_OK)
        return false;
    struct stream *s = h.ssrc == r->video.ssrc ? &r->video : h.ssrc == r->audio.ssrc ? &r->audio : NULL;
    if (!s || pl_srtp_unprotect_rtp(r->in, p, &n) != PL_OK)
        return false;
    uint64_t index = rtp_seq_extend(&s->seq, h.seq);
    rtp_stats_add(&s->stats, index, h.timestamp, (uint32_t)(now.us / 1000 * (s->clock / 1000)));
    r->stats.packets++;
    if (!r->stats.first_packet_at.us)
        r->stats.first_packet_at = now;
    note_way(r, s, now, h.timestamp);
    while (!reorder_push(&s->order, now, index, p, n))
        drain(r, s, now);
    drain(r, s, now);
    return true;
}

static void take_report(struct receiver *r, struct stream *s, struct pl_mono now, uint64_t ntp, uint32_t timestamp)
{
    struct pl_mono *first = s == &r->video ? &r->stats.video_report_at : &r->stats.audio_report_at;
    if (!first->us)
        *first = now;
    s->last_sr = (uint32_t)(ntp >> 16);
    s->sr_at = now;
    s->sr_us = (int64_t)(ntp >> 32) * PL_SECOND + (int64_t)((ntp & UINT32_MAX) * PL_SECOND >> 32);
    s->sr_timestamp = timestamp;
}

static bool take_rtcp(struct receiver *r, struct pl_mono now, uint8_t *p, size_t n)
{
    struct rtcp_item item;
    if (pl_srtp_unprotect_rtcp(r->in, p, &n) != PL_OK)
        return false;
    struct pl_rd rd = pl_rd_of(p, n);
    while (rtcp_next(&rd, &item) == PL_OK && item.type != RTCP_END) {
        struct stream *s = item.ssrc == r->video.ssrc ? &r->video : item.ssrc == r->audio.ssrc ? &r->audio : NULL;
        if (item.type == RTCP_SR && s)
            take_report(r, s, now, item.sr.ntp, item.sr.timestamp);
    }
    return true;
}

static bool take_check(struct receiver *r, struct pl_mono now, const uint8_t *p, size_t n)
{
    if (ice_check_input(r->check, now, p, n) != PL_OK)
        return false;
    if (!r->stats.connected) {
        r->stats.connected = true;
        r->stats.connected_at = now;
    }
    return true;
}

void receiver_packet(struct receiver *r, struct pl_mono now, const uint8_t *p, size_t n)
{
    uint8_t plain[PACKET_MAX];
    bool proved = false;
    if (n > sizeof plain)
        return;
    memcpy(plain, p, n);
    switch (rtp_classify(p, n)) {
    case RTP_CLASS_STUN: proved = take_check(r, now, plain, n); break;
    case RTP_CLASS_RTP: proved = take_rtp(r, now, plain, n); break;
    case RTP_CLASS_RTCP: proved = take_rtcp(r, now, plain, n); break;
    default: break;
    }
    if (proved)
        r->stats.alive = now;
    else
        r->stats.refused++;
}

void receiver_tick(struct receiver *r, struct pl_mono now)
{
    uint8_t packet[STUN_MAX];
    size_t n;
    if (r->stats.first_packet_at.us && pl_mono_sub(now, r->stats.alive) >= SILENT && pl_mono_sub(now, r->tried_at) >= SILENT_AGAIN) {
        ice_check_restart(r->check, now);
        r->tried_at = now;
    }
    while (ice_check_poll(r->check, now, packet, sizeof packet, &n) == PL_OK && n > 0)
        r->conf.send(r->conf.self, packet, n);
    set_waits(r, &r->video);
    set_waits(r, &r->audio);
    drain(r, &r->video, now);
    drain(r, &r->audio, now);
    ask_again(r, &r->video, now);
    ask_again(r, &r->audio, now);
    bool ask = r->wants_key && r->stats.connected && pl_mono_sub(now, r->asked_at) >= ASK_AGAIN;
    if (ask || (r->stats.connected && pl_mono_cmp(now, r->report_at) >= 0))
        report(r, now, ask);
}

static struct pl_mono later(struct pl_mono a, struct pl_mono b) { return pl_mono_cmp(a, b) > 0 ? a : b; }
static struct pl_mono earlier(struct pl_mono a, struct pl_mono b) { return pl_mono_cmp(a, b) < 0 ? a : b; }

struct pl_mono receiver_due(const struct receiver *r)
{
    struct pl_mono due = ice_check_due(r->check);
    if (r->stats.connected)
        due = earlier(due, r->report_at);
    if (r->stats.connected && r->wants_key)
        due = earlier(due, pl_mono_add(r->asked_at, ASK_AGAIN));
    if (r->stats.first_packet_at.us)
        due = earlier(due, later(pl_mono_add(r->stats.alive, SILENT), pl_mono_add(r->tried_at, SILENT_AGAIN)));
    due = earlier(due, reorder_due(&r->video.order, due));
    return earlier(due, reorder_due(&r->audio.order, due));
}

const struct receiver_stats *receiver_stats(const struct receiver *r) { return &r->stats; }

static void say_bye(struct receiver *r)
{
    uint8_t packet[RTCP_MAX];
    struct pl_buf b = pl_buf_fixed(packet, sizeof packet - PL_SRTP_RTCP_OVERHEAD);
    rtcp_put_rr(&b, r->ssrc, NULL, 0);
    rtcp_put_cname(&b, r->ssrc, CNAME);
    rtcp_put_bye(&b, r->ssrc);
    send_rtcp(r, &b, packet, sizeof packet);
}

struct receiver *receiver_free(struct receiver *r)
{
    if (!r)
        return NULL;
    if (r->stats.connected)
        say_bye(r);
    r->check = ice_check_free(r->check);
    r->in = pl_srtp_free(r->in);
    r->out = pl_srtp_free(r->out);
    r->unpack = h264_unpack_free(r->unpack);
    secure_wipe(r, sizeof *r);
    return pl_heap_free(r);
}
