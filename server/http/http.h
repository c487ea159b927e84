/* http.h - all of libmicrohttpd: REST routes as rows of data, checked by one engine in one order.
 *
 * A row says method, path, who may call, what the body holds and which function answers. The engine checks, in this order: limits (header, body, time), route, method,
 * rate of an unknown caller, access token, rate of the account, scope, content type, body by its table, idempotency key, step-up grant; then it runs the handler on the worker pool
 * inside a transaction, again on PL_RETRY, and sends the reply, or application/problem+json (RFC 9457) made from the error row. Handlers see typed values and
 * write rows; they never log or send. HEAD is a GET whose body stays behind; OPTIONS answers 204 with Allow, and with Accept-Post and Accept-Patch where a body
 * is not JSON; a body that is absent counts as {}. Failures of ours (5xx) are logged under the request's id and tell the caller nothing inside; 429 and 503
 * always carry Retry-After. Who drips, idles, or does not read is cut by deadlines of our own.
 * S-F6, S-F8: the rates are buckets in the database, so that all nodes together give no more than one; every counted reply carries RateLimit-Limit, -Remaining
 * and -Reset. When the buckets cannot be asked, calls that send or try secrets are refused, others go on.
 * S-S9: a call with an Idempotency-Key acts once in 24 hours: its answer is stored, sealed, in the transaction of its effect, and given again (`Idempotency-Replayed`).
 * Not here: what a token is (hooks below, given by node/), WebSockets (link.h), HTTP/2 (the proxy in front).  Threads: handlers run on pool threads, one call at a time each.
 * Memory: all of a call lives in its arena (8 MiB at most, a reply 2 MiB).
 *     static enum pl_err on_rename(struct http_call *c, struct pl_fail *reterr) { const struct rename_body *b = c->body; ... jw_uuid(&c->out, "id", id); return PL_OK; }
 *     const struct http_route system_routes[] = { { HTTP_PATCH, "/v1/systems/{id}", HTTP_USER, on_rename, "Rename a system", HTTP_BODY(struct rename_body, rename_fields) }, HTTP_END };
 */
#pragma once
#include "conf.h"
#include "db.h"
#include "json.h"
#include "pool.h"

enum http_method { HTTP_GET, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE };
enum http_auth {
    HTTP_PUBLIC,  /**< nobody need be signed in; a token is not looked at */
    HTTP_SESSION, /**< a valid access token of a signed-in client; c->actor says whose. A scoped token is PL_SCOPE_MISSING, whatever its scopes. See http_conf.machine, too */
    HTTP_USER     /**< the same, or a scoped token that has the row's `scope` */
};
enum http_tx {
    HTTP_TX,    /**< the engine begins before the handler and commits after it */
    HTTP_OWN_TX /**< the handler begins and commits by c->db itself (hashing, counting before comparing, asking a relay); never run again by the engine */
};

/* What a call counts as (S-F6). Callers who are signed in are counted by their account, others by their address prefix. */
enum http_rate {
    HTTP_RATE_BY_METHOD, /**< READ for GET, else WRITE */
    HTTP_RATE_NONE,      /**< not counted: what watches over the service */
    HTTP_RATE_READ,
    HTTP_RATE_WRITE,
    HTTP_RATE_LIVE,  /**< about a live session */
    HTTP_RATE_AUTH,  /**< tries a secret; also every token that is refused */
    HTTP_RATE_SEND,  /**< sends a message */
    HTTP_RATE_CLAIM, /**< adds a device */
    HTTP_RATES
};
struct http_rates {
    struct { int64_t account, address; } of[HTTP_RATES]; /**< calls a minute */
};
extern const struct conf_row http_rate_conf_rows[]; /* of struct http_rates */

struct http_actor {
    struct pl_uuid account_id;
    struct pl_uuid client_id;
    struct pl_str scopes;  /**< of a scoped token: what it may, words parted by blanks; .p NULL: a session, which may all */
    struct pl_str systems; /**< of a scoped token: where it may (account_sees); .p NULL: wherever its account may */
    struct pl_str name;    /**< of an admin; .p NULL: nobody who has one here */
    bool step_up; /**< a grant for this route's purpose was spent by this call */
};

struct http_call {
    struct pl_arena *arena;
    const struct pl_clock *clock;
    struct pl_rand *rand;
    struct pl_log log;         /**< carries the request id; for the hooks and the engine */
    struct pl_uuid request_id;
    struct pl_utc now;         /**< one time for the whole call; pass it to SQL */
    struct db *db;
    struct db_tx *tx;          /**< HTTP_TX: open. HTTP_OWN_TX: NULL */
    void *self;                /**< what http_mount was given */
    struct http_actor actor;
    const void *body;          /**< the row's body struct, filled; of a row with `type` a struct pl_str, empty when none came; NULL for a row without one */
    struct pl_str peer;        /**< caller's address as text */
    struct pl_str user_agent;  /**< cut at 200 bytes */
    /* the reply */
    int status;                /**< 0: 200, or 204 when nothing was written */
    struct pl_buf buf;
    struct jw out;             /**< an object is open: write members; nothing written = no body */
    bool raw;                  /**< buf was written directly, with content_type */
    const char *content_type;
    bool keep_on_error;        /**< commit though the handler failed (counters of wrong tries) */
    bool replayed;             /**< the reply is the stored one of an earlier call with the same Idempotency-Key */
    struct http_after *after;  /**< http_after's list */
    struct http_header *headers;
    const void *engine;        /**< private */
};
typedef enum pl_err (*http_handler)(struct http_call *c, struct pl_fail *reterr);

struct http_route {
    enum http_method method; /* HTTP_END: path NULL */
    const char *path;        /**< "/v1/systems/{id}/hub" */
    enum http_auth auth;
    http_handler run;
    const char *summary;     /**< one line; equal to the OpenAPI summary */
    const struct json_field *fields; /**< body table; NULL: the route takes no body (one that is sent is refused) */
    size_t body_size;
    const char *type;        /**< the body is of this media type, and not JSON: the handler gets its bytes and looks at them itself */
    size_t most;             /**< of such a body: bytes at most */
    enum http_tx tx;
    const char *scope;       /**< HTTP_USER: what a scoped token must have, words parted by blanks, all of them; no row of that kind is without */
    const char *step_up;     /**< purpose of the grant that the call must spend; NULL: none; with HTTP_OWN_TX the handler uses http_run */
    bool idempotent;         /**< takes Idempotency-Key (S-S9): POSTs that create, send or claim; with HTTP_OWN_TX the handler uses http_run */
    enum http_rate rate;     /**< what it counts as */
    bool outside;            /**< waits for a server that is not ours: it has workers and a queue of its own, so that no other call waits with it */
    bool heavy;              /**< costs so much of a processor that a rush of it must not hold up the others: it has workers and a queue of its own */
};
#define HTTP_BODY(st, table) .fields = (table), .body_size = sizeof(st)
#define HTTP_RAW_BODY(media_type, bytes) .type = (media_type), .most = (bytes)
#define HTTP_END { .path = NULL }

/* Path and query values. The engine has matched the path, so a named parameter is there; one that does not parse is PL_NOT_FOUND. */
PL_MUST enum pl_err http_param_uuid(const struct http_call *c, const char *name, struct pl_uuid *ret);
struct pl_str http_param(const struct http_call *c, const char *name);
/* Has the caller these scopes (words parted by blanks)? A session has all. */
bool http_may(const struct http_actor *actor, const char *scopes);
/* Undoes %XX, and of a form also '+', which is a blank there; .p NULL when it is malformed, not UTF-8 or holds a control character. */
struct pl_str http_unescape(struct pl_arena *a, struct pl_str s, bool form);
/* The other way: all but unreserved characters (RFC 3986, 2.3) become %XX. */
void http_escape(struct pl_buf *b, struct pl_str s);
/* .p NULL when absent. */
struct pl_str http_query(const struct http_call *c, const char *name);
struct pl_str http_header(const struct http_call *c, const char *name);
/* The caller's address prefix, as bytes: the /24 of IPv4, also inside IPv6, or the /64. .p NULL: a Unix socket. Lives as long as the call. */
struct pl_str http_peer_prefix(const struct http_call *c);
/* Adds a reply header; value is copied. */
void http_reply_header(struct http_call *c, const char *name, struct pl_str value);
/* fn(arg) after the commit, before the reply, on the same thread, in the order given: nudges. Not called when the transaction fails. `arg` lives in the arena or longer. */
void http_after(struct http_call *c, void (*fn)(void *arg), void *arg);
/* For HTTP_OWN_TX rows that take an Idempotency-Key or a step-up grant: db_run for the one transaction that has the call's effect, in which the grant is spent.
 * `fn` writes the reply too, and both are committed together. When a call with the same key came first its reply stands instead: c->replayed, and fn has not run. */
PL_MUST enum pl_err http_run(struct http_call *c, db_work *fn, void *arg, struct pl_fail *reterr);
/* Forgets stored answers of more than 24 hours ago, and buckets that are full: a job of the node. */
PL_MUST enum pl_err http_expire(struct db_tx *tx, struct pl_utc now);

/* Settings are read with an ETag and changed with If-Match, so that nobody undoes what he has not seen. A tag says which state an object is in; make it from the bytes
 * that can be changed, inside the transaction that has locked the object. */
struct pl_str http_tag(struct pl_arena *a, struct pl_str state);
void http_etag(struct http_call *c, struct pl_str tag);
/* PL_VERSION_CONFLICT when the call has an If-Match that names other states only. */
PL_MUST enum pl_err http_if_match(const struct http_call *c, struct pl_str tag, struct pl_fail *reterr);

/* Lists go page by page: `?limit=` and `?cursor=`, where the cursor is the key of the last row of the page before, base64url of n bytes (64 at most). */
#define HTTP_PAGE_DEFAULT 100
#define HTTP_PAGE_MOST 200
struct http_page {
    int32_t limit; /**< rows of this page; ask for one more to see whether there are more */
    bool first;    /**< no cursor came: `key` is as it was */
};
PL_MUST enum pl_err http_page(struct http_call *c, void *key, size_t n, struct http_page *ret, struct pl_fail *reterr);
/* Adds `Link: <?cursor=…>; rel="next"`: the list goes on behind this key. */
void http_page_next(struct http_call *c, const struct http_page *page, const void *key, size_t n);

struct http_hooks {
    void *self;
    /* Looks a bearer token up, with one statement that only reads (db_look). PL_UNAUTHENTICATED when it is none. */
    enum pl_err (*authenticate)(void *self, struct db_tx *tx, struct pl_utc now, struct pl_str token, struct http_actor *ret);
    /* Spends a step-up grant in the transaction of the call's effect (HTTP_OWN_TX: that of http_run). PL_STEP_UP_REQUIRED when it is none for this purpose. */
    enum pl_err (*spend_grant)(void *self, struct db_tx *tx, struct pl_utc now, const struct http_actor *actor, const char *purpose, struct pl_str grant);
    /* Begins a call (HTTP_TX) of who was let in, in the transaction of its effect: notes it, and refuses whose right has ended meanwhile. NULL: neither. */
    enum pl_err (*begin)(void *self, struct db_tx *tx, struct pl_utc now, const struct http_actor *actor);
};
struct http_conf {
    const char *listen;       /**< "127.0.0.1:8080"; port 0 takes a free one; "unix:/path" for the admin listener (mode 0600) */
    const char *type_base;    /**< URI prefix of problem types */
    bool machine;             /**< admin listener: whom the kernel names as root or this process's user at the other end of the Unix socket needs no token; its actor is all zero */
    unsigned workers;         /**< threads, each with a db connection */
    unsigned queue;           /**< calls that may wait; past it 503 overloaded */
    unsigned heavy_workers, heavy_queue; /**< the same for heavy rows; 0 workers: they are run as all others */
    unsigned outside_workers, outside_queue; /**< the same for outside rows */
    unsigned max_connections; /**< over all; 0: 1000 */
    unsigned max_per_address; /**< 0: 64 */
    size_t max_body;          /**< 0: 64 KiB */
    const char *tls_cert, *tls_key; /**< PEM files; NULL or empty: no TLS, and then only loopback and Unix sockets are listened on, unless */
    bool behind_proxy;        /**< a proxy with TLS stands in front */
    const char *proxies;      /**< addresses of proxies, parted by blanks, whose X-Forwarded-For says who the caller is (S-F7); NULL or empty: nobody's */
    const char *origins;      /**< whose pages may read answers (CORS): origins parted by blanks; NULL or empty: none */
    const struct http_rates *rates; /**< copied; NULL: calls are not counted (admin listener) */
    int64_t call_deadline;    /**< us from whole request to reply; 0: 15 s, then 503: overloaded if no worker had it yet, else unavailable (it may still commit) */
    struct db_conf db;
    const struct pl_clock *clock;
    struct pl_rand *rand;
    const struct pl_log *log;
    struct http_hooks hooks;
};
struct http;
PL_MUST enum pl_err http_new(const struct http_conf *conf, struct http **ret, struct pl_fail *reterr);
/* Adds a table before http_start; `self` becomes c->self. */
PL_MUST enum pl_err http_mount(struct http *h, const struct http_route *routes, void *self);
PL_MUST enum pl_err http_start(struct http *h, struct pl_fail *reterr);
/* "127.0.0.1:41233": the address in fact listened on. */
const char *http_address(const struct http *h);
/* Reads certificate and key again: connections from now on get them, those that are there stay as they are. Any thread, one at a time. On an error all goes on as before. */
PL_MUST enum pl_err http_reload(struct http *h, struct pl_fail *reterr);
/* Takes no new calls (503), answers those under way within `grace_us` (the rest 503), closes, frees; waits for handlers that still run. Takes NULL; returns NULL. */
struct http *http_stop(struct http *h, int64_t grace_us);
/* For the OpenAPI lint and /openapi.json: visits every mounted row. */
void http_each_route(const struct http *h, void (*fn)(void *arg, const struct http_route *r), void *arg);
