// Bytes for AVX-512: vpdpbusd adds up four products of unsigned inputs and signed weights.
//
// Inputs are made unsigned by adding 128, once. What that adds to a row's sum is 128 times the row's own sum, and is
// subtracted in the end, modulo 2^32 like all the rest.
#pragma once

#include "kernels/avx512/common.hpp"

namespace cspbench {
namespace {

[[maybe_unused]] int32_t extent_of(const Packed& m) {
    return (m.columns + kInputMultiple - 1) / kInputMultiple * kInputMultiple + kInputMargin;
}

// ---- unsigned inputs: zeros beyond the last column, where a kernel may read the weights of others

[[maybe_unused]] size_t unsigned_bytes(const Packed& m) { return static_cast<size_t>(extent_of(m)); }

[[maybe_unused]] void prepare_unsigned(const Packed& m, const Input& input, void* extra) {
    auto* to = static_cast<uint8_t*>(extra);
    for (int32_t c = 0; c < extent_of(m); c += kWord) {
        const int32_t left = m.columns - c;
        const __mmask64 there = left >= kWord ? ~__mmask64{0} : left > 0 ? (__mmask64{1} << left) - 1 : 0;
        _mm512_store_si512(to + c, _mm512_maskz_mov_epi8(there, plus_128(load_bytes(input.q + c))));
    }
}

[[maybe_unused]] const uint8_t* unsigned_input(const Input& input) { return static_cast<const uint8_t*>(input.extra); }

// ---- rows of bytes, sixty-four columns at a time

// Sums of a row's products with such an input.
struct SignedSums : Int8 {
    static void store(const Packed& m, const Input& input, int32_t row, int32_t count, const Sum (&sums)[kTogether],
                      float* y) {
        store_four(m, input, row, first_lanes(count), lane_sums(sums), y);
    }
    // Of rows from `row` on, those in `which`.
    static void store_four(const Packed& m, const Input& input, int32_t row, __mmask8 which, __m128i sums, float* y) {
        const __m128i own = _mm_loadu_si128(reinterpret_cast<const __m128i*>(m.sums + row));
        const __m128i right = _mm_sub_epi32(sums, _mm_slli_epi32(own, 7));
        _mm_mask_storeu_ps(y + row, which, scaled(m, input, row, right));
    }
};

// Reader(m, row).next() gives the next sixty-four weights of the row.
template <class Reader>
struct ByteRow {
    template <int B>
    static void sum(const Packed& m, int32_t row, const Input* inputs, __m512i (&sums)[B]) {
        constexpr int kChains = 4;
        Reader reader(m, row);
        __m512i parts[B][kChains] = {};
        int32_t c = 0;
        for (; c + (kChains - 1) * kWord < m.columns; c += kChains * kWord)
            for (int k = 0; k < kChains; ++k) step(reader, inputs, c + k * kWord, parts, k);
        for (; c < m.columns; c += kWord) step(reader, inputs, c, parts, 0);
        for (int b = 0; b < B; ++b)
            sums[b] = _mm512_add_epi32(_mm512_add_epi32(parts[b][0], parts[b][1]),
                                       _mm512_add_epi32(parts[b][2], parts[b][3]));
    }

    template <int B, int Chains>
    static void step(Reader& reader, const Input* inputs, int32_t c, __m512i (&parts)[B][Chains], int chain) {
        const __m512i weights = reader.next();
        for (int b = 0; b < B; ++b) {
            const __m512i x = _mm512_load_si512(unsigned_input(inputs[b]) + c);
            parts[b][chain] = _mm512_dpbusd_epi32(parts[b][chain], x, weights);
        }
    }
};

}  // namespace
}  // namespace cspbench
