#include "mem.h"
#include <stdlib.h>
#include <string.h>

#define BLOCK (16 * 1024)
#define ALIGN _Alignof(max_align_t)

static unsigned fail_at; /* atomic; heap allocations until one fails, 0: none */
static bool (*hook)(void); /* atomic */

void pl_heap_fail_at(unsigned n) { __atomic_store_n(&fail_at, n, __ATOMIC_SEQ_CST); }

void pl_mem_hook(bool (*fails)(void)) { __atomic_store_n(&hook, fails, __ATOMIC_SEQ_CST); }

static bool hook_fails(void)
{
    bool (*fails)(void) = __atomic_load_n(&hook, __ATOMIC_RELAXED);
    return fails && fails();
}

void *pl_heap(size_t n)
{
    if (hook_fails())
        return NULL;
    unsigned left = __atomic_load_n(&fail_at, __ATOMIC_RELAXED);
    if (left != 0 && __atomic_sub_fetch(&fail_at, 1, __ATOMIC_SEQ_CST) == 0)
        return NULL;
    return calloc(1, n ? n : 1);
}

void *pl_heap_free(void *p)
{
    free(p);
    return NULL;
}

struct block {
    struct block *next;
    size_t used, cap;
    _Alignas(max_align_t) unsigned char bytes[];
};

struct pl_arena {
    size_t ceiling, given;
    bool failed;
    struct block *head; /* the one that is filled; older ones follow */
};

static struct block *block_new(size_t cap)
{
    struct block *b = pl_heap(sizeof(*b) + cap);
    if (b)
        b->cap = cap;
    return b;
}

struct pl_arena *pl_arena_new(size_t ceiling)
{
    struct pl_arena *a = pl_heap(sizeof *a);
    if (!a)
        return NULL;
    a->ceiling = ceiling;
    a->head = block_new(ceiling < BLOCK ? ceiling : BLOCK);
    if (!a->head)
        return pl_heap_free(a);
    return a;
}

/* Request arenas hold passwords and PINs: what was used is wiped, so that no later allocation sees it. */
static void block_wipe(struct block *b)
{
    explicit_bzero(b->bytes, b->used);
    b->used = 0;
}

struct pl_arena *pl_arena_free(struct pl_arena *a)
{
    if (!a)
        return NULL;
    for (struct block *b = a->head, *next; b; b = next) {
        next = b->next;
        block_wipe(b);
        pl_heap_free(b);
    }
    return pl_heap_free(a);
}

void pl_arena_freep(struct pl_arena **a) { *a = pl_arena_free(*a); }

void pl_arena_reset(struct pl_arena *a)
{
    struct block *first = a->head;
    while (first->next) {
        struct block *b = first;
        first = b->next;
        block_wipe(b);
        pl_heap_free(b);
    }
    block_wipe(first);
    a->head = first;
    a->given = 0;
    a->failed = false;
}

enum pl_err pl_arena_err(const struct pl_arena *a) { return a->failed ? PL_NO_MEMORY : PL_OK; }

void *pl_alloc(struct pl_arena *a, size_t n)
{
    if (n == 0)
        n = 1;
    if (n > SIZE_MAX - ALIGN || hook_fails()) {
        a->failed = true;
        return NULL;
    }
    size_t size = (n + ALIGN - 1) / ALIGN * ALIGN;
    if (a->failed || size > a->ceiling - a->given) {
        a->failed = true;
        return NULL;
    }
    if (size > a->head->cap - a->head->used) {
        struct block *b = block_new(size > BLOCK ? size : BLOCK);
        if (!b) {
            a->failed = true;
            return NULL;
        }
        b->next = a->head;
        a->head = b;
    }
    void *p = a->head->bytes + a->head->used;
    a->head->used += size;
    a->given += size;
    return p;
}

void *pl_alloc_array(struct pl_arena *a, size_t count, size_t size)
{
    size_t n;
    if (__builtin_mul_overflow(count, size, &n)) {
        a->failed = true;
        return NULL;
    }
    return pl_alloc(a, n);
}
