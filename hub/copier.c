#include "copier.h"
#include "h264.h"
#include "line.h"
#include "reader.h"
#include <libavcodec/bsf.h>

#define IF_UNSAID (40 * PL_MS) /* length of a picture that does not tell */
#define PACKET (20 * PL_MS)    /* of Opus that does not */
enum { PREFIX = sizeof "copy:" - 1, B_SLICE = 1, SLICE_TYPES = 5 };

struct copier {
    struct source base;
    struct reader reader;
    AVBSFContext *annexb;   /**< start codes, and parameter sets in front of each key frame */
    AVPacket *given;        /**< what was handed out last */
    int video, audio;       /**< streams; audio -1: none that can be copied */
    struct line line;       /**< begins with the first key frame */
    int64_t video_us;       /**< of the last picture: never backwards */
    int64_t audio_us;       /**< where the sound that was handed on ends */
    bool got_any;           /**< a picture came in this round */
};

static struct source *finish(struct source *base)
{
    struct copier *c = (struct copier *)base;
    av_bsf_free(&c->annexb);
    av_packet_free(&c->given);
    reader_close(&c->reader);
    return pl_heap_free(c);
}

static enum pl_err pick_streams(struct copier *c, struct pl_fail *reterr)
{
    const AVFormatContext *f = c->reader.format;
    c->video = av_find_best_stream(c->reader.format, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0);
    c->audio = av_find_best_stream(c->reader.format, AVMEDIA_TYPE_AUDIO, -1, -1, NULL, 0);
    if (c->video < 0 || f->streams[c->video]->codecpar->codec_id != AV_CODEC_ID_H264)
        return pl_fail(reterr, PL_UNSUPPORTED_MEDIA, "only H.264 can be copied");
    if (f->streams[c->video]->codecpar->video_delay > 0)
        return pl_fail(reterr, PL_UNSUPPORTED_MEDIA, "a stream with B-frames cannot be copied");
    if (c->audio >= 0 && f->streams[c->audio]->codecpar->codec_id != AV_CODEC_ID_OPUS)
        c->audio = -1;
    const AVStream *v = f->streams[c->video];
    if (av_bsf_list_parse_str("h264_mp4toannexb,dump_extra=freq=keyframe", &c->annexb) < 0 || avcodec_parameters_copy(c->annexb->par_in, v->codecpar) < 0)
        return PL_NO_MEMORY;
    c->annexb->time_base_in = v->time_base;
    return av_bsf_init(c->annexb) < 0 ? pl_fail(reterr, PL_UNSUPPORTED_MEDIA, "this H.264 cannot be brought into Annex B form") : PL_OK;
}

static enum pl_err begin_again(struct copier *c)
{
    if (!c->got_any) /* it would spin here for ever */
        return PL_UNSUPPORTED_MEDIA;
    c->got_any = false;
    line_again(&c->line);
    av_bsf_flush(c->annexb);
    return reader_rewind(&c->reader);
}

/* Where it stands on the line. */
static int64_t place(struct copier *c, enum camera_media media, const AVStream *stream)
{
    const AVPacket *p = c->given;
    int64_t at = p->pts != AV_NOPTS_VALUE ? p->pts : p->dts;
    int64_t length = p->duration > 0 ? av_rescale_q(p->duration, stream->time_base, AV_TIME_BASE_Q) : media == CAMERA_VIDEO ? IF_UNSAID : PACKET;
    return at == AV_NOPTS_VALUE ? line_behind(&c->line, media, length) : line_place(&c->line, media, av_rescale_q(at, stream->time_base, AV_TIME_BASE_Q), length);
}

static uint32_t take_ue(uint32_t *bits)
{
    unsigned zeros = *bits ? (unsigned)__builtin_clz(*bits) : 15;
    uint32_t v = zeros > 15 ? 0 : (*bits >> (31 - 2 * zeros)) - 1;
    *bits = zeros > 15 ? 0 : *bits << (2 * zeros + 1);
    return v;
}

/* Pictures with B slices are shown in another order than they come. The first slice tells: first_mb_in_slice (0) and slice_type stand in front (H.264, 7.3.3). */
static bool has_b_slices(struct pl_str au)
{
    size_t at = 0, n;
    const uint8_t *nal;
    while (h264_next_nal((const uint8_t *)au.p, au.n, &at, &nal, &n))
        if ((nal[0] & 31) == H264_SLICE && n > 4) {
            uint32_t bits = (uint32_t)nal[1] << 24 | (uint32_t)nal[2] << 16 | (uint32_t)nal[3] << 8 | nal[4];
            (void)take_ue(&bits);
            return take_ue(&bits) % SLICE_TYPES == B_SLICE;
        }
    return false;
}

/* A picture that is ready in Annex B form. PL_NOT_FOUND: none is. */
static enum pl_err take_picture(struct copier *c, struct source_frame *ret)
{
    av_packet_unref(c->given);
    while (av_bsf_receive_packet(c->annexb, c->given) == 0) {
        const struct pl_str data = { (const char *)c->given->data, (size_t)c->given->size };
        bool key = c->given->flags & AV_PKT_FLAG_KEY;
        if (has_b_slices(data))
            return PL_UNSUPPORTED_MEDIA;
        if (c->line.begun || key) {
            int64_t us = place(c, CAMERA_VIDEO, c->reader.format->streams[c->video]);
            c->video_us = us < c->video_us + LINE_STEP ? c->video_us + LINE_STEP : us;
            c->got_any = true;
            *ret = (struct source_frame){ .media = CAMERA_VIDEO, .coded = data, .pts_us = c->video_us, .key = key };
            return PL_OK;
        }
        av_packet_unref(c->given);
    }
    return PL_NOT_FOUND;
}

/* False: nobody wants it. Sound of before the first picture, and of a time whose sound has gone out already. */
static bool take_sound(struct copier *c, struct source_frame *ret)
{
    av_packet_move_ref(c->given, c->reader.packet);
    if (!c->line.begun)
        return false;
    int64_t us = place(c, CAMERA_AUDIO, c->reader.format->streams[c->audio]);
    if (us < c->audio_us - LINE_STEP)
        return false;
    c->audio_us = c->line.tracks[CAMERA_AUDIO].end;
    *ret = (struct source_frame){ .media = CAMERA_AUDIO, .coded = { (const char *)c->given->data, (size_t)c->given->size }, .pts_us = us };
    return true;
}

static enum pl_err next(struct source *base, struct source_frame *ret)
{
    struct copier *c = (struct copier *)base;
    enum pl_err e;
    while ((e = take_picture(c, ret)) == PL_NOT_FOUND) {
        bool end;
        if (atomic_load(c->reader.stop))
            return PL_UNAVAILABLE;
        if ((e = reader_next(&c->reader, &end)) != PL_OK)
            return e;
        int stream = end ? -1 : c->reader.packet->stream_index;
        if (end && (e = begin_again(c)) != PL_OK)
            return e;
        /* What the filter refuses is the camera's damage, and the next key frame mends it. */
        if (stream == c->video)
            (void)av_bsf_send_packet(c->annexb, c->reader.packet);
        if (stream >= 0 && stream == c->audio && take_sound(c, ret))
            return PL_OK;
    }
    return e;
}

enum pl_err copier_open(const char *what, const atomic_bool *stop, struct source **ret, struct pl_fail *reterr)
{
    static const struct source_kind kind = { .next = next, .close = finish };
    struct copier *c = pl_heap(sizeof *c);
    if (!c)
        return PL_NO_MEMORY;
    c->base = (struct source){ .kind = &kind, .coded = true };
    c->video_us = -LINE_STEP;
    c->given = av_packet_alloc();
    enum pl_err e = reader_open(&c->reader, what + PREFIX, stop, reterr);
    if (e == PL_OK)
        e = c->given ? pick_streams(c, reterr) : PL_NO_MEMORY;
    if (e != PL_OK) {
        finish(&c->base);
        return e;
    }
    c->base.live = c->reader.live;
    *ret = &c->base;
    return PL_OK;
}
