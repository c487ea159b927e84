/* main.c - porchlight-hub: arguments, signals, and the loop that serves the leg in the home. The rest happens on the threads of hub.h, stream.h and wifi.h. */
#include "json.h"
#include "onboarding_http.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libavutil/log.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
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
    "  --onboarding ADDR:PORT  the leg between app and device in the home: HTTP on the temporary Wi-Fi's address, while this hub is free (port 0: any)\n"
    "  --onboard             open it though the hub is bound, as its button does: for another network\n"
    "  --wifi FILE           a simulated radio and its networks (hub/wifi.h); without it the hub is on a cable\n"
    "  --state FILE          what must survive a restart\n"
    "  --reset               come up after a factory reset\n"
    "  --role hub|camera     camera: one that stands without a hub\n"
    "  --model M, --firmware V, --ca FILE, --verbose\n";

struct options {
    struct hub_conf hub;
    const char *key, *onboarding, *wifi;
    bool onboard, verbose, help;
};

enum { O_SERVER = 1, O_SERVER_NAME, O_SERIAL, O_KEY, O_CAMERA, O_SUITE, O_ONBOARDING, O_ONBOARD, O_WIFI, O_STATE, O_RESET, O_ROLE, O_MODEL, O_FIRMWARE, O_CA, O_VERBOSE, O_HELP };
static const struct option option_rows[] = {
    { "server", required_argument, NULL, O_SERVER }, { "server-name", required_argument, NULL, O_SERVER_NAME }, { "serial", required_argument, NULL, O_SERIAL },
    { "key", required_argument, NULL, O_KEY }, { "camera", required_argument, NULL, O_CAMERA }, { "suite", required_argument, NULL, O_SUITE },
    { "onboarding", required_argument, NULL, O_ONBOARDING }, { "onboard", no_argument, NULL, O_ONBOARD }, { "wifi", required_argument, NULL, O_WIFI },
    { "state", required_argument, NULL, O_STATE }, { "reset", no_argument, NULL, O_RESET },
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

/* What the main thread holds. */
struct device {
    const struct options *options;
    const struct pl_log *log;
    struct hub *hub;
    struct wifi *wifi;             /**< NULL: on a cable */
    struct onboarding *onboarding; /**< NULL: not listening */
    struct onboarding_http *http;
    char where[ONBOARDING_ADDRESS];/**< it listens; "": not from the start. Written before the hub dials */
    int signals, changed;          /**< changed: eventfd of the hub's on_change */
};

static void on_connected(void *self)
{
    const struct device *d = self;
    say("connected", "onboarding", d->where[0] ? d->where : NULL);
}

static void on_change(void *self) { (void)eventfd_write(((struct device *)self)->changed, 1); }

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
    case O_ONBOARDING: o->onboarding = optarg; return true;
    case O_ONBOARD: o->onboard = true; return true;
    case O_WIFI: o->wifi = optarg; return true;
    case O_STATE: o->hub.state = optarg; return true;
    case O_RESET: o->hub.reset = true; return true;
    case O_ROLE: return set_role(&o->hub, optarg);
    case O_MODEL: o->hub.model = optarg; return true;
    case O_FIRMWARE: o->hub.firmware = optarg; return true;
    case O_CA: o->hub.ca_file = optarg; return true;
    case O_VERBOSE: o->verbose = true; return true;
    case O_HELP: o->help = true; return true;
    default: return false;
    }
}

static bool take_options(int argc, char **argv, struct options *o)
{
    int which;
    while ((which = getopt_long(argc, argv, "", option_rows, NULL)) != -1)
        if (!set_option(o, which))
            return false;
    return o->help || (optind == argc && o->hub.server && o->hub.serial.n && o->key);
}

static enum pl_err read_key(const char *path, uint8_t seed[32], struct pl_fail *reterr)
{
    struct pl_secret key PL_CLEANUP(pl_secret_wipe) = { { 0 } };
    enum pl_err e = secure_key_file(path, /* create= */ false, &key, reterr);
    if (e == PL_OK)
        memcpy(seed, key.b, sizeof key.b);
    return e;
}

/* --- the leg in the home ------------------------------------------------------------------------------------------------------------------ */

static enum pl_err take_claim(void *self, struct pl_str claim_id, struct pl_str challenge) { return hub_claim(((struct device *)self)->hub, claim_id, challenge); }
static enum pl_err vouch(void *self, const struct hub_vouch *what, uint8_t ret[64]) { return hub_vouch(((struct device *)self)->hub, what, ret); }
static enum pl_err scan(void *self) { return wifi_scan(((struct device *)self)->wifi); }
static enum pl_err join(void *self, struct pl_str ssid, struct pl_str password) { return wifi_join(((struct device *)self)->wifi, ssid, password); }

static void close_onboarding(struct device *d)
{
    if (d->http)
        PL_LOG(d->log, PL_INFO, "onboarding.closed");
    d->http = onboarding_http_close(d->http);
    d->onboarding = onboarding_free(d->onboarding);
}

static enum pl_err open_onboarding(struct device *d, bool on_network, struct pl_fail *f)
{
    const struct hub_conf *h = &d->options->hub;
    enum pl_err e = onboarding_new(&(struct onboarding_conf){ .serial = h->serial, .role = h->role, .model = h->model, .firmware = h->firmware, .wired = !d->wifi,
        .on_network = on_network, .window_us = ONBOARDING_WINDOW, .self = d, .claim = take_claim, .vouch = vouch, .scan = scan, .join = join }, pl_now_mono(h->clock), &d->onboarding);
    if (e == PL_OK)
        e = onboarding_http_open(&(struct onboarding_http_conf){ .address = d->options->onboarding, .onboarding = d->onboarding, .hub = d->hub, .clock = h->clock, .log = d->log },
                                 &d->http, f);
    if (e != PL_OK)
        return e;
    snprintf(d->where, sizeof d->where, "%s", onboarding_http_where(d->http));
    PL_LOG(d->log, PL_INFO, "onboarding.open", PL_F_Z("at", d->where));
    return PL_OK;
}

/* The radio, and whether it is on a network that it was on before. */
static enum pl_err open_wifi(struct device *d, bool *ret_on_network, struct pl_fail *f)
{
    struct wifi_driver *driver;
    if (!d->options->wifi) {
        *ret_on_network = true;
        return PL_OK;
    }
    enum pl_err e = wifi_sim_open(d->options->wifi, &driver, f);
    if (e != PL_OK)
        return e;
    bool joined = driver->resume(driver);
    if ((e = wifi_new(driver, &d->wifi)) == PL_OK)
        *ret_on_network = joined;
    return e;
}

static enum pl_err take_wifi(struct device *d, struct pl_mono now, struct pl_fail *f)
{
    struct wifi_done done;
    enum pl_err e = PL_OK;
    while (e == PL_OK && wifi_take(d->wifi, &done)) {
        if (d->onboarding)
            onboarding_wifi(d->onboarding, now, &done);
        if (done.tried)
            PL_LOG(d->log, PL_INFO, "onboarding.wifi", PL_F_Z("end", wifi_end_words[done.end]));
        if (done.tried && done.end == WIFI_JOINED)
            e = hub_dial(d->hub, f);
    }
    return e;
}

static void step(struct device *d, struct pl_mono now)
{
    eventfd_t woken;
    (void)eventfd_read(d->changed, &woken);
    if (!d->onboarding)
        return;
    const struct hub_look look = hub_look(d->hub);
    onboarding_cloud(d->onboarding, now, &look);
    onboarding_http_run(d->http, now);
    if (!onboarding_open(d->onboarding, now))
        close_onboarding(d);
}

static enum pl_err serve(struct device *d, struct pl_fail *f)
{
    const struct pl_clock *clock = d->options->hub.clock;
    enum pl_err e = PL_OK;
    while (e == PL_OK) {
        struct pollfd p[4] = { { .fd = d->signals, .events = POLLIN }, { .fd = d->changed, .events = POLLIN }, { .fd = d->wifi ? wifi_fd(d->wifi) : -1, .events = POLLIN },
                               { .fd = d->http ? onboarding_http_fd(d->http) : -1, .events = POLLIN } };
        int64_t us = d->http ? pl_mono_sub(onboarding_http_due(d->http, pl_now_mono(clock)), pl_now_mono(clock)) : -1;
        int wait = !d->http ? -1 : us <= 0 ? 0 : us > PL_HOUR ? (int)(PL_HOUR / PL_MS) : (int)((us + PL_MS - 1) / PL_MS);
        if (poll(p, PL_COUNT(p), wait) < 0 && errno != EINTR)
            return PL_IO;
        if (p[0].revents)
            return PL_OK;
        if (p[2].revents)
            e = take_wifi(d, pl_now_mono(clock), f);
        step(d, pl_now_mono(clock));
    }
    return e;
}

/* A device that was bound is not open to whoever passes by: its button, or a reset, opens it again. */
static enum pl_err begin(struct device *d, struct pl_fail *f)
{
    bool on_network = false;
    enum pl_err e = open_wifi(d, &on_network, f);
    if (e == PL_OK && d->options->onboarding && (d->options->onboard || !hub_look(d->hub).bound))
        e = open_onboarding(d, on_network, f);
    if (e != PL_OK)
        return e;
    say("ready", "onboarding", d->where[0] ? d->where : NULL);
    return on_network ? hub_dial(d->hub, f) : PL_OK;
}

static enum pl_err run(struct options *o, const struct pl_log *log, struct pl_fail *f)
{
    struct device d = { .options = o, .log = log };
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, NULL); /* before any thread is made, so that all of them have it */
    d.signals = signalfd(-1, &ends, SFD_CLOEXEC);
    d.changed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum pl_err e = d.signals < 0 || d.changed < 0 ? PL_IO : read_key(o->key, o->hub.seed, f);
    o->hub.self = &d;
    if (e == PL_OK)
        e = hub_new(&o->hub, &d.hub, f);
    if (e == PL_OK)
        e = begin(&d, f);
    if (e == PL_OK)
        e = serve(&d, f);
    PL_LOG(log, PL_INFO, "hub.stopping");
    close_onboarding(&d);
    d.wifi = wifi_free(d.wifi);
    d.hub = hub_free(d.hub);
    secure_wipe(o->hub.seed, sizeof o->hub.seed);
    if (d.signals >= 0)
        close(d.signals);
    if (d.changed >= 0)
        close(d.changed);
    return e;
}

int main(int argc, char **argv)
{
    static const struct pl_log log = { 0 };
    struct pl_fail f = PL_FAIL_INIT;
    struct options o = { .hub = { .role = "hub", .model = "Porchlight reference hub", .firmware = "0.1.0", .suites = { true, true }, .clock = &pl_clock_system,
        .rand = &pl_rand_system, .log = &log, .on_connected = on_connected, .on_change = on_change } };
    bool understood = take_options(argc, argv, &o);
    if (!understood || o.help) {
        fputs(usage, understood ? stdout : stderr);
        return understood ? 0 : EXIT_USAGE;
    }
    pl_log_level(o.verbose ? PL_DEBUG : PL_INFO);
    av_log_set_level(AV_LOG_QUIET); /* it would write plain text between our JSON lines */
    signal(SIGPIPE, SIG_IGN);
    enum pl_err e = secure_init();
    if (e == PL_OK)
        e = pl_srtp_start(); /* or the first live view waits for it */
    if (e == PL_OK)
        e = run(&o, &log, &f);
    if (e != PL_OK) {
        fprintf(stderr, "porchlight-hub: %s\n", f.detail[0] ? f.detail : pl_err_table[e].sentence);
        return EXIT_FAILED;
    }
    return 0;
}
