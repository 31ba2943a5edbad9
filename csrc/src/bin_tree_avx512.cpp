// Bins by a search tree in registers of AVX-512 (F, BW); this file alone is compiled for it.
#if defined(__x86_64__)

#include <immintrin.h>

#include <limits>

#include "bin_tree.hpp"

namespace euds {
namespace {

constexpr std::size_t kVectors = 8;  // together, for one alone waits at every level
constexpr std::size_t kLanes = 32;
constexpr std::size_t kTurns = kTreeLevels + 2;          // at counting, beside the search
constexpr std::size_t kSome = kTreeStep / 2 / kTurns;  // pairs counted in a turn
static_assert(kVectors * kLanes == kTreeStep && kSome * kTurns == kTreeStep / 2);
constexpr std::size_t kCacheLine = 64;
constexpr std::uintptr_t kAhead = 8192;  // bytes from what is counted to what is asked from memory
constexpr int kRound = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

// Sixteen values, and what is asked about them.
template <typename T>
struct Sixteen;

template <>
struct Sixteen<float> {
    __m512 values;

    explicit Sixteen(const float* from) : values(_mm512_loadu_ps(from)) {}

    __m512i codes(float scale, float shift) const {
        return _mm512_cvt_roundps_epi32(_mm512_fmadd_ps(values, _mm512_set1_ps(scale), _mm512_set1_ps(shift)), kRound);
    }

    template <int How>
    __mmask16 compare(float bound) const {
        return _mm512_cmp_ps_mask(values, _mm512_set1_ps(bound), How);
    }

    __mmask16 below(const float* edges, __m512i paths) const {
        const __m512 first = _mm512_permutex2var_ps(_mm512_load_ps(edges), paths, _mm512_load_ps(edges + 16));
        const __m512 second = _mm512_permutex2var_ps(_mm512_load_ps(edges + 32), paths, _mm512_load_ps(edges + 48));
        const __mmask16 in_second = _mm512_test_epi32_mask(paths, _mm512_set1_epi32(32));
        return _mm512_cmp_ps_mask(values, _mm512_mask_mov_ps(first, in_second, second), _CMP_LT_OQ);
    }
};

template <>
struct Sixteen<double> {
    __m512d first;
    __m512d second;

    explicit Sixteen(const double* from) : first(_mm512_loadu_pd(from)), second(_mm512_loadu_pd(from + 8)) {}

    static __m256i codes_of(__m512d values, double scale, double shift) {
        return _mm512_cvt_roundpd_epi32(_mm512_fmadd_pd(values, _mm512_set1_pd(scale), _mm512_set1_pd(shift)), kRound);
    }

    __m512i codes(double scale, double shift) const {
        const __m256i low = codes_of(first, scale, shift);
        return _mm512_inserti64x4(_mm512_castsi256_si512(low), codes_of(second, scale, shift), 1);
    }

    static __mmask16 join(__mmask8 low, __mmask8 high) {
        return static_cast<__mmask16>(static_cast<unsigned>(low) | (static_cast<unsigned>(high) << 8U));
    }

    template <int How>
    __mmask16 compare(double bound) const {
        return join(_mm512_cmp_pd_mask(first, _mm512_set1_pd(bound), How),
                    _mm512_cmp_pd_mask(second, _mm512_set1_pd(bound), How));
    }

    __mmask16 below(const double* edges, __m512i paths) const {
        const __m512d low = _mm512_i32gather_pd(_mm512_castsi512_si256(paths), edges, 8);
        const __m512d high = _mm512_i32gather_pd(_mm512_extracti64x4_epi64(paths, 1), edges, 8);
        return join(_mm512_cmp_pd_mask(first, low, _CMP_LT_OQ), _mm512_cmp_pd_mask(second, high, _CMP_LT_OQ));
    }
};

struct Tables {
    __m512i met[kTreeLevels];
    __m512i begin[2];
    __m512i end;

    template <typename T>
    explicit Tables(const BinTree<T>& tree) {
        for (std::size_t level = 0; level < kTreeLevels; ++level) {
            met[level] = _mm512_load_si512(tree.met[level]);
        }
        begin[0] = _mm512_load_si512(tree.begin);
        begin[1] = _mm512_load_si512(tree.begin + kLanes);
        end = _mm512_set1_epi16(static_cast<short>(tree.end));
    }
};

long long count(__mmask16 mask) { return __builtin_popcount(mask); }

template <typename T>
void leave_out(const Sixteen<T>& values, __mmask16 inside, LeftOut& left_out) {
    constexpr T inf = std::numeric_limits<T>::infinity();
    const long long nan = count(values.template compare<_CMP_UNORD_Q>(T{0}));
    const long long infinite =
        count(values.template compare<_CMP_EQ_OQ>(inf)) + count(values.template compare<_CMP_EQ_OQ>(-inf));
    left_out.nan += nan;
    left_out.infinite += infinite;
    left_out.outside += 16 - count(inside) - nan - infinite;
}

// The bins of values of which some have the code of an edge or are outside: 16 bits for each of 32 paths.
template <typename T>
__attribute__((noinline)) __m512i settle(const T* values, __m512i paths, const BinTree<T>& tree, LeftOut& left_out) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i before = _mm512_permutex2var_epi16(_mm512_load_si512(tree.before), paths,
                                                     _mm512_load_si512(tree.before + kLanes));
    __m512i settled[2] = {_mm512_unpacklo_epi16(paths, zero), _mm512_unpackhi_epi16(paths, zero)};
    const __m512i one_before[2] = {_mm512_unpacklo_epi16(before, zero), _mm512_unpackhi_epi16(before, zero)};
    for (std::size_t half = 0; half < 2; ++half) {
        const Sixteen<T> sixteen(values + 16 * half);
        const auto inside = static_cast<__mmask16>(sixteen.template compare<_CMP_GE_OQ>(tree.low) &
                                                   sixteen.template compare<_CMP_LE_OQ>(tree.high));
        const __mmask16 below = sixteen.below(tree.edge, settled[half]);
        settled[half] = _mm512_maskz_mov_epi32(inside, _mm512_mask_mov_epi32(settled[half], below, one_before[half]));
        if (inside != 0xFFFF) {
            leave_out(sixteen, inside, left_out);
        }
    }
    return _mm512_packus_epi32(settled[0], settled[1]);
}

template <typename T>
inline __attribute__((always_inline)) void store_pairs(const T* values, const BinTree<T>& tree, const __mmask32* unsure,
                                                       __m512i* paths, LeftOut& left_out, std::uint16_t* pairs) {
#pragma GCC unroll 8
    for (std::size_t at = 0; at < kVectors; ++at) {
        if (__builtin_expect(unsure[at] != 0, 0)) {
            paths[at] = settle(values + kLanes * at, paths[at], tree, left_out);
        }
    }
#pragma GCC unroll 4
    for (std::size_t at = 0; at < kVectors; at += 2) {
        const __m512i other = _mm512_slli_epi16(paths[at + 1], kTreeLevels);
        _mm512_store_si512(pairs + kLanes * at / 2, _mm512_or_si512(paths[at], other));
    }
}

// One of the kTurns parts of what is done beside the search: counting pairs, and asking memory for later values, into
// the second cache, which waits for more lines at a time than the first. A prefetch never faults.
template <bool Counting, typename T>
inline __attribute__((always_inline)) void take_turn(std::size_t turn, const T* values, const std::uint16_t* pairs,
                                                     PairCounts& counts) {
    constexpr std::size_t bytes = kTreeStep * sizeof(T) / kTurns;
    const auto ahead = reinterpret_cast<std::uintptr_t>(values) + kAhead + bytes * turn;
    for (std::size_t line = 0; line < bytes; line += kCacheLine) {
        __builtin_prefetch(reinterpret_cast<const void*>(ahead + line), 0, 2);
    }
    if constexpr (Counting) {
#pragma GCC unroll 16
        for (std::size_t at = kSome * turn; at < kSome * (turn + 1); at += 2) {
            ++counts.first[pairs[at]];
            ++counts.second[pairs[at + 1]];
        }
    }
}

// Writes the pairs of the paths of kTreeStep values, and counts those of the step before: in turn, for counting waits
// for memory, and searching for arithmetic.
template <bool Counting, typename T>
inline __attribute__((always_inline)) void take_step(const T* values, const BinTree<T>& tree, const Tables& tables,
                                                     LeftOut& left_out, std::uint16_t* pairs,
                                                     const std::uint16_t* last_pairs, PairCounts& counts) {
    __m512i codes[kVectors];
    __m512i paths[kVectors];
    __mmask32 unsure[kVectors];
#pragma GCC unroll 8
    for (std::size_t at = 0; at < kVectors; ++at) {
        const T* from = values + kLanes * at;
        // Packing and unpacking leave the values in one order.
        codes[at] = _mm512_packus_epi32(Sixteen<T>(from).codes(tree.scale, tree.shift),
                                        Sixteen<T>(from + 16).codes(tree.scale, tree.shift));
        paths[at] = _mm512_setzero_si512();
    }
    take_turn<Counting>(0, values, last_pairs, counts);
#pragma GCC unroll 6
    for (std::size_t level = 0; level < kTreeLevels; ++level) {
        const __m512i bit = _mm512_set1_epi16(static_cast<short>(1U << level));
#pragma GCC unroll 8
        for (std::size_t at = 0; at < kVectors; ++at) {
            const __m512i met = level == 0 ? tables.met[0] : _mm512_permutexvar_epi16(paths[at], tables.met[level]);
            paths[at] = _mm512_mask_add_epi16(paths[at], _mm512_cmpge_epu16_mask(codes[at], met), paths[at], bit);
        }
        take_turn<Counting>(level + 1, values, last_pairs, counts);
    }
    __m512i largest = codes[0];
#pragma GCC unroll 8
    for (std::size_t at = 0; at < kVectors; ++at) {
        const __m512i begin = _mm512_permutex2var_epi16(tables.begin[0], paths[at], tables.begin[1]);
        unsure[at] = _mm512_cmpeq_epi16_mask(codes[at], begin);
        largest = _mm512_max_epu16(largest, codes[at]);
    }
    if (__builtin_expect(_mm512_cmpge_epu16_mask(largest, tables.end) != 0, 0)) {
#pragma GCC unroll 8
        for (std::size_t at = 0; at < kVectors; ++at) {
            unsure[at] |= _mm512_cmpge_epu16_mask(codes[at], tables.end);
        }
    }
    take_turn<Counting>(kTreeLevels + 1, values, last_pairs, counts);
    store_pairs(values, tree, unsure, paths, left_out, pairs);
}

template <typename T>
void count_steps(const T* values, std::size_t n_steps, const BinTree<T>& tree, PairCounts& counts, LeftOut& left_out) {
    const Tables tables(tree);
    alignas(kCacheLine) std::uint16_t pairs[2][kTreeStep / 2];
    LeftOut own;
    for (std::size_t step = 0; step < n_steps; ++step, values += kTreeStep) {
        if (step == 0) {
            take_step<false>(values, tree, tables, own, pairs[0], pairs[1], counts);
        } else {
            take_step<true>(values, tree, tables, own, pairs[step % 2], pairs[(step + 1) % 2], counts);
        }
    }
    if (n_steps > 0) {
        for (std::size_t turn = 0; turn < kTurns; ++turn) {
            take_turn<true>(turn, values, pairs[(n_steps + 1) % 2], counts);
        }
    }
    left_out += own;
}

}  // namespace

void count_pairs_avx512(const float* values, std::size_t n_steps, const BinTree<float>& tree, PairCounts& counts,
                        LeftOut& left_out) {
    count_steps(values, n_steps, tree, counts, left_out);
}

void count_pairs_avx512(const double* values, std::size_t n_steps, const BinTree<double>& tree, PairCounts& counts,
                        LeftOut& left_out) {
    count_steps(values, n_steps, tree, counts, left_out);
}

}  // namespace euds

#endif
