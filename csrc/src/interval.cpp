#include "euds/interval.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace euds {

Window densest_interval(std::span<const double> sorted, std::size_t keep) {
    const std::size_t n = sorted.size();
    Window best{0, n - 1};
    double best_width = sorted[n - 1] - sorted[0];
    std::size_t best_count = n;
    std::size_t end = 0;  // one past the last value equal to the interval's upper bound
    for (std::size_t first = 0; first + keep <= n; ++first) {
        if (first > 0 && sorted[first] == sorted[first - 1]) {
            continue;  // an interval starts with all values equal to its lower bound
        }
        end = std::max(end, first + keep);
        while (end < n && sorted[end] == sorted[end - 1]) {
            ++end;
        }
        const double width = sorted[end - 1] - sorted[first];
        const std::size_t count = end - first;
        if (width < best_width || (width == best_width && (count > best_count || (count == best_count && first < best.first)))) {
            best = {first, end - 1};
            best_width = width;
            best_count = count;
        }
    }
    return best;
}

std::vector<std::int64_t> nearest(std::span<const double> distances, std::span<const std::uint64_t> ties,
                                  std::size_t keep) {
    std::vector<std::int64_t> order(distances.size());
    std::iota(order.begin(), order.end(), std::int64_t{0});
    const auto before = [&](std::int64_t a, std::int64_t b) {
        const auto i = static_cast<std::size_t>(a);
        const auto j = static_cast<std::size_t>(b);
        return std::tie(distances[i], ties[i], a) < std::tie(distances[j], ties[j], b);
    };
    const auto middle = order.begin() + static_cast<std::ptrdiff_t>(keep);
    if (middle != order.end()) {
        std::nth_element(order.begin(), middle, order.end(), before);
    }
    order.resize(keep);
    std::sort(order.begin(), order.end());
    return order;
}

}  // namespace euds
