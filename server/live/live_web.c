#include "live_web.h"
#include "live_leg.h"
#include "secure.h"

/* Who answers a ClientHello chooses the cipher. Chromium chooses AES-CM wherever it is offered, so that GCM, which costs half of it a packet, is had only by letting it send the
 * ClientHello; the price is one round trip before the first picture. */
enum { PREFER_ACTIVE = false };
enum { MAC = 16, WAY = 16 + 16 + 4 + LIVE_ICE_MARK };

void live_web_new(struct pl_rand *rand, struct live_web *ret)
{
    *ret = (struct live_web){ 0 };
    live_leg_ice_text(rand, ret->ufrag, sizeof ret->ufrag - 1);
    live_leg_ice_text(rand, ret->pwd, sizeof ret->pwd - 1);
    ret->video_ssrc = live_leg_ssrc(rand, 0, 0);
    ret->rtx_ssrc = live_leg_ssrc(rand, ret->video_ssrc, 0);
    ret->audio_ssrc = live_leg_ssrc(rand, ret->video_ssrc, ret->rtx_ssrc);
}

static unsigned codec_mask(struct pl_str name)
{
    static const struct { const char *name; enum sdp_codec_name codec; } known[] = { { "opus", SDP_OPUS }, { "PCMU", SDP_PCMU }, { "PCMA", SDP_PCMA } };
    for (size_t i = 0; i < PL_COUNT(known); i++)
        if (name.p && pl_str_eq_nocase(name, pl_str_of(known[i].name)))
            return SDP_MASK(known[i].codec);
    return 0;
}

/* `H264` or `H264/42c01f`: the codec, and if the hub knows it the profile-level-id of what will come. */
static uint32_t profile_of(struct pl_str video)
{
    struct pl_str id;
    uint8_t b[3];
    (void)pl_str_split(video, '/', &id);
    return id.n && pl_unhex(id, b, sizeof b) == PL_OK ? (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2] : 0;
}

struct sdp_ours live_web_ours(struct pl_rand *rand, const struct live_web_facts *f)
{
    uint64_t session_id;
    pl_rand_fill(rand, &session_id, sizeof session_id);
    struct sdp_ours ours = { .publisher = f->publisher, .prefer_active = PREFER_ACTIVE, .session_id = session_id >> 1, .version = 1, .ufrag = pl_str_of(f->web->ufrag),
        .pwd = pl_str_of(f->web->pwd), .candidates = { { f->host, (uint16_t)f->port } }, .n_candidates = 1, .cname = f->name, .msid = f->name, .video_ssrc = f->web->video_ssrc,
        .rtx_ssrc = f->web->rtx_ssrc, .audio_ssrc = f->web->audio_ssrc, .h264_profile = profile_of(f->video), .audio = codec_mask(f->audio), .talk = codec_mask(f->talk),
        .rtx = !f->publisher, .transport_cc = !f->publisher, .remb = !f->publisher };
    memcpy(ours.fingerprint, f->fingerprint.p, sizeof ours.fingerprint);
    return ours;
}

static void track(struct jw *w, const char *name, const struct sdp_track *t)
{
    if (!t->served)
        return;
    jw_open(w, name);
    jw_int(w, "ssrc", t->ssrc);
    jw_int(w, "payload_type", t->payload_type);
    jw_close(w);
}

void live_web_write_ice(struct jw *w, const struct live_web *web, struct pl_str peer_ufrag)
{
    jw_open(w, "ice");
    jw_z(w, "ufrag", web->ufrag);
    jw_z(w, "pwd", web->pwd);
    jw_str(w, "peer_ufrag", peer_ufrag);
    jw_close(w);
}

static void write_ext(struct jw *w, const struct sdp_agreed *agreed)
{
    static const char *const names[SDP_EXTS] = { "transport_cc", "abs_send_time", "audio_level", "mid" };
    jw_open(w, "ext");
    for (size_t i = 0; i < SDP_EXTS; i++)
        if (agreed->ext[i])
            jw_int(w, names[i], agreed->ext[i]);
    jw_close(w);
}

static void write_fingerprints(struct jw *w, const struct sdp_agreed *agreed)
{
    jw_b64(w, "fingerprint", agreed->peer_fingerprints[0], sizeof agreed->peer_fingerprints[0]);
    if (agreed->peer_fingerprints_n == 1)
        return;
    jw_array(w, "more_fingerprints");
    for (unsigned i = 1; i < agreed->peer_fingerprints_n; i++)
        jw_b64(w, NULL, agreed->peer_fingerprints[i], sizeof agreed->peer_fingerprints[i]);
    jw_end_array(w);
}

void live_web_write(struct jw *w, const struct live_web *web, const struct sdp_agreed *agreed, bool publisher)
{
    static const struct { const char *name; unsigned bit; } feedback[] = { { "nack", SDP_NACK }, { "pli", SDP_PLI }, { "fir", SDP_FIR }, { "remb", SDP_REMB } };
    live_web_write_ice(w, web, agreed->peer_ufrag);
    track(w, "video", &agreed->video);
    track(w, "audio", &agreed->audio);
    if (publisher)
        track(w, "talk", &agreed->talk);
    jw_open(w, "webrtc");
    write_fingerprints(w, agreed);
    jw_z(w, "setup", agreed->active ? "active" : "passive");
    jw_array(w, "suites");
    for (int s = 0; s < LIVE_SUITES; s++)
        jw_z(w, NULL, live_suite_names[s]);
    jw_end_array(w);
    write_ext(w, agreed);
    if (agreed->rtx) {
        jw_open(w, "rtx");
        jw_int(w, "ssrc", agreed->rtx_ssrc);
        jw_int(w, "payload_type", agreed->rtx_payload_type);
        jw_close(w);
    }
    for (size_t i = 0; i < PL_COUNT(feedback); i++)
        jw_bool(w, feedback[i].name, agreed->feedback & feedback[i].bit);
    if (!publisher && agreed->talk.served) {
        jw_open(w, "talk");
        jw_int(w, "ssrc", agreed->talk.ssrc);
        jw_int(w, "payload_type", agreed->talk.payload_type);
        if (agreed->talk.mid.p)
            jw_str(w, "mid", agreed->talk.mid);
        jw_close(w);
    }
    jw_close(w);
}

/* ---- The way back to a viewer. */

void live_way_mark(const struct pl_secret *key, struct pl_uuid viewer_id, struct pl_str peer_ufrag, uint8_t ret[LIVE_ICE_MARK])
{
    char mem[4 + 16 + 256];
    uint8_t mac[32];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem); /* a ufrag that is longer was refused by whoever read the offer */
    pl_buf_z(&b, "ice");
    pl_buf_add(&b, viewer_id.b, sizeof viewer_id.b);
    pl_buf_str(&b, peer_ufrag);
    secure_hmac_sha256(key, pl_buf_view(&b), mac);
    memcpy(ret, mac, LIVE_ICE_MARK);
}

static void way_mac(const struct pl_secret *key, const struct live_whose *whose, const uint8_t way[WAY], uint8_t ret[32])
{
    char mem[4 + 3 * 16 + WAY];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    pl_buf_z(&b, "way");
    pl_buf_add(&b, whose->account_id.b, 16);
    pl_buf_add(&b, whose->client_id.b, 16);
    pl_buf_add(&b, whose->live_id.b, 16);
    pl_buf_add(&b, way, WAY);
    secure_hmac_sha256(key, pl_buf_view(&b), ret);
}

struct pl_str live_way_text(struct pl_arena *a, const struct pl_secret *key, const struct live_whose *whose, const struct live_way *way)
{
    uint8_t mem[WAY + 32 + 1];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    pl_buf_add(&b, way->viewer_id.b, 16);
    pl_buf_add(&b, way->relay_id.b, 16);
    pl_buf_u32(&b, (uint32_t)way->generation);
    pl_buf_add(&b, way->mark, LIVE_ICE_MARK);
    way_mac(key, whose, mem, mem + WAY);
    return pl_b64url(a, mem, WAY + MAC);
}

enum pl_err live_way_read(const struct pl_secret *key, const struct live_whose *whose, struct pl_str text, struct live_way *ret)
{
    uint8_t given[WAY + MAC], mac[32];
    if (pl_unb64url(text, given, sizeof given) != PL_OK)
        return PL_NOT_FOUND;
    way_mac(key, whose, given, mac);
    if (!secure_eq(mac, MAC, given + WAY, MAC))
        return PL_NOT_FOUND;
    struct pl_rd r = pl_rd_of(given + 32, 4);
    memcpy(ret->viewer_id.b, given, 16);
    memcpy(ret->relay_id.b, given + 16, 16);
    ret->generation = (int32_t)pl_rd_u32(&r);
    memcpy(ret->mark, given + 36, LIVE_ICE_MARK);
    return PL_OK;
}
