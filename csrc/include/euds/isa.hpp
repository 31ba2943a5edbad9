// The instruction sets that kernels are compiled for, several times over; which of them run is seen at run time.
#pragma once

#include <cstddef>
#include <vector>

namespace euds {

enum class Isa : std::size_t { avx512, avx2, plain };

// The instruction sets that were compiled in and run on this processor, best first; `plain` always.
std::vector<Isa> usable_isas();

}  // namespace euds
