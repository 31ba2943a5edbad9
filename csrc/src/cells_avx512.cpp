// Cells by AVX-512 (F); this file alone is compiled for it.
#if defined(__x86_64__)

#include <immintrin.h>

#include "cells.hpp"

namespace euds {

bool find_cells_avx512(const float* values, std::size_t n_values, const Cells& cells, double margin,
                       std::int32_t* found) {
    constexpr std::size_t lanes = 16;
    const __m512 low = _mm512_set1_ps(static_cast<float>(cells.low));
    const __m512 scale = _mm512_set1_ps(static_cast<float>(cells.scale));
    const auto margin_in_float = static_cast<float>(margin);
    const __m512 least = _mm512_set1_ps(margin_in_float);
    const __m512 most = _mm512_set1_ps(1.0F - margin_in_float);
    const __m512i unknown = _mm512_set1_epi32(static_cast<std::int32_t>(cells.n));
    __mmask16 all = 0xFFFF;
    const std::size_t n_whole = n_values - n_values % lanes;
    for (std::size_t at = 0; at < n_whole; at += lanes) {
        const __m512 place = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(values + at), low), scale);
        const __m512 floor = _mm512_roundscale_ps(place, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
        const __m512 rest = _mm512_sub_ps(place, floor);
        const __m512i cell = _mm512_cvtps_epi32(floor);
        __mmask16 known = _mm512_cmp_ps_mask(rest, least, _CMP_GE_OQ);
        known = _mm512_mask_cmp_ps_mask(known, rest, most, _CMP_LE_OQ);
        // What is below, too large or NaN is the largest as an unsigned integer.
        known = _mm512_mask_cmplt_epu32_mask(known, cell, unknown);
        all = static_cast<__mmask16>(all & known);
        _mm512_storeu_si512(found + at, _mm512_mask_mov_epi32(unknown, known, cell));
    }
    return find_cells_plain(values + n_whole, n_values - n_whole, cells, margin, found + n_whole) || all != 0xFFFF;
}

}  // namespace euds

#endif
