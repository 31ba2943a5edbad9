// The bin of a value by binary search, and why a value has none.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "euds/histogram.hpp"

namespace euds {

inline std::optional<std::size_t> bin_of(std::span<const double> edges, double value) {
    if (!(value >= edges.front() && value <= edges.back())) {
        return std::nullopt;
    }
    const auto above = std::upper_bound(edges.begin() + 1, edges.end() - 1, value);
    return static_cast<std::size_t>(above - edges.begin()) - 1;
}

// Counts a value in its bin, or why it has none.
inline void look_up(std::span<const double> edges, double value, std::span<std::int64_t> counts, LeftOut& left_out) {
    if (const auto bin = bin_of(edges, value)) {
        ++counts[*bin];
    } else if (std::isnan(value)) {
        ++left_out.nan;
    } else if (std::isinf(value)) {
        ++left_out.infinite;
    } else {
        ++left_out.outside;
    }
}

}  // namespace euds
