// The bins of many values at once, without a search but for values too near to an edge.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cells.hpp"

namespace euds {

// T is float or double.
template <typename T>
class BinGuess {
public:
    // Edges strictly ascend; at least two.
    explicit BinGuess(std::span<const double> edges);

    // Writes the bin of each of n values, or the number of bins where it must be looked up, as for all values outside;
    // returns whether there is such a value.
    bool guess(const T* values, std::size_t n, std::int32_t* bins) const;

private:
    bool are_cells(std::span<const double> edges) const;
    void fill_cells(std::span<const double> edges);
    bool refine(const T* values, std::size_t n, std::int32_t* bins) const;

    std::int32_t n_bins_;
    Cells cells_;                // none: all values must be looked up
    bool in_float_ = false;      // whether places are computed in single precision
    double margin_ = 0.0;        // values this near to another cell must be looked up
    // Per cell, and last for places outside: the bin below the one edge in the cell, and that edge, NaN if there is
    // none; n_bins where there are more. Both empty if the bins are the cells.
    std::vector<std::int32_t> bin_of_cell_;
    std::vector<T> edge_of_cell_;
};

}  // namespace euds
