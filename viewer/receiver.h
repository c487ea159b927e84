/* receiver.h - the viewer's half of a live session, without a socket or a clock: checks, SRTP, order, loss, whole frames, reports, key-frame requests.
 *
 * Packets are put in order; one that is missing is asked for by NACK (V-E1) and waited for as long as three askings take (400 to 600 ms), each for itself; then it
 * is lost.
 * An access unit that lacks a packet is never handed on, nor is any after it until the next whole key frame, which is asked for by PLI: a decoder that gets no
 * damaged frame shows none. When all falls silent a check goes out at once: the way to the relay may be another one now, and a check is what moves it there (V-F3).
 * Not here: decoding (decoder.h), the socket (main.c). Threads: one at a time.  Memory: owned; keys are wiped in receiver_free.
 *     e = receiver_new(&conf, now, &receiver);
 *     receiver_packet(receiver, now, bytes, n);
 *     receiver_tick(receiver, now);               again at receiver_due
 */
#pragma once
#include "clock.h"
#include "h264.h"
#include "session.h"

struct receiver_conf {
    const struct session *session; /**< copied */
    struct pl_rand *rand;
    void *self;
    void (*send)(void *self, const uint8_t *p, size_t n);
    void (*on_video)(void *self, const struct h264_au *au); /**< whole access units, from a key frame on */
    void (*on_audio)(void *self, struct pl_str packet, uint32_t timestamp);
    void (*on_plain)(void *self, bool video, const uint8_t *p, size_t n); /**< each RTP packet in order, decrypted; may be NULL */
};
struct receiver_stats {
    uint64_t packets, refused, late; /**< proved · wrong tag, replay, foreign · came after they were given up */
    uint64_t video_lost, audio_lost, damaged; /**< packets · packets · access units that lacked one */
    unsigned key_asked;              /**< PLIs sent */
    uint64_t asked;                  /**< packets asked for by NACK, each time counted */
    bool connected, keyed;           /**< a check was answered · a whole key frame came */
    struct pl_mono connected_at, first_packet_at, first_key_at; /**< .us 0: not yet */
    struct pl_mono alive;            /**< the relay last proved itself */
    struct pl_mono video_report_at, audio_report_at; /**< the first sender report; .us 0: not yet */
    bool in_step_known;              /**< both had reports and packets after them */
    int64_t video_after_audio_us;    /**< how much later pictures come than sound of the same moment, by the reports and the quickest packets (V-A4) */
};

struct receiver;
PL_MUST enum pl_err receiver_new(const struct receiver_conf *conf, struct pl_mono now, struct receiver **ret);
void receiver_packet(struct receiver *r, struct pl_mono now, const uint8_t *p, size_t n);
void receiver_tick(struct receiver *r, struct pl_mono now);
struct pl_mono receiver_due(const struct receiver *r);
/* The decoder could not use what it got: as if a packet had been lost. */
void receiver_broken(struct receiver *r);
const struct receiver_stats *receiver_stats(const struct receiver *r);
/* Says BYE, wipes, frees. Takes NULL; returns NULL. */
struct receiver *receiver_free(struct receiver *r);
