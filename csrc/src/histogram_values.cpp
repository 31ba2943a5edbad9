// Histograms of one axis: memory is read once, and most values need no search.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "bin_of.hpp"
#include "dispatch.hpp"
#include "euds/histogram.hpp"
#include "euds/parallel.hpp"

namespace euds {
namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kGroup = 64;
constexpr std::size_t kPart = 1 << 18;
constexpr std::size_t kSmallTable = 4096;
// In bin widths: an edge is at most kSlack from where equal widths would put it, and a value within kMargin of such a
// place is looked up. The rounding of a place is far below their difference.
constexpr double kSlack = 1e-6;
constexpr double kMargin = 2e-6;
// With a wider margin single precision leaves too much to look up.
constexpr double kFastMargin = 1e-3;
constexpr double kMostBins = 1 << 24;

struct Grid {
    double low;
    double scale;
    double n_bins;
};

// Bins of n values, n_bins for a value that must be looked up. F is what places are computed in, margin the largest
// error of a place.
template <typename F, typename T>
inline __attribute__((always_inline)) void guess(const T* values, std::size_t n, const Grid& grid, double margin,
                                                 std::int32_t* bins) {
    const F low = static_cast<F>(grid.low);
    const F scale = static_cast<F>(grid.scale);
    const F n_bins = static_cast<F>(grid.n_bins);
    const F least = static_cast<F>(margin);
    const F most = F{1} - least;
    for (std::size_t at = 0; at < n; ++at) {
        const F place = (static_cast<F>(values[at]) - low) * scale;
        // Comparisons with NaN are false; & has no branches.
        const F inside = (place >= F{0}) & (place < n_bins) ? place : n_bins;
        const F rest = inside - static_cast<F>(static_cast<std::int32_t>(inside));
        const F sure = (rest > least) & (rest < most) ? inside : n_bins;
        bins[at] = static_cast<std::int32_t>(sure);
    }
}

EUDS_EVERY_WIDTH void guess_fast(const float* values, std::size_t n, const Grid& grid, double margin,
                                 std::int32_t* bins) {
    guess<float>(values, n, grid, margin, bins);
}

EUDS_EVERY_WIDTH void guess_exactly(const float* values, std::size_t n, const Grid& grid, std::int32_t* bins) {
    guess<double>(values, n, grid, kMargin, bins);
}

EUDS_EVERY_WIDTH void guess_exactly(const double* values, std::size_t n, const Grid& grid, std::int32_t* bins) {
    guess<double>(values, n, grid, kMargin, bins);
}

void guess_bins(const double* values, std::size_t n, const Grid& grid, std::int32_t* bins) {
    guess_exactly(values, n, grid, bins);
}

void guess_bins(const float* values, std::size_t n, const Grid& grid, std::int32_t* bins) {
    // Rounding of low, of the difference and of the product, in bin widths, with room to spare.
    const double margin = kMargin + 0x1p-22 * (grid.n_bins + std::abs(grid.low) * grid.scale);
    if (margin < kFastMargin) {
        guess_fast(values, n, grid, margin, bins);
    } else {
        guess_exactly(values, n, grid, bins);
    }
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
        : edges_(edges),
          n_bins_(edges.size() - 1),
          n_tables_(n_bins_ <= kSmallTable ? 4 : 1),
          tables_(n_tables_ * (n_bins_ + 1)),
          totals_(n_bins_) {}

    // Adds one part; grid is null for bins that are not almost equally wide.
    template <typename T>
    void add(std::span<const T> part, const Grid* grid) {
        pending_ += part.size();
        if (pending_ > std::numeric_limits<std::uint32_t>::max()) {
            flush();
            pending_ = part.size();
        }
        for (std::size_t begin = 0; begin < part.size(); begin += kBlock) {
            const auto block = part.subspan(begin, std::min(kBlock, part.size() - begin));
            if (grid == nullptr) {
                std::for_each(block.begin(), block.end(), [&](T value) { look_up(static_cast<double>(value)); });
            } else {
                add_block(block, *grid);
            }
        }
    }

    void add_to(std::span<std::int64_t> counts, LeftOut& left_out) {
        flush();
        for (std::size_t bin = 0; bin < n_bins_; ++bin) {
            counts[bin] += totals_[bin];
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
        std::uint32_t* table = tables_.data();
        std::size_t at = 0;
        if (n_tables_ == 4) {
            for (; at + 4 <= block.size(); at += 4) {
                // Two bins a load: loads and stores are what this loop waits for.
                const std::uint64_t first = pair_at(at);
                const std::uint64_t second = pair_at(at + 2);
                ++table[first & 0xffffffffU];
                ++table[stride + (first >> 32)];
                ++table[2 * stride + (second & 0xffffffffU)];
                ++table[3 * stride + (second >> 32)];
            }
        }
        for (; at < block.size(); ++at) {
            ++table[static_cast<std::size_t>(bins_[at])];
        }
        for (std::size_t begin = 0; begin < block.size(); begin += kGroup) {
            look_up_unsure(block.subspan(begin, std::min(kGroup, block.size() - begin)), &bins_[begin]);
        }
    }

    template <typename T>
    void look_up_unsure(std::span<const T> group, const std::int32_t* bins) {
        const auto unsure = static_cast<std::int32_t>(n_bins_);
        std::int32_t any = 0;
        for (std::size_t at = 0; at < group.size(); ++at) {
            any |= static_cast<std::int32_t>(bins[at] == unsure);
        }
        for (std::size_t at = 0; any != 0 && at < group.size(); ++at) {
            if (bins[at] == unsure) {
                look_up(static_cast<double>(group[at]));
            }
        }
    }

    void flush() {
        for (std::size_t at = 0; at < tables_.size(); ++at) {
            // The last entry of each table counts what was looked up.
            if (at % (n_bins_ + 1) < n_bins_) {
                totals_[at % (n_bins_ + 1)] += tables_[at];
            }
        }
        std::fill(tables_.begin(), tables_.end(), 0U);
    }

    std::uint64_t pair_at(std::size_t at) const {
        std::uint64_t pair = 0;
        std::memcpy(&pair, &bins_[at], sizeof pair);
        return pair;
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
    std::vector<std::uint32_t> tables_;
    std::vector<std::int64_t> totals_;
    std::size_t pending_ = 0;  // values in the tables, at most
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
    for (Counter& counter : counters) {
        counter.add_to(counts, left_out);
    }
    return left_out;
}

template LeftOut add_values<float>(std::span<const double>, std::span<const float>, std::span<std::int64_t>, std::size_t);
template LeftOut add_values<double>(std::span<const double>, std::span<const double>, std::span<std::int64_t>, std::size_t);

}  // namespace euds
