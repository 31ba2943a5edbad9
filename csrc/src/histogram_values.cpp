// Histograms of one axis: memory is read once, and most values need no search.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "bin_of.hpp"
#include "dispatch.hpp"
#include "euds/histogram.hpp"
#include "euds/parallel.hpp"

namespace euds {
namespace {

constexpr std::size_t kBlock = 1024;
constexpr std::size_t kPart = 1 << 18;
constexpr std::size_t kSmallTable = 4096;
// In bin widths: an edge is at most kSlack from where equal widths would put it, and a value within kMargin of such a
// place is looked up. The rounding of a place is far below their difference.
constexpr double kSlack = 1e-6;
constexpr double kMargin = 2e-6;
constexpr double kMostBins = 1 << 24;

struct Grid {
    double low;
    double scale;
    double n_bins;
};

// Bins of n values, n_bins for a value that must be looked up.
template <typename T>
inline __attribute__((always_inline)) void guess(const T* values, std::size_t n, const Grid& grid, std::int32_t* bins) {
    const double low = grid.low;
    const double scale = grid.scale;
    const double n_bins = grid.n_bins;
    for (std::size_t at = 0; at < n; ++at) {
        const double place = (static_cast<double>(values[at]) - low) * scale;
        // Comparisons with NaN are false; & has no branches.
        const double inside = (place >= 0.0) & (place < n_bins) ? place : n_bins;
        const double rest = inside - static_cast<double>(static_cast<std::int32_t>(inside));
        const double sure = (rest > kMargin) & (rest < 1.0 - kMargin) ? inside : n_bins;
        bins[at] = static_cast<std::int32_t>(sure);
    }
}

EUDS_EVERY_WIDTH void guess_bins(const float* values, std::size_t n, const Grid& grid, std::int32_t* bins) {
    guess(values, n, grid, bins);
}

EUDS_EVERY_WIDTH void guess_bins(const double* values, std::size_t n, const Grid& grid, std::int32_t* bins) {
    guess(values, n, grid, bins);
}

bool almost_uniform(std::span<const double> edges, const Grid& grid) {
    if (!(grid.n_bins <= kMostBins && std::isfinite(grid.scale) && grid.scale > 0.0)) {
        return false;
    }
    for (std::size_t at = 0; at < edges.size(); ++at) {
        if (!(std::abs((edges[at] - grid.low) * grid.scale - static_cast<double>(at)) <= kSlack)) {
            return false;
        }
    }
    return true;
}

// Counts of one thread. Neighbours go to different tables, so that equal ones do not wait for each other.
class Counter {
public:
    explicit Counter(std::span<const double> edges)
        : edges_(edges), n_bins_(edges.size() - 1), n_tables_(n_bins_ <= kSmallTable ? 4 : 1), tables_(n_tables_ * (n_bins_ + 1)) {}

    template <typename T>
    void add(std::span<const T> values, const Grid* grid) {
        for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
            const auto block = values.subspan(begin, std::min(kBlock, values.size() - begin));
            if (grid == nullptr) {
                std::for_each(block.begin(), block.end(), [&](T value) { look_up(static_cast<double>(value)); });
            } else {
                add_block(block, *grid);
            }
        }
    }

    void add_to(std::span<std::int64_t> counts, LeftOut& left_out) const {
        for (std::size_t table = 0; table < n_tables_; ++table) {
            for (std::size_t bin = 0; bin < n_bins_; ++bin) {
                counts[bin] += tables_[table * (n_bins_ + 1) + bin];
            }
        }
        left_out.nan += left_out_.nan;
        left_out.infinite += left_out_.infinite;
        left_out.outside += left_out_.outside;
    }

private:
    template <typename T>
    void add_block(std::span<const T> block, const Grid& grid) {
        guess_bins(block.data(), block.size(), grid, bins_.data());
        const std::size_t stride = n_bins_ + 1;
        std::int64_t* table = tables_.data();
        std::size_t at = 0;
        if (n_tables_ == 4) {
            for (; at + 4 <= block.size(); at += 4) {
                ++table[static_cast<std::size_t>(bins_[at])];
                ++table[stride + static_cast<std::size_t>(bins_[at + 1])];
                ++table[2 * stride + static_cast<std::size_t>(bins_[at + 2])];
                ++table[3 * stride + static_cast<std::size_t>(bins_[at + 3])];
            }
        }
        for (; at < block.size(); ++at) {
            ++table[static_cast<std::size_t>(bins_[at])];
        }
        const auto unsure = static_cast<std::int32_t>(n_bins_);
        std::int32_t any = 0;
        for (std::size_t place = 0; place < block.size(); ++place) {
            any |= static_cast<std::int32_t>(bins_[place] == unsure);
        }
        for (std::size_t place = 0; any != 0 && place < block.size(); ++place) {
            if (bins_[place] == unsure) {
                look_up(static_cast<double>(block[place]));
            }
        }
    }

    void look_up(double value) {
        if (const auto bin = bin_of(edges_, value)) {
            ++tables_[*bin];
        } else if (std::isnan(value)) {
            ++left_out_.nan;
        } else if (std::isinf(value)) {
            ++left_out_.infinite;
        } else {
            ++left_out_.outside;
        }
    }

    std::span<const double> edges_;
    std::size_t n_bins_;
    std::size_t n_tables_;
    std::vector<std::int64_t> tables_;  // the last entry of each counts what was looked up
    std::array<std::int32_t, kBlock> bins_{};
    LeftOut left_out_;
};

}  // namespace

template <typename T>
LeftOut add_values(std::span<const double> edges, std::span<const T> values, std::span<std::int64_t> counts,
                   std::size_t n_threads) {
    const auto n_bins = static_cast<double>(edges.size() - 1);
    const Grid grid{edges.front(), n_bins / (edges.back() - edges.front()), n_bins};
    const Grid* used = almost_uniform(edges, grid) ? &grid : nullptr;
    const std::size_t n_parts = values.size() / kPart + 1;
    const std::size_t n_workers = std::min(n_threads, n_parts);
    std::vector<Counter> counters(n_workers, Counter(edges));
    parallel_for(n_parts, n_workers, [&](std::size_t part, std::size_t worker) {
        const std::size_t begin = part_begin(values.size(), n_parts, part);
        const std::size_t end = part_begin(values.size(), n_parts, part + 1);
        counters[worker].add(values.subspan(begin, end - begin), used);
    });
    LeftOut left_out;
    for (const Counter& counter : counters) {
        counter.add_to(counts, left_out);
    }
    return left_out;
}

template LeftOut add_values<float>(std::span<const double>, std::span<const float>, std::span<std::int64_t>, std::size_t);
template LeftOut add_values<double>(std::span<const double>, std::span<const double>, std::span<std::int64_t>, std::size_t);

}  // namespace euds
