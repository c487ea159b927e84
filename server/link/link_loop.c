#include "link_loop.h"

const lws_retry_bo_t link_no_pings = { .secs_since_valid_ping = 0, .secs_since_valid_hangup = 0 };

static void library_says(int level, const char *line)
{
    (void)level;
    PL_LOG(NULL, PL_WARN, "link.library", PL_F_STR("text", pl_str_trim(pl_str_of(line))));
}

static void on_timer(uv_timer_t *t)
{
    struct link_loop *l = t->data;
    l->tick(l->self);
}

enum pl_err link_loop_open(struct link_loop *l, struct lws_context_creation_info *info, void (*tick)(void *self), void *self, unsigned tick_ms)
{
    void *loops[1] = { &l->uv };

    if (uv_loop_init(&l->uv) != 0)
        return PL_NO_MEMORY;
    l->opened = true;
    l->tick = tick;
    l->self = self;
    uv_timer_init(&l->uv, &l->timer);
    l->timer.data = l;
    uv_timer_start(&l->timer, on_timer, tick_ms, tick_ms);

    lws_set_log_level(LLL_ERR, library_says);
    info->port = CONTEXT_PORT_NO_LISTEN;
    info->options |= LWS_SERVER_OPTION_LIBUV;
    info->foreign_loops = loops;
    info->user = self;
    info->pcontext = &l->ctx;
    info->retry_and_idle_policy = &link_no_pings;
    info->extensions = NULL; /* permessage-deflate would cost 90 KiB a connection */
    l->ctx = lws_create_context(info);
    return l->ctx ? PL_OK : PL_UNAVAILABLE;
}

/* libuv frees handles in its loop, so the context goes in two steps with the loop run dry between them; `pcontext` tells when it is gone. */
static void tear_down(struct link_loop *l)
{
    if (l->ctx)
        lws_context_destroy(l->ctx);
    uv_close((uv_handle_t *)&l->timer, NULL);
    uv_run(&l->uv, UV_RUN_DEFAULT);
    if (l->ctx)
        lws_context_destroy(l->ctx);
    uv_loop_close(&l->uv);
}

static void *run(void *arg)
{
    struct link_loop *l = arg;
    uv_run(&l->uv, UV_RUN_DEFAULT);
    tear_down(l);
    return NULL;
}

enum pl_err link_loop_start(struct link_loop *l, const char *name)
{
    if (pthread_create(&l->thread, NULL, run, l) != 0)
        return PL_NO_MEMORY;
    l->started = true;
    pthread_setname_np(l->thread, name);
    return PL_OK;
}

void link_loop_close(struct link_loop *l)
{
    if (l->started)
        pthread_join(l->thread, NULL);
    else if (l->opened)
        tear_down(l);
    l->started = l->opened = false;
}

enum pl_err link_queue_add(struct link_queue *q, struct pl_str text, size_t ceiling)
{
    if (text.n > ceiling || q->bytes > ceiling - text.n)
        return PL_TOO_SLOW;
    struct link_frame *f = pl_heap(sizeof *f + text.n);
    if (!f)
        return PL_NO_MEMORY;
    f->n = text.n;
    memcpy(f->text, text.p, text.n);
    if (q->last)
        q->last->next = f;
    else
        q->first = f;
    q->last = f;
    q->bytes += f->n;
    return PL_OK;
}

struct link_frame *link_queue_take(struct link_queue *q)
{
    struct link_frame *f = q->first;
    if (!f)
        return NULL;
    q->first = f->next;
    if (!q->first)
        q->last = NULL;
    q->bytes -= f->n;
    return f;
}

void link_queue_clear(struct link_queue *q)
{
    for (struct link_frame *f; (f = link_queue_take(q));)
        pl_heap_free(f);
}

int link_frame_write(struct lws *wsi, struct link_frame *f)
{
    int n = lws_write(wsi, f->text, f->n, LWS_WRITE_TEXT);
    int done = n < (int)f->n ? -1 : 0;
    pl_heap_free(f);
    return done;
}

int link_ping(struct lws *wsi)
{
    unsigned char mem[LWS_PRE + 1] = { 0 };
    mem[LWS_PRE] = '.';
    return lws_write(wsi, mem + LWS_PRE, 1, LWS_WRITE_PING) < 0 ? -1 : 0;
}

void link_goodbye(struct lws *wsi, unsigned code, struct pl_str reason)
{
    unsigned char text[124];
    size_t n = reason.n < 123 ? reason.n : 123;
    if (n)
        memcpy(text, reason.p, n);
    lws_close_reason(wsi, (enum lws_close_status)code, text, n);
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
}

void link_cut(struct lws *wsi)
{
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
    lws_cancel_service(lws_get_context(wsi)); /* under libuv the library looks at its timers only after some event */
}
