// Blocks of floating-point weights for AVX2; shapes that do not fit registers are left to the portable kernels.
//
// A block of 8 kVectors weights is that many registers, whatever its shape; their inputs repeat after each of its rows.
#include "kernels/avx2/common.hpp"

namespace cspbench {
namespace {

// The kernels of the table before, by type of values. Set once, when the tables are made.
Kernel* below[kValues];

template <int kWidth>
__m256 inputs_of(const float* x, int vector) {
    if (kWidth == 1) return _mm256_broadcast_ss(x);
    if (kWidth == 2) return _mm256_castpd_ps(_mm256_broadcast_sd(reinterpret_cast<const double*>(x)));
    if (kWidth == 4) return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(x));
    return _mm256_loadu_ps(x + 8 * vector % kWidth);
}

template <class V, int kWidth, int kVectors>
void sum_blocks(const Packed& m, const Input& input, int32_t unit, float* y) {
    constexpr int kHeight = 8 * kVectors / kWidth;
    __m256 sums[kVectors];
    for (__m256& sum : sums) sum = _mm256_setzero_ps();
    for (uint32_t i = m.starts[unit]; i < m.starts[unit + 1]; ++i) {
        const auto* w = values_of<V>(m) + int64_t{i} * (8 * kVectors);
        const float* x = input.x + m.places[i] * kWidth;
        for (int v = 0; v < kVectors; ++v)
            sums[v] = _mm256_fmadd_ps(V::load(w + 8 * v), inputs_of<kWidth>(x, v), sums[v]);
    }
    alignas(32) float parts[kHeight][kWidth];
    for (int v = 0; v < kVectors; ++v) _mm256_store_ps(&parts[0][0] + 8 * v, sums[v]);
    for (int r = 0; r < kHeight && unit * kHeight + r < m.rows; ++r) {
        float sum = 0;
        for (int c = 0; c < kWidth; ++c) sum += parts[r][c];
        y[unit * kHeight + r] = sum;
    }
}

template <class V, int kWidth, int kVectors>
void multiply_blocks(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                     ptrdiff_t stride) {
    for (int32_t unit = first; unit < last; ++unit)
        for (int b = 0; b < batch; ++b) sum_blocks<V, kWidth, kVectors>(m, inputs[b], unit, y + b * stride);
}

template <class V, int kWidth>
Kernel* block_kernel(int32_t weights) {
    switch (weights) {
        case 8: return multiply_blocks<V, kWidth, 1>;
        case 16: return multiply_blocks<V, kWidth, 2>;
        case 32: return multiply_blocks<V, kWidth, 4>;
        case 64: return multiply_blocks<V, kWidth, 8>;
        default: return nullptr;
    }
}

template <class V>
Kernel* block_kernel(int32_t height, int32_t width) {
    switch (width) {
        case 1: return block_kernel<V, 1>(height);
        case 2: return block_kernel<V, 2>(2 * height);
        case 4: return block_kernel<V, 4>(4 * height);
        case 8: return block_kernel<V, 8>(8 * height);
        default: return nullptr;
    }
}

template <class V>
void block(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y, ptrdiff_t stride) {
    Kernel* kernel = block_kernel<V>(m.parameter[0], m.parameter[1]);
    if (!kernel) kernel = below[static_cast<int>(V::kValue)];
    kernel(m, inputs, batch, first, last, y, stride);
}

template <class V>
void add(Kernels& kernels) {
    below[static_cast<int>(V::kValue)] = entry_of(kernels, Format::block, V::kValue).kernel;
    set(kernels, Format::block, V::kValue, {block<V>});
}

}  // namespace

void avx2::add_blocks(Kernels& kernels) {
    add<Fp32>(kernels);
    add<Fp16>(kernels);
    add<Bf16>(kernels);
}

}  // namespace cspbench
