/* system.h - systems: named groups of devices, and who may do what with them.
 *
 * A system has members, each an account with a role: viewer (sees devices and live view), talker (also talks), manager (also adds, renames and sets up devices, and brings
 * viewers and talkers in), owner (also brings in managers and owners, deletes). Which role has which right stands in one table (system.c), and every route asks it through
 * system_may, system_take or system_hold: to a stranger, and to a token for other systems, a system is not there (PL_NOT_FOUND), a member whose role is too small gets
 * PL_FORBIDDEN. A system always has an owner. The rows of a system and of what is in it stand under one account, its home, which is an owner's; the home says nothing about rights.
 * When that owner leaves, is removed, or owns it no more, the rows move within seconds to the owner who has been one the longest.
 * A membership is offered by e-mail to one address (system_invite.c) and ends by removal, by leaving, by its time, or with the account; what is running then is cut within 2 s.
 * System names are unique in an account; "Home" and "home" are one name (system_name_taken). An account has any number of systems, within a ceiling that only
 * guards the machine (SYSTEM_MOST). A system is made and renamed here; what stands in it is device's, which therefore also offers its deletion.
 * Not here: devices, slots, DELETE of a system, /v1/home (device.h).
 * Threads: any, state is in PostgreSQL.  Memory: outputs live in the transaction's arena.
 *     e = system_may(tx, now, &c->actor, system_id, SYSTEM_MANAGE, &system, reterr);      then use system.home_id wherever rows are asked for by account
 */
#pragma once
#include "account.h"
#include "bus.h"
#include "http.h"

#define SYSTEM_MOST 200        /* systems of an account */
#define SYSTEM_MEMBERS_MOST 20 /* members and invitations of a system */

struct system_ctx {
    struct bus *bus;
    struct pl_rand *rand;
    struct account *account;
    const struct limit_settings *limits;
};
extern const struct http_route system_routes[]; /* self: struct system_ctx */

enum system_role { SYSTEM_VIEWER, SYSTEM_TALKER, SYSTEM_MANAGER, SYSTEM_OWNER, SYSTEM_ROLES };
extern const char *const system_role_names[SYSTEM_ROLES + 1]; /* NULL at the end: serves as J_ENUM words */
enum system_right {
    SYSTEM_SEE,    /**< devices and their state, members, events */
    SYSTEM_WATCH,  /**< live view */
    SYSTEM_TALK,   /**< through a camera's speaker */
    SYSTEM_MANAGE, /**< add, rename, set up, command devices; rename the system */
    SYSTEM_GUESTS, /**< bring in, change and remove viewers and talkers */
    SYSTEM_OWN,    /**< delete devices, hub and system; all members */
    SYSTEM_RIGHTS
};
bool system_role_may(enum system_role role, enum system_right right);

struct system_row {
    struct pl_uuid id, home_id; /**< home_id: the account under which its rows stand */
    struct pl_str name;
    struct pl_utc created_at;
    enum system_role role; /**< of the account that was asked for */
};
/* May who asks do that with the system? PL_NOT_FOUND: not a member, or a token for other systems (account_sees). PL_FORBIDDEN: the role does not allow it. */
PL_MUST enum pl_err system_may(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid id, enum system_right right, struct system_row *ret, struct pl_fail *reterr);
/* The same, and holds the system until the end of the transaction: whoever takes or frees a slot of it, or changes its members, does this first. */
PL_MUST enum pl_err system_take(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid id, enum system_right right, struct system_row *ret, struct pl_fail *reterr);
/* For what is granted and outlives its call: until the end of the transaction the right is not taken away, and whoever takes it afterwards sees what was written. */
PL_MUST enum pl_err system_hold(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid id, enum system_right right, struct pl_fail *reterr);
/* Holds the system, whoever asks; *ret without a role. PL_NOT_FOUND: there is none. */
PL_MUST enum pl_err system_lock(struct db_tx *tx, struct pl_uuid home_id, struct pl_uuid id, struct system_row *ret);
/* Those that who asks is a member of and sees. Oldest first. */
PL_MUST enum pl_err system_list(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct system_row **ret, size_t *ret_n);
/* At most `most` (201) of those behind `after`, oldest first. */
PL_MUST enum pl_err system_page(struct db_tx *tx, struct pl_utc now, const struct http_actor *who, struct pl_uuid after, int32_t most, struct system_row **ret, size_t *ret_n);
/* Makes a system, whose owner the account is. PL_SYSTEM_NAME_TAKEN; PL_INVALID_REQUEST for a blank name. */
PL_MUST enum pl_err system_add(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_uuid account_id, struct pl_str name, struct system_row *ret, struct pl_fail *reterr);
/* Renames what the caller has taken. As system_add. */
PL_MUST enum pl_err system_rename(struct db_tx *tx, struct pl_utc now, struct system_row *system, struct pl_str name, struct pl_fail *reterr);
/* Deletes the row and its memberships, writes event and fact. The caller has freed its devices in this transaction. */
PL_MUST enum pl_err system_delete(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_uuid home_id, struct pl_uuid id);
/* Is the account a member of it? PL_NOT_FOUND. For account, which stands below. */
PL_MUST enum pl_err system_is_member(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid id);
/* An event about the system for each member who has that right. The caller nudges the home account after the commit; the sockets of all members listen to it. */
PL_MUST enum pl_err system_event(struct db_tx *tx, struct pl_utc now, struct pl_uuid id, enum system_right right, const char *type, struct pl_str data);

/* Puts an e-mail to each owner into the outbox; after the commit call notify_wake. */
PL_MUST enum pl_err system_tell_owners(struct account *account, struct db_tx *tx, struct pl_utc now, struct pl_uuid id, enum notify_kind kind, struct pl_str about);

/* To all members but one: the system is being deleted. */
PL_MUST enum pl_err system_tell_deleted(struct account *account, struct db_tx *tx, struct pl_utc now, const struct system_row *system, struct pl_uuid but);

/* Job, once a second: ends memberships past their time, forgets invitations long past theirs. *ret_any: one ended; after the commit system_told. */
PL_MUST enum pl_err system_expire(struct system_ctx *ctx, struct db_tx *tx, struct pl_utc now, bool *ret_any);
/* Facts and outbox are looked at. As http_after's work, too. */
void system_told(void *ctx);
/* Of the fact: ends the memberships of the account. *ret: the systems, held, that have no owner without it, and therefore end: the caller frees their devices. */
PL_MUST enum pl_err system_account_deleted(struct system_ctx *ctx, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct system_row **ret, size_t *ret_n);
/* For the account's export: writes members "memberships", of all systems it is in, and "invitations", those that it made and nobody has answered. */
PL_MUST enum pl_err system_write_export(struct db_tx *tx, struct jw *w, struct pl_utc now, struct pl_uuid account_id);
/* Of JOURNAL_SYSTEM_LEFT: the oldest of its other owners becomes its home; a name that is taken there gets a number. *ret_to zero: nothing is to be moved. */
PL_MUST enum pl_err system_move_home(struct db_tx *tx, struct pl_utc now, struct pl_uuid home_id, struct pl_uuid id, struct pl_uuid *ret_to);

/* The state that PATCH changes, for ETag and If-Match. */
struct pl_str system_tag(struct pl_arena *a, const struct system_row *s);
/* Members of the system resource: id, name, role, created_at. */
void system_write(struct jw *w, const struct system_row *s);
