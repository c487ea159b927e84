#include "relay_bench.h"
#include <sys/resource.h>

void bench_marks(void)
{
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        struct rusage u;
        (void)getrusage(RUSAGE_SELF, &u);
        printf("%lld\n", (long long)((u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000LL + u.ru_utime.tv_usec + u.ru_stime.tv_usec));
        (void)fflush(stdout);
    }
}
