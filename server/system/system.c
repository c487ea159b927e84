#include "system_priv.h"
#include <stdio.h>

const char *const system_role_names[SYSTEM_ROLES + 1] = { [SYSTEM_VIEWER] = "viewer", [SYSTEM_TALKER] = "talker", [SYSTEM_MANAGER] = "manager", [SYSTEM_OWNER] = "owner" };

/* Who may do what: the only place where a role is given a right. docs/app-developers.md shows it to people. */
static const bool rights[SYSTEM_RIGHTS][SYSTEM_ROLES] = {
    /*                  viewer talker manager owner */
    [SYSTEM_SEE]    = { true,  true,  true,   true },
    [SYSTEM_WATCH]  = { true,  true,  true,   true },
    [SYSTEM_TALK]   = { false, true,  true,   true },
    [SYSTEM_MANAGE] = { false, false, true,   true },
    [SYSTEM_GUESTS] = { false, false, true,   true },
    [SYSTEM_OWN]    = { false, false, false,  true },
};

bool system_role_may(enum system_role role, enum system_right right) { return rights[right][role]; }

enum system_role system_role_of(struct pl_str name)
{
    int role = SYSTEM_OWNER;
    while (role > SYSTEM_VIEWER && !pl_str_eqz(name, system_role_names[role]))
        role--;
    return (enum system_role)role;
}

static enum pl_err allow(enum system_role role, enum system_right right, struct pl_fail *reterr)
{
    if (system_role_may(role, right))
        return PL_OK;
    return pl_fail(reterr, PL_FORBIDDEN, "You are a %s of this system: that role does not allow this.", system_role_names[role]);
}

enum pl_err system_may(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid id, enum system_right right, struct system_row *ret, struct pl_fail *reterr)
{
    struct system_sql_may_row r;
    enum pl_err e = account_sees(who, id) ? system_sql_may(tx, who->account_id, id, now, &r, NULL) : PL_NOT_FOUND;
    if (e != PL_OK)
        return e;
    *ret = (struct system_row){ r.id, r.home_id, r.name, r.created_at, system_role_of(r.role) };
    return allow(ret->role, right, reterr);
}

enum pl_err system_is_member(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid id)
{
    struct system_row system;
    return system_may(tx, now, &(struct http_actor){ .account_id = account_id }, id, SYSTEM_SEE, &system, /* reterr= */ NULL);
}

/* Asked again behind the lock: who changed the members came first or waits. */
enum pl_err system_take(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid id, enum system_right right, struct system_row *ret, struct pl_fail *reterr)
{
    struct system_row before;
    enum pl_err e = system_may(tx, now, who, id, right, &before, reterr);
    if (e != PL_OK)
        return e;
    if ((e = system_lock(tx, before.home_id, id, ret)) != PL_OK)
        return e == PL_NOT_FOUND ? PL_RETRY : e; /* it moved to another home, or is gone: that is seen the next time */
    return system_may(tx, now, who, id, right, ret, reterr);
}

enum pl_err system_hold(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid id, enum system_right right, struct pl_fail *reterr)
{
    struct system_sql_hold_row r;
    enum pl_err e = account_sees(who, id) ? system_sql_hold(tx, who->account_id, id, now, &r, NULL) : PL_NOT_FOUND;
    return e == PL_OK ? allow(system_role_of(r.role), right, reterr) : e;
}

enum pl_err system_lock(struct db_tx *tx, struct pl_uuid home_id, struct pl_uuid id, struct system_row *ret)
{
    struct system_sql_lock_row r;
    enum pl_err e = system_sql_lock(tx, home_id, id, &r, NULL);
    if (e == PL_OK)
        *ret = (struct system_row){ .id = r.id, .home_id = home_id, .name = r.name, .created_at = r.created_at };
    return e;
}

/* Of a page those that the caller sees: whoever is given some systems only finds no others in any list. */
static size_t keep_seen(const struct http_actor *who, const struct system_sql_page_row *rows, size_t n, struct system_row *out, size_t room)
{
    size_t kept = 0;
    for (size_t i = 0; i < n && kept < room; i++)
        if (account_sees(who, rows[i].id))
            out[kept++] = (struct system_row){ rows[i].id, rows[i].home_id, rows[i].name, rows[i].created_at, system_role_of(rows[i].role) };
    return kept;
}

enum pl_err system_page(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid after, int32_t most, struct system_row **ret, size_t *ret_n)
{
    struct system_sql_page_row *rows;
    size_t n, kept = 0, room = (size_t)most;
    int32_t step = who->systems.p ? SYSTEM_MOST + 1 : most; /* whom some are kept from looks at all that there are, at once */
    struct system_row *out = PL_NEW_ARRAY(db_arena(tx), room, struct system_row);
    if (!out)
        return PL_NO_MEMORY;
    do {
        enum pl_err e = system_sql_page(tx, who->account_id, after, now, step, &rows, &n);
        if (e != PL_OK)
            return e;
        kept += keep_seen(who, rows, n, out + kept, room - kept);
        if (n)
            after = rows[n - 1].id;
    } while (n == (size_t)step && kept < room);
    *ret = out;
    *ret_n = kept;
    return PL_OK;
}

enum pl_err system_list(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct system_row **ret, size_t *ret_n)
{
    struct pl_uuid first = { { 0 } };
    return system_page(tx, now, who, first, SYSTEM_MOST + 1, ret, ret_n);
}

struct pl_str system_tag(struct pl_arena *a, const struct system_row *s) { return http_tag(a, s->name); }

enum pl_err system_event(struct db_tx *tx, struct pl_utc now, struct pl_uuid id, enum system_right right, const char *type, struct pl_str data)
{
    struct system_sql_members_row *rows;
    size_t n;
    enum pl_err e = system_sql_members(tx, id, &rows, &n);
    for (size_t i = 0; e == PL_OK && i < n; i++)
        if (system_role_may(system_role_of(rows[i].role), right) && (!rows[i].expires_at.us || pl_utc_cmp(rows[i].expires_at, now) > 0))
            e = journal_event(tx, now, rows[i].account_id, id, type, data);
    return e;
}

/* Events of systems: {system_id, name?}. */
enum pl_err system_event_named(struct db_tx *tx, struct pl_utc now, const char *type, struct pl_uuid id, struct pl_str name)
{
    struct pl_buf b = pl_buf_init(db_arena(tx), 2048);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_uuid(&w, "system_id", id);
    if (name.p)
        jw_str(&w, "name", name);
    jw_close(&w);
    enum pl_err e = pl_buf_err(&b);
    return e == PL_OK ? system_event(tx, now, id, SYSTEM_SEE, type, pl_buf_view(&b)) : e;
}

static enum pl_err check_name(struct pl_str *name, struct pl_fail *reterr)
{
    *name = pl_str_trim(*name);
    bool good = name->n > 0;
    for (size_t i = 0; i < name->n; i++)
        good = good && (unsigned char)name->p[i] >= ' ' && name->p[i] != 0x7f;
    return good ? PL_OK : pl_fail_field(reterr, PL_INVALID_REQUEST, "name", "name: some letters are expected, and no control characters");
}

enum pl_err system_add(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_uuid account_id, struct pl_str name, struct system_row *ret, struct pl_fail *reterr)
{
    struct system_sql_add_row r;
    struct pl_uuid id = pl_uuid7(rand, now);
    bool found;
    enum pl_err e = check_name(&name, reterr);
    if (e != PL_OK || (e = system_sql_add(tx, account_id, id, name, now, SYSTEM_MOST, &r, &found)) != PL_OK)
        return e;
    if (!found)
        return pl_fail(reterr, PL_RATE_LIMITED, "An account has at most %d systems.", SYSTEM_MOST);
    if ((e = system_sql_member_add(tx, account_id, id, account_id, pl_uuid7(rand, now), pl_str_of(system_role_names[SYSTEM_OWNER]), (struct pl_uuid){ { 0 } }, now,
                                   (struct pl_utc){ 0 }, NULL)) != PL_OK ||
        (e = system_event_named(tx, now, "system.created", id, name)) != PL_OK)
        return e;
    *ret = (struct system_row){ id, account_id, name, now, SYSTEM_OWNER };
    return PL_OK;
}

enum pl_err system_rename(struct db_tx *tx, struct pl_utc now, struct system_row *system, struct pl_str name, struct pl_fail *reterr)
{
    struct system_sql_rename_row r;
    enum pl_err e = check_name(&name, reterr);
    if (e != PL_OK || (e = system_sql_rename(tx, system->home_id, system->id, name, &r, NULL)) != PL_OK || (e = system_event_named(tx, now, "system.renamed", system->id, name)) != PL_OK)
        return e;
    system->name = r.name;
    return PL_OK;
}

enum pl_err system_delete(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_uuid home_id, struct pl_uuid id)
{
    int64_t n;
    enum pl_err e = system_sql_drop(tx, home_id, id, &n);
    if (e != PL_OK || (e = n == 1 ? PL_OK : PL_NOT_FOUND) != PL_OK || (e = system_event_named(tx, now, "system.deleted", id, PL_STR_NONE)) != PL_OK ||
        (e = system_sql_members_drop(tx, id, NULL)) != PL_OK ||
        (e = system_sql_invitations_drop(tx, id, NULL)) != PL_OK)
        return e;
    return journal_fact(tx, rand, now, JOURNAL_SYSTEM_DELETED, home_id, id, PL_STR("{}"));
}

void system_write(struct jw *w, const struct system_row *s)
{
    jw_uuid(w, "id", s->id);
    jw_str(w, "name", s->name);
    jw_z(w, "role", system_role_names[s->role]);
    jw_utc(w, "created_at", s->created_at);
}
