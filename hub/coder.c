#include "coder.h"
#include <libavcodec/avcodec.h>
#include <libavutil/opt.h>

struct coder {
    AVCodecContext *video, *audio;
    AVPacket *packet;
};

/* All time in here is in microseconds; x264 only wants to know that frames are not evenly spaced. */
static const AVRational us_base = { 1, 1000000 };

/* Never above the rate, but for what half a second of the line holds: a key frame fits into that. libavcodec hands a change of these on to x264 with the next picture. */
static void set_rate(AVCodecContext *v, int bits)
{
    v->bit_rate = v->rc_max_rate = bits;
    v->rc_buffer_size = bits / 2;
}

static enum pl_err open_video(struct coder *c, int width, int height, int fps, struct pl_fail *reterr)
{
    const AVCodec *codec = avcodec_find_encoder_by_name("libx264");
    if (!codec)
        return pl_fail(reterr, PL_UNSUPPORTED_MEDIA, "libavcodec was built without libx264");
    AVCodecContext *v = c->video = avcodec_alloc_context3(codec);
    if (!v)
        return PL_NO_MEMORY;
    v->width = width;
    v->height = height;
    v->pix_fmt = AV_PIX_FMT_YUV420P;
    v->time_base = us_base;
    v->framerate = (AVRational){ fps, 1 };
    v->gop_size = fps * CODER_KEY_EVERY_S;
    v->max_b_frames = 0;
    v->thread_count = 1;
    set_rate(v, CODER_VIDEO_BITS);
    v->color_range = AVCOL_RANGE_MPEG;
    AVDictionary *options = NULL;
    av_dict_set(&options, "preset", "ultrafast", 0);
    av_dict_set(&options, "tune", "zerolatency", 0);
    av_dict_set(&options, "profile", "baseline", 0);
    av_dict_set(&options, "forced-idr", "1", 0);
    av_dict_set(&options, "x264-params", "scenecut=0", 0);
    int r = avcodec_open2(v, codec, &options);
    av_dict_free(&options);
    return r < 0 ? pl_fail(reterr, PL_UNSUPPORTED_MEDIA, "x264 refuses %dx%d", width, height) : PL_OK;
}

static enum pl_err open_audio(struct coder *c, struct pl_fail *reterr)
{
    const AVCodec *codec = avcodec_find_encoder_by_name("libopus");
    if (!codec)
        return pl_fail(reterr, PL_UNSUPPORTED_MEDIA, "libavcodec was built without libopus");
    AVCodecContext *a = c->audio = avcodec_alloc_context3(codec);
    if (!a)
        return PL_NO_MEMORY;
    a->sample_rate = CODER_RATE;
    a->sample_fmt = AV_SAMPLE_FMT_S16;
    a->time_base = us_base;
    a->ch_layout = (AVChannelLayout)AV_CHANNEL_LAYOUT_MONO;
    a->bit_rate = CODER_AUDIO_BITS;
    AVDictionary *options = NULL;
    av_dict_set(&options, "frame_duration", "20", 0);
    av_dict_set(&options, "application", "audio", 0);
    int r = avcodec_open2(a, codec, &options);
    av_dict_free(&options);
    return r < 0 || a->frame_size != CODER_SAMPLES ? pl_fail(reterr, PL_UNSUPPORTED_MEDIA, "libopus refuses 20 ms of 48 kHz mono") : PL_OK;
}

enum pl_err coder_open(int width, int height, int fps, struct coder **ret, struct pl_fail *reterr)
{
    struct coder *c = pl_heap(sizeof *c);
    if (!c)
        return PL_NO_MEMORY;
    c->packet = av_packet_alloc();
    enum pl_err e = c->packet ? open_video(c, width, height, fps, reterr) : PL_NO_MEMORY;
    if (e == PL_OK)
        e = open_audio(c, reterr);
    if (e != PL_OK) {
        coder_close(c);
        return e;
    }
    *ret = c;
    return PL_OK;
}

void coder_bitrate(struct coder *c, int bits)
{
    set_rate(c->video, bits < CODER_VIDEO_LEAST ? CODER_VIDEO_LEAST : bits > CODER_VIDEO_MOST ? CODER_VIDEO_MOST : bits);
}

/* Hands on what the encoder has ready. */
static enum pl_err drain(struct coder *c, AVCodecContext *codec, enum camera_media media, int64_t pts_us, camera_emit emit, void *self)
{
    int r;
    while ((r = avcodec_receive_packet(codec, c->packet)) == 0) {
        struct camera_frame f = { .media = media, .data = { (const char *)c->packet->data, (size_t)c->packet->size }, .pts_us = pts_us,
            .key = media == CAMERA_VIDEO && c->packet->flags & AV_PKT_FLAG_KEY };
        emit(self, &f);
        av_packet_unref(c->packet);
    }
    return r == AVERROR(EAGAIN) ? PL_OK : PL_INTERNAL;
}

enum pl_err coder_video(struct coder *c, AVFrame *picture, int64_t pts_us, bool key, camera_emit emit, void *self)
{
    picture->pts = pts_us;
    picture->pict_type = key ? AV_PICTURE_TYPE_I : AV_PICTURE_TYPE_NONE;
    if (avcodec_send_frame(c->video, picture) < 0)
        return PL_INTERNAL;
    return drain(c, c->video, CAMERA_VIDEO, pts_us, emit, self);
}

enum pl_err coder_audio(struct coder *c, AVFrame *samples, int64_t pts_us, camera_emit emit, void *self)
{
    samples->pts = pts_us;
    if (avcodec_send_frame(c->audio, samples) < 0)
        return PL_INTERNAL;
    return drain(c, c->audio, CAMERA_AUDIO, pts_us, emit, self);
}

struct coder *coder_close(struct coder *c)
{
    if (!c)
        return NULL;
    avcodec_free_context(&c->video);
    avcodec_free_context(&c->audio);
    av_packet_free(&c->packet);
    return pl_heap_free(c);
}
