// Counts of values in bins given by their edges, on 1 to 3 axes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace euds {

// Sums of utility are 128-bit integers in units of 2^-60, so that they do not depend on the order of adding.
inline constexpr int kUtilityBits = 60;

struct Histogram {
    std::vector<std::span<const double>> edges;  // per axis, strictly ascending; bins are [e, next), the last one closed
    std::span<std::int64_t> counts;              // a cell for each combination of bins, the last axis fastest
    std::span<std::uint64_t> sums;               // per cell the low and the high word of the sum; empty: none
};

// Rows in no cell, by the first reason that holds.
struct LeftOut {
    std::int64_t nan = 0;       // NaN on some axis
    std::int64_t infinite = 0;  // infinite on some axis
    std::int64_t outside = 0;   // below the first or above the last edge of some axis

    LeftOut& operator+=(const LeftOut& other) {
        nan += other.nan;
        infinite += other.infinite;
        outside += other.outside;
        return *this;
    }
};

// Adds rows to the histogram. values: n x axes, row-major; utility: n, each |u| <= 2^30, or empty.
LeftOut add_rows(const Histogram& histogram, std::span<const double> values, std::span<const double> utility);

// Adds values of one axis to the counts of its bins, on several threads; float or double. Few values need a
// search. counts: one entry a bin. Requires n_threads >= 1.
template <typename T>
LeftOut add_values(std::span<const double> edges, std::span<const T> values, std::span<std::int64_t> counts,
                   std::size_t n_threads);

}  // namespace euds
