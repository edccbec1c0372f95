// Bytes for 64-bit ARM: dense, bitmap and the sliding window, with or without the dot product.
#include "base/window.hpp"
#include "kernels/neon/common.hpp"
#include "kernels/shared/bitmap.hpp"

namespace cspbench {
namespace {

constexpr int kBytes = 16;
constexpr int kWord = 64;

// ---- rows

struct PlainBytes {  // dense
    const int8_t* at;
    PlainBytes(const Packed& m, int32_t row) : at(values_of<int8_t>(m) + int64_t{row} * m.columns) {}
    void next(int8x16_t (&weights)[kParts]) {
        for (int k = 0; k < kParts; ++k) weights[k] = vld1q_s8(at + k * kBytes);
        at += kWord;
    }
};

// For each mask of eight columns: where among the bytes at hand each one's is (255: zero).
struct Spread {
    uint8_t bytes[256][8];
};

constexpr Spread make_spread() {
    Spread spread{};
    for (int mask = 0; mask < 256; ++mask)
        for (int lane = 0, next = 0; lane < 8; ++lane)
            spread.bytes[mask][lane] = static_cast<uint8_t>(mask >> lane & 1 ? next++ : 255);
    return spread;
}

constexpr Spread kSpread = make_spread();

template <int Lanes>
struct ExpandedBytes : BitmapRow<int8_t, Lanes> {
    using BitmapRow<int8_t, Lanes>::BitmapRow;
    void next(int8x16_t (&weights)[kParts]) {
        const uint64_t word = *this->word;
        // Byte i: how many columns of bytes 0 to i are stored. No byte's values wait for those of the one before.
        const uint8x8_t ones = vcnt_u8(vcreate_u8(word));
        const uint64_t before = vget_lane_u64(vreinterpret_u64_u8(ones), 0) * 0x0101010101010101;
        int8x8_t eight[8];
        for (int i = 0; i < 8; ++i) {
            const int8x8_t from = vld1_s8(this->at + (i ? before >> 8 * (i - 1) & 255 : 0));
            eight[i] = vtbl1_s8(from, vreinterpret_s8_u8(vld1_u8(kSpread.bytes[word >> 8 * i & 255])));
        }
        for (int k = 0; k < kParts; ++k) weights[k] = vcombine_s8(eight[2 * k], eight[2 * k + 1]);
        this->at += before >> 56;
        this->skip();
    }
};

template <class Reader>
struct ByteRow {
    template <int B>
    static void sum(const Packed& m, int32_t row, const Input* inputs, int32x4_t (&sums)[B]) {
        Reader reader(m, row);
        int32x4_t parts[B][kParts];
        for (int b = 0; b < B; ++b)
            for (int k = 0; k < kParts; ++k) parts[b][k] = vdupq_n_s32(0);
        for (int32_t c = 0; c < m.columns; c += kWord) {
            int8x16_t weights[kParts];
            reader.next(weights);
            for (int k = 0; k < kParts; ++k)
                for (int b = 0; b < B; ++b)
                    parts[b][k] = add_products(parts[b][k], weights[k], vld1q_s8(inputs[b].q + c + k * kBytes));
        }
        for (int b = 0; b < B; ++b)
            sums[b] = vaddq_s32(vaddq_s32(parts[b][0], parts[b][1]), vaddq_s32(parts[b][2], parts[b][3]));
    }
};

// ---- the window: four vectors of it at a time are a table; a column beyond a table looks up nothing

// Sums of four rows, from four adjacent slots each.
struct FourRows {
#if defined(CSPBENCH_DOT)
    int32x4_t sums = vdupq_n_s32(0);
    void add(int8x16_t weights, int8x16_t x) { sums = vdotq_s32(sums, weights, x); }
    int32x4_t rows() const { return sums; }
#else
    int32x4_t low = vdupq_n_s32(0), high = low;  // two lanes a row
    void add(int8x16_t weights, int8x16_t x) {
        low = vpadalq_s16(low, vmull_s8(vget_low_s8(weights), vget_low_s8(x)));
        high = vpadalq_s16(high, vmull_s8(vget_high_s8(weights), vget_high_s8(x)));
    }
    int32x4_t rows() const { return vpaddq_s32(low, high); }
#endif
};

int8x16x4_t table_at(const int8_t* q) {
    return {{vld1q_s8(q), vld1q_s8(q + kBytes), vld1q_s8(q + 2 * kBytes), vld1q_s8(q + 3 * kBytes)}};
}

// Sixteen weights each. `load` gives those from the slot on, times 2^kShift.
struct Weights {
    int8x16_t first, second;
};

struct Int8Weights {
    static constexpr int kShift = 0;
    static Weights load(const Packed& m, int64_t slot) {
        const int8_t* at = values_of<int8_t>(m) + slot;
        return {vld1q_s8(at), vld1q_s8(at + kBytes)};
    }
};

// A weight in the upper half of a byte is signed as it is, and 16 times itself.
struct Int4Weights {
    static constexpr int kShift = 4;
    static Weights load(const Packed& m, int64_t slot) {
        const int8x16_t pairs = vld1q_s8(values_of<int8_t>(m) + slot / 2);
        const int8x16_t even = vshlq_n_s8(pairs, 4), odd = vandq_s8(pairs, vdupq_n_s8(-16));
        return {vzip1q_s8(even, odd), vzip2q_s8(even, odd)};
    }
};

// One part of a group: see base/window.hpp.
template <class W>
void byte_part(const Packed& m, const Input& input, int32_t group, int32_t part, float* y) {
    FourRows upper, lower;
    const int8_t* q = input.q;
    for (int64_t step = m.starts[group]; step < m.starts[group + 1]; ++step) {
        q += m.advance[step];
        const int64_t at = step * m.parameter[1] * kWindowSlots + part * kPartSlots;
        const uint8_t* slots = m.slots + at;
        const Weights weights = W::load(m, at);
        uint8x16_t first = vld1q_u8(slots), second = vld1q_u8(slots + kBytes);
        int8x16_t x = vdupq_n_s8(0), more = x;
        for (int32_t left = 0; left < m.parameter[0]; left += kWord) {
            const int8x16x4_t table = table_at(q + left);
            x = vqtbx4q_s8(x, table, first);
            more = vqtbx4q_s8(more, table, second);
            first = vsubq_u8(first, vdupq_n_u8(kWord));  // smaller ones become larger than any table
            second = vsubq_u8(second, vdupq_n_u8(kWord));
        }
        upper.add(weights.first, x);
        lower.add(weights.second, more);
    }
    int32_t sums[kPartLanes];
    vst1q_s32(sums, upper.rows());
    vst1q_s32(sums + 4, lower.rows());
    const int32_t top = group * m.parameter[1] + part * kPartLanes;
    for (int lane = 0; lane < kPartLanes && top + lane < m.rows; ++lane) {
        const int32_t row = m.order[top + lane];
        y[row] = result(m, input, row, sums[lane] >> W::kShift);
    }
}

// A group is read for one input after the other: by the second it is in the fastest cache.
template <class W>
void run_groups(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                ptrdiff_t stride) {
    const int32_t parts = m.parameter[1] / kPartLanes;
    for (int32_t group = first; group < last; ++group)
        for (int32_t part = 0; part < parts; ++part)
            for (int b = 0; b < batch; ++b) byte_part<W>(m, inputs[b], group, part, y + b * stride);
}

void run_bitmap(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                ptrdiff_t stride) {
    const auto kernel = m.parameter[0] == 1 ? run_rows<Int8, ByteRow<ExpandedBytes<1>>>
                                            : run_rows<Int8, ByteRow<ExpandedBytes<kBitmapLanes>>>;
    kernel(m, inputs, batch, top_of(m, first), top_of(m, last), y, stride);
}

void add_byte_kernels(Kernels& kernels) {
    set(kernels, Format::dense, Value::int8, {run_rows<Int8, ByteRow<PlainBytes>>});
    set(kernels, Format::bitmap, Value::int8, {run_bitmap});
    set(kernels, Format::window, Value::int8, {run_groups<Int8Weights>});
    set(kernels, Format::window, Value::int4, {run_groups<Int4Weights>});
}

}  // namespace
}  // namespace cspbench
