// Types of values, look-ups and sums for AVX2. In an anonymous namespace: see base/format.hpp.
//
// Kernels run past the end of a row where that saves a special case: the input is zero behind its last column, and
// behind every array lie zeros (base/format.hpp).
#pragma once

#include <immintrin.h>

#include "base/format.hpp"
#include "kernels/shared/table.hpp"

namespace cspbench {

// Each file of this folder adds its own.
namespace avx2 {
void add_dense(Kernels& kernels);
void add_bitmap(Kernels& kernels);
void add_csr(Kernels& kernels);
void add_blocks(Kernels& kernels);
void add_nm(Kernels& kernels);
void add_window(Kernels& kernels);
void add_quantise(Kernels& kernels);
}  // namespace avx2

namespace {

[[maybe_unused]] __m256i load_bytes(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
[[maybe_unused]] __m128i load_half(const void* at) { return _mm_loadu_si128(static_cast<const __m128i*>(at)); }

// Asks for what will be read `bytes` further on: the processor looks ahead less far by itself, and stops at every 4 KB.
[[maybe_unused]] void prefetch(const void* at, int bytes) {
    _mm_prefetch(static_cast<const char*>(at) + bytes, _MM_HINT_T0);
}

// ---- types of floating-point values: `load` gives eight

struct Fp32 {
    static constexpr Value kValue = Value::fp32;
    using Stored = float;
    static __m256 load(const float* values) { return _mm256_loadu_ps(values); }
};

struct Fp16 {
    static constexpr Value kValue = Value::fp16;
    using Stored = uint16_t;
    static __m256 load(const uint16_t* values) { return _mm256_cvtph_ps(load_half(values)); }
};

struct Bf16 {
    static constexpr Value kValue = Value::bf16;
    using Stored = uint16_t;
    static __m256 load(const uint16_t* values) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_half(values)), 16));
    }
};

template <class V>
[[maybe_unused]] const typename V::Stored* values_of(const Packed& m) {
    return static_cast<const typename V::Stored*>(m.values);
}

[[maybe_unused]] float sum_of(__m128 four) {
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

[[maybe_unused]] float sum_of(__m256 eight) {
    return sum_of(_mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1)));
}

// ---- inputs loaded one by one: gathers take longer

[[maybe_unused]] __m128 four_of(const float* x, size_t a, size_t b, size_t c, size_t d) {
    __m128 four = _mm_load_ss(x + a);
    four = _mm_insert_ps(four, _mm_load_ss(x + b), 0x10);
    four = _mm_insert_ps(four, _mm_load_ss(x + c), 0x20);
    return _mm_insert_ps(four, _mm_load_ss(x + d), 0x30);
}

// At the columns that are the bytes of a word.
[[maybe_unused]] __m128 four_of(const float* x, uint32_t columns) {
    const uint32_t high = columns >> 16;
    return four_of(x, columns & 0xff, columns >> 8 & 0xff, high & 0xff, high >> 8);
}

// ---- int8

// Adds to eight sums four adjacent products each. maddubs wants one side unsigned; with neither side beyond 127 it
// cannot saturate.
[[maybe_unused]] __m256i add_products(__m256i sums, __m256i weights, __m256i inputs) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(inputs, weights));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

[[maybe_unused]] int32_t sum_of(__m256i eight) {
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

[[maybe_unused]] float result(const Packed& m, int32_t row, const Input& input, float sum) {
    return (m.scales[row] * input.scale) * sum;
}

// ---- running over rows and inputs

constexpr int kMostTogether = 4;  // inputs for which a weight is read and decoded once

// A Kernel out of Rows::sum<B>(m, row, inputs, y, stride), which writes one row for B inputs.
template <class Rows>
void by_rows(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y, ptrdiff_t stride) {
    int b = 0;
    for (; b + kMostTogether <= batch; b += kMostTogether)
        for (int32_t row = first; row < last; ++row)
            Rows::template sum<kMostTogether>(m, row, inputs + b, y + b * stride, stride);
    for (; b < batch; ++b)
        for (int32_t row = first; row < last; ++row) Rows::template sum<1>(m, row, inputs + b, y + b * stride, stride);
}

}  // namespace

}  // namespace cspbench
