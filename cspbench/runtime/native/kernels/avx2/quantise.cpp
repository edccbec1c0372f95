// Rounding an input to bytes, for AVX2.
#include <cstring>

#include "base/values.hpp"
#include "kernels/avx2/common.hpp"

namespace cspbench {
namespace {

// Bits of max |x|. Magnitudes order as their bits do, and what is not finite comes above all.
uint32_t largest_magnitude(const float* x, int32_t count) {
    __m256i largest = _mm256_setzero_si256();
    for (int32_t i = 0; i < count; i += 8)
        largest = _mm256_max_epi32(largest, _mm256_and_si256(load_bytes(x + i), _mm256_set1_epi32(0x7fffffff)));
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
    four = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epi32(four, _mm_shuffle_epi32(four, 1))));
}

// Adding 1.5 * 2^23 leaves no bits for a fraction: the processor rounds, half to even. No fused multiply-add: the
// portable kernel rounds the product, and all are to give the same.
__m256i rounded(const float* x, __m256 inverse) {
    const __m256 magic = _mm256_set1_ps(12582912.0f);
    const __m256 sum = _mm256_add_ps(_mm256_mul_ps(_mm256_load_ps(x), inverse), magic);
    return _mm256_sub_epi32(_mm256_castps_si256(sum), _mm256_castps_si256(magic));
}

void quantise(const float* x, int32_t count, int8_t* q, float* scale) {
    const uint32_t bits = largest_magnitude(x, count);
    const bool finite = bits < 0x7f800000;
    const float largest = float_of(bits);
    if (!finite || largest < 0x1p-100f) {
        *scale = finite ? 0 : float_of(0x7fc00000);
        memset(q, 0, static_cast<size_t>(count));
        return;
    }
    *scale = largest / 127;
    const __m256 inverse = _mm256_set1_ps(127 / largest);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packing works on each half of a register
    for (int32_t i = 0; i < count; i += 32) {
        const __m256i low = _mm256_packs_epi32(rounded(x + i, inverse), rounded(x + i + 8, inverse));
        const __m256i high = _mm256_packs_epi32(rounded(x + i + 16, inverse), rounded(x + i + 24, inverse));
        const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + i), bytes);
    }
}

}  // namespace

void avx2::add_quantise(Kernels& kernels) { kernels.quantise = quantise; }

}  // namespace cspbench
