// The kernels over vectors for any processor: four lanes that the compiler maps to what the baseline has (SSE2, NEON).
#include <bit>

#include "dots_vectors.hpp"
#include "kernels.hpp"
#include "token_sums_block.hpp"

namespace euds {
namespace {

using Floats = float __attribute__((vector_size(16)));
using Halves = std::uint16_t __attribute__((vector_size(8)));
using Words = std::uint32_t __attribute__((vector_size(16)));

struct Plain {
    using Register = Floats;
    static constexpr std::size_t kLanes = 4;

    static Register load(const float* at) {
        Register lanes;
        std::memcpy(&lanes, at, sizeof lanes);
        return lanes;
    }
    static Register load(const Bfloat16* at) { return std::bit_cast<Floats>(widened(at) << 16); }
    static Register load(const Float16* at) {
        const Words half = widened(at);
        // Shifted into place the exponent is 112 too small, for subnormal numbers too; 31 stands for infinity and NaN.
        const Floats magnitude = std::bit_cast<Floats>((half & 0x7FFF) << 13) * 0x1p112F;
        const Words infinite = std::bit_cast<Words>(magnitude >= 65536.0F) & 0x7F800000;
        return std::bit_cast<Floats>(std::bit_cast<Words>(magnitude) | infinite | ((half & 0x8000) << 16));
    }
    static Register set(float value) { return Register{value, value, value, value}; }
    static Register add(Register a, Register b) { return a + b; }
    static Register sub(Register a, Register b) { return a - b; }
    static Register mul(Register a, Register b) { return a * b; }
    static Register fma(Register a, Register b, Register c) { return a * b + c; }
    static Register max(Register a, Register b) { return a > b ? a : b; }
    static Register power_of_two(Register k) { return std::bit_cast<Floats>(std::bit_cast<Words>(k) << 23); }
    static float largest(Register a) {
        const float left = a[0] > a[1] ? a[0] : a[1];
        const float right = a[2] > a[3] ? a[2] : a[3];
        return left > right ? left : right;
    }
    static double total(Register a) {
        return (static_cast<double>(a[0]) + static_cast<double>(a[1])) +
               (static_cast<double>(a[2]) + static_cast<double>(a[3]));
    }

   private:
    template <typename Element>
    static Words widened(const Element* at) {
        Halves bits;
        std::memcpy(&bits, at, sizeof bits);
        return __builtin_convertvector(bits, Words);
    }
};

}  // namespace

const VectorKernels kPlainKernels{kOfVec<Plain>, kDotsOf<Plain>};

}  // namespace euds
