#include "ctl_check.h"
#include "ctl_demo.h"
#include "ctl_nats.h"
#include "ctl_pg.h"
#include "json.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define START_WAIT (60 * PL_SECOND)
#define MIGRATE_WAIT (300 * PL_SECOND)
#define MESSAGES_MEMORY (8u << 20)

#define MEDIA_PORT "50000"
#define MOST_NODES 6 /* more would want more connections than the private database has */

/* One porchlightd, and the relay that dials it. */
struct node {
    const char *suffix;                    /* of names and files: "", "-2", … */
    struct proc server, relay;
    const char *http, *ws, *media, *admin; /* as in fact listened on; before that as asked */
    const char *relay_key, *relay_id;
};

struct up {
    struct ctl *c;
    struct ctl_paths paths;
    struct sup sup;
    struct pg pg;
    struct nats nats;              /* only with several nodes */
    struct node nodes[MOST_NODES]; /* the first is the one that is told as `http`, `ws`, `media`, and that porchctl asks */
    unsigned n_nodes;
    struct proc hub;
    struct demo demo;
    const char *origins;           /* with the demo: the setting that lets its page call the API */
    struct pl_str shown;           /* newest message that the console has shown */
};

/* Value of a member of a ready line; NULL when it is not there. */
static const char *told(struct up *u, const struct proc *p, const char *member)
{
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    if (json_parse(pl_str_of(p->ready_line), &d, NULL) != PL_OK)
        return NULL;
    struct pl_str s = json_doc_str(d, member);
    return s.p ? pl_str_z(u->c->arena, s) : NULL;
}

static void option(struct proc *p, const char *name, const char *value)
{
    if (!value)
        return;
    proc_arg(p, name);
    proc_arg(p, value);
}

static enum pl_err row(struct up *u, struct proc *p, const char *program, const char *suffix, struct pl_fail *reterr)
{
    struct pl_arena *a = u->c->arena;
    *p = (struct proc){ .name = pl_fmt(a, "%s%s", program, suffix).p, .log = pl_fmt(a, "%s/%s%s.log", u->paths.log, program, suffix).p, .stop_signal = SIGTERM };
    const char *path;
    enum pl_err e = ctl_program(u->c->arena, program, &path, reterr);
    if (e == PL_OK)
        proc_arg(p, path);
    return p->log && p->name ? e : PL_NO_MEMORY;
}

static enum pl_err migrate(struct ctl *c, struct sup *s, const char *log, const char *conninfo, struct pl_fail *reterr)
{
    struct proc p = { .name = "The migration of the database", .log = log, .stop_signal = SIGTERM };
    const char *program, *folder;
    enum pl_err e = ctl_program(c->arena, "porchlightd", &program, reterr);
    if (e == PL_OK)
        e = ctl_migrations(c, &folder, reterr);
    if (e != PL_OK)
        return e;
    proc_arg(&p, program);
    proc_arg(&p, "--migrate");
    option(&p, "--db", conninfo);
    option(&p, "--migrations", folder);
    return proc_run(s, &p, PL_STR_NONE, MIGRATE_WAIT, reterr);
}

/* Where this machine's own programs find a node's WebSockets, and whom they believe. */
static void dial(struct up *u, struct proc *p, const char *ws, const char *path)
{
    const struct ctl *c = u->c;
    option(p, "--server", pl_fmt(c->arena, "%s://%s%s", c->tls_cert ? "wss" : "ws", check_dial_name(c->arena, ws, c->tls_name), path).p);
    option(p, "--ca", c->tls_ca);
}

static enum pl_err start_server(struct up *u, struct node *n, bool send, struct pl_fail *reterr)
{
    struct ctl *c = u->c;
    struct proc *p = &n->server;
    const char *folder;
    enum pl_err e = row(u, p, "porchlightd", n->suffix, reterr);
    if (e == PL_OK)
        e = ctl_migrations(c, &folder, reterr);
    if (e != PL_OK)
        return e;
    p->stop_grace = 20 * PL_SECOND; /* it answers what is under way */
    option(p, "--config", c->config);
    option(p, "--set", u->n_nodes > 1 ? "drain_clients=5s" : "drain_clients=0s"); /* of one node nobody can go elsewhere */
    if (u->n_nodes > 1) {
        option(p, "--set", pl_fmt(c->arena, "bus.nats_url=%s", u->nats.url).p);
        option(p, "--set", pl_fmt(c->arena, "bus.nats_token_file=%s", u->nats.token_file).p);
    }
    for (int i = 0; i < c->n_sets; i++)
        option(p, "--set", c->sets[i]);
    option(p, "--set", u->origins); /* behind theirs, which it holds */
    option(p, "--db", u->pg.conninfo);
    option(p, "--data", u->paths.dir);
    option(p, "--migrations", folder);
    option(p, "--admin", pl_fmt(c->arena, "unix:%s", n->admin).p);
    option(p, "--smtp", send ? c->smtp : NULL);
    option(p, "--sms-webhook", send ? c->sms_webhook : NULL);
    option(p, "--test-clock", c->test_clock);
    option(p, "--tls-cert", c->tls_cert);
    option(p, "--tls-key", c->tls_key);
    proc_arg(p, "--http");
    int at = p->n_args;
    proc_arg(p, n->http);
    option(p, "--ws", n->ws);
    e = sup_start(&u->sup, p, START_WAIT, reterr);
    if (e != PL_OK)
        return e;
    /* Port 0 was asked: from now on it is the one that was found, also after a restart. */
    n->http = told(u, p, "http");
    n->ws = told(u, p, "ws");
    if (!n->http || !n->ws)
        return pl_fail(reterr, PL_UNAVAILABLE, "%s did not say where it listens.", p->name);
    p->argv[at] = n->http;
    p->argv[at + 2] = n->ws;
    return PL_OK;
}

/* The relay's key is made once and kept; enrolling it again gives the same id. */
static enum pl_err enroll_relay(struct up *u, const struct node *n, const char **ret_id, struct pl_fail *reterr)
{
    struct pl_arena *a = u->c->arena;
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    struct pl_str seed, pub, text = PL_STR_NONE;
    enum pl_err e = PL_OK;
    if (!ctl_exists(n->relay_key)) {
        e = ctl_key_new(a, &seed, &pub);
        if (e == PL_OK)
            e = ctl_write(a, n->relay_key, seed, reterr);
    }
    if (e == PL_OK)
        e = ctl_read(a, n->relay_key, 200, &seed, reterr);
    if (e == PL_OK)
        e = ctl_key_public(a, seed, &pub);
    if (e != PL_OK)
        return e;
    struct pl_str body = pl_fmt(a, "{\"name\":\"local-%.8s\",\"public_key\":\"%.*s\"}", pub.p, PL_FMT(pub));
    e = ctl_admin(u->c, "POST", "/admin/v1/relays", body, &text, reterr);
    if (e == PL_OK)
        e = json_parse(text, &d, reterr);
    if (e != PL_OK)
        return e;
    *ret_id = pl_str_z(a, json_doc_str(d, "id"));
    return *ret_id ? PL_OK : PL_NO_MEMORY;
}

static enum pl_err start_relay(struct up *u, struct node *n, struct pl_fail *reterr)
{
    struct proc *p = &n->relay;
    enum pl_err e = enroll_relay(u, n, &n->relay_id, reterr);
    if (e == PL_OK)
        e = row(u, p, "porchlight-relay", n->suffix, reterr);
    if (e != PL_OK)
        return e;
    p->at_once = true; /* running live views wait for it */
    dial(u, p, n->ws, "/relay/v1");
    option(p, "--id", n->relay_id);
    option(p, "--key", n->relay_key);
    option(p, "--advertise", u->c->advertise);
    option(p, "--test-clock", u->c->test_clock);
    proc_arg(p, "--media");
    proc_arg(p, n->media);
    e = sup_start(&u->sup, p, START_WAIT, reterr);
    if (e == PL_OK && (n->media = told(u, p, "media")) != NULL)
        p->argv[p->n_args - 1] = n->media;
    return e == PL_OK && !n->media ? pl_fail(reterr, PL_UNAVAILABLE, "%s did not say where it takes media.", p->name) : e;
}

static enum pl_err pause_up(void *arg)
{
    struct up *u = arg;
    sup_step(&u->sup, 50 * PL_MS);
    return sup_stop_wanted(&u->sup) ? PL_EXPIRED : PL_OK;
}

struct relay_row { struct pl_str id; bool connected; };
struct relay_rows { struct json_list relays; };
static const struct json_field relay_fields[] = { JSON_F(struct relay_row, id, J_STR, J_REQUIRED), JSON_F(struct relay_row, connected, J_BOOL, J_REQUIRED), J_END };
static const struct json_field relays_fields[] = {
    JSON_F(struct relay_rows, relays, J_ARRAY, J_REQUIRED, .fields = relay_fields, .size = sizeof(struct relay_row), .hi = 100000), J_END };

/* Its sockets are bound before the server has let it in: all is up when a live view could begin. */
static enum pl_err await_relay(struct up *u, const struct node *n, struct pl_fail *reterr)
{
    struct pl_mono end = pl_mono_add(pl_now_mono(&pl_clock_system), START_WAIT);
    while (pl_mono_cmp(pl_now_mono(&pl_clock_system), end) < 0) {
        struct relay_rows rows = { 0 };
        struct pl_str text = PL_STR_NONE;
        enum pl_err e = ctl_admin(u->c, "GET", "/admin/v1/relays", PL_STR_NONE, &text, reterr);
        if (e == PL_OK)
            e = json_take(relays_fields, JSON_LENIENT, text, u->c->arena, &rows, reterr);
        const struct relay_row *row = rows.relays.items;
        for (size_t i = 0; e == PL_OK && i < rows.relays.n; i++)
            if (row[i].connected && pl_str_eqz(row[i].id, n->relay_id))
                return PL_OK;
        if (e != PL_OK || (e = pause_up(u)) != PL_OK)
            return e;
    }
    return pl_fail(reterr, PL_UNAVAILABLE, "The relay could not sign in to porchlightd; %s says why.", n->relay.log);
}

static enum pl_err start_hub(struct up *u, struct pl_fail *reterr)
{
    struct pl_arena *a = u->c->arena;
    enum pl_err e = row(u, &u->hub, "porchlight-hub", "", reterr);
    if (e != PL_OK)
        return e;
    dial(u, &u->hub, u->nodes[0].ws, "/hub/v1");
    option(&u->hub, "--serial", u->demo.hub_serial.p);
    option(&u->hub, "--key", demo_key_file(&u->demo, u->demo.hub_serial));
    option(&u->hub, "--camera", pl_fmt(a, "%s=test", u->demo.camera_serial.p).p);
    option(&u->hub, "--onboarding", "127.0.0.1:0");
    option(&u->hub, "--state", pl_fmt(a, "%s/hub.state", u->paths.keys).p);
    u->hub.mark = "{\"connected\":true"; /* its camera can be watched from then on */
    e = sup_start(&u->sup, &u->hub, START_WAIT, reterr);
    u->demo.hub_onboarding = told(u, &u->hub, "onboarding");
    return e;
}

static enum pl_err start_demo(struct up *u, struct pl_fail *reterr)
{
    struct rest r = { .c = u->c, .host = check_dial_name(u->c->arena, u->nodes[0].http, u->c->tls_name), .tls = u->c->tls_cert != NULL,
                      .ca_file = u->c->tls_ca, .pause = pause_up, .pause_arg = u };
    bool new_account = !demo_signed_up(&u->demo);
    enum pl_err e = demo_complete(&u->demo) ? PL_OK : demo_import(&u->demo, reterr);
    if (e == PL_OK && new_account) {
        ctl_say("demo: signing up %s", u->demo.email.p);
        e = demo_sign_up(&u->demo, &r, reterr);
    }
    if (e == PL_OK && new_account && (u->c->smtp || u->c->sms_webhook)) {
        sup_stop(&u->sup, &u->nodes[0].server); /* its PINs had to stay here; from now on messages are sent */
        e = start_server(u, &u->nodes[0], true, reterr);
    }
    if (e == PL_OK)
        e = start_hub(u, reterr);
    if (e != PL_OK || demo_complete(&u->demo))
        return e;
    ctl_say("demo: adding a system, its hub and a camera");
    if (!r.token)
        e = demo_sign_in(&u->demo, &r, reterr);
    return e == PL_OK ? demo_claim(&u->demo, &r, reterr) : e;
}

/* The first one's demo is there before the others: until it has signed up, its messages must not be sent. */
static enum pl_err start_nodes(struct up *u, struct pl_fail *reterr)
{
    enum pl_err e = start_server(u, &u->nodes[0], !u->c->demo || demo_signed_up(&u->demo), reterr);
    if (e == PL_OK)
        e = start_relay(u, &u->nodes[0], reterr);
    if (e == PL_OK && u->c->demo)
        e = start_demo(u, reterr);
    for (unsigned i = 1; e == PL_OK && i < u->n_nodes; i++)
        if ((e = start_server(u, &u->nodes[i], true, reterr)) == PL_OK)
            e = start_relay(u, &u->nodes[i], reterr);
    for (unsigned i = 0; e == PL_OK && i < u->n_nodes; i++)
        e = await_relay(u, &u->nodes[i], reterr);
    return e;
}

static enum pl_err start_all(struct up *u, struct pl_fail *reterr)
{
    struct ctl *c = u->c;
    enum pl_err e = pg_prepare(&u->sup, &u->paths, c->arena, &u->pg, reterr);
    if (e != PL_OK)
        return e;
    ctl_say("%s PostgreSQL in %s (user %s)", u->pg.made ? "made and started" : "starting", u->paths.pg, u->pg.user);
    e = sup_start(&u->sup, &u->pg.proc, START_WAIT, reterr);
    if (e == PL_OK)
        e = migrate(c, &u->sup, pl_fmt(c->arena, "%s/migrate.log", u->paths.log).p, u->pg.conninfo, reterr);
    if (e == PL_OK && c->demo)
        e = demo_open(c, &u->paths, &u->demo, reterr);
    if (e == PL_OK && u->n_nodes > 1 && (e = nats_prepare(&u->paths, c->arena, &u->nats, reterr)) == PL_OK)
        e = sup_start(&u->sup, &u->nats.proc, START_WAIT, reterr);
    return e == PL_OK ? start_nodes(u, reterr) : e;
}

/* The contract with outside scripts: one line on stdout; the same is kept in DIR/up.json. */
static enum pl_err say_ready(struct up *u, struct pl_fail *reterr)
{
    struct pl_arena *a = u->c->arena;
    struct pl_buf b = pl_buf_init(a, 8192);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_bool(&w, "ready", true);
    jw_z(&w, "http", u->nodes[0].http);
    jw_z(&w, "ws", u->nodes[0].ws);
    jw_z(&w, "media", u->nodes[0].media);
    jw_str(&w, "admin", pl_fmt(a, "unix:%s", u->paths.admin));
    jw_z(&w, "dir", u->paths.dir);
    jw_z(&w, "db", u->pg.conninfo);
    if (u->c->tls_cert) {
        jw_open(&w, "tls");
        jw_z(&w, "ca", u->c->tls_ca ? u->c->tls_ca : "");
        jw_z(&w, "name", u->c->tls_name ? u->c->tls_name : "");
        jw_close(&w);
    }
    jw_array(&w, "nodes");
    for (unsigned i = 0; i < u->n_nodes; i++) {
        jw_open(&w, NULL);
        jw_z(&w, "http", u->nodes[i].http);
        jw_z(&w, "ws", u->nodes[i].ws);
        jw_z(&w, "media", u->nodes[i].media);
        jw_str(&w, "admin", pl_fmt(a, "unix:%s", u->nodes[i].admin));
        jw_close(&w);
    }
    jw_end_array(&w);
    if (u->c->demo) {
        jw_open(&w, "demo");
        jw_str(&w, "email", u->demo.email);
        jw_str(&w, "system_id", u->demo.system_id);
        jw_str(&w, "hub_id", u->demo.hub_id);
        jw_str(&w, "camera_id", u->demo.camera_id);
        jw_z(&w, "page", u->c->page);
        jw_close(&w);
    }
    jw_close(&w);
    pl_buf_u8(&b, '\n');
    enum pl_err e = pl_buf_err(&b);
    if (e == PL_OK)
        e = ctl_write(a, u->paths.ready, pl_buf_view(&b), reterr);
    if (e == PL_OK && (fwrite(b.p, 1, b.n, stdout) != b.n || fflush(stdout) != 0))
        e = pl_fail(reterr, PL_IO, "The ready line cannot be written to stdout.");
    return e;
}

/* As a shell takes it: in quotes when it has a blank or the like. A data folder has no quote in its name (check_before_up); a program's that has one stays as it is. */
static const char *pasted(struct pl_arena *a, const char *path)
{
    const char *plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+@:,";
    const char *quoted = path[strspn(path, plain)] && !strchr(path, '\'') ? pl_fmt(a, "'%s'", path).p : path;
    return quoted ? quoted : path;
}

static void say_people(const struct up *u)
{
    char link[4096] = "porchctl";
    if (readlink("/proc/self/exe", link, sizeof link - 1) <= 0)
        memcpy(link, "porchctl", sizeof "porchctl");
    const char *self = pasted(u->c->arena, link), *dir = pasted(u->c->arena, u->paths.dir), *s = u->c->tls_cert ? "s" : "";
    ctl_say("\nPorchlight is up. Data and logs: %s", u->paths.dir);
    for (const struct node *n = u->nodes; n < u->nodes + u->n_nodes; n++) {
        ctl_say("  API        http%s://%s/v1/   (description: http%s://%s/openapi.json)", s, n->http, s, n->http);
        ctl_say("  WebSocket  ws%s://%s/v1/events, /hub/v1     media  udp %s", s, n->ws, n->media);
    }
    if (!u->c->smtp || !u->c->sms_webhook)
        ctl_say("  Messages   are not sent: read them by  %s --dir %s outbox", self, dir);
    if (u->c->demo) {
        ctl_say("  Sign in    e-mail %s  password %s  (the PIN is in the outbox)", u->demo.email.p, u->demo.password.p);
        ctl_say("  See it     %s --dir %s demo watch", self, dir);
        ctl_say("  In a page  %s --dir %s demo page", self, dir);
        if (check_loopback(u->nodes[0].media, NULL) == PL_OK)
            ctl_say("             It may show nothing: media are on loopback, which browsers hardly use. This machine has no other address, or --media named none.");
    }
    ctl_say("Ctrl-C stops all of it.\n");
}

struct shown_message { struct pl_str id, to, channel, pin, subject, text; };
struct shown_box { struct json_list messages; };
static const struct json_field shown_fields[] = { JSON_F(struct shown_message, id, J_STR, J_REQUIRED), JSON_F(struct shown_message, to, J_RAW, J_OPTIONAL),
    JSON_F(struct shown_message, channel, J_RAW, J_OPTIONAL), JSON_F(struct shown_message, pin, J_RAW, J_OPTIONAL), JSON_F(struct shown_message, subject, J_RAW, J_OPTIONAL),
    JSON_F(struct shown_message, text, J_RAW, J_OPTIONAL), J_END };
static const struct json_field shown_box_fields[] = {
    JSON_F(struct shown_box, messages, J_ARRAY, J_REQUIRED, .fields = shown_fields, .size = sizeof(struct shown_message), .hi = 100000), J_END };

/* A JSON value as a person reads it; nothing for null. */
static struct pl_str readable(struct pl_arena *a, struct pl_str raw)
{
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    struct pl_str doc = pl_fmt(a, "{\"v\":%.*s}", PL_FMT(raw));
    if (!raw.n || !doc.p || json_parse(doc, &d, NULL) != PL_OK)
        return PL_STR("");
    const char *z = pl_str_z(a, json_doc_str(d, "v"));
    return pl_str_of(z ? z : "");
}

/* A PIN in one line, since that is what one waits for; any other message whole. */
static void show_message(struct pl_arena *a, const struct shown_message *m)
{
    struct pl_str pin = readable(a, m->pin), channel = readable(a, m->channel), to = readable(a, m->to), subject = readable(a, m->subject), rest = readable(a, m->text);
    if (pin.n) {
        ctl_say("PIN %.*s by %.*s to %.*s", PL_FMT(pin), PL_FMT(channel), PL_FMT(to));
        return;
    }
    ctl_say("message by %.*s to %.*s: %.*s", PL_FMT(channel), PL_FMT(to), PL_FMT(subject));
    while (rest.n) {
        struct pl_str line = pl_str_trim(pl_str_split(rest, '\n', &rest));
        if (line.n)
            ctl_say("    %.*s", PL_FMT(line));
    }
}

/* Shows new messages to a person at a terminal, never to a file: PINs stand in them (S-P10). */
static void show_messages(struct up *u, struct ctl *scratch)
{
    struct pl_str text = PL_STR_NONE, newest = u->shown;
    struct shown_box box = { 0 };
    if (ctl_admin(scratch, "GET", "/admin/v1/outbox", PL_STR_NONE, &text, NULL) != PL_OK ||
        json_take(shown_box_fields, JSON_LENIENT, text, scratch->arena, &box, NULL) != PL_OK)
        return;
    const struct shown_message *m = box.messages.items;
    for (size_t i = box.messages.n; i-- > 0;) { /* newest first in the list */
        if (u->shown.n && (m[i].id.n != u->shown.n || memcmp(m[i].id.p, u->shown.p, u->shown.n) <= 0))
            continue;
        if (u->shown.n)
            show_message(scratch->arena, &m[i]);
        if (newest.n != m[i].id.n || memcmp(m[i].id.p, newest.p, newest.n) > 0)
            newest = m[i].id;
    }
    static char kept[64];
    if (newest.n && newest.n < sizeof kept) {
        memmove(kept, newest.p, newest.n);
        u->shown = (struct pl_str){ kept, newest.n };
    } else if (!u->shown.n)
        u->shown = PL_STR("00000000-0000-0000-0000-000000000000");
}

static void run_until_stopped(struct up *u)
{
    bool show = isatty(2) && (!u->c->smtp || !u->c->sms_webhook);
    struct ctl scratch = *u->c;
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = show ? pl_arena_new(MESSAGES_MEMORY) : NULL;
    scratch.arena = a;
    struct pl_mono next = pl_now_mono(&pl_clock_system);
    if (a)
        show_messages(u, &scratch); /* those of the start are no news: shows nothing, remembers the newest */
    while (!sup_stop_wanted(&u->sup)) {
        sup_step(&u->sup, PL_SECOND);
        if (!a || !u->nodes[0].server.ready || pl_mono_cmp(pl_now_mono(&pl_clock_system), next) < 0)
            continue;
        show_messages(u, &scratch);
        pl_arena_reset(a);
        next = pl_mono_add(pl_now_mono(&pl_clock_system), PL_SECOND);
    }
}

/* "127.0.0.1:8080" with port 0: where the further nodes listen. */
static const char *any_port(struct pl_arena *a, const char *address)
{
    const char *colon = strrchr(address, ':');
    return colon ? pl_fmt(a, "%.*s:0", (int)(colon - address), address).p : address;
}

/* Firefox sends nothing to a loopback address, Chromium only where there is another network, and what the demo shows is for them too. REST stays on loopback: their pages come
 * from this machine. */
static const char *own_media(const struct ctl *c)
{
    return c->demo ? pl_fmt(c->arena, "%s:" MEDIA_PORT, check_own_host(c->arena)).p : "127.0.0.1:" MEDIA_PORT;
}

static enum pl_err demo_page(struct up *u, struct pl_fail *reterr)
{
    struct pl_str origins;
    uint32_t port;
    if (pl_parse_u32(pl_str_of(u->c->page), 1, 65535, &port) != PL_OK)
        return pl_fail(reterr, PL_INVALID_REQUEST, "--page %s: it is a port of localhost, 1 to 65535.", u->c->page);
    enum pl_err e = demo_origins(u->c, &origins, reterr);
    u->origins = e == PL_OK ? pl_fmt(u->c->arena, "http.allowed_origins=%.*s", PL_FMT(origins)).p : NULL;
    return e;
}

static enum pl_err lay_out(struct up *u, struct pl_fail *reterr)
{
    struct ctl *c = u->c;
    struct pl_arena *a = c->arena;
    enum pl_err e = c->demo ? demo_page(u, reterr) : PL_OK;
    if (e != PL_OK)
        return e;
    c->media = c->media ? c->media : own_media(c);
    for (unsigned i = 0; i < u->n_nodes; i++) {
        struct node *n = &u->nodes[i];
        n->suffix = i ? pl_fmt(a, "-%u", i + 1).p : "";
        n->http = i ? any_port(a, c->http) : c->http;
        n->ws = i ? any_port(a, c->ws) : c->ws;
        n->media = i ? any_port(a, c->media) : c->media;
        n->admin = i ? pl_fmt(a, "%s/admin-%u.sock", u->paths.run, i + 1).p : u->paths.admin;
        n->relay_key = i ? pl_fmt(a, "%s/relay-%u.key", u->paths.keys, i + 1).p : u->paths.relay_key;
    }
    return pl_arena_err(a) == PL_OK ? PL_OK : pl_fail(reterr, PL_NO_MEMORY, "There is no memory.");
}

enum pl_err ctl_up(struct ctl *c, struct pl_fail *reterr)
{
    uint32_t nodes;
    if (pl_parse_u32(pl_str_of(c->nodes ? c->nodes : "1"), 1, MOST_NODES, &nodes) != PL_OK)
        return pl_fail(reterr, PL_INVALID_REQUEST, "--nodes %s: one machine runs 1 to %d nodes.", c->nodes, MOST_NODES);
    if (nodes > 1 && c->advertise)
        return pl_fail(reterr, PL_INVALID_REQUEST, "--advertise names the address of one relay; with --nodes %s there are several.", c->nodes);
    if (!c->tls_cert != !c->tls_key || (!c->tls_cert && (c->tls_ca || c->tls_name)))
        return pl_fail(reterr, PL_INVALID_REQUEST, "TLS needs both: a certificate (--tls-cert) and its key (--tls-key).");
    const char *ca = c->tls_ca ? realpath(c->tls_ca, NULL) : NULL; /* `demo watch` may be called from elsewhere; lives as long as the process */
    if (c->tls_ca && !ca)
        return pl_fail(reterr, PL_INVALID_REQUEST, "--tls-ca %s: %s.", c->tls_ca, strerror(errno));
    c->tls_ca = ca;
    struct up u = { .c = c, .n_nodes = nodes };
    umask(077);
    enum pl_err e = ctl_paths_of(c, &u.paths, reterr);
    if (e == PL_OK)
        e = lay_out(&u, reterr);
    if (e == PL_OK)
        e = check_before_up(c, &u.paths, reterr);
    if (e == PL_OK)
        e = sup_init(&u.sup, &pl_clock_system, reterr);
    if (e != PL_OK)
        return e;
    e = start_all(&u, reterr);
    if (e == PL_OK)
        e = say_ready(&u, reterr);
    if (e == PL_OK) {
        say_people(&u);
        run_until_stopped(&u);
        ctl_say("stopping");
    }
    sup_stop_all(&u.sup);
    unlink(u.paths.ready);
    return e;
}

enum pl_err ctl_migrate(struct ctl *c, struct pl_fail *reterr)
{
    struct ctl_paths p;
    struct sup s;
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    struct pl_str text;
    const char *db = c->db;
    enum pl_err e = ctl_paths_of(c, &p, reterr);
    if (e == PL_OK && !db) {
        if (ctl_read(c->arena, p.ready, 65536, &text, NULL) != PL_OK || json_parse(text, &d, NULL) != PL_OK)
            return pl_fail(reterr, PL_UNAVAILABLE, "Porchlight does not run in %s; name the database by --db.", c->dir);
        db = pl_str_z(c->arena, json_doc_str(d, "db"));
    }
    if (e == PL_OK)
        e = sup_init(&s, &pl_clock_system, reterr);
    if (e != PL_OK)
        return e;
    e = migrate(c, &s, "/dev/stderr", db, reterr);
    sup_stop_all(&s);
    if (e == PL_OK)
        ctl_say("The database is at this version.");
    return e;
}
