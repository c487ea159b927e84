#include "reorder.h"

#define FAR PL_HOUR

static int64_t wait_of(const struct reorder *r) { return r->wait ? r->wait : REORDER_WAIT; }

/* Forgets the gap in front of the first packet that waits. */
static void give_up(struct reorder *r)
{
    while (r->held && r->slots[r->next % REORDER_SLOTS].n == 0) {
        r->next++;
        r->lost++;
    }
}

void reorder_push(struct reorder *r, struct pl_mono now, uint64_t index, const uint8_t *p, size_t n)
{
    if (n == 0 || n > REORDER_PACKET)
        return;
    if (!r->started) {
        r->started = true;
        r->next = index;
    }
    if (index < r->next) {
        r->late++;
        return;
    }
    /* A jump over all slots: what waits belongs to a time that is gone. */
    if (index - r->next >= REORDER_SLOTS) {
        for (size_t i = 0; i < REORDER_SLOTS; i++)
            r->slots[i].n = 0;
        r->lost += index - r->next - r->held;
        r->held = 0;
        r->next = index;
    }
    size_t at = index % REORDER_SLOTS;
    if (r->slots[at].n)
        return; /* doubled */
    if (r->held++ == 0)
        r->since = now;
    memcpy(r->slots[at].p, p, n);
    r->slots[at].n = n;
}

bool reorder_take(struct reorder *r, struct pl_mono now, const uint8_t **ret, size_t *ret_n)
{
    if (r->held == 0)
        return false;
    if (r->slots[r->next % REORDER_SLOTS].n == 0) {
        if (pl_mono_sub(now, r->since) < wait_of(r))
            return false;
        give_up(r);
    }
    size_t at = r->next++ % REORDER_SLOTS;
    *ret = r->slots[at].p;
    *ret_n = r->slots[at].n;
    r->slots[at].n = 0;
    r->held--;
    r->since = now;
    return true;
}

struct pl_mono reorder_due(const struct reorder *r, struct pl_mono now) { return r->held ? pl_mono_add(r->since, wait_of(r)) : pl_mono_add(now, FAR); }

size_t reorder_missing(const struct reorder *r, uint64_t *out, size_t cap)
{
    size_t n = 0;
    unsigned held = r->held;
    for (uint64_t i = r->next; held > 0 && n < cap; i++)
        if (r->slots[i % REORDER_SLOTS].n)
            held--;
        else
            out[n++] = i;
    return n;
}
