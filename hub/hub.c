#include "copier.h"
#include "hub_in.h"

#define STATUS_EVERY (30 * PL_SECOND)
#define FENCED_MIN (30 * PL_SECOND) /* another of the same name is connected: stay away for a while instead of taking turns with it */
#define FENCED_MAX PL_MINUTE
#define WINDOW_MIN PL_SECOND        /* where the server has said nothing */
#define WINDOW_MAX (5 * PL_SECOND)
enum { CLOSE_FENCED = 4409, BATTERY = 100 /* this hub's cameras have a plug; and neither they nor it know of a radio */ };

void hub_send(struct hub *h, const struct pl_buf *b)
{
    if (pl_buf_err(b) != PL_OK)
        PL_LOG(&h->log, PL_ERROR, "hub.message-too-large");
    else if (!h->link || link_client_send(h->link, pl_buf_view(b)) != PL_OK)
        PL_LOG(&h->log, PL_DEBUG, "hub.not-sent");
}

struct pl_str hub_id(struct hub *h, char out[PL_UUID_TEXT])
{
    pl_uuid_text(pl_uuid7(h->conf.rand, pl_now_utc(h->conf.clock)), out);
    return pl_str_of(out);
}

int hub_camera_at(const struct hub *h, struct pl_str serial)
{
    for (size_t i = 0; i < h->conf.cameras_n; i++)
        if (pl_str_eq(h->conf.cameras[i].serial, serial))
            return (int)i;
    return -1;
}

static void save(struct hub *h)
{
    struct pl_fail f = PL_FAIL_INIT;
    if (state_save(h->conf.state, &h->state, &f) != PL_OK)
        PL_LOG(&h->log, PL_ERROR, "hub.state-not-saved", PL_F_Z("why", f.detail));
}

static void changed(struct hub *h)
{
    if (h->conf.on_change)
        h->conf.on_change(h->conf.self);
}

void hub_keep(char *place, size_t cap, struct pl_str s)
{
    struct pl_buf b = pl_buf_fixed(place, cap);
    memset(place, 0, cap);
    pl_buf_str(&b, s);
}

/* --- hello ------------------------------------------------------------------------------------------------------------------------------ */

static enum pl_err on_challenge(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_challenge m = { 0 };
    struct pl_str text;
    uint8_t signature[64], digest[32];
    char id[PL_UUID_TEXT];
    enum pl_err e = json_doc_take(d, msg_challenge_fields, JSON_LENIENT, h->arena, &m, f);
    if (e != PL_OK)
        return e;
    /* S-D11: what is signed names the server, so that a signature got by one is of no use at another. */
    if (h->conf.server_name && !pl_str_eqz(m.server_name, h->conf.server_name))
        return pl_fail(f, PL_AUTH, "the server says it is %.*s", PL_FMT(m.server_name));
    if ((e = secure_hello_text(h->arena, h->conf.role, h->conf.serial, m.nonce, m.server_name, &text)) != PL_OK)
        return e;
    secure_sign(&h->key, text, signature);
    secure_sha256((struct pl_str){ (const char *)h->key.public_key, sizeof h->key.public_key }, digest);

    struct pl_str suites[2];
    struct msg_hello_camera cameras[HUB_CAMERAS];
    struct msg_live running[HUB_STREAMS];
    struct msg_hello hello = { .id = hub_id(h, id), .role = pl_str_of(h->conf.role), .serial = h->conf.serial, .key_id = pl_hex(h->arena, digest, 8),
        .firmware = pl_str_of(h->conf.firmware), .model = pl_str_of(h->conf.model), .boot_id = h->boot_id, .boot_reason = pl_str_of(h->boot_reason),
        .reset_count = h->state.reset_count, .suites = suites, .cameras = cameras, .cameras_n = h->conf.cameras_n, .running = running,
        .running_n = hub_running(h, running), .signature = signature };
    for (enum pl_srtp_suite s = PL_SRTP_GCM; s <= PL_SRTP_SHA1_80; s++)
        if (h->conf.suites[s])
            suites[hello.suites_n++] = pl_str_of(pl_srtp_suite_name(s));
    for (size_t i = 0; i < h->conf.cameras_n; i++)
        cameras[i] = (struct msg_hello_camera){ h->conf.cameras[i].serial, copier_wanted(h->conf.cameras[i].source) };
    struct pl_buf b = hub_buf(h);
    msg_hello_put(&b, &hello);
    hub_send(h, &b);
    h->phase = HUB_PROVED;
    return PL_OK;
}

/* --- claims ----------------------------------------------------------------------------------------------------------------------------- */

/* Proves a claim with the factory key: the hub's own (camera absent), or that of a camera which the hub vouches for. */
static enum pl_err prove(struct hub *h, struct pl_str claim_id, struct pl_str camera, struct pl_str challenge, char id[PL_UUID_TEXT])
{
    struct pl_str text, whose = camera.p ? camera : h->conf.serial;
    uint8_t signature[64];
    int at = hub_camera_at(h, whose); /* a camera that stands without a hub is its own */
    enum pl_err e = secure_claim_text(h->arena, whose, challenge, &text);
    if (e != PL_OK)
        return e;
    secure_sign(&h->key, text, signature);
    struct pl_buf b = hub_buf(h);
    msg_proof_put(&b, &(struct msg_proof){ .id = hub_id(h, id), .claim_id = claim_id, .challenge = challenge, .camera = camera,
        .copied = at >= 0 && copier_wanted(h->conf.cameras[at].source), .signature = signature });
    hub_send(h, &b);
    return PL_OK;
}

static enum pl_err prove_own_claim(struct hub *h)
{
    if (h->claim.end != HUB_CLAIM_WAITS || h->phase != HUB_READY)
        return PL_OK;
    return prove(h, pl_str_of(h->claim.id), PL_STR_NONE, pl_str_of(h->claim.challenge), h->claim.message);
}

static enum pl_err on_pair(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_pair m = { 0 };
    char id[PL_UUID_TEXT];
    enum pl_err e = json_doc_take(d, msg_pair_fields, JSON_LENIENT, h->arena, &m, f);
    if (e != PL_OK)
        return e;
    struct pl_buf b = hub_buf(h);
    msg_ack_put(&b, m.id);
    hub_send(h, &b);
    int camera = hub_camera_at(h, m.serial);
    /* A camera out of reach is not vouched for: the claim waits for it, and the cloud asks again at the next welcome. */
    if (camera < 0) {
        PL_LOG(&h->log, PL_WARN, "hub.camera-not-in-reach", PL_F_STR("camera", m.serial));
        return PL_OK;
    }
    hub_keep(h->pairing[camera], sizeof h->pairing[camera], m.claim_id);
    return prove(h, m.claim_id, h->conf.cameras[camera].serial, m.challenge, id);
}

static enum pl_err on_bound(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_bound m = { 0 };
    enum pl_err e = json_doc_take(d, msg_bound_fields, JSON_LENIENT, h->arena, &m, f);
    if (e != PL_OK)
        return e;
    if (h->claim.end == HUB_CLAIM_WAITS && pl_str_eqz(m.claim_id, h->claim.id)) {
        h->claim.end = HUB_CLAIM_BOUND;
        h->state.bound = true;
        PL_LOG(&h->log, PL_INFO, "hub.bound");
        changed(h);
    }
    for (size_t i = 0; i < h->conf.cameras_n; i++)
        if (h->pairing[i][0] && pl_str_eqz(m.claim_id, h->pairing[i])) {
            memset(h->pairing[i], 0, sizeof h->pairing[i]);
            state_add_camera(&h->state, h->conf.cameras[i].serial);
            PL_LOG(&h->log, PL_INFO, "hub.paired", PL_F_STR("camera", h->conf.cameras[i].serial));
        }
    h->status_due = true;
    save(h);
    return PL_OK;
}

static enum pl_err on_error(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_error m = { 0 };
    enum pl_err e = json_doc_take(d, msg_error_fields, JSON_LENIENT, h->arena, &m, f);
    if (e != PL_OK)
        return e;
    PL_LOG(&h->log, PL_WARN, "hub.refused", PL_F_STR("code", m.code));
    if (h->claim.end == HUB_CLAIM_WAITS && pl_str_eqz(m.re, h->claim.message)) {
        h->claim.end = HUB_CLAIM_REFUSED; /* a claim is good once: the app starts another */
        hub_keep(h->claim.code, sizeof h->claim.code, m.code);
        changed(h);
    }
    hub_uplink_refused(h, m.re);
    return PL_OK;
}

static enum pl_err on_unbound(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_unbound m = { 0 };
    enum pl_err e = json_doc_take(d, msg_unbound_fields, JSON_LENIENT, h->arena, &m, f);
    if (e != PL_OK)
        return e;
    int camera = hub_camera_at(h, m.serial);
    if (pl_str_eq(m.serial, h->conf.serial)) {
        h->state.bound = false;
        memset(h->state.cameras, 0, sizeof h->state.cameras);
        hub_stop_streams(h, -1, PL_STR("device_freed"));
    } else if (camera >= 0) {
        state_drop_camera(&h->state, m.serial);
        hub_stop_streams(h, camera, PL_STR("device_freed"));
    }
    save(h);
    return PL_OK;
}

/* --- at home -------------------------------------------------------------------------------------------------------------------------- */

static void send_status(struct hub *h)
{
    struct msg_camera_status cameras[HUB_CAMERAS];
    char id[PL_UUID_TEXT];
    for (size_t i = 0; i < h->conf.cameras_n; i++)
        cameras[i] = (struct msg_camera_status){ h->conf.cameras[i].serial, pl_str_of(h->conf.firmware), reach_online(h->reach, i), hub_camera_busy(h, i), BATTERY };
    struct pl_buf b = hub_buf(h);
    msg_status_put(&b, hub_id(h, id), cameras, h->conf.cameras_n);
    hub_send(h, &b);
    h->status_due = false;
    h->status_at = pl_mono_add(pl_now_mono(h->conf.clock), STATUS_EVERY);
}

static enum pl_err on_welcome(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_welcome m = { .reconnect = { WINDOW_MIN / PL_SECOND, WINDOW_MAX / PL_SECOND } };
    enum pl_err e = json_doc_take(d, msg_welcome_fields, JSON_LENIENT, h->arena, &m, f);
    if (e != PL_OK)
        return e;
    h->phase = HUB_READY;
    h->clock_off = pl_utc_sub(m.server_time, pl_now_utc(h->conf.clock));
    link_client_window(h->link, m.reconnect.min_s * PL_SECOND, m.reconnect.max_s * PL_SECOND);
    bool bound = m.binding == MSG_BOUND;
    if (h->state.bound && !bound) /* freed while we were away */
        memset(h->state.cameras, 0, sizeof h->state.cameras);
    if (h->state.bound != bound) {
        h->state.bound = bound;
        save(h);
    }
    PL_LOG(&h->log, PL_INFO, "hub.connected", PL_F_STR("session", m.session), PL_F_Z("binding", bound ? "bound" : "free"));
    send_status(h);
    if (h->conf.on_connected)
        h->conf.on_connected(h->conf.self);
    changed(h);
    return prove_own_claim(h);
}

static enum pl_err on_reconnect(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_reconnect m = { 0 };
    enum pl_err e = json_doc_take(d, msg_reconnect_fields, JSON_LENIENT, h->arena, &m, f);
    if (e != PL_OK)
        return e;
    link_client_window(h->link, m.min_s * PL_SECOND, m.max_s * PL_SECOND);
    link_client_reconnect(h->link);
    return PL_OK;
}

/* --- commands --------------------------------------------------------------------------------------------------------------------------- */

/* A stand-in for pulling the plug: sessions end, the boot id is new, the connection comes back. */
static enum pl_err do_reboot(struct hub *h, struct pl_str command_id)
{
    (void)command_id;
    hub_stop_streams(h, -1, PL_STR("hub_lost"));
    h->boot_id = pl_uuid7(h->conf.rand, pl_now_utc(h->conf.clock));
    h->boot_reason = "reboot";
    link_client_reconnect(h->link); /* after what is queued has gone out */
    return PL_OK;
}

static enum pl_err do_refresh(struct hub *h, struct pl_str command_id)
{
    (void)command_id;
    send_status(h);
    return PL_OK;
}

static const struct {
    const char *name;
    enum pl_err (*run)(struct hub *h, struct pl_str command_id);
    bool later; /**< it runs on, and hub_command_done says what became of it; run fails: it is refused at once */
} commands[] = { { "reboot", do_reboot, false }, { "refresh", do_refresh, false }, { "uplink_test", hub_uplink_begin, true } };

static void answer(struct hub *h, struct pl_str command_id, enum pl_err how)
{
    char id[PL_UUID_TEXT];
    struct pl_buf b = hub_buf(h);
    msg_result_put(&b, hub_id(h, id), command_id, how == PL_OK, how == PL_OK ? PL_STR_NONE : pl_str_of(pl_err_code(how)));
    hub_send(h, &b);
}

/* A command that was carried out, or refused, is not carried out again when it comes twice: its result is. */
static struct hub_done_command *done_before(struct hub *h, struct pl_str command_id)
{
    for (size_t i = 0; i < HUB_COMMANDS; i++)
        if (h->done[i].id[0] && pl_str_eqz(command_id, h->done[i].id))
            return &h->done[i];
    return NULL;
}

void hub_command_done(struct hub *h, struct pl_str command_id, enum pl_err how)
{
    struct hub_done_command *place = done_before(h, command_id);
    if (place) {
        place->how = how;
        place->running = false;
    }
    answer(h, command_id, how);
}

static enum pl_err on_command(struct hub *h, const struct json_doc *d, struct pl_fail *f)
{
    struct msg_command m = { 0 };
    enum pl_err e = json_doc_take(d, msg_command_fields, JSON_LENIENT, h->arena, &m, f);
    if (e != PL_OK)
        return e;
    struct pl_buf b = hub_buf(h);
    msg_ack_put(&b, m.command_id);
    hub_send(h, &b);
    const struct hub_done_command *before = done_before(h, m.command_id);
    if (before) {
        if (!before->running)
            answer(h, m.command_id, before->how);
        return PL_OK;
    }
    size_t i = 0;
    while (i < PL_COUNT(commands) && !pl_str_eqz(m.name, commands[i].name))
        i++;
    bool late = m.deadline.us && pl_utc_cmp(pl_utc_add(pl_now_utc(h->conf.clock), h->clock_off), m.deadline) > 0;
    enum pl_err how = late ? PL_COMMAND_EXPIRED : i == PL_COUNT(commands) ? PL_COMMAND_REFUSED : PL_OK;
    bool later = how == PL_OK && commands[i].later;
    if (later)
        how = commands[i].run(h, m.command_id);
    struct hub_done_command *place = &h->done[h->done_next++ % HUB_COMMANDS];
    *place = (struct hub_done_command){ .how = how, .running = later && how == PL_OK };
    hub_keep(place->id, sizeof place->id, m.command_id);
    if (place->running)
        return PL_OK;
    answer(h, m.command_id, how); /* first: a reboot takes the connection away */
    return how == PL_OK ? commands[i].run(h, m.command_id) : PL_OK;
}

/* --- the connection --------------------------------------------------------------------------------------------------------------------- */

/* What may come when. What is not here is ignored: the protocol grows that way. */
static const struct {
    const char *type;
    unsigned phases;
    enum pl_err (*take)(struct hub *h, const struct json_doc *d, struct pl_fail *f);
} messages[] = {
    { "challenge", HUB_DIALLED, on_challenge },
    { "welcome", HUB_PROVED, on_welcome },
    { "error", HUB_PROVED | HUB_READY, on_error },
    { "bound", HUB_READY, on_bound },
    { "pair", HUB_READY, on_pair },
    { "unbound", HUB_READY, on_unbound },
    { "command", HUB_READY, on_command },
    { "live.start", HUB_READY, hub_on_live_start },
    { "live.stop", HUB_READY, hub_on_live_stop },
    { "live.sync", HUB_READY, hub_on_live_sync },
    { "keyframe", HUB_READY, hub_on_keyframe },
    { "bitrate", HUB_READY, hub_on_bitrate },
    { "uplink_test", HUB_READY, hub_on_uplink_test },
    { "reconnect", HUB_PROVED | HUB_READY, on_reconnect },
};

static enum pl_err dispatch(struct hub *h, const struct json_doc *d, struct pl_str type, struct pl_fail *f)
{
    for (size_t i = 0; i < PL_COUNT(messages); i++)
        if (pl_str_eqz(type, messages[i].type))
            return messages[i].phases & h->phase ? messages[i].take(h, d, f) : pl_fail(f, PL_PROTOCOL, "not expected now");
    return PL_OK;
}

static void on_message(void *self, struct pl_str text)
{
    struct hub *h = self;
    PL_CLEANUP(json_doc_freep) struct json_doc *d = NULL;
    struct pl_fail f = PL_FAIL_INIT;
    PL_LOCK(&h->lock);
    enum pl_err e = json_parse(text, &d, &f);
    struct pl_str type = e == PL_OK ? json_doc_str(d, "type") : PL_STR_NONE;
    if (e == PL_OK)
        e = dispatch(h, d, type, &f);
    if (e != PL_OK)
        PL_LOG(&h->log, PL_WARN, "hub.message-refused", PL_F_STR("type", type), PL_F_ERR(e), PL_F_Z("field", f.field), PL_F_Z("why", f.detail));
    pl_arena_reset(h->arena); /* wiped: live.start brought keys */
}

static void on_open(void *self)
{
    struct hub *h = self;
    PL_LOCK(&h->lock);
    h->phase = HUB_DIALLED;
}

static void on_close(void *self, int code, struct pl_str reason)
{
    struct hub *h = self;
    PL_LOCK(&h->lock);
    if (h->phase != HUB_AWAY)
        PL_LOG(&h->log, PL_INFO, "hub.disconnected", PL_F_INT("close", code), PL_F_STR("reason", reason));
    h->phase = HUB_AWAY;
    if (code == CLOSE_FENCED)
        link_client_window(h->link, FENCED_MIN, FENCED_MAX);
    changed(h);
}

static void on_tick(void *self)
{
    struct hub *h = self;
    PL_LOCK(&h->lock);
    h->status_due |= hub_reap(h);
    h->status_due |= reach_changed(h->reach);
    hub_uplink_tick(h);
    if (h->phase == HUB_READY && (h->status_due || pl_mono_cmp(pl_now_mono(h->conf.clock), h->status_at) >= 0))
        send_status(h);
    pl_arena_reset(h->arena);
}

/* --- life ------------------------------------------------------------------------------------------------------------------------------- */

static enum pl_err begin_boot(struct hub *h, struct pl_fail *reterr)
{
    bool is_new = true;
    enum pl_err e = state_load(h->conf.state, &h->state, &is_new, reterr);
    if (e != PL_OK)
        return e;
    if (h->conf.reset) {
        /* Forgets the household, not the factory key and not that it was reset: the cloud decides what that means (S-D6). */
        h->state = (struct hub_state){ .reset_count = h->state.reset_count + 1 };
        h->boot_reason = "factory_reset";
    } else
        h->boot_reason = is_new || h->state.clean ? "power" : "crash";
    h->boot_id = pl_uuid7(h->conf.rand, pl_now_utc(h->conf.clock));
    h->state.clean = false;
    return state_save(h->conf.state, &h->state, reterr);
}

/* All but the connection and the sessions. */
static struct hub *discard(struct hub *h)
{
    h->reach = reach_free(h->reach);
    secure_keypair_wipe(&h->key);
    h->arena = pl_arena_free(h->arena);
    pthread_mutex_destroy(&h->lock);
    return pl_heap_free(h);
}

enum pl_err hub_new(struct hub_conf *conf, struct hub **ret, struct pl_fail *reterr)
{
    struct hub *h = pl_heap(sizeof *h);
    if (!h)
        return PL_NO_MEMORY;
    pthread_mutex_init(&h->lock, NULL);
    h->conf = *conf;
    secure_keypair_from_seed(conf->seed, &h->key);
    secure_wipe(h->conf.seed, sizeof h->conf.seed);
    secure_wipe(conf->seed, sizeof conf->seed);
    h->phase = HUB_AWAY;
    h->log = pl_log_child(conf->log, PL_F_STR("hub", conf->serial));
    h->arena = pl_arena_new(HUB_ARENA);
    enum pl_err e = h->arena ? reach_new(&h->conf, &h->reach) : PL_NO_MEMORY;
    if (e == PL_OK)
        e = begin_boot(h, reterr);
    if (e != PL_OK) {
        discard(h);
        return e;
    }
    *ret = h;
    return PL_OK;
}

enum pl_err hub_dial(struct hub *h, struct pl_fail *reterr)
{
    sender_warm(h->conf.rand);
    /* Callbacks may come before link_client_new has returned: they wait for the lock, and then find h->link. */
    PL_LOCK(&h->lock);
    if (h->link)
        return PL_OK;
    return link_client_new(&(struct link_client_conf){ .url = h->conf.server, .protocol = "porchlight.hub.v1", .ca_file = h->conf.ca_file, .self = h, .on_open = on_open,
        .on_message = on_message, .on_close = on_close, .on_tick = on_tick, .clock = h->conf.clock, .rand = h->conf.rand, .log = &h->log }, &h->link, reterr);
}

struct hub_look hub_look(struct hub *h)
{
    PL_LOCK(&h->lock);
    struct hub_look look = { .connected = h->phase == HUB_READY, .bound = h->state.bound, .claim = h->claim.end };
    memcpy(look.code, h->claim.code, sizeof look.code);
    return look;
}

enum pl_err hub_vouch(struct hub *h, const struct hub_vouch *what, uint8_t ret_signature[64])
{
    struct pl_str text;
    PL_LOCK(&h->lock);
    enum pl_err e = secure_onboarding_text(h->arena, h->conf.serial, what->claim_id, what->challenge, what->app_key, what->device_key, &text);
    if (e == PL_OK)
        secure_sign(&h->key, text, ret_signature);
    pl_arena_reset(h->arena);
    return e;
}

enum pl_err hub_claim(struct hub *h, struct pl_str claim_id, struct pl_str challenge)
{
    if (claim_id.n == 0 || claim_id.n >= HUB_ID || challenge.n == 0 || challenge.n >= HUB_CHALLENGE)
        return PL_INVALID_REQUEST;
    PL_LOCK(&h->lock);
    hub_keep(h->claim.id, sizeof h->claim.id, claim_id);
    hub_keep(h->claim.challenge, sizeof h->claim.challenge, challenge);
    h->claim.end = HUB_CLAIM_WAITS;
    enum pl_err e = prove_own_claim(h);
    pl_arena_reset(h->arena);
    return e;
}

struct hub *hub_free(struct hub *h)
{
    if (!h)
        return NULL;
    {
        PL_LOCK(&h->lock);
        h->leaving = true;
        hub_stop_streams(h, -1, PL_STR("hub_lost"));
        for (size_t i = 0; i < HUB_STREAMS; i++)
            h->streams[i] = stream_free(h->streams[i]);
        h->uplink.stream = stream_free(h->uplink.stream);
        h->state.clean = true;
        save(h);
    }
    h->link = link_client_free(h->link);
    return discard(h);
}
