// N:M patterns of floating-point weights for AVX2, eight slots at a time, of 8 / n whole groups. The portable kernels
// do those whose n does not divide 8.
#include <cstring>

#include "kernels/avx2/common.hpp"

namespace cspbench {
namespace {

// The kernels of the table before, by type of values. Set once, when the tables are made.
Kernel* below[kValues];

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
        below[static_cast<int>(V::kValue)](m, inputs, batch, first, last, y, stride);
        return;
    }
    for (int32_t row = first; row < last; ++row)
        for (int b = 0; b < batch; ++b) y[b * stride + row] = sum_groups<V>(m, inputs[b].x, row);
}

template <class V>
void add(Kernels& kernels) {
    below[static_cast<int>(V::kValue)] = entry_of(kernels, Format::nm, V::kValue).kernel;
    set(kernels, Format::nm, V::kValue, {nm<V>});
}

}  // namespace

void avx2::add_nm(Kernels& kernels) {
    add<Fp32>(kernels);
    add<Fp16>(kernels);
    add<Bf16>(kernels);
}

}  // namespace cspbench
