/* player.h - hands the plain RTP on loopback to ffplay, where there is a display to show it on.
 *
 * ffplay gets an SDP file in a folder of its own, removed at the end. What is decrypted leaves this process only for 127.0.0.1.
 * Threads: one at a time.  Memory: owned.
 *     if (player_possible() && player_start(session, &player, &fail) == PL_OK) player_rtp(player, true, packet, n);
 */
#pragma once
#include "session.h"

struct player;
/* A display is there. */
bool player_possible(void);
/* PL_IO: ffplay is not installed, or no port is free. */
PL_MUST enum pl_err player_start(const struct session *s, struct player **ret, struct pl_fail *reterr);
void player_rtp(struct player *p, bool video, const uint8_t *packet, size_t n);
/* The window was closed. */
bool player_gone(struct player *p);
/* Ends it. Takes NULL; returns NULL. */
struct player *player_stop(struct player *p);
