#include "euds/box.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "box_worker.hpp"

namespace euds {
namespace {

// Edges tried on the first two axes: all, or every step-th one.
struct Steps {
    std::size_t first;
    std::size_t second;
};

using Range = std::pair<std::size_t, std::size_t>;

// Widths of an axis between two looks at whether the search goes on; each takes about a bin's time a bin.
constexpr std::size_t kWidthsAPoll = 256;

// All bins [low, high) of an axis that start at a multiple of the step and end at one or at the last bin.
std::vector<Range> ranges(std::size_t size, std::size_t step) {
    std::vector<Range> list;
    for (std::size_t low = 0; low < size; low += step) {
        for (std::size_t high = low; high < size;) {
            high = std::min(size, high + step);
            list.emplace_back(low, high);
        }
    }
    return list;
}

Candidate search(BoxContext& context, const Steps& steps, std::size_t n_threads, const Poll& poll) {
    // A task is a range on the first axis and a lower bound on the second.
    const std::vector<Range> first = ranges(context.sizes[0], steps.first);
    const std::size_t n_lows = (context.sizes[1] + steps.second - 1) / steps.second;
    const std::size_t n_tasks = first.size() * n_lows;
    std::vector<BoxWorker> workers(std::min(n_threads, n_tasks), BoxWorker(context));
    // Neighbouring tasks share their bins on the first axis, which a worker loads once.
    const std::size_t per_chunk = std::clamp<std::size_t>(n_tasks / (64 * workers.size()), 1, n_lows);
    const std::size_t n_chunks = (n_tasks + per_chunk - 1) / per_chunk;
    const auto chunk = [&](std::size_t at, std::size_t worker) {
        for (std::size_t task = at * per_chunk; task < std::min(n_tasks, (at + 1) * per_chunk); ++task) {
            const auto [low0, high0] = first[task / n_lows];
            workers[worker].search(low0, high0, task % n_lows * steps.second, steps.second);
        }
    };
    // On one axis a single task is all of the search: it must look whether it goes on.
    const Poll stopping = [&](double done) {
        try {
            poll(done);
        } catch (...) {
            context.stopped = true;
            throw;
        }
    };
    parallel_for(n_chunks, workers.size(), chunk, poll ? stopping : Poll());
    Candidate best;
    for (const BoxWorker& worker : workers) {
        if (worker.best().volume != 0 && is_better(context.objective, worker.best(), best)) {
            best = worker.best();
        }
    }
    return best;
}

// A first look at few of the boxes, so that the whole search knows early what it has to beat.
constexpr std::size_t kCoarseBins = 16;

Candidate search_coarse_then_all(BoxContext& context, std::size_t n_threads, const Poll& poll) {
    const Steps coarse{std::max<std::size_t>(1, context.sizes[0] / kCoarseBins),
                       std::max<std::size_t>(1, context.sizes[1] / kCoarseBins)};
    if (coarse.first > 1 || coarse.second > 1) {
        search(context, coarse, n_threads, poll ? Poll([&](double) { poll(0.0); }) : Poll());
    }
    return search(context, {1, 1}, n_threads, poll);
}

}  // namespace

BoxContext::BoxContext(const BoxProblem& problem, double overlap, const Poll& poll)
    : objective(problem.objective),
      needs(problem.needs.begin(), problem.needs.end()),
      needed(std::accumulate(needs.begin(), needs.end(), std::int64_t{0})),
      max_keep(problem.max_keep),
      max_overlap(overlap) {
    for (std::size_t axis = 0; axis < kAxes; ++axis) {
        sizes[axis] = static_cast<std::size_t>(problem.bins[axis]);
        masses[axis].assign(sizes[axis] + 1, 0);
    }
    const std::size_t n_cells = sizes[0] * sizes[1] * sizes[2];
    for (std::size_t at = 0; at < problem.counts.size(); ++at) {
        const std::size_t cell = at % n_cells;
        const std::int64_t rows = problem.counts[at];
        masses[0][cell / (sizes[1] * sizes[2]) + 1] += rows;
        masses[1][cell / sizes[2] % sizes[1] + 1] += rows;
        masses[2][cell % sizes[2] + 1] += rows;
    }
    for (auto& mass : masses) {
        std::partial_sum(mass.begin(), mass.end(), mass.begin());
    }
    narrowest.assign(sizes[2] + 1, 0);
    for (std::size_t n_bins = 1; n_bins <= sizes[2]; ++n_bins) {
        narrowest[n_bins] = masses[2][n_bins];
        if (poll && n_bins % kWidthsAPoll == 0) {
            poll(0.0);
        }
        for (std::size_t low = 1; low + n_bins <= sizes[2]; ++low) {
            narrowest[n_bins] = std::min(narrowest[n_bins], masses[2][low + n_bins] - masses[2][low]);
        }
    }
    for (std::size_t group = 0; group < needs.size(); ++group) {
        counts.emplace_back(problem.bins, problem.counts.subspan(group * n_cells, n_cells));
    }
    if (!problem.utility.empty()) {
        utility = GridSums<std::int64_t>(problem.bins, problem.utility);
    }
}

bool BoxContext::differs(const Candidate& candidate) const {
    return std::all_of(found.begin(), found.end(), [&](const Candidate& other) {
        std::array<std::int32_t, 2 * kAxes> shared;
        if (!intersect(candidate, other, shared)) {
            return true;
        }
        std::int64_t rows = 0;
        for (const auto& group : counts) {
            rows += group.box(shared);
        }
        const auto smaller = static_cast<double>(std::min(candidate.count, other.count));
        return candidate.bounds != other.bounds && static_cast<double>(rows) <= max_overlap * smaller;
    });
}

std::vector<FoundBox> find_boxes(const BoxProblem& problem, std::size_t k, double max_overlap, std::size_t n_threads,
                                 const Poll& poll) {
    BoxContext context(problem, max_overlap, poll);
    std::vector<FoundBox> boxes;
    const Poll share = [&](double done) {
        poll((static_cast<double>(boxes.size()) + done) / static_cast<double>(k));
    };
    while (boxes.size() < k) {
        context.largest_volume = std::numeric_limits<double>::infinity();
        context.least_lift = 0.0;
        context.least_utility = std::numeric_limits<std::int64_t>::min();
        const Candidate best = search_coarse_then_all(context, n_threads, poll ? share : Poll());
        if (best.volume == 0) {
            break;
        }
        const std::int64_t utility = problem.utility.empty() ? 0 : context.utility.box(best.bounds);
        FoundBox box{{}, {}, best.count, utility};
        for (std::size_t axis = 0; axis < kAxes; ++axis) {
            box.low[axis] = best.bounds[2 * axis];
            box.high[axis] = best.bounds[2 * axis + 1] - 1;
        }
        boxes.push_back(box);
        context.found.push_back(best);
    }
    return boxes;
}

}  // namespace euds
