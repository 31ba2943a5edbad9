// The only file that knows Python: it checks what memory safety needs, releases the GIL and calls the library.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "euds/box.hpp"
#include "euds/histogram.hpp"
#include "euds/interval.hpp"
#include "euds/ranks.hpp"
#include "euds/similarity_groups.hpp"
#include "euds/token_sums.hpp"

namespace py = pybind11;

namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

void require(bool condition, const char* message) {
    if (!condition) {
        throw std::invalid_argument(message);
    }
}

// An empty array may point anywhere.
bool is_aligned(const py::array& array, std::size_t bytes) {
    return array.size() == 0 || reinterpret_cast<std::uintptr_t>(array.data()) % bytes == 0;
}

template <typename T>
std::span<const T> flat(const Array<T>& array) {
    require(is_aligned(array, alignof(T)), "must be aligned in memory");
    return {array.data(), static_cast<std::size_t>(array.size())};
}

using Edges = std::vector<Array<double>>;

bool strictly_ascends(std::span<const double> values) {
    return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); }) &&
           std::adjacent_find(values.begin(), values.end(), std::greater_equal<>()) == values.end();
}

std::optional<std::tuple<std::size_t, std::size_t>> find_interval(
    const Array<double>& low, const Array<double>& high, const Array<std::int64_t>& counts,
    const std::optional<Array<std::int64_t>>& sums, const std::string& objective, std::int64_t least, std::int64_t most,
    double min_width) {
    require(low.ndim() == 1 && high.ndim() == 1 && counts.ndim() == 1, "low, high, counts: must be flat");
    require(low.size() == high.size() && low.size() == counts.size(), "low, high, counts: must be of one length");
    require(!sums || sums->size() == low.size(), "sums: must be of the length of low");
    require(sums || objective != "utility", "sums: missing");
    require(least >= 1 && min_width >= 0, "least: must be >= 1; min_width: must be >= 0");
    const euds::Pieces pieces{flat(low), flat(high), flat(counts), sums ? flat(*sums) : std::span<const std::int64_t>{}};
    const py::gil_scoped_release release;
    require(strictly_ascends(pieces.low), "low: must ascend");
    for (std::size_t at = 0; at < pieces.low.size(); ++at) {
        const bool last = at + 1 == pieces.low.size();
        require(pieces.high[at] >= pieces.low[at] && (last || pieces.high[at] <= pieces.low[at + 1]), "high: out of order");
    }
    std::optional<euds::Interval> found;
    if (objective == "shortest") {
        found = euds::shortest_interval(pieces, {least, most});
    } else if (objective == "density") {
        found = euds::densest_interval(pieces, least, min_width);
    } else {
        require(objective == "utility", "objective: unknown");
        found = euds::best_interval(pieces, {least, most});
    }
    return found ? std::optional(std::tuple{found->first, found->last}) : std::nullopt;
}

std::tuple<std::int64_t, std::int64_t, std::int64_t> add_rows(
    const Edges& edges, const Array<double>& values, const std::optional<Array<double>>& utility,
    Array<std::int64_t>& counts, std::optional<Array<std::uint64_t>>& sums) {
    require(values.ndim() == 2 && values.shape(1) == static_cast<py::ssize_t>(edges.size()), "values: must be n x axes");
    require(utility.has_value() == sums.has_value(), "utility, sums: both or none");
    require(!utility || (utility->ndim() == 1 && utility->shape(0) == values.shape(0)), "utility: must be of length n");
    euds::Histogram histogram;
    py::ssize_t n_cells = 1;
    for (const auto& axis : edges) {
        require(axis.ndim() == 1 && axis.size() >= 2 && strictly_ascends(flat(axis)), "edges: must be flat and ascend");
        histogram.edges.push_back(flat(axis));
        n_cells *= axis.size() - 1;
    }
    require(!edges.empty() && counts.size() == n_cells, "counts: must have one entry a cell");
    require(!sums || sums->size() == 2 * n_cells, "sums: must have two entries a cell");
    histogram.counts = {counts.mutable_data(), static_cast<std::size_t>(counts.size())};
    if (sums) {
        histogram.sums = {sums->mutable_data(), static_cast<std::size_t>(sums->size())};
    }
    const auto value_view = flat(values);
    const auto utility_view = utility ? flat(*utility) : std::span<const double>{};
    const py::gil_scoped_release release;
    require(std::all_of(utility_view.begin(), utility_view.end(), [](double u) { return std::abs(u) <= 0x1p30; }),
            "utility: must be in -2^30..2^30");
    const euds::LeftOut left_out = euds::add_rows(histogram, value_view, utility_view);
    return {left_out.nan, left_out.infinite, left_out.outside};
}

template <typename T>
std::tuple<std::int64_t, std::int64_t, std::int64_t> add_values(const Array<double>& edges, const Array<T>& values,
                                                                Array<std::int64_t>& counts, std::size_t n_threads) {
    require(edges.ndim() == 1 && edges.size() >= 2 && strictly_ascends(flat(edges)), "edges: must be flat and ascend");
    require(values.ndim() == 1, "values: must be flat");
    require(counts.ndim() == 1 && counts.size() == edges.size() - 1, "counts: must have one entry a bin");
    require(n_threads >= 1, "n_threads: must be >= 1");
    const std::span<std::int64_t> count_view{counts.mutable_data(), static_cast<std::size_t>(counts.size())};
    const auto edge_view = flat(edges);
    const auto value_view = flat(values);
    const py::gil_scoped_release release;
    const euds::LeftOut left_out = euds::add_values(edge_view, value_view, count_view, n_threads);
    return {left_out.nan, left_out.infinite, left_out.outside};
}

py::array_t<std::int64_t> nearest(const Array<double>& distances, const Array<std::uint64_t>& ties, std::size_t keep) {
    require(distances.ndim() == 1 && ties.ndim() == 1, "distances, ties: must be flat");
    require(distances.size() == ties.size(), "distances, ties: must be of one length");
    require(keep <= static_cast<std::size_t>(distances.size()), "keep: must be at most n");
    std::vector<std::int64_t> kept;
    {
        const auto distance_view = flat(distances);
        const auto tie_view = flat(ties);
        const py::gil_scoped_release release;
        kept = euds::nearest(distance_view, tie_view, keep);
    }
    return py::array_t<std::int64_t>(static_cast<py::ssize_t>(kept.size()), kept.data());
}

template <typename T>
std::tuple<py::array_t<std::uint32_t>, std::size_t> rank_rows(const Array<T>& scores, std::size_t n_threads) {
    require(scores.ndim() == 2 && scores.shape(1) >= 1, "scores: must be n x d");
    require(scores.shape(0) < std::numeric_limits<std::int32_t>::max(), "scores: must have fewer than 2^31 - 1 rows");
    require(n_threads >= 1, "n_threads: must be >= 1");
    py::array_t<std::uint32_t> ranks({scores.shape(1), scores.shape(0)});
    const std::span<std::uint32_t> out{ranks.mutable_data(), static_cast<std::size_t>(ranks.size())};
    const auto view = flat(scores);
    const auto n_axes = static_cast<std::size_t>(scores.shape(1));
    std::size_t n_ranked = 0;
    {
        const py::gil_scoped_release release;
        n_ranked = euds::rank_rows(view, n_axes, out, n_threads);
    }
    return {std::move(ranks), n_ranked};
}

std::tuple<py::array_t<std::int32_t>, py::array_t<std::int64_t>> count_rows(
    const Array<std::uint32_t>& ranks, std::size_t n_ranked, std::size_t bins,
    const std::optional<Array<std::int32_t>>& groups, std::size_t n_groups, const std::optional<Array<double>>& utility,
    double scale, std::size_t n_threads) {
    require(ranks.ndim() == 2 && ranks.shape(0) >= 1, "ranks: must be d x n");
    require(n_ranked >= 1 && bins >= 1 && n_groups >= 1 && n_threads >= 1, "must be >= 1: n_ranked, bins, ...");
    const auto n = ranks.shape(1);
    require(!groups || (groups->ndim() == 1 && groups->shape(0) == n), "groups: must be of length n");
    require(!utility || (utility->ndim() == 1 && utility->shape(0) == n), "utility: must be of length n");
    std::vector<py::ssize_t> shape(static_cast<std::size_t>(ranks.shape(0)), static_cast<py::ssize_t>(bins));
    py::array_t<std::int64_t> sums(utility ? shape : std::vector<py::ssize_t>{0});
    shape.insert(shape.begin(), static_cast<py::ssize_t>(n_groups));
    py::array_t<std::int32_t> counts(shape);
    const std::span<std::int32_t> count_view{counts.mutable_data(), static_cast<std::size_t>(counts.size())};
    const std::span<std::int64_t> sum_view{sums.mutable_data(), static_cast<std::size_t>(sums.size())};
    const euds::RankGrid grid{flat(ranks), static_cast<std::size_t>(ranks.shape(0)), n_ranked, bins};
    const auto group_view = groups ? flat(*groups) : std::span<const std::int32_t>{};
    const auto utility_view = utility ? flat(*utility) : std::span<const double>{};
    {
        const py::gil_scoped_release release;
        require(std::all_of(grid.ranks.begin(), grid.ranks.end(), [&](auto rank) { return rank < 2 * n_ranked; }),
                "ranks: must be below 2 * n_ranked");
        require(std::all_of(group_view.begin(), group_view.end(),
                            [&](auto group) { return group >= 0 && static_cast<std::size_t>(group) < n_groups; }),
                "groups: must be in 0..G-1");
        std::fill(count_view.begin(), count_view.end(), 0);
        std::fill(sum_view.begin(), sum_view.end(), 0);
        euds::count_rows(grid, group_view, utility_view, scale, count_view, sum_view, n_threads);
    }
    return {std::move(counts), std::move(sums)};
}

// Lets Ctrl-C end the search and tells `progress`, if there is one, the share that is done.
euds::Poll python_poll(const py::object& progress) {
    return [&progress](double done) {
        const py::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() != 0) {
            throw py::error_already_set();
        }
        if (!progress.is_none()) {
            progress(done);
        }
    };
}

void check_problem(const euds::BoxProblem& problem) {
    const auto& bins = problem.bins;
    std::array<std::vector<std::int64_t>, euds::kAxes> masses;
    for (std::size_t axis = 0; axis < euds::kAxes; ++axis) {
        masses[axis].assign(static_cast<std::size_t>(bins[axis]), 0);
    }
    std::int64_t total = 0;
    const std::size_t plane = masses[1].size() * masses[2].size();
    for (std::size_t at = 0; at < problem.counts.size(); ++at) {
        const std::int32_t rows = problem.counts[at];
        require(rows >= 0, "counts: must be >= 0");
        total += rows;
        masses[0][at / plane % masses[0].size()] += rows;
        masses[1][at / masses[2].size() % masses[1].size()] += rows;
        masses[2][at % masses[2].size()] += rows;
    }
    require(total < std::numeric_limits<std::int32_t>::max(), "counts: must sum to less than 2^31 - 1");
    for (const auto& mass : masses) {
        require(std::all_of(mass.begin(), mass.end(), [](auto rows) { return rows > 0; }), "counts: a bin is empty");
    }
    const auto& needs = problem.needs;
    require(std::all_of(needs.begin(), needs.end(), [](auto need) { return need >= 0; }), "needs: must be >= 0");
    require(std::any_of(needs.begin(), needs.end(), [](auto need) { return need > 0; }), "needs: one must be > 0");
}

using Bins = std::array<std::int32_t, euds::kAxes>;

std::vector<std::tuple<Bins, Bins, std::int64_t>> find_boxes(
    const Array<std::int32_t>& counts, const std::optional<Array<std::int64_t>>& utility,
    const Array<std::int64_t>& needs, std::int64_t max_keep, const std::string& objective, std::size_t k,
    double max_overlap, std::size_t n_threads, const py::object& progress) {
    require(counts.ndim() == 1 + static_cast<py::ssize_t>(euds::kAxes) && counts.size() > 0, "counts: must be 4-D");
    require(needs.ndim() == 1 && needs.size() == counts.shape(0), "needs: must have one entry a group");
    require(!utility || utility->size() * needs.size() == counts.size(), "utility: must have one entry a cell");
    require(n_threads >= 1, "n_threads: must be >= 1");
    const std::map<std::string, euds::Objective> objectives{{"volume", euds::Objective::volume},
                                                            {"utility", euds::Objective::utility},
                                                            {"lift", euds::Objective::lift}};
    require(objectives.contains(objective), "objective: unknown");
    require(utility || objective != "utility", "utility: missing");
    Bins bins;
    for (std::size_t axis = 0; axis < euds::kAxes; ++axis) {
        bins[axis] = static_cast<std::int32_t>(counts.shape(1 + static_cast<py::ssize_t>(axis)));
    }
    const euds::BoxProblem problem{bins,        flat(counts), utility ? flat(*utility) : std::span<const std::int64_t>{},
                                   flat(needs), max_keep,     objectives.at(objective)};
    std::vector<std::tuple<Bins, Bins, std::int64_t>> boxes;
    const py::gil_scoped_release release;
    check_problem(problem);
    for (const auto& box : euds::find_boxes(problem, k, max_overlap, n_threads, python_poll(progress))) {
        boxes.emplace_back(box.low, box.high, box.count);
    }
    return boxes;
}

constexpr std::array<const char*, 3> kIsaNames{"avx512", "avx2", "plain"};  // in the order of euds::Isa

std::vector<std::string> usable_isas() {
    std::vector<std::string> names;
    for (const euds::Isa isa : euds::usable_isas()) {
        names.emplace_back(kIsaNames[static_cast<std::size_t>(isa)]);
    }
    return names;
}

euds::Isa usable_isa(const std::string& name) {
    for (const euds::Isa isa : euds::usable_isas()) {
        if (name == kIsaNames[static_cast<std::size_t>(isa)]) {
            return isa;
        }
    }
    throw std::invalid_argument("isa: must be one of usable_isas()");
}

void find_groups(const Array<float>& embeddings, const Array<std::int64_t>& offsets, const Array<bool>& empty,
                 double least, bool components, Array<std::int64_t>& groups, std::size_t n_threads,
                 const std::string& isa) {
    require(embeddings.ndim() == 2, "embeddings: must be of shape (total, H)");
    const auto n_rows = embeddings.shape(0);
    require(empty.ndim() == 1 && empty.shape(0) == n_rows, "empty: must be of length total");
    require(groups.ndim() == 1 && groups.shape(0) == n_rows, "groups: must be of length total");
    require(offsets.ndim() == 1 && offsets.size() >= 1, "offsets: must be of length n + 1");
    require(n_threads >= 1, "n_threads: must be >= 1");
    require(is_aligned(groups, alignof(std::int64_t)), "groups: must be aligned in memory");
    const euds::SampleRows rows{flat(embeddings), static_cast<std::size_t>(embeddings.shape(1)), flat(offsets),
                                flat(empty)};
    const auto linkage = components ? euds::Linkage::connected_components : euds::Linkage::first_representative;
    const euds::GroupOptions options{least, linkage, n_threads, usable_isa(isa)};
    const std::span<std::int64_t> group_view{groups.mutable_data(), static_cast<std::size_t>(n_rows)};
    const py::none without_progress;
    const py::gil_scoped_release release;
    require(rows.offsets.front() == 0 && rows.offsets.back() == n_rows &&
                std::is_sorted(rows.offsets.begin(), rows.offsets.end()),
            "offsets: must rise from 0 to total");
    euds::find_groups(rows, options, group_view, python_poll(without_progress));
}

euds::LogitType logit_type(const std::string& dtype, const py::array& logits) {
    const bool is_float = py::isinstance<py::array_t<float>>(logits);
    const bool is_half = py::isinstance<py::array_t<std::uint16_t>>(logits);
    require(dtype == "float32" ? is_float : is_half, "logits: must be float32, or uint16 for the 16-bit dtypes");
    require(dtype == "float32" || dtype == "bfloat16" || dtype == "float16", "dtype: must be one of the three");
    return dtype == "float32"    ? euds::LogitType::float32
           : dtype == "bfloat16" ? euds::LogitType::bfloat16
                                 : euds::LogitType::float16;
}

euds::LogitRows logit_rows(const py::array& logits, const std::string& dtype) {
    const euds::LogitType type = logit_type(dtype, logits);
    const py::ssize_t bytes = logits.itemsize();
    require(logits.ndim() == 3, "logits: must be of shape (n, m, V)");
    const bool side_by_side = logits.size() == 0 || logits.shape(2) == 1 || logits.strides(2) == bytes;
    require(side_by_side, "logits: those of a row must lie side by side");
    const bool whole_strides = logits.strides(0) % bytes == 0 && logits.strides(1) % bytes == 0;
    require(whole_strides && is_aligned(logits, static_cast<std::size_t>(bytes)), "logits: rows must be aligned");
    return {logits.data(),
            type,
            {static_cast<std::size_t>(logits.shape(0)), static_cast<std::size_t>(logits.shape(1))},
            {logits.strides(0) / bytes, logits.strides(1) / bytes},
            static_cast<std::size_t>(logits.shape(2))};
}

void add_logits(const py::array& logits, const std::string& dtype, Array<double>& sums, double scale, bool with_q,
                std::size_t n_threads, const std::string& isa) {
    static_assert(sizeof(euds::RowSums) == 4 * sizeof(double));
    const euds::LogitRows rows = logit_rows(logits, dtype);
    const std::size_t n_rows = rows.shape[0] * rows.shape[1];
    require(sums.ndim() == 2 && sums.shape(1) == 4, "sums: must be n x 4");
    require(static_cast<std::size_t>(sums.shape(0)) == n_rows, "sums: must have one row for each row of logits");
    require(is_aligned(sums, alignof(euds::RowSums)), "sums: must be aligned in memory");
    require(scale > 0.0, "scale: must be > 0");
    const euds::SumOptions options{scale, with_q, n_threads, usable_isa(isa)};
    const std::span<euds::RowSums> states{reinterpret_cast<euds::RowSums*>(sums.mutable_data()), n_rows};
    const py::gil_scoped_release release;
    euds::add_logits(rows, states, options);
}

}  // namespace

PYBIND11_MODULE(_core, module) {
    module.doc() = "Searches, histograms and token sums in C++; the checked, public functions are in euds.ops.";
    module.def("find_interval", &find_interval, py::arg("low").noconvert(), py::arg("high").noconvert(),
               py::arg("counts").noconvert(), py::arg("sums").noconvert(), py::arg("objective"), py::arg("least"),
               py::arg("most"), py::arg("min_width"),
               "First and last piece of the best interval of one axis cut into pieces, or None.");
    module.def("add_rows", &add_rows, py::arg("edges").noconvert(), py::arg("values").noconvert(),
               py::arg("utility").noconvert(), py::arg("counts").noconvert(), py::arg("sums").noconvert(),
               "Add rows to a histogram in place; rows with NaN, infinite and outside, which are left out.");
    module.def("add_values", &add_values<double>, py::arg("edges").noconvert(), py::arg("values").noconvert(),
               py::arg("counts").noconvert(), py::arg("n_threads"),
               "Add values to a histogram of one axis in place; those with NaN, infinite and outside, which are left out.");
    module.def("add_values", &add_values<float>, py::arg("edges").noconvert(), py::arg("values").noconvert(),
               py::arg("counts").noconvert(), py::arg("n_threads"));
    module.def("nearest", &nearest, py::arg("distances").noconvert(), py::arg("ties").noconvert(), py::arg("keep"),
               "Ascending positions of the `keep` smallest distances, equal ones in the order of `ties`.");
    module.def("rank_rows", &rank_rows<double>, py::arg("scores").noconvert(), py::arg("n_threads"),
               "Doubled mid-ranks (d, n) among the rows that are finite on all axes, 0 for others; number of these rows.");
    module.def("rank_rows", &rank_rows<float>, py::arg("scores").noconvert(), py::arg("n_threads"));
    module.def("count_rows", &count_rows, py::arg("ranks").noconvert(), py::arg("n_ranked"), py::arg("bins"),
               py::arg("groups").noconvert(), py::arg("n_groups"), py::arg("utility").noconvert(), py::arg("scale"),
               py::arg("n_threads"),
               "Rows per group and cell of the grid of equal-mass bins, and sums of round(utility * scale) per cell.");
    module.def("find_boxes", &find_boxes, py::arg("counts").noconvert(), py::arg("utility").noconvert(),
               py::arg("needs").noconvert(), py::arg("max_keep"), py::arg("objective"), py::arg("k"),
               py::arg("max_overlap"), py::arg("n_threads"), py::arg("progress"),
               "First and last bins per axis and count of the at most k best boxes that differ, the best first.");
    module.def("usable_isas", &usable_isas, "Instruction sets that kernels here can use on this processor, best first.");
    module.def("find_groups", &find_groups, py::arg("embeddings").noconvert(), py::arg("offsets").noconvert(),
               py::arg("empty").noconvert(), py::arg("least"), py::arg("components"), py::arg("groups").noconvert(),
               py::arg("n_threads"), py::arg("isa"),
               "Write the group of each row (total, H): of cosines >= least with representatives or along chains.");
    module.def("add_logits", &add_logits, py::arg("logits").noconvert(), py::arg("dtype"), py::arg("sums").noconvert(),
               py::arg("scale"), py::arg("with_q"), py::arg("n_threads"), py::arg("isa"),
               "Add logits (n, m, V) of float32, bfloat16 or float16 to the max, S, A, Q (n m, 4) of their rows.");
}
