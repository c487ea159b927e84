#include "relay_node.h"
#include "relay_control.h"
#include "relay_lock.h"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

const char relay_usage[] =
    "usage: porchlight-relay --server ws://HOST:PORT/relay/v1 --id UUID --key FILE --media HOST:PORT\n"
    "                        [--ca FILE] [--advertise HOST:PORT] [--max-sessions N] [--test-clock FILE]\n"
    "Forwards live video and sound. A wss:// server must be vouched for by the system's certificates, or by --ca.\n"
    "--key: a file that holds the node's Ed25519 seed, 64 hex characters.\n";

static const struct {
    const char *name;
    size_t offset;
    bool required;
} options[] = {
    { "--server", offsetof(struct relay_args, server), true },
    { "--id", offsetof(struct relay_args, id), true },
    { "--key", offsetof(struct relay_args, key), true },
    { "--media", offsetof(struct relay_args, media), true },
    { "--ca", offsetof(struct relay_args, ca), false },
    { "--advertise", offsetof(struct relay_args, advertise), false },
    { "--max-sessions", offsetof(struct relay_args, max_sessions), false },
    { "--test-clock", offsetof(struct relay_args, test_clock), false },
};

static const char **option_at(struct relay_args *args, size_t i) { return (const char **)(void *)((char *)args + options[i].offset); }

enum pl_err relay_args_read(int argc, char **argv, struct relay_args *ret, struct pl_fail *reterr)
{
    struct relay_args args = { .server = NULL };
    for (int i = 1; i < argc; i += 2) {
        size_t k = 0;
        while (k < PL_COUNT(options) && strcmp(argv[i], options[k].name) != 0)
            k++;
        if (k == PL_COUNT(options))
            return pl_fail(reterr, PL_INVALID_REQUEST, "%s is not known.", argv[i]);
        if (i + 1 == argc)
            return pl_fail(reterr, PL_INVALID_REQUEST, "%s wants a value.", argv[i]);
        if (*option_at(&args, k))
            return pl_fail(reterr, PL_INVALID_REQUEST, "%s was given twice.", argv[i]);
        *option_at(&args, k) = argv[i + 1];
    }
    for (size_t k = 0; k < PL_COUNT(options); k++)
        if (options[k].required && !*option_at(&args, k))
            return pl_fail(reterr, PL_INVALID_REQUEST, "%s is missing.", options[k].name);
    *ret = args;
    return PL_OK;
}

struct parts {
    struct relay_worker_conf worker;
    struct relay_control_conf control;
    char advertise[256];
};

static enum pl_err read_advertise(const struct relay_args *args, const struct ice_addr *bound, struct parts *p, struct pl_fail *reterr)
{
    struct pl_str text = pl_str_of(args->advertise ? args->advertise : args->media);
    size_t colon = text.n;
    uint32_t port;
    while (colon > 0 && text.p[colon - 1] != ':')
        colon--;
    if (colon < 2 || colon > sizeof p->advertise || pl_parse_u32((struct pl_str){ text.p + colon, text.n - colon }, 0, 65535, &port) != PL_OK)
        return pl_fail(reterr, PL_INVALID_REQUEST, "--advertise %s is not HOST:PORT.", text.p);
    bool bracket = text.p[0] == '[' && text.p[colon - 2] == ']';
    size_t n = colon - 1 - (bracket ? 2 : 0);
    memcpy(p->advertise, text.p + bracket, n);
    p->advertise[n] = 0;
    p->control.media_host = p->advertise;
    p->control.media_port = port ? (uint16_t)port : bound->port;
    if (!args->advertise && (strcmp(p->advertise, "0.0.0.0") == 0 || strcmp(p->advertise, "::") == 0))
        return pl_fail(reterr, PL_INVALID_REQUEST, "--media %s listens everywhere: say with --advertise where hubs and phones reach it.", args->media);
    return PL_OK;
}

static enum pl_err read_parts(const struct relay_args *args, struct parts *p, struct pl_fail *reterr)
{
    struct pl_secret seed PL_CLEANUP(pl_secret_wipe) = { { 0 } };
    uint32_t sessions = 256;
    if (args->test_clock) {
        enum pl_err e = pl_test_clock_map(args->test_clock, reterr);
        if (e != PL_OK)
            return e;
    }
    if (args->max_sessions && pl_parse_u32(pl_str_of(args->max_sessions), 1, 20000, &sessions) != PL_OK)
        return pl_fail(reterr, PL_INVALID_REQUEST, "--max-sessions is 1 to 20000.");
    if (pl_uuid_parse(pl_str_of(args->id), &p->control.relay_id) != PL_OK)
        return pl_fail(reterr, PL_INVALID_REQUEST, "--id %s is not a UUID.", args->id);
    if (ice_addr_parse(pl_str_of(args->media), &p->worker.media) != PL_OK)
        return pl_fail(reterr, PL_INVALID_REQUEST, "--media %s is not ADDRESS:PORT.", args->media);
    enum pl_err e = secure_key_file(args->key, /* create= */ false, &seed, reterr);
    if (e != PL_OK)
        return e;
    secure_keypair_from_seed(seed.b, &p->control.key);
    p->control.url = args->server;
    p->control.ca_file = args->ca;
    p->worker.max_sessions = p->control.max_sessions = sessions;
    p->worker.clock = p->control.clock = &pl_clock_system;
    p->worker.rand = p->control.rand = &pl_rand_system;
    return PL_OK;
}

static void say_ready(const struct ice_addr *bound)
{
    char text[ICE_ADDR_TEXT];
    ice_addr_text(bound, text);
    printf("{\"ready\":true,\"media\":\"%s\"}\n", text);
    (void)fflush(stdout);
}

enum pl_err relay_node_run(const struct relay_args *args, struct pl_fail *reterr)
{
    const struct pl_log log = { .parent = NULL };
    struct parts p = { .worker.log = &log, .control.log = &log };
    struct relay_worker *worker = NULL;
    struct relay_control *control = NULL;
    sigset_t ends;
    int which;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ends, NULL); /* before the first thread: all inherit it, only sigwait below takes them */
    (void)signal(SIGPIPE, SIG_IGN);
    struct relay_names names = { .fd = -1 };
    enum pl_err e = relay_names_start(args->server, &names, reterr); /* a fork: before threads and secrets */
    relay_lock_memory(&log);
    p.control.names = &names;
    if (e == PL_OK)
        e = secure_init();
    if (e == PL_OK)
        e = pl_srtp_start(); /* or the first session stalls the thread of all packets */
    if (e == PL_OK)
        e = read_parts(args, &p, reterr);
    if (e == PL_OK)
        e = relay_worker_new(&p.worker, &worker, reterr);
    struct ice_addr bound = worker ? relay_worker_addr(worker) : (struct ice_addr){ .family = 0 };
    if (e == PL_OK)
        e = read_advertise(args, &bound, &p, reterr);
    p.control.worker = worker;
    p.control.fingerprint = worker ? relay_worker_fingerprint(worker) : NULL;
    if (e == PL_OK)
        e = relay_control_new(&p.control, &control, reterr); /* reads certificates; what the cloud asks for meanwhile waits for the worker */
    secure_keypair_wipe(&p.control.key);
    if (e == PL_OK)
        e = relay_lock(reterr);
    if (e == PL_OK)
        e = relay_worker_start(worker, reterr);
    if (e == PL_OK) {
        say_ready(&bound);
        PL_LOG(&log, PL_INFO, "relay.started", PL_F_INT("port", bound.port), PL_F_INT("max_sessions", p.worker.max_sessions));
        (void)sigwait(&ends, &which);
        PL_LOG(&log, PL_INFO, "relay.stopped", PL_F_INT("signal", which));
    }
    relay_control_free(control);
    relay_worker_free(worker);
    relay_names_stop(&names);
    return e;
}
