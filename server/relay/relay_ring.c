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

uint64_t relay_ring_put(struct relay_ring *g, const struct relay_entry *like, const uint8_t *payload, size_t n)
{
    size_t at = g->end % g->size;
    if (at + n > g->size) /* a payload is never cut in two */
        g->end += g->size - at;
    struct relay_entry *e = &g->entries[g->head % RELAY_RING_ENTRIES];
    *e = *like;
    e->start = g->end;
    e->n = (uint16_t)n;
    g->by_seq[e->track][e->seq % RELAY_RING_ENTRIES] = (uint16_t)g->head;
    memcpy(g->bytes + e->start % g->size, payload, n);
    g->end += n;
    return g->head++;
}
