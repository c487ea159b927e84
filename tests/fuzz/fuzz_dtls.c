/* DTLS: (1) any datagrams into a fresh association: who does not answer what it says gets no keys, whatever it sends; (2) a handshake between two of ours with the
 * input as the hostile network between them: lost, changed, invented datagrams. Should both ends finish all the same, they have the same keys (S-M1, S-M2, S-M4). */
#include "dtls.h"
#include "fuzz.h"

enum { QUEUE = 32, LARGEST = 2048 };

static struct dtls_context *context;
static const struct pl_mono now = { PL_SECOND };

struct end {
    struct dtls_sink sink; /* first */
    struct dtls *d;
    unsigned n;
    struct { size_t n; uint8_t p[DTLS_MTU]; } out[QUEUE]; /* what it has sent and nobody has taken yet */
};

static void take(struct dtls_sink *self, const uint8_t *p, size_t n)
{
    struct end *e = (struct end *)self;
    FUZZ_MUST(n > 0 && n <= DTLS_MTU);
    if (e->n == QUEUE)
        return;
    e->out[e->n].n = n;
    memcpy(e->out[e->n++].p, p, n);
}

static void open_end(struct end *e, enum dtls_role role)
{
    struct dtls_conf c = { .context = context, .role = role, .suites = { PL_SRTP_GCM, PL_SRTP_SHA1_80 }, .suites_n = 2 };
    memcpy(c.fingerprints[0], dtls_fingerprint(context), DTLS_FINGERPRINT);
    e->sink.send = take;
    e->n = 0;
    FUZZ_MUST(dtls_new(&c, &e->d) == PL_OK);
    dtls_path(e->d, now);
    dtls_start(e->d, now, &e->sink);
}

static void close_end(struct end *e) { e->d = dtls_free(e->d); }

static struct pl_str datagram(struct pl_rd *rd)
{
    size_t want = pl_rd_u16(rd) & (LARGEST - 1), left = pl_rd_left(rd);
    return pl_rd_bytes(rd, want < left ? want : left);
}

static void strangers(struct pl_rd *rd, enum dtls_role role)
{
    static struct end e;
    open_end(&e, role);
    while (pl_rd_left(rd) > 2) {
        struct pl_str s = datagram(rd);
        dtls_input(e.d, now, (const uint8_t *)s.p, s.n, &e.sink);
    }
    dtls_tick(e.d, pl_mono_add(now, PL_SECOND), &e.sink);
    FUZZ_MUST(dtls_state(e.d) <= DTLS_HANDSHAKE);
    close_end(&e);
}

/* One byte of input for each datagram under way: pass, lose, change, twice, or another in its place. */
static void meddle(struct pl_rd *rd, struct end *to, uint8_t *p, size_t n)
{
    uint8_t what = pl_rd_u8(rd);
    if (what % 8 == 1)
        return;
    if (what % 8 == 2)
        p[pl_rd_u16(rd) % n] ^= (uint8_t)(pl_rd_u8(rd) | 1);
    if (what % 8 == 3) {
        struct pl_str s = datagram(rd);
        dtls_input(to->d, now, (const uint8_t *)s.p, s.n, &to->sink);
    }
    if (what % 8 == 4)
        dtls_input(to->d, now, p, n, &to->sink);
    if (what % 8 == 5)
        n = 1 + pl_rd_u16(rd) % n;
    dtls_input(to->d, now, p, n, &to->sink);
}

static void between(struct pl_rd *rd)
{
    static struct end ends[2];
    struct dtls_keys k[2];
    for (unsigned i = 0; i < 2; i++)
        open_end(&ends[i], i ? DTLS_PASSIVE : DTLS_ACTIVE);
    for (unsigned round = 0, quiet = 0; round < 24 && quiet < 3; round++) {
        quiet = ends[0].n + ends[1].n ? 0 : quiet + 1;
        for (unsigned i = 0; i < 2; i++) {
            struct end from = ends[i];
            ends[i].n = 0;
            for (unsigned m = 0; m < from.n; m++)
                meddle(rd, &ends[1 - i], from.out[m].p, from.out[m].n);
        }
        for (unsigned i = 0; i < 2 && quiet; i++)
            dtls_tick(ends[i].d, pl_mono_add(now, (round + 1) * 4 * PL_SECOND < DTLS_DEADLINE ? (round + 1) * 4 * PL_SECOND : DTLS_DEADLINE - 1), &ends[i].sink);
    }
    if (dtls_state(ends[0].d) >= DTLS_FINISHED && dtls_state(ends[1].d) >= DTLS_FINISHED) {
        for (unsigned i = 0; i < 2; i++)
            FUZZ_MUST(dtls_keys(ends[i].d, &k[i]) == PL_OK);
        size_t n = pl_srtp_key_bytes(k[0].suite);
        FUZZ_MUST(k[0].suite == PL_SRTP_GCM && k[1].suite == PL_SRTP_GCM); /* nobody in between talks them out of it */
        FUZZ_MUST(memcmp(k[0].send_key, k[1].receive_key, n) == 0 && memcmp(k[1].send_key, k[0].receive_key, n) == 0);
    }
    close_end(&ends[0]);
    close_end(&ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!context)
        FUZZ_MUST(dtls_context_new((struct pl_utc){ 0 }, &context) == PL_OK);
    struct pl_rd rd = pl_rd_of(data, size);
    switch (pl_rd_u8(&rd) % 3) {
    case 0: strangers(&rd, DTLS_ACTIVE); break;
    case 1: strangers(&rd, DTLS_PASSIVE); break;
    default: between(&rd); break;
    }
    return 0;
}
