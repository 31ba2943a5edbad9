// The only file that knows Python: it checks what memory safety needs, releases the GIL and calls the library.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "euds/box.hpp"
#include "euds/interval.hpp"

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

}  // namespace

PYBIND11_MODULE(_core, module) {
    module.doc() = "Interval and box searches in C++; the checked, public functions are in euds.ops.search.";
    module.def("densest_interval", &densest_interval, py::arg("values").noconvert(), py::arg("keep"),
               "Positions of the first and last value of the shortest interval that holds `keep` sorted values.");
    module.def("nearest", &nearest, py::arg("distances").noconvert(), py::arg("ties").noconvert(), py::arg("keep"),
               "Ascending positions of the `keep` smallest distances, equal ones in the order of `ties`.");
    module.def("find_box", &find_box, py::arg("codes").noconvert(), py::arg("bins"), py::arg("groups").noconvert(),
               py::arg("needs").noconvert(), py::arg("max_keep"), py::arg("utility").noconvert(),
               "First and last bins per axis and count of the best box, or None if no box meets the counts.");
}
