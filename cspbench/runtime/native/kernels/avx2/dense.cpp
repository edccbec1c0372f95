// Dense matrices for AVX2: as fast as the memory gives them.
#include "kernels/avx2/common.hpp"

namespace cspbench {
namespace {

template <class V>
struct Floating {
    template <int B>
    static void sum(const Packed& m, int32_t row, const Input* inputs, float* y, ptrdiff_t stride) {
        constexpr int kVectors = B == 1 ? 4 : 2;  // side by side: an addition waits for the one before it
        const auto* w = values_of<V>(m) + int64_t{row} * m.columns;
        __m256 sums[B][kVectors];
        for (auto& each : sums)
            for (__m256& vector : each) vector = _mm256_setzero_ps();
        for (int32_t c = 0; c < m.columns; c += 8 * kVectors)
            for (int i = 0; i < kVectors; ++i) {
                const __m256 weights = V::load(w + c + 8 * i);
                for (int b = 0; b < B; ++b)
                    sums[b][i] = _mm256_fmadd_ps(weights, _mm256_load_ps(inputs[b].x + c + 8 * i), sums[b][i]);
            }
        for (int b = 0; b < B; ++b) {
            __m256 sum = _mm256_add_ps(sums[b][0], sums[b][1]);
            if (kVectors == 4) sum = _mm256_add_ps(sum, _mm256_add_ps(sums[b][kVectors - 2], sums[b][kVectors - 1]));
            y[b * stride + row] = sum_of(sum);
        }
    }
};

struct Int8 {
    template <int B>
    static void sum(const Packed& m, int32_t row, const Input* inputs, float* y, ptrdiff_t stride) {
        const auto* w = static_cast<const int8_t*>(m.values) + int64_t{row} * m.columns;
        __m256i sums[B][2];
        for (auto& each : sums) each[0] = each[1] = _mm256_setzero_si256();
        for (int32_t c = 0; c < m.columns; c += 64)
            for (int i = 0; i < 2; ++i) {
                const __m256i weights = load_bytes(w + c + 32 * i);
                for (int b = 0; b < B; ++b)
                    sums[b][i] = add_products(sums[b][i], weights, load_bytes(inputs[b].q + c + 32 * i));
            }
        for (int b = 0; b < B; ++b) {
            const int32_t sum = sum_of(_mm256_add_epi32(sums[b][0], sums[b][1]));
            y[b * stride + row] = result(m, row, inputs[b], static_cast<float>(sum));
        }
    }
};

}  // namespace

void avx2::add_dense(Kernels& kernels) {
    set(kernels, Format::dense, Value::fp32, {by_rows<Floating<Fp32>>});
    set(kernels, Format::dense, Value::fp16, {by_rows<Floating<Fp16>>});
    set(kernels, Format::dense, Value::bf16, {by_rows<Floating<Bf16>>});
    set(kernels, Format::dense, Value::int8, {by_rows<Int8>});
}

}  // namespace cspbench
