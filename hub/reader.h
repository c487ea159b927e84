/* reader.h - a file or an RTSP camera as coded packets: opened, read with a deadline, rewound. What source_input.c decodes and copier.c hands on as it is.
 *
 * A camera that says nothing for five seconds is gone. A set `stop` ends every wait.  Threads: one at a time; `stop` from any.  Memory: owned until reader_close.
 *     e = reader_open(&reader, "rtsp://camera.local/stream", &stop, &fail);
 *     while ((e = reader_next(&reader, &end)) == PL_OK && !end) use(reader.packet);
 */
#pragma once
#include "clock.h"
#include <libavformat/avformat.h>
#include <stdatomic.h>

struct reader {
    AVFormatContext *format;
    AVPacket *packet; /**< what reader_next read; the reader's */
    const atomic_bool *stop;
    struct pl_mono deadline; /**< reading gives up then */
    bool live;               /**< keeps its own pace, cannot be rewound */
    bool waited;             /**< for the last packet: nothing that had come before was left */
};
/* PL_IO with a sentence. A reader that failed to open must be closed too. */
PL_MUST enum pl_err reader_open(struct reader *r, const char *what, const atomic_bool *stop, struct pl_fail *reterr);
/* *ret_end: a file is over, and there is no packet. PL_IO: the camera is gone. */
PL_MUST enum pl_err reader_next(struct reader *r, bool *ret_end);
PL_MUST enum pl_err reader_rewind(struct reader *r);
void reader_close(struct reader *r);
