// Dot products for any processor: four lanes that the compiler maps to what the baseline has (SSE2, NEON).
#include <cstring>

#include "dots_vectors.hpp"

namespace euds {
namespace {

struct Plain {
    using Register = float __attribute__((vector_size(16)));
    static constexpr std::size_t kLanes = 4;

    static Register load(const float* at) {
        Register lanes;
        std::memcpy(&lanes, at, sizeof lanes);
        return lanes;
    }
    static Register zero() { return Register{}; }
    static Register add(Register a, Register b) { return a + b; }
    static Register fma(Register a, Register b, Register c) { return a * b + c; }
    static float total(Register a) { return (a[0] + a[1]) + (a[2] + a[3]); }
};

}  // namespace

const DotsKernels kPlainDots = kDotsOf<Plain>;

}  // namespace euds
