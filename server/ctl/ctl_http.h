/* ctl_http.h - porchctl's one way to call HTTP: the admin API on its Unix socket or, with a credential, over TCP; and REST as an app would.
 *
 * A reply that is not 2xx becomes the error of its problem body (code and detail), so that callers handle one kind of failure.
 * Threads: one. Memory: the caller's arena. Every call has a deadline.
 *     e = ctl_admin(c, "GET", "/admin/v1/status", PL_STR_NONE, &body, reterr);
 */
#pragma once
#include "ctl.h"

struct ctl_request {
    const char *unix_socket; /**< path; NULL: TCP to `host` */
    const char *host;        /**< "127.0.0.1:8080"; with a socket: ignored */
    bool tls;                /**< https; the host must stand in the certificate */
    const char *ca_file;     /**< who vouches for it; NULL: the system's authorities */
    const char *method, *path;
    struct pl_str body;      /**< JSON; .p NULL: none */
    const char *bearer;      /**< access token or credential; NULL: none */
    const char *challenge_key; /**< NULL: none */
};
/* PL_UNAVAILABLE when nobody answers within 20 s, or no connection within 3 s. */
PL_MUST enum pl_err ctl_http(struct pl_arena *a, const struct ctl_request *q, struct pl_str *ret_body, struct pl_fail *reterr);

/* Where the admin API listens, as `admin accept` and credential files say it, "127.0.0.1:8090" or "unix:/run/porchlight/admin.sock": into the request.
 * PL_INVALID_REQUEST: neither loopback nor a Unix socket, so that no secret goes over a network in the clear. */
PL_MUST enum pl_err ctl_admin_at(const char *address, struct ctl_request *q, struct pl_fail *reterr);
/* The admin API: of the server that runs in c->dir, as the machine's owner; or by c->as (PL_FORBIDDEN: others may read that file). `path` may have a query. */
PL_MUST enum pl_err ctl_admin(struct ctl *c, const char *method, const char *path, struct pl_str body, struct pl_str *ret_body, struct pl_fail *reterr);
