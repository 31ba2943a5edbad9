#include "cells.hpp"

#include "cpu.hpp"
#include "dispatch.hpp"

namespace euds {
namespace {

// F is what places are computed in.
template <typename F, typename T>
inline __attribute__((always_inline)) bool find(const T* values, std::size_t n_values, const Cells& cells,
                                                double margin, std::int32_t* found) {
    const F low = static_cast<F>(cells.low);
    const F scale = static_cast<F>(cells.scale);
    const F end = static_cast<F>(cells.n);
    const auto unknown = static_cast<std::int32_t>(cells.n);
    const F least = static_cast<F>(margin);
    const F most = F{1} - least;
    std::int32_t largest = 0;
    for (std::size_t at = 0; at < n_values; ++at) {
        const F place = (static_cast<F>(values[at]) - low) * scale;
        // Within what an integer can hold; in this order NaN goes below, too.
        const F above = place > F{-0.5} ? place : F{-0.5};
        const F inside = above < end ? above : end;
        const auto cell = static_cast<std::int32_t>(inside);
        const F rest = inside - static_cast<F>(cell);
        found[at] = ((rest >= least) & (rest <= most)) ? cell : unknown;
        largest = largest > found[at] ? largest : found[at];
    }
    return largest == unknown;
}

std::vector<FindCells<float>> usable_ways() {
    std::vector<FindCells<float>> usable;
#if defined(__x86_64__)
    if (runs_avx512()) {
        usable.push_back(find_cells_avx512);
    }
    if (runs_avx2()) {
        usable.push_back(find_cells_avx2);
    }
#endif
    usable.push_back(find_cells_plain);
    return usable;
}

}  // namespace

EUDS_UP_TO_AVX512 bool find_cells(const float* values, std::size_t n_values, const Cells& cells, double margin,
                                  std::int32_t* found) {
    return find<double>(values, n_values, cells, margin, found);
}

EUDS_UP_TO_AVX512 bool find_cells(const double* values, std::size_t n_values, const Cells& cells, double margin,
                                  std::int32_t* found) {
    return find<double>(values, n_values, cells, margin, found);
}

bool find_cells_plain(const float* values, std::size_t n_values, const Cells& cells, double margin,
                      std::int32_t* found) {
    return find<float>(values, n_values, cells, margin, found);
}

const std::vector<FindCells<float>>& single_precision_ways() {
    static const std::vector<FindCells<float>> ways = usable_ways();
    return ways;
}

}  // namespace euds
