#include "local.h"
#include "json.h"
#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 1024, CLIENT_SECONDS = 2 };

struct local {
    int fd;
    struct sockaddr_un name;
};

struct claim_line { struct pl_str claim_id, challenge; };
static const struct json_field claim_fields[] = {
    JSON_F(struct claim_line, claim_id, J_STR, J_REQUIRED, .lo = 1, .hi = HUB_ID - 1), JSON_F(struct claim_line, challenge, J_STR, J_REQUIRED, .lo = 16, .hi = HUB_CHALLENGE - 1), J_END
};

enum pl_err local_open(const char *path, struct local **ret, struct pl_fail *reterr)
{
    struct local *l = pl_heap(sizeof *l);
    if (!l)
        return PL_NO_MEMORY;
    l->name.sun_family = AF_UNIX;
    struct pl_buf b = pl_buf_fixed(l->name.sun_path, sizeof l->name.sun_path);
    pl_buf_z(&b, path);
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const struct sockaddr *name = (const struct sockaddr *)(const void *)&l->name;
    bool ok = pl_buf_err(&b) == PL_OK && l->fd >= 0;
    if (ok) {
        /* A file that a dead hub left refuses connections; one that answers belongs to a living one, and stays. */
        if (connect(l->fd, name, sizeof l->name) != 0 && errno == ECONNREFUSED)
            (void)unlink(path);
        ok = bind(l->fd, name, sizeof l->name) == 0 && listen(l->fd, 4) == 0;
    }
    if (!ok) {
        enum pl_err e = pl_fail(reterr, PL_IO, "the local socket cannot be opened: %s", pl_buf_err(&b) == PL_OK ? strerror(errno) : "its name is too long");
        if (l->fd >= 0)
            close(l->fd);
        pl_heap_free(l);
        return e;
    }
    *ret = l;
    return PL_OK;
}

int local_fd(const struct local *l) { return l->fd; }

/* One line, within the client's two seconds; what is longer is cut, and then no JSON. */
static struct pl_str read_line(int fd, char line[LINE_MAX_BYTES])
{
    size_t n = 0;
    ssize_t got;
    while (n < LINE_MAX_BYTES && !memchr(line, '\n', n) && (got = read(fd, line + n, LINE_MAX_BYTES - n)) > 0)
        n += (size_t)got;
    return pl_str_trim((struct pl_str){ line, n });
}

static enum pl_err take(struct hub *h, struct pl_str line, struct pl_fail *f)
{
    PL_CLEANUP(pl_arena_freep) struct pl_arena *a = pl_arena_new(64 * 1024);
    struct claim_line c = { 0 };
    if (!a)
        return PL_NO_MEMORY;
    enum pl_err e = json_take(claim_fields, JSON_LENIENT, line, a, &c, f);
    return e == PL_OK ? hub_claim(h, c.claim_id, c.challenge) : e;
}

void local_serve(struct local *l, struct hub *h)
{
    char line[LINE_MAX_BYTES], text[256];
    const struct timeval patience = { .tv_sec = CLIENT_SECONDS };
    struct pl_fail f = PL_FAIL_INIT;
    int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    enum pl_err e = take(h, read_line(fd, line), &f);
    struct pl_buf b = pl_buf_fixed(text, sizeof text);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_bool(&w, "ok", e == PL_OK);
    if (e != PL_OK)
        jw_z(&w, "code", pl_err_code(e));
    jw_close(&w);
    pl_buf_z(&b, "\n");
    (void)send(fd, b.p, b.n, MSG_NOSIGNAL);
    close(fd);
}

struct local *local_close(struct local *l)
{
    if (!l)
        return NULL;
    close(l->fd);
    (void)unlink(l->name.sun_path);
    return pl_heap_free(l);
}
