#include "euds/histogram.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

#include "bin_of.hpp"

namespace euds {
namespace {

__extension__ typedef __int128 Sum;
__extension__ typedef unsigned __int128 Bits;

std::optional<std::size_t> cell_of(const Histogram& histogram, const double* values) {
    std::size_t cell = 0;
    for (std::size_t axis = 0; axis < histogram.edges.size(); ++axis) {
        const auto bin = bin_of(histogram.edges[axis], values[axis]);
        if (!bin) {
            return std::nullopt;
        }
        cell = cell * (histogram.edges[axis].size() - 1) + *bin;
    }
    return cell;
}

void add_utility(std::uint64_t* words, double utility) {
    const auto steps = static_cast<Sum>(std::nearbyint(std::ldexp(utility, kUtilityBits)));
    const Bits sum = ((static_cast<Bits>(words[1]) << 64) | words[0]) + static_cast<Bits>(steps);
    words[0] = static_cast<std::uint64_t>(sum);
    words[1] = static_cast<std::uint64_t>(sum >> 64);
}

void leave_out(std::span<const double> row, LeftOut& left_out) {
    if (std::any_of(row.begin(), row.end(), [](double value) { return std::isnan(value); })) {
        ++left_out.nan;
    } else if (std::any_of(row.begin(), row.end(), [](double value) { return std::isinf(value); })) {
        ++left_out.infinite;
    } else {
        ++left_out.outside;
    }
}

}  // namespace

LeftOut add_rows(const Histogram& histogram, std::span<const double> values, std::span<const double> utility) {
    const std::size_t n_axes = histogram.edges.size();
    LeftOut left_out;
    for (std::size_t row = 0; row < values.size() / n_axes; ++row) {
        const auto cell = cell_of(histogram, &values[row * n_axes]);
        if (!cell) {
            leave_out(values.subspan(row * n_axes, n_axes), left_out);
            continue;
        }
        ++histogram.counts[*cell];
        if (!utility.empty()) {
            add_utility(&histogram.sums[2 * *cell], utility[row]);
        }
    }
    return left_out;
}

}  // namespace euds
