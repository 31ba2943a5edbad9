// The only file that knows Python: it checks what memory safety needs, releases the GIL and calls the library.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "euds/box.hpp"
#include "euds/interval.hpp"
#include "euds/token_sums.hpp"

namespace py = pybind11;

namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

template <typename T>
std::span<const T> flat(const Array<T>& array) {
    return {array.data(), static_cast<std::size_t>(array.size())};
}

void require(bool condition, const char* message) {
    if (!condition) {
        throw std::invalid_argument(message);
    }
}

std::tuple<std::size_t, std::size_t> densest_interval(const Array<double>& values, std::size_t keep) {
    require(values.ndim() == 1, "values: must be flat");
    require(keep >= 1 && keep <= static_cast<std::size_t>(values.size()), "keep: must be 1..n");
    const auto view = flat(values);
    const py::gil_scoped_release release;
    require(std::is_sorted(view.begin(), view.end()), "values: must be sorted");
    const euds::Window window = euds::densest_interval(view, keep);
    return {window.first, window.last};
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

using Bins = std::array<std::int32_t, euds::kAxes>;

std::optional<std::tuple<Bins, Bins, std::int64_t>> find_box(const Array<std::int32_t>& codes, const Bins& bins,
                                                             const Array<std::int32_t>& groups,
                                                             const Array<std::int64_t>& needs, std::int64_t max_keep,
                                                             const std::optional<Array<double>>& utility) {
    constexpr auto axes = static_cast<py::ssize_t>(euds::kAxes);
    require(codes.ndim() == 2 && codes.shape(1) == axes, "codes: must be n x 3");
    require(groups.ndim() == 1 && groups.shape(0) == codes.shape(0), "groups: must be of length n");
    require(needs.ndim() == 1 && needs.size() >= 1, "needs: must be flat, one entry a group");
    require(!utility || (utility->ndim() == 1 && utility->shape(0) == codes.shape(0)), "utility: must be of length n");
    require(std::all_of(bins.begin(), bins.end(), [](std::int32_t count) { return count >= 1; }), "bins: must be >= 1");
    const euds::BoxProblem problem{
        flat(codes), bins,     flat(groups),
        flat(needs), max_keep, utility ? flat(*utility) : std::span<const double>{},
    };
    std::optional<euds::FoundBox> found;
    {
        const py::gil_scoped_release release;
        for (std::size_t at = 0; at < problem.codes.size(); ++at) {
            const std::int32_t code = problem.codes[at];
            require(code >= 0 && code < bins[at % euds::kAxes], "codes: must be in 0..bins-1");
        }
        for (const std::int32_t group : problem.groups) {
            require(group >= 0 && static_cast<std::size_t>(group) < problem.needs.size(), "groups: must be in 0..G-1");
        }
        found = euds::find_box(problem);
    }
    if (!found) {
        return std::nullopt;
    }
    return std::tuple{found->low, found->high, found->count};
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
    require(logits.strides(0) % bytes == 0 && logits.strides(1) % bytes == 0, "logits: rows must be aligned");
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
    require(scale > 0.0, "scale: must be > 0");
    const euds::SumOptions options{scale, with_q, n_threads, usable_isa(isa)};
    const std::span<euds::RowSums> states{reinterpret_cast<euds::RowSums*>(sums.mutable_data()), n_rows};
    const py::gil_scoped_release release;
    euds::add_logits(rows, states, options);
}

}  // namespace

PYBIND11_MODULE(_core, module) {
    module.doc() = "Searches and token sums in C++; the checked, public functions are in euds.ops.";
    module.def("densest_interval", &densest_interval, py::arg("values").noconvert(), py::arg("keep"),
               "Positions of the first and last value of the shortest interval that holds `keep` sorted values.");
    module.def("nearest", &nearest, py::arg("distances").noconvert(), py::arg("ties").noconvert(), py::arg("keep"),
               "Ascending positions of the `keep` smallest distances, equal ones in the order of `ties`.");
    module.def("find_box", &find_box, py::arg("codes").noconvert(), py::arg("bins"), py::arg("groups").noconvert(),
               py::arg("needs").noconvert(), py::arg("max_keep"), py::arg("utility").noconvert(),
               "First and last bins per axis and count of the best box, or None if no box meets the counts.");
    module.def("usable_isas", &usable_isas, "Instruction sets that add_logits can use on this processor, best first.");
    module.def("add_logits", &add_logits, py::arg("logits").noconvert(), py::arg("dtype"), py::arg("sums").noconvert(),
               py::arg("scale"), py::arg("with_q"), py::arg("n_threads"), py::arg("isa"),
               "Add logits (n, m, V) of float32, bfloat16 or float16 to the max, S, A, Q (n m, 4) of their rows.");
}
