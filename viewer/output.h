/* output.h - pictures as PNG files and sound as a WAV file, in a folder.
 *
 * Writes frame-000001.png (the first picture) and every `every`-th after it, at most OUTPUT_PICTURES, and audio.wav (mono, 48 kHz, 16 bit; its header is set
 * right at the end, and each second on the way there). Threads: one at a time.  Memory: owned.
 *     e = output_open("shots", 25, &output, &fail);
 *     e = output_picture(output, number, frame, &fail);
 */
#pragma once
#include "str.h"
#include <libavutil/frame.h>

enum { OUTPUT_PICTURES = 50 };
struct output;
/* Makes the folder when it is not there. PL_IO with the reason, also below. */
PL_MUST enum pl_err output_open(const char *dir, unsigned every, struct output **ret, struct pl_fail *reterr);
/* `count`: of pictures so far, from 1. */
PL_MUST enum pl_err output_picture(struct output *o, uint64_t count, const AVFrame *picture, struct pl_fail *reterr);
PL_MUST enum pl_err output_sound(struct output *o, const float *samples, size_t n, struct pl_fail *reterr);
unsigned output_pictures(const struct output *o);
/* Takes NULL; returns NULL. */
struct output *output_close(struct output *o);
