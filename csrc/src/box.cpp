#include "euds/box.hpp"

#include <cstddef>
#include <vector>

namespace euds {
namespace {

// Up to the cube of the number of rows, so that volumes compare exactly.
__extension__ typedef unsigned __int128 Volume;

// Sums over all boxes that start at the origin; any box is then 8 look-ups, any row along the last axis 4.
template <typename T>
class SummedTable {
   public:
    explicit SummedTable(const std::array<std::int32_t, kAxes>& bins)
        : strides_{(static_cast<std::size_t>(bins[1]) + 1) * (static_cast<std::size_t>(bins[2]) + 1),
                   static_cast<std::size_t>(bins[2]) + 1},
          sizes_{static_cast<std::size_t>(bins[0]), static_cast<std::size_t>(bins[1]),
                 static_cast<std::size_t>(bins[2])},
          sums_((sizes_[0] + 1) * strides_[0]) {}

    void add(const std::int32_t* code, T value) {
        sums_[at(static_cast<std::size_t>(code[0]) + 1, static_cast<std::size_t>(code[1]) + 1) +
              static_cast<std::size_t>(code[2]) + 1] += value;
    }

    void accumulate() {
        for (std::size_t i = 1; i <= sizes_[0]; ++i) {
            for (std::size_t j = 1; j <= sizes_[1]; ++j) {
                T row = 0;
                for (std::size_t k = 1; k <= sizes_[2]; ++k) {
                    row += sums_[at(i, j) + k];
                    sums_[at(i, j) + k] =
                        row + sums_[at(i - 1, j) + k] + sums_[at(i, j - 1) + k] - sums_[at(i - 1, j - 1) + k];
                }
            }
        }
    }

    // prefix[k]: sum over bins [low0, high0) x [low1, high1) x [0, k)
    void row(std::size_t low0, std::size_t high0, std::size_t low1, std::size_t high1, T* prefix) const {
        const T* a = &sums_[at(high0, high1)];
        const T* b = &sums_[at(low0, high1)];
        const T* c = &sums_[at(high0, low1)];
        const T* d = &sums_[at(low0, low1)];
        for (std::size_t k = 0; k <= sizes_[2]; ++k) {
            prefix[k] = a[k] - b[k] - c[k] + d[k];
        }
    }

   private:
    std::size_t at(std::size_t i, std::size_t j) const { return i * strides_[0] + j * strides_[1]; }

    std::array<std::size_t, 2> strides_;
    std::array<std::size_t, kAxes> sizes_;
    std::vector<T> sums_;
};

class Search {
   public:
    explicit Search(const BoxProblem& problem)
        : problem_(problem),
          counts_(problem.needs.size(), SummedTable<std::int64_t>(problem.bins)),
          values_(problem.bins),
          prefixes_(problem.needs.size(), std::vector<std::int64_t>(static_cast<std::size_t>(problem.bins[2]) + 1)),
          totals_(static_cast<std::size_t>(problem.bins[2]) + 1),
          utilities_(totals_.size()) {
        for (std::size_t axis = 0; axis < kAxes; ++axis) {
            masses_[axis].assign(static_cast<std::size_t>(problem.bins[axis]) + 1, 0);
        }
        for (std::size_t row = 0; row < problem.groups.size(); ++row) {
            const std::int32_t* code = &problem.codes[row * kAxes];
            counts_[static_cast<std::size_t>(problem.groups[row])].add(code, 1);
            if (!problem.utility.empty()) {
                values_.add(code, problem.utility[row]);
            }
            for (std::size_t axis = 0; axis < kAxes; ++axis) {
                ++masses_[axis][static_cast<std::size_t>(code[axis]) + 1];
            }
        }
        for (auto& table : counts_) {
            table.accumulate();
        }
        values_.accumulate();
        for (auto& mass : masses_) {
            for (std::size_t k = 1; k < mass.size(); ++k) {
                mass[k] += mass[k - 1];
            }
        }
        for (const std::int64_t need : problem.needs) {
            needed_ += need;
        }
    }

    std::optional<FoundBox> run() {
        const auto n0 = static_cast<std::size_t>(problem_.bins[0]);
        const auto n1 = static_cast<std::size_t>(problem_.bins[1]);
        for (std::size_t low0 = 0; low0 < n0; ++low0) {
            for (std::size_t high0 = low0 + 1; high0 <= n0; ++high0) {
                for (std::size_t low1 = 0; low1 < n1; ++low1) {
                    for (std::size_t high1 = low1 + 1; high1 <= n1; ++high1) {
                        slab(low0, high0, low1, high1);
                    }
                }
            }
        }
        return best_;
    }

   private:
    // All boxes with these bins on the first two axes; bounds are half-open here.
    void slab(std::size_t low0, std::size_t high0, std::size_t low1, std::size_t high1) {
        const std::int64_t mass0 = masses_[0][high0] - masses_[0][low0];
        const std::int64_t mass1 = masses_[1][high1] - masses_[1][low1];
        if (mass0 < needed_ || mass1 < needed_) {
            return;
        }
        const Volume area = static_cast<Volume>(mass0) * static_cast<Volume>(mass1);
        // The last axis must span at least the rows needed, so no box of the slab is smaller than this.
        if (problem_.utility.empty() && best_ && area * static_cast<Volume>(needed_) > best_volume_) {
            return;
        }
        for (std::size_t group = 0; group < counts_.size(); ++group) {
            counts_[group].row(low0, high0, low1, high1, prefixes_[group].data());
            if (prefixes_[group].back() < problem_.needs[group]) {
                return;
            }
        }
        for (std::size_t k = 0; k < totals_.size(); ++k) {
            totals_[k] = 0;
            for (const auto& prefix : prefixes_) {
                totals_[k] += prefix[k];
            }
        }
        if (!problem_.utility.empty()) {
            values_.row(low0, high0, low1, high1, utilities_.data());
        }
        const std::size_t n2 = totals_.size() - 1;
        std::size_t high2 = 1;
        for (std::size_t low2 = 0; low2 < n2; ++low2) {
            high2 = high2 > low2 ? high2 : low2 + 1;
            while (high2 <= n2 && !holds_needs(low2, high2)) {
                ++high2;
            }
            // Without a utility a wider box is only larger; with one it may be better.
            const std::size_t widest = problem_.utility.empty() ? (high2 < n2 ? high2 : n2) : n2;
            for (std::size_t high = high2; high <= widest; ++high) {
                const std::int64_t count = totals_[high] - totals_[low2];
                if (count > problem_.max_keep) {
                    break;
                }
                const Volume volume = area * static_cast<Volume>(masses_[2][high] - masses_[2][low2]);
                const double utility = problem_.utility.empty() ? 0.0 : utilities_[high] - utilities_[low2];
                if (is_better(utility, volume, count)) {
                    best_volume_ = volume;
                    best_utility_ = utility;
                    best_ = FoundBox{{as_bin(low0), as_bin(low1), as_bin(low2)},
                                     {as_bin(high0 - 1), as_bin(high1 - 1), as_bin(high - 1)},
                                     count};
                }
            }
        }
    }

    bool holds_needs(std::size_t low2, std::size_t high2) const {
        for (std::size_t group = 0; group < prefixes_.size(); ++group) {
            if (prefixes_[group][high2] - prefixes_[group][low2] < problem_.needs[group]) {
                return false;
            }
        }
        return true;
    }

    // Boxes come in lexicographic order, so of equals the first one stays.
    bool is_better(double utility, Volume volume, std::int64_t count) const {
        if (!best_ || utility != best_utility_) {
            return !best_ || utility > best_utility_;
        }
        return volume < best_volume_ || (volume == best_volume_ && count > best_->count);
    }

    static std::int32_t as_bin(std::size_t bin) { return static_cast<std::int32_t>(bin); }

    const BoxProblem& problem_;
    std::vector<SummedTable<std::int64_t>> counts_;     // per group
    SummedTable<double> values_;                        // of the utility
    std::array<std::vector<std::int64_t>, kAxes> masses_;  // rows below each bin edge
    std::vector<std::vector<std::int64_t>> prefixes_;   // per group, of the slab at hand
    std::vector<std::int64_t> totals_;                  // over all groups
    std::vector<double> utilities_;
    std::int64_t needed_ = 0;
    std::optional<FoundBox> best_;
    Volume best_volume_ = 0;
    double best_utility_ = 0.0;
};

}  // namespace

std::optional<FoundBox> find_box(const BoxProblem& problem) { return Search(problem).run(); }

}  // namespace euds
