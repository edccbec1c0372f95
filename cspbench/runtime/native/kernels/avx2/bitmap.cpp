// Bitmaps for AVX2: eight columns at a time, the stored values are moved to where the bits are set.
#include <cstring>

#include "kernels/avx2/common.hpp"
#include "kernels/shared/bitmap.hpp"

namespace cspbench {
namespace {

constexpr int kAhead = 4096;  // bytes of values

int count_of(uint8_t bits) { return _mm_popcnt_u32(bits); }

// For every byte of bits: which value each column takes, negative if the column is stored.
struct Expansion {
    alignas(64) int8_t of[256][8];

    constexpr Expansion() : of() {
        for (int bits = 0; bits < 256; ++bits)
            for (int column = 0, value = 0; column < 8; ++column)
                if (bits >> column & 1) of[bits][column] = static_cast<int8_t>(INT8_MIN + value++);
    }
};
constexpr Expansion kExpansion{};

template <class V, int Lanes>
struct Floating {
    template <int B>
    static void sum(const Packed& m, int32_t row, const Input* inputs, float* y, ptrdiff_t stride) {
        constexpr int kVectors = B == 1 ? 4 : 1;  // side by side: an addition waits for the one before it
        BitmapRow<typename V::Stored, Lanes> words(m, row);
        const auto*& w = words.at;
        __m256 sums[B][kVectors];
        for (auto& each : sums)
            for (__m256& vector : each) vector = _mm256_setzero_ps();
        for (int32_t left = 0; left < m.columns; left += 64, words.skip()) {
            const auto* bits = reinterpret_cast<const uint8_t*>(words.word);
            prefetch(bits, kAhead / 8);
            for (int j = 0; j < 8; ++j) {
                if (j % 4 == 0)
                    for (size_t at = 0; at < 32 * sizeof *w; at += 64) prefetch(w, kAhead + static_cast<int>(at));
                const auto* expansion = reinterpret_cast<const __m128i*>(kExpansion.of[bits[j]]);
                const __m256i places = _mm256_cvtepi8_epi32(_mm_loadl_epi64(expansion));
                const __m256 values = _mm256_permutevar8x32_ps(V::load(w), places);
                w += count_of(bits[j]);
                for (int b = 0; b < B; ++b) {
                    __m256& sum = sums[b][j % kVectors];
                    sum = _mm256_fmadd_ps(values, _mm256_maskload_ps(inputs[b].x + left + 8 * j, places), sum);
                }
            }
        }
        for (int b = 0; b < B; ++b) {
            for (int j = 1; j < kVectors; ++j) sums[b][0] = _mm256_add_ps(sums[b][0], sums[b][j]);
            y[b * stride + row] = sum_of(sums[b][0]);
        }
    }
};

// For every byte of bits: a byte of ones for each column that is stored.
struct Bytes {
    alignas(64) uint64_t of[256];

    constexpr Bytes() : of() {
        for (int bits = 0; bits < 256; ++bits)
            for (int column = 0; column < 8; ++column)
                if (bits >> column & 1) of[bits] |= uint64_t{0xff} << (8 * column);
    }
};
constexpr Bytes kBytes{};

constexpr int32_t kStretch = 1024;  // columns expanded before they are multiplied

// Writes a word's 64 weights with their zeros; returns what follows those that are stored.
const int8_t* expand(uint64_t word, const int8_t* w, int8_t* to) {
    for (int i = 0; i < 8; ++i, word >>= 8) {
        uint64_t values;
        memcpy(&values, w, sizeof values);
        values = _pdep_u64(values, kBytes.of[word & 0xff]);
        memcpy(to + 8 * i, &values, sizeof values);
        w += count_of(static_cast<uint8_t>(word));
    }
    return w;
}

template <int Lanes>
struct Int8 {
    template <int B>
    static void sum(const Packed& m, int32_t row, const Input* inputs, float* y, ptrdiff_t stride) {
        BitmapRow<int8_t, Lanes> words(m, row);
        alignas(64) int8_t weights[kStretch];
        __m256i sums[B][2];
        for (auto& each : sums) each[0] = each[1] = _mm256_setzero_si256();
        for (int32_t start = 0; start < m.columns; start += kStretch) {
            const int32_t stretch = m.columns - start < kStretch ? m.columns - start : kStretch;
            for (int32_t c = 0; c < stretch; c += 64, words.skip())
                words.at = expand(*words.word, words.at, weights + c);
            for (int32_t c = 0; c < stretch; c += 64)
                for (int b = 0; b < B; ++b)
                    for (int i = 0; i < 2; ++i) {
                        const __m256i q = load_bytes(inputs[b].q + start + c + 32 * i);
                        sums[b][i] = add_products(sums[b][i], load_bytes(weights + c + 32 * i), q);
                    }
        }
        for (int b = 0; b < B; ++b) {
            const int32_t sum = sum_of(_mm256_add_epi32(sums[b][0], sums[b][1]));
            y[b * stride + row] = result(m, row, inputs[b], static_cast<float>(sum));
        }
    }
};

template <class One, class Four>
void run(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y, ptrdiff_t stride) {
    const auto kernel = m.parameter[0] == 1 ? by_rows<One> : by_rows<Four>;
    kernel(m, inputs, batch, top_of(m, first), top_of(m, last), y, stride);
}

template <class V>
void add(Kernels& kernels) {
    set(kernels, Format::bitmap, V::kValue, {run<Floating<V, 1>, Floating<V, kBitmapLanes>>});
}

}  // namespace

void avx2::add_bitmap(Kernels& kernels) {
    add<Fp32>(kernels);
    add<Fp16>(kernels);
    add<Bf16>(kernels);
    set(kernels, Format::bitmap, Value::int8, {run<Int8<1>, Int8<kBitmapLanes>>});
}

}  // namespace cspbench
