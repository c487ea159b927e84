#include "filler.h"
#include "clock.h"

#define EVERY (10 * PL_MS)
enum { LEAST = 100000, HEAD = 5, NAL_FILLER = 12, STOP_BIT = 0x80 };

struct filler {
    int64_t pts_us;
    size_t n;
    uint8_t unit[FILLER_MOST / 8 / 100 + HEAD + 1];
};

enum pl_err filler_open(const char *what, struct filler **ret)
{
    struct pl_str rate, prefix = pl_str_split(pl_str_of(what), ':', &rate);
    uint32_t bits;
    (void)prefix;
    if (pl_parse_u32(rate, LEAST, FILLER_MOST, &bits) != PL_OK)
        return PL_INVALID_REQUEST;
    struct filler *f = pl_heap(sizeof *f);
    if (!f)
        return PL_NO_MEMORY;
    f->n = bits / 8 / (PL_SECOND / EVERY);
    memset(f->unit, 0xff, f->n);
    memcpy(f->unit, (const uint8_t[HEAD]){ 0, 0, 0, 1, NAL_FILLER }, HEAD);
    f->unit[f->n - 1] = STOP_BIT;
    *ret = f;
    return PL_OK;
}

void filler_next(struct filler *f, struct camera_frame *ret)
{
    *ret = (struct camera_frame){ .media = CAMERA_VIDEO, .data = { (const char *)f->unit, f->n }, .pts_us = f->pts_us };
    f->pts_us += EVERY;
}

struct filler *filler_close(struct filler *f) { return pl_heap_free(f); }
