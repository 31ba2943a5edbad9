// Cells by AVX2; this file alone is compiled for it.
#if defined(__x86_64__)

#include <immintrin.h>

#include "cells.hpp"

namespace euds {

bool find_cells_avx2(const float* values, std::size_t n_values, const Cells& cells, double margin,
                     std::int32_t* found) {
    constexpr std::size_t lanes = 8;
    const __m256 low = _mm256_set1_ps(static_cast<float>(cells.low));
    const __m256 scale = _mm256_set1_ps(static_cast<float>(cells.scale));
    const auto margin_in_float = static_cast<float>(margin);
    const __m256 least = _mm256_set1_ps(margin_in_float);
    const __m256 most = _mm256_set1_ps(1.0F - margin_in_float);
    const auto n_cells = static_cast<std::int32_t>(cells.n);
    const __m256i unknown = _mm256_set1_epi32(n_cells);
    __m256i largest = _mm256_setzero_si256();
    const std::size_t n_whole = n_values - n_values % lanes;
    for (std::size_t at = 0; at < n_whole; at += lanes) {
        const __m256 place = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(values + at), low), scale);
        const __m256 floor = _mm256_floor_ps(place);
        const __m256 rest = _mm256_sub_ps(place, floor);
        const __m256 sure = _mm256_and_ps(_mm256_cmp_ps(rest, least, _CMP_GE_OQ), _mm256_cmp_ps(rest, most, _CMP_LE_OQ));
        // What is below, too large or NaN is the largest as an unsigned integer.
        const __m256i cell = _mm256_min_epu32(_mm256_cvtps_epi32(floor), unknown);
        const __m256i known = _mm256_blendv_epi8(unknown, cell, _mm256_castps_si256(sure));
        largest = _mm256_max_epi32(largest, known);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(found + at), known);
    }
    const bool any = _mm256_movemask_epi8(_mm256_cmpeq_epi32(largest, unknown)) != 0;
    return find_cells_plain(values + n_whole, n_values - n_whole, cells, margin, found + n_whole) || any;
}

}  // namespace euds

#endif
