// Bitmaps of floats for 64-bit ARM.
#include "kernels/neon/common.hpp"
#include "kernels/shared/bitmap.hpp"

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

template <class V, int Lanes>
struct Expanded {  // bitmap
    BitmapRow<typename V::Stored, Lanes> row;
    int32_t column = 0;  // of the word
    Expanded(const Packed& m, int32_t row) : row(m, row) {}
    void next(float32x4_t (&weights)[kParts]) {
        const auto masks = static_cast<unsigned>(*row.word >> column);
        for (int k = 0; k < kParts; ++k) {
            const unsigned mask = masks >> k * kLanes & 15;
            weights[k] = expanded<V>(row.at, mask);
            row.at += kSpread.count[mask];
        }
        column = (column + kColumns) % 64;
        if (column == 0) row.skip();
    }
};

template <class V>
void run(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y, ptrdiff_t stride) {
    const auto kernel = m.parameter[0] == 1 ? run_rows<V, FloatRow<V, Expanded<V, 1>>>
                                            : run_rows<V, FloatRow<V, Expanded<V, kBitmapLanes>>>;
    kernel(m, inputs, batch, top_of(m, first), top_of(m, last), y, stride);
}

}  // namespace

void neon::add_bitmap(Kernels& kernels) {
    set(kernels, Format::bitmap, Value::fp32, {run<Fp32>});
    set(kernels, Format::bitmap, Value::fp16, {run<Fp16>});
    set(kernels, Format::bitmap, Value::bf16, {run<Bf16>});
}

}  // namespace cspbench
