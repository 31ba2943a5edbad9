#include "euds/token_sums.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <thread>

#include "token_sums_kernels.hpp"

namespace euds {
namespace {

constexpr std::size_t kPartColumns = 8 * kBlockColumns;  // summed on its own, so that threads can share a long row
constexpr std::size_t kShareColumns = 1 << 16;           // logits that a thread takes at a time
constexpr std::size_t kThreadColumns = 1 << 18;          // fewer logits than this are not worth a thread

const BlockKernels& kernels_of(Isa isa) {
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

// Everything that is the same for all rows of one call.
struct Pass {
    const LogitRows& rows;
    BlockKernel kernel;
    std::size_t element_bytes;
    double scale;
    float to_log2;

    Pass(const LogitRows& logits, const SumOptions& options)
        : rows(logits),
          kernel(kernels_of(options.isa).of[static_cast<std::size_t>(logits.type)][options.with_q ? 1 : 0]),
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
        const auto* logits = static_cast<const std::byte*>(rows.data) + first * static_cast<std::ptrdiff_t>(element_bytes);
        const std::size_t end = std::min(rows.n_columns, (part + 1) * kPartColumns);

        float top = -std::numeric_limits<float>::infinity();
        RowSums sums;
        for (std::size_t at = part * kPartColumns; at < end; at += kBlockColumns) {
            const BlockSums block = kernel(logits + at * element_bytes, std::min(kBlockColumns, end - at), top, to_log2);
            if (block.reference > top && top > -std::numeric_limits<float>::infinity()) {
                const double d = (static_cast<double>(top) - static_cast<double>(block.reference)) * double{to_log2};
                const double shrink = std::exp2(d);
                // A shrink of 0 stands for a d that may be infinite.
                sums = shrink == 0.0 ? RowSums{0.0, sums.s * 0.0, sums.a * 0.0, sums.q * 0.0}
                                     : RowSums{0.0, sums.s * shrink, (sums.a + d * sums.s) * shrink,
                                               (sums.q + 2.0 * d * sums.a + d * d * sums.s) * shrink};
            }
            top = block.reference;
            sums.s += block.s;
            sums.a += block.a;
            sums.q += block.q;
        }
        // From units of log2 to nats.
        return {double{top}, sums.s, sums.a * std::numbers::ln2, sums.q * std::numbers::ln2 * std::numbers::ln2};
    }
};

// Calls work(unit) for every unit below n_units, from as many threads as asked for; this one takes part.
template <typename Work>
void share(std::size_t n_units, std::size_t n_threads, const Work& work) {
    std::atomic<std::size_t> next{0};
    const auto take = [&] {
        for (std::size_t unit = next++; unit < n_units; unit = next++) {
            work(unit);
        }
    };
    std::vector<std::jthread> helpers;
    for (std::size_t at = 1; at < std::min(n_threads, n_units); ++at) {
        helpers.emplace_back(take);
    }
    take();
}

}  // namespace

std::vector<Isa> usable_isas() {
    std::vector<Isa> usable;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl")) {
        usable.push_back(Isa::avx512);
    }
    if (avx2) {
        usable.push_back(Isa::avx2);
    }
#endif
    usable.push_back(Isa::plain);
    return usable;
}

void merge(RowSums& total, const RowSums& part, double scale) {
    const double nothing = -std::numeric_limits<double>::infinity();
    if (part.max == nothing && part.s == 0.0) {
        return;
    }
    if (total.max == nothing && total.s == 0.0) {
        total = part;
        return;
    }
    const RowSums& high = total.max >= part.max ? total : part;
    const RowSums& low = total.max >= part.max ? part : total;
    const double d = (low.max - high.max) * scale;
    const double shrink = std::exp(d);
    // At a shrink of 0 only a NaN still counts: d may be infinite.
    const double s = low.s * shrink;
    const double a = shrink == 0.0 ? low.a * shrink : (low.a + d * low.s) * shrink;
    const double q = shrink == 0.0 ? low.q * shrink : (low.q + 2.0 * d * low.a + d * d * low.s) * shrink;
    total = {high.max, high.s + s, high.a + a, high.q + q};
}

void add_logits(const LogitRows& rows, std::span<RowSums> sums, const SumOptions& options) {
    const Pass pass(rows, options);
    const std::size_t n_rows = sums.size();
    const std::size_t n_parts = pass.n_parts();
    const std::size_t n_threads = std::clamp<std::size_t>(n_rows * rows.n_columns / kThreadColumns, 1, std::max<std::size_t>(1, options.n_threads));

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
    const std::size_t unit_rows = std::max<std::size_t>(1, kShareColumns / std::max<std::size_t>(1, rows.n_columns));
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
