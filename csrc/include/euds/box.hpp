// The search for one axis-aligned box on a grid of bins, exact over all boxes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace euds {

inline constexpr std::size_t kAxes = 3;  // fewer axes: the others have a single bin

struct BoxProblem {
    std::span<const std::int32_t> codes;   // n x kAxes, row-major: the bin of each row on each axis
    std::array<std::int32_t, kAxes> bins;  // number of bins per axis, every one with at least one row
    std::span<const std::int32_t> groups;  // n: the group of each row
    std::span<const std::int64_t> needs;   // per group: rows that the box must hold at least
    std::int64_t max_keep;                 // rows that it may hold at most
    std::span<const double> utility;       // n, or empty
};

struct FoundBox {
    std::array<std::int32_t, kAxes> low;   // first bin
    std::array<std::int32_t, kAxes> high;  // last bin, inclusive
    std::int64_t count;                    // rows inside
};

// The box of smallest rank volume, the product over axes of the rows between its bounds; with a utility the box of
// largest utility sum, then smallest volume. Ties: more rows inside, then lexicographically lowest (low, high) axis by
// axis. Nothing if no box meets `needs` and `max_keep`.
std::optional<FoundBox> find_box(const BoxProblem& problem);

}  // namespace euds
