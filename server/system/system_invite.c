/* system_invite.c - invitations: a role in a system, offered to one e-mail address.
 *
 * The answer to who invites is the same whether the address has an account or not. The message holds a link with a token of 256 bits, of which only the hash is kept; it works
 * once, for seven days, and only for an account that has proved that address. An invitation lives no longer than the right of who sent it. */
#include "pin.h"
#include "system_priv.h"

#define TOKEN "plin"
#define SENDS_MOST 5

static struct pl_str hash_str(const uint8_t hash[32]) { return (struct pl_str){ (const char *)hash, 32 }; }

/* ---- for who invites ---- */

const struct json_field system_invite_fields[] = { JSON_F(struct system_invite_body, email, J_EMAIL, J_REQUIRED),
                                                   JSON_F(struct system_invite_body, role, J_ENUM, J_REQUIRED, .words = system_role_names),
                                                   JSON_F(struct system_invite_body, access_until, J_TIME, J_OPTIONAL), J_END };

static enum pl_err write_invitation(struct db_tx *tx, struct jw *w, const struct system_sql_invitations_row *i)
{
    struct pl_str by = PL_STR_NONE;
    enum pl_err e = account_email(tx, i->by_id, &by);
    if (e != PL_OK && e != PL_NOT_FOUND)
        return e;
    jw_uuid(w, "id", i->id);
    jw_str(w, "email", i->email);
    jw_str(w, "role", i->role);
    jw_str(w, "invited_by", by);
    jw_int(w, "sent_count", i->sends);
    jw_utc(w, "created_at", i->created_at);
    jw_utc(w, "expires_at", i->expires_at);
    if (i->access_until.us)
        jw_utc(w, "access_until", i->access_until);
    else
        jw_null(w, "access_until");
    return PL_OK;
}

enum pl_err system_invitations_write(struct db_tx *tx, struct jw *w, struct pl_uuid system_id)
{
    struct system_sql_invitations_row *rows;
    size_t n;
    enum pl_err e = system_sql_invitations(tx, system_id, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        jw_open(w, NULL);
        e = write_invitation(tx, w, &rows[i]);
        jw_close(w);
    }
    return e;
}

/* The message. Its token stands nowhere else. */
static enum pl_err mail(struct http_call *c, const char *token, struct pl_str to)
{
    const struct system_ctx *ctx = c->self;
    struct pl_str link, by;
    enum pl_err e = account_link(ctx->account, c->arena, "invitation", token, &link);
    if (e != PL_OK || (e = account_email(c->tx, c->actor.account_id, &by)) != PL_OK)
        return e;
    return notify_queue(account_notify(ctx->account), c->tx, c->rand, c->now, &(struct notify_message){ .kind = NOTIFY_INVITATION, .channel = NOTIFY_EMAIL, .to = to, .about = link,
                            .name = by, .life_us = SYSTEM_INVITATION_LIFE, .account_id = c->actor.account_id });
}

static enum pl_err say(struct http_call *c, struct pl_uuid system_id, struct pl_uuid id, const char *state, enum system_role role)
{
    return system_say(c->tx, c->now, system_id, &(struct system_said){ .type = "invitation.state", .what = "invitation_id", .id = id, .word = "state", .value = state, .role = role,
                                                                       .right = SYSTEM_GUESTS });
}

static enum pl_err is_member(struct http_call *c, struct pl_uuid system_id, struct pl_str email)
{
    struct system_sql_members_row *rows;
    struct pl_str theirs;
    size_t n;
    enum pl_err e = system_sql_members(c->tx, system_id, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        e = account_email(c->tx, rows[i].account_id, &theirs);
        if (e == PL_OK && pl_str_eq(theirs, email))
            return PL_ALREADY_MEMBER;
        e = e == PL_NOT_FOUND ? PL_OK : e;
    }
    return e;
}

/* The address may hold an invitation that this one would replace: then that must be the caller's to replace. The system is held. */
static enum pl_err may_replace(struct http_call *c, const struct system_row *system, struct pl_str email, struct pl_fail *reterr)
{
    struct system_sql_invitations_row *rows;
    size_t n;
    enum pl_err e = system_sql_invitations(c->tx, system->id, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        if (pl_str_eq(rows[i].email, email) && !system_role_over(system->role, system_role_of(rows[i].role)))
            return pl_fail(reterr, PL_FORBIDDEN, "This address is invited to a role above what you bring people into.");
    return e;
}

static enum pl_err check_invite(struct http_call *c, const struct system_row *system, struct pl_fail *reterr)
{
    const struct system_ctx *ctx = c->self;
    const struct system_invite_body *b = c->body;
    struct system_sql_counts_row counts;
    if (!system_role_over(system->role, (enum system_role)b->role))
        return pl_fail(reterr, PL_FORBIDDEN, "You are a %s of this system: that role does not allow this.", system_role_names[system->role]);
    if (b->access_until.us && (b->role == SYSTEM_OWNER || pl_utc_cmp(b->access_until, c->now) <= 0))
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "access_until", "access_until: a time to come is expected; an owner's membership does not end.");
    enum pl_err e = is_member(c, system->id, b->email);
    if (e != PL_OK || (e = may_replace(c, system, b->email, reterr)) != PL_OK || (e = system_sql_counts(c->tx, c->actor.account_id, system->id, &counts, NULL)) != PL_OK)
        return e;
    if (counts.members + counts.invitations >= SYSTEM_MEMBERS_MOST)
        return PL_MEMBERS_FULL;
    if (b->role == SYSTEM_OWNER && (e = system_step_up(c)) != PL_OK)
        return e;
    return limit_invite(ctx->limits, c->tx, c->now, c->actor.account_id, b->email, reterr);
}

static enum pl_err write_invited(struct http_call *c, const struct system_sql_invite_row *r)
{
    c->status = 202;
    jw_open(&c->out, "invitation");
    enum pl_err e = write_invitation(c->tx, &c->out,
                                     &(struct system_sql_invitations_row){ r->id, r->email, r->role, r->by_id, r->sends, r->created_at, r->expires_at, r->access_until });
    jw_close(&c->out);
    return e;
}

enum pl_err system_on_invite(struct http_call *c, struct pl_fail *reterr)
{
    const struct system_invite_body *b = c->body;
    struct system_sql_invite_row r;
    struct system_row system;
    struct pl_uuid id, invitation_id = pl_uuid7(c->rand, c->now);
    char token[SECURE_TOKEN_TEXT];
    uint8_t hash[32];
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e != PL_OK || (e = system_take(c->tx, c->now, &c->actor, id, SYSTEM_GUESTS, &system, reterr)) != PL_OK || (e = check_invite(c, &system, reterr)) != PL_OK)
        return e;
    secure_token_new(TOKEN, token);
    if ((e = secure_token_hash(pl_str_of(token), TOKEN, hash)) == PL_OK &&
        (e = system_sql_invite(c->tx, system.home_id, invitation_id, id, b->email, pl_str_of(system_role_names[b->role]), c->actor.account_id, hash_str(hash), c->now,
                               pl_utc_add(c->now, SYSTEM_INVITATION_LIFE), b->access_until, &r, NULL)) == PL_OK)
        e = mail(c, token, b->email);
    secure_wipe(token, sizeof token);
    if (e != PL_OK || (e = say(c, id, r.id, "sent", (enum system_role)b->role)) != PL_OK ||
        (e = system_audit(c->tx, c->now, id, (struct pl_uuid){ { 0 } }, c->actor.client_id, "invitation.sent", r.id, (enum system_role)b->role)) != PL_OK)
        return e;
    http_after(c, system_told, c->self);
    return write_invited(c, &r);
}

/* The invitation of the path, for who may have one like it sent. */
static enum pl_err find(struct http_call *c, struct system_row *ret_system, struct system_sql_invitation_find_row *ret, struct pl_fail *reterr)
{
    struct pl_uuid id, invitation;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e != PL_OK || (e = http_param_uuid(c, "invitation", &invitation)) != PL_OK ||
        (e = system_take(c->tx, c->now, &c->actor, id, SYSTEM_GUESTS, ret_system, reterr)) != PL_OK ||
        (e = system_sql_invitation_find(c->tx, id, invitation, ret, NULL)) != PL_OK)
        return e;
    if (!system_role_over(ret_system->role, system_role_of(ret->role)))
        return pl_fail(reterr, PL_FORBIDDEN, "You are a %s of this system: that role does not allow this.", system_role_names[ret_system->role]);
    return PL_OK;
}

enum pl_err system_on_invitation_again(struct http_call *c, struct pl_fail *reterr)
{
    const struct system_ctx *ctx = c->self;
    struct system_sql_invitation_find_row i;
    struct system_sql_invitation_again_row r;
    struct system_row system;
    char token[SECURE_TOKEN_TEXT];
    uint8_t hash[32];
    enum pl_err e = find(c, &system, &i, reterr);
    if (e != PL_OK)
        return e;
    if (i.sends >= SENDS_MOST)
        return PL_RESEND_EXHAUSTED;
    if ((e = limit_invite(ctx->limits, c->tx, c->now, c->actor.account_id, i.email, reterr)) != PL_OK)
        return e;
    secure_token_new(TOKEN, token);
    if ((e = secure_token_hash(pl_str_of(token), TOKEN, hash)) == PL_OK &&
        (e = system_sql_invitation_again(c->tx, system.id, i.id, hash_str(hash), pl_utc_add(c->now, SYSTEM_INVITATION_LIFE), &r, NULL)) == PL_OK)
        e = mail(c, token, i.email);
    secure_wipe(token, sizeof token);
    if (e != PL_OK || (e = say(c, system.id, i.id, "sent", system_role_of(i.role))) != PL_OK)
        return e;
    http_after(c, system_told, c->self);
    return write_invited(c, &(struct system_sql_invite_row){ r.id, r.email, r.role, r.by_id, r.sends, r.created_at, r.expires_at, r.access_until });
}

enum pl_err system_on_invitation_delete(struct http_call *c, struct pl_fail *reterr)
{
    struct system_sql_invitation_find_row i;
    struct system_row system;
    enum pl_err e = find(c, &system, &i, reterr);
    if (e != PL_OK || (e = system_sql_invitation_drop(c->tx, system.id, i.id, PL_STR_NONE, NULL)) != PL_OK || (e = say(c, system.id, i.id, "revoked", SYSTEM_ROLES)) != PL_OK ||
        (e = system_audit(c->tx, c->now, system.id, (struct pl_uuid){ { 0 } }, c->actor.client_id, "invitation.revoked", i.id, SYSTEM_ROLES)) != PL_OK)
        return e;
    http_after(c, system_told, c->self);
    return PL_OK;
}

/* ---- for who is invited ---- */

static enum pl_err open_it(struct http_call *c, uint8_t ret_hash[32], struct system_sql_invitation_open_row *ret)
{
    if (secure_token_hash(http_param(c, "token"), TOKEN, ret_hash) != PL_OK)
        return PL_NOT_FOUND;
    enum pl_err e = system_sql_invitation_open(c->tx, hash_str(ret_hash), ret, NULL);
    if (e != PL_OK)
        return e;
    bool late = pl_utc_cmp(ret->expires_at, c->now) <= 0 || (ret->access_until.us && pl_utc_cmp(ret->access_until, c->now) <= 0);
    return late ? PL_EXPIRED : PL_OK;
}

/* Whoever has the link may look before there is an account to accept with. */
enum pl_err system_on_invitation(struct http_call *c, struct pl_fail *reterr)
{
    struct system_sql_invitation_open_row i;
    struct pl_buf to = pl_buf_init(c->arena, 512);
    struct pl_str by = PL_STR_NONE;
    uint8_t hash[32];
    (void)reterr;
    enum pl_err e = open_it(c, hash, &i);
    if (e != PL_OK)
        return e;
    if ((e = account_email(c->tx, i.by_id, &by)) != PL_OK && e != PL_NOT_FOUND)
        return e;
    pin_mask(&to, i.email);
    jw_str(&c->out, "system_name", i.name);
    jw_str(&c->out, "invited_by", by);
    jw_str(&c->out, "role", i.role);
    jw_str(&c->out, "sent_to", pl_buf_view(&to));
    jw_utc(&c->out, "expires_at", i.expires_at);
    if (i.access_until.us)
        jw_utc(&c->out, "access_until", i.access_until);
    else
        jw_null(&c->out, "access_until");
    return PL_OK;
}

/* Is it this account's, and may it take it? The system is held. */
static enum pl_err check_accept(struct http_call *c, const struct system_sql_invitation_open_row *i, struct pl_fail *reterr)
{
    struct system_sql_counts_row counts;
    struct system_row system;
    struct pl_str own;
    enum pl_err e = account_email(c->tx, c->actor.account_id, &own);
    if (e != PL_OK)
        return e;
    if (!pl_str_eq(own, i->email))
        return PL_OTHER_ADDRESS;
    e = system_may(c->tx, c->now, &c->actor, i->system_id, SYSTEM_SEE, &system, reterr);
    if (e == PL_OK)
        return PL_ALREADY_MEMBER;
    if (e != PL_NOT_FOUND || (e = system_sql_counts(c->tx, c->actor.account_id, i->system_id, &counts, NULL)) != PL_OK)
        return e;
    return counts.systems < SYSTEM_MOST ? PL_OK : pl_fail(reterr, PL_RATE_LIMITED, "An account has at most %d systems.", SYSTEM_MOST);
}

static enum pl_err join(struct http_call *c, const struct system_row *system, const struct system_sql_invitation_open_row *i)
{
    const struct system_ctx *ctx = c->self;
    struct pl_uuid member_id = pl_uuid7(c->rand, c->now);
    enum system_role role = system_role_of(i->role);
    enum pl_err e;
    /* A membership whose time is over, and that no job has ended yet, makes place. */
    if ((e = system_sql_member_drop(c->tx, c->actor.account_id, i->system_id, NULL)) != PL_OK ||
        (e = system_sql_member_add(c->tx, c->actor.account_id, i->system_id, system->home_id, member_id, i->role, i->by_id, c->now, i->access_until, NULL)) != PL_OK ||
        (e = say(c, i->system_id, i->id, "accepted", SYSTEM_ROLES)) != PL_OK ||
        (e = system_say(c->tx, c->now, i->system_id, &(struct system_said){ .type = "member.added", .what = "member_id", .id = member_id, .role = role, .right = SYSTEM_SEE })) != PL_OK ||
        (e = system_audit(c->tx, c->now, i->system_id, c->actor.account_id, c->actor.client_id, "member.added", member_id, role)) != PL_OK)
        return e;
    return system_tell_sharing(ctx->account, c->tx, c->now, system, i->email, "joined", (struct pl_uuid){ { 0 } });
}

enum pl_err system_on_accept(struct http_call *c, struct pl_fail *reterr)
{
    struct system_sql_invitation_open_row i;
    struct system_row system;
    uint8_t hash[32];
    int64_t first;
    char id[PL_UUID_TEXT];
    enum pl_err e = open_it(c, hash, &i);
    if (e != PL_OK)
        return e;
    if ((e = system_lock(c->tx, i.account_id, i.system_id, &system)) != PL_OK)
        return e == PL_NOT_FOUND ? PL_RETRY : e; /* it moved, or is gone: that is seen the next time */
    if ((e = check_accept(c, &i, reterr)) != PL_OK || (e = system_sql_invitation_drop(c->tx, i.system_id, i.id, hash_str(hash), &first)) != PL_OK)
        return e;
    if (!first)
        return PL_NOT_FOUND; /* taken back meanwhile */
    if ((e = join(c, &system, &i)) != PL_OK)
        return e;
    http_after(c, system_told, c->self);
    system.role = system_role_of(i.role);
    pl_uuid_text(system.id, id);
    http_reply_header(c, "Location", pl_fmt(c->arena, "/v1/systems/%s", id));
    c->status = 201;
    system_write(&c->out, &system);
    return PL_OK;
}

/* Whoever has the link may say no: also somebody who will never have an account. */
enum pl_err system_on_decline(struct http_call *c, struct pl_fail *reterr)
{
    struct system_sql_invitation_open_row i;
    uint8_t hash[32];
    int64_t first;
    (void)reterr;
    enum pl_err e = open_it(c, hash, &i);
    if (e != PL_OK || (e = system_sql_invitation_drop(c->tx, i.system_id, i.id, hash_str(hash), &first)) != PL_OK)
        return e;
    if (!first)
        return PL_NOT_FOUND;
    if ((e = say(c, i.system_id, i.id, "declined", SYSTEM_ROLES)) != PL_OK ||
        (e = system_audit(c->tx, c->now, i.system_id, (struct pl_uuid){ { 0 } }, (struct pl_uuid){ { 0 } }, "invitation.declined", i.id, SYSTEM_ROLES)) != PL_OK)
        return e;
    http_after(c, system_told, c->self);
    return PL_OK;
}
