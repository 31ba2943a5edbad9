// add_logits against sums in long double, on heap buffers without a byte to spare, for every instruction set.
#include "euds/token_sums.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

int failures = 0;

float from_bfloat16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

float from_float16(std::uint16_t bits) {
    const int exponent = (bits >> 10) & 31;
    const float fraction = static_cast<float>(bits & 1023);
    const float magnitude = exponent == 31  ? (fraction == 0.0F ? kInfinity : std::nanf(""))
                            : exponent == 0 ? std::ldexp(fraction, -24)
                                            : std::ldexp(1024.0F + fraction, exponent - 25);
    return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

struct Oracle {
    long double max = -static_cast<long double>(kInfinity);
    long double s = 0.0L;
    long double a = 0.0L;
    long double q = 0.0L;

    void add(float logit, double scale) {
        const auto z = static_cast<long double>(logit);
        if (!std::isfinite(logit)) {
            s += logit == -kInfinity ? 0.0L : static_cast<long double>(std::nanf(""));
            return;
        }
        const long double d = std::isfinite(max) ? (z - max) * static_cast<long double>(scale) : 0.0L;
        if (d > 0.0L || !std::isfinite(max)) {
            const long double shrink = std::exp(-d);
            q = shrink * (q - 2.0L * d * a + d * d * s);
            a = shrink * (a - d * s);
            s = shrink * s + 1.0L;
            max = z;
        } else {
            s += std::exp(d);
            a += d * std::exp(d);
            q += d * d * std::exp(d);
        }
    }
};

void check_close(const char* what, std::size_t n, double found, long double oracle) {
    const auto expected = static_cast<double>(oracle);
    const bool same = std::isnan(expected) ? std::isnan(found)
                                           : found == expected || std::fabs(found - expected) <=
                                                                      1e-5 * std::max(1.0, std::fabs(expected));
    if (!same) {
        std::printf("%s of %zu columns: found %.9g, expected %.9g\n", what, n, found, expected);
        ++failures;
    }
}

template <typename Element, typename Convert>
void check_rows(euds::LogitType type, std::size_t n_columns, euds::Isa isa, const Convert& as_float,
                const std::vector<Element>& values) {
    constexpr std::size_t n_rows = 3;
    const std::size_t stride = n_columns + 1;
    // Without the gap behind the last row: its end is the end of the buffer.
    const std::size_t size = (n_rows - 1) * stride + n_columns;
    const std::unique_ptr<Element[]> logits(new Element[size]);
    for (std::size_t at = 0; at < size; ++at) {
        logits[at] = values[at % values.size()];
    }
    const euds::LogitRows rows{logits.get(), type, {n_rows, 1}, {static_cast<std::ptrdiff_t>(stride), 0}, n_columns};
    constexpr double scale = 0.7;
    std::array<Oracle, n_rows> oracles;
    for (std::size_t at = 0; at < size; ++at) {
        if (at % stride < n_columns) {
            oracles[at / stride].add(as_float(logits[at]), scale);
        }
    }
    for (const bool with_q : {false, true}) {
        std::vector<euds::RowSums> sums(n_rows);
        const euds::SumOptions options{scale, with_q, 2, isa};
        euds::add_logits(rows, sums, options);
        for (std::size_t row = 0; row < n_rows; ++row) {
            const Oracle& oracle = oracles[row];
            check_close("s", n_columns, sums[row].s, oracle.s);
            if (!std::isnan(oracle.s)) {
                check_close("max", n_columns, sums[row].max, oracle.max);
                check_close("a", n_columns, sums[row].a, oracle.a);
                if (with_q) {
                    check_close("q", n_columns, sums[row].q, oracle.q);
                }
            }
        }
    }
}

void check(std::size_t n_columns, euds::Isa isa) {
    std::mt19937 random(static_cast<std::uint32_t>(n_columns));
    std::normal_distribution<float> normal(0.0F, 5.0F);
    std::vector<float> values(997);
    std::vector<std::uint16_t> bfloats;
    std::vector<std::uint16_t> halves;
    for (float& value : values) {
        value = random() % 8 == 0 ? -kInfinity : normal(random);
        bfloats.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
        // Numbers within +-32, subnormal ones, and -inf.
        halves.push_back(static_cast<std::uint16_t>(random() % 8 == 0 ? 0xFC00 : random() & 0xCFFF));
    }
    const auto same = [](float value) { return value; };
    check_rows(euds::LogitType::float32, n_columns, isa, same, values);
    check_rows(euds::LogitType::bfloat16, n_columns, isa, from_bfloat16, bfloats);
    check_rows(euds::LogitType::float16, n_columns, isa, from_float16, halves);

    values[5] = kInfinity;
    check_rows(euds::LogitType::float32, n_columns, isa, same, values);
    values[5] = std::nanf("");
    check_rows(euds::LogitType::float32, n_columns, isa, same, values);
    halves[5] = 0x7C00;
    check_rows(euds::LogitType::float16, n_columns, isa, from_float16, halves);
    check_rows(euds::LogitType::float32, n_columns, isa, same, std::vector<float>{-kInfinity});
    check_rows(euds::LogitType::float32, n_columns, isa, same, std::vector<float>{std::nanf("")});
    check_rows(euds::LogitType::float32, n_columns, isa, same, std::vector<float>{-3e38F, 3e38F});
}

}  // namespace

int main() {
    for (const euds::Isa isa : euds::usable_isas()) {
        for (std::size_t n_columns = 0; n_columns < 70; ++n_columns) {
            check(n_columns, isa);
        }
        // The last is enough for two threads.
        for (const std::size_t n_columns : {127U, 1000U, 4095U, 4096U, 4097U, 32767U, 32769U, 200003U}) {
            check(n_columns, isa);
        }
    }
    std::printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
