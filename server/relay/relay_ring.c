#include "relay_ring.h"

enum { LARGEST = 2048 };

enum pl_err relay_ring_init(struct relay_ring *g, size_t size)
{
    if (size < LARGEST)
        return PL_INVALID_REQUEST;
    g->bytes = pl_heap(size);
    if (!g->bytes)
        return PL_NO_MEMORY;
    g->size = size;
    return PL_OK;
}

void relay_ring_done(struct relay_ring *g)
{
    if (g->bytes) /* only what was written: the rest has never been touched, and must not be made resident now */
        explicit_bzero(g->bytes, g->end < g->size ? (size_t)g->end : g->size);
    g->bytes = pl_heap_free(g->bytes);
}

bool relay_ring_put(struct relay_ring *g, const struct relay_entry *like, const uint8_t *payload, size_t n, uint64_t *ret_index)
{
    struct relay_place *place = &g->by_seq[like->track][like->seq % RELAY_RING_ENTRIES];
    uint16_t round = (uint16_t)(like->seq / RELAY_RING_ENTRIES + 1);
    if ((int16_t)(uint16_t)(round - place->round) <= 0)
        return false;
    size_t at = g->end % g->size;
    if (at + n > g->size) /* a payload is never cut in two */
        g->end += g->size - at;
    struct relay_entry *e = &g->entries[g->head % RELAY_RING_ENTRIES];
    *e = *like;
    e->start = g->end;
    e->n = (uint16_t)n;
    *place = (struct relay_place){ (uint16_t)g->head, round };
    memcpy(g->bytes + e->start % g->size, payload, n);
    g->end += n;
    *ret_index = g->head++;
    return true;
}
