/* The text of an answer. */
#include "sdp_choose.h"

enum { ANSWER_MAX = 32768 };

struct writer {
    struct pl_buf b;
    const struct sdp_offer *offer;
    const struct sdp_ours *ours;
    const struct sdp_plan *plan;
    const struct sdp_agreed *agreed;
};

static bool is_v6(struct pl_str ip) { return pl_str_find(ip, ':') < ip.n; }

static void write_candidates(struct pl_buf *b, const struct sdp_ours *ours)
{
    for (size_t i = 0; i < ours->n_candidates; i++) {
        const struct sdp_candidate *c = &ours->candidates[i];
        uint32_t priority = UINT32_C(126) << 24 | (uint32_t)(65535 - i) << 8 | 255; /* RFC 8445, 5.1.2: host, best first, RTP */
        pl_buf_fmt(b, "a=candidate:%zu 1 udp %u %.*s %u typ host\r\n", i + 1, priority, PL_FMT(c->ip), c->port);
    }
    pl_buf_z(b, "a=end-of-candidates\r\n");
}

static void write_credentials(struct pl_buf *b, const struct sdp_ours *ours)
{
    pl_buf_fmt(b, "a=ice-ufrag:%.*s\r\na=ice-pwd:%.*s\r\n", PL_FMT(ours->ufrag), PL_FMT(ours->pwd));
}

static void write_transport(struct writer *w)
{
    write_credentials(&w->b, w->ours);
    pl_buf_z(&w->b, "a=fingerprint:sha-256 ");
    for (size_t i = 0; i < sizeof w->ours->fingerprint; i++)
        pl_buf_fmt(&w->b, "%s%02X", i ? ":" : "", w->ours->fingerprint[i]);
    pl_buf_fmt(&w->b, "\r\na=setup:%s\r\n", w->agreed->active ? "active" : "passive");
}

static void write_feedback(struct writer *w, size_t at, const struct sdp_codec *c)
{
    unsigned agreed = w->offer->lines[at].kind == SDP_VIDEO ? w->agreed->feedback : w->agreed->feedback & SDP_TRANSPORT_CC;
    if (w->plan->lines[at].ext[SDP_EXT_TRANSPORT_CC] == 0)
        agreed &= ~(unsigned)SDP_TRANSPORT_CC;
    static const struct {
        unsigned bit;
        const char *text;
    } kinds[] = { { SDP_NACK, "nack" }, { SDP_PLI, "nack pli" }, { SDP_FIR, "ccm fir" }, { SDP_REMB, "goog-remb" }, { SDP_TRANSPORT_CC, "transport-cc" } };
    for (size_t i = 0; i < PL_COUNT(kinds); i++)
        if (c->feedback & agreed & kinds[i].bit)
            pl_buf_fmt(&w->b, "a=rtcp-fb:%u %s\r\n", c->payload_type, kinds[i].text);
}

static void write_codec(struct writer *w, size_t at, const struct sdp_codec *c)
{
    static const char *const names[] = { [SDP_OPUS] = "opus/48000/2", [SDP_PCMU] = "PCMU/8000", [SDP_PCMA] = "PCMA/8000", [SDP_H264] = "H264/90000", [SDP_RTX] = "rtx/90000" };
    pl_buf_fmt(&w->b, "a=rtpmap:%u %s\r\n", c->payload_type, names[c->name]);
    if (c->name != SDP_RTX)
        write_feedback(w, at, c);
    if (c->name == SDP_H264) {
        pl_buf_fmt(&w->b, "a=fmtp:%u %spacketization-mode=1", c->payload_type, c->level_asymmetry ? "level-asymmetry-allowed=1;" : "");
        if (c->profile_said)
            pl_buf_fmt(&w->b, ";profile-level-id=%06x", c->profile);
        pl_buf_z(&w->b, "\r\n");
    } else if (c->name == SDP_RTX)
        pl_buf_fmt(&w->b, "a=fmtp:%u apt=%u\r\n", c->payload_type, c->apt);
    else if (c->name == SDP_OPUS)
        pl_buf_fmt(&w->b, "a=fmtp:%u minptime=10;useinbandfec=1\r\n", c->payload_type);
}

static void write_ssrc(struct writer *w, uint32_t ssrc, const char *track)
{
    pl_buf_fmt(&w->b, "a=ssrc:%u cname:%.*s\r\na=ssrc:%u msid:%.*s %s\r\n", ssrc, PL_FMT(w->ours->cname), ssrc, PL_FMT(w->ours->msid), track);
}

static void write_streams(struct writer *w, const struct sdp_line *l)
{
    const char *track = l->kind == SDP_VIDEO ? "video" : "audio";
    pl_buf_fmt(&w->b, "a=msid:%.*s %s\r\n", PL_FMT(w->ours->msid), track);
    if (l->kind == SDP_AUDIO) {
        write_ssrc(w, w->ours->audio_ssrc, track);
        return;
    }
    if (w->agreed->rtx)
        pl_buf_fmt(&w->b, "a=ssrc-group:FID %u %u\r\n", w->ours->video_ssrc, w->ours->rtx_ssrc);
    write_ssrc(w, w->ours->video_ssrc, track);
    if (w->agreed->rtx)
        write_ssrc(w, w->ours->rtx_ssrc, track);
}

static void write_mid(struct writer *w, const struct sdp_line *l)
{
    if (l->mid.p)
        pl_buf_fmt(&w->b, "a=mid:%.*s\r\n", PL_FMT(l->mid));
}

static void write_served(struct writer *w, size_t at)
{
    static const char *const ways[] = { "inactive", "sendonly", "recvonly", "sendrecv" };
    const struct sdp_line *l = &w->offer->lines[at];
    const struct sdp_plan_line *p = &w->plan->lines[at];
    const struct sdp_candidate *to = &w->ours->candidates[0];
    pl_buf_fmt(&w->b, "m=%.*s %u %.*s", PL_FMT(l->media), to->port, PL_FMT(l->proto));
    for (size_t i = 0; i < p->n; i++)
        pl_buf_fmt(&w->b, " %u", p->codecs[i]->payload_type);
    pl_buf_fmt(&w->b, "\r\nc=IN %s %.*s\r\n", is_v6(to->ip) ? "IP6" : "IP4", PL_FMT(to->ip));
    write_mid(w, l);
    write_transport(w);
    pl_buf_fmt(&w->b, "a=%s\r\na=rtcp-mux\r\n", ways[(p->sends ? 1 : 0) | (p->receives ? 2 : 0)]);
    if (l->rtcp_rsize)
        pl_buf_z(&w->b, "a=rtcp-rsize\r\n");
    for (enum sdp_ext e = 0; e < SDP_EXTS; e++)
        if (p->ext[e])
            pl_buf_fmt(&w->b, "a=extmap:%u %s\r\n", p->ext[e], sdp_ext_uri(e));
    for (size_t i = 0; i < p->n; i++)
        write_codec(w, at, p->codecs[i]);
    if (p->sends)
        write_streams(w, l);
    if (at == w->plan->tagged)
        write_candidates(&w->b, w->ours);
}

static void write_refused(struct writer *w, const struct sdp_line *l)
{
    pl_buf_fmt(&w->b, "m=%.*s 0 %.*s %.*s\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\n", PL_FMT(l->media), PL_FMT(l->proto), PL_FMT(l->format));
    write_mid(w, l);
}

/* The tagged line first, then the others in the order of the offer (RFC 8843, 7.3). */
static void write_group(struct writer *w)
{
    if (!w->offer->lines[w->plan->tagged].bundle)
        return;
    pl_buf_fmt(&w->b, "a=group:BUNDLE %.*s", PL_FMT(w->offer->lines[w->plan->tagged].mid));
    for (size_t i = 0; i < w->offer->n_lines; i++)
        if (i != w->plan->tagged && sdp_served(&w->plan->lines[i]))
            pl_buf_fmt(&w->b, " %.*s", PL_FMT(w->offer->lines[i].mid));
    pl_buf_z(&w->b, "\r\n");
}

enum pl_err sdp_answer(struct pl_arena *a, const struct sdp_offer *offer, const struct sdp_ours *ours, struct sdp_agreed *ret_agreed, struct pl_str *ret_text,
                       struct pl_fail *reterr)
{
    struct sdp_plan plan;
    struct sdp_agreed agreed;
    enum pl_err e = sdp_choose(offer, ours, &plan, &agreed, reterr);
    if (e != PL_OK)
        return e;
    struct writer w = { pl_buf_init(a, ANSWER_MAX), offer, ours, &plan, &agreed };
    pl_buf_fmt(&w.b, "v=0\r\no=- %llu %llu IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", (unsigned long long)ours->session_id, (unsigned long long)ours->version);
    write_group(&w);
    pl_buf_z(&w.b, "a=ice-lite\r\n");
    if (offer->trickle)
        pl_buf_z(&w.b, "a=ice-options:trickle\r\n");
    for (size_t i = 0; i < offer->n_lines; i++)
        if (sdp_served(&plan.lines[i]))
            write_served(&w, i);
        else
            write_refused(&w, &offer->lines[i]);
    if ((e = pl_buf_err(&w.b)) != PL_OK)
        return e;
    *ret_agreed = agreed;
    *ret_text = pl_buf_view(&w.b);
    return PL_OK;
}

enum pl_err sdp_answer_fragment(struct pl_arena *a, const struct sdp_fragment *f, const struct sdp_ours *ours, struct pl_str *ret_text)
{
    struct pl_buf b = pl_buf_init(a, 2 * ANSWER_MAX);
    pl_buf_z(&b, "a=ice-lite\r\n");
    if (f->group.p)
        pl_buf_fmt(&b, "a=group:%.*s\r\n", PL_FMT(f->group));
    if (f->media.p)
        pl_buf_fmt(&b, "m=%.*s 9 %.*s %.*s\r\n", PL_FMT(f->media), PL_FMT(f->proto), PL_FMT(f->format));
    else
        pl_buf_z(&b, "m=audio 9 RTP/AVP 0\r\n"); /* RFC 8840, 4.1: a line that stands for any */
    if (f->mid.p)
        pl_buf_fmt(&b, "a=mid:%.*s\r\n", PL_FMT(f->mid));
    write_credentials(&b, ours);
    write_candidates(&b, ours);
    enum pl_err e = pl_buf_err(&b);
    if (e == PL_OK)
        *ret_text = pl_buf_view(&b);
    return e;
}
