// Blocks for AVX-512.
#include "kernels/shared/blocks.hpp"

#include <cstring>

#include "kernels/avx512/bytes.hpp"

namespace cspbench {
namespace {

struct Repeated {
    using Pattern = __m512i;
    static Pattern pattern_of(int32_t lanes) {
        int32_t places[kLanes];
        for (int32_t lane = 0; lane < kLanes; ++lane) places[lane] = lane % lanes;
        return _mm512_loadu_si512(places);
    }
    static __mmask16 mask_of(int32_t own) { return static_cast<__mmask16>((1u << own) - 1); }
    static __m512 repeated(Pattern pattern, int32_t own, __m512 x) {
        return _mm512_maskz_permutexvar_ps(mask_of(own), pattern, x);
    }
    static __m512i repeated(Pattern pattern, int32_t own, __m512i x) {
        return _mm512_maskz_permutexvar_epi32(mask_of(own), pattern, x);
    }
    static void write(float* to, __m512 sums) { _mm512_storeu_ps(to, sums); }
    static void write(int32_t* to, __m512i sums) { _mm512_storeu_si512(to, sums); }
};

// One column of any type of values.
template <class V>
struct Single : V, Repeated {
    static constexpr int32_t kColumns = 1;
    static typename V::Sum weights(const typename V::Stored* w) { return V::load(w); }
    static typename V::Sum excess(typename V::Sum, typename V::Sum to) { return to; }
};

// Four columns of bytes; weights are larger by 128.
struct Quad : Int8, Repeated {
    static constexpr int32_t kColumns = 4;
    static Sum weights(const int8_t* w) { return plus_128(load_bytes(w)); }
    static Sum load_input(const int8_t* q) { return load_bytes(q); }
    static Sum multiply_add(Sum weights, Sum x, Sum to) { return _mm512_dpbusd_epi32(to, weights, x); }
    static Sum excess(Sum x, Sum to) { return _mm512_dpbusd_epi32(to, top_bits(), x); }
};

// ---- blocks of four columns and four or eight rows: the load of a block's inputs repeats them for each row


constexpr int32_t kNarrow = 4;  // columns

// Sixteen products, four of each of four rows, added up for each row.
__m128 row_sums(__m512 products) {
    const __m256 upper = _mm512_castps512_ps256(products), lower = _mm512_extractf32x8_ps(products, 1);
    const __m256 pairs = _mm256_hadd_ps(upper, lower), sums = _mm256_hadd_ps(pairs, pairs);  // rows 0 2 0 2 1 3 1 3
    return _mm_unpacklo_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}

// Rows of the matrix from `row` on, at most four.
__mmask8 rows_left(const Packed& m, int32_t row) {
    return first_lanes(m.rows - row < kTogether ? (m.rows > row ? m.rows - row : 0) : kTogether);
}

template <class V, int Height>
struct NarrowFloats {
    static constexpr int kVectors = Height / 4;
    static constexpr int kChains = 4 / kVectors;  // of additions, for their delay

    template <int B>
    struct Sums {
        __m512 of[B][kVectors];

        void add(const typename V::Stored* w, const Input* inputs, int32_t place) {
            for (int v = 0; v < kVectors; ++v) {
                const __m512 weights = V::load(w + v * kLanes);
                for (int b = 0; b < B; ++b) {
                    const __m512 x = _mm512_broadcast_f32x4(_mm_loadu_ps(inputs[b].x + place * kNarrow));
                    of[b][v] = _mm512_fmadd_ps(weights, x, of[b][v]);
                }
            }
        }
    };

    template <int B>
    static void group(const Packed& m, const Input* inputs, int32_t unit, float* y, ptrdiff_t stride) {
        constexpr int kBlock = Height * kNarrow;
        Sums<B> sums[kChains];
        for (auto& each : sums)
            for (auto& of : each.of)
                for (__m512& sum : of) sum = _mm512_setzero_ps();
        uint32_t i = m.starts[unit];
        const uint32_t end = m.starts[unit + 1];
        const auto* w = values_of<typename V::Stored>(m) + int64_t{i} * kBlock;
        for (; i + kChains <= end; i += kChains)
            for (int k = 0; k < kChains; ++k, w += kBlock) {
                for (size_t at = 0; at < kBlock * sizeof *w; at += 64) prefetch(w, kAhead + static_cast<int>(at));
                sums[k].add(w, inputs, m.places[i + k]);
            }
        for (; i < end; ++i, w += kBlock) sums[0].add(w, inputs, m.places[i]);
        for (int b = 0; b < B; ++b)
            for (int v = 0; v < kVectors; ++v) {
                __m512 sum = sums[0].of[b][v];
                for (int k = 1; k < kChains; ++k) sum = _mm512_add_ps(sum, sums[k].of[b][v]);
                const int32_t row = unit * Height + v * kTogether;
                _mm_mask_storeu_ps(y + b * stride + row, rows_left(m, row), row_sums(sum));
            }
    }
};

// Bytes of several blocks to a vector: four columns of a row to a lane.
template <int Height>
struct NarrowBytes {
    static constexpr int kBlocks = kLanes / Height;
    static constexpr int kChains = 2;

    // The four inputs of each of kBlocks blocks, as often as a block has rows.
    static __m512i inputs_of(const uint8_t* x, const uint16_t* places) {
        __m512i found = _mm512_broadcastd_epi32(four(x, places[0]));
        for (int k = 1; k < kBlocks; ++k) {
            const auto lanes = static_cast<__mmask16>(((1u << Height) - 1) << k * Height);
            found = _mm512_mask_broadcastd_epi32(found, lanes, four(x, places[k]));
        }
        return found;
    }
    static __m128i four(const uint8_t* x, int32_t place) {
        int32_t bytes;
        std::memcpy(&bytes, x + place * kNarrow, sizeof bytes);
        return _mm_cvtsi32_si128(bytes);
    }

    template <int B>
    static void group(const Packed& m, const Input* inputs, int32_t unit, float* y, ptrdiff_t stride) {
        __m512i sums[B][kChains] = {};
        uint32_t i = m.starts[unit];
        const uint32_t end = m.starts[unit + 1];
        const int8_t* w = values_of<int8_t>(m) + int64_t{i} * Height * kNarrow;
        for (; i + kBlocks * kChains <= end; i += kBlocks * kChains)
            for (int k = 0; k < kChains; ++k, w += kWord) {
                prefetch(w, kAhead);
                const uint16_t* places = m.places + i + k * kBlocks;
                for (int b = 0; b < B; ++b)
                    sums[b][k] = _mm512_dpbusd_epi32(sums[b][k], inputs_of(unsigned_input(inputs[b]), places),
                                                     load_bytes(w));
            }
        // What is left fills vectors up with blocks of other rows, or zeros: times zero.
        const uint64_t left = (uint64_t{1} << (end - i) * Height) - 1;
        for (int k = 0; k < kChains; ++k, i += kBlocks, w += kWord)
            for (int b = 0; b < B; ++b) {
                const __m512i x = inputs_of(unsigned_input(inputs[b]), m.places + i);
                const auto own = static_cast<__mmask16>(left >> k * kLanes);
                sums[b][k] = _mm512_dpbusd_epi32(sums[b][k], _mm512_maskz_mov_epi32(own, x), load_bytes(w));
            }
        for (int b = 0; b < B; ++b) store(m, inputs[b], unit, _mm512_add_epi32(sums[b][0], sums[b][1]), y + b * stride);
    }

    // Adds up the blocks' lanes: a row's lie `Height` apart.
    static void store(const Packed& m, const Input& input, int32_t unit, __m512i sums, float* y) {
        const __m256i two = halves(sums);
        const __m128i low = _mm256_castsi256_si128(two), high = _mm256_extracti128_si256(two, 1);
        const int32_t row = unit * Height;
        if (Height == 4) {
            store_four(m, input, row, _mm_add_epi32(low, high), y);
        } else {
            store_four(m, input, row, low, y);
            store_four(m, input, row + kTogether, high, y);
        }
    }
    static void store_four(const Packed& m, const Input& input, int32_t row, __m128i sums, float* y) {
        if (row < m.rows) SignedSums::store_four(m, input, row, rows_left(m, row), sums, y);
    }
};

// ---- which of them

template <class V>
void run_floats(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                ptrdiff_t stride) {
    const int32_t height = m.parameter[1] == kNarrow ? m.parameter[0] : 0;
    const auto kernel = height == 4   ? run_groups<NarrowFloats<V, 4>>
                        : height == 8 ? run_groups<NarrowFloats<V, 8>>
                                      : run_blocks<Single<V>>;
    kernel(m, inputs, batch, first, last, y, stride);
}

void run_bytes(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
               ptrdiff_t stride) {
    const int32_t height = m.parameter[1] == kNarrow ? m.parameter[0] : 0;
    const auto kernel = height == 4                        ? run_groups<NarrowBytes<4>>
                        : height == 8                      ? run_groups<NarrowBytes<8>>
                        : m.parameter[1] % Quad::kColumns ? run_blocks<Single<Int8>>
                                                          : run_blocks<Quad>;
    kernel(m, inputs, batch, first, last, y, stride);
}

}  // namespace

void avx512::add_blocks(Kernels& kernels) {
    set(kernels, Format::block, Value::fp32, {run_floats<Fp32>});
    set(kernels, Format::block, Value::fp16, {run_floats<Fp16>});
    set(kernels, Format::block, Value::bf16, {run_floats<Bf16>});
    set(kernels, Format::block, Value::int8, {run_bytes, unsigned_bytes, prepare_unsigned});
}

}  // namespace cspbench
