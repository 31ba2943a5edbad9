// Groups of rows by the cosine similarity of their directions, sample by sample.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "euds/isa.hpp"
#include "euds/parallel.hpp"

namespace euds {

enum class Linkage { first_representative, connected_components };

// Rows of all samples, one after another; sample i owns the rows offsets[i]..offsets[i + 1] - 1.
struct SampleRows {
    std::span<const float> values;  // n_rows x width
    std::size_t width;
    std::span<const std::int64_t> offsets;  // from 0 to n_rows, never falling
    std::span<const bool> empty;            // n_rows; empty rows are one group of their sample, whatever their values
};

struct GroupOptions {
    double least;  // rows are alike if their cosine is at least this
    Linkage linkage;
    std::size_t n_threads;  // >= 1
    Isa isa;                // one of usable_isas()
};

// Writes the group of every row, numbered from 0 within its sample by first appearance. A row without a direction
// (zeros, NaN, infinity) is like no other. Cosines are summed in float32, and those of a sample once more in float64
// where that leaves a comparison open: the groups depend neither on the instruction set nor on the number of threads.
void find_groups(const SampleRows& rows, const GroupOptions& options, std::span<std::int64_t> groups,
                 const Poll& poll = {});

}  // namespace euds
