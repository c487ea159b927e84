#include "filler.h"
#include "clock.h"

enum { LEAST = 100000, START_CODE = 4, UNIT = 1100 /* with RTP's head and SRTP's tag still below an mtu of 1,200 */, NAL_FILLER = 12, STOP_BIT = 0x80 };

struct filler {
    struct source base;
    int64_t pts_us, every_us;
    uint8_t unit[START_CODE + UNIT];
};

static enum pl_err next(struct source *base, struct source_frame *ret)
{
    struct filler *f = (struct filler *)base;
    *ret = (struct source_frame){ .media = CAMERA_VIDEO, .coded = { (const char *)f->unit, sizeof f->unit }, .pts_us = f->pts_us };
    f->pts_us += f->every_us;
    return PL_OK;
}

static struct source *finish(struct source *base) { return pl_heap_free(base); }

enum pl_err filler_open(const char *what, struct source **ret)
{
    static const struct source_kind kind = { .next = next, .close = finish };
    struct pl_str rate, prefix = pl_str_split(pl_str_of(what), ':', &rate);
    uint32_t bits;
    (void)prefix;
    if (pl_parse_u32(rate, LEAST, FILLER_MOST, &bits) != PL_OK)
        return PL_INVALID_REQUEST;
    struct filler *f = pl_heap(sizeof *f);
    if (!f)
        return PL_NO_MEMORY;
    f->base = (struct source){ .kind = &kind, .coded = true };
    f->every_us = UNIT * 8 * PL_SECOND / bits;
    memset(f->unit, 0xff, sizeof f->unit);
    memcpy(f->unit, (const uint8_t[START_CODE + 1]){ 0, 0, 0, 1, NAL_FILLER }, START_CODE + 1);
    f->unit[sizeof f->unit - 1] = STOP_BIT;
    *ret = &f->base;
    return PL_OK;
}
