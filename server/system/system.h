/* system.h - systems: named groups of devices of one account.
 *
 * System names are unique in an account; "Home" and "home" are one name (system_name_taken). An account has any number of systems, within a ceiling that only
 * guards the machine (SYSTEM_MOST). A system is made and renamed here; what stands in it is device's, which therefore also offers its deletion.
 * Not here: devices, slots, DELETE of a system, /v1/home (device.h).
 * Threads: any, state is in PostgreSQL.  Memory: outputs live in the transaction's arena.
 *     e = system_lock(tx, account_id, system_id, &system);
 */
#pragma once
#include "bus.h"
#include "http.h"

#define SYSTEM_MOST 200 /* systems of an account */

struct system_ctx {
    struct bus *bus;
};
extern const struct http_route system_routes[]; /* self: struct system_ctx */

struct system_row {
    struct pl_uuid id;
    struct pl_str name;
    struct pl_utc created_at;
};
/* PL_NOT_FOUND: not this account's. */
PL_MUST enum pl_err system_find(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid id, struct system_row *ret);
/* The same, and holds the row until the end of the transaction: whoever takes or frees a slot of the system does this first. */
PL_MUST enum pl_err system_lock(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid id, struct system_row *ret);
/* Oldest first. */
PL_MUST enum pl_err system_list(struct db_tx *tx, struct pl_uuid account_id, struct system_row **ret, size_t *ret_n);
/* At most `most` (201) of those behind `after`, oldest first. */
PL_MUST enum pl_err system_page(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid after, int32_t most, struct system_row **ret, size_t *ret_n);
/* Makes a system. PL_SYSTEM_NAME_TAKEN; PL_INVALID_REQUEST for a blank name. */
PL_MUST enum pl_err system_add(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_uuid account_id, struct pl_str name, struct system_row *ret, struct pl_fail *reterr);
/* PL_NOT_FOUND, and as system_add. */
PL_MUST enum pl_err system_rename(struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid id, struct pl_str name, struct system_row *ret, struct pl_fail *reterr);
/* Deletes the row, writes event and fact. The caller has freed its devices in this transaction. */
PL_MUST enum pl_err system_delete(struct db_tx *tx, struct pl_rand *rand, struct pl_utc now, struct pl_uuid account_id, struct pl_uuid id);

/* The state that PATCH changes, for ETag and If-Match. */
struct pl_str system_tag(struct pl_arena *a, const struct system_row *s);
/* Members of the system resource: id, name, created_at. */
void system_write(struct jw *w, const struct system_row *s);
/* After the commit of something that wrote an event: the apps of the account look (bus subject "account.<id>"). */
void system_nudge_account(struct bus *bus, struct pl_uuid account_id);
/* The same as the work of http_after. */
PL_MUST enum pl_err system_nudge_after(struct http_call *c, struct bus *bus);
