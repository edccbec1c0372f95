// Kernels of an instruction set that this machine lacks, beside the portable ones: run by test_emulated_kernels.py.
//
//     emulation SEED ROUNDS
//
// Compiled with CSPBENCH_EMULATED=avx512 or neon. Every array and vector lies alone in memory of its own, of
// exactly the size that the contract of base/format.hpp promises, so that a sanitiser sees any reading beyond.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>

#include "base/values.hpp"
#include "kernels/instruction_sets.hpp"
#include "matrix/matrix.hpp"

using namespace cspbench;

namespace {

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<void, Free>;

// Right before the end of its own memory, as near as the alignment allows.
Memory room(size_t bytes) {
    Memory memory(std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment));
    std::memset(memory.get(), 0, bytes);
    return memory;
}

// A view of the matrix whose arrays are copies of their own.
class Alone {
public:
    explicit Alone(const Matrix& matrix) : packed(matrix.packed()) {
        for (const Array& array : matrix.arrays()) {
            Memory memory = room(array.bytes() + kSlack);
            if (array.bytes()) std::memcpy(memory.get(), array.data, array.bytes());
            moved_[array.data] = std::move(memory);
        }
        move(packed.values), move(packed.scales), move(packed.starts), move(packed.bits), move(packed.places);
        move(packed.gaps), move(packed.nibbles), move(packed.slots), move(packed.advance), move(packed.order);
        copy(packed.sums), copy(packed.lane_sums), copy(packed.lane_scales);
    }
    Packed packed;

private:
    template <class T>
    void move(const T*& pointer) {
        if (pointer) pointer = static_cast<const T*>(moved_.at(pointer).get());
    }
    // What is made of the arrays: a number a row, and kSlack.
    template <class T>
    void copy(const T*& pointer) {
        if (!pointer) return;
        const size_t bytes = sizeof(T) * static_cast<size_t>(packed.rows);
        derived_.push_back(room(bytes + kSlack));
        std::memcpy(derived_.back().get(), pointer, bytes);
        pointer = static_cast<const T*>(derived_.back().get());
    }
    std::map<const void*, Memory> moved_;
    std::vector<Memory> derived_;
};

// An input as a table's own entry wants it.
class Vector {
public:
    Vector(const Packed& m, const Kernels& kernels, const std::vector<float>& x)
        : x_(room(sizeof(float) * padded(m.columns))), q_(room(padded(m.columns))) {
        std::memcpy(x_.get(), x.data(), sizeof(float) * x.size());
        input.x = static_cast<float*>(x_.get());
        if (has_scales(m.value)) {
            kernels.quantise(input.x, static_cast<int32_t>(padded(m.columns)) - kInputMargin,
                             static_cast<int8_t*>(q_.get()), &input.scale);
            input.q = static_cast<int8_t*>(q_.get());
        }
        const Entry& entry = kernels.at[static_cast<int>(m.format)][static_cast<int>(m.value)];
        if (!entry.prepare) return;
        extra_ = room(entry.extra_bytes(m));
        entry.prepare(m, input, extra_.get());
        input.extra = extra_.get();
    }
    Input input{};

private:
    Memory x_, q_, extra_;
};

struct Case {
    Format format;
    Value value;
    int32_t rows, columns;
    double density;
    int batch;
    Options options;
};

[[noreturn]] void fail(const Case& c, const char* what, double is, double wanted) {
    std::printf("%s %s %d x %d density %g batch %d", name_of(c.format), name_of(c.value), c.rows, c.columns, c.density,
                c.batch);
    for (const auto& option : c.options) std::printf(" %s=%d", option.first.c_str(), option.second);
    std::printf(": %s: %.9g instead of %.9g\n", what, is, wanted);
    std::exit(1);
}

std::vector<float> product(const Packed& m, const Kernels& kernels, const std::vector<std::vector<float>>& xs,
                           int32_t middle) {
    std::vector<std::unique_ptr<Vector>> vectors;
    std::vector<Input> inputs;
    for (const auto& x : xs) {
        vectors.push_back(std::make_unique<Vector>(m, kernels, x));
        inputs.push_back(vectors.back()->input);
    }
    const auto batch = static_cast<int>(xs.size());
    const int32_t stride = m.rows + 3;
    std::vector<float> y(static_cast<size_t>(batch) * stride, -1.0f);
    Kernel* kernel = kernels.at[static_cast<int>(m.format)][static_cast<int>(m.value)].kernel;
    if (middle > 0) kernel(m, inputs.data(), batch, 0, middle, y.data(), stride);
    if (middle < m.units) kernel(m, inputs.data(), batch, middle, m.units, y.data(), stride);
    return y;
}

using Random = std::mt19937;

double uniform(Random& random) { return std::uniform_real_distribution<>(0, 1)(random); }
int32_t from_to(Random& random, int32_t low, int32_t high) {
    return std::uniform_int_distribution<>(low, high)(random);
}

// Random weights; for N of M no more than allowed, some rows and some runs of columns without any.
std::vector<float> weights_of(const Case& c, Random& random) {
    std::normal_distribution<float> normal;
    std::vector<float> dense(static_cast<size_t>(c.rows) * c.columns);
    for (int32_t row = 0; row < c.rows; ++row) {
        const double density = uniform(random) < 0.1 ? 0 : uniform(random) < 0.1 ? 1 : c.density;
        const int32_t gap = from_to(random, 0, c.columns - 1), end = uniform(random) < 0.2 ? gap + 400 : gap;
        int32_t in_group = 0;
        for (int32_t i = 0; i < c.columns; ++i) {
            if (c.format == Format::nm && i % c.options.at("m") == 0) in_group = 0;
            if ((i >= gap && i < end) || uniform(random) >= density) continue;
            if (c.format == Format::nm && in_group++ >= c.options.at("n")) continue;
            dense[static_cast<size_t>(row) * c.columns + i] = normal(random);
        }
    }
    return dense;
}

void check(const Case& c, const Kernels& portable, const Kernels& emulated, Random& random) {
    const std::vector<float> dense = weights_of(c, random);
    const Matrix matrix = Matrix::pack(dense.data(), c.rows, c.columns, c.format, c.value, c.options);
    std::normal_distribution<float> normal;
    std::vector<std::vector<float>> xs(c.batch, std::vector<float>(c.columns));
    for (auto& x : xs)
        for (float& each : x) each = uniform(random) < 0.05 ? 0 : normal(random);
    if (has_scales(c.value) && uniform(random) < 0.3)  // the largest sums there can be
        for (auto& x : xs)
            for (float& each : x) each = uniform(random) < 0.01 ? -1.0f : 1.0f;
    std::vector<float> stored(dense.size());
    matrix.dense(stored.data());
    const Alone alone(matrix);
    const int32_t middle = from_to(random, 0, alone.packed.units);
    const std::vector<float> wanted = product(alone.packed, portable, xs, 0),
                             is = product(alone.packed, emulated, xs, middle);
    const int32_t stride = c.rows + 3;
    for (int b = 0; b < c.batch; ++b)
        for (int32_t row = 0; row < stride; ++row) {
            const size_t at = static_cast<size_t>(b) * stride + row;
            if (row >= c.rows || has_scales(c.value)) {
                if (bits_of(is[at]) != bits_of(wanted[at]))
                    fail(c, row >= c.rows ? "beyond" : "bits", is[at], wanted[at]);
                continue;
            }
            double size = 0;
            for (int32_t i = 0; i < c.columns; ++i)
                size += std::abs(double{stored[static_cast<size_t>(row) * c.columns + i]} * xs[b][i]);
            if (!(std::abs(is[at] - wanted[at]) <= 4e-6 * size)) fail(c, "sum", is[at], wanted[at]);
        }
}

void check_quantise(const Kernels& portable, const Kernels& emulated, Random& random) {
    const int32_t count = kInputMultiple * from_to(random, 1, 9);
    Memory x = room(sizeof(float) * count), one = room(count), other = room(count);
    auto* floats = static_cast<float*>(x.get());
    const float size = std::ldexp(1.0f, from_to(random, -110, 120));
    std::normal_distribution<float> normal;
    for (int32_t i = 0; i < count; ++i)
        floats[i] = uniform(random) < 0.2 ? size * (from_to(random, 0, 254) - 127) / 2 : size * normal(random);
    const double kind = uniform(random);
    if (kind < 0.1) floats[from_to(random, 0, count - 1)] = INFINITY;
    if (kind > 0.9) floats[from_to(random, 0, count - 1)] = -NAN;
    if (kind > 0.4 && kind < 0.5) std::memset(floats, 0, sizeof(float) * count);
    float one_scale = -1, other_scale = -1;
    portable.quantise(floats, count, static_cast<int8_t*>(one.get()), &one_scale);
    emulated.quantise(floats, count, static_cast<int8_t*>(other.get()), &other_scale);
    const Case c{Format::dense, Value::int8, 1, count, 1, 1, {}};
    if (std::memcmp(one.get(), other.get(), count)) fail(c, "quantised", size, kind);
    if (bits_of(one_scale) != bits_of(other_scale)) fail(c, "scale", other_scale, one_scale);
}

Case random_case(Random& random) {
    Case c{static_cast<Format>(from_to(random, 0, kFormats - 1)),
           static_cast<Value>(from_to(random, 0, kValues - 1)),
           from_to(random, 1, 40),
           0,
           0,
           from_to(random, 1, 6),
           {}};
    if (c.value == Value::int4) c.format = Format::window;
    const int32_t widest[] = {8, 70, 300, 700};
    c.columns = from_to(random, 1, widest[from_to(random, 0, 3)]);
    const double densities[] = {0, 0.02, 0.1, 0.5, 1};
    c.density = densities[from_to(random, 0, 4)];
    if (c.format == Format::block) {
        const int32_t sizes[] = {1, 2, 4, 8, 16, 32, 64, from_to(random, 1, 64)};
        c.options = {{"block_rows", sizes[from_to(random, 0, 7)]}, {"block_columns", sizes[from_to(random, 0, 7)]}};
    } else if (c.format == Format::nm) {
        const int32_t m = uniform(random) < 0.7 ? 1 << from_to(random, 1, 4) : from_to(random, 1, 16);
        const int32_t n = uniform(random) < 0.7 && m > 3 ? m >> from_to(random, 1, 2) : from_to(random, 1, m);
        c.options = {{"n", n}, {"m", m}};
    } else if (c.format == Format::bitmap && uniform(random) < 0.6) {
        c.options = {{"lanes", 4}};
    } else if (c.format == Format::window && uniform(random) < 0.7) {
        const int32_t narrow = from_to(random, 0, 1);
        c.options = {{"window", c.columns <= 64 ? 64 << narrow : 64 << from_to(random, 0, 2)},
                     {"lanes", 8 << from_to(random, 0, 1)}};
    }
    return c;
}

}  // namespace

int main(int argc, char** argv) {
    Random random(argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 0);
    const long rounds = argc > 2 ? std::strtol(argv[2], nullptr, 10) : 1000;
    Kernels reference{};
    portable::add_kernels(reference);
    Kernels emulated = reference;
    CSPBENCH_EMULATED::add_kernels(emulated);
    std::map<std::pair<int, int>, long> seen;
    for (long round = 0; round < rounds; ++round) {
        const Case c = random_case(random);
        check(c, reference, emulated, random);
        check_quantise(reference, emulated, random);
        ++seen[{static_cast<int>(c.format), static_cast<int>(c.value)}];
    }
    int own = 0;
    for (int f = 0; f < kFormats; ++f)
        for (int v = 0; v < kValues; ++v) own += emulated.at[f][v].kernel != reference.at[f][v].kernel;
    std::printf("%ld rounds, %zu kinds of matrices, %d kernels of its own: all as the portable ones\n", rounds,
                seen.size(), own);
}
