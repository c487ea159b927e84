/* admin_int.h - what the files of admin/ share. */
#pragma once
#include "admin.h"
#include "admin_sql.h"

/* Who calls: the machine's owner, over the Unix socket and without a credential; else an admin. */
bool admin_is_machine(const struct http_call *c);
/* The caller's call begins, as hooks.begin says it: for rows with a transaction of their own. */
PL_MUST enum pl_err admin_begin(const struct http_call *c, struct db_tx *tx);
/* The audit row of what the caller did: `action`, by whom, and one more member of its detail. */
PL_MUST enum pl_err admin_did(struct http_call *c, const char *action, const char *member, struct pl_str value);
