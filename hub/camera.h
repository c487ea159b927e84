/* camera.h - one camera while somebody watches: its source, its encoder and its pace, on a thread of its own.
 *
 * Encoding costs power, so a camera object lives only as long as a live session. It opens source and encoder at once, and nothing leaves before camera_go. The first frame
 * is then a key frame, made when the way is open: of a camera's pictures, what came before is decoded and passed over. Only a camera whose coded frames are copied cannot
 * make one: its stream begins with the first key frame that it sent, and what came since follows at PACE_FASTER times its speed.
 * Not here: packets (sender.h), sockets (stream.h). Threads: camera_* from any; both callbacks run on the camera's thread.
 *     e = camera_new(&(struct camera_conf){ .source = "test", .on_frame = send_it, .on_end = ended, .self = stream }, &camera);
 *     camera_go(camera);
 *     camera_keyframe(camera);
 *     camera = camera_free(camera);
 */
#pragma once
#include "clock.h"
#include "coder.h"

struct camera;
struct camera_conf {
    const char *source; /**< "test", a file, rtsp://…, copy:…, filler:…; outlives the camera */
    const struct pl_clock *clock;
    void *self;
    camera_emit on_frame;
    void (*on_end)(void *self, enum pl_err why); /**< once, when the source failed or cannot be opened; not after camera_free */
};
PL_MUST enum pl_err camera_new(const struct camera_conf *conf, struct camera **ret);
/* Frames may come from now on. */
void camera_go(struct camera *c);
/* The next picture becomes a key frame: within one frame's time. One that is copied heeds nobody. */
void camera_keyframe(struct camera *c);
/* The rate of its pictures from the next one on, bits a second. One that is copied heeds nobody. */
void camera_bitrate(struct camera *c, int bits);
/* Waits for the thread (at most for a read that gives up at once), frees. Not from a callback. Takes NULL; returns NULL. */
struct camera *camera_free(struct camera *c);
