#include "device_priv.h"

struct device_conn *device_conn_new(struct device_ctx *ctx)
{
    struct device_conn *d = pl_heap(sizeof *d);
    if (!d)
        return NULL;
    d->ctx = ctx;
    pthread_mutex_init(&d->lock, NULL);
    return d;
}

void device_conn_done(void *owner)
{
    struct device_conn *d = owner;
    device_conn_unserve(d); /* a stop without a database drops `closed` */
    pthread_mutex_destroy(&d->lock);
    pl_heap_free(d);
}

struct pl_str device_conn_serial(const struct device_conn *d) { return pl_str_of(d->serial); }
unsigned device_conn_suites(const struct device_conn *d) { return d->suites; }

void device_conn_deliver(struct link_conn *conn)
{
    struct device_conn *d = link_owner(conn);
    {
        PL_LOCK(&d->lock);
        if (d->posted)
            return;
        d->posted = true;
    }
    if (link_post(conn, device_deliver, /* arg= */ NULL) != PL_OK)
        link_close(conn, PL_OVERLOADED); /* the device comes again, and what waits is handed over then */
}

static void on_nudge(void *self, const char *subject)
{
    (void)subject;
    device_conn_deliver(self);
}

/* Another part's message for this device: into its socket, or hub_offline. The device's answer comes as a message of its own. */
static void on_ask(void *self, struct bus_ask *ask, struct pl_str text)
{
    enum pl_err e = link_send(self, text);
    bus_answer(ask, e == PL_OK ? PL_OK : PL_HUB_OFFLINE, PL_STR("{}"));
}

enum pl_err device_conn_serve(struct link_conn *conn)
{
    struct device_conn *d = link_owner(conn);
    char subject[DEVICE_SUBJECT];
    device_subject(device_conn_serial(d), subject);
    enum pl_err e = bus_serve(d->ctx->bus, subject, on_ask, conn, &d->server);
    return e == PL_OK ? bus_watch(d->ctx->bus, subject, on_nudge, conn, &d->watch) : e;
}

void device_conn_unserve(struct device_conn *d)
{
    d->server = bus_unserve(d->server);
    d->watch = bus_unwatch(d->watch);
}
