// The kernels over vectors for AVX2, FMA and F16C; this file alone is compiled for them.
#if defined(__x86_64__)

#include <immintrin.h>

#include "dots_vectors.hpp"
#include "kernels.hpp"
#include "token_sums_block.hpp"

namespace euds {
namespace {

struct Avx2 {
    using Register = __m256;
    static constexpr std::size_t kLanes = 8;

    static Register load(const float* at) { return _mm256_loadu_ps(at); }
    static Register load(const Bfloat16* at) {
        const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }
    static Register load(const Float16* at) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    }
    static Register set(float value) { return _mm256_set1_ps(value); }
    static Register add(Register a, Register b) { return _mm256_add_ps(a, b); }
    static Register sub(Register a, Register b) { return _mm256_sub_ps(a, b); }
    static Register mul(Register a, Register b) { return _mm256_mul_ps(a, b); }
    static Register fma(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
    static Register max(Register a, Register b) { return _mm256_max_ps(a, b); }
    static Register power_of_two(Register k) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(k), 23));
    }
    static float largest(Register a) {
        __m128 top = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        top = _mm_max_ps(top, _mm_movehl_ps(top, top));
        return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
    }
    static double total(Register a) {
        const __m256d sums =
            _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(a)), _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)));
        const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(sums), _mm256_extractf128_pd(sums, 1));
        return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
    }
};

}  // namespace

const VectorKernels kAvx2Kernels{kOfVec<Avx2>, kDotsOf<Avx2>};

}  // namespace euds

#endif
