// Both ways to count the values of one axis against a binary search, on values at and next to edges and on nasty ones.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "../src/bin_of.hpp"
#include "../src/guess_counter.hpp"
#include "../src/tree_counter.hpp"

namespace {

void check(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "failed: %s\n", what);
        std::exit(1);
    }
}

struct Counts {
    std::vector<std::int64_t> bins;
    euds::LeftOut left_out;

    bool operator==(const Counts& other) const {
        return bins == other.bins && left_out.nan == other.left_out.nan &&
               left_out.infinite == other.left_out.infinite && left_out.outside == other.left_out.outside;
    }
};

template <typename T>
std::vector<T> nasty(const std::vector<double>& edges, std::mt19937_64& random) {
    constexpr T inf = std::numeric_limits<T>::infinity();
    constexpr T least = std::numeric_limits<T>::denorm_min();
    constexpr T largest = std::numeric_limits<T>::max();
    std::vector<T> values{T{0}, -T{0}, least, -least, largest, -largest, inf, -inf, std::numeric_limits<T>::quiet_NaN()};
    const double code = (edges.back() - edges.front()) / 65534.0;
    for (const double edge : edges) {
        const auto near = static_cast<T>(edge);
        values.insert(values.end(), {near, std::nextafter(near, inf), std::nextafter(near, -inf),
                                     std::nextafter(std::nextafter(near, inf), inf)});
        // Around the borders of the codes of the edge.
        for (const double shift : {-1.5, -0.51, -0.5, -0.49, 0.25, 0.49, 0.5, 0.51, 1.5}) {
            values.push_back(static_cast<T>(edge + shift * code));
        }
    }
    std::uniform_real_distribution<double> place(-0.1, 1.1);
    for (int at = 0; at < 3000; ++at) {
        values.push_back(static_cast<T>(edges.front() + place(random) * (edges.back() - edges.front())));
    }
    std::shuffle(values.begin(), values.end(), random);
    return values;
}

template <typename T>
Counts searched(const std::vector<double>& edges, std::span<const T> values) {
    Counts counts{std::vector<std::int64_t>(edges.size() - 1), {}};
    for (const T value : values) {
        euds::look_up(edges, static_cast<double>(value), counts.bins, counts.left_out);
    }
    return counts;
}

template <typename T, typename Counter>
Counts counted(Counter counter, std::size_t n_bins, std::span<const T> values, std::mt19937_64& random) {
    Counts counts{std::vector<std::int64_t>(n_bins), {}};
    while (!values.empty()) {
        const auto size = std::uniform_int_distribution<std::size_t>(1, values.size())(random);
        counter.add(values.first(size));
        values = values.subspan(size);
    }
    counter.add_to(counts.bins, counts.left_out);
    return counts;
}

template <typename T>
bool compare(const std::vector<double>& edges, std::span<const T> values, std::mt19937_64& random) {
    const Counts expected = searched(edges, values);
    const euds::BinGuess<T> guess(edges);
    check(counted(euds::GuessCounter<T>(edges, guess), edges.size() - 1, values, random) == expected, "guessed bins");
    const auto tree = euds::bin_tree<T>(edges);
    if (const auto count = euds::count_pairs<T>(); count != nullptr && tree) {
        check(counted(euds::TreeCounter<T>(*tree, count), edges.size() - 1, values, random) == expected,
              "bins by the tree");
    }
    return tree.has_value();
}

std::vector<double> random_edges(std::size_t n_bins, double power, std::mt19937_64& random) {
    std::uniform_real_distribution<double> place(-1.0, 1.0);
    const double scale = std::pow(10.0, std::uniform_int_distribution<int>(-6, 6)(random));
    const double shift = place(random);
    std::vector<double> edges;
    while (edges.size() <= n_bins) {
        const double at = place(random);
        edges.push_back(scale * (shift + std::copysign(std::pow(std::abs(at), power), at)));
        std::sort(edges.begin(), edges.end());
        edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
    }
    return edges;
}

template <typename T>
void compare_many(std::mt19937_64& random) {
    int n_trees = 0;
    for (std::size_t n_bins = 1; n_bins <= euds::kTreeBins + 1; ++n_bins) {
        for (const double power : {1.0, 0.3, 4.0}) {
            const auto edges = random_edges(n_bins, power, random);
            const std::vector<T> values = nasty<T>(edges, random);
            const std::size_t begin = n_bins % 5;
            n_trees += compare<T>(edges, std::span<const T>(values).subspan(begin), random);
        }
        for (const double start : {-3.0, 0.0, 5.7, -1000.0}) {
            std::vector<double> equal(n_bins + 1);
            for (std::size_t edge = 0; edge <= n_bins; ++edge) {
                equal[edge] = start + 0.1 * static_cast<double>(edge);
            }
            const std::vector<T> values = nasty<T>(equal, random);
            check(compare<T>(equal, values, random) == (n_bins <= euds::kTreeBins), "whether there is a tree");
        }
    }
    check(n_trees > 100, "trees of random edges");
    for (const std::vector<double>& edges : std::vector<std::vector<double>>{
             {-1.7e308, 0.0, 1.7e308}, {-1e300, -1e39, 0.0, 1e39, 1e300}, {-3e38, 0.0, 3e38}, {-1e-38, 0.0, 2e-38}}) {
        compare<T>(edges, nasty<T>(edges, random), random);
    }
}

// Values of one kind fill one count of the pairs.
template <typename T>
void compare_equal_values(std::mt19937_64& random) {
    const std::vector<double> edges{0.0, 0.5, 0.75, 1.0};
    for (const T value : {T(0), T(0.5), T(0.6), T(1), T(2), std::numeric_limits<T>::quiet_NaN()}) {
        compare<T>(edges, std::vector<T>(euds::kTreeStep * euds::kMostTreeSteps + 1000, value), random);
    }
}

template <typename T>
void refuse_what_has_no_tree() {
    for (const std::vector<double>& edges : std::vector<std::vector<double>>{
             {0.0, 5e-324, 1e-323}, {-1e6, 1.0, 1.0001, 1e6}, {0.0, 1e-6, 1.0}}) {
        check(!euds::bin_tree<T>(edges), "edges that share a code");
    }
}

}  // namespace

int main() {
    std::mt19937_64 random(1);
    compare_many<float>(random);
    compare_many<double>(random);
    compare_equal_values<float>(random);
    compare_equal_values<double>(random);
    refuse_what_has_no_tree<float>();
    refuse_what_has_no_tree<double>();
    return 0;
}
