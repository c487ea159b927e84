/* Which bus this node has: in-process for one node, NATS for several. */
#include "node_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define TOKEN_BYTES 512

/* The token stands in a file, so that it is on no command line. `mem` is the caller's to wipe. */
static enum pl_err read_token(const char *path, char mem[TOKEN_BYTES], struct pl_fail *reterr)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, mem, TOKEN_BYTES - 1) : -1;
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return pl_fail(reterr, PL_IO, "bus.nats_token_file %s cannot be read: %s", path, strerrordesc_np(why));
    struct pl_str token = pl_str_trim((struct pl_str){ mem, (size_t)n });
    memmove(mem, token.p, token.n);
    mem[token.n] = '\0';
    return PL_OK;
}

enum pl_err node_bus_new(struct node *n, struct pl_fail *reterr)
{
    char token[TOKEN_BYTES] = "";
    const char *url = pl_str_z(n->arena, n->conf->nats_url), *path = pl_str_z(n->arena, n->conf->nats_token_file);
    if (!url || !path)
        return PL_NO_MEMORY;
    if (!url[0])
        return bus_new(n->clock, &n->bus);
    enum pl_err e = path[0] ? read_token(path, token, reterr) : PL_OK;
    if (e == PL_OK)
        e = bus_nats_new(&(struct bus_nats_conf){ .url = url, .token = path[0] ? token : NULL, .master = &n->master, .clock = n->clock, .rand = n->rand, .log = &n->log }, &n->bus,
                         reterr);
    explicit_bzero(token, sizeof token);
    return e;
}
