/* admin.h - the admin API: what porchctl speaks, on its own listener (a Unix socket of mode 0600), for the operator of this machine.
 *
 * Rows like any other route; who can open the socket is the operator. An admin can see that an account exists, what is registered and what runs; it cannot see or
 * set a password, and a PIN only where no provider is configured to carry it (S-A10: the outbox of a machine that sends nothing).
 * Not here: rules. Each route calls one function of the capability that owns the data.   Threads: http's workers.  Memory: the call's arena.
 *     http_mount(admin_http, admin_routes, &(struct admin_ctx){ .notify = notify, .live = &live, … });
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
