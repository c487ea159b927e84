/* What a viewer's transport-wide feedback says of its way: what came, how fast, and how long it stood in a queue. */
#include "relay_private.h"

void relay_cc_sent(struct relay_cc *c, struct pl_mono now, uint16_t number, size_t n)
{
    c->sent[number % RELAY_CC_SENT] = (struct relay_cc_sent){ .at = (uint32_t)now.us, .number = number, .n = (uint16_t)n };
}

/* The peer's clock is not ours: only how much longer than the quickest a packet took means anything. The quickest of the last RELAY_CC_LEAST, twice that at most,
 * so that clocks which drift and ways that change are followed. */
static int64_t beyond_least(struct relay_cc *c, struct pl_mono now, int64_t way)
{
    if (!c->any || pl_mono_sub(now, c->least_at) >= RELAY_CC_LEAST) {
        c->least_before = c->any ? c->least : way;
        c->least = way;
        c->least_at = now;
        c->any = true;
    }
    c->least = way < c->least ? way : c->least;
    return way - (c->least < c->least_before ? c->least : c->least_before);
}

void relay_cc_heard(struct relay_cc *c, struct pl_mono now, const struct rtcp_item *it)
{
    struct rtcp_arrivals a;
    uint16_t number;
    bool came;
    int64_t at, queued = 0, n = 0;
    if (pl_mono_sub(now, c->since) >= 10 * PL_MS) {
        c->since = now;
        c->left = RELAY_CC_SENT;
    }
    if (!rtcp_arrivals_of(it, &a) || a.left > c->left) /* more than is remembered, at once or bit by bit, would only cost time */
        return;
    c->left -= (unsigned)a.left;
    while (rtcp_arrivals_next(&a, &number, &came, &at)) {
        struct relay_cc_sent *s = &c->sent[number % RELAY_CC_SENT];
        if (s->number != number || s->n == 0) /* never sent, long ago, or told before */
            continue;
        if (!came) {
            c->lost += !s->missing;
            s->missing = true;
            continue;
        }
        c->lost -= s->missing; /* it was late */
        c->came++;
        c->bytes += s->n;
        queued += beyond_least(c, now, at - (now.us - (int64_t)(uint32_t)((uint32_t)now.us - s->at)));
        n++;
        s->n = 0;
    }
    if (n)
        c->queue_us += (queued / n - c->queue_us) / 4;
}
