/* relay_ring.h - the plaintext payloads of one source, each stored once: key-frame cache and retransmission store.
 *
 * A packet gets an index that only grows. It can be read until newer ones have taken its bytes or its entry; then relay_ring_at answers NULL.
 * Threads: the worker's.  Memory: taken at open, wiped at close.
 */
#pragma once
#include "str.h"

enum { RELAY_RING_ENTRIES = 4096, RELAY_RING_TRACKS = 2 };
struct relay_entry {
    uint64_t seq;       /**< number in its track, extended; viewers' numbers are made from it */
    uint64_t start;     /**< place in the endless stream of bytes */
    int64_t at_us;      /**< when it came, the relay's monotonic time */
    uint32_t timestamp;
    uint16_t n;
    uint8_t track;      /**< below RELAY_RING_TRACKS */
    bool marker;
};
struct relay_place { /* of number n */
    uint16_t index; /**< lower bits */
    uint16_t round; /**< n / RELAY_RING_ENTRIES + 1, lower bits; 0: none yet */
};
struct relay_ring {
    uint8_t *bytes;
    size_t size;
    uint64_t head;      /**< index of the next packet */
    uint64_t end;       /**< place behind the last byte */
    struct relay_entry entries[RELAY_RING_ENTRIES];
    struct relay_place by_seq[RELAY_RING_TRACKS][RELAY_RING_ENTRIES]; /**< of the greatest number n so far, at n % RELAY_RING_ENTRIES */
};
PL_MUST enum pl_err relay_ring_init(struct relay_ring *g, size_t size);
void relay_ring_done(struct relay_ring *g);
/* Copies the payload in; n at most 2,048. A number stands for one packet, for ever (S-M6): false when it was put before, or RELAY_RING_ENTRIES ago and nobody knows. */
PL_MUST bool relay_ring_put(struct relay_ring *g, const struct relay_entry *like, const uint8_t *payload, size_t n, uint64_t *ret_index);
/* NULL: it is not there any more, or not yet. */
static inline const struct relay_entry *relay_ring_at(const struct relay_ring *g, uint64_t index)
{
    if (index >= g->head || g->head - index > RELAY_RING_ENTRIES)
        return NULL;
    const struct relay_entry *e = &g->entries[index % RELAY_RING_ENTRIES];
    return g->end - e->start <= g->size ? e : NULL;
}
/* The packet of this number; NULL: it is not there any more, or never came. */
static inline const struct relay_entry *relay_ring_find(const struct relay_ring *g, unsigned track, uint64_t seq)
{
    uint16_t back = (uint16_t)((uint16_t)g->head - g->by_seq[track][seq % RELAY_RING_ENTRIES].index);
    const struct relay_entry *e = back && back <= g->head ? relay_ring_at(g, g->head - back) : NULL;
    return e && e->seq == seq && e->track == track ? e : NULL;
}
static inline const uint8_t *relay_ring_payload(const struct relay_ring *g, const struct relay_entry *e) { return g->bytes + e->start % g->size; }
