// The window format for any processor.
#include "base/window.hpp"

#include "kernels/portable/common.hpp"

namespace cspbench {
namespace {

struct Int4 : Int8 {};  // two a byte

// The number stored for a slot.
template <class V>
typename V::Number stored_at(const Packed& m, int64_t slot) {
    return V::decode(static_cast<const typename V::Stored*>(m.values)[slot]);
}

template <>
int32_t stored_at<Int4>(const Packed& m, int64_t slot) {
    return nibble_at(static_cast<const uint8_t*>(m.values), slot);
}

template <class V>
void multiply_group(const Packed& m, const Input& input, int32_t group, float* y) {
    const auto* x = V::vector(input);
    const int lanes = m.parameter[1], slots_of_step = lanes * kWindowSlots;
    typename V::Number sums[kMostWindowSlots] = {};  // one a slot, for short chains of additions
    for (int64_t step = m.starts[group]; step < m.starts[group + 1]; ++step) {
        x += m.advance[step];
        const int64_t top = step * slots_of_step;
        for (int i = 0; i < slots_of_step; ++i) sums[i] += stored_at<V>(m, top + i) * x[m.slots[top + i]];
    }
    for (int lane = 0; lane < lanes && group * lanes + lane < m.rows; ++lane) {
        const auto* four = sums + lane * kWindowSlots;
        const int32_t row = m.order[group * lanes + lane];
        y[row] = V::result(m, row, input, (four[0] + four[1]) + (four[2] + four[3]));
    }
}

// A group is read for one input after the other: by the second it is in the fastest cache.
template <class V>
void multiply(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
              ptrdiff_t stride) {
    for (int32_t group = first; group < last; ++group)
        for (int b = 0; b < batch; ++b) multiply_group<V>(m, inputs[b], group, y + b * stride);
}

}  // namespace

void portable::add_window(Kernels& kernels) {
    set(kernels, Format::window, Value::fp32, {multiply<Fp32>});
    set(kernels, Format::window, Value::fp16, {multiply<Fp16>});
    set(kernels, Format::window, Value::bf16, {multiply<Bf16>});
    set(kernels, Format::window, Value::int8, {multiply<Int8>});
    set(kernels, Format::window, Value::int4, {multiply<Int4>});
}

}  // namespace cspbench
