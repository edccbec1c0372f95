// The window format's arrays: made, checked, and unpacked. See base/window.hpp for what they mean.
#include "base/window.hpp"

#include <algorithm>
#include <numeric>

#include "base/values.hpp"
#include "matrix/codec.hpp"

namespace cspbench {
namespace {

constexpr int32_t kMostRows = 65536;  // that `order` can name
constexpr int32_t kMostAdvance = 255;

int32_t lanes_of(const Options& options) { return option(options, "lanes", kPartLanes); }

int32_t groups_of(int32_t rows, int32_t lanes) { return (rows + lanes - 1) / lanes; }

// Elements of the array of values for a lane in a step: int4 come two a byte.
int64_t values_of_lane(Value value) { return value == Value::int4 ? kWindowSlots / 2 : kWindowSlots; }

// The widest window that a matrix may use. Files that do not tell are older than the choice of the encoder below.
int32_t widest(const Options& options, Value value, int32_t columns) {
    return option(options, "window", has_scales(value) || padded(columns) < 256 ? 128 : 256);
}

Options complete(const Options& given, int32_t rows, int32_t columns) {
    check_options(given, {"window", "lanes"});
    require(lanes_of(given) == kPartLanes || lanes_of(given) == kMostWindowLanes, "a window must have 8 or 16 lanes");
    const int32_t window = option(given, "window", 128);
    require(window == 64 || window == 128 || window == 256, "a window must be 64, 128 or 256 columns wide");
    require(window <= padded(columns), "a window of 256 columns needs a matrix of more than 64");
    if (rows > kMostRows)
        throw std::invalid_argument("the window format holds up to 65536 rows; there are " + std::to_string(rows));
    return given;
}

// ---- encoding

// Where the weights are: columns of row r are at[first[r]] to at[first[r + 1] - 1].
struct Places {
    std::vector<int32_t> at;
    std::vector<size_t> first{0};

    size_t count(int32_t row) const { return first[row + 1] - first[row]; }
    // A column with half of the row's entries before it.
    int32_t middle(int32_t row) const { return count(row) ? at[first[row] + count(row) / 2] : 0; }
};

template <class T>
Places places_of(const T* weights, int32_t rows, int32_t columns) {
    Places places;
    for (int32_t row = 0; row < rows; ++row) {
        const T* w = weights + int64_t{row} * columns;
        for (int32_t c = 0; c < columns; ++c)
            if (w[c]) places.at.push_back(c);
        places.first.push_back(places.at.size());
    }
    return places;
}

// How a matrix is cut into steps.
struct Shape {
    int32_t window, lanes;
};

// Rows by falling count, and in each run of `groups` groups by where their middle lies.
std::vector<uint16_t> order_of(const Places& places, int32_t rows, int32_t lanes, int32_t groups) {
    std::vector<uint16_t> order(static_cast<size_t>(rows));
    std::iota(order.begin(), order.end(), uint16_t{0});
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return places.count(a) > places.count(b); });
    const int32_t run = groups * lanes;
    for (int32_t i = 0; i < rows && groups > 1; i += run)
        std::stable_sort(order.begin() + i, order.begin() + std::min(rows, i + run),
                         [&](int a, int b) { return places.middle(a) < places.middle(b); });
    return order;
}

// The steps of one group, one after the other.
class Walk {
public:
    // `lanes` rows, at most as many as the shape has.
    Walk(const Places& places, const uint16_t* order, int32_t lanes, const Shape& shape, int64_t last_base)
        : lanes_(lanes), window_(shape.window), last_base_(last_base) {
        for (int32_t lane = 0; lane < lanes; ++lane) {
            next_[lane] = places.at.data() + places.first[order[lane]];
            end_[lane] = places.at.data() + places.first[order[lane] + 1];
        }
    }

    // Moves on by one step; false after the last. As far as the slowest row allows: nothing is gained by waiting.
    bool step() {
        int64_t first = INT64_MAX;
        for (int lane = 0; lane < lanes_; ++lane)
            if (next_[lane] != end_[lane]) first = std::min<int64_t>(first, *next_[lane]);
        if (first == INT64_MAX) return false;
        advance_ = std::min<int64_t>(kMostAdvance, std::min(first, last_base_) - base_);
        base_ += advance_;
        for (int lane = 0; lane < lanes_; ++lane) {
            taken_[lane] = 0;
            while (taken_[lane] < kWindowSlots && next_[lane] != end_[lane] && *next_[lane] < base_ + window_) {
                ++taken_[lane];
                ++next_[lane];
            }
        }
        return true;
    }

    int64_t base() const { return base_; }
    uint8_t advance() const { return static_cast<uint8_t>(advance_); }
    // What the last step took of a lane: columns from `taken` on.
    int count(int lane) const { return taken_[lane]; }
    const int32_t* taken(int lane) const { return next_[lane] - taken_[lane]; }

private:
    const int32_t* next_[kMostWindowLanes] = {};
    const int32_t* end_[kMostWindowLanes] = {};
    int taken_[kMostWindowLanes] = {};
    int32_t lanes_;
    int64_t window_, last_base_;
    int64_t base_ = 0, advance_ = 0;
};

Walk walk_of(const Places& places, const std::vector<uint16_t>& order, size_t row, int32_t columns,
             const Shape& shape) {
    const auto lanes = static_cast<int32_t>(std::min(static_cast<size_t>(shape.lanes), order.size() - row));
    return {places, order.data() + row, lanes, shape, padded(columns) - shape.window};
}

struct Plan {
    Shape shape;
    std::vector<uint16_t> order;
    int64_t steps;
};

int64_t steps_of(const Places& places, const std::vector<uint16_t>& order, int32_t columns, const Shape& shape) {
    int64_t steps = 0;
    for (size_t row = 0; row < order.size(); row += static_cast<size_t>(shape.lanes))
        for (Walk walk = walk_of(places, order, row, columns, shape); walk.step();) ++steps;
    return steps;
}

// Few groups to a run suit uneven rows, many suit even ones; the best is found by trying.
Plan plan_of(const Places& places, const Rounded& all, const Shape& shape) {
    Plan best{shape, {}, INT64_MAX};
    for (int32_t groups : {1, 2, 4, 8}) {
        std::vector<uint16_t> order = order_of(places, all.rows, shape.lanes, groups);
        const int64_t steps = steps_of(places, order, all.columns, shape);
        if (steps < best.steps) best = {shape, std::move(order), steps};
    }
    return best;
}

// Look-ups in half the window take less time: worth an eighth more steps. What is best depends on the processor and the
// type of values; the packer's choice of formats measures it.
Plan plan_of(const Places& places, const Rounded& all, const Options& options) {
    const int32_t lanes = lanes_of(options);
    if (options.count("window")) return plan_of(places, all, Shape{options.at("window"), lanes});
    Plan wide = plan_of(places, all, Shape{128, lanes}), narrow = plan_of(places, all, Shape{64, lanes});
    return narrow.steps * 8 <= wide.steps * 9 ? narrow : wide;
}

// Two int4 a byte: see base/format.hpp.
template <class T>
void halve(std::vector<T>& values) {
    for (size_t i = 0; i < values.size(); i += 2)
        values[i / 2] = static_cast<T>((values[i] & 15) | (values[i + 1] & 15) << 4);
    values.resize(values.size() / 2);
}

template <class T>
std::vector<Made> windows_of(const T* weights, const Rounded& all, Options& options) {
    const Places places = places_of(weights, all.rows, all.columns);
    const Plan plan = plan_of(places, all, options);
    options["window"] = plan.shape.window;
    const int32_t lanes = plan.shape.lanes;
    const std::vector<uint16_t>& order = plan.order;
    std::vector<uint32_t> starts{0};
    std::vector<uint8_t> advance, slots;
    std::vector<T> values;
    for (size_t row = 0; row < order.size(); row += static_cast<size_t>(lanes)) {
        for (Walk walk = walk_of(places, order, row, all.columns, plan.shape); walk.step();) {
            advance.push_back(walk.advance());
            const size_t at = slots.size();
            slots.resize(at + static_cast<size_t>(lanes * kWindowSlots));
            values.resize(slots.size());
            for (int lane = 0; lane < lanes; ++lane) {
                for (int slot = 0; slot < walk.count(lane); ++slot) {
                    const int32_t column = walk.taken(lane)[slot];
                    const size_t i = at + static_cast<size_t>(lane * kWindowSlots + slot);
                    slots[i] = static_cast<uint8_t>(column - walk.base());
                    values[i] = weights[int64_t{order[row + lane]} * all.columns + column];
                }
            }
        }
        require(advance.size() <= UINT32_MAX, "more than 2^32 - 1 steps do not fit this format");
        starts.push_back(static_cast<uint32_t>(advance.size()));
    }
    if (all.value == Value::int4) halve(values);
    const auto steps = static_cast<int64_t>(advance.size()), units = static_cast<int64_t>(starts.size());
    return {made("slots", Type::u8, {steps, lanes, kWindowSlots}, slots),
            made("values", type_of(all.value), {steps, lanes, values_of_lane(all.value)}, values),
            made("advance", Type::u8, {steps}, advance), made("order", Type::u16, {all.rows}, order),
            made("starts", Type::u32, {units}, starts)};
}

std::vector<Made> encode(const Rounded& weights, Options& options) {
    return weights.visit([&](const auto* w) { return windows_of(w, weights, options); });
}

// ---- reading

void check_order(const uint16_t* order, int32_t rows) {
    std::vector<bool> seen(static_cast<size_t>(rows));
    for (int32_t i = 0; i < rows; ++i) {
        require(order[i] < rows && !seen[order[i]], "order must name every row once");
        seen[order[i]] = true;
    }
}

// The narrowest window that holds all slots: the fewer look-ups for a kernel.
int32_t window_of(const uint8_t* slots, int64_t count) {
    const int32_t last = count ? *std::max_element(slots, slots + count) : 0;
    return last < 64 ? 64 : last < 128 ? 128 : 256;
}

// One lane's slots of one step; `last` is the lane's last column so far.
void check_lane(const Packed& m, int64_t at, int64_t base, bool missing, int64_t& last) {
    bool ended = false;
    for (int64_t i = at; i < at + kWindowSlots; ++i) {
        const int64_t column = base + m.slots[i];
        require(column < m.columns, "a slot lies outside the matrix");
        if (value_at(m, i) == 0) {
            require(m.slots[i] == 0, "an empty slot must be column 0 of the window");
            ended = true;
            continue;
        }
        require(!missing, "a lane without a row must be empty");
        require(!ended && column > last, "the columns of a row must ascend, and empty slots come last");
        last = column;
    }
}

void check_group(const Packed& m, int32_t group) {
    const int32_t lanes = m.parameter[1];
    int64_t last[kMostWindowLanes], base = 0;
    std::fill(last, last + kMostWindowLanes, -1);
    for (int64_t step = m.starts[group]; step < m.starts[group + 1]; ++step) {
        base += m.advance[step];
        require(base + m.parameter[0] <= padded(m.columns), "a window reaches beyond the matrix");
        for (int32_t lane = 0; lane < lanes; ++lane) {
            const bool missing = group * lanes + lane >= m.rows;
            check_lane(m, (step * lanes + lane) * kWindowSlots, base, missing, last[lane]);
        }
    }
}

void describe(const std::vector<Array>& arrays, const Options& options, Packed& m) {
    const Given given(arrays, {"slots", "values", "advance", "order", "starts"});
    const int32_t lanes = lanes_of(options);
    m.parameter[1] = lanes;
    m.units = groups_of(m.rows, lanes);
    const Array& advance = given.get("advance", Type::u8, {-1});
    const int64_t steps = advance.count();
    require(steps <= UINT32_MAX, "more than 2^32 - 1 steps do not fit this format");
    m.advance = static_cast<const uint8_t*>(advance.data);
    m.slots = given.data<uint8_t>("slots", Type::u8, {steps, lanes, kWindowSlots});
    m.values = given.data<void>("values", type_of(m.value), {steps, lanes, values_of_lane(m.value)});
    m.stored = steps * lanes * kWindowSlots;
    m.parameter[0] = window_of(m.slots, m.stored);
    require(m.parameter[0] <= widest(options, m.value, m.columns), "a slot lies outside the window");
    m.order = given.data<uint16_t>("order", Type::u16, {m.rows});
    m.starts = given.data<uint32_t>("starts", Type::u32, {int64_t{m.units} + 1});
    check_starts(m.starts, m.units, steps);
    check_order(m.order, m.rows);
    for (int32_t group = 0; group < m.units; ++group) check_group(m, group);
}

void decode(const Packed& m, float* out) {
    const int32_t lanes = m.parameter[1], slots = lanes * kWindowSlots;
    for (int32_t group = 0; group < m.units; ++group) {
        int64_t base = 0;
        for (int64_t step = m.starts[group]; step < m.starts[group + 1]; ++step) {
            base += m.advance[step];
            for (int64_t i = step * slots; i < (step + 1) * slots; ++i) {
                if (value_at(m, i) == 0) continue;
                const int32_t row = m.order[group * lanes + i % slots / kWindowSlots];
                out[int64_t{row} * m.columns + base + m.slots[i]] = weight(m, row, i);
            }
        }
    }
}

}  // namespace

const Codec window_codec{complete, encode, describe, decode};

}  // namespace cspbench
