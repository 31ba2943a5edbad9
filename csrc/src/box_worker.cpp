#include "box_worker.hpp"

#include "dispatch.hpp"

namespace euds {
namespace {

// Doubles that bound exact numbers are widened by more than their rounding.
constexpr double kSlack = 1.0 + 1e-14;

// Most of (high[k + n_bins] - high[k]) - (low[k + n_bins] - low[k]) over k in 0..n_windows-1. Rows are short: with 512
// bits the search for the smallest volume was slower.
EUDS_UP_TO_AVX2
std::int32_t largest_window(const std::int32_t* high, const std::int32_t* low, std::size_t n_bins,
                            std::size_t n_windows) {
    std::int32_t most = 0;
    for (std::size_t k = 0; k < n_windows; ++k) {
        const std::int32_t count = (high[k + n_bins] - high[k]) - (low[k + n_bins] - low[k]);
        most = most > count ? most : count;
    }
    return most;
}

// out = high - low; returns largest out - smallest out. Only AVX-512 has a minimum of 64-bit integers.
EUDS_UP_TO_AVX512
std::int64_t subtract_rows(const std::int64_t* high, const std::int64_t* low, std::size_t n, std::int64_t* out) {
    std::int64_t least = 0;
    std::int64_t most = 0;
    for (std::size_t k = 0; k < n; ++k) {
        const std::int64_t value = high[k] - low[k];
        out[k] = value;
        least = least < value ? least : value;
        most = most > value ? most : value;
    }
    return most - least;
}

template <typename T>
void raise_to(std::atomic<T>& bound, T value) {
    T known = bound.load(std::memory_order_relaxed);
    while (known < value && !bound.compare_exchange_weak(known, value, std::memory_order_relaxed)) {
    }
}

}  // namespace

BoxWorker::BoxWorker(BoxContext& context)
    : context_(context),
      n2_(context.sizes[2]),
      stride_(n2_ + 1),
      counts_(context.counts.size()),
      prefixes_(context.counts.size(), std::vector<std::int32_t>(stride_)),
      totals_(stride_),
      utilities_(stride_),
      queue_(stride_) {}

void BoxWorker::search(std::size_t low0, std::size_t high0, std::size_t low1, std::size_t step1) {
    if (loaded_low0_ != low0 || loaded_high0_ != high0) {
        for (std::size_t group = 0; group < counts_.size(); ++group) {
            context_.counts[group].between(low0, high0, counts_[group]);
        }
        if (context_.objective == Objective::utility) {
            context_.utility.between(low0, high0, utility_);
        }
        loaded_low0_ = low0;
        loaded_high0_ = high0;
    }
    const auto& masses = context_.masses;
    const auto mass0 = static_cast<Wide>(masses[0][high0] - masses[0][low0]);
    const std::size_t n1 = context_.sizes[1];
    for (std::size_t high1 = low1; high1 < n1;) {
        high1 = std::min(n1, (high1 / step1 + 1) * step1);
        const Slab slab{low0, high0, low1, high1, mass0 * static_cast<Wide>(masses[1][high1] - masses[1][low1])};
        if (whole_slab_holds_needs(slab)) {
            search_slab(slab);
        }
    }
}

void BoxWorker::search_slab(const Slab& slab) {
    switch (context_.objective) {
        case Objective::volume:
            return search_volume(slab);
        case Objective::utility:
            return search_utility(slab);
        case Objective::lift:
            return search_lift(slab);
    }
}

void BoxWorker::search_volume(const Slab& slab) {
    const double area = static_cast<double>(slab.area);
    const double widest = context_.largest_volume.load(std::memory_order_relaxed) / area * kSlack;
    if (widest < static_cast<double>(context_.needed)) {
        return;
    }
    const std::size_t n_bins = bins_within(widest);
    for (std::size_t group = 0; group < counts_.size(); ++group) {
        const std::size_t n_windows = n2_ - n_bins + 1;
        if (largest_window(row(group, slab.high1), row(group, slab.low1), n_bins, n_windows) < context_.needs[group]) {
            return;
        }
    }
    try_windows(slab, widest);
}

// Rows and least lift bound the mass of a window, its mass bounds its bins, and these bound its rows again.
void BoxWorker::search_lift(const Slab& slab) {
    const double least_lift = context_.least_lift.load(std::memory_order_relaxed);
    if (least_lift == 0.0) {
        return try_windows(slab, std::numeric_limits<double>::infinity());
    }
    const double density = least_lift * static_cast<double>(slab.area);
    double widest = std::numeric_limits<double>::infinity();
    double most = static_cast<double>(most_rows_of_best(slab));
    for (std::size_t n_bins = n2_, round = 0; round < 3; ++round) {
        widest = most / density * kSlack;
        const std::size_t fewer_bins = bins_within(widest);
        if (fewer_bins == 0) {
            return;
        }
        if (fewer_bins >= n_bins) {
            break;
        }
        n_bins = fewer_bins;
        most = std::min(most, static_cast<double>(most_rows(slab, n_bins)));
        if (most < static_cast<double>(context_.needed)) {
            return;
        }
    }
    load_prefixes(slab);
    if (reaches_density(density)) {
        try_windows(slab, widest);
    }
}

// A box that can be cut in two along the last axis so that both parts meet the need is not the best one: the part of
// larger or equal lift comes before it. (With several groups or boxes found earlier the part may not count.)
std::int64_t BoxWorker::most_rows_of_best(const Slab& slab) const {
    std::int64_t most = std::min(most_rows(slab, n2_), context_.max_keep);
    if (counts_.size() == 1 && context_.found.empty()) {
        const std::int64_t largest_bin = largest_window(row(0, slab.high1), row(0, slab.low1), 1, n2_);
        most = std::min(most, 2 * context_.needed + largest_bin);
    }
    return most;
}

// Whether any window that holds the needs has, within rounding, at least `density` rows per row of the last axis.
bool BoxWorker::reaches_density(double density) const {
    const auto& mass = context_.masses[2];
    const auto excess = [&](std::size_t k) { return static_cast<double>(totals_[k]) - density * static_cast<double>(mass[k]); };
    const double rounding = 1e-13 * (static_cast<double>(mass[n2_]) * (1.0 + density));
    double least = std::numeric_limits<double>::infinity();
    std::size_t next = 0;
    for (std::size_t high2 = 1; high2 <= n2_; ++high2) {
        for (; next < high2 && holds_needs(next, high2); ++next) {
            least = std::min(least, excess(next));
        }
        if (excess(high2) - least >= -rounding) {
            return true;
        }
    }
    return false;
}

// For every upper edge the smallest prefix among the lower edges that the counts allow, by a monotone queue.
void BoxWorker::search_utility(const Slab& slab) {
    const std::int64_t range = subtract_rows(&utility_[slab.high1 * stride_], &utility_[slab.low1 * stride_], stride_,
                                             utilities_.data());
    const std::int64_t least = context_.least_utility.load(std::memory_order_relaxed);
    if (range < least) {
        return;
    }
    load_prefixes(slab);
    std::size_t head = 0;
    std::size_t tail = 0;
    std::size_t next = 0;
    for (std::size_t high2 = 1; high2 <= n2_; ++high2) {
        for (; next < high2 && holds_needs(next, high2); ++next) {
            // Of equal prefixes the later one makes the smaller box.
            while (tail > head && utilities_[queue_[tail - 1]] >= utilities_[next]) {
                --tail;
            }
            queue_[tail++] = next;
        }
        while (head < tail && totals_[high2] - totals_[queue_[head]] > context_.max_keep) {
            ++head;
        }
        if (head == tail || utilities_[high2] - utilities_[queue_[head]] < least) {
            continue;
        }
        if (!context_.found.empty()) {
            try_all_windows(slab);
            return;
        }
        try_box(slab, queue_[head], high2);
    }
}

// Every window along the last axis that holds the needs and at most `widest` rows of that axis.
void BoxWorker::try_windows(const Slab& slab, double widest) {
    load_prefixes(slab);
    const bool narrowest_only = context_.objective == Objective::volume && context_.found.empty();
    const auto& mass = context_.masses[2];
    std::size_t first = 1;
    for (std::size_t low2 = 0; low2 < n2_ && !context_.stopped.load(std::memory_order_relaxed); ++low2) {
        first = std::max(first, low2 + 1);
        while (first <= n2_ && !holds_needs(low2, first)) {
            ++first;
        }
        for (std::size_t high2 = first; high2 <= n2_; ++high2) {
            if (totals_[high2] - totals_[low2] > context_.max_keep ||
                static_cast<double>(mass[high2] - mass[low2]) > widest) {
                break;
            }
            try_box(slab, low2, high2);
            if (narrowest_only) {
                break;
            }
        }
    }
}

void BoxWorker::try_all_windows(const Slab& slab) {
    for (std::size_t low2 = 0; low2 < n2_ && !context_.stopped.load(std::memory_order_relaxed); ++low2) {
        for (std::size_t high2 = low2 + 1; high2 <= n2_; ++high2) {
            if (totals_[high2] - totals_[low2] <= context_.max_keep && holds_needs(low2, high2)) {
                try_box(slab, low2, high2);
            }
        }
    }
}

void BoxWorker::try_box(const Slab& slab, std::size_t low2, std::size_t high2) {
    const auto edge = [](std::size_t at) { return static_cast<std::int32_t>(at); };
    const auto mass2 = static_cast<Wide>(context_.masses[2][high2] - context_.masses[2][low2]);
    const Candidate candidate{
        {edge(slab.low0), edge(slab.high0), edge(slab.low1), edge(slab.high1), edge(low2), edge(high2)},
        totals_[high2] - totals_[low2],
        utilities_[high2] - utilities_[low2],
        slab.area * mass2};
    if (is_better(context_.objective, candidate, best_) && context_.differs(candidate)) {
        best_ = candidate;
        share_bound();
    }
}

void BoxWorker::share_bound() {
    const auto volume = static_cast<double>(best_.volume);
    switch (context_.objective) {
        case Objective::volume: {
            double known = context_.largest_volume.load(std::memory_order_relaxed);
            while (volume < known && !context_.largest_volume.compare_exchange_weak(known, volume)) {
            }
            break;
        }
        case Objective::utility:
            raise_to(context_.least_utility, best_.utility);
            break;
        case Objective::lift:
            raise_to(context_.least_lift, static_cast<double>(best_.count) / volume);
            break;
    }
}

void BoxWorker::load_prefixes(const Slab& slab) {
    std::fill(totals_.begin(), totals_.end(), 0);
    for (std::size_t group = 0; group < counts_.size(); ++group) {
        const std::int32_t* high = row(group, slab.high1);
        const std::int32_t* low = row(group, slab.low1);
        for (std::size_t k = 0; k <= n2_; ++k) {
            prefixes_[group][k] = high[k] - low[k];
            totals_[k] += prefixes_[group][k];
        }
    }
}

bool BoxWorker::holds_needs(std::size_t low2, std::size_t high2) const {
    for (std::size_t group = 0; group < prefixes_.size(); ++group) {
        if (prefixes_[group][high2] - prefixes_[group][low2] < context_.needs[group]) {
            return false;
        }
    }
    return true;
}

bool BoxWorker::whole_slab_holds_needs(const Slab& slab) const {
    for (std::size_t group = 0; group < counts_.size(); ++group) {
        if (row(group, slab.high1)[n2_] - row(group, slab.low1)[n2_] < context_.needs[group]) {
            return false;
        }
    }
    return true;
}

// Rows that a box of the slab can hold within n_bins bins of the last axis; 0 if a group's need cannot be met.
std::int64_t BoxWorker::most_rows(const Slab& slab, std::size_t n_bins) const {
    std::int64_t most = 0;
    for (std::size_t group = 0; group < counts_.size(); ++group) {
        const std::int32_t rows =
            largest_window(row(group, slab.high1), row(group, slab.low1), n_bins, n2_ - n_bins + 1);
        if (rows < context_.needs[group]) {
            return 0;
        }
        most += rows;
    }
    return most;
}

// Most bins of the last axis that hold at most `mass` rows together.
std::size_t BoxWorker::bins_within(double mass) const {
    const auto& narrowest = context_.narrowest;
    const auto above = std::upper_bound(narrowest.begin() + 1, narrowest.end(), mass,
                                        [](double limit, std::int64_t rows) { return limit < static_cast<double>(rows); });
    return static_cast<std::size_t>(above - narrowest.begin()) - 1;
}

}  // namespace euds
