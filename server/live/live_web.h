/* live_web.h - private to live/: a leg by WebRTC (relay to viewer, or hub to relay): what we draw for it, how the relay is told, and the name under which a viewer comes back.
 *
 * No keys are drawn here: the two ends agree on them by DTLS. A viewer is no row. Its address carries who it is at which relay under a MAC with the client, the account and
 * the session, so that any node finds the way to it and nobody else's client has one. The same MAC makes the ETag of its ICE session (RFC 9725): who knows the
 * peer's ufrag of that session can tell the tag, so that no node keeps it.
 */
#pragma once
#include "json.h"
#include "live.h"
#include "sdp.h"

struct live_web {
    char ufrag[9], pwd[33];
    uint32_t video_ssrc, rtx_ssrc, audio_ssrc;
};
void live_web_new(struct pl_rand *rand, struct live_web *ret);

/* What the SDP has to know of us and of the camera. `host`: of the relay, an address. `audio`, `talk`: codecs as the hub named them, .p NULL: none. */
struct live_web_facts {
    const struct live_web *web;
    struct pl_str host, fingerprint; /**< fingerprint: 32 bytes */
    int32_t port;
    struct pl_str name;              /**< of the stream: a token */
    struct pl_str video, audio, talk;
    bool publisher;
};
struct sdp_ours live_web_ours(struct pl_rand *rand, const struct live_web_facts *f);

/* Members `ice`, `video`, `audio` and `webrtc` of the open object, as a relay takes them. */
void live_web_write(struct jw *w, const struct live_web *web, const struct sdp_agreed *agreed, bool publisher);
/* Member `ice` alone. */
void live_web_write_ice(struct jw *w, const struct live_web *web, struct pl_str peer_ufrag);

enum { LIVE_ICE_MARK = 8 };
struct live_way { /* to a viewer that is there already */
    struct pl_uuid viewer_id, relay_id;
    int32_t generation;
    uint8_t mark[LIVE_ICE_MARK]; /**< of the ICE session that it began with */
};
struct live_whose {
    struct pl_uuid account_id, client_id, live_id; /**< account_id: who watches; of a publisher zero */
};
void live_way_mark(const struct pl_secret *key, struct pl_uuid viewer_id, struct pl_str peer_ufrag, uint8_t ret[LIVE_ICE_MARK]);
/* The last segment of a viewer's address; .p NULL: no memory. */
struct pl_str live_way_text(struct pl_arena *a, const struct pl_secret *key, const struct live_whose *whose, const struct live_way *way);
/* PL_NOT_FOUND when it was not made for these. */
PL_MUST enum pl_err live_way_read(const struct pl_secret *key, const struct live_whose *whose, struct pl_str text, struct live_way *ret);
