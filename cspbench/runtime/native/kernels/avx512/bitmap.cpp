// Bitmaps for AVX-512: sixty-four columns at a time, the stored values are moved to where the bits are set.
#include "kernels/avx512/bytes.hpp"

namespace cspbench {
namespace {

// Where the next word's values begin depends on this one's bits; within a word nothing waits for anything.
template <class V>
struct Expanded;  // bitmap

template <>
struct Expanded<Fp32> {
    const uint64_t* bits;
    const float* at;
    Expanded(const Packed& m, int32_t row)
        : bits(m.bits + int64_t{row} * ((m.columns + kWord - 1) / kWord)), at(values_of<float>(m) + m.starts[row]) {}
    void next(__m512 (&weights)[kParts]) {
        const uint64_t word = *bits++;
        for (int k = 0; k < kParts; ++k) {
            const float* from = at + _mm_popcnt_u64(word & ((uint64_t{1} << k * kLanes) - 1));
            const auto mask = static_cast<__mmask16>(word >> k * kLanes);
            weights[k] =
                _mm512_maskz_expand_ps(mask, _mm512_loadu_ps(from));  // the form that reads memory is slow on Zen
        }
        at += _mm_popcnt_u64(word);
    }
};

template <class V>
struct ExpandedHalf {
    const uint64_t* bits;
    const uint16_t* at;
    ExpandedHalf(const Packed& m, int32_t row)
        : bits(m.bits + int64_t{row} * ((m.columns + kWord - 1) / kWord)), at(values_of<uint16_t>(m) + m.starts[row]) {}
    void next(__m512 (&weights)[kParts]) {
        const uint64_t word = *bits++;
        const auto low = static_cast<uint32_t>(word), high = static_cast<uint32_t>(word >> 32);
        const __m512i one = _mm512_maskz_expand_epi16(low, _mm512_loadu_si512(at));
        const __m512i other = _mm512_maskz_expand_epi16(high, _mm512_loadu_si512(at + _mm_popcnt_u32(low)));
        at += _mm_popcnt_u64(word);
        weights[0] = V::decode(_mm512_castsi512_si256(one));
        weights[1] = V::decode(_mm512_extracti64x4_epi64(one, 1));
        weights[2] = V::decode(_mm512_castsi512_si256(other));
        weights[3] = V::decode(_mm512_extracti64x4_epi64(other, 1));
    }
};

template <>
struct Expanded<Fp16> : ExpandedHalf<Fp16> {
    using ExpandedHalf::ExpandedHalf;
};

template <>
struct Expanded<Bf16> : ExpandedHalf<Bf16> {
    using ExpandedHalf::ExpandedHalf;
};

struct ExpandedBytes {
    const uint64_t* bits;
    const int8_t* at;
    ExpandedBytes(const Packed& m, int32_t row)
        : bits(m.bits + int64_t{row} * ((m.columns + kWord - 1) / kWord)), at(values_of<int8_t>(m) + m.starts[row]) {}
    __m512i next() {
        const uint64_t word = *bits++;
        const __m512i weights = _mm512_maskz_expand_epi8(word, load_bytes(at));
        at += _mm_popcnt_u64(word);
        return weights;
    }
};

}  // namespace

void avx512::add_bitmap(Kernels& kernels) {
    set(kernels, Format::bitmap, Value::fp32, {run_rows<Fp32, FloatRow<Fp32, Expanded<Fp32>>>});
    set(kernels, Format::bitmap, Value::fp16, {run_rows<Fp16, FloatRow<Fp16, Expanded<Fp16>>>});
    set(kernels, Format::bitmap, Value::bf16, {run_rows<Bf16, FloatRow<Bf16, Expanded<Bf16>>>});
    set(kernels, Format::bitmap, Value::int8, {run_rows<Int8, ByteRow<ExpandedBytes>>, start_bytes, prepare_start});
}

}  // namespace cspbench
