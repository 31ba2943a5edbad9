// Every way to find cells against the plain one, on values at and next to the borders of cells and on nasty ones.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "../src/cells.hpp"

namespace {

void check(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "failed: %s\n", what);
        std::exit(1);
    }
}

std::vector<float> adversarial(const euds::Cells& cells, std::mt19937_64& random) {
    constexpr float inf = std::numeric_limits<float>::infinity();
    constexpr float largest = std::numeric_limits<float>::max();
    std::vector<float> values{0.0F, -0.0F, 1e-45F, -1e-45F, 1e-39F, largest, -largest, inf, -inf, std::nanf("")};
    for (double cell = -2.0; cell <= cells.n + 2.0; cell += 1.0) {
        const auto border = static_cast<float>(cells.low + cell / cells.scale);
        values.insert(values.end(), {border, std::nextafter(border, inf), std::nextafter(border, -inf)});
    }
    std::uniform_real_distribution<double> place(-1.0, cells.n + 1.0);
    for (int at = 0; at < 1000; ++at) {
        values.push_back(static_cast<float>(cells.low + place(random) / cells.scale));
    }
    return values;
}

void compare(const euds::Cells& cells, double margin, std::vector<float> values, std::mt19937_64& random) {
    // Any length, so that the rest after whole vectors is met; a start that is not aligned.
    values.resize(values.size() - std::uniform_int_distribution<std::size_t>(0, 33)(random));
    for (const std::size_t begin : {0U, 1U, 7U}) {
        const std::size_t n = values.size() - begin;
        std::vector<std::int32_t> expected(n);
        const bool any = euds::find_cells_plain(&values[begin], n, cells, margin, expected.data());
        for (std::size_t at = 0; at < n; ++at) {
            const float value = values[begin + at];
            const float place = (value - static_cast<float>(cells.low)) * static_cast<float>(cells.scale);
            const float rest = place - std::floor(place);
            const bool known = place >= 0.0F && place < static_cast<float>(cells.n) &&
                               rest >= static_cast<float>(margin) && rest <= 1.0F - static_cast<float>(margin);
            const double cell = known ? std::floor(static_cast<double>(place)) : cells.n;
            check(expected[at] == static_cast<std::int32_t>(cell), "plain cells");
        }
        for (const auto way : euds::single_precision_ways()) {
            std::vector<std::int32_t> found(n, -7);
            check(way(&values[begin], n, cells, margin, found.data()) == any, "whether a cell is unknown");
            check(found == expected, "cells");
        }
    }
}

}  // namespace

int main() {
    std::mt19937_64 random(1);
    for (const euds::Cells& cells : {euds::Cells{0.0, 64.0, 64.0}, euds::Cells{-3.7, 85.0, 512.0},
                                     euds::Cells{1e6, 3.0, 2.0}, euds::Cells{-1e-40, 1e38, 256.0},
                                     euds::Cells{0.0, 1e-37, 33.0}, euds::Cells{0.1, 1e5, 65536.0}}) {
        for (const double margin : {0.0, 2e-6, 1e-3}) {
            const std::vector<float> values = adversarial(cells, random);
            for (int round = 0; round < 4; ++round) {
                compare(cells, margin, values, random);
            }
        }
    }
    return 0;
}
