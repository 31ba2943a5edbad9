// Searches on one axis.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace euds {

// One axis cut into ascending, disjoint pieces: the bins of a histogram, or different values, each with the rows equal to
// it (low = high). An interval is a range of pieces.
struct Pieces {
    std::span<const double> low;           // strictly ascending, finite
    std::span<const double> high;          // high[i] in low[i]..low[i + 1]
    std::span<const std::int64_t> counts;  // rows, >= 0
    std::span<const std::int64_t> sums;    // of the utility, |total| <= 2^62; empty: none
};

// First and last piece of an interval, both inclusive. Its width is high[last] - low[first].
struct Interval {
    std::size_t first;
    std::size_t last;
};

// Rows that an interval must hold at least and may hold at most; 1 <= least.
struct Limits {
    std::int64_t least;
    std::int64_t most;
};

// The interval of smallest width. Ties: more rows, then the lowest. Nothing if none is within the limits. O(pieces).
std::optional<Interval> shortest_interval(const Pieces& pieces, const Limits& limits);

// The interval with most rows per width, where a width below min_width counts as min_width: the most rows that a closed
// interval of at least this width can hold for its width. Widths and ratios compare in double precision. Ties: more
// rows, then the lowest. O(pieces log pieces).
std::optional<Interval> densest_interval(const Pieces& pieces, std::int64_t least, double min_width);

// The interval with the largest sum of utility. Ties: smallest width, more rows, then the lowest. O(pieces).
std::optional<Interval> best_interval(const Pieces& pieces, const Limits& limits);

// Ascending positions of the `keep` smallest distances; equal distances in the order of `ties`, then of position.
// Requires equal sizes, no NaN, keep <= size.
std::vector<std::int64_t> nearest(std::span<const double> distances, std::span<const std::uint64_t> ties,
                                  std::size_t keep);

}  // namespace euds
