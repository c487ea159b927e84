#include "player.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct player {
    pid_t child;
    int fd;
    struct sockaddr_in video, audio;
    char dir[32], sdp[64];
};

bool player_possible(void) { return getenv("DISPLAY") || getenv("WAYLAND_DISPLAY"); }

static struct sockaddr_in on_loopback(uint16_t port) { return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } }; }

/* A socket on that port; -1: it is taken. */
static int bound_to(uint16_t port)
{
    struct sockaddr_in a = on_loopback(port);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (const struct sockaddr *)(const void *)&a, sizeof a) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* An even port that is free now, its odd neighbour too (RTCP). ffplay binds them a moment later. */
static bool free_port(struct sockaddr_in *ret, uint16_t from)
{
    for (uint16_t port = from; port < from + 200; port = (uint16_t)(port + 2)) {
        int rtp = bound_to(port), rtcp = bound_to((uint16_t)(port + 1));
        bool ok = rtp >= 0 && rtcp >= 0;
        if (rtp >= 0)
            close(rtp);
        if (rtcp >= 0)
            close(rtcp);
        if (ok) {
            *ret = on_loopback(port);
            return true;
        }
    }
    return false;
}

static bool write_sdp(struct player *p, const struct session *s)
{
    FILE *f = fopen(p->sdp, "we");
    if (!f)
        return false;
    fprintf(f, "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=Porchlight\nc=IN IP4 127.0.0.1\nt=0 0\n");
    fprintf(f, "m=video %u RTP/AVP %d\na=rtpmap:%d H264/90000\na=fmtp:%d packetization-mode=1\n", ntohs(p->video.sin_port), (int)s->video.payload_type,
        (int)s->video.payload_type, (int)s->video.payload_type);
    fprintf(f, "m=audio %u RTP/AVP %d\na=rtpmap:%d opus/48000/2\n", ntohs(p->audio.sin_port), (int)s->audio.payload_type, (int)s->audio.payload_type);
    return fclose(f) == 0;
}

static bool spawn(struct player *p)
{
    char *const argv[] = { (char *)"ffplay", (char *)"-loglevel", (char *)"error", (char *)"-protocol_whitelist", (char *)"file,udp,rtp", (char *)"-fflags",
        (char *)"nobuffer", (char *)"-flags", (char *)"low_delay", (char *)"-window_title", (char *)"Porchlight", (char *)"-i", p->sdp, NULL };
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, 2, 1); /* stdout is for our summary */
    int r = posix_spawnp(&p->child, "ffplay", &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    if (r != 0)
        p->child = 0;
    return r == 0;
}

enum pl_err player_start(const struct session *s, struct player **ret, struct pl_fail *reterr)
{
    struct player *p = pl_heap(sizeof *p);
    if (!p)
        return PL_NO_MEMORY;
    memcpy(p->dir, "/tmp/porchlight-XXXXXX", sizeof "/tmp/porchlight-XXXXXX");
    p->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = p->fd >= 0 && mkdtemp(p->dir) && free_port(&p->video, 46000) && free_port(&p->audio, 46400);
    snprintf(p->sdp, sizeof p->sdp, "%s/live.sdp", p->dir);
    if (!ok || !write_sdp(p, s) || !spawn(p)) {
        player_stop(p);
        return pl_fail(reterr, PL_IO, "ffplay cannot be started");
    }
    *ret = p;
    return PL_OK;
}

void player_rtp(struct player *p, bool video, const uint8_t *packet, size_t n)
{
    const struct sockaddr_in *to = video ? &p->video : &p->audio;
    (void)sendto(p->fd, packet, n, MSG_DONTWAIT, (const struct sockaddr *)(const void *)to, sizeof *to);
}

bool player_gone(struct player *p)
{
    if (p->child && waitpid(p->child, NULL, WNOHANG) == p->child)
        p->child = 0;
    return p->child == 0;
}

struct player *player_stop(struct player *p)
{
    if (!p)
        return NULL;
    if (p->child && kill(p->child, SIGKILL) == 0)
        (void)waitpid(p->child, NULL, 0);
    (void)unlink(p->sdp);
    (void)rmdir(p->dir);
    if (p->fd >= 0)
        close(p->fd);
    return pl_heap_free(p);
}
