/* main.c - porchlight-watch: the native viewer. Arguments, one socket, one loop, and a summary in JSON that a test can believe. */
#include "decoder.h"
#include "json.h"
#include "log.h"
#include "measure.h"
#include "output.h"
#include "player.h"
#include "receiver.h"
#include "secure.h"
#include "strip.h"
#include "way.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libavutil/log.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { EXIT_SHORT = 1, EXIT_USAGE = 64, EXIT_FAILED = 69, RECEIVE_BUFFER = 2 << 20, SESSION_MAX = 64 * 1024 };
#define RELAY_SILENT (10 * PL_SECOND)
#define LONGEST_WAIT (500 * PL_MS)

static const char usage[] =
    "porchlight-watch [--session FILE] [--out DIR] [--trace FILE] [--frames N] [--seconds S]\n"
    "  --session FILE   the `srtp` object of the live answer, or the whole answer (default: stdin)\n"
    "  --out DIR        writes pictures (PNG) and sound (audio.wav) there; without it ffplay shows them where there is a display\n"
    "  --every N        keeps the first picture and each N-th (default 25), at most 50\n"
    "  --frames N       ends after N pictures\n"
    "  --seconds S      ends S seconds after the first packet\n"
    "  --trace FILE     writes a line for each picture: milliseconds of the monotonic clock, and its number in the strip\n"
    "  --timeout S      gives up when no picture has come after S seconds (default 20)\n"
    "Prints one JSON line at the end. Exits 0 when a bound was reached (--frames before --seconds), or without any when it was interrupted while it played.\n";

struct options {
    const char *session, *out, *trace;
    uint32_t every, frames, seconds, timeout;
    bool help;
};

struct watch {
    struct options o;
    const struct pl_clock *clock;
    struct session session;
    struct receiver *receiver;
    struct decoder *decoder;
    struct output *output;
    struct player *player;
    struct measure measure;
    struct pl_fail fail;
    enum pl_err broken;      /**< writing failed */
    struct way way;
    struct pl_mono began, progress_at;
    uint64_t frames;
    int width, height;
    FILE *trace;
    bool tell;               /**< progress on stderr */
};

static struct pl_mono now_of(const struct watch *w) { return pl_now_mono(w->clock); }

/* --- what the receiver brings ---------------------------------------------------------------------------------------------------------- */

static void send_datagram(void *self, const uint8_t *p, size_t n) { way_send(&((const struct watch *)self)->way, p, n); }

static void on_video(void *self, const struct h264_au *au)
{
    struct watch *w = self;
    if (!decoder_video(w->decoder, (struct pl_str){ (const char *)au->p, au->n }))
        receiver_broken(w->receiver);
}

static void on_audio(void *self, struct pl_str packet, uint32_t timestamp)
{
    (void)timestamp;
    decoder_audio(((struct watch *)self)->decoder, packet);
}

static void on_plain(void *self, bool video, const uint8_t *p, size_t n)
{
    struct watch *w = self;
    if (w->player)
        player_rtp(w->player, video, p, n);
}

static void on_picture(void *self, const AVFrame *f)
{
    struct watch *w = self;
    uint32_t number;
    w->frames++;
    w->width = f->width;
    w->height = f->height;
    if (strip_read(f->data[0], (size_t)f->linesize[0], (unsigned)f->width, (unsigned)f->height, &number) == PL_OK) {
        measure_number(&w->measure, number);
        if (w->trace && fprintf(w->trace, "%.1f %u\n", (double)now_of(w).us / 1000.0, number) < 0)
            w->broken = PL_IO;
    }
    if (w->output && w->broken == PL_OK)
        w->broken = output_picture(w->output, w->frames, f, &w->fail);
}

static void on_sound(void *self, const float *samples, size_t n)
{
    struct watch *w = self;
    measure_sound(&w->measure, samples, n);
    if (w->output && w->broken == PL_OK)
        w->broken = output_sound(w->output, samples, n, &w->fail);
}

/* --- the loop --------------------------------------------------------------------------------------------------------------------------- */

static const char *const ends[] = { "frames", "seconds", "timeout", "relay_silent", "interrupted", "window_closed", "write_failed" };
enum end { END_FRAMES, END_SECONDS, END_TIMEOUT, END_SILENT, END_INTERRUPTED, END_WINDOW, END_WRITE, GOES_ON };

static enum end look(struct watch *w, struct pl_mono now)
{
    const struct receiver_stats *s = receiver_stats(w->receiver);
    if (w->broken != PL_OK)
        return END_WRITE;
    if (w->o.frames && w->frames >= w->o.frames)
        return END_FRAMES;
    if (w->o.seconds && s->first_packet_at.us && pl_mono_sub(now, s->first_packet_at) >= w->o.seconds * PL_SECOND)
        return END_SECONDS;
    if (w->frames == 0 && pl_mono_sub(now, w->began) >= w->o.timeout * PL_SECOND)
        return END_TIMEOUT;
    if (s->connected && pl_mono_sub(now, s->alive) >= RELAY_SILENT)
        return END_SILENT;
    return w->player && player_gone(w->player) ? END_WINDOW : GOES_ON;
}

static void tell_progress(struct watch *w, struct pl_mono now)
{
    if (!w->tell || pl_mono_cmp(now, w->progress_at) < 0)
        return;
    const struct receiver_stats *s = receiver_stats(w->receiver);
    fprintf(stderr, "\r%llu pictures, %.1f s of sound, %llu packets lost ", (unsigned long long)w->frames, (double)w->measure.samples / MEASURE_RATE,
        (unsigned long long)(s->video_lost + s->audio_lost));
    w->progress_at = pl_mono_add(now, PL_SECOND);
}

static void drain_socket(struct watch *w)
{
    uint8_t in[2048];
    size_t n;
    while ((n = way_receive(&w->way, in, sizeof in)) > 0 && !(w->o.frames && w->frames >= w->o.frames))
        receiver_packet(w->receiver, now_of(w), in, n);
}

static enum end play(struct watch *w, int signals)
{
    struct pollfd p[2] = { { .fd = w->way.fd, .events = POLLIN }, { .fd = signals, .events = POLLIN } };
    enum end end;
    while ((end = look(w, now_of(w))) == GOES_ON) {
        receiver_tick(w->receiver, now_of(w));
        tell_progress(w, now_of(w));
        int64_t us = pl_mono_sub(receiver_due(w->receiver), now_of(w));
        us = us < 0 ? 0 : us > LONGEST_WAIT ? LONGEST_WAIT : us;
        struct timespec t = { us / PL_SECOND, us % PL_SECOND * 1000 };
        (void)ppoll(p, PL_COUNT(p), &t, NULL);
        if (p[1].revents)
            return END_INTERRUPTED;
        drain_socket(w);
    }
    return end;
}

/* --- the summary ------------------------------------------------------------------------------------------------------------------------ */

static void put_ms(struct jw *j, const char *name, const struct watch *w, struct pl_mono at)
{
    if (at.us)
        jw_num(j, name, (double)pl_mono_sub(at, w->began) / 1000.0);
    else
        jw_null(j, name);
}

/* Three places are enough, and make the line readable. */
static double rounded(double v) { return round(v * 1000.0) / 1000.0; }

static void put_strip(struct jw *j, const struct measure *m)
{
    if (m->read == 0) {
        jw_null(j, "strip");
        return;
    }
    jw_open(j, "strip");
    jw_int(j, "read", (int64_t)m->read);
    jw_int(j, "first", m->first);
    jw_int(j, "last", m->last);
    jw_int(j, "missing", (int64_t)m->missing);
    jw_int(j, "backwards", (int64_t)m->backwards);
    jw_close(j);
}

static void put_tone(struct jw *j, const struct measure *m)
{
    jw_open(j, "tone");
    jw_int(j, "hz", MEASURE_TONE_HZ);
    jw_num(j, "ratio", rounded(measure_tone(m)));
    jw_num(j, "level", rounded(measure_level(m)));
    jw_close(j);
}

static void summarise(const struct watch *w, enum end end)
{
    char text[2048];
    const struct receiver_stats *s = receiver_stats(w->receiver);
    struct pl_buf b = pl_buf_fixed(text, sizeof text);
    struct jw j = jw_start(&b);
    jw_open(&j, NULL);
    jw_int(&j, "frames", (int64_t)w->frames);
    jw_int(&j, "decode_errors", decoder_errors(w->decoder));
    jw_int(&j, "damaged_frames", (int64_t)s->damaged);
    jw_num(&j, "audio_seconds", rounded((double)w->measure.samples / MEASURE_RATE));
    jw_z(&j, "suite", pl_srtp_suite_name(w->session.suite));
    jw_num(&j, "began_ms", (double)w->began.us / 1000.0); /* of the monotonic clock, as in --trace; what follows counts from it */
    put_ms(&j, "connected_ms", w, s->connected_at);
    put_ms(&j, "first_packet_ms", w, s->first_packet_at);
    put_ms(&j, "first_keyframe_ms", w, s->first_key_at);
    put_ms(&j, "video_report_ms", w, s->video_report_at);
    put_ms(&j, "audio_report_ms", w, s->audio_report_at);
    if (s->in_step_known)
        jw_num(&j, "video_after_audio_ms", (double)s->video_after_audio_us / 1000.0);
    else
        jw_null(&j, "video_after_audio_ms");
    jw_int(&j, "packets", (int64_t)s->packets);
    jw_int(&j, "packets_refused", (int64_t)s->refused);
    jw_int(&j, "video_lost", (int64_t)s->video_lost);
    jw_int(&j, "audio_lost", (int64_t)s->audio_lost);
    jw_int(&j, "packets_asked", (int64_t)s->asked);
    jw_int(&j, "keyframes_asked", s->key_asked);
    jw_int(&j, "width", w->width);
    jw_int(&j, "height", w->height);
    put_strip(&j, &w->measure);
    put_tone(&j, &w->measure);
    jw_int(&j, "pictures_written", w->output ? output_pictures(w->output) : 0);
    jw_z(&j, "end", ends[end]);
    jw_close(&j);
    pl_buf_z(&b, "\n");
    if (pl_buf_err(&b) == PL_OK)
        (void)!write(1, b.p, b.n);
}

static int verdict(const struct watch *w, enum end end)
{
    if (w->o.frames)
        return end == END_FRAMES ? 0 : EXIT_SHORT;
    if (w->o.seconds)
        return end == END_SECONDS && w->frames ? 0 : EXIT_SHORT;
    return (end == END_INTERRUPTED || end == END_WINDOW) && w->frames ? 0 : EXIT_SHORT;
}

/* --- set-up ----------------------------------------------------------------------------------------------------------------------------- */

enum { O_SESSION = 1, O_OUT, O_TRACE, O_EVERY, O_FRAMES, O_SECONDS, O_TIMEOUT, O_HELP };
static const struct option option_rows[] = {
    { "session", required_argument, NULL, O_SESSION }, { "out", required_argument, NULL, O_OUT }, { "trace", required_argument, NULL, O_TRACE }, { "every", required_argument, NULL, O_EVERY },
    { "frames", required_argument, NULL, O_FRAMES }, { "seconds", required_argument, NULL, O_SECONDS }, { "timeout", required_argument, NULL, O_TIMEOUT },
    { "help", no_argument, NULL, O_HELP }, { 0 }
};

static bool set_option(struct options *o, int which)
{
    switch (which) {
    case O_SESSION: o->session = optarg; return true;
    case O_OUT: o->out = optarg; return true;
    case O_TRACE: o->trace = optarg; return true;
    case O_EVERY: return pl_parse_u32(pl_str_of(optarg), 1, 1000000, &o->every) == PL_OK;
    case O_FRAMES: return pl_parse_u32(pl_str_of(optarg), 1, UINT32_MAX, &o->frames) == PL_OK;
    case O_SECONDS: return pl_parse_u32(pl_str_of(optarg), 1, 86400, &o->seconds) == PL_OK;
    case O_TIMEOUT: return pl_parse_u32(pl_str_of(optarg), 1, 3600, &o->timeout) == PL_OK;
    case O_HELP: return o->help = true;
    default: return false;
    }
}

static bool take_options(int argc, char **argv, struct options *o)
{
    int which;
    while ((which = getopt_long(argc, argv, "", option_rows, NULL)) != -1)
        if (!set_option(o, which))
            return false;
    return o->help || optind == argc;
}

static enum pl_err read_session(struct watch *w)
{
    static char text[SESSION_MAX];
    size_t n = 0;
    ssize_t got = 0;
    int fd = w->o.session ? open(w->o.session, O_RDONLY | O_CLOEXEC) : 0;
    if (fd < 0)
        return pl_fail(&w->fail, PL_IO, "%s cannot be opened: %s", w->o.session, strerror(errno));
    if (isatty(fd))
        fputs("porchlight-watch: type or paste the session, and end it by Ctrl-D\n", stderr);
    while (n < sizeof text && (got = read(fd, text + n, sizeof text - n)) > 0)
        n += (size_t)got;
    if (w->o.session)
        close(fd);
    enum pl_err e = got < 0 ? pl_fail(&w->fail, PL_IO, "the session cannot be read: %s", strerror(errno)) : session_parse((struct pl_str){ text, n }, &w->session, &w->fail);
    secure_wipe(text, sizeof text);
    return e;
}

static enum pl_err open_way(struct watch *w)
{
    int room = RECEIVE_BUFFER;
    enum pl_err e = way_open(&w->way, w->session.host, w->session.port, &w->fail);
    if (e == PL_OK)
        (void)setsockopt(w->way.fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    return e;
}

/* All that may wait for somebody: signals end it as they end any program. */
static enum pl_err prepare(struct watch *w)
{
    enum pl_err e = decoder_new(&(struct decoder_conf){ .self = w, .on_picture = on_picture, .on_sound = on_sound }, &w->decoder);
    if (e == PL_OK && w->o.out)
        e = output_open(w->o.out, w->o.every, &w->output, &w->fail);
    if (e == PL_OK)
        e = read_session(w); /* on stdin it may come later: all that does not need it is there by then */
    return e == PL_OK ? open_way(w) : e;
}

static enum pl_err begin(struct watch *w)
{
    enum pl_err e = PL_OK;
    if (!w->o.out && player_possible() && player_start(&w->session, &w->player, &w->fail) != PL_OK)
        fprintf(stderr, "porchlight-watch: %s; only counting\n", w->fail.detail);
    if (w->o.trace && !(w->trace = fopen(w->o.trace, "we")))
        e = pl_fail(&w->fail, PL_IO, "%s cannot be written: %s", w->o.trace, strerror(errno));
    if (w->trace)
        setvbuf(w->trace, NULL, _IOLBF, 0); /* who follows it sees each picture when it comes */
    w->began = w->progress_at = now_of(w);
    if (e == PL_OK)
        e = receiver_new(&(struct receiver_conf){ .session = &w->session, .rand = &pl_rand_system, .self = w, .send = send_datagram, .on_video = on_video,
            .on_audio = on_audio, .on_plain = on_plain }, w->began, &w->receiver);
    return e;
}

static void clean_up(struct watch *w)
{
    w->receiver = receiver_free(w->receiver);
    w->decoder = decoder_free(w->decoder);
    w->output = output_close(w->output);
    w->player = player_stop(w->player);
    if (w->trace && fclose(w->trace) != 0)
        fprintf(stderr, "porchlight-watch: %s was not written whole\n", w->o.trace);
    session_wipe(&w->session);
    way_close(&w->way);
}

/* From here on a signal ends the view, and what it came to is told. */
static int block_signals(void)
{
    sigset_t enders;
    sigemptyset(&enders);
    sigaddset(&enders, SIGINT);
    sigaddset(&enders, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &enders, NULL);
    return signalfd(-1, &enders, SFD_CLOEXEC);
}

int main(int argc, char **argv)
{
    static struct watch w = { .o = { .every = 25, .timeout = 20 }, .clock = &pl_clock_system, .way.fd = -1, .fail = PL_FAIL_INIT };
    int code = EXIT_FAILED, signals = -1;
    bool understood = take_options(argc, argv, &w.o);
    if (!understood || w.o.help) {
        fputs(usage, understood ? stdout : stderr);
        return understood ? 0 : EXIT_USAGE;
    }
    av_log_set_level(AV_LOG_QUIET);
    w.tell = isatty(2);
    enum pl_err e = secure_init();
    if (e == PL_OK)
        e = pl_srtp_start();
    if (e == PL_OK)
        e = prepare(&w);
    if (e == PL_OK && (signals = block_signals()) < 0)
        e = PL_IO;
    if (e == PL_OK)
        e = begin(&w);
    if (e == PL_OK) {
        enum end end = play(&w, signals);
        if (w.tell)
            fputc('\n', stderr);
        summarise(&w, end);
        code = verdict(&w, end);
        e = w.broken;
    }
    if (e != PL_OK)
        fprintf(stderr, "porchlight-watch: %s\n", w.fail.detail[0] ? w.fail.detail : pl_err_table[e].sentence);
    clean_up(&w);
    return code;
}
