#include "secure_pages.h"
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#if SECURE_PAGES_KEPT

#define LEAST ((size_t)1 << 20) /* what is smaller is no hash's memory */
#define MOST 64                   /* http's heavy workers at most */

static _Thread_local bool hashing;
static _Thread_local void *lent; /* to the hash that runs on this thread */
static struct {
    pthread_mutex_t lock;
    struct { void *at; size_t n; } pages[MOST]; /* LOCK: lock */
    unsigned count;                             /* LOCK: lock */
} kept = { .lock = PTHREAD_MUTEX_INITIALIZER };

void secure_pages_begin(void) { hashing = true; }
void secure_pages_end(void) { hashing = false; }

/* NULL: none of that size. */
static void *take(size_t n)
{
    void *found = NULL;
    pthread_mutex_lock(&kept.lock);
    for (unsigned i = 0; i < kept.count && !found; i++)
        if (kept.pages[i].n == n) {
            found = kept.pages[i].at;
            kept.pages[i] = kept.pages[--kept.count];
        }
    pthread_mutex_unlock(&kept.lock);
    return found;
}

/* Wiped as a whole: argon2's second pass can be undone from what it leaves, and then a guess costs next to nothing. */
static bool keep(void *at, size_t n)
{
    explicit_bzero(at, n);
    (void)madvise(at, n, MADV_FREE);
    pthread_mutex_lock(&kept.lock);
    bool room = kept.count < MOST;
    if (room) {
        kept.pages[kept.count].at = at;
        kept.pages[kept.count++].n = n;
    }
    pthread_mutex_unlock(&kept.lock);
    return room;
}

/* What the C library exports under these names; its headers call mmap64 where they say mmap, so that only libraries come here. */
void *secure_pages_mmap(void *at, size_t n, int prot, int flags, int fd, long offset) __asm__("mmap");
int secure_pages_munmap(void *at, size_t n) __asm__("munmap");

void *secure_pages_mmap(void *at, size_t n, int prot, int flags, int fd, long offset)
{
    bool ours = hashing && !lent && n >= LEAST && fd == -1 && prot == (PROT_READ | PROT_WRITE) && flags & MAP_PRIVATE;
    void *p = ours ? take(n) : NULL;
    if (!p) {
        p = mmap64(at, n, prot, flags, fd, offset);
        if (ours && p != MAP_FAILED) {
            (void)madvise(p, n, MADV_HUGEPAGE);
            (void)madvise(p, n, MADV_DONTDUMP);
        }
    }
    if (ours && p != MAP_FAILED)
        lent = p;
    return p;
}

int secure_pages_munmap(void *at, size_t n)
{
    if (hashing && at && at == lent) {
        lent = NULL;
        if (keep(at, n))
            return 0;
    }
    return (int)syscall(SYS_munmap, at, n);
}

#else

void secure_pages_begin(void) {}
void secure_pages_end(void) {}

#endif
