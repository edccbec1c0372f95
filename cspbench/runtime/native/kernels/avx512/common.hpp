// Types of values and sums over lanes for AVX-512. In an anonymous namespace: see base/format.hpp.
#pragma once

// GCC 12 takes the undefined operands of its own intrinsics for our mistakes.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif

#include "kernels/shared/rows.hpp"
#include "kernels/shared/table.hpp"

namespace cspbench {

// Each file of this folder adds its own.
namespace avx512 {
void add_dense(Kernels& kernels);
void add_bitmap(Kernels& kernels);
void add_csr(Kernels& kernels);
void add_nm(Kernels& kernels);
void add_blocks(Kernels& kernels);
void add_window(Kernels& kernels);
void add_quantise(Kernels& kernels);
}  // namespace avx512

namespace {

constexpr int kLanes = 16;  // 32-bit numbers of a vector
constexpr int kWord = 64;   // columns of a word of a bitmap, and bytes of a vector
static_assert(kWord == kParts * kLanes, "FloatRow reads a word's columns at a time");

// Bytes of values to ask for ahead, for matrices that are not in the cache: the processor itself looks ahead less far,
// and stops at every page of 4 KB. Of 1 to 8 KB, 4 and 8 were fastest on Zen 5; more would be wasted at the end of
// rows.
constexpr int kAhead = 4096;

[[maybe_unused]] void prefetch(const void* at, int bytes) {
    _mm_prefetch(static_cast<const char*>(at) + bytes, _MM_HINT_T0);
}

// The vector, its origin hidden from the compiler, which would otherwise load it anew for every instruction that reads
// it.
[[maybe_unused]] __m512i opaque(__m512i vector) {
#if defined(__AVX512F__)  // not under emulation
    asm("" : "+v"(vector));
#endif
    return vector;
}

// ---- sums over lanes: of four vectors at once, as one alone costs almost as much

[[maybe_unused]] __m256 halves(__m512 v) {
    return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}

[[maybe_unused]] __m128 lane_sums(const __m512 (&of)[kTogether]) {
    const __m256 two = _mm256_hadd_ps(halves(of[0]), halves(of[1])),
                 more = _mm256_hadd_ps(halves(of[2]), halves(of[3]));
    const __m256 four = _mm256_hadd_ps(two, more);
    return _mm_add_ps(_mm256_castps256_ps128(four), _mm256_extractf128_ps(four, 1));
}

[[maybe_unused]] __m256i halves(__m512i v) {
    return _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
}

[[maybe_unused]] __m128i lane_sums(const __m512i (&of)[kTogether]) {
    const __m256i two = _mm256_hadd_epi32(halves(of[0]), halves(of[1]));
    const __m256i more = _mm256_hadd_epi32(halves(of[2]), halves(of[3]));
    const __m256i four = _mm256_hadd_epi32(two, more);
    return _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
}

// ---- types of values: see kernels/shared/rows.hpp

[[maybe_unused]] __mmask8 first_lanes(int32_t count) { return static_cast<__mmask8>((1 << count) - 1); }

[[maybe_unused]] __m512 floats_of_bf16(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

struct Floating {
    using Sum = __m512;
    using Number = float;
    static constexpr int kLanes = cspbench::kLanes;
    static Sum zero() { return _mm512_setzero_ps(); }
    static Sum add(Sum a, Sum b) { return _mm512_add_ps(a, b); }
    static Sum subtract(Sum a, Sum b) { return _mm512_sub_ps(a, b); }
    static Sum multiply_add(Sum a, Sum b, Sum to) { return _mm512_fmadd_ps(a, b, to); }
    static const float* vector(const Input& input) { return input.x; }
    static Sum load_input(const float* x) { return _mm512_loadu_ps(x); }
    static void store(const Packed&, const Input&, int32_t row, int32_t count, const Sum (&sums)[kTogether], float* y) {
        _mm_mask_storeu_ps(y + row, first_lanes(count), lane_sums(sums));
    }
};

struct Fp32 : Floating {
    using Stored = float;
    static __m512 load(const float* w) { return _mm512_loadu_ps(w); }
};

// Half of the bits of a float.
struct Half : Floating {
    using Stored = uint16_t;
};

struct Fp16 : Half {
    static __m512 decode(__m256i bits) { return _mm512_cvtph_ps(bits); }
    static __m512 load(const uint16_t* w) { return decode(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w))); }
};

struct Bf16 : Half {
    static __m512 decode(__m256i bits) { return floats_of_bf16(bits); }
    static __m512 load(const uint16_t* w) { return decode(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w))); }
};

struct Int8 {
    using Stored = int8_t;
    using Sum = __m512i;
    using Number = int32_t;
    static constexpr int kLanes = cspbench::kLanes;
    static Sum zero() { return _mm512_setzero_si512(); }
    static Sum add(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
    static Sum subtract(Sum a, Sum b) { return _mm512_sub_epi32(a, b); }
    static Sum multiply_add(Sum a, Sum b, Sum to) { return _mm512_add_epi32(_mm512_mullo_epi32(a, b), to); }
    static Sum load(const int8_t* w) {
        return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
    }
    static const int8_t* vector(const Input& input) { return input.q; }
    static Sum load_input(const int8_t* q) { return load(q); }
    static __m128 scaled(const Packed& m, const Input& input, int32_t row, __m128i sums) {
        const __m128 scale = _mm_mul_ps(_mm_loadu_ps(m.scales + row), _mm_set1_ps(input.scale));
        return _mm_mul_ps(scale, _mm_cvtepi32_ps(sums));
    }
    static void store(const Packed& m, const Input& input, int32_t row, int32_t count, const Sum (&sums)[kTogether],
                      float* y) {
        _mm_mask_storeu_ps(y + row, first_lanes(count), scaled(m, input, row, lane_sums(sums)));
    }
};

// ---- running over groups of rows and inputs: Group::group<B>(m, inputs, group, y, stride) writes one for B inputs

template <class Group>
void run_groups(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                ptrdiff_t stride) {
    for (int32_t group = first; group < last; ++group) {
        int b = 0;
        for (; b + kTogether <= batch; b += kTogether)
            Group::template group<kTogether>(m, inputs + b, group, y + b * stride, stride);
        for (; b < batch; ++b) Group::template group<1>(m, inputs + b, group, y + b * stride, stride);
    }
}

// vpdpbusd multiplies unsigned by signed bytes. Flipping its top bit makes a signed byte unsigned and larger by 128;
// that the sums are then too large, and may wrap round, is put right by what is subtracted, modulo 2^32 as well.
[[maybe_unused]] __m512i load_bytes(const void* from) { return _mm512_loadu_si512(from); }
[[maybe_unused]] __m512i top_bits() { return _mm512_set1_epi8(-128); }
[[maybe_unused]] __m512i plus_128(__m512i bytes) { return _mm512_xor_si512(bytes, top_bits()); }

}  // namespace
}  // namespace cspbench
