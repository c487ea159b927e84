/* link_loop.h - one libwebsockets context on a libuv loop in a thread of its own, and frames that wait to be sent. Private to link/.
 *
 * Debian builds libwebsockets for one service thread a context, and its own poll loop collapses when thousands of connections idle: so each context gets its
 * own foreign libuv loop. From outside the thread the only calls are link_loop_wake and link_loop_quit.
 * Not here: what happens on connections (the callback of `info`).
 *     e = link_loop_open(&l, &info, on_tick, self, 50);     e = link_loop_start(&l, "link-hub");     …     link_loop_close(&l);
 */
#pragma once
#include "log.h"
#include <libwebsockets.h>
#include <uv.h>

/* The library's own pings, off: whoever uses a loop measures silence by the clock that it was given. */
extern const lws_retry_bo_t link_no_pings;

struct link_loop {
    uv_loop_t uv;
    uv_timer_t timer;
    struct lws_context *ctx;
    void (*tick)(void *self);
    void *self;
    pthread_t thread;
    bool opened, started;
};
/* Makes the loop and the context of `info` (whose user, options for libuv, foreign loop and defaults against strangers are filled in here). Files are read here
 * (the plug-in for libuv, CAs), so that a process may lock itself in afterwards. `self` is the context's user. */
PL_MUST enum pl_err link_loop_open(struct link_loop *l, struct lws_context_creation_info *info, void (*tick)(void *self), void *self, unsigned tick_ms);
PL_MUST enum pl_err link_loop_start(struct link_loop *l, const char *name);
/* Any thread, while open: LWS_CALLBACK_EVENT_WAIT_CANCELLED comes on the loop's thread, once for any number of calls before it. */
static inline void link_loop_wake(struct link_loop *l) { lws_cancel_service(l->ctx); }
/* On the loop's thread: ends it after this round. Connections still open are cut, each with its last callback. */
static inline void link_loop_quit(struct link_loop *l) { uv_stop(&l->uv); }
/* Joins (the thread must have been told to quit) and frees. Takes one that was never opened. */
void link_loop_close(struct link_loop *l);

/* A text message with the room in front that libwebsockets writes its header into. */
struct link_frame {
    struct link_frame *next;
    size_t n;
    unsigned char room[LWS_PRE];
    unsigned char text[];
};
struct link_queue {
    struct link_frame *first, *last;
    size_t bytes; /**< of text */
};
/* PL_TOO_SLOW when it would hold more than `ceiling` bytes. */
PL_MUST enum pl_err link_queue_add(struct link_queue *q, struct pl_str text, size_t ceiling);
/* The oldest, now the caller's (pl_heap_free); NULL when empty. */
struct link_frame *link_queue_take(struct link_queue *q);
void link_queue_clear(struct link_queue *q);
/* Writes it whole (libwebsockets keeps what the socket does not take) and frees it. Only from a writable callback, once in it. 0, or -1: return that. */
int link_frame_write(struct lws *wsi, struct link_frame *f);
/* A WebSocket ping; the pong calls back (libwebsockets hides empty pongs, so it carries a byte). 0, or -1: return that. */
int link_ping(struct lws *wsi);
/* Starts the closing handshake: code and reason (cut at 123 bytes) go out, the connection ends when the other side answers, or after 5 s. Only from
 * LWS_CALLBACK_EVENT_WAIT_CANCELLED or a tick, never from the connection's own callbacks: Debian's libwebsockets is built with _DEBUG and closes twice when
 * one of those returns -1 under libuv, which drops the close frame. Later callbacks of this connection are its last ones only. */
void link_goodbye(struct lws *wsi, unsigned code, struct pl_str reason);
/* Cuts it without a word, from anywhere on its thread. */
void link_cut(struct lws *wsi);
