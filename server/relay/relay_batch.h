/* relay_batch.h - reads a UDP socket in batches, private to relay_worker.c.
 *
 * What one sender sent in a row may come as one message (UDP_GRO), which the kernel has routed, checked and handed over once; here it is cut into its datagrams again. Where
 * the kernel does not know the option each message is one datagram. None is left out: one that is empty or larger than any packet of ours is the relay's to count.
 * Threads: the worker's.  Memory: fixed when it is made, wiped when it is freed; little of it is ever touched where messages are small.
 *     more = relay_batch_read(b, fd, &overflow);
 *     while ((n = relay_batch_take(b, in, stamps)) > 0)
 *         …
 */
#pragma once
#include "relay.h"

enum { RELAY_STEP = 64 /**< datagrams at most that are taken at once */ };
struct relay_batch;
PL_MUST enum pl_err relay_batch_new(struct relay_batch **ret);
/* Asks the kernel for what this needs of a socket. */
void relay_batch_prepare(int fd);
/* Reads what is there. True: the batch was full, there is probably more. *overflow grows by the messages that the kernel dropped for want of room. */
bool relay_batch_read(struct relay_batch *b, int fd, uint64_t *overflow);
/* The next datagrams of what was read, good until it is read again; 0: there are no more. `stamps`: when each came, microseconds of wall time; 0: the kernel does not say. */
size_t relay_batch_take(struct relay_batch *b, struct relay_in in[RELAY_STEP], int64_t stamps[RELAY_STEP]);
/* Takes NULL; returns NULL. */
struct relay_batch *relay_batch_free(struct relay_batch *b);
