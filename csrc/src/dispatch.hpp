// Loops compiled several times, the widest version that the machine runs chosen when the program starts.
#pragma once

#include <cstddef>

// Needs the loader's help (glibc); sanitizers cannot follow the choice.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define EUDS_EVERY_WIDTH __attribute__((target_clones("default", "avx2", "arch=skylake-avx512")))
#else
#define EUDS_EVERY_WIDTH
#endif
