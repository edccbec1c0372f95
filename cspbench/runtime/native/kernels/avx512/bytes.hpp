// Rows of bytes, sixty-four columns at a time, for AVX-512.
//
// Weights are made unsigned by adding 128. What that adds to a sum, 128 times the input's own sum, is the same for all
// rows: each row's sums begin with its negative, which is prepared once for an input.
#pragma once

#include "kernels/avx512/common.hpp"

namespace cspbench {
namespace {

[[maybe_unused]] size_t start_bytes(const Packed&) { return sizeof(__m512i); }

[[maybe_unused]] void prepare_start(const Packed& m, const Input& input, void* extra) {
    __m512i sum = _mm512_setzero_si512();
    for (int32_t c = 0; c < m.columns; c += kWord) sum = _mm512_dpbusd_epi32(sum, top_bits(), load_bytes(input.q + c));
    _mm512_store_si512(extra, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
}

// Reader(m, row).next() gives the next sixty-four weights of the row.
template <class Reader>
struct ByteRow {
    template <int B>
    static void sum(const Packed& m, int32_t row, const Input* inputs, __m512i (&sums)[B]) {
        constexpr int kChains = 4;
        Reader reader(m, row);
        __m512i parts[B][kChains] = {};
        for (int b = 0; b < B; ++b) parts[b][0] = _mm512_load_si512(inputs[b].extra);
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
        const __m512i weights = plus_128(reader.next());
        for (int b = 0; b < B; ++b)
            parts[b][chain] = _mm512_dpbusd_epi32(parts[b][chain], weights, _mm512_load_si512(inputs[b].q + c));
    }
};

}  // namespace
}  // namespace cspbench
