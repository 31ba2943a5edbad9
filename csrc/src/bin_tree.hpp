// A search tree over at most 64 bins that fits into vector registers, exact with one comparison for few values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "euds/histogram.hpp"

namespace euds {

inline constexpr std::size_t kTreeLevels = 6;
inline constexpr std::size_t kTreeBins = std::size_t{1} << kTreeLevels;

// T is float or double. The code of a value is value * scale + shift, rounded once and then to an integer in 0..65535: it
// never falls where values ascend, and no two edges share one. Only a value with the very code of an edge must be
// compared with it.
// Bit l of a path says whether the code is at or above that of the edge met on level l; path 0 is the first bin.
template <typename T>
struct BinTree {
    alignas(64) std::uint16_t met[kTreeLevels][kTreeBins / 2];  // per level and path so far, the code of the edge met
    alignas(64) std::uint16_t begin[kTreeBins];                 // per path, the code of the first edge of its bin
    alignas(64) std::uint16_t before[kTreeBins];                // per path, the path of the bin before
    alignas(64) T edge[kTreeBins];                              // per path, the first value of its bin
    T low;
    T high;
    T scale;
    T shift;
    std::uint16_t end;            // the code of high; values above have this or a larger one, or 0
    std::uint8_t bin[kTreeBins];  // per path
};

// Nothing if there are more bins, or two edges with one code. Edges strictly ascend; at least two.
template <typename T>
std::optional<BinTree<T>> bin_tree(std::span<const double> edges);

// How often two bins were met in pairs, by the path of the one + 64 * the path of the other. Neighbours go to different
// tables, so that equal ones do not wait for each other.
struct PairCounts {
    alignas(64) std::uint16_t first[kTreeBins * kTreeBins];
    alignas(64) std::uint16_t second[kTreeBins * kTreeBins];
};

inline constexpr std::size_t kTreeStep = 256;
// As many steps fit into 16 bits, whatever the values are.
inline constexpr std::size_t kMostTreeSteps = 65535 / (kTreeStep / 4);

// Counts n_steps * kTreeStep values, 0 to kMostTreeSteps steps. Those left out are counted in the first bin, too.
template <typename T>
using CountPairs = void (*)(const T* values, std::size_t n_steps, const BinTree<T>& tree, PairCounts& counts,
                            LeftOut& left_out);

// The way of this machine, or null.
template <typename T>
CountPairs<T> count_pairs();

#if defined(__x86_64__)
void count_pairs_avx512(const float* values, std::size_t n_steps, const BinTree<float>& tree, PairCounts& counts,
                        LeftOut& left_out);
void count_pairs_avx512(const double* values, std::size_t n_steps, const BinTree<double>& tree, PairCounts& counts,
                        LeftOut& left_out);
#endif

}  // namespace euds
