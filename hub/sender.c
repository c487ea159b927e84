#include "sender.h"
#include "h264.h"
#include "rtcp.h"
#include "rtp.h"
#include "secure.h"

enum { VIDEO_CLOCK = 90000, AUDIO_CLOCK = CODER_RATE };
#define REPORT_EVERY PL_SECOND
#define SILENT (1500 * PL_MS) /* the relay reports every second: it may hear us no more where we are now, and a check tells it */
#define SILENT_AGAIN PL_SECOND
#define DRIFT PL_MS /* in REPORT_EVERY: a camera's clock that is slower than ours is followed that fast */
#define CNAME PL_STR("hub")

/* What left, as it left: a packet that is asked for again goes out byte for byte the same, since its number may be encrypted only once (S-M6). */
struct kept {
    struct pl_mono sent_at;
    uint16_t seq, n; /**< n 0: none */
    uint8_t bytes[SENDER_MTU_MAX];
};
enum { KEPT = 512, KEPT_AUDIO = 64, RESENT_MOST = 128 /* for one request */ };
#define KEPT_FOR PL_SECOND

struct track {
    struct sender_track id;
    uint32_t clock;
    uint16_t seq;
    uint32_t first_ts;        /**< random: timestamp of the source's time 0 */
    int64_t pts_us;           /**< of the last frame */
    uint32_t packets, bytes;  /**< of payload, as sender reports count */
    struct kept *kept;        /**< kept_n places, by number */
    unsigned kept_n;
};
struct sender {
    struct sender_conf conf;
    struct ice_check *check;
    struct pl_srtp *out, *in;
    struct track video, audio;
    struct pl_mono began;     /**< when the camera's time 0 was, for both tracks alike: the quickest frame of either tells */
    bool timed;               /**< one did */
    struct pl_mono alive;     /**< the relay last proved itself */
    struct pl_mono hard_end, report_at, tried_at; /**< tried_at: the path, in silence */
    struct pl_mono frame_at;  /**< the last frame of either track left */
    bool connected, ended;
    int fir_seq;              /**< last FIR's number; -1: none */
    struct rtcp_dlrr asked;   /**< the relay's time, which it gets back with the next report; last_rr 0: it has told none */
    struct pl_mono asked_at;  /**< when that came */
    enum pl_err why;
    struct sender_stats stats;
    struct kept video_kept[KEPT], audio_kept[KEPT_AUDIO];
};

static struct track track_of(struct sender_track id, uint32_t clock, struct pl_rand *rand)
{
    /* The first number is below 2^15, so that a receiver that misses some cannot mistake a wrap for them (RFC 3711, 3.3.1). */
    return (struct track){ .id = id, .clock = clock, .seq = (uint16_t)pl_rand_below(rand, 0x8000), .first_ts = pl_rand_u32(rand) };
}

static enum pl_err open_crypto(struct sender *s, const struct sender_conf *conf)
{
    const struct pl_srtp_conf out = { .suite = conf->suite, .key = (const uint8_t *)conf->send_key.p, .key_n = conf->send_key.n,
        .ssrcs = { conf->video.ssrc, conf->audio.ssrc }, .ssrcs_n = 2 };
    /* The relay reports under an SSRC of its own choice. */
    const struct pl_srtp_conf in = { .suite = conf->suite, .receive = true, .key = (const uint8_t *)conf->receive_key.p, .key_n = conf->receive_key.n };
    enum pl_err e = pl_srtp_new(&out, &s->out);
    return e == PL_OK ? pl_srtp_new(&in, &s->in) : e;
}

enum pl_err sender_new(const struct sender_conf *conf, struct pl_mono now, struct sender **ret)
{
    if (conf->mtu < SENDER_MTU_MIN || conf->mtu > SENDER_MTU_MAX || conf->video.ssrc == conf->audio.ssrc || conf->hard_end_us <= 0)
        return PL_INVALID_REQUEST;
    struct sender *s = pl_heap(sizeof *s);
    if (!s)
        return PL_NO_MEMORY;
    s->conf = *conf;
    s->video = track_of(conf->video, VIDEO_CLOCK, conf->rand);
    s->audio = track_of(conf->audio, AUDIO_CLOCK, conf->rand);
    s->video.kept = s->video_kept;
    s->video.kept_n = KEPT;
    s->audio.kept = s->audio_kept;
    s->audio.kept_n = KEPT_AUDIO;
    s->alive = s->report_at = now;
    s->hard_end = pl_mono_add(now, conf->hard_end_us);
    s->fir_seq = -1;
    s->stats.rtt_us = -1;
    enum pl_err e = open_crypto(s, conf);
    if (e == PL_OK)
        e = ice_check_new(&conf->ice, conf->rand, now, &s->check);
    /* The contexts hold their own copies: the caller's must not be looked at again. */
    s->conf.send_key = s->conf.receive_key = PL_STR_NONE;
    s->conf.ice = (struct ice_cred){ 0 };
    if (e != PL_OK) {
        sender_free(s);
        return e;
    }
    *ret = s;
    return PL_OK;
}

static void drop(void *self, const uint8_t *p, size_t n) { (void)self, (void)p, (void)n; }

void sender_warm(struct pl_rand *rand)
{
    static const char key[PL_SRTP_KEY_MAX];
    struct sender *s;
    struct sender_conf c = { .suite = PL_SRTP_GCM, .video = { 1, 0 }, .audio = { 2, 0 }, .mtu = SENDER_MTU_MIN, .hard_end_us = 1, .rand = rand, .send = drop };
    c.send_key = c.receive_key = (struct pl_str){ key, pl_srtp_key_bytes(c.suite) };
    if (sender_new(&c, (struct pl_mono){ 0 }, &s) == PL_OK)
        sender_free(s);
}

static unsigned end(struct sender *s, enum pl_err why)
{
    if (s->ended)
        return 0;
    s->ended = true;
    s->why = why;
    return SENDER_ENDED;
}

static uint32_t timestamp_at(const struct track *t, int64_t pts_us)
{
    return t->first_ts + (uint32_t)(pts_us * (int64_t)(t->clock / 1000) / 1000);
}

static void put_report(const struct sender *s, struct pl_buf *b, const struct track *t, struct pl_mono now, struct pl_utc utc)
{
    if (t->packets == 0)
        return;
    rtcp_put_sr(b, t->id.ssrc, rtcp_ntp_of(utc.us), timestamp_at(t, pl_mono_sub(now, s->began)), t->packets, t->bytes, NULL, 0);
    rtcp_put_cname(b, t->id.ssrc, CNAME);
}

static void send_rtcp(struct sender *s, struct pl_buf *b, uint8_t *packet, size_t cap)
{
    size_t n = b->n;
    if (n && pl_buf_err(b) == PL_OK && pl_srtp_protect_rtcp(s->out, packet, &n, cap) == PL_OK)
        s->conf.send(s->conf.self, packet, n);
}

static void report(struct sender *s, struct pl_mono now, struct pl_utc utc)
{
    uint8_t packet[RTCP_MAX];
    struct pl_buf b = pl_buf_fixed(packet, sizeof packet - PL_SRTP_RTCP_OVERHEAD);
    put_report(s, &b, &s->video, now, utc);
    put_report(s, &b, &s->audio, now, utc);
    if (b.n && s->asked.last_rr) { /* so that it knows the round trip */
        s->asked.delay_rr = (uint32_t)(pl_mono_sub(now, s->asked_at) * 65536 / PL_SECOND);
        rtcp_put_xr_dlrr(&b, s->video.id.ssrc, &s->asked);
    }
    send_rtcp(s, &b, packet, sizeof packet);
    s->report_at = pl_mono_add(now, REPORT_EVERY);
    s->began = pl_mono_add(s->began, DRIFT); /* the next quick frame takes it back */
}

/* Reports tie the camera's own times to ours, both tracks by one line: the picture comes later from its encoder than the sound of the same moment, and must not be told as later
 * for it (V-A4; RFC 3550, 6.4.1). */
static void note_time(struct sender *s, struct pl_mono now, int64_t pts_us)
{
    struct pl_mono began = pl_mono_add(now, -pts_us);
    if (!s->timed || pl_mono_cmp(began, s->began) < 0)
        s->began = began;
    s->timed = true;
}

/* When the path is tried: this machine may have another address, or its router. */
static struct pl_mono path_due(const struct sender *s)
{
    struct pl_mono silent = pl_mono_add(s->alive, SILENT), again = pl_mono_add(s->tried_at, SILENT_AGAIN);
    return pl_mono_cmp(silent, again) > 0 ? silent : again;
}

unsigned sender_tick(struct sender *s, struct pl_mono now, struct pl_utc utc)
{
    uint8_t packet[STUN_MAX];
    size_t n;
    if (s->ended)
        return 0;
    if (pl_mono_cmp(now, s->hard_end) >= 0)
        return end(s, PL_EXPIRED);
    if (pl_mono_sub(now, s->alive) >= SENDER_SILENCE)
        return end(s, PL_TOO_SLOW);
    if (s->connected && pl_mono_cmp(now, path_due(s)) >= 0) {
        ice_check_restart(s->check, now);
        s->tried_at = now;
    }
    while (ice_check_poll(s->check, now, packet, sizeof packet, &n) == PL_OK && n > 0)
        s->conf.send(s->conf.self, packet, n);
    if (s->connected && pl_mono_cmp(now, s->report_at) >= 0)
        report(s, now, utc);
    return 0;
}

static unsigned take_check(struct sender *s, struct pl_mono now, const uint8_t *p, size_t n)
{
    if (ice_check_input(s->check, now, p, n) != PL_OK)
        return 0;
    s->alive = now;
    s->stats.rtt_us = ice_check_rtt_us(s->check);
    if (s->connected)
        return 0;
    s->connected = true;
    return SENDER_CONNECTED;
}

/* A FIR is sent again until it is answered, under the same number: heeded once. */
static unsigned take_fir(struct sender *s, const struct rtcp_item *item)
{
    if (s->fir_seq == item->fir_seq)
        return 0;
    s->fir_seq = item->fir_seq;
    s->stats.key_asked++;
    return SENDER_KEY_WANTED;
}

/* True when it went out. */
static bool resend(struct sender *s, struct pl_mono now, const struct track *t, uint16_t seq)
{
    const struct kept *k = &t->kept[seq % t->kept_n];
    if (k->n == 0 || k->seq != seq || pl_mono_sub(now, k->sent_at) > KEPT_FOR)
        return false;
    s->conf.send(s->conf.self, k->bytes, k->n);
    s->stats.resent++;
    return true;
}

static void take_nack(struct sender *s, struct pl_mono now, const struct rtcp_item *item)
{
    const struct track *t = item->media_ssrc == s->video.id.ssrc ? &s->video : item->media_ssrc == s->audio.id.ssrc ? &s->audio : NULL;
    unsigned sent = 0;
    if (s->conf.no_resend)
        return;
    for (unsigned i = 0; t && i < item->count; i++) {
        uint16_t seq, mask;
        rtcp_nack_at(item, i, &seq, &mask);
        for (unsigned bit = 0; bit <= 16 && sent < RESENT_MOST; bit++)
            if (bit == 0 || mask >> (bit - 1) & 1)
                sent += resend(s, now, t, (uint16_t)(seq + bit));
    }
}

static unsigned take_item(struct sender *s, struct pl_mono now, const struct rtcp_item *item)
{
    if (item->type == RTCP_NACK)
        take_nack(s, now, item);
    if (item->type == RTCP_PLI && item->media_ssrc == s->video.id.ssrc) {
        s->stats.key_asked++;
        return SENDER_KEY_WANTED;
    }
    if (item->type == RTCP_FIR && item->media_ssrc == s->video.id.ssrc)
        return take_fir(s, item);
    if (item->type == RTCP_XR && item->xr_ntp) {
        s->asked = (struct rtcp_dlrr){ .ssrc = item->ssrc, .last_rr = (uint32_t)(item->xr_ntp >> 16) };
        s->asked_at = now;
    }
    if (item->type == RTCP_RR || item->type == RTCP_SR)
        for (unsigned i = 0; i < item->count; i++) {
            struct rtcp_block block = rtcp_block_at(item, i);
            if (block.ssrc != s->video.id.ssrc)
                continue;
            s->stats.lost = block.lost;
            s->stats.last = (struct sender_heard){ now, block.highest_seq, block.lost };
            if (!s->stats.first.at.us)
                s->stats.first = s->stats.last;
        }
    return 0;
}

static unsigned take_rtcp(struct sender *s, struct pl_mono now, const uint8_t *p, size_t n)
{
    uint8_t plain[SENDER_MTU_MAX];
    struct rtcp_item item;
    unsigned events = 0;
    if (n > sizeof plain)
        return 0;
    memcpy(plain, p, n);
    if (pl_srtp_unprotect_rtcp(s->in, plain, &n) != PL_OK)
        return 0;
    s->alive = now;
    struct pl_rd r = pl_rd_of(plain, n);
    while (rtcp_next(&r, &item) == PL_OK && item.type != RTCP_END)
        events |= take_item(s, now, &item);
    return events;
}

unsigned sender_packet(struct sender *s, struct pl_mono now, const uint8_t *p, size_t n)
{
    if (s->ended)
        return 0;
    switch (rtp_classify(p, n)) {
    case RTP_CLASS_STUN: return take_check(s, now, p, n);
    case RTP_CLASS_RTCP: return take_rtcp(s, now, p, n);
    default: return 0;
    }
}

/* `packet` holds `n` bytes of payload behind the room for the header. */
static void send_payload(struct sender *s, struct track *t, uint8_t *packet, size_t n, size_t cap, bool marker)
{
    const struct rtp_header h = { .payload_type = t->id.payload_type, .marker = marker, .seq = t->seq++, .timestamp = timestamp_at(t, t->pts_us), .ssrc = t->id.ssrc };
    rtp_write(&h, packet);
    t->packets++;
    t->bytes += (uint32_t)n;
    n += RTP_HEADER;
    if (pl_srtp_protect_rtp(s->out, packet, &n, cap) != PL_OK)
        return;
    s->stats.packets++;
    s->stats.bytes += n;
    struct kept *k = &t->kept[h.seq % t->kept_n];
    if (n <= sizeof k->bytes) {
        *k = (struct kept){ .sent_at = s->frame_at, .seq = h.seq, .n = (uint16_t)n };
        memcpy(k->bytes, packet, n);
    }
    s->conf.send(s->conf.self, packet, n);
}

static void send_video(struct sender *s, uint8_t *packet, size_t cap, size_t room, struct pl_str access_unit)
{
    struct h264_pack k = h264_pack_start((const uint8_t *)access_unit.p, access_unit.n, room);
    bool last = false;
    size_t n;
    while ((n = h264_pack_next(&k, packet + RTP_HEADER, &last)) > 0)
        send_payload(s, &s->video, packet, n, cap, last);
}

void sender_frame(struct sender *s, struct pl_mono now, struct pl_utc utc, const struct camera_frame *f)
{
    uint8_t packet[SENDER_MTU_MAX + PL_SRTP_RTP_OVERHEAD];
    size_t room = s->conf.mtu - RTP_HEADER - pl_srtp_tag_bytes(s->conf.suite);
    struct track *t = f->media == CAMERA_VIDEO ? &s->video : &s->audio;
    if (!s->connected || s->ended)
        return;
    bool first = t->packets == 0;
    t->pts_us = f->pts_us;
    s->frame_at = now;
    note_time(s, now, f->pts_us);
    s->stats.frames++;
    if (f->media == CAMERA_VIDEO) {
        s->stats.key_frames += f->key;
        send_video(s, packet, sizeof packet, room, f->data);
    } else if (f->data.n <= room) {
        memcpy(packet + RTP_HEADER, f->data.p, f->data.n);
        send_payload(s, t, packet, f->data.n, sizeof packet, first);
    }
    /* The first report goes with the first frame: without it a viewer cannot put sound and picture together. */
    if (first)
        report(s, now, utc);
}

struct pl_mono sender_due(const struct sender *s)
{
    struct pl_mono due = ice_check_due(s->check), silent = pl_mono_add(s->alive, SENDER_SILENCE);
    if (s->connected && pl_mono_cmp(s->report_at, due) < 0)
        due = s->report_at;
    if (s->connected && pl_mono_cmp(path_due(s), due) < 0)
        due = path_due(s);
    if (pl_mono_cmp(silent, due) < 0)
        due = silent;
    return pl_mono_cmp(s->hard_end, due) < 0 ? s->hard_end : due;
}

enum pl_err sender_why(const struct sender *s) { return s->why; }
struct sender_stats sender_stats(const struct sender *s) { return s->stats; }

bool sender_measure(const struct sender_stats *st, int64_t *ret_bps, int64_t *ret_lost_percent)
{
    int64_t us = pl_mono_sub(st->last.at, st->first.at), expected = (int64_t)(st->last.highest_seq - st->first.highest_seq), lost = (int64_t)st->last.lost - st->first.lost;
    if (!st->first.at.us || us < PL_SECOND / 2 || expected <= 0 || st->packets == 0)
        return false;
    lost = lost < 0 ? 0 : lost > expected ? expected : lost;
    *ret_bps = (expected - lost) * (int64_t)(st->bytes / st->packets) * 8 * PL_SECOND / us;
    *ret_lost_percent = (lost * 100 + expected - 1) / expected;
    return true;
}

static void say_bye(struct sender *s)
{
    uint8_t packet[RTCP_MAX];
    struct pl_buf b = pl_buf_fixed(packet, sizeof packet - PL_SRTP_RTCP_OVERHEAD);
    rtcp_put_rr(&b, s->video.id.ssrc, NULL, 0);
    rtcp_put_cname(&b, s->video.id.ssrc, CNAME);
    rtcp_put_bye(&b, s->video.id.ssrc);
    rtcp_put_bye(&b, s->audio.id.ssrc);
    send_rtcp(s, &b, packet, sizeof packet);
}

struct sender *sender_free(struct sender *s)
{
    if (!s)
        return NULL;
    if (s->connected)
        say_bye(s);
    s->check = ice_check_free(s->check);
    s->out = pl_srtp_free(s->out);
    s->in = pl_srtp_free(s->in);
    secure_wipe(s, sizeof *s);
    return pl_heap_free(s);
}
