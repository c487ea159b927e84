/* pin_write.c - how a challenge is shown: destinations masked, times as seconds from now. */
#include "pin.h"

void pin_mask(struct pl_buf *b, struct pl_str destination)
{
    struct pl_str domain;
    struct pl_str local = pl_str_split(destination, '@', &domain);
    if (domain.n) {
        pl_buf_add(b, local.p, local.n ? 1 : 0);
        pl_buf_fmt(b, "***@%.*s", PL_FMT(domain));
        return;
    }
    for (size_t i = 0; i < destination.n; i++)
        pl_buf_u8(b, i < 3 || i + 2 >= destination.n ? (uint8_t)destination.p[i] : '*');
}

void pin_write(struct jw *w, const struct pin_challenge *c, struct pl_utc now, const char *key)
{
    char mem[300];
    struct pl_buf masked = pl_buf_fixed(mem, sizeof mem);
    jw_uuid(w, "id", c->id);
    if (key)
        jw_z(w, "key", key);
    jw_z(w, "purpose", pin_purpose_names[c->purpose]);
    jw_str(w, "channel", c->channel);
    if (c->destination.p)
        pin_mask(&masked, c->destination);
    jw_str(w, "sent_to", c->destination.p && pl_buf_err(&masked) == PL_OK ? pl_buf_view(&masked) : PL_STR_NONE);
    jw_int(w, "expires_in", pl_seconds_up(pl_utc_sub(c->expires_at, now)));
    if (c->sent_count >= PIN_SENDS)
        jw_null(w, "resend_in");
    else
        jw_int(w, "resend_in", pl_seconds_up(pl_utc_sub(c->resend_at, now)));
    jw_int(w, "attempts_left", PIN_TRIES - c->tries);
    jw_int(w, "sent_count", c->sent_count);
}
