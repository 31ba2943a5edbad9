// What one thread of the box search holds, and the parts that every objective needs.
#pragma once

#include <atomic>
#include <limits>

#include "box_candidate.hpp"
#include "grid_sums.hpp"

namespace euds {

// The grid in the form the search needs; read by all threads, but for the bounds that they share.
struct BoxContext {
    BoxContext(const BoxProblem& problem, double max_overlap, const Poll& poll);

    // Whether the box differs enough from every box found earlier.
    bool differs(const Candidate& candidate) const;

    Objective objective;
    std::array<std::size_t, kAxes> sizes;                 // bins per axis
    std::array<std::vector<std::int64_t>, kAxes> masses;  // rows below each bin edge
    std::vector<std::int64_t> narrowest;                  // [t]: fewest rows in t adjacent bins of the last axis
    std::vector<GridSums<std::int32_t>> counts;           // per group
    GridSums<std::int64_t> utility;
    std::vector<std::int64_t> needs;  // per group
    std::int64_t needed = 0;          // over all groups
    std::int64_t max_keep;
    double max_overlap;
    std::vector<Candidate> found;

    // No box beyond these can be the best; each rounded so that none is lost.
    std::atomic<double> largest_volume = std::numeric_limits<double>::infinity();
    std::atomic<double> least_lift = 0.0;
    std::atomic<std::int64_t> least_utility = std::numeric_limits<std::int64_t>::min();

    // Whether the caller wants no result any more.
    std::atomic<bool> stopped = false;
};

// All boxes with the same bins on the first two axes, half-open.
struct Slab {
    std::size_t low0, high0, low1, high1;
    Wide area;  // product of the rows between the bounds on each of the two axes
};

class BoxWorker {
   public:
    explicit BoxWorker(BoxContext& context);

    // Search all boxes with the bins [low0, high0) on the first axis whose bins on the second start at low1 and end at a
    // multiple of step1 or at the last one.
    void search(std::size_t low0, std::size_t high0, std::size_t low1, std::size_t step1);

    const Candidate& best() const { return best_; }

   private:
    void search_slab(const Slab& slab);
    void search_volume(const Slab& slab);
    void search_utility(const Slab& slab);
    void search_lift(const Slab& slab);

    void load_prefixes(const Slab& slab);
    bool holds_needs(std::size_t low2, std::size_t high2) const;
    bool whole_slab_holds_needs(const Slab& slab) const;
    std::int64_t most_rows(const Slab& slab, std::size_t n_bins) const;
    std::int64_t most_rows_of_best(const Slab& slab) const;
    bool reaches_density(double density) const;
    std::size_t bins_within(double mass) const;
    void try_windows(const Slab& slab, double widest);
    void try_all_windows(const Slab& slab);
    void try_box(const Slab& slab, std::size_t low2, std::size_t high2);
    void share_bound();

    const std::int32_t* row(std::size_t group, std::size_t edge1) const {
        return &counts_[group][edge1 * stride_];
    }

    BoxContext& context_;
    std::size_t n2_;
    std::size_t stride_;
    std::size_t loaded_low0_ = 0;
    std::size_t loaded_high0_ = 0;
    std::vector<std::vector<std::int32_t>> counts_;    // per group: sums over the bins of the first axis at hand
    std::vector<std::int64_t> utility_;                // likewise
    std::vector<std::vector<std::int32_t>> prefixes_;  // per group: of the slab at hand, along the last axis
    std::vector<std::int64_t> totals_;                 // over all groups
    std::vector<std::int64_t> utilities_;
    std::vector<std::size_t> queue_;
    Candidate best_;
};

}  // namespace euds
