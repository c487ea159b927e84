/* line.h - a source's own times on one line: it begins at 0, and what the source's clock does on the way is not seen on it.
 *
 * A camera whose clock is set, a recorder that left an hour out, recordings put behind each other, a file's next round: whatever leaps, forwards or back, goes on where the
 * line ends. Picture and sound stay in step all the while: a track that leaps takes the other's new place if that fits it, and so does one that begins later or earlier.
 * Smaller steps are the source's own business (it puts its tracks in step by them) and stay; so do a slow source's, a picture every few seconds, from its second step on.
 * Not here: when a frame leaves (pace.h).  Threads: one at a time.  Memory: a plain struct; all zero is a line that has not begun.
 *     us = line_place(&line, CAMERA_VIDEO, source_us, length_us);
 *     line_again(&line);                                            the file begins again
 */
#pragma once
#include "coder.h"
#include "clock.h"

#define LINE_LEAP PL_SECOND
#define LINE_APART (10 * PL_SECOND) /* picture and sound of one time do not come further apart than this */
#define LINE_STEP PL_MS /* a track's next frame is never nearer to its last one */

enum { LINE_SLOWER = 3 }; /* a step that is not longer than so many times the last one is no leap */

struct line {
    struct {
        int64_t shift; /**< from the source's time to the line's */
        int64_t end;   /**< where what was placed ends */
        int64_t last;  /**< the source's time that was placed last, */
        int64_t step;  /**< and by how much that was later than the one before */
        bool placed;   /**< something was, since the line began (again) */
    } tracks[2];
    bool begun, again;
};
/* The place of what the source says is at `us` and lasts `length_us`. Before the track's end, by less than LINE_LEAP, where the source stepped back a little. */
int64_t line_place(struct line *l, enum camera_media track, int64_t us, int64_t length_us);
/* The same for what does not say when it is: behind the track's last one. */
int64_t line_behind(struct line *l, enum camera_media track, int64_t length_us);
/* What comes now begins anew in the source's time, behind all that has been placed. */
void line_again(struct line *l);
