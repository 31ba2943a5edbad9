// What the builds of the dot products share: one table of functions per instruction set.
#pragma once

#include <array>
#include <cstddef>

namespace euds {

inline constexpr std::size_t kMostDots = 4;

// products[r] = sum of row[k] * others[r][k] over k < width, in float32 and in any order.
using DotsKernel = void (*)(const float* row, const float* const* others, std::size_t width, double* products);

// At [n - 1] for n others at once: the row is read once, and no addition waits for another.
struct DotsKernels {
    std::array<DotsKernel, kMostDots> first;  // others[0] is the row itself; asks memory for the rows to come
    std::array<DotsKernel, kMostDots> later;
};

}  // namespace euds
