// Random matrices, intact and tampered with, through every format, type of values and instruction set, and streams of
// random networks with their saved states; built with AddressSanitizer and UndefinedBehaviorSanitizer (CSPBENCH_FUZZ in
// CMakeLists.txt), which end it at the first fault.
//
//     fuzz [seconds] [seed]
//
// Arrays are handed over in blocks of exactly their size, and products are written into vectors of exactly theirs.
// Inside the library, guard.hpp forbids what lies behind the slack of each array and of each prepared input.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/values.hpp"
#include "kernels/dispatch.hpp"
#include "matrix/matrix.hpp"
#include "recogniser/stream.hpp"

namespace {

using namespace cspbench;

// xorshift64*: the same numbers on every machine.
class Random {
public:
    explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 1) {}

    uint64_t next() {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return state_ * 0x2545f4914f6cdd1d;
    }
    int64_t below(int64_t end) { return static_cast<int64_t>(next() >> 11) % end; }
    int64_t between(int64_t first, int64_t last) { return first + below(last - first + 1); }
    float unit() { return static_cast<float>(next() >> 40) * 0x1p-24f; }
    float symmetric() { return 2 * unit() - 1; }
    bool chance(float p) { return unit() < p; }

private:
    uint64_t state_;
};

struct Case {
    Format format;
    Value value;
    int32_t rows, columns;
    Options options;
    std::vector<float> dense;
};

[[noreturn]] void fail(const Case& c, const std::string& what) {
    std::fprintf(stderr, "%s %s %d x %d on %s: %s\n", name_of(c.format), name_of(c.value), c.rows, c.columns,
                 current_instruction_set().c_str(), what.c_str());
    for (const auto& [name, value] : c.options) std::fprintf(stderr, "    %s = %d\n", name.c_str(), value);
    std::abort();
}

int32_t size(Random& random) {
    constexpr int32_t kEdges[] = {1,  2,   15,  16,  17,  31,  32,  33,  63,  64,
                                  65, 127, 128, 129, 191, 192, 255, 256, 257, 320};
    constexpr int64_t kCount = sizeof kEdges / sizeof *kEdges;
    return random.chance(0.5f) ? kEdges[random.below(kCount)] : static_cast<int32_t>(random.between(1, 100));
}

Options options(Random& random, Format format, int32_t columns) {
    if (format == Format::block) {
        constexpr int32_t kUsual[] = {1, 2, 4, 8, 16};
        const auto side = [&] {
            return random.chance(0.7f) ? kUsual[random.below(5)] : static_cast<int32_t>(random.between(1, 64));
        };
        return {{"block_rows", side()}, {"block_columns", side()}};
    }
    if (format == Format::nm) {
        const auto m = static_cast<int32_t>(random.chance(0.7f) ? 4 << random.below(3) : random.between(1, 16));
        return {{"n", static_cast<int32_t>(random.between(1, m))}, {"m", m}};
    }
    if (format == Format::bitmap && random.chance(0.5f)) return {{"lanes", random.chance(0.8f) ? 4 : 1}};
    if (format == Format::window && random.chance(0.7f)) {
        const int32_t widths[] = {64, 128, 256};
        const int32_t lanes = random.chance(0.5f) ? 8 : 16;
        return {{"window", widths[columns <= 64 ? random.below(2) : random.below(3)]}, {"lanes", lanes}};
    }
    return {};
}

// Weights of few or many columns a row, rows of none and of all.
std::vector<float> weights(Random& random, int32_t rows, int32_t columns) {
    std::vector<float> dense(static_cast<size_t>(rows) * static_cast<size_t>(columns));
    const float density = random.chance(0.2f) ? static_cast<float>(random.below(2)) : random.unit() * random.unit();
    for (int32_t row = 0; row < rows; ++row) {
        const float kept = random.chance(0.1f) ? static_cast<float>(random.below(2)) : density;
        const float scale = std::ldexp(1.0f, static_cast<int>(random.between(-8, 8)));
        for (int32_t c = 0; c < columns; ++c)
            if (random.chance(kept))
                dense[static_cast<size_t>(int64_t{row} * columns + c)] = scale * random.symmetric();
    }
    return dense;
}

void keep_n_of_m(Case& c) {
    const int32_t n = c.options.at("n"), m = c.options.at("m");
    for (int32_t row = 0; row < c.rows; ++row) {
        float* w = c.dense.data() + int64_t{row} * c.columns;
        for (int32_t column = 0, kept = 0; column < c.columns; ++column) {
            if (column % m == 0) kept = 0;
            if (w[column] != 0 && ++kept > n) w[column] = 0;
        }
    }
}

Case random_case(Random& random) {
    Case c{};
    c.format = static_cast<Format>(random.below(kFormats));
    c.value = static_cast<Value>(random.below(kValues));
    if (c.value == Value::int4) c.format = Format::window;
    c.rows = size(random);
    c.columns = random.chance(0.1f) ? static_cast<int32_t>(random.between(300, 1500)) : size(random);
    c.options = options(random, c.format, c.columns);
    c.dense = weights(random, c.rows, c.columns);
    if (c.format == Format::nm) keep_n_of_m(c);
    return c;
}

// What a product has to be, and by how much rounding may miss it.
struct Exact {
    double value, error;
};

Exact exact_product(Value value, const float* weights, const float* x, size_t columns) {
    double sum = 0, size = 0, magnitude = 0;
    float largest = 0;
    for (size_t k = 0; k < columns; ++k) {
        const double product = static_cast<double>(weights[k]) * x[k];
        sum += product;
        size += std::fabs(product);
        magnitude += std::fabs(weights[k]);
        largest = std::fmax(largest, std::fabs(x[k]));
    }
    return {sum, 1e-5 * size + 1e-30 + (has_scales(value) ? magnitude * largest / 250 : 0)};
}

void check_products(const Case& c, const Matrix& matrix, Random& random) {
    const auto rows = static_cast<size_t>(matrix.rows()), columns = static_cast<size_t>(matrix.columns());
    std::vector<float> dense(rows * columns);
    matrix.dense(dense.data());
    const int batch = random.chance(0.7f) ? 1 : static_cast<int>(random.between(2, random.chance(0.1f) ? 18 : 5));
    const int threads = random.chance(0.9f) ? 1 : static_cast<int>(random.between(2, 4));
    std::vector<float> x(static_cast<size_t>(batch) * columns);
    for (float& each : x) each = random.chance(0.1f) ? 0 : random.symmetric();
    std::vector<Exact> exact;
    for (size_t b = 0; b < static_cast<size_t>(batch); ++b)
        for (size_t row = 0; row < rows; ++row)
            exact.push_back(exact_product(c.value, &dense[row * columns], &x[b * columns], columns));
    std::vector<float> first;
    for (const std::string& name : instruction_sets()) {
        use_instruction_set(name);
        std::vector<float> y(exact.size(), -1.0f);
        matrix.multiply(x.data(), y.data(), batch, threads);
        if (first.empty()) first = y;
        if (has_scales(c.value) && std::memcmp(y.data(), first.data(), y.size() * sizeof(float)))
            fail(c, "bits differ");
        for (size_t i = 0; i < y.size(); ++i)
            if (exact[i].error < 1e30 && !(std::fabs(y[i] - exact[i].value) <= exact[i].error))
                fail(c, "row " + std::to_string(i % rows) + " is " + std::to_string(y[i]) + ", not " +
                            std::to_string(exact[i].value));
    }
}

void check_intact(const Case& c, const Matrix& matrix, Random& random) {
    std::vector<float> dense(c.dense.size());
    matrix.dense(dense.data());
    for (size_t i = 0; i < dense.size() && c.value == Value::fp32; ++i)
        if (dense[i] != c.dense[i]) fail(c, "weight " + std::to_string(i) + " has changed");
    if (c.value == Value::fp32 && random.chance(0.3f)) {  // from memory of exactly the arrays' size, at odd addresses
        std::vector<std::vector<unsigned char>> memory;
        std::vector<Array> arrays;
        for (const Array& array : matrix.arrays()) {
            memory.emplace_back(array.bytes() + 1);
            if (array.bytes()) std::memcpy(memory.back().data() + 1, array.data, array.bytes());
            arrays.push_back({array.name, array.type, array.shape, memory.back().data() + 1});
        }
        const Matrix copy = Matrix::from_arrays(c.format, c.value, c.rows, c.columns, arrays, c.options);
        if (copy.nonzeros() != matrix.nonzeros() || copy.bytes() != matrix.bytes())
            fail(c, "its arrays make another matrix");
    }
}

// A changed byte, element, length, shape or option. Most are refused; the rest are matrices like any other.
void check_tampered(const Case& c, const Matrix& matrix, Random& random) {
    std::vector<std::vector<unsigned char>> memory;
    std::vector<Array> arrays;
    for (const Array& array : matrix.arrays()) {
        const auto* bytes = static_cast<const unsigned char*>(array.data);
        memory.emplace_back(bytes, bytes + array.bytes());
        arrays.push_back({array.name, array.type, array.shape, nullptr});
    }
    const auto which = static_cast<size_t>(random.below(static_cast<int64_t>(arrays.size())));
    std::vector<unsigned char>& bytes = memory[which];
    Array& array = arrays[which];
    Case changed = c;
    const size_t width = size_of(array.type);
    switch (random.below(8)) {
        case 0: changed.rows += static_cast<int32_t>(random.between(-2, 2)); break;
        case 1:
            changed.columns +=
                static_cast<int32_t>(random.chance(0.5f) ? random.between(-2, 2) : random.between(-100, 100));
            break;
        case 2:
            for (auto& option : changed.options) option.second += static_cast<int32_t>(random.between(-1, 1));
            break;
        case 3: {  // an element more or fewer
            array.shape[0] += random.chance(0.5f) ? 1 : array.shape[0] ? -1 : 0;
            bytes.resize(array.bytes(), static_cast<unsigned char>(random.below(256)));
            break;
        }
        case 4:  // two elements change places
            if (array.count() > 1) {
                unsigned char* one = bytes.data() + static_cast<size_t>(random.below(array.count())) * width;
                unsigned char* other = bytes.data() + static_cast<size_t>(random.below(array.count())) * width;
                for (size_t i = 0; i < width; ++i) std::swap(one[i], other[i]);
            }
            break;
        default:
            for (int64_t i = random.between(1, 3); i > 0 && !bytes.empty(); --i) {
                unsigned char& byte = bytes[static_cast<size_t>(random.below(static_cast<int64_t>(bytes.size())))];
                byte =
                    static_cast<unsigned char>(random.chance(0.5f) ? byte ^ (1 << random.below(8)) : random.below(256));
            }
    }
    for (size_t i = 0; i < arrays.size(); ++i) arrays[i].data = memory[i].data();
    try {
        const Matrix made =
            Matrix::from_arrays(c.format, c.value, changed.rows, changed.columns, arrays, changed.options);
        check_products(changed, made, random);
    } catch (const std::invalid_argument&) {
    }
}

// ---- streams

std::vector<float> numbers(Random& random, int64_t count) {
    std::vector<float> made(static_cast<size_t>(count));
    for (float& each : made) each = random.symmetric();
    return made;
}

Matrix small_matrix(Random& random, int32_t rows, int32_t columns) {
    constexpr Format kAny[] = {Format::dense, Format::bitmap, Format::csr16,
                               Format::csr8,  Format::window, Format::block};
    const std::vector<float> dense = weights(random, rows, columns);
    const auto value = static_cast<Value>(random.below(kValues));
    const Format format = value == Value::int4 ? Format::window : kAny[random.below(6)];
    return Matrix::pack(dense.data(), rows, columns, format, value, {});
}

Lstm small_lstm(Random& random, int32_t inputs, int32_t width) {
    std::vector<Lstm::Layer> layers;
    for (int64_t layer = random.between(1, 2); layer > 0; --layer, inputs = width)
        layers.push_back({small_matrix(random, 4 * width, inputs + width), numbers(random, 4 * width)});
    return Lstm(std::move(layers));
}

Affine small_affine(Random& random, int32_t rows, int32_t columns) {
    return Affine(small_matrix(random, rows, columns), numbers(random, rows));
}

// Hops may be longer than windows.
std::shared_ptr<const FrontEnd> random_front_end(Random& random) {
    for (;;) {
        try {
            return std::make_shared<FrontEnd>(8000, 1 + 30 * random.unit(), 1 + 40 * random.unit(),
                                              static_cast<int32_t>(random.between(1, 20)));
        } catch (const std::invalid_argument&) {  // more bins than the spectrum has room for
        }
    }
}

std::shared_ptr<const Network> random_network(Random& random) {
    const auto small = [&] { return static_cast<int32_t>(random.between(1, 20)); };
    const std::shared_ptr<const FrontEnd> front = random.chance(0.8f) ? random_front_end(random) : nullptr;
    const int32_t mels = front ? front->mels() : small(), stack = static_cast<int32_t>(random.between(1, 4));
    const int32_t encoded = small(), embedded = small(), predicted = small(), joint = small(), units = small();
    return std::make_shared<Network>(Network::Parts{
        front, numbers(random, mels), numbers(random, mels), stack, small_lstm(random, mels * stack, encoded),
        numbers(random, int64_t{units} * embedded), small_lstm(random, embedded, predicted),
        small_affine(random, joint, encoded), Affine(small_matrix(random, joint, predicted), {}),
        small_affine(random, units, joint), static_cast<int32_t>(random.between(1, 3)),
        static_cast<int32_t>(random.below(units)), random.chance(0.9f) ? 1 : 2});
}

// Decodes the same chunks of samples, or features, with both streams. Their labels have to agree.
void decode(Stream& one, Stream& other, Random& random) {
    const bool samples = one.network().front_end();
    for (int64_t chunks = random.between(0, 4); chunks > 0; --chunks) {
        const int64_t count = random.between(0, samples ? 2000 : 9);
        const std::vector<float> data = numbers(random, samples ? count : count * one.network().mels());
        std::vector<int32_t> labels;
        if (!samples) {
            labels = one.accept_features(data.data(), count);
        } else if (random.chance(0.5f)) {
            labels = one.accept(data.data(), count);
        } else {
            Stream::Chunk both[] = {{&one, data.data(), count, {}}, {&other, data.data(), count, {}}};
            Stream::advance(both, 2);
            if (both[0].labels != both[1].labels) std::abort();
            continue;
        }
        const std::vector<int32_t> again =
            samples ? other.accept(data.data(), count) : other.accept_features(data.data(), count);
        if (labels != again) std::abort();
    }
    if (one.state() != other.state()) std::abort();
}

// FNV-1a, the last eight bytes of a state: recomputed, so that tampering is not found by it alone.
void sign(std::string& state) {
    if (state.size() < sizeof(uint64_t)) return;
    const size_t end = state.size() - sizeof(uint64_t);
    uint64_t hash = 14695981039346656037ull;
    for (size_t i = 0; i < end; ++i) hash = (hash ^ static_cast<unsigned char>(state[i])) * 1099511628211ull;
    std::memcpy(&state[end], &hash, sizeof hash);
}

std::string tampered_with(std::string state, Random& random) {
    const auto size = static_cast<int64_t>(state.size());
    if (random.chance(0.2f)) {
        state.resize(static_cast<size_t>(random.chance(0.5f) ? random.below(size) : size + random.between(1, 16)));
    } else {
        for (int64_t i = random.between(1, 3); i > 0; --i) {
            const int64_t at = random.below(random.chance(0.6f) && size > 200 ? 200 : size);  // sizes are at the front
            state[static_cast<size_t>(at)] = static_cast<char>(random.below(256));
        }
    }
    if (random.chance(0.9f)) sign(state);
    return state;
}

// A state goes on as the stream it is of; one tampered with is refused, and changes nothing, or is a state like others.
void check_stream(Random& random) {
    const std::vector<std::string> sets = instruction_sets();
    use_instruction_set(sets[static_cast<size_t>(random.below(static_cast<int64_t>(sets.size())))]);
    const auto network = random_network(random);
    Stream stream(network), other(network);
    decode(stream, other, random);
    const std::string state = stream.state();
    other.reset();
    other.restore(state);
    decode(stream, other, random);
    for (int i = 0; i < 8; ++i) {
        const std::string before = other.state();
        try {
            other.restore(tampered_with(state, random));
        } catch (const std::invalid_argument&) {
            if (other.state() != before) std::abort();
            continue;
        }
        if (other.finished()) {
            other.reset();
            continue;
        }
        const std::vector<float> data = numbers(random, network->front_end() ? 3000 : 9 * network->mels());
        if (network->front_end())
            other.accept(data.data(), 3000);
        else
            other.accept_features(data.data(), 9);
        other.reset();
    }
}

}  // namespace

int main(int count, char** words) {
    const double seconds = count > 1 ? std::atof(words[1]) : 30;
    const uint64_t seed = count > 2 ? std::strtoull(words[2], nullptr, 10) : 1;
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    Random random(seed);
    long cases = 0, tampered = 0, streams = 0;
    for (; std::chrono::steady_clock::now() < end; ++cases) {
        const Case c = random_case(random);
        const Matrix matrix = Matrix::pack(c.dense.data(), c.rows, c.columns, c.format, c.value, c.options);
        check_intact(c, matrix, random);
        check_products(c, matrix, random);
        for (int i = 0; i < 8; ++i, ++tampered) check_tampered(c, matrix, random);
        if (cases % 4) continue;
        check_stream(random);
        ++streams;
    }
    std::printf("%ld matrices, %ld tampered with, and %ld streams, on", cases, tampered, streams);
    for (const std::string& name : instruction_sets()) std::printf(" %s", name.c_str());
    std::printf("\n");
}
