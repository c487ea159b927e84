/* bench-http-bare BYTES: what libmicrohttpd costs by itself: an answer of BYTES bytes of JSON to every GET, from one thread as the product's engine has, with no
 * work behind it. Prints its port; ends with stdin. */
#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum MHD_Result answer(void *self, struct MHD_Connection *c, const char *url, const char *method, const char *version, const char *data, size_t *n, void **state)
{
    (void)url;
    (void)method;
    (void)version;
    (void)data;
    (void)n;
    if (!*state) {
        *state = self; /* the first call has only the headers */
        return MHD_YES;
    }
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(self), self, MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(r, "Content-Type", "application/json");
    enum MHD_Result queued = MHD_queue_response(c, MHD_HTTP_OK, r);
    MHD_destroy_response(r);
    return queued;
}

int main(int argc, char **argv)
{
    char *end = NULL, body[4096];
    unsigned long bytes = argc == 2 ? strtoul(argv[1], &end, 10) : 0;
    if (bytes < 2 || bytes >= sizeof body || *end)
        return 64;
    memset(body, ' ', bytes);
    body[0] = '{';
    body[bytes - 1] = '}';
    body[bytes] = '\0';
    struct MHD_Daemon *d = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, answer, body, MHD_OPTION_CONNECTION_LIMIT, 1000u, MHD_OPTION_END);
    const union MHD_DaemonInfo *port = d ? MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    if (!port)
        return 69;
    printf("%u\n", (unsigned)port->port);
    (void)fflush(stdout);
    while (getchar() != EOF)
        continue;
    MHD_stop_daemon(d);
    return 0;
}
