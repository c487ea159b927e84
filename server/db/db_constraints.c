#include "db_int.h"

/* Constraint names (tables, columns and rules are named in migrations/) and what it means to the caller when one refuses a row. A constraint that is not
 * here refuses what the code should not have tried: PL_INTERNAL, logged. Each part of the house keeps its rows together. */
static const struct constraint_row {
    const char *name;
    enum pl_err err;
} constraint_rows[] = {
    /* db: two processes apply the first migration at once; the later one looks again. */
    { "pg_type_typname_nsp_index", PL_RETRY },
    { "pg_class_relname_nsp_index", PL_RETRY },

    /* notify */

    /* pin */
    { "challenge_tries_check", PL_PIN_EXHAUSTED },
    { "challenge_sends_check", PL_RESEND_EXHAUSTED },

    /* factor: two passkeys are added at once */
    { "factor_passkey_slot", PL_RETRY },

    /* account */

    /* system */
    { "system_name_key", PL_SYSTEM_NAME_TAKEN },

    /* device: slots and bindings are taken with ON CONFLICT; these end a race that got past that. */
    { "device_slot_key", PL_RETRY },
    { "device_slot_device_key", PL_RETRY },
    { "device_binding_key", PL_RETRY },

    /* admin: a name that was invited anew while its admin came to be */
    { "admin_name", PL_ADMIN_NAME_TAKEN },

    /* live: two phones start the same camera at once; the later one joins. */
    { "live_one_per_device", PL_RETRY },

};

/* SQLSTATE, or its first two characters for a whole class; the first row that fits counts. */
static const struct state_row {
    const char *state;
    enum pl_err err;
    bool lost;
} state_rows[] = {
    { "40001", PL_RETRY, false },           /* serialization_failure */
    { "40P01", PL_RETRY, false },           /* deadlock_detected */
    { "55P03", PL_RETRY, false },           /* lock_not_available */
    { "42P07", PL_RETRY, false },           /* duplicate_table: see pg_type_typname_nsp_index */
    { "42710", PL_RETRY, false },           /* duplicate_object: the same race, seen a moment earlier */
    { "0A000", PL_RETRY, true },            /* "cached plan must not change result type": the schema changed under a prepared statement */
    { "26000", PL_RETRY, true },            /* the server does not know our prepared statement: a pooler gave us another session */
    { "25006", PL_UNAVAILABLE, true },      /* read_only_sql_transaction: connected to a standby after a fail-over */
    { "25P03", PL_UNAVAILABLE, true },      /* idle_in_transaction_session_timeout */
    { "57014", PL_UNAVAILABLE, false },     /* query_canceled: the statement timeout */
    { "57", PL_UNAVAILABLE, true },         /* operator intervention: shutdown, crash, cannot connect now */
    { "08", PL_UNAVAILABLE, true },         /* connection exception */
    { "53", PL_UNAVAILABLE, false },        /* disk full, out of memory, too many connections */
    { "58", PL_UNAVAILABLE, false },        /* system error, I/O */
    { "22021", PL_INVALID_REQUEST, false }, /* text that is not UTF-8, or holds a zero byte */
    { "22P05", PL_INVALID_REQUEST, false }, /* \u0000 in JSON */
};

static enum pl_err of_constraint(const char *name)
{
    for (size_t i = 0; name && i < PL_COUNT(constraint_rows); i++)
        if (strcmp(constraint_rows[i].name, name) == 0)
            return constraint_rows[i].err;
    return PL_INTERNAL;
}

enum pl_err db_error_of(const char *sqlstate, const char *constraint, bool *ret_lost)
{
    *ret_lost = false;
    if (strncmp(sqlstate, "23", 2) == 0)
        return of_constraint(constraint);
    for (size_t i = 0; i < PL_COUNT(state_rows); i++)
        if (strncmp(sqlstate, state_rows[i].state, strlen(state_rows[i].state)) == 0) {
            *ret_lost = state_rows[i].lost;
            return state_rows[i].err;
        }
    return PL_INTERNAL;
}
