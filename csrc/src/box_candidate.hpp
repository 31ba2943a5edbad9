// One box and the order in which boxes are preferred.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "euds/box.hpp"

namespace euds {

// Up to the fourth power of the number of rows, so that volumes and lifts compare exactly.
__extension__ typedef unsigned __int128 Wide;

struct Candidate {
    std::array<std::int32_t, 2 * kAxes> bounds{};  // low, high of each axis, half-open
    std::int64_t count = 0;
    std::int64_t utility = 0;
    Wide volume = 0;  // 0: no box yet
};

// Whether box a comes before box b under the objective.
inline bool is_better(Objective objective, const Candidate& a, const Candidate& b) {
    if (b.volume == 0) {
        return true;
    }
    if (objective == Objective::utility && a.utility != b.utility) {
        return a.utility > b.utility;
    }
    if (objective == Objective::lift) {
        const Wide left = static_cast<Wide>(a.count) * b.volume;
        const Wide right = static_cast<Wide>(b.count) * a.volume;
        if (left != right) {
            return left > right;
        }
    }
    if (a.volume != b.volume) {
        return a.volume < b.volume;
    }
    return a.count != b.count ? a.count > b.count : a.bounds < b.bounds;
}

// The bounds that two boxes share; false if they share no cell.
inline bool intersect(const Candidate& a, const Candidate& b, std::array<std::int32_t, 2 * kAxes>& shared) {
    for (std::size_t axis = 0; axis < kAxes; ++axis) {
        shared[2 * axis] = std::max(a.bounds[2 * axis], b.bounds[2 * axis]);
        shared[2 * axis + 1] = std::min(a.bounds[2 * axis + 1], b.bounds[2 * axis + 1]);
        if (shared[2 * axis] >= shared[2 * axis + 1]) {
            return false;
        }
    }
    return true;
}

}  // namespace euds
