// Adding up rows with vectors of any width. For files compiled for an instruction set, hence in an anonymous namespace:
// see base/format.hpp. A type of values is a struct V:
//
//   Stored, Sum, Number       a stored weight, a vector of partial sums, and one of them
//   kLanes                    partial sums of a Sum
//   zero, add, subtract, multiply_add
//   vector(input)             what is read of an input
//   load_input(x)             kLanes columns of it
//   store(m, input, row, count, sums, y)   writes the results of `count` of kTogether rows from their Sums
//
// and a way of adding up a row is a struct with sum<B>: adds a row to one Sum for each of B inputs.
#pragma once

#include "base/format.hpp"

namespace cspbench {
namespace {

constexpr int kTogether = 4;  // rows whose lanes are added up together; inputs that share a decoded weight

template <class T>
const T* values_of(const Packed& m) {
    return static_cast<const T*>(m.values);
}

[[maybe_unused]] float result(const Packed&, const Input&, int32_t, float sum) { return sum; }
[[maybe_unused]] float result(const Packed& m, const Input& input, int32_t row, int32_t sum) {
    return (m.scales[row] * input.scale) * static_cast<float>(sum);
}

// ---- a row of floats, whole vectors of columns at a time; the input is zero where the last ones are beyond the row

constexpr int kParts = 4;  // vectors that a reader gives at a time, and chains of additions, for their delay

// Reader(m, row).next(weights) gives the next kParts vectors of the row.
template <class V, class Reader>
struct FloatRow {
    template <int B>
    static void sum(const Packed& m, int32_t row, const Input* inputs, typename V::Sum (&sums)[B]) {
        Reader reader(m, row);
        typename V::Sum parts[B][kParts];
        for (int b = 0; b < B; ++b)
            for (int k = 0; k < kParts; ++k) parts[b][k] = V::zero();
        for (int32_t c = 0; c < m.columns; c += kParts * V::kLanes) {
            typename V::Sum weights[kParts];
            reader.next(weights);
            for (int k = 0; k < kParts; ++k)
                for (int b = 0; b < B; ++b)
                    parts[b][k] =
                        V::multiply_add(weights[k], V::load_input(inputs[b].x + c + k * V::kLanes), parts[b][k]);
        }
        for (int b = 0; b < B; ++b)
            sums[b] = V::add(V::add(parts[b][0], parts[b][1]), V::add(parts[b][2], parts[b][3]));
    }
};

// ---- running over rows and inputs

template <class V, class Row, int B>
void four_rows(const Packed& m, const Input* inputs, int32_t row, int32_t count, float* y, ptrdiff_t stride) {
    typename V::Sum sums[B][kTogether];
    for (int32_t r = 0; r < kTogether; ++r) {
        typename V::Sum one[B];
        for (int b = 0; b < B; ++b) one[b] = V::zero();
        if (r < count) Row::template sum<B>(m, row + r, inputs, one);
        for (int b = 0; b < B; ++b) sums[b][r] = one[b];
    }
    for (int b = 0; b < B; ++b) V::store(m, inputs[b], row, count, sums[b], y + b * stride);
}

// Four rows for all inputs, then the next four: from the second on, inputs find the rows in the fastest cache.
template <class V, class Row>
void run_rows(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
              ptrdiff_t stride) {
    for (int32_t row = first; row < last; row += kTogether) {
        const int32_t count = last - row < kTogether ? last - row : kTogether;
        int b = 0;
        for (; b + kTogether <= batch; b += kTogether)
            four_rows<V, Row, kTogether>(m, inputs + b, row, count, y + b * stride, stride);
        for (; b < batch; ++b) four_rows<V, Row, 1>(m, inputs + b, row, count, y + b * stride, stride);
    }
}

}  // namespace
}  // namespace cspbench
