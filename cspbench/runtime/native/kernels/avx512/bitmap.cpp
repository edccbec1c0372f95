// Bitmaps for AVX-512: sixty-four columns at a time, the stored values are moved to where the bits are set.
#include "kernels/avx512/bytes.hpp"

namespace cspbench {
namespace {

// ---- values at `from` moved to where a mask has bits, zeros elsewhere
//
// Compilers would merge the load into the expansion: the forms of vexpandps, vpexpandw and vpexpandb that read memory
// are microcode on Zen, 3 to 10 times as slow. And they would have it clear the other lanes: that form waits for what
// its target register held before (Zen 5, 5 cycles), where a register of zeros is there at once. Floats have four
// targets at a time, for which this is not worth the zeros.

__m512 expanded(__mmask16 mask, const float* from) {
    return _mm512_maskz_expand_ps(mask, _mm512_castsi512_ps(opaque(_mm512_loadu_si512(from))));
}

__m512i expanded(__mmask32 mask, const uint16_t* from) {
    return _mm512_mask_expand_epi16(opaque(_mm512_setzero_si512()), mask, opaque(_mm512_loadu_si512(from)));
}

__m512i expanded(__mmask64 mask, const int8_t* from) {
    return _mm512_mask_expand_epi8(opaque(_mm512_setzero_si512()), mask, opaque(_mm512_loadu_si512(from)));
}

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
        prefetch(at, kAhead);
        prefetch(at, kAhead + 64);
        for (int k = 0; k < kParts; ++k) {
            const float* from = at + _mm_popcnt_u64(word & ((uint64_t{1} << k * kLanes) - 1));
            const auto mask = static_cast<__mmask16>(word >> k * kLanes);
            weights[k] = expanded(mask, from);
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
        prefetch(at, kAhead);
        const auto low = static_cast<uint32_t>(word), high = static_cast<uint32_t>(word >> 32);
        const __m512i one = expanded(low, at);
        const __m512i other = expanded(high, at + _mm_popcnt_u32(low));
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
        prefetch(at, kAhead);
        const __m512i weights = expanded(__mmask64{word}, at);
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
