/* source_input.c - whatever libavformat opens, as a source: a file in a loop, or an RTSP camera. Decoded, scaled to fit 640x480, mixed to mono. */
#include "line.h"
#include "reader.h"
#include "source.h"
#include <libavcodec/avcodec.h>
#include <libavutil/audio_fifo.h>
#include <libswresample/swresample.h>
#include <libswscale/swscale.h>

enum { MOST_WIDTH = 640, MOST_HEIGHT = 480, FPS_IF_UNSAID = 25, FPS_MOST = 240 };
#define GAP (20 * PL_MS) /* sound that is further than this from where it should be is put there: V-A4 leaves picture and sound 40 ms */

struct track {
    int index; /**< of the stream; -1: the source has none */
    AVCodecContext *codec;
};
struct input {
    struct source base;
    struct reader reader;
    struct track video, audio;
    struct SwsContext *scaler;
    SwrContext *mixer;  /**< for the sound that came last; NULL: for none */
    struct { int sample_rate; enum AVSampleFormat format; AVChannelLayout layout; } mixes; /**< what it was made for */
    AVAudioFifo *mixed;
    AVFrame *decoded, *picture, *samples;
    struct line line;
    int64_t video_us; /**< of the last picture */
    int64_t audio_us; /**< where the sound that was handed on ends */
    bool got_any;     /**< a picture came in this round */
};

static struct source *finish(struct source *base)
{
    struct input *s = (struct input *)base;
    avcodec_free_context(&s->video.codec);
    avcodec_free_context(&s->audio.codec);
    reader_close(&s->reader);
    sws_freeContext(s->scaler);
    swr_free(&s->mixer);
    av_channel_layout_uninit(&s->mixes.layout);
    if (s->mixed)
        av_audio_fifo_free(s->mixed);
    av_frame_free(&s->decoded);
    av_frame_free(&s->picture);
    av_frame_free(&s->samples);
    return pl_heap_free(s);
}

/* Where the frame stands on the line. */
static int64_t place(struct input *s, enum camera_media media, const AVFrame *f, int64_t length_us)
{
    const struct track *t = media == CAMERA_VIDEO ? &s->video : &s->audio;
    if (f->best_effort_timestamp == AV_NOPTS_VALUE)
        return line_behind(&s->line, media, length_us);
    return line_place(&s->line, media, av_rescale_q(f->best_effort_timestamp, s->reader.format->streams[t->index]->time_base, AV_TIME_BASE_Q), length_us);
}

static enum pl_err give_picture(struct input *s, struct source_frame *ret)
{
    const AVFrame *d = s->decoded;
    s->scaler = sws_getCachedContext(s->scaler, d->width, d->height, d->format, s->base.width, s->base.height, AV_PIX_FMT_YUV420P, SWS_BILINEAR, NULL, NULL, NULL);
    if (!s->scaler || av_frame_make_writable(s->picture) < 0)
        return PL_NO_MEMORY;
    sws_scale(s->scaler, (const uint8_t *const *)d->data, d->linesize, 0, d->height, s->picture->data, s->picture->linesize);
    int64_t us = place(s, CAMERA_VIDEO, d, PL_SECOND / s->base.fps);
    s->video_us = us < s->video_us + LINE_STEP ? s->video_us + LINE_STEP : us;
    s->got_any = true;
    *ret = (struct source_frame){ .media = CAMERA_VIDEO, .raw = s->picture, .pts_us = s->video_us };
    return PL_OK;
}

/* The mixer for such sound as this: a recording or a broadcast changes its channels and its rate where it likes. False: it cannot be mixed, and is left out. */
static bool mixes(struct input *s, const AVFrame *d)
{
    if (s->mixer && d->sample_rate == s->mixes.sample_rate && (enum AVSampleFormat)d->format == s->mixes.format && av_channel_layout_compare(&d->ch_layout, &s->mixes.layout) == 0)
        return true;
    AVChannelLayout mono = AV_CHANNEL_LAYOUT_MONO;
    swr_free(&s->mixer); /* what it still holds is a millisecond */
    s->mixes.sample_rate = d->sample_rate;
    s->mixes.format = (enum AVSampleFormat)d->format;
    bool good = av_channel_layout_copy(&s->mixes.layout, &d->ch_layout) == 0 &&
        swr_alloc_set_opts2(&s->mixer, &mono, AV_SAMPLE_FMT_S16, CODER_RATE, &s->mixes.layout, s->mixes.format, d->sample_rate, 0, NULL) == 0 && swr_init(s->mixer) == 0;
    if (!good)
        swr_free(&s->mixer);
    return good;
}

/* Where the sound in the queue ends. */
static int64_t queued_until(const struct input *s) { return s->audio_us + (int64_t)av_audio_fifo_size(s->mixed) * PL_SECOND / CODER_RATE; }

static enum pl_err queue_silence(struct input *s, int64_t us)
{
    int16_t nothing[CODER_SAMPLES] = { 0 };
    void *from = nothing;
    for (int64_t left = us * CODER_RATE / PL_SECOND; left > 0; left -= CODER_SAMPLES)
        if (av_audio_fifo_write(s->mixed, &from, (int)(left < CODER_SAMPLES ? left : CODER_SAMPLES)) < 0)
            return PL_NO_MEMORY;
    return PL_OK;
}

static enum pl_err queue_sound(struct input *s, const AVFrame *d)
{
    int room = swr_get_out_samples(s->mixer, d->nb_samples);
    if (room <= 0)
        return PL_OK;
    uint8_t *out = NULL;
    if (av_samples_alloc(&out, NULL, 1, room, AV_SAMPLE_FMT_S16, 0) < 0)
        return PL_NO_MEMORY;
    int n = swr_convert(s->mixer, &out, room, (const uint8_t **)(void *)d->extended_data, d->nb_samples);
    if (n > 0)
        n = av_audio_fifo_write(s->mixed, (void **)&out, n);
    av_freep(&out);
    return n < 0 ? PL_NO_MEMORY : PL_OK;
}

/* Mixes what was decoded down into the queue of 48 kHz mono, at its place: a gap is silence (a longer one is left out), and what comes a second time is dropped. */
static enum pl_err take_sound(struct input *s)
{
    const AVFrame *d = s->decoded;
    if (d->sample_rate <= 0 || !mixes(s, d))
        return PL_OK;
    int64_t us = place(s, CAMERA_AUDIO, d, d->nb_samples * PL_SECOND / d->sample_rate), gap = us - queued_until(s);
    enum pl_err e = PL_OK;
    if (gap < -GAP)
        return PL_OK;
    if (gap > LINE_LEAP) {
        av_audio_fifo_reset(s->mixed);
        s->audio_us = us;
    } else if (gap > GAP)
        e = queue_silence(s, gap);
    return e == PL_OK ? queue_sound(s, d) : e;
}

static enum pl_err give_sound(struct input *s, struct source_frame *ret)
{
    if (av_frame_make_writable(s->samples) < 0 || av_audio_fifo_read(s->mixed, (void **)s->samples->data, CODER_SAMPLES) != CODER_SAMPLES)
        return PL_NO_MEMORY;
    *ret = (struct source_frame){ .media = CAMERA_AUDIO, .raw = s->samples, .pts_us = s->audio_us };
    s->audio_us += PL_SECOND * CODER_SAMPLES / CODER_RATE;
    return PL_OK;
}

/* A file begins again. One that had no picture in a whole round would spin here for ever: refused. */
static enum pl_err rewind_file(struct input *s)
{
    if (!s->got_any)
        return PL_UNSUPPORTED_MEDIA;
    s->got_any = false;
    line_again(&s->line);
    enum pl_err e = reader_rewind(&s->reader);
    if (e != PL_OK)
        return e;
    avcodec_flush_buffers(s->video.codec);
    if (s->audio.codec)
        avcodec_flush_buffers(s->audio.codec);
    return PL_OK;
}

/* Brings one packet to its decoder. What a decoder refuses is the camera's damage, and the next key frame mends it. */
static enum pl_err feed(struct input *s)
{
    bool end;
    enum pl_err e = reader_next(&s->reader, &end);
    if (e != PL_OK)
        return e;
    s->base.caught_up |= s->reader.waited;
    if (end)
        return rewind_file(s);
    AVCodecContext *codec = s->reader.packet->stream_index == s->video.index ? s->video.codec : s->reader.packet->stream_index == s->audio.index ? s->audio.codec : NULL;
    if (codec)
        (void)avcodec_send_packet(codec, s->reader.packet);
    return PL_OK;
}

static enum pl_err next(struct source *base, struct source_frame *ret)
{
    struct input *s = (struct input *)base;
    enum pl_err e = PL_OK;
    while (e == PL_OK && !atomic_load(s->reader.stop)) {
        if (s->mixed && av_audio_fifo_size(s->mixed) >= CODER_SAMPLES)
            return give_sound(s, ret);
        if (avcodec_receive_frame(s->video.codec, s->decoded) == 0)
            return give_picture(s, ret);
        if (s->audio.codec && avcodec_receive_frame(s->audio.codec, s->decoded) == 0)
            e = take_sound(s);
        else
            e = feed(s);
    }
    return e == PL_OK ? PL_UNAVAILABLE : e;
}

static enum pl_err open_track(struct input *s, enum AVMediaType type, struct track *t)
{
    const AVCodec *codec = NULL;
    t->index = av_find_best_stream(s->reader.format, type, -1, -1, &codec, 0);
    if (t->index < 0)
        return PL_NOT_FOUND;
    t->codec = avcodec_alloc_context3(codec);
    if (!t->codec)
        return PL_NO_MEMORY;
    t->codec->thread_count = 1;
    if (avcodec_parameters_to_context(t->codec, s->reader.format->streams[t->index]->codecpar) < 0 || avcodec_open2(t->codec, codec, NULL) < 0)
        return PL_UNSUPPORTED_MEDIA;
    return PL_OK;
}

/* The largest even size of the same shape that fits, never larger than the source. */
static void fit(struct source *s, int w, int h)
{
    double shrink = 1.0;
    if (w > MOST_WIDTH)
        shrink = (double)MOST_WIDTH / w;
    if (h * shrink > MOST_HEIGHT)
        shrink = (double)MOST_HEIGHT / h;
    s->width = (int)(w * shrink + 0.5) & ~1;
    s->height = (int)(h * shrink + 0.5) & ~1;
}

static enum pl_err prepare_video(struct input *s)
{
    enum pl_err e = open_track(s, AVMEDIA_TYPE_VIDEO, &s->video);
    if (e != PL_OK)
        return e == PL_NOT_FOUND ? PL_UNSUPPORTED_MEDIA : e;
    fit(&s->base, s->video.codec->width, s->video.codec->height);
    AVRational rate = av_guess_frame_rate(s->reader.format, s->reader.format->streams[s->video.index], NULL);
    s->base.fps = rate.num > 0 && rate.den > 0 ? (int)(av_q2d(rate) + 0.5) : FPS_IF_UNSAID;
    if (s->base.fps < 1 || s->base.fps > FPS_MOST)
        s->base.fps = FPS_IF_UNSAID;
    if (s->base.width < 16 || s->base.height < 16)
        return PL_UNSUPPORTED_MEDIA;
    s->picture->format = AV_PIX_FMT_YUV420P;
    s->picture->width = s->base.width;
    s->picture->height = s->base.height;
    return av_frame_get_buffer(s->picture, 0) < 0 ? PL_NO_MEMORY : PL_OK;
}

/* No sound, or none that can be decoded, is no failure: many cameras are deaf. */
static enum pl_err prepare_audio(struct input *s)
{
    if (open_track(s, AVMEDIA_TYPE_AUDIO, &s->audio) != PL_OK) {
        s->audio.index = -1;
        avcodec_free_context(&s->audio.codec);
        return PL_OK;
    }
    s->mixed = av_audio_fifo_alloc(AV_SAMPLE_FMT_S16, 1, 4 * CODER_SAMPLES);
    s->samples->format = AV_SAMPLE_FMT_S16;
    s->samples->sample_rate = CODER_RATE;
    s->samples->ch_layout = (AVChannelLayout)AV_CHANNEL_LAYOUT_MONO;
    s->samples->nb_samples = CODER_SAMPLES;
    return !s->mixed || av_frame_get_buffer(s->samples, 0) < 0 ? PL_NO_MEMORY : PL_OK;
}

enum pl_err source_open_input(const char *what, const atomic_bool *stop, struct source **ret, struct pl_fail *reterr)
{
    static const struct source_kind kind = { .next = next, .close = finish };
    struct input *s = pl_heap(sizeof *s);
    if (!s)
        return PL_NO_MEMORY;
    s->base = (struct source){ .kind = &kind };
    s->video_us = -LINE_STEP;
    s->video.index = s->audio.index = -1;
    s->decoded = av_frame_alloc();
    s->picture = av_frame_alloc();
    s->samples = av_frame_alloc();
    enum pl_err e = s->decoded && s->picture && s->samples ? reader_open(&s->reader, what, stop, reterr) : PL_NO_MEMORY;
    if (e == PL_OK && (e = prepare_video(s)) == PL_UNSUPPORTED_MEDIA)
        (void)pl_fail(reterr, e, "the source has no picture that can be decoded");
    if (e == PL_OK)
        e = prepare_audio(s);
    if (e != PL_OK) {
        finish(&s->base);
        return e;
    }
    s->base.live = s->reader.live;
    *ret = &s->base;
    return PL_OK;
}
