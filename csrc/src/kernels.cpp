#include "kernels.hpp"

#include "cpu.hpp"

namespace euds {

std::vector<Isa> usable_isas() {
    std::vector<Isa> usable;
    if (runs_avx512()) {
        usable.push_back(Isa::avx512);
    }
    if (runs_avx2()) {
        usable.push_back(Isa::avx2);
    }
    usable.push_back(Isa::plain);
    return usable;
}

const VectorKernels& kernels_of(Isa isa) {
#if defined(__x86_64__)
    if (isa == Isa::avx512) {
        return kAvx512Kernels;
    }
    if (isa == Isa::avx2) {
        return kAvx2Kernels;
    }
#endif
    static_cast<void>(isa);
    return kPlainKernels;
}

}  // namespace euds
