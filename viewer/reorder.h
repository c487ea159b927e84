/* reorder.h - puts the packets of one stream in order, says which to ask for again, and gives up on those that stay out.
 *
 * A packet that is next goes straight through; one that is early waits for those before it. Each that is missing is a record of its own, from the moment in which the first
 * packet behind it came: it is waited for `wait` from then on, however many are missing beside it, and asked for REORDER_TRIES times at most. Where the window is full the
 * oldest gap is given up, and what waited for it is handed out: nothing that has come is ever thrown away.
 * Not here: what is in them. Threads: one at a time.  Memory: a plain struct; the slots are the caller's (REORDER_VIDEO of them take 800 KiB).
 *     struct reorder r = { .slots = slots, .slots_n = REORDER_VIDEO };
 *     while (!reorder_push(&r, now, index, packet, n)) drain();
 *     drain: while (reorder_take(&r, now, &packet, &n)) use(packet, n);
 */
#pragma once
#include "clock.h"

enum { REORDER_VIDEO = 512, REORDER_AUDIO = 64, REORDER_PACKET = 1500, REORDER_TRIES = 6 };
#define REORDER_WAIT (80 * PL_MS)      /* where nothing is sent again */
#define REORDER_ASK_AFTER (10 * PL_MS) /* a packet that is only late comes in that time */

/* A number from `next` to before `end`: a packet that waits, or one that is missing. */
struct reorder_slot {
    size_t n;             /**< 0: missing, */
    struct pl_mono since; /**< and a packet behind it came then; */
    struct pl_mono ask;   /**< when it is asked for, or asked for again, */
    unsigned tries;       /**< if it was not asked for often enough */
    uint8_t p[REORDER_PACKET];
};
struct reorder {
    struct reorder_slot *slots;
    unsigned slots_n;
    int64_t wait, again;  /**< microseconds; 0: REORDER_WAIT · from one asking to the next */
    uint64_t next, end;   /**< extended numbers: that is to go out; behind the newest that came. Equal: nothing waits. Meaningless until `started` */
    uint64_t floor;       /**< what is missing below it is given up now: the window is full */
    bool started;
    uint64_t lost, late;  /**< given up · came after that */
};
/* False: there is no room before what waits has been taken; then give it again. */
PL_MUST bool reorder_push(struct reorder *r, struct pl_mono now, uint64_t index, const uint8_t *p, size_t n);
/* The next packet in order, good until the next push; false when none is due. */
bool reorder_take(struct reorder *r, struct pl_mono now, const uint8_t **ret, size_t *ret_n);
/* Numbers that are to be asked for now, lowest first; at most cap. They count as asked for. */
size_t reorder_ask(struct reorder *r, struct pl_mono now, uint64_t *out, size_t cap);
/* When reorder_take or reorder_ask may have something without a push; far away when nothing waits. */
struct pl_mono reorder_due(const struct reorder *r, struct pl_mono now);
