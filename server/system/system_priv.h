/* system_priv.h - private to system/: what its files share. */
#pragma once
#include "journal.h"
#include "system.h"
#include "system_sql.h"

#define SYSTEM_INVITATION_LIFE (7 * PL_DAY)

/* As a row says it. */
enum system_role system_role_of(struct pl_str name);
/* {system_id, name?} to all members. */
PL_MUST enum pl_err system_event_named(struct db_tx *tx, struct pl_utc now, const char *type, struct pl_uuid id, struct pl_str name);
/* May one of this role bring in, change and remove one of that role? */
bool system_role_over(enum system_role mine, enum system_role theirs);

/* Events of sharing: {system_id, <what>_id, <word>: value, role?}. role SYSTEM_ROLES: none. */
struct system_said {
    const char *type, *what, *word, *value;
    struct pl_uuid id;
    enum system_role role;
    enum system_right right; /**< who is told */
};
PL_MUST enum pl_err system_say(struct db_tx *tx, struct pl_utc now, struct pl_uuid system_id, const struct system_said *s);
/* The same words into the audit of the system, and of an account (zero: only the system's). */
PL_MUST enum pl_err system_audit(struct db_tx *tx, struct pl_utc now, struct pl_uuid system_id, struct pl_uuid account_id, struct pl_uuid actor, const char *action, struct pl_uuid id,
                                 enum system_role role);
/* E-mails about sharing, to the owners and to `also` (zero: nobody else). `what`: a word of NOTIFY_SHARING; `who`: an address. */
PL_MUST enum pl_err system_tell_sharing(struct account *account, struct db_tx *tx, struct pl_utc now, const struct system_row *system, struct pl_str who, const char *what,
                                        struct pl_uuid also);
/* A step-up grant for what makes or unmakes an owner. */
PL_MUST enum pl_err system_step_up(struct http_call *c);

/* Members of the invitation resource, as those see it who may take it back. */
PL_MUST enum pl_err system_invitations_write(struct db_tx *tx, struct jw *w, struct pl_uuid system_id);
/* POST /v1/systems/{id}/members */
struct system_invite_body {
    struct pl_str email;
    int role;
    struct pl_utc access_until; /* us 0: for good */
};
extern const struct json_field system_invite_fields[];
PL_MUST enum pl_err system_on_invite(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err system_on_invitation_again(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err system_on_invitation_delete(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err system_on_invitation(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err system_on_accept(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err system_on_decline(struct http_call *c, struct pl_fail *reterr);

/* The e-mail address of an account as member `name`: whole, or so much of it that people can be told apart. null: nobody, or nobody any more. */
PL_MUST enum pl_err system_address_write(struct db_tx *tx, struct jw *w, const char *name, struct pl_uuid account_id, bool whole);

/* system_member.c */
struct system_member_body {
    int role;
    struct pl_utc expires_at; /* us 0: as it is */
};
extern const struct json_field system_member_fields[];
PL_MUST enum pl_err system_on_members(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err system_on_member_change(struct http_call *c, struct pl_fail *reterr);
PL_MUST enum pl_err system_on_member_delete(struct http_call *c, struct pl_fail *reterr);
