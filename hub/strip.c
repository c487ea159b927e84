#include "strip.h"
#include <stdbool.h>
#include <string.h>

/* Luma of the limited range; between the two limits a block says nothing. */
enum { BLACK = 16, WHITE = 235, SURELY_BLACK = 85, SURELY_WHITE = 165 };

/* CRC-8, polynomial 0x07. It starts at 0xff, so that a picture that is all black or all white on top is not taken for a number. */
static uint8_t check_of(uint32_t number)
{
    uint8_t crc = 0xff;
    for (int shift = 16; shift >= 0; shift -= 8) {
        crc ^= (uint8_t)(number >> shift);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint8_t)(crc & 0x80 ? crc << 1 ^ 0x07 : crc << 1);
    }
    return crc;
}

void strip_draw(uint8_t *luma, size_t stride, unsigned width, uint32_t number)
{
    number %= STRIP_NUMBERS;
    uint32_t word = number << 8 | check_of(number);
    for (unsigned block = 0; block < STRIP_BLOCKS; block++) {
        unsigned from = block * width / STRIP_BLOCKS, to = (block + 1) * width / STRIP_BLOCKS;
        int shade = word >> (STRIP_BLOCKS - 1 - block) & 1 ? WHITE : BLACK;
        for (unsigned y = 0; y < STRIP_LINES; y++)
            memset(luma + y * stride + from, shade, to - from);
    }
}

/* Mean of the middle of a block: its edges are blurred by the codec. */
static unsigned shade_of(const uint8_t *luma, size_t stride, unsigned from, unsigned to)
{
    unsigned margin = (to - from) / 4, sum = 0, n = 0;
    for (unsigned y = STRIP_LINES / 4; y < STRIP_LINES - STRIP_LINES / 4; y++)
        for (unsigned x = from + margin; x < to - margin; x++)
            sum += luma[y * stride + x], n++;
    return n ? sum / n : 0;
}

enum pl_err strip_read(const uint8_t *luma, size_t stride, unsigned width, unsigned height, uint32_t *ret_number)
{
    if (width < STRIP_BLOCKS || height < STRIP_LINES)
        return PL_NOT_FOUND;
    uint32_t word = 0;
    for (unsigned block = 0; block < STRIP_BLOCKS; block++) {
        unsigned shade = shade_of(luma, stride, block * width / STRIP_BLOCKS, (block + 1) * width / STRIP_BLOCKS);
        if (shade > SURELY_BLACK && shade < SURELY_WHITE)
            return PL_NOT_FOUND;
        word = word << 1 | (shade >= SURELY_WHITE);
    }
    if (check_of(word >> 8) != (uint8_t)word)
        return PL_NOT_FOUND;
    *ret_number = word >> 8;
    return PL_OK;
}
