/* stream_ends.h - what test_sender.c and test_stream.c give to both ends of a session: keys, sources, credentials. */
#pragma once
#include "ice_lite.h"
#include "log.h"
#include "rtcp.h"
#include "secure.h"
#include "srtp.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const uint8_t key_up[30] = "hub to relay, thirty bytes....", key_down[30] = "relay to hub, thirty bytes....";
static const uint8_t key_view[30] = "relay to viewer, thirty bytes.", key_say[30] = "viewer to relay, thirty bytes.";
enum { VIDEO = 1111, AUDIO = 2222, VIDEO_PT = 96, AUDIO_PT = 111, RELAY = 3333 };

static struct ice_cred cred_of(const char *ufrag)
{
    struct ice_cred c;
    assert_int_equal(ice_cred_set(&c, pl_str_of(ufrag), PL_STR("a password of some length"), PL_STR("peerpeer")), PL_INVALID_REQUEST); /* blanks are no ice-chars */
    assert_int_equal(ice_cred_set(&c, pl_str_of(ufrag), PL_STR("ApasswordOfSomeLength123"), PL_STR("peerpeer")), PL_OK);
    return c;
}
static struct pl_str key_str(const uint8_t key[30], enum pl_srtp_suite suite) { return (struct pl_str){ (const char *)key, pl_srtp_key_bytes(suite) }; }

static int set_up(void **state)
{
    (void)state;
    pl_log_level(PL_ERROR);
    return secure_init() == PL_OK ? 0 : -1;
}
