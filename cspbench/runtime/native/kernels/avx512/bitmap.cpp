// Bitmaps for AVX-512: sixty-four columns at a time, the stored values are moved to where the bits are set.
#include "kernels/avx512/bytes.hpp"
#include "kernels/shared/bitmap.hpp"

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

// ---- rows one by one. Where the next word's values begin depends on this one's bits; within a word nothing waits

template <class V, int Lanes>
struct Expanded;

template <int Lanes>
struct Expanded<Fp32, Lanes> : BitmapRow<float, Lanes> {
    using BitmapRow<float, Lanes>::BitmapRow;
    void next(__m512 (&weights)[kParts]) {
        const uint64_t word = *this->word;
        prefetch(this->at, kAhead);
        prefetch(this->at, kAhead + 64);
        for (int k = 0; k < kParts; ++k) {
            const float* from = this->at + _mm_popcnt_u64(word & ((uint64_t{1} << k * kLanes) - 1));
            const auto mask = static_cast<__mmask16>(word >> k * kLanes);
            weights[k] = expanded(mask, from);
        }
        BitmapRow<float, Lanes>::next();
    }
};

template <class V, int Lanes>
struct ExpandedHalf : BitmapRow<uint16_t, Lanes> {
    using BitmapRow<uint16_t, Lanes>::BitmapRow;
    void next(__m512 (&weights)[kParts]) {
        const uint64_t word = *this->word;
        prefetch(this->at, kAhead);
        const auto low = static_cast<uint32_t>(word), high = static_cast<uint32_t>(word >> 32);
        const __m512i one = expanded(low, this->at);
        const __m512i other = expanded(high, this->at + _mm_popcnt_u32(low));
        weights[0] = V::decode(_mm512_castsi512_si256(one));
        weights[1] = V::decode(_mm512_extracti64x4_epi64(one, 1));
        weights[2] = V::decode(_mm512_castsi512_si256(other));
        weights[3] = V::decode(_mm512_extracti64x4_epi64(other, 1));
        BitmapRow<uint16_t, Lanes>::next();
    }
};

template <int Lanes>
struct Expanded<Fp16, Lanes> : ExpandedHalf<Fp16, Lanes> {
    using ExpandedHalf<Fp16, Lanes>::ExpandedHalf;
};

template <int Lanes>
struct Expanded<Bf16, Lanes> : ExpandedHalf<Bf16, Lanes> {
    using ExpandedHalf<Bf16, Lanes>::ExpandedHalf;
};

struct ExpandedBytes : BitmapRow<int8_t, 1> {
    using BitmapRow::BitmapRow;
    __m512i next() {
        prefetch(at, kAhead);
        const __m512i weights = expanded(__mmask64{*word}, at);
        BitmapRow::next();
        return weights;
    }
};

// ---- bytes in groups of four rows: they share the input, and their values lie in one stream

struct FourRowsOfBytes {
    template <int B>
    static void group(const Packed& m, const Input* inputs, int32_t group, float* y, ptrdiff_t stride) {
        static_assert(kBitmapLanes == kTogether, "a group is what is stored at once");
        const uint64_t* word = m.bits + group * words_of(m) * kTogether;
        const int8_t* at = values_of<int8_t>(m) + m.starts[group];
        __m512i sums[B][kTogether];
        for (auto& each : sums)
            for (__m512i& sum : each) sum = _mm512_setzero_si512();
        for (int32_t c = 0; c < m.columns; c += kWord, word += kTogether) {
            prefetch(at, kAhead);
            prefetch(at, kAhead + 64);
            __m512i weights[kTogether];
            int64_t count = 0;
            for (int r = 0; r < kTogether; ++r) {
                weights[r] = expanded(__mmask64{word[r]}, at + count);
                count += _mm_popcnt_u64(word[r]);
            }
            at += count;
            for (int b = 0; b < B; ++b) {
                const __m512i x = _mm512_load_si512(unsigned_input(inputs[b]) + c);
                for (int r = 0; r < kTogether; ++r) sums[b][r] = _mm512_dpbusd_epi32(sums[b][r], x, weights[r]);
            }
        }
        const int32_t top = group * kTogether, count = m.rows - top < kTogether ? m.rows - top : kTogether;
        for (int b = 0; b < B; ++b) SignedSums::store(m, inputs[b], top, count, sums[b], y + b * stride);
    }
};

// ---- which of them

template <class V>
void run_floats(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                ptrdiff_t stride) {
    const auto kernel = m.parameter[0] == 1 ? run_rows<V, FloatRow<V, Expanded<V, 1>>>
                                            : run_rows<V, FloatRow<V, Expanded<V, kBitmapLanes>>>;
    kernel(m, inputs, batch, top_of(m, first), top_of(m, last), y, stride);
}

void run_bytes(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
               ptrdiff_t stride) {
    const auto kernel = m.parameter[0] == 1 ? run_rows<SignedSums, ByteRow<ExpandedBytes>> : run_groups<FourRowsOfBytes>;
    kernel(m, inputs, batch, first, last, y, stride);
}

}  // namespace

void avx512::add_bitmap(Kernels& kernels) {
    set(kernels, Format::bitmap, Value::fp32, {run_floats<Fp32>});
    set(kernels, Format::bitmap, Value::fp16, {run_floats<Fp16>});
    set(kernels, Format::bitmap, Value::bf16, {run_floats<Bf16>});
    set(kernels, Format::bitmap, Value::int8, {run_bytes, unsigned_bytes, prepare_unsigned});
}

}  // namespace cspbench
