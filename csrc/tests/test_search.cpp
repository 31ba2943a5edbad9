// The searches, ranks and histograms against plain scans of random small problems; to be run under sanitizers.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "euds/box.hpp"
#include "euds/histogram.hpp"
#include "euds/interval.hpp"
#include "euds/ranks.hpp"

namespace {

using Random = std::mt19937_64;

std::int64_t pick(Random& random, std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
}

void check(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "failed: %s\n", what);
        std::exit(1);
    }
}

struct Grid {
    std::array<std::int32_t, 3> bins;
    std::vector<std::int32_t> counts;  // 2 groups
    std::vector<std::int64_t> utility;
};

Grid random_grid(Random& random) {
    Grid grid{};
    for (auto& bins : grid.bins) {
        bins = static_cast<std::int32_t>(pick(random, 1, 5));
    }
    const auto n_cells = static_cast<std::size_t>(grid.bins[0]) * static_cast<std::size_t>(grid.bins[1]) *
                         static_cast<std::size_t>(grid.bins[2]);
    for (std::size_t cell = 0; cell < 2 * n_cells; ++cell) {
        // The first group is everywhere, so that no bin is empty.
        grid.counts.push_back(static_cast<std::int32_t>(pick(random, cell < n_cells ? 1 : 0, 3)));
    }
    for (std::size_t cell = 0; cell < n_cells; ++cell) {
        grid.utility.push_back(pick(random, -2, 2));
    }
    return grid;
}

// Everything that orders boxes, smaller is better; the lift as count over volume.
struct Scored {
    std::int64_t volume = 0;
    std::int64_t count = 0;
    std::int64_t utility = 0;
    std::array<std::int32_t, 6> bounds{};
};

bool comes_before(euds::Objective objective, const Scored& a, const Scored& b) {
    if (objective == euds::Objective::utility && a.utility != b.utility) {
        return a.utility > b.utility;
    }
    if (objective == euds::Objective::lift && a.count * b.volume != b.count * a.volume) {
        return a.count * b.volume > b.count * a.volume;
    }
    return std::tuple(a.volume, -a.count, a.bounds) < std::tuple(b.volume, -b.count, b.bounds);
}

class Scan {
   public:
    explicit Scan(const Grid& grid) : grid_(grid) {}

    // Rows per group and utility inside half-open bounds.
    std::array<std::int64_t, 3> sums(const std::array<std::int32_t, 6>& bounds) const {
        std::array<std::int64_t, 3> sums{};
        for (std::int32_t i = bounds[0]; i < bounds[1]; ++i) {
            for (std::int32_t j = bounds[2]; j < bounds[3]; ++j) {
                for (std::int32_t k = bounds[4]; k < bounds[5]; ++k) {
                    const auto cell = static_cast<std::size_t>((i * grid_.bins[1] + j) * grid_.bins[2] + k);
                    sums[0] += grid_.counts[cell];
                    sums[1] += grid_.counts[grid_.utility.size() + cell];
                    sums[2] += grid_.utility[cell];
                }
            }
        }
        return sums;
    }

    Scored scored(const std::array<std::int32_t, 6>& bounds) const {
        const auto inside = sums(bounds);
        Scored box{1, inside[0] + inside[1], inside[2], bounds};
        for (std::size_t axis = 0; axis < 3; ++axis) {
            std::array<std::int32_t, 6> slice{0, grid_.bins[0], 0, grid_.bins[1], 0, grid_.bins[2]};
            slice[2 * axis] = bounds[2 * axis];
            slice[2 * axis + 1] = bounds[2 * axis + 1];
            const auto rows = sums(slice);
            box.volume *= rows[0] + rows[1];
        }
        return box;
    }

    template <typename Visit>
    void each_box(const Visit& visit) const {
        std::array<std::int32_t, 6> at{};
        const auto& bins = grid_.bins;
        for (at[0] = 0; at[0] < bins[0]; ++at[0])
            for (at[1] = at[0] + 1; at[1] <= bins[0]; ++at[1])
                for (at[2] = 0; at[2] < bins[1]; ++at[2])
                    for (at[3] = at[2] + 1; at[3] <= bins[1]; ++at[3])
                        for (at[4] = 0; at[4] < bins[2]; ++at[4])
                            for (at[5] = at[4] + 1; at[5] <= bins[2]; ++at[5]) visit(at);
    }

   private:
    const Grid& grid_;
};

void test_boxes(Random& random, euds::Objective objective) {
    const Grid grid = random_grid(random);
    const Scan scan(grid);
    const std::vector<std::int64_t> needs{pick(random, 1, 8), pick(random, 0, 4)};
    const std::int64_t most = needs[0] + needs[1] + pick(random, 0, 60);
    std::vector<Scored> all;
    scan.each_box([&](const auto& bounds) {
        const auto inside = scan.sums(bounds);
        if (inside[0] >= needs[0] && inside[1] >= needs[1] && inside[0] + inside[1] <= most) {
            all.push_back(scan.scored(bounds));
        }
    });
    std::sort(all.begin(), all.end(), [&](const auto& a, const auto& b) { return comes_before(objective, a, b); });
    std::vector<Scored> expected;
    for (const Scored& box : all) {
        const bool differs = std::all_of(expected.begin(), expected.end(), [&](const Scored& other) {
            std::array<std::int32_t, 6> shared{};
            for (std::size_t at = 0; at < 6; at += 2) {
                shared[at] = std::max(box.bounds[at], other.bounds[at]);
                shared[at + 1] = std::min(box.bounds[at + 1], other.bounds[at + 1]);
            }
            const auto rows = scan.sums(shared);
            return 2 * (rows[0] + rows[1]) <= std::min(box.count, other.count);
        });
        if (differs && expected.size() < 3) {
            expected.push_back(box);
        }
    }
    const euds::BoxProblem problem{grid.bins, grid.counts, grid.utility, needs, most, objective};
    for (std::size_t n_threads = 1; n_threads <= 3; ++n_threads) {
        const auto found = euds::find_boxes(problem, 3, 0.5, n_threads, [](double) {});
        check(found.size() == expected.size(), "number of boxes");
        for (std::size_t at = 0; at < found.size(); ++at) {
            for (std::size_t axis = 0; axis < 3; ++axis) {
                check(found[at].low[axis] == expected[at].bounds[2 * axis], "lower bound");
                check(found[at].high[axis] + 1 == expected[at].bounds[2 * axis + 1], "upper bound");
            }
            check(found[at].count == expected[at].count, "count");
            check(found[at].utility == expected[at].utility, "utility");
        }
    }
}

void test_cancelling() {
    const std::vector<std::int32_t> counts(2000 * 2000, 1);
    const std::vector<std::int64_t> needs{1'000'000};
    const euds::BoxProblem problem{{1, 2000, 2000}, counts, {}, needs, 4'000'000, euds::Objective::volume};
    bool cancelled = false;
    try {
        euds::find_boxes(problem, 1, 0.5, 2, [](double) { throw std::runtime_error("enough"); });
    } catch (const std::runtime_error&) {
        cancelled = true;
    }
    check(cancelled, "a poll that throws ends the search");
}

template <typename T>
void test_ranks(Random& random, std::size_t n, std::size_t n_threads) {
    constexpr std::size_t n_axes = 2;
    std::vector<T> scores(n * n_axes);
    for (auto& score : scores) {
        score = static_cast<T>(pick(random, -6, 6)) / T{4} * (pick(random, 0, 1) == 0 ? T{1} : T{-1});
        score = pick(random, 0, 30) == 0 ? std::numeric_limits<T>::quiet_NaN() : score;
    }
    std::vector<std::uint32_t> ranks(scores.size(), 7);
    const std::size_t n_ranked = euds::rank_rows<T>(scores, n_axes, ranks, n_threads);
    std::vector<std::size_t> finite;
    for (std::size_t row = 0; row < n; ++row) {
        if (std::isfinite(scores[2 * row]) && std::isfinite(scores[2 * row + 1])) {
            finite.push_back(row);
        } else {
            check(ranks[row] == 0 && ranks[n + row] == 0, "no rank for rows that are not finite");
        }
    }
    check(n_ranked == finite.size(), "number of ranked rows");
    for (std::size_t axis = 0; axis < n_axes; ++axis) {
        std::vector<T> sorted;
        for (const std::size_t row : finite) {
            sorted.push_back(scores[row * n_axes + axis]);
        }
        std::sort(sorted.begin(), sorted.end());
        for (const std::size_t row : finite) {
            const auto [first, last] = std::equal_range(sorted.begin(), sorted.end(), scores[row * n_axes + axis]);
            const auto expected = static_cast<std::uint32_t>((first - sorted.begin()) + (last - sorted.begin()));
            check(ranks[axis * n + row] == expected, "rank");
        }
    }
    if (n_ranked > 0) {
        const std::size_t bins = 5;
        std::vector<std::int32_t> counts(bins * bins);
        std::vector<std::int64_t> sums(bins * bins);
        const std::vector<double> utility(n, 0.5);
        euds::count_rows({ranks, n_axes, n_ranked, bins}, {}, utility, 4.0, counts, sums, n_threads);
        check(std::accumulate(counts.begin(), counts.end(), std::size_t{0}) == n_ranked, "rows in cells");
        for (std::size_t cell = 0; cell < counts.size(); ++cell) {
            check(sums[cell] == 2 * counts[cell], "sums in cells");
        }
    }
}

void test_intervals(Random& random) {
    const auto n = static_cast<std::size_t>(pick(random, 1, 9));
    std::vector<double> low;
    std::vector<double> high;
    std::vector<std::int64_t> counts;
    std::vector<std::int64_t> sums;
    double edge = -3.0;
    for (std::size_t at = 0; at < n; ++at) {
        edge += static_cast<double>(pick(random, 1, 4)) / 4;
        low.push_back(edge);
        high.push_back(edge += static_cast<double>(pick(random, 0, 3)) / 4);
        edge += high.back() == low.back() ? 0.25 : 0.0;
        counts.push_back(pick(random, 1, 4));
        sums.push_back(pick(random, -2, 2));
    }
    const euds::Pieces pieces{low, high, counts, sums};
    const std::int64_t least = pick(random, 1, 8);
    const std::int64_t most = least + pick(random, 0, 10);
    const double min_width = static_cast<double>(pick(random, 0, 6)) / 4;
    using Order = std::tuple<double, double, std::int64_t, std::size_t, std::size_t>;
    std::vector<Order> shortest, densest, best;
    for (std::size_t first = 0; first < n; ++first) {
        std::int64_t count = 0;
        std::int64_t sum = 0;
        for (std::size_t last = first; last < n; ++last) {
            count += counts[last];
            sum += sums[last];
            const double width = high[last] - low[first];
            const double length = std::max(width, min_width);
            const double density = length == 0 ? std::numeric_limits<double>::infinity() : static_cast<double>(count) / length;
            if (count >= least) {
                densest.emplace_back(-density, 0.0, -count, first, last);
            }
            if (count >= least && count <= most) {
                shortest.emplace_back(width, 0.0, -count, first, last);
                best.emplace_back(-static_cast<double>(sum), width, -count, first, last);
            }
        }
    }
    const auto agrees = [](const std::optional<euds::Interval>& found, const std::vector<Order>& orders) {
        if (orders.empty()) {
            return !found;
        }
        const Order& first = *std::min_element(orders.begin(), orders.end());
        return found && found->first == std::get<3>(first) && found->last == std::get<4>(first);
    };
    check(agrees(euds::shortest_interval(pieces, {least, most}), shortest), "shortest interval");
    check(agrees(euds::densest_interval(pieces, least, min_width), densest), "densest interval");
    check(agrees(euds::best_interval(pieces, {least, most}), best), "interval of most utility");
}

void test_histograms() {
    const std::vector<double> edges{0.0, 0.5, 1.0};
    const double inf = std::numeric_limits<double>::infinity();
    const std::vector<double> values{0.0, 0.5, 1.0, -0.0, 1.5, -inf, std::nan(""), 0.25};
    const std::vector<double> utility{1.0, -0x1p30, 0x1p30, 0.5, 9.0, 9.0, 9.0, -2.0};
    std::vector<std::int64_t> counts(2);
    std::vector<std::uint64_t> sums(4);
    const euds::LeftOut out = euds::add_rows({{edges}, counts, sums}, values, utility);
    check(counts == std::vector<std::int64_t>({3, 2}), "counts");
    check(out.nan == 1 && out.infinite == 1 && out.outside == 1, "left out");
    check(sums[0] == std::uint64_t{0} - (std::uint64_t{1} << 59) && sums[1] == ~std::uint64_t{0}, "negative sum");
    check(sums[2] == 0 && sums[3] == 0, "sum that cancels");
}

// Values of one axis by the fast way against the search for each; edges almost uniform, or not.
template <typename T>
void test_values(Random& random, double slack) {
    const auto n_bins = static_cast<std::size_t>(pick(random, 1, 700));
    const double low = static_cast<double>(pick(random, -5, 5));
    std::vector<double> edges;
    for (std::size_t at = 0; at <= n_bins; ++at) {
        const double shift = slack * static_cast<double>(pick(random, -400, 400)) / 1000.0;
        edges.push_back(low + 0.25 * (static_cast<double>(at) + shift));
    }
    std::vector<T> values;
    const double inf = std::numeric_limits<double>::infinity();
    for (const double edge : edges) {
        for (const double to : {-inf, inf}) {
            values.push_back(static_cast<T>(edge));
            values.push_back(std::nextafter(static_cast<T>(edge), static_cast<T>(to)));
        }
    }
    values.insert(values.end(), {std::numeric_limits<T>::quiet_NaN(), static_cast<T>(inf), static_cast<T>(-inf)});
    std::uniform_real_distribution<double> anywhere(edges.front() - 1, edges.back() + 1);
    while (values.size() < 600'000) {
        values.push_back(static_cast<T>(anywhere(random)));
    }
    const std::vector<double> wide(values.begin(), values.end());
    std::vector<std::int64_t> expected(n_bins);
    const euds::LeftOut left_out = euds::add_rows({{edges}, expected, {}}, wide, {});
    for (const std::size_t n_threads : {1U, 3U}) {
        std::vector<std::int64_t> counts(n_bins);
        const euds::LeftOut out = euds::add_values<T>(edges, values, counts, n_threads);
        check(counts == expected, "counts of values");
        check(out.nan == left_out.nan && out.infinite == left_out.infinite && out.outside == left_out.outside,
              "values left out");
    }
}

}  // namespace

int main() {
    Random random(1);
    for (int round = 0; round < 150; ++round) {
        for (const auto objective : {euds::Objective::volume, euds::Objective::utility, euds::Objective::lift}) {
            test_boxes(random, objective);
        }
    }
    for (int round = 0; round < 2000; ++round) {
        test_intervals(random);
    }
    for (const std::size_t n : {1U, 2U, 17U, 1000U, 200'001U}) {
        test_ranks<double>(random, n, 3);
        test_ranks<float>(random, n, 2);
    }
    test_histograms();
    for (const double slack : {0.0, 1e-7, 1.0}) {
        test_values<float>(random, slack);
        test_values<double>(random, slack);
    }
    test_cancelling();
    std::puts("search: all passed");
}
