/* state.h - what a hub must not forget when its power goes: whose it is, which cameras it has paired, how often it was reset, whether it was switched off cleanly.
 *
 * One small JSON file, replaced as a whole (written beside, synced, renamed), so that it is the old one or the new one and never half of either. Keys of media
 * sessions never go in: a hub that restarts gets fresh ones (S-M6). Not here: the factory key, which no reset touches.
 * Threads: one at a time.  Memory: a plain struct.
 *     e = state_load(path, &state, &fail);
 *     state.bound = true;
 *     e = state_save(path, &state, &fail);
 */
#pragma once
#include "str.h"

enum { STATE_CAMERAS = 10, STATE_SERIAL = 33 };

struct hub_state {
    bool bound;          /**< this hub has completed a claim */
    bool clean;          /**< the last run ended as it should */
    int64_t reset_count; /**< factory resets in its life */
    char cameras[STATE_CAMERAS][STATE_SERIAL]; /**< paired; "": free place */
};

/* A file that is not there is a new hub: *ret_new, all zero and clean. path NULL: the same, nothing is kept. PL_IO, PL_INVALID_REQUEST. */
PL_MUST enum pl_err state_load(const char *path, struct hub_state *ret, bool *ret_new, struct pl_fail *reterr);
/* path NULL: does nothing. PL_IO with the reason. */
PL_MUST enum pl_err state_save(const char *path, const struct hub_state *s, struct pl_fail *reterr);

bool state_has_camera(const struct hub_state *s, struct pl_str serial);
/* Known already: nothing. No place: forgotten, as the cloud allows no more than ten. */
void state_add_camera(struct hub_state *s, struct pl_str serial);
void state_drop_camera(struct hub_state *s, struct pl_str serial);
