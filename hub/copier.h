/* copier.h - a source whose coded frames are handed on as they are (`copy:` before a file or an rtsp:// address): no picture is decoded, and no CPU spent.
 *
 * The source must be H.264 without B-frames; sound goes along when it is Opus, else there is none. Frames start at a key frame, and parameter sets stand in front
 * of each. Nobody can ask such a source for a key frame, or for another bitrate: the hub says so (`can: []`), and the relay starts viewers from its ring.
 * Not here: pace (camera.h).  Threads: one at a time; `stop` from any.  Memory: owned until copier_close.
 *     e = copier_open("copy:rtsp://camera.local/stream", &stop, &copier, &fail);
 *     while ((e = copier_next(copier, &frame)) == PL_OK) send(&frame);
 */
#pragma once
#include "coder.h"
#include <stdatomic.h>

/* Whether a camera's source is to be copied. */
static inline bool copier_wanted(const char *source) { return pl_str_starts(pl_str_of(source), PL_STR("copy:")); }

struct copier;
/* `what`: with its `copy:`. PL_IO: cannot be opened. PL_UNSUPPORTED_MEDIA: not H.264, or with B-frames. */
PL_MUST enum pl_err copier_open(const char *what, const atomic_bool *stop, struct copier **ret, struct pl_fail *reterr);
/* The next coded frame; its bytes are valid until the next call. PL_IO: the camera is gone; a file begins again. PL_UNSUPPORTED_MEDIA: a B-frame came after all. */
PL_MUST enum pl_err copier_next(struct copier *c, struct camera_frame *ret);
/* Whether reading keeps the pace (a camera), or the caller must (a file). */
bool copier_live(const struct copier *c);
/* Takes NULL; returns NULL. */
struct copier *copier_close(struct copier *c);
