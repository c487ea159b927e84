/* The limit of log-ins: argon2id alone, as the product asks for it. `bench-argon2 SECONDS` prints hashes and CPU microseconds of one thread. */
#include "secure.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int64_t cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
    char hash[SECURE_PASSWORD_TEXT];
    bool rehash;
    int64_t n = 0, end = argc > 1 ? strtoll(argv[1], NULL, 10) * 1000000 : 5000000;
    if (secure_init() != PL_OK || secure_password_hash(PL_STR("a quiet porch at night"), (struct secure_password_policy){ 0 }, hash) != PL_OK)
        return 1;
    int64_t from = cpu_us();
    for (; cpu_us() - from < end; n++)
        if (secure_password_verify(pl_str_of(hash), PL_STR("a quiet porch at night"), (struct secure_password_policy){ 0 }, &rehash) != PL_OK)
            return 1;
    printf("%lld %lld\n", (long long)n, (long long)(cpu_us() - from));
    return 0;
}
