// Edges in the type of the values.
#pragma once

#include <cmath>
#include <limits>

namespace euds {

// The smallest T at or above the edge: values of this type are at or above the edge if and only if at or above this.
template <typename T>
T round_up(double edge) {
    const auto near = static_cast<T>(edge);
    return static_cast<double>(near) < edge ? std::nextafter(near, std::numeric_limits<T>::infinity()) : near;
}

}  // namespace euds
