/* source_test.c - the test picture and tone as a source. */
#include "pattern.h"
#include "source.h"

struct test_source {
    struct source base;
    AVFrame *picture, *samples;
    uint32_t pictures; /**< made so far */
    uint64_t blocks;   /**< of samples, made so far */
};

static enum pl_err next(struct source *base, struct source_frame *ret)
{
    struct test_source *s = (struct test_source *)base;
    int64_t picture_us = (int64_t)s->pictures * 1000000 / PATTERN_FPS, block_us = (int64_t)s->blocks * 1000000 * CODER_SAMPLES / CODER_RATE;
    bool video = picture_us <= block_us;
    AVFrame *f = video ? s->picture : s->samples;
    /* The encoder may still hold on to what it was given last. */
    if (av_frame_make_writable(f) < 0)
        return PL_NO_MEMORY;
    if (video)
        pattern_picture(f, s->pictures++);
    else
        pattern_tone((int16_t *)(void *)f->data[0], CODER_SAMPLES, s->blocks++ * CODER_SAMPLES);
    *ret = (struct source_frame){ .media = video ? CAMERA_VIDEO : CAMERA_AUDIO, .raw = f, .pts_us = video ? picture_us : block_us };
    return PL_OK;
}

static struct source *finish(struct source *base)
{
    struct test_source *s = (struct test_source *)base;
    av_frame_free(&s->picture);
    av_frame_free(&s->samples);
    return pl_heap_free(s);
}

enum pl_err source_open_test(struct source **ret)
{
    static const struct source_kind kind = { .next = next, .close = finish };
    struct test_source *s = pl_heap(sizeof *s);
    if (!s)
        return PL_NO_MEMORY;
    s->base = (struct source){ .kind = &kind, .width = PATTERN_WIDTH, .height = PATTERN_HEIGHT, .fps = PATTERN_FPS };
    s->picture = av_frame_alloc();
    s->samples = av_frame_alloc();
    bool ok = s->picture && s->samples;
    if (ok) {
        s->picture->format = AV_PIX_FMT_YUV420P;
        s->picture->width = PATTERN_WIDTH;
        s->picture->height = PATTERN_HEIGHT;
        s->samples->format = AV_SAMPLE_FMT_S16;
        s->samples->sample_rate = CODER_RATE;
        s->samples->ch_layout = (AVChannelLayout)AV_CHANNEL_LAYOUT_MONO;
        s->samples->nb_samples = CODER_SAMPLES;
        ok = av_frame_get_buffer(s->picture, 0) == 0 && av_frame_get_buffer(s->samples, 0) == 0;
    }
    if (!ok) {
        finish(&s->base);
        return PL_NO_MEMORY;
    }
    *ret = &s->base;
    return PL_OK;
}
