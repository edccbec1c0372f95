// Dense, bitmap and blocks of floats for 64-bit ARM.
#include "block_loops.hpp"
#include "neon.hpp"

namespace cspbench {
namespace {

constexpr int kColumns = kParts * kLanes;  // that a reader gives at a time

template <class V>
struct Plain {  // dense
    const typename V::Stored* at;
    Plain(const Packed& m, int32_t row) : at(values_of<typename V::Stored>(m) + int64_t{row} * m.columns) {}
    void next(float32x4_t (&weights)[kParts]) {
        for (int k = 0; k < kParts; ++k) weights[k] = V::load(at + k * kLanes);
        at += kColumns;
    }
};

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

template <class V>
void add(Kernels& kernels, Value value) {
    const int v = static_cast<int>(value);
    kernels.at[static_cast<int>(Format::dense)][v] = {run_rows<V, FloatRow<V, Plain<V>>>, nullptr, nullptr};
    kernels.at[static_cast<int>(Format::bitmap)][v] = {run_rows<V, FloatRow<V, Expanded<V>>>, nullptr, nullptr};
    kernels.at[static_cast<int>(Format::block)][v] = {run_blocks<Single<V>>, nullptr, nullptr};
}

}  // namespace

void add_rows_neon(Kernels& kernels) {
    add<Fp32>(kernels, Value::fp32);
    add<Fp16>(kernels, Value::fp16);
    add<Bf16>(kernels, Value::bf16);
}

}  // namespace cspbench
