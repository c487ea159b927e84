/* porchlightd: REST, WebSockets for hubs, apps and relays, jobs. */
#include "log.h"
#include "node.h"
#include "secure.h"
#include <stdio.h>

static const char usage[] =
    "porchlightd [--config FILE] [--set name=value]... [--db CONNINFO] [--data DIR] [--http H:P] [--ws H:P] [--admin unix:PATH]\n"
    "            [--smtp URL] [--sms-webhook URL] [--migrations DIR] [--tls-cert FILE --tls-key FILE | --insecure-behind-proxy]\n            [--test-clock FILE] [--migrate | --check | --sample]\n";

/* The arguments that stand for a setting. */
static const struct { const char *arg, *setting; } short_forms[] = {
    { "--db", "db" },           { "--data", "data_dir" },   { "--http", "http.listen" },        { "--ws", "ws.listen" },
    { "--admin", "admin.listen" }, { "--smtp", "notify.smtp_url" }, { "--sms-webhook", "notify.sms_webhook" }, { "--migrations", "migrations_dir" },
    { "--tls-cert", "http.tls_cert" }, { "--tls-key", "http.tls_key" },
};

enum mode { RUN, MIGRATE, CHECK, SAMPLE };

struct command {
    const struct conf_row *rows;
    struct node_conf conf;
    struct pl_arena *arena;
    enum mode mode;
};

static enum pl_err refuse(struct pl_fail *reterr, const char *arg) { return pl_fail(reterr, PL_INVALID_REQUEST, "%.80s: not understood, or its value is missing\n%s", arg, usage); }

static enum pl_err take_pair(struct command *cmd, const char *arg, const char *value, struct pl_fail *reterr)
{
    for (size_t i = 0; i < PL_COUNT(short_forms); i++)
        if (strcmp(arg, short_forms[i].arg) == 0)
            return conf_set(cmd->rows, &cmd->conf, pl_str_of(short_forms[i].setting), pl_str_of(value), cmd->arena, reterr);
    if (strcmp(arg, "--set") == 0) {
        struct pl_str to, name = pl_str_split(pl_str_of(value), '=', &to);
        return conf_set(cmd->rows, &cmd->conf, name, to, cmd->arena, reterr);
    }
    if (strcmp(arg, "--test-clock") == 0)
        return pl_test_clock_map(value, reterr);
    return strcmp(arg, "--config") == 0 ? PL_OK : refuse(reterr, arg);
}

static enum pl_err parse(struct command *cmd, int argc, char **argv, struct pl_fail *reterr)
{
    static const struct { const char *arg; enum mode mode; } modes[] = { { "--migrate", MIGRATE }, { "--check", CHECK }, { "--sample", SAMPLE } };
    const char *file = NULL;
    for (int i = 1; i + 1 < argc; i++) /* the file first: arguments win over it */
        if (strcmp(argv[i], "--config") == 0)
            file = argv[i + 1];
    enum pl_err e = conf_load(cmd->rows, &cmd->conf, file, cmd->arena, reterr);
    for (int i = 1; e == PL_OK && i < argc; i++) {
        bool is_mode = false;
        for (size_t k = 0; k < PL_COUNT(modes); k++)
            if (strcmp(argv[i], modes[k].arg) == 0) {
                cmd->mode = modes[k].mode;
                is_mode = true;
            }
        if (is_mode)
            continue;
        if (strcmp(argv[i], "--insecure-behind-proxy") == 0) {
            e = conf_set(cmd->rows, &cmd->conf, PL_STR("http.insecure_behind_proxy"), PL_STR("true"), cmd->arena, reterr);
            continue;
        }
        if (i + 1 == argc)
            return refuse(reterr, argv[i]);
        e = take_pair(cmd, argv[i], argv[i + 1], reterr);
        i++;
    }
    return e;
}

static void set_level(struct pl_str level)
{
    for (size_t i = 0; node_log_levels[i]; i++)
        if (pl_str_eqz(level, node_log_levels[i]))
            pl_log_level((enum pl_level)i);
}

static enum pl_err sample(const struct command *cmd)
{
    struct pl_buf b = pl_buf_init(cmd->arena, 64 * 1024);
    conf_sample(cmd->rows, &b);
    if (pl_buf_err(&b) == PL_OK)
        fwrite(b.p, 1, b.n, stdout);
    return pl_buf_err(&b);
}

static void say_long_text(void *arg, const char *locale, const char *message, unsigned segments)
{
    (void)arg;
    fprintf(stderr, "porchlightd: notify.messages: [sms] of %s/%s.txt makes %u text messages\n", locale, message, segments);
}

static enum pl_err check(const struct command *cmd, struct pl_fail *reterr)
{
    enum pl_err e = node_long_texts(&cmd->conf, cmd->arena, say_long_text, NULL, reterr);
    if (e == PL_OK)
        printf("configuration OK\n");
    return e;
}

int main(int argc, char **argv)
{
    struct command cmd = { .arena = pl_arena_new(1 << 20) };
    struct pl_fail fail = PL_FAIL_INIT;
    enum pl_err e = cmd.arena ? node_conf_rows(cmd.arena, &cmd.rows) : PL_NO_MEMORY;
    if (e == PL_OK)
        e = parse(&cmd, argc, argv, &fail);
    if (e == PL_OK)
        e = secure_init();
    if (e == PL_OK) {
        set_level(cmd.conf.log_level);
        switch (cmd.mode) {
        case RUN: e = node_run(&cmd.conf, cmd.arena, &fail); break;
        case MIGRATE: e = node_migrate(&cmd.conf, cmd.arena, &fail); break;
        case CHECK: e = check(&cmd, &fail); break;
        case SAMPLE: e = sample(&cmd); break;
        }
    }
    if (e != PL_OK)
        fprintf(stderr, "porchlightd: %s\n", fail.detail[0] ? fail.detail : pl_err_table[e].sentence);
    pl_arena_free(cmd.arena);
    return e == PL_OK ? 0 : 1;
}
