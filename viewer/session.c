#include "session.h"
#include "json.h"
#include "secure.h"

#define SSRC_MAX INT64_C(0xffffffff)

struct track_doc { int64_t ssrc, payload_type; struct pl_str codec; int64_t clock_rate, channels; };
struct ice_doc { struct pl_str ufrag, pwd, peer_ufrag; };
struct keys_doc { struct pl_str send, receive; };
struct srtp_doc {
    struct pl_str host, suite;
    int64_t port;
    struct ice_doc ice;
    struct keys_doc keys;
    struct track_doc video, audio;
};
static const struct json_field track_fields[] = {
    JSON_F(struct track_doc, ssrc, J_INT, J_REQUIRED, .lo = 1, .hi = SSRC_MAX), JSON_F(struct track_doc, payload_type, J_INT, J_REQUIRED, .lo = 0, .hi = 127),
    JSON_F(struct track_doc, codec, J_STR, J_REQUIRED, .lo = 1, .hi = 32), JSON_F(struct track_doc, clock_rate, J_INT, J_OPTIONAL, .lo = 1, .hi = 192000),
    JSON_F(struct track_doc, channels, J_INT, J_OPTIONAL, .lo = 1, .hi = 2), J_END
};
static const struct json_field ice_fields[] = {
    JSON_F(struct ice_doc, ufrag, J_STR, J_REQUIRED), JSON_F(struct ice_doc, pwd, J_STR, J_REQUIRED), JSON_F(struct ice_doc, peer_ufrag, J_STR, J_REQUIRED), J_END
};
static const struct json_field key_fields[] = {
    JSON_F(struct keys_doc, send, J_B64, J_REQUIRED, .lo = 28, .hi = PL_SRTP_KEY_MAX), JSON_F(struct keys_doc, receive, J_B64, J_REQUIRED, .lo = 28, .hi = PL_SRTP_KEY_MAX), J_END
};
static const struct json_field srtp_fields[] = {
    JSON_F(struct srtp_doc, host, J_STR, J_REQUIRED, .lo = 1, .hi = SESSION_HOST - 1), JSON_F(struct srtp_doc, port, J_INT, J_REQUIRED, .lo = 1, .hi = 65535),
    JSON_F(struct srtp_doc, suite, J_STR, J_REQUIRED), JSON_F(struct srtp_doc, ice, J_OBJECT, J_REQUIRED, .fields = ice_fields),
    JSON_F(struct srtp_doc, keys, J_OBJECT, J_REQUIRED, .fields = key_fields), JSON_F(struct srtp_doc, video, J_OBJECT, J_REQUIRED, .fields = track_fields),
    JSON_F(struct srtp_doc, audio, J_OBJECT, J_REQUIRED, .fields = track_fields), J_END
};

static enum pl_err take(const struct srtp_doc *d, struct session *s, struct pl_fail *f)
{
    enum pl_err e = pl_srtp_suite_of(d->suite, &s->suite);
    if (e != PL_OK || !pl_str_eqz(d->video.codec, "H264") || !pl_str_eq_nocase(d->audio.codec, PL_STR("opus")))
        return pl_fail(f, PL_UNSUPPORTED_MEDIA, "this viewer speaks H264 and opus, under AES-128-GCM or AES_CM_128_HMAC_SHA1_80");
    size_t n = pl_srtp_key_bytes(s->suite);
    if (d->keys.send.n != n || d->keys.receive.n != n)
        return pl_fail_field(f, PL_INVALID_REQUEST, "keys", "keys of %zu bytes are expected", n);
    if ((e = ice_cred_set(&s->ice, d->ice.ufrag, d->ice.pwd, d->ice.peer_ufrag)) != PL_OK)
        return pl_fail_field(f, e, "ice", "these are no ICE credentials");
    memcpy(s->send_key, d->keys.send.p, n);
    memcpy(s->receive_key, d->keys.receive.p, n);
    memcpy(s->host, d->host.p, d->host.n);
    s->port = (uint16_t)d->port;
    s->video = (struct session_track){ d->video.ssrc, d->video.payload_type, 90000, 0 };
    s->audio = (struct session_track){ d->audio.ssrc, d->audio.payload_type, 48000, d->audio.channels ? d->audio.channels : 2 };
    return PL_OK;
}

enum pl_err session_parse(struct pl_str text, struct session *ret, struct pl_fail *reterr)
{
    PL_CLEANUP(pl_arena_freep) struct pl_arena *a = pl_arena_new(256 * 1024);
    PL_CLEANUP(json_doc_freep) struct json_doc *doc = NULL;
    struct srtp_doc d = { 0 };
    struct session s = { 0 };
    if (!a)
        return PL_NO_MEMORY;
    enum pl_err e = json_parse(text, &doc, reterr);
    if (e != PL_OK)
        return e;
    struct pl_str inner = json_doc_raw(doc, "srtp", a);
    e = json_take(srtp_fields, JSON_LENIENT, inner.p ? inner : text, a, &d, reterr);
    if (e == PL_OK)
        e = take(&d, &s, reterr);
    if (e == PL_OK)
        *ret = s;
    session_wipe(&s);
    return e;
}

void session_wipe(struct session *s) { secure_wipe(s, sizeof *s); }
