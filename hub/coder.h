/* coder.h - raw pictures and samples in, H.264 and Opus out (libavcodec; x264 and libopus inside), nothing held back.
 *
 * Video is constrained baseline without B-frames, a key frame every two seconds and at once when asked, parameter sets in front of each key frame, about
 * 600 kbit/s until another rate is asked for: what every phone decodes and what a home's uplink carries. Audio is mono Opus, 20 ms a packet, 48 kHz. One thread each: a hub has little CPU.
 * Not here: where pictures come from (source.h), packets on the wire (sender.h). Threads: one at a time.  Memory: owned until coder_close.
 *     e = coder_open(640, 360, 25, &coder, &fail);
 *     e = coder_video(coder, picture, pts_us, wanted_key, emit, self);
 */
#pragma once
#include "err.h"
#include "str.h"
#include <libavutil/frame.h>

#define CODER_RATE 48000           /* audio samples a second */
#define CODER_SAMPLES 960          /* samples a packet: 20 ms */
#define CODER_VIDEO_BITS 600000    /* a second, to begin with */
#define CODER_VIDEO_LEAST 100000
#define CODER_VIDEO_MOST 8000000
#define CODER_AUDIO_BITS 32000     /* a second */
#define CODER_KEY_EVERY_S 2

enum camera_media { CAMERA_VIDEO, CAMERA_AUDIO };

/* One coded frame. */
struct camera_frame {
    enum camera_media media;
    struct pl_str data; /**< H.264 access unit in Annex B form, or one Opus packet; valid during the call that brings it */
    int64_t pts_us;     /**< since the source began, in its own time */
    bool key;           /**< video: an IDR, with its parameter sets */
};
typedef void (*camera_emit)(void *self, const struct camera_frame *frame);

struct coder;
/* PL_UNSUPPORTED_MEDIA when this machine's libavcodec has no x264 or libopus. */
PL_MUST enum pl_err coder_open(int width, int height, int fps, struct coder **ret, struct pl_fail *reterr);
/* The rate of the pictures from the next one on, in bits a second, brought within the bounds above. The stream goes on as it is: no new key frame, no new parameters. */
void coder_bitrate(struct coder *c, int bits);
/* `picture`: yuv420p of the size said at open. `key`: makes this one an IDR. Emits at most one frame. */
PL_MUST enum pl_err coder_video(struct coder *c, AVFrame *picture, int64_t pts_us, bool key, camera_emit emit, void *self);
/* `samples`: CODER_SAMPLES of signed 16 bit, one channel. */
PL_MUST enum pl_err coder_audio(struct coder *c, AVFrame *samples, int64_t pts_us, camera_emit emit, void *self);
/* Takes NULL; returns NULL. */
struct coder *coder_close(struct coder *c);
