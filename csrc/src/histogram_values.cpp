// Histograms of one axis: memory is read once, and few values need a search.
#include <algorithm>
#include <vector>

#include "bin_guess.hpp"
#include "bin_tree.hpp"
#include "euds/histogram.hpp"
#include "euds/parallel.hpp"
#include "guess_counter.hpp"
#include "tree_counter.hpp"

namespace euds {
namespace {

constexpr std::size_t kPart = 1 << 18;

// Counts on every thread by a copy of the empty counter.
template <typename T, typename Counter>
LeftOut count_with(const Counter& empty, std::span<const T> values, std::span<std::int64_t> counts,
                   std::size_t n_threads) {
    const std::size_t n_parts = values.size() / kPart + 1;
    const std::size_t n_workers = std::min(n_threads, n_parts);
    std::vector<Counter> counters(n_workers, empty);
    parallel_for(n_parts, n_workers, [&](std::size_t part, std::size_t worker) {
        const std::size_t begin = part_begin(values.size(), n_parts, part);
        const std::size_t end = part_begin(values.size(), n_parts, part + 1);
        counters[worker].add(values.subspan(begin, end - begin));
    });
    LeftOut left_out;
    for (Counter& counter : counters) {
        counter.add_to(counts, left_out);
    }
    return left_out;
}

}  // namespace

template <typename T>
LeftOut add_values(std::span<const double> edges, std::span<const T> values, std::span<std::int64_t> counts,
                   std::size_t n_threads) {
    if (const CountPairs<T> count = count_pairs<T>()) {
        if (const auto tree = bin_tree<T>(edges)) {
            return count_with(TreeCounter<T>(*tree, count), values, counts, n_threads);
        }
    }
    const BinGuess<T> guess(edges);
    return count_with(GuessCounter<T>(edges, guess), values, counts, n_threads);
}

template LeftOut add_values<float>(std::span<const double>, std::span<const float>, std::span<std::int64_t>, std::size_t);
template LeftOut add_values<double>(std::span<const double>, std::span<const double>, std::span<std::int64_t>, std::size_t);

}  // namespace euds
