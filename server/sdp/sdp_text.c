#include "sdp_text.h"
#include <errno.h>
#include <sys/types.h>
/* The headers must see what the library was built with, or its structures and its bool have other sizes. */
#define HAVE_STDBOOL_H 1
#define HAVE_INTTYPES_H 1
#define HAVE_INET6 1
#include <re_types.h>
#include <re_fmt.h>
#include <re_mem.h>
#include <re_mbuf.h>
#include <re_list.h>
#include <re_sa.h>
#include <re_sdp.h>

enum { TEXT_LINES_MAX = 2048, M_LINE_MAX = 1024 };

static const struct {
    enum pl_err error;
    const char *name, *sentence;
} reasons[] = {
    [SDP_TOO_LONG] = { PL_INVALID_REQUEST, "too_long", "The SDP has more than 32,768 bytes." },
    [SDP_TOO_MANY] = { PL_INVALID_REQUEST, "too_many", "The SDP has more than 16 media lines, 128 formats in one of them, three fingerprints, or 2,048 lines in all." },
    [SDP_MALFORMED] = { PL_INVALID_REQUEST, "malformed", "This is not an SDP text (RFC 8866)." },
    [SDP_TRANSPORT] = { PL_OFFER_REFUSED, "transport", "Media must be offered as UDP/TLS/RTP/SAVPF: SRTP with keys of DTLS." },
    [SDP_SDES] = { PL_OFFER_REFUSED, "sdes", "Keys in the SDP (a=crypto) are not taken: offer DTLS-SRTP." },
    [SDP_NO_ICE] = { PL_OFFER_REFUSED, "no_ice", "The offer has no ice-ufrag and ice-pwd." },
    [SDP_ICE_UFRAG] = { PL_OFFER_REFUSED, "ice_ufrag", "The ice-ufrag must be 4 to 32, the ice-pwd 22 to 256 letters, digits, + or /." },
    [SDP_ICE_LITE] = { PL_OFFER_REFUSED, "ice_lite", "Both sides are ICE-lite: nobody would send checks." },
    [SDP_NO_FINGERPRINT] = { PL_OFFER_REFUSED, "no_fingerprint", "The offer has no fingerprint of a certificate: DTLS-SRTP needs one." },
    [SDP_FINGERPRINT_HASH] = { PL_OFFER_REFUSED, "fingerprint_hash", "The fingerprint of the certificate must be made with sha-256." },
    [SDP_SETUP] = { PL_OFFER_REFUSED, "setup", "a=setup must be actpass, active or passive." },
    [SDP_NO_RTCP_MUX] = { PL_OFFER_REFUSED, "no_rtcp_mux", "Each media line must offer a=rtcp-mux: there is one port." },
    [SDP_NO_BUNDLE] = { PL_OFFER_REFUSED, "no_bundle", "The media lines must be in one BUNDLE group: there is one port." },
    [SDP_DIRECTION] = { PL_OFFER_REFUSED, "direction", "The direction of the video line does not fit: a viewer receives, a publisher sends." },
    [SDP_NO_MEDIA] = { PL_OFFER_REFUSED, "no_media", "The offer has no video or audio line that can be served." },
    [SDP_NO_H264] = { PL_UNSUPPORTED_MEDIA, "no_h264", "The video line does not offer H.264." },
    [SDP_NO_MODE_1] = { PL_UNSUPPORTED_MEDIA, "no_packetization_mode_1", "H.264 is offered without packetization-mode=1." },
    [SDP_NO_AUDIO_CODEC] = { PL_UNSUPPORTED_MEDIA, "no_audio_codec", "The audio line offers no codec that the camera has." },
};

enum pl_err sdp_refuse(struct pl_fail *reterr, enum sdp_reason why)
{
    return pl_fail_field(reterr, reasons[why].error, reasons[why].name, "%s", reasons[why].sentence);
}

bool sdp_ice_chars(struct pl_str s, size_t lo, size_t hi)
{
    if (s.n < lo || s.n > hi)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/'))
            return false;
    }
    return true;
}

struct pl_str sdp_attr_find(const struct sdp_attrs *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (pl_str_eqz(l->v[i].name, name))
            return l->v[i].value;
    return PL_STR_NONE;
}

/* What the parser does not bound itself: it makes an object for each attribute and format. */
static bool bounded(struct pl_str text, enum sdp_reason *ret_why)
{
    unsigned lines = 0, media = 0;
    if (text.n > SDP_TEXT_MAX) {
        *ret_why = SDP_TOO_LONG;
        return false;
    }
    for (struct pl_str rest = text; rest.n > 0;) {
        struct pl_str line = pl_str_split(rest, '\n', &rest);
        bool m = pl_str_starts(line, PL_STR("m="));
        if (++lines > TEXT_LINES_MAX || (m && (++media > SDP_LINES_MAX || line.n > M_LINE_MAX))) {
            *ret_why = SDP_TOO_MANY;
            return false;
        }
        for (size_t i = 0; i < line.n; i++)
            /* A CR in the middle would be an end of line to the parser, and none to the count. */
            if (((unsigned char)line.p[i] < 0x20 && line.p[i] != '\t' && !(line.p[i] == '\r' && i + 1 == line.n)) || line.p[i] == 0x7f) {
                *ret_why = SDP_MALFORMED;
                return false;
            }
    }
    return true;
}

struct copy {
    struct pl_arena *a;
    struct sdp_attrs *to;
    size_t n;
};

static bool count_attr(const char *name, const char *value, void *arg)
{
    struct copy *c = arg;
    (void)name;
    (void)value;
    c->n++;
    return false;
}

static bool copy_attr(const char *name, const char *value, void *arg)
{
    struct copy *c = arg;
    c->to->v[c->to->n++] = (struct sdp_attr){ pl_str_dup(c->a, pl_str_of(name)), pl_str_dup(c->a, pl_str_of(value)) };
    return false;
}

static enum pl_err copy_attrs(struct pl_arena *a, const struct sdp_session *session, const struct sdp_media *media, struct sdp_attrs *ret)
{
    struct copy c = { a, ret, 0 };
    if (media)
        sdp_media_rattr_apply(media, NULL, count_attr, &c);
    else
        sdp_session_rattr_apply(session, NULL, count_attr, &c);
    *ret = (struct sdp_attrs){ 0, PL_NEW_ARRAY(a, c.n + 1, struct sdp_attr) };
    if (!ret->v)
        return PL_NO_MEMORY;
    if (media)
        sdp_media_rattr_apply(media, NULL, copy_attr, &c);
    else
        sdp_session_rattr_apply(session, NULL, copy_attr, &c);
    return pl_arena_err(a);
}

static struct pl_str dup(struct pl_arena *a, const char *z) { return z ? pl_str_dup(a, pl_str_of(z)) : PL_STR_NONE; }

static enum pl_err copy_line(struct pl_arena *a, const struct sdp_media *m, struct sdp_text_line *ret, struct pl_fail *reterr)
{
    /* The parser tells directions as the answerer's. */
    static const unsigned ways[] = { [SDP_INACTIVE] = 0, [SDP_RECVONLY] = SDP_PEER_SENDS, [SDP_SENDONLY] = SDP_PEER_RECEIVES, [SDP_SENDRECV] = SDP_PEER_SENDS | SDP_PEER_RECEIVES };
    const struct list *formats = sdp_media_format_lst(m, false);
    size_t n = list_count(formats);
    if (n > SDP_CODECS_MAX)
        return sdp_refuse(reterr, SDP_TOO_MANY);
    ret->media = dup(a, sdp_media_name(m));
    ret->proto = dup(a, sdp_media_proto(m));
    ret->port_zero = sdp_media_rport(m) == 0;
    ret->way = ways[sdp_media_rdir(m)];
    ret->codecs = PL_NEW_ARRAY(a, n + 1, struct sdp_text_codec);
    if (!ret->codecs)
        return PL_NO_MEMORY;
    for (const struct le *le = list_head(formats); le; le = le->next) {
        const struct sdp_format *f = le->data;
        ret->codecs[ret->n_codecs++] = (struct sdp_text_codec){ dup(a, f->id), dup(a, f->name), dup(a, f->params), f->srate, f->ch };
    }
    return copy_attrs(a, NULL, m, &ret->attrs);
}

static enum pl_err copy_all(struct pl_arena *a, const struct sdp_session *session, struct sdp_text *ret, struct pl_fail *reterr)
{
    const struct list *lines = sdp_session_medial(session, false);
    struct sdp_text t = { .lines = PL_NEW_ARRAY(a, list_count(lines) + 1, struct sdp_text_line) };
    enum pl_err e = t.lines ? copy_attrs(a, session, NULL, &t.attrs) : PL_NO_MEMORY;
    for (const struct le *le = list_head(lines); le && e == PL_OK; le = le->next)
        e = copy_line(a, le->data, &t.lines[t.n_lines++], reterr);
    if (e == PL_OK)
        *ret = t;
    return e;
}

enum pl_err sdp_text_read(struct pl_arena *a, struct pl_str text, struct sdp_text *ret, struct pl_fail *reterr)
{
    struct sdp_session *session = NULL;
    enum sdp_reason why;
    struct sa nowhere;
    if (!bounded(text, &why))
        return sdp_refuse(reterr, why);
    sa_init(&nowhere, AF_INET);
    struct mbuf *m = mbuf_alloc(text.n + 2);
    int failed = m ? mbuf_write_mem(m, (const uint8_t *)(text.p ? text.p : ""), text.n) : ENOMEM;
    if (!failed)
        failed = mbuf_write_mem(m, (const uint8_t *)"\r\n", 2); /* some senders leave the last one out */
    if (!failed)
        failed = sdp_session_alloc(&session, &nowhere);
    if (!failed) {
        mbuf_set_pos(m, 0);
        failed = sdp_decode(session, m, true);
    }
    enum pl_err e = failed == ENOMEM ? PL_NO_MEMORY : failed ? sdp_refuse(reterr, SDP_MALFORMED) : copy_all(a, session, ret, reterr);
    mem_deref(session);
    mem_deref(m);
    return e;
}
