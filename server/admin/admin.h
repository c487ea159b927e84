/* admin.h - the admin API: what porchctl speaks, on listeners of its own: a Unix socket of mode 0600, and loopback where it is wanted.
 *
 * S-A9: there is no default admin. Who owns the machine (root, or the server's user, as the kernel says at the Unix socket) may do everything, and the audit calls him
 * `machine`. He invites the first admin; then any admin invites others: a one-time token of 256 bits, good for an hour, kept as a hash. Who accepts it gets a credential
 * of his own, which is all that counts over TCP (and counts at the socket too, when it comes). A revocation is in force when it is answered, ends the invitations that he
 * made, names the admins whom he had brought in (and whom those had), or revokes them with him (?with_invited=true; who calls stays); the last admin's can be made by the
 * machine's owner only. No name is given twice. Two different admins are two different http_actor.client_id, neither zero. That does not make them two persons: where two
 * different admins are wanted (S-D10), a pair of which one was brought in by the other, by admin.invited_by, directly or over others, is to be refused.
 * Whatever changes something is written into one audit chain (`porchctl admin log`, `porchctl audit verify admins`), in the transaction in which it is done.
 * S-A10: an admin sees that an account exists, what is registered and what runs; he cannot see or set a password or a PIN. The machine's owner, who has the database and
 * its key anyway, sees a PIN where no provider is configured to carry it (the outbox of a machine that sends nothing).
 * Not here: rules. Each route calls one function of the capability that owns the data.   Threads: http's workers.  Memory: the call's arena.
 *     http_new(&(struct http_conf){ .listen = "unix:/run/porchlight/admin.sock", .machine = true, .hooks = admin_hooks(), … }, &http, &fail);
 *     http_mount(http, admin_routes, &(struct admin_ctx){ .notify = notify, .live = &live, … });
 */
#pragma once
#include "http.h"
#include "live.h"
#include "notify.h"
#include "oauth.h"

struct admin_ctx {
    const struct notify *notify;
    struct oauth_ctx *oauth;
    struct live_ctx *live;
    struct pl_utc started_at;
    const char *version;
};
extern const struct http_route admin_routes[]; /* self: struct admin_ctx */
extern const struct http_route admin_people_routes[]; /* self: nothing */
struct http_hooks admin_hooks(void);
extern const struct pl_uuid admin_chain; /* what the audit of admins stands under */
