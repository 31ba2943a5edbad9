// The bin of a value by binary search.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>

namespace euds {

inline std::optional<std::size_t> bin_of(std::span<const double> edges, double value) {
    if (!(value >= edges.front() && value <= edges.back())) {
        return std::nullopt;
    }
    const auto above = std::upper_bound(edges.begin() + 1, edges.end() - 1, value);
    return static_cast<std::size_t>(above - edges.begin()) - 1;
}

}  // namespace euds
