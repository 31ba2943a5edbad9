#include "euds/similarity_groups.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels.hpp"

namespace euds {
namespace {

constexpr std::size_t kTaskRows = 4096;  // about as many rows are a thread's next task
constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

// Sums in float32, which leave a comparison open where their roughness could change its outcome.
class FastCosines {
   public:
    FastCosines(Isa isa, std::size_t width)
        : dots_(kernels_of(isa).dots), width_(width), roughness_(4.0 * 0x1p-23 * static_cast<double>(width)) {}

    // products[r] for the n <= kMostDots other rows; is_first: others[0] is the row itself.
    void multiply(const float* row, const float* const* others, std::size_t n, bool is_first, double* products) const {
        (is_first ? dots_.first : dots_.later)[n - 1](row, others, width_, products);
    }

    // NaN also where something overflows in float32, or where what underflows might count.
    static double inverse_norm(double squares) {
        return 1e-20 < squares && squares < 1e20 ? 1.0 / std::sqrt(squares) : std::numeric_limits<double>::quiet_NaN();
    }

    // NaN is as open as a near miss.
    bool is_open(double cosine, double least) const { return !(std::abs(cosine - least) > roughness_); }

   private:
    const DotsKernels& dots_;
    std::size_t width_;
    double roughness_;
};

// Sums in float64, which settle every comparison; with NaN a cosine is below any.
class ExactCosines {
   public:
    explicit ExactCosines(std::size_t width) : width_(width) {}

    void multiply(const float* row, const float* const* others, std::size_t n, bool, double* products) const {
        for (std::size_t r = 0; r < n; ++r) {
            constexpr std::size_t lanes = 8;
            std::array<double, lanes> sums{};
            std::size_t at = 0;
            for (; at + lanes <= width_; at += lanes) {
                for (std::size_t lane = 0; lane < lanes; ++lane) {
                    sums[lane] += double{row[at + lane]} * double{others[r][at + lane]};
                }
            }
            products[r] = std::accumulate(sums.begin(), sums.end(), 0.0);
            for (; at < width_; ++at) {
                products[r] += double{row[at]} * double{others[r][at]};
            }
        }
    }

    static double inverse_norm(double squares) {
        const bool has_direction = 0.0 < squares && squares < std::numeric_limits<double>::infinity();
        return has_direction ? 1.0 / std::sqrt(squares) : std::numeric_limits<double>::quiet_NaN();
    }

    static bool is_open(double, double) { return false; }

   private:
    std::size_t width_;
};

// The rows of one sample.
struct Sample {
    const float* values;
    std::size_t width;
    std::size_t n;
    const bool* empty;
    std::int64_t* groups;

    const float* row(std::size_t i) const { return values + i * width; }
};

// Memory that is used again for every sample.
struct Scratch {
    std::vector<double> inverse;       // 1 / norm of each row
    std::vector<std::size_t> members;  // first members of the groups, or each row's parent
};

// Calls take(j) for each row j that next() gives, until kNone, that is like row i; ends where it returns true.
// Returns false, with rows left out, where a comparison stays open.
template <typename Cosines, typename Next, typename Take>
bool compare(const Sample& sample, const Cosines& cosines, double least, std::vector<double>& inverse, std::size_t i,
             const Next& next, const Take& take) {
    const float* const row = sample.row(i);
    // The row itself is the first of the others: its square is a product like any.
    std::array<std::size_t, kMostDots> which{i};
    std::array<const float*, kMostDots> others{row};
    std::array<double, kMostDots> products;
    for (bool is_first = true;; is_first = false) {
        const std::size_t start = is_first ? 1 : 0;
        std::size_t n = start;
        for (std::size_t j = 0; n < kMostDots && (j = next()) != kNone; ++n) {
            which[n] = j;
            others[n] = sample.row(j);
        }
        if (n == 0) {
            return true;
        }
        cosines.multiply(row, others.data(), n, is_first, products.data());
        if (is_first) {
            inverse[i] = Cosines::inverse_norm(products[0]);
        }
        for (std::size_t at = start; at < n; ++at) {
            const double cosine = products[at] * inverse[i] * inverse[which[at]];
            if (cosines.is_open(cosine, least)) {
                return false;
            }
            if (cosine >= least && take(which[at])) {
                return true;
            }
        }
    }
}

// The first group, in order, whose first member is like the row; the order of the rows matters.
template <typename Cosines>
bool by_representative(const Sample& sample, const Cosines& cosines, double least, Scratch& scratch) {
    auto& representatives = scratch.members;
    representatives.clear();
    std::size_t group_of_empty = kNone;
    for (std::size_t i = 0; i < sample.n; ++i) {
        std::size_t found = kNone;
        if (sample.empty[i]) {
            found = group_of_empty;
        } else {
            std::size_t at = 0;
            const auto next = [&] {
                at += at == group_of_empty ? 1 : 0;
                return at < representatives.size() ? representatives[at++] : kNone;
            };
            const auto take = [&](std::size_t j) {
                found = static_cast<std::size_t>(sample.groups[j]);
                return true;
            };
            if (!compare(sample, cosines, least, scratch.inverse, i, next, take)) {
                return false;
            }
        }
        if (found == kNone) {
            found = representatives.size();
            representatives.push_back(i);
            group_of_empty = sample.empty[i] ? found : group_of_empty;
        }
        sample.groups[i] = static_cast<std::int64_t>(found);
    }
    return true;
}

// Root of a row's tree, halving the path to it.
std::size_t root_of(std::vector<std::size_t>& parent, std::size_t i) {
    while (parent[i] != i) {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    return i;
}

// The components of the graph whose edges are the pairs that are alike; the order of the rows does not matter.
template <typename Cosines>
bool by_component(const Sample& sample, const Cosines& cosines, double least, Scratch& scratch) {
    auto& parent = scratch.members;
    parent.resize(sample.n);
    std::iota(parent.begin(), parent.end(), std::size_t{0});
    // The smaller root stays, so that a root is the first member of its group.
    const auto join = [&](std::size_t i, std::size_t j) {
        const auto [low, high] = std::minmax({root_of(parent, i), root_of(parent, j)});
        parent[high] = low;
    };
    std::size_t first_empty = kNone;
    for (std::size_t i = 0; i < sample.n; ++i) {
        if (sample.empty[i]) {
            first_empty = std::min(first_empty, i);
            join(i, first_empty);
            continue;
        }
        std::size_t at = 0;
        const auto next = [&] {
            while (at < i && (sample.empty[at] || root_of(parent, at) == root_of(parent, i))) {
                ++at;
            }
            return at < i ? at++ : kNone;
        };
        const auto take = [&](std::size_t j) {
            join(i, j);
            return false;
        };
        if (!compare(sample, cosines, least, scratch.inverse, i, next, take)) {
            return false;
        }
    }
    std::int64_t n_groups = 0;
    for (std::size_t i = 0; i < sample.n; ++i) {
        const std::size_t root = root_of(parent, i);
        sample.groups[i] = root == i ? n_groups++ : sample.groups[root];
    }
    return true;
}

template <typename Cosines>
bool group_sample(const Sample& sample, const Cosines& cosines, const GroupOptions& options, Scratch& scratch) {
    scratch.inverse.resize(sample.n);
    return options.linkage == Linkage::connected_components
               ? by_component(sample, cosines, options.least, scratch)
               : by_representative(sample, cosines, options.least, scratch);
}

// Bounds of the tasks: task t has the samples bounds[t]..bounds[t + 1] - 1.
std::vector<std::size_t> task_bounds(std::span<const std::int64_t> offsets) {
    std::vector<std::size_t> bounds{0};
    for (std::size_t sample = 1; sample < offsets.size(); ++sample) {
        const bool is_last = sample + 1 == offsets.size();
        if (is_last || offsets[sample] - offsets[bounds.back()] >= static_cast<std::int64_t>(kTaskRows)) {
            bounds.push_back(sample);
        }
    }
    return bounds;
}

}  // namespace

void find_groups(const SampleRows& rows, const GroupOptions& options, std::span<std::int64_t> groups,
                 const Poll& poll) {
    const FastCosines fast(options.isa, rows.width);
    const ExactCosines exact(rows.width);
    const std::vector<std::size_t> bounds = task_bounds(rows.offsets);
    const auto work = [&](std::size_t task, std::size_t) {
        // The task's own: what lies side by side of two threads has them wait for each other's cache line.
        Scratch scratch;
        for (std::size_t at = bounds[task]; at < bounds[task + 1]; ++at) {
            const auto start = static_cast<std::size_t>(rows.offsets[at]);
            const auto n = static_cast<std::size_t>(rows.offsets[at + 1]) - start;
            const Sample sample{rows.values.data() + start * rows.width, rows.width, n, rows.empty.data() + start,
                                groups.data() + start};
            if (!group_sample(sample, fast, options, scratch)) {
                group_sample(sample, exact, options, scratch);
            }
        }
    };
    parallel_for(bounds.size() - 1, options.n_threads, work, poll);
}

}  // namespace euds
