/* live_export.c - what an account may take with it of the live views that it opened, in its own systems and others': which camera, by which client, from when to when. */
#include "live.h"
#include "live_sql.h"

static void write_one(struct jw *w, const struct live_sql_past_row *s)
{
    jw_open(w, NULL);
    jw_uuid(w, "live_id", s->id);
    jw_uuid(w, "device_id", s->device_id);
    jw_str(w, "serial", s->camera_serial);
    jw_uuid(w, "client_id", s->client_id);
    jw_str(w, "state", s->state);
    jw_str(w, "end_code", s->end_code);
    jw_utc(w, "created_at", s->created_at);
    jw_utc(w, "ended_at", s->ended_at);
    jw_close(w);
}

enum pl_err live_write_export(struct db_tx *tx, struct jw *w, struct pl_utc now, struct pl_uuid account_id)
{
    struct live_sql_past_row *rows;
    struct pl_uuid after = { { 0 } };
    size_t n = 1;
    enum pl_err e = PL_OK;
    (void)now;
    jw_array(w, "sessions");
    while (n > 0 && (e = live_sql_past(tx, account_id, after, &rows, &n)) == PL_OK)
        for (size_t i = 0; i < n; i++) {
            write_one(w, &rows[i]);
            after = rows[i].id;
        }
    jw_end_array(w);
    return e;
}
