// Ranks of scores, and the cells of the grid of equal-mass bins that ranks fall into.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace euds {

// Doubled mid-ranks, integers without rounding: ranks[axis * n + row] = 2 * (rows below) + (rows equal, itself counted),
// in 1..2m-1, among the m rows that are finite on all axes; 0 for the other rows. Returns m.
// scores: n x n_axes, row-major; n < 2^31; float or double. The result does not depend on n_threads.
template <typename T>
std::size_t rank_rows(std::span<const T> scores, std::size_t n_axes, std::span<std::uint32_t> ranks,
                      std::size_t n_threads);

// The grid with `bins` equal-mass bins on each axis, some of them empty where scores are tied. A row's bin on an axis is
// floor(bins * rank / (2 * n_ranked)), so equal scores share it.
struct RankGrid {
    std::span<const std::uint32_t> ranks;  // n_axes x n, as made by rank_rows
    std::size_t n_axes;
    std::size_t n_ranked;
    std::size_t bins;
};

// Adds every ranked row to its cell: counts[group][cell] += 1 and, if a utility is given,
// sums[cell] += nearest integer to utility * scale. groups: n, each in 0..G-1, or empty: all rows are of group 0.
void count_rows(const RankGrid& grid, std::span<const std::int32_t> groups, std::span<const double> utility,
                double scale, std::span<std::int32_t> counts, std::span<std::int64_t> sums, std::size_t n_threads);

}  // namespace euds
