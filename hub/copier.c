#include "copier.h"
#include "reader.h"
#include <libavcodec/bsf.h>

#define IF_UNSAID (40 * PL_MS) /* length of a frame that does not tell */
enum { PREFIX = sizeof "copy:" - 1 };

struct copier {
    struct reader reader;
    AVBSFContext *annexb;   /**< start codes, and parameter sets in front of each key frame */
    AVPacket *given;        /**< what was handed out last */
    int video, audio;       /**< streams; audio -1: none that can be copied */
    int64_t first_us;       /**< the source's own time at its first key frame; AV_NOPTS_VALUE before */
    int64_t loop_us;        /**< what earlier rounds of the file took */
    int64_t end_us;         /**< where what was handed out ends */
    int64_t video_us;       /**< of the last picture: never backwards */
    bool got_any;           /**< a picture came in this round */
};

struct copier *copier_close(struct copier *c)
{
    if (!c)
        return NULL;
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

enum pl_err copier_open(const char *what, const atomic_bool *stop, struct copier **ret, struct pl_fail *reterr)
{
    struct copier *c = pl_heap(sizeof *c);
    if (!c)
        return PL_NO_MEMORY;
    c->first_us = AV_NOPTS_VALUE;
    c->video_us = INT64_MIN;
    c->given = av_packet_alloc();
    enum pl_err e = reader_open(&c->reader, what + PREFIX, stop, reterr);
    if (e == PL_OK)
        e = c->given ? pick_streams(c, reterr) : PL_NO_MEMORY;
    if (e != PL_OK) {
        copier_close(c);
        return e;
    }
    *ret = c;
    return PL_OK;
}

static enum pl_err begin_again(struct copier *c)
{
    if (!c->got_any) /* it would spin here for ever */
        return PL_UNSUPPORTED_MEDIA;
    c->got_any = false;
    c->loop_us = c->end_us;
    c->first_us = AV_NOPTS_VALUE;
    av_bsf_flush(c->annexb);
    return reader_rewind(&c->reader);
}

/* What is in `given` as a frame. False: it comes before the first key frame, or nobody wants it. */
static bool frame_of(struct copier *c, bool video, const AVStream *stream, struct camera_frame *ret)
{
    const AVPacket *p = c->given;
    int64_t at = p->pts != AV_NOPTS_VALUE ? p->pts : p->dts;
    bool key = video && p->flags & AV_PKT_FLAG_KEY;
    if (at == AV_NOPTS_VALUE && c->first_us != AV_NOPTS_VALUE)
        at = av_rescale_q(c->end_us - c->loop_us + c->first_us, AV_TIME_BASE_Q, stream->time_base);
    int64_t us = at == AV_NOPTS_VALUE ? 0 : av_rescale_q(at, stream->time_base, AV_TIME_BASE_Q);
    if (c->first_us == AV_NOPTS_VALUE && !key)
        return false;
    if (c->first_us == AV_NOPTS_VALUE)
        c->first_us = us;
    us += c->loop_us - c->first_us;
    int64_t length = p->duration > 0 ? av_rescale_q(p->duration, stream->time_base, AV_TIME_BASE_Q) : video ? IF_UNSAID : 0;
    c->end_us = us + length > c->end_us ? us + length : c->end_us;
    *ret = (struct camera_frame){ .media = video ? CAMERA_VIDEO : CAMERA_AUDIO, .data = { (const char *)p->data, (size_t)p->size }, .pts_us = us, .key = key };
    return us >= 0;
}

/* A picture that is ready in Annex B form. PL_NOT_FOUND: none is. */
static enum pl_err take_picture(struct copier *c, struct camera_frame *ret)
{
    av_packet_unref(c->given);
    while (av_bsf_receive_packet(c->annexb, c->given) == 0) {
        if (frame_of(c, true, c->reader.format->streams[c->video], ret)) {
            if (ret->pts_us < c->video_us)
                return PL_UNSUPPORTED_MEDIA;
            c->video_us = ret->pts_us;
            c->got_any = true;
            return PL_OK;
        }
        av_packet_unref(c->given);
    }
    return PL_NOT_FOUND;
}

enum pl_err copier_next(struct copier *c, struct camera_frame *ret)
{
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
        if (stream >= 0 && stream == c->audio) {
            av_packet_move_ref(c->given, c->reader.packet);
            if (frame_of(c, false, c->reader.format->streams[c->audio], ret))
                return PL_OK;
        }
    }
    return e;
}

bool copier_live(const struct copier *c) { return c->reader.live; }
