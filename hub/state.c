#include "state.h"
#include "json.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { FILE_MAX = 4096 };

struct state_doc {
    bool bound, clean;
    int64_t reset_count;
    struct json_list cameras;
};
static const struct json_field state_fields[] = {
    JSON_F(struct state_doc, bound, J_BOOL, J_REQUIRED), JSON_F(struct state_doc, clean, J_BOOL, J_REQUIRED),
    JSON_F(struct state_doc, reset_count, J_INT, J_REQUIRED), JSON_F(struct state_doc, cameras, J_STRS, J_REQUIRED, .hi = STATE_CAMERAS), J_END
};

static enum pl_err parse(struct pl_str text, struct hub_state *ret, struct pl_fail *reterr)
{
    PL_CLEANUP(pl_arena_freep) struct pl_arena *a = pl_arena_new(64 * 1024);
    struct state_doc d = { 0 };
    if (!a)
        return PL_NO_MEMORY;
    enum pl_err e = json_take(state_fields, JSON_LENIENT, text, a, &d, reterr);
    if (e != PL_OK)
        return e;
    *ret = (struct hub_state){ .bound = d.bound, .clean = d.clean, .reset_count = d.reset_count };
    for (size_t i = 0; i < d.cameras.n; i++)
        state_add_camera(ret, ((struct pl_str *)d.cameras.items)[i]);
    return PL_OK;
}

enum pl_err state_load(const char *path, struct hub_state *ret, bool *ret_new, struct pl_fail *reterr)
{
    char text[FILE_MAX];
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        if (path && errno != ENOENT)
            return pl_fail(reterr, PL_IO, "the state file cannot be opened: %s", strerror(errno));
        *ret = (struct hub_state){ .clean = true };
        *ret_new = true;
        return PL_OK;
    }
    ssize_t n = read(fd, text, sizeof text);
    close(fd);
    if (n < 0)
        return pl_fail(reterr, PL_IO, "the state file cannot be read: %s", strerror(errno));
    enum pl_err e = parse((struct pl_str){ text, (size_t)n }, ret, reterr);
    if (e == PL_OK)
        *ret_new = false;
    return e;
}

static void print(const struct hub_state *s, struct pl_buf *b)
{
    struct jw w = jw_start(b);
    jw_open(&w, NULL);
    jw_bool(&w, "bound", s->bound);
    jw_bool(&w, "clean", s->clean);
    jw_int(&w, "reset_count", s->reset_count);
    jw_array(&w, "cameras");
    for (size_t i = 0; i < STATE_CAMERAS; i++)
        if (s->cameras[i][0])
            jw_z(&w, NULL, s->cameras[i]);
    jw_end_array(&w);
    jw_close(&w);
    pl_buf_z(b, "\n");
}

enum pl_err state_save(const char *path, const struct hub_state *s, struct pl_fail *reterr)
{
    char text[FILE_MAX], beside[4096];
    if (!path)
        return PL_OK;
    struct pl_buf b = pl_buf_fixed(text, sizeof text), name = pl_buf_fixed(beside, sizeof beside);
    print(s, &b);
    pl_buf_fmt(&name, "%s.new", path);
    if (pl_buf_err(&b) != PL_OK || pl_buf_err(&name) != PL_OK)
        return pl_fail(reterr, PL_IO, "the state file's name is too long");
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, b.p, b.n) == (ssize_t)b.n && fsync(fd) == 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (!ok || rename(beside, path) != 0)
        return pl_fail(reterr, PL_IO, "the state file cannot be written: %s", strerror(ok ? errno : why));
    return PL_OK;
}

bool state_has_camera(const struct hub_state *s, struct pl_str serial)
{
    for (size_t i = 0; i < STATE_CAMERAS; i++)
        if (s->cameras[i][0] && pl_str_eqz(serial, s->cameras[i]))
            return true;
    return false;
}

void state_add_camera(struct hub_state *s, struct pl_str serial)
{
    if (serial.n == 0 || serial.n >= STATE_SERIAL || state_has_camera(s, serial))
        return;
    for (size_t i = 0; i < STATE_CAMERAS; i++) {
        if (s->cameras[i][0])
            continue;
        memcpy(s->cameras[i], serial.p, serial.n);
        return;
    }
}

void state_drop_camera(struct hub_state *s, struct pl_str serial)
{
    for (size_t i = 0; i < STATE_CAMERAS; i++)
        if (s->cameras[i][0] && pl_str_eqz(serial, s->cameras[i]))
            memset(s->cameras[i], 0, STATE_SERIAL);
}
