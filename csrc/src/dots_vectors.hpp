// Dot products over an abstract vector, compiled once per instruction set.
//
// All here are templates over a type of an unnamed namespace: a function that the linker could merge across files might
// be the copy compiled for instructions which this processor lacks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dots_kernels.hpp"

namespace euds {

// Memory is asked this far ahead of the row at hand: ten rows of 384 numbers, and no power of two, which is slower.
inline constexpr std::size_t kBytesAhead = 10 * 384 * sizeof(float);

// Vec: as of the block kernel; of it are used Register, kLanes, load(float*), set, add, fma and total.
template <typename Vec, std::size_t kCount, bool kFirst>
void dots(const float* row, const float* const* others, std::size_t width, double* products) {
    using Register = typename Vec::Register;
    constexpr std::size_t lanes = Vec::kLanes;
    constexpr std::size_t step = 2 * lanes;
    constexpr std::size_t cache_line = 64;
    constexpr int for_reading = 0;
    constexpr int into_l2 = 2;

    // Two sums each, as an addition takes longer than until the next one could start.
    Register even[kCount];
    Register odd[kCount];
    for (std::size_t r = 0; r < kCount; ++r) {
        even[r] = odd[r] = Vec::set(0.0F);
    }
    const auto ahead = reinterpret_cast<std::uintptr_t>(row) + kBytesAhead;
    const std::size_t n_stepped = width - width % step;
    for (std::size_t at = 0; at < n_stepped; at += step) {
        const Register left = Vec::load(row + at);
        const Register right = Vec::load(row + at + lanes);
        for (std::size_t r = 0; r < kCount; ++r) {
            const bool is_row = kFirst && r == 0;
            even[r] = Vec::fma(left, is_row ? left : Vec::load(others[r] + at), even[r]);
            odd[r] = Vec::fma(right, is_row ? right : Vec::load(others[r] + at + lanes), odd[r]);
        }
        // Behind the loads, which must not wait for it; a prefetch never faults.
        for (std::size_t line = 0; kFirst && line < step * sizeof(float); line += cache_line) {
            __builtin_prefetch(reinterpret_cast<const void*>(ahead + at * sizeof(float) + line), for_reading, into_l2);
        }
    }
    for (std::size_t r = 0; r < kCount; ++r) {
        products[r] = Vec::total(Vec::add(even[r], odd[r]));
    }
    for (std::size_t r = 0; n_stepped < width && r < kCount; ++r) {
        float rest = 0.0F;
        for (std::size_t at = n_stepped; at < width; ++at) {
            rest += row[at] * others[r][at];
        }
        products[r] += static_cast<double>(rest);
    }
}

template <typename Vec, bool kFirst>
inline constexpr std::array<DotsKernel, kMostDots> kDots{&dots<Vec, 1, kFirst>, &dots<Vec, 2, kFirst>,
                                                         &dots<Vec, 3, kFirst>, &dots<Vec, 4, kFirst>};

template <typename Vec>
inline constexpr DotsKernels kDotsOf{kDots<Vec, true>, kDots<Vec, false>};

}  // namespace euds
