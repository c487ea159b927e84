/* relay_names.h - where porchlightd is, for a relay that can no longer look it up: a locked process opens no files, so it cannot use the C library's resolver.
 *
 * An address in digits needs nothing. For a name (localhost too) a small process of the relay's own is started before any secret is read and any socket opened. It
 * knows the one name that it was started for and looks up no other, so a relay that was taken over cannot talk to the outside through it. It is asked before every
 * try to connect; with several addresses the tries take turns. When it does not answer in three seconds, the addresses of last time are used, and its answer is taken when
 * it comes: a name server may need longer. It dies with the relay.
 * Not here: connecting (link_client.h).  Threads: start on the main one before there are others, next on one thread.  Memory: the caller's struct.
 *     struct relay_names names;
 *     e = relay_names_start("ws://cloud.example:8081/relay/v1", &names, &fail);
 *     bool known = relay_names_next(&names, address);           relay_names_stop(&names);
 */
#pragma once
#include "link_client.h"

enum { RELAY_NAMES_MOST = 8 };
struct relay_names {
    int fd;        /**< to the process; -1: none is needed */
    bool asked;    /**< an answer is to come */
    unsigned n, turn;
    char addresses[RELAY_NAMES_MOST][LINK_ADDRESS];
};
/* PL_INVALID_REQUEST for a URL that is none, PL_UNAVAILABLE when the process cannot be started. A name that is not known yet is no error. */
PL_MUST enum pl_err relay_names_start(const char *url, struct relay_names *ret, struct pl_fail *reterr);
/* The address to try next; false: none is known. Waits three seconds at most. */
bool relay_names_next(struct relay_names *names, char ret_address[LINK_ADDRESS]);
/* Ends the process. Takes a struct that was never started when it is {-1}. */
void relay_names_stop(struct relay_names *names);
