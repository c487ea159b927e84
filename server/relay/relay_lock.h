/* relay_lock.h - what the relay may still ask of the kernel once it listens to strangers.
 *
 * Allowed: packets on the sockets it has, new TCP connections (to porchlightd), memory that is not executable, threads, time, randomness, its own end. Opening a
 * file and asking about one are refused with EACCES, because the C library tries that by itself and lives well without; so is any socket that is not TCP or UDP.
 * Everything else (execve, ptrace, kill, mount, …) ends the process with one log line, `relay.system-call-refused`, and status 159.
 * No privileges can be gained, nothing is dumped, memory stays out of swap where the machine's limits allow, 64 descriptors are the most.
 * Not here: names, which a locked relay cannot look up itself (relay_names.h).  Threads: both calls cover every thread that is and will be.  Memory: none.
 *     relay_lock_memory(&log);                                  before secrets are read
 *     e = relay_lock(&fail);                                    when every file is read; ciphers are tried and loaded here
 */
#pragma once
#include "log.h"

/* Never fails: what the machine does not grant is logged. */
void relay_lock_memory(const struct pl_log *log);
/* Once. PL_UNAVAILABLE with the reason (a cipher that does not work, a kernel without filters); then the process must not go on.
 * A build with a sanitizer, which needs more than the list grants, does nothing here. */
PL_MUST enum pl_err relay_lock(struct pl_fail *reterr);
