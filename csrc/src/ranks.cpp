#include "euds/ranks.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "euds/parallel.hpp"

namespace euds {
namespace {

constexpr unsigned kDigitBits = 11;  // a pass moves rows to 2048 places, which the nearest caches hold
constexpr std::size_t kDigits = std::size_t{1} << kDigitBits;
constexpr std::size_t kRowsPerThread = 1 << 16;

template <typename T>
using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;

template <typename T>
struct Item {
    Bits<T> key;
    std::uint32_t row;
};

// An integer that sorts as the number does; -0.0 and 0.0 are equal.
template <typename T>
Bits<T> sort_key(T value) {
    constexpr Bits<T> sign = Bits<T>{1} << (8 * sizeof(T) - 1);
    const auto bits = std::bit_cast<Bits<T>>(value + T{0});
    return (bits & sign) != 0 ? static_cast<Bits<T>>(~bits) : static_cast<Bits<T>>(bits | sign);
}

template <typename T>
class Ranker {
   public:
    Ranker(std::span<const T> scores, std::size_t n_axes, std::span<std::uint32_t> ranks, std::size_t n_threads)
        : scores_(scores),
          n_axes_(n_axes),
          n_(scores.size() / n_axes),
          ranks_(ranks),
          n_parts_(std::clamp<std::size_t>(n_ / kRowsPerThread, 1, n_threads)),
          varying_(n_parts_),
          offsets_(n_parts_) {}

    std::size_t run() {
        const std::size_t n_finite = count_finite();
        if (n_finite == 0) {
            std::fill(ranks_.begin(), ranks_.end(), 0);
            return 0;
        }
        items_.resize(n_finite);
        sorted_.resize(n_finite);
        for (std::size_t axis = 0; axis < n_axes_; ++axis) {
            gather(axis);
            sort();
            write_ranks(ranks_.subspan(axis * n_, n_));
        }
        return n_finite;
    }

   private:
    template <typename Work>
    void each_part(const Work& work) {
        parallel_for(n_parts_, n_parts_, [&](std::size_t part, std::size_t) { work(part); });
    }

    bool is_finite(std::size_t row) const {
        const T* score = &scores_[row * n_axes_];
        return std::all_of(score, score + n_axes_, [](T value) { return std::isfinite(value); });
    }

    std::size_t count_finite() {
        first_item_.assign(n_parts_ + 1, 0);
        each_part([&](std::size_t part) {
            std::size_t count = 0;
            for (std::size_t row = begin(n_, part); row < begin(n_, part + 1); ++row) {
                count += is_finite(row) ? 1 : 0;
            }
            first_item_[part + 1] = count;
        });
        for (std::size_t part = 0; part < n_parts_; ++part) {
            first_item_[part + 1] += first_item_[part];
        }
        return first_item_.back();
    }

    void gather(std::size_t axis) {
        each_part([&](std::size_t part) {
            Item<T>* item = items_.data() + first_item_[part];
            Bits<T> varying = 0;
            const Bits<T> some_key = sort_key(scores_[axis]);
            for (std::size_t row = begin(n_, part); row < begin(n_, part + 1); ++row) {
                if (is_finite(row)) {
                    *item = {sort_key(scores_[row * n_axes_ + axis]), static_cast<std::uint32_t>(row)};
                    varying |= item->key ^ some_key;
                    ++item;
                } else {
                    ranks_[axis * n_ + row] = 0;
                }
            }
            varying_[part] = varying;
        });
    }

    // Stable, by one digit after another from the least; digits that all keys share are skipped.
    void sort() {
        Bits<T> varying = 0;
        for (const Bits<T> bits : varying_) {
            varying |= bits;
        }
        for (unsigned shift = 0; shift < 8 * sizeof(T); shift += kDigitBits) {
            if (((varying >> shift) & (kDigits - 1)) != 0) {
                sort_by_digit(shift);
                std::swap(items_, sorted_);
            }
        }
    }

    void sort_by_digit(unsigned shift) {
        const auto digit = [shift](const Item<T>& item) { return (item.key >> shift) & (kDigits - 1); };
        each_part([&](std::size_t part) {
            offsets_[part].fill(0);
            for (std::size_t at = begin(items_.size(), part); at < begin(items_.size(), part + 1); ++at) {
                ++offsets_[part][digit(items_[at])];
            }
        });
        std::uint32_t offset = 0;
        for (std::size_t value = 0; value < kDigits; ++value) {
            for (auto& part : offsets_) {
                offset += std::exchange(part[value], offset);
            }
        }
        each_part([&](std::size_t part) {
            auto places = offsets_[part];
            for (std::size_t at = begin(items_.size(), part); at < begin(items_.size(), part + 1); ++at) {
                sorted_[places[digit(items_[at])]++] = items_[at];
            }
        });
    }

    // A part ranks the runs of equal keys that start inside it.
    void write_ranks(std::span<std::uint32_t> ranks) {
        each_part([&](std::size_t part) {
            const std::size_t stop = begin(items_.size(), part + 1);
            std::size_t first = begin(items_.size(), part);
            while (first < stop && first > 0 && items_[first].key == items_[first - 1].key) {
                ++first;
            }
            while (first < stop) {
                std::size_t end = first + 1;
                while (end < items_.size() && items_[end].key == items_[first].key) {
                    ++end;
                }
                for (std::size_t at = first; at < end; ++at) {
                    ranks[items_[at].row] = static_cast<std::uint32_t>(first + end);
                }
                first = end;
            }
        });
    }

    std::size_t begin(std::size_t n, std::size_t part) const { return part_begin(n, n_parts_, part); }

    std::span<const T> scores_;
    std::size_t n_axes_;
    std::size_t n_;
    std::span<std::uint32_t> ranks_;
    std::size_t n_parts_;
    std::vector<std::size_t> first_item_;  // of each part
    std::vector<Bits<T>> varying_;         // per part: bits in which its keys differ from some key
    std::vector<std::array<std::uint32_t, kDigits>> offsets_;
    std::vector<Item<T>> items_;
    std::vector<Item<T>> sorted_;
};

class CellCounter {
   public:
    CellCounter(const RankGrid& grid, std::span<const std::int32_t> groups, std::span<const double> utility,
                double scale)
        : grid_(grid), n_(grid.ranks.size() / grid.n_axes), groups_(groups), utility_(utility), scale_(scale) {
        for (std::size_t axis = 0; axis < grid.n_axes; ++axis) {
            n_cells_ *= grid.bins;
        }
    }

    std::size_t n_rows() const { return n_; }

    void add(std::size_t first, std::size_t last, std::span<std::int32_t> counts, std::span<std::int64_t> sums) const {
        for (std::size_t row = first; row < last; ++row) {
            if (grid_.ranks[row] == 0) {
                continue;
            }
            std::size_t cell = 0;
            for (std::size_t axis = 0; axis < grid_.n_axes; ++axis) {
                const std::uint64_t rank = grid_.ranks[axis * n_ + row];
                cell = cell * grid_.bins + grid_.bins * rank / (2 * grid_.n_ranked);
            }
            const std::size_t group = groups_.empty() ? 0 : static_cast<std::size_t>(groups_[row]);
            ++counts[group * n_cells_ + cell];
            if (!utility_.empty()) {
                sums[cell] += std::llrint(utility_[row] * scale_);
            }
        }
    }

   private:
    const RankGrid& grid_;
    std::size_t n_;
    std::size_t n_cells_ = 1;
    std::span<const std::int32_t> groups_;
    std::span<const double> utility_;
    double scale_;
};

template <typename T>
void add_to(std::span<T> total, const std::vector<T>& part) {
    for (std::size_t at = 0; at < part.size(); ++at) {
        total[at] += part[at];
    }
}

}  // namespace

template <typename T>
std::size_t rank_rows(std::span<const T> scores, std::size_t n_axes, std::span<std::uint32_t> ranks,
                      std::size_t n_threads) {
    return Ranker<T>(scores, n_axes, ranks, n_threads).run();
}

template std::size_t rank_rows(std::span<const float>, std::size_t, std::span<std::uint32_t>, std::size_t);
template std::size_t rank_rows(std::span<const double>, std::size_t, std::span<std::uint32_t>, std::size_t);

void count_rows(const RankGrid& grid, std::span<const std::int32_t> groups, std::span<const double> utility,
                double scale, std::span<std::int32_t> counts, std::span<std::int64_t> sums, std::size_t n_threads) {
    const CellCounter counter(grid, groups, utility, scale);
    const std::size_t n = counter.n_rows();
    // Each thread fills a grid of its own, of no more cells than it has rows: that bounds what the grids take of time and
    // memory. Integers add up the same in any order.
    const std::size_t n_parts =
        std::clamp<std::size_t>(n / std::max(kRowsPerThread, counts.size()), 1, n_threads);
    std::vector<std::vector<std::int32_t>> part_counts(n_parts - 1, std::vector<std::int32_t>(counts.size()));
    std::vector<std::vector<std::int64_t>> part_sums(n_parts - 1, std::vector<std::int64_t>(sums.size()));
    parallel_for(n_parts, n_parts, [&](std::size_t part, std::size_t) {
        const std::size_t first = part_begin(n, n_parts, part);
        const std::size_t last = part_begin(n, n_parts, part + 1);
        if (part == 0) {
            counter.add(first, last, counts, sums);
        } else {
            counter.add(first, last, part_counts[part - 1], part_sums[part - 1]);
        }
    });
    for (std::size_t part = 1; part < n_parts; ++part) {
        add_to(counts, part_counts[part - 1]);
        add_to(sums, part_sums[part - 1]);
    }
}

}  // namespace euds
