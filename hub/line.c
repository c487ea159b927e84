#include "line.h"

static int64_t end_of_all(const struct line *l) { return l->tracks[0].end > l->tracks[1].end ? l->tracks[0].end : l->tracks[1].end; }

static bool leaps(const struct line *l, enum camera_media track, int64_t at) { return at < l->tracks[track].end - LINE_LEAP || at > end_of_all(l) + LINE_LEAP; }

static void shift(struct line *l, enum camera_media track, int64_t us)
{
    enum camera_media other = track == CAMERA_VIDEO ? CAMERA_AUDIO : CAMERA_VIDEO;
    bool both = !l->begun || l->again;
    if (both)
        l->tracks[track].shift = l->tracks[other].shift = end_of_all(l) - us;
    else if (!leaps(l, track, us + l->tracks[other].shift))
        l->tracks[track].shift = l->tracks[other].shift;
    else
        l->tracks[track].shift = end_of_all(l) - us;
    l->begun = true;
    l->again = false;
}

int64_t line_place(struct line *l, enum camera_media track, int64_t us, int64_t length_us)
{
    if (!l->begun || l->again || leaps(l, track, us + l->tracks[track].shift))
        shift(l, track, us);
    int64_t at = us + l->tracks[track].shift;
    if (at + length_us > l->tracks[track].end)
        l->tracks[track].end = at + length_us;
    return at;
}

int64_t line_behind(struct line *l, enum camera_media track, int64_t length_us)
{
    int64_t at = l->again ? end_of_all(l) : l->tracks[track].end;
    l->begun = true;
    l->again = false;
    l->tracks[track].end = at + length_us;
    return at;
}

void line_again(struct line *l) { l->again = true; }
