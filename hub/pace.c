#include "pace.h"

struct pace pace_begin(bool live, struct pl_mono now) { return (struct pace){ .live = live, .base = now }; }

struct pl_mono pace_due(const struct pace *p, int64_t pts_us)
{
    int64_t since = pts_us - p->base_us;
    return pl_mono_add(p->base, p->live ? since / PACE_FASTER : since + p->skipped);
}

int64_t pace_leaves(struct pace *p, struct pl_mono now, int64_t pts_us)
{
    if (p->live && pts_us > p->base_us) {
        p->base = now;
        p->base_us = pts_us;
    }
    if (p->live)
        return pts_us;
    int64_t late = pl_mono_sub(now, pace_due(p, pts_us));
    if (late > PACE_TOO_LATE)
        p->skipped += late;
    return pts_us + p->skipped;
}
