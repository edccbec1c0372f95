// Blocks and N:M patterns for AVX2, floating point; shapes that do not fit registers are left to the kernels below.
#include <cstring>

#include "avx2.hpp"

namespace cspbench {
namespace {

// What was in the table before, by type of values. Set once, when the tables are made.
Kernel* block_below[kValues];
Kernel* nm_below[kValues];

// ---- blocks
//
// A block of 8 kVectors weights is that many registers, whatever its shape; their inputs repeat after each of its rows.

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
void multiply_blocks(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last,
                     float* y, ptrdiff_t stride) {
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
    if (!kernel) kernel = block_below[static_cast<int>(V::kValue)];
    kernel(m, inputs, batch, first, last, y, stride);
}

// ---- N:M
//
// Eight slots at a time, of 8 / n whole groups; n divides 8.

// Where the groups of eight slots begin, a byte each.
uint64_t group_offsets(int32_t n, int32_t m) {
    uint64_t offsets = 0;
    for (int slot = 0; slot < 8; ++slot) offsets |= static_cast<uint64_t>(slot / n * m) << (8 * slot);
    return offsets;
}

template <class V>
float sum_groups(const Packed& packed, const float* x, int32_t row) {
    const int32_t n = packed.parameter[0], m = packed.parameter[1], groups = (packed.columns + m - 1) / m;
    const int64_t slots = int64_t{groups} * n;
    const auto* w = values_of<V>(packed) + row * slots;
    const uint8_t* nibbles = packed.nibbles + row * ((slots + 1) / 2);
    const uint64_t offsets = group_offsets(n, m);
    __m256 sums = _mm256_setzero_ps();
    int64_t slot = 0;
    for (; slot + 8 <= slots; slot += 8, x += 8 / n * m) {
        uint32_t eight;
        memcpy(&eight, nibbles + slot / 2, sizeof eight);
        const uint64_t columns = _pdep_u64(eight, 0x0f0f0f0f0f0f0f0f) + offsets;
        const __m128 low = four_of(x, static_cast<uint32_t>(columns));
        const __m128 high = four_of(x, static_cast<uint32_t>(columns >> 32));
        sums = _mm256_fmadd_ps(_mm256_set_m128(high, low), V::load(w + slot), sums);
    }
    float rest[8] = {};
    _mm256_storeu_ps(rest, V::load(w + slot));
    float sum = sum_of(sums);
    for (int64_t i = slot; i < slots; ++i)
        sum += rest[i - slot] * x[(i - slot) / n * m + (nibbles[i / 2] >> (i % 2 * 4) & 15)];
    return sum;
}

template <class V>
void nm(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y, ptrdiff_t stride) {
    if (8 % m.parameter[0]) {
        nm_below[static_cast<int>(V::kValue)](m, inputs, batch, first, last, y, stride);
        return;
    }
    for (int32_t row = first; row < last; ++row)
        for (int b = 0; b < batch; ++b) y[b * stride + row] = sum_groups<V>(m, inputs[b].x, row);
}

template <class V>
void add(Kernels& kernels) {
    const int value = static_cast<int>(V::kValue);
    block_below[value] = kernels.at[static_cast<int>(Format::block)][value].kernel;
    nm_below[value] = kernels.at[static_cast<int>(Format::nm)][value].kernel;
    set(kernels, Format::block, V::kValue, block<V>);
    set(kernels, Format::nm, V::kValue, nm<V>);
}

}  // namespace

void add_blocks_avx2(Kernels& kernels) {
    add<Fp32>(kernels);
    add<Fp16>(kernels);
    add<Bf16>(kernels);
}

}  // namespace cspbench
