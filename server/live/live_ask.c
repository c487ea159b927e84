/* The way to relays and hubs, wherever they are connected: messages and questions to them, over the bus. */
#include "live_priv.h"
#include <stdio.h>

struct jw live_message(const struct live_ctx *ctx, struct pl_buf *b, const char *type)
{
    struct jw w = jw_start(b);
    jw_open(&w, NULL);
    jw_z(&w, "type", type);
    jw_uuid(&w, "id", pl_uuid7(ctx->rand, pl_now_utc(ctx->clock)));
    return w;
}

enum pl_err live_ask_relay(const struct live_ctx *ctx, struct pl_arena *a, struct pl_uuid relay_id, struct pl_str text, int64_t timeout_us, struct pl_str *ret,
                           struct pl_fail *reterr)
{
    char subject[64], id[PL_UUID_TEXT];
    pl_uuid_text(relay_id, id);
    snprintf(subject, sizeof subject, "relay.%s", id);
    enum pl_err e = bus_ask(ctx->bus, subject, text, timeout_us, a, ret, reterr);
    if (e == PL_UNAVAILABLE)
        return pl_fail(reterr, PL_NO_RELAY, "The relay of this session is not connected to the cloud.");
    return e == PL_TOO_SLOW ? pl_fail(reterr, PL_RELAY_TIMEOUT, "The relay did not answer within %lld ms.", (long long)(timeout_us / PL_MS)) : e;
}

enum pl_err live_ask_hub(const struct live_ctx *ctx, struct pl_arena *a, struct pl_str hub_serial, struct pl_str text, int64_t timeout_us, struct pl_fail *reterr)
{
    char subject[64];
    struct pl_str ignored;
    snprintf(subject, sizeof subject, "hub.%.*s", PL_FMT(hub_serial));
    enum pl_err e = bus_ask(ctx->bus, subject, text, timeout_us, a, &ignored, reterr);
    if (e == PL_UNAVAILABLE || e == PL_TOO_SLOW)
        return pl_fail(reterr, PL_HUB_OFFLINE, "The hub is not connected to the cloud.");
    return e;
}
