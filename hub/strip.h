/* strip.h - a frame number that a machine reads off the picture: proof that what a viewer sees is what the camera sent.
 *
 * 32 blocks stand side by side along the top edge, 16 lines high, white for 1 and black for 0: 24 bits of frame number, then 8 bits of CRC-8 over it, most
 * significant first. Blocks are as wide as a 32nd of the picture, so that the strip survives scaling and a lossy codec; the check refuses what does not.
 * Not here: the rest of the test picture (pattern.h). Threads: any.  Memory: none.
 *     strip_draw(frame->data[0], (size_t)frame->linesize[0], 640, number);
 *     if (strip_read(frame->data[0], (size_t)frame->linesize[0], 640, 360, &number) == PL_OK) seen(number);
 */
#pragma once
#include "err.h"
#include <stddef.h>

#define STRIP_BLOCKS 32
#define STRIP_LINES 16
#define STRIP_NUMBERS (UINT32_C(1) << 24) /* numbers wrap here: 7.7 days at 25 frames a second */

/* Draws `number` modulo STRIP_NUMBERS into the luma plane, at least 32 pixels wide and 16 high. */
void strip_draw(uint8_t *luma, size_t stride, unsigned width, uint32_t number);
/* PL_NOT_FOUND when the picture carries no strip, or one that was damaged. */
PL_MUST enum pl_err strip_read(const uint8_t *luma, size_t stride, unsigned width, unsigned height, uint32_t *ret_number);
