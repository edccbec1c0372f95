// The window format of floats for 64-bit ARM: inputs are loaded one by one, at addresses that come straight from the
// slots.
#include "base/window.hpp"

#include <cstring>

#include "kernels/neon/common.hpp"

namespace cspbench {
namespace {

float32x4_t four_inputs(const float* x, const uint8_t* slots) {
    uint32_t four;
    std::memcpy(&four, slots, sizeof four);
    float32x4_t inputs = vld1q_dup_f32(x + (four & 255));
    inputs = vld1q_lane_f32(x + (four >> 8 & 255), inputs, 1);
    inputs = vld1q_lane_f32(x + (four >> 16 & 255), inputs, 2);
    return vld1q_lane_f32(x + (four >> 24), inputs, 3);
}

template <class V>
void float_group(const Packed& m, const Input& input, int32_t group, float* y) {
    const float* x = input.x;
    float32x4_t lanes[kWindowLanes];
    for (float32x4_t& lane : lanes) lane = vdupq_n_f32(0);
    for (int64_t step = m.starts[group]; step < m.starts[group + 1]; ++step) {
        x += m.advance[step];
        const uint8_t* slots = m.slots + step * kWindowStep;
        const auto* w = values_of<typename V::Stored>(m) + step * kWindowStep;
        for (int lane = 0; lane < kWindowLanes; ++lane)
            lanes[lane] =
                vfmaq_f32(lanes[lane], V::load(w + lane * kWindowSlots), four_inputs(x, slots + lane * kWindowSlots));
    }
    const int32_t top = group * kWindowLanes;
    for (int lane = 0; lane < kWindowLanes && top + lane < m.rows; ++lane)
        y[m.order[top + lane]] = vaddvq_f32(lanes[lane]);
}

// A group is read for one input after the other: by the second it is in the fastest cache.
template <class V>
void run_groups(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                ptrdiff_t stride) {
    for (int32_t group = first; group < last; ++group)
        for (int b = 0; b < batch; ++b) float_group<V>(m, inputs[b], group, y + b * stride);
}

}  // namespace

void neon::add_window(Kernels& kernels) {
    set(kernels, Format::window, Value::fp32, {run_groups<Fp32>});
    set(kernels, Format::window, Value::fp16, {run_groups<Fp16>});
    set(kernels, Format::window, Value::bf16, {run_groups<Bf16>});
}

}  // namespace cspbench
