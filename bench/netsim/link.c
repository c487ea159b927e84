#include "link.h"

const struct conf_row link_profile_rows[] = {
    CONF_DUR("delay", struct link_profile, delay_us, 0, 10 * PL_SECOND, "0ms", "One way: half of the round trip."),
    CONF_DUR("jitter", struct link_profile, jitter_us, 0, PL_SECOND, "0ms", "Up to this much more or less delay, uniform; packets stay in order."),
    CONF_NUM("loss_ppm", struct link_profile, loss_ppm, 0, 1000000, "0", "Packets of a million that are lost, each by itself."),
    CONF_NUM("reorder_ppm", struct link_profile, reorder_ppm, 0, 1000000, "0", "Packets of a million that come late, behind others."),
    CONF_DUR("reorder_by", struct link_profile, reorder_us, 0, PL_SECOND, "10ms", "How much later those come."),
    CONF_NUM("rate_kbit", struct link_profile, rate_kbit, 0, 10000000, "0", "kbit/s; 0: no limit."),
    CONF_NUM("queue", struct link_profile, queue, 1, LINK_QUEUE_MAX, "100", "Packets that wait for the rate; more are dropped."),
    CONF_END,
};

void link_init(struct link *l, const struct link_profile *p, uint64_t seed)
{
    *l = (struct link){ .profile = *p };
    pl_rand_seed(&l->rand, seed);
}

void link_change(struct link *l, const struct link_profile *p) { l->profile = *p; }

static struct pl_mono later(struct pl_mono a, struct pl_mono b) { return pl_mono_cmp(a, b) > 0 ? a : b; }

/* When its last bit has left the queue; false: there is no room. */
static bool depart(struct link *l, struct pl_mono now, size_t bytes, struct pl_mono *ret)
{
    while (l->waiting > 0 && pl_mono_cmp(l->departs[l->first], now) <= 0) {
        l->first = (l->first + 1) % LINK_QUEUE_MAX;
        l->waiting--;
    }
    if (l->profile.rate_kbit == 0) {
        *ret = now;
        return true;
    }
    if (l->waiting >= l->profile.queue)
        return false;
    l->departs_last = pl_mono_add(later(now, l->departs_last), (int64_t)bytes * 8000 / l->profile.rate_kbit);
    l->departs[(l->first + l->waiting++) % LINK_QUEUE_MAX] = l->departs_last;
    *ret = l->departs_last;
    return true;
}

enum link_fate link_take(struct link *l, struct pl_mono now, size_t bytes, struct pl_mono *ret_due)
{
    const struct link_profile *p = &l->profile;
    bool lost = pl_rand_u32(&l->rand.base) % 1000000 < p->loss_ppm;
    bool behind = pl_rand_u32(&l->rand.base) % 1000000 < p->reorder_ppm;
    uint32_t spread = pl_rand_u32(&l->rand.base);
    struct pl_mono out;
    enum link_fate fate = l->cut ? LINK_CUT : lost ? LINK_LOST : depart(l, now, bytes, &out) ? LINK_PASSES : LINK_QUEUE_FULL;
    l->fates[fate]++;
    if (fate != LINK_PASSES)
        return fate;
    int64_t jitter = p->jitter_us ? (int64_t)(spread % (uint64_t)(2 * p->jitter_us + 1)) - p->jitter_us : 0;
    int64_t delay = p->delay_us + jitter;
    struct pl_mono due = pl_mono_add(out, delay > 0 ? delay : 0);
    l->bytes += bytes;
    if (behind) {
        l->reordered++;
        *ret_due = pl_mono_add(due, p->reorder_us);
        return fate;
    }
    *ret_due = l->due_last = later(due, l->due_last);
    return fate;
}
