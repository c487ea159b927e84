/* ice_lite.h - the answering side of ICE (RFC 8445, lite): which check is proved, what it is answered with, what it may move.
 *
 * A check is answered to where it came from. The path moves only on a check with USE-CANDIDATE, last one wins. A transaction counts once: so that a copied check neither
 * carries a path away nor passes for life, it is not believed from another address, and from its own it is answered again and nothing else (its answer may have been lost).
 * So it is with the latest ICE_SEEN transactions of a peer, more than an hour of them at one check in two seconds; what was copied longer ago is new again, and so is a copy
 * that overtakes its original. Whatever is not proved gets no answer at all (S-M1), nor does a check that is shorter than its answer.
 * Not here: finding the credentials by ufrag (relay/), keeping addresses (relay/).  Threads: one.  Memory: none.
 *     if (stun_parse(p, n, &msg) == PL_OK && ice_lite_ufrag(&msg, &ufrag) && (who = find(ufrag)))
 *         e = ice_lite_check(mac, &who->cred, &who->seen, &msg, &from, out, sizeof out, &check);
 */
#pragma once
#include "stun.h"

enum { ICE_UFRAG_MAX = 32, ICE_PWD_MAX = 64, ICE_SEEN = 2048 };

/* Credentials of one peer of ours, fixed when the session opens. */
struct ice_cred {
    char ufrag[ICE_UFRAG_MAX + 1];      /**< ours: the first half of USERNAME */
    char pwd[ICE_PWD_MAX + 1];          /**< ours: the key of MESSAGE-INTEGRITY, both ways */
    char peer_ufrag[ICE_UFRAG_MAX + 1]; /**< theirs: the second half */
};
/* PL_INVALID_REQUEST: ufrags are 4..32, the password 22..64 ice-chars (RFC 8839, 5.4). */
PL_MUST enum pl_err ice_cred_set(struct ice_cred *ret, struct pl_str ufrag, struct pl_str pwd, struct pl_str peer_ufrag);

/* The latest proved transactions of a peer, under whichever credentials; all zero: none yet. 8 KiB. */
struct ice_seen {
    uint32_t tags[ICE_SEEN]; /**< 24 bits of the transaction, 8 of where it came from; 0: none */
    unsigned next;
};
struct ice_lite_result {
    size_t answer_n; /**< bytes to send to where the check came from */
    bool again;      /**< it was answered before: nothing but the answer is to happen */
    bool nominated;  /**< USE-CANDIDATE, and not again: the path is there from now on */
};

/* The first half of a request's USERNAME. False when the message is not a check. */
bool ice_lite_ufrag(const struct stun_msg *msg, struct pl_str *ret);
/* Proves the check and writes the answer. PL_AUTH: not proved. PL_REPLAY: proved, but copied from another address. PL_PROTOCOL: proved, but the peer has our
 * role or the answer would be larger. On any error nothing is to be sent and nothing to be moved. */
PL_MUST enum pl_err ice_lite_check(struct stun_mac *mac, const struct ice_cred *cred, struct ice_seen *seen, const struct stun_msg *msg, const struct ice_addr *from,
    uint8_t *out, size_t cap, struct ice_lite_result *ret);
