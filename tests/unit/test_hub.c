/* test_hub.c - the pieces of the reference hub that need no network: the frame number strip, the test source, files, their line of time and their pace,
 * the encoder, the state file; and which generation of a session a message is for. */
#include "camera.h"
#include "hub_in.h"
#include "line.h"
#include "pace.h"
#include "pattern.h"
#include "source.h"
#include "state.h"
#include "strip.h"
#include <libavformat/avformat.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { W = 640, H = 360 };

static void the_strip_tells_its_number(void **state)
{
    (void)state;
    static uint8_t luma[W * H];
    static const struct { uint32_t in, out; } table[] = { { 0, 0 }, { 1, 1 }, { 25, 25 }, { 0xabcdef, 0xabcdef }, { 0xffffff, 0xffffff }, { 0x1000000, 0 }, { 0x1000007, 7 } };
    for (size_t i = 0; i < PL_COUNT(table); i++) {
        uint32_t got = 12345;
        memset(luma, 128, sizeof luma);
        strip_draw(luma, W, W, table[i].in);
        assert_int_equal(strip_read(luma, W, W, H, &got), PL_OK);
        assert_int_equal(got, table[i].out);
    }
}

static void a_picture_without_a_strip_has_no_number(void **state)
{
    (void)state;
    static uint8_t luma[W * H];
    static const uint8_t shades[] = { 0, 16, 128, 235, 255 };
    uint32_t got = 77;
    for (size_t i = 0; i < PL_COUNT(shades); i++) {
        memset(luma, shades[i], sizeof luma);
        assert_int_equal(strip_read(luma, W, W, H, &got), PL_NOT_FOUND);
    }
    /* Each single block that flips is noticed. */
    for (unsigned block = 0; block < STRIP_BLOCKS; block++) {
        strip_draw(luma, W, W, 4711);
        for (unsigned y = 0; y < STRIP_LINES; y++)
            for (unsigned x = block * W / STRIP_BLOCKS; x < (block + 1) * W / STRIP_BLOCKS; x++)
                luma[y * W + x] = (uint8_t)(251 - luma[y * W + x]);
        assert_int_equal(strip_read(luma, W, W, H, &got), PL_NOT_FOUND);
    }
    assert_int_equal(strip_read(luma, W, STRIP_BLOCKS - 1, H, &got), PL_NOT_FOUND);
    assert_int_equal(strip_read(luma, W, W, STRIP_LINES - 1, &got), PL_NOT_FOUND);
    assert_int_equal(got, 77);
}

static void the_test_source_counts_and_keeps_time(void **state)
{
    (void)state;
    static atomic_bool stop;
    struct source *s;
    struct source_frame f;
    int64_t last = 0;
    uint32_t pictures = 0, blocks = 0, number;
    assert_int_equal(source_open("test", &stop, &s, NULL), PL_OK);
    while (pictures < 26) {
        assert_int_equal(source_next(s, &f), PL_OK);
        assert_true(f.pts_us >= last);
        last = f.pts_us;
        if (f.media == CAMERA_VIDEO) {
            assert_int_equal(f.pts_us, pictures * 40000);
            assert_int_equal(strip_read(f.raw->data[0], (size_t)f.raw->linesize[0], (unsigned)f.raw->width, (unsigned)f.raw->height, &number), PL_OK);
            assert_int_equal(number, pictures++);
        } else {
            assert_int_equal(f.pts_us, blocks++ * 20000);
            assert_int_equal(f.raw->nb_samples, CODER_SAMPLES);
        }
    }
    assert_in_range(blocks, 49, 51);
    assert_null(source_close(s));
}

static void the_tone_is_continuous_and_440_hz(void **state)
{
    (void)state;
    static int16_t whole[48000], block[CODER_SAMPLES];
    pattern_tone(whole, PL_COUNT(whole), 0);
    for (size_t at = 0; at < PL_COUNT(whole); at += CODER_SAMPLES) {
        pattern_tone(block, CODER_SAMPLES, 48000 + at);
        assert_memory_equal(block, whole + at, sizeof block);
    }
    unsigned rises = 0;
    for (size_t i = 1; i < PL_COUNT(whole); i++)
        rises += whole[i - 1] < 0 && whole[i] >= 0;
    assert_in_range(rises, 439, 440);
}

struct seen {
    unsigned video, audio, keys, with_sets;
    bool last_is_key;
};

/* NAL unit types of an Annex B access unit as a bit mask. */
static uint32_t nal_types(struct pl_str au)
{
    uint32_t types = 0;
    for (size_t i = 0; i + 3 < au.n; i++)
        if (au.p[i] == 0 && au.p[i + 1] == 0 && au.p[i + 2] == 1)
            types |= 1u << (au.p[i + 3] & 31);
    return types;
}

static void take(void *self, const struct camera_frame *f)
{
    struct seen *seen = self;
    if (f->media == CAMERA_AUDIO) {
        seen->audio++;
        return;
    }
    uint32_t types = nal_types(f->data);
    seen->video++;
    seen->last_is_key = f->key;
    if (f->key) {
        seen->keys++;
        seen->with_sets += (types & 1u << 5) && (types & 1u << 7) && (types & 1u << 8);
    } else
        assert_true(types & 1u << 1);
}

static void a_key_frame_comes_when_asked_and_every_two_seconds(void **state)
{
    (void)state;
    static atomic_bool stop;
    struct source *s;
    struct coder *c;
    struct source_frame f;
    struct seen seen = { 0 };
    assert_int_equal(source_open("test", &stop, &s, NULL), PL_OK);
    assert_int_equal(coder_open(s->width, s->height, s->fps, &c, NULL), PL_OK);
    while (seen.video < 71) {
        assert_int_equal(source_next(s, &f), PL_OK);
        if (f.media == CAMERA_AUDIO) {
            assert_int_equal(coder_audio(c, f.raw, f.pts_us, take, &seen), PL_OK);
            continue;
        }
        unsigned n = seen.video;
        assert_int_equal(coder_video(c, f.raw, f.pts_us, n == 20, take, &seen), PL_OK);
        assert_int_equal(seen.video, n + 1); /* nothing is held back */
        assert_int_equal(seen.last_is_key, n == 0 || n == 20 || n == 70);
    }
    assert_int_equal(seen.with_sets, 3);
    assert_in_range(seen.audio, 135, 143);
    assert_null(coder_close(c));
    assert_null(source_close(s));
}

struct weight { size_t bytes; unsigned frames, keys; };
static void weigh(void *self, const struct camera_frame *f)
{
    struct weight *w = self;
    w->bytes += f->data.n;
    w->frames++;
    w->keys += f->key;
}

/* `bitrate`: the same encoder, in the same stream, makes what was asked for; and no key frame for it. Measured over four seconds, after two in which it settles. */
static void the_encoder_changes_its_rate_within_the_stream(void **state)
{
    (void)state;
    static const int rates[] = { CODER_VIDEO_BITS, 200000, 1500000, 300000 };
    static atomic_bool stop;
    struct source *s;
    struct coder *c;
    struct source_frame f;
    assert_int_equal(source_open("test", &stop, &s, NULL), PL_OK);
    assert_int_equal(coder_open(s->width, s->height, s->fps, &c, NULL), PL_OK);
    for (size_t i = 0; i < PL_COUNT(rates); i++) {
        struct weight settling = { 0 }, w = { 0 };
        if (i)
            coder_bitrate(c, rates[i]);
        while (w.frames < 100) {
            assert_int_equal(source_next(s, &f), PL_OK);
            if (f.media == CAMERA_VIDEO)
                assert_int_equal(coder_video(c, f.raw, f.pts_us, false, weigh, settling.frames < 50 ? &settling : &w), PL_OK);
        }
        assert_int_equal(settling.keys, 1);
        assert_int_equal(w.keys, 2);
        size_t bits = w.bytes * 8 / 4;
        print_message("asked %d, made %zu bit/s\n", rates[i], bits);
        assert_in_range(bits, (size_t)rates[i] * 65 / 100, (size_t)rates[i] * 115 / 100);
    }
    assert_null(coder_close(c));
    assert_null(source_close(s));
}

static void a_source_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    static atomic_bool stop;
    struct source *s = NULL;
    struct pl_fail fail = PL_FAIL_INIT;
    assert_int_equal(source_open("/nonexistent/film.mp4", &stop, &s, &fail), PL_IO);
    assert_null(s);
}

/* A file of 30 pictures, as the camera itself coded them: a film of 1.2 s without sound. */
struct film {
    FILE *f;
    unsigned pictures;
};
static void write_film(void *self, const struct camera_frame *f)
{
    struct film *film = self;
    if (f->media == CAMERA_VIDEO) {
        assert_int_equal(fwrite(f->data.p, f->data.n, 1, film->f), 1);
        film->pictures++;
    }
}
static void make_film(const char *path)
{
    static atomic_bool stop;
    struct film film = { .f = fopen(path, "wb") };
    struct source *s;
    struct coder *c;
    struct source_frame f;
    assert_non_null(film.f);
    assert_int_equal(source_open("test", &stop, &s, NULL), PL_OK);
    assert_int_equal(coder_open(s->width, s->height, s->fps, &c, NULL), PL_OK);
    while (film.pictures < 30) {
        assert_int_equal(source_next(s, &f), PL_OK);
        if (f.media == CAMERA_VIDEO)
            assert_int_equal(coder_video(c, f.raw, f.pts_us, false, write_film, &film), PL_OK);
    }
    assert_int_equal(fclose(film.f), 0);
    coder_close(c);
    source_close(s);
}

static void a_file_is_played_over_and_over(void **state)
{
    (void)state;
    static atomic_bool stop;
    char path[] = "/tmp/porchlight-film-XXXXXX";
    int fd = mkstemp(path);
    struct source *s;
    struct source_frame f;
    uint32_t number, last = 0;
    unsigned rounds = 0;
    int64_t time = -1;
    assert_true(fd >= 0);
    make_film(path);
    assert_int_equal(source_open(path, &stop, &s, NULL), PL_OK);
    assert_int_equal(s->width, PATTERN_WIDTH);
    assert_false(s->live);
    for (unsigned i = 0; i < 80; i++) {
        assert_int_equal(source_next(s, &f), PL_OK);
        assert_int_equal(f.media, CAMERA_VIDEO);
        assert_int_equal(strip_read(f.raw->data[0], (size_t)f.raw->linesize[0], (unsigned)f.raw->width, (unsigned)f.raw->height, &number), PL_OK);
        assert_true(f.pts_us > time);
        rounds += number < last;
        last = number;
        time = f.pts_us;
    }
    assert_in_range(rounds, 2, 3);
    assert_in_range(time, 2000000, 4200000); /* 80 pictures at about 25 a second */
    atomic_store(&stop, true);
    assert_int_equal(source_next(s, &f), PL_UNAVAILABLE);
    source_close(s);
    close(fd);
    assert_int_equal(unlink(path), 0);
}

/* A film of one second, raw pictures, whose sound begins 80 ms after them and ends at 900. */
enum { QUIET_MS = 80, SOUND_UNTIL_MS = 900, LOUD = 8000, RATE = 8000 };
static void put_packet(AVFormatContext *f, int stream, int64_t ms, const void *data, int n)
{
    AVPacket *p = av_packet_alloc();
    assert_true(p && av_new_packet(p, n) == 0);
    memcpy(p->data, data, (size_t)n);
    p->stream_index = stream;
    p->flags = AV_PKT_FLAG_KEY;
    p->pts = p->dts = av_rescale_q(ms, (AVRational){ 1, 1000 }, f->streams[stream]->time_base);
    assert_int_equal(av_interleaved_write_frame(f, p), 0);
    av_packet_free(&p);
}
static void make_film_with_late_sound(const char *path)
{
    static uint8_t picture[64 * 64 * 3 / 2];
    static int16_t sound[RATE / 50];
    AVFormatContext *f;
    assert_true(avformat_alloc_output_context2(&f, NULL, "nut", path) >= 0);
    AVStream *v = avformat_new_stream(f, NULL), *a = avformat_new_stream(f, NULL);
    assert_true(v && a);
    v->codecpar->codec_type = AVMEDIA_TYPE_VIDEO;
    v->codecpar->codec_id = AV_CODEC_ID_RAWVIDEO;
    v->codecpar->format = AV_PIX_FMT_YUV420P;
    v->codecpar->codec_tag = MKTAG('I', '4', '2', '0');
    v->codecpar->width = v->codecpar->height = 64;
    v->avg_frame_rate = (AVRational){ 25, 1 };
    a->codecpar->codec_type = AVMEDIA_TYPE_AUDIO;
    a->codecpar->codec_id = AV_CODEC_ID_PCM_S16LE;
    a->codecpar->sample_rate = RATE;
    a->codecpar->ch_layout = (AVChannelLayout)AV_CHANNEL_LAYOUT_MONO;
    a->codecpar->block_align = 2;
    a->codecpar->bits_per_coded_sample = 16;
    for (size_t i = 0; i < PL_COUNT(sound); i++)
        sound[i] = LOUD;
    assert_true(avio_open(&f->pb, path, AVIO_FLAG_WRITE) >= 0 && avformat_write_header(f, NULL) >= 0);
    for (int ms = 0; ms < 1000; ms += 20) {
        if (ms % 40 == 0)
            put_packet(f, 0, ms, picture, sizeof picture);
        if (ms >= QUIET_MS && ms < SOUND_UNTIL_MS)
            put_packet(f, 1, ms, sound, sizeof sound);
    }
    assert_true(av_write_trailer(f) == 0 && avio_closep(&f->pb) >= 0);
    avformat_free_context(f);
}

/* V-A4: sound stands where the file says, at the start and in each round; where there is none, it is silent. */
static void sound_of_a_file_stands_where_it_belongs_V_A4(void **state)
{
    (void)state;
    static atomic_bool stop;
    char path[] = "/tmp/porchlight-film-XXXXXX";
    int fd = mkstemp(path);
    struct source *s;
    struct source_frame f;
    bool loud = false;
    int64_t end = 0, changes[6];
    size_t n = 0;
    assert_true(fd >= 0);
    make_film_with_late_sound(path);
    assert_int_equal(source_open(path, &stop, &s, NULL), PL_OK);
    while (n < PL_COUNT(changes)) {
        assert_int_equal(source_next(s, &f), PL_OK);
        if (f.media != CAMERA_AUDIO)
            continue;
        assert_int_equal(f.pts_us, end); /* no block is missing, and none comes twice */
        end += PL_SECOND * CODER_SAMPLES / CODER_RATE;
        const int16_t *samples = (const void *)f.raw->data[0];
        for (int i = 0; i < CODER_SAMPLES && n < PL_COUNT(changes); i++)
            if (loud != (samples[i] > LOUD / 2)) {
                loud = !loud;
                changes[n++] = f.pts_us + i * PL_SECOND / CODER_RATE;
            }
    }
    for (size_t i = 0; i < n; i++) {
        int64_t due = (int64_t)(i / 2) * PL_SECOND + (i % 2 ? SOUND_UNTIL_MS : QUIET_MS) * PL_MS;
        assert_in_range(changes[i] - due + 20 * PL_MS, 0, 40 * PL_MS);
    }
    source_close(s);
    close(fd);
    assert_int_equal(unlink(path), 0);
}

/* --- the line of time, and pace --------------------------------------------------------------------------------------------------------- */

static const enum camera_media V = CAMERA_VIDEO, A = CAMERA_AUDIO;
#define FRAME (40 * PL_MS)
#define BLOCK (20 * PL_MS)

/* Ten pictures and the sound of their time, from `us` on in the source's time, with the sound `skew` later; what the line makes of the first of each. */
static void place_some(struct line *l, int64_t us, int64_t skew, int64_t *ret_video, int64_t *ret_audio)
{
    for (int i = 0; i < 10; i++) {
        int64_t v = line_place(l, V, us + i * FRAME, FRAME), a = line_place(l, A, us + skew + i * FRAME, BLOCK);
        assert_int_equal(line_place(l, A, us + skew + i * FRAME + BLOCK, BLOCK), a + BLOCK);
        if (i == 0) {
            *ret_video = v;
            *ret_audio = a;
        }
        assert_true(v == *ret_video + i * FRAME && a == *ret_audio + i * FRAME);
    }
}

/* A clock that is set, an hour that was cut out, a day back: the line goes on where it ended, and picture and sound stay as far apart as they were (V-A4). */
static void leaps_of_the_source_are_not_seen_on_the_line_V_A4(void **state)
{
    (void)state;
    static const int64_t from[] = { 5 * PL_HOUR, 5 * PL_HOUR + 400 * PL_MS, 6 * PL_HOUR, 6 * PL_HOUR - 5 * PL_SECOND, 0, 2 * PL_SECOND };
    struct line l = { 0 };
    int64_t v, a, end = 0;
    for (size_t i = 0; i < PL_COUNT(from); i++) {
        place_some(&l, from[i], 7 * PL_MS, &v, &a);
        assert_int_equal(a - v, 7 * PL_MS);
        assert_in_range(v - end, 0, 10 * PL_MS);
        end = v + 10 * FRAME;
    }
    /* A step of less than a second is the camera's own: it puts its tracks in step by it. */
    int64_t before = line_place(&l, V, 2 * PL_SECOND + 400 * PL_MS, FRAME);
    assert_int_equal(line_place(&l, V, 2 * PL_SECOND + 240 * PL_MS, FRAME), before - 160 * PL_MS);
    assert_int_equal(line_place(&l, V, 2 * PL_SECOND + 1340 * PL_MS, FRAME), before + 940 * PL_MS);
    /* The next round of a short film follows the last one, and no leap tells it. */
    struct line film = { 0 };
    place_some(&film, 100, 0, &v, &a);
    line_again(&film);
    place_some(&film, 100, 0, &v, &a);
    assert_true(v == 10 * FRAME && a == 10 * FRAME);
    assert_int_equal(line_behind(&film, V, FRAME), 20 * FRAME);
    /* A track that was quiet for long has its place all the same. */
    assert_int_equal(line_place(&film, V, 100 + 11 * FRAME, FRAME), 21 * FRAME);
    for (int i = 12; i < 500; i++)
        assert_int_equal(line_place(&film, V, 100 + i * FRAME, FRAME), (10 + i) * FRAME);
    assert_int_equal(line_place(&film, A, 100 + 500 * FRAME, BLOCK), 510 * FRAME);
}

/* A picture every ten seconds is no leap every ten seconds, and one that comes somewhat later is none either; an hour is one all the same. */
static void a_slow_source_keeps_its_time_V_A4(void **state)
{
    (void)state;
    struct line l = { 0 };
    int64_t us = 5 * PL_HOUR, first, was;
    line_place(&l, V, us, FRAME);
    first = line_place(&l, V, us += 10 * PL_SECOND, FRAME); /* nobody knows yet that it is slow */
    for (int i = 1; i < 20; i++)
        assert_int_equal(line_place(&l, V, us += 10 * PL_SECOND, FRAME), first + i * 10 * PL_SECOND);
    was = line_place(&l, V, us += 25 * PL_SECOND, FRAME);
    assert_int_equal(was, first + 215 * PL_SECOND);
    assert_int_equal(line_place(&l, V, us += PL_HOUR, FRAME), was + FRAME);
    assert_int_equal(line_place(&l, V, us += 10 * PL_SECOND, FRAME), was + FRAME + 10 * PL_SECOND);
    assert_int_equal(line_place(&l, V, us -= PL_HOUR, FRAME), was + 2 * FRAME + 10 * PL_SECOND);
    /* A film's next round knows it from the last one. */
    line_again(&l);
    was = line_place(&l, V, 0, FRAME);
    assert_int_equal(line_place(&l, V, 5 * PL_SECOND, FRAME), was + FRAME); /* what came before was a leap back */
    assert_int_equal(line_place(&l, V, 15 * PL_SECOND, FRAME), was + FRAME + 10 * PL_SECOND);
    line_again(&l);
    was = line_place(&l, V, 0, FRAME);
    assert_int_equal(line_place(&l, V, 10 * PL_SECOND, FRAME), was + 10 * PL_SECOND);
    /* A clock that is set by less than a picture takes: the pictures go where the sound has gone. */
    struct line both = { 0 };
    for (int i = 0; i < 1000; i++) {
        int64_t leap = i < 530 ? 0 : 5 * PL_SECOND, a = line_place(&both, A, i * BLOCK + leap, BLOCK);
        if (i % 100 == 0)
            assert_int_equal(line_place(&both, V, i * BLOCK + leap, FRAME), a);
    }
}

/* A broadcast's sound may come seconds after the pictures of its time, and go back to before the first of them: in step with them it is all the same, in each round. */
static void sound_that_comes_late_is_in_step_V_A4(void **state)
{
    (void)state;
    struct line l = { 0 };
    for (int round = 0; round < 3; round++) {
        int64_t v = 0;
        for (int i = 0; i < 100; i++) {
            int64_t us = PL_HOUR + i * FRAME, at = line_place(&l, V, us, FRAME);
            v = i ? v : at;
            assert_int_equal(at, v + i * FRAME);
            if (i >= 10)
                for (int half = 0; half < 2; half++)
                    assert_int_equal(line_place(&l, A, us - 2 * PL_SECOND + half * BLOCK, BLOCK), at - 2 * PL_SECOND + half * BLOCK);
        }
        line_again(&l);
    }
    /* Two clocks that have nothing to do with each other are not in step by their times: nobody waits an hour for the sound. */
    struct line apart = { 0 };
    assert_int_equal(line_place(&apart, V, 0, FRAME), 0);
    assert_int_equal(line_place(&apart, A, PL_HOUR, BLOCK), FRAME);
}

/* What a camera sent before the way was open leaves four times as fast as it was taken, what is of now at once; a film keeps its time, and skips what it was too late for. */
static void frames_leave_in_their_time(void **state)
{
    (void)state;
    struct pl_mono now = { 5 * PL_SECOND };
    struct pace live = pace_begin(true, now), film = pace_begin(false, now);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(pl_mono_sub(pace_due(&live, i * FRAME), now), i ? FRAME / PACE_FASTER : 0);
        now = pace_due(&live, i * FRAME);
        assert_int_equal(pace_leaves(&live, now, i * FRAME), i * FRAME);
    }
    now = pl_mono_add(now, FRAME);
    assert_true(pl_mono_cmp(pace_due(&live, 50 * FRAME), now) <= 0);
    assert_true(pl_mono_cmp(pace_due(&live, 48 * FRAME), now) <= 0); /* sound of a moment ago waits for nothing */
    assert_int_equal(pl_mono_sub(pace_due(&film, 50 * FRAME), film.base), 50 * FRAME);
    assert_int_equal(pace_leaves(&film, pl_mono_add(film.base, 50 * FRAME + PL_SECOND), 50 * FRAME), 50 * FRAME);
    assert_int_equal(pace_leaves(&film, pl_mono_add(film.base, 51 * FRAME + 2 * PL_SECOND), 51 * FRAME), 51 * FRAME + 2 * PL_SECOND);
    assert_int_equal(pl_mono_sub(pace_due(&film, 52 * FRAME), film.base), 52 * FRAME + 2 * PL_SECOND);
}

/* --- what is kept over a power cut --------------------------------------------------------------------------------------------------------- */

static void the_state_file_is_the_old_one_or_the_new_one(void **state)
{
    (void)state;
    char dir[] = "/tmp/porchlight-state-XXXXXX", path[64];
    struct hub_state s, back;
    struct pl_fail f = PL_FAIL_INIT;
    bool is_new = false;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/state", dir);
    assert_int_equal(state_load(path, &s, &is_new, &f), PL_OK);
    assert_true(is_new && s.clean && !s.bound && s.reset_count == 0);
    s.bound = true;
    s.reset_count = 3;
    for (unsigned i = 0; i < STATE_CAMERAS + 1; i++) {
        char serial[STATE_SERIAL];
        snprintf(serial, sizeof serial, "CAM%05u", i);
        state_add_camera(&s, pl_str_of(serial));
        state_add_camera(&s, pl_str_of(serial));
    }
    assert_true(state_has_camera(&s, PL_STR("CAM00009")));
    assert_false(state_has_camera(&s, PL_STR("CAM00010")));
    state_drop_camera(&s, PL_STR("CAM00004"));
    assert_int_equal(state_save(path, &s, &f), PL_OK);
    assert_int_equal(state_load(path, &back, &is_new, &f), PL_OK);
    assert_false(is_new);
    assert_true(back.bound && back.reset_count == 3);
    assert_false(state_has_camera(&back, PL_STR("CAM00004")));
    assert_true(state_has_camera(&back, PL_STR("CAM00009")));
    /* What cannot be read is said, not taken for a new hub. */
    FILE *broken = fopen(path, "wb");
    assert_int_equal(fputs("{\"bound\":", broken) >= 0 && fclose(broken) == 0, true);
    assert_int_equal(state_load(path, &back, &is_new, &f), PL_INVALID_REQUEST);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0); /* nothing else was left there */
    assert_int_equal(state_save(path, &s, &f), PL_IO);
}

/* --- sessions ------------------------------------------------------------------------------------------------------------------------------ */

#define LIVE_ID "01a1fd7f-7001-7aaa-8bbb-0ccc0ddd0eee"
static void start_live(struct hub *h, const char *generation)
{
    char text[1024];
    struct json_doc *d;
    struct pl_fail f = PL_FAIL_INIT;
    snprintf(text, sizeof text, "{\"id\":\"s\",\"live_id\":\"" LIVE_ID "\",\"generation\":%s,\"camera\":\"CAM00001\",\"relay\":{\"host\":\"127.0.0.1\",\"port\":9},"
        "\"ice\":{\"ufrag\":\"Zq3rT8bK\",\"pwd\":\"0b9C4vYh2LkQw7NfXsP1eRtUmA5dGjHz\",\"peer_ufrag\":\"hX2sW9nL\"},\"mtu\":1200,\"suite\":\"AEAD_AES_128_GCM\","
        "\"keys\":{\"send\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw\",\"receive\":\"HB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nw\"},"
        "\"video\":{\"ssrc\":2882400001,\"payload_type\":96,\"codec\":\"H264\",\"clock_rate\":90000},"
        "\"audio\":{\"ssrc\":2882400002,\"payload_type\":111,\"codec\":\"opus\",\"clock_rate\":48000,\"channels\":2},\"hard_end_s\":1800}", generation);
    assert_int_equal(json_parse(pl_str_of(text), &d, &f), PL_OK);
    assert_int_equal(hub_on_live_start(h, d, &f), PL_OK);
    json_doc_freep(&d);
}

/* While an older generation still stops, in a place before that of the newer one, what is said of the newer one is for it. */
static void a_message_is_for_the_newest_generation(void **state)
{
    (void)state;
    static const struct pl_log log = { 0 };
    struct hub_conf conf = { .serial = PL_STR("HUB00001"), .cameras = { { PL_STR("CAM00001"), "test" } }, .cameras_n = 1, .suites = { true, true }, .clock = &pl_clock_system,
        .rand = &pl_rand_system, .log = &log };
    struct hub *h;
    struct json_doc *stop;
    struct pl_fail f = PL_FAIL_INIT;
    assert_int_equal(hub_new(&conf, &h, &f), PL_OK);
    start_live(h, "1");
    struct stream *older = h->streams[0];
    assert_non_null(older);
    h->streams[0] = NULL;
    start_live(h, "2");
    struct stream *newer = h->streams[1] = h->streams[0];
    assert_non_null(newer);
    h->streams[0] = older;
    h->status_due = false;
    start_live(h, "2");
    assert_false(h->status_due); /* it runs: nothing was told, nothing was started */
    assert_int_equal(json_parse(PL_STR("{\"live_id\":\"" LIVE_ID "\",\"generation\":2,\"code\":\"ended_by_user\"}"), &stop, &f), PL_OK);
    assert_int_equal(hub_on_live_stop(h, stop, &f), PL_OK);
    json_doc_freep(&stop);
    while (!stream_over(newer)) /* by itself after some seconds in which no relay answers */
        sched_yield();
    assert_true(pl_str_eqz(stream_end(newer).code, "ended_by_user"));
    assert_null(hub_free(h));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_strip_tells_its_number),
        cmocka_unit_test(a_picture_without_a_strip_has_no_number),
        cmocka_unit_test(the_test_source_counts_and_keeps_time),
        cmocka_unit_test(the_tone_is_continuous_and_440_hz),
        cmocka_unit_test(a_key_frame_comes_when_asked_and_every_two_seconds), cmocka_unit_test(the_encoder_changes_its_rate_within_the_stream),
        cmocka_unit_test(a_source_that_is_not_there_is_an_error),
        cmocka_unit_test(a_file_is_played_over_and_over),
        cmocka_unit_test(sound_of_a_file_stands_where_it_belongs_V_A4),
        cmocka_unit_test(leaps_of_the_source_are_not_seen_on_the_line_V_A4), cmocka_unit_test(frames_leave_in_their_time),
        cmocka_unit_test(a_slow_source_keeps_its_time_V_A4), cmocka_unit_test(sound_that_comes_late_is_in_step_V_A4),
        cmocka_unit_test(a_message_is_for_the_newest_generation),
        cmocka_unit_test(the_state_file_is_the_old_one_or_the_new_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
