// The kernels over vectors for AVX-512 (F, BW, VL); this file alone is compiled for it.
#if defined(__x86_64__)

#include <immintrin.h>

#include "dots_vectors.hpp"
#include "kernels.hpp"
#include "token_sums_block.hpp"

namespace euds {
namespace {

struct Avx512 {
    using Register = __m512;
    static constexpr std::size_t kLanes = 16;

    static Register load(const float* at) { return _mm512_loadu_ps(at); }
    static Register load(const Bfloat16* at) {
        const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
    static Register load(const Float16* at) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
    }
    static Register set(float value) { return _mm512_set1_ps(value); }
    static Register add(Register a, Register b) { return _mm512_add_ps(a, b); }
    static Register sub(Register a, Register b) { return _mm512_sub_ps(a, b); }
    static Register mul(Register a, Register b) { return _mm512_mul_ps(a, b); }
    static Register fma(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
    static Register max(Register a, Register b) { return _mm512_max_ps(a, b); }
    static Register power_of_two(Register k) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(k), 23));
    }
    static float largest(Register a) { return _mm512_reduce_max_ps(a); }
    static double total(Register a) {
        const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
        return _mm512_reduce_add_pd(
            _mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(a)), _mm512_cvtps_pd(high)));
    }
};

}  // namespace

const VectorKernels kAvx512Kernels{kOfVec<Avx512>, kDotsOf<Avx512>};

}  // namespace euds

#endif
