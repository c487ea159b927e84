#include "output.h"
#include <errno.h>
#include <libavcodec/avcodec.h>
#include <libswscale/swscale.h>
#include <stdio.h>
#include <sys/stat.h>

enum { RATE = 48000, WAV_HEADER = 44, PATH_BYTES = 4096 };

struct output {
    char dir[PATH_BYTES];
    unsigned every, pictures;
    FILE *wav;
    uint64_t samples, next_header;
    struct SwsContext *to_rgb;
    AVFrame *rgb;
    AVPacket *packet;
};

static struct pl_buf path_of(struct output *o, char path[PATH_BYTES], const char *name)
{
    struct pl_buf b = pl_buf_fixed(path, PATH_BYTES);
    pl_buf_fmt(&b, "%s/%s", o->dir, name);
    return b;
}

static void put_le(uint8_t *p, uint32_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

/* RIFF/WAVE, PCM, one channel, 16 bit. */
static bool write_header(struct output *o)
{
    uint8_t h[WAV_HEADER] = "RIFF....WAVEfmt ";
    uint32_t bytes = (uint32_t)(o->samples * 2);
    put_le(h + 4, bytes + WAV_HEADER - 8, 4);
    put_le(h + 16, 16, 4);
    put_le(h + 20, 1, 2);
    put_le(h + 22, 1, 2);
    put_le(h + 24, RATE, 4);
    put_le(h + 28, RATE * 2, 4);
    put_le(h + 32, 2, 2);
    put_le(h + 34, 16, 2);
    memcpy(h + 36, "data", 4);
    put_le(h + 40, bytes, 4);
    o->next_header = o->samples + RATE;
    return fseek(o->wav, 0, SEEK_SET) == 0 && fwrite(h, sizeof h, 1, o->wav) == 1 && fseek(o->wav, 0, SEEK_END) == 0;
}

enum pl_err output_open(const char *dir, unsigned every, struct output **ret, struct pl_fail *reterr)
{
    char path[PATH_BYTES];
    struct output *o = pl_heap(sizeof *o);
    if (!o)
        return PL_NO_MEMORY;
    struct pl_buf b = pl_buf_fixed(o->dir, sizeof o->dir);
    pl_buf_z(&b, dir);
    o->every = every ? every : 1;
    o->rgb = av_frame_alloc();
    o->packet = av_packet_alloc();
    struct pl_buf name = path_of(o, path, "audio.wav");
    bool ok = pl_buf_err(&b) == PL_OK && pl_buf_err(&name) == PL_OK && o->rgb && o->packet && (mkdir(dir, 0777) == 0 || errno == EEXIST)
        && (o->wav = fopen(path, "wbe")) && write_header(o);
    if (!ok) {
        enum pl_err e = pl_fail(reterr, PL_IO, "the folder cannot be written: %s", strerror(errno));
        output_close(o);
        return e;
    }
    *ret = o;
    return PL_OK;
}

static bool convert(struct output *o, const AVFrame *p)
{
    if (o->rgb->width != p->width || o->rgb->height != p->height) {
        av_frame_unref(o->rgb);
        o->rgb->format = AV_PIX_FMT_RGB24;
        o->rgb->width = p->width;
        o->rgb->height = p->height;
        if (av_frame_get_buffer(o->rgb, 0) < 0)
            return false;
    }
    o->to_rgb = sws_getCachedContext(o->to_rgb, p->width, p->height, p->format, p->width, p->height, AV_PIX_FMT_RGB24, SWS_BILINEAR, NULL, NULL, NULL);
    return o->to_rgb && av_frame_make_writable(o->rgb) == 0
        && sws_scale(o->to_rgb, (const uint8_t *const *)p->data, p->linesize, 0, p->height, o->rgb->data, o->rgb->linesize) == p->height;
}

/* A fresh encoder a picture: they are few, and may change in size. */
static bool encode_png(struct output *o)
{
    const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
    AVCodecContext *c = codec ? avcodec_alloc_context3(codec) : NULL;
    if (!c)
        return false;
    c->width = o->rgb->width;
    c->height = o->rgb->height;
    c->pix_fmt = AV_PIX_FMT_RGB24;
    c->time_base = (AVRational){ 1, 25 };
    bool ok = avcodec_open2(c, codec, NULL) == 0 && avcodec_send_frame(c, o->rgb) == 0 && avcodec_receive_packet(c, o->packet) == 0;
    avcodec_free_context(&c);
    return ok;
}

static bool write_file(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wbe");
    bool ok = f && fwrite(p, n, 1, f) == 1;
    return f ? fclose(f) == 0 && ok : false;
}

enum pl_err output_picture(struct output *o, uint64_t count, const AVFrame *picture, struct pl_fail *reterr)
{
    char name[32], path[PATH_BYTES];
    if ((count - 1) % o->every != 0 || o->pictures == OUTPUT_PICTURES)
        return PL_OK;
    snprintf(name, sizeof name, "frame-%06llu.png", (unsigned long long)count);
    struct pl_buf b = path_of(o, path, name);
    bool ok = pl_buf_err(&b) == PL_OK && convert(o, picture) && encode_png(o) && write_file(path, o->packet->data, (size_t)o->packet->size);
    av_packet_unref(o->packet);
    if (!ok)
        return pl_fail(reterr, PL_IO, "%s cannot be written", name);
    o->pictures++;
    return PL_OK;
}

enum pl_err output_sound(struct output *o, const float *samples, size_t n, struct pl_fail *reterr)
{
    uint8_t pcm[2];
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        float x = samples[i] < -1.0f ? -1.0f : samples[i] > 1.0f ? 1.0f : samples[i];
        put_le(pcm, (uint32_t)(int32_t)(x * 32767.0f), sizeof pcm);
        ok = fwrite(pcm, sizeof pcm, 1, o->wav) == 1;
    }
    o->samples += n;
    if (ok && o->samples >= o->next_header)
        ok = write_header(o);
    return ok ? PL_OK : pl_fail(reterr, PL_IO, "audio.wav cannot be written");
}

unsigned output_pictures(const struct output *o) { return o->pictures; }

struct output *output_close(struct output *o)
{
    if (!o)
        return NULL;
    if (o->wav) {
        (void)write_header(o);
        (void)fclose(o->wav);
    }
    sws_freeContext(o->to_rgb);
    av_frame_free(&o->rgb);
    av_packet_free(&o->packet);
    return pl_heap_free(o);
}
