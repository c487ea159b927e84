/* sdp_choose.h - private to sdp/: what of an offer is served, before any text is written.
 *
 * A plan has one row for each line of the offer, in its order; rows that are not served are answered with port 0.
 */
#pragma once
#include "sdp_text.h"

struct sdp_plan_line {
    bool sends, receives;              /**< our directions; neither: not served */
    size_t n;
    const struct sdp_codec *codecs[2]; /**< in the order of the answer; rtx comes behind its video */
    uint8_t ext[SDP_EXTS];
};
struct sdp_plan {
    struct sdp_plan_line lines[SDP_LINES_MAX];
    size_t tagged; /**< the line that carries the transport of all (RFC 8843, 7.3) */
};
static inline bool sdp_served(const struct sdp_plan_line *l) { return l->sends || l->receives; }
/* Errors as sdp_answer. */
PL_MUST enum pl_err sdp_choose(const struct sdp_offer *offer, const struct sdp_ours *ours, struct sdp_plan *ret_plan, struct sdp_agreed *ret_agreed, struct pl_fail *reterr);
