// Blocks for AVX-512. A block is read in vectors of whole rows, as many as fit; the input's columns are repeated for each of
// them. Lanes that are left over, and rows that reach into the next block, are added up like the others and then ignored.
#include "avx512.hpp"

namespace cspbench {
namespace {

// How vectors lie in a block, for lanes that add up `columns` columns each.
struct Shape {
    int32_t height, width;
    int32_t lanes;    // of a row: all sixteen, several times, if it is wider than a vector
    int32_t rows;     // of a vector
    int32_t vectors;  // of a block
    int32_t chunks;   // of a row that is wider than a vector, else 1
    __mmask16 last;   // lanes of the last chunk that are the row's own

    Shape(const Packed& m, int32_t columns) : height(m.parameter[0]), width(m.parameter[1]) {
        const int32_t all = width / columns;
        lanes = all < kLanes ? all : kLanes;
        rows = kLanes / lanes;
        vectors = (height + rows - 1) / rows;
        chunks = (all + kLanes - 1) / kLanes;
        last = static_cast<__mmask16>(chunks == 1 ? 0xffff : (1 << (all - (chunks - 1) * kLanes)) - 1);
    }
};

// Lane l is lane l % lanes of the input, or zero.
__m512 repeated(__mmask16 mask, __m512i pattern, __m512 x) { return _mm512_maskz_permutexvar_ps(mask, pattern, x); }
__m512i repeated(__mmask16 mask, __m512i pattern, __m512i x) { return _mm512_maskz_permutexvar_epi32(mask, pattern, x); }

float result(const Packed&, const Input&, int32_t, float sum) { return sum; }
float result(const Packed& m, const Input& input, int32_t row, int32_t sum) {
    return (m.scales[row] * input.scale) * static_cast<float>(sum);
}

// ---- what a lane does: one column of any type of values, or four columns of bytes

template <class V>
struct Single : V {
    static constexpr int32_t kColumns = 1;
    static typename V::Sum weights(const typename V::Stored* w) { return V::load(w); }
    static typename V::Sum excess(typename V::Sum, typename V::Sum to) { return to; }
};

struct Quad : Int8 {
    static constexpr int32_t kColumns = 4;
    static Sum weights(const int8_t* w) { return plus_128(load_bytes(w)); }
    static Sum load_input(const int8_t* q) { return load_bytes(q); }
    static Sum multiply_add(Sum weights, Sum x, Sum to) { return _mm512_dpbusd_epi32(to, weights, x); }
    // What weights that are larger by 128 add.
    static Sum excess(Sum x, Sum to) { return _mm512_dpbusd_epi32(to, top_bits(), x); }
};

void write(float* to, __m512 sums) { _mm512_storeu_ps(to, sums); }
void write(int32_t* to, __m512i sums) { _mm512_storeu_si512(to, sums); }

// ---- `Vectors` adjacent vectors of all blocks of a unit, for B inputs

template <class L, int Vectors, int B>
struct Tile {
    typename L::Sum sums[Vectors][B];
    typename L::Sum excess[B];

    Tile() {
        for (int b = 0; b < B; ++b) {
            excess[b] = L::zero();
            for (int v = 0; v < Vectors; ++v) sums[v][b] = L::zero();
        }
    }

    void add(const Shape& shape, __m512i pattern, const typename L::Stored* w, const Input* inputs, int32_t left) {
        for (int32_t chunk = 0; chunk < shape.chunks; ++chunk) {
            const auto mask = chunk + 1 < shape.chunks ? static_cast<__mmask16>(0xffff) : shape.last;
            const int32_t skip = chunk * kLanes * L::kColumns;
            typename L::Sum x[B];
            for (int b = 0; b < B; ++b) {
                x[b] = repeated(mask, pattern, L::load_input(L::vector(inputs[b]) + left + skip));
                excess[b] = L::excess(x[b], excess[b]);
            }
            for (int v = 0; v < Vectors; ++v) {
                const typename L::Sum weights = L::weights(w + v * shape.rows * shape.width + skip);
                for (int b = 0; b < B; ++b) sums[v][b] = L::multiply_add(weights, x[b], sums[v][b]);
            }
        }
    }

    void merge(const Tile& other) {
        for (int b = 0; b < B; ++b) {
            excess[b] = L::add(excess[b], other.excess[b]);
            for (int v = 0; v < Vectors; ++v) sums[v][b] = L::add(sums[v][b], other.sums[v][b]);
        }
    }

    // Rows from `row` on, those before `end`.
    void store(const Packed& m, const Shape& shape, const Input* inputs, int32_t row, int32_t end, float* y,
               ptrdiff_t stride) const {
        for (int v = 0; v < Vectors; ++v)
            for (int b = 0; b < B; ++b) {
                typename L::Number lanes[kLanes];
                write(lanes, L::subtract(sums[v][b], excess[b]));
                for (int32_t r = 0; r < shape.rows && row + v * shape.rows + r < end; ++r) {
                    auto sum = lanes[r * shape.lanes];
                    for (int32_t l = 1; l < shape.lanes; ++l) sum += lanes[r * shape.lanes + l];
                    y[b * stride + row + v * shape.rows + r] = result(m, inputs[b], row + v * shape.rows + r, sum);
                }
            }
    }
};

template <class L, int Vectors, int B>
void run_tile(const Packed& m, const Shape& shape, __m512i pattern, const Input* inputs, int32_t unit, int32_t vector, float* y,
              ptrdiff_t stride) {
    constexpr int kChains = Vectors * B < 4 ? 4 / (Vectors * B) : 1;  // of additions, for their delay
    const int64_t block = int64_t{shape.height} * shape.width;
    const auto* w = values_of<typename L::Stored>(m) + int64_t{vector} * shape.rows * shape.width;
    Tile<L, Vectors, B> tiles[kChains];
    uint32_t i = m.starts[unit];
    const uint32_t end = m.starts[unit + 1];
    for (; i + kChains <= end; i += kChains)
        for (uint32_t k = 0; k < kChains; ++k)
            tiles[k].add(shape, pattern, w + (i + k) * block, inputs, m.places[i + k] * shape.width);
    for (; i < end; ++i) tiles[0].add(shape, pattern, w + i * block, inputs, m.places[i] * shape.width);
    for (int k = 1; k < kChains; ++k) tiles[0].merge(tiles[k]);
    const int32_t top = unit * shape.height, bottom = m.rows - top < shape.height ? m.rows : top + shape.height;
    tiles[0].store(m, shape, inputs, top + vector * shape.rows, bottom, y, stride);
}

template <class L, int B>
void run_unit(const Packed& m, const Shape& shape, __m512i pattern, const Input* inputs, int32_t unit, float* y,
              ptrdiff_t stride) {
    int32_t v = 0;
    for (; v + 4 <= shape.vectors; v += 4) run_tile<L, 4, B>(m, shape, pattern, inputs, unit, v, y, stride);
    for (; v + 2 <= shape.vectors; v += 2) run_tile<L, 2, B>(m, shape, pattern, inputs, unit, v, y, stride);
    for (; v < shape.vectors; ++v) run_tile<L, 1, B>(m, shape, pattern, inputs, unit, v, y, stride);
}

template <class L>
void run(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y, ptrdiff_t stride) {
    const Shape shape(m, L::kColumns);
    int32_t places[kLanes];
    for (int32_t lane = 0; lane < kLanes; ++lane) places[lane] = lane % shape.lanes;
    const __m512i pattern = _mm512_loadu_si512(places);
    for (int32_t unit = first; unit < last; ++unit) {
        int b = 0;
        for (; b + kTogether <= batch; b += kTogether)
            run_unit<L, kTogether>(m, shape, pattern, inputs + b, unit, y + b * stride, stride);
        for (; b < batch; ++b) run_unit<L, 1>(m, shape, pattern, inputs + b, unit, y + b * stride, stride);
    }
}

void run_bytes(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y, ptrdiff_t stride) {
    const auto kernel = m.parameter[1] % Quad::kColumns ? run<Single<Int8>> : run<Quad>;
    kernel(m, inputs, batch, first, last, y, stride);
}

}  // namespace

void add_block_avx512(Kernels& kernels) {
    Entry* block = kernels.at[static_cast<int>(Format::block)];
    block[static_cast<int>(Value::fp32)] = {run<Single<Fp32>>, nullptr, nullptr};
    block[static_cast<int>(Value::fp16)] = {run<Single<Fp16>>, nullptr, nullptr};
    block[static_cast<int>(Value::bf16)] = {run<Single<Bf16>>, nullptr, nullptr};
    block[static_cast<int>(Value::int8)] = {run_bytes, nullptr, nullptr};
}

}  // namespace cspbench
