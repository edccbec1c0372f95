#include "matrix/matrix.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "base/arena.hpp"
#include "base/guard.hpp"
#include "base/pool.hpp"
#include "base/values.hpp"
#include "kernels/dispatch.hpp"
#include "matrix/codec.hpp"

namespace cspbench {
namespace {

constexpr const char* kFormatNames[kFormats] = {"dense", "bitmap", "csr16", "csr8", "window", "block", "nm"};
constexpr const char* kValueNames[kValues] = {"fp32", "fp16", "bf16", "int8", "int4"};
constexpr const char* kTypeNames[] = {"uint8", "int8", "uint16", "uint32", "uint64", "float16", "float32"};
constexpr size_t kTypeSizes[] = {1, 1, 2, 4, 8, 2, 4};

constexpr int32_t kMostRows = 1 << 24;
constexpr int32_t kMostInt8Columns = 131072;  // 127 * 127 * columns has to fit an int32
constexpr int kMostInputs = 16;               // prepared at a time
// Measured on Zen 5: two threads win 1.7 times on 524 KB, 5.7 us for one, and lose on 262 KB, 3.2 us.
constexpr int64_t kBytesAThread = 192 << 10;

size_t aligned(size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

template <int N>
int index_of(const char* const (&names)[N], const std::string& name, const char* what) {
    std::string all;
    for (int i = 0; i < N; ++i) {
        if (name == names[i]) return i;
        all += (i ? ", " : "") + std::string(names[i]);
    }
    throw std::invalid_argument(std::string(what) + " \"" + name + "\" is unknown; these are known: " + all);
}

void check_shape(Format format, Value value, int32_t rows, int32_t columns) {
    if (value == Value::int4 && format != Format::window)
        throw std::invalid_argument(std::string("int4 values are for the format window, not for ") + name_of(format));
    if (rows < 1 || columns < 1 || rows > kMostRows || columns > kMostRows)
        throw std::invalid_argument("a matrix of " + std::to_string(rows) + " x " + std::to_string(columns) +
                                    " cannot be packed: rows and columns must be 1 to " + std::to_string(kMostRows));
    if (has_scales(value) && columns > kMostInt8Columns)
        throw std::invalid_argument("sums of int8 and int4 are exact up to " + std::to_string(kMostInt8Columns) +
                                    " columns; there are " + std::to_string(columns));
}

int64_t count_nonzeros(const Packed& m) {
    int64_t count = 0;
    for (int64_t i = 0; i < m.stored; ++i) count += value_at(m, i) != 0;
    return count;
}

bool sound(const Packed& m, int64_t i) {
    switch (m.value) {
        case Value::int8: return static_cast<const int8_t*>(m.values)[i] != -128;
        case Value::int4: return value_at(m, i) != -8;
        case Value::fp16: return (static_cast<const uint16_t*>(m.values)[i] & 0x7c00) != 0x7c00;
        default: return std::isfinite(value_at(m, i));
    }
}

void check_values(const Packed& m) {
    for (int64_t i = 0; i < m.stored; ++i)
        if (!sound(m, i))
            throw std::invalid_argument(m.value == Value::int8   ? "an int8 value is -128, outside -127 to 127"
                                        : m.value == Value::int4 ? "an int4 value is -8, outside -7 to 7"
                                                                 : "a value is not finite");
}

// What the values of each row add up to, and zeros up to kSlack: the product with a vector of ones. Floats hold such
// sums exactly: 127 * kMostInt8Columns < 2^24.
std::vector<int32_t> sums_of_rows(Packed m) {
    const auto rows = static_cast<size_t>(m.rows);
    const std::vector<float> scales(rows, 1.0f);
    std::vector<int8_t> ones(static_cast<size_t>(padded(m.columns)));
    std::fill_n(ones.begin(), m.columns, int8_t{1});
    m.scales = scales.data();
    const Input input{nullptr, ones.data(), 1, nullptr};
    std::vector<float> y(rows);
    const Entry& entry = portable_kernels().at[static_cast<int>(m.format)][static_cast<int>(m.value)];
    entry.kernel(m, &input, 1, 0, m.units, y.data(), m.rows);
    std::vector<int32_t> sums(rows + kSlack / sizeof(int32_t));
    std::transform(y.begin(), y.end(), sums.begin(), [](float sum) { return static_cast<int32_t>(sum); });
    return sums;
}

// What belongs to the rows of a matrix in windows, in the order of lanes.
template <class T>
std::vector<T> by_lane(const Packed& m, const T* of_rows) {
    std::vector<T> ordered(static_cast<size_t>(m.rows) + kSlack / sizeof(T));
    std::transform(m.order, m.order + m.rows, ordered.begin(), [&](uint16_t row) { return of_rows[row]; });
    return ordered;
}

// Fills in all of `m` that depends on the arrays, having checked them.
void describe(const Codec& codec, const std::vector<Array>& arrays, const Options& options, Packed& m) {
    for (size_t i = 0; i < arrays.size(); ++i)
        for (size_t j = 0; j < i; ++j)
            if (arrays[i].name == arrays[j].name)
                throw std::invalid_argument("array \"" + arrays[i].name + "\" is given twice");
    const bool scaled = has_scales(m.value);
    const auto scales =
        std::find_if(arrays.begin(), arrays.end(), [](const Array& each) { return each.name == "scales"; });
    require(scaled || scales == arrays.end(), "only int8 and int4 values have scales");
    if (scaled) {
        m.scales = Given(arrays).data<float>("scales", Type::f32, {m.rows});
        for (int32_t row = 0; row < m.rows; ++row) require(std::isfinite(m.scales[row]), "a scale is not finite");
    }
    codec.describe(arrays, options, m);
    check_values(m);
}

}  // namespace

size_t size_of(Type type) { return kTypeSizes[static_cast<int>(type)]; }
const char* name_of(Type type) { return kTypeNames[static_cast<int>(type)]; }
const char* name_of(Format format) { return kFormatNames[static_cast<int>(format)]; }
const char* name_of(Value value) { return kValueNames[static_cast<int>(value)]; }
Format format_named(const std::string& name) { return static_cast<Format>(index_of(kFormatNames, name, "format")); }
Value value_named(const std::string& name) { return static_cast<Value>(index_of(kValueNames, name, "type of values")); }

int64_t padded(int32_t columns) {
    return (int64_t{columns} + kInputMultiple - 1) / kInputMultiple * kInputMultiple + kInputMargin;
}

int64_t Array::count() const {
    int64_t product = 1;
    for (int64_t extent : shape) product *= extent;
    return product;
}

struct Matrix::Body {
    Packed packed{};
    std::vector<Array> arrays;
    Options options;
    Arena arena;
    std::vector<int32_t> sums, lane_sums;
    std::vector<float> lane_scales;
    int64_t nonzeros = 0;
};

const Packed& Matrix::packed() const { return body_->packed; }
const std::vector<Array>& Matrix::arrays() const { return body_->arrays; }
const Options& Matrix::options() const { return body_->options; }
int64_t Matrix::nonzeros() const { return body_->nonzeros; }

int64_t Matrix::bytes() const {
    int64_t sum = 0;
    for (const Array& array : arrays()) sum += static_cast<int64_t>(array.bytes());
    return sum;
}

Matrix Matrix::pack(const float* dense, int32_t rows, int32_t columns, Format format, Value value,
                    const Options& options) {
    check_shape(format, value, rows, columns);
    const Codec& codec = codec_of(format);
    Options complete = codec.complete(options, rows, columns);
    const Rounded rounded = round_weights(dense, rows, columns, value);
    const std::vector<Made> made = codec.encode(rounded, complete);
    std::vector<Array> arrays;
    for (const Made& each : made) arrays.push_back({each.name, each.type, each.shape, each.data.data()});
    if (has_scales(value)) arrays.push_back({"scales", Type::f32, {rows}, rounded.scales.data()});
    return from_arrays(format, value, rows, columns, arrays, complete);
}

Matrix Matrix::from_arrays(Format format, Value value, int32_t rows, int32_t columns, const std::vector<Array>& arrays,
                           const Options& options) {
    check_shape(format, value, rows, columns);
    const Codec& codec = codec_of(format);
    auto body = std::make_shared<Body>();
    body->options = codec.complete(options, rows, columns);
    const auto room = [](const Array& array) { return aligned(array.bytes() + kSlack) + kGuard; };
    size_t size = 0;
    for (const Array& array : arrays) size += room(array);
    body->arena = Arena(size);
    unsigned char* at = body->arena.data();
    for (const Array& array : arrays) {
        if (array.bytes()) std::memcpy(at, array.data, array.bytes());
        body->arrays.push_back({array.name, array.type, array.shape, at});
        forbid(at + array.bytes() + kSlack, room(array) - array.bytes() - kSlack);
        at += room(array);
    }
    // Checked in the copy, which nothing can change any more.
    Packed& packed = body->packed;
    packed.format = format;
    packed.value = value;
    packed.rows = rows;
    packed.columns = columns;
    describe(codec, body->arrays, body->options, packed);
    if (has_scales(value)) {
        body->sums = sums_of_rows(packed);
        packed.sums = body->sums.data();
    }
    if (has_scales(value) && format == Format::window) {
        body->lane_sums = by_lane(packed, packed.sums);
        body->lane_scales = by_lane(packed, packed.scales);
        packed.lane_sums = body->lane_sums.data();
        packed.lane_scales = body->lane_scales.data();
    }
    body->nonzeros = count_nonzeros(packed);
    return Matrix(std::move(body));
}

int Matrix::useful_threads(int most, int batch) const {
    if (most == 1) return 1;
    return static_cast<int>(std::clamp<int64_t>(bytes() * batch / kBytesAThread, 1, most));
}

void Matrix::dense(float* out) const {
    std::memset(out, 0, sizeof(float) * static_cast<size_t>(rows()) * static_cast<size_t>(columns()));
    codec_of(packed().format).decode(packed(), out);
}

namespace {

// Room for what kernels read of input vectors; one a thread, never smaller than it once was.
unsigned char* scratch(size_t size) {
    thread_local Arena arena;
    if (arena.size() < size) arena = Arena(size);
    return arena.data();
}

// Unit at which part `part` of `parts` begins, such that all parts store about the same number of values.
int32_t boundary(const Packed& m, int part, int parts) {
    if (part == 0) return 0;
    if (part == parts) return m.units;
    if (!m.starts) return static_cast<int32_t>(int64_t{m.units} * part / parts);
    // A unit counts for two entries even when empty: its result is written.
    const auto cost = [&](int32_t unit) { return int64_t{m.starts[unit]} + 2 * int64_t{unit}; };
    const int64_t wanted = cost(m.units) * part / parts;
    int32_t low = 0, high = m.units;
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        if (cost(middle) < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// Everything that one product needs of the vectors: quantised, and prepared as the kernel likes.
class Inputs {
public:
    Inputs(const Packed& m, const Kernels& kernels, int batch)
        : m_(m), kernels_(kernels), entry_(kernels.at[static_cast<int>(m.format)][static_cast<int>(m.value)]) {
        const auto length = static_cast<size_t>(padded(m.columns));
        floats_ = aligned(sizeof(float) * length) + kGuard;
        bytes_ = has_scales(m.value) ? aligned(length) + kGuard : 0;
        extra_ = entry_.extra_bytes ? aligned(entry_.extra_bytes(m)) + kGuard : 0;
        memory_ = scratch(static_cast<size_t>(batch) * (floats_ + bytes_ + extra_));
    }

    void copy(int index, const float* x) {
        auto* to = reinterpret_cast<float*>(claim(memory_ + index * (floats_ + bytes_ + extra_), floats_));
        std::memcpy(to, x, sizeof(float) * static_cast<size_t>(m_.columns));
        std::fill(to + m_.columns, to + padded(m_.columns), 0.0f);
        prepare(index, to);
    }

    void prepare(int index, const float* x) {
        unsigned char* own = memory_ + index * (floats_ + bytes_ + extra_) + floats_;
        Input& input = inputs_[index];
        input = {x, nullptr, 0, nullptr};
        if (bytes_) {
            auto* q = reinterpret_cast<int8_t*>(claim(own, bytes_));
            const auto count = static_cast<int32_t>(padded(m_.columns) - kInputMargin);
            kernels_.quantise(x, count, q, &input.scale);
            std::memset(q + count, 0, kInputMargin);
            input.q = q;
        }
        if (entry_.prepare) {
            void* extra = claim(own + bytes_, extra_);
            entry_.prepare(m_, input, extra);
            input.extra = extra;
        }
    }

    void run(int batch, float* y, int threads) const {
        const int parts = std::min<int>(threads, m_.units);
        if (parts <= 1) {
            entry_.kernel(m_, inputs_, batch, 0, m_.units, y, m_.rows);
            return;
        }
        parallel(parts, [&](int part) {
            const int32_t first = boundary(m_, part, parts), last = boundary(m_, part + 1, parts);
            if (first < last) entry_.kernel(m_, inputs_, batch, first, last, y, m_.rows);
        });
    }

private:
    // A part of the scratch, up to its guard.
    static unsigned char* claim(unsigned char* memory, size_t size) {
        allow(memory, size - kGuard);
        forbid(memory + size - kGuard, kGuard);
        return memory;
    }

    const Packed& m_;
    const Kernels& kernels_;
    const Entry entry_;
    size_t floats_, bytes_, extra_;
    unsigned char* memory_;
    Input inputs_[kMostInputs];
};

}  // namespace

void Matrix::multiply(const float* x, float* y, int batch, int threads) const {
    const Packed& m = packed();
    for (int done = 0; done < batch; done += kMostInputs) {
        const int now = std::min(batch - done, kMostInputs);
        Inputs inputs(m, kernels(), now);
        for (int i = 0; i < now; ++i) inputs.copy(i, x + static_cast<ptrdiff_t>(done + i) * m.columns);
        inputs.run(now, y + static_cast<ptrdiff_t>(done) * m.rows, threads);
    }
}

void Matrix::multiply_padded(const float* x, float* y) const {
    Inputs inputs(packed(), kernels(), 1);
    inputs.prepare(0, x);
    inputs.run(1, y, 1);
}

}  // namespace cspbench
