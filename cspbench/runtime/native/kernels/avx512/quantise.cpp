// Rounding an input to bytes, for AVX-512.
#include <cstring>

#include "kernels/avx512/common.hpp"

namespace cspbench {
namespace {

constexpr int32_t kInfinity = 0x7f800000;

// Magnitudes order as their bits do, and what is not finite comes above all.
int32_t largest_magnitude(const float* x, int32_t count) {
    __m512i largest = _mm512_setzero_si512();
    for (int32_t i = 0; i < count; i += kLanes) {
        const __m512i bits = _mm512_loadu_si512(x + i);
        largest = _mm512_max_epi32(largest, _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)));
    }
    return _mm512_reduce_max_epi32(largest);
}

// The same bits as the portable one.
void quantise(const float* x, int32_t count, int8_t* q, float* scale) {
    const int32_t bits = largest_magnitude(x, count);
    float largest;
    std::memcpy(&largest, &bits, sizeof largest);
    if (bits >= kInfinity || largest < 0x1p-100f) {
        *scale = bits >= kInfinity ? __builtin_nanf("") : 0;
        std::memset(q, 0, static_cast<size_t>(count));
        return;
    }
    *scale = largest / 127;
    const __m512 inverse = _mm512_set1_ps(127 / largest);
    for (int32_t i = 0; i < count; i += kLanes) {
        const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), inverse));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(q + i), _mm512_cvtepi32_epi8(rounded));
    }
}

}  // namespace

void avx512::add_quantise(Kernels& kernels) { kernels.quantise = quantise; }

}  // namespace cspbench
