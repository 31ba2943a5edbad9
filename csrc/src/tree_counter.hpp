// Counts of one axis by a search tree in vector registers.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bin_tree.hpp"
#include "euds/histogram.hpp"

namespace euds {

// Counts of one thread.
template <typename T>
class TreeCounter {
public:
    TreeCounter(const BinTree<T>& tree, CountPairs<T> count) : tree_(tree), count_(count), pairs_(), totals_(kTreeBins) {}

    void add(std::span<const T> part) {
        // The whole steps begin with a cache line.
        const std::size_t past = reinterpret_cast<std::uintptr_t>(part.data()) % kCacheLine;
        const std::size_t before = std::min(part.size(), (kCacheLine - past) % kCacheLine / sizeof(T));
        add_few(part.first(before));
        part = part.subspan(before);
        while (part.size() >= kTreeStep) {
            const std::size_t n_steps = std::min(part.size() / kTreeStep, kMostTreeSteps - n_steps_);
            add_steps(part.data(), n_steps);
            part = part.subspan(n_steps * kTreeStep);
        }
        add_few(part);
    }

    void add_to(std::span<std::int64_t> counts, LeftOut& left_out) {
        if (n_steps_ > 0) {
            flush();
        }
        for (std::size_t bin = 0; bin < counts.size(); ++bin) {
            counts[bin] += totals_[bin];
        }
        left_out += left_out_;
    }

private:
    static constexpr std::size_t kCacheLine = 64;

    // Less than a step, filled up with values of the first bin.
    void add_few(std::span<const T> values) {
        if (!values.empty()) {
            std::array<T, kTreeStep> step;
            std::fill(std::copy(values.begin(), values.end(), step.begin()), step.end(), tree_.low);
            add_steps(step.data(), 1);
            totals_[0] -= static_cast<std::int64_t>(kTreeStep - values.size());
        }
    }

    void add_steps(const T* values, std::size_t n_steps) {
        LeftOut left_out;
        count_(values, n_steps, tree_, pairs_, left_out);
        totals_[0] -= left_out.nan + left_out.infinite + left_out.outside;
        left_out_ += left_out;
        n_steps_ += n_steps;
        if (n_steps_ == kMostTreeSteps) {
            flush();
        }
    }

    void flush() {
        std::uint32_t of_path[kTreeBins] = {};
        for (std::size_t other = 0; other < kTreeBins; ++other) {
            std::uint32_t of_other = 0;
            for (std::size_t path = 0; path < kTreeBins; ++path) {
                const std::size_t pair = kTreeBins * other + path;
                const auto met = static_cast<std::uint32_t>(pairs_.first[pair] + pairs_.second[pair]);
                of_path[path] += met;
                of_other += met;
            }
            totals_[tree_.bin[other]] += of_other;
        }
        for (std::size_t path = 0; path < kTreeBins; ++path) {
            totals_[tree_.bin[path]] += of_path[path];
        }
        pairs_ = PairCounts{};
        n_steps_ = 0;
    }

    const BinTree<T>& tree_;
    CountPairs<T> count_;
    PairCounts pairs_;
    std::vector<std::int64_t> totals_;
    std::size_t n_steps_ = 0;  // in the pairs
    LeftOut left_out_;
};

}  // namespace euds
