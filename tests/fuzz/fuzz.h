/* fuzz.h - what every fuzz target is: one function that takes any bytes and must neither crash, nor hang, nor break the rules that it asserts. */
#pragma once
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A broken rule. Not assert(): a release build keeps it. */
#define FUZZ_MUST(condition) \
    do { \
        if (!(condition)) \
            __builtin_trap(); \
    } while (0)
