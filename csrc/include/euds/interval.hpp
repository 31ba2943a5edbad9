// Searches on one axis.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace euds {

// Positions of the first and last value of an interval in a sorted array, both inclusive.
struct Window {
    std::size_t first;
    std::size_t last;
};

// The shortest interval [values[first], values[last]] that holds at least `keep` values, equal values included.
// Ties: the one that holds more values, then the lowest. Requires ascending finite values, 1 <= keep <= size.
Window densest_interval(std::span<const double> sorted, std::size_t keep);

// Ascending positions of the `keep` smallest distances; equal distances in the order of `ties`, then of position.
// Requires equal sizes, no NaN, keep <= size.
std::vector<std::int64_t> nearest(std::span<const double> distances, std::span<const std::uint64_t> ties,
                                  std::size_t keep);

}  // namespace euds
