/* filler.h - frames that show nothing and weigh what they are asked to: what an uplink test sends (H.264 filler data, which every decoder skips).
 *
 * Each frame is one packet, all are of one size and evenly apart: no burst, and a count of packets is a count of bytes, whichever of them a full line drops. Never more than
 * FILLER_MOST, whoever asks.
 * Not here: where they go (stream.h): to a relay that a message of the cloud named and that answered a check, and nowhere else.  Threads: one.  Memory: owned until source_close.
 *     e = filler_open("filler:4000000", &source);
 */
#pragma once
#include "source.h"

enum { FILLER_MOST = 8000000 /* bits a second */ };
#define FILLER_PREFIX "filler:"
static inline bool filler_wanted(const char *source) { return pl_str_starts(pl_str_of(source), PL_STR(FILLER_PREFIX)); }

/* PL_INVALID_REQUEST: no rate stands there. */
PL_MUST enum pl_err filler_open(const char *what, struct source **ret);
