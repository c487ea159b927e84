/* ice_check.h - the asking side of ICE, for hubs and native viewers: checks to one address, sent again until answered, then kept up as consent.
 *
 * Every check carries USE-CANDIDATE (the peer is ICE-lite and has one address), the first goes out at once, unanswered ones again after 100, 200, 400, 800 ms and then every
 * second; after the first answer a fresh check every 2 s, sent again each 500 ms while unanswered. No socket and no clock: ask when, ask what, tell what came.
 * Not here: SRTP, what to do when answers stay out (ice_check_last_answer says since when).  Threads: one at a time.
 *     while (ice_check_poll(c, now, buf, sizeof buf, &n) == PL_OK && n > 0) send(buf, n);
 *     if (rtp_classify(in, in_n) == RTP_CLASS_STUN) e = ice_check_input(c, now, in, in_n);
 */
#pragma once
#include "clock.h"
#include "ice_lite.h"
#include "rand.h"

struct ice_check;
/* `cred` as live.start or the viewer's answer gives it: ufrag and pwd are the relay's, peer_ufrag is one's own. `rand` stays the caller's. PL_NO_MEMORY. */
PL_MUST enum pl_err ice_check_new(const struct ice_cred *cred, struct pl_rand *rand, struct pl_mono now, struct ice_check **ret);
struct ice_check *ice_check_free(struct ice_check *c);

/* Writes a check when one is due; *ret_n is 0 when none is. `cap` at least STUN_MAX. */
PL_MUST enum pl_err ice_check_poll(struct ice_check *c, struct pl_mono now, uint8_t *out, size_t cap, size_t *ret_n);
/* When to poll next. */
struct pl_mono ice_check_due(const struct ice_check *c);
/* A STUN message that came from the relay's address. PL_OK: a proved answer to one of our checks. Anything else is to be ignored. */
PL_MUST enum pl_err ice_check_input(struct ice_check *c, struct pl_mono now, const uint8_t *p, size_t n);
/* From now on checks go somewhere else or through another interface: check at once, keep credentials. */
void ice_check_restart(struct ice_check *c, struct pl_mono now);

/* At least one answer since the start. Media may flow. */
bool ice_check_connected(const struct ice_check *c);
/* Time of the last proved answer; the start, when there was none. */
struct pl_mono ice_check_last_answer(const struct ice_check *c);
/* Round trip of the last answered check that was sent once, microseconds; -1: none yet. */
int64_t ice_check_rtt_us(const struct ice_check *c);
/* How the relay sees us; family 0 before the first answer. */
struct ice_addr ice_check_mapped(const struct ice_check *c);
