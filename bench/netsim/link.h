/* link.h - one direction of a bad network, without sockets or a clock: says of each packet when it arrives, or that it does not.
 *
 * In this order, as netem has it: partition, random loss, a queue that drops at its tail, the rate at which it empties, then delay and jitter. Jitter keeps packets in order;
 * only a packet that is drawn for reordering comes behind later ones. Each packet takes the same number of draws whatever the profile, so that the same seed and the same
 * packets give the same fate, and a profile that changes one thing changes only that.
 * Threads: one.  Memory: a plain struct.
 *     link_init(&up, &profile, seed);
 *     if (link_take(&up, now, bytes, &due) == LINK_PASSES) keep it until due
 */
#pragma once
#include "conf.h"
#include "rand.h"

enum { LINK_QUEUE_MAX = 4096 };

/* A profile: one file of bench/netsim, one set of values for both directions. */
struct link_profile {
    int64_t delay_us;    /**< one way: half of the round trip */
    int64_t jitter_us;   /**< up to this much more or less, uniform */
    int64_t loss_ppm, reorder_ppm; /**< of a million packets */
    int64_t reorder_us;  /**< how much later a packet comes that is reordered */
    int64_t rate_kbit;   /**< kbit/s; 0: no limit */
    int64_t queue;       /**< packets that wait for the rate */
};
extern const struct conf_row link_profile_rows[];

enum link_fate { LINK_PASSES, LINK_LOST, LINK_QUEUE_FULL, LINK_CUT, LINK_FATES };

struct link {
    struct link_profile profile;
    struct pl_rand_seeded rand;
    bool cut;                       /**< partition: nothing passes */
    struct pl_mono departs_last, due_last;
    struct pl_mono departs[LINK_QUEUE_MAX]; /**< ring of those that wait */
    unsigned first, waiting;
    uint64_t fates[LINK_FATES], reordered, bytes;
};
void link_init(struct link *l, const struct link_profile *p, uint64_t seed);
/* Another profile from now on; what is under way stays so. */
void link_change(struct link *l, const struct link_profile *p);
enum link_fate link_take(struct link *l, struct pl_mono now, size_t bytes, struct pl_mono *ret_due);
