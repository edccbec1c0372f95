// Kernels for any processor: plain C++ for every format but the window, the reference of all others.
//
// A format is a struct with `sum`, which adds up one row for B inputs at a time, so that a weight is read and decoded
// once for all of them; a type of values is a struct that says what is multiplied with what. `run` joins the two.
#include "kernels/portable/common.hpp"
#include "kernels/shared/bitmap.hpp"

namespace cspbench {
namespace {

constexpr int kMostTogether = 4;

template <class V>
using Vector = decltype(V::vector(Input{}));

template <class V>
const typename V::Stored* values_of(const Packed& m) {
    return static_cast<const typename V::Stored*>(m.values);
}

int first_one(uint64_t word) {
#if defined(__GNUC__)
    return __builtin_ctzll(word);
#else
    int place = 0;
    for (; !(word & 1); word >>= 1) ++place;
    return place;
#endif
}

// ---- formats: sum(m, row, x, sums) adds to `sums` what the row gives for each of the B vectors x

template <class V, int B>
struct Dense {
    static void sum(const Packed& m, int32_t row, const Vector<V> (&x)[B], typename V::Number (&sums)[B]) {
        constexpr int32_t kLanes = 8;  // sums side by side, which a compiler may put into vectors
        const auto* w = values_of<V>(m) + int64_t{row} * m.columns;
        typename V::Number lanes[B][kLanes] = {};
        int32_t c = 0;
        for (; c + kLanes <= m.columns; c += kLanes)
            for (int32_t lane = 0; lane < kLanes; ++lane) {
                const auto weight = V::decode(w[c + lane]);
                for (int b = 0; b < B; ++b) lanes[b][lane] += weight * x[b][c + lane];
            }
        for (; c < m.columns; ++c)
            for (int b = 0; b < B; ++b) sums[b] += V::decode(w[c]) * x[b][c];
        for (int b = 0; b < B; ++b)
            for (int32_t lane = 0; lane < kLanes; ++lane) sums[b] += lanes[b][lane];
    }
};

template <class V, int B>
struct Bitmap {
    static void sum(const Packed& m, int32_t row, const Vector<V> (&x)[B], typename V::Number (&sums)[B]) {
        if (m.parameter[0] == 1)
            add<1>(m, row, x, sums);
        else
            add<kBitmapLanes>(m, row, x, sums);
    }

    template <int Lanes>
    static void add(const Packed& m, int32_t row, const Vector<V> (&x)[B], typename V::Number (&sums)[B]) {
        BitmapRow<typename V::Stored, Lanes> words(m, row);
        for (int32_t left = 0; left < m.columns; left += 64, words.skip())
            for (uint64_t word = *words.word; word; word &= word - 1) {
                const int32_t c = left + first_one(word);
                const auto weight = V::decode(*words.at++);
                for (int b = 0; b < B; ++b) sums[b] += weight * x[b][c];
            }
    }
};

template <class V, int B>
struct Csr16 {
    static void sum(const Packed& m, int32_t row, const Vector<V> (&x)[B], typename V::Number (&sums)[B]) {
        const auto* w = values_of<V>(m);
        const uint32_t end = m.starts[row + 1];
        typename V::Number odd[B] = {};  // a second chain of additions, for the first one's delay
        uint32_t i = m.starts[row];
        for (; end - i >= 2; i += 2) {
            const auto one = V::decode(w[i]), other = V::decode(w[i + 1]);
            for (int b = 0; b < B; ++b) {
                sums[b] += one * x[b][m.places[i]];
                odd[b] += other * x[b][m.places[i + 1]];
            }
        }
        for (int b = 0; b < B; ++b) {
            if (i < end) sums[b] += V::decode(w[i]) * x[b][m.places[i]];
            sums[b] += odd[b];
        }
    }
};

template <class V, int B>
struct Csr8 {
    static void sum(const Packed& m, int32_t row, const Vector<V> (&x)[B], typename V::Number (&sums)[B]) {
        const auto* w = values_of<V>(m);
        int32_t c = -1;
        for (uint32_t i = m.starts[row]; i < m.starts[row + 1]; ++i) {
            c += m.gaps[i] + 1;
            const auto weight = V::decode(w[i]);
            for (int b = 0; b < B; ++b) sums[b] += weight * x[b][c];
        }
    }
};

template <class V, int B>
struct Block {
    static void sum(const Packed& m, int32_t row, const Vector<V> (&x)[B], typename V::Number (&sums)[B]) {
        const int32_t height = m.parameter[0], width = m.parameter[1], unit = row / height;
        for (uint32_t i = m.starts[unit]; i < m.starts[unit + 1]; ++i) {
            const auto* w = values_of<V>(m) + (int64_t{i} * height + row % height) * width;
            const int32_t left = m.places[i] * width;
            for (int32_t c = 0; c < width; ++c) {
                const auto weight = V::decode(w[c]);
                for (int b = 0; b < B; ++b) sums[b] += weight * x[b][left + c];
            }
        }
    }
};

template <class V, int B>
struct Nm {
    static void sum(const Packed& packed, int32_t row, const Vector<V> (&x)[B], typename V::Number (&sums)[B]) {
        const int32_t n = packed.parameter[0], m = packed.parameter[1], groups = (packed.columns + m - 1) / m;
        const int64_t slots = int64_t{groups} * n;
        const auto* w = values_of<V>(packed) + row * slots;
        const uint8_t* nibbles = packed.nibbles + row * ((slots + 1) / 2);
        int64_t slot = 0;
        for (int32_t left = 0; left < groups * m; left += m)
            for (int32_t i = 0; i < n; ++i, ++slot) {
                const int32_t c = left + (nibbles[slot / 2] >> (slot % 2 * 4) & 15);
                const auto weight = V::decode(w[slot]);
                for (int b = 0; b < B; ++b) sums[b] += weight * x[b][c];
            }
    }
};

// ---- joining them

template <class V, template <class, int> class F, int B>
void rows(const Packed& m, const Input* inputs, int32_t first, int32_t last, float* y, ptrdiff_t stride) {
    Vector<V> x[B];
    for (int b = 0; b < B; ++b) x[b] = V::vector(inputs[b]);
    for (int32_t row = first; row < last; ++row) {
        typename V::Number sums[B] = {};
        F<V, B>::sum(m, row, x, sums);
        for (int b = 0; b < B; ++b) y[b * stride + row] = V::result(m, row, inputs[b], sums[b]);
    }
}

template <class V, template <class, int> class F>
void run(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y, ptrdiff_t stride) {
    if (m.format == Format::block || m.format == Format::bitmap) {  // units are several rows
        const int32_t height = m.parameter[0];
        first *= height;
        last = last == m.units ? m.rows : last * height;
    }
    int b = 0;
    for (; b + kMostTogether <= batch; b += kMostTogether)
        rows<V, F, kMostTogether>(m, inputs + b, first, last, y + b * stride, stride);
    for (; b < batch; ++b) rows<V, F, 1>(m, inputs + b, first, last, y + b * stride, stride);
}

template <template <class, int> class F>
void add(Kernels& kernels, Format format) {
    set(kernels, format, Value::fp32, {run<Fp32, F>});
    set(kernels, format, Value::fp16, {run<Fp16, F>});
    set(kernels, format, Value::bf16, {run<Bf16, F>});
    set(kernels, format, Value::int8, {run<Int8, F>});
}

}  // namespace

void portable::add_rows(Kernels& kernels) {
    add<Dense>(kernels, Format::dense);
    add<Bitmap>(kernels, Format::bitmap);
    add<Csr16>(kernels, Format::csr16);
    add<Csr8>(kernels, Format::csr8);
    add<Block>(kernels, Format::block);
    add<Nm>(kernels, Format::nm);
}

}  // namespace cspbench
