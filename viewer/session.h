/* session.h - what the viewer is told about its half of a live session: the `srtp` object of the live answer.
 *
 * Takes the object itself, or the whole answer of POST /v1/devices/{id}/live with the object in it. Keys are wiped in session_wipe.
 * Not here: asking for it (the app, or porchctl). Threads: any.  Memory: a plain struct.
 *     e = session_parse(text, &session, &fail);
 *     session_wipe(&session);
 */
#pragma once
#include "ice_lite.h"
#include "srtp.h"

enum { SESSION_HOST = 256 };
struct session_track {
    int64_t ssrc, payload_type, clock_rate, channels; /**< channels 0: video */
};
struct session {
    char host[SESSION_HOST];
    uint16_t port;
    enum pl_srtp_suite suite;
    struct ice_cred ice;
    uint8_t send_key[PL_SRTP_KEY_MAX], receive_key[PL_SRTP_KEY_MAX]; /**< pl_srtp_key_bytes(suite) of each */
    struct session_track video, audio;
};
/* PL_INVALID_REQUEST with the field, PL_UNSUPPORTED_MEDIA for other codecs and ciphers. */
PL_MUST enum pl_err session_parse(struct pl_str text, struct session *ret, struct pl_fail *reterr);
void session_wipe(struct session *s);
