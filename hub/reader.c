#include "reader.h"
#include <sys/resource.h>

#define READ_DEADLINE (5 * PL_SECOND)
#define WAITED (4 * PL_MS)

static int gives_up(void *arg)
{
    const struct reader *r = arg;
    return atomic_load(r->stop) || pl_mono_cmp(pl_now_mono(&pl_clock_system), r->deadline) > 0;
}

enum pl_err reader_open(struct reader *r, const char *what, const atomic_bool *stop, struct pl_fail *reterr)
{
    *r = (struct reader){ .stop = stop, .live = pl_str_starts(pl_str_of(what), PL_STR("rtsp")) };
    r->packet = av_packet_alloc();
    r->format = avformat_alloc_context();
    if (!r->packet || !r->format)
        return PL_NO_MEMORY;
    r->format->interrupt_callback = (AVIOInterruptCB){ gives_up, r };
    r->deadline = pl_mono_add(pl_now_mono(&pl_clock_system), READ_DEADLINE);
    AVDictionary *options = NULL;
    if (r->live)
        av_dict_set(&options, "rtsp_transport", "tcp", 0);
    int opened = avformat_open_input(&r->format, what, NULL, &options);
    av_dict_free(&options);
    if (opened < 0 || avformat_find_stream_info(r->format, NULL) < 0)
        return pl_fail(reterr, PL_IO, "the source cannot be opened");
    return PL_OK;
}

/* How often this thread had to wait for something; not, for the processor. */
static long waits(void)
{
    struct rusage u = { 0 };
    (void)getrusage(RUSAGE_THREAD, &u);
    return u.ru_nvcsw;
}

enum pl_err reader_next(struct reader *r, bool *ret_end)
{
    long waits_before = waits();
    struct pl_mono began = pl_now_mono(&pl_clock_system);
    r->deadline = pl_mono_add(began, READ_DEADLINE);
    av_packet_unref(r->packet);
    int got = av_read_frame(r->format, r->packet);
    r->waited = waits() > waits_before && pl_mono_sub(pl_now_mono(&pl_clock_system), began) >= WAITED;
    if (got < 0 && (got != AVERROR_EOF || r->live))
        return PL_IO;
    *ret_end = got < 0;
    return PL_OK;
}

enum pl_err reader_rewind(struct reader *r)
{
    /* Files without an index (a bare H.264 stream) know no times, but they have a first byte. */
    int64_t start = r->format->start_time == AV_NOPTS_VALUE ? 0 : r->format->start_time;
    if (avformat_seek_file(r->format, -1, INT64_MIN, start, INT64_MAX, 0) < 0 && av_seek_frame(r->format, -1, 0, AVSEEK_FLAG_BYTE) < 0)
        return PL_IO;
    return PL_OK;
}

void reader_close(struct reader *r)
{
    avformat_close_input(&r->format);
    av_packet_free(&r->packet);
}
