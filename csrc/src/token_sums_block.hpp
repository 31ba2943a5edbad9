// The block kernel over an abstract vector, compiled once per instruction set.
//
// Everything here is a template over a type of an unnamed namespace, or inlined by force: a function that the linker
// could merge across files might be the copy compiled for instructions which this processor lacks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "token_sums_kernels.hpp"

namespace euds {

struct Bfloat16 {
    std::uint16_t bits;
};

struct Float16 {
    std::uint16_t bits;
};

template <typename Element>
inline constexpr Element kImpossible{};
template <>
inline constexpr float kImpossible<float> = -std::numeric_limits<float>::infinity();
template <>
inline constexpr Bfloat16 kImpossible<Bfloat16>{0xFF80};
template <>
inline constexpr Float16 kImpossible<Float16>{0xFC00};

inline constexpr std::size_t kCacheLine = 64;
inline constexpr int kForReading = 0;
inline constexpr int kIntoL2 = 2;

// Vec: Register, kLanes, load(Element*), set(float), add, sub, mul, fma(a, b, c) = a b + c, max(a, b), which returns b
// if either is NaN, power_of_two(k) = 2^n for k = 1.5 * 2^23 + 127 + n, largest(Register), total(Register) in double.
template <typename Vec>
struct Exponential {
    using Register = typename Vec::Register;

    Register t;  // log2 of the value, at least -127
    Register e;  // 2^t

    [[gnu::always_inline]] Exponential(Register logits, Register reference, Register to_log2) {
        // At -127 the exponent field is 0: 2^t is exactly 0, and t stays finite, so that t 2^t is 0. A NaN passes.
        t = Vec::max(Vec::set(-127.0F), Vec::mul(Vec::sub(logits, reference), to_log2));
        // Adding this rounds t to an integer n and leaves n + 127, the exponent field of 2^n, in the lowest bits.
        const Register magic = Vec::set(12582912.0F + 127.0F);
        const Register k = Vec::add(t, magic);
        const Register f = Vec::sub(t, Vec::sub(k, magic));
        // 2^f for |f| <= 1/2: the polynomial of degree 5 with least relative error (1e-7) among those exact at 0.
        Register p = Vec::fma(f, Vec::set(0x1.5bba14p-10F), Vec::set(0x1.3cea88p-7F));
        p = Vec::fma(f, p, Vec::set(0x1.c6b752p-5F));
        p = Vec::fma(f, p, Vec::set(0x1.ebf9bcp-3F));
        p = Vec::fma(f, p, Vec::set(0x1.62e42ap-1F));
        p = Vec::fma(f, p, Vec::set(1.0F));
        e = Vec::mul(p, Vec::power_of_two(k));
    }
};

// 4096 columns of 16 lanes are 16 KiB and stay in L1.
template <typename Vec>
inline constexpr std::size_t kBlockColumns = 256 * Vec::kLanes;

// Of these, each lane adds up as many as this at a time in float32, and then the sums: adding equal numbers one by one
// rounds the same way again and again, which 128 times over is 2e-5 nats of a row with many equal logits.
template <typename Vec>
inline constexpr std::size_t kRunColumns = 32 * Vec::kLanes;

template <typename Vec, bool kWithQ>
struct LaneSums {
    using Register = typename Vec::Register;

    Register s = Vec::set(0.0F);
    Register a = Vec::set(0.0F);
    Register q = Vec::set(0.0F);

    // Two vectors at a time, added to each other first: a sum of half as many terms rounds less.
    [[gnu::always_inline]] void add(const Exponential<Vec>& x, const Exponential<Vec>& y) {
        s = Vec::add(s, Vec::add(x.e, y.e));
        if constexpr (kWithQ) {
            const Register x1 = Vec::mul(x.e, x.t);
            const Register y1 = Vec::mul(y.e, y.t);
            a = Vec::add(a, Vec::add(x1, y1));
            q = Vec::add(q, Vec::fma(x1, x.t, Vec::mul(y1, y.t)));
        } else {
            a = Vec::add(a, Vec::fma(x.e, x.t, Vec::mul(y.e, y.t)));
        }
    }

    [[gnu::always_inline]] void add(const LaneSums& run) {
        s = Vec::add(s, run.s);
        a = Vec::add(a, run.a);
        if constexpr (kWithQ) {
            q = Vec::add(q, run.q);
        }
    }
};

template <typename Vec, typename Element, bool kWithQ>
BlockSums block_sums(const void* data, std::size_t n, float floor, float to_log2) {
    using Register = typename Vec::Register;
    constexpr std::size_t lanes = Vec::kLanes;
    constexpr std::size_t step = 2 * lanes;
    const auto* logits = static_cast<const Element*>(data);
    const std::size_t n_stepped = n - n % step;
    // The last lanes are padded with impossible tokens: nothing outside the row is read.
    Element rest[step];
    for (Element& element : rest) {
        element = kImpossible<Element>;
    }
    std::memcpy(rest, logits + n_stepped, (n - n_stepped) * sizeof(Element));

    Register top0 = Vec::max(Vec::load(rest), Vec::set(floor));
    Register top1 = Vec::max(Vec::load(rest + lanes), Vec::set(floor));
    for (std::size_t at = 0; at < n_stepped; at += step) {
        top0 = Vec::max(Vec::load(logits + at), top0);
        top1 = Vec::max(Vec::load(logits + at + lanes), top1);
    }
    const float top = Vec::largest(Vec::max(top0, top1));

    // Without a possible token any finite reference gives sums of 0, or NaN if there is one.
    const Register reference = Vec::set(top == kImpossible<float> ? 0.0F : top);
    const Register factor = Vec::set(to_log2);
    LaneSums<Vec, kWithQ> sums;
    for (std::size_t first = 0; first < n_stepped; first += kRunColumns<Vec>) {
        const std::size_t end = n_stepped - first < kRunColumns<Vec> ? n_stepped : first + kRunColumns<Vec>;
        LaneSums<Vec, kWithQ> run;
        for (std::size_t at = first; at < end; at += step) {
            // Memory works on the block after the next while this one is computed; a prefetch never faults. Into L2:
            // what waits for L1 keeps its few fill buffers from the loads (1.97 against 2.75 Glogits/s a core of a Xeon
            // with AMX).
            for (std::size_t line = 0; line < step * sizeof(Element); line += kCacheLine) {
                __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(logits + at) +
                                                                 2 * kBlockColumns<Vec> * sizeof(Element) + line),
                                   kForReading, kIntoL2);
            }
            run.add({Vec::load(logits + at), reference, factor}, {Vec::load(logits + at + lanes), reference, factor});
        }
        sums.add(run);
    }
    sums.add({Vec::load(rest), reference, factor}, {Vec::load(rest + lanes), reference, factor});
    return {top, Vec::total(sums.s), Vec::total(sums.a), Vec::total(sums.q)};
}

template <typename Vec, typename Element>
inline constexpr std::array<BlockKernel, 2> kOfElement{&block_sums<Vec, Element, false>,
                                                       &block_sums<Vec, Element, true>};

template <typename Vec>
inline constexpr BlockKernels kOfVec{
    kBlockColumns<Vec>, {kOfElement<Vec, float>, kOfElement<Vec, Bfloat16>, kOfElement<Vec, Float16>}};

}  // namespace euds
