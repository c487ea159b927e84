/* relay_queue.h - a bounded queue between exactly two threads, without locks: one puts, the other takes, in order.
 *
 * Slots are fixed memory; a slot is filled in place and then published. Full is said, never waited for.
 */
#pragma once
#include "mem.h"
#include <stdatomic.h>

struct relay_queue {
    char *slots;
    size_t size, cap;    /* bytes of a slot; slots, a power of two */
    _Atomic size_t head; /* next to take: the taker's */
    _Atomic size_t tail; /* next to fill: the putter's */
};
static inline bool relay_queue_init(struct relay_queue *q, size_t size, size_t cap)
{
    *q = (struct relay_queue){ .slots = pl_heap(size * cap), .size = size, .cap = cap };
    return q->slots != NULL;
}
/* The slot to fill, NULL when full. */
static inline void *relay_queue_room(struct relay_queue *q)
{
    size_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
    return tail - atomic_load_explicit(&q->head, memory_order_acquire) == q->cap ? NULL : q->slots + (tail & (q->cap - 1)) * q->size;
}
/* Slots that are free, as the putter sees it. */
static inline size_t relay_queue_free(struct relay_queue *q)
{
    return q->cap - (atomic_load_explicit(&q->tail, memory_order_relaxed) - atomic_load_explicit(&q->head, memory_order_acquire));
}
static inline void relay_queue_put(struct relay_queue *q) { atomic_fetch_add_explicit(&q->tail, 1, memory_order_release); }
/* Slots that are filled, as the putter sees it. */
static inline size_t relay_queue_used(struct relay_queue *q)
{
    return atomic_load_explicit(&q->tail, memory_order_relaxed) - atomic_load_explicit(&q->head, memory_order_acquire);
}
/* The oldest slot, NULL when empty. It stays until relay_queue_took. */
static inline void *relay_queue_peek(struct relay_queue *q)
{
    size_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
    return head == atomic_load_explicit(&q->tail, memory_order_acquire) ? NULL : q->slots + (head & (q->cap - 1)) * q->size;
}
static inline void relay_queue_took(struct relay_queue *q) { atomic_fetch_add_explicit(&q->head, 1, memory_order_release); }
