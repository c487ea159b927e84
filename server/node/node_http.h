/* node_http.h - private to node/: routes about the process itself: is it alive, is it ready, what does it count, what does it serve. */
#pragma once
#include "http.h"

extern const struct http_route node_routes[]; /* self: struct node_status */
struct node_status {
    struct pl_utc started_at;
    const struct db_schema *schema; /**< that it was built for; NULL: not yet read */
    bool draining; /**< atomic */
    struct pl_utc draining_since; /**< written before `draining` */
};
extern const struct pl_str node_openapi; /* proto/openapi.yaml as JSON */
