// The instructions that the AVX-512 kernels use, in plain C++, for machines that lack them. Written after Intel's
// manual.
//
// SIMDe, which emulates them as well, is no substitute: Debian's libsimde-dev (0.7.4) lacks 19 of the 95 that are used
// here, among them vpexpandb, vpexpandw, masked gathers and the conversions between 8, 16 and 32 bits, and it is no
// package of PyPI, so that `make test` could not install it.
#pragma once

#include <cmath>

#include "registers.hpp"

using __m128 = emulated::Register<16, float>;
using __m128i = emulated::Register<16, int>;
using __m256 = emulated::Register<32, float>;
using __m256i = emulated::Register<32, int>;
using __m512 = emulated::Register<64, float>;
using __m512i = emulated::Register<64, int>;
using __mmask8 = uint8_t;
using __mmask16 = uint16_t;
using __mmask32 = uint32_t;
using __mmask64 = uint64_t;

namespace emulated {

// Any vector register from anywhere in another: casts and extraction.
template <class R, class A>
R part(const A& a, size_t index = 0) {
    R to{};
    const size_t bytes = sizeof(R) < sizeof(A) ? sizeof(R) : sizeof(A);
    std::memcpy(&to, a.raw + index * sizeof(R), bytes);
    return to;
}

template <class T, class R>
R sum(const R& a, const R& b) {
    return pairs<T>(a, b, [](T x, T y) { return x + y; });
}

// Lane i of the result is lane index[i] of `table`.
template <class T, class R, class Index, size_t N>
R permuted(const std::array<T, N>& table, const Index& index) {
    const auto at = split<T>(index);
    return made<R, T>([&](size_t i) { return table[static_cast<size_t>(at[i]) & (N - 1)]; });
}

template <class T, class R>
R permuted_of_two(const R& a, const R& b, const __m512i& index) {
    std::array<T, 2 * sizeof(R) / sizeof(T)> table;
    std::memcpy(table.data(), &a, sizeof a);
    std::memcpy(table.data() + table.size() / 2, &b, sizeof b);
    return permuted<T, R>(table, index);
}

template <class T, class R>
R chosen(uint64_t mask, const R& set, const R& clear) {
    const auto x = split<T>(set), y = split<T>(clear);
    return made<R, T>([&](size_t i) { return mask >> i & 1 ? x[i] : y[i]; });
}

template <class T, class R>
R expanded(uint64_t mask, const R& a) {
    const auto x = split<T>(a);
    size_t next = 0;
    return made<R, T>([&](size_t i) { return mask >> i & 1 ? x[next++] : T{0}; });
}

template <class T, class R>
uint64_t mask_of(const R& a, const R& b) {
    const auto x = split<T>(a), y = split<T>(b);
    uint64_t mask = 0;
    for (size_t i = 0; i < x.size(); ++i) mask |= static_cast<uint64_t>((x[i] & y[i]) != 0) << i;
    return mask;
}

// Adjacent lanes of each 128 bits, of a and then of b.
template <class T, class R>
R adjacent_sums(const R& a, const R& b) {
    const auto x = split<T>(a), y = split<T>(b);
    return made<R, T>([&](size_t i) {
        const auto& from = i % 4 < 2 ? x : y;
        const size_t at = i / 4 * 4 + i % 2 * 2;
        return from[at] + from[at + 1];
    });
}

template <class R>
R dot(const R& to, const R& unsigned_bytes, const R& signed_bytes) {
    const auto sums = split<uint32_t>(to);
    const auto x = split<uint8_t>(unsigned_bytes);
    const auto y = split<int8_t>(signed_bytes);
    return made<R, uint32_t>([&](size_t i) {
        uint32_t total = sums[i];
        for (size_t k = 4 * i; k < 4 * i + 4; ++k) total += static_cast<uint32_t>(int32_t{x[k]} * y[k]);
        return total;
    });
}

// The lower (0) or upper (4) four words of each 128 bits of a and b, by turns.
inline __m512i unpacked(const __m512i& a, const __m512i& b, size_t from) {
    const auto x = split<uint16_t>(a), y = split<uint16_t>(b);
    return made<__m512i, uint16_t>([&](size_t i) {
        const size_t at = i / 8 * 8 + from + i % 8 / 2;
        return i % 2 ? y[at] : x[at];
    });
}

template <class R, class T>
R gathered(const R& otherwise, __mmask16 mask, const __m512i& index, const void* base, int scale) {
    const auto at = split<int32_t>(index);
    const auto old = split<T>(otherwise);
    return made<R, T>([&](size_t i) {
        if (!(mask >> i & 1)) return old[i];
        return read<T>(static_cast<const char*>(base) + static_cast<ptrdiff_t>(at[i]) * scale);
    });
}

}  // namespace emulated

// ---- making, casting, taking apart

inline __m512 _mm512_setzero_ps() { return {}; }
inline __m512i _mm512_setzero_si512() { return {}; }
inline __m256i _mm256_setzero_si256() { return {}; }
inline __m128 _mm_set1_ps(float v) { return emulated::filled<float, __m128>(v); }
inline __m512 _mm512_set1_ps(float v) { return emulated::filled<float, __m512>(v); }
inline __m256i _mm256_set1_epi8(int8_t v) { return emulated::filled<int8_t, __m256i>(v); }
inline __m512i _mm512_set1_epi8(int8_t v) { return emulated::filled<int8_t, __m512i>(v); }
inline __m512i _mm512_set1_epi16(int16_t v) { return emulated::filled<int16_t, __m512i>(v); }
inline __m512i _mm512_set1_epi32(int32_t v) { return emulated::filled<int32_t, __m512i>(v); }
inline __m512i _mm512_set1_epi64(int64_t v) { return emulated::filled<int64_t, __m512i>(v); }
inline __m512i _mm512_set_epi64(int64_t h, int64_t g, int64_t f, int64_t e, int64_t d, int64_t c, int64_t b,
                                int64_t a) {
    return emulated::join<__m512i>(std::array<int64_t, 8>{a, b, c, d, e, f, g, h});
}
inline __m512i _mm512_setr_epi32(int a, int b, int c, int d, int e, int f, int g, int h, int i, int j, int k, int l, int m,
                                 int n, int o, int p) {
    return emulated::join<__m512i>(std::array<int32_t, 16>{a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p});
}
inline __m256i _mm256_setr_epi32(int a, int b, int c, int d, int e, int f, int g, int h) {
    return emulated::join<__m256i>(std::array<int32_t, 8>{a, b, c, d, e, f, g, h});
}
inline __m512 _mm512_castsi512_ps(__m512i a) { return emulated::part<__m512>(a); }
inline __m256 _mm512_castps512_ps256(__m512 a) { return emulated::part<__m256>(a); }
inline __m256i _mm512_castsi512_si256(__m512i a) { return emulated::part<__m256i>(a); }
inline __m128 _mm256_castps256_ps128(__m256 a) { return emulated::part<__m128>(a); }
inline __m128i _mm256_castsi256_si128(__m256i a) { return emulated::part<__m128i>(a); }
inline __m256 _mm512_extractf32x8_ps(__m512 a, int i) { return emulated::part<__m256>(a, i); }
inline __m256i _mm512_extracti64x4_epi64(__m512i a, int i) { return emulated::part<__m256i>(a, i); }
inline __m128 _mm256_extractf128_ps(__m256 a, int i) { return emulated::part<__m128>(a, i); }
inline __m128i _mm256_extracti128_si256(__m256i a, int i) { return emulated::part<__m128i>(a, i); }
// Nobody may rely on what the upper half becomes.
inline __m512i _mm512_castsi256_si512(__m256i a) {
    auto bytes = emulated::split<uint8_t>(emulated::part<__m512i>(a));
    for (size_t i = 32; i < 64; ++i) bytes[i] = static_cast<uint8_t>(37 * i);
    return emulated::join<__m512i>(bytes);
}
inline __m256i _mm256_zextsi128_si256(__m128i a) { return emulated::part<__m256i>(a); }
inline __m512i _mm512_zextsi256_si512(__m256i a) { return emulated::part<__m512i>(a); }

inline __m128i _mm_cvtsi32_si128(int32_t v) {
    return emulated::join<__m128i>(std::array<int32_t, 4>{v, 0, 0, 0});
}
inline __m512i _mm512_broadcastd_epi32(__m128i a) {
    return emulated::filled<int32_t, __m512i>(emulated::split<int32_t>(a)[0]);
}
inline __m512i _mm512_mask_broadcastd_epi32(__m512i old, __mmask16 mask, __m128i a) {
    return emulated::chosen<int32_t>(mask, _mm512_broadcastd_epi32(a), old);
}
inline __m512 _mm512_broadcast_f32x4(__m128 a) {
    const auto four = emulated::split<float>(a);
    return emulated::made<__m512, float>([&](size_t i) { return four[i % 4]; });
}

// ---- memory

inline __m128 _mm_loadu_ps(const float* p) { return emulated::read<__m128>(p); }
inline __m128i _mm_loadu_si128(const __m128i* p) { return emulated::read<__m128i>(p); }
inline __m256i _mm256_loadu_si256(const __m256i* p) { return emulated::read<__m256i>(p); }
inline __m512 _mm512_loadu_ps(const void* p) { return emulated::read<__m512>(p); }
inline __m512i _mm512_loadu_si512(const void* p) { return emulated::read<__m512i>(p); }
// As the sanitiser has it, these fail where memory is not aligned.
inline __m512 _mm512_load_ps(const void* p) { return *static_cast<const __m512*>(p); }
inline __m512i _mm512_load_si512(const void* p) { return *static_cast<const __m512i*>(p); }
inline void _mm512_store_si512(void* p, __m512i a) { *static_cast<__m512i*>(p) = a; }
inline void _mm_storeu_si128(__m128i* p, __m128i a) { std::memcpy(static_cast<void*>(p), &a, sizeof a); }
inline void _mm256_storeu_si256(__m256i* p, __m256i a) { std::memcpy(static_cast<void*>(p), &a, sizeof a); }
inline void _mm512_storeu_ps(void* p, __m512 a) { std::memcpy(p, &a, sizeof a); }
inline void _mm512_storeu_si512(void* p, __m512i a) { std::memcpy(p, &a, sizeof a); }
inline void _mm_mask_storeu_ps(float* p, __mmask8 mask, __m128 a) {
    for (size_t i = 0; i < 4; ++i)
        if (mask >> i & 1) p[i] = emulated::split<float>(a)[i];
}
inline __m512i _mm512_maskz_loadu_epi8(__mmask64 mask, const void* p) {
    const auto* from = static_cast<const uint8_t*>(p);
    return emulated::made<__m512i, uint8_t>([&](size_t i) { return mask >> i & 1 ? from[i] : uint8_t{0}; });
}
inline __m512 _mm512_mask_i32gather_ps(__m512 old, __mmask16 mask, __m512i index, const void* base, int scale) {
    return emulated::gathered<__m512, float>(old, mask, index, base, scale);
}
inline __m512i _mm512_mask_i32gather_epi32(__m512i old, __mmask16 mask, __m512i index, const void* base, int scale) {
    return emulated::gathered<__m512i, int32_t>(old, mask, index, base, scale);
}

// ---- arithmetic

inline __m128 _mm_add_ps(__m128 a, __m128 b) { return emulated::sum<float>(a, b); }
inline __m256 _mm256_add_ps(__m256 a, __m256 b) { return emulated::sum<float>(a, b); }
inline __m512 _mm512_add_ps(__m512 a, __m512 b) { return emulated::sum<float>(a, b); }
inline __m128i _mm_add_epi32(__m128i a, __m128i b) { return emulated::sum<uint32_t>(a, b); }
inline __m256i _mm256_add_epi32(__m256i a, __m256i b) { return emulated::sum<uint32_t>(a, b); }
inline __m512i _mm512_add_epi32(__m512i a, __m512i b) { return emulated::sum<uint32_t>(a, b); }
inline __m128 _mm_unpacklo_ps(__m128 a, __m128 b) {
    const auto x = emulated::split<float>(a), y = emulated::split<float>(b);
    return emulated::join<__m128>(std::array<float, 4>{x[0], y[0], x[1], y[1]});
}
inline __m512 _mm512_sub_ps(__m512 a, __m512 b) {
    return emulated::pairs<float>(a, b, [](float x, float y) { return x - y; });
}
inline __m128i _mm_sub_epi32(__m128i a, __m128i b) {
    return emulated::pairs<uint32_t>(a, b, [](uint32_t x, uint32_t y) { return x - y; });
}
inline __m256i _mm256_sub_epi32(__m256i a, __m256i b) {
    return emulated::pairs<uint32_t>(a, b, [](uint32_t x, uint32_t y) { return x - y; });
}
inline __m512i _mm512_sub_epi32(__m512i a, __m512i b) {
    return emulated::pairs<uint32_t>(a, b, [](uint32_t x, uint32_t y) { return x - y; });
}
inline __m128 _mm_mul_ps(__m128 a, __m128 b) {
    return emulated::pairs<float>(a, b, [](float x, float y) { return x * y; });
}
inline __m512 _mm512_mul_ps(__m512 a, __m512 b) {
    return emulated::pairs<float>(a, b, [](float x, float y) { return x * y; });
}
inline __m512i _mm512_mullo_epi32(__m512i a, __m512i b) {
    return emulated::pairs<uint32_t>(a, b, [](uint32_t x, uint32_t y) { return x * y; });
}
inline __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
    const auto x = emulated::split<float>(a), y = emulated::split<float>(b), z = emulated::split<float>(c);
    return emulated::made<__m512, float>([&](size_t i) { return std::fma(x[i], y[i], z[i]); });
}
inline __m512i _mm512_max_epi32(__m512i a, __m512i b) {
    return emulated::pairs<int32_t>(a, b, [](int32_t x, int32_t y) { return x > y ? x : y; });
}
inline int32_t _mm512_reduce_max_epi32(__m512i a) {
    int32_t largest = INT32_MIN;
    for (int32_t x : emulated::split<int32_t>(a)) largest = x > largest ? x : largest;
    return largest;
}
inline __m256 _mm256_hadd_ps(__m256 a, __m256 b) { return emulated::adjacent_sums<float>(a, b); }
inline __m256i _mm256_hadd_epi32(__m256i a, __m256i b) { return emulated::adjacent_sums<uint32_t>(a, b); }
inline __m256i _mm256_dpbusd_epi32(__m256i to, __m256i a, __m256i b) { return emulated::dot(to, a, b); }
inline __m512i _mm512_dpbusd_epi32(__m512i to, __m512i a, __m512i b) { return emulated::dot(to, a, b); }

// ---- bits

constexpr int _MM_HINT_T0 = 3;
inline void _mm_prefetch(const char*, int) {}  // of any address: it never faults

inline int64_t _mm_popcnt_u64(uint64_t word) {
    int64_t count = 0;
    for (; word; word &= word - 1) ++count;
    return count;
}
inline int _mm_popcnt_u32(uint32_t word) { return static_cast<int>(_mm_popcnt_u64(word)); }
inline __m512i _mm512_and_si512(__m512i a, __m512i b) {
    return emulated::pairs<uint64_t>(a, b, [](uint64_t x, uint64_t y) { return x & y; });
}
inline __m512i _mm512_or_si512(__m512i a, __m512i b) {
    return emulated::pairs<uint64_t>(a, b, [](uint64_t x, uint64_t y) { return x | y; });
}
inline __m256i _mm256_xor_si256(__m256i a, __m256i b) {
    return emulated::pairs<uint64_t>(a, b, [](uint64_t x, uint64_t y) { return x ^ y; });
}
inline __m512i _mm512_xor_si512(__m512i a, __m512i b) {
    return emulated::pairs<uint64_t>(a, b, [](uint64_t x, uint64_t y) { return x ^ y; });
}
inline __m512i _mm512_slli_epi16(__m512i a, unsigned count) {
    return emulated::each<uint16_t>(a, [&](uint16_t x) { return x << count; });
}
inline __m128i _mm_slli_epi32(__m128i a, unsigned count) {
    return emulated::each<uint32_t>(a, [&](uint32_t x) { return x << count; });
}
inline __m512i _mm512_slli_epi32(__m512i a, unsigned count) {
    return emulated::each<uint32_t>(a, [&](uint32_t x) { return x << count; });
}
inline __m512i _mm512_srli_epi32(__m512i a, unsigned count) {
    return emulated::each<uint32_t>(a, [&](uint32_t x) { return x >> count; });
}
inline __m512i _mm512_srai_epi32(__m512i a, unsigned count) {
    return emulated::each<int32_t>(a, [&](int32_t x) { return x >> count; });
}
inline __m512i _mm512_multishift_epi64_epi8(__m512i places, __m512i from) {
    const auto at = emulated::split<uint8_t>(places);
    const auto words = emulated::split<uint64_t>(from);
    return emulated::made<__m512i, uint8_t>([&](size_t i) {
        const unsigned shift = at[i] & 63;
        const uint64_t word = words[i / 8];
        return shift ? word >> shift | word << (64 - shift) : word;
    });
}

// ---- masks

inline __mmask16 _mm512_test_epi32_mask(__m512i a, __m512i b) {
    return static_cast<__mmask16>(emulated::mask_of<uint32_t>(a, b));
}
inline __mmask32 _mm512_test_epi16_mask(__m512i a, __m512i b) {
    return static_cast<__mmask32>(emulated::mask_of<uint16_t>(a, b));
}
inline __mmask64 _mm512_movepi8_mask(__m512i a) { return emulated::mask_of<uint8_t>(a, _mm512_set1_epi8(-128)); }
inline __mmask32 _mm256_movepi8_mask(__m256i a) {
    return static_cast<__mmask32>(emulated::mask_of<uint8_t>(a, _mm256_set1_epi8(-128)));
}
inline __m512 _mm512_mask_blend_ps(__mmask16 mask, __m512 a, __m512 b) { return emulated::chosen<float>(mask, b, a); }
inline __m512i _mm512_mask_blend_epi8(__mmask64 mask, __m512i a, __m512i b) {
    return emulated::chosen<uint8_t>(mask, b, a);
}
inline __m512i _mm512_mask_mov_epi16(__m512i a, __mmask32 mask, __m512i b) {
    return emulated::chosen<uint16_t>(mask, b, a);
}
inline __m512i _mm512_mask_mov_epi8(__m512i a, __mmask64 mask, __m512i b) {
    return emulated::chosen<uint8_t>(mask, b, a);
}
inline __m512i _mm512_maskz_mov_epi8(__mmask64 mask, __m512i a) { return emulated::chosen<uint8_t>(mask, a, {}); }
inline __m512i _mm512_maskz_mov_epi32(__mmask16 mask, __m512i a) { return emulated::chosen<uint32_t>(mask, a, {}); }
inline __m256i _mm256_mask_mov_epi8(__m256i a, __mmask32 mask, __m256i b) {
    return emulated::chosen<uint8_t>(mask, b, a);
}
inline __m512 _mm512_maskz_expand_ps(__mmask16 mask, __m512 a) { return emulated::expanded<float>(mask, a); }
inline __m512i _mm512_mask_expand_epi16(__m512i from, __mmask32 mask, __m512i a) {
    return emulated::chosen<uint16_t>(mask, emulated::expanded<uint16_t>(mask, a), from);
}
inline __m512i _mm512_mask_expand_epi8(__m512i from, __mmask64 mask, __m512i a) {
    return emulated::chosen<uint8_t>(mask, emulated::expanded<uint8_t>(mask, a), from);
}

// ---- moving lanes about

inline __m512i _mm512_permutexvar_epi8(__m512i index, __m512i a) {
    return emulated::permuted<uint8_t, __m512i>(emulated::split<uint8_t>(a), index);
}
inline __m512i _mm512_maskz_permutexvar_epi32(__mmask16 mask, __m512i index, __m512i a) {
    return emulated::chosen<uint32_t>(mask, emulated::permuted<uint32_t, __m512i>(emulated::split<uint32_t>(a), index),
                                      {});
}
inline __m512 _mm512_maskz_permutexvar_ps(__mmask16 mask, __m512i index, __m512 a) {
    return emulated::chosen<uint32_t>(mask, emulated::permuted<uint32_t, __m512>(emulated::split<uint32_t>(a), index),
                                      {});
}
inline __m512 _mm512_permutexvar_ps(__m512i index, __m512 a) {
    return emulated::permuted<uint32_t, __m512>(emulated::split<uint32_t>(a), index);
}
// Of each four lanes two of a and two of b.
inline __m512 _mm512_shuffle_ps(__m512 a, __m512 b, int which) {
    const auto from_a = emulated::split<float>(a), from_b = emulated::split<float>(b);
    return emulated::made<__m512, float>([&](size_t i) {
        const size_t at = i / 4 * 4 + (static_cast<unsigned>(which) >> (i % 4 * 2) & 3);
        return i % 4 < 2 ? from_a[at] : from_b[at];
    });
}
inline __m256i _mm256_permutevar8x32_epi32(__m256i a, __m256i index) {
    return emulated::permuted<uint32_t, __m256i>(emulated::split<uint32_t>(a), index);
}
inline __m512i _mm512_permutex2var_epi8(__m512i a, __m512i index, __m512i b) {
    return emulated::permuted_of_two<uint8_t>(a, b, index);
}
inline __m512i _mm512_permutex2var_epi16(__m512i a, __m512i index, __m512i b) {
    return emulated::permuted_of_two<uint16_t>(a, b, index);
}
inline __m512 _mm512_permutex2var_ps(__m512 a, __m512i index, __m512 b) {
    return emulated::permuted_of_two<uint32_t>(a, b, index);
}
inline __m512i _mm512_unpacklo_epi16(__m512i a, __m512i b) { return emulated::unpacked(a, b, 0); }
inline __m512i _mm512_unpackhi_epi16(__m512i a, __m512i b) { return emulated::unpacked(a, b, 4); }

// ---- converting

inline __m512i _mm512_cvtepi8_epi32(__m128i a) { return emulated::converted<__m512i, int32_t, int8_t>(a); }
inline __m512i _mm512_cvtepu16_epi32(__m256i a) { return emulated::converted<__m512i, uint32_t, uint16_t>(a); }
inline __m512i _mm512_cvtepu8_epi16(__m256i a) { return emulated::converted<__m512i, uint16_t, uint8_t>(a); }
inline __m128i _mm512_cvtepi32_epi8(__m512i a) { return emulated::converted<__m128i, uint8_t, uint32_t>(a); }
inline __m256i _mm512_cvtepi32_epi16(__m512i a) { return emulated::converted<__m256i, uint16_t, uint32_t>(a); }
inline __m512 _mm512_cvtepi32_ps(__m512i a) { return emulated::converted<__m512, float, int32_t>(a); }
inline __m128 _mm_cvtepi32_ps(__m128i a) { return emulated::converted<__m128, float, int32_t>(a); }
inline __m512i _mm512_cvtps_epi32(__m512 a) {
    const auto x = emulated::split<float>(a);
    return emulated::made<__m512i, int32_t>([&](size_t i) { return std::nearbyint(x[i]); });
}
inline __m512 _mm512_cvtph_ps(__m256i a) {
    const auto x = emulated::split<uint16_t>(a);
    return emulated::made<__m512, float>([&](size_t i) { return emulated::float_of_half(x[i]); });
}
