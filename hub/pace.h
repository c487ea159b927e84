/* pace.h - when each frame of a camera leaves.
 *
 * What is as fast as it is read (a file, the test picture, filler) leaves at its time. What a live camera sent before it could leave goes out PACE_FASTER times as fast as it
 * was taken, not all at once: a home's uplink has a short queue. From then on each frame leaves when it comes.
 * Not here: waiting (camera.c).  Threads: one at a time.  Memory: a plain struct.
 *     struct pace pace = pace_begin(live, now);
 *     wait(pace_due(&pace, pts_us));
 *     pts_us = pace_leaves(&pace, now, pts_us);
 */
#pragma once
#include "clock.h"
#include <stdbool.h>

enum { PACE_FASTER = 4 };
#define PACE_TOO_LATE PL_SECOND /* behind by so much, time is skipped instead of being chased */

struct pace {
    bool live;
    struct pl_mono base; /**< when base_us left, or leaves */
    int64_t base_us;     /**< of a file: 0; live: place of the last frame */
    int64_t skipped;     /**< time in which nothing was made */
};
struct pace pace_begin(bool live, struct pl_mono now);
struct pl_mono pace_due(const struct pace *p, int64_t pts_us);
/* The frame leaves now: its place on the line on which no time is lost. */
int64_t pace_leaves(struct pace *p, struct pl_mono now, int64_t pts_us);
