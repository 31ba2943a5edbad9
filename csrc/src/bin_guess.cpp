#include "bin_guess.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "round_up.hpp"

namespace euds {
namespace {

// In cell widths: an edge is at most kSlack from where equal widths would put it, and a value within kMargin of such a
// place is looked up. The rounding of a place is far below their difference.
constexpr double kSlack = 1e-6;
constexpr double kMargin = 2e-6;
// With a wider margin single precision leaves too much to look up.
constexpr double kFastMargin = 1e-3;
constexpr double kMostBins = 1 << 24;
// Enough that few cells hold two edges, few enough that the cells stay in the nearest cache for up to 512 bins.
constexpr std::size_t kCellsABin = 8;
constexpr std::size_t kFewestCells = 256;
constexpr std::size_t kMostCells = 1 << 16;

// An upper bound of the error of places in single precision: the rounding of low, of the difference and of the product.
double float_error(const Cells& cells) { return 0x1p-22 * (cells.n + std::abs(cells.low) * cells.scale); }

Cells cells_between(std::span<const double> edges, double n) {
    const Cells cells{edges.front(), n / (edges.back() - edges.front()), n};
    const bool usable = n <= kMostBins && std::isfinite(cells.scale) && cells.scale > 0.0;
    return usable ? cells : Cells{0.0, 0.0, 0.0};
}

}  // namespace

template <typename T>
BinGuess<T>::BinGuess(std::span<const double> edges)
    : n_bins_(static_cast<std::int32_t>(edges.size() - 1)),
      cells_(cells_between(edges, static_cast<double>(edges.size() - 1))) {
    const bool uniform = are_cells(edges);
    if (!uniform && cells_.n > 0.0) {
        const std::size_t n_cells = std::clamp(std::bit_ceil(kCellsABin * (edges.size() - 1)), kFewestCells, kMostCells);
        cells_ = cells_between(edges, static_cast<double>(n_cells));
    }
    const double error = float_error(cells_);
    in_float_ = std::is_same_v<T, float> && kMargin + error < kFastMargin;
    if (uniform) {
        margin_ = in_float_ ? kMargin + error : kMargin;
    } else if (cells_.n > 0.0) {
        fill_cells(edges);
    }
}

template <typename T>
bool BinGuess<T>::are_cells(std::span<const double> edges) const {
    for (std::size_t at = 0; at < edges.size(); ++at) {
        if (!(std::abs((edges[at] - cells_.low) * cells_.scale - static_cast<double>(at)) <= kSlack)) {
            return false;
        }
    }
    return true;
}

template <typename T>
void BinGuess<T>::fill_cells(std::span<const double> edges) {
    const auto n_cells = static_cast<std::size_t>(cells_.n);
    const double last = cells_.n - 1.0;
    bin_of_cell_.assign(n_cells + 1, 0);
    edge_of_cell_.assign(n_cells + 1, std::numeric_limits<T>::quiet_NaN());
    std::vector<std::int32_t> edges_in(n_cells, 0);
    std::size_t next = 0;  // the first cell above the edges so far
    for (std::size_t edge = 0; edge < edges.size(); ++edge) {
        const double place = (edges[edge] - cells_.low) * cells_.scale;
        const auto first = static_cast<std::size_t>(std::clamp(std::floor(place - kFastMargin), 0.0, last));
        const auto end = static_cast<std::size_t>(std::clamp(std::floor(place + kFastMargin), 0.0, last)) + 1;
        const auto below = static_cast<std::int32_t>(edge) - 1;
        for (; next < end; ++next) {
            bin_of_cell_[next] = below;
        }
        for (std::size_t cell = first; cell < end; ++cell) {
            ++edges_in[cell];
            edge_of_cell_[cell] = round_up<T>(edges[edge]);
        }
    }
    // A value just outside may seem to be just inside.
    edges_in.front() = edges_in.back() = 2;
    for (std::size_t cell = 0; cell < n_cells; ++cell) {
        if (edges_in[cell] > 1) {
            bin_of_cell_[cell] = n_bins_;
            edge_of_cell_[cell] = std::numeric_limits<T>::quiet_NaN();
        }
    }
    bin_of_cell_[n_cells] = n_bins_;
}

template <typename T>
bool BinGuess<T>::guess(const T* values, std::size_t n, std::int32_t* bins) const {
    bool unsure = true;
    if (cells_.n == 0.0) {
        std::fill(bins, bins + n, n_bins_);
        return unsure;
    }
    if constexpr (std::is_same_v<T, float>) {
        unsure = in_float_ ? single_precision_ways().front()(values, n, cells_, margin_, bins)
                           : find_cells(values, n, cells_, margin_, bins);
    } else {
        unsure = find_cells(values, n, cells_, margin_, bins);
    }
    return edge_of_cell_.empty() ? unsure : refine(values, n, bins);
}

template <typename T>
bool BinGuess<T>::refine(const T* values, std::size_t n, std::int32_t* bins) const {
    const std::int32_t* below = bin_of_cell_.data();
    const T* edges = edge_of_cell_.data();
    std::int32_t largest = 0;
    for (std::size_t at = 0; at < n; ++at) {
        const auto cell = static_cast<std::size_t>(bins[at]);
        bins[at] = below[cell] + static_cast<std::int32_t>(values[at] >= edges[cell]);
        largest = std::max(largest, bins[at]);
    }
    return largest == n_bins_;
}

template class BinGuess<float>;
template class BinGuess<double>;

}  // namespace euds
