/* decoder.h - H.264 and Opus to pictures and sound (libavcodec), and a count of what it could not decode.
 *
 * Not here: where the data comes from (receiver.h), what becomes of it (measure.h, output.h). Threads: one at a time.  Memory: owned.
 *     e = decoder_new(&(struct decoder_conf){ .on_picture = picture, .on_sound = sound, .self = watch }, &decoder);
 *     good = decoder_video(decoder, access_unit);
 */
#pragma once
#include "str.h"
#include <libavutil/frame.h>

enum { DECODER_RATE = 48000 };
struct decoder_conf {
    void *self;
    void (*on_picture)(void *self, const AVFrame *picture);              /**< yuv420p */
    void (*on_sound)(void *self, const float *samples, size_t n);       /**< one channel, 48 kHz, -1..1 */
};
struct decoder;
PL_MUST enum pl_err decoder_new(const struct decoder_conf *conf, struct decoder **ret);
/* One Annex B access unit. False: an error was counted, and a key frame is needed. */
bool decoder_video(struct decoder *d, struct pl_str access_unit);
void decoder_audio(struct decoder *d, struct pl_str packet);
/* Access units and Opus packets that failed. */
unsigned decoder_errors(const struct decoder *d);
/* Takes NULL; returns NULL. */
struct decoder *decoder_free(struct decoder *d);
