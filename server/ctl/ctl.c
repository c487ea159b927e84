#include "ctl.h"
#include "ctl_paths.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EXIT_USAGE 64 /* sysexits.h: EX_USAGE */
#define MEMORY (64u << 20)

#define OPT(name_, value_, field, doc_, ...) { .name = (name_), .value = (value_), .offset = offsetof(struct ctl, field), .doc = (doc_), __VA_ARGS__ }
#define OPT_END { .name = NULL }
#define SET_OPTION "--set"

static const struct ctl_option common_options[] = {
    OPT("--dir", "DIR", dir, "The data folder; default ~/.porchlight."),
    OPT("--json", NULL, json, "Prints JSON."),
    OPT_END,
};
static const struct ctl_option up_options[] = {
    OPT("--http", "HOST:PORT", http, "Where REST listens; port 0 takes a free one.", .dflt = "127.0.0.1:8080"),
    OPT("--ws", "HOST:PORT", ws, "Where WebSockets listen.", .dflt = "127.0.0.1:8081"),
    OPT("--media", "HOST:PORT", media, "Where media (UDP) is taken. Default 127.0.0.1:50000; with --demo port 50000 of this machine's own address, for browsers."),
    OPT("--advertise", "HOST:PORT", advertise, "What hubs and phones are told for media, when it differs."),
    OPT("--tls-cert", "FILE", tls_cert, "REST and WebSockets over TLS: the certificate with its chain (PEM). Without it only loopback is listened on."),
    OPT("--tls-key", "FILE", tls_key, "The certificate's key (PEM)."),
    OPT("--tls-ca", "FILE", tls_ca, "Who vouches for the certificate, when it is none of the system's authorities: for the relay, the demo's hub and `demo watch`."),
    OPT("--tls-name", "HOST", tls_name, "By which name of the certificate they dial, when it does not bear the address that is listened on."),
    OPT("--demo", NULL, demo, "Prepares a demo household and starts a hub with a moving picture."),
    OPT("--page", "PORT", page, "With --demo: the port of localhost that `demo page` serves; the API may be called by pages from there.", .dflt = "8082"),
    OPT("--smtp", "URL", smtp, "Mail goes there: smtp://host:port or smtps://…; without it messages are shown here and by `porchctl outbox`."),
    OPT("--sms-webhook", "URL", sms_webhook, "SMS and voice messages are POSTed there."),
    OPT("--config", "FILE", config, "Settings of porchlightd."),
    OPT(SET_OPTION, "NAME=VALUE", sets, "One setting of porchlightd; may be repeated."),
    OPT("--migrations", "DIR", migrations, "The migrations, when they are not found by themselves."),
    OPT("--nodes", "N", nodes, "How many porchlightd and relays run, 1 to 6; with more than one also a NATS between them."),
    OPT("--test-clock", "FILE", test_clock, "Test builds: the page that moves the clocks."),
    OPT_END,
};
static const struct ctl_option watch_options[] = {
    OPT("--out", "DIR", out, "Writes frames (PNG) and sound (WAV) there instead of playing."),
    OPT("--seconds", "N", seconds, "Ends after that long."),
    OPT_END,
};
static const struct ctl_option migrate_options[] = {
    OPT("--db", "CONNINFO", db, "The database; default: the one that `up` runs in the data folder."),
    OPT("--migrations", "DIR", migrations, "The migrations, when they are not found by themselves."),
    OPT_END,
};

#define AS OPT("--as", "FILE", as, "As the admin whose credential stands in FILE, where that says; default: as the owner of this machine, in the data folder.")
static const struct ctl_option admin_options[] = { AS, OPT_END };
static const struct ctl_option oauth_client_options[] = {
    AS,
    OPT("--public", NULL, public_client, "It runs where no secret can be kept, and gets none."),
    OPT_END,
};
static const struct ctl_option admin_revoke_options[] = {
    AS,
    OPT("--with-invited", NULL, with_invited, "Also the admins whom this one brought in, and whom those did; also of one who was revoked before."),
    OPT_END,
};

static const struct ctl_command commands[] = {
    { "up", "", "Runs the whole of Porchlight on this machine until Ctrl-C", 0, 0, up_options, ctl_up, NULL },
    { "demo watch", "", "Shows the live picture of the demo camera", 0, 0, watch_options, ctl_demo_watch, NULL },
    { "demo page", "[FOLDER]", "Serves a page that shows the demo camera in a browser, until Ctrl-C; FOLDER keeps a copy of it to change", 0, 1, NULL, ctl_demo_page, NULL },
    { "status", "", "Version of the server that runs, and since when", 0, 0, admin_options, ctl_show, &ctl_view_status },
    { "nodes", "", "Lists nodes: which drain, and how many hubs are with each", 0, 0, admin_options, ctl_show, &ctl_view_nodes },
    { "outbox", "", "Messages that were not handed to a provider, with their PINs", 0, 0, admin_options, ctl_show, &ctl_view_outbox },
    { "inventory import", "FILE", "Takes in the devices that a maker has made (JSON lines)", 1, 1, admin_options, ctl_inventory_import, NULL },
    { "accounts", "", "Lists accounts", 0, 0, admin_options, ctl_show, &ctl_view_accounts },
    { "hubs", "", "Lists hubs and whether they are connected", 0, 0, admin_options, ctl_show, &ctl_view_hubs },
    { "relays", "", "Lists media relays", 0, 0, admin_options, ctl_show, &ctl_view_relays },
    { "relay enroll", "NAME PUBLIC_KEY", "Lets a relay in by its key (64 hex digits)", 2, 2, admin_options, ctl_relay_enroll, NULL },
    { "relay revoke", "ID", "Refuses a relay's key from now on, cuts its connection and ends its sessions", 1, 1, admin_options, ctl_remove, "/admin/v1/relays/" },
    { "oauth-clients", "", "Lists services that may be linked to accounts", 0, 0, admin_options, ctl_show, &ctl_view_oauth_clients },
    { "oauth-client add", "NAME REDIRECT_URI...", "Registers a service, such as a voice assistant; its secret is shown this once", 2, 13, oauth_client_options, ctl_oauth_client_add, NULL },
    { "oauth-client remove", "CLIENT_ID", "Removes a service and unlinks it from all accounts", 1, 1, admin_options, ctl_remove, "/admin/v1/oauth-clients/" },
    { "sessions", "", "Lists live sessions", 0, 0, admin_options, ctl_show, &ctl_view_sessions },
    { "session explain", "ID", "What happened in a live session, stage by stage", 1, 1, admin_options, ctl_show, &ctl_view_live },
    { "audit verify", "SUBJECT", "Checks the audit chain of an account or device, or that of `admins`", 1, 1, admin_options, ctl_show, &ctl_view_audit },
    { "admin list", "", "Lists admins, those that were and those that are invited", 0, 0, admin_options, ctl_show, &ctl_view_admins },
    { "admin invite", "NAME", "Makes the one-time token by which somebody becomes an admin; it is good for an hour", 1, 1, admin_options, ctl_admin_invite, NULL },
    { "admin accept", "ADDRESS FILE", "Becomes an admin: takes the token from stdin, writes the credential to FILE", 2, 2, NULL, ctl_admin_accept, NULL },
    { "admin revoke", "NAME", "Revokes an admin, or an invitation, and names whom that admin brought in", 1, 1, admin_revoke_options, ctl_admin_revoke, NULL },
    { "admin log", "", "What admins and the machine's owner did, newest first", 0, 0, admin_options, ctl_show, &ctl_view_log },
    { "migrate", "", "Brings the database to this version", 0, 0, migrate_options, ctl_migrate, NULL },
    { .name = NULL },
};

void ctl_say(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
}

static void help_options(const struct ctl_option *o)
{
    char head[64];
    for (; o && o->name; o++) {
        snprintf(head, sizeof head, "%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        printf("  %-24s %s%s%s%s\n", head, o->doc, o->dflt ? " Default " : "", o->dflt ? o->dflt : "", o->dflt ? "." : "");
    }
}

static int help(const struct ctl_command *only)
{
    char head[64];
    if (only) {
        printf("porchctl %s %s\n%s.\n\n", only->name, only->args, only->summary);
        help_options(only->options);
    } else {
        printf("porchctl [--dir DIR] [--json] COMMAND …\n\n");
        for (const struct ctl_command *k = commands; k->name; k++) {
            snprintf(head, sizeof head, "%s %s", k->name, k->args);
            printf("  %-32s %s\n", head, k->summary);
        }
        printf("\n");
    }
    help_options(common_options);
    if (!only)
        printf("\nporchctl help COMMAND tells its options; porchctl --version the version.\n");
    return 0;
}

static int usage(const char *problem, const char *what)
{
    ctl_say("porchctl: %s: %s (porchctl --help tells what there is)", what, problem);
    return EXIT_USAGE;
}

/* How many words of argv the command's name takes when it stands there; 0: it does not. */
static int name_matches(const struct ctl_command *k, const char *const *words, int n)
{
    struct pl_str rest, first = pl_str_split(pl_str_of(k->name), ' ', &rest);
    if (n < 1 || !pl_str_eqz(first, words[0]))
        return 0;
    if (!rest.n)
        return 1;
    return n >= 2 && pl_str_eqz(rest, words[1]) ? 2 : 0;
}

static const struct ctl_option *find_option(const struct ctl_option *list, struct pl_str name)
{
    for (const struct ctl_option *o = list; o && o->name; o++)
        if (pl_str_eqz(name, o->name))
            return o;
    return NULL;
}

/* Finds the option in any command: values must be told from arguments before the command is known. */
static const struct ctl_option *known_option(struct pl_str name)
{
    const struct ctl_option *o = find_option(common_options, name);
    for (const struct ctl_command *k = commands; !o && k->name; k++)
        o = find_option(k->options, name);
    return o;
}

static bool put_option(struct ctl *c, const struct ctl_option *o, const char *value)
{
    char *at = (char *)c + o->offset;
    if (!o->value)
        *(bool *)at = true;
    else if (strcmp(o->name, SET_OPTION) == 0) {
        if (c->n_sets == (int)PL_COUNT(c->sets))
            return false;
        c->sets[c->n_sets++] = value;
    } else
        *(const char **)at = value;
    return true;
}

struct parsed {
    const char *words[32];
    int n_words;
    const struct ctl_option *used[64];
    int n_used;
    bool help, version;
};

/* `porchctl demo`: the first word of a command of two, alone or with another one. */
static int unknown(const struct parsed *p)
{
    for (const struct ctl_command *k = commands; k->name; k++) {
        struct pl_str rest, first = pl_str_split(pl_str_of(k->name), ' ', &rest);
        if (rest.n && pl_str_eqz(first, p->words[0])) {
            ctl_say("porchctl: %s: its second word is missing or wrong; there is: porchctl %s %s", p->words[0], k->name, k->args);
            return EXIT_USAGE;
        }
    }
    return usage("there is no such command", p->words[0]);
}

static int take_apart(struct ctl *c, int argc, char **argv, struct parsed *p)
{
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            if (p->n_words == (int)PL_COUNT(p->words))
                return usage("too many words", argv[i]);
            p->words[p->n_words++] = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--version") == 0) {
            p->version = true;
            continue;
        }
        if (strcmp(argv[i], "--help") == 0) {
            p->help = true;
            continue;
        }
        struct pl_str value, name = pl_str_split(pl_str_of(argv[i]), '=', &value);
        bool joined = name.n < strlen(argv[i]);
        const struct ctl_option *o = known_option(name);
        if (!o)
            return usage("there is no such option", argv[i]);
        const char *text = joined ? value.p : NULL;
        if (o->value && !joined && ++i < argc)
            text = argv[i];
        if (o->value ? !text : joined)
            return usage(o->value ? "it wants a value" : "it takes no value", o->name);
        if (p->n_used == (int)PL_COUNT(p->used) || !put_option(c, o, text))
            return usage("it is given too often", o->name);
        p->used[p->n_used++] = o;
    }
    return 0;
}

/* The same name may be an option of several commands: it is the name that must be listed. */
static int check_options(const struct ctl_command *k, const struct parsed *p)
{
    for (int i = 0; i < p->n_used; i++) {
        struct pl_str name = pl_str_of(p->used[i]->name);
        if (!find_option(common_options, name) && !find_option(k->options, name))
            return usage("this command does not take it", p->used[i]->name);
    }
    return 0;
}

static void put_defaults(struct ctl *c, const struct ctl_option *o)
{
    for (; o && o->name; o++)
        if (o->dflt && !*(const char **)((char *)c + o->offset))
            put_option(c, o, o->dflt);
}

static enum pl_err put_dir(struct ctl *c)
{
    const char *home = getenv("HOME");
    if (!c->dir)
        c->dir = home && home[0] == '/' ? pl_fmt(c->arena, "%s/.porchlight", home).p : "porchlight-data";
    if (c->dir && c->dir[0] != '/') {
        char *here = getcwd(NULL, 0);
        c->dir = here ? pl_fmt(c->arena, "%s/%s", here, c->dir).p : NULL;
        free(here);
    }
    return c->dir ? PL_OK : PL_NO_MEMORY;
}

static int run(struct ctl *c, const struct ctl_command *k)
{
    struct pl_fail fail = PL_FAIL_INIT;
    enum pl_err e = put_dir(c);
    c->command = k;
    put_defaults(c, k->options);
    if (e == PL_OK)
        e = k->run(c, &fail);
    if (e == PL_OK)
        return 0;
    ctl_say("porchctl: %s", fail.detail[0] ? fail.detail : pl_err_table[e].sentence);
    if (c->json) {
        struct pl_buf b = pl_buf_init(c->arena, 4096);
        pl_buf_json(&b, pl_str_of(fail.detail[0] ? fail.detail : pl_err_table[e].sentence));
        printf("{\"error\":{\"code\":\"%s\",\"detail\":%.*s}}\n", pl_err_code(e), PL_FMT(pl_buf_view(&b)));
    }
    return 1;
}

int ctl_main(int argc, char **argv)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(MEMORY);
    struct ctl c = { .arena = a };
    struct parsed p = { 0 };
    if (!a)
        return 1;
    int wrong = take_apart(&c, argc, argv, &p);
    if (wrong)
        return wrong;
    if (p.version)
        return printf("porchctl %s\n", CTL_VERSION) < 0;
    if (p.n_words && strcmp(p.words[0], "help") == 0) {
        p.help = true;
        memmove(p.words, p.words + 1, sizeof p.words - sizeof p.words[0]);
        p.n_words--;
    }
    for (const struct ctl_command *k = commands; k->name; k++) {
        int n = name_matches(k, p.words, p.n_words);
        if (!n)
            continue;
        if (p.help)
            return help(k);
        c.args = p.words + n;
        c.n_args = p.n_words - n;
        if (c.n_args < k->least || c.n_args > k->most)
            return usage("it is given too few or too many words", k->name);
        wrong = check_options(k, &p);
        return wrong ? wrong : run(&c, k);
    }
    if (!p.n_words)
        return help(NULL);
    return unknown(&p);
}
