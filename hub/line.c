#include "line.h"

static int64_t end_of_all(const struct line *l) { return l->tracks[0].end > l->tracks[1].end ? l->tracks[0].end : l->tracks[1].end; }

/* Whether what is then at `at` goes on. Tracks do not begin at the same time: the first of one may be far from what the other has come to. */
static bool fits(const struct line *l, enum camera_media track, int64_t at)
{
    bool placed = l->tracks[track].placed;
    int64_t far = placed ? LINE_LEAP : LINE_APART;
    return at >= (placed ? l->tracks[track].end : end_of_all(l)) - far && at <= end_of_all(l) + far;
}

/* Nothing has leapt: the source is as slow as it was. A picture's length is a guess, so its end does not tell. */
static bool slow_as_before(const struct line *l, enum camera_media track, int64_t us)
{
    return l->tracks[track].placed && us + l->tracks[track].shift > end_of_all(l) && us - l->tracks[track].last <= LINE_SLOWER * l->tracks[track].step;
}

static void shift(struct line *l, enum camera_media track, int64_t us)
{
    enum camera_media other = track == CAMERA_VIDEO ? CAMERA_AUDIO : CAMERA_VIDEO;
    bool both = !l->begun || l->again;
    if (both) {
        l->tracks[track].shift = l->tracks[other].shift = end_of_all(l) - us;
        l->tracks[track].placed = l->tracks[other].placed = false;
    } else if (fits(l, track, us + l->tracks[other].shift))
        l->tracks[track].shift = l->tracks[other].shift;
    else if (!slow_as_before(l, track, us))
        l->tracks[track].shift = end_of_all(l) - us;
    l->begun = true;
    l->again = false;
}

int64_t line_place(struct line *l, enum camera_media track, int64_t us, int64_t length_us)
{
    if (!l->begun || l->again || !fits(l, track, us + l->tracks[track].shift))
        shift(l, track, us);
    int64_t at = us + l->tracks[track].shift;
    if (l->tracks[track].placed)
        l->tracks[track].step = us - l->tracks[track].last;
    if (!l->tracks[track].placed || at + length_us > l->tracks[track].end)
        l->tracks[track].end = at + length_us;
    l->tracks[track].last = us;
    l->tracks[track].placed = true;
    return at;
}

int64_t line_behind(struct line *l, enum camera_media track, int64_t length_us)
{
    int64_t at = l->again ? end_of_all(l) : l->tracks[track].end;
    if (!l->begun) /* no shift is known that a track's first time could be held against */
        l->tracks[CAMERA_VIDEO].placed = l->tracks[CAMERA_AUDIO].placed = true;
    l->begun = true;
    l->again = false;
    l->tracks[track].end = at + length_us;
    return at;
}

void line_again(struct line *l) { l->again = true; }
