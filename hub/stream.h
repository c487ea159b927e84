/* stream.h - one live session at work: a UDP socket of its own, the sender's clockwork, the camera. Lives on while the cloud's connection is away.
 *
 * Two threads: the stream's own (socket, checks, reports, deadlines) and the camera's (encoding). The sender stands between them under one lock. A session ends by
 * itself (hard end, silence of the relay, a camera that fails) or by stream_stop; either way its keys are wiped at once and the owner frees it later.
 * Not here: who may have a session (hub.h). Threads: stream_* from the hub's thread; on_state on the stream's own.
 *     e = stream_new(&conf, &stream);
 *     stream_keyframe(stream);
 *     stream_stop(stream, PL_STR("ended_by_user"));
 *     if (stream_over(stream)) stream = stream_free(stream);
 */
#pragma once
#include "log.h"
#include "sender.h"

enum { STREAM_CODE = 64, STREAM_HOST = 256 };

struct stream;
struct stream_conf {
    struct pl_uuid live_id;
    int64_t generation;
    const char *source;       /**< of the camera; outlives the stream */
    struct pl_str host;       /**< of the relay: an address or a name; copied */
    uint16_t port;
    struct sender_conf sender; /**< .send, .self: set by the stream */
    int64_t gop_ms;            /**< set by the stream: between the first two key frames of a copied source; 0: not known yet */
    const struct pl_clock *clock;
    const struct pl_log *log;
    void *self;
    /* "sending" (with the first frame; again when a copied source has shown its GOP length), then "failed" or "ended" (once, last) with a code. */
    void (*on_state)(void *self, const struct stream_conf *which, const char *state, struct pl_str code);
};
/* Checks start at once. PL_NO_MEMORY, PL_INVALID_REQUEST. What fails later, fails by on_state. */
PL_MUST enum pl_err stream_new(const struct stream_conf *conf, struct stream **ret);
void stream_keyframe(struct stream *s);
/* Bits a second of its pictures from now on; before the first one too. */
void stream_bitrate(struct stream *s, int bits);
/* Ends with this code, soon; does not wait. */
void stream_stop(struct stream *s, struct pl_str code);
/* Nothing is sent any more; on_state is told now, or has been. */
bool stream_over(const struct stream *s);
/* What it came to; once it is over. */
struct sender_stats stream_stats(const struct stream *s);
/* How it ended, as on_state was told; once it is over. The code is the stream's. */
struct stream_end {
    const char *state;
    struct pl_str code;
    enum pl_err camera; /**< what became of the camera by itself; PL_OK: nothing */
};
struct stream_end stream_end(const struct stream *s);
const struct stream_conf *stream_which(const struct stream *s);
/* Stops if need be, waits for the threads. Takes NULL; returns NULL. */
struct stream *stream_free(struct stream *s);
