/* porchlight-relay: parse, run. */
#include "relay_node.h"
#include <stdio.h>

int main(int argc, char **argv)
{
    struct pl_fail fail = PL_FAIL_INIT;
    struct relay_args args;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        (void)fputs(relay_usage, stdout);
        return 0;
    }
    enum pl_err e = relay_args_read(argc, argv, &args, &fail);
    if (e == PL_OK)
        e = relay_node_run(&args, &fail);
    if (e == PL_OK)
        return 0;
    (void)fprintf(stderr, "porchlight-relay: %s\n", fail.detail[0] ? fail.detail : pl_err_table[e].sentence);
    return e == PL_INVALID_REQUEST ? 64 : 69;
}
