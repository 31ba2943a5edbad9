#include "euds/token_sums.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <numbers>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#endif

#include "kernels.hpp"

namespace euds {
namespace {

constexpr std::size_t kPartColumns = 1 << 15;   // summed on their own, so that threads can share a long row
constexpr std::size_t kShareLogits = 1 << 16;   // logits that a thread takes at a time
constexpr std::size_t kThreadLogits = 1 << 18;  // fewer logits than this are not worth a thread

// Everything that is the same for all rows of one call.
struct Pass {
    const LogitRows& rows;
    BlockKernel kernel;
    std::size_t block_columns;
    std::size_t element_bytes;
    double scale;
    float to_log2;

    Pass(const LogitRows& logits, const SumOptions& options)
        : rows(logits),
          kernel(kernels_of(options.isa).sums.of[static_cast<std::size_t>(logits.type)][options.with_q ? 1 : 0]),
          block_columns(kernels_of(options.isa).sums.n_columns),
          element_bytes(logits.type == LogitType::float32 ? 4 : 2),
          scale(options.scale),
          // Within the normal numbers: 0 or infinity times a difference of infinity or 0 would be NaN.
          to_log2(static_cast<float>(std::clamp(options.scale * std::numbers::log2e,
                                                double{std::numeric_limits<float>::min()},
                                                double{std::numeric_limits<float>::max()}))) {}

    std::size_t n_parts() const { return (rows.n_columns + kPartColumns - 1) / kPartColumns; }

    RowSums part_sums(std::size_t row, std::size_t part) const {
        const auto outer = static_cast<std::ptrdiff_t>(row / rows.shape[1]);
        const auto inner = static_cast<std::ptrdiff_t>(row % rows.shape[1]);
        const std::ptrdiff_t first = outer * rows.strides[0] + inner * rows.strides[1];
        const auto* data = static_cast<const std::byte*>(rows.data);
        const auto* logits = data + first * static_cast<std::ptrdiff_t>(element_bytes);
        const std::size_t end = std::min(rows.n_columns, (part + 1) * kPartColumns);

        RowSums sums;
        for (std::size_t at = part * kPartColumns; at < end; at += block_columns) {
            const std::size_t n = std::min(block_columns, end - at);
            const BlockSums block = kernel(logits + at * element_bytes, n, static_cast<float>(sums.max), to_log2);
            // From units of log2 to nats.
            const RowSums in_nats{double{block.reference}, block.s, block.a * std::numbers::ln2,
                                  block.q * std::numbers::ln2 * std::numbers::ln2};
            merge(sums, in_nats, scale);
        }
        return sums;
    }
};

// The units of one call, handed out one by one.
struct Units {
    std::size_t n;
    std::atomic<std::size_t> next{0};
    std::atomic<std::size_t> n_done{0};

    explicit Units(std::size_t n_units) : n(n_units) {}

    template <typename Work>
    void take(const Work& work) {
        for (std::size_t unit = next++; unit < n; unit = next++) {
            work(unit);
            if (++n_done == n) {
                n_done.notify_one();
            }
        }
    }
};

// Calls work(unit) for every unit below n_units, from n_threads threads of our own, this one among them.
// It waits for the units, not for the threads: one that gets no processor, because those of the matrix product before
// still spin there, finds nothing left to do later. It then touches `units` alone, which it owns a share of.
template <typename Work>
void share_with_threads(std::size_t n_units, std::size_t n_threads, const Work& work) {
    const auto units = std::make_shared<Units>(n_units);
    try {
        for (std::size_t at = 1; at < n_threads; ++at) {
            std::thread([units, &work] { units->take(work); }).detach();
        }
    } catch (...) {
        // No thread, or no memory for one: those that there are do all the work, and use what would be unwound.
    }
    units->take(work);
    for (std::size_t done = units->n_done; done < n_units; done = units->n_done) {
        units->n_done.wait(done);
    }
}

// The fork and join of the OpenMP runtime that torch has brought along, if there is one: fork(function, argument,
// number of threads, flags). Its threads spin on for some milliseconds after each of torch's operations, and threads of
// our own would compete with them for the processors.
using Fork = void (*)(void (*)(void*), void*, unsigned, unsigned);

Fork openmp_fork() {
#if defined(__linux__)
    static const auto fork = reinterpret_cast<Fork>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return fork;
#else
    return nullptr;
#endif
}

// Calls work(unit) for every unit below n_units, from as many threads as asked for; this one takes part.
template <typename Work>
void share(std::size_t n_units, std::size_t n_threads, const Work& work) {
    const std::size_t n_workers = std::min(n_threads, n_units);
    const Fork fork = openmp_fork();
    if (n_workers > 1 && fork == nullptr) {
        share_with_threads(n_units, n_workers, work);
        return;
    }
    Units units(n_units);
    auto take = [&units, &work] { units.take(work); };
    if (n_workers <= 1) {
        take();
    } else {
        fork([](void* argument) { (*static_cast<decltype(take)*>(argument))(); }, &take,
             static_cast<unsigned>(n_workers), 0);
    }
}

}  // namespace

void merge(RowSums& total, const RowSums& part, double scale) {
    if (part.max == -std::numeric_limits<double>::infinity() && part.s == 0.0) {
        return;
    }
    const RowSums& high = total.max >= part.max ? total : part;
    const RowSums& low = total.max >= part.max ? part : total;
    // At -1000 nothing is left of the lower sums but a NaN, and 0 * d is 0.
    const double d = std::max((low.max - high.max) * scale, -1000.0);
    const double shrink = d == 0.0 ? 1.0 : std::exp(d);
    total = {high.max, high.s + low.s * shrink, high.a + (low.a + d * low.s) * shrink,
             high.q + (low.q + 2.0 * d * low.a + d * d * low.s) * shrink};
}

void add_logits(const LogitRows& rows, std::span<RowSums> sums, const SumOptions& options) {
    const Pass pass(rows, options);
    const std::size_t n_rows = sums.size();
    const std::size_t n_parts = pass.n_parts();
    const std::size_t worthwhile = n_rows * rows.n_columns / kThreadLogits;
    const std::size_t n_threads = std::clamp<std::size_t>(worthwhile, 1, std::max<std::size_t>(1, options.n_threads));

    if (n_parts > 1 && n_threads > 1 && n_rows < 8 * n_threads) {
        // Few long rows: the threads share their parts. The merges and their order are those of the other branch.
        std::vector<RowSums> parts(n_rows * n_parts);
        share(parts.size(), n_threads, [&](std::size_t unit) {
            parts[unit] = pass.part_sums(unit / n_parts, unit % n_parts);
        });
        for (std::size_t unit = 0; unit < parts.size(); ++unit) {
            merge(sums[unit / n_parts], parts[unit], pass.scale);
        }
        return;
    }
    const std::size_t unit_rows = std::max<std::size_t>(1, kShareLogits / std::max<std::size_t>(1, rows.n_columns));
    share((n_rows + unit_rows - 1) / unit_rows, n_threads, [&](std::size_t unit) {
        const std::size_t end = std::min(n_rows, (unit + 1) * unit_rows);
        for (std::size_t row = unit * unit_rows; row < end; ++row) {
            for (std::size_t part = 0; part < n_parts; ++part) {
                merge(sums[row], pass.part_sums(row, part), pass.scale);
            }
        }
    });
}

}  // namespace euds
