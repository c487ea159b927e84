/* live_rooms.h - private to live/: which relay takes the next session.
 *
 * A relay says every five seconds how many sessions it has and how busy it is. What this node has placed since counts on top, so that a rush is spread before it is
 * counted; other nodes' rushes are seen with the relay's next word. One that refused, or did not answer, is asked last until then.
 * Threads: any.   Memory: one table of LIVE_ROOMS relays a node; the rows live in the transaction's arena.
 *     e = live_rooms_look(tx, now, &choice);                                       what there is
 *     while (e == PL_OK && (room = live_rooms_take(ctx->rooms, &choice)) != NULL)   the best that was not taken yet; then ask it
 */
#pragma once
#include "live_priv.h"

struct live_choice {
    const struct live_sql_relay_rooms_row *rows;
    bool *taken; /**< of each row */
    size_t n, left;
};
PL_MUST enum pl_err live_rooms_look(struct db_tx *tx, struct pl_utc now, struct live_choice *ret);
/* The relay with the most room of those that were not taken from this choice yet; it counts as having one session more. NULL: there is none. */
const struct live_sql_relay_rooms_row *live_rooms_take(struct live_rooms *r, struct live_choice *c);
/* It did not take the session: no room, or no answer. */
void live_rooms_refused(struct live_rooms *r, struct pl_uuid relay_id);

/* Whether the sessions of a relay are lost: for longer than it takes to come back it has had no connection to the cloud, while the cloud could be reached (V-F6). */
PL_MUST enum pl_err live_relay_lost(const struct live_ctx *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid relay_id, bool *ret);
