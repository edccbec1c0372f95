// Rows of entries (csr16, csr8) for AVX2: inputs are loaded one by one, floating-point weights four at a time. A row's
// last entries are multiplied with the same code, what follows them masked out, so that no row ends in a loop of its
// own.
#include <cstring>

#include "kernels/avx2/common.hpp"
#include "kernels/shared/gather.hpp"

namespace cspbench {
namespace {

constexpr uint32_t kTogether = 8;
constexpr int kAhead = 2048;  // bytes of values

// `left` lanes of ones, then zeros.
__m256 first_lanes(uint32_t left) {
    alignas(32) static constexpr int32_t kOnes[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_castsi256_ps(load_bytes(kOnes + 8 - left));
}

// Both give the inputs of eight entries. `left` of them are the row's; what the others are does not matter.
struct Csr16 {
    const uint16_t* places;

    Csr16(const Packed& m, uint32_t start) : places(m.places + start) {}

    __m256 next(const float* x, uint32_t) {
        const uint16_t* p = places;
        places += kTogether;
        return _mm256_set_m128(four_of(x, p[4], p[5], p[6], p[7]), four_of(x, p[0], p[1], p[2], p[3]));
    }
};

struct Csr8 {
    const uint8_t* gaps;
    size_t column = 0;

    Csr8(const Packed& m, uint32_t start) : gaps(m.gaps + start) {}

    // Prefix sums of four gaps by one multiplication: a chain of eight additions would be what everything waits for.
    static uint64_t sums_of(uint32_t four) {
        return _pdep_u64(four, 0x00ff00ff00ff00ff) * 0x0001000100010001 + 0x0003000200010000;
    }

    static __m128 four_at(const float* x, uint64_t sums) {
        return four_of(x, sums & 0xffff, sums >> 16 & 0xffff, sums >> 32 & 0xffff, sums >> 48);
    }

    __m256 next(const float* x, uint32_t left) {
        uint64_t eight;
        memcpy(&eight, gaps, sizeof eight);
        eight = _bzhi_u64(eight, 8 * left);  // other rows' gaps would lead astray
        gaps += kTogether;
        const uint64_t low = sums_of(static_cast<uint32_t>(eight)), high = sums_of(static_cast<uint32_t>(eight >> 32));
        const float* here = x + column;
        const float* there = here + (low >> 48) + 1;
        column += (low >> 48) + (high >> 48) + 2;
        return _mm256_set_m128(four_at(there, high), four_at(here, low));
    }
};

template <class Entries, class V>
void multiply(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
              ptrdiff_t stride) {
    for (int32_t row = first; row < last; ++row) {
        const uint32_t start = m.starts[row], count = m.starts[row + 1] - start;
        for (int b = 0; b < batch; ++b) {
            Entries entries(m, start);
            const auto* w = values_of<V>(m) + start;
            __m256 sums = _mm256_setzero_ps();
            uint32_t i = 0;
            for (; i + kTogether <= count; i += kTogether) {
                prefetch(w + i, kAhead);
                sums = _mm256_fmadd_ps(entries.next(inputs[b].x, kTogether), V::load(w + i), sums);
            }
            const __m256 mask = first_lanes(count - i);
            const __m256 x = _mm256_and_ps(entries.next(inputs[b].x, count - i), mask);
            y[b * stride + row] = sum_of(_mm256_fmadd_ps(x, _mm256_and_ps(V::load(w + i), mask), sums));
        }
    }
}

struct Csr16Bytes {
    template <int B>
    static void sum(const Packed& m, int32_t row, const Input* inputs, float* y, ptrdiff_t stride) {
        alignas(32) int8_t x[kStretch];
        const uint32_t first = m.starts[row], end = m.starts[row + 1];
        for (int b = 0; b < B; ++b) {
            __m256i sums = _mm256_setzero_si256();
            for (uint32_t start = first; start < end; start += kStretch) {
                const uint32_t count = end - start < kStretch ? end - start : kStretch;
                const int8_t* w = static_cast<const int8_t*>(m.values) + start;
                gather_bytes(inputs[b].q, m.places + start, count, x);
                for (uint32_t i = 0; i < count; i += 32)
                    sums = add_products(sums, load_bytes(w + i), load_bytes(x + i));
            }
            y[b * stride + row] = result(m, row, inputs[b], static_cast<float>(sum_of(sums)));
        }
    }
};

template <class V>
void add(Kernels& kernels) {
    set(kernels, Format::csr16, V::kValue, {multiply<Csr16, V>});
    set(kernels, Format::csr8, V::kValue, {multiply<Csr8, V>});
}

}  // namespace

void avx2::add_csr(Kernels& kernels) {
    add<Fp32>(kernels);
    add<Fp16>(kernels);
    add<Bf16>(kernels);
    set(kernels, Format::csr16, Value::int8, {by_rows<Csr16Bytes>});
}

}  // namespace cspbench
