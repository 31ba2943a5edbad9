// The cells of equal width in which many values lie, found without a search.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace euds {

// The place of a value is (value - low) * scale; cell c of 0..n-1 holds the places in [c, c + 1).
struct Cells {
    double low;
    double scale;
    double n;  // at most 2^24
};

// Writes the cell of each value, or cells.n where the place is outside of the cells or nearer than `margin` to the next
// cell; returns whether there is such a value. `margin` is in 0..1/2.
template <typename T>
using FindCells = bool (*)(const T* values, std::size_t n_values, const Cells& cells, double margin,
                           std::int32_t* found);

// With places in double precision.
bool find_cells(const float* values, std::size_t n_values, const Cells& cells, double margin, std::int32_t* found);
bool find_cells(const double* values, std::size_t n_values, const Cells& cells, double margin, std::int32_t* found);

// With places in single precision, the fastest first; the last one runs everywhere. All give the same.
const std::vector<FindCells<float>>& single_precision_ways();

bool find_cells_plain(const float* values, std::size_t n_values, const Cells& cells, double margin,
                      std::int32_t* found);
#if defined(__x86_64__)
bool find_cells_avx2(const float* values, std::size_t n_values, const Cells& cells, double margin, std::int32_t* found);
bool find_cells_avx512(const float* values, std::size_t n_values, const Cells& cells, double margin,
                       std::int32_t* found);
#endif

}  // namespace euds
