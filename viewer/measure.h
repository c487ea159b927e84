/* measure.h - is this what was sent? Frame numbers read off the picture (strip.h), and how much of the sound is the test tone.
 *
 * Not here: drawing either (hub/pattern.h). Threads: one at a time.  Memory: a plain struct.
 *     measure_number(&m, number);
 *     measure_sound(&m, samples, n);
 *     ratio = measure_tone(&m);
 */
#pragma once
#include "err.h"
#include <stdbool.h>
#include <stddef.h>

enum { MEASURE_RATE = 48000, MEASURE_TONE_HZ = 440, MEASURE_BLOCK = 4800 /**< samples: 440 Hz falls exactly on one of its frequencies */ };

struct measure {
    uint64_t read;          /**< pictures with a number */
    uint32_t first, last;   /**< numbers */
    uint64_t missing;       /**< numbers between them that never came */
    uint64_t backwards;     /**< pictures whose number was not above the one before */
    double s1, s2;          /**< Goertzel's two values, of the block at hand */
    double block_energy;
    size_t in_block;
    double tone_energy, energy; /**< of all whole blocks */
    uint64_t samples;
};
void measure_number(struct measure *m, uint32_t number);
void measure_sound(struct measure *m, const float *samples, size_t n);
/* Part of the sound's energy that is the tone, 0..1; 0 in silence. */
double measure_tone(const struct measure *m);
/* Root mean square of the sound, 0..1. */
double measure_level(const struct measure *m);
