/* reorder.h - puts the packets of one stream in order, and gives up on those that stay out.
 *
 * A packet that is next goes straight through; one that is early waits for those before it, at most `wait` and REORDER_SLOTS. Nothing is copied twice.
 * Not here: what is in them. Threads: one at a time.  Memory: a plain struct of about 200 KiB.
 *     reorder_push(&r, now, index, packet, n);
 *     while (reorder_take(&r, now, &packet, &n)) use(packet, n);
 */
#pragma once
#include "clock.h"

enum { REORDER_SLOTS = 128, REORDER_PACKET = 1500 };
#define REORDER_WAIT (80 * PL_MS) /* where nothing is sent again */

struct reorder {
    uint64_t next;        /**< extended number of the packet that is to go out; meaningless until `started` */
    unsigned held;        /**< packets that wait */
    bool started;
    int64_t wait;         /**< microseconds; 0: REORDER_WAIT */
    struct pl_mono since; /**< when the first of those that wait came */
    uint64_t lost, late;  /**< given up · came after that */
    struct {
        size_t n; /**< 0: empty */
        uint8_t p[REORDER_PACKET];
    } slots[REORDER_SLOTS];
};
void reorder_push(struct reorder *r, struct pl_mono now, uint64_t index, const uint8_t *p, size_t n);
/* The next packet in order, good until the next push; false when none is due. */
bool reorder_take(struct reorder *r, struct pl_mono now, const uint8_t **ret, size_t *ret_n);
/* Numbers of the packets that others wait for, lowest first; at most cap. */
size_t reorder_missing(const struct reorder *r, uint64_t *out, size_t cap);
/* When reorder_take may say true without a push; far away when nothing waits. */
struct pl_mono reorder_due(const struct reorder *r, struct pl_mono now);
