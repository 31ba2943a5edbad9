// Sums over ranges of cells of a grid, in constant time each.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace euds {

// Sums over all boxes that start at the origin; any box is then 8 look-ups.
template <typename T>
class GridSums {
   public:
    GridSums() = default;

    // cells: bins[0] x bins[1] x bins[2], row-major
    GridSums(const std::array<std::int32_t, 3>& bins, std::span<const T> cells)
        : rows_(static_cast<std::size_t>(bins[1]) + 1),
          stride_(static_cast<std::size_t>(bins[2]) + 1),
          sums_((static_cast<std::size_t>(bins[0]) + 1) * rows_ * stride_) {
        const T* cell = cells.data();
        for (std::size_t i = 1; i <= static_cast<std::size_t>(bins[0]); ++i) {
            for (std::size_t j = 1; j < rows_; ++j) {
                T row = 0;
                for (std::size_t k = 1; k < stride_; ++k) {
                    row += *cell++;
                    T* at = &sums_[(i * rows_ + j) * stride_ + k];
                    // In an order in which no partial sum exceeds the whole.
                    *at = row + (at[-line()] - at[-plane() - line()]) + at[-plane()];
                }
            }
        }
    }

    // out[j][k]: sum over [low, high) x [0, j) x [0, k); (bins[1] + 1) x (bins[2] + 1)
    void between(std::size_t low, std::size_t high, std::vector<T>& out) const {
        const T* a = &sums_[low * rows_ * stride_];
        const T* b = &sums_[high * rows_ * stride_];
        out.resize(rows_ * stride_);
        for (std::size_t at = 0; at < out.size(); ++at) {
            out[at] = b[at] - a[at];
        }
    }

    // bounds: low, high of each axis, half-open
    std::int64_t box(const std::array<std::int32_t, 6>& bounds) const {
        std::int64_t sum = 0;
        for (unsigned corner = 0; corner < 8; ++corner) {
            const auto i = static_cast<std::size_t>(bounds[corner & 1]);
            const auto j = static_cast<std::size_t>(bounds[2 + (corner >> 1 & 1)]);
            const auto k = static_cast<std::size_t>(bounds[4 + (corner >> 2)]);
            const std::int64_t value = sums_[(i * rows_ + j) * stride_ + k];
            const bool added = (corner == 7 || corner == 1 || corner == 2 || corner == 4);
            sum = added ? sum + value : sum - value;
        }
        return sum;
    }

   private:
    std::ptrdiff_t line() const { return static_cast<std::ptrdiff_t>(stride_); }
    std::ptrdiff_t plane() const { return static_cast<std::ptrdiff_t>(rows_ * stride_); }

    std::size_t rows_ = 0;
    std::size_t stride_ = 0;
    std::vector<T> sums_;
};

}  // namespace euds
