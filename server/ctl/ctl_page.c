/* `demo page`: the page of docs/app-developers-live.md in a browser. A static server hands out two files, the page and session.json with what a page of somebody's own would
 * have from its own sign-in; here that is kept good. It is Python's, since a web server is nothing that porchctl should be. */
#include "ctl_check.h"
#include "ctl_demo.h"
#include "ctl_proc.h"
#include "json.h"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define ORIGINS "http.allowed_origins"
#define MOST_ORIGINS 4096
#define MOST_CONFIG (256u << 10)
#define MEMORY (8u << 20)
#define START_WAIT (20 * PL_SECOND)
#define FRESH_EVERY (10 * PL_MINUTE) /* an access token is good for 15 */
#define AGAIN (5 * PL_SECOND)

/* `line` is `name = value` of this name: its value into *ret. */
static void take_origins(struct pl_str line, struct pl_str *ret)
{
    struct pl_str value, comment, name = pl_str_split(pl_str_split(line, '#', &comment), '=', &value);
    if (pl_str_eqz(pl_str_trim(name), ORIGINS))
        *ret = pl_str_trim(value);
}

enum pl_err demo_origins(const struct ctl *c, struct pl_str *ret, struct pl_fail *reterr)
{
    struct pl_str text = PL_STR_NONE, others = PL_STR("");
    struct pl_buf b = pl_buf_init(c->arena, MOST_ORIGINS);
    enum pl_err e = c->config ? ctl_read(c->arena, c->config, MOST_CONFIG, &text, reterr) : PL_OK;
    if (e != PL_OK)
        return e;
    while (text.n) /* what is wrong in it porchlightd says */
        take_origins(pl_str_split(text, '\n', &text), &others);
    for (int i = 0; i < c->n_sets; i++)
        take_origins(pl_str_of(c->sets[i]), &others);
    pl_buf_fmt(&b, "%.*s%shttp://localhost:%s http://127.0.0.1:%s", PL_FMT(others), others.n ? " " : "", c->page, c->page);
    *ret = pl_buf_view(&b);
    return pl_buf_err(&b);
}

struct page {
    struct ctl *c;
    struct demo_there there;
    struct sup sup;
    struct proc server;
    const char *folder, *html, *session;
};

static enum pl_err pause_page(void *arg)
{
    struct page *p = arg;
    sup_step(&p->sup, 50 * PL_MS);
    return sup_stop_wanted(&p->sup) ? PL_EXPIRED : PL_OK;
}

/* The household is read anew each time: another command may have signed in since, and a refresh token is good once. */
static enum pl_err write_session(struct page *p, struct pl_fail *reterr)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(MEMORY);
    struct ctl scratch = *p->c;
    struct rest r = p->there.rest;
    struct demo d;
    scratch.arena = a;
    r.c = &scratch;
    r.pause = pause_page;
    r.pause_arg = p;
    enum pl_err e = a ? demo_load(&scratch, &p->there.paths, &d, reterr) : PL_NO_MEMORY;
    if (e == PL_OK)
        e = demo_sign_in(&d, &r, reterr);
    if (e != PL_OK)
        return e;
    struct pl_buf b = pl_buf_init(a, 4096);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_str(&w, "api", pl_fmt(a, "http%s://%s", r.tls ? "s" : "", r.host));
    jw_z(&w, "token", r.token);
    jw_str(&w, "camera", d.camera_id);
    jw_close(&w);
    e = pl_buf_err(&b);
    return e == PL_OK ? ctl_write(a, p->session, pl_buf_view(&b), reterr) : e;
}

/* A folder of the caller's keeps the page that stands there: it is there to be changed. */
static enum pl_err lay_out(struct page *p, struct pl_fail *reterr)
{
    struct pl_arena *a = p->c->arena;
    bool own = p->c->n_args > 0;
    p->folder = own ? p->c->args[0] : pl_fmt(a, "%s/page", p->c->dir).p;
    p->html = pl_fmt(a, "%s/index.html", p->folder ? p->folder : "").p;
    p->session = pl_fmt(a, "%s/session.json", p->folder ? p->folder : "").p;
    if (!p->folder || !p->html || !p->session)
        return PL_NO_MEMORY;
    enum pl_err e = ctl_mkdirs(a, p->folder, 0700, reterr);
    return e != PL_OK || (own && ctl_exists(p->html)) ? e : ctl_write(a, p->html, ctl_page_html, reterr);
}

static enum pl_err serve(struct page *p, struct pl_fail *reterr)
{
    struct pl_arena *a = p->c->arena;
    const char *port = pl_str_z(a, p->there.page_port);
    /* -I: a file of that folder or of this one is no module of Python. */
    const char *const args[] = { "/usr/bin/env", "python3", "-I", "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", p->folder, port };
    p->server = (struct proc){ .name = "The server of the page", .log = pl_fmt(a, "%s/page.log", p->there.paths.log).p, .stop_signal = SIGTERM, .mark = "Serving HTTP on" };
    if (!p->server.log || !port)
        return PL_NO_MEMORY;
    for (size_t i = 0; i < PL_COUNT(args); i++)
        proc_arg(&p->server, args[i]);
    return sup_start(&p->sup, &p->server, START_WAIT, reterr);
}

static void say(const struct page *p)
{
    const char *media = pl_str_z(p->c->arena, p->there.media);
    if (media && check_loopback(media, NULL) == PL_OK)
        ctl_say("Media are on loopback (%s), which browsers hardly use: the page may show nothing. Give this machine a network with a default route, or `up` an address by --media.", media);
    ctl_say("The demo camera is at  http://localhost:%.*s/  to everybody on this machine; the page is %s. Ctrl-C ends it.", PL_FMT(p->there.page_port), p->html);
    if (p->c->json)
        printf("{\"ready\":true,\"page\":\"http://localhost:%.*s/\"}\n", PL_FMT(p->there.page_port));
    (void)fflush(stdout);
}

static void run_until_stopped(struct page *p)
{
    struct pl_mono next = pl_mono_add(pl_now_mono(&pl_clock_system), FRESH_EVERY);
    bool said = false;
    while (!sup_stop_wanted(&p->sup)) {
        struct pl_fail why = PL_FAIL_INIT;
        sup_step(&p->sup, PL_SECOND);
        if (pl_mono_cmp(pl_now_mono(&pl_clock_system), next) < 0)
            continue;
        enum pl_err e = write_session(p, &why);
        if (e != PL_OK && !said)
            ctl_say("No fresh token for the page: %s It is tried again.", why.detail[0] ? why.detail : pl_err_table[e].sentence);
        said = e != PL_OK;
        next = pl_mono_add(pl_now_mono(&pl_clock_system), e == PL_OK ? FRESH_EVERY : AGAIN);
    }
}

enum pl_err ctl_demo_page(struct ctl *c, struct pl_fail *reterr)
{
    struct page p = { .c = c };
    enum pl_err e = demo_find(c, &p.there, reterr);
    if (e == PL_OK)
        e = lay_out(&p, reterr);
    if (e == PL_OK)
        e = sup_init(&p.sup, &pl_clock_system, reterr);
    if (e != PL_OK)
        return e;
    e = serve(&p, reterr); /* first: another one that serves on this port keeps its session.json */
    if (e == PL_OK && (e = write_session(&p, reterr)) == PL_OK) {
        say(&p);
        run_until_stopped(&p);
    }
    if (p.server.ready_line[0])
        unlink(p.session); /* the token in it is good for a while yet */
    sup_stop_all(&p.sup);
    return e;
}
