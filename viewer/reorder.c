#include "reorder.h"

#define FAR PL_HOUR

static struct reorder_slot *slot_of(const struct reorder *r, uint64_t index) { return &r->slots[index % r->slots_n]; }
static struct pl_mono gives_up(const struct reorder *r, const struct reorder_slot *s) { return pl_mono_add(s->since, r->wait ? r->wait : REORDER_WAIT); }

static void begin_at(struct reorder *r, uint64_t index)
{
    r->started = true;
    r->next = r->end = r->floor = index;
}

bool reorder_push(struct reorder *r, struct pl_mono now, uint64_t index, const uint8_t *p, size_t n)
{
    if (n == 0 || n > REORDER_PACKET)
        return true;
    if (!r->started)
        begin_at(r, index);
    if (index < r->next) {
        r->late++;
        return true;
    }
    if (index - r->next >= r->slots_n && r->next < r->end) {
        r->floor = index - r->slots_n + 1;
        return false;
    }
    /* Nothing waits, and what was passed over is more than could be waited for: it belongs to a time that is gone. */
    if (index - r->next >= r->slots_n) {
        r->lost += index - r->next;
        begin_at(r, index);
    }
    for (; r->end <= index; r->end++) {
        struct reorder_slot *s = slot_of(r, r->end);
        s->n = 0;
        s->since = now;
        s->ask = pl_mono_add(now, REORDER_ASK_AFTER);
        s->tries = 0;
    }
    struct reorder_slot *s = slot_of(r, index);
    if (s->n == 0) { /* else it is doubled */
        memcpy(s->p, p, n);
        s->n = n;
    }
    return true;
}

bool reorder_take(struct reorder *r, struct pl_mono now, const uint8_t **ret, size_t *ret_n)
{
    while (r->next < r->end) {
        struct reorder_slot *s = slot_of(r, r->next);
        if (s->n == 0 && r->next >= r->floor && pl_mono_cmp(now, gives_up(r, s)) < 0)
            return false;
        r->next++;
        if (s->n) {
            *ret = s->p;
            *ret_n = s->n;
            return true;
        }
        r->lost++;
    }
    return false;
}

size_t reorder_ask(struct reorder *r, struct pl_mono now, uint64_t *out, size_t cap)
{
    size_t n = 0;
    for (uint64_t i = r->next; i < r->end && n < cap; i++) {
        struct reorder_slot *s = slot_of(r, i);
        if (s->n || s->tries == REORDER_TRIES || pl_mono_cmp(now, s->ask) < 0)
            continue;
        s->tries++;
        s->ask = pl_mono_add(now, r->again);
        out[n++] = i;
    }
    return n;
}

struct pl_mono reorder_due(const struct reorder *r, struct pl_mono now)
{
    struct pl_mono due = pl_mono_add(now, FAR);
    for (uint64_t i = r->next; i < r->end; i++) {
        const struct reorder_slot *s = slot_of(r, i);
        if (s->n)
            continue;
        struct pl_mono at = s->tries < REORDER_TRIES && pl_mono_cmp(s->ask, gives_up(r, s)) < 0 ? s->ask : gives_up(r, s);
        due = pl_mono_cmp(at, due) < 0 ? at : due;
    }
    return due;
}
