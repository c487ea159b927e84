#include "sdp_choose.h"

/* One choice under way. */
struct choice {
    const struct sdp_offer *offer;
    const struct sdp_ours *ours;
    struct sdp_plan *plan;
    struct sdp_agreed *agreed;
    unsigned stream_way, talk_way; /* SDP_PEER_…: what the peer must do on the lines of the stream, and of talk */
};

/* ---- video */

/* Profiles that decode alike are one (RFC 6184, table 5). */
enum { CONSTRAINED_BASELINE = 1, BASELINE, MAIN, OTHER_PROFILE };
static unsigned profile_of(uint32_t id)
{
    unsigned idc = id >> 16, constraints = id >> 8 & 0xff;
    bool set0 = constraints & 0x80, set1 = constraints & 0x40;
    if ((idc == 0x42 && set1) || (idc == 0x4d && set0) || (idc == 0x58 && set0 && set1))
        return CONSTRAINED_BASELINE;
    if (idc == 0x42 || (idc == 0x58 && set0))
        return BASELINE;
    return idc == 0x4d ? MAIN : OTHER_PROFILE + (idc << 8 | constraints);
}

/* The smaller the better. A publisher's own order stands: it offers what it can send. */
static unsigned profile_rank(const struct sdp_ours *ours, const struct sdp_codec *c)
{
    unsigned p = profile_of(c->profile);
    if (ours->publisher || (ours->h264_profile != 0 && p == profile_of(ours->h264_profile)))
        return 0;
    return p == MAIN ? 1 : p == CONSTRAINED_BASELINE ? 2 : 3;
}

static enum pl_err pick_h264(const struct sdp_ours *ours, const struct sdp_line *l, const struct sdp_codec **ret, struct pl_fail *reterr)
{
    const struct sdp_codec *best = NULL;
    bool any = false;
    for (size_t i = 0; i < l->n_codecs; i++) {
        const struct sdp_codec *c = &l->codecs[i];
        any = any || c->name == SDP_H264;
        if (c->name == SDP_H264 && c->mode_1 && (!best || profile_rank(ours, c) < profile_rank(ours, best)))
            best = c;
    }
    if (!best)
        return sdp_refuse(reterr, any ? SDP_NO_MODE_1 : SDP_NO_H264);
    *ret = best;
    return PL_OK;
}

/* The first line of this kind on which the peer does what is wanted; n_lines: none. */
static size_t find_line(const struct choice *c, enum sdp_kind kind, unsigned way)
{
    size_t i = 0;
    while (i < c->offer->n_lines && !(c->offer->lines[i].kind == kind && c->offer->lines[i].usable && c->offer->lines[i].way & way))
        i++;
    return i;
}

static void serve(struct choice *c, struct sdp_track *track, size_t line, const struct sdp_codec *codec, bool we_send, uint32_t our_ssrc)
{
    const struct sdp_line *l = &c->offer->lines[line];
    struct sdp_plan_line *p = &c->plan->lines[line];
    *track = (struct sdp_track){ true, line, l->mid, codec->name, codec->payload_type, we_send ? our_ssrc : l->ssrc };
    p->sends = p->sends || we_send;
    p->receives = p->receives || !we_send;
    if (p->n == 0 || p->codecs[0] != codec)
        p->codecs[p->n++] = codec;
}

static enum pl_err choose_video(struct choice *c, struct pl_fail *reterr)
{
    const struct sdp_codec *codec = NULL;
    size_t at = find_line(c, SDP_VIDEO, c->stream_way);
    if (at == c->offer->n_lines)
        return find_line(c, SDP_VIDEO, ~0u) < c->offer->n_lines ? sdp_refuse(reterr, SDP_DIRECTION) : PL_OK;
    const struct sdp_line *l = &c->offer->lines[at];
    enum pl_err e = pick_h264(c->ours, l, &codec, reterr);
    if (e != PL_OK)
        return e;
    serve(c, &c->agreed->video, at, codec, !c->ours->publisher, c->ours->video_ssrc);
    c->agreed->feedback = codec->feedback & (SDP_NACK | SDP_PLI | SDP_FIR);
    for (size_t i = 0; i < l->n_codecs && c->ours->rtx && codec->feedback & SDP_NACK && !c->agreed->rtx; i++)
        if (l->codecs[i].name == SDP_RTX && l->codecs[i].apt == codec->payload_type) {
            c->agreed->rtx = true;
            c->agreed->rtx_payload_type = l->codecs[i].payload_type;
            c->agreed->rtx_ssrc = c->ours->publisher ? l->rtx_ssrc : c->ours->rtx_ssrc;
            c->plan->lines[at].codecs[c->plan->lines[at].n++] = &l->codecs[i];
        }
    return PL_OK;
}

/* ---- sound */

static const struct sdp_codec *pick_audio(const struct sdp_line *l, unsigned mask)
{
    for (enum sdp_codec_name name = SDP_OPUS; name <= SDP_PCMA; name++)
        for (size_t i = 0; i < l->n_codecs; i++)
            if (mask & SDP_MASK(name) && l->codecs[i].name == name)
                return &l->codecs[i];
    return NULL;
}

/* The line and codec of one direction of sound; NULL and why not. */
static const struct sdp_codec *choose_sound(const struct choice *c, size_t line, unsigned mask, const char **why)
{
    const struct sdp_codec *codec = NULL;
    if (mask == 0)
        *why = "not_there";
    else if (line == c->offer->n_lines)
        *why = "not_offered";
    else if (!(codec = pick_audio(&c->offer->lines[line], mask)))
        *why = "no_audio_codec";
    return codec;
}

static void choose_audio(struct choice *c)
{
    const struct sdp_ours *ours = c->ours;
    size_t n = c->offer->n_lines, audio = find_line(c, SDP_AUDIO, c->stream_way), talk = find_line(c, SDP_AUDIO, c->talk_way);
    if (audio < n && c->offer->lines[audio].way & c->talk_way)
        talk = audio;
    const struct sdp_codec *heard = choose_sound(c, audio, ours->audio, &c->agreed->audio_refused);
    const struct sdp_codec *said = choose_sound(c, talk, ours->talk, &c->agreed->talk_refused);
    /* First what the peer shall send: it sends the first and receives both. */
    if (heard && ours->publisher)
        serve(c, &c->agreed->audio, audio, heard, false, 0);
    if (said)
        serve(c, &c->agreed->talk, talk, said, ours->publisher, ours->audio_ssrc);
    if (heard && !ours->publisher)
        serve(c, &c->agreed->audio, audio, heard, true, ours->audio_ssrc);
}

/* ---- transport */

static size_t tagged_line(const struct choice *c)
{
    const struct sdp_offer *o = c->offer;
    size_t first = 0;
    while (first < o->n_lines && !sdp_served(&c->plan->lines[first]))
        first++;
    for (size_t i = 0; i < o->n_lines; i++)
        if (o->bundle_tag.p && o->lines[i].mid.p && pl_str_eq(o->lines[i].mid, o->bundle_tag) && sdp_served(&c->plan->lines[i]))
            return i;
    return first;
}

/* The offer's own tagged line, served or not: it may speak for bundle-only lines (RFC 8843, 7.2). */
static const struct sdp_line *speaker(const struct sdp_offer *o)
{
    for (size_t i = 0; i < o->n_lines; i++)
        if (o->bundle_tag.p && o->lines[i].mid.p && pl_str_eq(o->lines[i].mid, o->bundle_tag))
            return &o->lines[i];
    return NULL;
}

static enum pl_err check_lines(const struct choice *c, struct pl_fail *reterr)
{
    const struct sdp_line *tag = speaker(c->offer), *first = NULL;
    for (size_t i = 0; i < c->offer->n_lines; i++) {
        const struct sdp_line *l = &c->offer->lines[i];
        if (l->sdes)
            return sdp_refuse(reterr, SDP_SDES);
        if (!sdp_served(&c->plan->lines[i]))
            continue;
        if (!l->dtls_rtp)
            return sdp_refuse(reterr, SDP_TRANSPORT);
        if (!l->rtcp_mux && !(tag && l->bundle && tag->bundle == l->bundle && tag->rtcp_mux))
            return sdp_refuse(reterr, SDP_NO_RTCP_MUX);
        if (first && (l->bundle == 0 || l->bundle != first->bundle))
            return sdp_refuse(reterr, SDP_NO_BUNDLE);
        first = first ? first : l;
    }
    return PL_OK;
}

/* Ufrag with password, fingerprints and setup: each from the first place that says it. */
static void merge(struct sdp_transport *t, const struct sdp_transport *from)
{
    if (!t->ufrag.p) {
        t->ufrag = from->ufrag;
        t->pwd = from->pwd;
    }
    if (!t->fingerprint_there) {
        t->fingerprint_there = from->fingerprint_there;
        t->fingerprints_n = from->fingerprints_n;
        memcpy(t->fingerprints, from->fingerprints, sizeof t->fingerprints);
    }
    if (!t->setup_there) {
        t->setup_there = from->setup_there;
        t->setup = from->setup;
    }
}

static enum pl_err choose_transport(struct choice *c, struct pl_fail *reterr)
{
    struct sdp_transport t = { 0 };
    const struct sdp_line *tag = speaker(c->offer);
    if (tag)
        merge(&t, &tag->transport);
    for (size_t i = 0; i < c->offer->n_lines; i++)
        if (sdp_served(&c->plan->lines[i]))
            merge(&t, &c->offer->lines[i].transport);
    merge(&t, &c->offer->session);
    if (!t.ufrag.p || !t.pwd.p)
        return sdp_refuse(reterr, SDP_NO_ICE);
    if (!sdp_ice_chars(t.ufrag, 4, 32) || !sdp_ice_chars(t.pwd, 22, 256))
        return sdp_refuse(reterr, SDP_ICE_UFRAG);
    if (c->offer->ice_lite)
        return sdp_refuse(reterr, SDP_ICE_LITE);
    if (t.fingerprints_n == 0)
        return sdp_refuse(reterr, t.fingerprint_there ? SDP_FINGERPRINT_HASH : SDP_NO_FINGERPRINT);
    if (t.fingerprints_n > SDP_FINGERPRINTS)
        return sdp_refuse(reterr, SDP_TOO_MANY);
    enum sdp_setup setup = t.setup_there ? t.setup : SDP_ACTIVE; /* RFC 4145, 4 */
    if (setup == SDP_HOLDCONN)
        return sdp_refuse(reterr, SDP_SETUP);
    c->agreed->active = setup == SDP_PASSIVE || (setup == SDP_ACTPASS && c->ours->prefer_active);
    c->agreed->peer_ufrag = t.ufrag;
    c->agreed->peer_pwd = t.pwd;
    c->agreed->peer_fingerprints_n = t.fingerprints_n;
    memcpy(c->agreed->peer_fingerprints, t.fingerprints, sizeof t.fingerprints);
    c->plan->tagged = tagged_line(c);
    return PL_OK;
}

/* ---- congestion and header extensions */

/* The stream's lines: those whose packets are counted. */
static bool of_stream(const struct choice *c, size_t i) { return c->ours->publisher ? c->plan->lines[i].receives : c->plan->lines[i].sends; }

/* One number for all packets of the stream: of use only where each of its lines has it, under one id. */
static uint8_t transport_cc(const struct choice *c)
{
    uint8_t id = 0;
    for (size_t i = 0; i < c->offer->n_lines; i++) {
        const struct sdp_plan_line *p = &c->plan->lines[i];
        uint8_t here = c->offer->lines[i].ext[SDP_EXT_TRANSPORT_CC];
        if (!of_stream(c, i))
            continue;
        if (here == 0 || (id != 0 && id != here) || !(p->codecs[0]->feedback & SDP_TRANSPORT_CC))
            return 0;
        id = here;
    }
    return id;
}

/* Some offer one id for different things on different lines; all lines share one transport here, so the second does without. */
static void agree_ext(struct sdp_agreed *g, enum sdp_ext e, uint8_t id)
{
    for (enum sdp_ext other = 0; other < SDP_EXTS; other++)
        if (g->ext[other] == id)
            return;
    g->ext[e] = id;
}

static void choose_ext(struct choice *c)
{
    struct sdp_agreed *g = c->agreed;
    const struct sdp_codec *video = g->video.served ? c->plan->lines[g->video.line].codecs[0] : NULL;
    /* Without rtx a viewer gets resends byte for byte: no extension may change in them (a packet index is never encrypted twice with other bytes). */
    bool counted = video && (c->ours->publisher || g->rtx);
    uint8_t id = c->ours->transport_cc && counted ? transport_cc(c) : 0;
    if (id) {
        g->ext[SDP_EXT_TRANSPORT_CC] = id;
        g->feedback |= SDP_TRANSPORT_CC;
    } else if (c->ours->remb && video && video->feedback & SDP_REMB) {
        g->feedback |= SDP_REMB;
        g->ext[SDP_EXT_ABS_SEND_TIME] = counted ? c->offer->lines[g->video.line].ext[SDP_EXT_ABS_SEND_TIME] : 0;
    }
    for (size_t i = 0; i < c->offer->n_lines; i++) {
        const struct sdp_line *l = &c->offer->lines[i];
        if (c->plan->lines[i].receives && g->ext[SDP_EXT_MID] == 0)
            agree_ext(g, SDP_EXT_MID, l->ext[SDP_EXT_MID]);
        if (c->plan->lines[i].receives && l->kind == SDP_AUDIO && g->ext[SDP_EXT_AUDIO_LEVEL] == 0)
            agree_ext(g, SDP_EXT_AUDIO_LEVEL, l->ext[SDP_EXT_AUDIO_LEVEL]);
    }
    for (size_t i = 0; i < c->offer->n_lines; i++) {
        struct sdp_plan_line *p = &c->plan->lines[i];
        for (enum sdp_ext e = 0; e < SDP_EXTS && sdp_served(p); e++)
            if (g->ext[e] != 0 && g->ext[e] == c->offer->lines[i].ext[e] && (e == SDP_EXT_MID || e == SDP_EXT_AUDIO_LEVEL ? p->receives : of_stream(c, i)))
                p->ext[e] = g->ext[e];
    }
}

enum pl_err sdp_choose(const struct sdp_offer *offer, const struct sdp_ours *ours, struct sdp_plan *ret_plan, struct sdp_agreed *ret_agreed, struct pl_fail *reterr)
{
    struct sdp_plan plan = { 0 };
    struct sdp_agreed agreed = { 0 };
    struct choice c = { offer, ours, &plan, &agreed, SDP_PEER_RECEIVES, SDP_PEER_SENDS };
    if (ours->publisher) {
        c.stream_way = SDP_PEER_SENDS;
        c.talk_way = SDP_PEER_RECEIVES;
    }
    enum pl_err e = choose_video(&c, reterr);
    if (e != PL_OK)
        return e;
    choose_audio(&c);
    if (!agreed.video.served && !agreed.audio.served)
        return sdp_refuse(reterr, pl_str_eqz(pl_str_of(agreed.audio_refused), "no_audio_codec") ? SDP_NO_AUDIO_CODEC : SDP_NO_MEDIA);
    if ((e = check_lines(&c, reterr)) != PL_OK || (e = choose_transport(&c, reterr)) != PL_OK)
        return e;
    choose_ext(&c);
    *ret_plan = plan;
    *ret_agreed = agreed;
    return PL_OK;
}
