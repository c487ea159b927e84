#include "camera.h"
#include "pace.h"
#include "source.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STALE_MOST (3 * PL_SECOND) /* a machine that never catches up with its camera shows what it has */
#define LONGEST_WAIT (5 * PL_SECOND)

struct camera {
    struct camera_conf conf;
    pthread_t thread;
    int wake; /**< eventfd: a flag below has changed */
    atomic_bool go, key, stop;
    atomic_int bits; /**< asked for and not yet set; 0: none */
    struct source *source;
    struct coder *coder; /**< of raw frames */
};

static void set(struct camera *c, atomic_bool *flag)
{
    atomic_store(flag, true);
    (void)eventfd_write(c->wake, 1);
}

/* Until a flag changes or `due` is there. */
static void wait_until(struct camera *c, struct pl_mono due)
{
    int64_t us = pl_mono_sub(due, pl_now_mono(c->conf.clock));
    if (us <= 0)
        return;
    struct timespec t = { us / PL_SECOND, us % PL_SECOND * 1000 };
    struct pollfd p = { .fd = c->wake, .events = POLLIN };
    eventfd_t woken;
    if (ppoll(&p, 1, &t, NULL) > 0)
        (void)eventfd_read(c->wake, &woken);
}

static enum pl_err hand_on(struct camera *c, const struct source_frame *f, int64_t pts_us)
{
    if (!f->raw) {
        c->conf.on_frame(c->conf.self, &(struct camera_frame){ .media = f->media, .data = f->coded, .pts_us = pts_us, .key = f->key });
        return PL_OK;
    }
    if (f->media == CAMERA_AUDIO)
        return coder_audio(c->coder, f->raw, pts_us, c->conf.on_frame, c->conf.self);
    int bits = atomic_exchange(&c->bits, 0);
    if (bits)
        coder_bitrate(c->coder, bits);
    return coder_video(c->coder, f->raw, pts_us, atomic_exchange(&c->key, false), c->conf.on_frame, c->conf.self);
}

/* Raw pictures of a camera that goes on meanwhile: read and decoded until the way is open and none of before is left. What is handed on first is then of now. */
static enum pl_err pass_over_stale(struct camera *c)
{
    struct source_frame f;
    enum pl_err e = PL_OK;
    struct pl_mono until = { 0 };
    for (;;) {
        bool go = atomic_load(&c->go);
        if (go && !until.us)
            until = pl_mono_add(pl_now_mono(c->conf.clock), STALE_MOST);
        if (e != PL_OK || atomic_load(&c->stop) || (go && (c->source->caught_up || pl_mono_cmp(pl_now_mono(c->conf.clock), until) >= 0)))
            return e;
        e = source_next(c->source, &f);
    }
}

static enum pl_err wait_to_go(struct camera *c)
{
    while (!atomic_load(&c->go) && !atomic_load(&c->stop))
        wait_until(c, pl_mono_add(pl_now_mono(c->conf.clock), LONGEST_WAIT));
    return PL_OK;
}

/* Until it is the frame's time. Returns its place. */
static int64_t wait_for_its_time(struct camera *c, struct pace *p, int64_t pts_us)
{
    struct pl_mono due = pace_due(p, pts_us);
    while (!atomic_load(&c->stop) && pl_mono_cmp(pl_now_mono(c->conf.clock), due) < 0)
        wait_until(c, due);
    return pace_leaves(p, pl_now_mono(c->conf.clock), pts_us);
}

static enum pl_err work(struct camera *c)
{
    struct source_frame f;
    bool fresh = c->source->live && !c->source->coded; /* its frames leave when they come */
    enum pl_err e = fresh ? pass_over_stale(c) : wait_to_go(c);
    struct pace pace = pace_begin(c->source->live, pl_now_mono(c->conf.clock));
    while (e == PL_OK && !atomic_load(&c->stop) && (e = source_next(c->source, &f)) == PL_OK && !atomic_load(&c->stop))
        e = hand_on(c, &f, fresh ? f.pts_us : wait_for_its_time(c, &pace, f.pts_us));
    return e;
}

static enum pl_err open_and_work(struct camera *c)
{
    struct pl_fail fail = PL_FAIL_INIT;
    enum pl_err e = source_open(c->conf.source, &c->stop, &c->source, &fail);
    if (e == PL_OK && !c->source->coded)
        e = coder_open(c->source->width, c->source->height, c->source->fps, &c->coder, &fail);
    return e == PL_OK ? work(c) : e;
}

static void *run(void *arg)
{
    struct camera *c = arg;
    enum pl_err e = open_and_work(c);
    if (!atomic_load(&c->stop))
        c->conf.on_end(c->conf.self, e);
    return NULL;
}

enum pl_err camera_new(const struct camera_conf *conf, struct camera **ret)
{
    struct camera *c = pl_heap(sizeof *c);
    if (!c)
        return PL_NO_MEMORY;
    c->conf = *conf;
    c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake < 0 || pthread_create(&c->thread, NULL, run, c) != 0) {
        if (c->wake >= 0)
            close(c->wake);
        pl_heap_free(c);
        return PL_NO_MEMORY;
    }
    *ret = c;
    return PL_OK;
}

void camera_go(struct camera *c) { set(c, &c->go); }
/* Needs no waking: the flag is read when the next picture is due. */
void camera_keyframe(struct camera *c) { atomic_store(&c->key, true); }

void camera_bitrate(struct camera *c, int bits) { atomic_store(&c->bits, bits); }

struct camera *camera_free(struct camera *c)
{
    if (!c)
        return NULL;
    set(c, &c->stop);
    pthread_join(c->thread, NULL);
    c->coder = coder_close(c->coder);
    c->source = source_close(c->source);
    close(c->wake);
    return pl_heap_free(c);
}
