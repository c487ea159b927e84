/* relay_wire.h - the ends of a measurement's hubs and viewers: a socket, and SRTP in the one direction that is looked at. Either a node that knows all legs by number
 * (relay_bench.h), or a peer that a script has wired: it says over stdin where the far end of each leg is and under which key.
 */
#pragma once
#include "relay_bench.h"
#include "clock.h"

struct wire {
    int fd;
    struct pl_srtp *srtp;
    uint32_t ssrc;
    struct ice_cred ice; /**< ufrag "": the far end wants no checks */
    enum pl_srtp_suite suite;
};
/* A check that nominates, where the far end wants one. */
void wire_check(const struct wire *w);
/* Of the node at this port of loopback: source (viewer -1) or viewer of a session. Checks once; a viewer waits for the answer. False: none came in 5 s. */
bool wire_native(uint16_t port, unsigned session, int viewer, struct wire *ret);

/* Legs that a script wires. First all are bound:   prints "FINGERPRINT" (hex, of our certificate), then "PORT" of each leg, in the order of `wires`.
 * Then one line each, in the same order:           "srtp HOST PORT SUITE KEY SSRC" (key in hex; SSRC of what comes or goes)
 *                                                  "webrtc HOST PORT UFRAG PWD FINGERPRINT SSRC" (theirs; they wait to be nominated, or with UFRAG - have no ICE, and take our ClientHello; GCM)
 * False: a line that says nothing, or an end that did not answer. */
bool wire_told(struct wire *const *wires, const bool *sends, unsigned n);
/* What we have in all SDP. */
#define WIRE_UFRAG "benchload"
#define WIRE_PWD "0123456789abcdefghijklmn"
