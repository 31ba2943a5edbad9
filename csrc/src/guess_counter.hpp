// Counts of one axis by guessing the bins of a block of values at once.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "bin_guess.hpp"
#include "bin_of.hpp"
#include "euds/histogram.hpp"

namespace euds {

// Counts of one thread. Neighbours go to different tables, so that equal ones do not wait for each other.
template <typename T>
class GuessCounter {
public:
    GuessCounter(std::span<const double> edges, const BinGuess<T>& guess)
        : edges_(edges),
          guess_(guess),
          n_bins_(edges.size() - 1),
          n_tables_(n_bins_ <= kSmallTable ? kTables : 1),
          tables_(n_tables_ * (n_bins_ + 1)),
          totals_(n_bins_) {}

    void add(std::span<const T> part) {
        pending_ += part.size();
        if (pending_ > std::numeric_limits<std::uint32_t>::max()) {
            flush();
            pending_ = part.size();
        }
        // The first block is shorter, so that the others begin with a cache line.
        std::size_t size = kBlock - reinterpret_cast<std::uintptr_t>(part.data()) % kCacheLine / sizeof(T);
        while (!part.empty()) {
            size = std::min(size, part.size());
            add_block(part.first(size));
            part = part.subspan(size);
            size = kBlock;
        }
    }

    void add_to(std::span<std::int64_t> counts, LeftOut& left_out) {
        flush();
        for (std::size_t bin = 0; bin < n_bins_; ++bin) {
            counts[bin] += totals_[bin];
        }
        left_out += left_out_;
    }

private:
    static constexpr std::size_t kBlock = 512;
    static constexpr std::size_t kSmallTable = 4096;
    static constexpr std::size_t kTables = 4;
    static constexpr std::size_t kStep = 16;
    static constexpr std::size_t kCacheLine = 64;
    static constexpr std::uintptr_t kAhead = 4096;  // bytes from what is counted to what is asked from memory

    void add_block(std::span<const T> block) {
        const bool any_unsure = guess_.guess(block.data(), block.size(), bins_.data());
        count_block(block);
        if (any_unsure) {
            const auto unsure = static_cast<std::int32_t>(n_bins_);
            for (std::size_t at = 0; at < block.size(); ++at) {
                if (bins_[at] == unsure) {
                    look_up(edges_, static_cast<double>(block[at]), totals_, left_out_);
                }
            }
        }
    }

    void count_block(std::span<const T> block) {
        std::uint32_t* table = tables_.data();
        std::size_t at = 0;
        if (n_tables_ == kTables) {
            for (; at + kStep <= block.size(); at += kStep) {
                // Counting is too slow to keep memory busy by itself; a prefetch never faults.
                const auto ahead = reinterpret_cast<std::uintptr_t>(&block[at]) + kAhead;
                for (std::size_t line = 0; line < kStep * sizeof(T); line += kCacheLine) {
                    __builtin_prefetch(reinterpret_cast<const void*>(ahead + line), 0, 0);
                }
                for (std::size_t four = at; four < at + kStep; four += kTables) {
                    count_four(table, four);
                }
            }
        }
        for (; at < block.size(); ++at) {
            ++table[static_cast<std::size_t>(bins_[at])];
        }
    }

    void count_four(std::uint32_t* table, std::size_t at) const {
        const std::size_t stride = n_bins_ + 1;
        std::uint32_t* second_table = table + stride;
        std::uint32_t* third_table = second_table + stride;
        std::uint32_t* fourth_table = third_table + stride;
        // Two bins a load: loads and stores are what this loop waits for.
        const std::uint64_t first = pair_at(at);
        const std::uint64_t second = pair_at(at + 2);
        ++table[first & 0xffffffffU];
        ++second_table[first >> 32];
        ++third_table[second & 0xffffffffU];
        ++fourth_table[second >> 32];
    }

    void flush() {
        for (std::size_t at = 0; at < tables_.size(); ++at) {
            // The last entry of each table counts what was looked up.
            if (at % (n_bins_ + 1) < n_bins_) {
                totals_[at % (n_bins_ + 1)] += tables_[at];
            }
        }
        std::fill(tables_.begin(), tables_.end(), 0U);
    }

    std::uint64_t pair_at(std::size_t at) const {
        std::uint64_t pair = 0;
        std::memcpy(&pair, &bins_[at], sizeof pair);
        return pair;
    }

    std::span<const double> edges_;
    const BinGuess<T>& guess_;
    std::size_t n_bins_;
    std::size_t n_tables_;
    std::vector<std::uint32_t> tables_;
    std::vector<std::int64_t> totals_;
    std::size_t pending_ = 0;  // values in the tables, at most
    alignas(kCacheLine) std::array<std::int32_t, kBlock> bins_{};
    LeftOut left_out_;
};

}  // namespace euds
