/* source.h - where a camera's pictures and sound come from: the test picture, a file in a loop, an RTSP camera; decoded, or coded as they are (copier.h); or filler (filler.h).
 *
 * All yield frames with their places on one line of time (line.h). Raw ones are yuv420p pictures of one size, and blocks of 960 mono samples at 48 kHz. A file and the test
 * picture are as fast as they are read (pace.h); `live` ones keep the pace themselves, since reading waits for the camera.
 * Not here: encoding (coder.h). Threads: one at a time.  Memory: owned until source_close.
 *     e = source_open("rtsp://camera.local/stream", &stop, &source, &fail);
 *     while ((e = source_next(source, &frame)) == PL_OK) use(&frame);
 */
#pragma once
#include "coder.h"
#include <stdatomic.h>

/* The source's; valid until the next call. */
struct source_frame {
    enum camera_media media;
    AVFrame *raw;        /**< NULL: it is coded, */
    struct pl_str coded; /**< an access unit in Annex B form, or an Opus packet */
    bool key;            /**< coded: an IDR, with its parameter sets */
    int64_t pts_us;      /**< since the source began; a track's never goes back */
};

struct source;
/* What a kind of source can do. Both get the source itself. */
struct source_kind {
    enum pl_err (*next)(struct source *s, struct source_frame *ret);
    struct source *(*close)(struct source *s);
};
struct source {
    const struct source_kind *kind;
    int width, height, fps; /**< of raw pictures; fps: what the encoder may expect */
    bool coded, live;
    bool caught_up;         /**< live: what had come before it was read has been handed out; from now on frames are fresh */
};

/* `what`: "test", a file name, an rtsp:// address, copy:… or filler:…. PL_IO when it cannot be opened, PL_UNSUPPORTED_MEDIA when there is no picture in it that can be used. Waits
 * up to five seconds for an RTSP camera; `stop` (set from another thread) ends that wait. */
PL_MUST enum pl_err source_open(const char *what, const atomic_bool *stop, struct source **ret, struct pl_fail *reterr);
/* PL_IO when the camera is gone; a file never ends. */
PL_MUST static inline enum pl_err source_next(struct source *s, struct source_frame *ret) { return s->kind->next(s, ret); }
/* Takes NULL; returns NULL. */
static inline struct source *source_close(struct source *s) { return s ? s->kind->close(s) : NULL; }

/* The makers behind source_open; those of copier.h and filler.h beside them. */
PL_MUST enum pl_err source_open_test(struct source **ret);
PL_MUST enum pl_err source_open_input(const char *what, const atomic_bool *stop, struct source **ret, struct pl_fail *reterr);
