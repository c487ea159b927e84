/* ctl.h - porchctl: everything that support and operations do, from a terminal.
 *
 * A subcommand is a row (name, arguments, options, function); options are rows too. Each works in one data folder (`--dir`), says what it did to a person, or
 * with `--json` as JSON on stdout. Failures are one sentence on stderr and exit code 1; a wrong command line is 64.
 * Not here: what the admin API answers (admin/), the product's rules. ctl holds no secret but those of its folder, and an admin's credential in a
 * file of his.  Threads: one.
 * Memory: all of a run lives in one arena.
 *     static enum pl_err on_status(struct ctl *c, struct pl_fail *reterr) { ... }
 *     { "status", "", "How the server is", 0, 0, NULL, on_status },
 */
#pragma once
#include "log.h"

struct ctl_command;

/* The command line, taken apart. Each option has its place here; what a subcommand does not list is refused for it. */
struct ctl {
    struct pl_arena *arena;
    const char *const *args; /**< what is not an option, after the subcommand's words */
    int n_args;
    const struct ctl_command *command;
    const char *dir;         /**< data folder, absolute */
    bool json;
    /* up */
    const char *http, *ws, *media; /**< HOST:PORT, port 0 takes a free one; media NULL: 50000 of this machine's own address with demo, else of loopback */
    const char *tls_cert, *tls_key; /**< PEM files; NULL: no TLS */
    const char *tls_ca;      /**< who vouches for the certificate; NULL: the system's authorities */
    const char *tls_name;    /**< the certificate's, by which this machine's own programs dial; NULL: by address */
    const char *advertise;   /**< HOST:PORT that hubs and phones are told for media; NULL: what is listened on */
    const char *smtp, *sms_webhook, *test_clock, *config, *migrations, *nodes;
    const char *sets[64];    /**< --set name=value, passed on */
    int n_sets;
    bool demo;
    const char *page;        /**< with demo: port of localhost for `demo page` */
    /* demo watch */
    const char *out;
    const char *seconds;
    bool public_client; /**< oauth-client add */
    bool with_invited;  /**< admin revoke */
    /* whatever asks the admin API */
    const char *as; /**< file of an admin's credential; NULL: by the Unix socket in `dir` */
    /* migrate */
    const char *db;
};
typedef enum pl_err (*ctl_run)(struct ctl *c, struct pl_fail *reterr);

struct ctl_option {
    const char *name; /* NULL ends a list */
    const char *value; /**< what the help calls its value; NULL: a flag (bool) */
    size_t offset;    /**< in struct ctl: const char * or bool */
    const char *doc;
    const char *dflt; /**< NULL: none */
};
struct ctl_command {
    const char *name;    /**< one or two words; NULL ends the table */
    const char *args;    /**< for the help */
    const char *summary;
    int least, most;     /**< how many arguments */
    const struct ctl_option *options; /**< beside --dir, --json, --help; may be NULL */
    ctl_run run;
    const void *data;    /**< the function's own row */
};

/* Runs a command line; returns the exit code. */
int ctl_main(int argc, char **argv);

/* Subcommands by file. */
enum pl_err ctl_up(struct ctl *c, struct pl_fail *reterr);
enum pl_err ctl_migrate(struct ctl *c, struct pl_fail *reterr);
enum pl_err ctl_demo_watch(struct ctl *c, struct pl_fail *reterr);
enum pl_err ctl_demo_page(struct ctl *c, struct pl_fail *reterr);
enum pl_err ctl_inventory_import(struct ctl *c, struct pl_fail *reterr);
enum pl_err ctl_oauth_client_add(struct ctl *c, struct pl_fail *reterr);
enum pl_err ctl_relay_enroll(struct ctl *c, struct pl_fail *reterr);
enum pl_err ctl_admin_invite(struct ctl *c, struct pl_fail *reterr);
enum pl_err ctl_admin_accept(struct ctl *c, struct pl_fail *reterr);
enum pl_err ctl_admin_revoke(struct ctl *c, struct pl_fail *reterr);
/* DELETE of command->data (the path) and the first argument, until nothing is left of it. */
enum pl_err ctl_remove(struct ctl *c, struct pl_fail *reterr);
/* Any admin GET: prints the answer as a table by the row in command->data (struct ctl_view), or as it came with --json. */
enum pl_err ctl_show(struct ctl *c, struct pl_fail *reterr);

/* POSTs and prints these members of the answer (NULL at the end; a single one bare), or all of it with --json. */
PL_MUST enum pl_err ctl_post(struct ctl *c, const char *path, const struct pl_buf *body, const char *const *members, struct pl_fail *reterr);
/* May it stand in a path? */
PL_MUST enum pl_err ctl_argument(const char *arg, struct pl_fail *reterr);

/* How an admin answer is shown to a person. */
struct ctl_view {
    const char *path;  /**< "/admin/v1/audit/%s": %s becomes the first argument */
    const char *list;  /**< member with the rows; NULL: the answer itself is one object, shown member by member */
    const char *columns[12];
};
extern const struct ctl_view ctl_view_outbox, ctl_view_status, ctl_view_nodes, ctl_view_relays, ctl_view_hubs, ctl_view_sessions, ctl_view_accounts, ctl_view_audit, ctl_view_live,
    ctl_view_oauth_clients, ctl_view_admins, ctl_view_log;

/* Says something to the person at the console (stderr): one line. */
void ctl_say(const char *fmt, ...) PL_PRINTF(1, 2);
