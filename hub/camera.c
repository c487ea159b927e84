#include "camera.h"
#include "copier.h"
#include "filler.h"
#include "source.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TOO_LATE PL_SECOND  /* behind by so much, the camera skips time instead of chasing it */
#define LONGEST_WAIT (5 * PL_SECOND)

struct camera {
    struct camera_conf conf;
    pthread_t thread;
    int wake; /**< eventfd: a flag below has changed */
    atomic_bool go, key, stop;
    atomic_int bits; /**< asked for and not yet set; 0: none */
    struct source *source; /**< and its coder; or the copier */
    struct coder *coder;
    struct copier *copier;
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

static enum pl_err encode(struct camera *c, const struct source_raw *raw, int64_t pts_us)
{
    if (raw->media == CAMERA_AUDIO)
        return coder_audio(c->coder, raw->frame, pts_us, c->conf.on_frame, c->conf.self);
    int bits = atomic_exchange(&c->bits, 0);
    if (bits)
        coder_bitrate(c->coder, bits);
    return coder_video(c->coder, raw->frame, pts_us, atomic_exchange(&c->key, false), c->conf.on_frame, c->conf.self);
}

/* The line of time that frames are put on. */
struct pace {
    struct pl_mono began;
    int64_t skipped; /**< time in which nothing was made */
};

static struct pace wait_to_go(struct camera *c)
{
    while (!atomic_load(&c->go) && !atomic_load(&c->stop))
        wait_until(c, pl_mono_add(pl_now_mono(c->conf.clock), LONGEST_WAIT));
    return (struct pace){ .began = pl_now_mono(c->conf.clock) };
}

/* When the frame of `pts_us` leaves: at its time. Returns its place on the line. */
static int64_t wait_for_its_time(struct camera *c, struct pace *p, int64_t pts_us)
{
    struct pl_mono due = pl_mono_add(p->began, pts_us + p->skipped);
    while (!atomic_load(&c->stop) && pl_mono_cmp(pl_now_mono(c->conf.clock), due) < 0)
        wait_until(c, due);
    int64_t late = pl_mono_sub(pl_now_mono(c->conf.clock), due);
    if (late > TOO_LATE)
        p->skipped += late;
    return pts_us + p->skipped;
}

static enum pl_err run_source(struct camera *c)
{
    struct source_raw raw;
    struct pace pace = wait_to_go(c);
    enum pl_err e;
    while ((e = source_next(c->source, &raw)) == PL_OK && !atomic_load(&c->stop))
        if ((e = encode(c, &raw, c->source->live ? raw.pts_us : wait_for_its_time(c, &pace, raw.pts_us))) != PL_OK)
            break;
    return e;
}

static enum pl_err run_copier(struct camera *c)
{
    struct camera_frame f;
    struct pace pace = wait_to_go(c);
    enum pl_err e;
    while ((e = copier_next(c->copier, &f)) == PL_OK && !atomic_load(&c->stop)) {
        if (!copier_live(c->copier))
            f.pts_us = wait_for_its_time(c, &pace, f.pts_us);
        c->conf.on_frame(c->conf.self, &f);
    }
    return e;
}

static enum pl_err fill(struct camera *c)
{
    struct filler *filler;
    enum pl_err e = filler_open(c->conf.source, &filler);
    if (e != PL_OK)
        return e;
    for (struct pace pace = wait_to_go(c); !atomic_load(&c->stop);) {
        struct camera_frame f;
        filler_next(filler, &f);
        f.pts_us = wait_for_its_time(c, &pace, f.pts_us);
        c->conf.on_frame(c->conf.self, &f);
    }
    filler = filler_close(filler);
    return PL_OK;
}

static enum pl_err copy(struct camera *c, struct pl_fail *fail)
{
    enum pl_err e = copier_open(c->conf.source, &c->stop, &c->copier, fail);
    return e == PL_OK ? run_copier(c) : e;
}

static enum pl_err make(struct camera *c, struct pl_fail *fail)
{
    enum pl_err e = source_open(c->conf.source, &c->stop, &c->source, fail);
    if (e == PL_OK)
        e = coder_open(c->source->width, c->source->height, c->source->fps, &c->coder, fail);
    return e == PL_OK ? run_source(c) : e;
}

static void *run(void *arg)
{
    struct camera *c = arg;
    struct pl_fail fail = PL_FAIL_INIT;
    enum pl_err e = filler_wanted(c->conf.source) ? fill(c) : copier_wanted(c->conf.source) ? copy(c, &fail) : make(c, &fail);
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
    c->copier = copier_close(c->copier);
    c->coder = coder_close(c->coder);
    c->source = source_close(c->source);
    close(c->wake);
    return pl_heap_free(c);
}
