// Blocks with vectors of any width. A block is read in vectors of whole rows, as many as fit; the input's columns are
// repeated for each of them. Lanes that are left over, and rows that reach into the next block, are added up like the
// others and then ignored. What a lane does is told by a struct L: a type of values (kernels/shared/rows.hpp) and
//
//   kColumns                        columns that a lane adds up
//   weights(w)                      a vector of them
//   excess(x, to)                   adds what such a vector is too large by, times x
//   Pattern, pattern_of(lanes), repeated(pattern, own, x)   lane i becomes lane i % lanes of x, or zero from lane `own`
//   on write(numbers, sum)
#pragma once

#include "kernels/shared/rows.hpp"

namespace cspbench {
namespace {

// How vectors lie in a block, of `across` lanes that add up `columns` columns each.
struct Shape {
    int32_t height, width;
    int32_t lanes;    // of a row: all, several times, if it is wider than a vector
    int32_t rows;     // of a vector
    int32_t vectors;  // of a block
    int32_t chunks;   // of a row that is wider than a vector, else 1
    int32_t last;     // lanes of the last chunk that are the row's own; if there is but one, all lanes

    Shape(const Packed& m, int32_t columns, int32_t across) : height(m.parameter[0]), width(m.parameter[1]) {
        const int32_t all = width / columns;
        lanes = all < across ? all : across;
        rows = across / lanes;
        vectors = (height + rows - 1) / rows;
        chunks = (all + across - 1) / across;
        last = chunks == 1 ? across : all - (chunks - 1) * across;
    }
};

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

    void add(const Shape& shape, typename L::Pattern pattern, const typename L::Stored* w, const Input* inputs,
             int32_t left) {
        for (int32_t chunk = 0; chunk < shape.chunks; ++chunk) {
            const int32_t own = chunk + 1 < shape.chunks ? L::kLanes : shape.last;
            const int32_t skip = chunk * L::kLanes * L::kColumns;
            typename L::Sum x[B];
            for (int b = 0; b < B; ++b) {
                x[b] = L::repeated(pattern, own, L::load_input(L::vector(inputs[b]) + left + skip));
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
                typename L::Number lanes[L::kLanes];
                L::write(lanes, L::subtract(sums[v][b], excess[b]));
                for (int32_t r = 0; r < shape.rows && row + v * shape.rows + r < end; ++r) {
                    auto sum = lanes[r * shape.lanes];
                    for (int32_t l = 1; l < shape.lanes; ++l) sum += lanes[r * shape.lanes + l];
                    y[b * stride + row + v * shape.rows + r] = result(m, inputs[b], row + v * shape.rows + r, sum);
                }
            }
    }
};

template <class L, int Vectors, int B>
void run_tile(const Packed& m, const Shape& shape, typename L::Pattern pattern, const Input* inputs, int32_t unit,
              int32_t vector, float* y, ptrdiff_t stride) {
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
void run_unit(const Packed& m, const Shape& shape, typename L::Pattern pattern, const Input* inputs, int32_t unit,
              float* y, ptrdiff_t stride) {
    int32_t v = 0;
    for (; v + 4 <= shape.vectors; v += 4) run_tile<L, 4, B>(m, shape, pattern, inputs, unit, v, y, stride);
    for (; v + 2 <= shape.vectors; v += 2) run_tile<L, 2, B>(m, shape, pattern, inputs, unit, v, y, stride);
    for (; v < shape.vectors; ++v) run_tile<L, 1, B>(m, shape, pattern, inputs, unit, v, y, stride);
}

template <class L>
void run_blocks(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                ptrdiff_t stride) {
    const Shape shape(m, L::kColumns, L::kLanes);
    const typename L::Pattern pattern = L::pattern_of(shape.lanes);
    for (int32_t unit = first; unit < last; ++unit) {
        int b = 0;
        for (; b + kTogether <= batch; b += kTogether)
            run_unit<L, kTogether>(m, shape, pattern, inputs + b, unit, y + b * stride, stride);
        for (; b < batch; ++b) run_unit<L, 1>(m, shape, pattern, inputs + b, unit, y + b * stride, stride);
    }
}

}  // namespace
}  // namespace cspbench
