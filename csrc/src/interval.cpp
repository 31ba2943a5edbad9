#include "euds/interval.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace euds {
namespace {

std::vector<std::int64_t> prefix_sums(std::span<const std::int64_t> values) {
    std::vector<std::int64_t> prefix(values.size() + 1, 0);
    std::partial_sum(values.begin(), values.end(), prefix.begin() + 1);
    return prefix;
}

struct Candidate {
    Interval interval;
    double width;
    std::int64_t count;
    std::int64_t sum;
};

// The best candidate so far, in an order given as a comparison of what comes before rows and place.
template <typename Order>
class Best {
   public:
    explicit Best(const Order& order) : order_(order) {}

    void offer(const Candidate& candidate) {
        if (!found_ || comes_before(candidate, best_)) {
            best_ = candidate;
            found_ = true;
        }
    }

    std::optional<Interval> interval() const { return found_ ? std::optional(best_.interval) : std::nullopt; }

   private:
    bool comes_before(const Candidate& a, const Candidate& b) const {
        if (order_(a, b)) {
            return true;
        }
        if (order_(b, a)) {
            return false;
        }
        return std::tuple(-a.count, a.interval.first, a.interval.last) <
               std::tuple(-b.count, b.interval.first, b.interval.last);
    }

    const Order& order_;
    bool found_ = false;
    Candidate best_{};
};

// Lower edges of intervals, as points (low, rows below): of their lower convex hull, the ones from which an upper edge
// may be reached with the largest slope, which is the largest density.
class LowerHull {
   public:
    LowerHull(std::span<const double> x, std::span<const std::int64_t> y) : x_(x), y_(y) {}

    bool empty() const { return hull_.empty(); }

    void push(std::size_t at) {
        while (hull_.size() >= 2 && !turns_left(hull_[hull_.size() - 2], hull_.back(), at)) {
            hull_.pop_back();
        }
        hull_.push_back(at);
    }

    // The point from which (x, y), right of all points, is reached with the largest slope; of equals the leftmost.
    std::size_t steepest(double x, std::int64_t y) const {
        std::size_t first = 0;
        std::size_t last = hull_.size() - 1;
        while (first < last) {
            const std::size_t middle = (first + last) / 2;
            const std::size_t a = hull_[middle];
            const std::size_t b = hull_[middle + 1];
            if (rise(y - y_[b]) * (x - x_[a]) > rise(y - y_[a]) * (x - x_[b])) {
                first = middle + 1;
            } else {
                last = middle;
            }
        }
        return hull_[first];
    }

   private:
    static double rise(std::int64_t rows) { return static_cast<double>(rows); }

    bool turns_left(std::size_t a, std::size_t b, std::size_t c) const {
        return rise(y_[b] - y_[a]) * (x_[c] - x_[b]) < rise(y_[c] - y_[b]) * (x_[b] - x_[a]);
    }

    std::span<const double> x_;
    std::span<const std::int64_t> y_;
    std::vector<std::size_t> hull_;
};

}  // namespace

std::optional<Interval> shortest_interval(const Pieces& pieces, const Limits& limits) {
    const std::vector<std::int64_t> below = prefix_sums(pieces.counts);
    const auto narrower = [](const Candidate& a, const Candidate& b) { return a.width < b.width; };
    Best best(narrower);
    std::size_t end = 0;
    for (std::size_t first = 0; first < pieces.low.size(); ++first) {
        end = std::max(end, first + 1);
        while (end < pieces.low.size() && below[end] - below[first] < limits.least) {
            ++end;
        }
        const std::int64_t count = below[end] - below[first];
        if (count >= limits.least && count <= limits.most) {
            best.offer({{first, end - 1}, pieces.high[end - 1] - pieces.low[first], count, 0});
        }
    }
    return best.interval();
}

std::optional<Interval> densest_interval(const Pieces& pieces, std::int64_t least, double min_width) {
    const std::vector<std::int64_t> below = prefix_sums(pieces.counts);
    const auto denser = [](const Candidate& a, const Candidate& b) {
        return static_cast<double>(a.count) * b.width > static_cast<double>(b.count) * a.width;
    };
    Best best(denser);
    LowerHull hull(pieces.low, below);
    std::size_t narrow = 0;  // lowest first piece that makes at most min_width
    std::size_t wide = 0;    // first pieces below have joined the hull: wider than min_width, and enough rows
    for (std::size_t last = 0; last < pieces.low.size(); ++last) {
        const auto count = [&](std::size_t first) { return below[last + 1] - below[first]; };
        const auto width = [&](std::size_t first) { return pieces.high[last] - pieces.low[first]; };
        while (narrow <= last && width(narrow) > min_width) {
            ++narrow;
        }
        if (narrow <= last && count(narrow) >= least) {
            best.offer({{narrow, last}, min_width, count(narrow), 0});
        }
        for (; wide < narrow && count(wide) >= least; ++wide) {
            hull.push(wide);
        }
        if (!hull.empty()) {
            const std::size_t first = hull.steepest(pieces.high[last], below[last + 1]);
            best.offer({{first, last}, width(first), count(first), 0});
        }
    }
    return best.interval();
}

std::optional<Interval> best_interval(const Pieces& pieces, const Limits& limits) {
    const std::vector<std::int64_t> below = prefix_sums(pieces.counts);
    const std::vector<std::int64_t> sums = prefix_sums(pieces.sums);
    const auto better = [](const Candidate& a, const Candidate& b) {
        return std::tuple(-a.sum, a.width) < std::tuple(-b.sum, b.width);
    };
    Best best(better);
    std::vector<std::size_t> queue(pieces.low.size());  // first pieces with enough rows, their sums ascending
    std::size_t head = 0;
    std::size_t tail = 0;
    std::size_t next = 0;
    for (std::size_t last = 0; last < pieces.low.size(); ++last) {
        for (; next <= last && below[last + 1] - below[next] >= limits.least; ++next) {
            // Of equal sums the later one makes the narrower interval.
            while (tail > head && sums[queue[tail - 1]] >= sums[next]) {
                --tail;
            }
            queue[tail++] = next;
        }
        while (head < tail && below[last + 1] - below[queue[head]] > limits.most) {
            ++head;
        }
        if (head < tail) {
            const std::size_t first = queue[head];
            best.offer({{first, last},
                        pieces.high[last] - pieces.low[first],
                        below[last + 1] - below[first],
                        sums[last + 1] - sums[first]});
        }
    }
    return best.interval();
}

std::vector<std::int64_t> nearest(std::span<const double> distances, std::span<const std::uint64_t> ties,
                                  std::size_t keep) {
    std::vector<std::int64_t> order(distances.size());
    std::iota(order.begin(), order.end(), std::int64_t{0});
    const auto before = [&](std::int64_t a, std::int64_t b) {
        const auto i = static_cast<std::size_t>(a);
        const auto j = static_cast<std::size_t>(b);
        return std::tie(distances[i], ties[i], a) < std::tie(distances[j], ties[j], b);
    };
    const auto middle = order.begin() + static_cast<std::ptrdiff_t>(keep);
    if (middle != order.end()) {
        std::nth_element(order.begin(), middle, order.end(), before);
    }
    order.resize(keep);
    std::sort(order.begin(), order.end());
    return order;
}

}  // namespace euds
