#include "bin_tree.hpp"

#include <cmath>
#include <limits>

#include "cpu.hpp"
#include "round_up.hpp"

namespace euds {
namespace {

constexpr std::uint16_t kNever = 65535;  // above the codes of all values inside
constexpr double kEnd = 65534.0;

// The bits of a path in reverse: the first level halves the bins.
std::size_t bin_of_path(std::size_t path) {
    std::size_t bin = 0;
    for (std::size_t level = 0; level < kTreeLevels; ++level) {
        bin |= ((path >> level) & 1U) << (kTreeLevels - 1 - level);
    }
    return bin;
}

// Rounded as by the vector instructions; values that are no place inside have code 0.
template <typename T>
std::uint16_t code_of(T value, const BinTree<T>& tree) {
    const T place = std::nearbyint(std::fma(value, tree.scale, tree.shift));
    return place >= T{0} && place <= static_cast<T>(kNever) ? static_cast<std::uint16_t>(place) : std::uint16_t{0};
}

template <typename T>
void fill_tree(BinTree<T>& tree, std::span<const double> edges, std::span<const std::uint16_t> codes) {
    const std::size_t n_bins = edges.size() - 1;
    for (std::size_t level = 0; level < kTreeLevels; ++level) {
        for (std::size_t path = 0; path < kTreeBins / 2; ++path) {
            const std::size_t so_far = path & ((std::size_t{1} << level) - 1);
            const std::size_t edge = bin_of_path(so_far) + (kTreeBins >> (level + 1));
            tree.met[level][path] = edge < n_bins ? codes[edge] : kNever;
        }
    }
    for (std::size_t path = 0; path < kTreeBins; ++path) {
        const std::size_t bin = bin_of_path(path);
        tree.bin[path] = static_cast<std::uint8_t>(bin);
        tree.begin[path] = bin < n_bins ? codes[bin] : kNever;
        tree.edge[path] = bin < n_bins ? round_up<T>(edges[bin]) : std::numeric_limits<T>::infinity();
        tree.before[path] = static_cast<std::uint16_t>(bin == 0 ? 0 : bin_of_path(bin - 1));
    }
}

template <typename T>
CountPairs<T> usable_way() {
#if defined(__x86_64__)
    if (runs_avx512()) {
        return count_pairs_avx512;
    }
#endif
    return nullptr;
}

}  // namespace

template <typename T>
std::optional<BinTree<T>> bin_tree(std::span<const double> edges) {
    const std::size_t n_bins = edges.size() - 1;
    BinTree<T> tree;
    tree.low = round_up<T>(edges.front());
    tree.high = -round_up<T>(-edges.back());
    if (n_bins > kTreeBins || tree.low >= tree.high) {
        return std::nullopt;
    }
    tree.scale = static_cast<T>(kEnd / (static_cast<double>(tree.high) - static_cast<double>(tree.low)));
    tree.shift = -tree.low * tree.scale;
    // No value below low may have a larger code than 0.
    if (std::fma(tree.low, tree.scale, tree.shift) > T{0}) {
        tree.shift = std::nextafter(tree.shift, -std::numeric_limits<T>::infinity());
    }
    std::uint16_t codes[kTreeBins + 1] = {};
    for (std::size_t edge = 1; edge <= n_bins; ++edge) {
        codes[edge] = code_of(edge < n_bins ? round_up<T>(edges[edge]) : tree.high, tree);
        // Nothing is compared with the end of the last bin.
        if (edge < n_bins ? codes[edge] <= codes[edge - 1] : codes[edge] < codes[edge - 1]) {
            return std::nullopt;
        }
    }
    tree.end = codes[n_bins];
    if (tree.end == 0 || tree.end == kNever) {
        return std::nullopt;
    }
    fill_tree(tree, edges, codes);
    return tree;
}

template <typename T>
CountPairs<T> count_pairs() {
    static const CountPairs<T> way = usable_way<T>();
    return way;
}

template std::optional<BinTree<float>> bin_tree<float>(std::span<const double>);
template std::optional<BinTree<double>> bin_tree<double>(std::span<const double>);
template CountPairs<float> count_pairs<float>();
template CountPairs<double> count_pairs<double>();

}  // namespace euds
