/* copier.h - a source whose coded frames are handed on as they are (`copy:` before a file or an rtsp:// address): no picture is decoded, and no CPU spent.
 *
 * The source must be H.264 without B slices; sound goes along when it is Opus, else there is none. Frames start at a key frame, and parameter sets stand in front
 * of each. Nobody can ask such a source for a key frame, or for another bitrate: the hub says so (`can: []`), and the relay starts viewers from its ring.
 * Not here: pace (pace.h).  Threads: one at a time; `stop` from any.  Memory: owned until source_close.
 *     e = copier_open("copy:rtsp://camera.local/stream", &stop, &source, &fail);
 */
#pragma once
#include "source.h"

/* Whether a camera's source is to be copied. */
static inline bool copier_wanted(const char *source) { return pl_str_starts(pl_str_of(source), PL_STR("copy:")); }

/* `what`: with its `copy:`. PL_IO: cannot be opened. PL_UNSUPPORTED_MEDIA: not H.264, or with B-frames; source_next says that too when one comes after all. */
PL_MUST enum pl_err copier_open(const char *what, const atomic_bool *stop, struct source **ret, struct pl_fail *reterr);
