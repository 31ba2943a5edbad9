// Loops compiled several times, the version for the machine chosen when the program starts: by what it can do, as names
// of processors ("arch=skylake-avx512") mean these alone, and none that came later.
#pragma once

#include <cstddef>

// Needs the loader's help (glibc); sanitizers cannot follow the choice.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define EUDS_UP_TO_AVX2 __attribute__((target_clones("default", "avx2")))
#define EUDS_UP_TO_AVX512 __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define EUDS_UP_TO_AVX2
#define EUDS_UP_TO_AVX512
#endif
