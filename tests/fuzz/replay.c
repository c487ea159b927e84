/* Runs a fuzz target over its corpus, without a fuzzing engine: every file as it is, then changed a little, the same way each time. */
#include "fuzz.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST = 1 << 16, CHANGES = 300 };

static uint64_t seed = 88172645463325252u;
static uint64_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

/* Each run gets bytes of its own size, so that a sanitizer sees one byte too far. */
static void run(const uint8_t *p, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1);
    if (!exact)
        abort();
    memcpy(exact, p, n);
    (void)LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

static void change(const uint8_t *p, size_t n)
{
    static uint8_t copy[LARGEST];
    for (int i = 0; i < CHANGES; i++) {
        size_t m = n;
        memcpy(copy, p, n);
        for (uint64_t k = next() % 4 + 1; k > 0 && m > 0; k--)
            copy[next() % m] = next() % 3 ? (uint8_t)next() : (uint8_t)(next() % 2 ? 0xff : 0);
        if (next() % 4 == 0)
            m = next() % (m + 1);
        run(copy, m);
    }
}

int main(int argc, char **argv)
{
    static uint8_t bytes[LARGEST];
    unsigned files = 0;
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    if (!dir) {
        (void)fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
        return 64;
    }
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        char path[4096];
        (void)snprintf(path, sizeof path, "%s/%s", argv[1], d->d_name);
        FILE *f = d->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!f)
            continue;
        size_t n = fread(bytes, 1, sizeof bytes, f);
        (void)fclose(f);
        run(bytes, n);
        change(bytes, n);
        files++;
    }
    (void)closedir(dir);
    (void)printf("%u files, %u inputs\n", files, files * (1 + CHANGES));
    return files ? 0 : 1;
}
