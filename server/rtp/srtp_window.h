/* srtp_window.h - which packet numbers of one SSRC have been (RFC 3711, 3.3.1 and 3.3.2), private to rtp/.
 *
 * The index is 48 bits: roll-over count and sequence number. State moves only by srtp_window_take.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { SRTP_WINDOW = 1024, SRTP_WINDOW_WORDS = SRTP_WINDOW / 64 };
struct srtp_window {
    bool started;
    uint64_t high;                    /**< greatest index so far */
    uint64_t seen[SRTP_WINDOW_WORDS]; /**< the SRTP_WINDOW indices up to `high`: bit index % SRTP_WINDOW */
};

/* The index nearest to the greatest one. Before the first roll-over there is nothing below 0. */
static inline uint64_t srtp_window_index(const struct srtp_window *w, uint16_t seq)
{
    if (!w->started)
        return seq;
    int64_t near = (int64_t)w->high + (int16_t)(uint16_t)(seq - (uint16_t)w->high);
    return near < 0 ? seq : (uint64_t)near;
}

/* Never seen, and not too old to know. */
static inline bool srtp_window_fresh(const struct srtp_window *w, uint64_t index)
{
    if (!w->started || index > w->high)
        return true;
    if (w->high - index >= SRTP_WINDOW)
        return false;
    return !(w->seen[index / 64 % SRTP_WINDOW_WORDS] >> (index % 64) & 1);
}

/* Seen, and not too old to know. */
static inline bool srtp_window_seen(const struct srtp_window *w, uint64_t index)
{
    return w->started && index <= w->high && w->high - index < SRTP_WINDOW && !srtp_window_fresh(w, index);
}

static inline void srtp_window_take(struct srtp_window *w, uint64_t index)
{
    if (!w->started || index > w->high) {
        if (!w->started || index - w->high >= SRTP_WINDOW)
            memset(w->seen, 0, sizeof w->seen);
        else
            for (uint64_t i = w->high + 1; i < index; i++)
                w->seen[i / 64 % SRTP_WINDOW_WORDS] &= ~(UINT64_C(1) << (i % 64));
        w->high = index;
        w->started = true;
    }
    w->seen[index / 64 % SRTP_WINDOW_WORDS] |= UINT64_C(1) << (index % 64);
}
