/* local.h - the leg in the home, as a Unix socket: the app brings its claim's challenge to the device, without the cloud in between.
 *
 * One JSON line in: {"claim_id":"…","challenge":"…"}; one out: {"ok":true}, or {"ok":false,"code":"…"}. A real device has temporary Wi-Fi and HTTP here instead.
 * A client gets two seconds, one is served at a time. Not here: what is done with the challenge (hub_claim).  Threads: the main one.
 *     e = local_open("/run/hub.sock", &local, &fail);
 *     if (readable(local_fd(local))) local_serve(local, hub);
 */
#pragma once
#include "hub.h"

struct local;
/* Replaces a socket file that nobody listens on any more. PL_IO with the reason. */
PL_MUST enum pl_err local_open(const char *path, struct local **ret, struct pl_fail *reterr);
int local_fd(const struct local *l);
/* Takes one connection and answers it. */
void local_serve(struct local *l, struct hub *h);
/* Closes, removes the file. Takes NULL; returns NULL. */
struct local *local_close(struct local *l);
