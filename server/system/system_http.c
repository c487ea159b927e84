#include "system_priv.h"

struct name_body {
    struct pl_str name;
};
static const struct json_field name_fields[] = { JSON_F(struct name_body, name, J_STR, J_REQUIRED, .lo = 1, .hi = 64), J_END };

static enum pl_err on_list(struct http_call *c, struct pl_fail *reterr)
{
    struct pl_uuid after = { { 0 } };
    struct http_page page;
    struct system_row *rows;
    size_t n;
    enum pl_err e = http_page(c, after.b, sizeof after.b, &page, reterr);
    if (e != PL_OK || (e = system_page(c->tx, c->now, &c->actor, after, page.limit + 1, &rows, &n)) != PL_OK)
        return e;
    if (n > (size_t)page.limit) {
        n = (size_t)page.limit;
        http_page_next(c, &page, rows[n - 1].id.b, sizeof rows[n - 1].id.b);
    }
    jw_array(&c->out, "systems");
    for (size_t i = 0; i < n; i++) {
        jw_open(&c->out, NULL);
        system_write(&c->out, &rows[i]);
        jw_close(&c->out);
    }
    jw_end_array(&c->out);
    return PL_OK;
}

static enum pl_err on_add(struct http_call *c, struct pl_fail *reterr)
{
    const struct name_body *b = c->body;
    struct system_row row;
    char id[PL_UUID_TEXT];
    if (c->actor.systems.p)
        return pl_fail(reterr, PL_SCOPE_MISSING, "This token is for some systems only: it makes no others.");
    enum pl_err e = system_add(c->tx, c->rand, c->now, c->actor.account_id, b->name, &row, reterr);
    if (e != PL_OK)
        return e;
    pl_uuid_text(row.id, id);
    http_reply_header(c, "Location", pl_fmt(c->arena, "/v1/systems/%s", id));
    http_etag(c, system_tag(c->arena, &row));
    c->status = 201;
    system_write(&c->out, &row);
    return PL_OK;
}

static enum pl_err on_read(struct http_call *c, struct pl_fail *reterr)
{
    struct system_row row;
    struct pl_uuid id;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e != PL_OK || (e = system_may(c->tx, c->now, &c->actor, id, SYSTEM_SEE, &row, reterr)) != PL_OK)
        return e;
    http_etag(c, system_tag(c->arena, &row));
    system_write(&c->out, &row);
    return PL_OK;
}

static enum pl_err on_rename(struct http_call *c, struct pl_fail *reterr)
{
    const struct name_body *b = c->body;
    struct system_row row;
    struct pl_uuid id;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e != PL_OK || (e = system_take(c->tx, c->now, &c->actor, id, SYSTEM_MANAGE, &row, reterr)) != PL_OK ||
        (e = http_if_match(c, system_tag(c->arena, &row), reterr)) != PL_OK)
        return e;
    if ((e = system_rename(c->tx, c->now, &row, b->name, reterr)) != PL_OK)
        return e;
    http_etag(c, system_tag(c->arena, &row));
    system_write(&c->out, &row);
    return PL_OK;
}

const struct http_route system_routes[] = {
    { HTTP_GET, "/v1/systems", HTTP_USER, on_list, "List the systems of the account", .scope = "systems:read" },
    { HTTP_POST, "/v1/systems", HTTP_USER, on_add, "Make a system", .scope = "systems:write", HTTP_BODY(struct name_body, name_fields), .idempotent = true },
    { HTTP_GET, "/v1/systems/{id}", HTTP_USER, on_read, "Read a system", .scope = "systems:read" },
    { HTTP_PATCH, "/v1/systems/{id}", HTTP_USER, on_rename, "Rename a system", .scope = "systems:write", HTTP_BODY(struct name_body, name_fields) },
    { HTTP_GET, "/v1/systems/{id}/members", HTTP_SESSION, system_on_members, "Who may see a system, and whom one has invited" },
    { HTTP_POST, "/v1/systems/{id}/members", HTTP_SESSION, system_on_invite, "Invite somebody to a system", HTTP_BODY(struct system_invite_body, system_invite_fields), .idempotent = true,
      .rate = HTTP_RATE_SEND },
    { HTTP_PATCH, "/v1/systems/{id}/members/{member}", HTTP_SESSION, system_on_member_change, "Give a member another role", HTTP_BODY(struct system_member_body, system_member_fields) },
    { HTTP_DELETE, "/v1/systems/{id}/members/{member}", HTTP_SESSION, system_on_member_delete, "Remove a member, or leave" },
    { HTTP_POST, "/v1/systems/{id}/invitations/{invitation}/resend", HTTP_SESSION, system_on_invitation_again, "Send an invitation again", .idempotent = true, .rate = HTTP_RATE_SEND },
    { HTTP_DELETE, "/v1/systems/{id}/invitations/{invitation}", HTTP_SESSION, system_on_invitation_delete, "Take an invitation back" },
    { HTTP_GET, "/v1/invitations/{token}", HTTP_PUBLIC, system_on_invitation, "What an invitation offers", .rate = HTTP_RATE_AUTH },
    { HTTP_POST, "/v1/invitations/{token}/accept", HTTP_SESSION, system_on_accept, "Accept an invitation", .idempotent = true },
    { HTTP_POST, "/v1/invitations/{token}/decline", HTTP_PUBLIC, system_on_decline, "Decline an invitation", .rate = HTTP_RATE_AUTH },
    HTTP_END,
};
