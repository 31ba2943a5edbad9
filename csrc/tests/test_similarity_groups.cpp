// find_groups against the definition in long double, on heap buffers without a byte to spare, for every instruction set.
#include "euds/similarity_groups.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

namespace {

int failures = 0;

struct Case {
    std::size_t width;
    std::vector<std::int64_t> offsets;
    std::unique_ptr<float[]> values;
    std::unique_ptr<bool[]> empty;

    std::size_t n_rows() const { return static_cast<std::size_t>(offsets.back()); }
};

long double cosine(const Case& rows, std::size_t i, std::size_t j) {
    const auto dot = [&](std::size_t left, std::size_t right) {
        long double sum = 0.0L;
        for (std::size_t k = 0; k < rows.width; ++k) {
            sum += static_cast<long double>(rows.values[left * rows.width + k]) *
                   static_cast<long double>(rows.values[right * rows.width + k]);
        }
        return sum;
    };
    return dot(i, j) / std::sqrt(dot(i, i)) / std::sqrt(dot(j, j));
}

bool alike(const Case& rows, std::size_t i, std::size_t j, double least) {
    return rows.empty[i] || rows.empty[j] ? rows.empty[i] && rows.empty[j]
                                          : cosine(rows, i, j) >= static_cast<long double>(least);
}

std::vector<std::int64_t> expected_groups(const Case& rows, double least, euds::Linkage linkage) {
    std::vector<std::int64_t> groups(rows.n_rows());
    for (std::size_t sample = 0; sample + 1 < rows.offsets.size(); ++sample) {
        const auto start = static_cast<std::size_t>(rows.offsets[sample]);
        const auto stop = static_cast<std::size_t>(rows.offsets[sample + 1]);
        std::vector<std::size_t> first(stop - start);  // of each row's group
        std::iota(first.begin(), first.end(), start);
        for (std::size_t i = start; i < stop; ++i) {
            for (std::size_t j = start; j < i; ++j) {
                const std::size_t mine = first[i - start];
                const std::size_t other = first[j - start];
                const bool by_chain = linkage == euds::Linkage::connected_components;
                if (mine != other && (by_chain || (mine == i && other == j)) && alike(rows, i, j, least)) {
                    std::replace(first.begin(), first.end(), std::max(mine, other), std::min(mine, other));
                }
            }
        }
        std::int64_t n_groups = 0;
        for (std::size_t i = start; i < stop; ++i) {
            groups[i] = first[i - start] == i ? n_groups++ : groups[first[i - start]];
        }
    }
    return groups;
}

void check(const Case& rows, double least) {
    for (const auto linkage : {euds::Linkage::first_representative, euds::Linkage::connected_components}) {
        const auto expected = expected_groups(rows, least, linkage);
        for (const euds::Isa isa : euds::usable_isas()) {
            for (const std::size_t n_threads : {1, 3}) {
                std::vector<std::int64_t> found(rows.n_rows(), -1);
                euds::find_groups({{rows.values.get(), rows.n_rows() * rows.width},
                                   rows.width,
                                   rows.offsets,
                                   {rows.empty.get(), rows.n_rows()}},
                                  {least, linkage, n_threads, isa}, found);
                if (found != expected) {
                    std::printf("width %zu, least %g, linkage %d, instruction set %zu, %zu threads: other groups\n",
                                rows.width, least, static_cast<int>(linkage), static_cast<std::size_t>(isa),
                                n_threads);
                    ++failures;
                }
            }
        }
    }
}

// Rows around few directions, some without any, some empty, of all sizes of samples.
Case planted(std::size_t width, std::size_t n_samples, std::mt19937& random) {
    Case rows{width, {0}, {}, {}};
    for (std::size_t sample = 0; sample < n_samples; ++sample) {
        rows.offsets.push_back(rows.offsets.back() + static_cast<std::int64_t>(random() % 14));
    }
    rows.values = std::make_unique<float[]>(rows.n_rows() * width);
    rows.empty = std::make_unique<bool[]>(rows.n_rows());
    std::normal_distribution<float> normal;
    std::vector<float> directions(6 * width);
    std::generate(directions.begin(), directions.end(), [&] { return normal(random); });
    for (std::size_t row = 0; row < rows.n_rows(); ++row) {
        const float* const direction = directions.data() + random() % 6 * width;
        const float length = std::exp(4.0F * normal(random));
        for (std::size_t k = 0; k < width; ++k) {
            rows.values[row * width + k] = length * (direction[k] + 0.4F * normal(random));
        }
        const auto kind = random() % 20;
        if (kind < 2) {
            std::fill_n(rows.values.get() + row * width, width, 0.0F);
        } else if (kind == 2 && width > 0) {
            rows.values[row * width + random() % width] = std::numeric_limits<float>::quiet_NaN();
        } else if (kind == 3 && width > 0) {
            rows.values[row * width] = std::numeric_limits<float>::infinity();
        }
        rows.empty[row] = random() % 8 == 0;
    }
    return rows;
}

}  // namespace

int main() {
    std::mt19937 random(0);
    for (const std::size_t width : {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 384}) {
        check(planted(width, 60, random), 0.7);
        check(planted(width, 20, random), -0.2);
    }
    // Several tasks, and none.
    check(planted(5, 2000, random), 0.9);
    check(planted(5, 0, random), 0.9);
    std::printf(failures == 0 ? "all groups as defined\n" : "%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
