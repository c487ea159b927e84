/* pattern.h - the test picture and the test tone: colour bars, a white square that wanders, a band of grain that
 * slides (so that frames are as large as those of a real camera), the frame number strip, and 440 Hz.
 *
 * Each picture and each sample is a function of its number alone, so that a test can say what it must be.
 * Not here: the strip's own code (strip.h). Threads: any.  Memory: none.
 *     pattern_picture(frame, number);
 *     pattern_tone(samples, 960, number * 960);
 */
#pragma once
#include <libavutil/frame.h>
#include <stddef.h>
#include <stdint.h>

#define PATTERN_WIDTH 640
#define PATTERN_HEIGHT 360
#define PATTERN_FPS 25
#define PATTERN_TONE_HZ 440

/* Paints the whole yuv420p picture. */
void pattern_picture(AVFrame *picture, uint32_t number);
/* Signed 16 bit, one channel, 48 kHz, a quarter of full scale; `first` is the number of the first sample. */
void pattern_tone(int16_t *samples, size_t n, uint64_t first);
