// Blocks of floats for 64-bit ARM.
#include "kernels/shared/blocks.hpp"

#include "kernels/neon/common.hpp"

namespace cspbench {
namespace {

// A lane of a block: one column. A vector is wider than none of the rows but the narrowest.
template <class V>
struct Single : V {
    static constexpr int32_t kColumns = 1;
    using Pattern = uint8x16_t;
    static Pattern pattern_of(int32_t lanes) {
        uint8_t bytes[16];
        for (int32_t i = 0; i < 16; ++i) bytes[i] = static_cast<uint8_t>(i / 4 % lanes * 4 + i % 4);
        return vld1q_u8(bytes);
    }
    static float32x4_t repeated(Pattern pattern, int32_t own, float32x4_t x) {
        constexpr uint32_t kNumbers[kLanes] = {0, 1, 2, 3};
        const uint32x4_t mask = vcltq_u32(vld1q_u32(kNumbers), vdupq_n_u32(static_cast<uint32_t>(own)));
        const uint8x16_t bytes = vqtbl1q_u8(vreinterpretq_u8_f32(x), pattern);
        return vreinterpretq_f32_u8(vandq_u8(bytes, vreinterpretq_u8_u32(mask)));
    }
    static void write(float* to, float32x4_t sums) { vst1q_f32(to, sums); }
    static float32x4_t weights(const typename V::Stored* w) { return V::load(w); }
    static float32x4_t excess(float32x4_t, float32x4_t to) { return to; }
};

}  // namespace

void neon::add_blocks(Kernels& kernels) {
    set(kernels, Format::block, Value::fp32, {run_blocks<Single<Fp32>>});
    set(kernels, Format::block, Value::fp16, {run_blocks<Single<Fp16>>});
    set(kernels, Format::block, Value::bf16, {run_blocks<Single<Bf16>>});
}

}  // namespace cspbench
