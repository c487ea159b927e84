/* main.c - porchlight-hub: arguments, signals, and the loop that serves the leg in the home. The rest happens on the threads of hub.h and stream.h. */
#include "hub.h"
#include "json.h"
#include "local.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libavutil/log.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { EXIT_USAGE = 64, EXIT_FAILED = 69 };

static const char usage[] =
    "porchlight-hub --server ws://HOST:PORT/hub/v1 --serial SERIAL --key FILE [--camera SERIAL=SOURCE]...\n"
    "  --server URL          where the cloud is; wss:// with --ca FILE or the system's certificates\n"
    "  --server-name NAME    prove this hub to that server only\n"
    "  --serial SERIAL       of this hub\n"
    "  --key FILE            its factory key: 64 hex characters, the seed of an Ed25519 key\n"
    "  --camera SERIAL=SRC   a camera within reach: `test` (moving picture and 440 Hz), a file (in a loop), or rtsp://...; up to ten. `copy:` before the\n"
    "                        latter two hands coded frames on as they are: H.264 without B-frames, and Opus\n"
    "  --suite gcm|sha1_80   speak this cipher only (default: both, AEAD_AES_128_GCM first)\n"
    "  --local PATH          Unix socket that stands for the leg between app and device in the home\n"
    "  --state FILE          what must survive a restart\n"
    "  --reset               come up after a factory reset\n"
    "  --role hub|camera     camera: one that stands without a hub\n"
    "  --model M, --firmware V, --ca FILE, --verbose\n";

struct options {
    struct hub_conf hub;
    const char *key, *local;
    bool verbose;
};

enum { O_SERVER = 1, O_SERVER_NAME, O_SERIAL, O_KEY, O_CAMERA, O_SUITE, O_LOCAL, O_STATE, O_RESET, O_ROLE, O_MODEL, O_FIRMWARE, O_CA, O_VERBOSE, O_HELP };
static const struct option option_rows[] = {
    { "server", required_argument, NULL, O_SERVER }, { "server-name", required_argument, NULL, O_SERVER_NAME }, { "serial", required_argument, NULL, O_SERIAL },
    { "key", required_argument, NULL, O_KEY }, { "camera", required_argument, NULL, O_CAMERA }, { "suite", required_argument, NULL, O_SUITE },
    { "local", required_argument, NULL, O_LOCAL }, { "state", required_argument, NULL, O_STATE }, { "reset", no_argument, NULL, O_RESET },
    { "role", required_argument, NULL, O_ROLE }, { "model", required_argument, NULL, O_MODEL }, { "firmware", required_argument, NULL, O_FIRMWARE },
    { "ca", required_argument, NULL, O_CA }, { "verbose", no_argument, NULL, O_VERBOSE }, { "help", no_argument, NULL, O_HELP }, { 0 }
};

/* Stdout carries one JSON line an event, for whoever started us. */
static void say(const char *event, const char *name, const char *value)
{
    char text[512];
    struct pl_buf b = pl_buf_fixed(text, sizeof text);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_bool(&w, event, true);
    if (value)
        jw_z(&w, name, value);
    jw_close(&w);
    pl_buf_z(&b, "\n");
    if (pl_buf_err(&b) == PL_OK)
        (void)!write(1, b.p, b.n);
}

static void on_connected(void *self)
{
    (void)self;
    say("connected", NULL, NULL);
}

static bool add_camera(struct hub_conf *c, const char *arg)
{
    struct pl_str source, serial = pl_str_split(pl_str_of(arg), '=', &source);
    if (c->cameras_n == HUB_CAMERAS || serial.n == 0 || source.n == 0)
        return false;
    c->cameras[c->cameras_n++] = (struct hub_camera){ serial, source.p };
    return true;
}

static bool set_suite(struct hub_conf *c, struct pl_str name)
{
    bool gcm = pl_str_eqz(name, "gcm"), sha1 = pl_str_eqz(name, "sha1_80");
    c->suites[PL_SRTP_GCM] = gcm;
    c->suites[PL_SRTP_SHA1_80] = sha1;
    return gcm || sha1;
}

static bool set_role(struct hub_conf *c, const char *role)
{
    c->role = role;
    return pl_str_eqz(pl_str_of(role), "hub") || pl_str_eqz(pl_str_of(role), "camera");
}

static bool set_option(struct options *o, int which)
{
    switch (which) {
    case O_SERVER: o->hub.server = optarg; return true;
    case O_SERVER_NAME: o->hub.server_name = optarg; return true;
    case O_SERIAL: o->hub.serial = pl_str_of(optarg); return true;
    case O_KEY: o->key = optarg; return true;
    case O_CAMERA: return add_camera(&o->hub, optarg);
    case O_SUITE: return set_suite(&o->hub, pl_str_of(optarg));
    case O_LOCAL: o->local = optarg; return true;
    case O_STATE: o->hub.state = optarg; return true;
    case O_RESET: o->hub.reset = true; return true;
    case O_ROLE: return set_role(&o->hub, optarg);
    case O_MODEL: o->hub.model = optarg; return true;
    case O_FIRMWARE: o->hub.firmware = optarg; return true;
    case O_CA: o->hub.ca_file = optarg; return true;
    case O_VERBOSE: o->verbose = true; return true;
    default: return false;
    }
}

static bool take_options(int argc, char **argv, struct options *o)
{
    int which;
    while ((which = getopt_long(argc, argv, "", option_rows, NULL)) != -1)
        if (!set_option(o, which))
            return false;
    return optind == argc && o->hub.server && o->hub.serial.n && o->key;
}

static enum pl_err read_key(const char *path, uint8_t seed[32], struct pl_fail *reterr)
{
    struct pl_secret key PL_CLEANUP(pl_secret_wipe) = { { 0 } };
    enum pl_err e = secure_key_file(path, /* create= */ false, &key, reterr);
    if (e == PL_OK)
        memcpy(seed, key.b, sizeof key.b);
    return e;
}

static void serve(struct hub *h, struct local *l, int signals)
{
    struct pollfd p[2] = { { .fd = signals, .events = POLLIN }, { .fd = l ? local_fd(l) : -1, .events = POLLIN } };
    for (;;) {
        if (poll(p, PL_COUNT(p), -1) < 0 && errno != EINTR)
            return;
        if (p[0].revents)
            return;
        if (p[1].revents)
            local_serve(l, h);
    }
}

static enum pl_err run(struct options *o, const struct pl_log *log, struct pl_fail *f)
{
    struct hub *h = NULL;
    struct local *l = NULL;
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, NULL); /* before any thread is made, so that all of them have it */
    int signals = signalfd(-1, &ends, SFD_CLOEXEC);
    enum pl_err e = signals < 0 ? PL_IO : read_key(o->key, o->hub.seed, f);
    if (e == PL_OK && o->local)
        e = local_open(o->local, &l, f);
    if (e == PL_OK) {
        say("ready", "local", o->local);
        e = hub_new(&o->hub, &h, f);
    }
    if (e == PL_OK) {
        serve(h, l, signals);
        PL_LOG(log, PL_INFO, "hub.stopping");
    }
    h = hub_free(h);
    l = local_close(l);
    secure_wipe(o->hub.seed, sizeof o->hub.seed);
    if (signals >= 0)
        close(signals);
    return e;
}

int main(int argc, char **argv)
{
    static const struct pl_log log = { 0 };
    struct pl_fail f = PL_FAIL_INIT;
    struct options o = { .hub = { .role = "hub", .model = "Porchlight reference hub", .firmware = "0.1.0", .suites = { true, true }, .clock = &pl_clock_system,
        .rand = &pl_rand_system, .log = &log, .on_connected = on_connected } };
    if (!take_options(argc, argv, &o)) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    pl_log_level(o.verbose ? PL_DEBUG : PL_INFO);
    av_log_set_level(AV_LOG_QUIET); /* it would write plain text between our JSON lines */
    signal(SIGPIPE, SIG_IGN);
    enum pl_err e = secure_init();
    if (e == PL_OK)
        e = run(&o, &log, &f);
    if (e != PL_OK) {
        fprintf(stderr, "porchlight-hub: %s\n", f.detail[0] ? f.detail : pl_err_table[e].sentence);
        return EXIT_FAILED;
    }
    return 0;
}
