// Types of values for 64-bit ARM: see kernels/shared/rows.hpp. The dot product of bytes, which not every such processor
// has, is compiled in by dot.cpp only.
#pragma once

#include <arm_neon.h>

#include "kernels/shared/rows.hpp"
#include "kernels/shared/table.hpp"

namespace cspbench {

// Each file of this folder adds its own.
namespace neon {
void add_dense(Kernels& kernels);
void add_bitmap(Kernels& kernels);
void add_blocks(Kernels& kernels);
void add_window(Kernels& kernels);
void add_bytes(Kernels& kernels);  // int8 in every format that has a kernel here
void add_dot(Kernels& kernels);    // the same, faster, where the processor has the dot product
}  // namespace neon

namespace {

constexpr int kLanes = 4;  // 32-bit numbers of a vector

struct Floating {
    using Sum = float32x4_t;
    using Number = float;
    static constexpr int kLanes = cspbench::kLanes;
    static Sum zero() { return vdupq_n_f32(0); }
    static Sum add(Sum a, Sum b) { return vaddq_f32(a, b); }
    static Sum subtract(Sum a, Sum b) { return vsubq_f32(a, b); }
    static Sum multiply_add(Sum a, Sum b, Sum to) { return vfmaq_f32(to, a, b); }
    static const float* vector(const Input& input) { return input.x; }
    static Sum load_input(const float* x) { return vld1q_f32(x); }
    static void store(const Packed&, const Input&, int32_t row, int32_t count, const Sum (&sums)[kTogether], float* y) {
        float four[kTogether];
        vst1q_f32(four, vpaddq_f32(vpaddq_f32(sums[0], sums[1]), vpaddq_f32(sums[2], sums[3])));
        for (int32_t r = 0; r < count; ++r) y[row + r] = four[r];
    }
};

struct Fp32 : Floating {
    using Stored = float;
    static float32x4_t load(const float* w) { return vld1q_f32(w); }
};

struct Half : Floating {
    using Stored = uint16_t;
};

struct Fp16 : Half {
    static float32x4_t decode(uint16x4_t bits) { return vcvt_f32_f16(vreinterpret_f16_u16(bits)); }
    static float32x4_t load(const uint16_t* w) { return decode(vld1_u16(w)); }
};

struct Bf16 : Half {
    static float32x4_t decode(uint16x4_t bits) { return vreinterpretq_f32_u32(vshll_n_u16(bits, 16)); }
    static float32x4_t load(const uint16_t* w) { return decode(vld1_u16(w)); }
};

struct Int8 {
    using Stored = int8_t;
    using Sum = int32x4_t;
    using Number = int32_t;
    static constexpr int kLanes = cspbench::kLanes;
    static Sum zero() { return vdupq_n_s32(0); }
    static Sum add(Sum a, Sum b) { return vaddq_s32(a, b); }
    static Sum subtract(Sum a, Sum b) { return vsubq_s32(a, b); }
    static Sum multiply_add(Sum a, Sum b, Sum to) { return vmlaq_s32(to, a, b); }
    static const int8_t* vector(const Input& input) { return input.q; }
    static Sum load(const int8_t* w) { return vmovl_s16(vget_low_s16(vmovl_s8(vld1_s8(w)))); }
    static Sum load_input(const int8_t* q) { return load(q); }
    static void store(const Packed& m, const Input& input, int32_t row, int32_t count, const Sum (&sums)[kTogether],
                      float* y) {
        int32_t four[kTogether];
        vst1q_s32(four, vpaddq_s32(vpaddq_s32(sums[0], sums[1]), vpaddq_s32(sums[2], sums[3])));
        for (int32_t r = 0; r < count; ++r) y[row + r] = result(m, input, row + r, four[r]);
    }
};

// Adds the products of sixteen bytes, by fours or otherwise, to the lanes of `to`. Two products fit 16 bits, as neither
// a weight nor an input is -128.
[[maybe_unused]] int32x4_t add_products(int32x4_t to, int8x16_t a, int8x16_t b) {
#if defined(CSPBENCH_DOT)
    return vdotq_s32(to, a, b);
#else
    const int16x8_t products = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    return vpadalq_s16(to, vmlal_s8(products, vget_high_s8(a), vget_high_s8(b)));
#endif
}

}  // namespace
}  // namespace cspbench
