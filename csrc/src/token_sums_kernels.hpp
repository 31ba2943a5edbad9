// What the builds of the block kernel share: one table of functions per instruction set.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace euds {

// Sums of one block in units of log2: with t = (logit - reference) * to_log2,
// s = sum 2^t, a = sum t 2^t, q = sum t^2 2^t.
struct BlockSums {
    float reference;  // max(floor, largest logit); -inf if both are
    double s;
    double a;
    double q;
};

// `floor` is the largest logit of the row so far; `n` at most n_columns.
using BlockKernel = BlockSums (*)(const void* logits, std::size_t n, float floor, float to_log2);

struct BlockKernels {
    std::size_t n_columns;                         // read twice, the second time from L1
    std::array<std::array<BlockKernel, 2>, 3> of;  // [LogitType][with_q]
};

}  // namespace euds
