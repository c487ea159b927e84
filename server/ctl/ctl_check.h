/* ctl_check.h - what `porchctl up` looks at before it starts anything, so that what is wrong is said in one sentence.
 *
 * Refused: a folder that cannot be made or written, another `up` in it, a disk that is nearly full, a port in use, a missing program or package.
 *     e = check_before_up(c, &paths, &fail);
 */
#pragma once
#include "ctl_file.h"

/* Makes the folders and holds DIR/up.lock until the process ends. */
PL_MUST enum pl_err check_before_up(struct ctl *c, const struct ctl_paths *p, struct pl_fail *reterr);

/* Is this HOST:PORT with a numeric host ("127.0.0.1", "[::1]")? PL_INVALID_REQUEST names the option. */
PL_MUST enum pl_err check_address(const char *option, const char *text, struct pl_fail *reterr);
/* Is it that, on loopback? Else PL_INVALID_REQUEST says what to do: for what bears a secret and is not encrypted. */
PL_MUST enum pl_err check_loopback(const char *text, struct pl_fail *reterr);
/* The same address as one dials it from this machine: an address that means "all" becomes loopback. */
const char *check_dial(struct pl_arena *a, const char *text);
/* The same by a name in place of the address; NULL: by the address. */
const char *check_dial_name(struct pl_arena *a, const char *text, const char *name);
/* This machine's own address as the host of HOST:PORT: the one that its default route is left by, IPv4 before IPv6; loopback when there is none. */
const char *check_own_host(struct pl_arena *a);
