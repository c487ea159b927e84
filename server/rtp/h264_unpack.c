#include "h264.h"
#include "str.h"

struct unit { /* an access unit in the making */
    uint8_t *p;
    size_t n;
    uint32_t timestamp;
    bool open, key, damaged;
    bool in_fragment; /**< a FU-A has started and not ended */
};

struct h264_unpack {
    size_t ceiling;
    struct unit units[2]; /**< one grows while the other is read */
    unsigned current;
    unsigned ready;       /**< units to hand out: 0, 1 (the other, or the current one when `current_done`) or 2 */
    bool current_done;
    bool started;
    bool gap;             /**< a packet was lost since the last one: whose it was is not known */
    uint16_t next_seq;
};

enum pl_err h264_unpack_new(size_t ceiling, struct h264_unpack **ret)
{
    struct h264_unpack *u = pl_heap(sizeof *u);
    if (!u)
        return PL_NO_MEMORY;
    u->ceiling = ceiling;
    u->units[0].p = pl_heap(ceiling);
    u->units[1].p = pl_heap(ceiling);
    if (!u->units[0].p || !u->units[1].p) {
        h264_unpack_free(u);
        return PL_NO_MEMORY;
    }
    *ret = u;
    return PL_OK;
}

struct h264_unpack *h264_unpack_free(struct h264_unpack *u)
{
    if (u) {
        pl_heap_free(u->units[0].p);
        pl_heap_free(u->units[1].p);
    }
    return pl_heap_free(u);
}

static void put(struct h264_unpack *u, struct unit *a, const void *p, size_t n)
{
    if (n > u->ceiling - a->n) {
        a->damaged = true;
        return;
    }
    memcpy(a->p + a->n, p, n);
    a->n += n;
}

static void put_nal_start(struct h264_unpack *u, struct unit *a, uint8_t head)
{
    static const uint8_t code[4] = { 0, 0, 0, 1 };
    uint8_t t = head & 0x1f;
    a->key |= t == H264_IDR || t == H264_SPS;
    put(u, a, code, sizeof code);
    put(u, a, &head, 1);
}

static void put_nal(struct h264_unpack *u, struct unit *a, const uint8_t *p, size_t n)
{
    put_nal_start(u, a, p[0]);
    put(u, a, p + 1, n - 1);
}

static void put_fragment(struct h264_unpack *u, struct unit *a, const uint8_t *p, size_t n)
{
    bool first = p[1] & 0x80, last = p[1] & 0x40;
    if (first == a->in_fragment) { /* a start inside another NAL, or a middle without its start */
        a->damaged = true;
        if (!first)
            return;
    }
    if (first)
        put_nal_start(u, a, (uint8_t)((p[0] & 0xe0) | (p[1] & 0x1f)));
    put(u, a, p + 2, n - 2);
    a->in_fragment = !last;
}

static void put_payload(struct h264_unpack *u, struct unit *a, const uint8_t *p, size_t n)
{
    if (n == 0) /* an empty packet only moves the sequence number */
        return;
    if (!h264_scan(p, n).valid) {
        a->damaged = true;
        return;
    }
    uint8_t t = p[0] & 0x1f;
    if (t == H264_FU_A) {
        put_fragment(u, a, p, n);
        return;
    }
    a->damaged |= a->in_fragment;
    a->in_fragment = false;
    if (t != H264_STAP_A) {
        put_nal(u, a, p, n);
        return;
    }
    struct pl_rd r = pl_rd_of(p + 1, n - 1);
    while (pl_rd_left(&r) > 0) {
        struct pl_str nal = pl_rd_bytes(&r, pl_rd_u16(&r));
        put_nal(u, a, (const uint8_t *)nal.p, nal.n);
    }
}

void h264_unpack_push(struct h264_unpack *u, const struct rtp_packet *pkt)
{
    if (u->started && (int16_t)(uint16_t)(pkt->h.seq - u->next_seq) < 0)
        return;
    bool gap = u->started && pkt->h.seq != u->next_seq;
    u->next_seq = (uint16_t)(pkt->h.seq + 1);
    u->started = true;
    u->ready = 0;
    u->gap |= gap;
    if (u->current_done) {
        u->units[u->current].open = false;
        u->current_done = false;
    }
    struct unit *a = &u->units[u->current];
    if (a->open && a->timestamp != pkt->h.timestamp) { /* the marker was lost, or the sender sets none */
        a->damaged |= u->gap || a->in_fragment;
        u->ready = 1;
        u->current ^= 1;
        a = &u->units[u->current];
        a->open = false;
    }
    if (!a->open)
        *a = (struct unit){ .p = a->p, .timestamp = pkt->h.timestamp, .open = true };
    /* What is missing may be the end of the last unit or the start of this one: both are in doubt. */
    a->damaged |= u->gap;
    u->gap = false;
    put_payload(u, a, pkt->payload, pkt->payload_n);
    if (pkt->h.marker) {
        a->damaged |= a->in_fragment;
        u->current_done = true;
        u->ready++;
    }
}

bool h264_unpack_take(struct h264_unpack *u, struct h264_au *ret)
{
    if (u->ready == 0)
        return false;
    /* The one that was ended by a newer timestamp comes first. */
    bool older = u->ready == 2 || !u->current_done;
    const struct unit *a = &u->units[older ? u->current ^ 1 : u->current];
    u->ready--;
    *ret = (struct h264_au){ .p = a->p, .n = a->n, .timestamp = a->timestamp, .key = a->key, .complete = !a->damaged };
    return true;
}
