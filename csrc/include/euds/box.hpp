// The search for axis-aligned boxes on a grid of bins, exact over all boxes of the grid.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "euds/parallel.hpp"

namespace euds {

inline constexpr std::size_t kAxes = 3;  // fewer axes: the first ones have a single bin

// What the best box has, among those that meet `needs` and `max_keep`.
enum class Objective {
    volume,   // the smallest rank volume: the product over axes of the rows between its bounds
    utility,  // the largest sum of utility
    lift,     // the largest ratio of rows inside to rank volume
};

struct BoxProblem {
    std::array<std::int32_t, kAxes> bins;   // number of bins per axis, every one with at least one row
    std::span<const std::int32_t> counts;   // groups x bins[0] x bins[1] x bins[2]: rows of each cell, sum < 2^31
    std::span<const std::int64_t> utility;  // bins[0] x bins[1] x bins[2]: sums of utility; empty: none
    std::span<const std::int64_t> needs;    // per group: rows that the box must hold at least, one of them > 0
    std::int64_t max_keep;                  // rows that it may hold at most
    Objective objective;
};

struct FoundBox {
    std::array<std::int32_t, kAxes> low;   // first bin
    std::array<std::int32_t, kAxes> high;  // last bin, inclusive
    std::int64_t count;                    // rows inside
    std::int64_t utility;                  // sum inside; 0 without a utility
};

// At most k boxes, the best first. Boxes are ordered by the objective, then by smaller volume, then by more rows, then
// by lexicographically lowest (low, high) axis by axis. Each is the first in that order that differs from every earlier
// one and shares with it at most max_overlap (0..1) of the rows of the smaller of the two. The result does not depend on
// n_threads.
std::vector<FoundBox> find_boxes(const BoxProblem& problem, std::size_t k, double max_overlap, std::size_t n_threads,
                                 const Poll& poll);

}  // namespace euds
