/* reach.h - which of the hub's cameras can be reached.
 *
 * One whose source could not be opened or went away while somebody watched is away, until its source opens again: a thread of its own looks every ten seconds. (The cloud starts
 * no view of a camera that is away, so nobody else would find out.) A source that opens and is of no use is there all the same.
 * Threads: any.  Memory: owned until reach_free.
 *     e = reach_new(&conf, &reach);
 *     reach_lost(reach, 2);
 *     if (reach_changed(reach)) tell(reach_online(reach, 2));
 */
#pragma once
#include "hub.h"

struct reach;
/* `conf` stays, and all that it names. PL_NO_MEMORY. */
PL_MUST enum pl_err reach_new(const struct hub_conf *conf, struct reach **ret);
/* The source of this camera failed. */
void reach_lost(struct reach *r, size_t camera);
bool reach_online(struct reach *r, size_t camera);
/* True once after each change. */
bool reach_changed(struct reach *r);
/* Ends a look that is on its way. Takes NULL; returns NULL. */
struct reach *reach_free(struct reach *r);
