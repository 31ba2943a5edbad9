// One-pass sums over rows of logits, from which the statistics of next-token distributions follow.
#pragma once

#include <array>
#include <cstddef>
#include <limits>
#include <span>

#include "euds/isa.hpp"

namespace euds {

// Sums about the largest logit of a row: with d = (logit - max) * scale, s = sum e^d, a = sum d e^d, q = sum d^2 e^d.
// A row without a possible token keeps max = -inf and sums of 0; a NaN or +inf makes every sum NaN, for good.
struct RowSums {
    double max = -std::numeric_limits<double>::infinity();  // before scaling
    double s = 0.0;
    double a = 0.0;
    double q = 0.0;
};

enum class LogitType : std::size_t { float32, bfloat16, float16 };

// Two leading dimensions of rows, each with its own stride in elements; the logits of one row lie side by side.
struct LogitRows {
    const void* data;
    LogitType type;
    std::array<std::size_t, 2> shape;
    std::array<std::ptrdiff_t, 2> strides;
    std::size_t n_columns;
};

struct SumOptions {
    double scale;           // 1 / temperature, > 0
    bool with_q;            // false: q means nothing and costs nothing
    std::size_t n_threads;  // at most
    Isa isa;                // one of usable_isas()
};

// Merges `part`, sums over other columns of the same row, into `total`.
void merge(RowSums& total, const RowSums& part, double scale);

// Adds every logit of row (i, j) to sums[i * shape[1] + j]. A logit of -inf contributes nothing.
// The results depend on the instruction set, and neither on the number of threads nor on alignment.
void add_logits(const LogitRows& rows, std::span<RowSums> sums, const SumOptions& options);

}  // namespace euds
