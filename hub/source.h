/* source.h - where a camera's raw pictures and samples come from: the test picture, a file in a loop, or an RTSP camera.
 *
 * All three yield the same: yuv420p pictures of one size, and blocks of 960 mono samples at 48 kHz, each with its time. A file and the test picture are as
 * fast as they are read (camera.h keeps the pace); `live` ones keep it themselves, since reading waits for the camera.
 * Not here: encoding (coder.h). Threads: one at a time.  Memory: owned until source_close.
 *     e = source_open("rtsp://camera.local/stream", &source, &fail);
 *     while ((e = source_next(source, &raw)) == PL_OK) encode(&raw);
 */
#pragma once
#include "coder.h"
#include <stdatomic.h>

struct source_raw {
    enum camera_media media;
    AVFrame *frame; /**< the source's; valid until the next call */
    int64_t pts_us; /**< since the source began; never goes back */
};

struct source;
/* What a kind of source can do. Both get the source itself. */
struct source_kind {
    enum pl_err (*next)(struct source *s, struct source_raw *ret);
    struct source *(*close)(struct source *s);
};
struct source {
    const struct source_kind *kind;
    int width, height, fps; /**< fps: what the encoder may expect */
    bool live;
};

/* `what`: "test", a file name, or an rtsp:// address. PL_IO when it cannot be opened, PL_UNSUPPORTED_MEDIA when there is no picture in it. Waits up to five
 * seconds for an RTSP camera; `stop` (set from another thread) ends that wait. */
PL_MUST enum pl_err source_open(const char *what, const atomic_bool *stop, struct source **ret, struct pl_fail *reterr);
/* PL_IO when the camera is gone; a file never ends. */
PL_MUST static inline enum pl_err source_next(struct source *s, struct source_raw *ret) { return s->kind->next(s, ret); }
/* Takes NULL; returns NULL. */
static inline struct source *source_close(struct source *s) { return s ? s->kind->close(s) : NULL; }

/* The two makers behind source_open. */
PL_MUST enum pl_err source_open_test(struct source **ret);
PL_MUST enum pl_err source_open_input(const char *what, const atomic_bool *stop, struct source **ret, struct pl_fail *reterr);
