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

// One part of a group: see base/window.hpp.
template <class V>
void float_part(const Packed& m, const Input& input, int32_t group, int32_t part, float* y) {
    const float* x = input.x;
    float32x4_t lanes[kPartLanes];
    for (float32x4_t& lane : lanes) lane = vdupq_n_f32(0);
    for (int64_t step = m.starts[group]; step < m.starts[group + 1]; ++step) {
        x += m.advance[step];
        const int64_t at = step * m.parameter[1] * kWindowSlots + part * kPartSlots;
        const uint8_t* slots = m.slots + at;
        const auto* w = values_of<typename V::Stored>(m) + at;
        for (int lane = 0; lane < kPartLanes; ++lane)
            lanes[lane] =
                vfmaq_f32(lanes[lane], V::load(w + lane * kWindowSlots), four_inputs(x, slots + lane * kWindowSlots));
    }
    const int32_t top = group * m.parameter[1] + part * kPartLanes;
    for (int lane = 0; lane < kPartLanes && top + lane < m.rows; ++lane)
        y[m.order[top + lane]] = vaddvq_f32(lanes[lane]);
}

// A group is read for one input after the other: by the second it is in the fastest cache.
template <class V>
void run_groups(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                ptrdiff_t stride) {
    const int32_t parts = m.parameter[1] / kPartLanes;
    for (int32_t group = first; group < last; ++group)
        for (int32_t part = 0; part < parts; ++part)
            for (int b = 0; b < batch; ++b) float_part<V>(m, inputs[b], group, part, y + b * stride);
}

}  // namespace

void neon::add_window(Kernels& kernels) {
    set(kernels, Format::window, Value::fp32, {run_groups<Fp32>});
    set(kernels, Format::window, Value::fp16, {run_groups<Fp16>});
    set(kernels, Format::window, Value::bf16, {run_groups<Bf16>});
}

}  // namespace cspbench
