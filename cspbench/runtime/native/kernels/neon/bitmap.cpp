// Bitmaps of floats for 64-bit ARM.
#include "kernels/neon/common.hpp"

namespace cspbench {
namespace {

constexpr int kColumns = kParts * kLanes;  // that a reader gives at a time

// For each mask of four columns: how many are stored, and where among those at hand each one's bytes are (255: zero).
struct Spread {
    uint8_t count[16];
    uint8_t words[16][16];
    uint8_t halves[16][8];
};

constexpr Spread make_spread() {
    Spread spread{};
    for (int mask = 0; mask < 16; ++mask) {
        int next = 0;
        for (int lane = 0; lane < kLanes; ++lane) {
            const bool stored = mask >> lane & 1;
            for (int i = 0; i < 4; ++i)
                spread.words[mask][4 * lane + i] = static_cast<uint8_t>(stored ? 4 * next + i : 255);
            for (int i = 0; i < 2; ++i)
                spread.halves[mask][2 * lane + i] = static_cast<uint8_t>(stored ? 2 * next + i : 255);
            next += stored;
        }
        spread.count[mask] = static_cast<uint8_t>(next);
    }
    return spread;
}

constexpr Spread kSpread = make_spread();

template <class V>
float32x4_t expanded(const uint16_t* at, unsigned mask) {
    const uint8x8_t bits = vtbl1_u8(vreinterpret_u8_u16(vld1_u16(at)), vld1_u8(kSpread.halves[mask]));
    return V::decode(vreinterpret_u16_u8(bits));
}

template <class V>
float32x4_t expanded(const float* at, unsigned mask) {
    return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(vld1q_f32(at)), vld1q_u8(kSpread.words[mask])));
}

template <class V>
struct Expanded {  // bitmap
    const uint64_t* bits;
    const typename V::Stored* at;
    int32_t column = 0;
    Expanded(const Packed& m, int32_t row)
        : bits(m.bits + int64_t{row} * ((m.columns + 63) / 64)), at(values_of<typename V::Stored>(m) + m.starts[row]) {}
    void next(float32x4_t (&weights)[kParts]) {
        const auto masks = static_cast<unsigned>(bits[column / 64] >> column % 64);
        for (int k = 0; k < kParts; ++k) {
            const unsigned mask = masks >> k * kLanes & 15;
            weights[k] = expanded<V>(at, mask);
            at += kSpread.count[mask];
        }
        column += kColumns;
    }
};

}  // namespace

void neon::add_bitmap(Kernels& kernels) {
    set(kernels, Format::bitmap, Value::fp32, {run_rows<Fp32, FloatRow<Fp32, Expanded<Fp32>>>});
    set(kernels, Format::bitmap, Value::fp16, {run_rows<Fp16, FloatRow<Fp16, Expanded<Fp16>>>});
    set(kernels, Format::bitmap, Value::bf16, {run_rows<Bf16, FloatRow<Bf16, Expanded<Bf16>>>});
}

}  // namespace cspbench
