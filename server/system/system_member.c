/* system_member.c - the members of a system: listed, given another role, removed, leaving; and the home of its rows when their owner leaves.
 *
 * Whoever changes members has taken the system, so that of two owners who demote each other one comes second and is told that a system needs an owner. What a member may
 * not have any more is cut by the handler of the fact (live). */
#include "pin.h"
#include "system_priv.h"

bool system_role_over(enum system_role mine, enum system_role theirs)
{
    return system_role_may(mine, SYSTEM_OWN) || (system_role_may(mine, SYSTEM_GUESTS) && theirs < SYSTEM_MANAGER);
}

/* ---- what is said ---- */

static struct pl_str said_json(struct db_tx *tx, struct pl_uuid system_id, const struct system_said *s)
{
    struct pl_buf b = pl_buf_init(db_arena(tx), 1024);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_uuid(&w, "system_id", system_id);
    jw_uuid(&w, s->what, s->id);
    if (s->word)
        jw_z(&w, s->word, s->value);
    if (s->role < SYSTEM_ROLES)
        jw_z(&w, "role", system_role_names[s->role]);
    jw_close(&w);
    return pl_buf_err(&b) == PL_OK ? pl_buf_view(&b) : PL_STR_NONE;
}

enum pl_err system_say(struct db_tx *tx, struct pl_utc now, struct pl_uuid system_id, const struct system_said *s)
{
    struct pl_str data = said_json(tx, system_id, s);
    return data.p ? system_event(tx, now, system_id, s->right, s->type, data) : PL_NO_MEMORY;
}

enum pl_err system_audit(struct db_tx *tx, struct pl_utc now, struct pl_uuid system_id, struct pl_uuid account_id, struct pl_uuid actor, const char *action, struct pl_uuid id,
                         enum system_role role)
{
    struct pl_str detail = said_json(tx, system_id, &(struct system_said){ .what = "about", .id = id, .role = role });
    if (!detail.p)
        return PL_NO_MEMORY;
    enum pl_err e = journal_audit(tx, now, &(struct journal_audit){ .subject = system_id, .actor = actor, .action = action, .detail = detail });
    if (e != PL_OK || pl_uuid_is_zero(account_id))
        return e;
    return journal_audit(tx, now, &(struct journal_audit){ .account = account_id, .actor = actor, .action = action, .detail = detail });
}

static enum pl_err tell(struct account *account, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, const struct notify_message *m)
{
    enum pl_err e = account_tell_with(account, tx, now, account_id, m);
    return e == PL_NOT_FOUND ? PL_OK : e; /* an account that is being deleted */
}

static enum pl_err tell_owners(struct account *account, struct db_tx *tx, struct pl_utc now, struct pl_uuid id, const struct notify_message *m)
{
    struct system_sql_members_row *rows;
    size_t n;
    enum pl_err e = system_sql_members(tx, id, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        if (system_role_may(system_role_of(rows[i].role), SYSTEM_OWN))
            e = tell(account, tx, now, rows[i].account_id, m);
    return e;
}

enum pl_err system_tell_owners(struct account *account, struct db_tx *tx, struct pl_utc now, struct pl_uuid id, enum notify_kind kind, struct pl_str about)
{
    return tell_owners(account, tx, now, id, &(struct notify_message){ .kind = kind, .about = about });
}

enum pl_err system_tell_sharing(struct account *account, struct db_tx *tx, struct pl_utc now, const struct system_row *system, struct pl_str who, const char *what,
                                struct pl_uuid also)
{
    struct notify_message m = { .kind = NOTIFY_SHARING, .about = pl_str_of(what), .name = pl_fmt(db_arena(tx), "%.*s, \"%.*s\"", PL_FMT(who), PL_FMT(system->name)) };
    if (!m.name.p)
        return PL_NO_MEMORY;
    enum pl_err e = tell_owners(account, tx, now, system->id, &m);
    return e == PL_OK && !pl_uuid_is_zero(also) ? tell(account, tx, now, also, &m) : e;
}


enum pl_err system_step_up(struct http_call *c)
{
    struct http_hooks hooks = account_hooks(((const struct system_ctx *)c->self)->account);
    return hooks.spend_grant(hooks.self, c->tx, c->now, &c->actor, "change_owners", http_header(c, "Step-Up-Grant"));
}

/* ---- reading ---- */

enum pl_err system_address_write(struct db_tx *tx, struct jw *w, const char *name, struct pl_uuid account_id, bool whole)
{
    struct pl_buf b = pl_buf_init(db_arena(tx), 512);
    struct pl_str email = PL_STR_NONE;
    enum pl_err e = pl_uuid_is_zero(account_id) ? PL_NOT_FOUND : account_email(tx, account_id, &email);
    if (e != PL_OK && e != PL_NOT_FOUND)
        return e;
    if (email.p && !whole) {
        pin_mask(&b, email);
        email = pl_buf_view(&b);
    }
    jw_str(w, name, email);
    return PL_OK;
}

/* Who does not bring people in sees of others' addresses only so much that they can be told apart. */
static enum pl_err write_member(struct http_call *c, const struct system_sql_members_row *m, bool whole)
{
    struct jw *w = &c->out;
    bool you = pl_uuid_eq(m->account_id, c->actor.account_id);
    jw_uuid(w, "member_id", m->id);
    jw_bool(w, "you", you);
    jw_str(w, "role", m->role);
    jw_utc(w, "since", m->since);
    if (m->expires_at.us)
        jw_utc(w, "expires_at", m->expires_at);
    else
        jw_null(w, "expires_at");
    enum pl_err e = system_address_write(c->tx, w, "email", m->account_id, whole || you);
    return e == PL_OK ? system_address_write(c->tx, w, "invited_by", m->by_id, whole || pl_uuid_eq(m->by_id, c->actor.account_id)) : e;
}

enum pl_err system_on_members(struct http_call *c, struct pl_fail *reterr)
{
    struct system_sql_members_row *rows;
    struct system_row system;
    struct pl_uuid id;
    size_t n;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e != PL_OK || (e = system_may(c->tx, c->now, &c->actor, id, SYSTEM_SEE, &system, reterr)) != PL_OK || (e = system_sql_members(c->tx, id, &rows, &n)) != PL_OK)
        return e;
    bool whole = system_role_may(system.role, SYSTEM_GUESTS);
    jw_array(&c->out, "members");
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        if (rows[i].expires_at.us && pl_utc_cmp(rows[i].expires_at, c->now) <= 0)
            continue;
        jw_open(&c->out, NULL);
        e = write_member(c, &rows[i], whole);
        jw_close(&c->out);
    }
    jw_end_array(&c->out);
    jw_array(&c->out, "invitations");
    if (e == PL_OK && whole)
        e = system_invitations_write(c->tx, &c->out, id);
    jw_end_array(&c->out);
    return e;
}

/* ---- changing ---- */

/* The member of the path, in a system that the caller has taken. */
static enum pl_err find(struct http_call *c, struct system_row *ret_system, struct system_sql_members_row *ret, struct pl_fail *reterr)
{
    struct system_sql_member_find_row r;
    struct pl_uuid id, member;
    enum pl_err e = http_param_uuid(c, "id", &id);
    if (e != PL_OK || (e = http_param_uuid(c, "member", &member)) != PL_OK ||
        (e = system_take(c->tx, c->now, &c->actor, id, SYSTEM_SEE, ret_system, reterr)) != PL_OK || (e = system_sql_member_find(c->tx, id, member, &r, NULL)) != PL_OK)
        return e;
    *ret = (struct system_sql_members_row){ r.account_id, r.id, r.role, r.by_id, r.since, r.expires_at };
    return PL_OK;
}

/* Is there an owner beside this account? */
static enum pl_err other_owner(struct db_tx *tx, struct pl_uuid system_id, struct pl_uuid account_id, struct pl_uuid *ret)
{
    struct system_sql_members_row *rows;
    size_t n;
    enum pl_err e = system_sql_members(tx, system_id, &rows, &n);
    struct pl_utc oldest = { INT64_MAX };
    *ret = (struct pl_uuid){ { 0 } };
    for (size_t i = 0; e == PL_OK && i < n; i++)
        if (!pl_uuid_eq(rows[i].account_id, account_id) && system_role_of(rows[i].role) == SYSTEM_OWNER && pl_utc_cmp(rows[i].since, oldest) < 0) {
            *ret = rows[i].account_id;
            oldest = rows[i].since;
        }
    return e;
}

static enum pl_err keep_an_owner(struct db_tx *tx, struct pl_uuid system_id, const struct system_sql_members_row *m)
{
    struct pl_uuid other;
    enum pl_err e = system_role_of(m->role) == SYSTEM_OWNER ? other_owner(tx, system_id, m->account_id, &other) : PL_OK;
    if (e != PL_OK || system_role_of(m->role) != SYSTEM_OWNER)
        return e;
    return pl_uuid_is_zero(other) ? PL_LAST_OWNER : PL_OK;
}

/* What every loss of rights leaves behind: what is running is looked at, and invitations of one who may not invite any more are void. */
static enum pl_err lost_rights(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_uuid system_id, struct pl_uuid account_id)
{
    enum pl_err e = system_sql_invitations_drop_by(tx, system_id, account_id, NULL);
    return e == PL_OK ? journal_fact(tx, rand, now, JOURNAL_MEMBER_CHANGED, account_id, system_id, PL_STR("{}")) : e;
}

/* The home is an owner's: its name for the system counts among that account's, and its rows go with it (S-S6). */
static enum pl_err home_goes_on(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, const struct system_row *system, struct pl_uuid account_id)
{
    return pl_uuid_eq(account_id, system->home_id) ? journal_fact(tx, rand, now, JOURNAL_SYSTEM_LEFT, system->home_id, system->id, PL_STR("{}")) : PL_OK;
}

const struct json_field system_member_fields[] = { JSON_F(struct system_member_body, role, J_ENUM, J_REQUIRED, .words = system_role_names),
                                                   JSON_F(struct system_member_body, expires_at, J_TIME, J_OPTIONAL), J_END };

static enum pl_err check_change(struct http_call *c, const struct system_row *system, const struct system_sql_members_row *m, struct pl_fail *reterr)
{
    const struct system_member_body *b = c->body;
    enum system_role old = system_role_of(m->role), new = (enum system_role)b->role;
    bool self = pl_uuid_eq(m->account_id, c->actor.account_id);
    /* Everybody may make themselves smaller. */
    if (!(self && new <= old) && !(system_role_over(system->role, old) && system_role_over(system->role, new)))
        return pl_fail(reterr, PL_FORBIDDEN, "You are a %s of this system: that role does not allow this.", system_role_names[system->role]);
    if (b->expires_at.us && (new == SYSTEM_OWNER || pl_utc_cmp(b->expires_at, c->now) <= 0))
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "expires_at", "expires_at: a time to come is expected; an owner's membership does not end.");
    if (!system_role_over(system->role, old) && m->expires_at.us && pl_utc_cmp(b->expires_at, m->expires_at) > 0)
        return pl_fail(reterr, PL_FORBIDDEN, "Nobody lengthens their own membership.");
    enum pl_err e = new < old ? keep_an_owner(c->tx, system->id, m) : PL_OK;
    return e == PL_OK && new != old && (new == SYSTEM_OWNER || (old == SYSTEM_OWNER && !self)) ? system_step_up(c) : e;
}

static enum pl_err tell_change(struct http_call *c, const struct system_row *system, const struct system_sql_members_row *m, enum system_role new)
{
    static const char *const words[SYSTEM_ROLES] = { "is_viewer", "is_talker", "is_manager", "is_owner" };
    const struct system_ctx *ctx = c->self;
    struct pl_str who = PL_STR("?");
    enum pl_err e = account_email(c->tx, m->account_id, &who);
    if (e != PL_OK && e != PL_NOT_FOUND)
        return e;
    return system_tell_sharing(ctx->account, c->tx, c->now, system, who, words[new], new == SYSTEM_OWNER ? (struct pl_uuid){ { 0 } } : m->account_id);
}

enum pl_err system_on_member_change(struct http_call *c, struct pl_fail *reterr)
{
    const struct system_member_body *b = c->body;
    struct system_sql_members_row m;
    struct system_row system;
    enum pl_err e = find(c, &system, &m, reterr);
    if (e != PL_OK || (e = check_change(c, &system, &m, reterr)) != PL_OK)
        return e;
    enum system_role old = system_role_of(m.role), new = (enum system_role)b->role;
    struct pl_utc until = new == SYSTEM_OWNER ? (struct pl_utc){ 0 } : b->expires_at.us ? b->expires_at : m.expires_at;
    if ((e = system_sql_member_set(c->tx, m.account_id, system.id, pl_str_of(system_role_names[new]), until, NULL)) != PL_OK ||
        (new < old && (e = lost_rights(c->tx, c->rand, c->now, system.id, m.account_id)) != PL_OK) ||
        (new < SYSTEM_OWNER && (e = home_goes_on(c->tx, c->rand, c->now, &system, m.account_id)) != PL_OK) ||
        (new != old && (e = tell_change(c, &system, &m, new)) != PL_OK) ||
        (e = system_audit(c->tx, c->now, system.id, m.account_id, c->actor.client_id, "member.changed", m.id, new)) != PL_OK ||
        (e = system_say(c->tx, c->now, system.id, &(struct system_said){ .type = "member.changed", .what = "member_id", .id = m.id, .role = new, .right = SYSTEM_SEE })) != PL_OK)
        return e;
    http_after(c, system_told, c->self);
    m.role = pl_str_of(system_role_names[new]);
    m.expires_at = until;
    return write_member(c, &m, system_role_may(system.role, SYSTEM_GUESTS));
}

/* ---- ending ---- */

/* Ends a membership, whoever asks; the system is taken. `why`: removed, left, expired, account_deleted. */
static enum pl_err end(struct system_ctx *ctx, struct db_tx *tx, struct pl_utc now, const struct system_row *system, const struct system_sql_members_row *m, struct pl_uuid actor,
                       const char *why)
{
    struct pl_str who = PL_STR("?");
    enum pl_err e = account_email(tx, m->account_id, &who);
    if (e != PL_OK && e != PL_NOT_FOUND)
        return e;
    /* Said while it is a member yet: it hears of it. */
    if ((e = system_say(tx, now, system->id, &(struct system_said){ .type = "member.removed", .what = "member_id", .id = m->id, .word = "why", .value = why, .role = SYSTEM_ROLES,
                                                                    .right = SYSTEM_SEE })) != PL_OK ||
        (e = system_sql_member_drop(tx, m->account_id, system->id, NULL)) != PL_OK || (e = lost_rights(tx, ctx->rand, now, system->id, m->account_id)) != PL_OK ||
        (e = system_audit(tx, now, system->id, m->account_id, actor, "member.removed", m->id, SYSTEM_ROLES)) != PL_OK ||
        (e = system_tell_sharing(ctx->account, tx, now, system, who, why, m->account_id)) != PL_OK)
        return e;
    return home_goes_on(tx, ctx->rand, now, system, m->account_id);
}

enum pl_err system_on_member_delete(struct http_call *c, struct pl_fail *reterr)
{
    struct system_sql_members_row m;
    struct system_row system;
    enum pl_err e = find(c, &system, &m, reterr);
    if (e != PL_OK)
        return e;
    bool self = pl_uuid_eq(m.account_id, c->actor.account_id);
    enum system_role role = system_role_of(m.role);
    if (!self && !system_role_over(system.role, role))
        return pl_fail(reterr, PL_FORBIDDEN, "You are a %s of this system: that role does not allow this.", system_role_names[system.role]);
    if ((e = keep_an_owner(c->tx, system.id, &m)) != PL_OK || (!self && role == SYSTEM_OWNER && (e = system_step_up(c)) != PL_OK) ||
        (e = end(c->self, c->tx, c->now, &system, &m, c->actor.client_id, self ? "left" : "removed")) != PL_OK)
        return e;
    http_after(c, system_told, c->self);
    return PL_OK;
}

/* One membership of an account, the system taken. PL_NOT_FOUND: it ended meanwhile. */
static enum pl_err take_member(struct db_tx *tx, struct pl_uuid home_id, struct pl_uuid system_id, struct pl_uuid account_id, struct system_row *ret_system,
                               struct system_sql_members_row *ret)
{
    struct system_sql_members_row *rows;
    size_t n;
    enum pl_err e = system_lock(tx, home_id, system_id, ret_system);
    if (e != PL_OK || (e = system_sql_members(tx, system_id, &rows, &n)) != PL_OK)
        return e;
    for (size_t i = 0; i < n; i++)
        if (pl_uuid_eq(rows[i].account_id, account_id)) {
            *ret = rows[i];
            return PL_OK;
        }
    return PL_NOT_FOUND;
}

enum pl_err system_expire(struct system_ctx *ctx, struct db_tx *tx, struct pl_utc now, bool *ret_any)
{
    struct system_sql_members_late_row *rows;
    struct system_sql_members_row m;
    struct system_row system;
    size_t n;
    enum pl_err e = system_sql_members_late(tx, now, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        e = take_member(tx, rows[i].home_id, rows[i].system_id, rows[i].account_id, &system, &m);
        if (e == PL_NOT_FOUND || (e == PL_OK && (!m.expires_at.us || pl_utc_cmp(m.expires_at, now) > 0))) {
            e = PL_OK; /* another node came first, or it was given more time */
            continue;
        }
        if (e == PL_OK && (e = end(ctx, tx, now, &system, &m, (struct pl_uuid){ { 0 } }, "expired")) == PL_OK)
            *ret_any = true;
    }
    return e == PL_OK ? system_sql_invitations_expire(tx, pl_utc_add(now, -PL_DAY), NULL) : e;
}

void system_told(void *ctx)
{
    const struct system_ctx *s = ctx;
    bus_nudge(s->bus, "facts");
    notify_wake(account_notify(s->account));
}

/* ---- accounts that go, homes that move ---- */

enum pl_err system_account_deleted(struct system_ctx *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct system_row **ret, size_t *ret_n)
{
    struct system_sql_of_account_row *rows;
    struct system_sql_members_row m;
    struct system_row system;
    struct pl_uuid other;
    size_t n;
    enum pl_err e = system_sql_of_account(tx, account_id, &rows, &n);
    *ret = e == PL_OK ? PL_NEW_ARRAY(db_arena(tx), n + 1, struct system_row) : NULL;
    *ret_n = 0;
    if (e != PL_OK || !*ret)
        return e == PL_OK ? PL_NO_MEMORY : e;
    for (size_t i = 0; e == PL_OK && i < n; i++) {
        if ((e = take_member(tx, rows[i].home_id, rows[i].system_id, account_id, &system, &m)) != PL_OK || (e = other_owner(tx, system.id, account_id, &other)) != PL_OK)
            return e == PL_NOT_FOUND ? PL_RETRY : e; /* it moved meanwhile */
        if (system_role_of(m.role) == SYSTEM_OWNER && pl_uuid_is_zero(other))
            (*ret)[(*ret_n)++] = system;
        else
            e = end(ctx, tx, now, &system, &m, (struct pl_uuid){ { 0 } }, "account_deleted");
    }
    if (e == PL_OK)
        e = system_sql_forget_by(tx, account_id, NULL);
    return e == PL_OK ? system_sql_invitations_drop_by(tx, (struct pl_uuid){ { 0 } }, account_id, NULL) : e;
}

enum pl_err system_tell_deleted(struct account *account, struct db_tx *tx, struct pl_utc now, const struct system_row *system, struct pl_uuid but)
{
    struct system_sql_members_row *rows;
    size_t n;
    const struct notify_message m = { .kind = NOTIFY_SHARING, .about = PL_STR("system_deleted"), .name = system->name };
    enum pl_err e = system_sql_members(tx, system->id, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        if (!pl_uuid_eq(rows[i].account_id, but))
            e = tell(account, tx, now, rows[i].account_id, &m);
    return e;
}

/* "Home" is taken there? "Home 2", "Home 3", … */
static enum pl_err free_name(struct db_tx *tx, struct pl_uuid home_id, struct pl_str wanted, struct pl_str *ret)
{
    struct system_sql_name_taken_row r;
    bool taken = true;
    enum pl_err e = PL_OK;
    *ret = wanted;
    for (int i = 2; e == PL_OK && taken; i++) {
        if ((e = system_sql_name_taken(tx, home_id, *ret, &r, &taken)) == PL_OK && taken) {
            *ret = pl_fmt(db_arena(tx), "%.*s %d", PL_FMT(wanted), i);
            e = ret->p ? PL_OK : PL_NO_MEMORY;
        }
    }
    return e;
}

enum pl_err system_move_home(struct db_tx *tx, struct pl_utc now, struct pl_uuid home_id, struct pl_uuid id, struct pl_uuid *ret_to)
{
    struct system_row system;
    struct pl_str name;
    enum pl_err e = system_lock(tx, home_id, id, &system);
    *ret_to = (struct pl_uuid){ { 0 } };
    if (e == PL_NOT_FOUND)
        return PL_OK; /* deleted, or moved before */
    if (e != PL_OK || (e = other_owner(tx, id, home_id, ret_to)) != PL_OK || pl_uuid_is_zero(*ret_to))
        return e;
    if ((e = free_name(tx, *ret_to, system.name, &name)) != PL_OK || (e = system_sql_move(tx, home_id, id, *ret_to, name, NULL)) != PL_OK ||
        (e = system_sql_move_members(tx, id, *ret_to, NULL)) != PL_OK || (e = system_sql_move_invitations(tx, id, *ret_to, NULL)) != PL_OK)
        return e;
    return pl_str_eq(name, system.name) ? PL_OK : system_event_named(tx, now, "system.renamed", id, name);
}
