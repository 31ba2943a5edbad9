// The kernels over vectors, one table per instruction set.
#pragma once

#include "dots_kernels.hpp"
#include "euds/isa.hpp"
#include "token_sums_kernels.hpp"

namespace euds {

struct VectorKernels {
    BlockKernels sums;
    DotsKernels dots;
};

extern const VectorKernels kPlainKernels;
#if defined(__x86_64__)
extern const VectorKernels kAvx2Kernels;
extern const VectorKernels kAvx512Kernels;
#endif

// `isa` is one of usable_isas().
const VectorKernels& kernels_of(Isa isa);

}  // namespace euds
