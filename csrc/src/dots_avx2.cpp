// Dot products by AVX2 and FMA; this file alone is compiled for them.
#if defined(__x86_64__)

#include <immintrin.h>

#include "dots_vectors.hpp"

namespace euds {
namespace {

struct Avx2 {
    using Register = __m256;
    static constexpr std::size_t kLanes = 8;

    static Register load(const float* at) { return _mm256_loadu_ps(at); }
    static Register zero() { return _mm256_setzero_ps(); }
    static Register add(Register a, Register b) { return _mm256_add_ps(a, b); }
    static Register fma(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
    static float total(Register a) {
        __m128 sums = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
        return _mm_cvtss_f32(_mm_add_ss(sums, _mm_movehdup_ps(sums)));
    }
};

}  // namespace

const DotsKernels kAvx2Dots = kDotsOf<Avx2>;

}  // namespace euds

#endif
