/* What the lines of an offer mean to us. */
#include "sdp_text.h"

enum { MID_MAX = 32, PWD_MAX = 256 };

static const char *const ext_uris[SDP_EXTS] = {
    [SDP_EXT_TRANSPORT_CC] = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    [SDP_EXT_ABS_SEND_TIME] = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    [SDP_EXT_AUDIO_LEVEL] = "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    [SDP_EXT_MID] = "urn:ietf:params:rtp-hdrext:sdes:mid",
};

const char *sdp_ext_uri(enum sdp_ext e) { return ext_uris[e]; }

/* A token of RFC 8866, of a length that can be echoed. */
static bool is_token(struct pl_str s)
{
    if (s.n == 0 || s.n > MID_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] > '~' || strchr("\"(),/:;<=>?@[\\]", s.p[i]))
            return false;
    return true;
}

/* "sha-256 AB:CD:…" */
static bool read_fingerprint(struct pl_str value, uint8_t out[32])
{
    struct pl_str hex, hash = pl_str_split(value, ' ', &hex);
    hex = pl_str_trim(hex);
    if (!pl_str_eq_nocase(hash, PL_STR("sha-256")) || hex.n != 32 * 3 - 1)
        return false;
    for (size_t i = 0; i < 32; i++)
        if ((i > 0 && hex.p[3 * i - 1] != ':') || pl_unhex((struct pl_str){ hex.p + 3 * i, 2 }, out + i, 1) != PL_OK)
            return false;
    return true;
}

/* The same one may be said again. */
static void add_fingerprint(struct sdp_transport *t, const uint8_t print[32])
{
    for (unsigned i = 0; i < t->fingerprints_n && i < SDP_FINGERPRINTS; i++)
        if (memcmp(t->fingerprints[i], print, 32) == 0)
            return;
    if (t->fingerprints_n < SDP_FINGERPRINTS)
        memcpy(t->fingerprints[t->fingerprints_n], print, 32);
    t->fingerprints_n++;
}

static bool read_transport(const struct sdp_attrs *attrs, struct sdp_transport *t)
{
    static const struct {
        const char *name;
        enum sdp_setup setup;
    } setups[] = { { "actpass", SDP_ACTPASS }, { "active", SDP_ACTIVE }, { "passive", SDP_PASSIVE }, { "holdconn", SDP_HOLDCONN } };
    struct pl_str setup = sdp_attr_find(attrs, "setup");
    t->ufrag = sdp_attr_find(attrs, "ice-ufrag");
    t->pwd = sdp_attr_find(attrs, "ice-pwd");
    for (size_t i = 0; i < attrs->n; i++)
        if (pl_str_eqz(attrs->v[i].name, "fingerprint")) {
            uint8_t print[32];
            t->fingerprint_there = true;
            if (read_fingerprint(attrs->v[i].value, print))
                add_fingerprint(t, print);
        }
    for (size_t i = 0; i < PL_COUNT(setups); i++)
        if (pl_str_eqz(setup, setups[i].name)) {
            t->setup_there = true;
            t->setup = setups[i].setup;
        }
    return !setup.p || t->setup_there;
}

/* One parameter of "a=1;b = 2; c". */
static bool param(struct pl_str params, const char *name, struct pl_str *ret)
{
    for (struct pl_str rest = params; rest.n > 0;) {
        struct pl_str value, p = pl_str_split(rest, ';', &rest);
        struct pl_str key = pl_str_trim(pl_str_split(p, '=', &value));
        if (pl_str_eq_nocase(key, pl_str_of(name))) {
            *ret = pl_str_trim(value);
            return true;
        }
    }
    return false;
}

static void read_h264(struct pl_str params, struct sdp_codec *c)
{
    struct pl_str v;
    uint8_t id[3];
    c->profile = 0x420010;
    if (param(params, "profile-level-id", &v) && v.n == 6 && pl_unhex(v, id, 3) == PL_OK) {
        c->profile = (uint32_t)id[0] << 16 | (uint32_t)id[1] << 8 | id[2];
        c->profile_said = true;
    }
    c->mode_1 = param(params, "packetization-mode", &v) && pl_str_eqz(v, "1");
    c->level_asymmetry = param(params, "level-asymmetry-allowed", &v) && pl_str_eqz(v, "1");
}

/* Payload types 0 and 8 need no rtpmap (RFC 3551). */
static void name_codec(const struct sdp_text_codec *t, enum sdp_kind kind, struct sdp_codec *c)
{
    static const struct {
        const char *name;
        enum sdp_kind kind;
        uint32_t clock_rate;
        uint8_t channels; /* 0: any */
        enum sdp_codec_name codec;
    } names[] = {
        { "opus", SDP_AUDIO, 48000, 2, SDP_OPUS }, { "PCMU", SDP_AUDIO, 8000, 1, SDP_PCMU }, { "PCMA", SDP_AUDIO, 8000, 1, SDP_PCMA },
        { "H264", SDP_VIDEO, 90000, 0, SDP_H264 }, { "rtx", SDP_VIDEO, 90000, 0, SDP_RTX },
    };
    c->name = SDP_OTHER_CODEC;
    c->channels = t->channels;
    if (!t->name.p && kind == SDP_AUDIO && (c->payload_type == 0 || c->payload_type == 8)) {
        c->name = c->payload_type == 0 ? SDP_PCMU : SDP_PCMA;
        c->channels = 1;
    }
    for (size_t i = 0; i < PL_COUNT(names); i++)
        if (t->name.p && names[i].kind == kind && names[i].clock_rate == t->clock_rate && (!names[i].channels || names[i].channels == t->channels) &&
            pl_str_eq_nocase(t->name, pl_str_of(names[i].name)))
            c->name = names[i].codec;
}

static void read_codecs(const struct sdp_text_line *t, struct sdp_line *l)
{
    for (size_t i = 0; i < t->n_codecs; i++) {
        struct sdp_codec c = { 0 };
        struct pl_str apt;
        uint32_t pt, repeats;
        bool twice = false;
        if (pl_parse_u32(t->codecs[i].id, 0, 127, &pt) != PL_OK)
            continue;
        c.payload_type = (uint8_t)pt;
        for (size_t k = 0; k < l->n_codecs; k++)
            twice = twice || l->codecs[k].payload_type == c.payload_type;
        name_codec(&t->codecs[i], l->kind, &c);
        if (c.name == SDP_H264)
            read_h264(t->codecs[i].params, &c);
        else if (c.name == SDP_RTX) {
            if (!param(t->codecs[i].params, "apt", &apt) || pl_parse_u32(apt, 0, 127, &repeats) != PL_OK)
                continue;
            c.apt = (uint8_t)repeats;
        }
        if (!twice)
            l->codecs[l->n_codecs++] = c;
    }
}

/* "97 nack pli", "* transport-cc" */
static void read_feedback(struct pl_str value, struct sdp_line *l)
{
    static const struct {
        const char *text;
        unsigned bit;
    } kinds[] = { { "nack", SDP_NACK }, { "nack pli", SDP_PLI }, { "ccm fir", SDP_FIR }, { "goog-remb", SDP_REMB }, { "transport-cc", SDP_TRANSPORT_CC } };
    struct pl_str what, whom = pl_str_split(value, ' ', &what);
    what = pl_str_trim(what);
    uint32_t pt = 0;
    bool all = pl_str_eqz(whom, "*");
    if (!all && pl_parse_u32(whom, 0, 127, &pt) != PL_OK)
        return;
    for (size_t k = 0; k < PL_COUNT(kinds); k++)
        for (size_t i = 0; i < l->n_codecs && pl_str_eqz(what, kinds[k].text); i++)
            if (all || l->codecs[i].payload_type == pt)
                l->codecs[i].feedback |= kinds[k].bit;
}

/* "3 urn:…", "3/recvonly urn:…" */
static void read_ext(struct pl_str value, struct sdp_line *l)
{
    struct pl_str uri, direction, id = pl_str_split(value, ' ', &uri);
    uint32_t n;
    uri = pl_str_split(pl_str_trim(uri), ' ', &(struct pl_str){ 0 });
    if (pl_parse_u32(pl_str_split(id, '/', &direction), 1, 14, &n) != PL_OK)
        return;
    for (size_t i = 0; i < SDP_EXTS; i++)
        if (l->ext[i] == n) /* an id that means two things means nothing */
            l->ext[i] = 0;
        else if (l->ext[i] == 0 && pl_str_eqz(uri, ext_uris[i]))
            l->ext[i] = (uint8_t)n;
}

static uint32_t first_number(struct pl_str *rest)
{
    uint32_t n;
    return pl_parse_u32(pl_str_split(*rest, ' ', rest), 1, UINT32_MAX, &n) == PL_OK ? n : 0;
}

static void read_attrs(const struct sdp_attrs *attrs, struct sdp_line *l)
{
    for (size_t i = 0; i < attrs->n; i++) {
        struct pl_str name = attrs->v[i].name, value = attrs->v[i].value, group;
        if (pl_str_eqz(name, "rtcp-fb"))
            read_feedback(value, l);
        else if (pl_str_eqz(name, "extmap"))
            read_ext(value, l);
        else if (pl_str_eqz(name, "rtcp-mux") || pl_str_eqz(name, "rtcp-mux-only"))
            l->rtcp_mux = true;
        else if (pl_str_eqz(name, "rtcp-rsize"))
            l->rtcp_rsize = true;
        else if (pl_str_eqz(name, "crypto"))
            l->sdes = true;
        else if (pl_str_eqz(name, "ssrc") && l->ssrc == 0)
            l->ssrc = first_number(&value);
        else if (pl_str_eqz(name, "ssrc-group") && l->rtx_ssrc == 0 && pl_str_eqz(pl_str_split(value, ' ', &group), "FID")) {
            l->ssrc = first_number(&group);
            l->rtx_ssrc = first_number(&group);
        }
    }
}

/* Which BUNDLE group has this mid, from 1. */
static int bundle_of(const struct sdp_text *t, struct pl_str mid)
{
    int group = 0;
    for (size_t i = 0; i < t->attrs.n && mid.p; i++) {
        struct pl_str rest = t->attrs.v[i].value;
        if (!pl_str_eqz(t->attrs.v[i].name, "group") || !pl_str_eqz(pl_str_split(rest, ' ', &rest), "BUNDLE"))
            continue;
        group++;
        while (rest.n > 0)
            if (pl_str_eq(pl_str_split(rest, ' ', &rest), mid))
                return group;
    }
    return 0;
}

static struct pl_str bundle_tag(const struct sdp_text *t)
{
    for (size_t i = 0; i < t->attrs.n; i++) {
        struct pl_str rest = t->attrs.v[i].value;
        if (pl_str_eqz(t->attrs.v[i].name, "group") && pl_str_eqz(pl_str_split(rest, ' ', &rest), "BUNDLE") && rest.n > 0)
            return pl_str_split(rest, ' ', &rest);
    }
    return PL_STR_NONE;
}

static bool is_dtls_rtp(struct pl_str proto)
{
    static const char *const known[] = { "UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "TCP/DTLS/RTP/SAVPF", "TCP/DTLS/RTP/SAVP", "RTP/SAVPF", "RTP/SAVP" };
    for (size_t i = 0; i < PL_COUNT(known); i++)
        if (pl_str_eqz(proto, known[i]))
            return true;
    return false;
}

static enum pl_err read_line(struct pl_arena *a, const struct sdp_text *t, const struct sdp_text_line *from, struct sdp_line *l, struct pl_fail *reterr)
{
    struct pl_str mid = sdp_attr_find(&from->attrs, "mid");
    *l = (struct sdp_line){ .media = from->media, .proto = from->proto, .way = from->way };
    if (from->n_codecs == 0 || (mid.p && !is_token(mid)) || !read_transport(&from->attrs, &l->transport))
        return sdp_refuse(reterr, SDP_MALFORMED);
    l->kind = pl_str_eqz(from->media, "audio") ? SDP_AUDIO : pl_str_eqz(from->media, "video") ? SDP_VIDEO : SDP_OTHER_KIND;
    l->format = from->codecs[0].id;
    l->mid = mid;
    l->usable = !from->port_zero || sdp_attr_find(&from->attrs, "bundle-only").p;
    l->dtls_rtp = is_dtls_rtp(from->proto);
    l->bundle = bundle_of(t, mid);
    l->codecs = PL_NEW_ARRAY(a, from->n_codecs, struct sdp_codec);
    if (!l->codecs)
        return PL_NO_MEMORY;
    if (l->kind != SDP_OTHER_KIND) {
        read_codecs(from, l);
        read_attrs(&from->attrs, l);
    }
    return PL_OK;
}

/* Two lines of one mid cannot be told apart by packets, groups or people. */
static bool mids_differ(const struct sdp_offer *o)
{
    for (size_t i = 0; i < o->n_lines; i++)
        for (size_t k = 0; k < i; k++)
            if (o->lines[i].mid.p && pl_str_eq(o->lines[i].mid, o->lines[k].mid))
                return false;
    return true;
}

enum pl_err sdp_read_offer(struct pl_arena *a, struct pl_str text, struct sdp_offer **ret, struct pl_fail *reterr)
{
    struct sdp_text t;
    enum pl_err e = sdp_text_read(a, text, &t, reterr);
    if (e != PL_OK)
        return e;
    struct sdp_offer *o = PL_NEW(a, struct sdp_offer);
    if (!o || !(o->lines = PL_NEW_ARRAY(a, t.n_lines + 1, struct sdp_line)))
        return PL_NO_MEMORY;
    if (!pl_str_starts(text, PL_STR("v=0")) || !read_transport(&t.attrs, &o->session))
        return sdp_refuse(reterr, SDP_MALFORMED);
    for (size_t i = 0; i < t.n_lines && e == PL_OK; i++)
        e = read_line(a, &t, &t.lines[i], &o->lines[o->n_lines++], reterr);
    if (e == PL_OK && !mids_differ(o))
        e = sdp_refuse(reterr, SDP_MALFORMED);
    if (e != PL_OK)
        return e;
    struct pl_str options = sdp_attr_find(&t.attrs, "ice-options");
    for (size_t i = 0; i < t.n_lines && !options.p; i++)
        options = sdp_attr_find(&t.lines[i].attrs, "ice-options");
    while (options.n > 0)
        o->trickle = pl_str_eqz(pl_str_split(options, ' ', &options), "trickle") || o->trickle;
    o->ice_lite = sdp_attr_find(&t.attrs, "ice-lite").p != NULL;
    o->bundle_tag = bundle_tag(&t);
    *ret = o;
    return PL_OK;
}

enum pl_err sdp_read_fragment(struct pl_arena *a, struct pl_str text, struct sdp_fragment *ret, struct pl_fail *reterr)
{
    struct sdp_text t;
    enum pl_err e = sdp_text_read(a, text, &t, reterr);
    if (e != PL_OK)
        return e;
    struct sdp_fragment f = { .ufrag = sdp_attr_find(&t.attrs, "ice-ufrag"), .pwd = sdp_attr_find(&t.attrs, "ice-pwd"), .group = sdp_attr_find(&t.attrs, "group") };
    for (size_t i = 0; i < t.n_lines; i++) {
        const struct sdp_text_line *l = &t.lines[i];
        if (l->n_codecs == 0)
            return sdp_refuse(reterr, SDP_MALFORMED);
        if (!f.media.p) {
            struct pl_str mid = sdp_attr_find(&l->attrs, "mid");
            if (mid.p && !is_token(mid))
                return sdp_refuse(reterr, SDP_MALFORMED);
            f.media = l->media;
            f.proto = l->proto;
            f.format = l->codecs[0].id;
            f.mid = mid;
        }
        if (!f.ufrag.p) {
            f.ufrag = sdp_attr_find(&l->attrs, "ice-ufrag");
            f.pwd = sdp_attr_find(&l->attrs, "ice-pwd");
        }
    }
    if ((f.ufrag.p || f.pwd.p) && (!sdp_ice_chars(f.ufrag, 4, 32) || !sdp_ice_chars(f.pwd, 22, PWD_MAX)))
        return sdp_refuse(reterr, SDP_ICE_UFRAG);
    *ret = f;
    return PL_OK;
}
