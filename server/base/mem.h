/* mem.h - memory by scope: one arena per request, message or job.
 *
 * Allocate from the arena and never free: the door that made the arena resets it when the answer is out. An arena has a ceiling; past it, or when the
 * system has no memory, pl_alloc answers NULL and every later allocation of that arena does too (the failure sticks: ask pl_arena_err once).
 * Not here: objects that cross threads (each has its own _ref/_unref). Threads: an arena belongs to one thread at a time.
 *     struct pl_arena *a = pl_arena_new(1 << 20);
 *     struct device *d = PL_NEW(a, struct device);
 *     if (!d) return PL_NO_MEMORY;
 *     a = pl_arena_free(a);
 */
#pragma once
#include "err.h"
#include <stdbool.h>
#include <stddef.h>
#include <pthread.h>

struct pl_arena;

/* A new arena that hands out at most `ceiling` bytes. NULL when there is no memory. */
struct pl_arena *pl_arena_new(size_t ceiling);
/* Wipes and frees all; takes NULL; returns NULL. */
struct pl_arena *pl_arena_free(struct pl_arena *a);
/* Forgets all allocations, keeps the first block. What it held is wiped. */
void pl_arena_reset(struct pl_arena *a);
/* PL_NO_MEMORY if any allocation since the last reset failed. */
PL_MUST enum pl_err pl_arena_err(const struct pl_arena *a);
/* Zeroed bytes, aligned for any type. NULL on failure, which sticks. */
void *pl_alloc(struct pl_arena *a, size_t n);
/* As pl_alloc for an array; refuses an overflow. */
void *pl_alloc_array(struct pl_arena *a, size_t count, size_t size);
#define PL_NEW(a, type) ((type *)pl_alloc((a), sizeof(type)))
#define PL_NEW_ARRAY(a, n, type) ((type *)pl_alloc_array((a), (n), sizeof(type)))

/* Cleanup for PL_CLEANUP(pl_arena_freep). */
void pl_arena_freep(struct pl_arena **a);

/* Heap for objects that outlive a request: zeroed, NULL on failure. */
void *pl_heap(size_t n);
/* Frees heap memory; takes NULL; returns NULL. */
void *pl_heap_free(void *p);
/* Test hook: the n-th next heap allocation fails (0: none). Counts in all threads. */
void pl_heap_fail_at(unsigned n);
/* Test hook: asked at each allocation, of the heap and out of an arena, on its thread; true: that one fails. NULL: none (tests/unit/failing.h). */
void pl_mem_hook(bool (*fails)(void));

/* Scope lock: PL_LOCK(&q->lock); holds until the end of the block. */
static inline void pl_unlockp(pthread_mutex_t **m) { pthread_mutex_unlock(*m); }
#define PL_LOCK_NAME2(l) pl_lock_##l
#define PL_LOCK_NAME(l) PL_LOCK_NAME2(l)
#define PL_LOCK(m) \
    pthread_mutex_t *PL_LOCK_NAME(__LINE__) PL_CLEANUP(pl_unlockp) = (m); \
    pthread_mutex_lock(PL_LOCK_NAME(__LINE__))
