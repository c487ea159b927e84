#include "decoder.h"
#include <libavcodec/avcodec.h>

struct decoder {
    struct decoder_conf conf;
    AVCodecContext *video, *audio;
    AVPacket *packet;
    AVFrame *frame;
    unsigned errors;
};

static AVCodecContext *open_codec(enum AVCodecID id)
{
    const AVCodec *codec = avcodec_find_decoder(id);
    AVCodecContext *c = codec ? avcodec_alloc_context3(codec) : NULL;
    if (!c)
        return NULL;
    c->thread_count = 1;
    c->flags |= AV_CODEC_FLAG_LOW_DELAY;
    c->err_recognition = AV_EF_CAREFUL | AV_EF_EXPLODE; /* damage is to be counted, not painted over */
    c->sample_rate = DECODER_RATE;
    c->ch_layout = (AVChannelLayout)AV_CHANNEL_LAYOUT_MONO;
    if (avcodec_open2(c, codec, NULL) < 0)
        avcodec_free_context(&c);
    return c;
}

enum pl_err decoder_new(const struct decoder_conf *conf, struct decoder **ret)
{
    struct decoder *d = pl_heap(sizeof *d);
    if (!d)
        return PL_NO_MEMORY;
    d->conf = *conf;
    d->video = open_codec(AV_CODEC_ID_H264);
    d->audio = open_codec(AV_CODEC_ID_OPUS);
    d->packet = av_packet_alloc();
    d->frame = av_frame_alloc();
    if (!d->video || !d->audio || !d->packet || !d->frame) {
        decoder_free(d);
        return PL_UNSUPPORTED_MEDIA;
    }
    *ret = d;
    return PL_OK;
}

/* Feeds one packet and hands on what comes out. False: something in it was wrong. */
static bool feed(struct decoder *d, AVCodecContext *c, struct pl_str data, void (*use)(struct decoder *d))
{
    /* The decoder reads a little beyond the end: av_new_packet keeps that padding. */
    if (av_new_packet(d->packet, (int)data.n) < 0)
        return false;
    memcpy(d->packet->data, data.p, data.n);
    bool good = avcodec_send_packet(c, d->packet) == 0;
    av_packet_unref(d->packet);
    int r;
    while ((r = avcodec_receive_frame(c, d->frame)) == 0) {
        good &= d->frame->decode_error_flags == 0 && !(d->frame->flags & AV_FRAME_FLAG_CORRUPT);
        use(d);
    }
    return good && r == AVERROR(EAGAIN);
}

static void use_picture(struct decoder *d)
{
    if (d->frame->format == AV_PIX_FMT_YUV420P || d->frame->format == AV_PIX_FMT_YUVJ420P)
        d->conf.on_picture(d->conf.self, d->frame);
}

static void use_sound(struct decoder *d)
{
    if (d->frame->format == AV_SAMPLE_FMT_FLTP)
        d->conf.on_sound(d->conf.self, (const float *)(const void *)d->frame->data[0], (size_t)d->frame->nb_samples);
}

bool decoder_video(struct decoder *d, struct pl_str access_unit)
{
    bool good = feed(d, d->video, access_unit, use_picture);
    d->errors += !good;
    return good;
}

void decoder_audio(struct decoder *d, struct pl_str packet) { d->errors += !feed(d, d->audio, packet, use_sound); }

unsigned decoder_errors(const struct decoder *d) { return d->errors; }

struct decoder *decoder_free(struct decoder *d)
{
    if (!d)
        return NULL;
    avcodec_free_context(&d->video);
    avcodec_free_context(&d->audio);
    av_packet_free(&d->packet);
    av_frame_free(&d->frame);
    return pl_heap_free(d);
}
