// Dot products by AVX-512 (F); this file alone is compiled for it.
#if defined(__x86_64__)

#include <immintrin.h>

#include "dots_vectors.hpp"

namespace euds {
namespace {

struct Avx512 {
    using Register = __m512;
    static constexpr std::size_t kLanes = 16;

    static Register load(const float* at) { return _mm512_loadu_ps(at); }
    static Register zero() { return _mm512_setzero_ps(); }
    static Register add(Register a, Register b) { return _mm512_add_ps(a, b); }
    static Register fma(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
    static float total(Register a) { return _mm512_reduce_add_ps(a); }
};

}  // namespace

const DotsKernels kAvx512Dots = kDotsOf<Avx512>;

}  // namespace euds

#endif
