#include "pattern.h"
#include "coder.h"
#include "strip.h"
#include <math.h>
#include <string.h>

struct colour { uint8_t y, u, v; };
/* The usual bars at 75 %, BT.601, limited range. */
static const struct colour bars[] = { { 180, 128, 128 }, { 162, 44, 142 }, { 131, 156, 44 }, { 112, 72, 58 }, { 84, 184, 198 }, { 65, 100, 212 }, { 35, 212, 114 } };
enum { BARS = sizeof bars / sizeof bars[0], SQUARE = 64, GRAIN_LINES = 64 };

static void paint_bars(AVFrame *p)
{
    for (int x = 0; x < p->width; x++)
        p->data[0][x] = bars[x * BARS / p->width].y;
    for (int x = 0; x < p->width / 2; x++) {
        p->data[1][x] = bars[2 * x * BARS / p->width].u;
        p->data[2][x] = bars[2 * x * BARS / p->width].v;
    }
    for (int y = 1; y < p->height; y++)
        memcpy(p->data[0] + y * p->linesize[0], p->data[0], (size_t)p->width);
    for (int y = 1; y < p->height / 2; y++) {
        memcpy(p->data[1] + y * p->linesize[1], p->data[1], (size_t)p->width / 2);
        memcpy(p->data[2] + y * p->linesize[2], p->data[2], (size_t)p->width / 2);
    }
}

static void paint_box(AVFrame *p, int left, int top, int w, int h, struct colour c)
{
    for (int y = top; y < top + h; y++)
        memset(p->data[0] + y * p->linesize[0] + left, c.y, (size_t)w);
    for (int y = top / 2; y < (top + h) / 2; y++) {
        memset(p->data[1] + y * p->linesize[1] + left / 2, c.u, (size_t)w / 2);
        memset(p->data[2] + y * p->linesize[2] + left / 2, c.v, (size_t)w / 2);
    }
}

/* A band of grain that slides along the bottom: it shows at a glance whether the picture stutters, and costs as many bits as leaves in the wind. */
static void paint_grain(AVFrame *p, uint32_t number)
{
    paint_box(p, 0, p->height - GRAIN_LINES, p->width, GRAIN_LINES, (struct colour){ 128, 128, 128 });
    for (int y = 0; y < GRAIN_LINES; y++) {
        uint8_t *line = p->data[0] + (p->height - GRAIN_LINES + y) * p->linesize[0];
        for (int x = 0; x < p->width; x++) {
            uint32_t h = ((uint32_t)(x / 2) + number * 2 + (uint32_t)(y / 2) * 4093) * UINT32_C(2654435761);
            line[x] = (uint8_t)(64 + (h >> 25));
        }
    }
}

/* There and back again between 0 and `span`. */
static int bounce(uint32_t at, int span)
{
    int r = (int)(at % (uint32_t)(2 * span));
    return r < span ? r : 2 * span - r;
}

void pattern_picture(AVFrame *p, uint32_t number)
{
    paint_bars(p);
    paint_grain(p, number);
    int left = bounce(number * 4, p->width - SQUARE) & ~1;
    int top = STRIP_LINES + (bounce(number * 2, p->height - GRAIN_LINES - STRIP_LINES - SQUARE) & ~1);
    paint_box(p, left, top, SQUARE, SQUARE, (struct colour){ 235, 128, 128 });
    paint_box(p, 0, 0, p->width, STRIP_LINES, (struct colour){ 16, 128, 128 });
    strip_draw(p->data[0], (size_t)p->linesize[0], (unsigned)p->width, number);
}

void pattern_tone(int16_t *samples, size_t n, uint64_t first)
{
    for (size_t i = 0; i < n; i++) {
        /* The tone repeats every second, so the phase never grows large. */
        double t = (double)((first + i) % CODER_RATE) / CODER_RATE;
        samples[i] = (int16_t)lrint(8191.0 * sin(2.0 * M_PI * PATTERN_TONE_HZ * t));
    }
}
