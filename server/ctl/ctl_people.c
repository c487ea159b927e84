/* Admins: who becomes one, and who is one no more. Tokens and credentials pass by stdin, stdout and files, never by the command line, which every user of the machine can read. */
#include "ctl_file.h"
#include "ctl_http.h"
#include "json.h"
#include <stdio.h>
#include <unistd.h>

#define MOST_TOKEN 256

enum pl_err ctl_admin_invite(struct ctl *c, struct pl_fail *reterr)
{
    static const char *const shows[] = { "token", NULL };
    struct pl_buf b = pl_buf_init(c->arena, 4096);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_z(&w, "name", c->args[0]);
    jw_close(&w);
    enum pl_err e = ctl_post(c, "/admin/v1/admins", &b, shows, reterr);
    if (e == PL_OK && !c->json)
        ctl_say("By this token, within an hour, %s becomes an admin: porchctl admin accept. It is shown this once.", c->args[0]);
    return e;
}

/* One line. It is shown as it is typed: a moment later it is good for nothing any more. */
static enum pl_err read_token(struct pl_arena *a, struct pl_str *ret, struct pl_fail *reterr)
{
    char line[MOST_TOKEN];
    if (isatty(STDIN_FILENO))
        fprintf(stderr, "Token: ");
    *ret = fgets(line, sizeof line, stdin) ? pl_str_dup(a, pl_str_trim(pl_str_of(line))) : PL_STR_NONE;
    return ret->n ? PL_OK : pl_fail(reterr, PL_INVALID_REQUEST, "The token that `porchctl admin invite` has shown is expected on stdin.");
}

static enum pl_err write_credential(const struct ctl *c, struct pl_str answer, struct pl_fail *reterr)
{
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    struct pl_buf b = pl_buf_init(c->arena, 4096);
    struct jw w = jw_start(&b);
    enum pl_err e = json_parse(answer, &d, reterr);
    if (e != PL_OK)
        return e;
    jw_open(&w, NULL);
    jw_z(&w, "admin", c->args[0]);
    jw_str(&w, "name", json_doc_str(d, "name"));
    jw_str(&w, "credential", json_doc_str(d, "credential"));
    jw_close(&w);
    pl_buf_u8(&b, '\n');
    e = pl_buf_err(&b);
    if (e == PL_OK && (e = ctl_write(c->arena, c->args[1], pl_buf_view(&b), reterr)) == PL_OK)
        ctl_say("You are the admin %.*s now: porchctl status --as %s", PL_FMT(json_doc_str(d, "name")), c->args[1]);
    return e;
}

enum pl_err ctl_admin_accept(struct ctl *c, struct pl_fail *reterr)
{
    struct pl_str token, text = PL_STR_NONE;
    struct pl_buf b = pl_buf_init(c->arena, 4096);
    struct jw w = jw_start(&b);
    struct ctl_request q = { .method = "POST", .path = "/admin/v1/admins/accept" };
    const char *file = c->args[1];
    if (ctl_exists(file))
        return pl_fail(reterr, PL_FORBIDDEN, "%s exists: name another file.", file);
    enum pl_err e = ctl_admin_at(c->args[0], &q, reterr);
    if (e == PL_OK)
        e = read_token(c->arena, &token, reterr);
    if (e == PL_OK)
        e = ctl_write(c->arena, file, PL_STR(""), reterr); /* so that no token is spent when the credential cannot be kept */
    if (e != PL_OK)
        return e;
    jw_open(&w, NULL);
    jw_str(&w, "token", token);
    jw_close(&w);
    q.body = pl_buf_view(&b);
    e = ctl_http(c->arena, &q, &text, reterr);
    if (e == PL_OK)
        e = write_credential(c, text, reterr);
    if (e != PL_OK)
        unlink(file);
    return e == PL_UNAUTHENTICATED ? pl_fail(reterr, e, "This token makes nobody an admin: it is wrong, was used, or is older than an hour.") : e;
}

struct revocation { struct json_list revoked, brought_in; };
#define REVOCATION struct revocation
static const struct json_field revocation_fields[] = { JSON_F(REVOCATION, revoked, J_STRS, J_REQUIRED, .hi = 1000), JSON_F(REVOCATION, brought_in, J_STRS, J_REQUIRED, .hi = 1000), J_END };

static void print_names(const char *what, const struct json_list *names)
{
    const struct pl_str *name = names->items;
    for (size_t i = 0; i < names->n; i++)
        printf("%-10s  %.*s\n", what, PL_FMT(name[i]));
}

enum pl_err ctl_admin_revoke(struct ctl *c, struct pl_fail *reterr)
{
    struct pl_str text = PL_STR_NONE, path = pl_fmt(c->arena, "/admin/v1/admins/%s%s", c->args[0], c->with_invited ? "?with_invited=true" : "");
    struct revocation r = { 0 };
    enum pl_err e = ctl_argument(c->args[0], reterr);
    if (e == PL_OK)
        e = path.p ? ctl_admin(c, "DELETE", path.p, PL_STR_NONE, &text, reterr) : PL_NO_MEMORY;
    if (e == PL_OK)
        e = json_take(revocation_fields, JSON_LENIENT, text, c->arena, &r, reterr);
    if (e != PL_OK)
        return e;
    if (c->json) {
        printf("%.*s\n", PL_FMT(text));
        return PL_OK;
    }
    print_names("revoked", &r.revoked);
    print_names("brought in", &r.brought_in);
    if (r.brought_in.n && !c->with_invited)
        ctl_say("Those whom %s brought in are admins still. To revoke them: porchctl admin revoke %s --with-invited", c->args[0], c->args[0]);
    return PL_OK;
}
