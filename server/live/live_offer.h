/* live_offer.h - private to live/: what WHEP and WHIP have in common (RFC 9725). An offer comes, the relay is asked once, the answer goes back; on the address of the answer
 * candidates are taken, which are not needed, because it is the peer that checks us, and ICE is restarted: the relay gets new credentials, and the old ones hold until the
 * first good check with the new. Who may, and what the relay is told, is the caller's: live_whep.c, live_whip.c.
 * Threads: the call's.  Memory: the call's arena.
 */
#pragma once
#include "live_priv.h"
#include "live_web.h"

struct live_offer {
    struct http_call *c;
    const struct live_ctx *ctx;
    struct live_whose whose;
    struct live_way way;                    /* to what the offer opens, or has opened */
    bool publisher;                         /* WHIP; else WHEP */
    bool whole;                             /* for `find`: the offer can be read */
    struct pl_str host, fingerprint;        /* of the relay: live_offer_relay */
    int32_t port;
    struct pl_str video, audio, talk;       /* codecs of the camera, as the hub named them */
    enum pl_err (*find)(struct db_tx *tx, struct live_offer *self, struct pl_fail *reterr); /* in a transaction of its own: who may, way, relay, codecs */
    enum pl_err (*open)(struct live_offer *self, const struct live_web *web, const struct sdp_agreed *agreed, struct pl_fail *reterr); /* asks the relay */
};
/* For `find`: where the relay's media are. PL_NO_RELAY: it is not there any more. */
PL_MUST enum pl_err live_offer_relay(struct db_tx *tx, struct live_offer *o, struct pl_uuid relay_id);
/* Reads the offer, and answers it with 201. Somebody else's session is not there, whatever is offered to it: what `find` says comes before what is wrong with the offer (S-S10). */
PL_MUST enum pl_err live_offer_answer(struct live_offer *o, struct pl_fail *reterr);
/* PATCH of o->way: 204 for candidates, 200 with new credentials for a restart. */
PL_MUST enum pl_err live_offer_fragment(struct live_offer *o, struct pl_fail *reterr);

#define LIVE_OFFER_BODY HTTP_RAW_BODY("application/sdp", SDP_TEXT_MAX)
#define LIVE_FRAGMENT_TYPE "application/trickle-ice-sdpfrag"
#define LIVE_FRAGMENT_BODY HTTP_RAW_BODY(LIVE_FRAGMENT_TYPE, SDP_TEXT_MAX)
