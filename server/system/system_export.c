/* system_export.c - what an account may take with it of sharing: where it is a member, in which role, since when and by whom, and whom it has invited. Of the others it says
 * what they let it see. */
#include "system_priv.h"

static void write_end(struct jw *w, const char *name, struct pl_utc at)
{
    if (at.us)
        jw_utc(w, name, at);
    else
        jw_null(w, name);
}

static enum pl_err write_membership(struct db_tx *tx, struct jw *w, struct pl_uuid account_id, const struct system_sql_memberships_row *m)
{
    bool whole = system_role_may(system_role_of(m->role), SYSTEM_GUESTS) || pl_uuid_eq(m->by_id, account_id);
    jw_open(w, NULL);
    jw_uuid(w, "system_id", m->id);
    jw_str(w, "name", m->name);
    jw_uuid(w, "member_id", m->member_id);
    jw_str(w, "role", m->role);
    jw_utc(w, "since", m->since);
    write_end(w, "expires_at", m->expires_at);
    enum pl_err e = system_address_write(tx, w, "invited_by", m->by_id, whole);
    jw_close(w);
    return e;
}

static void write_invitation(struct jw *w, const struct system_sql_invitations_by_row *i)
{
    jw_open(w, NULL);
    jw_uuid(w, "id", i->id);
    jw_uuid(w, "system_id", i->system_id);
    jw_str(w, "email", i->email);
    jw_str(w, "role", i->role);
    jw_int(w, "sent_count", i->sends);
    jw_utc(w, "created_at", i->created_at);
    jw_utc(w, "expires_at", i->expires_at);
    write_end(w, "access_until", i->access_until);
    jw_close(w);
}

enum pl_err system_write_export(struct db_tx *tx, struct jw *w, struct pl_utc now, struct pl_uuid account_id)
{
    struct system_sql_memberships_row *memberships;
    struct system_sql_invitations_by_row *invitations;
    size_t n;
    enum pl_err e = system_sql_memberships(tx, account_id, now, &memberships, &n);
    jw_array(w, "memberships");
    for (size_t i = 0; e == PL_OK && i < n; i++)
        e = write_membership(tx, w, account_id, &memberships[i]);
    jw_end_array(w);
    if (e == PL_OK)
        e = system_sql_invitations_by(tx, account_id, &invitations, &n);
    jw_array(w, "invitations");
    for (size_t i = 0; e == PL_OK && i < n; i++)
        write_invitation(w, &invitations[i]);
    jw_end_array(w);
    return e;
}
